// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The NBD server (block/nbd_server.h) under QEMU's names.
 *
 * A server lives on one loop with the nodes that it shows, so it is made when the
 * first disk is to be shown, on that disk's loop; until then, and when there are no
 * exports, the address is held and clients are turned away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/nbd_server.h"
#include "control/disk.h"

#define MAX_CLIENTS 64

struct export {
	struct list node;
	struct disk *d;
	char *id, *name;		/* ours, and the clients' */
};

struct ctl_nbd {
	struct control *ctl;
	struct ctl_address at;
	struct loop_fd fd;		/* listens, on the machine's loop */
	struct loop_timer again;	/* looks at fd again: accept failed for want of something */
	unsigned max;
	struct list exports;		/* struct export */
	struct nbd_server *s;		/* NULL: nothing was shown yet */
	struct iothread *io;		/* of the disks that it shows: its lock is the server's */
};

/* Who waits to be accepted would have the loop turn all the time. */
static void look_later(struct ctl_nbd *n)
{
	loop_fd_del(&n->fd);
	loop_timer_arm(&n->again, loop_now_ns() + CTL_RETRY_NS);
}

static void on_again(void *opaque)
{
	struct ctl_nbd *n = opaque;

	if (loop_fd_add(n->ctl->m->loop, &n->fd))
		look_later(n);
}

static void on_client(void *opaque, uint32_t events)
{
	struct ctl_nbd *n = opaque;
	int fd = accept4(n->fd.fd, NULL, NULL, SOCK_CLOEXEC), ret = -ENOENT;

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			look_later(n);
		return;
	}
	if (n->s && !list_empty(&n->exports)) {
		iothread_lock(n->io);
		ret = nbd_server_attach(n->s, fd);
		iothread_unlock(n->io);
	}
	if (ret)
		close(fd);
}

static int address_of(json_t *addr, struct ctl_address *a, struct err *e)
{
	json_t *data = json_object_get(addr, "data");
	const char *port = json_string_value(json_object_get(data, "port"));
	bool is_unix = !strcmp(json_string_value(json_object_get(addr, "type")), "unix");
	char text[400];
	int n, ret;

	if (is_unix)
		n = snprintf(text, sizeof(text), "unix:%s", json_string_value(json_object_get(data, "path")));
	else
		n = snprintf(text, sizeof(text), "tcp:%s:%s", json_string_value(json_object_get(data, "host")), port);
	/* A comma would begin an option. */
	if (n >= (int)sizeof(text) || strchr(text, ','))
		return err_set(e, -EINVAL, "the address is too long, or has a comma");
	ret = ctl_address_parse(text, a, e);
	/* The machine stands still meanwhile, and a name server may take its time. */
	a->numeric = true;
	return ret;
}

void ctl_cmd_nbd_server_start(struct ctl_call *c, const struct ctl_args_nbd_server_start *a)
{
	struct err e = { .msg = "" };
	struct ctl_nbd *n;
	int fd = -1, ret;

	if (c->ctl->nbd) {
		ctl_fail(c, CTL_GENERIC_ERROR, "NBD server already running");
		return;
	}
	n = calloc(1, sizeof(*n));
	ret = n ? address_of(a->addr, &n->at, &e) : -ENOMEM;
	if (!ret)
		ret = ctl_address_listen(&n->at, &fd, NULL, &e);
	if (!ret) {
		n->ctl = c->ctl;
		list_init(&n->exports);
		n->max = a->has_max_connections && a->max_connections ? (unsigned)MIN(a->max_connections, MAX_CLIENTS) : 0;
		n->fd = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_client, .opaque = n };
		loop_timer_init(c->ctl->m->loop, &n->again, on_again, n);
		ret = loop_fd_add(c->ctl->m->loop, &n->fd);
	}
	if (ctl_failed(c, ret, &e)) {
		if (fd >= 0)
			close(fd);
		free(n);
		return;
	}
	c->ctl->nbd = n;
}

static void forget(struct export *x)
{
	list_del(&x->node);
	free(x->id);
	free(x->name);
	free(x);
}

static struct export *remember(struct ctl_nbd *n, struct disk *d, const char *id, const char *name)
{
	struct export *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->d = d;
	x->id = strdup(id);
	x->name = strdup(name);
	list_add_tail(&n->exports, &x->node);
	if (x->id && x->name)
		return x;
	forget(x);
	return NULL;
}

static struct export *find(struct ctl_nbd *n, const char *id, const char *name)
{
	list_for_each(p, &n->exports) {
		struct export *x = list_entry(p, struct export, node);

		if ((id && !strcmp(x->id, id)) || (name && !strcmp(x->name, name)))
			return x;
	}
	return NULL;
}

static int show(struct ctl_nbd *n, struct disk *d, const struct nbd_export_opts *o, struct err *e)
{
	int ret = 0;

	if (n->s && n->io != d->o.io)
		return err_set(e, -ENOTSUP, "disks shown by one NBD server must share an I/O thread, and '%s' has another one than those that were "
			       "shown before: start the guest with iothread=NAME for them", d->id);
	disk_lock(d);
	if (!n->s) {
		ret = nbd_server_new(d->node->loop, n->max, &n->s);
		n->io = d->o.io;
	}
	ret = ret ? err_set(e, ret, "out of memory") : nbd_server_add(n->s, d->node, o, e);
	disk_unlock(d);
	return ret;
}

/* The machine's NBD server, or NULL and the call has failed. */
static struct ctl_nbd *server(struct ctl_call *c)
{
	if (!c->ctl->nbd)
		ctl_fail(c, CTL_GENERIC_ERROR, "NBD server not running");
	return c->ctl->nbd;
}

static void add(struct ctl_call *c, struct disk *d, const char *id, const struct nbd_export_opts *o)
{
	struct ctl_nbd *n = server(c);
	struct err e = { .msg = "" };
	struct export *x;
	int ret;

	if (!n)
		return;
	if (find(n, id, NULL)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Block export id '%.64s' is already in use", id);
		return;
	}
	x = remember(n, d, id, o->name);
	ret = x ? show(n, d, o, &e) : err_set(&e, -ENOMEM, "out of memory");
	if (ret && x)
		forget(x);
	ctl_failed(c, ret, &e);
}

static void end(struct ctl_call *c, struct ctl_nbd *n, struct export *x, bool safe)
{
	int ret;

	iothread_lock(n->io);
	ret = safe && nbd_server_clients(n->s, x->name) ? -EBUSY : nbd_server_remove(n->s, x->name);
	iothread_unlock(n->io);
	if (ret == -EBUSY) {
		ctl_fail(c, CTL_GENERIC_ERROR, "export '%.64s' still in use", x->id);
		return;
	}
	ctl_emit(n->ctl, CTL_EVENT_BLOCK_EXPORT_DELETED, json_pack("{s:s+}", "id", x->id, ""));
	forget(x);
}

/* QEMU's id of such an export is its name. */
void ctl_cmd_nbd_server_add(struct ctl_call *c, const struct ctl_args_nbd_server_add *a)
{
	struct disk *d = ctl_disk(c, a->device, NULL, NULL);
	struct nbd_export_opts o = { .description = a->description };

	if (!d)
		return;
	o.name = a->name ? a->name : d->id;
	o.read_only = !a->writable;
	add(c, d, o.name, &o);
}

void ctl_cmd_block_export_add(struct ctl_call *c, const struct ctl_args_block_export_add *a)
{
	struct disk *d = ctl_disk(c, NULL, a->node_name, NULL);
	struct nbd_export_opts o = { .description = a->description };

	if (!d)
		return;
	o.name = a->name ? a->name : d->id;
	o.read_only = !a->writable;
	add(c, d, a->id, &o);
}

void ctl_cmd_nbd_server_remove(struct ctl_call *c, const struct ctl_args_nbd_server_remove *a)
{
	struct ctl_nbd *n = server(c);
	struct export *x = n ? find(n, NULL, a->name) : NULL;

	if (x)
		end(c, n, x, !a->has_mode || a->mode == CTL_BLOCK_EXPORT_REMOVE_MODE_SAFE);
	else if (n)
		ctl_fail(c, CTL_GENERIC_ERROR, "Export '%.64s' is not found", a->name);
}

void ctl_cmd_block_export_del(struct ctl_call *c, const struct ctl_args_block_export_del *a)
{
	struct ctl_nbd *n = c->ctl->nbd;
	struct export *x = n ? find(n, a->id, NULL) : NULL;

	if (x)
		end(c, n, x, !a->has_mode || a->mode == CTL_BLOCK_EXPORT_REMOVE_MODE_SAFE);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "Export '%.64s' is not found", a->id);
}

void ctl_cmd_query_block_exports(struct ctl_call *c, const struct ctl_args_query_block_exports *a)
{
	json_t *list = json_array();

	if (c->ctl->nbd)
		list_for_each(p, &c->ctl->nbd->exports) {
			struct export *x = list_entry(p, struct export, node);
			char node[BLK_NAME_MAX + 1];

			ctl_node_name(c->ctl, x->d, node);
			json_array_append_new(list, json_pack("{s:s+,s:s,s:s,s:b}", "id", x->id, "", "type", "nbd", "node-name", node, "shutting-down", 0));
		}
	ctl_return(c, list);
}

bool ctl_nbd_shows(const struct control *ctl, const struct disk *d)
{
	if (ctl->nbd)
		list_for_each(p, &ctl->nbd->exports)
			if (list_entry(p, struct export, node)->d == d)
				return true;
	return false;
}

void ctl_nbd_stop(struct control *ctl)
{
	struct ctl_nbd *n = ctl->nbd;

	if (!n)
		return;
	if (n->s) {
		iothread_lock(n->io);
		nbd_server_free(n->s);
		iothread_unlock(n->io);
	}
	list_for_each_safe(p, &n->exports) {
		struct export *x = list_entry(p, struct export, node);

		ctl_emit(ctl, CTL_EVENT_BLOCK_EXPORT_DELETED, json_pack("{s:s+}", "id", x->id, ""));
		forget(x);
	}
	loop_fd_del(&n->fd);
	loop_timer_cancel(&n->again);
	close(n->fd.fd);
	if (n->at.where == CTL_AT_UNIX)
		unlink(n->at.path);
	free(n);
	ctl->nbd = NULL;
}

void ctl_cmd_nbd_server_stop(struct ctl_call *c, const struct ctl_args_nbd_server_stop *a)
{
	if (c->ctl->nbd)
		ctl_nbd_stop(c->ctl);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "NBD server not running");
}
