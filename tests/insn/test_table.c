/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instruction tests with written expectations, run on every engine there is,
 * each several times over (past the point where an engine caches what it
 * decoded or translated).  Where user mode of the host can run the same, its
 * result must agree with the engine's as well.
 *
 * The random differential next door covers arithmetic; here are the promises it
 * cannot see: enable checks, exceptions of the FPU, partial accesses at page
 * ends, and the layouts in memory of FXSAVE, XSAVE and FNSTENV.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cpu/x86/cpu.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/decode.h"
#include "snippet.h"

static const char *const engines[] = { "interp", "translate", "kvm" };
static struct rig_engine *engine[ARRAY_LEN(engines)];
static struct native *host;

#define CASE(name) new_case(name##_b, SNIPPET_LEN(name))

#define END (RIG_RODATA + RIG_PAGE)	/* nothing is mapped from here on */

static struct rig_case *new_case(const uint8_t *code, size_t len)
{
	struct rig_case *c = snippet_case(code, len);

	c->repeat = 3;
	return c;
}

static bool host_has(enum x86_feature_word w, unsigned bit)
{
	uint32_t feat[X86_F_WORDS];

	x86_host_features(feat);
	return feat[w] & BIT(bit);
}

/* Does the case end in the middle of its code? */
static bool ends_early(const struct rig_case *c)
{
	unsigned n = 0, at = 0;
	struct insn i;

	for (; at < c->len && insn_decode(&i, c->code + at, c->len - at, c->bits) == 0; n++)
		at += i.len;
	return (c->steps ? c->steps : 1) < n;
}

/* Runs on all engines; they must agree with each other, and with the host if `native`. */
static struct rig_result *run_all(const struct rig_case *c, bool native)
{
	static struct rig_result first, r;
	char text[4096];
	bool have = false;

	if (native) {
		native_run(host, c, &first);
		assert_true(first.valid);
		have = true;
	}
	for (unsigned n = 0; n < ARRAY_LEN(engines); n++) {
		/* "translate" runs without single step, to the end. */
		if (!engine[n] || (!strcmp(engines[n], "translate") && ends_early(c)))
			continue;
		rig_engine_run(engine[n], c, &r);
		assert_true(r.valid);
		if (have && rig_compare(c, &first, &r, text, sizeof(text)))
			fail_msg("%s differs:\n%s", engines[n], text);
		if (!have || native)
			first = r;
		have = true;
	}
	return &first;
}

static void want_fault(const struct rig_case *c, int vector)
{
	struct rig_result *r = run_all(c, false);

	if (r->fault != (vector < 0 ? RIG_NO_FAULT : vector))
		fail_msg("exception %d instead of %d", r->fault == RIG_NO_FAULT ? -1 : r->fault, vector);
}

SNIPPET(s_addps, "addps %xmm1, %xmm0");
SNIPPET(s_vaddps, "vaddps %xmm1, %xmm2, %xmm0");
SNIPPET(s_vaddps512, "vaddps %zmm1, %zmm2, %zmm0");
SNIPPET(s_kmov, "kmovw %k1, %k2");
SNIPPET(s_popcnt, "popcnt %rax, %rbx");
SNIPPET(s_tzcnt, "tzcnt %rax, %rbx");
SNIPPET(s_andn, "andn %rax, %rbx, %rcx");
SNIPPET(s_fadd, "fadd %st(1), %st");
SNIPPET(s_fnstcw, "fnstcw (%rax)");
SNIPPET(s_fwait, "fwait");
SNIPPET(s_paddb, "paddb %mm1, %mm0");
SNIPPET(s_pshufb_mm, "pshufb %mm1, %mm0");
SNIPPET(s_xsave, "xsave64 (%rax)");
SNIPPET(s_fxsave, "fxsave64 (%rax)");
SNIPPET(s_fxrstor, "fxrstor64 (%rax)");
SNIPPET(s_vextract, "vextracti64x4 $0, %zmm6, (%rax){%k5}");

static void fault_with(const uint8_t *b, const uint8_t *e, uint64_t cr0_set, uint64_t cr0_clear, uint64_t cr4_clear,
		       uint64_t xcr0_clear, int vector)
{
	struct rig_case *c = new_case(b, (size_t)(e - b));

	c->cr0_set = cr0_set;
	c->cr0_clear = cr0_clear;
	c->cr4_clear = cr4_clear;
	c->xcr0_clear = xcr0_clear;
	c->gpr[X86_RAX] = RIG_DATA;
	want_fault(c, vector);
}
#define FAULT_WITH(name, set, clear, cr4, xcr0, v) fault_with(name##_b, name##_e, set, clear, cr4, xcr0, v)

static void test_task_switched(void **state)
{
	FAULT_WITH(s_addps, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fadd, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fnstcw, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_paddb, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fxsave, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fwait, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fwait, X86_CR0_TS, X86_CR0_MP, 0, 0, -1);
	FAULT_WITH(s_popcnt, X86_CR0_TS, 0, 0, 0, -1);
	if (__builtin_cpu_supports("avx"))
		FAULT_WITH(s_vaddps, X86_CR0_TS, 0, 0, 0, X86_EX_NM);
	if (__builtin_cpu_supports("bmi"))
		FAULT_WITH(s_andn, X86_CR0_TS, 0, 0, 0, -1);
}

static void test_emulation_bit(void **state)
{
	FAULT_WITH(s_addps, X86_CR0_EM, 0, 0, 0, X86_EX_UD);
	FAULT_WITH(s_paddb, X86_CR0_EM, 0, 0, 0, X86_EX_UD);
	FAULT_WITH(s_fadd, X86_CR0_EM, 0, 0, 0, X86_EX_NM);
	FAULT_WITH(s_fxrstor, X86_CR0_EM, 0, 0, 0, X86_EX_NM);
	/* #UD comes before #NM */
	FAULT_WITH(s_addps, X86_CR0_EM | X86_CR0_TS, 0, 0, 0, X86_EX_UD);
}

static void test_cr4_enables(void **state)
{
	FAULT_WITH(s_addps, 0, 0, X86_CR4_OSFXSR, 0, X86_EX_UD);
	FAULT_WITH(s_addps, X86_CR0_TS, 0, X86_CR4_OSFXSR, 0, X86_EX_UD);
	FAULT_WITH(s_paddb, 0, 0, X86_CR4_OSFXSR, 0, -1);
	FAULT_WITH(s_pshufb_mm, 0, 0, X86_CR4_OSFXSR, 0, -1);
	FAULT_WITH(s_fadd, 0, 0, X86_CR4_OSFXSR, 0, -1);
	FAULT_WITH(s_xsave, 0, 0, X86_CR4_OSXSAVE, 0, X86_EX_UD);
	if (__builtin_cpu_supports("avx"))
		FAULT_WITH(s_vaddps, 0, 0, X86_CR4_OSXSAVE, 0, X86_EX_UD);
	if (__builtin_cpu_supports("bmi"))
		FAULT_WITH(s_andn, 0, 0, X86_CR4_OSXSAVE, 0, -1);
}

static void test_xcr0_enables(void **state)
{
	if (!__builtin_cpu_supports("avx"))
		skip();
	FAULT_WITH(s_vaddps, 0, 0, 0, 0xe4, X86_EX_UD);
	FAULT_WITH(s_addps, 0, 0, 0, 0xe4, -1);
	if (!__builtin_cpu_supports("avx512f"))
		return;
	FAULT_WITH(s_vaddps512, 0, 0, 0, 0xe0, X86_EX_UD);
	FAULT_WITH(s_kmov, 0, 0, 0, 0xe0, X86_EX_UD);
	FAULT_WITH(s_vaddps, 0, 0, 0, 0xe0, -1);
}

static void test_model_without_avx(void **state)
{
	struct rig_engine *e = rig_engine_new_model("interp", "x86-64-v2");
	struct rig_result r;
	struct rig_case *c;

	assert_non_null(e);
	c = CASE(s_vaddps);
	c->xcr0_clear = 0xfc;
	rig_engine_run(e, c, &r);
	assert_true(r.valid);
	assert_int_equal(r.fault, X86_EX_UD);
	c = CASE(s_popcnt);
	c->xcr0_clear = 0xfc;
	rig_engine_run(e, c, &r);
	assert_int_equal(r.fault, RIG_NO_FAULT);
	/* Without BMI1 TZCNT is BSF, as compilers expect: nothing happens to the register for zero. */
	c = CASE(s_tzcnt);
	c->xcr0_clear = 0xfc;
	c->gpr[X86_RBX] = 77;
	rig_engine_run(e, c, &r);
	assert_int_equal(r.fault, RIG_NO_FAULT);
	assert_int_equal(r.gpr[X86_RBX], 77);
	c->gpr[X86_RAX] = 0x100;
	rig_engine_run(e, c, &r);
	assert_int_equal(r.gpr[X86_RBX], 8);
	assert_int_equal(r.rip, RIG_CODE + c->len);
	rig_engine_free(e);
}

/* --- FPU exceptions --- */
SNIPPET(s_fnstsw, "fnstsw %ax");
SNIPPET(s_fnclex, "fnclex");
SNIPPET(s_fldz, "fldz");

static void test_pending_x87_error(void **state)
{
	static const struct {
		const uint8_t *b, *e;
		int vector;
	} t[] = {
		{ s_fldz_b, s_fldz_e, X86_EX_MF }, { s_fwait_b, s_fwait_e, X86_EX_MF }, { s_paddb_b, s_paddb_e, X86_EX_MF },
		{ s_fnstsw_b, s_fnstsw_e, -1 },	   { s_fnclex_b, s_fnclex_e, -1 },	{ s_addps_b, s_addps_e, -1 },
	};

	for (unsigned n = 0; n < ARRAY_LEN(t); n++) {
		struct rig_case *c = new_case(t[n].b, (size_t)(t[n].e - t[n].b));

		st_le16(c->fpu.fx, 0x37e);	/* invalid operation unmasked */
		st_le16(c->fpu.fx + 2, 0x8081);
		want_fault(c, t[n].vector);
	}
}

SNIPPET(s_divps, "divps %xmm1, %xmm0");

static void test_simd_exception(void **state)
{
	struct rig_case *c = CASE(s_divps);
	struct rig_result *r;

	for (unsigned n = 0; n < 4; n++)
		st_le32(c->fpu.zmm[0] + 4 * n, 0x3f800000);
	c->fpu.mxcsr = 0x1d80;		/* division by zero unmasked */
	r = run_all(c, true);
	assert_int_equal(r->fault, X86_EX_XM);
	assert_int_equal(r->fpu.mxcsr, 0x1d84);
	assert_int_equal(ld_le32(r->fpu.zmm[0]), 0x3f800000);
	assert_int_equal(r->rip, RIG_CODE);
	c->cr4_clear = X86_CR4_OSXMMEXCPT;
	want_fault(c, X86_EX_UD);
}

SNIPPET(s_ldmxcsr, "ldmxcsr (%rax)");

static void test_mxcsr_reserved(void **state)
{
	struct rig_case *c = CASE(s_ldmxcsr);

	c->gpr[X86_RAX] = RIG_DATA;
	st_le32(c->data, 0x11f80);
	assert_int_equal(run_all(c, false)->fault, X86_EX_GP);
	st_le32(c->data, 0xff80);
	assert_int_equal(run_all(c, true)->fpu.mxcsr, 0xff80);
}

/* --- memory --- */
SNIPPET(s_movaps, "movaps (%rax), %xmm3");
SNIPPET(s_movups_st, "movups %xmm3, (%rax)");

static void test_alignment(void **state)
{
	struct rig_case *c = CASE(s_movaps);

	c->gpr[X86_RAX] = RIG_DATA + 8;
	assert_int_equal(run_all(c, true)->fault, X86_EX_GP);
	/* #GP for alignment comes before the page fault */
	c->gpr[X86_RAX] = END - 8;
	assert_int_equal(run_all(c, true)->fault, X86_EX_GP);
}

static void test_page_crossing(void **state)
{
	struct rig_case *c = CASE(s_movups_st);
	struct rig_result *r;

	memset(c->fpu.zmm[3], 0xa5, 16);
	c->gpr[X86_RAX] = RIG_DATA + 0xff9;
	r = run_all(c, true);
	assert_int_equal(r->data[0xff9], 0xa5);
	assert_int_equal(r->data[0x1008], 0xa5);
	assert_int_equal(r->data[0x1009], 0);
	/* the second page is read-only: nothing is stored to the first */
	c->gpr[X86_RAX] = RIG_RODATA - 4;
	r = run_all(c, true);
	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(r->err, 7);
	assert_int_equal(r->cr2, RIG_RODATA);
	assert_int_equal(r->data[RIG_DATA_SIZE - 1], 0);
}

SNIPPET(s_vmovdqu8_ld, "vmovdqu8 (%rax), %zmm0{%k1}{z}");
SNIPPET(s_vmovdqu32_st, "vmovdqu32 %zmm2, (%rax){%k1}");
SNIPPET(s_vpmaskmov, "vpmaskmovd (%rax), %ymm1, %ymm0");

static void test_masked_load_at_page_end(void **state)
{
	struct rig_case *c = CASE(s_vmovdqu8_ld);
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx512bw"))
		skip();
	c->gpr[X86_RAX] = END - 10;
	c->fpu.k[1] = 0x3ff;
	r = run_all(c, true);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	c->fpu.k[1] = 0x400;
	r = run_all(c, true);
	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(r->cr2, END);
	c->fpu.k[1] = 0;
	assert_int_equal(run_all(c, true)->fault, RIG_NO_FAULT);
}

static void test_masked_store(void **state)
{
	struct rig_case *c = CASE(s_vmovdqu32_st);
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx512f"))
		skip();
	memset(c->fpu.zmm[2], 0x77, 64);
	c->gpr[X86_RAX] = RIG_RODATA - 8;	/* the rest is read-only */
	c->fpu.k[1] = 2;
	r = run_all(c, true);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le32(r->data + RIG_DATA_SIZE - 4), 0x77777777);
	assert_int_equal(ld_le32(r->data + RIG_DATA_SIZE - 8), 0);
	c->fpu.k[1] = 4;
	assert_int_equal(run_all(c, true)->fault, X86_EX_PF);
}

/* Its mask spares memory but no fault, so it is stored as a whole. */
static void test_masked_extract_across_pages(void **state)
{
	struct rig_case *c;
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx512f"))
		skip();
	c = CASE(s_vextract);
	memset(c->data, 0x5a, sizeof(c->data));
	c->gpr[X86_RAX] = RIG_DATA + 0xfff;
	c->fpu.k[5] = 0xd;
	r = run_all(c, true);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(r->data[0xfff], 0);
	assert_int_equal(r->data[0xfff + 7], 0);
	for (unsigned n = 8; n < 16; n++)
		assert_int_equal(r->data[0xfff + n], 0x5a);
	assert_int_equal(r->data[0xfff + 16], 0);
}

static void test_vpmaskmov(void **state)
{
	struct rig_case *c = CASE(s_vpmaskmov);

	if (!__builtin_cpu_supports("avx2"))
		skip();
	c->gpr[X86_RAX] = END - 8;
	st_le32(c->fpu.zmm[1], 0x80000000);
	st_le32(c->fpu.zmm[1] + 4, 0x80000000);
	assert_int_equal(run_all(c, true)->fault, RIG_NO_FAULT);
	st_le32(c->fpu.zmm[1] + 8, 0x80000000);
	assert_int_equal(run_all(c, true)->fault, X86_EX_PF);
}

SNIPPET32(s_vmaskmov_gs, "vmaskmovps %gs:(%ecx), %xmm1, %xmm0");

/* A mask that spares all of an operand does not spare it the look at the segment's limit. */
static void test_mask_beyond_the_limit(void **state)
{
	struct rig_case *c = CASE(s_vmaskmov_gs);
	struct rig_result r;

	if (!__builtin_cpu_supports("avx"))
		skip();
	c->bits = 32;
	c->fs_gs[1] = (struct x86_seg){ .sel = 0x1b, .base = 0x1000, .limit = RIG_DATA + 0xfff, .attr = 0xc0f3 };
	for (unsigned n = 0; n < 2 && engine[n]; n++) {
		c->gpr[X86_RCX] = 0xffffffc4;
		rig_engine_run(engine[n], c, &r);
		assert_true(r.valid);
		assert_int_equal(r.fault, X86_EX_GP);
		c->gpr[X86_RCX] = 0x2000;	/* nothing is mapped there */
		rig_engine_run(engine[n], c, &r);
		assert_int_equal(r.fault, RIG_NO_FAULT);
	}
}

SNIPPET(s_vmovdqa_masked, "vmovdqa64 (%rax), %xmm2{%k4}{z}\nvmovdqa64 %xmm2, (%rax){%k4}");

/* Where a mask spares all of an operand, nothing about it is looked at: not its alignment either (AMD). */
static void test_masked_alignment(void **state)
{
	if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_is("amd"))
		skip();
	for (unsigned k = 0; k < 4; k++) {
		struct rig_case *c = CASE(s_vmovdqa_masked);

		c->steps = 2;
		c->fpu.k[4] = k ^ 4;
		c->gpr[X86_RAX] = RIG_DATA + 6;
		assert_int_equal(run_all(c, true)->fault, k ? X86_EX_GP : RIG_NO_FAULT);
		c->gpr[X86_RAX] = END + 6;
		assert_int_equal(run_all(c, true)->fault, k ? X86_EX_GP : RIG_NO_FAULT);
	}
}

SNIPPET(s_fldt, "fldt (%rcx)");
SNIPPET(s_fstpt, "fstpt (%rcx)");
SNIPPET(s_fbstp, "fbstp (%rcx)");
SNIPPET(s_fldenv, "fldenv (%rcx)");
SNIPPET(s_fstenv16, "data16 fnstenv (%rcx)");
SNIPPET(s_fldenv16, "data16 fldenv (%rcx)");
SNIPPET(s_fsave, "fnsave (%rcx)");
SNIPPET(s_frstor16, "data16 frstor (%rcx)");
SNIPPET(s_fxsave32, "fxsave (%rcx)");
SNIPPET(s_fxrstor32, "fxrstor (%rcx)");
SNIPPET(s_xsave32, "xsave (%rcx)");
SNIPPET(s_xrstor32, "xrstor (%rcx)");

/*
 * Large operands that reach into a page that is not there, beyond 4 GiB or into addresses that are not
 * canonical: which fault comes first, and where, depends on the pieces they are accessed in.
 */
static void test_pieces(void **state)
{
	static const struct {
		const uint8_t *b, *e;
		unsigned size, step;
	} t[] = {
#define ROW(name, size, step) { name##_b, name##_e, size, step }
		ROW(s_fldt, 10, 1), ROW(s_fstpt, 10, 1), ROW(s_fbstp, 10, 1), ROW(s_fldenv, 28, 1), ROW(s_fldenv16, 14, 1), ROW(s_fstenv16, 14, 1),
		ROW(s_fsave, 108, 1), ROW(s_frstor16, 94, 1), ROW(s_fxsave32, 512, 16), ROW(s_fxrstor32, 512, 16),
		ROW(s_xsave32, 832, 64), ROW(s_xrstor32, 576, 64),
#undef ROW
	};
	static const uint64_t ends[] = { END, RIG_RODATA, RIG_CODE, END + 2 * RIG_PAGE };
	const unsigned n_ends = ARRAY_LEN(ends) + 1;

	if (!__builtin_cpu_is("amd"))	/* whose pieces these are */
		skip();
	for (unsigned k = 0; k < ARRAY_LEN(t); k++)
		for (unsigned n = 0; n < 2 * n_ends; n++) {
			if (n == 2 * n_ends - 2 && host_has(X86_F_7_ECX, 16))	/* LA57: the end is elsewhere */
				continue;
			for (unsigned before = t[k].step; before < t[k].size; before += t[k].step) {
				struct rig_case *c = new_case(t[k].b, (size_t)(t[k].e - t[k].b));

				c->bits = n & 1 ? 32 : 64;
				c->gpr[X86_RCX] = (n < 2 * ARRAY_LEN(ends) ? ends[n / 2] : 1ull << (n & 1 ? 32 : 47)) - before;
				c->gpr[X86_RAX] = 7;
				run_all(c, true);
			}
		}
}

SNIPPET(s_gather, "vpgatherdd %ymm2, (%rax,%ymm1,4), %ymm0");

static void test_gather_fault_in_the_middle(void **state)
{
	struct rig_case *c = CASE(s_gather);
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx2"))
		skip();
	c->gpr[X86_RAX] = RIG_DATA;
	for (unsigned n = 0; n < 8; n++) {
		st_le32(c->fpu.zmm[0] + 4 * n, 0x11111111);
		st_le32(c->fpu.zmm[1] + 4 * n, n);
		st_le32(c->fpu.zmm[2] + 4 * n, 0x80000000);
		st_le32(c->data + 4 * n, 100 + n);
	}
	st_le32(c->fpu.zmm[1] + 8, 0x100000);	/* the third element is absent */
	r = run_all(c, false);
	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(ld_le32(r->fpu.zmm[0]), 100);
	assert_int_equal(ld_le32(r->fpu.zmm[0] + 4), 101);
	assert_int_equal(ld_le32(r->fpu.zmm[0] + 8), 0x11111111);
	assert_int_equal(ld_le32(r->fpu.zmm[2]), 0);
	assert_int_equal(ld_le32(r->fpu.zmm[2] + 8), 0x80000000);
}

SNIPPET(s_pop_rsp, "pextrq $1, %xmm0, %rsp\npopcnt %rsp, %rax\npdep %rsp, %rsp, %rsp\npinsrq $0, %rsp, %xmm0");

static void test_rsp_as_data(void **state)
{
	struct rig_case *c = CASE(s_pop_rsp);

	if (!__builtin_cpu_supports("bmi2"))
		skip();
	c->steps = 4;
	st_le64(c->fpu.zmm[0] + 8, 0x123456789abcdef0);
	assert_int_equal(run_all(c, true)->fault, RIG_NO_FAULT);
}

/* --- state in memory --- */
static void fill_fpu(struct x86_fpu *f)
{
	for (unsigned n = 0; n < 16; n++)
		memset(f->zmm[n], (int)(0x10 + n), __builtin_cpu_supports("avx") ? 32 : 16);
	for (unsigned n = 0; n < 8; n++) {
		st_le64(f->fx + 32 + 16 * n, 0x8000000000000000 | n);
		st_le16(f->fx + 40 + 16 * n, 0x3fff);
	}
	f->fx[4] = 0xff;
	st_le16(f->fx + 2, 0x2800);
	f->mxcsr = 0x1fa0;
}

static void test_fxsave_layout(void **state)
{
	struct rig_case *c = CASE(s_fxsave);
	struct rig_result *r;

	fill_fpu(&c->fpu);
	memset(c->data, 0xee, 512);
	c->gpr[X86_RAX] = RIG_DATA;
	r = run_all(c, false);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le16(r->data), 0x37f);
	assert_int_equal(ld_le16(r->data + 2), 0x2800);
	assert_int_equal(r->data[4], 0xff);
	assert_int_equal(ld_le32(r->data + 24), 0x1fa0);
	assert_int_equal(ld_le64(r->data + 32 + 16 * 7), 0x8000000000000007);
	assert_int_equal(r->data[160 + 16 * 15], 0x1f);
	assert_int_equal(r->data[511], 0xee);	/* bytes 464..511 are software's */
	c->gpr[X86_RAX] = RIG_DATA + 8;
	want_fault(c, X86_EX_GP);
}

SNIPPET(s_save_restore, "xsave64 (%rbx)\n vpxor %xmm3, %xmm3, %xmm3\n fninit\n xrstor64 (%rbx)");

static void test_xsave_round_trip(void **state)
{
	struct rig_case *c = CASE(s_save_restore);
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx"))
		skip();
	fill_fpu(&c->fpu);
	c->steps = 4;
	c->gpr[X86_RBX] = RIG_DATA;
	c->gpr[X86_RAX] = 7;
	r = run_all(c, false);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le64(r->data + 512), 7);
	assert_int_equal(r->data[576], 0x10);		/* upper half of YMM0 */
	assert_memory_equal(r->fpu.zmm, c->fpu.zmm, sizeof(c->fpu.zmm));
	assert_memory_equal(r->fpu.fx + 32, c->fpu.fx + 32, 128);
	assert_int_equal(ld_le16(r->fpu.fx + 2), 0x2800);
	assert_int_equal(r->fpu.mxcsr, 0x1fa0);
}

static void test_xsave_init_state(void **state)
{
	struct rig_case *c = CASE(s_xsave);
	struct rig_result *r;

	c->gpr[X86_RAX] = RIG_DATA;
	c->gpr[X86_RDX] = 0;
	c->fpu.zmm[5][3] = 1;
	st_le64(c->data + 512, 0xff05);		/* bits not asked for stay */
	c->gpr[X86_RAX] = RIG_DATA & ~0xffull;	/* EAX is both address and mask: x87, SSE, AVX off */
	r = run_all(c, false);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le64(r->data + 512), 0xff05);
}

SNIPPET(s_xsavec, "xsavec64 (%rbx)");
SNIPPET(s_xrstor, "xrstor64 (%rbx)");

static void test_xsavec(void **state)
{
	struct rig_case *c = CASE(s_xsavec);
	struct rig_result *r;

	if (!__builtin_cpu_supports("avx"))
		skip();
	c->gpr[X86_RBX] = RIG_DATA;
	c->gpr[X86_RAX] = 7;
	c->fpu.zmm[2][16] = 0x5a;
	memset(c->data, 0xee, 1024);
	r = run_all(c, false);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le64(r->data + 512), 4);			/* only the AVX part is in use */
	assert_true(ld_le64(r->data + 520) == (7 | 1ull << 63));
	assert_int_equal(r->data[576 + 32], 0x5a);
	assert_int_equal(r->data[0], 0xee);				/* what is in its initial state is not written */
}

static void xrstor_header(uint64_t bv, uint64_t comp, uint64_t rest, uint64_t mxcsr, unsigned off, int vector)
{
	struct rig_case *c = CASE(s_xrstor);

	c->gpr[X86_RBX] = RIG_DATA + off;
	c->gpr[X86_RAX] = 7;
	st_le16(c->data, 0x37f);
	st_le32(c->data + 24, (uint32_t)mxcsr);
	st_le64(c->data + 512, bv);
	st_le64(c->data + 520, comp);
	st_le64(c->data + 528, rest);
	want_fault(c, vector);
}

static void test_xrstor_checks(void **state)
{
	const uint64_t compact = 1ull << 63;

	xrstor_header(3, 0, 0, 0x1f80, 0, -1);
	xrstor_header(3, 0, 0, 0x1f80, 32, X86_EX_GP);		/* alignment */
	xrstor_header(1ull << 40, 0, 0, 0x1f80, 0, X86_EX_GP);	/* no such component */
	xrstor_header(3, 1, 0, 0x1f80, 0, X86_EX_GP);		/* XCOMP_BV without bit 63 */
	xrstor_header(3, 0, 1, 0x1f80, 0, X86_EX_GP);		/* reserved header bytes */
	xrstor_header(3, 0, 0, 0x11f80, 0, X86_EX_GP);		/* MXCSR */
	xrstor_header(3, compact | 3, 0, 0x1f80, 0, -1);
	xrstor_header(3, compact | 1, 0, 0x1f80, 0, X86_EX_GP);	/* more than is there */
	xrstor_header(0, compact | 3, 1, 0x1f80, 0, X86_EX_GP);
}

static void test_xrstor_initialises(void **state)
{
	struct rig_case *c = CASE(s_xrstor);
	struct rig_result *r;
	struct x86_fpu zero = { 0 };

	fill_fpu(&c->fpu);
	c->gpr[X86_RBX] = RIG_DATA;
	c->gpr[X86_RAX] = 7;
	st_le32(c->data + 24, 0x1f00);
	r = run_all(c, false);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_memory_equal(r->fpu.zmm[0], zero.zmm[0], 64);
	assert_int_equal(ld_le16(r->fpu.fx), 0x37f);
	assert_int_equal(r->fpu.mxcsr, 0x1f00);	/* the standard format always loads MXCSR */
}

SNIPPET(s_fnstenv, "fnstenv (%rax)");
SNIPPET(s_fnstenv16, "data16 fnstenv (%rax)");
SNIPPET(s_fnsave, "fnsave (%rax)");

static void test_fnstenv(void **state)
{
	struct rig_case *c = CASE(s_fnstenv);
	struct rig_result *r;

	fill_fpu(&c->fpu);
	c->fpu.fx[4] = 0x81;
	c->gpr[X86_RAX] = RIG_DATA;
	st_le16(c->fpu.fx, 0x340);
	r = run_all(c, false);
	assert_int_equal(ld_le32(r->data), 0xffff0340);
	assert_int_equal(ld_le32(r->data + 4), 0xffff2800);
	assert_int_equal(ld_le32(r->data + 8), 0xffff3ffc);	/* registers 0 and 7 valid, the others empty */
	assert_int_equal(ld_le16(r->fpu.fx), 0x37f);		/* all masked afterwards */
	c = CASE(s_fnstenv16);
	fill_fpu(&c->fpu);
	c->gpr[X86_RAX] = RIG_DATA;
	r = run_all(c, false);
	assert_int_equal(ld_le16(r->data), 0x37f);
	assert_int_equal(ld_le16(r->data + 2), 0x2800);
	assert_int_equal(ld_le16(r->data + 4), 0);
	assert_int_equal(ld_le16(r->data + 14), 0);
}

static void test_fnsave(void **state)
{
	struct rig_case *c = CASE(s_fnsave);
	struct rig_result *r;

	fill_fpu(&c->fpu);
	c->gpr[X86_RAX] = RIG_DATA;
	r = run_all(c, false);
	assert_int_equal(ld_le64(r->data + 28 + 70), 0x8000000000000007);
	assert_int_equal(ld_le16(r->data + 28 + 78), 0x3fff);
	assert_int_equal(ld_le16(r->fpu.fx), 0x37f);
	assert_int_equal(r->fpu.fx[4], 0);
}

SNIPPET(s_mmx, "movd %eax, %mm3\n emms");

static void test_mmx_and_x87(void **state)
{
	struct rig_case *c = CASE(s_mmx);
	struct rig_result *r;

	fill_fpu(&c->fpu);
	c->gpr[X86_RAX] = 0x12345678;
	r = run_all(c, true);
	assert_int_equal(ld_le16(r->fpu.fx + 2), 0);		/* TOP = 0 */
	assert_int_equal(r->fpu.fx[4], 0xff);
	assert_int_equal(ld_le64(r->fpu.fx + 32 + 48), 0x12345678);
	assert_int_equal(ld_le16(r->fpu.fx + 40 + 48), 0xffff);
	c->steps = 2;
	assert_int_equal(run_all(c, true)->fpu.fx[4], 0);
}

SNIPPET(s_mixed, "aesenc %xmm1, %xmm0\n pclmulqdq $1, %xmm0, %xmm1\n crc32q %rax, %rbx\n movbe (%rcx), %rdx\n"
		 "fildll (%rcx)\n fsqrt\n fistpll 8(%rcx)\n pcmpistri $8, %xmm1, %xmm0");

static void test_sequence(void **state)
{
	struct rig_case *c = CASE(s_mixed);

	fill_fpu(&c->fpu);
	c->fpu.fx[4] = 0;
	c->steps = 8;
	c->gpr[X86_RCX] = RIG_DATA + 0xff8;
	st_le64(c->data + 0xff8, 1234567890);
	assert_int_equal(run_all(c, true)->fault, RIG_NO_FAULT);
}

SNIPPET(s_wide, "movabs $0x1122334455667788, %rbx\n movabs 0x40010100, %rax\n movabs %al, 0x40010200\n"
		"movabs 0x40010ffd, %ax\n mov 0x7ffffffc(%rip), %rdx");

/* 64-bit immediates and addresses; a displacement that reaches 2 GiB beyond RIP. */
static void test_wide_operands(void **state)
{
	struct rig_case *c = CASE(s_wide);
	struct rig_result *r;

	c->steps = 5;
	for (unsigned n = 0; n < RIG_DATA_SIZE; n++)
		c->data[n] = (uint8_t)(n * 7);
	r = run_all(c, true);
	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(r->cr2, RIG_CODE + (uint64_t)(s_wide_e - s_wide_b) + 0x7ffffffc);
	assert_int_equal(r->gpr[X86_RBX], 0x1122334455667788);
}

SNIPPET(s_call, "call *%rax");

/* A call to a bad target: a push that fails is reported first. */
static void test_call_to_nowhere(void **state)
{
	struct rig_case *c = CASE(s_call);

	c->gpr[X86_RAX] = 1ull << 63;
	assert_int_equal(run_all(c, true)->fault, X86_EX_GP);
	c->gpr[X86_RSP] = END + 64;
	assert_int_equal(run_all(c, true)->fault, X86_EX_PF);
	c->gpr[X86_RSP] = 1ull << 62;
	assert_int_equal(run_all(c, true)->fault, X86_EX_SS);
}

#define DR7_EXEC(n) (2ull << 2 * (n))
#define DR7_READ1(n) (2ull << 2 * (n) | 3ull << (16 + 4 * (n)))
#define DR7_READ2(n) (DR7_READ1(n) | 1ull << (18 + 4 * (n)))

SNIPPET(s_load, "mov (%rcx), %al");
SNIPPET(s_movss_nop, "mov (%rcx), %ss\n nop");

/* A data breakpoint on the page that runs: code is still fetched from it, and reads of it are seen. */
static void test_watch_on_the_code_page(void **state)
{
	struct rig_case *c = CASE(s_load);
	struct rig_result r;

	if (!engine[0])
		skip();
	c->gpr[X86_RCX] = RIG_CODE;
	c->dr[3] = RIG_CODE;
	c->dr7 = DR7_READ1(3);
	rig_engine_run(engine[0], c, &r);
	assert_true(r.valid);
	assert_int_equal(r.fault, RIG_NO_FAULT);
	assert_int_equal(r.rip, RIG_CODE + c->len);
	assert_int_equal(r.gpr[X86_RAX] & 0xff, c->code[0]);
	assert_int_equal(r.dr6 & 0xf, 8);
}

/* MOV SS hits a data breakpoint and a code breakpoint follows: one #DB tells of both, in front of the NOP (AMD);
 * or the code breakpoint is held back and the data one comes after the NOP (Intel). */
static void test_watch_and_code_breakpoint(void **state)
{
	struct rig_case *c = CASE(s_movss_nop);
	struct rig_result r;

	if (!engine[0])
		skip();
	c->gpr[X86_RCX] = RIG_DATA;
	st_le16(c->data, 0x1b);	/* user mode's own data segment */
	c->dr[0] = RIG_DATA;
	c->dr[1] = RIG_CODE + 2;
	c->dr7 = DR7_READ2(0) | DR7_EXEC(1);
	rig_engine_run(engine[0], c, &r);
	assert_true(r.valid);
	assert_int_equal(r.fault, RIG_NO_FAULT);
	if (__builtin_cpu_is("amd")) {
		assert_int_equal(r.rip, RIG_CODE + 2);
		assert_int_equal(r.dr6 & 0xf, 3);
	} else {
		assert_int_equal(r.rip, RIG_CODE + 3);
		assert_int_equal(r.dr6 & 0xf, 1);
	}
}

/* What AMD's processors do with a far pointer and REX.W, Intel's do otherwise: as the host. */
static void test_far_pointer_size(void **state)
{
	struct rig_case *c;
	struct rig_result *r;

	SNIPPET(lgs_w, ".byte 0x48, 0x0f, 0xb5, 0x06");
	c = CASE(lgs_w);
	c->gpr[X86_RSI] = RIG_DATA;
	c->gpr[X86_RAX] = ~0ull;
	st_le64(c->data, 0x0000000089abcdefull);	/* null selectors for both */
	r = run_all(c, true);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(r->gpr[X86_RAX], 0x89abcdef);

	st_le64(c->data, 0x3333000289abcdefull);	/* null at 4; at 8 a selector beyond the table */
	st_le64(c->data + 8, 0xfff8);
	r = run_all(c, true);
	if (__builtin_cpu_is("amd")) {
		assert_int_equal(r->fault, RIG_NO_FAULT);
		assert_int_equal(r->gpr[X86_RAX], 0x89abcdef);
	} else {
		assert_int_equal(r->fault, X86_EX_GP);
	}
}

static void test_sse4a(void **state)
{
	struct rig_case *c;

	SNIPPET(sse4a, "movntss %xmm1, 3(%rsi); movntsd %xmm2, 4091(%rsi); extrq $5, $9, %xmm1; insertq %xmm2, %xmm3;"
		       "extrq %xmm2, %xmm4; insertq $7, $20, %xmm1, %xmm2");
	if (!host_has(X86_F_81_ECX, 6))
		skip();
	c = CASE(sse4a);
	c->gpr[X86_RSI] = RIG_DATA;
	for (unsigned n = 0; n < 5; n++)
		for (unsigned k = 0; k < 16; k++)
			c->fpu.zmm[n][k] = (uint8_t)(n * 77 + k * 41 + 5);
	c->steps = 6;
	assert_int_equal(run_all(c, false)->fault, RIG_NO_FAULT);
	c->steps = 0;
	for (unsigned at = 0, len; at < c->len; at += len) {	/* one by one against the host */
		struct rig_case one = *c;
		struct insn i;

		assert_int_equal(insn_decode(&i, c->code + at, c->len - at, 64), 0);
		one.len = len = i.len;
		memmove(one.code, c->code + at, len);
		assert_int_equal(run_all(&one, true)->fault, RIG_NO_FAULT);
	}
}

static void test_clzero(void **state)
{
	struct rig_case *c;

	SNIPPET(clzero_1, ".byte 0x0f, 0x01, 0xfc");
	SNIPPET(clzero_32, ".byte 0x67, 0x0f, 0x01, 0xfc");
	if (!host_has(X86_F_88_EBX, 0))
		skip();
	c = CASE(clzero_1);
	memset(c->data, 0x5a, sizeof(c->data));
	c->gpr[X86_RAX] = RIG_DATA + 0xfc5;
	assert_int_equal(run_all(c, true)->fault, RIG_NO_FAULT);
	assert_int_equal(run_all(c, true)->data[0xfc0], 0);
	c->gpr[X86_RAX] = RIG_RODATA + 70;
	assert_int_equal(run_all(c, true)->fault, X86_EX_PF);
	c->gpr[X86_RAX] = 1ull << 63 | 5;
	assert_int_equal(run_all(c, true)->fault, X86_EX_GP);
	c = CASE(clzero_32);
	memset(c->data, 0x5a, sizeof(c->data));
	c->gpr[X86_RAX] = 0xffffffff00000000ull | (RIG_DATA + 65);
	assert_int_equal(run_all(c, true)->data[127], 0);
}

static int setup(void **state)
{
	unsigned have = 0;

	host = native_new();
	for (unsigned n = 0; n < ARRAY_LEN(engines); n++) {
		engine[n] = rig_engine_new(engines[n]);
		have += engine[n] != NULL;
		if (!engine[n])
			printf("engine %s is not available here: skipped\n", engines[n]);
	}
	return host && have ? 0 : -1;
}

static int teardown(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(engines); n++)
		rig_engine_free(engine[n]);
	native_free(host);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_task_switched), cmocka_unit_test(test_emulation_bit),
		cmocka_unit_test(test_cr4_enables), cmocka_unit_test(test_xcr0_enables),
		cmocka_unit_test(test_model_without_avx), cmocka_unit_test(test_pending_x87_error),
		cmocka_unit_test(test_simd_exception), cmocka_unit_test(test_mxcsr_reserved),
		cmocka_unit_test(test_alignment), cmocka_unit_test(test_page_crossing),
		cmocka_unit_test(test_masked_load_at_page_end), cmocka_unit_test(test_masked_store),
		cmocka_unit_test(test_masked_extract_across_pages),
		cmocka_unit_test(test_vpmaskmov), cmocka_unit_test(test_mask_beyond_the_limit), cmocka_unit_test(test_masked_alignment),
		cmocka_unit_test(test_pieces), cmocka_unit_test(test_gather_fault_in_the_middle),
		cmocka_unit_test(test_rsp_as_data), cmocka_unit_test(test_fxsave_layout),
		cmocka_unit_test(test_xsave_round_trip), cmocka_unit_test(test_xsave_init_state),
		cmocka_unit_test(test_xsavec), cmocka_unit_test(test_xrstor_checks),
		cmocka_unit_test(test_xrstor_initialises), cmocka_unit_test(test_fnstenv),
		cmocka_unit_test(test_fnsave), cmocka_unit_test(test_mmx_and_x87), cmocka_unit_test(test_sequence),
		cmocka_unit_test(test_wide_operands), cmocka_unit_test(test_call_to_nowhere),
		cmocka_unit_test(test_far_pointer_size), cmocka_unit_test(test_sse4a), cmocka_unit_test(test_clzero),
		cmocka_unit_test(test_watch_on_the_code_page), cmocka_unit_test(test_watch_and_code_breakpoint),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
