/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Root ports and their slots against random writes to configuration space, with
 * cards that are put in, asked for, withdrawn and freed at any moment, resets and
 * damaged saved state.
 */
#include "input.h"

#include <stdio.h>

#include "pci/root_port.h"
#include "virtio/device.h"
#include "virtio/rng.h"

#define ECAM 0xe0000000ull
#define PORTS 2
#define MAX_ACTIONS 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	struct fuzz_input in;
	struct machine *m;
	struct pci_bus *root;
	struct pci_root_port *port[PORTS];
	bool ejected[PORTS];
	unsigned n_cards;
};

static int msi(void *opaque, const struct msi *msg) { return 0; }
static void wire(void *opaque, int n, bool level) { }

static void ejected(void *opaque, struct pci_root_port *p)
{
	struct fz *f = opaque;

	for (unsigned i = 0; i < PORTS; i++)
		if (f->port[i] == p)
			f->ejected[i] = true;
}

static void put_in(struct fz *f, unsigned i)
{
	struct virtio_dev *d;
	char id[16];
	struct err e;

	if (pci_root_port_occupied(f->port[i]))
		return;
	snprintf(id, sizeof(id), "rng%u", f->n_cards++);
	if (virtio_rng_new(f->m, id, &d, &e) || virtio_pci_new(f->m, pci_root_port_bus(f->port[i]), PCI_ANY_DEVFN, d, &e))
		abort();
	pci_root_port_plugged(f->port[i]);
}

static void take_out(struct fz *f, unsigned i)
{
	struct pci_dev *d = pci_bus_dev(pci_root_port_bus(f->port[i]), 0);

	if (!d)
		return;
	d->dev.ops->free(&d->dev);
	pci_root_port_emptied(f->port[i]);
	f->ejected[i] = false;
}

/* The port's own registers more often than all others, its capability first of all. */
static void config(struct fz *f, unsigned i, uint8_t what)
{
	const struct pci_dev *port = pci_root_port_function(f->port[i]);
	unsigned len = 1u << (what >> 4) % 3, off = (unsigned)input_take(&f->in, 1);
	uint64_t at = ECAM + ((uint64_t)port->devfn << 12);
	uint8_t b[4];

	if (what & 1)
		off = 0x40 + off % 0x40;
	else if (what & 2)
		at = ECAM + (1ull << 20) + (input_take(&f->in, 1) << 12);
	st_le32(b, (uint32_t)input_take(&f->in, len));
	bus_access(f->m->mmio, at + (off & ~(len - 1)), b, len, what & 128);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)input_take(&f->in, 1), more = (uint8_t)input_take(&f->in, 1);
	unsigned i = more % PORTS;

	if (what & 8) {
		config(f, i, more);
		return;
	}
	if ((what & 7) == 7) {
		input_save_load(&f->in, f->m);
		return;
	}
	machine_lock(f->m);
	switch (what & 7) {
	case 0: put_in(f, i); break;
	case 1: pci_root_port_ask(f->port[i]); break;
	case 2: pci_root_port_withdraw(f->port[i]); break;
	case 3:
	case 4:
		if (f->ejected[i] || what & 16)
			take_out(f, i);
		break;
	case 5: machine_reset_devs(f->m); break;
	case 6: pci_root_assign(f->root, (const uint8_t[4]){ 10, 10, 11, 11 }); break;
	}
	machine_unlock(f->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pci_root_config cfg = { .ecam_base = ECAM, .ecam_buses = 4, .cf8 = true, .mmio32_base = 0xc0000000, .mmio32_size = 1 << 26,
				       .mmio64_base = 0x4000000000, .mmio64_size = 0x4000000000, .io_base = 0xc000, .io_size = 0x1000 };
	struct fz f = { .in = { data, size } };
	struct err e;

	if (machine_new(&f.m, true))
		abort();
	f.m->msi = msi;
	for (int i = 0; i < 4; i++)
		cfg.intx[i] = (struct irq){ wire, &f, i };
	machine_lock(f.m);
	if (mem_create_ram(f.m->mem, 1 << 20, 0, &e) || mem_add_ram(f.m->mem, "ram", 0, 0, 1 << 20, &e) ||
	    pci_root_new(f.m, &cfg, &f.root, &e))
		abort();
	for (unsigned i = 0; i < PORTS; i++) {
		const struct pci_root_port_opts o = { .slot = i + 1, .ejected = ejected, .opaque = &f };

		if (pci_root_port_new(f.m, f.root, PCI_DEVFN(24, i), &o, &f.port[i], &e))
			abort();
	}
	pci_root_assign(f.root, (const uint8_t[4]){ 10, 10, 11, 11 });
	machine_unlock(f.m);
	for (unsigned n = 0; f.in.left && n < MAX_ACTIONS; n++)
		step(&f);
	machine_free(f.m);
	return 0;
}
