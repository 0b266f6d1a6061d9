/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator's counters for --stats.
 *
 * Emitted code counts nothing, but for probes of the TLB under the check engine:
 * what is counted otherwise is counted in C, which had to be called anyway.
 */
#include <stdio.h>

#include "cpu/translate/direct.h"
#include "cpu/x86/disasm.h"

#define TOP 24

struct sum {
	uint64_t enter, link, slow, light, fault, callouts, miss[XL_N_ACC][2], probe[XL_N_ACC][2], exit[XL_N_WHY];
	uint64_t callout[XL_N_MNEMONICS];
};

static void add(struct sum *t, const struct xl_cpu *x)
{
	t->enter += x->n_enter;
	t->link += x->n_link;
	t->slow += x->n_slow;
	t->light += x->n_light;
	t->fault += x->n_fault;
	for (unsigned a = 0; a < XL_N_ACC; a++)
		for (unsigned how = 0; how < 2; how++) {
			t->miss[a][how] += x->n_miss[a][how];
			t->probe[a][how] += x->n_probe[a][how];
		}
	for (unsigned n = 0; n < XL_N_WHY; n++)
		t->exit[n] += x->n_exit[n];
	for (unsigned n = 0; n < XL_N_MNEMONICS; n++) {
		t->callout[n] += x->n_callout[n];
		t->callouts += x->n_callout[n];
	}
}

static void tlb(const struct sum *t, engine_stat_fn fn, void *opaque)
{
	static const char *const class[XL_N_ACC] = { "kernel", "kernel with AC", "user" };
	char name[64];

	for (unsigned a = 0; a < XL_N_ACC; a++)
		for (unsigned how = 0; how < 2; how++) {
			uint64_t miss = t->miss[a][how], probe = t->probe[a][how];

			snprintf(name, sizeof(name), "TLB misses, %s %s", class[a], how ? "writes" : "reads");
			fn(opaque, name, miss);
			if (!probe)
				continue;
			snprintf(name, sizeof(name), "TLB hits, %s %s", class[a], how ? "writes" : "reads");
			fn(opaque, name, probe - MIN(probe, miss));
		}
}

/* The most frequent first. */
static void callouts(struct sum *t, engine_stat_fn fn, void *opaque)
{
	uint64_t rest = t->callouts;
	char name[64];

	fn(opaque, "calls of interp handlers", t->callouts);
	for (unsigned k = 0; k < TOP && rest; k++) {
		unsigned best = 0;

		for (unsigned n = 1; n < XL_N_MNEMONICS; n++)
			if (t->callout[n] > t->callout[best])
				best = n;
		snprintf(name, sizeof(name), "calls of interp handlers, %s", x86_mnemonic(best));
		fn(opaque, name, t->callout[best]);
		rest -= t->callout[best];
		t->callout[best] = 0;
	}
	if (rest)
		fn(opaque, "calls of interp handlers, others", rest);
}

static void memory(const struct xl_engine *xe, engine_stat_fn fn, void *opaque)
{
	uint64_t code = 0, meta = 0, blocks = 0;

	for (unsigned r = 0; r < xe->n_regions; r++) {
		code += xe->region[r].code + xe->region[r].cold;
		meta += xe->region[r].meta;
		blocks += atomic_load(&xe->region[r].n);
	}
	fn(opaque, "translated blocks in the cache", blocks);
	fn(opaque, "code cache KiB", xe->size / 1024);
	fn(opaque, "code cache KiB, used", code / 1024);
	fn(opaque, "code cache KiB, most ever", MAX(code, xe->most_code) / 1024);
	fn(opaque, "block records KiB", xe->meta_size / 1024);
	fn(opaque, "block records KiB, used", meta / 1024);
	fn(opaque, "block records KiB, most ever", MAX(meta, xe->most_meta) / 1024);
	fn(opaque, "shared tables KiB", sizeof(*xe) / 1024);
	fn(opaque, "tables KiB, each vCPU", sizeof(struct xl_cpu) / 1024);
	fn(opaque, "code cache regions", xe->n_regions);
	fn(opaque, "code cache regions given up", xe->n_retired);
	fn(opaque, "translations put off, a region was still in use", xe->n_no_room);
	fn(opaque, "exec stubs without use dropped, times", xe->n_stubs_forgotten);
}

void xl_stats(void *xe_opaque, engine_stat_fn fn, void *opaque)
{
	static const char *const why[XL_N_WHY] = { "exits, branch not linked yet", "exits, no translated code at the target",
						   "exits, event", "exits, instruction is interp's", "exits, state changed" };
	const struct xl_engine *xe = xe_opaque;
	struct sum t = { 0 };

	for (unsigned i = 0; i < xe->n_cpus; i++)
		add(&t, xe->cpus[i]);
	fn(opaque, "blocks translated", xe->n_blocks);
	fn(opaque, "loops unrolled", xe->n_loops);
	fn(opaque, "instructions translated", xe->n_insns);
	fn(opaque, "bytes of translated code", xe->n_bytes);
	fn(opaque, "blocks invalidated", xe->n_invalidated);
	fn(opaque, "chains made", t.link);
	fn(opaque, "entries into translated code", t.enter);
	for (unsigned n = 0; n < XL_N_WHY; n++)
		fn(opaque, why[n], t.exit[n]);
	tlb(&t, fn, opaque);
	fn(opaque, "accesses done by interp", t.slow);
	fn(opaque, "host faults", t.fault);
	fn(opaque, "light calls", t.light);
	callouts(&t, fn, opaque);
	xl_direct_stats(xe, fn, opaque);
	memory(xe, fn, opaque);
	if (xe->turn)
		xl_check_stats(xe, fn, opaque);
}
