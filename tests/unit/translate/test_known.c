/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a vCPU remembers of where translated code is: the jump cache loses exactly
 * what a flush is about, the one behind it nothing until code goes.
 */
#include <sys/mman.h>

#include "../unit.h"
#include "cpu/translate/gen.h"

#define CODE (1u << 20)

static _Atomic uint32_t version[64];
static struct xl_engine *xe;
static struct xl_cpu *cpu;
static uint64_t seed = 1;

static uint32_t rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

static void *map(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static int set_up(void **state)
{
	xe = map(sizeof(*xe));
	xe->rx = map(CODE);	/* nothing is run */
	cpu = map(sizeof(*cpu));
	cpu->xe = xe;
	xl_cpu_fresh(cpu);
	return 0;
}

static int tear_down(void **state)
{
	munmap(xe->rx, CODE);
	munmap(xe, sizeof(*xe));
	munmap(cpu, sizeof(*cpu));
	return 0;
}

static struct xl_block block(unsigned page, unsigned off, unsigned at, uint32_t key)
{
	return (struct xl_block){ .gpa = (uint64_t)page << 12 | off, .verp = &version[page], .ientry = xe->rx + at, .key = key };
}

static bool in_jc(unsigned acc, uint64_t rip)
{
	return cpu->jc[acc].rip[xl_jc_index(rip)] == rip;
}

/* Entries of many pages, user and kernel, among them the last there is: one page's go, and no other's. */
static void test_page_flush(void **state)
{
	static const uint64_t base[] = { 0, 0x400000, 0x7f1234560000, 0xffffffff81000000, 0xfffffffffffc0000 };
	enum { N = 400 };
	uint64_t rips[N];
	unsigned gone = 0, kept = 0;

	for (unsigned round = 0; round < 50; round++) {
		uint64_t page;

		for (unsigned acc = 0; acc < XL_N_ACC; acc++)
			xl_jc_clear(cpu, acc);
		for (unsigned k = 0; k < N; k++) {
			struct xl_block b = block(k % 64, rnd() & 0xfff, 16 * k, XL_KEY_OF_ACC(k % XL_N_ACC));

			rips[k] = (base[rnd() % ARRAY_LEN(base)] + (rnd() % 64 << 12)) | (b.gpa & 0xfff);
			xl_jc_put(cpu, rips[k], &b, k & 1);
		}
		page = rips[rnd() % N] & ~0xfffull;
		for (unsigned k = 0; k < N; k++)	/* conflicts are rare */
			kept += in_jc(k % XL_N_ACC, rips[k]) && (rips[k] & ~0xfffull) != page;
		xl_flushed(&cpu->ic.c, page);
		for (unsigned k = 0; k < N; k++) {
			bool there = in_jc(k % XL_N_ACC, rips[k]), flushed = (rips[k] & ~0xfffull) == page;

			assert_false(there && flushed);
			gone += flushed;
			kept -= there && !flushed;
		}
		assert_int_equal(kept, 0);
	}
	assert_true(gone >= 50);
}

static void test_known_stays(void **state)
{
	struct xl_block b = block(3, 0x123, 0x100, XL_KEY_OF_ACC(0)), other = block(3, 0x123, 0x200, XL_KEY_OF_ACC(2));
	struct x86_tlb_entry e3 = { .version = &version[3] }, e4 = { .version = &version[4] };
	uint64_t rip = 0x7000123;

	xl_jc_put(cpu, rip, &b, false);
	xl_jc_put(cpu, rip, &other, false);
	xl_flushed(&cpu->ic.c, X86_FLUSH_ALL);
	assert_false(in_jc(0, rip));
	/* Mapped elsewhere by now, but to the same page; not by another page, offset or mode. */
	assert_ptr_equal(xl_known(cpu, &e3, rip + 0x5000, b.key), b.ientry);
	assert_true(in_jc(0, rip + 0x5000));
	assert_ptr_equal(xl_known(cpu, &e3, rip, other.key), other.ientry);
	assert_null(xl_known(cpu, &e4, rip, b.key));
	assert_null(xl_known(cpu, &e3, rip + 1, b.key));
	assert_null(xl_known(cpu, &e3, rip, b.key | XL_KEY_AVX));
	/* A new block in the place of one that died. */
	b.ientry = xe->rx + 0x300;
	xl_jc_put(cpu, rip, &b, false);
	assert_ptr_equal(xl_known(cpu, &e3, rip, b.key), b.ientry);
	xl_forget_code(cpu);
	assert_null(xl_known(cpu, &e3, rip, b.key));
	assert_false(in_jc(0, rip));
}

/* A vCPU that is unplugged remembers nothing, also of what addresses of zero would hit, and goes on as one that is new. */
static void test_drop(void **state)
{
	struct xl_block b = block(3, 0x123, 0x100, XL_KEY_OF_ACC(0));
	struct x86_tlb_entry e3 = { .version = &version[3] };
	struct xl_cpu *fresh = map(sizeof(*fresh));
	const size_t at = offsetof(struct xl_cpu, tlb);

	xl_cpu_fresh(fresh);
	for (unsigned k = 0; k < 5000; k++)
		xl_jc_put(cpu, 0x7000123 + 0x1000ull * k, &b, k & 1);
	memset(cpu->tlb[1].tag, 0x55, sizeof(cpu->tlb[1].tag));
	cpu->tlb[2].n_used = 7;
	xl_cpu_drop(cpu);
	assert_null(xl_known(cpu, &e3, 0x7000123, b.key));
	assert_false(in_jc(0, 0));
	for (unsigned k = 0; k < XL_N_ACC; k++) {
		assert_ptr_equal(cpu->tlb[k].flags[XL_TLB_SIZE], &cpu->bounce_flags);
		cpu->tlb[k].flags[XL_TLB_SIZE] = fresh->tlb[k].flags[XL_TLB_SIZE] = NULL;
	}
	assert_memory_equal((char *)cpu + at, (char *)fresh + at, sizeof(*cpu) - at);
	xl_cpu_fresh(cpu);
	xl_jc_put(cpu, 0x7000123, &b, false);
	assert_true(in_jc(0, 0x7000123));
	munmap(fresh, sizeof(*fresh));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_flush),
		cmocka_unit_test(test_known_stays),
		cmocka_unit_test(test_drop),
	};

	return cmocka_run_group_tests_name("known", tests, set_up, tear_down);
}
