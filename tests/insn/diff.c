/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host differential: random instructions on the host's CPU and on an
 * engine, compared.
 *
 *	diff [--engine NAME] [--bits 64|32|16] [--seed S] [--count N] [--verbose] [--only TEXT] [--max-report N]
 *
 * A difference prints the case and the line that repeats it.  Exit status 0: no
 * difference, 1: some, 77: the engine is not available here.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "rig.h"

struct options {
	const char *engine, *only;
	uint64_t seed, count;
	unsigned max_report, repeat, bits;
	bool verbose;
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
		{ "verbose", no_argument, NULL, 'v' },	    { 0 },
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
		case 'v': o->verbose = true; break;
		default: return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { .engine = "interp", .seed = 1, .count = 20000, .max_report = 20, .bits = 64 };
	uint64_t ran = 0, faults = 0, lost = 0, bad = 0, seed;
	static struct rig_result want, got;
	static struct rig_case c;
	struct rig_engine *e;
	struct native *nat;
	char text[8192], dis[128];

	if (parse(argc, argv, &o) < 0)
		return 2;
	nat = native_new();
	e = rig_engine_new(o.engine);
	if (!nat || !e || !native_can(o.bits)) {
		printf("diff: engine %s with %u bits is not available here\n", o.engine, o.bits);
		return 77;
	}
	/* count is of cases run; with a count of 1 the seed is taken as it is. */
	for (seed = o.seed; ran < o.count; seed++) {
		if (!rig_generate(seed, o.bits, &c) || !rig_engine_takes(e, &c) ||
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
		if (!got.valid)
			snprintf(text, sizeof(text), "  the engine did not come back\n");
		else if (!rig_compare(&c, &want, &got, text, sizeof(text)))
			continue;
		if (bad++ < o.max_report)
			print_case(&o, &c, text);
	}
	printf("diff: %s, %u bits: %" PRIu64 " cases from seed %" PRIu64 ", %" PRIu64 " faulted, %" PRIu64
	       " not survivable natively, %" PRIu64 " differ\n", o.engine, o.bits, ran, o.seed, faults, lost, bad);
	rig_engine_free(e);
	native_free(nat);
	return bad ? 1 : 0;
}
