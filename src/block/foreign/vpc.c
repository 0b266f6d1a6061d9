/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual PC images (VHD, "vpc"), fixed and dynamic, after Microsoft's "Virtual
 * Hard Disk Image Format Specification" 1.0.  All numbers are big-endian.
 *
 * A footer of 512 bytes ends the file; a dynamic image has a copy of it in front,
 * then a header and a table with the sector of each block.  A block begins with a
 * bitmap of its sectors, which says nothing more in an image without a parent.
 * Difference images are refused.  A fixed image can not be told from a raw one by
 * its first sector: it needs format=vpc.
 *
 * How long the disk is depends on who wrote the image: Virtual PC and QEMU mean
 * the geometry, everybody else the size field.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/foreign/foreign.h"

#define VPC_UNUSED 0xffffffffu
#define MAX_BLOCK (256u << 20)
#define MAX_GEOMETRY (65535ull * 16 * 255)

enum {
	F_COOKIE = 0, F_VERSION = 12, F_HEADER = 16, F_CREATOR = 28, F_SIZE = 48, F_CYLINDERS = 56, F_HEADS = 58, F_SECTORS = 59,
	F_TYPE = 60, F_CHECKSUM = 64, FOOTER_LEN = 512,
	D_COOKIE = 0, D_TABLE = 16, D_ENTRIES = 28, D_BLOCK = 32, D_CHECKSUM = 36, DYN_LEN = 1024,
};
enum { VPC_FIXED = 2, VPC_DYNAMIC = 3, VPC_DIFFERENCE = 4 };

struct vpc {
	struct foreign f;
	bool fixed;
	uint32_t block, entries, bitmap;	/* bytes; bitmap: in front of each block */
	uint64_t table;				/* byte in the file */
};

static inline uint16_t be16(const void *p) { return __builtin_bswap16(ld_le16(p)); }
static inline uint32_t be32(const void *p) { return __builtin_bswap32(ld_le32(p)); }
static inline uint64_t be64(const void *p) { return __builtin_bswap64(ld_le64(p)); }

static int vpc_map(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out)
{
	struct vpc *v = container_of(f, struct vpc, f);
	uint64_t in;
	uint8_t raw[4];
	int ret;

	*out = (struct piece){ .kind = PIECE_DATA, .len = max, .node = f->n.file, .host = off };
	if (v->fixed)
		return 0;
	in = off % v->block;
	ret = foreign_table(f, c, f->n.file, v->table + off / v->block * 4, raw, 4);
	if (ret)
		return ret;
	out->len = MIN(max, v->block - in);
	if (be32(raw) == VPC_UNUSED) {
		out->kind = PIECE_NOTHING;
		return 0;
	}
	out->host = (uint64_t)be32(raw) * BLK_SECTOR + v->bitmap + in;
	if (out->host - in >= f->n.file->i.size)
		return foreign_damaged(f, "the block table points outside of the file", off);
	return 0;
}

static void vpc_free(struct foreign *f)
{
	free(container_of(f, struct vpc, f));
}

static const struct foreign_ops vpc_ops = { .name = "vpc", .map = vpc_map, .free = vpc_free };

static bool sum_ok(const uint8_t *p, size_t len, size_t at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i < at || i >= at + 4 ? p[i] : 0;
	return ~sum == be32(p + at);
}

static bool footer_ok(const uint8_t *p)
{
	return !memcmp(p + F_COOKIE, "conectix", 8) && sum_ok(p, FOOTER_LEN, F_CHECKSUM);
}

/* The one at the end counts; the copy in front if that one is damaged, as after a crash. */
static int read_footer(const struct foreign_opening *op, uint8_t *p)
{
	/* Old versions wrote 511 bytes; sizes are rounded down to find it. */
	uint64_t end = align_down(op->file->i.size, BLK_SECTOR);
	int ret = end >= FOOTER_LEN ? foreign_head(op, end - FOOTER_LEN, p, FOOTER_LEN) : foreign_bad(op, "its length");

	if (ret || footer_ok(p))
		return ret;
	ret = foreign_head(op, 0, p, FOOTER_LEN);
	return ret ? ret : footer_ok(p) ? 0 : foreign_bad(op, "it has no footer with a right checksum, neither at its end nor in front");
}

static uint64_t disk_size(const uint8_t *footer)
{
	static const char by_geometry[][5] = { "vpc ", "vs  ", "qemu" };
	uint64_t size = be64(footer + F_SIZE);
	uint64_t chs = (uint64_t)be16(footer + F_CYLINDERS) * footer[F_HEADS] * footer[F_SECTORS];

	for (unsigned i = 0; i < ARRAY_LEN(by_geometry); i++)
		if (!memcmp(footer + F_CREATOR, by_geometry[i], 4) && chs < MAX_GEOMETRY)
			size = chs * BLK_SECTOR;
	return size;
}

static int dynamic_header(struct vpc *v, const struct foreign_opening *op, uint64_t at)
{
	uint8_t h[DYN_LEN];
	int ret;

	if (at % BLK_SECTOR || !range_inside(at, DYN_LEN, op->file->i.size))
		return foreign_bad(op, "the place of its header");
	ret = foreign_head(op, at, h, sizeof(h));
	if (ret)
		return ret;
	if (memcmp(h + D_COOKIE, "cxsparse", 8) != 0 || !sum_ok(h, DYN_LEN, D_CHECKSUM))
		return foreign_bad(op, "its header's checksum");
	v->table = be64(h + D_TABLE);
	v->entries = be32(h + D_ENTRIES);
	v->block = be32(h + D_BLOCK);
	if (!is_pow2(v->block) || v->block < BLK_SECTOR || v->block > MAX_BLOCK)
		return foreign_bad(op, "its block size");
	v->bitmap = (uint32_t)align_up((v->block / BLK_SECTOR + 7) / 8, BLK_SECTOR);
	if (v->f.n.i.size > (uint64_t)v->entries * v->block ||
	    !range_inside(v->table, (uint64_t)v->entries * 4, op->file->i.size))
		return foreign_bad(op, "its block table");
	v->f.n.i.cluster = v->block;
	return 0;
}

static int vpc_header(struct vpc *v, const struct foreign_opening *op)
{
	uint8_t h[FOOTER_LEN] = { 0 };
	uint32_t type;
	int ret = read_footer(op, h);

	if (ret)
		return ret;
	type = be32(h + F_TYPE);
	if (be32(h + F_VERSION) >> 16 != 1)
		return err_set(op->e, -ENOTSUP, "image '%s' is of version %u; 1 is known here", op->path, be32(h + F_VERSION) >> 16);
	if (type == VPC_DIFFERENCE)
		return err_set(op->e, -ENOTSUP, "image '%s' holds only the difference to another one: merge them first with the "
			       "program that made it", op->path);
	if (type != VPC_FIXED && type != VPC_DYNAMIC)
		return foreign_bad(op, "its type");
	v->fixed = type == VPC_FIXED;
	v->f.n.i.size = disk_size(h);
	if (!v->f.n.i.size || v->f.n.i.size % BLK_SECTOR || v->f.n.i.size > INT64_MAX ||
	    (v->fixed && v->f.n.i.size > op->file->i.size))
		return foreign_bad(op, "its size");
	return v->fixed ? 0 : dynamic_header(v, op, be64(h + F_HEADER));
}

int vpc_open(const struct foreign_opening *op, struct foreign **out)
{
	struct vpc *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = foreign_init(&v->f, op, &vpc_ops);
	ret = ret ? ret : vpc_header(v, op);
	if (ret)
		return foreign_drop(&v->f, ret);
	*out = &v->f;
	return 0;
}
