/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between bitmap.c (what there is, in memory), bitmap_store.c (onto the disk), bitmap_ops.c (the functions of bitmap.h)
 * and bitmap_live.c (those for backups). */
#ifndef LODGE_BLOCK_QCOW2_BITMAP_INT_H
#define LODGE_BLOCK_QCOW2_BITMAP_INT_H

#include "block/qcow2/bitmap.h"
#include "block/qcow2/bits.h"
#include "block/qcow2/internal.h"

#define BITMAP_IN_USE 1u
#define BITMAP_AUTO 2u
#define BITMAP_EXTRA_OK 4u
#define BITMAP_TRACKING 1u		/* the one type there is */
#define MIN_GRANULARITY 9u
#define MAX_GRANULARITY 31u
#define MAX_BITMAPS 65535u
#define MAX_BITMAP_DIR (1u << 20)
#define BITMAP_ENTRY QCOW2_BITMAP_ENTRY
#define TABLE_ONES 1ull

enum { B_TABLE = 0, B_TABLE_SIZE = 8, B_FLAGS = 12, B_TYPE = 16, B_GRANULARITY = 17, B_NAME_LEN = 18, B_EXTRA_LEN = 20 };

/* One line of the directory. */
struct bitmap {
	char *name;
	uint8_t *extra;			/* kept as it is */
	uint32_t extra_len, flags, table_size;	/* flags: as they are on disk */
	uint8_t type, granularity;	/* log2 */
	uint64_t table;			/* of the file; 0: not written yet */
	struct bits bits;		/* page NULL: not loaded */
	bool held;			/* IN_USE on disk is ours */
	bool changed;			/* the disk does not have these bits */
	/* A backup copies what `frozen` says, and bits are what was written since; NULL: none does. */
	const void *owner;
	struct bits frozen;
};

static inline bool bitmap_loaded(const struct bitmap *b) { return b->bits.page != NULL; }
static inline bool bitmap_inconsistent(const struct bitmap *b) { return (b->flags & BITMAP_IN_USE) && !b->held; }
static inline uint64_t bitmap_size(const struct bitmap *b, uint64_t disk) { return (disk + BIT64(b->granularity) - 1) >> b->granularity; }
uint32_t bitmap_table_size(const struct qcow2 *q, const struct bitmap *b);
uint64_t bitmap_entry_len(const struct bitmap *b);

/* Reads the directory, if that was not done yet. -EINVAL: damaged */
int bitmaps_directory(struct qcow2 *q, struct co *c);
struct bitmap *bitmap_find(struct qcow2 *q, const char *name);
/* Nothing this driver does not know how to handle? */
bool bitmap_usable(const struct qcow2 *q, const struct bitmap *b);
/* Its bits into memory. -EBUSY inconsistent, -ENOTSUP, -EINVAL, -EFBIG */
int bitmap_load(struct qcow2 *q, struct co *c, struct bitmap *b);
void bitmap_fini(struct qcow2 *q, struct bitmap *b);
/* bitmap_live.c: every backup's bits are among the others again, as if it had failed. */
void bitmaps_thaw_all(struct qcow2 *q);

/* bitmap_ops.c: the bitmap, with its bits in memory and of no backup. -ENOENT, -EALREADY, as bitmap_load */
int bitmap_get(struct qcow2 *q, struct co *c, const char *name, struct bitmap **out);
/* One sentence for what can be wrong with a bitmap. Returns ret, or what it means to others. */
int bitmap_explain(const struct blk_node *n, const char *name, int ret, struct err *e);

/* bitmap_store.c: sets or takes away the mark of held bitmaps, where they lie. With a barrier. */
int bitmaps_write_flags(struct qcow2 *q, struct co *c);

#endif
