#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes of memory and the places of CPUs, as Linux finds them, and as the control protocol tells of them.

    PYTHONPATH=tests/guest tests/guest/test_numa.py [NAME...]
"""
import re
import sys

from guest import check, lodge, run_all
from test_cpus import CPU, Guest

# What Linux makes of SRAT, SLIT and CPUID, one line each.
LOOK = ("cd /sys/devices/system/node; for n in node[0-9]*; do echo $n cpus $(cat $n/cpulist) far $(cat $n/distance) kib $(sed -n 's/.*MemTotal: *//p' $n/meminfo); done; "
        "cd /sys/devices/system/cpu; for c in cpu[0-9]*; do [ -e $c/topology/core_id ] && echo $c at $(cat $c/topology/physical_package_id "
        "$c/topology/core_id) with $(cat $c/topology/thread_siblings_list) in $(cat $c/topology/core_siblings_list); done; cd /")


def look(g):
    out = g.vm.shell(LOOK)
    nodes = {int(n): (cpus, [int(d) for d in far.split()], int(kib))
             for n, cpus, far, kib in re.findall(r"^node(\d+) cpus ?(\S*) far ([\d ]+?) kib (\d+) kB", out, re.M)}
    cpus = {int(n): rest for n, rest in re.findall(r"^cpu(\d+) at (\d+ \d+ with \S+ in \S+)", out, re.M)}
    return nodes, cpus


def nodes(*machine):
    with Guest("--memory", "448M", "--numa", "node,memory=128M,distance=1:21,cpus=0,cpus=2", "--numa", "node,memory=192M,cpus=1,,3",
               "--numa", "node,memory=128M,distance=0:31,distance=1:255", *machine, cpus=2) as g:
        got, _ = look(g)
        check({n: (c, d) for n, (c, d, _) in got.items()} == {0: ("0", [10, 21, 31]), 1: ("1", [21, 10, 255]), 2: ("", [31, 255, 10])}, f"nodes are {got}")
        # The kernel's own part, which lies where it was put at random, is not in MemTotal.
        check(all(want // 4 <= got[n][2] >> 10 <= want for n, want in enumerate((128, 192, 128))), f"memory is {got}")
        # One that comes is where it belongs.
        g.refused("device_add", "must match numa node", driver=CPU, **{"socket-id": 0, "core-id": 3, "thread-id": 0, "node-id": 0})
        g.q.cmd("device_add", driver=CPU, **{"socket-id": 0, "core-id": 3, "thread-id": 0, "node-id": 1})
        g.has(3)
        check(look(g)[0][1][0] == "1-2", f"CPU 3 is elsewhere: {look(g)[0]}")
        ids = [s["props"]["node-id"] for s in reversed(g.q.cmd("query-hotpluggable-cpus"))]
        check(ids == [0, 1, 0, 1], f"query-hotpluggable-cpus: {ids}")
        check({c["cpu-index"]: c["props"]["node-id"] for c in g.q.cmd("query-cpus-fast")} == {0: 0, 1: 1, 3: 1}, "query-cpus-fast")
        sizes = [(m["id"], m["size"] >> 20) for m in g.q.cmd("query-memdev")]
        check(sizes == [("ram-node0", 128), ("ram-node1", 192), ("ram-node2", 128)], f"query-memdev: {sizes}")
        out = g.hmp("info numa")
        check(out.startswith("3 nodes\r\nnode 0 cpus: 0\r\nnode 0 size: 128 MB") and "node 1 cpus: 1 3\r\n" in out, out)
        check("ram-node2" in g.hmp("info memdev") and '"1"' in g.hmp("info hotpluggable-cpus"), "the monitor for people")


def pc():
    nodes()


def micro():
    nodes("--machine", "micro")


def places():
    """Sockets of cores with threads; a CPU that is plugged in is named by its place."""
    with Guest("--topology", "sockets=2,threads=2", "--numa", "node", "--numa", "node", cpus=3) as g:
        got, cpus = look(g)
        check(cpus == {0: "0 0 with 0-1 in 0-1", 1: "0 0 with 0-1 in 0-1", 2: "1 0 with 2 in 2"}, f"CPUs are {cpus}")
        check([got[n][0] for n in (0, 1)] == ["0-1", "2"], f"nodes are {got}")
        g.q.cmd("device_add", driver=CPU, **{"socket-id": 1, "core-id": 0, "thread-id": 1})
        g.has(4)
        check(look(g)[1][3] == "1 0 with 2-3 in 2-3", f"CPU 3 is elsewhere: {look(g)[1]}")
        check(g.there() == [0, 1, 2, 3], f"there are {g.there()}")


def bad_input():
    def refused(text, *args):
        status, _, err = lodge("run", "--dry-run", "--kernel", "k", *args)
        check(status == 1 and text in err and err.count("\n") == 1, f"{args}: {status}: {err}")

    refused("--numa: 'nodes' is not node", "--numa", "nodes")
    refused("not one of cpus=LIST", "--numa", "node,colour=red")
    refused("is not NODE:DISTANCE", "--numa", "node,distance=20")
    refused("the nodes have 512 MiB of memory, the guest has 1024 MiB", "--memory", "1G", "--numa", "node,memory=512M")
    refused("is a power of two here", "--cpus", "6", "--topology", "sockets=2,cores=3")
    refused("make 8 CPUs, not 4", "--cpus", "4", "--topology", "sockets=2,cores=2,threads=2")


if __name__ == "__main__":
    sys.exit(run_all([("pc: nodes, and a CPU that comes", pc), ("micro: likewise", micro), ("sockets, cores, threads", places), ("bad input", bad_input)], jobs=2))
