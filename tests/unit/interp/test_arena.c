/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring of decoded blocks: what is in use stays, what ran once goes, and the
 * memory follows the guest's need.
 */
#include <sys/mman.h>

#include "../unit.h"
#include "cpu/interp/interp.h"

#define UNITS 8u	/* a block of 6 instructions and its end */
#define PER_SEG (ARENA_SEG / (UNITS * BLOCK_UNIT))
#define MIN_SEGS 8u	/* 2 MiB, docs/SPEC.md */

static _Atomic uint32_t version = 1;

static struct interp_cpu *new_cpu(void)
{
	struct interp_cpu *ic = mmap(NULL, sizeof(*ic), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(ic, MAP_FAILED);
	assert_int_equal(arena_init(ic), 0);
	return ic;
}

static void free_cpu(struct interp_cpu *ic)
{
	arena_free(ic);
	munmap(ic, sizeof(*ic));
}

static struct block *lookup(struct interp_cpu *ic, uint64_t gpa)
{
	for (struct block *b = arena_first(ic, gpa); b; b = arena_next(ic, b))
		if (b->gpa == gpa)
			return b;
	return NULL;
}

/* What interp_block does for a block that is due. True: it had to be made. */
static bool run(struct interp_cpu *ic, uint64_t gpa)
{
	struct block *b = lookup(ic, gpa);

	ic->c.n_insn += 6;
	if (b) {
		b->used = true;
		return false;
	}
	b = arena_room(ic);
	memset(b, 0, UNITS * BLOCK_UNIT);
	b->gpa = gpa;
	b->verp = &version;
	b->version = version;
	b->n = 6;
	b->units = UNITS;
	b->ops[5].imm = (int32_t)gpa;
	arena_keep(ic, b);
	return true;
}

/* Code that runs once does not make the cache grow, and goes. */
static void once_is_not_kept(void **state)
{
	struct interp_cpu *ic = new_cpu();

	for (uint64_t k = 1; k <= 200000; k++)
		assert_true(run(ic, k * 16));
	assert_int_equal(ic->arena.n, MIN_SEGS);
	assert_null(lookup(ic, 16));
	assert_non_null(lookup(ic, 200000 * 16));
	free_cpu(ic);
}

/* A block in use outlives any amount of other code, unchanged. */
static void in_use_is_kept(void **state)
{
	struct interp_cpu *ic = new_cpu();

	run(ic, 0x1000);
	for (uint64_t k = 1; k <= 100000; k++) {
		run(ic, 0x100000 + k * 16);
		if (k % 500 == 0)
			assert_false(run(ic, 0x1000));
	}
	assert_int_equal(lookup(ic, 0x1000)->ops[5].imm, 0x1000);
	free_cpu(ic);
}

/* A stale block is not kept though it was used. */
static void stale_is_not_kept(void **state)
{
	struct interp_cpu *ic = new_cpu();

	run(ic, 0x1000);
	run(ic, 0x1000);
	version++;
	for (uint64_t k = 1; k <= 20 * PER_SEG; k++)
		run(ic, 0x100000 + k * 16);
	assert_null(lookup(ic, 0x1000));
	free_cpu(ic);
}

/* A loop over more code than fits makes the cache grow until it fits; when
 * nothing is decoded again for long, it shrinks. */
static void follows_need(void **state)
{
	struct interp_cpu *ic = new_cpu();
	unsigned loop = 20 * PER_SEG, made = 0;
	uint64_t fresh = 1ull << 40;

	for (unsigned round = 0; round < 40; round++) {
		made = 0;
		for (unsigned k = 0; k < loop; k++)
			made += run(ic, 0x1000 + k * 16);
	}
	assert_int_equal(made, 0);
	assert_in_range(ic->arena.n, 20, 60);
	for (unsigned k = 0; k < 500 * PER_SEG; k++, fresh += 16) {
		run(ic, fresh);
		ic->c.n_insn += 1000;
	}
	assert_int_equal(ic->arena.n, MIN_SEGS);
	free_cpu(ic);
}

/* However much is wanted, there is a bound. */
static void bounded(void **state)
{
	struct interp_cpu *ic = new_cpu();
	unsigned loop = 2 * ARENA_SEGS * PER_SEG;

	for (unsigned round = 0; round < 6; round++)
		for (unsigned k = 0; k < loop; k++)
			run(ic, 0x1000 + k * 16);
	assert_in_range(ic->arena.n, 1, ARENA_SEGS);
	free_cpu(ic);
}

static void drop_forgets_all(void **state)
{
	struct interp_cpu *ic = new_cpu();

	for (uint64_t k = 1; k <= 10000; k++)
		run(ic, k * 16);
	arena_drop(ic);
	for (uint64_t k = 1; k <= 10000; k++)
		assert_null(lookup(ic, k * 16));
	assert_true(run(ic, 16));
	free_cpu(ic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_is_not_kept), cmocka_unit_test(in_use_is_kept), cmocka_unit_test(stale_is_not_kept),
		cmocka_unit_test(follows_need), cmocka_unit_test(bounded), cmocka_unit_test(drop_forgets_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
