// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge-qemu's command line: arguments are separated by newlines.  What comes of them goes through lodge run's parser, too. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"
#include "run/opts.h"
#include "run/start.h"

#define WORDS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct verb verb = { .name = "run", .opts = run_opts, .operand = run_operand };

static void configure(struct qemu *q)
{
	static char name[] = "run";
	char *argv[QEMU_MAX_ARGS + 2] = { name };
	struct opt_state st = { 0 };
	struct conf *c;
	struct err e;

	memcpy(argv + 1, q->argv, q->argc * sizeof(*argv));
	if (conf_new(&c))
		abort();
	if (!opts_parse(&verb, (int)q->argc + 1, argv, c, &st, &e))
		start_check(c, &e);
	conf_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char name[] = "lodge-qemu";
	static FILE *null;
	char *text = malloc(size + 1), *argv[WORDS] = { name }, *save = NULL;
	struct qemu *q = malloc(sizeof(*q));
	struct err e = { 0 };
	int argc = 1, ret;

	if (!null) {
		null = fopen("/dev/null", "we");
		stderr = null;		/* warnings */
	}
	if (!text || !q || !null)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	for (char *w = strtok_r(text, "\n", &save); w && argc < WORDS; w = strtok_r(NULL, "\n", &save))
		argv[argc++] = w;
	qemu_init(q);
	ret = qemu_parse(q, argc, argv, &e);
	if (ret && !e.msg[0])
		abort();		/* an error without a word */
	if (!ret && q->ask)
		qemu_answer(q, null);
	else if (!ret && !qemu_emit(q, &e))
		configure(q);
	qemu_free(q);
	free(q);
	free(text);
	return 0;
}
