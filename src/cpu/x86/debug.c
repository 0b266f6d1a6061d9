// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A debugger's points on the software CPU, beside the guest's own in DR0 to DR7,
 * which they have nothing to do with.
 */
#include "cpu/x86/cpu.h"

static bool has_kind(const struct cpu_debug *d, bool exec)
{
	for (unsigned i = 0; d && i < d->n_points; i++)
		if ((d->point[i].kind == CPU_DEBUG_EXEC) == exec)
			return true;
	return false;
}

void x86_debug_set(struct x86_cpu *c, const struct cpu_debug *d, bool step)
{
	c->debug = d;
	c->debug_step = d && step;
	c->debug_done = c->debug_hit = false;
	c->debug_exec = has_kind(d, true);
	c->debug_data = has_kind(d, false);
	/* Pages with a point are not cached, the others are again. */
	x86_tlb_flush(c);
	x86_mode_update(c);
}

bool x86_debug_at(struct x86_cpu *c, uint64_t lin)
{
	if (!c->debug_exec || c->debug_step)
		return false;
	for (unsigned i = 0; i < c->debug->n_points; i++) {
		if (c->debug->point[i].kind != CPU_DEBUG_EXEC || c->debug->point[i].lin != lin)
			continue;
		c->debug_stop = (struct cpu_debug_stop){ .why = CPU_STOP_EXEC, .lin = lin };
		c->debug_hit = true;
		return true;
	}
	return false;
}

void x86_debug_int3(struct x86_cpu *c, uint64_t lin)
{
	if (!cpu_debug_has_int3(c->debug, lin))
		return;
	c->debug_stop = (struct cpu_debug_stop){ .why = CPU_STOP_INT3, .lin = lin };
	x86_leave_debug(c);
}

static bool counts(enum cpu_debug_kind kind, bool write)
{
	return kind == CPU_DEBUG_ACCESS || kind == (write ? CPU_DEBUG_WRITE : CPU_DEBUG_READ);
}

void x86_debug_data(struct x86_cpu *c, uint64_t lin, unsigned len, bool write)
{
	for (unsigned i = 0; c->debug_data && i < c->debug->n_points; i++) {
		const struct cpu_debug_point *p = &c->debug->point[i];

		/* Differences, so that an access at the end of the address space is one as well. */
		if (!counts(p->kind, write) || (lin - p->lin >= p->len && p->lin - lin >= len))
			continue;
		c->debug_stop = (struct cpu_debug_stop){ .why = CPU_STOP_DATA, .lin = p->lin, .kind = p->kind };
		c->debug_hit = true;
		c->leave_block = true;
		return;
	}
}

bool x86_debug_page(const struct x86_cpu *c, uint64_t lin)
{
	for (unsigned i = 0; c->debug_data && i < c->debug->n_points; i++)
		if (c->debug->point[i].kind != CPU_DEBUG_EXEC && (c->debug->point[i].lin ^ lin) < PAGE_4K)
			return true;
	return false;
}
