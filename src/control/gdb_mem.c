// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory through the page tables of the vCPU that gdb looks at, and breakpoints in it.
 *
 * An INT3 is taken out where it was put in, by physical address: the page may have
 * another linear address by then, or none.
 */
#include <errno.h>
#include <string.h>

#include "control/gdb_int.h"
#include "cpu/x86/walk.h"

#define INT3 0xcc

/* The physical address of lin and how many bytes of its page are behind it. */
static size_t place(struct gdb *g, const struct x86_state *s, uint64_t lin, size_t len, uint64_t *gpa)
{
	return x86_walk(g->ctl->m->mem, s, lin, gpa) ? MIN(len, PAGE_4K - (lin & (PAGE_4K - 1))) : 0;
}

static void hide_breaks(const struct gdb *g, uint64_t gpa, uint8_t *buf, size_t len)
{
	for (unsigned i = 0; i < g->n_brk; i++)
		if (g->brk[i].gpa - gpa < len && buf[g->brk[i].gpa - gpa] == INT3)
			buf[g->brk[i].gpa - gpa] = g->brk[i].byte;
}

size_t gdb_read(struct gdb *g, uint64_t lin, uint8_t *buf, size_t len)
{
	struct x86_state s;
	size_t done = 0, n;
	uint64_t gpa;

	if (vm_vcpu_state(g->ctl->vm, g->thread, &s))
		return 0;
	for (; done < len; done += n) {
		n = place(g, &s, lin + done, len - done, &gpa);
		if (!n || mem_read(g->ctl->m->mem, gpa, buf + done, n))
			break;
		hide_breaks(g, gpa, buf + done, n);
	}
	return done;
}

/* RAM, and ROM: firmware is debugged as well. */
static bool store(struct gdb *g, uint64_t gpa, const void *buf, size_t len)
{
	struct mem *m = g->ctl->m->mem;

	if (!mem_write(m, gpa, buf, len))
		return true;
	if (mem_load(m, gpa, buf, len))
		return false;
	mem_written(m, gpa, len);
	return true;
}

bool gdb_write(struct gdb *g, uint64_t lin, const uint8_t *buf, size_t len)
{
	struct x86_state s;
	uint8_t int3 = INT3;
	uint64_t gpa;
	size_t n;

	if (vm_vcpu_state(g->ctl->vm, g->thread, &s))
		return false;
	for (; len; lin += n, buf += n, len -= n) {
		n = place(g, &s, lin, len, &gpa);
		if (!n || !store(g, gpa, buf, n))
			return false;
		for (unsigned i = 0; i < g->n_brk; i++) {
			struct gdb_break *b = &g->brk[i];

			if (b->gpa - gpa >= n)
				continue;
			b->byte = buf[b->gpa - gpa];
			store(g, b->gpa, &int3, 1);
		}
	}
	return true;
}

/* ---- breakpoints ---- */

static unsigned index_of(const struct gdb *g, uint64_t lin)
{
	unsigned i = 0;

	while (i < g->n_brk && g->brk[i].lin < lin)
		i++;
	return i;
}

static int tell_engine(struct gdb *g)
{
	for (unsigned i = 0; i < g->n_brk; i++)
		g->int3[i] = g->brk[i].lin;
	g->points.int3 = g->int3;
	g->points.n_int3 = g->n_brk;
	return vm_debug_points(g->ctl->vm, &g->points);
}

static int add_int3(struct gdb *g, uint64_t lin)
{
	unsigned i = index_of(g, lin);
	struct gdb_break b = { .lin = lin };
	uint8_t int3 = INT3;
	struct x86_state s;

	if (i < g->n_brk && g->brk[i].lin == lin)
		return 0;
	if (g->n_brk == GDB_BREAKPOINTS)
		return -ENOSPC;
	if (vm_vcpu_state(g->ctl->vm, g->thread, &s) || !place(g, &s, lin, 1, &b.gpa) || !gdb_read(g, lin, &b.byte, 1) ||
	    !store(g, b.gpa, &int3, 1))
		return -EFAULT;
	memmove(g->brk + i + 1, g->brk + i, (g->n_brk - i) * sizeof(b));
	g->brk[i] = b;
	g->n_brk++;
	return tell_engine(g);
}

static void take_out(struct gdb *g, const struct gdb_break *b)
{
	uint8_t now;

	/* Something else may be there by now. */
	if (!mem_read(g->ctl->m->mem, b->gpa, &now, 1) && now == INT3)
		store(g, b->gpa, &b->byte, 1);
}

static bool shared(const struct gdb *g, const struct gdb_break *b)
{
	for (unsigned i = 0; i < g->n_brk; i++)
		if (g->brk[i].gpa == b->gpa)
			return true;
	return false;
}

static int del_int3(struct gdb *g, uint64_t lin)
{
	unsigned i = index_of(g, lin);
	struct gdb_break b;

	if (i == g->n_brk || g->brk[i].lin != lin)
		return 0;
	b = g->brk[i];
	memmove(g->brk + i, g->brk + i + 1, (--g->n_brk - i) * sizeof(b));
	if (!shared(g, &b))
		take_out(g, &b);
	return tell_engine(g);
}

static bool same(const struct cpu_debug_point *a, const struct cpu_debug_point *b)
{
	return a->lin == b->lin && a->len == b->len && a->kind == b->kind;
}

static int change_point(struct gdb *g, bool add, const struct cpu_debug_point *p)
{
	struct cpu_debug *d = &g->points;
	unsigned i = 0;

	if (p->kind != CPU_DEBUG_EXEC && (!is_pow2(p->len) || p->len > 8 || (p->lin & (p->len - 1))))
		return -EINVAL;
	while (i < d->n_points && !same(&d->point[i], p))
		i++;
	if (add && i == CPU_DEBUG_POINTS)
		return -ENOSPC;
	if (add && i == d->n_points)
		d->point[d->n_points++] = *p;
	else if (!add && i < d->n_points)
		d->point[i] = d->point[--d->n_points];
	return tell_engine(g);
}

static int change(struct gdb *g, bool add, unsigned type, uint64_t lin, uint32_t len)
{
	static const enum cpu_debug_kind kind[] = { CPU_DEBUG_EXEC, CPU_DEBUG_EXEC, CPU_DEBUG_WRITE, CPU_DEBUG_READ, CPU_DEBUG_ACCESS };
	struct cpu_debug_point p = { .lin = lin, .len = type < 2 ? 1 : len };

	if (type == 0)
		return add ? add_int3(g, lin) : del_int3(g, lin);
	p.kind = kind[type];
	return change_point(g, add, &p);
}

int gdb_break_add(struct gdb *g, unsigned type, uint64_t lin, uint32_t len) { return change(g, true, type, lin, len); }
int gdb_break_del(struct gdb *g, unsigned type, uint64_t lin, uint32_t len) { return change(g, false, type, lin, len); }

void gdb_break_clear(struct gdb *g)
{
	for (unsigned i = 0; i < g->n_brk; i++)
		take_out(g, &g->brk[i]);
	g->n_brk = 0;
	g->points = (struct cpu_debug){ 0 };
	vm_debug_points(g->ctl->vm, NULL);
}
