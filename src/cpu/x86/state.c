/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPU state after power-on and INIT (SDM vol. 3, table 10-1). */
#include <string.h>

#include "cpu/x86/state.h"

#define PAT_DEFAULT 0x0007040600070406ull
#define MISC_DEFAULT 0x1801u	/* fast strings; no branch trace store, no PEBS */
#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_ENABLE (1u << 11)

static void reset_fpu(struct x86_fpu *f)
{
	memset(f, 0, sizeof(*f));
	f->fx[0] = 0x40;		/* FCW after RESET */
	f->fx[4] = 0xff;		/* tags 0x5555: eight valid zeros */
	f->mxcsr = 0x1f80;
}

/* What RESET sets and INIT leaves alone. */
static void reset_only(struct x86_state *s, unsigned vcpu_id)
{
	memset(s, 0, sizeof(*s));
	reset_fpu(&s->fpu);
	s->xcr0 = 1;
	s->pat = PAT_DEFAULT;
	s->misc_enable = MISC_DEFAULT;
	s->apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (vcpu_id ? 0 : APIC_BASE_BSP);
}

static void reset_segments(struct x86_state *s)
{
	for (int i = 0; i < X86_NSEG; i++)
		s->seg[i] = (struct x86_seg){ .limit = 0xffff, .attr = 0x93 };
	s->seg[X86_CS] = (struct x86_seg){ .sel = 0xf000, .base = 0xffff0000u, .limit = 0xffff, .attr = 0x9b };
	s->seg[X86_LDTR] = (struct x86_seg){ .limit = 0xffff, .attr = 0x82 };
	s->seg[X86_TR] = (struct x86_seg){ .limit = 0xffff, .attr = 0x8b };
	s->gdtr = (struct x86_dtable){ .limit = 0xffff };
	s->idtr = (struct x86_dtable){ .limit = 0xffff };
}

void x86_state_reset(struct x86_state *s, unsigned vcpu_id, int init)
{
	uint64_t cr0 = X86_CR0_ET | X86_CR0_CD | X86_CR0_NW;

	if (init)
		cr0 = X86_CR0_ET | (s->cr0 & (X86_CR0_CD | X86_CR0_NW));
	else
		reset_only(s, vcpu_id);
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[X86_RDX] = 0x600;	/* family 6, as good as any: software reads CPUID */
	s->rip = 0xfff0;
	s->rflags = X86_FL_FIXED;
	reset_segments(s);
	s->cr0 = cr0;
	s->cr2 = s->cr3 = s->cr4 = 0;
	s->efer = 0;
	memset(s->dr, 0, sizeof(s->dr));
	s->dr6 = 0xffff0ff0u;
	s->dr7 = 0x400;
	s->kvm_system_time = s->kvm_wall_clock = 0;
	s->activity = vcpu_id ? X86_WAIT_SIPI : X86_ACTIVE;
	s->shadow = 0;
	s->nmi_blocked = 0;
}
