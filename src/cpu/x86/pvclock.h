/* SPDX-License-Identifier: GPL-2.0-or-later */
/* KVM's paravirtual clock as the software engines offer it: see pvclock.c. */
#ifndef LODGE_CPU_X86_PVCLOCK_H
#define LODGE_CPU_X86_PVCLOCK_H

#include "cpu/x86/cpu.h"

/* Writes of MSR_KVM_SYSTEM_TIME(_NEW) and MSR_KVM_WALL_CLOCK(_NEW).  False: #GP. */
bool x86_pvclock_set_time(struct x86_cpu *c, uint64_t v);
bool x86_pvclock_set_wall(struct x86_cpu *c, uint64_t v);
/* Fills the page again, if the guest registered one: the TSC's offset changed. */
void x86_pvclock_update(struct x86_cpu *c);
/* Multiplier and shift that turn TSC ticks into nanoseconds:
 * ns = ((ticks << shift) * mul) >> 32, shift may be negative. */
void x86_pvclock_scale(uint32_t tsc_khz, uint32_t *mul, int8_t *shift);

#endif
