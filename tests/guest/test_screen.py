#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Screen and keyboard by the control protocol: a boot sector under SeaBIOS, on a VGA and on virtio-vga, prints on the
screen; pictures of it are taken by lodge screenshot, QMP and HMP, and keys come from lodge sendkey, lodge type and QMP.
OVMF's shell does the same on virtio-gpu."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import fwdisk
import rfb
from guest import LODGE, Skip, Vm, check, run_all
from qmp import Qmp, QmpError

TMP = tempfile.mkdtemp(prefix="lodge-screen-")
os.environ["XDG_RUNTIME_DIR"] = TMP
BIOS, VGABIOS, OVMF = "/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/OVMF/OVMF_CODE_4M.fd"


def png(path):
    """Width, height, rows of RGB."""
    with open(path, "rb") as f:
        data = f.read()
    check(data[:8] == b"\x89PNG\r\n\x1a\n", f"{path} is no PNG")
    w, h = struct.unpack(">II", data[16:24])
    at, z = 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            z += data[at + 8:at + 8 + n]
        at += n + 12
    raw, rows, last = zlib.decompress(z), [], bytes(3 * w)
    for y in range(h):
        line = bytearray(raw[y * (3 * w + 1) + 1:(y + 1) * (3 * w + 1)])
        last = unfilter(raw[y * (3 * w + 1)], line, last)
        rows.append(bytes(last))
    return w, h, rows


def unfilter(kind, line, up):
    if kind == 2 and not any(line):
        return up
    for i, v in enumerate(line if kind else ()):
        a, b, c = line[i - 3] if i > 2 else 0, up[i], up[i - 3] if i > 2 else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        line[i] = (v + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
    return line


def ppm(path):
    with open(path, "rb") as f:
        data = f.read()
    m = re.match(rb"P6\n(\d+) (\d+)\n255\n", data)
    check(m, f"{path} is no PPM")
    w, h = int(m[1]), int(m[2])
    check(len(data) == m.end() + 3 * w * h, "the PPM is of another size")
    return w, h, [data[m.end() + 3 * w * y:m.end() + 3 * w * (y + 1)] for y in range(h)]


def run(*args, status=0):
    p = subprocess.run([LODGE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, cwd=TMP)
    check(p.returncode == status, f"lodge {' '.join(args)}: status {p.returncode}, {p.stderr}")
    return p.stdout.strip() if not status else p.stderr


def same_three_ways(name, q):
    """The picture by lodge screenshot, by QMP and by HMP; stopped, since the cursor blinks with the guest's time."""
    q.cmd("stop")
    one, three = run("screenshot", name), f"{TMP}/three.png"
    first = png(one)
    q.cmd("screendump", filename=f"{TMP}/two.ppm")
    out = q.cmd("human-monitor-command", **{"command-line": f"screendump {three} -f png"})
    check(out == "", out)
    check(ppm(f"{TMP}/two.ppm") == first, "QMP's picture is another one")
    with open(one, "rb") as a, open(three, "rb") as b:      # decoding takes Python a second
        check(a.read() == b.read(), "HMP's picture is another one")
    check(not [f for f in os.listdir(TMP) if f.endswith(".part")], "half a picture is left")
    q.cmd("cont")
    return first


def to_a_pipe(name, q):
    """The VM neither waits for a pipe's reader with what it does, nor ends later because of one."""
    path = f"{TMP}/{name}-pipe"
    os.mkfifo(path)
    out = q.cmd("human-monitor-command", **{"command-line": f"screendump {path}"})
    check("nobody reads" in out, f"HMP said {out!r}")
    p = subprocess.Popen([LODGE, "screenshot", name, path], stdout=subprocess.DEVNULL)
    time.sleep(0.2)
    check("running" in q.cmd("query-status")["status"], "the VM answers meanwhile")
    with open(path, "rb") as f:
        check(f.read().startswith(b"\x89PNG"), "the picture by a pipe")
    check(p.wait(20) == 0, "lodge screenshot to a pipe")
    # One more that nobody ever reads: the VM ends all the same (see its caller).
    return subprocess.Popen([LODGE, "screenshot", name, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def text_rows(rows, height=16):
    """Rows of text in which something is."""
    return [y // height for y in range(0, len(rows), height) if any(any(r) for r in rows[y:y + height])]


def bios(vga):
    if not (os.path.exists(BIOS) and os.path.exists(VGABIOS)):
        raise Skip("SeaBIOS or its VGA BIOS is not installed")
    d = os.path.join(TMP, vga)
    os.mkdir(d)
    sock = os.path.join(TMP, f"{vga}-qmp")
    with Vm(fwdisk.boot_sector(d), "--name", vga, "--vga", vga, "--display", "none", "--firmware", "bios", "--net", "none", "--memory", "64M",
            "--shutdown-timeout", "0", "--qmp", f"unix:{sock},wait=off") as v:
        v.expect(r"key\? ", 60)
        q = Qmp(sock)
        w, h, rows = same_three_ways(vga, q)
        check((w, h) == (720, 400), f"text mode of {w} x {h}")
        before = text_rows(rows)
        check(len(before) >= 3, f"text in the rows {before}")
        if vga == "std":
            run("type", vga, "k")
        else:
            run("sendkey", vga, "k")
        v.expect(r"got k!", 10)
        after = same_three_ways(vga, q)[2]
        check(after != rows, "the answer is not on the screen")
        wrong(vga, q)
        late = to_a_pipe(vga, q)
        q.cmd("send-key", keys=[{"type": "qcode", "data": "ret"}])
        check(v.wait(10) == 0, f"power-off gave status {v.p.returncode}")
        check(late.wait(10) != 0, "a picture that nobody took was written")


def refused(q, cmd, **args):
    try:
        q.cmd(cmd, **args)
    except QmpError:
        return True
    return False


def wrong(name, q):
    """What is refused, and says so."""
    check("nosuchkey" in run("sendkey", name, "ret", "ctrl-nosuchkey", status=1), "a key that is none")
    check("cannot be typed" in run("type", name, "\u20ac", status=1), "a character that no key has")
    check("cannot be written" in run("screenshot", name, "/nonexistent/x.png", status=1), "a folder that is none")
    run("screenshot", "--head", "3", name, status=1)
    for cmd, args in (("screendump", {"filename": f"{TMP}/x", "head": 0}), ("screendump", {"filename": f"{TMP}/x", "device": "no"}),
                      ("send-key", {"keys": []}), ("send-key", {"keys": [{"type": "qcode", "data": "f24"}]}),
                      ("send-key", {"keys": [{"type": "number", "data": 300}]}), ("set_password", {"protocol": "vnc", "password": "x"}),
                      ("input-send-event", {"device": "x", "events": []})):
        check(refused(q, cmd, **args), f"{cmd} {args} was done")
    check("Error" in q.cmd("human-monitor-command", **{"command-line": "sendkey nosuchkey"}), "HMP took a key that is none")


def ovmf():
    if not os.path.exists(OVMF):
        raise Skip("OVMF is not installed")
    with Vm("--name", "uefi", "--vga", "virtio-gpu,outputs=2", "--firmware", "uefi", "--net", "none", "--memory", "256M",
            "--shutdown-timeout", "0", "--display", f"vnc=unix:{TMP}/vnc", "--qmp", f"unix:{TMP}/uefi-qmp,wait=off") as v:
        q = Qmp(f"{TMP}/uefi-qmp")
        v.expect(r"Shell>", 120)
        w, h, rows = same_three_ways("uefi", q)
        check((w, h) == (1280, 800) and any(any(r) for r in rows), f"a picture of {w} x {h}")
        n = len(text_rows(rows, 19))
        run("type", "uefi", "--enter", "echo lodge-was-here")
        v.expect(r"\nlodge-was-here", 20)
        for _ in range(50):             # the serial console is before the screen
            after = same_three_ways("uefi", q)[2]
            if len(text_rows(after, 19)) > n:
                break
            time.sleep(0.2)
        check(len(text_rows(after, 19)) > n, "what was typed is not on the screen")
        # The other head shows nothing, and is there; a viewer gets the first.
        run("screenshot", "--head", "1", "uefi", "head1.png")
        check(not any(any(r) for r in png(f"{TMP}/head1.png")[2]), "the second screen is not black")
        vnc(q)


def vnc(q):
    r = rfb.Rfb(path=f"{TMP}/vnc")
    r.set_encodings(rfb.ZRLE, rfb.EXT_SIZE)
    q.cmd("stop")                       # so that both look at the same
    rows = png(run("screenshot", "uefi"))[2]
    picture = r.refresh()
    q.cmd("cont")
    for y in (100, 110, 250, 799):
        line = picture[y * 1280 * 4:(y + 1) * 1280 * 4]
        rgb = bytearray(3 * 1280)
        rgb[0::3], rgb[1::3], rgb[2::3] = line[2::4], line[1::4], line[0::4]
        check(bytes(rgb) == rows[y], f"row {y} of the viewer's picture is another one")
    info = q.cmd("query-vnc")
    check(info["enabled"] and info["auth"] == "none" and len(info["clients"]) == 1 and info["family"] == "unix", f"query-vnc: {info}")
    check("Client:" in q.cmd("human-monitor-command", **{"command-line": "info vnc"}), "info vnc")
    q.cmd("set_password", protocol="vnc", password="secret")
    check(q.cmd("query-vnc")["auth"] == "vnc", "there is a password now")
    rfb.Rfb(path=f"{TMP}/vnc", password="secret").close()
    q.cmd("human-monitor-command", **{"command-line": "change vnc password other"})
    try:
        rfb.Rfb(path=f"{TMP}/vnc", password="secret")
        check(False, "the old password is right still")
    except rfb.Closed:
        pass
    rfb.Rfb(path=f"{TMP}/vnc", password="other").close()
    r.update(False)                 # who was there stays


try:
    status = run_all([("a boot sector on a VGA", lambda: bios("std")), ("a boot sector on virtio-vga", lambda: bios("virtio")),
                      ("OVMF's shell on virtio-gpu, and VNC", ovmf)])
finally:
    shutil.rmtree(TMP, ignore_errors=True)
sys.exit(status)
