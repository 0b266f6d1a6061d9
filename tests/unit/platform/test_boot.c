// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: good images end where their protocol says, with the information
 * the guest is owed; every kind of damaged image gives an error that names the
 * file and what is wrong with it, and leaves nothing half-done that matters.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "platform/x86/boot.h"
#include "platform/x86/layout.h"

#define MIB (1ull << 20)
#define RAM (64 * MIB)
#define RSDP 0xe0000ull

struct fix {
	struct mem *mem;
	struct e820 map;
	struct boot_file kernel, initrd[3];
	struct boot_ctx b;
	struct err e;
	uint8_t img[65536];
};

static void make_mem(struct fix *f, uint64_t size)
{
	uint64_t low = e820_low_size(size);

	assert_int_equal(mem_new(&f->mem), 0);
	assert_int_equal(mem_create_ram(f->mem, size, MEM_HUGE_NONE, &f->e), 0);
	assert_int_equal(mem_add_ram(f->mem, "base", 0, 0, LAYOUT_LOW_END, &f->e), 0);
	assert_int_equal(mem_add_ram(f->mem, "low", LAYOUT_SHADOW, LAYOUT_SHADOW, low - LAYOUT_SHADOW, &f->e), 0);
	if (size > low)
		assert_int_equal(mem_add_ram(f->mem, "high", LAYOUT_4G, low, size - low, &f->e), 0);
	e820_build(&f->map, size, 1);
	f->b = (struct boot_ctx){
		.mem = f->mem, .e820 = &f->map, .mem_size = size, .rsdp = RSDP, .cmdline = "console=ttyS0",
		.kernel = &f->kernel, .initrds = f->initrd,
	};
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	make_mem(f, RAM);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	mem_free(f->mem);
	free(f);
	return 0;
}

static uint32_t guest32(struct fix *f, uint64_t gpa)
{
	uint32_t v;

	assert_int_equal(mem_read(f->mem, gpa, &v, 4), 0);
	return v;
}

static uint64_t guest64(struct fix *f, uint64_t gpa)
{
	uint64_t v;

	assert_int_equal(mem_read(f->mem, gpa, &v, 8), 0);
	return v;
}

static int load(struct fix *f, size_t len)
{
	boot_file_of_memory(&f->kernel, "the-kernel", "kernel", f->img, len);
	f->e.msg[0] = 0;
	return boot_load(&f->b, &f->e);
}

/* Loading must fail with a text that has both the name and the reason. */
static void refused(struct fix *f, size_t len, const char *name, const char *reason)
{
	int r = load(f, len);

	if (r >= 0 || !strstr(f->e.msg, name) || !strstr(f->e.msg, reason))
		fail_msg("wanted an error with '%s' and '%s', got %d: %s", name, reason, r, f->e.msg);
}

/* A relocatable 64-bit bzImage of protocol 2.15 with `code` bytes of kernel. */
static size_t make_bzimage(struct fix *f, unsigned code)
{
	uint8_t *p = f->img;

	memset(p, 0, sizeof(f->img));
	p[0x1f1] = 3;
	st_le32(p + 0x1f4, code / 16);
	st_le16(p + 0x1fe, 0xaa55);
	p[0x201] = 0x6a;
	memcpy(p + 0x202, "HdrS", 4);
	st_le16(p + 0x206, 0x20f);
	p[0x211] = 1;
	st_le32(p + 0x22c, 0x7fffffff);
	st_le32(p + 0x230, 0x200000);
	p[0x234] = 1;
	st_le16(p + 0x236, 3);
	st_le32(p + 0x238, 2047);
	st_le64(p + 0x258, 0x1000000);
	st_le32(p + 0x260, 0x100000);
	memset(p + 2048, 0x90, code);
	return 2048 + code;
}

static void bzimage_64(void **state)
{
	struct fix *f = *state;

	assert_int_equal(load(f, make_bzimage(f, 4096)), 0);
	assert_int_equal(f->b.start.mode, BOOT_LONG64);
	assert_int_equal(f->b.start.rip, 0x1000200);
	assert_int_equal(f->b.start.rsi, LAYOUT_BOOT_INFO);
	assert_int_equal(guest32(f, 0x1000000), 0x90909090);
	assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 0x202), 0x53726448);
	assert_int_equal(guest64(f, LAYOUT_BOOT_INFO + 0x70), RSDP);
	assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 0x1e8) & 0xff, f->map.n);
	assert_int_equal(guest64(f, LAYOUT_BOOT_INFO + 0x2d0 + 8), LAYOUT_EBDA);
	assert_string_equal(mem_ptr(f->mem, guest32(f, LAYOUT_BOOT_INFO + 0x228), 14, false), "console=ttyS0");
	/* Identity map: PML4 -> PDPT -> PD 3 -> the page of 3 GiB. */
	assert_int_equal(guest64(f, LAYOUT_BOOT_PT) & ~0xfffull, LAYOUT_BOOT_PT + 0x1000);
	assert_int_equal(guest64(f, LAYOUT_BOOT_PT + 0x5000), 0xc0000083);
}

static void bzimage_32(void **state)
{
	struct fix *f = *state;
	size_t len = make_bzimage(f, 4096);

	st_le16(f->img + 0x236, 0);
	assert_int_equal(load(f, len), 0);
	assert_int_equal(f->b.start.mode, BOOT_PM32);
	assert_int_equal(f->b.start.rip, 0x1000000);
}

/* A small guest: the kernel goes lower if it can be moved, else it is told why not. */
static void bzimage_moves(void **state)
{
	struct fix *f = *state;
	size_t len;

	mem_free(f->mem);
	make_mem(f, 8 * MIB);
	len = make_bzimage(f, 4096);
	assert_int_equal(load(f, len), 0);
	assert_int_equal(f->b.start.rip, 0x200200);
	f->img[0x234] = 0;
	refused(f, len, "the-kernel", "needs 1 MiB of memory at 0x1000000, the guest has 8 MiB");
}

static void initrds_are_concatenated(void **state)
{
	struct fix *f = *state;
	uint8_t a[5] = "aaaaa", b[4096];
	uint32_t at;

	memset(b, 'b', sizeof(b));
	boot_file_of_memory(&f->initrd[0], "a", "initrd", a, 5);
	boot_file_of_memory(&f->initrd[1], "b", "initrd", b, sizeof(b));
	f->b.n_initrds = 2;
	assert_int_equal(load(f, make_bzimage(f, 4096)), 0);
	at = guest32(f, LAYOUT_BOOT_INFO + 0x218);
	assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 0x21c), 8 + 4096);
	assert_int_equal(at % 4096, 0);
	assert_true(at + 8 + 4096 <= RAM && at > 0x1000000 + 0x100000);
	assert_int_equal(guest32(f, at), 0x61616161);
	assert_int_equal(guest32(f, at + 4), 'a');
	assert_int_equal(guest32(f, at + 8), 0x62626262);
}

/* No room below the limit the kernel states: above 4 GiB, if it allows that. */
static void initrd_above_4g(void **state)
{
	struct fix *f = *state;
	uint8_t a[4096] = "x";
	size_t len;

	mem_free(f->mem);
	make_mem(f, 4096 * MIB);
	boot_file_of_memory(&f->initrd[0], "a", "initrd", a, sizeof(a));
	f->b.n_initrds = 1;
	len = make_bzimage(f, 4096);
	st_le32(f->img + 0x22c, 0xfffff);
	assert_int_equal(load(f, len), 0);
	assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 0xc0), 1);
	st_le16(f->img + 0x236, 1);
	refused(f, len, "initrd a", "do not fit");
}

static void initrd_too_large(void **state)
{
	struct fix *f = *state;
	size_t size = 63 * MIB;
	uint8_t *a = calloc(1, size);

	assert_non_null(a);
	boot_file_of_memory(&f->initrd[0], "big.img", "initrd", a, size);
	f->b.n_initrds = 1;
	refused(f, make_bzimage(f, 4096), "big.img", "do not fit beside the kernel into the guest's 64 MiB");
	free(a);
}

static void damaged_bzimages(void **state)
{
	struct fix *f = *state;
	char longline[4096];
	size_t len = make_bzimage(f, 4096);

	refused(f, len - 100, "the-kernel", "truncated");
	refused(f, 2048, "the-kernel", "truncated");
	refused(f, 0x210, "the-kernel", "zImage");
	refused(f, 100, "the-kernel", "not a kernel image");
	make_bzimage(f, 4096);
	f->img[0x211] = 0;
	refused(f, len, "the-kernel", "zImage");
	make_bzimage(f, 4096);
	st_le64(f->img + 0x258, UINT64_MAX - 4096);
	f->img[0x234] = 0;
	refused(f, len, "the-kernel", "needs");
	make_bzimage(f, 4096);
	memset(longline, 'x', sizeof(longline) - 1);
	longline[sizeof(longline) - 1] = 0;
	f->b.cmdline = longline;
	refused(f, len, "the-kernel", "4095 characters, this kernel takes 2047");
}

/* An ELF file with one loaded segment and one note segment. */
static size_t make_elf(struct fix *f, bool is64, uint64_t paddr, const void *text, unsigned len)
{
	uint8_t *p = f->img, *ph = p + (is64 ? 64 : 52);

	memset(p, 0, sizeof(f->img));
	memcpy(p, "\177ELF", 4);
	p[4] = is64 ? 2 : 1;
	p[5] = p[6] = 1;
	st_le16(p + 16, 2);
	st_le16(p + 18, is64 ? 62 : 3);
	if (is64) {
		st_le64(p + 24, paddr);
		st_le64(p + 32, 64);
		st_le16(p + 54, 56);
		st_le16(p + 56, 2);
		st_le32(ph, 1);
		st_le64(ph + 8, 4096);
		st_le64(ph + 16, paddr);
		st_le64(ph + 24, paddr);
		st_le64(ph + 32, len);
		st_le64(ph + 40, len + 4096);
		st_le32(ph + 56, 4);
		st_le64(ph + 56 + 8, 1024);
		st_le64(ph + 56 + 32, 20);
	} else {
		st_le32(p + 24, (uint32_t)paddr);
		st_le32(p + 28, 52);
		st_le16(p + 42, 32);
		st_le16(p + 44, 2);
		st_le32(ph, 1);
		st_le32(ph + 4, 4096);
		st_le32(ph + 8, (uint32_t)paddr);
		st_le32(ph + 12, (uint32_t)paddr);
		st_le32(ph + 16, len);
		st_le32(ph + 20, len + 4096);
		st_le32(ph + 32, 4);
		st_le32(ph + 32 + 4, 1024);
		st_le32(ph + 32 + 16, 20);
	}
	memcpy(p + 4096, text, len);
	return 4096 + len;
}

static void add_note(struct fix *f, uint32_t entry)
{
	st_le32(f->img + 1024, 4);
	st_le32(f->img + 1028, 4);
	st_le32(f->img + 1032, 18);
	memcpy(f->img + 1036, "Xen", 4);
	st_le32(f->img + 1040, entry);
}

static void pvh(void **state)
{
	struct fix *f = *state;
	uint8_t mod[5] = "hello";
	uint64_t list;

	for (int is64 = 0; is64 < 2; is64++) {
		size_t len = make_elf(f, is64, 0x200000, "kern", 4);

		add_note(f, 0x200100);
		boot_file_of_memory(&f->initrd[0], "mod", "initrd", mod, 5);
		f->b.n_initrds = 1;
		assert_int_equal(load(f, len), 0);
		assert_int_equal(f->b.start.mode, BOOT_PM32);
		assert_int_equal(f->b.start.rip, 0x200100);
		assert_int_equal(f->b.start.rbx, LAYOUT_BOOT_INFO);
		assert_int_equal(guest32(f, 0x200000), 0x6e72656b);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO), 0x336ec578);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 4), 1);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 12), 1);
		assert_int_equal(guest64(f, LAYOUT_BOOT_INFO + 32), RSDP);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 48), f->map.n);
		list = guest64(f, LAYOUT_BOOT_INFO + 16);
		assert_int_equal(guest64(f, list + 8), 5);
		assert_int_equal(guest32(f, guest64(f, list)), 0x6c6c6568);
	}
}

static void damaged_elfs(void **state)
{
	struct fix *f = *state;
	size_t len = make_elf(f, true, 0x200000, "kern", 4);

	refused(f, len, "the-kernel", "neither a Multiboot header nor a PVH entry note");
	add_note(f, 0x200100);
	refused(f, len - 1, "the-kernel", "truncated");
	refused(f, 63, "the-kernel", "truncated");
	refused(f, 80, "the-kernel", "truncated");
	st_le16(f->img + 18, 183);
	refused(f, len, "the-kernel", "not made for x86");
	make_elf(f, true, 0x200000, "kern", 4);
	st_le16(f->img + 16, 1);
	refused(f, len, "the-kernel", "not an executable");
	make_elf(f, true, RAM - 4096, "kern", 4);
	add_note(f, 0x200100);
	refused(f, len, "the-kernel", "does not fit into the guest's 64 MiB");
	make_elf(f, true, UINT64_MAX - 1, "kern", 4);
	add_note(f, 0x200100);
	refused(f, len, "the-kernel", "does not fit");
	make_elf(f, true, 0x200000, "kern", 4);
	st_le64(f->img + 64 + 40, 2);
	refused(f, len, "the-kernel", "larger in the file than in memory");
	make_elf(f, true, 0x7000, "kern", 4);
	add_note(f, 0x7000);
	refused(f, len, "the-kernel", "does not fit");	/* boot structures are there */
}

static void add_multiboot(struct fix *f, unsigned off, uint32_t flags)
{
	st_le32(f->img + off, 0x1badb002);
	st_le32(f->img + off + 4, flags);
	st_le32(f->img + off + 8, 0u - 0x1badb002 - flags);
}

static void multiboot_elf(void **state)
{
	struct fix *f = *state;
	uint8_t mod[6] = "A=1\nB";
	uint64_t mods, mmap, room;
	char line[64];

	for (int is64 = 0; is64 < 2; is64++) {
		size_t len = make_elf(f, is64, 0x400000, "kern", 4);

		add_multiboot(f, 2048, 0);
		boot_file_of_memory(&f->initrd[0], "env", "initrd", mod, 6);
		f->b.n_initrds = 1;
		assert_int_equal(load(f, len), 0);
		assert_string_equal(f->b.kind, "Multiboot");
		assert_int_equal(f->b.start.rip, 0x400000);
		assert_int_equal(f->b.start.rax, 0x2badb002);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO) & 0x4d, 0x4d);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 4), 640);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 8), (RAM >> 10) - 1024);
		mem_read(f->mem, guest32(f, LAYOUT_BOOT_INFO + 16), line, sizeof(line));
		assert_string_equal(line, "the-kernel console=ttyS0");
		mods = guest32(f, LAYOUT_BOOT_INFO + 24);
		assert_int_equal(guest32(f, LAYOUT_BOOT_INFO + 20), 1);
		assert_int_equal(guest32(f, mods + 4) - guest32(f, mods), 6);
		assert_int_equal(guest32(f, mods) % 4096, 0);
		assert_memory_equal(mem_ptr(f->mem, guest32(f, mods), 6, false), mod, 6);
		assert_string_equal(mem_ptr(f->mem, guest32(f, mods + 8), 4, false), "env");
		mmap = guest32(f, LAYOUT_BOOT_INFO + 48);
		room = guest32(f, LAYOUT_BOOT_INFO + 44);
		assert_int_equal(room, f->map.n * 24);
		assert_int_equal(guest32(f, mmap), 20);
		assert_int_equal(guest64(f, mmap + 12), LAYOUT_EBDA);
	}
}

/* The header carries the addresses: any file will do. */
static void multiboot_flat(void **state)
{
	struct fix *f = *state;

	memset(f->img, 0, sizeof(f->img));
	add_multiboot(f, 32, 0x10000);
	st_le32(f->img + 44, 0x100020);		/* header_addr */
	st_le32(f->img + 48, 0x100000);		/* load_addr */
	st_le32(f->img + 52, 0x100000 + 512);	/* load_end */
	st_le32(f->img + 56, 0x100000 + 8192);	/* bss_end */
	st_le32(f->img + 60, 0x100100);
	mem_write(f->mem, 0x101000, "dirt", 4);
	assert_int_equal(load(f, 1024), 0);
	assert_int_equal(f->b.start.rip, 0x100100);
	assert_int_equal(guest32(f, 0x100020), 0x1badb002);
	assert_int_equal(guest32(f, 0x101000), 0);
	st_le32(f->img + 52, 0x100000 + 4096);
	refused(f, 1024, "the-kernel", "truncated");
	st_le32(f->img + 48, 0x200000);
	refused(f, 1024, "the-kernel", "contradict");
	add_multiboot(f, 32, 0x10000 | 0x100);
	refused(f, 1024, "the-kernel", "features that do not exist");
}

static void files(void **state)
{
	struct boot_file file;
	struct err e;
	char path[] = "/tmp/lodge-boot-XXXXXX";
	int fd = mkstemp(path), fds[2];
	char pipe_path[32], buf[4];

	assert_true(fd >= 0);
	assert_true(boot_file_open(&file, "/nonexistent/k", "kernel", &e) == -ENOENT);
	assert_string_equal(e.msg, "kernel /nonexistent/k: No such file or directory");
	assert_true(boot_file_open(&file, "/tmp", "kernel", &e) == -EISDIR);
	assert_true(boot_file_open(&file, path, "initrd", &e) < 0);
	assert_non_null(strstr(e.msg, "the file is empty"));
	assert_int_equal(write(fd, "data", 4), 4);
	assert_int_equal(boot_file_open(&file, path, "initrd", &e), 0);
	assert_int_equal(ftruncate(fd, 1), 0);
	assert_true(boot_file_read(&file, 0, buf, 4, &e) == -EIO);
	assert_non_null(strstr(e.msg, "shrank"));
	boot_file_close(&file);
	close(fd);
	unlink(path);

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "pipe", 4), 4);
	close(fds[1]);
	snprintf(pipe_path, sizeof(pipe_path), "/dev/fd/%d", fds[0]);
	assert_int_equal(boot_file_open(&file, pipe_path, "kernel", &e), 0);
	assert_int_equal(file.size, 4);
	assert_int_equal(boot_file_read(&file, 0, buf, 4, &e), 0);
	assert_memory_equal(buf, "pipe", 4);
	boot_file_close(&file);
	close(fds[0]);
}

static void memory_map(void **state)
{
	const uint64_t sizes[] = { MIB, 64 * MIB, LAYOUT_LOW_MAX, LAYOUT_LOW_MAX + 4096, 1ull << 40 };
	struct e820 t;

	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t ram = 0;

		e820_build(&t, sizes[i], 1);
		for (unsigned j = 0; j < t.n; j++) {
			if (j)
				assert_true(t.e[j].addr >= t.e[j - 1].addr + t.e[j - 1].size);
			if (t.e[j].type == E820_RAM)
				ram += t.e[j].size;
		}
		/* All but the hole and the tables below 1 MiB is the guest's. */
		assert_int_equal(ram, sizes[i] - LAYOUT_HIGH_START + LAYOUT_EBDA);
	}
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(bzimage_64), T(bzimage_32), T(bzimage_moves), T(initrds_are_concatenated), T(initrd_above_4g),
		T(initrd_too_large), T(damaged_bzimages), T(pvh), T(damaged_elfs), T(multiboot_elf),
		T(multiboot_flat), cmocka_unit_test(files), cmocka_unit_test(memory_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
