/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control, debug and model-specific registers, flag writes, I/O permission,
 * CPU models and CPUID.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "cpu/x86/features.h"
#include "cpu/x86/pvclock.h"
#include "sysfix.h"

static void cr0_rules(void **state)
{
	struct fix *f = *state;
	uint64_t cr0;

	enter_long(f, 0);
	cr0 = f->c->s.cr0;
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, cr0 | X86_CR0_NW));
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, cr0 & ~(uint64_t)X86_CR0_PE));
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, cr0 | 1ull << 32));
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, cr0 & ~(uint64_t)X86_CR0_PG));	/* in 64-bit mode */
	assert_int_equal(f->c->s.cr0, cr0);
	/* From compatibility mode paging may go: LMA follows. */
	raw_seg(f, X86_CS, S_CODE0, 0xc09b);
	x86_mode_update(f->c);
	assert_runs(f, x86_set_cr(f->c, 0, cr0 & ~(uint64_t)X86_CR0_PG));
	assert_false(f->c->s.efer & X86_EFER_LMA);
	assert_runs(f, x86_set_cr(f->c, 0, cr0));
	assert_true(f->c->s.efer & X86_EFER_LMA);
	assert_runs(f, x86_lmsw(f->c, 0xe));
	assert_true(f->c->s.cr0 & X86_CR0_PE);
	assert_true(f->c->s.cr0 & X86_CR0_TS);
	x86_clts(f->c);
	assert_false(f->c->s.cr0 & X86_CR0_TS);
}

/* Entering IA-32e mode without PAE is refused, and nothing changes. */
static void enter_long_needs_pae(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	f->c->s.efer = X86_EFER_LME;
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, f->c->s.cr0 | X86_CR0_PG));
	assert_false(f->c->s.efer & X86_EFER_LMA);
	assert_false(f->c->s.cr0 & X86_CR0_PG);
}

static void cr4_rules(void **state)
{
	struct fix *f = *state;
	uint64_t cr4;

	enter_long(f, 0);
	cr4 = f->c->s.cr4;
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 4, cr4 & ~(uint64_t)X86_CR4_PAE));
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 4, cr4 | 1u << 13));	/* VMXE */
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 4, cr4 | X86_CR4_LA57));
	f->c->s.cr3 |= 0x18;
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 4, cr4 | X86_CR4_PCIDE));
	f->c->s.cr3 = PML4;
	assert_runs(f, x86_set_cr(f->c, 4, cr4 | X86_CR4_PCIDE));
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, f->c->s.cr0 & ~(uint64_t)X86_CR0_PG));
	assert_runs(f, x86_set_cr(f->c, 3, PML4 | 5 | 1ull << 63));
	assert_int_equal(f->c->s.cr3, PML4 | 5);
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 3, 1ull << 52));
	/* A feature the model lacks has a reserved bit. */
	f->model.feat[X86_F_7_EBX] &= ~(1u << 20);
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 4, cr4 | X86_CR4_SMAP));
}

static void pae_pdptes(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	f->c->s.cr4 = X86_CR4_PAE;
	f->c->s.cr3 = PDPT;
	for (unsigned i = 0; i < 4; i++)
		poke(f, PDPT + 8 * i, 0, 8);
	poke(f, PDPT, PD | 7, 8);	/* bit 1 is reserved here */
	assert_raises(f, X86_EX_GP, 0, x86_set_cr(f->c, 0, f->c->s.cr0 | X86_CR0_PG));
	poke(f, PDPT, PD | 1, 8);
	poke(f, PD, 0x83, 8);
	assert_runs(f, x86_set_cr(f->c, 0, f->c->s.cr0 | X86_CR0_PG));
	assert_int_equal(f->c->s.pae_pdpte[0], PD | 1);
	assert_int_equal(x86_ld(f->c, GDT + 8, 4, X86_ACC_SUP), peek(f, GDT + 8, 4));
}

static void xcr0_rules(void **state)
{
	struct fix *f = *state;
	static const uint64_t bad[] = { 0, 2, 5, 0x23, 0x87, 0x63, 1u << 9 | 1, 1ull << 62 | 1 };

	if (!f->model.xcr0_mask)
		skip();
	assert_int_equal(RAISES(f, x86_xsetbv(f->c, 0, 1)), X86_EX_UD);
	assert_int_equal(RAISES(f, x86_xgetbv(f->c, 0)), X86_EX_UD);
	f->c->s.cr4 |= X86_CR4_OSXSAVE;
	for (volatile unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_raises(f, X86_EX_GP, 0, x86_xsetbv(f->c, 0, bad[i]));
	assert_raises(f, X86_EX_GP, 0, x86_xsetbv(f->c, 1, 1));
	assert_runs(f, x86_xsetbv(f->c, 0, f->model.xcr0_mask));
	assert_int_equal(x86_xgetbv(f->c, 0), f->model.xcr0_mask);
	assert_runs(f, x86_xsetbv(f->c, 0, 3));
	assert_raises(f, X86_EX_GP, 0, x86_xgetbv(f->c, 2));
}

static void debug_registers(void **state)
{
	struct fix *f = *state;

	enter_long(f, 0);
	assert_raises(f, X86_EX_GP, 0, x86_set_dr(f->c, 7, 1ull << 32));
	assert_raises(f, X86_EX_GP, 0, x86_set_dr(f->c, 6, 1ull << 40));
	assert_runs(f, x86_set_dr(f->c, 6, 0));
	assert_int_equal(x86_get_dr(f->c, 6), 0xffff0ff0);
	assert_runs(f, x86_set_dr(f->c, 0, 0x1004));
	assert_runs(f, x86_set_dr(f->c, 7, 0x000d0001 | 1 << 8));	/* 4-byte write watch, local */
	assert_int_equal(x86_get_dr(f->c, 5), f->c->s.dr7);
	assert_int_equal(x86_bp_data(f->c, 0x1007, 1, true), 1);
	assert_int_equal(x86_bp_data(f->c, 0x1008, 1, true), 0);
	assert_int_equal(x86_bp_data(f->c, 0x1000, 8, true), 1);
	assert_int_equal(x86_bp_data(f->c, 0x1004, 4, false), 0);
	assert_int_equal(x86_bp_exec(f->c, 0x1004), 0);
	assert_runs(f, x86_set_dr(f->c, 7, 2));
	assert_int_equal(x86_bp_exec(f->c, 0x1004), 1);
	f->c->s.cr4 |= X86_CR4_DE;
	assert_int_equal(RAISES(f, x86_get_dr(f->c, 4)), X86_EX_UD);
	assert_runs(f, x86_set_dr(f->c, 7, 1u << 13));
	assert_int_equal(RAISES(f, x86_get_dr(f->c, 0)), X86_EX_DB);
	assert_int_equal(f->c->pending.dr6, 1u << 13);
}

static void flag_rights(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_long(f, 0);
	assert_runs(f, x86_set_flags(f->c, ~0ull, 8));
	assert_int_equal(s->rflags, 0x247fd7);
	enter_long(f, 3);
	assert_runs(f, x86_set_flags(f->c, ~0ull, 2));
	assert_int_equal(s->rflags, 0x4dd7);	/* not IF, not IOPL */
	s->rflags = 0x3002;
	assert_runs(f, x86_set_flags(f->c, 0x200, 8));
	assert_int_equal(s->rflags, 0x3202);
}

static void io_bitmap(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 3);
	f->c->s.seg[X86_TR].limit = 0x68 + 0x20;
	poke(f, TSS + 102, 0x68, 2);
	poke(f, TSS + 0x68 + 0x60 / 8, 0xfe, 1);
	assert_runs(f, x86_io_check(f->c, 0x60, 1));
	assert_raises(f, X86_EX_GP, 0, x86_io_check(f->c, 0x60, 2));
	assert_raises(f, X86_EX_GP, 0, x86_io_check(f->c, 0x100, 1));	/* beyond the limit */
	f->c->s.rflags |= X86_FL_IOPL;
	assert_runs(f, x86_io_check(f->c, 0x100, 4));
	f->c->s.rflags |= X86_FL_VM;
	x86_mode_update(f->c);
	assert_raises(f, X86_EX_GP, 0, x86_io_check(f->c, 0x100, 4));
}

/* --- MSRs --- */

static void msr_rules(void **state)
{
	struct fix *f = *state;
	static const struct { uint32_t msr; uint64_t bad; } refused[] = {
		{ 0xc0000100, 1ull << 60 }, { 0xc0000101, 1ull << 60 }, { 0xc0000102, 1ull << 60 },
		{ 0xc0000082, 1ull << 60 }, { 0x175, 1ull << 60 }, { 0x176, 1ull << 60 },
		{ 0x277, 0x02 }, { 0x277, 0x0800 }, { 0x2ff, 0x2 }, { 0x2ff, 1 << 12 }, { 0x250, 7 }, { 0x200, 0x100 },
		{ 0x201, 1 }, { 0x200, 1ull << 52 }, { 0xc0000080, 1 << 12 }, { 0xc0000103, 1ull << 32 },
		{ 0xda0, 1 }, { 0x1b, 0xfee00900 }, { 0x6e0, 1 }, { 0x808, 0 }, { 0x12345678, 0 }, { 0xfe, 0 },
		{ 0x400, 0 }, { 0x1d9, 1 << 20 },
	};
	uint64_t v = 0;

	enter_long(f, 0);
	for (volatile unsigned i = 0; i < ARRAY_LEN(refused); i++)
		assert_raises(f, X86_EX_GP, 0, x86_wrmsr(f->c, refused[i].msr, refused[i].bad));
	assert_raises(f, X86_EX_GP, 0, x86_rdmsr(f->c, 0x12345678, &v));
	assert_raises(f, X86_EX_GP, 0, x86_rdmsr(f->c, 0x802, &v));
	assert_runs(f, x86_wrmsr(f->c, 0x277, 0x0606060600060104));
	assert_runs(f, x86_rdmsr(f->c, 0x277, &v));
	assert_int_equal(v, 0x0606060600060104);
	/* LMA cannot be written, LME not while paging. */
	assert_raises(f, X86_EX_GP, 0, x86_wrmsr(f->c, 0xc0000080, X86_EFER_LMA));
	assert_runs(f, x86_wrmsr(f->c, 0xc0000080, X86_EFER_LME));
	assert_true(f->c->s.efer & X86_EFER_LMA);
}

static void tsc_adjust(void **state)
{
	struct fix *f = *state;
	uint64_t adj, t;

	assert_runs(f, x86_wrmsr(f->c, 0x3b, 1ull << 40));
	assert_int_equal(f->c->s.tsc_offset, 1ull << 40);
	assert_runs(f, x86_wrmsr(f->c, 0x10, 1000));
	assert_runs(f, x86_rdmsr(f->c, 0x10, &t));
	assert_true(t >= 1000 && t < 1000 + (1ull << 36));
	assert_runs(f, x86_rdmsr(f->c, 0x3b, &adj));
	assert_int_equal(adj, f->c->s.tsc_offset);
}

/* The clock page: even version, 0 ns at the TSC's zero, stable. */
static void pvclock_page(void **state)
{
	struct fix *f = *state;
	uint32_t mul;
	int8_t shift;

	f->c->s.tsc_offset = 12345;
	assert_runs(f, x86_wrmsr(f->c, 0x4b564d01, 0x5000 | 1));
	assert_int_equal(peek(f, 0x5000, 4) & 1, 0);
	assert_true(peek(f, 0x5000, 4) > 0);
	assert_int_equal(peek(f, 0x5008, 8), 12345);
	assert_int_equal(peek(f, 0x5010, 8), 0);
	x86_pvclock_scale(f->model.tsc_khz, &mul, &shift);
	assert_int_equal(peek(f, 0x5018, 4), mul);
	assert_raises(f, X86_EX_GP, 0, x86_wrmsr(f->c, 0x4b564d01, 0x7f000000 | 1));
	assert_raises(f, X86_EX_GP, 0, x86_wrmsr(f->c, 0x4b564d00, 0x7f000000));
	assert_runs(f, x86_wrmsr(f->c, 0x4b564d00, 0x5040));
	assert_int_equal(peek(f, 0x5040, 4), 2);
	for (uint32_t khz = 500000; khz < 6000000; khz += 123457) {
		unsigned __int128 ns = (uint64_t)khz * 1000;	/* one second of ticks */

		x86_pvclock_scale(khz, &mul, &shift);
		assert_true(mul >> 31);
		ns = shift < 0 ? ns >> -shift : ns << shift;
		ns = ns * mul >> 32;
		assert_true(ns > 999999990 && ns <= 1000000000);
	}
}

/* --- models --- */

static int parse(const char *spec, struct x86_cpu_model *m, struct err *e)
{
	uint32_t avail[X86_F_WORDS];

	memset(avail, 0xff, sizeof(avail));
	return x86_cpu_model_parse(spec, avail, 4, m, e);
}

static void model_specs(void **state)
{
	struct x86_cpu_model m;
	struct err e;
	uint32_t none[X86_F_WORDS] = { 0 };

	(void)state;
	assert_int_equal(parse("x86-64-v2", &m, &e), 0);
	assert_false(m.feat[X86_F_1_ECX] & 1u << 28);
	assert_true(m.feat[X86_F_1_ECX] & 1u << 20);
	assert_int_equal(parse("x86-64-v3", &m, &e), 0);
	assert_true(m.feat[X86_F_7_EBX] & 1u << 5);
	assert_int_equal(m.xcr0_mask, 7);
	assert_int_equal(parse("x86-64-v4", &m, &e), 0);
	assert_int_equal(m.xcr0_mask, 0xe7);
	assert_int_equal(parse("max,-avx", &m, &e), 0);	/* takes AVX-512 with it */
	assert_int_equal(m.xcr0_mask, 3);
	assert_false(m.feat[X86_F_7_EBX] & 1u << 16);
	assert_int_equal(parse("max,-hypervisor", &m, &e), 0);
	assert_false(m.hypervisor);
	assert_int_equal(parse("x86-64-v2,+avx2", &m, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "avx2"));
	assert_int_equal(parse("x86-64-v2,+xsave,+avx,+avx2", &m, &e), 0);
	assert_int_equal(parse("pentium", &m, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "pentium"));
	assert_int_equal(parse("max,+frobnicate", &m, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "frobnicate"));
	assert_int_equal(parse("max,avx", &m, &e), -EINVAL);
	assert_int_equal(x86_cpu_model_parse("x86-64-v3", none, 1, &m, &e), -ENOTSUP);
	assert_int_equal(x86_cpu_model_parse("max,+sse4.2", none, 1, &m, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "sse4.2"));
}

static void cpuid_leaves(void **state)
{
	struct fix *f = *state;
	struct x86_cpu_model m;
	uint32_t r[4];

	assert_int_equal(parse("max", &m, NULL), 0);
	x86_model_cpuid(&m, 3, 1, 0, 0, 1, 0, r);
	assert_int_equal(r[1] >> 24, 3);
	assert_int_equal(r[1] >> 16 & 0xff, 4);
	assert_false(r[2] & 1u << 27);
	x86_model_cpuid(&m, 3, 1, 0, X86_CR4_OSXSAVE, 1, 0, r);
	assert_true(r[2] & 1u << 27);
	x86_model_cpuid(&m, 3, 0xb, 1, 0, 1, 0, r);
	assert_int_equal(r[0], 2);
	assert_int_equal(r[1], 4);
	assert_int_equal(r[2], 0x201);
	assert_int_equal(r[3], 3);
	x86_model_cpuid(&m, 0, 0xd, 0, 0, 3, 0, r);
	assert_int_equal(r[1], 576);
	assert_int_equal(r[2], 2688);
	x86_model_cpuid(&m, 0, 0xd, 1, 0, 0xe7, 0, r);
	assert_int_equal(r[1], 576 + 256 + 64 + 512 + 1024);
	x86_model_cpuid(&m, 0, 0x40000000, 0, 0, 1, 0, r);
	assert_memory_equal(&r[1], "KVMKVMKVM", 9);
	x86_model_cpuid(&m, 0, 0x80000002, 0, 0, 1, 0, r);
	assert_memory_equal(r, "Lodge Virtual CP", 16);
	/* A word of the model without hypervisor bit hides the leaves. */
	m.hypervisor = false;
	x86_model_cpuid(&m, 0, 0x40000000, 0, 0, 1, 0, r);
	assert_int_not_equal(r[1], 0x4b4d564b);
	(void)f;
}

/* The leaves only Intel's processors have: caches, TSC ratio, topology again. */
static void cpuid_intel(void **state)
{
	struct x86_cpu_model m;
	uint32_t r[4], b[4];

	(void)state;
	assert_int_equal(parse("max", &m, NULL), 0);
	memcpy(m.vendor, "GenuineIntel", 13);
	x86_model_cpuid(&m, 1, 0, 0, 0, 1, 0, r);
	assert_int_equal(r[0], 0x1f);
	assert_memory_equal(&r[1], "Genu", 4);
	assert_memory_equal(&r[3], "ineI", 4);
	assert_memory_equal(&r[2], "ntel", 4);
	x86_model_cpuid(&m, 1, 4, 3, 0, 1, 0, r);
	assert_int_equal(r[0] & 0x1f, 3);		/* unified L3 of all four cores */
	assert_int_equal(r[0] >> 14 & 0xfff, 3);
	x86_model_cpuid(&m, 1, 4, 4, 0, 1, 0, r);
	assert_int_equal(r[0], 0);
	x86_model_cpuid(&m, 1, 0x15, 0, 0, 1, 0, r);
	assert_int_equal((uint64_t)r[2] * r[1] / r[0], m.tsc_khz * 1000ull);
	x86_model_cpuid(&m, 1, 0xb, 1, 0, 1, 0, b);
	x86_model_cpuid(&m, 1, 0x1f, 1, 0, 1, 0, r);
	assert_memory_equal(r, b, sizeof(r));
}

/* Two sockets of two dies with four cores of two threads: CPU 27 is in socket 1, die 1, core 1, thread 1. */
static void cpuid_topology(void **state)
{
	static const struct { uint32_t leaf, sub, eax, ebx, ecx; } intel[] = {
		{ 0xb, 0, 1, 2, 0x100 }, { 0xb, 1, 4, 16, 0x201 }, { 0xb, 2, 0, 0, 2 },
		{ 0x1f, 0, 1, 2, 0x100 }, { 0x1f, 1, 3, 8, 0x201 }, { 0x1f, 2, 4, 16, 0x502 }, { 0x1f, 3, 0, 0, 3 },
	};
	const struct x86_topology t = { .sockets = 2, .dies = 2, .cores = 4, .threads = 2 };
	const struct x86_place at = { .socket = 1, .die = 1, .core = 1, .thread = 1 };
	struct x86_place p = x86_place_of(&t, 27);
	struct x86_cpu_model m;
	uint32_t r[4];

	(void)state;
	assert_memory_equal(&p, &at, sizeof(p));
	assert_int_equal(x86_place_id(&t, &at), 27);
	assert_int_equal(parse("max", &m, NULL), 0);
	m.topology = t;
	memcpy(m.vendor, "GenuineIntel", 13);
	for (size_t i = 0; i < ARRAY_LEN(intel); i++) {
		x86_model_cpuid(&m, 27, intel[i].leaf, intel[i].sub, 0, 1, 0, r);
		assert_int_equal(r[0], intel[i].eax);
		assert_int_equal(r[1], intel[i].ebx);
		assert_int_equal(r[2], intel[i].ecx);
		assert_int_equal(r[3], 27);
	}
	x86_model_cpuid(&m, 27, 1, 0, 0, 1, 0, r);
	assert_int_equal(r[1] >> 16, 27 << 8 | 16);
	x86_model_cpuid(&m, 27, 4, 0, 0, 1, 0, r);	/* L1: both threads of a core; eight cores in a socket */
	assert_int_equal(r[0] >> 14, 1 | 7 << 12);
	x86_model_cpuid(&m, 27, 4, 3, 0, 1, 0, r);	/* L3: a die */
	assert_int_equal(r[0] >> 14, 7 | 7 << 12);
	memcpy(m.vendor, "AuthenticAMD", 13);
	x86_model_cpuid(&m, 27, 0x80000008, 0, 0, 1, 0, r);
	assert_int_equal(r[2], 4 << 12 | 15);
	x86_model_cpuid(&m, 27, 0x8000001d, 3, 0, 1, 0, r);
	assert_int_equal(r[0] >> 14, 7);
	x86_model_cpuid(&m, 27, 0x8000001e, 0, 0, 1, 0, r);
	assert_int_equal(r[0], 27);
	assert_int_equal(r[1], 1 << 8 | 5);
	assert_int_equal(r[2], 1 << 8 | 3);
	/* Alone in its socket, it is no part of a package of several. */
	m.topology = (struct x86_topology){ .sockets = 4, .dies = 1, .cores = 1, .threads = 1 };
	x86_model_cpuid(&m, 2, 1, 0, 0, 1, 0, r);
	assert_false(r[3] & 1u << 28);
	assert_int_equal(r[1] >> 16 & 0xff, 1);
	assert_true(x86_topology_fits(&m.topology));
	assert_true(x86_topology_fits(&(struct x86_topology){ .sockets = 3, .dies = 1, .cores = 2, .threads = 2 }));
	assert_true(x86_topology_fits(&(struct x86_topology){ .sockets = 1, .dies = 1, .cores = 3, .threads = 2 }));
	assert_false(x86_topology_fits(&(struct x86_topology){ .sockets = 2, .dies = 1, .cores = 3, .threads = 1 }));
	assert_false(x86_topology_fits(&(struct x86_topology){ .sockets = 1, .dies = 1, .cores = 2, .threads = 3 }));
}

/* INVLPG with any address in a large page drops all of it, and only maps what it must. */
static void invlpg_large(void **state)
{
	struct fix *f = *state;
	volatile uint64_t v = 0;

	enter_long(f, 0);
	f->c->s.cr4 |= X86_CR4_PSE;
	poke(f, 0x30000, 0x1111, 8);
	assert_runs(f, v = x86_ld(f->c, 0x30000, 8, X86_ACC_SUP));
	assert_int_equal(v, 0x1111);
	/* The 2 MiB page is gone; the old translation may be used until it is dropped. */
	poke(f, PD, 0, 8);
	x86_invlpg(f->c, 0x1000);
	assert_raises(f, X86_EX_PF, 0, x86_ld(f->c, 0x30000, 8, X86_ACC_SUP));
	/* One of 4 KiB elsewhere goes alone. */
	poke(f, PD, 0xb000 | 7, 8);
	poke(f, 0xb000 + 8 * 0x30, 0x30000 | 7, 8);
	poke(f, 0xb000 + 8 * 0x31, 0x31000 | 7, 8);
	x86_tlb_flush(f->c);
	assert_runs(f, x86_ld(f->c, 0x30000, 8, X86_ACC_SUP));
	assert_runs(f, x86_ld(f->c, 0x31000, 8, X86_ACC_SUP));
	poke(f, 0xb000 + 8 * 0x30, 0, 8);
	poke(f, 0xb000 + 8 * 0x31, 0, 8);
	x86_invlpg(f->c, 0x30008);
	assert_raises(f, X86_EX_PF, 0, x86_ld(f->c, 0x30000, 8, X86_ACC_SUP));
	assert_runs(f, x86_ld(f->c, 0x31000, 8, X86_ACC_SUP));
}

/* Every dependency is closed in what the soft engines offer. */
static void soft_features_consistent(void **state)
{
	uint32_t a[X86_F_WORDS], b[X86_F_WORDS];

	(void)state;
	x86_soft_features(a);
	memcpy(b, a, sizeof(b));
	x86_features_close(b);
	assert_memory_equal(a, b, sizeof(a));
	assert_true(a[X86_F_81_EDX] & 1u << 29);
}

/* The host's frequency is found to 1000 ppm at worst: guests set their clocks by it. */
static void tsc_frequency(void **state)
{
	uint32_t khz = x86_tsc_khz();
	struct timespec a, b;
	uint64_t tsc, ns;

	tsc = x86_host_tsc();
	clock_gettime(CLOCK_MONOTONIC_RAW, &a);
	do {
		clock_gettime(CLOCK_MONOTONIC_RAW, &b);
		ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
	} while (ns < 200000000);
	tsc = x86_host_tsc() - tsc;
	/* The TSC's interval holds the clock's: losing the CPU makes the bound wider only. */
	assert_in_range(khz, 1000, tsc * 1000000 / ns * 1001 / 1000);
	assert_in_range(x86_tsc_khz(), khz - khz / 1000, khz + khz / 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYS_TEST(cr0_rules), SYS_TEST(enter_long_needs_pae), SYS_TEST(cr4_rules), SYS_TEST(pae_pdptes),
		SYS_TEST(xcr0_rules), SYS_TEST(debug_registers), SYS_TEST(flag_rights), SYS_TEST(io_bitmap),
		SYS_TEST(msr_rules), SYS_TEST(tsc_adjust), SYS_TEST(pvclock_page), SYS_TEST(model_specs),
		SYS_TEST(cpuid_leaves), SYS_TEST(cpuid_intel), SYS_TEST(cpuid_topology), SYS_TEST(soft_features_consistent), SYS_TEST(invlpg_large),
		SYS_TEST(tsc_frequency),
	};

	return cmocka_run_group_tests_name("x86 system registers and models", tests, NULL, NULL);
}
