/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Harness for device tests and fuzzing: a machine in this process, without a
 * CPU, whose guest is the test.
 *
 *	struct puppet *p = puppet_new(16 << 20);	// 16 MiB of RAM at 0
 *	struct i8254_config cfg = { .base = 0x40, .irq = puppet_wire(p, 0) };
 *	i8254_new(p->m, &cfg, &pit);			// devices: on p->m
 *	puppet_reset(p);				// power on
 *	puppet_outb(p, 0x43, 0x34);
 *	puppet_clock_step(p, 1000000);			// 1 ms; due timers run
 *	assert_int_equal(puppet_wire_rises(p, 0), 1);
 *	puppet_free(p);					// frees devices too
 *
 * Time moves only by puppet_clock_step.  Everything happens on the calling
 * thread: an access is followed by turns of the machine's loop, so that a
 * doorbell's work is done when it returns; work of a back end's threads is
 * waited for with puppet_wait.  Never hold the machine lock around these calls.
 * The functions fail the running cmocka test where the harness itself fails.
 *
 * Add a test: one line in device_tests of tests/device/meson.build.
 */
#ifndef LODGE_TESTS_PUPPET_CLIENT_H
#define LODGE_TESTS_PUPPET_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/puppet/puppet.h"
#include "machine/machine.h"

#define PUPPET_MAX_MSIS 256

struct puppet_wire {
	bool level;
	unsigned rises, falls;
};

struct puppet {
	struct machine *m;
	struct cpu_engine *e;		/* puppet engine; one vCPU, m->vcpus[0] */
	struct puppet_wire wires[PUPPET_WIRES];
	struct msi msis[PUPPET_MAX_MSIS];	/* messages, unless the test set m->msi itself */
	unsigned n_msis;
	enum machine_request request;	/* last request of a device (reset, power-off ...) */
	int request_code;
};

/* NULL: the host has no memory for it.  ram bytes of RAM at address 0
 * (0: none yet, platform_new brings its own). */
struct puppet *puppet_new(uint64_t ram);
void puppet_free(struct puppet *p);
void puppet_reset(struct puppet *p);
/* Saves all devices, resets them, loads them: what the guest sees must not
 * change.  Fails the test on an error. */
void puppet_save_load(struct puppet *p);

uint8_t puppet_inb(struct puppet *p, uint16_t port);
uint16_t puppet_inw(struct puppet *p, uint16_t port);
uint32_t puppet_inl(struct puppet *p, uint16_t port);
void puppet_outb(struct puppet *p, uint16_t port, uint8_t v);
void puppet_outw(struct puppet *p, uint16_t port, uint16_t v);
void puppet_outl(struct puppet *p, uint16_t port, uint32_t v);

uint8_t puppet_mmio_read8(struct puppet *p, uint64_t gpa);
uint16_t puppet_mmio_read16(struct puppet *p, uint64_t gpa);
uint32_t puppet_mmio_read32(struct puppet *p, uint64_t gpa);
uint64_t puppet_mmio_read64(struct puppet *p, uint64_t gpa);
void puppet_mmio_write8(struct puppet *p, uint64_t gpa, uint8_t v);
void puppet_mmio_write16(struct puppet *p, uint64_t gpa, uint16_t v);
void puppet_mmio_write32(struct puppet *p, uint64_t gpa, uint32_t v);
void puppet_mmio_write64(struct puppet *p, uint64_t gpa, uint64_t v);

/* Guest RAM; outside it the test fails. */
void puppet_mem_read(struct puppet *p, uint64_t gpa, void *buf, size_t len);
void puppet_mem_write(struct puppet *p, uint64_t gpa, const void *buf, size_t len);

/* PCI configuration space through ports 0xcf8 and 0xcfc; len 1, 2 or 4. */
uint32_t puppet_pci_read(struct puppet *p, unsigned bus, unsigned devfn, unsigned off, unsigned len);
void puppet_pci_write(struct puppet *p, unsigned bus, unsigned devfn, unsigned off, unsigned len,
		      uint32_t v);

void puppet_clock_step(struct puppet *p, int64_t ns);
/* Runs the loop until nothing more is due. */
void puppet_settle(struct puppet *p);
/* Runs the loop until done(opaque) or `ms` of real time passed; returns done(opaque). */
bool puppet_wait(struct puppet *p, bool (*done)(void *opaque), void *opaque, int ms);

/* A wire whose level and edges are recorded, n < PUPPET_WIRES. */
struct irq puppet_wire(struct puppet *p, int n);
bool puppet_wire_is_high(struct puppet *p, int n);
unsigned puppet_wire_rises(struct puppet *p, int n);	/* since the last call */

/* The vector vCPU 0 takes from its local APIC (attach one with lapics_attach), or -1. */
int puppet_irq_taken(struct puppet *p);
/* The oldest message interrupt that arrived; false: none. */
bool puppet_msi_taken(struct puppet *p, struct msi *out);
/* The last request of a device since the last call, MACHINE_REQ_NONE if none. */
enum machine_request puppet_request(struct puppet *p, int *code);

#endif
