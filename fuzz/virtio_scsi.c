/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-scsi with a disk, another unit of its target, and a CD against a hostile
 * driver; the host's side fails and stalls at times, media come and go.
 */
#include "virtio_fuzz.h"

#include "block/disk.h"
#include "block/graph.h"
#include "virtio/scsi.h"

#define DISK (64u << 10)
#define UNITS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct units {
	struct blk_node *mem[UNITS];	/* of a drive: NULL while it is empty */
	struct virtio_dev *d;
};

static const struct { uint8_t target; uint16_t lun; bool cd; } where[UNITS] = { { 0, 0, false }, { 1, 0, true }, { 1, 300, false } };

static void address(struct fuzz *f, uint8_t *p)
{
	uint8_t which = (uint8_t)fuzz_take(f, 1);
	unsigned i = which % UNITS;

	memset(p, 0, 8);
	p[0] = 1;
	p[1] = where[i].target;
	p[2] = (uint8_t)(where[i].lun >> 8 | (where[i].lun > 255 ? 0x40 : 0));
	p[3] = (uint8_t)where[i].lun;
	if (which > 200)
		p[which & 7] = (uint8_t)fuzz_take(f, 1);
}

static void desc(struct fuzz *f, unsigned q, unsigned i, uint64_t at, uint32_t len, bool write, bool last)
{
	uint8_t *d = f->ram + fuzz_ring(q) + i * 16;

	st_le64(d, at);
	st_le32(d + 8, len);
	st_le16(d + 12, (uint16_t)((write ? 2 : 0) | (last ? 0 : 1)));
	st_le16(d + 14, (uint16_t)(i + 1));
}

static void offer(struct fuzz *f, unsigned q, uint16_t head)
{
	st_le16(f->ram + fuzz_ring(q) + 0x404 + 2 * (f->avail[q] % FUZZ_QSIZE), head);
	st_le16(f->ram + fuzz_ring(q) + 0x402, ++f->avail[q]);
	fuzz_reg32(f, 0x50, q);
}

/* A command as drivers make them: header, data out; response, data in. */
static void command(struct fuzz *f)
{
	static const uint8_t common[] = { 0x28, 0x2a, 0x42, 0x41, 0x93, 0x12, 0x9e, 0x5a, 0x1b, 0x4a, 0x1e, 0x43, 0x46, 0xa0, 0x35, 0x8f };
	unsigned q = 2 + (unsigned)fuzz_take(f, 1) % 2, head = ((unsigned)fuzz_take(f, 1) % 4) * 4, n = 0;
	uint8_t how = (uint8_t)fuzz_take(f, 1), *h = f->ram + 0x80000 + head * 0x100;
	uint32_t len = (uint32_t)fuzz_take(f, 1) * 512;

	memset(h, 0, 51);
	address(f, h);
	h[8] = (uint8_t)fuzz_take(f, 1);
	for (unsigned i = 0; i < 16; i++)
		h[19 + i] = i == 0 || i == 5 || i == 8 || how & 1 ? (uint8_t)fuzz_take(f, 1) : 0;
	if (how & 2)
		h[19] = common[h[19] & 15];
	desc(f, q, head + n++, 0x80000 + head * 0x100, 51, false, false);
	if (len && how & 4)
		desc(f, q, head + n++, 0x90000 + head * 0x1000, len, false, false);
	desc(f, q, head + n++, 0x84000 + head * 0x100, 108, true, !len || how & 4);
	if (len && !(how & 4))
		desc(f, q, head + n++, 0xa0000 + head * 0x1000, len, true, true);
	offer(f, q, (uint16_t)head);
	if (how & 8)
		loop_turn(f->m->loop, 0);
}

static void control(struct fuzz *f)
{
	unsigned head = ((unsigned)fuzz_take(f, 1) % 8) * 2;
	uint8_t what = (uint8_t)fuzz_take(f, 1), *h = f->ram + 0x88000 + head * 0x40;

	memset(h, 0, 24);
	h[0] = what % 3;
	h[4] = what >> 4 & 7;
	address(f, h + (what % 3 ? 4 : 8));
	h[what % 3 ? 12 : 16] = (uint8_t)fuzz_take(f, 1);
	desc(f, 0, head, 0x88000 + head * 0x40, 24, false, false);
	desc(f, 0, head + 1, 0x88020 + head * 0x40, 8, true, true);
	offer(f, 0, (uint16_t)head);
	loop_turn(f->m->loop, 0);
}

static void event(struct fuzz *f)
{
	unsigned i = (unsigned)fuzz_take(f, 1) % FUZZ_QSIZE;

	desc(f, 1, i, 0x8c000 + i * 16, 16, true, true);
	offer(f, 1, (uint16_t)i);
}

/* The user's hands on the drive. Machine lock held. */
static void media(struct fuzz *f, struct units *u)
{
	struct scsi_lun *l = virtio_scsi_unit(u->d, where[1].target, where[1].lun);
	struct blk_node *n;
	struct err e;

	switch (fuzz_take(f, 1) % 5) {
	case 0: scsi_open_tray(l, false); break;
	case 1: scsi_open_tray(l, true); break;
	case 2: scsi_close_tray(l); break;
	case 3:
		if (l->tray_open && !scsi_remove_medium(l))
			u->mem[1] = NULL;
		break;
	default:
		if (!l->tray_open || !l->no_medium || blk_open_mem(f->m->loop, DISK, &n))
			break;
		n->i.read_only = true;
		if (scsi_insert_medium(l, n, &e))
			abort();
		u->mem[1] = n;
	}
}

static void resize(struct fuzz *f, struct units *u)
{
	struct disk *d = &virtio_scsi_unit(u->d, 0, 0)->disk;
	struct err e;

	disk_resize(d, (1 + fuzz_take(f, 1) % (DISK / 512)) * 512, &e);
	d->resized(d);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct units *u = f->opaque;
	struct blk_node *n;

	machine_lock(f->m);
	n = u->mem[(unsigned)what % UNITS];
	if ((what == 1 || what == 2) && n)
		blk_mem_hold(n, fuzz_take(f, 1) & 1);
	else if ((what == 3 || what == 8) && n)
		blk_mem_fail_with(n, (unsigned)fuzz_take(f, 1), what == 3 ? -ENOSPC : -EIO, false);
	else if (what == 4)
		media(f, u);
	else if (what == 9)
		resize(f, u);
	machine_unlock(f->m);
	if (what == 5 || what == 6)
		control(f);
	else if (what == 7)
		event(f);
	else if (what == 0 || what > 9)
		command(f);
}

static void add(struct fuzz *f, struct units *u, unsigned i, size_t size)
{
	const struct disk_opts o = { .on_read_error = size & 2 ? DISK_STOP : DISK_REPORT, .on_write_error = DISK_ENOSPC };
	struct blk_node *n;
	struct err e;

	if (blk_open_mem(f->m->loop, DISK, &u->mem[i]))
		abort();
	u->mem[i]->i.can_discard = u->mem[i]->i.can_zero = true;
	u->mem[i]->i.read_only = where[i].cd || (i == 2 && size & 1);
	if (blk_slot_new(u->mem[i], &n) || virtio_scsi_add(u->d, where[i].target, where[i].lun, i == 0 ? "disk0" : i == 1 ? "disk1" : "disk2",
							   n, where[i].cd, &o, &e))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_scsi_opts o = { .queues = 2, .queue_size = 64 };
	struct units u = { 0 };
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (virtio_scsi_new(f.m, "scsi0", &o, &u.d, &e))
		abort();
	machine_lock(f.m);
	for (unsigned i = 0; i < UNITS; i++)
		add(&f, &u, i, size);
	machine_unlock(f.m);
	f.action = action;
	f.opaque = &u;
	fuzz_play(&f, u.d);
	return 0;
}
