#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests under a true KVM: Debian's cloud kernel on both machines, 1 and 2 vCPUs, disk and network.

Where this machine's own /dev/kvm runs kernels well (lodge's probe decides) it
is used; else LODGE_TESTBED names a folder with run-l1.sh, which boots a machine
with KVM under emulation, shares a folder with it as /share and runs a command
there.  One boot of that machine serves all cases.

What is done to guests that run (kvmlive.py) is tried only where KVM is fast; in a test-bed it takes half an hour and more, by hand.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

from guest import INITRD, KERNEL, LODGE, SLOW, Skip, check, lodge, need_guest, run_all

TESTBED = os.environ.get("LODGE_TESTBED", "")
CASES = [("pc", 1, ""), ("pc", 2, ""), ("micro", 1, ""), ("micro", 2, ""), ("pc", 2, ",split=on")]
LIMIT = int(float(os.environ.get("LODGE_KVM_TIMEOUT", "900")) * SLOW)

# What the guest does: reads its disk, waits for DHCP, fetches a file from the
# host's loopback, writes to its disk.
IN_GUEST = """nproc; md5sum </dev/vda; n=0
while ! ip route | grep -q default && [ $n -lt 100 ]; do usleep 200000; n=$((n+1)); done
timeout 60 wget -q -O - http://10.0.2.2:8000/file | md5sum
echo written | dd of=/dev/vda conv=notrunc 2>/dev/null; sync; exit 7"""

# What runs beside lodge, on the machine with KVM.
SCRIPT = r"""cd "$(dirname "$0")"
[ -d lib ] && export LD_LIBRARY_PATH=$PWD/lib
socat TCP-LISTEN:8000,fork,bind=127.0.0.1,reuseaddr EXEC:"sh ./serve" &
server=$!
while read -r name machine cpus accel; do
	cp disk.orig /tmp/disk-$$.raw
	./lodge run --accel "$accel" --machine "$machine" --cpus "$cpus" --memory 256M --kernel vmlinuz --initrd initrd.img \
		--disk /tmp/disk-$$.raw --net user --console /tmp/console-$$ --exec-timeout 300 --exec "$(cat in-guest)" \
		>"out.$name" 2>"err.$name" </dev/null
	echo $? >"status.$name"
	head -c 8 /tmp/disk-$$.raw >"disk.$name"
	cp /tmp/console-$$ "console.$name"	# not written in place: the shared folder is slow
	rm -f /tmp/disk-$$.raw /tmp/console-$$
done <cases
kill $server
"""

SERVE = r"""while IFS= read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
printf 'HTTP/1.0 200 OK\r\n\r\n'
cat file
"""

results = live_results = None
LIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kvmlive.py")


def libraries(programs):
    found = set()
    for p in programs:
        out = subprocess.run(["ldd", p], capture_output=True, text=True, check=True).stdout
        found |= {m for m in re.findall(r"=> (/\S+)", out) if not re.search(r"/(libc|ld-linux\S*)\.so", m)}
    return found


def prepare(folder, with_libraries):
    here = os.path.dirname(LODGE)
    programs = [LODGE, os.path.join(here, "lodge-vmm")]
    for src in programs + [KERNEL, INITRD]:
        shutil.copy(src, folder)
    if with_libraries:
        os.mkdir(os.path.join(folder, "lib"))
        for lib in libraries(programs):
            shutil.copy(lib, os.path.join(folder, "lib"))
    for name, size in (("disk.orig", 1 << 22), ("file", 100000)):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(os.urandom(size))
    with open(os.path.join(folder, "cases"), "w") as f:
        for machine, cpus, split in CASES:
            f.write(f"{machine}{cpus}{'s' if split else ''} {machine} {cpus} kvm{split}\n")
    for name, text in (("in-guest", IN_GUEST), ("run.sh", SCRIPT), ("serve", SERVE)):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)


def host_kvm_is_good():
    status, out, err = lodge("doctor")
    return re.search(r"full speed", out.decode(errors="replace") + err) is not None


def collect(folder):
    got = {}
    for name in os.listdir(folder):
        if re.match(r"(out|err|status|disk|console)\.", name):
            with open(os.path.join(folder, name), "rb") as f:
                got[name] = f.read()
    for name in ("disk.orig", "file"):
        with open(os.path.join(folder, name), "rb") as f:
            got["md5:" + name] = hashlib.md5(f.read()).hexdigest()
    return got


def run_cases():
    """Runs every case once; later calls return what came out."""
    global results
    if results is not None:
        return results
    need_guest()
    native = host_kvm_is_good()
    run_l1 = os.path.join(TESTBED, "run-l1.sh")
    if not native and not TESTBED:
        raise Skip("this machine's KVM cannot run kernels well, and LODGE_TESTBED is not set")
    if not native and not os.access(run_l1, os.X_OK):
        raise Skip(f"{run_l1} is missing")
    if native and not shutil.which("socat"):
        raise Skip("socat is not installed")
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, not native)
        if native:
            cmd = ["bash", os.path.join(folder, "run.sh")]
        else:
            cmd = [run_l1, "-t", str(LIMIT), "-c", "2", "-d", folder, "bash /share/run.sh"]
        p = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT + 60)
        sys.stderr.write(p.stderr.decode(errors="replace")[-2000:])
        results = collect(folder)
    return results


def case(machine, cpus, split):
    def test():
        r = run_cases()
        name = f"{machine}{cpus}{'s' if split else ''}"
        text = {k: r.get(f"{k}.{name}", b"").decode(errors="replace") for k in ("out", "err", "status", "console", "disk")}
        tail = f"{text['err']}\n{text['console'][-1500:]}"
        check(text["status"].strip() == "7", f"status {text['status'].strip()!r} instead of the command's 7: {tail}")
        lines = text["out"].split("\n")
        check(lines[0] == str(cpus), f"the guest sees {lines[0]} CPUs, not {cpus}")
        check(r["md5:disk.orig"] in text["out"], f"the disk was read wrongly: {text['out']}")
        check(r["md5:file"] in text["out"], f"the download differs or failed: {text['out']} {tail}")
        check(text["disk"] == "written\n", f"the write did not reach the disk: {text['disk']!r}")
    return test


def run_live():
    """kvmlive.py's report: {name: (good, the rest)}."""
    global live_results
    if live_results is None:
        if not host_kvm_is_good():
            raise Skip("this machine's KVM cannot run kernels well; tests/guest/kvmlive.py tells where it can be tried")
        p = subprocess.run([sys.executable, LIVE], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT,
                           env=dict(os.environ, LODGE_TEST_ACCEL="kvm"))
        sys.stderr.write(p.stderr[-4000:])
        live_results = {}
        for m in re.finditer(r"^(not )?ok \d+ - (.*?)(?: # SKIP (.*))?$((?:\n#.*)*)", p.stdout, re.M):
            live_results[m.group(2)] = (not m.group(1), m.group(3), m.group(4))
    return live_results


def live(name):
    def test():
        good, skipped, text = run_live().get(name, (False, None, "it was not reached"))
        if skipped:
            raise Skip(skipped)
        check(good, text)
    return test


def live_names():
    with open(LIVE, encoding="utf-8") as f:
        return re.findall(r'^    \("([^"]+)", ', f.read(), re.M)


if __name__ == "__main__":
    sys.exit(run_all([(f"KVM: {m}, {c} vCPU{'s' if c > 1 else ''}{', split irqchip' if s else ''}: disk, network, exec",
                       case(m, c, s)) for m, c, s in CASES] + [("KVM, live: " + n, live(n)) for n in live_names()]))
