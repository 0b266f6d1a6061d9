/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much work the derivation of a key is to cost, by measuring a little of it.
 *
 * PBKDF2 is run with more and more rounds until that takes long enough to count.
 * Argon2's time grows with memory times passes: one pass over a small memory is
 * measured, then as much memory is taken as the limit and at least four passes
 * allow, and what time is left becomes passes.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/loop.h"
#include "block/luks/internal.h"
#include "block/secret.h"

#define MEASURE_NS 60000000
#define MIN_ROUNDS 1000u
#define MAX_ROUNDS (1u << 26)
#define MIN_PASSES 4u
#define MAX_PASSES 64u
#define MIN_KIB 1024u
#define SAMPLE_KIB 32768u

static int timed(const struct luks_kdf *k, size_t key_len, int64_t *ns)
{
	uint8_t out[LUKS_MAX_KEY];
	int64_t start = loop_now_ns();
	int ret = luks_derive(k, (const uint8_t *)"benchmark", 9, out, key_len);

	*ns = MAX(loop_now_ns() - start, 1);
	return ret;
}

static int bench_pbkdf2(struct luks_kdf *k, unsigned ms, size_t key_len)
{
	int64_t ns = 0;
	double rounds;
	int ret = 0;

	for (k->iterations = MIN_ROUNDS; !ret && k->iterations < MAX_ROUNDS; k->iterations *= 2) {
		ret = timed(k, key_len, &ns);
		if (ns > MEASURE_NS)
			break;
	}
	rounds = (double)k->iterations / (double)MAX(ns, 1) * 1e6 * ms;
	k->iterations = rounds < MIN_ROUNDS ? MIN_ROUNDS : rounds > MAX_ROUNDS ? MAX_ROUNDS : (uint32_t)rounds;
	return ret;
}

static int bench_argon2(struct luks_kdf *k, unsigned ms, size_t key_len)
{
	uint32_t most = k->memory;
	int64_t ns, again;
	double work;
	int ret;

	k->memory = MIN(most, SAMPLE_KIB);
	k->iterations = 1;
	ret = timed(k, key_len, &ns);
	/* The first touches memory that is new to the process, as will the one that counts; the faster is the safer guess. */
	ret = ret ? ret : timed(k, key_len, &again);
	if (ret)
		return ret;
	work = (double)k->memory / (double)MIN(ns, again) * 1e6 * ms;
	k->memory = work / MIN_PASSES > most ? most : MAX((uint32_t)(work / MIN_PASSES), MIN(MIN_KIB, most));
	k->iterations = work / k->memory > MAX_PASSES ? MAX_PASSES : MAX((uint32_t)(work / k->memory), MIN_PASSES);
	return 0;
}

int luks_bench(struct luks_kdf *k, unsigned ms, size_t key_len)
{
	return k->kind == LUKS_PBKDF2 ? bench_pbkdf2(k, ms, key_len) : bench_argon2(k, ms, key_len);
}
