#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that come and go while Linux runs, works on them and checks what it works out.

    PYTHONPATH=tests/guest tests/guest/test_cpus.py [--rounds N] [NAME...]

The long form has 20 rounds and more; what is missing (tools/mkguest) is skipped.
"""
import os
import re
import shutil
import sys
import tempfile
import time

from guest import SLOW, Vm, check, lodge, run_all, tiny
from qmp import Qmp
from test_gdb import Rsp

ROUNDS = 3
CPU = "max-x86_64-cpu"

# As many self-checking loops as there may be CPUs; each says so if something comes out wrong, and counts.
WORK = ("cat /bin/busybox >/tmp/a; s=$(md5sum </tmp/a); for i in 0 1 2 3; do (n=0; while [ ! -e /tmp/stop ]; do t=$(md5sum </tmp/a); "
        "[ \"$s\" = \"$t\" ] || echo W\"\"RONG; n=$((n+1)); echo $n >/tmp/n$i; done) & done; echo begun")
# Linux' own numbers of CPUs are not ours but follow the order of their coming.  All that are there go online...
ONLINE = ("for c in /sys/devices/system/cpu/cpu[0-9]*; do [ \"$(cat $c/online 2>/dev/null)\" = 0 ] && echo 1 >$c/online; done; "
          "echo there-$(ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l)-online-$(grep -c ^processor /proc/cpuinfo)")
# ... and each is made to compute.
ON_EACH = ("for c in $(sed -n 's/^processor.*: //p' /proc/cpuinfo); do "
           "[ \"$(taskset $(printf %x $((1<<c))) md5sum </tmp/a)\" = \"$s\" ] && echo cpu-$c-works; done")


class Guest:
    """A tiny guest with room for four CPUs, at its shell, with a monitor."""

    def __init__(self, *args, cpus=1, **kw):
        self.dir = tempfile.mkdtemp(prefix="lodge-cpus-")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.dir)
        self.n = 0
        self.args, self.kw = ["--cpus", str(cpus), "--max-cpus", "4", "--net", "none", *args], kw
        self.vm = self.q = None

    def make(self, *args, whole=True):
        self.n += 1
        sock = os.path.join(self.dir, f"q{self.n}")
        monitor = ["--qmp", f"unix:{sock},server=on,wait=off"]
        vm = tiny(*self.args, *monitor, *args, env=self.env, **self.kw) if whole else Vm(*monitor, *args, env=self.env)
        return vm, Qmp(sock)

    def take(self, vm, q):
        if self.vm:
            self.q.close()
            self.vm.__exit__(None, None, None)
        self.vm, self.q = vm, q

    def __enter__(self):
        self.take(*self.make())
        if "--paused" not in self.args:
            self.shell_there()
        return self

    def __exit__(self, *exc):
        if self.q:
            self.q.close()
        self.vm.__exit__(*exc)
        shutil.rmtree(self.dir, ignore_errors=True)

    def shell_there(self, start=0):
        self.vm.expect("init reached", 120, start)
        self.vm.expect("# ", 30, start)

    def until(self, command, pattern, seconds=15):
        end = time.monotonic() + seconds * SLOW
        while not re.search(pattern, out := self.vm.shell(command), re.M):
            check(time.monotonic() < end, f"{command} does not give {pattern}: {out!r}")
            time.sleep(0.05)

    def plug(self, i, name=None):
        self.q.cmd("device_add", driver=CPU, **({"id": name} if name else {}), **{"socket-id": 0, "core-id": i, "thread-id": 0})

    def gone(self, name):
        d = self.q.event("DEVICE_DELETED", 30, lambda d: d.get("device") == name)
        check(d["path"] == "/machine/peripheral/" + name, f"another path: {d}")

    def there(self):
        return [c["cpu-index"] for c in self.q.cmd("query-cpus-fast")]

    def has(self, n):
        self.until(ONLINE, f"^there-{n}-online-{n}$")

    def works_on(self, n):
        """All there are, n of them, are online and compute; nothing came out wrong so far."""
        self.has(n)
        out = self.vm.shell(ON_EACH)
        check(len(set(re.findall(r"^cpu-(\d)-works$", out, re.M))) == n, f"not all CPUs work: {out!r}")
        check("WRONG" not in self.vm.text(), "something came out wrong")

    def refused(self, command, text, cls="GenericError", **args):
        e = self.q.error(command, **args)
        check(text in e.desc and e.cls == cls, f"{command} {args}: {e.cls}: {e.desc}")

    def hmp(self, line):
        return self.q.cmd("human-monitor-command", **{"command-line": line})


def bad_input(g):
    place = {"socket-id": 0, "thread-id": 0}
    add = lambda text, driver=CPU, **a: g.refused("device_add", text, driver=driver, **a)
    add("core-id is not set", **place)
    add("socket-id is not set", **{"core-id": 1, "thread-id": 0})
    add("must be in range 0:3", **place, **{"core-id": 4})
    add("must be in range 0:3", **place, **{"core-id": -1})
    add("must be in range 0:0", **{"socket-id": 1, "core-id": 1, "thread-id": 0})
    add("must be in range", **place, **{"core-id": "1x"})
    add("neither text nor a number", **place, **{"core-id": [1]})
    add("CPU[0] with APIC ID 0 exists", **place, **{"core-id": 0})
    add(f"Property '{CPU}.colour' not found", **place, **{"core-id": 1, "colour": "red"})
    add(f"expected cpu type: '{CPU}'", driver="EPYC-x86_64-cpu", **place, **{"core-id": 1})
    add("not a valid device model", driver="-x86_64-cpu", **place, **{"core-id": 1})
    add("identifier", id="1x", **place, **{"core-id": 1})
    g.refused("device_del", "Boot CPU is unpluggable", id="/machine/unattached/device[0]")
    g.refused("device_del", "not found", "DeviceNotFound", id="/machine/unattached/device[1]")
    g.refused("device_del", "not found", "DeviceNotFound", id="c1")
    check(g.there() == [0], f"something was plugged in: {g.there()}")


def words(g):
    """What is said of those that are there, and of those that are not."""
    slots = g.q.cmd("query-hotpluggable-cpus")
    check([s["props"]["core-id"] for s in slots if "qom-path" in s] == [0] and len(slots) == 4 and {s["type"] for s in slots} == {CPU}, f"{slots}")
    check(any(m["hotpluggable-cpus"] for m in g.q.cmd("query-machines")), "query-machines")
    check("core-id" in [p["name"] for p in g.q.cmd("device-list-properties", typename=CPU)], "device-list-properties")
    check(g.hmp(f"device_add {CPU},id=c2,socket-id=0,core-id=2,thread-id=0") == "", "device_add in the monitor for people")
    out = g.hmp("info hotpluggable-cpus")
    check(out.count("qom_path") == 2 and '"/machine/peripheral/c2"' in out, out)
    check("CPU #2" in g.hmp("info cpus") and "CPU #1" not in g.hmp("info cpus"), g.hmp("info cpus"))
    check(g.q.cmd("x-lodge-info")["cpus"] == 2, "x-lodge-info")
    g.refused("device_add", "CPU[2] with APIC ID 2 exists", driver=CPU, **{"socket-id": 0, "core-id": 2, "thread-id": 0})
    g.refused("device_add", "Duplicate device ID", driver=CPU, id="c2", **{"socket-id": 0, "core-id": 1, "thread-id": 0})
    e = g.q.event("ACPI_DEVICE_OST", 20)["info"]
    check(e == {"device": "c2", "slot": "2", "slot-type": "CPU", "source": 1, "status": 0}, f"_OST said {e}")
    g.has(2)
    check(g.hmp("device_del c2") == "", "device_del in the monitor for people")
    g.gone("c2")
    check(g.q.cmd("query-acpi-ospm-status")[2]["source"] == 3, "query-acpi-ospm-status")


def rounds(n, *args):
    with Guest(*args) as g:
        bad_input(g)
        words(g)
        g.vm.shell(WORK)
        g.works_on(1)
        for k in range(n):
            for i in (1, 2, 3):
                g.plug(i, f"c{i}")
            g.works_on(4)
            check(g.there() == [0, 1, 2, 3], f"there are {g.there()}")
            order = [(1, 2, 3), (3, 1, 2), (2, 3, 1)][k % 3]
            for i in order:
                g.q.cmd("device_del", id=f"c{i}")
            for i in order:
                g.gone(f"c{i}")
            g.works_on(1)
        check(g.there() == [0], f"there are {g.there()}")
        g.vm.shell("touch /tmp/stop; wait")
        out = g.vm.shell("cat /tmp/n*; echo complaints-$(dmesg | grep -cE 'BUG:|WARNING:|stall|Oops')")
        check(len(re.findall(r"^[1-9]\d*$", out, re.M)) == 4, f"not all loops went on: {out!r}")
        check(re.search("^complaints-0$", out, re.M), f"the kernel complains: {g.vm.shell('dmesg')}")


def pc():
    rounds(ROUNDS)


def micro():
    rounds(max(1, ROUNDS // 3), "--machine", "micro")


def resets():
    """A reset keeps CPUs that came, and ends what the guest was asked for; with and without firmware."""
    for args in ([], ["--firmware", "bios"]):
        with Guest(*args, cpus=2) as g:
            g.plug(3, "c3")
            g.q.cmd("device_del", id="/machine/unattached/device[1]")
            d = g.q.event("DEVICE_DELETED", 30)
            check(d == {"path": "/machine/unattached/device[1]"}, f"{d}")
            start = len(g.vm.text())
            g.q.cmd("system_reset")
            g.q.event("RESET", 20)
            g.shell_there(start)
            g.has(2)
            check(g.there() == [0, 3], f"there are {g.there()}")
            if args:
                continue
            # Asked, and reset before it can answer.
            g.q.cmd("stop")
            g.q.cmd("device_del", id="c3")
            g.refused("device_del", "already in the process of unplug", id="c3")
            g.plug(2, "c2")
            start = len(g.vm.text())
            g.q.cmd("system_reset")
            g.gone("c3")
            g.q.cmd("cont")
            g.shell_there(start)
            g.has(2)
            check(g.there() == [0, 2], f"there are {g.there()}")


def saved():
    """Saved with CPUs that came, one of which the guest is asked for and has not heard of it yet."""
    with Guest() as g:
        g.vm.shell(WORK)
        for i in (1, 2, 3):
            g.plug(i, f"c{i}")
        g.works_on(4)
        g.q.cmd("device_del", id="c2")
        g.gone("c2")
        g.has(3)
        g.q.cmd("stop")
        g.q.cmd("device_del", id="c3")
        g.plug(2, "again")
        place = os.path.join(g.dir, "snap")
        g.q.cmd("x-lodge-snapshot-save", directory=place, then="quit")
        check(g.vm.wait(30) == 0, "it did not end")
        g.take(*g.make("--from-snapshot", place, whole=False))
        g.vm.send("\n")
        g.gone("c3")
        g.works_on(3)
        check(g.there() == [0, 1, 2], f"there are {g.there()}")
        paths = [c["qom-path"] for c in g.q.cmd("query-cpus-fast")]
        check(paths == ["/machine/unattached/device[0]", "/machine/peripheral/c1", "/machine/peripheral/again"], f"{paths}")
        for name in ("c1", "again"):
            g.q.cmd("device_del", id=name)
            g.gone(name)
        g.works_on(1)


def reverted():
    """savevm and loadvm: who is there is what the snapshot has, with fewer and with more CPUs."""
    folder = tempfile.mkdtemp(prefix="lodge-cpus-disk-")
    try:
        disk = os.path.join(folder, "d.qcow2")
        check(lodge("img", "create", "-f", "qcow2", disk, "8M")[0] == 0, "no image")
        with Guest("--disk", disk, memory="128M") as g:
            g.vm.shell(WORK)
            check(g.hmp("savevm one") == "", "savevm")
            g.plug(1, "c1")
            g.plug(2, "c2")
            g.works_on(3)
            check(g.hmp("savevm three") == "", "savevm")
            for name, cpus in (("one", [0]), ("three", [0, 1, 2]), ("one", [0])):
                check(g.hmp(f"loadvm {name}") == "", "loadvm")
                check(g.there() == cpus, f"there are {g.there()}")
                g.vm.send("\n")
                g.works_on(len(cpus))
            g.plug(2, "c2")
            g.works_on(2)
            check("WRONG" not in g.vm.text(), "something came out wrong")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def before():
    """A guest that has not begun finds what came and went meanwhile, when it boots; with and without firmware."""
    for args in ([], ["--firmware", "bios"]):
        with Guest("--paused", *args, cpus=2) as g:
            g.plug(2, "c2")
            g.plug(3)
            g.q.cmd("device_del", id="c2")
            g.gone("c2")
            g.q.cmd("device_del", id="/machine/unattached/device[1]")
            g.q.event("DEVICE_DELETED", 5)
            g.plug(2, "again")
            g.q.cmd("cont")
            g.shell_there()
            out = g.vm.shell("grep -c ^processor /proc/cpuinfo; dmesg | grep 'Total of'")
            check(re.search(r"^3$", out, re.M) and "Total of 3 processors" in out, f"it booted with others: {out!r}")
            check(g.there() == [0, 2, 3], f"there are {g.there()}")


def debugger():
    """gdb's threads are the CPUs there are."""
    folder = tempfile.mkdtemp(prefix="lodge-cpus-gdb-")
    try:
        with Guest("--gdb", f"unix:{folder}/g") as g:
            g.plug(2, "c2")
            g.has(2)
            r = Rsp(os.path.join(folder, "g"))
            check(r.ask("?").startswith("T") and r.ask("qfThreadInfo") == "m01,03", "the threads")
            check([r.ask(t) for t in ("T03", "T02", "Hg02", "Hg03")] == ["OK", "E16", "E16", "OK"], "threads that are there, and not")
            r.send("vCont;s:3;c")
            check("thread:03" in r.answer(), "a step of the second CPU")
            r.ok("D")
            g.vm.send("\n")
            g.q.cmd("device_del", id="c2")
            g.gone("c2")
            r = Rsp(os.path.join(folder, "g"))
            check(r.ask("qfThreadInfo") == "m01", "the threads")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def moves():
    """Migrates with a CPU that came, to one that knows its name and back to one that does not."""
    with Guest(memory="128M") as g:
        g.vm.shell(WORK)
        g.plug(1, "c1")
        g.plug(3, "c3")
        g.has(3)
        for n, args in enumerate((["--vcpu", "1,id=c1", "--vcpu", "2"], [])):
            path = os.path.join(g.dir, f"s{n}")
            vm, q = g.make("--incoming", "unix:" + path, *args)
            g.q.cmd("migrate-set-parameters", **{"downtime-limit": 2000})
            g.q.cmd("migrate", uri="unix:" + path)
            end = time.monotonic() + 60 * SLOW
            while (s := g.q.cmd("query-migrate"))["status"] != "completed":
                check(s["status"] not in ("failed", "cancelled") and time.monotonic() < end, f"it ended as {s} {vm.err()}")
                time.sleep(0.05)
            g.take(vm, q)
            check(g.there() == [0, 1, 3], f"there are {g.there()}")
            g.vm.send("\n")
            g.works_on(3)
        check("WRONG" not in g.vm.text(), "something came out wrong")
        paths = {c["cpu-index"]: c["qom-path"] for c in g.q.cmd("query-cpus-fast")}
        for i in (1, 3):
            g.q.cmd("device_del", id=paths[i])
            check(g.q.event("DEVICE_DELETED", 30) == {"path": paths[i]}, "another CPU")
        g.plug(2, "c2")
        g.has(2)


if __name__ == "__main__":
    if "--rounds" in sys.argv:
        at = sys.argv.index("--rounds")
        ROUNDS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    sys.exit(run_all([("pc: they come, work and go", pc), ("micro: likewise", micro), ("resets", resets), ("saved in mid-request", saved), ("moved", moves), ("savevm, loadvm", reverted), ("before it begins", before), ("gdb", debugger)],
                     jobs=2))
