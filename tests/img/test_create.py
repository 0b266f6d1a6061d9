# SPDX-License-Identifier: GPL-2.0-or-later
"""create and info, next to qemu-img's."""
import os

from rig import img, main, peer, qemu, qemu_io, read, refused, same, write

SHAPES = [
    "", "compat=0.10", "compat=v3", "cluster_size=512", "cluster_size=2M", "refcount_bits=1", "refcount_bits=64",
    "compression_type=zstd", "lazy_refcounts=on", "extended_l2=on", "extended_l2=on,cluster_size=16k",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full,cluster_size=4k",
]


@peer
def test_shapes():
    """Every option gives the image qemu-img makes of it, as either's info sees it."""
    for i, o in enumerate(SHAPES):
        a, b = f"a{i}.qcow2", f"b{i}.qcow2"
        img("create", "-q", "-f", "qcow2", *(["-o", o] if o else []), a, "10M")
        qemu("create", "-q", "-f", "qcow2", *(["-o", o] if o else []), b, "10M")
        qemu("check", "-q", a)
        ours, theirs = img("info", "--output=json", a).json(), qemu("info", "--output=json", a).json()
        same(ours, theirs)
        same(ours, img("info", "--output=json", b).json(), without=["filename", "actual-size"])
        assert img("info", a).out == qemu("info", a).out, (img("info", a), qemu("info", a))


@peer
def test_backing():
    """Chains, with their names and formats; the size is the backing file's."""
    os.mkdir("sub")
    img("create", "-q", "-f", "raw", "sub/base.raw", "1.5M")
    img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "sub/mid.qcow2")
    img("create", "-q", "-f", "qcow2", "-b", "sub/mid.qcow2", "-F", "qcow2", "top.qcow2", "3M")
    ours = img("info", "--backing-chain", "--output=json", "top.qcow2")
    theirs = qemu("info", "--backing-chain", "--output=json", "top.qcow2")
    same(ours.json(), theirs.json())
    assert [j["virtual-size"] for j in ours.json()] == [3 << 20, 1536 << 10, 1536 << 10]
    assert img("info", "--backing-chain", "top.qcow2").out == qemu("info", "--backing-chain", "top.qcow2").out


@peer
def test_snapshots_shown():
    qemu("create", "-q", "-f", "qcow2", "a.qcow2", "4M")
    for s in ("one", "two three", "z\u00fcrich"):
        qemu("snapshot", "-c", s, "a.qcow2")
    same(img("info", "--output=json", "a.qcow2").json(), qemu("info", "--output=json", "a.qcow2").json(), without=["icount"])


@peer
def test_names_for_terminals():
    """What an image calls things does not move the cursor of who looks at it; in JSON it is all there."""
    name = "x\x1b[2Jy\n\u009bz"
    qemu("create", "-q", "-f", "qcow2", "a.qcow2", "4M")
    qemu("snapshot", "-c", name, "a.qcow2")
    qemu("create", "-q", "-f", "qcow2", "-u", "-b", name, "-F", "raw", "b.qcow2", "4M")
    for args in (["info", "a.qcow2"], ["snapshot", "-l", "a.qcow2"], ["info", "b.qcow2"]):
        out = img(*args).out
        assert "x?[2Jy?" in out and "\x1b" not in out and "\u009b" not in out and "\ny" not in out, out
    assert img("info", "--output=json", "a.qcow2").json()["snapshots"][0]["name"] == name
    assert img("info", "--output=json", "b.qcow2").json()["backing-filename"] == name


@peer
def test_dirty_and_corrupt_shown():
    qemu("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "a.qcow2", "4M")
    for flags in (1, 2, 3):
        write("a.qcow2", bytes([flags]), at=79)
        same(img("info", "--output=json", "a.qcow2").json(), qemu("info", "--output=json", "a.qcow2").json())
        assert img("info", "a.qcow2").out == qemu("info", "a.qcow2").out


@peer
def test_data_file():
    img("create", "-q", "-f", "qcow2", "-o", "data_file=d.raw,data_file_raw=on", "a.qcow2", "4M")
    qemu_io("a.qcow2", "write -P 7 1M 64k")
    assert read("d.raw")[1 << 20:(1 << 20) + 65536] == b"\7" * 65536
    same(img("info", "--output=json", "a.qcow2").json(), qemu("info", "--output=json", "a.qcow2").json())


def test_sizes():
    for text, size in [("512", 512), ("1000", 1024), ("1k", 1024), ("1.5K", 1536), ("2M", 2 << 20), ("0x10000", 65536),
                       ("1.25G", 1280 << 20), ("3T", 3 << 40), ("2048b", 2048)]:
        img("create", "-q", "-f", "qcow2", "--force", "a.qcow2", text)
        got = img("info", "--output=json", "a.qcow2").json()["virtual-size"]
        assert got == size, (text, got)
    for text in ("1X", "abc", "-1", "1.5", "1.G", "1kk", "9E", "18446744073709551616", "", " 1"):
        refused("create", "-f", "raw", "--", "bad", text, says="size")
        assert not os.path.exists("bad")


def test_nothing_is_lost():
    """What exists is not overwritten by accident, and never by an image that needs it."""
    write("a", b"precious")
    refused("create", "-f", "qcow2", "a", "1M", says=["8 bytes", "--force"])
    assert read("a") == b"precious"
    img("create", "-q", "-f", "qcow2", "--force", "a", "1M")
    write("empty", b"")
    img("create", "-q", "-f", "qcow2", "empty", "1M")
    img("create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "b")
    before = read("a")
    refused("create", "--force", "-f", "qcow2", "-b", "b", "-F", "qcow2", "a", says="its own backing file")
    os.link("a", "hard")
    refused("create", "--force", "-f", "qcow2", "-b", "b", "-F", "qcow2", "hard", says="its own backing file")
    write("data", b"x" * 512)
    refused("create", "-f", "qcow2", "-o", "data_file=data", "c", "1M", says=["data", "--force"])
    assert read("a") == before and read("data") == b"x" * 512 and not os.path.exists("c")


def test_bad_options():
    for o, says in [("clustersize=4k", "did you mean 'cluster_size'"), ("cluster_size=3k", "power of two"),
                    ("cluster_size=0", "power of two"), ("refcount_bits=3", "refcounts"), ("refcount_bits=0", "1, 2, 4"),
                    ("compat=1.2", "0.10, v2, 1.1, v3"), ("extended_l2=maybe", "on or off"),
                    ("compat=0.10,refcount_bits=1", "version 2"), ("preallocation=some", "metadata"),
                    ("extended_l2=on,cluster_size=4k", "16K"), ("=x", "no name")]:
        refused("create", "-f", "qcow2", "-o", o, "a", "1M", says=says)
        assert not os.path.exists("a"), o
    refused("create", "-f", "qcow", "a", "1M", says="did you mean 'qcow2'")
    refused("create", "-f", "qcow2", "a", says="how large")
    refused("create", "-f", "qcow2", "-b", "x", "a", says="-F")
    refused("create", "-f", "qcow2", "-F", "raw", "a", "1M", says="-b")
    refused("create", "-f", "qcow2", "-b", "x", "-F", "raw", "a", says=["backing file", "'x'"])
    refused("create", "-f", "qcow2", "a", "1M", "b", says="'b' is one too many")
    refused("create", says="usage")
    refused("creat", says="did you mean 'create'")
    refused("create", "--froce", "a", says="did you mean 'force'")
    refused("create", "-f", says="needs a value")
    refused("create", "-f", "qcow2", "nofolder/a", "1M", says="nofolder/a")
    refused("create", "--object", "secret,id=a,data=x", "a", "1M", says="file")


def test_consent():
    """Files that only an image names are opened in its folder, elsewhere only if the user says so."""
    os.mkdir("in"), os.mkdir("out")
    img("create", "-q", "-f", "raw", "out/base", "1M")
    img("create", "-q", "-f", "qcow2", "-b", "../out/base", "-F", "raw", "in/a")
    img("info", "in/a")
    refused("info", "--backing-chain", "in/a", says=["in/../out/base", "--backing on"])
    assert "out/base" in img("info", "--backing-chain", "--backing", "on", "in/a").out
    img("create", "-q", "-f", "qcow2", "-b", "a", "-F", "qcow2", "in/b")
    refused("info", "--backing-chain", "--backing", "off", "in/b", says="in/a")
    refused("info", "--backing", "perhaps", "in/b", says="folder, on, off")


def test_bad_images():
    refused("info", "missing", says="'missing' does not exist")
    refused("info", ".", says="directory")
    write("short", b"QFI\xfb\0\0\0\3")
    refused("info", "short", says="short")
    write("text", b"hello" * 1000)
    assert img("info", "--output=json", "text").json()["format"] == "raw"
    refused("info", "-f", "qcow2", "text", says="not a qcow2 image")
    img("create", "-q", "-f", "qcow2", "-u", "-b", "b", "-F", "qcow2", "a", "1M")
    refused("info", "--backing-chain", "a", says=["'b'", "backing file"])
    img("create", "-q", "-f", "qcow2", "-u", "-b", "a", "-F", "qcow2", "b", "1M")
    refused("info", "--backing-chain", "a", says="endless loop")


def test_image_opts():
    img("create", "-q", "-f", "qcow2", "a,b", "1M")
    for o in ("driver=qcow2,file.filename=a,,b", "file.filename=a,,b", "driver=qcow2,file.driver=file,file.filename=a,,b",
              "file=a,,b,cache.direct=off"):
        assert img("info", "--image-opts", "--output=json", o).json()["format"] == "qcow2"
    assert img("info", "--image-opts", "--output=json", "driver=raw,file=a,,b").json()["format"] == "raw"
    refused("info", "--image-opts", "file.filenam=a", says="did you mean 'file.filename'")
    refused("info", "--image-opts", "driver=qcow2", says="file.filename")
    refused("info", "--image-opts", "-f", "raw", "file=a", says="driver=")


def test_locked():
    """An image in use is named with who uses it; -U looks nevertheless."""
    import fcntl
    import struct
    img("create", "-q", "-f", "qcow2", "a", "1M")
    with open("a", "r+b") as f:
        # What a QEMU that writes holds: byte 101, shared (lock), and byte 201 (nobody else may write).
        for byte in (101, 201):
            fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, byte, 1, 0))
        refused("info", "a", says=["in use by process", str(os.getpid())])
        img("info", "-U", "a")
        refused("create", "--force", "-f", "qcow2", "a", "1M", says=["in use by process", str(os.getpid())])
    img("info", "a")


def test_untrusted_data_file():
    """A data file elsewhere is opened with consent only."""
    os.mkdir("in"), os.mkdir("out")
    img("create", "-q", "-f", "qcow2", "-o", "data_file=../out/d", "in/a", "1M")
    refused("info", "in/a", says=["in/../out/d", "--backing on"])
    img("info", "--backing", "on", "in/a")


if __name__ == "__main__":
    main()
