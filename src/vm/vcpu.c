// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The vCPU threads and the way they are stopped.
 *
 * A thread runs vcpu_run while vm->run is set and parks on run_cond otherwise.
 * Whoever wants something of the machine (a device on a vCPU thread, the loop)
 * calls vm_request: it notes the request, clears vm->run and raises
 * VCPU_EV_STOP everywhere, but waits for nobody.  The last thread to park posts
 * parked_bh, so the request is handled on the loop's thread, with the machine
 * lock held and no vCPU inside the engine.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"
#include "vm/internal.h"

#define THROTTLE_SLICE_NS 10000000ll	/* for which a vCPU that is slowed runs at a time */

/* run_lock held. */
static void stop_all(struct vm *vm)
{
	vm->run = false;
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		vcpu_raise(vm->m->vcpus[i], VCPU_EV_STOP);
	if (!vm->n_running)
		loop_bh_post(&vm->parked_bh);
}

void vm_request(void *opaque, enum machine_request req, int code)
{
	struct vm *vm = opaque;

	pthread_mutex_lock(&vm->run_lock);
	if (req == MACHINE_REQ_PAUSE) {
		vm->pause_asked = true;
		stop_all(vm);
	/* The first wins, except that the host's wish to quit beats all. */
	} else if (vm->req == MACHINE_REQ_NONE || req == MACHINE_REQ_QUIT) {
		vm->req = req;
		vm->req_code = code;
		stop_all(vm);
	}
	pthread_mutex_unlock(&vm->run_lock);
}

static void ask_locked(struct vm *vm, enum machine_request req, int code)
{
	machine_lock(vm->m);
	vm_request(vm, req, code);
	machine_unlock(vm->m);
}

static void name_thread(unsigned id)
{
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", id);
	prctl(PR_SET_NAME, name);
}

static void pin_thread(const struct vm *vm, unsigned id)
{
	const struct vm_config *cfg = vm->cfg;
	cpu_set_t set;
	int cpu;

	if (!cfg->pin)
		return;
	cpu = cfg->pin_cpu[id % cfg->n_pin];
	CPU_ZERO(&set);
	if (cpu < CPU_SETSIZE)
		CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		log_warn("vCPU %u cannot be pinned to host CPU %d: %s", id, cpu, strerror(errno));
}

/* Waits until it may run; false: the thread should end.  Counts itself in. */
static bool wait_for_go(struct vm *vm, unsigned id)
{
	bool go;

	pthread_mutex_lock(&vm->run_lock);
	while ((!vm->run || (vm->only && vm->only != id + 1) || atomic_load(&vm->m->vcpus[id]->absent)) && !vm->quit)
		pthread_cond_wait(&vm->run_cond, &vm->run_lock);
	go = !vm->quit;
	if (go)
		vm->n_running++;
	vm->vcpu[id].inside = go;
	pthread_mutex_unlock(&vm->run_lock);
	return go;
}

static void count_out(struct vm *vm, unsigned id)
{
	struct vcpu *v = vm->m->vcpus[id];

	pthread_mutex_lock(&vm->run_lock);
	vm->vcpu[id].inside = false;
	if (atomic_load(&v->absent)) {
		atomic_store(&v->parked, true);
		loop_bh_post(&vm->plug_bh);
	}
	if (!--vm->n_running && !vm->run)
		loop_bh_post(&vm->parked_bh);
	pthread_mutex_unlock(&vm->run_lock);
}

/* The engine's per-thread preparation happens inside the first run, so that its
 * failure is a request like any other. */
static enum vcpu_stop enter_engine(struct vm *vm, struct vm_vcpu *t)
{
	struct vcpu *v = vm->m->vcpus[t->id];

	if (!t->ready) {
		if (vm->engine_ops->vcpu_thread_init && vm->engine_ops->vcpu_thread_init(v))
			return VCPU_STOP_ERROR;
		confine_enter(CONFINE_VCPU);
		t->ready = true;
	}
	if (!atomic_exchange(&vm->first_insn_seen, true))
		vm->first_insn_ns = loop_now_ns();
	return vm->engine_ops->vcpu_run(v);
}

/* A vCPU that is not to run all the time rests between two times the timer takes it out of the engine. */
static void rest(struct vm *vm)
{
	unsigned percent = atomic_load(&vm->throttle);
	int64_t until = loop_now_ns() + THROTTLE_SLICE_NS * (int64_t)percent / (100 - (int64_t)percent);
	const struct timespec ts = { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };

	pthread_mutex_lock(&vm->run_lock);
	while (!vm->quit && vm->run && atomic_load(&vm->throttle) && loop_now_ns() < until)
		pthread_cond_clockwait(&vm->run_cond, &vm->run_lock, CLOCK_MONOTONIC, &ts);
	pthread_mutex_unlock(&vm->run_lock);
}

static void *vcpu_main(void *opaque)
{
	struct vm_vcpu *t = opaque;
	struct vm *vm = t->vm;

	atomic_store(&t->tid, (long)gettid());
	name_thread(t->id);
	pin_thread(vm, t->id);
	while (wait_for_go(vm, t->id)) {
		t->last_stop = enter_engine(vm, t);
		/* Asked for while this thread still counts as running, so that the
		 * request is noted before parked_bh can see an empty one. */
		if (t->last_stop == VCPU_STOP_SHUTDOWN)
			ask_locked(vm, MACHINE_REQ_TRIPLE_FAULT, (int)t->id);
		else if (t->last_stop == VCPU_STOP_ERROR)
			ask_locked(vm, MACHINE_REQ_ENGINE_ERROR, (int)t->id);
		else if (t->last_stop == VCPU_STOP_DEBUG)
			ask_locked(vm, MACHINE_REQ_DEBUG, (int)t->id);
		count_out(vm, t->id);
		if (atomic_load_explicit(&vm->throttle, memory_order_relaxed))
			rest(vm);
	}
	return NULL;
}

/* ---- those that come and go ---- */

void vm_vcpu_park(struct vm *vm, unsigned id)
{
	struct vcpu *v = vm->m->vcpus[id];

	pthread_mutex_lock(&vm->run_lock);
	if (vm->vcpu[id].inside) {
		vcpu_raise(v, VCPU_EV_STOP);
	} else {
		atomic_store(&v->parked, true);
		loop_bh_post(&vm->plug_bh);
	}
	pthread_mutex_unlock(&vm->run_lock);
}

void vm_vcpu_unpark(struct vm *vm, unsigned id)
{
	pthread_mutex_lock(&vm->run_lock);
	atomic_store(&vm->m->vcpus[id]->parked, false);
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
}

void vm_vcpus_parked(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		atomic_store(&vm->m->vcpus[i]->parked, atomic_load(&vm->m->vcpus[i]->absent));
	pthread_mutex_unlock(&vm->run_lock);
}

/* ---- slowing them ---- */

static void arm(struct vm *vm)
{
	int64_t percent = atomic_load(&vm->throttle);

	loop_timer_arm(&vm->throttle_timer, loop_now_ns() + THROTTLE_SLICE_NS + THROTTLE_SLICE_NS * percent / (100 - percent));
}

/* Out of the engine, and in again after a rest. */
static void on_slice(void *opaque)
{
	struct vm *vm = opaque;

	if (!atomic_load(&vm->throttle))
		return;
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		vcpu_raise(vm->m->vcpus[i], VCPU_EV_STOP);
	arm(vm);
}

void vm_vcpus_throttle(struct vm *vm, unsigned percent)
{
	atomic_store(&vm->throttle, percent);
	if (percent)
		arm(vm);
	else
		loop_timer_cancel(&vm->throttle_timer);
	pthread_mutex_lock(&vm->run_lock);
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
}

void vm_vcpus_throttle_init(struct vm *vm)
{
	loop_timer_init(vm->m->loop, &vm->throttle_timer, on_slice, vm);
}

int vm_vcpus_start(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->m->n_vcpus; i++) {
		struct vm_vcpu *t = &vm->vcpu[i];
		int ret;

		t->vm = vm;
		t->id = i;
		ret = pthread_create(&t->thread, NULL, vcpu_main, t);
		if (ret)
			return err_set(e, -ret, "--cpus: the thread of vCPU %u cannot be started: %s", i, strerror(ret));
		t->started = true;
		vm->m->vcpus[i]->thread = t->thread;
		vm->m->vcpus[i]->has_thread = true;
	}
	return 0;
}

/* Loop thread, machine lock held or before the loop runs. */
void vm_vcpus_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	vm->req = MACHINE_REQ_NONE;
	vm->pause_asked = false;
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		atomic_fetch_and(&vm->m->vcpus[i]->events, ~VCPU_EV_STOP);
	vm->run = true;
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
}

void vm_vcpus_stay(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	vm->req = MACHINE_REQ_NONE;
	vm->pause_asked = false;
	pthread_mutex_unlock(&vm->run_lock);
}

/* Machine lock NOT held. */
void vm_vcpus_join(struct vm *vm)
{
	if (!vm->m)
		return;
	pthread_mutex_lock(&vm->run_lock);
	vm->quit = true;
	vm->run = false;
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		if (vm->m->vcpus[i])
			vcpu_raise(vm->m->vcpus[i], VCPU_EV_STOP);
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
	for (unsigned i = 0; i < vm->m->n_vcpus; i++) {
		if (!vm->vcpu[i].started)
			continue;
		pthread_join(vm->vcpu[i].thread, NULL);
		vm->vcpu[i].started = false;
		vm->m->vcpus[i]->has_thread = false;
	}
}
