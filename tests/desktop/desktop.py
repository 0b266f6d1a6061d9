#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A desktop used through real viewers: Debian with an X session (tests/desktop/mkdesktop) under virtio-gpu and under
bochs-drm, looked at with TigerVNC's vncviewer and with noVNC in Chromium, on an X server without a screen.

What is checked, each time by pictures: the viewer shows what lodge screenshot takes; a text typed into the viewer is in
the guest's terminal; a click reaches what is under the pointer; the screen takes the size of the viewer's window, also
when that changes, and with bochs-drm keeps its own; what is copied at one side is pasted at the other, through the viewer's
own clipboard and SPICE's agent in the guest; connections by unix socket, TCP with a password, TLS with a certificate, WebSocket.

usage: tests/desktop/desktop.py [PATTERN...]

A long target (three to five minutes): packages xvfb, xdotool, xclip, tigervnc-viewer, tigervnc-common, chromium, novnc, openssl.
LODGE is the program (build/lodge), LODGE_DESKTOP_KEEP a folder that pictures are left in."""
import http.server
import json
import mmap
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../guest"))
os.environ.setdefault("LODGE", os.path.join(HERE, "../../build/lodge"))
os.environ.setdefault("LODGE_TEST_ACCEL", "translate")
from guest import LODGE, Failed, Skip, Vm, check, run_all  # noqa: E402

TMP = tempfile.mkdtemp(prefix="lodge-desktop-")
os.environ["XDG_RUNTIME_DIR"] = TMP
KEEP = os.environ.get("LODGE_DESKTOP_KEEP")
NOVNC = "/usr/share/novnc"
NAVY, GREEN, WHITE = b"\0\0\x80", b"\0\xff\0", b"\xff\xff\xff"
W, H = 1280, 800
XTERM = (41, 41, 764, 404)      # where the session puts it


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")


def until(what, fn, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = fn()
        if got:
            return got
        time.sleep(0.2)
    raise Failed(f"{what}: not within {seconds} s")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Picture:
    """Rows of RGB."""

    def __init__(self, w, h, data):
        self.w, self.h, self.data = w, h, data

    @staticmethod
    def ppm(path):
        with open(path, "rb") as f:
            data = f.read()
        m = re.match(rb"P6\n(\d+) (\d+)\n255\n", data)
        return Picture(int(m[1]), int(m[2]), data[m.end():])

    def at(self, x, y):
        i = 3 * (y * self.w + x)
        return self.data[i:i + 3]

    def part(self, x, y, w, h):
        return Picture(w, h, b"".join(self.data[3 * (r * self.w + x):3 * (r * self.w + x + w)] for r in range(y, y + h)))

    def __eq__(self, other):
        return (self.w, self.h, self.data) == (other.w, other.h, other.data)

    def save(self, name):
        if KEEP:
            with open(os.path.join(KEEP, name + ".ppm"), "wb") as f:
                f.write(b"P6\n%d %d\n255\n" % (self.w, self.h) + self.data)


class Screen:
    """An X server without a screen, whose picture is a file in the format of xwd."""

    def __init__(self, w, h):
        need("Xvfb", "xdotool")
        self.dir = tempfile.mkdtemp(dir=TMP)
        r, wfd = os.pipe()
        self.p = subprocess.Popen(["Xvfb", "-displayfd", str(wfd), "-screen", "0", f"{w}x{h}x24", "-nolisten", "tcp", "-fbdir", self.dir],
                                  pass_fds=[wfd], stderr=subprocess.DEVNULL)
        os.close(wfd)
        with os.fdopen(r) as f:
            self.name = ":" + f.readline().strip()
        self.env = {**os.environ, "DISPLAY": self.name}
        self.w, self.h = w, h

    def close(self):
        self.p.kill()
        self.p.wait()

    def picture(self):
        with open(os.path.join(self.dir, "Xvfb_screen0"), "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            head = struct.unpack(">25I", m[:100])
            at, line = head[0] + 12 * head[19], head[12]
            raw = m[at:at + line * self.h]
        out = bytearray(3 * self.w * self.h)
        px = b"".join(raw[y * line:y * line + 4 * self.w] for y in range(self.h))
        order = (2, 1, 0) if not head[7] else (1, 2, 3)
        for i in range(3):
            out[i::3] = px[order[i]::4]
        return Picture(self.w, self.h, bytes(out))

    def copy(self, text):
        """Something is on the clipboard of this screen."""
        need("xclip")
        subprocess.run(["xclip", "-selection", "clipboard"], input=text.encode(), env=self.env, stdout=subprocess.DEVNULL, check=True)

    def pasted(self):
        p = subprocess.run(["timeout", "5", "xclip", "-selection", "clipboard", "-o"], env=self.env, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
        return p.stdout.decode(errors="replace")

    def xdo(self, *args):
        return subprocess.run(["xdotool", *map(str, args)], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout

    def window(self, name):
        found = until(f"a window '{name}'", lambda: self.xdo("search", "--onlyvisible", "--name", name).split(), 40)
        self.xdo("windowfocus", found[-1])
        return found[-1]


class Desktop:
    """The guest."""

    def __init__(self, vga, *display):
        base = subprocess.run([os.path.join(HERE, "mkdesktop")], stdout=subprocess.PIPE, text=True)
        if base.returncode:
            raise Skip("tests/desktop/mkdesktop could not make the guest")
        d = base.stdout.strip()
        disk = os.path.join(tempfile.mkdtemp(dir=TMP), "disk.qcow2")
        subprocess.run([LODGE, "img", "create", "-q", "-f", "qcow2", "-b", f"{d}/disk.raw", "-F", "raw", disk], check=True)
        self.name = f"desktop-{vga}"
        self.vm = Vm("--name", self.name, "--cpus", "2", "--memory", "1G", "--vga", vga, "--display", ",".join(display), "--net", "none", "--clipboard", "on",
                     "--kernel", f"{d}/vmlinuz", "--initrd", f"{d}/initrd.img", "--append", "root=/dev/vda rw quiet console=ttyS0",
                     "--disk", f"{disk},backing=on", "--shutdown-timeout", "0")
        self.vm.expect(r"desktop:~# ", 120)
        self.vm.send("stty -echo; PS1=; export TERM=dumb DISPLAY=:0\n")
        until("the terminal on the guest's screen", lambda: self.session_is_there(), 60)

    def session_is_there(self):
        try:
            p = self.shot()
        except Failed:
            return False
        return (p.w, p.h) == (W, H) and p.at(100, 300) == WHITE and p.at(1000, 700) == NAVY

    def shot(self):
        path = os.path.join(TMP, "shot.ppm")
        p = subprocess.run([LODGE, "screenshot", self.name, path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        check(p.returncode == 0, p.stderr)
        return Picture.ppm(path)

    def shell(self, command):
        return self.vm.shell(command)

    def agent(self):
        """SPICE's agent is there, and has been told what the clipboard may hold."""
        until("the agent", lambda: "Set max clipboard" in self.shell("journalctl -b -u spice-vdagentd | cat"), 60)

    def close(self):
        self.vm.__exit__(None, None, None)


class Viewer:
    """vncviewer on its screen, at the top left; what it shows begins at x, y."""

    def __init__(self, screen, *args):
        need("vncviewer")
        self.screen = screen
        self.p = subprocess.Popen(["vncviewer", "-Shared", "-geometry", f"{W}x{H}+0+0", *args],
                                  env={**screen.env, "HOME": TMP}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.id = screen.window("TigerVNC")
        geo = screen.xdo("getwindowgeometry", "--shell", self.id)
        self.x, self.y = (int(re.search(rf"^{k}=(\d+)", geo, re.M)[1]) for k in "XY")

    def size(self, w, h):
        self.screen.xdo("windowsize", self.id, w, h)

    def close(self):
        self.p.terminate()
        self.p.wait()


class Inspector:
    """The page in a Chromium, by its DevTools protocol."""

    def __init__(self, folder):
        port = int(until("Chromium's DevTools", lambda: os.path.exists(f"{folder}/DevToolsActivePort") and
                         open(f"{folder}/DevToolsActivePort").readline().strip(), 40))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as f:
            page = next(p for p in json.load(f) if p["type"] == "page")
        self.s = socket.create_connection(("127.0.0.1", port))
        self.s.settimeout(20)
        self.f = self.s.makefile("rb")
        self.s.sendall(f"GET {urllib.parse.urlparse(page['webSocketDebuggerUrl']).path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while self.f.readline().strip():
            pass

    def value(self, script):
        """What the script comes to."""
        text = json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": script, "returnByValue": True}}).encode()
        head = struct.pack(">BBH", 0x81, 0x80 | 126, len(text)) + bytes(4)
        self.s.sendall(head + text)
        while True:
            size = self.f.read(2)[1] & 127
            if size >= 126:
                size = int.from_bytes(self.f.read(2 if size == 126 else 8), "big")
            answer = json.loads(self.f.read(size))
            if answer.get("id") == 1:
                return answer["result"]["result"].get("value")

    def close(self):
        self.s.close()


class Browser:
    """noVNC in Chromium, in a window without decoration."""

    def __init__(self, screen, port, **query):
        need("chromium")
        if not os.path.exists(f"{NOVNC}/vnc.html"):
            raise Skip("noVNC is not installed")

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *a):
                super().__init__(*a, directory=NOVNC)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        args = "&".join(f"{k}={v}" for k, v in {"autoconnect": 1, "host": "127.0.0.1", "port": port, "path": "", "shared": 1, **query}.items())
        self.screen = screen
        self.folder = tempfile.mkdtemp(dir=TMP)
        self.inspector = None
        self.p = subprocess.Popen(
            ["chromium", "--remote-debugging-port=0", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--test-type", "--kiosk",
             f"--user-data-dir={self.folder}", "--window-position=0,0", f"--window-size={screen.w},{screen.h}",
             f"http://127.0.0.1:{self.http.server_port}/vnc.html?{args}"],
            env=screen.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.id = screen.window("noVNC")
        self.x = self.y = 0

    def page(self, script):
        self.inspector = self.inspector or Inspector(self.folder)
        return self.inspector.value(script)

    def copy(self, text):
        """Into noVNC's clipboard, a field of its panel, as somebody would who pastes there."""
        self.page("(t => { t.value = %s; t.dispatchEvent(new Event('change')); })(document.getElementById('noVNC_clipboard_text'))" % json.dumps(text))

    def pasted(self):
        return self.page("document.getElementById('noVNC_clipboard_text').value")

    def size(self, w, h):
        self.screen.xdo("windowsize", self.id, w, h)

    def close(self):
        if self.inspector:
            self.inspector.close()
        try:
            os.killpg(self.p.pid, 15)
            self.p.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.p.pid, 9)
            self.p.wait()
        self.http.shutdown()


# ---- what is done in each ----

def shows(desk, viewer, name):
    """The viewer's window holds the guest's picture, but for the corner where the pointer is and, at the left, noVNC's handle."""
    def same():
        viewer.screen.xdo("mousemove", viewer.x + 1200, viewer.y + 700)
        time.sleep(0.3)
        want, got = desk.shot(), viewer.screen.picture()
        got.save(name)
        return all(want.part(*r) == got.part(viewer.x + r[0], viewer.y + r[1], r[2], r[3])
                   for r in ((20, 0, W - 28, 600), (20, 600, 1080, 190)))
    until(f"{name}: the viewer shows what the guest does", same, 30)


def goes_to(viewer, x, y):
    viewer.screen.xdo("mousemove", viewer.x + x, viewer.y + y)
    time.sleep(0.4)


def types(desk, viewer, name):
    """Into the terminal under the pointer; what it prints is on both screens and in a file."""
    goes_to(viewer, 300, 250)
    # vncviewer with the keyboard grabbed passes no motion of xdotool's on by itself, only with a button.
    viewer.screen.xdo("click", 1)
    time.sleep(0.5)
    before = desk.shot().part(*XTERM[:2], 700, 300)
    said = "Typed: {in} ~" + name + "~ [x] <y> #$%&"
    desk.shell("rm -f /tmp/typed")
    viewer.screen.xdo("type", "--delay", 60, f"echo '{said}' | tee /tmp/typed")
    viewer.screen.xdo("key", "Return")
    try:
        until("what was typed arrived", lambda: said in desk.shell("cat /tmp/typed 2>/dev/null"), 15)
    except Failed:
        viewer.screen.picture().save(name + "-typed-wrong")
        raise
    check(desk.shot().part(*XTERM[:2], 700, 300) != before, "what was typed is not on the screen")


def clicks(desk, viewer):
    """On the root window, which the session then paints green."""
    goes_to(viewer, 900, 600)
    check(desk.shot().at(1000, 700) == NAVY, "the background is not as it was")
    viewer.screen.xdo("click", 1)
    until("the click arrived", lambda: desk.shot().at(1000, 700) == GREEN, 15)
    desk.shell("xsetroot -solid navy")


def resizes(desk, viewer, w, h):
    viewer.size(w, h)
    until(f"the guest's screen has {w} x {h}", lambda: (lambda p: (p.w, p.h) == (w, h))(desk.shot()), 20)
    check(f"current {w} x {h}" in desk.shell("xrandr"), "the guest says so, too")


PASTE = "echo 'pasted \u00e4 {} ok' | tee /tmp/pasted\n"


def pastes(desk, viewer, name, copy, pasted):
    """A text from the viewer's clipboard into the guest's terminal, by the key that pastes there, and a word of the
    terminal's, marked by two clicks, out."""
    goes_to(viewer, 300, 250)
    viewer.screen.xdo("click", 1)
    time.sleep(0.5)
    line = PASTE.replace("{}", name)
    desk.shell("rm -f /tmp/pasted")
    copy(line)
    until("the guest has the clipboard's text", lambda: line.strip() in desk.shell("timeout 5 xclip -selection clipboard -o"), 20)
    viewer.screen.xdo("key", "shift+Insert")
    time.sleep(1)
    viewer.screen.xdo("key", "Return")          # the shell knows that it is pasted, and waits for a key
    until("what was pasted arrived", lambda: re.search(f"pasted .+ {name} ok", desk.shell("cat -v /tmp/pasted 2>/dev/null")), 15)
    word = "Marked-" + name.replace("novnc", "n")
    viewer.screen.xdo("type", "--delay", 60, "clear; echo " + word)
    viewer.screen.xdo("key", "Return")
    time.sleep(1)
    goes_to(viewer, XTERM[0] + 3 + 4 * 9, XTERM[1] + 3 + 6)     # the first line is what echo printed
    viewer.screen.xdo("click", "--repeat", 2, "--delay", 150, 1)
    # xterm takes "-" for the end of a word.
    until("the viewer's clipboard has what was marked in the guest", lambda: pasted() in (word, "Marked"), 20)


# ---- cases ----

def vncviewer_unix(vga, follows):
    screen = Screen(1700, 1000)
    sock = os.path.join(TMP, f"{vga}-vnc")
    desk = viewer = None
    try:
        desk = Desktop(vga, f"vnc=unix:{sock}")
        viewer = Viewer(screen, "-SecurityTypes=None", f"-RemoteResize={int(follows)}", sock)
        shows(desk, viewer, f"{vga}-viewer")
        types(desk, viewer, "vncviewer")
        clicks(desk, viewer)
        desk.agent()
        pastes(desk, viewer, "vncviewer", screen.copy, screen.pasted)
        clicks(desk, viewer)
        shows(desk, viewer, f"{vga}-viewer-2")
        if follows:
            resizes(desk, viewer, 1000, 720)
            resizes(desk, viewer, 1600, 900)
            resizes(desk, viewer, W, H)
            shows(desk, viewer, f"{vga}-viewer-3")
    finally:
        end(viewer, desk, screen)


def certificate():
    need("openssl")
    key, cert = os.path.join(TMP, "key.pem"), os.path.join(TMP, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
    return key, cert


def secured():
    """TCP: password; TLS with a certificate and password."""
    need("vncpasswd")
    key, cert = certificate()
    with open(os.path.join(TMP, "password"), "w") as f:
        f.write("open-it\n")
    with open(os.path.join(TMP, "passwd"), "wb") as f:
        f.write(subprocess.run(["vncpasswd", "-f"], input=b"open-it\n", stdout=subprocess.PIPE, check=True).stdout)
    for name, options, args in (("password", [], ["-SecurityTypes=VncAuth"]),
                                ("tls", [f"tls-cert={cert}", f"tls-key={key}"], ["-SecurityTypes=X509Vnc", f"-X509CA={cert}"])):
        screen = Screen(1400, 900)
        n = free_port() % 20000 + 20000
        desk = viewer = None
        try:
            desk = Desktop("virtio", f"vnc=localhost:{n - 5900}", f"password-file={TMP}/password", *options)
            viewer = Viewer(screen, "-RemoteResize=0", f"-PasswordFile={TMP}/passwd", *args, f"localhost::{n}")
            shows(desk, viewer, name)
            types(desk, viewer, name)
        finally:
            end(viewer, desk, screen)


def novnc():
    screen = Screen(W, H)
    port = free_port()
    desk = browser = None
    try:
        desk = Desktop("virtio", f"vnc=unix:{TMP}/novnc", f"websocket={port}")
        browser = Browser(screen, port, resize="remote")
        screen.xdo("mousemove", 900, 600)
        until("noVNC is connected", lambda: screen.picture().at(1000, 700) == NAVY, 40)
        shows(desk, browser, "novnc")
        screen.xdo("click", 1)          # gives the canvas the keyboard, and is a click on the root window
        until("the click arrived", lambda: desk.shot().at(1000, 700) == GREEN, 15)
        desk.shell("xsetroot -solid navy")
        types(desk, browser, "novnc")
        clicks(desk, browser)
        desk.agent()
        pastes(desk, browser, "novnc", browser.copy, browser.pasted)
        shows(desk, browser, "novnc-2")
        resizes(desk, browser, 1000, 640)
        resizes(desk, browser, W, H)
    finally:
        end(browser, desk, screen)


def novnc_resizes():
    """The window is not of the guest's size: the guest takes the window's."""
    screen = Screen(1104, 700)
    port = free_port()
    desk = browser = None
    try:
        desk = Desktop("virtio", f"vnc=unix:{TMP}/novnc2", f"websocket={port}")
        browser = Browser(screen, port, resize="remote")
        geo = screen.xdo("getwindowgeometry", "--shell", browser.id)
        size = tuple(int(re.search(rf"^{k}=(\d+)", geo, re.M)[1]) for k in ("WIDTH", "HEIGHT"))
        check(size != (W, H), "the window has another size than the guest had")
        until("the guest's screen is as the window", lambda: (lambda p: (p.w, p.h) == size)(desk.shot()), 60)
        screen.picture().save("novnc-resized")
    finally:
        end(browser, desk, screen)


def end(*things):
    for t in things:
        if t:
            t.close()


def main():
    tests = [("virtio-gpu, vncviewer on a unix socket", lambda: vncviewer_unix("virtio", True)),
             ("bochs-drm, vncviewer on a unix socket", lambda: vncviewer_unix("std", False)),
             ("virtio-gpu, vncviewer with password and with TLS", secured),
             ("virtio-gpu, noVNC in Chromium", novnc),
             ("virtio-gpu, noVNC's window decides the size", novnc_resizes)]
    try:
        return run_all(tests)
    finally:
        shutil.rmtree(TMP, ignore_errors=True)


sys.exit(main())
