/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files that implement segments, control transfers and event delivery
 * share: descriptor fields, error codes with the EXT bit, and a stack pointer
 * that is only committed when every access has succeeded.
 *
 * `ext` in these functions is 0 or 1: bit 0 of an error code, set while an event
 * from outside the program is being delivered (SDM vol. 3, 6.13).
 */
#ifndef LODGE_CPU_X86_SYS_H
#define LODGE_CPU_X86_SYS_H

#include "cpu/x86/cpu.h"

/* System segment types (S = 0). */
enum {
	X86_ST_TSS16 = 1, X86_ST_LDT = 2, X86_ST_TSS16_BUSY = 3, X86_ST_CALL16 = 4, X86_ST_TASK_GATE = 5,
	X86_ST_INT16 = 6, X86_ST_TRAP16 = 7, X86_ST_TSS32 = 9, X86_ST_TSS32_BUSY = 11, X86_ST_CALL32 = 12,
	X86_ST_INT32 = 14, X86_ST_TRAP32 = 15,
};

static inline unsigned desc_type(const struct x86_desc *d) { return d->hi >> 8 & 15; }
static inline bool desc_s(const struct x86_desc *d) { return d->hi & 1u << 12; }
static inline unsigned desc_dpl(const struct x86_desc *d) { return d->hi >> 13 & 3; }
static inline bool desc_p(const struct x86_desc *d) { return d->hi & 1u << 15; }
static inline bool desc_l(const struct x86_desc *d) { return d->hi & 1u << 21; }
static inline bool desc_db(const struct x86_desc *d) { return d->hi & 1u << 22; }
static inline bool desc_code(const struct x86_desc *d) { return (d->hi & 0x1800) == 0x1800; }
static inline bool desc_conforming(const struct x86_desc *d) { return (d->hi & 0x1c00) == 0x1c00; }
/* A data segment that may be written. */
static inline bool desc_wdata(const struct x86_desc *d) { return (d->hi & 0x1a00) == 0x1200; }
/* May be loaded for reading: data, or readable code. */
static inline bool desc_readable(const struct x86_desc *d)
{
	return desc_s(d) && (!(d->hi & 0x800) || (d->hi & 0x200));
}
static inline uint16_t gate_sel(const struct x86_desc *d) { return d->lo >> 16; }
static inline uint64_t gate_off(const struct x86_desc *d, bool is64, bool is16)
{
	uint64_t off = d->lo & 0xffff;

	if (is16)
		return off;
	off |= d->hi & 0xffff0000u;
	return is64 ? off | (uint64_t)d->up << 32 : off;
}

static inline bool sel_null(uint16_t sel) { return !(sel & 0xfffc); }

/* Raises `vec` with selector sel as the error code. */
_Noreturn static inline void raise_sel(struct x86_cpu *c, int vec, uint16_t sel, unsigned ext)
{
	x86_raise_err(c, vec, (sel & 0xfffcu) | ext);
}

/* --- seg.c --- */
void x86_read_desc_ext(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, int vec, unsigned ext);
/* Sets the accessed bit in the table (if clear) and in d. */
void x86_desc_set_accessed(struct x86_cpu *c, struct x86_desc *d);
/* Does [off, off+len) lie inside the segment? off is at most 32 bits. */
bool x86_limit_ok(uint32_t attr, uint32_t limit, uint64_t off, unsigned len);
/* Checks a new SS for privilege level `cpl`; null selectors are the caller's business.
 * Not present raises #SS, everything else `vec`. */
void x86_check_ss(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, unsigned cpl, int vec, unsigned ext);
/* Loads a segment register from the IVT world: base = sel * 16. */
void x86_load_seg_real(struct x86_cpu *c, int seg, uint16_t sel);
void x86_load_seg_vm86(struct x86_cpu *c, int seg, uint16_t sel);
/* An unusable segment with selector sel; the base becomes 0. */
void x86_null_seg(struct x86_seg *s, uint16_t sel, unsigned dpl);
/* CS with RPL := cpl, and SS whose DPL is what CPL is derived from. */
void x86_commit_cs(struct x86_cpu *c, uint16_t sel, const struct x86_desc *d, unsigned cpl);
void x86_commit_ss(struct x86_cpu *c, uint16_t sel, const struct x86_desc *d, unsigned cpl);

/* --- a stack in flight --- */
struct x86_stack {
	uint64_t base;
	uint64_t sp;
	uint64_t mask;			/* 0xffff, 0xffffffff or all ones */
	uint32_t limit, attr;
	enum x86_acc acc;
	uint32_t err;			/* error code of a #SS on this stack */
	bool flat;			/* 64-bit: no limit, canonical check */
};
void x86_stack_current(struct x86_cpu *c, struct x86_stack *st);
/* The stack that SS descriptor d describes, used with cpl's rights. */
void x86_stack_from_desc(struct x86_stack *st, const struct x86_desc *d, uint64_t sp, unsigned cpl, uint32_t err);
void x86_stack_push(struct x86_cpu *c, struct x86_stack *st, unsigned osz, uint64_t v);
uint64_t x86_stack_pop(struct x86_cpu *c, struct x86_stack *st, unsigned osz);
/* #SS now if n bytes below sp do not fit. */
void x86_stack_room(struct x86_cpu *c, const struct x86_stack *st, unsigned n);
/* Stores sp to RSP under the stack's width. */
void x86_stack_commit(struct x86_cpu *c, const struct x86_stack *st);

/* Stores rsp to RSP under the width of the current stack. */
void x86_set_sp(struct x86_cpu *c, uint64_t rsp);
/* After a return to an outer level: data segments it may not use become null. */
void x86_drop_inner_segs(struct x86_cpu *c);

/* --- task.c --- */
enum x86_task_why { X86_TASK_JMP, X86_TASK_CALL, X86_TASK_IRET, X86_TASK_GATE };
/* Switches to the task of TSS selector sel.  next_rip is saved as the old task's
 * EIP.  err: pushed on the new task's stack (X86_TASK_GATE only) if has_err. */
void x86_task_switch(struct x86_cpu *c, uint16_t sel, enum x86_task_why why, uint64_t next_rip, uint64_t old_flags,
		     bool has_err, uint32_t err, unsigned ext);
/* Stack pointer and SS of privilege level dpl from the 16- or 32-bit TSS. */
void x86_tss_stack(struct x86_cpu *c, unsigned dpl, uint16_t *ss, uint32_t *esp, unsigned ext);
/* RSPn (ist = 0) or ISTn of the 64-bit TSS. */
uint64_t x86_tss_rsp(struct x86_cpu *c, unsigned dpl, unsigned ist, unsigned ext);

/* --- deliver.c --- */
/* VM86 interrupt through the 8086-style table of the task (CR4.VME). */
void x86_vm86_redirect(struct x86_cpu *c, int vector);
/* Whether the software-interrupt redirection bit of `vector` is set in the TSS. */
bool x86_vme_bit(struct x86_cpu *c, int vector);

/* --- cpuid.c --- */
bool x86_model_is_amd(const struct x86_cpu_model *m);

#endif
