// SPDX-License-Identifier: GPL-2.0-or-later
/* Screen, keyboard and mouse in the monitor for people. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/hmp.h"
#include "display/keys.h"

static bool number_of(struct hmp *h, const char *word, long long *out)
{
	char *end;

	errno = 0;
	*out = strtoll(word, &end, 0);
	if (end != word && !*end && !errno)
		return true;
	fprintf(h->out, "Error: '%s' is not a number\r\n", word);
	return false;
}

/* screendump FILE [-f FORMAT] [DEVICE [HEAD]] */
void hmp_screendump(struct hmp *h)
{
	const char *plain[3] = { NULL }, *format = NULL;
	long long head = 0;
	int n = 0;

	for (int i = 1; i < h->n; i++) {
		if (!strcmp(h->word[i], "-f") && i + 1 < h->n)
			format = h->word[++i];
		else if (n < 3)
			plain[n++] = h->word[i];
	}
	if (!n || (plain[2] && !number_of(h, plain[2], &head)))
		return;
	hmp_just(h, "screendump", json_pack("{s:s+,s:s*,s:s*,s:o*}", "filename", plain[0], "", "format", format, "device", plain[1],
					    "head", plain[2] ? json_integer(head) : NULL));
}

void hmp_sendkey(struct hmp *h)
{
	json_t *keys = json_array();
	long long hold = 0;

	for (const char *p = h->word[1];; p++) {
		size_t len = strcspn(p, "-");
		const struct key_info *k = key_by_name(p, len);

		if (!k) {
			fprintf(h->out, "Error: invalid parameter: %.*s\r\n", (int)len, p);
			json_decref(keys);
			return;
		}
		json_array_append_new(keys, json_pack("{s:s,s:i}", "type", "number", "data", k->set1));
		p += len;
		if (!*p)
			break;
	}
	if (h->n > 2 && !number_of(h, h->word[2], &hold)) {
		json_decref(keys);
		return;
	}
	hmp_just(h, "send-key", json_pack("{s:o,s:o*}", "keys", keys, "hold-time", h->n > 2 ? json_integer(hold) : NULL));
}

static json_t *moved(const char *axis, long long value)
{
	return json_pack("{s:s,s:{s:s,s:I}}", "type", "rel", "data", "axis", axis, "value", (json_int_t)value);
}

static json_t *button(const char *name, bool down)
{
	return json_pack("{s:s,s:{s:s,s:b}}", "type", "btn", "data", "button", name, "down", down);
}

static void send_events(struct hmp *h, json_t *events)
{
	hmp_just(h, "input-send-event", json_pack("{s:o}", "events", events));
}

void hmp_mouse_move(struct hmp *h)
{
	long long dx, dy, dz = 0;
	json_t *events;

	if (!number_of(h, h->word[1], &dx) || !number_of(h, h->word[2], &dy) || (h->n > 3 && !number_of(h, h->word[3], &dz)))
		return;
	events = json_array();
	json_array_append_new(events, moved("x", dx));
	json_array_append_new(events, moved("y", dy));
	if (dz) {
		json_array_append_new(events, button(dz > 0 ? "wheel-up" : "wheel-down", true));
		json_array_append_new(events, button(dz > 0 ? "wheel-up" : "wheel-down", false));
	}
	send_events(h, events);
}

void hmp_mouse_button(struct hmp *h)
{
	static const char *const names[] = { "left", "middle", "right" };
	json_t *events;
	long long n;

	if (!number_of(h, h->word[1], &n))
		return;
	events = json_array();
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		json_array_append_new(events, button(names[i], n >> i & 1));
	send_events(h, events);
}

/* change vnc password PASSWORD */
void hmp_change_password(struct hmp *h)
{
	if (h->n < 4 || (strcmp(h->word[2], "password") && strcmp(h->word[2], "passwd")))
		fputs("Error: what can be changed is: vnc password\r\n", h->out);
	else
		hmp_just(h, "change-vnc-password", json_pack("{s:s+}", "password", h->word[3], ""));
}

void hmp_info_vnc(struct hmp *h)
{
	json_t *j = hmp_qmp(h, "query-vnc", NULL), *clients = json_object_get(j, "clients"), *x;
	size_t i;

	if (j && !json_is_true(json_object_get(j, "enabled"))) {
		fputs("None\r\n", h->out);
	} else if (j) {
		fprintf(h->out, "default:\r\n  Server: %s:%s (%s)\r\n    Auth: %s\r\n", hmp_text(j, "host"), hmp_text(j, "service"),
			hmp_text(j, "family"), hmp_text(j, "auth"));
		json_array_foreach(clients, i, x)
			fprintf(h->out, "  Client: %s:%s (%s%s)\r\n", hmp_text(x, "host"), hmp_text(x, "service"), hmp_text(x, "family"),
				json_is_true(json_object_get(x, "websocket")) ? " (Websocket)" : "");
	}
	json_decref(j);
}

void hmp_info_mice(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-mice", NULL), *x;
	size_t i;

	if (!json_array_size(all))
		fputs("No mouse devices connected\r\n", h->out);
	json_array_foreach(all, i, x)
		fprintf(h->out, "%c Mouse #%lld: %s%s\r\n", json_is_true(json_object_get(x, "current")) ? '*' : ' ', hmp_number(x, "index"),
			hmp_text(x, "name"), json_is_true(json_object_get(x, "absolute")) ? " (absolute)" : "");
	json_decref(all);
}
