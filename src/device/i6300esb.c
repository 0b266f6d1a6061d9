// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * 6300ESB watchdog: see i6300esb.h.
 *
 * Registers are protected by a sequence: 80h, then 86h written to the reload
 * register let one write to a protected register through.  The counter runs at
 * 33 MHz; a preload value of 20 bits is its bits 34 to 15, or with the 1 MHz
 * prescaler 24 to 5.  The lock bit freezes the lock register until reset.
 */
#include "device/i6300esb.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"

/* Configuration space. */
#define WDT_CONFIG 0x60
#define WDT_LOCK 0x68
enum { CONFIG_INT_TYPE = 3, CONFIG_1MHZ = BIT(2), CONFIG_NO_OUTPUT = BIT(5) };
enum { INT_DISABLED = 3 };
enum { LOCK_LOCK = BIT(0), LOCK_ENABLE = BIT(1), LOCK_FREE_RUN = BIT(2) };

/* BAR 0. */
#define BAR_SIZE 16u
enum { PRELOAD_1 = 0x00, PRELOAD_2 = 0x04, INT_STATUS = 0x08, RELOAD = 0x0c };
enum { RELOAD_RELOAD = BIT(8), RELOAD_TIMEOUT = BIT(9) };
#define PRELOAD_MAX 0xfffffu
#define CLOCK_HZ 33333333ull
/* A guest must not have the loop turn all the time. */
#define SHORTEST_NS 1000000ll
/* What the longest stage takes, and a second. */
#define LONGEST_NS (((int64_t)PRELOAD_MAX << 15) * 30 + 1000000000)

struct i6300esb {
	struct pci_dev pci;
	struct vtimer timer;
	uint32_t preload[2];
	uint8_t stage;			/* 1, 2; 0: stopped */
	uint8_t unlock;			/* steps of the sequence done */
	uint8_t int_status;		/* bit 0: stage 1 has ended */
	bool timed_out;			/* survives the reset it causes */
	int64_t deadline_ns;
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct i6300esb, preload),
	SNAP_FIELD(struct i6300esb, stage),
	SNAP_FIELD(struct i6300esb, unlock),
	SNAP_FIELD(struct i6300esb, int_status),
	SNAP_FIELD(struct i6300esb, timed_out),
	SNAP_FIELD(struct i6300esb, deadline_ns),
	SNAP_END
};
static const struct snap_table table = { "i6300esb", 1, fields };

static struct i6300esb *of(struct pci_dev *d)
{
	return container_of(d, struct i6300esb, pci);
}

static uint8_t lock(const struct i6300esb *w) { return w->pci.config[WDT_LOCK]; }
static uint16_t config(const struct i6300esb *w) { return (uint16_t)ld_le16(w->pci.config + WDT_CONFIG); }

/* ---- the counter ---- */

static void stop(struct i6300esb *w)
{
	w->stage = 0;
	vtimer_cancel(&w->timer);
}

static void start(struct i6300esb *w, uint8_t stage)
{
	uint64_t ticks = (uint64_t)w->preload[stage - 1] << (config(w) & CONFIG_1MHZ ? 5 : 15);
	int64_t ns = (int64_t)(ticks * 1000000000 / CLOCK_HZ);

	w->stage = stage;
	w->deadline_ns = clock_now(w->pci.dev.m->clock) + MAX(ns, SHORTEST_NS);
	vtimer_arm(&w->timer, w->deadline_ns);
}

static void expired(void *opaque)
{
	struct i6300esb *w = opaque;

	if (w->stage == 1) {
		if ((config(w) & CONFIG_INT_TYPE) != INT_DISABLED)
			w->int_status |= 1;
		start(w, 2);
		return;
	}
	if (lock(w) & LOCK_FREE_RUN)
		start(w, 1);
	else
		stop(w);
	if (config(w) & CONFIG_NO_OUTPUT)
		return;
	w->timed_out = true;
	machine_ask(w->pci.dev.m, MACHINE_REQ_WATCHDOG, 0);
}

/* ---- registers ---- */

static uint64_t reg_read(void *opaque, uint64_t off, unsigned len)
{
	struct i6300esb *w = opaque;
	uint32_t v = 0;

	switch (off & ~3ull) {
	case PRELOAD_1: v = w->preload[0]; break;
	case PRELOAD_2: v = w->preload[1]; break;
	case INT_STATUS: v = w->int_status; break;
	case RELOAD: v = w->timed_out ? RELOAD_TIMEOUT : 0; break;
	}
	return v >> (8 * (off & 3));
}

static void reload_write(struct i6300esb *w, uint16_t v, bool unlocked)
{
	if (v == 0x80) {
		w->unlock = 1;
	} else if (v == 0x86 && w->unlock == 1) {
		w->unlock = 2;
	} else if (unlocked) {
		w->unlock = 0;
		if (v & RELOAD_TIMEOUT)
			w->timed_out = false;
		/* Also one that has run out, if the machine lives on. */
		if (v & RELOAD_RELOAD && lock(w) & LOCK_ENABLE)
			start(w, 1);
	} else {
		w->unlock = 0;
	}
}

static void reg_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct i6300esb *w = opaque;
	bool unlocked = w->unlock == 2;

	if (off == RELOAD && len > 1) {
		reload_write(w, (uint16_t)val, unlocked);
		return;
	}
	if (off == INT_STATUS) {
		w->int_status &= (uint8_t)~val;		/* not protected */
		return;
	}
	if (len != 4 || (off != PRELOAD_1 && off != PRELOAD_2))
		return;
	if (unlocked)
		w->preload[off / 4] = (uint32_t)val & PRELOAD_MAX;
	w->unlock = 0;
}

static const struct bus_ops reg_ops = { .read = reg_read, .write = reg_write, .max_len = 4 };

/* Locked, the lock register takes nothing any more. */
static void freeze(struct i6300esb *w)
{
	w->pci.wmask[WDT_LOCK] = lock(w) & LOCK_LOCK ? 0 : LOCK_LOCK | LOCK_ENABLE | LOCK_FREE_RUN;
}

static void config_written(struct pci_dev *d, unsigned off, unsigned len)
{
	struct i6300esb *w = of(d);

	if (off > WDT_LOCK || off + len <= WDT_LOCK)
		return;
	freeze(w);
	if (!(lock(w) & LOCK_ENABLE))
		stop(w);
	else if (!w->stage)
		start(w, 1);
}

/* ---- life ---- */

static void reset(struct dev *dev)
{
	struct i6300esb *w = container_of(dev, struct i6300esb, pci.dev);

	stop(w);
	pci_dev_reset(&w->pci);
	freeze(w);
	w->preload[0] = w->preload[1] = PRELOAD_MAX;
	w->unlock = w->int_status = 0;
	w->deadline_ns = 0;
}

static int save(struct dev *dev, struct snap_out *o)
{
	struct i6300esb *w = container_of(dev, struct i6300esb, pci.dev);
	int ret = pci_dev_save(&w->pci, o);

	return ret ? ret : snap_put(o, dev->id, &table, w);
}

static int load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct i6300esb *w = container_of(dev, struct i6300esb, pci.dev);
	int64_t now = clock_now(dev->m->clock);
	int ret;

	stop(w);
	w->pci.wmask[WDT_LOCK] = LOCK_LOCK | LOCK_ENABLE | LOCK_FREE_RUN;
	ret = pci_dev_load(&w->pci, in, e);
	if (!ret)
		ret = snap_get(in, dev->id, &table, w, e);
	if (ret)
		return ret;
	freeze(w);
	if (w->preload[0] > PRELOAD_MAX || w->preload[1] > PRELOAD_MAX || w->stage > 2 || w->unlock > 2 || w->int_status > 1 ||
	    w->deadline_ns < 0 || w->deadline_ns > now + LONGEST_NS || (w->stage && !(lock(w) & LOCK_ENABLE))) {
		stop(w);
		return err_set(e, -EINVAL, "saved state of %s makes no sense", dev->id);
	}
	if (w->stage)
		vtimer_arm(&w->timer, w->deadline_ns);
	return 0;
}

static void release(struct dev *dev)
{
	struct i6300esb *w = container_of(dev, struct i6300esb, pci.dev);

	vtimer_cancel(&w->timer);
	pci_dev_fini(&w->pci);
	free(w);
}

static const struct pci_dev_ops ops = {
	.dev = { .name = "i6300esb", .reset = reset, .save = save, .load = load, .free = release },
	.config_written = config_written,
};

static const struct pci_ids ids = { .vendor = 0x8086, .device = 0x25ab, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x088000 };

int i6300esb_new(struct machine *m, struct pci_bus *bus, int devfn, struct i6300esb **out, struct err *e)
{
	struct i6300esb *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	vtimer_init(m->clock, &w->timer, expired, w);
	ret = pci_dev_init(&w->pci, m, bus, devfn, &ops, &ids, e);
	if (ret) {
		free(w);
		return ret;
	}
	pci_dev_add_bar(&w->pci, 0, PCI_BAR_MEM32, false, BAR_SIZE, &reg_ops, w);
	w->pci.wmask[WDT_CONFIG] = CONFIG_INT_TYPE | CONFIG_1MHZ | CONFIG_NO_OUTPUT;
	w->preload[0] = w->preload[1] = PRELOAD_MAX;
	freeze(w);
	pci_dev_ready(&w->pci);
	*out = w;
	return 0;
}
