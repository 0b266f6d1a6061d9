/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the qcow2 driver.
 *
 *   open.c     header, extensions, life cycle        create.c    new images
 *   io.c       requests: tracking, the fast path     write.c     allocation and copy on write
 *   map.c      L1 and L2 tables                      range.c     discard, zeroes, status
 *   cache.c    slices of L2 tables and refcount blocks in bounded memory
 *   refcount.c allocation of host clusters           commit.c    writing metadata in safe order
 *   compress.c compressed clusters                   snapshot.c, vmstate.c, check.c, resize.c
 *   header.c   names in the header                   ahead.c    room at the end of the file
 *   crypt.c    encrypted images                      bitmap.c, bitmap_store.c, bitmap_ops.c, bitmap_live.c, bits.c
 *
 * Numbers from the file are hostile.  Every one is checked where it is read into
 * struct qcow2 (header) or decoded (tables), in 64 bits.
 *
 * Order on disk.  Refcounts and tables change in memory first.  q_commit writes
 * them in an order, with barriers between, such that whatever part of it reaches
 * the disk, nothing refers to a cluster whose refcount or contents are not there:
 *
 *   refcount blocks, L2 tables nothing refers to yet, (data: written before)
 *   -- barrier --
 *   refcount table
 *   -- barrier, if there was any of that --
 *   L2 tables in use, L1 table
 *   -- barrier --
 *   only now are clusters that nothing refers to any more given back
 *
 * So refcounts are never too low; a crash leaves some too high at worst (leaks).
 *
 * Locks.  All runs under the loop's lock.  Metadata changes either in one go
 * without a wait (the fast path, only while q->lock is free) or in a coroutine that
 * holds q->lock.  Requests are tracked by guest cluster; one that changes mappings
 * in several steps is exclusive, and nothing that overlaps it runs beside it.
 */
#ifndef LODGE_BLOCK_QCOW2_INTERNAL_H
#define LODGE_BLOCK_QCOW2_INTERNAL_H

#include "base/bits.h"
#include "base/co.h"
#include "base/list.h"
#include "block/blk.h"
#include "block/qcow2/qcow2.h"

#define QCOW2_MAGIC 0x514649fbu
#define MIN_CLUSTER_BITS 9u
#define MAX_CLUSTER_BITS 21u
#define MAX_L1_BYTES (32u << 20)
#define MAX_RT_BYTES (8u << 20)
#define MAX_SNAPSHOTS 65536u
#define MAX_SNAPSHOT_TABLE (64u << 20)
#define SLICE 4096u

#define INCOMPAT_DIRTY 1ull
#define INCOMPAT_CORRUPT 2ull
#define INCOMPAT_DATA_FILE 4ull
#define INCOMPAT_COMPRESSION 8ull
#define INCOMPAT_EXT_L2 16ull
#define INCOMPAT_KNOWN 31ull
#define COMPAT_LAZY 1ull
#define AUTOCLEAR_BITMAPS 1ull
#define AUTOCLEAR_RAW_DATA 2ull

/* Byte offsets in the header. */
enum {
	H_MAGIC = 0, H_VERSION = 4, H_BACKING_OFF = 8, H_BACKING_LEN = 16, H_CLUSTER_BITS = 20, H_SIZE = 24,
	H_CRYPT = 32, H_L1_SIZE = 36, H_L1_OFF = 40, H_RT_OFF = 48, H_RT_CLUSTERS = 56, H_N_SNAPS = 60,
	H_SNAPS_OFF = 64, H_V2_LEN = 72, H_INCOMPAT = 72, H_COMPAT = 80, H_AUTOCLEAR = 88, H_RC_ORDER = 96,
	H_LENGTH = 100, H_V3_LEN = 104, H_COMPRESSION = 104,
};
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_FEATURES 0x6803f857u
#define EXT_BITMAPS 0x23852875u
#define EXT_CRYPTO 0x0537be77u
#define EXT_FILLER 0x6c6f6467u		/* our own: nothing */
#define EXT_DATA_FILE 0x44415441u

#define QCOW2_CRYPT_AES 1u
#define QCOW2_CRYPT_LUKS 2u

#define OFLAG_COPIED (1ull << 63)
#define OFLAG_COMPRESSED (1ull << 62)
#define OFLAG_ZERO 1ull
#define OFFSET_MASK 0x00fffffffffffe00ull
#define RT_OFFSET_MASK 0xfffffffffffffe00ull
#define MAX_HOST (1ull << 56)

static inline uint16_t ld_be16(const void *p) { return __builtin_bswap16(ld_le16(p)); }
static inline uint32_t ld_be32(const void *p) { return __builtin_bswap32(ld_le32(p)); }
static inline uint64_t ld_be64(const void *p) { return __builtin_bswap64(ld_le64(p)); }
static inline void st_be16(void *p, uint16_t v) { st_le16(p, __builtin_bswap16(v)); }
static inline void st_be32(void *p, uint32_t v) { st_le32(p, __builtin_bswap32(v)); }
static inline void st_be64(void *p, uint64_t v) { st_le64(p, __builtin_bswap64(v)); }

/* A piece of an L2 table or refcount block, as on disk. */
struct slice {
	uint64_t off;			/* in the file */
	uint8_t *data;
	bool dirty;
	uint32_t l1_index;		/* of the active table it belongs to, or NO_L1 */
	struct slice *hash_next;
	struct list lru;
};
#define NO_L1 UINT32_MAX

struct cache {
	unsigned size;			/* bytes of a slice */
	unsigned n, max, n_dirty;
	struct slice **hash;
	unsigned hash_mask;
	struct list lru;		/* most recently used last */
};

/* Host clusters that nothing in memory refers to any more, but the disk may. */
struct freed {
	uint64_t off, n;		/* bytes; clusters */
	bool punch;			/* give the space back to the host */
};

struct sub;
struct turn;

struct qcow2 {
	struct blk_node n;
	struct blk_node *store;		/* where guest clusters lie: n.file, or the external data file (owned) */
	struct blk_node *data;		/* what guest data goes through: store, or a node over it that encrypts (owned) */
	struct blk_node *crew;		/* threads for compression; made when first needed */
	struct co_pool cos;
	struct co_mutex lock;
	uint64_t pack_tickets, pack_turn;	/* of writes of compressed clusters, see compress.c */
	struct turn *pack_waiting;

	unsigned version, cluster_bits, rc_order, header_len;
	uint32_t cluster;		/* bytes */
	bool ext_l2, ext_data, zero_beyond;
	unsigned l2_bits, sub_bits;	/* log2: entries of a table, bytes of a subcluster (no subclusters: of a cluster) */
	unsigned entry_size;		/* bytes of an L2 entry */
	unsigned rb_bits;		/* log2: refcounts in a block */
	enum qcow2_compression compression;
	uint64_t incompat, compat, autoclear;
	char *backing_name, *backing_format, *data_name;
	unsigned crypt_method;
	uint64_t crypt_off, crypt_len;	/* the LUKS header, 0: none */
	unsigned n_bitmaps;
	uint64_t bitmap_dir_off, bitmap_dir_len;
	struct bitmap *bitmap;		/* the directory, once it was read */
	unsigned n_recording;
	unsigned bitmap_pages;		/* of bits in memory */
	uint64_t bitmap_bits;		/* of all that are loaded */
	uint64_t bitmap_gone;		/* table of one that is being removed, 0: none */
	uint32_t bitmap_gone_size;
	uint64_t backing_size;		/* of n.backing, 0 without */

	uint64_t l1_off, rt_off, snaps_off;
	uint32_t l1_size, rt_size, n_snaps;	/* entries */
	uint64_t *l1, *rt;		/* values, in the host's byte order; unmasked, unchecked */
	uint64_t *l1_dirty;		/* bit an entry */
	unsigned n_l1_dirty;
	bool rt_dirty;

	struct cache l2c, rbc;
	uint64_t hint;			/* cluster: below it hardly anything is free */
	uint64_t end;			/* cluster: nothing from here on was ever used; reads as zeros if zero_beyond */
	uint64_t extended;		/* cluster: the file is that long at least */
	bool ahead, no_ahead;		/* the file was made longer than need be; that cannot be done */
	struct freed *freed;
	unsigned n_freed, cap_freed;
	uint64_t compress_at;		/* byte in the file where the next compressed cluster may go, 0: nowhere yet */
	uint8_t *compress_tail;		/* what precedes it in its sector */

	struct list reqs;		/* struct track */
	unsigned n_exclusive, n_waiting;
	struct sub *sub_idle;
	unsigned n_sub_idle;
	bool broken;			/* found damaged, or stuck half way: no more writes */
	bool damaged;			/* ... damaged: the header is to say so */
	bool ready;			/* open is through */
	struct qcow2_snapshot *known;	/* what qcow2_snapshot_known has read; NULL: nothing since the last change */
	unsigned n_known;
	bool snaps_failed;		/* a change of snapshots: the dirty bit stays, there may be leaks */
	bool flags_due;			/* a snapshot's making or end was cut short: "copied" flags may not tell the truth */
	struct blk_req mark;		/* has the header say so */
};

static inline struct qcow2 *to_q(struct blk_node *n) { return container_of(n, struct qcow2, n); }

/* ---- io.c: of the driver's table ---- */
void qcow2_submit(struct blk_node *n, struct blk_req *r);
void qcow2_finished(struct blk_node *n, struct blk_req *r);
void qcow2_wait(struct blk_node *n);
void qcow2_subs_free(struct qcow2 *q);

/* ---- io.c: waiting for I/O in a coroutine ---- */

/* Several requests at once. */
struct group {
	struct co *c;
	struct qcow2 *q;
	unsigned pending;
	bool waiting;
	int ret;			/* first error */
};
void group_init(struct group *g, struct qcow2 *q, struct co *c);
/* Sub-request of [off, off+len) of `up`'s vector from byte `at`; memory errors go to g->ret. */
void group_iov(struct group *g, struct blk_node *n, enum blk_op op, uint64_t off, uint64_t len, const struct iovec *iov,
	       unsigned niov, uint64_t at);
int group_wait(struct group *g);
/* The one request, as r describes it. */
int group_status(struct group *g, struct blk_node *n, const struct blk_req *r);
/* One request, waited for. */
int q_rw(struct qcow2 *q, struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len);
int q_op(struct qcow2 *q, struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, uint64_t len, bool unmap);
int q_barrier(struct qcow2 *q, struct co *c);
/* Runs fn in a coroutine, alone (every request of the node has ended, new ones wait) and holding the lock. */
int q_alone(struct qcow2 *q, int (*fn)(struct qcow2 *q, struct co *c, void *arg), void *arg);
/* Allocation of guest data memory for copies, usable with direct I/O. */
void *q_buf(size_t len);
/* Reads guest data through all layers. [lock not held] */
int q_read(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov);
/* The image was found damaged: no more writes from here on, by nobody, for its header is marked (the corrupt bit). Returns -EIO. */
int q_broken(struct qcow2 *q, const char *what, uint64_t where);
/* Marks it, if that is due. [lock] */
void q_mark_damage(struct qcow2 *q, struct co *c);
/* An error of the host left something half done: no more writes until it is opened anew. Returns -EIO. */
int q_stuck(struct qcow2 *q, const char *what);

/* ---- cache.c ---- */
int cache_init(struct cache *ca, unsigned slice, uint64_t bytes);
void cache_fini(struct cache *ca);
struct slice *cache_peek(struct cache *ca, uint64_t off);	/* NULL: not here */
/* Reads it if need be; may commit to make room. [lock] */
int cache_get(struct qcow2 *q, struct co *c, struct cache *ca, uint64_t off, struct slice **out);
void cache_dirty(struct cache *ca, struct slice *s);
/* Forgets what it has of [off, off+len), dirty or not. */
void cache_drop(struct cache *ca, uint64_t off, uint64_t len);
/* Writes dirty slices for which want() says so, all if want is NULL. */
int cache_write(struct qcow2 *q, struct co *c, struct cache *ca, bool (*want)(struct qcow2 *q, const struct slice *s));

/* ---- map.c ---- */
enum kind { KIND_UNALLOCATED, KIND_ZERO, KIND_NORMAL, KIND_COMPRESSED };
struct entry {
	uint64_t e, bitmap;		/* bitmap: extended L2 only */
};
struct run {
	enum kind kind;
	uint64_t len;			/* bytes from the offset asked for, of this kind, contiguous if NORMAL */
	uint64_t host;			/* NORMAL: of the first byte; COMPRESSED: the descriptor */
	bool copied;			/* NORMAL: may be written in place */
	bool has_host;			/* ZERO, UNALLOCATED: a place is reserved, at host */
};
uint32_t l1_index(const struct qcow2 *q, uint64_t off);
uint64_t slice_off(const struct qcow2 *q, uint64_t table, uint64_t off);	/* of the slice of `table` for guest offset off */
uint64_t slice_end(const struct qcow2 *q, uint64_t off);	/* first guest offset of the next slice */
struct entry entry_get(const struct qcow2 *q, const struct slice *s, uint64_t off);
void entry_set(struct qcow2 *q, struct slice *s, uint64_t off, struct entry e);
/* Is the value a place an L2 table or cluster may have? */
bool host_ok(const struct qcow2 *q, uint64_t host);
/* What is at off, up to max bytes, from a slice that covers off (NULL: no table). -EIO: nonsense in the table. */
int map_run(struct qcow2 *q, const struct slice *s, uint64_t off, uint64_t max, struct run *out);
/* The slice if it is in memory: 1, *out NULL if there is no table; 0 if it must be read; -EIO */
int l2_peek(struct qcow2 *q, uint64_t off, struct slice **out);
int l2_get(struct qcow2 *q, struct co *c, uint64_t off, struct slice **out);		/* [lock] *out NULL: no table */
int l2_get_for_write(struct qcow2 *q, struct co *c, uint64_t off, struct slice **out);	/* [lock] */
/* Does the backing file have something at off? How many bytes of [off, off+len) are before its end. */
void l1_set(struct qcow2 *q, uint32_t i, uint64_t v);
uint64_t backing_part(const struct qcow2 *q, uint64_t off, uint64_t len);

/* ---- refcount.c ---- [lock] */
int rc_get(struct qcow2 *q, struct co *c, uint64_t cluster, uint64_t *out);
int rc_add(struct qcow2 *q, struct co *c, uint64_t cluster, int delta, uint64_t *after);
int rc_assign(struct qcow2 *q, struct co *c, uint64_t cluster, uint64_t v);	/* repair */
int alloc_clusters(struct qcow2 *q, struct co *c, uint64_t n, uint64_t *off, bool *zero);
/* Without waiting: all in memory and never used before, or false. */
bool alloc_clusters_fast(struct qcow2 *q, uint64_t n, uint64_t *off);
/* Gives back at once what nothing on disk refers to. */
int free_now(struct qcow2 *q, struct co *c, uint64_t off, uint64_t n);
/* Gives back after the next commit. */
int free_later(struct qcow2 *q, uint64_t off, uint64_t n, bool punch);
int free_entry_later(struct qcow2 *q, struct entry e, bool punch);	/* what a guest cluster's entry refers to */
int zero_clusters(struct qcow2 *q, struct co *c, uint64_t off, uint64_t n);
uint64_t rc_max(const struct qcow2 *q);
unsigned compressed_range(const struct qcow2 *q, uint64_t e, uint64_t *off, uint64_t *len);	/* returns clusters touched */
uint64_t rc_field_get(const uint8_t *block, uint64_t i, unsigned order);
void rc_field_set(uint8_t *block, uint64_t i, unsigned order, uint64_t v);

/* ---- ahead.c ---- */
void ahead_grow(struct qcow2 *q);		/* [lock] clusters were taken: makes the file longer, if that is of use */
void ahead_give_back(struct qcow2 *q);		/* when the image is closed */
void ahead_recover(struct qcow2 *q);		/* when it is opened for writing; waits */

/* ---- commit.c ---- [lock] */
bool q_clean(const struct qcow2 *q);
int q_commit(struct qcow2 *q, struct co *c);
int write_header(struct qcow2 *q, struct co *c);	/* fields of struct qcow2 into the first sector; no barrier */
/* header.c: another backing file's name and format (NULL: none), on disk when it returns. A crash leaves the old or the new
 * ones. -E2BIG: there is no room for both. */
int header_set_backing(struct qcow2 *q, struct co *c, const char *backing, const char *format);
int write_table(struct qcow2 *q, struct co *c, uint64_t off, const uint64_t *table, uint64_t n, uint64_t room);

/* ---- write.c, range.c, compress.c: bodies of requests [exclusive, lock not held] ---- */
int do_write(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov);
int do_write_compressed(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov,
			unsigned niov);
int do_discard(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len);
int do_zeroes(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, bool unmap);
/* Of [off, end), whole clusters, nothing remains. [lock] */
int drop_clusters(struct qcow2 *q, struct co *c, uint64_t off, uint64_t end);
int do_status(struct qcow2 *q, struct co *c, struct blk_req *r);
int read_compressed(struct qcow2 *q, struct co *c, uint64_t e, uint8_t *cluster);
void crew_close(struct qcow2 *q);

/* ---- bitmap.c, bitmap_store.c ---- [lock, but for mark and free] */
/* The image is to be written from now on. *which: the bitmap that cannot be kept, if it fails */
int bitmaps_start(struct qcow2 *q, struct co *c, const char **which);
void bitmaps_mark(struct qcow2 *q, uint64_t off, uint64_t len);
bool bitmaps_unsaved(const struct qcow2 *q);
/* Onto the disk; closing: nobody records any more. */
int bitmaps_store(struct qcow2 *q, struct co *c, bool closing);
int bitmaps_finish(struct qcow2 *q, struct co *c);
void bitmaps_free(struct qcow2 *q);
/* Bytes of nothing (an extension) before the bitmaps' extension at byte `at` of the header, so that what it says
 * lies in one sector and changes in one go. */
uint32_t bitmap_filler(uint32_t at);
/* Around a change of size: all bits into memory, then to the new size and back. */
int bitmaps_load_all(struct qcow2 *q, struct co *c);
int bitmaps_resized(struct qcow2 *q, struct co *c, uint64_t old);

/* ---- snapshot.c, resize.c ---- */
struct snap {
	uint64_t l1_off;
	uint32_t l1_size;
	struct qcow2_snapshot s;
	uint8_t *extra;			/* unknown part of the extra data, kept */
	uint32_t extra_len;
};
/* Makes good what is due of flags, if it can be done now. [lock] */
void q_settle_flags(struct qcow2 *q, struct co *c);
int snaps_load(struct qcow2 *q, struct co *c, struct snap **out);
/* Gives back, once nothing on disk refers to it, all that the table's entries refer to. [lock] */
int drop_tree(struct qcow2 *q, struct co *c, const uint64_t *l1, uint32_t n);
/* vmstate.c: nothing is behind the disk's end any more. [lock] */
int vmstate_drop(struct qcow2 *q, struct co *c);
/* The disk's L1 table has that many entries at least, on disk. [lock] */
int l1_grow(struct qcow2 *q, struct co *c, uint32_t n);
int snaps_may_change(struct blk_node *n, struct err *e);	/* EROFS, ENOTSUP */
void snaps_forget(struct qcow2 *q);			/* what is known in memory */
uint64_t snaps_len(const struct snap *s, unsigned n);	/* bytes of the list on disk */
void snaps_free(struct snap *s, unsigned n);
int q_resize(struct blk_node *n, uint64_t size, struct err *e);
int l1_load(struct qcow2 *q, struct co *c, uint64_t off, uint32_t n, uint64_t **out);
/* Closes the image, but not the file it is in. */
int qcow2_close_inner(struct blk_node *n);
/* Extensions and backing file's name into the first cluster, behind its header. -ENOSPC */
struct header_names {
	const char *backing, *backing_format, *data_file;	/* NULL: none */
	uint64_t crypt_off, crypt_len;				/* 0: none */
	unsigned n_bitmaps;
	uint64_t bitmap_dir_off, bitmap_dir_len;
};
int put_names(uint8_t *h, uint32_t cluster, unsigned header_len, const struct header_names *n);
/* ---- crypt.c ---- */
struct luks_info;
int crypt_parse_extension(struct qcow2 *q, const uint8_t *p, uint32_t len);	/* EINVAL */
int crypt_check(const struct qcow2 *q, const char *path, struct err *e);
/* Puts the node that encrypts into q->data, if there is to be one. */
int crypt_open(struct qcow2 *q, const struct blk_image_opts *o, unsigned depth, const char *path, struct err *e);
const struct luks_info *crypt_info(const struct qcow2 *q);			/* NULL: not encrypted */
int crypt_create(struct blk_node *file, uint64_t off, const struct qcow2_create_opts *o, struct err *e);

/* Smallest L1 for a disk of so many bytes. */
uint64_t l1_needed(const struct qcow2 *q, uint64_t size);

#endif
