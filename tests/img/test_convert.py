# SPDX-License-Identifier: GPL-2.0-or-later
"""convert, next to qemu-img's, both ways."""
import os
import random

from rig import img, main, peer, qemu, qemu_io, read, refused, run, write, LODGE

M = 1 << 20


def disk(seed, size=5 * M + 1536):
    """A sparse disk: random data, text and zeros in runs of all lengths."""
    r = random.Random(seed)
    out = bytearray(size)
    at = 0
    while at < size:
        n = min(size - at, r.choice([512, 4096, 5 * 512, 65536, 200 * 1024, 700 * 1024]))
        kind = r.randrange(4)
        if kind == 0:
            out[at:at + n] = r.randbytes(n)
        elif kind == 1:
            out[at:at + n] = (b"lodge img convert %d\n" % r.randrange(1000) * (n // 20 + 1))[:n]
        at += n
    return bytes(out)


def make(name, seed, size=5 * M + 1536):
    data = disk(seed, size)
    with open(name, "wb") as f:
        for at in range(0, size, 65536):
            piece = data[at:at + 65536]
            if any(piece):
                f.seek(at)
                f.write(piece)
        f.truncate(size)
    return data


def identical(a, b, fa="raw", fb="qcow2"):
    r = qemu("compare", "-f", fa, "-F", fb, a, b, status=None)
    assert r.status == 0, r
    if fb == "qcow2":
        qemu("check", "-q", "-f", "qcow2", b)


SHAPES = [
    "", "compat=0.10", "cluster_size=512", "cluster_size=512,refcount_bits=64", "cluster_size=4k", "cluster_size=2M", "refcount_bits=1", "refcount_bits=64",
    "compression_type=zstd", "lazy_refcounts=on", "extended_l2=on", "extended_l2=on,cluster_size=16k",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full,cluster_size=4k", "data_file=d.raw",
    "data_file=d.raw,data_file_raw=on",
]


@peer
def test_shapes():
    """Every shape of target, in many ways of writing; and every shape of source."""
    for i, o in enumerate(SHAPES):
        make("src.raw", i)
        ways = [[], ["-W"], ["-S", "0"], ["-S", "64k", "-m", "1"], ["-m", "32", "-W", "--verify"]]
        if "data_file" not in o:
            ways += [["-c"], ["-c", "-W", "-m", "16"]]
        for way in random.Random(i).sample(ways, 3):
            for f in ("a.qcow2", "d.raw"):
                if os.path.exists(f):
                    os.unlink(f)
            img("convert", "-f", "raw", "-O", "qcow2", *(["-o", o] if o else []), *way, "src.raw", "a.qcow2")
            identical("src.raw", "a.qcow2")
            img("convert", "--force", "-f", "qcow2", "a.qcow2", "b.raw", *way[:2] if way[:1] != ["-c"] else [])
            assert read("b.raw") == read("src.raw"), (o, way)
        for f in ("q.qcow2", "d.raw"):
            if os.path.exists(f):
                os.unlink(f)
        compressed = ["-c"] if "data_file" not in o and "prealloc" not in o and i % 2 else []
        qemu("convert", "-f", "raw", "-O", "qcow2", *compressed, *(["-o", o] if o else []), "src.raw", "q.qcow2")
        img("convert", "--force", "-f", "qcow2", "-O", "qcow2", "--verify", "q.qcow2", "c.qcow2")
        identical("src.raw", "c.qcow2")


@peer
def test_holes_stay_holes():
    """What is sparse stays so, and zeros in data become holes."""
    with open("src.raw", "wb") as f:
        f.truncate(64 * M)
        f.seek(10 * M)
        f.write(b"x" * M + bytes(2 * M) + b"y" * 4096)
    for out, fmt in (("a.raw", "raw"), ("a.qcow2", "qcow2")):
        img("convert", "-O", fmt, "-f", "raw", "src.raw", out)
        assert os.stat(out).st_blocks * 512 < 2 * M, os.stat(out)
    img("convert", "--force", "-S", "0", "-f", "raw", "src.raw", "b.raw")
    assert os.stat("b.raw").st_blocks * 512 >= 3 * M
    assert read("b.raw") == read("src.raw") == read("a.raw")


@peer
def test_chain_of_5():
    """Five layers, each with data, zeros over data, and compressed clusters; longer at the top."""
    r = random.Random(5)
    data = bytearray(make("base.raw", 7, 4 * M))
    below, fmt = "base.raw", "raw"
    for i in range(5):
        top = f"l{i}.qcow2"
        o = r.choice(["cluster_size=4k", "cluster_size=64k", "extended_l2=on", "compat=0.10"])
        img("create", "-q", "-f", "qcow2", "-o", o, "-b", below, "-F", fmt, top, *(["6M"] if i == 4 else []))
        cmds = []
        for _ in range(12):
            at, n = r.randrange(0, 4 * M - 300000, 512), r.randrange(512, 300000, 512)
            if r.randrange(3):
                cmds.append(f"write -P {i + 65} {at} {n}")
                data[at:at + n] = bytes([i + 65]) * n
            else:
                cmds.append(f"write -z {at} {n}")
                data[at:at + n] = bytes(n)
        qemu_io(top, *cmds)
        below, fmt = top, "qcow2"
    data += bytes(2 * M)
    img("convert", "-f", "qcow2", "l4.qcow2", "flat.raw")
    assert read("flat.raw") == data
    img("convert", "-f", "qcow2", "-O", "qcow2", "-c", "l4.qcow2", "flat.qcow2")
    identical("flat.raw", "flat.qcow2")
    # The top alone, on the same backing file.
    img("convert", "-f", "qcow2", "-O", "qcow2", "-B", "l3.qcow2", "-F", "qcow2", "l4.qcow2", "again.qcow2")
    identical("flat.raw", "again.qcow2")
    assert os.stat("again.qcow2").st_size < os.stat("flat.qcow2").st_size * 40
    assert img("info", "--output=json", "again.qcow2").json()["backing-filename"] == "l3.qcow2"


@peer
def test_snapshots():
    qemu("create", "-q", "-f", "qcow2", "a.qcow2", "4M")
    qemu_io("a.qcow2", "write -P 1 0 1M")
    qemu("snapshot", "-c", "one", "a.qcow2")
    qemu_io("a.qcow2", "write -P 2 512k 1M", "discard 0 64k")
    qemu("snapshot", "-c", "two", "a.qcow2")
    qemu_io("a.qcow2", "write -P 3 0 4M")
    for name, id in (("one", "1"), ("two", "2")):
        for how in (name, id, "snapshot.name=" + name, "snapshot.id=" + id):
            img("convert", "--force", "-l", how, "-f", "qcow2", "a.qcow2", "ours.raw")
            qemu("convert", "-l", name, "-f", "qcow2", "a.qcow2", "theirs.raw")
            assert read("ours.raw") == read("theirs.raw")
    refused("convert", "-l", "three", "-f", "qcow2", "a.qcow2", "c.raw", says="no snapshot 'three'")
    assert not os.path.exists("c.raw")


@peer
def test_concatenated():
    x, y, z = (make(n, s, size) for n, s, size in (("x.raw", 1, 700 * 512), ("y.raw", 2, M), ("z.raw", 3, 333 * 512)))
    qemu("convert", "-f", "raw", "-O", "qcow2", "y.raw", "y.qcow2")
    img("convert", "x.raw", "y.qcow2", "z.raw", "all.raw", "--verify")
    assert read("all.raw") == x + y + z
    img("convert", "-f", "raw", "-O", "qcow2", "-c", "x.raw", "y.raw", "z.raw", "all.qcow2")
    identical("all.raw", "all.qcow2")


@peer
def test_into_existing():
    """-n: everything is what the source has, nothing else; zeros too."""
    make("src.raw", 4)
    size = os.stat("src.raw").st_size // 512 * 512 + (512 if os.stat("src.raw").st_size % 512 else 0)
    img("create", "-q", "-f", "qcow2", "t.qcow2", str(size))
    qemu_io("t.qcow2", f"write -P 9 0 {size}")
    refused("convert", "-f", "raw", "-O", "qcow2", "src.raw", "t.qcow2", says=["exists", "--force"])
    img("convert", "-n", "-f", "raw", "-O", "qcow2", "src.raw", "t.qcow2")
    identical("src.raw", "t.qcow2")
    img("create", "-q", "-f", "qcow2", "small.qcow2", "1M")
    refused("convert", "-n", "-f", "raw", "-O", "qcow2", "src.raw", "small.qcow2", says=["too few", "enlarge"])
    img("create", "-q", "-f", "qcow2", "z.qcow2", str(size))
    img("convert", "-n", "--target-is-zero", "-f", "raw", "-O", "qcow2", "src.raw", "z.qcow2")
    identical("src.raw", "z.qcow2")
    # A larger raw file keeps its rest.
    write("big.raw", b"\x77" * (size + M))
    img("convert", "-n", "-f", "raw", "src.raw", "big.raw")
    assert read("big.raw") == read("src.raw").ljust(size, b"\0") + b"\x77" * M


def test_nothing_is_destroyed():
    make("a.raw", 1, M)
    make("b.raw", 2, M)
    before = read("b.raw")
    refused("convert", "-f", "raw", "a.raw", "b.raw", says=["exists", "--force"])
    refused("convert", "-f", "raw", "--force", "a.raw", "a.raw", says="what is read from")
    os.link("a.raw", "link.raw")
    refused("convert", "-f", "raw", "--force", "a.raw", "link.raw", says="what is read from")
    refused("convert", "-f", "raw", "-n", "a.raw", "link.raw", says="what is read from")
    img("create", "-q", "-f", "qcow2", "-b", "b.raw", "-F", "raw", "o.qcow2")
    refused("convert", "-f", "qcow2", "--force", "o.qcow2", "b.raw", says="what is read from")
    assert read("b.raw") == before
    img("convert", "-f", "raw", "--force", "a.raw", "b.raw")
    assert read("b.raw") == read("a.raw")


def test_bad_options():
    make("a.raw", 1, M)
    for args, says in [
        (["-c", "a.raw", "x"], "cannot be compressed"), (["-S", "1000", "a.raw", "x"], "multiple of 512"),
        (["-m", "0", "a.raw", "x"], "at least one"), (["-m", "65", "a.raw", "x"], "more than 64"),
        (["--target-is-zero", "a.raw", "x"], "-n"), (["-n", "-o", "size=4M", "a.raw", "x"], "-o"),
        (["-O", "qcow", "a.raw", "x"], "did you mean 'qcow2'"), (["-n", "a.raw", "x"], "does not exist"),
        (["-l", "s", "a.raw", "x"], "snapshots"), (["-O", "qcow2", "-B", "a.raw", "a.raw", "x"], "-F"),
        (["-o", "size=512", "a.raw", "x"], "fewer"), (["a.raw"], "missing"), (["gone.raw", "x"], "does not exist"),
        (["-O", "qcow2", "-o", "cluster_sise=4k", "a.raw", "x"], "cluster_size"),
    ]:
        refused("convert", "-f", "raw", *args, says=says)
        assert not os.path.exists("x"), args


def test_json_and_progress():
    make("a.raw", 1, M)
    j = img("convert", "--output=json", "-p", "--verify", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2").json()
    assert j["copied"] == M and j["verified"] is True and j["format"] == "qcow2" and 0 < j["data"] <= M, j
    r = img("convert", "-p", "-f", "raw", "-O", "qcow2", "a.raw", "b.qcow2")
    assert "(100.00/100%)" in r.out, repr(r.out)
    assert img("convert", "-p", "-q", "-f", "raw", "a.raw", "c.raw").out == ""


def test_no_room():
    """A target that cannot be completed is not left behind."""
    make("a.raw", 1, 8 * M)
    r = run("sh", "-c", f"ulimit -f 2048; trap '' XFSZ; exec {LODGE} img convert -f raw -S 0 -O qcow2 a.raw x.qcow2")
    assert r.status == 1 and "x.qcow2" in r.err, r
    assert not os.path.exists("x.qcow2")
    # What was there before stays, as far as it got; the message says so.
    img("create", "-q", "-f", "qcow2", "t.qcow2", "8M")
    r = run("sh", "-c", f"ulimit -f 2048; trap '' XFSZ; exec {LODGE} img convert -n -f raw -S 0 -O qcow2 a.raw t.qcow2")
    assert r.status == 1 and "not complete" in r.err, r


if __name__ == "__main__":
    main()
