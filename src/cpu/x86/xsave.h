/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FXSAVE, XSAVE and their relatives on the guest's memory (SDM vol. 1, 10.5 and
 * chapter 13).  On the vCPU's thread; they raise the guest's faults.
 */
#ifndef LODGE_CPU_X86_XSAVE_H
#define LODGE_CPU_X86_XSAVE_H

#include "cpu/x86/cpu.h"

enum x86_xsave_kind { X86_XSAVE, X86_XSAVEOPT, X86_XSAVEC, X86_XSAVES };

/* lin: of the save area. rex_w: the form with 64-bit pointers.  CR0.EM and TS,
 * CR4.OSXSAVE and CPUID are the caller's to check; alignment and CPL are not. */
void x86_fxsave(struct x86_cpu *c, uint64_t lin, bool rex_w);
void x86_fxrstor(struct x86_cpu *c, uint64_t lin, bool rex_w);
void x86_xsave(struct x86_cpu *c, uint64_t lin, enum x86_xsave_kind kind, bool rex_w);
void x86_xrstor(struct x86_cpu *c, uint64_t lin, bool supervisor, bool rex_w);

#endif
