#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that come and go while Linux runs: cards in slots of root ports and of the root bus, USB devices, ports of the virtio serial device.

Debian's generic kernel comes from tests/guest/mkworkloads amd64; what is missing is skipped.
"""
import os
import re
import socket
import subprocess
import sys
import time

from guest import LODGE, SLOW, Vm, check, run_all
from qmp import Qmp, QmpError
from test_parts import Rig


def until(r, command, pattern, seconds=15):
    """Runs a command in the guest until its answer fits."""
    end = time.monotonic() + seconds * SLOW
    while True:
        out = r.vm.shell(command)
        if re.search(pattern, out, re.M):
            return out
        check(time.monotonic() < end, f"{command} does not give {pattern}: {out!r}")
        time.sleep(0.2)


def refused(q, command, text, cls="GenericError", **args):
    try:
        q.cmd(command, **args)
    except QmpError as e:
        check(text in e.desc and e.cls == cls, f"{command} {args}: {e.cls}: {e.desc}")
        return
    check(False, f"{command} {args} was not refused")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def hmp(q, line):
    return q.cmd("human-monitor-command", **{"command-line": line})


NICS = "ls /sys/class/net | tr '\\n' ' '; echo"


def cards():
    """Network cards come and go, asked for and not, with a snapshot in between."""
    with Rig("--root-port", "rp1,slot=5", "--hotplug", "1") as r, r.qmp() as q:
        out = r.vm.shell("ls /sys/bus/pci/slots")
        check("5" in out.split() and "1" in out.split(), f"no slots: {out!r}")
        refused(q, "device_add", "can't find value 'n1'", driver="virtio-net-pci", netdev="n1", id="nic1")
        q.cmd("netdev_add", type="user", id="n1", hostfwd=[{"str": f"tcp:127.0.0.1:{free_port()}-:22"}])
        refused(q, "netdev_add", "Duplicate", type="user", id="n1")
        refused(q, "device_add", "Bus 'rp9' not found", driver="virtio-net-pci", netdev="n1", id="nic1", bus="rp9")
        refused(q, "device_add", "Property 'virtio-net-pci.colour' not found", driver="virtio-net-pci", netdev="n1", colour="red")
        refused(q, "device_add", "not a valid device model", driver="tulip", netdev="n1")
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="rp1", mac="52:54:00:00:00:07")
        until(r, NICS, "eth0")
        check("52:54:00:00:00:07" in r.vm.shell("cat /sys/class/net/eth0/address"), "another card")
        out = r.vm.shell("ifconfig eth0 up; udhcpc -n -q -i eth0 2>&1 | tail -3")
        refused(q, "device_add", "Duplicate", driver="virtio-net-pci", netdev="n1", id="nic1")
        refused(q, "device_add", "in use", driver="virtio-net-pci", netdev="n1", id="nic2")
        refused(q, "netdev_del", "in use", id="n1")
        ports = {d["qdev_id"]: d for d in q.cmd("query-pci")[0]["devices"] if "pci_bridge" in d}
        check(sorted(ports) == ["hotplug1", "rp1"], f"other ports: {ports}")
        card = ports["rp1"]["pci_bridge"]["devices"][0]
        check(card["qdev_id"] == "nic1" and card["id"] == {"vendor": 0x1af4, "device": 0x1041} and card["regions"][0]["address"] > 0, f"{card}")
        check("devices" not in ports["hotplug1"]["pci_bridge"], "a card in the free port")
        refused(q, "device_del", "not found", "DeviceNotFound", id="nic2")
        q.cmd("device_del", id="nic1")
        refused(q, "device_del", "already in the process of unplug", id="nic1")
        check(q.event("DEVICE_DELETED", 30) == {"device": "nic1", "path": "/machine/peripheral/nic1"}, "DEVICE_DELETED")
        check("eth0" not in r.vm.shell(NICS), "the card is still there")
        # Into the free slot, by the monitor for people; and the guest lets it go unasked.
        check(hmp(q, "device_add e1000e,netdev=n1,id=nic1") == "", "device_add")
        r.load(["e1000e"])
        until(r, NICS, "eth0")
        r.vm.shell("echo 0 >/sys/bus/pci/slots/5/power", 30)
        q.event("DEVICE_DELETED", 10)
        check("eth0" not in r.vm.shell(NICS), "the card is still there")
        check("not found" in hmp(q, "device_del nic1"), "it can be deleted twice")
        check(hmp(q, "netdev_del n1") == "", "netdev_del")
        check("not found" in hmp(q, "netdev_del n1"), "netdev_del twice")
        # A guest that is reset has given up what it was asked for.
        q.cmd("netdev_add", type="user", id="n1")
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1")
        until(r, NICS, "eth0")
        q.cmd("device_del", id="nic1")
        start = len(r.vm.text())
        q.cmd("system_reset")
        q.event("DEVICE_DELETED", 10)
        r.shell(start)
        check("eth0" not in r.vm.shell(NICS), "a card that was given up is back")
        # While the guest stands still, and then gone before it has heard of it.
        q.cmd("stop")
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="rp1")
        q.cmd("device_del", id="nic1")
        q.event("DEVICE_DELETED", 5)
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="rp1")
        q.cmd("cont")
        until(r, NICS, "eth0")
        r.poweroff()


def buses():
    """USB devices and ports of the virtio serial device come and go."""
    with Rig("--usb", "absent", "--port-places", "4", "--chardev", "ringbuf,id=rb") as r, r.qmp() as q:
        for kind, name in (("usb-kbd", "Keyboard"), ("usb-tablet", "Tablet"), ("usb-mouse", "Mouse")):
            q.cmd("device_add", driver=kind, id="d1", port=3)
            until(r, "cat /sys/bus/usb/devices/1-3/product", name)
            refused(q, "device_add", "is taken", driver=kind, id="d2", port=3)
            q.cmd("device_del", id="d1")
            q.event("DEVICE_DELETED", 5)
            until(r, "ls /sys/bus/usb/devices/1-3", "No such file")
        q.cmd("device_add", driver="virtserialport", chardev="rb", name="org.lodge.test", id="p1")
        until(r, "ls /dev/vport*", "/dev/vport.p1$")
        r.vm.shell("for p in /dev/vport*p1; do echo from the guest >$p; done")
        check("from the guest" in q.cmd("ringbuf-read", device="rb", size=100), "nothing came")
        refused(q, "device_add", "in use", driver="virtserialport", chardev="rb", name="two", id="p2")
        q.cmd("device_del", id="p1")
        q.event("DEVICE_DELETED", 5)
        until(r, "ls /dev/vport*", "No such file")
        check("virtio-blk-pci" in [t["name"] for t in q.cmd("qom-list-types", implements="device")], "qom-list-types")
        check("mac" in [t["name"] for t in q.cmd("device-list-properties", typename="virtio-net-pci")], "device-list-properties")
        r.poweroff()


def root_slots(q):
    """The ids of what is on the root bus, by slot."""
    return {d["slot"]: d["qdev_id"] for d in q.cmd("query-pci")[0]["devices"] if d["function"] == 0}


def dropped(r, q, dev, gone, seconds=20):
    """device_del, and the guest has let it go."""
    q.cmd("device_del", id=dev)
    check(q.event("DEVICE_DELETED", seconds) == {"device": dev, "path": f"/machine/peripheral/{dev}"}, "DEVICE_DELETED")
    until(r, *gone)


def root_bus():
    """Cards on the root bus, by ACPI: they come, work and go, often, asked for and not; in slots that are free, and that are named."""
    with Rig("--net", "none", "--net", "user,slot=9,id=first,mac=52:54:00:00:00:01", "--root-port", "rp1,slot=5") as r, r.qmp() as q:
        out = r.vm.shell("ls /sys/bus/pci/slots").split()
        check({"5", "9", "22", "105"} <= set(out) and "1" not in out, f"other slots: {out}")
        a = image(r, "a", "a")
        q.cmd("netdev_add", type="user", id="n1")
        refused(q, "device_add", "slot 9 function 0 is not available", driver="virtio-net-pci", netdev="n1", bus="pci.0", addr="0x9")
        refused(q, "device_add", "virtio-net-pci.addr: function 0", driver="virtio-net-pci", netdev="n1", addr="4.1")
        refused(q, "device_add", "from 1 to 22", driver="virtio-net-pci", netdev="n1", addr="0x1f")
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="pci.0", addr="0xa", mac="52:54:00:00:00:07")
        until(r, "cat /sys/bus/pci/devices/0000:00:0a.0/virtio*/net/*/address", "52:54:00:00:00:07")
        check(root_slots(q)[9] == "first" and root_slots(q)[10] == "nic1", f"{root_slots(q)}")
        out = hmp(q, "info pci")
        check(re.search(r'Bus +0, device +10, function 0:\r\n +Ethernet controller: PCI device 1af4:1041\r\n( .*\r\n)*? +BAR\d: .*\r\n +id "nic1"\r\n', out), out)
        out = r.vm.shell("i=$(ls /sys/bus/pci/devices/0000:00:0a.0/virtio*/net); "
                         "ifconfig $i up; udhcpc -n -q -i $i 2>&1 | tail -3", 60)
        check("lease of 10.0.2.15 obtained" in out, f"no lease: {out!r}")
        # The one there from the start goes, too, since it has a slot of its own.
        dropped(r, q, "first", ("[ -e /sys/bus/pci/devices/0000:00:09.0 ] || echo gone", "gone"))
        refused(q, "device_del", "not found", "DeviceNotFound", id="first")
        q.cmd("device_del", id="nic1")
        refused(q, "device_del", "already in the process of unplug", id="nic1")
        q.event("DEVICE_DELETED", 20)
        # Without a bus the root port's slot is the first choice, and the root bus the next.
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1")
        q.cmd("device_add", driver="virtio-blk-pci", id="vd", **{"x-lodge-file": a, "x-lodge-format": "qcow2"})
        until(r, BLOCKS, r"\bvda\b")
        slot = [s for s, i in root_slots(q).items() if i == "vd"]
        check(slot == [min(set(range(1, 23)) - (set(root_slots(q)) - set(slot)))], f"{root_slots(q)}")
        verified(r, "vda", 1)
        # In the middle of writes, and into the same slot; and many times.
        r.vm.shell("(while [ -b /dev/vda ] && dd if=/dev/zero of=/dev/vda bs=64k count=200 conv=fsync; do :; done) >/dev/null 2>&1 & true")
        dropped(r, q, "vd", ("[ -e /sys/block/vda ] || echo gone", "gone"))
        for i in range(5):
            q.cmd("device_add", driver="virtio-blk-pci", id="vd", bus="pcie.0", **{"x-lodge-file": a, "x-lodge-format": "qcow2"})
            until(r, BLOCKS, r"\bvd[a-z]\b")
            check([s for s, i in root_slots(q).items() if i == "vd"] == slot, f"another slot: {root_slots(q)}")
            dropped(r, q, "vd", (BLOCKS, r"^(?!.*\bvd[a-z])"))
        # The guest lets one go unasked, and one that was asked for it goes with a reset.
        q.cmd("device_add", driver="virtio-blk-pci", id="vd", addr="0x9", **{"x-lodge-file": a, "x-lodge-format": "qcow2"})
        until(r, BLOCKS, r"\bvd[a-z]\b")
        r.vm.shell("echo 0 >/sys/bus/pci/slots/9/power", 30)
        check(q.event("DEVICE_DELETED", 10)["device"] == "vd", "another device")
        until(r, BLOCKS, r"^(?!.*\bvd[a-z])")
        q.cmd("device_add", driver="virtio-blk-pci", id="vd", addr="0x9", **{"x-lodge-file": a, "x-lodge-format": "qcow2"})
        q.cmd("stop")
        q.cmd("device_del", id="vd")
        start = len(r.vm.text())
        q.cmd("system_reset")
        q.event("DEVICE_DELETED", 10)
        q.cmd("device_add", driver="virtio-blk-pci", id="ve", addr="0xb", **{"x-lodge-file": a, "x-lodge-format": "qcow2"})
        q.cmd("cont")
        r.shell(start)
        until(r, BLOCKS, r"\bvd[a-z]\b")
        check("0000:00:09.0" not in r.vm.shell("ls /sys/bus/pci/devices"), "a card that was given up is back")
        verified(r, "vda", 2)
        dropped(r, q, "ve", (BLOCKS, r"^(?!.*\bvd[a-z])"))
        check(subprocess.run([LODGE, "img", "check", a], capture_output=True).returncode == 0, "the image is damaged")
        r.poweroff()


def root_bus_saved():
    """A guest is saved with cards that came, one that is on its way out and without one that went, and goes on with just those."""
    with Rig("--net", "none", "--net", "user,slot=2,mac=52:54:00:00:00:01,id=first", "--input", "virtio-tablet", "--name", "rootbus") as r, r.qmp() as q:
        a, b = image(r, "a", "a"), image(r, "b", "b")
        q.cmd("netdev_add", type="user", id="n1")
        q.cmd("device_add", driver="e1000e", netdev="n1", id="nic1", mac="52:54:00:00:00:09")
        for dev, path in (("vd", a), ("ve", b)):
            q.cmd("device_add", driver="virtio-blk-pci", id=dev, **{"x-lodge-file": path, "x-lodge-format": "qcow2"})
        r.load(["e1000e"])
        until(r, BLOCKS, r"\bvda\b.*\bvdb\b")
        until(r, "cat /sys/class/net/*/address", "52:54:00:00:00:09")
        dropped(r, q, "first", ("[ -e /sys/bus/pci/devices/0000:00:02.0 ] || echo gone", "gone"))
        before, slots = r.vm.shell("ls /sys/bus/pci/devices; ls -d /sys/bus/pci/devices/*/virtio*"), root_slots(q)
        q.cmd("stop")
        q.cmd("device_del", id="ve")
        place, first = os.path.join(r.folder, "snap"), r.vm
        q.cmd("x-lodge-snapshot-save", directory=place, then="quit")
        check(r.vm.wait(30) == 0, "it did not end")
        sock = os.path.join(r.folder, "q2")
        with Vm("--from-snapshot", place, "--qmp", f"unix:{sock},wait=off", "--paused", env=r.env) as vm, Qmp(sock) as q:
            r.vm = vm
            check(root_slots(q) == slots, f"other slots: {slots} {root_slots(q)}")
            q.cmd("cont")
            check(q.event("DEVICE_DELETED", 20)["device"] == "ve", "what was asked for before")
            vm.send("\n")
            until(r, BLOCKS, r"\bvda\b(?!.*vdb)")
            verified(r, "vda", 5)
            out = vm.shell("ls /sys/bus/pci/devices; ls -d /sys/bus/pci/devices/*/virtio*")
            places = [set(re.findall(r"\b[0-9a-f]+:[0-9a-f:]+[.][0-9]\b", x)) for x in (before, out)]
            check(len(places[0] - places[1]) == 1 and not places[1] - places[0] and len(places[0]) > 5, f"other devices: {before!r} {out!r}")
            check("52:54:00:00:00:09" in vm.shell("cat /sys/class/net/*/address"), "the card")
            q.cmd("netdev_add", type="user", id="n2")
            q.cmd("device_add", driver="virtio-net-pci", netdev="n2", id="nic2", mac="52:54:00:00:00:0a")
            until(r, "cat /sys/class/net/*/address", "52:54:00:00:00:0a")
            dropped(r, q, "vd", (BLOCKS, r"^(?!.*\bvd[a-z])"))
            dropped(r, q, "nic1", ("cat /sys/class/net/*/address", "^(?!.*52:54:00:00:00:09)"))
            r.poweroff()
            r.vm = first


def image(r, name, letter):
    path = os.path.join(r.folder, name)
    check(subprocess.run([LODGE, "img", "create", "-f", "qcow2", path, "16M"], capture_output=True).returncode == 0, "no image")
    return path


BLOCKS = "ls /sys/block | tr '\\n' ' '; echo"


def verified(r, dev, seed):
    """Writes what can be told from anything else, and reads it back from the disk itself."""
    out = r.vm.shell(f"yes 'block {seed}' | dd of=/dev/{dev} bs=64k count=64 iflag=fullblock conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; "
                     f"dd if=/dev/{dev} bs=64k count=64 2>/dev/null | md5sum; yes 'block {seed}' | dd bs=64k count=64 iflag=fullblock 2>/dev/null | md5sum", 60)
    sums = re.findall(r"^([0-9a-f]{32}) ", out, re.M)
    check(len(sums) == 2 and sums[0] == sums[1], f"{dev} reads other than was written: {out!r}")


def disks():
    """Disks in a slot, on a SCSI adapter and on USB; one goes in the middle of writes."""
    with Rig("--root-port", "rp1", "--disk", ",if=scsi,absent=on", "--usb", "absent") as r, r.qmp() as q:
        a, b, c = (image(r, n, n) for n in "abc")
        # More often than there are threads for disks.
        for _ in range(40):
            refused(q, "device_add", "does not exist", driver="virtio-blk-pci", id="vd", bus="rp1", **{"x-lodge-file": a + ".none"})
        check(hmp(q, f"drive_add 0 if=none,id=da,file={a},format=qcow2") == "OK\r\n", "drive_add")
        q.cmd("device_add", driver="virtio-blk-pci", drive="da", id="vd", bus="rp1", serial="hot")
        until(r, BLOCKS, r"\bvda\b")
        verified(r, "vda", 1)
        refused(q, "device_add", "in use", driver="virtio-blk-pci", drive="da", id="vd2")
        q.cmd("device_add", driver="scsi-hd", id="sd", **{"x-lodge-file": b, "x-lodge-format": "qcow2", "scsi-id": 4, "lun": 1})
        until(r, BLOCKS, r"\bsda\b")
        verified(r, "sda", 2)
        q.cmd("device_add", driver="usb-storage", id="ud", **{"x-lodge-file": c})
        until(r, BLOCKS, r"\bsdb\b")
        verified(r, "sdb", 3)
        check({d["device"] for d in q.cmd("query-block")} >= {"disk1", "disk2", "disk3"}, "query-block")
        # Exports and jobs hold a disk.
        sock = os.path.join(r.folder, "nbd")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": sock}})
        q.cmd("nbd-server-add", device="disk3")
        refused(q, "device_del", "in use", id="ud")
        q.cmd("nbd-server-stop")
        for dev, name in (("sd", "sda"), ("ud", "sdb")):
            r.vm.shell(f"(while [ -b /dev/{name} ] && dd if=/dev/zero of=/dev/{name} bs=64k count=100 conv=fsync; do :; done) >/dev/null 2>&1 & true")
            q.cmd("device_del", id=dev)
            check(q.event("DEVICE_DELETED", 10)["device"] == dev, "another device")
            out = until(r, BLOCKS, "^(?!.*%s)" % name, 20)
            until(r, f"[ -e /sys/block/{name} ] || echo gone", "gone", 20)
        r.vm.shell("(while [ -b /dev/vda ] && dd if=/dev/zero of=/dev/vda bs=64k count=200 conv=fsync; do :; done) >/dev/null 2>&1 & true")
        q.cmd("device_del", id="vd")
        check(q.event("DEVICE_DELETED", 30)["device"] == "vd", "another device")
        until(r, "[ -e /sys/block/vda ] || echo gone", "gone", 20)
        for p in (a, b, c):
            check(subprocess.run([LODGE, "img", "check", p], capture_output=True).returncode == 0, f"{p} is damaged")
        # The place, the thread and the slot serve again.
        for i in range(3):
            q.cmd("device_add", driver="scsi-hd", id=f"s{i}", **{"x-lodge-file": b})
            until(r, BLOCKS, r"\bsd[a-z]\b")
            q.cmd("device_del", id=f"s{i}")
            q.event("DEVICE_DELETED", 10)
        # More often than there are places, on an adapter and a controller that were there from the start.
        for i in range(10):
            for driver in ("scsi-hd", "usb-storage"):
                q.cmd("device_add", driver=driver, id="again", **{"x-lodge-file": b})
                q.cmd("device_del", id="again")
                q.event("DEVICE_DELETED", 10)
        q.cmd("device_add", driver="virtio-blk-pci", drive="da", id="vd")
        until(r, BLOCKS, r"\bvd[a-z]\b")
        r.poweroff()


def saved():
    """A guest that is saved with devices that came, and without some that went, goes on with those."""
    with Rig("--root-port", "rp1", "--root-port", "rp2", "--disk", ",if=scsi,absent=on", "--usb", "kbd,id=k1", "--usb", "tablet,id=t1",
             "--name", "hot") as r, r.qmp() as q:
        a, b, c, d = (image(r, n, n) for n in "abcd")
        q.cmd("netdev_add", type="user", id="n1")
        q.cmd("device_add", driver="virtio-net-pci", netdev="n1", id="nic1", bus="rp2", mac="52:54:00:00:00:09")
        q.cmd("device_add", driver="virtio-blk-pci", id="vd", bus="rp1", **{"x-lodge-file": a})
        q.cmd("device_add", driver="scsi-hd", id="s1", **{"x-lodge-file": b})
        until(r, BLOCKS, r"\bsda\b")           # else a busy guest may name the second one first
        q.cmd("device_add", driver="scsi-hd", id="s2", **{"x-lodge-file": c})
        until(r, BLOCKS, r"\bsda\b.*\bsdb\b.*\bvda\b")
        # Its controller is that of the keyboard, which comes later in the machine than disks do.
        q.cmd("device_add", driver="usb-storage", id="ud", **{"x-lodge-file": d})
        until(r, NICS, "eth0")
        until(r, BLOCKS, r"\bsdc\b")
        q.cmd("device_del", id="s1")
        q.cmd("device_del", id="k1")
        until(r, BLOCKS, r"\bsdb\b.*\bvda\b")
        until(r, "cat /sys/bus/usb/devices/1-*/product", "Tablet")
        before = r.vm.shell("cat /sys/block/sdb/device/vendor; ls -d /sys/bus/scsi/devices/*:*:*:*; ls /sys/bus/pci/devices")
        place, first = os.path.join(r.folder, "snap"), r.vm
        q.cmd("x-lodge-snapshot-save", directory=place, then="quit")
        check(r.vm.wait(30) == 0, "it did not end")
        sock = os.path.join(r.folder, "q2")
        with Vm("--from-snapshot", place, "--qmp", f"unix:{sock},wait=off", env=r.env) as vm, Qmp(sock) as q:
            r.vm = vm
            vm.send("\n")
            verified(r, "vda", 5)
            verified(r, "sdb", 6)
            verified(r, "sdc", 7)
            out = vm.shell("cat /sys/block/sdb/device/vendor; ls -d /sys/bus/scsi/devices/*:*:*:*; ls /sys/bus/pci/devices")
            places = [set(re.findall(r"\b[0-9a-f:]+[:.][0-9]\b", x)) for x in (before, out)]
            check(places[0] == places[1] and len(places[0]) > 5, f"other devices: {before!r} {out!r}")
            check("52:54:00:00:00:09" in vm.shell("cat /sys/class/net/eth0/address"), "the card")
            q.cmd("device_del", id="vd")
            q.event("DEVICE_DELETED", 30)
            q.cmd("device_del", id="t1")
            q.cmd("device_add", driver="usb-kbd", id="k2")
            until(r, "cat /sys/bus/usb/devices/1-*/product", "Keyboard")
            r.poweroff()
            r.vm = first


if __name__ == "__main__":
    sys.exit(run_all([("cards", cards), ("disks", disks), ("USB and serial ports", buses), ("saved", saved), ("root bus", root_bus), ("root bus saved", root_bus_saved)], jobs=2))
