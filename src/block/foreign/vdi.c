/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VirtualBox disk images (VDI), dynamic and static.
 *
 * After the header lies a map with one 32-bit number for each block of the disk:
 * which block of the data area holds it, that nothing was ever written, or that
 * it is zeros.  All numbers are little-endian.  Difference images name their
 * parent by UUID only, which says nothing about a file, so they are refused.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/foreign/foreign.h"

#define VDI_SIGNATURE 0xbeda107fu
#define VDI_FREE 0xffffffffu
#define VDI_ZERO 0xfffffffeu
#define MIN_BLOCK (4u << 10)
#define MAX_BLOCK (256u << 20)

enum {
	V_SIGNATURE = 0x40, V_VERSION = 0x44, V_TYPE = 0x4c, V_MAP = 0x154, V_DATA = 0x158, V_SECTOR = 0x168, V_SIZE = 0x170,
	V_BLOCK = 0x178, V_EXTRA = 0x17c, V_BLOCKS = 0x180,
};
enum { VDI_DYNAMIC = 1, VDI_STATIC = 2, VDI_UNDO = 3, VDI_DIFF = 4 };

struct vdi {
	struct foreign f;
	uint32_t block, n_blocks;
	uint64_t map, data;		/* bytes in the file */
};

static int vdi_map(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out)
{
	struct vdi *v = container_of(f, struct vdi, f);
	uint64_t i = off / v->block, in = off % v->block;
	uint8_t raw[4];
	uint32_t e;
	int ret = foreign_table(f, c, f->n.file, v->map + i * 4, raw, 4);

	if (ret)
		return ret;
	e = ld_le32(raw);
	*out = (struct piece){ .kind = e == VDI_FREE ? PIECE_NOTHING : e == VDI_ZERO ? PIECE_ZERO : PIECE_DATA,
			       .len = MIN(max, v->block - in), .node = f->n.file };
	if (out->kind != PIECE_DATA)
		return 0;
	out->host = v->data + (uint64_t)e * v->block + in;
	if (out->host - in >= f->n.file->i.size)
		return foreign_damaged(f, "the map points outside of the file", off);
	return 0;
}

static void vdi_free(struct foreign *f)
{
	free(container_of(f, struct vdi, f));
}

static const struct foreign_ops vdi_ops = { .name = "vdi", .map = vdi_map, .free = vdi_free };

static int vdi_type(const struct foreign_opening *op, uint32_t type)
{
	if (type == VDI_DYNAMIC || type == VDI_STATIC)
		return 0;
	if (type == VDI_DIFF || type == VDI_UNDO)
		return err_set(op->e, -ENOTSUP, "image '%s' holds only the difference to another one, which it does not name: make "
			       "a whole one with \"VBoxManage clonemedium\"", op->path);
	return foreign_bad(op, "its type");
}

static int vdi_header(struct vdi *v, const struct foreign_opening *op)
{
	uint8_t h[512];
	uint64_t size;
	int ret = foreign_head(op, 0, h, sizeof(h));

	if (ret)
		return ret;
	if (ld_le32(h + V_SIGNATURE) != VDI_SIGNATURE)
		return foreign_bad(op, "this is not a vdi image");
	if (ld_le32(h + V_VERSION) >> 16 != 1)
		return err_set(op->e, -ENOTSUP, "image '%s' is of version %u.%u; 1.x is known here", op->path,
			       ld_le32(h + V_VERSION) >> 16, ld_le32(h + V_VERSION) & 0xffff);
	ret = vdi_type(op, ld_le32(h + V_TYPE));
	if (ret)
		return ret;
	v->map = ld_le32(h + V_MAP);
	v->data = ld_le32(h + V_DATA);
	v->block = ld_le32(h + V_BLOCK);
	v->n_blocks = ld_le32(h + V_BLOCKS);
	size = ld_le64(h + V_SIZE);
	if (!is_pow2(v->block) || v->block < MIN_BLOCK || v->block > MAX_BLOCK)
		return foreign_bad(op, "its block size");
	if (ld_le32(h + V_EXTRA))
		return err_set(op->e, -ENOTSUP, "image '%s' keeps extra data in its blocks, which is not known here", op->path);
	if (!size || size > (uint64_t)v->n_blocks * v->block || ld_le32(h + V_SECTOR) != BLK_SECTOR)
		return foreign_bad(op, "its size");
	if (v->map < BLK_SECTOR || v->data % BLK_SECTOR || v->data < v->map ||
	    !range_inside(v->map, (uint64_t)v->n_blocks * 4, op->file->i.size))
		return foreign_bad(op, "its block map");
	v->f.n.i.size = align_up(size, BLK_SECTOR);
	v->f.n.i.cluster = v->block;
	return 0;
}

int vdi_open(const struct foreign_opening *op, struct foreign **out)
{
	struct vdi *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = foreign_init(&v->f, op, &vdi_ops);
	ret = ret ? ret : vdi_header(v, op);
	if (ret)
		return foreign_drop(&v->f, ret);
	*out = &v->f;
	return 0;
}
