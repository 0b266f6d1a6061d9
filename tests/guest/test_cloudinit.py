#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian with cloud-init, set up by the disk that `lodge run` makes for it: users, keys, host name, network, a script.

The disk comes from tests/guest/mkcloud; without it the test is skipped.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

from guest import SLOW, Skip, Vm, check, run_all

DIR = os.environ.get("LODGE_CLOUD_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/cloud")
DISK, KERNEL, INITRD = (os.path.join(DIR, n) for n in ("cloud.raw", "vmlinuz", "initrd.img"))

USER_DATA = """#cloud-config
locale: C.UTF-8
write_files:
- path: /etc/lodge-was-here
  content: written by cloud-init
runcmd:
- [sh, -c, "echo seed-was-read on $(hostname) >/dev/ttyS0"]
"""
NETWORK = """version: 2
ethernets:
  any:
    match: {name: "e*"}
    dhcp4: true
    addresses: [10.0.2.77/24]
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sets_up():
    for f in (DISK, KERNEL, INITRD):
        if not os.path.exists(f):
            raise Skip(f"{f} is missing; run tests/guest/mkcloud")
    with tempfile.TemporaryDirectory(prefix="lodge-test-") as tmp:
        key, user, net = (os.path.join(tmp, n) for n in ("key", "user", "net"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        for path, text in ((user, USER_DATA), (net, NETWORK)):
            with open(path, "w") as f:
                f.write(text)
        port = free_port()
        with Vm("--memory", "1G", "--cpus", "2", "--kernel", KERNEL, "--initrd", INITRD, "--append", "root=LABEL=cloud rw", "--control", "off",
                "--disk", f"{DISK},snapshot=on", "--net", f"user,fwd=tcp:127.0.0.1:{port}:22", "--user-data", user, "--ssh-key", key + ".pub",
                "--hostname", "cloudy", "--network-config", net) as vm:
            vm.expect(r"seed-was-read on cloudy", 180)
            ssh = ["ssh", "-q", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
                   "-p", str(port), "debian@127.0.0.1"]
            deadline = time.monotonic() + 60 * SLOW
            while True:
                r = subprocess.run([*ssh, "cat /etc/lodge-was-here; echo; hostname; ip -4 addr; cat /run/cloud-init/result.json; "
                                    "sudo cat /sys/class/dmi/id/product_serial; sudo wc -c /dev/disk/by-label/cidata"], stdin=subprocess.DEVNULL,
                                   capture_output=True, text=True)
                if r.returncode == 0 and "errors" in r.stdout:
                    break
                check(time.monotonic() < deadline, f"no answer by ssh: {r.stdout} {r.stderr}")
                vm.pump(1)
            out = r.stdout
            check("written by cloud-init\ncloudy\n" in out and "10.0.2.77/24" in out and "\nds=nocloud\n" in out, f"set up otherwise: {out}")
            result = json.loads(re.search(r"\{.*\}", out, re.S).group())["v1"]
            check("DataSourceNoCloud" in result["datasource"] and "/dev/vd" in result["datasource"], f"another source: {result}")
            check(not result["errors"], f"errors: {result}")
            subprocess.run([*ssh, "sudo poweroff"], stdin=subprocess.DEVNULL, capture_output=True)
            check(vm.wait(90) == 0, "it did not power off")


if __name__ == "__main__":
    sys.exit(run_all([("cloud-init is told what to do", sets_up)]))
