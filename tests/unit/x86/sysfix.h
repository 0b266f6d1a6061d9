/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine with 2 MiB of RAM and one software vCPU for tests of the system
 * side: descriptor tables in RAM, helpers to enter a mode, and RAISES(), which
 * runs a call that may raise a guest exception.
 */
#ifndef TESTS_X86_SYSFIX_H
#define TESTS_X86_SYSFIX_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cpu/x86/cpu.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/sys.h"
#include "machine/machine.h"

enum {
	GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, TSS2 = 0x3400, LDT = 0x3800, PML4 = 0x8000, PDPT = 0x9000, PD = 0xa000,
	STACK0 = 0x10000, STACK3 = 0x20000, CODE = 0x30000,
};
/* Selectors of the GDT that fix_tables makes. */
enum {
	S_CODE0 = 0x08, S_DATA0 = 0x10, S_CODE3 = 0x1b, S_DATA3 = 0x23, S_TSS = 0x28, S_CODE64 = 0x38, S_CODE64_3 = 0x43,
	S_TSS2 = 0x48, S_CONF0 = 0x50, S_GATE = 0x58, S_CODE16 = 0x68, S_NP = 0x70, S_LDT = 0x78, S_TASKGATE = 0x88,
	S_RO = 0x90, GDT_LIMIT = 0x9f,
};

struct fix {
	struct machine *m;
	struct x86_cpu *c;
	struct x86_cpu_model model;
	jmp_buf jmp;
};

/* Vector raised by the statement, -1 if none; the error code is in f->c->pending. */
#define RAISES(f, ...)                                                                                                 \
	({                                                                                                             \
		volatile int v_ = -1;                                                                                  \
		(f)->c->fault_jmp = &(f)->jmp;                                                                         \
		if (!setjmp((f)->jmp)) {                                                                               \
			__VA_ARGS__;                                                                                   \
		} else {                                                                                               \
			v_ = (f)->c->pending.vector;                                                                   \
		}                                                                                                      \
		v_;                                                                                                    \
	})
#define assert_raises(f, vec, e, ...)                                                                                  \
	do {                                                                                                           \
		assert_int_equal(RAISES(f, __VA_ARGS__), vec);                                                         \
		assert_int_equal((f)->c->pending.err, e);                                                              \
	} while (0)
#define assert_runs(f, ...) assert_int_equal(RAISES(f, __VA_ARGS__), -1)

static inline void poke(struct fix *f, uint64_t gpa, uint64_t v, unsigned len)
{
	assert_int_equal(mem_write(f->m->mem, gpa, &v, len), 0);
}
static inline uint64_t peek(struct fix *f, uint64_t gpa, unsigned len)
{
	uint64_t v = 0;

	assert_int_equal(mem_read(f->m->mem, gpa, &v, len), 0);
	return v;
}
static inline void put_desc(struct fix *f, unsigned sel, uint32_t base, uint32_t limit, uint32_t attr)
{
	uint64_t d = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
		     (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(attr >> 12 & 15) << 52 | (uint64_t)(base >> 24) << 56;

	poke(f, GDT + (sel & 0xfff8), d, 8);
}
static inline void put_gate32(struct fix *f, uint64_t at, unsigned sel, uint32_t off, unsigned attr, unsigned params)
{
	poke(f, at, (off & 0xffff) | sel << 16, 4);
	poke(f, at + 4, params | attr << 8 | (off & 0xffff0000u), 4);
}
static inline void put_gate64(struct fix *f, uint64_t at, unsigned sel, uint64_t off, unsigned attr, unsigned ist)
{
	put_gate32(f, at, sel, (uint32_t)off, attr, ist);
	poke(f, at + 8, off >> 32, 8);
}

static inline void fix_tables(struct fix *f)
{
	put_desc(f, S_CODE0, 0, 0xfffff, 0xc09a);
	put_desc(f, S_DATA0, 0, 0xfffff, 0xc092);
	put_desc(f, S_CODE3, 0, 0xfffff, 0xc0fa);
	put_desc(f, S_DATA3, 0, 0xfffff, 0xc0f2);
	put_desc(f, S_TSS, TSS, 0x67, 0x0089);
	put_desc(f, S_CODE64, 0, 0xfffff, 0xa09a);
	put_desc(f, S_CODE64_3, 0, 0xfffff, 0xa0fa);
	put_desc(f, S_TSS2, TSS2, 0x67, 0x0089);
	put_desc(f, S_CONF0, 0, 0xfffff, 0xc09e);
	put_desc(f, S_CODE16, 0, 0xffff, 0x009a);
	put_desc(f, S_NP, 0, 0xfffff, 0xc012);
	put_desc(f, S_LDT, LDT, 0x1f, 0x0082);
	put_desc(f, S_RO, 0, 0xfffff, 0xc0f0);
	f->c->s.gdtr = (struct x86_dtable){ GDT, GDT_LIMIT, { 0 } };
	f->c->s.idtr = (struct x86_dtable){ IDT, 0xfff, { 0 } };
}

static inline void raw_seg(struct fix *f, int seg, unsigned sel, uint32_t attr)
{
	f->c->s.seg[seg] = (struct x86_seg){ .sel = (uint16_t)sel, .limit = 0xffffffffu, .attr = attr };
}

/* Flat 32-bit protected mode at level cpl, paging off, TR loaded. */
static inline void enter_pm32(struct fix *f, unsigned cpl)
{
	struct x86_state *s = &f->c->s;

	x86_state_reset(s, 0, 0);
	fix_tables(f);
	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	raw_seg(f, X86_CS, cpl ? S_CODE3 : S_CODE0, 0xc09b | cpl << 5);
	for (int i = 0; i < X86_NSEG; i++)
		if (i != X86_CS)
			raw_seg(f, i, cpl ? S_DATA3 : S_DATA0, 0xc093 | cpl << 5);
	s->gpr[X86_RSP] = cpl ? STACK3 : STACK0;
	s->rip = f->c->cur_rip = CODE;
	f->c->next_rip = CODE + 2;
	s->seg[X86_TR] = (struct x86_seg){ .sel = S_TSS, .base = TSS, .limit = 0x67, .attr = 0x8b };
	put_desc(f, S_TSS, TSS, 0x67, 0x008b);
	poke(f, TSS + 4, STACK0, 4);
	poke(f, TSS + 8, S_DATA0, 4);
	f->c->delivering = -1;
	x86_tlb_flush(f->c);
	x86_mode_update(f->c);
}

/* 64-bit mode, memory mapped one to one, readable and writable at CPL 3. */
static inline void enter_long(struct fix *f, unsigned cpl)
{
	struct x86_state *s = &f->c->s;

	enter_pm32(f, cpl);
	poke(f, PML4, PDPT | 7, 8);
	poke(f, PDPT, PD | 7, 8);
	poke(f, PD, 0x87, 8);
	s->cr3 = PML4;
	s->cr4 = X86_CR4_PAE;
	s->cr0 |= X86_CR0_PG | X86_CR0_WP;
	s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
	raw_seg(f, X86_CS, cpl ? S_CODE64_3 : S_CODE64, 0xa09b | cpl << 5);
	poke(f, TSS + 4, STACK0, 8);
	x86_tlb_flush(f->c);
	x86_mode_update(f->c);
}

static inline int fix_setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	uint32_t avail[X86_F_WORDS];

	if (!f || machine_new(&f->m, true) || mem_create_ram(f->m->mem, 2u << 20, MEM_HUGE_NONE, NULL) ||
	    mem_add_ram(f->m->mem, "ram", 0, 0, 2u << 20, NULL))
		return -1;
	x86_soft_features(avail);
	if (x86_cpu_model_parse("max", avail, 1, &f->model, NULL))
		return -1;
	f->c = aligned_alloc(64, align_up(sizeof(*f->c), 64));
	if (!f->c)
		return -1;
	memset(f->c, 0, sizeof(*f->c));
	f->c->vcpu.m = f->m;
	f->c->model = &f->model;
	f->c->phys_bits = f->model.phys_bits;
	f->c->has_1g = true;
	f->c->has_syscall32 = x86_model_is_amd(&f->model);
	f->c->tlb_gen = 1;
	x86_state_reset(&f->c->s, 0, 0);
	x86_mode_update(f->c);
	*state = f;
	return 0;
}

static inline int fix_teardown(void **state)
{
	struct fix *f = *state;

	free(f->c);
	machine_free(f->m);
	free(f);
	return 0;
}

#define SYS_TEST(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)

#endif
