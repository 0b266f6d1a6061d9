/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images of other programs, read so that people can come over: vdi, vmdk,
 * vhdx, vpc (VHD).  Nobody here writes them: a writable open is refused with the
 * command that converts.
 *
 * A format supplies one function, map, which says what is at an offset of the
 * disk; requests, status, waiting and tables in bounded memory are the same for
 * all (foreign.c, tables.c).  Requests run in coroutines, with map called in one,
 * so map may read tables and wait.
 *
 * Numbers from the file are hostile: each format checks its header when it opens
 * and its table entries where it reads them.  An entry that points outside of its
 * file is an I/O error, not zeros: a file that was cut off must not look whole.
 */
#ifndef LODGE_BLOCK_FOREIGN_FOREIGN_H
#define LODGE_BLOCK_FOREIGN_FOREIGN_H

#include "base/co.h"
#include "base/list.h"
#include "block/image_int.h"

/* For image.c: is the format one of those of other programs, readable here or refused with a reason? */
bool foreign_format(const char *format);
/* Puts the format on `file` and takes that over if it succeeds. depth: number of layers above.
 * EROFS unless o->file.read_only, ENOTSUP: not readable here. */
int foreign_open(const char *format, struct blk_node *file, const struct blk_image_opts *o, unsigned depth,
		 struct blk_node **out, struct err *e);

/* ---- for the formats ---- */

enum piece_kind {
	PIECE_NOTHING,			/* the parent's, or zeros */
	PIECE_ZERO,
	PIECE_DATA,
	PIECE_PACKED,			/* to be unpacked by the format, one unit at a time */
};

struct piece {
	enum piece_kind kind;
	uint64_t len;			/* bytes from the offset asked for; not 0, at most what was asked for */
	struct blk_node *node;		/* DATA, PACKED: where it lies, */
	uint64_t host;			/* and the byte there (PACKED: of the packed unit) */
	uint32_t skip;			/* PACKED: the first byte wanted of the unpacked unit */
};

struct foreign;

struct foreign_ops {
	const char *name;
	/* What is at off, up to max bytes (both multiples of 512). c NULL: not in a coroutine, waits itself. -EIO: damaged */
	int (*map)(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out);
	/* PACKED: the unpacked unit, f->unit bytes. */
	int (*unpack)(struct foreign *f, struct co *c, const struct piece *p, uint8_t *unit);
	/* Frees what the format added to struct foreign, and that. */
	void (*free)(struct foreign *f);
};

/* Blocks of tables in memory. */
struct tables {
	struct table_block *block;	/* max of them */
	struct list lru, *hash;
	unsigned max, n;
	struct co_mutex lock;
};

struct foreign {
	struct blk_node n;
	const struct foreign_ops *ops;
	struct co_pool cos;
	struct tables tables;
	struct blk_node **extra;	/* owned: other files of the image, filters over n.file */
	unsigned n_extra;
	struct blk_node *crew;		/* see work.h; made when first needed */
	uint32_t unit;			/* bytes of a packed unit when unpacked */
	uint64_t backing_size;		/* of n.backing, 0 without */
	bool said;			/* that it is damaged */
};

/* What an image is opened with. */
struct foreign_opening {
	struct blk_node *file;
	const struct blk_image_opts *o;
	unsigned depth;
	const char *path;
	struct err *e;
};

/* Opens one format; on success *out owns op->file. */
int vdi_open(const struct foreign_opening *op, struct foreign **out);
int vhdx_open(const struct foreign_opening *op, struct foreign **out);
int vmdk_open(const struct foreign_opening *op, struct foreign **out);
int vpc_open(const struct foreign_opening *op, struct foreign **out);

/* In the embedded struct, all zero before: sets up the node. ENOMEM with the message. On failure, and
 * on any later one, the format calls foreign_drop. */
int foreign_init(struct foreign *f, const struct foreign_opening *op, const struct foreign_ops *ops);
/* Undoes a failed open: all but op->file is closed and freed. Returns ret. */
int foreign_drop(struct foreign *f, int ret);
/* The message for a file that makes no sense: "image 'x' is no good: WHAT". */
int foreign_bad(const struct foreign_opening *op, const char *what);
/* Damage found while running: said once. Returns -EIO. */
int foreign_damaged(struct foreign *f, const char *what, uint64_t where);
/* The backing file. */
int foreign_parent(struct foreign *f, const struct foreign_opening *op, const char *path, const char *format);
/* Of a node that foreign_open made; NULL: another. */
struct foreign *foreign_of(struct blk_node *n);
/* Adds a node to f->extra, which owns it then. */
int foreign_add_node(struct foreign *f, struct blk_node *n);
/* The first bytes of a file, 512 at a time; zeros behind its end. */
int foreign_head(const struct foreign_opening *op, uint64_t off, void *buf, size_t len);

/* Reads multiples of 512 bytes. c NULL: waits itself. */
int foreign_read(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off, void *buf, size_t len);
/* len bytes of a table at any place of n, through the cache. */
int foreign_table(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off, void *buf, size_t len);
/* Runs fn(arg) on a thread. Its result. */
int foreign_work(struct foreign *f, struct co *c, int (*fn)(void *arg), void *arg);

/* tables.c. bytes: bound of the memory for table blocks */
int tables_init(struct tables *t, uint64_t bytes);
void tables_fini(struct tables *t);

#endif
