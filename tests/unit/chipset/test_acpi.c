/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ACPI hardware: what the OS enables is reported by SCI, sleep and reset are asked for. */
#include "chip.h"

#include "chipset/acpi_ged.h"
#include "chipset/acpi_pm.h"

#define EVT 0x600
#define CNT 0x604
#define TMR 0x608
#define GPE 0x620
#define GED 0xfec10000ull

static struct machine *m;
static struct acpi_pm *pm;
static struct acpi_ged *ged;
static struct probe irq[2];
static struct asked asked;

static int setup(void **state)
{
	const struct acpi_pm_config cfg = { .pm1a_evt = EVT, .pm1a_cnt = CNT, .pm_tmr = TMR, .gpe0 = GPE,
					    .smi_cmd = 0xb2, .reset = 0xcf9, .sci = probe_irq(irq, 0) };
	const struct acpi_ged_config gcfg = { .base = GED, .irq = probe_irq(irq, 1) };

	m = machine_make();
	memset(irq, 0, sizeof(irq));
	asked = (struct asked){ 0 };
	m->request = asked_cb;
	m->request_opaque = &asked;
	assert_int_equal(acpi_pm_new(m, &cfg, &pm), 0);
	assert_int_equal(acpi_ged_new(m, &gcfg, &ged), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void enable(void)
{
	outb_(m, 0xb2, ACPI_PM_ENABLE);
}

static bool button(void)
{
	bool heard;

	machine_lock(m);
	heard = acpi_pm_power_button(pm);
	machine_unlock(m);
	return heard;
}

static void test_mode(void **state)
{
	assert_int_equal(inw_(m, CNT) & 1, 0);
	enable();
	assert_int_equal(inw_(m, CNT) & 1, 1);
	outb_(m, 0xb2, ACPI_PM_DISABLE);
	assert_int_equal(inw_(m, CNT) & 1, 0);
	outw_(m, CNT, 1);			/* not by this register */
	assert_int_equal(inw_(m, CNT) & 1, 0);
}

static void test_power_button(void **state)
{
	enable();
	assert_false(button());
	assert_false(irq[0].level);
	assert_int_equal(inw_(m, EVT), 0x100);
	outw_(m, EVT, 0x100);
	outw_(m, EVT + 2, 0x100);
	assert_true(button());
	assert_true(irq[0].level);
	outb_(m, EVT + 1, 0x01);		/* write 1 to clear, by bytes too */
	assert_false(irq[0].level);
	assert_int_equal(inl_(m, EVT), 0x01000000);
}

static void test_timer(void **state)
{
	uint32_t a = inl_(m, TMR);

	step(m, SEC);
	assert_int_equal(inl_(m, TMR) - a, 3579545);
	enable();
	outw_(m, EVT + 2, 1);
	step(m, 598 * SEC);
	assert_false(irq[0].level);
	step(m, 2 * SEC);			/* bit 31 changes after 599.9 s */
	assert_true(irq[0].level);
	assert_int_equal(inw_(m, EVT), 1);
	outw_(m, EVT, 1);
	assert_false(irq[0].level);
	step(m, 600 * SEC);
	assert_true(irq[0].level);
}

static void test_gpe(void **state)
{
	struct irq w = acpi_pm_gpe(pm, 11);

	enable();
	outb_(m, GPE + 9, 0x08);
	wire(&w, m, true);
	assert_true(irq[0].level);
	assert_int_equal(inb_(m, GPE + 1), 0x08);
	outb_(m, GPE + 1, 0x08);
	assert_false(irq[0].level);
	wire(&w, m, false);
	wire(&w, m, true);
	assert_true(irq[0].level);
}

static void test_sleep_and_reset(void **state)
{
	outw_(m, CNT, ACPI_PM_SLP_S3 << 10 | 0x2000);
	assert_int_equal(asked.req, MACHINE_REQ_SUSPEND);
	assert_int_equal(inw_(m, CNT) & 0x2000, 0);
	outw_(m, CNT, 7 << 10 | 0x2000);	/* no such state */
	assert_int_equal(asked.count, 1);
	outb_(m, CNT + 1, ACPI_PM_SLP_S5 << 2 | 0x20);
	assert_int_equal(asked.req, MACHINE_REQ_POWEROFF);
	assert_int_equal(asked.count, 2);
	outb_(m, 0xcf9, 0x02);
	assert_int_equal(asked.count, 2);
	outb_(m, 0xcf9, 0x06);
	assert_int_equal(asked.req, MACHINE_REQ_RESET);
	machine_lock(m);
	acpi_pm_wake(pm);
	machine_unlock(m);
	assert_int_equal(inw_(m, EVT), 0x8000);
}

static void test_ged(void **state)
{
	machine_lock(m);
	assert_false(acpi_ged_power_button(ged));
	machine_unlock(m);
	assert_true(irq[1].level);
	assert_int_equal(readl_(m, GED), ACPI_GED_EV_POWER);
	assert_false(irq[1].level);
	assert_int_equal(readl_(m, GED), 0);
	machine_lock(m);
	assert_true(acpi_ged_power_button(ged));
	machine_unlock(m);
	round_trip(m);
	assert_true(irq[1].level);
	assert_int_equal(readl_(m, GED), ACPI_GED_EV_POWER);
	writel_(m, GED + 4, 0);
	assert_int_equal(asked.count, 0);
	bus_access(m->mmio, GED + 6, &(uint8_t){ 0x41 }, 1, true);
	assert_int_equal(asked.count, 0);
	bus_access(m->mmio, GED + 6, &(uint8_t){ ACPI_GED_RESET_VALUE }, 1, true);
	assert_int_equal(asked.req, MACHINE_REQ_RESET);
	bus_access(m->mmio, GED + 4, &(uint8_t){ ACPI_GED_SLP_S5 << 2 | 0x20 }, 1, true);
	assert_int_equal(asked.req, MACHINE_REQ_POWEROFF);
}

static void test_save_midway(void **state)
{
	enable();
	outw_(m, EVT + 2, 0x101);
	step(m, 100 * SEC);
	button();
	round_trip(m);
	assert_true(irq[0].level);
	assert_int_equal(inl_(m, EVT), 0x01010100);
	assert_int_equal(inl_(m, TMR), 357954500);
	outw_(m, EVT, 0x100);
	step(m, 501 * SEC);
	assert_true(irq[0].level);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mode), T(test_power_button), T(test_timer), T(test_gpe), T(test_sleep_and_reset),
		T(test_ged), T(test_save_midway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
