/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stores that can be taken back: see trial.h. */
#include <string.h>

#include "cpu/x86/trial.h"

void x86_trial_refuse(struct x86_cpu *c)
{
	if (c->trial)
		longjmp(*c->trial->out, 1);
}

void x86_trial_store(struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, unsigned len)
{
	struct x86_trial *t = c->trial;
	struct x86_trial_store *s = &t->s[t->n];

	if (t->n == X86_TRIAL_STORES || len > X86_TRIAL_BYTES - t->used ||
	    x86_codemap_marked(c->codemap, e, lin & 0xfff, len))
		x86_trial_refuse(c);
	*s = (struct x86_trial_store){ .host = (uint8_t *)(lin + e->addend), .lin = lin, .gpa = e->gpa | (lin & 0xfff),
				       .len = len, .at = t->used };
	memcpy(t->old + s->at, s->host, len);
	t->used += len;
	t->n++;
}

void x86_trial_undo(const struct x86_trial *t)
{
	for (unsigned n = t->n; n-- > 0; )
		memcpy(t->s[n].host, t->old + t->s[n].at, t->s[n].len);
}

void x86_trial_now(const struct x86_trial *t, uint8_t *out)
{
	for (unsigned n = 0; n < t->n; n++)
		memcpy(out + t->s[n].at, t->s[n].host, t->s[n].len);
}
