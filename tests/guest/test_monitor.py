#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Monitors for people: on a terminal that they share with the console, and several on sockets, as scripts drive QEMU's."""
import os
import pty
import select
import socket
import subprocess
import sys
import tempfile
import time
import tty

from guest import ACCEL, ARGS, INITRD, KERNEL, LODGE, SLOW, Failed, check, need_guest, run_all

QEMU = os.path.join(os.path.dirname(LODGE) or ".", "lodge-qemu")


class Talk:
    """Bytes to and from a descriptor."""

    def __init__(self, fd):
        self.fd, self.got = fd, b""

    def send(self, data):
        os.write(self.fd, data)

    def expect(self, what, seconds=30):
        """What came up to and with `what`."""
        deadline = time.monotonic() + seconds * SLOW
        while what not in self.got:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{what!r} did not come; there is {self.got[-600:]!r}")
            if select.select([self.fd], [], [], min(left, 1))[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    raise Failed(f"it ended before {what!r} came; there is {self.got[-600:]!r}")
                self.got += data
        head, self.got = self.got.split(what, 1)
        return head

    def nothing(self, seconds=0.5):
        time.sleep(seconds)
        if select.select([self.fd], [], [], 0)[0]:
            self.got += os.read(self.fd, 65536)
        check(not self.got, f"unexpected: {self.got!r}")


def accel():
    return ["-accel", "tcg" if ACCEL == "translate" else ACCEL] if not ARGS else ["-accel", "tcg"]


def shared_terminal():
    """-nographic: console and monitor on one terminal, and the keys behind Ctrl-a."""
    need_guest()
    master, slave = pty.openpty()
    tty.setraw(slave)
    p = subprocess.Popen([QEMU, *accel(), "-m", "256", "-nographic", "-kernel", KERNEL, "-initrd", INITRD, "-append",
                          "quiet console=ttyS0 sysrq_always_enabled"], stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(slave)
    t = Talk(master)
    try:
        t.expect(b"# ", 60)
        t.send(b"echo one; read x; echo got-$x\n")
        t.expect(b"one\r\n")
        t.send(b"\x01c")
        t.expect(b"(qemu) ")
        t.send(b"info status\n")
        t.expect(b"VM status: running\r\n(qemu) ")
        t.send(b"stop\n")
        t.expect(b"\r\n(qemu) ")
        t.send(b"info status\n")
        t.expect(b"VM status: paused\r\n(qemu) ")
        t.send(b"c\n")
        t.expect(b"\r\n(qemu) ")
        t.send(b"\x01cabc\n")
        t.expect(b"got-abc\r\n")
        t.send(b"\x01h")
        t.expect(b"C-a x    exit emulator\r\n")
        # A break and a letter is the kernel's SysRq.
        t.send(b"\x01b")
        t.send(b"h")
        t.expect(b"sysrq: HELP", 10)
        t.send(b"\x01x")
        check(p.wait(20 * SLOW) == 0, f"ended with status {p.returncode}")
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
        os.close(master)


def connect(path):
    deadline = time.monotonic() + 20 * SLOW
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            check(time.monotonic() < deadline, f"nobody listens on {path}")
            time.sleep(0.05)


def several():
    """Two monitors on unix sockets and one on a pty; a client that goes, and the next one."""
    with tempfile.TemporaryDirectory() as tmp:
        a, b, err = (os.path.join(tmp, n) for n in ("a", "b", "err"))
        with open(err, "wb") as f:
            p = subprocess.Popen([QEMU, "-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-monitor", f"unix:{a},server=on,wait=off",
                                  "-chardev", f"socket,id=m,path={b},server=on,wait=off", "-mon", "chardev=m,mode=readline",
                                  "-chardev", "pty,id=p", "-mon", "p"], stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        try:
            sa, sb = connect(a), connect(b)
            ta, tb = Talk(sa.fileno()), Talk(sb.fileno())
            for t in ta, tb:
                check(b"monitor - type 'help'" in t.expect(b"(qemu) "), "no greeting")
            ta.send(b"info sta\t\n")
            ta.expect(b"VM status: paused (prelaunch)\r\n(qemu) ")
            ta.send(b"nonsense\n")
            ta.expect(b"unknown command: 'nonsense'\r\n(qemu) ")
            tb.nothing()
            tb.send(b"help\n" * 20)
            for _ in range(20):
                tb.expect(b"system_reset")
            sa.close()
            with connect(a) as sa:
                ta = Talk(sa.fileno())
                ta.expect(b"(qemu) ")
                ta.send(b"\x1b[A\n")          # the last one's history
                ta.expect(b"unknown command: 'nonsense'\r\n(qemu) ")
            with connect(a) as sa:      # says a line and no more, as socat does at the end of its input
                sa.sendall(b"info name\ninfo status\n")
                sa.shutdown(socket.SHUT_WR)
                got = b""
                while data := sa.recv(65536):
                    got += data
                check(b"VM status: paused" in got and b"\r\n(qemu) " in got, f"no answer: {got!r}")
            name = [w for w in open(err).read().split() if w.startswith("/dev/pts/")][0]
            fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
            tp = Talk(fd)
            tp.expect(b"(qemu) ")
            tp.send(b"quit\n")
            check(p.wait(20 * SLOW) == 0, f"ended with status {p.returncode}")
            os.close(fd)
            sb.close()
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()


if __name__ == "__main__":
    sys.exit(run_all([("shared terminal", shared_terminal), ("several", several)]))
