// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ICH9 LPC bridge (Intel ICH9 Family datasheet, 10 and 13).
 *
 * PMBASE and the SCI's number are kept; the ACPI block and the SCI stay where the
 * machine has them, which is where firmware puts them.  The chipset configuration
 * registers are memory, but for the NO_REBOOT strap, which tells that there is no
 * TCO watchdog.
 */
#include "device/ich9_lpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define PMBASE 0x40
#define ACPI_CNTL 0x44
#define GPIO_BASE 0x48
#define GPIO_CNTL 0x4c
#define PIRQ_A 0x60
#define PIRQ_E 0x68
#define PIRQ_OFF 0x80
#define IO_DECODE 0x80		/* to 0x8f: ranges of the LPC bus */
#define GEN_PMCON 0xa0
#define BIOS_CNTL 0xdc
#define RCBA 0xf0

#define RCRB_SIZE 0x4000u
#define D31IP 0x3100
#define D31IR 0x3140
#define GCS 0x3410
#define GCS_NO_REBOOT 0x20

struct ich9_lpc {
	struct pci_dev pci;
	struct ich9_lpc_config cfg;
	struct bus_region rcrb;
	uint8_t reg[RCRB_SIZE];
};

static struct ich9_lpc *lpc_of(struct pci_dev *d)
{
	return container_of(d, struct ich9_lpc, pci);
}

int ich9_lpc_route(const struct ich9_lpc *l, unsigned pirq)
{
	/* 0 to 2, 8 and 13 are reserved (10.1.11). */
	const uint16_t allowed = 0xdef8;
	uint8_t v = l->pci.config[pirq < 4 ? PIRQ_A + pirq : PIRQ_E + (pirq & 3)];

	return v & PIRQ_OFF || !(allowed >> (v & 15) & 1) ? -1 : v & 15;
}

/* ---- chipset configuration registers ---- */

static uint64_t rcrb_read(void *opaque, uint64_t off, unsigned len)
{
	struct ich9_lpc *l = opaque;

	return ld_le(l->reg + off, len);
}

static void rcrb_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct ich9_lpc *l = opaque;

	st_le(l->reg + off, len, val);
	l->reg[GCS] |= GCS_NO_REBOOT;
}

static const struct bus_ops rcrb_ops = { .read = rcrb_read, .write = rcrb_write, .max_len = 4 };

static void update_rcrb(struct ich9_lpc *l)
{
	uint32_t v = ld_le32(l->pci.config + RCBA);
	uint64_t base = v & ~(RCRB_SIZE - 1);

	if (l->rcrb.bus && v & 1 && l->rcrb.base == base)
		return;
	bus_del(&l->rcrb);
	if (!(v & 1))
		return;
	l->rcrb = (struct bus_region){ .name = "ich9-rcrb", .ops = &rcrb_ops, .opaque = l, .base = base,
				       .size = RCRB_SIZE, .priority = 1 };
	bus_add(l->pci.dev.m->mmio, &l->rcrb);		/* a place that is taken: nothing is there */
}

/* ---- configuration ---- */

static void lpc_written(struct pci_dev *d, unsigned off, unsigned len)
{
	struct ich9_lpc *l = lpc_of(d);

	update_rcrb(l);
	if (off < PIRQ_E + 4 && PIRQ_A < off + len)
		l->cfg.routed(l->cfg.opaque);
}

static void set_registers(struct ich9_lpc *l)
{
	struct pci_dev *d = &l->pci;

	st_le32(d->config + PMBASE, l->cfg.pmbase | 1);
	st_le32(d->wmask + PMBASE, 0xff80);
	d->wmask[ACPI_CNTL] = 0x87;
	st_le32(d->config + GPIO_BASE, 1);
	st_le32(d->wmask + GPIO_BASE, 0xff80);
	d->wmask[GPIO_CNTL] = 0x11;
	for (unsigned i = 0; i < 4; i++) {
		d->config[PIRQ_A + i] = d->config[PIRQ_E + i] = PIRQ_OFF;
		d->wmask[PIRQ_A + i] = d->wmask[PIRQ_E + i] = 0x8f;
	}
	memset(d->wmask + IO_DECODE, 0xff, 16);
	memset(d->wmask + GEN_PMCON, 0xff, 6);
	d->wmask[BIOS_CNTL] = 0x23;
	st_le32(d->wmask + RCBA, ~(RCRB_SIZE - 1) | 1);
}

static void lpc_reset(struct dev *dev)
{
	struct ich9_lpc *l = container_of(dev, struct ich9_lpc, pci.dev);

	pci_dev_reset(&l->pci);
	memset(l->reg, 0, sizeof(l->reg));
	st_le32(l->reg + D31IP, 0x03243200);
	for (unsigned at = D31IR; at <= D31IR + 0x10; at += 2)
		st_le16(l->reg + at, 0x3210);
	l->reg[GCS] = GCS_NO_REBOOT;
	update_rcrb(l);
	l->cfg.routed(l->cfg.opaque);
}

static int lpc_save(struct dev *dev, struct snap_out *o)
{
	struct ich9_lpc *l = container_of(dev, struct ich9_lpc, pci.dev);
	int ret = pci_dev_save(&l->pci, o);

	return ret ? ret : snap_put_blob(o, "rcrb", l->reg, sizeof(l->reg));
}

static int lpc_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct ich9_lpc *l = container_of(dev, struct ich9_lpc, pci.dev);
	uint32_t len;
	int ret = pci_dev_load(&l->pci, in, e);

	if (!ret)
		ret = snap_get_blob(in, "rcrb", l->reg, sizeof(l->reg), &len, e);
	if (ret)
		return ret;
	if (len != sizeof(l->reg))
		return err_set(e, -EINVAL, "saved state of %s is damaged", dev->id);
	l->reg[GCS] |= GCS_NO_REBOOT;
	update_rcrb(l);
	l->cfg.routed(l->cfg.opaque);
	return 0;
}

static void lpc_free(struct dev *dev)
{
	struct ich9_lpc *l = container_of(dev, struct ich9_lpc, pci.dev);

	bus_del(&l->rcrb);
	pci_dev_fini(&l->pci);
	free(l);
}

static const struct pci_dev_ops lpc_ops = {
	.dev = { .name = "ich9-lpc", .reset = lpc_reset, .save = lpc_save, .load = lpc_load, .free = lpc_free },
	.config_written = lpc_written,
};

static const struct pci_ids lpc_ids = {
	.vendor = 0x8086, .device = 0x2918, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x060100, .revision = 2,
};

void ich9_lpc_init(struct ich9_lpc *l, uint8_t irq_a, uint8_t irq_b)
{
	for (unsigned i = 0; i < 4; i++) {
		pci_config_write(&l->pci, PIRQ_A + i, 1, i & 1 ? irq_b : irq_a);
		pci_config_write(&l->pci, PIRQ_E + i, 1, i & 1 ? irq_b : irq_a);
	}
	pci_config_write(&l->pci, ACPI_CNTL, 1, 0x80);
}

int ich9_lpc_new(struct machine *m, struct pci_bus *root, const struct ich9_lpc_config *cfg,
		 struct ich9_lpc **out, struct err *e)
{
	struct ich9_lpc *l = calloc(1, sizeof(*l));
	int ret;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->cfg = *cfg;
	ret = pci_dev_init(&l->pci, m, root, (int)cfg->devfn, &lpc_ops, &lpc_ids, e);
	if (ret) {
		free(l);
		return ret;
	}
	set_registers(l);
	pci_dev_ready(&l->pci);
	*out = l;
	return 0;
}
