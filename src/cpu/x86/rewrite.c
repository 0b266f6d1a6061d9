/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instruction is taken apart into prefixes, one of the four kinds of
 * register-extension prefix, opcode, ModRM and immediates; the extension bits
 * are edited in a common form (as if not inverted) and it is put together again.
 */
#include "cpu/x86/rewrite.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/state.h"

struct parts {
	uint8_t pfx[INSN_MAX_LEN], n_pfx;	/* mandatory and operand-size prefixes, in order */
	uint8_t kind;				/* enum insn_encoding */
	bool has_rex;
	uint8_t rex;				/* W R X B as in REX, for all kinds */
	uint8_t vex[4], n_vex;			/* C5, C4, 8F or 62 prefix bytes */
	uint8_t op[4], n_op;			/* escape and opcode bytes (opcode only after VEX) */
	bool has_modrm;
	uint8_t modrm;
	uint8_t imm[8], n_imm;
};

#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1

static bool is_legacy_prefix(uint8_t b)
{
	switch (b) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3: return true;
	default: return false;
	}
}

static unsigned take_prefixes(const struct insn *i, struct parts *p)
{
	unsigned n = 0;

	for (; n < i->len; n++) {
		uint8_t b = i->bytes[n];

		if (i->ssz == 8 && (b & 0xf0) == 0x40) {
			p->has_rex = true;
			p->rex = b & 0xf;
			continue;
		}
		if (!is_legacy_prefix(b))
			break;
		p->has_rex = false;	/* a REX that is not last is ignored */
		p->rex = 0;
		if (b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0)
			p->pfx[p->n_pfx++] = b;
	}
	return n;
}

static int take_vex(const struct insn *i, struct parts *p, unsigned n)
{
	uint8_t b0 = i->bytes[n];

	p->n_vex = i->encoding == INSN_EVEX ? 4 : b0 == 0xc5 ? 2 : 3;
	if (n + p->n_vex >= i->len)
		return -EINVAL;
	memcpy(p->vex, i->bytes + n, p->n_vex);
	p->rex = (uint8_t)(((p->vex[1] & 0x80) ? 0 : REX_R));
	if (p->n_vex > 2) {
		p->rex |= (p->vex[1] & 0x40) ? 0 : REX_X;
		p->rex |= (p->vex[1] & 0x20) ? 0 : REX_B;
		p->rex |= (p->vex[2] & 0x80) ? REX_W : 0;
	}
	if (i->ssz == 8)
		return 0;
	/* Outside 64-bit mode extension bits do not extend: bit 3 of vvvv, R' and V' are ignored. */
	p->rex &= REX_W;
	p->vex[p->n_vex == 2 ? 1 : 2] |= 0x40;
	if (p->kind == INSN_EVEX) {
		p->vex[1] |= 0x10;
		p->vex[3] |= 0x08;
	}
	return 0;
}

/* Short forms of 32-bit code whose opcodes mean something else in 64-bit code. */
static void lengthen(const struct insn *i, struct parts *p)
{
	if (i->ssz == 8 || i->encoding != INSN_LEGACY || i->map != 0 || i->has_modrm)
		return;
	if ((i->opcode & 0xf0) == 0x40) {	/* INC and DEC of a register */
		p->op[0] = 0xff;
		p->modrm = 0xc0 | (i->opcode & 0xf);
		p->has_modrm = true;
	} else if ((i->opcode & 0xfc) == 0xa0) {	/* MOV between the accumulator and an absolute address */
		p->op[0] = (uint8_t)(0x8a | (i->opcode & 1));
		if (i->opcode & 2)
			p->op[0] &= (uint8_t)~2;
		p->has_modrm = true;
		p->n_imm = 0;
	}
}

static int take_apart(const struct insn *i, struct parts *p)
{
	unsigned n, end, mod_len;

	memset(p, 0, sizeof(*p));
	p->kind = i->encoding;
	n = take_prefixes(i, p);
	if (i->encoding != INSN_LEGACY) {
		if (take_vex(i, p, n) < 0)
			return -EINVAL;
		n += p->n_vex;
	}
	end = i->has_modrm ? i->modrm_off : (unsigned)i->opcode_off + 1;
	if (end <= n || end - n > sizeof(p->op) || end > i->len)
		return -EINVAL;
	p->n_op = (uint8_t)(end - n);
	memcpy(p->op, i->bytes + n, p->n_op);
	n = end;
	if (i->has_modrm) {
		p->has_modrm = true;
		p->modrm = i->bytes[n++];
		mod_len = 0;
		if (i->mod != 3) {
			if (i->rm == 4 && i->asz != 2)
				mod_len++;
			mod_len += i->disp_size;
		}
		n += mod_len;
	}
	if (n > i->len || i->len - n > (int)sizeof(p->imm))
		return -EINVAL;
	p->n_imm = (uint8_t)(i->len - n);
	memcpy(p->imm, i->bytes + n, p->n_imm);
	lengthen(i, p);
	return 0;
}

static void set_rex_bit(struct parts *p, uint8_t bit, bool on)
{
	p->rex = (uint8_t)(on ? p->rex | bit : p->rex & ~bit);
}

static void rename_rsp(struct parts *p, uint8_t fields, uint8_t reg)
{
	if (fields & OP_FIELD_REG) {
		p->modrm = (uint8_t)((p->modrm & ~0x38) | (reg & 7) << 3);
		set_rex_bit(p, REX_R, reg & 8);
		if (p->kind == INSN_EVEX)
			p->vex[1] |= 0x10;
	}
	if (fields & OP_FIELD_RM) {
		p->modrm = (uint8_t)((p->modrm & ~7) | (reg & 7));
		set_rex_bit(p, REX_B, reg & 8);
		set_rex_bit(p, REX_X, false);
	}
	if (fields & OP_FIELD_VVVV) {
		uint8_t *v = &p->vex[p->n_vex == 2 ? 1 : 2];

		*v = (uint8_t)((*v & ~0x78) | (~reg & 0xf) << 3);
	}
}

static void emit(struct rewrite *r, uint8_t b)
{
	if (r->len < sizeof(r->bytes))
		r->bytes[r->len++] = b;
}

static void put_vex(struct parts *p, struct rewrite *r)
{
	uint8_t inv = (uint8_t)(((p->rex & REX_R) ? 0 : 0x80) | ((p->rex & REX_X) ? 0 : 0x40) |
				((p->rex & REX_B) ? 0 : 0x20));

	if (p->n_vex == 2 && !(p->rex & (REX_X | REX_B))) {
		p->vex[1] = (uint8_t)((p->vex[1] & 0x7f) | (inv & 0x80));
	} else if (p->n_vex == 2) {	/* B is needed: the three-byte form */
		p->vex[2] = p->vex[1] & 0x7f;
		p->vex[0] = 0xc4;
		p->vex[1] = inv | 1;
		p->n_vex = 3;
	} else {
		p->vex[1] = (uint8_t)((p->vex[1] & 0x1f) | inv);
		p->vex[2] = (uint8_t)((p->vex[2] & 0x7f) | ((p->rex & REX_W) ? 0x80 : 0));
	}
	for (unsigned n = 0; n < p->n_vex; n++)
		emit(r, p->vex[n]);
}

static void put_modrm(const struct insn *i, const struct parts *p, struct rewrite *r)
{
	uint8_t base = r->mem_reg & 7;

	if (!i->has_mem) {
		emit(r, p->modrm);
		return;
	}
	if (r->mem_disp || r->has_index) {	/* always four bytes: one would be scaled with EVEX */
		bool sib = base == 4 || r->has_index;

		emit(r, (uint8_t)(0x80 | (p->modrm & 0x38) | (sib ? 4 : base)));
		if (sib)
			emit(r, (uint8_t)((r->has_index ? r->mem_index & 7 : 4) << 3 | base));
		for (unsigned n = 0; n < 4; n++)
			emit(r, (uint8_t)((uint32_t)r->mem_disp >> 8 * n));
		return;
	}
	emit(r, (uint8_t)((p->modrm & 0x38) | base | (base == 5 ? 0x40 : 0)));
	if (base == 4)
		emit(r, 0x24);
	if (base == 5)
		emit(r, 0);
}

/* How one attempt treats what 16 and 32-bit code leaves open. */
struct variant {
	bool clear_w;		/* W is ignored outside 64-bit mode where it would select a 64-bit register */
	bool flip_66;		/* operand size of 16-bit code */
	bool clear_is4;
};

static int put_together(const struct insn *i, const struct op_info *o, const struct parts *orig,
			const struct variant *v, struct rewrite *r)
{
	struct parts p = *orig;
	bool seen_66 = false;

	r->len = 0;
	if (i->has_mem) {
		if (r->mem_reg == INSN_NOREG)
			return -EINVAL;
		set_rex_bit(&p, REX_B, r->mem_reg & 8);
		set_rex_bit(&p, REX_X, r->has_index && (r->mem_index & 8));
	}
	if (o->rsp_fields && r->rsp_as != INSN_NOREG)
		rename_rsp(&p, o->rsp_fields, r->rsp_as);
	if (v->clear_w)
		p.rex &= (uint8_t)~REX_W;
	if (v->clear_is4 && p.n_imm)
		p.imm[p.n_imm - 1] &= 0x7f;
	for (unsigned n = 0; n < p.n_pfx; n++) {
		if (p.pfx[n] == 0x66) {
			seen_66 = true;
			if (v->flip_66)
				continue;
		}
		emit(r, p.pfx[n]);
	}
	if (v->flip_66 && !seen_66)
		emit(r, 0x66);
	if (p.kind == INSN_LEGACY) {
		if (p.has_rex || p.rex)
			emit(r, 0x40 | p.rex);
	} else {
		put_vex(&p, r);
	}
	for (unsigned n = 0; n < p.n_op; n++)
		emit(r, p.op[n]);
	if (p.has_modrm)
		put_modrm(i, &p, r);
	for (unsigned n = 0; n < p.n_imm; n++)
		emit(r, p.imm[n]);
	return r->len <= INSN_MAX_LEN ? 0 : -EINVAL;
}

static bool same_operand(const struct insn_op *a, const struct insn_op *b, const struct rewrite *r)
{
	if (a->kind == INSN_OP_OTHER && b->kind == INSN_OP_OTHER)	/* EFLAGS and RFLAGS differ in size */
		return a->read == b->read && a->write == b->write;
	/* The library gives some hidden operands of 32-bit code no size. */
	if (a->size != b->size && !(a->hidden && !a->size))
		return false;
	if (a->kind != b->kind || a->read != b->read || a->write != b->write ||
	    a->hidden != b->hidden || a->high8 != b->high8 || a->imm != b->imm)
		return false;
	if (a->kind == INSN_OP_MEM)
		return true;
	if (a->kind == INSN_OP_GPR && !a->high8 && a->reg == X86_RSP && r->rsp_as != INSN_NOREG)
		return b->reg == r->rsp_as;
	return a->reg == b->reg;
}

static bool proves_equal(const struct insn *i, const struct rewrite *r)
{
	struct insn n;

	if (insn_decode(&n, r->bytes, r->len, 64) < 0 || n.len != r->len)
		return false;
	if (n.mnemonic != i->mnemonic || n.n_ops != i->n_ops || n.encoding != i->encoding || n.map != i->map ||
	    n.opcode != i->opcode || n.vec_len != i->vec_len || n.has_mem != i->has_mem ||
	    n.mem_size != i->mem_size || n.lock != i->lock)
		return false;
	if (n.has_mem && (n.mem_base != r->mem_reg || n.mem_index != INSN_NOREG || n.mem_disp || n.mem_vsib))
		return false;
	for (unsigned k = 0; k < n.n_ops; k++)
		if (!same_operand(&i->op[k], &n.op[k], r))
			return false;
	return true;
}

int insn_rename(const struct insn *i, struct rewrite *r)
{
	static const uint8_t field[] = { [INSN_ENC_REG] = OP_FIELD_REG, [INSN_ENC_RM] = OP_FIELD_RM, [INSN_ENC_VVVV] = OP_FIELD_VVVV };
	const struct op_info none = { 0 };
	const struct variant v = { .clear_w = r->variant & 1, .clear_is4 = r->variant & 2 };
	bool moffs = i->has_mem && !i->has_modrm;
	struct parts p;

	if (i->ssz == 2 || i->mem_vsib || (moffs && i->ssz == 8) || take_apart(i, &p) < 0)
		return -EINVAL;
	for (unsigned n = INSN_ENC_REG; n <= INSN_ENC_VVVV; n++)
		if (r->field_as[n] != INSN_NOREG)
			rename_rsp(&p, field[n], r->field_as[n]);
	if (r->field_as[INSN_ENC_OPCODE] != INSN_NOREG) {
		uint8_t as = r->field_as[INSN_ENC_OPCODE];
		uint8_t *b = p.has_modrm ? &p.modrm : &p.op[p.n_op - 1];

		*b = (uint8_t)((*b & ~7) | (as & 7));
		set_rex_bit(&p, REX_B, as & 8);
	}
	r->rsp_as = INSN_NOREG;
	return put_together(i, &none, &p, &v, r);
}

int insn_rewrite(const struct insn *i, const struct op_info *o, struct rewrite *r)
{
	unsigned variants = i->ssz == 8 ? 1 : 8;
	struct parts p;

	r->mem_disp = 0;
	r->has_index = false;
	if (i->mem_vsib || (i->has_mem && !i->has_modrm) || take_apart(i, &p) < 0)
		return -EINVAL;
	for (unsigned n = 0; n < variants; n++) {
		struct variant v = { .clear_w = n & 1, .flip_66 = n & 2, .clear_is4 = (n & 4) && o->is4 };

		if (!put_together(i, o, &p, &v, r) && proves_equal(i, r))
			return 0;
	}
	return -EINVAL;
}
