# SPDX-License-Identifier: GPL-2.0-or-later
"""Small disks that firmware boots: made from what Debian's packages have, or by hand."""
import os
import shutil
import struct
import subprocess
import uuid
import zlib

from guest import INITRD, KERNEL, Skip, need_guest

SECTOR = 512
PART_AT = 2048                  # first sector of the one partition
FIRMWARE = {"bios": ["/usr/share/seabios/bios-256k.bin"], "uefi": ["/usr/share/OVMF/OVMF_CODE_4M.fd"]}
ESP = uuid.UUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")

# How each program begins.
START = r"""
    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
"""

# The text at SI, by INT 10h; and what two programs keep the drive in.
PRINT = r"""
print:
    lodsb
    test %al, %al
    jz 2f
    mov $0x0e, %ah
    xor %bx, %bx
    int $0x10
    jmp print
2:  ret
drive:  .byte 0
"""

# Prints by INT 10h, reads sector 1 by INT 13h and prints it, says which key INT 16h gave, and after another one powers
# off by the ACPI registers.
BOOT_SECTOR = r"""
    mov %dl, drive
    mov $hello, %si
    call print
    mov $packet, %si
    mov drive, %dl
    mov $0x42, %ah
    int $0x13
    jc bad
    mov $0x7e00, %si
    call print
    mov $0x0201, %ax            # the same by cylinder, head and sector, elsewhere
    mov $0x0003, %cx
    mov drive, %dl
    xor %dh, %dh
    mov $0x8000, %bx
    int $0x13
    jc bad
    mov $0x8000, %si
    call print
    mov $ask, %si
    call print
    xor %ax, %ax
    int $0x16
    mov %al, key
    mov $got, %si
    call print
    xor %ax, %ax                # SeaBIOS's serial console holds the last characters back until it is asked for more
    int $0x16
    mov $0x2000, %ax            # SLP_EN, type 0: off
    mov $0x604, %dx
    out %ax, %dx
    jmp .
bad:
    mov $error, %si
    call print
    jmp .
""" + PRINT + r"""
hello:  .asciz "lodge boot sector\r\n"
error:  .asciz "read error\r\n"
ask:    .asciz "key? "
got:    .ascii "got "
key:    .byte 0
    .asciz "!\r\n"
packet: .byte 16, 0
    .word 1, 0x7e00, 0
    .quad 1
    .org 510
    .word 0xaa55
"""

# Waits for counter 2 of the PIT ten times, 55 ms each, as boot loaders do, and powers off. %s: done at each look.
TIMER = r"""
    mov $10, %%bp
3:  in $0x61, %%al
    and $0xfc, %%al
    or $1, %%al
    out %%al, $0x61
    mov $0xb0, %%al
    out %%al, $0x43
    mov $0xff, %%al
    out %%al, $0x42
    out %%al, $0x42
4:  %s
    in $0x61, %%al
    test $0x20, %%al
    jz 4b
    dec %%bp
    jnz 3b
    mov $0x2000, %%ax
    mov $0x604, %%dx
    out %%ax, %%dx
    jmp .
    .org 510
    .word 0xaa55
"""


# Reads sectors of a floppy by cylinder, head and sector (one more than half a track at once, across the heads' places), writes what was typed to one,
# reads that back, and powers off.
FLOPPY = r"""
    mov %dl, drive
    mov $hello, %si
    call print
    mov $0x0201, %ax            # the second sector
    mov $0x0002, %cx
    xor %dh, %dh
    call disk
    mov $0x8000, %si
    call print
    mov $LAST_COUNT, %al        # the last cylinder's second side
    mov $0x02, %ah
    mov $LAST_CX, %cx
    mov $1, %dh
    call disk
    mov $0x8000 + (LAST_COUNT - 1) * 512, %si
    call print
    mov $ask, %si
    call print
    xor %ax, %ax
    int $0x16
    mov %al, key
    mov $0x8000, %di            # the sector to be written: the key, 512 times
    mov $512, %cx
    rep stosb
    mov $0x0301, %ax
    mov $0x0503, %cx            # cylinder 5, sector 3
    xor %dh, %dh
    call disk
    mov $0x8000, %di
    mov $512, %cx
    xor %al, %al
    rep stosb
    mov $0x0201, %ax
    mov $0x0503, %cx
    xor %dh, %dh
    call disk
    mov 0x81ff, %al
    cmp key, %al
    jne bad
    mov $got, %si
    call print
    xor %ax, %ax
    int $0x16
    mov $0x2000, %ax
    mov $0x604, %dx
    out %ax, %dx
    jmp .
disk:
    mov drive, %dl
    mov $0x8000, %bx
    int $0x13
    jc bad
    ret
bad:
    mov %ah, %al
    shr $4, %al
    add $65, %al
    mov %al, code
    and $15, %ah
    add $65, %ah
    mov %ah, code + 1
    mov $error, %si
    call print
    xor %ax, %ax
    int $0x16
    jmp .
""" + PRINT + r"""
hello:  .asciz "lodge floppy\r\n"
error:  .ascii "disk error "
code:   .asciz "xx\r\n"
ask:    .asciz "key? "
got:    .ascii "wrote "
key:    .byte 0
    .asciz "!\r\n"
    .org 510
    .word 0xaa55
"""

FLOPPIES = {"360K": (40, 9), "720K": (80, 9), "1200K": (80, 15), "1440K": (80, 18), "2880K": (80, 36)}


def floppy(d, size):
    """A floppy's image with a program that reads and writes it; its path."""
    cylinders, sectors = FLOPPIES[size]
    count = sectors // 2 + 1
    img = program(d, f".set LAST_COUNT, {count}\n.set LAST_CX, {(cylinders - 1) << 8 | (sectors - count + 1)}\n" + FLOPPY)
    os.truncate(img, cylinders * 2 * sectors * SECTOR)
    put(img, 1, b"second sector\r\n\0")
    put(img, cylinders * 2 * sectors - 1, b"last sector\r\n\0")
    return img


# Begins programs of more than a sector: four more are read behind it.
LOADER = r"""
    mov $packet, %si
    mov $0x42, %ah
    int $0x13
    jc .
    jmp main
packet: .byte 16, 0
    .word 4, 0x7e00, 0
    .quad 1
    .org 510
    .word 0xaa55
"""

# Shows, one after each key: all characters in all attributes; a VBE mode of 256 colours, written through the window at
# a0000; one of 32 bits a pixel, written where its memory is; text again.  Then off.
SCREENS = LOADER + r"""
main:
    mov $0x0003, %ax
    int $0x10
    mov $0x1003, %ax            # attribute bit 7 is colour, not blinking
    xor %bx, %bx
    int $0x10
    mov $0x01, %ah              # no cursor
    mov $0x2000, %cx
    int $0x10
    xor %di, %di
2:  mov %di, %ax                # character n with attribute n, twice, in row n / 32
    mov %al, %dh
    shr $5, %dh
    mov %al, %dl
    and $31, %dl
    shl $1, %dl
    mov $0x02, %ah
    xor %bh, %bh
    int $0x10
    mov %di, %ax
    mov %al, %bl
    mov $0x09, %ah
    mov $2, %cx
    int $0x10
    inc %di
    cmp $256, %di
    jne 2b
    call key

    mov $0x4f02, %ax            # 640 x 480 x 8
    mov $0x0101, %bx
    int $0x10
    cmp $0x004f, %ax
    jne .
    mov $0x3c8, %dx
    xor %al, %al
    out %al, %dx
    inc %dx
    xor %cx, %cx
3:  mov %cl, %al                # red n / 4, green 3 n, blue 63 - n / 4
    shr $2, %al
    out %al, %dx
    imul $3, %cx, %ax
    and $63, %al
    out %al, %dx
    mov %cl, %al
    shr $2, %al
    neg %al
    add $63, %al
    out %al, %dx
    inc %cx
    cmp $256, %cx
    jne 3b
    mov $0xa000, %ax
    mov %ax, %es
    xor %cx, %cx                # x
    xor %bp, %bp                # y
    xor %di, %di
    xor %si, %si                # bank
    call bank
4:  mov %cx, %ax                # x xor y
    xor %bp, %ax
    stosb
    test %di, %di
    jnz 5f
    inc %si
    call bank
5:  inc %cx
    cmp $640, %cx
    jne 4b
    xor %cx, %cx
    inc %bp
    cmp $480, %bp
    jne 4b
    call key

    xor %ax, %ax
    mov %ax, %es
    mov $0x4f01, %ax
    mov $0x0144, %cx            # 1024 x 768 x 32
    mov $0x9000, %di
    int $0x10
    cmp $0x004f, %ax
    jne .
    mov $0x4f02, %ax
    mov $0x4144, %bx
    int $0x10
    cmp $0x004f, %ax
    jne .
    cli                         # a segment of 4 GiB, kept in real mode
    lgdt gdtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    jmp 6f
6:  mov $8, %bx
    mov %bx, %es
    and $0xfe, %al
    mov %eax, %cr0
    jmp 7f
7:  xor %ax, %ax               # an interrupt handler brings ES back from its 16 bits
    mov %ax, %es
    sti
    mov 0x9028, %edi
    xor %ecx, %ecx
    xor %ebp, %ebp
8:  mov %ecx, %eax              # x + y << 8 + (x xor y) << 16
    mov %ecx, %edx
    and $0xff, %eax
    xor %ebp, %edx
    mov %ebp, %ebx
    and $0xff, %ebx
    shl $8, %ebx
    or %ebx, %eax
    and $0xff, %edx
    shl $16, %edx
    or %edx, %eax
    mov %eax, %es:(%edi)
    add $4, %edi
    inc %ecx
    cmp $1024, %ecx
    jne 8b
    xor %ecx, %ecx
    inc %ebp
    cmp $768, %ebp
    jne 8b
    call key

    mov $0x0003, %ax
    int $0x10
    mov $0x0e41, %ax
    int $0x10
    call key
    mov $0x2000, %ax
    mov $0x604, %dx
    out %ax, %dx
    jmp .
bank:
    push %cx
    mov $0x4f05, %ax
    xor %bx, %bx
    mov %si, %dx
    int $0x10
    pop %cx
    ret
key:
    xor %ax, %ax
    int $0x16
    ret
    .align 8
gdt:    .quad 0, 0x00cf92000000ffff
gdtr:   .word 15
    .long gdt
"""


# Scrolls the screen by a line of text HZ times a second, by counter 0 of the PIT and HLT, and writes a # to the serial port every HZ
# times.  VBE 0: text mode, 80 x 25; 1: 1024 x 768 x 32, characters of 8 x 16.  The rows are moved where the screen's memory is.
SCROLL = LOADER + r"""
    .set FONT, 0xa000
main:
    .if VBE
    .set ROWS, 48
    .set COLUMNS, 128
    mov $0x1130, %ax            # ES:BP: the font of 8 x 16
    mov $6, %bh
    int $0x10
    push %es
    pop %ds
    mov %bp, %si
    xor %ax, %ax
    mov %ax, %es
    mov $FONT, %di
    mov $1024, %cx
    rep movsl
    mov %ax, %ds
    mov $0x4f01, %ax
    mov $0x0144, %cx
    mov $0x9000, %di
    int $0x10
    cmp $0x004f, %ax
    jne .
    mov $0x4f02, %ax
    mov $0x4144, %bx
    int $0x10
    cmp $0x004f, %ax
    jne .
    mov 0x9028, %eax
    mov %eax, screen
    movzwl 0x9010, %eax
    mov %eax, pitch
    shl $4, %eax
    mov %eax, row
    .else
    .set ROWS, 25
    .set COLUMNS, 80
    mov $0x0003, %ax
    int $0x10
    mov $0x01, %ah              # no cursor
    mov $0x2000, %cx
    int $0x10
    .endif
    cli
    .set DIVISOR, (1193182 + HZ / 2) / HZ
    mov $0x34, %al
    out %al, $0x43
    mov $DIVISOR & 255, %al
    out %al, $0x40
    mov $DIVISOR >> 8, %al
    out %al, $0x40
    mov $0xfe, %al
    out %al, $0x21
    mov $0xff, %al
    out %al, $0xa1
    lgdt gdtr
    lidt idtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmp $8, $1f
    .code32
1:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x7c00, %esp
    mov $ROWS, %ebp
2:  call scroll
    dec %ebp
    jnz 2b
3:  mov $HZ, %ebp
4:  sti
    hlt
    cli
    call scroll
    dec %ebp
    jnz 4b
    mov $0x3f8, %edx
    mov $'#', %al
    out %al, %dx
    jmp 3b

tick:                           # of the PIT, where the BIOS has it: vector 8
    push %eax
    mov $0x20, %al
    out %al, $0x20
    pop %eax
    iret

scroll:
    mov screen, %edi
    mov row, %eax
    lea (%edi, %eax), %esi
    imul $(ROWS - 1), %eax, %ecx
    shr $2, %ecx
    rep movsl
    mov number, %eax            # the line begins somewhere in the text, another place than its neighbours
    inc %eax
    mov %eax, number
    imul $5, %eax, %eax
    and $63, %eax
    lea text(%eax), %esi
    mov $COLUMNS, %ecx
    .if VBE
    mov $0x00c0c0c0, %ebx
    testb $7, number
    jnz 5f
    mov $0x00ffff40, %ebx       # one of eight lines is in another colour
5:  push %ecx
    push %edi
    movzbl (%esi), %eax
    inc %esi
    shl $4, %eax
    lea FONT(%eax), %ecx
    mov $16, %dh
6:  mov (%ecx), %dl
    inc %ecx
    push %ecx
    mov $8, %ecx
7:  shl $1, %dl
    sbb %eax, %eax
    and %ebx, %eax
    stosl
    loop 7b
    pop %ecx
    sub $32, %edi
    add pitch, %edi
    dec %dh
    jnz 6b
    pop %edi
    add $32, %edi
    pop %ecx
    loop 5b
    .else
    mov $7, %ah
    testb $7, number
    jnz 5f
    mov $14, %ah
5:  lodsb
    stosw
    loop 5b
    .endif
    ret

    .align 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
idt:    .fill 8, 8, 0
    .word tick, 8, 0x8e00, 0
gdtr:   .word 23
    .long gdt
idtr:   .word 71
    .long idt
screen: .long 0xb8000
row:    .long 160
pitch:  .long 0
number: .long 0
text:   .ascii "drwxr-xr-x 2 root root 4096 Nov 28 11:09 The quick brown fox jumps over the lazy dog; -rw-r--r-- 1 user "
    .ascii "users 48613 Jan 3 2026 Pack my box with five dozen liquor jugs = 0x7fff5694, [ok] gcc -O2 -Wall -c main.c "
"""


def tool(*names):
    for n in names:
        if not shutil.which(n, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise Skip(f"{n} is not installed")


def run(*args, **kw):
    env = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin", MTOOLS_SKIP_CHECK="1")
    subprocess.run(args, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)


def put(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at * SECTOR)
        f.write(data)


def make(path, sectors):
    with open(path, "wb") as f:
        f.truncate(sectors * SECTOR)


def program(d, text):
    """A disk with a 16-bit program, which goes on behind START; its path."""
    tool("as", "ld")
    src, obj, img = (os.path.join(d, n) for n in ("boot.s", "boot.o", "boot.img"))
    with open(src, "w", encoding="ascii") as f:
        f.write(START + text)
    run("as", "--32", "-o", obj, src)
    run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", img, obj)
    with open(img, "r+b") as f:
        f.truncate(2048 * SECTOR)
    return img


def screens(d):
    return program(d, SCREENS)


def scroll(d, vbe, hz=30):
    return program(d, f".set VBE, {int(vbe)}\n.set HZ, {hz}\n" + SCROLL)


def boot_sector(d):
    img = program(d, BOOT_SECTOR)
    put(img, 1, b"by LBA\r\n\0")
    put(img, 2, b"by CHS\r\n\0")
    return img


SERIAL = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"
GRUB_CFG = """
set timeout=60
menuentry "first" { echo wrong }
menuentry "lodge-menu" {
  linux %svmlinuz console=ttyS0 quiet lodge.do=poweroff
  initrd %sinitrd.img
}
"""


def grub_bios(d, terminal=SERIAL):
    """MBR, GRUB in the gap behind it, ext4 with a kernel."""
    need_guest()
    tool("grub-mkimage", "mke2fs")
    if not os.path.exists("/usr/lib/grub/i386-pc/boot.img"):
        raise Skip("grub-pc-bin is not installed")
    root, part, core, img = (os.path.join(d, n) for n in ("root", "part.img", "core.img", "bios.img"))
    os.makedirs(os.path.join(root, "boot/grub"))
    for f in (KERNEL, INITRD):
        shutil.copy(f, os.path.join(root, os.path.basename(f)))
    with open(os.path.join(root, "boot/grub/grub.cfg"), "w", encoding="ascii") as f:
        f.write(terminal + GRUB_CFG % ("/", "/"))
    sectors = 64 * 2048
    make(part, sectors)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, part)
    run("grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos", "ext2",
        "normal", "linux", "serial", "echo", "configfile")
    make(img, PART_AT + sectors)
    with open("/usr/lib/grub/i386-pc/boot.img", "rb") as f:
        put(img, 0, f.read(440))
    with open(core, "rb") as f:
        put(img, 1, f.read())
    with open(part, "rb") as f:
        put(img, PART_AT, f.read())
    with open(img, "r+b") as f:
        f.seek(446)
        f.write(struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", PART_AT, sectors))
        f.seek(510)
        f.write(b"\x55\xaa")
    return img


def write_gpt(img, sectors, total):
    entry = ESP.bytes_le + uuid.uuid4().bytes_le + struct.pack("<QQQ", PART_AT, PART_AT + sectors - 1, 0) + bytes(72)
    entries = entry + bytes(127 * 128)
    disk = uuid.uuid4().bytes_le

    def header(me, other, at):
        h = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, me, other, 34, total - 34, disk, at, 128, 128,
                        zlib.crc32(entries))
        return h[:16] + struct.pack("<I", zlib.crc32(h)) + h[20:]

    with open(img, "r+b") as f:
        f.seek(446)
        f.write(struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, total - 1))
        f.seek(510)
        f.write(b"\x55\xaa")
    put(img, 1, header(1, total - 1, 2))
    put(img, 2, entries)
    put(img, total - 33, entries)
    put(img, total - 1, header(total - 1, 1, total - 33))


# OVMF reads the serial port for itself while GRUB runs, so GRUB takes keys from OVMF.
FIRMWARE_CONSOLE = "terminal_input console\nterminal_output console\n"


def snakeoil(d):
    """The key and the certificate that are in the variables OVMF_VARS_4M.snakeoil.fd."""
    tool("openssl")
    key, cert, there = os.path.join(d, "snakeoil.key"), "/usr/share/ovmf/PkKek-1-snakeoil.pem", "/usr/share/ovmf/PkKek-1-snakeoil.key"
    if not os.path.exists(there):
        raise Skip(f"{there} is missing; install the package ovmf")
    run("openssl", "rsa", "-in", there, "-passin", "pass:snakeoil", "-out", key)
    return key, cert


def grub_efi(d, sign=False):
    """GPT with an ESP that has GRUB, a kernel and an initrd.  sign: GRUB is signed with the snakeoil key."""
    need_guest()
    tool("grub-mkimage", "mformat", "mcopy", "mmd")
    if not os.path.isdir("/usr/lib/grub/x86_64-efi"):
        raise Skip("grub-efi-amd64-bin is not installed")
    app, esp, cfg, early, img = (os.path.join(d, n) for n in ("grub.efi", "esp.img", "efi.cfg", "early.cfg", "efi.img"))
    with open(cfg, "w", encoding="ascii") as f:
        f.write(FIRMWARE_CONSOLE + GRUB_CFG % ("/", "/"))
    with open(early, "w", encoding="ascii") as f:
        f.write("search --file --set=root /efi.cfg\nconfigfile /efi.cfg\n")
    run("grub-mkimage", "-O", "x86_64-efi", "-o", app, "-p", "/", "-c", early, "fat", "part_gpt", "normal", "linux", "serial",
        "echo", "search", "search_fs_file", "configfile")
    if sign:
        tool("sbsign")
        key, cert = snakeoil(d)
        run("sbsign", "--key", key, "--cert", cert, "--output", app, app)
    sectors = 48 * 2048
    make(esp, sectors)
    run("mformat", "-i", esp, "-F", "-v", "ESP", "::")
    run("mmd", "-i", esp, "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", esp, app, "::EFI/BOOT/BOOTX64.EFI")
    run("mcopy", "-i", esp, KERNEL, INITRD, cfg, "::")
    total = PART_AT + sectors + 2048
    make(img, total)
    with open(esp, "rb") as f:
        put(img, PART_AT, f.read())
    write_gpt(img, sectors, total)
    return img


def grub_iso(d):
    """A CD that both firmwares boot: GRUB, a kernel and an initrd."""
    need_guest()
    tool("grub-mkrescue", "xorriso", "mformat")
    for n in ("i386-pc", "x86_64-efi"):
        if not os.path.isdir(f"/usr/lib/grub/{n}"):
            raise Skip(f"GRUB's {n} is not installed")
    root, iso = os.path.join(d, "cdroot"), os.path.join(d, "cd.iso")
    os.makedirs(os.path.join(root, "boot/grub"))
    for f in (KERNEL, INITRD):
        shutil.copy(f, os.path.join(root, os.path.basename(f)))
    with open(os.path.join(root, "boot/grub/grub.cfg"), "w", encoding="ascii") as f:
        f.write("if [ $grub_platform = efi ]; then\n" + FIRMWARE_CONSOLE + "else\n" + SERIAL + "fi\n" + GRUB_CFG % ("/", "/"))
    run("grub-mkrescue", "--locales=", "--themes=", "--fonts=", "-o", iso, root)
    return iso
