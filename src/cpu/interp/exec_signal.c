/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults inside exec stubs.
 *
 * A guest instruction that faults on the host (alignment, unmasked SIMD
 * exception, undefined opcode) arrives as a signal.  If the interrupted PC lies
 * in the faultable part of the stub this thread is running, the handler makes
 * it continue at the stub's recovery code with RAX telling the fault; any other
 * fault goes to the handler installed before, or takes its default action.
 *
 * Signal dispositions belong to the process, hence the one piece of file-scope
 * state here: the dispositions found at installation.
 */
#include "cpu/interp/exec_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static const int caught[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
static struct sigaction previous[ARRAY_LEN(caught)];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

_Thread_local const struct exec *volatile exec_current;
_Thread_local bool (*exec_fault_hook)(void *ucontext);
static _Thread_local void *alt_stack;
static _Thread_local size_t alt_size;

static int fault_kind(int sig, const siginfo_t *si)
{
	switch (sig) {
	case SIGFPE: return EXEC_FAULT_XM;
	case SIGILL: return EXEC_FAULT_UD;
	case SIGBUS: return si->si_code == BUS_ADRALN ? EXEC_FAULT_AC : 0;
	case SIGSEGV: return si->si_code == SI_KERNEL ? EXEC_FAULT_GP : 0;
	default: return 0;
	}
}

static void pass_on(int sig, siginfo_t *si, void *ctx)
{
	const struct sigaction *old = NULL;

	for (unsigned n = 0; n < ARRAY_LEN(caught); n++)
		if (caught[n] == sig)
			old = &previous[n];
	if (old && (old->sa_flags & SA_SIGINFO)) {
		old->sa_sigaction(sig, si, ctx);
	} else if (old && old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else {	/* the instruction faults again, without us */
		signal(sig, SIG_DFL);
		if (si->si_code <= 0 && si->si_code != SI_KERNEL)
			raise(sig);
	}
}

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
	greg_t *g = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	const fpregset_t fp = ((ucontext_t *)ctx)->uc_mcontext.fpregs;
	const struct exec *x = exec_current;
	uintptr_t pc = (uintptr_t)g[REG_RIP];
	int kind = fault_kind(sig, si);

	if (kind && exec_fault_hook && exec_fault_hook(ctx))
		return;
	if (!kind || !x || pc < x->lo || pc >= x->hi) {
		pass_on(sig, si, ctx);
		return;
	}
	g[REG_RIP] = (greg_t)x->recover;
	g[REG_RAX] = (greg_t)(EXEC_FAULT | (uint64_t)kind << 32 | (fp ? fp->mxcsr : 0x1f80));
}

static bool is_ours(const struct sigaction *sa)
{
	return (sa->sa_flags & SA_SIGINFO) && sa->sa_sigaction == on_fault;
}

int exec_signals_install(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK }, now;
	int r = 0;

	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&lock);
	for (unsigned n = 0; n < ARRAY_LEN(caught) && !r; n++) {
		if (sigaction(caught[n], NULL, &now) < 0) {
			r = -errno;
		} else if (!is_ours(&now)) {
			previous[n] = now;
			if (sigaction(caught[n], &sa, NULL) < 0)
				r = -errno;
		}
	}
	pthread_mutex_unlock(&lock);
	return r;
}

int exec_thread_init(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), need = MAX((size_t)getauxval(AT_MINSIGSTKSZ) * 4, 65536u);
	stack_t ss;
	void *m;

	if (sigaltstack(NULL, &ss) < 0)
		return -errno;
	if (!(ss.ss_flags & SS_DISABLE))
		return 0;
	need = align_up(need, page);
	m = mmap(NULL, need + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return -errno;
	mprotect(m, page, PROT_NONE);
	ss = (stack_t){ .ss_sp = (char *)m + page, .ss_size = need };
	if (sigaltstack(&ss, NULL) < 0) {
		int r = -errno;

		munmap(m, need + page);
		return r;
	}
	alt_stack = m;
	alt_size = need + page;
	return 0;
}

void exec_thread_fini(void)
{
	stack_t off = { .ss_flags = SS_DISABLE };

	if (!alt_stack)
		return;
	sigaltstack(&off, NULL);
	munmap(alt_stack, alt_size);
	alt_stack = NULL;
}
