/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Storage back ends behind one asynchronous interface, with no device words:
 * requests carry host iovecs and byte offsets.
 *
 * A node is a graph element (file, and later format drivers and filters on top
 * of others).  blk_submit never blocks on I/O; the completion callback runs on
 * the node's loop thread, under the loop's lock, never from inside blk_submit.
 * (Only blk_drain and blk_close, which wait, run completions on their caller's
 * thread.)  All functions: any thread that holds the loop's lock.
 */
#ifndef LODGE_BLOCK_BLK_H
#define LODGE_BLOCK_BLK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

#define BLK_SECTOR 512

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };

/* Owned by the caller until done is called. */
struct blk_req {
	enum blk_op op;
	uint64_t offset, len;		/* bytes; inside the node's size, checked by submit */
	const struct iovec *iov;	/* READ, WRITE: sums to len; stays valid until done */
	unsigned niov;
	bool fua;			/* WRITE, ZEROES: on stable storage before done */
	bool unmap;			/* WRITE_ZEROES: may deallocate */
	void (*done)(struct blk_req *r, int ret);	/* 0 or -errno */
	void *opaque;
	/* driver private */
	struct blk_node *node;
	struct blk_req *next;
	uint64_t drv[8];
};

struct blk_node;

struct blk_info {
	uint64_t size;			/* bytes */
	uint32_t request_align;		/* 512 or 4096 with direct I/O: unaligned requests are bounced inside */
	uint32_t physical_block;
	bool read_only, can_discard, can_zero, is_device;
};

enum blk_cache { BLK_CACHE_WRITEBACK, BLK_CACHE_NONE, BLK_CACHE_WRITETHROUGH, BLK_CACHE_UNSAFE };
enum blk_aio { BLK_AIO_AUTO, BLK_AIO_URING, BLK_AIO_THREADS };

struct blk_open_opts {
	bool read_only;
	bool no_lock;			/* do not take the image lock */
	enum blk_cache cache;
	enum blk_aio aio;
};

struct blk_driver {
	const char *name;
	/* A request that passed the checks.  Answered by blk_finish, perhaps at once. */
	void (*submit)(struct blk_node *n, struct blk_req *r);
	/* Blocks until at least one request has been given to blk_finish. */
	void (*wait)(struct blk_node *n);
	/* Under the lock, just before r->done: may submit what waited for r. May be NULL. */
	void (*finished)(struct blk_node *n, struct blk_req *r);
	/* Nothing is in flight any more. Frees the node. */
	void (*close)(struct blk_node *n);
};

struct blk_node {
	const struct blk_driver *drv;
	struct loop *loop;
	struct blk_info i;
	unsigned in_flight;		/* submitted, done not yet called */
	/* Finished requests whose callback is due; appended by any thread. */
	pthread_mutex_t done_lock;
	struct blk_req *done_first, *done_last;
	struct loop_bh done_bh;
};

/* For drivers. */
void blk_node_init(struct blk_node *n, struct loop *l, const struct blk_driver *drv);
void blk_node_fini(struct blk_node *n);
/* Ends a request; its callback runs soon. [any thread, lock or not] */
void blk_finish(struct blk_req *r, int ret);

/* Opens a raw file or block device. The message names the file and the cure;
 * a locked image names the holder (pid) where the kernel tells. */
int blk_open_file(struct loop *l, const char *path, const struct blk_open_opts *o,
		  struct blk_node **out, struct err *e);
/* In-memory node for tests: size bytes, zero. */
int blk_open_mem(struct loop *l, uint64_t size, struct blk_node **out);
/* The n-th request from now, and no other, fails with EIO (0: never). Memory nodes only. */
void blk_mem_fail_after(struct blk_node *n, unsigned nth);
/* Holds requests back until released or drained. Memory nodes only. */
void blk_mem_hold(struct blk_node *n, bool on);
uint8_t *blk_mem_data(struct blk_node *n);

/* Checks the request against the node (range, read-only, iov sum); failures
 * complete asynchronously like any other: EINVAL (a request that is not whole),
 * ERANGE (outside the node), EROFS. */
void blk_submit(struct blk_node *n, struct blk_req *r);
/* Runs this node's completions, here and now, until nothing is in flight. */
void blk_drain(struct blk_node *n);
/* Is another finished request waiting for its callback?  Asked inside a callback,
 * to do once what can be done once for several. */
bool blk_more_finished(struct blk_node *n);
/* Drains, flushes, closes, unlocks. NULL is allowed. Not from inside a callback of the node. */
void blk_close(struct blk_node *n);

#endif
