/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of a VHDX image (2.3): changes of metadata that may not have reached
 * their place.
 *
 * The log is a ring of entries.  Those to be carried out are the longest-numbered
 * run of valid entries with consecutive numbers, from the one that its last entry
 * calls the tail.  They are carried out in memory only.
 *
 * Bounds: the log is read whole, so one of more than MAX_LOG is refused (programs
 * use 1 MiB); checksums are computed over CRC_BUDGET times its length at most.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/crc32c.h"
#include "block/foreign/patched.h"
#include "block/foreign/vhdx.h"

#define MAX_LOG (16u << 20)
#define CRC_BUDGET 16u
#define UNIT 4096u			/* of everything in the log */

enum {
	E_CHECKSUM = 4, E_LEN = 8, E_TAIL = 12, E_SEQUENCE = 16, E_N = 24, E_GUID = 32, E_FLUSHED = 48, E_LAST = 56, E_HEADER = 64,
	D_TRAILING = 4, D_LEADING = 8, D_ZERO_LEN = 8, D_OFF = 16, D_SEQUENCE = 24, D_SIZE = 32,
	S_HIGH = 4, S_LOW = 4092,
};

struct entry {
	uint32_t off, len, tail, n;	/* bytes in the log; descriptors */
	uint64_t sequence, flushed, last;
};

struct log {
	const struct foreign_opening *op;
	const struct vhdx_header *h;
	uint8_t *p;
	uint32_t len;
	uint64_t budget;		/* bytes that may yet be summed */
	bool seen;			/* there is something that looks like an entry of this log */
	struct entry *run, *best;	/* room for all there can be */
	unsigned n_run, n_best;
	struct patch *patch;
	size_t n_patches;
};

/* The i-th unit of the entry that begins at off: the ring has no end. */
static uint8_t *unit_at(const struct log *l, uint32_t off, uint32_t i)
{
	return l->p + (off + (uint64_t)i * UNIT) % l->len;
}

static const uint8_t *descriptor_at(const struct log *l, const struct entry *e, uint32_t i)
{
	uint32_t at = E_HEADER + i * D_SIZE;

	return unit_at(l, e->off, at / UNIT) + at % UNIT;
}

static uint32_t header_units(uint32_t n)
{
	return (uint32_t)((E_HEADER + (uint64_t)n * D_SIZE + UNIT - 1) / UNIT);
}

static bool sum_ok(struct log *l, const struct entry *e)
{
	static const uint8_t none[4];
	const uint8_t *first = unit_at(l, e->off, 0);
	uint32_t crc;

	if (e->len > l->budget)
		return false;
	l->budget -= e->len;
	crc = crc32c(0, first, E_CHECKSUM);
	crc = crc32c(crc, none, 4);
	crc = crc32c(crc, first + E_CHECKSUM + 4, UNIT - E_CHECKSUM - 4);
	for (uint32_t i = 1; i < e->len / UNIT; i++)
		crc = crc32c(crc, unit_at(l, e->off, i), UNIT);
	return crc == ld_le32(first + E_CHECKSUM);
}

/* Are the descriptors sound, and is the data there that they speak of? */
static bool descriptors_ok(const struct log *l, const struct entry *e)
{
	uint32_t unit = header_units(e->n), units = e->len / UNIT;

	for (uint32_t i = 0; i < e->n; i++) {
		const uint8_t *d = descriptor_at(l, e, i), *data;
		uint64_t off = ld_le64(d + D_OFF);

		if (ld_le64(d + D_SEQUENCE) != e->sequence || off % UNIT || off > INT64_MAX / 2)
			return false;
		if (!memcmp(d, "zero", 4)) {
			if (ld_le64(d + D_ZERO_LEN) % UNIT || ld_le64(d + D_ZERO_LEN) > INT64_MAX / 2)
				return false;
			continue;
		}
		if (memcmp(d, "desc", 4) != 0 || unit >= units)
			return false;
		data = unit_at(l, e->off, unit++);
		if (memcmp(data, "data", 4) != 0 || ld_le32(data + S_HIGH) != (uint32_t)(e->sequence >> 32) ||
		    ld_le32(data + S_LOW) != (uint32_t)e->sequence)
			return false;
	}
	return true;
}

/* 2.3.1.1 */
static bool entry_at(struct log *l, uint32_t off, struct entry *e)
{
	const uint8_t *p = l->p + off;

	if (memcmp(p, "loge", 4) != 0 || memcmp(p + E_GUID, l->h->log_guid, 16) != 0)
		return false;
	l->seen = true;
	*e = (struct entry){ .off = off, .len = ld_le32(p + E_LEN), .tail = ld_le32(p + E_TAIL), .n = ld_le32(p + E_N),
			     .sequence = ld_le64(p + E_SEQUENCE), .flushed = ld_le64(p + E_FLUSHED), .last = ld_le64(p + E_LAST) };
	if (!e->len || e->len % UNIT || e->len > l->len || e->tail % UNIT || e->tail >= l->len || !e->sequence ||
	    header_units(e->n) > e->len / UNIT)
		return false;
	return sum_ok(l, e) && descriptors_ok(l, e);
}

/* Entries from off on with consecutive numbers, once around at most. Returns the bytes they take. */
static uint32_t collect_run(struct log *l, uint32_t off)
{
	uint32_t total = 0;
	struct entry e;

	l->n_run = 0;
	while (total < l->len && entry_at(l, (uint32_t)(((uint64_t)off + total) % l->len), &e)) {
		if (e.len > l->len - total || (l->n_run && e.sequence != l->run[l->n_run - 1].sequence + 1))
			break;
		l->run[l->n_run++] = e;
		total += e.len;
	}
	return total;
}

/* Is the run whole, and newer than the best so far? */
static void consider_run(struct log *l)
{
	const struct entry *head = &l->run[l->n_run - 1];
	unsigned first = 0;

	while (first < l->n_run && l->run[first].off != head->tail)
		first++;
	if (first == l->n_run || (l->n_best && l->best[l->n_best - 1].sequence >= head->sequence))
		return;
	l->n_best = l->n_run - first;
	memcpy(l->best, l->run + first, l->n_best * sizeof(*l->best));
}

/* 2.3.2 */
static void find_active(struct log *l)
{
	uint32_t off = 0;

	while (off < l->len && l->budget) {
		uint32_t taken = collect_run(l, off);

		if (l->n_run)
			consider_run(l);
		off += taken ? taken : UNIT;
	}
}

static void add_patches(struct log *l, const struct entry *e)
{
	uint32_t unit = header_units(e->n);

	for (uint32_t i = 0; i < e->n; i++) {
		const uint8_t *d = descriptor_at(l, e, i);
		struct patch *p = &l->patch[l->n_patches];
		uint8_t *data;

		*p = (struct patch){ .off = ld_le64(d + D_OFF), .len = UNIT };
		if (!memcmp(d, "zero", 4)) {
			p->len = ld_le64(d + D_ZERO_LEN);
			l->n_patches += p->len != 0;
			continue;
		}
		/* The first 8 and last 4 bytes of a sector lie in its descriptor. */
		data = unit_at(l, e->off, unit++);
		memcpy(data, d + D_LEADING, 8);
		memcpy(data + UNIT - 4, d + D_TRAILING, 4);
		p->data = data;
		l->n_patches++;
	}
}

static int carry_out(struct log *l, struct blk_node **out)
{
	const struct entry *head = &l->best[l->n_best - 1];
	uint64_t n = 0, end = 0;
	int ret;

	if (head->flushed > l->op->file->i.size || head->last > INT64_MAX / 2)
		return foreign_bad(l->op, "the file is shorter than its log says");
	for (unsigned i = 0; i < l->n_best; i++) {
		n += l->best[i].n;
		end = MAX(end, l->best[i].last);
	}
	l->patch = calloc(n + 1, sizeof(*l->patch));
	ret = l->patch ? 0 : -ENOMEM;
	for (unsigned i = 0; i < l->n_best && !ret; i++)
		add_patches(l, &l->best[i]);
	ret = ret ? ret : patches_settle(&l->patch, &l->n_patches);
	ret = ret ? ret : patched_open(l->op->file, l->patch, l->n_patches, l->p, end, out);
	if (ret)
		return err_set(l->op->e, ret, "out of memory while opening image '%s'", l->op->path);
	log_info("image '%s' was not closed properly: %u entries of its log are taken into account", l->op->path, l->n_best);
	l->patch = NULL;
	l->p = NULL;
	return 0;
}

static int read_log(struct log *l)
{
	const struct vhdx_header *h = l->h;
	uint64_t size = l->op->file->i.size;
	int ret;

	if (h->log_len > MAX_LOG)
		return err_set(l->op->e, -EFBIG, "image '%s' was not closed properly, and its log of %u bytes is longer than is read here: "
			       "let the program that wrote it repair it", l->op->path, h->log_len);
	if (!h->log_len || h->log_len % VHDX_MIB || h->log_off % VHDX_MIB || h->log_off < VHDX_MIB ||
	    !range_inside(h->log_off, h->log_len, size))
		return foreign_bad(l->op, "the place of its log");
	l->len = h->log_len;
	l->budget = (uint64_t)l->len * CRC_BUDGET;
	l->p = malloc(l->len);
	l->run = calloc(l->len / UNIT, sizeof(*l->run));
	l->best = calloc(l->len / UNIT, sizeof(*l->best));
	ret = l->p && l->run && l->best ? blk_pread(l->op->file, h->log_off, l->p, l->len) : -ENOMEM;
	return ret ? err_set(l->op->e, ret, "the log of image '%s' cannot be read: %s", l->op->path, strerror(-ret)) : 0;
}

int vhdx_replay(const struct foreign_opening *op, const struct vhdx_header *h, struct blk_node **out)
{
	struct log l = { .op = op, .h = h };
	int ret = read_log(&l);

	*out = NULL;
	if (!ret)
		find_active(&l);
	if (!ret && l.n_best)
		ret = carry_out(&l, out);
	else if (!ret && l.seen)
		ret = foreign_bad(op, "it was not closed properly and its log is damaged: let the program that wrote it repair it");
	free(l.p);
	free(l.run);
	free(l.best);
	free(l.patch);
	return ret;
}
