#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS and WebSockets of chardevs and monitors: who has to be let in is, whoever else comes is told of and holds up nobody, QEMU's programs as
peers."""
import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time

import certs
from guest import LODGE, SLOW, Failed, Place, Skip, check, lodge, need_guest, run_all, tiny
from qmp import Qmp, QmpError

QEMU = os.path.join(os.path.dirname(LODGE) or ".", "lodge-qemu")
PEER = shutil.which("qemu-system-x86_64")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A program with a log, killed at the end."""

    def __init__(self, place, *args, env=None):
        self.log = place.path(f"log-{len(os.listdir(place.dir))}")
        with open(self.log, "wb") as f:
            self.p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=env or place.env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def says(self, what, seconds=30):
        deadline = time.monotonic() + seconds * SLOW
        while what not in self.text():
            check(time.monotonic() < deadline and self.p.poll() is None, f"{what!r} is not said; there is: {self.text()[-1000:]}")
            time.sleep(0.05)

    def times(self, what):
        return self.text().count(what)


def monitor(place, *args):
    return Process(place, QEMU, "-accel", "tcg", "-display", "none", "-nodefaults", "-S", *args)


def context(ca, own=None):
    c = ssl.create_default_context(cafile=os.path.join(ca, "ca-cert.pem"))
    if own:
        c.load_cert_chain(os.path.join(own, "client-cert.pem"), os.path.join(own, "client-key.pem"))
    return c


def connect(port, seconds=30):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=30 * SLOW)
            return s
        except ConnectionRefusedError:
            check(time.monotonic() < deadline, f"nobody listens on port {port}")
            time.sleep(0.05)


def talk(port, ctx, host="localhost"):
    return ctx.wrap_socket(connect(port), server_hostname=host)


class TlsQmp(Qmp):
    """QMP on a connection that is there."""

    def __init__(self, s):
        self.s, self.buf, self.events, self.n, self.schema = s, b"", [], 0, None
        self.greeting = self.read()
        self.cmd("qmp_capabilities")


def lines(s, n):
    got = b""
    while got.count(b"\n") < n:
        data = s.recv(4096)
        if not data:
            break
        got += data
    return got


def dead(s):
    """The other side ends it, with an alert or without."""
    try:
        while s.recv(4096):
            pass
    except (ssl.SSLError, ConnectionError):
        pass
    s.close()


def strangers(place, port, vm, ours, other, name):
    """Everybody who must not come, each told of by a line that names the chardev."""
    def one(what, do):
        before = vm.times(f"chardev {name}: ")
        try:
            do()
        except (ssl.SSLError, ConnectionError):
            pass
        deadline = time.monotonic() + 30 * SLOW
        while vm.times(f"chardev {name}: ") == before:
            check(time.monotonic() < deadline, f"nothing was said of {what}: {vm.text()}")
            time.sleep(0.05)
        check(what in vm.text(), f"{what!r} was not said: {vm.text()}")

    def plain(data):
        s = connect(port)
        s.sendall(data)
        dead(s)

    one("does not speak TLS", lambda: plain(b'{"execute": "qmp_capabilities"}\r\n' * 4))
    one("does not speak TLS", lambda: plain(b"GET / HTTP/1.0\r\n\r\n"))
    one("TLS: ", lambda: plain(b"\x16\x03\x01\xff\xff" + os.urandom(600)))
    one("has no certificate", lambda: dead(talk(port, context(ours))))
    one("certificate", lambda: dead(talk(port, context(ours, other))))
    one("certificate has expired", lambda: dead(talk(port, context(ours, place.path("late")))))
    one("closed the connection", lambda: connect(port).close())


def expired(place, ours):
    late = place.path("late")
    os.makedirs(late)
    for n in ("ca-cert.pem", "ca-key.pem"):
        shutil.copy(os.path.join(ours, n), late)
    certs.run("req", *certs.KEY, "-keyout", "client-key.pem", "-out", "request", "-subj", "/CN=late", cwd=late)
    certs.run("x509", "-req", "-in", "request", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-set_serial", "9", "-days", "-1", "-out", "client-cert.pem", cwd=late)


def creds(path, name="t", endpoint="server", more=""):
    return ("-object", f"tls-creds-x509,id={name},dir={path},endpoint={endpoint}{more}")


def servers():
    """A monitor for programs and one for people; strangers in between."""
    with Place() as place:
        ours, other = certs.authority(place.path("ours"), "ours"), certs.authority(place.path("other"), "other")
        expired(place, ours)
        a, b = free_port(), free_port()
        with monitor(place, *creds(ours), "-chardev", f"socket,id=prog,host=127.0.0.1,port={a},server=on,wait=off,tls-creds=t", "-mon", "prog,mode=control",
                     "-chardev", f"socket,id=people,host=127.0.0.1,port={b},server=on,wait=off,tls-creds=t", "-mon", "people,mode=readline") as vm:
            good = context(ours, ours)
            with TlsQmp(talk(a, good)) as q, TlsQmp(talk(a, good)) as q2:
                check(q.cmd("query-status")["status"] == "prelaunch" and q2.cmd("query-name") is not None, "QMP by TLS")
                # More than a record, both ways.
                check(len(json.dumps(q.cmd("query-qmp-schema"))) > 60000, "the schema is short")
                try:
                    q.cmd("x" * 300000)
                except QmpError as e:
                    check(e.cls == "CommandNotFound", str(e))
            strangers(place, a, vm, ours, other, "prog")
            strangers(place, b, vm, ours, other, "people")
            for _ in range(3):
                with talk(b, good) as s:
                    s.sendall(b"info status\r")
                    got = b""
                    while b"VM status" not in got:
                        got += s.recv(4096) or check(False, f"it ended: {got}")
            with TlsQmp(talk(a, good)) as q:
                q.cmd("query-status")


def silent():
    """Who says nothing is given up, and then others get in."""
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        a, b = free_port(), free_port()
        with monitor(place, *creds(ours), "-chardev", f"socket,id=prog,host=127.0.0.1,port={a},server=on,wait=off,tls-creds=t", "-mon", "prog,mode=control",
                     "-chardev", f"socket,id=people,host=127.0.0.1,port={b},server=on,wait=off,tls-creds=t", "-mon", "people") as vm:
            good, quiet = context(ours, ours), [connect(a), connect(b)]
            quiet[0].sendall(b"\x16\x03\x01")
            quiet[1].sendall(b"\x16")
            # One that listens to many is not held up at all.
            with TlsQmp(talk(a, good)) as q:
                q.cmd("query-status")
            with talk(b, good) as s:
                check(s.recv(1), "no prompt")
            vm.says("chardev people: TLS: the other side does not answer")
            vm.says("chardev prog: the other side does not begin")
            for s in quiet:
                dead(s)


def spelled():
    """What is wrong with options and objects."""
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        for args, word in ((("-chardev", "socket,id=x,host=127.0.0.1,port=1,server=on,wait=off,tls-creds=none", "-mon", "x"), "No TLS credentials with id 'none'"),
                           ((*creds(ours, endpoint="client"), "-chardev", "socket,id=x,host=127.0.0.1,port=1,server=on,wait=off,tls-creds=t", "-mon", "x"), "endpoint"),
                           ((*creds(ours), "-chardev", f"socket,id=x,path={place.path('s')},server=on,wait=off,tls-creds=t", "-mon", "x"), "port"),
                           (creds("/nonexistent"), "/nonexistent/server-cert.pem: No such file"),
                           (creds(place.path(""), endpoint="client"), "ca-cert.pem: No such file")):
            with monitor(place, *args) as vm:
                check(vm.p.wait(30 * SLOW) == 1 and word in vm.text(), f"{args}: {vm.text()}")
        with monitor(place, "-qmp", f"unix:{place.path('q')},server=on,wait=off"), Qmp(place.path("q")) as q:
            addr = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(free_port())}}
            for more in ({"tls-creds": "none"}, {"tls-creds": "none", "tls-authz": "a"}, {"websocket": True, "server": False}):
                try:
                    q.cmd("chardev-add", id="x", backend={"type": "socket", "data": {"addr": addr, "server": True, **more}})
                    check(False, f"{more} was taken")
                except QmpError as e:
                    check(e.cls == "GenericError", str(e))
            check(not any(c["label"] == "x" for c in q.cmd("query-chardev")), "it is there all the same")


def live():
    """Objects and chardevs that come while the guest runs; one client alone; pre-shared keys; lodge qmp by TLS."""
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        os.makedirs(place.path("keys"))
        with open(place.path("keys/keys.psk"), "w", encoding="ascii") as f:
            f.write("qemu:00112233445566778899aabbccddeeff\nanother:ff\n")
        port, a = free_port(), free_port()
        with monitor(place, *creds(ours), "-qmp", f"unix:{place.path('q')},server=on,wait=off", "-qmp", f"tcp:127.0.0.1:{a},server=on,wait=off,tls-creds=t") as vm, Qmp(place.path("q")) as q:
            ca, cert, key = (os.path.join(ours, n) for n in ("ca-cert.pem", "client-cert.pem", "client-key.pem"))
            status, out, err = lodge("qmp", f"tcp:127.0.0.1:{a},tls-ca={ca},tls-cert={cert},tls-key={key}", "query-status", env=place.env)
            check(status == 0 and b"prelaunch" in out, f"lodge qmp: {status} {out} {err}")
            status, out, err = lodge("qmp", f"tcp:127.0.0.1:{a},tls-ca={ca}", "query-status", env=place.env)
            check(status == 1 and err.startswith("lodge: ") and err.count("\n") == 1, f"lodge qmp without a certificate: {status} {out} {err}")

            def chardev(name, **more):
                q.cmd("chardev-add", id=name, backend={"type": "socket", "data": {
                    "addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}, "server": True, "wait": False, **more}})

            def is_open(name, want=True):
                deadline = time.monotonic() + 20 * SLOW
                while any(c["label"] == name and c["filename"].startswith("disconnected:") == want for c in q.cmd("query-chardev")):
                    check(time.monotonic() < deadline, f"{name}: {q.cmd('query-chardev')} {vm.text()}")
                    time.sleep(0.02)

            q.cmd("object-add", qom_type="authz-simple", id="who", identity="CN=client,O=Lodge")
            q.cmd("object-add", qom_type="authz-simple", id="not", identity="CN=nobody,O=Lodge")
            chardev("one", **{"tls-creds": "t", "tls-authz": "who"})
            q.cmd("object-del", id="who")
            with talk(port, context(ours, ours)):
                is_open("one")
            is_open("one", False)
            q.cmd("chardev-remove", id="one")
            chardev("two", **{"tls-creds": "t", "tls-authz": "not"})
            dead(talk(port, context(ours, ours)))
            vm.says("chardev two: TLS: the other side's name is not among those allowed")
            q.cmd("chardev-remove", id="two")
            q.cmd("object-add", qom_type="tls-creds-psk", id="p", dir=place.path("keys"), endpoint="server")
            chardev("three", **{"tls-creds": "p"})
            s = ("openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", "-psk_identity", "qemu", "-psk")
            for version in ("-tls1_3", "-tls1_2"):
                p = subprocess.Popen([*s, "00112233445566778899aabbccddeeff", version], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                is_open("three")
                p.kill()
                p.communicate()
                is_open("three", False)
            p = subprocess.run([*s, "00112233445566778899aabbccddeefe"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOW, check=False)
            check(p.returncode, "a wrong key was taken")
            vm.says("chardev three: TLS: ")
            q.cmd("chardev-remove", id="three")
            q.cmd("object-del", id="p")
            q.cmd("query-status")


class WebSocket:
    """A browser's side, which masks."""

    def __init__(self, s, key=None):
        key = key or base64.b64encode(os.urandom(16)).decode()
        self.s, self.buf = s, b""
        s.sendall(f"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Protocol: binary\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buf:
            self.buf += self.more()
        head, self.buf = self.buf.split(b"\r\n\r\n", 1)
        check(head.startswith(b"HTTP/1.1 101 ") and b"binary" in head, f"{head}")

    def more(self):
        data = self.s.recv(65536)
        if not data:
            raise Failed("the WebSocket ended")
        return data

    def send(self, data, op=2, fin=True, mask=b"\1\2\3\4"):
        size = bytes([len(data) | 128]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big") if len(data) < 65536 else b"\xff" + len(data).to_bytes(8, "big")
        self.s.sendall(bytes([op | (128 if fin else 0)]) + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data)))

    def frame(self):
        def take(n):
            while len(self.buf) < n:
                self.buf += self.more()
            out, self.buf = self.buf[:n], self.buf[n:]
            return out

        op, size = take(2)
        check(size < 128, "a server's frame has a mask")
        if size >= 126:
            size = int.from_bytes(take(2 if size == 126 else 8), "big")
        return op & 15, take(size)

    def until(self, what):
        got = b""
        while what not in got:
            op, data = self.frame()
            check(op == 2, f"a frame of kind {op}")
            got += data
        return got


def websockets():
    """A monitor in a WebSocket, with TLS and without; frames as a browser may cut them, and what is none."""
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        a, b, c = free_port(), free_port(), free_port()
        with monitor(place, *creds(ours), "-chardev", f"socket,id=ws,host=127.0.0.1,port={a},server=on,wait=off,websocket=on", "-mon", "ws,mode=control",
                     "-chardev", f"socket,id=wss,host=127.0.0.1,port={b},server=on,wait=off,websocket=on,tls-creds=t", "-mon", "wss",
                     "-chardev", f"socket,id=wsp,host=127.0.0.1,port={c},server=on,wait=off,websocket=on", "-mon", "wsp") as vm:
            w = WebSocket(connect(a))
            w.until(b"\r\n")
            command = b'{"execute": "qmp_capabilities"}\n'
            for i in range(len(command)):
                w.send(command[i:i + 1], op=0 if i else 2, fin=i == len(command) - 1)
                if i == 7:
                    w.send(b"hello", op=9)
            check(w.frame() == (10, b"hello"), "no pong")
            w.until(b'"return": {}')
            w.send(b'{"execute": "query-qmp-schema"}')
            check(len(w.until(b"]}\r\n")) > 60000, "the schema is short")
            w.send(b'{"execute": "' + b"x" * 200000 + b'"}')
            w.until(b"CommandNotFound")
            w.send(b"\x03\xe8bye", op=8)
            check(w.frame() == (8, b"\x03\xe8"), "no end")
            dead(w.s)
            for port, wrap in ((b, lambda s: context(ours, ours).wrap_socket(s, server_hostname="localhost")), (c, lambda s: s)):
                w = WebSocket(wrap(connect(port)))
                w.until(b"(qemu) ")
                w.send(b"info status\r")
                w.until(b"VM status: paused")
                w.s.close()
            # Whatever is none ends, and the next one gets in.
            for data, word in ((b"POST / HTTP/1.1\r\n\r\n", "opens no WebSocket"), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "opens no WebSocket"), (b"\0" * 9000, "opens no WebSocket"),
                               (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000, "opens no WebSocket")):
                for port, name in ((c, "wsp"), (a, "ws")):
                    s = connect(port)
                    s.sendall(data)
                    dead(s)
                    vm.says(f"chardev {name}: the other side {word}")
            for frame in (b"\x82\x05hello", b"\x81\x85\0\0\0\0hello", b"\xf2\x80\0\0\0\0", b"\x82\xff" + b"\xff" * 12, b"\x89\xfe\1\0" + b"\0" * 300, b"\x09\x80\0\0\0\0"):
                w = WebSocket(connect(c))
                w.until(b"(qemu) ")
                w.s.sendall(frame)
                dead(w.s)
            vm.says("chardev wsp: WebSocket: what came is no frame")
            w = WebSocket(connect(c))
            w.until(b"(qemu) ")


def serve(ctx, listener):
    s, _ = listener.accept()
    s.settimeout(30 * SLOW)
    return ctx.wrap_socket(s, server_side=True)


def server_context(path, name="server"):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(os.path.join(path, f"{name}-cert.pem"), os.path.join(path, f"{name}-key.pem"))
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations(os.path.join(path, "ca-cert.pem"))
    return c


def client():
    """A chardev that connects, again and again: to servers that are not who they have to be, and to the right one."""
    with Place() as place, socket.create_server(("127.0.0.1", 0)) as listener:
        ours, other = certs.authority(place.path("ours"), "ours"), certs.authority(place.path("other"), "other")
        certs.sign(ours, "elsewhere", "/CN=elsewhere", "subjectAltName=DNS:elsewhere.example")
        listener.settimeout(30 * SLOW)
        with monitor(place, *creds(ours, endpoint="client"), "-chardev",
                     f"socket,id=c,host=127.0.0.1,port={listener.getsockname()[1]},reconnect=1,tls-creds=t", "-mon", "c,mode=readline") as vm:
            for ctx, word in ((server_context(other), "certificate"), (server_context(ours, "elsewhere"), "IP address mismatch")):
                try:
                    dead(serve(ctx, listener))
                except (ssl.SSLError, ConnectionError):
                    pass
                vm.says("chardev c: TLS: ")
                vm.says(word)
            s, _ = listener.accept()
            s.sendall(b"220 mail.example ESMTP\r\n")
            vm.says("does not speak TLS")
            s.close()
            for _ in range(2):
                with serve(server_context(ours), listener) as s:
                    s.sendall(b"info status\r")
                    got = b""
                    while b"VM status" not in got:
                        got += s.recv(4096) or check(False, f"it ended: {got}")


def console():
    """A guest's serial port by TLS: much, both ways, and a reader who stops for a while."""
    need_guest()
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        port = free_port()
        pem = {n: os.path.join(ours, n + ".pem") for n in ("ca-cert", "server-cert", "server-key")}
        with tiny("--chardev", f"socket,id=s,host=127.0.0.1,port={port},server=on,tls-cert={pem['server-cert']},tls-key={pem['server-key']},tls-ca={pem['ca-cert']}",
                  "--serial", "none", "--serial", "s", env=place.env) as vm:
            vm.expect(r"# ", 60)
            s = talk(port, context(ours, ours))
            vm.send("stty -F /dev/ttyS1 raw -echo; cat /dev/ttyS1 >/tmp/in & echo rea''dy; seq 1 20000 >/dev/ttyS1; echo se''nt\n")
            vm.expect(r"ready", 60)
            data = b"".join(b"%d\n" % i for i in range(3000))
            s.sendall(data)
            got = b""
            while not got.replace(b"\r", b"").endswith(b"\n20000\n"):
                part = s.recv(65536)
                check(part, f"it ended after {len(got)} bytes")
                got += part
            check(got.replace(b"\r", b"") == b"".join(b"%d\n" % i for i in range(1, 20001)), f"{len(got)} bytes came, others than were sent")
            vm.expect(r"sent", 60)
            deadline = time.monotonic() + 30 * SLOW
            while f"{len(data)}\n" not in (out := vm.shell("wc -c </tmp/in", 20)):
                check(time.monotonic() < deadline, f"{out!r} bytes of {len(data)} came")
            s.close()


def peer_server():
    """QEMU listens.  (Its monitor takes one byte of a TLS record and waits for the next record, in 7.2; a serial port's bytes come one by one.)"""
    if not PEER:
        raise Skip("there is no qemu-system-x86_64")
    need_guest()
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        port = free_port()
        with Process(place, PEER, "-display", "none", "-nodefaults", "-S", *creds(ours), "-chardev", f"socket,id=people,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=t",
                     "-mon", "people"):
            ca, cert, key = (os.path.join(ours, n) for n in ("ca-cert.pem", "client-cert.pem", "client-key.pem"))
            guest_types(place, "--chardev", f"socket,id=s,host=127.0.0.1,port={port},reconnect=1,tls-ca={ca},tls-cert={cert},tls-key={key}")


def guest_types(place, *chardev):
    """A guest asks QEMU's monitor, which is at the other end of its second serial port, something."""
    with tiny(*chardev, "--serial", "none", "--serial", "s", env=place.env) as vm:
        vm.expect(r"# ", 60)
        vm.send("stty -F /dev/ttyS1 raw -echo; cat /dev/ttyS1 & \n")
        for _ in range(20):
            vm.send("for c in i n f o ' ' v e r s i o n '\\n' '\\n' '\\n' '\\n' '\\n' '\\n' '\\n' '\\n' '\\n'; do printf \"$c\" >/dev/ttyS1; usleep 20000; done\n")
            try:
                vm.expect(r"\n\d+\.\d+\.\d+", 3)
                return
            except Failed:
                pass
        raise Failed(f"QEMU's monitor does not answer: {vm.text()[-800:]} {vm.err()}")


def peer_client():
    """QEMU connects to us."""
    if not PEER:
        raise Skip("there is no qemu-system-x86_64")
    need_guest()
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        port = free_port()
        pem = {n: os.path.join(ours, n + ".pem") for n in ("ca-cert", "server-cert", "server-key")}
        with Process(place, PEER, "-display", "none", "-nodefaults", "-S", *creds(ours, endpoint="client"), "-chardev",
                     f"socket,id=c,host=localhost,port={port},reconnect=1,tls-creds=t", "-mon", "c"):
            guest_types(place, "--chardev", f"socket,id=s,host=127.0.0.1,port={port},server=on,tls-cert={pem['server-cert']},tls-key={pem['server-key']},tls-ca={pem['ca-cert']}")


def gnutls():
    """GnuTLS, which is what QEMU has, by its own client: both versions."""
    tool = shutil.which("gnutls-cli")
    if not tool:
        raise Skip("there is no gnutls-cli")
    with Place() as place:
        ours = certs.authority(place.path("ours"), "ours")
        port = free_port()
        with monitor(place, *creds(ours), "-chardev", f"socket,id=prog,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=t", "-mon", "prog,mode=control"):
            connect(port).close()
            for version in ("VERS-TLS1.2", "VERS-TLS1.3"):
                p = subprocess.run([tool, "--priority", f"NORMAL:-VERS-ALL:+{version}", "--x509cafile", f"{ours}/ca-cert.pem", "--x509certfile", f"{ours}/client-cert.pem",
                                    "--x509keyfile", f"{ours}/client-key.pem", "-p", str(port), "localhost"], input=b'{"execute": "qmp_capabilities"}\n{"execute": "quit1"}\n',
                                   capture_output=True, timeout=60 * SLOW, check=False)
                check(re.search(rb'"QMP".*"return": \{\}.*CommandNotFound', p.stdout, re.S), f"{version}: {p.stdout[-800:]} {p.stderr[-300:]}")


if __name__ == "__main__":
    run_all([("a monitor for programs, one for people, and strangers", servers), ("who says nothing", silent), ("what cannot be", spelled),
             ("objects and chardevs that come later; keys; lodge qmp", live), ("WebSockets", websockets), ("a client that connects again", client),
             ("a guest's console", console), ("QEMU listens", peer_server), ("QEMU connects", peer_client), ("gnutls-cli", gnutls)])
