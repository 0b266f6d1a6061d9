/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ICH9's SMBus controller, on whose bus nobody is: what its driver reads and writes, and the interrupt. */
#include "../chipset/chip.h"

#include "device/ich9_smbus.h"

#define DEVFN PCI_DEVFN(31, 3)
#define IO 0xc100

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct pci_dev *pci;
	struct probe wire[4];
};

static int setup(void **state)
{
	struct pci_root_config c = { .cf8 = true, .chipset_slot = 25 };
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	f->m = machine_make();
	for (int i = 0; i < 4; i++)
		c.intx[i] = probe_irq(f->wire, i);
	assert_int_equal(pci_root_new(f->m, &c, &f->root, &e), 0);
	assert_int_equal(ich9_smbus_new(f->m, f->root, DEVFN, &e), 0);
	f->pci = pci_find(f->root, 0, DEVFN);
	machine_reset_devs(f->m);
	pci_config_write(f->pci, PCI_BAR(4), 4, IO);
	pci_config_write(f->pci, PCI_COMMAND, 2, PCI_COMMAND_IO);
	pci_config_write(f->pci, 0x40, 1, 1);
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

static void identity(void **state)
{
	struct fix *f = *state;

	assert_int_equal(pci_config_read(f->pci, 0, 4), 0x29308086);
	assert_int_equal(pci_config_read(f->pci, 8, 4) >> 8, 0x0c0500);
	pci_config_write(f->pci, PCI_BAR(4), 4, 0xffffffff);
	assert_int_equal(pci_config_read(f->pci, PCI_BAR(4), 4), 0xffffffe1);
	pci_config_write(f->pci, PCI_BAR(4), 4, IO);
	pci_config_write(f->pci, 0x40, 1, 0);		/* off */
	assert_int_equal(inb_(f->m, IO + 4), 0xff);
	outb_(f->m, IO + 4, 0x12);
	pci_config_write(f->pci, 0x40, 1, 1);
	assert_int_equal(inb_(f->m, IO + 4), 0);
}

static void nobody_answers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(inb_(f->m, IO), 0);
	assert_int_equal(inb_(f->m, IO), 0x40);		/* somebody uses it now */
	outb_(f->m, IO, 0xfe);
	outb_(f->m, IO + 4, 0xa1);
	outb_(f->m, IO + 3, 0);
	outb_(f->m, IO + 2, 0x48);			/* read a byte, polled */
	assert_int_equal(inb_(f->m, IO) & 0x3f, 4);
	assert_int_equal(inb_(f->m, IO + 2), 0x08);	/* START reads as 0 */
	assert_false(f->wire[0].level);
	outb_(f->m, IO, 4);
	assert_int_equal(inb_(f->m, IO) & 0x3f, 0);
	outb_(f->m, IO + 2, 0x49);			/* with the interrupt */
	assert_true(f->wire[0].level);
	round_trip(f->m);
	assert_true(f->wire[0].level);
	outb_(f->m, IO, 4);
	assert_false(f->wire[0].level);
	outb_(f->m, IO + 2, 0x42);			/* killed, not started */
	assert_int_equal(inb_(f->m, IO) & 0x3f, 0x10);
}

static void block_buffer(void **state)
{
	struct fix *f = *state;

	outb_(f->m, IO + 0xd, 2);
	inb_(f->m, IO + 2);				/* the index goes to 0 */
	for (unsigned i = 0; i < 40; i++)
		outb_(f->m, IO + 7, (uint8_t)i);
	inb_(f->m, IO + 2);
	for (unsigned i = 0; i < 32; i++) {
		if (i == 5)
			round_trip(f->m);
		assert_int_equal(inb_(f->m, IO + 7), i < 8 ? 32 + i : i);
	}
	pci_config_write(f->pci, 0x40, 1, 9);		/* reset of the controller */
	assert_int_equal(pci_config_read(f->pci, 0x40, 1), 1);
	assert_int_equal(inb_(f->m, IO + 0xd), 0);
	assert_int_equal(inb_(f->m, IO + 0xf) & 7, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(identity, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(block_buffer, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
