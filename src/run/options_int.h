/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files with parsers of `lodge run`'s options share. */
#ifndef LODGE_RUN_OPTIONS_INT_H
#define LODGE_RUN_OPTIONS_INT_H

#include "run/opts.h"

/* Splits "a,b=c,d" at commas; ",," is a comma of the value.  Calls fn for every
 * part (name, value or NULL).  The first part has name NULL. */
typedef int (*part_fn)(void *opaque, const char *name, const char *val, struct err *e);
int each_part(const char *text, part_fn fn, void *opaque, struct err *e);

/* Where parts go: the tree, and the element of a list. */
struct target {
	struct conf *c;
	unsigned n, n_fwd, n_keys;
};

/* options_parts.c */
int parse_chardev(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_port(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_input(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_tpm(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_watchdog(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_vsock(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_vhost_disk(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_share(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_serial(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_smbios(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_root_port(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_memory(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_memory_device(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_vcpu(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_topology(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_numa(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_backing(struct conf *c, struct opt_state *st, const char *val, struct err *e);
int parse_rtc(struct conf *c, struct opt_state *st, const char *val, struct err *e);

#endif
