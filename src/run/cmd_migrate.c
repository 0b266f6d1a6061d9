// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge migrate`: has a guest go on elsewhere, and shows how far it is. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "run/opts.h"
#include "run/qmp.h"

#define POLL_NS 100000000

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static long long number(const json_t *j, const char *key) { return json_integer_value(json_object_get(j, key)); }

static int tell(struct qmp *q, const char *command, json_t *args, struct err *e)
{
	json_t *back = NULL;
	int ret = qmp_call(q, command, args, &back, e);

	json_decref(back);
	return ret;
}

/* Its object is there while it is begun. */
#define TLS_ID "lodge-migrate"

static int add_tls(struct qmp *q, const struct opt_state *st, struct err *e)
{
	char dir[PATH_MAX];
	int ret = whole_path(st->tls, dir, sizeof(dir), e);

	/* Of one that was interrupted. */
	if (!ret)
		tell(q, "object-del", json_pack("{s:s}", "id", TLS_ID), &(struct err){ "" });
	return ret ? ret : tell(q, "object-add", json_pack("{s:s,s:s,s:s,s:s}", "qom-type", "tls-creds-x509", "id", TLS_ID, "dir", dir, "endpoint", "client"), e);
}

static int set(struct qmp *q, const struct opt_state *st, struct err *e)
{
	int ret = tell(q, "migrate-set-parameters", json_pack("{s:I,s:o*}", "max-bandwidth", (json_int_t)st->bandwidth, "downtime-limit",
								st->number_given ? json_integer(st->number) : NULL), e);
	if (!ret && st->tls)
		ret = tell(q, "migrate-set-parameters", json_pack("{s:s,s:s}", "tls-creds", TLS_ID, "tls-hostname",
								  st->tls_hostname ? st->tls_hostname : ""), e);


	if (!ret)
		ret = tell(q, "migrate-set-capabilities", json_pack("{s:[{s:s,s:b},{s:s,s:b},{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability", "auto-converge",
								      "state", (int)st->auto_converge, "capability", "compress", "state", (int)st->compress, "capability",
								      "multifd", "state", (int)(st->streams > 0), "capability", "postcopy-ram", "state",
								      (int)(st->postcopy > 0)), e);
	if (!ret && st->streams)
		ret = tell(q, "migrate-set-parameters", json_pack("{s:i,s:s}", "multifd-channels", (int)st->streams, "multifd-compression",
								  st->compress ? "zstd" : "none"), e);
	return ret;
}

/* The migration has what it needs. */
static void forget_tls(struct qmp *q)
{
	struct err e;

	tell(q, "migrate-set-parameters", json_pack("{s:s,s:s}", "tls-creds", "", "tls-hostname", ""), &e);
	tell(q, "object-del", json_pack("{s:s}", "id", TLS_ID), &e);
}

static void show(const json_t *j, bool *shown)
{
	const json_t *ram = json_object_get(j, "ram");
	long long total = number(ram, "total"), left = number(ram, "remaining");

	if (!ram || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%s: %lld MiB sent, %lld of %lld MiB left, round %lld, %.0f Mbit/s, guest writes %lld MiB/s  ", text(j, "status"),
		number(ram, "transferred") >> 20, left >> 20, total >> 20, number(ram, "dirty-sync-count") + 1,
		json_number_value(json_object_get(ram, "mbps")), number(ram, "dirty-pages-rate") >> 8);
	fflush(stderr);
	*shown = true;
}

/* Until it has come to an end: 0, or an error. */
static int follow(struct qmp *q, int postcopy, struct err *e)
{
	bool shown = false, told = false, paused = false;
	json_t *j = NULL;
	int ret;

	for (;;) {
		const char *s;

		ret = qmp_call(q, "query-migrate", NULL, &j, e);
		if (ret)
			break;
		show(j, &shown);
		s = text(j, "status");
		/* It may have come to its end meanwhile. */
		if (postcopy && !strcmp(s, "active") && number(json_object_get(j, "ram"), "dirty-sync-count") >= postcopy - 1) {
			tell(q, "migrate-start-postcopy", NULL, &(struct err){ "" });
			postcopy = 0;
		}
		if (!strcmp(s, "postcopy-paused") && !paused)
			fprintf(stderr, "%slodge: the guest runs there and waits for memory; lodge migrate --resume goes on: %s\n", shown ? "\n" : "", text(j, "error-desc"));
		paused = !strcmp(s, "postcopy-paused");
		if (!strcmp(s, "completed") || !strcmp(s, "failed") || !strcmp(s, "cancelled"))
			break;
		if (json_is_true(json_object_get(j, "x-lodge-in-doubt")) && !told)
			fprintf(stderr, "%slodge: %s\n", shown ? "\n" : "", text(j, "error-desc"));
		told = told || json_is_true(json_object_get(j, "x-lodge-in-doubt"));
		json_decref(j);
		j = NULL;
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
	}
	if (shown)
		fputc('\n', stderr);
	if (!ret && !strcmp(text(j, "status"), "completed"))
		printf("%lld MiB in %.1f s, %lld rounds; the guest stood still for %lld ms\n", number(json_object_get(j, "ram"), "transferred") >> 20,
		       (double)number(j, "total-time") / 1000, number(json_object_get(j, "ram"), "dirty-sync-count"), number(j, "downtime"));
	else if (!ret)
		ret = err_set(e, -EREMOTEIO, "the guest goes on where it was: %s", *text(j, "error-desc") ? text(j, "error-desc") : "it was cancelled");
	json_decref(j);
	return ret;
}

/* A path as the guest's process finds it. */
static int whole_uri(const char *uri, char *out, size_t size, struct err *e)
{
	char path[PATH_MAX];
	int ret = strncmp(uri, "unix:", 5) ? 0 : whole_path(uri + 5, path, sizeof(path), e);

	if (!ret)
		snprintf(out, size, "%s%s", strncmp(uri, "unix:", 5) ? "" : "unix:", strncmp(uri, "unix:", 5) ? uri : path);
	return ret;
}

int migrate_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct qmp *q = NULL;
	struct err e = { "" };
	char uri[PATH_MAX + 8];
	int ret = opts_alone(v, argc, argv, &st);

	if (ret >= 0)
		return ret;
	if (st.n_words != 2) {
		opts_help(v, stderr);
		return 1;
	}
	ret = whole_uri(st.words[1], uri, sizeof(uri), &e);
	ret = ret ? ret : qmp_open(st.words[0], 0, &q, &e);
	if (!ret && !st.tls && st.tls_hostname)
		ret = err_set(&e, -EINVAL, "--tls-hostname: there is no TLS without --tls");
	ret = ret ? ret : st.tls ? add_tls(q, &st, &e) : 0;
	if (!st.resume)
		ret = ret ? ret : set(q, &st, &e);
	ret = ret ? ret : tell(q, "migrate", json_pack("{s:s,s:b}", "uri", uri, "resume", (int)st.resume), &e);
	if (st.tls && q)
		forget_tls(q);
	ret = ret ? ret : follow(q, st.postcopy, &e);
	if (!ret && !st.keep)
		ret = tell(q, "quit", NULL, &e);
	qmp_close(q);
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg);
	return ret != 0;
}
