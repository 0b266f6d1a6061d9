#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The VNC server: every encoding gives the picture, everybody gets his share,
passwords and TLS keep others out, nonsense ends a connection and nothing else."""
import os
import random
import resource
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import rfb
from guest import Skip, check, run_all
from rfb import Closed, Rfb

SERVE = os.environ["VNC_SERVE"]
TMP = tempfile.mkdtemp(prefix="lodge-test-")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, **args):
        self.port = args.setdefault("port", free_port())
        self.p = subprocess.Popen([SERVE, *(f"{k.replace('_', '-')}={v}" for k, v in args.items())], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        check(self.p.stdout.readline() == "ready\n", "the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        try:
            status = self.p.wait(10)
        finally:
            self.p.kill()
            self.p.wait()
            self.p.stdout.close()
        if exc[0] is None:
            check(status == 0, f"the server ended with {status}")

    def say(self, line):
        """Sends a command; the lines that came before its answer."""
        self.p.stdin.write(line + "\n")
        out = []
        while True:
            got = self.p.stdout.readline().strip()
            check(got != "" or self.p.poll() is None, "the server is gone")
            if got == "ok":
                return out
            out.append(got)

    def events(self, n, seconds=10):
        """n lines of what was typed."""
        out, end = [], time.monotonic() + seconds
        while len(out) < n and time.monotonic() < end:
            out += self.say("nothing")
            time.sleep(0.02)
        return out


def pixel(p, x, y):
    if p == 0:
        return 0x336699
    if p == 1:
        return 0xffffff if (x // 8 + y // 16) % 2 else 0
    if p == 2:
        return ((x // 5 * 7 + y // 3) % 11) * 0x112233 & 0xffffff
    if p == 3:
        return (x * 3 + y * 5) % 200 * 0x010203 & 0xffffff
    if p == 4:
        return ((x * 2654435761 & 0xffffffff) ^ (y * 40503 * 65537 & 0xffffffff)) & 0xffffff
    if p == 6:
        return ((0xffff40 if y // 16 % 4 == 2 else 0x404040 if y // 48 % 3 == 1 else 0xc0c0c0) if (x + y) % 3
                else y // 16 * 0x10203 + y % 2 if x >= 90 and y >= 80 else 0x404040)
    return (x & 255) << 16 | (y & 255) << 8 | ((x + y) & 255)


def picture(p, w, h):
    return b"".join(struct.pack("<I", pixel(p, x, y)) for y in range(h) for x in range(w))


def plain(data):
    """Without the bytes that have no meaning."""
    data = bytearray(data)
    data[3::4] = bytes(len(data) // 4)
    return bytes(data)


def encodings():
    with Server() as s:
        v = Rfb(s.port)
        for p, w, h in ((0, 320, 200), (1, 320, 200), (2, 333, 97), (3, 130, 70), (4, 100, 33), (5, 2100, 20), (6, 333, 327), (6, 150, 500), (6, 2500, 80)):
            want = picture(p, w, h)
            s.say(f"draw {p} {w} {h}")
            for enc in (rfb.RAW, rfb.HEXTILE, rfb.ZRLE, rfb.TIGHT, rfb.TIGHT_PNG):
                v.set_encodings(enc, rfb.SIZE)
                v.picture[:] = bytes(len(v.picture))
                check(plain(v.refresh()) == want, f"pattern {p} by encoding {enc}")
        v.close()


def cursors():
    """The pointer's shape, with a mask and with alpha; none while the guest shows none."""
    w, h = 19, 11
    px = [((i * 0x010305 & 0xffffff), (255 if i % 2 else 128) if i % 3 else 0) for i in range(w * h)]
    with Server() as s:
        v, a = Rfb(s.port), Rfb(s.port)
        v.set_encodings(rfb.RAW, rfb.CURSOR)
        a.set_encodings(rfb.RAW, rfb.CURSOR_ALPHA)
        s.say(f"cursor {w} {h} 3 4 1")
        for x in (v, a):
            while not x.cursor:
                x.update(False)
            check(x.cursor[:4] == (3, 4, w, h), f"cursor {x.cursor[:4]}")
        line = (w + 7) // 8
        mask = bytearray(line * h)
        for i, (_, alpha) in enumerate(px):
            mask[i // w * line + i % w // 8] |= (alpha >> 7) << (7 - i % w % 8)
        check(v.cursor[4][w * h * 4:] == mask, "the mask")
        check(all(v.cursor[4][4 * i:4 * i + 3] == c.to_bytes(3, "little") for i, (c, _) in enumerate(px)), "the colours")
        check(all(a.cursor[4][4 * i:4 * i + 4] == bytes([*((k * alpha // 255) for k in c.to_bytes(3, "big")), alpha])
                  for i, (c, alpha) in enumerate(px)), "with alpha")
        s.say(f"cursor {w} {h} 3 4 0")
        while v.cursor[2]:
            v.update(False)
        v.close()
        a.close()


def pixel_formats():
    with Server() as s:
        s.say("draw 2 64 16")
        for bpp, big, maxs, shifts in ((16, 0, (31, 63, 31), (11, 5, 0)), (8, 0, (7, 7, 3), (0, 3, 6)), (32, 1, (255,) * 3, (16, 8, 0)),
                                       (32, 0, (255,) * 3, (0, 8, 16)), (16, 1, (15, 15, 15), (8, 4, 0))):
            v = Rfb(s.port)
            v.write(struct.pack(">BxxxBBBBHHHBBBxxx", 0, bpp, 24 if bpp == 32 else bpp, big, 1, *maxs, *shifts))
            v.set_encodings(rfb.RAW)
            v.request(False)
            head = v.read(4 + 12)
            check(struct.unpack(">HHHHi", head[4:]) == (0, 0, 64, 16, 0), "one raw rectangle")
            data = v.read(64 * 16 * bpp // 8)
            for i in range(64 * 16):
                got = int.from_bytes(data[i * bpp // 8:(i + 1) * bpp // 8], "big" if big else "little")
                c = pixel(2, i % 64, i // 64)
                for k in range(3):
                    want = ((c >> (16 - 8 * k) & 255) * maxs[k] + 127) // 255
                    check(got >> shifts[k] & maxs[k] == want, f"{bpp} bits, pixel {i}")
            v.close()


def changes_only():
    with Server() as s:
        s.say("draw 5 640 480")
        v = Rfb(s.port)
        v.set_encodings(rfb.RAW, rfb.SIZE)
        v.refresh()
        s.say("dot 300 200 ff0000")
        v.rects = 0
        v.update()
        check(v.rects == 1, f"{v.rects} rectangles for one dot")
        at = (200 * 640 + 300) * 4
        check(v.picture[at:at + 3] == b"\0\0\xff", "the dot is there")
        v.request()
        v.s.settimeout(0.3)
        try:
            v.message()
            raise AssertionError("an update without a change")
        except TimeoutError:
            pass
        v.close()


def sizes():
    with Server(wishes=1) as s:
        v = Rfb(s.port)
        v.set_encodings(rfb.ZRLE, rfb.EXT_SIZE)
        s.say("draw 1 800 50")
        check(plain(v.refresh()) == picture(1, 800, 50), "a new size")
        v.write(struct.pack(">BxHHBx", 251, 200, 100, 0))
        while (v.width, v.height) != (200, 100):
            v.update()
        check(plain(v.refresh()) == picture(1, 200, 100), "the size that was wished for")
        check(v.size_status == 0, f"status {v.size_status}")
        old = Rfb(s.port)			# knows no sizes: keeps the one it has
        s.say("draw 1 300 90")
        old.set_encodings(rfb.RAW)
        old.refresh()
        check(plain(old.picture)[:200 * 90 * 4] == picture(1, 200, 90), "what fits is shown")
        s.say("draw 1 60 50")
        old.update(False)
        v.close()
        old.close()
    with Server() as s:
        v = Rfb(s.port)
        v.set_encodings(rfb.RAW, rfb.EXT_SIZE)
        v.write(struct.pack(">BxHHBx", 251, 200, 100, 0))
        while v.size_status is None:
            v.update()
        check(v.size_status == 1 and v.width == 320, "an adapter that cannot")
        v.close()


def keys():
    with Server(tablet=1) as s:
        v = Rfb(s.port)
        v.set_encodings(rfb.RAW, rfb.KEYS)
        v.refresh()
        check(v.key_ack, "key numbers are offered")
        v.type("aB")
        v.qemu_key(0xd3, True)
        v.qemu_key(0xd3, False)
        v.qemu_key(0x56, True)			# the key beside Shift, which no keysym of a US keyboard names
        want = "30 1,30 0,42 1,48 1,48 0,42 0,111 1,111 0,86 1"
        got = s.events(9)
        check(got == ["key " + k for k in want.split(",")], f"{got}")
        v.pointer(319, 0, 0)
        v.pointer(0, 199, 1 | 4 | 2)
        v.pointer(0, 199, 8)
        v.pointer(0, 199, 16)
        got = s.events(4)
        check(got == ["abs 32767 0 0 0", "abs 0 32767 0 7", "abs 0 32767 1 0", "abs 0 32767 -1 0"], f"{got}")
        v.close()
        got = s.events(1)			# what was held comes up
        check(got[:1] == ["key 86 0"], f"{got}")
        v = Rfb(s.port)
        v.pointer(319, 199, 4)
        v.close()
        got = s.events(2)
        check(got == ["abs 32767 32767 0 2", "abs 32767 32767 0 0"], f"{got}")


def pointers():
    """Where only a mouse is, a viewer that knows of it sends motions, and one that does not positions."""
    with Server() as s:
        v = Rfb(s.port)
        v.pointer(50, 50, 0)
        check(s.events(1) == ["rel 0 0 0 0"], "the first position")
        v.set_encodings(rfb.RAW, -257)
        v.pointer(0x7fff + 3, 0x7fff - 4, 1)
        v.set_encodings(rfb.RAW)
        v.pointer(60, 40, 1)
        got = s.events(2)
        check(got == ["rel 3 -4 0 1", "rel 10 -10 0 1"], f"{got}")
        v.close()
        got = s.events(1)
        check(got == ["rel 0 0 0 0"], f"{got}")


def view_only():
    with Server(read_only=1) as s:
        v = Rfb(s.port)
        v.type("x")
        v.pointer(1, 1, 1)
        v.update(False)
        check(s.events(1, 0.3) == [], "a viewer who only looks typed")
        v.close()


def rejected(port, password, **kw):
    try:
        Rfb(port, password=password, **kw)
    except Closed as e:
        return str(e)
    raise AssertionError(f"password {password!r} was taken")


def passwords():
    with Server(password="s3cret!!", view="look") as s:
        check("wrong" in rejected(s.port, "other"), "a reason is given")
        rejected(s.port, "")
        v = Rfb(s.port, password="s3cret!!ignored")	# eight characters count
        v.type("a")
        check(len(s.events(2)) == 2, "the first password may type")
        w = Rfb(s.port, password="look")
        w.type("a")
        w.update(False)
        check(s.events(1, 0.3) == [], "the second one may not")
        v.close()
        w.close()
    with Server(later=1) as s:		# nobody knows it yet
        for word in ("", "s3cret"):
            check("wrong" in rejected(s.port, word), f"{word!r} when there is no password yet")


def sockets():
    path, ws = os.path.join(TMP, "vnc.sock"), free_port()
    with socket.socket(socket.AF_UNIX) as old:		# left behind
        old.bind(path)
    with Server(unix=path, websocket=ws) as s:
        check(os.stat(path).st_mode & 0o777 == 0o600, "the socket is the user's alone")
        for v in (Rfb(path=path), Rfb(ws, websocket=True)):
            s.say("draw 3 300 200")
            v.set_encodings(rfb.TIGHT, rfb.SIZE)
            check(plain(v.refresh()) == picture(3, 300, 200), "the picture")
            v.close()
        with socket.create_connection(("127.0.0.1", ws)) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            check(c.recv(100).startswith(b"HTTP/1.1 400"), "no WebSocket")
    check(not os.path.exists(path), "the socket is gone")
    try:
        with Server(port=s.port) as a, Server(port=a.port):
            pass
        raise AssertionError("one port, two servers")
    except Exception as e:
        check("did not start" in str(e), f"{e}")
    for bad in ("", TMP, "/nonexistent/sock", "/" + 200 * "x"):
        try:
            with Server(unix=bad):
                pass
            raise AssertionError(f"a server on {bad!r}")
        except Exception as e:
            check("did not start" in str(e), f"{e}")


def start_tls(port, context, subtype):
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.recv(12)
    s.sendall(b"RFB 003.008\n")
    check(s.recv(2) == b"\1\x13", "VeNCrypt and nothing else")
    s.sendall(b"\x13")
    check(s.recv(2) == b"\0\2", "version 0.2")
    s.sendall(b"\0\2")
    check(s.recv(1) == b"\0", "agreed")
    kinds = s.recv(5)
    check(kinds == b"\1" + struct.pack(">I", subtype), f"subtypes {kinds}")
    s.sendall(struct.pack(">I", subtype))
    check(s.recv(1) == b"\1", "TLS begins")
    return context.wrap_socket(s)


def tls():
    cert, key = os.path.join(TMP, "cert.pem"), os.path.join(TMP, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", key, "-out", cert],
                   stderr=subprocess.DEVNULL, check=True)
    x509 = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    x509.check_hostname = False
    x509.load_verify_locations(cert)
    anon = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anon.check_hostname = False
    anon.verify_mode = ssl.CERT_NONE
    anon.maximum_version = ssl.TLSVersion.TLSv1_2
    anon.set_ciphers("ADH:AECDH:@SECLEVEL=0")
    with Server(cert=cert, key=key) as s:
        c = start_tls(s.port, x509, 260)
        check(c.recv(4) == b"\0\0\0\0", "accepted")
        c.sendall(b"\1")
        check(struct.unpack(">HH", c.recv(4)) == (320, 200), "the screen's size")
        c.close()
    with Server(cert=cert, key=key, websocket=(ws := free_port()), password="pw") as s:
        s.say("draw 3 300 200")
        v = Rfb(ws, websocket=True, tls=x509, password="pw")        # TLS first, so that no VeNCrypt is
        v.set_encodings(rfb.TIGHT, rfb.SIZE)
        check(plain(v.refresh()) == picture(3, 300, 200), "the picture")
        v.close()
    with Server(anon=1, password="pw") as s:
        c = start_tls(s.port, anon, 258)
        c.sendall(rfb.des("pw", c.recv(16)))
        check(c.recv(4) == b"\0\0\0\0", "accepted")
        c.close()
        with socket.create_connection(("127.0.0.1", s.port)) as c:	# what is plain gets nowhere
            c.recv(12)
            c.sendall(b"RFB 003.008\n")
            c.recv(2)
            c.sendall(b"\2")
            check(c.recv(10) == b"", "the connection ends")


def flow():
    with Server() as s:
        v = Rfb(s.port)
        v.set_encodings(rfb.RAW, rfb.SIZE, rfb.FENCE, rfb.CONTINUOUS)
        v.write(struct.pack(">BxxxIB5s", 248, 0x80000003, 5, b"hello"))
        v.refresh()
        check((0x80000000, b"") in v.fences and (3, b"hello") in v.fences, f"fences {v.fences}")
        check(v.ended == 1, "continuous updates are offered")
        v.write(struct.pack(">BBHHHH", 150, 1, 0, 0, 320, 200))
        for i in range(5):			# nobody asks
            s.say(f"dot {i * 64} 100 00ff00")
            check(v.message() == 0, "an update comes by itself")
        v.write(struct.pack(">BBHHHH", 150, 0, 0, 0, 0, 0))
        while v.ended < 2:
            v.message()
        v.close()


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line.split()[1] for line in f if line.startswith("VmRSS")))


def slow_viewers():
    with Server() as s:
        s.say("draw 4 1600 1200")
        slow = [Rfb(s.port) for _ in range(6)]
        for v in slow:
            v.write(struct.pack(">BBHHHH", 150, 1, 0, 0, 1600, 1200))
        quick = Rfb(s.port)
        quick.set_encodings(rfb.RAW, rfb.SIZE)
        quick.refresh()
        before = rss(s.p.pid)
        for i in range(20):
            for v in slow:
                for _ in range(50):
                    v.request(False)
            s.say(f"draw {5 - i % 2} 1600 1200")
            quick.update()
        check(plain(quick.refresh()) == plain(quick.picture), "the quick one is served")
        grown = rss(s.p.pid) - before
        check(grown < 150 << 10, f"{grown} KiB more for viewers that do not read")
        for v in slow:
            v.close()
        quick.close()


def ping(body):
    return struct.pack(">BB4x", 0x89, 0x80 | len(body)) + body


def given_up(s, data, times):
    """The server ends a connection on which data comes so often, and nobody reads."""
    s.settimeout(20)
    try:
        for _ in range(times):
            s.sendall(data)
    except ConnectionError:
        return True
    return False


def unread_answers():
    with Server(websocket=(ws := free_port())) as s:
        s.say("draw 4 1600 1200")
        v = Rfb(s.port)
        fence = struct.pack(">BxxxIB", 248, 0x80000000, 64) + bytes(64)
        check(given_up(v.s, fence * 1000, 300), "20 MB of fences were answered and not read")
        v = Rfb(ws, websocket=True)
        check(given_up(v.s, ping(bytes(125)) * 1000, 300), "40 MB of pings")
        v = Rfb(ws, websocket=True)		# says that it ends, while most of an update is under way, and goes on
        v.write(struct.pack(">BBHHHH", 150, 1, 0, 0, 1600, 1200))
        time.sleep(0.3)
        check(given_up(v.s, struct.pack(">BB4x", 0x88, 0x80) + bytes(1 << 20), 8), "after the end of a WebSocket")


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def no_descriptors():
    """Who cannot be accepted waits, and the server does not turn in circles."""
    with Server() as s:
        v = Rfb(s.port)
        limit = resource.prlimit(s.p.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(s.p.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{s.p.pid}/fd")), limit[1]))
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            before = cpu(s.p.pid)
            time.sleep(1)
            used = cpu(s.p.pid) - before
            check(used < 0.3, f"{used} s of CPU time in a second")
            v.update(False)
            resource.prlimit(s.p.pid, resource.RLIMIT_NOFILE, limit)
            c.settimeout(10)
            check(c.recv(12) == b"RFB 003.008\n", "accepted later")
        v.close()


def nonsense():
    rng = random.Random(5)
    with Server(websocket=(ws := free_port())) as s:
        def ends(data, **kw):
            v = Rfb(s.port, **kw)
            v.write(data)
            v.s.settimeout(5)
            try:
                while v.s.recv(1 << 16):
                    pass
            except ConnectionResetError:
                pass
            v.close()
        ends(b"\x63")				# no such message
        ends(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 0, 255, 255, 255, 16, 8, 0))	# a colour map
        ends(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 30, 8, 0))
        ends(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 24, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        ends(struct.pack(">BxH", 2, 65535))
        ends(struct.pack(">BxxxI", 6, 0x7fffffff))
        ends(struct.pack(">BxxxIB", 248, 0, 200) + bytes(200))
        ends(b"\xff\x07" + bytes(10))
        v = Rfb(s.port)				# text for a clipboard that is not there, in both forms
        v.write(struct.pack(">BxxxI", 6, 70000) + bytes(70000) + struct.pack(">Bxxxi", 6, -8) + bytes(8))
        v.update(False)
        for _ in range(40):
            for port in (s.port, ws):
                c = socket.create_connection(("127.0.0.1", port))
                c.sendall(rng.choice((b"", b"RFB 003.008\n\1", b"RFB 003.008\n\1\1", b"RFB 003.003\n\1", b"GET / HTTP/1.1\r\n"))
                          + rng.randbytes(rng.randrange(400)))
                c.close()
        idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(40)]	# more than there may be
        v.update(False)
        for c in idle:
            c.close()
        v.set_encodings(rfb.ZRLE, rfb.SIZE)
        check(plain(v.refresh()) == picture(0, 320, 200), "the server goes on as before")
        v.close()


class Clip(Server):
    """A server whose guest has a clipboard."""

    def __init__(self, **args):
        super().__init__(clipboard=1, **args)

    def put(self, text):
        self.say("put " + text.encode().hex())

    def paste(self, seconds=10):
        """What the guest gets: a text, or None."""
        end = time.monotonic() + seconds
        while (got := self.say("paste")[-1]) == "wait" and time.monotonic() < end:
            time.sleep(0.02)
        check(got != "wait", "the text does not come")
        return bytes.fromhex(got[5:]).decode() if got.startswith("text ") else None

    def paste_soon(self, seconds=10):
        """What is on its way from a viewer."""
        end = time.monotonic() + seconds
        while (got := self.paste()) is None and time.monotonic() < end:
            time.sleep(0.02)
        return got

    def asked(self, seconds=10):
        end = time.monotonic() + seconds
        while self.say("paste") != ["asked"]:
            check(time.monotonic() < end, "nobody asks the guest for its text")
            time.sleep(0.02)


def viewer(s, *encodings, **kw):
    v = Rfb(s.port, **kw)
    v.set_encodings(rfb.RAW, *encodings)
    v.update(False)
    return v


def quiet(v, seconds=0.3):
    """Nothing comes."""
    v.s.settimeout(seconds)
    try:
        v.message()
    except TimeoutError:
        v.s.settimeout(30)
        return True
    return False


def serves(v, text, fn):
    """What fn says while the viewer, in a thread, answers who asks for its text."""
    out = []
    t = threading.Thread(target=lambda: out.append(fn()))
    v.update(False)                             # the server has heard that there is one
    v.mine = text
    t.start()
    n = len(v.clips)
    v.until(lambda: any(f & rfb.REQUEST for f, _ in v.clips[n:]))
    t.join()
    return out[0]


TEXT = "first \u00fc\nsecond \u20ac \U0001f600\n"


def clipboard():
    with Clip() as s:
        v, w = viewer(s, rfb.CLIPBOARD), viewer(s, rfb.CLIPBOARD)
        check(v.clip_caps == 0x1f000001, f"it can {v.clip_caps:x}")
        # The guest copies: viewers hear of it, and the text goes to the one that pastes.
        s.say("take")
        for x in (v, w):
            x.until(lambda x=x: x.clips)
            check(x.clips == [(rfb.NOTIFY | rfb.TEXT, None)], f"{x.clips}")
        v.extended(rfb.REQUEST | rfb.TEXT)
        s.asked()
        s.put(TEXT)
        v.until(lambda: len(v.clips) > 1)
        check(v.clips[1:] == [(rfb.PROVIDE | rfb.TEXT, TEXT)], f"{v.clips}")
        check(quiet(w), "who did not ask was told the text")
        check(v.paste() == TEXT, "asked again")
        s.say("drop")
        v.until(lambda: v.clips[-1] == (rfb.NOTIFY, None))
        # A viewer copies: the guest asks for it when it pastes, the other viewer as well.
        v.copy(TEXT)
        check(serves(v, TEXT, s.paste) == TEXT, "from the viewer to the guest")
        check(s.paste() == TEXT and quiet(v), "it is not asked twice")
        w.until(lambda: w.clips[-1] == (rfb.NOTIFY | rfb.TEXT, None))
        check(w.paste() == TEXT, "from viewer to viewer")
        w.extended(rfb.PEEK)
        w.until(lambda: w.clips[-1] == (rfb.NOTIFY | rfb.TEXT, None))
        v.extended(rfb.PEEK)
        v.until(lambda: v.clips[-1] == (rfb.NOTIFY, None))
        w.copy("other")
        v.until(lambda: v.clips[-1] == (rfb.NOTIFY | rfb.TEXT, None))
        w.close()                               # and takes it along
        v.until(lambda: v.clips[-1] == (rfb.NOTIFY, None))
        check(s.paste() is None, "who had it is gone")
        # As much as there may be, and more.
        s.say("take")
        s.say(f"fill {1 << 20}")
        check(len(v.paste()) == 1 << 20, "a megabyte")
        s.say("take")
        s.say(f"fill {(1 << 20) + 1}")
        v.until(lambda: v.clips[-1] == (rfb.NOTIFY, None))
        v.copy("")
        big = ("x" * 1023 + "\n") * 1024
        check(serves(v, big, s.paste) == big, "a megabyte to the guest")
        v.copy("")
        check(serves(v, big + "y", s.paste) is None, "more than a megabyte")
        v.close()


def cut_texts():
    """Viewers that know no other than the plain texts, in Latin-1."""
    with Clip() as s:
        v = viewer(s)
        check(v.clip_caps == 0, "it was not asked for")
        s.say("take")
        s.put(TEXT)
        v.until(lambda: v.cuts)
        check(v.cuts == ["first \u00fc\nsecond ? ?\n"], f"{v.cuts}")
        v.write(struct.pack(">BxxxI", 6, 6) + "a\u00e4\nb\r\n".encode("latin1"))
        check(s.paste_soon() == "a\u00e4\nb\n", "to the guest")
        w = viewer(s, rfb.CLIPBOARD)            # late, and of the other kind
        w.until(lambda: w.clips)
        check(w.paste() == "a\u00e4\nb\n", "to another viewer")
        w.copy("from w")
        w.until(lambda: any(f & rfb.REQUEST for f, _ in w.clips))       # v is sent each text
        v.until(lambda: len(v.cuts) > 1)
        check(v.cuts[-1] == "from w", "from another viewer")
        v.write(struct.pack(">BxxxI", 6, 0))    # nothing: nothing is taken away from w
        check(s.paste() == "from w", "still there")
        v.write(struct.pack(">Bxxxi", 6, -8) + struct.pack(">II", rfb.NOTIFY | rfb.TEXT, 0))    # extended, though it has not said so
        v.update(False)
        check(s.paste() == "from w", "still there")
        w.close()
        v.close()


def clipboard_refused():
    """Viewers that only look have no part in it."""
    with Clip(read_only=1) as s:
        v, w = viewer(s, rfb.CLIPBOARD), viewer(s)
        s.say("take")
        s.put("secret")
        v.extended(rfb.REQUEST | rfb.TEXT)
        check(quiet(v) and quiet(w) and not v.clip_caps, "who only looks was told of the clipboard")
        v.extended(rfb.NOTIFY | rfb.TEXT)
        w.write(struct.pack(">BxxxI", 6, 3) + b"abc")
        v.update(False)
        w.update(False)
        check(s.say("paste") == ["none"], "who only looks has taken the clipboard")
        v.close()
        w.close()


def clipboard_nonsense():
    with Clip() as s:
        v = viewer(s, rfb.CLIPBOARD)
        bomb = zlib.compress(bytes(1 << 26))
        before = rss(s.p.pid)

        def gives(data):
            """What the guest gets when that is the answer."""
            v.copy(None)
            v.update(False)
            out = []
            t = threading.Thread(target=lambda: out.append(s.paste()))
            n = len(v.clips)
            t.start()
            v.until(lambda: any(f & rfb.REQUEST for f, _ in v.clips[n:]))
            v.extended(rfb.PROVIDE | rfb.TEXT, data)
            t.join()
            v.update(False)
            return out[0]
        def packed(size, text):
            return zlib.compress(struct.pack(">I", size) + text)
        check(gives(packed(4, b"abc\0")) == "abc", "as it should be")
        check(gives(packed(3, b"abc\0 and much more")) == "abc", "more than the size says")
        check(gives(packed(8, b"ab\xff\xc0\x80\xed\xa0\x80")) == "ab??????", "no UTF-8")
        for bad in (b"", b"x", b"\x78\x9c", packed(10, b"abc\0"), packed(0, b""), packed(0xffffffff, b"abc"), packed(3 << 20, b"abc"), bomb,
                    zlib.compress(b"\0\x2f\0\0" + bytes(1 << 26))):
            check(gives(bad) is None, "nothing")
        check(rss(s.p.pid) - before < 20 << 10, f"{rss(s.p.pid) - before} KiB more")
        for data in (b"", b"abc"):              # too short for what it says
            v.write(struct.pack(">Bxxxi", 6, -len(data) or 0) + data)
        v.extended(rfb.PROVIDE | rfb.TEXT, packed(4, b"abc\0"))        # nobody asked
        v.extended(rfb.CAPS | 0xffff, bytes(64))
        v.extended(rfb.CAPS | rfb.TEXT, bytes(4))                      # it can do nothing
        v.copy("x")
        v.update(False)
        check(s.paste() is None, "from one that cannot be asked")
        v.extended(0xffffffff)
        v.extended(0)
        v.update(False)
        # One that asks and asks, and does not read.
        s.say("take")
        s.say(f"fill {1 << 20}")
        before = rss(s.p.pid)
        v.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(2000):
            v.extended(rfb.REQUEST | rfb.TEXT)
        check(rss(s.p.pid) - before < 30 << 10, f"{rss(s.p.pid) - before} KiB more")
        v.close()
        w = viewer(s, rfb.CLIPBOARD)
        check(len(w.paste()) == 1 << 20, "the server goes on")
        w.close()


def png():
    with Server() as s:
        s.say("draw 5 200 100")
        v = Rfb(s.port)
        v.set_encodings(rfb.TIGHT_PNG, rfb.SIZE)
        check(plain(v.refresh()) == picture(5, 200, 100), "the picture")
        if not v.pngs:
            raise Skip("built without PNG")
        v.close()


def jpeg():
    with Server() as s:
        s.say("draw 5 256 256")
        v = Rfb(s.port)
        v.set_encodings(rfb.TIGHT, -24)		# quality 8
        v.request(False)
        v.read(4)
        sizes = 0
        for _ in range(4):
            x, y, w, h, enc = struct.unpack(">HHHHi", v.read(12))
            if v.read(1)[0] != 0x90:
                raise Skip("built without JPEG")
            data = v.read(v.compact())
            check(enc == 7 and data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9", "a JPEG picture")
            sizes += w * h
            if sizes == 256 * 256:
                break
        v.close()


sys.exit(run_all([
    ("encodings", encodings), ("cursors", cursors), ("pixel formats", pixel_formats), ("only what changed is sent", changes_only), ("sizes", sizes),
    ("keys and pointers", keys), ("mice", pointers), ("viewers who only look", view_only), ("passwords", passwords), ("sockets", sockets), ("TLS", tls),
    ("fences and continuous updates", flow), ("viewers that do not read", slow_viewers),
    ("answers that nobody reads", unread_answers), ("no descriptors left", no_descriptors), ("nonsense", nonsense), ("JPEG", jpeg), ("PNG", png),
    ("the clipboard", clipboard), ("plain texts", cut_texts), ("no clipboard for those who look", clipboard_refused),
    ("nonsense about the clipboard", clipboard_nonsense),
]))
