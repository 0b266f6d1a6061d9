/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A root port as a driver of hot-plug (pciehp) and a careless guest use it: cards
 * that come, are asked for and go, interrupts, what reset and saved state leave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "pci/root_port.h"

#define ECAM 0xe0000000ull

enum { ABP = 1, PDC = 8, CC = 16, PDS = 64, DLLSC = 256 };
enum { ABPE = 1, PDCE = 8, CCIE = 16, HPIE = 32, PIC_ON = 0x100, PIC_BLINK = 0x200, PIC_OFF = 0x300, PCC_OFF = 0x400, DLLSCE = 0x1000 };

struct card {
	struct pci_dev pci;
	unsigned resets;
};

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct pci_root_port *port;
	struct card *card;
	unsigned ejected, n_msi, cap, msi;
	bool wire[4];
};

static struct card *of(struct dev *d) { return container_of(d, struct card, pci.dev); }
static void card_reset(struct dev *d)
{
	of(d)->resets++;
	pci_dev_reset(&of(d)->pci);
}
static int card_save(struct dev *d, struct snap_out *o) { return pci_dev_save(&of(d)->pci, o); }
static int card_load(struct dev *d, struct snap_in *in, struct err *e) { return pci_dev_load(&of(d)->pci, in, e); }
static void card_free(struct dev *d)
{
	pci_dev_fini(&of(d)->pci);
	free(of(d));
}
static const struct pci_dev_ops card_ops = {
	.dev = { .name = "card", .reset = card_reset, .save = card_save, .load = card_load, .free = card_free },
};
static const struct pci_ids card_ids = { .vendor = 0x1234, .device = 0x5678, .class24 = 0x020000 };

static int try_card(struct fix *x, int devfn, struct card **out, struct err *e)
{
	struct card *c = calloc(1, sizeof(*c));
	int ret = pci_dev_init(&c->pci, x->m, pci_root_port_bus(x->port), devfn, &card_ops, &card_ids, e);

	if (ret) {
		free(c);
		return ret;
	}
	pci_dev_add_pcie(&c->pci, 9);
	pci_dev_ready(&c->pci);
	*out = c;
	return 0;
}

static void put_in(struct fix *x) { assert_int_equal(try_card(x, PCI_ANY_DEVFN, &x->card, NULL), 0); }

static void take_out(struct fix *x)
{
	x->card->pci.dev.ops->free(&x->card->pci.dev);
	x->card = NULL;
	pci_root_port_emptied(x->port);
}

static void ejected(void *opaque, struct pci_root_port *p)
{
	struct fix *x = opaque;

	assert_ptr_equal(p, x->port);
	x->ejected++;
}

static int msi(void *opaque, const struct msi *msg)
{
	((struct fix *)opaque)->n_msi++;
	return 0;
}

static void wire_set(void *opaque, int n, bool level) { ((struct fix *)opaque)->wire[n] = level; }

/* ---- the guest ---- */

static uint32_t mem(struct fix *x, uint64_t addr, unsigned len, bool write, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access_locked(x->m->mmio, addr, b, len, write);
	return ld_le(b, len);
}
#define PORT_AT (ECAM + (0x18ull << 15))
#define rd(off, n) mem(x, PORT_AT + (off), n, false, 0)
#define wr(off, n, v) mem(x, PORT_AT + (off), n, true, v)
#define ctl() rd(x->cap + 0x18, 2)
#define sta() rd(x->cap + 0x1a, 2)
#define set_ctl(v) wr(x->cap + 0x18, 2, v)
#define clear(v) wr(x->cap + 0x1a, 2, v)
#define card_id() mem(x, ECAM + (1ull << 20), 4, false, 0)

static unsigned find_cap(struct fix *x, uint8_t id)
{
	unsigned at = rd(0x34, 1);

	while (at && rd(at, 1) != id)
		at = rd(at + 1, 1);
	return at;
}

/* What a driver does when it finds the port. */
static void drive(struct fix *x)
{
	wr(4, 2, 7);
	wr(0x18, 4, 0x010100);
	wr(x->msi + 4, 4, 0xfee00000);
	wr(x->msi + 12, 2, 0x41);
	wr(x->msi + 2, 2, 1);
	clear(0x11f);
	set_ctl((ctl() & 0x700) | ABPE | CCIE | HPIE | DLLSCE);
	clear(CC);
	x->n_msi = 0;
}

static void up(struct fix *x)
{
	const struct pci_root_port_opts o = { .slot = 77, .ejected = ejected, .opaque = x };
	struct pci_root_config cfg = { .ecam_base = ECAM, .ecam_buses = 256, .mmio32_base = 0xc0000000, .mmio32_size = 0x10000000,
				       .mmio64_base = 0x4000000000, .mmio64_size = 0x4000000000, .io_base = 0xc000, .io_size = 0x4000 };

	assert_int_equal(machine_new(&x->m, true), 0);
	x->m->msi = msi;
	x->m->msi_opaque = x;
	for (int i = 0; i < 4; i++)
		cfg.intx[i] = (struct irq){ wire_set, x, i };
	machine_lock(x->m);
	assert_int_equal(pci_root_new(x->m, &cfg, &x->root, NULL), 0);
	assert_int_equal(pci_root_port_new(x->m, x->root, PCI_DEVFN(0x18, 0), &o, &x->port, NULL), 0);
	x->cap = find_cap(x, PCI_CAP_ID_PCIE);
	x->msi = find_cap(x, PCI_CAP_ID_MSI);
}

static int setup(void **state)
{
	struct fix *x = calloc(1, sizeof(*x));

	up(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fix *x = *state;

	machine_unlock(x->m);
	machine_free(x->m);
	free(x);
	return 0;
}

/* ---- tests ---- */

static void capabilities_tell_of_the_slot(void **state)
{
	struct fix *x = *state;
	uint32_t slot = rd(x->cap + 0x14, 4);

	assert_int_equal(rd(0, 4), 0x000c1b36);
	assert_int_equal(rd(0xa, 2), 0x0604);
	assert_int_equal(rd(x->cap + 2, 2), 0x0142);	/* root port, slot implemented, version 2 */
	assert_int_equal(slot >> 19, 77);
	assert_int_equal(slot & 0x7f, 0x53);		/* button, power controller, power indicator, hot-plug */
	assert_true(rd(x->cap + 0xc, 4) & BIT(20));	/* the link's state is told */
	assert_int_equal(ctl(), PIC_OFF | PCC_OFF);
	assert_int_equal(sta(), 0);
	set_ctl(0xffff);
	assert_int_equal(ctl(), 0x173f);
	assert_ptr_equal(pci_root_port_of(pci_root_port_bus(x->port)), x->port);
	assert_null(pci_root_port_of(x->root));
}

static void slot_number_is_checked(void **state)
{
	struct fix *x = *state;
	const struct pci_root_port_opts o = { .slot = PCI_ROOT_PORT_SLOTS };
	struct pci_root_port *p;
	struct err e;

	assert_int_equal(pci_root_port_new(x->m, x->root, PCI_ANY_DEVFN, &o, &p, &e), -EINVAL);
}

static void slot_takes_one_card(void **state)
{
	struct fix *x = *state;
	struct card *other;
	struct err e;

	put_in(x);
	assert_int_equal(try_card(x, PCI_ANY_DEVFN, &other, &e), -EBUSY);
	assert_int_equal(try_card(x, PCI_DEVFN(1, 0), &other, &e), -EINVAL);
	assert_int_equal(ld_le16(x->card->pci.config + x->card->pci.config[0x34] + 2) >> 4 & 15, 0);	/* an endpoint */
}

static void card_comes(void **state)
{
	struct fix *x = *state;

	drive(x);
	put_in(x);
	/* Not before it is announced, and not without power. */
	assert_int_equal(card_id(), 0xffffffff);
	pci_root_port_plugged(x->port);
	assert_int_equal(sta(), ABP | PDC | PDS);
	assert_int_equal(x->n_msi, 1);
	assert_int_equal(card_id(), 0xffffffff);
	clear(ABP | PDC);
	assert_int_equal(sta(), PDS);
	set_ctl(ABPE | CCIE | HPIE | DLLSCE | PIC_BLINK);
	assert_int_equal(sta(), PDS | CC | DLLSC);
	assert_int_equal(x->n_msi, 2);
	assert_true(rd(x->cap + 0x12, 2) & BIT(13));
	assert_int_equal(card_id(), 0x56781234);
}

/* As from the start. */
static void cold(struct fix *x)
{
	put_in(x);
	machine_reset_devs(x->m);
	drive(x);
	assert_int_equal(card_id(), 0x56781234);
	assert_int_equal(sta(), PDS);
	assert_int_equal(ctl() & 0x700, PIC_ON);
}

static void card_goes(void **state)
{
	struct fix *x = *state;
	unsigned resets;

	cold(x);
	resets = x->card->resets;
	assert_int_equal(pci_root_port_ask(x->port), 0);
	assert_int_equal(sta(), PDS | ABP);
	assert_int_equal(x->n_msi, 1);
	clear(ABP);
	set_ctl(ABPE | CCIE | HPIE | DLLSCE | PIC_BLINK);
	assert_int_equal(pci_root_port_ask(x->port), -EBUSY);
	/* Power first, then the indicator. */
	set_ctl(ABPE | CCIE | HPIE | DLLSCE | PIC_BLINK | PCC_OFF);
	assert_int_equal(x->ejected, 0);
	assert_int_equal(x->card->resets, resets + 1);
	assert_int_equal(card_id(), 0xffffffff);
	set_ctl(ABPE | CCIE | HPIE | DLLSCE | PIC_OFF | PCC_OFF);
	assert_int_equal(x->ejected, 1);
	assert_true(pci_root_port_occupied(x->port));
	assert_int_equal(sta() & PDS, 0);
	/* Nothing brings it back before it is freed. */
	set_ctl(ABPE | HPIE | PIC_ON);
	assert_int_equal(card_id(), 0xffffffff);
	machine_reset_devs(x->m);
	drive(x);
	assert_int_equal(sta() & PDS, 0);
	assert_int_equal(card_id(), 0xffffffff);
	assert_int_equal(x->ejected, 1);
	take_out(x);
	put_in(x);
	pci_root_port_plugged(x->port);
	set_ctl(PIC_ON);
	assert_int_equal(card_id(), 0x56781234);
}

static void power_alone_is_not_the_end(void **state)
{
	struct fix *x = *state;

	cold(x);
	set_ctl(PIC_ON | PCC_OFF);
	assert_int_equal(card_id(), 0xffffffff);
	set_ctl(PIC_ON);
	assert_int_equal(card_id(), 0x56781234);
	assert_int_equal(x->ejected, 0);
}

static void slot_without_power_needs_nobody(void **state)
{
	struct fix *x = *state;

	put_in(x);
	pci_root_port_plugged(x->port);
	assert_int_equal(pci_root_port_ask(x->port), 1);
	pci_root_port_withdraw(x->port);
	assert_int_equal(x->ejected, 0);
	assert_int_equal(sta() & PDS, 0);
	take_out(x);
	assert_int_equal(sta() & PDS, 0);
}

static void withdrawn_card_is_gone(void **state)
{
	struct fix *x = *state;

	cold(x);
	pci_root_port_withdraw(x->port);
	pci_root_port_withdraw(x->port);
	assert_int_equal(card_id(), 0xffffffff);
	assert_int_equal(sta(), PDC | DLLSC);
	assert_int_equal(x->n_msi, 1);
	take_out(x);
}

static void secondary_reset_resets_the_card(void **state)
{
	struct fix *x = *state;
	unsigned resets;

	cold(x);
	resets = x->card->resets;
	wr(0x3e, 2, 0x40);
	wr(0x3e, 2, 0x40);
	assert_int_equal(x->card->resets, resets + 1);
	assert_int_equal(card_id(), 0xffffffff);
	wr(0x3e, 2, 0);
	assert_int_equal(card_id(), 0x56781234);
}

static void wire_stays_while_there_is_a_reason(void **state)
{
	struct fix *x = *state;

	set_ctl(ABPE | HPIE | PIC_OFF | PCC_OFF);
	clear(CC);
	put_in(x);
	assert_false(x->wire[0]);
	pci_root_port_plugged(x->port);
	assert_true(x->wire[0]);		/* pin A of a function of slot 24 */
	clear(ABP);
	assert_false(x->wire[0]);
	assert_int_equal(x->n_msi, 0);
}

static void windows_are_set_aside(void **state)
{
	static const uint8_t lines[4] = { 10, 11, 10, 11 };
	struct fix *x = *state;

	pci_root_assign(x->root, lines);
	assert_int_equal(rd(0x18, 4), 0x010100);
	assert_int_equal(rd(0x20, 4), 0xc010c000);			/* 2 MiB */
	assert_int_equal(rd(0x24, 4), 0x03f10001);			/* 64 MiB */
	assert_int_equal(rd(0x28, 4), 0x40);
	assert_int_equal(rd(0x2c, 4), 0x40);
	assert_true(rd(0x1c, 1) > rd(0x1d, 1));				/* no ports */
}

static void saved_state_comes_back(void **state)
{
	struct fix *x = *state;
	struct snap_out *o;
	struct snap_in *in;
	const void *p;
	struct err e;
	size_t len;
	uint32_t before;

	cold(x);
	assert_int_equal(pci_root_port_ask(x->port), 0);
	set_ctl(ABPE | HPIE | PIC_BLINK);
	before = sta();
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(x->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_reset_devs(x->m);
	assert_int_equal(machine_load_devs(x->m, in, &e), 0);
	assert_int_equal(sta(), before);
	assert_int_equal(ctl(), ABPE | HPIE | PIC_BLINK);
	assert_int_equal(card_id(), 0x56781234);
	/* It goes on from there. */
	set_ctl(PIC_OFF | PCC_OFF);
	assert_int_equal(x->ejected, 1);
	snap_in_free(in);
	snap_out_free(o);
}

static void random_writes_are_survived(void **state)
{
	struct fix *x = *state;

	srand(1);
	put_in(x);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned n = 1u << (rand() % 3), off = rand() % 8 ? x->cap + (unsigned)rand() % 0x20 : (unsigned)rand() % 0x100;

		wr(off & ~(n - 1), n, (uint32_t)rand() * 2);
		if (rand() % 64 == 0)
			pci_root_port_ask(x->port);
		if (rand() % 64 == 0 && !pci_root_port_occupied(x->port)) {
			put_in(x);
			pci_root_port_plugged(x->port);
		} else if (x->ejected && pci_root_port_occupied(x->port)) {
			take_out(x);
			x->ejected = 0;
		}
		if (rand() % 1000 == 0)
			machine_reset_devs(x->m);
		card_id();
	}
	assert_int_equal(rd(0, 4), 0x000c1b36);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(capabilities_tell_of_the_slot),
		T(slot_number_is_checked),
		T(slot_takes_one_card),
		T(card_comes),
		T(card_goes),
		T(power_alone_is_not_the_end),
		T(slot_without_power_needs_nobody),
		T(withdrawn_card_is_gone),
		T(secondary_reset_resets_the_card),
		T(wire_stays_while_there_is_a_reason),
		T(windows_are_set_aside),
		T(saved_state_comes_back),
		T(random_writes_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
