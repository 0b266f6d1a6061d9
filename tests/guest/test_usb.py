#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""USB: firmware and Linux on a USB disk, a USB keyboard in GRUB, what is typed and pointed as Linux' drivers see it.

Debian's generic kernel and its modules come from tests/guest/mkworkloads amd64; what is missing is skipped.
"""
import hashlib
import os
import re
import shutil
import struct
import sys
import tempfile
import time

import fwdisk
import rfb
from guest import Skip, check, run_all
from test_firmware import folder, need, vm
from test_storage import MIB, at_shell, empty, generic, power_off, same

TMP = tempfile.mkdtemp(prefix="lodge-usb-")


def screen(name):
    """Arguments for a screen that a viewer of ours can reach, and where."""
    path = os.path.join(TMP, name)
    return path, ["--usb", "kbd", "--display", f"vnc=unix:{path}"]


def press(view, *keysyms):
    for k in keysyms:
        view.key(k, True)
        view.key(k, False)


RETURN, DOWN = 0xff0d, 0xff54
# GRUB with the BIOS's keyboard, seen on the serial port.
KEYBOARD = "serial --unit=0 --speed=115200\nterminal_input console\nterminal_output serial\n"


def boot_sector():
    """SeaBIOS boots a USB disk, reads it by LBA and CHS; the USB keyboard answers INT 16h."""
    need("bios")
    path, args = screen("sector")
    with vm("--disk", fwdisk.boot_sector(folder("usb-sector")) + ",if=usb", *args) as v:
        v.expect(r"by CHS\n", 60)
        v.expect(r"key\? ", 10)
        view = rfb.Rfb(path=path)
        press(view, ord("k"))
        v.expect(r"got k!", 10)
        press(view, RETURN)
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")


def grub(firmware, disk):
    def test():
        need(firmware)
        path, args = screen(firmware)
        with vm("--disk", disk(folder(f"usb-{firmware}")) + ",if=usb", *args) as v:
            v.expect(r"lodge-menu", 90)
            time.sleep(0.5)
            press(rfb.Rfb(path=path), DOWN, RETURN)
            v.expect(r"init reached after", 60)
            check(v.wait(30) == 0, f"power-off gave status {v.p.returncode}")
    return test


def ready(v, *nodes):
    at_shell(v, "xhci-pci")
    v.send("stty -echo\n")
    v.shell("for i in $(seq 40); do " + "".join(f"[ -e {n} ] && " for n in nodes) + "break; sleep 0.3; done", 60)


def storage():
    with tempfile.TemporaryDirectory() as d:
        a, cd = empty(d, "a", 64 * MIB), os.path.join(d, "cd")
        noise = os.urandom(2048 * 700)
        with open(cd, "wb") as f:
            f.write(noise)
        with generic("--disk", f"{a},format=raw,if=usb,serial=lodge-usb-a", "--disk", f"{cd},format=raw,if=usb,cdrom=on") as v:
            ready(v, "/dev/sda", "/dev/sr0")
            out = v.shell("cat /sys/bus/usb/devices/*/serial; cat /sys/bus/usb/devices/*/speed; sha256sum /dev/sr0")
            check("lodge-usb-a" in out and "5000" in out, f"the guest sees {out!r}")
            check(hashlib.sha256(noise).hexdigest() in out, f"the CD reads otherwise: {out!r}")
            same(v, "/dev/sda", 64)
            # The controller goes and comes back.
            out = v.shell("cd /sys/bus/pci/drivers/xhci_hcd; for n in 0*; do echo $n >unbind; echo $n >bind; done; cd /; for i in $(seq 40); do "
                          "for s in /sys/block/sd*; do [ -e $s ] && break 2; done; sleep 0.3; done; sleep 1; echo dev-is-$(ls /sys/block | grep sd)", 60)
            dev = re.search(r"dev-is-(sd[a-z])", out)
            check(dev, f"after a reset the disk is gone: {out!r}")
            out = v.shell(f"dd if=/dev/{dev.group(1)} bs=64k count=64 2>/dev/null | cmp - /tmp/r && echo are-'same'")
            check("are-same" in out, f"after a reset: {out!r}")
            out = v.shell("dmesg | grep -iE 'xhci.*(error|warn|died|timeout)|usb.*reset|I/O error'")
            check("xhci" not in out.lower() and "reset" not in out, f"the driver complains: {out!r}")
            power_off(v)


def events(text):
    """(type, code, value) of struct input_event, from hexdump's bytes."""
    data = bytes(int(b, 16) for b in re.findall(r"\b[0-9a-f]{2}\b", text))
    return [struct.unpack_from("<HHi", data, i + 16) for i in range(0, len(data) - 23, 24)]


def record(v, name, seconds, act):
    """What the device of that name says while act runs."""
    v.shell(f"n=$(grep -A5 'Name=.*{name}' /proc/bus/input/devices | sed -n 's/.*\\(event[0-9]*\\).*/\\1/p' | head -n1); "
            f"timeout {seconds} cat /dev/input/$n >/tmp/ev & sleep 1")
    act()
    out = v.shell(f"sleep {seconds}; hexdump -ve '24/1 \"%02x \"' -e '\"\\n\"' /tmp/ev")
    return events(out)


def people():
    """A viewer types and points; the tablet that a display brings, and a USB keyboard."""
    path, args = screen("people")
    with generic(*args) as v:
        ready(v, "/dev/input/event3")
        view = rfb.Rfb(path=path)

        def typing():
            view.type("aB")
        got = record(v, "USB Keyboard", 3, typing)
        keys = [(code, val) for kind, code, val in got if kind == 1 and val != 2]
        check(keys == [(30, 1), (30, 0), (42, 1), (48, 1), (48, 0), (42, 0)], f"keys arrived as {keys}")
        view.set_encodings(rfb.RAW, rfb.EXT_SIZE, rfb.POINTER_TYPE)
        view.refresh()
        check(view.absolute is False, "nobody reads the tablet, and positions are taken")

        def pointing():
            # The guest asks the tablet now, and a viewer who knows of that is told.
            while not view.absolute:
                view.update()
            view.pointer(0, 0)
            view.pointer(view.width - 1, view.height // 2, 1)
            view.pointer(view.width - 1, view.height // 2, 0)
        got = record(v, "USB Tablet", 3, pointing)
        check((3, 0, 32767) in got, f"no position in {got}")
        check((1, 272, 1) in got and (1, 272, 0) in got, f"no click in {got}")
        power_off(v)


def suspend():
    """The port of the keyboard sleeps, and a key wakes it."""
    path, args = screen("suspend")
    with generic(*args) as v:
        ready(v, "/dev/input/event2")
        out = v.shell("for d in /sys/bus/usb/devices/*-*; do grep -q Keyboard $d/product 2>/dev/null && { echo enabled >$d/power/wakeup; "
                      "echo 0 >$d/power/autosuspend_delay_ms; echo auto >$d/power/control; echo $d >/tmp/d; }; done; sleep 3; cat $(cat /tmp/d)/power/runtime_status")
        if "suspended" not in out:
            raise Skip(f"the guest does not suspend it: {out.strip()[-60:]!r}")
        n = int(v.shell("cat $(cat /tmp/d)/power/runtime_active_time").split()[-1])
        press(rfb.Rfb(path=path), ord("a"))
        out = v.shell("sleep 0.5; cat $(cat /tmp/d)/power/runtime_active_time")
        check(int(out.split()[-1]) > n, f"it did not wake: {out!r}")
        power_off(v)


QUICK = [("SeaBIOS: a boot sector on a USB disk, keys from a USB keyboard", boot_sector)]
FULL = QUICK + [
    ("SeaBIOS, GRUB and Linux from USB, USB keyboard", grub("bios", lambda d: fwdisk.grub_bios(d, KEYBOARD))),
    ("OVMF, GRUB and Linux from USB, USB keyboard", grub("uefi", fwdisk.grub_efi)),
    ("Linux: a USB disk and CD, reset", storage),
    ("Linux: a viewer's keys and pointer", people),
    ("Linux: suspend and remote wakeup", suspend),
]

if __name__ == "__main__":
    try:
        sys.exit(run_all(QUICK if os.environ.get("LODGE_TEST_ACCEL", "interp") == "interp" else FULL, 2))
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
