#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that start with firmware: SeaBIOS with a boot sector of ours and with GRUB, OVMF with its shell and with
GRUB; both with a kernel of the user's.  All through the serial port."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import fwdisk
from guest import INITRD, KERNEL, Skip, Vm, check, need_guest, run_all

TMP = tempfile.mkdtemp(prefix="lodge-fw-")
DOWN = "\x1b[B"
PLACES = {
    "bios": "/usr/share/seabios/bios-256k.bin",
    "uefi": "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "keys": "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
    "rom": "/usr/share/qemu/linuxboot_dma.bin",
}


def need(*names):
    for n in names:
        if not os.path.exists(PLACES[n]):
            raise Skip(f"{PLACES[n]} is not installed")


def folder(name):
    d = os.path.join(TMP, name)
    os.mkdir(d)
    return d


def vm(*args):
    return Vm("--net", "none", "--shutdown-timeout", "0", "--memory", "256M", *args)


def boot_sector(interface="virtio"):
    need("bios")
    with vm("--disk", f"{fwdisk.boot_sector(folder('sector-' + interface))},if={interface}") as v:
        v.expect(r"lodge boot sector\n", 60)
        v.expect(r"by LBA\n", 10)
        v.expect(r"by CHS\n", 10)
        v.expect(r"key\? ", 10)
        v.send("k")
        v.expect(r"got k!", 10)
        v.send("\r")
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")


def polled_timer():
    """Who only waits for the timer is let sleep, who counts the rounds is not; both wait as long as they should."""
    need("bios")
    slept, took = {}, {}
    for name, each in (("waits", ""), ("counts", "inc %ecx")):
        with vm("--stats", fwdisk.program(folder("timer-" + name), fwdisk.TIMER % each)) as v:
            check(v.wait(60) == 0, f"power-off gave status {v.p.returncode}")
            slept[name], took[name] = (int(re.search(rf"stats: {n} (\d+)", v.err()).group(1)) for n in ("polls slept through", "run_ms"))
    check(slept["waits"] >= 5 and slept["counts"] == 0, f"sleeps: {slept}")
    check(min(took.values()) >= 540, f"the timer came too early: {took} ms for 549")


def boot_menu():
    """The second of two disks, chosen in SeaBIOS's menu."""
    need("bios")
    d = folder("menu")
    img = fwdisk.boot_sector(d)
    empty = os.path.join(d, "empty.img")
    fwdisk.make(empty, 2048)
    with vm(empty, img, "--boot", "menu=60000") as v:
        v.expect(r"Press ESC for boot menu", 60)
        v.send("\x1b")
        v.expect(r"(?s)Select boot device.*2\. ", 20)
        v.send("2")
        v.expect(r"lodge boot sector\n", 20)


def boot_index():
    """The disk with bootindex= is before the one that comes first."""
    need("bios")
    d = folder("index")
    img = fwdisk.boot_sector(d)
    empty = os.path.join(d, "empty.img")
    fwdisk.make(empty, 2048)
    with vm("--disk", empty, "--disk", f"{img},if=nvme,bootindex=0") as v:
        v.expect(r"lodge boot sector\n", 60)


def grub(v, where):
    v.expect(r"lodge-menu", 90)
    v.send("c")
    v.expect(r"grub> ", 30)
    v.send("echo shell of ${grub_platform}\r")
    v.expect(r"shell of (pc|efi)", 30)
    v.send("\x1b")
    v.expect(r"lodge-menu", 30, len(v.text()))
    v.send(DOWN)
    v.send("\r")
    v.expect(r"init reached after", 120)
    check(v.wait(30) == 0, f"{where}: power-off gave status {v.p.returncode}")


def grub_bios():
    need("bios")
    with vm(fwdisk.grub_bios(folder("bios"))) as v:
        grub(v, "BIOS")


def grub_bios_qcow2():
    """The same disk as qcow2."""
    need("bios")
    fwdisk.tool("qemu-img")
    d = folder("qcow2")
    img = os.path.join(d, "disk.qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", fwdisk.grub_bios(d), img], check=True)
    with vm(img) as v:
        grub(v, "BIOS, qcow2")


def grub_efi():
    """Firmware is chosen by the disk; variables are beside it, and found again."""
    need("uefi")
    img = fwdisk.grub_efi(folder("efi"))
    with vm(img) as v:
        grub(v, "UEFI")
        check("efi.img.efivars" in v.err(), f"nothing said of the variables: {v.err()!r}")
    size = os.path.getsize(img + ".efivars")
    with open(img + ".efivars", "rb") as f:
        kept = f.read()
    with open(PLACES["uefi"].replace("CODE", "VARS"), "rb") as f:
        check(kept != f.read() and size == len(kept), "no variable was written")
    check(b"B\0o\0o\0t\0O\0r\0d\0e\0r\0" in kept, "there is no boot order in the variables")


def cd(firmware):
    def test():
        need(firmware)
        with vm("--firmware", firmware, "--cdrom", fwdisk.grub_iso(folder("cd-" + firmware))) as v:
            grub(v, "CD, " + firmware)
    return test


def grub_efi_on(interface):
    def test():
        need("uefi")
        with vm("--disk", f"{fwdisk.grub_efi(folder('efi-' + interface))},if={interface}") as v:
            grub(v, "UEFI, " + interface)
    return test


def secure_boot():
    """With keys among the variables OVMF starts what is signed by one of them, and neither other programs nor its shell."""
    need("uefi", "keys")
    for sign, says in ((False, r"failed to load Boot\d+ .*Access Denied(?s:.*)Shell.*Security Violation(?s:.*)No bootable option"),
                       (True, r"starting Boot\d+ (?s:.*)GNU GRUB  version")):
        d = folder(f"secure-{sign}")
        variables = shutil.copy(PLACES["keys"], d)
        with vm("--disk", fwdisk.grub_efi(d, sign), "--firmware-vars", variables) as v:
            v.expect(says, 90)
            check(sign or "GRUB" not in v.text(), "GRUB ran without a signature")


def uefi_shell():
    need("uefi")
    with vm("--firmware", "uefi") as v:
        v.expect(r"Shell> ", 120)
        v.send("echo forty-two\r")
        v.expect(r"\nforty-two\n", 30)
        v.send("reset -s\r")
        check(v.wait(30) == 0, f"reset -s gave status {v.p.returncode}")


def kernel_under(firmware, *more):
    def test():
        need(firmware, *more)
        need_guest()
        with vm("--firmware", firmware, "--kernel", KERNEL, "--initrd", INITRD, "--append", "quiet lodge.do=poweroff",
                "--fw-cfg", "opt/lodge,string=hello") as v:
            v.expect(r"init reached after", 150)
            check(v.wait(30) == 0, f"power-off gave status {v.p.returncode}")
    return test


QUICK = [
    ("a 16-bit boot sector: INT 10h, INT 13h, INT 16h", boot_sector),
    ("the same from AHCI", lambda: boot_sector("ahci")),
    ("the same from NVMe", lambda: boot_sector("nvme")),
    ("a loop that waits for the timer", polled_timer),
    ("bootindex", boot_index),
    ("SeaBIOS's boot menu", boot_menu),
]
FULL = QUICK + [
    ("SeaBIOS, GRUB on a disk, Linux", grub_bios),
    ("the same as qcow2", grub_bios_qcow2),
    ("SeaBIOS starts a kernel of the user's", kernel_under("bios", "rom")),
    ("the UEFI shell", uefi_shell),
    ("OVMF, GRUB on an ESP, Linux; variables are kept", grub_efi),
    ("OVMF, the same from AHCI", grub_efi_on("ahci")),
    ("OVMF, the same from NVMe", grub_efi_on("nvme")),
    ("Secure Boot without system management mode", secure_boot),
    ("a CD under SeaBIOS", cd("bios")),
    ("a CD under OVMF", cd("uefi")),
    ("OVMF starts a kernel of the user's", kernel_under("uefi")),
]

if __name__ == "__main__":
    try:
        sys.exit(run_all(QUICK if os.environ.get("LODGE_TEST_ACCEL", "interp") == "interp" else FULL))
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
