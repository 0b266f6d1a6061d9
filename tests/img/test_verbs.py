# SPDX-License-Identifier: GPL-2.0-or-later
"""check, resize, snapshot, map, measure and bench, next to qemu-img's."""
import os
import re
import signal
import subprocess
import time

from rig import LODGE, Skip, img, main, peer, qemu, qemu_io, read, refused, run, same, write


def damaged(*cells):
    """A small image whose refcounts of some clusters are wrong: (cluster, refcount)."""
    qemu("create", "-q", "-f", "qcow2", "a", "1M")
    qemu_io("a", "write -P 1 0 256k", "write -P 2 512k 64k")
    os.truncate("a", 13 * 65536)
    for cluster, refcount in cells:
        write("a", refcount.to_bytes(2, "big"), at=131072 + 2 * cluster)


# ---- check ----

@peer
def test_check_clean():
    damaged()
    same(img("check", "--output=json", "a").json(), qemu("check", "--output=json", "a").json())
    assert img("check", "a").out == qemu("check", "a").out
    assert img("check", "-q", "a").out == ""
    qemu("convert", "-c", "-O", "qcow2", "a", "b")
    same(img("check", "--output=json", "b").json(), qemu("check", "--output=json", "b").json())
    assert img("check", "b").out == qemu("check", "b").out


@peer
def test_check_damage():
    """The same findings and exit statuses; what is repaired here is clean there, contents unchanged."""
    for cells, status in [([(11, 1), (12, 3)], 3), ([(5, 0), (6, 0)], 2), ([(5, 0), (11, 1)], 2), ([(4, 7)], 2)]:
        damaged(*cells)
        before = qemu_io("a", "read -vP 1 0 1k").out
        ours = img("check", "--output=json", "a", status=status)
        theirs = qemu("check", "--output=json", "a", status=status)
        for key in ("leaks", "check-errors", "total-clusters"):
            assert ours.json().get(key) == theirs.json().get(key), (key, ours, theirs)
        assert bool(ours.json().get("corruptions")) == bool(theirs.json().get("corruptions"))
        assert ours.err.strip(), "the findings are told"
        if cells[0][1] == 0:
            leaks = img("check", "-r", "leaks", "--output=json", "a", status=status).json()
            assert leaks.get("corruptions") and not leaks.get("corruptions-fixed")
        fixed = img("check", "-r", "all", "--output=json", "a").json()
        assert fixed.get("leaks-fixed", 0) + fixed.get("corruptions-fixed", 0) > 0 and "leaks" not in fixed
        qemu("check", "-q", "a")
        assert qemu_io("a", "read -vP 1 0 1k").out.splitlines()[:64] == before.splitlines()[:64]


@peer
def test_check_dirty():
    """An image that was not closed: what is wrong with it the next who writes makes good, and that is said."""
    damaged((5, 2))
    assert "closed" not in img("check", "a", status=2).err
    write("a", b"\1", at=79)
    assert "was not closed properly" in img("check", "a", status=2).err
    img("resize", "-q", "a", "+0")
    img("check", "a")
    qemu("check", "-q", "a")


@peer
def test_check_leaks_only():
    damaged((11, 1))
    assert "repaired" in img("check", "-r", "leaks", "a").out
    assert "No errors" in qemu("check", "a").out


@peer
def test_check_marked():
    """The marks for damage and for not having been closed go with the repair, and not before."""
    for mark in (1, 2, 3):
        damaged()
        write("a", bytes([mark]), at=79)
        img("check", "a")
        assert read("a")[79] == mark
        img("check", "-r", "all", "a")
        assert read("a")[79] == 0
        qemu("check", "-q", "a")


def test_check_status():
    write("raw", b"x" * 65536)
    assert "nothing to check" in img("check", "raw", status=63).err
    refused("check", "missing", says="does not exist", status=1)
    refused("check", "-r", "some", "raw", says="leaks nor all", status=1)
    refused("check", "-U", "-r", "all", "raw", says="two writers", status=1)
    write("cut", b"QFI\xfb\0\0\0\3" + b"\0" * 600)
    refused("check", "cut", says="cut", status=1)


# ---- resize ----

@peer
def test_resize():
    for fmt, opts in [("raw", ""), ("qcow2", ""), ("qcow2", "cluster_size=512"), ("qcow2", "extended_l2=on"), ("qcow2", "compat=0.10")]:
        img("create", "-q", "--force", "-f", fmt, *(["-o", opts] if opts else []), "a", "1M")
        for step, size in [("+1M", 2 << 20), ("3M", 3 << 20), ("+1000", (3 << 20) + 1024), ("8.5M", 8912896)]:
            assert img("resize", "-f", fmt, "a", step).out == "Image resized.\n"
            assert qemu("info", "-f", fmt, "--output=json", "a").json()["virtual-size"] == size
        qemu_io("a", "write -P 5 0 8M", fmt=fmt)
        refused("resize", "-f", fmt, "a", "-1M", says=["--shrink", "1048576"])
        refused("resize", "-f", fmt, "a", "1M", says="--shrink")
        assert img("resize", "-q", "-f", fmt, "--shrink", "a", "-4915712").out == ""
        assert qemu("info", "-f", fmt, "--output=json", "a").json()["virtual-size"] == 8912896 - 4915712 + 512 - 512
        img("resize", "-f", fmt, "a", "8M")
        # What was cut off does not come back.
        qemu_io("a", "read -P 5 0 3997184", "read -P 0 3997184 4391424", fmt=fmt)
        if fmt == "qcow2":
            qemu("check", "-q", "a")


@peer
def test_resize_hides_backing():
    """A disk that grows under a longer backing file shows zeros there."""
    for compat in ("0.10", "1.1"):
        for mode in ("off", "metadata", "full"):
            qemu("create", "-q", "-f", "raw", "base", "2M")
            qemu_io("base", "write -P 9 0 2M", fmt="raw")
            img("create", "-q", "--force", "-f", "qcow2", "-o", f"compat={compat}", "-b", "base", "-F", "raw", "a", "1000k")
            img("resize", "--preallocation", mode, "a", "3M")
            qemu_io("a", "read -P 9 0 1000k", "read -P 0 1000k 2072k")
            qemu("check", "-q", "a")


@peer
def test_resize_preallocates():
    for mode in ("metadata", "falloc", "full"):
        img("create", "-q", "--force", "-f", "qcow2", "a", "1M")
        img("resize", f"--preallocation={mode}", "a", "4M")
        qemu("check", "-q", "a")
        assert img("check", "--output=json", "a").json()["allocated-clusters"] == 48
        qemu_io("a", "read -P 0 0 4M")
    for mode in ("falloc", "full"):
        img("create", "-q", "--force", "-f", "raw", "r", "1M")
        img("resize", "-f", "raw", f"--preallocation={mode}", "r", "4M")
        assert os.stat("r").st_size == 4 << 20 and os.stat("r").st_blocks * 512 >= 3 << 20
    refused("resize", "-f", "raw", "--preallocation=metadata", "r", "5M", says="none")
    refused("resize", "-f", "raw", "--shrink", "--preallocation=full", "r", "1M", says="longer")


def test_resize_refuses():
    img("create", "-q", "-f", "qcow2", "a", "1M")
    for size, says in [("0", "new size is 0"), ("-1M", "cannot become"), ("-2M", "cannot become"), ("x", "not a size"),
                       ("+9999999P", "too large"), ("+", "not a size")]:
        refused("resize", "--shrink", "a", size, says=says)
    refused("resize", "a", says="usage")
    refused("resize", says="usage")
    assert img("info", "--output=json", "a").json()["virtual-size"] == 1 << 20


# ---- snapshot ----

@peer
def test_snapshot():
    img("create", "-q", "-f", "qcow2", "a", "1M")
    assert img("snapshot", "a").out == "" and img("snapshot", "-l", "--output=json", "a").json() == []
    for i, name in enumerate(("one", "two", "3")):
        qemu_io("a", f"write -P {i + 1} 0 1M")
        img("snapshot", "-c", name, "a")
    qemu("check", "-q", "a")
    ours = img("snapshot", "-l", "a").out.splitlines()
    theirs = [re.sub(r" +(ICOUNT)?$", "", l) for l in qemu("snapshot", "-l", "a").out.splitlines()]
    assert ours == theirs, (ours, theirs)
    refused("snapshot", "-c", "one", "a", says="already")
    refused("snapshot", "-d", "none", "a", says="no snapshot 'none'")
    refused("snapshot", "-a", "none", "a", says="no snapshot 'none'")
    refused("snapshot", "-a", "one", "-d", "one", "a", says="at a time")
    img("snapshot", "-a", "one", "a")
    qemu_io("a", "read -P 1 0 1M")
    qemu("snapshot", "-a", "two", "a")
    img("snapshot", "-d", "one", "a")
    qemu("snapshot", "-d", "two", "a")
    img("snapshot", "-a", "3", "a")
    img("snapshot", "-d", "3", "a")
    qemu_io("a", "read -P 3 0 1M")
    assert img("check", "--output=json", "a").json()["allocated-clusters"] == 16
    qemu("check", "-q", "a")
    write("raw", b"x" * 512)
    refused("snapshot", "-c", "one", "raw", says="holds no snapshots")


# ---- map ----

def maps_alike(*args, without=("compressed",)):
    ours, theirs = img("map", "--output=json", *args).json(), qemu("map", "--output=json", *args).json()
    same(ours, theirs, without)


@peer
def test_map():
    write("base", os.urandom(65536) + bytes(131072) + os.urandom(4096))
    qemu("create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", "-o", "cluster_size=4k", "a", "1M")
    qemu_io("a", "write -P 1 100k 8k", "write -z 120k 8k", "write -zu 16k 8k", "write -P 2 700k 64k", "discard 720k 4k")
    qemu("create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "-o", "extended_l2=on", "b", "2M")
    qemu_io("b", "write -P 3 2k 2k", "write -z 1500k 6k", "write -P 1 1M 128k", "write -c -P 5 256k 64k")
    for f in ("base", "a", "b"):
        maps_alike(f)
        maps_alike("-s", "17k", "-l", "600k", f)
    assert img("map", "a").out == qemu("map", "a").out
    refused("map", "b", says="--output=json")
    assert img("map", "--output=json", "-s", "5M", "a").json() == []


# ---- measure ----

@peer
def test_measure():
    qemu("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "a", "30M")
    qemu_io("a", "write -P 1 0 1M", "write -P 2 1500k 2k", "write -z 2M 1M", "write 10M 123k")
    for o in ("cluster_size=512", "cluster_size=4k,extended_l2=off", "cluster_size=2M", "refcount_bits=1", "refcount_bits=64",
              "compat=0.10", "extended_l2=on", "preallocation=full", "preallocation=metadata"):
        for what in (["a"], ["--size", "0"], ["--size", "1000"], ["--size", "1G"], ["--size", "3T"]):
            if what[-1] == "3T" and "512" in o:
                continue
            args = ["measure", "--output=json", "-O", "qcow2", "-o", o, *what]
            same(img(*args).json(), qemu(*args).json())
    for args in (["-O", "raw", "a"], ["-O", "raw", "--size", "1G"], ["-O", "qcow2", "a"], ["--size", "1M"]):
        assert img("measure", *args).out == qemu("measure", *args).out
    refused("measure", "-O", "qcow2", "-o", "cluster_size=512", "--size", "3T", says="too large")
    refused("measure", "-O", "qcow2", "-o", "clustersize=4k", "a", says="did you mean")
    refused("measure", "-O", "qcow2", says="usage")
    refused("measure", "--size", "1M", "a", says="one too many")


@peer
def test_measure_of_a_snapshot():
    qemu("create", "-q", "-f", "qcow2", "a", "30M")
    qemu_io("a", "write -P 1 0 5M")
    qemu("snapshot", "-c", "one", "a")
    qemu_io("a", "write -P 2 8M 9M", "write -z 0 5M")
    for what in ([], ["-l", "one"], ["-l", "snapshot.name=one"]):
        args = ["measure", "--output=json", "-f", "qcow2", "-O", "qcow2", *what, "a"]
        same(img(*args).json(), qemu(*args).json())
    assert img("measure", "-O", "qcow2", "-l", "one", "a").out != img("measure", "-O", "qcow2", "a").out
    refused("measure", "-l", "two", "a", says="no snapshot 'two'")
    refused("measure", "-l", "one", "--size", "1M", says="--size says")


@peer
def test_measure_is_enough():
    """What an image takes is no more than was said."""
    for o in ("cluster_size=64k", "refcount_bits=64", "extended_l2=on"):
        said = img("measure", "--output=json", "-O", "qcow2", "-o", o, "--size", "20M").json()
        img("create", "-q", "--force", "-f", "qcow2", "-o", o, "a", "20M")
        assert os.stat("a").st_size <= said["required"]
        img("bench", "-w", "-q", "-c", "160", "-s", "128k", "--pattern", "1", "a")
        assert os.stat("a").st_size <= said["fully-allocated"], (o, os.stat("a").st_size, said)


# ---- bench ----

def test_bench():
    img("create", "-q", "-f", "qcow2", "a", "4M")
    out = img("bench", "-c", "100", "-d", "8", "-s", "8k", "a").out
    assert "Sending 100 read requests, 8192 bytes each, 8 in parallel (starting at offset 0, step size 8192)" in out
    j = img("bench", "-w", "-c", "600", "-d", "5", "--pattern", "7", "--flush-interval", "10", "--output=json", "a").json()
    assert j["operation"] == "write" and j["requests"] == 600 and j["seconds"] > 0
    img("bench", "-w", "--force", "-c", "30", "--pattern", "7", "--flush-interval", "7", "--no-drain", "-i", "threads", "-o", "2400k", "a")
    img("check", "-q", "a")
    if run("sh", "-c", "command -v qemu-io").status == 0:
        qemu_io("a", "read -P 7 0 2457600", "read -P 7 2400k 120k", "read -P 0 2520k 1000k")
    refused("bench", "-w", "-c", "1", "a", says=["holds data", "--force"])
    refused("bench", "-c", "0", "a", says="not 0")
    refused("bench", "-s", "100", "a", says="multiples")
    refused("bench", "-s", "8M", "a", says="shorter than a request")
    refused("bench", "-i", "some", "a", says="io_uring")
    refused("bench", "--flush-interval", "3", "a", says="-w")


# ---- all ----

def test_interrupt():
    """Ctrl-C stops a verb that writes between two steps: the image is whole."""
    img("create", "-q", "-f", "qcow2", "a", "64M")
    p = subprocess.Popen([LODGE, "img", "bench", "-w", "-c", "2000000000", "-d", "4", "a"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and "consistent" in err, (p.returncode, out, err)
    img("check", "-q", "a")


def test_help():
    for verb in ("create", "info", "check", "resize", "snapshot", "map", "measure", "bench"):
        assert f"usage: lodge img {verb}" in img(verb, "--help").out
        assert f"usage: lodge img {verb}" in img("help", verb).out
        assert img(verb, "-h", "x").out == img(verb, "--help").out
        refused(verb, "--no-such", says="unknown option '--no-such'")


def test_locked():
    """Nothing is written to an image somebody else has open for writing, and nothing read without -U."""
    img("create", "-q", "-f", "qcow2", "a", "64M")
    p = subprocess.Popen([LODGE, "img", "bench", "-w", "-c", "2000000000", "-d", "1", "a"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    try:
        p.stdout.readline()
        who = ["in use by process", str(p.pid)]
        for args in (["info"], ["check"], ["check", "-r", "all"], ["snapshot", "-c", "s"], ["map"], ["bench", "-w"]):
            refused(*args, "a", says=who)
        refused("resize", "a", "+1M", says=who)
        refused("create", "--force", "-f", "qcow2", "a", "1M", says=who)
        img("info", "-U", "a")
    finally:
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
    img("check", "-q", "a")


def test_no_space():
    """A full file system: the message says so, and no half image stays behind."""
    if run("sh", "-c", "mkdir d && mount -t tmpfs -o size=1m none d").status != 0:
        raise Skip("this user cannot mount a small file system")
    try:
        for args in (["-f", "raw", "-o", "preallocation=full"], ["-f", "raw", "-o", "preallocation=falloc"],
                     ["-f", "qcow2", "-o", "preallocation=full"], ["-f", "qcow2", "-o", "preallocation=falloc"]):
            refused("create", *args, "d/a", "8M", says="No space left")
            assert not os.path.exists("d/a"), args
        # The kernel lets go of an I/O ring's files, and their space, some time later.
        for _ in range(50):
            if img("create", "-q", "-f", "qcow2", "--force", "d/a", "8M", status=None).status == 0:
                break
            time.sleep(0.1)
        refused("bench", "-w", "-c", "200", "-s", "64k", "d/a", says="No space left")
        assert img("check", "d/a", status=None).status in (0, 3)
        refused("resize", "--preallocation=full", "d/a", "16M", says="No space left")
        assert img("check", "d/a", status=None).status in (0, 3)
    finally:
        run("umount", "-l", "d")


if __name__ == "__main__":
    main()
