// SPDX-License-Identifier: GPL-2.0-or-later
/* Chardevs in the words of the monitor for people: "chardev-add socket,id=c0,path=/run/s,server=on,wait=off". */
#include <stdlib.h>
#include <string.h>

#include "control/hmp.h"

enum { ID, PATH, HOST, PORT, SERVER, WAIT, TELNET, RECONNECT, SIZE, CHARDEV, APPEND, N_WORDS };
static const char *const names[N_WORDS] = { "id", "path", "host", "port", "server", "wait", "telnet", "reconnect", "size", "chardev", "append" };

/* Cuts "kind,a=b,..." into pieces, in which ",," is a comma; values live in it.  NULL, or the name that is none. */
static const char *split(char *p, const char *words[N_WORDS])
{
	for (unsigned n = 0; *p; n++) {
		char *part = p, *to = p, *eq;
		unsigned i = 0;
		bool more;

		while (*p && (*p != ',' || p[1] == ',')) {
			p += *p == ',';
			*to++ = *p++;
		}
		more = *p;
		*to = '\0';
		p += more;
		eq = strchr(part, '=');
		if (!n)
			continue;
		if (eq)
			*eq++ = '\0';
		while (i < N_WORDS && strcmp(names[i], part))
			i++;
		if (i == N_WORDS)
			return part;
		words[i] = eq ? eq : "on";
	}
	return NULL;
}

static bool on(const char *v) { return v && (!strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "true")); }

static json_t *socket_data(const char *const *w)
{
	json_t *addr = w[PATH] ? json_pack("{s:s,s:{s:s+}}", "type", "unix", "data", "path", w[PATH], "") :
		       json_pack("{s:s,s:{s:s+,s:s+}}", "type", "inet", "data", "host", w[HOST] ? w[HOST] : "127.0.0.1", "", "port", w[PORT] ? w[PORT] : "", "");
	json_t *j = json_pack("{s:o,s:b,s:b,s:b}", "addr", addr, "server", on(w[SERVER]), "telnet", on(w[TELNET]), "wait",
			      on(w[SERVER]) && (!w[WAIT] || on(w[WAIT])));

	if (w[RECONNECT])
		json_object_set_new(j, "reconnect", json_integer(strtoll(w[RECONNECT], NULL, 0)));
	return j;
}

static json_t *data_of(const char *kind, const char *const *w)
{
	json_t *j = NULL;

	if (!strcmp(kind, "socket"))
		return socket_data(w);
	if (!strcmp(kind, "file"))
		j = json_pack("{s:s+,s:b}", "out", w[PATH] ? w[PATH] : "", "", "append", on(w[APPEND]));
	else if (!strcmp(kind, "mux"))
		j = json_pack("{s:s+}", "chardev", w[CHARDEV] ? w[CHARDEV] : "", "");
	else
		j = json_object();
	if (w[SIZE])
		json_object_set_new(j, "size", json_integer(strtoll(w[SIZE], NULL, 0)));
	return j;
}

static void add_or_change(struct hmp *h, const char *command, const char *id, char *opts)
{
	const char *w[N_WORDS] = { 0 }, *bad = split(opts, w);
	json_t *j;

	id = id ? id : w[ID];
	if (bad) {
		fprintf(h->out, "Error: Invalid parameter '%s'\r\n", bad);
	} else if (!id) {
		fputs("Error: Parameter 'id' is missing\r\n", h->out);
	} else {
		j = hmp_qmp(h, command, json_pack("{s:s+,s:{s:s+,s:o}}", "id", id, "", "backend", "type", opts, "", "data", data_of(opts, w)));
		if (*hmp_text(j, "pty"))
			fprintf(h->out, "char device redirected to %s\r\n", hmp_text(j, "pty"));
		json_decref(j);
	}
}

void hmp_chardev_add(struct hmp *h) { add_or_change(h, "chardev-add", NULL, h->word[1]); }
void hmp_chardev_change(struct hmp *h) { add_or_change(h, "chardev-change", h->word[1], h->word[2]); }
void hmp_chardev_remove(struct hmp *h) { hmp_just(h, "chardev-remove", json_pack("{s:s+}", "id", h->word[1], "")); }
void hmp_chardev_send_break(struct hmp *h) { hmp_just(h, "chardev-send-break", json_pack("{s:s+}", "id", h->word[1], "")); }
