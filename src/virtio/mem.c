/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See mem.h.
 *
 * A bit for each block says whether it is plugged, and the memory map has exactly those.  A block that goes is told as written
 * first (what engines have made of its code is void then, and a log of written pages has it), leaves the map, and is given
 * back to the host.  A vCPU that had not heard of that may write to it for a moment longer, so a block that comes is
 * emptied again: what it holds is zeros, but with RAM that is mapped from a snapshot's file, where it is what the file has.
 *
 * Resetting the device changes no block (5.15.6.1), resetting the machine unplugs all.
 *
 * Saved state that is loaded may be taken back, so no memory is given up by that: this is done when the guest goes on.
 */
#include "virtio/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

#define F_ACPI_PXM (1ull << 0)
#define F_UNPLUGGED_INACCESSIBLE (1ull << 1)

#define QUEUE_SIZE 128
#define BATCH 8				/* requests a turn of the loop */

/* 5.15.6 */
enum { REQ_PLUG, REQ_UNPLUG, REQ_UNPLUG_ALL, REQ_STATE };
enum { RESP_ACK, RESP_NACK, RESP_BUSY, RESP_ERROR };
enum { STATE_PLUGGED, STATE_UNPLUGGED, STATE_MIXED };
#define REQ_LEN 24
#define REQ_ADDR 8
#define REQ_BLOCKS 16
#define RESP_LEN 10
#define RESP_STATE 8

/* struct virtio_mem_config, 5.15.4 */
#define CFG_BLOCK_SIZE 0
#define CFG_NODE 8
#define CFG_ADDR 16
#define CFG_REGION_SIZE 24
#define CFG_USABLE 32
#define CFG_PLUGGED 40
#define CFG_REQUESTED 48
#define CONFIG_LEN 56

/* What may be used beyond what is requested: drivers plug parts of larger units of their own (Linux: 128 MiB), which have to
 * lie in it as a whole. */
#define EXTENT (256ull << 20)

struct vmem {
	struct virtio_dev dev;		/* first */
	char name[24];
	int32_t node;
	unsigned number;
	uint64_t gpa, offset, size, block_size;
	uint64_t requested, usable, plugged;
	uint64_t blocks;
	uint8_t *bitmap;		/* bit n: block n is plugged */
	uint32_t bitmap_len;
	bool loaded;			/* what is not plugged is to be given back when the guest goes on */
	struct vq_chain chain;
};

static struct vmem *of(struct virtio_dev *d)
{
	return container_of(d, struct vmem, dev);
}

/* ---- blocks ---- */

static bool has(const struct vmem *v, uint64_t block)
{
	return v->bitmap[block / 8] >> (block % 8) & 1;
}

/* The end of the run of blocks that are as `first` is; at most `limit`. */
static uint64_t run_end(const struct vmem *v, uint64_t first, uint64_t limit)
{
	bool is = has(v, first);

	while (first < limit && has(v, first) == is) {
		/* Eight that are alike. */
		if (first % 8 == 0 && first + 8 <= limit && v->bitmap[first / 8] == (is ? 0xff : 0))
			first += 8;
		else
			first++;
	}
	return first;
}

static void set(struct vmem *v, uint64_t first, uint64_t n, bool on)
{
	for (uint64_t i = first; i < first + n; i++) {
		if (on)
			v->bitmap[i / 8] |= (uint8_t)(1u << (i % 8));
		else
			v->bitmap[i / 8] &= (uint8_t)~(1u << (i % 8));
	}
	v->plugged += on ? n * v->block_size : -(n * v->block_size);
}

/* Into the map, as it is in the backing. */
static int show(struct vmem *v, uint64_t first, uint64_t n)
{
	uint64_t at = first * v->block_size, len = n * v->block_size;
	struct mem *mem = v->dev.m->mem;
	struct err e;
	int ret = mem_plug(mem, v->name, v->gpa + at, v->offset + at, len, &e);

	if (!ret)
		mem_written(mem, v->gpa + at, len);
	return ret;
}

static int hide(struct vmem *v, uint64_t first, uint64_t n)
{
	uint64_t at = first * v->block_size, len = n * v->block_size;
	struct mem *mem = v->dev.m->mem;

	mem_written(mem, v->gpa + at, len);
	return mem_unplug(mem, v->gpa + at, len);
}

/* To the host. A file system or huge pages that cannot do it: the host gains nothing. */
static void give_back(struct vmem *v, uint64_t first, uint64_t n)
{
	mem_ram_release(v->dev.m->mem, v->offset + first * v->block_size, n * v->block_size);
}

static int plug(struct vmem *v, uint64_t first, uint64_t n)
{
	int ret;

	give_back(v, first, n);
	ret = show(v, first, n);
	if (!ret)
		set(v, first, n, true);
	return ret;
}

static int unplug(struct vmem *v, uint64_t first, uint64_t n)
{
	int ret = hide(v, first, n);

	if (ret)
		return ret;
	give_back(v, first, n);
	set(v, first, n, false);
	return 0;
}

/* Calls fn for each run of blocks that are plugged. */
static int each_run(struct vmem *v, int (*fn)(struct vmem *v, uint64_t first, uint64_t n))
{
	uint64_t end;
	int ret = 0;

	for (uint64_t i = 0; i < v->blocks && !ret; i = end) {
		end = run_end(v, i, v->blocks);
		if (has(v, i))
			ret = fn(v, i, end - i);
	}
	return ret;
}

static void tell(struct vmem *v)
{
	machine_tell(v->dev.m, MACHINE_EV_MEMORY_SIZE, v->number);
}

/* The usable part follows what is requested, and becomes smaller only when nothing is plugged. */
static void resize_usable(struct vmem *v, bool may_shrink)
{
	uint64_t want = v->requested ? MIN(v->size, align_up(v->requested + EXTENT, v->block_size)) : 0;

	if (want > v->usable || may_shrink)
		v->usable = want;
}

static int unplug_all(struct vmem *v)
{
	uint64_t before = v->plugged;
	int ret = each_run(v, unplug);

	if (!ret)
		resize_usable(v, true);
	if (before != v->plugged)
		tell(v);
	return ret;
}

/* ---- requests ---- */

/* The blocks that a request names; false: not whole blocks of the usable part. */
static bool find_blocks(const struct vmem *v, uint64_t addr, uint64_t n, uint64_t *first)
{
	uint64_t off = addr - v->gpa;	/* wraps below the region, and is then too large */

	if (!n || n > v->blocks || off % v->block_size || !range_inside(off, n * v->block_size, v->usable))
		return false;
	*first = off / v->block_size;
	return true;
}

static bool all_are(const struct vmem *v, uint64_t first, uint64_t n, bool plugged)
{
	return has(v, first) == plugged && run_end(v, first, first + n) == first + n;
}

static int change(struct vmem *v, uint64_t first, uint64_t n, bool on)
{
	int ret;

	if (on && (v->plugged > v->requested || n * v->block_size > v->requested - v->plugged))
		return RESP_NACK;
	if (!all_are(v, first, n, !on))
		return RESP_ERROR;
	ret = on ? plug(v, first, n) : unplug(v, first, n);
	if (ret)
		return RESP_BUSY;
	tell(v);
	return RESP_ACK;
}

static unsigned state_of(const struct vmem *v, uint64_t first, uint64_t n)
{
	return all_are(v, first, n, true) ? STATE_PLUGGED : all_are(v, first, n, false) ? STATE_UNPLUGGED : STATE_MIXED;
}

/* False: no request that there is. */
static bool answer(struct vmem *v, const uint8_t *req, uint8_t *resp)
{
	unsigned type = ld_le16(req);
	uint64_t n = ld_le16(req + REQ_BLOCKS), first = 0;
	int ret;

	if (type > REQ_STATE)
		return false;
	if (type == REQ_UNPLUG_ALL)
		ret = unplug_all(v) ? RESP_BUSY : RESP_ACK;
	else if (!find_blocks(v, ld_le64(req + REQ_ADDR), n, &first))
		ret = RESP_ERROR;
	else if (type == REQ_STATE)
		ret = RESP_ACK;
	else
		ret = change(v, first, n, type == REQ_PLUG);
	st_le16(resp, (uint16_t)ret);
	if (type == REQ_STATE && ret == RESP_ACK)
		st_le16(resp + RESP_STATE, (uint16_t)state_of(v, first, n));
	return true;
}

static bool serve(struct vmem *v, struct vq *vq)
{
	const struct vq_chain *c = &v->chain;
	uint8_t req[REQ_LEN], resp[RESP_LEN] = { 0 };

	if (c->len_read < REQ_LEN || c->len_write < RESP_LEN)
		return false;
	iov_to_buf(c->iov, c->n_read, 0, req, sizeof(req));
	if (!answer(v, req, resp))
		return false;
	iov_from_buf(c->iov + c->n_read, c->n_write, 0, resp, sizeof(resp));
	vq_put(vq, c, sizeof(resp));
	return true;
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct vmem *v = of(d);
	struct vq *vq = &d->vq[q];
	unsigned batch = BATCH;
	int ret = 0;

	vq_kick_enable(vq, false);
	while (batch-- && (ret = vq_get(vq, &v->chain)) > 0)
		if (!serve(v, vq)) {
			ret = -EPROTO;
			break;
		}
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(d, "memory device: no request that there is");
	else if (vq_kick_enable(vq, true))
		virtio_dev_ring(d, q);
}

/* ---- device ---- */

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	struct vmem *v = of(d);
	uint8_t config[CONFIG_LEN] = { 0 };

	st_le64(config + CFG_BLOCK_SIZE, v->block_size);
	st_le16(config + CFG_NODE, (uint16_t)MAX(v->node, 0));
	st_le64(config + CFG_ADDR, v->gpa);
	st_le64(config + CFG_REGION_SIZE, v->size);
	st_le64(config + CFG_USABLE, v->usable);
	st_le64(config + CFG_PLUGGED, v->plugged);
	st_le64(config + CFG_REQUESTED, v->requested);
	memcpy(buf, config + off, len);
}

static void reset(struct virtio_dev *d)
{
}

static void queue_reset(struct virtio_dev *d, unsigned q)
{
}

static int release_rest(struct vmem *v)
{
	uint64_t end;

	for (uint64_t i = 0; i < v->blocks; i = end) {
		end = run_end(v, i, v->blocks);
		if (!has(v, i))
			give_back(v, i, end - i);
	}
	return 0;
}

static void resume(struct virtio_dev *d)
{
	struct vmem *v = of(d);

	if (v->loaded)
		release_rest(v);
	v->loaded = false;
}

static const struct snap_field fields[] = {
	SNAP_FIELD(struct vmem, gpa),
	SNAP_FIELD(struct vmem, size),
	SNAP_FIELD(struct vmem, block_size),
	SNAP_FIELD(struct vmem, requested),
	SNAP_FIELD(struct vmem, usable),
	SNAP_END,
};
static const struct snap_table table = { "virtio-mem", 1, fields };

static int save(struct virtio_dev *d, struct snap_out *o)
{
	struct vmem *v = of(d);
	int ret = snap_put(o, d->id, &table, v);

	return ret ? ret : snap_put_blob(o, d->id, v->bitmap, v->bitmap_len);
}

/* A device like ours, with blocks where there may be some. */
static int check_loaded(const struct vmem *now, const struct vmem *l, uint32_t len, struct err *e)
{
	if (l->gpa != now->gpa || l->size != now->size || l->block_size != now->block_size)
		return err_set(e, -EINVAL, "%s: the saved memory device has %llu MiB in blocks of %llu KiB at %#llx, this one %llu, %llu and %#llx",
			       now->dev.id, (unsigned long long)l->size >> 20, (unsigned long long)l->block_size >> 10, (unsigned long long)l->gpa,
			       (unsigned long long)now->size >> 20, (unsigned long long)now->block_size >> 10, (unsigned long long)now->gpa);
	if (len != now->bitmap_len || l->requested > l->size || l->requested % l->block_size || l->usable > l->size || l->usable % l->block_size)
		return err_set(e, -EINVAL, "%s: the saved memory device's sizes are damaged", now->dev.id);
	for (uint64_t i = l->usable / l->block_size; i < 8ull * len; i++)
		if (has(l, i))
			return err_set(e, -EINVAL, "%s: the saved memory device has a block plugged where there is none", now->dev.id);
	return 0;
}

static int count(struct vmem *v, uint64_t first, uint64_t n)
{
	v->plugged += n * v->block_size;
	return 0;
}

static int take_loaded(struct vmem *v, struct vmem *l, struct err *e)
{
	uint8_t *old = v->bitmap;

	each_run(v, hide);
	v->bitmap = l->bitmap;
	l->bitmap = old;
	v->requested = l->requested;
	v->usable = l->usable;
	v->plugged = 0;
	v->loaded = true;
	each_run(v, count);
	return each_run(v, show) ? err_set(e, -ENOSPC, "%s: the saved memory is in too many pieces", v->dev.id) : 0;
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct vmem *v = of(d), *l = malloc(sizeof(*l));
	uint32_t len = 0;
	int ret;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	*l = *v;
	l->bitmap = calloc(1, v->bitmap_len);
	ret = l->bitmap ? snap_get(in, d->id, &table, l, e) : err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : snap_get_blob(in, d->id, l->bitmap, v->bitmap_len, &len, e);
	ret = ret ? ret : check_loaded(v, l, len, e);
	ret = ret ? ret : take_loaded(v, l, e);
	free(l->bitmap);
	free(l);
	return ret;
}

static void release(struct virtio_dev *d)
{
	virtio_dev_fini(d);
	free(of(d)->bitmap);
	free(of(d));
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-mem",
	.device_id = 24,
	.pci_class = 0x00ff00,
	.config_read = config_read,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.resume = resume,
	.save = save,
	.load = load,
	.free = release,
};

int virtio_mem_check(uint64_t size, uint64_t block_size, uint64_t requested, struct err *e)
{
	if (!is_pow2(block_size) || block_size < VIRTIO_MEM_BLOCK_MIN)
		return err_set(e, -EINVAL, "'block-size' is a power of two, and at least %#llx", VIRTIO_MEM_BLOCK_MIN);
	if (!size || size % block_size)
		return err_set(e, -EINVAL, "the size of %llu bytes has to be a multiple of 'block-size' (%#llx)", (unsigned long long)size,
			       (unsigned long long)block_size);
	if (requested % block_size)
		return err_set(e, -EINVAL, "'requested-size' has to be multiples of 'block-size' (%#llx)", (unsigned long long)block_size);
	if (requested > size)
		return err_set(e, -EINVAL, "'requested-size' cannot exceed the memory backend size (%#llx)", (unsigned long long)size);
	return 0;
}

int virtio_mem_new(struct machine *m, const char *id, const struct virtio_mem_opts *o, struct virtio_dev **out, struct err *e)
{
	static const uint16_t sizes[] = { QUEUE_SIZE };
	int ret = virtio_mem_check(o->size, o->block_size, 0, e);
	struct vmem *v = ret ? NULL : calloc(1, sizeof(*v));

	if (ret)
		return ret;
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(v->name, sizeof(v->name), "%s", o->name);
	v->gpa = o->gpa;
	v->offset = o->offset;
	v->size = o->size;
	v->block_size = o->block_size;
	v->node = o->node;
	v->number = o->number;
	v->blocks = v->size / v->block_size;
	v->bitmap_len = (uint32_t)((v->blocks + 7) / 8);
	v->bitmap = calloc(1, v->bitmap_len);
	ret = v->bitmap ? virtio_dev_init(&v->dev, m, &ops, id, F_UNPLUGGED_INACCESSIBLE | (o->node >= 0 ? F_ACPI_PXM : 0), CONFIG_LEN,
					  ARRAY_LEN(sizes), sizes) : -ENOMEM;
	if (ret) {
		free(v->bitmap);
		free(v);
		return err_set(e, ret, "cannot create memory device %s: %s", id, strerror(-ret));
	}
	*out = &v->dev;
	return 0;
}

int virtio_mem_request(struct virtio_dev *d, uint64_t bytes, struct err *e)
{
	struct vmem *v = of(d);
	int ret = virtio_mem_check(v->size, v->block_size, bytes, e);

	if (ret || bytes == v->requested)
		return ret;
	v->requested = bytes;
	resize_usable(v, false);
	virtio_dev_config_changed(d);
	return 0;
}

void virtio_mem_get(struct virtio_dev *d, struct virtio_mem_info *out)
{
	const struct vmem *v = of(d);

	*out = (struct virtio_mem_info){
		.gpa = v->gpa, .max_size = v->size, .block_size = v->block_size, .requested = v->requested, .usable = v->usable,
		.plugged = v->plugged, .node = v->node,
	};
}

void virtio_mem_machine_reset(struct virtio_dev *d)
{
	unplug_all(of(d));
}
