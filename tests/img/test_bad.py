# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad inputs: cut off, looping, lying and missing images end in a message, not in a crash, a hang or a loss."""
import os
import random

from rig import Skip, QEMU, img, main, peer, qemu, qemu_io, read, refused, run, write

READERS = (["info"], ["info", "--backing-chain"], ["check"], ["map"], ["map", "--output=json"], ["snapshot", "-l"],
           ["measure", "-O", "qcow2"], ["bench", "-c", "10"])


def image(name="a", size="1M", *opts):
    img("create", "-q", "-f", "qcow2", *opts, name, size)
    return read(name)


def ends_well(r):
    """A status of its own, and a message where it is not 0."""
    assert r.status in (0, 1, 2, 3, 63), r
    assert r.status == 0 or r.err.strip() or r.out.strip(), r


def test_cut_off():
    """An image cut off anywhere is refused or read as far as it goes; nothing makes it worse."""
    whole = image()
    for n in (0, 1, 4, 71, 72, 103, 104, 511, 512, 4096, 65535, 65536, 65537, 131072, 200000, 262143):
        write("b", whole[:n])
        for args in READERS:
            ends_well(img(*args, "-f", "qcow2", "b", status=None))
        assert read("b") == whole[:n]


def test_random_damage():
    """Bytes of header and tables changed at random: every reader ends, and a repair ends and is believed by a check."""
    r = random.Random(7)
    img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "a", "64k")
    img("bench", "-q", "-w", "-c", "20", "-s", "512", "-S", "2k", "--pattern", "3", "a")
    img("snapshot", "-c", "one", "a")
    whole = read("a")
    for i in range(40):
        data = bytearray(whole)
        for _ in range(r.randrange(1, 4)):
            at = r.randrange(104) if r.randrange(2) else r.randrange(len(data))
            data[at] = r.randrange(256)
        write("b", data)
        # -U: some name other files, and none may be waited for.
        for args in READERS:
            ends_well(img(*args, "-f", "qcow2", "-U", "b", status=None))
        assert read("b") == data
        fixed = img("check", "-f", "qcow2", "-r", "all", "b", status=None)
        ends_well(fixed)
        if fixed.status == 0:
            img("check", "-q", "-f", "qcow2", "b")


def test_long_and_empty():
    """A file of many clusters that nobody refers to costs what is in it, not what it could hold."""
    def check(*args, status):
        t = os.times()
        img("check", *args, "a", status=status)
        t = os.times().children_user - t.children_user
        assert t < 2, f"check {' '.join(args)}: {t:.1f} s of CPU"

    image("a", "1M", "-o", "cluster_size=512")
    try:
        os.truncate("a", 8 << 40)
    except OSError as e:
        raise Skip(f"no file of 8 TiB here: {e}")
    check(status=0)
    # The refcount table's entry is gone: everything is counted and written anew.
    with open("a", "r+b") as f:
        f.seek(48)
        table = int.from_bytes(f.read(8), "big")
        f.seek(table)
        f.write(bytes(8))
    check("-r", "all", status=0)
    check(status=0)
    # And a table of a million entries somewhere in the hole, which says that nothing has a refcount.
    with open("a", "r+b") as f:
        f.seek(48)
        f.write((4 << 40).to_bytes(8, "big") + (8 << 20 >> 9).to_bytes(4, "big"))
    check(status=2)
    check("-r", "all", status=0)
    check(status=0)


def test_missing_backing_file():
    image("base"), image("a", "1M", "-b", "base", "-F", "qcow2")
    os.rename("base", "away")
    for args in (["map"], ["bench", "-c", "1"], ["measure", "-O", "qcow2"], ["info", "--backing-chain"]):
        refused(*args, "a", says=["base", "backing file", "No such file"])
    refused("resize", "a", "+1M", says=["base", "backing file"])
    # What needs no backing file does not ask for it.
    for args in (["info"], ["check"], ["snapshot", "-c", "s"], ["snapshot", "-d", "s"]):
        img(*args, "a")
    write("base", b"QFI\xfb" + b"\xff" * 508)
    refused("map", "a", says="base")


def test_loops():
    image("a", "1M", "-u", "-b", "b", "-F", "qcow2"), image("b", "1M", "-u", "-b", "a", "-F", "qcow2")
    image("self", "1M", "-u", "-b", "self", "-F", "qcow2")
    for name in ("a", "self"):
        refused("info", "--backing-chain", name, says="endless loop")
        for args in (["map"], ["bench", "-c", "1"], ["measure"]):
            refused(*args, name, says="circle")
        refused("resize", name, "+1M", says=name)
        img("check", name)


def test_names():
    """Files whose names look like something else."""
    for name in ("-f", "a:b", "a,b", "with space", "\u00fc", "%s%n", "a'b"):
        img("create", "-q", "-f", "qcow2", "--", "./" + name, "1M")
        assert img("info", "--output=json", "--", "./" + name).json()["filename"] == "./" + name
        img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "./" + name, "--force", "top")
        assert img("info", "--output=json", "top").json()["backing-filename"] == "./" + name


def test_kinds():
    os.mkdir("dir"), os.mkfifo("fifo"), os.symlink("nowhere", "dangling"), os.symlink("a", "link")
    image()
    for name, says in (("dir", "directory"), ("fifo", "neither a regular file"), ("dangling", "does not exist"),
                       ("/dev/null", "neither a regular file")):
        refused("info", name, says=says)
        refused("create", "--force", name, "1M", says=name) if name != "dangling" else None
    assert img("info", "link").status == 0
    refused("create", "-f", "qcow2", "link", "1M", says="--force")


def test_rights():
    image()
    os.chmod("a", 0o444)
    if os.access("a", os.W_OK):
        # root may write anyway: look through a mount that nobody may write to.
        if run("sh", "-c", "mkdir m && mount --bind . m && mount -o remount,ro,bind m").status != 0:
            return
        try:
            refused("resize", "m/a", "+1M", says="read-only")
            refused("create", "m/b", "1M", says="m/b")
            img("info", "m/a")
        finally:
            run("umount", "-l", "m")
        return
    refused("resize", "a", "+1M", says="may not be written")
    img("info", "a")


@peer
def test_what_the_peer_makes_of_it():
    """Snapshots with names nobody expects; a full list."""
    image()
    for name in ("x" * 255, "\u00e4\u00f6", "a\tb", "-d"):
        qemu("snapshot", "-c", name, "a")
    names = [s["name"] for s in img("snapshot", "-l", "--output=json", "a").json()]
    assert names == ["x" * 255, "\u00e4\u00f6", "a\tb", "-d"], names
    for name in names:
        img("snapshot", "-d", name, "a")
    refused("snapshot", "-c", "x" * 256, "a", says="255")
    refused("snapshot", "-c", "", "a", says="255")
    qemu("check", "-q", "a")


if __name__ == "__main__":
    main()
