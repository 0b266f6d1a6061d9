/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding and making blocks.
 *
 * A block ends with a control transfer, an instruction that changes what decoding
 * depends on, the end of the page, or its size.  An instruction that straddles
 * two pages is a block of its own, so that a fault on the second page comes when
 * that very instruction is due.
 *
 * The bytes are marked as code before they are read; a block remembers the
 * version its page had then (see cpu/x86/codemap.c for why this is enough).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/interp/interp.h"
#include "cpu/x86/trial.h"

/* Where the bytes of a block come from. */
struct source {
	const struct x86_tlb_entry *page;	/* NULL: code in device memory */
	const struct x86_tlb_entry *page2;	/* when an instruction straddles */
	uint64_t lin;
	unsigned marked;			/* page offset up to which code is marked */
	uint32_t version;
	bool have_version;
};

static enum x86_acc exec_class(const struct x86_cpu *c)
{
	return c->acc == X86_ACC_USER_AC ? X86_ACC_USER : (enum x86_acc)c->acc;
}

static unsigned code_bits(const struct x86_cpu *c)
{
	return c->mode == X86_MODE_LONG64 ? 64 : c->mode == X86_MODE_PM32 ? 32 : 16;
}

void interp_blocks_drop(struct interp_cpu *ic)
{
	arena_drop(ic);
	ic->n_flush++;
	exec_cache_reset(ic->exec);
}

/* Marks the page as code up to offset `end`; false: it changed meanwhile. */
static bool mark_to(struct x86_cpu *c, struct source *s, unsigned from, unsigned end)
{
	uint32_t v;

	if (end > PAGE_4K)
		end = PAGE_4K;
	if (s->have_version && end <= s->marked)
		return true;
	v = x86_codemap_mark(c->codemap, s->page, from, end - from);
	if (s->have_version && v != s->version)
		return false;
	s->version = v;
	s->have_version = true;
	s->marked = (unsigned)align_up(end, X86_CODE_GRANULE);	/* that much was */
	return true;
}

/* Bytes of an instruction that may straddle: up to 15, faults raised only if the
 * second page is needed. Returns the number of bytes in the first page. */
static unsigned fetch_straddling(struct interp_cpu *ic, struct block *b, struct source *s, uint64_t lin, uint8_t buf[16])
{
	struct x86_cpu *c = &ic->c;
	unsigned room = (unsigned)(PAGE_4K - (lin & 0xfff));
	uint64_t lin2 = (lin & ~0xfffull) + PAGE_4K;

	if (c->mode != X86_MODE_LONG64)
		lin2 &= 0xffffffffu;
	memcpy(buf, (void *)(lin + s->page->addend), room);
	s->page2 = x86_tlb_fill(c, lin2, X86_EXEC, exec_class(c));
	if (!s->page2) {
		memset(buf + room, 0xff, 16 - room);
		return room;
	}
	b->two = true;
	*block_page2(b) = (struct block_page2){
		.gpa = s->page2->gpa,
		.verp = s->page2->version,
		.version = x86_codemap_mark(c->codemap, s->page2, 0, 16),
	};
	memcpy(buf + room, (void *)(lin2 + s->page2->addend), 16 - room);
	return room;
}

static void init_uop(struct uop *u, unsigned off, uop_fn fn)
{
	memset(u, 0, sizeof(*u));
	u->off = off & 0xfff;
	u->fn = fn;
	u->base = u->index = ZERO_OFF;
}

static void end_uop(struct uop *u, unsigned off)
{
	init_uop(u, off, op_end);
	u->imm = (int32_t)off;
}

/* Decodes the instruction at lin into u. 1: the block ends with it, 0: goes on,
 * -EAGAIN: not part of this block (straddles and is not its first), -ESTALE:
 * the code changed under our hands. */
static int add_insn(struct interp_cpu *ic, struct block *b, struct source *s, unsigned at, uint64_t lin,
		    bool first, unsigned *len)
{
	struct x86_cpu *c = &ic->c;
	struct uop *u = &b->ops[b->n];
	unsigned off = lin & 0xfff, room = (unsigned)(PAGE_4K - off);
	uint8_t buf[16];
	struct insn i;
	int r;

	if (!mark_to(c, s, off, off + INSN_MAX_LEN))
		return -ESTALE;
	r = insn_decode_memo(&ic->memo, &i, (const uint8_t *)(lin + s->page->addend), MIN(room, INSN_MAX_LEN), code_bits(c));
	if (r == -ENODATA && room < INSN_MAX_LEN) {
		if (!first)
			return -EAGAIN;
		fetch_straddling(ic, b, s, lin, buf);
		r = insn_decode(&i, buf, INSN_MAX_LEN, code_bits(c));
	}
	*len = r == 0 ? i.len : 1;
	if (c->cs_limited && c->s.rip + at + *len - 1 > c->s.seg[X86_CS].limit) {
		if (!first)
			return -EAGAIN;
		init_uop(u, at, op_gp_limit);
		b->n++;
		return 1;
	}
	if (r < 0) {
		init_uop(u, at, r == -E2BIG || r == -ENODATA ? op_gp_limit : op_ud);
		b->n++;
		return 1;
	}
	init_uop(u, at, NULL);
	b->n++;
	ic->c.n_decode++;
	return interp_build(ic, u, &i) || b->two;
}

/* Fills b from the code at lin. -ESTALE: start over. */
static int fill_block(struct interp_cpu *ic, struct block *b, struct source *s, unsigned max)
{
	struct x86_cpu *c = &ic->c;
	uint64_t lin = s->lin;
	unsigned len, at = 0;
	int r = 0;

	while (b->n < max) {
		r = add_insn(ic, b, s, at, lin, b->n == 0, &len);
		if (r == -ESTALE)
			return r;
		if (r == -EAGAIN)
			break;
		at += len;
		lin += len;
		if (c->mode != X86_MODE_LONG64)
			lin &= 0xffffffffu;
		if (r == 1 || (lin & 0xfff) == 0)
			break;
	}
	b->end = (uint16_t)at;
	b->units = (uint8_t)(1 + b->n + b->two);
	if (r != 1 || b->two) {
		end_uop(&b->ops[b->n], at);
		b->units++;
	}
	b->version = s->version;
	b->verp = s->page->version;
	return 0;
}

static void init_block(struct x86_cpu *c, struct block *b, uint64_t gpa)
{
	memset(b, 0, sizeof(*b));
	b->gpa = gpa;
	b->key = c->block_key;
}

/* Code in device memory: one instruction, read byte by byte, never cached. */
static struct block *device_block(struct interp_cpu *ic, uint64_t lin)
{
	struct x86_cpu *c = &ic->c;
	struct block *b = ic->scratch;
	uint64_t gpa = c->fill_gpa;
	uint8_t buf[INSN_MAX_LEN];
	struct insn i;
	bool ends;
	int r;

	x86_trial_refuse(c);
	for (unsigned k = 0; k < sizeof(buf); k++)
		bus_access(c->vcpu.m->mmio, gpa + k, &buf[k], 1, false);
	init_block(c, b, gpa);
	r = insn_decode(&i, buf, sizeof(buf), code_bits(c));
	if (r < 0) {
		init_uop(&b->ops[0], 0, op_ud);
		b->n = 1;
		return b;
	}
	init_uop(&b->ops[0], 0, NULL);
	b->n = 1;
	ends = interp_build(ic, &b->ops[0], &i);
	if (!ends)
		end_uop(&b->ops[1], i.len);
	return b;
}

static struct block *make_block(struct interp_cpu *ic, struct block *b, uint64_t lin, unsigned max)
{
	struct x86_cpu *c = &ic->c;
	struct source s;
	int r;

	do {
		memset(&s, 0, sizeof(s));
		s.lin = lin;
		s.page = x86_tlb_fill(c, lin, X86_EXEC, exec_class(c));
		if (!s.page)
			return device_block(ic, lin);
		init_block(c, b, s.page->gpa | (lin & 0xfff));
		r = fill_block(ic, b, &s, max);
	} while (r == -ESTALE);
	return b;
}

static bool limit_ok(const struct x86_cpu *c, const struct block *b)
{
	return !c->cs_limited || c->s.rip + b->end - 1 <= c->s.seg[X86_CS].limit;
}

/* Does the page after lin's still lead to the second part of the block? */
static bool second_page_same(struct x86_cpu *c, const struct block *b, uint64_t lin)
{
	const struct x86_tlb_entry *p2;
	uint64_t lin2 = (lin & ~0xfffull) + PAGE_4K;

	if (!b->two)
		return true;
	p2 = x86_tlb_fill(c, c->mode == X86_MODE_LONG64 ? lin2 : (uint32_t)lin2, X86_EXEC, exec_class(c));
	return p2 && p2->gpa == block_page2(b)->gpa;
}

static struct block *find_block(struct interp_cpu *ic, uint64_t lin, uint64_t gpa)
{
	struct x86_cpu *c = &ic->c;
	struct block *b, *next;

	for (b = arena_first(ic, gpa); b; b = next) {
		next = arena_next(ic, b);
		if (b->gpa != gpa || b->key != c->block_key)
			continue;
		if (!block_current(b))
			arena_unlink(ic, b);	/* its room comes back later */
		else if (second_page_same(c, b, lin))
			return b;
	}
	return NULL;
}

struct block *interp_block(struct interp_cpu *ic, bool single)
{
	struct x86_cpu *c = &ic->c;
	uint64_t lin = c->s.rip + c->cs_base, gpa;
	const struct x86_tlb_entry *page;
	struct block *b;

	if (c->mode != X86_MODE_LONG64)
		lin &= 0xffffffffu;
	if (exec_cache_full(ic->exec))
		interp_blocks_drop(ic);
	if (c->cs_limited && c->s.rip > c->s.seg[X86_CS].limit)
		x86_gp(c, 0);
	if (single)
		return make_block(ic, ic->scratch, lin, 1);
	page = x86_tlb_fill(c, lin, X86_EXEC, exec_class(c));
	if (!page)
		return device_block(ic, lin);
	gpa = page->gpa | (lin & 0xfff);
	b = ic->front[front_index(lin)];
	if (b && b->gpa == gpa && b->key == c->block_key && !b->two &&
	    block_current(b) && !c->cs_limited)
		return b;	/* only the TLB had forgotten the page */
	b = find_block(ic, lin, gpa);
	if (b && !limit_ok(c, b))
		return make_block(ic, ic->scratch, lin, 1);
	if (b) {
		b->used = true;
	} else {
		b = make_block(ic, arena_room(ic), lin, BLOCK_MAX_UOPS);
		if (b == ic->scratch)
			return b;
		arena_keep(ic, b);
		ic->n_blocks_made++;
	}
	if (!b->two)	/* a block over two pages has a second translation to check */
		ic->front[front_index(lin)] = b;
	return b;
}
