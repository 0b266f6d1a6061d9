#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host does for a guest: which CPUs and how much of them, where its memory is.

    PYTHONPATH=tests/guest tests/guest/test_limits.py [NAME...]
"""
import os
import re
import sys

from guest import Skip, Vm, check, lodge, run_all
from test_qmp import Rig


def ram_of(pid, name):
    """The guest's memory in a file of /proc/PID: the largest mapping's lines."""
    with open(f"/proc/{pid}/{name}") as f:
        return f.read()


def refused(text, *args):
    status, _, err = lodge("run", "--kernel", "/dev/null", *args)
    check(status == 1 and text in err, f"{args}: {status}: {err}")
    return err


def pins():
    refused("--pin: host CPU 4000 cannot be had: it is not there", "--pin", "0,4000")
    mine = sorted(os.sched_getaffinity(0))
    with Rig("--cpus", "2", "--pin", str(mine[0])) as r, r.qmp() as q:
        r.shell()
        got = lambda: {p["cpu-index"]: p["host-cpus"] for p in q.cmd("x-lodge-query-limits")["pins"]}
        tids = {c["cpu-index"]: c["thread-id"] for c in q.cmd("query-cpus-fast")}
        check(got() == {0: mine[:1], 1: mine[:1]}, f"pins: {got()}")
        q.cmd("x-lodge-vcpu-pin", **{"cpu-index": 1, "host-cpus": mine})
        check(got() == {0: mine[:1], 1: mine} and sorted(os.sched_getaffinity(tids[1])) == mine, f"pins: {got()}")
        e = q.error("x-lodge-vcpu-pin", **{"cpu-index": 1, "host-cpus": [4000]})
        check("none of these host CPUs" in e.desc, e.desc)
        e = q.error("x-lodge-vcpu-pin", **{"cpu-index": 2, "host-cpus": [0]})
        check("there is no CPU 2" in e.desc, e.desc)
        check("host-cpus are" in q.error("x-lodge-vcpu-pin", **{"cpu-index": 1, "host-cpus": []}).desc, "no CPU at all")
        check("no control group of its own" in q.error("x-lodge-set-limits", **{"cpu-weight": 10}).desc, "limits without a group")
        check(got() == {0: mine[:1], 1: mine}, f"pins: {got()}")


def memory():
    """On a node of the host, all there from the start and locked."""
    if not os.path.exists("/sys/devices/system/node/node0"):
        raise Skip("the host's kernel knows no nodes")
    refused("--numa: node 0: this host has no memory on node 63", "--numa", "node,host-nodes=63")
    with Rig("--numa", "node,memory=64M,host-nodes=0", "--numa", "node,memory=192M", "--memory-backing", "prealloc=on") as r, r.qmp() as q:
        r.shell()
        dev = q.cmd("query-memdev")
        check([(d["host-nodes"], d["policy"], d["prealloc"]) for d in dev] == [([0], "bind", True), ([], "default", True)], f"{dev}")
        maps = ram_of(q.cmd("x-lodge-info")["pid"], "numa_maps")
        bound = [int(n) for n in re.findall(r"bind:0 .*guest-ram.* N0=(\d+)", maps)]
        rest = [int(n) for n in re.findall(r"default .*guest-ram.* N0=(\d+)", maps)]
        check(sum(bound) >= 64 << 8 and sum(bound + rest) >= 256 << 8, f"pages: {bound} {rest}")
    status, _, err = lodge("run", "--kernel", "/dev/null", "--memory-backing", "lock=on")
    if "more than may be locked" in err:
        return
    with Rig("--memory-backing", "lock=on") as r, r.qmp() as q:
        r.shell()
        kib = int(re.search(r"VmLck:\s+(\d+)", ram_of(q.cmd("x-lodge-info")["pid"], "status"))[1])
        check(kib >= 256 << 10, f"{kib} KiB are locked")


def merged():
    """Pages that may be merged; the guest works, gives memory back, is saved and goes on."""
    if not os.path.exists("/sys/kernel/mm/ksm"):
        raise Skip("the host's kernel merges no pages")
    with Rig("--memory-backing", "merge=on") as r, r.qmp() as q:
        r.shell()
        vm = r.vm
        check([d["merge"] for d in q.cmd("query-memdev")] == [True] and not q.cmd("query-memdev")[0]["share"], "query-memdev")
        flags = [set(f.split()) for size, f in re.findall(r"^Size: +(\d+) kB$.*?^VmFlags: ([^\n]*)$", ram_of(q.cmd("x-lodge-info")["pid"], "smaps"), re.M | re.S)
                 if int(size) >= 128 << 10]
        check(any("mg" in f for f in flags), f"no mapping is to be merged: {flags}")
        want = vm.shell("dd if=/dev/urandom of=/tmp/a bs=1M count=8 2>/dev/null; md5sum /tmp/a").splitlines()[-1]
        snap = os.path.join(r.folder, "snap")
        q.cmd("x-lodge-snapshot-save", directory=snap, then="quit")
        vm.wait(30)
        with Vm("--from-snapshot", snap, env=r.env) as again:
            check(want in again.shell("md5sum /tmp/a"), "its memory is another")
    refused("merge=on and lock=on exclude each other", "--memory-backing", "merge=on,lock=on")
    refused("merge=on and --direct always exclude", "--memory-backing", "merge=on", "--direct", "always")


def limits():
    """A control group of its own, changed while the guest runs, and gone with it."""
    status, _, err = lodge("run", "--kernel", "/nonexistent", "--cpu-weight", "50")
    if "--cpu-weight: " in err:
        check("systemd-run" in err or "no control groups" in err, err)
        raise Skip(err.strip().split(": ", 2)[-1])
    with Rig("--cpu-weight", "50", "--cpu-quota", "150") as r, r.qmp() as q:
        r.shell()
        now = q.cmd("x-lodge-query-limits")
        check(now["cpu-weight"] == 50 and now["cpu-quota"] == 150, f"{now}")
        group = now["cgroup"]
        read = lambda *names: next(open(os.path.join(group, n)).read().strip() for n in names if os.path.exists(os.path.join(group, n)))
        check(read("cpu.weight", "cpu.shares") in ("50", "512") and read("cpu.max", "cpu.cfs_quota_us").split()[0] == "150000", "what is set")
        check(str(q.cmd("x-lodge-info")["pid"]) in read("cgroup.procs").split(), "the process is not in it")
        q.cmd("x-lodge-set-limits", **{"cpu-weight": 200, "cpu-quota": 0})
        check(read("cpu.weight", "cpu.shares") in ("200", "2048") and read("cpu.max", "cpu.cfs_quota_us").split()[0] in ("max", "-1"), "what was changed")
        check("from 1 to 10000" in q.error("x-lodge-set-limits", **{"cpu-weight": 0}).desc, "weight 0")
        check("at most 1000000" in q.error("x-lodge-set-limits", **{"cpu-quota": 1000001}).desc, "a quota of more than all")
        check(q.cmd("x-lodge-query-limits")["cpu-weight"] == 200, "the weight is another")
        q.cmd("quit")
        r.vm.wait(30)
    check(not os.path.exists(group), f"{group} is left")


if __name__ == "__main__":
    sys.exit(run_all([("pinned", pins), ("memory on a node", memory), ("merged pages", merged), ("limits", limits)], jobs=2))
