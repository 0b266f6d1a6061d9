// SPDX-License-Identifier: GPL-2.0-or-later
/* Migration (vm/migrate.h) in QEMU's words. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/internal.h"
#include "vm/migrate.h"

#define NS_PER_MS 1000000
#define PAGE 4096
#define MAX_DOWNTIME_MS 2000000
#define MAX_ZSTD 19
#define MAX_STREAMS 16

void ctl_migration_event(struct control *ctl)
{
	struct vm_migrate_info i;

	vm_migrate_info(ctl->vm, &i);
	if (vm_migrate_params(ctl->vm)->events)
		ctl_emit(ctl, CTL_EVENT_MIGRATION, json_pack("{s:s}", "status", vm_migrate_status_name(i.status)));
}

/* ---- beginning and ending ---- */

static bool is_number(const char *s) { return *s && strspn(s, "0123456789") == strlen(s); }

/* A name that getfd gave becomes the descriptor itself, which is the migration's then. -1: an error was said. */
static int real_uri(struct ctl_call *c, const char *uri, char *out, size_t size)
{
	int fd;

	if (strncmp(uri, "fd:", 3) || is_number(uri + 3)) {
		fd = -1;
		if (snprintf(out, size, "%s", uri) >= (int)size) {
			ctl_fail(c, CTL_GENERIC_ERROR, "the address is too long");
			return -1;
		}
		/* The number is somebody else's too: a copy is taken. */
		if (!strncmp(uri, "fd:", 3) && (fd = fcntl(atoi(uri + 3), F_DUPFD_CLOEXEC, 3)) < 0) {
			ctl_fail(c, CTL_GENERIC_ERROR, "%s: %s", uri, strerror(errno));
			return -1;
		}
	} else {
		fd = c->mon ? ctl_monitor_fd(c->mon, uri + 3) : -1;
		if (fd < 0) {
			ctl_fail(c, CTL_GENERIC_ERROR, "File descriptor named '%.64s' not found", uri + 3);
			return -1;
		}
	}
	if (fd >= 0)
		snprintf(out, size, "fd:%d", fd);
	return fd < 0 ? 0 : fd;
}

static void begin(struct ctl_call *c, const char *uri, int (*fn)(struct vm *vm, const char *uri, struct err *e))
{
	struct err e = { "" };
	char real[4096];
	int fd = real_uri(c, uri, real, sizeof(real));

	if (fd >= 0 && ctl_failed(c, fn(c->ctl->vm, real, &e), &e) && fd)
		close(fd);
}

void ctl_cmd_migrate(struct ctl_call *c, const struct ctl_args_migrate *a) { begin(c, a->uri, a->has_resume && a->resume ? vm_migrate_resume : vm_migrate); }
void ctl_cmd_migrate_incoming(struct ctl_call *c, const struct ctl_args_migrate_incoming *a) { begin(c, a->uri, vm_migrate_incoming); }
void ctl_cmd_migrate_recover(struct ctl_call *c, const struct ctl_args_migrate_recover *a) { begin(c, a->uri, vm_migrate_recover); }

void ctl_cmd_migrate_start_postcopy(struct ctl_call *c, const struct ctl_args_migrate_start_postcopy *a)
{
	struct err e = { "" };

	ctl_failed(c, vm_migrate_late(c->ctl->vm, &e), &e);
}

void ctl_cmd_migrate_continue(struct ctl_call *c, const struct ctl_args_migrate_continue *a)
{
	struct err e = { "" };

	if (a->state != CTL_MIGRATION_STATUS_PRE_SWITCHOVER)
		ctl_fail(c, CTL_GENERIC_ERROR, "Migration not in expected state: only pre-switchover can be continued");
	else
		ctl_failed(c, vm_migrate_continue(c->ctl->vm, &e), &e);
}

void ctl_cmd_migrate_pause(struct ctl_call *c, const struct ctl_args_migrate_pause *a)
{
	struct err e = { "" };

	ctl_failed(c, vm_migrate_break(c->ctl->vm, &e), &e);
}

void ctl_cmd_migrate_cancel(struct ctl_call *c, const struct ctl_args_migrate_cancel *a) { vm_migrate_cancel(c->ctl->vm); }

/* ---- how it goes ---- */

static json_t *ram_json(const struct vm_migrate_info *i)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:i,s:I,s:I,s:I,s:f,s:I,s:I,s:i,s:I,s:I}", "transferred", (json_int_t)i->transferred, "remaining",
			 (json_int_t)i->ram_remaining, "total", (json_int_t)i->ram_total, "duplicate", (json_int_t)i->zero, "skipped", 0, "normal",
			 (json_int_t)i->normal, "normal-bytes", (json_int_t)i->normal * PAGE, "dirty-pages-rate", (json_int_t)i->dirty_rate, "mbps",
			 i->mbps, "dirty-sync-count", (json_int_t)i->rounds, "postcopy-requests", (json_int_t)i->postcopy_requests, "page-size", PAGE, "multifd-bytes", (json_int_t)i->multifd_bytes,
			 "pages-per-second", (json_int_t)(i->mbps * 1e6 / 8 / PAGE));
}

static json_t *compression_json(const struct vm_migrate_info *i)
{
	double out = i->compressed_out ? (double)i->compressed_out : 1;

	return json_pack("{s:I,s:i,s:f,s:I,s:f}", "pages", (json_int_t)(i->compressed_in / PAGE), "busy", 0, "busy-rate", 0.0, "compressed-size",
			 (json_int_t)i->compressed_out, "compression-rate", (double)i->compressed_in / out);
}

static void set_ms(json_t *j, const char *key, int64_t ns)
{
	if (ns > 0)
		json_object_set_new(j, key, json_integer(ns / NS_PER_MS));
}

void ctl_cmd_query_migrate(struct ctl_call *c, const struct ctl_args_query_migrate *a)
{
	struct vm_migrate_info i;
	json_t *j = json_object();

	vm_migrate_info(c->ctl->vm, &i);
	if (j && i.status != VM_MIGRATE_NONE) {
		json_object_set_new(j, "status", json_string(vm_migrate_status_name(i.status)));
		if (!i.incoming && i.status != VM_MIGRATE_SETUP)
			json_object_set_new(j, "ram", ram_json(&i));
		json_object_set_new(j, "total-time", json_integer(i.total_ns / NS_PER_MS));
		set_ms(j, "setup-time", i.setup_ns);
		if (!i.incoming && i.downtime_ns && !i.in_doubt)
			json_object_set_new(j, "downtime", json_integer(i.downtime_ns / NS_PER_MS));
		else
			set_ms(j, "expected-downtime", i.expected_downtime_ns);
		if (i.throttle)
			json_object_set_new(j, "cpu-throttle-percentage", json_integer(i.throttle));
		if (i.compressed_in)
			json_object_set_new(j, "compression", compression_json(&i));
		if (i.error[0])
			json_object_set_new(j, "error-desc", json_string(i.error));
		if (i.in_doubt)
			json_object_set_new(j, "x-lodge-in-doubt", json_true());
		if (i.port)
			json_object_set_new(j, "x-lodge-port", json_integer(i.port));
	}
	ctl_return(c, j);
}

/* ---- settings ---- */

struct capability {
	const char *name;
	bool can, on;
};

#define N_CAPABILITIES 8

static void capabilities(const struct vm_migrate_params *p, struct capability out[N_CAPABILITIES])
{
	out[0] = (struct capability){ "auto-converge", true, p->auto_converge };
	out[1] = (struct capability){ "compress", true, p->zstd_level != 0 };
	out[2] = (struct capability){ "events", true, p->events };
	out[3] = (struct capability){ "return-path", false, true };
	out[4] = (struct capability){ "zero-blocks", false, true };
	out[7] = (struct capability){ "pause-before-switchover", true, p->pause };
	out[6] = (struct capability){ "postcopy-ram", true, p->postcopy };
	out[5] = (struct capability){ "multifd", true, p->streams != 0 };
}

static bool set_capability(struct ctl_call *c, struct vm_migrate_params *p, const char *name, bool on)
{
	struct capability all[N_CAPABILITIES];
	bool is_on = false, can = false;

	capabilities(p, all);
	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		if (strcmp(all[i].name, name))
			continue;
		is_on = all[i].on;
		can = all[i].can;
	}
	if (!can && on != is_on) {
		ctl_fail(c, CTL_GENERIC_ERROR, "the capability '%s' %s", name, is_on ? "is always there" : "is not supported");
		return false;
	}
	if (!strcmp(name, "auto-converge"))
		p->auto_converge = on;
	if (!strcmp(name, "pause-before-switchover"))
		p->pause = on;
	if (!strcmp(name, "postcopy-ram"))
		p->postcopy = on;
	if (!strcmp(name, "multifd"))
		p->streams = !on ? 0 : p->streams ? p->streams : p->streams_wanted;
	if (!strcmp(name, "events"))
		p->events = on;
	if (!strcmp(name, "compress"))
		p->zstd_level = !on ? 0 : p->zstd_level ? p->zstd_level : p->zstd_wanted;
	return true;
}

void ctl_cmd_migrate_set_capabilities(struct ctl_call *c, const struct ctl_args_migrate_set_capabilities *a)
{
	struct vm_migrate_params p = *vm_migrate_params(c->ctl->vm);
	json_t *v;
	size_t i;

	json_array_foreach(a->capabilities, i, v)
		if (!set_capability(c, &p, json_string_value(json_object_get(v, "capability")), json_is_true(json_object_get(v, "state"))))
			return;
	vm_migrate_set_params(c->ctl->vm, &p);
}

void ctl_cmd_query_migrate_capabilities(struct ctl_call *c, const struct ctl_args_query_migrate_capabilities *a)
{
	struct capability all[N_CAPABILITIES];
	json_t *j = json_array();

	capabilities(vm_migrate_params(c->ctl->vm), all);
	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		json_array_append_new(j, json_pack("{s:s,s:b}", "capability", all[i].name, "state", (int)all[i].on));
	ctl_return(c, j);
}

static bool in_range(struct ctl_call *c, const char *name, uint64_t v, uint64_t min, uint64_t max)
{
	if (v >= min && v <= max)
		return true;
	ctl_fail(c, CTL_GENERIC_ERROR, "Parameter '%s' expects a value from %llu to %llu", name, (unsigned long long)min, (unsigned long long)max);
	return false;
}

static bool take_name(struct ctl_call *c, const char *key, const char *v, char out[VM_MIGRATE_NAME])
{
	if (!v)
		return true;
	if (strlen(v) >= VM_MIGRATE_NAME) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter '%s' is too long", key);
		return false;
	}
	strcpy(out, v);
	return true;
}

void ctl_cmd_migrate_set_parameters(struct ctl_call *c, const struct ctl_args_migrate_set_parameters *a)
{
	struct vm_migrate_params p = *vm_migrate_params(c->ctl->vm);

	if ((a->has_compress_level && !in_range(c, "compress-level", a->compress_level, 1, MAX_ZSTD)) ||
	    (a->has_cpu_throttle_initial && !in_range(c, "cpu-throttle-initial", a->cpu_throttle_initial, 1, 99)) ||
	    (a->has_cpu_throttle_increment && !in_range(c, "cpu-throttle-increment", a->cpu_throttle_increment, 1, 99)) ||
	    (a->has_max_cpu_throttle && !in_range(c, "max-cpu-throttle", a->max_cpu_throttle, 1, 99)) ||
	    (a->has_multifd_channels && !in_range(c, "multifd-channels", a->multifd_channels, 1, MAX_STREAMS)) ||
	    (a->has_multifd_zstd_level && !in_range(c, "multifd-zstd-level", a->multifd_zstd_level, 1, MAX_ZSTD + 1)) ||
	    (a->has_downtime_limit && !in_range(c, "downtime-limit", a->downtime_limit, 0, MAX_DOWNTIME_MS)))
		return;
	if (a->has_compress_level) {
		p.zstd_wanted = (int)a->compress_level;
		p.zstd_level = p.zstd_level ? p.zstd_wanted : 0;
	}
	if (a->has_multifd_channels) {
		p.streams_wanted = (unsigned)a->multifd_channels;
		p.streams = p.streams ? p.streams_wanted : 0;
	}
	if (a->has_multifd_zstd_level)
		p.streams_level_wanted = (int)a->multifd_zstd_level;
	if (a->has_multifd_compression)
		p.streams_level = a->multifd_compression == CTL_MULTI_FDCOMPRESSION_ZSTD;
	if (p.streams_level)
		p.streams_level = p.streams_level_wanted;
	if (a->has_cpu_throttle_initial)
		p.throttle_initial = (unsigned)a->cpu_throttle_initial;
	if (a->has_cpu_throttle_increment)
		p.throttle_increment = (unsigned)a->cpu_throttle_increment;
	if (a->has_max_cpu_throttle)
		p.throttle_max = (unsigned)a->max_cpu_throttle;
	if (a->has_max_bandwidth)
		p.max_bandwidth = a->max_bandwidth;
	if (a->has_downtime_limit)
		p.downtime_limit_ms = a->downtime_limit;
	if (take_name(c, "tls-creds", a->tls_creds, p.tls_creds) && take_name(c, "tls-hostname", a->tls_hostname, p.tls_hostname) &&
	    take_name(c, "tls-authz", a->tls_authz, p.tls_authz))
		vm_migrate_set_params(c->ctl->vm, &p);
}

void ctl_cmd_query_migrate_parameters(struct ctl_call *c, const struct ctl_args_query_migrate_parameters *a)
{
	const struct vm_migrate_params *p = vm_migrate_params(c->ctl->vm);

	ctl_return(c, json_pack("{s:i,s:i,s:i,s:i,s:I,s:I,s:i,s:s,s:i,s:s,s:s,s:s}", "compress-level", p->zstd_wanted, "cpu-throttle-initial", (int)p->throttle_initial,
				"cpu-throttle-increment", (int)p->throttle_increment, "max-cpu-throttle", (int)p->throttle_max, "max-bandwidth",
				(json_int_t)p->max_bandwidth, "downtime-limit", (json_int_t)p->downtime_limit_ms, "multifd-channels", (int)p->streams_wanted,
				"multifd-compression", p->streams_level ? "zstd" : "none", "multifd-zstd-level", p->streams_level_wanted, "tls-creds", p->tls_creds, "tls-hostname", p->tls_hostname,
				"tls-authz", p->tls_authz));
}
