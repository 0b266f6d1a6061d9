#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that checks itself and is never at rest (progstate.c), saved and gone on from in another process, again and again.  Long target:

    LODGE=build/lodge PYTHONPATH=tests/guest tests/guest/restore.py [--count N] [--seed S] [--cpus N] [--accel A,B,...]

Whole, compressed or as a difference of the one before, in turn under the engines, as the seed says; each time at another moment.  What goes on gets the
disk itself, brought back, and is the next to be saved.  Nothing may be wrong in the guest, each snapshot is checked, and rounds go on where they were.
"""
import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import time

from guest import INITRD, KERNEL, Failed, Place, Skip, Vm, check, need_guest

HERE = os.path.dirname(os.path.abspath(__file__))


def program(place):
    """An initial RAM disk with progstate, static."""
    cc, cpio = shutil.which("gcc") or shutil.which("cc"), shutil.which("cpio")
    if not cc or not cpio:
        raise Skip("no C compiler, or no cpio")
    os.mkdir(place.path("prog"))
    p = subprocess.run([cc, "-O1", "-static", "-pthread", "-o", place.path("prog/progstate"), os.path.join(HERE, "progstate.c")],
                       stderr=subprocess.PIPE)
    if p.returncode:
        raise Skip(f"no static program: {p.stderr.decode(errors='replace')[:200]}")
    with open(place.path("prog.img"), "wb") as f:
        subprocess.run([cpio, "-o", "-H", "newc", "--quiet"], input=b"progstate\n", stdout=f, cwd=place.path("prog"), check=True)
    return place.path("prog.img")


def rounds(vm, n, start):
    """n more rounds; the number of the last."""
    last = 0
    for _ in range(n):
        m = vm.expect(r"round (\d+)\n|wrong: [^\n]*\n", 60, start)
        check(m.group(1), m.group(0))
        start, last = m.end(), int(m.group(1))
    return last


def tool(p, *args):
    status, out, err = p.tool(*args)
    check(status == 0, f"{' '.join(args)}: status {status}: {out} {err}")


def forget(p, name):
    deadline = time.monotonic() + 30
    while True:
        status, _, err = p.tool("snapshot", "rm", p.path(name))
        if not status:
            return
        check("runs from it" in err and time.monotonic() < deadline, f"rm {name}: {err}")
        time.sleep(0.02)


def many(count, seed=1, cpus=2, engines=("translate", "interp"), tell=lambda text: None):
    """Raises what went wrong.  Returns how many were whole, compressed and differences."""
    need_guest()
    rng = random.Random(seed)
    kinds = {"whole": 0, "compressed": 0, "difference": 0, "both": 0}
    chain = []
    with Place() as p:
        initrd = program(p)
        tool(p, "img", "create", "-f", "qcow2", p.path("d.qcow2"), "16M")
        vm = Vm("--name", "s", "--memory", "128M", "--cpus", str(cpus), "--kernel", KERNEL, "--initrd", INITRD, "--initrd", initrd,
                "--append", "quiet", "--disk", p.path("d.qcow2"), "--net", "none", accel=engines[0], env=p.env)
        try:
            vm.expect(r"# ", 120)
            vm.send("/progstate /dev/vda\n")
            last = rounds(vm, 1, 0)
            for i in range(count):
                # A moment that is nothing's.
                time.sleep(rng.random() * 0.1)
                kind = rng.choice(list(kinds)) if 0 < len(chain) < 5 else rng.choice(["whole", "compressed"])
                args = {"whole": [], "compressed": ["--compress"], "difference": ["--diff-of", p.path(chain[-1])] if chain else [],
                        "both": ["--compress", "--diff-of", p.path(chain[-1])] if chain else []}[kind]
                kinds[kind] += 1
                name = f"s{i}"
                vm.pump(0)
                check("wrong" not in vm.text(), vm.text()[-300:])
                tool(p, "snapshot", "create", *args, "--quit", "s", p.path(name))
                check(vm.wait(60) == 0, f"status {vm.p.returncode} after --quit: {vm.err()}")
                seen = re.findall(r"round (\d+)\n", vm.text())
                last = int(seen[-1]) if seen else last
                check("wrong" not in vm.text(), vm.text()[-300:])
                vm.__exit__(None, None, None)
                tool(p, "snapshot", "check", p.path(name))
                # Those that nothing needs any more, while nobody has the disk.
                if kind in ("whole", "compressed"):
                    for old in reversed(chain):
                        forget(p, old)
                    chain = []
                vm = Vm("--from-snapshot", p.path(name), "--in-place", "--name", "s", accel=rng.choice(engines), env=p.env)
                now = rounds(vm, 1, 0)
                check(last < now <= last + 3, f"round {now} came after {last} in number {i} ({kind})")
                last = now
                chain.append(name)
                tell(f"{i + 1} of {count}, {kind}, round {now}")
            vm.signal(3)
            vm.wait(30)
            tool(p, "img", "check", p.path("d.qcow2"))
        except Failed as e:
            raise Failed(f"seed {seed}: {e}\n{vm.err()}\n{vm.text()[-1000:]}") from e
        finally:
            vm.__exit__(None, None, None)
    return kinds


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--count", type=int, default=1000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--cpus", type=int, default=2)
    a.add_argument("--accel", default="translate,translate,translate,translate,interp")
    a = a.parse_args()
    begun = time.monotonic()
    kinds = many(a.count, a.seed, a.cpus, a.accel.split(","), lambda text: print(f"{time.monotonic() - begun:.0f} s: {text}", flush=True))
    print(f"{a.count} times in {time.monotonic() - begun:.0f} s, nothing wrong: {kinds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
