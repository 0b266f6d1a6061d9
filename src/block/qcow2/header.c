/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names in the header: its extensions, and the backing file's name behind
 * them, changed so that a crash leaves the old header or the new one.
 *
 * The host writes sectors of 512 bytes whole, in any order between barriers.  So
 * the first one, with the header's fixed part, is what switches: the others are
 * written before it, with every byte left alone that the old header has a meaning for, and are
 * nothing to it.  Where the new header can be laid out like that is tried in
 * several ways (the enum below), and if none will do nothing is changed.
 *
 * Extensions that nobody here knows are kept.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/internal.h"

#define MAX_HEADER (64u << 10)
#define EXT_HEAD 8u
#define SECTOR 512u

enum way {
	IN_PLACE,		/* every extension stays where it is; the format's is put in place of the old one, or last */
	COMPACT,		/* fillers go, what is behind them moves up; the format is first */
	WITHOUT_FEATURES,	/* and the names of features go, which are there for people */
	ELSEWHERE,		/* a filler leads to another part of the header, where the list is */
};

struct head {
	const struct qcow2 *q;
	uint8_t *old, *new;
	uint32_t limit;			/* bytes of the header */
	uint32_t list_end;		/* of the old list, with its end marker */
	uint32_t name, name_len;	/* old backing file's, 0: none */
	const char *backing, *format;	/* new, or NULL */
};

/* ---- the old list ---- */

static uint32_t ext_size(uint32_t len)
{
	return EXT_HEAD + (uint32_t)align_up(len, 8);
}

/* The extension at *at; false: the end. Its lengths were checked when the image was opened, and are again. */
static bool next_ext(const struct head *h, uint32_t at, uint32_t *type, uint32_t *len)
{
	uint32_t end = h->name ? h->name : h->limit;

	if (at + EXT_HEAD > end)
		return false;
	*type = ld_be32(h->old + at);
	*len = ld_be32(h->old + at + 4);
	return *type && *len <= end - at - EXT_HEAD && ext_size(*len) <= end - at;
}

static uint32_t find_end(const struct head *h)
{
	uint32_t at = h->q->header_len, type, len;

	while (next_ext(h, at, &type, &len))
		at += ext_size(len);
	return MIN(at + EXT_HEAD, h->limit);
}

/* ---- the new one ---- */

/* Each returns where the next goes, 0: there is no room. */
static uint32_t put(struct head *h, uint32_t at, uint32_t type, const void *data, uint32_t len)
{
	if (!at || ext_size(len) > h->limit - at)
		return 0;
	memset(h->new + at, 0, ext_size(len));
	st_be32(h->new + at, type);
	st_be32(h->new + at + 4, len);
	if (data)
		memcpy(h->new + at + EXT_HEAD, data, len);
	return at + ext_size(len);
}

/* Nothing, of `size` bytes with its head. What is there stays, since nobody looks. */
static uint32_t put_filler(struct head *h, uint32_t at, uint32_t size)
{
	if (!at || size > h->limit - at)
		return 0;
	st_be32(h->new + at, EXT_FILLER);
	st_be32(h->new + at + 4, size - EXT_HEAD);
	return at + size;
}

static uint32_t put_format(struct head *h, uint32_t at)
{
	return h->format ? put(h, at, EXT_BACKING_FORMAT, h->format, (uint32_t)strlen(h->format)) : at;
}

/* The format in a slot of `size` bytes, if it fits: the rest is filled. */
static bool format_fits(const struct head *h, uint32_t size)
{
	uint32_t need = ext_size((uint32_t)strlen(h->format));

	return need == size || need + EXT_HEAD <= size;
}

static uint32_t put_in_slot(struct head *h, uint32_t at, uint32_t size)
{
	uint32_t end = put_format(h, at);

	return end && end < at + size ? put_filler(h, end, at + size - end) : end;
}

static uint32_t list_in_place(struct head *h)
{
	bool placed = !h->format;
	uint32_t at = h->q->header_len, type, len;

	for (; next_ext(h, at, &type, &len); at += ext_size(len)) {
		if (type != EXT_BACKING_FORMAT && type != EXT_FILLER)
			continue;
		if (!placed && format_fits(h, ext_size(len))) {
			put_in_slot(h, at, ext_size(len));
			placed = true;
		} else {
			put_filler(h, at, ext_size(len));
		}
	}
	return placed ? at : put_format(h, at);
}

static uint32_t list_anew(struct head *h, uint32_t at, bool features)
{
	uint32_t from = h->q->header_len, type, len, fill;

	at = put_format(h, at);
	for (; at && next_ext(h, from, &type, &len); from += ext_size(len)) {
		if (type == EXT_BACKING_FORMAT || type == EXT_FILLER || (type == EXT_FEATURES && !features))
			continue;
		fill = type == EXT_BITMAPS ? bitmap_filler(at) : 0;
		at = fill ? put_filler(h, at, fill) : at;
		at = put(h, at, type, h->old + from + EXT_HEAD, len);
	}
	return at;
}

/* A filler from the list's beginning to byte `to`. */
static uint32_t list_elsewhere(struct head *h, uint32_t to)
{
	uint32_t from = h->q->header_len;

	return to >= from + EXT_HEAD && to < h->limit ? list_anew(h, put_filler(h, from, to - from), true) : 0;
}

/* ---- both beside each other ---- */

static bool touches(uint32_t a, uint32_t a_end, uint32_t b, uint32_t b_end)
{
	return a < b_end && b < a_end;
}

/* A place for the name in [list_end, limit) that is nothing to the old header, but for its first sector. 0: none */
static uint32_t place_name(const struct head *h, uint32_t list_end)
{
	uint32_t len = (uint32_t)strlen(h->backing), at = list_end, old_end = h->name + h->name_len;

	if (h->name >= list_end && len == h->name_len && !memcmp(h->old + h->name, h->backing, len))
		return h->name;
	for (;;) {
		if (len > h->limit - MIN(at, h->limit))
			return 0;
		if (h->list_end > SECTOR && touches(at, at + len, SECTOR, h->list_end))
			at = h->list_end;
		else if (old_end > SECTOR && touches(at, at + len, MAX(h->name, SECTOR), old_end))
			at = (uint32_t)align_up(old_end, 8);
		else
			return at;
	}
}

/* Are the sectors behind the first as good to the old header as they were? */
static bool harmless(const struct head *h)
{
	uint32_t from = MAX(h->name, SECTOR), to = h->name + h->name_len;

	if (h->list_end > SECTOR && memcmp(h->old + SECTOR, h->new + SECTOR, h->list_end - SECTOR) != 0)
		return false;
	return !h->name_len || from >= to || !memcmp(h->old + from, h->new + from, to - from);
}

/* The new header around a list that ends at `at`. */
static bool complete(struct head *h, uint32_t at)
{
	uint32_t name;

	if (!at || EXT_HEAD > h->limit - at)
		return false;
	memset(h->new + at, 0, EXT_HEAD);
	at += EXT_HEAD;
	st_be64(h->new + H_BACKING_OFF, 0);
	st_be32(h->new + H_BACKING_LEN, 0);
	if (h->backing) {
		name = place_name(h, at);
		if (!name)
			return false;
		memcpy(h->new + name, h->backing, strlen(h->backing));
		st_be64(h->new + H_BACKING_OFF, name);
		st_be32(h->new + H_BACKING_LEN, (uint32_t)strlen(h->backing));
	}
	return harmless(h);
}

static bool try(struct head *h, enum way way, uint32_t to)
{
	memcpy(h->new, h->old, h->limit);
	switch (way) {
	case IN_PLACE:
		return complete(h, list_in_place(h));
	case COMPACT:
	case WITHOUT_FEATURES:
		return complete(h, list_anew(h, h->q->header_len, way == COMPACT));
	default:
		return complete(h, list_elsewhere(h, to));
	}
}

static int lay_out(struct head *h)
{
	const uint32_t to[] = { (uint32_t)MAX(h->list_end, SECTOR), (uint32_t)align_up(MAX(h->name + h->name_len, h->list_end), 8) };

	for (enum way way = IN_PLACE; way < ELSEWHERE; way++)
		if (try(h, way, 0))
			return 0;
	for (unsigned i = 0; i < ARRAY_LEN(to); i++)
		if (try(h, ELSEWHERE, to[i]))
			return 0;
	return -E2BIG;
}

/* The first sector last. */
static int write_changes(struct qcow2 *q, struct co *c, const struct head *h)
{
	bool any = false;
	int ret = 0;

	for (uint32_t at = SECTOR; at < h->limit && !ret; at += SECTOR) {
		if (!memcmp(h->old + at, h->new + at, SECTOR))
			continue;
		any = true;
		ret = q_rw(q, c, q->n.file, BLK_WRITE, at, h->new + at, SECTOR);
	}
	if (!ret && any)
		ret = q_barrier(q, c);
	ret = ret ? ret : q_rw(q, c, q->n.file, BLK_WRITE, 0, h->new, SECTOR);
	return ret ? ret : q_barrier(q, c);
}

int header_set_backing(struct qcow2 *q, struct co *c, const char *backing, const char *format)
{
	uint32_t limit = MIN(q->cluster, MAX_HEADER);
	struct head h = { .q = q, .old = q_buf(limit), .new = q_buf(limit), .limit = limit, .backing = backing, .format = format };
	int ret = h.old && h.new ? q_rw(q, c, q->n.file, BLK_READ, 0, h.old, limit) : -ENOMEM;

	if (!ret) {
		h.name = (uint32_t)MIN(ld_be64(h.old + H_BACKING_OFF), (uint64_t)limit);
		h.name_len = h.name ? MIN(ld_be32(h.old + H_BACKING_LEN), limit - h.name) : 0;
		h.list_end = find_end(&h);
		ret = lay_out(&h);
	}
	ret = ret ? ret : write_changes(q, c, &h);
	free(h.old);
	free(h.new);
	return ret;
}
