/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Light calls: what emitted code calls with the guest's vector registers in the
 * host's, and some general ones (RBX, RBP, R12 to R15) not in c->s.gpr.
 *
 * A function here returns 0 to go on behind the call, or the address of code to
 * go on at: a block's, or a thunk's, with c->s.rip set.  It raises nothing, waits
 * for nothing, and neither it nor what it calls may use vector registers; the
 * files that hold all this are compiled for that, and tools/light checks it in the
 * program.  What is not simple goes to the full path (heavy).
 */
#include "cpu/x86/fast.h"
#include "cpu/translate/translate.h"

#define LIGHT(name) static uintptr_t name(struct xl_cpu *x, const struct uop *u, uint64_t arg)

/* The instruction's uop does it all. */
static uintptr_t heavy(const struct xl_cpu *x) { return x->xe->t.callout_again; }

/* Out to the run loop, which looks at everything. */
static uintptr_t leave(struct xl_cpu *x)
{
	x->ic.c.leave_block = true;
	return x->xe->t.fault_m;
}

static uintptr_t find(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	const struct xl_block *b;
	uint32_t key = x->jc_key[c->acc], err;

	if (x86_tlb_look(c, c->s.rip, X86_EXEC, (enum x86_acc)c->acc, &e, &err) != X86_LOOK_OK)
		return x->xe->t.fault_m;
	b = xl_lookup(x->xe, e->gpa | (c->s.rip & 0xfff), key, e->version);
	if (!b)
		return x->xe->t.fault_m;
	xl_jc_put(x, c->s.rip, b, e->global);
	return (uintptr_t)b->ientry;
}

/* On at s.rip in the mode that is now. */
static uintptr_t go(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct xl_jc *j;
	unsigned i = c->s.rip & (XL_JC_SIZE - 1);

	x->exit = NULL;
	x->n_light++;
	if (unlikely(x->check != NULL))	/* looks at every block */
		return x->xe->t.fault_m;
	/* If the jump cache is for another mode, the run loop makes it for this one. */
	if (unlikely(c->leave_block || c->acc >= XL_N_ACC || x->jc_key[c->acc] != xl_key(c) || (c->intr_maybe && (c->s.rflags & X86_FL_IF))))
		return leave(x);
	j = &x->jc[c->acc];
	return likely(j->rip[i] == c->s.rip) ? (uintptr_t)j->code[i] : find(x);
}

LIGHT(xl_lt_syscall)
{
	struct x86_cpu *c = &x->ic.c;

	flags_out(c);
	if (!x86_fast_syscall(c, uop_next(c, u)))
		return heavy(x);
	flags_in(c);
	return go(x);
}

LIGHT(xl_lt_sysret)
{
	struct x86_cpu *c = &x->ic.c;

	if (!x86_fast_sysret(c))
		return heavy(x);
	flags_in(c);
	return go(x);
}

LIGHT(xl_lt_iret)
{
	struct x86_cpu *c = &x->ic.c;

	flags_out(c);
	if (!x86_fast_iret(c))
		return heavy(x);
	flags_in(c);
	return go(x);
}

/* An access that the emitted probe did not find; arguments as xl_do_miss. */
uintptr_t xl_lt_miss(struct xl_cpu *x, uint64_t lin)
{
	unsigned off = x->desc & 0x1fff, how = x->desc >> 13 & 3, len = x->desc >> 16;
	struct x86_event ev = { .vector = X86_EX_PF, .kind = X86_EV_FAULT, .has_err = true };
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;

	if ((lin & 0xfff) + len > PAGE_4K)
		return x->xe->t.miss_again;
	if (x->desc2) {
		lin += x->desc2 & 0xffff;	/* if it faults, it does so there */
		len = x->desc2 >> 16 & 0xff;
	}
	if (((x->desc & XL_DESC_ALIGNED) && (lin & (len - 1))) || (c->mode != X86_MODE_LONG64 && lin + len > 1ull << 32))
		return x->xe->t.miss_again;
	switch (x86_tlb_look(c, lin, (enum x86_how)how, (enum x86_acc)c->acc, &e, &ev.err)) {
	case X86_LOOK_OK:
		x->n_miss[c->acc][how]++;
		x->bounced = false;
		x->desc2 = 0;
		xl_tlb_put(x, e, lin, how);
		return 0;
	case X86_LOOK_FAULT:
		if (c->x87_away)	/* a pending #MF may come first */
			return x->xe->t.miss_again;
		flags_out(c);
		c->s.rip = c->blk_rip + off;
		ev.cr2 = lin;
		if (!x86_fast_deliver(c, &ev))
			return x->xe->t.miss_again;
		x->n_miss[c->acc][how]++;
		x->desc2 = 0;
		c->n_exc++;
		return go(x);
	default:
		return x->xe->t.miss_again;
	}
}

uintptr_t (*const xl_light[XL_LT_N])(struct xl_cpu *x, const struct uop *u, uint64_t arg) = {
	[XL_LT_SYSCALL] = xl_lt_syscall,
	[XL_LT_SYSRET] = xl_lt_sysret,
	[XL_LT_IRET] = xl_lt_iret,
};
