/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room in the file ahead of what is in use, and its end.
 *
 * File systems do writes behind the end of a file one by one.  Where several are
 * under way the file is made longer ahead of them, in steps; where they come one
 * by one anyway that would only cost a conversion of reserved room for each.  Closing the image
 * takes back what is left of it.  After a sudden death the next one who opens the image for
 * writing does, as far as nobody wrote there.
 */
#include "base/log.h"
#include "block/qcow2/internal.h"

#define AHEAD_REQUESTS 4u
#define AHEAD_MIN (16ull << 20)
#define AHEAD_MAX (64ull << 20)
#define MAX_EXTENTS 256u

void ahead_grow(struct qcow2 *q)
{
	uint64_t at = q->end << q->cluster_bits, step = MIN(MAX(AHEAD_MIN, at / 16), AHEAD_MAX);

	if (q->n.in_flight < AHEAD_REQUESTS || q->end <= q->extended || q->no_ahead || !q->zero_beyond)
		return;
	if (blk_file_grow(q->n.file, align_up(at + step, q->cluster))) {
		q->no_ahead = true;
		return;
	}
	q->ahead = true;
	q->extended = align_up(at + step, q->cluster) >> q->cluster_bits;
}

void ahead_give_back(struct qcow2 *q)
{
	if (q->ahead && q->n.file->i.size > q->end << q->cluster_bits)
		blk_resize(q->n.file, q->end << q->cluster_bits, NULL);
}

/* The clusters at the end that nothing uses, if they are no more than were ever made ahead: else they are somebody's
 * intention. arg: where they begin. */
static int find_used(struct qcow2 *q, struct co *c, void *arg)
{
	uint64_t first = q->end, *end = arg, most = (AHEAD_MAX >> q->cluster_bits) + 1, v = 0;
	int ret = 0;

	*end = q->end;
	while (first && !ret && q->end - first <= most) {
		ret = rc_get(q, c, first - 1, &v);
		if (!ret && v) {
			*end = first;
			break;
		}
		first--;
	}
	return ret;
}

/* Behind `off` there is nothing but holes and room reserved: where that begins. Else the end of the file. */
static uint64_t written_end(struct blk_node *file, uint64_t off)
{
	uint64_t end = off, size = file->i.size;
	struct blk_extent x;

	for (unsigned i = 0; off < size; i++, off += x.len) {
		if (i == MAX_EXTENTS || blk_block_status(file, off, size - off, true, &x) || !x.len)
			return size;
		end = x.zero ? end : off + x.len;
	}
	return end;
}

void ahead_recover(struct qcow2 *q)
{
	struct blk_node *file = q->n.file;
	uint64_t used, keep;

	if (!q->zero_beyond || q->ahead || !blk_file_is_regular(file) || q_alone(q, find_used, &used) || used == q->end)
		return;
	keep = align_up(written_end(file, MIN(used << q->cluster_bits, file->i.size)), q->cluster);
	if (keep >= file->i.size || blk_resize(file, keep, NULL))
		return;
	log_info("image '%s' was not closed properly: %llu bytes behind its contents are given back", q->n.path ? q->n.path : "",
		 (unsigned long long)((q->end << q->cluster_bits) - keep));
	q->end = q->extended = keep >> q->cluster_bits;
}
