/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 32-bit program that needs nothing but a kernel: built freestanding by
 * test_tiny.py, run on the tiny guest's 64-bit kernel and, where the host can,
 * on the host; both print the same.  It goes through what differs in
 * compatibility mode: INT 80h, thread segments in the GDT, signal frames and
 * their return, 32-bit faults, address wrap, BCD, segment pushes, x87.
 */
#include <stdint.h>

#define NR_exit 1
#define NR_write 4
#define NR_getpid 20
#define NR_sigaction 174	/* rt_sigaction */
#define NR_set_thread_area 243

static long sys(long nr, long a, long b, long c, long d)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
	return r;
}

static void say(const char *name, uint32_t v)
{
	char line[64], *p = line;

	while (*name)
		*p++ = *name++;
	*p++ = ' ';
	for (int n = 28; n >= 0; n -= 4)
		*p++ = "0123456789abcdef"[v >> n & 15];
	*p++ = '\n';
	sys(NR_write, 1, (long)line, p - line, 0);
}

/* --- thread segment --- */

struct user_desc {
	uint32_t entry, base, limit, flags;
};

static uint32_t tls[4] = { 0x11111111, 0x22222222, 0x33333333, 0x44444444 };

static void thread_segment(void)
{
	struct user_desc d = { 0xffffffff, (uint32_t)tls, 15, 1 | 1 << 6 };	/* 32-bit, usable, limit in bytes */
	uint32_t v, limit;

	say("set_thread_area", (uint32_t)sys(NR_set_thread_area, (long)&d, 0, 0, 0));
	__asm__ volatile("movw %w2, %%fs\n\tmovl %%fs:8, %0\n\tlsl %2, %1" : "=&r"(v), "=&r"(limit) : "r"(d.entry << 3 | 3));
	say("fs:8", v);
	say("lsl", limit);
}

/* --- signals --- */

struct sigaction32 {
	void (*handler)(int);
	uint32_t flags;
	void (*restorer)(void);
	uint32_t mask[2];
};

static volatile uint32_t caught;

__attribute__((naked)) static void restorer(void)
{
	__asm__("popl %eax\n\tmovl $119, %eax\n\tint $0x80");	/* sigreturn */
}

/* Steps over what faulted.  In the frame of a plain handler the saved context follows the signal's number; EIP is its
 * word 14. */
__attribute__((noinline)) static void handler(int sig)
{
	uint32_t *context = (uint32_t *)__builtin_frame_address(0) + 3;
	const uint8_t *at = (const uint8_t *)context[14];

	caught = caught << 8 | (uint32_t)sig;
	if (sig == 11)
		context[14] += *at == 0x64 ? 7 : 6;
	else if (sig == 8)
		context[14] += 2;
	__asm__ volatile("" ::: "memory");
}

static void faults(void)
{
	struct sigaction32 sa = { handler, 0x04000000, restorer, { 0, 0 } };

	for (int sig = 4; sig <= 11; sig++)
		sys(NR_sigaction, sig, (long)&sa, 0, 8);
	__asm__ volatile("int3");
	__asm__ volatile("movl 0x8, %%ecx" ::: "ecx");			/* #PF: SIGSEGV */
	__asm__ volatile("movl %%fs:0x10, %%ecx" ::: "ecx");		/* #GP, beyond the segment's limit: SIGSEGV */
	__asm__ volatile("xorl %%ecx, %%ecx\n\tdivl %%ecx" ::: "eax", "ecx", "edx", "cc");
	say("signals", caught);
}

/* --- instructions that 64-bit mode does not have, and 32-bit wrapping --- */

static void old_instructions(void)
{
	uint32_t a = 0x00000079, b, flags, all[2];

	__asm__("addb $0x48, %%al\n\tdaa\n\tpushfl\n\tpopl %1" : "+a"(a), "=r"(flags) :: "cc");
	say("daa", a);
	say("flags", flags & 0xd5);
	a = 0x1234;
	__asm__("aam\n\taad" : "+a"(a) :: "cc");
	say("aam aad", a);
	__asm__("pusha\n\tmovl %1, 24(%%esp)\n\tpopa" : "=c"(b) : "i"(0x5eed) : "memory");
	say("popa", b);
	__asm__("pushl %%ds\n\tpopl %0\n\tpushl %%cs\n\tpopl %1" : "=r"(all[0]), "=r"(all[1]));
	say("ds", all[0]);
	say("cs", all[1]);
	__asm__("movl $0xfffffff0, %%eax\n\tleal 0x20(%%eax), %0" : "=r"(b) :: "eax");
	say("lea wraps", b);
	__asm__("movl %1, %%eax\n\tsubl $4, %%eax\n\tmovl 4(%%eax), %0" : "=r"(b) : "r"(&tls[1]) : "eax");
	say("load", b);
	__asm__("movl $0x80000000, %%eax\n\tmull %%eax" : "=d"(b) :: "eax", "cc");
	say("mul", b);
}

static void floating(void)
{
	volatile double x = 2.0, sum = 0;
	uint64_t bits;

	for (int n = 1; n < 200; n++)
		sum += x / n;
	__asm__("fldl %1\n\tfsqrt\n\tfstpl %0" : "=m"(bits) : "m"(sum));
	say("sqrt, high", (uint32_t)(bits >> 32));
	say("sqrt, low", (uint32_t)bits);
}

static uint32_t mix(uint32_t depth, uint32_t x)
{
	for (uint32_t n = 0; n < 1000; n++)
		x = (x << 5 | x >> 27) * 0x9e3779b1u + n;
	return depth ? mix(depth - 1, x) ^ x : x;
}

void _start(void) __attribute__((force_align_arg_pointer));
void _start(void)
{
	thread_segment();
	faults();
	old_instructions();
	floating();
	say("mix", mix(500, 1));
	say("getpid", sys(NR_getpid, 0, 0, 0, 0) > 0);
	sys(NR_exit, 42, 0, 0, 0);
}
