#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Long target: debian-installer installs Debian 12 unattended, and what it installed boots by its own boot loader.

usage: tests/guest/install.py [--disk virtio|nvme|ahci|all] [--firmware bios|uefi|all] [--from netboot|iso|all]
                [--vmm lodge|qemu] [--accel A] [--minutes M] [--log FOLDER] [--keep FOLDER]

The packages come from the mirror that tools/mkmirror made, by HTTP from this process at the user network's router; the answers
are a preseed file from the same place. netboot: the installer's kernel and initial RAM disk are given with --kernel and --initrd.
iso: they are on a CD with GRUB for both firmwares, made by grub-mkrescue. The installed system is minimal: no tasks, no
recommended packages. Its login prompt comes through the serial port; root logs in, looks where it is and powers off.

Prints each step with its time since power-on and the machine's CPU time, and at the end one line with seconds and CPU seconds. The
console, the syslog and the requests of the installer, with the same two times, are in the log folder: two runs, by Lodge and by QEMU,
can be compared at each of them. With "all" one installation follows the other. LODGE is the program (build/lodge).
"""
import argparse
import http.server
import itertools
import os
import re
import resource
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

import guest
from guest import Failed, Skip, Vm, check

FOLDER = os.path.join(guest.DIR, "debian-installer")
DEVICE = {"virtio": "/dev/vda", "nvme": "/dev/nvme0n1", "ahci": "/dev/sda"}
FIRMWARE, SOURCES = ("bios", "uefi"), ("netboot", "iso")
OVMF = "/usr/share/OVMF/OVMF_%s_4M.fd"
MEMORY = "1G"
# What the installer's text front end prints when it wants an answer that was not given, and when it gives up.
STUCK = r"Prompt: '\?' for help|Press enter to continue|Kernel panic|installation step failed|An installation step"

PRESEED = """
d-i debian-installer/allow_unauthenticated boolean true
d-i debconf/priority string critical
d-i preseed/early_command string mkdir -p /usr/lib/post-base-installer.d; echo 'echo "Acquire::AllowInsecureRepositories true; APT::Get::AllowUnauthenticated true;" >/target/etc/apt/apt.conf.d/00unsigned' >/usr/lib/post-base-installer.d/00unsigned; chmod +x /usr/lib/post-base-installer.d/00unsigned
d-i debian-installer/language string en
d-i debian-installer/country string US
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/get_hostname string installed
d-i netcfg/get_domain string lodge
d-i mirror/protocol string http
d-i mirror/country string manual
d-i mirror/http/hostname string 10.0.2.2:%(port)d
d-i mirror/http/directory string /mirror
d-i mirror/http/proxy string
d-i mirror/suite string bookworm
d-i mirror/codename string bookworm
d-i mirror/udeb/suite string %(suite)s
d-i anna/no_kernel_modules boolean true
d-i passwd/root-login boolean true
d-i passwd/make-user boolean false
d-i passwd/root-password password lodge
d-i passwd/root-password-again password lodge
d-i clock-setup/utc boolean true
d-i clock-setup/ntp boolean false
d-i time/zone string UTC
d-i partman-auto/disk string %(device)s
d-i partman-auto/method string regular
d-i partman-auto/choose_recipe select atomic
d-i partman-auto/expert_recipe string one :: 64 64 64 %(esp)s 512 600 -1 ext4 $primary{ } $bootable{ } method{ format } format{ } use_filesystem{ } filesystem{ ext4 } mountpoint{ / } .
d-i partman-basicfilesystems/no_swap boolean false
d-i partman-partitioning/confirm_write_new_label boolean true
d-i partman-efi/non_efi_system boolean true
d-i partman/choose_partition select finish
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i base-installer/install-recommends boolean false
d-i base-installer/kernel/image string linux-image-%(kernel)samd64
d-i base-installer/initramfs-tools/driver-policy select dep
d-i apt-setup/services-select multiselect
d-i apt-setup/enable-source-repositories boolean false
d-i apt-setup/non-free-firmware boolean false
d-i apt-setup/cdrom/set-first boolean false
d-i pkgsel/run_tasksel boolean false
d-i pkgsel/upgrade select none
d-i pkgsel/update-policy select none
d-i grub-installer/only_debian boolean true
d-i grub-installer/with_other_os boolean false
d-i grub-installer/bootdev string %(device)s
d-i finish-install/reboot_in_progress note
d-i debian-installer/exit/poweroff boolean true
"""

GRUB_CFG = """
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
menuentry "install" {
  linux /install/linux %s
  initrd /install/initrd.gz
}
"""


def need(args):
    if not os.path.exists(os.path.join(FOLDER, "recipe")):
        raise Skip(f"{FOLDER} is missing; run tools/mkmirror")
    if args.firmware == "uefi" and not os.path.exists(OVMF % "CODE"):
        raise Skip(f"{OVMF % 'CODE'} is not installed")
    if args.firmware == "bios" and not os.path.exists("/usr/share/seabios/bios-256k.bin"):
        raise Skip("seabios is not installed")
    if args.source == "iso":
        for tool, package in (("grub-mkrescue", "grub-common"), ("xorriso", "xorriso"), ("mformat", "mtools")):
            if not shutil.which(tool):
                raise Skip(f"{tool} (package {package}) is not installed")
        for d, package in (("i386-pc", "grub-pc-bin"), ("x86_64-efi", "grub-efi-amd64-bin")):
            if not os.path.isdir(f"/usr/lib/grub/{d}"):
                raise Skip(f"{package} is not installed")
    if args.vmm == "qemu" and not shutil.which("qemu-system-x86_64"):
        raise Skip("qemu-system-x86 is not installed")


class Server(http.server.ThreadingHTTPServer):
    """The mirror and the answers, for the guest only: it reaches this machine's loopback by the router's address."""

    daemon_threads = True

    def __init__(self, log, told):
        super().__init__(("127.0.0.1", 0), Handler)
        self.log, self.told, self.preseed, self.bytes = log, told, b"", 0
        self.lock = threading.Lock()
        self.seen = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def note(self, path, status):
        with self.lock:
            self.log.write(f"{self.told.now()} {status} {path}\n")
            self.log.flush()
            for step, pattern in STEPS:
                if step not in self.seen and re.search(pattern, path):
                    self.seen.add(step)
                    self.told.step(step)


STEPS = [("the installer asks for its answers", r"^/preseed"), ("it loads its components", r"\.udeb$"),
         ("the base system is fetched", r"/base-files_"), ("the kernel is fetched", r"/linux-image-[0-9]"),
         ("the boot loader is fetched", r"/grub-(pc|efi-amd64)_")]


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=FOLDER)

    def do_GET(self):
        if self.path.startswith("/preseed"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.preseed)))
            self.end_headers()
            self.wfile.write(self.server.preseed)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass

    def log_request(self, code="-", size="-"):
        self.server.note(self.path, int(code))


class Syslog(socketserver.ThreadingUDPServer):
    """What the installer's syslog sends."""

    daemon_threads = True

    def __init__(self, path):
        self.out = open(path, "wb")
        super().__init__(("127.0.0.1", 0), self.Line)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Line(socketserver.BaseRequestHandler):
        def handle(self):
            self.server.out.write(self.request[0].rstrip(b"\0\n") + b"\n")
            self.server.out.flush()

    def server_close(self):
        self.shutdown()
        super().server_close()
        self.out.close()


def tree_seconds(pid):
    """CPU time of a process and those it has started, the traced ones of the translator among them."""
    parents, used = {}, {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/stat", encoding="ascii", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(p)], used[int(p)] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, todo = 0, [pid]
    while todo:
        at = todo.pop()
        total += used.get(at, 0)
        todo += [p for p, parent in parents.items() if parent == at]
    return total


class Told:
    """Tells steps with the time since power-on, and the CPU time of the machine."""

    def __init__(self):
        self.start, self.pid = time.monotonic(), None

    def since(self):
        return time.monotonic() - self.start

    def now(self):
        return f"{self.since():7.1f} s" + (f" {tree_seconds(self.pid):7.1f} CPU s" if self.pid else "")

    def step(self, text):
        print(f"# {self.now()}  {text}", flush=True)


def qemu_args(args, disk, vars_, cd, boot):
    out = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", MEMORY, "-nodefaults", "-no-user-config",
           "-display", "none", "-serial", "stdio", "-nic", "user,model=virtio-net-pci", "-device", "virtio-rng-pci"]
    if args.firmware == "uefi":
        out += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF % 'CODE'}", "-drive", f"if=pflash,format=raw,file={vars_}"]
    out += ["-drive", f"if=none,id=d,format=qcow2,file={disk}", "-device",
            {"virtio": "virtio-blk-pci,drive=d", "nvme": "nvme,serial=1,drive=d", "ahci": "ide-hd,drive=d"}[args.disk]]
    if cd:
        out += ["-cdrom", cd]
    return out + boot


class Machine(Vm):
    """One power-on of the machine, by Lodge or by QEMU."""

    def __init__(self, args, disk, new=False, cd=None, kernel=None, append=""):
        self.told = Told()
        if args.vmm == "qemu":
            boot = ["-kernel", kernel[0], "-initrd", kernel[1], "-append", append] if kernel else []
            self.spawn(qemu_args(args, disk, disk + ".efivars", cd, boot))
            self.told.pid = self.p.pid
            return
        out = ["--memory", MEMORY]
        out += ["--disk", f"{disk},if={args.disk}" + (f",size={args.size}" if new else "")]
        if cd:
            out += ["--cdrom", cd, "--boot", "order=dc"]
        if args.firmware == "uefi" or not kernel:
            out += ["--firmware", args.firmware]
        if kernel:
            out += ["--kernel", kernel[0], "--initrd", kernel[1], "--append", append]
        super().__init__(*out, accel=args.accel)
        self.told.pid = self.p.pid

    def spawn(self, command):
        self.args, self.out, self.errfile = command, b"", tempfile.TemporaryFile()
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errfile)
        Vm.live.add(self.p)
        os.set_blocking(self.p.stdout.fileno(), False)


def cpu_seconds():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def make_iso(tmp, append):
    top, iso = os.path.join(tmp, "iso"), os.path.join(tmp, "installer.iso")
    os.makedirs(os.path.join(top, "boot/grub"))
    os.makedirs(os.path.join(top, "install"))
    for f in ("linux", "initrd.gz"):
        shutil.copy(os.path.join(FOLDER, "amd64/text", f), os.path.join(top, "install", f))
    with open(os.path.join(top, "boot/grub/grub.cfg"), "w", encoding="ascii") as f:
        f.write(GRUB_CFG % append)
    p = subprocess.run(["grub-mkrescue", "-o", iso, top], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if p.returncode:
        raise Failed(f"grub-mkrescue failed: {p.stdout.decode(errors='replace')[-1000:]}")
    return iso


def install(args, tmp, disk, log):
    """Runs the installer to its power-off: (seconds, CPU seconds)."""
    with open(os.path.join(FOLDER, "suite"), encoding="ascii") as f:
        suite = f.read().strip()
    with open(os.path.join(log, "requests"), "w", encoding="utf-8") as requests, Server(requests, Told()) as server, \
            Syslog(os.path.join(log, "syslog")) as syslog:
        port = server.server_address[1]
        words = {"port": port, "suite": suite, "device": DEVICE[args.disk], "kernel": "" if args.disk == "ahci" else "cloud-",
                 "esp": "free $iflabel{ gpt } $reusemethod{ } method{ efi } format{ } ."
                 if args.firmware == "uefi" else "free $iflabel{ gpt } $reusemethod{ } method{ biosgrub } ."}
        server.preseed = (PRESEED % words).encode()
        append = (f"auto=true priority=critical hostname=installed domain=lodge log_host=10.0.2.2 log_port={syslog.server_address[1]} url=http://10.0.2.2:{port}/preseed.cfg DEBIAN_FRONTEND=text "
                  "TERM=dumb console=ttyS0 --- console=ttyS0")
        cd = make_iso(tmp, append) if args.source == "iso" else None
        kernel = None if cd else [os.path.join(FOLDER, "amd64/text", f) for f in ("linux", "initrd.gz")]
        if args.vmm == "qemu":
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, args.size], check=True)
            if args.firmware == "uefi":
                shutil.copy(OVMF % "VARS", disk + ".efivars")
        before = cpu_seconds()
        with Machine(args, disk, new=True, cd=cd, kernel=kernel, append=append) as vm:
            server.told = vm.told
            try:
                finish(args, vm)
            finally:
                keep_console(vm, log, "install")
        return vm.told.since(), cpu_seconds() - before


def keep_console(vm, log, name):
    with open(os.path.join(log, f"{name}.console"), "wb") as f:
        f.write(vm.out)
    with open(os.path.join(log, f"{name}.stderr"), "w", encoding="utf-8") as f:
        f.write(vm.err())


def finish(args, vm):
    """Until the installer has powered off; a question nobody answers is a failure."""
    deadline, at = time.monotonic() + args.minutes * 60, 0
    while vm.p.poll() is None:
        vm.pump(1)
        m = re.compile(STUCK).search(vm.text(), at)
        if m:
            vm.pump(2)
            raise Failed(f"the installer stands: {vm.text()[max(0, m.start() - 800):]!r}")
        at = max(0, len(vm.text()) - 200)
        if time.monotonic() > deadline:
            raise Failed(f"not installed within {args.minutes} minutes")
    vm.wait(5)
    check(vm.p.returncode == 0, f"the installer ended with status {vm.p.returncode}")
    vm.told.pid = None                          # the whole is told at the end
    vm.told.step("installed, power is off")


def boot(args, disk, log):
    """Boots what was installed to a login, and looks at it: (seconds to the prompt, CPU seconds to power-off)."""
    before = cpu_seconds()
    with Machine(args, disk) as vm:
        try:
            vm.expect(r"\w+ login: ", 300)
            took = vm.told.since()
            vm.told.step("login prompt of the installed system")
            vm.send("root\n")
            vm.expect(r"Password: ", 60)
            vm.send("lodge\n")
            vm.expect(r"root@\w+:~# ", 60)
            out = vm.shell("cat /etc/debian_version; test -d /sys/firmware/efi && echo by-$((1))efi || echo by-$((1))bios; "
                           "findmnt -no SOURCE /; dmesg --level=err,crit,alert,emerg; systemctl is-system-running --wait")
            check(re.search(r"12\.\d+\n", out), f"this is not Debian 12: {out!r}")
            check(("by-1efi" if args.firmware == "uefi" else "by-1bios") in out, f"wrong firmware: {out!r}")
            check(DEVICE[args.disk] in out, f"wrong disk: {out!r}")
            print("# " + out.strip().replace("\n", "\n# "), flush=True)
            vm.send("poweroff\n")
            check(vm.wait(120) == 0, f"power-off gave status {vm.p.returncode}")
        finally:
            keep_console(vm, log, "boot")
    return took, cpu_seconds() - before


def parse():
    ap = argparse.ArgumentParser(description="Installs Debian 12 by debian-installer and boots it.")
    ap.add_argument("--disk", choices=[*DEVICE, "all"], default="virtio")
    ap.add_argument("--firmware", choices=[*FIRMWARE, "all"], default="bios")
    ap.add_argument("--from", choices=[*SOURCES, "all"], default="netboot", dest="source")
    ap.add_argument("--vmm", choices=["lodge", "qemu"], default="lodge")
    ap.add_argument("--accel", default="translate")
    ap.add_argument("--size", default="4G", help="of the disk")
    ap.add_argument("--minutes", type=float, default=60, help="limit for the installation")
    ap.add_argument("--log", help="folder for the logs [a new one in /tmp]")
    ap.add_argument("--keep", help="folder in which the disk stays")
    return ap.parse_args()


def one(args):
    what = f"Debian 12 from {args.source} onto {args.disk}, {args.firmware}, by {args.vmm}"
    try:
        need(args)
    except Skip as e:
        print(f"skipped: {what}: {e}", flush=True)
        return 0
    log = os.path.join(args.log, f"{args.source}-{args.disk}-{args.firmware}-{args.vmm}")
    os.makedirs(log, exist_ok=True)
    print(f"# {what}; logs in {log}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lodge-install-") as tmp:
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
        disk = os.path.join(args.keep or tmp, f"{args.source}-{args.disk}-{args.firmware}.qcow2")
        try:
            took, cpu = install(args, tmp, disk, log)
            up, boot_cpu = boot(args, disk, log)
        except Failed as e:
            print(f"failed: {what}: {e}", flush=True)
            return 1
    print(f"passed: {what}: installed in {took:.0f} s ({cpu:.0f} s of CPU); login after {up:.1f} s, and down again "
          f"with {boot_cpu:.0f} s of CPU", flush=True)
    return 0


def main():
    args = parse()
    args.log = args.log or tempfile.mkdtemp(prefix="lodge-install-log-")
    failed = 0
    for source, disk, firmware in itertools.product(SOURCES if args.source == "all" else [args.source],
                                                    DEVICE if args.disk == "all" else [args.disk],
                                                    FIRMWARE if args.firmware == "all" else [args.firmware]):
        failed |= one(argparse.Namespace(**dict(vars(args), source=source, disk=disk, firmware=firmware)))
    return failed


if __name__ == "__main__":
    sys.exit(main())
