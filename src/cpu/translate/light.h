/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What light calls (light.c says what they may do) have in common. */
#ifndef LODGE_CPU_TRANSLATE_LIGHT_H
#define LODGE_CPU_TRANSLATE_LIGHT_H

#include "cpu/translate/translate.h"

#ifndef XL_TSAN
#define LIGHT_AS(linkage, name) linkage uintptr_t name(struct xl_cpu *x, const struct uop *u, uint64_t arg)
#else
#define LIGHT_AS(linkage, name)                                                                      \
	static uintptr_t name##_ordered(struct xl_cpu *x, const struct uop *u, uint64_t arg);        \
	linkage uintptr_t name(struct xl_cpu *x, const struct uop *u, uint64_t arg)                  \
	{                                                                                            \
		xl_order_seen(x->xe);                                                                \
		return name##_ordered(x, u, arg);                                                    \
	}                                                                                            \
	static uintptr_t name##_ordered(struct xl_cpu *x, const struct uop *u, uint64_t arg)
#endif
#define LIGHT(name) LIGHT_AS(static, name)
#define LIGHT_SHARED(name) LIGHT_AS(, name)

/* The instruction's uop does it all. */
static inline uintptr_t heavy(const struct xl_cpu *x) { return x->xe->t.callout_again; }

/* Out to the run loop, which looks at everything. */
static inline uintptr_t leave(struct xl_cpu *x)
{
	x->ic.c.leave_block = true;
	return x->xe->t.fault_m;
}

/* Host address of [lin, lin+len), within a page; NULL: the full path. */
static inline void *host(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, const struct x86_tlb_entry **e)
{
	uint32_t err;

	if ((lin & 0xfff) > PAGE_4K - len || x86_tlb_look(c, lin, how, (enum x86_acc)c->acc, e, &err) != X86_LOOK_OK)
		return NULL;
	return (void *)(lin + (*e)->addend);
}

static inline void stored(struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, unsigned len)
{
	__asm__ volatile("" ::: "memory");
	if (unlikely(atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE))
		x86_code_stored(c, e, lin & 0xfff, len);
}

/* Done: the next instruction follows, unless the store hit code. */
static inline uintptr_t next(struct xl_cpu *x, const struct uop *u)
{
	struct x86_cpu *c = &x->ic.c;

	if (likely(!c->leave_block))
		return 0;
	c->s.rip = uop_next(c, u);
	x->exit = NULL;
	return leave(x);
}

/* light_string.c */
uintptr_t xl_lt_movs(struct xl_cpu *x, const struct uop *u, uint64_t arg);
uintptr_t xl_lt_stos(struct xl_cpu *x, const struct uop *u, uint64_t arg);
uintptr_t xl_lt_lods(struct xl_cpu *x, const struct uop *u, uint64_t arg);
uintptr_t xl_lt_scas(struct xl_cpu *x, const struct uop *u, uint64_t arg);
uintptr_t xl_lt_cmps(struct xl_cpu *x, const struct uop *u, uint64_t arg);

#endif
