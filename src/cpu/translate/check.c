/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check engine: every block of translated code is run twice from the same
 * state, by interp and as translated, and the first difference ends the guest.
 *
 *  1. interp runs the instructions of the block as a trial (cpu/x86/trial.h): its
 *     stores are noted and taken back, the state it leaves is kept.
 *  2. The translated block runs for real, by itself: nothing is chained and the
 *     jump cache stays empty, so it comes back at the block's end.
 *  3. Registers, vector and x87 state, system registers, and the bytes that
 *     interp stored must be the same.  Where translated code stops earlier (an
 *     access that is interp's, a fault), interp runs again, up to there.
 *
 * Dead flags are not kept by the translator (docs/QUIRKS.md), so flags are not
 * compared: there are two sets of them.  interp goes on with its own, translated
 * code with what it left itself, and a flag that was lost although something
 * reads it shows in what that instruction does, one or more blocks later.  What
 * only interp runs (cold code, interrupts) makes the two the same again, and so do
 * instructions that leave a flag undefined: interp's choice is not the host's.
 *
 * Not compared, and run by interp alone: what a trial refuses (device memory,
 * ports, MSRs, the TSC, stores into code), and code that is not translated.
 *
 * Memory may be changed by devices between the two runs.  So a difference counts
 * only if it is there three times in a row; other vCPUs are kept out by giving the
 * engine to one at a time.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/interp/exec_priv.h"
#include "cpu/translate/check.h"

#define TRIES 3
#define SLICE 4096u

/* --- one vCPU at a time, in the order they came --- */

struct xl_turn {
	pthread_mutex_t lock;
	pthread_cond_t next;
	uint64_t drawn, serving;
};

static void turn_take(struct xl_cpu *x)
{
	struct xl_turn *t = x->xe->turn;
	uint64_t mine;

	pthread_mutex_lock(&t->lock);
	mine = t->drawn++;
	while (t->serving != mine)
		pthread_cond_wait(&t->next, &t->lock);
	pthread_mutex_unlock(&t->lock);
	x->check->has_turn = true;
	x->check->slice = SLICE;
}

static void turn_give(struct xl_cpu *x)
{
	struct xl_turn *t = x->xe->turn;

	if (!x->check->has_turn)
		return;
	x->check->has_turn = false;
	pthread_mutex_lock(&t->lock);
	t->serving++;
	pthread_cond_broadcast(&t->next);
	pthread_mutex_unlock(&t->lock);
}

/* --- moments --- */

static void keep(struct x86_cpu *c, struct moment *m)
{
	x86_x87_sync(c);
	m->s = c->s;
	m->lf = c->lf;
	m->leave_block = c->leave_block;
	m->smc_hit = c->smc_hit;
	m->intr_maybe = c->intr_maybe;
	m->db_trap = c->db_trap;
}

static void go_back(struct x86_cpu *c, const struct moment *m)
{
	const struct x86_state *a = &c->s, *b = &m->s;
	bool tables = a->cr0 != b->cr0 || a->cr3 != b->cr3 || a->cr4 != b->cr4 || a->efer != b->efer;
	bool mode = tables || ((a->rflags ^ b->rflags) & ~(uint64_t)X86_FL_ARITH) || a->dr7 != b->dr7 ||
		    memcmp(a->seg, b->seg, sizeof(a->seg)) != 0;

	c->s = m->s;
	if (tables)
		x86_tlb_flush(c);
	if (mode)
		x86_mode_update(c);
	c->lf = m->lf;
	c->leave_block = m->leave_block;
	c->smc_hit = m->smc_hit;
	c->intr_maybe = m->intr_maybe;
	c->db_trap = m->db_trap;
}

static void fault_rip(struct x86_cpu *c)
{
	if (c->cur_uop)
		c->s.rip = uop_rip(c, c->cur_uop);
}

/* --- the trial --- */

static bool is_random(struct x86_cpu *c, const struct uop *u)
{
	uint16_t m;

	if (u->fn != op_exec)
		return false;
	m = uop_exec(c, u)->i.mnemonic;
	return m == ZYDIS_MNEMONIC_RDRAND || m == ZYDIS_MNEMONIC_RDSEED;
}

static bool is_sti(struct x86_cpu *c, const struct uop *u)
{
	const struct x86_tlb_entry *e;

	if (u->len != 1)
		return false;
	e = x86_tlb_cached(c, uop_rip(c, u), X86_EXEC, (enum x86_acc)c->acc);
	return e && *(const uint8_t *)(uop_rip(c, u) + e->addend) == 0xfb;
}

/* As translated code goes: straight on to the block's end, or out by a taken branch.  stop: the
 * RIP to stop at, if it is not the first (or ~0). */
static void run_trial(struct interp_cpu *ic, uint64_t end, uint64_t stop)
{
	struct x86_cpu *c = &ic->c;
	uint32_t key = c->block_key;
	uint8_t acc = c->acc;
	uint64_t next;

	do {
		const struct uop *u = interp_next_block(ic)->ops;
		bool sti = false;

		c->blk_rip = c->s.rip;
		do {
			uint64_t rip = uop_rip(c, u);

			if (rip == end || (rip == stop && rip != c->blk_rip)) {
				c->s.rip = rip;
				return;
			}
			if (unlikely(is_random(c, u)))
				x86_trial_refuse(c);
			c->cur_uop = u;
			next = rip + u->len;
			sti = is_sti(c, u);
			u = u->fn(c, u);
		} while (u);
		/* Translated code goes on behind STI (see same_fields), STAC and CLAC. */
		if ((sti || c->acc != acc) && next != stop) {
			acc = c->acc;
			c->s.shadow = 0;
			c->leave_block = false;
		}
	} while (c->s.rip == next && next != end && next != stop && !c->leave_block && c->block_key == key);
}

/* As interp.c does it. */
static void deliver(struct x86_cpu *c, const struct x86_event *ev)
{
	c->delivering = ev->vector;
	x86_deliver(c, ev);
	c->s.shadow = 0;
	x86_mode_update(c);
}

#define TRIAL_DELIVER (~1ull)	/* for `end`: deliver *ev */

/* Memory and vCPU are left as interp leaves them. */
static enum ending trial(struct xl_cpu *x, struct x86_trial *t, uint64_t end, uint64_t stop, struct x86_event *ev)
{
	jmp_buf fault, refused, *outer = x->ic.c.fault_jmp;
	struct x86_cpu *c = &x->ic.c;
	enum ending r;

	t->n = t->used = 0;
	t->out = &refused;
	c->trial = t;
	c->fault_jmp = &fault;
	c->cur_uop = NULL;
	if (_setjmp(refused)) {
		r = END_REFUSED;
	} else if (_setjmp(fault)) {
		r = END_FAULT;
		*ev = c->pending;
		fault_rip(c);
	} else if (end == TRIAL_DELIVER) {
		deliver(c, ev);
		r = END_DONE;
	} else {
		run_trial(&x->ic, end, stop);
		r = END_DONE;
	}
	c->trial = NULL;
	c->delivering = -1;
	c->fault_jmp = outer;
	return r;
}

/* --- translated code --- */

static enum ending run_translated(struct xl_cpu *x, const struct xl_block *b, struct x86_event *ev)
{
	struct x86_cpu *c = &x->ic.c;
	jmp_buf fault, *outer = c->fault_jmp;
	enum ending r;

	x->exit = NULL;
	c->cur_uop = NULL;
	c->fault_jmp = &fault;
	if (_setjmp(fault)) {
		r = END_FAULT;
		*ev = c->pending;
		fault_rip(c);
		xl_aborted(&x->ic);
	} else {
		xl_enter(x, b);
		x->exit = NULL;
		r = END_DONE;
	}
	c->fault_jmp = outer;
	return r;
}

/* --- comparing --- */

static bool same_event(const struct x86_event *a, const struct x86_event *b)
{
	return a->vector == b->vector && a->kind == b->kind && a->has_err == b->has_err && a->err == b->err && a->cr2 == b->cr2;
}

/* Translated code stopped before the block's end: is interp there in the same state? True: the vCPU is left at
 * that point. */
static bool same_earlier(struct xl_cpu *x, uint64_t end)
{
	struct x86_cpu *c = &x->ic.c;
	struct xl_check *k = x->check;
	uint8_t now[X86_TRIAL_BYTES];
	struct x86_event ev;
	enum ending r = END_DONE;

	if (k->got.s.rip - k->start.s.rip >= end - k->start.s.rip)
		return false;
	x86_trial_undo(&k->trial);
	go_back(c, &k->start);
	k->again.n = k->again.used = 0;
	if (k->got.s.rip != k->start.s.rip)
		r = trial(x, &k->again, end, k->got.s.rip, &ev);
	x86_trial_now(&k->trial, now);
	if (r == END_DONE && c->s.rip == k->got.s.rip && xl_check_same_state(&c->s, &k->got.s) &&
	    !memcmp(now, k->got_bytes, k->trial.used)) {
		uint32_t lf = c->lf;

		go_back(c, &k->got);
		k->want.lf = lf;
		k->n_early++;
		return true;
	}
	x86_trial_undo(&k->again);
	return false;
}

/*
 * Translated code has also delivered the exception that interp raised: is that what interp's delivery would do?
 * Done with the flags that translated code had; dead ones may be others than interp's.  True: the vCPU is
 * left at the fault, which is then delivered again, with interp's flags.
 */
static bool same_delivered(struct xl_cpu *x)
{
	struct interp_cpu *ic = &x->ic;
	struct x86_cpu *c = &ic->c;
	struct xl_check *k = x->check;
	bool same = !memcmp(k->want_bytes, k->got_bytes, k->trial.used);
	uint8_t now[X86_TRIAL_BYTES];

	go_back(c, &k->want);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FL_ARITH) | (k->got.s.rflags & X86_FL_ARITH);
	/* What it stores is there already, so `old` is translated code's. */
	if (trial(x, &k->again, TRIAL_DELIVER, ~0ull, &k->want_event) == END_DONE) {
		x86_trial_now(&k->again, now);
		same = same && xl_check_same_state(&c->s, &k->got.s) && !memcmp(k->again.old, now, k->again.used);
	}
	go_back(c, &k->want);
	k->got_end = END_FAULT;
	k->got_event = k->want_event;
	return same;
}

enum verdict { SAME, REFUSED, DIFFERENT };

/* One comparison.  Memory and vCPU: SAME: after the block, else before it. */
static enum verdict attempt(struct xl_cpu *x, const struct xl_block *b)
{
	struct x86_cpu *c = &x->ic.c;
	struct xl_check *k = x->check;
	uint64_t end = k->start.s.rip + b->guest_len;

	k->want_end = trial(x, &k->trial, end, ~0ull, &k->want_event);
	x86_trial_now(&k->trial, k->want_bytes);
	keep(c, &k->want);
	x86_trial_undo(&k->trial);
	go_back(c, &k->start);
	if (k->want_end == END_REFUSED)
		return REFUSED;
	c->lf = k->lf;
	k->got_end = run_translated(x, b, &k->got_event);
	x86_trial_now(&k->trial, k->got_bytes);
	keep(c, &k->got);
	if (k->got_end == END_FAULT && (k->want_end != END_FAULT || !same_event(&k->got_event, &k->want_event))) {
		;
	} else if (k->got.s.rip == k->want.s.rip && xl_check_same_state(&k->got.s, &k->want.s) &&
		   !memcmp(k->want_bytes, k->got_bytes, k->trial.used)) {
		return SAME;
	} else if (k->got_end != END_FAULT && same_earlier(x, end)) {
		return SAME;
	} else if (k->got_end != END_FAULT && k->want_end == END_FAULT && same_delivered(x)) {
		return SAME;
	}
	x86_trial_undo(&k->trial);
	go_back(c, &k->start);
	return DIFFERENT;
}

static void stop(struct xl_cpu *x, const struct xl_block *b)
{
	x->check->block = b;
	free(x->check->report);
	x->check->report = xl_check_text(x);
	x->ic.broken = true;
	x->ic.c.leave_block = true;
}

static void note_flags(struct xl_check *k, const struct x86_cpu *c, const struct xl_block *b)
{
	uint32_t undefined = lf_of_flags(b->undefined) & 0xd501;
	bool same;

	k->lf = (k->lf & ~undefined) | (c->lf & undefined);
	same = flags_of_lf(c->lf) == flags_of_lf(k->lf);

	if (!same && k->lf_same) {
		k->lf_rip = k->start.s.rip;
		k->lf_gpa = b->gpa;
		k->lf_len = b->guest_len;
	}
	k->lf_same = same;
}

static void plain(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;

	x->check->n_plain++;
	x->nogroup = false;
	if (x->step)
		xl_interp_once(x);
	else
		interp_run_block(c, interp_next_block(&x->ic));
	x->check->lf = c->lf;
	x->check->lf_same = true;
}

static void compare(struct xl_cpu *x, const struct xl_block *b)
{
	struct x86_cpu *c = &x->ic.c;
	struct xl_check *k = x->check;
	enum verdict v = DIFFERENT;
	unsigned tries;

	keep(c, &k->start);
	for (tries = 0; tries < TRIES && v == DIFFERENT; tries++)
		v = attempt(x, b);
	atomic_store_explicit(&x->inside, false, memory_order_release);
	if (v == DIFFERENT) {
		stop(x, b);
		return;
	}
	if (v == REFUSED) {
		k->n_refused++;
		plain(x);
		return;
	}
	k->n_raced += tries - 1;
	k->n_same++;
	k->lf = c->lf;
	c->lf = k->want.lf;
	note_flags(k, c, b);
	if (k->got_end == END_FAULT) {
		k->n_fault++;
		c->pending = k->got_event;
		c->cur_uop = NULL;	/* s.rip is the instruction's */
		longjmp(*c->fault_jmp, 1);
	}
}

static void run_one(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	const struct xl_block *b;

	if (x->step || !xl_can_translate(c) || atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)) {
		plain(x);
		return;
	}
	c->cur_uop = NULL;
	e = x86_tlb_fill(c, c->s.rip, X86_EXEC, (enum x86_acc)c->acc);
	b = e ? xl_block_here(x, e) : NULL;
	if (b)
		compare(x, b);
	else
		plain(x);
}

void xl_check_run(struct interp_cpu *ic)
{
	struct xl_cpu *x = (struct xl_cpu *)ic;
	struct x86_cpu *c = &ic->c;

	xl_thread_is(x);
	turn_take(x);
	x->check->lf = c->lf;
	x->check->lf_same = true;
	do {
		if (!--x->check->slice) {
			turn_give(x);
			turn_take(x);
		}
		run_one(x);
	} while (likely(!c->leave_block) && likely(!atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)));
	turn_give(x);
}

void xl_check_aborted(struct interp_cpu *ic)
{
	xl_aborted(ic);
	turn_give((struct xl_cpu *)ic);
}

void xl_check_report(struct interp_cpu *ic, char *buf, size_t len)
{
	const struct xl_check *k = ((struct xl_cpu *)ic)->check;
	size_t n = k->report ? MIN(strlen(k->report), len - 1) : 0;

	if (n)
		memcpy(buf, k->report, n);
	buf[n] = '\0';
}

void xl_check_stats(const struct xl_engine *xe, engine_stat_fn fn, void *opaque)
{
	static const char *const names[6] = { "compared", "not compared: code that is interp's", "not compared: not repeatable",
					      "compared up to an earlier stop", "compared faults", "compared again" };
	uint64_t t[6] = { 0 };

	for (unsigned i = 0; i < xe->n_cpus; i++) {
		const struct xl_check *k = xe->cpus[i]->check;
		const uint64_t v[6] = { k->n_same, k->n_plain, k->n_refused, k->n_early, k->n_fault, k->n_raced };

		for (unsigned n = 0; n < 6; n++)
			t[n] += v[n];
	}
	for (unsigned n = 0; n < 6; n++)
		fn(opaque, names[n], t[n]);
}

/* --- creation --- */

int xl_check_init(struct xl_engine *xe)
{
	struct xl_turn *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->next, NULL);
	xe->turn = t;
	xe->heat = 1;
	xe->heat_fixed = true;
	return 0;
}

void xl_check_fini(struct xl_engine *xe)
{
	if (!xe->turn)
		return;
	pthread_mutex_destroy(&xe->turn->lock);
	pthread_cond_destroy(&xe->turn->next);
	free(xe->turn);
}

int xl_check_cpu_init(struct xl_cpu *x)
{
	size_t size = align_up(sizeof(struct xl_check), 64);

	x->check = aligned_alloc(64, size);
	if (!x->check)
		return -ENOMEM;
	memset(x->check, 0, size);
	x->ic.c.write_mask = ~0ull;
	return 0;
}

void xl_check_cpu_fini(struct xl_cpu *x)
{
	if (x->check)
		free(x->check->report);
	free(x->check);
}
