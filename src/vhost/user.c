// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The thread that has a vhost-user peer's connection.
 *
 * `lock` protects what the device and the thread tell each other, and is never held while anything is sent or waited for.  Everybody who wants
 * something of the thread writes to `wake`, which it polls wherever it waits for long; in the middle of a conversation it is reached by
 * shutting the socket down.
 */
#include "vhost/user.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/confine.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "vhost/talk.h"

#define MS 1000000ll
#define ANSWER_MS 10000u		/* for a whole conversation; half of it to stop, and for his configuration */
#define REQUEST_NS (1000 * MS)		/* the rest of a request of his */
#define RECONNECT_MS 1000u
#define PAUSE_MS 100			/* before the next who comes */

struct vhost_user {
	struct vhost v;			/* first */
	struct loop_bh bh;
	char *path, *name;
	bool server;
	unsigned reconnect_ms;
	int64_t answer_ns;
	uint32_t config_len;
	int listen;			/* server: the socket; else -1 */
	int wake;			/* eventfd */
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock;
	pthread_cond_t cond;		/* something below has changed */
	bool quit, stop, stop_reset;	/* what is wanted */
	bool start;
	struct vhost_plan plan;
	struct vhost_news news;
	int sock;			/* the connection, -1: none; closed by the thread, shut down by anybody */
	bool dropped;			/* the connection has been shut down here */
	int stop_ret;
	int ring_fd;			/* memory for who is there now, -1: none */
	char why[160];			/* the last failure; empty: none yet */

	/* The thread's alone. */
	struct vu_talk t;
	int err;			/* eventfd: a ring's error; of this connection */
	int req;			/* our end of the channel for his requests, -1: none */
	bool told;			/* that he is away, or of no use: once */
};

static struct vhost_user *of(struct vhost *v)
{
	return container_of(v, struct vhost_user, v);
}

static void wake(struct vhost_user *u)
{
	uint64_t one = 1;

	/* Fails only when the counter is full: then it is awake. */
	if (write(u->wake, &one, sizeof(one)) < 0)
		return;
}

static void drain_eventfd(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return;
}

/* -ENOTCONN: he has been dropped meanwhile. */
static int set_state(struct vhost_user *u, enum vhost_state s)
{
	bool dropped;

	pthread_mutex_lock(&u->lock);
	dropped = u->dropped;
	if (!dropped)
		u->news.state = s;
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
	loop_bh_post(&u->bh);
	return dropped ? -ENOTCONN : 0;
}

static bool wants_quit(struct vhost_user *u)
{
	bool q;

	pthread_mutex_lock(&u->lock);
	q = u->quit;
	pthread_mutex_unlock(&u->lock);
	return q;
}

static const char *text_of(int ret)
{
	switch (ret) {
	case -ENOTCONN: return "it has closed the connection";
	case -EPROTO: return "it answers nonsense";
	case -ETIMEDOUT: return "it does not answer";
	case -EIO: return "it refuses";
	case -ENOTSUP: return "it has no configuration space for such a device, or does not know virtio 1.0";
	default: return strerror(-ret);
	}
}

/* Failed to reach him, or to talk to him. */
static void failed(struct vhost_user *u, const char *doing, const char *text)
{
	pthread_mutex_lock(&u->lock);
	snprintf(u->why, sizeof(u->why), "%s%s%s", doing, *doing ? ": " : "", text);
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
}

/* ---- what he asks ---- */

/* The configuration has changed. */
static int config_again(struct vhost_user *u)
{
	uint8_t config[VHOST_CONFIG_MAX];
	int ret;

	u->t.deadline = loop_now_ns() + u->answer_ns / 2;
	ret = vu_get_config(&u->t, u->config_len, config);
	if (ret)
		return ret;
	pthread_mutex_lock(&u->lock);
	memcpy(u->news.config, config, u->config_len);
	u->news.config_serial++;
	pthread_mutex_unlock(&u->lock);
	loop_bh_post(&u->bh);
	return 0;
}

/* A request of his.  What he says there can end his channel, which is all he is worth then; the connection's own errors are returned. */
static int his_request(struct vhost_user *u)
{
	int64_t deadline = loop_now_ns() + REQUEST_NS;
	struct vu_msg m;
	uint64_t answer = 0;
	int ret = vu_receive(u->req, &m, deadline);

	if (ret) {
		if (ret != -ENOTCONN)
			log_warn("%s: the vhost-user peer at %s: its requests are not heard any more: %s", u->name, u->path, text_of(ret));
		close(u->req);
		u->req = -1;
		return 0;
	}
	if (m.h.request == VU_BACKEND_CONFIG_CHANGE && u->config_len)
		ret = config_again(u);
	else
		answer = 1;
	if (!ret && m.h.flags & VU_F_NEED_REPLY) {
		m.h.flags = VU_VERSION | VU_F_REPLY;
		m.h.size = sizeof(m.p.u64);
		m.p.u64 = answer;
		if (vu_send(u->req, &m, NULL, 0, deadline)) {
			close(u->req);
			u->req = -1;
		}
	}
	return ret;
}

/* ---- what the device asks ---- */

static int do_start(struct vhost_user *u)
{
	struct vhost_plan plan;
	int ret;

	pthread_mutex_lock(&u->lock);
	u->start = false;
	plan = u->plan;
	pthread_mutex_unlock(&u->lock);
	u->t.deadline = loop_now_ns() + u->answer_ns;
	ret = vu_start(&u->t, &plan, u->err);
	return ret ? ret : set_state(u, VHOST_RUNNING);
}

static int do_stop(struct vhost_user *u)
{
	bool runs, reset;
	unsigned n;
	int ret;

	pthread_mutex_lock(&u->lock);
	runs = u->news.state == VHOST_RUNNING;
	reset = u->stop_reset;
	n = u->plan.n_rings;
	pthread_mutex_unlock(&u->lock);
	u->t.deadline = loop_now_ns() + u->answer_ns / 2;
	ret = runs ? vu_stop(&u->t, n, reset) : 0;
	pthread_mutex_lock(&u->lock);
	u->stop = false;
	u->stop_ret = ret;
	if (!ret && !u->dropped)
		u->news.state = VHOST_THERE;
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
	return ret;
}

/* 0, or why the connection ends. */
static int do_wishes(struct vhost_user *u)
{
	bool start, stop;
	int ret = 0;

	pthread_mutex_lock(&u->lock);
	start = u->start;
	stop = u->stop;
	pthread_mutex_unlock(&u->lock);
	if (start)
		ret = do_start(u);
	if (!ret && stop)
		ret = do_stop(u);
	return ret;
}

/* ---- a connection ---- */

/* Until it ends: the reason. */
static int serve(struct vhost_user *u)
{
	int ret = 0;

	while (!ret && !wants_quit(u)) {
		struct pollfd p[] = {
			{ .fd = u->wake, .events = POLLIN },
			{ .fd = u->t.fd, .events = POLLIN | POLLRDHUP },
			{ .fd = u->err, .events = POLLIN },
			{ .fd = u->req, .events = POLLIN },
		};
		char c;

		u->t.doing = "";
		if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents)
			drain_eventfd(u->wake);
		/* Nothing was asked. */
		if (p[1].revents)
			ret = recv(u->t.fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) > 0 ? -EPROTO : -ENOTCONN;
		if (!ret && p[2].revents) {
			u->t.doing = "it reports an error of a ring";
			ret = -EIO;
		}
		if (!ret)
			ret = do_wishes(u);
		if (!ret && u->req >= 0 && p[3].revents)
			ret = his_request(u);
	}
	return ret;
}

static int hello(struct vhost_user *u)
{
	struct vhost_news n = { 0 };
	bool gave;
	int pair[2], ring_fd = -1, ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	u->t.deadline = loop_now_ns() + u->answer_ns;
	ret = vu_hello(&u->t, u->config_len, pair[1], &gave, &n);
	close(pair[1]);
	if (ret || !gave)
		close(pair[0]);
	else
		u->req = pair[0];
	if (ret)
		return ret;
	/* The first has what the device made. */
	if (u->news.life && u->v.ring_bytes) {
		ring_fd = vhost_shared_new(u->v.ring_bytes);
		if (ring_fd < 0)
			return ring_fd;
	}
	pthread_mutex_lock(&u->lock);
	if (u->ring_fd >= 0)
		close(u->ring_fd);
	u->ring_fd = ring_fd;
	n.life = u->news.life + 1;
	n.config_serial = u->news.config_serial + 1;
	n.state = VHOST_THERE;
	u->news = n;
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
	loop_bh_post(&u->bh);
	return 0;
}

/* fd: a connection, which is closed in the end. */
static void with_connection(struct vhost_user *u, int fd)
{
	bool dropped;
	int ret;

	pthread_mutex_lock(&u->lock);
	u->sock = fd;
	u->dropped = false;
	pthread_mutex_unlock(&u->lock);
	u->t.fd = fd;
	u->t.doing = "";
	/* A new one: who had the last may have it still. */
	u->err = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret = u->err < 0 ? -errno : hello(u);
	if (!ret) {
		if (u->told)
			log_info("%s: the vhost-user peer at %s is there again", u->name, u->path);
		u->told = false;
		ret = serve(u);
	}
	pthread_mutex_lock(&u->lock);
	dropped = u->dropped;
	u->sock = -1;
	u->start = false;
	u->news.state = VHOST_AWAY;
	/* Who waits for it to stop: it has. */
	if (u->stop) {
		u->stop = false;
		u->stop_ret = -ENOTCONN;
	}
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
	close(fd);
	if (u->req >= 0)
		close(u->req);
	if (u->err >= 0)
		close(u->err);
	u->req = u->err = -1;
	if (wants_quit(u))
		return;
	failed(u, u->t.doing, text_of(ret));
	/* The first who comes is waited for by somebody who says it himself. */
	if (!dropped && !u->told && (u->news.life || u->server))
		log_warn("%s: the vhost-user peer at %s is away: %s%s%s; requests wait", u->name, u->path, u->t.doing, *u->t.doing ? ": " : "",
			 text_of(ret));
	u->told = true;
	loop_bh_post(&u->bh);
}

/* Waits so long, or until it is to quit. */
static void rest(struct vhost_user *u, unsigned ms)
{
	int64_t until = loop_now_ns() + ms * MS;

	while (!wants_quit(u)) {
		int64_t left = until - loop_now_ns();
		struct pollfd p = { .fd = u->wake, .events = POLLIN };

		if (left <= 0)
			return;
		if (poll(&p, 1, (int)(left / MS + 1)) > 0)
			drain_eventfd(u->wake);
	}
}

static int connect_to(struct vhost_user *u)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, ret;

	memcpy(sun.sun_path, u->path, strlen(u->path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)&sun, sizeof(sun)))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* Until somebody comes; -1: it is to quit. */
static int wait_for(struct vhost_user *u)
{
	while (!wants_quit(u)) {
		struct pollfd p[] = { { .fd = u->wake, .events = POLLIN }, { .fd = u->listen, .events = POLLIN } };
		int fd;

		if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
			rest(u, RECONNECT_MS);
		if (p[0].revents)
			drain_eventfd(u->wake);
		if (!p[1].revents)
			continue;
		fd = accept4(u->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			return fd;
		/* No descriptors, perhaps. */
		rest(u, PAUSE_MS);
	}
	return -1;
}

static void *thread_main(void *opaque)
{
	struct vhost_user *u = opaque;

	pthread_setname_np(pthread_self(), "vhost-user");
	confine_enter(CONFINE_PEER);
	while (!wants_quit(u)) {
		int fd = u->server ? wait_for(u) : connect_to(u);

		if (fd < 0 && !u->server)
			failed(u, "", strerror(-fd));
		if (fd >= 0)
			with_connection(u, fd);
		rest(u, u->server ? PAUSE_MS : u->reconnect_ms);
	}
	return NULL;
}

/* ---- for the device ---- */

static void tell_device(void *opaque)
{
	struct vhost_user *u = opaque;

	if (u->v.changed)
		u->v.changed(u->v.opaque);
}

static void user_look(struct vhost *v, struct vhost_news *out)
{
	struct vhost_user *u = of(v);

	pthread_mutex_lock(&u->lock);
	*out = u->news;
	pthread_mutex_unlock(&u->lock);
}

static void user_start(struct vhost *v, uint64_t life, const struct vhost_plan *plan)
{
	struct vhost_user *u = of(v);

	pthread_mutex_lock(&u->lock);
	if (u->news.state == VHOST_THERE && u->news.life == life) {
		u->plan = *plan;
		u->start = true;
		u->news.state = VHOST_STARTING;
		wake(u);
	}
	pthread_mutex_unlock(&u->lock);
}

/* lock held. */
static void shut(struct vhost_user *u)
{
	if (u->sock >= 0)
		shutdown(u->sock, SHUT_RDWR);
	u->dropped = true;
}

static int user_memory(struct vhost *v)
{
	struct vhost_user *u = of(v);
	int fd;

	pthread_mutex_lock(&u->lock);
	fd = u->ring_fd;
	u->ring_fd = -1;
	pthread_mutex_unlock(&u->lock);
	return fd < 0 ? -EAGAIN : fd;
}

static int user_stop(struct vhost *v, bool reset)
{
	struct vhost_user *u = of(v);
	/* Behind what may be under way. */
	int64_t at = loop_now_ns() + 2 * u->answer_ns + REQUEST_NS;
	struct timespec ts = { .tv_sec = at / 1000000000, .tv_nsec = at % 1000000000 };
	int ret = 0;

	pthread_mutex_lock(&u->lock);
	if (u->news.state == VHOST_RUNNING || u->news.state == VHOST_STARTING) {
		u->stop = true;
		u->stop_reset = reset;
		wake(u);
		while (u->stop && !ret)
			ret = -pthread_cond_timedwait(&u->cond, &u->lock, &ts);
		if (u->stop)
			shut(u);
		else
			ret = u->stop_ret;
		u->stop = false;
	} else if (u->news.state == VHOST_AWAY) {
		ret = -ENOTCONN;
	}
	pthread_mutex_unlock(&u->lock);
	return ret;
}

static void user_drop(struct vhost *v, const char *why)
{
	struct vhost_user *u = of(v);

	pthread_mutex_lock(&u->lock);
	if (u->sock >= 0 && !u->dropped)
		log_warn("%s: the vhost-user peer at %s is cut off: %s", u->name, u->path, why);
	shut(u);
	u->news.state = VHOST_AWAY;
	pthread_mutex_unlock(&u->lock);
}

static void user_free(struct vhost *v)
{
	struct vhost_user *u = of(v);

	pthread_mutex_lock(&u->lock);
	u->quit = true;
	shut(u);
	pthread_mutex_unlock(&u->lock);
	if (u->has_thread) {
		wake(u);
		pthread_join(u->thread, NULL);
	}
	loop_bh_cancel(&u->bh);
	if (u->listen >= 0) {
		close(u->listen);
		unlink(u->path);
	}
	if (u->wake >= 0)
		close(u->wake);
	if (u->ring_fd >= 0)
		close(u->ring_fd);
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->lock);
	free(u->path);
	free(u->name);
	free(u);
}

static const struct vhost_ops user_ops = {
	.look = user_look, .start = user_start, .memory = user_memory, .stop = user_stop, .drop = user_drop, .free = user_free,
};

static int start_thread(struct vhost_user *u)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&u->thread, NULL, thread_main, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	u->has_thread = !ret;
	return ret;
}

/* Until he is there. */
static int wait_first(struct vhost_user *u, struct err *e)
{
	int ret = 0;

	pthread_mutex_lock(&u->lock);
	while (!u->news.life && (u->server || !*u->why))
		pthread_cond_wait(&u->cond, &u->lock);
	if (!u->news.life)
		ret = err_set(e, -ECONNREFUSED, "the vhost-user peer at %s: %s", u->path, u->why);
	pthread_mutex_unlock(&u->lock);
	return ret;
}

static int set_up(struct vhost_user *u, const struct vhost_user_opts *o, struct err *e)
{
	char here[PATH_MAX];
	int ret;

	if (*o->path != '/' && !getcwd(here, sizeof(here)))
		return err_set(e, -errno, "%s: %s", o->path, strerror(errno));
	if (asprintf(&u->path, "%s%s%s", *o->path == '/' ? "" : here, *o->path == '/' ? "" : "/", o->path) < 0) {
		u->path = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (strlen(u->path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(e, -ENAMETOOLONG, "'%.120s': the path of a socket has 1 to %zu bytes", u->path,
			       sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	u->name = strdup(o->name);
	u->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!u->name || u->wake < 0)
		return err_set(e, -ENOMEM, "no memory or file descriptors for a vhost-user peer");
	if (u->server) {
		ret = unix_socket_listen(u->path, 1, &u->listen, e);
		if (ret)
			return ret;
		log_note("%s waits for a vhost-user peer at %s", u->name, u->path);
	}
	ret = start_thread(u);
	return ret ? err_set(e, ret, "a thread for %s cannot be started: %s", u->path, strerror(-ret)) : wait_first(u, e);
}

int vhost_user_new(struct loop *l, const struct vhost_user_opts *o, struct vhost **out, struct err *e)
{
	struct vhost_user *u = calloc(1, sizeof(*u));
	pthread_condattr_t attr;
	int ret;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	u->v.ops = &user_ops;
	u->server = o->server;
	u->reconnect_ms = o->reconnect_ms ? o->reconnect_ms : RECONNECT_MS;
	u->answer_ns = (o->answer_ms ? o->answer_ms : ANSWER_MS) * MS;
	u->config_len = MIN(o->config_len, VHOST_CONFIG_MAX);
	u->listen = u->wake = u->sock = u->req = u->err = u->ring_fd = -1;
	pthread_mutex_init(&u->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->cond, &attr);
	pthread_condattr_destroy(&attr);
	loop_bh_init(l, &u->bh, tell_device, u);
	ret = set_up(u, o, e);
	if (ret) {
		user_free(&u->v);
		return ret;
	}
	*out = &u->v;
	return 0;
}
