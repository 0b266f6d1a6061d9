// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu/x86/walk.h"

#include "base/bits.h"

#define PTE_P 1ull
#define PTE_PS 0x80ull
#define PTE_ADDR 0x000ffffffffff000ull

static bool entry_at(struct mem *m, uint64_t gpa, unsigned size, uint64_t *e)
{
	uint8_t raw[8] = { 0 };

	if (mem_read(m, gpa, raw, size))
		return false;
	*e = ld_le64(raw);
	return *e & PTE_P;
}

/* 4.3: two levels of 1,024 entries, pages of 4 KiB and, with CR4.PSE, 4 MiB above 4 GiB too. */
static bool walk_32(struct mem *m, const struct x86_state *s, uint32_t lin, uint64_t *gpa)
{
	uint64_t e;

	if (!entry_at(m, (s->cr3 & 0xfffff000u) + (lin >> 22) * 4, 4, &e))
		return false;
	if ((e & PTE_PS) && (s->cr4 & X86_CR4_PSE)) {
		*gpa = (e & 0xffc00000u) | (e & 0x1fe000u) << 19 | (lin & 0x3fffff);
		return true;
	}
	if (!entry_at(m, (e & 0xfffff000u) + (lin >> 12 & 0x3ff) * 4, 4, &e))
		return false;
	*gpa = (e & 0xfffff000u) | (lin & 0xfff);
	return true;
}

/* From a table of 512 entries at this level (1: of pages) down. */
static bool walk_64(struct mem *m, uint64_t table, unsigned level, uint64_t lin, uint64_t *gpa)
{
	for (;; level--) {
		unsigned shift = PAGE_SHIFT_4K + 9 * (level - 1);
		uint64_t e, low = (1ull << shift) - 1;

		if (!entry_at(m, table + (lin >> shift & 511) * 8, 8, &e))
			return false;
		if (level == 1 || (level <= 3 && (e & PTE_PS))) {
			*gpa = (e & PTE_ADDR & ~low) | (lin & low);
			return true;
		}
		table = e & PTE_ADDR;
	}
}

bool x86_walk(struct mem *m, const struct x86_state *s, uint64_t lin, uint64_t *gpa)
{
	if (!(s->cr0 & X86_CR0_PG)) {
		*gpa = lin & 0xffffffffu;
		return true;
	}
	if (s->efer & X86_EFER_LMA)
		return walk_64(m, s->cr3 & PTE_ADDR, s->cr4 & X86_CR4_LA57 ? 5 : 4, lin, gpa);
	if (!(s->cr4 & X86_CR4_PAE))
		return walk_32(m, s, (uint32_t)lin, gpa);
	lin &= 0xffffffffu;
	if (!(s->pae_pdpte[lin >> 30] & PTE_P))
		return false;
	return walk_64(m, s->pae_pdpte[lin >> 30] & PTE_ADDR, 2, lin, gpa);
}
