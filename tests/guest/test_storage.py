#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks on controllers other than virtio-blk, as Linux' own drivers see them.

Debian's generic kernel and its modules come from tests/guest/mkworkloads amd64,
fio from tests/guest/mkworkloads tools; what is missing is skipped.
"""
import hashlib
import os
import resource
import tempfile

import fwdisk
from guest import Failed, Skip, Vm, check, run_all
from qmp import Qmp

MIB = 1 << 20
DIR = os.environ.get("LODGE_WORKLOADS_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/workloads")
KERNEL = os.path.join(DIR, "amd64/vmlinuz")
INITRD = os.path.join(DIR, "amd64/initrd.img")
TOOLS = os.path.join(DIR, "tools/disk.raw")


def generic(*args, cpus=2, append=""):
    """Debian's generic kernel, at the shell of its initial RAM disk."""
    for f in (KERNEL, INITRD):
        if not os.path.exists(f):
            raise Skip(f"{f} is missing; run tests/guest/mkworkloads amd64")
    return Vm("--memory", "512M", "--cpus", str(cpus), "--kernel", KERNEL, "--initrd", INITRD, "--append", f"quiet {append}".strip(),
              *args)


def at_shell(vm, module):
    vm.expect("init reached", 60)
    vm.expect("/ # ", 30)
    vm.shell("alias poweroff='poweroff -f'")
    if f"{module}.ko" not in vm.shell("cat /modules/order").split():
        raise Skip(f"the initial RAM disk has no {module}; run tests/guest/mkworkloads amd64")


def power_off(vm):
    vm.send("poweroff -f\n")
    check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")


def empty(folder, name, size):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def same(vm, dev, blocks):
    """Writes noise and compares what comes back with it, past the guest's cache."""
    out = vm.shell(f"dd if=/dev/urandom of=/tmp/r bs=64k count={blocks} 2>/dev/null; dd if=/tmp/r of={dev} bs=64k oflag=direct 2>/dev/null; "
                   f"sync; dd if={dev} bs=16k count={blocks * 4} iflag=direct 2>/dev/null | cmp - /tmp/r && echo are-'same'", 120)
    check("are-same" in out, f"{dev}: what was written is not what is read: {out!r}")


def fio(vm, disk, dev, args=""):
    """fio from the workloads' disk, verifying what it wrote."""
    out = vm.shell(f"mkdir -p /t; mount -t ext4 -o ro,noload {disk} /t && mount -o bind /dev /t/dev && mount -t tmpfs tmp /t/tmp && "
                   f"mount -t proc proc /t/proc && mount -t sysfs sys /t/sys; "
                   f"chroot /t /usr/bin/fio --name=v --filename={dev} --direct=1 --ioengine=libaio --rw=randwrite --bsrange=4k-128k --size=24m "
                   f"--iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --numjobs=1 --randseed=7 {args} >/tmp/fio 2>&1; "
                   "echo fio-status=$?; tail -3 /tmp/fio", 120)
    check("fio-status=0" in out, f"fio found differences: {out!r}")


def nvme():
    """Two controllers, one with two namespaces; several queues, reset, discard, verify."""
    with tempfile.TemporaryDirectory() as folder:
        a, b, c = (empty(folder, n, 64 * MIB) for n in "abc")
        tools = ["--disk", f"{TOOLS},format=raw,ro"] if os.path.exists(TOOLS) else []
        with generic("--disk", f"{a},format=raw,if=nvme,controller=n0,serial=lodge-a,num-queues=3",
                     "--disk", f"{b},format=raw,if=nvme,controller=n0,logical-block-size=4096",
                     "--disk", f"{c},format=raw,if=nvme", *tools) as vm:
            at_shell(vm, "nvme")
            # Which of them is nvme0 is the guest's business: by serial number.
            n = "$(dirname $(grep -l lodge-a /sys/class/nvme/*/serial))"
            name = vm.shell(f"echo is-$(basename {n})-").split("is-nvme")[-1].split("-")[0]
            one, two = f"/dev/nvme{name}n1", f"/dev/nvme{name}n2"
            out = vm.shell(f"cat {n}/queue_count /sys/block/nvme{name}n2/queue/logical_block_size; ls /sys/block/nvme{name}n1/mq")
            check("\n3\n4096\n" in out, f"the guest sees {out!r}")
            same(vm, one, 32)
            same(vm, two, 32)
            vm.shell(f"echo 1 >{n}/reset_controller; sleep 0.2")
            out = vm.shell(f"dd if={two} bs=64k count=32 2>/dev/null | cmp - /tmp/r && echo are-'same'")
            check("are-same" in out, f"after a reset: {out!r}")
            out = vm.shell(f"blkdiscard -o 0 -l 1048576 {two} && dd if={two} bs=64k count=16 iflag=direct 2>/dev/null | tr -d '\\000' | wc -c")
            check("\n0\n" in out, f"after blkdiscard: {out!r}")
            if tools:
                fio(vm, "/dev/vda", one)
            out = vm.shell("dmesg | grep -iE 'nvme.*(timeout|error|abort|failed)'")
            check("nvme nvme" not in out, f"the driver complains: {out!r}")
            power_off(vm)


def ahci():
    """A disk with queued commands, and a CD."""
    with tempfile.TemporaryDirectory() as folder:
        a, cd = empty(folder, "a", 64 * MIB), os.path.join(folder, "cd")
        noise = os.urandom(2048 * 700)
        with open(cd, "wb") as f:
            f.write(noise)
        tools = ["--disk", f"{TOOLS},format=raw,ro"] if os.path.exists(TOOLS) else []
        with generic("--disk", f"{a},format=raw,if=ahci,serial=lodge-a", "--cdrom", f"{cd},format=raw", *tools) as vm:
            at_shell(vm, "ahci")
            vm.shell("for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sr0 ] && [ -b /dev/sda ] && break; sleep 0.3; done")
            out = vm.shell("dmesg | grep NCQ; sha256sum /dev/sr0")
            check("NCQ (depth 32)" in out, f"no queued commands: {out!r}")
            check(hashlib.sha256(noise).hexdigest() in out, f"the CD reads otherwise: {out!r}")
            same(vm, "/dev/sda", 32)
            out = vm.shell("blkdiscard -o 0 -l 1048576 /dev/sda && dd if=/dev/sda bs=64k count=16 iflag=direct 2>/dev/null | tr -d '\\000' | wc -c")
            check("\n0\n" in out, f"after blkdiscard: {out!r}")
            if tools:
                fio(vm, "/dev/vda", "/dev/sda")
            out = vm.shell("dmesg | grep -E 'ata[0-9.]+: (exception|error|failed|hard resetting)'")
            check(": exception" not in out and ": hard" not in out, f"the driver complains: {out!r}")
            power_off(vm)


def scsi():
    """Several targets and units of virtio-scsi, with a CD; several queues, a reset, discard, verify."""
    with tempfile.TemporaryDirectory() as folder:
        a, b, cd = empty(folder, "a", 64 * MIB), empty(folder, "b", 64 * MIB), os.path.join(folder, "cd")
        noise = os.urandom(2048 * 700)
        with open(cd, "wb") as f:
            f.write(noise)
        tools = ["--disk", f"{TOOLS},format=raw,ro"] if os.path.exists(TOOLS) else []
        with generic("--disk", f"{a},format=raw,if=scsi,serial=lodge-a,num-queues=2",
                     "--disk", f"{b},format=raw,if=scsi,scsi-id=3,lun=300,logical-block-size=4096",
                     "--disk", f"{cd},format=raw,if=scsi,scsi-id=3,cdrom=on", *tools) as vm:
            at_shell(vm, "virtio_scsi")
            vm.shell("for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sr0 ] && [ -b /dev/sdb ] && break; sleep 0.3; done")
            # Which of them is sda is the guest's business.
            one, two = ("$(ls /sys/class/scsi_device/" + at + "/device/block)" for at in ("0:0:0:0", "0:0:3:16684"))
            out = vm.shell(f"cat /sys/block/{two}/queue/logical_block_size; cd /sys/class/scsi_device; echo at $(ls); cd /; ls /sys/block/{one}/mq; "
                           "sha256sum /dev/sr0")
            check("\n4096\n" in out and "at 0:0:0:0 0:0:3:0 0:0:3:16684" in out and "\n0  1\n" in out, f"the guest sees {out!r}")
            check(hashlib.sha256(noise).hexdigest() in out, f"the CD reads otherwise: {out!r}")
            same(vm, f"/dev/{one}", 32)
            same(vm, f"/dev/{two}", 32)
            out = vm.shell(f"for d in {one} {two}; do blkdiscard -o 0 -l 1048576 /dev/$d && dd if=/dev/$d bs=64k count=16 iflag=direct 2>/dev/null | "
                           "tr -d '\\000' | wc -c; done")
            check("\n0\n0\n" in out, f"after blkdiscard: {out!r}")
            if tools:
                fio(vm, "/dev/vda", f"/dev/{one}")
            out = vm.shell("dmesg | grep -E '(sd|sr|scsi) [0-9:]+: .*(rror|abort|FAILED|reset)' | grep -v 'Power-on or'")
            check("[" not in out.split("\n", 2)[-1], f"the driver complains: {out!r}")
            power_off(vm)


def press(vm, key, effect):
    """A key of GRUB's, again until it is seen to work: a firmware that is busy drawing loses some."""
    for _ in range(20):
        vm.send(key)
        try:
            vm.expect(effect, 3)
            return
        except Failed:
            check(vm.p.poll() is None, "the guest has ended")
    raise Failed(f"{effect!r} did not appear on the console")


def boots(firmware, *opts):
    """Firmware's own driver finds the disk, and GRUB a kernel on it."""
    def test():
        for f in fwdisk.FIRMWARE[firmware]:
            if not os.path.exists(f):
                raise Skip(f"{f} is not installed")
        with tempfile.TemporaryDirectory() as folder:
            img = (fwdisk.grub_efi if firmware == "uefi" else fwdisk.grub_bios)(folder)
            other = empty(folder, "other", MIB)
            # The one at a higher address, as the order of the options says.
            disks = ["--disk", ",".join((img, "format=raw", *opts, "scsi-id=2")), "--disk", ",".join((other, "format=raw", *opts))]
            with Vm("--net", "none", "--memory", "256M", "--firmware", firmware, *disks) as vm:
                vm.expect(r"lodge-menu", 90)
                press(vm, "\x0e", r"\*lodge-menu")
                press(vm, "\r", r"init reached after")
                check(vm.wait(30) == 0, f"power-off gave status {vm.p.returncode}")
    return test


def media():
    """Drives that are empty, are filled, locked by the guest and emptied, on both controllers."""
    with tempfile.TemporaryDirectory() as folder:
        noise, files = [os.urandom(2048 * n) for n in (300, 200)], []
        for i, n in enumerate(noise):
            files.append(os.path.join(folder, f"cd{i}.iso"))
            with open(files[i], "wb") as f:
                f.write(n)
        sock = os.path.join(folder, "qmp")
        sums = [hashlib.sha256(n).hexdigest() for n in noise]
        with generic("--disk", f"{files[0]},format=raw,if=scsi,cdrom=on", "--cdrom", "", "--qmp", f"unix:{sock},server=on,wait=off") as vm, \
                Qmp(sock) as q:
            at_shell(vm, "virtio_scsi")
            vm.shell("for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sr0 ] && [ -b /dev/sr1 ] && break; sleep 0.3; done")
            out = vm.shell("readlink -f /sys/block/sr0")
            dev = {"disk0": "/dev/sr0", "disk1": "/dev/sr1"} if "virtio" in out.split("\n", 1)[1] else {"disk0": "/dev/sr1", "disk1": "/dev/sr0"}
            state = q.cmd("query-block")
            check([("inserted" in b, b["removable"], b["tray_open"]) for b in state] == [(True, True, False), (False, True, False)], f"{state}")
            out = vm.shell(f"sha256sum {dev['disk0']}; head -c 2048 {dev['disk1']} | wc -c")
            check(sums[0] in out and "o medium" in out, f"one of the drives is not as it should be: {out!r}")
            check("has no medium" in q.error("block_resize", device="disk1", size=4096).desc, "an empty drive was resized")
            for name, d in dev.items():
                q.cmd("blockdev-change-medium", device=name, filename=files[1], format="raw")
                q.event("DEVICE_TRAY_MOVED", 10, lambda e: e == {"device": name, "id": name, "tray-open": True})
                q.event("DEVICE_TRAY_MOVED", 10, lambda e: e == {"device": name, "id": name, "tray-open": False})
                out = vm.shell(f"sha256sum {d}; blockdev --getsize64 {d}")
                check(sums[1] in out and str(len(noise[1])) in out, f"{name}: the new medium is not seen: {out!r}")
                # Whoever has it open keeps it locked.
                vm.shell(f"sleep 600 <{d} & sleep 0.5")
                check([b["locked"] for b in q.cmd("query-block") if b["device"] == name] == [True], f"{name}: not locked")
                check("is locked" in q.error("eject", device=name).desc, f"{name}: a locked drive was opened")
                check("is locked" in q.error("blockdev-change-medium", device=name, filename=files[0]).desc, f"{name}: a locked drive was filled")
                q.cmd("blockdev-open-tray", device=name)
                check(not [b["tray_open"] for b in q.cmd("query-block") if b["device"] == name][0], f"{name}: it was opened although locked")
                vm.shell("kill %1; wait")
                q.cmd("eject", device=name)
                q.event("DEVICE_TRAY_MOVED", 10, lambda e: e["tray-open"])
                out = vm.shell(f"head -c 2048 {d} 2>&1 >/dev/null")
                check("o medium" in out, f"{name}: what was taken out is still there: {out!r}")
                q.cmd("blockdev-close-tray", id=name)
                q.cmd("human-monitor-command", command_line=f"change {name} {files[0]}")
                out = vm.shell(f"sha256sum {d}")
                check(sums[0] in out, f"{name}: back to the first medium: {out!r}")
                q.cmd("blockdev-open-tray", id=name)
                q.cmd("blockdev-remove-medium", id=name)
                check("[not inserted]" in q.cmd("human-monitor-command", command_line="info block"), f"{name}: there is still a medium")
                check("is not open" in (q.cmd("blockdev-close-tray", id=name), q.error("blockdev-remove-medium", id=name))[1].desc, "a closed tray")
            power_off(vm)


def write_errors(dev, module, *opts):
    """The host's errors are the guest's errors, and it goes on afterwards."""
    def test():
        with tempfile.TemporaryDirectory() as folder:
            a = empty(folder, "a", 16 * MIB)
            with generic("--disk", ",".join((a, "format=raw,werror=report", *opts))) as vm:
                at_shell(vm, module)
                vm.shell(f"for i in 1 2 3 4 5 6 7 8 9 10; do [ -b {dev} ] && break; sleep 0.3; done")
                soft, hard = resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (4 * MIB, hard))
                out = vm.shell(f"dd if=/dev/zero of={dev} bs=64k seek=100 count=4 oflag=direct 2>&1; echo it-is-$?", 120)
                check("it-is-1" in out and "error" in out.lower(), f"the guest saw no error: {out!r}")
                resource.prlimit(vm.p.pid, resource.RLIMIT_FSIZE, (soft, hard))
                same(vm, dev, 16)
                power_off(vm)
    return test


def main():
    return run_all([
        ("NVMe: namespaces, reset, discard, verify", nvme),
        ("AHCI: a disk and a CD", ahci),
        ("SCSI: disks and a CD", scsi),
        ("SCSI: SeaBIOS boots from it", boots("bios", "if=scsi")),
        ("SCSI: OVMF boots from it", boots("uefi", "if=scsi")),
        ("media: changed, locked, ejected", media),
        ("SCSI: errors of the host", write_errors("/dev/sda", "virtio_scsi", "if=scsi")),
        ("NVMe: errors of the host", write_errors("/dev/nvme0n1", "nvme", "if=nvme")),
        ("AHCI: errors of the host", write_errors("/dev/sda", "ahci", "if=ahci")),
    ], 2)


if __name__ == "__main__":
    raise SystemExit(main())
