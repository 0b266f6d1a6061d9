/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw file node's inside: file.c opens and dispatches, file_uring.c is the
 * fast path, file_run.c does any request synchronously on a worker of pool.c,
 * file_ahead.c reserves room, file_lock.c keeps two machines off one image.
 */
#ifndef LODGE_BLOCK_FILE_H
#define LODGE_BLOCK_FILE_H

#include <stdatomic.h>

#include "base/bits.h"
#include "base/confine.h"
#include "block/blk.h"

/* Of r->drv[]: bytes already transferred; whether the request is counted in
 * writes_active; whether it is the read-modify-write that runs alone. */
enum { DRV_DONE, DRV_ORDERED, DRV_RMW };

struct file_ring;
struct pool;

struct blk_file {
	struct blk_node n;
	int fd;
	enum blk_cache cache;
	bool no_lock;			/* nobody is kept away */
	bool asked_unit;		/* a device: for the unit of its discards */
	bool direct;			/* O_DIRECT: offsets, lengths and memory must be aligned */
	uint32_t mem_align;		/* of buffers, direct only */
	struct pool *pool;
	struct file_ring *ring;		/* NULL: every request goes to the pool */

	/* What the host turned out not to do; workers write, all read. */
	atomic_bool no_punch, no_zero;
	/* A failed flush may have lost pages for good: later ones must not succeed. */
	atomic_int flush_error;

	/* Direct I/O with blocks above 512 bytes: a write that is smaller than a
	 * block is read-modify-write, and no other write may run beside it. */
	unsigned writes_active;
	bool rmw_active;
	struct blk_req *waiting, **waiting_end;

	/* A new file that is filled (blk_open_opts.reserve); file_ahead.c. */
	struct file_ahead {
		bool on;
		bool cut;		/* the file is shorter than the disk until it is settled */
		uint64_t written;	/* where the last write of all ends */
		uint64_t reserved;	/* room is there up to here */
		uint64_t step;		/* how far the next reservation goes */
	} ahead;
};

/* file_run.c: does the request (from r->drv[DRV_DONE] on) and returns 0 or -errno. */
int file_run(struct blk_file *f, struct blk_req *r);
/* Reads what the page cache has without waiting for anything: true if that was all of it. Else r goes on on a worker. */
bool file_read_cached(struct blk_file *f, struct blk_req *r);
/* Direct I/O that the kernel would refuse as it is. */
bool file_needs_bounce(const struct blk_file *f, const struct blk_req *r);
/* Translates the outcome of fdatasync. */
int file_flush_result(struct blk_file *f, int ret);

/* file_ahead.c, for the loop's thread. A file opened with blk_open_opts.reserve: before anything is written to it. */
void file_ahead_start(struct blk_file *f);
/* Before write r goes to a worker. */
void file_ahead_write(struct blk_file *f, const struct blk_req *r);
/* Gives back what was reserved for nothing and makes the file as long as the disk. 0 or -errno. Nothing is in flight that
 * was not submitted before. */
int file_ahead_settle(struct blk_file *f);

/* file_uring.c.  -errno if this host or container has no io_uring. */
int file_ring_new(struct blk_file *f, struct file_ring **out);
/* False: not for the ring, give it to the pool. */
bool file_ring_submit(struct file_ring *fr, struct blk_req *r);
unsigned file_ring_in_flight(const struct file_ring *fr);
void file_ring_wait(struct file_ring *fr);
void file_ring_free(struct file_ring *fr);

/* Completions are for another loop from now on. Nothing is in the ring. 0 or -errno, nothing changed */
int file_ring_move(struct file_ring *fr, struct loop *l);

/* The descriptor has become another one. Nothing is in the ring. */
int file_ring_new_fd(struct file_ring *fr);

/* file_lock.c */
int file_lock(int fd, const char *path, bool exclusive, struct err *e);
void file_unlock(int fd);
/* From one kind to the other, without a moment in which neither is held. -EAGAIN: somebody is in the way, the old one
 * is kept. [never towards shared] */
int file_relock(int fd, bool exclusive);

/* pool.c: threads that appear with work and end with the pool; `c` is what they may ask of the kernel. */
int pool_new(unsigned max_threads, enum confine_class c, void (*run)(void *opaque, struct blk_req *r), void *opaque,
	     struct pool **out);
void pool_submit(struct pool *p, struct blk_req *r);
/* Until some request ends; at once if there is none. */
void pool_wait(struct pool *p);
void pool_free(struct pool *p);

#endif
