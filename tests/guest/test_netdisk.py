#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of the tiny guest that are elsewhere: an NBD server's export, with limits, and what happens when the server dies."""
import os
import shutil
import subprocess
import tempfile
import time

from guest import check, run_all, tiny

MIB = 1 << 20


class Server:
    """nbdkit on a socket, with a file of 16 MiB."""

    def __init__(self, folder):
        self.file, self.socket = os.path.join(folder, "disk"), os.path.join(folder, "socket")
        with open(self.file, "wb") as f:
            f.truncate(16 * MIB)
        self.p = subprocess.Popen(["nbdkit", "-f", "-U", self.socket, "file", self.file])
        deadline = time.monotonic() + 30
        while not os.path.exists(self.socket) and time.monotonic() < deadline:
            time.sleep(0.05)

    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()


def at_shell(vm):
    vm.expect(r"init reached", 120)
    vm.expect(r"# ", 30)


def written_and_read():
    """Data goes there and back, within the limits of the disk."""
    with tempfile.TemporaryDirectory(prefix="lodge-") as folder, Server(folder) as server:
        with tiny("--disk", f"{server.uri()},format=raw,bps=4M,bps-max=5M") as vm:
            at_shell(vm)
            vm.shell("dd if=/dev/zero bs=64k count=16 | tr '\\0' Y | dd of=/dev/vda bs=64k && sync", 120)
            start = time.monotonic()
            out = vm.shell("dd if=/dev/vda of=/dev/null bs=1M count=16; dd if=/dev/vda bs=64k count=16 2>/dev/null | tr -d Y | wc -c", 120)
            spent = time.monotonic() - start
            check(out.split()[-1] == "0", f"what was written is not read: {out!r}")
            # 15 MiB that are not in the guest's cache, at 4 MiB a second after a burst of 5.
            check(spent > 2, f"16 MiB were read in {spent:.1f} s")
            vm.send("poweroff\n")
            check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
        with open(server.file, "rb") as f:
            check(f.read(MIB) == b"Y" * MIB, "what was written is not in the server's file")


def server_dies():
    """The guest sees an I/O error, and lives."""
    with tempfile.TemporaryDirectory(prefix="lodge-") as folder, Server(folder) as server:
        with tiny("--disk", f"{server.uri()},format=raw,rerror=report,werror=report") as vm:
            at_shell(vm)
            out = vm.shell("dd if=/dev/vda of=/dev/null bs=64k count=1 2>&1; echo first-$?", 60)
            check("first-0" in out, f"the disk cannot be read: {out!r}")
            server.p.kill()
            out = vm.shell("dd if=/dev/vda of=/dev/null bs=64k skip=64 count=1 2>&1; echo second-$?", 60)
            check("second-1" in out, f"the disk is read without its server: {out!r}")
            check("closed the connection" in vm.err(), "nobody says that the server is gone")
            vm.send("poweroff\n")
            check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")


def main():
    if not shutil.which("nbdkit"):
        print("1..0 # SKIP there is no nbdkit here")
        return 0
    return run_all([
        ("a disk on an NBD server, with limits", written_and_read),
        ("an NBD server dies", server_dies),
    ], 2)


if __name__ == "__main__":
    raise SystemExit(main())
