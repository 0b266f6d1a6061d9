#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The control protocol, as its clients see it: whole guests, `lodge qmp`, `lodge ps`."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from guest import LODGE, SLOW, Vm, check, lodge, need_guest, run_all, tiny
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
        r.vm.shell("hwclock -w -u || true")
        start = len(r.vm.text())
        q.cmd("system_reset")
        check(q.event("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}, "the wrong reason")
        r.vm.expect(r"init reached", 120, start)
        r.vm.expect(r"# ", 30, start + 100)
        r.vm.shell("poweroff", 1) if False else r.vm.send("poweroff\n")
        check(q.event("SHUTDOWN", 60) == {"guest": True, "reason": "guest-shutdown"}, "the wrong reason")
        check(r.vm.wait(60) == 0, "the wrong status")


def queries():
    """Every query without arguments, and its answer against the schema."""
    with Rig("--cpus", "2") as r, r.qmp(oob=True) as q:
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


TESTS = [("run state", run_state), ("queries", queries), ("start paused", start_paused), ("bad clients", bad_clients),
         ("clients of lodge", clients), ("other places", other_places)]

if __name__ == "__main__":
    raise SystemExit(run_all(TESTS))
