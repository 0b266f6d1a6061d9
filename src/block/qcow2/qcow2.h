/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images, version 2 and 3, as specified by QEMU's docs/interop/qcow2.txt.
 *
 * The functions besides open and create are for tools and for a stopped or
 * running guest alike: they wait until they are done (by driving the node), and
 * nothing may be called from inside a callback of the node.  Node arguments must
 * be qcow2 nodes (n->format is "qcow2").
 */
#ifndef LODGE_BLOCK_QCOW2_QCOW2_H
#define LODGE_BLOCK_QCOW2_QCOW2_H

#include "block/image.h"

struct luks_create_opts;
struct luks_info;

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };
enum qcow2_prealloc {
	QCOW2_PREALLOC_OFF,
	QCOW2_PREALLOC_METADATA,	/* every cluster has its place, the file is sparse */
	QCOW2_PREALLOC_FALLOC,		/* and the file system has reserved it */
	QCOW2_PREALLOC_FULL,		/* and zeros are written */
};

/* Zero means the default throughout. */
struct qcow2_create_opts {
	uint64_t size;			/* bytes; rounded up to 512 */
	unsigned version;		/* 2 or 3; default 3 */
	uint32_t cluster_size;		/* 512 B to 2 MiB; default 64 KiB (extended_l2: 16 KiB at least) */
	unsigned refcount_bits;		/* 1, 2, 4 ... 64; default 16 (version 2: only that) */
	enum qcow2_compression compression;
	bool lazy_refcounts, extended_l2;
	const char *backing, *backing_format;	/* as they are to be written; the file is not looked at */
	const char *data_file;		/* external data file, as written; must exist and be empty or as long as the disk */
	bool data_file_raw;
	enum qcow2_prealloc prealloc;
	/* Encryption with LUKS: how, and the id of the passphrase among secrets. NULL: none */
	const struct luks_create_opts *luks;
	struct blk_secrets *secrets;
	const char *key;
};

/* Would qcow2_create take these? -EINVAL with the reason */
int qcow2_create_check(const struct qcow2_create_opts *o, struct err *e);

/* Writes an empty image to an open-ended node. */
int qcow2_create(struct blk_node *file, const struct qcow2_create_opts *o, struct err *e);

/* Takes `file` over if it succeeds. depth: number of layers above. */
int qcow2_open(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
	       struct err *e);

/* Gives every cluster from byte `from` on its place, as creation with this mode does; what is there must read as
 * zeros (it has just been made: from is the disk's former size). */
int qcow2_preallocate(struct blk_node *n, uint64_t from, enum qcow2_prealloc mode, struct err *e);

struct qcow2_info {
	unsigned version;
	uint32_t cluster_size;
	unsigned refcount_bits;
	enum qcow2_compression compression;
	bool lazy_refcounts, extended_l2, dirty, corrupt, data_file_raw;
	uint64_t virtual_size, file_size;	/* bytes; the end of the image's file */
	/* As written in the image; NULL: none. Live as long as the node. */
	const char *backing, *backing_format, *data_file;
	unsigned n_snapshots, n_bitmaps;
	const struct luks_info *encryption;	/* NULL: none */
};
void qcow2_get_info(struct blk_node *n, struct qcow2_info *out);

/* Names another backing file (NULL: none) without touching data. */
int qcow2_set_backing(struct blk_node *n, const char *backing, const char *format, struct err *e);

/* The backing image is `backing`, owned by n from now on, instead of none (no_backing) or of another, which is the
 * caller's then (returned through *old; NULL: there must be none).  Only what shows is changed, not the name
 * in the image.  Nothing is in flight. EBUSY: there is one */
int qcow2_plug_backing(struct blk_node *n, struct blk_node *backing, struct blk_node **old);

/* The node of an external data file; NULL: there is none. */
struct blk_node *qcow2_data_file(struct blk_node *n);

/* Makes the image empty again: everything is unallocated and shows the backing file (after a commit).
 * Not with internal snapshots. */
int qcow2_make_empty(struct blk_node *n, struct err *e);

struct qcow2_snapshot {
	char *id, *name;		/* UTF-8 as in the image */
	uint64_t disk_size, vm_state_size, vm_clock_ns;
	uint64_t icount;		/* instructions the guest had executed; UINT64_MAX: not counted */
	uint32_t date_sec, date_nsec;
};
/* malloc'ed array of n; free with qcow2_snapshots_free. */
int qcow2_snapshot_list(struct blk_node *n, struct qcow2_snapshot **out, unsigned *count, struct err *e);
/* The same without copies and, but for the first time after a change, without I/O; valid until the next change, with the lock held. */
int qcow2_snapshot_known(struct blk_node *n, const struct qcow2_snapshot **out, unsigned *count);
void qcow2_snapshots_free(struct qcow2_snapshot *s, unsigned count);
int qcow2_snapshot_create(struct blk_node *n, const char *name, struct err *e);
/* By name, or by id if no name fits. Apply: the disk is as it was then. */
int qcow2_snapshot_apply(struct blk_node *n, const char *name_or_id, struct err *e);
int qcow2_snapshot_delete(struct blk_node *n, const char *name_or_id, struct err *e);
/* The same by id alone: several may have one name. */
int qcow2_snapshot_apply_id(struct blk_node *n, const char *id, struct err *e);
int qcow2_snapshot_delete_id(struct blk_node *n, const char *id, struct err *e);
/* Shows the disk as it was then, with its size of then, for as long as the node is open, which must be read-only. */
int qcow2_snapshot_view(struct blk_node *n, const char *name_or_id, struct err *e);

/*
 * The state of the VM, in clusters behind the disk's end ("VM state" in the specification), which begin where the L1 entry after the
 * disk's last begins.  It is written there, goes into the snapshot that is made next, and is then not the disk's any more.  What an
 * interrupted save has left there is gone with the next change of snapshots or of the size.
 */
#define QCOW2_VMSTATE_UNIT (2u << 20)	/* offsets are multiples of this: of all sizes a cluster may have */
/* Room for so many bytes, which read as zeros. EFBIG: there cannot be that much */
int qcow2_vmstate_begin(struct blk_node *n, uint64_t bytes, struct err *e);
/* len: all that the vector has; what is left of its last cluster becomes zeros. 0 or -errno */
int qcow2_vmstate_write(struct blk_node *n, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len);
/* Forgets what was written, without a snapshot. */
int qcow2_vmstate_drop(struct blk_node *n);

/* A snapshot with what tells of the VM; several disks' of one moment have the same.  Several snapshots may have one name then. */
struct qcow2_vm {
	uint64_t state_size, clock_ns;	/* state_size 0: the state is in another image */
	uint32_t date_sec, date_nsec;
};
#define QCOW2_ID_LEN 24
int qcow2_snapshot_create_vm(struct blk_node *n, const char *name, const struct qcow2_vm *vm, char id[QCOW2_ID_LEN], struct err *e);

/* Reads the state of the snapshot with this id; what was never written reads as zeros.  In sectors, up to the end of the last cluster.  The snapshot must not be deleted meanwhile. */
struct qcow2_vmstate;
int qcow2_vmstate_open(struct blk_node *n, const char *id, struct qcow2_vmstate **out, struct err *e);
int qcow2_vmstate_read(struct qcow2_vmstate *v, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len);
void qcow2_vmstate_close(struct qcow2_vmstate *v);

enum { QCOW2_FIX_LEAKS = 1, QCOW2_FIX_ERRORS = 2 };
struct qcow2_check {
	uint64_t corruptions, leaks, check_errors;	/* what is there, or was before it was repaired */
	uint64_t corruptions_fixed, leaks_fixed;
	uint64_t allocated_clusters, total_clusters, compressed_clusters, fragmented_clusters;
	uint64_t image_end_offset;
	void (*say)(void *opaque, const char *line);	/* one line a finding; may be NULL. Set by the caller. */
	void *opaque;
};
/* Compares refcounts with what refers to clusters, and repairs as `fix` says (the node must be
 * writable). 0 if the check could be done, whatever it found. */
int qcow2_check(struct blk_node *n, unsigned fix, struct qcow2_check *res, struct err *e);

#endif
