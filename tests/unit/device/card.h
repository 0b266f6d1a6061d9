/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of cards begin with: a machine without CPU, RAM at address 0, and who gets the cards' messages. */
#ifndef LODGE_TESTS_DEVICE_CARD_H
#define LODGE_TESTS_DEVICE_CARD_H

#include "../unit.h"

#include "base/bits.h"
#include "machine/machine.h"

static inline struct machine *card_machine(uint64_t ram, int (*msi)(void *opaque, const struct msi *msg), void *opaque)
{
	struct err e = { 0 };
	struct machine *m;

	assert_int_equal(machine_new(&m, true), 0);
	assert_int_equal(mem_create_ram(m->mem, ram, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(m->mem, "ram", 0, 0, ram, &e), 0);
	m->msi = msi;
	m->msi_opaque = opaque;
	return m;
}

#endif
