// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The server: its sockets, its thread, and the beat at which the screen is looked at.
 *
 * While a client waits for an update the display is refreshed thirty times a
 * second; when nothing changes, less and less often, down to five times, until
 * something does or somebody types.  The first time it is looked again soon: who
 * draws thirty times a second, too, is late by a little now and then.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "display/vnc/vnc_int.h"

#define BEAT_NS 33000000ll
#define SOON_NS 1000000ll
#define AGAIN_NS 4000000ll
#define SLOWEST_NS 200000000ll
#define RETRY_NS 100000000ll
#define BACKLOG 16

/* ---- the beat ---- */

static bool anybody_waits(const struct vnc *v)
{
	list_for_each(n, &v->clients) {
		const struct vnc_client *c = list_entry(n, struct vnc_client, node);

		if (c->state == VNC_RUN && (c->wanted || c->continuous) && vnc_conn_pending(&c->c) <= VNC_OUT_BUSY)
			return true;
	}
	return false;
}

void vnc_wake(struct vnc *v, bool now)
{
	int64_t at = loop_now_ns() + (now || !v->ticking ? SOON_NS : BEAT_NS);

	/* However much is asked for, the guest is looked at so often and no oftener. */
	at = MAX(at, v->last_ns + BEAT_NS / 2);
	v->interval_ns = BEAT_NS;
	if (!v->ticking || v->tick.deadline_ns > at)
		loop_timer_arm(&v->tick, at);
	v->ticking = true;
}

static void on_tick(void *opaque)
{
	struct vnc *v = opaque;
	int64_t begin = loop_now_ns();
	bool sent = false;

	/* Late by a part of a beat, as on a busy machine: the next is not late by as much as well. */
	if (begin - v->tick.deadline_ns < BEAT_NS / 2)
		begin = v->tick.deadline_ns;

	v->ticking = anybody_waits(v);
	if (!v->ticking)
		return;			/* the next request begins it again */
	v->last_ns = begin;
	display_refresh(v->d);
	list_for_each_safe(n, &v->clients) {
		struct vnc_client *c = list_entry(n, struct vnc_client, node);

		if (c->state != VNC_RUN || !vnc_update(c))
			continue;
		sent = true;
		vnc_client_flush(c);
	}
	v->quiet = sent ? 0 : v->quiet + 1;
	if (v->quiet != 1)
		v->interval_ns = sent ? BEAT_NS : MIN(v->interval_ns + v->interval_ns / 8, SLOWEST_NS);
	/* Whatever it took: a part of the time is the guest's. */
	loop_timer_arm(&v->tick, MAX(begin + (v->quiet == 1 ? AGAIN_NS : v->interval_ns), loop_now_ns() + 2 * SOON_NS));
}

/* ---- sockets ---- */

/* EPOLLIN, or 0: until the timer. */
static void listen_for(struct vnc *v, uint32_t events)
{
	for (unsigned i = 0; i < v->n_listeners; i++)
		loop_fd_mod(&v->listener[i].watch, events);
	if (!events)
		loop_timer_arm(&v->accept_again, loop_now_ns() + RETRY_NS);
}

static void on_accept_again(void *opaque) { listen_for(opaque, EPOLLIN); }

static void on_connect(void *opaque, uint32_t events)
{
	struct vnc_listener *l = opaque;
	int fd = accept4(l->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1, room = 256 << 10;

	if (fd < 0) {
		/* Who waits makes the socket ready all the time, so it is left alone for a while. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			listen_for(l->v, 0);
		return;
	}
	if (l->v->n_clients >= VNC_MAX_CLIENTS) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Old pictures are not worth waiting behind. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	vnc_client_new(l->v, fd, l->ws);
}

/* A socket that listens.  On an error it is still the caller's. */
static int watch(struct vnc *v, int fd, bool ws)
{
	struct vnc_listener *l = &v->listener[v->n_listeners];
	int r;

	l->v = v;
	l->ws = ws;
	l->watch = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_connect, .opaque = l };
	r = loop_fd_add(v->loop, &l->watch);
	if (!r && !v->n_listeners++)
		vnc_peer_of(fd, true, ws, &v->info.server);
	return r;
}

static int listen_tcp(struct vnc *v, const char *host, unsigned port, bool ws, struct err *e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *all = NULL;
	char service[16];
	int r, one = 1, fd = -1;

	host = host ? host : "127.0.0.1";
	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &all);
	if (r)
		return err_set(e, -EADDRNOTAVAIL, "VNC cannot listen on '%s': %s", host, gai_strerror(r));
	r = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = all; a && r; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		r = bind(fd, a->ai_addr, a->ai_addrlen) ? -errno : listen(fd, BACKLOG) ? -errno : watch(v, fd, ws);
		if (r)
			close(fd);
	}
	freeaddrinfo(all);
	if (r)
		err_set(e, r, "VNC cannot listen on %s port %u: %s; choose another display number or port", host, port,
			strerror(-r));
	return r;
}

static int listen_unix(struct vnc *v, const char *path, struct err *e)
{
	int fd, r = unix_socket_listen(path, BACKLOG, &fd, e);

	if (r)
		return err_prefix(e, r, "VNC cannot listen on unix socket");
	v->unix_path = strdup(path);
	r = watch(v, fd, false);
	if (!r)
		return 0;
	close(fd);
	return err_set(e, r, "VNC cannot listen on unix socket %s: %s", path, strerror(-r));
}

/* ---- life ---- */

static void *thread(void *opaque)
{
	struct vnc *v = opaque;
	sigset_t all;

	sigfillset(&all);		/* SIGPIPE among them: writes say EPIPE */
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "vnc");
	confine_enter(CONFINE_SCREEN);
	loop_run(v->loop);
	return NULL;
}

static int copy_text(const char *text, char **out)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? -ENOMEM : 0;
}

static int open_all(struct vnc *v, const struct vnc_config *cfg, struct err *e)
{
	const struct tls_files tls = { .server = true, .cert = cfg->tls_cert, .key = cfg->tls_key, .anonymous = cfg->tls_anonymous };
	int r = copy_text(cfg->password, &v->password);

	v->password_later = cfg->password_later;
	if (!r)
		r = copy_text(cfg->view_password, &v->view_password);
	if (!r)
		r = loop_new(&v->loop);
	if (r)
		return err_set(e, r, "VNC cannot begin: %s", strerror(-r));
	loop_timer_init(v->loop, &v->tick, on_tick, v);
	loop_timer_init(v->loop, &v->accept_again, on_accept_again, v);
	if (cfg->tls_anonymous || cfg->tls_cert)
		r = tls_creds_new(&tls, &v->tls, e);
	v->tls_x509 = cfg->tls_cert != NULL;
	if (!r && cfg->port)
		r = listen_tcp(v, cfg->host, cfg->port, false, e);
	if (!r && cfg->websocket)
		r = listen_tcp(v, cfg->host, cfg->websocket, true, e);
	if (!r && cfg->unix_path)
		r = listen_unix(v, cfg->unix_path, e);
	return r;
}

int vnc_make(struct display *d, struct input *in, const struct vnc_config *cfg, struct vnc **out, struct err *e)
{
	struct vnc *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory for VNC");
	v->d = d;
	v->in = in;
	pthread_mutex_init(&v->shared, NULL);
	v->read_only = cfg->read_only;
	v->clip = cfg->clipboard;
	v->interval_ns = BEAT_NS;
	list_init(&v->clients);
	r = open_all(v, cfg, e);
	if (r) {
		vnc_free(v);
		return r;
	}
	*out = v;
	return 0;
}

int vnc_new(struct display *d, struct input *in, const struct vnc_config *cfg, struct vnc **out, struct err *e)
{
	struct vnc *v;
	int r = vnc_make(d, in, cfg, &v, e);

	if (r)
		return r;
	vnc_auth_prepare();
	r = pthread_create(&v->thread, NULL, thread, v);
	if (r) {
		vnc_free(v);
		return err_set(e, -r, "no thread for VNC: %s", strerror(r));
	}
	v->running = true;
	*out = v;
	return 0;
}

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

void vnc_free(struct vnc *v)
{
	if (!v)
		return;
	if (v->running) {
		loop_stop(v->loop);
		pthread_join(v->thread, NULL);
	}
	list_for_each_safe(n, &v->clients)
		vnc_client_end(list_entry(n, struct vnc_client, node));
	for (unsigned i = 0; i < v->n_listeners; i++) {
		loop_fd_del(&v->listener[i].watch);
		close(v->listener[i].watch.fd);
	}
	if (v->unix_path)
		unlink(v->unix_path);
	if (v->loop)
		loop_free(v->loop);
	tls_creds_unref(v->tls);
	wipe(v->password);
	wipe(v->view_password);
	free(v->unix_path);
	free(v->copy);
	pthread_mutex_destroy(&v->shared);
	free(v);
}
