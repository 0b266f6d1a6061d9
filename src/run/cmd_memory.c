// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge memory`: how much memory a guest has, and is to have (--memory SIZE,max=SIZE). */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "run/opts.h"
#include "run/qmp.h"
#include "vm/config.h"

#define POLL_NS 50000000
#define WAIT_SECONDS 30

static long long mib(const json_t *j, const char *key) { return json_integer_value(json_object_get(j, key)) >> 20; }

static bool is_there(const json_t *j)
{
	return json_equal(json_object_get(j, "size"), json_object_get(j, "requested"));
}

static int ask(struct qmp *q, json_t *args, json_t **j, struct err *e)
{
	json_decref(*j);
	*j = NULL;
	return qmp_call(q, "x-lodge-memory", args, j, e);
}

static void show(const json_t *j, bool json, FILE *f, const char *end)
{
	if (json) {
		json_dumpf(j, f, JSON_INDENT(2));
		fputc('\n', f);
		return;
	}
	fprintf(f, "%lld MiB", mib(j, "size"));
	if (!is_there(j))
		fprintf(f, ", should have %lld MiB", mib(j, "requested"));
	fprintf(f, " (from %lld to %lld MiB)%s", mib(j, "min"), mib(j, "max"), end);
	fflush(f);
}

/* Until the guest has what it should have, which is its driver's affair. */
static int follow(struct qmp *q, unsigned seconds, json_t **j, struct err *e)
{
	bool tty = isatty(STDERR_FILENO), shown = false;
	time_t until = time(NULL) + (time_t)seconds;
	int ret = 0;

	while (!ret && !is_there(*j) && time(NULL) < until) {
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
		ret = ask(q, NULL, j, e);
		if (!ret && tty) {
			fputc('\r', stderr);
			show(*j, false, stderr, "  ");
			shown = true;
		}
	}
	if (shown)
		fputc('\n', stderr);
	return ret;
}

static int run(const struct opt_state *st, struct err *e)
{
	unsigned seconds = st->number_given ? st->number : WAIT_SECONDS;
	struct qmp *q = NULL;
	uint64_t size = 0;
	json_t *j = NULL;
	int ret = st->n_words == 2 ? vm_parse_size(st->words[1], &size, e) : 0;

	ret = ret ? ret : qmp_open(st->words[0], 0, &q, e);
	ret = ret ? ret : ask(q, st->n_words == 2 ? json_pack("{s:I}", "size", (json_int_t)size) : NULL, &j, e);
	if (!ret && st->n_words == 2)
		ret = follow(q, seconds, &j, e);
	if (!ret)
		show(j, st->json, stdout, "\n");
	if (!ret && st->n_words == 2 && seconds && !is_there(j))
		ret = err_set(e, -ETIMEDOUT, "the guest has %lld MiB after %u s; it goes on towards %lld if its driver can (is virtio_mem loaded, and memory set online?)",
			      mib(j, "size"), seconds, mib(j, "requested"));
	json_decref(j);
	qmp_close(q);
	return ret;
}

int memory_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct err e = { "" };
	int ret = opts_alone(v, argc, argv, &st);

	if (ret >= 0)
		return ret;
	if (st.n_words != 1 && st.n_words != 2) {
		opts_help(v, stderr);
		return 1;
	}
	ret = run(&st, &e);
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg);
	return ret != 0;
}
