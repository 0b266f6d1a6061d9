/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI transport, configuration space, BARs, the expansion ROM and MSI-X against random register
 * accesses, with the entropy device (rate-limited at times) behind them.
 */
#include "virtio_fuzz.h"

#include "pci/pci.h"
#include "virtio/rng.h"

#define ECAM 0xe0000000ull
#define BAR 0xc0000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int msi(void *opaque, const struct msi *msg)
{
	((struct fuzz *)opaque)->irqs++;
	return 0;
}

static void access_mem(struct fuzz *f, uint64_t addr, unsigned len, bool write)
{
	uint8_t b[8];

	st_le64(b, write ? fuzz_take(f, len) : 0);
	bus_access(f->m->mmio, addr, b, len, write);
}

static void access_pio(struct fuzz *f, uint16_t port, unsigned len, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access(f->m->pio, port, b, len, v & 1);
}

/* Reset to DRIVER_OK with one queue of 16 entries, rings at FUZZ_RINGS. */
static void init_device(struct fuzz *f)
{
	static const struct { uint16_t off; uint8_t len; uint32_t v; } w[] = {
		{ 0x14, 1, 0 }, { 0x14, 1, 3 }, { 0x08, 4, 0 }, { 0x0c, 4, 3u << 28 }, { 0x08, 4, 1 },
		{ 0x0c, 4, 1 }, { 0x14, 1, 11 }, { 0x16, 2, 0 }, { 0x18, 2, FUZZ_QSIZE },
		{ 0x20, 4, FUZZ_RINGS }, { 0x28, 4, FUZZ_RINGS + 0x400 }, { 0x30, 4, FUZZ_RINGS + 0x800 },
		{ 0x1a, 2, 1 }, { 0x1c, 2, 1 }, { 0x14, 1, 15 },
	};
	uint8_t b[8];

	memset(f->ram + FUZZ_RINGS, 0, FUZZ_RING_AREA);
	f->avail[0] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(w); i++) {
		st_le64(b, w[i].v);
		bus_access(f->m->mmio, BAR + w[i].off, b, w[i].len, true);
	}
}

static void offer(struct fuzz *f)
{
	uint8_t *ring = f->ram + FUZZ_RINGS, b[2] = { 0 };

	st_le64(ring, fuzz_take(f, 3));
	st_le32(ring + 8, (uint32_t)fuzz_take(f, 2));
	st_le32(ring + 12, (uint32_t)fuzz_take(f, 1));
	st_le16(ring + 0x404 + 2 * (f->avail[0] % FUZZ_QSIZE), 0);
	st_le16(ring + 0x402, ++f->avail[0]);
	bus_access(f->m->mmio, BAR + 0x3000, b, 2, true);
}

static void step(struct fuzz *f)
{
	uint8_t what = (uint8_t)fuzz_take(f, 1);
	unsigned len = 1u << (what >> 4 & 3);

	switch (what & 15) {
	case 0: init_device(f); break;
	case 1: offer(f); break;
	case 2: case 3: access_mem(f, ECAM + (1 << 15) + fuzz_take(f, 1), len, what & 128); break;
	case 4: access_mem(f, ECAM + fuzz_take(f, 3) % (2 << 20), len, what & 128); break;
	case 5: case 6: access_mem(f, BAR + fuzz_take(f, 1), len, what & 128); break;
	case 7: access_mem(f, BAR + fuzz_take(f, 2) % 0x8008, len, what & 128); break;
	case 8: access_mem(f, BAR + 0x4000 + fuzz_take(f, 1), len, what & 128); break;
	case 9: access_pio(f, 0xcf8 + fuzz_take(f, 1) % 8, MIN(len, 4), (uint32_t)fuzz_take(f, 4)); break;
	case 10: loop_turn(f->m->loop, 0); break;
	case 11: fuzz_save_load(f); break;
	case 12: fuzz_locked(f, what & 16 ? virtio_dev_pause : virtio_dev_resume); break;
	case 13:
		machine_lock(f->m);
		virtio_rng_set_rate(f->d, fuzz_take(f, 1), 10);
		clock_step(f->m->clock, (int64_t)fuzz_take(f, 3));
		machine_unlock(f->m);
		break;
	case 14: fuzz_memory(f); break;
	case 15:
		machine_lock(f->m);
		if (what & 16)
			machine_reset_devs(f->m);
		else
			pci_root_assign(f->opaque, (const uint8_t[4]){ 10, 10, 11, 11 });
		machine_unlock(f->m);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pci_root_config cfg = { .ecam_base = ECAM, .ecam_buses = 2, .cf8 = true, .mmio32_base = BAR,
				       .mmio32_size = 1 << 24 };
	struct pci_bus *root;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	f.m->msi = msi;
	f.m->msi_opaque = &f;
	for (int i = 0; i < 4; i++)
		cfg.intx[i] = (struct irq){ fuzz_wire, &f, i };
	machine_lock(f.m);
	if (virtio_rng_new(f.m, "rng0", &f.d, &e) || pci_root_new(f.m, &cfg, &root, &e) ||
	    virtio_pci_new(f.m, root, PCI_ANY_DEVFN, f.d, &e))
		abort();
	if (pci_dev_add_rom(pci_find(root, 0, 8), "\x55\xaa", 2, &e))
		abort();
	pci_root_assign(root, (const uint8_t[4]){ 10, 10, 11, 11 });
	pci_config_write(pci_find(root, 0, 8), PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	f.opaque = root;
	machine_unlock(f.m);
	for (unsigned i = 0; f.in.left && i < FUZZ_MAX_ACTIONS; i++)
		step(&f);
	loop_turn(f.m->loop, 0);
	machine_free(f.m);
	return 0;
}
