/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The balloon: what is inflated or reported is the host's again and reads as zero. */
#include "driver.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "virtio/balloon.h"

#define ALL ~0ull
#define F_STATS 2ull
#define F_POISON 16ull
#define F_REPORTING 32ull
#define PAGES 0x1000000ull		/* 16 MiB up are used for pages */

struct fix {
	struct drv d;
	struct virtio_dev *dev;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_machine(&f->d);
	assert_int_equal(virtio_balloon_new(f->d.m, "balloon0", &f->dev, NULL), 0);
	drv_plug(&f->d, f->dev, true);
	drv_start(&f->d, ALL, 16);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_free(&f->d);
	free(f);
	return 0;
}

static uint64_t resident(struct fix *f)
{
	struct stat st;

	fstat(mem_ram_fd(f->d.m->mem), &st);
	return (uint64_t)st.st_blocks * 512;
}

static void fill(struct fix *f, uint64_t pages)
{
	memset(mem_ram_host(f->d.m->mem) + PAGES, 0x77, pages * PAGE_4K);
}

static uint8_t byte_at(struct fix *f, uint64_t page)
{
	return mem_ram_host(f->d.m->mem)[PAGES + page * PAGE_4K + 5];
}

static void send_pfns(struct fix *f, unsigned q, const uint32_t *pfn, unsigned n)
{
	struct ring_buf b[] = { { 0x8000, 4 * n, false } };
	uint32_t id, len;

	mem_write(f->d.m->mem, 0x8000, pfn, 4ull * n);
	ring_push(&f->d.ring[q], b, 1);
	drv_kick(&f->d, q);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[q], &id, &len));
	assert_int_equal(len, 0);
}

static void inflating_gives_memory_back(void **state)
{
	struct fix *f = *state;
	struct virtio_balloon_info i;
	uint32_t pfn[300];
	uint64_t before;

	fill(f, 301);
	before = resident(f);
	for (unsigned n = 0; n < 300; n++)	/* Linux: last page first */
		pfn[n] = PAGES / PAGE_4K + 299 - n;
	send_pfns(f, 0, pfn, 300);
	assert_int_equal(byte_at(f, 0), 0);
	assert_int_equal(byte_at(f, 299), 0);
	assert_int_equal(byte_at(f, 300), 0x77);
	/* the rings and the list of pages took a few */
	assert_true(before - resident(f) >= 290 * PAGE_4K);
	virtio_balloon_get(f->dev, &i);
	assert_int_equal(i.released, 300 * PAGE_4K);
	send_pfns(f, 1, pfn, 300);
	fill(f, 300);
	assert_int_equal(byte_at(f, 0), 0x77);
}

static void pages_that_are_not_ram_are_ignored(void **state)
{
	struct fix *f = *state;
	uint32_t pfn[] = { DRV_RAM / PAGE_4K, 0xffffffff, 0xfffffffe, 0xfee00, PAGES / PAGE_4K,
			   PAGES / PAGE_4K, DRV_RAM / PAGE_4K - 1 };
	struct virtio_balloon_info i;

	fill(f, 2);
	send_pfns(f, 0, pfn, ARRAY_LEN(pfn));
	assert_int_equal(byte_at(f, 0), 0);
	assert_int_equal(byte_at(f, 1), 0x77);
	virtio_balloon_get(f->dev, &i);
	assert_int_equal(i.released, 2 * PAGE_4K);
	assert_int_equal(drv_status(&f->d), 15);
}

static void odd_bytes_at_the_end_are_ignored(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { 0x8000, 3, false }, { 0x8003, 4, false } };
	uint32_t pfn = PAGES / PAGE_4K, id, len;

	fill(f, 1);
	mem_write(f->d.m->mem, 0x8000, &pfn, 4);
	ring_push(&f->d.ring[0], b, 2);
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[0], &id, &len));
	assert_int_equal(byte_at(f, 0), 0);
}

static void target_and_actual(void **state)
{
	struct fix *f = *state;
	struct virtio_balloon_info i;

	f->d.n_msi = 0;
	machine_lock(f->d.m);
	virtio_balloon_set_target(f->dev, (8 << 20) + 100);
	machine_unlock(f->d.m);
	assert_int_equal(f->d.n_msi, 1);
	assert_int_equal(drv_config(&f->d, 0, 4), 2048);
	drv_config_write(&f->d, 4, 4, 1000);
	drv_config_write(&f->d, 0, 4, 5);	/* not the driver's to write */
	assert_int_equal(drv_config(&f->d, 0, 4), 2048);
	virtio_balloon_get(f->dev, &i);
	assert_int_equal(i.target, 8 << 20);
	assert_int_equal(i.actual, 1000 * PAGE_4K);
	machine_lock(f->d.m);
	virtio_balloon_set_target(f->dev, UINT64_MAX);
	machine_unlock(f->d.m);
	assert_int_equal(drv_config(&f->d, 0, 4), DRV_RAM / PAGE_4K);
}

static void report(struct fix *f, unsigned q)
{
	/* one aligned range, one with ragged edges, one smaller than a page */
	struct ring_buf b[] = { { PAGES, 8 * PAGE_4K, true }, { PAGES + 10 * PAGE_4K + 1, 3 * PAGE_4K, true },
				{ PAGES + 20 * PAGE_4K, 100, true } };
	uint32_t id, len;

	fill(f, 32);
	ring_push(&f->d.ring[q], b, 3);
	drv_kick(&f->d, q);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[q], &id, &len));
}

static void reported_pages_are_released(void **state)
{
	struct fix *f = *state;

	/* queue 3: as Linux counts; queue 4: as the specification does */
	for (unsigned q = 3; q < 5; q++) {
		report(f, q);
		assert_int_equal(byte_at(f, 0), 0);
		assert_int_equal(byte_at(f, 7), 0);
		assert_int_equal(byte_at(f, 8), 0x77);
		assert_int_equal(byte_at(f, 10), 0x77);
		assert_int_equal(byte_at(f, 11), 0);
		assert_int_equal(byte_at(f, 12), 0);
		assert_int_equal(byte_at(f, 13), 0x77);
		assert_int_equal(byte_at(f, 20), 0x77);
	}
	/* without statistics it is queue 2 */
	drv_start(&f->d, ALL & ~F_STATS, 16);
	report(f, 2);
	assert_int_equal(byte_at(f, 0), 0);
}

static void poisoned_pages_stay(void **state)
{
	struct fix *f = *state;

	drv_config_write(&f->d, 12, 4, 0xaaaaaaaa);
	report(f, 3);
	assert_int_equal(byte_at(f, 0), 0x77);
	drv_start(&f->d, ALL & ~F_POISON, 16);
	drv_config_write(&f->d, 12, 4, 0xaaaaaaaa);
	report(f, 3);
	assert_int_equal(byte_at(f, 0), 0);
}

static void give_stats(struct fix *f, uint64_t free_bytes)
{
	uint8_t s[30];
	struct ring_buf b[] = { { 0x9000, sizeof(s), false } };

	st_le16(s, VIRTIO_BALLOON_S_MEMFREE);
	st_le64(s + 2, free_bytes);
	st_le16(s + 10, 999);			/* unknown tag */
	st_le64(s + 12, 1);
	st_le16(s + 20, VIRTIO_BALLOON_S_MEMTOT);
	st_le64(s + 22, DRV_RAM);
	mem_write(f->d.m->mem, 0x9000, s, sizeof(s));
	ring_push(&f->d.ring[2], b, 1);
	drv_kick(&f->d, 2);
	drv_poll(&f->d);
}

static void statistics_are_asked_for_by_the_clock(void **state)
{
	struct fix *f = *state;
	struct virtio_balloon_info i;
	uint32_t id, len;

	give_stats(f, 1000);
	assert_false(ring_used(&f->d.ring[2], &id, &len));	/* kept */
	virtio_balloon_get(f->dev, &i);
	assert_int_equal(i.stat_valid, BIT(VIRTIO_BALLOON_S_MEMFREE) | BIT(VIRTIO_BALLOON_S_MEMTOT));
	assert_int_equal(i.stat[VIRTIO_BALLOON_S_MEMFREE], 1000);
	machine_lock(f->d.m);
	virtio_balloon_poll_stats(f->dev, 2000);
	machine_unlock(f->d.m);
	assert_true(ring_used(&f->d.ring[2], &id, &len));
	give_stats(f, 2000);
	assert_false(ring_used(&f->d.ring[2], &id, &len));
	machine_lock(f->d.m);
	clock_step(f->d.m->clock, 2000000000);
	machine_unlock(f->d.m);
	assert_true(ring_used(&f->d.ring[2], &id, &len));
	virtio_balloon_get(f->dev, &i);
	assert_int_equal(i.stat[VIRTIO_BALLOON_S_MEMFREE], 2000);
	/* a second buffer while one is held comes straight back */
	give_stats(f, 1);
	give_stats(f, 2);
	assert_true(ring_used(&f->d.ring[2], &id, &len));
	/* a reset forgets the one that is held */
	drv_start(&f->d, ALL, 16);
	machine_lock(f->d.m);
	clock_step(f->d.m->clock, 5000000000);
	machine_unlock(f->d.m);
	assert_int_equal(ring_used_idx(&f->d.ring[2]), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(inflating_gives_memory_back),
		T(pages_that_are_not_ram_are_ignored),
		T(odd_bytes_at_the_end_are_ignored),
		T(target_and_actual),
		T(reported_pages_are_released),
		T(poisoned_pages_stay),
		T(statistics_are_asked_for_by_the_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
