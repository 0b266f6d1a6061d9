/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small virtio driver over either transport, for tests: a machine with 64 MiB
 * of RAM, a PCI root or an MMIO slot, and registers reached through the buses as
 * a vCPU reaches them.
 *
 *	struct drv d;
 *	drv_machine(&d);
 *	virtio_rng_new(d.m, "rng0", &dev, &e);
 *	drv_plug(&d, dev, true);		// true: PCI, false: MMIO
 *	drv_start(&d, ~0ull, 64);		// all features, every queue of 64 entries
 *	ring_push(&d.ring[0], ...); drv_kick(&d, 0); drv_poll(&d);
 *	drv_free(&d);
 */
#ifndef LODGE_TESTS_VIRTIO_DRIVER_H
#define LODGE_TESTS_VIRTIO_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "machine/machine.h"
#include "pci/pci.h"
#include "ring.h"
#include "virtio/device.h"

#define DRV_RAM (64ull << 20)
#ifndef DRV_RESERVE
#define DRV_RESERVE 0			/* bytes of the backing behind it, for a test that shows them itself */
#endif
#define DRV_RINGS 0x100000ull		/* 64 KiB for each queue */
#define DRV_ECAM 0xe0000000ull
#define DRV_MMIO 0xd0000000ull
#define DRV_BAR 0xc0000000ull

struct drv {
	struct machine *m;
	struct virtio_dev *dev;
	struct pci_bus *root;
	bool pci;
	struct ring ring[VIRTIO_MAX_QUEUES];
	unsigned n_queues;
	unsigned n_msi;
	uint32_t msi_data;
	bool wire;
};

static inline int drv_msi(void *opaque, const struct msi *msg)
{
	struct drv *d = opaque;

	d->n_msi++;
	d->msi_data = msg->data;
	return 0;
}

static inline void drv_wire(void *opaque, int n, bool level)
{
	((struct drv *)opaque)->wire = level;
}

static inline void drv_machine(struct drv *d)
{
	struct err e;

	memset(d, 0, sizeof(*d));
	assert_int_equal(machine_new(&d->m, true), 0);
	mem_reserve(d->m->mem, DRV_RESERVE);
	assert_int_equal(mem_create_ram(d->m->mem, DRV_RAM + DRV_RESERVE, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(d->m->mem, "ram", 0, 0, DRV_RAM, &e), 0);
	d->m->msi = drv_msi;
	d->m->msi_opaque = d;
}

static inline uint64_t drv_rd(struct drv *d, uint64_t addr, unsigned len)
{
	uint8_t b[8] = { 0 };

	bus_access(d->m->mmio, addr, b, len, false);
	return ld_le(b, len);
}

static inline void drv_wr(struct drv *d, uint64_t addr, unsigned len, uint64_t v)
{
	uint8_t b[8];

	st_le64(b, v);
	bus_access(d->m->mmio, addr, b, len, true);
}

#define DRV_CFG(off) (DRV_ECAM + (1 << 15) + (off))	/* slot 1 */

static inline void drv_plug(struct drv *d, struct virtio_dev *dev, bool pci)
{
	struct pci_root_config cfg = { .ecam_base = DRV_ECAM, .ecam_buses = 1, .mmio32_base = DRV_BAR,
				       .mmio32_size = 1 << 24 };
	struct irq wire = { drv_wire, d, 0 };
	struct err e;

	d->dev = dev;
	d->pci = pci;
	machine_lock(d->m);
	if (pci) {
		for (int i = 0; i < 4; i++)
			cfg.intx[i] = wire;
		assert_int_equal(pci_root_new(d->m, &cfg, &d->root, &e), 0);
		assert_int_equal(virtio_pci_new(d->m, d->root, PCI_ANY_DEVFN, dev, &e), 0);
		pci_root_assign(d->root, (const uint8_t[4]){ 10, 10, 11, 11 });
	} else {
		assert_int_equal(virtio_mmio_new(d->m, DRV_MMIO, &wire, dev, &e), 0);
	}
	machine_unlock(d->m);
	if (pci)
		drv_wr(d, DRV_CFG(4), 2, drv_rd(d, DRV_CFG(4), 2) | PCI_COMMAND_MASTER);
}

static inline uint8_t drv_status(struct drv *d)
{
	return d->pci ? drv_rd(d, DRV_BAR + 0x14, 1) : drv_rd(d, DRV_MMIO + 0x70, 4);
}

static inline void drv_set_status(struct drv *d, uint8_t v)
{
	drv_wr(d, d->pci ? DRV_BAR + 0x14 : DRV_MMIO + 0x70, d->pci ? 1 : 4, v);
}

static inline uint64_t drv_features(struct drv *d)
{
	uint64_t sel = d->pci ? DRV_BAR : DRV_MMIO + 0x14, val = d->pci ? DRV_BAR + 4 : DRV_MMIO + 0x10, lo;

	drv_wr(d, sel, 4, 0);
	lo = drv_rd(d, val, 4);
	drv_wr(d, sel, 4, 1);
	return lo | drv_rd(d, val, 4) << 32;
}

static inline void drv_set_features(struct drv *d, uint64_t f)
{
	uint64_t sel = d->pci ? DRV_BAR + 8 : DRV_MMIO + 0x24, val = d->pci ? DRV_BAR + 12 : DRV_MMIO + 0x20;

	drv_wr(d, sel, 4, 0);
	drv_wr(d, val, 4, (uint32_t)f);
	drv_wr(d, sel, 4, 1);
	drv_wr(d, val, 4, f >> 32);
}

static inline void drv_addr(struct drv *d, unsigned pci_off, unsigned mmio_off, uint64_t v)
{
	uint64_t at = d->pci ? DRV_BAR + pci_off : DRV_MMIO + mmio_off;

	drv_wr(d, at, 4, (uint32_t)v);
	drv_wr(d, at + 4, 4, v >> 32);
}

static inline void drv_select(struct drv *d, unsigned q)
{
	drv_wr(d, d->pci ? DRV_BAR + 0x16 : DRV_MMIO + 0x30, d->pci ? 2 : 4, q);
}

/* Vector 0 for the configuration, q + 1 for each queue. */
static inline void drv_queue(struct drv *d, unsigned q, uint16_t size)
{
	struct ring *r = &d->ring[q];

	ring_init(r, d->m->mem, DRV_RINGS + 0x10000ull * q, size);
	drv_select(d, q);
	drv_wr(d, d->pci ? DRV_BAR + 0x18 : DRV_MMIO + 0x38, d->pci ? 2 : 4, size);
	drv_addr(d, 0x20, 0x80, r->desc);
	drv_addr(d, 0x28, 0x90, r->avail);
	drv_addr(d, 0x30, 0xa0, r->used);
	if (d->pci)
		drv_wr(d, DRV_BAR + 0x1a, 2, q + 1);
	drv_wr(d, d->pci ? DRV_BAR + 0x1c : DRV_MMIO + 0x44, d->pci ? 2 : 4, 1);
}

static inline void drv_msix(struct drv *d)
{
	uint64_t table = DRV_BAR + 0x4000;

	for (unsigned v = 0; v <= d->dev->n_queues; v++) {
		drv_wr(d, table + 16 * v, 4, 0xfee00000);
		drv_wr(d, table + 16 * v + 8, 4, 0x40 + v);
		drv_wr(d, table + 16 * v + 12, 4, 0);
	}
	drv_wr(d, DRV_CFG(0x42), 2, 0x8000);	/* MSI-X is the first capability */
	drv_wr(d, DRV_BAR + 0x10, 2, 0);
}

/* Reset to DRIVER_OK.  Features are those wanted of those offered; MSI-X on PCI. */
static inline void drv_start(struct drv *d, uint64_t features, uint16_t size)
{
	drv_set_status(d, 0);
	drv_set_status(d, VIRTIO_S_ACKNOWLEDGE);
	drv_set_status(d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER);
	drv_set_features(d, (drv_features(d) & features) | VIRTIO_F_VERSION_1);
	drv_set_status(d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK);
	assert_true(drv_status(d) & VIRTIO_S_FEATURES_OK);
	if (d->pci)
		drv_msix(d);
	d->n_queues = d->dev->n_queues;
	for (unsigned q = 0; q < d->n_queues; q++)
		drv_queue(d, q, MIN(size, d->dev->vq[q].max_size));
	drv_set_status(d, VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
}

static inline void drv_kick(struct drv *d, unsigned q)
{
	if (d->pci)
		drv_wr(d, DRV_BAR + 0x3000 + 4 * q, 2, q);
	else
		drv_wr(d, DRV_MMIO + 0x50, 4, q);
}

/* Runs the loop until it has nothing to do. */
static inline void drv_poll(struct drv *d)
{
	for (int i = 0; i < 20; i++)
		loop_turn(d->m->loop, 0);
}

static inline uint64_t drv_config(struct drv *d, uint32_t off, unsigned len)
{
	return drv_rd(d, (d->pci ? DRV_BAR + 0x2000 : DRV_MMIO + 0x100) + off, len);
}

static inline void drv_config_write(struct drv *d, uint32_t off, unsigned len, uint64_t v)
{
	drv_wr(d, (d->pci ? DRV_BAR + 0x2000 : DRV_MMIO + 0x100) + off, len, v);
}

static inline void drv_free(struct drv *d)
{
	machine_free(d->m);
}

#endif
