/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loops over memory, which the translator unrolls and probes for before they
 * begin: random ones, on two engines, compared.
 *
 *	loops [--engine NAME] [--bits 64|32] [--seed S] [--count N] [--verbose]
 *
 * A case is a loop of a few instructions with memory operands whose registers move
 * by constants (or do not), over pages that can be written, that can be read only,
 * and that are absent: so it runs through page ends, and often into a fault in some
 * round.  Exit status 0: no difference, and some were unrolled; 1; 77: not available here.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "rig.h"

#define M(x) ZYDIS_MNEMONIC_##x
#define MAX_INSNS 5

struct maker {
	uint64_t s;
	struct rig_case *c;
	bool failed;
};

static uint64_t next(struct maker *m)
{
	m->s ^= m->s << 13;
	m->s ^= m->s >> 7;
	return m->s ^= m->s << 17;
}

static unsigned upto(struct maker *m, unsigned n) { return (unsigned)((next(m) >> 20) % n); }

#define PICK(m, list) ((list)[upto(m, ARRAY_LEN(list))])

/* Registers by Zydis's order (as the hardware's); R12 or EDX counts, RSP stays where it is. */
static const uint8_t bases64[] = { 1, 3, 5, 6, 7, 8, 9, 13, 15 }, indices64[] = { 0, 10, 14, 11 };
static const uint8_t bases32[] = { 1, 3, 5, 6 }, indices32[] = { 0, 7 };

static ZydisRegister gpr(unsigned size, unsigned n)
{
	switch (size) {
	case 8: return (ZydisRegister)(ZYDIS_REGISTER_RAX + n);
	case 4: return (ZydisRegister)(ZYDIS_REGISTER_EAX + n);
	case 2: return (ZydisRegister)(ZYDIS_REGISTER_AX + n);
	/* Zydis has AH CH DH BH behind BL. */
	default: return (ZydisRegister)(n < 4 ? ZYDIS_REGISTER_AL + n : ZYDIS_REGISTER_R8B + n - 8);
	}
}

static unsigned base(struct maker *m) { return m->c->bits == 64 ? PICK(m, bases64) : PICK(m, bases32); }
static unsigned index_reg(struct maker *m) { return m->c->bits == 64 ? PICK(m, indices64) : PICK(m, indices32); }
static unsigned counter(const struct maker *m) { return m->c->bits == 64 ? 12 : 2; }
static unsigned word(const struct maker *m) { return m->c->bits / 8; }

/* Any but the counter, the stack pointer and (mostly) those that addresses are made of. */
static ZydisRegister some_gpr(struct maker *m, unsigned size)
{
	static const uint8_t free64[] = { 2, 2, 11, 14, 9, 0 }, free32[] = { 7, 7, 0 }, free8[] = { 0, 0, 8, 9 };

	if (size == 1)
		return gpr(1, m->c->bits == 64 ? PICK(m, free8) : 0);
	return gpr(size, m->c->bits == 64 ? PICK(m, free64) : PICK(m, free32));
}

static ZydisEncoderOperand reg_op(ZydisRegister r)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_REGISTER, .reg.value = r };
}

static ZydisEncoderOperand imm_op(int64_t v)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_IMMEDIATE, .imm.s = v };
}

static ZydisEncoderOperand mem_op(struct maker *m, unsigned size)
{
	static const int16_t disps[] = { 0, 0, 0, 8, 16, 32, -16, 64, 4, 1, 0x100 };
	ZydisEncoderOperand o = { .type = ZYDIS_OPERAND_TYPE_MEMORY };

	o.mem.base = gpr(word(m), base(m));
	if (upto(m, 3) == 0) {
		o.mem.index = gpr(word(m), index_reg(m));
		o.mem.scale = (ZyanU8)(1u << upto(m, 4));
	}
	o.mem.displacement = PICK(m, disps);
	o.mem.size = (ZyanU16)size;
	return o;
}

static void emit(struct maker *m, ZydisMnemonic mn, unsigned n, const ZydisEncoderOperand *op)
{
	struct rig_case *c = m->c;
	uint8_t buf[ZYDIS_MAX_INSTRUCTION_LENGTH];
	ZydisEncoderRequest r = { 0 };
	ZyanUSize len = sizeof(buf);

	r.machine_mode = c->bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
	r.mnemonic = mn;
	r.operand_count = (ZyanU8)n;
	for (unsigned k = 0; k < n; k++)
		r.operands[k] = op[k];
	if (!ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&r, buf, &len)) || c->len + len > RIG_CODE_MAX) {
		m->failed = true;
		return;
	}
	memcpy(c->code + c->len, buf, len);
	c->len += (unsigned)len;
}

static void emit2(struct maker *m, ZydisMnemonic mn, ZydisEncoderOperand a, ZydisEncoderOperand b)
{
	emit(m, mn, 2, (ZydisEncoderOperand[]){ a, b });
}

/* One of the loop's instructions. */
static void body(struct maker *m)
{
	static const ZydisMnemonic alu[] = { M(ADD), M(SUB), M(XOR), M(OR), M(AND), M(CMP), M(TEST), M(MOV), M(MOV), M(ADC) };
	static const ZydisMnemonic sse[] = { M(ADDPS), M(MULPS), M(PXOR), M(PADDD), M(MOVAPS), M(MOVUPS), M(MOVDQU), M(AESENC), M(SUBPD) };
	static const ZydisMnemonic avx[] = { M(VPXOR), M(VPADDQ), M(VADDPS) };
	static const ZydisMnemonic bits[] = { M(SHL), M(ROR), M(SAR) };
	static const ZydisMnemonic cc[] = { M(CMOVZ), M(CMOVB), M(CMOVNS) };
	static const uint8_t sizes[] = { 1, 2, 4, 4, 8, 8 };
	unsigned size = PICK(m, sizes), x = upto(m, 8);
	ZydisEncoderOperand xmm = reg_op((ZydisRegister)(ZYDIS_REGISTER_XMM0 + x)), ymm = reg_op((ZydisRegister)(ZYDIS_REGISTER_YMM0 + x));

	size = MIN(size, word(m));
	switch (upto(m, 14)) {
	case 0: case 1: emit2(m, PICK(m, alu), reg_op(some_gpr(m, size)), mem_op(m, size)); break;
	case 2: emit2(m, PICK(m, alu), mem_op(m, size), reg_op(some_gpr(m, size))); break;
	case 3: emit2(m, M(MOV), mem_op(m, size), reg_op(some_gpr(m, size))); break;
	case 4: case 5: emit2(m, PICK(m, sse), xmm, mem_op(m, 16)); break;
	case 6: emit2(m, upto(m, 2) ? M(MOVAPS) : M(MOVDQU), mem_op(m, 16), xmm); break;
	case 7: emit(m, PICK(m, avx), 3, (ZydisEncoderOperand[]){ ymm, reg_op(ZYDIS_REGISTER_YMM3), mem_op(m, 32) }); break;
	case 8: emit2(m, M(VMOVDQU), mem_op(m, 32), ymm); break;
	case 9: emit2(m, M(LEA), reg_op(gpr(word(m), upto(m, 2) ? base(m) : index_reg(m))), mem_op(m, 0)); break;
	case 10: emit2(m, PICK(m, bits), reg_op(some_gpr(m, word(m))), imm_op(1 + upto(m, 7))); break;
	case 11: emit2(m, PICK(m, cc), reg_op(some_gpr(m, word(m))), mem_op(m, word(m))); break;
	case 12: emit2(m, M(XADD), mem_op(m, size), reg_op(some_gpr(m, size))); break;
	default: emit2(m, M(MOVZX), reg_op(some_gpr(m, 4)), mem_op(m, 1)); break;
	}
}

static void step(struct maker *m, unsigned reg)
{
	static const int16_t by[] = { 1, 4, 8, 16, 16, 32, 64, -8, -16, 0x100, 0x7f0, 0x1000 };
	ZydisEncoderOperand r = reg_op(gpr(word(m), reg));
	int v = PICK(m, by);
	ZydisEncoderOperand at = { .type = ZYDIS_OPERAND_TYPE_MEMORY };

	switch (upto(m, 6)) {
	case 0: emit(m, M(INC), 1, &r); break;
	case 1: emit2(m, M(SUB), r, imm_op(v)); break;
	case 2:
		at.mem.base = r.reg.value;
		at.mem.displacement = v;
		at.mem.size = (ZyanU16)word(m);
		emit2(m, M(LEA), r, at);
		break;
	default: emit2(m, M(ADD), r, imm_op(v)); break;
	}
}

/* How it ends: most ways leave no flag as it was. */
static void ending(struct maker *m)
{
	unsigned rounds = 1 + upto(m, 60), n = counter(m);
	ZydisEncoderOperand r = reg_op(gpr(word(m), n)), op[1];
	int stride = 1 << upto(m, 5);
	uint8_t cc = 0x75;		/* jnz */

	m->c->gpr[n] = rounds;
	switch (upto(m, 5)) {
	case 0:
		m->c->gpr[n] = (uint64_t)-(int64_t)(rounds * (unsigned)stride) & (m->c->bits == 64 ? ~0ull : 0xffffffffu);
		emit2(m, M(ADD), r, imm_op(stride));
		break;
	case 1:
		m->c->gpr[n] = 0;
		emit2(m, M(ADD), r, imm_op(stride));
		emit2(m, M(CMP), r, imm_op((int64_t)rounds * stride));
		cc = upto(m, 2) ? 0x75 : 0x72;	/* jb */
		break;
	case 2:
		op[0] = r;
		emit(m, M(DEC), 1, op);
		break;
	default: emit2(m, M(SUB), r, imm_op(1)); break;
	}
	if (m->c->len + 2 > RIG_CODE_MAX) {
		m->failed = true;
		return;
	}
	m->c->code[m->c->len] = cc;
	m->c->code[m->c->len + 1] = (uint8_t)-(int)(m->c->len + 2);
	m->c->len += 2;
}

/* Near the ends of pages more often than not. */
static uint64_t address(struct maker *m)
{
	static const uint16_t at[] = { 0x0000, 0x0fc0, 0x0f00, 0x1000, 0x1f00, 0x1fc0, 0x2e00, 0x0ff0, 0x0800, 0x2f80 };

	return RIG_DATA + PICK(m, at) + 4 * upto(m, 32) / (upto(m, 2) ? 1 : 16) * (upto(m, 2) ? 4 : 1);
}

static bool generate(uint64_t seed, unsigned bits, struct rig_case *c)
{
	struct maker m = { .s = seed * 0x2545f4914f6cdd1dull + 1, .c = c };
	unsigned n, steps;

	memset(c, 0, sizeof(*c));
	c->seed = seed;
	c->bits = bits;
	c->code_off = 0x100 + upto(&m, 0x800);
	c->rflags = X86_FL_FIXED | X86_FL_IF | (next(&m) & X86_FL_ARITH);
	for (unsigned k = 0; k < 16; k++)
		c->gpr[k] = address(&m);
	for (unsigned k = 0; k < ARRAY_LEN(indices64); k++)
		c->gpr[indices64[k]] = upto(&m, 64);
	c->gpr[7] = bits == 32 ? upto(&m, 64) : c->gpr[7];
	c->gpr[X86_RSP] = RIG_DATA + 0x800;
	c->fpu.mxcsr = 0x1f80;
	c->fpu.fx[0] = 0x7f;
	c->fpu.fx[1] = 0x03;
	for (unsigned k = 0; k < 16; k++)
		for (unsigned b = 0; b < 32; b += 8)
			st_le64(c->fpu.zmm[k] + b, next(&m) & 0x3fffffff3fffffff);
	for (unsigned k = 0; k < RIG_DATA_SIZE; k += 8)
		st_le64(c->data + k, next(&m) & 0x3fffffff3fffffff);
	n = 1 + upto(&m, MAX_INSNS - 1);
	steps = 1 + upto(&m, 2);
	for (unsigned k = 0; k < n; k++) {
		if (steps && upto(&m, n) == 0) {	/* not all at the end */
			step(&m, upto(&m, 3) ? base(&m) : index_reg(&m));
			steps--;
		}
		body(&m);
	}
	while (steps--)
		step(&m, upto(&m, 3) ? base(&m) : index_reg(&m));
	ending(&m);
	return !m.failed && c->code_off + c->len < RIG_PAGE;
}

static void show(const struct rig_case *c, const char *text)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisFormatter f;
	ZydisDecoder d;
	char line[128];

	ZydisDecoderInit(&d, c->bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
			 c->bits == 64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	printf("seed %" PRIu64 ", %u bits:\n", c->seed, c->bits);
	for (unsigned at = 0; at < c->len; at += z.length) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code + at, c->len - at, &z, ops)))
			break;
		ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, line, sizeof(line), RIG_CODE + c->code_off + at, NULL);
		printf("  %" PRIx64 "  %s\n", (uint64_t)RIG_CODE + c->code_off + at, line);
	}
	for (unsigned n = 0; n < 16; n++)
		printf("  gpr%u=%" PRIx64 "%s", n, c->gpr[n], n % 4 == 3 ? "\n" : "");
	printf("%s", text);
}

struct options {
	const char *engine;
	uint64_t seed, count;
	unsigned bits;
};

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option opts[] = { { "engine", required_argument, NULL, 'e' }, { "seed", required_argument, NULL, 's' },
		{ "count", required_argument, NULL, 'c' }, { "bits", required_argument, NULL, 'b' }, { 0 } };
	int k;

	while ((k = getopt_long(argc, argv, "", opts, NULL)) >= 0) {
		switch (k) {
		case 'e': o->engine = optarg; break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 'b': o->bits = (unsigned)strtoul(optarg, NULL, 0); break;
		default: return -1;
		}
	}
	return o->bits == 64 || o->bits == 32 ? 0 : -1;
}

/* Is it the same on both? */
static bool agrees(struct rig_engine *ref, struct rig_engine *e, const struct rig_case *c, uint64_t *faults, char *text, unsigned len)
{
	static struct rig_result want, got;

	rig_engine_run(ref, c, &want);
	rig_engine_run(e, c, &got);
	*faults += want.fault != RIG_NO_FAULT;
	/* Flags that what follows would overwrite may differ when it faults (QUIRKS). */
	if (want.fault != RIG_NO_FAULT && got.fault == want.fault)
		got.rflags = (got.rflags & ~(uint64_t)X86_FL_ARITH) | (want.rflags & X86_FL_ARITH);
	snprintf(text, len, "  an engine did not come back\n");
	return want.valid && got.valid && !rig_compare(c, &want, &got, text, len);
}

int main(int argc, char **argv)
{
	struct options o = { .engine = "translate", .seed = 1, .count = 20000, .bits = 64 };
	uint64_t ran = 0, faults = 0, bad = 0, unrolled;
	struct rig_engine *e, *ref;
	static struct rig_case c;
	char text[8192];

	if (parse(argc, argv, &o) < 0)
		return 2;
	e = rig_engine_new(o.engine);
	ref = rig_engine_new("interp");
	if (!e || !ref) {
		printf("loops: engine %s is not available here\n", o.engine);
		return 77;
	}
	rig_engine_free_run(e);
	rig_engine_free_run(ref);
	for (uint64_t seed = o.seed; ran < o.count; seed++) {
		if (!generate(seed, o.bits, &c)) {
			if (o.count == 1)
				break;
			continue;
		}
		c.repeat = 3;
		ran++;
		if (!agrees(ref, e, &c, &faults, text, sizeof(text)) && bad++ < 10)
			show(&c, text);
	}
	unrolled = rig_engine_stat(e, "loops unrolled");
	printf("loops: %s, %u bits: %" PRIu64 " cases from seed %" PRIu64 ", %" PRIu64 " faulted, %" PRIu64 " unrolled, %" PRIu64 " differ\n",
	       o.engine, o.bits, ran, o.seed, faults, unrolled, bad);
	rig_engine_free(e);
	rig_engine_free(ref);
	return bad || (o.count >= 1000 && !unrolled) ? 1 : 0;
}
