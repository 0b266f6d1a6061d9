# SPDX-License-Identifier: GPL-2.0-or-later
"""Harness of the tests of `lodge img`: each test is a function test_* that gets an
empty folder as its working directory; reports in TAP.

Environment: LODGE (the program).  The peer is qemu-img; a test that needs it is
marked with @peer and skipped where it is not installed.
"""
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

LODGE = os.path.abspath(os.environ.get("LODGE", "build/lodge"))
QEMU = shutil.which("qemu-img")
QEMU_IO = shutil.which("qemu-io")


class Skip(Exception):
    """The test cannot run here; says why."""


class Result:
    def __init__(self, p):
        self.status, self.out, self.err = p.returncode, p.stdout, p.stderr
        self.args = p.args

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"{self.args}: status {self.status}\n{self.out}{self.err}"


def run(*args, env=None):
    env = dict(os.environ, TZ="UTC", LC_ALL="C", **(env or {}))
    return Result(subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, timeout=120))


def img(*args, status=0):
    """lodge img ARGS; with any status if status is None."""
    r = run(LODGE, "img", *args)
    assert status is None or r.status == status, r
    return r


def refused(*args, says, status=1):
    """lodge img ARGS fails and its message has all of the words."""
    r = img(*args, status=status)
    for word in [says] if isinstance(says, str) else says:
        assert word in r.err, f"no '{word}' in: {r}"
    return r


def qemu(*args, status=0):
    for _ in range(20):
        r = run("qemu-img", *args)
        # On a busy host it cannot measure how long a key's derivation takes, and gives up.
        if "accurate CPU usage" not in r.err:
            break
    assert status is None or r.status == status, r
    return r


def qemu_io(path, *commands, fmt="qcow2"):
    args = ["qemu-io", "-f", fmt, path]
    for c in commands:
        args += ["-c", c]
    r = run(*args)
    assert r.status == 0, r
    return r


def peer(fn):
    @functools.wraps(fn)
    def wrapped():
        if not QEMU or not QEMU_IO:
            raise Skip("qemu-img and qemu-io are not installed (package qemu-utils)")
        fn()
    return wrapped


def same(ours, theirs, without=()):
    """Two JSON values are alike, without the named members at any depth."""
    def strip(v):
        if isinstance(v, dict):
            return {k: strip(w) for k, w in v.items() if k not in without}
        return [strip(w) for w in v] if isinstance(v, list) else v
    a, b = strip(ours), strip(theirs)
    assert a == b, f"ours:   {json.dumps(a, sort_keys=True)}\ntheirs: {json.dumps(b, sort_keys=True)}"


def write(path, data, at=None):
    with open(path, "r+b" if at is not None else "wb") as f:
        f.seek(at or 0)
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    scope = sys.modules["__main__"].__dict__
    tests = [(n, f) for n, f in scope.items() if n.startswith("test_") and callable(f)]
    if len(sys.argv) > 1:
        tests = [(n, f) for n, f in tests if n[5:] in sys.argv[1:]]
    failed, here = 0, os.getcwd()
    print(f"1..{len(tests)}")
    for i, (name, fn) in enumerate(tests, 1):
        with tempfile.TemporaryDirectory(prefix="lodge-img-") as d:
            os.chdir(d)
            try:
                fn()
                print(f"ok {i} - {name[5:]}", flush=True)
            except Skip as e:
                print(f"ok {i} - {name[5:]} # SKIP {e}", flush=True)
            except Exception:
                failed += 1
                print(f"not ok {i} - {name[5:]}")
                for line in traceback.format_exc().splitlines():
                    print("# " + line, flush=True)
            finally:
                os.chdir(here)
    sys.exit(failed != 0)
