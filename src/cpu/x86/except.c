/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raising guest exceptions: record the event, leave for the run loop. */
#include "cpu/x86/cpu.h"

static _Noreturn void leave(struct x86_cpu *c, const struct x86_event *ev)
{
	c->pending = *ev;
	longjmp(*c->fault_jmp, 1);
}

_Noreturn void x86_leave_debug(struct x86_cpu *c)
{
	struct x86_event ev = { .kind = X86_EV_DEBUG };

	leave(c, &ev);
}

_Noreturn void x86_raise(struct x86_cpu *c, int vector)
{
	struct x86_event ev = { .vector = (uint8_t)vector, .kind = X86_EV_FAULT };

	leave(c, &ev);
}

_Noreturn void x86_raise_err(struct x86_cpu *c, int vector, uint32_t err)
{
	struct x86_event ev = { .vector = (uint8_t)vector, .kind = X86_EV_FAULT, .has_err = true, .err = err };

	leave(c, &ev);
}

_Noreturn void x86_raise_pf(struct x86_cpu *c, uint64_t lin, uint32_t err)
{
	struct x86_event ev = { .vector = X86_EX_PF, .kind = X86_EV_FAULT, .has_err = true, .err = err, .cr2 = lin };

	leave(c, &ev);
}
