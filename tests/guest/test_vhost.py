#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that other processes serve (vhost-user) with Linux's drivers: a disk of Debian's qemu-storage-daemon, also while that is killed and
comes back, and a file system of Debian's virtiofsd, with progfs.c's loads, whose results are those that they have natively.

tests/guest/mkshare prepares the kernel.  LODGE_SHARE_SEED, LODGE_SHARE_COUNT make other and longer loads, LODGE_VHOST_KILLS more ends of the
disk's daemon."""
import hashlib
import os
import shutil
import subprocess
import tempfile
import time

from guest import INITRD, LODGE, SLOW, Skip, Vm, check, lodge, need_guest, run_all

DIR = os.environ.get("LODGE_SHARE_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/share")
KERNEL, MODULES = os.path.join(DIR, "vmlinuz"), os.path.join(DIR, "modules.img")
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SEED = int(os.environ.get("LODGE_SHARE_SEED", "1"))
COUNT = int(os.environ.get("LODGE_SHARE_COUNT", "2000"))
KILLS = int(os.environ.get("LODGE_VHOST_KILLS", "3"))
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
LINES = 800000                          # of seq's, that a load writes: 5 MiB
TMP = None


class State:
    vm = None
    disk = None
    fs = None


def path(name):
    return os.path.join(TMP, name)


def run(*args, **kw):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    check(p.returncode == 0, f"{' '.join(args)}: status {p.returncode}: {p.stdout[-500:]}")
    return p.stdout


def wait_for(cond, what, seconds=30):
    deadline = time.monotonic() + seconds * SLOW
    while not cond():
        check(time.monotonic() < deadline, what)
        time.sleep(0.02)


class Daemon:
    """A process that is there once its socket is."""

    def __init__(self, socket, *args):
        if os.path.exists(socket):
            os.unlink(socket)
        self.log = tempfile.TemporaryFile()
        self.p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        Vm.live.add(self.p)
        wait_for(lambda: os.path.exists(socket) or self.p.poll() is not None, f"{args[0]} makes no socket")
        self.log.seek(0)
        check(self.p.poll() is None, f"{args[0]}: {self.log.read().decode()[-300:]}")

    def end(self):
        self.p.kill()
        self.p.wait()
        Vm.live.discard(self.p)
        self.log.close()


def disk_daemon(image, queues=2):
    if not shutil.which("qemu-storage-daemon"):
        raise Skip("there is no qemu-storage-daemon (Debian: qemu-system-common)")
    return Daemon(path("blk"), "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={image}", "--export",
                  f"type=vhost-user-blk,id=e,node-name=f,writable=on,num-queues={queues},addr.type=unix,addr.path={path('blk')}")


def fs_daemon(folder):
    found = [p for p in VIRTIOFSD if os.path.exists(p)]
    if not found or os.path.realpath(found[0]) != VIRTIOFSD[0]:
        raise Skip("there is no QEMU's virtiofsd (Debian 12: qemu-system-common)")
    if os.getuid():
        raise Skip("virtiofsd needs root")
    return Daemon(path("fs"), found[0], f"--socket-path={path('fs')}", "-o", f"source={folder}", "-o", "sandbox=chroot", "-o", "xattr")


def image(name, mib=32):
    with open(path(name), "wb") as f:
        f.write(bytes(range(256)) * 4096)
        f.truncate(mib << 20)
    return path(name)


def start(*args, machine="pc", **kw):
    need_guest(INITRD)
    if not os.path.exists(MODULES):
        raise Skip(f"{MODULES} is missing; run tests/guest/mkshare")
    vm = Vm("--machine", machine, "--memory", "512M", "--cpus", "2", "--kernel", KERNEL, "--initrd", INITRD, "--initrd", MODULES, "--net", "none",
            "--append", "quiet", *args, **kw)
    try:
        vm.expect("init reached", 120)
        vm.expect("# ", 30)
        vm.send("stty -echo; PS1=\n")
        vm.shell("alias poweroff='poweroff -f'")
    except BaseException:
        vm.__exit__(None, None, None)
        raise
    return vm


def running():
    if State.vm is None:
        raise Skip("the guest was not started")
    return State.vm


def ends():
    vm = running()
    vm.send("poweroff\n")
    check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}: {vm.err()}")
    vm.__exit__(None, None, None)
    State.vm = None


def no_drops(vm):
    check("cut off" not in vm.err(), vm.err())


# ---- disks ----


def content(round_):
    """What a round's load writes: another one each time, and quick to make in the guest."""
    return b"round %d\n" % round_ + b"".join(b"%d\n" % i for i in range(1, LINES + 1))


def load(round_):
    return f"(echo round {round_}; cat /seq) | dd of=/dev/vda bs=64k iflag=fullblock conv=fsync 2>&1"


def disk_boots(machine):
    img = image(f"{machine}.img")
    State.disk = disk_daemon(img)
    State.vm = vm = start("--disk", f"vhost-user={path('blk')},queue-size=64", "--name", f"vhost-{machine}", machine=machine,
                          env=dict(os.environ, XDG_RUNTIME_DIR=TMP))
    with open(img, "rb") as f:
        want = hashlib.md5(f.read()).hexdigest()
    out = vm.shell("cat /sys/block/vda/size /sys/block/vda/queue/write_cache; ls /sys/block/vda/mq; md5sum </dev/vda", 120)
    check(out.split() == ["65536", "write", "back", "0", "1", want, "-"], f"{out!r}, not {want}")


def wrote(img, round_):
    want = content(round_)
    with open(img, "rb") as f:
        got = f.read(len(want))
    check(got == want, f"the image differs at byte {next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), -1)}")


def disk_writes(machine):
    vm = running()
    vm.shell(f"seq 1 {LINES} >/seq; {load(1)}", 120)
    wrote(path(f"{machine}.img"), 1)
    no_drops(vm)


def disk_grows(machine):
    """A daemon that comes back with a larger disk.  (One that says so while it runs is in the unit tests: QEMU 7.2's does not.)"""
    vm, img = running(), path(f"{machine}.img")
    State.disk.end()
    os.truncate(img, 48 << 20)
    State.disk = disk_daemon(img)
    wait_for(lambda: vm.shell("cat /sys/block/vda/size").strip() == str((48 << 20) // 512), "the guest does not hear of the disk's size")


def disk_killed(machine):
    """The daemon dies again and again while the guest writes and reads: nothing is lost, and nobody hears of an error."""
    vm, img = running(), path(f"{machine}.img")
    for i in range(KILLS):
        want = content(10 + i)
        mark = len(vm.text())
        vm.send(f"{load(10 + i)}; echo 3 >/proc/sys/vm/drop_caches; head -c {len(want)} /dev/vda | md5sum; echo ended-$((40+2))\n")
        # At some moment of the writing; of the reading next time.
        before = os.stat(img).st_mtime_ns
        if i % 2 == 0:
            wait_for(lambda: os.stat(img).st_mtime_ns != before or "ended-42" in vm.text()[mark:] or not vm.pump(0), "nothing is written")
        else:
            vm.expect("records out", 120, mark)
        State.disk.end()
        State.disk = disk_daemon(img)
        vm.expect("ended-42", 120, mark)
        check(hashlib.md5(want).hexdigest() in vm.text()[mark:], f"round {i}: the guest reads something else: {vm.text()[mark:]!r}")
        wrote(img, 10 + i)
    check("I/O error" not in vm.shell("dmesg | grep -i vda"), vm.text()[-500:])
    check("is there again" in vm.err() or "is away" in vm.err(), "it did not notice that the daemon was killed")


def disk_saved(machine):
    """The guest is saved with a load under way, and goes on with it in another process."""
    vm, saved, env = running(), path(f"{machine}.saved"), dict(os.environ, XDG_RUNTIME_DIR=TMP)
    vm.send(f"({load(77)}; echo d >/done) &\n")
    run(LODGE, "snapshot", "create", "--quit", f"vhost-{machine}", saved, env=env)
    check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}: {vm.err()}")
    vm.__exit__(None, None, None)
    State.vm = vm = Vm("--from-snapshot", saved, env=env)
    vm.send("\n")
    vm.shell("while ! [ -e /done ]; do sleep 0.1; done", 120)
    wrote(path(f"{machine}.img"), 77)


def disk_ends(machine):
    ends()
    State.disk.end()


def refused():
    status, _, err = lodge("run", "--accel", "interp", "--kernel", KERNEL, "--disk", f"vhost-user={path('nobody')}")
    check(status and "nobody" in err and "No such file" in err and err.count("\n") == 1, f"status {status}: {err}")
    status, _, err = lodge("run", "--kernel", KERNEL, "--disk", f"vhost-user={path('nobody')},queue-size=100")
    check(status and "power of two" in err, f"status {status}: {err}")
    status, _, err = lodge("run", "--kernel", KERNEL, "--share", f"virtiofs={path('nobody')},tag={'x' * 37}")
    check(status and "36 bytes" in err, f"status {status}: {err}")


# ---- file systems ----


def program():
    prog = path("progfs")
    if not os.path.exists(prog):
        cc = shutil.which("cc")
        if not cc:
            raise Skip("there is no C compiler")
        run(cc, "-O1", "-static", "-o", prog, os.path.join(HERE, "progfs.c"))
    return prog


def fs_boots():
    os.mkdir(path("shared"))
    with open(path("shared/link-target"), "w") as f:
        f.write("inside")
    os.symlink("/etc/hostname", path("shared/absolute"))
    os.symlink("../" * 12 + "etc/hostname", path("shared/relative"))
    shutil.copy(program(), path("shared/progfs"))
    State.fs = fs_daemon(path("shared"))
    State.vm = vm = start("--share", f"virtiofs={path('fs')},tag=work", "--name", "vhost-fs", env=dict(os.environ, XDG_RUNTIME_DIR=TMP))
    out = vm.shell("mkdir -p /w; mount -t virtiofs work /w; echo mounted-$?; cat /w/link-target; cp /w/progfs /progfs")
    check("mounted-0" in out and "inside" in out, f"it cannot be mounted: {out!r}")


def fs_load():
    vm, prog, native = running(), program(), path("native")
    os.mkdir(native)
    log = run(prog, "tree", native, str(SEED), str(COUNT))
    tree = run(prog, "hash", native)
    vm.shell(f"mkdir /w/t; /progfs tree /w/t {SEED} {COUNT} >/w/log; /progfs hash /w/t >/w/hash; sync", 300)
    check("file is as it should be" in vm.shell(f"/progfs file /w {SEED} {COUNT}", 300), "a file is not what was written")
    out = vm.shell("/progfs lock /w 4; cat /w/counter; rm /w/counter", 120)
    check("lock ended" in out and "200" in out, f"locks do not keep processes apart: {out!r}")
    out = vm.shell("umount /w; echo umount-$?; mount -t virtiofs work /w; /progfs hash /w/t | cmp - /w/hash; echo same-$?", 120)
    check("umount-0" in out and "same-0" in out, f"after it was mounted anew the tree is another: {out!r}")
    for what, name in ((log, "log"), (tree, "hash")):
        with open(path(f"shared/{name}")) as f:
            got = f.read()
        check(got == what, next((f"{name}: natively {a!r}, in the guest {b!r}" for a, b in zip(what.splitlines(), got.splitlines()) if a != b),
                                f"{name}: another length"))
    check(run(prog, "hash", path("shared/t")) == tree, "the tree is another on the host")


def fs_escapes():
    """Links are the guest's to follow: they lead into its own tree, or nowhere."""
    vm = running()
    secret = f"host-secret-{SEED}"
    with open(path("outside"), "w") as f:
        f.write(secret)
    vm.shell(f"ln -s {path('outside')} /w/out; ln -s ../outside /w/up; ln -s / /w/root")
    out = vm.shell("cat /w/out /w/up /w/../outside; ls /w/root | head -30; cat /w/absolute /w/relative; ls -d /w/root/progfs")
    check(secret not in out and "/w/root/progfs" in out, f"{out!r}")


def fs_not_saved():
    env = dict(os.environ, XDG_RUNTIME_DIR=TMP)
    status, _, err = lodge("snapshot", "create", "vhost-fs", path("fs.saved"), env=env)
    check(status and "virtiofs" in err and "share0" in err, f"status {status}: {err}")
    status, _, err = lodge("migrate", "vhost-fs", f"unix:{path('nowhere')}", env=env)
    check(status and "virtiofs" in err, f"status {status}: {err}")
    check("inside" in running().shell("cat /w/link-target"), "it does not go on")


def fs_ends():
    no_drops(running())
    ends()
    State.fs.end()


def fs_reboots():
    if not os.path.exists(path("shared")):
        raise Skip("there is no folder")
    """A guest that begins anew without having said good-bye mounts it again."""
    State.fs = fs_daemon(path("shared"))
    State.vm = vm = start("--share", f"virtiofs={path('fs')},tag=work")
    check("inside" in vm.shell("mkdir -p /w; mount -t virtiofs work /w; exec 5</w/link-target; cat /w/link-target"), "it cannot be mounted")
    mark = len(vm.text())
    vm.send("echo b >/proc/sysrq-trigger\n")
    vm.expect("init reached", 120, mark)
    vm.send("stty -echo; PS1=\n")
    vm.shell("alias poweroff='poweroff -f'")
    check("inside" in vm.shell("mkdir -p /w; mount -t virtiofs work /w; cat /w/link-target"), "it cannot be mounted again")
    fs_ends()


def main():
    global TMP
    disk = [("a guest with a disk of qemu-storage-daemon's on %s", disk_boots), ("what it writes is on the disk (%s)", disk_writes),
            ("a disk that grows (%s)", disk_grows), ("the daemon is killed under load, nothing is lost (%s)", disk_killed),
            ("it is saved under load and goes on (%s)", disk_saved), ("it ends (%s)", disk_ends)]
    with tempfile.TemporaryDirectory(prefix="lodge-vhost-", dir="/var/tmp") as TMP:
        try:
            return run_all([(name % m, lambda fn=fn, m=m: fn(m)) for m in ("pc", "micro") for name, fn in disk if m == "pc" or fn not in (disk_grows, disk_killed)] + [
                ("what cannot be is said in a line", refused),
                ("a guest with a file system of virtiofsd's", fs_boots),
                ("a load on it: the same results as natively", fs_load),
                ("links lead nowhere outside", fs_escapes),
                ("such a guest is neither saved nor migrated", fs_not_saved),
                ("the guest ends", fs_ends),
                ("again after a reset", fs_reboots),
            ])
        finally:
            for x in (State.disk, State.fs):
                if x and x.p.poll() is None:
                    x.end()
            if State.vm:
                State.vm.__exit__(None, None, None)


if __name__ == "__main__":
    raise SystemExit(main())
