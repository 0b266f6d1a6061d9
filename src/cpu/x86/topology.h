/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets of dies of cores of threads, as CPUID tells of them (Intel SDM 3A, 9.9; AMD APM 2, 16.12): a
 * CPU's APIC ID is its number, and has thread, core, die and socket in it, from the lowest bit.
 */
#ifndef LODGE_CPU_X86_TOPOLOGY_H
#define LODGE_CPU_X86_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

/* In each of what is above it; 1 or more. */
struct x86_topology {
	unsigned sockets, dies, cores, threads;
};

/* Where a CPU is, each counted from 0 in what is above it. */
struct x86_place {
	unsigned socket, die, core, thread;
};

/* Can CPUs be numbered in turn and have their places in the bits of their numbers? */
bool x86_topology_fits(const struct x86_topology *t);
struct x86_place x86_place_of(const struct x86_topology *t, unsigned id);
/* Its inverse. Each part is below its count. */
unsigned x86_place_id(const struct x86_topology *t, const struct x86_place *p);

/* How many low bits of an APIC ID tell threads of a core, cores of a die, CPUs of a socket apart. */
unsigned x86_core_shift(const struct x86_topology *t);
unsigned x86_die_shift(const struct x86_topology *t);
unsigned x86_socket_shift(const struct x86_topology *t);
unsigned x86_per_socket(const struct x86_topology *t);

/* Leaf 0xB; with `dies` 0x1F, which knows them. EAX to EDX. */
void x86_topology_leaf(const struct x86_topology *t, bool dies, unsigned id, uint32_t sub, uint32_t r[4]);
/* Bits 25:14 and, for leaf 4, 31:26 of the EAX of a cache of this level: who shares it, and the cores of a socket. */
uint32_t x86_topology_cache(const struct x86_topology *t, unsigned level, bool leaf4);
/* AMD's 0x80000008 ECX, and the leaf 0x8000001E. */
uint32_t x86_topology_amd_size(const struct x86_topology *t);
void x86_topology_amd(const struct x86_topology *t, unsigned id, uint32_t r[4]);

#endif
