// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Multiboot 1 (Multiboot Specification 0.6.96): ELF images of either class,
 * or any file whose header carries the addresses to load it at.
 *
 * Conventions of QEMU's loader that test kernels rely on: the command line
 * starts with the image's file name; a module's string is its file name.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "platform/x86/boot.h"
#include "platform/x86/boot_elf.h"
#include "platform/x86/layout.h"

#define SEARCH 8192
#define MB_MAGIC 0x1badb002u
#define MB_BOOTED 0x2badb002u
#define MB_ADDRESSES 0x10000u
/* Required features that are not page alignment, memory information or video mode. */
#define MB_UNKNOWN 0xfff8u

#define MBI_SIZE 88
#define MBI_F_MEM 0x001u
#define MBI_F_CMDLINE 0x004u
#define MBI_F_MODS 0x008u
#define MBI_F_MMAP 0x040u
#define MBI_F_LOADER 0x200u

struct header {
	uint64_t off;		/* in the file */
	uint32_t flags;
	uint32_t at, load, load_end, bss_end, entry;	/* MB_ADDRESSES */
};

/* Room in the boot lists, filled from the start. */
struct lists {
	uint64_t pos;
};

static int bad(const struct boot_ctx *b, struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "kernel %s: Multiboot: %s", b->kernel->path, why);
}

static int find_header(struct boot_ctx *b, struct header *h, struct err *e)
{
	uint8_t buf[SEARCH + 32] = { 0 };
	uint64_t n = MIN(b->kernel->size, SEARCH);
	int r = boot_file_read(b->kernel, 0, buf, n, e);

	for (uint64_t i = 0; r == 0 && i + 12 <= n; i += 4) {
		uint32_t flags = ld_le32(buf + i + 4);

		if (ld_le32(buf + i) != MB_MAGIC || MB_MAGIC + flags + ld_le32(buf + i + 8) != 0)
			continue;
		*h = (struct header){ .off = i, .flags = flags };
		if (flags & MB_ADDRESSES) {
			if (i + 32 > n)
				return bad(b, e, "truncated header");
			h->at = ld_le32(buf + i + 12);
			h->load = ld_le32(buf + i + 16);
			h->load_end = ld_le32(buf + i + 20);
			h->bss_end = ld_le32(buf + i + 24);
			h->entry = ld_le32(buf + i + 28);
		}
		return 1;
	}
	return r;
}

/* The image is loaded as the header says, whatever its format. */
static int load_flat(struct boot_ctx *b, const struct header *h, uint64_t *end, struct err *e)
{
	uint64_t off, len;
	int r;

	if (h->at < h->load || h->at - h->load > h->off)
		return bad(b, e, "the header's addresses contradict its place in the file");
	off = h->off - (h->at - h->load);
	len = b->kernel->size - off;
	if (h->load_end) {
		if (h->load_end < h->load || h->load_end - h->load > len)
			return bad(b, e, "truncated: the file ends before load_end_addr");
		len = h->load_end - h->load;
	}
	*end = h->load + len;
	r = boot_copy(b, b->kernel, off, len, h->load, "the image", e);
	if (r == 0 && h->bss_end > *end) {
		r = boot_zero(b, b->kernel, *end, h->bss_end - *end, "its bss", e);
		*end = h->bss_end;
	}
	return r;
}

static int load_image(struct boot_ctx *b, const struct header *h, uint64_t *entry, uint64_t *end, struct err *e)
{
	struct elf elf;
	int r;

	*entry = h->entry;
	if (h->flags & MB_ADDRESSES)
		return load_flat(b, h, end, e);
	r = elf_parse(b->kernel, &elf, e);
	if (r == 0)
		return bad(b, e, "neither an ELF file nor load addresses in its header");
	if (r < 0)
		return r;
	*entry = elf.entry;
	/* An entry given as a virtual address is inside some segment. */
	for (unsigned i = 0; i < elf.n; i++) {
		const struct elf_segment *s = &elf.seg[i];

		if (s->type == ELF_PT_LOAD && elf.entry >= s->vaddr && elf.entry - s->vaddr < s->mem_size)
			*entry = s->paddr + (elf.entry - s->vaddr);
	}
	if (*entry >> 32)
		return bad(b, e, "the entry point is above 4 GiB");
	return elf_load(b, &elf, end, e);
}

/* Appends to the boot lists, 8-byte aligned; *at: where. */
static int append(struct boot_ctx *b, struct lists *l, const void *p, uint64_t len, uint64_t *at, struct err *e)
{
	*at = align_up(l->pos, 8);
	if (!range_inside(*at - LAYOUT_BOOT_LISTS, len, LAYOUT_BOOT_LISTS_SIZE))
		return bad(b, e, "modules and their arguments take too much room");
	l->pos = *at + len;
	return boot_write(b, *at, p, len, e);
}

/* Two strings with a blank between, as one. */
static int write_line(struct boot_ctx *b, uint64_t at, uint64_t room, const char *first, const char *rest,
		      struct err *e)
{
	size_t n = strlen(first), m = strlen(rest);
	int r;

	if (n + m + 2 > room)
		return err_set(e, -E2BIG, "kernel %s: the command line has %zu characters, %llu are possible",
			       b->kernel->path, n + m + 1, (unsigned long long)room - 1);
	r = boot_write(b, at, first, n, e);
	if (r == 0)
		r = boot_write(b, at + n, " ", 1, e);
	return r < 0 ? r : boot_write(b, at + n + 1, rest, m + 1, e);
}

static int load_modules(struct boot_ctx *b, struct lists *l, uint64_t end, uint64_t *list, struct err *e)
{
	uint64_t pos = align_up(end, PAGE_4K), at = 0;
	int r = 0;

	*list = align_up(l->pos, 8);
	l->pos = *list + b->n_initrds * 16ull;
	if (l->pos - LAYOUT_BOOT_LISTS > LAYOUT_BOOT_LISTS_SIZE)
		return bad(b, e, "too many modules");
	for (unsigned i = 0; i < b->n_initrds && r == 0; i++) {
		const struct boot_file *f = &b->initrds[i];
		uint32_t entry[4] = { (uint32_t)pos, (uint32_t)(pos + f->size), 0, 0 };

		if (pos + f->size > LAYOUT_4G || !boot_range_ok(b, pos, f->size))
			return err_set(e, -ENOMEM, "module %s: does not fit into the guest's %llu MiB of memory", f->path,
				       (unsigned long long)(b->mem_size >> 20));
		r = boot_copy(b, f, 0, f->size, pos, "the module", e);
		if (r == 0)
			r = append(b, l, f->path, strlen(f->path) + 1, &at, e);
		entry[2] = (uint32_t)at;
		if (r == 0)
			r = boot_write(b, *list + i * 16, entry, sizeof(entry), e);
		pos = align_up(pos + f->size, PAGE_4K);
	}
	return r;
}

static int write_mmap(struct boot_ctx *b, struct lists *l, uint64_t *at, uint32_t *len, struct err *e)
{
	uint8_t buf[E820_MAX * 24];

	*len = b->e820->n * 24;
	for (unsigned i = 0; i < b->e820->n; i++) {
		uint8_t *p = buf + 24 * i;

		st_le32(p, 20);		/* size of what follows */
		st_le64(p + 4, b->e820->e[i].addr);
		st_le64(p + 12, b->e820->e[i].size);
		st_le32(p + 20, b->e820->e[i].type);
	}
	return append(b, l, buf, *len, at, e);
}

static int write_info(struct boot_ctx *b, uint64_t end, struct err *e)
{
	static const char loader[] = "lodge";
	struct lists l = { .pos = LAYOUT_BOOT_LISTS };
	uint64_t mods = 0, mmap = 0, name = 0;
	uint8_t mbi[MBI_SIZE] = { 0 };
	uint32_t mmap_len = 0;
	int r = write_line(b, LAYOUT_CMDLINE, LAYOUT_CMDLINE_MAX, b->kernel->path, b->cmdline, e);

	if (r == 0)
		r = load_modules(b, &l, end, &mods, e);
	if (r == 0)
		r = write_mmap(b, &l, &mmap, &mmap_len, e);
	if (r == 0)
		r = append(b, &l, loader, sizeof(loader), &name, e);
	if (r < 0)
		return r;
	st_le32(mbi, MBI_F_MEM | MBI_F_CMDLINE | MBI_F_MODS | MBI_F_MMAP | MBI_F_LOADER);
	st_le32(mbi + 4, LAYOUT_LOW_END >> 10);
	st_le32(mbi + 8, (uint32_t)((e820_low_size(b->mem_size) - LAYOUT_HIGH_START) >> 10));
	st_le32(mbi + 16, LAYOUT_CMDLINE);
	st_le32(mbi + 20, b->n_initrds);
	st_le32(mbi + 24, (uint32_t)mods);
	st_le32(mbi + 44, mmap_len);
	st_le32(mbi + 48, (uint32_t)mmap);
	st_le32(mbi + 64, (uint32_t)name);
	return boot_write(b, LAYOUT_BOOT_INFO, mbi, sizeof(mbi), e);
}

int boot_multiboot(struct boot_ctx *b, struct err *e)
{
	struct header h = { 0 };
	uint64_t entry = 0, end = 0;
	int r = find_header(b, &h, e);

	if (r <= 0)
		return r;
	/* A video mode is a wish (3.1.4): without a display it is not granted. */
	if (h.flags & MB_UNKNOWN)
		return bad(b, e, "the header asks for features that do not exist");
	r = load_image(b, &h, &entry, &end, e);
	if (r == 0)
		r = write_info(b, end, e);
	if (r == 0)
		r = boot_write_gdt(b, false, e);
	if (r < 0)
		return r;
	b->kind = "Multiboot";
	b->start = (struct boot_start){
		.mode = BOOT_PM32,
		.rip = entry,
		.rax = MB_BOOTED,
		.rbx = LAYOUT_BOOT_INFO,
	};
	return 1;
}
