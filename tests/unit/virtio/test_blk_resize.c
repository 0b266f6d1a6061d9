/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio disk that changes its size while a driver uses it, through the registers
 * of either transport, with and without an I/O thread: interrupt, generation, capacity,
 * and what can be read afterwards.
 */
#include "driver.h"

#include <stdlib.h>
#include <unistd.h>

#include "virtio/blk.h"

#define DISK (1u << 20)
#define HDR 0x400000ull
#define DATA 0x401000ull
#define STATUS 0x400800ull

struct kind {
	bool pci, io;
};

static uint32_t generation(struct drv *d)
{
	return (uint32_t)drv_rd(d, d->pci ? DRV_BAR + 0x15 : DRV_MMIO + 0xfc, d->pci ? 1 : 4);
}

/* Reads one sector; its status. */
static uint8_t read_sector(struct drv *d, uint64_t sector)
{
	uint8_t h[16] = { 0 }, status = 0xaa;
	uint32_t id, len;

	st_le64(h + 8, sector);
	mem_write(d->m->mem, HDR, h, sizeof(h));
	mem_write(d->m->mem, STATUS, &status, 1);
	ring_push(&d->ring[0], (struct ring_buf[]){ { HDR, 16, false }, { DATA, 512, true }, { STATUS, 1, true } }, 3);
	drv_kick(d, 0);
	for (int i = 0; i < 5000; i++) {
		if (ring_used(&d->ring[0], &id, &len)) {
			mem_read(d->m->mem, STATUS, &status, 1);
			return status;
		}
		loop_turn(d->m->loop, 1);
	}
	fail_msg("sector %llu: no answer", (unsigned long long)sector);
	return status;
}

static void resize_to(struct drv *d, uint64_t size)
{
	struct err e = { 0 };

	machine_lock(d->m);
	if (virtio_blk_resize(d->dev, size, &e))
		fail_msg("%s", e.msg);
	machine_unlock(d->m);
}

static void told(struct drv *d, unsigned msi_before, uint64_t sectors)
{
	machine_lock(d->m);
	if (d->pci) {
		assert_int_equal(d->n_msi, msi_before + 1);
		assert_int_equal(d->msi_data, 0x40);	/* the configuration's vector */
	} else {
		assert_true(d->wire);
	}
	machine_unlock(d->m);
	if (!d->pci) {
		assert_int_equal(drv_rd(d, DRV_MMIO + 0x60, 4) & 2, 2);
		drv_wr(d, DRV_MMIO + 0x64, 4, 3);
	}
	assert_int_equal(drv_config(d, 0, 4), sectors);
	assert_int_equal(drv_config(d, 4, 4), 0);
}

static unsigned msis(struct drv *d)
{
	unsigned n;

	machine_lock(d->m);
	n = d->n_msi;
	machine_unlock(d->m);
	return n;
}

static void resize_is_told(void **state)
{
	const struct kind *k = *state;
	struct virtio_blk_opts o = { 0 };
	struct iothread *io = NULL;
	struct blk_node *node;
	struct virtio_dev *dev;
	struct err e = { 0 };
	struct drv d;
	uint32_t gen;
	unsigned before;

	drv_machine(&d);
	if (k->io)
		assert_int_equal(iothread_new(d.m, "io", &io), 0);
	o.disk.io = io;
	assert_int_equal(blk_open_mem(io ? iothread_loop(io) : d.m->loop, DISK, &node), 0);
	machine_lock(d.m);
	assert_int_equal(virtio_blk_new(d.m, "disk0", node, &o, &dev, &e), 0);
	machine_unlock(d.m);
	drv_plug(&d, dev, k->pci);
	drv_start(&d, ~0ull, 64);
	assert_int_equal(drv_config(&d, 0, 4), DISK / 512);
	assert_int_equal(read_sector(&d, DISK / 512 - 1), 0);
	gen = generation(&d);
	/* The last interrupt of the read may be on its way still. */
	usleep(20000);
	before = msis(&d);
	if (!k->pci)
		drv_wr(&d, DRV_MMIO + 0x64, 4, 3);
	resize_to(&d, DISK / 2);
	told(&d, before, DISK / 1024);
	assert_int_not_equal(generation(&d), gen);
	assert_int_equal(read_sector(&d, DISK / 512 - 1), 1);
	usleep(20000);
	before = msis(&d);
	resize_to(&d, DISK);
	told(&d, before, DISK / 512);
	assert_int_equal(read_sector(&d, DISK / 512 - 1), 0);
	/* To the same size: there is nothing to tell. */
	usleep(20000);
	before = msis(&d);
	resize_to(&d, DISK);
	assert_int_equal(msis(&d), before);
	machine_lock(d.m);
	machine_free_devs(d.m);
	machine_unlock(d.m);
	iothread_free(io);
	drv_free(&d);
}

int main(void)
{
	static struct kind kind[] = { { true, false }, { true, true }, { false, false }, { false, true } };
	const struct CMUnitTest tests[] = {
		{ "resize_is_told (PCI)", resize_is_told, NULL, NULL, &kind[0] },
		{ "resize_is_told (PCI, I/O thread)", resize_is_told, NULL, NULL, &kind[1] },
		{ "resize_is_told (MMIO)", resize_is_told, NULL, NULL, &kind[2] },
		{ "resize_is_told (MMIO, I/O thread)", resize_is_told, NULL, NULL, &kind[3] },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
