/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encrypted qcow2 images made by random scripts: against a flat model, against the
 * image's own check, and against QEMU's programs where they are installed.
 *
 *   crypt [--seed S] [--count N] [--steps N] [--peer] [--verbose]
 *
 * Whatever the script writes must be what is read, before and after opening the
 * image again, and must not be found in the file.  With --peer qemu-img checks and
 * compares, qemu-io writes, and one image in sixteen is qemu-img's (it measures for
 * seconds how long a key takes).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/luks/luks.h"
#include "block/secret.h"
#include "patient.h"
#include "record.h"
#include "script.h"

#define MAX_FILE (64u << 20)
#define OBJECT "--object secret,id=s,file=key"
#define IMAGE "driver=qcow2,encrypt.key-secret=s,file.filename=image"

static struct loop *loop;
static struct blk_secrets *secrets;
static const char *const keys[] = { "key" };
static char dir[] = "/tmp/lodge-crypt-XXXXXX";
static bool verbose;

static const char *crypt_file(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static bool peer(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool peer(const char *fmt, ...)
{
	char cmd[3000], all[3200];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	snprintf(all, sizeof(all), "cd %s && { %s; } >out 2>&1 || { %s; false; }", dir, cmd, verbose ? "head -5 out >&2" : "true");
	ret = system(all);
	if (ret && verbose)
		fprintf(stderr, "%s: status %d\n", cmd, ret);
	return !ret;
}

static void save(const char *path, const uint8_t *data, uint64_t len)
{
	FILE *f = fopen(path, "w");

	if (!f || fwrite(data, 1, len, f) != len || fclose(f)) {
		perror(path);
		exit(2);
	}
}

static void crypt_options(struct rng *r, struct qcow2_create_opts *o, struct luks_create_opts *l, char *text, size_t room)
{
	static const char *const ciphers[] = { "aes-xts-plain64", "aes-xts-plain64", "aes-cbc-essiv:sha256", "aes-cbc-plain64" };

	script_options(r, o, 2u << 20, text, room);
	*l = (struct luks_create_opts){ .force_iterations = 1000, .cipher = ciphers[rng_below(r, ARRAY_LEN(ciphers))],
					.hash = rng_one_in(r, 2) ? "sha1" : "sha256", .key_bits = rng_one_in(r, 2) ? 256 : 0 };
	o->luks = l;
	o->secrets = secrets;
	o->key = keys[0];
	if (o->version == 3 && rng_one_in(r, 4))
		o->prealloc = (enum qcow2_prealloc)rng_below(r, 2) * 3;
	snprintf(text + strlen(text), room - strlen(text), ", %s, prealloc %d", l->cipher, o->prealloc);
}

static const char *run_script(struct rng *r, struct blk_node *n, struct model *m, unsigned count, bool snaps)
{
	const char *bad = NULL;

	for (unsigned i = 0; i < count && !bad; i++)
		bad = script_step(r, n, m, SCRIPT_RESIZE | (snaps ? SCRIPT_SNAPS : 0));
	bad = bad ? bad : script_compare(n, m);
	return bad ? bad : script_check(n);
}

/* Something that is written must not be found in the file. */
static const char *hidden(struct blk_node *n, struct model *m, struct blk_node *file)
{
	static const char plain[] = "this must not be found in the file: it is what the image was encrypted for";

	memcpy(m->data, plain, sizeof(plain));
	if (blk_pwrite(n, 0, m->data, 512) || blk_flush(n))
		return "a write failed";
	if (memmem(record_data(file), file->i.size, plain, 32))
		return "the file holds what was written in clear";
	/* Completes what the flush left to be given back. */
	return script_check(n);
}

static const char *reopen(struct blk_node *file, const struct blk_image_opts *io, const struct model *m)
{
	struct blk_node *copy, *n;
	const char *bad;
	struct err e;

	if (record_open(loop, MAX_FILE, &copy))
		return "no memory";
	record_load(copy, record_data(file), file->i.size);
	if (qcow2_open(copy, io, 0, &n, &e)) {
		blk_close(copy);
		return "the image cannot be opened again";
	}
	bad = script_compare(n, m);
	bad = bad ? bad : script_check(n);
	blk_close(n);
	return bad;
}

static const char *in_memory(struct rng *r, unsigned count, char *text, size_t room)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .cache_bytes = rng_one_in(r, 2) ? 1 : 0, .secrets = secrets,
					   .keys = keys, .n_keys = 1 };
	struct luks_create_opts l;
	struct qcow2_create_opts o;
	struct blk_node *file, *n;
	struct model m;
	const char *bad;
	struct err e;

	crypt_options(r, &o, &l, text, room);
	if (record_open(loop, MAX_FILE, &file))
		return "no memory";
	if (qcow2_create(file, &o, &e) || qcow2_open(file, &io, 0, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		blk_close(file);
		return "the image cannot be made";
	}
	record_shuffle(file, rng_one_in(r, 2) ? rng_next(r) : 0);
	model_init(&m, n->i.size);
	bad = script_compare(n, &m);
	bad = bad ? bad : run_script(r, n, &m, count, true);
	bad = bad ? bad : hidden(n, &m, file);
	bad = bad ? bad : reopen(file, &io, &m);
	blk_close(n);
	model_fini(&m);
	return bad;
}

/* ---- with the peer ---- */

static bool peer_writes(struct rng *r, struct model *m)
{
	char cmd[2500];
	size_t at = (size_t)snprintf(cmd, sizeof(cmd), "qemu-io %s --image-opts " IMAGE, OBJECT);

	for (unsigned i = 0; i < 12; i++) {
		uint64_t off = rng_below(r, m->size / 512) * 512, len = least(m->size - off, (1 + rng_below(r, 128)) * 512);
		unsigned pattern = rng_one_in(r, 4) ? 0 : 1 + (unsigned)rng_below(r, 255);

		if (pattern)
			at += (size_t)snprintf(cmd + at, sizeof(cmd) - at, " -c 'write -P %u %llu %llu'", pattern,
					       (unsigned long long)off, (unsigned long long)len);
		else
			at += (size_t)snprintf(cmd + at, sizeof(cmd) - at, " -c 'write -z%s %llu %llu'", rng_one_in(r, 2) ? "u" : "",
					       (unsigned long long)off, (unsigned long long)len);
		memset(m->data + off, (int)pattern, len);
	}
	return peer("%s && ! grep -q 'failed\\|error' out", cmd);
}

static bool make_peers(const struct qcow2_create_opts *o)
{
	return peer(PATIENTLY("qemu-img create %s -f qcow2 -o compat=%s,cluster_size=%u,refcount_bits=%u,extended_l2=%s,"
			      "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 image %llu"), OBJECT,
		    o->version == 2 ? "0.10" : "1.1", o->cluster_size, o->refcount_bits ? o->refcount_bits : 16,
		    o->extended_l2 ? "on" : "off", (unsigned long long)o->size);
}

static bool make_ours(const struct qcow2_create_opts *o)
{
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e;
	int ret;

	if (blk_create_file(crypt_file("image"), true, &e) || blk_open_file(loop, crypt_file("image"), &fo, &file, &e))
		return false;
	ret = qcow2_create(file, o, &e);
	if (ret)
		fprintf(stderr, "%s\n", e.msg);
	blk_close(file);
	return !ret;
}

static const char *session(struct rng *r, struct model *m, unsigned count, bool snaps)
{
	const struct blk_image_opts io = { .secrets = secrets, .keys = keys, .n_keys = 1, .cache_bytes = rng_one_in(r, 2) ? 1 : 0,
					   .file.aio = rng_one_in(r, 2) ? BLK_AIO_THREADS : BLK_AIO_AUTO };
	struct blk_node *n;
	const char *bad;
	struct err e;

	if (blk_open_image(loop, crypt_file("image"), &io, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return "the image cannot be opened";
	}
	bad = script_compare(n, m);
	bad = bad ? bad : run_script(r, n, m, count, snaps);
	blk_close(n);
	return bad;
}

static const char *verdict(const struct model *m)
{
	save(crypt_file("model"), m->data, m->size);
	if (!peer("qemu-img check %s --image-opts " IMAGE, OBJECT))
		return "qemu-img check is not content";
	if (!peer("qemu-img compare %s --image-opts driver=raw,file.filename=model " IMAGE, OBJECT))
		return "qemu-img compare finds a difference";
	return NULL;
}

static const char *with_peer(struct rng *r, unsigned count, char *text, size_t room)
{
	bool ours = !rng_one_in(r, 16);
	struct luks_create_opts l;
	struct qcow2_create_opts o;
	struct model m;
	const char *bad = NULL;

	crypt_options(r, &o, &l, text, room);
	snprintf(text + strlen(text), room - strlen(text), ", %s", ours ? "ours" : "the peer's");
	if (!(ours ? make_ours(&o) : make_peers(&o)))
		return "the image cannot be made";
	model_init(&m, align_up(o.size, 512));
	if (rng_one_in(r, 2) && !peer_writes(r, &m))
		bad = "qemu-io failed";
	bad = bad ? bad : session(r, &m, count, true);
	bad = bad ? bad : verdict(&m);
	if (!bad && !peer_writes(r, &m))
		bad = "qemu-io failed";
	bad = bad ? bad : session(r, &m, 0, false);
	model_fini(&m);
	return bad;
}

static int setup(void)
{
	struct err e;

	if (!mkdtemp(dir) || loop_new(&loop) || blk_secrets_new(&secrets))
		return -1;
	save(crypt_file("key"), (const uint8_t *)"secret", 6);
	return blk_secrets_add(secrets, keys[0], &(struct blk_secret_source){ .file = crypt_file("key"), .fd = -1 }, &e);
}

static void clean_up(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		perror(dir);
	blk_secrets_free(secrets);
	loop_free(loop);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 100, n_steps = 60, failed = 0;
	bool with = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--peer"))
			with = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
			n_steps = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: crypt [--seed S] [--count N] [--steps N] [--peer] [--verbose]\n"), 2;
	}
	if (with && system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1"))
		return printf("1..0 # SKIP qemu-img and qemu-io are not here\n"), 0;
	if (setup())
		return perror(dir), 2;
	for (uint64_t s = seed; s < seed + count; s++) {
		struct rng r = { s };
		char text[512];
		const char *bad = with ? with_peer(&r, (unsigned)n_steps, text, sizeof(text))
				       : in_memory(&r, (unsigned)n_steps, text, sizeof(text));

		if (bad)
			fprintf(stderr, "seed %llu: %s (%s)\n", (unsigned long long)s, bad, text);
		failed += bad != NULL;
	}
	clean_up();
	printf("1..1\n%sok 1 - %llu encrypted images, seeds from %llu\n", failed ? "not " : "", (unsigned long long)count,
	       (unsigned long long)seed);
	return failed != 0;
}
