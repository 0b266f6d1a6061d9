/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration as data: an ordered list of dotted keys and their values.
 *
 * The command line, a file and (later) the API all fill one of these; it can be
 * dumped, read back, checked against the table of known keys (vm/config.h) and
 * only then built.  Lists use a number as a key part: "disk.0.file".
 *
 * Text form: one "key = value" a line; '#' starts a comment line; in values
 * "\n", "\r" and "\\" are escapes.  Not thread-safe.
 */
#ifndef LODGE_VM_CONF_H
#define LODGE_VM_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

struct conf;

int conf_new(struct conf **out);
void conf_free(struct conf *c);

/* Sets (replacing) one value.  -EINVAL: not a key ([a-z0-9-] parts joined by
 * dots); -ENOMEM; -E2BIG: more than CONF_MAX_KEYS keys. */
#define CONF_MAX_KEYS 4096
int conf_set(struct conf *c, const char *key, const char *value, struct err *e);
int conf_setf(struct conf *c, const char *value, struct err *e, const char *key_fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* NULL if the key is not set; the text stays valid until the key is set again. */
const char *conf_get(const struct conf *c, const char *key);
/* Takes away a key and all that begin with it and a dot; texts that conf_get gave for them are gone. */
void conf_unset(struct conf *c, const char *prefix);
/* How many elements the list `prefix` has: 1 + the highest number N for which a
 * key "prefix.N" or "prefix.N.…" exists. */
unsigned conf_list_len(const struct conf *c, const char *prefix);

/* i-th key in the order they were first set; false at the end. */
bool conf_nth(const struct conf *c, size_t i, const char **key, const char **value);

/* Text form. -EIO if the stream fails. */
int conf_dump(const struct conf *c, FILE *f);
/* Adds what the stream says.  Errors name `where` and the line. */
int conf_read(struct conf *c, FILE *f, const char *where, struct err *e);

#endif
