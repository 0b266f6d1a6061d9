/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fuzzing the controllers of disks shares: a machine with 1 MiB of memory,
 * two small disks whose host fails and stalls, and a PCI card between them and
 * the input's bytes;
 */
#ifndef LODGE_FUZZ_CARD_FUZZ_H
#define LODGE_FUZZ_CARD_FUZZ_H

#include "input.h"

#include <errno.h>

#include "pci/pci.h"
#include "storage/disk.h"

#define CARD_RAM (1u << 20)
#define CARD_BAR 0xc0000000ull
#define CARD_DISK (64u << 10)
#define CARD_STEPS 4096

struct card {
	struct fuzz_input in;
	struct machine *m;
	struct pci_bus *root;
	struct blk_node *node[2];
	uint8_t *ram;
};

static inline uint64_t card_take(struct card *c, unsigned len) { return input_take(&c->in, len); }

static inline int card_msi(void *opaque, const struct msi *msg)
{
	return 0;
}

static inline void card_wr(struct card *c, uint32_t off, unsigned len, uint64_t v)
{
	uint8_t b[8];

	st_le64(b, v);
	bus_access(c->m->mmio, CARD_BAR + off, b, len, true);
}

/* The input's bytes into memory. */
static inline void card_memory(struct card *c, uint64_t at) { input_memory(&c->in, c->ram, CARD_RAM, at); }

static inline void card_save_load(struct card *c) { input_save_load(&c->in, c->m); }

/* The host's side: requests held, or failing. Machine lock held. */
static inline void card_hold_or_fail(struct card *c, uint8_t what)
{
	struct blk_node *n = c->node[what & 1];

	if (what & 2)
		blk_mem_fail_with(n, (unsigned)card_take(c, 1), what & 8 ? -ENOSPC : -EIO, what & 16);
	else
		blk_mem_hold(n, what & 8);
}

/* Machine, PCI root and disks; the lock is held afterwards. */
static inline void card_up(struct card *c, const uint8_t *data, size_t size)
{
	struct pci_root_config cfg = { .cf8 = true };
	struct err e;

	*c = (struct card){ .in = { data, size } };
	c->ram = input_machine(CARD_RAM, &c->m);
	c->m->msi = card_msi;
	machine_lock(c->m);
	if (pci_root_new(c->m, &cfg, &c->root, &e))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		if (blk_open_mem(c->m->loop, CARD_DISK, &c->node[i]))
			abort();
		c->node[i]->i.can_discard = c->node[i]->i.can_zero = true;
	}
}

static inline struct disk_opts card_disk_opts(size_t size)
{
	return (struct disk_opts){ .on_read_error = size & 1 ? DISK_STOP : DISK_REPORT, .on_write_error = DISK_ENOSPC };
}

#endif
