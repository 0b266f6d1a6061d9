#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are saved and go on: a tiny guest that checks itself, in other engines, several times over, with a disk;
several clones at once; compressed, and as differences of one another; and snapshots that are damaged, each refused with a reason."""
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time

import restore
from guest import ACCEL, DIR, DISK, INITRD, KERNEL, Place, Skip, Vm, check, need_guest, run_all, tiny
from qmp import Qmp

# Sorts and hashes what must come out the same every time; prints a line each round, or what went wrong.
WORK = ("cat /bin/busybox >/tmp/a; s=$(md5sum </tmp/a); n=0; while :; do cp /tmp/a /tmp/b; t=$(md5sum </tmp/b); "
        "[ \"$s\" = \"$t\" ] || echo W\"\"RONG; n=$((n+1)); echo round-$n; done\n")
DISK_WORK = ("n=0; while :; do n=$((n+1)); dd if=/tmp/a of=/dev/vda bs=64k seek=$((n%16*4)) count=4 conv=fsync 2>/dev/null; "
             "dd if=/dev/vda bs=64k skip=$((n%16*4)) count=4 2>/dev/null | cmp -n 262144 - /tmp/a || echo W\"\"RONG; echo round-$n; done\n")


class Snapshots(Place):
    """A place for snapshots."""

    def save(self, vm_name, name, *args):
        status, out, err = self.tool("snapshot", "create", *args, vm_name, self.path(name))
        check(status == 0, f"saving gave status {status}: {err}")
        return out.decode()

    def go_on(self, name, *args, accel=ACCEL):
        return Vm("--from-snapshot", self.path(name), *args, accel=accel, env=self.env)


    def checked(self, name, want=0):
        """What `lodge snapshot check` prints."""
        status, out, err = self.tool("snapshot", "check", self.path(name))
        check(status == want, f"check of {name}: status {status}: {out} {err}")
        return out.decode() + err

    def stored(self, name):
        """Blocks of the file system that its memory takes."""
        return os.stat(os.path.join(self.path(name), "memory")).st_blocks


def rounds(vm, n, start=0):
    """n more rounds; returns the number of the last."""
    last = 0
    for _ in range(n):
        m = vm.expect(r"round-(\d+)\n", 60, start)
        start, last = m.end(), int(m.group(1))
    check("WRONG" not in vm.text(), "the guest found something wrong")
    return last


def at_work(vm, work=WORK):
    vm.expect(r"init reached", 120)
    vm.expect(r"# ", 30)
    vm.send(work)
    return rounds(vm, 2)


def again_and_again(cpus, engines):
    def test():
        with Snapshots() as p:
            with tiny("--name", "s", "--cpus", str(cpus), accel=engines[0], env=p.env) as vm:
                before = at_work(vm)
                p.save("s", "0", "--quit")
                check(vm.wait(20) == 0, f"--quit ended with status {vm.p.returncode}")
            for i, engine in enumerate(engines[1:]):
                with p.go_on(str(i), "--name", "s", accel=engine) as vm:
                    now = rounds(vm, 2)
                    check(now > before, f"round {now} came after {before}: it did not go on")
                    before = now
                    p.save("s", str(i + 1), "--quit")
                    check(vm.wait(20) == 0, f"status {vm.p.returncode} after --quit")
    return test


def goes_on_itself():
    with Snapshots() as p, tiny("--name", "s", "--watchdog", "i6300esb,action=reset", env=p.env) as vm:
        at_work(vm)
        status, out, _ = p.tool("qmp", "s", "watchdog-set-action", "action=pause")
        check(status == 0, f"watchdog-set-action: {out}")
        out = p.save("s", "a")
        check("stood still" in out, out)
        with open(os.path.join(p.path("a"), "config"), encoding="utf-8") as f:
            check("watchdog-action = pause\n" in f.read(), "the watchdog's action is not the one that was set")
        rounds(vm, 2, len(vm.text()))
        p.save("s", "b", "--stop")
        status, out, _ = p.tool("qmp", "s", "query-status")
        check(json.loads(out)["status"] == "paused", f"--stop left it {out}")
        status, out, _ = p.tool("snapshot", "list", "-o", "json", p.dir)
        check(len(json.loads(out)) == 2, f"the list has {out}")
        status, _, err = p.tool("snapshot", "create", "s", p.path("a"))
        check(status == 1 and "exists already" in err, err)


def disk():
    with Snapshots() as p:
        image = p.path("d.qcow2")
        check(p.tool("img", "create", "-f", "qcow2", image, "64M")[0] == 0, "no image")
        with tiny("--name", "s", "--disk", image, env=p.env) as vm:
            at_work(vm)
            vm.send("\x03")
            vm.expect(r"\^C", 30)
            before = at_disk(vm)
            p.save("s", "a")
            rounds(vm, 1, len(vm.text()))
            clones = [p.go_on("a", "--name", f"c{i}") for i in range(3)]
            try:
                for c in clones:
                    check(rounds(c, 2) > before, "a clone did not go on")
                status, _, err = p.tool("snapshot", "rm", p.path("a"))
                check(status == 1 and "runs from it" in err, f"removed under its clones: {err}")
            finally:
                for c in clones:
                    c.__exit__(None, None, None)
            rounds(vm, 1, len(vm.text()))
            vm.signal(signal.SIGQUIT)
            vm.wait(20)
        with p.go_on("a", "--in-place", "--name", "s") as vm:
            check(rounds(vm, 2) > before, "it did not go on in place")
            status, _, err = p.tool("run", "--accel", ACCEL, "--from-snapshot", p.path("a"), "--in-place", "--control", "off")
            check(status == 1 and image in err, f"the disk of another was taken: {err}")
            p.save("s", "c", "--quit")
            check(vm.wait(20) == 0, f"status {vm.p.returncode}")
        check(p.tool("snapshot", "rm", p.path("c"))[0] == 0, "rm of the second")
        status, out, err = p.tool("img", "check", image)
        check(status == 0, f"the image after it: {out} {err}")
        status, _, err = p.tool("snapshot", "rm", p.path("a"))
        check(status == 0 and not os.path.exists(p.path("a")), f"rm: {err}")
        status, out, _ = p.tool("img", "snapshot", "-l", image)
        check(b"lodge-" not in out, "the snapshot inside the disk stays")


def lean():
    """Compressed, and differences in a chain, of the guest that goes on itself and of one that went on from the chain."""
    with Snapshots() as p:
        with tiny("--name", "s", env=p.env) as vm:
            before = at_work(vm)
            p.save("s", "a")
            p.save("s", "z", "--compress")
            rounds(vm, 1, len(vm.text()))
            p.save("s", "b", "--diff-of", p.path("a"))
            rounds(vm, 1, len(vm.text()))
            p.save("s", "c", "--diff-of", p.path("b"), "--compress", "--quit")
            check(vm.wait(20) == 0, f"status {vm.p.returncode} after --quit")
        for name in "abcz":
            check("all checksums are right" in p.checked(name), f"the check of {name} says something else")
        check(p.stored("b") * 2 < p.stored("a") > p.stored("z") * 2, f"blocks: {[(n, p.stored(n)) for n in 'abcz']}")
        for name in "zbc":
            with p.go_on(name, "--name", "s", accel=OTHER if name == "b" else ACCEL) as vm:
                now = rounds(vm, 2)
                check(now > before, f"round {now} of {name} came after {before}")
                if name == "b":
                    p.save("s", "d", "--diff-of", p.path("b"), "--quit")
                    check(vm.wait(20) == 0, f"status {vm.p.returncode} after --quit")
        status, out, _ = p.tool("snapshot", "list", p.dir)
        check(status == 0 and f" {p.path('b')}\n" in out.decode(), f"the list does not say what is a difference of what: {out}")
        for name, needed in (("a", "b"), ("b", "c"), ("b", "d")):
            status, _, err = p.tool("snapshot", "rm", p.path(name))
            check(status == 1 and f"'{p.path(needed)}'" in err, f"{name}, which {needed} needs, is removed, or why not is not said: {err}")
        os.mkdir(p.path("new"))
        for name in "abcd":
            os.rename(p.path(name), p.path(f"new/{name}"))
        status, out, err = p.tool("snapshot", "restore", p.path("new/d"), "--name", "s", "--paused", "--accel", ACCEL, "--console", "none", "--daemonize")
        check(status == 0, f"restore after a move: {out} {err}")
        status, out, err = p.tool("qmp", "s", "quit")
        check(status == 0, f"quit: {err}")
        with p.go_on("new/c", "--name", "t") as vm:
            check(rounds(vm, 1) > before, "the chain did not go on after it was moved")
        os.rename(p.path("new/b"), p.path("new/gone"))
        check("neither there nor beside it" in p.checked("new/d", 1), "a difference without what is below it")
        os.rename(p.path("new/gone"), p.path("new/b"))
        for name in "cdba":
            deadline = time.monotonic() + 30
            while True:
                status, _, err = p.tool("snapshot", "rm", p.path(f"new/{name}"))
                if not status:
                    break
                # The kernel gives a killed process' locks back a little after its end.
                check("runs from it" in err and time.monotonic() < deadline, f"rm of {name}: {err}")
                time.sleep(0.05)
        check(not os.listdir(p.path("new")), "something is left")


def others_are_heard():
    """While memory is written the control protocol answers; who wants the guest to go on, or to stay, is heard after it."""
    with Snapshots() as p, tiny("--name", "s", env=p.env) as vm:
        at_work(vm)
        where = os.path.join(p.dir, "lodge", "s", "qmp")
        with Qmp(where) as saver, Qmp(where) as q:
            def save(name, then, *words):
                """How often the guest was seen to stand still while it was saved; words: said then, each once."""
                seen, words = 0, list(words)
                saver.send_raw(json.dumps({"execute": "x-lodge-snapshot-save", "id": name,
                                           "arguments": {"directory": p.path(name), "then": then}}).encode())
                saver.s.setblocking(False)
                while True:
                    try:
                        data = saver.s.recv(65536)
                        check(data, "the connection ended")
                        saver.buf += data
                    except BlockingIOError:
                        pass
                    if f'"id": "{name}"'.encode() in saver.buf:
                        break
                    if q.cmd("query-status")["status"] == "paused":
                        seen += 1
                        for w in words[:1]:
                            q.cmd(w)
                            words.pop(0)
                saver.s.settimeout(60)
                a = saver.answer()
                check("return" in a and "error" not in a, f"{a}")
                return seen
            seen = sum(save(f"q{i}", "go-on") for i in range(5))
            check(seen > 5, f"the control protocol answered {seen} times in five saves")
            at = len(vm.text())
            rounds(vm, 1, at)
            save("stay", "go-on", "stop")
            status = q.cmd("query-status")["status"]
            check(status == "paused", f"asked to stop while it was saved it is {status}")
            save("go", "stop", "cont")
            status = q.cmd("query-status")["status"]
            check(status == "running", f"asked to go on while it was saved it is {status}")
            rounds(vm, 1, len(vm.text()))
        for name in ("q4", "stay", "go"):
            p.checked(name)
        with p.go_on("go", "--name", "t") as vm:
            rounds(vm, 2)


def at_disk(vm):
    start = len(vm.text())
    vm.send(DISK_WORK)
    return rounds(vm, 2, start)


def copies_know():
    """A kernel with a driver for the VM generation ID has random numbers of its own in each copy, from the first on."""
    folder = os.path.join(os.environ.get("LODGE_WORKLOADS_DIR") or os.path.join(os.path.dirname(DIR), "workloads"), "amd64")
    kernel, initrd = os.path.join(folder, "vmlinuz"), os.path.join(folder, "initrd.img")
    need_guest(kernel, initrd)
    with Snapshots() as p:
        with Vm("--name", "s", "--memory", "256M", "--kernel", kernel, "--initrd", initrd, "--append", "quiet", env=p.env) as vm:
            vm.expect(r"# ", 120)
            check("drivers/vmgenid" in vm.shell("ls -d /sys/bus/acpi/drivers/vmgenid"), "the kernel has no driver for it")
            p.save("s", "a", "--quit")
            vm.wait(20)
        seen = set()
        for _ in range(2):
            with p.go_on("a", "--name", "c") as vm:
                out = vm.shell("until dmesg | grep -q 'due to virtual machine fork'; do usleep 1000; done; echo R=$(head -c 16 /dev/urandom | md5sum)", 60)
                seen.add(re.findall(r"R=([0-9a-f]{32})", out)[0])
        check(len(seen) == 2, f"two copies have the same random numbers: {seen}")


def copies_are_told():
    """Debian with a kernel that does not: its agent runs tools/clone-hook."""
    need_guest(KERNEL, INITRD, DISK)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "clone-hook"), encoding="utf-8") as f:
        hook = f.read()
    tell = "echo $(head -c 16 /dev/urandom | md5sum | cut -c1-32) $(hostname) $(cat /etc/machine-id) $(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub)"
    with Snapshots() as p:
        status, _, err = p.tool("img", "create", "-f", "qcow2", "-b", DISK, "-F", "raw", p.path("d.qcow2"))
        check(status == 0, err)
        with Vm("--name", "s", "--memory", "512M", "--kernel", KERNEL, "--initrd", INITRD, "--disk", p.path("d.qcow2") + ",backing=on",
                "--append", "root=/dev/vda rw quiet", "--guest-agent", "on", env=p.env) as vm:
            vm.expect(r"root@[^#]*# ", 300)
            vm.shell("until systemctl -q is-active qemu-guest-agent; do sleep 0.2; done", 60)
            before = vm.shell(tell).split("\n")[-2].split()
            p.save("s", "a", "--quit")
            vm.wait(20)
        copies = []
        for i in range(2):
            with p.go_on("a", "--name", f"c{i}", "--on-restore", f"{hook}\n{tell} >/run/told; mv /run/told /run/told.now") as vm:
                vm.shell("until [ -e /run/told.now ]; do sleep 0.1; done", 120)
                copies.append(vm.shell("cat /run/told.now").split("\n")[-2].split())
                check("--on-restore" not in vm.err(), vm.err())
        for i, what in enumerate(("random numbers", "host name", "machine id", "SSH key")):
            values = {before[i], copies[0][i], copies[1][i]}
            check(len(values) == 3, f"{what}: {before} {copies}")
        status, _, err = p.tool("run", "--accel", ACCEL, "--from-snapshot", p.path("a"), "--name", "d", "--console", "none", "--daemonize", "--on-restore", "exit 3")
        check(status == 1 and "status 3" in err, f"a command that fails: {status} {err}")
        check(p.tool("qmp", "d", "quit")[0] == 0, "it does not run")


def never_at_rest():
    """restore.py's guest, a few times: in the middle of rep movsb, disk transfers and timer interrupts."""
    restore.many(5, seed=5, engines=(ACCEL, ACCEL, OTHER))


def raw_disk_is_refused():
    with Snapshots() as p:
        with open(p.path("d.raw"), "wb") as f:
            f.truncate(1 << 20)
        with tiny("--name", "s", "--disk", p.path("d.raw") + ",format=raw", env=p.env) as vm:
            vm.expect(r"init reached", 120)
            status, _, err = p.tool("snapshot", "create", "s", p.path("a"))
            check(status == 1 and "convert" in err, err)
            check(not os.path.exists(p.path("a")), "something is left of it")
            vm.send("echo still-$((40+2))\n")
            vm.expect("still-42", 30)


def damaged():
    with Snapshots() as p:
        with tiny("--name", "s", env=p.env) as vm:
            vm.expect(r"init reached", 120)
            p.save("s", "a", "--quit")
            vm.wait(20)

        def refused(what, change, *words):
            shutil.rmtree(p.path("b"), ignore_errors=True)
            subprocess.run(["cp", "-r", "--sparse=always", p.path("a"), p.path("b")], check=True)
            change(p.path("b"))
            status, _, err = p.tool("run", "--accel", ACCEL, "--from-snapshot", p.path("b"))
            check(status == 1 and any(w in err for w in words), f"{what}: status {status}: {err}")

        def flip(name, at):
            def change(d):
                with open(os.path.join(d, name), "r+b") as f:
                    f.seek(at)
                    b = f.read(1)[0]
                    f.seek(at)
                    f.write(bytes([b ^ 0x10]))
            return change

        def cut(name, by=1):
            return lambda d: os.truncate(os.path.join(d, name), max(0, os.path.getsize(os.path.join(d, name)) - by))

        size = os.path.getsize(os.path.join(p.path("a"), "state"))
        for name in ("state", "memory", "config", "snapshot.json"):
            refused(f"without {name}", lambda d, n=name: os.remove(os.path.join(d, n)), "not a whole snapshot")
        refused("without an index", lambda d: os.remove(os.path.join(d, "index")), "index: No such file")
        for at in (0, 20, 70, os.path.getsize(os.path.join(p.path("a"), "index")) - 1):
            refused(f"a byte of the index at {at}", flip("index", at), "damaged")
        refused("index cut", cut("index"), "damaged")
        shutil.rmtree(p.path("b"))
        subprocess.run(["cp", "-r", "--sparse=always", p.path("a"), p.path("b")], check=True)
        p.checked("b")
        with open(os.path.join(p.path("b"), "memory"), "rb") as f:
            at = os.lseek(f.fileno(), 32 << 20, os.SEEK_DATA) + 7
        flip("memory", at)(p.path("b"))
        where = f"0x{at & ~0xffff:x}"
        text = p.checked("b", 1)
        check(where in text and "checksum" in text, f"a byte of memory is another: {text}")
        status, _, err = p.tool("run", "--accel", ACCEL, "--from-snapshot", p.path("b"), "--huge-pages", "thp")
        check(status == 1 and where in err, f"read in with a byte that is another: {status} {err}")
        for at in (16, 100, size // 2, size - 13):
            refused(f"a byte at {at}", flip("state", at), "damaged")
        refused("no magic", flip("state", 0), "none that Lodge wrote")
        refused("another version", flip("state", 8), "version")
        refused("state cut", cut("state"), "damaged")
        refused("state empty", cut("state", size), "none that Lodge wrote")
        refused("memory cut", cut("memory", 4096), "damaged")
        refused("config cut", lambda d: open(os.path.join(d, "config"), "w").close(), "nothing to boot", "belong together")
        status, _, err = p.tool("run", "--from-snapshot", p.path("a"), "--memory", "1G")
        check(status == 1 and "--memory" in err and "cannot be given" in err, err)
        status, _, err = p.tool("run", "--from-snapshot", p.path("nowhere"))
        check(status == 1 and "not a whole snapshot" in err, err)


def old_one():
    """The state that version 1 of the files had is taken for ever."""
    need_guest()
    with Snapshots() as p:
        os.mkdir(p.path("a"))
        with lzma.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot-1.state.xz")) as f, \
                open(os.path.join(p.path("a"), "state"), "wb") as to:
            to.write(f.read())
        with open(os.path.join(p.path("a"), "memory"), "wb") as f:
            f.truncate(128 << 20)
        with open(os.path.join(p.path("a"), "config"), "w") as f:
            f.write(f"machine = pc\nmemory = 128M\ncpus = 2\nkernel = {KERNEL}\nvga = none\nusb.0 = none\n"
                    "net.0.kind = user\nnet.0.mac = 52:54:00:00:00:01\n")
        with open(os.path.join(p.path("a"), "snapshot.json"), "w") as f:
            f.write('{"format": 1}')
        check("no checksums" in p.checked("a"), "it is said to have checksums")
        loads(p, "a")


def old_two():
    """Version 2: SeaBIOS's, and what it became a second later as a difference, packed, of that."""
    if not os.path.exists("/usr/share/seabios/bios-256k.bin"):
        raise Skip("seabios is missing")
    with Snapshots() as p:
        with tarfile.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot-2.tar.xz")) as t:
            t.extractall(p.dir)
        for name in ("base", "difference"):
            check("all checksums are right" in p.checked(name), name)
            loads(p, name)


def loads(p, name):
    with p.go_on(name, "--name", "s", "--paused", "--display", "none") as vm:
        for _ in range(100):
            status, out, err = p.tool("qmp", "s", "query-status")
            if status == 0 or vm.p.poll() is not None:
                break
            time.sleep(0.1)
        check(status == 0 and json.loads(out)["status"] == "paused", f"not loaded: {err} {vm.err()}")


OTHER = "translate" if ACCEL == "interp" else "interp"
run_all_tests = [
    ("saved and gone on, five times, both engines", again_and_again(1, [ACCEL, ACCEL, OTHER, ACCEL, OTHER, ACCEL])),
    ("the same with 4 vCPUs", again_and_again(4, [ACCEL, OTHER, ACCEL])),
    ("goes on itself, or stays", goes_on_itself),
    ("a disk, three clones, and their end", disk),
    ("in the middle of things", never_at_rest),
    ("copies have random numbers of their own", copies_know),
    ("copies are told, and become others", copies_are_told),
    ("a raw disk is refused", raw_disk_is_refused),
    ("compressed, and differences of one another", lean),
    ("the control protocol while it is saved", others_are_heard),
    ("damaged ones are refused", damaged),
    ("one of version 1", old_one),
    ("two of version 2", old_two),
]

if __name__ == "__main__":
    raise SystemExit(run_all(run_all_tests, jobs=2))
