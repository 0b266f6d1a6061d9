/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring walker: what a good driver is promised, and that nothing a bad one
 * writes gives more than -EPROTO.
 *
 * Memory: RAM of 1 MiB at 0 and of 8 MiB at 1 GiB, a ROM page at 2 MiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"
#include "ring.h"

#define RAM_SIZE 0x100000ull
#define HIGH 0x40000000ull
#define HIGH_SIZE 0x800000ull
#define ROM 0x200000ull
#define RING 0x10000
#define BUF 0x20000
#define TABLE 0x30000
#define SIZE 8

struct fix {
	struct mem *mem;
	struct vq vq;
	struct ring r;
	struct vq_chain c;
	unsigned notified;
};

static void notify(void *opaque, struct vq *vq)
{
	((struct fix *)opaque)->notified++;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	assert_int_equal(mem_new(&f->mem), 0);
	assert_int_equal(mem_create_ram(f->mem, RAM_SIZE + HIGH_SIZE, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(f->mem, "low", 0, 0, RAM_SIZE, &e), 0);
	assert_int_equal(mem_add_ram(f->mem, "high", HIGH, RAM_SIZE, HIGH_SIZE, &e), 0);
	assert_int_equal(mem_add_rom(f->mem, "rom", ROM, 0x1000, "rom", 3, &e), 0);
	f->vq.mem = f->mem;
	f->vq.max_size = VQ_MAX_SIZE;
	f->vq.notify = notify;
	f->vq.opaque = f;
	vq_reset(&f->vq);
	f->vq.indirect = true;
	ring_init(&f->r, f->mem, RING, SIZE);
	assert_int_equal(ring_attach(&f->r, &f->vq), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vq_reset(&f->vq);
	mem_free(f->mem);
	free(f);
	return 0;
}

/* ---- a good driver ---- */

static void chain_is_split_into_readable_and_writable(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 16, false }, { BUF + 0x100, 0, false }, { BUF + 0x200, 32, false },
				{ BUF + 0x1000, 512, true }, { BUF + 0x2000, 1, true } };
	uint16_t head = ring_push(&f->r, b, ARRAY_LEN(b));
	uint32_t id, len;

	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->c.head, head);
	assert_int_equal(f->c.n_read, 2);	/* the empty one has no piece */
	assert_int_equal(f->c.n_write, 2);
	assert_int_equal(f->c.len_read, 48);
	assert_int_equal(f->c.len_write, 513);
	assert_ptr_equal(f->c.iov[0].iov_base, mem_ptr(f->mem, BUF, 16, false));
	assert_ptr_equal(f->c.iov[3].iov_base, mem_ptr(f->mem, BUF + 0x2000, 1, true));
	assert_int_equal(f->vq.in_flight, 1);
	assert_int_equal(vq_get(&f->vq, &f->c), 0);
	f->c.len_write = 513;
	vq_put(&f->vq, &f->c, 100);
	assert_int_equal(f->vq.in_flight, 0);
	assert_true(ring_used(&f->r, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 100);
}

static void indices_wrap_around(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 8, true } };
	uint32_t id, len;

	for (unsigned i = 0; i < 70000; i++) {
		uint16_t head = ring_push(&f->r, b, 1);

		assert_int_equal(vq_get(&f->vq, &f->c), 1);
		vq_put(&f->vq, &f->c, i & 7);
		assert_true(ring_used(&f->r, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i & 7);
	}
	assert_int_equal(vq_get(&f->vq, &f->c), 0);
	assert_true(vq_empty(&f->vq));
}

static void written_is_clamped_and_marked_dirty(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 16, true }, { BUF + 0x2000, 16, true } };
	uint64_t bitmap[(RAM_SIZE + HIGH_SIZE) / PAGE_4K / 64 + 1] = { 0 };
	uint32_t id, len;

	ring_push(&f->r, b, 2);
	assert_int_equal(mem_dirty_start(f->mem), 0);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	vq_put(&f->vq, &f->c, 1000);
	assert_true(ring_used(&f->r, &id, &len));
	assert_int_equal(len, 32);
	mem_dirty_fetch(f->mem, 0, (RAM_SIZE + HIGH_SIZE) / PAGE_4K, bitmap);
	assert_int_equal(bitmap[0], BIT64(RING / PAGE_4K) | BIT64(BUF / PAGE_4K) | BIT64(BUF / PAGE_4K + 2));
}

static void unget_gives_the_same_chain_again(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 16, false } };
	uint16_t h1 = ring_push(&f->r, b, 1);

	ring_push(&f->r, b, 1);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	vq_unget(&f->vq);
	assert_int_equal(f->vq.in_flight, 0);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->c.head, h1);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
}

static void indirect_table_is_followed(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[64];

	/* A table may be longer than the queue, and need not be aligned. */
	for (unsigned i = 0; i < ARRAY_LEN(b); i++)
		b[i] = (struct ring_buf){ BUF + 0x20 * i, 16, i >= 32 };
	ring_push_indirect(&f->r, TABLE + 3, b, ARRAY_LEN(b));
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->c.n_read, 32);
	assert_int_equal(f->c.n_write, 32);
	assert_int_equal(f->c.len_read, 512);
}

/* 2.7.5.3.2: direct descriptors first, the last one indirect. */
static void direct_then_indirect(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF + 0x100, 4, true } };

	ring_table(&f->r, TABLE, 0, b, 1);
	ring_desc(&f->r, 0, BUF, 4, RING_NEXT, 1);
	ring_desc(&f->r, 1, TABLE, 16, RING_INDIRECT | RING_WRITE, 0);	/* WRITE is ignored here */
	ring_offer(&f->r, 0);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->c.len_read, 4);
	assert_int_equal(f->c.len_write, 4);
}

static void buffer_may_lie_in_rom_if_only_read(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { ROM, 3, false } };
	char text[4] = "";

	ring_push(&f->r, b, 1);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(iov_to_buf(f->c.iov, 1, 0, text, 3), 3);
	assert_string_equal(text, "rom");
}

static void whole_queue_may_be_in_flight(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 8, true } };

	for (unsigned i = 0; i < SIZE; i++)
		ring_push(&f->r, b, 1);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->vq.in_flight, SIZE);
	assert_int_equal(vq_get(&f->vq, &f->c), 0);
}

/* ---- notifications ---- */

static void use_one(struct fix *f)
{
	struct ring_buf b[] = { { BUF, 8, true } };

	ring_push(&f->r, b, 1);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	vq_put(&f->vq, &f->c, 0);
}

static void interrupt_once_per_flush(void **state)
{
	struct fix *f = *state;

	vq_flush(&f->vq);
	assert_int_equal(f->notified, 0);
	use_one(f);
	use_one(f);
	vq_flush(&f->vq);
	assert_int_equal(f->notified, 1);
	vq_flush(&f->vq);
	assert_int_equal(f->notified, 1);
	ring_set_avail_flags(&f->r, 1);
	use_one(f);
	vq_flush(&f->vq);
	assert_int_equal(f->notified, 1);
}

/* 2.7.7.1: exactly when used_idx passes used_event, at every place of the index. */
static void event_idx_interrupts_on_passing_even_at_wrap(void **state)
{
	struct fix *f = *state;

	f->vq.event_idx = true;
	for (unsigned i = 0; i < 66000; i += 3) {
		unsigned before = f->notified;

		ring_set_used_event(&f->r, (uint16_t)(i + 1));	/* passed by the second of three */
		use_one(f);
		vq_flush(&f->vq);
		assert_int_equal(f->notified, before);
		use_one(f);
		vq_flush(&f->vq);
		assert_int_equal(f->notified, before + 1);
		use_one(f);
		vq_flush(&f->vq);
		assert_int_equal(f->notified, before + 1);
	}
}

static void event_idx_survives_a_whole_turn_without_flush(void **state)
{
	struct fix *f = *state;

	f->vq.event_idx = true;
	ring_set_used_event(&f->r, 0x1234);
	for (unsigned i = 0; i < 65536; i++)
		use_one(f);
	vq_flush(&f->vq);
	assert_int_equal(f->notified, 1);
}

static void kick_enable_with_flags(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 8, true } };

	assert_false(vq_kick_enable(&f->vq, false));
	assert_int_equal(ring_used_flags(&f->r), 1);
	assert_false(vq_kick_enable(&f->vq, true));
	assert_int_equal(ring_used_flags(&f->r), 0);
	ring_push(&f->r, b, 1);
	assert_true(vq_kick_enable(&f->vq, true));
	assert_false(vq_empty(&f->vq));
}

static void kick_enable_with_event_idx(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 8, true } };

	f->vq.event_idx = true;
	use_one(f);
	use_one(f);
	assert_int_equal(ring_avail_event(&f->r), 0);
	assert_false(vq_kick_enable(&f->vq, false));
	assert_false(vq_kick_enable(&f->vq, true));
	assert_int_equal(ring_avail_event(&f->r), 2);
	assert_int_equal(ring_used_flags(&f->r), 0);
	ring_push(&f->r, b, 1);
	assert_true(vq_kick_enable(&f->vq, true));
}

/* ---- a bad driver ---- */

static void expect_proto(struct fix *f)
{
	uint16_t used = ring_used_idx(&f->r);

	assert_int_equal(vq_get(&f->vq, &f->c), -EPROTO);
	assert_true(f->vq.broken);
	/* Broken for good: nothing is touched any more. */
	assert_int_equal(vq_get(&f->vq, &f->c), -EPROTO);
	vq_put_head(&f->vq, 0, 0);
	vq_flush(&f->vq);
	assert_false(vq_kick_enable(&f->vq, true));
	assert_true(vq_empty(&f->vq));
	assert_int_equal(ring_used_idx(&f->r), used);
	assert_int_equal(f->notified, 0);
	/* and well again after a reset */
	vq_reset(&f->vq);
	ring_init(&f->r, f->mem, RING, SIZE);
	assert_int_equal(ring_attach(&f->r, &f->vq), 0);
	use_one(f);
	f->notified = 0;
}

static void loop_of_one(void **state)
{
	struct fix *f = *state;

	ring_desc(&f->r, 0, BUF, 1, RING_NEXT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void loop_of_all(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&f->r, i, BUF, 0, RING_NEXT | RING_WRITE, (i + 1) % SIZE);
	ring_offer(&f->r, 3);
	expect_proto(f);
}

static void loop_in_indirect_table(void **state)
{
	struct fix *f = *state;

	ring_desc_at(&f->r, TABLE, 0, BUF, 1, RING_NEXT, 1);
	ring_desc_at(&f->r, TABLE, 1, BUF, 1, RING_NEXT, 0);
	ring_desc(&f->r, 0, TABLE, 32, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void head_out_of_range(void **state)
{
	struct fix *f = *state;

	ring_offer(&f->r, SIZE);
	expect_proto(f);
	ring_offer(&f->r, 0xffff);
	f->vq.indirect = true;
	expect_proto(f);
}

static void next_out_of_range(void **state)
{
	struct fix *f = *state;

	ring_desc(&f->r, 0, BUF, 1, RING_NEXT, SIZE);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void next_out_of_range_in_indirect_table(void **state)
{
	struct fix *f = *state;

	ring_desc_at(&f->r, TABLE, 0, BUF, 1, RING_NEXT, 1);
	ring_desc(&f->r, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void index_ahead(void **state)
{
	struct fix *f = *state;

	ring_st16(&f->r, f->r.avail + 2, SIZE + 1);
	expect_proto(f);
	ring_st16(&f->r, f->r.avail + 2, 0);	/* one behind */
	expect_proto(f);
}

static void buffer_outside_memory(void **state)
{
	static const struct { uint64_t addr; uint32_t len; bool write; } bad[] = {
		{ RAM_SIZE, 1, false },
		{ RAM_SIZE - 1, 2, false },		/* straddles the end */
		{ RAM_SIZE - 1, 2, true },
		{ HIGH + HIGH_SIZE - 4, 8, true },
		{ 0, UINT32_MAX, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 3, 8, true },		/* wraps to 0 */
		{ 0xfee00000, 4, true },
		{ ROM, 1, true },
		{ ROM + 0xfff, 2, false },
	};
	struct fix *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct ring_buf b = { bad[i].addr, bad[i].len, bad[i].write };

		ring_push(&f->r, &b, 1);
		expect_proto(f);
	}
}

static void readable_after_writable(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 1, true }, { BUF, 1, false } };
	struct ring_buf empty[] = { { BUF, 0, true }, { BUF, 1, false } };

	ring_push(&f->r, b, 2);
	expect_proto(f);
	ring_push(&f->r, empty, 2);
	expect_proto(f);
}

static void chain_of_too_many_pieces(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 1100; i++)
		ring_desc_at(&f->r, TABLE, i, HIGH, 1, RING_NEXT, i + 1);
	ring_desc_at(&f->r, TABLE, 1100, HIGH, 1, 0, 0);
	ring_desc(&f->r, 0, TABLE, 1101 * 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

/* 2.7.5: the sum is what counts, the pieces are valid. */
static void chain_beyond_4g(void **state)
{
	struct fix *f = *state;

	for (unsigned i = 0; i < 512; i++)
		ring_desc_at(&f->r, TABLE, i, HIGH, HIGH_SIZE, i < 511 ? RING_NEXT : 0, i + 1);
	ring_desc(&f->r, 0, TABLE, 512 * 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(vq_get(&f->vq, &f->c), 1);
	assert_int_equal(f->c.len_read, 1ull << 32);
	vq_put(&f->vq, &f->c, 0);
	f->vq.indirect = true;
	ring_desc_at(&f->r, TABLE, 511, HIGH, HIGH_SIZE, RING_NEXT, 512);
	ring_desc_at(&f->r, TABLE, 512, HIGH, 1, 0, 0);
	ring_desc(&f->r, 0, TABLE, 513 * 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void bad_indirect_tables(void **state)
{
	static const struct { uint64_t addr; uint32_t len; uint16_t flags; } bad[] = {
		{ TABLE, 0, 0 },			/* empty */
		{ TABLE, 8, 0 },			/* odd lengths */
		{ TABLE, 17, 0 },
		{ TABLE, UINT32_MAX, 0 },
		{ TABLE, 16, RING_NEXT },		/* has a successor */
		{ RAM_SIZE - 16, 32, 0 },		/* straddles the end of RAM */
		{ RAM_SIZE, 16, 0 },
		{ UINT64_MAX - 15, 16, 0 },
		{ 0x1000, 0xfffffff0, 0 },		/* huge, aligned */
	};
	struct fix *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		f->vq.indirect = true;
		ring_desc_at(&f->r, TABLE, 0, BUF, 1, 0, 0);
		ring_desc(&f->r, 0, bad[i].addr, bad[i].len, RING_INDIRECT | bad[i].flags, 1);
		ring_desc(&f->r, 1, BUF, 1, 0, 0);
		ring_offer(&f->r, 0);
		expect_proto(f);
	}
}

static void indirect_in_indirect(void **state)
{
	struct fix *f = *state;

	ring_desc_at(&f->r, TABLE, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_desc(&f->r, 0, TABLE, 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	expect_proto(f);
}

static void indirect_without_the_feature(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 1, false } };

	f->vq.indirect = false;
	ring_push_indirect(&f->r, TABLE, b, 1);
	expect_proto(f);
}

static void more_in_flight_than_the_queue_holds(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[] = { { BUF, 8, true } };

	for (unsigned i = 0; i < SIZE; i++) {
		ring_push(&f->r, b, 1);
		assert_int_equal(vq_get(&f->vq, &f->c), 1);
	}
	ring_push(&f->r, b, 1);
	expect_proto(f);
}

static void bad_queue_setup(void **state)
{
	static const struct { uint64_t desc, avail, used; uint16_t size; } bad[] = {
		{ RING, RING + 0x1000, RING + 0x2000, 0 },
		{ RING, RING + 0x1000, RING + 0x2000, 3 },
		{ RING, RING + 0x1000, RING + 0x2000, 2 * VQ_MAX_SIZE },
		{ RING + 8, RING + 0x1000, RING + 0x2000, 8 },
		{ RING, RING + 0x1001, RING + 0x2000, 8 },
		{ RING, RING + 0x1000, RING + 0x2002, 8 },
		{ RAM_SIZE - 64, RING + 0x1000, RING + 0x2000, 8 },
		{ RING, RAM_SIZE - 2, RING + 0x2000, 8 },
		{ RING, RING + 0x1000, RAM_SIZE, 8 },
		{ RING, RING + 0x1000, UINT64_MAX - 3, 8 },
		{ ROM, RING + 0x1000, RING + 0x2000, 8 },
		{ RING, ROM, RING + 0x2000, 8 },
		{ RING, RING + 0x1000, ROM, 8 },
	};
	struct fix *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		vq_reset(&f->vq);
		f->vq.desc = bad[i].desc;
		f->vq.avail = bad[i].avail;
		f->vq.used = bad[i].used;
		f->vq.size = bad[i].size;
		assert_int_equal(vq_start(&f->vq), -EPROTO);
		assert_false(f->vq.ready);
		assert_int_equal(vq_get(&f->vq, &f->c), -EPROTO);
	}
}

static void not_ready_gives_nothing(void **state)
{
	struct fix *f = *state;

	vq_reset(&f->vq);
	assert_int_equal(vq_get(&f->vq, &f->c), 0);
	vq_put_head(&f->vq, 0, 0);
	vq_flush(&f->vq);
	assert_false(vq_kick_enable(&f->vq, true));
	assert_int_equal(f->notified, 0);
}

/* The rings are looked up again when the memory map changed. */
static void ring_memory_goes_away(void **state)
{
	struct fix *f = *state;
	struct err e;

	ring_init(&f->r, f->mem, HIGH, SIZE);
	vq_reset(&f->vq);
	assert_int_equal(ring_attach(&f->r, &f->vq), 0);
	use_one(f);
	assert_int_equal(mem_del(f->mem, HIGH), 0);
	assert_int_equal(mem_add_ram(f->mem, "back", HIGH, RAM_SIZE, HIGH_SIZE, &e), 0);
	use_one(f);
	assert_int_equal(mem_del(f->mem, HIGH), 0);
	vq_put_head(&f->vq, 0, 0);
	assert_int_equal(vq_get(&f->vq, &f->c), -EPROTO);
}

/* Whatever is in the descriptor table, the walk ends and stays in RAM. */
static void random_descriptors(void **state)
{
	struct fix *f = *state;
	uint8_t *host = mem_ram_host(f->mem);

	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			ring_desc(&f->r, i, (uint64_t)rand() % (RAM_SIZE + 0x1000), rand() % 3 ? rand() % 5000 : rand() % 4 * 16,
				  rand() % 8, rand() % (SIZE + 1));
		ring_offer(&f->r, rand() % SIZE);
		if (vq_get(&f->vq, &f->c) == 1) {
			for (unsigned i = 0; i < (unsigned)f->c.n_read + f->c.n_write; i++) {
				const uint8_t *p = f->c.iov[i].iov_base;

				if (i >= f->c.n_read)
					assert_true(p >= host && p + f->c.iov[i].iov_len <= host + RAM_SIZE);
			}
			vq_put(&f->vq, &f->c, rand());
			continue;
		}
		vq_reset(&f->vq);
		f->vq.indirect = rand() & 1;
		ring_init(&f->r, f->mem, RING, SIZE);
		assert_int_equal(ring_attach(&f->r, &f->vq), 0);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(chain_is_split_into_readable_and_writable),
		T(indices_wrap_around),
		T(written_is_clamped_and_marked_dirty),
		T(unget_gives_the_same_chain_again),
		T(indirect_table_is_followed),
		T(direct_then_indirect),
		T(buffer_may_lie_in_rom_if_only_read),
		T(whole_queue_may_be_in_flight),
		T(interrupt_once_per_flush),
		T(event_idx_interrupts_on_passing_even_at_wrap),
		T(event_idx_survives_a_whole_turn_without_flush),
		T(kick_enable_with_flags),
		T(kick_enable_with_event_idx),
		T(loop_of_one),
		T(loop_of_all),
		T(loop_in_indirect_table),
		T(head_out_of_range),
		T(next_out_of_range),
		T(next_out_of_range_in_indirect_table),
		T(index_ahead),
		T(buffer_outside_memory),
		T(readable_after_writable),
		T(chain_of_too_many_pieces),
		T(chain_beyond_4g),
		T(bad_indirect_tables),
		T(indirect_in_indirect),
		T(indirect_without_the_feature),
		T(more_in_flight_than_the_queue_holds),
		T(bad_queue_setup),
		T(not_ready_gives_nothing),
		T(ring_memory_goes_away),
		T(random_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
