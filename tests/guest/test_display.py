#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's generic kernel with its DRM drivers for the VGA and for virtio-gpu, looked at through VNC: the
picture is the guest's own frame buffer, what is typed arrives, the screen follows the viewer's window.

It needs what no small guest has, from tests/guest/mkworkloads amd64; where that is missing the tests are skipped."""
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time

import rfb
from guest import Skip, Vm, check, run_all

BASE = os.environ.get("LODGE_WORKLOADS_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/workloads")
TMP = tempfile.mkdtemp(prefix="lodge-test-")


class State:
    vm = view = None


def start(vga, module, name, *args):
    stop()
    kernel, initrd = (os.path.join(BASE, "amd64", f) for f in ("vmlinuz", "initrd.img"))
    for f in (kernel, initrd):
        if not os.path.exists(f):
            raise Skip(f"{f} is missing; run tests/guest/mkworkloads amd64")
    sock = os.path.join(TMP, "vnc")
    vm = State.vm = Vm("--memory", "512M", "--kernel", kernel, "--initrd", initrd, "--net", "none",
                       "--display", f"vnc=unix:{sock}", "--vga", vga, "--append", "quiet", *args)
    vm.expect(r"# ", 120)
    vm.send("stty -echo; PS1=\n")
    if "are-there" not in vm.shell(f"cat /screenmod/{module}.order >/dev/null && echo are-'there'"):
        stop()
        raise Skip(f"the initial RAM disk has no driver {module}; run tests/guest/mkworkloads amd64")
    vm.shell(f"for k in $(cat /screenmod/{module}.order); do insmod /screenmod/$k 2>/dev/null; done; echo 0 >/sys/class/graphics/fbcon/cursor_blink", 60)
    out = vm.shell("dmesg")
    check(f"{name} frame buffer device" in out, f"{module} did not take the adapter")
    State.view = rfb.Rfb(path=sock)


def stop():
    if State.vm:
        State.vm.__exit__(None, None, None)
    State.vm = State.view = None


def start_bochs():
    start("std", "bochs", "bochs-drmdrmfb")


def start_virtio():
    start("virtio", "virtio-gpu", "virtio_gpudrmfb")


def start_gpu():
    start("virtio-gpu,outputs=2", "virtio-gpu", "virtio_gpudrmfb")


def running():
    if State.view is None:
        raise Skip("the guest was not started")
    return State.vm, State.view


def picture():
    vm, v = running()
    vm.shell("clear >/dev/tty1; dmesg >/dev/tty1; ls -la /bin >/dev/tty1")
    time.sleep(0.5)
    want = vm.shell("md5sum /dev/fb0").split()[0]
    for enc in (rfb.RAW, rfb.HEXTILE, rfb.ZRLE, rfb.TIGHT):
        v.set_encodings(enc, rfb.EXT_SIZE)
        data = bytearray(v.refresh())
        data[3::4] = bytes(len(data) // 4)
        check((v.width, v.height) == (1280, 800), f"size {v.width} x {v.height}")
        check(hashlib.md5(data).hexdigest() == want, f"encoding {enc}: not what /dev/fb0 holds")
    check(len(set(data)) > 1, "a picture of one colour proves nothing")


def changes():
    """Only what is written comes, and all of it: a thousand lines later the picture is the frame buffer's."""
    vm, v = running()
    v.set_encodings(rfb.ZRLE, rfb.EXT_SIZE)
    v.refresh()
    vm.send("i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done >/dev/tty1; echo scrolled-$((1+1))\n")
    updates = 0
    while b"scrolled-2" not in vm.out:
        v.update()
        updates += 1
        vm.pump(0)
    v.s.settimeout(2)
    try:
        while True:
            v.update()
    except TimeoutError:
        pass
    want = vm.shell("md5sum /dev/fb0").split()[0]
    data = bytearray(v.picture)
    data[3::4] = bytes(len(data) // 4)
    check(hashlib.md5(data).hexdigest() == want, f"after {updates} updates the picture is not what /dev/fb0 holds")


def typing():
    vm, _ = running()
    v = State.view = rfb.Rfb(path=os.path.join(TMP, "vnc"))
    text = "The quick brown fox, [jumps] over {the} lazy dog; 0123456789 ~!@#$%^&*()_+-=|\\:'\"<>?/`"
    vm.send("cat </dev/tty1 >/tmp/typed & sleep 1; echo ready-$((1+1))\n")
    vm.expect("ready-2")
    v.type(text + "\n")
    vm.shell("for i in $(seq 50); do [ -s /tmp/typed ] && break; usleep 100000; done")
    out = vm.shell("cat /tmp/typed")
    check(text in out, f"typed {text!r}, arrived {out!r}")


def follows():
    """The viewer's window has another size: the driver is told, sets the mode, and the viewer gets it.  (Linux's frame
    buffer console never becomes larger than it was; an X server does.)"""
    vm, v = running()
    v.set_encodings(rfb.ZRLE, rfb.EXT_SIZE)
    v.refresh()
    for w, h in ((1000, 700), (808, 600)):
        v.set_size(w, h)
        for _ in range(50):
            if (v.width, v.height) == (w, h):
                break
            v.update()
        check((v.width, v.height) == (w, h), f"the screen is {v.width} x {v.height}")
        out = vm.shell("head -n1 /sys/class/drm/card0-Virtual-1/modes")
        check(f"{w}x{h}" in out, f"the guest's preferred mode is {out!r}")


def power_off():
    vm, _ = running()
    vm.send("poweroff -f\n")
    check(vm.wait(60) == 0, "the guest did not power off")
    check(not os.path.exists(os.path.join(TMP, "vnc")), "the socket stays behind")


CASES = [("the picture is the frame buffer", picture), ("scrolling, seen by changes", changes), ("what is typed arrives", typing)]
tests = []
for what, begin, more in (("bochs-drm takes the VGA", start_bochs, []), ("virtio-gpu takes over the VGA", start_virtio, [
        ("the screen follows the window", follows)]), ("virtio-gpu without a VGA", start_gpu, [("the screen follows the window", follows)])):
    tests += [(what, begin)] + [(f"{what}: {name}", fn) for name, fn in [*CASES, *more, ("power-off", power_off)]]
try:
    status = run_all(tests)
finally:
    stop()
    shutil.rmtree(TMP, ignore_errors=True)
sys.exit(status)
