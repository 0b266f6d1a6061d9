// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that comes after its guest, at the destination: see migrate_late.h.  What comes is not trusted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/dirty.h"
#include "vm/internal.h"
#include "vm/migrate_late.h"

#define FAULTS 32			/* taken at once */
#define TICK_MS 1000
#define STUCK_TICKS 3			/* so long a signal may wait for a loop that waits for memory */

struct mig_late {
	struct mig *g;
	int uffd, wake_fd;
	pthread_t thread;
	struct mig_rx *rx;
	uint64_t pages;
	uint64_t *missing, *wanted;	/* the thread's */
	_Atomic uint64_t left;
	struct mig_chan chan;		/* the thread's; in < 0: it broke */
	unsigned stuck;			/* ticks */
	struct err e;			/* why it broke */
	pthread_mutex_t lock;		/* what follows; taken last */
	struct mig_chan next;		/* another connection, which it takes when it is woken */
	bool owned, failed, ends, breaks;
};

/* ---- userfaultfd(2) ---- */

/* Without rights of its own a process may have it by the device file. */
static int open_uffd(struct err *e)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev, ret;

	if (fd < 0 && (errno == EPERM || errno == ENOSYS)) {
		dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		if (dev >= 0) {
			fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
			close(dev);
		}
	}
	if (fd < 0)
		return err_set(e, -ENOTSUP, "its host does not let it see who touches memory that has not come (userfaultfd): sysctl vm.unprivileged_userfaultfd=1 there, or "
			       "access to /dev/userfaultfd, is needed");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	ret = -errno;
	close(fd);
	return err_set(e, -ENOTSUP, "its host's kernel does not tell who touches pages of shared memory (userfaultfd: %s)", strerror(-ret));
}

static int watch(int uffd, struct mem *m, struct err *e)
{
	struct uffdio_register r = { .range = { (uintptr_t)mem_ram_host(m), mem_ram_size(m) }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (ioctl(uffd, UFFDIO_REGISTER, &r))
		return err_set(e, -ENOTSUP, "its host's kernel cannot watch the guest's memory (userfaultfd: %s)", strerror(errno));
	if (!(r.ioctls & BIT64(_UFFDIO_COPY)))
		return err_set(e, -ENOTSUP, "its host's kernel cannot fill the guest's memory page by page (userfaultfd)");
	return 0;
}

int mig_late_possible(struct vm *vm, struct err *e)
{
	int fd, ret;

	/* What such a peer touches in its own mapping nobody here would hear of. */
	if (vm_has_peers(vm->cfg))
		return err_set(e, -ENOTSUP, "it has a vhost-user device, whose peer has the guest's memory as well");
	if (vm->cfg->huge == MEM_HUGE_2M)
		return err_set(e, -ENOTSUP, "its memory has pages of 2 MiB only (huge-pages)");
	fd = open_uffd(e);
	if (fd < 0)
		return fd;
	ret = watch(fd, vm->m->mem, e);
	close(fd);	/* and watches no more */
	return ret;
}

static void wake(struct mig_late *l, uint64_t page)
{
	struct uffdio_range r = { (uintptr_t)mem_ram_host(l->g->vm->m->mem) + page * PAGE_4K, PAGE_4K };

	ioctl(l->uffd, UFFDIO_WAKE, &r);
}

/* data NULL: zeros.  A page that is there already stays. */
static int put_page(struct mig_late *l, uint64_t page, const uint8_t *data)
{
	uint64_t at = (uintptr_t)mem_ram_host(l->g->vm->m->mem) + page * PAGE_4K;
	int ret;

	do {
		struct uffdio_copy c = { .dst = at, .src = (uintptr_t)data, .len = PAGE_4K };
		struct uffdio_zeropage z = { .range = { at, PAGE_4K } };

		ret = (data ? ioctl(l->uffd, UFFDIO_COPY, &c) : ioctl(l->uffd, UFFDIO_ZEROPAGE, &z)) ? -errno : 0;
	} while (ret == -EAGAIN);
	if (ret == -EEXIST)
		wake(l, page);
	return ret == -EEXIST ? 0 : ret;
}

/* ---- what comes ---- */

/* Pages that nobody waits for are such as came twice. */
static int put(void *opaque, uint64_t page, const uint8_t *data, struct err *e)
{
	struct mig_late *l = opaque;
	int ret;

	if (!(l->missing[page / 64] & BIT64(page % 64)))
		return 0;
	ret = put_page(l, page, data);
	if (ret)
		return err_set(e, ret, "page %llu of the guest's memory: %s", (unsigned long long)page, strerror(-ret));
	l->missing[page / 64] &= ~BIT64(page % 64);
	atomic_fetch_sub(&l->left, 1);
	return 0;
}

static int take(struct mig_late *l)
{
	struct mig_record r;
	int ret;

	l->chan.timeout_ms = MIG_WORK_MS;
	ret = mig_recv(&l->chan, &r, &l->e);
	if (ret)
		return ret;
	if (r.type == MIG_PAGES)
		return mig_rx_pages(l->rx, l->chan.buf, r.len, &l->e);
	if (r.type == MIG_ZEROS)
		return mig_rx_zeros(l->rx, l->chan.buf, r.len, &l->e);
	return err_set(&l->e, -EPROTO, "the source said '%s' where memory was due", mig_type_name(r.type));
}

static int want(struct mig_late *l, const uint64_t *page, unsigned n)
{
	return l->chan.in >= 0 && n ? mig_send_bytes(&l->chan, MIG_WANT, page, n * 8, &l->e) : 0;
}

/* Somebody waits: for a page that is to come, or for one that has always been zeros. */
static int take_faults(struct mig_late *l)
{
	uintptr_t host = (uintptr_t)mem_ram_host(l->g->vm->m->mem);
	struct uffd_msg m[FAULTS];
	uint64_t ask[FAULTS];
	ssize_t got = read(l->uffd, m, sizeof(m));
	unsigned n = 0;

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(m[0]); i++) {
		uint64_t page = (m[i].arg.pagefault.address - host) / PAGE_4K, bit = BIT64(page % 64);

		if (m[i].event != UFFD_EVENT_PAGEFAULT || page >= l->pages)
			continue;
		if (!(l->missing[page / 64] & bit)) {
			put_page(l, page, NULL);
		} else if (!(l->wanted[page / 64] & bit)) {
			l->wanted[page / 64] |= bit;
			ask[n++] = page;
		}
	}
	return want(l, ask, n);
}

/* ---- connections that break, and others ---- */


/* The loop may be waiting for memory, so it is not waited for. */
static void tell(struct mig_late *l, enum vm_migrate_status s, const char *why)
{
	struct mig *g = l->g;

	pthread_mutex_lock(&g->lock);
	snprintf(g->info.error, sizeof(g->info.error), "%s", why);
	g->late_status = s;
	pthread_mutex_unlock(&g->lock);
	loop_bh_post(&g->late_bh);
}

static void broke(struct mig_late *l)
{
	bool owned;

	mig_chan_fini(&l->chan);
	pthread_mutex_lock(&l->lock);
	owned = l->owned;
	l->failed = !owned;
	l->breaks = false;
	pthread_mutex_unlock(&l->lock);
	if (!owned) {
		/* Nothing will come of this attempt: who waits is let go. */
		close(l->uffd);
		l->uffd = -1;
		return;
	}
	log_warn("incoming migration: %llu pages are missing, and the connection is gone: %s", (unsigned long long)atomic_load(&l->left), l->e.msg);
	tell(l, VM_MIGRATE_POSTCOPY_PAUSED, l->e.msg);
}

static int ask_again(struct mig_late *l)
{
	uint64_t ask[FAULTS];
	unsigned n = 0;
	int ret = 0;

	for (uint64_t page = 0; page < l->pages && !ret; page++) {
		uint64_t waits = l->wanted[page / 64] & l->missing[page / 64];

		if (!waits) {
			page |= 63;
			continue;
		}
		if (!(waits & BIT64(page % 64)))
			continue;
		ask[n++] = page;
		if (n == FAULTS) {
			ret = want(l, ask, n);
			n = 0;
		}
	}
	return ret ? ret : want(l, ask, n);
}

static void take_next(struct mig_late *l)
{
	eventfd_t n;
	bool breaks;

	eventfd_read(l->wake_fd, &n);
	pthread_mutex_lock(&l->lock);
	breaks = l->breaks;
	if (l->next.in < 0) {
		pthread_mutex_unlock(&l->lock);
		if (breaks && l->chan.in >= 0) {
			err_set(&l->e, -EPIPE, "it was asked to pause");
			broke(l);
		}
		return;
	}
	mig_chan_fini(&l->chan);
	l->chan = l->next;
	l->next.in = l->next.out = -1;
	l->next.buf = NULL;
	l->breaks = false;
	pthread_mutex_unlock(&l->lock);
	l->chan.timeout_ms = MIG_WORK_MS;
	tell(l, VM_MIGRATE_POSTCOPY_ACTIVE, "");
	if (mig_map_send(&l->chan, MIG_MISSING, l->missing, l->pages, &l->e) || ask_again(l))
		broke(l);
}

static bool ends(struct mig_late *l)
{
	bool e;

	pthread_mutex_lock(&l->lock);
	e = l->ends || l->failed;
	pthread_mutex_unlock(&l->lock);
	return e;
}

/* The loop takes signals.  When it waits for memory that does not come nobody else would. */
static void look_for_signals(struct mig_late *l)
{
	sigset_t s;

	sigpending(&s);
	l->stuck = sigismember(&s, SIGTERM) || sigismember(&s, SIGINT) || sigismember(&s, SIGQUIT) ? l->stuck + 1 : 0;
	if (l->stuck < STUCK_TICKS)
		return;
	log_error("ended by a signal while %llu pages of the guest's memory were missing", (unsigned long long)atomic_load(&l->left));
	_exit(VM_EXIT_KILLED);
}

static void *bring(void *opaque)
{
	struct mig_late *l = opaque;
	struct err e;

	while (atomic_load(&l->left) && !ends(l)) {
		struct pollfd p[3] = { { .fd = l->uffd, .events = POLLIN }, { .fd = l->wake_fd, .events = POLLIN }, { .fd = l->chan.in, .events = POLLIN } };
		int ret = 0;

		if (l->chan.in < 0 || !mig_pending(&l->chan)) {
			if (poll(p, 3, TICK_MS) <= 0) {
				look_for_signals(l);
				continue;
			}
		} else {
			p[2].revents = POLLIN;
		}
		if (p[0].revents & POLLIN)
			ret = take_faults(l);
		if (!ret && p[2].revents)
			ret = take(l);
		if (ret)
			broke(l);
		if (p[1].revents)
			take_next(l);
	}
	if (!atomic_load(&l->left)) {
		/* Should that be lost, the source asks. */
		if (l->chan.in >= 0)
			mig_send_bytes(&l->chan, MIG_ALL, NULL, 0, &e);
		close(l->uffd);
		l->uffd = -1;
		tell(l, VM_MIGRATE_COMPLETED, "");
		pthread_mutex_lock(&l->lock);
		l->ends = true;
		pthread_mutex_unlock(&l->lock);
	}
	return NULL;
}

/* ---- life ---- */

static int drop_pages(struct mig_late *l)
{
	struct mem *m = l->g->vm->m->mem;
	int ret = 0;

	for (uint64_t page = 0, end; page < l->pages && !ret; page = end) {
		if (!l->missing[page / 64]) {
			end = (page | 63) + 1;
			continue;
		}
		end = page + 1;
		if (!(l->missing[page / 64] & BIT64(page % 64)))
			continue;
		while (end < l->pages && l->missing[end / 64] & BIT64(end % 64))
			end++;
		ret = mem_ram_release(m, page * PAGE_4K, (end - page) * PAGE_4K);
	}
	return ret;
}

/* Loop.  No user code runs natively while pages are logged: its processes map memory by themselves, where nobody watches. */
static int log_on(struct mig *g)
{
	int ret = machine_dirty_start(g->vm->m);

	g->late_logs = !ret;
	return ret ? err_set(&g->e, ret, "the log of written pages: %s", strerror(-ret)) : 0;
}

void mig_late_done(struct mig *g)
{
	if (g->late_logs)
		machine_dirty_stop(g->vm->m);
	g->late_logs = false;
}

/* Loop. */
static int log_off(struct mig *g)
{
	mig_late_done(g);
	return 0;
}

static int begin(struct mig_late *l)
{
	struct mig *g = l->g;
	int ret;

	l->uffd = open_uffd(&g->e);
	ret = l->uffd < 0 ? l->uffd : watch(l->uffd, g->vm->m->mem, &g->e);
	if (ret)
		return ret;
	ret = mig_on_loop(g, log_on);
	if (ret)
		return ret;
	ret = drop_pages(l);
	if (ret)
		return err_set(&g->e, ret, "the guest's memory cannot be given back: %s", strerror(-ret));
	ret = pthread_create(&l->thread, NULL, bring, l);
	return ret ? err_set(&g->e, -ret, "a thread cannot be started: %s", strerror(ret)) : 0;
}

static void free_all(struct mig_late *l)
{
	if (l->uffd >= 0)
		close(l->uffd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	mig_chan_fini(&l->chan);
	mig_chan_fini(&l->next);
	mig_rx_free(l->rx);
	free(l->missing);
	free(l->wanted);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void logs_no_more(struct mig *g)
{
	if (!atomic_load(&g->ending))
		mig_on_loop(g, log_off);
}

int mig_late_begin(struct mig *g, struct mig_chan *c, uint64_t *map, struct mig_late **out)
{
	struct mig_late *l = calloc(1, sizeof(*l));
	int ret = -ENOMEM;

	if (!l) {
		mig_chan_fini(c);
		free(map);
		return err_set(&g->e, ret, "out of memory");
	}
	pthread_mutex_init(&l->lock, NULL);
	l->g = g;
	l->uffd = -1;
	l->chan = *c;
	c->in = c->out = -1;
	c->buf = NULL;
	c->tls = NULL;
	c->pack = NULL;
	l->next.in = l->next.out = -1;
	l->missing = map;
	l->pages = mem_ram_size(g->vm->m->mem) >> PAGE_SHIFT_4K;
	l->left = mig_map_count(map, l->pages);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->wanted = calloc((l->pages + 63) / 64, 8);
	if (l->wake_fd >= 0 && l->wanted && !mig_rx_new(g->vm->m->mem, &l->rx)) {
		mig_rx_put_by(l->rx, put, l);
		ret = begin(l);
	} else {
		err_set(&g->e, ret, "out of memory or descriptors");
	}
	if (ret) {
		free_all(l);
		logs_no_more(g);
	} else {
		*out = l;
	}
	return ret;
}

int mig_late_own(struct mig_late *l)
{
	bool failed;

	pthread_mutex_lock(&l->lock);
	failed = l->failed;
	l->owned = !failed;
	pthread_mutex_unlock(&l->lock);
	return failed ? err_set(&l->g->e, -EPIPE, "memory that was to come after its guest does not: %.400s", l->e.msg) : 0;
}

void mig_late_go_on(struct mig_late *l, struct mig_chan *c)
{
	pthread_mutex_lock(&l->lock);
	if (l->next.in >= 0)
		mig_chan_fini(&l->next);
	l->next = *c;
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->wake_fd, 1);
}

void mig_late_break(struct mig_late *l)
{
	pthread_mutex_lock(&l->lock);
	l->breaks = true;
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->wake_fd, 1);
}

uint64_t mig_late_left(struct mig_late *l) { return atomic_load(&l->left); }

void mig_late_free(struct mig_late *l)
{
	struct mig *g;

	if (!l)
		return;
	g = l->g;
	pthread_mutex_lock(&l->lock);
	l->ends = true;
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->wake_fd, 1);
	pthread_join(l->thread, NULL);
	free_all(l);
	logs_no_more(g);
}
