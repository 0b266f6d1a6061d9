/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long works on a disk in use (on its slot, graph.h): mirror it, back it up, commit
 * its overlays, put a new overlay on it.
 *
 * A job runs on the loop of the disk's nodes; its nodes are all of that loop.  It
 * reports through `event`, never from inside a callback of a node, and has ended when
 * it says BLK_JOB_ENDED: then, and only then, it is freed with blk_job_free.
 *
 * While it runs the disk may be read, written, exported, snapshotted (not with a
 * mirror or commit) and backed up, but not resized or closed: cancel jobs first, and
 * wait for them.  What goes wrong in a job is the job's end, never the guest's error.
 *
 * All functions: any thread that holds the loop's lock, not from inside a callback of
 * a node.
 */
#ifndef LODGE_BLOCK_JOB_H
#define LODGE_BLOCK_JOB_H

#include "block/dirty.h"
#include "block/graph.h"

struct blk_job;

enum blk_job_event {
	BLK_JOB_READY,			/* mirror, active commit: all is copied, and stays so; complete or cancel it */
	BLK_JOB_PENDING,		/* with hold_end: all is done but its end, which blk_job_finalize is to allow */
	BLK_JOB_ENDED,
};

struct blk_job_opts {
	unsigned in_flight;		/* pieces at a time, 0: 4; 32 at most. Memory: 1 MiB each */
	uint64_t rate;			/* bytes copied a second, 0: no limit */
	bool hold_end;			/* a good end waits for blk_job_finalize; till then the guest goes on, and so does the job for what it writes */
	const char *base_name;		/* commit of lower layers, stream: what the layer over base is to call it; NULL: as before */
	bool keep_bitmap;		/* backup: its bitmap is as after a failure also if it succeeds */
	void (*event)(void *opaque, struct blk_job *j, enum blk_job_event ev);	/* may be NULL */
	void *opaque;
};

struct blk_job_info {
	const char *kind;		/* "mirror", "backup", "commit", "stream" */
	bool ready, pending, paused, ended, cancelled;
	uint64_t done, total;		/* bytes; total may grow while the guest writes */
	int ret;			/* once it has ended: 0, -ECANCELED, or what went wrong, */
	const char *message;		/* in words ("" if nothing did) */
};

enum blk_sync {
	BLK_SYNC_FULL,			/* all the disk shows */
	BLK_SYNC_TOP,			/* what its first layer has: the target stands on the same backing image */
	BLK_SYNC_NONE,			/* mirror: only what is written from now on. backup: only what is about to be overwritten */
	BLK_SYNC_DIRTY,			/* backup: what is dirty in a bitmap */
};

/*
 * Mirror: `target` becomes what the disk is, and stays so until the job is completed.  First what is there is copied
 * while the guest's writes are noted; then each write goes to both, and when no difference is left the job is READY.  target is writable, as long as
 * the disk, and the job's if this succeeds.
 */
int blk_mirror_start(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, const struct blk_job_opts *o,
		     struct blk_job **out, struct err *e);

/*
 * Backup: target gets what the disk shows at this moment, whatever the guest writes meanwhile: before something is
 * overwritten it is copied.  BLK_SYNC_DIRTY copies what `bitmap` has, of the disk's size, which then begins anew (its node
 * keeps marking, blk_track_new); if the job fails it is as if it had not been begun anew.  The other modes take bitmap as NULL, or
 * as one that begins anew at this moment too.  BLK_SYNC_NONE runs until it is cancelled, which is then no error.
 * target as with mirror.
 */
int blk_backup_start(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, struct blk_dirty *bitmap,
		     const struct blk_job_opts *o, struct blk_job **out, struct err *e);
/*
 * The same with a dirty bitmap that the disk's image, a qcow2 one open for writing, keeps itself (qcow2/bitmap.h), so that
 * increments go on when the image was closed meanwhile.  The backup has the bitmap to itself; if it succeeds the bitmap says what
 * was written since it began, else what it said before and what was written since.  Should the image be closed or become read-only
 * under the job (a mirror or a snapshot may do that), it keeps saying both.  Also ENOENT: there is no such bitmap; ENOTSUP: no qcow2 image,
 * or an unknown kind of bitmap; EBUSY: it is in use by another backup, or was left in use by a crash; EROFS
 */
int blk_backup_start_persistent(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, const char *bitmap,
				const struct blk_job_opts *o, struct blk_job **out, struct err *e);

/*
 * Commit: what the layers from `top` down to above `base` have is written into base, then they are taken out of the
 * chain and closed; their files stay.  Layers are counted from 0, the disk's image.  top 0: as a mirror, the disk is READY at
 * some time, and then base becomes the image.  top above 0: the layer over top is made to name base as its backing file, and
 * the job ends by itself.  base is opened for writing meanwhile, and longer if top is.
 */
int blk_commit_start(struct blk_node *slot, unsigned top, unsigned base, const struct blk_job_opts *o, struct blk_job **out,
		     struct err *e);

/*
 * Stream: what layers between the disk's image and layer `base` (0: none, then all layers) have is written into the image, which then
 * stands on base, or on nothing.  In the image base is named `base_name` of o, or as the last layer above it did (NULL).
 */
int blk_stream_start(struct blk_node *slot, unsigned base, const struct blk_job_opts *o, struct blk_job **out, struct err *e);

/* Is nothing but what the guest writes to be done, or not even that? It may be asked for again. [mirror: writes are noted] */
void blk_job_pause(struct blk_job *j, bool on);
/* PENDING jobs: now they may end. */
void blk_job_finalize(struct blk_job *j);
/* As if it had never begun, at once: for one that was begun while its slot was held, as it is still.  Frees it. */
void blk_job_abandon(struct blk_job *j);

/* READY jobs.  Switch: the target becomes the disk's image, and the old one is closed.  Else the target is left as the
 * disk is at this moment, and closed.  EBUSY: not ready */
int blk_job_complete(struct blk_job *j, bool switch_over, struct err *e);
/* Ends it soon, with -ECANCELED, unless it has ended by then. What was under way is waited for. */
void blk_job_cancel(struct blk_job *j);
void blk_job_set_rate(struct blk_job *j, uint64_t rate);
void blk_job_info(const struct blk_job *j, struct blk_job_info *out);
void blk_job_free(struct blk_job *j);

/* A filter that marks in `d`, which stays the caller's, what is changed from now on.  Takes child over. ENOMEM */
int blk_track_new(struct blk_node *child, struct blk_dirty *d, struct blk_node **out);

/*
 * Snapshot: `overlay`, an open and empty qcow2 node that has no backing image yet (no_backing), goes on top of the disk,
 * whose image becomes its backing image, read-only.  The caller has written the names into the overlay.  The
 * overlay is the disk's if it succeeds; else the disk is as it was. EBUSY, EINVAL, or what reopening says.
 */
int blk_snapshot_attach(struct blk_node *slot, struct blk_node *overlay, struct err *e);
/* The same with a new file, which must not exist. ENOTSUP: the disk is encrypted, which the file would not be */
int blk_snapshot_file(struct blk_node *slot, const char *path, struct err *e);
/* Undoes either, while the slot is held and was since: the disk is on the image below again.  Its overlay is the caller's then. */
struct blk_node *blk_snapshot_undo(struct blk_node *slot);

#endif
