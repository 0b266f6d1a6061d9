/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file in memory for tests of image formats: it remembers every change in
 * order, with the flushes between, so that the state after any of them can be
 * made again; and it can fail at a chosen request.
 */
#ifndef LODGE_TESTS_BLOCK_RECORD_H
#define LODGE_TESTS_BLOCK_RECORD_H

#include "block/blk.h"

enum event_kind { EVENT_WRITE, EVENT_ZERO, EVENT_EXTEND, EVENT_FLUSH, EVENT_MARK };

struct event {
	enum event_kind kind;
	uint64_t off, len;
	uint8_t *data;			/* WRITE */
	unsigned mark;			/* MARK: the test's own number */
};

struct record {
	struct event *e;
	unsigned n, cap;
	bool on;
};

/* max: bytes the file may grow to. The record belongs to the node. */
int record_open(struct loop *l, uint64_t max, struct blk_node **out);
struct record *record_of(struct blk_node *n);
uint8_t *record_data(struct blk_node *n);
void record_mark(struct blk_node *n, unsigned mark);
/* Fills an empty node with contents. */
void record_load(struct blk_node *n, const uint8_t *data, uint64_t len);
/* Does what the event did. */
void record_apply(struct blk_node *n, const struct event *e);
/* Request `nth` from now (1: the next) fails with err (-EIO ...), and with `on` all after it. 0: none. Counts reads and flushes too. */
void record_fail(struct blk_node *n, uint64_t nth, int err, bool on);
/* Requests are held and done in an order chosen by seed (0: at once, in order); only waiting for the node gets them done. */
void record_shuffle(struct blk_node *n, uint64_t seed);
/* Meanwhile requests are neither counted nor failed. */
void record_pause(struct blk_node *n, bool on);
/* Requests seen since record_fail. */
uint64_t record_seen(struct blk_node *n);

#endif
