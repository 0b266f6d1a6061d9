/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI Express functions, buses and configuration space (PCI Local Bus 3.0,
 * PCIe base 4.0, 7.5).
 *
 * A function embeds struct pci_dev.  The library owns the configuration space:
 * write masks, BAR sizing and mapping, the expansion ROM, capabilities, MSI-X table and PBA, INTx.
 * Nothing assumes one flat bus: a bus has a parent bridge or is a root, numbers
 * are the guest's to program.
 */
#ifndef LODGE_PCI_PCI_H
#define LODGE_PCI_PCI_H

#include "machine/machine.h"

/* Configuration space header (7.5.1). */
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_STATUS 0x06
#define PCI_STATUS_INTX 0x0008
#define PCI_STATUS_CAP_LIST 0x0010
#define PCI_REVISION_ID 0x08
#define PCI_CLASS_PROG 0x09
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR(n) (0x10 + 4 * (n))
#define PCI_PRIMARY_BUS 0x18
#define PCI_SECONDARY_BUS 0x19
#define PCI_SUBORDINATE_BUS 0x1a
#define PCI_IO_BASE 0x1c
#define PCI_IO_LIMIT 0x1d
#define PCI_MEMORY_BASE 0x20
#define PCI_MEMORY_LIMIT 0x22
#define PCI_PREF_BASE 0x24
#define PCI_PREF_LIMIT 0x26
#define PCI_PREF_BASE_UPPER 0x28
#define PCI_PREF_LIMIT_UPPER 0x2c
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_ROM 0x30
#define PCI_CAP_PTR 0x34
#define PCI_BRIDGE_ROM 0x38
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_BRIDGE_CONTROL 0x3e

#define PCI_CAP_ID_MSI 0x05
#define PCI_CAP_ID_VENDOR 0x09
#define PCI_CAP_ID_PCIE 0x10
#define PCI_CAP_ID_MSIX 0x11

#define PCI_CONFIG_SIZE 4096
#define PCI_DEVFN(slot, fn) ((slot) << 3 | (fn))
#define PCI_NUM_BARS 6
#define PCI_ROM_MAX (16u << 20)
#define PCI_ANY_DEVFN (-1)		/* pci_free_slot */

struct pci_bus;
struct pci_dev;

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size;			/* power of two */
	struct bus_region region;	/* name, ops, opaque filled by the function */
	uint64_t mapped_at;		/* UINT64_MAX: not mapped */
};

struct pci_dev_ops {
	struct dev_ops dev;		/* life cycle; save/load must call pci_dev_save/load */
	/* After the library took a configuration write; off/len as the guest wrote. May be NULL. */
	void (*config_written)(struct pci_dev *d, unsigned off, unsigned len);
	/* Optional override of configuration reads (virtio PCI cfg access). Return true if handled. */
	bool (*config_read)(struct pci_dev *d, unsigned off, unsigned len, uint32_t *val);
	/* BARs moved, appeared or disappeared: re-register doorbells. May be NULL. */
	void (*bars_changed)(struct pci_dev *d);
};

struct pci_msix;
struct pci_rom;

struct pci_dev {
	struct dev dev;			/* first */
	const struct pci_dev_ops *ops;
	struct pci_bus *bus;
	uint8_t devfn;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t wmask[PCI_CONFIG_SIZE];		/* bits the guest may write */
	uint8_t w1c[PCI_CONFIG_SIZE];		/* bits cleared by writing one */
	uint8_t reset_val[PCI_CONFIG_SIZE];	/* copied at pci_dev_ready */
	struct pci_bar bar[PCI_NUM_BARS];
	struct pci_rom *rom;			/* NULL: none */
	uint16_t cap_next;			/* free space for capabilities */
	uint16_t ext_cap_last, ext_cap_next;
	uint16_t msi_cap, msix_cap;		/* 0: none */
	struct pci_msix *msix;
	bool intx_level;			/* what the function asks for */
	bool intx_driven;			/* what its wire carries */
};

struct pci_ids {
	uint16_t vendor, device, sub_vendor, sub_device;
	uint32_t class24;		/* base class 23:16, sub 15:8, prog-if 7:0 */
	uint8_t revision;
};

/* Construction: init, then BARs and capabilities, then ready. */
int pci_dev_init(struct pci_dev *d, struct machine *m, struct pci_bus *bus, int devfn,
		 const struct pci_dev_ops *ops, const struct pci_ids *ids, struct err *e);
int pci_dev_add_bar(struct pci_dev *d, unsigned n, enum pci_bar_kind kind, bool prefetch, uint64_t size,
		    const struct bus_ops *ops, void *opaque);
/* An expansion ROM (PCI 3.0, 6.2.5.2) of len bytes, 1 to PCI_ROM_MAX, copied; the BAR is the next power of two, 4 KiB
 * at least, and reads as zeros behind them.  Also after ready, before the guest runs.  -EINVAL, -EEXIST, -ENOMEM. */
int pci_dev_add_rom(struct pci_dev *d, const void *data, uint64_t len, struct err *e);
uint64_t pci_rom_addr(const struct pci_dev *d);			/* UINT64_MAX while not decoded */
/* Returns the offset, or -ENOSPC. body of len bytes follows the 2-byte header. */
int pci_dev_add_cap(struct pci_dev *d, uint8_t id, const void *body, unsigned len);
int pci_dev_add_ext_cap(struct pci_dev *d, uint16_t id, uint8_t ver, const void *body, unsigned len);
int pci_dev_add_msi(struct pci_dev *d, unsigned vectors);		/* power of two; 64-bit, maskable */
/* Table and PBA inside BAR `bar` at these offsets (the BAR is created by the
 * caller with ops that forward [table, pba end) to pci_msix_access). */
int pci_dev_add_msix(struct pci_dev *d, unsigned vectors, unsigned bar, uint32_t table_off, uint32_t pba_off);
uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned len);	/* off inside the BAR */
void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned len, uint64_t val);
bool pci_msix_covers(struct pci_dev *d, uint64_t off);
void pci_dev_add_pcie(struct pci_dev *d, unsigned type);	/* 0 endpoint, 9 root complex integrated: an endpoint behind a port */
/* Function 0 of the first slot that is free (a root port's bus has one); PCI_ANY_DEVFN: none. */
int pci_free_slot(const struct pci_bus *b);
/*
 * Slots of a bus, a bit for each.  Those that are kept are for cards that are put there by number: pci_free_slot passes them over.  What is
 * in a hidden one is there, and the guest does not find it.  Used: those with a function.
 */
void pci_bus_keep(struct pci_bus *b, uint32_t slots);
uint32_t pci_bus_kept(const struct pci_bus *b);
void pci_bus_hide(struct pci_bus *b, unsigned slot, bool hide);
uint32_t pci_bus_used(const struct pci_bus *b);
void pci_dev_use_intx(struct pci_dev *d, unsigned pin);		/* 1..4 = A..D */
void pci_dev_ready(struct pci_dev *d);
void pci_dev_fini(struct pci_dev *d);
void pci_dev_reset(struct pci_dev *d);		/* configuration space to reset values, BARs unmapped */
int pci_dev_save(struct pci_dev *d, struct snap_out *o);
int pci_dev_load(struct pci_dev *d, struct snap_in *in, struct err *e);

bool pci_msix_enabled(const struct pci_dev *d);
bool pci_msi_enabled(const struct pci_dev *d);
void pci_msix_fire(struct pci_dev *d, unsigned vector);	/* masked: pending bit */
void pci_msi_fire(struct pci_dev *d, unsigned vector);
void pci_intx_set(struct pci_dev *d, bool level);		/* honours the disable bit and status */
uint64_t pci_bar_addr(const struct pci_dev *d, unsigned n);	/* UINT64_MAX while not decoded */

/* The root: CF8/CFC ports and ECAM.  route maps (slot, pin 0..3) to one of 4 wires. */
struct pci_root_config {
	uint64_t ecam_base;		/* 0: none */
	unsigned ecam_buses;		/* 1..256 */
	bool cf8;
	struct irq intx[4];		/* PIRQ wires, shared; swizzle (slot + pin) & 3 */
	uint64_t mmio32_base, mmio32_size, mmio64_base, mmio64_size;	/* windows BARs are assigned from */
	uint16_t io_base, io_size;
	/* Slots from here on are parts of the chipset: their pins A..D are PIRQ A..D, not rotated; 0: none. */
	unsigned chipset_slot;
	struct pci_ids bridge;		/* the host bridge at 00:00.0; vendor 0: a generic one */
};
int pci_root_new(struct machine *m, const struct pci_root_config *cfg, struct pci_bus **out, struct err *e);
/* The host bridge's function, for who gives it registers; tells when they changed, by a write of
 * the guest's or by reset and saved state.  fn NULL: nobody. */
struct pci_dev *pci_root_bridge(struct pci_bus *root);
void pci_root_on_change(struct pci_bus *root, void (*fn)(void *opaque, bool written), void *opaque);
/* Moves the window; base 0: it is not decoded.  -EINVAL: not a place for one; then it is off. */
int pci_root_set_ecam(struct pci_bus *root, uint64_t base, unsigned buses);
/* A bus behind a bridge function (class 0x0604xx, ready); freed with
 * pci_bus_free by the bridge's owner, when empty. */
int pci_bus_new(struct pci_dev *bridge, struct pci_bus **out);
void pci_bus_free(struct pci_bus *b);
/* For boots without firmware: gives every BAR an address from the windows,
 * sets interrupt lines (gsi_of_pirq), enables decoding. */
void pci_root_assign(struct pci_bus *root, const uint8_t irq_line_of_pirq[4]);
/* Calls fn for every function, root bus first. */
void pci_for_each(struct pci_bus *root, void (*fn)(void *opaque, struct pci_dev *d), void *opaque);
/* What is on this bus, also where the guest has given it no number or finds nothing. */
struct pci_dev *pci_bus_dev(const struct pci_bus *b, unsigned devfn);
/* As the guest finds it; NULL: there is nothing, or it is hidden. */
struct pci_dev *pci_find(struct pci_bus *root, unsigned bus, unsigned devfn);
/* Configuration access as CF8/ECAM do it; for tests and firmware tables. */
uint32_t pci_config_read(struct pci_dev *d, unsigned off, unsigned len);
void pci_config_write(struct pci_dev *d, unsigned off, unsigned len, uint32_t v);

#endif
