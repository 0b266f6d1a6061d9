// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where clients come from: sockets listened to, connections made or handed down
 * at the start, standard input and output.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "control/disk.h"
#include "control/internal.h"
#include "control/place.h"

#define CLIENTS_PER_LISTENER 16

/* ---- listeners ---- */

static void listener_pause(struct ctl_listener *l)
{
	loop_fd_del(&l->fd);
}

static void listener_watch(struct ctl_listener *l)
{
	if (!l->fd.loop && l->clients < CLIENTS_PER_LISTENER && loop_fd_add(l->ctl->m->loop, &l->fd))
		loop_timer_arm(&l->ctl->accept_again, loop_now_ns() + CTL_RETRY_NS);
}

void ctl_listener_room(struct ctl_listener *l)
{
	if (!l->ctl->ending)
		listener_watch(l);
}

static void on_retry(void *opaque)
{
	struct control *ctl = opaque;

	list_for_each(n, &ctl->listeners)
		listener_watch(list_entry(n, struct ctl_listener, node));
}

/* Everything but "nobody there" is the host's or the number of clients' fault: look again later. */
static int accept_one(struct ctl_listener *l)
{
	bool layered = l->tls || l->at.websocket;
	int fd = accept4(l->fd.fd, NULL, NULL, SOCK_CLOEXEC | (layered ? SOCK_NONBLOCK : 0)), ret = 0;
	const struct stream_opts o = { .fd = fd, .tls = l->tls, .guard = l->guard.allows ? &l->guard : NULL, .websocket = l->at.websocket };
	struct stream *s = NULL;

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
	if (layered)
		ret = stream_new(&o, &s);
	if (!ret)
		ret = ctl_monitor_new(l->ctl, fd, -1, &l->at, l, s);
	if (ret) {
		stream_free(s);
		close(fd);
	}
	return ret;
}

static void on_connect(void *opaque, uint32_t events)
{
	struct ctl_listener *l = opaque;

	if (accept_one(l)) {
		listener_pause(l);
		loop_timer_arm(&l->ctl->accept_again, loop_now_ns() + CTL_RETRY_NS);
	} else if (l->clients >= CLIENTS_PER_LISTENER) {
		listener_pause(l);
	}
}

static int listener_new(struct control *ctl, const struct ctl_address *a, int fd, struct tls_creds *tls, const struct tls_guard *guard)
{
	struct ctl_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->ctl = ctl;
	l->at = *a;
	l->ours = a->where == CTL_AT_UNIX;
	l->fd = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_connect, .opaque = l };
	l->tls = tls_creds_ref(tls);
	if (guard)
		l->guard = *guard;
	list_add_tail(&ctl->listeners, &l->node);
	listener_watch(l);
	return 0;
}

static void listener_free(struct ctl_listener *l)
{
	loop_fd_del(&l->fd);
	close(l->fd.fd);
	if (l->ours)
		unlink(l->at.path);
	tls_creds_unref(l->tls);
	list_del(&l->node);
	free(l);
}

/* ---- the configuration's monitors ---- */

/* TLS as the address says. */
static int tls_of(struct control *ctl, const struct ctl_address *a, struct tls_creds **tls, struct tls_guard *guard, struct err *e)
{
	const struct vm_tls t = {
		.creds = a->tls_creds[0] ? a->tls_creds : NULL, .authz = a->tls_authz[0] ? a->tls_authz : NULL, .cert = a->tls_cert[0] ? a->tls_cert : NULL,
		.key = a->tls_key[0] ? a->tls_key : NULL, .ca = a->tls_ca[0] ? a->tls_ca : NULL,
	};

	return vm_tls_get(ctl->vm, &t, a->server, tls, guard, e);
}

static int open_server(struct control *ctl, const struct ctl_address *a, struct err *e)
{
	struct tls_creds *tls;
	struct tls_guard guard;
	uint16_t port = 0;
	int fd, ret = tls_of(ctl, a, &tls, &guard, e);

	if (!ret)
		ret = ctl_address_listen(a, &fd, &port, e);
	if (ret)
		return ret;
	ret = listener_new(ctl, a, fd, tls, &guard);
	tls_creds_unref(tls);
	if (ret) {
		close(fd);
		return err_set(e, ret, "out of memory");
	}
	if (a->where == CTL_AT_TCP && !a->port)
		fprintf(stderr, "lodge: control protocol on port %u\n", port);
	return 0;
}

static int serve_fd(struct control *ctl, int fd, const struct ctl_address *a, struct err *e)
{
	int listening = 0, ret;
	socklen_t len = sizeof(listening);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len))
		return err_set(e, -errno, "descriptor %d is no socket: %s", fd, strerror(errno));
	if (listening && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return err_set(e, -errno, "descriptor %d: %s", fd, strerror(errno));
	ret = listening ? listener_new(ctl, a, fd, NULL, NULL) : ctl_monitor_new(ctl, fd, -1, a, NULL, NULL);
	return ret ? err_set(e, ret, "descriptor %d cannot be served: %s", fd, strerror(-ret)) : 0;
}

/* A connection that was made from here.  The descriptor is taken on success. */
static int serve_tls(struct control *ctl, int fd, const struct ctl_address *a, struct err *e)
{
	struct stream_opts o = { .fd = fd, .host = a->host[0] ? a->host : "127.0.0.1" };
	struct tls_guard guard;
	struct stream *s = NULL;
	int ret = tls_of(ctl, a, &o.tls, &guard, e);

	if (ret)
		return ret;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		ret = -errno;
	if (!ret)
		ret = stream_new(&o, &s);
	tls_creds_unref(o.tls);
	if (!ret)
		ret = ctl_monitor_new(ctl, fd, -1, a, NULL, s);
	if (ret)
		stream_free(s);
	return ret ? err_set(e, ret, "TLS cannot begin: %s", strerror(-ret)) : 0;
}

static int open_one(struct control *ctl, const char *text, struct err *e)
{
	struct ctl_address a;
	int ret, fd = -1;

	ret = ctl_address_parse(text, &a, e);
	if (ret)
		return ret;
	if (a.where == CTL_AT_STDIO) {
		ret = ctl_monitor_new(ctl, STDIN_FILENO, STDOUT_FILENO, &a, NULL, NULL);
		return ret ? err_set(e, ret, "standard input cannot be read: %s", strerror(-ret)) : 0;
	}
	if (a.where == CTL_AT_FD)
		return serve_fd(ctl, a.fd, &a, e);
	if (a.server)
		return open_server(ctl, &a, e);
	ret = ctl_address_connect(&a, &fd, e);
	if (!ret)
		ret = ctl_address_layered(&a) ? serve_tls(ctl, fd, &a, e) : serve_fd(ctl, fd, &a, e);
	if (ret && fd >= 0)
		close(fd);
	return ret;
}

/* The socket by which `lodge qmp` finds the guest.  A guest without a name of its own takes another folder if "guest" is
 * in use; without any place it simply has none. */
static int open_default(struct control *ctl, struct err *e)
{
	const struct vm_config *cfg = vm_config_of(ctl->vm);
	struct ctl_address a = { .where = CTL_AT_UNIX, .fd = -1, .server = true };
	int fd, ret = ctl_place_new(cfg->name, &ctl->place, e);
	char other[32];

	if (ret == -EEXIST && !cfg->name_given) {
		snprintf(other, sizeof(other), "guest-%ld", (long)getpid());
		ret = ctl_place_new(other, &ctl->place, e);
	}
	if (ret == -EEXIST)
		return ret;
	if (!ret) {
		snprintf(a.path, sizeof(a.path), "%s", ctl_place_socket(ctl->place));
		ret = ctl_address_listen(&a, &fd, NULL, e);
	}
	if (!ret && (ret = listener_new(ctl, &a, fd, NULL, NULL)))
		close(fd);
	if (ret)
		log_info("no control socket: %s", e->msg);
	e->msg[0] = '\0';
	return 0;
}

int control_check(const struct vm_config *cfg, struct err *e)
{
	struct ctl_address a;
	bool stdio = cfg->console == VM_CONSOLE_STDIO || cfg->debugcon == VM_CONSOLE_STDIO;
	int ret = 0;

	for (unsigned i = 0; i < cfg->n_chardevs; i++)
		stdio |= cfg->chardev[i].kind == VM_CHARDEV_STDIO;
	for (unsigned i = 0; i < VM_MAX_QMPS && !ret; i++) {
		if (!cfg->qmp[i])
			continue;
		ret = ctl_address_parse(cfg->qmp[i], &a, e);
		if (!ret && a.where == CTL_AT_STDIO && (stdio || cfg->exec))
			ret = err_set(e, -EINVAL, "stdio is the guest's console or --exec's; use --console none, pty or a file");
		if (!ret && a.where == CTL_AT_STDIO)
			stdio = true;
	}
	return ret ? err_prefix(e, ret, "--qmp") : 0;
}

int control_new(struct vm *vm, struct control **out, struct err *e)
{
	struct control *ctl = calloc(1, sizeof(*ctl));
	const struct vm_config *cfg = vm_config_of(vm);
	int ret;

	if (!ctl)
		return err_set(e, -ENOMEM, "out of memory");
	json_object_seed(0);		/* reads /dev/urandom: now, not at the first event, on a thread that may open nothing */
	ctl->vm = vm;
	ctl->m = vm_machine(vm);
	list_init(&ctl->monitors);
	list_init(&ctl->listeners);
	list_init(&ctl->hmps);
	list_init(&ctl->fdsets);
	list_init(&ctl->stops);
	list_init(&ctl->saves);
	list_init(&ctl->lines);
	list_init(&ctl->shots);
	list_init(&ctl->typing);
	list_init(&ctl->jobs);
	list_init(&ctl->drives);
	loop_timer_init(ctl->m->loop, &ctl->accept_again, on_retry, ctl);
	ctl_events_init(ctl);
	machine_lock(ctl->m);
	ctl_machine_init(ctl);
	ret = ctl_disks_init(ctl);
	ret = ret ? err_set(e, ret, "out of memory") : control_check(cfg, e);
	for (unsigned i = 0; i < VM_MAX_QMPS && !ret; i++)
		if (cfg->qmp[i] && (ret = open_one(ctl, cfg->qmp[i], e)))
			err_prefix(e, ret, "--qmp");
	for (unsigned i = 0; i < VM_MAX_MONITORS && !ret; i++)
		if (cfg->monitor[i] && (ret = hmp_monitor_new(ctl, cfg->monitor[i], e)))
			err_prefix(e, ret, "--monitor");
	if (!ret && cfg->control)
		ret = open_default(ctl, e);
	if (!ret && cfg->gdb && (ret = gdb_new(ctl, cfg->gdb, e)))
		err_prefix(e, ret, "--gdb");
	machine_unlock(ctl->m);
	if (ret) {
		control_free(ctl);
		return ret;
	}
	*out = ctl;
	return 0;
}

/* ---- waiting ---- */

static int wait_one(struct ctl_listener *l, int sig, struct err *e)
{
	struct pollfd p[2] = { { .fd = l->fd.fd, .events = POLLIN }, { .fd = sig, .events = POLLIN } };
	int ret;

	if (l->at.where == CTL_AT_UNIX)
		fprintf(stderr, "lodge: waiting for a client on unix:%s (wait=off does not)\n", l->at.path);
	else
		fprintf(stderr, "lodge: waiting for a client on tcp:%s:%u (wait=off does not)\n", l->at.host, l->at.port);
	while (!l->clients) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_set(e, -errno, "poll: %s", strerror(errno));
		if (p[1].revents)
			return err_set(e, -EINTR, "ended by a signal while waiting for a client of --qmp");
		machine_lock(l->ctl->m);
		ret = accept_one(l);
		machine_unlock(l->ctl->m);
		if (ret)
			return err_set(e, ret, "--qmp: %s", strerror(-ret));
	}
	return 0;
}

int control_wait(struct control *ctl, struct err *e)
{
	sigset_t set;
	int sig, ret = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sig = signalfd(-1, &set, SFD_CLOEXEC);
	if (sig < 0)
		return err_set(e, -errno, "signalfd: %s", strerror(errno));
	list_for_each(n, &ctl->listeners) {
		struct ctl_listener *l = list_entry(n, struct ctl_listener, node);

		if (!ret && l->at.wait)
			ret = wait_one(l, sig, e);
	}
	close(sig);
	return ret;
}

/* ---- the rest ---- */

int control_attach(struct control *ctl, int fd)
{
	return ctl_monitor_new(ctl, fd, -1, NULL, NULL, NULL);
}

unsigned control_clients(const struct control *ctl)
{
	return ctl->n_monitors;
}

void control_free(struct control *ctl)
{
	if (!ctl)
		return;
	machine_lock(ctl->m);
	ctl->ending = true;
	machine_unlock(ctl->m);
	ctl_jobs_end(ctl);
	machine_lock(ctl->m);
	gdb_free(ctl);
	hmp_monitors_free(ctl);
	ctl_screen_fini(ctl);
	ctl_nbd_stop(ctl);
	ctl_disks_fini(ctl);
	ctl_machine_fini(ctl);
	list_for_each_safe(n, &ctl->monitors) {
		struct ctl_monitor *m = list_entry(n, struct ctl_monitor, node);

		ctl_monitor_flush(m);
		ctl_monitor_free(m);
	}
	list_for_each_safe(n, &ctl->listeners)
		listener_free(list_entry(n, struct ctl_listener, node));
	ctl_fdsets_free(ctl);
	loop_timer_cancel(&ctl->accept_again);
	ctl_events_fini(ctl);
	ctl_place_free(ctl->place);
	machine_unlock(ctl->m);
	free(ctl);
}
