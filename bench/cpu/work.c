/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Works for a CPU, one per name, each timed by itself: prints "begin NAME" and
 * "NAME SECONDS CHECKSUM CPU-SECONDS".  Runs on the host and, statically linked, as a guest's
 * program; the same checksum is the proof that both did the same.
 *
 * Some works are functions here, others are programs of the root file system they
 * run in (gzip, Python ...), with input made here from a fixed seed; they leave
 * their files in the working directory.
 *
 * usage: work [NAME...]    all of them without a name
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

/* What this process and those it waited for have used. */
static double used(void)
{
	double s = 0;

	for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
		struct rusage r;

		getrusage(who, &r);
		s += (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
	}
	return s;
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
	uint32_t *v = malloc(4 << 20);
	uint64_t s;

	for (unsigned n = 0; n < 1 << 20; n++)
		v[n] = (uint32_t)rnd();
	qsort(v, 1 << 20, 4, cmp_u32);
	s = v[777];
	free(v);
	return s;
}

static uint64_t sieve(void)
{
	uint8_t *p = malloc(8000000);
	uint64_t n = 0;

	for (unsigned k = 0; k < 10; k++) {
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
	for (int n = 0; n < 3000000; n++) {
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
	for (int r = 0; r < 40; r++)
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
	for (unsigned r = 0; r < 16; r++)
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
	for (int n = 0; n < 16; n++) {
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

	for (int n = 1; n < 30000000; n++) {
		a = a * 1.0000001L + 1.0L / n;
		b += a;
	}
	return (uint64_t)b;
}

static uint64_t getppids(void)
{
	uint64_t s = 0;

	for (int n = 0; n < 1000000; n++)
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

/* A process with much memory in small pages: its page tables are what fork copies. */
#define BIG (256 << 20)
static char *big;
static void big_process(void)
{
	big = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (big == MAP_FAILED)
		exit(2);
	madvise(big, BIG, MADV_NOHUGEPAGE);
	for (size_t n = 0; n < BIG; n += 4096)
		big[n] = 1;
}

static uint64_t forks(void)
{
	uint64_t s = 0;
	int st;

	for (int n = 0; n < 20; n++) {
		if (!fork())
			_exit(n & 63);
		wait(&st);
		s += (uint64_t)WEXITSTATUS(st);
	}
	munmap(big, BIG);
	return s;
}

static uint64_t execs(void)
{
	bool there = access("/bin/true", X_OK) == 0;
	uint64_t s = 0;
	int st;

	for (int n = 0; n < 300; n++) {
		if (!fork()) {
			if (there)
				execl("/bin/true", "true", (char *)NULL);
			else
				execl("/proc/self/exe", "work", "true", (char *)NULL);
			_exit(99);
		}
		wait(&st);
		s += (uint64_t)WEXITSTATUS(st) + 1;
	}
	return s;
}

/* --- AES-128 by the CPU's instructions: CBC (one block after the other) and CTR (eight at once) --- */
#define AES_FN __attribute__((target("aes,sse4.1")))
static AES_FN __m128i aes_step(__m128i k, __m128i g)
{
	g = _mm_shuffle_epi32(g, 0xff);
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
	return _mm_xor_si128(k, g);
}

static AES_FN void aes_keys(__m128i k[11])
{
#define STEP(n, c) k[n] = aes_step(k[n - 1], _mm_aeskeygenassist_si128(k[n - 1], c))
	k[0] = _mm_set_epi64x((long long)rnd(), (long long)rnd());
	STEP(1, 1); STEP(2, 2); STEP(3, 4); STEP(4, 8); STEP(5, 16);
	STEP(6, 32); STEP(7, 64); STEP(8, 128); STEP(9, 27); STEP(10, 54);
#undef STEP
}

static AES_FN __m128i aes_cbc(const __m128i *k, __m128i *buf, unsigned blocks, __m128i iv)
{
	for (unsigned n = 0; n < blocks; n++) {
		iv = _mm_xor_si128(_mm_xor_si128(iv, buf[n]), k[0]);
		for (int r = 1; r < 10; r++)
			iv = _mm_aesenc_si128(iv, k[r]);
		buf[n] = iv = _mm_aesenclast_si128(iv, k[10]);
	}
	return iv;
}

static AES_FN void aes_ctr(const __m128i *k, __m128i *buf, unsigned blocks, uint64_t ctr)
{
	for (unsigned n = 0; n < blocks; n += 8) {
		__m128i x[8];

		for (int i = 0; i < 8; i++)
			x[i] = _mm_xor_si128(_mm_set_epi64x((long long)ctr++, 7), k[0]);
		for (int r = 1; r < 10; r++)
			for (int i = 0; i < 8; i++)
				x[i] = _mm_aesenc_si128(x[i], k[r]);
		for (int i = 0; i < 8; i++)
			buf[n + i] = _mm_xor_si128(buf[n + i], _mm_aesenclast_si128(x[i], k[10]));
	}
}

static AES_FN uint64_t aes(void)
{
	static __m128i buf[1024];
	uint64_t first[2], second[2];
	__m128i k[11], iv;

	aes_keys(k);
	iv = k[3];
	for (unsigned n = 0; n < 3000; n++)
		iv = aes_cbc(k, buf, 1024, iv);
	for (unsigned n = 0; n < 20000; n++)
		aes_ctr(k, buf, 1024, n * 1024);
	memcpy(first, &iv, sizeof(first));	/* there is no _mm_extract_epi64 in 32-bit code */
	memcpy(second, &buf[77], sizeof(second));
	return first[0] ^ second[1];
}

/* --- input of the programs --- */
static FILE *create(const char *name)
{
	FILE *f = fopen(name, "w");

	if (!f) {
		perror(name);
		exit(2);
	}
	return f;
}

static bool have(const char *name) { return access(name, R_OK) == 0; }

/* Words of a vocabulary, some much more often than others, with figures between them. */
static void make_text(const char *name, long size)
{
	static char words[4096][12];
	FILE *f;

	if (have(name))
		return;
	for (unsigned n = 0; n < 4096; n++)
		for (unsigned k = 0, len = 2 + rnd() % 9; k < len; k++)
			words[n][k] = (char)('a' + rnd() % 26 * (rnd() % 26) / 25);
	f = create(name);
	while (ftell(f) < size) {
		uint64_t r = rnd(), i = (r & 4095) * (r >> 12 & 4095) >> 12;

		if (r >> 24 & 31)
			fprintf(f, "%s%c", words[i * (r >> 29 & 4095) >> 12], r >> 41 & 15 ? ' ' : '\n');
		else
			fprintf(f, "%u, ", (unsigned)(r >> 40));
	}
	fclose(f);
}

static void text_8m(void) { make_text("text8", 8 << 20); }
static void text_1m(void) { make_text("text1", 1 << 20); }

static void zeros(void)
{
	int fd = open("data64", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || ftruncate(fd, 64 << 20) < 0)
		exit(2);
	close(fd);
}

/* C that a compiler has something to do with: structures, loops, switches, calls. */
static void source(void)
{
	FILE *f = create("gen.c");

	fprintf(f, "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n"
		   "struct item { struct item *next; uint32_t key, n; double w; char name[16]; };\n");
	for (unsigned n = 0; n < 24; n++) {
		unsigned r = (unsigned)rnd();

		fprintf(f, "static uint32_t mix%u(uint32_t a, const uint8_t *p, size_t len)\n{\n\tfor (size_t i = 0; i < len; i++) {\n"
			   "\t\ta = (a << %u | a >> %u) ^ p[i] * %uu;\n\t\tif (a %% %u == 3)\n\t\t\ta += p[len - 1 - i];\n\t}\n\treturn a;\n}\n",
			n, 1 + r % 15, 31 - r % 15, r | 1, 5 + r % 90);
		fprintf(f, "struct item *find%u(struct item *l, uint32_t key, double lim)\n{\n\tstruct item *best = NULL;\n"
			   "\tfor (; l; l = l->next) {\n\t\tswitch (l->key %% 7) {\n", n);
		for (unsigned k = 0; k < 7; k++)
			fprintf(f, "\t\tcase %u: l->n += mix%u(key + %u, (uint8_t *)l->name, sizeof(l->name)); l->w *= 1.0 + %u / lim; break;\n",
				k, n, k, (unsigned)(rnd() % 1000));
		fprintf(f, "\t\t}\n\t\tif (l->key == key || (best && l->w > best->w))\n\t\t\tbest = l;\n"
			   "\t\telse if (l->w < -lim && l->n < %uu)\n\t\t\tmemcpy(l->name, \"%08x\", 9);\n\t}\n\treturn best;\n}\n",
			r, r);
	}
	fclose(f);
}

#define KEY "-K 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f -iv 0f0e0d0c0b0a09080706050403020100"

#define CMS_KEY "-secretkeyid 01 -secretkey 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* A work is a function, or a command with the file whose contents are its result. */
static const struct work {
	const char *name;
	uint64_t (*fn)(void);
	void (*prepare)(void);
	const char *command, *result;
} works[] = {
#define FN(n, f) { .name = n, .fn = f }
#define CMD(n, p, c) { .name = n, .prepare = p, .command = c, .result = "out" }
	FN("intloop", intloop), FN("quicksort", quicksort), FN("sieve", sieve), FN("tree", tree),
	CMD("gzip", text_8m, "gzip -6n <text8 >out"),
	CMD("xz", text_1m, "xz -T1 -c text1 >out"),
	CMD("zstd", text_8m, "zstd -q -8 -T1 -c text8 >out"),
	CMD("python", NULL, "python3 -I -S -B work.py >out"),
	CMD("sqlite", NULL, "sqlite3 -batch :memory: <work.sql >out"),
	CMD("gcc", source, "gcc-12 -O2 -w -c -o out gen.c"),
	FN("nbody", nbody), FN("matrix", matrix), FN("sha256", sha256), FN("aes", aes), FN("memcpy", copy),
	FN("getppid", getppids), FN("pipe", pipes), FN("touch", touch),
	{ .name = "fork", .fn = forks, .prepare = big_process }, FN("exec", execs),
	FN("qsort", libc_qsort), FN("histogram", histogram), FN("x87", x87),
	CMD("gunzip", text_8m, "gzip -1nc text8 | gzip -dc >out"),
	CMD("sort", text_8m, "tr ' ' '\\n' <text8 | LC_ALL=C sort -S 64M | uniq -c | LC_ALL=C sort -rn >out"),
	CMD("shell", NULL, "n=0; s=7; while [ $n -lt 200000 ]; do s=$(((s * 31 + n) % 65537)); n=$((n + 1)); done; echo $s >out"),
	CMD("openssl-cbc", zeros, "for n in 1 2; do openssl enc -aes-256-cbc " KEY " -in data64 -out out; done"),
	CMD("openssl-ctr", zeros, "for n in 1 2; do openssl enc -aes-256-ctr " KEY " -in data64 -out out; done"),
	CMD("openssl-gcm", zeros, "openssl cms -encrypt -binary -outform DER -aes-256-gcm -in data64 " CMS_KEY " -out cms && "
				  "openssl cms -decrypt -binary -inform DER -in cms " CMS_KEY " -out out; rm cms"),
	CMD("openssl-sha", zeros, "for n in 1 2 3; do openssl dgst -sha256 data64; done >out"),
};

static uint64_t contents(const char *name)
{
	uint64_t h = 14695981039346656037ull;
	struct stat st;
	const uint8_t *p;
	int fd = open(name, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0 || !st.st_size)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return 0;
	for (long n = 0; n < st.st_size; n++)
		h = (h ^ p[n]) * 1099511628211ull;
	munmap((void *)p, (size_t)st.st_size);
	return h;
}

static void run(const struct work *w)
{
	double t, cpu;
	uint64_t s = 0;

	if (w->fn == aes && !__builtin_cpu_supports("aes"))
		return;
	rnd_state = 88172645463325252ull;
	if (w->prepare)
		w->prepare();
	rnd_state = 88172645463325252ull;
	printf("begin %s\n", w->name);
	fflush(stdout);
	cpu = used();
	t = now();
	if (w->fn)
		s = w->fn();
	else if (system(w->command) != 0)
		return;
	t = now() - t;
	cpu = used() - cpu;
	if (w->result)
		s = contents(w->result);
	printf("%s %.4f %016llx %.4f\n", w->name, t, (unsigned long long)s, cpu);
	fflush(stdout);
	if (w->result)
		unlink(w->result);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "true"))
		return 0;
	for (unsigned k = 0; k < sizeof(works) / sizeof(works[0]); k++) {
		bool wanted = argc == 1;

		for (int n = 1; n < argc; n++)
			wanted |= !strcmp(argv[n], works[k].name);
		if (wanted)
			run(&works[k]);
	}
	return 0;
}
