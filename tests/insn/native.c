/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs one instruction on the host's CPU, in a child process.
 *
 * The child shares an exchange page range with us, maps the rig's address space
 * at its fixed addresses, and per case: raises a signal, whose handler replaces
 * the interrupted context (general registers, flags with TF, the XSAVE image)
 * by the case's; the instruction runs; the trap or fault that follows is the
 * result.  Handlers run on an alternate stack, so RSP may be anything.
 */
#include "rig.h"

#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SEL_CODE16 7
#define SEL_DATA16 15

struct exchange {
	struct rig_case c;
	struct rig_result r;
};

struct native {
	struct exchange *x;
	pid_t child;
	int go[2], done[2];
};

/* --- in the child --- */
static struct exchange *ex;
static sigjmp_buf back;
static uint32_t off_avx, off_k, off_hi256, off_hi16;
static unsigned turns, steps;

static uint32_t comp_off(unsigned n)
{
	uint32_t a, b, c, d;

	__cpuid_count(0xd, n, a, b, c, d);
	(void)c;
	(void)d;
	return a ? b : 0;
}

static void fpu_to_image(const struct x86_fpu *f, uint8_t *img)
{
	uint64_t *bv = (uint64_t *)(img + 512);

	memcpy(img, f->fx, 24);
	memcpy(img + 32, f->fx + 32, 128);
	memcpy(img + 24, &f->mxcsr, 4);
	for (unsigned n = 0; n < 16; n++) {
		memcpy(img + 160 + 16 * n, f->zmm[n], 16);
		if (off_avx)
			memcpy(img + off_avx + 16 * n, f->zmm[n] + 16, 16);
		if (off_hi256)
			memcpy(img + off_hi256 + 32 * n, f->zmm[n] + 32, 32);
	}
	*bv |= 3 | (off_avx ? 4 : 0);
	if (!off_k)
		return;
	memcpy(img + off_k, f->k, 64);
	memcpy(img + off_hi16, f->zmm[16], 1024);
	*bv |= 0xe0;
}

static void image_to_fpu(const uint8_t *img, struct x86_fpu *f)
{
	uint64_t bv;

	memset(f, 0, sizeof(*f));
	memcpy(&bv, img + 512, 8);
	memcpy(f->fx, img, 24);
	memcpy(f->fx + 32, img + 32, 128);
	memcpy(&f->mxcsr, img + 24, 4);
	for (unsigned n = 0; n < 16; n++) {
		if (bv & 2)
			memcpy(f->zmm[n], img + 160 + 16 * n, 16);
		if (off_avx && (bv & 4))
			memcpy(f->zmm[n] + 16, img + off_avx + 16 * n, 16);
		if (off_hi256 && (bv & 0x40))
			memcpy(f->zmm[n] + 32, img + off_hi256 + 32 * n, 32);
	}
	if (!(bv & 1)) {
		memset(f->fx, 0, 160);
		f->fx[0] = 0x7f;
		f->fx[1] = 3;
	}
	if (off_k && (bv & 0x20))
		memcpy(f->k, img + off_k, 64);
	if (off_hi16 && (bv & 0x80))
		memcpy(f->zmm[16], img + off_hi16, 1024);
}

static const int greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static void on_start(int sig, siginfo_t *si, void *ctx)
{
	mcontext_t *m = &((ucontext_t *)ctx)->uc_mcontext;

	(void)sig;
	(void)si;
	for (unsigned n = 0; n < 16; n++)
		m->gregs[greg_of[n]] = (greg_t)ex->c.gpr[n];
	m->gregs[REG_RIP] = (greg_t)(RIG_CODE + ex->c.code_off);
	m->gregs[REG_EFL] = (greg_t)(ex->c.rflags | 0x302);
	if (ex->c.bits == 16) {
		m->gregs[REG_RIP] = (greg_t)ex->c.code_off;
		m->gregs[REG_CSGSFS] = (m->gregs[REG_CSGSFS] & 0x0000ffffffff0000ll) | SEL_CODE16 | (greg_t)SEL_DATA16 << 48;
	}
	if (ex->c.bits == 32)	/* Linux's selector of 32-bit user code */
		m->gregs[REG_CSGSFS] = (m->gregs[REG_CSGSFS] & ~0xffffll) | 0x23;
	fpu_to_image(&ex->c.fpu, (uint8_t *)m->fpregs);
}

static void on_stop(int sig, siginfo_t *si, void *ctx)
{
	mcontext_t *m = &((ucontext_t *)ctx)->uc_mcontext;
	struct rig_result *r = &ex->r;

	(void)si;
	/* REP string instructions trap at every iteration, gathers and scatters before a late fault. */
	if (sig == SIGTRAP && (uint64_t)m->gregs[REG_RIP] == (ex->c.bits == 16 ? 0 : RIG_CODE) + ex->c.code_off && turns++ < 100000 &&
	    m->gregs[REG_TRAPNO] == 1 && (rig_has_rep(&ex->c) || rig_goes_on(&ex->c)))
		return;
	if (sig == SIGTRAP && m->gregs[REG_TRAPNO] == 1 && steps-- > 1)
		return;
	for (unsigned n = 0; n < 16; n++)
		r->gpr[n] = (uint64_t)m->gregs[greg_of[n]];
	r->rip = (uint64_t)m->gregs[REG_RIP];
	r->rflags = (uint64_t)m->gregs[REG_EFL];
	r->fault = sig == SIGTRAP && m->gregs[REG_TRAPNO] == 1 ? RIG_NO_FAULT : (uint8_t)m->gregs[REG_TRAPNO];
	r->err = (uint32_t)m->gregs[REG_ERR];
	r->cr2 = (uint64_t)m->gregs[REG_CR2];
	image_to_fpu((uint8_t *)m->fpregs, &r->fpu);
	siglongjmp(back, 1);
}

static void child_run(void)
{
	memset((void *)RIG_CODE, RIG_FILLER, RIG_PAGE);
	memcpy((void *)(RIG_CODE + ex->c.code_off), ex->c.code, ex->c.len);
	memcpy((void *)RIG_DATA, ex->c.data, RIG_DATA_SIZE);
	memset(&ex->r, 0, sizeof(ex->r));
	turns = 0;
	steps = ex->c.steps ? ex->c.steps : 1;
	/* 32 and 16-bit code needs data segments, which 64-bit code does without. */
	__asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(ex->c.bits == 16 ? SEL_DATA16 : 0x2b));
	if (!sigsetjmp(back, 0)) {
		raise(SIGUSR1);
		abort();
	}
	memcpy(ex->r.data, (void *)RIG_DATA, RIG_DATA_SIZE);
	ex->r.valid = true;
}

static void child_map(uint64_t at, unsigned size, int prot)
{
	if (mmap((void *)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(3);
}

static void child_ldt(void)
{
	struct user_desc d = { .entry_number = 0, .base_addr = (unsigned)RIG_CODE, .limit = 0xffff,
			       .contents = MODIFY_LDT_CONTENTS_CODE };

	/* Without it 16-bit cases all fault; diff asks native_can first. */
	syscall(SYS_modify_ldt, 1, &d, sizeof(d));
	d = (struct user_desc){ .entry_number = 1, .base_addr = (unsigned)RIG_DATA, .limit = 0x2fff };
	syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

bool native_can(unsigned bits)
{
	struct user_desc d = { .entry_number = 0, .base_addr = (unsigned)RIG_CODE, .limit = 0xffff,
			       .contents = MODIFY_LDT_CONTENTS_CODE };

	return bits != 16 || !syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

static void child_signals(void)
{
	static const int stop[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	size_t size = 1u << 18;
	stack_t ss = { .ss_size = size };
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER, .sa_sigaction = on_start };

	ss.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&ss, NULL);
	sigemptyset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_sigaction = on_stop;
	for (unsigned n = 0; n < sizeof(stop) / sizeof(stop[0]); n++)
		sigaction(stop[n], &sa, NULL);
}

static _Noreturn void child_main(struct native *n)
{
	char b;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ex = n->x;
	child_map(RIG_CODE, RIG_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	memset((void *)RIG_CODE, RIG_FILLER, RIG_PAGE);
	child_map(RIG_DATA, RIG_DATA_SIZE, PROT_READ | PROT_WRITE);
	child_map(RIG_RODATA, RIG_PAGE, PROT_READ | PROT_WRITE);
	rig_fill_rodata((uint8_t *)RIG_RODATA);
	mprotect((void *)RIG_RODATA, RIG_PAGE, PROT_READ);
	if (__builtin_cpu_supports("avx"))
		off_avx = comp_off(2);
	if (__builtin_cpu_supports("avx512f")) {
		off_k = comp_off(5);
		off_hi256 = comp_off(6);
		off_hi16 = comp_off(7);
	}
	child_ldt();
	child_signals();
	while (read(n->go[0], &b, 1) == 1) {
		alarm(10);	/* an instruction must not hang it */
		for (unsigned k = 0; k <= ex->c.repeat; k++)
			child_run();
		if (write(n->done[1], &b, 1) != 1)
			break;
	}
	_exit(0);
}

/* --- in the parent --- */
static int spawn(struct native *n)
{
	if (pipe(n->go) < 0)
		return -errno;
	if (pipe(n->done) < 0)
		return -errno;
	fflush(NULL);
	n->child = fork();
	if (n->child < 0)
		return -errno;
	if (!n->child) {
		close(n->go[1]);
		close(n->done[0]);
		child_main(n);
	}
	close(n->go[0]);
	close(n->done[1]);
	return 0;
}

static void reap(struct native *n)
{
	close(n->go[1]);
	close(n->done[0]);
	if (n->child > 0) {
		kill(n->child, SIGKILL);
		waitpid(n->child, NULL, 0);
	}
	n->child = 0;
}

struct native *native_new(void)
{
	struct native *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->x = mmap(NULL, sizeof(*n->x), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n->x == MAP_FAILED || spawn(n) < 0) {
		free(n);
		return NULL;
	}
	signal(SIGPIPE, SIG_IGN);
	return n;
}

void native_free(struct native *n)
{
	if (!n)
		return;
	reap(n);
	munmap(n->x, sizeof(*n->x));
	free(n);
}

void native_run(struct native *n, const struct rig_case *c, struct rig_result *r)
{
	char b = 0;

	n->x->c = *c;
	n->x->r.valid = false;
	if (write(n->go[1], &b, 1) != 1 || read(n->done[0], &b, 1) != 1) {
		reap(n);
		spawn(n);
		r->valid = false;
		return;
	}
	*r = n->x->r;
}
