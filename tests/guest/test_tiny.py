#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tiny guest: boots on both machines, ends in every way a guest can end."""
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
import time

from guest import ACCEL, INITRD, KERNEL, LODGE, SLOW, Skip, check, lodge, need_guest, run_all, tiny


def boots(machine, cpus):
    def test():
        with tiny("--machine", machine, "--cpus", str(cpus), append="lodge.do=poweroff") as vm:
            m = vm.expect(r"init reached after \S+ s, (\d+) CPU", 120)
            check(int(m.group(1)) == cpus, f"the guest sees {m.group(1)} CPUs, not {cpus}")
            check(vm.wait(30) == 0, f"power-off gave status {vm.p.returncode}, not 0")
    return test


def shell_on(machine):
    def test():
        with tiny("--machine", machine) as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            out = vm.shell("echo $((6*7))-$(uname -m)")
            check("42-x86_64" in out, f"the shell answered {out!r}")
            vm.send("poweroff\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")
    return test


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


def sigterm_is_the_power_button(machine):
    def test():
        with tiny("--machine", machine) as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            time.sleep(1)
            vm.signal(signal.SIGTERM)
            check(vm.wait(40) == 0, f"SIGTERM ended with status {vm.p.returncode}, not 0: no power-off")
    return test


def sigterm_deadline():
    with tiny("--shutdown-timeout", "1", append="rdinit=/bin/sleep -- 1000") as vm:
        time.sleep(2)
        start = time.monotonic()
        vm.signal(signal.SIGTERM)
        check(vm.wait(20) == 8, f"a deaf guest ended with status {vm.p.returncode}, not 8")
        check(time.monotonic() - start >= 0.9, "the guest was not given its time")
        check("did not power off" in vm.err(), "no message about the deadline")


def hangup_is_the_power_button():
    with tiny() as vm:
        vm.expect(r"init reached", 120)
        vm.expect(r"# ", 30)
        time.sleep(1)
        vm.signal(signal.SIGHUP)
        check(vm.wait(40) == 0, f"SIGHUP ended with status {vm.p.returncode}, not 0")


def escape_key_and_terminal():
    need_guest()
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([LODGE, "run", "--accel", ACCEL, "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD],
                         stdin=slave, stdout=slave, stderr=slave)
    seen = b""
    try:
        deadline = time.monotonic() + 120 * SLOW
        while b"init reached" not in seen and time.monotonic() < deadline:
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


def console_to_file():
    with tempfile.NamedTemporaryFile() as f:
        with tiny("--console", f.name, append="lodge.do=poweroff") as vm:
            check(vm.wait(150) == 0, f"status {vm.p.returncode}")
            check(vm.out == b"", "the console appeared on standard output")
        with open(f.name, "rb") as log:
            check(b"init reached" in log.read(), "the file has no console output")


def stdin_not_a_terminal():
    with tiny(append="lodge.do=poweroff", stdin=subprocess.DEVNULL) as vm:
        check(vm.wait(150) == 0, f"with /dev/null as input: status {vm.p.returncode}")
        check("init reached" in vm.text(), "no console output")


def stats():
    with tiny("--stats", append="lodge.do=poweroff") as vm:
        check(vm.wait(150) == 0, f"status {vm.p.returncode}")
        for name in ("run_ms", "start_to_first_instruction_us", "vmm_resident_kib"):
            check(f"stats: {name} " in vm.err(), f"no counter {name}")


def two_at_once():
    with tiny(append="lodge.do=poweroff") as a, tiny("--machine", "micro", append="lodge.do=poweroff") as b:
        check(a.wait(240) == 0 and b.wait(240) == 0, "one of two VMs did not power off")
        check("init reached" in a.text() and "init reached" in b.text(), "one of two VMs did not boot")


def exec_tiny(command, machine="pc", stdin=b""):
    need_guest()
    p = subprocess.run([LODGE, "run", "--accel", ACCEL, "--machine", machine, "--memory", "256M", "--kernel", KERNEL,
                        "--initrd", INITRD, "--append", "quiet", "--net", "none", "--exec", command],
                       input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150 * SLOW)
    return p.returncode, p.stdout, p.stderr


def exec_status(machine):
    def test():
        status, out, err = exec_tiny("echo out; echo err >&2; exit 7", machine)
        check(status == 7, f"status {status}, not 7; {err!r}")
        check(out == b"out\n", f"standard output was {out!r}")
        check(b"err\n" in err and b"out" not in err, f"standard error was {err!r}")
    return test


def exec_binary():
    status, out, _ = exec_tiny("i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done")
    check(status == 0, f"status {status}")
    check(out == bytes(range(256)), f"bytes were changed on the way: {out!r}")


def exec_much_output():
    status, out, _ = exec_tiny("dd if=/dev/zero bs=64k count=64 2>/dev/null; echo end")
    check(status == 0 and len(out) == 64 * 65536 + 4 and out.endswith(b"end\n"),
          f"status {status}, {len(out)} bytes")


def exec_stdin():
    data = os.urandom(200000)
    status, out, err = exec_tiny("cat", stdin=data)
    check(status == 0, f"status {status}: {err!r}")
    check(out == data, f"{len(out)} of {len(data)} bytes came back, or they differ")


def exec_lines_and_quotes():
    status, out, _ = exec_tiny("a='one  two'\nfor x in \"$a\" \\\\; do\n  echo \"<$x>\"\ndone")
    check(status == 0 and out == b"<one  two>\n<\\>\n", f"{status} {out!r}")


def exec_timeout():
    need_guest()
    status, _, err = lodge("run", "--accel", ACCEL, "--memory", "256M", "--kernel", KERNEL, "--initrd", INITRD,
                           "--exec", "true", "--exec-timeout", "2", "--append", "quiet rdinit=/bin/sleep -- 1000")
    check(status == 125, f"status {status}, not 125")
    check("--exec" in err, f"the message does not name --exec: {err!r}")


def kill_keeps_what_was_flushed():
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(1 << 20)
        with tiny("--disk", f.name, "--net", "none") as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
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
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            vm.send(write + "\n")
            vm.expect(r"wrote-30\.", 120)
            vm.signal(signal.SIGKILL)
            vm.wait(10)
            acknowledged = max(int(n) for n in re.findall(r"wrote-(\d+)\.", vm.text()))
        with tiny("--disk", f.name, "--net", "none") as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            out = vm.shell(verify, 120)
            m = re.search(r"^last-(\d+)\.$", out, re.M)
            check(m and int(m.group(1)) >= acknowledged, f"{acknowledged} records were flushed, found: {out!r}")
            check(re.search(r"^1$", out, re.M), f"the journal was not replayed: {out!r}")
            vm.send("poweroff -f\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")


def read_only_disk():
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"constant" + b"\0" * (65536 - 8))
        f.flush()
        with tiny("--disk", f.name + ",ro", "--net", "none") as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            out = vm.shell("cat /sys/block/vda/ro; echo x >/dev/vda || echo refused")
            check("1\n" in out and "refused" in out, f"the guest could write: {out!r}")
            vm.send("poweroff -f\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")
        f.seek(0)
        check(f.read(8) == b"constant", "a read-only image was changed")


def write_error_reaches_the_guest():
    """The host refuses a write in the middle (file size limit): the guest sees an error, the VM stays."""
    import resource

    size = 256 << 20  # above the guest's memory, which is a file of the kind too

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with tempfile.NamedTemporaryFile() as f:
        f.truncate(size + (8 << 20))
        with tiny("--disk", f.name, "--net", "none", memory="128M", preexec_fn=limit) as vm:
            vm.expect(r"init reached", 120)
            vm.expect(r"# ", 30)
            seek = size // 65536 + 16
            out = vm.shell(f"dd if=/dev/zero of=/dev/vda bs=64k seek={seek} count=1 conv=fsync && echo written || echo failed")
            check("failed" in out, f"the guest did not see the error: {out!r}")
            out = vm.shell("dd if=/dev/vda of=/dev/null bs=64k count=1 2>/dev/null && echo alive")
            check("alive" in out, f"the disk does not work after the error: {out!r}")
            vm.send("poweroff -f\n")
            check(vm.wait(30) == 0, "power-off gave a status other than 0")


sys.exit(run_all([
    ("boots: pc, 1 vCPU", boots("pc", 1)),
    ("boots: micro, 1 vCPU", boots("micro", 1)),
    ("boots: pc, 4 vCPUs", boots("pc", 4)),
    ("boots: micro, 4 vCPUs", boots("micro", 4)),
    ("a shell on the serial console of pc", shell_on("pc")),
    ("a shell on the virtio console of micro", shell_on("micro")),
    ("reboot starts the guest again", reboot_starts_again),
    ("reboot with --no-reboot: status 6", no_reboot),
    ("guest panic: status 3 and a report", panic),
    ("triple fault: status 4 and a report", triple_fault),
    ("SIGTERM presses the power button (pc)", sigterm_is_the_power_button("pc")),
    ("SIGTERM presses the power button (micro)", sigterm_is_the_power_button("micro")),
    ("SIGTERM and a deaf guest: status 8 after the deadline", sigterm_deadline),
    ("SIGHUP presses the power button", hangup_is_the_power_button),
    ("escape key: status 7, terminal restored", escape_key_and_terminal),
    ("console to a file", console_to_file),
    ("standard input may be /dev/null", stdin_not_a_terminal),
    ("--stats prints its counters", stats),
    ("two VMs at once", two_at_once),
    ("--exec: status, standard output and error apart (pc)", exec_status("pc")),
    ("--exec: status, standard output and error apart (micro)", exec_status("micro")),
    ("--exec: output is binary-clean", exec_binary),
    ("--exec: 4 MiB of output", exec_much_output),
    ("--exec: standard input and its end", exec_stdin),
    ("--exec: several lines and quotes", exec_lines_and_quotes),
    ("--exec: a guest without the script gives status 125", exec_timeout),
    ("SIGKILL: what was flushed is in the image", kill_keeps_what_was_flushed),
    ("SIGKILL: a journal replay finds every flushed record", kill_and_replay),
    ("a read-only disk stays as it is", read_only_disk),
    ("a write error on the host reaches the guest, the VM stays", write_error_reaches_the_guest),
]))
