/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-mem against a hostile driver.  After each action the memory map has exactly as much of the region as the device says is
 * plugged, in whole blocks inside the part that may be used.
 */
#define BLOCK (1ull << 20)
#define BLOCKS 40ull
#define REGION 0x10000000ull
#define INPUT_RESERVE (BLOCKS * BLOCK)
#include "virtio_fuzz.h"

#include "virtio/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t bytes, end;
};

static void see(void *opaque, const struct mem_range *r)
{
	struct seen *s = opaque;

	if (r->gpa < REGION)
		return;
	if (!r->plugged || (r->gpa - REGION) % BLOCK || r->size % BLOCK || r->fd_offset != FUZZ_RAM + (r->gpa - REGION) || r->gpa <= s->end)
		abort();
	s->bytes += r->size;
	s->end = r->gpa + r->size;
}

static void check(struct fuzz *f)
{
	struct seen s = { 0, REGION - 1 };
	struct virtio_mem_info i;

	mem_for_each(f->m->mem, see, &s);
	virtio_mem_get(f->d, &i);
	if (s.bytes != i.plugged || i.usable > BLOCKS * BLOCK || s.end > MAX(REGION + i.usable, REGION - 1) || i.requested > BLOCKS * BLOCK)
		abort();
}

/* A request that is well made, for blocks that there may be. */
static void request(struct fuzz *f)
{
	uint64_t at = 0x8000, ring = fuzz_ring(0);
	uint8_t *d = f->ram + ring, *avail = d + 0x400;

	memset(f->ram + at, 0, 40);
	st_le16(f->ram + at, fuzz_take(f, 1) % 4);
	st_le64(f->ram + at + 8, REGION + fuzz_take(f, 1) % (BLOCKS + 2) * BLOCK);
	st_le16(f->ram + at + 16, (uint16_t)(fuzz_take(f, 1) % (BLOCKS + 2)));
	st_le64(d, at);
	st_le32(d + 8, 24);
	st_le16(d + 12, 1);
	st_le16(d + 14, 1);
	st_le64(d + 16, at + 24);
	st_le32(d + 24, 10);
	st_le16(d + 28, 2);
	st_le16(avail + 4 + 2 * (f->avail[0] % FUZZ_QSIZE), 0);
	st_le16(avail + 2, ++f->avail[0]);
	fuzz_reg32(f, 0x50, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct err e;

	if (what & 3) {
		if ((what & 3) == 1)
			request(f);
		loop_turn(f->m->loop, 0);
	} else {
		machine_lock(f->m);
		if (what & 4)
			virtio_mem_machine_reset(f->d);
		else
			virtio_mem_request(f->d, fuzz_take(f, 1) % (BLOCKS + 2) * BLOCK + (what & 8), &e);
		machine_unlock(f->m);
	}
	check(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct virtio_mem_opts o = { .name = "vm0", .gpa = REGION, .offset = FUZZ_RAM, .size = BLOCKS * BLOCK, .block_size = BLOCK };
	struct virtio_dev *d;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	if (virtio_mem_new(f.m, "vm0", &o, &d, &e))
		abort();
	f.action = action;
	fuzz_play_keep(&f, d);
	check(&f);
	machine_free(f.m);
	return 0;
}
