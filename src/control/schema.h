/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol's types as data (schema.txt, generate.py), and the check of a
 * value from a client against them.
 */
#ifndef LODGE_CONTROL_SCHEMA_H
#define LODGE_CONTROL_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ctl_call;

enum ctl_kind {
	CTL_STR, CTL_INT, CTL_BOOL, CTL_NUMBER, CTL_NULL, CTL_ANY, CTL_ENUM, CTL_LIST, CTL_STRUCT, CTL_ALTERNATE,
};

struct ctl_type;

struct ctl_member {
	const char *name;
	const struct ctl_type *type;
	bool optional;
};

/* What a union has besides, for one value of its tag. */
struct ctl_variant {
	const char *value;
	const struct ctl_type *type;
};

struct ctl_type {
	enum ctl_kind kind;
	const char *name;
	int64_t min, max;			/* INT */
	const char *const *values;		/* ENUM; ends with NULL */
	const struct ctl_type *element;		/* LIST */
	const struct ctl_member *members;	/* STRUCT, ALTERNATE (its branches); ends with name NULL */
	const char *tag;			/* STRUCT that is a union: the member that chooses; else NULL */
	const struct ctl_variant *variants;	/* ends with value NULL */
	bool open;				/* STRUCT: members that are not known pass */
};

struct ctl_command {
	const char *name;
	const struct ctl_type *args;
	void (*run)(struct ctl_call *c, json_t *args);	/* args passed the check */
	bool oob;
};

struct ctl_event_info {
	const char *name;
	bool limited;				/* to one a second; the last of more is sent later */
};

extern const struct ctl_command ctl_commands[];	/* by name */
extern const size_t ctl_n_commands;
extern const struct ctl_event_info ctl_events[];
extern const char ctl_schema_json[];		/* what query-qmp-schema returns */

/* NULL: there is none. */
const struct ctl_command *ctl_find_command(const char *name);

/* Checks all of `v`, nested values too.  -EINVAL with QEMU's words for it in *e. `name` is what the value is called. */
int ctl_check(const struct ctl_type *t, json_t *v, const char *name, struct err *e);
/* The place of `value` in the enum; -1: it has none. */
int ctl_enum(const struct ctl_type *t, const char *value);

#endif
