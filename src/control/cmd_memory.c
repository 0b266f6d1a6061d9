// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that comes and goes: QEMU's queries and events, its way to say how much it should be (a property of the
 * device's object), and ours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "control/hmp.h"
#include "virtio/mem.h"
#include "vm/config.h"

static const char peripheral[] = "/machine/peripheral/";

static json_t *device_json(struct control *ctl, unsigned i)
{
	const struct vm_memory *c = &vm_config_of(ctl->vm)->memory_device[i];
	struct virtio_mem_info v;

	if (!vm_memory_info(ctl->vm, i, &v))
		return NULL;
	return json_pack("{s:s,s:{s:s,s:I,s:I,s:I,s:I,s:I,s:i,s:s+}}", "type", "virtio-mem", "data", "id", c->id, "memaddr", (json_int_t)v.gpa,
			 "requested-size", (json_int_t)v.requested, "size", (json_int_t)v.plugged, "max-size", (json_int_t)v.max_size, "block-size",
			 (json_int_t)v.block_size, "node", MAX(v.node, 0), "memdev", "/objects/", c->memdev);
}

void ctl_cmd_query_memory_devices(struct ctl_call *c, const struct ctl_args_query_memory_devices *a)
{
	json_t *list = json_array(), *j;

	for (unsigned i = 0; (j = device_json(c->ctl, i)); i++)
		json_array_append_new(list, j);
	ctl_return(c, list);
}

void ctl_memory_event(struct control *ctl, unsigned i)
{
	const struct vm_config *cfg = vm_config_of(ctl->vm);
	struct virtio_mem_info v;

	if (vm_memory_info(ctl->vm, i, &v))
		ctl_emit_by(ctl, &ctl->memory_limit[i], CTL_EVENT_MEMORY_DEVICE_SIZE_CHANGE,
			    json_pack("{s:s,s:I,s:s+}", "id", cfg->memory_device[i].id, "size", (json_int_t)v.plugged, "qom-path", peripheral,
				      cfg->memory_device[i].id));
}

/* ---- all of them ---- */

struct sums {
	uint64_t plugged, requested, most;
};

static struct sums sums_of(struct control *ctl)
{
	struct virtio_mem_info v;
	struct sums s = { 0 };

	for (unsigned i = 0; vm_memory_info(ctl->vm, i, &v); i++) {
		s.plugged += v.plugged;
		s.requested += v.requested;
		s.most += v.max_size;
	}
	return s;
}

void ctl_cmd_query_memory_size_summary(struct ctl_call *c, const struct ctl_args_query_memory_size_summary *a)
{
	ctl_return(c, json_pack("{s:I,s:I}", "base-memory", (json_int_t)vm_config_of(c->ctl->vm)->memory, "plugged-memory",
				(json_int_t)sums_of(c->ctl).plugged));
}

void ctl_cmd_x_lodge_memory(struct ctl_call *c, const struct ctl_args_x_lodge_memory *a)
{
	uint64_t base = vm_config_of(c->ctl->vm)->memory;
	struct err e = { "" };
	struct sums s;

	if (a->has_size && ctl_failed(c, vm_memory_set(c->ctl->vm, (uint64_t)a->size, &e), &e))
		return;
	s = sums_of(c->ctl);
	ctl_return(c, json_pack("{s:I,s:I,s:I,s:I}", "size", (json_int_t)(base + s.plugged), "requested", (json_int_t)(base + s.requested), "min",
				(json_int_t)base, "max", (json_int_t)(base + s.most)));
}

/* ---- properties ---- */

static void no_property(struct ctl_call *c, const char *name)
{
	ctl_fail(c, CTL_GENERIC_ERROR, "Property 'virtio-mem-pci.%.60s' not found", name);
}

static void get(struct ctl_call *c, unsigned i, const char *property)
{
	static const char *const names[] = { "id", "memaddr", "requested-size", "size", "block-size", "node", "memdev" };
	json_t *j;

	for (unsigned k = 0; k < ARRAY_LEN(names); k++)
		if (!strcmp(names[k], property)) {
			j = device_json(c->ctl, i);
			ctl_return(c, json_incref(json_object_get(json_object_get(j, "data"), property)));
			json_decref(j);
			return;
		}
	no_property(c, property);
}

/* Bytes: a number, or text with a unit. */
static bool bytes_of(const json_t *v, uint64_t *out)
{
	static const char units[] = "BKMGT";
	const char *text = json_string_value(v), *u;
	unsigned long long n;
	char *end;

	if (json_is_integer(v)) {
		*out = (uint64_t)json_integer_value(v);
		return json_integer_value(v) >= 0;
	}
	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 0);
	u = *end ? strchr(units, *end & ~0x20) : units;
	return !errno && u && *u && (!*end || !end[1]) && !mul_overflows((uint64_t)n, 1ull << (10 * (u - units)), out);
}

static void set(struct ctl_call *c, unsigned i, const char *property, const json_t *value)
{
	struct err e = { "" };
	uint64_t n;

	if (strcmp(property, "requested-size") != 0)
		no_property(c, property);
	else if (!bytes_of(value, &n))
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'requested-size' expects a size");
	else
		ctl_failed(c, vm_memory_request(c->ctl->vm, i, n, &e), &e);
}

bool ctl_memory_property(struct ctl_call *c, const char *path, const char *property, const json_t *value)
{
	int i = vm_memory_find(c->ctl->vm, strncmp(path, peripheral, strlen(peripheral)) ? path : path + strlen(peripheral));

	if (i < 0)
		return false;
	if (value)
		set(c, (unsigned)i, property, value);
	else
		get(c, (unsigned)i, property);
	return true;
}

/* ---- the monitor for people ---- */

void hmp_info_memory_devices(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-memory-devices", NULL), *x, *d;
	size_t i;

	json_array_foreach(all, i, x) {
		d = json_object_get(x, "data");
		fprintf(h->out, "Memory device [%s]: \"%s\"\r\n  memaddr: 0x%llx\r\n  node: %lld\r\n  requested-size: %lld\r\n  size: %lld\r\n"
			"  max-size: %lld\r\n  block-size: %lld\r\n  memdev: %s\r\n", hmp_text(x, "type"), hmp_text(d, "id"), hmp_number(d, "memaddr"),
			hmp_number(d, "node"), hmp_number(d, "requested-size"), hmp_number(d, "size"), hmp_number(d, "max-size"),
			hmp_number(d, "block-size"), hmp_text(d, "memdev"));
	}
	json_decref(all);
}

void hmp_info_memory_size_summary(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-memory-size-summary", NULL);

	if (j)
		fprintf(h->out, "base memory: %lld\r\nplugged memory: %lld\r\n", hmp_number(j, "base-memory"), hmp_number(j, "plugged-memory"));
	json_decref(j);
}

/* A value is JSON, or text. */
void hmp_qom_set(struct hmp *h)
{
	json_t *v = json_loads(h->word[3], JSON_DECODE_ANY, NULL);

	hmp_just(h, "qom-set", json_pack("{s:s+,s:s+,s:o}", "path", h->word[1], "", "property", h->word[2], "", "value",
					 v ? v : json_string(h->word[3])));
}

void hmp_qom_get(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "qom-get", json_pack("{s:s+,s:s+}", "path", h->word[1], "", "property", h->word[2], ""));

	if (j) {
		json_dumpf(j, h->out, JSON_ENCODE_ANY);
		fputs("\r\n", h->out);
	}
	json_decref(j);
}
