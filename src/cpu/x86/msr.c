/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers (SDM vol. 4) and the time-stamp counter.
 *
 * One function each for reading and writing; groups with rules of their own
 * (MTRRs, KVM's paravirtual clock) have their own functions, which return false
 * for what the CPU refuses.  What does not exist raises #GP.
 */
#include "base/log.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/pvclock.h"
#include "cpu/x86/sys.h"
#include "cpu/x86/trial.h"

enum {
	MSR_TSC = 0x10, MSR_KVM_WALL_OLD = 0x11, MSR_KVM_TIME_OLD = 0x12, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b,
	MSR_TSC_ADJUST = 0x3b, MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49, MSR_UCODE_TRIGGER = 0x79,
	MSR_UCODE_REV = 0x8b, MSR_MTRRCAP = 0xfe, MSR_ARCH_CAP = 0x10a, MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0, MSR_DEBUGCTL = 0x1d9, MSR_LBR_FIRST = 0x1db, MSR_LBR_LAST = 0x1de,
	MSR_MTRR_VAR0 = 0x200, MSR_MTRR_VAR_END = 0x200 + 2 * X86_MTRR_VAR - 1, MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258, MSR_MTRR_FIX4K = 0x268, MSR_PAT = 0x277, MSR_MTRR_DEF = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800, MSR_X2APIC_LAST = 0x8ff, MSR_XSS = 0xda0,
	MSR_KVM_WALL = 0x4b564d00, MSR_KVM_TIME = 0x4b564d01,
};

#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
/* AMD's; constant here. */
#define MSR_K7_EVNTSEL0 0xc0010000u	/* and counters from 4 on */
#define MSR_SYSCFG 0xc0010010u
#define MSR_HWCR 0xc0010015u
#define MSR_NB_CFG 0xc001001fu
#define MSR_INT_PENDING 0xc0010055u
#define MSR_PATCH_LOADER 0xc0010020u
#define MSR_LS_CFG 0xc0011020u
#define MSR_IC_CFG 0xc0011021u
#define MSR_DC_CFG 0xc0011022u
#define MSR_BU_CFG 0xc0011023u
#define MSR_DE_CFG 0xc0011029u
#define MSR_BU_CFG2 0xc001102au

#define HWCR_TSC_FREQ_SEL (1ull << 24)
#define DE_CFG_LFENCE_SERIALIZE (1ull << 1)
#define UCODE_REV 0x100000000ull
#define EFER_AUTOIBRS (1u << 21)
/* RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO IF_PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO
 * BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO: instructions are interpreted, none of these leaks exists
 * in the form the mitigations assume. */
#define ARCH_CAP_VALUE 0x400000000d10e17bull
#define MISC_ENABLE_RO 0x1880ull
#define DEBUGCTL_VALID 3ull
#define MTRRCAP_VALUE (0x500ull | X86_MTRR_VAR)

static bool feat(const struct x86_cpu *c, enum x86_feature_word w, unsigned bit)
{
	return x86_has(c->model, w, 1u << bit);
}

static bool has_arch_cap(const struct x86_cpu *c) { return feat(c, X86_F_7_EDX, 29); }
static bool has_spec_ctrl(const struct x86_cpu *c) { return feat(c, X86_F_7_EDX, 26); }

/* --- time stamp --- */

uint64_t x86_rdtsc(struct x86_cpu *c)
{
	x86_trial_refuse(c);
	return x86_host_tsc() + c->tsc_base_offset + c->s.tsc_offset;
}

/* Moves the counter; the KVM clock page follows. */
static void shift_tsc(struct x86_cpu *c, uint64_t delta)
{
	c->s.tsc_offset += delta;
	c->s.tsc_adjust += delta;
	x86_pvclock_update(c);
}

/* --- MTRR, PAT --- */

static bool mem_type_ok(unsigned t, bool pat)
{
	return t == 0 || t == 1 || t == 4 || t == 5 || t == 6 || (pat && t == 7);
}

static bool types_ok(uint64_t v, bool pat)
{
	for (unsigned i = 0; i < 8; i++)
		if (!mem_type_ok(v >> (8 * i) & 0xff, pat))
			return false;
	return true;
}

/* Index of a fixed-range MTRR, or -1. */
static int mtrr_fixed(uint32_t msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return 0;
	if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
		return 1 + (int)(msr - MSR_MTRR_FIX16K);
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return 3 + (int)(msr - MSR_MTRR_FIX4K);
	return -1;
}

static bool mtrr_write(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	uint64_t high = ~((1ull << c->phys_bits) - 1);
	int fixed = mtrr_fixed(msr);

	if (fixed >= 0) {
		if (!types_ok(v, false))
			return false;
		c->s.mtrr_fixed[fixed] = v;
	} else if (msr == MSR_MTRR_DEF) {
		if ((v & ~0xcffull) || !mem_type_ok(v & 0xff, false))
			return false;
		c->s.mtrr_def_type = v;
	} else {
		unsigned i = msr - MSR_MTRR_VAR0;

		if (v & (high | (i & 1 ? 0x7ffull : 0xf00ull)))
			return false;
		if (!(i & 1) && !mem_type_ok(v & 0xff, false))
			return false;
		c->s.mtrr_var[i / 2][i & 1] = v;
	}
	return true;
}

static bool is_mtrr(const struct x86_cpu *c, uint32_t msr)
{
	if (!feat(c, X86_F_1_EDX, 12))
		return false;
	return (msr >= MSR_MTRR_VAR0 && msr <= MSR_MTRR_VAR_END) || msr == MSR_MTRR_DEF || mtrr_fixed(msr) >= 0;
}

static uint64_t mtrr_read(struct x86_cpu *c, uint32_t msr)
{
	int fixed = mtrr_fixed(msr);

	if (fixed >= 0)
		return c->s.mtrr_fixed[fixed];
	if (msr == MSR_MTRR_DEF)
		return c->s.mtrr_def_type;
	return c->s.mtrr_var[(msr - MSR_MTRR_VAR0) / 2][(msr - MSR_MTRR_VAR0) & 1];
}

/* --- EFER --- */

static bool efer_write(struct x86_cpu *c, uint64_t v)
{
	uint64_t valid = X86_EFER_LMA;

	valid |= feat(c, X86_F_81_EDX, 11) ? X86_EFER_SCE : 0;
	valid |= feat(c, X86_F_81_EDX, 29) ? X86_EFER_LME : 0;
	valid |= feat(c, X86_F_81_EDX, 20) ? X86_EFER_NXE : 0;
	valid |= feat(c, X86_F_821_EAX, 8) ? EFER_AUTOIBRS : 0;
	if (v & ~valid)
		return false;
	if (((v ^ c->s.efer) & X86_EFER_LME) && c->paging)
		return false;
	v = (v & ~(uint64_t)X86_EFER_LMA) | (c->s.efer & X86_EFER_LMA);
	if ((v ^ c->s.efer) & X86_EFER_NXE)
		x86_tlb_flush(c);
	c->s.efer = v;
	x86_mode_update(c);
	return true;
}

/* --- local APIC --- */

static bool is_apic(uint32_t msr)
{
	return (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST) || msr == MSR_TSC_DEADLINE;
}

static bool apic_ok(const struct x86_cpu *c, uint32_t msr)
{
	if (!c->vcpu.intc)
		return false;
	return msr == MSR_TSC_DEADLINE ? feat(c, X86_F_1_ECX, 24) : feat(c, X86_F_1_ECX, 21);
}

static bool apic_base_write(struct x86_cpu *c, uint64_t v)
{
	/* The chip has x2APIC mode; whether the CPU model does is known here. */
	if (v & 1u << 10 && !feat(c, X86_F_1_ECX, 21))
		return false;
	if (!c->vcpu.intc || c->vcpu.intc->set_base(c->vcpu.intc_opaque, v))
		return false;
	c->s.apic_base = v;
	x86_tlb_flush(c);	/* the page of the xAPIC may have moved */
	return true;
}

/* --- AMD --- */

static bool amd_read(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
	if (!x86_model_is_amd(c->model))
		return false;
	/* The four counters every AMD CPU has (K7): they never count. */
	if (msr >= MSR_K7_EVNTSEL0 && msr < MSR_K7_EVNTSEL0 + 8) {
		*v = 0;
		return true;
	}
	switch (msr) {
	case MSR_HWCR: *v = HWCR_TSC_FREQ_SEL; return true;
	case MSR_DE_CFG: *v = DE_CFG_LFENCE_SERIALIZE; return true;
	case MSR_SYSCFG: case MSR_INT_PENDING: case MSR_NB_CFG: case MSR_LS_CFG: case MSR_IC_CFG: case MSR_DC_CFG: case MSR_BU_CFG:
	case MSR_BU_CFG2:
		*v = 0;
		return true;
	}
	return false;
}

/* Work-around bits of bare processors: accepted where they change nothing. */
static bool amd_write(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	uint64_t now;

	if (x86_model_is_amd(c->model) && msr == MSR_PATCH_LOADER)
		return true;
	if (!amd_read(c, msr, &now))
		return false;
	if (msr == MSR_HWCR)
		return !(v & ~(HWCR_TSC_FREQ_SEL | 0x148));	/* FFDIS, IGNNE, TLBCACHEDIS: no effect */
	if (msr == MSR_SYSCFG)
		return true;
	return msr != MSR_DE_CFG || !(v & ~DE_CFG_LFENCE_SERIALIZE);
}

/* --- reading --- */

static bool read_fixed(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
	switch (msr) {
	case MSR_PLATFORM_ID: *v = 0; return !x86_model_is_amd(c->model);
	case MSR_UCODE_REV: *v = UCODE_REV; return true;
	case MSR_MTRRCAP: *v = MTRRCAP_VALUE; return feat(c, X86_F_1_EDX, 12);
	case MSR_ARCH_CAP: *v = ARCH_CAP_VALUE; return has_arch_cap(c);
	case MSR_MCG_CAP: *v = 0; return feat(c, X86_F_1_EDX, 14);
	default: return false;
	}
}

static bool read_state(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
	struct x86_state *s = &c->s;

	switch (msr) {
	case MSR_TSC: *v = x86_rdtsc(c); return true;
	case MSR_APIC_BASE: *v = s->apic_base; return true;
	case MSR_TSC_ADJUST: *v = s->tsc_adjust; return feat(c, X86_F_7_EBX, 1);
	case MSR_SPEC_CTRL: *v = s->spec_ctrl; return has_spec_ctrl(c);
	case MSR_SYSENTER_CS: *v = s->sysenter_cs; return feat(c, X86_F_1_EDX, 11);
	case MSR_SYSENTER_ESP: *v = s->sysenter_esp; return feat(c, X86_F_1_EDX, 11);
	case MSR_SYSENTER_EIP: *v = s->sysenter_eip; return feat(c, X86_F_1_EDX, 11);
	case MSR_MCG_STATUS: *v = s->mcg_status; return feat(c, X86_F_1_EDX, 14);
	case MSR_MISC_ENABLE: *v = s->misc_enable; return true;
	case MSR_DEBUGCTL: *v = s->debugctl; return true;
	case MSR_PAT: *v = s->pat; return feat(c, X86_F_1_EDX, 16);
	case MSR_XSS: *v = s->xss; return feat(c, X86_F_D_1_EAX, 3);
	case MSR_EFER: *v = s->efer; return true;
	case MSR_STAR: *v = s->star; return feat(c, X86_F_81_EDX, 11);
	case MSR_LSTAR: *v = s->lstar; return feat(c, X86_F_81_EDX, 29);
	case MSR_CSTAR: *v = s->cstar; return feat(c, X86_F_81_EDX, 29);
	case MSR_FMASK: *v = s->fmask; return feat(c, X86_F_81_EDX, 29);
	case MSR_FS_BASE: *v = s->seg[X86_FS].base; return feat(c, X86_F_81_EDX, 29);
	case MSR_GS_BASE: *v = s->seg[X86_GS].base; return feat(c, X86_F_81_EDX, 29);
	case MSR_KERNEL_GS_BASE: *v = s->kernel_gs_base; return feat(c, X86_F_81_EDX, 29);
	case MSR_TSC_AUX: *v = s->tsc_aux; return feat(c, X86_F_81_EDX, 27) || feat(c, X86_F_7_ECX, 22);
	case MSR_KVM_WALL: *v = s->kvm_wall_clock; return feat(c, X86_F_KVM, 3);
	case MSR_KVM_WALL_OLD: *v = s->kvm_wall_clock; return feat(c, X86_F_KVM, 0);
	case MSR_KVM_TIME: *v = s->kvm_system_time; return feat(c, X86_F_KVM, 3);
	case MSR_KVM_TIME_OLD: *v = s->kvm_system_time; return feat(c, X86_F_KVM, 0);
	default: return false;
	}
}

static bool read_msr(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
	*v = 0;
	if (msr == MSR_APIC_BASE && c->vcpu.intc) {
		*v = c->vcpu.intc->get_base(c->vcpu.intc_opaque);
		return true;
	}
	if (is_apic(msr))
		return apic_ok(c, msr) && !c->vcpu.intc->msr_read(c->vcpu.intc_opaque, msr, v);
	if (is_mtrr(c, msr)) {
		*v = mtrr_read(c, msr);
		return true;
	}
	if (msr >= MSR_LBR_FIRST && msr <= MSR_LBR_LAST)
		return true;
	return read_state(c, msr, v) || read_fixed(c, msr, v) || amd_read(c, msr, v);
}

void x86_rdmsr(struct x86_cpu *c, uint32_t msr, uint64_t *v)
{
	uint64_t got;

	x86_trial_refuse(c);
	if (!read_msr(c, msr, &got)) {
		log_guest("vCPU %u reads unknown MSR %#x", c->vcpu.id, msr);
		x86_gp(c, 0);
	}
	*v = got;
}

/* --- writing --- */

static bool store_canonical(struct x86_cpu *c, uint64_t *to, uint64_t v)
{
	if (!x86_canonical_base(c, v))
		return false;
	*to = v;
	return true;
}

static bool write_speculation(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	if (!has_spec_ctrl(c))
		return false;
	if (msr == MSR_PRED_CMD)
		return !(v & ~1ull);
	if (v & ~7ull)
		return false;
	c->s.spec_ctrl = v;
	return true;
}

static bool write_state(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	struct x86_state *s = &c->s;

	switch (msr) {
	case MSR_TSC: shift_tsc(c, v - x86_rdtsc(c)); return true;
	case MSR_TSC_ADJUST: shift_tsc(c, v - s->tsc_adjust); return true;
	case MSR_SPEC_CTRL: case MSR_PRED_CMD: return write_speculation(c, msr, v);
	case MSR_SYSENTER_CS: s->sysenter_cs = v; return true;
	case MSR_SYSENTER_ESP: return store_canonical(c, &s->sysenter_esp, v);
	case MSR_SYSENTER_EIP: return store_canonical(c, &s->sysenter_eip, v);
	case MSR_MCG_STATUS: s->mcg_status = v; return true;
	case MSR_MISC_ENABLE: s->misc_enable = (v & ~MISC_ENABLE_RO) | (s->misc_enable & MISC_ENABLE_RO); return true;
	case MSR_DEBUGCTL:
		if (v & ~DEBUGCTL_VALID)
			return false;
		s->debugctl = v;
		x86_mode_update(c);
		return true;
	case MSR_PAT:
		if (!types_ok(v, true))
			return false;
		s->pat = v;
		return true;
	case MSR_XSS: return v == 0;
	case MSR_EFER: return efer_write(c, v);
	case MSR_STAR: s->star = v; return true;
	case MSR_LSTAR: return store_canonical(c, &s->lstar, v);
	case MSR_CSTAR: return store_canonical(c, &s->cstar, v);
	case MSR_FMASK: s->fmask = v & 0xffffffffu; return true;
	case MSR_FS_BASE: return store_canonical(c, &s->seg[X86_FS].base, v);
	case MSR_GS_BASE: return store_canonical(c, &s->seg[X86_GS].base, v);
	case MSR_KERNEL_GS_BASE: return store_canonical(c, &s->kernel_gs_base, v);
	case MSR_TSC_AUX:
		if (v >> 32)
			return false;
		s->tsc_aux = v;
		return true;
	case MSR_KVM_WALL: case MSR_KVM_WALL_OLD: return x86_pvclock_set_wall(c, v);
	case MSR_KVM_TIME: case MSR_KVM_TIME_OLD: return x86_pvclock_set_time(c, v);
	default: return false;
	}
}

static bool write_msr(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	uint64_t now;

	if (msr == MSR_APIC_BASE)
		return apic_base_write(c, v);
	if (is_apic(msr))
		return apic_ok(c, msr) && !c->vcpu.intc->msr_write(c->vcpu.intc_opaque, msr, v);
	if (is_mtrr(c, msr))
		return mtrr_write(c, msr, v);
	if (msr == MSR_UCODE_TRIGGER)
		return !x86_model_is_amd(c->model);
	if (msr == MSR_UCODE_REV)
		return true;	/* zeroed before CPUID to make it show the revision */
	if (msr == MSR_PRED_CMD)
		return write_speculation(c, msr, v);
	/* What the model lacks cannot be read either. */
	if (read_state(c, msr, &now))
		return write_state(c, msr, v);
	return amd_write(c, msr, v);
}

void x86_wrmsr(struct x86_cpu *c, uint32_t msr, uint64_t v)
{
	x86_trial_refuse(c);
	if (!write_msr(c, msr, v)) {
		log_guest("vCPU %u: refused to write %#llx to MSR %#x", c->vcpu.id, (unsigned long long)v, msr);
		x86_gp(c, 0);
	}
}
