#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb stub: by hand (what goes over the wire), and with gdb itself on a kernel with the symbols of /proc/kallsyms."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from guest import Skip, check, lodge, need_guest, run_all, tiny


class Rsp:
    """A client made by hand."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        end = time.monotonic() + 60
        while True:
            try:
                self.s.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self.buf = b""

    def send(self, body):
        body = body.encode() if isinstance(body, str) else body
        self.s.sendall(b"$" + body + b"#%02x" % (sum(body) & 255))

    def answer(self):
        while True:
            m = re.search(rb"\$((?:[^#])*)#(..)", self.buf, re.S)
            if m:
                break
            more = self.s.recv(65536)
            check(more, "the stub hung up")
            self.buf += more
        self.buf = self.buf[m.end():]
        check(sum(m.group(1)) & 255 == int(m.group(2), 16), f"wrong sum: {m.group(0)}")
        self.s.sendall(b"+")
        return re.sub(rb"\}(.)", lambda x: bytes([x.group(1)[0] ^ 0x20]), m.group(1), flags=re.S).decode("latin1")

    def ask(self, body):
        self.send(body)
        return self.answer()

    def ok(self, body):
        r = self.ask(body)
        check(r == "OK", f"{body}: {r}")

    def xml(self):
        out = ""
        while True:
            r = self.ask(f"qXfer:features:read:target.xml:{len(out):x},800")
            out += r[1:]
            if r[0] == "l":
                return out

    def regs(self):
        self.number = {m.group(1): (int(m.group(3)), int(m.group(2)) // 8)
                       for m in re.finditer(r'<reg name="(\w+)" bitsize="(\d+)" type="\w+" regnum="(\d+)"', self.xml())}

    def reg(self, name):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{self.number[name][0]:x}")), "little")

    def set_reg(self, name, v):
        n, size = self.number[name]
        self.ok(f"P{n:x}={v.to_bytes(size, 'little').hex()}")

    def mem(self, at, n):
        r = self.ask(f"m{at:x},{n:x}")
        check(not r.startswith("E"), f"memory at {at:x}: {r}")
        return bytes.fromhex(r)

    def word(self, at):
        return int.from_bytes(self.mem(at, 8), "little")

    def go(self):
        """Goes on until it stops again: the reply."""
        return self.ask("c")


def symbols(vm, *names):
    vm.expect("# ", 60)
    out = vm.shell(f"grep -E ' ({'|'.join(names)})$' /proc/kallsyms")
    found = {m.group(2): int(m.group(1), 16) for m in re.finditer(r"([0-9a-f]{16}) \w (\w+)", out)}
    missing = [n for n in names if n not in found]
    if missing:
        raise Skip(f"the guest's kernel does not tell where {missing} are")
    return found


def guest(folder, *args, **kw):
    need_guest()
    return tiny("--gdb", f"unix:{folder}/gdb", *args, append="nokaslr", **kw)


def by_hand():
    with tempfile.TemporaryDirectory() as d:
        in_folder(d, dict(os.environ, XDG_RUNTIME_DIR=d))


def in_folder(d, env):
    with guest(d, "--paused", "--cpus", "2", "--name", "g", env=env) as vm:
        g = Rsp(f"{d}/gdb")
        g.regs()
        check("swbreak+" in g.ask("qSupported:swbreak+"), "no swbreak")
        check(g.ask("?").startswith("T05"), "not stopped")
        check(g.ask("qfThreadInfo") == "m01,02" and g.ask("qsThreadInfo") == "l", "threads")
        rip = g.reg("rip")
        check(g.ask("s").startswith("T05") and g.reg("rip") != rip, "a step goes nowhere")
        g.send("c")
        sym = symbols(vm, "__x64_sys_newuname", "do_syscall_64")
        g.s.sendall(b"\x03")
        check(g.answer().startswith("T02"), "^C")
        at = sym["__x64_sys_newuname"]
        code = g.mem(at, 16)
        g.ok(f"Z0,{at:x},1")
        g.ok(f"Z0,{at:x},1")
        check(g.mem(at, 16) == code, "the breakpoint shows in memory")
        # It would be in the guest's memory still when that is loaded without gdb.
        status, _, err = lodge("snapshot", "create", "g", f"{d}/saved", env=env)
        check(status == 1 and "breakpoints" in err and not os.path.exists(f"{d}/saved"), f"saved with a breakpoint: {status} {err}")
        vm.send("uname -m\n")
        r = g.go()
        check("swbreak" in r, r)
        check(g.reg("rip") == at, f"stopped at {g.reg('rip'):x}")
        # As gdb does: the breakpoint is out during the step.
        g.ok(f"z0,{at:x},1")
        check(g.ask("vCont;s:" + re.search(r"thread:(\w+)", r).group(1)).startswith("T05"), "step")
        check(at < g.reg("rip") < at + 16, f"a step went to {g.reg('rip'):x}")
        g.ok(f"Z0,{at:x},1")
        vm.send("uname -m\n")
        # The next call, from where it is: back to its caller, whose address is on the stack at the entry.
        r = g.go()
        check("swbreak" in r and g.reg("rip") == at, r)
        sp, back = g.reg("rsp"), g.word(g.reg("rsp"))
        user = g.word(g.reg("rdi") + 14 * 8)	# struct pt_regs: the program's RDI, a struct new_utsname
        g.ok(f"z0,{at:x},1")
        g.ok(f"Z2,{sp - 8:x},8")
        r = g.go()
        check(f"watch:{sp - 8:x}" in r, r)
        g.ok(f"z2,{sp - 8:x},8")
        g.ok(f"Z1,{back:x},1")
        r = g.go()
        check("hwbreak" in r and g.reg("rip") == back and g.reg("rsp") == sp + 8, r)
        g.ok(f"z1,{back:x},1")
        rbx = g.reg("rbx")
        check(g.reg("rax") == 0, "uname failed")
        g.set_reg("rbx", 0x123456789abcdef0)
        check(g.reg("rbx") == 0x123456789abcdef0 and g.reg("rax") == 0, "RBX")
        regs = g.ask("g")
        g.ok("G" + regs)
        check(g.ask("g") == regs, "all registers")
        g.set_reg("rbx", rbx)
        check(g.mem(user + 4 * 65, 7) == b"x86_64\0", "the answer of uname")
        g.ok(f"M{user + 4 * 65:x},7:" + b"lodge86".hex())
        g.ok("D")
        vm.expect("lodge86", 30)
        check("4" in vm.shell("echo $((2+2))"), "the guest does not go on")


def bad_input():
    with tempfile.TemporaryDirectory() as d, guest(d) as vm:
        vm.expect("# ", 120)
        g = Rsp(f"{d}/gdb")
        g.regs()
        for body in ("m", "mzz,1", "m0,", "M0,4:1", "X0,8:12", "Z0,0,1", "Z9,0,1", "Z2,1,8", "Z2,0,3", "p9999", "P0=", "H", "Hgff", "T7f",
                     "vCont;x", "vCont", "vCont;s:99", "qXfer:features:read:target.xml:", "G", "qThreadExtraInfo,9", "Z0,ffff800000000000,1",
                     "m" + "f" * 40 + ",1"):
            r = g.ask(body)
            check(r == "" or r.startswith("E") or body in ("G",), f"{body}: {r!r}")
        for body in ("Hg00", "Hc-1", "Hg0000"):
            g.ok(body)
            check(g.ask("qC") == "QC01", f"{body}: another thread")
        check(g.ask("m8000000000000000,10").startswith("E"), "a non-canonical address was read")
        for body in ("", "vMustReplyEmpty", "qUnknown", "!", "Qx"):
            check(g.ask(body) == "", body)
        g.s.sendall(b"$m0,1#00")
        g.s.sendall(b"junk$$$##$" + b"x" * 40000 + b"#00")
        check(g.ask("?").startswith("T05"), "lost after junk")
        check("VM status" in bytes.fromhex(g.ask("qRcmd," + b"info status".hex())).decode(), "monitor")
        # A packet while the guest runs stops it first, and then is done.
        g.s.sendall(b"$c#63$c#63")
        check(g.answer().startswith("T05"), "a stop for a packet")
        time.sleep(0.2)
        g.s.sendall(b"\x03")
        check(g.answer().startswith("T02"), "^C behind it")
        # Four points there are, and no more.
        for i in range(4):
            g.ok(f"Z1,{0x1000 + i:x},1")
        check(g.ask("Z1,2000,1").startswith("E"), "a fifth point")
        g.send("c")
        g.s.close()
        vm.send("echo al''ive\n")
        vm.expect("alive", 30)
        # Gone while it stood still: the guest goes on, and the next may come.
        g = Rsp(f"{d}/gdb")
        check(g.ask("?").startswith("T05"), "second client")
        g.s.close()
        vm.send("echo st''ill\n")
        vm.expect("still", 30)
        g = Rsp(f"{d}/gdb")
        g.send("k")
        check(vm.wait(30) == 0, "kill")


def symbol_file(folder, sym):
    """A program that has these functions at these addresses, and nothing in them."""
    base = min(sym.values()) & ~0xfff
    with open(f"{folder}/map.s", "w") as f:
        f.write('.section .ktext,"ax",@nobits\n')
        for name, at in sorted(sym.items(), key=lambda x: x[1]):
            f.write(f".org {at - base}\n.globl {name}\n.type {name}, @function\n{name}: .skip 16\n")
    subprocess.run(["as", "-o", f"{folder}/map.o", f"{folder}/map.s"], check=True)
    subprocess.run(["ld", f"--section-start=.ktext={base:#x}", "-e", "0", "-o", f"{folder}/map.elf", f"{folder}/map.o"], check=True)


def with_gdb():
    """Symbols as a System.map has them, a breakpoint in a system call, a walk up the stack, and on."""
    gdb = shutil.which("gdb")
    if not gdb or not shutil.which("as"):
        raise Skip("gdb or binutils is not installed")
    names = ("__x64_sys_newuname", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
    with tempfile.TemporaryDirectory() as d, guest(d) as vm:
        sym = symbols(vm, *names)
        symbol_file(d, sym)
        vm.send("sleep 3; uname -m; echo do''ne\n")
        script = ["set pagination off", "set confirm off", f"symbol-file {d}/map.elf", f"target remote {d}/gdb", "info threads",
                  "break *__x64_sys_newuname", "continue", "print/x $rip", "print/x $cr3", "print $eflags", "print $xmm0.uint128",
                  "x/2i $rip", "x/gx $rsp", "stepi", "print/x $rip", "delete", "watch -location *(long*)($rsp-16)", "continue", "delete",
                  "info registers rip", "monitor info status", "detach"]
        cmd = [gdb, "-nx", "-batch"]
        for s in script:
            cmd += ["-ex", s]
        r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        at = sym[names[0]]
        check(f"$1 = {at:#x}" in r.stdout, r.stdout)
        check("__x64_sys_newuname" in r.stdout and "Hardware watchpoint" in r.stdout and "Old value" in r.stdout, r.stdout)
        check("VM status: paused" in r.stdout and r.stdout.count("(CPU#") + r.stdout.count("CPU#0") >= 1, r.stdout)
        vm.expect("done", 60)


if __name__ == "__main__":
    run_all([("by hand", by_hand), ("bad input", bad_input), ("with gdb", with_gdb)])
