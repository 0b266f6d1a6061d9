/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chips of the real `pc` machine together, driven through the puppet the way
 * a kernel does: every interrupt source arrives by the 8259 and by the I/O APIC
 * with the vector programmed, and the whole can be saved in mid-flight.
 */
#include "../unit/unit.h"

#include "cpu/puppet/puppet.h"
#include "platform/x86/platform.h"

#define MS 1000000ll
#define IOAPIC 0xfec00000ull
#define HPET 0xfed00000ull
#define LAPIC 0xfee00000ull

static struct machine *m;
static struct cpu_engine *e;
static struct platform *plat;
static struct chardev *com1;
static uint8_t typed_out[64];
static size_t n_typed_out;
static enum machine_request asked;

static void sink(void *opaque, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len && n_typed_out < sizeof(typed_out); i++)
		typed_out[n_typed_out++] = buf[i];
}

static void on_request(void *opaque, enum machine_request req, int code)
{
	asked = req;
}

static int setup(void **state)
{
	const struct cpu_engine_config ecfg = { .n_vcpus = 1 };
	struct platform_config cfg = { .kind = PLATFORM_PC, .mem_size = 16 << 20, .n_vcpus = 1 };
	struct err err = { "" };

	n_typed_out = 0;
	asked = MACHINE_REQ_NONE;
	assert_int_equal(machine_new(&m, true), 0);
	m->n_vcpus = 1;
	m->request = on_request;
	assert_int_equal(cpu_engine_puppet.init(m, &ecfg, &e, &err), 0);
	assert_int_equal(cpu_engine_puppet.vcpu_create(e, 0, &err), 0);
	assert_int_equal(chardev_pipe_new(m->loop, sink, NULL, &com1), 0);
	cfg.serial[0] = com1;
	machine_lock(m);
	if (platform_new(m, e, &cfg, &plat, &err) || platform_boot(plat, &err))
		fail_msg("%s", err.msg);
	machine_unlock(m);
	return 0;
}

static int teardown(void **state)
{
	machine_lock(m);
	machine_free_devs(m);
	machine_unlock(m);
	chardev_free(com1);
	cpu_engine_puppet.free(e);
	machine_free(m);
	platform_free(plat);
	return 0;
}

static void outb(uint16_t port, uint8_t v)
{
	puppet_pio(e, port, &v, 1, true);
}
static uint8_t inb(uint16_t port)
{
	uint8_t v = 0;

	puppet_pio(e, port, &v, 1, false);
	return v;
}
static void outw(uint16_t port, uint16_t v)
{
	puppet_pio(e, port, &v, 2, true);
}
static void outl(uint16_t port, uint32_t v)
{
	puppet_pio(e, port, &v, 4, true);
}
static uint32_t inl(uint16_t port)
{
	uint32_t v = 0;

	puppet_pio(e, port, &v, 4, false);
	return v;
}
static void writel(uint64_t a, uint32_t v)
{
	puppet_access(e, a, &v, 4, true);
}
static uint32_t readl(uint64_t a)
{
	uint32_t v = 0;

	puppet_access(e, a, &v, 4, false);
	return v;
}

static void step(int64_t ns)
{
	machine_lock(m);
	clock_step(m->clock, ns);
	machine_unlock(m);
	loop_turn(m->loop, 0);
}

static void route(unsigned pin, uint32_t low)
{
	writel(IOAPIC, 0x11 + 2 * pin);
	writel(IOAPIC + 0x10, 0);
	writel(IOAPIC, 0x10 + 2 * pin);
	writel(IOAPIC + 0x10, low);
}

/* 8259 pair at 0x20, all open; or all masked and the I/O APIC in charge. */
static void use_pic(void)
{
	static const uint8_t m_icw[] = { 0x20, 4, 1 }, s_icw[] = { 0x28, 2, 1 };

	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	for (int i = 0; i < 3; i++) {
		outb(0x21, m_icw[i]);
		outb(0xa1, s_icw[i]);
	}
	outb(0x21, 0);
	outb(0xa1, 0);
}

static void use_ioapic(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	writel(LAPIC + 0xf0, 0x1ff);
	writel(LAPIC + 0x350, 0x10700);
}

static void pic_eoi(void)
{
	outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static void apic_eoi(void)
{
	writel(LAPIC + 0xb0, 0);
}

static void pit_rate(uint16_t n)
{
	outb(0x43, 0x34);
	outb(0x40, (uint8_t)n);
	outb(0x40, (uint8_t)(n >> 8));
}

static void test_tick_by_8259(void **state)
{
	int n = 0;

	use_pic();
	pit_rate(11932);
	for (int i = 0; i < 100; i++) {
		step(MS);
		if (puppet_irq(e) == 0x20) {
			n++;
			pic_eoi();
		}
	}
	assert_in_range(n, 9, 11);
}

static void test_tick_by_ioapic(void **state)
{
	int n = 0;

	use_ioapic();
	route(2, 0x30);			/* where the MADT's override says */
	pit_rate(11932);
	for (int i = 0; i < 100; i++) {
		step(MS);
		if (puppet_irq(e) == 0x30) {
			n++;
			apic_eoi();
		}
	}
	assert_in_range(n, 9, 11);
}

/* HPET legacy replacement takes over pin 2, and gives it back. */
static void test_hpet_replaces_pit(void **state)
{
	int n = 0;

	use_ioapic();
	route(2, 0x30);
	pit_rate(1193);
	writel(HPET + 0x10, 3);
	writel(HPET + 0x100, 0x14c);
	writel(HPET + 0x108, readl(HPET + 0xf0) + 1000000);
	writel(HPET + 0x108, 1000000);		/* 10 ms */
	while (puppet_irq(e) >= 0)
		apic_eoi();
	for (int i = 0; i < 100; i++) {
		step(MS);
		if (puppet_irq(e) == 0x30) {
			n++;
			apic_eoi();
		}
	}
	assert_int_equal(n, 10);
	writel(HPET + 0x10, 0);
	for (int i = 0; i < 10; i++) {
		step(MS);
		if (puppet_irq(e) == 0x30) {
			n++;
			apic_eoi();
		}
	}
	assert_in_range(n, 18, 21);
}

static void test_serial_both_ways(void **state)
{
	use_ioapic();
	route(4, 0x34);
	outb(0x3fc, 8);
	outb(0x3f9, 1);
	outb(0x3f8, 'o');
	outb(0x3f8, 'k');
	loop_turn(m->loop, 0);
	assert_int_equal(n_typed_out, 2);
	assert_memory_equal(typed_out, "ok", 2);
	machine_lock(m);
	chardev_feed(com1, (const uint8_t *)"x", 1);
	machine_unlock(m);
	loop_turn(m->loop, 0);
	assert_int_equal(puppet_irq(e), 0x34);
	assert_int_equal(inb(0x3f8), 'x');
	apic_eoi();
}

static void test_rtc_and_keyboard(void **state)
{
	use_pic();
	outb(0x70, 0x0b);
	outb(0x71, 0x12);		/* update interrupt */
	step(1000 * MS);
	assert_int_equal(puppet_irq(e), 0x28);
	outb(0x70, 0x0c);
	assert_int_equal(inb(0x71) & 0x90, 0x90);
	pic_eoi();
	outb(0x60, 0xf4);
	assert_int_equal(puppet_irq(e), 0x21);
	assert_int_equal(inb(0x60), 0xfa);
	pic_eoi();
	outb(0x70, 0x17);		/* extended memory: 15 MiB */
	assert_int_equal(inb(0x71), 0x00);
	outb(0x70, 0x18);
	assert_int_equal(inb(0x71), 0x3c);
}

static void test_power_button_is_sci(void **state)
{
	use_ioapic();
	route(9, 0x8039);		/* level */
	outb(0xb2, 0xf1);
	outw(0x602, 0x100);
	machine_lock(m);
	platform_power_button(plat);
	machine_unlock(m);
	assert_int_equal(puppet_irq(e), 0x39);
	apic_eoi();			/* still pending: comes again */
	assert_int_equal(puppet_irq(e), 0x39);
	outw(0x600, 0x100);
	apic_eoi();
	assert_int_equal(puppet_irq(e), -1);
	outw(0x604, 0x2000);
	assert_int_equal(asked, MACHINE_REQ_POWEROFF);
}

/* The reset register lies inside the PCI address register. */
static void test_reset_register_inside_cf8(void **state)
{
	outl(0xcf8, 0x80000000);
	assert_int_equal(inl(0xcf8), 0x80000000);
	assert_int_not_equal(inl(0xcfc), 0xffffffff);
	assert_int_equal(asked, MACHINE_REQ_NONE);
	outl(0xcf8, 0x80000600);	/* would be a reset if taken by bytes */
	assert_int_equal(asked, MACHINE_REQ_NONE);
	assert_int_equal(inl(0xcf8), 0x80000600);
	outb(0xcf9, 0x0e);
	assert_int_equal(asked, MACHINE_REQ_RESET);
}

static void test_lapic_timer(void **state)
{
	use_ioapic();
	writel(LAPIC + 0x3e0, 0xb);
	writel(LAPIC + 0x320, 0x200ec);
	writel(LAPIC + 0x380, 4000000);
	step(9 * MS);
	assert_int_equal(puppet_irq(e), 0xec);
	apic_eoi();
	assert_int_equal(puppet_irq(e), -1);	/* two expiries are one request */
	assert_int_equal(readl(LAPIC + 0x390), 3000000);
}

static void test_save_the_machine(void **state)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err err = { "" };
	const void *data;
	size_t len;

	use_ioapic();
	route(2, 0x30);
	route(9, 0x8039);
	pit_rate(11932);
	outb(0xb2, 0xf1);
	outw(0x602, 0x100);
	step(5 * MS);
	machine_lock(m);
	platform_power_button(plat);
	machine_unlock(m);
	assert_int_equal(puppet_irq(e), 0x39);	/* in service, remote IRR set */
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(m);
	machine_pause_devs(m);
	clock_pause(m->clock);
	assert_int_equal(machine_save_devs(m, o, NULL), 0);
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	machine_reset_devs(m);
	if (machine_load_devs(m, in, &err))
		fail_msg("%s", err.msg);
	clock_resume(m->clock);
	machine_resume_devs(m);
	machine_unlock(m);
	snap_in_free(in);
	snap_out_free(o);
	assert_int_equal(puppet_irq(e), -1);
	outw(0x600, 0x100);
	apic_eoi();
	assert_int_equal(puppet_irq(e), -1);
	step(6 * MS);
	assert_int_equal(puppet_irq(e), 0x30);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tick_by_8259), T(test_tick_by_ioapic), T(test_hpet_replaces_pit),
		T(test_serial_both_ways), T(test_rtc_and_keyboard), T(test_power_button_is_sci),
		T(test_reset_register_inside_cf8), T(test_lapic_timer), T(test_save_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
