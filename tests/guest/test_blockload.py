#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes and looks at what it wrote, while its disk's graph is changed below it; and the power cord pulled meanwhile."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

from guest import check, lodge, run_all
from test_qmp import Rig

MIB = 1 << 20
# Blocks of 64 KiB, each full of its own number and the round's; what was written in a round is read past the cache and compared.
LOAD = ("(r=0; while [ ! -e /stop ]; do r=$((r+1)); i=0; while [ $i -lt 8 ]; do b=$(( (i*7+r*3) % 128 )); "
        "yes $r.$b | head -c 65536 > /a; dd if=/a of=/dev/vda bs=64k seek=$b conv=notrunc oflag=direct 2>/dev/null || echo load-failed; "
        "dd if=/dev/vda of=/b bs=64k skip=$b count=1 iflag=direct 2>/dev/null; cmp -s /a /b || echo load-differs $r $b; "
        "i=$((i+1)); done; echo round-$r; done; echo load-ended) > /load 2>&1 & true")


class Disk(Rig):
    """A disk on named nodes: q, qcow2, over b, its backing image."""

    def __init__(self, folder):
        self.images = folder
        for name, more in (("b", ()), ("q", ("-b", folder + "/b.qcow2", "-F", "qcow2")), ("o", ()), ("o2", ()), ("m", ()), ("k", ())):
            check(lodge("img", "create", "-f", "qcow2", *more, f"{folder}/{name}.qcow2", "8M")[0] == 0, "lodge img create failed")
        args = []
        for d in (self.node("b", **{"read-only": True, "backing": None}), self.node("q", backing="b")):
            args += ["--blockdev", json.dumps(d)]
        super().__init__(*args, "--disk", "node=q")

    def node(self, name, **more):
        return {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": f"{self.images}/{name}.qcow2"}, **more}

    def add(self, q, name, **more):
        q.cmd("blockdev-add", **self.node(name, **more))

    def load(self):
        self.shell()
        self.vm.shell("dd if=/dev/urandom of=/dev/vda bs=1M count=8 oflag=direct 2>/dev/null; sync", 60)
        self.vm.shell(LOAD)
        self.rounds(1)

    def rounds(self, more):
        """The load gets on, and has found nothing wrong."""
        def now():
            return int(re.search(r"n-(\d+)-n", self.vm.shell("echo n-$(grep -c round /load)-n", 30)).group(1))
        want = now() + more
        deadline = time.monotonic() + 120
        while now() < want and time.monotonic() < deadline:
            time.sleep(0.2)
        text = self.vm.shell("grep -v round /load; true", 30)
        check("load-differs" not in text and "load-failed" not in text, f"the load: {text}")
        check(now() >= want, "the load does not get on")


def done(q, job):
    e = q.event("BLOCK_JOB_COMPLETED", 120, lambda d: d["device"] == job)
    check("error" not in e, f"the job: {e}")


def good(folder, *names):
    for n in names:
        check(lodge("img", "check", f"{folder}/{n}.qcow2")[0] == 0, f"{n} is damaged")
        if shutil.which("qemu-img"):
            r = subprocess.run(["qemu-img", "check", f"{folder}/{n}.qcow2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            check(r.returncode in (0, 3), f"{n}: {r.stdout.decode()}")


def graph():
    """Snapshot, commit, mirror with switch, backup, stream, in turn, under load; the disk is what the guest sees in the end."""
    with tempfile.TemporaryDirectory() as folder, Disk(folder) as r, r.qmp() as q:
        r.load()
        r.add(q, "k")
        r.add(q, "o", backing=None)
        q.cmd("transaction", actions=[
            {"type": "blockdev-backup", "data": {"job-id": "k", "device": "q", "target": "k", "sync": "full"}},
            {"type": "blockdev-snapshot", "data": {"node": "q", "overlay": "o"}}])
        r.rounds(1)
        done(q, "k")
        r.add(q, "o2", backing=None)
        q.cmd("blockdev-snapshot", node="o", overlay="o2")
        r.rounds(1)
        q.cmd("block-commit", job_id="c", device="o2", top_node="o", base_node="q")
        done(q, "c")
        r.rounds(1)
        q.cmd("blockdev-del", node_name="o")
        q.cmd("block-stream", job_id="s", device="o2", base_node="q")
        done(q, "s")
        r.rounds(1)
        q.cmd("block-commit", job_id="a", device="o2", base_node="q")
        q.event("BLOCK_JOB_READY", 120, lambda d: d["device"] == "a")
        q.cmd("job-pause", id="a")
        r.rounds(1)
        q.cmd("job-resume", id="a")
        q.cmd("job-complete", id="a")
        done(q, "a")
        q.cmd("blockdev-del", node_name="o2")
        r.rounds(1)
        q.cmd("block-stream", job_id="t", device="q")
        done(q, "t")
        q.cmd("blockdev-del", node_name="b")
        r.add(q, "m")
        q.cmd("blockdev-mirror", job_id="m", device="q", target="m", sync="full", auto_finalize=False)
        q.event("BLOCK_JOB_READY", 120, lambda d: d["device"] == "m")
        q.cmd("job-complete", id="m")
        q.event("BLOCK_JOB_PENDING", 120)
        r.rounds(1)
        q.cmd("job-finalize", id="m")
        done(q, "m")
        q.cmd("blockdev-del", node_name="q")
        r.rounds(1)
        check(q.cmd("query-block")[0]["inserted"]["node-name"] == "m", "no switch")
        r.vm.shell("touch /stop; wait; sync", 60)
        out = r.vm.shell("sha256sum /dev/vda", 120)
        q.cmd("quit")
        check(r.vm.wait(60) == 0, "the status of quit")
        good(folder, "m", "q", "o", "o2", "b", "k")
        lodge("img", "convert", "-O", "raw", folder + "/m.qcow2", folder + "/plain")
        with open(folder + "/plain", "rb") as f:
            check(hashlib.sha256(f.read()).hexdigest() in out, "the disk is not what the guest saw")


def power():
    """The process is killed at some moment of a job: the images are whole.  LODGE_TEST_JOBS="mirror stream backup commit" has all of them."""
    rng = random.Random(5)
    for job in os.environ.get("LODGE_TEST_JOBS", "stream commit").split():
        with tempfile.TemporaryDirectory() as folder, Disk(folder) as r, r.qmp() as q:
            r.load()
            if job == "mirror":
                r.add(q, "m")
                q.cmd("blockdev-mirror", job_id="j", device="q", target="m", sync="full")
            elif job == "stream":
                q.cmd("block-stream", job_id="j", device="q")
            elif job == "backup":
                r.add(q, "k")
                q.cmd("blockdev-backup", job_id="j", device="q", target="k", sync="full")
            else:
                r.add(q, "o", backing=None)
                q.cmd("blockdev-snapshot", node="q", overlay="o")
                q.cmd("block-commit", job_id="j", device="o", base_node="q")
            time.sleep(rng.random())
            r.vm.p.send_signal(signal.SIGKILL)
            r.vm.wait(30)
            for n in ("q", "b", "m", "k", "o"):
                ret, text = lodge("img", "check", f"{folder}/{n}.qcow2")[:2]
                # 3: leaks, which a crash may leave
                check(ret in (0, 3), f"{n} after a cut while {job}: {ret} {text}")


TESTS = [("graph changes under load", graph), ("power cuts", power)]

if __name__ == "__main__":
    raise SystemExit(run_all(TESTS, jobs=2))
