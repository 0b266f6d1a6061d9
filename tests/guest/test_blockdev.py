#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's block commands: the same scripts given to QEMU and to Lodge, whose answers are compared."""
import json
import os
import shutil
import subprocess
import tempfile
import time

from guest import LODGE, SLOW, Failed, Skip, check, run_all
from qmp import Qmp, QmpError, Schema

MIB = 1 << 20
QEMU = "qemu-system-x86_64"


class Side:
    """One of the two programs, paused before its first instruction, with a folder of its own."""

    def __init__(self, program, args, make):
        self.folder = tempfile.mkdtemp(prefix="lb")
        make(self.folder)
        sock = self.folder + "/q"
        args = [a.replace("@", self.folder) for a in args]
        self.p = subprocess.Popen([program, "-accel", "tcg", "-machine", "q35", "-S", "-nodefaults", "-display", "none", "-m", "64", "-qmp",
                                   f"unix:{sock},server=on,wait=off", *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  env=dict(os.environ, XDG_RUNTIME_DIR=self.folder, MALLOC_PERTURB_="165"))
        try:
            self.q = Qmp(sock)
            if program != QEMU:
                self.q.schema = Schema(self.q.cmd("query-qmp-schema"))
        except Exception:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.p.kill()
        self.p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def plain(self, value):
        """Without what is this side's alone: its folder."""
        return json.loads(json.dumps(value).replace(self.folder, "@"))

    def say(self, name, args):
        text = json.loads(json.dumps(args).replace("@", self.folder))
        try:
            return {"return": self.plain(self.q.cmd(name, **text))}
        except QmpError as e:
            return {"error": [e.cls, e.desc.replace(self.folder, "@")]}

    def wait_for(self, job, status):
        self.q.event("JOB_STATUS_CHANGE", 60, lambda d: d["id"] == job and d["status"] == status)


def qimg(*args):
    subprocess.run(["qemu-img", *args], check=True, stdout=subprocess.DEVNULL)


def image(*args):
    return lambda folder: qimg("create", "-q", *[a.replace("@", folder) for a in args])


# Of an answer to a query, what both have and what means the same.
NODE = ("node-name", "ro", "drv", "backing_file_depth", "encrypted", "detect_zeroes", "file")
IMAGE = ("virtual-size", "format", "cluster-size")


def nodes(answer, names):
    """query-named-block-nodes, of the nodes with these names."""
    found = {x["node-name"]: x for x in answer["return"] if x["node-name"] in names}
    filters = ("throttle", "copy-on-read")
    # QEMU makes up names of files where a graph is not what its images say, and of filters; bitmaps without a name are its jobs'.
    return {n: ({k: x.get(k) for k in NODE if (x["drv"] not in filters or k not in ("file", "backing_file_depth"))
                 and k != ("ro" if x["drv"] == "file" else "file")},
                {k: x["image"].get(k) for k in IMAGE if x["drv"] not in ("file",) + filters},
                {k: v for k, v in x["cache"].items() if k != "writeback"},
                sorted((b["name"], b["count"], b["granularity"], b["recording"], b["busy"], b["persistent"])
                       for b in x.get("dirty-bitmaps", []) if "name" in b))
            for n, x in found.items()}


def jobs(answer):
    return [{k: x.get(k) for k in ("id", "type", "status", "error")} for x in answer["return"]]


def events(side, job):
    """The states that a job has gone through, but for pauses, which come when a job gets to them."""
    seen = [e["data"]["status"] for e in side.q.events if e["event"] == "JOB_STATUS_CHANGE" and e["data"]["id"] == job]
    seen = [s for s in seen if s not in ("paused", "standby")]
    return [s for i, s in enumerate(seen) if not i or s != seen[i - 1]]


class Both:
    def __init__(self, args, make):
        if not shutil.which(QEMU) or not shutil.which("qemu-img"):
            raise Skip("there is no QEMU to compare with")
        self.lodge = Side(os.path.join(os.path.dirname(LODGE), "lodge-qemu"), args, make)
        try:
            self.qemu = Side(QEMU, args, make)
        except Exception:
            self.lodge.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lodge.end()
        self.qemu.end()

    def same(self, _name, _look=lambda x: x, **args):
        """The same command to both; the answers, as far as _look looks, are the same, errors included."""
        a, b = self.lodge.say(_name, args), self.qemu.say(_name, args)
        # QEMU's job says that it is no more before it lets go of its nodes.
        for _ in range(100):
            if "return" in b or "return" not in a or "block job" not in b["error"][1]:
                break
            time.sleep(0.1)
            b = self.qemu.say(_name, args)
        x, y = (_look(v) if "return" in v else v for v in (a, b))
        check(x == y, f"{_name} {args}:\nLodge {x}\nQEMU  {y}")
        return a

    def alike(self, _name, **args):
        """Both succeed, or both fail with the same class."""
        a, b = self.lodge.say(_name, args), self.qemu.say(_name, args)
        check(a.keys() == b.keys() and ("error" not in a or a["error"][0] == b["error"][0]), f"{_name} {args}:\nLodge {a}\nQEMU  {b}")
        return a

    def wait_for(self, job, status):
        self.lodge.wait_for(job, status)
        self.qemu.wait_for(job, status)

    def states(self, job):
        """Both sides' states of the job, forgotten then."""
        a, b = events(self.lodge, job), events(self.qemu, job)
        check(a == b, f"the states of {job}:\nLodge {a}\nQEMU  {b}")
        self.lodge.q.events.clear()
        self.qemu.q.events.clear()
        return a

    def nodes(self, *names):
        self.same("query-named-block-nodes", lambda x: nodes(x, names))


def file_node(name, path, **kw):
    return {"driver": "file", "node-name": name, "filename": path, **kw}


def q35(*blockdevs, **kw):
    args = []
    for b in blockdevs:
        args += ["-blockdev", json.dumps(b)]
    return args


def make_two(folder):
    qimg("create", "-q", "-f", "qcow2", folder + "/base.qcow2", "8M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 17 0 1M", folder + "/base.qcow2"], check=True, stdout=subprocess.DEVNULL)
    qimg("create", "-q", "-f", "qcow2", "-b", folder + "/base.qcow2", "-F", "qcow2", folder + "/top.qcow2")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 34 1M 1M", folder + "/top.qcow2"], check=True, stdout=subprocess.DEVNULL)
    for name in ("o1", "o2", "t1", "t2"):
        qimg("create", "-q", "-f", "qcow2", f"{folder}/{name}.qcow2", "8M")
    with open(folder + "/raw.img", "wb") as f:
        f.truncate(8 * MIB)


TWO = q35(file_node("fb", "@/base.qcow2", **{"auto-read-only": True, "discard": "unmap"}),
          {"driver": "qcow2", "node-name": "b", "read-only": True, "file": "fb", "backing": None},
          file_node("ft", "@/top.qcow2", **{"auto-read-only": True, "discard": "unmap"}),
          {"driver": "qcow2", "node-name": "t", "file": "ft", "backing": "b"}) + ["-device", "virtio-blk-pci,drive=t,id=d0"]


def adding():
    """blockdev-add and -del, objects, and every refusal in QEMU's words."""
    with Both(TWO, make_two) as x:
        x.nodes("t", "b", "ft", "fb")
        x.same("blockdev-del", node_name="t")
        x.same("blockdev-del", node_name="b")
        x.same("blockdev-del", node_name="none")
        x.same("blockdev-add", driver="qcow2", node_name="t", file={"driver": "file", "filename": "@/o1.qcow2"})
        x.same("blockdev-add", driver="file", node_name="0bad", filename="@/o1.qcow2")
        x.same("blockdev-add", driver="file", node_name="n" * 32, filename="@/o1.qcow2")
        x.same("blockdev-add", driver="file", filename="@/o1.qcow2")
        x.same("blockdev-add", driver="file", node_name="n")
        x.same("blockdev-add", driver="qcow2", node_name="n")
        x.same("blockdev-add", node_name="n")
        x.same("blockdev-add", driver="nonesuch", node_name="n")
        x.same("blockdev-add", driver="qcow2", node_name="n", file="none")
        x.same("blockdev-add", driver="file", node_name="n", filename="@/o1.qcow2", frobnicate=True)
        x.same("blockdev-add", driver="file", node_name="n", filename="@/o1.qcow2", cache={"direct": 1})
        x.same("blockdev-add", driver="file", node_name="n", filename="@/o1.qcow2", read_only="yes")
        x.alike("blockdev-add", driver="file", node_name="n", filename="@/not/there")
        x.alike("blockdev-add", driver="qcow2", node_name="n", file={"driver": "file", "filename": "@/raw.img"})
        x.same("blockdev-add", driver="raw", node_name="w", offset=4096, size=MIB, file=file_node("wf", "@/raw.img"))
        x.nodes("w", "wf")
        x.same("blockdev-add", driver="raw", node_name="w2", offset=16 * MIB, file={"driver": "null-co", "size": MIB, "read-zeroes": True})
        x.same("blockdev-add", driver="raw", node_name="w2", offset=4096, size=MIB, file={"driver": "null-co", "size": MIB, "read-zeroes": True})
        x.same("blockdev-del", node_name="wf")
        x.same("blockdev-del", node_name="w")
        x.same("blockdev-del", node_name="wf")
        x.same("object-add", qom_type="throttle-group", id="g", limits={"iops-total": 100})
        x.same("blockdev-add", driver="throttle", node_name="th", throttle_group="g", file={"driver": "null-co", "size": MIB, "read-zeroes": True})
        x.nodes("th")
        x.same("object-del", id="g")
        x.same("blockdev-add", driver="throttle", node_name="th3", throttle_group="g", file={"driver": "null-co", "size": MIB, "read-zeroes": True})
        x.same("qom-get", path="/objects/g", property="limits")
        x.same("qom-set", path="/objects/g", property="limits", value={"iops-total": 200, "bps-read": 4096, "bps-read-max": 8192, "bps-read-max-length": 3})
        x.alike("qom-set", path="/objects/g", property="limits", value={"iops-write": 5})
        x.same("qom-set", path="/objects/g", property="limits", value={"iops-total": 300})
        x.same("qom-get", path="/objects/g", property="limits")
        x.same("qom-get", path="/objects/g", property="x-iops-total")
        x.same("qom-get", path="/objects/g", property="type")
        x.same("qom-get", path="/objects/g", property="none")
        x.alike("qom-set", path="/objects/g", property="none", value=1)
        x.alike("qom-get", path="/objects/none", property="limits")
        x.same("object-del", id="g")
        x.same("blockdev-del", node_name="th3")
        x.same("blockdev-add", driver="throttle", node_name="th2", throttle_group="none", file={"driver": "null-co", "read-zeroes": True})
        x.same("blockdev-del", node_name="th")
        x.same("blockdev-add", driver="raw", node_name="w3", file={"driver": "throttle", "throttle-group": "g",
                                                                   "file": {"driver": "null-co", "size": MIB, "read-zeroes": True}})
        x.same("object-del", id="g")
        x.same("blockdev-del", node_name="w3")
        x.same("object-del", id="g")
        x.same("object-del", id="g")
        x.same("object-add", qom_type="secret", id="s", data="x")
        x.same("object-del", id="s")
        x.same("blockdev-add", driver="copy-on-read", node_name="c", file={"driver": "qcow2", "file": file_node("cf", "@/o1.qcow2")})
        x.nodes("c", "cf")
        x.same("blockdev-del", node_name="c")
        x.same("query-jobs", jobs)


def snapshots():
    """blockdev-snapshot, -snapshot-sync, block-stream and block-commit by node, with the states that jobs go through."""
    with Both(TWO, make_two) as x:
        x.same("blockdev-add", driver="qcow2", node_name="o1", file=file_node("fo1", "@/o1.qcow2"), backing=None)
        x.same("blockdev-snapshot", node="t", overlay="none")
        x.same("blockdev-snapshot", node="t", overlay="o1")
        x.same("blockdev-snapshot", node="t", overlay="o1")
        x.nodes("o1", "t", "b")
        x.same("blockdev-snapshot-sync", node_name="o1", snapshot_file="@/o3.qcow2", snapshot_node_name="o3")
        x.same("blockdev-snapshot-sync", node_name="o3", snapshot_file="@/o4.qcow2", snapshot_node_name="o3")
        x.nodes("o3", "o1", "t", "b")
        x.same("block-commit", job_id="c", device="o3", top_node="o1", base_node="t", auto_dismiss=False)
        x.wait_for("c", "concluded")
        x.same("query-jobs", jobs)
        x.same("job-dismiss", id="c")
        x.states("c")
        x.nodes("o3", "o1", "t", "b")
        x.same("blockdev-del", node_name="o1")
        x.same("block-commit", job_id="c", device="o3", top="@/nope")
        x.same("block-commit", job_id="c", device="o3", top_node="b", base_node="b")
        x.same("block-stream", job_id="s", device="o3", base_node="b", auto_finalize=False, auto_dismiss=False)
        x.wait_for("s", "pending")
        x.same("query-jobs", jobs)
        x.same("job-pause", id="s")
        x.same("job-complete", id="s")
        x.same("job-dismiss", id="s")
        x.same("job-finalize", id="s")
        x.wait_for("s", "concluded")
        x.same("job-finalize", id="s")
        x.same("job-dismiss", id="s")
        x.states("s")
        x.nodes("o3", "b")
        x.same("block-stream", job_id="s", device="o3", base_node="none")
        x.same("block-stream", job_id="s", device="none")
        x.same("block-commit", job_id="a", device="o3", base_node="b")
        x.wait_for("a", "ready")
        x.same("query-jobs", jobs)
        x.same("job-complete", id="a")
        x.wait_for("a", "null")
        x.states("a")
        x.nodes("b")
        x.same("job-complete", id="a")
        x.same("block-job-complete", device="a")
    for side in (x.lodge, x.qemu):
        check(not os.path.exists(side.folder), "the folder is there still")


def copies():
    """blockdev-mirror and -backup: pauses, speeds, cancelling, and the switch."""
    with Both(TWO, make_two) as x:
        x.same("blockdev-add", driver="qcow2", node_name="t1", file=file_node("ft1", "@/t1.qcow2"))
        x.same("blockdev-mirror", job_id="m", device="t", target="none", sync="full")
        x.same("blockdev-mirror", job_id="m", device="t", target="t1", sync="full", auto_dismiss=False)
        x.wait_for("m", "ready")
        x.alike("blockdev-mirror", job_id="m", device="t", target="t1", sync="full")
        check("error" in x.lodge.say("blockdev-reopen", {"options": [{"driver": "qcow2", "node-name": "t1", "file": "ft1", "read-only": True}]}),
              "a job cannot write to its target any more")
        x.same("blockdev-del", node_name="t1")
        x.same("job-pause", id="m")
        x.same("job-pause", id="m")
        x.wait_for("m", "standby")
        x.same("query-jobs", jobs)
        x.same("job-resume", id="m")
        x.same("job-resume", id="m")
        x.wait_for("m", "ready")
        x.same("block-job-set-speed", device="m", speed=MIB)
        x.same("block-job-set-speed", device="none", speed=MIB)
        x.same("job-complete", id="m")
        x.wait_for("m", "concluded")
        x.same("job-dismiss", id="m")
        x.states("m")
        x.nodes("t1", "t", "b")
        x.same("blockdev-del", node_name="t")
        # and back, as a copy that is left behind
        x.same("blockdev-add", driver="qcow2", node_name="t2", file=file_node("ft2", "@/t2.qcow2"))
        x.same("blockdev-mirror", job_id="m", device="t1", target="t2", sync="full")
        x.wait_for("m", "ready")
        x.same("block-job-cancel", device="m")
        x.wait_for("m", "null")
        x.states("m")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="full", auto_finalize=False)
        x.wait_for("k", "pending")
        x.same("job-cancel", id="k")
        x.wait_for("k", "null")
        x.states("k")
        x.same("blockdev-backup", job_id="1k", device="t1", target="t2", sync="full")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="incremental")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="bitmap", bitmap="b", bitmap_mode="never")
        x.same("block-dirty-bitmap-add", node="t1", name="b", persistent=True)
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="full", bitmap="b")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="none", bitmap="b", bitmap_mode="on-success")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="full", bitmap="b", bitmap_mode="never")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="full", bitmap_mode="never")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="incremental", bitmap="b", bitmap_mode="never")
        x.same("blockdev-backup", job_id="k", device="t1", target="t2", sync="incremental", bitmap="b")
        x.wait_for("k", "null")
        x.states("k")
        x.nodes("t1")


def transactions():
    """All or nothing, and jobs that end together."""
    with Both(TWO, make_two) as x:
        for n in ("t1", "t2", "o1"):
            x.same("blockdev-add", driver="qcow2", node_name=n, file=file_node("f" + n, f"@/{n}.qcow2"), backing=None)
        add = {"type": "block-dirty-bitmap-add", "data": {"node": "t", "name": "b", "persistent": True}}
        x.same("transaction", actions=[add, {"type": "abort", "data": {}}])
        x.nodes("t")
        x.same("transaction", actions=[add, add])
        x.nodes("t")
        x.same("transaction", actions=[{"type": "blockdev-snapshot", "data": {"node": "t", "overlay": "o1"}}, {"type": "abort", "data": {}}])
        x.nodes("t", "o1")
        x.same("transaction", actions=[add, {"type": "block-dirty-bitmap-add", "data": {"node": "t", "name": "c", "persistent": True, "disabled": True}}])
        x.nodes("t")
        x.same("transaction", actions=[{"type": "block-dirty-bitmap-disable", "data": {"node": "t", "name": "b"}},
                                       {"type": "block-dirty-bitmap-merge", "data": {"node": "t", "target": "b", "bitmaps": ["c"]}},
                                       {"type": "block-dirty-bitmap-clear", "data": {"node": "t", "name": "c"}},
                                       {"type": "block-dirty-bitmap-remove", "data": {"node": "t", "name": "c"}},
                                       {"type": "abort", "data": {}}])
        x.nodes("t")
        x.same("transaction", actions=[{"type": "frobnicate", "data": {}}])
        x.same("transaction", actions=[{"type": "abort"}])
        # two copies that end together: one is held back
        both = [{"type": "blockdev-backup", "data": {"job-id": j, "device": d, "target": t, "sync": "full", "auto-finalize": j == "i"}}
                for j, d, t in (("i", "t", "t1"), ("j", "o1", "t2"))]
        x.same("transaction", actions=both + [{"type": "abort", "data": {}}])
        x.same("query-jobs", jobs)
        for side in (x.lodge, x.qemu):
            side.q.events.clear()
        x.same("transaction", actions=both, properties={"completion-mode": "grouped"})
        x.wait_for("j", "pending")
        x.same("query-jobs", jobs)
        x.same("job-finalize", id="j")
        x.wait_for("i", "null")
        x.wait_for("j", "null")
        x.states("i")
        x.same("query-jobs", jobs)
        x.same("blockdev-del", node_name="t1")


def making():
    """blockdev-create, blockdev-reopen, change-backing-file."""
    with Both(TWO, make_two) as x:
        x.same("blockdev-create", job_id="c", options={"driver": "file", "filename": "@/new.qcow2", "size": 0})
        x.wait_for("c", "concluded")
        x.same("query-jobs", jobs)
        x.same("job-dismiss", id="c")
        x.states("c")
        x.same("blockdev-add", **file_node("nf", "@/new.qcow2"))
        x.same("blockdev-create", job_id="c", options={"driver": "qcow2", "file": "nf", "size": 16 * MIB, "cluster-size": 131072})
        x.wait_for("c", "concluded")
        x.same("query-jobs", jobs)
        x.same("job-dismiss", id="c")
        x.states("c")
        x.same("blockdev-add", driver="qcow2", node_name="n", file="nf")
        x.nodes("n")
        x.alike("blockdev-create", job_id="c", options={"driver": "raw", "file": "nf", "size": 16 * MIB})
        x.same("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "n", "file": "nf", "read-only": True}])
        x.same("query-named-block-nodes", lambda a: [v["ro"] for v in a["return"] if v["node-name"] == "n"])
        x.same("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "none", "file": "nf"}])
        x.same("blockdev-reopen", options=[{"driver": "qcow2", "file": "nf"}])
        x.same("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "n", "file": "nf"}])
        x.same("query-named-block-nodes", lambda a: [v["ro"] for v in a["return"] if v["node-name"] == "n"])
        x.same("change-backing-file", device="t", image_node_name="t", backing_file="@/./base.qcow2")
        x.same("change-backing-file", device="none", image_node_name="t", backing_file="@/base.qcow2")
        x.same("block_resize", node_name="t", size=16 * MIB)
        x.nodes("t", "ft")
    # a node that was a disk's thread's is as good as any
    with Both(TWO, make_two) as x:
        for options in ({"driver": "file", "filename": "@/f", "size": 8 * MIB}, {"driver": "qcow2", "file": "f", "size": MIB}):
            x.same("blockdev-create", job_id="c", options=options)
            x.wait_for("c", "concluded")
            x.same("query-jobs", jobs)
            x.same("job-dismiss", id="c")
            if options["driver"] == "file":
                x.same("blockdev-add", **file_node("f", "@/f"))
                x.same("blockdev-backup", job_id="k", device="t", target="f", sync="full")
                x.wait_for("k", "null")


def not_texts():
    """What the command line describes is looked at as closely as what a client does, whose members the schema has checked."""
    with tempfile.TemporaryDirectory() as folder:
        image("-f", "raw", "@/x", "1M")(folder)
        for driver, wrong, word in (("file", {"aio": 5}, "'aio', expected: string"), ("file", {"discard": True}, "'discard', expected: string"),
                                    ("file", {"locking": False}, "'locking', expected: string"),
                                    ("file", {"cache.direct": True}, "'cache.direct' is unexpected"),
                                    ("nbd", {"server": {"type": "inet", "host": "127.0.0.1", "port": 1}}, "'server.port', expected: string")):
            d = json.dumps({"driver": driver, "node-name": "n", **({"filename": folder + "/x"} if driver == "file" else {}), **wrong})
            said = subprocess.run([LODGE, "run", "--blockdev", d, "--disk", "node=n", "--display", "none"], capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL, timeout=60 * SLOW, check=False)
            check(said.returncode and word in said.stderr, f"{d}: {said.stderr}")


def in_pieces(folder):
    """As make_two, and o2 has data in every other cluster."""
    make_two(folder)
    subprocess.run(["qemu-io", "-f", "qcow2", *[w for i in range(0, 128, 2) for w in ("-c", f"write -q -P {i + 1} {i * 64}k 64k")],
                    folder + "/o2.qcow2"], check=True, stdout=subprocess.DEVNULL)


def undone_under_way():
    """A copy of a node that no disk has, as part of what is not done after all."""
    with Both(TWO, in_pieces) as x:
        for n in ("t1", "o2"):
            x.same("blockdev-add", driver="qcow2", node_name=n, file=file_node("f" + n, f"@/{n}.qcow2"), backing=None)
        copy = {"type": "blockdev-backup", "data": {"job-id": "i", "device": "o2", "target": "t1", "sync": "full"}}
        for _ in range(8):
            x.same("transaction", actions=[copy, {"type": "abort", "data": {}}])
        x.same("query-jobs", jobs)
        x.same("transaction", actions=[copy])
        x.wait_for("i", "null")
        x.nodes("t1", "o2")
        for n in ("t1", "o2"):
            x.same("blockdev-del", node_name=n)
        for side in (x.lodge, x.qemu):
            subprocess.run(["qemu-img", "compare", "-q", side.folder + "/o2.qcow2", side.folder + "/t1.qcow2"], check=True)


def layers_in_use():
    """What others see through a layer, or a job is at work on, is left alone."""
    with Both(TWO, in_pieces) as x:
        b = {"driver": "qcow2", "node-name": "b", "read-only": True, "file": "fb"}
        t = {"driver": "qcow2", "node-name": "t", "file": "ft"}
        x.same("blockdev-reopen", options=[{**b, "backing": "b"}])
        x.same("blockdev-reopen", options=[{**b, "backing": "t"}])
        x.same("blockdev-reopen", options=[file_node("ft", "@/top.qcow2", **{"auto-read-only": True, "discard": "unmap", "read-only": True})])
        # a layer over a disk that is written to shows what nobody wrote at one moment
        x.same("blockdev-add", driver="qcow2", node_name="t1", file=file_node("ft1", "@/t1.qcow2"), backing="t")
        check("written to" in x.lodge.say("blockdev-backup", {"job_id": "k", "device": "t", "target": "t1", "sync": "none"})["error"][1], "fleecing")
        x.same("blockdev-del", node_name="t1")
        x.same("blockdev-add", driver="qcow2", node_name="o1", file=file_node("fo1", "@/o1.qcow2"), backing=None)
        x.alike("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "o1", "file": "fo1", "read-only": True, "backing": "none"}])
        x.nodes("o1", "fo1")
        x.same("blockdev-snapshot", node="t", overlay="o1")
        # what is the inside of a format is no disk, and no second format may look into it while one writes
        for d, word in (({"driver": "raw"}, "in use as what a format"), ({"driver": "qcow2", "backing": None}, "another format writes")):
            said = x.lodge.say("blockdev-add", {"node_name": "r", "file": "fo1", "read_only": True, **d})
            check("error" in said and word in said["error"][1], f"{d}: {said}")
        x.same("blockdev-add", driver="qcow2", node_name="o2", file=file_node("fo2", "@/o2.qcow2"), backing="t")
        x.same("blockdev-add", driver="qcow2", node_name="t1", file=file_node("ft1", "@/t1.qcow2"), backing=None)
        x.same("blockdev-backup", job_id="k", device="o2", target="t1", sync="full", auto_finalize=False)
        x.wait_for("k", "pending")
        x.alike("block-commit", job_id="c", device="o1", base_node="b")
        x.same("query-jobs", jobs)
        x.same("job-cancel", id="k")
        x.wait_for("k", "null")
        x.same("block-stream", job_id="s", device="o2", base_node="b", auto_finalize=False)
        x.wait_for("s", "pending")
        said = x.lodge.say("blockdev-reopen", {"options": [{**t, "read-only": True, "backing": None}]})
        check("in use by a job" in said["error"][1], f"a layer was taken from below a job: {said}")
        x.same("job-finalize", id="s")
        x.wait_for("s", "null")
        x.nodes("o2", "o1", "t", "b")
        x.same("block-commit", job_id="c", device="o1", base_node="b")
        x.wait_for("c", "ready")


def strange_names(folder):
    """As make_two, and the base names a file that there is not."""
    make_two(folder)
    qimg("rebase", "-u", "-F", "raw", "-b", "/no/such/file", folder + "/base.qcow2")


def new_targets():
    """A copy of the top stands on what the disk stands on, and not on what the files below say."""
    with Both(TWO, strange_names) as x:
        x.lodge.say("drive-mirror", {"job_id": "m", "device": "t", "target": x.lodge.folder + "/new.qcow2", "format": "qcow2", "sync": "top",
                                     "node_name": "new"})
        x.lodge.wait_for("m", "ready")
        x.lodge.say("job-complete", {"id": "m"})
        x.lodge.wait_for("m", "null")
        found = {n["node-name"]: n for n in x.lodge.say("query-named-block-nodes", {"flat": True})["return"]}
        check(found["new"]["backing_file_depth"] == 1 and found["new"]["backing_file"] == "@/base.qcow2", found["new"])


def exports():
    """A disk may go when it is not shown any more, and others can be then."""
    both = q35(file_node("a", "@/t1.qcow2"), file_node("b", "@/t2.qcow2")) + ["-device", "qemu-xhci", "-device", "usb-storage,drive=a,id=u1", "-device",
                                                                             "usb-storage,drive=b,id=u2"]
    with Both(both, make_two) as x:
        x.same("nbd-server-start", addr={"type": "unix", "data": {"path": "@/nbd"}})
        x.same("block-export-add", id="e", type="nbd", node_name="a")
        x.same("block-export-del", id="e")
        x.same("device_del", id="u1")
        for side in (x.lodge, x.qemu):
            side.q.event("DEVICE_DELETED", 60)
        x.same("block-export-add", id="e", type="nbd", node_name="b", name="b")
        qimg("info", f"nbd+unix:///b?socket={x.lodge.folder}/nbd")
        x.same("nbd-server-stop")


def ending():
    """The end does not wait for leave that nobody can give any more."""
    with Both(TWO, make_two) as x:
        x.same("blockdev-add", driver="qcow2", node_name="t1", file=file_node("ft1", "@/t1.qcow2"))
        x.same("blockdev-mirror", job_id="m", device="t", target="t1", sync="full", auto_finalize=False)
        x.wait_for("m", "ready")
        x.same("job-pause", id="m")
        x.wait_for("m", "standby")
        x.same("job-complete", id="m")
        for side in (x.lodge, x.qemu):
            side.say("quit", {})
            check(side.p.wait(30 * SLOW) == 0, "it ended badly")


TESTS = [("adding and deleting", adding), ("snapshots, stream, commit", snapshots), ("mirror and backup", copies), ("transactions", transactions),
         ("making, reopening", making), ("not texts", not_texts), ("undone under way", undone_under_way), ("layers in use", layers_in_use),
         ("new targets", new_targets), ("exports", exports), ("ending", ending)]

if __name__ == "__main__":
    raise SystemExit(run_all(TESTS, jobs=2))
