// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Options, from tables: a verb's own and the groups it shares with others.
 * getopt_long does the work, so that letters may be joined and options and
 * operands may be mixed, as with qemu-img.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/secret.h"
#include "img/img.h"

#define MAX_OPTS 64

enum {
	ID_FORMAT = 256, ID_CACHE, ID_SRC_CACHE, ID_SHARE, ID_QUIET, ID_PROGRESS, ID_OUTPUT, ID_FORCE, ID_IMAGE_OPTS,
	ID_OBJECT, ID_BACKING, ID_HELP,
};

static const struct {
	unsigned group;			/* 0: every verb */
	struct img_opt o;
} common[] = {
	{ IMG_OPT_FORMAT, { ID_FORMAT, 'f', NULL, "FORMAT", "format of the image", "raw qcow2 luks" } },
	{ IMG_OPT_CACHE, { ID_CACHE, 't', NULL, "CACHE", "writeback, none (direct I/O), writethrough, directsync or unsafe",
			   "writeback none writethrough directsync unsafe" } },
	{ IMG_OPT_SRC_CACHE, { ID_SRC_CACHE, 'T', NULL, "CACHE", "the same for what is only read",
			       "writeback none writethrough directsync unsafe" } },
	{ IMG_OPT_SHARE, { ID_SHARE, 'U', "force-share", NULL, "read although somebody may be writing (what is seen may be torn)",
			   NULL } },
	{ IMG_OPT_OPEN, { ID_BACKING, 0, "backing", "folder|on|off",
			  "backing and data files an image may name: in its own folder or below (default), any, none", "folder on off" } },
	{ IMG_OPT_OPEN, { ID_IMAGE_OPTS, 0, "image-opts", NULL,
			  "the image is given as driver=FORMAT,file.filename=FILE,... instead of a name", NULL } },
	{ IMG_OPT_OPEN, { ID_OBJECT, 0, "object", "secret,id=ID,file=FILE", "names a file (or with fd=N a descriptor) with a passphrase, for options that take an ID",
			  NULL } },
	{ IMG_OPT_OUTPUT, { ID_OUTPUT, 0, "output", "human|json", "for people (default) or for programs", "human json" } },
	{ IMG_OPT_FORCE, { ID_FORCE, 0, "force", NULL, "do it although data will be lost", NULL } },
	{ IMG_OPT_PROGRESS, { ID_PROGRESS, 'p', NULL, NULL, "show progress", NULL } },
	{ IMG_OPT_QUIET, { ID_QUIET, 'q', NULL, NULL, "print errors only", NULL } },
	{ 0, { ID_HELP, 'h', "help", NULL, "print this", NULL } },
};

static unsigned count_own(const struct img_verb *v)
{
	unsigned n = 0;

	while (v->opts && v->opts[n].id)
		n++;
	return n;
}

const struct img_opt *img_opt_at(const struct img_verb *v, unsigned i)
{
	unsigned own = count_own(v);

	if (i < own)
		return &v->opts[i];
	i -= own;
	for (unsigned k = 0; k < ARRAY_LEN(common); k++) {
		if (common[k].group && !(common[k].group & v->common))
			continue;
		if (!i--)
			return &common[k].o;
	}
	return NULL;
}

/* Similarity in the sense of Levenshtein, of short words. */
static unsigned typing_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[41], diag, up;

	if (la > 40 || lb > 40)
		return 99;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		diag = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			up = row[j];
			row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), diag + (a[i - 1] != b[j - 1]));
			diag = up;
		}
	}
	return row[lb];
}

const char *img_nearest(const char *typed, const char *const *words)
{
	const char *best = NULL;
	unsigned limit = strlen(typed) < 4 ? 2 : 4;

	for (; *words; words++) {
		unsigned d = typing_distance(typed, *words);

		/* Different words are no misspelling: half of it must be right. */
		if (d < limit && d * 2 <= strlen(*words)) {
			limit = d;
			best = *words;
		}
	}
	return best;
}

const char *img_suggest(const char *typed, const char *const *words)
{
	static char text[80];
	const char *near = img_nearest(typed, words);

	text[0] = '\0';
	if (near)
		snprintf(text, sizeof(text), "; did you mean '%s'?", near);
	return text;
}

static int build_longopts(struct img *m)
{
	struct option *l = calloc(MAX_OPTS + 1, sizeof(*l));
	const struct img_opt *o;
	size_t at = 0;
	unsigned n = 0;

	if (!l)
		return err_set(&m->e, -ENOMEM, "out of memory");
	m->longopts = l;
	m->shorts[at++] = ':';
	for (unsigned i = 0; (o = img_opt_at(m->v, i)) && n < MAX_OPTS; i++) {
		if (o->name)
			l[n++] = (struct option){ o->name, o->arg ? required_argument : no_argument, NULL, o->id };
		if (!o->letter || at + 3 > sizeof(m->shorts))
			continue;
		m->shorts[at++] = o->letter;
		if (o->arg)
			m->shorts[at++] = ':';
	}
	m->shorts[at] = '\0';
	opterr = 0;
	optind = 0;		/* glibc: begin anew */
	return 0;
}

static const struct img_opt *by_letter(const struct img_verb *v, int letter)
{
	const struct img_opt *o;

	for (unsigned i = 0; (o = img_opt_at(v, i)); i++)
		if (o->letter == letter)
			return o;
	return NULL;
}

static int unknown_option(struct img *m)
{
	const char *names[MAX_OPTS + 1] = { NULL }, *arg = m->argv[optind - 1];
	const struct img_opt *o;
	unsigned n = 0;
	char typed[48];

	for (unsigned i = 0; (o = img_opt_at(m->v, i)) && n < MAX_OPTS; i++)
		if (o->name)
			names[n++] = o->name;
	if (optopt && optopt < 256 && !by_letter(m->v, optopt))
		return err_set(&m->e, -EINVAL, "unknown option '-%c' (see 'lodge img %s --help')", optopt, m->v->name);
	snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(arg, "="), arg);
	if (optopt)
		return err_set(&m->e, -EINVAL, "option '%s' takes no value", typed);
	return err_set(&m->e, -EINVAL, "unknown option '%s'%s (see 'lodge img %s --help')", typed,
		       img_suggest(typed + strspn(typed, "-"), names), m->v->name);
}

static int missing_value(struct img *m)
{
	const struct img_opt *o;

	for (unsigned i = 0; (o = img_opt_at(m->v, i)); i++)
		if (o->id == optopt || o->letter == optopt)
			break;
	return err_set(&m->e, -EINVAL, "option '%s' needs a value: %s", m->argv[optind - 1], o ? o->arg : "");
}

static const char *const secret_keys[] = { "id", "file", "fd", "format", NULL };

static int secret_from_keys(struct img *m, const struct img_keys *k)
{
	static const char *const formats[] = { "raw", "base64", NULL };
	struct blk_secret_source from = { .file = img_keys_get(k, "file"), .fd = -1 };
	const char *id = img_keys_get(k, "id"), *fd = img_keys_get(k, "fd");
	unsigned format = 0;
	uint64_t n = 0;
	int ret = img_keys_word(k, "format", formats, &format, &m->e);

	if (!ret && (!id || !from.file == !fd))
		ret = err_set(&m->e, -EINVAL, "--object secret needs id=ID and either file=FILE or fd=N");
	if (!ret && fd) {
		ret = img_number(fd, "fd", 65535, &n, &m->e);
		from.fd = (int)n;
	}
	from.base64 = format;
	if (!ret && !m->secrets && blk_secrets_new(&m->secrets))
		ret = err_set(&m->e, -ENOMEM, "out of memory");
	return ret ? ret : blk_secrets_add(m->secrets, id, &from, &m->e);
}

/* "secret,id=ID,file=FILE" */
static int add_secret(struct img *m, const char *text)
{
	struct img_keys k = { 0 };
	int ret;

	if (strncmp(text, "secret,", 7) != 0)
		return err_set(&m->e, -EINVAL, "--object: '%.40s' is not known here: secret,id=ID,file=FILE is", text);
	ret = img_keys_add(&k, text + 7, &m->e);
	if (!ret && img_keys_get(&k, "data"))
		ret = err_set(&m->e, -EINVAL, "--object: a passphrase on the command line can be seen by every user of this host: "
			      "write it to a file and give file=FILE");
	for (unsigned i = 0; i < k.n && !ret; i++) {
		bool known = false;

		for (unsigned j = 0; secret_keys[j]; j++)
			known = known || !strcmp(k.kv[i].key, secret_keys[j]);
		if (!known)
			ret = err_set(&m->e, -EINVAL, "--object secret: '%.40s' is not known here: id, file, fd and format are",
				      k.kv[i].key);
	}
	ret = ret ? ret : secret_from_keys(m, &k);
	img_keys_free(&k);
	return ret;
}

static int set_trust(struct img *m, const char *val)
{
	if (!strcmp(val, "folder"))
		m->trust = BLK_TRUST_FOLDER;
	else if (!strcmp(val, "on"))
		m->trust = BLK_TRUST_ALL;
	else if (!strcmp(val, "off"))
		m->trust = BLK_TRUST_NONE;
	else
		return err_set(&m->e, -EINVAL, "--backing: '%.40s' is not one of folder, on, off", val);
	return 0;
}

static int set_output(struct img *m, const char *val)
{
	m->json = !strcmp(val, "json");
	if (!m->json && strcmp(val, "human") != 0)
		return err_set(&m->e, -EINVAL, "--output: '%.40s' is neither human nor json", val);
	return 0;
}

static int apply_common(struct img *m, int id, const char *val)
{
	switch (id) {
	case ID_FORMAT:
		m->format = val;
		return 0;
	case ID_CACHE:
		m->cache = val;
		return 0;
	case ID_SRC_CACHE:
		m->src_cache = val;
		return 0;
	case ID_SHARE:
		m->share = true;
		return 0;
	case ID_QUIET:
		m->quiet = true;
		return 0;
	case ID_PROGRESS:
		m->progress = true;
		return 0;
	case ID_OUTPUT:
		return set_output(m, val);
	case ID_FORCE:
		m->force = true;
		return 0;
	case ID_IMAGE_OPTS:
		m->image_opts = true;
		return 0;
	case ID_OBJECT:
		return add_secret(m, val);
	case ID_BACKING:
		return set_trust(m, val);
	default:
		m->help = true;
		return err_set(&m->e, -EINVAL, "help was asked for");
	}
}

int img_next(struct img *m, const char **val)
{
	int ret = m->longopts ? 0 : build_longopts(m), id;

	while (!ret) {
		id = getopt_long(m->argc, m->argv, m->shorts, m->longopts, NULL);
		if (id == -1)
			break;
		if (id == '?')
			return unknown_option(m);
		if (id == ':')
			return missing_value(m);
		*val = optarg;
		/* A letter, or the id of a long option. */
		if (id < 256 && by_letter(m->v, id))
			id = by_letter(m->v, id)->id;
		if (id < 256)
			return id;
		ret = apply_common(m, id, optarg);
	}
	if (ret)
		return ret;
	/* -p would be mixed with what -q keeps quiet. */
	m->progress = m->progress && !m->quiet;
	m->operand = m->argv + optind;
	m->n_operands = m->argc - optind;
	return 0;
}

int img_no_more(struct img *m)
{
	const char *val;

	return img_next(m, &val);
}

int img_operands(struct img *m, int min, int max)
{
	if (m->n_operands > max)
		return err_set(&m->e, -EINVAL, "'%.80s' is one too many; usage: lodge img %s [OPTION]... %s", m->operand[max],
			       m->v->name, m->v->operands);
	if (m->n_operands < min)
		return err_set(&m->e, -EINVAL, "something is missing; usage: lodge img %s [OPTION]... %s", m->v->name,
			       m->v->operands);
	return 0;
}
