// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PVH: an ELF kernel entered in 32-bit protected mode at the address of its
 * XEN_ELFNOTE_PHYS32_ENTRY note, EBX pointing at struct hvm_start_info
 * (xen/include/public/arch-x86/hvm/start_info.h, version 1: with memory map).
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "platform/x86/boot.h"
#include "platform/x86/boot_elf.h"
#include "platform/x86/layout.h"

#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC 0x336ec578u
#define START_SIZE 56
#define MODULE_SIZE 32
#define MEMMAP_SIZE 24

/* Looks through one note segment; 1 found. */
static int find_in(const uint8_t *p, uint64_t len, uint64_t *entry)
{
	uint64_t pos = 0;

	while (range_inside(pos, 12, len)) {
		uint64_t name_len = ld_le32(p + pos), desc_len = ld_le32(p + pos + 4);
		uint32_t type = ld_le32(p + pos + 8);
		uint64_t name = pos + 12, desc = name + align_up(name_len, 4);

		if (!range_inside(name, align_up(name_len, 4), len) || !range_inside(desc, desc_len, len))
			return 0;
		if (type == NOTE_PHYS32_ENTRY && name_len == 4 && !memcmp(p + name, "Xen", 4) &&
		    (desc_len == 4 || desc_len == 8)) {
			*entry = ld_le(p + desc, (unsigned)desc_len);
			return 1;
		}
		pos = desc + align_up(desc_len, 4);
	}
	return 0;
}

static int find_entry(struct boot_ctx *b, const struct elf *elf, uint64_t *entry, struct err *e)
{
	uint8_t notes[4096], *p = notes;

	for (unsigned i = 0; i < elf->n; i++) {
		const struct elf_segment *s = &elf->seg[i];
		uint64_t len = MIN(s->file_size, sizeof(notes));
		int r;

		if (s->type != ELF_PT_NOTE)
			continue;
		r = boot_file_read(b->kernel, s->off, p, len, e);
		if (r < 0)
			return r;
		if (find_in(p, len, entry))
			return 0;
	}
	return err_set(e, -ENOEXEC,
		       "kernel %s: an ELF file with neither a Multiboot header nor a PVH entry note "
		       "(Linux needs CONFIG_PVH; a bzImage works too)",
		       b->kernel->path);
}

/* Modules go to the top of low memory, each on a page of its own. */
static int load_modules(struct boot_ctx *b, uint64_t kernel_end, uint64_t list, struct err *e)
{
	uint64_t top = LAYOUT_4G;
	int r = 0;

	for (unsigned i = 0; i < b->n_initrds && r == 0; i++) {
		const struct boot_file *f = &b->initrds[i];
		uint64_t at = boot_place(b, f->size, PAGE_4K, kernel_end, top, 0, 0);
		uint64_t entry[4] = { at, f->size, 0, 0 };

		if (!at)
			return err_set(e, -ENOMEM,
				       "initrd %s: %llu bytes do not fit beside the kernel into the guest's %llu MiB of memory",
				       f->path, (unsigned long long)f->size, (unsigned long long)(b->mem_size >> 20));
		r = boot_copy(b, f, 0, f->size, at, "the image", e);
		if (r == 0)
			r = boot_write(b, list + i * MODULE_SIZE, entry, sizeof(entry), e);
		top = at;
	}
	return r;
}

static int write_memmap(struct boot_ctx *b, uint64_t list, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < b->e820->n && r == 0; i++) {
		const uint64_t entry[3] = { b->e820->e[i].addr, b->e820->e[i].size, b->e820->e[i].type };

		r = boot_write(b, list + i * MEMMAP_SIZE, entry, sizeof(entry), e);
	}
	return r;
}

static int write_start_info(struct boot_ctx *b, uint64_t modules, uint64_t memmap, struct err *e)
{
	uint8_t s[START_SIZE] = { 0 };

	st_le32(s, START_MAGIC);
	st_le32(s + 4, 1);			/* version */
	st_le32(s + 12, b->n_initrds);
	st_le64(s + 16, b->n_initrds ? modules : 0);
	st_le64(s + 24, LAYOUT_CMDLINE);
	st_le64(s + 32, b->rsdp);
	st_le64(s + 40, memmap);
	st_le32(s + 48, b->e820->n);
	return boot_write(b, LAYOUT_BOOT_INFO, s, sizeof(s), e);
}

static int write_cmdline(struct boot_ctx *b, struct err *e)
{
	size_t len = strlen(b->cmdline);

	if (len >= LAYOUT_CMDLINE_MAX)
		return err_set(e, -E2BIG, "kernel %s: the command line has %zu characters, %llu are possible",
			       b->kernel->path, len, LAYOUT_CMDLINE_MAX - 1);
	return boot_write(b, LAYOUT_CMDLINE, b->cmdline, len + 1, e);
}

int boot_pvh(struct boot_ctx *b, struct err *e)
{
	const uint64_t memmap = LAYOUT_BOOT_LISTS, modules = memmap + E820_MAX * MEMMAP_SIZE;
	uint64_t entry = 0, end;
	struct elf elf;
	int r = elf_parse(b->kernel, &elf, e);

	if (r <= 0)
		return r;
	if (b->n_initrds > (LAYOUT_BOOT_LISTS_SIZE - E820_MAX * MEMMAP_SIZE) / MODULE_SIZE)
		return err_set(e, -E2BIG, "kernel %s: too many modules", b->kernel->path);
	r = find_entry(b, &elf, &entry, e);
	if (r == 0)
		r = elf_load(b, &elf, &end, e);
	if (r == 0)
		r = write_cmdline(b, e);
	if (r == 0)
		r = load_modules(b, end, modules, e);
	if (r == 0)
		r = write_memmap(b, memmap, e);
	if (r == 0)
		r = write_start_info(b, modules, memmap, e);
	if (r == 0)
		r = boot_write_gdt(b, false, e);
	if (r < 0)
		return r;
	b->kind = "PVH ELF";
	b->start = (struct boot_start){ .mode = BOOT_PM32, .rip = (uint32_t)entry, .rbx = LAYOUT_BOOT_INFO };
	return 1;
}
