#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of the tiny guest: what the guest sees of them, and what happens when the host cannot write."""
import os
import re
import resource
import signal
import tempfile
import time

from guest import SLOW, check, lodge, run_all, tiny

MIB = 1 << 20
PAUSED = "the guest is paused; 'kill -USR2"


def at_shell(vm):
    vm.expect(r"init reached", 120)
    vm.expect(r"# ", 30)


def image(folder, fmt, size):
    path = os.path.join(folder, f"disk.{fmt}")
    if fmt == "raw":
        with open(path, "wb") as f:
            f.truncate(size)
    else:
        code, _, err = lodge("img", "create", "-f", fmt, path, str(size))
        check(code == 0, f"lodge img create failed: {err}")
    return path


def wait_paused(vm):
    deadline = time.monotonic() + 60 * SLOW
    while PAUSED not in vm.err() and time.monotonic() < deadline:
        vm.pump(0.1)
    check(PAUSED in vm.err(), "the guest was not paused")


def no_room(iothread):
    """werror=stop, and the file may not grow beyond 4 MiB: the guest is paused, knows nothing of it, and goes on when it may."""
    def test():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "disk.raw")
            with open(path, "wb") as f:
                f.truncate(MIB)
                os.truncate(path, 16 * MIB)
            with tiny("--disk", f"{path},format=raw,werror=stop,iothread={iothread}", "--stats") as vm:
                at_shell(vm)
                soft, hard = resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (4 * MIB, hard))
                start = len(vm.text())
                vm.send("dd if=/dev/zero bs=1M count=16 | tr '\\0' Z | dd of=/dev/vda bs=64k && sync && echo written-$((40+2))\n")
                wait_paused(vm)
                before = vm.text()
                vm.pump(0.5)
                vm.signal(signal.SIGUSR2)	# too early: it is paused again
                time.sleep(0.5)
                vm.pump(0.1)
                check("written-42" not in vm.text()[start:] and vm.text() == before, "the guest went on while it was paused")
                check(vm.err().count(PAUSED) >= 2, "the requests were not repeated")
                resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (soft, hard))
                vm.signal(signal.SIGUSR2)
                vm.expect("written-42", 60, start)
                check("error" not in vm.text()[start:].lower(), "the guest saw an error")
                vm.send("poweroff\n")
                check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
                m = re.search(r"disk0_retried (\d+)", vm.err())
                check(m and int(m.group(1)) > 0, "no repeated requests were counted")
            with open(path, "rb") as f:
                check(f.read() == b"Z" * (16 * MIB), "what was written is not in the file")
    return test


def reported():
    """werror=report: the guest's own business."""
    with tempfile.TemporaryDirectory() as folder:
        path = image(folder, "raw", 16 * MIB)
        with tiny("--disk", f"{path},format=raw,werror=report") as vm:
            at_shell(vm)
            hard = resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (4 * MIB, hard))
            out = vm.shell("dd if=/dev/zero of=/dev/vda bs=1M count=16 oflag=direct 2>&1")
            check("error" in out.lower(), f"the guest saw no error: {out!r}")
            vm.send("poweroff\n")
            check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")


def ended_while_paused():
    """SIGTERM ends a guest that cannot react."""
    with tempfile.TemporaryDirectory() as folder:
        path = image(folder, "raw", 16 * MIB)
        with tiny("--disk", f"{path},format=raw,werror=stop") as vm:
            at_shell(vm)
            hard = resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (4 * MIB, hard))
            vm.send("dd if=/dev/zero of=/dev/vda bs=1M count=16 oflag=direct\n")
            wait_paused(vm)
            vm.signal(signal.SIGTERM)
            check(vm.wait(10) == 8, f"SIGTERM gave status {vm.p.returncode}, not 8")
            check("never repeated" in vm.err(), "nobody was told of the requests that are lost")


def encrypted(fmt):
    """What the guest writes is read back with the key, and is not in the file."""
    def test():
        with tempfile.TemporaryDirectory() as folder:
            path, key, back = (os.path.join(folder, name) for name in ("disk", "key", "back"))
            with open(key, "w") as f:
                f.write("a passphrase, and what it says")
            prefix = "encrypt.format=luks,encrypt." if fmt == "qcow2" else "version=2,pbkdf-memory=1024,sector-size=4096,"
            inner = "encrypt." if fmt == "qcow2" else ""
            code, _, err = lodge("img", "create", "--object", f"secret,id=k,file={key}", "-f", fmt, "-o",
                                 f"{prefix}key-secret=k,{inner}pbkdf-force-iterations={1000 if inner else 4}",
                                 path, str(8 * MIB))
            check(code == 0, f"lodge img create failed: {err}")
            with tiny("--disk", f"{path},key-file={key}") as vm:
                at_shell(vm)
                vm.shell("yes LODGE-PLAIN-TEXT | head -c 1048576 | dd of=/dev/vda bs=64k seek=3 2>/dev/null; sync")
                out = vm.shell("dd if=/dev/vda bs=64k skip=3 count=16 2>/dev/null | head -c 1048576 | sort -u | head -2")
                check("LODGE-PLAIN-TEXT" in out, f"the guest reads {out!r}")
                vm.send("poweroff\n")
                check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
            code, _, err = lodge("img", "convert", "--object", f"secret,id=k,file={key}", "--image-opts",
                                 f"driver={fmt},{inner}key-secret=k,file.filename={path}", "-O", "raw", back)
            check(code == 0, f"lodge img convert failed: {err}")
            with open(back, "rb") as f:
                f.seek(3 * 65536)
                check(f.read(MIB) == (b"LODGE-PLAIN-TEXT\n" * MIB)[:MIB], "what the guest wrote is not in the image")
            with open(path, "rb") as f:
                check(b"LODGE-PLAIN" not in f.read(), "the file holds what was written in clear")
    return test


def seen_by_the_guest():
    """Sizes, queues and limits as the command line says; two disks on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        a, b = image(folder, "raw", 16 * MIB), os.path.join(folder, "b.raw")
        with open(b, "wb") as f:
            f.truncate(8 * MIB)
        with tiny("--cpus", "2", "--disk",
                  f"{a},format=raw,logical_block_size=4096,physical_block_size=16K,opt_io_size=64K,discard_granularity=32K,"
                  "serial=lodge-a,num-queues=2,iothread=both",
                  "--disk", f"{b},format=raw,discard=ignore,iothread=both") as vm:
            at_shell(vm)
            q = "/sys/block/vda/queue"
            out = vm.shell(f"cat /sys/block/vda/size {q}/logical_block_size {q}/physical_block_size {q}/optimal_io_size "
                           f"{q}/discard_granularity /sys/block/vda/serial; echo; ls /sys/block/vda/mq; "
                           "cat /sys/block/vdb/queue/discard_max_bytes")
            want = ["32768", "4096", "16384", "65536", "32768", "lodge-a", "0", "1", "0"]
            got = out.split()[-len(want):]
            check(got == want, f"the guest sees {got}, not {want}")
            threads = [open(f"/proc/{vm.p.pid}/task/{t}/comm").read().strip() for t in os.listdir(f"/proc/{vm.p.pid}/task")]
            check(threads.count("io-both") == 1, f"the threads are {threads}")
            vm.send("poweroff\n")
            check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")


def new_disk(fmt, sectors):
    """size= makes an image once; the next run has what the first one wrote."""
    def test():
        with tempfile.TemporaryDirectory(prefix="lodge-new-") as d:
            path = os.path.join(d, f"new.{fmt}")
            code, _, err = lodge("run", "--dry-run", "--disk", f"{path},size=64M,ro")
            check(code and "size= makes a new disk" in err, f"ro with size= was taken: {err!r}")
            for boot in range(2):
                with tiny("--disk", f"{path},size={(64, 65)[boot]}M", "--net", "none") as vm:
                    at_shell(vm)
                    out = vm.shell("cat /sys/block/vda/size; dd if=/dev/vda bs=512 count=1 2>/dev/null | head -c 9; echo")
                    check(f"\n{sectors}\n" in out, f"the disk's size is wrong: {out!r}")
                    check(("lodge-new" in out) == bool(boot), f"boot {boot + 1}: {out!r}")
                    vm.shell("echo lodge-new | dd of=/dev/vda conv=fsync 2>/dev/null")
                    vm.send("poweroff\n")
                    check(vm.wait(60) == 0, "no clean end")
            code, out, err = lodge("img", "info", path)
            check(code == 0 and f"file format: {fmt}" in out.decode(), f"not {fmt}: {out!r} {err}")
    return test


def main():
    return run_all([
        ("no room on the host pauses the guest", no_room("on")),
        ("no room, without an I/O thread", no_room("off")),
        ("werror=report", reported),
        ("a paused guest is ended at once", ended_while_paused),
        ("what the guest sees of its disks", seen_by_the_guest),
        ("size= makes a qcow2 image", new_disk("qcow2", 131072)),
        ("size= makes a raw image", new_disk("raw", 131072)),
        ("an encrypted disk (LUKS2)", encrypted("luks")),
        ("an encrypted disk (qcow2)", encrypted("qcow2")),
    ], 2)


if __name__ == "__main__":
    raise SystemExit(main())
