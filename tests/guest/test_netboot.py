#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that boot from the user network: iPXE as option ROM under SeaBIOS and OVMF, OVMF's own PXE; a script and a
program by TFTP, a kernel from a web server on the host's loopback."""
import functools
import http.server
import os
import shutil
import sys
import tempfile
import threading

import fwdisk
from guest import INITRD, KERNEL, Skip, Vm, check, need_guest, run_all

TMP = tempfile.mkdtemp(prefix="lodge-net-")
IPXE = "/usr/lib/ipxe/qemu"
SEABIOS, OVMF = "/usr/share/seabios/bios-256k.bin", "/usr/share/OVMF/OVMF_CODE_4M.fd"


def need(*files):
    for f in files:
        if not os.path.exists(f):
            raise Skip(f"{f} is not installed")


def folder(name, script=None):
    d = os.path.join(TMP, name)
    os.mkdir(d)
    if script:
        with open(os.path.join(d, "boot.ipxe"), "w", encoding="ascii") as f:
            f.write("#!ipxe\n" + script)
    return d


def vm(net, *args):
    return Vm("--net", net, "--boot", "n", "--shutdown-timeout", "0", "--memory", "384M", *args)


class Web:
    """A web server on the loopback; its port."""

    def __init__(self, d):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=d))

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_address[1]

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def bios_tftp():
    """The script comes by TFTP, the kernel that it names by HTTP."""
    need(SEABIOS, f"{IPXE}/pxe-virtio.rom")
    need_guest()
    d = folder("tftp")
    for f in (KERNEL, INITRD):
        shutil.copy(f, os.path.join(d, os.path.basename(f)))
    with Web(d) as port:
        with open(os.path.join(d, "boot.ipxe"), "w", encoding="ascii") as f:
            f.write(f"""#!ipxe
echo script of ${{filename}} on ${{platform}}
set base http://10.0.2.2:{port}
kernel ${{base}}/vmlinuz console=ttyS0 quiet lodge.do=poweroff
initrd ${{base}}/initrd.img
boot
""")
        with vm(f"user,tftp={d},bootfile=boot.ipxe", "--firmware", "bios") as v:
            v.expect("script of boot.ipxe on pcbios", 60)
            v.expect("init reached after", 120)
            check(v.wait(30) == 0, f"power-off gave status {v.p.returncode}")


def bios_e1000e():
    """The other card has its own ROM."""
    need(SEABIOS, f"{IPXE}/pxe-e1000e.rom")
    d = folder("e1000e", "echo by ${net0/chip} to ${net0/ip}\npoweroff\n")
    with vm(f"user,model=e1000e,tftp={d},bootfile=boot.ipxe", "--firmware", "bios") as v:
        v.expect(r"by 8\S+ to 10\.0\.2\.15", 60)


def bios_http():
    """DHCP names an URL; the card has the ROM that the user gives it."""
    need(SEABIOS, f"{IPXE}/efi-virtio.rom")
    d = folder("http", "echo by HTTP to ${net0/ip}\npoweroff\n")
    with Web(d) as port, vm(f"user,bootfile=http://10.0.2.2:{port}/boot.ipxe,romfile={IPXE}/efi-virtio.rom",
                            "--firmware", "bios") as v:
        v.expect(r"by HTTP to 10\.0\.2\.15", 60)


def no_rom():
    """Without a ROM SeaBIOS does not know the card."""
    need(SEABIOS)
    for option in ("romfile=", "rombar=off"):
        with vm(f"user,{option}", "--firmware", "bios") as v:
            v.expect("No bootable device", 60)
            check("iPXE" not in v.text(), v.text())


def uefi_pxe():
    need(OVMF)
    fwdisk.tool("grub-mkimage")
    if not os.path.isdir("/usr/lib/grub/x86_64-efi"):
        raise Skip("grub-efi-amd64-bin is not installed")
    d = folder("pxe")
    early = os.path.join(d, "early.cfg")
    with open(early, "w", encoding="ascii") as f:
        f.write("echo from ${net_default_server}\nhalt\n")
    fwdisk.run("grub-mkimage", "-O", "x86_64-efi", "-o", os.path.join(d, "grub.efi"), "-p", "/", "-c", early, "echo", "halt", "efinet")
    with vm(f"user,tftp={d},bootfile=grub.efi", "--firmware", "uefi") as v:
        v.expect("NBP filename is grub.efi", 90)
        v.expect(r"from 10\.0\.2\.2", 60)
        check(v.wait(30) == 0, f"halt gave status {v.p.returncode}")


def uefi_ipxe():
    need(OVMF, f"{IPXE}/efi-virtio.rom")
    d = folder("uefi", "echo iPXE on ${platform}, ${net0/ip}\npoweroff\n")
    with vm(f"user,tftp={d},bootfile=boot.ipxe,romfile={IPXE}/efi-virtio.rom", "--firmware", "uefi") as v:
        v.expect(r"iPXE on efi, 10\.0\.2\.15", 120)


if __name__ == "__main__":
    try:
        sys.exit(run_all([
            ("SeaBIOS, iPXE, a script by TFTP, a kernel by HTTP", bios_tftp),
            ("SeaBIOS, iPXE, by an URL; romfile=", bios_http),
            ("SeaBIOS, iPXE on an e1000e", bios_e1000e),
            ("no ROM", no_rom),
            ("OVMF's PXE, GRUB", uefi_pxe),
            ("OVMF with iPXE", uefi_ipxe),
        ], jobs=2))
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
