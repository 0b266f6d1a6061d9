#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that comes and goes (virtio-mem) with Linux's driver: a guest grows and shrinks while programs work in what has come and check
it, is reset, saved, moved and brought back.  tests/guest/mkshare prepares the kernel.

    PYTHONPATH=tests/guest tests/guest/test_memory.py [--rounds N] [NAME...]

The long form has 20 rounds, and a guest of 1 GiB that grows to 4.
"""
import json
import os
import re
import shutil
import sys
import time

from guest import INITRD, SLOW, Failed, Place, Skip, Vm, check, lodge, need_guest, run_all
from qmp import Qmp

DIR = os.environ.get("LODGE_SHARE_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/share")
KERNEL, MODULES = os.path.join(DIR, "vmlinuz"), os.path.join(DIR, "modules.img")
MIB = 1 << 20
ROUNDS = 0	# 0: the short form

# Files in memory, more of them while there is room, each checked again and again; less where memory is to go.  What is wrong says so.
WORK = ("mkdir -p /w; mount -t tmpfs -o size=90% none /w; head -c 4000000 /dev/urandom >/a; s=$(md5sum </a); echo 0 >/n; "
        "(i=0; while [ ! -e /stop ]; do i=$((i+1)); m=$(cat /most); if [ $((i % (m+1))) -lt $m ]; then cp /a /w/f$((i % m)); fi; "
        "for f in /w/f*; do [ \"$(md5sum <$f)\" = \"$s\" ] || echo W\"\"RONG; case $f in /w/f*) [ ${f#/w/f} -lt $m ] || rm -f $f;; esac; done; echo $i >/n; done; echo finished) & echo begun")


class Guest:
    def __init__(self, place, *args, memory="256M,max=1G", cpus=2, append="", name=None):
        self.place, self.memory = place, memory
        self.options = [*(["--name", name] if name else []), "--memory", memory, "--cpus", str(cpus), "--kernel", KERNEL, "--initrd", INITRD, "--initrd", MODULES, "--net", "none",
                        "--append", f"quiet memhp_default_state=online_movable {append}".strip(), *args]
        self.n = 0
        self.vm = self.q = None

    def make(self, *args, whole=True):
        self.n += 1
        sock = self.place.path(f"q{self.n}")
        vm = Vm(*(self.options if whole else []), "--qmp", f"unix:{sock},server=on,wait=off", *args, env=self.place.env)
        return vm, Qmp(sock)

    def take(self, vm, q):
        if self.vm:
            self.q.close()
            self.vm.__exit__(None, None, None)
        self.vm, self.q = vm, q

    def __enter__(self):
        need_guest(INITRD)
        if not os.path.exists(MODULES):
            raise Skip(f"{MODULES} is missing; run tests/guest/mkshare")
        self.take(*self.make())
        try:
            self.shell_there()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc):
        self.q.close()
        self.vm.__exit__(*exc)

    def shell_there(self, start=0):
        self.vm.expect("init reached", 120, start)
        self.vm.expect("# ", 30, start)
        self.vm.shell("stty -echo; PS1=; dmesg -n 1")
        if "virtio_mem" not in self.vm.shell("lsmod"):
            raise Skip("the RAM disk has no virtio_mem; run tests/guest/mkshare again")

    def hmp(self, line):
        return self.q.cmd("human-monitor-command", **{"command-line": line})

    def device(self, i=0):
        return self.q.cmd("query-memory-devices")[i]["data"]

    def size(self):
        return self.q.cmd("query-memory-size-summary")["plugged-memory"]

    def ask(self, mib, name="vm0"):
        self.q.cmd("qom-set", path="/machine/peripheral/" + name, property="requested-size", value=mib * MIB)

    def until(self, mib, seconds=60):
        """Until so much is plugged."""
        end = time.monotonic() + seconds * SLOW
        while (n := self.size()) != mib * MIB:
            if time.monotonic() > end:
                raise Failed(f"the guest has {n // MIB} MiB, not {mib} MiB, of the device: {self.vm.shell('dmesg | tail -n 5')}")
            time.sleep(0.02)

    def number(self, command):
        """What it prints last."""
        return int(re.findall(r"^(\d+)$", self.vm.shell(command), re.M)[-1])

    def has(self, mib):
        """What Linux says it has, without what it keeps for itself.  It takes blocks away from itself after it has given them up."""
        end = time.monotonic() + 20 * SLOW
        while not 0.8 * mib - 90 < (n := self.number("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo") // 1024) <= mib:
            check(time.monotonic() < end, f"Linux has {n} MiB of {mib}")
            time.sleep(0.1)

    def resident(self):
        """MiB of the host's memory behind the guest's."""
        with open(f"/proc/{self.vmm()}/smaps", encoding="utf-8") as f:
            text = f.read()
        return sum(int(m.group(1)) for m in re.finditer(r"guest-ram.*?\nRss: +(\d+) kB", text, re.S)) // 1024

    def vmm(self):
        return self.q.cmd("x-lodge-info")["pid"]

    def fine(self):
        check("WRONG" not in self.vm.text(), "something came out wrong")
        out = self.vm.shell("echo complaints-$(dmesg | grep -cE 'BUG:|WARNING:|Oops|bad page')")
        if "complaints-0" not in out:
            raise Failed(f"the kernel complains: {self.vm.shell('dmesg')}")

    def refused(self, text, command, cls="GenericError", **args):
        e = self.q.error(command, **args)
        check(text in e.desc and e.cls == cls, f"{command} {args}: {e.cls}: {e.desc}")


def words():
    with Place() as p, Guest(p, name="g") as g:
        d = g.device()
        check(d["id"] == "vm0" and d["memaddr"] == 4 << 30 and d["max-size"] == 768 * MIB and d["block-size"] == 2 * MIB and d["size"] == d["requested-size"] == 0
              and d["memdev"] == "/objects/vm0" and d["node"] == 0, f"{d}")
        tree = "/machine/peripheral/vm0"
        g.refused("has to be multiples of 'block-size'", "qom-set", path=tree, property="requested-size", value=MIB)
        g.refused("cannot exceed the memory backend size", "qom-set", path=tree, property="requested-size", value=1 << 30)
        g.refused("expects a size", "qom-set", path=tree, property="requested-size", value=-2 * MIB)
        g.refused("expects a size", "qom-set", path=tree, property="requested-size", value="2X")
        g.refused("expects a size", "qom-set", path=tree, property="requested-size", value=[1])
        g.refused("Property 'virtio-mem-pci.size' not found", "qom-set", path=tree, property="size", value=0)
        g.refused("not found", "qom-set", "DeviceNotFound", path="/machine/peripheral/vm1", property="requested-size", value=0)
        g.refused("from 256 to 1024 MiB", "x-lodge-memory", size=2 << 30)
        g.refused("from 256 to 1024 MiB", "x-lodge-memory", size=128 * MIB)
        g.refused("blocks of 2048 KiB", "x-lodge-memory", size=257 * MIB)
        g.q.cmd("qom-set", path=tree, property="requested-size", value="128M")
        e = g.q.event("MEMORY_DEVICE_SIZE_CHANGE", 30, lambda e: e["size"] == 128 * MIB)
        check(e == {"id": "vm0", "size": 128 * MIB, "qom-path": tree}, f"{e}")
        check(g.q.cmd("qom-get", path="vm0", property="size") == 128 * MIB, "qom-get")
        check("size: 134217728\r\n" in g.hmp("info memory-devices"), g.hmp("info memory-devices"))
        check(g.hmp("info memory_size_summary") == "base memory: 268435456\r\nplugged memory: 134217728\r\n", "info memory_size_summary")
        check(g.hmp("qom-set vm0 requested-size 256M") == "" and g.hmp("qom-get vm0 requested-size") == "268435456\r\n", "qom-set of the monitor for people")
        g.until(256)
        g.has(512)
        check(g.q.cmd("x-lodge-memory") == {"size": 512 * MIB, "requested": 512 * MIB, "min": 256 * MIB, "max": 1024 * MIB}, "x-lodge-memory")
        status, out, err = p.tool("memory", "g", "1G")
        check(status == 0 and out == b"1024 MiB (from 256 to 1024 MiB)\n", f"{status} {out} {err}")
        g.has(1024)
        status, out, err = p.tool("memory", "g", "256M", "--output", "json")
        check(status == 0 and json.loads(out)["size"] == 256 * MIB, f"{status} {out} {err}")
        g.has(256)
        status, out, err = p.tool("memory", "g", "5G")
        check(status == 1 and "5120 MiB: the guest may have from 256 to 1024 MiB\n" in err, f"{status} {out} {err}")
        # One that does nothing about it is told of.
        g.vm.shell("echo virtio2 >/sys/bus/virtio/drivers/virtio_mem/unbind; for d in /sys/bus/virtio/drivers/virtio_mem/virtio*; do echo ${d##*/} >/sys/bus/virtio/drivers/virtio_mem/unbind; done")
        status, out, err = p.tool("memory", "g", "512M", "--wait", "1")
        check(status == 1 and "256 MiB, should have 512 MiB" in out.decode() and "virtio_mem" in err, f"{status} {out} {err}")
        g.fine()


def rounds():
    """It grows to four times what it had and shrinks again, while it works in it."""
    long = ROUNDS > 0
    base, most = (1024, 4096) if long else (256, 768)
    with Place() as p, Guest(p, memory=f"{base}M,max={most}M") as g:
        g.vm.shell("echo 8 >/most")
        g.vm.shell(WORK)
        times = []
        for k in range(ROUNDS or 2):
            start = time.monotonic()
            g.ask(most - base)
            g.until(most - base)
            grown = time.monotonic()
            g.has(most)
            files = most // 4 // 2 - 8 if long else 30
            g.vm.shell(f"echo {files} >/most")
            n = g.number("cat /n")
            deadline = time.monotonic() + 120 * SLOW
            while g.number("ls /w | wc -l") < files // 2:
                check(time.monotonic() < deadline, "the work does not go on")
                time.sleep(0.1)
            g.vm.shell("echo 8 >/most")
            while g.number("ls /w | wc -l") > 8:
                check(time.monotonic() < deadline, "the files do not go")
                time.sleep(0.1)
            check(g.number("cat /n") > n, "the work does not go on")
            shrinking = time.monotonic()
            g.ask(0)
            g.until(0, 180)
            times.append((grown - start, time.monotonic() - shrinking))
            g.has(base)
            check(g.resident() <= base + 32, f"{g.resident()} MiB of the host's memory are behind {base}")
        g.vm.shell("touch /stop; wait")
        g.fine()
        print("# grown and shrunk in s: " + ", ".join(f"{a:.2f} {b:.2f}" for a, b in times))


def several():
    """Devices by themselves, with blocks of other sizes; on the machine without PCI, too."""
    for machine in ("pc", "micro"):
        with Place() as p, Guest(p, "--machine", machine, "--memory-device", "a,size=256M,block-size=4M,requested-size=128M", "--memory-device", "b,size=512M,memdev=back",
                                 memory="256M,max=1G") as g:
            g.until(128)
            check([d["data"]["memaddr"] >> 30 for d in g.q.cmd("query-memory-devices")] == [4, 5], "addresses")
            check(g.device(1)["memdev"] == "/objects/back" and g.device(0)["block-size"] == 4 * MIB, "query-memory-devices")
            g.q.cmd("x-lodge-memory", size=768 * MIB)	# the first as a whole
            g.until(512)
            check([g.device(i)["size"] for i in (0, 1)] == [256 * MIB, 256 * MIB], "which has how much")
            g.has(768)
            g.fine()


def resets():
    """A reset unplugs all, and the system that boots then asks for as much again; with and without firmware."""
    for args in ([], ["--firmware", "bios"]):
        with Place() as p, Guest(p, *args) as g:
            g.ask(512)
            g.until(512)
            g.q.cmd("stop")
            start = len(g.vm.text())
            g.q.cmd("system_reset")
            g.q.event("RESET", 20)
            check(g.size() == 0 and g.device()["requested-size"] == 512 * MIB, "it is still there")
            g.q.cmd("cont")
            g.shell_there(start)
            g.until(512)
            g.has(768)
            g.fine()


def saved():
    """Saved with some of it plugged in, and goes on with that."""
    with Place() as p, Guest(p) as g:
        g.ask(256)
        g.until(256)
        g.vm.shell("echo 40 >/most")
        g.vm.shell(WORK)
        place = p.path("snap")
        g.q.cmd("x-lodge-snapshot-save", directory=place, then="quit")
        check(g.vm.wait(30) == 0, "it did not end")
        g.take(*g.make("--from-snapshot", place, whole=False))
        g.vm.send("\n")
        check(g.size() == 256 * MIB, "it has another size")
        g.has(512)
        g.ask(768)
        g.until(768)
        g.vm.shell("echo 4 >/most")
        g.ask(0)
        g.until(0, 120)
        g.has(256)
        g.fine()


def reverted():
    """savevm and loadvm: how much there is is what the snapshot has."""
    with Place() as p:
        disk = p.path("d.qcow2")
        check(lodge("img", "create", "-f", "qcow2", disk, "8M")[0] == 0, "no image")
        with Guest(p, "--disk", disk, memory="192M,max=576M") as g:
            g.vm.shell("echo 10 >/most")
            g.vm.shell(WORK)
            check(g.hmp("savevm none") == "", "savevm")
            g.ask(128)
            g.until(128)
            check(g.hmp("savevm some") == "", "savevm")
            g.ask(320)
            g.until(320)
            for name, mib in (("some", 128), ("none", 0), ("some", 128)):
                check(g.hmp(f"loadvm {name}") == "", "loadvm")
                check(g.size() == mib * MIB and g.device()["requested-size"] == mib * MIB, f"there are {g.size()}")
                g.vm.send("\n")
                g.has(192 + mib)
            g.ask(256)
            g.until(256)
            g.fine()


def moved():
    """Migrates while it grows, and shrinks on the other side; and back."""
    with Place() as p, Guest(p) as g:
        g.vm.shell("echo 30 >/most")
        g.vm.shell(WORK)
        for n, mib in enumerate((512, 128)):
            path = p.path(f"s{n}")
            vm, q = g.make("--incoming", "unix:" + path)
            g.q.cmd("migrate-set-parameters", **{"downtime-limit": 2000, "max-bandwidth": 64 * MIB})
            g.q.cmd("migrate", uri="unix:" + path)
            g.vm.shell(f"echo {10 if n else 60} >/most")
            g.ask(mib)
            end = time.monotonic() + 90 * SLOW
            while (s := g.q.cmd("query-migrate"))["status"] != "completed":
                check(s["status"] not in ("failed", "cancelled") and time.monotonic() < end, f"it ended as {s} {vm.err()}")
                time.sleep(0.05)
            g.take(vm, q)
            g.vm.send("\n")
            check(g.device()["requested-size"] == mib * MIB, "another size is requested")
            g.until(mib, 120)
            g.has(256 + mib)
        check("WRONG" not in g.vm.text(), "something came out wrong")
        # One that has no such device is refused.
        g.memory = "256M"
        g.options[g.options.index("--memory") + 1] = "256M"
        path = p.path("s9")
        vm, q = g.make("--incoming", "unix:" + path)
        with vm:
            g.q.cmd("migrate", uri="unix:" + path)
            end = time.monotonic() + 60 * SLOW
            while (s := g.q.cmd("query-migrate"))["status"] != "failed":
                check(s["status"] != "completed" and time.monotonic() < end, f"it ended as {s}")
                time.sleep(0.05)
            check("memory is 1024 MiB here and 256 MiB there" in s["error-desc"], s["error-desc"])
            q.close()
        g.fine()


def refused_at_the_start():
    for args, text in ((["--memory", "1G,max=512M"], "--memory: max= is 512 MiB, less than the 1024 MiB at the start"),
                       (["--memory", "1G,most=2G"], "'most' is not max=SIZE"),
                       (["--memory", "512M,max=1G", "--memory-device", "a,size=1G"], "more than max= of --memory"),
                       (["--memory-device", "a,size=1G,block-size=3M"], "'block-size' is a power of two"),
                       (["--memory-device", "a,size=1G,requested-size=2G"], "'requested-size' cannot exceed"),
                       (["--memory-device", "a,size=1G", "--memory-device", "a,size=1G"], "id=a is another device's already"),
                       (["--memory-device", "a,size=4096G,requested-size=4096G"], "more than this host has"),
                       (["--memory-device", "a,colour=red"], "not one of size=SIZE")):
        status, _, err = lodge("run", "--kernel", KERNEL, *args)
        check(status != 0 and text in err and len(err.strip().split("\n")) <= 2, f"{args}: {status} {err}")


if __name__ == "__main__":
    if "--rounds" in sys.argv:
        at = sys.argv.index("--rounds")
        ROUNDS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    sys.exit(run_all([("words", words), ("rounds: grows and shrinks at work", rounds), ("several devices", several), ("resets", resets), ("saved", saved), ("savevm, loadvm", reverted),
                      ("moved", moved), ("refused at the start", refused_at_the_start)], jobs=2))
