// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Run states of a virtual machine: what happens on reset, power-off, panic,
 * triple fault and on signals from outside.
 *
 * The thread that calls vm_run is the loop's thread.  Requests arrive through
 * vm_request (vcpu.c) and are handled in on_parked, when no vCPU executes.
 */
#include "vm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/hotplug.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/savevm.h"
#include "vm/snapshot_int.h"

#define NS_PER_S 1000000000ll

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGQUIT);
	sigaddset(set, SIGUSR2);
}

void vm_block_signals(void)
{
	sigset_t set;

	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	/* Broken pipes and file size limits are errors of the one operation. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

void vm_finish(struct vm *vm, int status)
{
	vm->exit_status = vm->exec ? vm_exec_result(vm->exec, status) : status;
	loop_stop(vm->m->loop);
}

/* The VM is at its end, which its watcher hears of first. */
static void end(struct vm *vm, int status, enum vm_status as, enum vm_cause cause)
{
	vm->end = as;
	vm_tell(vm, VM_EVENT_SHUTDOWN, cause);
	vm_finish(vm, vm->cfg->like_qemu && as != VM_INTERNAL_ERROR && !vm->debug_exit ? VM_EXIT_POWEROFF : status);
}

/* Machine lock held, vCPUs parked. */
static void stand_still(struct vm *vm)
{
	if (vm->paused)
		return;
	vm->paused = true;
	clock_pause(vm->m->clock);
	machine_pause_devs(vm->m);
	if (!vm->stop_wanted)
		log_warn("the guest is paused; 'kill -USR2 %ld' lets it go on", (long)getpid());
	vm_tell(vm, VM_EVENT_STOP, VM_CAUSE_NONE);
	vm_save_parked(vm);
	vm_inside_parked(vm);
	vm_migrate_parked(vm);
}

/* Before the first instruction. */
static void start_paused(struct vm *vm)
{
	machine_lock(vm->m);
	vm->stop_wanted = vm->prelaunch = true;
	stand_still(vm);
	machine_unlock(vm->m);
}

/* A reset ends a device's wish for a pause, but not the host's, and a VM that stands still does so after it. */
static void restart(struct vm *vm)
{
	enum vm_cause cause = vm->cause ? vm->cause : VM_CAUSE_GUEST_RESET;
	int ret;

	vm->cause = VM_CAUSE_NONE;
	if (vm->cfg->no_reboot) {
		log_info("the guest asked for a reboot");
		end(vm, VM_EXIT_REBOOT, VM_SHUT_DOWN, cause);
		return;
	}
	vm_hotplug_reset(vm);
	vm_memory_reset(vm);
	ret = platform_boot(vm->platform, vm->err);
	if (ret) {
		err_prefix(vm->err, ret, "the guest cannot be restarted");
		end(vm, VM_EXIT_HOST, VM_INTERNAL_ERROR, VM_CAUSE_HOST_ERROR);
		return;
	}
	vm_tell(vm, VM_EVENT_RESET, cause);
	if (vm->stop_wanted)
		stand_still(vm);
	if (vm->paused) {
		vm->prelaunch = true;
		vm_vcpus_stay(vm);
	} else {
		vm_vcpus_resume(vm);
	}
}

void vm_resume(struct vm *vm)
{
	bool stopping = vm->stop_wanted && !vm->paused;

	if (vm_migrate_holds(vm)) {
		log_warn("the guest is in the hands of a migration, and does not go on");
		return;
	}
	if (vm_save_holds(vm)) {
		vm_save_go_on(vm, true);
		return;
	}
	vm->stop_wanted = vm->watchdog_stop = vm->debug_stop = false;
	if (stopping) {
		vm_tell(vm, VM_EVENT_STAY, VM_CAUSE_NONE);
		vm_save_parked(vm);	/* it will not come */
		vm_inside_parked(vm);
	}
	if (!vm->paused)
		return;
	vm->paused = vm->prelaunch = false;
	log_info("the guest goes on");
	clock_resume(vm->m->clock);
	machine_resume_devs(vm->m);
	/* Told first: a disk that fails again at once stops it again. */
	vm_tell(vm, VM_EVENT_RESUME, VM_CAUSE_NONE);
	vm_vcpus_resume(vm);
}

bool vm_paused(const struct vm *vm)
{
	return vm->paused;
}

/* What was asked for changes nothing about whether it runs. */
static void go_on(struct vm *vm)
{
	bool pause;

	pthread_mutex_lock(&vm->run_lock);
	pause = vm->pause_asked;
	vm->pause_asked = false;
	vm->req = MACHINE_REQ_NONE;
	pthread_mutex_unlock(&vm->run_lock);
	if (pause || vm->stop_wanted)
		stand_still(vm);
	if (!vm->paused)
		vm_vcpus_resume(vm);
}

/* The guest did not feed its watchdog. */
static void watchdog(struct vm *vm)
{
	enum vm_watchdog_action action = vm->watchdog_action;

	vm_tell(vm, VM_EVENT_WATCHDOG, VM_CAUSE_NONE);
	switch (action) {
	case VM_WATCHDOG_RESET:
		restart(vm);
		return;
	case VM_WATCHDOG_POWEROFF:
		end(vm, VM_EXIT_POWEROFF, VM_SHUT_DOWN, VM_CAUSE_GUEST_SHUTDOWN);
		return;
	case VM_WATCHDOG_SHUTDOWN:
		vm_power_button(vm);
		break;
	case VM_WATCHDOG_PAUSE:
		vm->stop_wanted = vm->watchdog_stop = true;
		break;
	case VM_WATCHDOG_DEBUG:
		log_warn("the guest's watchdog has run out");
		break;
	case VM_WATCHDOG_NMI:
		vm_nmi(vm);
		break;
	case VM_WATCHDOG_NONE:
		break;
	}
	go_on(vm);
}

static void handle(struct vm *vm, enum machine_request req, int code)
{
	switch (req) {
	case MACHINE_REQ_RESET:
		restart(vm);
		break;
	case MACHINE_REQ_POWEROFF:
		end(vm, VM_EXIT_POWEROFF, VM_SHUT_DOWN, VM_CAUSE_GUEST_SHUTDOWN);
		break;
	case MACHINE_REQ_PANIC:
		vm_tell(vm, VM_EVENT_PANIC, VM_CAUSE_GUEST_PANIC);
		vm_report(vm, "the guest's kernel panicked");
		end(vm, VM_EXIT_PANIC, VM_PANICKED, VM_CAUSE_GUEST_PANIC);
		break;
	case MACHINE_REQ_TRIPLE_FAULT:
		if (vm->cfg->like_qemu) {	/* as a PC does it */
			restart(vm);
			break;
		}
		vm_report(vm, "triple fault: the guest's CPU shut down");
		end(vm, VM_EXIT_TRIPLE, VM_SHUT_DOWN, VM_CAUSE_GUEST_RESET);
		break;
	case MACHINE_REQ_ENGINE_ERROR:
		vm_report(vm, "the CPU engine cannot go on");
		end(vm, VM_EXIT_ENGINE, VM_INTERNAL_ERROR, VM_CAUSE_HOST_ERROR);
		break;
	case MACHINE_REQ_DEBUG_EXIT:
		vm->debug_exit = true;
		end(vm, code & 0xff, VM_SHUT_DOWN, VM_CAUSE_GUEST_SHUTDOWN);
		break;
	case MACHINE_REQ_QUIT:
		end(vm, code, VM_SHUT_DOWN, vm->cause ? vm->cause : code == VM_EXIT_ESCAPE ? VM_CAUSE_UI : VM_CAUSE_SIGNAL);
		break;
	case MACHINE_REQ_SUSPEND:
		log_warn("the guest asked to be suspended to RAM, which is not supported; it goes on");
		vm_tell(vm, VM_EVENT_SUSPEND_DENIED, VM_CAUSE_NONE);
		go_on(vm);
		break;
	case MACHINE_REQ_WATCHDOG:
		watchdog(vm);
		break;
	case MACHINE_REQ_DEBUG:
		vm->stop_wanted = vm->debug_stop = true;
		vm->debug_vcpu = (unsigned)code;
		go_on(vm);
		break;
	case MACHINE_REQ_PAUSE:
	case MACHINE_REQ_NONE:
		go_on(vm);
		break;
	}
}

/* Loop thread, machine lock held; no vCPU is inside the engine. */
static void on_parked(void *opaque)
{
	struct vm *vm = opaque;
	enum machine_request req;
	bool parked;
	int code;

	pthread_mutex_lock(&vm->run_lock);
	parked = !vm->run && !vm->n_running && !vm->quit;
	if (parked)
		vm->only = 0;
	req = vm->req;
	code = vm->req_code;
	pthread_mutex_unlock(&vm->run_lock);
	if (parked)
		handle(vm, req, code);
}

static void on_deadline(void *opaque)
{
	struct vm *vm = opaque;

	log_warn("the guest did not power off within %u s; ending it", vm->cfg->shutdown_timeout);
	vm_request(vm, MACHINE_REQ_QUIT, VM_EXIT_KILLED);
}

void vm_shutdown(struct vm *vm, const char *why)
{
	if (vm->shutting_down || !vm->cfg->shutdown_timeout || vm->paused) {
		log_warn("%s: ending the guest at once", why);
		vm_request(vm, MACHINE_REQ_QUIT, VM_EXIT_KILLED);
		return;
	}
	vm->shutting_down = true;
	log_warn("%s: pressing the guest's power button; it has %u s", why, vm->cfg->shutdown_timeout);
	vm_power_button(vm);
	loop_timer_arm(&vm->deadline, loop_now_ns() + vm->cfg->shutdown_timeout * NS_PER_S);
}

static void on_signal(void *opaque, uint32_t events)
{
	struct signalfd_siginfo si;
	struct vm *vm = opaque;

	if (read(vm->signal_fd.fd, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGHUP: vm_shutdown(vm, "the terminal is gone (SIGHUP)"); break;
	case SIGINT: vm_shutdown(vm, "interrupted (SIGINT)"); break;
	case SIGQUIT: vm_request(vm, MACHINE_REQ_QUIT, VM_EXIT_KILLED); break;
	case SIGUSR2: vm_resume(vm); break;
	default: vm_shutdown(vm, "asked to end (SIGTERM)"); break;
	}
}

static int watch_signals(struct vm *vm, struct err *e)
{
	sigset_t set;
	int ret;

	signal_set(&set);
	vm->signal_fd = (struct loop_fd){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.events = EPOLLIN, .cb = on_signal, .opaque = vm,
	};
	if (vm->signal_fd.fd < 0)
		return err_set(e, -errno, "signalfd: %s", strerror(errno));
	ret = loop_fd_add(vm->m->loop, &vm->signal_fd);
	return ret ? err_set(e, ret, "epoll: %s", strerror(-ret)) : 0;
}

void vm_init(struct vm *vm, const struct vm_config *cfg, struct err *e)
{
	vm->live = *cfg;
	vm->cfg = &vm->live;
	vm->watchdog_action = cfg->watchdog_action;
	vm->err = e;
	vm->signal_fd.fd = -1;
	list_init(&vm->netdevs);
	pthread_mutex_init(&vm->run_lock, NULL);
	pthread_cond_init(&vm->run_cond, NULL);
}

void vm_init_loop(struct vm *vm)
{
	vm->m->request = vm_request;
	vm->m->request_opaque = vm;
	loop_bh_init(vm->m->loop, &vm->parked_bh, on_parked, vm);
	loop_timer_init(vm->m->loop, &vm->deadline, on_deadline, vm);
	vm_vcpus_throttle_init(vm);
	vm_migrate_defaults(&vm->mig_params);
	vm_hotplug_init(vm);
}

/* A copy to which devices that come are added, with what is in the configuration unasked. */
static int own_tree(struct vm *vm, const struct vm_config *cfg, struct err *e)
{
	const char *key, *val;
	int ret = conf_new(&vm->tree);

	if (ret)
		return err_set(e, ret, "out of memory");
	for (size_t i = 0; cfg->tree && !ret && conf_nth(cfg->tree, i, &key, &val); i++)
		ret = conf_set(vm->tree, key, val, e);
	for (unsigned i = 0; i < cfg->n_usb && !ret; i++)
		ret = conf_setf(vm->tree, vm_usb_words[cfg->usb[i]], e, "usb.%u", i);
	vm->live.tree = vm->tree;
	return ret;
}

int vm_new(const struct vm_config *cfg, struct vm **out, struct err *e)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm)
		return err_set(e, -ENOMEM, "out of memory");
	vm_init(vm, cfg, e);
	ret = own_tree(vm, cfg, e);
	if (!ret)
		ret = vm_build(vm, e);
	if (!ret)
		ret = watch_signals(vm, e);
	if (ret) {
		vm_free(vm);
		return ret;
	}
	*out = vm;
	return 0;
}

/* The first instructions, or those that follow the ones before it was saved. */
static void start(struct vm *vm)
{
	vm->ran = true;
	if (vm->cfg->incoming)
		return;
	if (!vm->restore && !vm->cfg->loadvm) {
		if (vm->cfg->paused)
			start_paused(vm);
		else
			vm_vcpus_resume(vm);
		return;
	}
	machine_lock(vm->m);
	if (!vm->cfg->paused)
		vm_resume(vm);
	machine_unlock(vm->m);
}

int vm_prepare(struct vm *vm, struct err *e)
{
	int ret;

	vm->err = e;
	vm->exit_status = VM_EXIT_HOST;
	vm->run_start_ns = loop_now_ns();
	machine_lock(vm->m);
	ret = vm->restore ? vm_restore_load(vm, e) : vm->cfg->incoming ? vm_migrate_wait(vm, e) :
	      vm->cfg->loadvm ? vm_loadvm_start(vm, vm->cfg->loadvm, e) : platform_boot(vm->platform, e);
	machine_unlock(vm->m);
	if (ret)
		vm_migrate_end(vm);
	else
		vm_display_tell(vm);
	return ret;
}

int vm_run(struct vm *vm, struct err *e)
{
	int ret = vm_vcpus_start(vm, e);

	if (!ret) {
		if (vm->exec)
			vm_exec_start(vm->exec);
		start(vm);
		ret = loop_run(vm->m->loop);
		if (ret)
			err_set(e, ret, "the event loop failed: %s", strerror(-ret));
	}
	vm_migrate_end(vm);
	vm_vcpus_join(vm);
	machine_lock(vm->m);
	vm_save_cancel(vm);
	vm_inside_cancel(vm);
	machine_unlock(vm->m);
	if (vm->cfg->stats && !ret)
		vm_print_stats(vm);
	return ret ? VM_EXIT_HOST : vm->exit_status;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_vcpus_join(vm);
	if (vm->m) {
		machine_lock(vm->m);
		if (vm->signal_fd.fd >= 0)
			loop_fd_del(&vm->signal_fd);
		if (vm->deadline.loop)
			loop_timer_cancel(&vm->deadline);
		if (vm->throttle_timer.loop)
			loop_timer_cancel(&vm->throttle_timer);
		if (vm->parked_bh.loop)
			loop_bh_cancel(&vm->parked_bh);
		vm_hotplug_fini(vm);
		machine_unlock(vm->m);
	}
	if (vm->signal_fd.fd >= 0)
		close(vm->signal_fd.fd);
	vm_unbuild(vm);
	conf_free(vm->tree);
	pthread_cond_destroy(&vm->run_cond);
	pthread_mutex_destroy(&vm->run_lock);
	free(vm);
}
