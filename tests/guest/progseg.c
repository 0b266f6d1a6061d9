/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What user code can do with segments without the kernel: load selectors, look at
 * descriptors (of the LDT too), jump into 32-bit code and back; and calls of the
 * vsyscall page.  Over and over, so that it runs natively (--direct) between system
 * calls and faults.  Built static by test_tiny.py, run in the guest and on the host;
 * both print the same.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 300
#define APART __attribute__((noinline))	/* on a page of its own: one with LAR or LSL does not run natively */
#define VSYSCALL_TIME 0xffffffffff600400ul

static sigjmp_buf back;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

static void expect(int ok, const char *what, unsigned long v)
{
	if (ok)
		return;
	printf("wrong: %s, %lx\n", what, v);
	exit(1);
}

/* Time for a process of its own to be found worth it. */
static APART unsigned long work(unsigned n)
{
	unsigned long x = n + 1;

	for (unsigned k = 0; k < 20000; k++)
		x = x * 6364136223846793005ul + (x >> 13);
	return x;
}

static APART void selectors(unsigned n)
{
	static const uint16_t sels[] = { 0x2b, 0, 3, 0x2b, 1, 2 };
	uint16_t sel = sels[n % 6], es, gs;

	__asm__ volatile("mov %0, %%es; mov %0, %%gs" :: "r"((unsigned)sel));
	work(n);
	syscall(SYS_getppid);
	work(n);
	__asm__ volatile("mov %%es, %0; mov %%gs, %1" : "=r"(es), "=r"(gs));
	/* (A kernel that returns by IRET clears what is null.) */
	expect(es == sel || (sel < 4 && !es), "ES", es);
	expect(gs == sel || (sel < 4 && !gs), "GS", gs);
	__asm__ volatile("mov %0, %%es; mov %0, %%gs" :: "r"(0));
}

/* 1: it may be looked at. */
static unsigned lar(unsigned sel, unsigned *v)
{
	unsigned char ok;

	*v = 0;
	__asm__ volatile("lar %2, %1; setz %0" : "=q"(ok), "+r"(*v) : "r"(sel));
	return ok;
}

static unsigned lsl(unsigned sel, unsigned *v)
{
	unsigned char ok;

	*v = 0;
	__asm__ volatile("lsl %2, %1; setz %0" : "=q"(ok), "+r"(*v) : "r"(sel));
	return ok;
}

static unsigned verr(unsigned sel)
{
	unsigned char ok;

	__asm__ volatile("verr %w1; setz %0" : "=q"(ok) : "r"(sel));
	return ok;
}

static APART void descriptors(int has_ldt)
{
	static const uint16_t sels[] = { 0x23, 0x2b, 0x33, 0x10, 0x07, 0x0f, 0 };
	unsigned a, l, ok;

	for (unsigned n = 0; n < 7; n++) {
		if ((sels[n] & 4) && !has_ldt)
			continue;
		ok = lar(sels[n], &a) | lsl(sels[n], &l) << 1 | verr(sels[n]) << 2;
		printf("%x: %x %x %x\n", sels[n], ok, a & 0xf0ff00, l);	/* without the accessed bit, which is set in time */
	}
}

static int make_ldt(void)
{
	struct user_desc d = { .entry_number = 0, .base_addr = 0x10000, .limit = 0x123, .seg_32bit = 1, .useable = 1 };

	return syscall(SYS_modify_ldt, 1, &d, sizeof(d)) == 0;
}

/* 32-bit code that adds up and comes back by a far return. */
static const uint8_t code32[] = {
	0x31, 0xc0,			/* xor eax, eax */
	0x01, 0xc8,			/* add eax, ecx */
	0x40,				/* inc eax: REX in 64-bit code */
	0xe2, 0xfb,			/* loop the add */
	0xcb,				/* retf */
};

static APART unsigned into32(uint8_t *low, unsigned n)
{
	unsigned long stack = (unsigned long)low + 0x2000;
	unsigned r;

	__asm__ volatile("mov %%rsp, %%r12\n"
			 "mov %1, %%rsp\n"
			 "push $0\n"
			 "push $0\n"
			 "lea 1f(%%rip), %%rax\n"
			 "mov %%eax, (%%rsp)\n"			/* for the 32-bit RETF: EIP, CS */
			 "movl $0x33, 4(%%rsp)\n"
			 "sub $16, %%rsp\n"
			 "mov %2, (%%rsp)\n"			/* for the 64-bit RETF here: RIP, CS */
			 "movq $0x23, 8(%%rsp)\n"
			 "rex.w lret\n"
			 "1: mov %%r12, %%rsp\n"
			 "mov %%eax, %0\n"
			 : "=r"(r), "+r"(stack) : "r"((unsigned long)low), "c"(n) : "rax", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
			 "memory", "cc");
	return r;
}

static unsigned into32_expected(unsigned n)
{
	unsigned r = 0;

	for (; n; n--)
		r += n + 1;
	return r;
}

static APART void vsyscall_time(void)
{
	time_t (*f)(time_t *) = (time_t (*)(time_t *))VSYSCALL_TIME;
	time_t now, t;

	if (sigsetjmp(back, 1))
		return;		/* the kernel has none */
	now = time(NULL);
	t = f(NULL);
	expect(t >= now && t < now + 30, "vsyscall time", (unsigned long)t);
}

int main(void)
{
	uint8_t *low = mmap(NULL, 0x3000, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int has_ldt = make_ldt();

	signal(SIGSEGV, on_segv);
	expect(low != MAP_FAILED && (unsigned long)main < 1ul << 32, "mmap", (unsigned long)low);
	memcpy(low, code32, sizeof(code32));
	for (unsigned n = 0; n < ROUNDS; n++) {
		unsigned r;

		selectors(n);
		r = into32(low, 2000 + n);
		expect(r == into32_expected(2000 + n), "32-bit sum", r);
		vsyscall_time();
		work(n);
	}
	descriptors(has_ldt);
	puts("end");
	return 42;
}
