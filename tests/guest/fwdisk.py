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

# Prints by INT 10h, reads sector 1 by INT 13h and prints it, says which key INT 16h gave, and after another one powers
# off by the ACPI registers.
BOOT_SECTOR = r"""
    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
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


def boot_sector(d):
    """A disk with a 16-bit program; its path."""
    tool("as", "objcopy")
    src, obj, img = (os.path.join(d, n) for n in ("boot.s", "boot.o", "boot.img"))
    with open(src, "w", encoding="ascii") as f:
        f.write(BOOT_SECTOR)
    run("as", "--32", "-o", obj, src)
    run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", img, obj)
    with open(img, "r+b") as f:
        f.truncate(2048 * SECTOR)
    put(img, 1, b"by LBA\r\n\0")
    put(img, 2, b"by CHS\r\n\0")
    return img


GRUB_CFG = """
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=60
menuentry "first" { echo wrong }
menuentry "lodge-menu" {
  linux %svmlinuz console=ttyS0 quiet lodge.do=poweroff
  initrd %sinitrd.img
}
"""


def grub_bios(d):
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
        f.write(GRUB_CFG % ("/", "/"))
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


def grub_efi(d):
    """GPT with an ESP that has GRUB, a kernel and an initrd."""
    need_guest()
    tool("grub-mkimage", "mformat", "mcopy", "mmd")
    if not os.path.isdir("/usr/lib/grub/x86_64-efi"):
        raise Skip("grub-efi-amd64-bin is not installed")
    app, esp, cfg, early, img = (os.path.join(d, n) for n in ("grub.efi", "esp.img", "efi.cfg", "early.cfg", "efi.img"))
    with open(cfg, "w", encoding="ascii") as f:
        f.write(GRUB_CFG % ("/", "/"))
    with open(early, "w", encoding="ascii") as f:
        f.write("search --file --set=root /efi.cfg\nconfigfile /efi.cfg\n")
    run("grub-mkimage", "-O", "x86_64-efi", "-o", app, "-p", "/", "-c", early, "fat", "part_gpt", "normal", "linux", "serial",
        "echo", "search", "search_fs_file", "configfile")
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
