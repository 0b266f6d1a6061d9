#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""lodge img with encrypted images: made, described, converted, both ways with qemu-img."""
import os
import shutil

from rig import LODGE, img, main, peer, qemu, read, refused, run, same, write

SECRET = ("--object", "secret,id=s,file=key")
QUICK = "pbkdf-force-iterations=1000"
LUKS = ("-f", "luks", "-o", f"key-secret=s,{QUICK}")
QCOW2 = ("-f", "qcow2", "-o", f"encrypt.format=luks,encrypt.key-secret=s,encrypt.{QUICK}")


def key(text="secret", name="key"):
    write(name, text.encode())


def noise(size=1 << 20):
    data = os.urandom(size // 2) + bytes(size // 4) + os.urandom(size // 4)
    write("plain", data)
    return data


def volume(name, driver="luks", secret="s"):
    prefix = "encrypt." if driver == "qcow2" else ""
    return ("--image-opts", f"driver={driver},{prefix}key-secret={secret},file.filename={name}")


@peer
def test_info_as_qemu_img():
    key()
    img("create", "-q", *SECRET, *LUKS, "a", "1M")
    img("create", "-q", *SECRET, *QCOW2, "b", "1M")
    for name in "ab":
        same(img("info", "--output=json", name).json(), qemu("info", "--output=json", name).json(), ("actual-size", "children"))
        out = img("info", name).out
        assert "encrypted: yes" in out and "cipher mode: xts" in out and "            active: true" in out, out


@peer
def test_created_here_used_there():
    key()
    data = noise()
    for alg in ("cipher-mode=xts,cipher-alg=aes-128", "cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1"):
        img("create", "-q", *SECRET, "-f", "luks", "-o", f"key-secret=s,{QUICK},{alg}", "--force", "a", "1M")
        qemu("convert", "-n", *SECRET, "-f", "raw", "plain", "--target-image-opts", "driver=luks,key-secret=s,file.filename=a")
        img("compare", *SECRET, "--image-opts", "driver=raw,file.filename=plain", volume("a")[1])
        img("convert", *SECRET, *volume("a"), "-O", "raw", "--force", "back")
        assert read("back") == data


@peer
def test_convert_into_encryption():
    key()
    noise()
    for driver, opts in (("luks", f"key-secret=s,{QUICK}"), ("qcow2", QCOW2[3])):
        img("convert", *SECRET, "-O", driver, "-o", opts, "--verify", "plain", driver)
        qemu("compare", *SECRET, "--image-opts", "driver=raw,file.filename=plain", volume(driver, driver)[1])
        assert read("plain")[:64] not in read(driver)
    qemu("check", *SECRET, *volume("qcow2", "qcow2"))
    # Zeros are written to a volume, whose untouched places are noise.
    img("convert", *SECRET, *volume("luks"), "-O", "qcow2", "clear")
    img("compare", "-f", "raw", "-F", "qcow2", "plain", "clear")


def test_luks2():
    key()
    data = noise()
    for more in ("", ",pbkdf=pbkdf2", ",sector-size=4096,label=x"):
        opts = f"key-secret=s,version=2,pbkdf-memory=1024,pbkdf-force-iterations={1000 if 'pbkdf2' in more else 4}{more}"
        img("convert", *SECRET, "-O", "luks", "-o", opts, "--verify", "--force", "plain", "a")
        out = img("info", "--output=json", "a").json()
        inner = out["format-specific"]["data"]
        assert out["encrypted"] and inner["version"] == 2 and len(inner["slots"]) == 1, out
        assert inner["slots"][0]["pbkdf"] == ("pbkdf2" if "pbkdf2" in more else "argon2id"), out
        img("convert", *SECRET, *volume("a"), "-O", "raw", "--force", "back")
        assert read("back") == data
        if shutil.which("cryptsetup"):
            r = run("cryptsetup", "--disable-locks", "open", "--test-passphrase", "--key-file", "key", "a")
            assert r.status == 0, r


def test_keys_are_asked_for():
    key()
    key("secret\n", "other")
    img("create", "-q", *SECRET, *LUKS, "a", "1M")
    img("create", "-q", *SECRET, *QCOW2, "b", "1M")
    refused("convert", "a", "out", says=["'a'", "encrypted", "no key"])
    refused("convert", "b", "out", says=["'b'", "encrypted", "no key"])
    refused("convert", "--object", "secret,id=s,file=other", *volume("a"), "out", says=["'a'", "wrong passphrase"])
    refused("convert", "--object", "secret,id=s,file=missing", *volume("a"), "out", says=["missing", "No such file"])
    refused("convert", *SECRET, *volume("a", secret="t"), "out", says="no secret named 't'")
    refused("create", "--object", "secret,id=s,data=secret", *LUKS, "c", "1M", says="can be seen by every user")
    refused("create", "-f", "luks", "c", "1M", says="key-secret=ID")
    refused("create", *SECRET, "-f", "qcow2", "-o", "encrypt.key-secret=s", "c", "1M", says="encrypt.format=luks")
    refused("create", *SECRET, "-f", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=s", "c", "1M", says="only luks")
    refused("create", *SECRET, "-f", "luks", "-o", "key-secret=s,cipher-mode=ecb", "c", "1M", says="the cipher is")
    refused("convert", "-c", *SECRET, "-O", *QCOW2[1:], "b", "out", says="no key")
    assert not os.path.exists("out") and not os.path.exists("c")
    # A key for what is not encrypted.
    write("raw", bytes(65536))
    refused("convert", *SECRET, "--image-opts", "driver=raw,key-secret=s,file.filename=raw", "out", says="nothing in it is encrypted")
    # What needs no contents needs no key.
    img("check", "b")
    img("map", "b")
    img("snapshot", "-l", "b")
    img("info", "--backing-chain", "b")
    # As it is: the bytes of the file.
    img("convert", "-f", "raw", "a", "copy")
    assert read("copy") == read("a")


def test_measure():
    """The numbers are qemu-img's, which takes many seconds for each."""
    for args, required, full in ((("luks", "--size", "1G"), 1075810304, 1075810304),
                                 (("qcow2", "-o", "encrypt.format=luks", "--size", "1G"), 2490368, 1076232192),
                                 (("qcow2", "-o", "encrypt.format=luks", "--size", "64M"), 2424832, 69533696)):
        out = img("measure", "--output=json", "-O", *args).json()
        assert (out["required"], out["fully-allocated"]) == (required, full), out
    refused("measure", "-O", "luks", "-o", "hash-alg=md5", "--size", "1G", says="the hash is")


def test_compression_and_encryption():
    key()
    noise()
    refused("convert", "-c", *SECRET, "-O", "qcow2", "-o", QCOW2[3], "plain", "out", says="encryption")
    assert not os.path.exists("out")


def test_keys_of_a_chain():
    key()
    key("second", "key2")
    data = noise()
    img("convert", *SECRET, "-O", "qcow2", "-o", QCOW2[3], "plain", "base")
    img("create", "-q", "--object", "secret,id=t,file=key2", "-f", "qcow2", "-o", QCOW2[3].replace("key-secret=s", "key-secret=t"),
        "-b", "base", "-F", "qcow2", "over")
    both = (*SECRET, "--object", "secret,id=t,file=key2")
    opts = "driver=qcow2,encrypt.key-secret=t,backing.encrypt.key-secret=s,file.filename=over"
    img("convert", *both, "--image-opts", opts, "-O", "raw", "back")
    assert read("back") == data
    swapped = "driver=qcow2,encrypt.key-secret=s,backing.encrypt.key-secret=t,file.filename=over"
    refused("convert", *both, "--image-opts", swapped, "-O", "raw", "no", says=["'over'", "wrong passphrase"])


def test_keys_from_descriptors():
    key()
    img("create", "-q", *SECRET, *LUKS, "a", "1M")
    r = run("sh", "-c", f"'{LODGE}' img convert --object secret,id=s,fd=7 {' '.join(volume('a'))} -O raw out 7<key")
    assert r.status == 0, r
    write("b64", b"c2VjcmV0\n")
    img("convert", "--object", "secret,id=s,file=b64,format=base64", *volume("a"), "-O", "raw", "out2")
    assert read("out") == read("out2")


if __name__ == "__main__":
    main()
