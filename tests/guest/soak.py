#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Long target: boots a guest again and again, on both machines in turn, with changing numbers of vCPUs.

usage: PYTHONPATH=tests/guest tests/guest/soak.py [--debian] [--boots N | --minutes M] [--seed S] [--load N]
                [--machine pc|micro] [--cpus LIST] [--append STR]

The tiny guest goes to its init and powers off.  With --debian it is Debian 12 with systemd, from one throw-away
copy of the prepared disk: to the root shell, an address by DHCP, a clean power-off; the copy's file system is
checked at the end.  --load keeps N host threads busy meanwhile, so that every thread of the VM is late now and then.

Ends at the first boot that hangs or ends wrongly, with its number and options.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from guest import DISK, INITRD, KERNEL, Failed, Vm, check, need_guest, tiny


def boot_tiny(options, append, _disk):
    with tiny(*options, append=f"lodge.do=poweroff {append}") as vm:
        status = vm.wait(120)
        check(status == 0 and "init reached" in vm.text(), f"status {status}")


def boot_debian(options, append, disk):
    with Vm("--memory", "1G", "--kernel", KERNEL, "--initrd", INITRD, "--disk", disk,
            "--append", f"root=/dev/vda rw quiet {append}".strip(), *options) as vm:
        vm.expect(r"root@lodge:~# ", 200)
        out = vm.shell("for i in $(seq 60); do ip -4 -o addr show scope global | grep . && break; sleep 1; done", 120)
        check("10.0.2.15/24" in out, f"no address by DHCP: {out!r}")
        vm.send("poweroff\n")
        status = vm.wait(120)
        check(status == 0, f"power-off gave status {status}")
        check("recovering journal" not in vm.text() and "recovery complete" not in vm.text(),
              "the power-off before was not clean")


def parse():
    ap = argparse.ArgumentParser()
    ap.add_argument("--debian", action="store_true")
    ap.add_argument("--boots", type=int, default=50)
    ap.add_argument("--minutes", type=float)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--load", type=int, default=0)
    ap.add_argument("--machine", choices=["pc", "micro"])
    ap.add_argument("--cpus")
    ap.add_argument("--append", default="")
    args = ap.parse_args()
    args.cpus = [int(n) for n in (args.cpus or ("1,2" if args.debian else "1,2,3,4")).split(",")]
    return args


def soak(args, tmp):
    rng = random.Random(args.seed)
    end = time.monotonic() + args.minutes * 60 if args.minutes else None
    boot, disk, n, slowest = boot_tiny, None, 0, 0.0
    need_guest()
    if args.debian:
        need_guest(DISK)
        boot, disk = boot_debian, os.path.join(tmp, "disk.raw")
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", DISK, disk], check=True)
    while time.monotonic() < end if end else n < args.boots:
        machine, cpus = args.machine or ("pc", "micro")[n % 2], rng.choice(args.cpus)
        what = f"boot {n + 1} ({machine}, {cpus} vCPUs, seed {args.seed})"
        start = time.monotonic()
        n += 1
        try:
            boot(("--machine", machine, "--cpus", str(cpus)), args.append, disk)
        except Failed as e:
            print(f"{what}: {e}", flush=True)
            return 1
        slowest = max(slowest, time.monotonic() - start)
        print(f"{what}: ok, {time.monotonic() - start:.1f} s", flush=True)
    fsck = shutil.which("e2fsck", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if disk and fsck and subprocess.run([fsck, "-f", "-n", disk], stdout=subprocess.DEVNULL, check=False).returncode:
        print("the file system on the disk is damaged")
        return 1
    print(f"{n} boots passed, 0 failed; the slowest took {slowest:.1f} s")
    return 0


def main():
    args = parse()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.load)]
    try:
        with tempfile.TemporaryDirectory(prefix="lodge-soak-") as tmp:
            return soak(args, tmp)
    finally:
        for p in busy:
            p.kill()
            p.wait()


sys.exit(main())
