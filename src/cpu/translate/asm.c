/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encodings: SDM vol. 2, chapter 2. */
#include "cpu/translate/asm.h"

void a_nops(struct xasm *a, unsigned left)
{
	/* Multi-byte no-ops as recommended by the SDM (NOP). */
	static const uint8_t nops[9][9] = {
		{ 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 }, { 0x0f, 0x1f, 0x40, 0 }, { 0x0f, 0x1f, 0x44, 0, 0 },
		{ 0x66, 0x0f, 0x1f, 0x44, 0, 0 }, { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 }, { 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 },
		{ 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 },
	};

	while (left) {
		unsigned n = left > 9 ? 9 : left;

		a_bytes(a, nops[n - 1], n);
		left -= n;
	}
}

void a_align(struct xasm *a, unsigned to) { a_nops(a, (unsigned)(-a_here(a) & (to - 1))); }

static void opcode(struct xasm *a, unsigned rex, unsigned op)
{
	if (rex)
		a_b(a, 0x40 | rex);
	if (op > 0xff)
		a_b(a, op >> 8);
	a_b(a, op);
}

void a_rr(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned rm)
{
	opcode(a, w << 3 | (reg & 8) >> 1 | (rm & 8) >> 3, op);
	a_b(a, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void a_rm(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	unsigned b = base == H_NONE ? 5 : base, x = index == H_NONE ? 4 : index, mod;
	bool sib = index != H_NONE || base == H_NONE || (b & 7) == 4;

	opcode(a, w << 3 | (reg & 8) >> 1 | (index == H_NONE ? 0 : (x & 8) >> 2) | (base == H_NONE ? 0 : (b & 8) >> 3), op);
	if (base == H_NONE)
		mod = 0;
	else if (disp == 0 && (b & 7) != 5)
		mod = 0;
	else
		mod = disp >= -128 && disp <= 127 ? 1 : 2;
	a_b(a, mod << 6 | (reg & 7) << 3 | (sib ? 4 : b & 7));
	if (sib)
		a_b(a, scale << 6 | (x & 7) << 3 | (b & 7));
	if (mod == 1)
		a_b(a, (uint8_t)disp);
	else if (mod == 2 || base == H_NONE)
		a_d(a, (uint32_t)disp);
}

void a_mem_s(struct xasm *a, unsigned reg, int32_t disp)
{
	disp += a->bias;
	a_b(a, (disp >= -128 && disp <= 127 ? 0x40u : 0x80u) | (reg & 7) << 3 | 4);
	a_b(a, 0x24);
	if (disp >= -128 && disp <= 127)
		a_b(a, (uint8_t)disp);
	else
		a_d(a, (uint32_t)disp);
}

void a_pext_s(struct xasm *a, unsigned d, unsigned s, int32_t disp)
{
	a_b(a, 0xc4);
	a_b(a, (d & 8 ? 0 : 0x80) | 0x62);
	a_b(a, 0x82 | (~s & 15) << 3);
	a_b(a, 0xf5);
	a_mem_s(a, d, disp);
}

void a_rs(struct xasm *a, unsigned w, unsigned op, unsigned reg, int32_t disp)
{
	a_rm(a, w, op, reg, H_RSP, H_NONE, 0, disp + a->bias);
}

void a_rsx(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned index, int32_t disp)
{
	a_rm(a, w, op, reg, H_RSP, index, 3, disp + a->bias);
}

void a_mov_i(struct xasm *a, unsigned r, uint64_t v)
{
	if (v <= 0xffffffffu) {
		opcode(a, (r & 8) >> 3, 0xb8 | (r & 7));
		a_d(a, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		a_rr(a, 1, 0xc7, 0, r);
		a_d(a, (uint32_t)v);
	} else {
		opcode(a, 8 | (r & 8) >> 3, 0xb8 | (r & 7));
		a_q(a, v);
	}
}

void a_st32_i(struct xasm *a, int32_t disp, uint32_t v)
{
	a_rs(a, 0, 0xc7, 0, disp);
	a_d(a, v);
}

void a_alu_ri(struct xasm *a, unsigned w, unsigned ext, unsigned r, int32_t v)
{
	bool small = v >= -128 && v <= 127;

	a_rr(a, w, small ? 0x83 : 0x81, ext, r);
	if (small)
		a_b(a, (uint8_t)v);
	else
		a_d(a, (uint32_t)v);
}

void a_shift_ri(struct xasm *a, unsigned w, unsigned ext, unsigned r, unsigned n)
{
	a_rr(a, w, 0xc1, ext, r);
	a_b(a, n);
}

void a_cmp_si8(struct xasm *a, bool byte, int32_t disp, int v)
{
	a_rs(a, 0, byte ? 0x80 : 0x83, 7, disp);
	a_b(a, (uint8_t)v);
}

void a_push_pop(struct xasm *a, bool push, unsigned r)
{
	opcode(a, (r & 8) >> 3, (push ? 0x50u : 0x58u) | (r & 7));
}

static void rel32(struct xasm *a, uintptr_t to) { a_d(a, (uint32_t)(to - (a_here(a) + 4))); }

void a_jmp(struct xasm *a, uintptr_t to)
{
	a_b(a, 0xe9);
	rel32(a, to);
}

void a_call(struct xasm *a, uintptr_t to)
{
	a_b(a, 0xe8);
	rel32(a, to);
}

void a_jcc(struct xasm *a, unsigned cc, uintptr_t to)
{
	a_b(a, 0x0f);
	a_b(a, 0x80 | cc);
	rel32(a, to);
}

unsigned a_jcc_fwd(struct xasm *a, unsigned cc)
{
	a_b(a, 0x0f);
	a_b(a, 0x80 | cc);
	a_d(a, 0);
	return a->n - 4;
}

unsigned a_jmp_fwd(struct xasm *a)
{
	a_b(a, 0xe9);
	a_d(a, 0);
	return a->n - 4;
}

void a_bind8(struct xasm *a, unsigned at)
{
	if (!a->over)
		a->p[at - 1] = (uint8_t)(a->n - at);
}

void a_bind(struct xasm *a, unsigned at)
{
	uint32_t d = a->n - (at + 4);

	if (!a->over)
		memcpy(a->p + at, &d, 4);
}
