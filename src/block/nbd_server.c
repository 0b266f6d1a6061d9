/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD server: sockets, exports, and the lives of clients. See nbd_server_int.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix_socket.h"
#include "block/nbd_server_int.h"

#define DEFAULT_CLIENTS 8
#define BACKLOG 16
#define NEGOTIATION_NS 10000000000ll
#define RETRY_NS 100000000ll
/* Messages of one client in a row, so that others get their turn. */
#define TURN 64

struct nbd_listener {
	struct list in;
	struct nbd_server *s;
	struct loop_fd fd;
	struct loop_timer again;	/* listens once more after the host had no descriptor for a client */
	char *path;			/* to be removed; NULL: TCP */
};

/* ---- clients ---- */

static bool may_read(const struct nbd_client *c)
{
	if (c->dead || c->step == NBD_STEP_END)
		return false;
	/* A payload that has begun must end. */
	if (c->step == NBD_STEP_PAYLOAD)
		return true;
	return c->requests < NBD_SERVER_REQUESTS && c->bytes < NBD_SERVER_BYTES && c->out_bytes < NBD_OUT_MAX + c->bytes;
}

static void watch(struct nbd_client *c)
{
	uint32_t events = (may_read(c) ? EPOLLIN : 0) | (list_empty(&c->out) ? 0 : EPOLLOUT);

	if (c->dead)
		return;
	if (c->step == NBD_STEP_END && list_empty(&c->out) && !c->requests) {
		nbds_drop(c);
		return;
	}
	if (events != c->fd.events)
		loop_fd_mod(&c->fd, events);
}

static void out_free(struct nbd_client *c, struct nbd_out *o)
{
	bool request = o->request;
	size_t charge = o->charge;

	list_del(&o->in);
	free(o->mem);
	free(o);
	if (request)
		nbds_uncharge(c, charge);
}

void nbds_uncharge(struct nbd_client *c, size_t charge)
{
	c->requests--;
	c->bytes -= charge;
	if (c->dead && !c->requests)
		loop_bh_post(&c->s->reap);
}

void nbds_drop(struct nbd_client *c)
{
	if (c->dead)
		return;
	c->dead = true;
	loop_timer_cancel(&c->deadline);
	loop_fd_del(&c->fd);
	close(c->fd.fd);
	if (c->step == NBD_STEP_OPTION_DATA)
		free(c->in_buf);
	nbds_forget_writing(c);
	list_for_each_safe(p, &c->out)
		out_free(c, list_entry(p, struct nbd_out, in));
	loop_bh_post(&c->s->reap);
}

/* Frees those that are gone and have no request under way. */
static void reap_clients(void *opaque)
{
	struct nbd_server *s = opaque;

	list_for_each_safe(p, &s->clients) {
		struct nbd_client *c = list_entry(p, struct nbd_client, in);

		if (!c->dead || c->requests)
			continue;
		list_del(p);
		s->n_clients--;
		free(c);
	}
}

void nbds_expect(struct nbd_client *c, enum nbd_step step, uint8_t *buf, size_t need)
{
	c->step = step;
	c->in_buf = buf ? buf : c->head;
	c->have = 0;
	c->need = need;
}

static void flush_out(struct nbd_client *c)
{
	if (c->dead)
		return;
	list_for_each_safe(p, &c->out) {
		struct nbd_out *o = list_entry(p, struct nbd_out, in);
		ssize_t n = send(c->fd.fd, o->at, o->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			nbds_drop(c);
			return;
		}
		o->at += n;
		o->len -= (size_t)n;
		c->out_bytes -= (size_t)n;
		if (o->len)
			break;
		out_free(c, o);
	}
}

void nbds_send(struct nbd_client *c, uint8_t *mem, size_t from, size_t len, bool request, size_t charge)
{
	struct nbd_out *o = c->dead ? NULL : malloc(sizeof(*o));

	if (!o) {
		free(mem);
		if (request)
			nbds_uncharge(c, charge);
		nbds_drop(c);
		return;
	}
	*o = (struct nbd_out){ .mem = mem, .at = mem + from, .len = len, .request = request, .charge = charge };
	list_add_tail(&c->out, &o->in);
	c->out_bytes += len;
	flush_out(c);
	watch(c);
}

void nbds_send_copy(struct nbd_client *c, const void *data, size_t len, bool request)
{
	uint8_t *mem = malloc(len);

	if (mem)
		memcpy(mem, data, len);
	if (mem) {
		nbds_send(c, mem, 0, len, request, 0);
		return;
	}
	if (request)
		nbds_uncharge(c, 0);
	nbds_drop(c);
}

static void handle(struct nbd_client *c)
{
	switch (c->step) {
	case NBD_STEP_FLAGS:
		nbds_flags(c);
		break;
	case NBD_STEP_OPTION:
		nbds_option_head(c);
		break;
	case NBD_STEP_OPTION_DATA:
		nbds_option_data(c);
		break;
	case NBD_STEP_SKIP:
		nbds_expect(c, NBD_STEP_OPTION, NULL, 16);
		break;
	case NBD_STEP_REQUEST:
		nbds_request(c);
		break;
	case NBD_STEP_PAYLOAD:
		nbds_payload(c);
		break;
	case NBD_STEP_END:
		break;
	}
}

/* False: there is no more for now. */
static bool read_some(struct nbd_client *c)
{
	bool skip = c->step == NBD_STEP_SKIP;
	uint8_t waste[4096], *to = skip ? waste : c->in_buf + c->have;
	size_t want = skip ? MIN(c->need - c->have, sizeof(waste)) : c->need - c->have;
	ssize_t n = recv(c->fd.fd, to, want, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		nbds_drop(c);
		return false;
	}
	c->have += (size_t)n;
	if (c->have == c->need)
		handle(c);
	return true;
}

static void client_event(void *opaque, uint32_t events)
{
	struct nbd_client *c = opaque;

	flush_out(c);
	for (unsigned i = 0; i < TURN && may_read(c); i++)
		if (!read_some(c))
			break;
	/* Hung up, and nothing is read any more that would show it. */
	if (!c->dead && events & (EPOLLHUP | EPOLLERR) && !may_read(c))
		nbds_drop(c);
	watch(c);
}

static void client_late(void *opaque)
{
	nbds_drop(opaque);
}

int nbd_server_attach(struct nbd_server *s, int fd)
{
	struct nbd_client *c;
	int ret;

	reap_clients(s);
	if (s->n_clients >= s->max_clients)
		return -EBUSY;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->s = s;
	list_init(&c->out);
	c->fd = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = client_event, .opaque = c };
	loop_timer_init(s->loop, &c->deadline, client_late, c);
	ret = loop_fd_add(s->loop, &c->fd);
	if (ret) {
		free(c);
		return ret;
	}
	loop_timer_arm(&c->deadline, loop_now_ns() + NEGOTIATION_NS);
	list_add_tail(&s->clients, &c->in);
	s->n_clients++;
	nbds_hello(c);
	return 0;
}

unsigned nbd_server_clients(const struct nbd_server *s, const char *name)
{
	unsigned n = 0;

	list_for_each(p, (struct list *)(uintptr_t)&s->clients) {
		const struct nbd_client *c = list_entry(p, struct nbd_client, in);

		n += !c->dead && (!name || (c->x && !strcmp(c->x->name, name)));
	}
	return n;
}

/* ---- sockets ---- */

static void listener_event(void *opaque, uint32_t events)
{
	struct nbd_listener *li = opaque;
	const int on = 1;
	int fd = accept4(li->fd.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		/* Who waits makes the socket ready all the time, so it is left alone for a while. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			loop_fd_mod(&li->fd, 0);
			loop_timer_arm(&li->again, loop_now_ns() + RETRY_NS);
		}
		return;
	}
	if (!li->path)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (nbd_server_attach(li->s, fd)) {
		log_guest("NBD server: a client was turned away, there are too many");
		close(fd);
	}
}

static void listen_again(void *opaque)
{
	struct nbd_listener *li = opaque;

	loop_fd_mod(&li->fd, EPOLLIN);
}

static int start_listening(struct nbd_server *s, int fd, const char *path)
{
	struct nbd_listener *li = calloc(1, sizeof(*li));
	int ret = li ? 0 : -ENOMEM;

	if (!ret && path) {
		li->path = strdup(path);
		ret = li->path ? 0 : -ENOMEM;
	}
	if (!ret) {
		li->s = s;
		li->fd = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = listener_event, .opaque = li };
		loop_timer_init(s->loop, &li->again, listen_again, li);
		ret = loop_fd_add(s->loop, &li->fd);
	}
	if (!ret) {
		list_add_tail(&s->listeners, &li->in);
		return 0;
	}
	if (li)
		free(li->path);
	free(li);
	return ret;
}

int nbd_server_listen_unix(struct nbd_server *s, const char *path, struct err *e)
{
	int fd, ret = unix_socket_listen(path, BACKLOG, &fd, e);

	if (ret)
		return err_prefix(e, ret, "NBD socket");
	ret = start_listening(s, fd, path);
	if (!ret)
		return 0;
	unlink(path);
	close(fd);
	return err_set(e, ret, "NBD socket: %s: %s", path, strerror(-ret));
}

int nbd_server_listen_tcp(struct nbd_server *s, const char *address, uint16_t port, uint16_t *bound, struct err *e)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool six = inet_pton(AF_INET6, address, &in6.sin6_addr) == 1;
	struct sockaddr *a = six ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
	socklen_t len = six ? sizeof(in6) : sizeof(in);
	const int on = 1;
	int fd, ret = 0;

	if (!six && inet_pton(AF_INET, address, &in.sin_addr) != 1)
		return err_set(e, -EINVAL, "NBD server: '%s' is not an IPv4 or IPv6 address", address);
	fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "NBD server on %s: %s", address, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, a, len) || listen(fd, BACKLOG))
		ret = -errno;
	ret = ret ? ret : start_listening(s, fd, NULL);
	if (ret) {
		close(fd);
		return err_set(e, ret, "NBD server on %s port %u: %s", address, port, strerror(-ret));
	}
	if (bound && !getsockname(fd, a, &len))
		*bound = ntohs(six ? in6.sin6_port : in.sin_port);
	return 0;
}

/* ---- exports ---- */

struct nbd_export *nbds_find(struct nbd_server *s, const uint8_t *name, size_t len)
{
	list_for_each(p, &s->exports) {
		struct nbd_export *x = list_entry(p, struct nbd_export, in);

		if (strlen(x->name) == len && (!len || !memcmp(x->name, name, len)))
			return x;
	}
	return NULL;
}

static void export_free(struct nbd_export *x)
{
	free(x->name);
	free(x->description);
	free(x);
}

int nbd_server_add(struct nbd_server *s, struct blk_node *n, const struct nbd_export_opts *o, struct err *e)
{
	struct nbd_export *x;

	if (strlen(o->name) > NBD_MAX_NAME || (o->description && strlen(o->description) > NBD_MAX_NAME))
		return err_set(e, -EINVAL, "an NBD export's name and description have at most %d bytes", NBD_MAX_NAME);
	if (nbds_find(s, (const uint8_t *)o->name, strlen(o->name)))
		return err_set(e, -EEXIST, "there is an NBD export '%.64s' already", o->name);
	x = calloc(1, sizeof(*x));
	if (x) {
		x->n = n;
		x->read_only = o->read_only;
		x->name = strdup(o->name);
		x->description = o->description ? strdup(o->description) : NULL;
	}
	if (!x || !x->name || (o->description && !x->description)) {
		if (x)
			export_free(x);
		return err_set(e, -ENOMEM, "out of memory");
	}
	list_add_tail(&s->exports, &x->in);
	return 0;
}

/* Of export x, or all. */
static void end_clients(struct nbd_server *s, struct nbd_export *x)
{
	list_for_each(p, &s->clients) {
		struct nbd_client *c = list_entry(p, struct nbd_client, in);

		if (!x || c->x == x)
			nbds_drop(c);
	}
	list_for_each(p, &s->exports) {
		struct nbd_export *o = list_entry(p, struct nbd_export, in);

		if (!x || o == x)
			blk_drain(o->n);
	}
	reap_clients(s);
}

int nbd_server_remove(struct nbd_server *s, const char *name)
{
	struct nbd_export *x = nbds_find(s, (const uint8_t *)name, strlen(name));

	if (!x)
		return -ENOENT;
	end_clients(s, x);
	list_del(&x->in);
	export_free(x);
	return 0;
}

int nbd_server_new(struct loop *l, unsigned max_clients, struct nbd_server **out)
{
	struct nbd_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->loop = l;
	s->max_clients = max_clients ? max_clients : DEFAULT_CLIENTS;
	list_init(&s->exports);
	list_init(&s->clients);
	list_init(&s->listeners);
	loop_bh_init(l, &s->reap, reap_clients, s);
	*out = s;
	return 0;
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	list_for_each_safe(p, &s->listeners) {
		struct nbd_listener *li = list_entry(p, struct nbd_listener, in);

		loop_fd_del(&li->fd);
		loop_timer_cancel(&li->again);
		close(li->fd.fd);
		if (li->path)
			unlink(li->path);
		free(li->path);
		free(li);
	}
	end_clients(s, NULL);
	list_for_each_safe(p, &s->exports)
		export_free(list_entry(p, struct nbd_export, in));
	loop_bh_cancel(&s->reap);
	free(s);
}
