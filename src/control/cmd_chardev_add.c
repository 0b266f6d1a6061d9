// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Chardevs that come, change and go while the guest runs.
 *
 * What a client describes becomes what the configuration has for a chardev, and is opened by the same code.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chardev/chardev.h"
#include "control/internal.h"
#include "vm/chardevs.h"

void ctl_cmd_query_chardev_backends(struct ctl_call *c, const struct ctl_args_query_chardev_backends *a)
{
	static const char *const names[] = { "file", "socket", "pty", "null", "ringbuf", "memory", "mux" };
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		json_array_append_new(list, json_pack("{s:s}", "name", names[i]));
	ctl_return(c, list);
}

static const char *text(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static int take_fd(struct ctl_call *c, const char *name, struct vm_chardev *d, struct err *e)
{
	int fd = c->mon ? ctl_monitor_fd(c->mon, name) : -1;

	if (fd < 0)
		return err_set(e, -ENOENT, "File descriptor named '%.60s' has not been found", name);
	d->fd = (unsigned)fd;
	return 0;
}

static int socket_of(struct ctl_call *c, const json_t *data, struct vm_chardev *d, struct err *e)
{
	const json_t *addr = json_object_get(data, "addr"), *in = json_object_get(addr, "data");
	const char *kind = text(addr, "type");

	d->kind = VM_CHARDEV_SOCKET;
	d->server = !json_is_false(json_object_get(data, "server"));
	d->telnet = json_is_true(json_object_get(data, "telnet"));
	d->reconnect = (unsigned)json_integer_value(json_object_get(data, "reconnect"));
	d->websocket = json_is_true(json_object_get(data, "websocket"));
	d->tls.creds = text(data, "tls-creds");
	d->tls.authz = text(data, "tls-authz");
	d->path = text(in, "path");
	d->host = text(in, "host");
	d->port = text(in, "port");
	if (json_is_true(json_object_get(data, "wait")))
		return err_set(e, -ENOTSUP, "wait is not supported while the guest runs");
	if (d->server && d->reconnect)
		return err_set(e, -EINVAL, "'reconnect' option is incompatible with socket in server listen mode");
	if (d->reconnect && !strcmp(kind, "fd"))
		return err_set(e, -EINVAL, "'reconnect' option is incompatible with 'fd'");
	if (d->websocket && !d->server)
		return err_set(e, -EINVAL, "'websocket' option is incompatible with socket in client connect mode");
	if ((d->tls.creds || d->websocket) && strcmp(kind, "inet"))
		return err_set(e, -EINVAL, "TLS and WebSockets can only be used over TCP sockets");
	if (d->reconnect > 86400)
		return err_set(e, -EINVAL, "reconnect is at most 86400 seconds");
	return strcmp(kind, "fd") ? 0 : take_fd(c, text(in, "str"), d, e);
}

/* What the client wants; texts are the client's, or in buf.  *mux: on what, NULL: it is none. */
static int describe(struct ctl_call *c, const char *id, const json_t *backend, struct vm_chardev *d, const char **mux, char buf[CTL_FDSET_NAME], struct err *e)
{
	const json_t *data = json_object_get(backend, "data"), *size;
	const char *type = text(backend, "type");

	*d = (struct vm_chardev){ .kind = VM_CHARDEV_NULL, .id = id, .escape = 1, .signal = true, .size = 65536 };
	*mux = NULL;
	if (!*id || strlen(id) > 60)
		return err_set(e, -EINVAL, "an id has 1 to 60 characters");
	if (!strcmp(type, "socket"))
		return socket_of(c, data, d, e);
	if (!strcmp(type, "file")) {
		d->kind = VM_CHARDEV_FILE;
		d->path = text(data, "out");
		d->append = json_is_true(json_object_get(data, "append"));
		return ctl_fdset_path(c->ctl, &d->path, CTL_FDSET_WRITE, buf, e);
	} else if (!strcmp(type, "pty")) {
		d->kind = VM_CHARDEV_PTY;
	} else if (!strcmp(type, "ringbuf") || !strcmp(type, "memory")) {
		d->kind = VM_CHARDEV_RINGBUF;
		size = json_object_get(data, "size");
		if (size && json_integer_value(size) < 1)
			return err_set(e, -EINVAL, "a ring buffer's size is a power of two");
		d->size = size ? (uint64_t)json_integer_value(size) : d->size;
	} else if (!strcmp(type, "mux")) {
		*mux = text(data, "chardev");
	}
	return 0;
}

void ctl_cmd_chardev_add(struct ctl_call *c, const struct ctl_args_chardev_add *a)
{
	struct err e = { .msg = "" };
	struct vm_chardev d;
	char pty[64] = "", buf[CTL_FDSET_NAME];
	const char *mux;
	int ret = describe(c, a->id, a->backend, &d, &mux, buf, &e);

	if (!ret)
		ret = vm_chardev_add(c->ctl->vm, &d, mux, pty, sizeof(pty), &e);
	if (!ctl_failed(c, ret, &e))
		ctl_return(c, *pty ? json_pack("{s:s}", "pty", pty) : json_object());
}

void ctl_cmd_chardev_change(struct ctl_call *c, const struct ctl_args_chardev_change *a)
{
	struct err e = { .msg = "" };
	struct vm_chardev d;
	char pty[64] = "", buf[CTL_FDSET_NAME];
	const char *mux;
	int ret = describe(c, a->id, a->backend, &d, &mux, buf, &e);

	if (!ret && mux)
		ret = err_set(&e, -ENOTSUP, "Mux device hotswap not supported yet");
	if (!ret)
		ret = vm_chardev_change(c->ctl->vm, &d, pty, sizeof(pty), &e);
	if (!ctl_failed(c, ret, &e))
		ctl_return(c, *pty ? json_pack("{s:s}", "pty", pty) : json_object());
}

void ctl_cmd_chardev_remove(struct ctl_call *c, const struct ctl_args_chardev_remove *a)
{
	struct err e = { .msg = "" };

	ctl_failed(c, vm_chardev_remove(c->ctl->vm, a->id, &e), &e);
}

void ctl_cmd_chardev_send_break(struct ctl_call *c, const struct ctl_args_chardev_send_break *a)
{
	struct chardev *chr = vm_chardev(c->ctl->vm, a->id);

	if (chr)
		chardev_break(chr);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "Chardev '%.60s' not found", a->id);
}
