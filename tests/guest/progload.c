/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A load of writes that can be verified after a sudden death: progload DEVICE RUN.
 *
 * Each thread has a part of the disk of its own.  It writes and zeroes ranges
 * chosen by a generator that tests/guest/kill.py has as well, flushes after every
 * eight, and then says so.  A block of 4 KiB holds who wrote it, 256 times: the stamp
 * (run, thread, generation, operation) and its own number.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define THREADS 3
#define BLOCK 4096u
#define PART 4096u			/* blocks of a thread */
#define OPS 8
#define MAX_BLOCKS 16u

static int fd;
static uint64_t run;

static uint32_t next(uint64_t *s)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*s >> 33);
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void fill(uint64_t *p, uint64_t stamp, uint64_t block)
{
	for (unsigned i = 0; i < BLOCK / 16; i++) {
		p[2 * i] = stamp;
		p[2 * i + 1] = block;
	}
}

static void operation(uint64_t *rng, unsigned thread, uint64_t stamp, void *buf)
{
	uint64_t n = 1 + next(rng) % MAX_BLOCKS, first = next(rng) % (PART - n) + (uint64_t)thread * PART;
	uint64_t range[2] = { first * BLOCK, n * BLOCK };

	if (next(rng) % 8 == 0) {
		if (ioctl(fd, BLKZEROOUT, range))
			fail("zero");
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		fill((uint64_t *)buf + i * (BLOCK / 8), stamp, first + i);
	if (pwrite(fd, buf, n * BLOCK, (off_t)(first * BLOCK)) != (ssize_t)(n * BLOCK))
		fail("write");
}

static void *load(void *arg)
{
	unsigned thread = (unsigned)(uintptr_t)arg;
	uint64_t rng = run * 1000 + thread;
	void *buf = aligned_alloc(BLOCK, MAX_BLOCKS * BLOCK);
	char line[64];

	for (uint64_t gen = 1; buf; gen++) {
		for (uint64_t op = 0; op < OPS; op++)
			operation(&rng, thread, run << 48 | (uint64_t)thread << 40 | gen << 8 | op, buf);
		if (fsync(fd))
			fail("fsync");
		snprintf(line, sizeof(line), "flushed %u %llu.\n", thread, (unsigned long long)gen);
		if (write(1, line, strlen(line)) < 0)
			fail("console");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];

	if (argc != 3)
		return 2;
	run = strtoull(argv[2], NULL, 0);
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0)
		fail(argv[1]);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, load, (void *)(uintptr_t)i))
			fail("thread");
	pthread_join(t[0], NULL);
	return 0;
}
