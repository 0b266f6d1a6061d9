/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps in qcow2 images: which parts of the disk changed since a moment,
 * for incremental backup.
 *
 * A bitmap has a name, a granularity (bytes of the disk for a bit), and records
 * what is written or not.  While an image is open for writing, those that record
 * are marked as in use in the file and kept up to date in memory; closing the image
 * writes them and takes the mark away.  After a crash the mark is still there: such
 * a bitmap says nothing, and can only be removed.  A bitmap may say that too much
 * changed (after memory ran short, or a snapshot was applied), never too little.
 *
 * The same rules as in qcow2.h: nodes are qcow2 nodes, functions wait, and changes
 * are on disk when they return.
 */
#ifndef LODGE_BLOCK_QCOW2_BITMAP_H
#define LODGE_BLOCK_QCOW2_BITMAP_H

#include "block/blk.h"
#include "block/dirty.h"

#define QCOW2_BITMAP_NAME_MAX 1023
#define QCOW2_BITMAP_ENTRY 24u		/* bytes of the directory for each, before its name */

struct qcow2_bitmap {
	char *name;
	uint64_t granularity;		/* bytes, a power of two */
	bool recording;			/* notes what is written */
	bool in_use;			/* marked so in the file: while open for writing it records, else it is worthless */
	bool inconsistent;		/* worthless: the image was not closed */
	bool busy;			/* a backup uses it, and nobody else may meanwhile */
};
/* malloc'ed array of count; free with qcow2_bitmaps_free. */
int qcow2_bitmap_list(struct blk_node *n, struct qcow2_bitmap **out, unsigned *count, struct err *e);
void qcow2_bitmaps_free(struct qcow2_bitmap *b, unsigned count);

/* granularity: 512 B to 2 GiB, 0: the cluster size, but 4 KiB to 64 KiB. EEXIST, ENOTSUP (version 2), EINVAL */
int qcow2_bitmap_add(struct blk_node *n, const char *name, uint64_t granularity, bool recording, struct err *e);
int qcow2_bitmap_remove(struct blk_node *n, const char *name, struct err *e);
int qcow2_bitmap_clear(struct blk_node *n, const char *name, struct err *e);
int qcow2_bitmap_record(struct blk_node *n, const char *name, bool on, struct err *e);
/* What changed by the bitmap `from_name` of `from` (may be n itself; of the same size), changed by this one too. */
int qcow2_bitmap_merge(struct blk_node *n, const char *name, struct blk_node *from, const char *from_name, struct err *e);

/* What a bitmap says, to be put back if what follows does not succeed.  Restore: as it was then, which takes the copy; what the guest
 * wrote since is lost, so nothing may have been written. */
struct qcow2_bitmap_copy;
int qcow2_bitmap_save(struct blk_node *n, const char *name, struct qcow2_bitmap_copy **out, struct err *e);
void qcow2_bitmap_restore(struct blk_node *n, const char *name, struct qcow2_bitmap_copy *c);
void qcow2_bitmap_copy_free(struct blk_node *n, struct qcow2_bitmap_copy *c);

/* The first range at or behind off that is dirty: *len 0 if there is none. Also of a node open read-only. */
int qcow2_bitmap_next(struct blk_node *n, const char *name, uint64_t off, uint64_t *at, uint64_t *len, struct err *e);
/* Bytes that are dirty, all together; unchanged on an error. */
int qcow2_bitmap_count(struct blk_node *n, const char *name, uint64_t *bytes, struct err *e);
/* [off, off+len) counts as clean: parts of the granularity inside it only. In memory; on disk when the image is closed
 * or another function of this file is called. */
int qcow2_bitmap_reset(struct blk_node *n, const char *name, uint64_t off, uint64_t len, struct err *e);

/*
 * For backups (job.h).  Freeze: what the bitmap says now is set in `out` (of the disk's size; NULL: nobody wants to know)
 * and put aside, and what is written from now on is noted apart.  Thaw: what was put aside is forgotten, since there
 * is a copy of it, or with `keep` joins what was noted since.  owner tells one backup from another.  An image
 * that is closed or reopened read-only meanwhile keeps both, and so does its file; the file's bitmap is marked as in use
 * all the time (or, if it does not record, as it was).  Besides errors of the others EBUSY: another backup has it.
 */
int qcow2_bitmap_freeze(struct blk_node *n, const char *name, const void *owner, struct blk_dirty *out, struct err *e);
/* n still has the bitmap, and it is the owner's; else nothing happens. */
void qcow2_bitmap_thaw(struct blk_node *n, const char *name, const void *owner, bool keep);

#endif
