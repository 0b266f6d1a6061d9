#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences of verbs on one image, `lodge img` and `qemu-img` in turn, against a flat model.

usage: generate.py [--seed S] [--count N] [--steps N] [--jobs N] [--dir DIR] [--keep]

Each case makes an image of a random shape (cluster size, version, refcount width, subclusters, compression, data file,
backing file ...) with either program and takes it through writes, zeroes, discards, compressed clusters, snapshots,
resizes, conversions, rebases, commits, sudden deaths, checks and comparisons by either.  After each step the image must be clean for the
other program, and in the end the same for both.  Every choice follows from the seed; a failure prints its seed and the
commands.  With --keep the folder of a failed case stays.  Images lie in memory (/dev/shm) if there is room, else or with
--dir on a disk, where some programs are told to use direct I/O.

Environment: LODGE (the program), LODGE_IO (tests' own io, qemu-io's counterpart).
"""
import argparse
import concurrent.futures
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

LODGE = os.path.abspath(os.environ.get("LODGE", "build/lodge"))
IO = os.path.abspath(os.environ.get("LODGE_IO", "build/tests/img/io"))
SECTOR = 512


class Wrong(Exception):
    pass


class Case:
    def __init__(self, seed, steps, folder):
        self.r = random.Random(seed)
        self.steps, self.d, self.log = steps, folder, []
        self.snaps = {}
        self.named = 0
        self.compressed = self.backed = self.stale = False
        self.touched = set()

    # ---- running programs ----

    def run(self, *args, ok=(0,)):
        args = [str(a) for a in args]
        self.log.append(" ".join(f"'{a}'" if " " in a else a for a in args))
        for _ in range(100):
            p = subprocess.run(args, cwd=self.d, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               timeout=120)
            # The kernel keeps the lock of a program that died until its last I/O is done.
            if "lock" not in p.stdout or args[0].startswith("/"):
                break
            time.sleep(0.05)
        if p.returncode not in ok:
            raise Wrong(f"status {p.returncode}: {p.stdout.strip()[:600]}")
        return p.returncode, p.stdout

    def img(self, verb, *args, ok=(0,), ours=None):
        """The verb by either program."""
        if ours is None:
            ours = self.r.random() < 0.5
        return self.run(*([LODGE, "img"] if ours else ["qemu-img"]), verb, *args, ok=ok)

    def direct(self):
        """Some runs use direct I/O, where it is to be had."""
        return ["-n"] if self.one_in(4) and not self.d.startswith("/dev/shm") else []

    # ---- the image's shape ----

    def one_in(self, n):
        return self.r.randrange(n) == 0

    def shape(self):
        r = self.r
        self.cluster = 1 << r.choice((9, 9, 10, 11, 12, 12, 13, 14, 15, 16, 16, 17, 18, 19, 20, 21))
        self.version = 2 if self.one_in(4) else 3
        self.bits, self.lazy = 16, False
        o = {"cluster_size": self.cluster, "compat": r.choice(("0.10", "v2") if self.version == 2 else ("1.1", "v3"))}
        if self.version == 3:
            self.bits = o["refcount_bits"] = 1 << r.randrange(7)
            self.lazy = self.one_in(2)
            o["lazy_refcounts"] = "on" if self.lazy else "off"
            o["compression_type"] = r.choice(("zlib", "zstd"))
            if self.cluster >= 16384 and self.one_in(2):
                o["extended_l2"] = "on"
        sectors = min(self.cluster * r.randrange(16, 300), 4 << 20) // SECTOR
        self.size = max(sectors - r.randrange(max(sectors // 4, 1)), 1) * SECTOR
        self.backed = self.one_in(3)
        self.data_file = self.version == 3 and self.one_in(8)
        if self.data_file:
            o["data_file"] = "data"
            if not self.backed and self.one_in(2):
                o["data_file_raw"] = "on"
        elif not self.backed and self.one_in(5):
            o["preallocation"] = r.choice(("metadata", "falloc", "full"))
            self.touched.update(range(self.size // self.cluster + 1))
        return o

    def make_base(self):
        size = max(self.size // SECTOR // 2 + self.r.randrange(self.size // SECTOR), 1) * SECTOR
        base = bytearray(size)
        for _ in range(6):
            self.fill(base, *self.range(size))
        self.save("base.raw", base)
        if self.one_in(2):
            os.rename(os.path.join(self.d, "base.raw"), os.path.join(self.d, "base"))
            return base, "raw"
        self.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *(["-c"] if self.one_in(3) else []), "base.raw", "base")
        return base, "qcow2"

    @staticmethod
    def joined(o):
        return ",".join(f"{k}={v}" for k, v in o.items())

    def create(self):
        o = self.shape()
        self.prealloc = "preallocation" in o
        args = ["-q", "-f", "qcow2", "-o", self.joined(o)]
        self.model = bytearray(self.size)
        if self.backed:
            base, fmt = self.make_base()
            self.base_format = fmt
            args += ["-b", "base", "-F", fmt]
            n = min(len(base), self.size)
            self.model[:n] = base[:n]
        self.img("create", *args, "image", self.size)

    # ---- contents ----

    def range(self, size=None):
        r, size = self.r, size or self.size
        sectors = size // SECTOR
        off = r.randrange(sectors)
        n = r.randrange(1, r.choice((8, 8, self.cluster // SECTOR + 1, 4 * self.cluster // SECTOR)) + 1)
        if self.one_in(3):
            c = self.cluster // SECTOR
            off, n = off // c * c, (n + c - 1) // c * c
        return off * SECTOR, min(n, sectors - off, 4096) * SECTOR

    def fill(self, data, off, n):
        byte = self.r.randrange(1, 256)
        data[off:off + n] = bytes([byte]) * n
        return byte

    def save(self, name, data):
        with open(os.path.join(self.d, name), "wb") as f:
            f.write(data)

    def write(self, name="image"):
        """A few changes by one program."""
        ours, mine, theirs = self.one_in(2), [], []
        for left in reversed(range(self.r.randrange(1, 9))):
            off, n = self.range()
            what = self.r.choice("wwwwzu" + ("" if self.data_file else "c"))
            if what == "c":
                off = off // self.cluster * self.cluster
                n = min(self.cluster, self.size - off)
                # The peer compresses whole clusters only, and only what was never written; and if it wrote over one that it
                # compressed before (in the same run), it puts the next into a place that is another's by then.
                if n < self.cluster or (not ours and (left or off // self.cluster in self.touched)):
                    what = "w"
            if what == "c":
                self.compressed = True
            self.touched.update(range(off // self.cluster, (off + n - 1) // self.cluster + 1))
            if what in "wc":
                byte = self.fill(self.model, off, n)
                mine.append(f"{what}:{byte}:{off}:{n}")
                theirs.append(f"write {'-c ' if what == 'c' else ''}-P {byte} {off} {n}")
            else:
                self.model[off:off + n] = bytes(n)
                mine.append(f"{what}:{off}:{n}")
                theirs.append(f"write -z{'u' if what == 'u' else ''} {off} {n}")
        self.io(ours, mine, theirs, name)

    def io(self, ours, mine, theirs, name="image"):
        if ours:
            self.run(IO, *(["-f", "qcow2"] if self.one_in(2) else []), *self.direct(), name, *mine)
            return
        args = ["qemu-io", "-f", "qcow2", *self.direct(), name]
        for c in theirs:
            args += ["-c", c]
        # It says what failed, but with status 0.
        status, out = self.run(*args, ok=(0, 1, 137, -9))
        if "failed" in out or "error" in out.lower() or status == 1:
            raise Wrong(f"qemu-io: {out.strip()[:600]}")

    def discard(self):
        """What is discarded is as before, or zeros."""
        if self.version == 2 and self.backed:
            return
        off, n = self.range()
        self.io(self.one_in(2), [f"d:{off}:{n}"], [f"discard {off} {n}"])
        self.run(IO, "-r", "-f", "qcow2", "image", f"o:{off}:{n}:part")
        with open(os.path.join(self.d, "part"), "rb") as f:
            part = f.read()
        for i in range(0, n, SECTOR):
            s = part[i:i + SECTOR]
            if s != self.model[off + i:off + i + SECTOR] and any(s):
                raise Wrong(f"what was discarded at {off + i} is neither as before nor zeros")
        self.model[off:off + n] = part

    def die(self):
        """Ends without closing, after a flush: at worst space is leaked."""
        off, n = self.range()
        self.touched.update(range(off // self.cluster, (off + n - 1) // self.cluster + 1))
        byte = self.fill(self.model, off, n)
        self.io(self.one_in(2), [f"w:{byte}:{off}:{n}", "f", "x"], [f"write -P {byte} {off} {n}", "flush", "sigraise 9"])
        # With lazy refcounts the peer leaves more to be repaired.
        self.img("check", "-r", "leaks" if self.one_in(2) and not self.lazy else "all", "-f", "qcow2", "image", ok=(0,))

    # ---- the other verbs ----

    def snapshot(self):
        if self.data_file:
            return
        names = list(self.snaps)
        what = self.r.choice("cccad" if names else "c")
        if what == "c" and len(names) < 5:
            self.named += 1
            name = f"s{self.named}"
            # As many references as a refcount can count; compressed clusters may share one.
            fits = len(names) + 2 <= (1 << self.bits) - 1
            ok = (0,) if fits and not (self.compressed and self.bits < 16) else (0, 1)
            ours = self.one_in(2)
            if self.img("snapshot", "-c", name, "image", ok=ok, ours=ours)[0] == 0:
                self.snaps[name] = bytes(self.model)
            elif not ours:
                # What failed left something behind.
                self.img("check", "-r", "leaks", "image", ours=True)
            else:
                self.check(False)
        elif what == "a":
            name = self.r.choice(names)
            if self.version == 2 and len(self.snaps[name]) != self.size:
                return
            # While both the old and the new state are held, one more reference is counted.
            full = len(names) + 2 > (1 << self.bits) - 1 or (self.compressed and self.bits < 16)
            if self.img("snapshot", "-a", name, "image", ok=(0, 1) if full else (0,))[0]:
                self.img("check", "-r", "leaks", "image", ours=True)
                return
            self.model = bytearray(self.snaps[name])
            self.size = len(self.model)
        elif what == "d":
            name = self.r.choice(names)
            self.img("snapshot", "-d", name, "image")
            del self.snaps[name]

    def resize(self):
        if self.version == 2 and self.snaps:
            self.img("resize", "-q", "-f", "qcow2", "image", "+64k", ok=(1,))
            return
        size = max(self.size // SECTOR * self.r.randrange(50, 160) // 100, 1) * SECTOR
        if size > 6 << 20:
            return
        how = self.r.choice((str(size), f"{size - self.size:+d}"))
        if how in ("+0", "-0"):
            return
        # The peer cannot hide what a backing file has behind the end of a version 2 image.
        # When it makes a disk shorter it leaves the rest of the last cluster as it was, and when it makes it longer does
        # not look.
        ours = True if size > self.size and (self.stale or (self.version == 2 and self.backed)) else self.one_in(2)
        self.stale = size < self.size and not ours and size % self.cluster != 0
        self.img("resize", "-q", "-f", "qcow2", *(["--shrink"] if size < self.size else []), "image", how, ours=ours)
        self.model = self.model[:size] + bytes(max(size - self.size, 0))
        self.size = size

    def convert(self):
        """To another image of another shape, which takes its place; snapshots are not taken along."""
        if self.data_file:
            return
        backed, size, base = self.backed and self.one_in(2), self.size, getattr(self, "base_format", None)
        o = self.shape()
        self.size, self.backed, self.data_file = size, backed, False
        for key in ("data_file", "data_file_raw", "preallocation"):
            o.pop(key, None)
        args = ["-q", "-f", "qcow2", "-O", "qcow2", "-o", self.joined(o)]
        if backed:
            args += ["-B", "base", "-F", base]
        if self.one_in(3):
            args += ["-c"]
            self.compressed = True
        self.touched = set(range(self.size // self.cluster + 1))
        if not backed and self.one_in(4):
            self.img("convert", "-q", "-f", "qcow2", "-O", "raw", "image", "raw")
            args[2] = "raw"
            self.img("convert", *args, "raw", "new")
            os.unlink(os.path.join(self.d, "raw"))
        else:
            self.img("convert", *args, "image", "new")
        os.rename(os.path.join(self.d, "new"), os.path.join(self.d, "image"))
        self.snaps, self.stale, self.prealloc = {}, False, False
        if not args.count("-c"):
            self.compressed = False

    def rebase(self):
        """To another backing file, or none: the disk stays as it is."""
        if not self.backed or self.snaps:
            return
        if self.one_in(2):
            self.img("rebase", "-q", "-f", "qcow2", "-b", "", "image")
            self.backed = False
            self.touched |= set(range(self.size // self.cluster + 1))
            return
        other = bytearray(max(self.size // SECTOR * self.r.randrange(50, 150) // 100, 1) * SECTOR)
        for _ in range(6):
            self.fill(other, *self.range(len(other)))
        self.named += 1
        self.save(f"base{self.named}", other)
        self.touched |= set(range(self.size // self.cluster + 1))
        self.img("rebase", "-q", "-f", "qcow2", "-b", f"base{self.named}", "-F", "raw", "image")
        os.rename(os.path.join(self.d, f"base{self.named}"), os.path.join(self.d, "base"))
        self.img("rebase", "-q", "-u", "-f", "qcow2", "-b", "base", "-F", "raw", "image")
        self.base_format = "raw"

    def commit(self):
        """What was written to an overlay comes down."""
        if self.data_file:
            return
        kept = self.cluster, self.touched, self.compressed
        self.cluster = 1 << self.r.randrange(9, 18)
        self.touched = set()
        self.img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={self.cluster}", "-b", "image", "-F", "qcow2", "top")
        for _ in range(2):
            self.write("top")
        self.img("commit", "-q", "-f", "qcow2", *(["-d"] if self.one_in(2) else []), "top")
        os.unlink(os.path.join(self.d, "top"))
        self.cluster, self.touched, self.compressed = kept
        self.touched |= set(range(self.size // self.cluster + 1))

    def compare(self):
        self.save("model", self.model)
        if self.one_in(3):
            self.run(IO, "-r", "image", "v:model")
            return
        self.img("compare", "-q", "-f", "raw", "-F", "qcow2", "model", "image")
        if self.one_in(2):
            at = self.r.randrange(self.size)
            self.save("model", self.model[:at] + bytes([self.model[at] ^ 1]) + self.model[at + 1:])
            self.img("compare", "-q", "-f", "raw", "-F", "qcow2", "model", "image", ok=(1,))

    def measure(self):
        """Both say the same of a full image, and we nothing less of this one: the peer looks for holes in the file too."""
        o = f"cluster_size={1 << self.r.randrange(9, 22)}"
        out = [self.img("measure", "--output=json", "-f", "qcow2", "-O", "qcow2", "-o", o, "image", ours=k)[1] for k in (0, 1)]
        a, b = [json.loads(t) for t in out]
        if a["fully-allocated"] != b["fully-allocated"] or a["required"] > b["required"]:
            raise Wrong(f"measure: {out[0]} and {out[1]}")

    def look(self):
        """Both say the same about it."""
        out = [self.run(*p, "info", "--output=json", "image")[1] for p in (["qemu-img"], [LODGE, "img"])]
        a, b = [json.loads(o) for o in out]
        for s in a.get("snapshots", []):
            s.pop("icount", None)
        if a != b:
            raise Wrong(f"info: {a} and {b}")

    def check(self, ours=None):
        self.img("check", "-q", "-f", "qcow2", "image", ours=ours)

    def verdict(self):
        self.check(True)
        self.check(False)
        self.save("model", self.model)
        self.run(IO, "-r", "image", "v:model")
        self.run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", "model", "image")
        for name, data in self.snaps.items():
            if len(data) != self.size:
                continue
            self.save("model", data)
            self.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l", f"snapshot.name={name}", "image", "snap")
            self.run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", "model", "snap")
        if self.snaps:
            name = self.r.choice(list(self.snaps))
            full = len(self.snaps) + 2 > (1 << self.bits) - 1 or (self.compressed and self.bits < 16)
            done = self.img("snapshot", "-a", name, "image", ours=True, ok=(0, 1) if full else (0,))[0] == 0
            self.save("model", self.snaps[name] if done else self.model)
            self.run(IO, "-r", "image", "v:model")
            self.check(False)

    def go(self):
        self.create()
        acts = [self.write] * 6 + [self.snapshot] * 3 + [self.resize] * 2 + [self.discard] * 2 + [self.check] * 2 + \
            [self.compare, self.look, self.die, self.convert, self.rebase, self.rebase, self.commit, self.measure]
        for _ in range(self.steps):
            self.r.choice(acts)()
        self.verdict()


def default_dir():
    try:
        s = os.statvfs("/dev/shm")
        return "/dev/shm" if s.f_bavail * s.f_frsize > 512 << 20 and os.access("/dev/shm", os.W_OK) else None
    except OSError:
        return None


def one(seed, steps, keep, where):
    folder = tempfile.mkdtemp(prefix="lodge-img-", dir=where)
    case = Case(seed, steps, folder)
    try:
        case.go()
        shutil.rmtree(folder)
        return None
    except (Wrong, subprocess.TimeoutExpired) as e:
        text = "\n".join([f"seed {seed}: {e}"] + ["  " + line for line in case.log])
    except Exception as e:      # the generator's own
        text = "\n".join([f"seed {seed}: {e!r}"] + ["  " + line for line in case.log])
    if keep:
        return text + f"\n  kept: {folder}"
    shutil.rmtree(folder, ignore_errors=True)
    return text


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][len("usage: "):])
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--dir", default=default_dir())
    p.add_argument("--keep", action="store_true")
    a = p.parse_args()
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        print("1..0 # SKIP qemu-img and qemu-io are not installed (package qemu-utils)")
        return 0
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for text in pool.map(lambda s: one(s, a.steps, a.keep, a.dir), range(a.seed, a.seed + a.count)):
            if text:
                failed += 1
                print("# " + text.replace("\n", "\n# "), flush=True)
    print(f"{'not ' if failed else ''}ok 1 - {a.count} images by both programs, seeds from {a.seed}: {failed} wrong\n1..1")
    return failed != 0


sys.exit(main())
