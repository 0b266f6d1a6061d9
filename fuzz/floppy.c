/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floppy disk controller and the DMA controllers against a hostile driver: commands, registers and channels made of the
 * input's bytes; media come and go, the host fails and stalls, and saved state is damaged.
 */
#include "input.h"

#include <errno.h>

#include "block/disk.h"
#include "block/graph.h"
#include "chipset/i8237.h"
#include "device/i82078.h"
#include "storage/media.h"

#define RAM (256u << 10)
#define STEPS 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	struct fuzz_input in;
	struct machine *m;
	struct i8237 *dma;
	struct i82078 *f;
	struct blk_node *medium[2];	/* below the slot; NULL: none, or an empty one */
	uint8_t *ram;
};

static const unsigned kib[] = { 360, 720, 1440, 2880, 160, 1200, 1000, 180 };

static uint64_t take(struct fz *f, unsigned len) { return input_take(&f->in, len); }

static void out(struct fz *f, uint16_t port, uint8_t v)
{
	bus_access(f->m->pio, port, &v, 1, true);
}

static uint8_t in(struct fz *f, uint16_t port)
{
	uint8_t v = 0;

	bus_access(f->m->pio, port, &v, 1, false);
	return v;
}

static void start(struct fz *f)
{
	out(f, 0x3f2, 0);
	out(f, 0x3f2, 0x1c);
	out(f, 0x3f7, (uint8_t)take(f, 1));
}

static void channel(struct fz *f)
{
	uint8_t how = (uint8_t)take(f, 1);

	out(f, 0x0a, 6);
	out(f, 0x0c, 0);
	out(f, 0x0b, (uint8_t)((how & 0xfc) | 2));
	for (unsigned i = 0; i < 2; i++)
		out(f, 4, (uint8_t)take(f, 1));
	out(f, 5, (uint8_t)take(f, 1));
	out(f, 5, (uint8_t)take(f, 1) & 15);
	out(f, 0x81, how & 3);
	out(f, 0xd4, 0);
	out(f, 0x0a, 2);
}

/* Mostly one that is whole, and can be done. */
static void command(struct fz *f, uint8_t what)
{
	static const uint8_t first[] = { 0xe6, 0xc5, 0x46, 0x45, 0x4d, 0x56, 0xd6, 0x51, 0x59, 0x5d, 0x4c, 0x42, 0x4a, 0x07, 0x0f, 0x8f };
	uint8_t b[9] = { what & 16 ? (uint8_t)take(f, 1) : first[what & 15], (uint8_t)take(f, 1) & 7 };

	b[2] = (uint8_t)take(f, 1) & 63;
	b[3] = what & 32 ? (uint8_t)take(f, 1) : b[1] >> 2 & 1;
	b[4] = (uint8_t)take(f, 1) & 63;
	b[5] = what & 64 ? (uint8_t)take(f, 1) : 2;
	b[6] = (uint8_t)take(f, 1) & 63;
	b[7] = 0x1b;
	b[8] = (uint8_t)take(f, 1);
	if (b[0] == 0x4d)
		b[2] = 2;
	for (unsigned i = 0; i < sizeof(b); i++)
		out(f, 0x3f5, b[i]);
}

/* The result, or the bytes of a transfer without DMA. */
static void bytes(struct fz *f, unsigned n)
{
	while (n--) {
		uint8_t s = in(f, 0x3f4);

		if (!(s & 0x80) || !(s & 0x50))
			return;
		if (s & 0x40)
			in(f, 0x3f5);
		else
			out(f, 0x3f5, (uint8_t)take(f, 1));
	}
}

static void media(struct fz *f, uint8_t what)
{
	unsigned n = what & 1;
	struct disk *d = i82078_disk(f->f, n);
	struct blk_node *image;
	struct err e;

	if (!d || d->media->remove(d))
		return;
	f->medium[n] = NULL;
	if (what & 2 || blk_open_mem(f->m->loop, kib[what >> 2 & 7] << 10, &image))
		return;
	image->i.read_only = what >> 5 & 1;
	if (d->media->insert(d, image, &e))
		blk_close(image);
	else
		f->medium[n] = image;
}

static void host(struct fz *f, uint8_t what)
{
	struct blk_node *n = f->medium[what & 1];

	machine_lock(f->m);
	switch (what >> 1 & 3) {
	case 0:
		if (n)
			blk_mem_fail_with(n, (unsigned)take(f, 1), what & 8 ? -ENOSPC : -EIO, what & 16);
		break;
	case 1:
		if (n)
			blk_mem_hold(n, what & 8);
		break;
	case 2: machine_pause_devs(f->m); break;
	default: machine_resume_devs(f->m);
	}
	machine_unlock(f->m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: start(f); break;
	case 1: case 2: case 3: command(f, (uint8_t)take(f, 1)); break;
	case 4: channel(f); break;
	case 5: out(f, (uint16_t)(0x3f0 + (what >> 4 & 7)), (uint8_t)take(f, 1)); break;
	case 6: in(f, (uint16_t)(0x3f0 + (what >> 4 & 7))); break;
	case 7: out(f, (uint16_t)(what & 16 ? 0xc0 + (what >> 5) * 2 : what >> 4), (uint8_t)take(f, 1)); break;
	case 8: in(f, (uint16_t)(what >> 4)); break;
	case 9: host(f, (uint8_t)take(f, 1)); break;
	case 10: input_save_load(&f->in, f->m); break;
	case 11: input_memory(&f->in, f->ram, RAM, take(f, 3)); break;
	case 12:
		machine_lock(f->m);
		media(f, (uint8_t)take(f, 1));
		machine_unlock(f->m);
		break;
	case 13:			/* no DMA, or DMA */
		out(f, 0x3f5, 0x03);
		out(f, 0x3f5, 0xaf);
		out(f, 0x3f5, what >> 4 & 1);
		break;
	case 14: bytes(f, 600); break;
	default: loop_turn(f->m->loop, 0); break;
	}
}

static void add(struct fz *f, unsigned n, size_t size)
{
	const struct disk_opts o = { .on_read_error = size & 1 ? DISK_STOP : DISK_REPORT, .on_write_error = DISK_ENOSPC };
	struct blk_node *slot;
	struct err e;

	if (blk_open_mem(f->m->loop, kib[size >> (2 + 2 * n) & 3] << 10, &f->medium[n]) || blk_slot_new(f->medium[n], &slot) ||
	    i82078_add(f->f, n, n ? "b" : "a", slot, &o, &e))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct i8237_config dma = { .low = 0, .high = 0xc0, .pages = 0x80 };
	struct i82078_config c = { .base = 0x3f0, .channel = 2 };
	struct fz f = { .in = { data, size } };

	f.ram = input_machine(RAM, &f.m);
	machine_lock(f.m);
	if (i8237_new(f.m, &dma, &f.dma))
		abort();
	i8237_init(f.dma);
	c.dma = f.dma;
	if (i82078_new(f.m, &c, &f.f))
		abort();
	for (unsigned n = 0; n < (size & 2 ? 2 : 1); n++)
		add(&f, n, size);
	machine_unlock(f.m);
	start(&f);
	for (unsigned i = 0; f.in.left && i < STEPS; i++)
		step(&f);
	machine_free(f.m);
	return 0;
}
