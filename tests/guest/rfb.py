# SPDX-License-Identifier: GPL-2.0-or-later
"""A VNC viewer for tests: connects, keeps the picture, types and points.

Speaks RFB 3.8 with no or VNC authentication, over TCP, a unix socket or a
WebSocket, and decodes Raw, Hextile, ZRLE and Tight (without JPEG) with PNG.  The picture
is a bytearray of 4 bytes a pixel: blue, green, red, nothing.
"""
import base64
import os
import socket
import struct
import subprocess
import time
import zlib

RAW, HEXTILE, TIGHT, ZRLE, TIGHT_PNG = 0, 5, 7, 16, -260
CURSOR, CURSOR_ALPHA = -239, -314
SIZE, EXT_SIZE, KEYS, FENCE, CONTINUOUS = -223, -308, -258, -312, -313
POINTER_TYPE = -257
CLIPBOARD = -1063131698
# of the extended clipboard's messages
TEXT, CAPS, REQUEST, PEEK, NOTIFY, PROVIDE = 1, 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28
X_KEYS = {"\n": 0xff0d, "\t": 0xff09, "\b": 0xff08, "\x1b": 0xff1b}
SHIFTED = '~!@#$%^&*()_+{}|:"<>?'


def des(password, challenge):
    """The answer, by openssl: triple DES with three equal keys is DES."""
    key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode()[:8].ljust(8, b"\0"))
    return subprocess.run(["openssl", "enc", "-des-ede3", "-K", (key * 3).hex(), "-nopad"], input=challenge,
                          stdout=subprocess.PIPE, check=True).stdout


def unpng(data):
    """Rows of RGB of a PNG picture without transparency."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    w, h, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 2), (depth, kind)
    at, z = 8, b""
    while at < len(data):
        n, name = struct.unpack(">I4s", data[at:at + 8])
        z += data[at + 8:at + 8 + n] if name == b"IDAT" else b""
        at += n + 12
    raw, out, up = zlib.decompress(z), b"", bytes(3 * w)
    for y in range(h):
        filt, line = raw[y * (3 * w + 1)], bytearray(raw[y * (3 * w + 1) + 1:(y + 1) * (3 * w + 1)])
        for i in range(len(line) if filt else 0):
            a, b, c = line[i - 3] if i > 2 else 0, up[i], up[i - 3] if i > 2 else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            line[i] = line[i] + (0, a, b, (a + b) // 2, paeth)[filt] & 255
        up = bytes(line)
        out += up
    return w, h, out


class Closed(Exception):
    """The server ended the connection."""


class Rfb:
    def __init__(self, port=None, path=None, websocket=False, password=None, timeout=30, tls=None):
        self.s = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.s.settimeout(timeout)
        self.s.connect(path or ("127.0.0.1", port))
        if tls:
            self.s = tls.wrap_socket(self.s)
        self.ws, self.buf = False, b""
        if websocket:
            self.upgrade()
        self.encodings = ()
        self.size_status = None
        self.fences, self.key_ack, self.ended = [], False, 0
        self.absolute = None
        self.cuts, self.clips = [], []          # plain texts; (flags, text or None) of the extended clipboard
        self.clip_caps = 0
        self.mine = None                        # what is on this viewer's clipboard, for who asks
        assert self.read(12) == b"RFB 003.008\n"
        self.write(b"RFB 003.008\n")
        kinds = self.read(self.read(1)[0])
        if not kinds:
            raise Closed(self.read(struct.unpack(">I", self.read(4))[0]))
        kind = kinds[0]
        self.write(bytes([kind]))
        if kind == 2:
            self.write(des(password or "", self.read(16)))
        if struct.unpack(">I", self.read(4))[0]:
            raise Closed(self.read(struct.unpack(">I", self.read(4))[0]).decode())
        self.write(b"\1")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()
        self.picture = bytearray(self.width * self.height * 4)
        self.inflate = [zlib.decompressobj() for _ in range(5)]
        self.rects = self.pngs = 0
        self.cursor = None                      # hot x, hot y, width, height, bytes

    def close(self):
        self.s.close()

    def upgrade(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.s.sendall(("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.s.recv(1)
        assert b" 101 " in head, head
        self.ws = True

    def read(self, n):
        while len(self.buf) < n:
            if self.ws:
                head = self.exact(2)
                size = head[1] & 127
                if size >= 126:
                    size = int.from_bytes(self.exact(2 if size == 126 else 8), "big")
                self.buf += self.exact(size)
                continue
            got = self.s.recv(1 << 20)
            if not got:
                raise Closed("the connection ended")
            self.buf += got
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def exact(self, n):
        out = b""
        while len(out) < n:
            got = self.s.recv(n - len(out))
            if not got:
                raise Closed("the connection ended")
            out += got
        return out

    def write(self, data):
        if self.ws:
            mask = os.urandom(4)
            head = bytes([0x82, 0x80 | len(data)]) if len(data) < 126 else struct.pack(">BBH", 0x82, 0x80 | 126, len(data))
            data = head + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data))
        self.s.sendall(data)

    def set_encodings(self, *encodings):
        self.encodings = encodings
        self.write(struct.pack(">BxH", 2, len(encodings)) + b"".join(struct.pack(">i", e) for e in encodings))

    def request(self, incremental=True):
        self.write(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    # ---- what comes ----

    def message(self):
        """Reads one message; its type."""
        kind = self.read(1)[0]
        if kind == 0:
            self.read(1)
            for _ in range(struct.unpack(">H", self.read(2))[0]):
                self.rect()
        elif kind == 248:
            self.read(3)
            flags, n = struct.unpack(">IB", self.read(5))
            self.fences.append((flags, self.read(n)))
        elif kind == 150:
            self.ended += 1
        elif kind == 3:
            self.cut()
        else:
            raise AssertionError(f"message {kind}")
        return kind

    def cut(self):
        self.read(3)
        n = struct.unpack(">i", self.read(4))[0]
        if n >= 0:
            self.cuts.append(self.read(n).decode("latin1"))
            return
        data = self.read(-n)
        flags, text = struct.unpack(">I", data[:4])[0], None
        if flags & CAPS:
            self.clip_caps = flags
            return
        if flags & PROVIDE:
            raw = zlib.decompress(data[4:])
            assert len(raw) == 4 + struct.unpack(">I", raw[:4])[0] and raw[-1:] == b"\0", raw[:100]
            text = raw[4:-1].decode()
            assert "\n" not in text.replace("\r\n", "")
            text = text.replace("\r\n", "\n")
        self.clips.append((flags, text))
        if flags & REQUEST and self.mine is not None:
            self.provide(self.mine)

    def extended(self, flags, data=b""):
        self.write(struct.pack(">Bxxxi", 6, -4 - len(data)) + struct.pack(">I", flags) + data)

    def provide(self, text):
        raw = text.replace("\n", "\r\n").encode() + b"\0"
        self.extended(PROVIDE | TEXT, zlib.compress(struct.pack(">I", len(raw)) + raw))

    def copy(self, text):
        """Something is copied here: the server is told, and asks when somebody pastes."""
        self.mine = text
        self.extended(NOTIFY | TEXT)

    def until(self, ready, seconds=20):
        """Reads messages until it is so."""
        self.s.settimeout(seconds)
        while not ready():
            self.message()

    def paste(self, seconds=20):
        """What somebody else has copied, after a notification of it."""
        n = len(self.clips)
        self.extended(REQUEST | TEXT)
        self.until(lambda: any(f & PROVIDE for f, _ in self.clips[n:]), seconds)
        return next(t for f, t in self.clips[n:] if f & PROVIDE)

    def update(self, incremental=True):
        self.request(incremental)
        while self.message() != 0:
            pass

    def refresh(self, seconds=30):
        """The whole picture, anew."""
        size = None
        deadline = time.monotonic() + seconds
        while size != (self.width, self.height) and time.monotonic() < deadline:
            size = (self.width, self.height)
            self.update(False)
        return self.picture

    def resize(self, w, h):
        if (w, h) != (self.width, self.height):
            self.width, self.height = w, h
            self.picture = bytearray(w * h * 4)

    def rect(self):
        x, y, w, h, enc = struct.unpack(">HHHHi", self.read(12))
        self.rects += 1
        if enc == SIZE:
            self.resize(w, h)
        elif enc == EXT_SIZE:
            self.read(4 + 16 * self.read(1)[0] - 1)
            if x == 1:
                self.size_status = y
            self.resize(w, h)
        elif enc == KEYS:
            self.key_ack = True
        elif enc == POINTER_TYPE:
            self.absolute = x == 1
        elif enc == CURSOR:
            self.cursor = x, y, w, h, self.read(w * h * 4) + self.read((w + 7) // 8 * h)
        elif enc == CURSOR_ALPHA:
            assert self.read(4) == bytes(4)
            self.cursor = x, y, w, h, self.read(w * h * 4)
        elif enc == RAW:
            self.put(x, y, w, h, self.read(w * h * 4))
        elif enc == HEXTILE:
            self.hextile(x, y, w, h)
        elif enc == ZRLE:
            self.zrle(x, y, w, h)
        elif enc in (TIGHT, TIGHT_PNG):
            self.tight(x, y, w, h)
        else:
            raise AssertionError(f"encoding {enc}")

    def put(self, x, y, w, h, data):
        for j in range(h):
            at = ((y + j) * self.width + x) * 4
            self.picture[at:at + w * 4] = data[j * w * 4:(j + 1) * w * 4]

    def hextile(self, x, y, w, h):
        bg = fg = b"\0" * 4
        for ty in range(y, y + h, 16):
            for tx in range(x, x + w, 16):
                tw, th = min(16, x + w - tx), min(16, y + h - ty)
                mask = self.read(1)[0]
                if mask & 1:
                    self.put(tx, ty, tw, th, self.read(tw * th * 4))
                    continue
                if mask & 2:
                    bg = self.read(4)
                if mask & 4:
                    fg = self.read(4)
                self.put(tx, ty, tw, th, bg * (tw * th))
                for _ in range(self.read(1)[0] if mask & 8 else 0):
                    colour = self.read(4) if mask & 16 else fg
                    pos, size = self.read(2)
                    sw, sh = (size >> 4) + 1, (size & 15) + 1
                    self.put(tx + (pos >> 4), ty + (pos & 15), sw, sh, colour * (sw * sh))

    def zrle(self, x, y, w, h):
        data = self.inflate[4].decompress(self.read(struct.unpack(">I", self.read(4))[0]))
        at = 0

        def pixel():
            nonlocal at
            at += 3
            return data[at - 3:at] + b"\0"
        for ty in range(y, y + h, 64):
            for tx in range(x, x + w, 64):
                tw, th = min(64, x + w - tx), min(64, y + h - ty)
                kind = data[at]
                at += 1
                if kind == 0:
                    out = b"".join(pixel() for _ in range(tw * th))
                elif kind == 1:
                    out = pixel() * (tw * th)
                elif kind <= 16:
                    colours = [pixel() for _ in range(kind)]
                    bits = 1 if kind == 2 else 2 if kind <= 4 else 4
                    rows = []
                    for _ in range(th):
                        n = (tw * bits + 7) // 8
                        line = data[at:at + n]
                        at += n
                        per = 8 // bits
                        rows += [colours[line[i // per] >> (8 - bits - i % per * bits) & ((1 << bits) - 1)] for i in range(tw)]
                    out = b"".join(rows)
                elif kind == 128:
                    out = b""
                    while len(out) < tw * th * 4:
                        colour, n = pixel(), 1
                        while data[at] == 255:
                            n += 255
                            at += 1
                        n += data[at]
                        at += 1
                        out += colour * n
                else:
                    raise AssertionError(f"ZRLE tile {kind}")
                self.put(tx, ty, tw, th, out)
        assert at == len(data)

    def compact(self):
        n = shift = 0
        for i in range(3):
            b = self.read(1)[0]
            n |= (b & 127 if i < 2 else b) << shift
            shift += 7
            if i < 2 and not b & 128:
                break
        return n

    def stream(self, number, n):
        if n < 12:
            return self.read(n)
        out = self.inflate[number].decompress(self.read(self.compact()))
        assert len(out) == n, (len(out), n)
        return out

    def tight(self, x, y, w, h):
        def bgr(rgb):
            return bytes((rgb[2], rgb[1], rgb[0], 0))
        control = self.read(1)[0]
        if control & 0xf0 == 0x80:
            self.put(x, y, w, h, bgr(self.read(3)) * (w * h))
            return
        if control & 0xf0 == 0xa0:
            pw, ph, rgb = unpng(self.read(self.compact()))
            assert (pw, ph) == (w, h)
            out = bytearray(w * h * 4)
            out[0::4], out[1::4], out[2::4] = rgb[2::3], rgb[1::3], rgb[0::3]
            self.put(x, y, w, h, bytes(out))
            self.pngs += 1
            return
        assert control < 0x80, control
        number, palette = control >> 4 & 3, False
        if control & 0x40:
            palette = self.read(1)[0] == 1
        if palette:
            colours = [bgr(self.read(3)) for _ in range(self.read(1)[0] + 1)]
            if len(colours) == 2:
                line = (w + 7) // 8
                data = self.stream(number, line * h)
                out = b"".join(colours[data[j * line + i // 8] >> (7 - i % 8) & 1] for j in range(h) for i in range(w))
            else:
                out = b"".join(colours[i] for i in self.stream(number, w * h))
        else:
            data = self.stream(number, w * h * 3)
            out = bytearray(w * h * 4)
            out[0::4], out[1::4], out[2::4] = data[2::3], data[1::3], data[0::3]
        self.put(x, y, w, h, bytes(out))

    # ---- what goes ----

    def key(self, keysym, down):
        self.write(struct.pack(">BBxxI", 4, down, keysym))

    def qemu_key(self, code, down):
        """A key by its number (set 1)."""
        self.write(struct.pack(">BBHII", 255, 0, down, 0, code))

    def type(self, text):
        for c in text:
            shift = c in SHIFTED or c.isupper()
            if shift:
                self.key(0xffe1, True)
            self.key(X_KEYS.get(c, ord(c)), True)
            self.key(X_KEYS.get(c, ord(c)), False)
            if shift:
                self.key(0xffe1, False)

    def pointer(self, x, y, buttons=0):
        self.write(struct.pack(">BBHH", 5, buttons, x, y))

    def set_size(self, w, h):
        """The window is this large: SetDesktopSize with one screen."""
        self.write(struct.pack(">BxHHBxIHHHHI", 251, w, h, 1, 0, 0, 0, w, h, 0))
