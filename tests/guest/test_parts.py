#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Small devices that a PC may have, as Linux' own drivers see them.

Debian's generic kernel, with drivers in /partmod, comes from tests/guest/mkworkloads amd64; what is missing is skipped.
"""
import os
import shutil
import sys
import tempfile

from guest import Skip, Vm, check, run_all
from qmp import Qmp

DIR = os.environ.get("LODGE_WORKLOADS_DIR") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lodge/workloads")
KERNEL = os.path.join(DIR, "amd64/vmlinuz")
INITRD = os.path.join(DIR, "amd64/initrd.img")


class Rig:
    """Debian's generic kernel at the shell of its initial RAM disk, with a monitor."""

    def __init__(self, *args, append="", drivers=()):
        for f in (KERNEL, INITRD):
            if not os.path.exists(f):
                raise Skip(f"{f} is missing; run tests/guest/mkworkloads amd64")
        self.folder = tempfile.mkdtemp(prefix="lp")
        self.sock = os.path.join(self.folder, "q")
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.folder)
        self.drivers = drivers
        self.args = ["--memory", "512M", "--kernel", KERNEL, "--initrd", INITRD, "--net", "none", "--append", f"quiet {append}".strip(),
                     "--qmp", f"unix:{self.sock},wait=off", *args]

    def __enter__(self):
        self.vm = Vm(*self.args, env=self.env)
        self.vm.__enter__()
        try:
            self.shell()
            self.load()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.vm.__exit__(*exc)
        shutil.rmtree(self.folder, ignore_errors=True)

    def shell(self, start=0):
        self.vm.expect("init reached", 60, start)
        self.vm.expect("/ # ", 30, start)
        self.vm.shell("alias poweroff='poweroff -f'")

    def load(self):
        if not self.drivers:
            return
        have = self.vm.shell("cat /partmod/order").split()
        for d in self.drivers:
            if f"{d}.ko" not in have:
                raise Skip(f"the initial RAM disk has no driver {d}; run tests/guest/mkworkloads amd64")
        # insmod of one that lies there already fails, and that is all.
        wanted = "|".join(self.drivers)
        self.vm.shell(f"for k in $(cat /partmod/order); do case $k in i6300esb.ko|iTCO_wdt.ko|tpm_*.ko|pvpanic-pci.ko) "
                      f"echo $k | grep -qE '^({wanted}).ko' || continue;; esac; insmod /partmod/$k 2>/dev/null; done; sleep 0.5")

    def qmp(self):
        return Qmp(self.sock)

    def poweroff(self):
        self.vm.send("poweroff -f\n")
        check(self.vm.wait(60) == 0, f"the guest ended with status {self.vm.p.returncode}")


def watchdog():
    """i6300esb: fed it leaves the guest alone; unfed it does what was asked for, and tells afterwards."""
    with Rig("--watchdog", "i6300esb", drivers=["i6300esb"]) as r, r.qmp() as q:
        out = r.vm.shell("dmesg | grep -i i6300esb; ls /dev/watchdog0; cat /sys/class/watchdog/watchdog0/bootstatus")
        check("/dev/watchdog0" in out and "\n0\n" in out, f"no watchdog: {out!r}")
        r.vm.shell("watchdog -T 4 -t 1 /dev/watchdog0; sleep 6")
        check(q.cmd("query-status")["running"], "it was not left alone")
        q.cmd("watchdog-set-action", action="pause")
        r.vm.shell("killall -9 watchdog")
        check(q.event("WATCHDOG", 20) == {"action": "pause"}, "the wrong action")
        q.event("STOP")
        check(q.cmd("query-status")["status"] == "watchdog", "not stopped by the watchdog")
        check(q.cmd("human-monitor-command", **{"command-line": "watchdog_action reset"}) == "", "watchdog_action")
        q.cmd("cont")
        r.vm.shell("echo 1 >/proc/sys/kernel/printk; exec 9>/dev/watchdog0; echo >&9")
        start = len(r.vm.text())
        check(q.event("WATCHDOG", 20) == {"action": "reset"}, "the wrong action")
        check(q.event("RESET") == {"guest": True, "reason": "guest-reset"}, "no reset")
        r.shell(start)
        r.load()
        out = r.vm.shell("cat /sys/class/watchdog/watchdog0/bootstatus")
        check("\n32\n" in out, f"it does not tell that it was the watchdog: {out!r}")
        q.cmd("watchdog-set-action", action="poweroff")
        r.vm.send("watchdog -F -T 2 -t 30 /dev/watchdog0\n")
        check(q.event("SHUTDOWN", 30)["guest"], "no shutdown")
        check(r.vm.wait(30) == 0, "the status after action=poweroff")


def main():
    return run_all([
        ("i6300esb", watchdog),
    ], jobs=2)


if __name__ == "__main__":
    sys.exit(main())
