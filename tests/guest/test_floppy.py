#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Floppy drives: under SeaBIOS a 16-bit program from each kind of medium that reads and writes sectors and reads keys; media
that are write-protected, changed and ejected; Linux's floppy driver in Debian's kernel."""
import hashlib
import os
import shutil
import sys
import tempfile

import fwdisk
from guest import Skip, Vm, check, run_all
from qmp import Qmp, QmpError
from test_storage import generic

TMP = tempfile.mkdtemp(prefix="lodge-fd-")


def folder(name):
    d = os.path.join(TMP, name)
    os.makedirs(d)
    return d


def need():
    if not os.path.exists(fwdisk.FIRMWARE["bios"][0]):
        raise Skip("SeaBIOS is not installed")


def vm(*args):
    return Vm("--net", "none", "--shutdown-timeout", "0", "--memory", "64M", *args)


def written(img, size, byte):
    _, sectors = fwdisk.FLOPPIES[size]
    with open(img, "rb") as f:
        f.seek((5 * 2 * sectors + 2) * 512)
        check(f.read(512) == byte * 512, "the image has not what was written")


def boots(size):
    need()
    img = fwdisk.floppy(folder(size), size)
    with vm("--floppy", img) as v:
        v.expect(r"lodge floppy\n", 30)
        v.expect(r"second sector\n", 10)
        v.expect(r"last sector\n", 10)
        v.expect(r"key\? ", 10)
        v.send("w")
        v.expect(r"wrote w!", 10)
        v.send("\r")
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")
    written(img, size, b"w")


def order():
    """A disk that could be booted comes first unless the order says otherwise; what has no boot sector is passed over; the second drive has a
    place of its own."""
    need()
    d = folder("order")
    img = fwdisk.floppy(d, "1440K")
    disk = fwdisk.boot_sector(folder("order-disk"))
    with vm("--floppy", img, "--disk", disk) as v:
        v.expect(r"lodge boot sector\n", 30)
    with vm("--floppy", img, "--disk", disk, "--boot", "a") as v:
        v.expect(r"lodge floppy\n", 30)
    blank = os.path.join(d, "blank.img")
    fwdisk.make(blank, 2880)
    with vm("--floppy", blank, "--disk", disk, "--boot", "ac") as v:
        v.expect(r"lodge boot sector\n", 30)
    with vm("--floppy", "", "--disk", disk, "--floppy", f"{img},bootindex=0") as v:
        v.expect(r"lodge floppy\n", 30)
        v.expect(r"last sector\n", 10)


def protected():
    """INT 13h's error 3."""
    need()
    img = fwdisk.floppy(folder("protected"), "1440K")
    with vm("--floppy", f"{img},ro") as v:
        v.expect(r"key\? ", 30)
        v.send("w")
        v.expect(r"disk error AD\n", 10)
    written(img, "1440K", b"\0")


def noise(path, kib):
    data = os.urandom(kib << 10)
    with open(path, "wb") as f:
        f.write(data)
    return data


def digest(data):
    return hashlib.sha256(data).hexdigest()


def linux():
    """Debian's driver: reads, writes, media that are changed and taken out, one that is write-protected."""
    d = folder("linux")
    a, b, c, sock = (os.path.join(d, n) for n in ("a", "b", "c", "qmp"))
    first, second, small = noise(a, 1440), noise(b, 1440), noise(c, 720)
    with generic("--floppy", f"{a},format=raw", "--floppy", f"{b},format=raw,ro", "--qmp", f"unix:{sock},wait=off", cpus=1) as v, Qmp(sock) as q:
        v.expect("init reached", 60)
        v.expect("/ # ", 30)
        v.shell("alias poweroff='poweroff -f'")
        if "floppy.ko" not in v.shell("cat /partmod/order").split():
            raise Skip("the initial RAM disk has no driver floppy; run tests/guest/mkworkloads amd64")
        out = v.shell("insmod /partmod/floppy.ko; dmesg | grep -iE 'floppy|fdc'")
        check("fd0 is 1.44M" in out and "fd1 is 1.44M" in out and "FDC 0 is" in out, f"the driver found {out!r}")
        check("PNP0700" in v.shell("cat /sys/bus/acpi/devices/PNP0700*/hid"), "ACPI has no controller")
        out = v.shell("sha256sum /dev/fd0 /dev/fd1", 60)
        check(digest(first) in out and digest(second) in out, f"they read otherwise: {out!r}")
        out = v.shell("dd if=/dev/urandom of=/tmp/r bs=1k count=100 2>/dev/null; dd if=/tmp/r of=/dev/fd0 bs=1k seek=333 conv=fsync 2>&1; sha256sum /tmp/r; "
                      "dd if=/dev/zero of=/dev/fd1 bs=1k count=1 conv=fsync")
        with open(a, "rb") as f:
            now = f.read()
        check(digest(now[333 << 10:433 << 10]) in out, f"the image has not what was written: {out!r}")
        check(now[:333 << 10] == first[:333 << 10] and now[433 << 10:] == first[433 << 10:], "more was written")
        check("Read-only" in out or "not permitted" in out, f"fd1 is write-protected: {out!r}")
        info = [i for i in q.cmd("query-block") if i["device"] == "disk0"][0]
        check(info["removable"] and "tray_open" not in info and "inserted" in info, f"query-block has {info}")
        q.cmd("blockdev-change-medium", device="disk0", filename=c, format="raw")
        out = v.shell("sha256sum /dev/fd0", 60)
        check(digest(small) in out, f"after the change of media: {out!r}")
        q.cmd("eject", device="disk0")
        out = v.shell("sha256sum /dev/fd0; dmesg | tail -3")
        check(digest(small) not in out and "sha256sum:" in out, f"without a medium: {out!r}")
        try:
            q.cmd("blockdev-change-medium", device="disk0", filename=fwdisk.floppy(d, "360K"))
            check(False, "a drive of 3.5 inches took a medium of 5.25")
        except QmpError as e:
            check("368640 bytes" in e.desc, e.desc)
        q.cmd("blockdev-change-medium", device="disk0", filename=a, format="raw")
        out = v.shell("sha256sum /dev/fd0", 60)
        check(digest(now) in out, f"the first one again: {out!r}")
        out = v.shell("dmesg | grep -iE 'floppy.*(time[o]ut|unex[p]ected|over[r]un)'")
        check(not any(w in out for w in ("timeout", "unexpected", "overrun")), f"the driver complains: {out!r}")
        v.send("poweroff -f\n")
        check(v.wait(60) == 0, f"the guest ended with status {v.p.returncode}")


if __name__ == "__main__":
    try:
        sys.exit(run_all([(f"SeaBIOS boots, reads and writes {s}", lambda s=s: boots(s)) for s in fwdisk.FLOPPIES] + [
            ("the boot order", order),
            ("a write-protected medium", protected),
            ("Linux's driver, media change", linux),
        ], jobs=2))
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
