/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String instructions and port strings.
 *
 * A repeated one works in chunks: as much as lies in one page at both ends, the
 * direction being up, by the host's own REP MOVS / STOS; otherwise element by
 * element.  Registers are brought up to date after every chunk, so a fault in the
 * next one leaves the state of a string instruction that stopped there, and
 * between chunks pending events are let in (RIP then stays on the instruction).
 */
#include "cpu/interp/interp.h"

static inline uint64_t asz_mask(const struct uop *u)
{
	return u->asz == 8 ? ~0ull : u->asz == 4 ? 0xffffffffu : 0xffffu;
}

static uint64_t str_lin(struct x86_cpu *c, const struct uop *u, int seg, uint64_t off, unsigned len, enum x86_how how)
{
	off &= asz_mask(u);
	if (c->mode == X86_MODE_LONG64)
		return seg >= X86_FS ? off + c->s.seg[seg].base : off;
	if (c->flat && seg < X86_FS)
		return off;
	return x86_seg_lin(c, seg, off, len, how);
}

static inline uint64_t src_lin(struct x86_cpu *c, const struct uop *u)
{
	return str_lin(c, u, u->seg, c->s.gpr[X86_RSI], u->osz, X86_READ);
}
static inline uint64_t dst_lin(struct x86_cpu *c, const struct uop *u, enum x86_how how)
{
	return str_lin(c, u, X86_ES, c->s.gpr[X86_RDI], u->osz, how);
}
static inline void advance(struct x86_cpu *c, const struct uop *u, unsigned reg, uint64_t n)
{
	uint64_t by = n * u->osz;

	reg_set(c, GPR_OFF(reg), u->asz, c->s.gpr[reg] + (c->s.rflags & X86_FL_DF ? 0 - by : by));
}
static inline uint64_t count(const struct x86_cpu *c, const struct uop *u)
{
	return c->s.gpr[X86_RCX] & asz_mask(u);
}
static inline void count_down(struct x86_cpu *c, const struct uop *u, uint64_t n)
{
	reg_set(c, GPR_OFF(X86_RCX), u->asz, c->s.gpr[X86_RCX] - n);
}

/* More to do: stay on the instruction if something wants attention. */
static bool must_stop(const struct x86_cpu *c)
{
	return c->leave_block || c->step_mode || atomic_load_explicit(&c->vcpu.events, memory_order_relaxed);
}
static const struct uop *stop_here(struct x86_cpu *c, const struct uop *u)
{
	c->s.rip = uop_rip(c, u);
	return NULL;
}

/* Elements that fit in [lin, end of page), at most n; 0 when fast work is not possible. */
static uint64_t fast_chunk(const struct x86_cpu *c, const struct uop *u, uint64_t lin, uint64_t reg, uint64_t n)
{
	uint64_t room = (PAGE_4K - (lin & 0xfff)) / u->osz;

	if ((c->s.rflags & X86_FL_DF) || c->watch)
		return 0;
	if (u->asz != 8) {	/* the register must not wrap inside the chunk */
		uint64_t wrap = (asz_mask(u) - (reg & asz_mask(u))) / u->osz;

		room = MIN(room, wrap);
	}
	if (c->mode != X86_MODE_LONG64 && !c->flat)
		return 0;
	return MIN(room, n);
}

static void rep_movs_host(void *d, const void *s, uint64_t n, unsigned osz)
{
	switch (osz) {
	case 1: __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory"); break;
	case 2: __asm__ volatile("rep movsw" : "+D"(d), "+S"(s), "+c"(n) : : "memory"); break;
	case 4: __asm__ volatile("rep movsl" : "+D"(d), "+S"(s), "+c"(n) : : "memory"); break;
	default: __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(n) : : "memory"); break;
	}
}

static void rep_stos_host(void *d, uint64_t v, uint64_t n, unsigned osz)
{
	switch (osz) {
	case 1: __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(v) : "memory"); break;
	case 2: __asm__ volatile("rep stosw" : "+D"(d), "+c"(n) : "a"(v) : "memory"); break;
	case 4: __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(v) : "memory"); break;
	default: __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(v) : "memory"); break;
	}
}

static void movs_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop plain = { .seg = X86_DS };
	uint64_t v = ld_n(c, &plain, src_lin(c, u), u->osz);

	st_n(c, &plain, dst_lin(c, u, X86_WRITE), u->osz, v);
	advance(c, u, X86_RSI, 1);
	advance(c, u, X86_RDI, 1);
}

/* One chunk of REP MOVS; returns the elements done. */
static uint64_t movs_chunk(struct x86_cpu *c, const struct uop *u, uint64_t n)
{
	uint64_t s = src_lin(c, u), d = dst_lin(c, u, X86_WRITE), k;
	void *hs, *hd;

	k = fast_chunk(c, u, s, c->s.gpr[X86_RSI], n);
	k = MIN(k, fast_chunk(c, u, d, c->s.gpr[X86_RDI], n));
	if (k > 1) {
		hs = x86_mem_host(c, s, (unsigned)(k * u->osz), X86_READ, c->acc);
		hd = x86_mem_host(c, d, (unsigned)(k * u->osz), X86_WRITE, c->acc);
		if (hs && hd) {
			rep_movs_host(hd, hs, k, u->osz);
			x86_mem_stored(c, d, (unsigned)(k * u->osz), c->acc);
			advance(c, u, X86_RSI, k);
			advance(c, u, X86_RDI, k);
			return k;
		}
	}
	movs_one(c, u);
	return 1;
}

UOP(op_movs)
{
	uint64_t n;

	if (!u->rep) {
		movs_one(c, u);
		return NEXT_ST(c, u);
	}
	while ((n = count(c, u)) != 0) {
		count_down(c, u, movs_chunk(c, u, n));
		if (must_stop(c) && count(c, u))
			return stop_here(c, u);
	}
	return NEXT_ST(c, u);
}

static uint64_t stos_chunk(struct x86_cpu *c, const struct uop *u, uint64_t n)
{
	static const struct uop plain = { .seg = X86_ES };
	uint64_t d = dst_lin(c, u, X86_WRITE), k = fast_chunk(c, u, d, c->s.gpr[X86_RDI], n);
	void *hd;

	if (k > 1 && (hd = x86_mem_host(c, d, (unsigned)(k * u->osz), X86_WRITE, c->acc)) != NULL) {
		rep_stos_host(hd, c->s.gpr[X86_RAX], k, u->osz);
		x86_mem_stored(c, d, (unsigned)(k * u->osz), c->acc);
		advance(c, u, X86_RDI, k);
		return k;
	}
	st_n(c, &plain, d, u->osz, c->s.gpr[X86_RAX]);
	advance(c, u, X86_RDI, 1);
	return 1;
}

UOP(op_stos)
{
	uint64_t n;

	if (!u->rep) {
		stos_chunk(c, u, 1);
		return NEXT_ST(c, u);
	}
	while ((n = count(c, u)) != 0) {
		count_down(c, u, stos_chunk(c, u, n));
		if (must_stop(c) && count(c, u))
			return stop_here(c, u);
	}
	return NEXT_ST(c, u);
}

static void lods_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop plain = { .seg = X86_DS };

	reg_set(c, GPR_OFF(X86_RAX), u->osz, ld_n(c, &plain, src_lin(c, u), u->osz));
	advance(c, u, X86_RSI, 1);
}

UOP(op_lods)
{
	if (!u->rep) {
		lods_one(c, u);
		return u + 1;
	}
	while (count(c, u)) {
		lods_one(c, u);
		count_down(c, u, 1);
		if (must_stop(c) && count(c, u))
			return stop_here(c, u);
	}
	return NEXT_ST(c, u);
}

/* Flags of a - b at the operand size. */
static void compare(struct x86_cpu *c, unsigned osz, uint64_t a, uint64_t b)
{
	uint32_t lf;

	switch (osz) {
	case 1: __asm__("cmpb %b[b],%b[a]\n\tlahf\n\tseto %%al" : "=&a"(lf) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	case 2: __asm__("cmpw %w[b],%w[a]\n\tlahf\n\tseto %%al" : "=&a"(lf) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	case 4: __asm__("cmpl %k[b],%k[a]\n\tlahf\n\tseto %%al" : "=&a"(lf) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	default: __asm__("cmpq %[b],%[a]\n\tlahf\n\tseto %%al" : "=&a"(lf) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	}
	c->lf = lf;
}

static void scas_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop plain = { .seg = X86_ES };
	uint64_t v = ld_n(c, &plain, dst_lin(c, u, X86_READ), u->osz);

	compare(c, u->osz, c->s.gpr[X86_RAX], v);
	advance(c, u, X86_RDI, 1);
}

static void cmps_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop ds = { .seg = X86_DS }, es = { .seg = X86_ES };
	uint64_t a = ld_n(c, &ds, src_lin(c, u), u->osz);
	uint64_t b = ld_n(c, &es, dst_lin(c, u, X86_READ), u->osz);

	compare(c, u->osz, a, b);
	advance(c, u, X86_RSI, 1);
	advance(c, u, X86_RDI, 1);
}

/* REPE goes on while ZF, REPNE while not. */
static const struct uop *rep_compare(struct x86_cpu *c, const struct uop *u,
				     void (*one)(struct x86_cpu *, const struct uop *))
{
	if (!u->rep) {
		one(c, u);
		return u + 1;
	}
	while (count(c, u)) {
		one(c, u);
		count_down(c, u, 1);
		if (!!(c->lf & X86_LF_ZF) != (u->rep == 0xf3))
			break;
		if (must_stop(c) && count(c, u))
			return stop_here(c, u);
	}
	return NEXT_ST(c, u);
}
UOP(op_scas) { return rep_compare(c, u, scas_one); }
UOP(op_cmps) { return rep_compare(c, u, cmps_one); }

/* --- ports --- */

static void ins_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop plain = { .seg = X86_ES };
	uint64_t d = dst_lin(c, u, X86_WRITE), v = 0;

	x86_mem_probe(c, d, u->osz, X86_WRITE, c->acc);
	c->n_pio++;
	bus_access(c->vcpu.m->pio, (uint16_t)c->s.gpr[X86_RDX], &v, u->osz, false);
	st_n(c, &plain, d, u->osz, v);
	advance(c, u, X86_RDI, 1);
}

static void outs_one(struct x86_cpu *c, const struct uop *u)
{
	static const struct uop plain = { .seg = X86_DS };
	uint64_t v = ld_n(c, &plain, src_lin(c, u), u->osz);

	c->n_pio++;
	bus_access(c->vcpu.m->pio, (uint16_t)c->s.gpr[X86_RDX], &v, u->osz, true);
	advance(c, u, X86_RSI, 1);
}

static const struct uop *port_string(struct x86_cpu *c, const struct uop *u,
				     void (*one)(struct x86_cpu *, const struct uop *))
{
	flags_out(c);
	x86_io_check(c, (uint16_t)c->s.gpr[X86_RDX], u->osz);
	c->db_trap.dr6 |= x86_bp_io(c, (uint16_t)c->s.gpr[X86_RDX], u->osz);
	if (!u->rep) {
		one(c, u);
		c->leave_block = true;
		return uop_leave(c, u);
	}
	while (count(c, u)) {
		one(c, u);
		count_down(c, u, 1);
		if (must_stop(c) && count(c, u))
			return stop_here(c, u);
	}
	c->leave_block = true;
	return uop_leave(c, u);
}
UOP(op_ins) { return port_string(c, u, ins_one); }
UOP(op_outs) { return port_string(c, u, outs_one); }
