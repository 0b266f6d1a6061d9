// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUs that come and go, as ACPI's methods see them: see acpi_cpuhp.h.
 *
 * Flags are masks with a bit for each CPU.  `asked` outlives the guest's
 * acknowledgement (`removing`): it stands until the CPU has gone or _OST says that
 * it will not go, so whoever asked can tell a request that is under way.
 */
#include "chipset/acpi_cpuhp.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/machine.h"

/* ACPI 6.5, 6.3.5: source events and status codes of _OST. */
#define OST_EJECT_NOTIFY 3
#define OST_EJECT_BY_OS 0x103
#define OST_EJECT_IN_PROGRESS 0x84

struct acpi_cpuhp {
	struct dev dev;
	struct acpi_cpuhp_config cfg;
	struct bus_region region;
	uint64_t present, inserting, removing, by_firmware, asked;
	uint32_t selector;
	uint8_t command;
	uint32_t ost_event[MACHINE_MAX_VCPUS], ost_status[MACHINE_MAX_VCPUS];
};

_Static_assert(MACHINE_MAX_VCPUS <= 64, "a bit for each CPU");

static const struct snap_field fields[] = {
	SNAP_FIELD(struct acpi_cpuhp, present),
	SNAP_FIELD(struct acpi_cpuhp, inserting),
	SNAP_FIELD(struct acpi_cpuhp, removing),
	SNAP_FIELD(struct acpi_cpuhp, by_firmware),
	SNAP_FIELD(struct acpi_cpuhp, asked),
	SNAP_FIELD(struct acpi_cpuhp, selector),
	SNAP_FIELD(struct acpi_cpuhp, command),
	SNAP_ARRAY(struct acpi_cpuhp, ost_event),
	SNAP_ARRAY(struct acpi_cpuhp, ost_status),
	SNAP_END
};
static const struct snap_table table = { "acpi_cpuhp", 1, fields };

static uint64_t possible(const struct acpi_cpuhp *h)
{
	return h->cfg.n == 64 ? UINT64_MAX : BIT64(h->cfg.n) - 1;
}

static bool is_there(const struct acpi_cpuhp *h, unsigned id)
{
	return id < h->cfg.n && h->present >> id & 1;
}

static void take_out(struct acpi_cpuhp *h, unsigned id)
{
	const uint64_t bit = BIT64(id);

	h->present &= ~bit;
	h->inserting &= ~bit;
	h->removing &= ~bit;
	h->by_firmware &= ~bit;
	h->asked &= ~bit;
	h->cfg.ejected(h->cfg.opaque, id);
}

/* The next one with news, from the selected one on; the selector stays if there is none. */
static void select_next(struct acpi_cpuhp *h)
{
	const uint64_t news = h->inserting | h->removing | h->by_firmware;

	for (unsigned i = 0; i < h->cfg.n; i++) {
		unsigned id = (h->selector + i) % h->cfg.n;

		if (news >> id & 1) {
			h->selector = id;
			return;
		}
	}
}

static uint8_t flags(const struct acpi_cpuhp *h)
{
	const unsigned id = h->selector;

	return (uint8_t)((h->present >> id & 1) * ACPI_CPUHP_THERE | (h->inserting >> id & 1) * ACPI_CPUHP_INSERT |
			 (h->removing >> id & 1) * ACPI_CPUHP_REMOVE | (h->by_firmware >> id & 1) * ACPI_CPUHP_FIRMWARE);
}

static uint64_t hp_read(void *opaque, uint64_t off, unsigned len)
{
	const struct acpi_cpuhp *h = opaque;

	if (h->selector >= h->cfg.n)
		return 0;
	if (off == 4 && len == 1)
		return flags(h);
	if (off == 8 && (h->command == ACPI_CPUHP_NEXT || h->command == ACPI_CPUHP_APIC_ID))
		return h->selector;	/* which is the APIC ID, too; its upper half, at 0, is none */
	return 0;
}

static void write_flags(struct acpi_cpuhp *h, uint8_t v)
{
	const uint64_t bit = BIT64(h->selector);

	if (v & ACPI_CPUHP_INSERT)
		h->inserting &= ~bit;
	if (v & ACPI_CPUHP_REMOVE)
		h->removing &= ~bit;
	/* Of the boot processor, and of what is not there, nothing comes. */
	if (v & (ACPI_CPUHP_EJECT | ACPI_CPUHP_FIRMWARE) && (!h->selector || !is_there(h, h->selector)))
		return;
	if (v & ACPI_CPUHP_EJECT)
		take_out(h, h->selector);
	else if (v & ACPI_CPUHP_FIRMWARE)
		h->by_firmware ^= bit;
}

static void write_data(struct acpi_cpuhp *h, uint32_t v)
{
	const unsigned id = h->selector;
	uint32_t event = h->ost_event[id];

	if (h->command == ACPI_CPUHP_OST_EVENT)
		h->ost_event[id] = v;
	if (h->command != ACPI_CPUHP_OST_STATUS)
		return;
	h->ost_status[id] = v;
	/* Anything but success, which ejecting follows, and "wait" is a refusal. */
	if ((event == OST_EJECT_NOTIFY || event == OST_EJECT_BY_OS) && v && v != OST_EJECT_IN_PROGRESS)
		h->asked &= ~BIT64(id);
	machine_tell(h->dev.m, MACHINE_EV_CPU_OST, (int64_t)id);
}

static void hp_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_cpuhp *h = opaque;

	if (off == 0 && len == 4)
		h->selector = (uint32_t)val;
	if (h->selector >= h->cfg.n)
		return;
	if (off == 4 && len == 1) {
		write_flags(h, (uint8_t)val);
	} else if (off == 5 && len == 1) {
		h->command = (uint8_t)val;
		if (h->command == ACPI_CPUHP_NEXT)
			select_next(h);
	} else if (off == 8 && len == 4) {
		write_data(h, (uint32_t)val);
	}
}

static const struct bus_ops hp_ops = { .read = hp_read, .write = hp_write, .max_len = 4 };

/* ---- the host's side ---- */

uint64_t acpi_cpuhp_present(const struct acpi_cpuhp *h) { return h->present; }
uint64_t acpi_cpuhp_asked(const struct acpi_cpuhp *h) { return h->asked; }

struct acpi_cpuhp_ost acpi_cpuhp_ost(const struct acpi_cpuhp *h, unsigned id)
{
	return id < h->cfg.n ? (struct acpi_cpuhp_ost){ h->ost_event[id], h->ost_status[id] } : (struct acpi_cpuhp_ost){ 0 };
}

int acpi_cpuhp_insert(struct acpi_cpuhp *h, unsigned id)
{
	if (id >= h->cfg.n)
		return -EINVAL;
	if (is_there(h, id))
		return -EEXIST;
	h->present |= BIT64(id);
	h->inserting |= BIT64(id);
	h->ost_event[id] = h->ost_status[id] = 0;
	irq_pulse(&h->cfg.event);
	return 0;
}

int acpi_cpuhp_ask(struct acpi_cpuhp *h, unsigned id)
{
	if (!id || !is_there(h, id))
		return -EINVAL;
	h->removing |= BIT64(id);
	h->asked |= BIT64(id);
	irq_pulse(&h->cfg.event);
	return 0;
}

int acpi_cpuhp_remove(struct acpi_cpuhp *h, unsigned id)
{
	if (!id || !is_there(h, id))
		return -EINVAL;
	take_out(h, id);
	return 0;
}

/* ---- life ---- */

/* The selector stays, and so do CPUs: the tables that the guest reads next say which there are. */
static void hp_reset(struct dev *d)
{
	struct acpi_cpuhp *h = container_of(d, struct acpi_cpuhp, dev);

	h->inserting = h->removing = h->by_firmware = h->asked = 0;
	h->command = 0;
	for (unsigned i = 0; i < MACHINE_MAX_VCPUS; i++)
		h->ost_event[i] = h->ost_status[i] = 0;
}

static int hp_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct acpi_cpuhp, dev));
}

static int hp_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct acpi_cpuhp *h = container_of(d, struct acpi_cpuhp, dev);
	const struct acpi_cpuhp before = *h;
	int ret = snap_get(in, d->id, &table, h, e);

	if (!ret && (!(h->present & 1) || h->present & ~possible(h)))
		ret = err_set(e, -EINVAL, "saved state has CPUs 0x%llx, and of %u the first is always there", (unsigned long long)h->present, h->cfg.n);
	if (ret) {
		/* What is there stays what the rest of the machine takes to be there. */
		h->present = before.present;
		h->inserting = h->removing = h->by_firmware = h->asked = 0;
		return ret;
	}
	h->inserting &= h->present;
	h->removing &= h->present & ~1ull;
	h->by_firmware &= h->present & ~1ull;
	h->asked &= h->present & ~1ull;
	h->cfg.loaded(h->cfg.opaque);
	return 0;
}

static void hp_free(struct dev *d)
{
	struct acpi_cpuhp *h = container_of(d, struct acpi_cpuhp, dev);

	bus_del(&h->region);
	dev_del(d);
	free(h);
}

static const struct dev_ops hp_dev_ops = { .name = "acpi_cpuhp", .reset = hp_reset, .save = hp_save, .load = hp_load, .free = hp_free };

int acpi_cpuhp_new(struct machine *m, const struct acpi_cpuhp_config *cfg, struct acpi_cpuhp **out)
{
	struct acpi_cpuhp *h;
	int ret;

	if (!cfg->n || cfg->n > MACHINE_MAX_VCPUS || !(cfg->present & 1))
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	h->present = cfg->present & possible(h);
	h->region = (struct bus_region){ .name = "acpi_cpuhp", .ops = &hp_ops, .opaque = h, .base = cfg->port, .size = ACPI_CPUHP_LEN,
					 .priority = 1 };
	ret = bus_add(m->pio, &h->region);
	if (ret) {
		free(h);
		return ret;
	}
	dev_add(m, &h->dev, &hp_dev_ops, "pc.acpi_cpuhp");
	*out = h;
	return 0;
}
