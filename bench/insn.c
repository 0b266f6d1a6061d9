// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Steady-state speed of a CPU engine: a static program that runs in the tiny
 * guest and prints "bench NAME VALUE UNIT" lines.  The instruction counts are
 * exact because the loops are written in assembly.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* 10 instructions a turn: register arithmetic and one taken branch. */
static uint64_t integer_loop(uint64_t n)
{
	uint64_t a = 1, b = 2;

	__asm__ volatile("1:\n\tadd %1, %0\n\txor %0, %1\n\trol $3, %0\n\tlea 7(%0,%1,2), %1\n\tsub $5, %0\n\t"
			 "and $-2, %1\n\timul $3, %0, %0\n\tor $1, %0\n\tdec %2\n\tjnz 1b"
			 : "+r"(a), "+r"(b), "+r"(n) : : "cc");
	return a + b;
}

/* 5 instructions a turn: loads and stores. */
static uint64_t memory_loop(uint64_t *p, uint64_t n)
{
	uint64_t a = 0;

	__asm__ volatile("1:\n\tadd (%1), %0\n\tmov %0, 8(%1)\n\tadd %0, 16(%1)\n\tdec %2\n\tjnz 1b"
			 : "+r"(a), "+r"(p), "+r"(n) : : "cc", "memory");
	return a;
}

/* 5 instructions a turn: SSE2 arithmetic. */
static uint64_t vector_loop(uint64_t n)
{
	__asm__ volatile("1:\n\tpaddq %%xmm1, %%xmm0\n\tpxor %%xmm0, %%xmm2\n\tpmuludq %%xmm2, %%xmm1\n\tdec %0\n\tjnz 1b"
			 : "+r"(n) : : "xmm0", "xmm1", "xmm2", "cc");
	return n;
}

/* Runs a loop long enough to be measured and prints million instructions a second. */
#define RATE(name, per_turn, call) do { \
	uint64_t turns = 100000; \
	double t; \
	for (;;) { \
		double t0 = now(); \
		(void)(call); \
		t = now() - t0; \
		if (t > 0.5 || turns > 1ull << 40) \
			break; \
		turns *= t < 0.05 ? 8 : 2; \
	} \
	printf("bench %s %.1f MIPS\n", name, (double)turns * (per_turn) / t / 1e6); \
} while (0)

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int main(void)
{
	static uint32_t v[200000];
	static uint64_t mem[8];
	uint32_t seed = 1;
	double t0;
	int n = 0;

	RATE("integer", 10, integer_loop(turns));
	RATE("memory", 5, memory_loop(mem, turns));
	RATE("sse2", 5, vector_loop(turns));
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		v[i] = seed = seed * 1664525 + 1013904223;
	t0 = now();
	qsort(v, sizeof(v) / sizeof(v[0]), sizeof(v[0]), compare);
	printf("bench sort-200000 %.1f ms\n", (now() - t0) * 1e3);
	t0 = now();
	while (now() - t0 < 0.5) {
		getppid();
		n++;
	}
	printf("bench syscalls %.0f per-second\n", n / (now() - t0));
	return 0;
}
