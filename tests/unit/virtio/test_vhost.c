// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices with vhost-user peers, by their rings and a peer (vhost_peer.h) that is honest, lies, hangs, goes and comes back. */
#include "driver.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "vhost/user.h"
#include "vhost_peer.h"
#include "virtio/vhost_blk.h"
#include "virtio/vhost_fs.h"

#define BUF 0x400000ull
#define QSIZE 16

struct fix {
	struct drv d;
	struct peer p;
	struct vhost_dev *v;
	char dir[64], path[80];
};

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void place(struct fix *f)
{
	memset(f, 0, sizeof(*f));
	strcpy(f->dir, "/tmp/lodge-vhost-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	peer_init(&f->p, f->path);
	st_le64(f->p.config, 0x1234);
}

static int connect_peer(struct fix *f, struct vhost **out, struct err *e)
{
	const struct vhost_user_opts o = { .path = f->path, .name = "disk", .reconnect_ms = 20, .answer_ms = 1000, .config_len = VHOST_BLK_CONFIG_LEN };

	return vhost_user_new(f->d.m->loop, &o, out, e);
}

static void device(struct fix *f, uint16_t size)
{
	const struct vhost_blk_opts o = { .queue_size = size };
	struct virtio_dev *dev;
	struct vhost *peer;
	struct err e = { "" };

	drv_machine(&f->d);
	machine_lock(f->d.m);
	assert_int_equal(connect_peer(f, &peer, &e), 0);
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &o, &dev, &e), 0);
	machine_unlock(f->d.m);
	f->v = container_of(dev, struct vhost_dev, d);
	f->v->drain_ns = 300000000;
	drv_plug(&f->d, dev, true);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	place(f);
	peer_listen(&f->p);
	device(f, QSIZE);
	drv_start(&f->d, ~0ull, QSIZE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	if (f->d.m)
		drv_free(&f->d);
	peer_end(&f->p);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* Turns of the loop until cond holds; a minute is for ever. */
#define UNTIL(f, cond) \
	do { \
		int64_t end_ = loop_now_ns() + 60000000000ll; \
		while (!(cond)) { \
			assert_true(loop_now_ns() < end_); \
			loop_turn((f)->d.m->loop, 5); \
		} \
	} while (0)

static uint64_t buf(unsigned i) { return BUF + 0x1000ull * i; }

/* A request: n at buf(i), and room for its echo behind it. */
static void ask(struct fix *f, unsigned i, uint16_t n)
{
	struct ring_buf b[] = { { buf(i), 8, false }, { buf(i) + 0x100, 16, true } };
	uint8_t raw[8] = { (uint8_t)n, (uint8_t)(n >> 8), 3, 4, 5, 6, 7, 8 };

	mem_write(f->d.m->mem, buf(i), raw, sizeof(raw));
	ring_push(&f->d.ring[0], b, 2);
}

static void echoed(struct fix *f, unsigned i, uint16_t n)
{
	uint8_t raw[16];

	mem_read(f->d.m->mem, buf(i) + 0x100, raw, sizeof(raw));
	assert_int_equal(ld_le16(raw), n);
	assert_int_equal(raw[7], 8);
	assert_int_equal(raw[8], 0xa5);
	assert_int_equal(raw[15], 0xa5);
}

/* So many have come back, each with len bytes. */
static void back(struct fix *f, unsigned n, uint32_t len)
{
	uint32_t id, got;

	while (n--) {
		UNTIL(f, ring_used(&f->d.ring[0], &id, &got));
		assert_int_equal(got, len);
	}
}

/* ---- honest ---- */

static void test_echo(void **state)
{
	struct fix *f = *state;

	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 5; i++)
			ask(f, i, (uint16_t)(round * 5 + i));
		drv_kick(&f->d, 0);
		back(f, 5, 16);
		for (unsigned i = 0; i < 5; i++)
			echoed(f, i, (uint16_t)(round * 5 + i));
	}
	UNTIL(f, f->d.n_msi);
	assert_int_equal(drv_config(&f->d, 0, 8), 0x1234);
	assert_int_equal(f->p.got_features & ~VU_FEATURE_PROTOCOL, PEER_FEATURES & ~VU_FEATURE_PROTOCOL);
	/* What the peer has and the device does not know is not offered. */
	assert_true(f->v->d.host_features & BIT64(9));
	assert_false(f->v->d.host_features & VU_FEATURE_PROTOCOL);
}

/* In one turn more than there is room for, returned in another order. */
static void test_order(void **state)
{
	struct fix *f = *state;
	uint32_t id, len;
	unsigned seen = 0;

	f->p.hold = f->p.backwards = true;
	for (unsigned i = 0; i < QSIZE / 2; i++)
		ask(f, i, (uint16_t)(100 + i));
	drv_kick(&f->d, 0);
	UNTIL(f, f->p.taken == QSIZE / 2);
	f->p.hold = false;
	for (unsigned i = 0; i < QSIZE / 2; i++) {
		UNTIL(f, ring_used(&f->d.ring[0], &id, &len));
		seen |= 1u << id / 2;
	}
	assert_int_equal(seen, (1u << QSIZE / 2) - 1);
	assert_int_equal(f->p.order[0], 100 + QSIZE / 2 - 1);
	for (unsigned i = 0; i < QSIZE / 2; i++)
		echoed(f, i, (uint16_t)(100 + i));
}

/* Pieces that do not touch, through a table of the guest's. */
static void ask_long(struct fix *f, unsigned pieces)
{
	struct ring_buf b[200];
	uint8_t raw[4] = { 9, 9, 9, 9 };

	for (unsigned i = 0; i < pieces; i++) {
		b[i] = (struct ring_buf){ BUF + 0x40ull * i, 4, i >= pieces / 2 };
		raw[0] = (uint8_t)i;
		if (i < pieces / 2)
			mem_write(f->d.m->mem, b[i].addr, raw, 4);
	}
	ring_push_indirect(&f->d.ring[0], 0x300000, b, pieces);
	drv_kick(&f->d, 0);
	back(f, 1, pieces / 2 * 4);
	for (unsigned i = 0; i < pieces / 2; i++) {
		mem_read(f->d.m->mem, b[pieces / 2 + i].addr, raw, 4);
		assert_int_equal(raw[0], i);
	}
}

static void test_tables(void **state)
{
	struct fix *f = *state;

	for (unsigned n = 2; n <= 200; n += 22)
		ask_long(f, n);
}

/* Neither tables nor EVENT_IDX nor acknowledgements. */
static void test_plain_peer(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	place(f);
	f->p.features = VIRTIO_F_VERSION_1 | VU_FEATURE_PROTOCOL;
	f->p.protocol = VU_P_CONFIG;
	peer_listen(&f->p);
	device(f, QSIZE);
	drv_start(&f->d, ~0ull, QSIZE);
	*state = f;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 5; i++)
			ask(f, i, (uint16_t)i);
		drv_kick(&f->d, 0);
		back(f, 5, 16);
		ask_long(f, 16);
	}
	/* Longer than its ring: nobody can be given that. */
	struct ring_buf b[18];

	for (unsigned i = 0; i < 18; i++)
		b[i] = (struct ring_buf){ BUF + 0x40ull * i, 4, false };
	ring_push_indirect(&f->d.ring[0], 0x300000, b, 18);
	drv_kick(&f->d, 0);
	UNTIL(f, drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	drv_start(&f->d, ~0ull, QSIZE);
	ask(f, 1, 77);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
	echoed(f, 1, 77);
}

/* All that a peer may have written is in the log, whatever he says. */
static void test_written(void **state)
{
	struct fix *f = *state;
	uint64_t map[DRV_RAM / 4096 / 64] = { 0 };

	assert_int_equal(mem_dirty_start(f->d.m->mem), 0);
	ask(f, 3, 1);
	mem_dirty_fetch(f->d.m->mem, 0, DRV_RAM / 4096, map);
	memset(map, 0, sizeof(map));
	struct ring_buf b[] = { { 0x600000, 0x3000, true } };

	ring_push(&f->d.ring[0], b, 1);
	drv_kick(&f->d, 0);
	f->p.lie = PEER_USED_LEN;
	UNTIL(f, f->v->stats.returned == 2);
	mem_dirty_fetch(f->d.m->mem, 0, DRV_RAM / 4096, map);
	for (unsigned i = 0; i < 3; i++)
		assert_true(map[(0x600 + i) / 64] & BIT64((0x600 + i) % 64));
	mem_dirty_stop(f->d.m->mem);
}

/* A length beyond the buffers is cut. */
static void test_len(void **state)
{
	struct fix *f = *state;

	f->p.lie = PEER_USED_LEN;
	ask(f, 0, 1);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
}

/* ---- lies ---- */

static void test_used_lies(void **state)
{
	static const enum peer_lie lies[] = { PEER_USED_ID, PEER_USED_FREE, PEER_USED_IDX, PEER_ERR, PEER_CHATTY };
	struct fix *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		unsigned before = f->p.lives;

		UNTIL(f, f->v->running);
		f->p.lie = lies[i];
		ask(f, i, (uint16_t)(50 + i));
		drv_kick(&f->d, 0);
		UNTIL(f, f->p.lives > before);
		f->p.lie = PEER_HONEST;
		/* Whoever comes next serves it, unless the liar did that as well. */
		back(f, 1, 16);
		echoed(f, i, (uint16_t)(50 + i));
		assert_false(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
		UNTIL(f, f->v->running);
	}
}

/* Answers that are none, from the first on: the device is not made, and nothing is left behind. */
static void test_hello_lies(void **state)
{
	static const enum peer_lie lies[] = { PEER_SILENT, PEER_SHORT, PEER_LONG, PEER_NO_REPLY_FLAG, PEER_VERSION, PEER_OTHER, PEER_REFUSES };
	struct fix *f = calloc(1, sizeof(*f));
	struct vhost *peer;
	struct err e;

	place(f);
	peer_listen(&f->p);
	drv_machine(&f->d);
	*state = f;
	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		f->p.lie = lies[i];
		assert_int_equal(connect_peer(f, &peer, &e), -ECONNREFUSED);
		assert_non_null(strstr(e.msg, f->path));
	}
	f->p.lie = PEER_HONEST;
	f->p.features &= ~VIRTIO_F_VERSION_1;
	assert_int_equal(connect_peer(f, &peer, &e), -ECONNREFUSED);
	f->p.features |= VIRTIO_F_VERSION_1;
	f->p.protocol &= ~VU_P_CONFIG;
	assert_int_equal(connect_peer(f, &peer, &e), -ECONNREFUSED);
	machine_lock(f->d.m);
	machine_unlock(f->d.m);
}

/* Descriptors that nobody asked for are closed. */
static void test_fds(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vhost *peer;
	unsigned before, after = 0;
	struct err e;

	place(f);
	peer_listen(&f->p);
	drv_machine(&f->d);
	*state = f;
	assert_int_equal(connect_peer(f, &peer, &e), 0);
	peer->ops->free(peer);
	/* The peer's own end of a connection is closed a little later. */
	for (unsigned i = 0; i < 1000 && f->p.fd >= 0; i++)
		usleep(1000);
	before = open_fds();
	f->p.lie = PEER_FDS;
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(connect_peer(f, &peer, &e), 0);
		peer->ops->free(peer);
	}
	for (unsigned i = 0; i < 5000 && (after = open_fds()) != before; i++)
		usleep(1000);
	assert_int_equal(after, before);
}

/* He is asked to start and lies then: the guest's requests wait until he is better. */
static void test_start_lies(void **state)
{
	static const enum peer_lie lies[] = { PEER_REFUSES, PEER_SHORT, PEER_SILENT, PEER_OTHER };

	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		struct fix *f = calloc(1, sizeof(*f));
		void *s = f;

		place(f);
		peer_listen(&f->p);
		device(f, QSIZE);
		f->p.lie = lies[i];
		drv_start(&f->d, ~0ull, QSIZE);
		ask(f, 0, 7);
		drv_kick(&f->d, 0);
		UNTIL(f, f->p.lives > 1);
		f->p.lie = PEER_HONEST;
		back(f, 1, 16);
		echoed(f, 0, 7);
		teardown(&s);
	}
}

/* ---- going and coming ---- */

static void test_away(void **state)
{
	struct fix *f = *state;

	f->p.hold = true;
	for (unsigned i = 0; i < 6; i++)
		ask(f, i, (uint16_t)(200 + i));
	drv_kick(&f->d, 0);
	UNTIL(f, f->p.taken == 6);
	f->p.drop = true;
	UNTIL(f, f->p.lives == 2 && f->p.taken == 12);
	ask(f, 6, 206);
	drv_kick(&f->d, 0);
	f->p.hold = false;
	back(f, 7, 16);
	/* In the order in which they came. */
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(f->p.order[i], 200 + i);
		echoed(f, i, (uint16_t)(200 + i));
	}
	assert_int_equal(f->v->stats.repeated, 6);
}

/* He goes again and again, under load. */
static void test_often_away(void **state)
{
	struct fix *f = *state;
	unsigned next = 0;

	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 40; i++) {
			ask(f, next % 5, (uint16_t)next);
			drv_kick(&f->d, 0);
			if (i == 10 + round)
				f->p.drop = true;
			back(f, 1, 16);
			echoed(f, next % 5, (uint16_t)next);
			next++;
		}
	}
	assert_true(f->p.lives >= 10);
	assert_int_equal(f->v->d.vq[0].in_flight, 0);
}

/* He comes back with less than the guest was promised. */
static void test_unfit(void **state)
{
	struct fix *f = *state;

	UNTIL(f, f->v->running);
	f->p.features &= ~BIT64(9);
	f->p.drop = true;
	UNTIL(f, drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	drv_set_status(&f->d, 0);
	assert_false(drv_features(&f->d) & BIT64(9));
	drv_start(&f->d, ~0ull, QSIZE);
	ask(f, 0, 5);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
	f->p.queues = 0;
	f->p.features |= BIT64(9);
	f->p.drop = true;
	/* More than was promised is no harm. */
	UNTIL(f, f->v->life == 3);
	ask(f, 1, 6);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
}

/* He returns less tables than a request that waits for him needs. */
static void test_unfit_request(void **state)
{
	struct fix *f = *state;
	struct ring_buf b[30];

	for (unsigned i = 0; i < 30; i++)
		b[i] = (struct ring_buf){ BUF + 0x40ull * i, 4, false };
	f->p.hold = true;
	ring_push_indirect(&f->d.ring[0], 0x300000, b, 30);
	drv_kick(&f->d, 0);
	UNTIL(f, f->p.taken == 1);
	f->p.features &= ~VIRTIO_F_INDIRECT_DESC;
	f->p.drop = true;
	UNTIL(f, drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
}

/* ---- pause, reset ---- */

static void with_lock(struct fix *f, void (*fn)(struct virtio_dev *))
{
	machine_lock(f->d.m);
	fn(f->d.dev);
	machine_unlock(f->d.m);
}

static void test_pause(void **state)
{
	struct fix *f = *state;

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 5; i++)
			ask(f, i, (uint16_t)i);
		drv_kick(&f->d, 0);
		loop_turn(f->d.m->loop, round ? 0 : 5);
		with_lock(f, virtio_dev_pause);
		assert_int_equal(f->v->ring[0].n_offered, 0);
		with_lock(f, virtio_dev_resume);
		back(f, 5, 16);
	}
	assert_int_equal(f->p.lives, 1);
}

/* He holds what is to end: he is cut off, and what he held is held. */
static void test_pause_stuck(void **state)
{
	struct fix *f = *state;

	f->p.hold = true;
	for (unsigned i = 0; i < 3; i++)
		ask(f, i, (uint16_t)(300 + i));
	drv_kick(&f->d, 0);
	UNTIL(f, f->p.taken == 3);
	with_lock(f, virtio_dev_pause);
	assert_int_equal(f->v->ring[0].n_held, 3);
	UNTIL(f, f->p.lives == 2);
	f->p.hold = false;
	with_lock(f, virtio_dev_resume);
	back(f, 3, 16);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(f->p.order[i], 300 + i);
}

static void test_stop_hangs(void **state)
{
	struct fix *f = *state;

	UNTIL(f, f->v->running);
	f->p.lie = PEER_HANGS_STOP;
	with_lock(f, virtio_dev_pause);
	f->p.lie = PEER_HONEST;
	with_lock(f, virtio_dev_resume);
	ask(f, 0, 1);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
	UNTIL(f, f->p.lives == 2);
}

static void test_reset(void **state)
{
	struct fix *f = *state;

	for (unsigned round = 0; round < 10; round++) {
		UNTIL(f, f->v->running);
		f->p.hold = round == 3;
		ask(f, 0, 1);
		drv_kick(&f->d, 0);
		UNTIL(f, f->p.taken == round + 1);
		/* At any moment. */
		drv_set_status(&f->d, 0);
		assert_int_equal(f->v->ring[0].n_held, 0);
		f->p.hold = false;
		drv_start(&f->d, ~0ull, QSIZE);
	}
	assert_int_equal(f->p.resets, 9);
	ask(f, 0, 9);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
}

/* RING_RESET while he has requests. */
static void test_queue_reset(void **state)
{
	struct fix *f = *state;

	for (unsigned round = 0; round < 5; round++) {
		f->p.hold = round & 1;
		ask(f, 0, 1);
		drv_kick(&f->d, 0);
		if (round & 1)
			UNTIL(f, f->v->ring[0].n_offered);
		machine_lock(f->d.m);
		virtio_dev_queue_reset(f->d.dev, 0);
		machine_unlock(f->d.m);
		assert_int_equal(f->v->ring[0].n_held, 0);
		f->p.hold = false;
		drv_queue(&f->d, 0, QSIZE);
		ask(f, 1, (uint16_t)(400 + round));
		drv_kick(&f->d, 0);
		back(f, 1, 16);
		echoed(f, 1, (uint16_t)(400 + round));
	}
}

/* ---- saved state ---- */

static void *saved(struct fix *f, size_t *len)
{
	struct snap_out *o;
	void *copy;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->d.m);
	virtio_dev_pause(f->d.dev);
	assert_int_equal(virtio_dev_save(f->d.dev, o), 0);
	machine_unlock(f->d.m);
	copy = malloc(MAX(snap_out_data(o, len) ? *len : 0, 1u));
	memcpy(copy, snap_out_data(o, len), *len);
	snap_out_free(o);
	return copy;
}

static int loaded(struct fix *f, const void *p, size_t len)
{
	struct snap_in *in;
	struct err e;
	int ret;

	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_lock(f->d.m);
	virtio_dev_pause(f->d.dev);
	ret = virtio_dev_load(f->d.dev, in, &e);
	machine_unlock(f->d.m);
	snap_in_free(in);
	return ret;
}

/* He has gone with requests, the guest is saved, and goes on elsewhere with somebody else. */
static void test_saved(void **state)
{
	struct fix *f = *state, *g = calloc(1, sizeof(*g));
	size_t len;
	uint8_t *p;
	void *s = g;

	f->p.hold = true;
	for (unsigned i = 0; i < 4; i++)
		ask(f, i, (uint16_t)(500 + i));
	drv_kick(&f->d, 0);
	UNTIL(f, f->p.taken == 4);
	p = saved(f, &len);

	place(g);
	peer_listen(&g->p);
	device(g, QSIZE);
	g->d.n_queues = f->d.n_queues;
	memcpy(mem_ram_host(g->d.m->mem), mem_ram_host(f->d.m->mem), DRV_RAM);
	assert_int_equal(loaded(g, p, len), 0);
	/* Saved again before it has gone on: nothing is lost. */
	free(p);
	p = saved(g, &len);
	assert_int_equal(loaded(g, p, len), 0);
	g->d.ring[0] = f->d.ring[0];
	g->d.ring[0].mem = g->d.m->mem;
	with_lock(g, virtio_dev_resume);
	back(g, 4, 16);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(g->p.order[i], 500 + i);
		echoed(g, i, (uint16_t)(500 + i));
	}
	/* A file that says something else. */
	for (size_t at = len > 60 ? len - 60 : 0; at < len; at++) {
		p[at] ^= 0x55;
		loaded(g, p, len);
		p[at] ^= 0x55;
	}
	free(p);
	teardown(&s);
}

/* ---- configuration ---- */

static void test_config(void **state)
{
	struct fix *f = *state;
	unsigned msi = f->d.n_msi;

	UNTIL(f, f->v->running);
	st_le64(f->p.config, 0x9999);
	f->p.change = 1;
	UNTIL(f, drv_config(&f->d, 0, 8) == 0x9999 && f->d.n_msi > msi);
	UNTIL(f, f->p.answered == 1);
	/* A request that nobody knows, with descriptors; then nonsense, which ends his channel and nothing else. */
	f->p.change = 2;
	UNTIL(f, f->p.answered == 2);
	f->p.change = 3;
	UNTIL(f, f->p.req < 0);
	ask(f, 0, 1);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
	assert_int_equal(f->p.lives, 1);
}

/* ---- file systems, servers, refusals ---- */

static void test_fs(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vhost_user_opts o = { .path = f->path, .name = "fs", .reconnect_ms = 20, .answer_ms = 1000 };
	char tag[40] = "thirty-six bytes, none more, no NUL.";
	const struct vhost_fs_opts none = { 0 }, many = { .queues = 4 };
	struct snap_out *out;
	struct virtio_dev *dev;
	struct vhost *peer;
	struct err e;

	place(f);
	peer_listen(&f->p);
	drv_machine(&f->d);
	*state = f;
	machine_lock(f->d.m);
	assert_int_equal(vhost_user_new(f->d.m->loop, &o, &peer, &e), 0);
	strcat(tag, "x");
	assert_int_equal(vhost_fs_new(f->d.m, "fs0", peer, tag, &none, &dev, &e), -EINVAL);
	assert_int_equal(vhost_fs_new(f->d.m, "fs0", peer, "", &none, &dev, &e), -EINVAL);
	assert_int_equal(vhost_fs_new(f->d.m, "fs0", peer, "t", &many, &dev, &e), -ENOTSUP);
	tag[36] = '\0';
	assert_int_equal(vhost_fs_new(f->d.m, "fs0", peer, tag, &none, &dev, &e), 0);
	machine_unlock(f->d.m);
	f->v = container_of(dev, struct vhost_dev, d);
	drv_plug(&f->d, dev, false);
	drv_start(&f->d, ~0ull, QSIZE);
	assert_int_equal(drv_config(&f->d, 0, 1), 't');
	assert_int_equal(drv_config(&f->d, 35, 1), '.');
	assert_int_equal(drv_config(&f->d, 36, 4), 1);
	ask(f, 0, 3);
	drv_kick(&f->d, 0);
	back(f, 1, 16);
	assert_int_equal(snap_out_new(&out), 0);
	machine_lock(f->d.m);
	assert_int_equal(virtio_dev_save(dev, out), -ENOTSUP);
	machine_unlock(f->d.m);
	snap_out_free(out);
}

/* He connects; when he has gone, the next one may. */
static void *come(void *opaque)
{
	struct fix *f = opaque;

	for (unsigned i = 0; i < 3; i++) {
		struct sockaddr_un sun = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", f->path);
		while (connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
			usleep(1000);
		f->p.fd = fd;
		peer_connection(&f->p);
	}
	return NULL;
}

static void test_server(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	const struct vhost_user_opts o = { .path = f->path, .name = "disk", .server = true, .answer_ms = 1000, .config_len = VHOST_BLK_CONFIG_LEN };
	const struct vhost_blk_opts b = { .queue_size = QSIZE };
	struct virtio_dev *dev;
	struct vhost *peer;
	struct err e;

	place(f);
	drv_machine(&f->d);
	*state = f;
	assert_int_equal(pthread_create(&f->p.thread, NULL, come, f), 0);
	machine_lock(f->d.m);
	assert_int_equal(vhost_user_new(f->d.m->loop, &o, &peer, &e), 0);
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &b, &dev, &e), 0);
	machine_unlock(f->d.m);
	f->v = container_of(dev, struct vhost_dev, d);
	drv_plug(&f->d, dev, true);
	drv_start(&f->d, ~0ull, QSIZE);
	for (unsigned i = 0; i < 3; i++) {
		ask(f, 0, (uint16_t)i);
		drv_kick(&f->d, 0);
		back(f, 1, 16);
		echoed(f, 0, (uint16_t)i);
		f->p.drop = i < 2;
		if (i < 2)
			UNTIL(f, f->p.lives == i + 2);
	}
}

static void test_refused(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vhost_blk_opts o = { .queue_size = 24 };
	struct virtio_dev *dev;
	struct vhost *peer;
	struct err e;

	place(f);
	drv_machine(&f->d);
	*state = f;
	assert_int_equal(connect_peer(f, &peer, &e), -ECONNREFUSED);
	assert_non_null(strstr(e.msg, "No such file"));
	peer_listen(&f->p);
	assert_int_equal(connect_peer(f, &peer, &e), 0);
	machine_lock(f->d.m);
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &o, &dev, &e), -EINVAL);
	o = (struct vhost_blk_opts){ .queues = 5 };
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &o, &dev, &e), -ENOTSUP);
	o = (struct vhost_blk_opts){ .queues = 2 };	/* without MQ */
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &o, &dev, &e), -ENOTSUP);
	o = (struct vhost_blk_opts){ .queues = 65 };
	assert_int_equal(vhost_blk_new(f->d.m, "disk0", peer, &o, &dev, &e), -EINVAL);
	machine_unlock(f->d.m);
	peer->ops->free(peer);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define OWN(fn) cmocka_unit_test_teardown(fn, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_echo), CASE(test_order), CASE(test_tables), OWN(test_plain_peer), CASE(test_written), CASE(test_len), CASE(test_used_lies),
		OWN(test_hello_lies), OWN(test_fds), cmocka_unit_test(test_start_lies), CASE(test_away), CASE(test_often_away), CASE(test_unfit), CASE(test_unfit_request),
		CASE(test_pause), CASE(test_pause_stuck), CASE(test_stop_hangs), CASE(test_reset), CASE(test_queue_reset), CASE(test_saved), CASE(test_config),
		OWN(test_fs), OWN(test_server), OWN(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
