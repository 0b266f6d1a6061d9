/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fixed PC parts, wired as on a PC, against a hostile guest: the input is a
 * list of port, MMIO and local APIC accesses, steps of the clock, typed bytes,
 * keys, and saves whose stream may be damaged before it is loaded.
 *
 * Besides memory errors it finds hangs: an input that takes long is a finding.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chardev/chardev.h"
#include "chipset/acpi_cpuhp.h"
#include "chipset/acpi_ged.h"
#include "chipset/acpi_pcihp.h"
#include "chipset/acpi_pm.h"
#include "chipset/debug_exit.h"
#include "chipset/hpet.h"
#include "chipset/i8042.h"
#include "chipset/i8254.h"
#include "chipset/i8259.h"
#include "chipset/i82093aa.h"
#include "chipset/lapic.h"
#include "chipset/mc146818.h"
#include "chipset/ns16550.h"
#include "chipset/port92.h"
#include "chipset/pvpanic.h"
#include "chipset/test_dev.h"
#include "machine/machine.h"

#define N_CPUS 3
#define MAX_ACTIONS 2000

struct pc {
	const uint8_t *p;
	size_t left;
	struct machine *m;
	struct chardev *chr;
	struct lapics *lapics;
	struct i8259 *pic;
	struct i82093aa *ioapic;
	struct i8042 *kbc;
	struct acpi_pm *pm;
	struct acpi_ged *ged;
	struct acpi_cpuhp *cpuhp;
	struct acpi_pcihp *pcihp;
	uint32_t cards, leaving;	/* by slot */
	struct vcpu cpu[N_CPUS];
	size_t typed;
};

static uint64_t take(struct pc *pc, unsigned len)
{
	uint8_t b[8] = { 0 };
	size_t n = MIN(len, pc->left);

	memcpy(b, pc->p, n);
	pc->p += n;
	pc->left -= n;
	return ld_le64(b);
}

static void sink(void *opaque, const uint8_t *buf, size_t len)
{
	((struct pc *)opaque)->typed += len;
}

static uint64_t tsc_read(struct vcpu *v)
{
	return (uint64_t)clock_now(v->m->clock) * 3;
}

static int64_t tsc_to_ns(struct vcpu *v, uint64_t tsc)
{
	return (int64_t)(tsc / 3);
}

static void gsi_set(void *opaque, int n, bool level)
{
	struct pc *pc = opaque;
	struct irq io = i82093aa_irq(pc->ioapic, n == 0 ? 2 : n);

	if (n < 16) {
		struct irq pic = i8259_irq(pc->pic, n);

		irq_set(&pic, level);
	}
	irq_set(&io, level);
}

static struct irq gsi(struct pc *pc, int n)
{
	return (struct irq){ .set = gsi_set, .opaque = pc, .n = n };
}

static uint8_t pic_ack(void *opaque)
{
	return i8259_ack(((struct pc *)opaque)->pic);
}

static void forward_eoi(void *opaque, uint8_t vector)
{
	i82093aa_eoi(((struct pc *)opaque)->ioapic, vector);
}

static int build_interrupts(struct pc *pc)
{
	struct machine *m = pc->m;
	const struct lapics_config lc = { .n = N_CPUS, .phys_bits = 46, .virtual_wire = true, .eoi = forward_eoi,
					  .eoi_opaque = pc, .extint_ack = pic_ack, .extint_opaque = pc };
	struct i8259_config pic = { .master = 0x20, .slave = 0xa0, .elcr = 0x4d0 };
	const struct i82093aa_config io = { .base = 0xfec00000 };
	int r = lapics_new(m, &lc, &pc->lapics);

	if (r)
		return r;
	m->msi = lapics_msi;
	m->msi_opaque = pc->lapics;
	for (unsigned i = 0; i < N_CPUS; i++) {
		pc->cpu[i] = (struct vcpu){ .m = m, .id = i, .tsc_read = tsc_read, .tsc_to_ns = tsc_to_ns };
		lapics_attach(pc->lapics, &pc->cpu[i]);
	}
	pic.intr = lapics_extint(pc->lapics);
	r = i8259_new(m, &pic, &pc->pic);
	return r ? r : i82093aa_new(m, &io, &pc->ioapic);
}

static int build_timers(struct pc *pc)
{
	struct machine *m = pc->m;
	struct i8254 *pit;
	struct mc146818 *rtc;
	struct hpet *hpet;
	struct hpet_config hc = { .base = 0xfed00000, .route_cap = 0xffffff,
				  .irq0 = gsi(pc, 0), .irq8 = gsi(pc, 8) };
	int r = i8254_new(m, &(struct i8254_config){ 0x40, 0x61, gsi(pc, 0) }, &pit);

	if (!r)
		r = mc146818_new(m, &(struct mc146818_config){ .base = 0x70, .irq = gsi(pc, 8) }, &rtc);
	if (r)
		return r;
	for (int i = 0; i < 24; i++)
		hc.pin[i] = gsi(pc, i);
	hc.mute[0] = i8254_mute(pit);
	hc.mute[1] = mc146818_mute(rtc);
	return hpet_new(m, &hc, &hpet);
}

/* What the platform does: who is there is the same everywhere. */
static void follow_cpus(void *opaque)
{
	struct pc *pc = opaque;
	uint64_t there = acpi_cpuhp_present(pc->cpuhp);

	if (!(there & 1) || there >> N_CPUS || acpi_cpuhp_asked(pc->cpuhp) & ~there)
		abort();
	for (unsigned i = 0; i < N_CPUS; i++)
		pc->cpu[i].absent = !(there >> i & 1);
}

static void on_ejected(void *opaque, unsigned id)
{
	struct pc *pc = opaque;

	if (!id || id >= N_CPUS || pc->cpu[id].absent)
		abort();
	follow_cpus(pc);
	lapics_power_up(pc->lapics, id);
}

static int build_cpus(struct pc *pc)
{
	const struct acpi_cpuhp_config c = { .port = 0xcd8, .n = N_CPUS, .present = 3, .event = acpi_pm_gpe(pc->pm, 2), .ejected = on_ejected,
					     .loaded = follow_cpus, .opaque = pc };
	int r = acpi_cpuhp_new(pc->m, &c, &pc->cpuhp);

	if (!r)
		follow_cpus(pc);
	return r;
}

/* The host's wishes, sensible or not. */
static void host_wants_cpu(struct pc *pc, const uint8_t *arg)
{
	unsigned id = arg[1] % (N_CPUS + 2);

	switch (arg[0] % 3) {
	case 0:
		if (!acpi_cpuhp_insert(pc->cpuhp, id))
			lapics_power_up(pc->lapics, id);
		break;
	case 1: acpi_cpuhp_ask(pc->cpuhp, id); break;
	case 2: acpi_cpuhp_remove(pc->cpuhp, id); break;
	}
	follow_cpus(pc);
}

/* Slots 1 to 22, those with an even number if there is no card in slot 1. */
static uint32_t card_slots(void *opaque)
{
	const struct pc *pc = opaque;

	return pc->cards & 2 ? 0x7ffffe : 0x555554;
}

static void card_ejected(void *opaque, unsigned slot)
{
	struct pc *pc = opaque;

	if (slot > 31 || !(card_slots(pc) >> slot & 1))
		abort();
	pc->leaving |= pc->cards & BIT(slot);
}

static int build_slots(struct pc *pc)
{
	const struct acpi_pcihp_config c = { .port = 0xcc0, .event = acpi_pm_gpe(pc->pm, 1), .slots = card_slots, .ejected = card_ejected, .opaque = pc };

	return acpi_pcihp_new(pc->m, &c, &pc->pcihp);
}

static void host_wants_card(struct pc *pc, const uint8_t *arg)
{
	unsigned slot = 1 + arg[1] % 22;

	switch (arg[0] % 3) {
	case 0:
		pc->cards |= BIT(slot);
		acpi_pcihp_plugged(pc->pcihp, slot);
		break;
	case 1: acpi_pcihp_ask(pc->pcihp, slot); break;
	case 2:
		for (unsigned i = 0; i < 32; i++)
			if (pc->leaving >> i & 1)
				acpi_pcihp_emptied(pc->pcihp, i);
		pc->cards &= ~pc->leaving;
		pc->leaving = 0;
		break;
	}
}

static int build_rest(struct pc *pc)
{
	struct machine *m = pc->m;
	const struct i8042_config kc = { .data = 0x60, .command = 0x64, .kbd = gsi(pc, 1), .aux = gsi(pc, 12) };
	const struct ns16550_config uc = { .id = "com1", .base = 0x3f8, .irq = gsi(pc, 4), .chr = pc->chr };
	const struct acpi_pm_config ac = { 0x600, 0x604, 0x608, 0x620, 0xb2, 0xcf9, gsi(pc, 9) };
	const struct acpi_ged_config gc = { .base = 0xfea00000, .irq = gsi(pc, 5) };
	struct test_dev_config tc = { .ports = 0xe0, .irq_ports = 0x2000, .mmio = 0xff000000 };
	struct ns16550 *uart;
	int r = i8042_new(m, &kc, &pc->kbc);

	for (int i = 0; i < TEST_DEV_IRQS; i++)
		tc.irq[i] = gsi(pc, i);
	r = r ? r : ns16550_new(m, &uc, &uart);
	r = r ? r : acpi_pm_new(m, &ac, &pc->pm);
	r = r ? r : acpi_ged_new(m, &gc, &pc->ged);
	r = r ? r : build_cpus(pc);
	r = r ? r : build_slots(pc);
	r = r ? r : port92_new(m, 0x92, &(struct irq){ 0 });
	r = r ? r : debug_exit_new(m, 0xf4, 4);
	r = r ? r : pvpanic_new(m, 0x505);
	return r ? r : test_dev_new(m, &tc);
}

static void port_access(struct pc *pc)
{
	static const uint16_t base[16] = { 0x20, 0xa0, 0x4d0, 0x40, 0x61, 0x70, 0x60, 0x3f8,
					   0x600, 0x604, 0x620, 0xb2, 0xcf8, 0x92, 0x2000, 0xe0 };
	uint8_t how = (uint8_t)take(pc, 1), where = (uint8_t)take(pc, 1);
	uint32_t v = (uint32_t)take(pc, 4);
	uint16_t port = (uint16_t)(how & 8 ? 0xcd8 + (where & 15) : how & 16 ? 0xcc0 + (where & 31) : base[where & 15] + (where >> 4));

	bus_access(pc->m->pio, port, &v, 1u << (how & 1) << (how >> 1 & 1), how & 4);
}

static void mmio_access(struct pc *pc)
{
	static const uint64_t base[8] = { 0xfec00000, 0xfec00010, 0xfed00000, 0xfed00100,
					  0xfed00108, 0xfea00000, 0xff000000, 0xfed000f0 };
	uint8_t how = (uint8_t)take(pc, 1), where = (uint8_t)take(pc, 1);
	uint64_t v[8] = { take(pc, 8) };

	bus_access(pc->m->mmio, base[where & 7] + (where >> 3 & 31) * 4, v, 1u << (how & 3), how & 4);
}

static void lapic_access(struct pc *pc)
{
	uint8_t how = (uint8_t)take(pc, 1), reg = (uint8_t)take(pc, 1);
	struct vcpu *v = &pc->cpu[how % N_CPUS];
	uint64_t val = take(pc, 8);

	switch (how >> 4 & 7) {
	case 0: v->intc->mmio_read(v->intc_opaque, (uint32_t)reg << 4); break;
	case 1: v->intc->mmio_write(v->intc_opaque, (uint32_t)reg << 4, (uint32_t)val); break;
	case 2: v->intc->msr_read(v->intc_opaque, 0x800 + reg, &val); break;
	case 3: v->intc->msr_write(v->intc_opaque, 0x800 + reg, val); break;
	case 4: v->intc->msr_write(v->intc_opaque, 0x6e0, reg & 1 ? val : tsc_read(v) + (val & 0xffffff)); break;
	case 5: v->intc->set_base(v->intc_opaque, 0xfee00000 | (val & 0xfff)); break;
	case 6: v->intc->set_tpr(v->intc_opaque, reg & 15); break;
	default: v->intc->init(v->intc_opaque); break;
	}
}

/* What a vCPU does between instructions. */
static void take_interrupts(struct pc *pc)
{
	for (unsigned i = 0; i < N_CPUS; i++) {
		struct vcpu *v = &pc->cpu[i];

		v->events = 0;
		for (int n = 0; n < 4 && v->intc->pending(v->intc_opaque); n++)
			if (v->intc->ack(v->intc_opaque) >= 0)
				v->intc->mmio_write(v->intc_opaque, 0xb0, 0);
	}
}

static void outside(struct pc *pc)
{
	uint8_t what = (uint8_t)take(pc, 1), arg[8];

	st_le64(arg, take(pc, 8));
	machine_lock(pc->m);
	if (what >= 0xe0)
		host_wants_cpu(pc, arg);
	else if (what >= 0xc0)
		host_wants_card(pc, arg);
	else switch (what % 5) {
	case 0: chardev_feed(pc->chr, arg, sizeof(arg)); break;
	case 1: i8042_key(pc->kbc, arg[0], arg[1] & 1, arg[1] & 2); break;
	case 2: i8042_mouse(pc->kbc, (int8_t)arg[0], (int8_t)arg[1], (int8_t)arg[2], arg[3]); break;
	case 3: acpi_pm_power_button(pc->pm); break;
	case 4: acpi_ged_power_button(pc->ged); break;
	}
	machine_unlock(pc->m);
}

static void save_load(struct pc *pc, bool damage)
{
	struct machine *m = pc->m;
	struct snap_out *o;
	struct snap_in *in;
	const void *data;
	uint8_t *copy;
	struct err e;
	size_t len;

	if (snap_out_new(&o))
		return;
	machine_lock(m);
	machine_pause_devs(m);
	clock_pause(m->clock);
	if (machine_save_devs(m, o, NULL))
		abort();
	data = snap_out_data(o, &len);
	copy = malloc(len);
	memcpy(copy, data, len);
	for (int i = 0; damage && i < 4; i++) {
		uint64_t at = take(pc, 4) % len;

		copy[at] = (uint8_t)take(pc, 1);
	}
	if (!snap_in_new(&in, copy, len)) {
		machine_reset_devs(m);
		if (machine_load_devs(m, in, &e)) {
			if (!damage)
				abort();	/* what was saved must load */
			machine_reset_devs(m);
		}
		snap_in_free(in);
	}
	clock_resume(m->clock);
	machine_resume_devs(m);
	machine_unlock(m);
	free(copy);
	snap_out_free(o);
}

static void act(struct pc *pc)
{
	uint8_t what = (uint8_t)take(pc, 1);

	switch (what % 8) {
	case 0: case 1: port_access(pc); break;
	case 2: mmio_access(pc); break;
	case 3: lapic_access(pc); break;
	case 4: take_interrupts(pc); break;
	case 5: outside(pc); break;
	case 6:
		machine_lock(pc->m);
		clock_step(pc->m->clock, (int64_t)take(pc, 3));		/* up to 16 ms */
		machine_unlock(pc->m);
		break;
	case 7:
		if (what >> 3 < 4)
			save_load(pc, what >> 3 & 1);
		else
			loop_turn(pc->m->loop, 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pc *pc = calloc(1, sizeof(*pc));

	if (!pc)
		return 0;
	pc->p = data;
	pc->left = size;
	if (machine_new(&pc->m, true))
		goto out;
	if (chardev_pipe_new(pc->m->loop, sink, pc, &pc->chr) || build_interrupts(pc) || build_timers(pc) ||
	    build_rest(pc))
		abort();
	for (int i = 0; pc->left && i < MAX_ACTIONS; i++)
		act(pc);
	machine_lock(pc->m);
	machine_free_devs(pc->m);
	machine_unlock(pc->m);
	chardev_free(pc->chr);
	machine_free(pc->m);
out:
	free(pc);
	return 0;
}
