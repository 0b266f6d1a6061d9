/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small parts against a hostile guest: the 6300ESB watchdog, both interfaces of a TPM
 * (on one of the tests' that is good, hangs, lies or goes, as the input says), the VM
 * generation ID, the SMBus controller; saved state that is damaged.
 */
#include "card_fuzz.h"

#include "../tests/unit/tpm/fake_tpm.h"
#include "chipset/tpm_crb.h"
#include "chipset/tpm_tis.h"
#include "chipset/vmgenid.h"
#include "device/i6300esb.h"
#include "device/ich9_smbus.h"

#define TPM_BASE 0xfed40000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
	struct card c;
	struct fake_tpm fake;
	struct tpm *tpm;
	struct vmgenid *id;
	struct pci_dev *dog, *smbus;
	bool crb;
};

static uint64_t take(struct parts *p, unsigned len) { return card_take(&p->c, len); }

static void tpm_access(struct parts *p, uint8_t how)
{
	/* Registers of interest are more likely. */
	static const uint16_t reg[8] = { 0x00, 0x08, 0x18, 0x24, 0x40, 0x4c, 0x80, 0x48 };
	uint8_t where = (uint8_t)take(p, 1), b[8];
	uint64_t off = how & 0x20 ? take(p, 2) % TPM_TIS_SIZE : reg[where & 7] + ((uint64_t)(where >> 5) % 5 << 12);

	st_le64(b, take(p, how & 0x40 ? 4 : 1));
	bus_access(p->c.m->mmio, TPM_BASE + off, b, 1u << (how >> 2 & 3), how & 0x10);
}

static void mmio_wr(struct parts *p, unsigned off, unsigned len, uint64_t v)
{
	bus_access(p->c.m->mmio, TPM_BASE + off, &v, len, true);
}

/* A command the honest way, up to its start. */
static void tpm_command(struct parts *p)
{
	static const uint8_t cmd[12] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0 };

	if (p->crb) {
		mmio_wr(p, 0x08, 4, 1);
		mmio_wr(p, 0x40, 4, 1);
		for (unsigned i = 0; i < 12; i++)
			mmio_wr(p, 0x80 + i, 1, cmd[i]);
		mmio_wr(p, 0x4c, 4, 1);
		return;
	}
	mmio_wr(p, 0x00, 1, 2);
	mmio_wr(p, 0x18, 1, 0x40);
	for (unsigned i = 0; i < 12; i++)
		mmio_wr(p, 0x24, 1, cmd[i]);
	mmio_wr(p, 0x18, 1, 0x20);
}

static void dog(struct parts *p, uint8_t how)
{
	uint8_t off = (uint8_t)take(p, 1);

	machine_lock(p->c.m);
	if (how & 0x10)
		pci_config_write(p->dog, off % 0x70, 1u << (how >> 5 & 1), (uint32_t)take(p, 2));
	else
		clock_step(p->c.m->clock, (int64_t)(take(p, 2) << 14));
	machine_unlock(p->c.m);
	if (how & 0x40)
		pci_config_write(p->dog, PCI_BAR(0), 4, CARD_BAR), pci_config_write(p->dog, PCI_COMMAND, 2, 2);
	if (how & 0x80) {
		card_wr(&p->c, 0xc, 2, 0x80);
		card_wr(&p->c, 0xc, 2, 0x86);
	}
	card_wr(&p->c, off & 15, 1u << (how >> 5 & 3), take(p, 4));
}

static void smbus(struct parts *p, uint8_t how)
{
	uint8_t off = (uint8_t)take(p, 1), b[4];

	st_le32(b, (uint32_t)take(p, 2));
	bus_access(p->c.m->pio, 0xc100 + (off & 31), b, 1u << (how >> 5 & 1), how & 0x10);
	if (off & 0x80) {
		machine_lock(p->c.m);
		pci_config_write(p->smbus, 0x40, 1, how);
		machine_unlock(p->c.m);
	}
}

static void step(struct parts *p)
{
	uint8_t what = (uint8_t)take(p, 1), uuid[16];

	switch (what & 3) {
	case 0:
		tpm_access(p, what);
		break;
	case 1:
		if (what & 8)
			smbus(p, what);
		else
			dog(p, what);
		break;
	case 2:
		if (what & 0x40)
			tpm_command(p);
		else if (what & 0x20)
			loop_turn(p->c.m->loop, 0);
		else
			/* One whose control channel hangs makes saving wait: that is in the unit tests. */
			p->fake.mood = (int)(take(p, 1) % FAKE_CONTROL_HUNG);
		break;
	default:
		if (what & 0x80) {
			p->fake.mood = p->fake.mood == FAKE_HUNG ? FAKE_GOOD : p->fake.mood;
			if (!p->fake.waiting)
				card_save_load(&p->c);
			break;
		}
		st_le64(uuid, take(p, 8));
		st_le64(uuid + 8, what);
		machine_lock(p->c.m);
		if (what & 0x40)
			machine_reset_devs(p->c.m);
		else
			vmgenid_set(p->id, uuid);
		machine_unlock(p->c.m);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct irq none = { 0 };
	struct parts *p = calloc(1, sizeof(*p));
	struct i6300esb *w;
	struct err e;
	int fd;

	card_up(&p->c, data, size);
	p->crb = size & 1;
	fd = fake_start(&p->fake);
	if (fd < 0 || tpm_new(p->c.m->loop, fd, "fake", &p->tpm, &e))
		abort();
	if (p->crb ? tpm_crb_new(p->c.m, TPM_BASE, p->tpm) :
		     tpm_tis_new(p->c.m, &(struct tpm_tis_config){ .base = TPM_BASE, .irq = none, .tpm = p->tpm }))
		abort();
	if (i6300esb_new(p->c.m, p->c.root, PCI_DEVFN(3, 0), &w, &e) || vmgenid_new(p->c.m, 0xfeda0000, &none, &p->id, &e))
		abort();
	if (ich9_smbus_new(p->c.m, p->c.root, PCI_DEVFN(31, 3), &e))
		abort();
	p->dog = pci_find(p->c.root, 0, PCI_DEVFN(3, 0));
	p->smbus = pci_find(p->c.root, 0, PCI_DEVFN(31, 3));
	machine_reset_devs(p->c.m);
	pci_config_write(p->smbus, PCI_BAR(4), 4, 0xc100);
	pci_config_write(p->smbus, PCI_COMMAND, 2, PCI_COMMAND_IO);
	pci_config_write(p->smbus, 0x40, 1, 1);
	machine_unlock(p->c.m);
	for (unsigned i = 0; p->c.in.left && i < 400; i++)
		step(p);
	machine_lock(p->c.m);
	machine_free_devs(p->c.m);
	for (unsigned i = 0; i < 2; i++)
		blk_close(p->c.node[i]);	/* the disks of other cards */
	machine_unlock(p->c.m);
	tpm_free(p->tpm);
	fake_end(&p->fake);
	machine_free(p->c.m);
	free(p);
	return 0;
}
