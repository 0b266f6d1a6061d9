// SPDX-License-Identifier: GPL-2.0-or-later
/* ICH9's SMBus host controller: see ich9_smbus.h. */
#include "device/ich9_smbus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define BAR 4
#define HOSTC 0x40		/* configuration space */
enum { HOSTC_ENABLE = BIT(0), HOSTC_SSRESET = BIT(3) };
#define HOSTC_WMASK 0x17u	/* and SSRESET, which reads as 0 */

enum { HST_STS = 0x00, HST_CNT = 0x02, HST_CMD = 0x03, XMIT_SLVA = 0x04, HST_D0 = 0x05, HST_D1 = 0x06, BLOCK_DB = 0x07, PEC = 0x08,
       RCV_SLVA = 0x09, AUX_STS = 0x0c, AUX_CTL = 0x0d, SMLINK_CTL = 0x0e, SMBUS_CTL = 0x0f, SLV_STS = 0x10, SLV_CMD = 0x11, REGS = 0x20 };

enum { STS_BUSY = BIT(0), STS_DEV_ERR = BIT(2), STS_FAILED = BIT(4), STS_INUSE = BIT(6) };
#define STS_EVENTS 0xbeu	/* what interrupts */
enum { CNT_INTREN = BIT(0), CNT_KILL = BIT(1), CNT_START = BIT(6) };
enum { AUX_E32B = BIT(1) };

struct smbus {
	struct pci_dev pci;
	uint8_t reg[REGS];		/* but those below */
	uint8_t block[32];
	uint8_t index;			/* of the next byte of the block */
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct smbus, reg),
	SNAP_ARRAY(struct smbus, block),
	SNAP_FIELD(struct smbus, index),
	SNAP_END
};
static const struct snap_table table = { "ich9-smbus", 1, fields };

/* Bits of each register that keep what is written. */
static const uint8_t kept[REGS] = {
	[HST_CNT] = 0xbf, [HST_CMD] = 0xff, [XMIT_SLVA] = 0xff, [HST_D0] = 0xff, [HST_D1] = 0xff, [BLOCK_DB] = 0xff, [PEC] = 0xff,
	[RCV_SLVA] = 0x7f, [AUX_CTL] = 0x03, [SMLINK_CTL] = 0x04, [SMBUS_CTL] = 0x04, [SLV_CMD] = 0x07,
};

static void update_irq(struct smbus *s)
{
	pci_intx_set(&s->pci, s->reg[HST_CNT] & CNT_INTREN && s->reg[HST_STS] & STS_EVENTS);
}

static uint8_t read_byte(struct smbus *s, unsigned off)
{
	uint8_t v = s->reg[off];

	switch (off) {
	case HST_STS:
		s->reg[HST_STS] |= STS_INUSE;		/* who reads 0 has it */
		break;
	case HST_CNT:
		s->index = 0;
		break;
	case BLOCK_DB:
		if (s->reg[AUX_CTL] & AUX_E32B) {
			v = s->block[s->index];
			s->index = (s->index + 1) & 31;
		}
		break;
	case SMLINK_CTL:
	case SMBUS_CTL:
		v |= 3;					/* both lines are high */
		break;
	}
	return v;
}

static void write_byte(struct smbus *s, unsigned off, uint8_t v)
{
	switch (off) {
	case HST_STS:
		s->reg[HST_STS] &= (uint8_t)~(v & ~STS_BUSY);
		return;
	case HST_CNT:
		if (v & CNT_KILL)
			s->reg[HST_STS] |= STS_FAILED;
		else if (v & CNT_START)
			s->reg[HST_STS] |= STS_DEV_ERR;	/* nobody answers */
		break;
	case BLOCK_DB:
		if (s->reg[AUX_CTL] & AUX_E32B) {
			s->block[s->index] = v;
			s->index = (s->index + 1) & 31;
			return;
		}
		break;
	}
	s->reg[off] = v & kept[off];
}

static bool enabled(const struct smbus *s) { return s->pci.config[HOSTC] & HOSTC_ENABLE; }

static uint64_t io_read(void *opaque, uint64_t off, unsigned len)
{
	struct smbus *s = opaque;
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)(enabled(s) ? read_byte(s, (unsigned)off + i) : 0xff) << (8 * i);
	return v;
}

static void io_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct smbus *s = opaque;

	for (unsigned i = 0; i < len && enabled(s); i++)
		write_byte(s, (unsigned)off + i, (uint8_t)(val >> (8 * i)));
	update_irq(s);
}

static const struct bus_ops io_ops = { .read = io_read, .write = io_write, .max_len = 4 };

static void reset_registers(struct smbus *s)
{
	memset(s->reg, 0, sizeof(s->reg));
	memset(s->block, 0, sizeof(s->block));
	s->index = 0;
	s->reg[RCV_SLVA] = 0x44;
	s->reg[SMLINK_CTL] = s->reg[SMBUS_CTL] = 4;
	update_irq(s);
}

static void config_written(struct pci_dev *d, unsigned off, unsigned len)
{
	struct smbus *s = container_of(d, struct smbus, pci);

	if (off > HOSTC || off + len <= HOSTC || !(d->config[HOSTC] & HOSTC_SSRESET))
		return;
	d->config[HOSTC] &= (uint8_t)~HOSTC_SSRESET;
	reset_registers(s);
}

static void smbus_reset(struct dev *dev)
{
	struct smbus *s = container_of(dev, struct smbus, pci.dev);

	pci_dev_reset(&s->pci);
	reset_registers(s);
}

static int smbus_save(struct dev *dev, struct snap_out *o)
{
	struct smbus *s = container_of(dev, struct smbus, pci.dev);
	int ret = pci_dev_save(&s->pci, o);

	return ret ? ret : snap_put(o, dev->id, &table, s);
}

static int smbus_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct smbus *s = container_of(dev, struct smbus, pci.dev);
	int ret = pci_dev_load(&s->pci, in, e);

	s->pci.config[HOSTC] &= (uint8_t)~HOSTC_SSRESET;
	if (!ret)
		ret = snap_get(in, dev->id, &table, s, e);
	if (ret)
		return ret;
	s->index &= 31;
	for (unsigned i = 0; i < REGS; i++)
		if (i != HST_STS)
			s->reg[i] &= kept[i];
	s->reg[HST_STS] &= (uint8_t)~STS_BUSY;
	update_irq(s);
	return 0;
}

static void smbus_free(struct dev *dev)
{
	struct smbus *s = container_of(dev, struct smbus, pci.dev);

	pci_dev_fini(&s->pci);
	free(s);
}

static const struct pci_dev_ops ops = {
	.dev = { .name = "ich9-smbus", .reset = smbus_reset, .save = smbus_save, .load = smbus_load, .free = smbus_free },
	.config_written = config_written,
};

static const struct pci_ids ids = {
	.vendor = 0x8086, .device = 0x2930, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x0c0500, .revision = 2,
};

int ich9_smbus_new(struct machine *m, struct pci_bus *root, int devfn, struct err *e)
{
	struct smbus *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	ret = pci_dev_init(&s->pci, m, root, devfn, &ops, &ids, e);
	if (ret) {
		free(s);
		return ret;
	}
	pci_dev_add_bar(&s->pci, BAR, PCI_BAR_IO, false, REGS, &io_ops, s);
	s->pci.wmask[HOSTC] = HOSTC_WMASK | HOSTC_SSRESET;
	pci_dev_use_intx(&s->pci, 1);
	pci_dev_ready(&s->pci);
	reset_registers(s);
	return 0;
}
