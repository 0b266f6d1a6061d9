/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ELF executables of either class, seen through one set of fields. */
#ifndef LODGE_PLATFORM_X86_BOOT_ELF_H
#define LODGE_PLATFORM_X86_BOOT_ELF_H

#include "platform/x86/boot.h"

#define ELF_MAX_SEGMENTS 64
#define ELF_PT_LOAD 1
#define ELF_PT_NOTE 4

struct elf_segment {
	uint32_t type;
	uint64_t off, paddr, vaddr, file_size, mem_size, align;
};

struct elf {
	bool is64;
	uint64_t entry;
	unsigned n;
	struct elf_segment seg[ELF_MAX_SEGMENTS];
};

/* 1: an ELF executable for x86, its program headers checked against the file;
 * 0: not ELF; -errno: ELF, but damaged or for another machine. */
int elf_parse(const struct boot_file *f, struct elf *elf, struct err *e);
/* Loads all PT_LOAD segments at their physical addresses. *end: first address after them. */
int elf_load(struct boot_ctx *b, const struct elf *elf, uint64_t *end, struct err *e);

#endif
