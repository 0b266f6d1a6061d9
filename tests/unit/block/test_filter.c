/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Filters: limits that hold, faults that come as told, reads that are kept; and slots, in which graphs change. */
#include "churn.h"

#include <pthread.h>

#include "block/disk.h"
#include "block/graph.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

#define SIZE (4u << 20)

static struct loop *loop;

static struct blk_node *mem(uint64_t size)
{
	struct blk_node *n = NULL;

	assert_int_equal(blk_open_mem(loop, size, &n), 0);
	return n;
}

/* ---- limits ---- */

struct flood {
	struct blk_req r[64];
	struct iovec v;
	unsigned done;
};

static void flood_done(struct blk_req *r, int ret)
{
	assert_int_equal(ret, 0);
	++*(unsigned *)r->opaque;
}

static void flood_start(struct flood *fl, struct blk_node *n, enum blk_op op, unsigned count, uint8_t *buf, size_t len)
{
	*fl = (struct flood){ .v = { buf, len } };
	for (unsigned i = 0; i < count; i++) {
		fl->r[i] = (struct blk_req){ .op = op, .len = len, .iov = &fl->v, .niov = 1, .done = flood_done,
					     .opaque = &fl->done };
		blk_submit(n, &fl->r[i]);
	}
}

/* Never more has passed than the bucket held at first, the request that overflows it, and what leaked since. */
static void flood_watch(struct flood *fl, unsigned count, double room, double rate, double units)
{
	int64_t start = loop_now_ns();

	while (fl->done < count) {
		assert_int_equal(loop_turn(loop, 1000), 0);
		assert_true(fl->done * units <= room + units + rate * (double)(loop_now_ns() - start + 2000000) / 1e9);
	}
}

static void limits_hold(void **state)
{
	static const struct {
		struct blk_throttle_opts o;
		enum blk_op op;
		size_t len;
		unsigned count;
		double room, rate, units;
	} cases[] = {
		{ { .ops[BLK_RATE_TOTAL] = { .avg = 100 } }, BLK_READ, 512, 40, 10, 100, 1 },
		{ { .ops[BLK_RATE_READ] = { .avg = 100, .max = 30 * 4, .length = 1 } }, BLK_READ, 512, 60, 120, 100, 1 },
		{ { .ops[BLK_RATE_WRITE] = { .avg = 50, .max = 100, .length = 2 } }, BLK_WRITE, 512, 40, 10, 100, 1 },
		{ { .bytes[BLK_RATE_TOTAL] = { .avg = 409600 } }, BLK_WRITE, 4096, 40, 40960, 409600, 4096 },
		{ { .bytes[BLK_RATE_READ] = { .avg = 65536 } }, BLK_READ, 32768, 2, 6553.6, 65536, 32768 },
		{ { .ops[BLK_RATE_TOTAL] = { .avg = 200 }, .op_size = 1024 }, BLK_WRITE, 4096, 20, 20, 200, 4 },
	};
	uint8_t *buf = calloc(1, 32768);

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct blk_node *n = NULL;
		struct flood fl, other;
		struct err e = { 0 };

		assert_int_equal(blk_throttle_new(mem(SIZE), &cases[i].o, &n, &e), 0);
		flood_start(&fl, n, cases[i].op, cases[i].count, buf, cases[i].len);
		flood_watch(&fl, cases[i].count, cases[i].room, cases[i].rate, cases[i].units);
		/* A drain does not wait for the limits. */
		flood_start(&other, n, cases[i].op, 64, buf, cases[i].len);
		blk_drain(n);
		assert_int_equal(other.done, 64);
		blk_close(n);
	}
	free(buf);
}

static void limits_leave_others_alone(void **state)
{
	const struct blk_throttle_opts o = { .ops[BLK_RATE_READ] = { .avg = 1 } }, none = { 0 };
	uint8_t buf[512] = { 0 };
	struct blk_node *n = NULL;
	struct flood reads, writes;
	struct err e = { 0 };

	assert_int_equal(blk_throttle_new(mem(SIZE), &o, &n, &e), 0);
	flood_start(&reads, n, BLK_READ, 20, buf, 512);
	flood_start(&writes, n, BLK_WRITE, 64, buf, 512);
	while (writes.done < 64)
		assert_int_equal(loop_turn(loop, 1000), 0);
	assert_in_range(reads.done, 1, 15);
	/* Limits that are lifted let go what waits. */
	assert_int_equal(blk_throttle_set(n, &none, &e), 0);
	while (reads.done < 20)
		assert_int_equal(loop_turn(loop, 1000), 0);
	blk_close(n);
}

/* As a guest may ask for, longer than there are nanoseconds to count. */
static void limits_hold_for_ever(void **state)
{
	const struct blk_throttle_opts o = { .bytes[BLK_RATE_TOTAL] = { .avg = 1 } }, none = { 0 };
	const struct blk_open_opts open = { 0 };
	struct blk_node *n = NULL;
	struct flood fl;
	struct err e = { 0 };
	int64_t start;

	assert_int_equal(blk_open_protocol(loop, "null-co://4000000T", &open, false, &n, &e), 0);
	assert_int_equal(blk_throttle_new(n, &o, &n, &e), 0);
	flood_start(&fl, n, BLK_WRITE_ZEROES, 2, NULL, 1ull << 61);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(loop_turn(loop, 0), 0);
	assert_int_equal(fl.done, 1);
	start = loop_now_ns();
	assert_int_equal(loop_turn(loop, 20), 0);
	assert_true(loop_now_ns() - start >= 10000000);
	assert_int_equal(blk_throttle_set(n, &none, &e), 0);
	while (fl.done < 2)
		assert_int_equal(loop_turn(loop, 1000), 0);
	blk_close(n);
}

/* ---- groups ---- */

struct turn {
	struct blk_req r;
	char who, *order;
};

static void turn_done(struct blk_req *r, int ret)
{
	struct turn *t = r->opaque;

	assert_int_equal(ret, 0);
	t->order[strlen(t->order)] = t->who;
}

/* One budget for both, which they take turns with; limits that change, and a member that leaves. */
static void groups_share(void **state)
{
	/* One request is as much as eight minutes have; or so little that all go at once. */
	const struct blk_throttle_opts slow = { .ops[BLK_RATE_READ] = { .avg = 1 }, .op_size = 1 }, quick = { .ops[BLK_RATE_READ] = { .avg = 1000000000000 } }, none = { 0 };
	struct blk_throttle_group *g = NULL, *other = NULL;
	struct blk_throttle_opts is;
	struct blk_node *a = NULL, *b = NULL;
	char order[20] = "";
	struct turn t[8];
	struct iovec v = { calloc(1, 512), 512 };
	struct err e = { 0 };

	assert_int_equal(blk_throttle_group_new(&slow, &g, &e), 0);
	assert_false(blk_throttle_group_used(g));
	assert_int_equal(blk_throttle_new_in(mem(SIZE), g, &a, &e), 0);
	assert_int_equal(blk_throttle_new_in(mem(SIZE), g, &b, &e), 0);
	assert_true(blk_throttle_group_used(g));
	for (unsigned i = 0; i < 8; i++) {
		t[i] = (struct turn){ .r = { .op = BLK_READ, .len = 512, .iov = &v, .niov = 1, .done = turn_done }, .who = "aaaaabbb"[i], .order = order };
		t[i].r.opaque = &t[i];
		blk_submit(i < 5 ? a : b, &t[i].r);
	}
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(loop_turn(loop, 5), 0);
	/* a's first one has used what there was for b, too. */
	assert_string_equal(order, "a");
	assert_int_equal(blk_throttle_group_set(g, &quick, &e), 0);
	blk_throttle_group_get(g, &is);
	assert_int_equal(is.ops[BLK_RATE_READ].avg, 1000000000000);
	while (strlen(order) < 8)
		assert_int_equal(loop_turn(loop, 1000), 0);
	/* Also when all are let go the line goes round. */
	assert_string_equal(order, "aabababa");
	/* One leaves with what it waits for, and another has the others' place. */
	memset(order, 0, sizeof(order));
	assert_int_equal(blk_throttle_group_set(g, &slow, &e), 0);
	assert_int_equal(blk_throttle_group_new(&none, &other, &e), 0);
	for (unsigned i = 3; i < 8; i++)
		blk_submit(i < 5 ? a : b, &t[i].r);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(loop_turn(loop, 5), 0);
	assert_string_equal(order, "a");
	blk_throttle_join(a, other);
	while (strlen(order) < 2)
		assert_int_equal(loop_turn(loop, 1000), 0);
	assert_string_equal(order, "aa");
	blk_drain(b);
	assert_string_equal(order, "aabbb");
	blk_close(a);
	blk_close(b);
	assert_false(blk_throttle_group_used(g));
	blk_throttle_group_unref(g);
	blk_throttle_group_unref(other);
	free(v.iov_base);
}

struct member {
	struct loop *l;
	struct blk_node *n;
	struct blk_req r;
	struct iovec v;
	unsigned left;
};

static void member_next(struct blk_req *r, int ret)
{
	struct member *m = r->opaque;

	if (ret || !--m->left)
		loop_stop(m->l);
	else
		blk_submit(m->n, r);
}

static void *member_thread(void *opaque)
{
	struct member *m = opaque;

	blk_submit(m->n, &m->r);
	loop_run(m->l);
	return NULL;
}

/* Members on loops of their own; nobody is forgotten, and together they get what the group has. */
static void groups_on_threads(void **state)
{
	enum { MEMBERS = 3, EACH = 60 };
	const struct blk_throttle_opts o = { .ops[BLK_RATE_TOTAL] = { .avg = 400 } };
	struct blk_throttle_group *g = NULL;
	struct member m[MEMBERS];
	pthread_t thread[MEMBERS];
	int64_t start = loop_now_ns();
	struct err e = { 0 };

	assert_int_equal(blk_throttle_group_new(&o, &g, &e), 0);
	for (unsigned i = 0; i < MEMBERS; i++) {
		struct blk_node *n = NULL;

		m[i] = (struct member){ .left = EACH };
		m[i].v = (struct iovec){ calloc(1, 512), 512 };
		assert_int_equal(loop_new(&m[i].l), 0);
		assert_int_equal(blk_open_mem(m[i].l, SIZE, &n), 0);
		assert_int_equal(blk_throttle_new_in(n, g, &m[i].n, &e), 0);
		m[i].r = (struct blk_req){ .op = i & 1 ? BLK_WRITE : BLK_READ, .len = 512, .iov = &m[i].v, .niov = 1, .done = member_next, .opaque = &m[i] };
	}
	for (unsigned i = 0; i < MEMBERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, member_thread, &m[i]), 0);
	for (unsigned i = 0; i < MEMBERS; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(m[i].left, 0);
	}
	/* What the bucket held, and two that overflow it, came at once. */
	assert_true(loop_now_ns() - start >= (MEMBERS * EACH - 40 - 2) * 1000000000ll / 400);
	for (unsigned i = 0; i < MEMBERS; i++) {
		blk_close(m[i].n);
		loop_free(m[i].l);
		free(m[i].v.iov_base);
	}
	blk_throttle_group_unref(g);
}

static void options(void **state)
{
	struct blk_disk_opts o = { 0 };
	const struct blk_image_opts rw = { 0 }, ro = { .file.read_only = true };
	struct err e = { 0 };

	assert_int_equal(blk_disk_option(&o, "iops", "100", &e), 0);
	assert_int_equal(blk_disk_option(&o, "iops-max", "200", &e), 0);
	assert_int_equal(blk_disk_option(&o, "iops_max_length", "5", &e), 0);
	assert_int_equal(blk_disk_option(&o, "bps_rd", "10M", &e), 0);
	assert_int_equal(blk_disk_option(&o, "bps-wr-max", "30m", &e), 0);
	assert_int_equal(blk_disk_option(&o, "throttling.bps-write", "20M", &e), 0);
	assert_int_equal(blk_disk_option(&o, "iops-size", "4K", &e), 0);
	assert_int_equal(blk_disk_option(&o, "copy-on-read", "on", &e), 0);
	assert_int_equal(o.throttle.ops[BLK_RATE_TOTAL].avg, 100);
	assert_int_equal(o.throttle.ops[BLK_RATE_TOTAL].max, 200);
	assert_int_equal(o.throttle.ops[BLK_RATE_TOTAL].length, 5);
	assert_int_equal(o.throttle.bytes[BLK_RATE_READ].avg, 10 << 20);
	assert_int_equal(o.throttle.bytes[BLK_RATE_WRITE].avg, 20 << 20);
	assert_int_equal(o.throttle.bytes[BLK_RATE_WRITE].max, 30 << 20);
	assert_int_equal(o.throttle.op_size, 4096);
	assert_true(o.copy_on_read);
	assert_int_equal(blk_disk_check(&o, &rw, &e), 0);
	assert_int_equal(blk_disk_check(&o, &ro, &e), -EINVAL);
	assert_int_equal(blk_disk_option(&o, "iops-foo", "1", &e), -ENOENT);
	assert_int_equal(blk_disk_option(&o, "bpsx", "1", &e), -ENOENT);
	assert_int_equal(blk_disk_option(&o, "size", "1", &e), -ENOENT);
	assert_int_equal(blk_disk_option(&o, "bps", "1Q", &e), -EINVAL);
	assert_int_equal(blk_disk_option(&o, "bps", "-1", &e), -EINVAL);
	assert_int_equal(blk_disk_option(&o, "bps-max-length", "0", &e), -EINVAL);
	assert_int_equal(blk_disk_option(&o, "copy-on-read", "maybe", &e), -EINVAL);
	/* Together and apart do not go together. */
	assert_int_equal(blk_disk_option(&o, "bps", "1G", &e), 0);
	assert_int_equal(blk_disk_check(&o, &rw, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "bps-rd"));
	o = (struct blk_disk_opts){ .throttle.bytes[BLK_RATE_READ] = { .avg = 10, .max = 5 } };
	assert_int_equal(blk_disk_check(&o, &rw, &e), -EINVAL);
	o = (struct blk_disk_opts){ .throttle.op_size = 512 };
	assert_int_equal(blk_disk_check(&o, &rw, &e), -EINVAL);
}

/* ---- faults ---- */

static void faults_fire(void **state)
{
	uint8_t buf[512] = { 5 };
	struct blk_node *m = mem(SIZE), *n = NULL;

	assert_int_equal(blk_fault_new(m, &n), 0);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_READ), .from = 4096, .to = 8192, .nth = 2,
							       .once = true, .error = EIO }), 0);
	assert_int_equal(blk_pread(n, 4096, buf, 512), 0);
	assert_int_equal(blk_pread(n, 8192, buf, 512), 0);
	assert_int_equal(blk_pwrite(n, 4096, buf, 512), 0);
	assert_int_equal(blk_pread(n, 7680, buf, 512), -EIO);
	assert_int_equal(blk_pread(n, 7680, buf, 512), 0);
	blk_fault_clear(n);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .nth = 3, .error = ENOSPC }), 0);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_FLUSH), .error = EIO }), 0);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), 0);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), 0);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), -ENOSPC);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), -ENOSPC);
	assert_int_equal(blk_flush(n), -EIO);
	blk_fault_clear(n);
	/* A lost answer: it failed, and was done. */
	buf[0] = 9;
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .after = true, .error = ETIMEDOUT }), 0);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), -ETIMEDOUT);
	assert_int_equal(blk_mem_data(m)[0], 9);
	assert_int_equal(blk_fault_fired(n), 5);
	blk_fault_clear(n);
	blk_close(n);
}

static void faults_delay(void **state)
{
	uint8_t buf[512] = { 0 };
	struct blk_node *n = NULL;
	struct flood fl;
	int64_t start = loop_now_ns();

	assert_int_equal(blk_fault_new(mem(SIZE), &n), 0);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .delay_ns = 30000000 }), 0);
	flood_start(&fl, n, BLK_WRITE, 4, buf, 512);
	while (fl.done < 4)
		assert_int_equal(loop_turn(loop, 1000), 0);
	assert_true(loop_now_ns() - start >= 30000000);
	blk_fault_clear(n);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .delay_ns = 3600ull * 1000000000 }), 0);
	flood_start(&fl, n, BLK_WRITE, 4, buf, 512);
	blk_drain(n);
	assert_int_equal(fl.done, 4);
	blk_close(n);
}

/* ---- copy on read ---- */

static struct blk_node *qcow2_over(struct blk_node *backing, uint32_t cluster)
{
	const struct qcow2_create_opts co = { .size = SIZE, .cluster_size = cluster, .backing = "x", .backing_format = "raw" };
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *file = NULL, *n = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(loop, 64 << 20, &file), 0);
	assert_int_equal(qcow2_create(file, &co, &e), 0);
	assert_int_equal(qcow2_open(file, &io, 0, &n, &e), 0);
	assert_int_equal(qcow2_plug_backing(n, backing, NULL), 0);
	return n;
}

static void fill(struct blk_node *m)
{
	for (uint64_t i = 0; i < SIZE; i += 4)
		if (i / 65536 % 4 != 1)
			memcpy(blk_mem_data(m) + i, &i, 4);
}

static void reads_are_kept(void **state)
{
	static const uint32_t clusters[] = { 4096, 65536, 1 << 20 };

	srandom(3);
	for (unsigned i = 0; i < ARRAY_LEN(clusters); i++) {
		struct blk_node *m = mem(SIZE), *q, *n = NULL;
		struct blk_extent x;
		struct churn *ch;
		uint8_t *all = malloc(SIZE);
		struct err e = { 0 };

		fill(m);
		m->i.read_only = true;
		q = qcow2_over(m, clusters[i]);
		assert_int_equal(blk_copy_on_read_new(q, &n, &e), 0);
		ch = churn_new(loop, n, SIZE);
		memcpy(all, ch->model, SIZE);
		churn_free(ch);
		/* All was read, so all is there, without what is below. */
		for (uint64_t at = 0; at < SIZE; at += x.len) {
			assert_int_equal(blk_block_status(q, at, SIZE - at, true, &x), 0);
			assert_true(x.allocated);
		}
		memset(blk_mem_data(m), 0xee, SIZE);
		ch = churn_new(loop, n, SIZE);
		assert_memory_equal(ch->model, all, SIZE);
		churn_free(ch);
		blk_close(n);
		free(all);
	}
}

/* Beside a guest that writes where others read. */
static void reads_are_kept_beside_writes(void **state)
{
	for (unsigned seed = 0; seed < 8; seed++) {
		struct blk_node *m = mem(SIZE), *below, *n = NULL;
		struct churn *ch;
		struct err e = { 0 };

		srandom(seed);
		fill(m);
		below = qcow2_over(m, seed & 1 ? 65536 : 4096);
		ch = churn_new(loop, below, SIZE);	/* the model, without reading through the filter */
		assert_int_equal(blk_copy_on_read_new(below, &n, &e), 0);
		ch->n = n;
		churn_run(ch, 600);
		churn_compare(ch, n);
		churn_free(ch);
		blk_close(n);
	}
}

/* What cannot be kept is read nevertheless. */
static void reads_without_room(void **state)
{
	struct blk_node *m = mem(SIZE), *q, *faulty = NULL, *n = NULL;
	uint8_t buf[512];
	struct err e = { 0 };

	fill(m);
	q = qcow2_over(m, 65536);
	assert_int_equal(blk_fault_new(q, &faulty), 0);
	assert_int_equal(blk_fault_add(faulty, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .error = ENOSPC }), 0);
	assert_int_equal(blk_copy_on_read_new(faulty, &n, &e), 0);
	assert_int_equal(blk_pread(n, 512, buf, 512), 0);
	assert_memory_equal(buf, blk_mem_data(m) + 512, 512);
	assert_true(blk_fault_fired(faulty) > 0);
	blk_close(n);
	m = mem(SIZE);
	m->i.read_only = true;
	assert_int_equal(blk_copy_on_read_new(m, &n, &e), -EINVAL);
	blk_close(m);
}

/* ---- slots ---- */

static void slot_passes_all(void **state)
{
	struct blk_node *m = mem(SIZE), *slot = NULL;
	uint8_t buf[512];
	struct err e = { 0 };

	assert_int_equal(blk_slot_new(m, &slot), 0);
	assert_int_equal(slot->i.size, SIZE);
	assert_int_equal(blk_pread(slot, SIZE, buf, 512), -ERANGE);
	assert_int_equal(blk_pread(slot, SIZE - 512, buf, 512), 0);
	assert_int_equal(blk_resize(slot, SIZE / 2, &e), 0);
	assert_int_equal(slot->i.size, SIZE / 2);
	assert_int_equal(blk_pread(slot, SIZE - 512, buf, 512), -ERANGE);
	assert_ptr_equal(blk_skip_filters(slot), m);
	blk_close(slot);
}

/* The disk is swapped under a guest, again and again; nothing is lost, nothing goes to the wrong one. */
static void slot_swaps(void **state)
{
	struct blk_node *a = mem(SIZE), *slot = NULL, *filter = NULL;
	const struct blk_throttle_opts o = { .ops[BLK_RATE_TOTAL] = { .avg = 1000000 } };
	struct churn *ch;
	struct err e = { 0 };

	srandom(5);
	assert_int_equal(blk_slot_new(a, &slot), 0);
	ch = churn_new(loop, slot, SIZE);
	for (unsigned i = 0; i < 60; i++) {
		struct blk_node *b = mem(SIZE);

		churn_run(ch, 50);
		blk_mem_hold(a, true);
		churn_turn(ch);
		blk_slot_hold(slot);
		assert_true(blk_slot_held(slot));
		assert_int_equal(a->in_flight, 0);
		memcpy(blk_mem_data(b), blk_mem_data(a), SIZE);
		assert_ptr_equal(blk_slot_replace(slot, b), a);
		if (i % 6 == 2) {
			assert_int_equal(blk_throttle_new(b, &o, &filter, &e), 0);
			blk_slot_insert(slot, filter);
			assert_ptr_equal(*blk_slot_image(slot), b);
		}
		if (i % 6 == 5)
			blk_slot_remove(slot, filter);
		blk_close(a);
		a = b;
		blk_slot_release(slot);
	}
	churn_compare(ch, slot);
	churn_free(ch);
	blk_close(slot);
}

/* What is submitted to a held slot waits, refused requests included. */
static void slot_holds(void **state)
{
	struct blk_node *slot = NULL;
	uint8_t buf[512];
	struct iovec v = { buf, 512 };
	struct waited w[3] = { 0 };

	assert_int_equal(blk_slot_new(mem(SIZE), &slot), 0);
	blk_slot_hold(slot);
	blk_slot_hold(slot);
	for (unsigned i = 0; i < 3; i++) {
		w[i].r = (struct blk_req){ .op = BLK_READ, .offset = i == 1 ? SIZE : 0, .len = 512, .iov = &v, .niov = 1,
					   .done = waited_done, .opaque = &w[i] };
		blk_submit(slot, &w[i].r);
	}
	loop_turn(loop, 0);
	assert_false(w[0].done || w[2].done);
	blk_slot_release(slot);
	loop_turn(loop, 0);
	assert_false(w[0].done || w[2].done);
	blk_slot_release(slot);
	blk_drain(slot);
	assert_true(w[0].done && w[1].done && w[2].done);
	assert_int_equal(w[0].ret, 0);
	assert_int_equal(w[1].ret, -ERANGE);
	/* Refused while it is held, and the slot closed at once. */
	blk_slot_hold(slot);
	w[1].done = false;
	blk_submit(slot, &w[1].r);
	blk_slot_release(slot);
	blk_close(slot);
	assert_true(w[1].done);
}

/* ---- windows ---- */

/* A format inside of it may take its file to be longer: what is around the window is none of it. */
static void a_window_ends(void **state)
{
	struct blk_node *file = NULL, *w = NULL;
	uint8_t around[4096], all[3 * 4096], buf[8192], zeroes[8192] = { 0 };
	struct blk_extent x;
	struct err e;

	memset(around, 0xaa, sizeof(around));
	assert_int_equal(blk_open_mem_file(loop, 1 << 20, &file), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(blk_pwrite(file, i * 4096, around, 4096), 0);
	assert_int_equal(blk_window_new(file, 4096, 4096, &w, &e), 0);
	w->open_ended = true;
	memset(buf, 0x55, sizeof(buf));
	assert_int_equal(blk_pwrite(w, 2048, buf, 2048), 0);
	assert_int_equal(blk_pwrite(w, 2048, buf, 4096), -ENOSPC);
	assert_int_equal(blk_pwrite(w, 4096, buf, 512), -ENOSPC);
	assert_int_equal(blk_pwrite_zeroes(w, 8192, 512, true), -ENOSPC);
	assert_int_equal(blk_pwrite(w, (uint64_t)INT64_MAX - 1023, buf, 512), -ENOSPC);
	assert_int_equal(w->i.size, 4096);
	assert_int_equal(blk_pread(w, 2048, buf, 8192), 0);
	for (unsigned i = 0; i < 2048; i++)
		assert_int_equal(buf[i], 0x55);
	assert_memory_equal(buf + 2048, zeroes, 6144);
	memset(buf, 0x55, sizeof(buf));
	assert_int_equal(blk_pread(w, 1 << 20, buf, 8192), 0);
	assert_memory_equal(buf, zeroes, 8192);
	assert_int_equal(blk_block_status(w, 8192, 512, false, &x), 0);
	assert_true(x.zero && x.len == 512);
	assert_int_equal(blk_flush(w), 0);
	assert_int_equal(blk_pread(file, 0, all, sizeof(all)), 0);
	assert_memory_equal(all, around, 4096);
	assert_memory_equal(all + 4096, around, 2048);
	assert_memory_equal(all + 8192, around, 4096);
	blk_close(w);
}

static int setup(void **state)
{
	return loop_new(&loop);
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(limits_leave_others_alone),
		cmocka_unit_test(limits_hold_for_ever),
		cmocka_unit_test(groups_share),
		cmocka_unit_test(groups_on_threads),
		cmocka_unit_test(options),
		cmocka_unit_test(faults_fire),
		cmocka_unit_test(faults_delay),
		cmocka_unit_test(reads_are_kept),
		cmocka_unit_test(reads_are_kept_beside_writes),
		cmocka_unit_test(reads_without_room),
		cmocka_unit_test(slot_passes_all),
		cmocka_unit_test(slot_swaps),
		cmocka_unit_test(slot_holds),
		cmocka_unit_test(a_window_ends),
	};

	return cmocka_run_group_tests_name("block-filter", tests, setup, teardown);
}
