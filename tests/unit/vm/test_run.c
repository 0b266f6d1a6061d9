// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Run states with an engine that executes nothing.  Promises: every request ends
 * the run with its own status; vCPU threads stop when asked and never run while a
 * request is handled; two VMs live in one process.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm/internal.h"

#define N_VCPUS 3

struct fake {
	struct cpu_engine engine;
	struct vcpu vcpu[N_VCPUS];
	struct vm vm;
	struct vm_config cfg;
	struct err err;
	_Atomic int inside;
	_Atomic int runs;
	enum vcpu_stop vcpu0_stop;	/* what vCPU 0 returns by itself; KICK: nothing */
	bool init_fails;
};

static struct fake *fake_of(struct vcpu *v)
{
	return container_of(v, struct fake, vcpu[v->id]);
}

static int fake_thread_init(struct vcpu *v)
{
	return fake_of(v)->init_fails ? -ENOMEM : 0;
}

static enum vcpu_stop fake_run(struct vcpu *v)
{
	struct fake *f = fake_of(v);
	enum vcpu_stop stop = VCPU_STOP_KICK;

	f->inside++;
	f->runs++;
	if (v->id == 0 && f->vcpu0_stop != VCPU_STOP_KICK)
		stop = f->vcpu0_stop;
	else
		while (!(atomic_fetch_and(&v->events, ~VCPU_EV_STOP) & VCPU_EV_STOP))
			usleep(100);
	f->inside--;
	return stop;
}

static int fake_state_get(struct vcpu *v, struct x86_state *s)
{
	assert_int_equal(fake_of(v)->inside, 0);
	memset(s, 0, sizeof(*s));
	return 0;
}

static const struct cpu_engine_ops fake_ops = {
	.name = "fake",
	.vcpu_thread_init = fake_thread_init,
	.vcpu_run = fake_run,
	.state_get = fake_state_get,
};

static struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->cfg = (struct vm_config){ .name = "fake", .cpus = N_VCPUS, .shutdown_timeout = 1 };
	vm_init(&f->vm, &f->cfg, &f->err);
	assert_int_equal(machine_new(&f->vm.m, false), 0);
	vm_init_loop(&f->vm);
	f->engine.ops = f->vm.engine_ops = &fake_ops;
	f->vm.engine = &f->engine;
	f->vm.m->n_vcpus = N_VCPUS;
	for (unsigned i = 0; i < N_VCPUS; i++) {
		f->vcpu[i].id = i;
		f->vcpu[i].m = f->vm.m;
		f->vm.m->vcpus[i] = &f->vcpu[i];
	}
	return f;
}

static void fake_start(struct fake *f)
{
	assert_int_equal(vm_vcpus_start(&f->vm, &f->err), 0);
	vm_vcpus_resume(&f->vm);
}

static int fake_finish(struct fake *f)
{
	int status;

	assert_int_equal(loop_run(f->vm.m->loop), 0);
	assert_int_equal(f->inside, 0);
	status = f->vm.exit_status;
	vm_vcpus_join(&f->vm);
	machine_free(f->vm.m);
	free(f);
	return status;
}

/* All vCPUs have entered the engine. */
static void wait_running(struct fake *f)
{
	for (int i = 0; i < 10000 && f->inside < N_VCPUS; i++)
		usleep(100);
	assert_int_equal(f->inside, N_VCPUS);
}

static int run_with(enum machine_request req, int code, bool no_reboot)
{
	struct fake *f = fake_new();

	f->vm.live.no_reboot = no_reboot;
	fake_start(f);
	wait_running(f);
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, req, code);
	machine_unlock(f->vm.m);
	return fake_finish(f);
}

static void test_each_request_has_its_status(void **state)
{
	assert_int_equal(run_with(MACHINE_REQ_POWEROFF, 0, false), VM_EXIT_POWEROFF);
	assert_int_equal(run_with(MACHINE_REQ_RESET, 0, true), VM_EXIT_REBOOT);
	assert_int_equal(run_with(MACHINE_REQ_PANIC, 0, false), VM_EXIT_PANIC);
	assert_int_equal(run_with(MACHINE_REQ_DEBUG_EXIT, 0x21, false), 0x21);
	assert_int_equal(run_with(MACHINE_REQ_QUIT, VM_EXIT_ESCAPE, false), VM_EXIT_ESCAPE);
}

static void test_vcpu_ends_it(void **state)
{
	struct fake *f = fake_new();

	f->vcpu0_stop = VCPU_STOP_SHUTDOWN;
	fake_start(f);
	assert_int_equal(fake_finish(f), VM_EXIT_TRIPLE);
	f = fake_new();
	f->vcpu0_stop = VCPU_STOP_ERROR;
	fake_start(f);
	assert_int_equal(fake_finish(f), VM_EXIT_ENGINE);
}

static void test_thread_that_cannot_start(void **state)
{
	struct fake *f = fake_new();

	f->init_fails = true;
	fake_start(f);
	assert_int_equal(fake_finish(f), VM_EXIT_ENGINE);
}

static void test_first_request_wins(void **state)
{
	struct fake *f = fake_new();

	fake_start(f);
	wait_running(f);
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, MACHINE_REQ_PANIC, 0);
	machine_ask(f->vm.m, MACHINE_REQ_POWEROFF, 0);
	machine_unlock(f->vm.m);
	assert_int_equal(fake_finish(f), VM_EXIT_PANIC);
}

static void test_quit_beats_the_guest(void **state)
{
	struct fake *f = fake_new();

	fake_start(f);
	wait_running(f);
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, MACHINE_REQ_RESET, 0);
	machine_ask(f->vm.m, MACHINE_REQ_QUIT, VM_EXIT_KILLED);
	machine_unlock(f->vm.m);
	assert_int_equal(fake_finish(f), VM_EXIT_KILLED);
}

/* A request that only interrupts: the vCPUs run again afterwards. */
static void test_resumes(void **state)
{
	struct fake *f = fake_new();

	fake_start(f);
	for (int i = 0; i < 20; i++) {
		int before;

		wait_running(f);
		before = f->runs;
		machine_lock(f->vm.m);
		machine_ask(f->vm.m, MACHINE_REQ_SUSPEND, 0);
		machine_unlock(f->vm.m);
		while (f->runs < before + N_VCPUS)
			loop_turn(f->vm.m->loop, 10);
	}
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, MACHINE_REQ_POWEROFF, 0);
	machine_unlock(f->vm.m);
	assert_int_equal(fake_finish(f), VM_EXIT_POWEROFF);
}

static bool paused(struct fake *f)
{
	bool yes;

	machine_lock(f->vm.m);
	yes = vm_paused(&f->vm);
	machine_unlock(f->vm.m);
	return yes;
}

static void ask(struct fake *f, enum machine_request req, int code)
{
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, req, code);
	machine_unlock(f->vm.m);
}

/* Paused: no vCPU runs and time stands still, until it goes on; being asked twice is once. */
static void test_pauses(void **state)
{
	struct fake *f = fake_new();

	fake_start(f);
	for (int i = 0; i < 20; i++) {
		int before;
		int64_t now;

		wait_running(f);
		/* A guest that asks for something else just then changes nothing. */
		if (i % 3 == 1)
			ask(f, MACHINE_REQ_SUSPEND, 0);
		ask(f, MACHINE_REQ_PAUSE, 0);
		if (i % 3 == 2)
			ask(f, MACHINE_REQ_PAUSE, 0);
		while (!paused(f))
			loop_turn(f->vm.m->loop, 10);
		ask(f, MACHINE_REQ_PAUSE, 0);
		now = clock_now(f->vm.m->clock);
		before = f->runs;
		for (int k = 0; k < 5; k++)
			loop_turn(f->vm.m->loop, 1);
		assert_int_equal(f->inside, 0);
		assert_int_equal(f->runs, before);
		assert_int_equal(clock_now(f->vm.m->clock), now);
		machine_lock(f->vm.m);
		vm_resume(&f->vm);
		machine_unlock(f->vm.m);
		assert_false(paused(f));
		while (f->runs < before + N_VCPUS)
			loop_turn(f->vm.m->loop, 10);
	}
	ask(f, MACHINE_REQ_PAUSE, 0);
	while (!paused(f))
		loop_turn(f->vm.m->loop, 10);
	ask(f, MACHINE_REQ_QUIT, VM_EXIT_KILLED);
	assert_int_equal(fake_finish(f), VM_EXIT_KILLED);
}

static void test_two_in_one_process(void **state)
{
	struct fake *a = fake_new(), *b = fake_new();

	fake_start(a);
	fake_start(b);
	wait_running(a);
	wait_running(b);
	machine_lock(a->vm.m);
	machine_ask(a->vm.m, MACHINE_REQ_POWEROFF, 0);
	machine_unlock(a->vm.m);
	assert_int_equal(fake_finish(a), VM_EXIT_POWEROFF);
	assert_int_equal(b->inside, N_VCPUS);
	machine_lock(b->vm.m);
	machine_ask(b->vm.m, MACHINE_REQ_PANIC, 0);
	machine_unlock(b->vm.m);
	assert_int_equal(fake_finish(b), VM_EXIT_PANIC);
}

/* Asked before the vCPUs ever ran. */
static void test_request_before_the_start(void **state)
{
	struct fake *f = fake_new();

	assert_int_equal(vm_vcpus_start(&f->vm, &f->err), 0);
	machine_lock(f->vm.m);
	machine_ask(f->vm.m, MACHINE_REQ_QUIT, VM_EXIT_KILLED);
	machine_unlock(f->vm.m);
	assert_int_equal(fake_finish(f), VM_EXIT_KILLED);
}

/* Every kernel gets a console it has a driver for, unless the user names one. */
static void test_console_is_named(void **state)
{
	static const struct { enum vm_machine machine; const char *append, *want; } c[] = {
		{ VM_MACHINE_PC, "", "console=ttyS0" },
		{ VM_MACHINE_MICRO, "", "console=ttyS0" },
		{ VM_MACHINE_MICRO, "quiet", "console=ttyS0 quiet" },
		{ VM_MACHINE_MICRO, "quiet console=hvc0", "quiet console=hvc0" },
		{ VM_MACHINE_PC, "console=tty0 console=ttyS1", "console=tty0 console=ttyS1" },
		{ VM_MACHINE_PC, "netconsole=x", "console=ttyS0 netconsole=x" },
	};

	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct vm_config cfg = { .machine = c[i].machine, .kernel = "/dev/null", .append = (char *)c[i].append };
		char *line = vm_make_cmdline(&cfg);

		assert_string_equal(line, c[i].want);
		free(line);
	}
}

/* A vCPU that comes and goes while others run, and while all are stopped: inside or not, none is counted twice. */
static void test_parks(void **state)
{
	const unsigned id = N_VCPUS - 1;
	struct fake *f = fake_new();
	struct vcpu *v = f->vm.m->vcpus[id];

	atomic_store(&v->absent, true);
	vm_vcpus_parked(&f->vm);
	assert_true(atomic_load(&v->parked) && !atomic_load(&f->vm.m->vcpus[0]->parked));
	fake_start(f);
	for (int i = 0; i < 100; i++) {
		if (i % 5 == 4)
			ask(f, MACHINE_REQ_PAUSE, 0);
		if (i % 10 == 9)
			while (!paused(f))
				loop_turn(f->vm.m->loop, 10);
		machine_lock(f->vm.m);
		atomic_store(&v->absent, false);
		vm_vcpu_unpark(&f->vm, id);
		machine_unlock(f->vm.m);
		assert_false(atomic_load(&v->parked));
		if (i % 5 == 4) {
			while (!paused(f))
				loop_turn(f->vm.m->loop, 10);
			machine_lock(f->vm.m);
			vm_resume(&f->vm);
			machine_unlock(f->vm.m);
		}
		if (i % 3)
			wait_running(f);
		machine_lock(f->vm.m);
		atomic_store(&v->absent, true);
		vm_vcpu_park(&f->vm, id);
		machine_unlock(f->vm.m);
		while (!atomic_load(&v->parked))
			loop_turn(f->vm.m->loop, 10);
		assert_true(f->inside < N_VCPUS);
	}
	ask(f, MACHINE_REQ_POWEROFF, 0);
	assert_int_equal(fake_finish(f), VM_EXIT_POWEROFF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_request_has_its_status),
		cmocka_unit_test(test_vcpu_ends_it),
		cmocka_unit_test(test_thread_that_cannot_start),
		cmocka_unit_test(test_first_request_wins),
		cmocka_unit_test(test_quit_beats_the_guest),
		cmocka_unit_test(test_resumes),
		cmocka_unit_test(test_pauses),
		cmocka_unit_test(test_parks),
		cmocka_unit_test(test_two_in_one_process),
		cmocka_unit_test(test_request_before_the_start),
		cmocka_unit_test(test_console_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
