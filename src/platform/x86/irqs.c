// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Interrupt wiring.  Devices hold wires named by global system interrupt (GSI);
 * behind a wire are either the user-space chips (8259 pair, 82093AA, local
 * APICs) or the engine's in-kernel ones.  With a split irqchip the local APICs
 * are the engine's, the other chips ours: messages go to the engine, the
 * engine reports EOIs and asks for 8259 vectors.
 *
 * GSI 0 (PIT) arrives at I/O APIC pin 2, as the MADT's override says; the other
 * GSIs at the pin of their number, and below 16 at the 8259 too.
 */
#include <errno.h>

#include "base/bits.h"
#include "chipset/i8259.h"
#include "chipset/i82093aa.h"
#include "chipset/lapic.h"
#include "device/ich9_lpc.h"
#include "platform/x86/priv.h"

static void gsi_set(void *opaque, int n, bool level)
{
	struct platform *p = opaque;

	if (p->kernel_irqchip) {
		p->engine->ops->irq_line(p->engine, (unsigned)n, level);
		return;
	}
	if (n < 16)
		irq_set(&p->pic_in[n], level);
	irq_set(&p->ioapic_in[n == LAYOUT_GSI_PIT ? 2 : n], level);
}

struct irq gsi_wire(struct platform *p, unsigned n)
{
	return (struct irq){ .set = gsi_set, .opaque = p, .n = (int)n };
}

struct irq gsi_share(struct platform *p, unsigned n)
{
	p->shared[n].out = gsi_wire(p, n);
	return (struct irq){ .set = irq_or_set, .opaque = &p->shared[n], .n = (int)(p->n_shared[n]++ & 63) };
}

/* The 8259's input n, which is not also the I/O APIC's if we can help it. */
static void pic_set(struct platform *p, unsigned n, bool level)
{
	if (p->kernel_irqchip)
		gsi_set(p, (int)n, level);
	else
		irq_set(&p->pic_in[n], level);
}

/* The level that the PIRQs routed to the 8259's input n give it together. */
static bool pirq_level_of(const struct platform *p, int n)
{
	bool level = false;

	for (unsigned i = 0; i < 4; i++)
		level |= p->pirq_level[i] && p->pirq_route[i] == n;
	return level;
}

static void pirq_set(void *opaque, int n, bool level)
{
	struct platform *p = opaque;
	int pic = p->pirq_route[n];

	p->pirq_level[n] = level;
	gsi_set(p, LAYOUT_GSI_PCI + n, level);
	if (pic >= 0)
		pic_set(p, (unsigned)pic, pirq_level_of(p, pic));
}

void pirq_routed(void *platform)
{
	struct platform *p = platform;

	for (unsigned i = 0; i < 4; i++) {
		int old = p->pirq_route[i], now = p->lpc ? ich9_lpc_route(p->lpc, i) : -1;

		p->pirq_route[i] = now;
		if (old == now)
			continue;
		if (old >= 0)
			pic_set(p, (unsigned)old, pirq_level_of(p, old));
		if (now >= 0)
			pic_set(p, (unsigned)now, pirq_level_of(p, now));
	}
}

struct irq pirq_wire(struct platform *p, unsigned n)
{
	return (struct irq){ .set = pirq_set, .opaque = p, .n = (int)n };
}

static int engine_msi(void *opaque, const struct msi *msg)
{
	struct cpu_engine *engine = opaque;

	return engine->ops->msi(engine, msg);
}

static void engine_extint(void *opaque, int n, bool level)
{
	struct cpu_engine *engine = opaque;

	engine->ops->extint(engine, level);
}

static void engine_route(void *opaque, unsigned pin, const struct msi *msg, bool masked)
{
	struct cpu_engine *engine = opaque;

	if (engine->ops->ioapic_route)
		engine->ops->ioapic_route(engine, pin, msg, masked);
}

/* Acknowledge cycle: the local APICs or the engine call it with the machine lock held. */
static uint8_t pic_ack(void *opaque)
{
	struct platform *p = opaque;

	return i8259_ack(p->pic);
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
	struct platform *p = opaque;

	i82093aa_eoi(p->ioapic, vector);
}

static int build_lapics(struct platform *p)
{
	struct machine *m = p->m;
	struct lapics_config c = {
		.n = p->cfg.n_vcpus,
		.phys_bits = p->phys_bits,
		.eoi = ioapic_eoi,
		.eoi_opaque = p,
		.extint_ack = p->kind->legacy ? pic_ack : NULL,
		.extint_opaque = p,
		.virtual_wire = p->kind->legacy,
	};
	int r = lapics_new(m, &c, &p->lapics);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < p->cfg.n_vcpus; i++)
		if (m->vcpus[i])
			lapics_attach(p->lapics, m->vcpus[i]);
	m->msi = lapics_msi;
	m->msi_opaque = p->lapics;
	return 0;
}

static int build_pic(struct platform *p, struct irq intr)
{
	struct i8259_config c = { .master = 0x20, .slave = 0xa0, .elcr = 0x4d0, .intr = intr };
	int r = i8259_new(p->m, &c, &p->pic);

	for (int i = 0; r == 0 && i < 16; i++)
		p->pic_in[i] = i8259_irq(p->pic, i);
	return r;
}

static int build_ioapic(struct platform *p)
{
	struct i82093aa_config c = {
		.base = LAYOUT_IOAPIC,
		.id = LAYOUT_IOAPIC_ID,
		.route = p->lapics ? NULL : engine_route,
		.route_opaque = p->engine,
	};
	int r = i82093aa_new(p->m, &c, &p->ioapic);

	for (int i = 0; r == 0 && i < LAYOUT_GSI_COUNT; i++)
		p->ioapic_in[i] = i82093aa_irq(p->ioapic, i);
	return r;
}

int irqs_build(struct platform *p, struct err *e)
{
	const struct cpu_engine_ops *ops = p->engine->ops;
	struct irq intr = { .set = engine_extint, .opaque = p->engine };
	int r = 0;

	p->m->msi = engine_msi;
	p->m->msi_opaque = p->engine;
	p->kernel_irqchip = ops->has_irqchip(p->engine);
	if (p->kernel_irqchip)
		return 0;
	if (!ops->has_lapic(p->engine)) {
		r = build_lapics(p);
		if (r == 0)
			intr = lapics_extint(p->lapics);
	}
	if (r == 0 && p->kind->legacy)
		r = build_pic(p, intr);
	if (r == 0)
		r = build_ioapic(p);
	p->m->ioapic_eoi = ioapic_eoi;
	p->m->extint_ack = p->pic ? pic_ack : NULL;
	p->m->ioapic_opaque = p;
	return r < 0 ? err_set(e, r, "out of memory for the interrupt controllers") : 0;
}
