/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The small ports: fast A20 and reset, debug console and exit, pvpanic, the test
 * device; and a whole set of chips under random accesses.
 */
#include "chip.h"

#include "chardev/chardev.h"
#include "chipset/acpi_pm.h"
#include "chipset/debug_exit.h"
#include "chipset/debugcon.h"
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

struct chardev {
	uint8_t out[16];
	size_t n;
};

void chardev_attach(struct chardev *c, const struct chardev_front *f)
{
}

size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		c->out[c->n++ % sizeof(c->out)] = buf[i];
	return len;
}

void chardev_kick(struct chardev *c)
{
}

static struct machine *m;
static struct asked asked;
static struct probe irq[24];

static int setup(void **state)
{
	m = machine_make();
	asked = (struct asked){ 0 };
	memset(irq, 0, sizeof(irq));
	m->request = asked_cb;
	m->request_opaque = &asked;
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void test_port92(void **state)
{
	const struct irq a20 = probe_irq(irq, 0);

	assert_int_equal(port92_new(m, 0x92, &a20), 0);
	assert_int_equal(inb_(m, 0x92), 2);
	outb_(m, 0x92, 0);
	assert_false(irq[0].level);
	round_trip(m);
	assert_false(irq[0].level);
	outb_(m, 0x92, 3);
	assert_int_equal(asked.req, MACHINE_REQ_RESET);
	outb_(m, 0x92, 3);		/* stays 1: no second reset */
	assert_int_equal(asked.count, 1);
}

static void test_debug_ports(void **state)
{
	struct chardev chr = { .n = 0 };

	assert_int_equal(debugcon_new(m, 0x402, 0xe9, &chr), 0);
	assert_int_equal(debugcon_new(m, 0xe9, 0xe9, NULL), 0);
	assert_int_equal(debug_exit_new(m, 0xf4, 4), 0);
	assert_int_equal(debug_exit_new(m, 0x501, 5), -EINVAL);
	assert_int_equal(inb_(m, 0x402), 0xe9);
	outb_(m, 0x402, 'h');
	outb_(m, 0x402, 'i');
	outb_(m, 0xe9, 'x');
	assert_memory_equal(chr.out, "hi", 2);
	assert_int_equal(chr.n, 2);
	outl_(m, 0xf4, 0x10);
	assert_int_equal(asked.req, MACHINE_REQ_DEBUG_EXIT);
	assert_int_equal(asked.code, 0x21);
	outb_(m, 0xf4, 0);
	assert_int_equal(asked.code, 1);
}

static void test_pvpanic(void **state)
{
	assert_int_equal(pvpanic_new(m, 0x505), 0);
	assert_int_equal(inb_(m, 0x505), 7);
	outb_(m, 0x505, PVPANIC_CRASH_LOADED);
	assert_int_equal(asked.count, 0);
	outb_(m, 0x505, PVPANIC_PANICKED);
	assert_int_equal(asked.req, MACHINE_REQ_PANIC);
	outb_(m, 0x505, PVPANIC_SHUTDOWN);
	assert_int_equal(asked.req, MACHINE_REQ_POWEROFF);
}

static void test_test_dev(void **state)
{
	struct test_dev_config cfg = { .ports = 0xe0, .irq_ports = 0x2000, .mmio = 0xff000000 };

	for (int i = 0; i < 24; i++)
		cfg.irq[i] = probe_irq(irq, i);
	assert_int_equal(test_dev_new(m, &cfg), 0);
	outl_(m, 0xe0, 0x12345678);
	assert_int_equal(inl_(m, 0xe0), 0x12345678);
	outb_(m, 0xe0, 0xff);
	assert_int_equal(inw_(m, 0xe0), 0x56ff);
	outl_(m, 0xe4, 0x1000);
	outl_(m, 0xe8, 0xa1b2c3d4);
	assert_int_equal(inl_(m, 0xe8), 0xa1b2c3d4);
	outb_(m, 0x200e, 1);
	assert_true(irq[14].level);
	writeq_(m, 0xff00fff8, 0x1122334455667788);
	round_trip(m);
	assert_true(irq[14].level);
	assert_int_equal(readq_(m, 0xff00fff8), 0x1122334455667788);
	outb_(m, 0x200e, 0);
	assert_false(irq[14].level);
}

/* ---- everything at once ---- */

static struct i8259 *pic;
static struct lapics *lapics;
static struct i82093aa *ioapic;
static struct vcpu cpu[2];

static uint8_t ack_pic(void *opaque)
{
	return i8259_ack(pic);
}

static void forward_eoi(void *opaque, uint8_t vector)
{
	i82093aa_eoi(ioapic, vector);
}

static uint64_t tsc_read(struct vcpu *v)
{
	return (uint64_t)clock_now(v->m->clock);
}

static int64_t tsc_to_ns(struct vcpu *v, uint64_t tsc)
{
	return (int64_t)tsc;
}

static struct irq both_wires[24];

/* A GSI as on a PC: 8259 and I/O APIC. */
static void set_both(void *opaque, int n, bool level)
{
	struct irq a = i8259_irq(pic, n == 2 ? 0 : n), b = i82093aa_irq(ioapic, n);

	irq_set(&a, level);
	irq_set(&b, level);
}

static void build_all(struct chardev *chr)
{
	struct i8254 *pit;
	struct mc146818 *rtc;
	struct i8042 *kbc;
	struct acpi_pm *pm;
	struct hpet *hpet;
	struct ns16550 *uart;
	struct hpet_config hc = { .base = 0xfed00000, .route_cap = 0xffffff };
	struct irq none = { 0 };

	for (int i = 0; i < 24; i++)
		both_wires[i] = (struct irq){ .set = set_both, .n = i };
	assert_int_equal(lapics_new(m, &(struct lapics_config){ .n = 2, .extint_ack = ack_pic,
		.eoi = forward_eoi, .virtual_wire = true }, &lapics), 0);
	m->msi = lapics_msi;
	m->msi_opaque = lapics;
	for (unsigned i = 0; i < 2; i++) {
		cpu[i] = (struct vcpu){ .m = m, .id = i, .tsc_read = tsc_read, .tsc_to_ns = tsc_to_ns };
		lapics_attach(lapics, &cpu[i]);
	}
	assert_int_equal(i8259_new(m, &(struct i8259_config){ 0x20, 0xa0, 0x4d0, lapics_extint(lapics) }, &pic), 0);
	assert_int_equal(i82093aa_new(m, &(struct i82093aa_config){ .base = 0xfec00000 }, &ioapic), 0);
	assert_int_equal(i8254_new(m, &(struct i8254_config){ 0x40, 0x61, both_wires[2] }, &pit), 0);
	assert_int_equal(mc146818_new(m, &(struct mc146818_config){ 0x70, both_wires[8], none }, &rtc), 0);
	hc.irq0 = both_wires[2];
	hc.irq8 = both_wires[8];
	for (int i = 0; i < 24; i++)
		hc.pin[i] = i82093aa_irq(ioapic, i);
	hc.mute[0] = i8254_mute(pit);
	hc.mute[1] = mc146818_mute(rtc);
	assert_int_equal(hpet_new(m, &hc, &hpet), 0);
	assert_int_equal(i8042_new(m, &(struct i8042_config){ 0x60, 0x64, both_wires[1], both_wires[12], none, false },
				   &kbc), 0);
	assert_int_equal(ns16550_new(m, &(struct ns16550_config){ .id = "com1", .base = 0x3f8,
		.irq = both_wires[4], .chr = chr }, &uart), 0);
	assert_int_equal(acpi_pm_new(m, &(struct acpi_pm_config){ 0x600, 0x604, 0x608, 0x620, 0xb2, 0xcf9,
		both_wires[9] }, &pm), 0);
	assert_int_equal(port92_new(m, 0x92, &none), 0);
	assert_int_equal(debug_exit_new(m, 0xf4, 4), 0);
	assert_int_equal(pvpanic_new(m, 0x505), 0);
}

static uint64_t rng_state;

static uint64_t rnd(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static void random_port(void)
{
	static const struct { uint16_t base, len; } r[] = {
		{ 0x20, 2 }, { 0xa0, 2 }, { 0x4d0, 2 }, { 0x40, 4 }, { 0x61, 1 }, { 0x70, 4 }, { 0x60, 5 },
		{ 0x3f8, 8 }, { 0x600, 64 }, { 0xb2, 2 }, { 0xcf8, 4 }, { 0x92, 1 }, { 0xf4, 4 }, { 0x505, 1 },
	};
	unsigned i = rnd() % (sizeof(r) / sizeof(r[0]));
	uint32_t v = (uint32_t)rnd();

	bus_access(m->pio, (uint64_t)(r[i].base + rnd() % r[i].len), &v, 1u << (rnd() % 3), rnd() & 1);
}

static void random_mmio(void)
{
	static const uint64_t base[] = { 0xfec00000, 0xfec00010, 0xfed00000, 0xfed00100, 0xfed00008 };
	uint64_t v = rnd() & 7 ? rnd() : rnd() & 0x7f;

	bus_access(m->mmio, base[rnd() % 5] + rnd() % 0x70, &v, 1u << (rnd() % 4), rnd() & 1);
}

static void random_lapic(struct vcpu *v)
{
	uint64_t val = rnd() & 3 ? rnd() : rnd() & 0x7ff;
	uint32_t reg = (uint32_t)(rnd() % 0x40);

	switch (rnd() % 8) {
	case 0: v->intc->mmio_read(v->intc_opaque, reg << 4); break;
	case 1: v->intc->msr_read(v->intc_opaque, 0x800 + reg, &val); break;
	case 2: v->intc->msr_write(v->intc_opaque, 0x800 + reg, val); break;
	case 3: v->intc->msr_write(v->intc_opaque, 0x6e0, val); break;
	case 4: v->intc->set_base(v->intc_opaque, 0xfee00000 | (val & 0xfff)); break;
	case 5:
		if (v->intc->pending(v->intc_opaque))
			v->intc->ack(v->intc_opaque);
		break;
	case 6: v->intc->set_tpr(v->intc_opaque, val & 15); break;
	default: v->intc->mmio_write(v->intc_opaque, reg << 4, (uint32_t)val); break;
	}
}

/* Whatever a guest does, the chips survive, stay bounded in time, and can be saved. */
static void test_random_accesses(void **state)
{
	struct chardev chr = { .n = 0 };

	build_all(&chr);
	for (uint64_t seed = 1; seed <= 8; seed++) {
		rng_state = seed * 0x9e3779b97f4a7c15;
		for (int i = 0; i < 20000; i++) {
			switch (rnd() % 4) {
			case 0: random_mmio(); break;
			case 1: random_lapic(&cpu[rnd() & 1]); break;
			default: random_port(); break;
			}
			if (i % 64 == 0)
				step(m, (int64_t)(rnd() % (5 * MS)));
			if (i % 4000 == 0)
				round_trip(m);
		}
	}
}

/* A stream that was tampered with is refused or tamed; it never breaks the chips. */
static void test_corrupt_streams(void **state)
{
	struct chardev chr = { .n = 0 };
	struct snap_out *o;
	const uint8_t *data;
	size_t len;
	uint8_t *copy;

	build_all(&chr);
	rng_state = 42;
	for (int i = 0; i < 3000; i++)
		random_port();
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(m, o, NULL), 0);
	data = snap_out_data(o, &len);
	copy = malloc(len);
	for (int i = 0; i < 3000; i++) {
		struct snap_in *in;
		struct err e = { "" };

		memcpy(copy, data, len);
		for (int k = 0; k < 3; k++)
			copy[rnd() % len] = (uint8_t)rnd();
		assert_int_equal(snap_in_new(&in, copy, len), 0);
		machine_lock(m);
		clock_pause(m->clock);
		if (machine_load_devs(m, in, &e)) {
			assert_true(e.msg[0]);
			machine_reset_devs(m);
		}
		clock_resume(m->clock);
		machine_resume_devs(m);
		machine_unlock(m);
		snap_in_free(in);
		for (int k = 0; k < 20; k++)
			random_port();
		step(m, MS);
	}
	free(copy);
	snap_out_free(o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_port92), T(test_debug_ports), T(test_pvpanic), T(test_test_dev),
		T(test_random_accesses), T(test_corrupt_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
