// SPDX-License-Identifier: GPL-2.0-or-later
/* The monitor's words about migration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/hmp.h"
#include "control/internal.h"

/* migrate [-d] [-r] URI: it never waits. */
void hmp_migrate(struct hmp *h)
{
	const char *uri = NULL;
	bool resume = false;

	for (int i = 1; i < h->n; i++)
		resume |= !strcmp(h->word[i], "-r");
	for (int i = 1; i < h->n; i++)
		if (h->word[i][0] != '-')
			uri = h->word[i];
	if (uri)
		hmp_just(h, "migrate", json_pack("{s:s,s:b}", "uri", uri, "resume", (int)resume));
	else
		fputs("usage: migrate [-d] [-r] URI\r\n", h->out);
}

void hmp_migrate_start_postcopy(struct hmp *h) { hmp_just(h, "migrate-start-postcopy", NULL); }
void hmp_migrate_continue(struct hmp *h) { hmp_just(h, "migrate-continue", json_pack("{s:s+}", "state", h->word[1], "")); }
void hmp_migrate_pause(struct hmp *h) { hmp_just(h, "migrate-pause", NULL); }
void hmp_migrate_recover(struct hmp *h) { hmp_just(h, "migrate-recover", json_pack("{s:s+}", "uri", h->word[1], "")); }
void hmp_migrate_cancel(struct hmp *h) { hmp_just(h, "migrate_cancel", NULL); }
void hmp_migrate_incoming(struct hmp *h) { hmp_just(h, "migrate-incoming", json_pack("{s:s+}", "uri", h->word[1], "")); }

void hmp_migrate_set_capability(struct hmp *h)
{
	if (strcmp(h->word[2], "on") && strcmp(h->word[2], "off"))
		fputs("Error: it is on or off\r\n", h->out);
	else
		hmp_just(h, "migrate-set-capabilities", json_pack("{s:[{s:s+,s:b}]}", "capabilities", "capability", h->word[1], "", "state",
								  !strcmp(h->word[2], "on")));
}

static bool is_text(const char *name) { return !strncmp(name, "tls-", 4) || !strcmp(name, "multifd-compression"); }

static void set_text(struct hmp *h, const char *name, const char *text)
{
	json_t *args = json_object();

	json_object_set_new(args, name, json_string(text));
	hmp_just(h, "migrate-set-parameters", args);
}

static void set_parameter(struct hmp *h, const char *name, long long n)
{
	json_t *args = json_object();

	json_object_set_new(args, name, json_integer(n));
	hmp_just(h, "migrate-set-parameters", args);
}

/* Sizes are in MiB where QEMU's monitor has them so. */
void hmp_migrate_set_parameter(struct hmp *h)
{
	static const char units[] = "bkmg";
	const char *unit;
	char *end;
	long long n = strtoll(h->word[2], &end, 10);
	bool bad = end == h->word[2];

	if (is_text(h->word[1])) {
		set_text(h, h->word[1], h->word[2]);
		return;
	}
	if (!strcmp(h->word[1], "max-bandwidth")) {
		unit = *end ? strchr(units, *end | 0x20) : units + 2;
		bad |= !unit || __builtin_mul_overflow(n, unit ? 1ll << (unit - units) * 10 : 1, &n);
		end += *end != '\0';
	}
	if (bad || *end)
		fprintf(h->out, "Error: '%s' is not a number\r\n", h->word[2]);
	else
		set_parameter(h, h->word[1], n);
}

void hmp_info_migrate(struct hmp *h)
{
	static const char *const times[] = { "total-time", "total time", "expected-downtime", "expected downtime", "downtime", "downtime", "setup-time",
					     "setup" };
	json_t *j = hmp_qmp(h, "query-migrate", NULL), *ram = json_object_get(j, "ram");

	if (json_object_get(j, "status"))
		fprintf(h->out, "Migration status: %s\r\n", hmp_text(j, "status"));
	if (json_object_get(j, "error-desc"))
		fprintf(h->out, "error: %s\r\n", hmp_text(j, "error-desc"));
	for (unsigned i = 0; i < ARRAY_LEN(times); i += 2)
		if (json_object_get(j, times[i]))
			fprintf(h->out, "%s: %lld ms\r\n", times[i + 1], hmp_number(j, times[i]));
	if (ram)
		fprintf(h->out, "transferred ram: %lld kbytes\r\nthroughput: %.2f mbps\r\nremaining ram: %lld kbytes\r\ntotal ram: %lld kbytes\r\n"
			"duplicate: %lld pages\r\nnormal: %lld pages\r\ndirty sync count: %lld\r\npage size: 4 kbytes\r\n",
			hmp_number(ram, "transferred") >> 10, json_real_value(json_object_get(ram, "mbps")), hmp_number(ram, "remaining") >> 10,
			hmp_number(ram, "total") >> 10, hmp_number(ram, "duplicate"), hmp_number(ram, "normal"), hmp_number(ram, "dirty-sync-count"));
	if (json_object_get(j, "cpu-throttle-percentage"))
		fprintf(h->out, "cpu throttle percentage: %lld\r\n", hmp_number(j, "cpu-throttle-percentage"));
	json_decref(j);
}

void hmp_info_migrate_parameters(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-migrate-parameters", NULL), *v;
	const char *key;

	json_object_foreach(j, key, v)
		if (json_is_string(v))
			fprintf(h->out, "%s: '%s'\r\n", key, json_string_value(v));
		else
			fprintf(h->out, "%s: %lld\r\n", key, json_integer_value(v));
	json_decref(j);
}

void hmp_info_migrate_capabilities(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-migrate-capabilities", NULL), *v;
	size_t i;

	json_array_foreach(j, i, v)
		fprintf(h->out, "%s: %s\r\n", hmp_text(v, "capability"), json_is_true(json_object_get(v, "state")) ? "on" : "off");
	json_decref(j);
}
