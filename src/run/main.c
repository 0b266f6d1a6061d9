// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge: the command people type.  One verb per file; this one finds the verb.
 */
#include <stdio.h>
#include <string.h>

#include "img/img.h"
#include "run/opts.h"

static const struct verb verb_run = {
	.name = "run",
	.summary = "Runs a virtual machine in the foreground until it ends.",
	.operands = "[DISK...]",
	.opts = run_opts,
	.operand = run_operand,
	.main = run_main,
};

static const struct verb verb_doctor = {
	.name = "doctor",
	.summary = "Tells what this host can do; the exit status is 1 if it cannot run a guest.",
	.opts = doctor_opts,
	.main = doctor_main,
};

static const struct verb verb_qmp = {
	.name = "qmp",
	.summary = "Gives a running guest a command of the control protocol (QMP), and prints the answer.",
	.operands = "NAME COMMAND [KEY=VALUE|JSON]...",
	.opts = qmp_opts,
	.main = qmp_main,
};

static const struct verb verb_ps = {
	.name = "ps",
	.summary = "Lists this user's running guests.",
	.opts = ps_opts,
	.main = ps_main,
};

static const struct verb verb_screenshot = {
	.name = "screenshot",
	.summary = "Writes a picture of a running guest's screen to a file.",
	.operands = "NAME [FILE]",
	.opts = screenshot_opts,
	.operand = keep_operand,
	.main = screenshot_main,
};

static const struct verb verb_sendkey = {
	.name = "sendkey",
	.summary = "Presses keys on a running guest's keyboard.",
	.operands = "NAME KEYS...",
	.opts = sendkey_opts,
	.operand = keep_operand,
	.main = sendkey_main,
};

static const struct verb verb_memory = {
	.name = "memory",
	.summary = "Shows how much memory a running guest has, or changes it.",
	.operands = "NAME [SIZE]",
	.opts = memory_opts,
	.operand = keep_operand,
	.main = memory_main,
};

static const struct verb verb_vsock = {
	.name = "vsock",
	.summary = "Connects standard input and output with a port of a running guest.",
	.operands = "NAME PORT",
	.opts = vsock_opts,
	.operand = keep_operand,
	.main = vsock_main,
};

static const struct verb verb_type = {
	.name = "type",
	.summary = "Types a text on a running guest's keyboard.",
	.operands = "NAME TEXT",
	.opts = type_opts,
	.operand = keep_operand,
	.main = type_main,
};

static const struct verb verb_snapshot = {
	.name = "snapshot",
	.summary = "Saves a running guest into a directory, from which lodge run --from-snapshot goes on; lists and removes such.",
	.operands = "create NAME DIR | restore DIR [OPTION OF RUN]... | list [DIR]... | check DIR... | rm DIR... | --inside create|restore|rm NAME TAG | --inside list NAME",
	.opts = snapshot_opts,
	.operand = keep_operand,
	.main = snapshot_main,
};

static const struct verb verb_migrate = {
	.name = "migrate",
	.summary = "Has a running guest go on in another process, on this host or another one, that lodge run --incoming has made.",
	.operands = "NAME tcp:HOST:PORT|unix:PATH|exec:COMMAND",
	.opts = migrate_opts,
	.operand = keep_operand,
	.main = migrate_main,
};

/* Has verbs and options of its own: img/main.c. */
static int run_img(const struct verb *v, int argc, char **argv)
{
	return img_main(argc, argv);
}

static const struct opt no_opts[] = { { 0 } };

static const struct verb verb_img = {
	.name = "img",
	.summary = "Makes, checks, converts and changes disk images.",
	.opts = no_opts,
	.main = run_img,
};

const struct verb *const lodge_verbs[] = { &verb_run, &verb_ps, &verb_qmp, &verb_screenshot, &verb_sendkey, &verb_type, &verb_memory, &verb_vsock, &verb_snapshot, &verb_migrate, &verb_doctor,
					     &verb_img, NULL };

static void usage(FILE *f)
{
	fprintf(f, "usage: lodge VERB [OPTION]...\n\n");
	for (const struct verb *const *v = lodge_verbs; *v; v++)
		fprintf(f, "  %-10s %s\n", (*v)->name, (*v)->summary);
	fprintf(f, "  %-10s %s\n\n", "help", "Prints this, or with a verb the verb's options.");
	fprintf(f, "  lodge --version   prints the version\n");
}

const struct verb *find_verb(const char *name)
{
	for (const struct verb *const *v = lodge_verbs; *v; v++)
		if (!strcmp((*v)->name, name))
			return *v;
	return NULL;
}

static int help(int argc, char **argv)
{
	const struct verb *v = argc > 2 ? find_verb(argv[2]) : NULL;

	if (argc > 2 && !v) {
		fprintf(stderr, "lodge: there is no verb '%s'; see 'lodge help'\n", argv[2]);
		return 1;
	}
	if (v == &verb_img)
		return img_help(argc > 3 ? argv[3] : NULL, stdout);
	if (v)
		opts_help(v, stdout);
	else
		usage(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	const struct verb *v;

	if (argc < 2) {
		usage(stderr);
		return 1;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("lodge %s\n", LODGE_VERSION);
		return 0;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(argc, argv);
	if (!strcmp(argv[1], "--generate") && argc == 3) {
		if (!generate(argv[2], stdout))
			return 0;
		fprintf(stderr, "lodge: nothing called '%s' can be generated\n", argv[2]);
		return 1;
	}
	v = find_verb(argv[1]);
	if (!v) {
		fprintf(stderr, "lodge: there is no verb '%s'; see 'lodge help'\n", argv[1]);
		return 1;
	}
	return v->main(v, argc - 1, argv + 1);
}
