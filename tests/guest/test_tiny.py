#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tiny guest: boots on both machines, ends in every way a guest can end.
Two cases run at a time, and some look at one boot together."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time

from guest import ACCEL, ARGS, INITRD, KERNEL, LODGE, SLOW, Failed, Skip, check, lodge, need_guest, run_all, tiny


class Shared:
    """One boot that several cases look at: the first of them runs it, the others share its outcome."""

    def __init__(self, run):
        self.run, self.lock, self.error, self.result, self.done = run, threading.Lock(), None, None, False

    def get(self):
        with self.lock:
            if not self.done:
                self.done = True
                try:
                    self.result = self.run()
                except (Failed, Skip, OSError, subprocess.TimeoutExpired) as e:
                    self.error = e
        if self.error:
            raise self.error
        return self.result


def at_shell(vm):
    vm.expect(r"init reached", 120)
    vm.expect(r"# ", 30)


def boots(machine, cpus):
    def test():
        with tiny("--machine", machine, "--cpus", str(cpus), append="lodge.do=poweroff") as vm:
            m = vm.expect(r"init reached after \S+ s, (\d+) CPU", 120)
            check(int(m.group(1)) == cpus, f"the guest sees {m.group(1)} CPUs, not {cpus}")
            check(vm.wait(30) == 0, f"power-off gave status {vm.p.returncode}, not 0")
    return test


def rtc_alarm(machine):
    """Linux hears of an alarm, by the interrupt or as an ACPI event."""
    def test():
        with tiny("--machine", machine) as vm:
            at_shell(vm)
            out = vm.shell("cd /sys/class/rtc/rtc0; echo +2 >wakealarm; grep alarm_IRQ /proc/driver/rtc; n=0; "
                           "while grep -q 'alarm_IRQ.*yes' /proc/driver/rtc && [ $n -lt 100 ]; do usleep 100000; n=$((n+1)); done; "
                           "echo tries-$n; grep alarm_IRQ /proc/driver/rtc")
            check("yes" in out and re.search(r"alarm_IRQ\s*: no", out) and "tries-100" not in out, out)
    return test


def shell_on(machine):
    """1 vCPU, a shell, then SIGTERM."""
    with tiny("--machine", machine) as vm:
        m = vm.expect(r"init reached after \S+ s, (\d+) CPU", 120)
        vm.expect(r"# ", 30)
        out = vm.shell("echo $((6*7))-$(uname -m)")
        vm.shell("n=0; until pidof dd >/dev/null || [ $n -gt 50 ]; do usleep 100000; n=$((n+1)); done")
        vm.signal(signal.SIGTERM)
        return int(m.group(1)), out, vm.wait(40)


SHELLS = {machine: Shared(lambda machine=machine: shell_on(machine)) for machine in ("pc", "micro")}


def boots_one(machine):
    def test():
        cpus = SHELLS[machine].get()[0]
        check(cpus == 1, f"the guest sees {cpus} CPUs, not 1")
    return test


def shell_answers(machine):
    def test():
        out = SHELLS[machine].get()[1]
        check("42-x86_64" in out, f"the shell answered {out!r}")
    return test


def sigterm_is_the_power_button(machine):
    def test():
        status = SHELLS[machine].get()[2]
        check(status == 0, f"SIGTERM ended with status {status}, not 0: no power-off")
    return test


def poweroff_command():
    with tiny() as vm:
        at_shell(vm)
        vm.send("poweroff\n")
        check(vm.wait(30) == 0, f"the command poweroff gave status {vm.p.returncode}, not 0")


def reboot_starts_again():
    with tiny(append="lodge.do=reboot") as vm:
        first = vm.expect(r"init reached", 120)
        vm.expect(r"init reached", 120, first.end())
        vm.signal(signal.SIGQUIT)
        check(vm.wait(10) == 8, f"SIGQUIT gave status {vm.p.returncode}, not 8")


def no_reboot():
    with tiny("--no-reboot", append="lodge.do=reboot") as vm:
        check(vm.wait(150) == 6, f"a reboot with --no-reboot gave status {vm.p.returncode}, not 6")


def panic():
    with tiny(append="lodge.do=panic") as vm:
        check(vm.wait(150) == 3, f"a guest panic gave status {vm.p.returncode}, not 3")
        check("rip" in vm.err() and "panicked" in vm.err(), "no report of the panic on standard error")
        check("Kernel panic" in vm.text(), "the guest's own panic message is missing")


def triple_fault():
    with tiny("--no-reboot", append="reboot=t lodge.do=reboot") as vm:
        check(vm.wait(150) == 4, f"a triple fault gave status {vm.p.returncode}, not 4")
        check("triple fault" in vm.err() and "cr3" in vm.err(), "no report with registers on standard error")


def sigterm_deadline():
    with tiny("--shutdown-timeout", "1", append="rdinit=/bin/sleep -- 1000") as vm:
        time.sleep(2)
        start = time.monotonic()
        vm.signal(signal.SIGTERM)
        check(vm.wait(20) == 8, f"a deaf guest ended with status {vm.p.returncode}, not 8")
        check(time.monotonic() - start >= 0.9, "the guest was not given its time")
        check("did not power off" in vm.err(), "no message about the deadline")


def escape_key_and_terminal():
    need_guest()
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([LODGE, "run", "--accel", ACCEL, "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD],
                         stdin=slave, stdout=slave, stderr=slave)
    seen = b""
    try:
        deadline = time.monotonic() + 120 * SLOW
        while b"init reached" not in seen and p.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 65536)
        check(b"init reached" in seen, "no boot on the terminal")
        check(b"Ctrl-]" in seen, "the escape key was not announced")
        check(not termios.tcgetattr(slave)[3] & termios.ICANON, "the terminal is not raw while the guest runs")
        os.write(master, b"\x1d")
        while p.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 65536)
            elif b"init reached" in seen and time.monotonic() > deadline - 100 * SLOW:
                os.write(master, b"q")
        check(p.poll() == 7, f"the escape key gave status {p.poll()}, not 7")
        check(termios.tcgetattr(slave) == before, "the terminal was not restored")
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
        os.close(master)
        os.close(slave)


def quiet_run():
    """Console to a file, no input, counters at the end: (status, standard output, standard error, the file)."""
    with tempfile.NamedTemporaryFile() as f:
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(1 << 20)
            with tiny("--console", f.name, "--stats", "--disk", disk.name, append="lodge.do=poweroff",
                      stdin=subprocess.DEVNULL) as vm:
                status = vm.wait(150)
                return status, vm.out, vm.err(), open(f.name, "rb").read()


QUIET = Shared(quiet_run)


def console_to_file():
    _, out, _, log = QUIET.get()
    check(out == b"", "the console appeared on standard output")
    check(b"init reached" in log, "the file has no console output")


def stdin_not_a_terminal():
    status = QUIET.get()[0]
    check(status == 0, f"with /dev/null as input: status {status}")


def stats():
    err = QUIET.get()[2]
    for name in ("run_ms", "start_to_first_instruction_us", "vmm_resident_kib"):
        check(f"stats: {name} " in err, f"no counter {name}")
    reads = re.search(r"stats: disk0_reads (\d+)", err)
    check(reads and int(reads.group(1)) > 0, "the kernel looked for partitions, but the disk counts no reads")
    check("stats: net0_rx_packets " in err, "no counters of the network card")
    if "stats: blocks translated " in err:	# the translator ran
        for name in ("chains made", "exits, event", "TLB misses, kernel reads", "TLB misses, user writes", "calls of interp handlers, cpuid",
                     "code cache KiB, most ever", "vmm_code_cache_kib"):
            m = re.search(rf"stats: {name} (\d+)", err)
            check(m and int(m.group(1)) > 0, f"no counter {name}, or it is 0")


def two_at_once():
    with tiny(append="lodge.do=poweroff") as a, tiny("--machine", "micro", append="lodge.do=poweroff") as b:
        check(a.wait(240) == 0 and b.wait(240) == 0, "one of two VMs did not power off")
        check("init reached" in a.text() and "init reached" in b.text(), "one of two VMs did not boot")


def exec_tiny(command, *options, machine="pc", stdin=b"", memory="256M"):
    need_guest()
    p = subprocess.run([LODGE, "run", "--accel", ACCEL, *ARGS, "--machine", machine, "--memory", memory, "--kernel", KERNEL,
                        "--initrd", INITRD, *options, "--append", "quiet", "--net", "none", "--exec", command],
                       input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150 * SLOW)
    return p.returncode, p.stdout, p.stderr


def exec_status(machine):
    def test():
        status, out, err = exec_tiny("echo out; echo err >&2; exit 7", machine=machine)
        check(status == 7, f"status {status}, not 7; {err!r}")
        check(out == b"out\n", f"standard output was {out!r}")
        check(b"err\n" in err and b"out" not in err, f"standard error was {err!r}")
    return test


LINES = "a='one  two'\nfor x in \"$a\" \\\\; do\n  echo \"<$x>\"\ndone\n"
BYTES = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done\n"
MUCH = "dd if=/dev/zero bs=64k count=64 2>/dev/null; echo end\n"
INPUT = os.urandom(200000)
STREAMS = Shared(lambda: exec_tiny(LINES + BYTES + MUCH + "cat", stdin=INPUT))


def exec_stream(start, what):
    """What the command wrote from offset start on."""
    def test():
        status, out, err = STREAMS.get()
        check(status == 0, f"status {status}: {err!r}")
        got = out[start:start + len(what)]
        check(got == what, f"{len(out)} bytes came, other than expected at {start}: {got[:300]!r}")
    return test


def exec_stdin():
    status, out, err = STREAMS.get()
    check(status == 0, f"status {status}: {err!r}")
    check(out.endswith(INPUT), f"{len(out)} bytes came; the input did not come back, or changed")


def program(name, flags, want_line, memory="256M"):
    """A program says in the guest what it says on this host, where that runs it; its exit status is 42."""
    src = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.c")
    cc = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    cpio = shutil.which("cpio")
    if not cc or not cpio:
        raise Skip("no compiler or no cpio")
    need_guest()
    # On pages of its own: those with the C library's CPUID do not run natively (--direct).
    with tempfile.TemporaryDirectory() as d:
        p = subprocess.run([cc, "-O1", "-static", "-falign-functions=4096", "-o", f"{d}/{name}", src, *flags], stderr=subprocess.PIPE)
        if p.returncode:
            raise Skip(f"{cc} makes no such programs: {p.stderr.decode()[-200:]!r}")
        try:
            host = subprocess.run([f"{d}/{name}"], stdout=subprocess.PIPE, timeout=20 * SLOW)
            want = host.stdout if host.returncode == 42 else None
        except OSError:     # a host without 32-bit programs: the exit status and one line have to do
            want = None
        img = subprocess.run([cpio, "-o", "-H", "newc", "--quiet"], input=f"{name}\n".encode(), stdout=subprocess.PIPE,
                             cwd=d, check=True).stdout
        with open(f"{d}/img", "wb") as f:
            f.write(img)
        status, out, err = exec_tiny(f"/{name}", "--initrd", f"{d}/img", memory=memory)
        check(status == 42, f"status {status}, not 42; {out!r} {err!r}")
        check(want_line in out, f"{want_line!r} is missing: {out!r}")
        check(want is None or out == want, f"the guest says {out!r}, the host {want!r}")


def program_32_bit():
    """Freestanding, on the 64-bit kernel."""
    program("prog32", ["-m32", "-ffreestanding", "-fno-pic", "-fno-pie", "-fno-omit-frame-pointer", "-fno-stack-protector",
                       "-nostdlib"], b"signals 050b0b08\n")


def program_x87():
    program("progx87", ["-lm"], b"division 2648\n")


def program_system():
    """Code astride pages, strings, bit strings, flags, SYSCALL's registers."""
    program("progsys", [], b"end\n")


def program_memory():
    """Pages touched, given back, copied on write, protected: more of them than native user code is let map."""
    program("progmem", [], b"end\n", memory="512M")


def program_segments():
    """Selectors, descriptors, 32-bit code and vsyscalls of user code that runs natively for much of the time."""
    program("progseg", [], b"end\n")


def exec_timeout():
    need_guest()
    status, _, err = lodge("run", "--accel", ACCEL, "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD,
                           "--exec", "true", "--exec-timeout", "2", "--append", "quiet rdinit=/bin/sleep -- 1000")
    check(status == 125, f"status {status}, not 125")
    check("--exec" in err, f"the message does not name --exec: {err!r}")


def bad_options():
    """What cannot be: one line that names the option and the thing, and the guest does not start."""
    with tempfile.TemporaryDirectory() as tmp:
        disk, rom, text, vars_ = (os.path.join(tmp, name) for name in ("disk", "rom", "text", "vars"))
        with open(disk, "wb") as f:
            f.truncate(1 << 20)
        with open(rom, "wb") as f:
            f.write(b"\xf4" * 65536)
        with open(text, "w", encoding="ascii") as f:
            f.write("text\n")
        shutil.copy(rom, f"{tmp}/CODE.fd")
        shutil.copy(rom, f"{tmp}/VARS.fd")      # as OVMF has its template
        there = sorted(os.listdir(tmp))
        raw = ["--firmware", rom, "--disk", f"{disk},format=raw"]
        for args, says in (
                (["--disk", "/nonexistent"], "--disk: disk '/nonexistent' does not exist: create it"),
                (["--cdrom", "/nonexistent"], "--cdrom: disk '/nonexistent' does not exist"),
                (["--floppy", "/nonexistent"], "--floppy: disk '/nonexistent'"),
                (["--floppy", disk], "--floppy: disk0: 1048576 bytes are no floppy disk's size"),
                ([*raw, "--user-data", "/nonexistent"], "--user-data: /nonexistent"),
                ([*raw, "--chardev", "file,id=a,path=/nonexistent/a"], "--chardev a: cannot write to '/nonexistent/a'"),
                ([*raw, "--chardev", "socket,id=a,path=/nonexistent/a,mux=on"], "--chardev a: unix:/nonexistent/a"),
                ([*raw, "--chardev", "null,id=agent", "--guest-agent", f"{tmp}/agent"], "--chardev agent: that id"),
                ([*raw, "--disk", ""], "--disk: the name of a file is missing"),
                ([*raw, "--disk", f"{text},perhaps"], "--disk: 'perhaps' is not one of "),
                ([*raw, "--cdrom", f"{text},size=1G"], "--cdrom: size="),
                ([*raw, "--floppy", f"{text},ro=maybe"], "--floppy: 'maybe' is neither on nor off"),
                ([*raw, "--display", f"vnc=unix:{tmp}/s", "--pidfile", tmp], f"--pidfile {tmp}: Is a directory"),
                (["--firmware", f"{tmp}/CODE.fd", "--firmware-vars", "/dev/null"], "UEFI variables /dev/null: not a regular file"),
                ([*raw, "--net", "user,id=a", "--usb", "kbd,id=a"], "--usb: id=a is another device's"),
                (["--firmware", "/nonexistent"], "--firmware /nonexistent: No such file"),
                (["--firmware", disk], f"firmware {disk}: no image of firmware"),
                (["--firmware", "bios", "--firmware-vars", vars_], f"--firmware-vars {vars_}: "),
                ([*raw, "--boot", "order=cc"], "--boot: 'cc': "),
                ([*raw, "--fw-cfg", f"opt/x,file={tmp}"], f"--fw-cfg: {tmp}: it cannot be read: Is a directory"),
                (["--firmware", f"{tmp}/CODE.fd", "--disk", f"{tmp}/new,size=1M", "--display", "vnc=:x"], "--display: ':x' is not "),
                (["--kernel", text, "--disk", f"{tmp}/new,size=1M"], f"kernel {text}: not a kernel image"),
                ([*raw, "--cdrom", "/no\x1b[2Jw\nhere"], "--cdrom: disk '/no?[2Jw?here' does not exist"),
                ([*raw, "--display", "vnc=:x"], "--display: ':x' is not "),
                ([*raw, "--display", "vnc=: 5"], "--display: ': 5' is not "),
                ([*raw, "--display", "vnc=unix:"], "--display: VNC cannot listen on unix socket: '': "),
                ([*raw, "--display", f"vnc=unix:{text}"], f"--display: VNC cannot listen on unix socket: {text}: Address already in use"),
                ([*raw, "--display", f"vnc=unix:{tmp}/s,tls-cert=/nonexistent,tls-key={text}"], "--display: /nonexistent: No such file"),
                ([*raw, "--display", f"vnc=unix:{tmp}/s,password-file=/nonexistent"], "--display: /nonexistent: the password cannot be read"),
                ([*raw, "--display", "none,websocket=5999"], "--display: 'websocket': ")):
            status, _, err = lodge("run", "--accel", ACCEL, "--control", "off", *args)
            lines = [line for line in err.splitlines() if not re.match("lodge: (warning: |the guest's UEFI variables are kept)", line)]
            check(status == 1 and len(lines) == 1 and lines[0].startswith(f"lodge: {says}"), f"{args} gave status {status} and {err!r}")
            check(sorted(os.listdir(tmp)) == there, f"{args} left {os.listdir(tmp)}")


def daemon():
    """It is told what cannot be done; what has a name in the folder it was started in is found and removed by a daemon, too."""
    need_guest()
    with tempfile.TemporaryDirectory() as tmp:
        for name, file in (("kernel", KERNEL), ("initrd", INITRD)):
            os.symlink(file, f"{tmp}/{name}")
        with open(f"{tmp}/text", "w", encoding="ascii") as f:
            f.write("text\n")
        common = ("run", "--accel", ACCEL, "--control", "off", "--daemonize", "--console", "con", "--memory", "256M", "--pidfile", "pid",
                  "--qmp", "unix:qmp,wait=off")
        status, _, err = lodge(*common, "--kernel", "text", cwd=tmp)
        check(status == 1 and "kernel text: not a kernel image" in err, f"a text as kernel gave status {status} and {err!r}")
        check(not os.path.exists(f"{tmp}/pid") and not os.path.exists(f"{tmp}/qmp"), f"it left {os.listdir(tmp)}")
        # It panics, resets and panics again: the kernel was found both times.
        status, _, err = lodge(*common, "--kernel", "kernel", "--initrd", "initrd", "--append", "quiet panic=-1 rdinit=/bin/nothing", cwd=tmp)
        check(status == 0, f"status {status} and {err!r}")
        with open(f"{tmp}/pid", encoding="ascii") as f:
            pid = int(f.read())
        try:
            deadline = time.monotonic() + 60 * SLOW
            panics = 0
            while panics < 2:
                with open(f"{tmp}/con", "rb") as f:
                    panics = f.read().count(b"Kernel panic")
                check(time.monotonic() < deadline, "it did not begin a second time")
                time.sleep(0.2)
        finally:
            os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + 30 * SLOW
        while sorted(os.listdir(tmp)) != ["con", "initrd", "kernel", "text"]:
            check(time.monotonic() < deadline, f"it left {os.listdir(tmp)}")
            time.sleep(0.05)


def kill_keeps_what_was_flushed():
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(1 << 20)
        with tiny("--disk", f.name, "--net", "none") as vm:
            at_shell(vm)
            vm.shell("echo precious | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync 2>/dev/null")
            vm.signal(signal.SIGKILL)
            vm.wait(10)
        f.seek(4096)
        check(f.read(9) == b"precious\n", "flushed data is not in the image after SIGKILL")


def kill_and_replay():
    """Records written with fsync before SIGKILL are all there, whole, after ext4 replayed its journal."""
    mke2fs = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not mke2fs:
        raise Skip("mke2fs is not installed")
    write = ("mkdir -p /mnt; mount -t ext4 /dev/vda /mnt; i=0; while :; do i=$((i+1)); "
             "echo $i $(echo $i | sha256sum) | dd of=/mnt/r$i conv=fsync 2>/dev/null && echo wrote-$i.; done")
    verify = ("mkdir -p /mnt; mount -t ext4 /dev/vda /mnt; i=1; while [ -e /mnt/r$i ]; do "
              "[ \"$(cat /mnt/r$i)\" = \"$(echo $i $(echo $i | sha256sum))\" ] || break; i=$((i+1)); done; "
              "echo last-$((i-1)).; dmesg | grep -c 'vda): recovery complete'; umount /mnt")
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(64 << 20)
        subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", f.name], check=True)
        with tiny("--disk", f.name, "--net", "none") as vm:
            at_shell(vm)
            vm.send(write + "\n")
            vm.expect(r"wrote-30\.", 120)
            vm.signal(signal.SIGKILL)
            vm.wait(10)
            acknowledged = max(int(n) for n in re.findall(r"wrote-(\d+)\.", vm.text()))
        with tiny("--disk", f.name, "--net", "none") as vm:
            at_shell(vm)
            out = vm.shell(verify, 120)
            m = re.search(r"^last-(\d+)\.$", out, re.M)
            check(m and int(m.group(1)) >= acknowledged, f"{acknowledged} records were flushed, found: {out!r}")
            check(re.search(r"^1$", out, re.M), f"the journal was not replayed: {out!r}")
            vm.send("poweroff -f\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")


def read_only_run():
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"constant" + b"\0" * (65536 - 8))
        f.flush()
        with tiny("--disk", f.name + ",ro", "--net", "none") as vm:
            at_shell(vm)
            out = vm.shell("cat /sys/block/vda/ro; echo x >/dev/vda || echo refused")
            vm.shell("n=0; until pidof dd >/dev/null || [ $n -gt 50 ]; do usleep 100000; n=$((n+1)); done")
            vm.signal(signal.SIGHUP)
            status = vm.wait(40)
        f.seek(0)
        return status, out, f.read(8)


READ_ONLY = Shared(read_only_run)


def hangup_is_the_power_button():
    status = READ_ONLY.get()[0]
    check(status == 0, f"SIGHUP ended with status {status}, not 0")


def read_only_disk():
    _, out, head = READ_ONLY.get()
    check("1\n" in out and "refused" in out, f"the guest could write: {out!r}")
    check(head == b"constant", "a read-only image was changed")


def virtio_console():
    with tiny("--machine", "micro", append="loglevel=8 console=hvc0 earlycon=uart8250,io,0x3f8") as vm:
        vm.expect(r"bootconsole \[uart8250\] enabled", 60)
        vm.expect(r"ttyS0 at I/O 0x3f8 \(irq = [1-9]", 60)
        vm.expect(r"console \[hvc0\] enabled", 120)
        at_shell(vm)
        out = vm.shell("readlink /proc/self/fd/0")
        check("hvc0" in out or "console" in out, f"the shell is on {out!r}")
        vm.send("poweroff -f\n")
        check(vm.wait(30) == 0, "power-off gave a status other than 0")


def write_error_reaches_the_guest():
    """The host refuses a write in the middle (file size limit): the guest sees an error, the VM stays."""
    size = 256 << 20  # above the guest's memory, which is a file of the kind too
    limit = ["sh", "-c", f"ulimit -f {size // 512}; exec \"$@\"", "limit"]
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(size + (8 << 20))
        with tiny("--disk", f.name, "--net", "none", memory="128M", wrap=limit) as vm:
            at_shell(vm)
            seek = size // 65536 + 16
            out = vm.shell(f"dd if=/dev/zero of=/dev/vda bs=64k seek={seek} count=1 conv=fsync && echo written || echo failed")
            check("failed" in out, f"the guest did not see the error: {out!r}")
            out = vm.shell("dd if=/dev/vda of=/dev/null bs=64k count=1 2>/dev/null && echo alive")
            check("alive" in out, f"the disk does not work after the error: {out!r}")
            vm.send("poweroff -f\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")


sys.exit(run_all([
    ("boots: pc, 4 vCPUs", boots("pc", 4)),
    ("boots: micro, 4 vCPUs", boots("micro", 4)),
    ("RTC alarm: pc", rtc_alarm("pc")),
    ("RTC alarm: micro", rtc_alarm("micro")),
    ("boots: pc, 1 vCPU", boots_one("pc")),
    ("boots: micro, 1 vCPU", boots_one("micro")),
    ("SIGKILL: a journal replay finds every flushed record", kill_and_replay),
    ("a shell on the serial console of pc", shell_answers("pc")),
    ("a shell on the serial console of micro", shell_answers("micro")),
    ("console=hvc0: a virtio console, and early messages on the serial port", virtio_console),
    ("SIGTERM presses the power button (pc)", sigterm_is_the_power_button("pc")),
    ("SIGTERM presses the power button (micro)", sigterm_is_the_power_button("micro")),
    ("the command poweroff: status 0", poweroff_command),
    ("reboot starts the guest again", reboot_starts_again),
    ("reboot with --no-reboot: status 6", no_reboot),
    ("guest panic: status 3 and a report", panic),
    ("triple fault: status 4 and a report", triple_fault),
    ("SIGTERM and a deaf guest: status 8 after the deadline", sigterm_deadline),
    ("escape key: status 7, terminal restored", escape_key_and_terminal),
    ("console to a file", console_to_file),
    ("two VMs at once", two_at_once),
    ("standard input may be /dev/null", stdin_not_a_terminal),
    ("--stats prints its counters", stats),
    ("--exec: status, standard output and error apart (pc)", exec_status("pc")),
    ("--exec: status, standard output and error apart (micro)", exec_status("micro")),
    ("--exec: several lines and quotes", exec_stream(0, b"<one  two>\n<\\>\n")),
    ("--exec: a guest without the script gives status 125", exec_timeout),
    ("options that cannot be", bad_options),
    ("a daemon's folder and errors", daemon),
    ("--exec: output is binary-clean", exec_stream(15, bytes(range(256)))),
    ("--exec: 4 MiB of output", exec_stream(271, bytes(4 << 20) + b"end\n")),
    ("--exec: standard input and its end", exec_stdin),
    ("a 32-bit program on the 64-bit kernel", program_32_bit),
    ("x87 over faults, errors, signals and processes", program_x87),
    ("a program's code astride pages, string moves, bit strings, flags", program_system),
    ("a program's pages: touched, given back, copied, protected", program_memory),
    ("a program's segments: selectors, descriptors, 32-bit code, vsyscalls", program_segments),
    ("a read-only disk stays as it is", read_only_disk),
    ("a write error on the host reaches the guest, the VM stays", write_error_reaches_the_guest),
    ("SIGHUP presses the power button", hangup_is_the_power_button),
    ("SIGKILL: what was flushed is in the image", kill_keeps_what_was_flushed),
], jobs=min(2, os.cpu_count() or 1)))
