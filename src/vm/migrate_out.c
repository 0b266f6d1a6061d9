// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The source of a migration: see migrate.h for what is said, and who owns the guest when.
 *
 * A thread sends; what has to do with the machine is a function of the loop's (mig_on_loop).
 * Each function below of the type int (struct mig *) with "Loop" over it is such a one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/dirty.h"
#include "machine/mem_copy.h"
#include "vm/firmware.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/migrate_lanes.h"
#include "vm/migrate_late.h"
#include "vm/migrate_ram.h"
#include "vm/snapshot_int.h"

#define NS_PER_MS 1000000ll
#define NS_PER_S 1000000000ll
#define SLICE_NS (50 * NS_PER_MS)	/* in which the bandwidth is kept to */
#define CHECK_PAGES 256u		/* sent between two looks at the clock */
#define STATE_CHUNK (MIG_MAX - 64u)
#define SETTLE_MS 10000			/* in which vCPUs have to hear of a new round */
#define ASK_AGAIN_MS 300
#define CONTINUE_MS 10			/* between two looks whether it is to go on */
#define REASON_MS 100			/* in which the reason of a connection's end comes */
#define STILL_MS 60000			/* in which the guest comes to stand */
#define GIVE_UP_RATE (1ull << 20)	/* bytes a second: what a connection is taken to do before it has been measured */

/* What its pages go by: a connection, or several. */
struct way {
	struct mig *g;
	struct mig_lane own;		/* over the first connection */
	struct mig_lanes_out *lanes;	/* NULL: no others */
};

/* Figures of a round, some of several threads. */
struct round {
	struct mig *g;
	bool first, last;
	int64_t begun_ns;
	uint64_t bytes_before;
	_Atomic int64_t slept_ns;	/* all threads together */
	_Atomic uint64_t left;		/* pages */
	/* With the lock. */
	int64_t slice_ns;
	uint64_t slice_bytes;
};

static struct vm_migrate_params params_of(struct mig *g)
{
	struct vm_migrate_params p;

	pthread_mutex_lock(&g->lock);
	p = g->params;
	pthread_mutex_unlock(&g->lock);
	return p;
}

/* Compression of what goes over several connections is set apart, as QEMU has it. */
static int level_of(const struct vm_migrate_params *p)
{
	return p->streams && p->streams_level ? p->streams_level : p->zstd_level;
}

/* ---- the loop's part ---- */

/* Loop. */
static int check_about(struct mig *g)
{
	struct vm *vm = g->vm;
	int ret = mig_about_fits(g, g->about, strlen(g->about), &g->e);

	return ret ? ret : mig_disks_claim(vm, &g->e);
}

/* Loop. */
static int begin_log(struct mig *g)
{
	int ret = machine_dirty_start(g->vm->m);

	if (ret)
		return err_set(&g->e, ret, "the log of written pages: %s", strerror(-ret));
	g->has_vmgenid = vm_generation_id(g->vm, g->vmgenid);
	mig_status(g, VM_MIGRATE_ACTIVE);
	return 0;
}

/* Loop. */
static int fetch_log(struct mig *g)
{
	int ret = machine_dirty_fetch(g->vm->m, 0, g->pages, g->todo);

	return ret ? err_set(&g->e, ret, "the log of written pages: %s", strerror(-ret)) : 0;
}

/* Loop. */
static int ask_settled(struct mig *g) { return machine_dirty_settled(g->vm->m) || g->vm->paused ? 0 : -EAGAIN; }

/* Loop. */
static int stop_guest(struct mig *g)
{
	struct vm *vm = g->vm;

	vm_vcpus_throttle(vm, 0);
	g->was_running = !vm->paused && !vm->stop_wanted;
	g->stopped_ns = loop_now_ns();
	mig_status(g, VM_MIGRATE_DEVICE);
	if (!vm->paused)
		vm_stop(vm);
	g->holds = true;
	return 0;
}

/* Loop. */
static int ask_still(struct mig *g) { return g->vm->paused ? 0 : -EAGAIN; }

/* Loop.  The state first: taking it, a device may write to memory. */
static int take_state(struct mig *g)
{
	int ret;

	g->state_fd = memfd_create("guest-state", MFD_CLOEXEC);
	if (g->state_fd < 0)
		return err_set(&g->e, -errno, "memfd_create: %s", strerror(errno));
	ret = vm_state_write(g->vm, g->state_fd, &g->e);
	return ret ? ret : fetch_log(g);
}

/* Loop. */
static int let_disks_go(struct mig *g)
{
	int ret = mig_disks_close(g->vm, &g->e);

	if (!ret)
		vm_vars_release(g->vm);
	return ret;
}

/* Loop.  The last moment at which it can be had back without asking. */
static int give_away(struct mig *g)
{
	if (atomic_load(&g->cancelled))
		return err_set(&g->e, -ECANCELED, "it was cancelled");
	g->gone = true;
	return 0;
}

/* Loop.  Opens what is closed. */
static int have_disks_back(struct mig *g)
{
	int ret = mig_disks_open(g->vm, &g->e);

	return ret ? ret : vm_vars_take(g->vm, &g->e);
}

/* Loop. */
static int go_on(struct mig *g)
{
	struct vm *vm = g->vm;

	vm_vcpus_throttle(vm, 0);
	machine_dirty_stop(vm->m);
	mig_disks_unclaim(vm);
	g->gone = g->holds = g->take_back = false;
	pthread_mutex_lock(&g->lock);
	g->info.in_doubt = false;
	g->info.downtime_ns = 0;
	pthread_mutex_unlock(&g->lock);
	atomic_store(&g->done, true);
	if (g->was_running)
		vm_resume(vm);
	mig_status(g, atomic_load(&g->cancelled) ? VM_MIGRATE_CANCELLED : VM_MIGRATE_FAILED);
	return 0;
}

/* Loop. */
static int is_gone(struct mig *g)
{
	machine_dirty_stop(g->vm->m);
	mig_disks_unclaim(g->vm);
	g->gone = true;
	pthread_mutex_lock(&g->lock);
	g->info.in_doubt = false;
	g->info.total_ns = loop_now_ns() - g->begun_ns;
	if (!g->info.downtime_ns)
		g->info.downtime_ns = loop_now_ns() - g->stopped_ns;
	g->info.ram_remaining = 0;
	pthread_mutex_unlock(&g->lock);
	atomic_store(&g->done, true);
	log_info("the guest has gone to %s", g->uri);
	mig_status(g, VM_MIGRATE_COMPLETED);
	return 0;
}

/* Loop. */
static int say_doubt(struct mig *g)
{
	pthread_mutex_lock(&g->lock);
	g->info.in_doubt = true;
	snprintf(g->info.error, sizeof(g->info.error), "the connection was lost while the guest was handed over: whether the destination has it "
		 "is being asked there");
	pthread_mutex_unlock(&g->lock);
	log_warn("migration: %s", g->info.error);
	return 0;
}

/* ---- answers ---- */

/* The next record, which is to be of this type; MIG_FAILED says why it is not to be. */
static int expect(struct mig *g, enum mig_type type, int timeout_ms, struct err *e)
{
	struct mig_record r;
	char why[300];
	int ret;

	g->chan.timeout_ms = timeout_ms;
	ret = mig_recv(&g->chan, &r, e);
	if (ret)
		return ret;
	if (r.type == type)
		return (int)r.len;
	if (r.type != MIG_FAILED)
		return err_set(e, -EPROTO, "the destination said '%s' where '%s' was due", mig_type_name(r.type), mig_type_name(type));
	mig_text(&g->chan, &r, why, sizeof(why));
	return err_set(e, -EREMOTEIO, "the destination says: %s", why);
}

/* A destination that gives up says why before it closes the connection. */
static void hear_why(struct mig *g)
{
	struct err e;

	if (g->chan.in >= 0 && expect(g, MIG_TYPES, REASON_MS, &e) == -EREMOTEIO)
		g->e = e;
}

int mig_hello(struct mig *g, struct mig_chan *c, uint32_t flags, struct err *e)
{
	uint8_t p[8 + MIG_ID + sizeof(LODGE_VERSION)];

	st_le32(p, MIG_VERSION);
	st_le32(p + 4, flags);
	memcpy(p + 8, g->id, MIG_ID);
	memcpy(p + 8 + MIG_ID, LODGE_VERSION, sizeof(LODGE_VERSION));
	return mig_send_bytes(c, MIG_HELLO, p, sizeof(p), e);
}

static int look_at_destination(struct mig *g)
{
	struct err e;
	int ret = mig_connect(g->uri, g->stop_fd, MIG_ANSWER_MS, &g->chan, &g->e), len;

	g->chan.timeout_ms = MIG_ANSWER_MS;
	ret = ret ? ret : mig_secure(&g->chan, &g->tls, &g->e);
	ret = ret ? ret : mig_hello(g, &g->chan, 0, &g->e);
	if (ret)
		return ret;
	len = expect(g, MIG_ABOUT, MIG_ANSWER_MS, &g->e);
	if (len < 0)
		return len;
	g->about = strndup((const char *)g->chan.buf, (size_t)len);
	if (!g->about)
		return err_set(&g->e, -ENOMEM, "out of memory");
	ret = mig_on_loop(g, check_about);
	if (ret)
		mig_send_text(&g->chan, MIG_REFUSE, g->e.msg, &e);
	return ret;
}

static int begin(struct mig *g)
{
	uint8_t p[4 + 16 + 4];
	int ret = mig_on_loop(g, begin_log);

	if (ret)
		return ret;
	pthread_mutex_lock(&g->lock);
	g->info.setup_ns = loop_now_ns() - g->begun_ns;
	pthread_mutex_unlock(&g->lock);
	st_le32(p, (g->has_vmgenid ? MIG_GENID : 0) | (g->may_be_late ? MIG_MAY_BE_LATE : 0));
	memcpy(p + 4, g->vmgenid, 16);
	st_le32(p + 20, g->streams);
	return mig_send_bytes(&g->chan, MIG_BEGIN, p, sizeof(p), &g->e);
}

/* ---- memory ---- */

static int wait_settled(struct mig *g)
{
	for (unsigned k = 0; k < SETTLE_MS; k++) {
		int ret = mig_on_loop(g, ask_settled);

		if (ret != -EAGAIN)
			return ret;
		ret = mig_sleep(g, 1);
		if (ret)
			return err_set(&g->e, ret, "it was cancelled");
	}
	return err_set(&g->e, -ETIMEDOUT, "a vCPU has not answered for %d seconds", SETTLE_MS / 1000);
}

/* With the lock: of all connections. */
static uint64_t sent_bytes(const struct mig *g)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < ARRAY_LEN(g->lane); i++)
		sum += g->lane[i].sent;
	return sum;
}

/* With the lock. */
static void add_stats(struct mig *g, uint64_t left)
{
	struct mig_tx_stats all = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(g->lane); i++) {
		all.normal += g->lane[i].s.normal;
		all.zero += g->lane[i].s.zero;
		all.compressed_in += g->lane[i].s.compressed_in;
		all.compressed_out += g->lane[i].s.compressed_out;
	}
	g->info.transferred = sent_bytes(g);
	g->info.multifd_bytes = g->info.transferred - g->lane[MIG_LANES_MAX].sent;
	g->info.ram_remaining = left * PAGE_4K;
	g->info.normal = all.normal;
	g->info.zero = all.zero;
	g->info.compressed_in = all.compressed_in;
	g->info.compressed_out = all.compressed_out;
}

/* Keeps to the bandwidth, which is all connections' together, and tells how far it is. */
static int pace(struct round *r, struct mig_lane *lane, struct err *e)
{
	struct mig *g = r->g;
	int64_t now = loop_now_ns(), due = now;
	uint64_t most;

	pthread_mutex_lock(&g->lock);
	g->lane[lane->no].sent = lane->chan->sent_bytes;
	mig_tx_stats(lane->tx, &g->lane[lane->no].s);
	add_stats(g, atomic_load(&r->left));
	most = r->last ? 0 : g->params.max_bandwidth;
	if (most)
		due = r->slice_ns + (int64_t)((double)(g->info.transferred - r->slice_bytes) * NS_PER_S / (double)most);
	if (now - r->slice_ns > SLICE_NS) {
		r->slice_ns = MAX(now, due);
		r->slice_bytes = g->info.transferred;
	}
	pthread_mutex_unlock(&g->lock);
	if (atomic_load(&g->cancelled) || atomic_load(&g->ending))
		return err_set(e, -ECANCELED, "it was cancelled");
	if (due <= now)
		return 0;
	atomic_fetch_add(&r->slept_ns, due - now);
	return mig_sleep(g, (int)MIN((due - now) / NS_PER_MS + 1, 1000)) ? err_set(e, -ECANCELED, "it was cancelled") : 0;
}

static uint64_t count_todo(const struct mig *g)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < (g->pages + 63) / 64; w++)
		n += (uint64_t)__builtin_popcountll(g->todo[w]);
	return n;
}

/* Those of a lane's pages that are to be sent; in the first round the others are zeros, and said to be.  A word of the map is one lane's. */
static int send_pages(void *opaque, struct mig_lane *lane, struct err *e)
{
	struct round *r = opaque;
	struct mig *g = r->g;
	unsigned since = 0;
	int ret = 0;

	for (uint64_t w = lane->no % lane->n; w < (g->pages + 63) / 64 && !ret; w += lane->n) {
		uint64_t map = g->todo[w], n = MIN(g->pages - w * 64, 64u);

		/* What has not been sent is left for later; that something is zeros has not been said either. */
		if (!r->last && atomic_load_explicit(&g->late_asked, memory_order_relaxed)) {
			if (r->first)
				g->todo[w] = n < 64 ? BIT64(n) - 1 : UINT64_MAX;
			continue;
		}
		g->todo[w] = 0;
		for (unsigned i = 0; i < n && !ret && (map || r->first); i++)
			if (r->first || map & BIT64(i))
				ret = mig_tx_page(lane->tx, w * 64 + i, !(map & BIT64(i)), e);
		since += (unsigned)__builtin_popcountll(map);
		atomic_fetch_sub(&r->left, (uint64_t)__builtin_popcountll(map));
		if (!ret && since >= CHECK_PAGES) {
			since = 0;
			ret = pace(r, lane, e);
		}
	}
	ret = ret ? ret : mig_tx_flush(lane->tx, e);
	ret = ret ? ret : pace(r, lane, e);
	ret = ret ? ret : mig_send_bytes(lane->chan, MIG_ROUND, NULL, 0, e);
	if (!ret && r->last && lane->chan != &g->chan)
		ret = mig_send_bytes(lane->chan, MIG_COMPLETE, NULL, 0, e);
	return ret;
}

/* What has been sent when nobody is sending. */
static uint64_t sent_so_far(struct mig *g)
{
	uint64_t n;

	pthread_mutex_lock(&g->lock);
	g->lane[MIG_LANES_MAX].sent = g->chan.sent_bytes;
	n = sent_bytes(g);
	pthread_mutex_unlock(&g->lock);
	return n;
}

/* Bytes a second that the connections take when they are let. */
static double rate_of(struct round *r, uint64_t bytes, unsigned n)
{
	int64_t ns = loop_now_ns() - r->begun_ns - atomic_load(&r->slept_ns) / n;

	return ns > 0 ? (double)bytes * NS_PER_S / (double)ns : 0;
}

static int one_round(struct mig *g, struct way *w, bool first, bool last, double *rate, uint64_t *sent)
{
	struct round r = { .g = g, .first = first, .last = last, .begun_ns = loop_now_ns(), .slice_ns = loop_now_ns(), .bytes_before = sent_so_far(g) };
	uint64_t n = count_todo(g), bytes;
	int64_t ns;
	int ret;

	r.slice_bytes = r.bytes_before;
	r.left = n;
	ret = w->lanes ? mig_lanes_do(w->lanes, send_pages, &r) : send_pages(&r, &w->own, &g->e);
	if (!ret && w->lanes)
		ret = mig_send_bytes(&g->chan, MIG_ROUND, NULL, 0, &g->e);
	ns = loop_now_ns() - r.begun_ns;
	bytes = sent_so_far(g) - r.bytes_before;
	*sent = n;
	/* A round of a few pages measures nothing. */
	if (n >= CHECK_PAGES || !*rate)
		*rate = MAX(rate_of(&r, bytes, MAX(g->streams, 1)), (double)GIVE_UP_RATE);
	pthread_mutex_lock(&g->lock);
	g->info.rounds++;
	g->info.mbps = ns > 0 ? (double)bytes * 8e3 / (double)ns : 0;
	pthread_mutex_unlock(&g->lock);
	return ret;
}

/* Loop. */
static int slow_down(struct mig *g)
{
	struct vm_migrate_params p = params_of(g);
	unsigned now = atomic_load(&g->vm->throttle), next = now ? now + p.throttle_increment : p.throttle_initial;

	next = MIN(next, p.throttle_max);
	pthread_mutex_lock(&g->lock);
	g->info.throttle = next;
	pthread_mutex_unlock(&g->lock);
	vm_vcpus_throttle(g->vm, next);
	return 0;
}

/* Rounds until what is left can be sent while the guest stands still. */
static int precopy(struct mig *g, struct way *w)
{
	double rate = 0;
	uint64_t sent, left;
	int64_t begun;
	unsigned slow = 0;
	int ret = wait_settled(g);

	if (!ret)
		mem_ram_used(g->vm->m->mem, g->todo);
	for (bool first = true; !ret; first = false) {
		struct vm_migrate_params p = params_of(g);

		begun = loop_now_ns();
		ret = one_round(g, w, first, false, &rate, &sent);
		ret = ret ? ret : mig_on_loop(g, fetch_log);
		if (ret)
			return ret;
		left = count_todo(g);
		pthread_mutex_lock(&g->lock);
		g->info.dirty_rate = left * NS_PER_S / (uint64_t)MAX(loop_now_ns() - begun, NS_PER_MS);
		g->info.ram_remaining = left * PAGE_4K;
		g->info.expected_downtime_ns = (int64_t)((double)left * PAGE_4K / rate * NS_PER_S);
		pthread_mutex_unlock(&g->lock);
		if ((double)left * PAGE_4K <= rate * (double)p.downtime_limit_ms / 1000 || atomic_load(&g->late_asked))
			return 0;
		slow = left > sent / 2 ? slow + 1 : 0;
		if (p.auto_converge && slow >= 2) {
			slow = 0;
			ret = mig_on_loop(g, slow_down);
		}
		ret = ret ? ret : wait_settled(g);
	}
	return ret;
}

/* ---- the guest stands still ---- */

static int wait_still(struct mig *g)
{
	for (unsigned k = 0; k < STILL_MS; k++) {
		int ret = mig_on_loop(g, ask_still);

		if (ret != -EAGAIN)
			return ret;
		ret = mig_sleep(g, 1);
		if (ret)
			return err_set(&g->e, ret, "it was cancelled");
	}
	return err_set(&g->e, -ETIMEDOUT, "the guest has not come to stand for %d seconds", STILL_MS / 1000);
}

/* Loop. */
static int say_pre_switchover(struct mig *g)
{
	mig_status(g, VM_MIGRATE_PRE_SWITCHOVER);
	return 0;
}

/* Loop. */
static int say_device(struct mig *g)
{
	mig_status(g, VM_MIGRATE_DEVICE);
	return 0;
}

/* The destination hears something now and then. */
static int wait_continue(struct mig *g)
{
	int64_t said = loop_now_ns();
	int ret = params_of(g).pause ? mig_on_loop(g, say_pre_switchover) : 1;

	if (ret)
		return ret > 0 ? 0 : ret;
	while (!ret && !atomic_load(&g->go_on)) {
		if (mig_sleep(g, CONTINUE_MS))
			ret = err_set(&g->e, -ECANCELED, "it was cancelled");
		if (!ret && loop_now_ns() - said > MIG_WORK_MS / 6 * NS_PER_MS) {
			said = loop_now_ns();
			ret = mig_send_bytes(&g->chan, MIG_ROUND, NULL, 0, &g->e);
		}
	}
	return ret ? ret : mig_on_loop(g, say_device);
}

static int send_state(struct mig *g)
{
	struct stat st;
	uint8_t head[16], *p;
	int ret = fstat(g->state_fd, &st) ? -errno : 0;

	p = ret ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, g->state_fd, 0);
	if (p == MAP_FAILED)
		return err_set(&g->e, -errno, "the guest's state: %s", strerror(errno));
	for (uint64_t at = 0; at < (uint64_t)st.st_size && !ret; at += STATE_CHUNK) {
		size_t len = MIN((size_t)st.st_size - at, (size_t)STATE_CHUNK);
		const struct iovec iov[2] = { { head, sizeof(head) }, { p + at, len } };

		st_le64(head, (uint64_t)st.st_size);
		st_le64(head + 8, at);
		ret = mig_send(&g->chan, MIG_STATE, iov, 2, &g->e);
	}
	munmap(p, (size_t)st.st_size);
	return ret;
}

/* A lane without any more work. */
static int end_lane(void *opaque, struct mig_lane *lane, struct err *e)
{
	return mig_send_bytes(lane->chan, MIG_COMPLETE, NULL, 0, e);
}

/* Which pages come later. */
static int leave_pages(struct mig *g, struct way *w)
{
	int ret = w->lanes ? mig_lanes_do(w->lanes, end_lane, NULL) : 0;

	return ret ? ret : mig_map_send(&g->chan, MIG_LATE, g->todo, g->pages, &g->e);
}

static int stop_and_copy(struct mig *g, struct way *w)
{
	double rate = 0;
	uint64_t sent;
	int ret = mig_on_loop(g, stop_guest);

	ret = ret ? ret : wait_still(g);
	ret = ret ? ret : wait_continue(g);
	ret = ret ? ret : mig_on_loop(g, take_state);
	g->late_now = atomic_load(&g->late_asked);
	if (!ret)
		ret = g->late_now ? leave_pages(g, w) : one_round(g, w, false, true, &rate, &sent);
	ret = ret ? ret : send_state(g);
	return ret ? ret : mig_send_u32(&g->chan, MIG_COMPLETE, (g->was_running ? MIG_RUNS : 0) | (g->late_now ? MIG_COMES_LATE : 0), &g->e);
}

/* ---- memory that comes after its guest ---- */

static void *serve_late(void *opaque)
{
	struct mig *g = opaque;

	g->late_out.ret = mig_late_serve(g, &g->late_out.chan, level_of(&g->params), &g->late_out.e);
	if (g->late_out.ret)
		eventfd_write(g->late_out.alarm_fd, 1);
	return NULL;
}

static int begin_late(struct mig *g)
{
	int ret;

	g->late_out.alarm_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->late_out.alarm_fd < 0)
		return err_set(&g->e, -errno, "eventfd: %s", strerror(errno));
	g->chan.alarm_fd = g->late_out.alarm_fd;
	ret = pthread_create(&g->late_out.thread, NULL, serve_late, g);
	g->late_out.has_thread = !ret;
	return ret ? err_set(&g->e, -ret, "a thread cannot be started: %s", strerror(ret)) : 0;
}

static int join_late(struct mig *g)
{
	if (!g->late_out.has_thread)
		return -EPIPE;
	pthread_join(g->late_out.thread, NULL);
	g->late_out.has_thread = false;
	return g->late_out.ret;
}

/* The guest stays here. */
static void drop_late(struct mig *g)
{
	if (g->late_out.chan.in >= 0)
		shutdown(g->late_out.chan.in, SHUT_RDWR);
	if (g->late_out.has_thread)
		join_late(g);
	mig_chan_fini(&g->late_out.chan);
}

/* Loop. */
static int say_late(struct mig *g)
{
	pthread_mutex_lock(&g->lock);
	g->info.in_doubt = false;
	g->info.downtime_ns = loop_now_ns() - g->stopped_ns;
	g->info.error[0] = '\0';
	pthread_mutex_unlock(&g->lock);
	mig_status(g, VM_MIGRATE_POSTCOPY_ACTIVE);
	return 0;
}

/* Loop. */
static int say_active_again(struct mig *g)
{
	mig_status(g, VM_MIGRATE_POSTCOPY_ACTIVE);
	return 0;
}

/* Loop. */
static int say_recovering(struct mig *g)
{
	mig_status(g, VM_MIGRATE_POSTCOPY_RECOVER);
	return 0;
}

/* Loop. */
static int say_paused(struct mig *g)
{
	pthread_mutex_lock(&g->lock);
	snprintf(g->info.error, sizeof(g->info.error), "%s", g->late_out.e.msg);
	pthread_mutex_unlock(&g->lock);
	log_warn("migration: the guest runs elsewhere, without all of its memory: %s", g->late_out.e.msg);
	mig_status(g, VM_MIGRATE_POSTCOPY_PAUSED);
	return 0;
}

/* Until somebody says where to go on; false: the VM ends. */
static bool wait_resume(struct mig *g)
{
	char *uri = NULL;

	while (!uri && !atomic_load(&g->ending)) {
		mig_sleep(g, 1000);
		mig_unwake(g);
		pthread_mutex_lock(&g->lock);
		uri = g->resume_uri;
		g->resume_uri = NULL;
		pthread_mutex_unlock(&g->lock);
	}
	if (!uri)
		return false;
	free(g->uri);
	g->uri = uri;
	return true;
}

/* What is missing there is to be sent: 0; 1: nothing is. */
static int resume(struct mig *g)
{
	struct mig_chan *c = &g->late_out.chan;
	struct err *e = &g->late_out.e;
	struct mig_record r;
	uint64_t at = 0;
	char why[300];
	int ret;

	mig_chan_fini(c);
	ret = mig_connect(g->uri, g->stop_fd, MIG_ANSWER_MS, c, e);
	if (ret)
		return ret;
	c->timeout_ms = MIG_ANSWER_MS;
	ret = mig_secure(c, &g->tls, e);
	ret = ret ? ret : mig_hello(g, c, MIG_RESUMES, e);
	while (!ret && at < g->pages) {
		ret = mig_recv(c, &r, e);
		if (ret)
			break;
		if (r.type == MIG_ALL)
			return 1;
		if (r.type == MIG_MISSING) {
			ret = mig_map_take(g->todo, g->pages, &at, c->buf, r.len, e);
			continue;
		}
		mig_text(c, &r, why, sizeof(why));
		ret = err_set(e, -EREMOTEIO, "the destination says: %s", r.type == MIG_FAILED ? why : mig_type_name(r.type));
	}
	return ret;
}

/* The guest is the destination's, and its memory goes there until all is there. */
static void finish_late(struct mig *g)
{
	int ret;

	mig_on_loop(g, say_late);
	ret = join_late(g);
	while (ret < 0) {
		mig_chan_fini(&g->late_out.chan);
		mig_on_loop(g, say_paused);
		if (!wait_resume(g))
			break;
		mig_on_loop(g, say_recovering);
		ret = resume(g);
		if (ret)
			continue;
		mig_on_loop(g, say_active_again);
		ret = mig_late_serve(g, &g->late_out.chan, level_of(&g->params), &g->late_out.e);
	}
	mig_chan_fini(&g->late_out.chan);
}

/* Up to the moment before `go`. */
static int hand_over(struct mig *g)
{
	int ret = expect(g, MIG_LOADED, MIG_WORK_MS, &g->e);

	ret = ret < 0 ? ret : mig_on_loop(g, let_disks_go);
	ret = ret < 0 ? ret : mig_send_bytes(&g->chan, MIG_TAKE, NULL, 0, &g->e);
	ret = ret < 0 ? ret : expect(g, MIG_TAKEN, MIG_WORK_MS, &g->e);
	if (ret < 0)
		return ret;
	g->marked = ret >= 4 && ld_le32(g->chan.buf) & MIG_MARKED;
	return mig_on_loop(g, give_away);
}

static int open_way(struct mig *g, struct way *w)
{
	struct vm_migrate_params p = params_of(g);
	int ret = 0;

	*w = (struct way){ .g = g, .own = { .g = g, .no = MIG_LANES_MAX, .n = 1, .chan = &g->chan } };
	g->todo = calloc((g->pages + 63) / 64, 8);
	if (!g->todo || mig_tx_new(g->vm->m->mem, &g->chan, level_of(&p), &w->own.tx))
		return err_set(&g->e, -ENOMEM, "out of memory");
	g->chan.timeout_ms = MIG_WORK_MS;
	ret = begin(g);
	if (!ret && g->streams)
		ret = mig_lanes_connect(g, g->streams, level_of(&p), &w->lanes);
	if (!ret && g->may_be_late)
		ret = mig_join(g, MIG_LANE_LATE, &g->late_out.chan, &g->e);
	return ret;
}

static int send_all(struct mig *g)
{
	struct way w = { NULL };
	int ret = look_at_destination(g);

	ret = ret ? ret : open_way(g, &w);
	ret = ret ? ret : precopy(g, &w);
	ret = ret ? ret : stop_and_copy(g, &w);
	/* The destination says on the first connection what was wrong with another. */
	if (ret == -EPIPE)
		hear_why(g);
	mig_lanes_out_free(w.lanes);
	mig_tx_free(w.own.tx);
	if (!ret && !g->late_now)
		mig_chan_fini(&g->late_out.chan);
	ret = ret ? ret : g->late_now ? begin_late(g) : 0;
	if (!ret) {
		ret = hand_over(g);
		if (ret == -EPIPE)
			hear_why(g);
		if (ret == -ENOLINK && join_late(g))
			g->e = g->late_out.e;
	}
	g->chan.alarm_fd = -1;
	return ret;
}

/* ---- in doubt ---- */

/* What the destination says of it, if it can be asked. */
static enum mig_answer ask(struct mig *g)
{
	enum mig_answer a = MIG_UNKNOWN;
	struct err e;

	mig_chan_fini(&g->chan);
	if (!g->listening || mig_connect(g->uri, g->stop_fd, MIG_ANSWER_MS, &g->chan, &e))
		return a;
	g->chan.timeout_ms = MIG_ANSWER_MS;
	if (!mig_secure(&g->chan, &g->tls, &e) && !mig_hello(g, &g->chan, MIG_ASKS, &e) && expect(g, MIG_ANSWER, MIG_ANSWER_MS, &e) >= 4)
		a = (enum mig_answer)ld_le32(g->chan.buf);
	mig_chan_fini(&g->chan);
	return a <= MIG_STARTED ? a : MIG_UNKNOWN;
}

/* Loop.  Whose the disks are, if they are free and say so: 0: ours; EOWNERDEAD: the destination had them. */
static int ask_disks(struct mig *g)
{
	bool word = g->take_back;
	enum mig_mark mark;
	int ret;

	if (!word && !g->marked)
		return -EAGAIN;
	ret = have_disks_back(g);
	if (ret)
		return ret;
	mark = mig_disks_marked(g->vm, g->id);
	if (word || mark == MIG_MARK_OFFERED)
		return 0;
	let_disks_go(g);
	/* The destination saw marks that this host does not: it is for somebody to decide. */
	g->marked = mark != MIG_MARK_NONE;
	return mark == MIG_MARK_TAKEN ? -EOWNERDEAD : -EAGAIN;
}

static void say_dead(struct mig *g)
{
	g->died = true;
	pthread_mutex_lock(&g->lock);
	snprintf(g->info.error, sizeof(g->info.error), "the destination took the guest over, and has ended since");
	pthread_mutex_unlock(&g->lock);
}

/* `go` was sent and nothing heard.  Nothing happens here until it is known whose the guest is. True: ours. */
static bool resolve(struct mig *g)
{
	mig_on_loop(g, say_doubt);
	for (;;) {
		enum mig_answer a = ask(g);
		int ret = a == MIG_UNKNOWN ? mig_on_loop(g, ask_disks) : 0;

		if (atomic_load(&g->ending))
			return false;
		if (a == MIG_STARTED)
			return false;
		if (a == MIG_NEVER || !ret)
			return true;
		if (ret == -EOWNERDEAD) {
			say_dead(g);
			return false;
		}
		mig_sleep(g, ASK_AGAIN_MS);
		mig_unwake(g);
	}
}

/* ---- back ---- */

/* The guest goes on here, as soon as its disks are free. */
static void take_back(struct mig *g)
{
	struct err e;

	pthread_mutex_lock(&g->lock);
	snprintf(g->info.error, sizeof(g->info.error), "%s", atomic_load(&g->cancelled) ? "" : g->e.msg);
	pthread_mutex_unlock(&g->lock);
	if (g->chan.in >= 0 && atomic_load(&g->cancelled))
		mig_send_bytes(&g->chan, MIG_CANCEL, NULL, 0, &e);
	mig_chan_fini(&g->chan);
	while (mig_on_loop(g, have_disks_back) && !atomic_load(&g->ending)) {
		log_warn("migration: the guest waits for its disks: %s", g->e.msg);
		mig_unwake(g);
		mig_sleep(g, ASK_AGAIN_MS);
	}
	mig_on_loop(g, go_on);
}

void *mig_out_thread(void *opaque)
{
	struct mig *g = opaque;
	struct err e;
	int ret = send_all(g);
	bool ours = ret != 0;

	if (!ret) {
		mig_unwake(g);
		ret = mig_send_bytes(&g->chan, MIG_GO, NULL, 0, &e);
		ret = ret ? ret : expect(g, MIG_RUNNING, MIG_ANSWER_MS, &e);
		if (ret < 0) {
			snprintf(g->e.msg, sizeof(g->e.msg), "%.500s", e.msg);
			ours = resolve(g);
		} else {
			mig_send_bytes(&g->chan, MIG_DONE, NULL, 0, &e);
		}
	}
	if (ours && g->e.msg[0] && !atomic_load(&g->cancelled))
		log_warn("migration: %s", g->e.msg);
	if (ours) {
		drop_late(g);
		take_back(g);
	} else {
		if (g->late_now && !g->died)
			finish_late(g);
		else
			drop_late(g);
		mig_on_loop(g, is_gone);
	}
	mig_chan_fini(&g->chan);
	return NULL;
}
