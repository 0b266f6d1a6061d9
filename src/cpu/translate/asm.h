/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small x86-64 assembler for the translator: what it inserts between copied
 * guest instructions.
 *
 * Names: r register, m memory [base + index << scale + disp], s memory [rsp + disp]
 * (the vCPU block), i immediate.  w: 1 = 64-bit operation, 0 = 32-bit.
 * Nothing here fails: a full buffer sets `over`, checked once at the end.
 */
#ifndef LODGE_CPU_TRANSLATE_ASM_H
#define LODGE_CPU_TRANSLATE_ASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15 };
#define H_NONE 0xff

/* Condition codes as encoded. */
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A };

struct xasm {
	uint8_t *p;		/* writable alias */
	uintptr_t run;		/* address at which p[0] will run */
	unsigned n, size;
	int32_t bias;		/* added to every [rsp + disp]: bytes pushed since the vCPU block */
	bool over;
};

static inline void a_b(struct xasm *a, unsigned v)
{
	if (a->n < a->size)
		a->p[a->n++] = (uint8_t)v;
	else
		a->over = true;
}
static inline void a_bytes(struct xasm *a, const void *p, unsigned n)
{
	if (a->n + n <= a->size) {
		memcpy(a->p + a->n, p, n);
		a->n += n;
	} else {
		a->over = true;
	}
}
static inline void a_d(struct xasm *a, uint32_t v) { a_bytes(a, &v, 4); }
static inline void a_q(struct xasm *a, uint64_t v) { a_bytes(a, &v, 8); }
static inline uintptr_t a_here(const struct xasm *a) { return a->run + a->n; }

void a_nops(struct xasm *a, unsigned left);	/* bytes */
void a_align(struct xasm *a, unsigned to);
/* op: one opcode byte, or 0x0fXX. */
void a_rr(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned rm);
void a_rm(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned base, unsigned index, unsigned scale, int32_t disp);
void a_mem_s(struct xasm *a, unsigned reg, int32_t disp);	/* the operand [rsp + disp] alone, behind an opcode */
void a_pext_s(struct xasm *a, unsigned d, unsigned s, int32_t disp);	/* d = bits of s that [rsp + disp] selects */
void a_rs(struct xasm *a, unsigned w, unsigned op, unsigned reg, int32_t disp);		/* [rsp + disp] */
void a_rsx(struct xasm *a, unsigned w, unsigned op, unsigned reg, unsigned index, int32_t disp);	/* [rsp + index*8 + disp] */

static inline void a_mov_rr(struct xasm *a, unsigned w, unsigned d, unsigned s) { a_rr(a, w, 0x8b, d, s); }
static inline void a_ld(struct xasm *a, unsigned r, int32_t disp) { a_rs(a, 1, 0x8b, r, disp); }
static inline void a_ld32(struct xasm *a, unsigned r, int32_t disp) { a_rs(a, 0, 0x8b, r, disp); }
static inline void a_st(struct xasm *a, unsigned r, int32_t disp) { a_rs(a, 1, 0x89, r, disp); }
static inline void a_st32(struct xasm *a, unsigned r, int32_t disp) { a_rs(a, 0, 0x89, r, disp); }
static inline void a_lea(struct xasm *a, unsigned w, unsigned r, unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	a_rm(a, w, 0x8d, r, base, index, scale, disp);
}
void a_mov_i(struct xasm *a, unsigned r, uint64_t v);
void a_st32_i(struct xasm *a, int32_t disp, uint32_t v);	/* mov dword [rsp + disp], v */
void a_alu_ri(struct xasm *a, unsigned w, unsigned ext, unsigned r, int32_t v);	/* ext: 0 add 4 and 5 sub 7 cmp */
void a_shift_ri(struct xasm *a, unsigned w, unsigned ext, unsigned r, unsigned n);	/* ext: 4 shl 5 shr */
void a_cmp_si8(struct xasm *a, bool byte, int32_t disp, int v);	/* cmp dword or byte [rsp + disp], v */
void a_push_pop(struct xasm *a, bool push, unsigned r);
void a_jmp(struct xasm *a, uintptr_t to);
void a_call(struct xasm *a, uintptr_t to);
/* Forward branches: returns where the displacement is; a_bind makes it come here. */
unsigned a_jcc_fwd(struct xasm *a, unsigned cc);
unsigned a_jmp_fwd(struct xasm *a);
void a_bind(struct xasm *a, unsigned at);
void a_bind8(struct xasm *a, unsigned at);	/* of one byte, which ends at `at` */
void a_jcc(struct xasm *a, unsigned cc, uintptr_t to);

#endif
