#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The VGA under SeaBIOS and its VGA BIOS: pictures compared dot by dot with what they must be (text, VBE modes with a
window and with linear memory), and the BIOS's and GRUB's screens read and answered by the keyboard, all through VNC."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import fwdisk
import screen
from guest import Failed, Skip, Vm, check, run_all

TMP = tempfile.mkdtemp(prefix="lodge-bs-")


def need():
    for f in (screen.VGABIOS, "/usr/share/seabios/bios-256k.bin"):
        if not os.path.exists(f):
            raise Skip(f"{f} is not installed")


class Watched:
    """A guest and a viewer of its screen."""

    def __init__(self, d, *args):
        path = os.path.join(d, "vnc")
        self.vm = Vm("--net", "none", "--shutdown-timeout", "0", "--memory", "256M", "--display", f"vnc=unix:{path}", *args)
        try:
            self.screen = screen.Screen(path)
        except BaseException:
            self.vm.__exit__(None, None, None)
            raise

    def __enter__(self):
        return self.vm, self.screen

    def __exit__(self, *exc):
        self.screen.close()
        self.vm.__exit__(*exc)


def folder(name):
    d = os.path.join(TMP, name)
    os.mkdir(d)
    return d


def wait_size(s, width, height, seconds=20):
    """The picture once it has this size."""
    for _ in range(int(seconds * 10 * screen.SLOW)):
        data = s.picture()
        if (s.view.width, s.view.height) == (width, height):
            return data
        screen.time.sleep(0.1)
    raise Failed(f"the screen has {s.view.width} x {s.view.height}, not {width} x {height}")


def settled(s, want, seconds=20):
    """Waits for a picture; on a difference tells where."""
    for _ in range(int(seconds * 10 * screen.SLOW)):
        have = s.picture()
        if have == want:
            return
        screen.time.sleep(0.1)
    check(len(have) == len(want), f"the screen has {s.view.width} x {s.view.height}")
    at = next(i for i in range(0, len(want), 4) if have[i:i + 4] != want[i:i + 4]) // 4
    raise Failed(f"at {at % s.view.width}, {at // s.view.width}: {have[4 * at:4 * at + 4].hex()}, not {want[4 * at:4 * at + 4].hex()}")


def last_key(s, key):
    """One that has the guest power off, maybe before it is up again."""
    try:
        s.view.type(key)
    except OSError:
        pass


def all_characters():
    cells = [(ord(" "), 7)] * 2000
    for n in range(256):
        cells[n // 32 * 80 + n % 32 * 2:n // 32 * 80 + n % 32 * 2 + 2] = [(n, n)] * 2
    return cells


def palette(n):
    def wide(v):
        return v << 2 | v >> 4
    return bytes((wide(63 - (n >> 2)), wide(n * 3 & 63), wide(n >> 2), 0))


def pictures():
    need()
    d = folder("pictures")
    with Watched(d, fwdisk.screens(d)) as (v, s):
        wait_size(s, 720, 400)
        settled(s, screen.draw(all_characters(), s.glyphs))
        s.view.type(" ")
        pens = [palette(n) for n in range(256)]
        settled(s, b"".join(pens[(x ^ y) & 255] for y in range(480) for x in range(640)))
        s.view.type(" ")
        settled(s, b"".join(bytes((x & 255, y & 255, (x ^ y) & 255, 0)) for y in range(768) for x in range(1024)))
        s.view.type(" ")
        s.expect("A", 20)
        last_key(s, " ")
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")


def boot_menu():
    """SeaBIOS's menu on the screen, answered on the keyboard; the disk's own program after it."""
    need()
    d = folder("menu")
    img = fwdisk.boot_sector(d)
    empty = os.path.join(d, "empty.img")
    fwdisk.make(empty, 2048)
    with Watched(d, empty, img, "--boot", "menu=60000") as (v, s):
        s.expect("Press ESC for boot menu")
        s.view.type("\x1b")
        text = s.expect("2. ", 20)
        check("Select boot device" in text, text)
        s.view.type("2")
        s.expect("key?", 20)
        s.view.type("q")
        s.expect("got q!", 20)
        last_key(s, "\n")
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")


def grub_menu():
    """GRUB on the VGA: menu and shell by the keyboard, then the kernel."""
    need()
    d = folder("grub")
    with Watched(d, fwdisk.grub_bios(d, "terminal_input console\nterminal_output console\n")) as (v, s):
        s.expect("lodge-menu", 60)
        s.view.type("c")
        s.expect("grub> ", 20)
        for part in ("echo shell", " of ${grub", "_platform}"):    # the BIOS keeps 15 keys
            s.view.type(part)
            s.expect(part.strip(), 20)
        s.view.type("\n")
        s.expect("\nshell of pc\n", 20)
        s.view.type("\x1b")
        s.expect("lodge-menu", 20)
        s.view.key(0xff54, True)
        s.view.key(0xff54, False)
        s.view.type("\n")
        v.expect("init reached after", 60)
        check(v.wait(20) == 0, f"power-off gave status {v.p.returncode}")


def port_of(v):
    """Of the screen that nobody asked for, as the line about it has it."""
    m = re.search(r"Screen: vnc://127\.0\.0\.1:(\d+)", v.err())
    check(m and 5900 <= int(m.group(1)) < 6000, f"no address in {v.err()!r}")
    return int(m.group(1))


def by_itself():
    """A disk and nothing else: a screen on the loopback, and the serial console as well; of two guests each has its own."""
    need()
    img = fwdisk.boot_sector(folder("itself"))
    other = ("--disk", f"{img},ro")
    with Vm("--net", "none", "--memory", "256M", *other) as v, Vm("--net", "none", "--memory", "256M", *other) as w:
        for g in (v, w):
            g.expect(r"key\? ", 60)
        check(port_of(v) != port_of(w), "two guests share a port")
        s = screen.Screen(port=port_of(v))
        s.expect("key?", 20)
        s.view.type("s")
        v.expect("got s!", 20)
        s.expect("got s!", 20)
        s.close()
        w.send("t")
        w.expect("got t!", 20)


# Takes all ports that a screen may have, and becomes a program.
TAKEN = """
import os, socket, sys
for port in range(5900, 6000):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    s.listen()
    os.set_inheritable(s.detach(), True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def without():
    """Where none is wanted, or none can be had."""
    need()
    img = fwdisk.boot_sector(folder("without"))
    with Vm("--net", "none", "--memory", "256M", "--display", "none", img) as v:
        v.expect(r"key\? ", 60)
        check("Screen" not in v.err(), v.err())
    if subprocess.run(["unshare", "-rn", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip("no network of its own can be made here")
    wrap = ("unshare", "-rn", sys.executable, "-c", TAKEN)
    with Vm("--net", "none", "--memory", "256M", img, wrap=wrap) as v:
        v.expect(r"key\? ", 60)
        check("Screen: not shown: " in v.err(), v.err())
    with Vm("--net", "none", "--memory", "256M", "--display", "vnc", img, wrap=wrap) as v:
        check(v.wait(10) == 1 and "VNC cannot listen" in v.err(), f"{v.p.returncode}: {v.err()}")


if __name__ == "__main__":
    try:
        sys.exit(run_all([
            ("text and VBE modes, dot by dot", pictures),
            ("SeaBIOS's boot menu on screen and keyboard", boot_menu),
            ("GRUB's menu and shell on screen and keyboard", grub_menu),
            ("a screen and a serial console by themselves", by_itself),
            ("no screen", without),
        ]))
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
