/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test device kvm-unit-tests expect ("pc-testdev"): scratch ports at 0xe0
 * and 0xe8, page flush at 0xe4, interrupt lines at 0x2000, 64 KiB of scratch
 * MMIO at 0xff000000.  Only built on request.
 */
#ifndef LODGE_CHIPSET_TEST_DEV_H
#define LODGE_CHIPSET_TEST_DEV_H

#include <stdint.h>

#include "machine/irq.h"

struct machine;

#define TEST_DEV_IRQS 24

struct test_dev_config {
	uint16_t ports;			/* 0xe0 */
	uint16_t irq_ports;		/* 0x2000 */
	uint64_t mmio;			/* 0xff000000 */
	struct irq irq[TEST_DEV_IRQS];	/* GSIs */
};

int test_dev_new(struct machine *m, const struct test_dev_config *cfg);

#endif
