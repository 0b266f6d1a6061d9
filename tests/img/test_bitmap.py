# SPDX-License-Identifier: GPL-2.0-or-later
"""lodge img bitmap, next to qemu-img's."""
import os
import subprocess
import time

from rig import img, main, peer, qemu, qemu_io, refused, run


def bitmaps(tool, path):
    return tool("info", "--output=json", path).json()["format-specific"]["data"].get("bitmaps", [])


def alike(path):
    ours = bitmaps(img, path)
    assert ours == bitmaps(qemu, path), ours
    qemu("check", "-q", path)
    return {b["name"]: (b["granularity"], b["flags"]) for b in ours}


def dirty(path, name):
    """What changed by a bitmap, as qemu-img map tells of an NBD export of it."""
    sock = os.path.abspath("nbd.sock")
    p = subprocess.Popen(["qemu-nbd", "-k", sock, "-r", "-f", "qcow2", "-B", name, path])
    try:
        while not os.path.exists(sock):
            assert p.poll() is None
            time.sleep(0.02)
        r = qemu("map", "--output=json", "--image-opts", f"driver=nbd,path={sock},x-dirty-bitmap=qemu:dirty-bitmap:{name}")
        return [(x["start"], x["length"]) for x in r.json() if not x["data"]]
    finally:
        p.wait(10)


@peer
def test_verbs():
    img("create", "-q", "-f", "qcow2", "a", "1M")
    img("bitmap", "--add", "a", "one")
    img("bitmap", "--add", "-g", "4k", "--disable", "a", "two")
    assert alike("a") == {"one": (65536, ["auto"]), "two": (4096, [])}
    qemu("bitmap", "--add", "a", "three")
    qemu_io("a", "write -P 1 64k 64k")
    img("bitmap", "--disable", "a", "three")
    img("bitmap", "--enable", "a", "two")
    assert alike("a") == {"one": (65536, ["auto"]), "two": (4096, ["auto"]), "three": (65536, [])}
    img("bitmap", "--merge", "three", "--disable", "a", "two")
    img("bitmap", "--clear", "a", "one")
    qemu("bitmap", "--merge", "three", "a", "one")
    img("bitmap", "--remove", "a", "three")
    assert alike("a") == {"one": (65536, ["auto"]), "two": (4096, [])}
    for name in ("one", "two"):
        img("bitmap", "--remove", "a", name)
    assert alike("a") == {}
    assert img("check", "--output=json", "a").json().get("leaks") is None


@peer
def test_other_image():
    for name in ("a", "b"):
        qemu("create", "-q", "-f", "qcow2", name, "1M")
        qemu("bitmap", "--add", name, "m")
    img("bitmap", "--merge", "m", "-b", "b", "-F", "qcow2", "a", "m")
    qemu("create", "-q", "-f", "qcow2", "c", "2M")
    qemu("bitmap", "--add", "c", "m")
    refused("bitmap", "--merge", "m", "-b", "c", "a", "m", says="same size")


@peer
def test_resize():
    qemu("create", "-q", "-f", "qcow2", "a", "1M")
    qemu("bitmap", "--add", "a", "m")
    qemu("bitmap", "--add", "--disable", "-g", "4096", "a", "n")
    for size in ("5M", "64M", "1M"):
        img("resize", *(["--shrink"] if size == "1M" else []), "-q", "a", size)
        assert alike("a") == {"m": (65536, ["auto"]), "n": (4096, [])}
        qemu_io("a", "write -P 3 0 512k")


@peer
def test_left_in_use():
    """A bitmap that a crash left marked: shown, kept, and only to be removed."""
    qemu("create", "-q", "-f", "qcow2", "a", "1M")
    qemu("bitmap", "--add", "a", "m")
    run("qemu-io", "-f", "qcow2", "a", "-c", "write 0 64k", "-c", "flush", "-c", "sigraise 9")
    assert alike("a") == {"m": (65536, ["in-use", "auto"])}
    refused("bitmap", "--clear", "a", "m", says="can only be removed")
    refused("resize", "a", "2M", says="remove it first")
    img("bitmap", "--add", "a", "n")
    assert alike("a") == {"m": (65536, ["in-use", "auto"]), "n": (65536, ["auto"])}
    img("bitmap", "--remove", "a", "m")
    assert alike("a") == {"n": (65536, ["auto"])}


@peer
def test_converted():
    """convert --bitmaps: names, granularities, what records and what changed, as qemu-img's."""
    qemu("create", "-q", "-f", "qcow2", "a", "64M")
    qemu("bitmap", "--add", "a", "one")
    qemu("bitmap", "--add", "-g", "1M", "a", "two")
    qemu_io("a", "write -P 1 3M 200k", "write -P 1 63M 1M")
    qemu("bitmap", "--disable", "a", "two")
    img("convert", "--bitmaps", "-O", "qcow2", "a", "ours")
    qemu("convert", "--bitmaps", "-O", "qcow2", "a", "theirs")
    assert alike("ours") == alike("theirs") == {"one": (65536, ["auto"]), "two": (1 << 20, [])}
    for name in ("one", "two"):
        assert dirty("ours", name) == dirty("theirs", name) == dirty("a", name) != []
    for tool in (img, qemu):
        tool("convert", "-O", "qcow2", "a", f"without-{tool.__name__}")
        assert bitmaps(img, f"without-{tool.__name__}") == []
    for o in ("", "cluster_size=4k", "cluster_size=2M", "compat=0.10"):
        more = ["-o", o] if o else []
        assert img("measure", "--output=json", "-O", "qcow2", *more, "a").json() == \
            qemu("measure", "--output=json", "-O", "qcow2", *more, "a").json()
    refused("convert", "--bitmaps", "-O", "raw", "a", "b", says="cannot hold bitmaps")
    refused("convert", "--bitmaps", "-O", "qcow2", "-o", "compat=0.10", "a", "b", says="cannot hold bitmaps")
    refused("convert", "--bitmaps", "-f", "raw", "-O", "qcow2", "a", "b", says="holds no bitmaps")
    refused("convert", "--bitmaps", "-O", "qcow2", "a", "a", "b", says="one image")
    refused("convert", "--skip-broken-bitmaps", "-O", "qcow2", "a", "b", says="goes with --bitmaps")
    assert not os.path.exists("b")
    run("qemu-io", "-f", "qcow2", "a", "-c", "write 0 64k", "-c", "flush", "-c", "sigraise 9")
    img("bitmap", "--add", "-g", "1M", "a", "new")
    refused("convert", "--bitmaps", "-O", "qcow2", "a", "b", says="says nothing any more")
    r = img("convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "a", "b")
    assert "'one'" in r.err and "'two'" in r.err, r
    assert alike("b") == {"new": (1 << 20, ["auto"])}


@peer
def test_rebase_keeps_them():
    qemu("create", "-q", "-f", "qcow2", "base", "1M")
    qemu("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "a", "1M")
    img("bitmap", "--add", "a", "m")
    img("rebase", "-q", "-u", "-b", "base", "-F", "qcow2", "a")
    assert alike("a") == {"m": (65536, ["auto"])}
    img("rebase", "-q", "-b", "", "a")
    assert alike("a") == {"m": (65536, ["auto"])}


def test_refused():
    img("create", "-q", "-f", "qcow2", "a", "1M")
    img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old", "1M")
    img("create", "-q", "-f", "raw", "raw", "1M")
    img("bitmap", "--add", "a", "m")
    refused("bitmap", "a", "m", says="nothing to do")
    refused("bitmap", "--add", "a", "m", says="already")
    refused("bitmap", "--add", "-g", "3k", "a", "n", says="power of two")
    refused("bitmap", "--add", "-g", "256", "a", "n", says="power of two")
    refused("bitmap", "--clear", "-g", "4k", "a", "m", says="-g goes with --add")
    refused("bitmap", "--enable", "--disable", "a", "m", says="either")
    refused("bitmap", "--remove", "a", "n", says="no bitmap 'n'")
    refused("bitmap", "--add", "a", "x" * 1024, says="1 to 1023 bytes")
    refused("bitmap", "--add", "old", "m", says="version 2")
    refused("bitmap", "--add", "raw", "m", says="holds no bitmaps")


if __name__ == "__main__":
    main()
