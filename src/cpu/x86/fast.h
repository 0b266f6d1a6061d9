/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The common cases of changing privilege level in IA-32e mode, between a 64-bit
 * kernel and 64-bit or 32-bit (compatibility mode) programs: SYSCALL, SYSRET, IRET
 * and delivery through a 64-bit gate.
 *
 * Each function does all that its full counterpart (syscall.c, iret.c, deliver.c)
 * would do, but for c->leave_block, or nothing at all (false): then the full one
 * does it.  None raises anything.  They want c->s.rflags complete and no single
 * step, breakpoint, shadow or pending #DB (x86_fast_ok).
 *
 * Compiled for general registers only, with all they call.
 */
#ifndef LODGE_CPU_X86_FAST_H
#define LODGE_CPU_X86_FAST_H

#include "cpu/x86/cpu.h"

static inline bool x86_fast_ok(const struct x86_cpu *c)
{
	return (c->mode == X86_MODE_LONG64 || (c->mode == X86_MODE_PM32 && c->long_mode && c->cpl == 3)) && !c->step_mode && !c->watch && !c->s.shadow && !c->db_trap.dr6;
}

bool x86_fast_syscall(struct x86_cpu *c, uint64_t next_rip);
/* osz: 8 or 4. */
bool x86_fast_sysret(struct x86_cpu *c, unsigned osz);
/* 64-bit operand size, at CPL 0.  EFLAGS.RF in the frame is not set: without
 * breakpoints it does nothing. */
bool x86_fast_iret(struct x86_cpu *c);
/* s.rip as x86_deliver wants it.  Not for INT n and the like. */
bool x86_fast_deliver(struct x86_cpu *c, const struct x86_event *ev);

#endif
