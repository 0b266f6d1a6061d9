/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast paths of SYSCALL, SYSRET, IRET and delivery (cpu/x86/fast.c) against the
 * full ones, over random descriptors, gates, frames, flags and system registers:
 * a fast path either does exactly what the full one does, or nothing.
 */
#include "sysfix.h"

#include "cpu/x86/fast.h"

enum { ROUNDS = 5000, PAGES = 0x31 };	/* up to CODE */

static uint64_t seed = 0x9e3779b97f4a7c15ull;
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}
static unsigned pick(unsigned n) { return (unsigned)(rnd() >> 33) % n; }
/* Now and then. */
static bool odd(void) { return pick(12) == 0; }

/* All that either path may change. */
struct picture {
	struct x86_state s;
	uint8_t mode, cpl, acc, stack_size;
	bool long_mode, paging, step_mode, watch, flat, cs_limited;
	uint32_t block_key;
	uint64_t cs_base, seg_odd[2];
	void *tlb_now;
	uint8_t mem[PAGES * 0x1000];
};

static void take(struct fix *f, struct picture *p)
{
	struct x86_cpu *c = f->c;

	p->s = c->s;
	p->mode = c->mode;
	p->cpl = c->cpl;
	p->acc = c->acc;
	p->stack_size = c->stack_size;
	p->long_mode = c->long_mode;
	p->paging = c->paging;
	p->step_mode = c->step_mode;
	p->watch = c->watch;
	p->flat = c->flat;
	p->cs_limited = c->cs_limited;
	p->block_key = c->block_key;
	p->cs_base = c->cs_base;
	memcpy(p->seg_odd, c->seg_odd, sizeof(p->seg_odd));
	p->tlb_now = c->tlb_now;
	assert_int_equal(mem_read(f->m->mem, 0, p->mem, sizeof(p->mem)), 0);
}

static void put(struct fix *f, const struct picture *p)
{
	f->c->s = p->s;
	assert_int_equal(mem_write(f->m->mem, 0, p->mem, sizeof(p->mem)), 0);
	x86_mode_update(f->c);
	f->c->leave_block = false;
}

static void same(const struct picture *a, const struct picture *b)
{
	for (int i = 0; i < X86_NSEG_ALL; i++) {
		assert_int_equal(a->s.seg[i].sel, b->s.seg[i].sel);
		assert_int_equal(a->s.seg[i].attr, b->s.seg[i].attr);
		assert_int_equal(a->s.seg[i].limit, b->s.seg[i].limit);
		assert_int_equal(a->s.seg[i].base, b->s.seg[i].base);
	}
	for (int i = 0; i < 16; i++)
		assert_int_equal(a->s.gpr[i], b->s.gpr[i]);
	assert_int_equal(a->s.rip, b->s.rip);
	assert_int_equal(a->s.rflags, b->s.rflags);
	assert_int_equal(a->s.cr2, b->s.cr2);
	assert_int_equal(a->s.nmi_blocked, b->s.nmi_blocked);
	assert_memory_equal(&a->s.fpu, &b->s.fpu, sizeof(a->s.fpu));
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->cpl, b->cpl);
	assert_int_equal(a->acc, b->acc);
	assert_int_equal(a->stack_size, b->stack_size);
	assert_int_equal(a->step_mode, b->step_mode);
	assert_int_equal(a->flat, b->flat);
	assert_int_equal(a->cs_limited, b->cs_limited);
	assert_int_equal(a->block_key, b->block_key);
	assert_int_equal(a->cs_base, b->cs_base);
	assert_memory_equal(a->seg_odd, b->seg_odd, sizeof(a->seg_odd));
	assert_ptr_equal(a->tlb_now, b->tlb_now);
	assert_memory_equal(a->mem, b->mem, sizeof(a->mem));
}

static uint64_t random_flags(void)
{
	uint64_t v = rnd() & (X86_FL_ARITH | X86_FL_IF | X86_FL_DF | X86_FL_ID | X86_FL_AC);

	if (odd())
		v |= rnd() & 0x3fffff;
	return v | X86_FL_FIXED;
}

static uint64_t random_rip(void)
{
	return odd() ? rnd() : pick(2) ? CODE + pick(4096) : 0xffffffff81000000ull + pick(1 << 20);
}

/* The usual GDT, some of it spoilt. */
static void random_gdt(struct fix *f)
{
	static const uint16_t attr[][2] = { { S_CODE64, 0xa09b }, { S_DATA0, 0xc093 }, { S_CODE64_3, 0xa0fb }, { S_DATA3, 0xc0f3 },
					    { S_CODE3, 0xc0fb } };

	for (unsigned i = 0; i < ARRAY_LEN(attr); i++) {
		unsigned a = attr[i][1];

		if (odd())
			a ^= 1u << pick(16);
		put_desc(f, attr[i][0], odd() ? (uint32_t)rnd() : 0, odd() ? (uint32_t)rnd() & 0xfffff : 0xfffff, a);
	}
	if (odd())
		f->c->s.gdtr.limit = (uint16_t)pick(0x60);
}

static uint16_t random_sel(unsigned usual)
{
	static const uint16_t sels[] = { S_CODE64, S_DATA0, S_CODE64_3, S_DATA3, S_CODE3, S_CONF0, S_CODE16, S_NP, S_RO, S_TSS, 0, 3, 1, 7 };

	return (uint16_t)(odd() ? sels[pick(ARRAY_LEN(sels))] ^ (odd() ? pick(8) : 0) : usual);
}

/* A 32-bit program of a 64-bit kernel: flat, or nearly so. */
static void random_compat(struct fix *f)
{
	struct x86_state *s = &f->c->s;

	raw_seg(f, X86_CS, S_CODE3, 0xc0fb);
	if (odd())
		s->seg[X86_CS].attr ^= X86_AR_DB;
	s->gpr[X86_RSP] = (uint32_t)s->gpr[X86_RSP];
	s->rip = odd() ? (uint32_t)rnd() : CODE + pick(4096);
	f->c->next_rip = s->rip + 2;
}

static void random_system(struct fix *f, unsigned cpl)
{
	struct x86_state *s = &f->c->s;

	enter_long(f, cpl);
	poke(f, PML4, PDPT | 0x27, 8);	/* accessed and dirty before */
	poke(f, PDPT, PD | 0x27, 8);
	poke(f, PD, 0xe7, 8);
	random_gdt(f);
	for (int i = 0; i < 16; i++)
		if (i != X86_RSP)
			s->gpr[i] = rnd();
	s->rflags = random_flags() & ~(uint64_t)(odd() ? 0 : X86_FL_TF | X86_FL_RF | X86_FL_VM);
	s->rflags &= ~(uint64_t)X86_FL_VM;
	s->gpr[X86_RSP] = (cpl ? STACK3 : STACK0) - pick(16) * 8 - (odd() ? pick(4096) : 0);
	s->rip = random_rip();
	f->c->next_rip = s->rip + 2;
	s->efer = odd() ? s->efer & ~(uint64_t)X86_EFER_SCE : s->efer;
	s->star = (uint64_t)(odd() ? rnd() >> 16 : S_CODE0 | (uint64_t)(S_CODE64_3 - 16 - 3) << 16) << 32;
	s->lstar = 0xffffffff81000000ull + pick(1 << 20);
	s->cstar = s->lstar + 0x100;
	s->fmask = pick(4) ? 0x257fd5 : rnd() & 0xffffffffu;
	s->cr4 |= odd() ? X86_CR4_SMAP | X86_CR4_SMEP : 0;
	s->cr0 |= odd() ? X86_CR0_AM : 0;
	s->nmi_blocked = odd();
	s->dr7 = odd() && odd() ? 0x401 : 0x400;
	for (int i = 0; i < X86_NSEG; i++) {
		if (i == X86_CS || i == X86_SS)
			continue;
		if (pick(3))
			s->seg[i] = (struct x86_seg){ .attr = X86_AR_UNUSABLE, .sel = odd() ? 3 : 0, .base = rnd() & 0xffff };
		else if (odd())
			s->seg[i].attr ^= 1u << pick(8);
	}
	if (cpl == 3 && pick(3) == 0)
		random_compat(f);
	if (odd())
		s->seg[X86_TR].limit = pick(0x68);
	x86_tlb_flush(f->c);
	x86_mode_update(f->c);
	f->c->leave_block = false;
	/* So that the ranges of memory are known, as after any access. */
	RAISES(f, x86_ld(f->c, CODE, 1, X86_ACC_SUP));
}

enum what { SYSCALL, SYSRET, IRET, DELIVER };

static bool fast(struct fix *f, enum what w, const struct x86_event *ev)
{
	switch (w) {
	case SYSCALL: return x86_fast_syscall(f->c, f->c->next_rip);
	case SYSRET: return x86_fast_sysret(f->c, ev->err);
	case IRET: return x86_fast_iret(f->c);
	default: return x86_fast_deliver(f->c, ev);
	}
}

static void full(struct fix *f, enum what w, const struct x86_event *ev)
{
	switch (w) {
	case SYSCALL: x86_syscall(f->c); break;
	case SYSRET: x86_sysret(f->c, ev->err); break;
	case IRET: x86_iret(f->c, 8); break;
	default: x86_deliver(f->c, ev); break;
	}
}

/* Both from the same state. Returns whether the fast one did it. */
static bool compare(struct fix *f, enum what w, const struct x86_event *ev)
{
	static struct picture before, a, b;

	take(f, &before);
	if (!fast(f, w, ev)) {
		take(f, &a);
		same(&before, &a);
		return false;
	}
	take(f, &a);
	put(f, &before);
	assert_runs(f, full(f, w, ev));
	if (f->c->s.rflags & X86_FL_RF) {
		f->c->s.rflags &= ~(uint64_t)X86_FL_RF;
		x86_mode_update(f->c);
	}
	take(f, &b);
	same(&a, &b);
	return true;
}

static void test_syscall(void **state)
{
	struct fix *f = *state;
	unsigned done = 0;

	for (unsigned n = 0; n < ROUNDS; n++) {
		random_system(f, pick(4) ? 3 : 0);
		done += compare(f, SYSCALL, NULL);
	}
	assert_in_range(done, ROUNDS / 2, ROUNDS - 1);
}

static void test_sysret(void **state)
{
	struct fix *f = *state;
	unsigned done = 0;

	for (unsigned n = 0; n < ROUNDS; n++) {
		struct x86_event ev = { .err = pick(3) ? 8 : 4 };	/* the operand size */

		random_system(f, pick(8) ? 0 : 3);
		f->c->s.gpr[X86_RCX] = random_rip();
		f->c->s.gpr[11] = random_flags();
		done += compare(f, SYSRET, &ev);
	}
	assert_in_range(done, ROUNDS / 3, ROUNDS - 1);
}

static void test_iret(void **state)
{
	struct fix *f = *state;
	unsigned done = 0;

	for (unsigned n = 0; n < ROUNDS; n++) {
		bool outer = pick(2);
		uint64_t at;

		random_system(f, 0);
		at = f->c->s.gpr[X86_RSP] -= 40;
		poke(f, at, random_rip(), 8);
		poke(f, at + 8, random_sel(!outer ? S_CODE64 : pick(2) ? S_CODE64_3 : S_CODE3) | (odd() ? rnd() << 16 : 0), 8);
		poke(f, at + 16, random_flags() | (pick(4) ? 0 : X86_FL_RF), 8);
		poke(f, at + 24, rnd(), 8);
		poke(f, at + 32, random_sel(outer ? S_DATA3 : pick(3) ? S_DATA0 : 0), 8);
		done += compare(f, IRET, NULL);
	}
	assert_in_range(done, ROUNDS / 8, ROUNDS - 1);
}

static void test_deliver(void **state)
{
	static const uint8_t vectors[] = { X86_EX_PF, X86_EX_PF, X86_EX_GP, X86_EX_DE, X86_EX_DF, X86_EX_DB, X86_EX_NMI, 0x20, 0xec };
	struct fix *f = *state;
	unsigned done = 0;

	for (unsigned n = 0; n < ROUNDS; n++) {
		struct x86_event ev = { .vector = vectors[pick(ARRAY_LEN(vectors))], .err = (uint32_t)rnd(), .cr2 = rnd() };
		unsigned attr = pick(4) ? 0x8e : 0x8f;

		ev.kind = (uint8_t)(ev.vector >= 0x20 ? X86_EV_INTR : odd() ? X86_EV_TRAP : X86_EV_FAULT);
		ev.has_err = ev.vector == X86_EX_PF || ev.vector == X86_EX_GP;
		random_system(f, pick(2) ? 3 : 0);
		if (odd())
			attr ^= 1u << pick(8);
		put_gate64(f, IDT + ev.vector * 16u, random_sel(S_CODE64), random_rip(), attr, odd() ? pick(8) : 0);
		poke(f, TSS + 4, odd() ? rnd() : STACK0 - pick(64), 8);
		if (odd())
			f->c->s.idtr.limit = (uint16_t)pick(0xfff);
		done += compare(f, DELIVER, &ev);
	}
	assert_in_range(done, ROUNDS / 8, ROUNDS - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYS_TEST(test_syscall),
		SYS_TEST(test_sysret),
		SYS_TEST(test_iret),
		SYS_TEST(test_deliver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
