#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""virtio-vsock with Linux's driver: connections both ways between a program in the guest (progvsock.c) and unix sockets here,
by the convention of virtio/vsock.h.  tests/guest/mkshare prepares the kernel."""
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import zlib

from guest import INITRD, LODGE, SLOW, Skip, Vm, check, need_guest, run_all

DIR = os.environ.get("LODGE_SHARE_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/share")
KERNEL, MODULES = os.path.join(DIR, "vmlinuz"), os.path.join(DIR, "modules.img")
HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
BYTES = int(os.environ.get("LODGE_VSOCK_MIB", "64")) * MIB
TMP = None


class State:
    vm = None


def program():
    """An initial RAM disk with progvsock, static."""
    path = os.path.join(TMP, "prog.img")
    if os.path.exists(path):
        return path
    cc = shutil.which("cc")
    if not cc or not shutil.which("cpio"):
        raise Skip("there is no C compiler, or no cpio")
    os.mkdir(os.path.join(TMP, "prog"))
    for command in ([cc, "-O2", "-static", "-o", f"{TMP}/prog/progvsock", os.path.join(HERE, "progvsock.c")],
                    ["sh", "-c", f"cd {TMP}/prog && echo progvsock | cpio --quiet -o -H newc >{path}"]):
        p = subprocess.run(command, capture_output=True, text=True)
        check(p.returncode == 0, f"{command}: {p.stderr}")
    return path


def options(machine):
    return ("--machine", machine, "--memory", "256M", "--cpus", "2", "--kernel", KERNEL, "--initrd", INITRD, "--initrd", MODULES,
            "--initrd", program(), "--net", "none", "--append", "quiet")


def start(vsock, *extra, machine="pc", **kw):
    need_guest(INITRD)
    if not os.path.exists(MODULES):
        raise Skip(f"{MODULES} is missing; run tests/guest/mkshare")
    vm = Vm(*options(machine), "--vsock", vsock, *extra, **kw)
    try:
        vm.expect("init reached", 120)
        vm.expect("# ", 30)
        vm.send("stty -echo; PS1=\n")
        vm.shell("alias poweroff='poweroff -f'")
        drivers = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport /sys/bus/platform/drivers/virtio-mmio"
        if "No such" in vm.shell(f"ls -d {drivers} 2>&1"):
            raise Skip("the RAM disk has not all drivers; run tests/guest/mkshare again")
    except BaseException:
        vm.__exit__(None, None, None)
        raise
    return vm


def serve(vm, what, port, *more):
    start_at = len(vm.text())
    vm.send(f"/progvsock {what} {port} {' '.join(map(str, more))} &\n")
    vm.expect(f"ready {port}", 30, start_at)


def dial(path, port):
    """A socket that is connected to the port, or None if the guest refuses."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * SLOW)
    s.connect(path)
    s.sendall(b"CONNECT %d\n" % port)
    line = b""
    while not line.endswith(b"\n"):
        c = s.recv(1)
        if not c:
            s.close()
            return None
        line += c
    check(line.startswith(b"OK ") and line[3:-1].isdigit(), f"the answer is {line!r}")
    return s


def read_all(s):
    out = []
    while True:
        b = s.recv(MIB)
        if not b:
            return b"".join(out)
        out.append(b)


class Server:
    """Listens at PATH_PORT; fn(socket) for each connection, in a thread of its own."""

    def __init__(self, path, port, fn):
        self.path = f"{path}_{port}"
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen(512)  # a guest is not made to wait: with a full backlog it would be refused
        self.fn = fn
        self.failed = None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            c.settimeout(60 * SLOW)
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        try:
            self.fn(c)
        except OSError as e:
            self.failed = e
        c.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()
        os.unlink(self.path)


def path():
    return os.path.join(TMP, "v.sock")


def boots():
    State.vm = start(f"cid=7,path={path()}", "--name", "vsocky", "--stats", env=dict(os.environ, XDG_RUNTIME_DIR=TMP))
    for what, port in ("echo", 1000), ("sink", 1001):
        serve(State.vm, what, port)
    serve(State.vm, "source", 1002, BYTES)
    serve(State.vm, "drop", 1005)
    serve(State.vm, "zero", 1006, BYTES)
    check("virtio" in State.vm.shell("ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport"), "the driver has found no device")


def running():
    if State.vm is None:
        raise Skip("the guest was not started")
    return State.vm


def echo_server(c):
    while True:
        b = c.recv(65536)
        if not b:
            return
        c.sendall(b)


def to_guest():
    running()
    s = dial(path(), 1000)
    check(s is not None, "the guest refused")
    s.sendall(b"hello")
    check(s.recv(100) == b"hello", "it does not echo")
    s.shutdown(socket.SHUT_WR)
    check(s.recv(100) == b"", "the end did not come back")
    # What follows the line at once is the connection's first bytes.
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * SLOW)
    s.connect(path())
    s.sendall(b"CONNECT 1001\nearly")
    s.shutdown(socket.SHUT_WR)
    check(read_all(s).split(b"\n")[1] == b"%08x 5" % zlib.crc32(b"early"), "early bytes were lost")


def nobody():
    vm = running()
    check(dial(path(), 4000) is None, "a port nobody listens on was connected to")
    check("Connection reset by peer" in vm.shell("/progvsock call 4000 1"), "the guest was not refused")
    # A listener that is gone.
    serve(vm, "echo", 1003)
    check(dial(path(), 1003) is not None, "the listener is not there")
    vm.shell("kill %6; sleep 0.2")
    check(dial(path(), 1003) is None, "the listener should be gone")
    # And one of the host's.
    with Server(path(), 2003, echo_server):
        check("1 good" in vm.shell("/progvsock many 2003 1"), "the host's listener is not there")
    check("Connection reset by peer" in vm.shell("/progvsock call 2003 1"), "the host's listener should be gone")
    # Words that are none.
    for bad in (b"CONNECT\n", b"CONNECT -1\n", b"CONNECT 4294967296\n", b"GET / HTTP/1.0\r\n", b"x" * 64):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10 * SLOW)
        s.connect(path())
        s.sendall(bad)
        try:
            check(s.recv(10) == b"", f"{bad!r} was answered")
        except ConnectionResetError:
            pass


def hundred():
    vm = running()
    conns = [dial(path(), 1000) for _ in range(100)]
    check(all(conns), "the guest refused some")
    for i, s in enumerate(conns):
        s.sendall(b"%d." % i * 500)
    for i, s in enumerate(conns):
        s.shutdown(socket.SHUT_WR)
        check(read_all(s) == b"%d." % i * 500, f"connection {i} got something else")
    with Server(path(), 2000, echo_server):
        out = vm.shell("/progvsock many 2000 100", 120)
        check("100 good, 0 refused" in out, out)
        # No more than there is room for; afterwards there is again.
        out = vm.shell("/progvsock many 2000 300", 120)
        check("256 good, 44 refused" in out, out)
        out = vm.shell("/progvsock many 2000 100", 120)
        check("100 good, 0 refused" in out, out)


def speed(what, seconds):
    print(f"# {what}: {BYTES / MIB / seconds:.0f} MiB/s", flush=True)


def bulk():
    vm = running()
    data = os.urandom(MIB) * (BYTES // MIB)
    begin = time.monotonic()
    s = dial(path(), 1001)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    answer = read_all(s)
    speed("to the guest, which sums them up", time.monotonic() - begin)
    check(answer == b"%08x %d\n" % (zlib.crc32(data), len(data)), f"the guest got something else: {answer!r}")
    begin = time.monotonic()
    got = read_all(dial(path(), 1002))
    speed("from the guest, which makes them up", time.monotonic() - begin)
    check(len(got) >= BYTES and got[BYTES:] == b"%08x %d\n" % (zlib.crc32(got[:BYTES]), BYTES), f"{len(got)} bytes came, or others")
    # The guest calls, and its end comes before the answer.
    seen = []

    def take(c):
        seen.append(read_all(c))
        c.sendall(b"thanks for %d\n" % len(seen[0]))

    with Server(path(), 2001, take):
        out = vm.shell(f"/progvsock call 2001 {4 * MIB}", 120)
    n = len(seen[0]) if seen else 0
    check(n > 4 * MIB and f"thanks for {n}\ncalled" in out, f"{n} bytes came; {out}")
    check(seen[0][4 * MIB:] == b"%08x %d\n" % (zlib.crc32(seen[0][:4 * MIB]), 4 * MIB), "other bytes came")


def speeds():
    """What a connection takes when nobody looks at the bytes."""
    running()
    data = bytes(MIB)
    begin = time.monotonic()
    s = dial(path(), 1005)
    for _ in range(BYTES // MIB):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    check(read_all(s).endswith(b" %d\n" % BYTES), "not all of it has come")
    speed("to the guest", time.monotonic() - begin)
    begin = time.monotonic()
    check(len(read_all(dial(path(), 1006))) == BYTES, "not all of it has come")
    speed("from the guest", time.monotonic() - begin)
    s = dial(path(), 1000)
    begin = time.monotonic()
    for _ in range(200):
        s.sendall(b"x")
        s.recv(1)
    print(f"# a byte there and back: {(time.monotonic() - begin) * 5000:.0f} us", flush=True)


def slow_reader():
    """Who does not read has only itself in the way, and gets all of it later, when the guest's program has long ended."""
    vm = running()
    serve(vm, "source", 1004, 300000)
    deaf, short = dial(path(), 1002), dial(path(), 1004)
    for _ in range(20):
        other = dial(path(), 1000)
        other.sendall(b"x" * 1000)
        other.shutdown(socket.SHUT_WR)
        check(len(read_all(other)) == 1000, "another one does not get through")
    # More than the socket holds, less than that and the credit: the program there has written it all and is gone.
    vm.expect("", 1)
    out = vm.shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1; done; ps | grep -c 'source [1]004'")
    check(out.split()[-1] == "1", f"processes of the short one: {out}")
    for s, n in (short, 300000), (deaf, BYTES):
        got = read_all(s)
        check(got[n:] == b"%08x %d\n" % (zlib.crc32(got[:n]), n), f"of {n} bytes {len(got)} came, or others")


def client():
    running()
    env = dict(os.environ, XDG_RUNTIME_DIR=TMP)
    p = subprocess.run([LODGE, "vsock", path(), "1000"], input=b"by name\n" * 10000, capture_output=True, timeout=60 * SLOW, env=env)
    check(p.returncode == 0 and p.stdout == b"by name\n" * 10000, f"status {p.returncode}: {p.stderr}")
    p = subprocess.run([LODGE, "vsock", path(), "4000"], input=b"", capture_output=True, timeout=60 * SLOW, env=env)
    check(p.returncode == 1 and b"nothing listens there" in p.stderr, f"status {p.returncode}: {p.stderr}")


def ends():
    vm = running()
    vm.send("poweroff\n")
    check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
    err = vm.err()
    vm.__exit__(None, None, None)
    State.vm = None
    check(not os.path.exists(path()), "the socket is still there")
    check("vsock0_connections_from_host" in err and "vsock0_tx_bad 0" in err, err)


def migrate(vm, conn, runtime, env):
    """The guest goes to another process, and its connections end."""
    address = os.path.join(TMP, "migrate")
    with Vm(*options("micro"), "--vsock", "on", "--name", "vc", "--incoming", f"unix:{address}", env=env) as to:
        deadline = time.monotonic() + 30 * SLOW
        while not os.path.exists(address):
            check(time.monotonic() < deadline and to.pump(0), "the destination does not listen")
            time.sleep(0.05)
        p = subprocess.run([LODGE, "migrate", "va", f"unix:{address}"], env=env, capture_output=True, timeout=60 * SLOW)
        check(p.returncode == 0, p.stderr)
        check(vm.wait(30) == 0, f"the source ended with status {vm.p.returncode}")
        check(conn.recv(1) == b"", "the connection of the host has not ended")
        to.expect("hold ended: Connection reset by peer", 30)
        s = dial(os.path.join(runtime, "lodge/vc.vsock"), 1000)
        check(s is not None, "the destination refuses")
        s.sendall(b"there")
        check(s.recv(10) == b"there", "the destination does not echo")


def snapshot():
    """A guest with connections is saved; they end on both sides, and new ones are made to the clone.  Then it migrates."""
    runtime, saved = os.path.join(TMP, "r"), os.path.join(TMP, "saved")
    os.mkdir(runtime)
    env = dict(os.environ, XDG_RUNTIME_DIR=runtime)
    sock = os.path.join(runtime, "lodge/va.vsock")
    vm = start("on", "--name", "va", machine="micro", env=env)
    try:
        serve(vm, "echo", 1000)
        with Server(sock, 2000, lambda c: c.recv(1)):
            at = len(vm.text())
            vm.send("/progvsock hold 2000\n")
            vm.expect("held", 30, at)
            s = dial(sock, 1000)
            s.sendall(b"before")
            check(s.recv(10) == b"before", "it does not echo")
            p = subprocess.run([LODGE, "snapshot", "create", "va", saved], env=env, capture_output=True, timeout=60 * SLOW)
            check(p.returncode == 0, p.stderr)
            # The one that is saved goes on with its connections.
            s.sendall(b"after")
            check(s.recv(10) == b"after", "the saved guest's connections have ended")
            with Vm("--from-snapshot", saved, "--name", "vb", env=env) as vb:
                vb.expect("hold ended: Connection reset by peer", 60)
                t = dial(os.path.join(runtime, "lodge/vb.vsock"), 1000)
                check(t is not None, "the clone refuses")
                t.sendall(b"clone")
                check(t.recv(10) == b"clone", "the clone does not echo")
                p = subprocess.run([LODGE, "vsock", "vb", "1000"], input=b"named", capture_output=True, timeout=60 * SLOW, env=env)
                check(p.stdout == b"named", f"{p.stderr}")
            migrate(vm, s, runtime, env)
    finally:
        vm.__exit__(None, None, None)


def main():
    global TMP
    with tempfile.TemporaryDirectory(prefix="lodge-vsock-") as TMP:
        try:
            return run_all([
                ("a guest with a vsock boots", boots),
                ("the host reaches a program in the guest", to_guest),
                ("where nobody listens connections are refused", nobody),
                ("a hundred connections at once, each way, and no more than there is room for", hundred),
                ("many bytes each way, with their checksums", bulk),
                ("and with nobody looking at them", speeds),
                ("a program that does not read is in nobody else's way", slow_reader),
                ("lodge vsock", client),
                ("the guest ends and the socket is gone", ends),
                ("connections end when a guest goes on from a snapshot, or migrates", snapshot),
            ])
        finally:
            if State.vm:
                State.vm.__exit__(None, None, None)


if __name__ == "__main__":
    raise SystemExit(main())
