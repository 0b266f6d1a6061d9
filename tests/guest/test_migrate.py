#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Live migration (migrate.py has the herd, and the long target): a guest that checks itself in memory and on its disk, back and forth; what is
refused before anything happens; cancelled; over every kind of address; and with connections cut and processes killed."""
import json
import os
import socket
import struct
import sys
import time

import certs
import migrate
from guest import SLOW, Skip, check, lodge, run_all
from migrate import Herd
from qmp import QmpError

BRIDGE = """
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def pump(read, write):
    while data := read(65536):
        write(data)
t = threading.Thread(target=pump, args=(lambda n: os.read(0, n), s.sendall)); t.start()
pump(s.recv, lambda d: os.write(1, d))
"""


def back_and_forth():
    with Herd(cpus=2) as herd:
        herd.boot()
        for _ in range(4):
            herd.migrate()
        # Over a link of 20 ms a record or so, compressed, and slowed down.
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate-set-capabilities", capabilities=[{"capability": "compress", "state": True},
                                                            {"capability": "auto-converge", "state": True}])
        info = herd.migrate(uri=lambda path: migrate.Link(path).uri, downtime_limit=1000)
        check(info["compression"]["compression-rate"] > 1, f"compressed, it is no smaller: {info}")


def streams():
    """Over several connections, plain and compressed, by TLS, and slowed down: the limit is that of all together."""
    with Herd(cpus=2) as herd:
        herd.boot()
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            q.cmd("migrate-set-parameters", multifd_channels=3)
            e = q.error("migrate", uri="exec:cat")
            check("multifd" in e.desc, e.desc)
        info = herd.migrate()
        check(0.9 * info["ram"]["transferred"] < info["ram"]["multifd-bytes"], f"{info}")
        for params, smaller in (({"multifd_channels": 2, "multifd_compression": "zstd", "multifd_zstd_level": 3}, True), ({"multifd_channels": 16}, False)):
            with herd.qmp(herd.vm) as q:
                q.cmd("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            info = herd.migrate(**params)
            check(("compression" in info) == smaller, f"{params}: {info}")
        # A limit of 8 MiB a second for what takes three connections to send, until it is lifted.
        to, path = herd.destination()
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            q.cmd("migrate-set-parameters", multifd_channels=3, max_bandwidth=8 << 20, downtime_limit=2000)
            begun = time.monotonic()
            q.cmd("migrate", uri="unix:" + path)
            while time.monotonic() - begun < 2:
                sent = q.cmd("query-migrate").get("ram", {"transferred": 0})["transferred"]
                check(sent < (time.monotonic() - begun + 0.5) * (8 << 20), f"{sent} bytes in {time.monotonic() - begun} s")
                time.sleep(0.1)
            check(sent, "nothing was sent")
            q.cmd("migrate-set-parameters", max_bandwidth=0)
        how, info = herd.settle(herd.vm)
        check(how == "completed", f"{how}: {info}")
        herd.drop(herd.vm)
        herd.vm = to
        herd.goes_on()
        # One of them breaks, on its way or before it is there; damaged, or more than were promised: the guest goes on, and the next attempt works.
        to, path = herd.destination()
        for kind, where, nth in (("cut", "joined", 1), ("cut", "pages", 3), ("half", "complete", 1), ("flip", "pages", 2)):
            fault = migrate.Fault.of(kind, where, nth, lane=2)
            link = migrate.Link(path, fault)
            with herd.qmp(herd.vm) as q:
                q.cmd("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
                q.cmd("migrate-set-parameters", multifd_channels=2)
                q.cmd("migrate", uri=link.uri)
            how, info = herd.settle(herd.vm)
            link.close()
            check(fault.done and how == "failed", f"{kind} {where}: {fault.done} {how}: {info}")
            if kind == "flip":
                check("damaged on its way" in info["error-desc"], f"{info}")
            herd.goes_on()
        herd.drop(to)
        herd.migrate(multifd_channels=2, downtime_limit=2000)


def late(herd, uri, rounds=0, **params):
    """Begins a migration whose memory comes after its guest once so many rounds are over."""
    with herd.qmp(herd.vm) as q:
        q.cmd("migrate-set-parameters", **{"max_bandwidth": 0, **params})
        q.cmd("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
        q.cmd("migrate", uri=uri)
        while rounds and q.cmd("query-migrate").get("ram", {"dirty-sync-count": 0})["dirty-sync-count"] < rounds:
            time.sleep(0.01)
        try:
            q.cmd("migrate-start-postcopy")
        except QmpError as e:
            check("no migration under way" in e.desc, e.desc)


def waits_for(herd, vm, status, seconds=30):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        with herd.qmp(vm) as q:
            got = q.cmd("query-migrate")
        if got["status"] == status:
            return got
        check(time.monotonic() < deadline and got["status"] not in ("failed", "cancelled"), f"{got} and not {status}: {vm.err()}")
        time.sleep(0.02)


def moves(herd, to):
    herd.drop(herd.vm)
    herd.vm = to
    herd.goes_on()


def postcopy():
    """The guest goes over at once, and its memory after it: over one connection and several, by the verb, and when it breaks."""
    with Herd(cpus=2) as herd:
        herd.boot()
        to, path = herd.destination()
        if migrate.about_of(path)["late"] is not True:
            herd.drop(to)
            late(herd, "unix:" + path)
            raise Skip("no userfaultfd here")
        for rounds, ways in ((0, ()), (1, ("multifd",))):
            with herd.qmp(herd.vm) as q:
                e = q.error("migrate-start-postcopy")
                check("no migration under way" in e.desc, e.desc)
                q.cmd("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in ways])
            late(herd, "unix:" + path, rounds, max_bandwidth=24 << 20, downtime_limit=0)
            how, info = herd.settle(herd.vm)
            check(how == "completed" and info["ram"]["postcopy-requests"], f"{how}: {info} {to.err()}")
            check(waits_for(herd, to, "completed")["status"] == "completed", "there it has not ended")
            moves(herd, to)
            to, path = herd.destination()
        status, out, err = lodge("migrate", "--postcopy", "1", "--compress", f"m{herd.n - 1}", "unix:" + path, env=herd.env)
        check(status == 0 and b"stood still for" in out, f"lodge migrate --postcopy: {status} {err}")
        moves(herd, to)
        # A guest that has come so goes on like any other.
        herd.migrate()


def hears(herd, vm):
    """A destination that has paused may not: what would waits for memory of the guest's itself."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2 * SLOW)
        try:
            s.connect(herd.sockets[vm])
            return bool(s.recv(1))
        except OSError:
            return False


def broken():
    """Memory comes after its guest, and the connection breaks: both sides pause, the guest waits, and it goes on over another one."""
    with Herd() as herd:
        herd.boot()
        to, path = herd.destination()
        if migrate.about_of(path)["late"] is not True:
            raise Skip("no userfaultfd here")
        # Before it is handed over: it goes on where it was.
        for where, nth in (("want", 1), ("pages", 2)):
            fault = migrate.Fault.of("cut", where, nth, lane=1)
            link = migrate.Link(path, fault, hold=True)
            late(herd, link.uri)
            how, info = herd.settle(herd.vm)
            link.close()
            check(fault.done and how == "failed", f"{where}: {fault.done}, {how}: {info}")
            herd.goes_on()
        # After that.
        link = migrate.Link(path, migrate.Fault.of("cut", "pages", 150, lane=1))
        late(herd, link.uri)
        waits_for(herd, herd.vm, "postcopy-paused")
        link.close()
        with herd.qmp(herd.vm) as q:
            check(q.cmd("query-status")["status"] == "postmigrate", "the source runs")
            for command, args, word in (("cont", {}, "gone elsewhere"), ("migrate", {"uri": "unix:" + path}, "under way"), ("migrate-pause", {}, None)):
                if word:
                    e = q.error(command, **args)
                    check(word in e.desc, e.desc)
            q.cmd("migrate", uri="unix:" + herd.dir + "/nobody", resume=True)
        waits_for(herd, herd.vm, "postcopy-paused")
        # It breaks once more, and comes elsewhere.
        link = migrate.Link(path, migrate.Fault.of("cut", "pages", 60, lane=0))
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri=link.uri, resume=True)
        waits_for(herd, herd.vm, "postcopy-paused")
        link.close()
        where = path
        if hears(herd, to):
            waits_for(herd, to, "postcopy-paused")
            where = herd.dir + "/again"
            with herd.qmp(to) as q:
                q.cmd("migrate-recover", uri="unix:" + where)
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri="unix:" + where, resume=True)
        how, info = herd.settle(herd.vm)
        check(how == "completed", f"{how}: {info} {to.err()}")
        moves(herd, to)


def refused():
    """A destination of another make."""
    with Herd("--watchdog", "i6300esb", disk=False) as herd:
        herd.boot()
        herd.args, herd.cpus = ["--cpu", "max,-rdseed"], 2
        to, path = herd.destination()
        try:
            with herd.qmp(herd.vm) as q:
                q.cmd("migrate", uri="unix:" + path)
            how, info = herd.settle(herd.vm)
            text = info.get("error-desc", "")
            words = ("CPU features that the guest has are missing there", "rdseed", "watchdog is i6300esb here and not given there",
                     "cpus is 1 here and 2 there")
            check(how == "failed" and all(w in text for w in words), f"{how}: {text}")
            check(herd.status(to) == "inmigrate", f"the destination is {herd.status(to)}")
            try:
                with herd.qmp(to) as q:
                    q.cmd("cont")
                check(False, "a guest that is not there was let go on")
            except QmpError as e:
                check("not here yet" in e.desc, e.desc)
        finally:
            herd.drop(to)
        herd.goes_on()


def to_a_stranger(herd, about, behave):
    """Migrates to one that says this of itself and goes on as it likes."""
    path = os.path.join(herd.dir, "stranger")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate-set-parameters", max_bandwidth=0, downtime_limit=4000)
            q.cmd("migrate", uri="unix:" + path)
        a, _ = s.accept()
        os.unlink(path)
    with a:
        stranger = migrate.Speaker(a)
        stranger.hear("hello")
        stranger.say("about", json.dumps(about).encode())
        behave(stranger)


def strangers():
    """Destinations that are not what they seem."""
    with Herd() as herd:
        herd.boot()
        to, path = herd.destination()
        about = migrate.about_of(path)
        herd.drop(to)
        # What is long and what a terminal would obey.
        bad = dict(about, cpu="0" * 400000, config=dict(about["config"], **{"\x1b[2J": "on"}))
        to_a_stranger(herd, bad, lambda x: x.hear("refuse"))
        how, info = herd.settle(herd.vm)
        text = info["error-desc"]
        check(how == "failed" and "CPU model makes no sense: it is no text" in text and "?[2J is on there" in text and "\x1b" not in text, f"{how}: {text!r}")
        herd.goes_on()

        def full(x):
            x.hear("pages")
            x.say("failed", b"there is no room")

        to_a_stranger(herd, about, full)
        how, info = herd.settle(herd.vm)
        check(how == "failed" and "there is no room" in info["error-desc"], f"{how}: {info}")
        herd.goes_on()

        def lost(x):
            x.hear("complete")
            x.say("loaded")
            x.hear("take")
            x.say("taken", struct.pack("<I", 1))
            x.hear("go")

        # It is gone with the guest, as far as anybody here can see: the marks it made are not on these disks.
        to_a_stranger(herd, about, lost)
        for _ in range(10):
            check(herd.status(herd.vm) == "postmigrate", f"the source is {herd.status(herd.vm)}")
            time.sleep(0.2)
        with herd.qmp(herd.vm) as q:
            check(q.cmd("query-migrate").get("x-lodge-in-doubt"), "it is not in doubt")
            q.cmd("cont")
        how, info = herd.settle(herd.vm)
        check(how == "failed", f"{how}: {info}")
        herd.goes_on()


def stopped():
    """Stopped while it stands still for a migration, by either side, it stays so; and drives keep their media until that is over."""
    with Herd("--disk", ",if=scsi,cdrom=on,id=cd") as herd:
        herd.boot()
        to, path = herd.destination()
        about = migrate.about_of(path)
        with herd.qmp(herd.vm) as q:
            cd = next(b["device"] for b in q.cmd("query-block") if b["removable"])

        def slow(x):
            x.hear("complete")
            with herd.qmp(herd.vm) as q:
                check(q.cmd("query-status")["status"] == "finish-migrate", "it does not stand still")
                q.cmd("stop")
                try:
                    q.cmd("eject", device=cd)
                    check(False, "the medium was taken out of a guest that is on its way")
                except QmpError as e:
                    check("migrating" in e.desc, e.desc)

        to_a_stranger(herd, about, slow)
        how, info = herd.settle(herd.vm)
        check(how == "failed" and herd.status(herd.vm) == "paused", f"{how}: {herd.status(herd.vm)}")
        with herd.qmp(herd.vm) as q:
            q.cmd("eject", device=cd)
            q.cmd("cont")
        herd.goes_on()
        with herd.qmp(to) as q:
            q.cmd("stop")
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri="unix:" + path)
        how, info = herd.settle(herd.vm)
        check(how == "completed" and herd.status(to) == "paused", f"{how}: {info} {herd.status(to)}")
        herd.drop(herd.vm)
        herd.vm = to
        with herd.qmp(to) as q:
            q.cmd("cont")
        herd.goes_on()


def nobody_there(herd):
    with herd.qmp(herd.vm) as q:
        for uri, word in (("tcp:127.0.0.1:1", "refused"), ("unix:" + herd.dir + "/none", "No such file"), ("exec:exit 3", "connection")):
            q.cmd("migrate", uri=uri)
            how, info = herd.settle(herd.vm)
            check(how == "failed" and word in info["error-desc"], f"{uri}: {how}: {info}")
        for uri in ("tcp:x", "ftp:x:1", "fd:nothing"):
            try:
                q.cmd("migrate", uri=uri)
                check(False, f"{uri} was taken")
            except QmpError:
                pass
    herd.goes_on()


def cancelled(herd):
    to, path = herd.destination()
    with herd.qmp(herd.vm) as q:
        q.cmd("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        q.cmd("migrate-set-parameters", max_bandwidth=4 << 20)
        q.cmd("migrate", uri="unix:" + path)
        while q.cmd("query-migrate")["status"] == "setup":
            time.sleep(0.01)
        q.cmd("migrate_cancel")
        how, info = herd.settle(herd.vm)
        check(how == "cancelled", f"it ended as {how}: {info}")
        seen = [e["data"]["status"] for e in q.events if e["event"] == "MIGRATION"]
        check(seen[:2] == ["setup", "active"], f"the events were {seen}")
    herd.goes_on()
    # The destination waits for another one.
    with herd.qmp(herd.vm) as q:
        q.cmd("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000)
        q.cmd("migrate", uri="unix:" + path)
        how, info = herd.settle(herd.vm)
        check(how == "completed", f"it ended as {how}: {info}")
        try:
            q.cmd("cont")
            check(False, "a guest that is gone was let go on")
        except QmpError as e:
            check("has gone elsewhere" in e.desc, e.desc)
    herd.drop(herd.vm)
    herd.vm = to
    herd.goes_on()


def addresses(herd):
    script = os.path.join(herd.dir, "bridge.py")
    with open(script, "w", encoding="utf-8") as f:
        f.write(BRIDGE)
    herd.migrate(uri=lambda path: f"exec:{sys.executable} {script} {path}", downtime_limit=2000)
    # By a descriptor, to one that is told later where to wait.
    a, b = socket.socketpair()
    to = herd.make("--incoming", "defer")
    with herd.qmp(to) as q:
        check(q.cmd("query-status")["status"] == "inmigrate", "it does not wait")
        q.cmd("getfd", fdname="in", _fds=[b.fileno()])
        q.cmd("migrate-incoming", uri="fd:in")
    with herd.qmp(herd.vm) as q:
        q.cmd("getfd", fdname="out", _fds=[a.fileno()])
        a.close()
        b.close()
        q.cmd("migrate", uri="fd:out")
    how, info = herd.settle(herd.vm)
    check(how == "completed", f"it ended as {how}: {info} {to.err()}")
    herd.drop(herd.vm)
    herd.vm = to
    herd.goes_on()
    # By the verb.
    to, path = herd.destination()
    status, out, err = lodge("migrate", "--downtime", "2000", f"m{herd.n - 1}", "unix:" + path, env=herd.env)
    check(status == 0 and b"stood still for" in out, f"lodge migrate: {status} {err}")
    check(herd.vm.wait(20) == 0, "the process that had the guest is still there")
    herd.drop(herd.vm)
    herd.vm = to
    herd.goes_on()


def ways():
    status, _, text = lodge("migrate", "no-such-guest", "tcp:127.0.0.1:1")
    check(status == 1 and "no-such-guest" in text, f"to migrate no guest: {status}, {text}")
    with Herd() as herd:
        herd.boot()
        nobody_there(herd)
        cancelled(herd)
        addresses(herd)


def tls_object(name, path, endpoint):
    return {"qom_type": "tls-creds-x509", "id": name, "dir": path, "endpoint": endpoint}


def secured():
    """By TLS: to who has to be there and nobody else, and nothing of a guest goes to others."""
    with Herd() as herd:
        ours, other = certs.authority(herd.dir + "/ours", "ours"), certs.authority(herd.dir + "/other", "other")
        herd.boot()
        to = herd.make("--incoming", "tcp:127.0.0.1:0", "--incoming-tls", ours)
        with herd.qmp(to) as q:
            port = q.cmd("query-migrate")["x-lodge-port"]
        plain, path = herd.destination()

        def fails(uri, word, **params):
            with herd.qmp(herd.vm) as q:
                q.cmd("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000, **params)
                q.cmd("migrate", uri=uri)
            how, info = herd.settle(herd.vm)
            check(how == "failed" and word in info["error-desc"], f"{uri}, {params}: {how}: {info}")
            check(info.get("setup-time", 0) == 0, f"it had begun: {info}")

        with herd.qmp(herd.vm) as q:
            for name, path_of in (("ours", ours), ("other", other)):
                q.cmd("object-add", **tls_object(name, path_of, "client"))
            q.cmd("object-add", **tls_object("server", ours, "server"))
            for params, word in (({"tls_creds": "server"}, "endpoint=client is needed"), ({"tls_creds": "none"}, "No TLS credentials with id 'none'"),
                                 ({"tls_creds": "ours", "tls_hostname": ""}, "has no host's name")):
                q.cmd("migrate-set-parameters", **params)
                try:
                    q.cmd("migrate", uri="unix:" + path)
                    check(False, f"{params} were taken")
                except QmpError as e:
                    check(word in e.desc, e.desc)
        fails(f"tcp:127.0.0.1:{port}", "connection", tls_creds="")
        fails(f"tcp:127.0.0.1:{port}", "certificate", tls_creds="other")
        fails(f"tcp:127.0.0.1:{port}", "mismatch", tls_creds="ours", tls_hostname="example.org")
        fails("unix:" + path, "TLS", tls_creds="ours", tls_hostname="localhost")
        check(herd.status(to) == "inmigrate" and herd.status(plain) == "inmigrate", "a destination has gone")
        herd.goes_on()
        # By the verb; the certificate has the address, too.
        status, out, err = lodge("migrate", "--downtime", "2000", "--tls", ours, "m1", f"tcp:localhost:{port}", env=herd.env)
        check(status == 0 and b"stood still for" in out, f"lodge migrate --tls: {status} {err}")
        herd.drop(herd.vm)
        herd.vm = to
        herd.goes_on()
        # To one who takes a certain client only, over a unix socket.
        herd.drop(plain)
        to = herd.make("--incoming", "defer")
        path = os.path.join(herd.dir, "tls")
        with herd.qmp(to) as q:
            q.cmd("object-add", **tls_object("t", ours, "server"))
            q.cmd("object-add", qom_type="authz-simple", id="who", identity="CN=somebody,O=Lodge")
            q.cmd("migrate-set-parameters", tls_creds="t", tls_authz="who")
            q.cmd("migrate-incoming", uri="unix:" + path)
        with herd.qmp(herd.vm) as q:
            q.cmd("object-add", **tls_object("ours", ours, "client"))
        fails("unix:" + path, "", tls_creds="ours", tls_hostname="localhost")
        check("not among those allowed" in to.err(), f"it let somebody else in: {to.err()}")
        herd.drop(to)
        to = herd.make("--incoming", "defer")
        with herd.qmp(to) as q:
            q.cmd("object-add", **tls_object("t", ours, "server"))
            q.cmd("object-add", qom_type="authz-simple", id="who", identity="CN=client,O=Lodge")
            q.cmd("migrate-set-parameters", tls_creds="t", tls_authz="who")
            q.cmd("migrate-incoming", uri="unix:" + path)
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri="unix:" + path)
        how, info = herd.settle(herd.vm)
        check(how == "completed", f"{how}: {info} {to.err()}")
        herd.drop(herd.vm)
        herd.vm = to
        herd.goes_on()


def paused_before():
    """It stands still before the switch until it is told to go on, or cancelled."""
    with Herd() as herd:
        herd.boot()
        to, path = herd.destination()
        with herd.qmp(herd.vm) as q:
            check("waits before" in q.error("migrate-continue", state="pre-switchover").desc, "none waits")
            q.cmd("migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": True}])
            q.cmd("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000)
            q.cmd("migrate", uri="unix:" + path)
        waits_for(herd, herd.vm, "pre-switchover")
        check((herd.status(herd.vm), herd.status(to)) == ("finish-migrate", "inmigrate"), f"{herd.status(herd.vm)}, {herd.status(to)}")
        with herd.qmp(herd.vm) as q:
            q.error("cont")
            q.error("migrate-continue", state="device")
            q.cmd("migrate_cancel")
        check(herd.settle(herd.vm)[0] == "cancelled", "it was not cancelled")
        herd.goes_on()
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri="unix:" + path)
        waits_for(herd, herd.vm, "pre-switchover")
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate-continue", state="pre-switchover")
        how, info = herd.settle(herd.vm)
        check(how == "completed", f"{how}: {info}")
        moves(herd, to)


def qcow2():
    with Herd() as herd:
        os.unlink(herd.disk)
        check(lodge("img", "create", "-f", "qcow2", herd.disk, "8M")[0] == 0, "no image")
        herd.args[1] = herd.disk + ",format=qcow2"
        herd.boot()
        for _ in range(3):
            herd.migrate(downtime_limit=1000)
        herd.vm.p.kill()
        herd.vm.wait(10)
        status, out, err = lodge("img", "check", herd.disk)
        check(status in (0, 3), f"the image after it: {out} {err}")


def faults():
    with Herd() as herd:
        herd.boot()
        begun = time.monotonic()
        seed = 0
        # Some tens where there is time for them.
        while seed < 20 and time.monotonic() - begun < 8:
            migrate.with_faults(herd, 1, f"ci-{seed}")
            seed += 1
        check(seed >= 1, f"only {seed} attempts")


if __name__ == "__main__":
    sys.exit(run_all([
        ("a guest with two CPUs and a disk, five times on", back_and_forth),
        ("over several connections", streams),
        ("memory that comes after its guest", postcopy),
        ("memory comes after its guest, and the connection breaks", broken),
        ("another CPU, other devices: refused, and the guest goes on", refused),
        ("to nobody; cancelled; over a command, a descriptor, by lodge migrate", ways),
        ("by TLS", secured),
        ("it waits before the switch", paused_before),
        ("with a qcow2 image", qcow2),
        ("to strangers", strangers),
        ("stopped on its way, and its drives", stopped),
        ("connections cut and processes killed: one owner", faults),
    ]))
