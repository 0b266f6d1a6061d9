/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state: a versioned table of fields per device, never a raw struct.
 *
 * Stream format, little endian: device id string, table name, version, then for
 * each field its name, element size, count and bytes.  Loading matches fields by
 * name: a field the stream lacks keeps its reset value if it was added in a
 * later version than the stream's, else it is an error; one the table lacks is an
 * error.  The bytes come from a file or a peer: everything is checked.
 */
#ifndef LODGE_MACHINE_SNAP_H
#define LODGE_MACHINE_SNAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct snap_field {
	const char *name;
	size_t offset;
	uint16_t elem;		/* 1, 2, 4, 8 bytes an element */
	uint16_t count;
	uint16_t since;		/* version that introduced it, 0 = always */
	uint16_t is_bool;	/* loaded bytes are made 0 or 1 (set by the macros) */
};

struct snap_table {
	const char *name;
	uint16_t version;
	const struct snap_field *fields;	/* ends with name == NULL */
};

#define SNAP_IS_BOOL(lvalue) \
	__builtin_types_compatible_p(__typeof__(lvalue), bool)
#define SNAP_FIELD(type, field) \
	{ #field, offsetof(type, field), sizeof(((type *)0)->field), 1, 0, \
	  SNAP_IS_BOOL(((type *)0)->field) }
#define SNAP_ARRAY(type, field) \
	{ #field, offsetof(type, field), sizeof(((type *)0)->field[0]), \
	  sizeof(((type *)0)->field) / sizeof(((type *)0)->field[0]), 0, \
	  SNAP_IS_BOOL(((type *)0)->field[0]) }
#define SNAP_END { NULL, 0, 0, 0, 0, 0 }

struct snap_out;	/* growing byte buffer */
struct snap_in;

int snap_out_new(struct snap_out **out);
void snap_out_free(struct snap_out *o);
const void *snap_out_data(const struct snap_out *o, size_t *len);
int snap_in_new(struct snap_in **out, const void *data, size_t len);
void snap_in_free(struct snap_in *in);
size_t snap_in_left(const struct snap_in *in);	/* bytes that nobody has read */

/* obj is the struct the table describes. */
int snap_put(struct snap_out *o, const char *id, const struct snap_table *t, const void *obj);
int snap_get(struct snap_in *in, const char *id, const struct snap_table *t, void *obj,
	     struct err *e);
/* Raw bytes with a length, for what is no table (queues in flight, FIFO contents). */
int snap_put_blob(struct snap_out *o, const char *id, const void *p, uint32_t len);
int snap_get_blob(struct snap_in *in, const char *id, void *p, uint32_t max, uint32_t *len,
		  struct err *e);

#endif
