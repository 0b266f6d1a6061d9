#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Network cards other than virtio's, as Linux' own drivers and iPXE see them.

Debian's generic kernel and the driver (in /partmod) come from tests/guest/mkworkloads amd64; what is missing is
skipped.
"""
import hashlib
import os
import re
import socket
import tempfile
import threading

import fwdisk
from guest import Skip, Vm, check, run_all
from qmp import Qmp
from test_storage import at_shell, generic, power_off

MIB = 1 << 20


class Server:
    """Takes what the first client sends, and gives the second one the same."""

    def __init__(self):
        self.s = socket.create_server(("127.0.0.1", 0))
        self.port, self.data = self.s.getsockname()[1], b""
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        c, _ = self.s.accept()
        while more := c.recv(1 << 16):
            self.data += more
        c.close()
        c, _ = self.s.accept()
        c.sendall(self.data)
        c.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()


def up(vm):
    at_shell(vm, "virtio_net")
    if "e1000e.ko" not in vm.shell("cat /partmod/order").split():
        raise Skip("the initial RAM disk has no e1000e; run tests/guest/mkworkloads amd64")
    vm.shell("insmod /partmod/e1000e.ko; for i in 1 2 3 4 5 6 7 8 9; do ip link set eth0 up && break; sleep 0.2; done")
    out = vm.shell("udhcpc -i eth0 -s /bin/udhcpc-script -q -n -t 10 -T 1")
    check("lease of 10.0.2.15 obtained" in out, f"no address: {out!r}")
    vm.shell("ip addr add 10.0.2.15/24 dev eth0 2>/dev/null")


def linux(append, kind):
    """Bytes there and back, with segmentation and without, and the cable pulled out."""
    def test():
        with tempfile.TemporaryDirectory() as folder, Server() as s:
            sock = os.path.join(folder, "qmp")
            with generic("--net", "user,model=e1000e", "--qmp", f"unix:{sock},server=on,wait=off", append=append) as vm, Qmp(sock) as q:
                up(vm)
                out = vm.shell(f"dd if=/dev/urandom of=/tmp/r bs=64k count=128 2>/dev/null; nc 10.0.2.2 {s.port} </tmp/r; sleep 0.5; "
                               f"nc 10.0.2.2 {s.port} </dev/null >/tmp/s; cmp /tmp/r /tmp/s && echo are-'same'; sha256sum /tmp/r", 120)
                check("are-same" in out and hashlib.sha256(s.data).hexdigest() in out and len(s.data) == 8 * MIB,
                      f"what was sent and what came differ: {len(s.data)} bytes, {out!r}")
                out = vm.shell("grep eth0 /proc/interrupts")
                check(re.search(kind, out), f"the interrupts: {out!r}")
                q.cmd("set_link", name="net0", up=False)
                out = vm.shell("sleep 0.5; cat /sys/class/net/eth0/carrier")
                check("\n0\n" in out, f"the cable was pulled out: {out!r}")
                q.cmd("set_link", name="net0", up=True)
                out = vm.shell("sleep 2.5; cat /sys/class/net/eth0/carrier; dmesg | grep -E 'Hang|Reset adapter|timed out'")
                check("\n1\n" in out and "Hang" not in out.split("\n", 1)[1].replace("Hang|", ""), f"the cable is back: {out!r}")
                power_off(vm)
    return test


def ipxe():
    """iPXE's driver, from SeaBIOS: loads a boot sector from the user network's TFTP server and starts it."""
    rom = "/usr/lib/ipxe/qemu/pxe-e1000e.rom"
    for f in (*fwdisk.FIRMWARE["bios"], rom):
        if not os.path.exists(f):
            raise Skip(f"{f} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        img = fwdisk.boot_sector(folder)
        with open(img, "rb") as f, open(os.path.join(folder, "boot"), "wb") as g:
            g.write(f.read(512))
        with Vm("--memory", "256M", "--firmware", "bios", "--boot", "order=n", "--net", f"user,model=e1000e,tftp={folder},bootfile=boot") as vm:
            vm.expect(r"lodge boot sector\n", 60)


def main():
    return run_all([
        ("e1000e: Linux, MSI-X", linux("", r"PCI-MSI.*eth0-rx-0")),
        ("e1000e: Linux, the pin", linux("pci=nomsi", r"IO-APIC.*eth0")),
        ("e1000e: iPXE", ipxe),
    ], 2)


if __name__ == "__main__":
    raise SystemExit(main())
