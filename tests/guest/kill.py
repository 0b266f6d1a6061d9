#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of a VM under a load of writes, again and again on the same image.

usage: PYTHONPATH=tests/guest tests/guest/kill.py [--count N] [--seed S] [--formats raw,qcow2]

After each kill the image must pass its check (leaks are allowed), here and by qemu-img, and every block must hold
what was last flushed to it, or something written later.  Prints TAP; tests/guest/test_kill.py is a short one.
"""
import argparse
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from guest import Failed, Skip, check, lodge, run_all, tiny

BLOCK, PART, THREADS, OPS, MAX_BLOCKS = 4096, 4096, 3, 8, 16
SIZE = 64 << 20
ZERO = bytes(BLOCK)
MASK = (1 << 64) - 1


class Rng:
    """The generator of progload.c."""

    def __init__(self, seed):
        self.s = seed

    def next(self):
        self.s = (self.s * 6364136223846793005 + 1442695040888963407) & MASK
        return self.s >> 33


def operations(run, thread):
    """(generation, stamp or None for zeros, first block, blocks), for ever."""
    rng, gen = Rng(run * 1000 + thread), 1
    while True:
        for op in range(OPS):
            n = 1 + rng.next() % MAX_BLOCKS
            first = rng.next() % (PART - n) + thread * PART
            zero = rng.next() % 8 == 0
            yield gen, None if zero else run << 48 | thread << 40 | gen << 8 | op, first, n
        gen += 1


def content(stamp, block):
    return ZERO if stamp is None else struct.pack("<QQ", stamp, block) * (BLOCK // 16)


def verify(run, flushed, before, data):
    """before: contents of each block when the run began.  Returns them as they are now."""
    for thread in range(THREADS):
        allowed = {}
        last = flushed.get(thread, 0)
        # What was written later than what we were told of: the console lags behind.
        for gen, stamp, first, n in operations(run, thread):
            if gen > last + 200:
                break
            for b in range(first, first + n):
                if gen <= last:
                    allowed[b] = [stamp]
                else:
                    allowed.setdefault(b, ["old"]).append(stamp)
        for b in range(thread * PART, (thread + 1) * PART):
            now = data[b * BLOCK:(b + 1) * BLOCK]
            may = allowed.get(b, ["old"])
            if not any(now == (before[b] if s == "old" else content(s, b)) for s in may):
                stamp = struct.unpack("<Q", now[:8])[0]
                raise Failed(f"run {run}, thread {thread}: block {b} holds stamp {stamp:#x}, allowed were {may[:4]}; "
                             f"generation {last} was flushed")
    return [data[b * BLOCK:(b + 1) * BLOCK] for b in range(THREADS * PART)]


def load_image(folder):
    """An initrd with the program, and its name there."""
    cc, cpio = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc"), shutil.which("cpio")
    if not cc or not cpio:
        raise Skip("no compiler or no cpio")
    src = os.path.join(os.path.dirname(os.path.abspath(__file__)), "progload.c")
    p = subprocess.run([cc, "-O1", "-static", "-pthread", "-o", f"{folder}/progload", src], stderr=subprocess.PIPE)
    if p.returncode:
        raise Skip(f"{cc} makes no such programs: {p.stderr.decode()[-200:]!r}")
    img = subprocess.run([cpio, "-o", "-H", "newc", "--quiet"], input=b"progload\n", stdout=subprocess.PIPE, cwd=folder,
                         check=True).stdout
    with open(f"{folder}/load.img", "wb") as f:
        f.write(img)
    return f"{folder}/load.img"


def contents(folder, path, fmt):
    if fmt == "raw":
        with open(path, "rb") as f:
            return f.read()
    status, _, err = lodge("img", "check", "-f", fmt, path)
    check(status in (0, 3), f"lodge img check gives status {status}: {err}")
    out = f"{folder}/contents"
    if shutil.which("qemu-img"):
        p = subprocess.run(["qemu-img", "check", "-f", fmt, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(p.returncode in (0, 3), f"qemu-img check gives status {p.returncode}: {p.stdout.decode()}")
        subprocess.run(["qemu-img", "convert", "-f", fmt, "-O", "raw", path, out], check=True)
    else:
        status, _, err = lodge("img", "convert", "-f", fmt, "-O", "raw", path, out)
        check(status == 0, f"lodge img convert gives status {status}: {err}")
    with open(out, "rb") as f:
        return f.read()


def killed(folder, initrd, path, fmt, run, rng, options):
    """One run until it is killed: what was flushed, by thread."""
    with tiny("--disk", f"{path},format={fmt}{options}", "--net", "none", "--initrd", initrd, "--cpus",
              str(rng.choice([1, 2]))) as vm:
        vm.expect(r"init reached", 120)
        vm.expect(r"# ", 30)
        vm.send(f"/progload /dev/vda {run}\n")
        vm.expect(r"flushed \d+ 2\.", 120)
        end = time.monotonic() + rng.uniform(0.05, 1.5)
        while time.monotonic() < end:
            vm.pump(0.02)
        vm.signal(signal.SIGKILL)
        vm.wait(10)
        text = vm.text()
    check("write:" not in text and "fsync:" not in text and "zero:" not in text, f"the load saw an error: {text[-300:]!r}")
    flushed = {}
    for thread, gen in re.findall(r"flushed (\d) (\d+)\.", text):
        flushed[int(thread)] = max(flushed.get(int(thread), 0), int(gen))
    return flushed


def kills(fmt, count, seed=1, options=""):
    def test():
        rng = random.Random(seed)
        generations = 0
        with tempfile.TemporaryDirectory() as folder:
            initrd, path = load_image(folder), f"{folder}/disk"
            status, _, err = lodge("img", "create", "-f", fmt, path, str(SIZE))
            check(status == 0, f"lodge img create gives status {status}: {err}")
            before = [ZERO] * (THREADS * PART)
            for run in range(1, count + 1):
                flushed = killed(folder, initrd, path, fmt, run + seed * 128, rng, options)
                generations += sum(flushed.values())
                before = verify(run + seed * 128, flushed, before, contents(folder, path, fmt))
                if count > 5:
                    print(f"# {fmt}: kill {run}, {sum(flushed.values())} generations flushed, all well", flush=True)
        print(f"# {fmt}: {count} kills, {generations} flushed generations of {OPS} operations", flush=True)
    return test


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--formats", default="raw,qcow2")
    o = p.parse_args()
    # The number of a run is a part of what its blocks hold.
    if not 0 <= o.seed < 500 or not 0 < o.count < 128:
        p.error("--seed is 0 to 499, --count 1 to 127")
    del sys.argv[1:]
    return run_all([(f"{f}: kill -9 under load, {o.count} times", kills(f, o.count, o.seed)) for f in o.formats.split(",")])


if __name__ == "__main__":
    raise SystemExit(main())
