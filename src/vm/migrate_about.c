// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the two sides of a migration compare before anything happens: the destination says
 * what it is, as JSON, and the source looks whether it is the same where a guest could tell.
 *
 *	{ "lodge": version, "state": version of saved state, "memory": bytes, "cpu": model, in hexadecimal, "engine": name,
 *	  "config": { key: value ... }, "devices": [ name ... ],
 *	  "disks": [ { "size": bytes, "read-only": bool } ... ], "streams": how many further connections it takes,
 *	  "late": true, if memory may come after its guest, or a text: why not }
 *
 * Where a disk, a kernel or a network is on each side is that side's business.
 *
 * It is foreign data, and compared with the machine lock held: the work is to be no more than its length.
 */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "storage/disk.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/migrate_late.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"

#define MAX_ABOUT MIG_MAX
#define MAX_DIFFERENCES 5
#define MAX_CPU 8192			/* bytes of a model */

static const char *const own_business[] = {
	"name", "accel", "disk.*.file", "disk.*.format", "disk.*.cache", "disk.*.aio", "disk.*.iothread", "disk.*.key.*", "disk.*.backing",
	"disk.*.size", "disk.*.rerror", "disk.*.werror", "disk.*.*iops*", "disk.*.*bps*", "disk.*.copy-on-read", "disk.*.throttling*",
	"disk.*.bootindex", "disk.*.hotplugged", "kernel", "initrd.*", "append", "firmware", "fw-cfg.*.file", "debugcon", "serial.*", "chardev.*", "monitor.*", "guest-agent",
	"net.*.kind", "net.*.if", "net.*.restrict", "net.*.tftp", "net.*.mac", "net.*.hostname", "net.*.domainname", "net.*.dnssearch", "net.*.net", "net.*.host", "net.*.dns", "net.*.dhcpstart",
	"net.*.bootfile", "net.*.tftp-server-name", "net.*.bootindex", "net.*.romfile", "vga-romfile", "no-reboot", "shutdown-timeout",
	"code-cache", "direct", "vmgenid", "watchdog-action", "rtc", "cpu", "boot-order", "boot-menu", "escape", "defaults", "exec-timeout",
	"huge-pages", "accel-split", "vcpu.*", "vhost-disk.*.path", "vhost-disk.*.server", "vhost-disk.*.reconnect", "vhost-disk.*.bootindex",
};

static bool is_own_business(const char *key)
{
	for (unsigned i = 0; i < ARRAY_LEN(own_business); i++)
		if (!fnmatch(own_business[i], key, 0))
			return true;
	return false;
}

/* ---- saying it ---- */

static char *hex_of(const void *p, size_t n)
{
	const uint8_t *b = p;
	char *out = malloc(n * 2 + 1);

	for (size_t i = 0; out && i < n; i++)
		snprintf(out + i * 2, 3, "%02x", b[i]);
	if (out)
		out[n * 2] = '\0';
	return out;
}

static json_t *cpu_json(const struct x86_cpu_model *m)
{
	struct snap_out *o;
	json_t *j = NULL;
	const void *p;
	size_t len;
	char *hex;

	if (snap_out_new(&o))
		return NULL;
	if (!x86_model_save(o, m)) {
		p = snap_out_data(o, &len);
		hex = hex_of(p, len);
		j = hex ? json_string(hex) : NULL;
		free(hex);
	}
	snap_out_free(o);
	return j;
}

static json_t *config_json(struct vm *vm, struct err *e)
{
	json_t *j = json_object();
	const char *key, *val;
	struct conf *c;

	if (vm_snapshot_own(vm->cfg->tree, &c, e) || vm_snapshot_defaults(vm, c, e)) {
		json_decref(j);
		return NULL;
	}
	for (size_t i = 0; conf_nth(c, i, &key, &val); i++)
		if (!is_own_business(key))
			json_object_set_new(j, key, json_string(val));
	conf_free(c);
	return j;
}

static json_t *devices_json(struct vm *vm)
{
	json_t *j = json_array();

	list_for_each(n, &vm->m->devs)
		json_array_append_new(j, json_string(list_entry(n, struct dev, node)->id));
	return j;
}

static json_t *disks_json(struct vm *vm)
{
	json_t *j = json_array();

	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm->disk[i];

		if (!d) {
			if (i < vm->cfg->n_disks)
				json_array_append_new(j, json_null());
			continue;
		}
		disk_lock(d);
		json_array_append_new(j, json_pack("{s:I,s:b}", "size", (json_int_t)d->node->i.size, "read-only", (int)d->node->i.read_only));
		disk_unlock(d);
	}
	return j;
}

static json_t *about(struct vm *vm, struct err *e)
{
	json_t *cpu = cpu_json(&vm->model), *config = cpu ? config_json(vm, e) : NULL, *j = NULL;

	if (config)
		j = json_pack("{s:s,s:i,s:I,s:O,s:s,s:O,s:o,s:o}", "lodge", LODGE_VERSION, "state", SNAPSHOT_VERSION, "memory",
			      (json_int_t)mem_ram_size(vm->m->mem), "cpu", cpu, "engine", vm->engine_ops->name, "config", config, "devices", devices_json(vm), "disks", disks_json(vm));
	json_decref(cpu);
	json_decref(config);
	return j;
}

char *mig_about(struct mig *g, struct err *e)
{
	json_t *j = about(g->vm, e);
	struct err why;
	char *text;

	if (j && g->listen_fd >= 0) {
		json_object_set_new(j, "streams", json_integer(MIG_LANES_MAX));
		json_object_set_new(j, "late", mig_late_possible(g->vm, &why) ? json_string(why.msg) : json_true());
	}
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	if (text && strlen(text) < MAX_ABOUT)
		return text;
	free(text);
	err_set(e, -ENOMEM, "out of memory");
	return NULL;
}

/* ---- comparing it ---- */

struct compare {
	char text[400];
	unsigned n;
};

static void differs(struct compare *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void differs(struct compare *c, const char *fmt, ...)
{
	size_t at = strlen(c->text);
	va_list ap;

	if (c->n++ >= MAX_DIFFERENCES)
		return;
	if (at && at + 2 < sizeof(c->text)) {
		memcpy(c->text + at, "; ", 3);
		at += 2;
	}
	va_start(ap, fmt);
	vsnprintf(c->text + at, sizeof(c->text) - at, fmt, ap);
	va_end(ap);
}

/* The model that the text has. */
static int model_of(const char *hex, struct x86_cpu_model *m, struct err *e)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = hex ? strlen(hex) : 0;
	uint8_t bytes[MAX_CPU] = { 0 };
	struct snap_in *in;
	int ret;

	if (n % 2 || n / 2 > MAX_CPU || (n && strspn(hex, digits) != n))
		return err_set(e, -EPROTO, "it is no text of hexadecimal digits");
	for (size_t i = 0; i < n; i++)
		bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (strchr(digits, hex[i]) - digits));
	if (snap_in_new(&in, bytes, n / 2))
		return err_set(e, -ENOMEM, "out of memory");
	ret = x86_model_load(in, m, e);
	snap_in_free(in);
	return ret;
}

/* The names in what x86_model_fits says. */
static const char *names_in(struct err *e)
{
	char *colon = strchr(e->msg, ':');

	if (!colon)
		return e->msg;
	colon[1 + strcspn(colon + 1, ";")] = '\0';
	return colon + 2;
}

static void compare_cpu(struct compare *c, struct vm *vm, const char *hex)
{
	struct x86_cpu_model m, *mine = &vm->model;
	struct err e = { "" };

	if (model_of(hex, &m, &e))
		differs(c, "its CPU model makes no sense: %.200s", e.msg);
	else if (x86_model_fits(mine, m.feat, &e))
		differs(c, "CPU features that the guest has are missing there: %.200s", names_in(&e));
	else if (x86_model_fits(&m, mine->feat, &e))
		differs(c, "the destination's CPU has features that the guest's has not (start it with --cpu NAME,-FEATURE): %.200s", names_in(&e));
	else if (m.phys_bits != mine->phys_bits || m.lin_bits != mine->lin_bits || m.xcr0_mask != mine->xcr0_mask || strcmp(m.vendor, mine->vendor))
		differs(c, "the CPUs differ: %.12s with %u address bits there, %.12s with %u here", m.vendor, m.phys_bits, mine->vendor,
			mine->phys_bits);
	else if (m.xcr0_mask & 0xe0 && m.xsave_own != mine->xsave_own)
		differs(c, "AVX-512's state is laid out another way there (--cpu x86-64-v3 has none)");
	else if (m.tsc_khz / 1000 > mine->tsc_khz / 1000 + mine->tsc_khz / 100000 + 1 ||
		 mine->tsc_khz / 1000 > m.tsc_khz / 1000 + mine->tsc_khz / 100000 + 1)
		differs(c, "the guest's time stamp counter goes at %u MHz here and would at %u MHz there", mine->tsc_khz / 1000, m.tsc_khz / 1000);
}

static void compare_config(struct compare *c, const json_t *mine, const json_t *theirs)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)mine, key, v) {
		const char *text = json_string_value(json_object_get(theirs, key));

		if (!text)
			differs(c, "%.40s is %.40s here and not given there", key, json_string_value(v));
		else if (strcmp(text, json_string_value(v)) != 0)
			differs(c, "%.40s is %.40s here and %.40s there", key, json_string_value(v), text);
	}
	json_object_foreach((json_t *)(uintptr_t)theirs, key, v)
		if (!json_object_get(mine, key) && !is_own_business(key))
			differs(c, "%.40s is %.40s there and not given here", key, json_is_string(v) ? json_string_value(v) : "?");
}

static bool has(const json_t *list, const char *name)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, v)
		if (json_is_string(v) && !strcmp(json_string_value(v), name))
			return true;
	return false;
}

static void compare_devices(struct compare *c, const json_t *mine, const json_t *theirs)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)mine, i, v)
		if (!has(theirs, json_string_value(v)))
			differs(c, "there is no device %.40s", json_string_value(v));
	json_array_foreach((json_t *)(uintptr_t)theirs, i, v)
		if (json_is_string(v) && !has(mine, json_string_value(v)))
			differs(c, "the device %.40s is there only", json_string_value(v));
	if (!c->n && !json_equal(mine, theirs))
		differs(c, "its devices are in another order");
}

static void compare_disks(struct compare *c, const json_t *mine, const json_t *theirs)
{
	if (json_array_size(mine) != json_array_size(theirs)) {
		differs(c, "there are %zu disks here and %zu there", json_array_size(mine), json_array_size(theirs));
		return;
	}
	for (size_t i = 0; i < json_array_size(mine); i++) {
		const json_t *a = json_array_get(mine, i), *b = json_array_get(theirs, i);

		if (!json_equal(a, b))
			differs(c, "disk %zu has %lld bytes%s here and %lld bytes%s there", i,
				(long long)json_integer_value(json_object_get(a, "size")), json_is_true(json_object_get(a, "read-only")) ? ", read-only," : "",
				(long long)json_integer_value(json_object_get(b, "size")), json_is_true(json_object_get(b, "read-only")) ? ", read-only," : "");
	}
}

static void compare(struct compare *c, struct vm *vm, const json_t *mine, const json_t *theirs)
{
	const char *theirs_version = json_string_value(json_object_get(theirs, "lodge"));

	if (!json_equal(json_object_get(mine, "state"), json_object_get(theirs, "state"))) {
		differs(c, "it is Lodge %.20s, whose saved state has another version", theirs_version ? theirs_version : "?");
		return;
	}
	if (!json_equal(json_object_get(mine, "memory"), json_object_get(theirs, "memory")))
		differs(c, "the memory is %lld MiB here and %lld MiB there", (long long)json_integer_value(json_object_get(mine, "memory")) >> 20,
			(long long)json_integer_value(json_object_get(theirs, "memory")) >> 20);
	compare_config(c, json_object_get(mine, "config"), json_object_get(theirs, "config"));
	compare_devices(c, json_object_get(mine, "devices"), json_object_get(theirs, "devices"));
	compare_disks(c, json_object_get(mine, "disks"), json_object_get(theirs, "disks"));
	compare_cpu(c, vm, json_string_value(json_object_get(theirs, "cpu")));
}

/* What it can do, beside what it is. */
static void compare_ways(struct compare *c, const struct mig *g, const json_t *theirs)
{
	json_int_t streams = json_integer_value(json_object_get(theirs, "streams"));
	const json_t *late = json_object_get(theirs, "late");

	if (g->streams && streams < (json_int_t)g->streams)
		differs(c, "it takes %d further connections, not %u (multifd)", (int)MAX(streams, 0), g->streams);
	if (g->may_be_late && !json_is_true(late))
		differs(c, "it cannot have memory come after its guest (postcopy-ram)%s%.250s", json_is_string(late) ? ": " : "", json_is_string(late) ? json_string_value(late) : "");
}

int mig_about_fits(struct mig *g, const char *text, size_t len, struct err *e)
{
	struct vm *vm = g->vm;
	json_t *theirs = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL), *mine = about(vm, e);
	struct compare c = { .n = 0 };
	int ret = mine ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (!ret && !json_is_object(theirs))
		ret = err_set(e, -EPROTO, "what the destination says of itself makes no sense");
	if (!ret) {
		compare(&c, vm, mine, theirs);
		compare_ways(&c, g, theirs);
		/* It goes to terminals and logs. */
		for (char *p = c.text; *p; p++)
			if (!isprint((unsigned char)*p))
				*p = '?';
		if (c.n)
			ret = err_set(e, -ENOTSUP, "the destination is another machine: %s%s", c.text, c.n > MAX_DIFFERENCES ? "; and more" : "");
	}
	json_decref(mine);
	json_decref(theirs);
	return ret;
}
