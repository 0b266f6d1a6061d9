/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine without a CPU: what a guest would do is told from outside, one
 * access at a time, so that a test or a fuzzer can be the guest.
 *
 * Two ways to drive it: the functions below, from the test's own thread; or
 * text lines over a socket (docs/puppet.md) served by puppet_serve, which is
 * what vCPU 0's thread does when a socket was given with puppet_listen_fd.
 * Accesses take the same way as those of a real engine: memory map, local APIC
 * page, then the buses.
 */
#ifndef LODGE_CPU_PUPPET_H
#define LODGE_CPU_PUPPET_H

#include "cpu/engine.h"

#define PUPPET_WIRES 64

/* Port access of 1, 2 or 4 bytes as vCPU 0; machine lock not held.  Returns 0,
 * or -ENXIO when nobody answered (a read gives ones then). */
int puppet_pio(struct cpu_engine *e, uint16_t port, void *buf, unsigned len, bool write);
/* Access to guest-physical memory, whatever is there; 1..64 bytes. */
int puppet_access(struct cpu_engine *e, uint64_t gpa, void *buf, unsigned len, bool write);
/* The vector vCPU 0 would take now (acknowledged), or -1. */
int puppet_irq(struct cpu_engine *e);
/* Pretends to have interrupt chips (before the platform is built): wires and
 * messages end in the engine and are recorded. */
void puppet_set_irqchip(struct cpu_engine *e, bool on);
bool puppet_wire_level(struct cpu_engine *e, unsigned gsi);
/* The oldest recorded message; false: none.  The newest 256 are kept. */
bool puppet_msi_pop(struct cpu_engine *e, struct msi *out);

/* Executes one protocol line (without its newline); reply has room for len
 * bytes, is terminated, has no newline.  Returns 0, or -ESHUTDOWN after `quit`. */
int puppet_command(struct cpu_engine *e, const char *line, char *reply, size_t len);
/* Serves one connection until its end, `quit` (-ESHUTDOWN) or VCPU_EV_STOP. */
int puppet_serve(struct cpu_engine *e, int fd);
/* vCPU 0's thread serves this connected socket; the engine closes it. */
void puppet_listen_fd(struct cpu_engine *e, int fd);

#endif
