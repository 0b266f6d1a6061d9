/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk's configuration space (virtio 1.2, 5.2.4), made from what the node
 * says about itself and what the user set; and the disk that changes its size.
 *
 * Numbers that a field cannot hold are left out (0: "not known") or clamped,
 * never cut off.
 */
#include "virtio/blk_int.h"

#include <errno.h>

#include "base/bits.h"

#define SIZE_MAX_BYTES (4u << 20)

int vblk_check_opts(const char *id, const struct virtio_blk_opts *o, struct err *e)
{
	if (!o->queues || o->queues > VIRTIO_MAX_QUEUES)
		return err_set(e, -EINVAL, "disk %s: %u queues, but 1 to %d are possible", id, o->queues,
			       VIRTIO_MAX_QUEUES);
	if (!is_pow2(o->queue_size) || o->queue_size < 8 || o->queue_size > VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "disk %s: queue size %u is not a power of two from 8 to %d", id, o->queue_size,
			       VQ_MAX_SIZE);
	return 0;
}

/* 5.2.4: in logical blocks; 0 or what does not fit: the driver takes its default. */
static void set_topology(struct virtio_blk *b)
{
	const struct disk_opts *o = &b->disk.o;
	const struct blk_info *i = &b->disk.node->i;
	uint32_t block = o->block_size, physical = disk_physical_block(&b->disk);
	uint32_t min_io = o->min_io ? o->min_io : i->min_io, opt_io = o->opt_io ? o->opt_io : i->opt_io;

	b->cfg.physical_block_exp = (uint8_t)(__builtin_ctz(physical) - __builtin_ctz(block));
	/* Where the first whole physical block begins. */
	if (i->align_offset % block == 0 && i->align_offset / block <= UINT8_MAX)
		b->cfg.alignment_offset = (uint8_t)(i->align_offset / block);
	b->cfg.min_io_size = 1;
	if (min_io % block == 0 && min_io / block && min_io / block <= UINT16_MAX)
		b->cfg.min_io_size = (uint16_t)(min_io / block);
	if (opt_io % block == 0)
		b->cfg.opt_io_size = opt_io / block;
}

static void set_ranges(struct virtio_blk *b)
{
	uint32_t unit = disk_discard_unit(&b->disk);

	/* Requests of whole units only: 1 GiB holds a whole number of any (they are powers of two up to 2 MiB),
	 * but a device of the host may have others. */
	b->cfg.max_discard_sectors = MAX_RANGE_SECTORS;
	if (unit / BLK_SECTOR <= MAX_RANGE_SECTORS)
		b->cfg.max_discard_sectors = (uint32_t)align_down(MAX_RANGE_SECTORS, unit / BLK_SECTOR);
	b->cfg.max_write_zeroes_sectors = MAX_RANGE_SECTORS;
	b->cfg.max_discard_seg = b->cfg.max_write_zeroes_seg = MAX_SEGMENTS;
	b->cfg.discard_sector_alignment = unit / BLK_SECTOR;
	b->cfg.write_zeroes_may_unmap = disk_can_discard(&b->disk);
}

uint64_t vblk_make_config(struct virtio_blk *b, const struct virtio_blk_opts *o)
{
	const struct blk_info *i = &b->disk.node->i;
	uint64_t f = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE;

	b->cfg.capacity = i->size / BLK_SECTOR;
	b->cfg.size_max = SIZE_MAX_BYTES;
	/* Header and status take two descriptors of a chain without indirection. */
	b->cfg.seg_max = o->queue_size - 2u;
	b->cfg.blk_size = b->disk.o.block_size;
	b->cfg.writeback = 1;
	b->cfg.num_queues = (uint16_t)o->queues;
	set_topology(b);
	set_ranges(b);
	if (o->queues > 1)
		f |= F_MQ;
	if (i->read_only)
		return f | F_RO;
	return f | (disk_can_discard(&b->disk) ? F_DISCARD : 0) | (i->can_zero ? F_WRITE_ZEROES : 0);
}

/* Both locks held. */
static void capacity_changed(struct virtio_blk *b)
{
	uint64_t now = b->disk.node->i.size / BLK_SECTOR;

	if (now == b->cfg.capacity)
		return;
	b->cfg.capacity = now;
	virtio_dev_config_changed(&b->d);
}

void vblk_resized(struct disk *d)
{
	capacity_changed(container_of(d, struct virtio_blk, disk));
}

void virtio_blk_size_changed(struct virtio_dev *d)
{
	virtio_dev_lock(d);
	capacity_changed(to_blk(d));
	virtio_dev_unlock(d);
}

int virtio_blk_resize(struct virtio_dev *d, uint64_t size, struct err *e)
{
	struct virtio_blk *b = to_blk(d);
	int ret;

	virtio_dev_lock(d);
	ret = disk_resize(&b->disk, size, e);
	/* It may have failed half way. */
	capacity_changed(b);
	virtio_dev_unlock(d);
	return ret;
}

struct disk *virtio_blk_disk(struct virtio_dev *d)
{
	return &to_blk(d)->disk;
}
