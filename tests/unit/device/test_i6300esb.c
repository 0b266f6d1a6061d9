/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 6300ESB watchdog as its driver uses it: identity, the unlock sequence, both
 * stages and prescalers, lock, free run, reload, what is kept over a reset, and
 * saved state between the stages.
 */
#include "../chipset/chip.h"

#include "base/bits.h"
#include "device/i6300esb.h"

#define BAR 0xc0000000ull

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct i6300esb *w;
	struct pci_dev *pci;
	struct asked asked;
};

static int setup(void **state)
{
	struct pci_root_config c = { .cf8 = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	f->m = machine_make();
	f->m->request = asked_cb;
	f->m->request_opaque = &f->asked;
	assert_int_equal(pci_root_new(f->m, &c, &f->root, &e), 0);
	assert_int_equal(i6300esb_new(f->m, f->root, PCI_DEVFN(4, 0), &f->w, &e), 0);
	f->pci = pci_find(f->root, 0, PCI_DEVFN(4, 0));
	machine_reset_devs(f->m);
	pci_config_write(f->pci, PCI_BAR(0), 4, BAR);
	pci_config_write(f->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_free(f->m);
	free(f);
	return 0;
}

static void wr(struct fix *f, unsigned off, unsigned len, uint32_t v)
{
	bus_access(f->m->mmio, BAR + off, &v, len, true);
}

static uint32_t rd(struct fix *f, unsigned off, unsigned len)
{
	uint32_t v = 0;

	bus_access(f->m->mmio, BAR + off, &v, len, false);
	return v;
}

static void unlocked(struct fix *f, unsigned off, unsigned len, uint32_t v)
{
	wr(f, 0xc, 2, 0x80);
	wr(f, 0xc, 2, 0x86);
	wr(f, off, len, v);
}

static void lock(struct fix *f, uint8_t v) { pci_config_write(f->pci, 0x68, 1, v); }

static void identity(void **state)
{
	struct fix *f = *state;

	assert_int_equal(pci_config_read(f->pci, 0, 4), 0x25ab8086);
	assert_int_equal(pci_config_read(f->pci, 8, 4) >> 8, 0x088000);
	assert_int_equal(pci_config_read(f->pci, 0x60, 2), 0);
	assert_int_equal(pci_config_read(f->pci, 0x68, 1), 0);
	assert_int_equal(rd(f, 0, 4), 0xfffff);
	assert_int_equal(rd(f, 4, 4), 0xfffff);
	assert_int_equal(rd(f, 0xc, 2), 0);
	pci_config_write(f->pci, PCI_BAR(0), 4, 0xffffffff);
	assert_int_equal(pci_config_read(f->pci, PCI_BAR(0), 4), 0xfffffff0);
}

static void writes_need_the_sequence(void **state)
{
	struct fix *f = *state;

	wr(f, 0, 4, 5);
	assert_int_equal(rd(f, 0, 4), 0xfffff);
	wr(f, 0xc, 2, 0x86);			/* the second step alone */
	wr(f, 0, 4, 5);
	assert_int_equal(rd(f, 0, 4), 0xfffff);
	wr(f, 0xc, 2, 0x80);
	wr(f, 0xc, 2, 0x100);			/* between the steps */
	wr(f, 0xc, 2, 0x86);
	wr(f, 0, 4, 5);
	assert_int_equal(rd(f, 0, 4), 0xfffff);
	unlocked(f, 0, 4, 0xabc12345);
	assert_int_equal(rd(f, 0, 4), 0x12345);	/* 20 bits */
	wr(f, 0, 4, 7);				/* the sequence lets one write through */
	assert_int_equal(rd(f, 0, 4), 0x12345);
	unlocked(f, 4, 4, 0x54321);
	assert_int_equal(rd(f, 4, 4), 0x54321);
	unlocked(f, 4, 2, 1);			/* not in halves */
	assert_int_equal(rd(f, 4, 4), 0x54321);
}

/* Linux: seconds << 9 into both stages; interrupt off, prescaler 1 kHz. */
static void two_stages(void **state)
{
	struct fix *f = *state;

	pci_config_write(f->pci, 0x60, 2, 3);
	unlocked(f, 0, 4, 2 << 9);
	unlocked(f, 4, 4, 2 << 9);
	step(f->m, 100 * SEC);
	assert_int_equal(f->asked.count, 0);	/* not started */
	lock(f, 2);
	unlocked(f, 0xc, 2, 0x100);
	step(f->m, 1900 * MS);
	assert_int_equal(f->asked.count, 0);
	unlocked(f, 0xc, 2, 0x100);		/* fed: from the first stage on */
	step(f->m, 2000 * MS);
	assert_int_equal(f->asked.count, 0);
	assert_int_equal(rd(f, 8, 1), 0);	/* no interrupt wanted */
	step(f->m, 20 * MS);
	assert_int_equal(f->asked.count, 1);
	assert_int_equal(f->asked.req, MACHINE_REQ_WATCHDOG);
	step(f->m, 100 * SEC);
	assert_int_equal(f->asked.count, 1);	/* once */
	assert_int_equal(rd(f, 0xc, 2), 0x200);
	machine_lock(f->m);
	machine_reset_devs(f->m);
	machine_unlock(f->m);
	pci_config_write(f->pci, PCI_BAR(0), 4, BAR);
	pci_config_write(f->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(rd(f, 0xc, 2), 0x200);	/* it tells why the machine was reset */
	assert_int_equal(rd(f, 0, 4), 0xfffff);
	unlocked(f, 0xc, 2, 0x300);
	assert_int_equal(rd(f, 0xc, 2), 0);
	step(f->m, 2000 * SEC);
	assert_int_equal(f->asked.count, 1);	/* off after a reset, and a reload does not start it */
}

static void first_stage_interrupts(void **state)
{
	struct fix *f = *state;

	unlocked(f, 0, 4, 1 << 9);
	lock(f, 2);
	step(f->m, 600 * MS);
	assert_int_equal(rd(f, 8, 1), 1);
	wr(f, 8, 1, 1);
	assert_int_equal(rd(f, 8, 1), 0);
	lock(f, 0);				/* stopped */
	step(f->m, 2000 * SEC);
	assert_int_equal(f->asked.count, 0);
}

static void fast_prescaler(void **state)
{
	struct fix *f = *state;

	pci_config_write(f->pci, 0x60, 2, 4);
	unlocked(f, 0, 4, 10000);		/* 9.6 ms each */
	unlocked(f, 4, 4, 10000);
	lock(f, 2);
	step(f->m, 19 * MS);
	assert_int_equal(f->asked.count, 0);
	step(f->m, 1 * MS);
	assert_int_equal(f->asked.count, 1);
}

static void free_run_and_no_output(void **state)
{
	struct fix *f = *state;

	unlocked(f, 0, 4, 512);
	unlocked(f, 4, 4, 512);
	lock(f, 6);
	step(f->m, 1020 * MS);
	assert_int_equal(f->asked.count, 1);
	step(f->m, 1020 * MS);
	assert_int_equal(f->asked.count, 2);
	pci_config_write(f->pci, 0x60, 2, 0x20);	/* output off */
	step(f->m, 10 * SEC);
	assert_int_equal(f->asked.count, 2);
	assert_int_equal(pci_config_read(f->pci, 0x60, 2), 0x20);
	/* The shortest there is does not turn for ever. */
	unlocked(f, 0, 4, 0);
	unlocked(f, 4, 4, 0);
	unlocked(f, 0xc, 2, 0x100);
	pci_config_write(f->pci, 0x60, 2, 0);
	step(f->m, 10 * MS);
	assert_in_range(f->asked.count, 3, 12);
}

static void lock_bit(void **state)
{
	struct fix *f = *state;

	lock(f, 3);
	lock(f, 0);
	assert_int_equal(pci_config_read(f->pci, 0x68, 1), 3);
	lock(f, 6);
	assert_int_equal(pci_config_read(f->pci, 0x68, 1), 3);
	round_trip(f->m);
	lock(f, 0);
	assert_int_equal(pci_config_read(f->pci, 0x68, 1), 3);
	machine_lock(f->m);
	machine_reset_devs(f->m);
	machine_unlock(f->m);
	lock(f, 2);
	assert_int_equal(pci_config_read(f->pci, 0x68, 1), 2);
}

static void saved_between_the_stages(void **state)
{
	struct fix *f = *state;

	unlocked(f, 0, 4, 512);
	unlocked(f, 4, 4, 1024);
	lock(f, 2);
	step(f->m, 700 * MS);			/* 503 ms, then 197 of 1006 */
	wr(f, 0xc, 2, 0x80);			/* and the sequence half done */
	round_trip(f->m);
	assert_int_equal(rd(f, 8, 1), 1);
	wr(f, 0xc, 2, 0x86);
	wr(f, 0, 4, 77);
	assert_int_equal(rd(f, 0, 4), 77);
	step(f->m, 800 * MS);
	assert_int_equal(f->asked.count, 0);
	step(f->m, 20 * MS);
	assert_int_equal(f->asked.count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(identity, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_need_the_sequence, setup, teardown),
		cmocka_unit_test_setup_teardown(two_stages, setup, teardown),
		cmocka_unit_test_setup_teardown(first_stage_interrupts, setup, teardown),
		cmocka_unit_test_setup_teardown(fast_prescaler, setup, teardown),
		cmocka_unit_test_setup_teardown(free_run_and_no_output, setup, teardown),
		cmocka_unit_test_setup_teardown(lock_bit, setup, teardown),
		cmocka_unit_test_setup_teardown(saved_between_the_stages, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
