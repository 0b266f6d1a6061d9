// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ELF program headers (System V gABI, chapter 5).  Only what a loader needs:
 * no sections, no relocation.  The file is hostile.
 */
#include "platform/x86/boot_elf.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

#define EM_386 3
#define EM_X86_64 62
#define ET_EXEC 2
#define ET_DYN 3
#define EHDR_MAX 64

static int bad(const struct boot_file *f, struct err *e, const char *why)
{
	return err_set(e, -ENOEXEC, "%s %s: ELF file: %s", f->what, f->path, why);
}

static void read_phdr(const uint8_t *p, bool is64, struct elf_segment *s)
{
	s->type = ld_le32(p);
	if (is64) {
		s->off = ld_le64(p + 8);
		s->vaddr = ld_le64(p + 16);
		s->paddr = ld_le64(p + 24);
		s->file_size = ld_le64(p + 32);
		s->mem_size = ld_le64(p + 40);
		s->align = ld_le64(p + 48);
	} else {
		s->off = ld_le32(p + 4);
		s->vaddr = ld_le32(p + 8);
		s->paddr = ld_le32(p + 12);
		s->file_size = ld_le32(p + 16);
		s->mem_size = ld_le32(p + 20);
		s->align = ld_le32(p + 28);
	}
}

static int read_segments(const struct boot_file *f, struct elf *elf, uint64_t phoff, unsigned phnum, struct err *e)
{
	unsigned size = elf->is64 ? 56 : 32;
	uint8_t buf[56];

	if (!phnum || phnum > ELF_MAX_SEGMENTS)
		return bad(f, e, phnum ? "too many program headers" : "no program headers, so nothing to load");
	if (!range_inside(phoff, (uint64_t)phnum * size, f->size))
		return bad(f, e, "truncated: the program headers lie beyond its end");
	for (unsigned i = 0; i < phnum; i++) {
		struct elf_segment *s = &elf->seg[i];
		int r = boot_file_read(f, phoff + i * size, buf, size, e);

		if (r < 0)
			return r;
		read_phdr(buf, elf->is64, s);
		if (s->type != ELF_PT_LOAD && s->type != ELF_PT_NOTE)
			continue;
		if (!range_inside(s->off, s->file_size, f->size))
			return bad(f, e, "truncated: a segment lies beyond its end");
		if (s->type == ELF_PT_LOAD && s->file_size > s->mem_size)
			return bad(f, e, "a segment is larger in the file than in memory");
	}
	elf->n = phnum;
	return 1;
}

int elf_parse(const struct boot_file *f, struct elf *elf, struct err *e)
{
	uint8_t h[EHDR_MAX] = { 0 };
	unsigned machine, type, phentsize;
	int r;

	memset(elf, 0, sizeof(*elf));
	r = boot_file_read(f, 0, h, MIN(f->size, sizeof(h)), e);
	if (r < 0)
		return r;
	if (memcmp(h, "\177ELF", 4))
		return 0;
	if (f->size < 52 || (h[4] == 2 && f->size < 64))
		return bad(f, e, "truncated header");
	machine = ld_le16(h + 18);
	type = ld_le16(h + 16);
	if ((h[4] != 1 && h[4] != 2) || h[5] != 1 || (machine != EM_386 && machine != EM_X86_64))
		return bad(f, e, "not made for x86");
	if (type != ET_EXEC && type != ET_DYN)
		return bad(f, e, "not an executable (an object or core file)");
	elf->is64 = h[4] == 2;
	elf->entry = elf->is64 ? ld_le64(h + 24) : ld_le32(h + 24);
	phentsize = ld_le16(h + (elf->is64 ? 54 : 42));
	if (phentsize != (elf->is64 ? 56u : 32u))
		return bad(f, e, "program headers of a wrong size");
	return read_segments(f, elf, elf->is64 ? ld_le64(h + 32) : ld_le32(h + 28),
			     ld_le16(h + (elf->is64 ? 56 : 44)), e);
}

int elf_load(struct boot_ctx *b, const struct elf *elf, uint64_t *end, struct err *e)
{
	unsigned loaded = 0;

	*end = 0;
	for (unsigned i = 0; i < elf->n; i++) {
		const struct elf_segment *s = &elf->seg[i];
		int r;

		if (s->type != ELF_PT_LOAD || !s->mem_size)
			continue;
		r = boot_copy(b, b->kernel, s->off, s->file_size, s->paddr, "a segment", e);
		if (r == 0)
			r = boot_zero(b, b->kernel, s->paddr + s->file_size, s->mem_size - s->file_size, "a segment", e);
		if (r < 0)
			return r;
		*end = MAX(*end, s->paddr + s->mem_size);
		loaded++;
	}
	return loaded ? 0 : bad(b->kernel, e, "no segment to load");
}
