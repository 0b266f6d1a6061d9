/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one table of options per verb: parsing, --help, the man page and shell
 * completion are all made from it.
 */
#ifndef LODGE_RUN_OPTS_H
#define LODGE_RUN_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "vm/conf.h"

enum opt_complete { COMPLETE_NONE, COMPLETE_FILE, COMPLETE_WORDS };

/* What parsing needs besides the tree: list positions, flags of the program itself. */
struct opt_state {
	unsigned n_initrds, n_disks, n_objects, n_blockdevs, n_nets, n_fw_cfgs, n_qmps, n_monitors, n_ssh_keys, n_smbios, n_serials, n_inputs, n_usbs, n_root_ports, n_chardevs, n_ports, n_shares, n_nodes, n_vhost_disks, n_memories;
	bool help, dry_run, json, enter;
	const char *diff_of;		/* a snapshot; NULL: none */
	const char *on_restore;		/* a command in the guest; NULL: none */
	const char *then;		/* of a guest that was saved: "stop", "quit"; NULL: it goes on */
	bool keep, inside, auto_converge, compress, resume;
	unsigned streams;		/* 0: none */
	int postcopy;			/* rounds + 1; 0: none */
	const char *tls, *tls_hostname;	/* a directory; NULL: none */
	uint64_t bandwidth;		/* bytes a second; 0: no limit */
	unsigned number;		/* head, milliseconds */
	bool number_given;
	const char *words[64];		/* operands, where the verb's operand() keeps them */
	unsigned n_words;
};

struct opt {
	const char *name;		/* without "--" */
	char letter;			/* 0: none */
	const char *arg;		/* NULL: a flag */
	const char *help;		/* one line for --help and completion */
	const char *man;		/* paragraph for the man page; NULL: the help line */
	enum opt_complete complete;
	const char *words;		/* COMPLETE_WORDS: separated by spaces */
	const char *key;		/* plain options: the configuration key; a flag sets "on" */
	/* Others: their own parser; val is NULL for a flag. */
	int (*parse)(struct conf *c, struct opt_state *st, const char *val, struct err *e);
};

struct verb {
	const char *name, *summary;
	const char *operands;		/* for the usage line; NULL: none taken */
	const struct opt *opts;		/* ends with name NULL */
	int (*main)(const struct verb *v, int argc, char **argv);
	/* Takes one operand; NULL: there are none. */
	int (*operand)(struct conf *c, struct opt_state *st, const char *val, struct err *e);
};

extern const struct verb *const lodge_verbs[];	/* ends with NULL */
extern const struct opt run_opts[];
/* A disk image, as after --disk. */
int run_operand(struct conf *c, struct opt_state *st, const char *val, struct err *e);
extern const struct opt doctor_opts[];
extern const struct opt snapshot_opts[], migrate_opts[];
extern const struct opt qmp_opts[], ps_opts[], screenshot_opts[], sendkey_opts[], type_opts[], vsock_opts[], memory_opts[];
/* Keeps the operand in st->words. */
int keep_operand(struct conf *c, struct opt_state *st, const char *val, struct err *e);

/* NULL: there is none. */
const struct verb *find_verb(const char *name);
int run_main(const struct verb *v, int argc, char **argv);
int doctor_main(const struct verb *v, int argc, char **argv);
int qmp_main(const struct verb *v, int argc, char **argv);
int ps_main(const struct verb *v, int argc, char **argv);
int screenshot_main(const struct verb *v, int argc, char **argv);
int sendkey_main(const struct verb *v, int argc, char **argv);
int type_main(const struct verb *v, int argc, char **argv);
int migrate_main(const struct verb *v, int argc, char **argv);
int memory_main(const struct verb *v, int argc, char **argv);
int vsock_main(const struct verb *v, int argc, char **argv);
int snapshot_main(const struct verb *v, int argc, char **argv);

/* Parses argv[1..argc).  -EINVAL with a message that names the option. */
int opts_parse(const struct verb *v, int argc, char **argv, struct conf *c, struct opt_state *st,
	       struct err *e);
void opts_help(const struct verb *v, FILE *f);
/* For verbs whose options configure nothing: also says what is wrong, and answers --help.  -1: go on; else the exit status. */
int opts_alone(const struct verb *v, int argc, char **argv, struct opt_state *st);
/* kind: man-run, man-lodge, man-doctor, man-img (options of many verbs), man-img-VERB (its own), bash, zsh, fish.
 * -EINVAL: none of them. */
int generate(const char *kind, FILE *f);
/* generate_img.c: the parts about `lodge img`, whose verbs have their own tables (a verb without options is img). */
int man_img(const char *verb, FILE *f);
void bash_img(FILE *f);
void zsh_img(FILE *f);
void fish_img(FILE *f);

/* Finds lodge-vmm: $LODGE_VMM, next to this program, the configured place. */
int find_vmm(char *path, size_t len, struct err *e);

#endif
