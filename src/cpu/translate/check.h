/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What check.c finds and check_report.c tells. */
#ifndef LODGE_CPU_TRANSLATE_CHECK_H
#define LODGE_CPU_TRANSLATE_CHECK_H

#include "cpu/translate/translate.h"
#include "cpu/x86/trial.h"

/* A vCPU at one point of the guest's program. */
struct moment {
	struct x86_state s;
	uint32_t lf;
	bool leave_block, smc_hit, intr_maybe;
	struct x86_event db_trap;
};

/* How a run ended. */
enum ending { END_DONE, END_FAULT, END_REFUSED };

struct xl_check {
	uint32_t lf;			/* the flags translated code left; c.lf holds interp's */
	bool lf_same;			/* ... and whether the two were the same */
	uint64_t lf_rip, lf_gpa;	/* the block after which they no longer were */
	unsigned lf_len;
	struct moment start, want, got;	/* before; as interp leaves it; as translated code does */
	enum ending want_end, got_end;
	struct x86_event want_event, got_event;
	struct x86_trial trial, again;
	uint8_t want_bytes[X86_TRIAL_BYTES], got_bytes[X86_TRIAL_BYTES];	/* at the places of `trial` */
	unsigned slice;			/* blocks until another vCPU may have a turn */
	bool has_turn;
	const struct xl_block *block;
	char *report;			/* of the difference, once there is one */
	uint64_t n_same, n_plain, n_refused, n_early, n_fault, n_raced;
};

/* Is all that must be the same the same?  Flags and memory are looked at elsewhere. */
bool xl_check_same_state(const struct x86_state *a, const struct x86_state *b);
/* Text of the difference that k holds, or NULL without memory. */
char *xl_check_text(struct xl_cpu *x);

#endif
