/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host differential: random instructions on the host's CPU and on an
 * engine, compared.
 *
 *	diff [--engine NAME] [--bits 64|32|16] [--seed S] [--count N] [--verbose] [--only TEXT] [--max-report N]
 *	     [--x87] [--insns N [--against NAME]]
 *
 * --x87: mostly x87 and MMX instructions.
 * With --insns a case is a block of N random instructions with forward branches
 * between them, and two engines are compared, each running it several times.
 *
 * What CPUID does not have, and one side answers with #UD for that reason, is no
 * difference.  A difference prints the case and the line that repeats it.  Exit status 0: no
 * difference, 1: some, 77: the engine is not available here.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/opinfo.h"
#include "rig.h"

struct options {
	const char *engine, *only, *against;
	uint64_t seed, count;
	unsigned max_report, repeat, bits, insns;
	bool verbose, x87;
};

/* What of CPUID the two sides go by. */
struct offered {
	uint32_t host[X86_F_WORDS], engine[X86_F_WORDS];
};

static const char *disassemble(const struct rig_case *c, char *buf, size_t len)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisFormatter f;
	ZydisDecoder d;

	buf[0] = 0;
	if (c->bits == 16)
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
	else if (c->bits == 32)
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code, c->len, &z, ops)))
		ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, buf, len, RIG_CODE + c->code_off, NULL);
	return buf;
}

static void print_case(const struct options *o, const struct rig_case *c, const char *text)
{
	char dis[128];

	printf("seed %" PRIu64 ": ", c->seed);
	for (unsigned n = 0; n < c->len; n++)
		printf("%02x", c->code[n]);
	printf("  %s\n%s", disassemble(c, dis, sizeof(dis)), text);
	if (o->verbose) {
		for (unsigned n = 0; n < 16; n++)
			printf("  gpr%u=%" PRIx64 "%s", n, c->gpr[n], n % 4 == 3 ? "\n" : "");
		printf("  rflags=%" PRIx64 " mxcsr=%x fcw=%02x%02x fsw=%02x%02x ftw=%02x\n", c->rflags, c->fpu.mxcsr,
		       c->fpu.fx[1], c->fpu.fx[0], c->fpu.fx[3], c->fpu.fx[2], c->fpu.fx[4]);
	}
	printf("  again: diff --engine %s --bits %u --seed %" PRIu64 " --count 1 --verbose\n", o->engine, o->bits,
	       c->seed);
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option opts[] = {
		{ "engine", required_argument, NULL, 'e' }, { "seed", required_argument, NULL, 's' },
		{ "count", required_argument, NULL, 'c' },  { "only", required_argument, NULL, 'o' },
		{ "max-report", required_argument, NULL, 'm' }, { "repeat", required_argument, NULL, 'r' },
		{ "bits", required_argument, NULL, 'b' },
		{ "insns", required_argument, NULL, 'i' }, { "against", required_argument, NULL, 'a' },
		{ "verbose", no_argument, NULL, 'v' }, { "x87", no_argument, NULL, 'x' },	    { 0 },
	};
	int k;

	while ((k = getopt_long(argc, argv, "", opts, NULL)) >= 0) {
		switch (k) {
		case 'e': o->engine = optarg; break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 'o': o->only = optarg; break;
		case 'm': o->max_report = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'r': o->repeat = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'b': o->bits = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'i': o->insns = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'a': o->against = optarg; break;
		case 'v': o->verbose = true; break;
		case 'x': o->x87 = true; break;
		default: return -1;
		}
	}
	return 0;
}

static bool unfit(const struct options *o, const struct rig_case *c)
{
	ZydisDecodedInstruction z;
	ZydisDecoder d;

	ZydisDecoderInit(&d, o->bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
			 o->bits == 32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, c->code, c->len, &z)))
		return true;
	/* Later instructions would see flags that engines need not agree about. */
	if (z.cpu_flags && (z.cpu_flags->undefined & (X86_FL_ARITH & ~X86_FL_AF)) && z.meta.category != ZYDIS_CATEGORY_SHIFT &&
	    z.meta.category != ZYDIS_CATEGORY_ROTATE)
		return true;
	switch (z.meta.category) {
	case ZYDIS_CATEGORY_CALL: case ZYDIS_CATEGORY_RET: case ZYDIS_CATEGORY_COND_BR: case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_INTERRUPT: case ZYDIS_CATEGORY_SYSCALL: case ZYDIS_CATEGORY_SYSTEM: case ZYDIS_CATEGORY_RDRAND:
	case ZYDIS_CATEGORY_RDSEED: return true;
	default: break;
	}
	switch (z.mnemonic) {
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ: case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_RDTSC: case ZYDIS_MNEMONIC_RDTSCP: return true;
	default: return false;
	}
}

static void what_is_offered(struct offered *f)
{
	struct x86_cpu_model max;
	struct err err = { 0 };

	x86_host_features(f->host);
	x86_soft_features(f->engine);
	if (x86_cpu_model_parse("max", f->engine, 1, &max, &err) == 0)
		memcpy(f->engine, max.feat, sizeof(f->engine));
}

static bool lacks(const uint32_t *feat, const struct op_info *i)
{
	for (unsigned n = 0; n < i->n_features; n++)
		if (!(feat[i->feature[n].word] & i->feature[n].bit))
			return true;
	return false;
}

/*
 * #UD on one side only, and there CPUID does not have the instruction: as it has
 * to be.  The host's CPU may well execute what its hypervisor does not show.
 */
static bool not_offered(const struct offered *f, const struct rig_case *c, const struct rig_result *want,
			const struct rig_result *got)
{
	bool host_ud = want->fault == X86_EX_UD, engine_ud = got->fault == X86_EX_UD;
	struct op_info info;
	struct insn i;

	if (host_ud == engine_ud || insn_decode(&i, c->code, c->len, c->bits) < 0 || op_info_get(&i, &info) < 0 ||
	    !info.known)
		return false;
	return lacks(engine_ud ? f->engine : f->host, &info);
}

/* Displacements that keep a memory operand near what registers point to; FS and GS in 32-bit code. */
static void tame(uint64_t s, struct rig_case *one)
{
	struct insn i;

	if (insn_decode(&i, one->code, one->len, one->bits) < 0 || !i.has_mem)
		return;
	if (i.disp_size == 4 && i.mem_base != INSN_RIP && i.mem_base != INSN_NOREG)
		st_le32(one->code + i.disp_off, (uint32_t)(s / 7 % 64) * 8 - 128);
	if (one->bits == 32 && s % 4 == 1 && one->len < INSN_MAX_LEN) {
		memmove(one->code + 1, one->code, one->len++);
		one->code[0] = s % 8 == 1 ? 0x64 : 0x65;
	}
}

/* FS and GS with a base; some with a limit or type that matters.  Upper halves of registers, which stay. */
static void odd_state(uint64_t seed, struct rig_case *c)
{
	static const uint32_t bases[] = { 0, 0x40, 0x108, 0xffffffc0, 0x1000, 0xc0000000 };

	for (unsigned n = 0; n < 2; n++, seed /= 7) {
		struct x86_seg *g = &c->fs_gs[n];

		g->sel = 0x1b;
		g->base = bases[seed % ARRAY_LEN(bases)];
		g->limit = seed % 5 ? 0xffffffff : RIG_DATA + 0xfff;
		/* Writable, else read-only, expand-down or (almost) code that can be read. */
		g->attr = seed % 4 ? 0xc0f3 : seed / 4 % 3 == 0 ? 0xc0f1 : seed / 4 % 3 == 1 ? 0xc0f7 : 0xc0fb;
	}
	for (unsigned n = 0; n < 16; n++)
		c->gpr[n] |= seed % 3 ? 0 : (seed + n) * 0x9e3779b97f4a7c15ull << 32;
}

/* A block: straight-line instructions, now and then skipped by a branch. */
static bool generate_block(const struct options *o, uint64_t seed, struct rig_case *c)
{
	enum rig_mix mix = o->x87 ? RIG_X87_IMAGES : RIG_ALL;
	static struct rig_case one;
	unsigned n = 0;

	if (!rig_generate_mix(seed, o->bits, mix, c) || c->code_off + RIG_CODE_MAX > RIG_PAGE)
		return false;
	c->len = 0;
	if (o->bits == 32)
		odd_state(seed, c);
	for (uint64_t s = seed * 1000; n < o->insns && s < seed * 1000 + 400; s++) {
		if (!rig_generate_mix(s, o->bits, mix, &one) || unfit(o, &one))
			continue;
		tame(s, &one);
		if (c->len + one.len + 2 > RIG_CODE_MAX)
			break;
		if (s % 3 == 0) {
			c->code[c->len++] = (uint8_t)(0x70 | (s / 3 & 15));
			c->code[c->len++] = (uint8_t)one.len;
		}
		memcpy(c->code + c->len, one.code, one.len);
		c->len += one.len;
		n++;
	}
	return n > 0;
}

/* Two engines on blocks. */
static int blocks(const struct options *o)
{
	struct rig_engine *e = rig_engine_new(o->engine), *ref = rig_engine_new(o->against ? o->against : "interp");
	uint64_t ran = 0, faults = 0, bad = 0;
	static struct rig_result want, got;
	static struct rig_case c;
	char text[8192];

	if (!e || !ref) {
		printf("diff: engine %s or its reference is not available here\n", o->engine);
		return 77;
	}
	rig_engine_free_run(e);
	rig_engine_free_run(ref);
	for (uint64_t seed = o->seed; ran < o->count; seed++) {
		if (!generate_block(o, seed, &c))
			continue;
		c.repeat = o->repeat ? o->repeat : 3;
		ran++;
		rig_engine_run(ref, &c, &want);
		rig_engine_run(e, &c, &got);
		faults += want.fault != RIG_NO_FAULT;
		/* Flags that what follows would overwrite may differ when it faults (QUIRKS). */
		if (want.fault != RIG_NO_FAULT && got.fault == want.fault)
			got.rflags = (got.rflags & ~(uint64_t)X86_FL_ARITH) | (want.rflags & X86_FL_ARITH);
		if (want.valid && got.valid && !rig_compare(&c, &want, &got, text, sizeof(text)) &&
		    !rig_compare_x87_pointers(&want, &got, text, sizeof(text)))
			continue;
		if (!want.valid || !got.valid)
			snprintf(text, sizeof(text), "  an engine did not come back\n");
		if (bad++ < o->max_report) {
			print_case(o, &c, text);
			printf("  again: diff --engine %s --insns %u --seed %" PRIu64 " --count 1 --verbose\n", o->engine, o->insns, seed);
		}
	}
	printf("diff: %s, blocks of %u: %" PRIu64 " cases from seed %" PRIu64 ", %" PRIu64 " faulted, %" PRIu64 " differ\n",
	       o->engine, o->insns, ran, o->seed, faults, bad);
	rig_engine_free(e);
	rig_engine_free(ref);
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct options o = { .engine = "interp", .seed = 1, .count = 20000, .max_report = 20, .bits = 64 };
	uint64_t ran = 0, faults = 0, lost = 0, beyond = 0, bad = 0, seed;
	struct offered offered;
	static struct rig_result want, got;
	static struct rig_case c;
	struct rig_engine *e;
	struct native *nat;
	char text[8192], dis[128];

	if (parse(argc, argv, &o) < 0)
		return 2;
	if (o.insns)
		return blocks(&o);
	nat = native_new();
	e = rig_engine_new(o.engine);
	if (!nat || !e || !native_can(o.bits)) {
		printf("diff: engine %s with %u bits is not available here\n", o.engine, o.bits);
		return 77;
	}
	what_is_offered(&offered);
	/* count is of cases run; with a count of 1 the seed is taken as it is. */
	for (seed = o.seed; ran < o.count; seed++) {
		if (!rig_generate_mix(seed, o.bits, o.x87 ? RIG_X87 : RIG_ALL, &c) || !rig_engine_takes(e, &c) ||
		    (o.only && !strstr(disassemble(&c, dis, sizeof(dis)), o.only))) {
			if (o.count == 1)
				break;
			continue;
		}
		c.repeat = o.repeat;
		ran++;
		native_run(nat, &c, &want);
		if (!want.valid) {
			lost++;
			if (o.verbose)
				print_case(&o, &c, "  lost\n");
			continue;
		}
		faults += want.fault != RIG_NO_FAULT;
		rig_engine_run(e, &c, &got);
		if (got.valid && not_offered(&offered, &c, &want, &got)) {
			beyond++;
			continue;
		}
		if (!got.valid)
			snprintf(text, sizeof(text), "  the engine did not come back\n");
		else if (!rig_compare(&c, &want, &got, text, sizeof(text)))
			continue;
		if (bad++ < o.max_report)
			print_case(&o, &c, text);
	}
	printf("diff: %s, %u bits: %" PRIu64 " cases from seed %" PRIu64 ", %" PRIu64 " faulted, %" PRIu64
	       " not survivable natively, %" PRIu64 " not in CPUID, %" PRIu64 " differ\n", o.engine, o.bits, ran, o.seed,
	       faults, lost, beyond, bad);
	rig_engine_free(e);
	native_free(nat);
	return bad ? 1 : 0;
}
