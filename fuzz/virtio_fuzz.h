/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile driver made of the fuzzer's bytes.
 *
 * Each input builds a machine with 1 MiB of memory and one device behind the
 * MMIO transport, and is a list of actions: register accesses, memory writes,
 * descriptors, doorbells, turns of the loop, pause, save and load, and what the
 * device's own target adds.  One action is an honest initialization, so that the
 * fuzzer need not find the way to a running queue.  At the end everything is
 * torn down, whatever was in flight.
 */
#ifndef LODGE_FUZZ_VIRTIO_H
#define LODGE_FUZZ_VIRTIO_H

#include "input.h"

#include <errno.h>

#include "virtio/device.h"

#define FUZZ_RAM (1u << 20)
#define FUZZ_MMIO 0xd0000000ull
#define FUZZ_RINGS 0x1000
#define FUZZ_RING_AREA 0x1000
#define FUZZ_QSIZE 16
#define FUZZ_MAX_ACTIONS 4096

struct fuzz {
	struct fuzz_input in;
	struct machine *m;
	struct virtio_dev *d;
	uint8_t *ram;
	uint16_t avail[VIRTIO_MAX_QUEUES];
	unsigned irqs;
	/* The device's own actions; what: a byte of the input. */
	void (*action)(struct fuzz *f, uint8_t what);
	void *opaque;
};

static inline uint64_t fuzz_take(struct fuzz *f, unsigned len) { return input_take(&f->in, len); }

static inline void fuzz_wire(void *opaque, int n, bool level)
{
	((struct fuzz *)opaque)->irqs += level;
}

static inline void fuzz_reg(struct fuzz *f, uint32_t off, unsigned len, uint64_t v, bool write)
{
	uint8_t b[8];

	st_le64(b, v);
	bus_access(f->m->mmio, FUZZ_MMIO + off, b, len, write);
}

static inline void fuzz_reg32(struct fuzz *f, uint32_t off, uint32_t v)
{
	fuzz_reg(f, off, 4, v, true);
}

static inline uint64_t fuzz_ring(unsigned q) { return FUZZ_RINGS + q * (uint64_t)FUZZ_RING_AREA; }

/* 3.1.1, with the features the input asks for out of those offered. */
static inline void fuzz_init_device(struct fuzz *f)
{
	uint64_t want = (fuzz_take(f, 8) & f->d->host_features) | VIRTIO_F_VERSION_1;

	fuzz_reg32(f, 0x70, 0);
	fuzz_reg32(f, 0x70, 3);
	fuzz_reg32(f, 0x24, 0);
	fuzz_reg32(f, 0x20, (uint32_t)want);
	fuzz_reg32(f, 0x24, 1);
	fuzz_reg32(f, 0x20, (uint32_t)(want >> 32));
	fuzz_reg32(f, 0x70, 11);
	for (unsigned q = 0; q < f->d->n_queues; q++) {
		memset(f->ram + fuzz_ring(q), 0, FUZZ_RING_AREA);
		f->avail[q] = 0;
		fuzz_reg32(f, 0x30, q);
		fuzz_reg32(f, 0x38, FUZZ_QSIZE);
		fuzz_reg32(f, 0x80, (uint32_t)fuzz_ring(q));
		fuzz_reg32(f, 0x90, (uint32_t)fuzz_ring(q) + 0x400);
		fuzz_reg32(f, 0xa0, (uint32_t)fuzz_ring(q) + 0x800);
		fuzz_reg32(f, 0x44, 1);
	}
	fuzz_reg32(f, 0x70, 15);
}

/* A descriptor; addresses mostly inside memory. */
static inline void fuzz_desc(struct fuzz *f)
{
	unsigned q = (unsigned)fuzz_take(f, 1) % f->d->n_queues, i = (unsigned)fuzz_take(f, 1) % FUZZ_QSIZE;
	uint8_t how = (uint8_t)fuzz_take(f, 1);
	uint8_t *d = f->ram + fuzz_ring(q) + i * 16;

	st_le64(d, how & 1 ? fuzz_take(f, 8) : fuzz_take(f, 3) % FUZZ_RAM);
	st_le32(d + 8, how & 2 ? (uint32_t)fuzz_take(f, 4) : (uint32_t)fuzz_take(f, 2));
	st_le16(d + 12, (how >> 2) & 7);
	st_le16(d + 14, how & 0x20 ? (uint16_t)fuzz_take(f, 2) : (uint16_t)((i + 1) % FUZZ_QSIZE));
}

static inline void fuzz_publish(struct fuzz *f)
{
	unsigned q = (unsigned)fuzz_take(f, 1) % f->d->n_queues;
	uint16_t head = (uint16_t)fuzz_take(f, 1);
	uint8_t *avail = f->ram + fuzz_ring(q) + 0x400;

	st_le16(avail + 4 + 2 * (f->avail[q] % FUZZ_QSIZE), head & 0x80 ? head : head % FUZZ_QSIZE);
	st_le16(avail + 2, ++f->avail[q]);
	fuzz_reg32(f, 0x50, q);
}

static inline void fuzz_memory(struct fuzz *f)
{
	uint64_t at = fuzz_take(f, 3);

	input_memory(&f->in, f->ram, FUZZ_RAM, at);
}

static inline void fuzz_locked(struct fuzz *f, void (*fn)(struct virtio_dev *))
{
	machine_lock(f->m);
	fn(f->d);
	machine_unlock(f->m);
}

static inline void fuzz_save_load(struct fuzz *f) { input_save_load(&f->in, f->m); }

static inline void fuzz_step(struct fuzz *f)
{
	uint8_t what = (uint8_t)fuzz_take(f, 1);
	unsigned len;

	switch (what & 15) {
	case 0: fuzz_init_device(f); break;
	case 1:
	case 2: fuzz_desc(f); break;
	case 3:
	case 4: fuzz_publish(f); break;
	case 5:
	case 6: fuzz_memory(f); break;
	case 7: loop_turn(f->m->loop, 0); break;
	case 8:
	case 9:
		len = 1u << (what >> 4 & 3);
		fuzz_reg(f, (uint32_t)fuzz_take(f, 2) % (VIRTIO_MMIO_SIZE + 8), len, fuzz_take(f, 4), what & 1);
		break;
	case 10: fuzz_locked(f, what & 16 ? virtio_dev_pause : virtio_dev_resume); break;
	case 11:
		if (what & 16)
			fuzz_save_load(f);
		else
			fuzz_reg32(f, 0x70, 0);
		break;
	default: f->action(f, what >> 4); break;
	}
}

static inline void fuzz_machine(struct fuzz *f, const uint8_t *data, size_t size)
{
	memset(f, 0, sizeof(*f));
	f->in = (struct fuzz_input){ data, size };
	f->ram = input_machine(FUZZ_RAM, &f->m);
}

/* Takes the device and plays the input; the machine is left to the caller. */
static inline void fuzz_play_keep(struct fuzz *f, struct virtio_dev *d)
{
	struct irq wire = { .set = fuzz_wire, .opaque = f };
	struct err e;

	f->d = d;
	machine_lock(f->m);
	if (virtio_mmio_new(f->m, FUZZ_MMIO, &wire, d, &e))
		abort();
	machine_unlock(f->m);
	for (unsigned i = 0; f->in.left && i < FUZZ_MAX_ACTIONS; i++)
		fuzz_step(f);
	for (unsigned i = 0; i < 3; i++)
		loop_turn(f->m->loop, 0);
}

static inline void fuzz_play(struct fuzz *f, struct virtio_dev *d)
{
	fuzz_play_keep(f, d);
	machine_free(f->m);
}

#endif
