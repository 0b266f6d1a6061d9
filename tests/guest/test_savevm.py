#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots inside disks: a guest that checks itself and two disks is saved, goes on, and is brought back, again and again; in a new
process; as QMP's jobs; refused where it cannot be; and the images after sudden death in the middle."""
import json
import os
import random
import shutil
import signal
import subprocess
import time

from guest import ACCEL, INITRD, KERNEL, SLOW, Place, check, need_guest, run_all, tiny
from qmp import Qmp, QmpError

# What is in memory and on both disks must agree, and the disks are asked anew each time.
WORK = ("cp /bin/busybox /tmp/a; s=$(md5sum </tmp/a); n=0; while :; do n=$((n+1)); k=$(printf 'n%014d' $n); "
        "for d in vda vdb; do echo $k | dd of=/dev/$d bs=16 count=1 seek=$((n%64*4096)) conv=notrunc 2>/dev/null; "
        "echo $k | dd of=/dev/$d bs=16 count=1 conv=notrunc 2>/dev/null; done; "
        "sync; echo 3 >/proc/sys/vm/drop_caches; for d in vda vdb; do "
        "[ \"$(dd if=/dev/$d bs=16 count=1 2>/dev/null)\" = $k ] || echo W\"\"RONG $d $k; done; "
        "dd if=/tmp/a of=/tmp/b bs=64k 2>/dev/null; [ \"$s\" = \"$(md5sum </tmp/b)\" ] || echo W\"\"RONG memory; echo round-$n; done\n")


TIMES = int(os.environ.get("LODGE_SAVEVM_TIMES", 8))


class Disks(Place):
    """A place with disks."""

    def image(self, name, size="64M", *options):
        status, _, err = self.tool("img", "create", "-f", "qcow2", *options, self.path(name), size)
        check(status == 0, f"no image: {err}")
        return self.path(name)

    def check_image(self, name, leaks=False):
        status, out, err = self.tool("img", "check", self.path(name))
        check(status == 0 or (leaks and status == 3), f"the check of {name} gives {status}: {out} {err}")
        if shutil.which("qemu-img"):
            p = subprocess.run(["qemu-img", "check", self.path(name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            check(p.returncode == 0 or (leaks and p.returncode == 3), f"qemu-img check of {name}: {p.returncode} {p.stdout}")

    def open_again(self, name):
        """An image that was in the middle of a snapshot is dirty: who opens it for writing makes it good.  The kernel gives a killed
        process' locks back when its rings have ended, which may be after the process."""
        deadline = time.monotonic() + 10
        while True:
            status, _, err = self.tool("img", "resize", self.path(name), "+0")
            if not status:
                return
            check("is locked by" in err and time.monotonic() < deadline, f"{name} cannot be opened: {err}")
            time.sleep(0.05)

    def vm(self, *args, **kw):
        return tiny("--name", "s", "--disk", self.path("a.qcow2"), "--disk", self.path("b.qcow2"), *args, env=self.env, **kw)

    def qmp(self):
        return Qmp(os.path.join(self.dir, "lodge", "s", "qmp"))


def hmp(q, line):
    return q.cmd("human-monitor-command", command_line=line)


def rounds(vm, n, start=0):
    """n more rounds; returns the numbers of the first and the last."""
    first = last = 0
    for i in range(n):
        m = vm.expect(r"round-(\d+)\n", 60, start)
        start, last = m.end(), int(m.group(1))
        first = first or last
    check("WRONG" not in vm.text(), f"the guest found something wrong: {vm.text()[-300:]}")
    return first, last


def now(vm):
    return len(vm.text())


def at_work(vm):
    vm.expect(r"init reached", 120)
    vm.expect(r"# ", 30)
    vm.send(WORK)
    return rounds(vm, 2)[1]


def last_round(vm):
    return int(vm.text().rsplit("round-", 1)[1].split("\n")[0])


def save(vm, q, tag):
    """Standing still, so that it is known where it is."""
    q.cmd("stop")
    time.sleep(0.1)
    at = last_round(vm)
    check(hmp(q, f"savevm {tag}") == "", "savevm")
    q.cmd("cont")
    return at


def load(vm, q, tag, at):
    """It must go on where it was saved."""
    out = hmp(q, f"loadvm {tag}")
    check(out == "", f"loadvm: {out}")
    first, _ = rounds(vm, 2, now(vm))
    check(at <= first <= at + 2, f"round {first} came after a load of round {at}")


def again_and_again(cpus, times):
    def test():
        with Disks() as p:
            p.image("a.qcow2")
            p.image("b.qcow2", "32M", "-o", "cluster_size=4k")
            with p.vm("--cpus", str(cpus)) as vm, p.qmp() as q:
                at_work(vm)
                tags = {}
                rnd = random.Random(cpus)
                for i in range(times):
                    tag = f"t{i % 3}"
                    tags[tag] = save(vm, q, tag)
                    rounds(vm, rnd.randrange(1, 4), now(vm))
                    tag = rnd.choice(sorted(tags))
                    load(vm, q, tag, tags[tag])
                    if i % 5 == 4:
                        tag = rnd.choice(sorted(tags))
                        check(hmp(q, f"delvm {tag}") == "", "delvm")
                        del tags[tag]
                        check("does not exist" in hmp(q, f"loadvm {tag}"), "one that was deleted was loaded")
                        rounds(vm, 1, now(vm))
                out = hmp(q, "info snapshots")
                check(all(t in out for t in tags) and "on all disks" in out, out)
                for tag in tags:
                    hmp(q, f"delvm {tag}")
                check("no snapshot" in hmp(q, "info snapshots"), "some are left")
                rounds(vm, 1, now(vm))
                vm.signal(signal.SIGQUIT)
                vm.wait(20)
            for name in ("a.qcow2", "b.qcow2"):
                p.check_image(name)
                _, out, _ = p.tool("img", "snapshot", "-l", p.path(name))
                check(not out.strip(), f"snapshots are left: {out}")
    return test


def while_it_runs():
    """savevm of a guest at work, which goes on; the lists; one name twice; then in a new process."""
    with Disks() as p:
        p.image("a.qcow2")
        p.image("b.qcow2")
        with p.vm() as vm, p.qmp() as q:
            at_work(vm)
            check(hmp(q, "savevm x") == "", "savevm")
            rounds(vm, 1, now(vm))
            q.cmd("stop")
            time.sleep(0.1)
            at = last_round(vm)
            check(hmp(q, "savevm x") == "", "savevm again")
            check(q.cmd("query-status")["status"] == "paused", "it did not stay still")
            disks = q.cmd("query-block")
            lists = [d["inserted"]["image"].get("snapshots", []) for d in disks[:2]]
            check([len(x) for x in lists] == [1, 1], f"{lists}")
            check(lists[0][0]["vm-state-size"] > 1 << 20 and lists[1][0]["vm-state-size"] == 0, f"{lists}")
            check(all(lists[0][0][k] == lists[1][0][k] for k in ("date-sec", "date-nsec", "vm-clock-sec", "vm-clock-nsec")), f"{lists}")
            check(lists[0][0]["name"] == "x" and lists[0][0]["vm-clock-sec"] + lists[0][0]["vm-clock-nsec"] > 0, f"{lists}")
            q.cmd("cont")
            rounds(vm, 2, now(vm))
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        for name in ("a.qcow2", "b.qcow2"):
            p.check_image(name)
        _, out, _ = p.tool("img", "snapshot", "-l", p.path("a.qcow2"))
        check(b" x " in out and b"MiB" in out, f"{out}")
        if shutil.which("qemu-img"):
            out = subprocess.run(["qemu-img", "snapshot", "-l", p.path("a.qcow2")], stdout=subprocess.PIPE, timeout=30).stdout
            check(b" x " in out and b"MiB" in out, f"{out}")
        with p.vm("--loadvm", "x") as vm:
            first, _ = rounds(vm, 3)
            check(at <= first <= at + 1, f"round {first} came after a load of round {at}")
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        status, _, err = p.tool("run", "--accel", ACCEL, "--control", "off", "--memory", "192M", "--kernel", KERNEL, "--initrd", INITRD, "--disk",
                                p.path("a.qcow2"), "--disk", p.path("b.qcow2"), "--loadvm", "x")
        check(status == 1 and "bytes of memory" in err, f"another machine took it: {status} {err}")
        status, _, err = p.tool("run", "--accel", ACCEL, "--control", "off", "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD, "--disk",
                                p.path("a.qcow2"), "--disk", p.path("b.qcow2"), "--loadvm", "y")
        check(status == 1 and "does not exist" in err, f"one that there is not: {status} {err}")
        status, out, err = p.tool("img", "resize", p.path("a.qcow2"), "2G")
        check(status == 0, f"{err}")
        p.check_image("a.qcow2")
        status, _, err = p.tool("run", "--accel", ACCEL, "--control", "off", "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD, "--disk",
                                p.path("a.qcow2"), "--disk", p.path("b.qcow2"), "--loadvm", "x")
        check(status == 1 and "another size" in err, f"{status} {err}")


def conclude(q, job):
    """The end of a job: its error, or None."""
    deadline = time.monotonic() + 60 * SLOW
    while time.monotonic() < deadline:
        for j in q.cmd("query-jobs"):
            if j["id"] == job and j["status"] == "concluded":
                q.cmd("job-dismiss", id=job)
                return j.get("error")
        time.sleep(0.05)
    check(False, f"job {job} does not end")


def jobs():
    with Disks() as p:
        p.image("a.qcow2")
        p.image("b.qcow2")
        with p.vm() as vm, p.qmp() as q:
            at_work(vm)
            nodes = [d["inserted"]["node-name"] for d in q.cmd("query-block")[:2]]
            q.cmd("snapshot-save", job_id="j1", tag="x", vmstate=nodes[1], devices=nodes)
            check(conclude(q, "j1") is None, "snapshot-save")
            states = [e["data"]["status"] for e in q.events if e["event"] == "JOB_STATUS_CHANGE" and e["data"]["id"] == "j1"]
            check(states == ["created", "running", "waiting", "pending", "concluded", "null"], f"{states}")
            at = last_round(vm)
            rounds(vm, 2, now(vm))
            q.cmd("snapshot-save", job_id="j2", tag="x", vmstate=nodes[1], devices=nodes)
            check("already exists" in conclude(q, "j2"), "one name twice")
            for args, words in ((dict(vmstate="nothing", devices=nodes), "does not exist"), (dict(vmstate=nodes[0], devices=["nothing"]), "No block device"),
                                (dict(vmstate=nodes[0], devices=nodes[1:]), "does not exist"), (dict(vmstate=nodes[0], devices=nodes), "disk-only")):
                q.cmd("snapshot-load", job_id="j3", tag="x", **args)
                error = conclude(q, "j3")
                check(error and words in error, f"{args}: {error}")
            rounds(vm, 1, now(vm))
            q.cmd("snapshot-load", job_id="j4", tag="x", vmstate=nodes[1], devices=nodes)
            check(conclude(q, "j4") is None, "snapshot-load")
            first, _ = rounds(vm, 2, now(vm))
            check(at - 1 <= first <= at + 2, f"round {first} after a load of round {at}")
            try:
                q.cmd("snapshot-delete", job_id="", tag="x", devices=nodes)
                check(False, "an empty id was taken")
            except QmpError as e:
                check("Invalid job ID" in e.desc, e.desc)
            q.cmd("snapshot-delete", job_id="j5", tag="x", devices=nodes)
            check(conclude(q, "j5") is None, "snapshot-delete")
            check("no snapshot" in hmp(q, "info snapshots"), "it is still there")
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        p.check_image("a.qcow2")
        p.check_image("b.qcow2")


def refused():
    with Disks() as p:
        p.image("a.qcow2")
        with open(p.path("b.qcow2"), "wb") as f:
            f.truncate(1 << 20)
        with tiny("--name", "s", "--disk", p.path("a.qcow2"), "--disk", p.path("b.qcow2") + ",format=raw", env=p.env) as vm, p.qmp() as q:
            at_work(vm)
            out = hmp(q, "savevm x")
            check("disk1" in out and "does not support snapshots" in out, out)
            status, _, err = p.tool("snapshot", "create", "--inside", "s", "x")
            check(status == 1 and "disk1" in err, err)
            rounds(vm, 1, now(vm))
            check("no snapshot" in hmp(q, "info snapshots"), "something was made")
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        with tiny("--name", "s", "--disk", p.path("b.qcow2") + ",format=raw,ro", env=p.env) as vm, p.qmp() as q:
            check("No block device" in hmp(q, "savevm x"), "no disk at all")
            vm.signal(signal.SIGQUIT)
            vm.wait(20)


def other_devices():
    """A card that came since: what was saved is not this machine's. It goes on as it was, and once the card is gone goes back."""
    with Disks() as p:
        p.image("a.qcow2")
        p.image("b.qcow2")
        with p.vm("--hotplug", "1", "--usb", "tablet") as vm, p.qmp() as q:
            at_work(vm)
            at = save(vm, q, "x")
            q.cmd("device_add", driver="usb-kbd", id="k1")
            rounds(vm, 2, now(vm))
            before = last_round(vm)
            out = hmp(q, "loadvm x")
            check(out.startswith("Error: snapshot 'x'"), f"another machine's state was loaded: {out}")
            check(q.cmd("query-status")["status"] == "running", "it does not go on")
            first, _ = rounds(vm, 3, now(vm))
            check(before <= first <= before + 2, f"round {first} after one that was refused in round {before}")
            q.cmd("device_del", id="k1")
            deadline = time.monotonic() + 30 * SLOW
            while time.monotonic() < deadline:
                q.cmd("query-status")
                if any(e["event"] == "DEVICE_DELETED" for e in q.events):
                    break
                time.sleep(0.1)
            load(vm, q, "x", at)
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        for name in ("a.qcow2", "b.qcow2"):
            p.check_image(name)


def verbs():
    with Disks() as p:
        p.image("a.qcow2")
        p.image("b.qcow2")
        with p.vm() as vm:
            at = at_work(vm)
            status, _, err = p.tool("snapshot", "create", "--inside", "s", 'a "b\\')
            check(status == 0, err)
            rounds(vm, 3, now(vm))
            status, out, err = p.tool("snapshot", "list", "--inside", "s")
            check(status == 0 and b'a "b\\' in out, f"{out} {err}")
            status, _, err = p.tool("snapshot", "restore", "--inside", "s", 'a "b\\')
            check(status == 0, err)
            first, _ = rounds(vm, 2, now(vm))
            check(first <= at + 4, f"round {first} after a load of round {at}")
            status, _, err = p.tool("snapshot", "restore", "--inside", "s", "b")
            check(status == 1 and "does not exist" in err, err)
            status, _, err = p.tool("snapshot", "rm", "--inside", "s", 'a "b\\')
            check(status == 0, err)
            status, out, err = p.tool("snapshot", "list", "--inside", "s")
            check(b"no snapshot" in out, f"{out} {err}")
            vm.signal(signal.SIGQUIT)
            vm.wait(20)


def sudden_death():
    """Killed while it is saved: what is on the disks is whole, leaks apart, and what was saved before is loaded."""
    with Disks() as p:
        p.image("a.qcow2")
        p.image("b.qcow2")
        with p.vm() as vm, p.qmp() as q:
            at_work(vm)
            at = save(vm, q, "good")
            begun = time.monotonic()
            hmp(q, "savevm other")
            took = time.monotonic() - begun
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        rnd = random.Random(1)
        for i in range(TIMES // 2):
            with p.vm("--loadvm", "good") as vm, p.qmp() as q:
                first, _ = rounds(vm, 2)
                check(at <= first <= at + 1, f"round {first} came after a load of round {at}")
                req = {"execute": "human-monitor-command", "arguments": {"command-line": "savevm other"}}
                q.send_raw(json.dumps(req).encode())
                time.sleep(rnd.random() * took * 1.2)
                vm.signal(signal.SIGKILL)
                vm.wait(20)
            for name in ("a.qcow2", "b.qcow2"):
                p.open_again(name)
                p.check_image(name, leaks=True)


if __name__ == "__main__":
    need_guest()
    raise SystemExit(run_all([
        (f"saved and loaded, {TIMES} times, two disks", again_and_again(1, TIMES)),
        ("the same with 4 vCPUs", again_and_again(4, TIMES // 2)),
        ("while it runs, the lists, a new process", while_it_runs),
        ("QMP's jobs", jobs),
        ("refused", refused),
        ("devices that came since", other_devices),
        ("lodge snapshot --inside", verbs),
        ("kill -9 while it is saved", sudden_death),
    ], jobs=2))
