/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From guest instructions to host code: one block.
 *
 * Pass one decodes and classifies up to XL_MAX_INSNS instructions within the
 * page, over the not-taken side of conditional branches.  Pass two goes
 * backwards and finds which arithmetic flags are live where.  Pass three emits.
 *
 * Most instructions are copied, with registers renamed where the host register
 * of that number is taken, and their memory operand replaced by [R10], where the
 * TLB probe leaves the host address.  The probe changes the host's flags: if the
 * guest's are live there they are saved in c->lf first, and come back when an
 * instruction wants them.  Dead flags are not kept: an exception frame may show
 * other values in flags that the program is about to overwrite (docs/QUIRKS.md).
 */
#include "cpu/translate/gen.h"

#include "cpu/interp/exec.h"

/* --- pass three: flags --- */

static void flags_save(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->fl != FL_HOST)
		return;
	a_mov_rr(a, 1, H_R11, H_RAX);
	a_bytes(a, "\x9f\x0f\x90\xc0", 4);	/* lahf; seto al */
	a_st32(a, H_RAX, XO(ic.c.lf));
	a_mov_rr(a, 1, H_RAX, H_R11);
	g->fl = FL_BOTH;
}

void gen_flags_restore(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->fl != FL_MEM)
		return;
	a_mov_rr(a, 1, H_R11, H_RAX);
	a_ld32(a, H_RAX, XO(ic.c.lf));
	a_bytes(a, "\x04\x7f\x9e", 3);		/* add al, 0x7f; sahf */
	a_mov_rr(a, 1, H_RAX, H_R11);
	g->fl = FL_BOTH;
}

/* The host's flags are about to be destroyed; `live` of the guest's still matter. */
void gen_flags_clobber(struct gen *g, uint32_t live)
{
	if (live)
		flags_save(g);
	g->fl = g->fl == FL_BOTH || g->fl == FL_MEM ? FL_MEM : FL_DEAD;
}

/* --- pass three: out-of-line pieces --- */

unsigned gen_if_r11(struct gen *g)
{
	struct xasm *a = &g->a;
	unsigned skip, at;

	a_rr(a, 1, 0x87, H_RCX, H_R11);
	a_bytes(a, "\xe3\x00", 2);		/* jrcxz over the next two */
	skip = a->n;
	a_rr(a, 1, 0x87, H_RCX, H_R11);
	at = a_jmp_fwd(a);
	a_bind8(a, skip);
	a_rr(a, 1, 0x87, H_RCX, H_R11);
	return at;
}

struct gen_slow *gen_slow_new(struct gen *g, int what)
{
	struct gen_slow *s = &g->slow[g->n_slow];

	if (g->n_slow == GEN_MAX_SLOW - 1)
		g->a.over = true;
	else
		g->n_slow++;
	memset(s, 0, sizeof(*s));
	s->what = what;
	s->acc = (uint8_t)g->acc;
	s->cold = g->cold;
	s->shadow = g->shadow;
	return s;
}

void gen_rip_at(struct gen *g, unsigned reg, int32_t off)
{
	a_ld(&g->a, reg, XO(ic.c.blk_rip));
	a_lea(&g->a, g->w, reg, reg, H_NONE, 0, off);
}
static void emit_callout(struct gen *g, const struct gen_insn *gi)
{
	gen_flags_clobber(g, X86_FL_ARITH);
	a_mov_i(&g->a, H_R10, (uintptr_t)&g->b->uops[gi->uop].u);
	a_call(&g->a, g->xe->t.callout);
	g->fl = FL_MEM;
	g->x87_ok = false;	/* interp may have fetched it */
	g->vec_ok = false;
}

static void emit_insn(struct gen *g, struct gen_insn *gi)
{
	switch (gi->kind) {
	case GI_NOP: break;
	case GI_COPY: gen_copy(g, gi); break;
	case GI_LEA: gen_lea(g, gi); break;
	case GI_PUSH: gen_push(g, gi); break;
	case GI_PUSH_MEM: gen_push_mem(g, gi); break;
	case GI_POP: gen_pop(g, gi); break;
	case GI_LEAVE: gen_leave(g, gi); break;
	case GI_JCC: gen_jcc(g, gi); break;
	case GI_COUNT: gen_count(g, gi); break;
	case GI_CALLOUT: emit_callout(g, gi); break;
	case GI_SYS: gen_sys(g, gi); break;
	case GI_JMP: gen_goto(g, gi, gen_target_of(gi)); break;
	case GI_CALL: gen_call(g, gi); break;
	case GI_CALL_IND: gen_call_indirect(g, gi); break;
	case GI_JMP_IND: gen_jmp_indirect(g, gi); break;
	case GI_RET: gen_ret(g, gi); break;
	default: g->a.over = true; break;
	}
}

/* Does the block put the flags it is entered with away before it looks at them?  Just a guess:
 * both kinds of entries are right for any block. */
static bool puts_flags_away(const struct gen *g)
{
	for (unsigned n = 0; n < g->n; n++) {
		const struct gen_insn *gi = &g->insn[n];

		switch (gi->kind) {
		case GI_NOP:
		case GI_LEA: break;
		case GI_JCC:
		case GI_COUNT: return false;
		case GI_COPY:
			if ((gi->i.has_mem && !gen_quiet_access(gi)) || gi->vec || gi->x87)
				return true;
			if (gi->reads || gi->writes)
				return false;
			break;
		case GI_JMP: return !gen_in_page(gen_target_of(gi));
		default: return true;
		}
	}
	return !gen_in_page((int32_t)g->next);
}

static void emit_poll(struct gen *g)
{
	struct gen_slow *s = gen_slow_new(g, SLOW_POLL);

	a_cmp_si8(&g->a, false, XO(ic.c.vcpu.events), 0);
	s->at = a_jcc_fwd(&g->a, CC_NE);
	s->off = (uint16_t)(g->b->gpa & 0xfff);
}

/*
 * The entries (see cache.c for what the one from the jump cache must begin with),
 * and the look at pending events.  Flags that are live come in c->lf from the jump
 * cache and in the host's from chains; one of the two is changed for the other.
 */
static void emit_entries(struct gen *g)
{
	bool away = g->live_in && puts_flags_away(g);
	struct xl_block *b = g->b;
	struct xasm *a = &g->a;
	unsigned skip = 0;

	a_align(a, 8);
	g->code0 = a->n;
	if (away) {
		b->entry = b->entry_past = (uint8_t *)a_here(a);
		g->fl = FL_HOST;
		flags_save(g);
		a_bytes(a, "\xeb\x00", 2);	/* jmp */
		skip = a->n;
		a_align(a, 8);
	}
	b->ientry = (uint8_t *)a_here(a);
	a_bytes(a, "\x4d\x8d\x92", 3);		/* lea r10, [r10 + disp32] */
	a_d(a, -(unsigned)(b->gpa & 0xfff));
	a_st(a, H_R10, XO(ic.c.blk_rip));
	if (skip)
		a_bind8(a, skip);
	g->fl = g->live_in ? FL_MEM : FL_DEAD;
	if (!g->live_in)
		b->entry = (uint8_t *)a_here(a);
	emit_poll(g);
	if (away)
		return;
	if (g->live_in) {
		struct gen_slow *s = gen_slow_new(g, SLOW_POLL_LIVE);

		s->off = (uint16_t)(b->gpa & 0xfff);
		gen_flags_restore(g);
		g->fl = FL_HOST;
		s->back = a_here(a);
	}
	b->entry_past = (uint8_t *)a_here(a);
}

/* The entry for chains that go backwards where flags are live in the host's. */
static void emit_poll_live(struct gen *g, const struct gen_slow *s)
{
	struct xasm *a = &g->a;
	unsigned event;

	g->b->entry = (uint8_t *)a_here(a);
	a_ld32(a, H_R11, XO(ic.c.vcpu.events));
	event = gen_if_r11(g);
	a_jmp(a, s->back);
	a_bind(a, event);
	gen_rip_at(g, H_R10, s->off);
	a_jmp(a, g->xe->t.exit_rip_h);
}

static void emit_slow_stored(struct gen *g, const struct gen_slow *s)
{
	struct xasm *a = &g->a;

	if (s->shadow)		/* the instruction is through, whatever comes of its store */
		gen_shadow_over(g);
	a_st32_i(a, XO(desc), s->desc);
	if (s->to.base != H_R10 || s->to.index != H_NONE || s->to.disp)
		a_lea(a, 1, H_R10, s->to.base, s->to.index, 0, s->to.disp);
	if (s->to_tmp) {
		a_ld(a, H_R11, XO(tmp));
		a_st(a, H_R11, XO(ic.c.s.rip));
	} else {
		gen_rip_at(g, H_R11, s->elsewhere ? s->rel : (int32_t)(s->desc & 0x1fff));
		a_st(a, H_R11, XO(ic.c.s.rip));
	}
	a_ld(a, H_R11, s->to.flags);
	a_call(a, s->what == SLOW_STORED_H ? g->xe->t.stored_h : g->xe->t.stored_m);
	a_jmp(a, s->back);
}

/*
 * The store by a copy of the code behind its probe, on what the miss has found; then what was stored is looked at.
 * No host fault comes from here: it would not be known (gen_fault_here).
 */
static void store_apart(struct gen *g, const struct gen_slow *s)
{
	struct gen_slow stored = *s;

	if (s->cold)
		g->a.over = true;
	else if (!g->hot.over)
		a_bytes(&g->a, g->hot.p + (s->done - g->hot.run), (unsigned)(s->after - s->done));
	stored.what = s->flags_after ? SLOW_STORED_H : SLOW_STORED_M;
	stored.desc = s->desc_after;
	stored.to = (struct gen_at){ .base = H_R10, .index = H_NONE, .flags = XO(store_flags) };
	stored.back = s->after;
	emit_slow_stored(g, &stored);
}

static void emit_slow_miss(struct gen *g, const struct gen_slow *s)
{
	struct xasm *a = &g->a;

	a_rsx(a, 1, 0x33, H_R10, H_R11, s->tag);
	a_st32_i(a, XO(desc), s->desc);
	if (s->desc2)
		a_st32_i(a, XO(desc2), s->desc2);
	a_call(a, g->xe->t.miss);
	if (s->desc2 & (XL_DESC2_GROUP | XL_DESC2_PAGE)) {
		a_jmp(a, s->back);
		return;
	}
	a_cmp_si8(a, true, XO(bounced), 0);
	a_jcc(a, CC_E, s->back);
	if (s->after)
		store_apart(g, s);
	else
		a_jmp(a, s->done);
}

/* The branch that leads to the piece comes here. */
static void bind_slow(struct gen *g, const struct gen_slow *s)
{
	uint32_t d = (uint32_t)(a_here(&g->a) - (g->hot.run + s->at + 4));

	if (s->cold)
		a_bind(&g->a, s->at);
	else if (!g->hot.over)
		memcpy(g->hot.p + s->at, &d, 4);
}

static void emit_slow(struct gen *g, const struct gen_slow *s)
{
	const struct xl_thunks *t = &g->xe->t;
	struct xasm *a = &g->a;

	if (s->what != SLOW_POLL_LIVE)
		bind_slow(g, s);
	g->acc = s->acc;
	switch (s->what) {
	case SLOW_MISS:
		emit_slow_miss(g, s);
		break;
	case SLOW_STORED_H:
	case SLOW_STORED_M:
		emit_slow_stored(g, s);
		break;
	case SLOW_LINK:
		a_mov_i(a, H_R10, (uintptr_t)s->exit);
		a_jmp(a, t->exit_link);
		break;
	case SLOW_VEC:
		a_call(a, t->vec_load);
		a_jmp(a, s->back);
		break;
	case SLOW_X87:
		a_call(a, t->x87_load);
		a_jmp(a, s->back);
		break;
	case SLOW_POLL:
		gen_rip_at(g, H_R10, s->off);
		a_jmp(a, t->exit_rip_m);
		break;
	case SLOW_POLL_LIVE: emit_poll_live(g, s); break;
	case SLOW_INDIRECT:
		if (s->check)
			gen_canonical_or_step(g, s->off);
		if (s->pop)
			a_lea(a, g->w, H_R9, H_R9, H_NONE, 0, s->pop);
		a_jmp(a, t->indirect);
		break;
	case SLOW_CANONICAL:
		gen_canonical_or_step(g, s->off);
		a_jmp(a, s->back);
		break;
	case SLOW_PLAIN: gen_loop_plain(g); break;
	case SLOW_CALLOUT:
		a_mov_i(a, H_R10, (uintptr_t)&g->b->uops[s->uop].u);
		a_call(a, t->callout);
		a_jmp(a, s->back);
		break;
	case SLOW_FAR_JCC: {
		struct gen_insn at = { .off = s->off };

		g->fl = s->save ? FL_HOST : FL_BOTH;
		gen_flags_clobber(g, X86_FL_ARITH);
		gen_rip_at(g, H_R10, s->rel);
		gen_indirect(g, &at, false, 0);
		break;
	}
	default: a->over = true; break;
	}
}

static bool emit_block(struct gen *g)
{
	struct gen_insn *last = &g->insn[g->n - 1];

	emit_entries(g);
	if (g->verp2)
		gen_page2(g);
	gen_loop_head(g);
	for (unsigned n = 0; n < g->n; n++) {
		bool shadow = g->shadow;

		if (n == g->in_loop)
			g->held[0] = g->held[1] = GEN_NO_GROUP;
		g->insn[n].host = g->a.n;
		emit_insn(g, &g->insn[n]);
		if (shadow)
			gen_shadow_ends(g);
		if (unlikely(g->xe->spoil) && g->insn[n].kind < GI_FIRST_END && !--g->xe->spoil)
			a_lea(&g->a, 1, H_RBX, H_RBX, H_NONE, 0, 1);
	}
	if (last->kind == GI_CALLOUT || !last->ends)
		gen_goto(g, last, (int32_t)g->next);
	g->hot = g->a;
	g->a = g->out_of_line;
	g->cold = true;
	for (unsigned n = 0; n < g->n_slow; n++)	/* more may be added on the way */
		emit_slow(g, &g->slow[n]);
	return !g->a.over && !g->hot.over;
}

/* A block's record: struct xl_block, its insns, uops, exits; the last are only counted as the code is emitted. */
static size_t meta_size(const struct gen *g, unsigned exits)
{
	return align_up(sizeof(struct xl_block) + g->n * sizeof(struct xl_insn), 16) + g->n_uops * sizeof(struct xl_uop) +
	       exits * sizeof(struct xl_exit);
}

static struct xl_block *translate(struct xl_cpu *x, const struct x86_tlb_entry *page, uint32_t key)
{
	struct xl_engine *xe = x->xe;
	struct x86_cpu *c = &x->ic.c;
	struct gen *g = xe->gen;
	unsigned off = c->s.rip & 0xfff;
	struct xl_room room;

	memset(g, 0, offsetof(struct gen, insn));
	g->x = x;
	g->xe = xe;
	g->key = key;
	g->acc = XL_KEY_ACC(g->key);
	g->w = XL_KEY_MODE(g->key) == X86_MODE_LONG64;
	g->bits = g->w ? 64 : 32;
	g->word = g->w ? 8 : 4;
	g->guarded = xl_guards(xe);
	if (!xl_stub_room(xe))
		return NULL;
	g->page = page;
	g->bytes = (const uint8_t *)((c->s.rip & ~0xfffull) + g->page->addend);
	if (!gen_collect(g, off) || g->n == 0)
		return NULL;
	gen_liveness(g);
	g->held[0] = g->held[1] = GEN_NO_GROUP;
	if (!(key & XL_KEY_NOGROUP)) {
		gen_find_groups(g);
		gen_loop_hold(g);
	}
	g->b = xl_region_room(xe, meta_size(g, XL_MAX_EXITS), &room);
	if (!g->b)
		return NULL;
	memset(g->b, 0, sizeof(*g->b));
	g->b->gpa = g->page->gpa | off;
	g->b->key = g->key;
	g->b->version = g->version;
	g->b->undefined = (uint16_t)(g->undefined | g->undefined_now);
	g->b->guest_len = (uint16_t)(g->next - off);
	g->b->verp = g->page->version;
	g->b->verp2 = g->verp2;
	g->b->version2 = g->version2;
	g->b->uops = (struct xl_uop *)((char *)g->b + align_up(sizeof(struct xl_block) + g->n * sizeof(struct xl_insn), 16));
	g->b->exits = (struct xl_exit *)(g->b->uops + g->n_uops);
	memset(g->b->exits, 0, XL_MAX_EXITS * sizeof(struct xl_exit));
	memcpy(g->b->uops, g->uops, g->n_uops * sizeof(struct xl_uop));
	g->a = (struct xasm){ .p = xe->rw + room.at, .run = (uintptr_t)xe->rx + room.at, .size = (unsigned)MIN(room.size, GEN_MAX_CODE) };
	g->out_of_line = (struct xasm){ .p = xe->rw + room.cold_at, .run = (uintptr_t)xe->rx + room.cold_at,
					.size = (unsigned)MIN(room.cold_size, GEN_MAX_CODE) };
	if (!emit_block(g)) {
		xl_region_short(xe, &room);
		return NULL;
	}
	memcpy(g->b->insns, g->faults, g->n_faults * sizeof(struct xl_insn));
	g->b->n_insns = (uint16_t)g->n_faults;
	g->b->code = (uint32_t)(room.at + g->code0);
	g->b->code_len = g->hot.n - g->code0;
	xl_region_keep(xe, g->b, g->hot.n, g->a.n, meta_size(g, g->b->n_exits));
	if (!xl_publish(xe, g->b))
		return NULL;
	xe->n_bytes += g->hot.n + g->a.n;
	xe->n_loops += g->in_loop != 0;
	if (unlikely(xe->dump != NULL))
		xl_dump_block(g, c->s.rip);
	return g->b;
}

struct xl_block *xl_translate(struct xl_cpu *x, const struct x86_tlb_entry *page, uint32_t key)
{
	uint64_t begun = x86_host_tsc();
	struct xl_block *b = translate(x, page, key);

	x->xe->tsc_spent += x86_host_tsc() - begun;
	return b;
}
