/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images made by random scripts: against a flat model, against the image's own
 * check, and against QEMU's programs where they are installed, both ways.
 *
 *   generate [--seed S] [--count N] [--steps N] [--peer] [--verbose]
 *
 * Without --peer all is in memory.  With it every image is written to a file that
 * qemu-img must find clean and equal to the model, is then changed by qemu-io and
 * compared here; and images that qemu-img made go through the same script.  One
 * line a failure, with the seed that repeats it.  
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "record.h"
#include "script.h"

#define MAX_FILE (64u << 20)

static struct loop *loop;
static char dir[] = "/tmp/lodge-generate-XXXXXX";
static bool verbose;

static const char *file_name(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static bool run_command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool run_command(const char *fmt, ...)
{
	char cmd[4096];
	size_t len;
	va_list ap;
	int ret;

	cmd[0] = '(';
	va_start(ap, fmt);
	vsnprintf(cmd + 1, sizeof(cmd) - 1, fmt, ap);
	va_end(ap);
	len = strlen(cmd);
	snprintf(cmd + len, sizeof(cmd) - len, ") > %s 2>&1", file_name("out"));
	ret = system(cmd);
	if (verbose && ret) {
		fprintf(stderr, "%s: status %d\n", cmd, ret);
		snprintf(cmd, sizeof(cmd), "head -5 %s >&2", file_name("out"));
		if (system(cmd))
			fprintf(stderr, "no output\n");
	}
	return ret == 0;
}

static void save(const char *path, const uint8_t *data, uint64_t len)
{
	FILE *f = fopen(path, "w");

	if (!f || (len && fwrite(data, 1, len, f) != len) || fclose(f)) {
		perror(path);
		exit(2);
	}
}

static const char *steps(struct rng *r, struct blk_node *n, struct model *m, unsigned count, bool snaps)
{
	const char *bad = NULL;

	for (unsigned i = 0; i < count && !bad; i++)
		bad = script_step(r, n, m, SCRIPT_RESIZE | (snaps ? SCRIPT_SNAPS : 0));
	bad = bad ? bad : script_compare(n, m);
	return bad ? bad : script_check(n);
}

/* Opens what is in the record node `file` again, as after closing. */
static const char *again(struct blk_node *file, const struct model *m)
{
	struct blk_image_opts o = { .trust = BLK_TRUST_ALL };
	struct blk_node *copy, *n;
	const char *bad;
	struct err e;

	if (record_open(loop, MAX_FILE, &copy))
		return "no memory";
	record_load(copy, record_data(file), file->i.size);
	if (qcow2_open(copy, &o, 0, &n, &e)) {
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
	struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .cache_bytes = rng_one_in(r, 2) ? 1 : 0 };
	struct qcow2_create_opts o;
	struct blk_node *file, *n;
	struct model m;
	const char *bad;
	struct err e;

	script_options(r, &o, 2u << 20, text, room);
	if (record_open(loop, MAX_FILE, &file))
		return "no memory";
	if (qcow2_create(file, &o, &e) || qcow2_open(file, &io, 0, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		blk_close(file);
		return "the image cannot be made";
	}
	if (rng_one_in(r, 2))
		record_shuffle(file, rng_next(r) | 1);
	model_init(&m, n->i.size);
	bad = steps(r, n, &m, count, true);
	bad = bad || !blk_flush(n) ? bad : "the last flush failed";
	bad = bad ? bad : again(file, &m);
	blk_close(n);
	model_fini(&m);
	return bad;
}

/* ---- with the peer ---- */

static void peer_options(const struct qcow2_create_opts *o, char *text, size_t room)
{
	snprintf(text, room, "compat=%s,cluster_size=%u,refcount_bits=%u,lazy_refcounts=%s,extended_l2=%s%s%s%s%s",
		 o->version == 2 ? "0.10" : "1.1", o->cluster_size, o->refcount_bits ? o->refcount_bits : 16,
		 o->lazy_refcounts ? "on" : "off", o->extended_l2 ? "on" : "off",
		 o->version == 2 ? "" : o->compression ? ",compression_type=zstd" : ",compression_type=zlib",
		 o->data_file ? ",data_file=" : "", o->data_file ? o->data_file : "",
		 o->data_file_raw ? ",data_file_raw=on" : "");
}

/* A backing file with something in it, of another length than the image. */
static void make_base(struct rng *r, uint64_t size, struct model *base, char *format)
{
	model_init(base, most(align_down(size / 2 + rng_below(r, size), 512), 512u));
	for (unsigned i = 0; i < 8; i++) {
		uint64_t off = rng_below(r, base->size / 512) * 512;

		rng_fill(r, base->data + off, least(base->size - off, (1 + rng_below(r, 256)) * 512));
	}
	save(file_name("base.raw"), base->data, base->size);
	strcpy(format, rng_one_in(r, 2) ? "raw" : "qcow2");
	if (!strcmp(format, "qcow2"))
		run_command("qemu-img convert -f raw -O qcow2 %s %s", file_name("base.raw"), file_name("base"));
	else
		save(file_name("base"), base->data, base->size);
}

/* Changes the image with the peer's program, and the model alike. */
static bool peer_writes(struct rng *r, const struct qcow2_create_opts *o, struct model *m)
{
	char cmd[3500];
	size_t at = 0;

	at += (size_t)snprintf(cmd, sizeof(cmd), "qemu-io -f qcow2 %s", file_name("image"));
	for (unsigned i = 0; i < 12; i++) {
		uint64_t off = rng_below(r, m->size / 512) * 512;
		uint64_t len = least(m->size - off, (1 + rng_below(r, 128)) * 512);
		unsigned pattern = 1 + (unsigned)rng_below(r, 255);

		if (rng_one_in(r, 4)) {
			at += (size_t)snprintf(cmd + at, sizeof(cmd) - at, " -c 'write -z%s %llu %llu'",
					       rng_one_in(r, 2) ? "u" : "", (unsigned long long)off, (unsigned long long)len);
			pattern = 0;
		} else {
			at += (size_t)snprintf(cmd + at, sizeof(cmd) - at, " -c 'write -P %u %llu %llu'", pattern,
					       (unsigned long long)off, (unsigned long long)len);
		}
		memset(m->data + off, (int)pattern, len);
	}
	/* Dies and leaves the refcounts to whoever opens the image next. */
	if (o->lazy_refcounts && rng_one_in(r, 2))
		return run_command("%s -c flush -c 'sigraise 9' || true", cmd);
	return run_command("%s", cmd);
}

static const char *peer_verdict(const struct qcow2_create_opts *o, const struct model *m)
{
	save(file_name("model"), m->data, m->size);
	if (!run_command("qemu-img check -f qcow2 %s", file_name("image")))
		return "qemu-img check is not content";
	if (!run_command("qemu-img compare -f raw -F qcow2 %s %s", file_name("model"), file_name("image")))
		return "qemu-img compare finds a difference";
	if (o->data_file_raw &&
	    !run_command("qemu-img compare -f raw -F raw %s %s", file_name("model"), o->data_file))
		return "the data file alone is different";
	for (unsigned i = 0; i < m->n_snaps; i++) {
		/* convert -l shows a snapshot in the size the disk has now. */
		if (m->snap[i].size != m->size)
			continue;
		save(file_name("model"), m->snap[i].data, m->snap[i].size);
		if (!run_command("qemu-img convert -f qcow2 -O raw -l snapshot.name=%s %s %s", m->snap[i].name,
				 file_name("image"), file_name("snap")) ||
		    !run_command("qemu-img compare -f raw -F raw %s %s", file_name("model"), file_name("snap")))
			return "qemu-img finds a snapshot different";
	}
	return NULL;
}

static const char *session(struct rng *r, struct model *m, unsigned count, bool snaps, bool only_look)
{
	struct blk_image_opts io = { .trust = BLK_TRUST_FOLDER, .format = rng_one_in(r, 2) ? "qcow2" : NULL,
				     .file.aio = rng_one_in(r, 2) ? BLK_AIO_THREADS : BLK_AIO_AUTO,
				     .file.cache = rng_one_in(r, 3) ? BLK_CACHE_NONE : BLK_CACHE_WRITEBACK,
				     .cache_bytes = rng_one_in(r, 2) ? 1 : 0 };
	struct blk_node *n;
	const char *bad;
	struct err e;

	if (blk_open_image(loop, file_name("image"), &io, &n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return "the image cannot be opened";
	}
	bad = script_compare(n, m);
	if (!bad)
		bad = only_look ? script_check(n) : steps(r, n, m, count, snaps);
	blk_close(n);
	return bad;
}

static bool make_image(struct rng *r, struct qcow2_create_opts *o, struct model *base, bool ours)
{
	char opts[512], format[8] = "";
	struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e;
	int ret;

	if (base)
		make_base(r, o->size, base, format);
	if (!ours) {
		peer_options(o, opts, sizeof(opts));
		return run_command("qemu-img create -f qcow2 -o %s %s %s %s %s %llu", opts, base ? "-b base -F" : "", format,
				   base ? "-u" : "", file_name("image"), (unsigned long long)o->size);
	}
	if (base) {
		o->backing = "base";
		o->backing_format = format;
	}
	if (o->data_file)
		save(o->data_file, NULL, 0);
	if (blk_create_file(file_name("image"), true, &e) || blk_open_file(loop, file_name("image"), &fo, &file, &e))
		return false;
	ret = qcow2_create(file, o, &e);
	if (ret)
		fprintf(stderr, "%s\n", e.msg);
	blk_close(file);
	return !ret;
}

static const char *with_peer(struct rng *r, unsigned count, char *text, size_t room)
{
	bool ours = rng_one_in(r, 2), backed = rng_one_in(r, 2), snaps;
	struct qcow2_create_opts o;
	char data_file[128];
	struct model m, base = { 0 };
	const char *bad = NULL;

	script_options(r, &o, 4u << 20, text, room);
	snprintf(text + strlen(text), room - strlen(text), ", %s%s", ours ? "ours" : "the peer's", backed ? ", backed" : "");
	if (o.version == 3 && rng_one_in(r, 4)) {
		snprintf(data_file, sizeof(data_file), "%s", file_name("data"));
		o.data_file = data_file;
		o.data_file_raw = !backed && rng_one_in(r, 2);
		snprintf(text + strlen(text), room - strlen(text), ", data file%s", o.data_file_raw ? ", raw" : "");
	}
	if (!make_image(r, &o, backed ? &base : NULL, ours))
		return "the image cannot be made";
	model_init(&m, align_up(o.size, 512));
	if (backed)
		memcpy(m.data, base.data, least(m.size, base.size));
	if (rng_one_in(r, 2) && !peer_writes(r, &o, &m))
		bad = "qemu-io failed";
	snaps = !o.data_file && (!backed || o.version == 3);
	bad = bad ? bad : session(r, &m, count, snaps, false);
	bad = bad ? bad : peer_verdict(&o, &m);
	if (!bad && !peer_writes(r, &o, &m))
		bad = "qemu-io failed";
	bad = bad ? bad : session(r, &m, 0, false, true);
	model_fini(&m);
	if (backed)
		model_fini(&base);
	return bad;
}

static void clean_up(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		perror(dir);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 100, n_steps = 60, failed = 0;
	bool peer = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--peer"))
			peer = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
			n_steps = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: generate [--seed S] [--count N] [--steps N] [--peer] [--verbose]\n"), 2;
	}
	if (verbose)
		setenv("SCRIPT_VERBOSE", "1", 1);
	if (loop_new(&loop) || !mkdtemp(dir))
		return 2;
	if (peer && !(run_command("qemu-img --version") && run_command("qemu-io --version"))) {
		printf("1..0 # SKIP qemu-img and qemu-io are not installed (package qemu-utils)\n");
		clean_up();
		return 0;
	}
	for (uint64_t i = seed; i < seed + count; i++) {
		struct rng r = { i * 0x2545f4914f6cdd1dull };
		char text[200];
		const char *bad = peer ? with_peer(&r, (unsigned)n_steps, text, sizeof(text))
				       : in_memory(&r, (unsigned)n_steps, text, sizeof(text));

		if (bad)
			printf("# seed %llu: %s (%s)\n", (unsigned long long)i, bad, text);
		failed += bad != NULL;
	}
	printf("%sok 1 - %llu images %s the peer, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "",
	       (unsigned long long)count, peer ? "with" : "without", (unsigned long long)seed, (unsigned long long)failed);
	clean_up();
	loop_free(loop);
	return failed != 0;
}
