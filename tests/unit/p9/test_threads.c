// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests that run side by side, wait, are flushed, and outlive a reset. */
#include "p9_client.h"

#include <stdatomic.h>
#include <time.h>

#include "p9/internal.h"

/* A request that nobody waits for yet. */
struct later {
	struct p9_req r;
	uint8_t in[256], out[256];
	atomic_int ended;		/* the place in the order of those that ended; 0: not yet */
	atomic_bool begun;
};

static atomic_int order;

static void later_done(struct p9_req *r)
{
	((struct later *)r->opaque)->ended = ++order;
}

/* What was made in c goes as l. */
static void later_send_to(struct cl *c, struct later *l, uint16_t tag, void (*done)(struct p9_req *r))
{
	uint32_t len = (uint32_t)(c->p - c->in);

	memset(l, 0, sizeof(*l));
	memcpy(l->in, c->in, len);
	st_le32(l->in, len);
	st_le16(l->in + 5, tag);
	l->r = (struct p9_req){ .in = l->in, .in_len = len, .out = l->out, .out_room = sizeof(l->out), .done = done, .opaque = l };
	p9_submit(c->s, &l->r);
}

static void later_send(struct cl *c, struct later *l, uint16_t tag)
{
	later_send_to(c, l, tag, later_done);
}

/* Another thread's hands on the same session. */
static void client_of(struct cl *other, const struct cl *c, uint16_t tag)
{
	other->s = c->s;
	other->tag = tag;
	pthread_mutex_init(&other->lock, NULL);
	pthread_cond_init(&other->cond, NULL);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

static void wait_for(struct later *l)
{
	for (unsigned i = 0; i < 5000 && !l->ended; i++)
		nap();
	assert_true(l->ended);
}

static void make_lock(struct cl *c, uint32_t fid, uint8_t type, uint32_t pid, bool block)
{
	cl_begin(c, TLOCK);
	cl_n(c, 4, fid);
	cl_n(c, 1, type);
	cl_n(c, 4, block ? P9_LOCK_FLAG_BLOCK : 0);
	cl_n(c, 8, 0);
	cl_n(c, 8, 0);
	cl_n(c, 4, pid);
	cl_s(c, "guest");
}

static void make_flush(struct cl *c, uint16_t tag)
{
	cl_begin(c, TFLUSH);
	cl_n(c, 2, tag);
}

/* A file with a lock of process 1 on it, as fid 1. */
static void with_lock(struct cl *c, unsigned threads)
{
	cl_open(c, P9_NONE, threads);
	cl_put(c, "f", "");
	assert_int_equal(cl_walk(c, 0, 1, "f"), 0);
	assert_int_equal(cl_lopen(c, 1, O_RDWR), 0);
	make_lock(c, 1, P9_LOCK_WRLCK, 1, false);
	assert_int_equal(cl_send(c), 0);
	assert_int_equal(p9_get8(&c->ans), P9_LOCK_SUCCESS);
}

static void a_lock_is_waited_for(void **state)
{
	for (unsigned threads = 0; threads < 4; threads += 3) {
		struct later l;
		struct cl c;

		with_lock(&c, threads);
		make_lock(&c, 1, P9_LOCK_WRLCK, 2, true);
		later_send(&c, &l, 20);
		nap();
		assert_int_equal(l.ended, 0);
		/* Others are not held up. */
		assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
		make_lock(&c, 1, P9_LOCK_UNLCK, 1, false);
		assert_int_equal(cl_send(&c), 0);
		wait_for(&l);
		assert_int_equal(l.r.out_len, P9_HEADER + 1);
		assert_int_equal(l.out[4], TLOCK + 1);
		assert_int_equal(l.out[7], P9_LOCK_SUCCESS);
		cl_close(&c);
	}
}

/* Who waits for a lock must not take all of a transport's room, or nobody could give it back. */
static void not_all_requests_wait(void **state)
{
	struct later *l = calloc(P9_MAX_PARKED + 1, sizeof(*l));
	struct cl c;

	with_lock(&c, 0);
	for (unsigned i = 0; i <= P9_MAX_PARKED; i++) {
		make_lock(&c, 1, P9_LOCK_RDLCK, 2 + i, true);
		later_send(&c, &l[i], (uint16_t)(20 + i));
		assert_int_equal(l[i].ended != 0, i == P9_MAX_PARKED);
	}
	assert_int_equal(l[P9_MAX_PARKED].out[7], P9_LOCK_BLOCKED);
	make_lock(&c, 1, P9_LOCK_UNLCK, 1, false);
	assert_int_equal(cl_send(&c), 0);
	for (unsigned i = 0; i < P9_MAX_PARKED; i++) {
		assert_true(l[i].ended);
		assert_int_equal(l[i].out[7], P9_LOCK_SUCCESS);
	}
	cl_close(&c);
	free(l);
}

static void what_waits_is_flushed(void **state)
{
	struct later l, f;
	struct cl c;

	with_lock(&c, 2);
	make_lock(&c, 1, P9_LOCK_WRLCK, 2, true);
	later_send(&c, &l, 20);
	for (unsigned i = 0; i < 1000; i++) {
		pthread_mutex_lock(&c.s->queue);
		i = list_empty(&c.s->parked) ? i : 1000;
		pthread_mutex_unlock(&c.s->queue);
		nap();
	}
	make_flush(&c, 21);
	later_send(&c, &f, 22);
	assert_true(f.ended);
	assert_int_equal(l.ended, 0);
	make_flush(&c, 20);
	later_send(&c, &f, 22);
	assert_true(f.ended);
	assert_true(l.ended && l.ended < f.ended);
	assert_int_equal(l.r.out_len, 0);
	assert_int_equal(f.r.out_len, P9_HEADER);
	assert_int_equal(f.out[4], TFLUSH + 1);
	/* It does not have the lock. */
	make_lock(&c, 1, P9_LOCK_UNLCK, 1, false);
	assert_int_equal(cl_send(&c), 0);
	make_lock(&c, 1, P9_LOCK_WRLCK, 3, false);
	assert_int_equal(cl_send(&c), 0);
	assert_int_equal(p9_get8(&c.ans), P9_LOCK_SUCCESS);
	/* What waits when the device stands still is told that it is taken; at a reset it gets no answer. */
	make_lock(&c, 1, P9_LOCK_WRLCK, 2, true);
	later_send(&c, &l, 20);
	p9_drain(c.s);
	assert_true(l.ended);
	assert_int_equal(l.out[7], P9_LOCK_BLOCKED);
	make_lock(&c, 1, P9_LOCK_WRLCK, 2, true);
	later_send(&c, &l, 20);
	nap();
	p9_reset(c.s);
	wait_for(&l);
	assert_true(l.r.out_len == 0 || l.out[7] == P9_LOCK_BLOCKED);
	cl_close(&c);
}

/* A request that hangs in the file system (here, at the lock of places): flushing waits for it, reset does not. */
static void what_hangs_holds_up_nobody(void **state)
{
	struct later l, q, f, g;
	struct cl c;

	cl_open(&c, P9_NONE, 1);
	cl_put(&c, "f", "x");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	pthread_rwlock_wrlock(&c.s->tree);
	cl_begin(&c, TGETATTR);
	cl_n(&c, 4, 1);
	cl_n(&c, 8, 0);
	later_send(&c, &l, 30);
	for (unsigned i = 0; i < 1000; i++) {
		pthread_mutex_lock(&c.s->queue);
		i = list_empty(&c.s->running) ? i : 1000;
		pthread_mutex_unlock(&c.s->queue);
		nap();
	}
	/* One that has not begun ends at once, without an answer. */
	later_send(&c, &q, 31);
	make_flush(&c, 31);
	later_send(&c, &g, 33);
	assert_true(q.ended && g.ended && q.ended < g.ended);
	assert_int_equal(q.r.out_len, 0);
	make_flush(&c, 30);
	later_send(&c, &f, 32);
	nap();
	assert_int_equal(f.ended, 0);
	p9_reset(c.s);
	assert_int_equal(l.ended, 0);
	pthread_rwlock_unlock(&c.s->tree);
	wait_for(&f);
	assert_true(l.ended && l.ended < f.ended);
	assert_int_equal(l.out[4], TGETATTR + 1);
	assert_int_equal(f.out[4], TFLUSH + 1);
	/* A new session begins as usual. */
	assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
	assert_int_equal(cl_attach(&c, 0), 0);
	cl_close(&c);
}

static atomic_bool go_on;

/* Whoever carries the answer has it, but is not done with it. */
static void slow_done(struct p9_req *r)
{
	struct later *l = r->opaque;

	l->begun = true;
	while (!go_on)
		nap();
	later_done(r);
}

/* An answer that is on its way to the client is not overtaken by that of a Tflush, after which the client's memory is another's. */
static void a_flush_waits_for_the_answer(void **state)
{
	struct later l, f;
	struct cl c;

	cl_open(&c, P9_NONE, 1);
	go_on = false;
	cl_begin(&c, TGETATTR);
	cl_n(&c, 4, 0);
	cl_n(&c, 8, 0);
	later_send_to(&c, &l, 40, slow_done);
	for (unsigned i = 0; i < 5000 && !l.begun; i++)
		nap();
	assert_true(l.begun);
	make_flush(&c, 40);
	later_send(&c, &f, 41);
	for (unsigned i = 0; i < 10; i++)
		nap();
	assert_int_equal(f.ended, 0);
	go_on = true;
	wait_for(&f);
	assert_true(l.ended && l.ended < f.ended);
	assert_int_equal(l.out[4], TGETATTR + 1);
	cl_close(&c);
}

/* Locks go with their session, even while one of its requests still has to end. */
static void an_old_session_has_no_locks(void **state)
{
	struct later l;
	struct cl c;

	with_lock(&c, 2);
	go_on = false;
	cl_begin(&c, TGETATTR);
	cl_n(&c, 4, 0);
	cl_n(&c, 8, 0);
	later_send_to(&c, &l, 60, slow_done);
	for (unsigned i = 0; i < 5000 && !l.begun; i++)
		nap();
	assert_true(l.begun);
	p9_reset(c.s);
	assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
	assert_int_equal(cl_attach(&c, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(cl_lopen(&c, 1, O_RDWR), 0);
	make_lock(&c, 1, P9_LOCK_WRLCK, 2, false);
	assert_int_equal(cl_send(&c), 0);
	assert_int_equal(p9_get8(&c.ans), P9_LOCK_SUCCESS);
	go_on = true;
	wait_for(&l);
	cl_close(&c);
}

/* A Tversion of before a reset that runs a little longer ends no session of after it. */
static void an_old_version_ends_nothing(void **state)
{
	struct later l;
	struct cl c;

	cl_open(&c, P9_NONE, 2);
	for (unsigned i = 0; i < 2000; i++) {
		cl_begin(&c, TVERSION);
		cl_n(&c, 4, 8192);
		cl_s(&c, "9P2000.L");
		later_send(&c, &l, 50);
		for (unsigned k = 0; k < i % 100 * 100 && !l.ended; k++)
			;
		p9_reset(c.s);
		assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
		assert_int_equal(cl_attach(&c, 0), 0);
		wait_for(&l);
		assert_int_equal(cl_clunk(&c, 0), 0);
	}
	cl_close(&c);
}

/* ---- metadata ---- */

struct changer {
	struct cl c;
	bool owner;
	pthread_t t;
};

static void *change(void *opaque)
{
	struct changer *h = opaque;
	struct cl_attr a;

	for (unsigned i = 1; i <= 500; i++) {
		cl_setattr(&h->c, 1, h->owner ? P9_ATTR_UID : P9_ATTR_MODE, i & 0777, i, 0, 0);
		if (cl_getattr(&h->c, 1, &a) || (h->owner ? a.uid != i : (a.mode & 0777) != (i & 0777)))
			return h;
	}
	return NULL;
}

/* Owner and mode are lines of one file: who changes one leaves the other as it is. */
static void metadata_is_changed_by_one_at_a_time(void **state)
{
	struct changer *h = calloc(2, sizeof(*h));
	struct cl c;
	void *lost;

	cl_open(&c, P9_MAPPED_FILE, 4);
	cl_put(&c, "f", "");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	for (unsigned i = 0; i < 2; i++) {
		client_of(&h[i].c, &c, (uint16_t)(100 + i));
		h[i].owner = i;
		assert_int_equal(pthread_create(&h[i].t, NULL, change, &h[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(h[i].t, &lost);
		assert_null(lost);
	}
	cl_close(&c);
	free(h);
}

/* ---- everything at once ---- */

struct hammer {
	struct cl c;
	unsigned seed, n;
	pthread_t t;
};

static unsigned rnd(struct hammer *h, unsigned n)
{
	h->seed = h->seed * 1103515245 + 12345;
	return h->seed >> 16 & 0x7fff ? (h->seed >> 16 & 0x7fff) % n : 0;
}

static void *hammer(void *opaque)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct hammer *h = opaque;
	struct cl *c = &h->c;
	char buf[64];
	struct cl_attr a;

	for (unsigned i = 0; i < 3000; i++) {
		uint32_t fid = h->n * 10 + rnd(h, 8), other = rnd(h, 40);
		const char *name = names[rnd(h, 4)];

		switch (rnd(h, 12)) {
		case 0: cl_walk(c, other, fid, name); break;
		case 1: cl_walk(c, 0, fid, name); break;
		case 2: cl_mkdir(c, other, name, 0700); break;
		case 3: cl_lcreate(c, fid, name, O_RDWR, 0600); break;
		case 4: cl_write(c, other, rnd(h, 100), "abc", 3); break;
		case 5: cl_read(c, other, 0, buf, sizeof(buf)); break;
		case 6: cl_renameat(c, other, name, rnd(h, 40), names[rnd(h, 4)]); break;
		case 7: cl_unlinkat(c, other, name, rnd(h, 2) ? P9_AT_REMOVEDIR : 0); break;
		case 8: cl_clunk(c, fid); break;
		case 9: cl_getattr(c, other, &a); break;
		case 10: cl_lopen(c, fid, O_RDWR); break;
		default: cl_walk(c, fid, fid, ".."); break;
		}
	}
	return NULL;
}

static void many_at_once(void **state)
{
	enum { N = 4 };
	struct hammer *h = calloc(N, sizeof(*h));
	struct cl c;

	cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_threads = 4, .max_fds = 6 });
	for (unsigned i = 0; i < N; i++) {
		h[i].seed = 17 + i;
		h[i].n = i;
		client_of(&h[i].c, &c, (uint16_t)(100 + i));
		assert_int_equal(pthread_create(&h[i].t, NULL, hammer, &h[i]), 0);
	}
	for (unsigned i = 0; i < N; i++)
		pthread_join(h[i].t, NULL);
	p9_drain(c.s);
	/* Descriptors are counted as they should: all but the root's go with the session. */
	p9_reset(c.s);
	for (unsigned i = 0; i < 1000; i++) {
		pthread_mutex_lock(&c.s->lock);
		i = c.s->n_fids ? i : 1000;
		pthread_mutex_unlock(&c.s->lock);
		nap();
	}
	pthread_mutex_lock(&c.s->lock);
	assert_int_equal(c.s->n_fids, 0);
	assert_int_equal(c.s->n_fds, 0);
	assert_int_equal(c.s->n_pinned, 0);
	assert_int_equal(c.s->n_nodes, 0);
	assert_int_equal(c.s->nodes.n, 0);
	assert_int_equal(c.s->root->refs, 1);
	pthread_mutex_unlock(&c.s->lock);
	cl_close(&c);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lock_is_waited_for),
		cmocka_unit_test(not_all_requests_wait),
		cmocka_unit_test(what_waits_is_flushed),
		cmocka_unit_test(what_hangs_holds_up_nobody),
		cmocka_unit_test(a_flush_waits_for_the_answer),
		cmocka_unit_test(an_old_session_has_no_locks),
		cmocka_unit_test(an_old_version_ends_nothing),
		cmocka_unit_test(metadata_is_changed_by_one_at_a_time),
		cmocka_unit_test(many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
