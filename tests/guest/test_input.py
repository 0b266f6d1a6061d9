#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input and missing means: one clear error that names the thing, status 1,
no crash, nothing left behind.  No guest boots here."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile

from guest import ACCEL, INITRD, KERNEL, LODGE, Skip, check, lodge, need_guest, run_all, tiny

TMP = tempfile.mkdtemp(prefix="lodge-test-")


def path(name, data=None, size=None):
    p = os.path.join(TMP, name)
    with open(p, "wb") as f:
        if data:
            f.write(data)
        if size is not None:
            f.truncate(size)
    return p


def refused(*args, names, status=1, **kw):
    """lodge run ARGS must fail with exactly one error line that contains `names`."""
    got, out, err = lodge("run", "--accel", ACCEL, *args, **kw)
    check(got == status, f"status {got}, not {status}; {err!r}")
    errors = [line for line in err.splitlines() if line.startswith("lodge: ")]
    check(len(errors) == 1, f"{len(errors)} error lines: {err!r}")
    for n in [names] if isinstance(names, str) else names:
        check(n in errors[0], f"{errors[0]!r} does not say {n!r}")
    check(out == b"", f"something was printed on standard output: {out!r}")


def with_kernel(*args, names, **kw):
    need_guest()
    refused("--kernel", KERNEL, "--net", "none", *args, names=names, **kw)


def truncated_kernel():
    need_guest()
    with open(KERNEL, "rb") as f:
        p = path("short-kernel", f.read(20000))
    refused("--kernel", p, names=p)


def locked_disk():
    need_guest()
    disk = path("locked.raw", size=1 << 20)
    with tiny("--disk", disk, "--net", "none", append="rdinit=/bin/sleep -- 1000") as vm:
        for _ in range(100):
            if subprocess.run(["grep", "-q", str(os.stat(disk).st_ino), "/proc/locks"], check=False).returncode == 0:
                break
            vm.pump(0.1)
        else:
            raise Skip("file locks do not show in /proc/locks here")
        with_kernel("--disk", disk, names=[disk, "lock"])
        check(vm.p.poll() is None, "the first VM ended")


def no_permission():
    disk = path("secret.raw", size=1 << 20)
    os.chmod(disk, 0o600)
    unprivileged(["--disk", disk], [disk, "ermission"])


def unprivileged(args, names):
    """As a user without rights; when root, by dropping them."""
    need_guest()
    if os.getuid() != 0:
        if "--disk" in args:
            os.chmod(args[1], 0)
        with_kernel(*args, names=names)
        return
    os.chmod(TMP, 0o755)
    kernel = path("kernel")
    shutil.copyfile(KERNEL, kernel)
    os.chmod(kernel, 0o644)

    def drop():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        probe = subprocess.run([LODGE, "--version"], preexec_fn=drop, stdout=subprocess.DEVNULL, check=False)
    except OSError:
        raise Skip("an unprivileged user cannot reach the program here") from None
    if probe.returncode:
        raise Skip("an unprivileged user cannot run the program here")
    refused("--kernel", kernel, "--net", "none", *args, names=names, preexec_fn=drop)


def forwarded_port_in_use():
    need_guest()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(1)
        port = s.getsockname()[1]
        refused("--kernel", KERNEL, "--net", f"user,fwd=tcp:{port}:22", names=[str(port), "--net"])


def tap_without_permission():
    unprivileged(["--net", "tap,if=lodgetest0"], ["--net", "ermi"])


def kvm_unusable():
    need_guest()
    probe = subprocess.run([os.path.join(os.path.dirname(LODGE), "lodge-vmm"), "--probe"],
                           stdout=subprocess.PIPE, check=False).stdout.decode()
    line = [x for x in probe.splitlines() if x.startswith("kvm ")]
    if not line or line[0].split()[1] == "1":
        raise Skip("KVM is usable here, so there is nothing to refuse")
    got, _, err = lodge("run", "--accel", "kvm", "--kernel", KERNEL)
    check(got == 1 and "--accel kvm" in err, f"status {got}: {err!r}")


def unknown_option():
    refused("--nonsense", names="--nonsense")


def dry_run():
    status, out, err = lodge("run", "--dry-run", "--kernel", "k", "--disk", "a,,b.raw,ro", "--memory", "1G",
                             "--net", "user,fwd=tcp:2222:22")
    check(status == 0, f"status {status}: {err!r}")
    text = out.decode()
    for line in ("kernel = k", "disk.0.file = a,b.raw", "disk.0.ro = on", "memory = 1G", "net.0.fwd.0 = tcp:2222:22"):
        check(line in text.splitlines(), f"{line!r} is missing in {text!r}")
    again = path("config", out)
    status, out2, err = lodge("run", "--dry-run", "--config", again)
    check(status == 0 and sorted(out2.splitlines()) == sorted(out.splitlines()), f"the dump does not read back: {out2!r} {err!r}")


def version_and_help():
    status, out, _ = lodge("--version")
    check(status == 0 and out.startswith(b"lodge "), "lodge --version")
    status, out, _ = lodge("run", "--help")
    check(status == 0, "lodge run --help")
    for opt in (b"--kernel", b"--disk", b"--net", b"--exec", b"--accel"):
        check(opt in out, f"{opt!r} is not in the help")
    check(b"|none[,vram=SIZE][,outputs=N][,romfile=FILE]\n" in out, "a long argument is not whole in the help")
    status, out, err = lodge("nonsense")
    check(status == 1 and "nonsense" in err, "an unknown verb")


def doctor():
    status, out, _ = lodge("doctor")
    check(b"interp" in out, "the interpreter is not mentioned")
    check(status == 0 and b"can run guests" in out, f"status {status}: {out!r}")


def other_variables():
    code = path("X_CODE.fd", b"\0" * 65536)
    path("X_VARS.fd", b"\xff" * 8192)
    refused("--firmware", code, "--firmware-vars", path("vars", b"\xff" * 4096), names="another build")
    refused("--firmware", code, "--firmware-vars", path("odd", b"\xff" * 100), names="multiple of 4 KiB")


def exec_failure_is_125():
    refused("--kernel", "/nonexistent", "--exec", "true", names="/nonexistent", status=125)


def main():
    not_a_kernel = path("text", b"This is no kernel.\n" * 4000)
    status = run_all([
        ("version, help, unknown verb", version_and_help),
        ("--dry-run dumps, --config reads back", dry_run),
        ("lodge doctor says that this host can run guests", doctor),
        ("unknown option", unknown_option),
        ("nothing to boot", lambda: refused(names="--kernel")),
        ("firmware missing", lambda: refused("--firmware", "/nonexistent/f", names="/nonexistent/f")),
        ("firmware is no image", lambda: refused("--firmware", not_a_kernel, names="multiple of 4 KiB")),
        ("no firmware on micro", lambda: refused("--machine", "micro", "--firmware", "bios", names="micro")),
        ("a build that needs SMM", lambda: refused("--firmware", path("CODE.secboot.fd", b"\0" * 4096), names="secboot")),
        ("variables of another build", other_variables),
        ("kernel missing", lambda: refused("--kernel", "/nonexistent/k", names="/nonexistent/k")),
        ("kernel is a directory", lambda: refused("--kernel", TMP, names=TMP)),
        ("kernel is not a kernel", lambda: refused("--kernel", not_a_kernel, names=not_a_kernel)),
        ("kernel is empty", lambda: refused("--kernel", path("empty", b""), names="empty")),
        ("kernel truncated", truncated_kernel),
        ("initrd missing", lambda: with_kernel("--initrd", "/nonexistent/i", names="/nonexistent/i")),
        ("initrd larger than memory", lambda: with_kernel("--memory", "64M", "--initrd", path("big", size=100 << 20), names="big")),
        ("bad size suffix", lambda: refused("--kernel", "k", "--memory", "12X", names="--memory")),
        ("memory beyond the host", lambda: with_kernel("--memory", "4000G", names="--memory")),
        ("vCPUs beyond the machine", lambda: refused("--kernel", "k", "--cpus", "65", names="--cpus")),
        ("unknown CPU feature", lambda: with_kernel("--cpu", "max,+nonsense", names="nonsense")),
        ("unknown CPU model", lambda: with_kernel("--cpu", "nonsense", names="nonsense")),
        ("disk missing", lambda: with_kernel("--disk", "/nonexistent/d", names="/nonexistent/d")),
        ("disk is a directory", lambda: with_kernel("--disk", TMP, names=TMP)),
        ("disk shorter than a sector", lambda: with_kernel("--disk", path("tiny.raw", b"x" * 100), names="tiny.raw")),
        ("disk locked by another VM", locked_disk),
        ("disk without permission", no_permission),
        ("bad disk option", lambda: refused("--kernel", "k", "--disk", "d,nonsense=1", names="nonsense")),
        ("forwarded port in use", forwarded_port_in_use),
        ("bad forwarding", lambda: refused("--kernel", "k", "--net", "user,fwd=tcp:99999:1", names="tcp:99999:1")),
        ("tap without permission", tap_without_permission),
        ("console in a missing folder", lambda: with_kernel("--console", "/nonexistent/c", names="/nonexistent/c")),
        ("--accel kvm where KVM is not usable", kvm_unusable),
        ("--exec: lodge's own failure is 125", exec_failure_is_125),
    ])
    shutil.rmtree(TMP, ignore_errors=True)
    return status


sys.exit(main())
