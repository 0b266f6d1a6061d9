#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done to guests that run, under a true KVM: they are saved, moved, given CPUs and devices, and debugged; and they go from KVM to the
software engines and back.

    PYTHONPATH=tests/guest LODGE=build/lodge tests/guest/kvmlive.py [NAME...]

This is for a machine whose KVM runs kernels.  Any Linux with nested KVM will do, also one that QEMU's TCG emulates (Debian 12's QEMU:
qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -smp 2 -m 2560 -cpu EPYC-Rome,+svm,+npt,-nrip-save,-xsavec,-xsaves, and Debian 12 in it with
kvm_amd loaded), where all of it takes an hour and LODGE_TEST_SLOW=10 LODGE_KVM_EMULATED=1 are needed.  In it there must be Python, this folder, lodge and lodge-vmm with their
libraries (ldd), and vmlinuz and initrd.img of tools/mkguest (LODGE_GUEST_DIR).  A name selects cases; migrations print their figures.
"""
import os
import re
import sys
import tempfile
import time

os.environ.setdefault("LODGE_TEST_ACCEL", "kvm")

import test_cpus
import test_gdb
import test_hotplug
import test_migrate
import test_savevm
from guest import INITRD, KERNEL, SLOW, Failed, Skip, check, lodge, run_all, tiny
from migrate import Herd
from test_snapshot import Snapshots, at_work, rounds

SPLIT = "kvm,split=on"


def features_in(text):
    """The names in what is said of CPUs that differ."""
    return [n for part in re.findall(r"(?:missing there|has not [^:]*): ([^;]*)", text) for n in part.split(", ") if n]


def attempt(frm, to, spec, *args):
    """Why a guest that has not begun does not go from one engine to another; "" if it does."""
    with Herd("--cpu", spec, "--paused", *args, accel=frm, disk=False) as herd:
        herd.vm = herd.make()
        herd.accel = to
        there, path = herd.destination()
        with herd.qmp(herd.vm) as q:
            q.cmd("migrate", uri="unix:" + path)
        how, info = herd.settle(herd.vm)
        herd.drop(there)
        return "" if how == "completed" else info.get("error-desc", "?")


def common(base="x86-64-v2"):
    """A CPU model that KVM and the translator both have here, found as a user would: by what the refusals name."""
    spec = base
    for _ in range(6):
        text = attempt("kvm", "translate", spec)
        if not text:
            return spec
        names = features_in(text)
        check(names, f"refused, but for no features: {text}")
        spec += "".join(f",-{n}" for n in names)
    raise Failed(f"no common model after {spec}: {text}")


cpu = None


def the_cpu():
    global cpu
    cpu = cpu or common()
    return cpu


def told(info):
    print(f"#   {info.get('total-time')} ms, down {info.get('downtime')} ms, {info['ram']['transferred'] >> 20} MiB, {info['ram']['dirty-sync-count']} rounds", flush=True)


def moves(ways, *args, cpus=1):
    def test():
        with Herd("--cpu", the_cpu(), *args, accel=ways[0], cpus=cpus) as herd:
            herd.boot()
            for engine in ways[1:]:
                print(f"# {herd.accel} -> {engine}, a writer:")
                herd.accel = engine
                told(herd.migrate(downtime_limit=4000))
    return test


def idle():
    """A guest that waits: its timers come again, and it answers."""
    with Herd("--cpu", the_cpu(), accel="kvm", disk=False) as herd:
        herd.vm = herd.make()
        herd.vm.expect("init reached", 120)
        herd.vm.expect("# ", 30)
        herd.goes_on = lambda: None
        for engine in ("kvm", "translate", "kvm", SPLIT, "kvm"):
            print(f"# {herd.accel} -> {engine}, idle:")
            herd.accel = engine
            told(herd.migrate(downtime_limit=4000))
            # sleep needs a timer interrupt, wherever the guest is.
            check("slept" in herd.vm.shell("sleep 0.5 && echo sle''pt", 30), "the guest does not sleep")


def saved(ways, cpus):
    def test():
        with Snapshots() as p:
            with tiny("--name", "s", "--cpu", the_cpu(), "--cpus", str(cpus), accel=ways[0], env=p.env) as vm:
                before = at_work(vm)
                p.save("s", "0", "--quit")
                check(vm.wait(20) == 0, f"--quit ended with status {vm.p.returncode}")
            for i, engine in enumerate(ways[1:]):
                with p.go_on(str(i), "--name", "s", accel=engine) as vm:
                    now = rounds(vm, 2)
                    check(now > before, f"round {now} came after {before}: it did not go on ({engine})")
                    before = now
                    p.save("s", str(i + 1), "--quit")
                    check(vm.wait(20) == 0, f"status {vm.p.returncode} after --quit")
    return test


def refused():
    """Features that the other engine lacks are named, whichever way, and the guest stays."""
    text = attempt("kvm", "translate", "max")
    check("are missing there" in text and "kvm-steal-time" in text, text)
    text = attempt("kvm", "kvm", "max")
    check(text == "", text)
    test_migrate.refused()
    with Snapshots() as p:
        with tiny("--name", "s", "--cpu", "max", "--paused", env=p.env) as vm:
            end = time.monotonic() + 30 * SLOW
            while p.tool("qmp", "s", "query-status")[0]:
                check(time.monotonic() < end and vm.p.poll() is None, f"it does not come up: {vm.err()}")
                time.sleep(0.1)
            p.save("s", "a", "--quit")
        status, _, err = p.tool("run", "--accel", "translate", "--from-snapshot", p.path("a"))
        check(status == 1 and "this engine lacks" in err and "kvm-steal-time" in err, err)


def auto():
    status, out, err = lodge("run", "--accel", "auto", "--memory", "128M", "--kernel", KERNEL, "--initrd", INITRD, "--exec", "echo in-the-guest")
    check(status == 0 and out == b"in-the-guest\n", f"{status} {out} {err}")
    check(re.search("CPU engine kvm: ", err), f"it does not say what it chose: {err}")


def stepped(accel, n):
    """Where n single steps from the kernel's entry lead: RIP, RSP, RAX and flags but those that a step itself uses."""
    with tempfile.TemporaryDirectory() as d, test_gdb.guest(d, "--paused", "--cpu", the_cpu(), accel=accel):
        g = test_gdb.Rsp(f"{d}/gdb")
        g.regs()
        way = []
        for _ in range(n):
            r = g.ask("s")
            check(r.startswith("T05"), f"a step under {accel} gives {r}")
            way.append([g.reg(x) for x in ("rip", "rsp", "rcx")])
        return way


def steps():
    """KVM_SET_GUEST_DEBUG at work: instruction by instruction as the interpreter."""
    ours, kvms = stepped("interp", 160), stepped("kvm", 150)
    at = 0
    for i, b in enumerate(kvms):
        # A processor does not stop between MOV SS and the instruction behind it; the interpreter does.
        at += b != ours[at] and b == ours[at + 1]
        check(b == ours[at], f"step {i + 1} leads to {[hex(x) for x in b]} under KVM, to {[hex(x) for x in ours[at]]} under interp")
        at += 1
    check(at - len(kvms) < 5 and len({x[0] for x in kvms}) > 20, "the steps go nowhere")


def breakpoints():
    """The rest of gdb's.  QEMU's TCG, where it emulates the machine, raises no intercept for INT3 and arms no debug register at VMRUN."""
    if os.environ.get("LODGE_KVM_EMULATED"):
        raise Skip("LODGE_KVM_EMULATED is set: the emulated KVM hears of no breakpoint")
    test_gdb.by_hand()


def cpus_come_and_go():
    test_cpus.rounds(1)


CASES = [
    ("auto takes KVM and says so", auto),
    ("features that are missing are named", refused),
    ("saved and gone on, KVM and the software engines", saved(["kvm", "kvm", "translate", "kvm", SPLIT, "translate", SPLIT, "kvm"], 1)),
    ("the same with 2 vCPUs", saved(["translate", "kvm", "kvm", "translate"], 2)),
    ("an idle guest moves", idle),
    ("a writer with a disk moves, KVM to KVM", moves(["kvm", "kvm", "kvm", SPLIT, "kvm"], cpus=2)),
    ("a writer with a disk moves to the translator and back", moves(["kvm", "translate", "kvm", "translate"], cpus=2)),
    ("micro moves", moves(["kvm", "translate", "kvm"], "--machine", "micro")),
    ("savevm, loadvm", test_savevm.again_and_again(2, 3)),
    ("CPUs come and go", cpus_come_and_go),
    ("cards come and go", test_hotplug.cards),
    ("disks come and go", test_hotplug.disks),
    ("gdb: single steps as the interpreter's", steps),
    ("gdb: breakpoints", breakpoints),
]

if __name__ == "__main__":
    sys.exit(run_all(CASES))
