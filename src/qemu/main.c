// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge-qemu: reads QEMU's command line, and goes on as `lodge run` would. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"
#include "run/opts.h"
#include "run/start.h"

static const struct verb verb_run = {
	.name = "run",
	.opts = run_opts,
	.operand = run_operand,
};

static void print_word(FILE *f, const char *w)
{
	if (*w && strspn(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%") == strlen(w)) {
		fputs(w, f);
		return;
	}
	fputc('\'', f);
	for (; *w; w++) {
		if (*w == '\'')
			fputs("'\\''", f);
		else
			fputc(*w, f);
	}
	fputc('\'', f);
}

static int print_lodge(const struct qemu *q)
{
	fputs("lodge run", stdout);
	for (unsigned i = 0; i < q->argc; i++) {
		fputc(' ', stdout);
		print_word(stdout, q->argv[i]);
	}
	fputc('\n', stdout);
	return fflush(stdout) ? -EIO : 0;
}

static int start(struct qemu *q, struct conf *c, struct err *e)
{
	static char name[] = "run";
	char *argv[QEMU_MAX_ARGS + 2] = { name };
	struct opt_state st = { 0 };
	int ret;

	memcpy(argv + 1, q->argv, q->argc * sizeof(*argv));
	ret = opts_parse(&verb_run, (int)q->argc + 1, argv, c, &st, e);
	if (!ret)
		ret = start_place_vsock(c, e);
	if (!ret)
		ret = start_check(c, e);
	if (ret)
		return ret;
	return q->print_lodge ? print_lodge(q) : start_vmm(c, e);
}

static int run(struct qemu *q, int argc, char **argv, struct err *e)
{
	struct conf *c = NULL;
	int ret = qemu_parse(q, argc, argv, e);

	if (!ret && !q->ask)
		ret = qemu_emit(q, e);
	if (ret || q->ask)
		return ret;
	ret = conf_new(&c) ? err_set(e, -ENOMEM, "out of memory") : start(q, c, e);
	conf_free(c);
	return ret;
}

int main(int argc, char **argv)
{
	struct qemu *q = malloc(sizeof(*q));
	struct err e = { 0 };
	int ret;

	if (!q) {
		fputs("lodge-qemu: out of memory\n", stderr);
		return 1;
	}
	qemu_init(q);
	ret = run(q, argc, argv, &e);
	if (ret < 0)
		fprintf(stderr, "lodge-qemu: %s\n", e.msg[0] ? e.msg : strerror(-ret));
	ret = ret < 0 ? 1 : ret ? ret : qemu_answer(q, stdout);
	qemu_free(q);
	free(q);
	return ret;
}
