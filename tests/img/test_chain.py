# SPDX-License-Identifier: GPL-2.0-or-later
"""commit, rebase, compare and dd: random chains against a model and against qemu-img."""
import os
import random

from rig import img, main, peer, qemu, qemu_io, read, refused, run, write, LODGE, QEMU, Skip

M = 1 << 20


class Chain:
    """base.raw and overlays l0.qcow2 ... on it, each with random writes; self.data[i] is what layer i shows."""
    def __init__(self, seed, layers, prefix=""):
        self.r = r = random.Random(seed)
        self.names, self.fmts = [prefix + "base.raw"], ["raw"]
        self.sizes = [r.randrange(M, 3 * M, 512)]
        self.data = [self.pattern(self.sizes[0])]
        write("base.data", self.data[0])
        run("cp", "--sparse=" + r.choice(["always", "never"]), "base.data", self.names[0])
        for i in range(layers):
            size = r.choice([self.sizes[-1], self.sizes[-1], r.randrange(M, 3 * M, 512)])
            o = r.choice(["cluster_size=512", "cluster_size=4k", "cluster_size=64k", "cluster_size=2M", "extended_l2=on",
                          "compat=0.10,cluster_size=32k"])
            name = f"{prefix}l{i}.qcow2"
            qemu("create", "-q", "-f", "qcow2", "-o", o, "-b", self.names[-1], "-F", self.fmts[-1], name, str(size))
            below = self.data[-1][:size].ljust(size, b"\0")
            self.names.append(name)
            self.fmts.append("qcow2")
            self.sizes.append(size)
            self.data.append(self.scribble(name, below))

    def pattern(self, size):
        n = self.r.choice([512, 8192, 65536])
        return b"".join(self.r.choice([bytes(n), self.r.randbytes(16) * (n // 16)]) for _ in range(size // n + 1))[:size]

    def scribble(self, name, data):
        data, cmds = bytearray(data), []
        for _ in range(self.r.randrange(1, 9)):
            at = self.r.randrange(0, len(data), 512)
            n = min(self.r.randrange(512, 200000, 512), len(data) - at)
            byte = self.r.randrange(0, 40)
            cmds.append(f"write -z {at} {n}" if byte < 10 else f"write -P {byte} {at} {n}")
            data[at:at + n] = bytes([0 if byte < 10 else byte]) * n
        qemu_io(name, *cmds)
        return bytes(data)

    def shows(self, i, data):
        img("convert", "--force", "-f", self.fmts[i], "-O", "raw", self.names[i], "shown.raw")
        assert read("shown.raw") == data, self.names[i]

    def check(self, i):
        if self.fmts[i] == "qcow2":
            qemu("check", "-q", self.names[i])


@peer
def test_commit():
    for seed in range(6):
        c = Chain(seed, 3, f"s{seed}-")
        r = random.Random(seed + 1000)
        depth = r.choice([1, 1, 2, 3])
        base = 3 - depth
        args = [[], ["-d"]][r.randrange(2)]
        if depth > 1 or r.randrange(2):
            args = args + ["-b", c.names[base]]
        out = img("commit", *args, "-f", "qcow2", c.names[3])
        assert out.out == "Image committed.\n", out
        # The base has what the top shows, and keeps what it had beyond the top's end.
        want = c.data[3] + c.data[base][len(c.data[3]):]
        c.shows(base, want)
        c.shows(3, c.data[3])
        for i in range(4):
            c.check(i)
        status = img("map", "--output=json", "-f", "qcow2", c.names[3]).json()
        if depth == 1 and "-d" not in args:
            assert not any(x["depth"] == 0 and x.get("present", True) and x["length"] and not x["zero"] for x in status), status


@peer
def test_commit_refused():
    c = Chain(50, 2)
    refused("commit", "-b", "nothing.qcow2", c.names[2], says="not a backing file")
    refused("commit", "-f", "raw", c.names[0], says="no backing file")
    qemu("snapshot", "-c", "s", c.names[2])
    before = read(c.names[1])
    refused("commit", c.names[2], says=["snapshots", "-d"])
    assert read(c.names[1]) == before
    img("commit", "-d", c.names[2])
    c.shows(1, c.data[2] + c.data[1][len(c.data[2]):])
    j = img("commit", "-d", "--output=json", c.names[2]).json()
    assert j["base"].endswith(c.names[1]) and j["emptied"] is False, j


@peer
def test_rebase():
    """To another chain, up and down the own one, and to none; the disk stays, whatever the new base has."""
    for seed in range(10):
        c, other = Chain(seed, 3, f"a{seed}-"), Chain(seed + 500, 1, f"b{seed}-")
        to, fmt = [(c.names[0], "raw"), (c.names[1], "qcow2"), (other.names[1], "qcow2"), (other.names[0], "raw"), ("", None)][seed % 5]
        img("rebase", "-t", "unsafe", "-f", "qcow2", "-b", to, *(["-F", fmt] if fmt else []), c.names[3])
        c.shows(3, c.data[3])
        c.check(3)
        info = img("info", "--output=json", c.names[3]).json()
        assert info.get("backing-filename", "") == to and info.get("backing-filename-format") == fmt, info
        assert read("shown.raw") == c.data[3]
        qemu("convert", "-f", "qcow2", "-O", "raw", c.names[3], "theirs.raw")
        assert read("theirs.raw") == c.data[3]


@peer
def test_rebase_copies_only_what_differs():
    qemu("create", "-q", "-f", "qcow2", "a.qcow2", "64M")
    qemu_io("a.qcow2", "write -P 1 0 32M")
    qemu("convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "b.raw")
    write("b.raw", b"other", at=5 * M)
    qemu("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2")
    img("rebase", "-b", "b.raw", "-F", "raw", "top.qcow2")
    assert os.stat("top.qcow2").st_size < M
    qemu("compare", "-q", "a.qcow2", "top.qcow2")
    # Unsafe: the name alone, even of what is not there.
    img("rebase", "-u", "-b", "/gone/x.raw", "-F", "raw", "top.qcow2")
    assert img("info", "--output=json", "top.qcow2").json()["backing-filename"] == "/gone/x.raw"
    refused("rebase", "-b", "b.raw", "-F", "raw", "top.qcow2", says=["/gone/x.raw", "-u"])
    img("rebase", "-u", "-b", "b.raw", "-F", "raw", "top.qcow2")
    qemu("compare", "-q", "a.qcow2", "top.qcow2")


@peer
def test_rebase_refused():
    c = Chain(60, 3)
    refused("rebase", c.names[3], says="-b")
    refused("rebase", "-b", "x", c.names[3], says="-F")
    refused("rebase", "-b", "x", "-F", "raw", c.names[3], says=["new backing file", "x"])
    refused("rebase", "-b", c.names[3], "-F", "qcow2", c.names[1], says="circle")
    refused("rebase", "-u", "-b", c.names[1], "-F", "qcow2", c.names[1], says="its own")
    refused("rebase", "-f", "raw", "-b", "", c.names[0], says="not a qcow2 image")
    for i in range(4):
        c.shows(i, c.data[i])


def starved(*args):
    """lodge img ARGS, with no file larger than 1 MiB."""
    r = run("sh", "-c", "ulimit -f 2048; trap '' XFSZ; exec \"$0\" img \"$@\"", LODGE, *args)
    assert r.status == 1 and "cannot be" in r.err, r


@peer
def test_no_room():
    """What cannot be completed leaves the overlay as it was, and what was interrupted can be repeated."""
    write("base.raw", random.Random(1).randbytes(4 * M))
    write("other.raw", random.Random(2).randbytes(4 * M))
    qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2")
    qemu_io("top.qcow2", "write -P 7 1M 64k")
    want = read("base.raw")[:M] + bytes([7]) * 65536 + read("base.raw")[M + 65536:]

    def still():
        img("convert", "--force", "-f", "qcow2", "top.qcow2", "shown.raw")
        assert read("shown.raw") == want
        assert qemu("check", "-q", "top.qcow2", status=None).status in (0, 3)
    starved("rebase", "-b", "other.raw", "-F", "raw", "top.qcow2")
    still()
    assert img("info", "--output=json", "top.qcow2").json()["backing-filename"] == "base.raw"
    img("rebase", "-b", "other.raw", "-F", "raw", "top.qcow2")
    still()
    qemu("create", "-q", "-f", "qcow2", "mid.qcow2", "4M")
    img("rebase", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2")
    still()
    starved("commit", "top.qcow2")
    still()
    img("commit", "top.qcow2")
    still()
    assert os.stat("top.qcow2").st_blocks * 512 < M
    qemu("compare", "-q", "shown.raw", "mid.qcow2")


def both(*args):
    """compare here and there: the same words and status; the words."""
    ours, theirs = img("compare", *args, status=None), qemu("compare", *args, status=None)
    assert ours.status == theirs.status, (ours, theirs)
    if ours.status < 2:
        assert sorted(ours.out.splitlines()) == sorted(theirs.out.splitlines()), (ours, theirs)
    return ours


@peer
def test_compare():
    r = random.Random(1)
    for seed in range(5):
        c = Chain(seed + 70, 2, f"c{seed}-")
        qemu("convert", "-f", "qcow2", "-O", "qcow2", c.names[2], f"x{seed}.qcow2")
        args = ["-f", "qcow2", "-F", "qcow2", c.names[2], f"x{seed}.qcow2"]
        assert both(*args).status == 0
        assert img("compare", "--output=json", *args).json() == {"identical": True}
        at = r.randrange(0, c.sizes[2], 512)
        qemu_io(f"x{seed}.qcow2", f"write -P 77 {at} 512")
        both(*args)
        j = img("compare", "--output=json", *args, status=1).json()
        assert j == {"identical": False, "reason": "content", "offset": at}, j
        # Another length: the same if the rest is zeros.
        qemu("resize", "-q", "-f", "qcow2", f"x{seed}.qcow2", "+1M")
        both(*args)
        both("-s", *args)
        both("-q", *args)
    write("a.raw", bytes(M))
    write("b.raw", bytes(M + 4096))
    assert both("-f", "raw", "-F", "raw", "a.raw", "b.raw").status == 0
    assert both("-s", "-f", "raw", "-F", "raw", "a.raw", "b.raw").status == 1
    write("b.raw", b"x", at=M + 700)
    assert both("-f", "raw", "-F", "raw", "a.raw", "b.raw").status == 1
    assert both("-f", "raw", "-F", "raw", "a.raw", "gone.raw").status == 2
    assert both("-f", "raw", "-F", "qcow2", "a.raw", "b.raw").status == 2
    img("compare", "-F", "raw", "-p", "a.raw", status=2)


def test_dd():
    data = random.Random(3).randbytes(M)
    write("a.raw", data)
    img("dd", "-f", "raw", "if=a.raw", "of=b.raw")
    assert read("b.raw") == data
    img("dd", "-f", "raw", "if=a.raw", "of=c.raw", "bs=4k", "skip=3", "count=5")
    assert read("c.raw") == data[3 * 4096:8 * 4096]
    img("dd", "-f", "raw", "-O", "qcow2", "if=a.raw", "of=d.qcow2", "bs=64k", "skip=15", "count=99")
    img("convert", "-f", "qcow2", "d.qcow2", "d.raw")
    assert read("d.raw") == data[15 * 65536:]
    refused("dd", "-f", "raw", "if=a.raw", "of=b.raw", says="--force")
    refused("dd", "-f", "raw", "if=a.raw", "of=e.raw", "bs=100", "count=3", says="sectors")
    refused("dd", "-f", "raw", "if=a.raw", "of=e.raw", "bs=1M", "skip=2", says="ends at byte")
    refused("dd", "-f", "raw", "if=a.raw", "of=e.raw", "conut=2", says="did you mean 'count'")
    refused("dd", "-f", "raw", "if=a.raw", says="of=")
    assert not os.path.exists("e.raw")


def test_dd_device():
    """A block device is imported, if this user may make one."""
    write("a.raw", random.Random(4).randbytes(3 * M))
    loop = run("losetup", "--find", "--show", "a.raw") if os.geteuid() == 0 and os.path.exists("/dev/loop-control") else None
    if not loop or loop.status:
        raise Skip("no loop devices for this user here")
    try:
        img("dd", "-f", "raw", "-O", "qcow2", f"if={loop.out.strip()}", "of=b.qcow2", "bs=1M", "skip=1", "count=1")
        img("convert", "-f", "qcow2", "b.qcow2", "b.raw")
        assert read("b.raw") == read("a.raw")[M:2 * M]
        write("c.raw", b"1" * M + bytes(M))
        refused("convert", "-f", "raw", "c.raw", loop.out.strip(), says="not empty")
        img("convert", "--force", "-f", "raw", "c.raw", loop.out.strip())
        assert read(loop.out.strip())[:2 * M] == read("c.raw")
    finally:
        run("losetup", "-d", loop.out.strip())


if __name__ == "__main__":
    main()
