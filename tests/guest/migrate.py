#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Live migration, many times over: back and forth, and with connections that are cut, slowed and delayed and processes that are killed at
places chosen by a seed.  Long target:

    PYTHONPATH=tests/guest tests/guest/migrate.py [--count N] [--seed S] [--no-faults] [--accel A] [--cpus N] [--no-disk] [--quiet]

The guest checks itself all the time, in memory and on a disk.  After each attempt exactly one process may run it, and what the
guest printed goes on where it was.
"""
import argparse
import json
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib

from guest import ACCEL, SLOW, Failed, Vm, check, tiny
from qmp import Qmp, QmpError

# What must come out the same every time, in memory and on the disk; a line each round, or what went wrong.
WORK = ("cat /bin/busybox >/tmp/a; s=$(md5sum </tmp/a); n=0; while :; do n=$((n+1)); cp /tmp/a /tmp/b; t=$(md5sum </tmp/b); "
        "[ \"$s\" = \"$t\" ] || echo W\"\"RONG; %s echo round-$n; done\n")
DISK = ("dd if=/tmp/a of=/dev/vda bs=64k seek=$((n%16*4)) count=4 conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
        "dd if=/dev/vda bs=64k skip=$((n%16*4)) count=4 2>/dev/null | cmp -n 262144 - /tmp/a || echo W\"\"RONG; ")

HEAD = struct.Struct("<IHHIII")
TYPES = {n: i + 1 for i, n in enumerate("hello about begin refuse pages zeros round state complete loaded take taken go running done failed "
                                        "cancel answer join joined late want all missing".split())}
FROM_SOURCE = ("hello", "begin", "pages", "zeros", "round", "state", "complete", "take", "go", "done")
FROM_DESTINATION = ("about", "loaded", "taken", "running")


class Fault:
    """What happens to the first connection of an attempt, and where: before or behind the n-th record of a type."""

    def __init__(self, rng):
        # Which of the connections; where there are several, pages go over others than the first.  The last is for memory that comes late.
        self.late = rng.random() < 0.4
        self.multifd = rng.random() < 0.4
        lanes = 2 * self.multifd + self.late
        self.lane = rng.choice((0, 0, *range(1, lanes + 1)))
        self.kind = rng.choice(("cut", "cut", "cut", "half", "half", "kill-destination", "kill-destination", "delay", "throttle", "kill-source"))
        self.type = rng.choice(FROM_SOURCE + FROM_DESTINATION + ("complete", "loaded", "take", "taken", "go", "running") * 2 if not self.lane
                               else ("hello", "join", "joined", "pages", "pages", "pages", "want", "want", "all") if self.late and self.lane == lanes
                               else ("hello", "join", "joined", "pages", "pages", "zeros", "round", "complete"))
        self.nth = rng.randint(1, 300 if self.late and self.lane == lanes else 40) if self.type == "pages" else rng.randint(1, 40) if self.type == "want" else 1
        self.behind = rng.random() < 0.5
        self.ask_too = rng.random() < 0.3      # the first question is cut, too
        self.done = False

    @classmethod
    def of(cls, kind, where, nth=1, lane=0, behind=False):
        f = cls(random.Random(0))
        f.kind, f.type, f.nth, f.lane, f.behind, f.ask_too, f.late, f.multifd = kind, where, nth, lane, behind, False, False, False
        return f

    def __str__(self):
        return f"{self.kind} {'on ' + str(self.lane) + ' ' if self.lane else ''}{'behind' if self.behind else 'before'} {self.type} {self.nth}{', and the question' if self.ask_too else ''}"


def shut(s):
    try:
        s.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    s.close()


def read(s, n):
    data = b""
    while len(data) < n:
        some = s.recv(n - len(data))
        if not some:
            raise OSError("end")
        data += some
    return data


class Speaker:
    """One side of a connection, which says what it likes."""

    def __init__(self, s):
        self.s, self.n = s, 0

    def say(self, kind, payload=b""):
        head = [0x4d47444c, TYPES[kind], 0, self.n, len(payload), 0]
        head[5] = zlib.crc32(HEAD.pack(*head) + payload)
        self.n += 1
        self.s.sendall(HEAD.pack(*head) + payload)

    def hear(self, kind=None):
        """The next record, or the next of this kind."""
        while True:
            _, got, _, _, length, _ = HEAD.unpack(read(self.s, HEAD.size))
            payload = read(self.s, length)
            if kind in (None, next(k for k, v in TYPES.items() if v == got)):
                return payload


def about_of(path):
    """What a destination says of itself."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        d = Speaker(s)
        d.say("hello", struct.pack("<II16s", 1, 0, b"a question"))
        return json.loads(d.hear("about"))


class Link:
    """Between source and destination: forwards records, and does what the fault says."""

    def __init__(self, target, fault=None, on_kill=None, hold=False):
        """hold: what would hand the guest over waits until the fault has struck."""
        self.hold = hold
        self.target, self.fault, self.on_kill = target, fault, on_kill
        self.s = socket.create_server(("127.0.0.1", 0))
        self.uri = "tcp:127.0.0.1:%d" % self.s.getsockname()[1]
        self.seen = []
        self.n, self.asked, self.lock = 0, False, threading.Lock()
        self.socks = []
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.fault = None
        self.s.close()
        for s in self.socks:
            self.shut(s)

    shut = staticmethod(shut)

    def accept(self):
        while True:
            try:
                a, _ = self.s.accept()
                b = socket.socket(socket.AF_UNIX)
                b.connect(self.target)
            except OSError:
                if self.s.fileno() < 0:
                    return
                a.close()
                continue
            self.socks += [a, b]
            threading.Thread(target=self.forward, args=(a, b), daemon=True).start()

    def forward(self, a, b):
        """Which connection it is, the first record tells: that of a migration, a further one of it, or a question."""
        try:
            head = self.read(a, HEAD.size)
            _, kind, _, _, length, _ = HEAD.unpack(head)
            hello = head + self.read(a, length)
            flags = struct.unpack_from("<I", hello, HEAD.size + 4)[0]
        except (OSError, struct.error):
            self.shut(a)
            self.shut(b)
            return
        lane = -1
        with self.lock:
            if not flags & 1:
                lane = self.n
                self.n += 1
            elif self.fault and self.fault.ask_too and not self.asked:
                self.asked = True
                lane = None
        if lane is None:
            self.shut(a)
            self.shut(b)
            return
        for x, y, first in ((a, b, hello), (b, a, b"")):
            threading.Thread(target=self.pump, args=(x, y, lane, {}, first), daemon=True).start()

    read = staticmethod(read)

    def pump(self, a, b, lane, counts, first):
        slow = False
        try:
            while True:
                head = first[:HEAD.size] or self.read(a, HEAD.size)
                _, kind, _, _, length, _ = HEAD.unpack(head)
                counts[kind] = counts.get(kind, 0) + 1
                data = first or head + self.read(a, length)
                first = b""
                f = self.fault
                hit = f and lane == f.lane and not f.done and kind == TYPES[f.type] and counts[kind] == f.nth
                while self.hold and kind == TYPES["take"] and not f.done:
                    time.sleep(0.01)
                if hit and f.kind == "flip":
                    f.done, hit = True, False
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if hit and not f.behind:
                    slow |= self.strike(f, a, b)
                if slow:
                    for i in range(0, len(data), 65536):
                        time.sleep(0.002)
                        b.sendall(data[i:i + 65536])
                else:
                    b.sendall(data)
                self.seen.append(kind)
                if hit and f.behind:
                    slow |= self.strike(f, a, b)
        except OSError:
            self.shut(a)
            self.shut(b)

    def strike(self, f, a, b):
        f.done = True
        if f.kind == "cut":
            self.shut(a)
            self.shut(b)
            raise OSError("cut")
        if f.kind == "half":            # one side hears of it later
            self.shut(a)
            time.sleep(0.3)
            self.shut(b)
            raise OSError("cut")
        if f.kind == "delay":
            time.sleep(0.5)
        if f.kind.startswith("kill"):
            self.on_kill(f.kind)
        return f.kind == "throttle"


class Herd:
    """A guest, and the processes it goes through."""

    def __init__(self, *args, accel=ACCEL, cpus=1, disk=True, memory="128M", log=None):
        self.dir = tempfile.mkdtemp(prefix="lodge-migrate-")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.dir)
        self.args, self.accel, self.cpus, self.memory = list(args), accel, cpus, memory
        self.log = log or (lambda text: None)
        self.n = self.round = self.started = 0
        self.sockets = {}
        self.vm = None
        self.disk = os.path.join(self.dir, "disk")
        if disk:
            with open(self.disk, "wb") as f:
                f.truncate(8 << 20)
            self.args += ["--disk", self.disk + ",format=raw"]
        self.work = WORK % (DISK if disk else "")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.vm:
            self.vm.__exit__(*exc)
        shutil.rmtree(self.dir, ignore_errors=True)

    def make(self, *args):
        self.n += 1
        sock = os.path.join(self.dir, f"q{self.n}")
        vm = tiny("--name", f"m{self.n}", "--cpus", str(self.cpus), "--qmp", f"unix:{sock},server=on,wait=off", *self.args, *args,
                  memory=self.memory, accel=self.accel, env=self.env)
        self.sockets[vm] = sock
        return vm

    def boot(self):
        self.vm = self.make()
        self.vm.expect(r"init reached", 120)
        self.vm.expect(r"# ", 30)
        self.vm.send(self.work)
        self.round = 0
        self.started += 1
        self.goes_on()

    def destination(self):
        """A process that waits, and where."""
        path = os.path.join(self.dir, f"s{self.n + 1}")
        vm = self.make("--incoming", "unix:" + path)
        deadline = time.monotonic() + 30 * SLOW
        while not os.path.exists(path):
            if vm.p.poll() is not None or time.monotonic() > deadline:
                raise Failed("the destination did not come up: " + vm.err())
            time.sleep(0.01)
        # What answers listens as well; a path may be there before.
        with self.qmp(vm) as q:
            check(q.cmd("query-status")["status"] == "inmigrate", "the destination does not wait")
        return vm, path

    def qmp(self, vm):
        """A socket that is there and refuses is that of a process that has ended: not worth waiting for."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.sockets[vm])
            except FileNotFoundError:
                pass
        return Qmp(self.sockets[vm])

    def rounds_of(self, vm, after=0):
        """The number of the next round it tells of."""
        m = vm.expect(r"round-(\d+)\n", 60, after)
        check("WRONG" not in vm.text(), "the guest found something wrong")
        return int(m.group(1)), m.end()

    def goes_on(self):
        """The guest's owner prints rounds that follow those there were."""
        start = len(self.vm.text())
        n, end = self.rounds_of(self.vm, start)
        n, _ = self.rounds_of(self.vm, end)
        check(n > self.round, f"round {n} came after {self.round}")
        self.round = n

    def status(self, vm):
        if vm.p.poll() is not None:
            return "ended"
        try:
            with self.qmp(vm) as q:
                return q.cmd("query-status")["status"]
        except (OSError, Failed):
            return "ended"

    def drop(self, vm):
        vm.pump(0)
        vm.__exit__(None, None, None)
        self.sockets.pop(vm, None)

    def waits_for_memory(self, vm):
        """Its guest is there, and not all of it; what answers for it may be waiting as well."""
        if vm.p.poll() is not None:
            return False
        try:
            with self.qmp(vm) as q:
                q.s.settimeout(5 * SLOW)
                return q.cmd("query-migrate").get("status", "").startswith("postcopy")
        except TimeoutError:
            return True
        except (OSError, Failed):
            return False

    @staticmethod
    def push(q, i, late):
        """What belongs to a migration whose memory comes late. True: the guest is lost."""
        to, path, after = late
        try:
            if i.get("status") == "active" and i["ram"]["dirty-sync-count"] >= after:
                q.cmd("migrate-start-postcopy")
            if i.get("status") == "postcopy-paused":
                if to.p.poll() is not None:
                    return True
                q.cmd("migrate", uri="unix:" + path, resume=True)
        except QmpError:
            pass
        return False

    def settle(self, vm, seconds=60, late=None):
        """How the migration ended on its source: a status, "ended" or "lost".  late: the destination, where it is, and after how many
        rounds memory is to come after the guest."""
        i = None
        deadline = time.monotonic() + seconds * SLOW
        while time.monotonic() < deadline:
            vm.pump(0)
            if vm.p.poll() is not None:
                return "ended", {}
            try:
                with self.qmp(vm) as q:
                    while time.monotonic() < deadline:
                        vm.pump(0)
                        i = q.cmd("query-migrate")
                        if i.get("status") in ("completed", "failed", "cancelled"):
                            return i["status"], i
                        if late and self.push(q, i, late):
                            return "lost", i
                        time.sleep(0.02)
            except QmpError:
                raise
            except (OSError, Failed):
                time.sleep(0.05)
        raise Failed(f"the migration came to no end: {i}; {vm.err()}")

    def migrate(self, uri=None, **params):
        """Without faults: the guest is in another process then."""
        to, path = self.destination()
        try:
            with self.qmp(self.vm) as q:
                q.cmd("migrate-set-parameters", max_bandwidth=0, **params)
                q.cmd("migrate", uri=uri(path) if uri else "unix:" + path)
            how, info = self.settle(self.vm)
            check(how == "completed", f"it ended as {how}: {info} {self.vm.err()} {to.err()}")
        except Exception:
            sys.stderr.write(to.err())
            self.drop(to)
            raise
        check(self.status(self.vm) == "postmigrate", f"the source is {self.status(self.vm)}")
        self.drop(self.vm)
        self.vm = to
        self.goes_on()
        return info

    def attempt(self, rng):
        """One with a fault.  True: the guest lives."""
        fault = Fault(rng)
        to, path = self.destination()
        source = self.vm

        def kill(kind):
            vm = source if kind == "kill-source" else to
            vm.p.kill()
            vm.p.wait()

        link = Link(path, fault, kill)
        try:
            with self.qmp(source) as q:
                q.cmd("migrate-set-parameters", max_bandwidth=rng.choice((0, 0, 64 << 20)), downtime_limit=rng.choice((300, 1000, 4000)))
                ways = {"multifd"} if fault.multifd else set()
                ways |= {"postcopy-ram"} if fault.late else set()
                late_after = rng.choice((0, 0, 1, 1, 2))
                q.cmd("migrate-set-parameters", multifd_channels=2, multifd_compression=rng.choice(("none", "zstd")))
                q.cmd("migrate-set-capabilities", capabilities=[{"capability": c, "state": c in ways} for c in ("multifd", "postcopy-ram")])
                q.cmd("migrate", uri=link.uri)
            how, info = self.settle(source, late=(to, path, late_after) if fault.late else None)
            if how == "lost" or (how == "ended" and fault.late and self.waits_for_memory(to)):
                raise Lost(f"{how}: it had memory on both sides")
            owner = {"completed": to, "failed": source}.get(how)
            if how == "ended":
                # Whether the destination had the word is known there only; half of a guest is none.
                owner = to if self.runs_soon(to) else None
            self.log(f"  {fault}{', ' + ' '.join(ways) if ways else ''}: {'struck' if fault.done else 'did not come to it'}; {how} {info.get('error-desc', '')}")
            self.one_owner(source, to, owner, how)
        except Lost:
            raise
        except Failed:
            sys.stderr.write(f"{fault}\nsource: {source.err()}\ndestination: {to.err()}\nseen: {link.seen[-12:]}\n")
            self.drop(to)
            raise
        finally:
            link.close()
        for vm in (source, to):
            if vm is not owner:
                self.drop(vm)
        self.vm = owner
        if owner is None:
            return False
        self.goes_on()
        return True

    def runs_soon(self, vm):
        """A source that is gone says nothing more: what the destination has not heard by now it never will."""
        for _ in range(20):
            s = self.status(vm)
            if s in ("running", "ended"):
                return s == "running"
            time.sleep(0.05)
        return False

    def one_owner(self, source, to, owner, how):
        # The source hears of it before the first instruction.
        if owner is to and how == "completed":
            self.runs_soon(to)
        states = {"source": self.status(source), "destination": self.status(to)}
        running = [k for k, v in states.items() if v == "running"]
        check(len(running) < 2, f"both run: {states}")
        if owner is None:
            return
        name = "source" if owner is source else "destination"
        if states[name] != "ended":
            check(running == [name], f"{how}, and {states}")
            return
        # It took the guest and was killed: that is the guest's end, and the source must know it.
        if owner is to:
            check(states["source"] in ("postmigrate", "ended"), f"{how}, and {states}")
        raise Lost(states)


class Lost(Exception):
    """The guest died with its owner."""


def back_and_forth(herd, count):
    worst = 0
    for _ in range(count):
        worst = max(worst, herd.migrate()["downtime"])
    return worst


def with_faults(herd, count, seed):
    """(attempts after which the guest lived, and not)"""
    lived = lost = 0
    for i in range(count):
        if herd.vm is None:
            herd.boot()
        herd.log(f"attempt {seed}:{i}")
        try:
            alive = herd.attempt(random.Random(f"{seed}:{i}"))
        except Lost as e:
            herd.log(f"  the guest has ended with its owner: {e}")
            for vm in list(herd.sockets):
                herd.drop(vm)
            herd.vm = None
            alive = False
        lived, lost = lived + alive, lost + (not alive)
    return lived, lost


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--no-faults", action="store_true")
    p.add_argument("--no-disk", action="store_true")
    p.add_argument("--accel", default=ACCEL)
    p.add_argument("--cpus", type=int, default=1)
    p.add_argument("--quiet", action="store_true")
    a = p.parse_args()
    begun = time.monotonic()
    with Herd(accel=a.accel, cpus=a.cpus, disk=not a.no_disk, log=None if a.quiet else lambda t: print(t, flush=True)) as herd:
        herd.boot()
        if a.no_faults:
            worst = back_and_forth(herd, a.count)
            print(f"{a.count} migrations in {time.monotonic() - begun:.0f} s, the longest downtime {worst} ms")
        else:
            lived, lost = with_faults(herd, a.count, a.seed)
            print(f"{a.count} attempts in {time.monotonic() - begun:.0f} s: after {lived} the guest went on in one process, with {lost} it ended "
                  "with the process that had it, never was it in two")
    return 0


if __name__ == "__main__":
    sys.exit(main())
