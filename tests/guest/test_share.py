#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders of the host in a Linux guest (virtio-9p), by the same programs natively and there: progfs.c's loads, whose
reports and trees must be the same, and tools of the host that work in a folder (git, gcc), from a second share that is
the host's own root, read-only.

tests/guest/mkshare prepares the kernel.  LODGE_SHARE_SEED, LODGE_SHARE_COUNT make other and longer loads, and
LODGE_SHARE_BUILD=meson has Lodge itself configured, built and tested (unit tests of p9) in the folder: the long target."""
import os
import shutil
import subprocess
import tempfile

from guest import INITRD, LODGE, Skip, Vm, check, lodge, need_guest, run_all

DIR = os.environ.get("LODGE_SHARE_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/share")
KERNEL, MODULES = os.path.join(DIR, "vmlinuz"), os.path.join(DIR, "modules.img")
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SEED = int(os.environ.get("LODGE_SHARE_SEED", "1"))
COUNT = int(os.environ.get("LODGE_SHARE_COUNT", "2000"))
BUILD = os.environ.get("LODGE_SHARE_BUILD", "cc")
MOUNT = "trans=virtio,version=9p2000.L,msize=512000"
TMP = None


def run(*args, **kw):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    check(p.returncode == 0, f"{' '.join(args)}: status {p.returncode}: {p.stdout[-500:]}")
    return p.stdout


def program():
    """progfs, static."""
    path = os.path.join(TMP, "progfs")
    if not os.path.exists(path):
        cc = shutil.which("cc")
        if not cc:
            raise Skip("there is no C compiler")
        run(cc, "-O1", "-static", "-o", path, os.path.join(HERE, "progfs.c"))
    return path


def start(*shares, cpus=1, memory="512M", extra=(), **kw):
    need_guest(INITRD)
    if not os.path.exists(MODULES):
        raise Skip(f"{MODULES} is missing; run tests/guest/mkshare")
    args = [a for s in shares for a in ("--share", s)]
    vm = Vm("--memory", memory, "--cpus", str(cpus), "--kernel", KERNEL, "--initrd", INITRD, "--initrd", MODULES, "--net", "none",
            "--append", "quiet", *args, *extra, **kw)
    try:
        vm.expect("init reached", 120)
        vm.expect("# ", 30)
        vm.send("stty -echo; PS1=\n")
        vm.shell("alias poweroff='poweroff -f'")
    except BaseException:
        vm.__exit__(None, None, None)
        raise
    return vm


def mount(vm, tag, where, more=""):
    out = vm.shell(f"mkdir -p {where}; mount -t 9p -o {MOUNT}{more} {tag} {where}; echo mounted-$?")
    check("mounted-0" in out, f"{tag} cannot be mounted: {out!r}")


def folder(name):
    path = os.path.join(TMP, name)
    os.mkdir(path)
    return path


def same(a, b, what):
    """Two reports; the first line that differs."""
    a, b = a.splitlines(), b.splitlines()
    for i, (x, y) in enumerate(zip(a, b)):
        check(x == y, f"{what}: line {i}: natively {x!r}, in the guest {y!r}")
    check(len(a) == len(b), f"{what}: {len(a)} lines natively, {len(b)} in the guest")


class State:
    vm = None


# Shares of the guest that loads run in: tag, security model, cache of the mount.
LOADS = {"plain": ("none", "none"), "loose": ("none", "loose"), "xattr": ("mapped-xattr", "mmap"), "file": ("mapped-file", "none")}


def has_xattrs():
    probe = os.path.join(TMP, "probe")
    open(probe, "w").close()
    try:
        os.setxattr(probe, "user.lodge", b"1")
    except OSError:
        return False
    return True


def boots():
    """One guest, with a share for each load, and one that is read-only."""
    bin_ = folder("bin")
    shutil.copy(program(), bin_)
    with open(os.path.join(bin_, "f"), "w") as f:
        f.write("text")
    os.symlink("/etc/passwd", os.path.join(bin_, "link"))
    os.mkfifo(os.path.join(bin_, "fifo"))
    if not has_xattrs():
        del LOADS["xattr"]
    vm = start(f"{bin_},tag=bin,readonly", *(f"{folder(tag)},tag={tag},security-model={model}" for tag, (model, _) in LOADS.items()))
    mount(vm, "bin", "/b")
    vm.shell("cp /b/progfs /progfs")
    State.vm = vm


def running():
    if State.vm is None:
        raise Skip("the guest was not started")
    return State.vm


def load(tag):
    """The same calls on the same tree: the same results, and the same tree seen from both sides."""
    vm, prog = running(), program()
    if tag not in LOADS:
        raise Skip("the file system has no extended attributes")
    native, shared = folder("native-" + tag), os.path.join(TMP, tag)
    log = run(prog, "tree", native, str(SEED), str(COUNT))
    tree = run(prog, "hash", native)
    mount(vm, tag, "/w", f",cache={LOADS[tag][1]}")
    vm.shell(f"mkdir /w/t; /progfs tree /w/t {SEED} {COUNT} >/w/log; echo $? >/w/status; /progfs hash /w/t >/w/hash; sync", 300)
    check("file is as it should be" in vm.shell(f"/progfs file /w {SEED} {COUNT}", 300), "a file is not what was written")
    out = vm.shell("/progfs lock /w 4; cat /w/counter; rm /w/counter", 120)
    check("lock ended" in out and "200" in out, f"locks do not keep processes apart: {out!r}")
    out = vm.shell(f"umount /w; echo umount-$?; mount -t 9p -o {MOUNT} {tag} /w; /progfs hash /w/t | cmp - /w/hash; echo same-$?; umount /w", 120)
    check("umount-0" in out and "same-0" in out, f"after it was mounted anew the tree is another: {out!r}")
    with open(os.path.join(shared, "log")) as f:
        same(log, f.read(), "calls")
    with open(os.path.join(shared, "hash")) as f:
        same(tree, f.read(), "tree in the guest")
    if LOADS[tag][0] == "none":
        same(tree, run(prog, "hash", os.path.join(shared, "t")), "tree on the host")


def readonly():
    out = running().shell("cat /b/f; echo; echo x >/b/f; echo write-$?; rm /b/f; echo rm-$?; mkdir /b/d; echo mkdir-$?; chmod 777 /b/f; "
                          "echo chmod-$?; ls -l /b; grep -c root /b/link")
    check("text" in out and "write-1" in out and "rm-1" in out and "mkdir-1" in out and "chmod-1" in out, out)
    # The link leads to the guest's file.
    check(out.split()[-1] == "1", out)


def ends():
    vm = running()
    vm.send("poweroff\n")
    check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
    vm.__exit__(None, None, None)
    State.vm = None


def snapshot():
    """A guest with a file open in a share is saved, and another process goes on with both."""
    shared, runtime, saved = folder("saved"), folder("runtime"), os.path.join(TMP, "snapshot")
    env = dict(os.environ, XDG_RUNTIME_DIR=runtime)
    vm = start(f"{shared},tag=work", extra=("--name", "shared"), env=env)
    try:
        mount(vm, "work", "/w")
        vm.shell("mkdir /w/d; cd /w/d; exec 5>>/w/d/log; echo before >&5")
        run(LODGE, "snapshot", "create", "--quit", "shared", saved, env=env)
        check(vm.wait(60) == 0, f"the guest ended with status {vm.p.returncode}")
    finally:
        vm.__exit__(None, None, None)
    with Vm("--from-snapshot", saved, env=env) as vm:
        vm.send("\n")
        out = vm.shell("pwd; echo after >&5; cat /w/d/log")
        check("/w/d" in out and "before\nafter" in out, out)
        vm.send("poweroff\n")
        vm.wait(60)
    with open(os.path.join(shared, "d/log")) as f:
        check(f.read() == "before\nafter\n", "what was written afterwards is not on the host")
    # Without the folder it does not go on, and says why.
    os.rename(shared, shared + ".gone")
    status, _, err = lodge("run", "--from-snapshot", saved, env=env)
    check(status != 0 and "cannot be shared" in err, f"status {status}: {err}")


WORK = r"""set -e
export HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' LC_ALL=C CCACHE_DISABLE=1
cd "$1"
git -c core.fsync=none clone -q --no-hardlinks ./origin work
cd work
test -z "$(git status --porcelain)"
git checkout -q HEAD~3
git checkout -q -
test -z "$(git status --porcelain)"
echo change >>README.md
git status --porcelain
git stash -q
git fsck --no-progress
if [ "$2" = meson ]; then
	meson setup build -Dtests=enabled >/dev/null
	ninja -C build lodge lodge-vmm tests/unit/test-p9 >/dev/null
	build/tests/unit/test-p9 >/dev/null 2>&1
	find build -name '*.o' | LC_ALL=C sort | xargs sha256sum | sha256sum
else
	mkdir out
	for f in src/base/err.c src/base/log.c src/base/iov.c src/p9/wire.c src/p9/table.c; do
		gcc -std=gnu17 -D_GNU_SOURCE -Isrc -O1 -g -c "$f" -o "out/$(basename "$f").o"
	done
	sha256sum out/*.o
fi
git log -1 --format=%H
"""


def git_and_gcc():
    """git and a compiler, the host's own, in a shared folder: what they say and make is what they do natively."""
    for tool in ("git", "gcc") + (("meson", "ninja") if BUILD == "meson" else ()):
        if not shutil.which(tool):
            raise Skip(f"there is no {tool}")
    if subprocess.run(["git", "-C", TOP, "rev-parse", "HEAD~3"], capture_output=True).returncode:
        raise Skip("this is no git repository with some history")
    # Natively at the path that it has in the guest's eyes: paths are in object files.
    place = tempfile.mkdtemp(prefix="lodge-share-", dir="/var/tmp")
    script = os.path.join(TMP, "work.sh")
    with open(script, "w") as f:
        f.write(WORK)
    try:
        run("git", "clone", "-q", "--no-hardlinks", *(() if BUILD == "meson" else ("--depth", "5")), f"file://{TOP}", f"{place}/origin")
        native = run("sh", script, place, BUILD)
        shutil.rmtree(f"{place}/work")
        os.mkdir(f"{place}/tmp")
        shutil.copy(script, place)
        slow = 20 if BUILD == "meson" else 1
        with start("/,tag=root,readonly", f"{place},tag=work", cpus=2, memory="1G") as vm:
            mount(vm, "root", "/r", ",cache=loose")
            mount(vm, "work", f"/r{place}", ",cache=mmap")
            vm.shell("mount -t tmpfs tmpfs /r/tmp; mount -t proc proc /r/proc; mount --bind /dev /r/dev; ulimit -s 8192")
            out = vm.shell(f"chroot /r /usr/bin/env PATH=$PATH:/usr/bin sh {place}/work.sh {place} {BUILD} >/result 2>&1; echo status-$?; cat /result", 600 * slow)
            check("status-0" in out, f"it failed in the guest: {out[-1500:]}")
            same(native, out.split("status-0\n", 1)[1].strip("\n") + "\n", "git and gcc")
            vm.send("poweroff\n")
            vm.wait(60)
        check(run("git", "-C", f"{place}/work", "-c", "safe.directory=*", "status", "--porcelain") .find("M ") < 0, "the tree is changed on the host")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main():
    global TMP
    with tempfile.TemporaryDirectory(prefix="lodge-share-", dir="/var/tmp") as TMP:
        try:
            return run_all([
                ("the guest boots with five shares", boots),
                ("a load on a shared folder, security model none", lambda: load("plain")),
                ("the same with cache=loose", lambda: load("loose")),
                ("the same, mapped-xattr", lambda: load("xattr")),
                ("the same, mapped-file", lambda: load("file")),
                ("a read-only share changes nothing", readonly),
                ("the guest ends with its shares", ends),
                ("a guest with a share goes on from a snapshot", snapshot),
                ("git and a compiler work in a shared folder as natively", git_and_gcc),
            ])
        finally:
            if State.vm:
                State.vm.__exit__(None, None, None)


if __name__ == "__main__":
    raise SystemExit(main())
