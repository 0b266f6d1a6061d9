/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the rig's cases on a CPU engine: a machine of a few MiB without devices,
 * a 64-bit address space with the rig's pages for user mode, and an IDT whose
 * handlers write a port, which stops the vCPU.  TF ends the case after one
 * instruction; whatever exception comes is the result.
 *
 * The "stub" executor goes below the engines: it calls exec_run on a bare
 * struct x86_cpu with the same memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/engine.h"
#include "cpu/interp/exec.h"
#include "cpu/x86/cpu.h"
#include "cpu/x86/cpuid.h"
#include "machine/machine.h"
#include "rig.h"

/* Guest-physical layout, identity-mapped for the supervisor. */
#define G_PML4 0x1000u
#define G_PDPT 0x2000u
#define G_PD1 0x3000u
#define G_PT 0x4000u
#define G_PD0 0x5000u
#define G_IDT 0x6000u
#define G_HANDLERS 0x7000u
#define G_GDT 0x8000u
#define G_TSS 0x9000u
#define G_STACK 0xb000u
#define G_CODE 0x100000u
#define G_DATA 0x110000u
#define G_RAM 0x400000u

#define SEL_KCODE 0x08
#define SEL_UDATA 0x1b
#define SEL_UCODE 0x23
#define SEL_TSS 0x28
#define SEL_UCODE32 0x3b

#define STOP_PORT 0xf4

struct rig_engine {
	struct machine *m;
	const struct cpu_engine_ops *ops;	/* NULL: "stub" */
	struct cpu_engine *e;
	struct vcpu *v;
	struct x86_state base;
	struct bus_region stop;
	/* No single step, which is not what is to be tested: the INT1 behind the
	 * instructions ends the case. */
	bool free_run;
	bool quiet;				/* a report is expected */
	/* stub */
	struct x86_cpu *c;
	struct x86_cpu_model model;
	struct exec_cache *cache;
};

bool rig_has_rep(const struct rig_case *c)
{
	for (unsigned n = 0; n < c->len; n++) {
		switch (c->code[n]) {
		case 0xf2: case 0xf3: return true;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67: case 0xf0: break;
		default:
			if (c->bits != 64 || (c->code[n] & 0xf0) != 0x40)
				return false;
		}
	}
	return false;
}

/* VEX and EVEX, map 2, opcodes 90 to 93 and a0 to a3: after the elements before a fault
 * the single-step trap comes first (SDM vol. 2, VPGATHERDD), the fault when it goes on. */
bool rig_goes_on(const struct rig_case *c)
{
	unsigned n = 0, op;

	while (n < c->len && (c->code[n] == 0x67 || c->code[n] == 0x2e || c->code[n] == 0x36 || c->code[n] == 0x3e ||
			      c->code[n] == 0x26 || c->code[n] == 0x64 || c->code[n] == 0x65))
		n++;
	if (n + 4 >= c->len || (c->code[n] != 0x62 && c->code[n] != 0xc4) || (c->code[n + 1] & 7) != 2)
		return false;
	op = c->code[n + (c->code[n] == 0x62 ? 4 : 3)];
	return (op & 0xfc) == 0x90 || (op & 0xfc) == 0xa0;
}

void rig_fill_rodata(uint8_t page[RIG_PAGE])
{
	uint32_t x = 12345;

	for (unsigned n = 0; n < RIG_PAGE; n++) {
		x = x * 1103515245 + 12345;
		page[n] = (uint8_t)(x >> 16);
	}
}

static void put(struct rig_engine *e, uint64_t gpa, const void *p, size_t n)
{
	if (mem_write(e->m->mem, gpa, p, n) < 0)
		abort();
}

static void put64(struct rig_engine *e, uint64_t gpa, uint64_t v) { put(e, gpa, &v, 8); }

static void build_tables(struct rig_engine *e)
{
	uint8_t page[RIG_PAGE];

	put64(e, G_PML4, G_PDPT | 7);
	put64(e, G_PDPT, G_PD0 | 7);
	put64(e, G_PDPT + 8, G_PD1 | 7);
	put64(e, G_PD0, 0x83);
	put64(e, G_PD0 + 8, 0x200083);
	put64(e, G_PD1, G_PT | 7);
	put64(e, G_PT, G_CODE | 7);
	put64(e, G_PT + 8 * 0x10, G_DATA | 7 | 1ull << 63);
	put64(e, G_PT + 8 * 0x11, (G_DATA + 0x1000) | 7 | 1ull << 63);
	put64(e, G_PT + 8 * 0x12, (G_DATA + 0x2000) | 5 | 1ull << 63);
	rig_fill_rodata(page);
	put(e, G_DATA + 0x2000, page, sizeof(page));
	memset(page, RIG_FILLER, sizeof(page));
	put(e, G_CODE, page, sizeof(page));
}

static void build_system(struct rig_engine *e)
{
	static const uint8_t handler[] = { 0xe6, STOP_PORT, 0xf4, 0xeb, 0xfd };	/* out; hlt; jmp */
	static const uint64_t gdt[] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff,
					0x00affb000000ffff, 0x00008b0090000067, 0,
					0x00cffb000000ffff };
	uint8_t tss[104] = { 0 };

	for (unsigned n = 0; n < 256; n++) {
		uint64_t at = G_HANDLERS + 16 * n;
		uint64_t gate = (at & 0xffff) | (uint64_t)SEL_KCODE << 16 | 0x8e00ull << 32 | (at >> 16) << 48;

		put(e, at, handler, sizeof(handler));
		put64(e, G_IDT + 16 * n, gate);
		put64(e, G_IDT + 16 * n + 8, 0);
	}
	put(e, G_GDT, gdt, sizeof(gdt));
	st_le64(tss + 4, G_STACK);
	st_le16(tss + 102, 104);
	put(e, G_TSS, tss, sizeof(tss));
}

static struct x86_seg seg(uint16_t sel, uint32_t limit, uint32_t attr)
{
	return (struct x86_seg){ .sel = sel, .limit = limit, .attr = attr };
}

static uint64_t host_xcr0(void)
{
	uint32_t lo = 7, hi;

	if (!__builtin_cpu_supports("avx"))
		return 3;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo & 0xe7;
}

static void base_state(struct x86_state *s)
{
	x86_state_reset(s, 0, 0);
	s->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_MP | X86_CR0_ET | X86_CR0_AM;
	s->cr3 = G_PML4;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 = host_xcr0();
	for (unsigned n = 0; n < X86_NSEG; n++)
		s->seg[n] = seg(SEL_UDATA, 0xffffffff, 0xc0f3);
	s->seg[X86_CS] = seg(SEL_UCODE, 0xffffffff, 0xa0fb);
	s->seg[X86_TR] = seg(SEL_TSS, 0x67, 0x8b);
	s->seg[X86_TR].base = G_TSS;
	s->seg[X86_LDTR] = seg(0, 0, X86_AR_UNUSABLE | 0x82);
	s->gdtr = (struct x86_dtable){ .base = G_GDT, .limit = 63 };
	s->idtr = (struct x86_dtable){ .base = G_IDT, .limit = 0xfff };
	s->activity = X86_ACTIVE;
}

/* --- creation --- */
static void stop_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct rig_engine *e = opaque;

	(void)off;
	(void)len;
	(void)val;
	vcpu_raise(e->v, VCPU_EV_STOP);
}

static const struct bus_ops stop_ops = { .write = stop_write, .max_len = 4, .unlocked = true };

static int start_engine(struct rig_engine *e, const char *name, const char *model)
{
	struct cpu_engine_config cfg = { .n_vcpus = 1 };
	struct probe_report rep;
	struct err err = { 0 };
	int r;

	if (!strcmp(name, "interp"))
		e->ops = &cpu_engine_interp;
	else if (!strcmp(name, "kvm"))
		e->ops = &cpu_engine_kvm;
	else if (!strncmp(name, "translate", 9))
		e->ops = &cpu_engine_translate;
	else if (!strncmp(name, "check", 5))
		e->ops = &cpu_engine_check;
	else
		return -ENOENT;
	e->free_run = e->ops == &cpu_engine_translate || e->ops == &cpu_engine_check;
	cfg.heat = 1;
	if (!strcmp(name, "translate:small"))	/* code is given up all the time */
		cfg.code_cache = CODE_CACHE_MIN;
	if (!strcmp(name, "translate:smp"))	/* the second never runs */
		cfg.n_vcpus = 2;
	if (e->ops == &cpu_engine_check && name[5] == ':') {	/* "check:N": the N-th instruction comes out wrong */
		cfg.spoil = (unsigned)atoi(name + 6);
		e->quiet = true;
	}
	memset(&rep, 0, sizeof(rep));
	if (e->ops->probe && (e->ops->probe(&rep) < 0 || !rep.usable || !rep.good))
		return -ENODEV;
	if (model) {
		uint32_t feat[X86_F_WORDS];

		x86_soft_features(feat);
		if (x86_cpu_model_parse(model, feat, 1, &e->model, &err) < 0)
			return -EINVAL;
		cfg.model = &e->model;
	}
	r = e->ops->init(e->m, &cfg, &e->e, &err);
	if (r < 0)
		return r;
	r = e->ops->vcpu_create(e->e, 0, &err);
	if (r == 0 && cfg.n_vcpus > 1)
		r = e->ops->vcpu_create(e->e, 1, &err);
	if (r < 0)
		return r;
	e->v = e->m->vcpus[0];
	if (e->ops->vcpu_thread_init)
		e->ops->vcpu_thread_init(e->v);
	e->stop = (struct bus_region){ .name = "stop", .ops = &stop_ops, .opaque = e, .base = STOP_PORT,
				       .size = 1, .priority = 1 };
	return bus_add(e->m->pio, &e->stop);
}

static int start_stub(struct rig_engine *e)
{
	uint32_t feat[X86_F_WORDS];
	struct err why = { 0 };
	int err = 0;

	x86_soft_features(feat);
	if (x86_cpu_model_parse("max", feat, 1, &e->model, &why) < 0)
		return -EINVAL;
	e->c = aligned_alloc(64, align_up(sizeof(*e->c), 64));
	if (!e->c)
		return -ENOMEM;
	memset(e->c, 0, sizeof(*e->c));
	e->c->vcpu.m = e->m;
	e->c->model = &e->model;
	e->c->delivering = -1;
	e->c->tlb_gen = 1;
	e->c->phys_bits = 40;
	e->cache = exec_cache_new(&err);
	if (err || exec_signals_install() < 0 || exec_thread_init() < 0)
		return -ENOMEM;
	return 0;
}

struct rig_engine *rig_engine_new(const char *name) { return rig_engine_new_model(name, NULL); }

struct rig_engine *rig_engine_new_model(const char *name, const char *model)
{
	struct rig_engine *e = calloc(1, sizeof(*e));
	struct err err = { 0 };

	if (!e)
		return NULL;
	if (machine_new(&e->m, true) < 0 || mem_create_ram(e->m->mem, G_RAM, MEM_HUGE_NONE, &err) < 0 ||
	    mem_add_ram(e->m->mem, "ram", 0, 0, G_RAM, &err) < 0)
		goto fail;
	build_tables(e);
	build_system(e);
	base_state(&e->base);
	if (strcmp(name, "stub") ? start_engine(e, name, model) : start_stub(e))
		goto fail;
	return e;
fail:
	rig_engine_free(e);
	return NULL;
}

void rig_engine_free(struct rig_engine *e)
{
	if (!e)
		return;
	if (e->stop.bus)
		bus_del(&e->stop);
	if (e->e)
		e->ops->free(e->e);
	exec_cache_free(e->cache);
	free(e->c);
	if (e->m)
		machine_free(e->m);
	free(e);
}

/* --- running --- */
static uint64_t start_rip(const struct rig_case *c)
{
	return c->code_off + (c->bits == 16 ? 0 : RIG_CODE);
}

static void load_system(struct rig_engine *e, const struct rig_case *c, struct x86_state *s)
{
	*s = e->base;
	s->cr0 = (s->cr0 | c->cr0_set) & ~c->cr0_clear;
	s->cr4 &= ~c->cr4_clear;
	s->xcr0 &= ~c->xcr0_clear;
	memcpy(s->dr, c->dr, sizeof(s->dr));
	s->dr7 = c->dr7 | 0x400;
	for (unsigned n = 0; n < 2; n++)
		if (c->fs_gs[n].attr)
			s->seg[X86_FS + n] = c->fs_gs[n];
	if (c->bits == 32)
		s->seg[X86_CS] = seg(SEL_UCODE32, 0xffffffff, 0xc0fb);
	if (c->bits != 16)
		return;
	for (unsigned n = 0; n < X86_NSEG; n++) {
		s->seg[n] = seg(SEL_UDATA, RIG_DATA_SIZE + RIG_PAGE - 1, 0xf3);
		s->seg[n].base = RIG_DATA;
	}
	s->seg[X86_CS] = seg(SEL_UCODE, 0xffff, 0xfb);
	s->seg[X86_CS].base = RIG_CODE;
}

/* The whole page, as code may read and write around itself; written only if it changes,
 * so that repeated runs find what was cached. */
static void put_code(struct rig_engine *e, const struct rig_case *c)
{
	uint8_t page[RIG_PAGE], now[RIG_PAGE];

	memset(page, RIG_FILLER, sizeof(page));
	memcpy(page + c->code_off, c->code, MIN(c->len, RIG_PAGE - c->code_off));
	mem_read(e->m->mem, G_CODE, now, RIG_PAGE);
	if (memcmp(page, now, RIG_PAGE))
		put(e, G_CODE, page, RIG_PAGE);
}

static void load_case(struct rig_engine *e, const struct rig_case *c, struct x86_state *s)
{
	load_system(e, c, s);
	memcpy(s->gpr, c->gpr, sizeof(s->gpr));
	s->rip = start_rip(c);
	s->rflags = c->rflags | X86_FL_TF | X86_FL_IF | X86_FL_FIXED;
	if (e->free_run)
		s->rflags &= ~(uint64_t)X86_FL_TF;
	s->fpu = c->fpu;
	put_code(e, c);
	put(e, G_DATA, c->data, RIG_DATA_SIZE);
}

static void take_result(struct rig_engine *e, const struct x86_state *s, struct rig_result *r)
{
	memcpy(r->gpr, s->gpr, sizeof(r->gpr));
	r->fpu = s->fpu;
	mem_read(e->m->mem, G_DATA, r->data, RIG_DATA_SIZE);
}

static bool has_error_code(unsigned v)
{
	return v == 8 || (v >= 10 && v <= 14) || v == 17;
}

/* What the handler of the exception found on its stack. */
static bool take_frame(struct rig_engine *e, const struct x86_state *s, struct rig_result *r)
{
	unsigned v = (unsigned)((s->rip - G_HANDLERS) / 16);
	uint64_t f[6] = { 0 };

	if (s->rip < G_HANDLERS || v > 255)
		return false;
	if (has_error_code(v)) {
		mem_read(e->m->mem, G_STACK - 48, f, 48);
		r->err = (uint32_t)f[0];
		memmove(f, f + 1, 40);
	} else {
		mem_read(e->m->mem, G_STACK - 40, f, 40);
	}
	r->rip = f[0];
	r->rflags = f[2];
	r->gpr[X86_RSP] = f[3];
	r->cr2 = s->cr2;
	r->dr6 = s->dr6;
	r->fault = v == X86_EX_DB ? RIG_NO_FAULT : (uint8_t)v;
	if (e->free_run) {
		r->rflags |= X86_FL_TF;
		if (v == X86_EX_DB)
			r->rip--;
		else if (v == X86_EX_PF && r->cr2 == r->rip && (r->err & 16))	/* it jumped there, and no further */
			r->fault = RIG_NO_FAULT;
	}
	return true;
}

/* The state in which the handler's IRET would leave the CPU. */
static void go_on(struct rig_engine *e, const struct rig_case *c, struct x86_state *s, const struct rig_result *r)
{
	struct x86_fpu fpu = s->fpu;

	load_system(e, c, s);
	memcpy(s->gpr, r->gpr, sizeof(s->gpr));
	s->rip = r->rip;
	s->rflags = r->rflags;
	s->fpu = fpu;
}

/* The check engine has found a difference, or an engine has given up: it says why. */
static void print_report(struct rig_engine *e)
{
	char text[16384];

	e->ops->report(e->v, text, sizeof(text));
	if (e->quiet)
		return;
	fprintf(stderr, "%s\n", text);
}

void rig_engine_report(struct rig_engine *e, char *buf, size_t len) { e->ops->report(e->v, buf, len); }

static void run_engine(struct rig_engine *e, const struct rig_case *c, struct rig_result *r)
{
	bool rep = rig_has_rep(c);
	unsigned steps = c->steps ? c->steps : 1;
	enum vcpu_stop stop;
	struct x86_state s;

	load_case(e, c, &s);
	for (unsigned turn = 0; turn < 1000; turn++) {
		e->ops->state_set(e->v, &s);
		stop = e->ops->vcpu_run(e->v);
		r->valid = stop == VCPU_STOP_KICK;
		if (stop == VCPU_STOP_ERROR)
			print_report(e);
		e->ops->state_get(e->v, &s);
		take_result(e, &s, r);
		r->valid = r->valid && take_frame(e, &s, r);
		if (!r->valid || r->fault != RIG_NO_FAULT)
			return;
		if (!(rep && r->rip == start_rip(c)) && --steps == 0)
			return;
		go_on(e, c, &s, r);
	}
}

static uint64_t stub_lin(const struct x86_cpu *c, const struct insn *i)
{
	uint64_t off = (uint64_t)i->mem_disp;

	if (i->mem_base == INSN_RIP)
		off += c->next_rip;
	else if (i->mem_base != INSN_NOREG)
		off += c->s.gpr[i->mem_base];
	if (i->mem_index != INSN_NOREG && !i->mem_vsib)
		off += c->s.gpr[i->mem_index] << i->mem_scale;
	return i->asz == 4 ? (uint32_t)off : i->asz == 2 ? (uint16_t)off : off;
}

static void run_stub(struct rig_engine *e, const struct rig_case *c, struct rig_result *r)
{
	struct x86_cpu *x = e->c;
	jmp_buf env;
	struct insn i;
	struct exec *st;

	load_case(e, c, &x->s);
	x86_mode_update(x);
	x86_tlb_flush(x);
	x->fault_jmp = &env;
	x->cur_rip = x->s.rip;
	r->valid = true;
	r->fault = RIG_NO_FAULT;
	r->rip = x->s.rip;
	if (insn_decode(&i, c->code, c->len, c->bits) < 0) {
		r->fault = X86_EX_UD;
	} else if (setjmp(env)) {
		r->fault = x->pending.vector;
		r->err = x->pending.err;
		r->cr2 = x->pending.cr2;
	} else {
		uint64_t lin;

		x->next_rip = x->cur_rip + i.len;
		if (exec_cache_full(e->cache))
			exec_cache_reset(e->cache);
		st = exec_get(e->cache, &i);
		if (!st)
			x86_ud(x);
		lin = i.has_mem ? stub_lin(x, &i) : 0;
		exec_run(x, st, lin);
		r->rip = x->next_rip;
	}
	r->rflags = x->s.rflags;
	take_result(e, &x->s, r);
}

void rig_engine_free_run(struct rig_engine *e) { e->free_run = true; }

struct stat_query {
	const char *name;
	uint64_t value;
};

static void take_stat(void *opaque, const char *name, uint64_t value)
{
	struct stat_query *q = opaque;

	size_t n = strlen(q->name);

	if (!strncmp(q->name, name, n) && (!name[n] || name[n] == ','))
		q->value += value;
}

uint64_t rig_engine_stat(struct rig_engine *e, const char *name)
{
	struct stat_query q = { .name = name };

	e->ops->stats(e->e, take_stat, &q);
	return q.value;
}

bool rig_engine_takes(struct rig_engine *e, const struct rig_case *c)
{
	struct insn i;

	/* Without single step a jump to itself goes on for ever. */
	if (e->free_run && insn_decode(&i, c->code, c->len, c->bits) == 0 && i.op[0].kind == INSN_OP_REL &&
	    i.op[0].imm + i.len >= 0 && i.op[0].imm < 0)
		return false;
	if (e->ops)
		return true;
	if (c->bits == 16)	/* segmentation is the caller's */
		return false;
	if (insn_decode(&i, c->code, c->len, c->bits) < 0 || !exec_handles(&i))
		return false;
	return !(i.has_mem && i.mem_write && i.mem_seg == X86_CS);	/* the caller's check */
}

void rig_engine_run(struct rig_engine *e, const struct rig_case *c, struct rig_result *r)
{
	for (unsigned n = 0; n <= c->repeat; n++) {
		memset(r, 0, sizeof(*r));
		if (e->ops)
			run_engine(e, c, r);
		else
			run_stub(e, c, r);
	}
}
