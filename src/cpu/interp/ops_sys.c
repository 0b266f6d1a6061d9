/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions: operand fetch and the checks that belong to the
 * instruction itself; the semantics are in cpu/x86.
 *
 * A function here runs with s.rflags complete and s.rip already on the next
 * instruction; raising a fault puts it back.
 */
#include <stdatomic.h>

#include "cpu/interp/interp.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/sys.h"

#define SYS(name) static void name(struct x86_cpu *c, const struct uop *u)

static void privileged(struct x86_cpu *c)
{
	if (c->cpl)
		x86_gp(c, 0);
}
static void protected_only(struct x86_cpu *c)
{
	if (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86)
		x86_ud(c);
}
static void umip(struct x86_cpu *c)
{
	if (c->cpl && (c->s.cr4 & X86_CR4_UMIP))
		x86_gp(c, 0);
}
static unsigned iopl(const struct x86_cpu *c) { return (c->s.rflags & X86_FL_IOPL) >> 12; }

/* Operand of osz bytes: register src, or memory when aux. */
static uint64_t operand(struct x86_cpu *c, const struct uop *u, unsigned len)
{
	return u->aux ? ld_n(c, u, uop_lin(c, u, len, X86_READ), len) : reg_get(c, u->src, len);
}

/* --- flags and interrupts --- */

SYS(do_cli)
{
	uint64_t *f = &c->s.rflags;

	if (c->mode == X86_MODE_REAL || (c->mode == X86_MODE_VM86 ? iopl(c) == 3 : c->cpl <= iopl(c)))
		*f &= ~(uint64_t)X86_FL_IF;
	else if (c->mode == X86_MODE_VM86 ? c->s.cr4 & X86_CR4_VME : c->cpl == 3 && (c->s.cr4 & X86_CR4_PVI))
		*f &= ~(uint64_t)X86_FL_VIF;
	else
		x86_gp(c, 0);
}

SYS(do_sti)
{
	uint64_t *f = &c->s.rflags;

	if (c->mode == X86_MODE_REAL || (c->mode == X86_MODE_VM86 ? iopl(c) == 3 : c->cpl <= iopl(c))) {
		if (!(*f & X86_FL_IF))
			c->s.shadow = X86_SHADOW_STI;
		*f |= X86_FL_IF;
	} else if ((c->mode == X86_MODE_VM86 ? c->s.cr4 & X86_CR4_VME : c->cpl == 3 && (c->s.cr4 & X86_CR4_PVI)) &&
		   !(*f & X86_FL_VIP)) {
		*f |= X86_FL_VIF;
	} else {
		x86_gp(c, 0);
	}
}

SYS(do_pushf)
{
	uint64_t v = c->s.rflags & ~(uint64_t)(X86_FL_VM | X86_FL_RF);

	if (c->mode == X86_MODE_VM86 && iopl(c) < 3) {
		if (!(c->s.cr4 & X86_CR4_VME) || u->osz != 2)
			x86_gp(c, 0);
		v &= ~(uint64_t)X86_FL_IF;
		v |= X86_FL_IOPL | (v & X86_FL_VIF ? X86_FL_IF : 0);
	}
	x86_push(c, u->osz, v);
}

SYS(do_popf)
{
	uint64_t sp = c->s.gpr[X86_RSP], v = x86_pop(c, u->osz), after = c->s.gpr[X86_RSP];

	c->s.gpr[X86_RSP] = sp;
	x86_set_flags(c, v, u->osz);
	c->s.gpr[X86_RSP] = after;
}

static void smap_ac(struct x86_cpu *c, bool ac)
{
	if (!x86_has(c->model, X86_F_7_EBX, BIT(20)) || c->cpl || c->mode == X86_MODE_VM86)
		x86_ud(c);
	c->s.rflags = ac ? c->s.rflags | X86_FL_AC : c->s.rflags & ~(uint64_t)X86_FL_AC;
	/* Only the access class changes: cheaper than x86_mode_update. */
	c->acc = ac ? X86_ACC_SUP_AC : X86_ACC_SUP;
	c->tlb_now = c->tlb[c->acc];
}
SYS(do_clac) { smap_ac(c, false); }
SYS(do_stac) { smap_ac(c, true); }

SYS(do_hlt)
{
	privileged(c);
	c->s.activity = X86_HALTED;
}

SYS(do_int)
{
	if (unlikely(c->debug != NULL) && u->len == 1)
		x86_debug_int3(c, uop_rip(c, u) + c->cs_base);
	x86_soft_int(c, (int)u->imm, X86_EV_SOFT);
}
/* A breakpoint held back by MOV SS is reported together with this #DB. */
SYS(do_int1)
{
	c->s.dr6 |= c->db_trap.dr6;
	c->db_trap.dr6 = 0;
	x86_soft_int(c, X86_EX_DB, X86_EV_SOFT_ICEBP);
}
SYS(do_into)
{
	if (c->s.rflags & X86_FL_OF)
		x86_soft_int(c, X86_EX_OF, X86_EV_SOFT);
}
SYS(do_iret) { x86_iret(c, u->osz); }
/* SYSCALL and SYSRET trap by the TF they leave, not by the one they found. */
static void trap_if_tf(struct x86_cpu *c)
{
	if (c->s.rflags & X86_FL_TF)
		c->db_trap.dr6 |= 1u << 14;
}
SYS(do_syscall)
{
	x86_syscall(c);
	trap_if_tf(c);
}
SYS(do_sysret)
{
	x86_sysret(c, u->osz);
	trap_if_tf(c);
}
SYS(do_sysenter) { x86_sysenter(c); }
SYS(do_sysexit) { x86_sysexit(c, u->osz); }

/* --- far transfers --- */

SYS(do_jmp_far) { x86_jmp_far(c, (uint16_t)u->disp, (uint32_t)u->imm, u->osz); }
SYS(do_call_far) { x86_call_far(c, (uint16_t)u->disp, (uint32_t)u->imm, u->osz); }
SYS(do_ret_far) { x86_ret_far(c, u->osz, (uint16_t)u->imm); }

static void far_pointer_of(struct x86_cpu *c, const struct uop *u, unsigned n, uint64_t *off, uint16_t *sel)
{
	uint64_t lin = uop_lin(c, u, n + 2u, X86_READ);

	*off = ld_n(c, u, lin, n);
	*sel = ld16(c, u, lin + n);
}

/* AMD's processors have no 64-bit offsets in memory: with a 64-bit operand size, too, 32 bits are taken. */
static void far_pointer(struct x86_cpu *c, const struct uop *u, uint64_t *off, uint16_t *sel)
{
	far_pointer_of(c, u, u->osz == 8 && x86_model_is_amd(c->model) ? 4 : u->osz, off, sel);
}

/* Where that gives a null selector, which is #GP there, Intel's form is taken, as KVM's emulator does (QUIRKS). */
static void far_target(struct x86_cpu *c, const struct uop *u, uint64_t *off, uint16_t *sel)
{
	far_pointer(c, u, off, sel);
	if (u->osz == 8 && !(*sel & ~3))
		far_pointer_of(c, u, 8, off, sel);
}
SYS(do_jmp_far_m)
{
	uint64_t off;
	uint16_t sel;

	far_target(c, u, &off, &sel);
	x86_jmp_far(c, sel, off, u->osz);
}
SYS(do_call_far_m)
{
	uint64_t off;
	uint16_t sel;

	far_target(c, u, &off, &sel);
	x86_call_far(c, sel, off, u->osz);
}
/* LES LDS LSS LFS LGS: rep = segment */
SYS(do_lxs)
{
	uint64_t off;
	uint16_t sel;

	far_pointer(c, u, &off, &sel);
	x86_load_seg(c, u->rep, sel);
	reg_set(c, u->dst, u->osz, off);
	x86_mode_update(c);
}

/* --- segment registers --- */

SYS(do_mov_to_seg)	/* rep = segment */
{
	uint16_t sel = (uint16_t)operand(c, u, 2);

	x86_load_seg(c, u->rep, sel);
	x86_mode_update(c);
	if (u->rep == X86_SS)
		c->s.shadow = X86_SHADOW_MOVSS;
}
SYS(do_mov_from_seg)	/* memory: always 2 bytes; register: zero-extended */
{
	uint16_t sel = c->s.seg[u->rep].sel;

	if (u->aux)
		st16(c, u, uop_lin(c, u, 2, X86_WRITE), sel);
	else
		reg_set(c, u->dst, u->osz, sel);
}
SYS(do_push_seg) { x86_push(c, u->osz, c->s.seg[u->rep].sel); }
SYS(do_pop_seg)
{
	uint64_t sp = c->s.gpr[X86_RSP];
	uint16_t sel = (uint16_t)x86_pop(c, u->osz);
	uint64_t after = c->s.gpr[X86_RSP];

	c->s.gpr[X86_RSP] = sp;
	x86_load_seg(c, u->rep, sel);
	reg_set(c, GPR_OFF(X86_RSP), c->stack_size, after);
	x86_mode_update(c);
	if (u->rep == X86_SS)
		c->s.shadow = X86_SHADOW_MOVSS;
}

SYS(do_fsgsbase)	/* aux 0 read, 1 write; rep = segment */
{
	if (c->mode != X86_MODE_LONG64 || !(c->s.cr4 & X86_CR4_FSGSBASE))
		x86_ud(c);
	if (!u->aux) {
		reg_set(c, u->dst, u->osz, c->s.seg[u->rep].base);
		return;
	}
	if (u->osz == 8 && !x86_canonical_base(c, R64(c, u->dst)))
		x86_gp(c, 0);
	c->s.seg[u->rep].base = reg_get(c, u->dst, u->osz);
}

SYS(do_swapgs)
{
	uint64_t v = c->s.seg[X86_GS].base;

	if (c->mode != X86_MODE_LONG64)
		x86_ud(c);
	privileged(c);
	c->s.seg[X86_GS].base = c->s.kernel_gs_base;
	c->s.kernel_gs_base = v;
}

/* --- descriptor tables --- */

static void load_table(struct x86_cpu *c, const struct uop *u, struct x86_dtable *t)
{
	bool long64 = c->mode == X86_MODE_LONG64;
	uint64_t lin, base;
	uint16_t limit;

	privileged(c);
	lin = uop_lin(c, u, long64 ? 10 : 6, X86_READ);
	limit = ld16(c, u, lin);
	base = long64 ? ld64(c, u, lin + 2) : ld32(c, u, lin + 2);
	if (!long64 && u->osz == 2)
		base &= 0xffffff;
	if (long64 && !x86_canonical_base(c, base))
		x86_gp(c, 0);
	t->limit = limit;
	t->base = base;
}
static void store_table(struct x86_cpu *c, const struct uop *u, const struct x86_dtable *t)
{
	bool long64 = c->mode == X86_MODE_LONG64;
	uint64_t lin;
	uint8_t b[10];

	umip(c);
	lin = uop_lin(c, u, long64 ? 10 : 6, X86_WRITE);
	interp_ld_slow(c, u, lin, 1);
	st_le16(b, t->limit);
	st_le64(b + 2, t->base);
	x86_mem_write(c, lin, b, long64 ? 10 : 6, c->acc);
}
SYS(do_lgdt) { load_table(c, u, &c->s.gdtr); }
SYS(do_lidt) { load_table(c, u, &c->s.idtr); }
SYS(do_sgdt) { store_table(c, u, &c->s.gdtr); }
SYS(do_sidt) { store_table(c, u, &c->s.idtr); }

/* Store a selector or machine status word: memory 2 bytes, register by osz. */
static void store_word(struct x86_cpu *c, const struct uop *u, uint64_t v)
{
	if (u->aux)
		st16(c, u, uop_lin(c, u, 2, X86_WRITE), (uint16_t)v);
	else
		reg_set(c, u->dst, u->osz, v);
}
SYS(do_sldt) { protected_only(c); umip(c); store_word(c, u, c->s.seg[X86_LDTR].sel); }
SYS(do_str) { protected_only(c); umip(c); store_word(c, u, c->s.seg[X86_TR].sel); }
SYS(do_smsw) { umip(c); store_word(c, u, c->s.cr0); }
SYS(do_lldt) { protected_only(c); privileged(c); x86_lldt(c, (uint16_t)operand(c, u, 2)); }
SYS(do_ltr) { protected_only(c); privileged(c); x86_ltr(c, (uint16_t)operand(c, u, 2)); }
SYS(do_lmsw) { privileged(c); x86_lmsw(c, (uint16_t)operand(c, u, 2)); }

static void set_zf(struct x86_cpu *c, bool zf)
{
	c->s.rflags = zf ? c->s.rflags | X86_FL_ZF : c->s.rflags & ~(uint64_t)X86_FL_ZF;
}
SYS(do_lar)
{
	uint32_t out;
	bool ok;

	protected_only(c);
	ok = x86_lar(c, (uint16_t)operand(c, u, 2), &out);
	if (ok)
		reg_set(c, u->dst, u->osz, out);
	set_zf(c, ok);
}
SYS(do_lsl)
{
	uint32_t out;
	bool ok;

	protected_only(c);
	ok = x86_lsl(c, (uint16_t)operand(c, u, 2), &out);
	if (ok)
		reg_set(c, u->dst, u->osz, out);
	set_zf(c, ok);
}
SYS(do_verr) { protected_only(c); set_zf(c, x86_ver(c, (uint16_t)operand(c, u, 2), false)); }
SYS(do_verw) { protected_only(c); set_zf(c, x86_ver(c, (uint16_t)operand(c, u, 2), true)); }
SYS(do_arpl)
{
	uint16_t src = R16(c, u->src), v;
	struct rmw r;
	bool adjust;

	protected_only(c);
	if (!u->aux) {
		v = R16(c, u->dst);
		adjust = (v & 3) < (src & 3);
		if (adjust)
			R16(c, u->dst) = (uint16_t)((v & ~3) | (src & 3));
	} else {
		rmw_begin(c, u, &r, 2);
		v = *(uint16_t *)r.p;
		adjust = (v & 3) < (src & 3);
		if (adjust)
			*(uint16_t *)r.p = (uint16_t)((v & ~3) | (src & 3));
		rmw_end(c, &r, 2);
	}
	set_zf(c, adjust);
}

/* --- control, debug, model-specific --- aux = register number */

SYS(do_mov_from_cr)
{
	unsigned osz = c->mode == X86_MODE_LONG64 ? 8 : 4;

	privileged(c);
	reg_set(c, u->dst, osz, x86_get_cr(c, u->aux));
}
SYS(do_mov_to_cr)
{
	privileged(c);
	x86_set_cr(c, u->aux, reg_get(c, u->src, c->mode == X86_MODE_LONG64 ? 8 : 4));
	c->intr_maybe = true;	/* the TPR may have been lowered */
}
SYS(do_mov_from_dr)
{
	privileged(c);
	reg_set(c, u->dst, c->mode == X86_MODE_LONG64 ? 8 : 4, x86_get_dr(c, u->aux));
}
SYS(do_mov_to_dr)
{
	privileged(c);
	x86_set_dr(c, u->aux, reg_get(c, u->src, c->mode == X86_MODE_LONG64 ? 8 : 4));
}
SYS(do_clts) { privileged(c); x86_clts(c); }

SYS(do_rdmsr)
{
	uint64_t v;

	privileged(c);
	x86_rdmsr(c, (uint32_t)c->s.gpr[X86_RCX], &v);
	c->s.gpr[X86_RAX] = (uint32_t)v;
	c->s.gpr[X86_RDX] = v >> 32;
}
SYS(do_wrmsr)
{
	privileged(c);
	x86_wrmsr(c, (uint32_t)c->s.gpr[X86_RCX], c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX]);
	c->intr_maybe = true;
}

static void tsc_allowed(struct x86_cpu *c)
{
	if (c->cpl && (c->s.cr4 & X86_CR4_TSD))
		x86_gp(c, 0);
}
static void put_tsc(struct x86_cpu *c)
{
	uint64_t v = x86_rdtsc(c);

	c->s.gpr[X86_RAX] = (uint32_t)v;
	c->s.gpr[X86_RDX] = v >> 32;
}
SYS(do_rdtsc) { tsc_allowed(c); put_tsc(c); }
SYS(do_rdtscp)
{
	if (!x86_has(c->model, X86_F_81_EDX, BIT(27)))
		x86_ud(c);
	tsc_allowed(c);
	put_tsc(c);
	c->s.gpr[X86_RCX] = (uint32_t)c->s.tsc_aux;
}
/* No performance counters are offered: any counter number is invalid. */
SYS(do_rdpmc) { x86_gp(c, 0); }

SYS(do_cpuid)
{
	uint32_t r[4];

	x86_cpuid(c, (uint32_t)c->s.gpr[X86_RAX], (uint32_t)c->s.gpr[X86_RCX], r);
	c->s.gpr[X86_RAX] = r[0];
	c->s.gpr[X86_RBX] = r[1];
	c->s.gpr[X86_RCX] = r[2];
	c->s.gpr[X86_RDX] = r[3];
}

SYS(do_xgetbv)
{
	uint64_t v = x86_xgetbv(c, (uint32_t)c->s.gpr[X86_RCX]);

	c->s.gpr[X86_RAX] = (uint32_t)v;
	c->s.gpr[X86_RDX] = v >> 32;
}
SYS(do_xsetbv)
{
	x86_xsetbv(c, (uint32_t)c->s.gpr[X86_RCX], c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX]);
}

SYS(do_invlpg)
{
	uint64_t lin = uop_off(c, u);

	privileged(c);
	if (c->mode == X86_MODE_LONG64)
		lin = (u->asz == 4 ? (uint32_t)lin : lin) + (u->seg >= X86_FS ? c->s.seg[u->seg].base : 0);
	else
		lin = (uint32_t)((u->asz == 2 ? (uint16_t)lin : (uint32_t)lin) + c->s.seg[u->seg].base);
	x86_invlpg(c, lin);
}
SYS(do_invpcid)
{
	uint64_t lin, d[2];

	if (!x86_has(c->model, X86_F_7_EBX, BIT(10)) || c->mode == X86_MODE_VM86)
		x86_ud(c);
	privileged(c);
	lin = uop_lin(c, u, 16, X86_READ);
	d[0] = ld64(c, u, lin);
	d[1] = ld64(c, u, lin + 8);
	if (d[0] >> 12)
		x86_gp(c, 0);
	x86_invpcid(c, reg_get(c, u->dst, u->osz), d[0], d[1]);
}
SYS(do_cache) { privileged(c); }

/* --- ports: osz bytes; aux 1: port in imm, else DX --- */

static uint16_t port_of(const struct x86_cpu *c, const struct uop *u)
{
	return u->aux ? (uint16_t)u->imm : (uint16_t)c->s.gpr[X86_RDX];
}
SYS(do_in)
{
	uint16_t port = port_of(c, u);
	uint64_t v = 0;

	x86_io_check(c, port, u->osz);
	c->n_pio++;
	interp_poll(interp_of(c), port, u->osz);
	bus_access(c->vcpu.m->pio, port, &v, u->osz, false);
	reg_set(c, GPR_OFF(X86_RAX), u->osz, v);
	c->db_trap.dr6 |= x86_bp_io(c, port, u->osz);
}
SYS(do_out)
{
	uint16_t port = port_of(c, u);
	uint64_t v = c->s.gpr[X86_RAX];

	x86_io_check(c, port, u->osz);
	c->n_pio++;
	bus_access(c->vcpu.m->pio, port, &v, u->osz, true);
	c->db_trap.dr6 |= x86_bp_io(c, port, u->osz);
}

/* --- hints and hypercalls --- */

SYS(do_fence) { atomic_thread_fence(memory_order_seq_cst); }
/* CLFLUSH and friends: no effect, but the address is checked as a load. */
SYS(do_clflush) { ld8(c, u, uop_lin(c, u, 1, X86_READ)); }

/* The 64 bytes around [rAX] are zeroed. */
SYS(do_clzero)
{
	static const uint8_t zeros[64];
	uint64_t off = c->s.gpr[X86_RAX], lin;

	if (!x86_has(c->model, X86_F_88_EBX, BIT(0)))
		x86_ud(c);
	off &= u->asz == 8 ? ~0ull : u->asz == 4 ? 0xffffffffu : 0xffffu;
	lin = x86_seg_lin(c, u->seg, off, 1, X86_WRITE) & ~63ull;
	x86_mem_write(c, lin, zeros, 64, c->acc);
}

#define KVM_ENOSYS 1000
#define KVM_EPERM 1
/* The hypercall leaf offers no calls; the answer is KVM's for an unknown one. */
SYS(do_hypercall)
{
	if (!c->model->hypervisor)
		x86_ud(c);
	c->s.gpr[X86_RAX] = (uint64_t)(c->cpl ? -KVM_EPERM : -KVM_ENOSYS);
	if (c->mode != X86_MODE_LONG64)
		c->s.gpr[X86_RAX] = (uint32_t)c->s.gpr[X86_RAX];
}

struct sys_entry {
	uint16_t mnemonic;
	bool stays;		/* the block may go on after it */
	sys_fn fn;
};

#define M(x) ZYDIS_MNEMONIC_##x
static const struct sys_entry table[] = {
	{ M(CLI), true, do_cli }, { M(STI), false, do_sti },
	{ M(PUSHF), true, do_pushf }, { M(PUSHFD), true, do_pushf }, { M(PUSHFQ), true, do_pushf },
	{ M(POPF), false, do_popf }, { M(POPFD), false, do_popf }, { M(POPFQ), false, do_popf },
	{ M(CLAC), true, do_clac }, { M(STAC), true, do_stac }, { M(HLT), false, do_hlt },
	{ M(INT), false, do_int }, { M(INT3), false, do_int }, { M(INT1), false, do_int1 }, { M(INTO), false, do_into },
	{ M(IRET), false, do_iret }, { M(IRETD), false, do_iret }, { M(IRETQ), false, do_iret },
	{ M(SYSCALL), false, do_syscall }, { M(SYSRET), false, do_sysret },
	{ M(SYSENTER), false, do_sysenter }, { M(SYSEXIT), false, do_sysexit },
	{ M(RDFSBASE), true, do_fsgsbase }, { M(RDGSBASE), true, do_fsgsbase },
	{ M(WRFSBASE), true, do_fsgsbase }, { M(WRGSBASE), true, do_fsgsbase }, { M(SWAPGS), true, do_swapgs },
	{ M(LGDT), false, do_lgdt }, { M(LIDT), false, do_lidt }, { M(SGDT), true, do_sgdt }, { M(SIDT), true, do_sidt },
	{ M(SLDT), true, do_sldt }, { M(STR), true, do_str }, { M(SMSW), true, do_smsw },
	{ M(LLDT), false, do_lldt }, { M(LTR), false, do_ltr }, { M(LMSW), false, do_lmsw },
	{ M(LAR), true, do_lar }, { M(LSL), true, do_lsl }, { M(VERR), true, do_verr }, { M(VERW), true, do_verw },
	{ M(ARPL), true, do_arpl }, { M(CLTS), false, do_clts },
	{ M(RDMSR), true, do_rdmsr }, { M(WRMSR), false, do_wrmsr },
	{ M(RDTSC), true, do_rdtsc }, { M(RDTSCP), true, do_rdtscp }, { M(RDPMC), true, do_rdpmc },
	{ M(CPUID), true, do_cpuid }, { M(XGETBV), true, do_xgetbv }, { M(XSETBV), false, do_xsetbv },
	{ M(INVLPG), false, do_invlpg }, { M(INVPCID), false, do_invpcid },
	{ M(INVD), true, do_cache }, { M(WBINVD), true, do_cache },
	{ M(IN), false, do_in }, { M(OUT), false, do_out },
	{ M(MFENCE), true, do_fence }, { M(SFENCE), true, do_fence }, { M(LFENCE), true, do_fence },
	{ M(CLFLUSH), true, do_clflush }, { M(CLFLUSHOPT), true, do_clflush }, { M(CLWB), true, do_clflush },
	{ M(CLZERO), true, do_clzero },
	{ M(VMCALL), true, do_hypercall }, { M(VMMCALL), true, do_hypercall },
	{ M(LDS), false, do_lxs }, { M(LES), false, do_lxs }, { M(LFS), false, do_lxs }, { M(LGS), false, do_lxs },
	{ M(LSS), false, do_lxs },
};

static bool is_far(const struct insn *i)
{
	return i->opcode == 0x9a || i->opcode == 0xea || (i->opcode == 0xff && (i->reg == 3 || i->reg == 5));
}

sys_fn interp_sys(const struct insn *i, bool *ends)
{
	*ends = true;
	switch (i->mnemonic) {
	case M(CALL):
		if (i->map == 0 && is_far(i))
			return i->has_mem ? do_call_far_m : do_call_far;
		return NULL;
	case M(JMP):
		if (i->map == 0 && is_far(i))
			return i->has_mem ? do_jmp_far_m : do_jmp_far;
		return NULL;
	case M(RET): return i->opcode == 0xca || i->opcode == 0xcb ? do_ret_far : NULL;
	case M(PUSH): *ends = false; return i->op[0].kind == INSN_OP_SEG ? do_push_seg : NULL;
	case M(POP): return i->op[0].kind == INSN_OP_SEG ? do_pop_seg : NULL;
	case M(MOV):
		if (i->op[0].kind == INSN_OP_SEG)
			return do_mov_to_seg;
		if (i->op[0].kind == INSN_OP_CR)
			return do_mov_to_cr;
		if (i->op[0].kind == INSN_OP_DR)
			return do_mov_to_dr;
		*ends = false;
		if (i->op[1].kind == INSN_OP_SEG)
			return do_mov_from_seg;
		if (i->op[1].kind == INSN_OP_CR)
			return do_mov_from_cr;
		return i->op[1].kind == INSN_OP_DR ? do_mov_from_dr : NULL;
	default: break;
	}
	for (unsigned k = 0; k < ARRAY_LEN(table); k++)
		if (table[k].mnemonic == i->mnemonic) {
			*ends = !table[k].stays;
			return table[k].fn;
		}
	return NULL;
}

bool interp_swallows_tf(const struct uop *u)
{
	sys_fn fn = uop_sys(u);

	return u->fn == op_sys_end &&
	       (fn == do_int || fn == do_int1 || fn == do_into || fn == do_syscall || fn == do_sysret);
}
