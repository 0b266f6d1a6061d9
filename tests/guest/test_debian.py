#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 12 with systemd on a virtio disk: login, DHCP, a download from the
host's loopback, ssh forwarded into the guest, clean power-off.  One boot serves
all cases of a machine; a case whose predecessor broke the guest fails too."""
import base64
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from guest import DISK, INITRD, KERNEL, KEY, SLOW, Skip, Vm, check, need_guest, run_all

PAYLOAD = os.urandom(3 << 20)


class State:
    vm = None
    port = None
    agent = None
    tpm = False


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        self.wfile.write(PAYLOAD)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(tmp, machine):
    need_guest(KERNEL, INITRD, DISK, KEY)
    if State.vm:
        State.vm.__exit__(None, None, None)
        State.vm = None
    disk = os.path.join(tmp, "disk.raw")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", DISK, disk], check=True)
    State.port = free_port()
    State.agent = os.path.join(tmp, machine + ".agent")
    State.tpm = machine == "pc" and shutil.which("swtpm") is not None
    State.vm = Vm("--machine", machine, "--memory", "1G", "--cpus", "2", "--kernel", KERNEL, "--initrd", INITRD,
                  "--disk", disk + ",serial=testroot", "--net", f"user,fwd=tcp:{State.port}:22",
                  "--guest-agent", State.agent, *(["--tpm", "crb"] if State.tpm else []),
                  "--append", "root=/dev/vda rw quiet")


def running():
    if State.vm is None:
        raise Skip("the guest was not started")
    check(State.vm.p.poll() is None, "the guest is not running any more")
    return State.vm


def boots_to_login(tmp, machine):
    def test():
        start(tmp, machine)
        vm = running()
        vm.expect(r"root@lodge:~# ", 400)
        vm.shell("stty -echo; export TERM=dumb PS1='# '", 60)
        out = vm.shell("systemctl is-system-running --wait; cat /etc/debian_version; findmnt -n -o SOURCE,FSTYPE /", 300)
        check("12." in out and "/dev/vda ext4" in " ".join(out.split()), f"not the Debian on the disk: {out!r}")
    return test


def dhcp():
    out = running().shell("for i in $(seq 60); do ip -4 -o addr show scope global | grep . && break; sleep 1; done", 120)
    check("10.0.2.15/24" in out, f"no address by DHCP: {out!r}")


def disk_serial():
    out = running().shell("ls /dev/disk/by-id/", 60)
    check("virtio-testroot" in out, f"the disk's serial is not seen: {out!r}")


def download():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        out = running().shell(f"curl -sS http://10.0.2.2:{server.server_address[1]}/x | sha256sum", 180)
    finally:
        server.shutdown()
    check(hashlib.sha256(PAYLOAD).hexdigest() in out, f"the download differs: {out!r}")


def ssh():
    running()
    if not shutil.which("ssh"):
        raise Skip("no ssh client")
    p = subprocess.run(["ssh", "-i", KEY, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                        "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", "-o", "BatchMode=yes",
                        "-p", str(State.port), "root@127.0.0.1", "uname -n; exit 3"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240 * SLOW,
                       check=False)
    check(p.returncode == 3 and p.stdout == b"lodge\n", f"ssh gave {p.returncode}, {p.stdout!r}, {p.stderr!r}")


def checksums():
    out = running().shell("sync; cd /usr/bin && sha256sum * >/tmp/a; echo 3 >/proc/sys/vm/drop_caches; "
                          "sha256sum * | cmp - /tmp/a && echo same", 400)
    check("same" in out, f"files read differently the second time: {out!r}")


def power_off():
    vm = running()
    vm.send("poweroff\n")
    check(vm.wait(240) == 0, f"power-off gave status {vm.p.returncode}, not 0")


def agent():
    """QEMU's guest agent, by its socket: in step, then questions and a command with its output."""
    vm = running()
    if "qemu-ga" not in vm.shell("ls /usr/sbin/qemu-ga"):
        raise Skip("the guest has no qemu-guest-agent; run tools/mkguest debian")
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * SLOW)
    s.connect(State.agent)
    f = s.makefile("rwb")

    def ask(command, **arguments):
        f.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        f.flush()
        line = f.readline()
        # In step: what is older is answered before a byte that JSON has not.
        while command == "guest-sync-delimited" and not line.startswith(b"\xff"):
            check(line, "the connection ended")
            line = f.readline()
        answer = json.loads(line.lstrip(b"\xff"))
        check("return" in answer, f"{command}: {answer}")
        return answer["return"]

    f.write(b"\xff")
    check(ask("guest-sync-delimited", id=4711) == 4711, "not in step")
    check(ask("guest-get-osinfo")["id"] == "debian", "the wrong system")
    addresses = [a["ip-address"] for i in ask("guest-network-get-interfaces") for a in i.get("ip-addresses", [])]
    check("10.0.2.15" in addresses, f"addresses: {addresses}")
    pid = ask("guest-exec", path="/bin/sh", arg=["-c", "echo said; exit 3"], **{"capture-output": True})["pid"]
    for _ in range(100):
        status = ask("guest-exec-status", pid=pid)
        if status["exited"]:
            break
        time.sleep(0.1)
    check(status.get("exitcode") == 3 and base64.b64decode(status["out-data"]) == b"said\n", f"guest-exec: {status}")
    s.close()


def tpm():
    """The TPM, whose driver udev loads."""
    vm = running()
    if not State.tpm:
        raise Skip("swtpm is not installed")
    out = vm.shell("for i in 1 2 3 4 5 6 7 8 9; do [ -e /dev/tpm0 ] && break; sleep 1; done; cat /sys/class/tpm/tpm0/tpm_version_major /sys/class/tpm/tpm0/pcr-sha256/16")
    check("2\n" + "0" * 64 in out, f"no TPM: {out!r}")


def main():
    with tempfile.TemporaryDirectory(prefix="lodge-test-") as tmp:
        try:
            return run_all([
                ("Debian boots to a root shell on the console", boots_to_login(tmp, "pc")),
                ("DHCP gives the guest its address", dhcp),
                ("the disk's serial is seen", disk_serial),
                ("download from the host's loopback", download),
                ("ssh through a forwarded port", ssh),
                ("files read the same twice", checksums),
                ("QEMU's guest agent answers", agent),
                ("the TPM answers", tpm),
                ("clean power-off", power_off),
                ("Debian boots on micro", boots_to_login(tmp, "micro")),
                ("DHCP on micro", dhcp),
                ("QEMU's guest agent answers on micro", agent),
                ("clean power-off of micro", power_off),
            ])
        finally:
            if State.vm:
                State.vm.__exit__(None, None, None)


sys.exit(main())
