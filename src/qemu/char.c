// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Character devices: the old form ("unix:PATH,server=on,wait=off", "mon:stdio") and -chardev,
 * and what is put on them: serial ports, ports of virtio-serial, monitors, the debug console.
 *
 * Both forms become one text as monitors have it: "stdio", "pty", "none", "vdagent", "file:PATH", "ringbuf,size=N",
 * "unix:PATH,server=on,wait=off", "tcp:HOST:PORT,..."; for devices it is taken to pieces again, as --chardev has it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"

int opt_chardev(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	int ret;

	if (wants_help(q, "chardev", val))
		return -EAGAIN;
	ret = item_add(q, &q->chardevs, "-chardev", "backend", val, e);
	if (ret)
		return ret;
	it = list_entry(q->chardevs.prev, struct qemu_item, node);
	return it->id ? 0 : err_set(e, -EINVAL, "id is missing");
}

/* ",server=on,wait=off" and its older spellings; on is the default of neither here. */
static int socket_switches(struct qemu *q, struct props *p, const char *where, struct qemu_place *out, struct err *e)
{
	static const char *const same[] = { "delay", "nodelay", "ipv4", "ipv6", "tight", "to", NULL };
	const char *creds = props_take(p, "tls-creds"), *authz = props_take(p, "tls-authz");
	bool server = false, wait = true, abstract = false, websocket = false;
	uint64_t again = 0;
	int ret = props_bool(p, "server", &server, e);

	if (!ret)
		ret = props_bool(p, "wait", &wait, e);
	if (!ret)
		ret = props_number(p, "reconnect", 0, 86400, &again, NULL, e);
	if (!ret)
		ret = props_bool(p, "abstract", &abstract, e);
	if (!ret && abstract)
		ret = err_set(e, -ENOTSUP, "abstract=on is not supported; a socket is a file");
	if (!ret)
		ret = props_bool(p, "telnet", &out->telnet, e);
	if (!ret)
		ret = props_bool(p, "websocket", &websocket, e);
	props_ignore(p, same);
	out->text = keepf(q, "%s,server=%s%s", where, server ? "on" : "off", server ? wait ? ",wait=on" : ",wait=off" : "");
	if (out->telnet)
		out->text = keepf(q, "%s,telnet=on", out->text);
	if (websocket)
		out->text = keepf(q, "%s,websocket=on", out->text);
	if (creds)
		out->text = keepf(q, "%s,tls-creds=%s", out->text, creds);
	if (authz)
		out->text = keepf(q, "%s,tls-authz=%s", out->text, authz);
	if (again)
		out->text = keepf(q, "%s,reconnect=%u", out->text, (unsigned)again);
	return ret;
}

static int socket_place(struct qemu *q, struct props *p, struct qemu_place *out, struct err *e)
{
	const char *path = props_take(p, "path"), *host = props_take(p, "host"), *port = props_take(p, "port"), *fd = props_take(p, "fd"),
		   *v = props_take(p, "addr.path");

	path = path ? path : v;
	props_take(p, "addr.type");
	if (fd && !path && !port) {
		out->text = keepf(q, "fd:%s", fd);
		props_ignore(p, (const char *const[]){ "wait", "reconnect", NULL });
		return props_bool(p, "server", &out->server, e);
	}
	if (path && strchr(path, ','))
		return err_set(e, -ENOTSUP, "path=%.60s: a comma in a socket's name is not supported", path);
	else if (path)
		return socket_switches(q, p, keepf(q, "unix:%s", path), out, e);
	else if (port)
		return socket_switches(q, p, keepf(q, "tcp:%s:%s", host ? host : "", port), out, e);
	else
		return err_set(e, -EINVAL, "a socket needs path, port or fd");
	return 0;
}

static const char *ringbuf(struct qemu *q, struct props *p)
{
	const char *size = props_take(p, "size");

	return size ? keepf(q, "ringbuf,size=%s", size) : "ringbuf";
}

/* The agent's mouse is not needed: with a display there is a tablet. */
static int vdagent_place(struct props *p, struct qemu_place *out, struct err *e)
{
	bool clipboard = false, mouse = false;
	int ret = props_bool(p, "clipboard", &clipboard, e);

	if (!ret)
		ret = props_bool(p, "mouse", &mouse, e);
	if (mouse)
		warn("-chardev qemu-vdagent: mouse=on has no effect; -device usb-tablet does what it is for");
	props_take(p, "name");
	if (clipboard)
		out->text = "vdagent";
	return ret;
}

static int stdio_place(struct qemu *q, struct props *p, struct qemu_place *out, struct err *e)
{
	bool on = true;
	int ret = props_bool(p, "signal", &on, e);

	out->text = "stdio";
	out->no_signal = !on;
	return ret;
}

static int file_place(struct qemu *q, struct props *p, struct qemu_place *out, struct err *e)
{
	const char *path = props_take(p, "path");

	if (!path)
		return err_set(e, -EINVAL, "path is missing");
	out->text = keepf(q, "file:%s", drive_path(q, path));
	return props_bool(p, "append", &out->append, e);
}

/* -chardev's. */
static int chardev_place(struct qemu *q, const char *id, struct qemu_place *out, struct err *e)
{
	struct qemu_item *it = item_find(&q->chardevs, id);
	const char *backend, *v;
	int ret = 0;

	*out = (struct qemu_place){ .text = "none" };
	if (!it)
		return err_set(e, -ENODEV, "there is no chardev '%.60s'", id);
	if (it->used && !it->place.mux)
		return err_set(e, -EBUSY, "chardev '%.60s' is already in use; mux=on lets several use it", id);
	if (it->used) {
		*out = it->place;
		return 0;
	}
	backend = props_take(&it->p, "backend");
	ret = props_bool(&it->p, "mux", &out->mux, e);
	it->used = true;
	if ((v = props_take(&it->p, "logfile")))
		warn("-chardev logfile=%s has no effect", v);
	props_take(&it->p, "logappend");
	if (ret)
		return ret;
	if (!backend || !strcmp(backend, "null") || !strcmp(backend, "vc"))
		props_ignore(&it->p, (const char *const[]){ "width", "height", "cols", "rows", NULL });
	else if (!strcmp(backend, "stdio"))
		ret = stdio_place(q, &it->p, out, e);
	else if (!strcmp(backend, "pty"))
		out->text = keep(q, backend);
	else if (!strcmp(backend, "file"))
		ret = file_place(q, &it->p, out, e);
	else if (!strcmp(backend, "socket"))
		ret = socket_place(q, &it->p, out, e);
	else if (!strcmp(backend, "ringbuf") || !strcmp(backend, "memory"))
		out->text = ringbuf(q, &it->p);
	else if (!strcmp(backend, "qemu-vdagent"))
		ret = vdagent_place(&it->p, out, e);
	else
		ret = err_set(e, -ENOTSUP, "backend '%.40s' is not supported; null, stdio, file, pty, socket, ringbuf and qemu-vdagent are", backend);
	if (!ret)
		ret = props_done(&it->p, e);
	it->place = *out;
	return ret ? err_prefix(e, ret, "-chardev id=%s", id) : 0;
}

static int old_socket(struct qemu *q, const char *dev, struct qemu_place *out, struct err *e)
{
	size_t len = strcspn(dev, ",");
	const char *where = keepf(q, "%.*s", (int)len, dev);	/* as it is: a path may have "=" in it */
	struct props p;
	int ret = props_parse(dev[len] ? dev + len + 1 : "", NULL, &p, e);

	if (!ret && strncmp(where, "unix:", 5) && !strchr(strchr(where, ':') + 1, ':'))
		ret = err_set(e, -EINVAL, "'%.60s' has no port; it is tcp:HOST:PORT", where);
	out->telnet = !strncmp(where, "telnet:", 7);
	if (out->telnet)
		where = keepf(q, "tcp:%s", where + 7);
	if (!ret)
		ret = socket_switches(q, &p, where, out, e);
	if (!ret)
		ret = props_done(&p, e);
	props_free(&p);
	return ret;
}

/* -serial's and -monitor's form. */
static int find_place(struct qemu *q, const char *dev, struct qemu_place *out, struct err *e)
{
	*out = (struct qemu_place){ .text = "none" };
	if (!strncmp(dev, "mon:", 4)) {
		int ret = find_place(q, dev + 4, out, e);

		out->mux = out->monitor = out->no_signal = true;
		return ret;
	}
	if (!strncmp(dev, "chardev:", 8))
		return chardev_place(q, dev + 8, out, e);
	if (!strcmp(dev, "null") || !strcmp(dev, "none") || !strncmp(dev, "vc", 2) || !strcmp(dev, "con:"))
		return 0;
	if (!strcmp(dev, "stdio") || !strcmp(dev, "pty"))
		out->text = dev;
	else if (!strncmp(dev, "file:", 5) && dev[5])
		out->text = dev;
	else if (!strncmp(dev, "unix:", 5) || !strncmp(dev, "tcp:", 4) || !strncmp(dev, "telnet:", 7))
		return old_socket(q, dev, out, e);
	else
		return err_set(e, -ENOTSUP, "'%.60s' is not supported; null, stdio, pty, file:, unix:, tcp:, telnet: and chardev: are", dev);
	return 0;
}

/* ---- options ---- */

int opt_serial(struct qemu *q, const char *val, struct err *e)
{
	if (q->n_serial == QEMU_MAX_SERIALS)
		return err_set(e, -E2BIG, "there are at most %d serial ports", QEMU_MAX_SERIALS);
	q->serial[q->n_serial++] = val;
	return 0;
}

int opt_parallel(struct qemu *q, const char *val, struct err *e)
{
	return !strcmp(val, "none") || !strcmp(val, "null") ? 0 : err_set(e, -ENOTSUP, "there is no parallel port");
}

int opt_monitor(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	int ret;

	q->monitor_given = true;
	if (!strcmp(val, "none"))
		return 0;
	/* As it is: a path may have "=" in it. */
	ret = item_add(q, &q->monitors, "-monitor", NULL, "", e);
	if (ret)
		return ret;
	it = list_entry(q->monitors.prev, struct qemu_item, node);
	it->type = val;
	return 0;
}

int opt_mon(struct qemu *q, const char *val, struct err *e)
{
	q->monitor_given = true;
	return item_add(q, &q->monitors, "-mon", "chardev", val, e);
}

int opt_qmp(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_place at;
	int ret = find_place(q, val, &at, e);

	q->monitor_given = true;
	if (!ret && strcmp(at.text, "none"))
		emitf(q, "--qmp", "%s", at.text);
	return ret;
}

int opt_qmp_pretty(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_place at;
	int ret = find_place(q, val, &at, e);

	q->monitor_given = true;
	if (!ret && strcmp(at.text, "none"))
		emitf(q, "--qmp", "%s,pretty=on", at.text);
	return ret;
}

int opt_echr(struct qemu *q, const char *val, struct err *e)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(val, &end, 0);
	if (end == val || *end || errno || n < 1 || n > 31)
		return err_set(e, -EINVAL, "'%.20s' is not a control character's number, 1 to 31", val);
	q->echr = (unsigned)n;
	return 0;
}

int opt_debugcon(struct qemu *q, const char *val, struct err *e)
{
	q->debugcon = val;
	return 0;
}

/* ---- what becomes of them ---- */

/* As --console and --debugcon have it. */
static int console_value(const struct qemu_place *at, const char *what, const char **out, struct err *e)
{
	*out = at->text;
	if (at->append)
		return err_set(e, -ENOTSUP, "%s: append=on is not supported", what);
	if (!strncmp(at->text, "file:", 5))
		*out = at->text + 5;
	else if (strcmp(at->text, "stdio") && strcmp(at->text, "pty") && strcmp(at->text, "none"))
		return err_set(e, -ENOTSUP, "%s on '%.60s' is not supported; stdio, pty, file and none are", what, at->text);
	return 0;
}

/* --chardev for a place.  A chardev of -chardev's may have been emitted for somebody else on its mux. */
static int emit_chardev(struct qemu *q, const char *id, const struct qemu_place *at, struct err *e)
{
	struct qemu_item *it = item_find(&q->chardevs, id);
	const char *t = at->text, *rest, *colon;

	if (it && it->emitted)
		return 0;
	if (it)
		it->emitted = true;
	if (!strcmp(t, "stdio") && q->stdio_used)
		return err_set(e, -EINVAL, "cannot use stdio by multiple character devices; with mux=on they share one");
	q->stdio_used |= !strcmp(t, "stdio");
	emit_begin(q, "--chardev");
	if (!strcmp(t, "none"))
		emit_part(q, NULL, "null");
	else
		emit_part(q, NULL, !strncmp(t, "unix:", 5) || !strncmp(t, "tcp:", 4) || !strncmp(t, "fd:", 3) ? "socket" :
			  !strncmp(t, "file:", 5) ? "file" : !strncmp(t, "ringbuf", 7) ? "ringbuf" : t);
	emit_part(q, "id", id);
	rest = strchr(t, ',');
	if (!strncmp(t, "fd:", 3)) {
		emit_part(q, "fd", t + 3);
		emit_part(q, "server", at->server ? "on" : NULL);
	} else if (!strncmp(t, "unix:", 5)) {
		emit_part(q, "path", keepf(q, "%.*s", (int)(rest ? rest - t - 5 : (long)strlen(t + 5)), t + 5));
	} else if (!strncmp(t, "tcp:", 4)) {
		t = strchr(t, ':') + 1;
		colon = t + strcspn(t, ",");
		while (colon > t && *colon != ':')
			colon--;
		emit_part(q, "host", keepf(q, "%.*s", (int)(colon - t), t));
		emit_part(q, "port", keepf(q, "%.*s", (int)(rest ? rest - colon - 1 : (long)strlen(colon + 1)), colon + 1));
	} else if (!strncmp(t, "file:", 5)) {
		emit_part(q, "path", t + 5);
		emit_part(q, "append", at->append ? "on" : NULL);
		rest = NULL;
	}
	if (rest)
		emit_raw(q, strncmp(rest, ",server=off", 11) ? rest : rest + 11);
	emit_part(q, "mux", at->mux ? "on" : NULL);
	if (at->mux && q->echr != 1)
		emit_part(q, "escape", keepf(q, "%u", q->echr));
	if (!strcmp(t, "stdio") && at->no_signal)
		emit_part(q, "signal", "off");
	emit_end(q);
	return 0;
}

/* -device isa-serial: ports behind those of -serial. */
static int serial_devices(struct qemu *q, struct err *e)
{
	list_for_each(n, &q->devices) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		const char *driver = props_peek(&it->p, "driver"), *chr;
		uint64_t index = q->n_serial;
		int ret;

		if (!driver || strcmp(driver, "isa-serial"))
			continue;
		chr = props_take(&it->p, "chardev");
		ret = props_number(&it->p, "index", 0, QEMU_MAX_SERIALS - 1, &index, NULL, e);
		if (!ret && !chr)
			ret = err_set(e, -EINVAL, "chardev is missing");
		if (!ret && index != q->n_serial)
			ret = err_set(e, -ENOTSUP, "index=%u: the next port is %u", (unsigned)index, q->n_serial);
		if (!ret)
			ret = opt_serial(q, keepf(q, "chardev:%s", chr), e);
		if (ret)
			return err_prefix(e, ret, "-device isa-serial");
	}
	return 0;
}

static void emit_console(struct qemu *q, const struct qemu_place *at)
{
	q->stdio_used = true;
	emitf(q, "--console", "stdio");
	/* Without a monitor behind it, Ctrl-C ends QEMU, unless signal=off. */
	if (at->no_signal)
		emitf(q, "--escape", "%u,x", q->echr);
	else
		emitf(q, "--escape", "3");
}

/* The first port on a terminal is the console unless it is shared, the others are on chardevs. */
static int emit_serial(struct qemu *q, struct err *e)
{
	struct qemu_place at[QEMU_MAX_SERIALS];
	int ret = serial_devices(q, e);
	unsigned n = q->n_serial, last = 0;

	if (ret)
		return ret;
	if (!n && q->nographic && !q->nodefaults) {
		q->serial[n++] = q->monitor_given ? "stdio" : "mon:stdio";
		q->monitor_given = true;
	}
	for (unsigned i = 0; i < n && !ret; i++) {
		ret = find_place(q, q->serial[i], &at[i], e);
		if (!ret && strcmp(at[i].text, "none"))
			last = i + 1;
	}
	if (ret)
		return err_prefix(e, ret, "-serial");
	if (last && !strcmp(at[0].text, "stdio") && !at[0].mux)
		emit_console(q, &at[0]);
	for (unsigned i = 0; i < last && !ret; i++) {
		bool none = !strcmp(at[i].text, "none") || (!i && !strcmp(at[i].text, "stdio") && !at[0].mux);
		const char *id = none ? "none" : !strncmp(q->serial[i], "chardev:", 8) ? q->serial[i] + 8 : keepf(q, "serial%u", i);

		if (!none)
			ret = emit_chardev(q, id, &at[i], e);
		if (last > 1 || !none)
			emitf(q, "--serial", "%s", id);
		if (!none && at[i].monitor)
			emitf(q, "--monitor", "%s", id);
	}
	return ret ? err_prefix(e, ret, "-serial") : 0;
}

int char_unix_path(struct qemu *q, const char *id, const char **path, struct err *e)
{
	struct qemu_place at;
	int ret = chardev_place(q, id, &at, e);

	if (ret)
		return ret;
	if (strncmp(at.text, "unix:", 5) || strstr(at.text, ",server=on"))
		return err_set(e, -EINVAL, "chardev '%.60s' is not a socket with a path that is connected to", id);
	*path = keepf(q, "%.*s", (int)strcspn(at.text + 5, ","), at.text + 5);
	return 0;
}

int char_socket_parts(struct qemu *q, const char *id, const char **path, bool *server, const char **reconnect, struct err *e)
{
	const char *rest, *again;
	struct qemu_place at;
	int ret = chardev_place(q, id, &at, e);

	if (ret)
		return ret;
	if (strncmp(at.text, "unix:", 5))
		return err_set(e, -EINVAL, "chardev '%.60s' is not a socket with a path", id);
	rest = at.text + 5 + strcspn(at.text + 5, ",");
	again = strstr(rest, ",reconnect=");
	*path = keepf(q, "%.*s", (int)(rest - at.text - 5), at.text + 5);
	*server = strstr(rest, ",server=on");
	*reconnect = again ? again + strlen(",reconnect=") : NULL;
	return 0;
}

int emit_port(struct qemu *q, struct qemu_item *it, bool console, struct err *e)
{
	const char *id = props_take(&it->p, "chardev"), *name = props_take(&it->p, "name");
	struct qemu_place at;
	int ret;

	if (!id)
		return err_set(e, -EINVAL, "chardev is missing");
	ret = chardev_place(q, id, &at, e);
	if (!ret)
		ret = emit_chardev(q, id, &at, e);
	props_ignore(&it->p, (const char *const[]){ "nr", "bus", NULL });
	if (ret)
		return ret;
	emit_begin(q, "--port");
	emit_part(q, NULL, name ? name : keepf(q, "port%u", q->n_ports));
	emit_part(q, "chardev", id);
	if (console)
		emit_part(q, "console", "on");
	emit_part(q, "id", it->id);
	emit_end(q);
	q->n_ports++;
	return 0;
}

/* A monitor for people. */
static int emit_hmp(struct qemu *q, const char *id, const struct qemu_place *at, struct err *e)
{
	int ret = !strcmp(at->text, "none") ? 0 : emit_chardev(q, id, at, e);

	if (!ret && strcmp(at->text, "none"))
		emitf(q, "--monitor", "%s", id);
	return ret;
}

/* Its messages name the chardev. */
static bool layered(const char *place) { return strstr(place, ",tls-creds=") || strstr(place, ",websocket=on"); }

static int emit_monitor(struct qemu *q, struct qemu_item *it, struct err *e)
{
	const char *mode, *dev, *id;
	bool pretty = false;
	struct qemu_place at;
	int ret;

	if (!strcmp(it->option, "-monitor")) {
		id = !strncmp(it->type, "chardev:", 8) ? it->type + 8 : keepf(q, "compat_monitor%u", q->n_monitors++);
		ret = find_place(q, it->type, &at, e);
		if (!ret)
			ret = emit_hmp(q, id, &at, e);
		return ret ? err_prefix(e, ret, "-monitor") : 0;
	}
	dev = props_take(&it->p, "chardev");
	mode = props_take(&it->p, "mode");
	ret = props_bool(&it->p, "pretty", &pretty, e);
	if (!ret && mode && strcmp(mode, "control") && strcmp(mode, "readline"))
		ret = err_set(e, -EINVAL, "mode=%.20s is neither readline nor control", mode);
	if (!ret)
		ret = dev ? chardev_place(q, dev, &at, e) : err_set(e, -EINVAL, "chardev is missing");
	if (!ret)
		ret = props_done(&it->p, e);
	if (!ret && (!mode || !strcmp(mode, "readline")))
		ret = emit_hmp(q, dev, &at, e);
	else if (!ret && strcmp(at.text, "none"))
		emitf(q, "--qmp", "%s%s%s%s", at.text, layered(at.text) ? ",id=" : "", layered(at.text) ? dev : "", pretty ? ",pretty=on" : "");
	return ret ? err_prefix(e, ret, "-mon") : 0;
}

int emit_chars(struct qemu *q, struct err *e)
{
	struct qemu_place at;
	const char *value;
	int ret = emit_serial(q, e);

	if (!ret && q->nographic && !q->nodefaults && !q->monitor_given)
		ret = opt_monitor(q, "stdio", e);

	list_for_each(n, &q->monitors)
		if (!ret)
			ret = emit_monitor(q, list_entry(n, struct qemu_item, node), e);
	if (!ret && q->debugcon) {
		ret = find_place(q, q->debugcon, &at, e);
		if (!ret)
			ret = console_value(&at, "-debugcon", &value, e);
		if (!ret)
			emitf(q, "--debugcon", "%s", value);
	}
	return ret;
}
