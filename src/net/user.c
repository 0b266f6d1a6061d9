/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user-mode network: libslirp plays router, DHCP and DNS server and turns
 * the guest's connections into ordinary sockets of this process.
 *
 * The guest sees 10.0.2.0/24 and fec0::/64: router .2, name server .3, itself
 * .15 by DHCP.  At the router's address there may be a TFTP server with the files of a folder.
 *
 * libslirp wants poll(): before sleeping it lists descriptors and events
 * (fill), afterwards it asks what happened (poll).  Here each descriptor is a
 * loop_fd that stays registered; `turn` runs once per turn of the loop in which
 * something happened - a descriptor, a frame, a deadline - does poll and fill,
 * and changes only the registrations that differ.
 *
 * Frames for a card without receive buffers wait in a bounded queue; what does
 * not fit is dropped, and TCP slows down.  From the card it takes partial
 * checksums and unsegmented TCP: libslirp ends the connection anyway, so only
 * the checksum is completed.
 *
 * libslirp is called on the loop's thread alone: it makes sockets and opens files, which a vCPU's thread may not (base/confine.h).
 * What a card sends from another thread waits in a queue; a card whose queue is full is told when there is room.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "net/port.h"
#include "net/vhdr.h"

#define MIN_FRAME 14
#define QUEUE_BYTES (512u << 10)
#define NS_PER_MS 1000000ll
#define BOOTFILE_MAX 127
#define SERVER_NAME_MAX 255
#define NAME_BYTES 63			/* of a label, and room in DHCP's answer for all of them */

/* A descriptor of libslirp's. */
struct user_fd {
	struct loop_fd lf;
	struct user_net *u;
	int want, got;			/* SLIRP_POLL_* */
	bool listed;			/* by the last fill */
};

struct user_timer {
	struct loop_timer t;
	struct user_net *u;
	SlirpTimerId id;
	void *opaque;
};

struct frame {
	struct frame *next;
	size_t len;
	uint8_t data[];
};

/* At most QUEUE_BYTES of them. */
struct frame_queue {
	struct frame *first, **last;
	size_t bytes;
};

struct user_net {
	struct net_backend b;
	Slirp *slirp;
	uint32_t guest_offloads;
	struct loop_bh turn_bh;
	struct loop_timer deadline;
	struct user_fd **by_fd;
	size_t n_by_fd;
	int *order;			/* descriptor of each index of the last fill */
	size_t n_order, max_order;
	struct frame_queue to_guest, from_guest;
	bool full;			/* from_guest refused a frame */
	pthread_t thread;		/* the loop's; until it turns, the one that made this */
	uint8_t *tx;			/* the guest's frame, copied once, then looked at */
};

static struct user_net *to_user(struct net_backend *b)
{
	return container_of(b, struct user_net, b);
}

/* ---- descriptors and time ---- */

static int to_epoll(int e)
{
	return (e & SLIRP_POLL_IN ? EPOLLIN : 0) | (e & SLIRP_POLL_OUT ? EPOLLOUT : 0) |
	       (e & SLIRP_POLL_PRI ? EPOLLPRI : 0) | (e & SLIRP_POLL_ERR ? EPOLLERR : 0) |
	       (e & SLIRP_POLL_HUP ? EPOLLHUP : 0);
}

static int from_epoll(uint32_t e)
{
	return (e & EPOLLIN ? SLIRP_POLL_IN : 0) | (e & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
	       (e & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (e & EPOLLERR ? SLIRP_POLL_ERR : 0) |
	       (e & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static void fd_ready(void *opaque, uint32_t events)
{
	struct user_fd *f = opaque;

	f->got |= from_epoll(events);
	loop_bh_post(&f->u->turn_bh);
}

static struct user_fd *fd_entry(struct user_net *u, int fd)
{
	struct user_fd *f;

	if ((size_t)fd >= u->n_by_fd) {
		size_t n = MAX((size_t)fd + 1, u->n_by_fd * 2);
		struct user_fd **p = realloc(u->by_fd, n * sizeof(*p));

		if (!p)
			return NULL;
		memset(p + u->n_by_fd, 0, (n - u->n_by_fd) * sizeof(*p));
		u->by_fd = p;
		u->n_by_fd = n;
	}
	if (u->by_fd[fd])
		return u->by_fd[fd];
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->u = u;
	f->lf = (struct loop_fd){ .fd = fd, .cb = fd_ready, .opaque = f };
	u->by_fd[fd] = f;
	return f;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct user_net *u = opaque;
	struct user_fd *f = fd_entry(u, fd);

	if (!f)
		return -1;
	if (u->n_order == u->max_order) {
		size_t n = MAX(u->max_order * 2, (size_t)16);
		int *p = realloc(u->order, n * sizeof(*p));

		if (!p)
			return -1;
		u->order = p;
		u->max_order = n;
	}
	f->want = f->listed ? f->want | events : events;
	f->listed = true;
	u->order[u->n_order] = fd;
	return (int)u->n_order++;
}

static int get_events(int idx, void *opaque)
{
	struct user_net *u = opaque;
	struct user_fd *f;

	if (idx < 0 || (size_t)idx >= u->n_order)
		return 0;
	f = u->by_fd[u->order[idx]];
	return f ? f->got : 0;
}

/* Brings the loop's registrations in line with the last fill. */
static void sync_fds(struct user_net *u)
{
	for (size_t i = 0; i < u->n_by_fd; i++) {
		struct user_fd *f = u->by_fd[i];
		uint32_t events;

		if (!f)
			continue;
		f->got = 0;
		events = (uint32_t)to_epoll(f->want);
		if (!f->listed) {
			loop_fd_del(&f->lf);
		} else if (!f->lf.loop) {
			f->lf.events = events;
			if (loop_fd_add(u->b.loop, &f->lf))
				log_debug("user network: descriptor %zu cannot be watched", i);
		} else if (f->lf.events != events) {
			loop_fd_mod(&f->lf, events);
		}
		f->listed = false;
	}
}

static void queue_init(struct frame_queue *q)
{
	*q = (struct frame_queue){ .last = &q->first };
}

/* -ENOBUFS, -ENOMEM */
static int enqueue(struct frame_queue *q, const void *buf, size_t len)
{
	struct frame *f = q->bytes + len > QUEUE_BYTES ? NULL : malloc(sizeof(*f) + len);

	if (!f)
		return q->bytes + len > QUEUE_BYTES ? -ENOBUFS : -ENOMEM;
	f->next = NULL;
	f->len = len;
	memcpy(f->data, buf, len);
	*q->last = f;
	q->last = &f->next;
	q->bytes += len;
	return 0;
}

static void drop_first(struct frame_queue *q)
{
	struct frame *f = q->first;

	q->first = f->next;
	if (!q->first)
		q->last = &q->first;
	q->bytes -= f->len;
	free(f);
}

/* What vCPUs' threads have sent. */
static void take_sent(struct user_net *u)
{
	struct frame *f;

	while ((f = u->from_guest.first)) {
		slirp_input(u->slirp, f->data, (int)f->len);
		drop_first(&u->from_guest);
	}
	if (u->full) {
		u->full = false;
		if (u->b.card.tx_ready)
			u->b.card.tx_ready(u->b.card.opaque, 0);
	}
}

static void refill(struct user_net *u)
{
	uint32_t timeout = UINT32_MAX;

	u->n_order = 0;
	slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
	sync_fds(u);
	if (timeout == UINT32_MAX)
		loop_timer_cancel(&u->deadline);
	else
		loop_timer_arm(&u->deadline, loop_now_ns() + timeout * NS_PER_MS);
}

static void turn(void *opaque)
{
	struct user_net *u = opaque;

	u->thread = pthread_self();
	slirp_pollfds_poll(u->slirp, 0, get_events, u);
	take_sent(u);
	refill(u);
}

static void deadline_passed(void *opaque)
{
	turn(opaque);
}

/* ---- callbacks of libslirp ---- */

static int64_t cb_clock(void *opaque)
{
	return loop_now_ns();
}

static void cb_guest_error(const char *msg, void *opaque)
{
	log_guest("user network: %s", msg);
}

static void timer_rings(void *opaque)
{
	struct user_timer *t = opaque;

	slirp_handle_timer(t->u->slirp, t->id, t->opaque);
	loop_bh_post(&t->u->turn_bh);
}

static void *cb_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_net *u = opaque;
	struct user_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->u = u;
	t->id = id;
	t->opaque = cb_opaque;
	loop_timer_init(u->b.loop, &t->t, timer_rings, t);
	return t;
}

static void cb_timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	if (!t)
		return;
	loop_timer_cancel(&t->t);
	free(t);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	if (timer)
		loop_timer_arm(&((struct user_timer *)timer)->t, expire_ms * NS_PER_MS);
}

static void cb_register(int fd, void *opaque)
{
	loop_bh_post(&((struct user_net *)opaque)->turn_bh);
}

/* The descriptor is about to be closed: its number may mean something else soon. */
static void cb_unregister(int fd, void *opaque)
{
	struct user_net *u = opaque;

	if (fd < 0 || (size_t)fd >= u->n_by_fd || !u->by_fd[fd])
		return;
	loop_fd_del(&u->by_fd[fd]->lf);
	free(u->by_fd[fd]);
	u->by_fd[fd] = NULL;
}

static void cb_notify(void *opaque)
{
	loop_bh_post(&((struct user_net *)opaque)->turn_bh);
}

/* ---- frames to the guest ---- */

static int give(struct user_net *u, const void *buf, size_t len)
{
	/* Our own stack made the checksums. */
	struct net_vhdr h = { .flags = NET_VHDR_DATA_VALID };
	struct iovec v = { (void *)(uintptr_t)buf, len };

	if (!u->b.card.recv)
		return 1;
	return u->b.card.recv(u->b.card.opaque, 0, u->guest_offloads & NET_OFF_GUEST_CSUM ? &h : NULL, &v, 1);
}

static ssize_t cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct user_net *u = opaque;

	if (u->to_guest.first || !give(u, buf, len))
		enqueue(&u->to_guest, buf, len);	/* or drop it */
	return (ssize_t)len;
}

static void user_rx_ready(struct net_backend *b, unsigned q)
{
	struct user_net *u = to_user(b);
	struct frame *f;

	while ((f = u->to_guest.first) && give(u, f->data, f->len))
		drop_first(&u->to_guest);
}

/* ---- frames from the guest ---- */

static int user_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct user_net *u = to_user(b);
	size_t len = iov_size(iov, n);
	struct net_vhdr h;
	int ret = 0;

	if (len < MIN_FRAME || len > NET_MAX_FRAME)
		return -EMSGSIZE;
	iov_to_buf(iov, n, 0, u->tx, len);
	if (vhdr) {
		memcpy(&h, vhdr, sizeof(h));
		net_finish_csum(u->tx, len, &h);
	}
	if (pthread_equal(u->thread, pthread_self()) && !u->from_guest.first) {
		slirp_input(u->slirp, u->tx, (int)len);
	} else {
		ret = enqueue(&u->from_guest, u->tx, len);
		u->full |= ret == -ENOBUFS;
	}
	loop_bh_post(&u->turn_bh);
	return ret == -ENOBUFS ? -EAGAIN : ret;
}

static void user_set_offloads(struct net_backend *b, uint32_t guest_offloads)
{
	to_user(b)->guest_offloads = guest_offloads;
}

static void user_set_queues(struct net_backend *b, unsigned pairs)
{
}

static void user_close(struct net_backend *b)
{
	struct user_net *u = to_user(b);

	u->b.card.recv = NULL;
	if (u->slirp)
		slirp_cleanup(u->slirp);
	loop_bh_cancel(&u->turn_bh);
	loop_timer_cancel(&u->deadline);
	for (size_t i = 0; i < u->n_by_fd; i++)
		if (u->by_fd[i]) {
			loop_fd_del(&u->by_fd[i]->lf);
			free(u->by_fd[i]);
		}
	while (u->to_guest.first)
		drop_first(&u->to_guest);
	while (u->from_guest.first)
		drop_first(&u->from_guest);
	free(u->by_fd);
	free(u->order);
	free(u->tx);
	free(u);
}

static const struct net_backend_ops user_ops = {
	.name = "user",
	.send = user_send,
	.rx_ready = user_rx_ready,
	.set_offloads = user_set_offloads,
	.set_queues = user_set_queues,
	.close = user_close,
};

static const SlirpCb slirp_callbacks = {
	.send_packet = cb_send_packet,
	.guest_error = cb_guest_error,
	.clock_get_ns = cb_clock,
	.timer_new_opaque = cb_timer_new,
	.timer_free = cb_timer_free,
	.timer_mod = cb_timer_mod,
	.register_poll_fd = cb_register,
	.unregister_poll_fd = cb_unregister,
	.notify = cb_notify,
};

/* ---- forwarding ---- */

static int say_no_forward(const struct net_fwd *f, const char *host, int code, struct err *e)
{
	const char *proto = f->udp ? "udp" : "tcp";

	if (code == -EADDRINUSE)
		return err_set(e, code,
			       "cannot forward %s port %u of %s: it is in use by another program; choose another host port",
			       proto, f->host_port, host);
	if (code == -EACCES || code == -EPERM)
		return err_set(e, code,
			       "cannot forward %s port %u of %s: ports below 1024 need privilege; choose a higher host port",
			       proto, f->host_port, host);
	if (code == -EADDRNOTAVAIL)
		return err_set(e, code, "cannot forward %s port %u of %s: that is no address of this host", proto,
			       f->host_port, host);
	return err_set(e, code, "cannot forward %s port %u of %s: %s", proto, f->host_port, host, strerror(-code));
}

/* libslirp binds with SO_REUSEADDR, with which two may share a UDP port and
 * neither learns of it: ask the kernel plainly. */
static int probe_port(bool udp, struct in_addr addr, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = addr, .sin_port = htons(port) };
	int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0), one = 1, ret = 0;

	if (fd < 0)
		return -errno;
	if (!udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) || (!udp && listen(fd, 1)))
		ret = -errno;
	close(fd);
	return ret;
}

static int add_forward(struct user_net *u, const struct net_fwd *f, struct err *e)
{
	const char *host = f->host_addr[0] ? f->host_addr : "127.0.0.1";
	struct in_addr haddr, gaddr = { 0 };
	int ret;

	if (inet_pton(AF_INET, host, &haddr) != 1)
		return err_set(e, -EINVAL, "'%s' is not an IPv4 address of this host to forward from", host);
	if (f->guest_addr[0] && inet_pton(AF_INET, f->guest_addr, &gaddr) != 1)
		return err_set(e, -EINVAL, "'%s' is not an IPv4 address of the guest to forward to", f->guest_addr);
	if (!f->host_port || !f->guest_port)
		return err_set(e, -EINVAL, "a forwarded port is a number from 1 to 65535");
	ret = probe_port(f->udp, haddr, f->host_port);
	if (ret)
		return say_no_forward(f, host, ret, e);
	errno = 0;
	if (slirp_add_hostfwd(u->slirp, f->udp, haddr, f->host_port, gaddr, f->guest_port) < 0)
		return say_no_forward(f, host, errno ? -errno : -EADDRINUSE, e);
	return 0;
}

/* "10.0.2.0/24" or "10.0.2.0/255.255.255.0"; host byte order. */
static int parse_network(const char *text, uint32_t *net, uint32_t *mask)
{
	size_t len = strcspn(text, "/");
	char addr[INET_ADDRSTRLEN], *end;
	struct in_addr a, m;
	unsigned long bits;

	if (len >= sizeof(addr) || !text[len])
		return -EINVAL;
	memcpy(addr, text, len);
	addr[len] = '\0';
	if (inet_pton(AF_INET, addr, &a) != 1)
		return -EINVAL;
	bits = strtoul(text + len + 1, &end, 10);
	if (!*end && end != text + len + 1 && bits >= 4 && bits <= 28)
		*mask = ~0u << (32 - bits);
	else if (inet_pton(AF_INET, text + len + 1, &m) == 1)
		*mask = ntohl(m.s_addr);
	else
		return -EINVAL;
	*net = ntohl(a.s_addr) & *mask;
	/* Ones and then zeros, with room for the addresses that have to be there. */
	return (~*mask & (~*mask + 1)) || ~*mask < 15 || *mask < 0xf0000000 ? -EINVAL : 0;
}

/* An address of the network, by its place unless the user says which. */
static int place_in(const char *name, const char *text, unsigned nth, const SlirpConfig *c, struct in_addr *out, struct err *e)
{
	uint32_t mask = ntohl(c->vnetmask.s_addr), net = ntohl(c->vnetwork.s_addr), a = net | (nth & ~mask);
	struct in_addr given;

	if (text && inet_pton(AF_INET, text, &given) != 1)
		return err_set(e, -EINVAL, "%s=%.40s: it is an IPv4 address", name, text);
	if (text)
		a = ntohl(given.s_addr);
	if ((a & mask) != net || a == net || a == (net | ~mask))
		return err_set(e, -EINVAL, "%s=%.40s: it is no address of the network", name, text ? text : "");
	out->s_addr = htonl(a);
	return 0;
}

static int addresses(SlirpConfig *c, const struct net_user_opts *o, struct err *e)
{
	uint32_t net = 0x0a000200, mask = 0xffffff00;
	int ret = o->net && parse_network(o->net, &net, &mask) ?
		  err_set(e, -EINVAL, "net=%.40s: it is an IPv4 network, as in 10.0.2.0/24, of 4 to 28 bits", o->net) : 0;

	c->vnetwork.s_addr = htonl(net);
	c->vnetmask.s_addr = htonl(mask);
	if (!ret)
		ret = place_in("host", o->host, 2, c, &c->vhost, e);
	if (!ret)
		ret = place_in("dns", o->dns, 3, c, &c->vnameserver, e);
	if (!ret)
		ret = place_in("dhcpstart", o->dhcpstart, ~mask > 15 ? 15 : 14, c, &c->vdhcp_start, e);
	if (!ret && (c->vhost.s_addr == c->vnameserver.s_addr || c->vhost.s_addr == c->vdhcp_start.s_addr || c->vnameserver.s_addr == c->vdhcp_start.s_addr))
		ret = err_set(e, -EINVAL, "host=, dns= and dhcpstart= are different addresses");
	return ret;
}

static int network_config(SlirpConfig *c, const struct net_user_opts *o, const char *search[2], struct err *e)
{
	memset(c, 0, sizeof(*c));
	c->vhostname = o->hostname;
	c->vdomainname = o->domainname;
	search[0] = o->dnssearch;
	search[1] = NULL;
	c->vdnssearch = o->dnssearch ? search : NULL;
	c->version = 4;
	c->restricted = o->restrict_;
	c->tftp_path = o->tftp;
	c->bootfile = o->bootfile;
	c->tftp_server_name = o->tftp_server_name;
	c->in_enabled = true;
	c->in6_enabled = true;
	inet_pton(AF_INET6, "fec0::", &c->vprefix_addr6);
	c->vprefix_len = 64;
	inet_pton(AF_INET6, "fec0::2", &c->vhost6);
	inet_pton(AF_INET6, "fec0::3", &c->vnameserver6);
	return addresses(c, o, e);
}

/* What libslirp would cut off or fail on later. */
static int check_boot(const struct net_user_opts *o, struct err *e)
{
	const struct {
		const char *name, *value;
		unsigned max;
	} texts[] = {
		{ "bootfile", o->bootfile, BOOTFILE_MAX }, { "hostname", o->hostname, NAME_BYTES }, { "domainname", o->domainname, NAME_BYTES },
		{ "dnssearch", o->dnssearch, NAME_BYTES }, { "tftp-server-name", o->tftp_server_name, SERVER_NAME_MAX },
	};
	struct stat st;

	if (o->tftp && stat(o->tftp, &st))
		return err_set(e, -errno, "tftp=%s: %s", o->tftp, strerror(errno));
	if (o->tftp && !S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "tftp=%s: it must be a folder", o->tftp);
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].value && strlen(texts[i].value) > texts[i].max)
			return err_set(e, -EINVAL, "%s=%.40s...: DHCP has room for %u bytes", texts[i].name, texts[i].value, texts[i].max);
	return 0;
}

int net_user_new(struct loop *l, const struct net_user_opts *o, struct net_backend **out, struct err *e)
{
	struct user_net *u;
	const char *search[2];
	SlirpConfig c;
	int ret = check_boot(o, e);

	if (ret)
		return ret;
	u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(e, -ENOMEM, "out of memory for the user network");
	u->b = (struct net_backend){
		.ops = &user_ops,
		.loop = l,
		.offloads = NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6 | NET_OFF_ECN | NET_OFF_GUEST_CSUM,
		.max_pairs = 1,
	};
	u->thread = pthread_self();
	queue_init(&u->to_guest);
	queue_init(&u->from_guest);
	loop_bh_init(l, &u->turn_bh, turn, u);
	loop_timer_init(l, &u->deadline, deadline_passed, u);
	u->tx = malloc(NET_MAX_FRAME);
	ret = network_config(&c, o, search, e);
	u->slirp = u->tx && !ret ? slirp_new(&c, &slirp_callbacks, u) : NULL;
	if (!u->slirp && !ret)
		ret = err_set(e, -ENOMEM, "the user network cannot be set up");
	for (unsigned i = 0; i < o->n_fwd && !ret; i++)
		ret = add_forward(u, &o->fwd[i], e);
	if (ret) {
		user_close(&u->b);
		return ret;
	}
	loop_bh_post(&u->turn_bh);
	*out = &u->b;
	return 0;
}
