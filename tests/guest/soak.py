#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Long target: boots the tiny guest again and again, on both machines in turn, with 1 to 4 vCPUs.

usage: PYTHONPATH=tests/guest tests/guest/soak.py [--boots N | --minutes M] [--seed S]

Ends at the first boot that hangs or ends wrongly, with its number and options.
"""
import argparse
import random
import sys
import time

from guest import Failed, tiny


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--boots", type=int, default=50)
    ap.add_argument("--minutes", type=float)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    end = time.monotonic() + args.minutes * 60 if args.minutes else None
    n = 0
    while time.monotonic() < end if end else n < args.boots:
        machine, cpus = ("pc", "micro")[n % 2], rng.randint(1, 4)
        n += 1
        try:
            with tiny("--machine", machine, "--cpus", str(cpus), append="lodge.do=poweroff") as vm:
                status = vm.wait(120)
                if status or "init reached" not in vm.text():
                    raise Failed(f"status {status}")
        except Failed as e:
            print(f"boot {n} ({machine}, {cpus} vCPUs, seed {args.seed}): {e}")
            return 1
        print(f"boot {n}: {machine}, {cpus} vCPUs: ok", flush=True)
    print(f"{n} boots passed, 0 failed")
    return 0


sys.exit(main())
