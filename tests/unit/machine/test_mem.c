/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the memory map: a copy happens whole or not at all, nothing beyond
 * RAM is reachable whatever the numbers, ROM is not written by devices, engines
 * hear of every write to a page they hold code of, the dirty log misses nothing.
 */
#include "../unit.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "machine/ahead.h"
#include "machine/mem.h"
#include "machine/mem_save.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

struct seen {
	unsigned added, removed, code;
	uint64_t gpa, len;
};

static void on_added(void *o, const struct mem_range *r)
{
	((struct seen *)o)->added++;
}
static void on_removed(void *o, const struct mem_range *r)
{
	((struct seen *)o)->removed++;
}
static void on_code(void *o, uint64_t gpa, uint64_t len)
{
	struct seen *s = o;

	s->code++;
	s->gpa = gpa;
	s->len = len;
}

/* 1 MiB at 0, 1 MiB at 4 GiB (the same backing file, next to each other), a ROM
 * of 64 KiB at 1 MiB. */
static int setup(void **state)
{
	struct mem *m;
	struct err e;

	if (mem_new(&m) || mem_create_ram(m, 2 * MIB, MEM_HUGE_NONE, &e) ||
	    mem_add_ram(m, "low", 0, 0, MIB, &e) ||
	    mem_add_ram(m, "high", 4 * GIB, MIB, MIB, &e) ||
	    mem_add_rom(m, "rom", MIB, 65536, "firmware", 8, &e))
		return -1;
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	mem_free(*state);
	return 0;
}

static void copies_are_whole_or_nothing(void **state)
{
	struct mem *m = *state;
	char buf[32];

	assert_int_equal(mem_write(m, 4 * GIB, "hello", 5), 0);
	assert_int_equal(mem_read(m, 4 * GIB, buf, 5), 0);
	assert_memory_equal(buf, "hello", 5);
	/* Crosses the end of memory: not even the good part is written. */
	assert_int_equal(mem_write(m, 4 * GIB + MIB - 2, "abcd", 4), -EFAULT);
	assert_int_equal(mem_read(m, 4 * GIB + MIB - 2, buf, 2), 0);
	assert_memory_equal(buf, "\0\0", 2);
	assert_int_equal(mem_read(m, UINT64_MAX - 1, buf, 4), -EFAULT);
	assert_int_equal(mem_read(m, 0, buf, UINT64_MAX), -EFAULT);
	assert_int_equal(mem_read(m, 2 * GIB, buf, 1), -EFAULT);
	assert_int_equal(mem_read(m, 2 * GIB, buf, 0), 0);
}

static void rom_reads_but_never_writes(void **state)
{
	struct mem *m = *state;
	char buf[8];

	assert_int_equal(mem_read(m, MIB, buf, 8), 0);
	assert_memory_equal(buf, "firmware", 8);
	assert_int_equal(mem_write(m, MIB, "x", 1), -EFAULT);
	assert_int_equal(mem_write(m, MIB - 1, "xy", 2), -EFAULT);
	assert_null(mem_ptr(m, MIB, 1, true));
	assert_non_null(mem_ptr(m, MIB, 1, false));
	assert_int_equal(mem_load(m, MIB, "F", 1), 0);
	/* A read may run from RAM into ROM. */
	assert_int_equal(mem_read(m, MIB - 1, buf, 2), 0);
	assert_memory_equal(buf, "\0F", 2);
}

static void iov_covers_exactly_what_was_asked(void **state)
{
	struct mem *m = *state;
	struct iovec iov[3];
	size_t n = 1;

	assert_int_equal(mem_map_iov(m, MIB - 4, 8, false, iov, 3, &n), 0);
	assert_int_equal(n, 3);
	assert_ptr_equal(iov[1].iov_base, mem_ram_host(m) + MIB - 4);
	assert_int_equal(iov[1].iov_len, 4);
	assert_int_equal(iov[2].iov_len, 4);
	n = 2;
	assert_int_equal(mem_map_iov(m, MIB - 4, 8, false, iov, 3, &n), -E2BIG);
	assert_int_equal(n, 2);
	n = 0;
	assert_int_equal(mem_map_iov(m, MIB - 4, 8, true, iov, 3, &n), -EFAULT);
	assert_int_equal(mem_map_iov(m, 8, UINT64_MAX - 4, true, iov, 3, &n), -EFAULT);
	assert_int_equal(n, 0);
	assert_null(mem_ptr(m, MIB - 4, 8, false));	/* not contiguous here */
	assert_ptr_equal(mem_ptr(m, MIB - 4, 4, true), mem_ram_host(m) + MIB - 4);
}

static void overlaps_and_nonsense_are_refused(void **state)
{
	struct mem *m = *state;
	struct err e;

	assert_int_equal(mem_add_ram(m, "twice", 0, 0, 4096, &e), -EEXIST);
	assert_int_equal(mem_add_rom(m, "over", MIB - 4096, 8192, NULL, 0, &e), -EEXIST);
	assert_int_equal(mem_add_ram(m, "odd", 3 * MIB + 1, 0, 4096, &e), -EINVAL);
	assert_int_equal(mem_add_ram(m, "none", 3 * MIB, 0, 0, &e), -EINVAL);
	assert_int_equal(mem_add_ram(m, "beyond", 3 * MIB, MIB, 2 * MIB, &e), -EINVAL);
	assert_int_equal(mem_add_ram(m, "wrap", UINT64_MAX - 4095, 0, 4096, &e), -EINVAL);
	assert_int_equal(mem_add_rom(m, "full", 3 * MIB, 4096, &e, 4097, &e), -EINVAL);
	assert_int_equal(mem_create_ram(m, MIB, MEM_HUGE_NONE, &e), -EEXIST);
	assert_int_equal(mem_del(m, 4096), -ENOENT);
}

static void listeners_follow_the_map(void **state)
{
	struct mem *m = *state;
	struct seen s = { 0 };
	struct mem_listener l = { .added = on_added, .removed = on_removed, .opaque = &s };
	struct mem_range r;
	struct err e;

	mem_listen(m, &l);
	assert_int_equal(s.added, 3);
	assert_int_equal(mem_add_ram(m, "alias", 8 * GIB, 0, MIB, &e), 0);
	assert_int_equal(s.added, 4);
	assert_int_equal(mem_write(m, 16, "two", 3), 0);
	assert_memory_equal(mem_ptr(m, 8 * GIB + 16, 3, false), "two", 3);
	assert_int_equal(mem_del(m, 8 * GIB), 0);
	assert_int_equal(s.removed, 1);
	assert_false(mem_find(m, 8 * GIB, &r));
	assert_true(mem_find(m, MIB + 65535, &r));
	assert_string_equal(r.name, "rom");
	assert_false(mem_find(m, MIB + 65536, &r));
	mem_unlisten(m, &l);
	assert_int_equal(mem_del(m, MIB), 0);
	assert_int_equal(s.removed, 1);
}

static void code_writes_are_told(void **state)
{
	struct mem *m = *state;
	struct seen s = { 0 };
	struct mem_listener l = { .code_written = on_code, .opaque = &s };
	struct mem_range r;

	mem_listen(m, &l);
	assert_true(mem_find(m, 4 * GIB, &r));
	assert_int_equal(mem_write(m, 4 * GIB + 4096, "x", 1), 0);
	assert_int_equal(s.code, 0);
	atomic_fetch_or(&r.flags[1], MEM_PG_CODE);
	assert_int_equal(mem_write(m, 4 * GIB + 4094, "xyz", 3), 0);
	assert_int_equal(s.code, 1);
	assert_int_equal(r.version[1], 1);
	assert_int_equal(r.version[0], 0);
	mem_written_host(m, r.host + 8000, 1);
	assert_int_equal(r.version[1], 2);
	assert_int_equal(s.gpa, 4 * GIB + 8000);
	mem_written_host(m, r.host + 8192, 1);
	mem_written_host(m, &s, sizeof(s));		/* not guest memory: ignored */
	assert_int_equal(s.code, 2);
	mem_written(m, 0, UINT64_MAX);
	assert_int_equal(r.version[1], 3);
	mem_unlisten(m, &l);
}

static void dirty_log_misses_nothing(void **state)
{
	struct mem *m = *state;
	uint64_t map[8] = { 0 };

	assert_int_equal(mem_write(m, 0, "a", 1), 0);
	assert_int_equal(mem_dirty_start(m), 0);
	assert_int_equal(mem_write(m, 4095, "ab", 2), 0);
	assert_int_equal(mem_write(m, 4 * GIB + MIB - 1, "c", 1), 0);
	mem_dirty_fetch(m, 0, UINT64_MAX, map);
	assert_int_equal(map[0], 3);
	assert_true(map[7] == 1ull << 63);
	memset(map, 0, sizeof(map));
	mem_dirty_fetch(m, 0, 512, map);
	assert_int_equal(map[0] | map[7], 0);		/* fetching clears */
	assert_int_equal(mem_write(m, 5 * 4096, "d", 1), 0);
	mem_dirty_fetch(m, 4, 2, map);
	assert_int_equal(map[0], 2);			/* bit 0 is page 4 */
	mem_dirty_stop(m);
	assert_int_equal(mem_write(m, 0, "a", 1), 0);
	map[0] = 0;
	mem_dirty_fetch(m, 0, 512, map);
	assert_int_equal(map[0], 0);
	mem_dirty_fetch(m, UINT64_MAX, 1, map);
}

static void watched_pages_have_a_log_of_their_own(void **state)
{
	struct mem *m = *state;
	uint64_t map[8] = { 0 };
	struct mem_range r;

	assert_true(mem_find(m, 0, &r));
	mem_watch(m, 2, 3, true);
	assert_false(mem_watched(&r));			/* page 0 is not */
	mem_watch_fetch(m, 0, 512, map);
	assert_int_equal(map[0], 7 << 2);		/* at first all count as written */
	memset(map, 0, sizeof(map));
	assert_int_equal(mem_write(m, 2 * 4096 - 1, "abc", 3), 0);
	mem_stored(m, 4 * 4096, 1);
	mem_stored(m, 7 * 4096, 1);
	mem_stored(m, UINT64_MAX, 2);
	mem_watch_fetch(m, 2, 100, map);
	assert_int_equal(map[0], 5);			/* bit 0 is page 2 */
	memset(map, 0, sizeof(map));
	mem_watch_fetch(m, 2, 100, map);
	assert_int_equal(map[0], 0);
	/* What may be written behind the flags' back is always suspect; the other log sees writes too. */
	atomic_fetch_or(&r.flags[3], MEM_PG_DIRECT);
	assert_int_equal(mem_dirty_start(m), 0);
	mem_stored(m, 2 * 4096, 4096);
	mem_watch_fetch(m, 0, 512, map);
	assert_int_equal(map[0], 0xc);
	memset(map, 0, sizeof(map));
	mem_dirty_fetch(m, 0, 512, map);
	assert_int_equal(map[0], 4);
	mem_dirty_stop(m);
	mem_watch(m, 0, UINT64_MAX, false);
	mem_stored(m, 2 * 4096, 1);
	memset(map, 0, sizeof(map));
	mem_watch_fetch(m, 2, 1, map);
	assert_int_equal(map[0], 0);
	mem_watch_fetch(m, UINT64_MAX, 1, map);
}

static void impossible_sizes_are_refused_in_words(void **state)
{
	struct mem *m;
	struct err e;

	assert_int_equal(mem_new(&m), 0);
	assert_int_equal(mem_create_ram(m, 1ull << 50, MEM_HUGE_NONE, &e), -ENOMEM);
	assert_non_null(strstr(e.msg, "are more than this"));	/* host has, or process may use */
	assert_int_equal(mem_create_ram(m, 4097, MEM_HUGE_NONE, &e), -EINVAL);
	assert_int_equal(mem_create_ram(m, 0, MEM_HUGE_NONE, &e), -EINVAL);
	assert_int_equal(mem_create_ram(m, MIB, MEM_HUGE_2M, &e), -EINVAL);
	assert_int_equal(mem_add_ram(m, "early", 0, 0, 4096, &e), -EINVAL);
	assert_int_equal(mem_dirty_start(m), -EINVAL);
	mem_free(m);
}

/* What a listener was told, as "+gpa,size" and "-gpa,size" in MiB. */
static void told_added(void *opaque, const struct mem_range *r)
{
	sprintf((char *)opaque + strlen(opaque), "+%llu,%llu ", (unsigned long long)(r->gpa / MIB), (unsigned long long)(r->size / MIB));
}

static void told_removed(void *opaque, const struct mem_range *r)
{
	sprintf((char *)opaque + strlen(opaque), "-%llu,%llu ", (unsigned long long)(r->gpa / MIB), (unsigned long long)(r->size / MIB));
}

static void told_range(void *opaque, const struct mem_range *r)
{
	if (r->plugged) {
		told_added(opaque, r);
		assert_int_equal(r->fd_offset, 2 * MIB + (r->gpa - 16 * MIB));
	}
}

static void plugged_pieces_are_one_range(void **state)
{
	struct mem_listener l = { .added = told_added, .removed = told_removed };
	char told[256] = "", map[256] = "";
	uint8_t b[8] = "piece";
	struct mem_range r;
	struct mem *m;
	struct err e;

	assert_int_equal(mem_new(&m), 0);
	mem_reserve(m, 16 * MIB);
	assert_int_equal(mem_create_ram(m, 16 * MIB, MEM_HUGE_NONE, &e), -EINVAL);	/* nothing would be left */
	assert_int_equal(mem_create_ram(m, 18 * MIB, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(m, "low", 0, 0, 2 * MIB, &e), 0);
	l.opaque = told;
	mem_listen(m, &l);
	*told = 0;
	assert_int_equal(mem_plug(m, "p", 16 * MIB, 2 * MIB, 4 * MIB, &e), 0);
	assert_int_equal(mem_plug(m, "p", 22 * MIB, 8 * MIB, 2 * MIB, &e), 0);
	assert_int_equal(mem_plug(m, "p", 20 * MIB, 6 * MIB, 2 * MIB, &e), 0);	/* what was between them */
	assert_string_equal(told, "+16,4 +22,2 +20,2 ");
	mem_for_each(m, told_range, map);
	assert_string_equal(map, "+16,8 ");
	assert_true(mem_find(m, 16 * MIB, &r));
	assert_null(r.ahead);			/* nobody makes it ahead: it may not be there */
	/* twice, astride, beyond */
	assert_int_equal(mem_plug(m, "p", 23 * MIB, 9 * MIB, 2 * MIB, &e), -EEXIST);
	assert_int_equal(mem_plug(m, "p", 30 * MIB, 16 * MIB, 3 * MIB, &e), -EINVAL);
	assert_int_equal(mem_unplug(m, 23 * MIB, 2 * MIB), -ENOENT);
	assert_int_equal(mem_unplug(m, 0, MIB), -ENOENT);	/* it was not plugged */
	assert_int_equal(mem_unplug(m, 16 * MIB, 0), -EINVAL);
	assert_int_equal(mem_unplug(m, UINT64_MAX - 4095, 8192), -EINVAL);
	/* Bytes stay where they are when a piece goes from the middle, the end, the beginning. */
	assert_int_equal(mem_write(m, 20 * MIB - 4, b, 8), 0);
	*told = 0;
	assert_int_equal(mem_unplug(m, 18 * MIB, MIB), 0);
	assert_int_equal(mem_unplug(m, 23 * MIB, MIB), 0);
	assert_int_equal(mem_unplug(m, 16 * MIB, MIB), 0);
	assert_string_equal(told, "-18,1 -23,1 -16,1 ");
	*map = 0;
	mem_for_each(m, told_range, map);
	assert_string_equal(map, "+17,1 +19,4 ");
	memset(b, 0, sizeof(b));
	assert_int_equal(mem_read(m, 20 * MIB - 4, b, 8), 0);
	assert_string_equal(b, "piece");
	assert_int_equal(mem_read(m, 18 * MIB - 4, b, 8), -EFAULT);
	assert_int_equal(mem_plug(m, "p", 18 * MIB, 4 * MIB, MIB, &e), 0);
	assert_int_equal(mem_unplug(m, 17 * MIB, 6 * MIB), 0);
	*map = 0;
	mem_for_each(m, told_range, map);
	assert_string_equal(map, "");
	mem_unlisten(m, &l);
	mem_free(m);
}

/* Plugging leaves room in the map for others. */
static void plugged_pieces_are_not_too_many(void **state)
{
	struct mem *m;
	struct err e;
	unsigned n = 0;
	int ret = 0;

	assert_int_equal(mem_new(&m), 0);
	mem_reserve(m, 8 * MIB);
	assert_int_equal(mem_create_ram(m, 9 * MIB, MEM_HUGE_NONE, &e), 0);
	for (; n < 1024 && !ret; n++)
		ret = mem_plug(m, "p", GIB + n * 8192ull, MIB + n * 8192ull, 4096, &e);
	assert_int_equal(ret, -ENOSPC);
	assert_in_range(n, 300, 500);
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(mem_add_ram(m, "other", i * 4096ull, i * 4096ull, 4096, &e), 0);
	assert_int_equal(mem_unplug(m, GIB, 4096), 0);
	mem_free(m);
}

static bool resident(const uint8_t *at, uint64_t len)
{
	unsigned char page[512];
	uint64_t n = len / 4096;

	assert_int_equal(mincore((void *)(uintptr_t)at, len, page), 0);
	for (uint64_t k = 0; k < n; k++)
		if (!(page[k] & 1))
			return false;
	return true;
}

static void wait_made(const struct mem_ahead *a, uint64_t n)
{
	for (unsigned k = 0; k < 4000 && atomic_load(&a->n_made) < n; k++)
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	assert_int_equal(atomic_load(&a->n_made), n);
}

static void made_ahead_of_a_run_only(int huge)
{
	const uint64_t chunk = 1ull << MEM_AHEAD_SHIFT;
	struct mem_range r;
	struct mem *m;
	cpu_set_t cpus;
	struct err e;

	assert_int_equal(mem_new(&m), 0);
	mem_make_ahead(m);		/* engines ask for it before there is RAM */
	assert_int_equal(mem_create_ram(m, 7 * chunk + MIB, huge, &e), 0);
	assert_int_equal(mem_add_ram(m, "ram", 0, 0, 7 * chunk + MIB, &e), 0);
	assert_true(mem_find(m, 0, &r));
	if (sched_getaffinity(0, sizeof(cpus), &cpus) || CPU_COUNT(&cpus) < 2 || madvise(r.host, 4096, MADV_POPULATE_WRITE)) {
		mem_free(m);
		skip();		/* nobody makes anything */
	}
	memset(r.host, 0xa5, 4096);	/* stays when its chunk is made */
	mem_ahead_met(r.ahead, 2 * chunk + 4096);	/* by itself */
	mem_ahead_met(r.ahead, 5 * chunk);
	mem_ahead_met(r.ahead, 6 * chunk);		/* a run: the short chunk at the end comes next */
	wait_made(r.ahead, 1);
	assert_true(resident(r.host + 7 * chunk, MIB));
	mem_ahead_met(r.ahead, 7 * chunk);		/* nothing lies beyond */
	mem_ahead_met(r.ahead, 1 * chunk);		/* downwards from 2 */
	wait_made(r.ahead, 2);
	assert_true(resident(r.host, chunk));
	assert_false(resident(r.host + 4096 + chunk, 4096));
	assert_false(resident(r.host + 3 * chunk, 4096));
	assert_int_equal(r.host[7 * chunk], 0);
	for (unsigned i = 0; i < 8192; i++)
		assert_int_equal(r.host[i], i < 4096 ? 0xa5 : 0);
	mem_free(m);
}

static void memory_is_made_ahead_of_a_run_only(void **state)
{
	made_ahead_of_a_run_only(MEM_HUGE_NONE);
}

static void large_pages_are_made_ahead_of_a_run_only(void **state)
{
	made_ahead_of_a_run_only(MEM_HUGE_THP);
}

/* On a node that there is, all of it there, not swapped; and on none that there is not. */
static void memory_is_placed(void **state)
{
	const uint64_t size = 8 * MIB;
	unsigned char here[8 * MIB / 4096];
	unsigned long nodes[16] = { 0 };
	int mode = -1;
	struct err e;
	struct mem *m;

	assert_int_equal(mem_new(&m), 0);
	assert_int_equal(mem_create_ram(m, size, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_bind(m, 0, size, MEM_POLICY_DEFAULT, 0, &e), 0);
	if (mem_bind(m, MIB, MIB, MEM_POLICY_BIND, 1, &e)) {
		print_message("SKIP: %s\n", e.msg);
		mem_free(m);
		skip();
	}
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, mem_ram_host(m) + MIB, 2 /* MPOL_F_ADDR */), 0);
	assert_int_equal(mode, 2 /* MPOL_BIND */);
	assert_int_equal(nodes[0], 1);
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, mem_ram_host(m), 2), 0);
	assert_int_equal(mode, 0);
	assert_int_equal(mem_bind(m, 0, size, MEM_POLICY_INTERLEAVE, 1, &e), 0);
	assert_int_equal(mem_bind(m, 0, size, MEM_POLICY_BIND, 1ull << 63 | 1, &e), -ENODEV);
	assert_non_null(strstr(e.msg, "node 63"));
	assert_int_equal(mem_bind(m, MIB, size, MEM_POLICY_BIND, 1, &e), -EINVAL);
	assert_int_equal(mem_populate(m, &e), 0);
	assert_int_equal(mincore(mem_ram_host(m), size, here), 0);
	for (size_t i = 0; i < sizeof(here); i++)
		assert_true(here[i] & 1);
	assert_int_equal(mem_merge(m, &e), -EINVAL);	/* it is a file's */
	mem_free(m);
}

/* Memory of this process alone is as good, but for who would map it; what was never written is not saved. */
static void memory_of_its_own(void **state)
{
	struct mem_index ix;
	uint64_t written = 0;
	struct err e;
	struct mem *m;
	char byte = 0;
	int fd = memfd_create("saved", MFD_CLOEXEC);

	assert_int_equal(mem_new(&m), 0);
	mem_want_merge(m);
	assert_int_equal(mem_create_ram(m, 4 * MIB, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_ram_fd(m), -1);
	if (mem_merge(m, &e))
		print_message("SKIP: merging: %s\n", e.msg);
	mem_ram_host(m)[MIB] = 1;
	mem_ram_host(m)[2 * MIB] = 1;
	assert_int_equal(mem_ram_host(m)[3 * MIB], 0);
	assert_int_equal(mem_ram_release(m, 2 * MIB, 4096), 0);
	assert_int_equal(mem_ram_host(m)[2 * MIB], 0);
	assert_int_equal(mem_ram_save(m, fd, NULL, &ix, &written, &e), 0);
	mem_index_free(&ix);
	assert_int_equal(written, 4096);
	assert_int_equal(pread(fd, &byte, 1, MIB), 1);
	assert_int_equal(byte, 1);
	assert_int_equal(lseek(fd, 0, SEEK_END), 4 * MIB);
	close(fd);
	mem_free(m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(copies_are_whole_or_nothing),
		T(rom_reads_but_never_writes),
		T(iov_covers_exactly_what_was_asked),
		T(overlaps_and_nonsense_are_refused),
		T(listeners_follow_the_map),
		T(code_writes_are_told),
		T(dirty_log_misses_nothing),
		T(watched_pages_have_a_log_of_their_own),
		cmocka_unit_test(plugged_pieces_are_one_range),
		cmocka_unit_test(plugged_pieces_are_not_too_many),
		cmocka_unit_test(memory_is_made_ahead_of_a_run_only),
		cmocka_unit_test(large_pages_are_made_ahead_of_a_run_only),
		cmocka_unit_test(memory_is_placed),
		cmocka_unit_test(memory_of_its_own),
		cmocka_unit_test(impossible_sizes_are_refused_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
