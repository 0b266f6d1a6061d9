// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Linux bzImage (Documentation/arch/x86/boot.rst, "The Linux/x86 Boot
 * Protocol"): the setup header is copied into boot_params, the protected-mode
 * part goes to its preferred address, and the kernel is entered at its 64-bit
 * entry (load address + 0x200) or, if it is a 32-bit kernel, at its 32-bit one.
 * The real-mode setup code never runs, so no BIOS is needed.
 *
 * Initrds are concatenated, each padded to 4 bytes (the kernel unpacks cpio
 * archives one after another), as high in memory as the kernel allows.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "platform/x86/boot.h"
#include "platform/x86/layout.h"

/* Offsets in the file's first sectors, the same in boot_params ("zero page"). */
#define H_SETUP_SECTS 0x1f1
#define H_SYSSIZE 0x1f4
#define H_BOOT_FLAG 0x1fe
#define H_JUMP_LEN 0x201
#define H_MAGIC 0x202
#define H_VERSION 0x206
#define H_LOADER 0x210
#define H_LOADFLAGS 0x211
#define H_CODE32 0x214
#define H_RAMDISK 0x218
#define H_RAMDISK_SIZE 0x21c
#define H_HEAP_END 0x224
#define H_CMDLINE 0x228
#define H_INITRD_MAX 0x22c
#define H_ALIGNMENT 0x230
#define H_RELOCATABLE 0x234
#define H_XLOADFLAGS 0x236
#define H_CMDLINE_SIZE 0x238
#define H_PREF_ADDR 0x258
#define H_INIT_SIZE 0x260
#define H_END_MAX 0x280
/* Only in boot_params. */
#define P_RSDP 0x070
#define P_EXT_RAMDISK 0x0c0
#define P_EXT_RAMDISK_SIZE 0x0c4
#define P_E820_N 0x1e8
#define P_E820 0x2d0
#define P_SIZE 4096

#define LOADED_HIGH 0x01
#define XLF_KERNEL_64 0x01
#define XLF_ABOVE_4G 0x02
#define LOADER_UNDEFINED 0xff

struct bzimage {
	uint8_t hdr[H_END_MAX];		/* the file's first bytes, zero-padded */
	unsigned hdr_end;		/* how much of them is setup header */
	uint16_t version, xloadflags;
	uint64_t code_off, code_len;	/* protected-mode part in the file */
	uint64_t load, init_size;	/* where it goes, memory it needs there */
	uint64_t initrd_max;		/* highest address of the initrd's last byte */
	uint64_t cmdline_max;		/* without the final NUL */
};

static int bad(const struct boot_ctx *b, struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "kernel %s: %s", b->kernel->path, why);
}

static int parse_code(struct boot_ctx *b, struct bzimage *z, struct err *e)
{
	unsigned sects = z->hdr[H_SETUP_SECTS] ? z->hdr[H_SETUP_SECTS] : 4;
	uint64_t need = (uint64_t)ld_le32(z->hdr + H_SYSSIZE) * 16;

	z->code_off = (sects + 1) * 512ull;
	if (b->kernel->size <= z->code_off)
		return bad(b, e, "truncated bzImage: nothing follows the setup code");
	z->code_len = b->kernel->size - z->code_off;
	/* syssize counts 16-byte units, rounded up. */
	if (need > align_up(z->code_len, 16))
		return bad(b, e, "truncated bzImage: the file is shorter than its header says");
	return 0;
}

/* Old protocols lack the later fields: the values their kernels expect instead. */
static void parse_limits(struct bzimage *z)
{
	z->initrd_max = z->version >= 0x203 ? ld_le32(z->hdr + H_INITRD_MAX) : 0x37ffffff;
	z->cmdline_max = z->version >= 0x206 ? ld_le32(z->hdr + H_CMDLINE_SIZE) : 255;
	z->xloadflags = z->version >= 0x20c ? ld_le16(z->hdr + H_XLOADFLAGS) : 0;
	if (!z->cmdline_max)
		z->cmdline_max = 255;
	z->cmdline_max = MIN(z->cmdline_max, LAYOUT_CMDLINE_MAX - 1);
}

/* Chooses the load address: the preferred one, or if the kernel can be moved
 * and memory is too small for that, the lowest that its alignment allows. */
static int parse_place(struct boot_ctx *b, struct bzimage *z, struct err *e)
{
	uint64_t pref = LAYOUT_HIGH_START, align;

	z->init_size = z->code_len;
	if (z->version >= 0x20a) {
		pref = ld_le64(z->hdr + H_PREF_ADDR);
		z->init_size = MAX(z->init_size, ld_le32(z->hdr + H_INIT_SIZE));
	}
	z->load = pref;
	/* The page tables of the 64-bit entry reach up to 4 GiB. */
	if (boot_range_ok(b, z->load, z->init_size) && z->load >= LAYOUT_HIGH_START && z->load < LAYOUT_4G)
		return 0;
	align = z->version >= 0x205 ? ld_le32(z->hdr + H_ALIGNMENT) : 0;
	if (z->version >= 0x205 && z->hdr[H_RELOCATABLE] && is_pow2(align)) {
		z->load = align_up(LAYOUT_HIGH_START, align);
		if (boot_range_ok(b, z->load, z->init_size))
			return 0;
	}
	return err_set(e, -ENOMEM, "kernel %s: it needs %llu MiB of memory at 0x%llx, the guest has %llu MiB",
		       b->kernel->path, (unsigned long long)((z->init_size + 0xfffff) >> 20),
		       (unsigned long long)z->load, (unsigned long long)(b->mem_size >> 20));
}

/* 1: a bzImage, *z filled; 0: something else. */
static int parse(struct boot_ctx *b, struct bzimage *z, struct err *e)
{
	uint64_t n = MIN(b->kernel->size, sizeof(z->hdr));
	int r;

	memset(z, 0, sizeof(*z));
	r = boot_file_read(b->kernel, 0, z->hdr, n, e);
	if (r < 0)
		return r;
	if (ld_le16(z->hdr + H_BOOT_FLAG) != 0xaa55 || memcmp(z->hdr + H_MAGIC, "HdrS", 4))
		return 0;
	z->version = ld_le16(z->hdr + H_VERSION);
	z->hdr_end = MIN(H_MAGIC + z->hdr[H_JUMP_LEN], H_END_MAX);
	memset(z->hdr + z->hdr_end, 0, H_END_MAX - z->hdr_end);
	if (z->version < 0x200 || !(z->hdr[H_LOADFLAGS] & LOADED_HIGH))
		return bad(b, e, "a zImage, which needs a BIOS to start: use a bzImage (Linux 2.6 or later)");
	r = parse_code(b, z, e);
	if (r < 0)
		return r;
	parse_limits(z);
	r = parse_place(b, z, e);
	return r < 0 ? r : 1;
}

static int total_initrd(const struct boot_ctx *b, uint64_t *total, struct err *e)
{
	*total = 0;
	for (unsigned i = 0; i < b->n_initrds; i++)
		if (add_overflows(align_up(*total, 4), b->initrds[i].size, total) || *total >> 62)
			return err_set(e, -EFBIG, "initrd %s: too large", b->initrds[i].path);
	return 0;
}

static int place_initrd(struct boot_ctx *b, const struct bzimage *z, uint64_t total, uint64_t *at, struct err *e)
{
	uint64_t max = MIN(z->initrd_max + 1, LAYOUT_4G);

	*at = boot_place(b, total, PAGE_4K, LAYOUT_HIGH_START, max, z->load, z->init_size);
	if (!*at && (z->xloadflags & XLF_ABOVE_4G))
		*at = boot_place(b, total, PAGE_4K, LAYOUT_HIGH_START, UINT64_MAX, z->load, z->init_size);
	if (*at)
		return 0;
	return err_set(e, -ENOMEM,
		       "initrd %s%s: %llu bytes do not fit beside the kernel into the guest's %llu MiB of memory",
		       b->initrds[0].path, b->n_initrds > 1 ? " (and the following ones)" : "",
		       (unsigned long long)total, (unsigned long long)(b->mem_size >> 20));
}

static int load_initrds(struct boot_ctx *b, const struct bzimage *z, uint8_t *params, struct err *e)
{
	uint64_t total, at, pos;
	int r;

	if (!b->n_initrds)
		return 0;
	r = total_initrd(b, &total, e);
	if (r == 0)
		r = place_initrd(b, z, total, &at, e);
	if (r)
		return r;
	pos = at;
	for (unsigned i = 0; i < b->n_initrds && r == 0; i++) {
		uint64_t start = align_up(pos, 4);

		r = boot_zero(b, &b->initrds[i], pos, start - pos, "its padding", e);
		if (r == 0)
			r = boot_copy(b, &b->initrds[i], 0, b->initrds[i].size, start, "the image", e);
		pos = start + b->initrds[i].size;
	}
	st_le32(params + H_RAMDISK, (uint32_t)at);
	st_le32(params + H_RAMDISK_SIZE, (uint32_t)total);
	st_le32(params + P_EXT_RAMDISK, (uint32_t)(at >> 32));
	st_le32(params + P_EXT_RAMDISK_SIZE, (uint32_t)(total >> 32));
	return r;
}

static int load_cmdline(struct boot_ctx *b, const struct bzimage *z, uint8_t *params, struct err *e)
{
	size_t len = strlen(b->cmdline);

	if (len > z->cmdline_max)
		return err_set(e, -E2BIG, "kernel %s: the command line has %zu characters, this kernel takes %llu",
			       b->kernel->path, len, (unsigned long long)z->cmdline_max);
	st_le32(params + H_CMDLINE, LAYOUT_CMDLINE);
	return boot_write(b, LAYOUT_CMDLINE, b->cmdline, len + 1, e);
}

static void fill_e820(const struct boot_ctx *b, uint8_t *params)
{
	for (unsigned i = 0; i < b->e820->n; i++) {
		uint8_t *p = params + P_E820 + 20 * i;

		st_le64(p, b->e820->e[i].addr);
		st_le64(p + 8, b->e820->e[i].size);
		st_le32(p + 16, b->e820->e[i].type);
	}
	params[P_E820_N] = (uint8_t)b->e820->n;
}

static int write_params(struct boot_ctx *b, const struct bzimage *z, uint8_t *params, struct err *e)
{
	params[H_LOADER] = LOADER_UNDEFINED;
	st_le32(params + H_CODE32, (uint32_t)z->load);
	st_le64(params + P_RSDP, b->rsdp);
	/* screen_info stays zero: no display, so the kernel uses its consoles. */
	fill_e820(b, params);
	return boot_write(b, LAYOUT_BOOT_INFO, params, P_SIZE, e);
}

int boot_linux(struct boot_ctx *b, struct err *e)
{
	uint8_t params[P_SIZE] = { 0 };
	struct bzimage z;
	bool l64;
	int r = parse(b, &z, e);

	if (r <= 0)
		return r;
	memcpy(params + H_SETUP_SECTS, z.hdr + H_SETUP_SECTS, z.hdr_end - H_SETUP_SECTS);
	r = boot_copy(b, b->kernel, z.code_off, z.code_len, z.load, "the kernel", e);
	if (r == 0)
		r = load_cmdline(b, &z, params, e);
	if (r == 0)
		r = load_initrds(b, &z, params, e);
	if (r == 0)
		r = write_params(b, &z, params, e);
	l64 = z.xloadflags & XLF_KERNEL_64;
	if (r == 0)
		r = boot_write_gdt(b, l64, e);
	if (r == 0 && l64)
		r = boot_write_pagetables(b, e);
	if (r < 0)
		return r;
	b->kind = l64 ? "bzImage (64-bit)" : "bzImage (32-bit)";
	b->start = (struct boot_start){
		.mode = l64 ? BOOT_LONG64 : BOOT_PM32,
		.rip = z.load + (l64 ? 0x200 : 0),
		.rsi = LAYOUT_BOOT_INFO,
	};
	return 1;
}
