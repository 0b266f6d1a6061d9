/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String instructions as light calls (see light.c): in either direction, addresses
 * of the code's own size, no FS or GS.
 *
 * A repeated one works in runs: elements that lie next to each other in the host as
 * they do in the guest, done by the host's own instruction.  Registers are brought
 * up to date after every run, so what faults next leaves the state of a string
 * instruction that stopped there; pending events are let in between runs.
 */
#include "cpu/translate/light.h"

#define RUN_MAX (64u << 10)	/* bytes; events wait that long */

static uint64_t str_reg_at(const struct x86_cpu *c, const struct uop *u, unsigned r)
{
	return u->asz == 4 ? (uint32_t)c->s.gpr[r] : c->s.gpr[r];
}

static void str_reg_add(struct x86_cpu *c, const struct uop *u, unsigned r, uint64_t by)
{
	c->s.gpr[r] += by;
	if (u->asz == 4)
		c->s.gpr[r] = (uint32_t)c->s.gpr[r];
}

static uint64_t str_elements(const struct x86_cpu *c, const struct uop *u)
{
	return u->rep ? str_reg_at(c, u, X86_RCX) : 1;
}

static bool down(const struct x86_cpu *c) { return c->s.rflags & X86_FL_DF; }

/* One end of a run. */
struct run {
	uint64_t lin;
	uint8_t *p;			/* host address of the first element */
	_Atomic uint8_t *flags;		/* for stores: of its page, the lowest of several */
};

/* Host address of lin, by the copy of the TLB that emitted code has: there a source and a destination do not meet. */
static uint8_t *str_page_at(struct xl_cpu *x, uint64_t lin, enum x86_how how, _Atomic uint8_t **flags)
{
	struct xl_tlb *t = &x->tlb[x->ic.c.acc];
	unsigned i = lin >> 12 & (XL_TLB_SIZE - 1);
	const struct x86_tlb_entry *e;
	uint32_t err;

	if (unlikely(t->tag[how][i] != (lin & ~0xfffull))) {
		if (x86_tlb_look(&x->ic.c, lin, how, (enum x86_acc)x->ic.c.acc, &e, &err) != X86_LOOK_OK)
			return NULL;
		if (xl_guarded(x, e, how)) {
			*flags = e->flags;
			return (uint8_t *)(lin + e->addend);
		}
		xl_tlb_put(x, e, lin, how);
	}
	*flags = t->flags[i];
	return (uint8_t *)t->host[how][i] + (lin & 0xfff);
}

/* Upwards, len bytes from r->lin of which `have` lie in its page: how many of them the host has in one piece. */
static uint64_t str_further(struct xl_cpu *x, const struct run *r, enum x86_how how, uint64_t have, uint64_t len)
{
	_Atomic uint8_t *flags;

	while (have < len) {
		uint64_t lin = r->lin + have;

		if (x->ic.c.mode != X86_MODE_LONG64 && lin >> 32)
			break;
		if (str_page_at(x, lin, how, &flags) != r->p + have)
			break;
		have += PAGE_4K;
	}
	return MIN(have, len);
}

/*
 * Elements, at most n, of a run at what register reg holds; 0: that is not simple.  Its pages count as
 * accessed, for stores as dirty: what is stored to will be all of it.
 */
static uint64_t str_run_at(struct xl_cpu *x, const struct uop *u, unsigned reg, struct run *r, enum x86_how how, uint64_t n)
{
	const struct x86_cpu *c = &x->ic.c;
	uint64_t lin = str_reg_at(c, u, reg), off = lin & 0xfff, room = PAGE_4K - off;

	r->lin = lin;
	if (room < u->osz || !(r->p = str_page_at(x, lin, how, &r->flags)))
		return 0;
	if (down(c)) {
		room = off / u->osz + 1;
		return MIN(n, room);
	}
	n = MIN(n, RUN_MAX / u->osz);
	if (room < n * u->osz)
		n = str_further(x, r, how, room, n * u->osz) / u->osz;
	return n;
}

/* Pages next to each other in the host are so in the books, too. */
static void str_run_stored(struct x86_cpu *c, const struct uop *u, const struct run *r, uint64_t n)
{
	uint64_t lin = down(c) ? r->lin - (n - 1) * u->osz : r->lin, left = n * u->osz;
	_Atomic uint8_t *flags = r->flags;

	__asm__ volatile("" ::: "memory");
	for (;; flags++) {
		uint64_t room = PAGE_4K - (lin & 0xfff), k = MIN(left, room);

		if (unlikely(atomic_load_explicit(flags, memory_order_relaxed) & MEM_PG_CODE) &&
		    x86_codemap_hit_page(c->codemap, flags, lin & 0xfff, (unsigned)k))
			c->smc_hit = c->leave_block = true;
		left -= k;
		if (likely(!left))
			return;
		lin += k;
	}
}

static void str_advance(struct x86_cpu *c, const struct uop *u, unsigned r, uint64_t n)
{
	str_reg_add(c, u, r, down(c) ? 0 - n * u->osz : n * u->osz);
}

/* After a run of n: 1: go on, 0: done, else where. */
static uintptr_t str_run_done(struct xl_cpu *x, const struct uop *u, uint64_t n, bool over)
{
	struct x86_cpu *c = &x->ic.c;

	if (!u->rep)
		return next(x, u);
	str_reg_add(c, u, X86_RCX, 0 - n);
	if (over || !str_reg_at(c, u, X86_RCX))
		return next(x, u);
	if (likely(!c->leave_block && !atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)))
		return 1;
	c->s.rip = uop_rip(c, u);
	x->exit = NULL;
	return leave(x);
}

/* The host's instruction, by width, in the guest's direction. */
#define BY_WIDTH(osz, INSN, ...)							\
	do {										\
		switch (osz) {								\
		case 1: __asm__ volatile(INSN("b") __VA_ARGS__); break;			\
		case 2: __asm__ volatile(INSN("w") __VA_ARGS__); break;			\
		case 4: __asm__ volatile(INSN("l") __VA_ARGS__); break;			\
		default: __asm__ volatile(INSN("q") __VA_ARGS__); break;		\
		}									\
	} while (0)
#define UP_MOVS(w) "rep movs" w
#define DOWN_MOVS(w) "std; rep movs" w "; cld"
#define UP_STOS(w) "rep stos" w
#define DOWN_STOS(w) "std; rep stos" w "; cld"
/* Flags as in x86_cpu.lf. */
#define FLAGS "; cld; lahf; seto %%al"
#define UP_REPE_CMPS(w) "repe cmps" w FLAGS
#define DOWN_REPE_CMPS(w) "std; repe cmps" w FLAGS
#define UP_REPNE_CMPS(w) "repne cmps" w FLAGS
#define DOWN_REPNE_CMPS(w) "std; repne cmps" w FLAGS
#define UP_REPE_SCAS(w) "repe scas" w FLAGS
#define DOWN_REPE_SCAS(w) "std; repe scas" w FLAGS
#define UP_REPNE_SCAS(w) "repne scas" w FLAGS
#define DOWN_REPNE_SCAS(w) "std; repne scas" w FLAGS

LIGHT_SHARED(xl_lt_movs)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t n, k, count;
	uintptr_t r = 0;

	if (c->watch)
		return heavy(x);
	while ((n = str_elements(c, u)) != 0) {
		struct run s, d;

		k = str_run_at(x, u, X86_RSI, &s, X86_READ, n);
		k = k ? str_run_at(x, u, X86_RDI, &d, X86_WRITE, k) : 0;
		if (!k)
			return heavy(x);
		count = k;
		if (down(c))
			BY_WIDTH(u->osz, DOWN_MOVS, : "+D"(d.p), "+S"(s.p), "+c"(count) : : "memory", "cc");
		else
			BY_WIDTH(u->osz, UP_MOVS, : "+D"(d.p), "+S"(s.p), "+c"(count) : : "memory");
		str_run_stored(c, u, &d, k);
		str_advance(c, u, X86_RSI, k);
		str_advance(c, u, X86_RDI, k);
		r = str_run_done(x, u, k, false);
		if (r != 1)
			return r;
	}
	return r;
}

LIGHT_SHARED(xl_lt_stos)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t n, k, count;
	uintptr_t r = 0;

	if (c->watch)
		return heavy(x);
	while ((n = str_elements(c, u)) != 0) {
		struct run d;

		k = str_run_at(x, u, X86_RDI, &d, X86_WRITE, n);
		if (!k)
			return heavy(x);
		count = k;
		if (down(c))
			BY_WIDTH(u->osz, DOWN_STOS, : "+D"(d.p), "+c"(count) : "a"(c->s.gpr[X86_RAX]) : "memory", "cc");
		else
			BY_WIDTH(u->osz, UP_STOS, : "+D"(d.p), "+c"(count) : "a"(c->s.gpr[X86_RAX]) : "memory");
		str_run_stored(c, u, &d, k);
		str_advance(c, u, X86_RDI, k);
		r = str_run_done(x, u, k, false);
		if (r != 1)
			return r;
	}
	return r;
}

static uint64_t str_element(const uint8_t *p, unsigned osz)
{
	switch (osz) {
	case 1: return __atomic_load_n(p, __ATOMIC_RELAXED);
	case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
	case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	}
}

/* Of the elements of a run only the last one stays. */
LIGHT_SHARED(xl_lt_lods)
{
	struct x86_cpu *c = &x->ic.c;
	uintptr_t r = 0;
	uint64_t n, k;

	if (c->watch)
		return heavy(x);
	while ((n = str_elements(c, u)) != 0) {
		struct run s;
		uint64_t last;

		k = str_run_at(x, u, X86_RSI, &s, X86_READ, n);
		if (!k)
			return heavy(x);
		last = (k - 1) * u->osz;
		reg_set(c, GPR_OFF(X86_RAX), u->osz, str_element(down(c) ? s.p - last : s.p + last, u->osz));
		str_advance(c, u, X86_RSI, k);
		r = str_run_done(x, u, k, false);
		if (r != 1)
			return r;
	}
	return r;
}

/* Without REP one element is compared, so that it does not matter what is repeated. */
static uint64_t str_compare_run(struct x86_cpu *c, const struct uop *u, const uint8_t *s, const uint8_t *d, uint64_t n)
{
	uint64_t lf;

#define CMPS(INSN) BY_WIDTH(u->osz, INSN, : "+D"(d), "+S"(s), "+c"(n), "=a"(lf) : : "memory", "cc")
	if (u->rep == 0xf2) {
		if (down(c))
			CMPS(DOWN_REPNE_CMPS);
		else
			CMPS(UP_REPNE_CMPS);
	} else if (down(c)) {
		CMPS(DOWN_REPE_CMPS);
	} else {
		CMPS(UP_REPE_CMPS);
	}
#undef CMPS
	c->lf = (uint32_t)(lf & 0xffff);
	return n;
}

static uint64_t str_scan_run(struct x86_cpu *c, const struct uop *u, const uint8_t *d, uint64_t n)
{
	uint64_t a = c->s.gpr[X86_RAX];

#define SCAS(INSN) BY_WIDTH(u->osz, INSN, : "+D"(d), "+c"(n), "+a"(a) : : "memory", "cc")
	if (u->rep == 0xf2) {
		if (down(c))
			SCAS(DOWN_REPNE_SCAS);
		else
			SCAS(UP_REPNE_SCAS);
	} else if (down(c)) {
		SCAS(DOWN_REPE_SCAS);
	} else {
		SCAS(UP_REPE_SCAS);
	}
#undef SCAS
	c->lf = (uint32_t)(a & 0xffff);
	return n;
}

/* SCAS, or CMPS. */
static uintptr_t str_compare(struct xl_cpu *x, const struct uop *u, bool scas)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t n, k, left;
	uintptr_t r = 0;

	if (c->watch)
		return heavy(x);
	while ((n = str_elements(c, u)) != 0) {
		struct run s, d;
		bool over;

		k = scas ? n : str_run_at(x, u, X86_RSI, &s, X86_READ, n);
		k = k ? str_run_at(x, u, X86_RDI, &d, X86_READ, k) : 0;
		if (!k)
			return heavy(x);
		left = scas ? str_scan_run(c, u, d.p, k) : str_compare_run(c, u, s.p, d.p, k);
		if (!scas)
			str_advance(c, u, X86_RSI, k - left);
		str_advance(c, u, X86_RDI, k - left);
		over = !!(c->lf & X86_LF_ZF) != (u->rep == 0xf3);
		r = str_run_done(x, u, k - left, over);
		if (r != 1)
			return r;
	}
	return r;
}

LIGHT_SHARED(xl_lt_scas) { return str_compare(x, u, true); }
LIGHT_SHARED(xl_lt_cmps) { return str_compare(x, u, false); }
