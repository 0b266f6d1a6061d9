/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registers by which a guest hears of cards that come and go: as ACPI's methods use
 * them, what a hostile guest and a damaged snapshot cannot do.
 */
#include "chip.h"

#include "chipset/acpi_pcihp.h"

#define PORT 0xcc0
#define SLOTS 0x00fffffeu

static struct machine *m;
static struct acpi_pcihp *h;
static struct probe event;
static uint32_t slots, ejected;
static unsigned ejects;

static uint32_t the_slots(void *opaque) { return slots; }

static void on_ejected(void *opaque, unsigned slot)
{
	ejects++;
	ejected |= 1u << slot;
}

static int setup(void **state)
{
	const struct acpi_pcihp_config c = { .port = PORT, .event = probe_irq(&event, 0), .slots = the_slots, .ejected = on_ejected };

	event = (struct probe){ 0 };
	slots = SLOTS;
	ejected = ejects = 0;
	m = machine_make();
	assert_int_equal(acpi_pcihp_new(m, &c, &h), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static uint32_t reg(unsigned off) { return inl_(m, (uint16_t)(PORT + off)); }
static void set(unsigned off, uint32_t v) { outl_(m, (uint16_t)(PORT + off), v); }

/* A card comes and goes, as the event's method and _EJ0 do it. */
static void test_come_and_go(void **state)
{
	assert_int_equal(reg(ACPI_PCIHP_UP) | reg(ACPI_PCIHP_DOWN) | reg(ACPI_PCIHP_EJECT), 0);
	assert_int_equal(reg(ACPI_PCIHP_REMOVABLE), SLOTS);
	acpi_pcihp_plugged(h, 3);
	acpi_pcihp_plugged(h, 7);
	assert_int_equal(event.rises, 2);
	assert_int_equal(reg(ACPI_PCIHP_UP), 0x88);
	assert_int_equal(reg(ACPI_PCIHP_UP), 0);		/* told once */
	acpi_pcihp_ask(h, 7);
	assert_int_equal(event.rises, 3);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0x80);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0x80);		/* told until it has gone */
	acpi_pcihp_ask(h, 7);
	assert_int_equal(event.rises, 4);
	set(ACPI_PCIHP_EJECT, 0x80);
	assert_int_equal(ejected, 0x80);
	assert_int_equal(ejects, 1);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0);
	/* Put in again before it was asked for in vain. */
	acpi_pcihp_ask(h, 3);
	acpi_pcihp_plugged(h, 3);
	assert_int_equal(reg(ACPI_PCIHP_UP), 0x8);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0);
	acpi_pcihp_plugged(h, 4);
	acpi_pcihp_ask(h, 4);
	acpi_pcihp_emptied(h, 4);
	assert_int_equal(reg(ACPI_PCIHP_UP) | reg(ACPI_PCIHP_DOWN), 0);
}

/* Ejecting unasked, several at once, and what does not come and go. */
static void test_eject(void **state)
{
	set(ACPI_PCIHP_EJECT, 0x30);
	assert_int_equal(ejected, 0x30);
	assert_int_equal(ejects, 2);
	set(ACPI_PCIHP_EJECT, ~SLOTS);
	assert_int_equal(ejects, 2);
	slots = 0x10;
	set(ACPI_PCIHP_EJECT, UINT32_MAX);
	assert_int_equal(ejects, 3);
	set(ACPI_PCIHP_EJECT, 0);
	assert_int_equal(ejects, 3);
	assert_int_equal(event.rises, 0);
}

/* Buses that are none, registers that are none, accesses of other widths. */
static void test_nonsense(void **state)
{
	const uint32_t bad[] = { 1, 255, 0x80000000, UINT32_MAX };

	acpi_pcihp_plugged(h, 3);
	acpi_pcihp_ask(h, 4);
	for (unsigned i = 0; i < 4; i++) {
		set(ACPI_PCIHP_BUS, bad[i]);
		assert_int_equal(reg(ACPI_PCIHP_BUS), bad[i]);
		set(ACPI_PCIHP_EJECT, UINT32_MAX);
		for (unsigned off = 0; off < ACPI_PCIHP_BUS; off += 4)
			assert_int_equal(reg(off), 0);
	}
	set(ACPI_PCIHP_BUS, 0);
	outb_(m, PORT + ACPI_PCIHP_EJECT, 0xff);
	outw_(m, PORT + ACPI_PCIHP_EJECT, 0xffff);
	outw_(m, PORT + ACPI_PCIHP_BUS, 1);
	set(ACPI_PCIHP_UP, UINT32_MAX);
	set(ACPI_PCIHP_DOWN, UINT32_MAX);
	set(0x14, UINT32_MAX);
	assert_int_equal(reg(0x14), 0);
	assert_int_equal(ejects, 0);
	assert_int_equal(inb_(m, PORT), 0);
	assert_int_equal(inw_(m, PORT), 0);			/* takes no news off */
	assert_int_equal(reg(ACPI_PCIHP_UP), 0x8);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0x10);
}

static void test_reset(void **state)
{
	acpi_pcihp_plugged(h, 3);
	acpi_pcihp_ask(h, 4);
	set(ACPI_PCIHP_BUS, 9);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(reg(ACPI_PCIHP_BUS), 0);
	assert_int_equal(reg(ACPI_PCIHP_UP) | reg(ACPI_PCIHP_DOWN), 0);
	assert_int_equal(ejects, 0);
}

/* News and requests are saved; of slots that are none here nothing comes back. */
static void test_saved(void **state)
{
	acpi_pcihp_plugged(h, 3);
	acpi_pcihp_ask(h, 4);
	round_trip(m);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0x10);
	assert_int_equal(reg(ACPI_PCIHP_UP), 0x8);
	acpi_pcihp_plugged(h, 3);
	acpi_pcihp_plugged(h, 5);
	slots = 0x20;
	round_trip(m);
	assert_int_equal(reg(ACPI_PCIHP_UP), 0x20);
	assert_int_equal(reg(ACPI_PCIHP_DOWN), 0);
	assert_int_equal(ejects, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eject, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
