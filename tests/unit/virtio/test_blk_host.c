/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk from the host's side: what it tells of the image, what it counts,
 * errors that pause the machine, a disk that changes its size, and the same on
 * an I/O thread.
 */
#include "guest_ring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "virtio/blk.h"

#define DISK (1u << 20)
#define HDR 0x100000			/* 32 bytes for each request in flight */
#define STATUS 0x110000
#define DATA 0x200000			/* 4 KiB for each */

#define F_TOPOLOGY (1ull << 10)
#define F_FLUSH (1ull << 9)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP, S_NONE = 0xaa };

struct host {
	struct guest g;
	struct iothread *io;
	struct blk_node *node;
	struct virtio_dev *d;
	_Atomic unsigned pauses;
	unsigned seen;			/* used elements */
};

static void on_request(void *opaque, enum machine_request req, int code)
{
	struct host *h = opaque;

	if (req == MACHINE_REQ_PAUSE)
		h->pauses++;
}

static void lock_node(struct host *h)
{
	if (h->io)
		iothread_lock(h->io);
}

static void unlock_node(struct host *h)
{
	if (h->io)
		iothread_unlock(h->io);
}

static struct host *host_new(bool io, struct virtio_blk_opts o, const struct blk_info *like)
{
	struct host *h = calloc(1, sizeof(*h));
	struct err e = { 0 };

	assert_non_null(h);
	guest_init(&h->g);
	h->g.m->request = on_request;
	h->g.m->request_opaque = h;
	if (io)
		assert_int_equal(iothread_new(h->g.m, "io-test", &h->io), 0);
	o.disk.io = h->io;
	machine_lock(h->g.m);
	lock_node(h);
	assert_int_equal(blk_open_mem(io ? iothread_loop(h->io) : h->g.m->loop, DISK, &h->node), 0);
	if (like) {
		h->node->i = *like;
		h->node->i.size = DISK;
	}
	unlock_node(h);
	if (virtio_blk_new(h->g.m, "disk0", h->node, &o, &h->d, &e))
		fail_msg("%s", e.msg);
	machine_unlock(h->g.m);
	h->g.d = h->d;
	return h;
}

static struct host *host_started(bool io, enum disk_on_error read, enum disk_on_error write)
{
	struct host *h = host_new(io, (struct virtio_blk_opts){ .disk.on_read_error = read, .disk.on_write_error = write }, NULL);

	assert_true(guest_start(&h->g, h->d, F_FLUSH | F_DISCARD | F_WRITE_ZEROES));
	return h;
}

static void host_free(struct host *h)
{
	struct iothread *io = h->io;

	machine_lock(h->g.m);
	h->d->ops->free(h->d);
	machine_unlock(h->g.m);
	iothread_free(io);
	machine_free(h->g.m);
	free(h);
}

/* The i-th request of those in flight. */
static void add(struct host *h, unsigned i, uint32_t type, uint64_t sector, uint32_t len)
{
	struct piece p[3] = { { HDR + 32 * i, 16, false }, { DATA + 4096 * i, len, type == T_IN }, { STATUS + i, 1, true } };
	uint8_t *hdr = h->g.ram + HDR + 32 * i;

	st_le32(hdr, type);
	st_le64(hdr + 8, sector);
	h->g.ram[STATUS + i] = S_NONE;
	if (!len)
		p[1] = p[2];
	guest_add(&h->g, 0, p, len ? 3 : 2);
}

static uint8_t status(struct host *h, unsigned i)
{
	return __atomic_load_n(h->g.ram + STATUS + i, __ATOMIC_ACQUIRE);
}

static int one(struct host *h, uint32_t type, uint64_t sector, uint32_t len)
{
	add(h, 0, type, sector, len);
	guest_kick(&h->g, 0);
	guest_wait(&h->g, 0, NULL);
	return status(h, 0);
}

/* Turns the loop until the machine was asked to pause, and pauses. */
static void wait_paused(struct host *h, unsigned times)
{
	for (int i = 0; h->pauses < times && i < 5000; i++)
		assert_int_equal(loop_turn(h->g.m->loop, 1), 0);
	assert_int_equal(h->pauses, times);
	machine_lock(h->g.m);
	virtio_dev_pause(h->d);
	machine_unlock(h->g.m);
}

static void go_on(struct host *h)
{
	machine_lock(h->g.m);
	virtio_dev_resume(h->d);
	machine_unlock(h->g.m);
}

static void fail_with(struct host *h, unsigned nth, int error, bool all)
{
	machine_lock(h->g.m);
	lock_node(h);
	blk_mem_fail_with(h->node, nth, error, all);
	unlock_node(h);
	machine_unlock(h->g.m);
}

static struct disk_stats stats_of(struct host *h)
{
	struct disk_stats s;

	machine_lock(h->g.m);
	disk_get_stats(virtio_blk_disk(h->d), &s);
	machine_unlock(h->g.m);
	return s;
}

static unsigned waiting(struct host *h)
{
	unsigned n;

	machine_lock(h->g.m);
	n = virtio_blk_waiting(h->d);
	machine_unlock(h->g.m);
	return n;
}

static uint64_t config(struct host *h, uint32_t off, unsigned len)
{
	uint8_t b[8] = { 0 };

	machine_lock(h->g.m);
	virtio_dev_config_access(h->d, off, b, len, false);
	machine_unlock(h->g.m);
	return ld_le64(b);
}

/* ---- what it tells ---- */

static void topology(void **state)
{
	const struct blk_info like = {
		.request_align = 512, .physical_block = 4096, .can_discard = true, .can_zero = true, .min_io = 8192,
		.opt_io = 65536, .align_offset = 3584, .discard_unit = 16384, .cluster = 65536,
	};
	struct host *h = host_new(false, (struct virtio_blk_opts){ 0 }, &like);

	assert_true(h->d->host_features & F_TOPOLOGY);
	assert_int_equal(config(h, 20, 4), 512);
	assert_int_equal(config(h, 24, 1), 3);		/* 2^3 logical blocks are a physical one */
	assert_int_equal(config(h, 25, 1), 7);		/* where the first whole one begins */
	assert_int_equal(config(h, 26, 2), 16);
	assert_int_equal(config(h, 28, 4), 128);
	assert_int_equal(config(h, 36, 4), 1 << 21);
	assert_int_equal(config(h, 40, 4), 32);
	assert_int_equal(config(h, 44, 4), 128);	/* the larger of unit and cluster */
	assert_int_equal(config(h, 48, 4), 1 << 21);
	assert_int_equal(config(h, 52, 4), 32);
	assert_int_equal(config(h, 56, 1), 1);
	host_free(h);
}

static void topology_by_hand(void **state)
{
	const struct blk_info like = { .request_align = 512, .physical_block = 512, .can_discard = true, .can_zero = true };
	struct host *h = host_new(false, (struct virtio_blk_opts){
		.disk.block_size = 4096, .disk.physical_block = 16384, .disk.min_io = 8192, .disk.opt_io = 1 << 20, .disk.discard_unit = 32768,
		.disk.no_discard = true }, &like);

	assert_int_equal(config(h, 20, 4), 4096);
	assert_int_equal(config(h, 24, 1), 2);
	assert_int_equal(config(h, 26, 2), 2);
	assert_int_equal(config(h, 28, 4), 256);
	assert_int_equal(config(h, 44, 4), 64);
	assert_int_equal(config(h, 56, 1), 0);
	assert_false(h->d->host_features & F_DISCARD);
	assert_true(h->d->host_features & F_WRITE_ZEROES);
	host_free(h);
}

static void bad_sizes(void **state)
{
	static const struct virtio_blk_opts bad[] = {
		{ .disk.block_size = 8192 }, { .disk.block_size = 600 }, { .disk.physical_block = 256 }, { .disk.physical_block = 1 << 21 },
		{ .disk.block_size = 4096, .disk.physical_block = 512 }, { .disk.min_io = 100 }, { .disk.min_io = 1u << 30 },
		{ .disk.opt_io = 513 }, { .disk.discard_unit = 1000 }, { .disk.discard_unit = 256 }, { .queues = 65 }, { .queue_size = 100 },
	};
	struct guest g;

	guest_init(&g);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct blk_node *node;
		struct virtio_dev *d;
		struct err e = { 0 };

		assert_int_equal(blk_open_mem(g.m->loop, DISK, &node), 0);
		if (virtio_blk_new(g.m, "d", node, &bad[i], &d, &e) != -EINVAL || !e.msg[0])
			fail_msg("case %u was taken", i);
		blk_close(node);
	}
	machine_free(g.m);
}

/* ---- what it counts ---- */

static void counts(void **state)
{
	struct host *h = host_started(false, 0, 0);
	struct disk_stats s;
	uint64_t in_buckets = 0;

	for (int i = 0; i < 5; i++)
		assert_int_equal(one(h, T_OUT, 8 * i, 4096), S_OK);
	assert_int_equal(one(h, T_IN, 0, 512), S_OK);
	assert_int_equal(one(h, T_FLUSH, 0, 0), S_OK);
	memset(h->g.ram + DATA, 0, 32);
	st_le32(h->g.ram + DATA + 8, 4);
	st_le32(h->g.ram + DATA + 24, 12);
	assert_int_equal(one(h, T_DISCARD, 0, 32), S_OK);
	assert_int_equal(one(h, T_WRITE_ZEROES, 0, 16), S_OK);
	assert_int_equal(one(h, T_IN, 1 << 20, 512), S_IOERR);
	s = stats_of(h);
	assert_int_equal(s.op[DISK_WRITES].count, 5);
	assert_int_equal(s.op[DISK_WRITES].bytes, 5 * 4096);
	assert_int_equal(s.op[DISK_READS].count, 1);
	assert_int_equal(s.op[DISK_READS].bytes, 512);
	assert_int_equal(s.op[DISK_FLUSHES].count, 1);
	assert_int_equal(s.op[DISK_DISCARDS].count, 1);
	assert_int_equal(s.op[DISK_DISCARDS].bytes, 16 * 512);
	assert_int_equal(s.op[DISK_ZEROES].bytes, 4 * 512);
	assert_int_equal(s.invalid, 1);
	assert_int_equal(s.errors, 0);
	assert_int_equal(s.in_flight, 0);
	for (unsigned b = 0; b < DISK_BUCKETS; b++)
		in_buckets += s.op[DISK_WRITES].latency[b];
	assert_int_equal(in_buckets, 5);
	assert_true(s.op[DISK_WRITES].total_ns >= s.op[DISK_WRITES].max_ns);
	host_free(h);
}

/* A request that is held for 20 ms is in the right bucket, and one of eight in flight. */
static void latency(void **state)
{
	struct host *h = host_started(false, 0, 0);
	struct disk_stats s;
	unsigned slow = 0;

	blk_mem_hold(h->node, true);
	for (unsigned i = 0; i < 8; i++)
		add(h, i, T_OUT, 8 * i, 4096);
	guest_kick(&h->g, 0);
	guest_settle(&h->g);
	assert_int_equal(stats_of(h).in_flight, 8);
	usleep(20000);
	blk_mem_hold(h->node, false);
	for (unsigned i = 0; i < 8; i++)
		guest_wait(&h->g, 0, NULL);
	s = stats_of(h);
	assert_int_equal(s.max_in_flight, 8);
	assert_int_equal(s.in_flight, 0);
	for (unsigned b = 0; b < DISK_BUCKETS; b++)
		if (!disk_bucket_end_us(b) || disk_bucket_end_us(b) > 20000)
			slow += s.op[DISK_WRITES].latency[b];
	assert_int_equal(slow, 8);
	assert_true(s.op[DISK_WRITES].max_ns >= 20000000);
	host_free(h);
}

/* ---- errors of the host ---- */

static void reported(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_REPORT, DISK_ENOSPC);

	fail_with(h, 1, -EIO, false);
	assert_int_equal(one(h, T_OUT, 0, 512), S_IOERR);
	fail_with(h, 1, -ENOSPC, false);
	assert_int_equal(one(h, T_IN, 0, 512), S_IOERR);
	assert_int_equal(h->pauses, 0);
	assert_int_equal(stats_of(h).op[DISK_WRITES].failed, 1);
	assert_int_equal(stats_of(h).errors, 2);
	host_free(h);
}

static void ignored(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_IGNORE, DISK_IGNORE);

	fail_with(h, 1, -EIO, false);
	assert_int_equal(one(h, T_OUT, 0, 512), S_OK);
	fail_with(h, 1, -EIO, false);
	assert_int_equal(one(h, T_FLUSH, 0, 0), S_OK);
	assert_int_equal(stats_of(h).ignored, 2);
	assert_int_equal(h->pauses, 0);
	host_free(h);
}

/* No room: the machine pauses once for all of them, the guest sees nothing, and when it goes on every byte is written. */
static void stopped(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_STOP, DISK_ENOSPC);

	fail_with(h, 1, -ENOSPC, true);
	for (unsigned i = 0; i < 8; i++) {
		memset(h->g.ram + DATA + 4096 * i, (int)i + 1, 4096);
		add(h, i, T_OUT, 8 * i, 4096);
	}
	add(h, 8, T_FLUSH, 0, 0);
	guest_kick(&h->g, 0);
	wait_paused(h, 1);
	assert_int_equal(waiting(h), 9);
	assert_false(guest_used(&h->g, 0, NULL, NULL));
	go_on(h);		/* still no room */
	wait_paused(h, 2);
	assert_int_equal(waiting(h), 9);
	fail_with(h, 0, 0, false);
	go_on(h);
	for (unsigned i = 0; i < 9; i++)
		guest_wait(&h->g, 0, NULL);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(status(h, i), S_OK);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(blk_mem_data(h->node)[4096 * i + 4095], i + 1);
	assert_int_equal(waiting(h), 0);
	assert_int_equal(stats_of(h).retried, 18);
	assert_int_equal(stats_of(h).in_flight, 0);
	fail_with(h, 1, -EIO, false);
	add(h, 0, T_IN, 8, 512);
	guest_kick(&h->g, 0);
	wait_paused(h, 3);
	go_on(h);
	guest_wait(&h->g, 0, NULL);
	assert_int_equal(h->g.ram[DATA], 2);
	host_free(h);
}

/* The second segment of three fails: the first is not done again. */
static void stopped_in_ranges(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_REPORT, DISK_STOP);
	uint8_t *disk = blk_mem_data(h->node);

	memset(disk, 7, 8192);
	for (unsigned i = 0; i < 3; i++) {
		st_le64(h->g.ram + DATA + 16 * i, 4 * i);
		st_le32(h->g.ram + DATA + 16 * i + 8, 2);
		st_le32(h->g.ram + DATA + 16 * i + 12, 0);
	}
	fail_with(h, 2, -EIO, false);
	add(h, 0, T_WRITE_ZEROES, 0, 48);
	guest_kick(&h->g, 0);
	wait_paused(h, 1);
	memset(disk, 9, 512);
	go_on(h);
	guest_wait(&h->g, 0, NULL);
	assert_int_equal(status(h, 0), S_OK);
	assert_int_equal(disk[0], 9);
	assert_int_equal(disk[4 * 512], 0);
	assert_int_equal(disk[9 * 512], 0);
	assert_int_equal(disk[10 * 512], 7);
	host_free(h);
}

/* The guest resets the device, or the machine ends, while requests wait. */
static void stopped_then_reset(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_STOP, DISK_STOP);

	fail_with(h, 1, -EIO, true);
	add(h, 0, T_OUT, 0, 512);
	add(h, 1, T_IN, 0, 512);
	guest_kick(&h->g, 0);
	wait_paused(h, 1);
	machine_lock(h->g.m);
	virtio_dev_reset(h->d);
	machine_unlock(h->g.m);
	assert_int_equal(waiting(h), 0);
	assert_int_equal(stats_of(h).in_flight, 0);
	fail_with(h, 0, 0, false);
	go_on(h);
	assert_true(guest_start(&h->g, h->d, F_FLUSH));
	assert_int_equal(one(h, T_OUT, 0, 512), S_OK);
	fail_with(h, 1, -EIO, true);
	add(h, 0, T_OUT, 0, 512);
	guest_kick(&h->g, 0);
	wait_paused(h, 2);
	host_free(h);
}

/* Saved while requests wait: the machine made from it does them. */
static void stopped_then_saved(void **state)
{
	struct host *h = host_started(*(bool *)*state, DISK_STOP, DISK_STOP);
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;

	fail_with(h, 1, -EIO, true);
	for (unsigned i = 0; i < 3; i++) {
		memset(h->g.ram + DATA + 4096 * i, 0x30 + (int)i, 4096);
		add(h, i, T_OUT, 8 * i, 4096);
	}
	guest_kick(&h->g, 0);
	wait_paused(h, 1);
	machine_lock(h->g.m);
	for (int again = 0; again < 2; again++) {	/* what was loaded can be saved as well */
		assert_int_equal(snap_out_new(&o), 0);
		assert_int_equal(virtio_dev_save(h->d, o), 0);
		p = snap_out_data(o, &len);
		virtio_dev_reset(h->d);
		assert_int_equal(virtio_blk_waiting(h->d), 0);
		assert_int_equal(snap_in_new(&in, p, len), 0);
		if (virtio_dev_load(h->d, in, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(virtio_blk_waiting(h->d), 3);
		snap_in_free(in);
		snap_out_free(o);
	}
	machine_unlock(h->g.m);
	fail_with(h, 0, 0, false);
	go_on(h);
	for (unsigned i = 0; i < 3; i++)
		guest_wait(&h->g, 0, NULL);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(status(h, i), S_OK);
		assert_int_equal(blk_mem_data(h->node)[4096 * i], 0x30 + i);
	}
	host_free(h);
}

/* ---- the disk changes its size ---- */

static unsigned config_irqs(struct host *h)
{
	unsigned n;

	machine_lock(h->g.m);
	n = h->g.config_irqs;
	machine_unlock(h->g.m);
	return n;
}

static void resized(void **state)
{
	struct host *h = host_started(*(bool *)*state, 0, 0);
	struct err e = { 0 };
	uint8_t gen = h->d->config_generation;

	assert_int_equal(one(h, T_IN, DISK / 512 - 8, 4096), S_OK);
	machine_lock(h->g.m);
	lock_node(h);
	h->node->i.size = DISK / 2;		/* behind the device's back, as a job would */
	unlock_node(h);
	virtio_blk_size_changed(h->d);
	virtio_blk_size_changed(h->d);		/* nothing new */
	machine_unlock(h->g.m);
	assert_int_equal(config(h, 0, 8), DISK / 1024);
	assert_int_equal(config_irqs(h), 1);
	assert_int_not_equal(h->d->config_generation, gen);
	assert_int_equal(one(h, T_IN, DISK / 512 - 8, 4096), S_IOERR);
	machine_lock(h->g.m);
	assert_int_equal(virtio_blk_resize(h->d, 1000, &e), -EINVAL);
	assert_int_equal(virtio_blk_resize(h->d, DISK, &e), 0);
	machine_unlock(h->g.m);
	assert_int_equal(config(h, 0, 8), DISK / 512);
	assert_int_equal(config_irqs(h), 2);
	assert_int_equal(one(h, T_IN, DISK / 512 - 8, 4096), S_OK);
	host_free(h);
}

static void resized_file(void **state)
{
	struct guest g;
	char path[] = "./blk-resize-XXXXXX";
	int fd = mkstemp(path);
	struct blk_open_opts o = { 0 };
	struct virtio_blk_opts bo = { 0 };
	struct blk_node *node;
	struct virtio_dev *d;
	struct err e = { 0 };

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK), 0);
	guest_init(&g);
	assert_int_equal(blk_open_file(g.m->loop, path, &o, &node, &e), 0);
	assert_int_equal(virtio_blk_new(g.m, "disk0", node, &bo, &d, &e), 0);
	assert_true(guest_start(&g, d, F_FLUSH));
	machine_lock(g.m);
	assert_int_equal(virtio_blk_resize(d, 2 * DISK, &e), 0);
	machine_unlock(g.m);
	assert_int_equal(g.config_irqs, 1);
	assert_int_equal(lseek(fd, 0, SEEK_END), 2 * DISK);
	guest_fini(&g);
	close(fd);
	unlink(path);
}

/* ---- on an I/O thread ---- */

/* Requests are done although nobody turns the machine's loop, and while the machine lock is held. */
static void io_alone(void **state)
{
	struct host *h = host_started(true, 0, 0);
	unsigned irqs;

	machine_lock(h->g.m);
	for (unsigned i = 0; i < 8; i++)
		add(h, i, T_OUT, 8 * i, 4096);
	guest_kick(&h->g, 0);
	for (unsigned i = 0; i < 8; i++)
		for (int k = 0; status(h, i) == S_NONE && k < 5000; k++)
			usleep(1000);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(status(h, i), S_OK);
	irqs = h->g.irqs[0];
	assert_int_equal(irqs, 0);	/* that one needs the machine lock */
	machine_unlock(h->g.m);
	for (int k = 0; !irqs && k < 5000; k++) {
		usleep(1000);
		machine_lock(h->g.m);
		irqs = h->g.irqs[0];
		machine_unlock(h->g.m);
	}
	assert_true(irqs > 0);
	host_free(h);
}

/* A damaged ring on the I/O thread: the driver is told, once, and a reset mends it. */
static void io_broken(void **state)
{
	struct host *h = host_started(true, 0, 0);
	struct piece p = { HDR, 4, false };

	for (int round = 0; round < 3; round++) {
		unsigned before = config_irqs(h);

		guest_add(&h->g, 0, &p, 1);
		guest_kick(&h->g, 0);
		for (int k = 0; config_irqs(h) == before && k < 5000; k++)
			usleep(1000);
		assert_int_equal(config_irqs(h), before + 1);
		machine_lock(h->g.m);
		assert_true(h->d->status & VIRTIO_S_NEEDS_RESET);
		machine_unlock(h->g.m);
		assert_true(guest_start(&h->g, h->d, F_FLUSH));
		assert_int_equal(one(h, T_OUT, 0, 512), S_OK);
	}
	host_free(h);
}

struct hammer {
	struct host *h;
	_Atomic bool end;
};

/* What vCPUs and the control protocol do meanwhile. */
static void *hammer(void *opaque)
{
	struct hammer *x = opaque;
	uint8_t b[8];

	while (!x->end) {
		struct disk_stats s;

		machine_lock(x->h->g.m);
		virtio_dev_config_access(x->h->d, 0, b, 8, false);
		disk_get_stats(virtio_blk_disk(x->h->d), &s);
		virtio_dev_pause(x->h->d);
		virtio_dev_resume(x->h->d);
		machine_unlock(x->h->g.m);
		usleep(50);
	}
	return NULL;
}

static void io_and_others(void **state)
{
	struct host *h = host_started(true, 0, 0);
	struct hammer x = { .h = h };
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, hammer, &x), 0);
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 8; i++) {
			memset(h->g.ram + DATA + 4096 * i, (int)(round + i), 4096);
			add(h, i, T_OUT, 8 * i, 4096);
		}
		guest_kick(&h->g, 0);
		if (round % 10 == 9) {	/* a driver that resets while requests are in flight */
			assert_true(guest_start(&h->g, h->d, F_FLUSH));
			continue;
		}
		for (unsigned i = 0; i < 8; i++)
			guest_wait(&h->g, 0, NULL);
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(status(h, i), S_OK);
	}
	x.end = true;
	pthread_join(t, NULL);
	assert_int_equal(stats_of(h).in_flight, 0);
	host_free(h);
}

/* Two disks on one thread; one goes while the other works. */
static void io_shared(void **state)
{
	struct host *h = host_started(true, 0, 0);
	struct virtio_blk_opts o = { .disk.io = h->io };
	struct err e = { 0 };

	for (int round = 0; round < 20; round++) {
		struct blk_node *node;
		struct virtio_dev *d;

		machine_lock(h->g.m);
		iothread_lock(h->io);
		assert_int_equal(blk_open_mem(iothread_loop(h->io), DISK, &node), 0);
		iothread_unlock(h->io);
		assert_int_equal(virtio_blk_new(h->g.m, "other", node, &o, &d, &e), 0);
		for (unsigned i = 0; i < 8; i++)
			add(h, i, T_OUT, 8 * i, 4096);
		guest_kick(&h->g, 0);
		d->ops->free(d);
		machine_unlock(h->g.m);
		for (unsigned i = 0; i < 8; i++)
			guest_wait(&h->g, 0, NULL);
	}
	host_free(h);
}

int main(void)
{
	static bool off = false, on = true;
#define BOTH(t) { #t, t, NULL, NULL, &off }, { #t " (I/O thread)", t, NULL, NULL, &on }
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(topology),
		cmocka_unit_test(topology_by_hand),
		cmocka_unit_test(bad_sizes),
		cmocka_unit_test(counts),
		cmocka_unit_test(latency),
		BOTH(reported),
		BOTH(ignored),
		BOTH(stopped),
		BOTH(stopped_in_ranges),
		BOTH(stopped_then_reset),
		BOTH(stopped_then_saved),
		BOTH(resized),
		cmocka_unit_test(resized_file),
		cmocka_unit_test(io_alone),
		cmocka_unit_test(io_broken),
		cmocka_unit_test(io_and_others),
		cmocka_unit_test(io_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
