/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMware disks (VMDK), after VMware's "Virtual Disk Format" 1.1 and 5.0.
 *
 * A disk is a row of extents.  Either one sparse extent has the descriptor inside
 * (monolithicSparse, streamOptimized), or a text file names them: sparse ones, flat
 * ones (raw bytes in another file) and such that are zeros.  Files that a
 * descriptor names are opened as far as `trust` goes, like backing files.
 *
 * A sparse extent has a directory of tables of grains, 32-bit sector numbers,
 * little-endian.  There may be a second copy of directory and tables: it is used
 * where the first one makes no sense.  In streamOptimized images grains are
 * compressed (zlib) and the header that counts is a copy at the end of the file.
 * "COWD" is the sparse extent of ESX, with a header of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "block/foreign/foreign.h"
#include "block/foreign/vmdk_desc.h"
#include "block/protocol.h"

#define FLAG_NEWLINES 1u
#define FLAG_SECOND 2u
#define FLAG_ZEROED 4u
#define FLAG_PACKED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define AT_END UINT64_MAX
#define GRAIN_ZERO 1u
#define MAX_GRAIN_SECTORS 0x200000ull
#define MAX_PACKED (2u << 20)

enum {
	S_MAGIC = 0, S_VERSION = 4, S_FLAGS = 8, S_CAPACITY = 12, S_GRAIN = 20, S_DESC = 28, S_DESC_LEN = 36, S_PER_TABLE = 44,
	S_SECOND = 48, S_FIRST = 56, S_UNCLEAN = 72, S_NEWLINES = 73, S_ALGORITHM = 77,
	C_CAPACITY = 12, C_GRAIN = 16, C_DIRECTORY = 20, C_ENTRIES = 24, COWD_PER_TABLE = 4096,
};

struct extent {
	enum vmdk_kind kind;
	struct blk_node *node;		/* n.file, or one of f.extra */
	uint64_t first, end;		/* bytes of the disk */
	uint64_t offset;		/* FLAT: byte in the file */
	uint64_t grain;			/* bytes */
	uint64_t per_table, n_tables;	/* entries */
	uint64_t dir, dir2;		/* bytes in the file; dir2 0: no second copy */
	bool zeroed, packed, markers;
};

struct vmdk {
	struct foreign f;
	struct vmdk_desc desc;
	struct extent *extent;
	unsigned n;
};

/* ---- looking things up ---- */

static const struct extent *extent_at(const struct vmdk *v, uint64_t off)
{
	unsigned lo = 0, hi = v->n - 1;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (off < v->extent[mid].end)
			hi = mid;
		else
			lo = mid + 1;
	}
	return &v->extent[lo];
}

/* The grain's entry through one copy of the directory. *there: false where there is no table. */
static int grain_entry(struct foreign *f, struct co *c, const struct extent *x, uint64_t dir, uint64_t i, bool *there, uint32_t *out)
{
	uint64_t table;
	uint8_t raw[4];
	int ret = foreign_table(f, c, x->node, dir + i / x->per_table * 4, raw, 4);

	if (ret)
		return ret;
	table = (uint64_t)ld_le32(raw) * BLK_SECTOR;
	*there = table != 0;
	if (!table)
		return 0;
	if (!range_inside(table, x->per_table * 4, x->node->i.size))
		return -ERANGE;
	ret = foreign_table(f, c, x->node, table + i % x->per_table * 4, raw, 4);
	*out = ld_le32(raw);
	if (!ret && *out > GRAIN_ZERO && (uint64_t)*out * BLK_SECTOR >= x->node->i.size)
		ret = -ERANGE;
	return ret;
}

static int map_sparse(struct foreign *f, struct co *c, const struct extent *x, uint64_t off, uint64_t max, struct piece *out)
{
	uint64_t at = off - x->first, i = at / x->grain, in = at % x->grain, table = x->grain * x->per_table;
	uint32_t e = 0;
	bool there = false;
	int ret = grain_entry(f, c, x, x->dir, i, &there, &e);

	if (ret && x->dir2)
		ret = grain_entry(f, c, x, x->dir2, i, &there, &e);
	if (ret)
		return foreign_damaged(f, ret == -ERANGE ? "a table points outside of the file" : "a table cannot be read", off);
	*out = (struct piece){ .kind = PIECE_NOTHING, .len = MIN(max, table - at % table), .node = x->node };
	if (!there)
		return 0;
	out->len = MIN(max, x->grain - in);
	if (!e)
		return 0;
	if (e == GRAIN_ZERO && x->zeroed) {
		out->kind = PIECE_ZERO;
		return 0;
	}
	out->kind = x->packed ? PIECE_PACKED : PIECE_DATA;
	out->host = (uint64_t)e * BLK_SECTOR + (x->packed ? 0 : in);
	out->skip = (uint32_t)in;
	return 0;
}

static int vmdk_map(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out)
{
	const struct extent *x = extent_at(container_of(f, struct vmdk, f), off);

	max = MIN(max, x->end - off);
	if (x->kind == VMDK_SPARSE)
		return map_sparse(f, c, x, off, max, out);
	*out = (struct piece){ .kind = x->kind == VMDK_FLAT ? PIECE_DATA : PIECE_ZERO, .len = max, .node = x->node,
			       .host = x->offset + (off - x->first) };
	return 0;
}

/* ---- compressed grains ---- */

struct inflation {
	uint8_t *in, *out;
	uint32_t in_len, room, out_len;
};

static int run_inflate(void *arg)
{
	struct inflation *j = arg;
	z_stream z = { .next_in = j->in, .avail_in = j->in_len, .next_out = j->out, .avail_out = j->room };
	int ret;

	if (inflateInit(&z) != Z_OK)
		return -ENOMEM;
	ret = inflate(&z, Z_FINISH);
	j->out_len = j->room - z.avail_out;
	inflateEnd(&z);
	return ret == Z_STREAM_END || (ret == Z_BUF_ERROR && !z.avail_out) ? 0 : -EIO;
}

/* The packed bytes of the grain at `host`: malloc'ed, *at from where on. */
static int read_grain(struct foreign *f, struct co *c, const struct extent *x, uint64_t host, uint8_t **out, uint32_t *at,
		      uint32_t *len)
{
	uint64_t most = x->grain * 2 + BLK_SECTOR, total;
	uint8_t head[BLK_SECTOR], *buf;
	int ret = foreign_read(f, c, x->node, host, head, sizeof(head));

	if (ret)
		return ret;
	/* A marker: the sector of the disk (8 bytes), then how many bytes follow. */
	*at = x->markers ? 12 : 0;
	*len = x->markers ? ld_le32(head + 8) : (uint32_t)x->grain * 2;
	if (!*len || *len > most)
		return -EIO;
	total = align_up((uint64_t)*at + *len, BLK_SECTOR);
	buf = malloc(total);
	if (!buf)
		return -ENOMEM;
	memcpy(buf, head, sizeof(head));
	if (total > sizeof(head))
		ret = foreign_read(f, c, x->node, host + sizeof(head), buf + sizeof(head), total - sizeof(head));
	*out = buf;
	return ret;
}

static int vmdk_unpack(struct foreign *f, struct co *c, const struct piece *p, uint8_t *unit)
{
	struct vmdk *v = container_of(f, struct vmdk, f);
	const struct extent *x = v->extent;
	struct inflation j = { .out = unit };
	uint8_t *buf = NULL;
	uint32_t at;
	int ret;

	while (x->node != p->node)
		x++;
	ret = read_grain(f, c, x, p->host, &buf, &at, &j.in_len);
	if (!ret) {
		j.in = buf + at;
		j.room = (uint32_t)x->grain;
		ret = foreign_work(f, c, run_inflate, &j);
	}
	free(buf);
	/* The disk's last grain may be packed as far as the disk goes. */
	if (!ret && j.out_len < p->skip + p->len)
		ret = -EIO;
	if (ret == -EIO)
		foreign_damaged(f, "a compressed grain", p->host);
	return ret;
}

/* ---- opening ---- */

static void vmdk_free(struct foreign *f)
{
	struct vmdk *v = container_of(f, struct vmdk, f);

	vmdk_desc_fini(&v->desc);
	free(v->extent);
	free(v);
}

static const struct foreign_ops vmdk_ops = { .name = "vmdk", .map = vmdk_map, .unpack = vmdk_unpack, .free = vmdk_free };

static int read_at(const struct foreign_opening *op, struct blk_node *n, uint64_t off, uint8_t *buf, size_t len)
{
	int ret = blk_pread(n, off, buf, len);

	return ret ? err_set(op->e, ret, "'%s', a part of image '%s', cannot be read: %s", n->path ? n->path : "", op->path,
			     strerror(-ret)) : 0;
}

/* In streamOptimized files the header's copy between two markers at the end is the right one. */
static int read_end_header(const struct foreign_opening *op, struct blk_node *n, uint8_t *h)
{
	uint64_t end = align_down(n->i.size, BLK_SECTOR);
	int ret;

	if (ld_le64(h + S_FIRST) != AT_END)
		return 0;
	ret = end < 4 * BLK_SECTOR ? 0 : read_at(op, n, end - 2 * BLK_SECTOR, h, BLK_SECTOR);
	if (ret)
		return ret;
	if (memcmp(h + S_MAGIC, "KDMV", 4) != 0 || ld_le64(h + S_FIRST) == AT_END)
		return foreign_bad(op, "its end is missing (perhaps it was not copied completely)");
	return 0;
}

static int check_flags(const struct foreign_opening *op, const uint8_t *h)
{
	uint32_t flags = ld_le32(h + S_FLAGS), version = ld_le32(h + S_VERSION);

	if (version < 1 || version > 3)
		return err_set(op->e, -ENOTSUP, "image '%s' is of version %u; 1 to 3 are known here", op->path, version);
	if ((flags & FLAG_NEWLINES) && memcmp(h + S_NEWLINES, "\n \r\n", 4) != 0)
		return foreign_bad(op, "its line ends were changed, as by a transfer as text");
	if ((flags & FLAG_PACKED) && ld_le16(h + S_ALGORITHM) != 1)
		return err_set(op->e, -ENOTSUP, "image '%s' uses a compression that is not known here (%d)", op->path,
			       ld_le16(h + S_ALGORITHM));
	if (h[S_UNCLEAN])
		log_info("image '%s' was not closed properly by the program that wrote it", op->path);
	return 0;
}

/* Limits on what a header says of a sparse extent, in sectors; x->dir and the rest are set. */
static int check_sparse(struct vmdk *v, const struct foreign_opening *op, struct extent *x, uint64_t capacity, uint64_t grain)
{
	uint64_t size = x->node->i.size, bytes = capacity * BLK_SECTOR;

	if (!capacity || capacity >= BIT64(54) || bytes < x->end - x->first)
		return foreign_bad(op, "the size of an extent");
	if (!is_pow2(grain) || grain > MAX_GRAIN_SECTORS || (x->packed && grain * BLK_SECTOR > MAX_PACKED))
		return foreign_bad(op, "its grain size");
	if (!x->per_table || x->per_table > COWD_PER_TABLE)
		return foreign_bad(op, "the size of its grain tables");
	x->grain = grain * BLK_SECTOR;
	x->n_tables = (bytes + x->grain * x->per_table - 1) / (x->grain * x->per_table);
	if (!x->dir || !range_inside(x->dir, x->n_tables * 4, size))
		return foreign_bad(op, "its grain directory");
	if (x->dir2 && !range_inside(x->dir2, x->n_tables * 4, size))
		x->dir2 = 0;
	v->f.unit = MAX(v->f.unit, x->packed ? (uint32_t)x->grain : 0);
	v->f.n.i.cluster = MAX(v->f.n.i.cluster, (uint32_t)MIN(x->grain, 1u << 30));
	return 0;
}

/* A place in sectors; 0 if it is none that bytes can tell. */
static uint64_t place(uint64_t sector)
{
	return sector < BIT64(54) ? sector * BLK_SECTOR : 0;
}

static int hosted_extent(struct vmdk *v, const struct foreign_opening *op, struct extent *x, uint8_t *h)
{
	int ret = read_end_header(op, x->node, h);
	uint32_t flags = ld_le32(h + S_FLAGS);

	ret = ret ? ret : check_flags(op, h);
	if (ret)
		return ret;
	x->per_table = ld_le32(h + S_PER_TABLE);
	x->dir = place(ld_le64(h + S_FIRST));
	x->dir2 = flags & FLAG_SECOND ? place(ld_le64(h + S_SECOND)) : 0;
	x->zeroed = flags & FLAG_ZEROED;
	x->packed = flags & FLAG_PACKED;
	x->markers = flags & FLAG_MARKERS;
	if (!x->end)
		x->end = place(ld_le64(h + S_CAPACITY));
	return check_sparse(v, op, x, ld_le64(h + S_CAPACITY), ld_le64(h + S_GRAIN));
}

static int cowd_extent(struct vmdk *v, const struct foreign_opening *op, struct extent *x, const uint8_t *h)
{
	uint64_t capacity = ld_le32(h + C_CAPACITY);
	int ret;

	x->per_table = COWD_PER_TABLE;
	x->dir = place(ld_le32(h + C_DIRECTORY));
	ret = check_sparse(v, op, x, capacity, ld_le32(h + C_GRAIN));
	if (!ret && ld_le32(h + C_ENTRIES) < x->n_tables)
		ret = foreign_bad(op, "its grain directory");
	return ret;
}

static int sparse_extent(struct vmdk *v, const struct foreign_opening *op, struct extent *x)
{
	uint8_t h[BLK_SECTOR];
	int ret = read_at(op, x->node, 0, h, sizeof(h));

	if (ret)
		return ret;
	if (!memcmp(h, "KDMV", 4))
		return hosted_extent(v, op, x, h);
	if (!memcmp(h, "COWD", 4))
		return cowd_extent(v, op, x, h);
	return err_set(op->e, -EINVAL, "'%s', a part of image '%s', is no sparse extent", x->node->path ? x->node->path : "", op->path);
}

static int flat_extent(const struct foreign_opening *op, struct extent *x, const struct vmdk_extent_desc *d)
{
	x->offset = place(d->offset);
	if (range_inside(x->offset, x->end - x->first, align_up(x->node->i.size, BLK_SECTOR)))
		return 0;
	return err_set(op->e, -EINVAL, "'%s', a part of image '%s', is shorter than the image says", x->node->path ? x->node->path : "",
		       op->path);
}

static int open_extent_file(struct vmdk *v, const struct foreign_opening *op, const char *name, struct blk_node **out)
{
	struct blk_open_opts fo = op->o->file;
	char *path;
	int ret = image_resolve(op->path, name, "extent", op->o->trust, &path, op->e);

	if (ret)
		return ret;
	fo.open_ended = true;
	ret = blk_open_protocol(v->f.n.loop, path, &fo, true, out, op->e);
	free(path);
	if (ret)
		return ret;
	ret = foreign_add_node(&v->f, *out);
	if (ret) {
		blk_close(*out);
		err_set(op->e, ret, "out of memory while opening image '%s'", op->path);
	}
	return ret;
}

static int named_extent(struct vmdk *v, const struct foreign_opening *op, const struct vmdk_extent_desc *d)
{
	struct extent *x = &v->extent[v->n];
	int ret = 0;

	x->kind = d->kind;
	x->first = v->f.n.i.size;
	x->end = x->first + d->sectors * BLK_SECTOR;
	if (x->end < x->first || x->end > INT64_MAX)
		return foreign_bad(op, "its size");
	if (d->kind != VMDK_ZEROS)
		ret = open_extent_file(v, op, d->file, &x->node);
	if (!ret && d->kind == VMDK_SPARSE)
		ret = sparse_extent(v, op, x);
	else if (!ret && d->kind == VMDK_FLAT)
		ret = flat_extent(op, x, d);
	v->n++;
	v->f.n.i.size = x->end;
	return ret;
}

/* The extents of the descriptor, in files of their own. */
static int open_extents(struct vmdk *v, const struct foreign_opening *op)
{
	int ret = 0;

	if (!v->desc.n)
		return foreign_bad(op, "its descriptor names no extent");
	v->extent = calloc(v->desc.n, sizeof(*v->extent));
	if (!v->extent)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	for (unsigned i = 0; i < v->desc.n && !ret; i++)
		ret = named_extent(v, op, &v->desc.extent[i]);
	return ret;
}

/* The one extent around the descriptor. Its name there may be an old one. */
static int open_whole(struct vmdk *v, const struct foreign_opening *op)
{
	int ret;

	if (v->desc.n > 1)
		return err_set(op->e, -EINVAL, "image '%s' is one of %u extents of a disk: open the disk's descriptor", op->path, v->desc.n);
	v->extent = calloc(1, sizeof(*v->extent));
	if (!v->extent)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	v->n = 1;
	v->extent->node = op->file;
	ret = sparse_extent(v, op, v->extent);
	v->f.n.i.size = v->extent->end;
	return ret;
}

static int read_descriptor(struct vmdk *v, const struct foreign_opening *op, uint64_t off, uint64_t len)
{
	uint8_t *text;
	int ret;

	if (!len || len > VMDK_MAX_DESC || !range_inside(off, len, align_up(op->file->i.size, BLK_SECTOR)))
		return foreign_bad(op, "the place of its descriptor");
	text = calloc(1, len + 1);
	ret = text ? foreign_head(op, off, text, len) : err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	if (!ret) {
		ret = vmdk_desc_parse((char *)text, len + 1, &v->desc);
		if (ret)
			err_set(op->e, ret, "image '%s' is no good: %s", op->path, ret == -ENOMEM ? "out of memory" : v->desc.bad);
	}
	free(text);
	return ret;
}

static int open_parent(struct vmdk *v, const struct foreign_opening *op)
{
	struct foreign *below;
	uint32_t cid;
	char *path = NULL;
	int ret;

	if (v->desc.parent_cid == VMDK_NO_PARENT || op->o->no_backing)
		return 0;
	if (!v->desc.parent_hint)
		return foreign_bad(op, "it has a parent and does not name it");
	ret = image_resolve(op->path, v->desc.parent_hint, "parent", op->o->trust, &path, op->e);
	ret = ret ? ret : foreign_parent(&v->f, op, path, "vmdk");
	if (ret)
		goto out;
	below = foreign_of(v->f.n.backing);
	cid = below ? container_of(below, struct vmdk, f)->desc.cid : VMDK_NO_PARENT;
	if (cid != v->desc.parent_cid)
		ret = err_set(op->e, -EINVAL, "image '%s' is the difference to '%s', but that was changed since (its CID is %08x, not %08x)",
			      op->path, path, cid, v->desc.parent_cid);
out:
	free(path);
	return ret;
}

static int open_parts(struct vmdk *v, const struct foreign_opening *op)
{
	uint8_t h[BLK_SECTOR];
	uint64_t desc_len;
	int ret = foreign_head(op, 0, h, sizeof(h));

	if (ret)
		return ret;
	if (!memcmp(h, "COWD", 4))
		return err_set(op->e, -EINVAL, "image '%s' is an extent of a disk: open the disk's descriptor", op->path);
	if (memcmp(h, "KDMV", 4) != 0) {
		if (h[0] != '#')
			return foreign_bad(op, "this is not a vmdk image");
		ret = read_descriptor(v, op, 0, align_up(op->file->i.size, BLK_SECTOR));
		return ret ? ret : open_extents(v, op);
	}
	desc_len = ld_le64(h + S_DESC_LEN);
	if (!ld_le64(h + S_DESC) || !desc_len)
		return err_set(op->e, -EINVAL, "image '%s' is an extent of a disk: open the disk's descriptor", op->path);
	ret = read_descriptor(v, op, place(ld_le64(h + S_DESC)), place(desc_len));
	if (ret)
		return ret;
	return ld_le64(h + S_CAPACITY) ? open_whole(v, op) : open_extents(v, op);
}

int vmdk_open(const struct foreign_opening *op, struct foreign **out)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = foreign_init(&v->f, op, &vmdk_ops);
	ret = ret ? ret : open_parts(v, op);
	ret = ret ? ret : open_parent(v, op);
	if (ret)
		return foreign_drop(&v->f, ret);
	*out = &v->f;
	return 0;
}
