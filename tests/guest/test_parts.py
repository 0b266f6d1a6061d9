#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Small devices that a PC may have, as Linux' own drivers see them.

Debian's generic kernel, with drivers in /partmod, comes from tests/guest/mkworkloads amd64; what is missing is skipped.
"""
import base64
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import rfb
from guest import Skip, Vm, check, run_all
from qmp import Qmp

DIR = os.environ.get("LODGE_WORKLOADS_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/workloads")
KERNEL = os.path.join(DIR, "amd64/vmlinuz")
INITRD = os.path.join(DIR, "amd64/initrd.img")


class Rig:
    """Debian's generic kernel at the shell of its initial RAM disk, with a monitor."""

    def __init__(self, *args, append="", drivers=()):
        for f in (KERNEL, INITRD):
            if not os.path.exists(f):
                raise Skip(f"{f} is missing; run tests/guest/mkworkloads amd64")
        self.folder = tempfile.mkdtemp(prefix="lp")
        self.sock = os.path.join(self.folder, "q")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.folder)
        self.drivers = drivers
        self.args = ["--memory", "512M", "--kernel", KERNEL, "--initrd", INITRD, "--net", "none", "--append", f"quiet {append}".strip(),
                     "--qmp", f"unix:{self.sock},wait=off", *args]

    def __enter__(self):
        self.vm = Vm(*self.args, env=self.env)
        self.vm.__enter__()
        try:
            self.shell()
            self.load()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.vm.__exit__(*exc)
        shutil.rmtree(self.folder, ignore_errors=True)

    def shell(self, start=0):
        self.vm.expect("init reached", 60, start)
        self.vm.expect("/ # ", 30, start)
        self.vm.shell("alias poweroff='poweroff -f'")

    def load(self, drivers=()):
        self.drivers = drivers or self.drivers
        if not self.drivers:
            return
        have = self.vm.shell("cat /partmod/order").split()
        for d in self.drivers:
            if f"{d}.ko" not in have:
                raise Skip(f"the initial RAM disk has no driver {d}; run tests/guest/mkworkloads amd64")
        # insmod of one that lies there already fails, and that is all.
        wanted = "|".join(self.drivers)
        self.vm.shell(f"for k in $(cat /partmod/order); do case $k in i6300esb.ko|iTCO_wdt.ko|pvpanic-pci.ko) "
                      f"echo $k | grep -qE '^({wanted}).ko' || continue;; esac; insmod /partmod/$k 2>/dev/null; done; sleep 0.5")

    def qmp(self):
        return Qmp(self.sock)

    def poweroff(self):
        self.vm.send("poweroff -f\n")
        check(self.vm.wait(60) == 0, f"the guest ended with status {self.vm.p.returncode}")


def watchdog():
    """i6300esb: fed it leaves the guest alone; unfed it does what was asked for, and tells afterwards."""
    with Rig("--watchdog", "i6300esb", drivers=["i6300esb"]) as r, r.qmp() as q:
        out = r.vm.shell("dmesg | grep -i i6300esb; ls /dev/watchdog0; cat /sys/class/watchdog/watchdog0/bootstatus")
        check("/dev/watchdog0" in out and "\n0\n" in out, f"no watchdog: {out!r}")
        r.vm.shell("watchdog -T 4 -t 1 /dev/watchdog0; sleep 6")
        check(q.cmd("query-status")["running"], "it was not left alone")
        q.cmd("watchdog-set-action", action="pause")
        r.vm.shell("killall -9 watchdog")
        check(q.event("WATCHDOG", 20) == {"action": "pause"}, "the wrong action")
        q.event("STOP")
        check(q.cmd("query-status")["status"] == "watchdog", "not stopped by the watchdog")
        check(q.cmd("human-monitor-command", **{"command-line": "watchdog_action reset"}) == "", "watchdog_action")
        q.cmd("cont")
        r.vm.shell("echo 1 >/proc/sys/kernel/printk; exec 9>/dev/watchdog0; echo >&9")
        start = len(r.vm.text())
        check(q.event("WATCHDOG", 20) == {"action": "reset"}, "the wrong action")
        check(q.event("RESET") == {"guest": True, "reason": "guest-reset"}, "no reset")
        r.shell(start)
        r.load()
        out = r.vm.shell("cat /sys/class/watchdog/watchdog0/bootstatus")
        check("\n32\n" in out, f"it does not tell that it was the watchdog: {out!r}")
        q.cmd("watchdog-set-action", action="poweroff")
        r.vm.send("watchdog -F -T 2 -t 30 /dev/watchdog0\n")
        check(q.event("SHUTDOWN", 30)["guest"], "no shutdown")
        check(r.vm.wait(30) == 0, "the status after action=poweroff")


def tpm_command(vm, text):
    """Bytes in octal to /dev/tpm0, and the answer's in hexadecimal."""
    out = vm.shell(f"exec 8<>/dev/tpm0; printf '{text}' >&8; dd bs=4096 count=1 <&8 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'; exec 8>&-; echo", 60)
    return "".join(line for line in out.splitlines() if len(line) >= 20 and all(c in "0123456789abcdef" for c in line))


PCR_READ = "\\200\\001\\000\\000\\000\\024\\000\\000\\001\\176\\000\\000\\000\\001\\000\\013\\003\\000\\000\\001"
SELF_TEST = "\\200\\001\\000\\000\\000\\013\\000\\000\\001\\103\\001"


def need_swtpm():
    if not shutil.which("swtpm"):
        raise Skip("swtpm is not installed")


def tpm(model):
    """The driver finds it, the self test passes, PCRs are read and extended, a reset begins anew, nothing is left behind."""
    need_swtpm()
    with tempfile.TemporaryDirectory() as tmp:
        state = os.path.join(tmp, "state")
        with Rig("--tpm", f"{model},state={state}") as r:
            out = r.vm.shell("dmesg | grep -i tpm; cat /sys/class/tpm/tpm0/tpm_version_major /sys/class/tpm/tpm0/device/firmware_node/hid")
            check("\n2\n" in out and "MSFT0101" in out, f"no TPM: {out!r}")
            got = tpm_command(r.vm, SELF_TEST)
            check(got == "80010000000a00000000", f"the self test says {got!r}")
            got = tpm_command(r.vm, PCR_READ)
            check(got.startswith("80010000003e00000000") and got.endswith("0020" + "00" * 32), f"PCR 0 is {got!r}")
            out = r.vm.shell("cat /sys/class/tpm/tpm0/pcr-sha256/16 /sys/class/tpm/tpm0/pcr-sha256/17")
            check("0" * 64 in out and "F" * 64 in out, f"PCRs are {out!r}")
            check(os.stat(state).st_mode & 0o777 == 0o700, "the state is not its user's alone")
            r.poweroff()
            check("swtpm" not in r.vm.err(), f"messages: {r.vm.err()!r}")
        check(os.path.getsize(os.path.join(state, "tpm2-00.permall")) > 0, "no state was kept")


def measured(firmware, model, image):
    """Firmware measures itself and what it starts, and leaves the kernel its log."""
    need_swtpm()
    if not os.path.exists(image):
        raise Skip(f"{image} is missing")
    with Rig("--tpm", model, "--firmware", firmware) as r:
        out = r.vm.shell("mount -t securityfs s /sys/kernel/security; cd /sys/kernel/security; cat /sys/class/tpm/tpm0/pcr-sha256/0; wc -c tpm0/binary_bios_measurements")
        check("0" * 64 not in out and re.search(r"\n[0-9A-F]{64}\n", out), f"PCR 0 is {out!r}")
        size = re.search(r"\n(\d+) tpm0/bin", out)
        check(size and int(size.group(1)) > 1000, f"there is no log: {out!r}")
        r.poweroff()


def hung_tpm():
    """A TPM that stops answering fails in the guest; the guest goes on, and the machine can be ended."""
    need_swtpm()
    with Rig("--tpm", "crb") as r, r.qmp() as q:
        kids = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(p) == (r.vm.p.pid, "(swtpm")]
        check(len(kids) == 1, f"{len(kids)} processes were started")
        os.kill(kids[0], signal.SIGSTOP)
        r.vm.send(f"(printf '{SELF_TEST}'; sleep 1000) >/dev/tpm0 &\n")
        for i in range(5):
            check(f"alive-{i}" in r.vm.shell(f"echo alive-$(({i}))"), "the guest stands still")
        check(q.cmd("query-tpm")[0]["model"] == "tpm-crb", "query-tpm")
        start = len(r.vm.text())
        q.cmd("system_reset")
        r.shell(start)
        os.kill(kids[0], signal.SIGKILL)
        check("alive-9" in r.vm.shell("echo alive-$((9))"), "the guest stands still")
        q.cmd("quit")
        check(r.vm.wait(20) == 0, "the status of quit")


def served_tpm():
    """One that runs already is told to end with end=on, and stays otherwise."""
    need_swtpm()
    with tempfile.TemporaryDirectory() as tmp:
        sock = os.path.join(tmp, "sock")
        # Without --terminate: the end of a connection is not its own.
        p = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp}", "--ctrl", f"type=unixio,path={sock}"],
                             stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while not os.path.exists(sock):
                check(p.poll() is None and time.monotonic() < deadline, "swtpm does not begin")
                time.sleep(0.02)
            for more in ("", ",end=on"):
                with Rig("--tpm", f"crb,socket={sock}{more}") as r:
                    check(tpm_command(r.vm, SELF_TEST) == "80010000000a00000000", f"the self test fails {more}")
                    r.poweroff()
                check(more or p.poll() is None, "it ended, which nobody has told it to")
            check(p.wait(20) == 0, f"it ended with status {p.returncode}")
        finally:
            p.kill()
            p.wait()


def parent(pid):
    """The process's parent, and "(" and its name."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            name, rest = f.read().split(" ", 1)[1].rsplit(")", 1)
            return int(rest.split()[1]), name
    except OSError:
        return None


def generation():
    """The guest's kernel finds the VM generation ID, and QMP tells the same."""
    guid = "01234567-89ab-cdef-0123-456789abcdef"
    with Rig("--vmgenid", guid) as r, r.qmp() as q:
        check(q.cmd("query-vm-generation-id") == {"guid": guid}, "QMP says otherwise")
        out = r.vm.shell("ls -d /sys/bus/acpi/devices/QEMUVGID:00; ls /sys/bus/acpi/drivers/vmgenid; cat /sys/bus/acpi/devices/QEMUVGID:00/path")
        check("VGEN" in out, f"no device: {out!r}")
        check("QEMUVGID:00  bind" in out, f"no driver took it: {out!r}")
        r.poweroff()


def inputs():
    """virtio's keyboard and tablet: what QMP types and points at arrives as events; without a driver it goes to the PS/2 ones."""
    with Rig("--input", "virtio-keyboard", "--input", "virtio-tablet") as r, r.qmp() as q:
        r.load(["virtio_input", "evdev"])
        out = r.vm.shell("cat /proc/bus/input/devices")
        check("Lodge Virtio Keyboard" in out and "Lodge Virtio Tablet" in out, f"no devices: {out!r}")
        names = re.findall(r'Name="([^"]*)".*?Handlers=[^\n]*?(event\d+)', out, re.S)
        keyboard, tablet = (dict(names)[f"Lodge Virtio {n}"] for n in ("Keyboard", "Tablet"))
        r.vm.shell(f"for d in {keyboard} {tablet}; do cat /dev/input/$d >/tmp/$d & done; sleep 1")
        q.cmd("send-key", keys=[{"type": "qcode", "data": "k"}])
        q.cmd("input-send-event", events=[{"type": "abs", "data": {"axis": "x", "value": 1000}}, {"type": "abs", "data": {"axis": "y", "value": 32767}}])
        time.sleep(0.5)
        out = r.vm.shell(f"hexdump -v -e '24/1 \"%02x\" \"!\"' /tmp/{keyboard}; echo; hexdump -v -e '24/1 \"%02x\" \"!\"' /tmp/{tablet}; echo")
        got = [(int.from_bytes(b[16:18], "little"), int.from_bytes(b[18:20], "little"), int.from_bytes(b[20:], "little"))
               for b in map(bytes.fromhex, re.findall(r"([0-9a-f]{48})!", out.replace("\n", "")))]
        check((1, 37, 1) in got and (1, 37, 0) in got, f"keys: {got}")
        check((3, 0, 1000) in got and (3, 1, 32767) in got, f"positions: {got}")
        r.poweroff()


def smbus():
    """Linux' driver takes the controller, with its interrupt, and finds nobody on the bus."""
    with Rig(drivers=["i2c-i801", "i2c-dev"]) as r:
        out = r.vm.shell("dmesg | grep -i -E 'i801|smbus'; ls /sys/bus/pci/drivers/i801_smbus; cat /sys/class/i2c-dev/i2c-0/name; ls /sys/bus/i2c/devices")
        check("0000:00:1f.3" in out and "SMBus I801 adapter" in out, f"the driver does not take it: {out!r}")
        check("error" not in out.lower() and "timeout" not in out.lower(), f"the driver complains: {out!r}")
        found = r.vm.shell("i2cdetect -y -r 0")
        check("50: -- -- --" in found, f"the bus: {found!r}")
        check("imeout" not in r.vm.shell("dmesg | grep -i i801"), "transactions time out")
        r.poweroff()


def port_device(vm, name):
    out = vm.shell(f"for p in /sys/class/virtio-ports/*; do [ \"$(cat $p/name 2>/dev/null)\" = {name} ] && echo is-/dev/${{p##*/}}-; done")
    m = re.findall(r"is-(/dev/vport\w+)-", out)
    return m[-1] if m else None


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    return s


def receive(s, n):
    data = bytearray()
    while len(data) < n:
        piece = s.recv(n - len(data))
        check(piece, f"the connection ended after {len(data)} of {n} bytes")
        data += piece
    return data


def ports():
    """virtio serial ports on a socket and a ring buffer: both ways, flow control, clients that come and go, hot-plug."""
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "s")
        with Rig("--chardev", f"socket,id=s,path={path},server=on,wait=off", "--port", "org.lodge.s,chardev=s",
                 "--chardev", "ringbuf,id=r,size=4096", "--port", "org.lodge.r,chardev=r", "--chardev", "ringbuf,id=more",
                 "--chardev", "null,id=nowhere") as r, r.qmp() as q:
            chardevs = {c["label"]: c for c in q.cmd("query-chardev")}
            check(chardevs["s"]["filename"].startswith("disconnected:unix:") and chardevs["s"]["frontend-open"], f"query-chardev: {chardevs}")
            check(not chardevs["nowhere"]["frontend-open"], f"query-chardev: {chardevs}")
            s, ring = port_device(r.vm, "org.lodge.s"), port_device(r.vm, "org.lodge.r")
            check(s and ring, "the guest has no such ports")
            # Guest to host, while nobody reads at first: more than the queue's 128 buffers hold, of 64 KiB each at most.
            c = connect(path)
            r.vm.shell(f"dd if=/dev/urandom of=/tmp/r bs=64k count=384 2>/dev/null; (cat /tmp/r >{s}; echo sent-$((1))) & true")
            check(q.event("VSERPORT_CHANGE", 20) == {"id": "org.lodge.s", "open": True}, "the guest did not open the port")
            time.sleep(1)
            check("sent-1" not in r.vm.text(), "24 MiB fitted into the buffers")
            data = receive(c, 24 << 20)
            sums = r.vm.shell("sha256sum /tmp/r")
            check(hashlib.sha256(data).hexdigest() in sums, "what came is not what was sent")
            # Host to guest.
            r.vm.shell(f"head -c 3000000 {s} >/tmp/in & sleep 0.5")
            noise = os.urandom(3000000)
            c.sendall(noise)
            check(hashlib.sha256(noise).hexdigest() in r.vm.shell("wait; sha256sum /tmp/in"), "the guest read something else")
            # Gone: the guest is told and waits; another one.
            c.close()
            time.sleep(0.3)
            r.vm.shell(f"(echo held >{s}) & true")
            c = connect(path)
            check(receive(c, 5) == b"held\n", "not what was written for the second client")
            r.vm.shell(f"printf 'gr\\303\\274n \\377\\n' >{ring}")
            check(q.cmd("ringbuf-read", device="r", size=100) == "gr\u00fcn \ufffd\n", "the ring buffer has something else")
            r.vm.shell(f"head -c 10000 /dev/zero | tr '\\000' x >{ring}; echo end >{ring}")
            check(q.cmd("ringbuf-read", device="r", size=5000, format="base64") == base64.b64encode(b"x" * 4092 + b"end\n").decode(), "base64")
            q.cmd("ringbuf-write", device="r", data="aGkK", format="base64")
            check(q.cmd("ringbuf-read", device="r", size=100) == "hi\n", "ringbuf-write")
            check("not a ringbuf" in q.error("ringbuf-read", device="s", size=1).desc, "a socket was read")
            # Plugged in and out.
            check("in use" in q.error("x-lodge-port-add", name="x", chardev="s").desc, "a chardev has two ports")
            q.cmd("x-lodge-port-add", name="org.lodge.more", chardev="more")
            time.sleep(0.5)
            more = port_device(r.vm, "org.lodge.more")
            check(more, "the new port is not there")
            r.vm.shell(f"echo plugged >{more}")
            check(q.cmd("ringbuf-read", device="more", size=100) == "plugged\n", "the new port does not work")
            q.cmd("x-lodge-port-remove", name="org.lodge.more")
            time.sleep(0.5)
            check(port_device(r.vm, "org.lodge.more") is None, "the port is still there")
            r.poweroff()
            check(not os.path.exists(path), "the socket was left behind")


def spice(kind, body):
    """A message of SPICE's agent in a chunk, for the guest's printf."""
    data = struct.pack("<IIIIQI", 1, 20 + len(body), 1, kind, 0, len(body)) + body
    return "".join(f"\\{b:03o}" for b in data)


def clipboard():
    """--clipboard, with a shell as the agent: what is copied in the guest can be pasted in a viewer, and the other way
    round."""
    caps, grab, request = spice(6, struct.pack("<II", 0, 0x60)), spice(7, struct.pack("<II", 0, 1)), spice(8, struct.pack("<II", 0, 1))
    with tempfile.TemporaryDirectory() as tmp:
        with Rig("--display", f"vnc=unix:{tmp}/vnc", "--clipboard", "on") as r, r.qmp() as q:
            v = rfb.Rfb(path=f"{tmp}/vnc")
            v.set_encodings(rfb.RAW, rfb.CLIPBOARD)
            port = port_device(r.vm, "com.redhat.spice.0")
            check(port, "the guest has no port for the agent")

            def get(n):
                """Bytes that the agent gets, in hexadecimal."""
                out = r.vm.shell(f"timeout 20 dd bs=1 count={n} <&3 2>/dev/null | hexdump -ve '1/1 \"%02x\"'; echo =")
                return re.findall(r"([0-9a-f]*)=", out)[-1]
            r.vm.shell(f"exec 3<>{port}")
            check(get(36)[24:32] == "06000000", "it is not told what the host can")
            r.vm.shell(f"printf '{caps}{grab}' >&3")
            v.until(lambda: v.clips)
            v.extended(rfb.REQUEST | rfb.TEXT)
            check(get(36)[24:32] == "08000000", "nobody asks it for its text")
            text = spice(4, struct.pack("<II", 0, 1) + b"from the guest\n")
            r.vm.shell(f"printf '{text}' >&3")
            v.until(lambda: v.clips[-1][0] & rfb.PROVIDE)
            check(v.clips[-1][1] == "from the guest\n", f"pasted {v.clips[-1]}")
            v.copy("from the viewer")
            v.update(False)
            check(get(36)[24:32] == "07000000", "it is not told of the viewer's clipboard")
            r.vm.shell(f"printf '{request}' >&3")
            n = len(v.clips)
            v.until(lambda: any(f & rfb.REQUEST for f, _ in v.clips[n:]))
            check(bytes.fromhex(get(36 + 15))[36:] == b"from the viewer", "the text of the viewer")
            check(q.event("VSERPORT_CHANGE", 5)["id"] == "com.redhat.spice.0", "the port")
            v.close()
            r.poweroff()


def main():
    return run_all([
        ("i6300esb", watchdog),
        ("TPM, command response buffer", lambda: tpm("crb")),
        ("TPM, FIFO", lambda: tpm("tis")),
        ("OVMF measures", lambda: measured("uefi", "crb", "/usr/share/OVMF/OVMF_CODE_4M.fd")),
        ("SeaBIOS measures", lambda: measured("bios", "tis", "/usr/share/seabios/bios-256k.bin")),
        ("a TPM that hangs", hung_tpm),
        ("a TPM that runs already, told to end and not", served_tpm),
        ("VM generation ID", generation),
        ("virtio-input", inputs),
        ("virtio serial ports", ports),
        ("the clipboard", clipboard),
        ("SMBus", smbus),
    ], jobs=2)


if __name__ == "__main__":
    sys.exit(main())
