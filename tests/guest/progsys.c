/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What light calls of the translator do, as a guest's program sees it: instructions
 * astride two pages whose bytes, mapping and rights change, strings either way over page
 * ends and into faults, bit strings, PUSHF and POPF, SYSCALL's registers.  Built
 * static by test_tiny.py, run in the guest and on the host; both print the same.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096u
#define ROUNDS 3000

static sigjmp_buf back;
static volatile uintptr_t fault_addr, fault_rip, fault_rcx, fault_rdi;

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	greg_t *r = ((ucontext_t *)uc)->uc_mcontext.gregs;

	fault_addr = (uintptr_t)si->si_addr;
	fault_rip = (uintptr_t)r[REG_RIP];
	fault_rcx = (uintptr_t)r[REG_RCX];
	fault_rdi = (uintptr_t)r[REG_RDI];
	siglongjmp(back, 1);
}

static void say(const char *name, unsigned long v)
{
	printf("%s %lx\n", name, v);
	fflush(stdout);
}

/* --- mov $imm32, %eax; ret with `first` bytes of the MOV on the first page --- */

static uint8_t *code;
static int memfd;

static void put(unsigned first, uint32_t imm)
{
	uint8_t *p = code + PAGE - first;

	p[0] = 0xb8;
	memcpy(p + 1, &imm, 4);
	p[5] = 0xc3;
}

static uint32_t call(unsigned first) { return ((uint32_t (*)(void))(uintptr_t)(code + PAGE - first))(); }

static uint32_t calls(unsigned first)
{
	uint32_t s = 0;

	for (int n = 0; n < ROUNDS; n++)
		s = s * 31 + call(first);
	return s;
}

static void straddle(void)
{
	memfd = memfd_create("code", 0);
	if (ftruncate(memfd, 3 * PAGE))
		_exit(1);
	code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, memfd, 0);
	for (unsigned first = 1; first <= 4; first++) {
		put(first, 0x12345678 + first);
		say("straddle", calls(first));
		put(first, 0x9abcdef0 + first);			/* changes both pages */
		say("changed", calls(first));
		code[PAGE + 4 - first] ^= 0x55;			/* the last byte of the immediate: only the second */
		say("second", calls(first));
		if (first > 1) {
			code[PAGE + 1 - first] ^= 0x33;		/* the first byte: only the first */
			say("first", calls(first));
		}
	}
	/* Another page behind the first, and back. */
	put(2, 0x01020304);
	say("before", calls(2));
	if (pwrite(memfd, "\xaa\xbb\xcc\xc3", 4, 2 * PAGE) != 4)
		_exit(1);
	mmap(code + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED, memfd, 2 * PAGE);
	say("remapped", calls(2));
	mmap(code + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED, memfd, PAGE);
	say("back", calls(2));
	for (int n = 0; n < 200; n++) {		/* in turn, so that neither stays */
		uint32_t want = n & 1 ? 0xccbbaa04 : 0x01020304;

		mmap(code + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_FIXED, memfd, n & 1 ? 2 * PAGE : PAGE);
		for (int k = 0; k < 20; k++)
			if (call(2) != want)
				say("wrong in turn", (unsigned long)n);
	}
	/* Not executable: the fault is the instruction's, its address the second page's. */
	mprotect(code + PAGE, PAGE, PROT_READ);
	if (!sigsetjmp(back, 1))
		call(2);
	say("fault at", fault_addr - (uintptr_t)code);
	say("fault rip", fault_rip - (uintptr_t)code);
	mprotect(code + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	say("again", calls(2));
}

/* --- strings --- */

static uint64_t sum(const uint8_t *p, size_t n)
{
	uint64_t s = 0;

	while (n--)
		s = s * 131 + *p++;
	return s;
}

static void movs(void *d, const void *s, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}

static void strings(void)
{
	size_t len = 16 * PAGE;
	uint8_t *p = mmap(NULL, len + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t s = 0;

	mprotect(p + len, PAGE, PROT_NONE);
	for (size_t n = 0; n < len; n++)
		p[n] = (uint8_t)(n * 7 + (n >> 8));
	for (unsigned k = 1; k < 300; k++) {
		movs(p + k * 37, p + k * 61 + 5, k * 29);
		movs(p + k * 53, p + k * 53 - 1, k);		/* overlapping: spreads a byte */
		s = s * 3 + sum(p, len);
	}
	say("movs", s);
	for (unsigned k = 1; k < 300; k++) {
		void *d = p + k * 131;
		size_t n = k;

		__asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0x0102030405060708ull * k) : "memory");
		d = p + len - 1 - k * 17;
		n = k * 9;
		__asm__ volatile("std\n\trep stosb\n\tcld" : "+D"(d), "+c"(n) : "a"(k) : "memory");
		s = s * 3 + sum(p, len) + (uintptr_t)d - (uintptr_t)p;
	}
	say("stos", s);
	for (unsigned k = 1; k < 200; k += 13) {		/* into the page that is not there */
		if (!sigsetjmp(back, 1))
			movs(p + len - k, p, 1000);
		say("left", fault_rcx);
		say("at", fault_rdi - (uintptr_t)p);
		say("address", fault_addr - (uintptr_t)p);
	}
	say("after", sum(p, len));
}

/* Everything that is not REP MOVS upwards: any width, either direction, through several pages and into their end. */
#define RUN(INSN, w, back)												\
	__asm__ volatile("xor %%r8d,%%r8d\n\t" back INSN w "\n\tlea -128(%%rsp),%%rsp\n\tpushfq\n\tcld\n\tpop %3\n\t"	\
			 "lea 128(%%rsp),%%rsp" : "+D"(d), "+S"(s), "+c"(n), "=&r"(f), "+a"(a) : : "memory", "cc", "r8")
#define WIDTHS(INSN)							\
	do {								\
		switch (back ? width * 16 : width) {			\
		case 1: RUN(INSN, "b", ""); break;			\
		case 2: RUN(INSN, "w", ""); break;			\
		case 4: RUN(INSN, "l", ""); break;			\
		case 8: RUN(INSN, "q", ""); break;			\
		case 32: RUN(INSN, "w", "std\n\t"); break;		\
		case 64: RUN(INSN, "l", "std\n\t"); break;		\
		case 128: RUN(INSN, "q", "std\n\t"); break;		\
		default: RUN(INSN, "b", "std\n\t"); break;		\
		}							\
	} while (0)

static uint64_t one_string(unsigned what, unsigned width, bool back, uint8_t *d0, uint8_t *s0, uint64_t n0, uint64_t a0)
{
	uint8_t *d = d0, *s = s0;
	uint64_t n = n0, a = a0, f = 0;

	switch (what) {
	case 0: WIDTHS("rep movs"); break;
	case 1: WIDTHS("rep stos"); break;
	case 2: WIDTHS("rep lods"); break;
	case 3: WIDTHS("repe cmps"); break;
	case 4: WIDTHS("repne cmps"); break;
	case 5: WIDTHS("repe scas"); break;
	case 6: WIDTHS("repne scas"); break;
	case 7: WIDTHS("movs"); break;
	case 8: WIDTHS("stos"); break;
	case 9: WIDTHS("lods"); break;
	case 10: WIDTHS("cmps"); break;
	default: WIDTHS("scas"); break;
	}
	return (uint64_t)(d - d0) * 3 + (uint64_t)(s - s0) * 5 + n * 7 + a * 11 + (f & 0x8d5) * 13;
}

/* What is left when a string runs into the page behind or before the memory. */
static uint64_t into_the_end(unsigned what, unsigned width, bool down, uint8_t *p, size_t len, unsigned k)
{
	uint8_t *near = down ? p + k * width + k % width : p + len - k * width - k % width;

	if (!sigsetjmp(back, 1)) {
		one_string(what, width, down, near, p + len / 2, 100000, 0x0101010101010101ull);
		return 1;
	}
	return fault_rcx * 3 + (fault_rdi - (uintptr_t)p) * 5 + (fault_addr - (uintptr_t)p);
}

static void strings_either_way(void)
{
	size_t len = 48 * PAGE;
	uint8_t *p = (uint8_t *)mmap(NULL, len + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE;
	uint64_t x = 88172645463325252ull, s = 0;

	mprotect(p - PAGE, PAGE, PROT_NONE);
	mprotect(p + len, PAGE, PROT_NONE);
	for (unsigned k = 0; k < 6000; k++) {
		unsigned what = k % 12, width;
		bool back;
		uint64_t n, at, from;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		width = 1u << (x & 3);
		back = x >> 2 & 1;
		n = (x >> 3 & 7) < 4 ? x >> 6 & 31 : x >> 6 & 0x7fff;	/* elements */
		n = n * width > len / 3 ? len / 3 / width : n;
		at = (back ? len / 3 + 8 : 0) + (x >> 24) % (len / 3);
		from = (x & 64) ? at + (x >> 40) % 64 : (back ? len / 3 + 8 : 0) + (x >> 40) % (len / 3);
		/* Long stretches that are alike, so that comparisons get somewhere. */
		if (what >= 3 && what <= 6 && (x & 128))
			memset(p + len / 3, (int)(x >> 50), len / 3);
		s = s * 3 + one_string(what, width, back, p + at, p + from, n, (x & 256) ? p[at] * 0x0101010101010101ull : x);
		if (k % 16 == 0)
			s = s * 3 + sum(p, len);
	}
	say("strings", s);
	for (unsigned k = 1; k < 4000; k += 97)
		for (unsigned what = 0; what < 7; what++) {
			if (what == 2 || what == 4)
				continue;
			memset(p, 1, len);
			s = s * 3 + into_the_end(what, 1u << (k & 3), k >> 2 & 1, p, len, k);
		}
	say("strings to the end", s + sum(p, len));
}

/* --- bits --- */

static void bits(void)
{
	static uint64_t map[1024];
	uint64_t s = 0, x = 88172645463325252ull;
	unsigned char c;

	for (unsigned n = 0; n < 200000; n++) {
		int64_t at;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		at = (int64_t)(x >> 20) % 30000;
		switch (x & 7) {
		case 0: __asm__ volatile("btsq %2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"(at) : "memory"); break;
		case 1: __asm__ volatile("lock btsq %2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"(at) : "memory"); break;
		case 2: __asm__ volatile("btrl %2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"((int)at) : "memory"); break;
		case 3: __asm__ volatile("lock btrl %2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"((int)at) : "memory"); break;
		case 4: __asm__ volatile("btcw %w2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"((int)at) : "memory"); break;
		case 5: __asm__ volatile("lock btcq %2,%1; setc %0" : "=q"(c), "+m"(map[500]) : "r"(-at) : "memory"); break;
		default: __asm__ volatile("btq %2,%1; setc %0" : "=q"(c) : "m"(map[500]), "r"(at)); break;
		}
		s = s * 5 + c;
	}
	say("bits", s);
	say("map", sum((uint8_t *)map, sizeof(map)));
}

/* --- flags, and what SYSCALL leaves --- */

static void flags(void)
{
	uint64_t s = 0, f, rcx, r11, x = 1234567;

	for (unsigned n = 0; n < 20000; n++) {
		long r = SYS_getppid;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		f = (x >> 30 & 0x4cd5) | 0x202;
		__asm__ volatile("push %0\n\tpopfq\n\tpushfq\n\tpop %0\n\tcld" : "+r"(f) : : "cc");
		s = s * 7 + f;
		f = (x >> 20 & 0x8d5) | 0x202;
		__asm__ volatile("push %[f]\n\tpopfq\n\tsyscall\n\tpushfq\n\tpop %[f]" : [f] "+r"(f), "+a"(r), "=&c"(rcx)
				 : : "r11", "memory");
		s = s * 7 + (f & 0x8d5);
		r = SYS_getppid;
		__asm__ volatile("lea 1f(%%rip),%%rbx\n\tstc\n\tsyscall\n1:\tsub %%rbx,%%rcx\n\tmov %%r11,%[r11]"
				 : "+a"(r), "=&c"(rcx), [r11] "=r"(r11) : : "rbx", "r11", "memory", "cc");
		s = s * 7 + rcx + (r11 & 1);
	}
	say("flags", s);
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	straddle();
	strings();
	strings_either_way();
	bits();
	flags();
	puts("end");
	return 42;
}
