/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring of code cache regions: the oldest code goes, nobody is waited for and
 * nobody's code is taken away under him, and no branch is left that leads into
 * what is gone.
 */
#include <sys/mman.h>

#include "../unit.h"
#include "cpu/translate/gen.h"

#define SIZE (1u << 20)
#define META (512u << 10)
#define CODE 4096u		/* of each block */
#define STUB 0x1234u		/* displacement of an exit that is not linked */

static _Atomic uint32_t version = 1;
static struct xl_cpu *cpu;

static void *map(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static struct xl_engine *new_engine(void)
{
	struct xl_engine *xe = map(sizeof(*xe));

	pthread_mutex_init(&xe->lock, NULL);
	pthread_mutex_init(&xe->page_lock, NULL);
	xe->size = SIZE;
	xe->rw = xe->rx = map(SIZE);	/* nothing is run */
	xe->meta_size = META;
	xe->meta = map(META);
	xe->start = 4096;
	cpu = map(sizeof(*cpu));
	cpu->xe = xe;
	xe->cpus[xe->n_cpus++] = cpu;
	xl_regions_init(xe);
	return xe;
}

static void free_engine(struct xl_engine *xe)
{
	pthread_mutex_destroy(&xe->lock);
	pthread_mutex_destroy(&xe->page_lock);
	munmap(xe->rw, SIZE);
	munmap(xe->meta, META);
	munmap(cpu, sizeof(*cpu));
	munmap(xe, sizeof(*xe));
}

/* A block as xl_translate would make it, with one exit to the page offset `target`. NULL: no room now. */
static struct xl_block *make(struct xl_engine *xe, uint64_t gpa, int32_t target)
{
	size_t meta = sizeof(struct xl_block) + sizeof(struct xl_exit), at;
	struct xl_room room;
	struct xl_block *b = xl_region_room(xe, meta, &room);

	if (!b)
		return NULL;
	at = room.at;
	assert_true(room.size >= CODE && at + CODE <= room.cold_at && room.cold_at + room.cold_size <= SIZE);
	memset(b, 0, sizeof(*b));
	b->gpa = gpa;
	b->key = 0;
	b->version = version;
	b->verp = &version;
	b->code = (uint32_t)at;
	b->code_len = CODE;
	b->ientry = xe->rx + at;
	b->entry = xe->rx + at + 64;
	b->entry_past = xe->rx + at + 128;
	b->exits = (struct xl_exit *)(b + 1);
	b->uops = (struct xl_uop *)b->exits;	/* none */
	b->n_exits = 1;
	b->exits[0] = (struct xl_exit){ .from = b, .patch = (uint32_t)at + 256, .target = target };
	*(uint32_t *)(xe->rw + at + 256) = STUB;
	xl_region_keep(xe, b, CODE, 64, meta);
	assert_true(xl_publish(xe, b));
	return b;
}

static uint32_t displacement(struct xl_engine *xe, const struct xl_exit *e) { return *(uint32_t *)(xe->rw + e->patch); }

/* Makes blocks until the region that is filled is another one; how many. */
static unsigned next_region(struct xl_engine *xe, uint64_t *gpa)
{
	unsigned cur = xe->cur, n = 0;

	for (; xe->cur == cur; n++)
		assert_non_null(make(xe, *gpa += 16, 0));
	return n;
}

static void oldest_goes(void **state)
{
	struct xl_engine *xe = new_engine();
	uint64_t gpa = 0, first = 16;
	unsigned n = 0;

	assert_in_range(xe->n_regions, 4, XL_MAX_REGIONS);
	while (xe->cur < xe->n_regions - 2)
		n += next_region(xe, &gpa);
	assert_non_null(xl_lookup(xe, first, 0, &version));
	n += next_region(xe, &gpa);
	/* The last region is being filled: the first is given up, the second not yet. */
	assert_null(xl_lookup(xe, first, 0, &version));
	assert_int_equal(xe->n_retired, 1);
	assert_non_null(xl_lookup(xe, gpa, 0, &version));
	for (unsigned k = 0; k < 10 * xe->n_regions; k++)
		next_region(xe, &gpa);
	/* What is kept is what the last regions hold, all of it. */
	n = 0;
	for (uint64_t g = 16; g <= gpa; g += 16)
		n += xl_lookup(xe, g, 0, &version) != NULL;
	assert_in_range(n, (xe->n_regions - 2) * (xe->region_hot / CODE - 1), xe->n_regions * xe->region_hot / CODE);
	assert_non_null(xl_lookup(xe, gpa - 16, 0, &version));
	assert_true(xe->most_code <= SIZE && xe->most_meta <= META);
	free_engine(xe);
}

static void nobody_is_waited_for(void **state)
{
	struct xl_engine *xe = new_engine();
	struct xl_block *b, *old;
	uint64_t gpa = 0;
	uint32_t generation;

	old = make(xe, gpa += 16, 0);
	next_region(xe, &gpa);
	while (xe->cur < xe->n_regions - 2)
		next_region(xe, &gpa);
	atomic_store(&cpu->entered, 7);
	atomic_store(&cpu->inside, true);
	generation = atomic_load(&xe->generation);
	next_region(xe, &gpa);		/* the first is retired under the vCPU */
	assert_int_equal(atomic_load(&xe->generation), generation + 1);
	assert_ptr_equal(xl_at_host(xe, (uintptr_t)xe->rx + old->code + 300), old);
	while ((b = make(xe, gpa += 16, 0)) != NULL)
		;
	assert_int_equal(xe->cur, xe->n_regions - 1);
	assert_true(atomic_load(&cpu->ic.c.vcpu.events) & VCPU_EV_ENGINE);
	assert_ptr_equal(xl_at_host(xe, (uintptr_t)xe->rx + old->code + 300), old);
	assert_null(make(xe, gpa, 0));
	assert_true(xe->n_no_room >= 2);
	/* Another stay is as good as being outside. */
	atomic_store(&cpu->entered, 8);
	assert_non_null(make(xe, gpa, 0));
	assert_int_equal(xe->cur, 0);
	free_engine(xe);
}

static void links_are_undone(void **state)
{
	struct xl_engine *xe = new_engine();
	struct xl_block *to, *near_, *far_, *dead;
	uint64_t gpa = 0x1000;
	uint32_t there;

	to = make(xe, 0x100, 0x200);
	near_ = make(xe, 0x200, 0x100);
	dead = make(xe, 0x300, 0x100);
	next_region(xe, &gpa);
	far_ = make(xe, 0x400, 0x100);
	xl_link(xe, &near_->exits[0], to);
	xl_link(xe, &dead->exits[0], to);
	xl_link(xe, &far_->exits[0], to);
	xl_link(xe, &to->exits[0], near_);
	there = (uint32_t)(to->entry - (xe->rx + far_->exits[0].patch + 4));
	assert_int_equal(displacement(xe, &far_->exits[0]), there);
	/* Linked again, and to what does not fit. */
	xl_link(xe, &far_->exits[0], to);
	xl_link(xe, &far_->exits[0], near_);
	assert_int_equal(displacement(xe, &far_->exits[0]), there);
	while (xe->n_retired == 0)
		next_region(xe, &gpa);
	assert_int_equal(displacement(xe, &far_->exits[0]), STUB);
	assert_null(far_->exits[0].to_prev);
	assert_null(to->from);
	assert_int_equal(*to->ientry, 0xe9);	/* who comes from the jump cache leaves */
	/* An exit that goes takes itself off the list of a block that stays. */
	to = make(xe, 0x100, 0x200);
	xl_link(xe, &far_->exits[0], to);
	assert_ptr_equal(to->from, &far_->exits[0]);
	while (xe->n_retired == 1)
		next_region(xe, &gpa);
	assert_null(to->from);
	free_engine(xe);
}

/* Nothing leads directly to a block that has died, from then on. */
static void dead_blocks_are_cut_off(void **state)
{
	struct xl_engine *xe = new_engine();
	struct xl_block *to = make(xe, 0x100, 0x200), *from = make(xe, 0x200, 0x100), *before = make(xe, 0x80, 0x100);

	before->exits[0].forward = true;
	xl_link(xe, &from->exits[0], to);
	xl_link(xe, &before->exits[0], to);
	assert_int_equal(displacement(xe, &from->exits[0]), (uint32_t)(to->entry - (xe->rx + from->exits[0].patch + 4)));
	assert_int_equal(displacement(xe, &before->exits[0]), (uint32_t)(to->entry_past - (xe->rx + before->exits[0].patch + 4)));
	xl_block_drop(xe, to);
	assert_int_equal(displacement(xe, &from->exits[0]), STUB);
	assert_int_equal(displacement(xe, &before->exits[0]), STUB);
	assert_null(to->from);
	xl_link(xe, &from->exits[0], to);
	assert_int_equal(displacement(xe, &from->exits[0]), STUB);
	to = make(xe, 0x100, 0x200);
	xl_link(xe, &from->exits[0], to);
	assert_int_equal(displacement(xe, &from->exits[0]), (uint32_t)(to->entry - (xe->rx + from->exits[0].patch + 4)));
	free_engine(xe);
}

/* Blocks whose code changed are off their page's list already. */
static void dead_blocks_go_too(void **state)
{
	struct xl_engine *xe = new_engine();
	struct xl_block *b;
	uint64_t gpa = 0;

	b = make(xe, 16, 0);
	gpa = 16;
	make(xe, gpa += 16, 0);
	atomic_fetch_add(&version, 1);
	xl_page_changed(xe, &version);
	assert_true(atomic_load(&b->dead));
	assert_int_equal(xe->n_invalidated, 2);
	while (xe->n_retired < 2 * xe->n_regions)
		next_region(xe, &gpa);
	assert_null(xl_lookup(xe, 16, 0, &version));
	free_engine(xe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oldest_goes),
		cmocka_unit_test(nobody_is_waited_for),
		cmocka_unit_test(links_are_undone),
		cmocka_unit_test(dead_blocks_are_cut_off),
		cmocka_unit_test(dead_blocks_go_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
