/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Architectural state of one x86-64 vCPU: flat, pointer-free, the same for
 * every engine, and what snapshots hold.
 */
#ifndef LODGE_CPU_X86_STATE_H
#define LODGE_CPU_X86_STATE_H

#include <stdalign.h>
#include <stdint.h>

enum { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI };
/* Segment registers in their encoding order, then the two system ones. */
enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_NSEG, X86_LDTR = X86_NSEG, X86_TR, X86_NSEG_ALL };

/* Access rights as in the VMCS (SDM vol. 3, 24.4.1): type 3:0, S 4, DPL 6:5,
 * P 7, AVL 12, L 13, D/B 14, G 15, unusable 16. */
#define X86_AR_TYPE 0x000fu
#define X86_AR_S 0x0010u
#define X86_AR_DPL_SHIFT 5
#define X86_AR_DPL 0x0060u
#define X86_AR_P 0x0080u
#define X86_AR_AVL 0x1000u
#define X86_AR_L 0x2000u
#define X86_AR_DB 0x4000u
#define X86_AR_G 0x8000u
#define X86_AR_UNUSABLE 0x10000u

struct x86_seg {
	uint64_t base;
	uint32_t limit;		/* in bytes, granularity applied */
	uint32_t attr;		/* X86_AR_* */
	uint16_t sel;
	uint16_t pad[3];
};

struct x86_dtable {
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

#define X86_FL_CF 0x1u
#define X86_FL_FIXED 0x2u
#define X86_FL_PF 0x4u
#define X86_FL_AF 0x10u
#define X86_FL_ZF 0x40u
#define X86_FL_SF 0x80u
#define X86_FL_TF 0x100u
#define X86_FL_IF 0x200u
#define X86_FL_DF 0x400u
#define X86_FL_OF 0x800u
#define X86_FL_IOPL 0x3000u
#define X86_FL_NT 0x4000u
#define X86_FL_RF 0x10000u
#define X86_FL_VM 0x20000u
#define X86_FL_AC 0x40000u
#define X86_FL_VIF 0x80000u
#define X86_FL_VIP 0x100000u
#define X86_FL_ID 0x200000u
#define X86_FL_ARITH 0x8d5u	/* CF PF AF ZF SF OF */

#define X86_CR0_PE (1u << 0)
#define X86_CR0_MP (1u << 1)
#define X86_CR0_EM (1u << 2)
#define X86_CR0_TS (1u << 3)
#define X86_CR0_ET (1u << 4)
#define X86_CR0_NE (1u << 5)
#define X86_CR0_WP (1u << 16)
#define X86_CR0_AM (1u << 18)
#define X86_CR0_NW (1u << 29)
#define X86_CR0_CD (1u << 30)
#define X86_CR0_PG (1u << 31)

#define X86_CR3_NOFLUSH (1ull << 63)	/* with CR4.PCIDE, of the value written only */

#define X86_CR4_VME (1u << 0)
#define X86_CR4_PVI (1u << 1)
#define X86_CR4_TSD (1u << 2)
#define X86_CR4_DE (1u << 3)
#define X86_CR4_PSE (1u << 4)
#define X86_CR4_PAE (1u << 5)
#define X86_CR4_MCE (1u << 6)
#define X86_CR4_PGE (1u << 7)
#define X86_CR4_PCE (1u << 8)
#define X86_CR4_OSFXSR (1u << 9)
#define X86_CR4_OSXMMEXCPT (1u << 10)
#define X86_CR4_UMIP (1u << 11)
#define X86_CR4_LA57 (1u << 12)
#define X86_CR4_VMXE (1u << 13)
#define X86_CR4_FSGSBASE (1u << 16)
#define X86_CR4_PCIDE (1u << 17)
#define X86_CR4_OSXSAVE (1u << 18)
#define X86_CR4_SMEP (1u << 20)
#define X86_CR4_SMAP (1u << 21)
#define X86_CR4_PKE (1u << 22)

#define X86_EFER_SCE (1u << 0)
#define X86_EFER_LME (1u << 8)
#define X86_EFER_LMA (1u << 10)
#define X86_EFER_NXE (1u << 11)
#define X86_EFER_SVME (1u << 12)

enum {
	X86_EX_DE = 0, X86_EX_DB = 1, X86_EX_NMI = 2, X86_EX_BP = 3, X86_EX_OF = 4,
	X86_EX_BR = 5, X86_EX_UD = 6, X86_EX_NM = 7, X86_EX_DF = 8, X86_EX_TS = 10,
	X86_EX_NP = 11, X86_EX_SS = 12, X86_EX_GP = 13, X86_EX_PF = 14, X86_EX_MF = 16,
	X86_EX_AC = 17, X86_EX_MC = 18, X86_EX_XM = 19,
};

enum x86_activity { X86_ACTIVE, X86_HALTED, X86_WAIT_SIPI, X86_SHUTDOWN };

/* Faults are none of them: their instruction runs again. */
enum x86_on_its_way { X86_WAY_NONE, X86_WAY_INTR, X86_WAY_NMI, X86_WAY_TRAP /* #DB */ };

/* Interrupt shadow. */
#define X86_SHADOW_STI 1
#define X86_SHADOW_MOVSS 2

/*
 * x87, MMX, SSE to AVX-512.  fx is a 64-bit FXSAVE image (SDM vol. 1, 10.5.1)
 * of which only the x87 part (bytes 0..23 and 32..159) is authoritative; vector
 * registers live in zmm, MXCSR in mxcsr.
 */
struct x86_fpu {
	alignas(64) uint8_t zmm[32][64];
	alignas(64) uint8_t fx[512];
	uint64_t k[8];
	uint32_t mxcsr;
	uint32_t pkru;
};

#define X86_MTRR_VAR 8

struct x86_state {
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;		/* bit 1 always set */
	struct x86_seg seg[X86_NSEG_ALL];
	struct x86_dtable gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4;
	uint64_t xcr0, efer;
	uint64_t dr[4], dr6, dr7;

	uint64_t star, lstar, cstar, fmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, spec_ctrl, tsc_adjust, debugctl, xss;
	uint64_t tsc_aux;
	uint64_t tsc_offset;		/* added to the engine's TSC base */
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[X86_MTRR_VAR][2];
	uint64_t mcg_status;
	uint64_t kvm_system_time, kvm_wall_clock, kvm_steal_time, kvm_poll, kvm_async_pf, kvm_eoi;
	uint64_t apic_base;		/* copy for snapshots; the intc is authoritative */
	uint64_t pae_pdpte[4];		/* loaded by mov cr3 in PAE paging */

	uint8_t activity;		/* enum x86_activity */
	uint8_t shadow;			/* X86_SHADOW_* for the next instruction */
	uint8_t nmi_blocked;
	uint8_t smm;
	uint8_t event;			/* enum x86_on_its_way: an event that was taken, and whose delivery has not been seen yet */
	uint8_t event_vector;
	uint8_t pad[2];

	struct x86_fpu fpu;
};

/* Values after power-on or INIT (SDM vol. 3, 10.1): INIT keeps the FPU, MSRs
 * like MTRRs, and the cache bits of CR0. */
void x86_state_reset(struct x86_state *s, unsigned vcpu_id, int init);

#endif
