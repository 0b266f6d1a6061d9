/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making, opening and using a LUKS volume, again and again, with the N-th
 * allocation of memory or the N-th request of its file failing (with EIO once, or
 * with ENOSPC from then on), for every N until nothing fails any more.
 *
 *   luks_every [--verbose]
 *
 * A failure must have the right error and a message, nothing may stay behind
 * (run it under ASan), and what was written must be there afterwards.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/luks/luks.h"
#include "block/secret.h"
#include "hunger_nth.h"

#define DISK (1u << 20)
#define MAX_FILE (20u << 20)
#define MAX_NTH 2000u

/* ---- one trial ---- */

static const struct luks_create_opts shapes[] = {
	{ .size = DISK, .version = 1, .force_iterations = 2, .cipher = "aes-cbc-essiv:sha256" },
	{ .size = DISK, .version = 2, .force_iterations = 1, .memory = 64, .lanes = 1, .sector_size = 4096 },
};
static const char *const luks_keys[] = { "key" };
static uint8_t plain[DISK / 2], got[DISK / 2];
static struct loop *loop;
static bool verbose;

struct trial {
	bool memory, on, hit;		/* memory: else requests; on: and all after it */
	unsigned nth;
	struct blk_node *file, *n;
	struct blk_secrets *secrets;
	struct err e;
};

static void arm(struct trial *t)
{
	t->e.msg[0] = '\0';
	if (t->memory) {
		hunger.nth = t->nth;
		hunger.on = t->on;
		hunger.seen = 0;
		hunger.armed = true;
	} else {
		blk_mem_fail_with(t->file, t->nth, t->on ? -ENOSPC : -EIO, t->on);
	}
}

/* What went wrong, if anything did. */
static const char *disarm(struct trial *t, const char *what, int ret, bool message)
{
	hunger.armed = false;
	blk_mem_fail_after(t->file, 0);
	t->hit |= ret != 0;
	if (ret && verbose)
		fprintf(stderr, "# %s, %s %u: %s %s\n", what, t->memory ? "allocation" : "request", t->nth, strerror(-ret), t->e.msg);
	if (ret && ret != (t->memory ? -ENOMEM : t->on ? -ENOSPC : -EIO))
		return "a call failed with another error";
	return ret && message && !t->e.msg[0] ? "a call failed without a word" : NULL;
}

static int make_secrets(struct trial *t)
{
	int fd[2], ret = blk_secrets_new(&t->secrets);

	if (ret || pipe(fd))
		return ret ? ret : -EMFILE;
	if (write(fd[1], "secret", 6) != 6)
		abort();
	close(fd[1]);
	ret = blk_secrets_add(t->secrets, luks_keys[0], &(struct blk_secret_source){ .fd = fd[0] }, &t->e);
	if (ret)
		close(fd[0]);
	return ret;
}

static const char *do_create(struct trial *t, const struct luks_create_opts *o)
{
	const char *bad;
	int ret;

	arm(t);
	ret = luks_create(t->file, o, (const uint8_t *)"secret", 6, &t->e);
	bad = disarm(t, "create", ret, true);
	if (!bad && ret && luks_create(t->file, o, (const uint8_t *)"secret", 6, &t->e))
		bad = "a second attempt failed";
	return bad;
}

static const char *do_open(struct trial *t)
{
	struct blk_image_opts io = { .keys = luks_keys, .n_keys = 1 };
	const char *bad;
	int ret;

	arm(t);
	ret = t->memory ? make_secrets(t) : 0;
	io.secrets = t->secrets;
	ret = ret ? ret : luks_open(t->file, &io, 0, &t->n, &t->e);
	bad = disarm(t, "open", ret, t->secrets != NULL);
	if (bad || !ret)
		return bad;
	if (t->memory) {
		blk_secrets_free(t->secrets);
		t->secrets = NULL;
		if (make_secrets(t))
			return "no secrets";
	}
	io.secrets = t->secrets;
	return luks_open(t->file, &io, 0, &t->n, &t->e) ? "a second attempt failed" : NULL;
}

static const char *do_use(struct trial *t)
{
	const char *bad = NULL;
	int ret;

	for (unsigned i = 0; i < 4 && !bad; i++) {
		arm(t);
		/* With sectors of 4096 the first is changed in part. */
		ret = i == 0   ? blk_pwrite(t->n, 512, plain + 512, sizeof(plain) - 512)
		      : i == 1 ? blk_pread(t->n, 0, got, sizeof(got))
		      : i == 2 ? blk_pwrite_zeroes(t->n, DISK / 2 + 512, DISK / 4, true)
			       : blk_flush(t->n);
		bad = disarm(t, "use", ret, false);
		if (!bad && ret && i == 0 && blk_pwrite(t->n, 512, plain + 512, sizeof(plain) - 512))
			bad = "a second attempt failed";
	}
	if (!bad && (blk_pread(t->n, 0, got, sizeof(got)) || memcmp(got + 512, plain + 512, sizeof(plain) - 512) != 0))
		bad = "what was written is not there";
	return bad;
}

/* True: something was hit. */
static bool one(bool memory, bool on, unsigned nth, unsigned shape, const char **bad)
{
	struct trial t = { .memory = memory, .on = on, .nth = nth };

	*bad = NULL;
	if (blk_open_mem_file(loop, MAX_FILE, &t.file) || (!memory && make_secrets(&t))) {
		*bad = "no memory";
		return false;
	}
	*bad = do_create(&t, &shapes[shape]);
	*bad = *bad ? *bad : do_open(&t);
	*bad = *bad ? *bad : do_use(&t);
	blk_close(t.n ? t.n : t.file);
	blk_secrets_free(t.secrets);
	return t.hit;
}

int main(int argc, char **argv)
{
	unsigned failed = 0, trials = 0;

	verbose = argc > 1 && !strcmp(argv[1], "--verbose");
	if (loop_new(&loop))
		return 2;
	for (unsigned i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 7 + (i >> 9));
	for (unsigned k = 0; k < 4 * ARRAY_LEN(shapes); k++) {
		const char *bad = NULL;
		unsigned nth = 1;

		for (; nth < MAX_NTH && one(k & 1, k & 2, nth, k / 4, &bad) && !bad; nth++)
			trials++;
		if (bad)
			printf("# shape %u, %s %u%s: %s\n", k / 4, k & 1 ? "allocation" : "request", nth, k & 2 ? " and all after it" : "", bad);
		failed += bad != NULL || nth == MAX_NTH;
	}
	loop_free(loop);
	printf("1..1\n%sok 1 - LUKS volumes, %u faults\n", failed ? "not " : "", trials);
	return failed != 0;
}
