/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Storage back ends behind one asynchronous interface, with no device words:
 * requests carry host iovecs and byte offsets.
 *
 * A node is a graph element: a file, a format on top of one (image.h opens whole
 * images), a filter.  blk_submit never blocks on I/O; the completion callback runs on
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

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_STATUS };

/* What lies at an offset of a node: the answer to BLK_STATUS. */
struct blk_extent {
	uint64_t len;			/* bytes from the request's offset that are alike; 0 only for an empty request */
	bool allocated;			/* provided by some layer of the chain (shallow: by this one) */
	bool zero;			/* known to read as zeros */
	bool data;			/* there is data, which may be zeros nevertheless */
	bool compressed;
	bool has_offset;		/* `offset` is where the data lies in the file of its layer */
	uint64_t offset;
	unsigned depth;			/* the layer that answered: 0 this node, 1 its backing file ... */
	const char *file;		/* of that layer; NULL if it has none. Lives as long as the node. */
};

/* Owned by the caller until done is called. */
struct blk_req {
	enum blk_op op;
	uint64_t offset, len;		/* bytes; inside the node's size, checked by submit */
	const struct iovec *iov;	/* READ, WRITE: sums to len; stays valid until done */
	unsigned niov;
	bool fua;			/* WRITE, ZEROES: on stable storage before done */
	bool unmap;			/* WRITE_ZEROES: may deallocate */
	bool compress;			/* WRITE: whole clusters, to be stored compressed; ENOTSUP where there is no such thing */
	bool shallow;			/* STATUS: of this layer alone, not of backing files */
	struct blk_extent *ext;		/* STATUS: the answer */
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
	bool can_compress;		/* takes writes with `compress` */
	bool encrypted;			/* what is written here is encrypted by this node, or by what it is made of */
	uint32_t cluster;		/* unit of allocation of a format, 0: none */
	/* What a driver of the disk had better know, in bytes; 0: nothing known. */
	uint32_t min_io, opt_io;	/* least and best size of requests */
	uint32_t align_offset;		/* of the first whole physical block */
	uint32_t discard_unit;		/* smaller discards give nothing back */
};

enum blk_cache { BLK_CACHE_WRITEBACK, BLK_CACHE_NONE, BLK_CACHE_WRITETHROUGH, BLK_CACHE_UNSAFE };
enum blk_aio { BLK_AIO_AUTO, BLK_AIO_URING, BLK_AIO_THREADS };

struct blk_open_opts {
	bool read_only;
	bool no_lock;			/* do not take the image lock */
	bool reserve;			/* for a new file that is to be filled: large writes get their room first */
	/* The node is the inside of an image format: it may be empty, writes past its end make it longer and
	 * reads there give zeros. */
	bool open_ended;
	enum blk_cache cache;
	enum blk_aio aio;
};

struct blk_reopen {
	bool read_only;
	bool set_cache;			/* to `cache`; else it stays */
	enum blk_cache cache;
};

#define BLK_NAME_MAX 31			/* bytes of a node's name, as QEMU has it */

struct blk_driver {
	const char *name;
	bool filter;			/* shows what n->file shows: see filter.h */
	/* A request that passed the checks.  Answered by blk_finish, perhaps at once. */
	void (*submit)(struct blk_node *n, struct blk_req *r);
	/* Blocks until something has got on: a request was given to blk_finish, or a child's has been answered. */
	void (*wait)(struct blk_node *n);
	/* Under the lock, just before r->done: may submit what waited for r. May be NULL. */
	void (*finished)(struct blk_node *n, struct blk_req *r);
	/* Changes the size; i.size is then the new one. Nothing is in flight. NULL: cannot. May wait. */
	int (*resize)(struct blk_node *n, uint64_t size, struct err *e);
	/* Sees to it that the node is at least so long, in i.size and behind it. At once; requests may be in flight. NULL: it is */
	int (*extend)(struct blk_node *n, uint64_t size);
	/* Other ways of access (blk_reopen). Nothing is in flight. NULL: may become read-only. May wait. */
	int (*reopen)(struct blk_node *n, const struct blk_reopen *how, struct err *e);
	/* Goes over to another loop with what is bound to one besides done_bh, file and backing. Nothing is in flight. NULL: nothing
	 * is. 0 or -errno, all as before. */
	int (*move)(struct blk_node *n, struct loop *l);
	/* Nothing is in flight any more. Frees the node, and closes its children. */
	void (*close)(struct blk_node *n);
};

struct blk_node {
	const struct blk_driver *drv;
	struct loop *loop;
	struct blk_info i;
	bool open_ended;		/* see blk_open_opts */
	char *path;			/* as it was opened; NULL: not a file. Freed with the node. */
	const char *format;		/* of an image's top: "raw", "qcow2", "vdi" ...; else NULL */
	char name[BLK_NAME_MAX + 1];	/* that users call it by; "": none (yet) */
	unsigned refs;			/* owners: blk_close is the end of one, and the last one's that of the node */
	unsigned mark;			/* of walks over graphs, to meet each node once */
	bool auto_read_only;		/* its user lets it be opened for writing when that is needed, and not before */
	/* A slot (graph.h) that holds nothing back: requests go straight there. Else NULL. */
	struct blk_node *redirect;
	/* Children, owned (with others, see refs): what an image is stored in, and what shows through it. NULL: none. */
	struct blk_node *file, *backing;
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
/* Makes an empty file for an image, or with `over` empties what is there (locked and
 * checked first, so that no image in use is lost). EEXIST without. */
int blk_create_file(const char *path, bool over, struct err *e);
/* In-memory node for tests: size bytes, zero. */
int blk_open_mem(struct loop *l, uint64_t size, struct blk_node **out);
/* The same as the inside of a format: empty at first, open-ended, at most max bytes. */
int blk_open_mem_file(struct loop *l, uint64_t max, struct blk_node **out);
/* The n-th request from now, and no other, fails with EIO (0: never). Memory nodes only. */
void blk_mem_fail_after(struct blk_node *n, unsigned nth);
/* The same with another error, and for every request from the n-th on if `all`. */
void blk_mem_fail_with(struct blk_node *n, unsigned nth, int error, bool all);
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
/* One step of blk_drain: waits until something has got on, and runs the callbacks that are due.
 * Something must be in flight. */
void blk_progress(struct blk_node *n);
/* Drains, then makes the disk longer or shorter (what is cut off is lost, what is added reads as
 * zeros, or as noise if it is a LUKS volume).  A multiple of 512 bytes.  EINVAL, EROFS, ENOTSUP, or what the host says. */
int blk_resize(struct blk_node *n, uint64_t size, struct err *e);

/* Drains, then has the node and what it is stored in (not backing images) accessed otherwise: for reading only, or for
 * writing again, or with another use of the host's cache.  Image locks go along, and nobody else can come in as a writer
 * meanwhile.  If it fails all is as it was: EBUSY (somebody else uses it), ENOTSUP, or what the host says. */
int blk_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e);

/* Open-ended nodes: see struct blk_driver. 0 or -errno */
int blk_extend(struct blk_node *n, uint64_t size);
/* Makes a regular file `size` bytes long if it is shorter, with room reserved behind its end; requests may be in flight.
 * ENOTSUP: it is no such file, or its file system cannot. */
int blk_file_grow(struct blk_node *n, uint64_t size);
/* How what the node is stored in is opened. */
enum blk_cache blk_cache_of(const struct blk_node *n);
/* Is it a regular file of this host? */
bool blk_file_is_regular(const struct blk_node *n);
/* Has the host reserve room for the whole of a file, as far as its file system can. */
int blk_file_reserve(struct blk_node *n, struct err *e);

/* For tools: the same requests, waited for.  Not from inside a callback of the node.  Offsets
 * and lengths are multiples of 512 bytes.  0 or -errno. */
int blk_pread(struct blk_node *n, uint64_t off, void *buf, size_t len);
int blk_pwrite(struct blk_node *n, uint64_t off, const void *buf, size_t len);
int blk_pwrite_compressed(struct blk_node *n, uint64_t off, const void *buf, size_t len);
int blk_pdiscard(struct blk_node *n, uint64_t off, uint64_t len);
int blk_pwrite_zeroes(struct blk_node *n, uint64_t off, uint64_t len, bool unmap);
int blk_flush(struct blk_node *n);
/* The extent that begins at off, no longer than len, of the whole chain or (shallow) of this layer. */
int blk_block_status(struct blk_node *n, uint64_t off, uint64_t len, bool shallow, struct blk_extent *ext);

/* One more owner. Returns n. */
struct blk_node *blk_ref(struct blk_node *n);
/* Drains, flushes and, unless there are other owners, closes and unlocks. NULL is allowed. Not from inside a callback of the node. */
void blk_close(struct blk_node *n);
/* Drains, and takes the node and all below it to another loop; the locks of both are held.  Nobody else has nodes on the old loop
 * that stand on one of these.  -errno: all is as it was. */
int blk_move(struct blk_node *n, struct loop *l);

#endif
