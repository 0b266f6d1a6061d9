/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check engine: what must be the same, and the report when it is not. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/translate/check.h"
#include "cpu/x86/disasm.h"

/* Registers that are compared and shown one by one. */
#define REG(name, field) { name, offsetof(struct x86_state, field) }
static const struct {
	const char *name;
	size_t at;
} regs[] = {
	REG("rax", gpr[0]), REG("rcx", gpr[1]), REG("rdx", gpr[2]), REG("rbx", gpr[3]), REG("rsp", gpr[4]), REG("rbp", gpr[5]),
	REG("rsi", gpr[6]), REG("rdi", gpr[7]), REG("r8", gpr[8]), REG("r9", gpr[9]), REG("r10", gpr[10]), REG("r11", gpr[11]),
	REG("r12", gpr[12]), REG("r13", gpr[13]), REG("r14", gpr[14]), REG("r15", gpr[15]), REG("rip", rip),
	REG("cr0", cr0), REG("cr2", cr2), REG("cr3", cr3), REG("cr4", cr4), REG("xcr0", xcr0), REG("efer", efer),
	REG("dr0", dr[0]), REG("dr1", dr[1]), REG("dr2", dr[2]), REG("dr3", dr[3]), REG("dr6", dr6), REG("dr7", dr7),
	REG("star", star), REG("lstar", lstar), REG("cstar", cstar), REG("fmask", fmask), REG("kernel_gs_base", kernel_gs_base),
	REG("sysenter_cs", sysenter_cs), REG("sysenter_esp", sysenter_esp), REG("sysenter_eip", sysenter_eip),
	REG("k0", fpu.k[0]), REG("k1", fpu.k[1]), REG("k2", fpu.k[2]), REG("k3", fpu.k[3]), REG("k4", fpu.k[4]),
	REG("k5", fpu.k[5]), REG("k6", fpu.k[6]), REG("k7", fpu.k[7]), REG("x87 control, status, tag, opcode", fpu.fx[0]),
	REG("x87 instruction pointer", fpu.fx[8]), REG("x87 data pointer", fpu.fx[16]),
};
#undef REG

static uint64_t reg(const struct x86_state *s, unsigned n)
{
	uint64_t v;

	memcpy(&v, (const char *)s + regs[n].at, 8);
	return v;
}

static const char *const seg_name[X86_NSEG_ALL] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

static bool same_seg(const struct x86_seg *a, const struct x86_seg *b)
{
	return a->sel == b->sel && a->base == b->base && a->limit == b->limit && a->attr == b->attr;
}

static bool same_table(const struct x86_dtable *a, const struct x86_dtable *b) { return a->base == b->base && a->limit == b->limit; }

static bool same_st(const struct x86_fpu *a, const struct x86_fpu *b, unsigned n)
{
	return !memcmp(a->fx + 32 + 16 * n, b->fx + 32 + 16 * n, 10);
}

/* IRET leaves RF out where no breakpoint is set (docs/QUIRKS.md). */
static uint64_t flags(const struct x86_state *s) { return s->rflags & ~(uint64_t)(X86_FL_ARITH | X86_FL_RF); }

/* Everything, field by field: what lies between fields may differ.  So may STI's shadow, which translated code
 * leaves out when no interrupt waits for it. */
static bool same_fields(const struct x86_state *a, const struct x86_state *b)
{
	bool same = a->activity == b->activity && !((a->shadow ^ b->shadow) & ~X86_SHADOW_STI) && a->nmi_blocked == b->nmi_blocked &&
		    same_table(&a->gdtr, &b->gdtr) && same_table(&a->idtr, &b->idtr) && a->fpu.mxcsr == b->fpu.mxcsr &&
		    !memcmp(a->fpu.zmm, b->fpu.zmm, sizeof(a->fpu.zmm));

	for (unsigned n = 0; n < ARRAY_LEN(regs); n++)
		same = same && reg(a, n) == reg(b, n);
	for (unsigned n = 0; n < X86_NSEG_ALL; n++)
		same = same && same_seg(&a->seg[n], &b->seg[n]);
	for (unsigned n = 0; n < 8; n++)
		same = same && same_st(&a->fpu, &b->fpu, n);
	return same;
}

bool xl_check_same_state(const struct x86_state *a, const struct x86_state *b)
{
	const size_t before = offsetof(struct x86_state, rflags), after = before + 8;

	if (flags(a) != flags(b))
		return false;
	if (!memcmp(a, b, before) && !memcmp((const char *)a + after, (const char *)b + after, sizeof(*a) - after))
		return true;
	return same_fields(a, b);
}

/* --- the report --- */

static void hex(FILE *f, const uint8_t *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		fprintf(f, "%02x%s", p[k], k % 8 == 7 && k + 1 < n ? "_" : "");
}

static void three(FILE *f, const char *name, uint64_t before, uint64_t want, uint64_t got)
{
	fprintf(f, "  %-16s before %016" PRIx64 "  interp %016" PRIx64 "  translated %016" PRIx64 "\n", name, before, want, got);
}

static void registers(FILE *f, const struct xl_check *k)
{
	const struct x86_state *s = &k->start.s, *w = &k->want.s, *g = &k->got.s;

	for (unsigned n = 0; n < ARRAY_LEN(regs); n++)
		if (reg(w, n) != reg(g, n))
			three(f, regs[n].name, reg(s, n), reg(w, n), reg(g, n));
	if (flags(w) != flags(g))
		three(f, "rflags (system)", flags(s), flags(w), flags(g));
	for (unsigned n = 0; n < X86_NSEG_ALL; n++)
		if (!same_seg(&w->seg[n], &g->seg[n]))
			fprintf(f, "  %s: interp %04x base %" PRIx64 " limit %x attr %x, translated %04x base %" PRIx64 " limit %x attr %x\n",
				seg_name[n], w->seg[n].sel, w->seg[n].base, w->seg[n].limit, w->seg[n].attr, g->seg[n].sel,
				g->seg[n].base, g->seg[n].limit, g->seg[n].attr);
	if (!same_table(&w->gdtr, &g->gdtr) || !same_table(&w->idtr, &g->idtr))
		fprintf(f, "  a descriptor table register differs\n");
	if (w->activity != g->activity || w->shadow != g->shadow || w->nmi_blocked != g->nmi_blocked)
		fprintf(f, "  activity, shadow, NMI blocking: interp %u %u %u, translated %u %u %u\n", w->activity, w->shadow,
			w->nmi_blocked, g->activity, g->shadow, g->nmi_blocked);
}

static void vectors(FILE *f, const struct xl_check *k)
{
	const struct x86_fpu *w = &k->want.s.fpu, *g = &k->got.s.fpu;

	for (unsigned n = 0; n < 32; n++) {
		if (!memcmp(w->zmm[n], g->zmm[n], 64))
			continue;
		fprintf(f, "  zmm%u, lowest byte first:\n    interp     ", n);
		hex(f, w->zmm[n], 64);
		fprintf(f, "\n    translated ");
		hex(f, g->zmm[n], 64);
		fprintf(f, "\n");
	}
	if (w->mxcsr != g->mxcsr)
		three(f, "mxcsr", k->start.s.fpu.mxcsr, w->mxcsr, g->mxcsr);
	for (unsigned n = 0; n < 8; n++) {
		if (same_st(w, g, n))
			continue;
		fprintf(f, "  st%u, lowest byte first: interp ", n);
		hex(f, w->fx + 32 + 16 * n, 10);
		fprintf(f, ", translated ");
		hex(f, g->fx + 32 + 16 * n, 10);
		fprintf(f, "\n");
	}
}

static void memory(FILE *f, const struct xl_check *k)
{
	const struct x86_trial *t = &k->trial;

	for (unsigned n = 0; n < t->n; n++) {
		unsigned at = t->s[n].at, len = t->s[n].len, show = MIN(len, 64u), from = 0;

		if (!memcmp(k->want_bytes + at, k->got_bytes + at, len))
			continue;
		while (from + show < len && k->want_bytes[at + from] == k->got_bytes[at + from])
			from++;
		fprintf(f, "  memory at %016" PRIx64 " (physical %" PRIx64 "), %u bytes stored, from byte %u:\n    before     ",
			t->s[n].lin, t->s[n].gpa, len, from);
		hex(f, t->old + at + from, show);
		fprintf(f, "\n    interp     ");
		hex(f, k->want_bytes + at + from, show);
		fprintf(f, "\n    translated ");
		hex(f, k->got_bytes + at + from, show);
		fprintf(f, "\n");
	}
}

static void flag_sets(FILE *f, const struct xl_check *k)
{
	uint32_t in_w = flags_of_lf(k->start.lf), in_g = flags_of_lf(k->lf);

	fprintf(f, "  flags before: interp %03x, translated code's own %03x", in_w, in_g);
	if (in_w != in_g)
		fprintf(f, ": lost by the block at %" PRIx64 ", which took them for dead", k->lf_rip);
	fprintf(f, "\n  flags after: interp %03x, translated %03x (dead ones may differ)\n", flags_of_lf(k->want.lf),
		flags_of_lf(k->got.lf));
}

/* The guest's code as it is in memory now. */
static void code(FILE *f, struct xl_cpu *x, uint64_t rip, uint64_t gpa, unsigned len)
{
	unsigned bits = x->ic.c.mode == X86_MODE_LONG64 ? 64 : x->ic.c.mode == X86_MODE_PM32 ? 32 : 16;
	uint8_t p[PAGE_4K];
	char text[128];

	if (mem_read(x->ic.c.vcpu.m->mem, gpa, p, len) < 0)
		return;
	for (unsigned at = 0, n; at < len; at += n) {
		n = x86_disasm(p + at, len - at, rip + at, bits, text, sizeof(text));
		fprintf(f, "  %016" PRIx64 "  ", rip + at);
		for (unsigned k = 0; k < n; k++)
			fprintf(f, "%02x", p[at + k]);
		fprintf(f, "%*s%s\n", n < 12 ? (int)(26 - 2 * n) : 2, "", text);
	}
}

static const char *ending(enum ending e) { return e == END_FAULT ? "raised an exception" : "went through"; }

char *xl_check_text(struct xl_cpu *x)
{
	static const char *const modes[] = { "real mode", "virtual 8086 mode", "16-bit code", "32-bit code", "64-bit code" };
	const struct xl_check *k = x->check;
	const struct xl_block *b = k->block;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "translated code does not do what interp does\n");
	fprintf(f, "  block at rip %016" PRIx64 ", physical %" PRIx64 ", %s, CPL %u, cr3 %" PRIx64 ", key %x, vCPU %u\n",
		k->start.s.rip, b->gpa, modes[x->ic.c.mode], x->ic.c.cpl, k->start.s.cr3, b->key, x->ic.c.vcpu.id);
	if (k->want_end != k->got_end || k->want_end == END_FAULT)
		fprintf(f, "  interp %s (vector %u, error code %x, address %" PRIx64 "), translated code %s (vector %u, error code %x, "
			"address %" PRIx64 ")\n", ending(k->want_end), k->want_event.vector, k->want_event.err, k->want_event.cr2,
			ending(k->got_end), k->got_event.vector, k->got_event.err, k->got_event.cr2);
	registers(f, k);
	flag_sets(f, k);
	vectors(f, k);
	memory(f, k);
	code(f, x, k->start.s.rip, b->gpa, b->guest_len);
	if (flags_of_lf(k->start.lf) != flags_of_lf(k->lf)) {
		fprintf(f, "  the block that lost flags:\n");
		code(f, x, k->lf_rip, k->lf_gpa, k->lf_len);
	}
	fclose(f);
	return text;
}
