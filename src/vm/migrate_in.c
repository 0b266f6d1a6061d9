// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The destination of a migration: see migrate.h for what is said, and who owns the guest when.
 *
 * A thread takes connections one after the other until one of them has brought the guest.
 * What fails leaves the machine as it waited; the next attempt sends everything
 * anew.  Nothing that comes is trusted.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"
#include "vm/firmware.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/migrate_lanes.h"
#include "vm/migrate_late.h"
#include "vm/migrate_ram.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"

#define HELLO_LEN (8u + MIG_ID)
#define ANSWERS_S 120			/* for which the source may ask what became of it */
#define POLL_MS 1000
#define DONE_MS 3000			/* in which the source says that it has heard so */

/* ---- the loop's part ---- */

/* Loop. */
static int make_about(struct mig *g)
{
	free(g->about);
	g->about = mig_about(g, &g->e);
	if (!g->about)
		return -ENOMEM;
	g->begun_ns = loop_now_ns();
	mig_status(g, VM_MIGRATE_SETUP);
	return 0;
}

/* Loop. */
static int say_active(struct mig *g)
{
	mig_status(g, VM_MIGRATE_ACTIVE);
	return 0;
}

/* Loop. */
static int load(struct mig *g)
{
	uint8_t *state = g->state;

	g->state = NULL;
	return vm_state_load(g->vm, state, g->state_len, g->has_vmgenid ? g->vmgenid : NULL, &g->e);
}

/* Loop. */
static int take_disks(struct mig *g)
{
	int ret = mig_disks_open(g->vm, &g->e);

	ret = ret ? ret : vm_vars_take(g->vm, &g->e);
	if (!ret)
		g->marked = mig_disks_mark(g->vm, g->id, MIG_MARK_OFFERED);
	return ret;
}

/* Loop.  Not ours, and will not be. */
static int let_go(struct mig *g)
{
	struct err e;

	vm_vars_release(g->vm);
	mig_disks_close(g->vm, &e);
	mig_status(g, VM_MIGRATE_FAILED);
	return 0;
}

/* Loop.  From here on the guest is ours. */
static int own(struct mig *g)
{
	int ret = g->late ? mig_late_own(g->late) : 0;

	if (ret)
		return ret;
	g->owner = true;
	/* Better no mark, which says nothing, than one that is not true any more. */
	if (g->marked && !mig_disks_mark(g->vm, g->id, MIG_MARK_TAKEN))
		mig_disks_mark(g->vm, g->id, MIG_MARK_NONE);
	return 0;
}

/* Loop. */
static int run(struct mig *g)
{
	struct vm *vm = g->vm;

	g->holds = false;
	pthread_mutex_lock(&g->lock);
	g->info.total_ns = loop_now_ns() - g->begun_ns;
	pthread_mutex_unlock(&g->lock);
	vm->stop_wanted = vm->cfg->paused || !g->was_running;
	if (!vm->stop_wanted)
		vm_resume(vm);
	if (g->late && mig_late_left(g->late)) {
		mig_status(g, VM_MIGRATE_POSTCOPY_ACTIVE);
		loop_bh_post(&g->late_bh);
		return 0;
	}
	mig_late_done(g);
	mig_status(g, VM_MIGRATE_COMPLETED);
	return 0;
}

/* ---- what comes ---- */

static int next(struct mig *g, struct mig_record *r, int timeout_ms)
{
	g->chan.timeout_ms = timeout_ms;
	return mig_recv(&g->chan, r, &g->e);
}

static int take_state_record(struct mig *g, const struct mig_record *r)
{
	uint64_t total, at, len;

	if (r->len < 16)
		return err_set(&g->e, -EPROTO, "the stream has a piece of state that makes no sense");
	total = ld_le64(g->chan.buf);
	at = ld_le64(g->chan.buf + 8);
	len = r->len - 16;
	/* In order, and each piece once. */
	if (!total || total > SNAPSHOT_STATE_MAX || at != g->state_got || !range_inside(at, len, total) || (g->state && total != g->state_len))
		return err_set(&g->e, -EPROTO, "the stream has a piece of state that makes no sense");
	if (!g->state)
		g->state = malloc(total);
	if (!g->state)
		return err_set(&g->e, -ENOMEM, "out of memory for %llu bytes of state", (unsigned long long)total);
	g->state_len = total;
	memcpy(g->state + at, g->chan.buf + 16, len);
	g->state_got += len;
	return 0;
}

static int said(struct mig *g, const struct mig_record *r, const char *what)
{
	char why[300];

	mig_text(&g->chan, r, why, sizeof(why));
	return err_set(&g->e, -ECONNABORTED, "the source %s%s%s", what, *why ? ": " : "", why);
}

static int take_late(struct mig *g, const struct mig_record *r)
{
	uint64_t pages = mem_ram_size(g->vm->m->mem) >> PAGE_SHIFT_4K;

	if (!g->may_be_late)
		return err_set(&g->e, -EPROTO, "the source leaves memory for later, and has not said that it may");
	if (!g->late_map)
		g->late_map = calloc((pages + 63) / 64, 8);
	if (!g->late_map)
		return err_set(&g->e, -ENOMEM, "out of memory");
	return mig_map_take(g->late_map, pages, &g->late_at, g->chan.buf, r->len, &g->e);
}

static int take_record(struct mig *g, struct mig_rx *rx, const struct mig_record *r, uint64_t bytes, bool *complete)
{
	switch (r->type) {
	case MIG_PAGES: return mig_rx_pages(rx, g->chan.buf, r->len, &g->e);
	case MIG_ZEROS: return mig_rx_zeros(rx, g->chan.buf, r->len, &g->e);
	case MIG_STATE: return take_state_record(g, r);
	case MIG_LATE: return take_late(g, r);
	case MIG_CANCEL: return said(g, r, "was asked to give up");
	case MIG_ROUND:
		pthread_mutex_lock(&g->lock);
		g->info.rounds++;
		g->info.transferred = g->chan.got_bytes + bytes;
		pthread_mutex_unlock(&g->lock);
		return 0;
	case MIG_COMPLETE:
		g->was_running = mig_u32(&g->chan, r) & MIG_RUNS;
		g->late_now = mig_u32(&g->chan, r) & MIG_COMES_LATE;
		*complete = true;
		return 0;
	default: return err_set(&g->e, -EPROTO, "the source said '%s' where memory was due", mig_type_name(r->type));
	}
}

/* The next record.  The connection may be silent while others are not. */
static int next_of_many(struct mig *g, struct mig_record *r, struct mig_lanes_in *lanes)
{
	uint64_t heard;
	int ret;

	g->chan.timeout_ms = MIG_WORK_MS;
	g->chan.alarm_fd = mig_lanes_alarm(lanes);
	do {
		heard = mig_lanes_heard(lanes);
		ret = mig_await(&g->chan, &g->e);
	} while (ret == -ETIMEDOUT && mig_lanes_heard(lanes) != heard);
	ret = ret ? ret : mig_recv(&g->chan, r, &g->e);
	/* Better to know which one it was, and why. */
	if (ret == -ENOLINK)
		mig_lanes_wait(lanes);
	return ret;
}

/* Memory and state, until there is all of it. */
static int receive(struct mig *g, struct mig_rx *rx, struct mig_lanes_in *lanes)
{
	bool complete = false;
	struct mig_record r;
	uint64_t missing;
	int ret = 0;

	while (!complete && !ret) {
		ret = next_of_many(g, &r, lanes);
		ret = ret ? ret : take_record(g, rx, &r, mig_lanes_bytes(lanes), &complete);
	}
	if (!ret && lanes)
		ret = mig_lanes_wait(lanes);
	if (ret)
		return ret;
	if (g->late_now && g->late_at != mem_ram_size(g->vm->m->mem) >> PAGE_SHIFT_4K)
		return err_set(&g->e, -EPROTO, "the map of the memory that comes later is not whole");
	missing = g->late_now ? mig_rx_missing_but(rx, g->late_map) : mig_rx_missing(rx);
	if (missing)
		return err_set(&g->e, -EPROTO, "%llu pages of memory have not come", (unsigned long long)missing);
	if (!g->state || g->state_got != g->state_len)
		return err_set(&g->e, -EPROTO, "the guest's state has not come");
	return 0;
}

static int read_begin(struct mig *g)
{
	struct mig_record r;
	int ret = next(g, &r, MIG_WORK_MS);

	if (ret)
		return ret;
	if (r.type == MIG_REFUSE)
		return said(g, &r, "does not send its guest");
	if (r.type != MIG_BEGIN || r.len < 4 + sizeof(g->vmgenid))
		return err_set(&g->e, -EPROTO, "the source said '%s' where 'begin' was due", mig_type_name(r.type));
	g->has_vmgenid = mig_u32(&g->chan, &r) & MIG_GENID;
	g->may_be_late = mig_u32(&g->chan, &r) & MIG_MAY_BE_LATE;
	memcpy(g->vmgenid, g->chan.buf + 4, sizeof(g->vmgenid));
	g->streams = r.len >= 8 + sizeof(g->vmgenid) ? ld_le32(g->chan.buf + 4 + sizeof(g->vmgenid)) : 0;
	if (g->streams > MIG_LANES_MAX || ((g->streams || g->may_be_late) && g->listen_fd < 0))
		return err_set(&g->e, -EPROTO, "the source wants %u further connections", g->streams);
	return mig_on_loop(g, say_active);
}

static int expect(struct mig *g, enum mig_type type, int timeout_ms)
{
	struct mig_record r;
	int ret = next(g, &r, timeout_ms);

	if (ret)
		return ret;
	if (r.type == MIG_CANCEL)
		return said(g, &r, "was asked to give up");
	return r.type == type ? 0 : err_set(&g->e, -EPROTO, "the source said '%s' where '%s' was due", mig_type_name(r.type), mig_type_name(type));
}

/* ---- questions ---- */

int mig_hello_read(struct mig_chan *c, uint8_t id[MIG_ID], uint32_t *flags, struct err *e)
{
	struct mig_record r;
	int ret;

	c->timeout_ms = MIG_ANSWER_MS;
	ret = mig_recv(c, &r, e);
	if (ret)
		return ret;
	if (r.type != MIG_HELLO || r.len < HELLO_LEN)
		return err_set(e, -EPROTO, "who came did not say 'hello'");
	if (ld_le32(c->buf) != MIG_VERSION)
		return err_set(e, -EPROTO, "the source's migration protocol has version %u, and this one's %u", ld_le32(c->buf), MIG_VERSION);
	*flags = ld_le32(c->buf + 4);
	memcpy(id, c->buf + 8, MIG_ID);
	return 0;
}

static void answer(struct mig *g, struct mig_chan *c, const uint8_t id[MIG_ID])
{
	struct err e;
	enum mig_answer a = !g->known || memcmp(id, g->id, MIG_ID) ? MIG_UNKNOWN : g->owner ? MIG_STARTED : MIG_NEVER;

	mig_send_u32(c, MIG_ANSWER, (uint32_t)a, &e);
}

void mig_turn_away(struct mig *g, struct mig_chan *c, const uint8_t id[MIG_ID], uint32_t flags)
{
	struct err e;

	if (flags & MIG_ASKS)
		answer(g, c, id);
	else
		mig_send_text(c, MIG_FAILED, g->owner ? "its guest is here already" : "another guest is coming here just now", &e);
}

/* Somebody came while `go` is waited for.  The source, and it asks: it will not say it any more, nor be heard.  ECONNABORTED */
static int visitor(struct mig *g)
{
	uint8_t id[MIG_ID];
	struct mig_chan c;
	struct err e;
	uint32_t flags;
	bool ours;

	if (mig_accept(g->listen_fd, g->stop_fd, 0, &c, &e))
		return 0;
	c.timeout_ms = MIG_ANSWER_MS;
	ours = !mig_secure(&c, &g->tls, &e) && !mig_hello_read(&c, id, &flags, &e) && flags & MIG_ASKS && !memcmp(id, g->id, MIG_ID);
	if (ours) {
		/* Before the answer nothing of it can come about any more. */
		mig_chan_fini(&g->chan);
		mig_on_loop(g, let_go);
		answer(g, &c, id);
	}
	mig_chan_fini(&c);
	return ours ? err_set(&g->e, -ECONNABORTED, "the connection was lost before the guest was handed over") : 0;
}

static int wait_go(struct mig *g)
{
	int64_t until = loop_now_ns() + MIG_WORK_MS * 1000000ll;
	int ret = 0;

	while (!ret) {
		struct pollfd p[3] = { { .fd = g->chan.in, .events = POLLIN }, { .fd = g->stop_fd, .events = POLLIN },
				       { .fd = g->listen_fd, .events = POLLIN } };
		int n = poll(p, 3, POLL_MS);

		if (n > 0 && p[0].revents)
			return expect(g, MIG_GO, MIG_WORK_MS);
		if (n > 0 && p[1].revents)
			return err_set(&g->e, -ECANCELED, "it was cancelled");
		if (n > 0 && p[2].revents)
			ret = visitor(g);
		if (!ret && loop_now_ns() > until)
			ret = err_set(&g->e, -ETIMEDOUT, "the source has not handed the guest over");
	}
	return ret;
}

/* ---- one migration ---- */

static int hand_over(struct mig *g)
{
	struct err e;
	int ret = mig_on_loop(g, load);

	ret = ret ? ret : mig_send_bytes(&g->chan, MIG_LOADED, NULL, 0, &g->e);
	ret = ret ? ret : expect(g, MIG_TAKE, MIG_WORK_MS);
	if (ret)
		return ret;
	ret = mig_on_loop(g, take_disks);
	ret = ret ? ret : mig_send_u32(&g->chan, MIG_TAKEN, g->marked ? MIG_MARKED : 0, &g->e);
	ret = ret ? ret : wait_go(g);
	if (ret) {
		mig_on_loop(g, let_go);
		return ret;
	}
	/* Not when this process ends just now: it says nothing, and the source finds that the guest has never run here. */
	ret = mig_on_loop(g, own);
	if (ret) {
		mig_on_loop(g, let_go);
		return ret;
	}
	/* Whether that arrives makes no difference any more. */
	ret = mig_send_bytes(&g->chan, MIG_RUNNING, NULL, 0, &e);
	/* The loop may come to wait for memory, which should the connection break only this thread can have come. */
	if (g->late)
		mig_post(g, run);
	else
		mig_on_loop(g, run);
	g->heard = !ret && !expect(g, MIG_DONE, DONE_MS);
	return 0;
}

static int session(struct mig *g)
{
	struct mig_rx *rx = NULL;
	struct mig_lanes_in *lanes = NULL;
	struct mig_chan late = { .in = -1, .out = -1 };
	uint8_t id[MIG_ID];
	uint32_t flags = 0;
	int ret;

	g->chan.timeout_ms = MIG_ANSWER_MS;
	ret = mig_secure(&g->chan, &g->tls, &g->e);
	ret = ret ? ret : mig_hello_read(&g->chan, id, &flags, &g->e);
	if (!ret && flags) {
		mig_turn_away(g, &g->chan, id, flags);
		return -EALREADY;
	}
	if (ret)
		return ret;
	memcpy(g->id, id, MIG_ID);
	g->known = true;
	free(g->state);
	g->state = NULL;
	g->state_len = g->state_got = 0;
	free(g->late_map);
	g->late_map = NULL;
	g->late_at = 0;
	g->late_now = false;
	ret = mig_on_loop(g, make_about);
	ret = ret ? ret : mig_send_bytes(&g->chan, MIG_ABOUT, g->about, strlen(g->about), &g->e);
	ret = ret ? ret : read_begin(g);
	if (!ret && mig_rx_new(g->vm->m->mem, &rx))
		ret = err_set(&g->e, -ENOMEM, "out of memory");
	if (!ret && (g->streams || g->may_be_late))
		ret = mig_lanes_accept(g, g->streams, g->may_be_late ? &late : NULL, rx, &lanes);
	ret = ret ? ret : receive(g, rx, lanes);
	g->chan.alarm_fd = -1;
	mig_lanes_in_free(lanes);
	mig_rx_free(rx);
	if (!ret && g->late_now) {
		ret = mig_late_begin(g, &late, g->late_map, &g->late);
		g->late_map = NULL;
	}
	mig_chan_fini(&late);
	ret = ret ? ret : hand_over(g);
	if (ret) {
		mig_late_free(g->late);
		g->late = NULL;
	}
	return ret;
}

/* Loop. */
static int say_failed(struct mig *g)
{
	pthread_mutex_lock(&g->lock);
	snprintf(g->info.error, sizeof(g->info.error), "%s", g->e.msg);
	pthread_mutex_unlock(&g->lock);
	log_warn("incoming migration: %s", g->e.msg);
	mig_status(g, VM_MIGRATE_FAILED);
	return 0;
}

/* Loop.  There is nowhere to wait for another one. */
static int end_vm(struct mig *g)
{
	err_set(g->vm->err, -EIO, "--incoming %.100s: %.380s", g->uri, g->e.msg);
	vm_request(g->vm, MACHINE_REQ_QUIT, VM_EXIT_HOST);
	return 0;
}

/* True: the guest is here. */
static bool one(struct mig *g)
{
	struct err e;
	int ret = session(g);

	if (ret && ret != -EALREADY && !atomic_load(&g->ending)) {
		/* Who did not get through TLS is told nothing more. */
		if (g->chan.in >= 0 && ret != -ECONNABORTED && !g->tls.creds == !g->chan.tls)
			mig_send_text(&g->chan, MIG_FAILED, g->e.msg, &e);
		mig_on_loop(g, say_failed);
	}
	mig_chan_fini(&g->chan);
	return !ret;
}

/* Memory that comes late goes on over this connection.  True: it is somebody else's now. */
static bool goes_on(struct mig *g, struct mig_chan *c, const uint8_t id[MIG_ID])
{
	struct err e;

	if (!g->late || memcmp(id, g->id, MIG_ID)) {
		mig_send_text(c, MIG_FAILED, "there is no such migration here", &e);
		return false;
	}
	if (!mig_late_left(g->late)) {
		mig_send_bytes(c, MIG_ALL, NULL, 0, &e);
		return false;
	}
	mig_late_go_on(g->late, c);
	return true;
}

static void unlink_socket(const char *uri)
{
	if (!strncmp(uri, "unix:", 5))
		unlink(uri + 5);
}

/* The source may not have heard that the guest runs, or that all of its memory is here. */
static void answer_questions(struct mig *g)
{
	int64_t until = loop_now_ns() + ANSWERS_S * 1000000000ll;
	uint8_t id[MIG_ID];
	struct mig_chan c;
	uint32_t flags;
	struct err e;

	while (!atomic_load(&g->ending)) {
		int ret, another = atomic_exchange(&g->listen_next, -1);

		if (g->late && mig_late_left(g->late))
			until = loop_now_ns() + ANSWERS_S * 1000000000ll;
		else if (loop_now_ns() >= until)
			break;
		if (another >= 0) {
			close(g->listen_fd);
			g->listen_fd = another;
		}
		ret = mig_accept(g->listen_fd, g->stop_fd, POLL_MS, &c, &e);
		if (ret)
			continue;
		c.timeout_ms = MIG_ANSWER_MS;
		ret = mig_secure(&c, &g->tls, &e);
		ret = ret ? ret : mig_hello_read(&c, id, &flags, &e);
		if (!ret && flags & MIG_RESUMES && goes_on(g, &c, id))
			continue;
		if (!ret && !(flags & MIG_RESUMES))
			mig_turn_away(g, &c, id, flags);
		mig_chan_fini(&c);
	}
}

void *mig_in_thread(void *opaque)
{
	struct mig *g = opaque;
	bool here = false;

	while (!here && !atomic_load(&g->ending)) {
		int ret;

		if (g->listen_fd >= 0)
			ret = mig_accept(g->listen_fd, g->stop_fd, -1, &g->chan, &g->e);
		else
			ret = mig_connect(g->uri, g->stop_fd, MIG_ANSWER_MS, &g->chan, &g->e);
		here = !ret && one(g);
		if (!here && g->listen_fd < 0) {
			mig_on_loop(g, end_vm);
			break;
		}
	}
	if (here && g->listen_fd >= 0 && (!g->heard || g->late))
		answer_questions(g);
	if (g->listen_fd >= 0) {
		close(g->listen_fd);
		g->listen_fd = -1;
		unlink_socket(g->uri);
	}
	return NULL;
}
