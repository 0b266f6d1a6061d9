/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The task state segment: stack pointers for inner levels, and the hardware task
 * switch in 16- and 32-bit form (SDM vol. 3, chapter 8).
 *
 * A switch has a commit point (8.3 step 12): faults before it leave the old task
 * untouched, faults after it are raised in the new task.
 */
#include "cpu/x86/sys.h"

/* --- stacks of inner levels --- */

void x86_tss_stack(struct x86_cpu *c, unsigned dpl, uint16_t *ss, uint32_t *esp, unsigned ext)
{
	const struct x86_seg *tr = &c->s.seg[X86_TR];
	bool is32 = tr->attr & 8;
	unsigned at = is32 ? dpl * 8 + 4 : dpl * 4 + 2, last = is32 ? at + 5 : at + 3;

	if ((tr->attr & X86_AR_UNUSABLE) || last > tr->limit)
		raise_sel(c, X86_EX_TS, tr->sel, ext);
	if (is32) {
		*esp = (uint32_t)x86_ld(c, (uint32_t)(tr->base + at), 4, X86_ACC_SUP);
		*ss = (uint16_t)x86_ld(c, (uint32_t)(tr->base + at + 4), 2, X86_ACC_SUP);
	} else {
		*esp = (uint32_t)x86_ld(c, (uint32_t)(tr->base + at), 2, X86_ACC_SUP);
		*ss = (uint16_t)x86_ld(c, (uint32_t)(tr->base + at + 2), 2, X86_ACC_SUP);
	}
}

uint64_t x86_tss_rsp(struct x86_cpu *c, unsigned dpl, unsigned ist, unsigned ext)
{
	const struct x86_seg *tr = &c->s.seg[X86_TR];
	unsigned at = ist ? 28 + ist * 8 : 4 + dpl * 8;
	uint64_t rsp;

	if ((tr->attr & X86_AR_UNUSABLE) || at + 7 > tr->limit)
		raise_sel(c, X86_EX_TS, tr->sel, ext);
	rsp = x86_ld(c, tr->base + at, 8, X86_ACC_SUP);
	if (!x86_canonical(c, rsp))
		x86_raise_err(c, X86_EX_SS, ext);
	return rsp;
}

/* --- task switch --- */

/* What a TSS holds, whichever its size. */
struct task {
	uint32_t cr3, eip, eflags, gpr[8], seg[6], ldt;
	bool trap;
};

/* Offsets of the register area: static fields (stacks, CR3) come before it. */
enum { T32_CR3 = 28, T32_EIP = 32, T32_GPR = 40, T32_SEG = 72, T32_LDT = 96, T32_TRAP = 100, T32_MIN = 103 };
enum { T16_IP = 14, T16_GPR = 18, T16_SEG = 34, T16_LDT = 42, T16_MIN = 43 };

static uint64_t tss_ld(struct x86_cpu *c, uint64_t base, unsigned off, unsigned len)
{
	return x86_ld(c, (uint32_t)(base + off), len, X86_ACC_SUP);
}

static void read_task(struct x86_cpu *c, uint64_t base, bool is32, struct task *t)
{
	*t = (struct task){ 0 };
	if (is32) {
		t->cr3 = (uint32_t)tss_ld(c, base, T32_CR3, 4);
		t->eip = (uint32_t)tss_ld(c, base, T32_EIP, 4);
		t->eflags = (uint32_t)tss_ld(c, base, T32_EIP + 4, 4);
		for (unsigned i = 0; i < 8; i++)
			t->gpr[i] = (uint32_t)tss_ld(c, base, T32_GPR + 4 * i, 4);
		for (unsigned i = 0; i < 6; i++)
			t->seg[i] = (uint32_t)tss_ld(c, base, T32_SEG + 4 * i, 2);
		t->ldt = (uint32_t)tss_ld(c, base, T32_LDT, 2);
		t->trap = tss_ld(c, base, T32_TRAP, 2) & 1;
	} else {
		t->eip = (uint32_t)tss_ld(c, base, T16_IP, 2);
		t->eflags = (uint32_t)tss_ld(c, base, T16_IP + 2, 2);
		for (unsigned i = 0; i < 8; i++)
			t->gpr[i] = 0xffff0000u | (uint32_t)tss_ld(c, base, T16_GPR + 2 * i, 2);
		for (unsigned i = 0; i < 4; i++)
			t->seg[i] = (uint32_t)tss_ld(c, base, T16_SEG + 2 * i, 2);
		t->ldt = (uint32_t)tss_ld(c, base, T16_LDT, 2);
	}
}

static void save_task(struct x86_cpu *c, uint64_t base, bool is32, uint64_t rip, uint64_t flags)
{
	uint8_t buf[24 * 4] = { 0 };
	unsigned n = 0, w = is32 ? 4 : 2;

	st_le(buf, w, rip);
	st_le(buf + w, w, flags);
	n = 2 * w;
	for (unsigned i = 0; i < 8; i++, n += w)
		st_le(buf + n, w, c->s.gpr[i]);
	x86_mem_write(c, (uint32_t)(base + (is32 ? T32_EIP : T16_IP)), buf, n, X86_ACC_SUP);
	/* The upper halves of the selector words are reserved and stay. */
	for (unsigned i = 0; i < (is32 ? 6u : 4u); i++)
		x86_st(c, (uint32_t)(base + (is32 ? T32_SEG : T16_SEG) + i * w), 2, c->s.seg[i].sel, X86_ACC_SUP);
}

/* Sets or clears the busy bit of the descriptor at lin. */
static void set_busy(struct x86_cpu *c, uint64_t lin, bool busy)
{
	uint64_t old = x86_ld(c, (uint32_t)(lin + 4), 4, X86_ACC_SUP);

	while (!x86_mem_cmpxchg(c, (uint32_t)(lin + 4), 4, &old, busy ? old | 0x200 : old & ~0x200ull, X86_ACC_SUP))
		;
}

static void check_tss(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, enum x86_task_why why, unsigned ext)
{
	int vec = why == X86_TASK_IRET ? X86_EX_TS : X86_EX_GP;
	bool busy = why == X86_TASK_IRET;
	struct x86_seg s;
	unsigned type;

	if (sel_null(sel) || (sel & 4))
		raise_sel(c, vec, sel, ext);
	x86_read_desc_ext(c, sel, d, vec, ext);
	type = desc_type(d);
	if (desc_s(d) || (type != (busy ? X86_ST_TSS32_BUSY : X86_ST_TSS32) &&
			  type != (busy ? X86_ST_TSS16_BUSY : X86_ST_TSS16)))
		raise_sel(c, vec, sel, ext);
	if (!desc_p(d))
		raise_sel(c, X86_EX_NP, sel, ext);
	x86_seg_from_desc(&s, sel, d);
	if (s.limit < (type & 8 ? T32_MIN : T16_MIN))
		raise_sel(c, X86_EX_TS, sel, ext);
}

/* --- loading the new task's segments (faults belong to the new task) --- */

static void load_task_ldt(struct x86_cpu *c, uint16_t sel, unsigned ext)
{
	struct x86_desc d;

	x86_null_seg(&c->s.seg[X86_LDTR], sel, 0);
	if (sel_null(sel))
		return;
	if (sel & 4)
		raise_sel(c, X86_EX_TS, sel, ext);
	x86_read_desc_ext(c, sel, &d, X86_EX_TS, ext);
	if (desc_s(&d) || desc_type(&d) != X86_ST_LDT || !desc_p(&d))
		raise_sel(c, X86_EX_TS, sel, ext);
	x86_seg_from_desc(&c->s.seg[X86_LDTR], sel, &d);
}

static void load_task_cs(struct x86_cpu *c, uint16_t sel, unsigned ext)
{
	unsigned cpl = sel & 3;
	struct x86_desc d;

	if (sel_null(sel))
		raise_sel(c, X86_EX_TS, sel, ext);
	x86_read_desc_ext(c, sel, &d, X86_EX_TS, ext);
	if (!desc_code(&d) || (desc_conforming(&d) ? desc_dpl(&d) > cpl : desc_dpl(&d) != cpl))
		raise_sel(c, X86_EX_TS, sel, ext);
	if (!desc_p(&d))
		raise_sel(c, X86_EX_NP, sel, ext);
	x86_desc_set_accessed(c, &d);
	x86_commit_cs(c, sel, &d, cpl);
}

static void load_task_ss(struct x86_cpu *c, uint16_t sel, unsigned cpl, unsigned ext)
{
	struct x86_desc d;

	if (sel_null(sel))
		raise_sel(c, X86_EX_TS, sel, ext);
	x86_check_ss(c, sel, &d, cpl, X86_EX_TS, ext);
	x86_desc_set_accessed(c, &d);
	x86_commit_ss(c, sel, &d, cpl);
}

static void load_task_data(struct x86_cpu *c, int seg, uint16_t sel, unsigned cpl, unsigned ext)
{
	unsigned rpl = sel & 3;
	struct x86_desc d;

	if (sel_null(sel))
		return;
	x86_read_desc_ext(c, sel, &d, X86_EX_TS, ext);
	if (!desc_readable(&d) || (!desc_conforming(&d) && (rpl > desc_dpl(&d) || cpl > desc_dpl(&d))))
		raise_sel(c, X86_EX_TS, sel, ext);
	if (!desc_p(&d))
		raise_sel(c, X86_EX_NP, sel, ext);
	x86_desc_set_accessed(c, &d);
	x86_seg_from_desc(&c->s.seg[seg], sel, &d);
}

static void load_task_segs(struct x86_cpu *c, const struct task *t, unsigned ext)
{
	static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	unsigned cpl = t->seg[X86_CS] & 3;

	load_task_ldt(c, (uint16_t)t->ldt, ext);
	if (t->eflags & X86_FL_VM) {
		for (int i = 0; i < X86_NSEG; i++)
			x86_load_seg_vm86(c, i, (uint16_t)t->seg[i]);
		x86_mode_update(c);
		return;
	}
	load_task_ss(c, (uint16_t)t->seg[X86_SS], cpl, ext);
	for (unsigned i = 0; i < 4; i++)
		load_task_data(c, data[i], (uint16_t)t->seg[data[i]], cpl, ext);
	load_task_cs(c, (uint16_t)t->seg[X86_CS], ext);
	x86_mode_update(c);
}

/* Until its descriptors are loaded the new task has selectors only. */
static void bare_segs(struct x86_cpu *c, const struct task *t)
{
	unsigned cpl = t->eflags & X86_FL_VM ? 3 : t->seg[X86_CS] & 3;

	for (int i = 0; i < X86_NSEG; i++)
		x86_null_seg(&c->s.seg[i], (uint16_t)t->seg[i], cpl);
}

static void switch_cr3(struct x86_cpu *c, const struct task *t, bool is32, uint16_t sel, unsigned ext)
{
	if (!is32 || !c->paging)
		return;
	if ((c->s.cr4 & X86_CR4_PAE) && !x86_load_pdpte(c, t->cr3))
		raise_sel(c, X86_EX_TS, sel, ext);
	if (c->s.cr3 != t->cr3)
		x86_tlb_flush_nonglobal(c);
	c->s.cr3 = t->cr3;
}

static void commit_task(struct x86_cpu *c, const struct task *t, bool is32)
{
	for (unsigned i = 0; i < 8; i++)
		c->s.gpr[i] = t->gpr[i];
	c->s.rip = c->cur_rip = c->next_rip = t->eip;
	c->cur_uop = NULL;	/* what faults from here on faults at the new task's EIP */
	c->s.rflags = (t->eflags & 0x3f7fd5u) | X86_FL_FIXED;
	if (!is32)
		c->s.rflags &= 0xffff;
	c->s.cr0 |= X86_CR0_TS;
	c->s.dr7 &= ~0x155ull;	/* local breakpoints */
	bare_segs(c, t);
}

void x86_task_switch(struct x86_cpu *c, uint16_t sel, enum x86_task_why why, uint64_t next_rip, uint64_t old_flags,
		     bool has_err, uint32_t err, unsigned ext)
{
	struct x86_seg *tr = &c->s.seg[X86_TR], old = *tr, new;
	bool old32 = old.attr & 8, is32;
	bool nested = why == X86_TASK_CALL || why == X86_TASK_GATE;
	struct x86_desc d;
	struct task t;

	check_tss(c, sel, &d, why, ext);
	x86_seg_from_desc(&new, sel, &d);
	is32 = new.attr & 8;
	if ((old.attr & X86_AR_UNUSABLE) || old.limit < (old32 ? T32_MIN : T16_MIN))
		raise_sel(c, X86_EX_TS, old.sel, ext);
	if (why == X86_TASK_IRET)
		old_flags &= ~(uint64_t)X86_FL_NT;
	read_task(c, new.base, is32, &t);
	x86_mem_probe(c, (uint32_t)old.base, old32 ? T32_MIN + 1 : T16_MIN + 1, X86_WRITE, X86_ACC_SUP);

	save_task(c, old.base, old32, next_rip, old_flags);
	if (why == X86_TASK_JMP || why == X86_TASK_IRET)
		set_busy(c, c->s.gdtr.base + (old.sel & 0xfff8), false);
	if (nested) {
		x86_st(c, (uint32_t)new.base, 2, old.sel, X86_ACC_SUP);
		t.eflags |= X86_FL_NT;
	}
	if (why != X86_TASK_IRET)
		set_busy(c, d.lin, true);
	new.attr |= 2;
	*tr = new;
	switch_cr3(c, &t, is32, sel, ext);
	commit_task(c, &t, is32);
	load_task_segs(c, &t, ext);
	if (!(t.eflags & X86_FL_VM) && t.eip > c->s.seg[X86_CS].limit)
		x86_gp(c, ext);
	if (has_err)
		x86_push(c, is32 ? 4 : 2, err);
	if (t.trap) {
		c->db_trap.vector = X86_EX_DB;
		c->db_trap.kind = X86_EV_TRAP;
		c->db_trap.dr6 |= 1u << 15;
		c->leave_block = true;
	}
}
