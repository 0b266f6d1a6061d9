/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running guest instructions without lasting effect on memory.
 *
 * While x86_cpu.trial is set, every store to guest memory is noted with what was
 * there before, so that x86_trial_undo can take it back.  What cannot be taken
 * back or repeated (device memory, ports, MSRs, the TSC, a store into code)
 * refuses: the trial ends by longjmp to `out`.  The vCPU's state is the caller's
 * to save and restore; accessed and dirty bits of page tables stay set, as they
 * will be set again.
 *
 * Stores are seen because x86_cpu.write_mask keeps the write tags of the TLB from
 * ever matching: interp's handlers then take the way through cpu/x86/mmu.c.
 */
#ifndef LODGE_CPU_X86_TRIAL_H
#define LODGE_CPU_X86_TRIAL_H

#include "cpu/x86/cpu.h"

#define X86_TRIAL_STORES 128
#define X86_TRIAL_BYTES 16384

struct x86_trial {
	jmp_buf *out;
	unsigned n, used;
	struct x86_trial_store {
		uint8_t *host;
		uint64_t lin, gpa;
		unsigned len, at;	/* at: in `old` */
	} s[X86_TRIAL_STORES];
	uint8_t old[X86_TRIAL_BYTES];
};

/* len bytes at lin, which lie in the page of e, are about to be stored to. */
void x86_trial_store(struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, unsigned len);
/* Ends the trial, if there is one. */
void x86_trial_refuse(struct x86_cpu *c);
/* Puts back what was there before, newest first. */
void x86_trial_undo(const struct x86_trial *t);
/* The bytes that are there now, laid out as `old`. */
void x86_trial_now(const struct x86_trial *t, uint8_t *out);

#endif
