# SPDX-License-Identifier: GPL-2.0-or-later
"""Harness of the guest tests: starts `lodge run`, talks to its console, never
leaves a process behind, and reports in TAP.

Environment: LODGE (the program), LODGE_GUEST_DIR (tools/mkguest's folder),
LODGE_TEST_ACCEL (interp by default), LODGE_TEST_ARGS (further arguments of
`lodge run`), LODGE_TEST_SLOW (factor for time limits, 2).
"""
import concurrent.futures
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LODGE = os.environ.get("LODGE", "build/lodge")
DIR = os.environ.get("LODGE_GUEST_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/guest")
ACCEL = os.environ.get("LODGE_TEST_ACCEL", "interp")
ARGS = os.environ.get("LODGE_TEST_ARGS", "").split()
SLOW = float(os.environ.get("LODGE_TEST_SLOW", "2"))
os.environ.setdefault("LODGE_SANDBOX_STRICT", "1")  # a system call that is not in a list is a failure
KERNEL = os.path.join(DIR, "vmlinuz")
INITRD = os.path.join(DIR, "initrd.img")
DISK = os.path.join(DIR, "disk.raw")
KEY = os.path.join(DIR, "id_ed25519")


class Skip(Exception):
    """The test cannot run here; says why."""


class Failed(Exception):
    """The promise was broken; says how."""


def need_guest(*files):
    for f in files or (KERNEL, INITRD):
        if not os.path.exists(f):
            raise Skip(f"{f} is missing; run tools/mkguest")


def check(cond, text):
    if not cond:
        raise Failed(text)


class Vm:
    """One `lodge run`.  Use as a context manager: leaving it kills the process.  wrap: a command that runs it."""

    live = set()

    def __init__(self, *args, accel=ACCEL, stdin=subprocess.PIPE, wrap=(), **kw):
        self.args = [*wrap, LODGE, "run", "--accel", accel, *ARGS, *args]
        self.out = b""
        self.errfile = tempfile.TemporaryFile()
        self.p = subprocess.Popen(self.args, stdin=stdin, stdout=subprocess.PIPE, stderr=self.errfile, **kw)
        Vm.live.add(self.p)
        os.set_blocking(self.p.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        Vm.live.discard(self.p)
        for f in (self.p.stdin, self.p.stdout):
            if f:
                try:
                    f.close()
                except OSError:
                    pass
        if exc[0] is Failed:
            sys.stderr.write("  command: %s\n" % " ".join(self.args))
            sys.stderr.write("  stderr:\n    %s\n" % self.err().replace("\n", "\n    "))
            sys.stderr.write("  console, its end:\n    %s\n" % self.text()[-3000:].replace("\n", "\n    "))
        self.errfile.close()

    def err(self):
        self.errfile.seek(0)
        return self.errfile.read().decode(errors="replace")

    def text(self):
        return self.out.decode(errors="replace").replace("\r", "")

    def pump(self, seconds):
        r, _, _ = select.select([self.p.stdout], [], [], max(0, seconds))
        if not r:
            return True
        data = self.p.stdout.read()
        if data:
            self.out += data
        return data != b""

    def expect(self, pattern, seconds=60, start=0):
        """Waits for a match in the console after offset start; returns it."""
        deadline = time.monotonic() + seconds * SLOW
        while True:
            m = re.compile(pattern).search(self.text(), start)
            if m:
                return m
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"'{pattern}' did not appear on the console within {seconds * SLOW:.0f} s")
            if not self.pump(min(left, 1)):
                m = re.compile(pattern).search(self.text(), start)
                if m:
                    return m
                raise Failed(f"the console ended before '{pattern}' appeared; status {self.wait(10)}")

    def send(self, text):
        self.p.stdin.write(text.encode() if isinstance(text, str) else text)
        self.p.stdin.flush()

    def shell(self, command, seconds=60):
        """Runs a line in the guest's shell; returns its output."""
        start = len(self.text())
        self.send(f"{command}; echo end-of-$((40+2))\n")
        m = self.expect(r"end-of-42\n", seconds, start)
        return self.text()[start:m.start()]

    def wait(self, seconds=60):
        """The exit status, reading the console meanwhile."""
        deadline = time.monotonic() + seconds * SLOW
        while self.p.poll() is None:
            if time.monotonic() > deadline:
                raise Failed(f"lodge did not end within {seconds * SLOW:.0f} s")
            if not self.pump(0.2):
                time.sleep(0.05)
        while self.out is not None and self.p.stdout and self.pump(0):
            pass
        return self.p.returncode

    def signal(self, sig):
        self.p.send_signal(sig)


def tiny(*args, append="", memory="256M", **kw):
    need_guest()
    return Vm("--memory", memory, "--kernel", KERNEL, "--initrd", INITRD, "--append", f"quiet {append}".strip(),
              *args, **kw)


def lodge(*args, seconds=60, **kw):
    """Runs lodge to its end: (status, stdout, stderr)."""
    if args[:1] == ("run",):
        args = ("run", *ARGS, *args[1:])
    p = subprocess.run([LODGE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=seconds * SLOW, **kw)
    return p.returncode, p.stdout, p.stderr.decode(errors="replace")


class Place:
    """A folder of the test's own, which is its runtime directory, too."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="lodge-place-")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.dir, TMPDIR=self.dir)
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def tool(self, *args):
        return lodge(*args, env=self.env)


def stop(*_):
    """SIGTERM: meson's time limit is over."""
    for p in list(Vm.live):
        p.kill()
    os._exit(1)


def one(fn):
    """Runs one case: (result, seconds), the result None or what to add to its line."""
    start = time.monotonic()
    bad, why = False, ""
    try:
        fn()
    except Skip as e:
        why = f" # SKIP {e}"
    except (Failed, subprocess.TimeoutExpired, OSError, AssertionError) as e:
        bad, why = True, f"\n{type(e).__name__}: {e}".replace("\n", "\n# ")
    return bad, why, time.monotonic() - start


def run_all(tests, jobs=1):
    """Runs [(name, function)], prints TAP; names on the command line select.  With jobs above 1 that many run
    at a time, started in order; LODGE_TEST_JOBS says otherwise."""
    wanted = sys.argv[1:]
    tests = [t for t in tests if not wanted or any(re.search(w, t[0]) for w in wanted)]
    jobs = int(os.environ.get("LODGE_TEST_JOBS", jobs))
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    signal.signal(signal.SIGTERM, stop)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = [pool.submit(one, fn) for _, fn in tests]
        for i, (name, _) in enumerate(tests, 1):
            bad, why, seconds = results[i - 1].result()
            failed += bad
            head, *more = why.split("\n")
            print(f"{'not ok' if bad else 'ok'} {i} - {name}{head}", *more, f"# {seconds:.1f} s", sep="\n", flush=True)
    return 1 if failed else 0
