/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the chip tests share: a machine with a manual clock, ports and MMIO by
 * name, wires that remember, and a save/load round trip in the middle of things.
 */
#ifndef LODGE_TESTS_CHIPSET_CHIP_H
#define LODGE_TESTS_CHIPSET_CHIP_H

#include "../unit.h"

#include "machine/machine.h"

#define US 1000ll
#define MS 1000000ll
#define SEC 1000000000ll

/* An output wire's memory. */
struct probe {
	bool level;
	unsigned rises, falls;
};

static inline void probe_set(void *opaque, int n, bool level)
{
	struct probe *p = (struct probe *)opaque + n;

	if (level && !p->level)
		p->rises++;
	if (!level && p->level)
		p->falls++;
	p->level = level;
}

static inline struct irq probe_irq(struct probe *p, int n)
{
	return (struct irq){ .set = probe_set, .opaque = p, .n = n };
}

/* What was asked of the machine last. */
struct asked {
	enum machine_request req;
	int code;
	unsigned count;
};

static inline void asked_cb(void *opaque, enum machine_request req, int code)
{
	struct asked *a = opaque;

	a->req = req;
	a->code = code;
	a->count++;
}

static inline struct machine *machine_make(void)
{
	struct machine *m;

	assert_int_equal(machine_new(&m, true), 0);
	return m;
}

static inline void outb_(struct machine *m, uint16_t port, uint8_t v)
{
	bus_access(m->pio, port, &v, 1, true);
}
static inline void outw_(struct machine *m, uint16_t port, uint16_t v)
{
	bus_access(m->pio, port, &v, 2, true);
}
static inline void outl_(struct machine *m, uint16_t port, uint32_t v)
{
	bus_access(m->pio, port, &v, 4, true);
}
static inline uint8_t inb_(struct machine *m, uint16_t port)
{
	uint8_t v = 0;

	bus_access(m->pio, port, &v, 1, false);
	return v;
}
static inline uint16_t inw_(struct machine *m, uint16_t port)
{
	uint16_t v = 0;

	bus_access(m->pio, port, &v, 2, false);
	return v;
}
static inline uint32_t inl_(struct machine *m, uint16_t port)
{
	uint32_t v = 0;

	bus_access(m->pio, port, &v, 4, false);
	return v;
}
static inline uint32_t readl_(struct machine *m, uint64_t addr)
{
	uint32_t v = 0;

	bus_access(m->mmio, addr, &v, 4, false);
	return v;
}
static inline uint64_t readq_(struct machine *m, uint64_t addr)
{
	uint64_t v = 0;

	bus_access(m->mmio, addr, &v, 8, false);
	return v;
}
static inline void writel_(struct machine *m, uint64_t addr, uint32_t v)
{
	bus_access(m->mmio, addr, &v, 4, true);
}
static inline void writeq_(struct machine *m, uint64_t addr, uint64_t v)
{
	bus_access(m->mmio, addr, &v, 8, true);
}

static inline void wire(const struct irq *w, struct machine *m, bool level)
{
	machine_lock(m);
	irq_set(w, level);
	machine_unlock(m);
}

static inline void step(struct machine *m, int64_t ns)
{
	machine_lock(m);
	clock_step(m->clock, ns);
	machine_unlock(m);
}

/* Saves all devices, resets them, and loads them again. */
static inline void round_trip(struct machine *m)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	const void *data;
	size_t len;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(m);
	machine_pause_devs(m);
	clock_pause(m->clock);
	assert_int_equal(machine_save_devs(m, o, NULL), 0);
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	machine_reset_devs(m);
	if (machine_load_devs(m, in, &e))
		fail_msg("load: %s", e.msg);
	clock_resume(m->clock);
	machine_resume_devs(m);
	machine_unlock(m);
	snap_in_free(in);
	snap_out_free(o);
}

#endif
