// SPDX-License-Identifier: GPL-2.0-or-later
/* Chardevs and the ports that lead to them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chardev/chardev.h"
#include "control/internal.h"
#include "vm/chardevs.h"
#include "vm/hotplug.h"

#define READ_MAX (1u << 20)

/* ---- what there is ---- */

static void add_console(json_t *list, const char *label, enum vm_console kind, const char *file)
{
	static const char *const names[] = { [VM_CONSOLE_STDIO] = "stdio", [VM_CONSOLE_PTY] = "pty", [VM_CONSOLE_NONE] = "null" };
	char text[512];

	if (kind == VM_CONSOLE_FILE)
		snprintf(text, sizeof(text), "file:%s", file);
	else
		snprintf(text, sizeof(text), "%s", names[kind]);
	json_array_append_new(list, json_pack("{s:s,s:s+,s:b}", "label", label, "filename", text, "", "frontend-open", 1));
}

void ctl_cmd_query_chardev(struct ctl_call *c, const struct ctl_args_query_chardev *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	json_t *list = json_array();
	struct chardev *chr;
	const char *id, *name;

	add_console(list, "serial0", cfg->console, cfg->console_file);
	if (cfg->debugcon != VM_CONSOLE_NONE)
		add_console(list, "debugcon", cfg->debugcon, cfg->debugcon_file);
	for (unsigned i = 0; (chr = vm_chardev_nth(c->ctl->vm, i, &id)); i++) {
		name = chardev_name(chr);
		json_array_append_new(list, json_pack("{s:s+,s:s++,s:b}", "label", id, "", "filename", !chardev_is_open(chr) ? "disconnected:" : "",
						      name, "", "frontend-open", chardev_in_use(chr)));
	}
	ctl_return(c, list);
}

/* ---- ring buffers ---- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* out: 4 * (n + 2) / 3 + 1 bytes */
static void base64(const uint8_t *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < n ? digits[v & 63] : '=';
	}
	*out = '\0';
}

/* Bytes to out (strlen(text) of them at most); -1: it is none. */
static ssize_t unbase64(const char *text, uint8_t *out)
{
	size_t len = strlen(text), n = 0;
	uint32_t v = 0;

	if (len % 4)
		return -1;
	while (len && text[len - 1] == '=' && len + 2 > strlen(text))
		len--;
	for (size_t i = 0; i < len; i++) {
		const char *at = strchr(digits, text[i]);

		if (!at)
			return -1;
		v = v << 6 | (uint32_t)(at - digits);
		if (i % 4)
			out[n++] = (uint8_t)(v >> (6 - 2 * (i % 4)));
	}
	return (ssize_t)n;
}

/* The length of the UTF-8 sequence at p, or 0 if it is none (RFC 3629). */
static unsigned utf8_len(const uint8_t *p, size_t n)
{
	unsigned len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (!len || len > n)
		return 0;
	for (unsigned i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* out: 3 * n + 1 bytes */
static void make_utf8(const uint8_t *p, size_t n, char *out)
{
	while (n) {
		unsigned len = *p ? utf8_len(p, n) : 0;

		memcpy(out, len ? (const char *)p : "\xef\xbf\xbd", len ? len : 3);
		out += len ? len : 3;
		p += len ? len : 1;
		n -= len ? len : 1;
	}
	*out = '\0';
}

static struct chardev *find(struct ctl_call *c, const char *id)
{
	struct chardev *chr = vm_chardev(c->ctl->vm, id);

	if (!chr)
		ctl_fail(c, CTL_GENERIC_ERROR, "Device '%.64s' not found", id);
	return chr;
}

void ctl_cmd_ringbuf_read(struct ctl_call *c, const struct ctl_args_ringbuf_read *a)
{
	struct chardev *chr = find(c, a->device);
	size_t max = (size_t)MAX(0, MIN(a->size, (int64_t)READ_MAX));
	uint8_t *buf;
	char *text;
	ssize_t n;

	if (!chr)
		return;
	if (a->size <= 0) {
		ctl_fail(c, CTL_GENERIC_ERROR, "size must be greater than zero");
		return;
	}
	buf = malloc(max);
	text = malloc(3 * max + 8);
	n = buf && text ? chardev_ringbuf_read(chr, buf, max) : -ENOMEM;
	if (n < 0)
		ctl_fail(c, CTL_GENERIC_ERROR, n == -ENOMEM ? "out of memory" : "%.64s is not a ringbuf device", a->device);
	else if (a->has_format && a->format == CTL_DATA_FORMAT_BASE64)
		base64(buf, (size_t)n, text);
	else
		make_utf8(buf, (size_t)n, text);
	if (n >= 0)
		ctl_return(c, json_string(text));
	free(buf);
	free(text);
}

void ctl_cmd_ringbuf_write(struct ctl_call *c, const struct ctl_args_ringbuf_write *a)
{
	struct chardev *chr = find(c, a->device);
	ssize_t n = (ssize_t)strlen(a->data);
	uint8_t *buf;

	if (!chr)
		return;
	buf = malloc((size_t)n + 1);
	if (!buf) {
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
		return;
	}
	if (a->has_format && a->format == CTL_DATA_FORMAT_BASE64)
		n = unbase64(a->data, buf);
	else
		memcpy(buf, a->data, (size_t)n);
	if (n < 0)
		ctl_fail(c, CTL_GENERIC_ERROR, "Base64 data is not valid");
	else if (chardev_ringbuf_write(chr, buf, (size_t)n))
		ctl_fail(c, CTL_GENERIC_ERROR, "%.64s is not a ringbuf device", a->device);
	free(buf);
}

/* ---- ports ---- */

void ctl_port_event(struct control *ctl, int64_t value)
{
	unsigned n = (unsigned)(value >> 1);
	const char *name = vm_port_name(ctl->vm, n);

	if (name)
		ctl_emit_by(ctl, &ctl->port_limit[n], CTL_EVENT_VSERPORT_CHANGE,
			    json_pack("{s:s,s:b}", "id", name, "open", (int)(value & 1)));
}

void ctl_cmd_x_lodge_port_add(struct ctl_call *c, const struct ctl_args_x_lodge_port_add *a)
{
	struct vm_device d;
	struct conf *fields;
	struct err e = { "" };
	int ret = conf_new(&fields);

	if (ret) {
		ctl_failed(c, ret, NULL);
		return;
	}
	ret = conf_set(fields, "name", a->name, &e);
	if (!ret)
		ret = conf_set(fields, "chardev", a->chardev, &e);
	if (!ret)
		ret = vm_device_add(c->ctl->vm, VM_DEVICE_PORT, fields, &d, &e);
	conf_free(fields);
	ctl_failed(c, ret, &e);
}

void ctl_cmd_x_lodge_port_remove(struct ctl_call *c, const struct ctl_args_x_lodge_port_remove *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);

	for (unsigned i = 0; i < cfg->n_ports; i++)
		if (cfg->port[i].name && !strcmp(cfg->port[i].name, a->name)) {
			vm_device_remove(c->ctl->vm, &(struct vm_device){ VM_DEVICE_PORT, i });
			return;
		}
	ctl_fail(c, CTL_GENERIC_ERROR, "there is no port %.60s", a->name);
}
