/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small works for a CPU, one per name, each timed by itself: prints
 * "NAME SECONDS CHECKSUM".  Runs on the host and, statically linked, as a guest's
 * program; the same checksum is the proof that both did the same.
 *
 * usage: work [NAME...]    all of them without a name
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t rnd_state = 88172645463325252ull;
static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

static uint64_t intloop(void)
{
	uint64_t a = 1, b = 2;

	for (uint64_t n = 0; n < 300000000; n++) {
		a = a * 3 + b;
		b ^= a >> 7;
	}
	return a ^ b;
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void sort(uint32_t *v, long lo, long hi)
{
	while (lo < hi) {
		uint32_t p = v[(lo + hi) / 2];
		long i = lo, j = hi;

		while (i <= j) {
			while (v[i] < p)
				i++;
			while (v[j] > p)
				j--;
			if (i <= j) {
				uint32_t t = v[i];

				v[i++] = v[j];
				v[j--] = t;
			}
		}
		sort(v, lo, j);
		lo = i;
	}
}

static uint64_t quicksort(void)
{
	uint32_t *v = malloc(4 << 20);
	uint64_t s = 0;

	for (unsigned k = 0; k < 4; k++) {
		for (unsigned n = 0; n < 1 << 20; n++)
			v[n] = (uint32_t)rnd();
		sort(v, 0, (1 << 20) - 1);
		s += v[12345];
	}
	free(v);
	return s;
}

static uint64_t libc_qsort(void)
{
	uint32_t *v = malloc(4 << 18);
	uint64_t s;

	for (unsigned n = 0; n < 1 << 18; n++)
		v[n] = (uint32_t)rnd();
	qsort(v, 1 << 18, 4, cmp_u32);
	s = v[777];
	free(v);
	return s;
}

static uint64_t sieve(void)
{
	uint8_t *p = malloc(8000000);
	uint64_t n = 0;

	for (unsigned k = 0; k < 4; k++) {
		memset(p, 1, 8000000);
		for (unsigned i = 2; i * i < 8000000; i++)
			if (p[i])
				for (unsigned j = i * i; j < 8000000; j += i)
					p[j] = 0;
		for (unsigned i = 2; i < 8000000; i++)
			n += p[i];
	}
	free(p);
	return n;
}

struct node { struct node *l, *r; uint64_t key; };
static struct node *tree_add(struct node *t, uint64_t key, struct node **pool)
{
	if (!t) {
		t = (*pool)++;
		t->l = t->r = NULL;
		t->key = key;
	} else if (key < t->key) {
		t->l = tree_add(t->l, key, pool);
	} else {
		t->r = tree_add(t->r, key, pool);
	}
	return t;
}
static uint64_t tree_sum(const struct node *t) { return t ? t->key + tree_sum(t->l) * 3 + tree_sum(t->r) : 1; }
static uint64_t tree(void)
{
	struct node *pool = malloc(300000 * sizeof(*pool)), *next = pool, *t = NULL;
	uint64_t s = 0;

	for (unsigned n = 0; n < 300000; n++)
		t = tree_add(t, rnd(), &next);
	for (unsigned n = 0; n < 10; n++)
		s += tree_sum(t);
	free(pool);
	return s;
}

static uint64_t nbody(void)
{
	double x[5][3], v[5][3], m[5];
	double e = 0;
	uint64_t out;

	for (int i = 0; i < 5; i++) {
		m[i] = 1.0 + i * 0.1;
		for (int k = 0; k < 3; k++) {
			x[i][k] = (double)(rnd() % 1000) / 100.0;
			v[i][k] = (double)(rnd() % 1000) / 1000.0;
		}
	}
	for (int n = 0; n < 1000000; n++) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double dx = x[i][0] - x[j][0], dy = x[i][1] - x[j][1], dz = x[i][2] - x[j][2];
				double d2 = dx * dx + dy * dy + dz * dz + 0.01, mag = 0.0001 / (d2 * sqrt(d2));

				v[i][0] -= dx * m[j] * mag; v[i][1] -= dy * m[j] * mag; v[i][2] -= dz * m[j] * mag;
				v[j][0] += dx * m[i] * mag; v[j][1] += dy * m[i] * mag; v[j][2] += dz * m[i] * mag;
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++)
				x[i][k] += 0.0001 * v[i][k];
	}
	for (int i = 0; i < 5; i++)
		e += x[i][0] + v[i][1];
	memcpy(&out, &e, 8);
	return out;
}

#define MN 320
static uint64_t matrix(void)
{
	static float a[MN][MN], b[MN][MN], c[MN][MN];
	uint64_t s = 0;

	for (int i = 0; i < MN; i++)
		for (int j = 0; j < MN; j++) {
			a[i][j] = (float)(rnd() & 15);
			b[i][j] = (float)(rnd() & 15);
		}
	for (int r = 0; r < 8; r++)
		for (int i = 0; i < MN; i++)
			for (int k = 0; k < MN; k++)
				for (int j = 0; j < MN; j++)
					c[i][j] += a[i][k] * b[k][j];
	for (int i = 0; i < MN; i++)
		s += (uint64_t)c[i][i];
	return s;
}

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint64_t sha256(void)
{
	static const uint32_t k0[8] = { 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5 };
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }, w[64];

	for (unsigned blk = 0; blk < 300000; blk++) {
		uint32_t s[8];

		for (int i = 0; i < 16; i++)
			w[i] = blk * 2654435761u + (uint32_t)i;
		for (int i = 16; i < 64; i++)
			w[i] = w[i - 16] + w[i - 7] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
			       (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
		memcpy(s, h, sizeof(s));
		for (int i = 0; i < 64; i++) {
			uint32_t t1 = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
				      k0[i & 7] + w[i];
			uint32_t t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

			memmove(s + 1, s, 28);
			s[4] += t1;
			s[0] = t1 + t2;
		}
		for (int i = 0; i < 8; i++)
			h[i] += s[i];
	}
	return h[0] ^ (uint64_t)h[1] << 32;
}

static uint64_t histogram(void)
{
	static uint32_t h[65536];
	uint8_t *p = malloc(16 << 20);
	uint64_t s = 0;

	for (unsigned n = 0; n < 16 << 20; n += 8)
		*(uint64_t *)(p + n) = rnd();
	for (unsigned r = 0; r < 4; r++)
		for (unsigned n = 0; n + 1 < 16 << 20; n += 2)
			h[p[n] | p[n + 1] << 8]++;
	for (unsigned n = 0; n < 65536; n++)
		s = s * 31 + h[n];
	free(p);
	return s;
}

static uint64_t copy(void)
{
	char *a = malloc(64 << 20), *b = malloc(64 << 20);
	uint64_t s = 0;

	memset(a, 1, 64 << 20);
	for (int n = 0; n < 8; n++) {
		memcpy(b, a, 64 << 20);
		a[n * 4096]++;
		s += (uint64_t)b[n * 4096];
	}
	free(a);
	free(b);
	return s;
}

static uint64_t x87(void)
{
	long double a = 1.0L, b = 0.0L;

	for (int n = 1; n < 5000000; n++) {
		a = a * 1.0000001L + 1.0L / n;
		b += a;
	}
	return (uint64_t)b;
}

static uint64_t getppids(void)
{
	uint64_t s = 0;

	for (int n = 0; n < 300000; n++)
		s += syscall(SYS_getppid) >= 0;
	return s;
}

static uint64_t pipes(void)
{
	int a[2], b[2], st;
	char c = 0;

	if (pipe(a) < 0 || pipe(b) < 0)
		return 0;
	if (!fork()) {
		for (int n = 0; n < 20000; n++)
			if (read(a[0], &c, 1) != 1 || write(b[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int n = 0; n < 20000; n++)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			return 0;
	wait(&st);
	return (uint64_t)st + 1;
}

static uint64_t touch(void)
{
	uint64_t s = 0;

	for (int r = 0; r < 4; r++) {
		char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		madvise(p, 64 << 20, MADV_NOHUGEPAGE);
		for (unsigned n = 0; n < 64 << 20; n += 4096)
			p[n] = 1;
		s += (uint64_t)p[4096];
		munmap(p, 64 << 20);
	}
	return s;
}

static uint64_t forks(void)
{
	uint64_t s = 0;
	int st;

	for (int n = 0; n < 1000; n++) {
		if (!fork())
			_exit(n & 63);
		wait(&st);
		s += (uint64_t)WEXITSTATUS(st);
	}
	return s;
}

static const char *self;
static uint64_t execs(void)
{
	uint64_t s = 0;
	int st;

	for (int n = 0; n < 300; n++) {
		if (!fork()) {
			execl(self, "work", "true", (char *)NULL);
			_exit(99);
		}
		wait(&st);
		s += (uint64_t)WEXITSTATUS(st) + 1;
	}
	return s;
}

static const struct { const char *name; uint64_t (*fn)(void); } works[] = {
	{ "intloop", intloop }, { "quicksort", quicksort }, { "qsort", libc_qsort }, { "sieve", sieve }, { "tree", tree },
	{ "histogram", histogram }, { "nbody", nbody }, { "matrix", matrix }, { "sha256", sha256 }, { "x87", x87 },
	{ "memcpy", copy }, { "getppid", getppids }, { "pipe", pipes }, { "touch", touch }, { "fork", forks }, { "exec", execs },
};

int main(int argc, char **argv)
{
	self = "/proc/self/exe";
	if (argc == 2 && !strcmp(argv[1], "true"))
		return 0;
	for (unsigned k = 0; k < sizeof(works) / sizeof(works[0]); k++) {
		bool wanted = argc == 1;
		double t;
		uint64_t s;

		for (int n = 1; n < argc; n++)
			wanted |= !strcmp(argv[n], works[k].name);
		if (!wanted)
			continue;
		rnd_state = 88172645463325252ull;
		t = now();
		s = works[k].fn();
		t = now() - t;
		printf("%s %.3f %016llx\n", works[k].name, t, (unsigned long long)s);
		fflush(stdout);
	}
	return 0;
}
