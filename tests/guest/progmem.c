/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * More pages than a process for native user code is let map at a time, touched one
 * by one, given back, taken away from under it and shared with a child: what is
 * read is what was written last.  Built static by test_tiny.py, run in the guest
 * and on the host.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 45000ul		/* direct.h: DIRECT_MAP_MAX is 40,000 */

static void expect(int ok, const char *what)
{
	if (ok)
		return;
	printf("wrong: %s\n", what);
	exit(1);
}

static uint64_t *word(char *p, unsigned long n) { return (uint64_t *)(p + n * PAGE + n % 500 * 8); }

static void fill(char *p, uint64_t seed)
{
	for (unsigned long n = 0; n < PAGES; n++)
		*word(p, n) = n * 0x9e3779b97f4a7c15ul ^ seed;
}

static int same(char *p, uint64_t seed)
{
	for (unsigned long n = 0; n < PAGES; n++)
		if (*word(p, n) != (n * 0x9e3779b97f4a7c15ul ^ seed))
			return 0;
	return 1;
}

int main(void)
{
	char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t child;
	int st = 1;

	expect(p != MAP_FAILED, "mmap");
	madvise(p, PAGES * PAGE, MADV_NOHUGEPAGE);
	fill(p, 1);
	expect(same(p, 1), "first touch");
	fill(p, 2);
	expect(same(p, 2), "once more");
	madvise(p, PAGES / 2 * PAGE, MADV_DONTNEED);
	expect(*word(p, 7) == 0 && *word(p, PAGES / 2 - 1) == 0 && *word(p, PAGES / 2) != 0, "given back");
	fill(p, 3);
	for (unsigned round = 0; round < 3; round++) {	/* copies, as both sides write */
		child = fork();
		if (child == 0) {
			for (unsigned long n = 0; n < PAGES; n += 64)
				*word(p, n) = round;
			_exit(*word(p, 64) == round && *word(p, 65) == (65 * 0x9e3779b97f4a7c15ul ^ 3) ? 0 : 1);
		}
		expect(child > 0 && waitpid(child, &st, 0) == child && st == 0, "the child's copy");
		expect(same(p, 3), "the parent's copy");
	}
	expect(mprotect(p, PAGES * PAGE, PROT_READ) == 0 && same(p, 3), "read only");
	expect(mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
	fill(p, 4);
	expect(same(p, 4), "writable again");
	printf("end\n");
	return 42;
}
