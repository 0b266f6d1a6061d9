/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's program that checks itself and is never at rest, for restore.py: whatever moment the guest is saved at, it is in the middle of something.
 *
 *   a thread copies pages with rep movsb, unaligned and across pages, and compares them
 *   one counts in SSE, x87 and general registers at once, which must agree
 *   one gets a timer's signal each millisecond, and looks whether time goes back
 *   one writes records to a disk (its argument), reads them back past the cache and compares
 *
 * A line "round N" each time the disk has come round, "wrong: ..." and its end if something is not as it must be.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SIZE (3u * 4096 + 777)
#define RECORD 4096u
#define RECORDS 16u

static _Atomic unsigned long ticks;

static void wrong(const char *what)
{
	printf("wrong: %s\n", what);
	fflush(stdout);
	_exit(1);
}

static void *copies(void *arg)
{
	static uint8_t from[SIZE + 64], to[SIZE + 64];

	for (unsigned long n = 0;; n++) {
		unsigned off = n % 61, len = SIZE - n % 1000;
		uint8_t *d = to + (n * 7) % 61;
		const uint8_t *s = from + off;
		unsigned long left = len;

		for (unsigned i = 0; i < sizeof(from); i += 97)
			from[i] = (uint8_t)(n + i);
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(left) : : "memory");
		if (left || memcmp(to + (n * 7) % 61, from + off, len) != 0)
			wrong("rep movsb");
		d = to;
		left = len;
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(left) : "a"((int)(n & 0xff)) : "memory");
		if (to[0] != (uint8_t)n || to[len - 1] != (uint8_t)n || d != to + len)
			wrong("rep stosb");
	}
	return arg;
}

static void *registers(void *arg)
{
	for (;;) {
		double sse = 1;
		long double x87 = 1;
		uint64_t whole = 1;

		for (unsigned i = 0; i < 3000; i++) {
			sse = sse * 3 + 1;
			x87 = x87 * 3 + 1;
			whole = whole * 3 + 1;
			if (whole > 1ull << 48) {
				if (sse != (double)whole || x87 != (long double)whole)
					wrong("registers");
				sse = 1;
				x87 = 1;
				whole = 1;
			}
		}
	}
	return arg;
}

static void on_tick(int sig)
{
	atomic_fetch_add(&ticks, 1);
}

static void *clocks(void *arg)
{
	struct timespec was = { 0 }, is;
	unsigned long seen = 0;

	for (unsigned n = 0;; n++) {
		clock_gettime(CLOCK_MONOTONIC, &is);
		if (is.tv_sec < was.tv_sec || (is.tv_sec == was.tv_sec && is.tv_nsec < was.tv_nsec))
			wrong("time goes back");
		/* Not even a host that stops for a while makes it that much. */
		if (is.tv_sec > was.tv_sec + 1000 && n)
			wrong("time jumps");
		if (atomic_load(&ticks) < seen)
			wrong("ticks");
		seen = atomic_load(&ticks);
		was = is;
		usleep(500);
	}
	return arg;
}

static void make(uint64_t *r, unsigned long n)
{
	for (unsigned i = 0; i < RECORD / 8; i++)
		r[i] = (n * 0x9e3779b97f4a7c15ull) ^ i;
}

static void disk(int fd)
{
	uint64_t *r = aligned_alloc(4096, RECORD), *s = aligned_alloc(4096, RECORD);

	for (unsigned long n = 1;; n++) {
		make(r, n);
		if (pwrite(fd, r, RECORD, (off_t)(n % RECORDS * RECORD)) != RECORD)
			wrong("the disk cannot be written");
		if (n % 8 == 0 && fsync(fd))
			wrong("the disk cannot be flushed");
		if (n < RECORDS)
			continue;
		/* The one that is the longest ago. */
		make(r, n - RECORDS + 1);
		if (pread(fd, s, RECORD, (off_t)((n + 1) % RECORDS * RECORD)) != RECORD || memcmp(r, s, RECORD) != 0)
			wrong("the disk has something else");
		if (n % RECORDS == 0) {
			printf("round %lu\n", n / RECORDS);
			fflush(stdout);
		}
	}
}

int main(int argc, char **argv)
{
	const struct itimerval each = { { 0, 1000 }, { 0, 1000 } };
	int fd = open(argv[1], O_RDWR | O_DIRECT);
	pthread_t t;

	if (fd < 0)
		wrong("no disk");
	signal(SIGALRM, on_tick);
	pthread_create(&t, NULL, copies, NULL);
	pthread_create(&t, NULL, registers, NULL);
	pthread_create(&t, NULL, clocks, NULL);
	setitimer(ITIMER_REAL, &each, NULL);
	disk(fd);
	return 0;
}
