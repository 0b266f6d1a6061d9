/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk as every controller has it: a block node, what the user set about it,
 * the policy for errors of the host, requests that wait to be repeated, and what
 * is counted.
 *
 * A front end (virtio/blk.c, device/nvme.c ...) embeds struct disk, makes a
 * struct disk_req of each command and starts it; answer() is called exactly once
 * unless the request is forgotten.  What the guest sees of a request, and how
 * one that is kept is saved, is the front end's.
 *
 * Everything here is protected by the disk's lock: that of its I/O thread
 * (machine/iothread.h), or without one the machine's.
 */
#ifndef LODGE_STORAGE_DISK_H
#define LODGE_STORAGE_DISK_H

#include "block/blk.h"
#include "machine/iothread.h"
#include "machine/machine.h"

#define DISK_SERIAL_LEN 20

/* What becomes of a request that failed on the host; names and meaning are those of QEMU's rerror= and werror=. */
enum disk_on_error {
	DISK_REPORT,	/* the guest gets an I/O error */
	DISK_STOP,	/* the machine pauses; the request is repeated when it goes on */
	DISK_IGNORE,	/* the guest is told that all is well */
	DISK_ENOSPC,	/* STOP if the host has no room, else REPORT. Not for reads */
};

struct disk_opts {
	char serial[DISK_SERIAL_LEN + 1];	/* "": none */
	uint32_t block_size;			/* logical, power of two, 512 to 4096; 0: 512 */
	uint32_t physical_block;		/* power of two, block_size to 1 MiB; 0: the node's */
	uint32_t min_io, opt_io;		/* bytes, multiples of block_size; 0: the node's */
	uint32_t discard_unit;			/* bytes, power of two from block_size on; 0: the node's */
	bool no_discard;			/* offer neither discard nor that zeros may deallocate */
	enum disk_on_error on_read_error, on_write_error;	/* flushes and ranges are writes */
	struct iothread *io;			/* whose loop the node is on; NULL: the machine's */
};

enum { DISK_READS, DISK_WRITES, DISK_FLUSHES, DISK_DISCARDS, DISK_ZEROES, DISK_KINDS };

/* Bucket 0: below 1 us; bucket i: from 2^(i-1) us to below 2^i us; the last has no end. */
#define DISK_BUCKETS 28

struct disk_op_stats {
	uint64_t count, bytes;		/* that succeeded */
	uint64_t failed;		/* that the guest was told have failed */
	uint64_t total_ns, max_ns;	/* of those that succeeded, from disk_start to the answer */
	uint64_t latency[DISK_BUCKETS];
};

struct disk_stats {
	struct disk_op_stats op[DISK_KINDS];
	uint64_t invalid;		/* requests refused for what they ask; counted by the front end */
	uint64_t errors;		/* of the host: reported, ignored and repeated ones */
	uint64_t retried, ignored;
	uint64_t in_flight, max_in_flight;
};

struct disk_req;
struct disk;
struct disk_media_ops;

/* Who wants to hear of a disk; its lock held, on its thread or with the machine lock. Either may be NULL. */
struct disk_watch {
	/* An error of the host. DISK_STOP: the request is kept. */
	void (*error)(void *opaque, struct disk *d, bool is_read, enum disk_on_error action, int ret);
	/* A drive's tray was opened or closed. */
	void (*tray)(void *opaque, struct disk *d, bool open);
	void *opaque;
};

struct disk {
	struct machine *m;
	struct blk_node *node;
	char id[32];
	struct disk_opts o;		/* as given, with what was left open filled in */
	struct disk_stats stats;
	/* All requests that ended together were answered: time for one interrupt. May be NULL. */
	void (*batch_done)(struct disk *d);
	/* The node's size is another: the guest is told. Set by the front end; both locks held. */
	void (*resized)(struct disk *d);
	const struct disk_media_ops *media;	/* they can be changed (storage/media.h); NULL: not a drive */
	struct disk_watch watch;
	unsigned errors_logged;
	/* Failed on the host, to be submitted again when the machine goes on; in order. */
	struct disk_req *kept, **kept_end;
	bool stop_asked;		/* the machine was asked to pause for them */
	struct iothread_work stop_work;
};

/* A part of a request that discards or writes zeros, in bytes. */
struct disk_range {
	uint64_t offset, len;
	bool unmap;			/* writes zeros: may deallocate */
};

/* Embedded in the front end's own request. Set r.op, r.iov ..., d, answer (all else zero) and start it. */
struct disk_req {
	struct blk_req r;		/* done, opaque and (with ranges) offset, len and unmap are filled in here */
	struct disk *d;
	/* 0 or -errno; answers the guest and frees the request.  The disk's lock held. */
	void (*answer)(struct disk_req *q, int ret);
	struct disk_range *range;	/* done one after the other; NULL: r says it all */
	unsigned n_ranges, at;
	struct disk_req *next;		/* private: in the list of those kept */
	int64_t start_ns;
};

/*
 * Checks the options (EINVAL, with a message) and takes the node, which stays the
 * caller's on an error.  Any thread before the machine runs; no lock needed.
 */
int disk_init(struct disk *d, struct machine *m, const char *id, struct blk_node *node, const struct disk_opts *o,
	      struct err *e);
/* Closes the node; what is in flight is answered before, and what is kept is dropped with a word to the user, `more`
 * requests that the front end keeps in some other way included. */
void disk_fini(struct disk *d, unsigned more, void (*drop)(struct disk_req *q));

/* Gives the request to the node; its time begins. */
void disk_start(struct disk_req *q);
/* Submits what was kept: the machine goes on. */
void disk_retry(struct disk *d);
/* Forgets what was kept and matches (NULL: all). `drop` frees the front end's request. */
void disk_forget(struct disk *d, bool (*which)(const struct disk_req *q, void *opaque), void *opaque,
		 void (*drop)(struct disk_req *q));
unsigned disk_kept(const struct disk *d);

/* The disk's lock, for those who hold the machine's. */
static inline void disk_lock(struct disk *d)
{
	iothread_lock(d->o.io);
}
static inline void disk_unlock(struct disk *d)
{
	iothread_unlock(d->o.io);
}

/* The node's size changes to a multiple of the logical block size, both locks held; the front end then tells the
 * guest (also after an error: it may have failed half way).  EINVAL, or what blk_resize says. */
int disk_resize(struct disk *d, uint64_t size, struct err *e);

/* Machine lock held, the disk's not. */
void disk_get_stats(struct disk *d, struct disk_stats *out);
const char *disk_op_name(unsigned kind);	/* "read" ... "write_zeroes" */
/* Upper end of a histogram's bucket in us; 0 for the last, which has none. */
uint64_t disk_bucket_end_us(unsigned bucket);

/* Bytes of the unit the guest should discard in, and of its physical blocks. */
uint32_t disk_discard_unit(const struct disk *d);
uint32_t disk_physical_block(const struct disk *d);
/* Discards, or zeros that deallocate, reach the host. */
static inline bool disk_can_discard(const struct disk *d)
{
	return d->node->i.can_discard && !d->o.no_discard && !d->node->i.read_only;
}

/* For disk.c and stats.c. */
void disk_count_start(struct disk_req *q, int64_t now_ns);
void disk_count_end(struct disk_req *q, bool ok, int64_t now_ns);

#endif
