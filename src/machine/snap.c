/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state as self-describing records.
 *
 * A record is: kind byte ('T' table, 'B' blob), device id; for a table its name,
 * version, field count and fields; for a blob its length and bytes.  Strings are
 * a 16-bit length and that many bytes.  Integers are little endian, as is the
 * only host we build for, so field bytes are copied as they lie in memory.
 *
 * The reader trusts nothing: every length is checked against what is left, and a
 * record of another device, table, width or count is refused with its name.
 */
#include "machine/snap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "field bytes are stored as they lie");

#define NAME_MAX_LEN 64

struct snap_out {
	uint8_t *p;
	size_t len, cap;
	int failed;			/* first error; later puts repeat it */
};

struct snap_in {
	uint8_t *p;
	size_t len, pos;
};

int snap_out_new(struct snap_out **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void snap_out_free(struct snap_out *o)
{
	if (!o)
		return;
	free(o->p);
	free(o);
}

const void *snap_out_data(const struct snap_out *o, size_t *len)
{
	*len = o->len;
	return o->p;
}

int snap_in_new(struct snap_in **out, const void *data, size_t len)
{
	struct snap_in *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	in->p = malloc(len ? len : 1);
	if (!in->p) {
		free(in);
		return -ENOMEM;
	}
	if (len)
		memcpy(in->p, data, len);
	in->len = len;
	*out = in;
	return 0;
}

size_t snap_in_left(const struct snap_in *in) { return in->len - in->pos; }

void snap_in_free(struct snap_in *in)
{
	if (!in)
		return;
	free(in->p);
	free(in);
}

/* Writing. */

static void put(struct snap_out *o, const void *p, size_t n)
{
	if (o->failed)
		return;
	if (n > o->cap - o->len) {
		size_t cap = MAX(o->cap * 2, o->len + n + 1024);
		uint8_t *q = realloc(o->p, cap);

		if (!q) {
			o->failed = -ENOMEM;
			return;
		}
		o->p = q;
		o->cap = cap;
	}
	if (n)
		memcpy(o->p + o->len, p, n);
	o->len += n;
}

static void put_u16(struct snap_out *o, uint16_t v)
{
	put(o, &v, 2);
}

static void put_str(struct snap_out *o, const char *s)
{
	size_t n = strlen(s);

	if (n >= NAME_MAX_LEN) {
		o->failed = -EINVAL;
		return;
	}
	put_u16(o, (uint16_t)n);
	put(o, s, n);
}

static bool elem_ok(uint16_t elem)
{
	return elem == 1 || elem == 2 || elem == 4 || elem == 8;
}

int snap_put(struct snap_out *o, const char *id, const struct snap_table *t, const void *obj)
{
	uint16_t n = 0;

	for (const struct snap_field *f = t->fields; f->name; f++) {
		if (!elem_ok(f->elem))
			return -EINVAL;
		n++;
	}
	put(o, "T", 1);
	put_str(o, id);
	put_str(o, t->name);
	put_u16(o, t->version);
	put_u16(o, n);
	for (const struct snap_field *f = t->fields; f->name; f++) {
		put_str(o, f->name);
		put_u16(o, f->elem);
		put_u16(o, f->count);
		put(o, (const uint8_t *)obj + f->offset, (size_t)f->elem * f->count);
	}
	return o->failed;
}

int snap_put_blob(struct snap_out *o, const char *id, const void *p, uint32_t len)
{
	put(o, "B", 1);
	put_str(o, id);
	put(o, &len, 4);
	put(o, p, len);
	return o->failed;
}

/* Reading. */

static const uint8_t *take(struct snap_in *in, size_t n)
{
	const uint8_t *p = in->p + in->pos;

	if (n > in->len - in->pos)
		return NULL;
	in->pos += n;
	return p;
}

static bool get_u16(struct snap_in *in, uint16_t *v)
{
	const uint8_t *p = take(in, 2);

	if (p)
		*v = ld_le16(p);
	return p != NULL;
}

/* buf has room for NAME_MAX_LEN bytes. */
static bool get_str(struct snap_in *in, char *buf)
{
	const uint8_t *p;
	uint16_t n;

	if (!get_u16(in, &n) || n >= NAME_MAX_LEN)
		return false;
	p = take(in, n);
	if (!p)
		return false;
	memcpy(buf, p, n);
	buf[n] = '\0';
	for (unsigned i = 0; i < n; i++)
		if (buf[i] < 0x20 || buf[i] == 0x7f)
			return false;	/* it will be printed */
	return true;
}

static int cut_short(struct err *e, const char *id)
{
	return err_set(e, -EBADMSG, "the saved state of %s is cut short or damaged", id);
}

/* The head of the next record: its kind and whose it is. */
static int get_head(struct snap_in *in, const char *id, char kind, struct err *e)
{
	char name[NAME_MAX_LEN];
	const uint8_t *k = take(in, 1);

	if (!k || (*k != 'T' && *k != 'B') || !get_str(in, name))
		return cut_short(e, id);
	if (strcmp(name, id))
		return err_set(e, -EINVAL, "the saved state has device %s where this machine has %s",
			       name, id);
	if (*k != (uint8_t)kind)
		return err_set(e, -EINVAL, "the saved state of %s has another layout", id);
	return 0;
}

/* A bool that holds anything but 0 and 1 is undefined behaviour. */
static void load_bytes(const struct snap_field *f, uint8_t *dst, const uint8_t *src)
{
	size_t n = (size_t)f->elem * f->count;

	if (!f->is_bool) {
		memcpy(dst, src, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		dst[i] = src[i] != 0;
}

/* Reads one field of the stream into *obj; *index tells which it was. */
static int get_field(struct snap_in *in, const char *id, const struct snap_table *t,
		     uint8_t *obj, unsigned *index, struct err *e)
{
	char name[NAME_MAX_LEN];
	const struct snap_field *f;
	uint16_t elem, count;
	const uint8_t *p;

	if (!get_str(in, name) || !get_u16(in, &elem) || !get_u16(in, &count))
		return cut_short(e, id);
	p = take(in, (size_t)elem * count);
	if (!p)
		return cut_short(e, id);
	for (f = t->fields; f->name && strcmp(f->name, name); f++)
		;
	if (!f->name)
		return err_set(e, -EINVAL, "the saved state of %s has a field \"%s\" that is unknown here",
			       id, name);
	if (f->elem != elem || f->count != count)
		return err_set(e, -EINVAL, "field \"%s\" of %s is %u x %u bytes in the saved state, %u x %u here",
			       name, id, count, elem, f->count, f->elem);
	load_bytes(f, obj + f->offset, p);
	*index = (unsigned)(f - t->fields);
	return 0;
}

int snap_get(struct snap_in *in, const char *id, const struct snap_table *t, void *obj,
	     struct err *e)
{
	uint64_t seen[1024 / 64] = { 0 };
	char name[NAME_MAX_LEN];
	uint16_t version, n;
	unsigned i = 0;
	int r;

	r = get_head(in, id, 'T', e);
	if (r)
		return r;
	if (!get_str(in, name) || !get_u16(in, &version) || !get_u16(in, &n))
		return cut_short(e, id);
	if (strcmp(name, t->name))
		return err_set(e, -EINVAL, "the saved state of %s is of a %s, not a %s", id, name, t->name);
	if (version > t->version)
		return err_set(e, -EINVAL, "the saved state of %s has version %u, this program knows %u",
			       id, version, t->version);
	while (n--) {
		r = get_field(in, id, t, obj, &i, e);
		if (r)
			return r;
		if (i < 1024)
			seen[i / 64] |= BIT64(i % 64);
	}
	for (i = 0; t->fields[i].name && i < 1024; i++)
		if (!(seen[i / 64] & BIT64(i % 64)) && t->fields[i].since <= version)
			return err_set(e, -EINVAL, "the saved state of %s lacks field \"%s\"", id,
				       t->fields[i].name);
	return 0;
}

int snap_get_blob(struct snap_in *in, const char *id, void *p, uint32_t max, uint32_t *len,
		  struct err *e)
{
	const uint8_t *q;
	int r = get_head(in, id, 'B', e);

	if (r)
		return r;
	q = take(in, 4);
	if (!q)
		return cut_short(e, id);
	*len = ld_le32(q);
	if (*len > max)
		return err_set(e, -EINVAL, "the saved state of %s has %u bytes where %u fit", id, *len, max);
	q = take(in, *len);
	if (!q)
		return cut_short(e, id);
	if (*len)
		memcpy(p, q, *len);
	return 0;
}
