// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Named chardevs (--chardev), the ports that lead to them (--port), and the guest
 * agent's and the clipboard's, which are both.
 */
#include "vm/chardevs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/vdagent.h"
#include "base/bits.h"
#include "base/log.h"
#include "display/clipboard.h"
#include "virtio/console.h"
#include "vm/internal.h"

#define AGENT_ID "agent"
#define CLIPBOARD_ID "clipboard"
#define NAME_LEN 64
/* Places for ports that may come while the guest runs. */
#define SPARE_PORTS 8

struct vm_chardevs {
	struct {
		const char *id;		/* NULL: not there */
		char *own_id;		/* id, where it is not the configuration's */
		struct chardev *chr;
		bool mux, taken;	/* taken: a front end has it; not of a mux */
		struct vdagent *vdagent;	/* whose chardev it is; NULL: nobody's */
	} dev[VM_MAX_CHARDEVS + 2];	/* the last two are --guest-agent's and --clipboard's */
	/* Port 0 is only for a console: drivers that know no ports use it. */
	char port[VIRTIO_CONSOLE_MAX_PORTS][NAME_LEN];
	struct chardev *port_chr[VIRTIO_CONSOLE_MAX_PORTS];
	unsigned n_places;
	struct virtio_dev *serial;
};

/* -1: there is none. */
static int find(struct vm *vm, const char *id)
{
	for (unsigned i = 0; vm->chardevs && i < ARRAY_LEN(vm->chardevs->dev); i++)
		if (vm->chardevs->dev[i].id && !strcmp(vm->chardevs->dev[i].id, id))
			return (int)i;
	return -1;
}

struct chardev *vm_chardev(struct vm *vm, const char *id)
{
	int i = find(vm, id);

	return i < 0 ? NULL : vm->chardevs->dev[i].chr;
}

int vm_chardev_take(struct vm *vm, const char *id, bool behind, struct chardev **out, struct err *e)
{
	struct vm_chardevs *x = vm->chardevs;
	int i = find(vm, id), ret = 0;

	if (i < 0)
		return err_set(e, -ENOENT, "there is no chardev with id=%.60s", id);
	if (x->dev[i].taken)
		return err_set(e, -EBUSY, "chardev %.60s is in use; with mux=on several can share one", id);
	*out = x->dev[i].chr;
	if (x->dev[i].mux)
		ret = chardev_mux_part(x->dev[i].chr, behind, out);
	else
		x->dev[i].taken = true;
	return ret == -E2BIG ? err_set(e, ret, "chardev %.60s has %d users, which is the most there can be", id, CHARDEV_MUX_PARTS) :
	       ret ? err_set(e, ret, "out of memory") : 0;
}

void vm_chardev_release(struct vm *vm, struct chardev *chr)
{
	struct vm_chardevs *x = vm->chardevs;

	for (unsigned i = 0; i < ARRAY_LEN(x->dev); i++) {
		if (!x->dev[i].id || x->dev[i].chr != chr)
			continue;
		x->dev[i].taken = false;
		return;
	}
	chardev_mux_drop(chr);
}

struct chardev *vm_chardev_nth(struct vm *vm, unsigned i, const char **id)
{
	for (unsigned k = 0; vm->chardevs && k < ARRAY_LEN(vm->chardevs->dev); k++) {
		if (!vm->chardevs->dev[k].id || i--)
			continue;
		*id = vm->chardevs->dev[k].id;
		return vm->chardevs->dev[k].chr;
	}
	return NULL;
}

const char *vm_port_name(struct vm *vm, unsigned number)
{
	return vm->chardevs && number < ARRAY_LEN(vm->chardevs->port) && vm->chardevs->port[number][0] ? vm->chardevs->port[number] : NULL;
}

/* ---- at the start ---- */

static void on_quit(void *opaque)
{
	vm_request(opaque, MACHINE_REQ_QUIT, VM_EXIT_ESCAPE);
}

/* Ctrl-C at the terminal ends the guest, unless it goes to one of those on a mux, or is not wanted. */
static int open_stdio(struct vm *vm, const struct vm_chardev *c, struct chardev **out, struct err *e)
{
	const struct chardev_stdio_opts o = { .escape = c->mux || !c->signal ? 0 : 3, .quit = on_quit, .opaque = vm };

	return chardev_stdio_new(vm->m->loop, &o, out, e);
}

static int open_socket(struct vm *vm, const struct vm_chardev *c, bool live, struct chardev **out, struct err *e)
{
	struct tls_guard guard;
	struct chardev_socket_opts o = {
		.path = c->path, .host = c->host, .port = c->port, .fd = (int)c->fd, .server = c->server, .telnet = c->telnet,
		.reconnect_s = c->reconnect, .live = live, .id = c->id, .websocket = c->websocket,
	};
	int ret = vm_tls_get(vm, &c->tls, c->server, &o.tls, &guard, e);

	if (ret && c->fd > 2)
		close((int)c->fd);
	if (ret)
		return ret;
	o.guard = guard.allows ? &guard : NULL;
	ret = chardev_socket_new(vm->m->loop, &o, out, e);
	tls_creds_unref(o.tls);
	return ret;
}

/* pty: NULL, or room for the name of its other end. */
static int open_backend(struct vm *vm, const struct vm_chardev *c, char *pty, size_t pty_len, struct chardev **out, struct err *e)
{
	struct loop *l = vm->m->loop;
	char name[64];
	int ret;

	switch (c->kind) {
	case VM_CHARDEV_SOCKET:
		ret = open_socket(vm, c, pty != NULL, out, e);
		return ret || !c->wait ? ret : chardev_socket_wait(*out, e);
	case VM_CHARDEV_FILE:
		return chardev_file_new(l, c->path, c->append, out, e);
	case VM_CHARDEV_PTY:
		ret = chardev_pty_new(l, name, sizeof(name), out, e);
		if (!ret && pty)
			snprintf(pty, pty_len, "%s", name);
		else if (!ret)
			fprintf(stderr, "lodge: chardev %s of guest '%s' on %s\n", c->id, vm->cfg->name, name);
		return ret;
	case VM_CHARDEV_RINGBUF:
		return chardev_ringbuf_new(l, c->size, out, e);
	case VM_CHARDEV_STDIO:
		return open_stdio(vm, c, out, e);
	case VM_CHARDEV_NULL:
	case VM_CHARDEV_VDAGENT:	/* not here */
		break;
	}
	return chardev_null_new(l, out) ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int open_one(struct vm *vm, const struct vm_chardev *c, struct chardev **out, struct err *e)
{
	const struct chardev_mux_opts o = { .escape = (uint8_t)c->escape, .quit = on_quit, .opaque = vm };
	struct chardev *base;
	int ret = open_backend(vm, c, NULL, 0, c->mux ? &base : out, e);

	if (ret || !c->mux)
		return ret;
	ret = chardev_mux_new(vm->m->loop, base, &o, out);
	if (!ret)
		return 0;
	chardev_free(base);
	return err_set(e, ret, "out of memory");
}

/* Each agent has a part of one clipboard. */
static int open_vdagent(struct vm *vm, unsigned i, struct err *e)
{
	struct vm_chardevs *x = vm->chardevs;
	char id[24];
	int ret = 0;

	if (!vm->clipboard && clipboard_new(&vm->clipboard))
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(id, sizeof(id), "vdagent%u", i);
	ret = vdagent_new(vm->m, id, vm->clipboard, &x->dev[i].vdagent, e);
	if (!ret)
		x->dev[i].chr = vdagent_chardev(x->dev[i].vdagent);
	return ret;
}

/* An option's own chardev has an id that nobody else may have: its port is found by that. */
static int name_own(struct vm *vm, unsigned i, const char *id, const char *option, struct err *e)
{
	if (find(vm, id) >= 0)
		return err_set(e, -EEXIST, "--chardev %s: that id is the chardev's of %s; take another one", id, option);
	vm->chardevs->dev[i].id = id;
	return 0;
}

static int open_clipboard(struct vm *vm, struct err *e)
{
	int ret = vm->cfg->clipboard ? open_vdagent(vm, VM_MAX_CHARDEVS + 1, e) : 0;

	return ret || !vm->cfg->clipboard ? ret : name_own(vm, VM_MAX_CHARDEVS + 1, CLIPBOARD_ID, "--clipboard", e);
}

static int open_agent(struct vm *vm, struct err *e)
{
	const struct vm_chardev c = { .kind = VM_CHARDEV_SOCKET, .id = AGENT_ID, .path = vm->cfg->guest_agent, .server = true };
	struct vm_chardevs *x = vm->chardevs;
	int ret;

	if (!vm->cfg->guest_agent)
		return 0;
	ret = open_one(vm, &c, &x->dev[VM_MAX_CHARDEVS].chr, e);
	if (ret)
		return err_prefix(e, ret, "--guest-agent");
	ret = name_own(vm, VM_MAX_CHARDEVS, AGENT_ID, "--guest-agent", e);
	if (ret)
		return ret;
	if (log_enabled(LOG_WARN))
		fprintf(stderr, "lodge: agent of guest '%s' on the unix socket %s\n", vm->cfg->name, vm->cfg->guest_agent);
	return 0;
}

int vm_chardevs_new(struct vm *vm, struct err *e)
{
	int ret = 0;

	vm->chardevs = calloc(1, sizeof(*vm->chardevs));
	if (!vm->chardevs)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < vm->cfg->n_chardevs && !ret; i++) {
		if (vm->cfg->chardev[i].kind == VM_CHARDEV_VDAGENT)
			ret = open_vdagent(vm, i, e);
		else
			ret = open_one(vm, &vm->cfg->chardev[i], &vm->chardevs->dev[i].chr, e);
		if (ret)
			err_prefix(e, ret, "--chardev %s", vm->cfg->chardev[i].id);
		else
			vm->chardevs->dev[i].id = vm->cfg->chardev[i].id, vm->chardevs->dev[i].mux = vm->cfg->chardev[i].mux;
	}
	if (!ret)
		ret = open_agent(vm, e);
	return ret ? ret : open_clipboard(vm, e);
}

static int set_port(struct vm *vm, struct virtio_console_port *ports, unsigned at, const char *name, const char *chardev, bool console,
		    struct err *e)
{
	struct chardev *chr;
	int ret = vm_chardev_take(vm, chardev, false, &chr, e);

	if (ret)
		return err_prefix(e, ret, "--port");
	if (at >= VIRTIO_CONSOLE_MAX_PORTS || !ports[at].absent) {
		vm_chardev_release(vm, chr);
		return err_set(e, -EBUSY, "--port: place %u for %.60s is taken, or not there", at, name);
	}
	vm->chardevs->port_chr[at] = chr;
	ports[at] = (struct virtio_console_port){ .chr = chr, .name = name, .console = console };
	snprintf(vm->chardevs->port[at], NAME_LEN, "%s", name);
	return 0;
}

int vm_add_ports(struct vm *vm, struct err *e)
{
	struct virtio_console_port ports[VIRTIO_CONSOLE_MAX_PORTS];
	const struct vm_config *cfg = vm->cfg;
	struct vm_chardevs *x = vm->chardevs;
	unsigned n = 1, at;
	int ret = 0;

	if (!cfg->n_ports && !cfg->guest_agent && !cfg->clipboard && !cfg->port_places)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(ports); i++)
		ports[i] = (struct virtio_console_port){ .absent = true };
	for (unsigned i = 0; i < cfg->n_ports && !ret; i++) {
		const struct vm_port *p = &cfg->port[i];

		if (!p->name)
			continue;
		at = p->nr ? p->nr : n;
		ret = set_port(vm, ports, at, p->name, p->chardev, p->console, e);
		n = MAX(n, at) + 1;
	}
	if (!ret && cfg->guest_agent)
		ret = set_port(vm, ports, cfg->agent_nr ? cfg->agent_nr : n++, VM_PORT_AGENT, AGENT_ID, false, e);
	if (!ret && cfg->clipboard)
		ret = set_port(vm, ports, cfg->clipboard_nr ? cfg->clipboard_nr : n++, VM_PORT_CLIPBOARD, CLIPBOARD_ID, false, e);
	n = cfg->port_places ? MAX(n, cfg->port_places) : n + SPARE_PORTS;
	x->n_places = MIN(n, VIRTIO_CONSOLE_MAX_PORTS);
	if (!ret)
		ret = virtio_console_new(vm->m, "serial0", ports, x->n_places, true, &x->serial, e);
	if (ret)
		return ret;
	virtio_console_tells(x->serial);
	ret = platform_add_virtio(vm->platform, x->serial, e);
	if (ret)
		x->serial = NULL;
	return ret;
}

void vm_chardevs_free(struct vm *vm)
{
	for (unsigned i = 0; vm->chardevs && i < ARRAY_LEN(vm->chardevs->dev); i++) {
		if (vm->chardevs->dev[i].vdagent)
			vdagent_free(vm->chardevs->dev[i].vdagent);
		else
			chardev_free(vm->chardevs->dev[i].chr);
		free(vm->chardevs->dev[i].own_id);
	}
	free(vm->chardevs);
	vm->chardevs = NULL;
	clipboard_free(vm->clipboard);
	vm->clipboard = NULL;
}

/* ---- while the guest runs ---- */

/* A descriptor that comes with a chardev that is not made. */
static int refuse(const struct vm_chardev *c, int ret)
{
	if (c->fd > 2)
		close((int)c->fd);
	return ret;
}

/* The chardev that nobody uses becomes what a mux is on, and the mux takes its entry. */
static int add_mux(struct vm *vm, const struct vm_chardev *c, const char *mux, struct err *e)
{
	const struct chardev_mux_opts o = { .escape = (uint8_t)c->escape, .quit = on_quit, .opaque = vm };
	int i = find(vm, mux), ret;
	struct chardev *chr;
	char *id;

	if (i < 0)
		return err_set(e, -ENOENT, "chardev '%.60s' not found", mux);
	if (vm->chardevs->dev[i].taken || vm->chardevs->dev[i].mux || vm->chardevs->dev[i].vdagent)
		return err_set(e, -EBUSY, "chardev '%.60s' is in use", mux);
	id = strdup(c->id);
	ret = id ? chardev_mux_new(vm->m->loop, vm->chardevs->dev[i].chr, &o, &chr) : -ENOMEM;
	if (ret) {
		free(id);
		return err_set(e, ret, "out of memory");
	}
	free(vm->chardevs->dev[i].own_id);
	vm->chardevs->dev[i].id = vm->chardevs->dev[i].own_id = id;
	vm->chardevs->dev[i].chr = chr;
	vm->chardevs->dev[i].mux = true;
	return 0;
}

int vm_chardev_add(struct vm *vm, const struct vm_chardev *c, const char *mux, char *pty, size_t pty_len, struct err *e)
{
	struct vm_chardevs *x = vm->chardevs;
	unsigned i = 0;
	int ret;

	if (find(vm, c->id) >= 0)
		return refuse(c, err_set(e, -EEXIST, "Chardev with id '%.60s' already exists", c->id));
	if (mux)
		return add_mux(vm, c, mux, e);
	while (i < VM_MAX_CHARDEVS && x->dev[i].id)
		i++;
	if (i == VM_MAX_CHARDEVS)
		return refuse(c, err_set(e, -ENOSPC, "a guest has at most %d chardevs", VM_MAX_CHARDEVS));
	x->dev[i].own_id = strdup(c->id);
	if (!x->dev[i].own_id)
		return refuse(c, err_set(e, -ENOMEM, "out of memory"));
	ret = open_backend(vm, c, pty, pty_len, &x->dev[i].chr, e);
	if (ret) {
		free(x->dev[i].own_id);
		x->dev[i].own_id = NULL;
		x->dev[i].chr = NULL;
		return ret;
	}
	x->dev[i].id = x->dev[i].own_id;
	return 0;
}

int vm_chardev_change(struct vm *vm, const struct vm_chardev *c, char *pty, size_t pty_len, struct err *e)
{
	int i = find(vm, c->id), ret;
	struct chardev *by;

	if (i < 0)
		return refuse(c, err_set(e, -ENOENT, "Chardev '%.60s' does not exist", c->id));
	if (vm->chardevs->dev[i].mux)
		return refuse(c, err_set(e, -ENOTSUP, "Mux device hotswap not supported yet"));
	if (vm->chardevs->dev[i].vdagent)
		return refuse(c, err_set(e, -ENOTSUP, "Chardev '%.60s' is the clipboard's", c->id));
	ret = open_backend(vm, c, pty, pty_len, &by, e);
	if (!ret)
		chardev_replace(vm->chardevs->dev[i].chr, by);
	return ret;
}

int vm_chardev_remove(struct vm *vm, const char *id, struct err *e)
{
	int i = find(vm, id);

	if (i < 0)
		return err_set(e, -ENOENT, "Chardev '%.60s' not found", id);
	if (vm->chardevs->dev[i].taken || vm->chardevs->dev[i].vdagent || chardev_in_use(vm->chardevs->dev[i].chr))
		return err_set(e, -EBUSY, "Chardev '%.60s' is busy", id);
	chardev_free(vm->chardevs->dev[i].chr);
	free(vm->chardevs->dev[i].own_id);
	memset(&vm->chardevs->dev[i], 0, sizeof(vm->chardevs->dev[i]));
	return 0;
}

/* 0: there is none. */
static unsigned port_number(struct vm *vm, const char *name)
{
	for (unsigned i = 1; i < vm->chardevs->n_places; i++)
		if (!strcmp(vm->chardevs->port[i], name))
			return i;
	return 0;
}

int vm_add_port(struct vm *vm, unsigned i, struct err *e)
{
	const char *name = vm->cfg->port[i].name, *chardev = vm->cfg->port[i].chardev;
	struct virtio_console_port p = { .name = name, .console = vm->cfg->port[i].console };
	unsigned at = vm->cfg->port[i].nr;
	struct vm_chardevs *x = vm->chardevs;
	int ret;

	if (!x || !x->serial)
		return err_set(e, -ENODEV, "this guest has no virtio serial device: start it with a --port");
	if (!*name || strlen(name) >= NAME_LEN)
		return err_set(e, -EINVAL, "a port's name has 1 to %d characters", NAME_LEN - 1);
	if (port_number(vm, name))
		return err_set(e, -EEXIST, "there is a port %.60s already", name);
	if (at && at < x->n_places && x->port[at][0])
		return err_set(e, -EBUSY, "place %u is taken by port %.60s", at, x->port[at]);
	for (at = at ? at : 1; at < x->n_places && x->port[at][0]; at++)
		;
	if (at >= x->n_places)
		return err_set(e, -ENOSPC, "this guest has no place for another port");
	ret = vm_chardev_take(vm, chardev, false, &p.chr, e);
	if (ret)
		return ret;
	ret = virtio_console_add_port(x->serial, at, &p);
	if (ret) {
		vm_chardev_release(vm, p.chr);
		return err_set(e, ret, "port %.60s: %s", name, strerror(-ret));
	}
	x->port_chr[at] = p.chr;
	snprintf(x->port[at], NAME_LEN, "%s", name);
	return 0;
}

void vm_remove_port(struct vm *vm, unsigned i)
{
	unsigned at = port_number(vm, vm->cfg->port[i].name);

	virtio_console_remove_port(vm->chardevs->serial, at);
	vm->chardevs->port[at][0] = '\0';
	vm_chardev_release(vm, vm->chardevs->port_chr[at]);
}

unsigned vm_port_places(const struct vm *vm) { return vm->chardevs && vm->chardevs->serial ? vm->chardevs->n_places : 0; }

unsigned vm_port_number(struct vm *vm, const char *name) { return vm_port_places(vm) ? port_number(vm, name) : 0; }
