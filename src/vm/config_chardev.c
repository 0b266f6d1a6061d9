// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of chardevs and of the ports that lead to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "virtio/console.h"
#include "vm/config_int.h"

static const char *const kind_words[] = { "null", "file", "pty", "socket", "ringbuf", "stdio", "vdagent", NULL };	/* as enum vm_chardev_kind */

static int set_size(const char *val, uint64_t *out, struct err *e)
{
	unsigned n;

	/* A plain number is bytes here, as in QEMU. */
	if (strspn(val, "0123456789") != strlen(val))
		return vm_parse_size(val, out, e);
	*out = 0;
	if (config_uint(val, 1, 16u << 20, &n, e))
		return -EINVAL;
	*out = n;
	return 0;
}

static int set_tls(struct vm_chardev *c, const char *field, const char *val, struct err *e)
{
	const char **to = !strcmp(field, "creds") ? &c->tls.creds : !strcmp(field, "authz") ? &c->tls.authz : !strcmp(field, "cert") ? &c->tls.cert :
			  !strcmp(field, "key") ? &c->tls.key : !strcmp(field, "ca") ? &c->tls.ca : NULL;

	return to ? config_text(val, to, e) : -ENOENT;
}

int config_chardev(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_chardev *c;
	unsigned port;
	int w = 0, ret;

	if (n >= VM_MAX_CHARDEVS)
		return err_set(e, -E2BIG, "a guest has at most %d chardevs", VM_MAX_CHARDEVS);
	c = &v->chardev[n];
	for (; v->n_chardevs <= n; v->n_chardevs++)
		v->chardev[v->n_chardevs].signal = true, v->chardev[v->n_chardevs].escape = 1;
	if (!strcmp(field, "kind")) {
		ret = config_word(val, kind_words, &w, e);
		c->kind = (enum vm_chardev_kind)w;
		return ret;
	}
	if (!strcmp(field, "id"))
		return config_text(val, &c->id, e);
	if (!strcmp(field, "path"))
		return config_text(val, &c->path, e);
	if (!strcmp(field, "host"))
		return c->host = val, 0;
	if (!strcmp(field, "port")) {
		c->port = val;
		return config_uint(val, 0, 65535, &port, e);
	}
	if (!strcmp(field, "server"))
		return config_bool(val, &c->server, e);
	if (!strcmp(field, "wait"))
		return config_bool(val, &c->wait, e);
	if (!strcmp(field, "fd"))
		return config_uint(val, 3, 1 << 20, &c->fd, e);
	if (!strcmp(field, "telnet"))
		return config_bool(val, &c->telnet, e);
	if (!strcmp(field, "websocket"))
		return config_bool(val, &c->websocket, e);
	if (!strncmp(field, "tls-", 4))
		return set_tls(c, field + 4, val, e);
	if (!strcmp(field, "mux"))
		return config_bool(val, &c->mux, e);
	if (!strcmp(field, "escape"))
		return config_uint(val, 0, 31, &c->escape, e);
	if (!strcmp(field, "signal"))
		return config_bool(val, &c->signal, e);
	if (!strcmp(field, "append"))
		return config_bool(val, &c->append, e);
	if (!strcmp(field, "reconnect"))
		return config_uint(val, 0, 86400, &c->reconnect, e);
	return strcmp(field, "size") ? -ENOENT : set_size(val, &c->size, e);
}

int config_port(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	if (n >= VM_MAX_PORTS)
		return err_set(e, -E2BIG, "a guest has at most %d ports", VM_MAX_PORTS);
	v->n_ports = MAX(v->n_ports, n + 1);
	if (!strcmp(field, "name"))
		return config_text(val, &v->port[n].name, e);
	if (!strcmp(field, "chardev"))
		return config_text(val, &v->port[n].chardev, e);
	if (!strcmp(field, "id"))
		return config_id(val, &v->port[n].id, e);
	if (!strcmp(field, "nr"))
		return config_uint(val, 1, VIRTIO_CONSOLE_MAX_PORTS - 1, &v->port[n].nr, e);
	return strcmp(field, "console") ? -ENOENT : config_bool(val, &v->port[n].console, e);
}

static int check_chardev(const struct vm_config *v, unsigned i, struct err *e)
{
	const struct vm_chardev *c = &v->chardev[i];
	bool socket = c->kind == VM_CHARDEV_SOCKET, file = c->kind == VM_CHARDEV_FILE;

	if (!c->id)
		return err_set(e, -EINVAL, "--chardev: it needs an id=");
	for (unsigned k = 0; k < i; k++)
		if (!strcmp(v->chardev[k].id, c->id))
			return err_set(e, -EINVAL, "--chardev: there are two with id=%.60s", c->id);
	if (file && !c->path)
		return err_set(e, -EINVAL, "--chardev %.60s: a file needs a path=", c->id);
	if (socket && !c->path + !c->port + !c->fd != 2)
		return err_set(e, -EINVAL, "--chardev %.60s: a socket has a path=, or a port= (and a host=), or an fd=", c->id);
	if (!socket && (c->port || c->host || c->server || c->wait || c->reconnect || c->telnet || c->fd))
		return err_set(e, -EINVAL, "--chardev %.60s: host=, port=, server=, wait=, reconnect=, telnet= and fd= belong to a socket", c->id);
	if ((c->tls.creds || c->tls.authz || c->tls.cert || c->tls.key || c->tls.ca || c->websocket) && !c->port)
		return err_set(e, -EINVAL, "--chardev %.60s: TLS and websocket= belong to a socket with a port=", c->id);
	if (c->websocket && (!c->server || c->telnet))
		return err_set(e, -EINVAL, "--chardev %.60s: websocket=on belongs to server=on, and does not go with telnet=on", c->id);
	if (!c->tls.cert != !c->tls.key)
		return err_set(e, -EINVAL, "--chardev %.60s: tls-cert= and tls-key= belong together", c->id);
	if (c->wait && !c->server)
		return err_set(e, -EINVAL, "--chardev %.60s: wait=on belongs to server=on", c->id);
	if (c->reconnect && (c->server || c->fd))
		return err_set(e, -EINVAL, "--chardev %.60s: reconnect= is for a client that knows where, so it does not go with server=on or fd=", c->id);
	if (!c->signal && c->kind != VM_CHARDEV_STDIO)
		return err_set(e, -EINVAL, "--chardev %.60s: signal= belongs to stdio", c->id);
	if (c->mux && c->kind == VM_CHARDEV_VDAGENT)
		return err_set(e, -EINVAL, "--chardev %.60s: the agent is one guest program's, so it does not go with mux=on", c->id);
	if (c->append && !file)
		return err_set(e, -EINVAL, "--chardev %.60s: append= belongs to a file", c->id);
	return 0;
}

/* There is one of it, and the console has it if nobody says otherwise. */
static int check_stdio(struct vm_config *v, struct err *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < v->n_chardevs; i++)
		n += v->chardev[i].kind == VM_CHARDEV_STDIO;
	if (!n)
		return 0;
	if (v->console == VM_CONSOLE_STDIO && !conf_get(v->tree, "console"))
		v->console = VM_CONSOLE_NONE;
	if (n > 1 || v->console == VM_CONSOLE_STDIO || v->debugcon == VM_CONSOLE_STDIO || v->exec)
		return err_set(e, -EINVAL, "--chardev: standard input and output can be had once; with mux=on several can use the one chardev");
	return 0;
}

int config_check_chardevs(struct vm_config *v, struct err *e)
{
	int ret = check_stdio(v, e);

	for (unsigned i = 0; i < v->n_chardevs && !ret; i++) {
		ret = check_chardev(v, i, e);
		if (!v->chardev[i].size)
			v->chardev[i].size = 65536;
	}
	return ret ? ret : config_check_ports(v, e);
}

int config_check_ports(const struct vm_config *v, struct err *e)
{
	for (unsigned i = 0; i < v->n_ports; i++) {
		const struct vm_port *p = &v->port[i];

		if (!p->name && !p->chardev && !p->id && !p->nr)	/* gone */
			continue;
		if (!p->name || !p->chardev || strlen(p->name) > 63)
			return err_set(e, -EINVAL, "--port: it has a name of up to 63 characters, and a chardev=");
		for (unsigned k = 0; k < i; k++)
			if (v->port[k].name && !strcmp(v->port[k].name, p->name))
				return err_set(e, -EINVAL, "--port: there are two of the name %.60s", p->name);
	}
	return 0;
}
