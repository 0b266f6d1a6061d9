/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI: the PCI function, the host bus adapter's own registers (AHCI 1.3.1, 3.1),
 * interrupts, and the life of the device.
 */
#include "device/ahci_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define ABAR 5
#define ABAR_SIZE 0x1000
#define PORTS_AT 0x100
#define PORT_SIZE 0x80

#define GHC_HR 1u
#define GHC_IE 2u
#define GHC_AE BIT(31)

/* 64-bit addresses, NCQ, command list override, AHCI only, 1.5 Gb/s, 32 slots, six ports */
#define CAP_VALUE (BIT(31) | BIT(30) | BIT(24) | 1u << 20 | BIT(18) | (AHCI_SLOTS - 1) << 8 | (AHCI_PORTS - 1))

static struct ahci *of_dev(struct dev *d) { return container_of(d, struct ahci, pci.dev); }

static void lock(struct ahci *a) { iothread_lock(a->io); }
static void unlock(struct ahci *a) { iothread_unlock(a->io); }

/* ---- interrupts ---- */

/* 10.6.2: a message for a port's bit that comes, and for those that are left when the driver has cleared some (again) or
 * enables interrupts.  Both locks held. */
static void irq_update(struct ahci *a, bool again)
{
	uint32_t had = a->is;
	bool level;

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (a->port[i].is & a->port[i].ie)
			a->is |= BIT(i);
	level = a->is && a->ghc & GHC_IE;
	pci_intx_set(&a->pci, level);
	if (level && (again || a->is != had))
		pci_msi_fire(&a->pci, 0);
}

static void irq_work(void *opaque)
{
	irq_update(opaque, false);
}

void ahci_irq_changed(struct ahci *a)
{
	iothread_defer(a->io, &a->irq_work);
}

/* ---- registers ---- */

static uint64_t read_reg(void *opaque, uint64_t off, unsigned len)
{
	struct ahci *a = opaque;
	unsigned n = (unsigned)(off - PORTS_AT) / PORT_SIZE;
	uint64_t v = 0;

	lock(a);
	if (off >= PORTS_AT)
		v = n < AHCI_PORTS ? ahci_port_read(&a->port[n], off & (PORT_SIZE - 1)) : 0;
	else if (off == 0x00)
		v = CAP_VALUE;
	else if (off == 0x04)
		v = a->ghc | GHC_AE;
	else if (off == 0x08)
		v = a->is;
	else if (off == 0x0c)
		v = BIT(AHCI_PORTS) - 1;
	else if (off == 0x10)
		v = 0x00010301;
	unlock(a);
	return v;
}

static void hba_reset(struct ahci *a)
{
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_port_reset(&a->port[i]);
	a->ghc = a->is = 0;
}

static void write_reg(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct ahci *a = opaque;
	unsigned n = (unsigned)(off - PORTS_AT) / PORT_SIZE;
	uint32_t v = (uint32_t)val;

	lock(a);
	if (off >= PORTS_AT) {
		if (n < AHCI_PORTS)
			ahci_port_write(&a->port[n], off & (PORT_SIZE - 1), v);
	} else if (off == 0x04) {
		if (v & GHC_HR)
			hba_reset(a);
		else
			a->ghc = v & GHC_IE;
	} else if (off == 0x08) {
		a->is &= ~v;
	}
	irq_update(a, off == 0x04 || off == 0x08);
	unlock(a);
}

static const struct bus_ops abar_ops = { .read = read_reg, .write = write_reg, .min_len = 4, .max_len = 4 };

/* ---- life cycle ---- */

static void kick(void *opaque)
{
	struct ahci *a = opaque;

	if (a->paused)
		return;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_port_run(&a->port[i]);
}

static void drain(struct ahci *a)
{
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (a->port[i].kind)
			blk_drain(a->port[i].lun.disk.node);
}

static void dev_reset(struct dev *d)
{
	struct ahci *a = of_dev(d);

	lock(a);
	hba_reset(a);
	iothread_cancel(a->io, &a->irq_work);
	unlock(a);
	pci_dev_reset(&a->pci);
}

static void dev_pause(struct dev *d)
{
	struct ahci *a = of_dev(d);

	if (a->paused)
		return;
	lock(a);
	drain(a);
	a->paused = true;
	iothread_cancel(a->io, &a->irq_work);
	irq_work(a);
	unlock(a);
}

static void dev_resume(struct dev *d)
{
	struct ahci *a = of_dev(d);

	if (!a->paused)
		return;
	lock(a);
	a->paused = false;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (a->port[i].kind)
			disk_retry(&a->port[i].lun.disk);
	kick(a);
	unlock(a);
}

/* A port's saved state. What waits to be repeated is in CI or SACT still: it is taken anew from the command list. */
struct state {
	uint64_t size[AHCI_PORTS], clb[AHCI_PORTS], fb[AHCI_PORTS];
	uint32_t ghc, hba_is;
	uint32_t is[AHCI_PORTS], ie[AHCI_PORTS], cmd[AHCI_PORTS], tfd[AHCI_PORTS], sig[AHCI_PORTS], sctl[AHCI_PORTS], serr[AHCI_PORTS],
		sact[AHCI_PORTS], ci[AHCI_PORTS], again[AHCI_PORTS], sense[AHCI_PORTS];
	uint16_t attention[AHCI_PORTS];
	uint8_t kind[AHCI_PORTS], stopped[AHCI_PORTS], reset_asked[AHCI_PORTS], multiple[AHCI_PORTS], smart_off[AHCI_PORTS],
		no_cache[AHCI_PORTS];
	uint8_t tray_open[AHCI_PORTS], locked[AHCI_PORTS], changed[AHCI_PORTS], eject_asked[AHCI_PORTS], no_medium[AHCI_PORTS];
	uint8_t ncq_err[AHCI_PORTS * 16];
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct state, size), SNAP_ARRAY(struct state, clb), SNAP_ARRAY(struct state, fb), SNAP_FIELD(struct state, ghc),
	SNAP_FIELD(struct state, hba_is), SNAP_ARRAY(struct state, is), SNAP_ARRAY(struct state, ie), SNAP_ARRAY(struct state, cmd),
	SNAP_ARRAY(struct state, tfd), SNAP_ARRAY(struct state, sig), SNAP_ARRAY(struct state, sctl), SNAP_ARRAY(struct state, serr),
	SNAP_ARRAY(struct state, sact), SNAP_ARRAY(struct state, ci), SNAP_ARRAY(struct state, again), SNAP_ARRAY(struct state, sense),
	SNAP_ARRAY(struct state, attention), SNAP_ARRAY(struct state, kind), SNAP_ARRAY(struct state, stopped),
	SNAP_ARRAY(struct state, reset_asked), SNAP_ARRAY(struct state, multiple), SNAP_ARRAY(struct state, smart_off), SNAP_ARRAY(struct state, no_cache),
	SNAP_ARRAY(struct state, tray_open), SNAP_ARRAY(struct state, locked), SNAP_ARRAY(struct state, changed),
	SNAP_ARRAY(struct state, eject_asked), SNAP_ARRAY(struct state, ncq_err),
	{ "no_medium", offsetof(struct state, no_medium), 1, AHCI_PORTS, 2, 0 }, SNAP_END,
};
static const struct snap_table table = { "ahci", 2, fields };

static void save_port(const struct ahci_port *p, struct state *s)
{
	struct scsi_lun_state l = scsi_lun_get(&p->lun);
	unsigned i = p->n;

	s->size[i] = p->kind ? p->lun.disk.node->i.size : 0;
	s->clb[i] = p->clb;
	s->fb[i] = p->fb;
	s->is[i] = p->is;
	s->ie[i] = p->ie;
	s->cmd[i] = p->cmd;
	s->tfd[i] = p->tfd;
	s->sig[i] = p->sig;
	s->sctl[i] = p->sctl;
	s->serr[i] = p->serr;
	s->sact[i] = p->sact;
	s->ci[i] = p->ci;
	s->again[i] = p->busy;
	s->kind[i] = p->kind;
	s->stopped[i] = p->stopped;
	s->reset_asked[i] = p->reset_asked;
	s->multiple[i] = p->multiple;
	s->smart_off[i] = p->smart_off;
	s->no_cache[i] = p->no_cache;
	s->tray_open[i] = l.tray_open;
	s->locked[i] = l.locked;
	s->changed[i] = l.changed;
	s->eject_asked[i] = l.eject_asked;
	s->no_medium[i] = l.no_medium;
	s->attention[i] = l.attention;
	s->sense[i] = l.sense;
	memcpy(s->ncq_err + 16 * i, p->ncq_err, 16);
}

static int dev_save(struct dev *d, struct snap_out *o)
{
	struct ahci *a = of_dev(d);
	struct state s = { 0 };
	int ret = pci_dev_save(&a->pci, o);

	if (ret)
		return ret;
	lock(a);
	s.ghc = a->ghc;
	s.hba_is = a->is;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		save_port(&a->port[i], &s);
	unlock(a);
	return snap_put(o, a->id, &table, &s);
}

static int load_port(struct ahci_port *p, const struct state *s, struct err *e)
{
	unsigned i = p->n;
	struct scsi_lun_state l = { s->tray_open[i], s->locked[i], s->changed[i], s->eject_asked[i], s->no_medium[i],
				   s->attention[i], s->sense[i] };

	if (s->kind[i] != p->kind || s->size[i] != (p->kind ? p->lun.disk.node->i.size : 0))
		return err_set(e, -EINVAL, "saved state of controller %s has another disk on port %u", p->a->id, i);
	p->clb = s->clb[i] & ~0x3ffull;
	p->fb = s->fb[i] & ~0xffull;
	p->is = s->is[i];
	p->ie = s->ie[i];
	p->cmd = s->cmd[i];
	p->tfd = s->tfd[i] & 0xffff;
	p->sig = s->sig[i];
	p->sctl = s->sctl[i];
	p->serr = s->serr[i];
	p->sact = s->sact[i];
	/* Queued ones have left CI when they were taken. */
	p->ci = s->ci[i] | (s->again[i] & s->sact[i]);
	p->stopped = s->stopped[i] & 1;
	p->reset_asked = s->reset_asked[i] & 1;
	p->multiple = s->multiple[i];
	p->smart_off = s->smart_off[i] & 1;
	p->no_cache = s->no_cache[i] & 1;
	memcpy(p->ncq_err, s->ncq_err + 16 * i, 16);
	if (p->kind && scsi_lun_set(&p->lun, &l))
		return err_set(e, -EINVAL, "saved state of controller %s: the drive on port %u has %s medium here", p->a->id, i,
			       l.no_medium ? "a" : "no");
	return 0;
}

static int dev_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct ahci *a = of_dev(d);
	struct state s = { 0 };
	int ret = pci_dev_load(&a->pci, in, e);

	if (!ret)
		ret = snap_get(in, a->id, &table, &s, e);
	if (ret)
		return ret;
	lock(a);
	hba_reset(a);
	a->ghc = s.ghc & GHC_IE;
	a->is = s.hba_is & (BIT(AHCI_PORTS) - 1);
	for (unsigned i = 0; i < AHCI_PORTS && !ret; i++)
		ret = load_port(&a->port[i], &s, e);
	if (ret)
		hba_reset(a);
	unlock(a);
	return ret;
}

static void dev_free(struct dev *d)
{
	struct ahci *a = of_dev(d);

	lock(a);
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (a->port[i].kind)
			disk_fini(&a->port[i].lun.disk, 0, ahci_drop);
	iothread_cancel(a->io, &a->irq_work);
	loop_bh_cancel(&a->kick);
	unlock(a);
	pci_dev_fini(&a->pci);
	free(a);
}

static const struct pci_dev_ops pci_ops = {
	.dev = {
		.name = "ahci",
		.reset = dev_reset,
		.pause = dev_pause,
		.resume = dev_resume,
		.save = dev_save,
		.load = dev_load,
		.free = dev_free,
	},
};

int ahci_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, struct iothread *io, struct ahci **out, struct err *e)
{
	static const struct pci_ids ids = {
		.vendor = 0x8086, .device = 0x2922, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x010601, .revision = 2,
	};
	struct ahci *a = calloc(1, sizeof(*a));
	int ret;

	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->m = m;
	a->io = io;
	snprintf(a->id, sizeof(a->id), "%s", id);
	a->irq_work = (struct iothread_work){ .cb = irq_work, .opaque = a };
	loop_bh_init(io ? iothread_loop(io) : m->loop, &a->kick, kick, a);
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		a->port[i] = (struct ahci_port){ .a = a, .n = i };
	ret = pci_dev_init(&a->pci, m, bus, devfn, &pci_ops, &ids, e);
	if (ret) {
		free(a);
		return ret;
	}
	pci_dev_use_intx(&a->pci, 1);
	ret = pci_dev_add_msi(&a->pci, 1);
	if (!ret)
		ret = pci_dev_add_bar(&a->pci, ABAR, PCI_BAR_MEM32, false, ABAR_SIZE, &abar_ops, a);
	if (ret) {
		pci_dev_fini(&a->pci);
		free(a);
		return err_set(e, ret, "cannot build the PCI function of %s", id);
	}
	pci_dev_ready(&a->pci);
	hba_reset(a);
	*out = a;
	return 0;
}

int ahci_add(struct ahci *a, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o, unsigned *port, struct err *e)
{
	struct disk_opts own = *o;
	unsigned n = 0;
	int ret;

	while (n < AHCI_PORTS && a->port[n].kind)
		n++;
	if (n == AHCI_PORTS)
		return err_set(e, -ENOSPC, "an AHCI controller has %d ports, and all are taken", AHCI_PORTS);
	own.io = a->io;
	ret = scsi_lun_init(&a->port[n].lun, a->m, id, node, cd, &own, e);
	if (ret)
		return ret;
	lock(a);
	a->port[n].kind = cd ? AHCI_CD : AHCI_DISK;
	ahci_port_reset(&a->port[n]);
	unlock(a);
	*port = n;
	return 0;
}

struct disk *ahci_disk(struct ahci *a, unsigned port)
{
	return port < AHCI_PORTS && a->port[port].kind ? &a->port[port].lun.disk : NULL;
}

unsigned ahci_devfn(const struct ahci *a)
{
	return a->pci.devfn;
}
