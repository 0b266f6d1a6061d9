/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `lodge img`: disk images without a machine.  One file per verb; this is what
 * they share.
 *
 *   main.c     finds the verb, prints what went wrong        args.c    options
 *   open.c     from an argument to a block node              keys.c    -o key=value,... and sizes
 *   format.c   formats that can be made, and their options   term.c    progress, signals, questions of output
 *   luks.c     encryption
 *
 * Names of verbs, options and JSON members are qemu-img's wherever the meaning is
 * the same.  Where qemu-img would destroy data without a word, this refuses and
 * names the option that says it is meant.
 *
 * A verb's run() returns its exit status, or -errno with the text in m->e; then
 * main prints that and exits with the verb's `trouble` (1 if it says nothing else).
 * Nodes are closed by who opened them.  All on one thread.
 */
#ifndef LODGE_IMG_IMG_H
#define LODGE_IMG_IMG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/loop.h"
#include "block/blk.h"
#include "block/image.h"

/* Groups of options that many verbs take: struct img_verb.common. */
enum {
	IMG_OPT_FORMAT = 1,		/* -f FORMAT */
	IMG_OPT_CACHE = 2,		/* -t CACHE */
	IMG_OPT_SRC_CACHE = 4,		/* -T CACHE */
	IMG_OPT_SHARE = 8,		/* -U, --force-share */
	IMG_OPT_QUIET = 16,		/* -q */
	IMG_OPT_PROGRESS = 32,		/* -p */
	IMG_OPT_OUTPUT = 64,		/* --output=human|json */
	IMG_OPT_FORCE = 128,		/* --force */
	IMG_OPT_OPEN = 256,		/* --image-opts, --object, --backing: whoever opens an image */
};

struct img_opt {
	int id;				/* what img_next returns: 1 to 255, usually the letter; 0 ends the table */
	char letter;			/* 0: none */
	const char *name;		/* without "--"; NULL: the letter only */
	const char *arg;		/* NULL: a flag */
	const char *help;
	const char *words;		/* for completion: what the value may be, "@" a file, NULL anything */
};

struct img;
struct img_verb {
	const char *name, *summary;
	const char *operands;		/* for the usage line */
	unsigned common;		/* IMG_OPT_* */
	const struct img_opt *opts;	/* its own; NULL: none */
	int (*run)(struct img *m);
	int trouble;			/* exit status if run() fails; 0: 1 */
};
extern const struct img_verb *const img_verbs[];	/* ends with NULL */
/* The options of a verb, common ones last: the i-th, NULL at the end. */
const struct img_opt *img_opt_at(const struct img_verb *v, unsigned i);

/* "-o key=value,...", in the order given; a key given again counts last. */
struct img_keys {
	struct img_key_value {
		char *key, *val;
	} *kv;
	unsigned n;
};

/* One run of one verb. */
struct img {
	const struct img_verb *v;
	struct loop *loop;
	struct err e;
	/* Options of the common groups. */
	const char *format, *cache, *src_cache;
	bool share, quiet, progress, json, force, image_opts, help;
	enum blk_trust trust;
	struct blk_secrets *secrets;	/* "--object secret,id=ID,file=FILE": what encrypted images are opened with */
	/* What is not an option, once img_next has returned 0. */
	char **operand;
	int n_operands;
	/* private */
	int argc;
	char **argv;
	int longopt_index;
	void *longopts;
	char shorts[128];
	bool progress_shown;
	int64_t progress_ns;
};

/* `lodge img`: argv[0] is "img". Returns the exit status. */
int img_main(int argc, char **argv);
/* Usage of all verbs, or of the one called name. 1: there is none. */
int img_help(const char *name, FILE *f);

/* ---- args.c ---- */

/* The next option of the verb's own: its id, and its value in *val. 0: no more, operands are set. -EINVAL */
int img_next(struct img *m, const char **val);
/* For verbs without own options. */
int img_no_more(struct img *m);
/* Are there between min and max operands? -EINVAL with the usage */
int img_operands(struct img *m, int min, int max);
/* The word of the list (ends with NULL) nearest to what was typed; NULL: none is near. */
const char *img_nearest(const char *typed, const char *const *words);
/* "; did you mean 'x'?", or "". Static storage. */
const char *img_suggest(const char *typed, const char *const *words);

/* ---- open.c ---- */

enum {
	IMG_WRITE = 1,			/* for writing: from here on SIGINT waits until img_interrupted is asked */
	IMG_NO_BACKING = 2,		/* only this layer */
	IMG_BACKING_WRITE = 4,		/* the first backing file for writing too */
	IMG_SOURCE = 8,			/* cache mode from -T, not -t */
	IMG_NAMED = 16,			/* an image was named by another one: only what may be opened without consent */
	IMG_NO_LOCK = 32,
	IMG_NO_KEY = 64,		/* contents are of no interest: if there is no key, do without */
};
#define IMG_MAX_KEYS 8
/* What the argument (a file's name; with --image-opts driver=..,file.filename=..) says. Strings malloc'ed. */
struct img_where {
	char *path, *format;
	char *key[IMG_MAX_KEYS];	/* ids of secrets, of the image and the files below it; NULL: none */
	unsigned n_keys;
	struct blk_image_opts o;
};
/* The secret of the layer at a depth. */
int img_where_key(struct img *m, struct img_where *w, unsigned depth, const char *id);
int img_where(struct img *m, const char *arg, const char *format, unsigned how, struct img_where *w);
void img_where_free(struct img_where *w);
/* format: NULL probes. */
int img_open(struct img *m, const char *arg, const char *format, unsigned how, struct blk_node **out);
int img_open_where(struct img *m, const struct img_where *w, struct blk_node **out);
/* Has the image, open read-only, show the disk as it was at a snapshot inside: its name or id, or qemu-img's
 * "snapshot.id=ID" and "snapshot.name=NAME". */
int img_show_snapshot(struct img *m, const char *name, struct blk_node *n);
/* "none", "writeback", ... */
int img_cache_mode(const char *name, struct blk_open_opts *o, struct err *e);
/* Is there something at path that creating an image would destroy? 0, -EEXIST with the cure. */
int img_check_free(const char *path, struct err *e);

/* ---- keys.c ---- */

int img_keys_add(struct img_keys *k, const char *text, struct err *e);
int img_keys_set(struct img_keys *k, const char *key, const char *val, struct err *e);
void img_keys_free(struct img_keys *k);
const char *img_keys_get(const struct img_keys *k, const char *key);		/* NULL: not given */
/* Leave *out alone if the key was not given. -EINVAL */
int img_keys_size(const struct img_keys *k, const char *key, uint64_t *out, struct err *e);
int img_keys_bool(const struct img_keys *k, const char *key, bool *out, struct err *e);
/* The index of the value in words (ends with NULL). */
int img_keys_word(const struct img_keys *k, const char *key, const char *const *words, unsigned *out, struct err *e);

/* "1536", "1.5k", "0x200", "4G": bytes; what names it in the message. Up to INT64_MAX. -EINVAL, -ERANGE */
int img_size(const char *text, const char *what, uint64_t *out, struct err *e);
/* A plain number up to max. */
int img_number(const char *text, const char *what, uint64_t max, uint64_t *out, struct err *e);
/* "1.5 GiB", as qemu-img prints it. */
const char *img_size_text(uint64_t bytes, char *buf, size_t len);

/* ---- format.c ---- */

struct img_key {
	const char *name, *type, *help;	/* type: "size", "on|off", ... as printed by -o help */
};
struct img_format {
	const char *name;
	const struct img_key *keys;	/* ends with name NULL */
	/* Makes the image; `path` is free (img_check_free) or may be emptied. "size" is among the keys. */
	int (*create)(struct img *m, const char *path, const struct img_keys *k);
};
extern const struct img_format *const img_formats[];	/* ends with NULL */
const struct img_format *img_format_find(const char *name, struct err *e);
/* Every key is one of the format's; unknown ones with a suggestion. */
int img_format_check(const struct img_format *f, const struct img_keys *k, struct err *e);
/* "help" or "?" among the keys: prints the options, true. */
bool img_format_help(const struct img_format *f, const struct img_keys *k);
/* Checks keys, refuses what would be destroyed without m->force, makes it; what failed leaves no new file. */
int img_format_create(struct img *m, const struct img_format *f, const char *path, const struct img_keys *k);

/* -o of a qcow2 image; the strings stay k's. */
struct qcow2_create_opts;
int img_qcow2_options(const struct img_keys *k, struct qcow2_create_opts *o, struct err *e);

/* ---- term.c ---- */

/* done of total; -p only. img_progress_end leaves the line complete. */
void img_progress(struct img *m, uint64_t done, uint64_t total);
void img_progress_end(struct img *m, bool complete);
/* The first SIGINT, SIGTERM or SIGHUP only sets a flag; a second one ends the program. */
void img_hold_signals(void);
/* Has the user had enough? -EINTR with a message, else 0. Ask between steps that leave images whole. */
int img_interrupted(struct img *m);
/* Prints with an indent of 4, and takes the reference. -EIO, -ENOMEM */
int img_json_print(struct img *m, json_t *j);
/* Of everything printed: -EIO if it could not be written. */
int img_flush_output(struct img *m);

#endif
