/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tap interface of the host's kernel (Documentation/networking/tuntap).
 *
 * One descriptor per queue pair, non-blocking, each frame preceded by the
 * virtio header (IFF_VNET_HDR), so that checksums and segmentation are left to
 * whoever does them best.  A frame the card had no buffer for stays in the
 * queue's buffer and the descriptor is not watched until there is one; the
 * kernel queues and then drops meanwhile.
 *
 * Without CAP_NET_ADMIN only a persistent tap that belongs to the user opens.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "net/port.h"
#include "net/vhdr.h"

#define MAX_PAIRS 16
#define BUF_LEN (NET_VHDR_LEN + NET_MAX_FRAME)
#define READ_BUDGET 64			/* frames a queue may deliver in one go */
#define MTU_MIN 68			/* virtio 1.2, 5.1.4.1 */
#define TUN_PATH "/dev/net/tun"

struct tap;

struct tap_queue {
	struct tap *t;
	unsigned q;
	struct loop_fd lf;
	bool attached;			/* to the interface: takes part in multi-queue */
	bool want_in, want_out;
	size_t held;			/* bytes in buf the card has not taken */
	uint8_t *buf;
};

struct tap {
	struct net_backend b;
	char name[IFNAMSIZ];
	unsigned n_queues;
	uint32_t card_offloads;
	struct tap_queue queue[MAX_PAIRS];
};

static struct tap *to_tap(struct net_backend *b)
{
	return container_of(b, struct tap, b);
}

/* A descriptor with nothing wanted is taken out: errors and hang-ups are always reported. */
static void watch(struct tap_queue *tq)
{
	uint32_t events = (tq->want_in ? EPOLLIN : 0) | (tq->want_out ? EPOLLOUT : 0);

	if (!events) {
		loop_fd_del(&tq->lf);
	} else if (!tq->lf.loop) {
		tq->lf.events = events;
		loop_fd_add(tq->t->b.loop, &tq->lf);
	} else if (tq->lf.events != events) {
		loop_fd_mod(&tq->lf, events);
	}
}

/* ---- to the guest ---- */

static bool deliver(struct tap_queue *tq)
{
	struct net_backend *b = &tq->t->b;
	struct iovec v = { tq->buf + NET_VHDR_LEN, tq->held - NET_VHDR_LEN };

	if (b->card.recv && !b->card.recv(b->card.opaque, tq->q, tq->buf, &v, 1))
		return false;
	tq->held = 0;
	return true;
}

static void receive(struct tap_queue *tq)
{
	unsigned budget = READ_BUDGET;
	ssize_t n;

	if (tq->held && !deliver(tq))
		return;
	while (budget--) {
		n = read(tq->lf.fd, tq->buf, BUF_LEN);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		if (n <= NET_VHDR_LEN)
			continue;
		tq->held = (size_t)n;
		if (!deliver(tq))
			break;
	}
	tq->want_in = !tq->held;
	watch(tq);
}

static void tap_rx_ready(struct net_backend *b, unsigned q)
{
	struct tap *t = to_tap(b);

	if (q < t->n_queues && t->queue[q].held)
		receive(&t->queue[q]);
}

static void tap_event(void *opaque, uint32_t events)
{
	struct tap_queue *tq = opaque;
	struct net_backend *b = &tq->t->b;

	if (events & (EPOLLERR | EPOLLHUP) && !(events & (EPOLLIN | EPOLLOUT))) {
		log_warn("tap '%s' is gone: the network card is cut off", tq->t->name);
		tq->want_in = tq->want_out = false;
		watch(tq);
		if (b->card.link)
			b->card.link(b->card.opaque, false);
		return;
	}
	if (events & EPOLLOUT && tq->want_out) {
		tq->want_out = false;
		watch(tq);
		if (b->card.tx_ready)
			b->card.tx_ready(b->card.opaque, tq->q);
	}
	if (events & EPOLLIN)
		receive(tq);
}

/* ---- from the guest ---- */

static int tap_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	static const uint8_t zero[NET_VHDR_LEN];
	struct tap *t = to_tap(b);
	struct tap_queue *tq = &t->queue[q < t->n_queues && t->queue[q].attached ? q : 0];
	struct iovec v[IOV_MAX];
	ssize_t ret;

	if (n + 1 > IOV_MAX)
		return -EMSGSIZE;
	v[0] = (struct iovec){ (void *)(uintptr_t)(vhdr ? vhdr : zero), NET_VHDR_LEN };
	memcpy(v + 1, iov, n * sizeof(*iov));
	do {
		ret = writev(tq->lf.fd, v, (int)n + 1);
	} while (ret < 0 && errno == EINTR);
	if (ret >= 0)
		return 0;
	if (errno != EAGAIN)
		return -errno;		/* EIO: the interface is down */
	tq->want_out = true;
	watch(tq);
	return -EAGAIN;
}

static void tap_set_offloads(struct net_backend *b, uint32_t offloads)
{
	struct tap *t = to_tap(b);
	unsigned flags = 0;

	if (offloads & NET_OFF_GUEST_CSUM) {
		flags |= TUN_F_CSUM;
		flags |= offloads & NET_OFF_GUEST_TSO4 ? TUN_F_TSO4 : 0;
		flags |= offloads & NET_OFF_GUEST_TSO6 ? TUN_F_TSO6 : 0;
		if (flags & (TUN_F_TSO4 | TUN_F_TSO6))
			flags |= offloads & NET_OFF_GUEST_ECN ? TUN_F_TSO_ECN : 0;
	}
	for (unsigned q = 0; q < t->n_queues; q++)
		if (t->queue[q].attached && ioctl(t->queue[q].lf.fd, TUNSETOFFLOAD, (unsigned long)flags))
			log_debug("tap '%s': offloads 0x%x: %s", t->name, flags, strerror(errno));
}

static int attach(struct tap_queue *tq, bool on)
{
	struct ifreq r = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (tq->attached == on)
		return 0;
	if (ioctl(tq->lf.fd, TUNSETQUEUE, &r))
		return -errno;
	tq->attached = on;
	return 0;
}

/* The kernel spreads flows over attached queues only; the first always is. */
static void tap_set_queues(struct net_backend *b, unsigned pairs)
{
	struct tap *t = to_tap(b);

	for (unsigned q = 1; q < t->n_queues; q++) {
		struct tap_queue *tq = &t->queue[q];

		if (attach(tq, q < pairs)) {
			log_debug("tap '%s': queue %u: %s", t->name, q, strerror(errno));
			continue;
		}
		if (!tq->attached)
			tq->held = 0;
		tq->want_in = tq->attached;
		tq->want_out = false;
		watch(tq);
	}
}

/* ---- construction ---- */

static void tap_close(struct net_backend *b)
{
	struct tap *t = to_tap(b);

	for (unsigned q = 0; q < MAX_PAIRS; q++) {
		loop_fd_del(&t->queue[q].lf);
		if (t->queue[q].lf.fd >= 0)
			close(t->queue[q].lf.fd);
		free(t->queue[q].buf);
	}
	free(t);
}

static const struct net_backend_ops tap_ops = {
	.name = "tap",
	.send = tap_send,
	.rx_ready = tap_rx_ready,
	.set_offloads = tap_set_offloads,
	.set_queues = tap_set_queues,
	.close = tap_close,
};

static int check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);

	if (len >= IFNAMSIZ)
		return err_set(e, -EINVAL, "tap name '%s' is too long: an interface has at most %d characters", name,
			       IFNAMSIZ - 1);
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return err_set(e, -EINVAL, "'%s' is no name for a tap interface", name);
	for (const char *c = name; *c; c++)
		if (isspace((unsigned char)*c) || strchr("/:%", *c))
			return err_set(e, -EINVAL, "tap name '%s' has a character that interfaces may not have", name);
	return 0;
}

static int say_no_device(int code, struct err *e)
{
	if (code == -ENOENT || code == -ENXIO || code == -ENODEV)
		return err_set(e, code, "there is no " TUN_PATH " here: load the module 'tun', or pass the device into the container");
	if (code == -EACCES || code == -EPERM)
		return err_set(e, code, "no permission to open " TUN_PATH ": allow this user to, or use the user network");
	return err_set(e, code, TUN_PATH " cannot be opened: %s", strerror(-code));
}

static int say_no_tap(const char *name, unsigned queues, int code, struct err *e)
{
	const char *multi = queues > 1 ? " multi_queue" : "";

	if (code == -EPERM)
		return err_set(e, code,
			       "no permission for tap '%s': it takes CAP_NET_ADMIN, or a tap that is yours: 'ip tuntap add dev %s mode tap%s user NAME' as root",
			       name, *name ? name : "tap0", multi);
	if (code == -EBUSY)
		return err_set(e, code, "tap '%s' is in use by another program", name);
	if (code == -EINVAL)
		return err_set(e, code, "'%s' exists but is not a tap%s", name,
			       queues > 1 ? " with several queues (ip tuntap add ... multi_queue)" : "");
	return err_set(e, code, "tap '%s' cannot be used: %s", name, strerror(-code));
}

/* Opens one queue; the first decides on the name if the kernel is to choose. */
static int open_queue(struct tap *t, struct tap_queue *tq, short flags, struct err *e)
{
	struct ifreq r = { 0 };
	int hdr_len = NET_VHDR_LEN, little = 1, ret;

	tq->lf.fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tq->lf.fd < 0)
		return say_no_device(-errno, e);
	memcpy(r.ifr_name, t->name, IFNAMSIZ);
	r.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
	ret = ioctl(tq->lf.fd, TUNSETIFF, &r) ? -errno : 0;
	/* A persistent tap of one sort refuses the other. */
	if (ret == -EINVAL && t->n_queues == 1) {
		r.ifr_flags ^= IFF_MULTI_QUEUE;
		ret = ioctl(tq->lf.fd, TUNSETIFF, &r) ? -errno : 0;
	}
	if (ret)
		return say_no_tap(t->name, t->n_queues, ret, e);
	memcpy(t->name, r.ifr_name, IFNAMSIZ);
	t->name[IFNAMSIZ - 1] = 0;
	if (ioctl(tq->lf.fd, TUNSETVNETHDRSZ, &hdr_len))
		return say_no_tap(t->name, t->n_queues, -errno, e);
	ioctl(tq->lf.fd, TUNSETVNETLE, &little);	/* the default on our hosts */
	tq->buf = malloc(BUF_LEN);
	if (!tq->buf)
		return err_set(e, -ENOMEM, "out of memory for tap '%s'", t->name);
	tq->attached = tq->want_in = true;
	watch(tq);
	return 0;
}

/* A tap of our own making is down; somebody else's is the owner's business.
 * The guest shall send no longer frames than the interface takes. */
static void bring_up(struct tap *t)
{
	struct ifreq r = { 0 };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return;
	memcpy(r.ifr_name, t->name, IFNAMSIZ);
	if (ioctl(s, SIOCGIFFLAGS, &r) == 0 && !(r.ifr_flags & IFF_UP)) {
		r.ifr_flags |= IFF_UP;
		if (ioctl(s, SIOCSIFFLAGS, &r))
			log_warn("tap '%s' is down: 'ip link set %s up' as root brings it up", t->name, t->name);
	}
	if (ioctl(s, SIOCGIFMTU, &r) == 0 && r.ifr_mtu >= MTU_MIN && r.ifr_mtu <= UINT16_MAX)
		t->b.mtu = (uint16_t)r.ifr_mtu;
	close(s);
}

/* Can the kernel do what the header promises?  Asked of the first queue. */
static uint32_t probe_offloads(const struct tap *t)
{
	uint32_t o = NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6 | NET_OFF_ECN;
	int fd = t->queue[0].lf.fd;

	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)TUN_F_CSUM) == 0)
		o |= NET_OFF_GUEST_CSUM;
	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) == 0)
		o |= NET_OFF_GUEST_TSO4 | NET_OFF_GUEST_TSO6 | NET_OFF_GUEST_ECN;
	ioctl(fd, TUNSETOFFLOAD, 0ul);
	return o;
}

static void init_queues(struct tap *t)
{
	for (unsigned q = 0; q < MAX_PAIRS; q++) {
		t->queue[q].t = t;
		t->queue[q].q = q;
		t->queue[q].lf = (struct loop_fd){ .fd = -1, .cb = tap_event, .opaque = &t->queue[q] };
	}
}

int net_tap_new(struct loop *l, const char *ifname, unsigned queues, struct net_backend **out, struct err *e)
{
	struct tap *t;
	int ret = check_name(ifname, e);

	if (ret)
		return ret;
	if (!queues || queues > MAX_PAIRS)
		return err_set(e, -EINVAL, "tap '%s': %u queue pairs, but 1 to %d are possible", ifname, queues,
			       MAX_PAIRS);
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, -ENOMEM, "out of memory for tap '%s'", ifname);
	t->b = (struct net_backend){ .ops = &tap_ops, .loop = l, .max_pairs = queues };
	t->n_queues = queues;
	init_queues(t);
	memcpy(t->name, ifname, strlen(ifname));
	for (unsigned q = 0; q < queues && !ret; q++)
		ret = open_queue(t, &t->queue[q], queues > 1 ? IFF_MULTI_QUEUE : 0, e);
	if (ret) {
		tap_close(&t->b);
		return ret;
	}
	bring_up(t);
	t->b.offloads = probe_offloads(t);
	*out = &t->b;
	return 0;
}
