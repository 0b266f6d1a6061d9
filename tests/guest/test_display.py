#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's generic kernel with its DRM drivers for the VGA and for virtio-gpu, looked at through VNC: the
picture is the guest's own frame buffer, what is typed arrives, the screen follows the viewer's window.

It needs what no small guest has: tests/guest/mkworkloads amd64, and the modules of the same
kernel, from the package file or the folder that LODGE_SCREEN_KERNEL names (a linux-image-amd64
package, unpacked); where they are missing the tests are skipped."""
import glob
import hashlib
import os
import re
import shutil
import subprocess
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


def modules(root, *names):
    """The drivers' modules in order, as a second RAM disk; the kernel."""
    version = os.path.basename(glob.glob(f"{root}/boot/vmlinuz-*")[0])[len("vmlinuz-"):]
    if not os.path.exists(f"{root}/lib/modules/{version}/modules.dep"):     # of thousands of files: ten seconds on a busy machine
        subprocess.run(["/sbin/depmod", "-b", root, version], check=True)
    out = "".join(subprocess.run(["/sbin/modprobe", "-d", root, "-S", version, "--show-depends", name], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout for name in names)
    kos = list(dict.fromkeys(line.split()[1] for line in out.splitlines() if line.startswith("insmod")))
    tree = os.path.join(TMP, "tree/screen")
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(tree)
    for ko in kos:
        shutil.copy(ko, tree)
    with open(os.path.join(tree, "order"), "w") as f:
        f.write("\n".join(map(os.path.basename, kos)) + "\n")
    with open(os.path.join(TMP, "screen.img"), "wb") as f:
        subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, check=True, cwd=os.path.dirname(tree), stdout=f)
    return f"{root}/boot/vmlinuz-{version}", os.path.join(TMP, "screen.img")


def start(vga, module, name, *args):
    stop()
    root, base = os.environ.get("LODGE_SCREEN_KERNEL"), os.path.join(BASE, "amd64/initrd.img")
    if not root:
        raise Skip("LODGE_SCREEN_KERNEL names no unpacked package linux-image-amd64")
    if not os.path.exists(base):
        raise Skip(f"{base} is missing; run tests/guest/mkworkloads amd64")
    kernel, screen = modules(root, module)
    sock = os.path.join(TMP, "vnc")
    vm = State.vm = Vm("--memory", "512M", "--kernel", kernel, "--initrd", base, "--initrd", screen, "--net", "none",
                       "--display", f"vnc=unix:{sock}", "--vga", vga, "--append", "quiet", *args)
    vm.expect(r"# ", 120)
    vm.send("stty -echo; PS1=\n")
    vm.shell("for k in $(cat /screen/order); do insmod /screen/$k; done; echo 0 >/sys/class/graphics/fbcon/cursor_blink", 60)
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
