/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The I/O APIC turns pins into the right messages, each the right number of times. */
#include "chip.h"

#include "base/bits.h"
#include "chipset/i82093aa.h"

#define BASE 0xfec00000ull

static struct machine *m;
static struct i82093aa *ioapic;
static struct msi last;
static unsigned sent, routes;
static int taker;			/* what the receiver answers */

static int take_msi(void *opaque, const struct msi *msg)
{
	last = *msg;
	if (taker == 0)
		sent++;
	return taker;
}

static void on_route(void *opaque, unsigned pin, const struct msi *msg, bool masked)
{
	routes++;
}

static int setup(void **state)
{
	const struct i82093aa_config cfg = { .base = BASE, .id = 3, .route = on_route };

	m = machine_make();
	m->msi = take_msi;
	sent = 0;
	taker = 0;
	assert_int_equal(i82093aa_new(m, &cfg, &ioapic), 0);
	routes = 0;
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static uint32_t get(uint8_t reg)
{
	writel_(m, BASE, reg);
	return readl_(m, BASE + 0x10);
}

static void put(uint8_t reg, uint32_t v)
{
	writel_(m, BASE, reg);
	writel_(m, BASE + 0x10, v);
}

static void pin(int n, bool level)
{
	struct irq w = i82093aa_irq(ioapic, n);

	wire(&w, m, level);
}

static void eoi(uint8_t v)
{
	machine_lock(m);
	i82093aa_eoi(ioapic, v);
	machine_unlock(m);
}

static void test_registers(void **state)
{
	assert_int_equal(get(1), 0x00170020);
	put(1, 0xffffffff);
	assert_int_equal(get(1), 0x00170020);
	assert_int_equal(get(0), 3u << 24);
	put(0, 0xffffffff);
	assert_int_equal(get(0), 0x0f000000);
	assert_int_equal(get(2), 0x0f000000);
	put(2, 0);
	assert_int_equal(get(2), 0x0f000000);
	assert_int_equal(get(0x10), 0x10000);
	put(0x10, 0xffffffff);
	put(0x11, 0xffffffff);
	assert_int_equal(get(0x10), 0x1afff);	/* status bits are not written */
	assert_int_equal(get(0x11), 0xff000000);
	assert_int_equal(get(0x40), 0);
	put(0x40, 0xffffffff);
	put(0xff, 0xffffffff);
}

static void test_edge(void **state)
{
	put(0x10 + 2 * 4 + 1, 5u << 24);
	put(0x10 + 2 * 4, 0x000 | 0x31);
	pin(4, true);
	assert_int_equal(sent, 1);
	assert_int_equal(last.addr, 0xfee05000);
	assert_int_equal(last.data, 0x31);
	pin(4, true);
	assert_int_equal(sent, 1);
	pin(4, false);
	pin(4, true);
	assert_int_equal(sent, 2);
	assert_int_equal(get(0x18) & BIT(14), 0);
	put(0x18, 0x10031);		/* an edge at a masked pin is lost */
	pin(4, false);
	pin(4, true);
	put(0x18, 0x31);
	assert_int_equal(sent, 2);
}

static void test_logical_lowest(void **state)
{
	put(0x11, 0x0f000000);
	put(0x10, 0x900 | 0x55);
	pin(0, true);
	assert_int_equal(last.addr, 0xfee0f004);
	assert_int_equal(last.data & 0x7ff, 0x155);
}

static void test_level(void **state)
{
	put(0x10, 0x8000 | 0x61);
	pin(0, true);
	assert_int_equal(sent, 1);
	assert_int_equal(last.data & 0x8000, 0x8000);
	assert_true(get(0x10) & BIT(14));
	pin(0, false);
	pin(0, true);
	assert_int_equal(sent, 1);	/* Remote IRR holds it back */
	eoi(0x60);
	assert_int_equal(sent, 1);
	eoi(0x61);
	assert_int_equal(sent, 2);	/* still high: again */
	pin(0, false);
	eoi(0x61);
	assert_int_equal(sent, 2);
	assert_false(get(0x10) & BIT(14));
}

static void test_level_mask(void **state)
{
	put(0x10, 0x18000 | 0x61);
	pin(0, true);
	assert_int_equal(sent, 0);
	put(0x10, 0x8000 | 0x61);	/* a level is not lost */
	assert_int_equal(sent, 1);
	put(0x10, 0x18061);		/* Linux: mask, EOI by register, unmask */
	writel_(m, BASE + 0x40, 0x61);
	assert_int_equal(sent, 1);
	assert_false(get(0x10) & BIT(14));
	put(0x10, 0x8061);
	assert_int_equal(sent, 2);
	put(0x10, 0x10061);		/* to edge and back clears Remote IRR */
	assert_false(get(0x10) & BIT(14));
}

static void test_not_taken(void **state)
{
	taker = -ENXIO;
	put(0x10, 0x8061);
	pin(0, true);
	assert_false(get(0x10) & BIT(14));
	taker = 0;
	put(0x11, 0);			/* any change of the entry tries again */
	assert_int_equal(sent, 1);
	assert_true(get(0x10) & BIT(14));
}

static void test_other_modes_are_edge(void **state)
{
	put(0x10, 0x8400);		/* NMI, "level" */
	pin(0, true);
	assert_int_equal(sent, 1);
	assert_int_equal(last.data, 0x400);
	assert_false(get(0x10) & BIT(14));
}

static void test_routes_are_told(void **state)
{
	put(0x12, 0x31);
	assert_int_equal(routes, 1);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(routes, 1 + I82093AA_PINS);
}

static void test_save_with_remote_irr(void **state)
{
	put(0x11, 0x07000000);
	put(0x10, 0x8061);
	pin(0, true);
	pin(9, true);
	round_trip(m);
	assert_int_equal(sent, 1);
	assert_int_equal(get(0x11), 0x07000000);
	assert_true(get(0x10) & BIT(14));
	eoi(0x61);
	assert_int_equal(sent, 2);
	put(0x10 + 18, 0x33);
	pin(9, true);			/* was high already: no edge */
	assert_int_equal(sent, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_registers), T(test_edge), T(test_logical_lowest), T(test_level), T(test_level_mask),
		T(test_not_taken), T(test_other_modes_are_edge), T(test_routes_are_told),
		T(test_save_with_remote_irr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
