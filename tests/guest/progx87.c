/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87 in a guest's program: long double over page faults, signals and context
 * switches, unmasked errors, MMX in between.  Built static by test_tiny.py, run
 * in the guest and on the host; both print the same.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <mmintrin.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void say(const char *name, long double v)
{
	unsigned char b[10];
	uint64_t man;
	uint16_t exp;

	memcpy(b, &v, 10);
	memcpy(&man, b, 8);
	memcpy(&exp, b + 8, 2);
	printf("%s %04x:%016llx\n", name, exp, (unsigned long long)man);
	fflush(stdout);
}

static long double series(int from, int to)
{
	long double s = 0, t = 1;

	for (int n = from; n < to; n++) {
		t = t * 0.999L + 1.0L / n;
		s += t * floorl(n * 0.37L);
	}
	return s;
}

/* --- page faults between, and of, x87 loads and stores --- */
static void faults(void)
{
	size_t len = 256 * 4096;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long double s = 1, v;

	/* Every other store lies astride two fresh pages. */
	for (size_t at = 4096 - 5; at + 10 <= len; at += 2048) {
		s = s * 1.25L + 3;
		memcpy(&v, &s, sizeof(v));
		__asm__ volatile("fldt %1\n\tfstpt %0" : "=m"(*(char(*)[10])(p + at)) : "m"(v));
	}
	for (size_t at = 4096 - 5; at + 10 <= len; at += 2048) {
		__asm__ volatile("fldt %1\n\tfstpt %0" : "=m"(v) : "m"(*(char(*)[10])(p + at)));
		s += v * 0.5L;
	}
	munmap(p, len);
	say("faults", s);
}

/* --- unmasked errors: the instruction leaves its operands and the next one reports --- */
extern char div_at[], wait_at[], div_load_at[];
static volatile int code, where, sw;

static void on_fpe(int sig, siginfo_t *si, void *uc)
{
	ucontext_t *u = uc;
	uintptr_t pc = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];

	code = si->si_code;
	where = pc == (uintptr_t)wait_at ? 1 : pc == (uintptr_t)div_load_at ? 2 : 0;
	sw = u->uc_mcontext.fpregs->swd & 0xff;
	if (u->uc_mcontext.fpregs->rip != (uintptr_t)div_at && where == 1)
		where = 3;
	u->uc_mcontext.fpregs->swd &= 0x7f00;
	u->uc_mcontext.fpregs->cwd |= 0x3f;
}

static void errors(void)
{
	struct sigaction sa = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO };
	char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned short cw = 0x37b;
	long double r = 0;
	int sum = 0;

	sigaction(SIGFPE, &sa, NULL);
	__asm__ volatile("fninit");
	for (int n = 0; n < 200; n++) {
		code = where = sw = 0;
		__asm__ volatile("fldcw %1\n\tfld1\n\tfldz\ndiv_at:\n\tfdivrp\n\tnop\nwait_at:\n\tfwait\n\tfstpt %0\n\tfstp %%st"
				 : "=m"(r) : "m"(cw));
		sum += code * 16 + where;
		if (sw != 0x84)
			sum += 1 << 20;
	}
	printf("division %x\n", sum);	/* 200 * (FPE_FLTDIV * 16 + 1) */
	say("result", r);
	/* Reported before the operand's page fault; then masked, and the operand is elsewhere. */
	mprotect(none, 4096, PROT_READ);
	sum = 0;
	for (int n = 0; n < 50; n++) {
		code = where = 0;
		madvise(none, 4096, MADV_DONTNEED);
		__asm__ volatile("fldcw %1\n\tfld1\n\tfldz\n\tfdivrp\n\tmov %2, %%rcx\ndiv_load_at:\n\tfaddl (%%rcx)\n\tfstpt %0\n\tfstp %%st"
				 : "=m"(r) : "m"(cw), "m"(none) : "rcx");
		sum += code * 16 + where;
	}
	printf("division and load %x\n", sum);
	say("result", r);
	fesetenv(FE_DFL_ENV);
}

/* --- signals that use x87 and MMX themselves --- */
static volatile int ticks;

static void on_tick(int sig)
{
	__m64 v = _mm_set1_pi16((short)ticks);
	volatile long double x = ticks;

	v = _mm_add_pi16(v, v);
	_mm_empty();
	x = sqrtl(x + (long double)_mm_cvtsi64_si32(v));
	_mm_empty();
	ticks++;
}

static void signals(void)
{
	struct itimerval t = { { 0, 2000 }, { 0, 2000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = on_tick };
	long double first = series(1, 20000);
	int same = 1;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	while (ticks < 30)
		same &= series(1, 20000) == first;
	setitimer(ITIMER_REAL, &off, NULL);
	printf("signals %d\n", same);
	say("series", first);
}

/* --- processes that each have their own --- */
static void processes(void)
{
	int p[2], n = 0;
	uint64_t v[4], sum = 0;

	if (pipe(p) < 0)
		return;
	for (int c = 0; c < 4; c++) {
		if (fork())
			continue;
		unsigned short cw = (unsigned short)(0x37f | c << 10);	/* rounding */
		long double s = c;

		__asm__ volatile("fldcw %0" : : "m"(cw));
		for (int k = 1; k < 3000; k++) {
			s += 1.0L / (k + c);
			if (k % 7 == 0)
				sched_yield();
		}
		memcpy(v, &s, 8);
		if (write(p[1], v, 8) != 8)
			_exit(1);
		_exit(0);
	}
	for (; n < 4 && read(p[0], v, 8) == 8; n++)
		sum += v[0];
	while (wait(NULL) > 0)
		;
	printf("processes %d %016llx\n", n, (unsigned long long)sum);
}

int main(void)
{
	faults();
	errors();
	signals();
	processes();
	return 42;
}
