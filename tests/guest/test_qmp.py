#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The control protocol, as its clients see it: whole guests, `lodge qmp`, `lodge ps`."""
import json
import os
import shutil
import re
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time

from guest import SLOW, Skip, check, lodge, need_guest, run_all, tiny
from qmp import Qmp, Schema


class Rig:
    """A tiny guest with a monitor on a socket, in a folder of its own."""

    def __init__(self, *args, wait="off", **kw):
        self.args, self.kw, self.wait = args, kw, wait

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="lq")
        self.sock = os.path.join(self.folder, "q")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.folder)
        self.vm = tiny("--qmp", f"unix:{self.sock},server=on,wait={self.wait}", *self.args, env=self.env, **self.kw)
        self.vm.__enter__()
        return self

    def __exit__(self, *exc):
        self.vm.__exit__(*exc)
        shutil.rmtree(self.folder, ignore_errors=True)

    def qmp(self, **kw):
        q = Qmp(self.sock, **kw)
        q.schema = Schema(q.cmd("query-qmp-schema")) if kw.get("negotiate", True) else None
        return q

    def lodge(self, *args):
        return lodge(*args, env=self.env)

    def shell(self):
        self.vm.expect(r"init reached", 120)
        self.vm.expect(r"# ", 30)


def run_state():
    """stop, cont, reset, NMI, balloon, power button, with their events."""
    with Rig() as r, r.qmp() as q:
        r.shell()
        check(q.cmd("query-status") == {"status": "running", "running": True, "singlestep": False}, "it does not run")
        q.cmd("stop")
        q.event("STOP")
        check(q.cmd("query-status")["status"] == "paused", "it is not paused")
        r.vm.send("echo heard-$((40+2))\n")
        r.vm.pump(0.5)
        check("heard-42" not in r.vm.text(), "the guest ran while it was stopped")
        q.cmd("cont")
        q.event("RESUME")
        r.vm.expect("heard-42", 30)
        q.cmd("balloon", value=192 << 20)
        q.event("BALLOON_CHANGE", 60)
        deadline = time.monotonic() + 30 * SLOW
        while q.cmd("query-balloon")["actual"] > 200 << 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        check(q.cmd("query-balloon")["actual"] <= 200 << 20, "the balloon did not grow")
        r.vm.shell("hwclock -w -u")
        q.event("RTC_CHANGE", 30)
        start = len(r.vm.text())
        q.cmd("system_reset")
        check(q.event("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}, "the wrong reason")
        r.vm.expect(r"init reached", 120, start)
        r.vm.expect(r"# ", 30, start + 100)
        r.vm.send("poweroff\n")
        check(q.event("SHUTDOWN", 60) == {"guest": True, "reason": "guest-shutdown"}, "the wrong reason")
        check(r.vm.wait(60) == 0, "the wrong status")


def queries():
    """Every query without arguments, and its answer against the schema."""
    with Rig("--cpus", "2", "--vmgenid", "auto") as r, r.qmp(oob=True) as q:
        names = [c["name"] for c in q.cmd("query-commands")]
        for name in names:
            members = q.schema.by_name[q.schema.by_name[name]["arg-type"]]["members"]
            if name.startswith(("query-", "x-lodge-")) and all("default" in m for m in members):
                q.cmd(name)
        check(len(q.cmd("query-cpus-fast")) == 2, "not two CPUs")
        tids = {c["thread-id"] for c in q.cmd("query-cpus-fast")}
        check(all(os.path.exists(f"/proc/{r.vm.p.pid}/task/{t}") for t in tids), "threads that are none")
        check(q.cmd("x-lodge-info", _key="exec-oob")["cpus"] == 2, "out of band")
        check(q.error("stop", _key="exec-oob").desc == "The command stop does not support OOB", "out of band")
        check(q.error("frobnicate").cls == "CommandNotFound", "the class of an unknown command")
        q.cmd("quit")
        check("SHUTDOWN" in q.rest(), "no SHUTDOWN")
        check(r.vm.wait(30) == 0, "the status of quit")


def start_paused():
    """wait=on, --paused, and a client that goes and comes back; several at a time."""
    with Rig("--paused", wait="on") as r:
        with r.qmp() as q, r.qmp() as other:
            check(q.cmd("query-status")["status"] == "prelaunch", "it runs already")
            check(q.cmd("query-name") == other.cmd("query-name") == {"name": "guest"}, "the name")
            other.cmd("cont")
            q.event("RESUME")
        r.shell()
        with r.qmp() as q:
            q.send_raw(b'{"execute":"stop"}')
        with r.qmp() as q:
            deadline = time.monotonic() + 30
            while q.cmd("query-status")["running"] and time.monotonic() < deadline:
                time.sleep(0.05)
            check(not q.cmd("query-status")["running"], "a command of a client that has gone was not done")
            q.cmd("quit")
            check(r.vm.wait(30) == 0, "the status of quit")


def bad_clients():
    """Floods, endless messages, closed connections: the guest and other clients go on."""
    with Rig() as r, r.qmp() as good:
        r.shell()
        flood = socket.socket(socket.AF_UNIX)
        flood.connect(r.sock)
        flood.setblocking(False)
        endless = socket.socket(socket.AF_UNIX)
        endless.connect(r.sock)
        endless.sendall(b'{"execute":"qmp_capabilities"}{"execute":"')
        sent = 0
        for i in range(1600):
            endless.sendall(b"x" * 65536)
            try:
                sent += flood.send(b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}' * 100)
            except BlockingIOError:
                pass
            if i % 400 == 0:
                check(good.cmd("query-name"), "another client is not served")
        check(r.vm.shell("echo alive-$((40+2))").find("alive-42") >= 0, "the guest does not answer")
        with open(f"/proc/{r.vm.p.pid}/status") as f:
            anon = next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
        check(anon < 200 << 10, f"{anon} KiB of memory")
        for _ in range(50):
            s = socket.socket(socket.AF_UNIX)
            s.connect(r.sock)
            s.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{"exec')
            s.close()
        flood.close()
        endless.close()
        check(good.cmd("query-status")["running"], "it does not run")
        r.vm.send("poweroff\n")
        check(good.event("SHUTDOWN", 60)["reason"] == "guest-shutdown", "the reason")


def clients():
    """`lodge ps`, `lodge qmp`, the folder of the control socket, two guests of one name."""
    with Rig("--name", "one") as r:
        with r.qmp():
            pass
        code, out, err = r.lodge("ps", "-o", "json")
        guests = json.loads(out)
        check(code == 0 and [g["name"] for g in guests] == ["one"] and guests[0]["pid"] == r.vm.p.pid, f"ps: {out} {err}")
        check(os.stat(os.path.join(r.folder, "lodge")).st_mode & 0o777 == 0o700, "others may look")
        code, out, err = r.lodge("qmp", "one", "query-status")
        check(code == 0 and json.loads(out)["status"] == "running", f"qmp: {out} {err}")
        code, out, err = r.lodge("qmp", "one", "balloon", "value=200M")
        check(code == 0 and json.loads(out) == {}, f"qmp: {out} {err}")
        code, out, err = r.lodge("qmp", "one", "balloon", '{"value": "x"}')
        check(code == 1 and "expected: integer" in err, f"qmp: {out} {err}")
        # One that is stopped does not keep `lodge ps` waiting.
        r.vm.p.send_signal(signal.SIGSTOP)
        code, out, err = r.lodge("ps", "-o", "json")
        r.vm.p.send_signal(signal.SIGCONT)
        check(code == 0 and [g["status"] for g in json.loads(out)] == ["unresponsive"], f"ps of a stopped guest: {out} {err}")
        code, out, err = r.lodge("qmp", "two", "query-status")
        check(code == 1 and "no guest named 'two'" in err, f"qmp: {err}")
        with tiny("--name", "one", env=r.env) as vm:
            check(vm.wait(60) == 1 and "a guest named 'one' is running already" in vm.err(), f"the second: {vm.err()}")
        with tiny("--name", "one", "--control", "off", env=r.env) as vm:
            vm.expect("init reached", 120)
        # Killed: what it left is replaced.
        r.vm.p.send_signal(signal.SIGKILL)
        r.vm.p.wait()
        check(os.path.exists(os.path.join(r.folder, "lodge/one/qmp")), "nothing was left behind")
        code, out, _ = r.lodge("ps", "-o", "json")
        check(json.loads(out) == [], "a dead guest is listed")
        with tiny("--name", "one", env=r.env) as vm:
            vm.expect("init reached", 120)
            code, out, err = r.lodge("qmp", "one", "quit")
            check(code == 0 and vm.wait(30) == 0, f"quit: {err}")
        check(not os.path.exists(os.path.join(r.folder, "lodge/one")), "the folder was left behind")


def other_places():
    """Standard input and output, TCP, a descriptor handed down, a connection made; a browser is cut off."""
    need_guest()
    a, b = socket.socketpair()
    listener = socket.socket(socket.AF_UNIX)
    with tempfile.TemporaryDirectory() as folder:
        listener.bind(os.path.join(folder, "l"))
        listener.listen()
        with tiny("--console", "none", "--qmp", "stdio", "--qmp", "tcp:127.0.0.1:0,wait=off", "--qmp", f"fd:{b.fileno()}",
                  "--qmp", f"unix:{folder}/l,server=off", pass_fds=[b.fileno()]) as vm:
            vm.expect(r'\{"QMP": ', 30)
            vm.send('{"execute":"qmp_capabilities"}{"execute":"query-name"}')
            vm.expect(r'\{"return": \{"name": "guest"\}\}', 30)
            a.settimeout(30)
            check(b'"QMP"' in a.recv(4096), "no greeting on the descriptor")
            made, _ = listener.accept()
            made.settimeout(30)
            check(b'"QMP"' in made.recv(4096), "no greeting on the connection")
            deadline = time.monotonic() + 30
            while "port" not in vm.err() and time.monotonic() < deadline:
                vm.pump(0.1)
            port = int(vm.err().split("port ")[1].split()[0])
            with Qmp(("127.0.0.1", port)) as q:
                check(q.cmd("query-name") == {"name": "guest"}, "TCP")
            browser = socket.create_connection(("127.0.0.1", port))
            browser.sendall(b'POST / HTTP/1.1\r\nHost: x\r\n\r\n{"execute":"qmp_capabilities"}{"execute":"quit"}')
            browser.settimeout(30)
            got = b""
            try:
                while data := browser.recv(4096):
                    got += data
            except ConnectionResetError:
                pass
            check(b"return" not in got, "a browser was listened to")
            a.sendall(b'{"execute":"qmp_capabilities"}{"execute":"quit"}')
            check(vm.wait(30) == 0, "the status of quit")


def disks():
    """Queries, resize, limits, snapshot, mirror with switch, backup, commit, in one guest that writes meanwhile."""
    mib = 1 << 20
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk.qcow2")
        check(lodge("img", "create", "-f", "qcow2", path, "64M")[0] == 0, "lodge img create failed")
        with Rig("--disk", path, "--disk", "null-co://8M") as r, r.qmp() as q:
            r.shell()
            b = q.cmd("query-block")
            check([x["device"] for x in b] == ["disk0", "disk1"] and b[0]["inserted"]["drv"] == "qcow2", f"query-block: {b}")
            check(b[0]["inserted"]["image"]["virtual-size"] == 64 * mib, "the size")
            q.cmd("block_resize", device="disk0", size=80 * mib)
            check("163840" in r.vm.shell("cat /sys/block/vda/size"), "the guest does not know its disk's new size")
            check(q.error("block_resize", device="disk9", size=1).cls == "DeviceNotFound", "the class")
            q.error("block_resize", device="disk0", size=513)
            r.vm.shell("dd if=/dev/urandom of=/dev/vda bs=1M count=16 && sync")
            stats = q.cmd("query-blockstats")[0]["stats"]
            check(stats["wr_bytes"] >= 16 * mib and stats["wr_operations"] > 0, f"counters: {stats}")
            q.cmd("block_set_io_throttle", device="disk0", bps=0, bps_rd=0, bps_wr=4 * mib, iops=0, iops_rd=0, iops_wr=0)
            check(q.cmd("query-block")[0]["inserted"]["bps_wr"] == 4 * mib, "the limit is not shown")
            start = time.monotonic()
            r.vm.shell("dd if=/dev/zero of=/dev/vda bs=1M count=8 oflag=direct 2>/dev/null || dd if=/dev/zero of=/dev/vda bs=1M count=8; sync")
            check(time.monotonic() - start > 0.9, "the limit does not hold")
            q.cmd("block_set_io_throttle", device="disk0", bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
            # Both in one group: what the one reads the other has not, and qom-set lets both go.
            q.cmd("object-add", qom_type="throttle-group", id="g")
            for d in ("disk0", "disk1"):
                q.cmd("block_set_io_throttle", device=d, group="g", bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=10, iops_wr=0)
            check([b["inserted"].get("group") for b in q.cmd("query-block")] == ["g", "g"], "they are not in the group")
            start = time.monotonic()
            r.vm.shell("for d in vda vdb; do dd if=/dev/$d of=/dev/null bs=4k count=8 iflag=direct 2>/dev/null & done; wait", 60)
            check(time.monotonic() - start > 1.2, "16 requests of 10 a second took no time")
            check(q.error("object-del", id="g").cls == "GenericError", "a group with members was deleted")
            q.cmd("qom-set", path="/objects/g", property="limits", value={"iops-read": 0})
            check([b["inserted"]["iops_rd"] for b in q.cmd("query-block")] == [0, 0], "the limits are still there")
            q.cmd("block_set_io_throttle", device="disk1", group="made", bps=1 << 40, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
            check([b["inserted"].get("group") for b in q.cmd("query-block")] == ["g", "made"], "disk1 has not moved")
            for d in ("disk0", "disk1"):
                q.cmd("block_set_io_throttle", device=d, bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)
            q.cmd("object-del", id="g")
            # A disk by a descriptor that is handed over.
            for flags, sets in ((os.O_RDWR, 7), (os.O_RDONLY, 8)):
                with open(folder + "/by-fd.raw", "ab") as f:
                    f.truncate(mib)
                fd = os.open(folder + "/by-fd.raw", flags)
                q.cmd("add-fd", _fds=(fd,), fdset_id=sets)
                os.close(fd)
            file = {"driver": "file", "filename": "/dev/fdset/7"}
            q.cmd("blockdev-add", driver="raw", node_name="fd7", file=file)
            q.cmd("remove-fd", fdset_id=7)
            check(q.error("blockdev-add", driver="raw", node_name="fd7b", file=file).cls == "GenericError", "a set that is not there was opened")
            check("Permission denied" in q.error("blockdev-add", driver="raw", node_name="fd8", file=dict(file, filename="/dev/fdset/8")).desc, "the words")
            q.cmd("blockdev-add", driver="raw", node_name="fd8", read_only=True, file=dict(file, filename="/dev/fdset/8", locking="off"))
            check({n["node-name"]: n["ro"] for n in q.cmd("query-named-block-nodes") if n["node-name"] in ("fd7", "fd8")} == {"fd7": False, "fd8": True}, "the nodes")
            for n in ("fd7", "fd8"):
                q.cmd("blockdev-del", node_name=n)
            fd = os.open(folder + "/log", os.O_WRONLY | os.O_CREAT)
            q.cmd("add-fd", _fds=(fd,), fdset_id=9)
            os.close(fd)
            q.cmd("chardev-add", id="log", backend={"type": "file", "data": {"out": "/dev/fdset/9", "append": True}})
            q.cmd("chardev-remove", id="log")
            q.cmd("blockdev-snapshot-sync", device="disk0", snapshot_file=folder + "/over.qcow2")
            check(q.cmd("query-block")[0]["inserted"]["backing_file_depth"] == 1, "there is no snapshot")
            r.vm.shell("dd if=/dev/urandom of=/dev/vda bs=1M count=4 seek=8 && sync")
            q.cmd("drive-backup", job_id="b", device="disk0", target=folder + "/backup.raw", format="raw", sync="full")
            check(q.error("block_resize", device="disk0", size=96 * mib).cls == "GenericError", "a disk with a job was resized") \
                if q.cmd("query-block-jobs") else None
            done = q.event("BLOCK_JOB_COMPLETED", 60, lambda d: d["device"] == "b")
            check("error" not in done, f"the backup: {done}")
            q.cmd("block-commit", job_id="c", device="disk0")
            q.event("BLOCK_JOB_READY", 60, lambda d: d["device"] == "c")
            q.cmd("block-job-complete", device="c")
            q.event("BLOCK_JOB_COMPLETED", 60, lambda d: d["device"] == "c")
            check(q.cmd("query-block")[0]["inserted"]["backing_file_depth"] == 0, "nothing was committed")
            q.cmd("drive-mirror", device="disk0", target=folder + "/mirror.qcow2", sync="full", auto_dismiss=False)
            q.event("BLOCK_JOB_READY", 60)
            r.vm.shell("dd if=/dev/urandom of=/dev/vda bs=1M count=4 seek=20 && sync")
            check(q.error("job-dismiss", id="disk0").cls == "GenericError", "a job that runs was dismissed")
            check(q.cmd("query-jobs")[0]["status"] == "ready", "its state")
            q.cmd("block-job-complete", device="disk0")
            q.event("JOB_STATUS_CHANGE", 60, lambda d: d == {"id": "disk0", "status": "concluded"})
            check(q.cmd("query-jobs")[0]["status"] == "concluded", "it was dismissed by itself")
            q.cmd("job-dismiss", id="disk0")
            check(q.cmd("query-jobs") == [] and q.cmd("query-block")[0]["inserted"]["file"].endswith("mirror.qcow2"), "no switch")
            check(q.error("block-job-cancel", device="x").cls == "DeviceNotActive", "the class")
            q.error("drive-mirror", device="disk0", target=folder + "/none/there", sync="full")
            check(q.cmd("query-jobs") == [], "a job that did not begin is listed")
            want = re.search(r"\b[0-9a-f]{64}\b", r.vm.shell("sha256sum /dev/vda", 120)).group()
            # One that is under way at the end is cancelled.
            q.cmd("drive-mirror", device="disk0", target=folder + "/late.raw", format="raw", sync="full", speed=mib)
            q.cmd("quit")
            check(r.vm.wait(60) == 0, "the status of quit")
        for name in ("mirror.qcow2", "disk.qcow2"):
            check(lodge("img", "check", folder + "/" + name)[0] == 0, f"{name} is damaged")
        lodge("img", "convert", "-O", "raw", folder + "/mirror.qcow2", folder + "/plain.raw")
        got = subprocess.run(["sha256sum", folder + "/plain.raw"], stdout=subprocess.PIPE, check=True).stdout.decode().split()[0]
        check(want == got, "the mirror is not what the guest saw")
        lodge("img", "convert", "-O", "raw", folder + "/disk.qcow2", folder + "/old.raw")
        with open(folder + "/backup.raw", "rb") as f, open(folder + "/old.raw", "rb") as g:
            a, b = f.read(), g.read()
        check(len(a) == 80 * mib and a[:20 * mib] == b[:20 * mib] and a[24 * mib:] == b[24 * mib:], "the backup is not what was committed")
        check(a[20 * mib:24 * mib] != b[20 * mib:24 * mib], "what was written after the backup is in it")


def bitmaps():
    """Dirty bitmaps of the image: a full and an incremental backup in the guest's presence, and what else is done to them."""
    mib = 1 << 20
    with tempfile.TemporaryDirectory() as folder:
        path, full, inc = (os.path.join(folder, n) for n in ("disk.qcow2", "full.qcow2", "inc.qcow2"))
        check(lodge("img", "create", "-f", "qcow2", path, "32M")[0] == 0, "lodge img create failed")
        with Rig("--disk", path, "--disk", "null-co://8M") as r, r.qmp() as q:
            r.shell()

            def shown(name):
                found = [b for b in q.cmd("query-block")[0]["inserted"].get("dirty-bitmaps", []) if b["name"] == name]
                return found[0] if found else None

            q.error("block-dirty-bitmap-add", node="disk0", name="b")
            q.cmd("block-dirty-bitmap-add", node="disk0", name="b", granularity=65536, persistent=True)
            q.error("block-dirty-bitmap-add", node="disk0", name="b", persistent=True)
            q.error("block-dirty-bitmap-add", node="disk1", name="b", persistent=True)
            check("Cannot find" in q.error("block-dirty-bitmap-add", node="disk9", name="b", persistent=True).desc, "the message")
            write = "dd if=/dev/urandom of=/dev/vda bs=64k count={} seek={} oflag=direct 2>/dev/null; sync"
            r.vm.shell(write.format(16, 64))
            b = shown("b")
            check(b and b["count"] == mib and b["granularity"] == 65536 and b["recording"] and b["persistent"] and not b["busy"], f"the bitmap: {b}")
            q.cmd("drive-backup", job_id="f", device="disk0", target=full, format="qcow2", sync="full", bitmap="b", bitmap_mode="on-success")
            check("error" not in q.event("BLOCK_JOB_COMPLETED", 60, lambda d: d["device"] == "f"), "the full backup failed")
            check(shown("b")["count"] == 0, "it did not begin anew")
            r.vm.shell(write.format(8, 200))
            check("must provide" in q.error("drive-backup", device="disk0", target=inc, sync="incremental").desc, "the message")
            q.error("drive-backup", device="disk0", target=inc, sync="incremental", bitmap="none")
            check(q.cmd("query-jobs") == [], "a job that did not begin is listed")
            check(lodge("img", "create", "-f", "qcow2", "-b", full, "-F", "qcow2", inc)[0] == 0, "lodge img create failed")
            q.cmd("drive-backup", job_id="i", device="disk0", target=inc, format="qcow2", sync="incremental", bitmap="b", mode="existing")
            check("error" not in q.event("BLOCK_JOB_COMPLETED", 60, lambda d: d["device"] == "i"), "the increment failed")
            q.cmd("block-dirty-bitmap-disable", node="disk0", name="b")
            q.cmd("block-dirty-bitmap-add", node="#disk0", name="c", granularity=65536, persistent=True, disabled=True)
            q.cmd("block-dirty-bitmap-enable", node="disk0", name="c")
            check(shown("b")["count"] == 0 and not shown("b")["recording"] and shown("c")["recording"], "the states")
            want = re.search(r"\b[0-9a-f]{64}\b", r.vm.shell("sha256sum /dev/vda", 60)).group()
            lodge("img", "convert", "-O", "raw", inc, folder + "/plain.raw")
            got = subprocess.run(["sha256sum", folder + "/plain.raw"], stdout=subprocess.PIPE, check=True).stdout.decode().split()[0]
            check(want == got, "the increment on the full backup is not the disk")
            r.vm.shell(write.format(4, 0))
            check(shown("b")["count"] == 0 and shown("c")["count"] == 262144, "who noted it?")
            q.cmd("block-dirty-bitmap-merge", node="disk0", target="b", bitmaps=["c"])
            q.error("block-dirty-bitmap-merge", node="disk0", target="b", bitmaps=["x"])
            q.error("block-dirty-bitmap-merge", node="disk0", target="b", bitmaps=[{"node": "disk1", "name": "c"}])
            check(shown("b")["count"] == 262144, "nothing was merged")
            q.cmd("block-dirty-bitmap-clear", node="disk0", name="c")
            check(shown("c")["count"] == 0, "it was not cleared")
            q.cmd("block-dirty-bitmap-remove", node="disk0", name="c")
            q.error("block-dirty-bitmap-remove", node="disk0", name="c")
            check(shown("c") is None, "it was not removed")
            q.cmd("quit")
            check(r.vm.wait(60) == 0, "the status of quit")
        check(lodge("img", "check", path)[0] == 0, "the image is damaged")


def no_room():
    """A host without room: BLOCK_IO_ERROR, STOP, io-error, cont."""
    mib = 1 << 20
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk.raw")
        with open(path, "wb") as f:
            f.truncate(mib)
            os.truncate(path, 16 * mib)
        with Rig("--disk", f"{path},format=raw,werror=stop") as r, r.qmp() as q:
            r.shell()
            soft, hard = resource.prlimit(r.vm.p.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(r.vm.p.pid, resource.RLIMIT_FSIZE, (4 * mib, hard))
            start = len(r.vm.text())
            r.vm.send("dd if=/dev/zero of=/dev/vda bs=64k count=128 && sync && echo written-$((40+2))\n")
            e = q.event("BLOCK_IO_ERROR", 60)
            check(e["device"] == "disk0" and e["operation"] == "write" and e["action"] == "stop", f"the event: {e}")
            q.event("STOP", 60)
            check(q.cmd("query-status")["status"] == "io-error", "the state")
            check(q.cmd("query-block")[0]["io-status"] == "failed", "the disk's state")
            resource.prlimit(r.vm.p.pid, resource.RLIMIT_FSIZE, (soft, hard))
            q.cmd("cont")
            q.event("RESUME")
            r.vm.expect("written-42", 60, start)
            check(q.cmd("query-block")[0]["io-status"] == "ok", "the disk's state")
            q.cmd("quit")


def hmp():
    """The commands people use, through human-monitor-command."""
    with Rig("--disk", "null-co://8M", "--cpus", "2") as r, r.qmp() as q:
        def say(line, **kw):
            return q.cmd("human-monitor-command", command_line=line, **kw).replace("\r", "")
        check(say("info status") == "VM status: running\n", "info status")
        check("stop it first" in say("info registers"), "registers of a running guest")
        say("stop")
        q.event("STOP")
        check(say("info status") == "VM status: paused\n", "info status, paused")
        check("RIP=" in say("info registers") and say("info registers -a").count("CPU#") == 2, "info registers")
        check("disk0" in say("info block") and "disk0: rd_bytes=" in say("info blockstats"), "info block")
        check("macaddr=52:54:00" in say("info network"), "info network")
        check("* CPU #1" in say("info cpus", cpu_index=1), "info cpus")
        check(say("set_link net0 off") == "" and "Device 'net9' not found" in say("set_link net9 on"), "set_link")
        check("block_resize" in say("help") and "unknown command: 'frob'" in say("frob x"), "help")
        check(say("block_resize disk0").startswith("usage:"), "usage")
        for rate in ("2x", "9999999999999g", "k", "2kk"):
            check("is not a number" in say("migrate_set_parameter max-bandwidth " + rate), rate)
        check(say("migrate_set_parameter max-bandwidth 2G") == "" and "max-bandwidth: 2147483648" in say("info migrate_parameters"), "in GiB")
        check(say("migrate_set_parameter max-bandwidth 3") == "" and "max-bandwidth: 3145728" in say("info migrate_parameters"), "in MiB")
        for line in [c.split(" -- ")[0] for c in say("info").splitlines()]:
            say(line.split(" [")[0].replace("block-jobs|jobs", "block-jobs"))
        say("cont")
        q.event("RESUME")
        say("q")
        check(r.vm.wait(30) == 0, "the status of quit")


def nbd_client(path, export):
    """The socket of a client that has taken an export (NBD_OPT_EXPORT_NAME)."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    f = s.makefile("rb")
    check(f.read(16) == b"NBDMAGICIHAVEOPT", "not an NBD server")
    f.read(2)
    s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(export)) + export.encode())
    check(len(f.read(10)) == 10, "the export is not there")
    return s


def nbd():
    """A disk in use, shown to an NBD client."""
    if not shutil.which("qemu-img"):
        raise Skip("there is no qemu-img")
    mib = 1 << 20
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "disk.raw")
        with open(path, "wb") as f:
            f.write(os.urandom(4 * mib))
        with Rig("--disk", f"{path},format=raw,iothread=a", "--disk", "null-co://4M,if=scsi,cdrom=on,iothread=a") as r, r.qmp() as q:
            check("not running" in q.error("nbd-server-add", device="disk0").desc, "no server, no error")
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": folder + "/n"}})
            check("already running" in q.error("nbd-server-start", addr={"type": "unix", "data": {"path": folder + "/m"}}).desc, "two servers")
            q.cmd("nbd-server-add", device="disk0")
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", f"nbd+unix:///disk0?socket={folder}/n", folder + "/copy"], check=True,
                           timeout=60)
            with open(path, "rb") as f, open(folder + "/copy", "rb") as g:
                check(f.read() == g.read(), "the copy differs")
            q.cmd("nbd-server-remove", name="disk0", mode="hard")
            q.error("nbd-server-remove", name="disk0")
            check(q.event("BLOCK_EXPORT_DELETED", 5) == {"id": "disk0"}, "the event")
            q.cmd("nbd-server-add", device="disk0", name="x", writable=True)
            q.cmd("block-export-add", type="nbd", id="e", node_name="disk0", name="y")
            check("already in use" in q.error("block-export-add", type="nbd", id="e", node_name="disk0", name="z").desc, "the message")
            q.error("block-export-add", type="nbd", id="f", node_name="disk0", name="y")
            node = q.cmd("query-block")[0]["inserted"]["node-name"]
            check([(x["id"], x["node-name"]) for x in q.cmd("query-block-exports")] == [("x", node), ("e", node)], "the exports")
            out = subprocess.run(["qemu-img", "info", f"nbd+unix:///y?socket={folder}/n"], stdout=subprocess.PIPE, timeout=60)
            check(out.returncode == 0, "the export is not there")
            q.cmd("block-export-add", type="nbd", id="cd", node_name="disk1")
            client = nbd_client(folder + "/n", "y")
            check("NBD export" in q.error("eject", device="disk1", force=True).desc, "a medium was taken from an NBD client")
            q.cmd("block-export-del", id="cd")
            q.cmd("eject", device="disk1")
            check("still in use" in q.error("block-export-del", id="e").desc, "taken from its client")
            q.cmd("block-export-del", id="e", mode="hard")
            check(client.recv(1) == b"", "the client was kept")
            client.close()
            check("not found" in q.error("block-export-del", id="e").desc, "it is still there")
            q.cmd("nbd-server-stop")
            check(not os.path.exists(folder + "/n"), "the socket was left behind")
            q.cmd("quit")
            check(r.vm.wait(30) == 0, "the status of quit")


TESTS = [("nbd", nbd), ("disks", disks), ("dirty bitmaps", bitmaps), ("no room", no_room), ("human monitor", hmp), ("run state", run_state), ("queries", queries), ("start paused", start_paused), ("bad clients", bad_clients),
         ("clients of lodge", clients), ("other places", other_places)]

if __name__ == "__main__":
    raise SystemExit(run_all(TESTS, jobs=3))
