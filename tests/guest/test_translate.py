#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the translator shows of itself (perf map, dump of a block), and a code cache that is too small, on the tiny guest."""
import os
import re
import sys
import tempfile

from guest import INITRD, KERNEL, Vm, check, lodge, need_guest, run_all, tiny


def poweroff(*args, accel="translate", **kw):
    """Boots micro to its end: (what it said on standard error, its PID)."""
    with tiny("--machine", "micro", "--net", "none", *args, append="lodge.do=poweroff nokaslr", accel=accel, **kw) as vm:
        vm.expect(r"init reached", 120)
        check(vm.wait(60) == 0, f"power-off gave status {vm.p.returncode}, not 0")
        return vm.err(), vm.p.pid


def perf_map_and_dump():
    def plant():
        with open(f"/tmp/perf-{os.getpid()}.map", "w", encoding="ascii") as f:
            f.write("stale")

    _, pid = poweroff("--perf-map", preexec_fn=plant)
    name = f"/tmp/perf-{pid}.map"
    with open(name, encoding="ascii") as f:
        lines = f.read().splitlines()
    os.unlink(name)
    check(re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ lodge:thunks", lines[0]), f"first line: {lines[0]}")
    line = re.compile(r"[0-9a-f]+ [0-9a-f]+ guest:([0-9a-f]+):(?:64|32)-bit:cpl([0-3]):rip=([0-9a-f]+)")
    got = [line.fullmatch(x) for x in lines[1:]]
    check(len(got) > 1000 and all(got), f"{len(got)} blocks in the map; not one: {[x for x in lines[1:] if not line.fullmatch(x)][:1]}")
    check({"0", "3"} <= {m[2] for m in got}, "no kernel or no user code in the map")
    # Without KASLR the kernel's code is where it was: one of its blocks, by its RIP.
    dump([m for m in got if m[3].startswith("ffffffff81")][100])


def dump(wanted):
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "block, as text")
        poweroff("--dump-block", f"{wanted[3]},{out}")
        with open(out, encoding="ascii") as f:
            text = f.read()
    m = re.search(r"^block at rip ([0-9a-f]+), physical ([0-9a-f]+), .*: (\d+) instructions, (\d+) bytes", text, re.M)
    check(m, f"no block in the dump: {text[:200]!r}")
    check(0 <= int(wanted[3], 16) - int(m[1], 16) < int(m[4]), f"the block is another one: {m[0]}")
    block = text[m.start():].split("block at rip")[1]
    check(len(re.findall(r"^  [0-9a-f]+  \S", block, re.M)) == int(m[3]), f"not all of its instructions are shown: {block}")
    check("out of line:" in block and re.search(r"^    [0-9a-f]{12}  \S", block, re.M), "no host code beside them")


def perf_map_follows_nothing():
    need_guest()
    with tempfile.NamedTemporaryFile() as victim:
        victim.write(b"precious")
        victim.flush()
        names = []

        def plant():
            name = f"/tmp/perf-{os.getpid()}.map"
            os.symlink(victim.name, name)

        with Vm("--kernel", KERNEL, "--initrd", INITRD, "--perf-map", accel="translate", preexec_fn=plant) as vm:
            names.append(f"/tmp/perf-{vm.p.pid}.map")
            try:
                check(vm.wait(30) == 1, f"status {vm.p.returncode}, not 1")
                check("--perf-map: " + names[0] in vm.err(), f"no clear message: {vm.err()}")
            finally:
                os.unlink(names[0])
        with open(victim.name, "rb") as f:
            check(f.read() == b"precious", "the file behind the symbolic link was written")


def small_cache(cpus):
    def test():
        err, _ = poweroff("--cpus", str(cpus), "--code-cache", "2M", "--stats")
        n = {k: int(v) for k, v in re.findall(r"stats: (.*) (\d+)$", err, re.M)}
        check(n["code cache regions given up"] > 100, f"{n['code cache regions given up']} regions were given up")
        used = n["code cache KiB, most ever"] + n["block records KiB, most ever"]
        check(1024 < used <= 2048, f"{used} KiB of 2048 were used")
    return test


def cache_sizes():
    need_guest()
    for size in ("1023K", "1025M", "0", "-1M", "much"):
        status, _, err = lodge("run", "--kernel", KERNEL, "--code-cache", size)
        check(status == 1 and "--code-cache" in err and size in err, f"--code-cache {size}: status {status}, {err!r}")


def only_where_there_is_translation():
    need_guest()
    for opt in (["--perf-map"], ["--dump-block", "1000"]):
        status, _, err = lodge("run", "--accel", "interp", "--kernel", KERNEL, *opt)
        check(status == 1 and opt[0] in err and "--accel translate" in err, f"{opt[0]} with interp: status {status}, {err!r}")
    status, _, err = lodge("run", "--kernel", KERNEL, "--dump-block", "zz")
    check(status == 1 and "hexadecimal" in err, f"a bad address: status {status}, {err!r}")


sys.exit(run_all([
    ("--perf-map replaces a stale file, names all blocks; --dump-block shows one of them", perf_map_and_dump),
    ("--perf-map does not follow a symbolic link", perf_map_follows_nothing),
    ("a code cache that is far too small, 1 vCPU", small_cache(1)),
    ("a code cache that is far too small, 4 vCPUs", small_cache(4)),
    ("--code-cache: sizes that cannot be", cache_sizes),
    ("--perf-map, --dump-block: errors", only_where_there_is_translation),
], jobs=min(2, os.cpu_count() or 1)))
