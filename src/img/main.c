// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img VERB: finds the verb, runs it, prints what went wrong.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/secret.h"
#include "img/img.h"
#include "img/verbs.h"

const struct img_verb *const img_verbs[] = {
	&img_verb_bench, &img_verb_bitmap, &img_verb_check, &img_verb_commit, &img_verb_compare, &img_verb_convert, &img_verb_create, &img_verb_dd,
	&img_verb_info, &img_verb_map, &img_verb_measure, &img_verb_rebase, &img_verb_resize, &img_verb_snapshot, NULL,
};

static const struct img_verb *find_img_verb(const char *name)
{
	for (const struct img_verb *const *v = img_verbs; *v; v++)
		if (!strcmp((*v)->name, name))
			return *v;
	return NULL;
}

static const struct img_verb *find_or_say(const char *name)
{
	const char *names[32] = { NULL };
	const struct img_verb *v = find_img_verb(name);

	for (unsigned i = 0; img_verbs[i] && i < 31; i++)
		names[i] = img_verbs[i]->name;
	if (!v)
		fprintf(stderr, "lodge img: there is no verb '%.40s'%s (see 'lodge img --help')\n", name,
			img_suggest(name, names));
	return v;
}

static void help_all(FILE *f)
{
	fprintf(f, "usage: lodge img VERB [OPTION]...\n\nDisk images: verbs and options are those of qemu-img.\n\n");
	for (const struct img_verb *const *v = img_verbs; *v; v++)
		fprintf(f, "  %-10s %s\n", (*v)->name, (*v)->summary);
	fprintf(f, "\n  lodge img VERB --help   tells the verb's options\n");
}

static void help_verb(const struct img_verb *v, FILE *f)
{
	const struct img_opt *o;

	fprintf(f, "usage: lodge img %s [OPTION]... %s\n\n%s\n\n", v->name, v->operands, v->summary);
	for (unsigned i = 0; (o = img_opt_at(v, i)); i++) {
		char left[96];
		int n = 0;

		if (o->letter)
			n += snprintf(left, sizeof(left), "-%c%s", o->letter, o->name ? ", " : "");
		else
			n += snprintf(left, sizeof(left), "    ");
		if (o->name)
			n += snprintf(left + n, sizeof(left) - (size_t)n, "--%s", o->name);
		if (o->arg)
			n += snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->arg);
		if (n > 30)
			fprintf(f, "  %s\n  %-30s %s\n", left, "", o->help);
		else
			fprintf(f, "  %-30s %s\n", left, o->help);
	}
}

int img_help(const char *name, FILE *f)
{
	const struct img_verb *v = name ? find_or_say(name) : NULL;

	if (name && !v)
		return 1;
	if (v)
		help_verb(v, f);
	else
		help_all(f);
	return 0;
}

static void img_fini(struct img *m)
{
	blk_secrets_free(m->secrets);
	free(m->longopts);
	loop_free(m->loop);
}

static int run_verb(const struct img_verb *v, int argc, char **argv)
{
	struct img m = { .v = v, .argc = argc, .argv = argv };
	int ret = loop_new(&m.loop);

	if (ret) {
		fprintf(stderr, "lodge img: %s\n", strerror(-ret));
		return 1;
	}
	ret = v->run(&m);
	/* Asked for help, and nothing else was done. */
	if (m.help) {
		help_verb(v, stdout);
		ret = 0;
	}
	if (ret >= 0 && img_flush_output(&m))
		ret = -EIO;
	if (ret < 0) {
		fflush(stdout);
		fprintf(stderr, "lodge img: %s: %s\n", v->name, m.e.msg[0] ? m.e.msg : strerror(-ret));
		ret = v->trouble ? v->trouble : 1;
	}
	img_fini(&m);
	return ret;
}

int img_main(int argc, char **argv)
{
	const struct img_verb *v;

	if (argc < 2) {
		help_all(stderr);
		return 1;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return img_help(argc > 2 ? argv[2] : NULL, stdout);
	v = find_or_say(argv[1]);
	return v ? run_verb(v, argc - 1, argv + 1) : 1;
}
