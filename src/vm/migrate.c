// SPDX-License-Identifier: GPL-2.0-or-later
/* What both sides of a migration have in common, and what others ask of them: see migrate.h, migrate_int.h. */
#include "vm/migrate.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/migrate_late.h"
#include "vm/snapshot_int.h"
#include "vm/tls.h"

#define BANDWIDTH_DEFAULT (128ull << 20)
#define DOWNTIME_DEFAULT_MS 300

const char *vm_migrate_status_name(enum vm_migrate_status s)
{
	static const char *const names[] = {
		[VM_MIGRATE_NONE] = "none", [VM_MIGRATE_SETUP] = "setup", [VM_MIGRATE_ACTIVE] = "active", [VM_MIGRATE_DEVICE] = "device",
		[VM_MIGRATE_CANCELLING] = "cancelling", [VM_MIGRATE_CANCELLED] = "cancelled", [VM_MIGRATE_COMPLETED] = "completed",
		[VM_MIGRATE_FAILED] = "failed", [VM_MIGRATE_POSTCOPY_ACTIVE] = "postcopy-active", [VM_MIGRATE_POSTCOPY_PAUSED] = "postcopy-paused",
		[VM_MIGRATE_POSTCOPY_RECOVER] = "postcopy-recover",
		[VM_MIGRATE_PRE_SWITCHOVER] = "pre-switchover",
	};

	return names[s];
}

/* ---- the object ---- */

/* Loop thread, machine lock held. */
static void on_call(void *opaque)
{
	struct mig *g = opaque;
	int ret = g->fn(g);

	pthread_mutex_lock(&g->lock);
	g->fn_ret = ret;
	g->fn_done = true;
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

/* Loop thread, machine lock held: memory that comes late does so, does not, or is there. */
static void on_late(void *opaque)
{
	struct mig *g = opaque;
	enum vm_migrate_status s;

	pthread_mutex_lock(&g->lock);
	s = g->late_status;
	pthread_mutex_unlock(&g->lock);
	/* Until then it is mig_in_thread's to say. */
	if (s == VM_MIGRATE_NONE || !g->owner || g->holds || g->info.status == VM_MIGRATE_COMPLETED)
		return;
	if (s == VM_MIGRATE_COMPLETED)
		mig_late_done(g);
	mig_status(g, s);
}

struct mig *mig_new(struct vm *vm, const char *uri, struct err *e)
{
	struct mig *g = calloc(1, sizeof(*g));

	if (g) {
		g->vm = vm;
		g->chan.in = g->chan.out = g->state_fd = g->listen_fd = -1;
		g->late_out.chan.in = g->late_out.chan.out = g->late_out.alarm_fd = -1;
		g->listen_next = -1;
		g->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		g->uri = strdup(uri);
		pthread_mutex_init(&g->lock, NULL);
		pthread_cond_init(&g->cond, NULL);
		loop_bh_init(vm->m->loop, &g->call, on_call, g);
		loop_bh_init(vm->m->loop, &g->late_bh, on_late, g);
	}
	if (g && g->stop_fd >= 0 && g->uri)
		return g;
	err_set(e, -ENOMEM, "out of memory or descriptors");
	mig_free(g);
	return NULL;
}

int mig_start(struct mig *g, void *(*thread)(void *), struct err *e)
{
	int ret = pthread_create(&g->thread, NULL, thread, g);

	g->has_thread = !ret;
	return ret ? err_set(e, -ret, "a thread cannot be started: %s", strerror(ret)) : 0;
}

void mig_free(struct mig *g)
{
	if (!g)
		return;
	atomic_store(&g->ending, true);
	if (g->stop_fd >= 0)
		mig_wake(g);
	pthread_mutex_lock(&g->lock);
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
	if (g->has_thread)
		pthread_join(g->thread, NULL);
	mig_late_free(g->late);
	loop_bh_cancel(&g->call);
	loop_bh_cancel(&g->late_bh);
	mig_chan_fini(&g->late_out.chan);
	if (g->late_out.alarm_fd >= 0)
		close(g->late_out.alarm_fd);
	if (g->listen_next >= 0)
		close(g->listen_next);
	free(g->late_map);
	free(g->resume_uri);
	mig_chan_fini(&g->chan);
	if (g->stop_fd >= 0)
		close(g->stop_fd);
	if (g->state_fd >= 0)
		close(g->state_fd);
	if (g->listen_fd >= 0)
		close(g->listen_fd);
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->cond);
	mig_tls_free(&g->tls);
	free(g->about);
	free(g->state);
	free(g->todo);
	free(g->uri);
	free(g);
}

void mig_post(struct mig *g, int (*fn)(struct mig *g))
{
	pthread_mutex_lock(&g->lock);
	g->fn = fn;
	g->fn_done = false;
	pthread_mutex_unlock(&g->lock);
	loop_bh_post(&g->call);
}

int mig_on_loop(struct mig *g, int (*fn)(struct mig *g))
{
	int ret;

	mig_post(g, fn);
	pthread_mutex_lock(&g->lock);
	while (!g->fn_done && !atomic_load(&g->ending))
		pthread_cond_wait(&g->cond, &g->lock);
	ret = g->fn_done ? g->fn_ret : -ECANCELED;
	pthread_mutex_unlock(&g->lock);
	return ret;
}

void mig_status(struct mig *g, enum vm_migrate_status s)
{
	bool same;

	pthread_mutex_lock(&g->lock);
	same = g->info.status == s;
	g->info.status = s;
	pthread_mutex_unlock(&g->lock);
	if (!same)
		vm_tell(g->vm, VM_EVENT_MIGRATION, VM_CAUSE_NONE);
}

int mig_sleep(struct mig *g, int ms)
{
	struct pollfd p = { .fd = g->stop_fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0 ? -ECANCELED : 0;
}

void mig_wake(struct mig *g) { eventfd_write(g->stop_fd, 1); }

void mig_unwake(struct mig *g)
{
	eventfd_t n;

	eventfd_read(g->stop_fd, &n);
}

/* ---- parameters ---- */

void vm_migrate_defaults(struct vm_migrate_params *p)
{
	*p = (struct vm_migrate_params){ .max_bandwidth = BANDWIDTH_DEFAULT, .downtime_limit_ms = DOWNTIME_DEFAULT_MS, .zstd_wanted = 1, .streams_wanted = 2, .streams_level_wanted = 1, .throttle_initial = 20,
					 .throttle_increment = 10, .throttle_max = 99 };
}

const struct vm_migrate_params *vm_migrate_params(const struct vm *vm) { return &vm->mig_params; }

void vm_migrate_set_params(struct vm *vm, const struct vm_migrate_params *p)
{
	struct mig *g = vm->mig_out;

	vm->mig_params = *p;
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->params = *p;
	pthread_mutex_unlock(&g->lock);
}

void vm_migrate_info(const struct vm *vm, struct vm_migrate_info *out)
{
	struct mig *g = vm->mig_out ? vm->mig_out : vm->mig_in;

	*out = (struct vm_migrate_info){ .status = VM_MIGRATE_NONE };
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	*out = g->info;
	if (!out->total_ns && g->begun_ns)
		out->total_ns = loop_now_ns() - g->begun_ns;
	pthread_mutex_unlock(&g->lock);
	out->incoming = g == vm->mig_in;
}

/* ---- TLS ---- */

/* What is set now, for as long as this migration lasts. */
static int take_tls(struct mig *g, const char *uri, bool server, struct err *e)
{
	struct vm *vm = g->vm;
	const struct vm_migrate_params *p = &vm->mig_params;
	const char *authz = NULL;
	int ret = 0;

	/* A destination may have those that its configuration names. */
	if (!*p->tls_creds)
		return 0;
	mig_tls_free(&g->tls);
	ret = vm_tls_creds(vm, p->tls_creds, server, &g->tls.creds, e);
	if (!ret && server && *p->tls_authz)
		ret = vm_tls_authz(vm, p->tls_authz, &authz, e);
	if (!ret && authz && !(g->tls.authz = strdup(authz)))
		ret = err_set(e, -ENOMEM, "out of memory");
	if (!ret && !server) {
		g->tls.host = *p->tls_hostname ? strdup(p->tls_hostname) : mig_uri_host(uri);
		if (!g->tls.host && vm_tls_verifies(vm, p->tls_creds))
			ret = err_set(e, -EINVAL, "%.100s has no host's name: the parameter tls-hostname says which one the destination's certificate is to have", uri);
	}
	return ret;
}

/* ---- the source's beginning ---- */

/* One that has come to its end. */
static void forget_last(struct vm *vm)
{
	struct mig *g = vm->mig_out;

	vm->mig_out = NULL;
	mig_free(g);
}

static bool is_late(const struct mig *g)
{
	return g && (g->info.status == VM_MIGRATE_POSTCOPY_ACTIVE || g->info.status == VM_MIGRATE_POSTCOPY_PAUSED || g->info.status == VM_MIGRATE_POSTCOPY_RECOVER);
}

int vm_migrate(struct vm *vm, const char *uri, struct err *e)
{
	struct mig *g;
	int ret = mig_uri_check(uri, e);

	if (!ret && (is_late(vm->mig_out) || is_late(vm->mig_in)))
		ret = err_set(e, -EBUSY, "a migration is under way whose memory comes after its guest (resume goes on with it where it has paused)");
	if (!ret && (vm->mig_params.streams || vm->mig_params.postcopy) && !mig_uri_listens(uri))
		ret = err_set(e, -EINVAL, "several connections (multifd, postcopy-ram) need tcp: or unix:, to which one can connect again");
	ret = ret ? ret : vm_state_possible(vm, e);
	if (!ret && vm_migrate_waits(vm))
		ret = err_set(e, -EBUSY, "the guest is not here yet: an incoming migration is waited for");
	ret = ret ? ret : mig_disks_check(vm, e);
	if (ret)
		return ret;
	g = mig_new(vm, uri, e);
	if (!g)
		return -ENOMEM;
	ret = take_tls(g, uri, false, e);
	if (ret) {
		mig_free(g);
		return ret;
	}
	if (getrandom(g->id, MIG_ID, 0) != MIG_ID) {
		mig_free(g);
		return err_set(e, -EIO, "there is nothing random to name the migration by");
	}
	g->params = vm->mig_params;
	g->listening = mig_uri_listens(uri);
	g->streams = g->params.streams;
	g->may_be_late = g->params.postcopy;
	g->begun_ns = loop_now_ns();
	g->info.ram_total = mem_ram_size(vm->m->mem);
	g->pages = g->info.ram_total >> PAGE_SHIFT_4K;
	forget_last(vm);
	vm->mig_out = g;
	mig_status(g, VM_MIGRATE_SETUP);
	ret = mig_start(g, mig_out_thread, e);
	if (ret)
		forget_last(vm);
	return ret;
}

void vm_migrate_cancel(struct vm *vm)
{
	struct mig *g = vm->mig_out;
	enum vm_migrate_status s = g ? g->info.status : VM_MIGRATE_NONE;

	if (!g || g->gone || (s != VM_MIGRATE_SETUP && s != VM_MIGRATE_ACTIVE && s != VM_MIGRATE_DEVICE && s != VM_MIGRATE_PRE_SWITCHOVER))
		return;
	atomic_store(&g->cancelled, true);
	mig_status(g, VM_MIGRATE_CANCELLING);
	mig_wake(g);
}

int vm_migrate_continue(struct vm *vm, struct err *e)
{
	struct mig *g = vm->mig_out;

	if (!g || g->info.status != VM_MIGRATE_PRE_SWITCHOVER)
		return err_set(e, -EINVAL, "no migration waits before the switch (pre-switchover)");
	atomic_store(&g->go_on, true);
	return 0;
}

/* ---- memory that comes after its guest ---- */

int vm_migrate_late(struct vm *vm, struct err *e)
{
	struct mig *g = vm->mig_out;
	enum vm_migrate_status s = g ? g->info.status : VM_MIGRATE_NONE;

	if (s != VM_MIGRATE_SETUP && s != VM_MIGRATE_ACTIVE && s != VM_MIGRATE_DEVICE)
		return err_set(e, -EINVAL, "there is no migration under way");
	if (!g->may_be_late)
		return err_set(e, -EINVAL, "the migration was begun without the capability postcopy-ram");
	atomic_store(&g->late_asked, true);
	return 0;
}

int vm_migrate_resume(struct vm *vm, const char *uri, struct err *e)
{
	struct mig *g = vm->mig_out;
	char *copy, *old;
	int ret = mig_uri_check(uri, e);

	if (ret)
		return ret;
	if (!g || g->info.status != VM_MIGRATE_POSTCOPY_PAUSED)
		return err_set(e, -EINVAL, "there is no migration that has paused (postcopy-paused)");
	if (!mig_uri_listens(uri))
		return err_set(e, -EINVAL, "only tcp: and unix: can be connected to again");
	copy = strdup(uri);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	pthread_mutex_lock(&g->lock);
	old = g->resume_uri;
	g->resume_uri = copy;
	pthread_mutex_unlock(&g->lock);
	free(old);
	mig_wake(g);
	return 0;
}

int vm_migrate_recover(struct vm *vm, const char *uri, struct err *e)
{
	struct mig *g = vm->mig_in;
	unsigned port;
	int fd, old, ret = mig_uri_check(uri, e);

	if (ret)
		return ret;
	if (!is_late(g) || g->info.status != VM_MIGRATE_POSTCOPY_PAUSED)
		return err_set(e, -EINVAL, "there is no incoming migration that has paused (postcopy-paused)");
	if (!mig_uri_listens(uri))
		return err_set(e, -EINVAL, "only at tcp: and unix: can be listened");
	ret = mig_listen(uri, &fd, &port, e);
	if (ret)
		return ret;
	old = atomic_exchange(&g->listen_next, fd);
	if (old >= 0)
		close(old);
	pthread_mutex_lock(&g->lock);
	g->info.port = port;
	pthread_mutex_unlock(&g->lock);
	return 0;
}

int vm_migrate_break(struct vm *vm, struct err *e)
{
	struct mig *out = vm->mig_out, *in = vm->mig_in;

	if (is_late(in) && in->late)
		mig_late_break(in->late);
	else if (is_late(out) && out->info.status == VM_MIGRATE_POSTCOPY_ACTIVE)
		mig_wake(out);
	else
		return err_set(e, -EINVAL, "there is no migration whose memory comes after its guest (postcopy-active)");
	return 0;
}

/* ---- the destination's ---- */

int vm_migrate_incoming(struct vm *vm, const char *uri, struct err *e)
{
	struct mig *g = vm->mig_in;
	char *copy;
	int ret = mig_uri_check(uri, e);

	if (ret)
		return ret;
	if (!g)
		return err_set(e, -EINVAL, "this guest was not started to come from elsewhere (--incoming)");
	if (g->has_thread)
		return err_set(e, -EBUSY, "an incoming migration is waited for already");
	ret = take_tls(g, uri, true, e);
	if (!ret && mig_uri_listens(uri))
		ret = mig_listen(uri, &g->listen_fd, &g->info.port, e);
	if (ret)
		return ret;
	copy = strdup(uri);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	free(g->uri);
	g->uri = copy;
	mig_status(g, VM_MIGRATE_SETUP);
	if (g->info.port)
		log_info("waiting for a guest at TCP port %u", g->info.port);
	return mig_start(g, mig_in_thread, e);
}

int vm_migrate_wait(struct vm *vm, struct err *e)
{
	int ret;

	vm->mig_in = mig_new(vm, "", e);
	if (!vm->mig_in)
		return -ENOMEM;
	vm->mig_in->holds = true;
	vm->paused = true;
	machine_reset_devs(vm->m);
	clock_pause(vm->m->clock);
	machine_pause_devs(vm->m);
	if (vm->cfg->incoming_tls && vm_tls_dir(vm->cfg->incoming_tls, true, &vm->mig_in->tls.creds, e))
		return err_prefix(e, -EINVAL, "--incoming-tls");
	if (!strcmp(vm->cfg->incoming, "defer"))
		return 0;
	ret = vm_migrate_incoming(vm, vm->cfg->incoming, e);
	return ret ? err_prefix(e, ret, "--incoming") : 0;
}

/* ---- what vm.c and others ask ---- */

void vm_migrate_parked(struct vm *vm)
{
	struct mig *g = vm->mig_out;

	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

bool vm_migrate_holds(const struct vm *vm)
{
	return (vm->mig_out && vm->mig_out->holds) || (vm->mig_in && vm->mig_in->holds);
}

void vm_migrate_stay(struct vm *vm)
{
	if (vm->mig_out && vm->mig_out->holds)
		vm->mig_out->was_running = false;
	/* What the source says of it comes later. */
	if (vm->mig_in && vm->mig_in->holds)
		vm->live.paused = true;
}

bool vm_migrate_busy(const struct vm *vm)
{
	return vm_migrate_holds(vm) || is_late(vm->mig_in) || (vm->mig_out && !atomic_load(&vm->mig_out->done));
}

bool vm_migrate_waits(const struct vm *vm) { return vm->mig_in && vm->mig_in->holds; }
bool vm_migrate_expects(const struct vm *vm) { return vm->cfg->incoming && !(vm->mig_in && vm->mig_in->owner); }
bool vm_migrate_gone(const struct vm *vm) { return vm->mig_out && vm->mig_out->gone; }

int vm_migrate_may_run(struct vm *vm, struct err *e)
{
	struct mig *g = vm->mig_out;

	if (vm_migrate_waits(vm))
		return err_set(e, -EBUSY, "the guest is not here yet: an incoming migration is waited for");
	if (!g || !g->holds)
		return 0;
	if (g->info.in_doubt) {
		g->take_back = true;
		mig_wake(g);
		return 1;
	}
	if (g->gone)
		return err_set(e, -EPERM, "the guest has gone elsewhere");
	return err_set(e, -EBUSY, "the guest is in the hands of a migration; migrate_cancel ends that");
}

void vm_migrate_end(struct vm *vm)
{
	struct mig *out = vm->mig_out, *in = vm->mig_in;

	/* What waits for memory would have to be given some that is not the guest's, and might write it to a disk. */
	if (in && in->owner && in->late && mig_late_left(in->late)) {
		log_error("the guest ends while %llu pages of its memory are elsewhere", (unsigned long long)mig_late_left(in->late));
		_exit(vm->exit_status);
	}
	mig_free(out);
	mig_free(in);
	vm->mig_out = vm->mig_in = NULL;
}
