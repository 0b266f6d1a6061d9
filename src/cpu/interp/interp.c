/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interp engine: vCPU life, the run loop, events.
 *
 * Reading order: vcpu_run (the outer loop: one turn handles what is pending and
 * then runs blocks until something wants attention), run_blocks (the hot loop),
 * step (one instruction, with the checks of single step, breakpoints and
 * interrupt shadows), take_fault and deliver.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "cpu/engine.h"
#include "cpu/interp/interp.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/pvclock.h"
#include "cpu/x86/sys.h"

struct interp_engine {
	struct cpu_engine base;		/* first */
	struct x86_cpu_model model;
	struct x86_codemap *codemap;
	struct mem_listener listener;
	_Atomic uint64_t tsc_base;	/* guest TSC = host TSC + this (+ each vCPU's offset) */
	uint64_t tsc_zero;		/* guest TSC (without offset) at guest time 0 */
	struct interp_cpu *cpus[MACHINE_MAX_VCPUS];
	unsigned n_cpus;
	const struct interp_tier *tier;
	void *tier_engine;
};

static struct interp_engine *engine_of(struct cpu_engine *e) { return (struct interp_engine *)e; }
static struct interp_cpu *cpu_of(struct vcpu *v) { return (struct interp_cpu *)v; }

/* --- sleeping and waking --- */

static void futex(_Atomic uint32_t *word, int op, uint32_t val)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

static void kick(struct vcpu *v)
{
	if (atomic_load(&cpu_of(v)->sleeping))
		futex(&v->events, FUTEX_WAKE, INT_MAX);
	if (unlikely(atomic_load(&cpu_of(v)->outside)))
		cpu_of(v)->tier->kick(cpu_of(v));
}

/* Sleeps until an event of `wake` (or one that is always served) is raised. */
static void sleep_until(struct interp_cpu *ic, uint32_t wake)
{
	struct vcpu *v = &ic->c.vcpu;
	uint32_t ev;

	atomic_store(&v->halted, true);
	atomic_store(&ic->sleeping, 1);
	ic->n_halts++;
	while (!((ev = atomic_load(&v->events)) & wake))
		futex(&v->events, FUTEX_WAIT, ev);
	atomic_store(&ic->sleeping, 0);
	atomic_store(&v->halted, false);
}

/* --- time --- */

static uint64_t tsc_read(struct vcpu *v)
{
	struct x86_cpu *c = &cpu_of(v)->c;

	return x86_host_tsc() + c->tsc_base_offset + c->s.tsc_offset;
}

static int64_t tsc_to_ns(struct vcpu *v, uint64_t value)
{
	struct x86_cpu *c = &cpu_of(v)->c;
	int64_t ticks = (int64_t)(value - tsc_read(v));
	int64_t now = clock_now(v->m->clock);
	__int128 ns = (__int128)ticks * 1000000 / c->model->tsc_khz;

	if (ns > INT64_MAX - now)
		return INT64_MAX;
	return ns < -now ? 0 : now + (int64_t)ns;
}

/* --- delivering exceptions and interrupts --- */

/* Delivers ic->ev; a fault on the way comes back through take_fault. */
static void deliver(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;

	c->delivering = ic->ev.vector;
	x86_deliver(c, &ic->ev);
	c->delivering = -1;
	ic->deliver_pending = false;
	c->s.shadow = 0;
	c->s.activity = X86_ACTIVE;
	x86_mode_update(c);
}

static void queue_event(struct interp_cpu *ic, const struct x86_event *ev)
{
	ic->ev = *ev;
	ic->deliver_pending = true;
}

/* We came here by longjmp: c->pending says why. */
static void take_fault(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	const struct uop *u = c->cur_uop;

	if (ic->tier)
		ic->tier->aborted(ic);
	c->n_exc++;
	if (c->delivering >= 0) {
		struct x86_event second = c->pending;

		if (!x86_deliver_merge(c, &ic->ev, &second)) {
			c->shutdown = true;
			ic->deliver_pending = false;
			c->delivering = -1;
			return;
		}
		queue_event(ic, &second);
		return;
	}
	if (ic->in_block) {
		flags_out(c);
		ic->in_block = false;
		if (u)
			c->s.rip = uop_rip(c, u);
	}
	queue_event(ic, &c->pending);
}

/* --- running --- */

static inline struct block *known_block(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	uint64_t lin = c->s.rip + c->cs_base;
	const struct x86_tlb_entry *e = tlb_at(c, lin);
	struct block *b = ic->front[front_index(lin)];

	if (likely(b != NULL) && likely(b->key == c->block_key) &&
	    likely(e->tag[X86_EXEC] == ((lin & ~0xfffull) | c->tlb_gen)) &&
	    likely(b->gpa == (e->gpa | (lin & 0xfff))) && likely(block_current(b)) && likely(!c->cs_limited))
		return b;
	return NULL;
}

static inline struct block *next_block(struct interp_cpu *ic)
{
	struct block *b = known_block(ic);

	if (likely(b != NULL))
		return b;
	ic->c.cur_uop = NULL;
	return interp_block(ic, false);
}

struct block *interp_known_block(struct interp_cpu *ic) { return known_block(ic); }
struct block *interp_next_block(struct interp_cpu *ic) { return next_block(ic); }

static void run_blocks(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;

	flags_in(c);
	ic->in_block = true;
	if (ic->tier) {
		ic->tier->run(ic);
		flags_out(c);
		ic->in_block = false;
		return;
	}
	do {
		interp_run_block(c, next_block(ic));
	} while (likely(!c->leave_block) && likely(!atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)));
	flags_out(c);
	ic->in_block = false;
}

/* One instruction, with everything that is only looked at here. */
static void step(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	bool tf = c->s.rflags & X86_FL_TF;
	struct block *b;
	uint32_t hit;

	if ((c->s.dr7 & 0xff) && !(c->s.rflags & X86_FL_RF)) {
		hit = x86_bp_exec(c, c->s.rip + c->cs_base);
		/* MOV SS holds back code breakpoints on Intel only. */
		if (hit && (x86_model_is_amd(c->model) || !(c->s.shadow & X86_SHADOW_MOVSS))) {
			/* What MOV SS held back is reported with it. */
			struct x86_event ev = { .vector = X86_EX_DB, .kind = X86_EV_FAULT, .dr6 = hit | c->db_trap.dr6 };

			c->db_trap.dr6 = 0;
			queue_event(ic, &ev);
			return;
		}
	}
	if (unlikely(c->debug != NULL)) {
		if (x86_debug_at(c, c->s.rip + c->cs_base))
			return;
		c->debug_done = c->debug_step;
	}
	flags_in(c);
	ic->in_block = true;
	c->cur_uop = NULL;
	b = interp_block(ic, true);
	c->s.shadow = 0;
	c->s.rflags &= ~(uint64_t)X86_FL_RF;
	interp_run_block(c, b);
	flags_out(c);
	ic->in_block = false;
	if (tf && !(c->s.shadow & X86_SHADOW_MOVSS) && !interp_swallows_tf(&b->ops[0]))
		c->db_trap.dr6 |= 1u << 14;
	x86_mode_update(c);
}

/* --- events --- */

static void power_on(struct interp_cpu *ic, bool init)
{
	struct x86_cpu *c = &ic->c;

	x86_state_reset(&c->s, c->vcpu.id, init);
	c->db_trap.dr6 = 0;
	c->shutdown = false;
	ic->deliver_pending = false;
	c->delivering = -1;
	x86_tlb_flush(c);
	x86_mode_update(c);
}

static void take_init(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;

	power_on(ic, true);
	if (c->vcpu.intc && c->vcpu.intc->init)
		c->vcpu.intc->init(c->vcpu.intc_opaque);
	c->s.activity = c->vcpu.id ? X86_WAIT_SIPI : X86_ACTIVE;
}

static void take_sipi(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	uint8_t vector = atomic_load(&c->vcpu.sipi_vector);

	if (c->s.activity != X86_WAIT_SIPI)
		return;
	c->s.seg[X86_CS].sel = (uint16_t)(vector << 8);
	c->s.seg[X86_CS].base = (uint64_t)vector << 12;
	c->s.rip = 0;
	c->s.activity = X86_ACTIVE;
	x86_mode_update(c);
}

static void take_nmi(struct interp_cpu *ic)
{
	struct x86_event ev = { .vector = X86_EX_NMI, .kind = X86_EV_NMI };
	struct vcpu *v = &ic->c.vcpu;
	uint8_t n = atomic_load(&v->nmis);

	while (n && !atomic_compare_exchange_weak(&v->nmis, &n, (uint8_t)(n - 1)))
		;
	if (n > 1)
		atomic_fetch_or(&v->events, VCPU_EV_NMI);
	ic->c.s.nmi_blocked = 1;
	queue_event(ic, &ev);
}

/* While an NMI's handler runs only one more is latched. */
static void latch_one_nmi(struct vcpu *v)
{
	uint8_t two = 2;

	atomic_compare_exchange_strong(&v->nmis, &two, 1);
}

/* Serves pending events. True: vcpu_run returns VCPU_STOP_KICK. */
static bool serve_events(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	struct vcpu *v = &c->vcpu;
	uint32_t ev = atomic_load(&v->events), take = VCPU_EV_STOP | VCPU_EV_FLUSH | VCPU_EV_INIT | VCPU_EV_INTR | VCPU_EV_SMI |
		VCPU_EV_ENGINE | VCPU_EV_WATCH;

	if (!ev)
		return false;
	if (c->s.activity == X86_WAIT_SIPI || !(ev & VCPU_EV_INIT))
		take |= VCPU_EV_SIPI;
	if (c->s.nmi_blocked)
		latch_one_nmi(v);
	else if (!c->s.shadow && !ic->deliver_pending)
		take |= VCPU_EV_NMI;
	ev = atomic_fetch_and(&v->events, ~take) & take;
	if (ev & VCPU_EV_FLUSH) {
		x86_map_changed(c);
		interp_blocks_drop(ic);
	}
	if (ev & VCPU_EV_WATCH)
		x86_tlb_flush(c);
	if (ev & VCPU_EV_INIT)
		take_init(ic);
	if (ev & VCPU_EV_SIPI)
		take_sipi(ic);
	if (ev & VCPU_EV_INTR)
		c->intr_maybe = true;
	if (ev & VCPU_EV_NMI) {
		if (c->s.activity == X86_WAIT_SIPI)
			atomic_fetch_or(&v->events, VCPU_EV_NMI);
		else
			take_nmi(ic);
	}
	return ev & VCPU_EV_STOP;
}

/* An external interrupt if one can be taken now. */
static void take_interrupt(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	const struct vcpu_intc_ops *intc = c->vcpu.intc;
	struct x86_event ev = { .kind = X86_EV_INTR };
	int vector;

	if (!intc || !intc->pending(c->vcpu.intc_opaque)) {
		c->intr_maybe = false;
		return;
	}
	if (!(c->s.rflags & X86_FL_IF) || c->s.shadow)
		return;
	vector = intc->ack(c->vcpu.intc_opaque);
	if (vector < 0)
		return;
	ev.vector = (uint8_t)vector;
	c->n_intr++;
	queue_event(ic, &ev);
}

static void take_debug_trap(struct interp_cpu *ic)
{
	struct x86_event ev = { .vector = X86_EX_DB, .kind = X86_EV_TRAP, .dr6 = ic->c.db_trap.dr6 };

	ic->c.db_trap.dr6 = 0;
	queue_event(ic, &ev);
}

/* HLT and wait-for-SIPI: sleeps if nothing can be done. */
static void rest(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	uint32_t wake = VCPU_EV_STOP | VCPU_EV_FLUSH | VCPU_EV_INIT | VCPU_EV_SMI;

	if (c->s.activity == X86_WAIT_SIPI)
		wake |= VCPU_EV_SIPI;
	else
		wake |= VCPU_EV_INTR | (c->s.nmi_blocked ? 0 : VCPU_EV_NMI);
	sleep_until(ic, wake);
}

/* What a debugger wants to know of; true: vcpu_run returns for it. */
static bool debug_stops(struct interp_cpu *ic)
{
	struct x86_cpu *c = &ic->c;
	bool stop;

	if (ic->deliver_pending && ic->ev.kind == X86_EV_DEBUG) {
		ic->deliver_pending = false;
		return true;
	}
	/* What an instruction raised is delivered first. */
	if (ic->deliver_pending || c->db_trap.dr6)
		return false;
	stop = c->debug_hit || (c->debug_step && c->debug_done);
	if (stop && !c->debug_hit)
		c->debug_stop = (struct cpu_debug_stop){ .why = CPU_STOP_STEP };
	c->debug_hit = false;
	c->debug_done = c->debug_done && !stop;
	return stop;
}

/* One turn of the outer loop; true with *stop set: leave vcpu_run. */
static bool turn(struct interp_cpu *ic, enum vcpu_stop *stop)
{
	struct x86_cpu *c = &ic->c;

	c->leave_block = false;
	if (unlikely(ic->broken)) {
		*stop = VCPU_STOP_ERROR;
		return true;
	}
	if (unlikely(c->shutdown)) {
		c->s.activity = X86_SHUTDOWN;
		*stop = VCPU_STOP_SHUTDOWN;
		return true;
	}
	if (unlikely(c->debug != NULL) && debug_stops(ic)) {
		*stop = VCPU_STOP_DEBUG;
		return true;
	}
	if (ic->deliver_pending) {
		deliver(ic);
		return false;
	}
	if (c->db_trap.dr6 && !(c->s.shadow & X86_SHADOW_MOVSS)) {
		take_debug_trap(ic);
		return false;
	}
	if (atomic_load_explicit(&c->vcpu.events, memory_order_relaxed) && serve_events(ic)) {
		*stop = VCPU_STOP_KICK;
		return true;
	}
	if (ic->deliver_pending)
		return false;
	if (c->intr_maybe && c->s.activity != X86_WAIT_SIPI && !(c->debug_step && c->s.activity == X86_ACTIVE)) {
		take_interrupt(ic);
		if (ic->deliver_pending)
			return false;
	}
	if (c->s.activity != X86_ACTIVE) {
		rest(ic);
		return false;
	}
	c->leave_block = false;
	if (c->step_mode || c->s.shadow)
		step(ic);
	else
		run_blocks(ic);
	return false;
}

static enum vcpu_stop vcpu_run(struct vcpu *v)
{
	struct interp_cpu *ic = cpu_of(v);
	struct x86_cpu *c = &ic->c;
	enum vcpu_stop stop = VCPU_STOP_KICK;
	jmp_buf env;

	c->tsc_base_offset = atomic_load(&ic->e->tsc_base);
	c->fault_jmp = &env;
	if (_setjmp(env))
		take_fault(ic);
	while (!turn(ic, &stop))
		;
	c->fault_jmp = NULL;
	x86_x87_sync(c);	/* other threads see the state now */
	return stop;
}

/* --- the engine --- */

static int probe(struct probe_report *r)
{
	r->usable = r->good = true;
	snprintf(r->why, sizeof(r->why), "the software CPU runs on any x86-64 host");
	r->cure[0] = '\0';
	return 0;
}

/* Cached blocks point into the ranges: drop them when the map changes. */
static void map_changed(void *opaque, const struct mem_range *r)
{
	struct interp_engine *e = opaque;

	for (unsigned i = 0; i < e->n_cpus; i++)
		vcpu_raise(&e->cpus[i]->c.vcpu, VCPU_EV_FLUSH);
}

/* Of watched pages and of the dirty log. Writes are noted when the right to write is cached. One that sleeps does so before it writes again. */
static void watch_sync(void *opaque)
{
	struct interp_engine *e = opaque;

	for (unsigned i = 0; i < e->n_cpus; i++)
		vcpu_raise(&e->cpus[i]->c.vcpu, VCPU_EV_WATCH);
}

static struct interp_cpu *cpu_new(struct interp_engine *e)
{
	void *p;

	if (e->tier)
		return e->tier->cpu_new(e->tier_engine);
	p = mmap(NULL, sizeof(struct interp_cpu), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void cpu_free(struct interp_engine *e, struct interp_cpu *ic)
{
	if (e->tier)
		e->tier->cpu_free(ic);
	else
		munmap(ic, sizeof(*ic));
}

static void engine_free(struct cpu_engine *base)
{
	struct interp_engine *e = engine_of(base);

	mem_unlisten(base->m->mem, &e->listener);
	base->m->watch_sync = base->m->dirty_again = NULL;
	for (unsigned i = 0; i < e->n_cpus; i++) {
		struct interp_cpu *ic = e->cpus[i];

		base->m->vcpus[ic->c.vcpu.id] = NULL;
		exec_cache_free(ic->exec);
		free(ic->scratch);
		arena_free(ic);
		cpu_free(e, ic);
	}
	if (e->tier)
		e->tier->engine_free(e->tier_engine);
	x86_codemap_free(e->codemap);
	free(e);
}

int interp_engine_new(struct machine *m, const struct cpu_engine_config *cfg, const struct interp_tier *tier,
		      struct cpu_engine **out, struct err *err)
{
	struct interp_engine *e = calloc(1, sizeof(*e));
	uint32_t feat[X86_F_WORDS];
	int ret;

	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	e->base.ops = tier ? tier->ops : &cpu_engine_interp;
	e->base.m = m;
	e->tier = tier;
	x86_soft_features(feat);
	if (cfg->model)
		e->model = *cfg->model;
	else if ((ret = x86_cpu_model_parse("max", feat, cfg->n_vcpus, &e->model, err)) < 0)
		goto fail;
	if (!e->model.tsc_khz)
		e->model.tsc_khz = x86_tsc_khz();
	ret = exec_signals_install();
	if (ret < 0) {
		err_set(err, ret, "cannot install the signal handlers of the software CPU: %s", strerror(-ret));
		goto fail;
	}
	ret = x86_codemap_new(m, &e->codemap);
	if (ret < 0) {
		err_set(err, ret, "out of memory for the code map");
		goto fail;
	}
	if (tier) {
		ret = tier->engine_init(&e->base, cfg, &e->tier_engine, err);
		if (ret < 0) {
			x86_codemap_free(e->codemap);
			goto fail;
		}
	}
	if (tier && tier->host_tsc(e->tier_engine))
		e->tsc_zero = x86_host_tsc();
	else
		atomic_store(&e->tsc_base, 0 - x86_host_tsc());
	m->watch_sync = m->dirty_again = watch_sync;
	m->watch_opaque = e;
	e->listener = (struct mem_listener){ .added = map_changed, .removed = map_changed, .opaque = e };
	mem_listen(m->mem, &e->listener);
	mem_make_ahead(m->mem);
	*out = &e->base;
	return 0;
fail:
	free(e);
	return ret;
}

static int engine_init(struct machine *m, const struct cpu_engine_config *cfg, struct cpu_engine **out, struct err *err)
{
	return interp_engine_new(m, cfg, NULL, out, err);
}

struct x86_codemap *interp_engine_codemap(struct cpu_engine *e) { return engine_of(e)->codemap; }
const struct x86_cpu_model *interp_engine_model(struct cpu_engine *e) { return &engine_of(e)->model; }

static int vcpu_create(struct cpu_engine *base, unsigned id, struct err *err)
{
	struct interp_engine *e = engine_of(base);
	struct interp_cpu *ic;
	int ret = 0;

	if (id >= MACHINE_MAX_VCPUS)
		return err_set(err, -EINVAL, "vCPU %u: at most %d vCPUs are supported", id, MACHINE_MAX_VCPUS);
	ic = cpu_new(e);
	if (!ic)
		return err_set(err, -ENOMEM, "vCPU %u: out of memory", id);
	ic->e = e;
	ic->tier = e->tier;
	ic->tier_engine = e->tier_engine;
	ic->scratch = calloc(4, BLOCK_UNIT);	/* one instruction, the end, a second page */
	ic->exec = exec_cache_new(&ret);
	if (arena_init(ic) < 0 || !ic->scratch || !ic->exec) {
		exec_cache_free(ic->exec);
		free(ic->scratch);
		arena_free(ic);
		cpu_free(e, ic);
		return err_set(err, ret ? ret : -ENOMEM, "vCPU %u: no memory for the code caches of the software CPU", id);
	}
	ic->stubs = exec_cache_pool(ic->exec);
	ic->c.one_gib = 1u << 30;
	ic->c.vcpu.m = base->m;
	ic->c.vcpu.id = id;
	ic->c.vcpu.kick = kick;
	ic->c.vcpu.tsc_read = tsc_read;
	ic->c.vcpu.tsc_to_ns = tsc_to_ns;
	ic->c.model = &e->model;
	exec_cache_set_model(ic->exec, &e->model);
	ic->c.codemap = e->codemap;
	ic->c.engine = ic;
	ic->c.phys_bits = e->model.phys_bits ? e->model.phys_bits : 40;
	ic->c.has_syscall32 = x86_model_is_amd(&e->model);
	ic->c.has_1g = x86_has(&e->model, X86_F_81_EDX, BIT(26));
	ic->c.tsc_base_offset = atomic_load(&e->tsc_base);
	ic->c.tsc_zero = e->tsc_zero;
	ic->c.tlb_gen = 1;
	power_on(ic, false);
	ic->c.s.activity = id ? X86_WAIT_SIPI : X86_ACTIVE;
	e->cpus[e->n_cpus++] = ic;
	base->m->vcpus[id] = &ic->c.vcpu;
	return 0;
}

static int vcpu_thread_init(struct vcpu *v) { return exec_thread_init(); }

/* Whoever unplugs a vCPU has its memory back, but for a few tables. */
static void vcpu_power_on(struct vcpu *v)
{
	struct interp_cpu *ic = cpu_of(v);

	ic->c.cur_uop = NULL;
	interp_blocks_drop(ic);
	if (ic->tier)
		ic->tier->cpu_drop(ic);
}

static void keep_event(const struct x86_event *ev, struct x86_state *s)
{
	if (ev->kind == X86_EV_INTR || ev->kind == X86_EV_NMI)
		s->event = ev->kind == X86_EV_INTR ? X86_WAY_INTR : X86_WAY_NMI;
	else if (ev->kind == X86_EV_TRAP && ev->vector == X86_EX_DB)
		s->event = X86_WAY_TRAP;
	s->event_vector = s->event ? ev->vector : 0;
}

static int state_get(struct vcpu *v, struct x86_state *s)
{
	struct x86_cpu *c = &cpu_of(v)->c;

	*s = c->s;
	if (cpu_of(v)->deliver_pending)
		keep_event(&cpu_of(v)->ev, s);
	if (v->intc)
		s->apic_base = v->intc->get_base(v->intc_opaque);
	return 0;
}

/* Another engine has taken an event for this vCPU and not seen it delivered. */
static void goes_its_way(struct interp_cpu *ic)
{
	struct x86_state *s = &ic->c.s;
	struct x86_event ev = { .vector = s->event_vector, .kind = X86_EV_INTR };

	switch (s->event) {
	case X86_WAY_NMI:
		s->nmi_blocked = 1;
		ev.vector = X86_EX_NMI;
		ev.kind = X86_EV_NMI;
		break;
	case X86_WAY_TRAP:
		ev.kind = X86_EV_TRAP;
		break;
	}
	if (s->event)
		queue_event(ic, &ev);
	s->event = X86_WAY_NONE;
}

static int state_set(struct vcpu *v, const struct x86_state *s)
{
	struct interp_cpu *ic = cpu_of(v);
	struct x86_cpu *c = &ic->c;

	c->s = *s;
	c->s.rflags |= X86_FL_FIXED;
	c->db_trap.dr6 = 0;
	c->shutdown = false;
	c->delivering = -1;
	ic->deliver_pending = false;
	ic->broken = false;
	x86_tlb_flush(c);
	x86_mode_update(c);
	c->intr_maybe = true;
	goes_its_way(ic);
	return 0;
}

static int debug(struct vcpu *v, const struct cpu_debug *d, bool step)
{
	x86_debug_set(&cpu_of(v)->c, d, step);
	return 0;
}

static const struct cpu_debug_stop *debug_stop(struct vcpu *v) { return &cpu_of(v)->c.debug_stop; }

static bool no(struct cpu_engine *e) { return false; }
static int irq_line(struct cpu_engine *e, unsigned gsi, bool level) { return -ENOTSUP; }
static int msi(struct cpu_engine *e, const struct msi *msg) { return -ENOTSUP; }
static int msi_fd(struct cpu_engine *e, int fd, const struct msi *msg, bool add) { return -ENOTSUP; }
static int extint(struct cpu_engine *e, bool level) { return -ENOTSUP; }

static int get_clock(struct cpu_engine *base, struct engine_clock *t)
{
	struct interp_engine *e = engine_of(base);

	t->tsc = x86_host_tsc() + atomic_load(&e->tsc_base);
	t->ns = (uint64_t)((unsigned __int128)(t->tsc - e->tsc_zero) * 1000000 / e->model.tsc_khz);
	return 0;
}

/* Rounded such that kvmclock does not go back, and the guest's page says so. */
static int set_clock(struct cpu_engine *base, const struct engine_clock *t)
{
	struct interp_engine *e = engine_of(base);

	e->tsc_zero = t->tsc - (uint64_t)(((unsigned __int128)t->ns * e->model.tsc_khz + 999999) / 1000000);
	atomic_store(&e->tsc_base, t->tsc - x86_host_tsc());
	for (unsigned i = 0; i < e->n_cpus; i++) {
		e->cpus[i]->c.tsc_base_offset = atomic_load(&e->tsc_base);
		e->cpus[i]->c.tsc_zero = e->tsc_zero;
		x86_pvclock_update(&e->cpus[i]->c);
	}
	return 0;
}

static void stats(struct cpu_engine *base, engine_stat_fn fn, void *opaque)
{
	struct interp_engine *e = engine_of(base);
	uint64_t t[13] = { 0 };
	static const char *const names[13] = { "instructions", "instructions decoded", "blocks made", "block cache drops",
					       "MMIO accesses", "port accesses", "exceptions", "interrupts", "halts",
					       "blocks made again", "blocks kept", "block cache KiB", "polls slept through" };

	for (unsigned i = 0; i < e->n_cpus; i++) {
		const struct interp_cpu *ic = e->cpus[i];
		const uint64_t v[13] = { ic->c.n_insn, ic->c.n_decode, ic->n_blocks_made, ic->n_flush, ic->c.n_mmio,
					 ic->c.n_pio, ic->c.n_exc, ic->c.n_intr, ic->n_halts, ic->arena.n_again,
					 ic->arena.n_kept, (uint64_t)ic->arena.n * ARENA_SEG / 1024, ic->n_polls_slept };

		for (unsigned k = 0; k < ARRAY_LEN(t); k++)
			t[k] += v[k];
	}
	for (unsigned k = 0; k < ARRAY_LEN(t); k++)
		fn(opaque, names[k], t[k]);
	if (e->tier)
		e->tier->stats(e->tier_engine, fn, opaque);
}

static void report(struct vcpu *v, char *buf, size_t len)
{
	struct interp_cpu *ic = cpu_of(v);

	if (ic->broken && ic->tier->report) {
		ic->tier->report(ic, buf, len);
		return;
	}
	snprintf(buf, len, "last event: vector %u, error code 0x%x, address 0x%llx", ic->ev.vector, ic->ev.err,
		 (unsigned long long)ic->ev.cr2);
}

const struct cpu_engine_ops cpu_engine_interp = {
	.name = "interp",
	.probe = probe,
	.init = engine_init,
	.free = engine_free,
	.vcpu_create = vcpu_create,
	.vcpu_thread_init = vcpu_thread_init,
	.vcpu_run = vcpu_run,
	.vcpu_power_on = vcpu_power_on,
	.state_get = state_get,
	.state_set = state_set,
	.debug = debug,
	.debug_stop = debug_stop,
	.has_irqchip = no,
	.has_lapic = no,
	.irq_line = irq_line,
	.msi = msi,
	.msi_fd = msi_fd,
	.extint = extint,
	.clock_get = get_clock,
	.clock_set = set_clock,
	.stats = stats,
	.report = report,
};
