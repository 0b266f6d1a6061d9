/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "a,key=value,flag,nokey" as QEMU reads it, and JSON objects in its place.
 *
 * What is asked for is taken out of the list; what is left over at the end was not
 * known to anybody and is an error, so nothing is ignored in silence.
 */
#ifndef LODGE_QEMU_PROPS_H
#define LODGE_QEMU_PROPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PROPS_MAX 64		/* in one option */

struct prop {
	char *name, *value;
	bool taken;
};

struct props {
	char *text;		/* owns names and values */
	unsigned n;
	struct prop of[PROPS_MAX];
};

/* A part without "=" is the value of `implied` if it comes first and there is one, else a flag: on, or off with "no" in front.
 * ",," is a comma.  A text that begins with "{" is a JSON object, whose nested keys are joined with dots.
 * EINVAL with a message, ENOMEM; to be freed in either case. */
int props_parse(const char *text, const char *implied, struct props *p, struct err *e);
void props_free(struct props *p);

/* The value, which is taken: the last one if there are several.  NULL: none. */
const char *props_take(struct props *p, const char *name);
/* The value, which stays. */
const char *props_peek(const struct props *p, const char *name);
/* The first value only, for names that may be repeated (hostfwd). */
const char *props_take_one(struct props *p, const char *name);
/* on, off and their like; *out stays as it is without one.  EINVAL */
int props_bool(struct props *p, const char *name, bool *out, struct err *e);
/* A number from min to max, C's notations; *found may be NULL. EINVAL */
int props_number(struct props *p, const char *name, uint64_t min, uint64_t max, uint64_t *out, bool *found, struct err *e);
/* Takes what makes no difference here.  The list ends with NULL. */
void props_ignore(struct props *p, const char *const *names);
/* EINVAL: one was not taken; the message names it. */
int props_done(const struct props *p, struct err *e);

/* "512M", "0x1000", "1.5G": bytes; `unit` is what a number without suffix counts.  EINVAL, ERANGE */
int props_size(const char *text, uint64_t unit, uint64_t *out, struct err *e);
int props_switch(const char *text, bool *out, struct err *e);

#endif
