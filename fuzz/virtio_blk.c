/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk against a hostile driver; the host's side fails and stalls at times. */
#include "virtio_fuzz.h"

#include "virtio/blk.h"

#define DISK (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A request as drivers make them: header, data, status. */
static void request(struct fuzz *f)
{
	unsigned q = (unsigned)fuzz_take(f, 1) % f->d->n_queues;
	uint8_t *desc = f->ram + fuzz_ring(q), *header = f->ram + 0x80000;
	uint32_t type = (uint32_t)fuzz_take(f, 1) % 16;
	bool in = type == 0 || type == 8;

	st_le32(header, type);
	st_le64(header + 8, fuzz_take(f, 1));
	st_le64(desc, 0x80000);
	st_le32(desc + 8, 16);
	st_le16(desc + 12, 1);
	st_le16(desc + 14, 1);
	st_le64(desc + 16, 0x90000);
	st_le32(desc + 24, (uint32_t)fuzz_take(f, 1) * (type > 8 ? 16 : 512));
	st_le16(desc + 28, in ? 3 : 1);
	st_le16(desc + 30, 2);
	st_le64(desc + 32, 0x81000);
	st_le32(desc + 40, 1);
	st_le16(desc + 44, 2);
	st_le16(f->ram + fuzz_ring(q) + 0x404 + 2 * (f->avail[q] % FUZZ_QSIZE), 0);
	st_le16(f->ram + fuzz_ring(q) + 0x402, ++f->avail[q]);
	fuzz_reg32(f, 0x50, q);
	loop_turn(f->m->loop, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct blk_node *node = f->opaque;

	machine_lock(f->m);
	if (what == 1 || what == 2)
		blk_mem_hold(node, what == 1);
	else if (what == 3)
		blk_mem_fail_after(node, (unsigned)fuzz_take(f, 1));
	machine_unlock(f->m);
	if (what == 0 || what > 3)
		request(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_blk_opts o = { .disk.serial = "fuzz", .queues = 2, .queue_size = 64 };
	struct virtio_dev *d;
	struct blk_node *node;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (blk_open_mem(f.m->loop, DISK, &node))
		abort();
	node->i.read_only = size & 1;
	if (virtio_blk_new(f.m, "disk0", node, &o, &d, &e))
		abort();
	f.action = action;
	f.opaque = node;
	fuzz_play(&f, d);
	return 0;
}
