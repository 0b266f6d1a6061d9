/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the header in a crash: names of backing files of all lengths, bitmaps
 * that come and go, sizes, snapshots.
 *
 *   header [--seed S] [--count N] [--peer] [--verbose]
 *
 * Each step is one change.  The file is made again as it would be after each of the
 * step's writes, after each sector of it, and with writes since the last flush lost
 * at random.  It must open, with the names of before or after the step (both of
 * either), an extension that nobody knows, the size and the number of
 * bitmaps and snapshots of before or after, and without corruption.
 *
 * With --peer qemu-img reads, checks and changes the names in turn with us.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/internal.h"
#include "record.h"
#include "script.h"
#include "shell.h"

#define MAX_FILE (16u << 20)
#define EXT_UNKNOWN 0x12345678u
#define MAX_NAME 1023u

static struct loop *loop;
static bool verbose;
static char dir[] = "/tmp/lodge-header-XXXXXX";

/* What the header says. */
struct says {
	char backing[MAX_NAME + 1], format[64];		/* "": none */
	uint64_t size;
	unsigned n_bitmaps, n_snapshots;
};

struct test {
	struct rng r;
	struct blk_node *file, *n;
	bool unknown;			/* has the extension that nobody knows */
	bool flags;			/* the step may leave flags that do not fit refcounts, a snapshot's */
	unsigned named;
	uint64_t refused, done;
	struct says now;
};

static const struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .no_backing = true };

static void ask(struct blk_node *n, struct says *s)
{
	struct qcow2_info i;

	memset(s, 0, sizeof(*s));
	qcow2_get_info(n, &i);
	snprintf(s->backing, sizeof(s->backing), "%s", i.backing ? i.backing : "");
	snprintf(s->format, sizeof(s->format), "%s", i.backing_format ? i.backing_format : "");
	s->size = i.virtual_size;
	s->n_bitmaps = i.n_bitmaps;
	s->n_snapshots = i.n_snapshots;
}

static bool same(const struct says *a, const struct says *b)
{
	return !strcmp(a->backing, b->backing) && !strcmp(a->format, b->format) && a->size == b->size && a->n_bitmaps == b->n_bitmaps &&
	       a->n_snapshots == b->n_snapshots;
}

/* ---- an extension nobody knows ---- */

/* Byte of the header where the list of extensions has one of this type (0: its end). */
static uint32_t find_type(const uint8_t *h, uint32_t cluster, uint32_t type)
{
	uint64_t backing = ld_be64(h + H_BACKING_OFF), at = ld_be32(h + H_VERSION) == 2 ? H_V2_LEN : ld_be32(h + H_LENGTH);
	uint64_t end = backing ? backing : least(cluster, 65536);

	while (at + 8 <= end) {
		if (ld_be32(h + at) == type)
			return (uint32_t)at;
		if (!ld_be32(h + at))
			return 0;
		at += 8 + align_up(ld_be32(h + at + 4), 8);
	}
	return 0;
}

static const uint8_t secret[24] = "what nobody understands";

static void put_unknown(struct test *t)
{
	uint8_t *h = record_data(t->file);
	uint32_t cluster = 1u << ld_be32(h + H_CLUSTER_BITS), at = find_type(h, cluster, 0);

	t->unknown = at && at + 32 + 8 <= cluster && !ld_be64(h + H_BACKING_OFF);
	if (!t->unknown)
		return;
	st_be32(h + at, EXT_UNKNOWN);
	st_be32(h + at + 4, sizeof(secret));
	memcpy(h + at + 8, secret, sizeof(secret));
	memset(h + at + 32, 0, 8);
}

static bool has_unknown(const uint8_t *h)
{
	uint32_t at = find_type(h, 1u << ld_be32(h + H_CLUSTER_BITS), EXT_UNKNOWN);

	return at && ld_be32(h + at + 4) == sizeof(secret) && !memcmp(h + at + 8, secret, sizeof(secret));
}

/* ---- steps ---- */

static void draw_name(struct rng *r, char *name, size_t room)
{
	size_t len = rng_one_in(r, 3) ? 1 + rng_below(r, MAX_NAME) : 1 + rng_below(r, 60);

	len = least(len, room - 1);
	for (size_t i = 0; i < len; i++)
		name[i] = (char)('a' + rng_below(r, 26));
	name[len] = '\0';
}

static const char *names_step(struct test *t)
{
	char name[MAX_NAME + 1], format[16];
	bool none = rng_one_in(&t->r, 5), odd = rng_one_in(&t->r, 4), plain = rng_one_in(&t->r, 4);
	struct err e = { 0 };
	int ret;

	draw_name(&t->r, name, sizeof(name));
	if (odd)
		draw_name(&t->r, format, sizeof(format));
	else
		strcpy(format, rng_one_in(&t->r, 2) ? "raw" : "qcow2");
	ret = qcow2_set_backing(t->n, none ? NULL : name, plain ? NULL : format, &e);
	t->done++;
	if (ret == -ENOSPC && !none) {
		t->refused++;
		return strstr(e.msg, "has no room") ? NULL : "another message";
	}
	return ret ? "a name cannot be set" : NULL;
}

static const char *bitmap_step(struct test *t)
{
	struct qcow2_bitmap *b;
	unsigned n;
	struct err e;
	char name[16];
	int ret = qcow2_bitmap_list(t->n, &b, &n, &e);

	if (ret)
		return "bitmaps cannot be listed";
	if (n && rng_one_in(&t->r, 2)) {
		ret = qcow2_bitmap_remove(t->n, b[0].name, &e);
	} else {
		snprintf(name, sizeof(name), "map%u", t->named++);
		ret = qcow2_bitmap_add(t->n, name, 0, rng_one_in(&t->r, 2), &e);
		/* The header may be full, and version 2 has none. */
		ret = ret == -ENOSPC || ret == -ENOTSUP ? 0 : ret;
	}
	qcow2_bitmaps_free(b, n);
	return ret ? "a bitmap cannot be changed" : NULL;
}

static const char *snapshot_step(struct test *t)
{
	struct qcow2_snapshot *s;
	unsigned n;
	struct err e;
	char name[16];
	int ret = qcow2_snapshot_list(t->n, &s, &n, &e);

	t->flags = true;
	if (ret)
		return "snapshots cannot be listed";
	if (n && rng_one_in(&t->r, 2)) {
		ret = qcow2_snapshot_delete(t->n, s[0].name, &e);
	} else {
		snprintf(name, sizeof(name), "snap%u", t->named++);
		ret = qcow2_snapshot_create(t->n, name, &e);
		ret = ret == -ERANGE ? 0 : ret;
	}
	qcow2_snapshots_free(s, n);
	return ret ? "a snapshot cannot be changed" : NULL;
}

static const char *reopen_step(struct test *t)
{
	struct err e;

	blk_drain(t->n);
	return qcow2_close_inner(t->n) || qcow2_open(t->file, &io, 0, &t->n, &e) ? "the image does not open again" : NULL;
}

static const char *step(struct test *t)
{
	uint8_t sector[512] = { 1 };
	struct err e;

	switch (rng_below(&t->r, 12)) {
	case 0:
		return reopen_step(t);
	case 1:
	case 2:
		return bitmap_step(t);
	case 3:
		return snapshot_step(t);
	case 4:
		/* Version 2 cannot with snapshots. */
		return blk_resize(t->n, (1 + rng_below(&t->r, 128)) * 512, &e) && !t->now.n_snapshots ? "the size cannot be changed" : NULL;
	case 5:
		return blk_pwrite(t->n, rng_below(&t->r, t->n->i.size / 512) * 512, sector, 512) ? "a write failed" : NULL;
	default:
		return names_step(t);
	}
}

/* ---- sudden death ---- */

static void say_line(void *opaque, const char *line)
{
	if (verbose)
		fprintf(stderr, "# %s\n", line);
}

/* Refcounts and the flags that speak of them cannot change at once: what is left when that was cut off is too high a count
 * and a flag, and a repair puts it right. */
static const char *sound(struct blk_node *n, bool flags)
{
	struct qcow2_check res = { .say = say_line }, again = { .say = say_line };
	struct err e;

	if (qcow2_check(n, 0, &res, &e) || res.check_errors || (res.corruptions && !flags))
		return "the check finds corruption";
	if (!res.corruptions)
		return NULL;
	if (qcow2_check(n, QCOW2_FIX_LEAKS | QCOW2_FIX_ERRORS, &res, &e) || qcow2_check(n, 0, &again, &e))
		return "it cannot be repaired";
	return again.corruptions || again.leaks || again.check_errors ? "the repair leaves something" : NULL;
}

static const char *look(struct test *t, struct blk_node *file, const struct says *before, const struct says *after)
{
	struct says s;
	const char *bad = NULL;
	struct blk_node *n;
	struct err e;

	file->i.read_only = !t->flags;
	if (t->unknown && !has_unknown(record_data(file)))
		bad = "the unknown extension is lost";
	if (qcow2_open(file, &io, 0, &n, &e)) {
		if (verbose)
			fprintf(stderr, "# %s\n", e.msg);
		blk_close(file);
		return "the image does not open";
	}
	ask(n, &s);
	if (!bad && !same(&s, before) && !same(&s, after)) {
		bad = "the header says what nobody wrote";
		if (verbose)
			fprintf(stderr, "# %s (%s), not %s (%s) or %s (%s)\n", s.backing, s.format, before->backing, before->format, after->backing,
				after->format);
	}
	bad = bad ? bad : sound(n, t->flags);
	blk_close(n);
	return bad;
}

/* How much of event e, the last, gets there: sectors. */
static void apply_part(struct blk_node *file, struct event e, uint64_t sectors)
{
	e.len = least(e.len, sectors * 512);
	if (e.len)
		record_apply(file, &e);
}

struct start {
	uint8_t *data;
	uint64_t len;
};

/* After events [0, upto) and `sectors` of the next; lossy: of those since the last flush some. */
static const char *die(struct test *t, const struct start *at, unsigned upto, uint64_t sectors, bool lossy, const struct says *before,
		       const struct says *after)
{
	const struct record *rec = record_of(t->file);
	struct blk_node *file;
	unsigned flushed = 0;

	if (record_open(loop, MAX_FILE, &file))
		abort();
	record_load(file, at->data, at->len);
	for (unsigned i = 0; i < upto; i++)
		if (rec->e[i].kind == EVENT_FLUSH)
			flushed = i;
	for (unsigned i = 0; i < upto; i++)
		if (i < flushed || !lossy || !rng_one_in(&t->r, 3))
			record_apply(file, &rec->e[i]);
	if (upto < rec->n && rec->e[upto].kind == EVENT_WRITE)
		apply_part(file, rec->e[upto], sectors);
	return look(t, file, before, after);
}

static const char *die_everywhere(struct test *t, const struct start *at, const struct says *before, const struct says *after)
{
	const struct record *rec = record_of(t->file);
	const char *bad = NULL;

	for (unsigned i = 0; i <= rec->n && !bad; i++) {
		/* Of long writes, such as new tables, the beginning. */
		uint64_t sectors = i < rec->n && rec->e[i].kind == EVENT_WRITE ? least(rec->e[i].len / 512, 24) : 1;

		for (uint64_t k = 0; k < sectors && !bad; k++) {
			bad = die(t, at, i, k, false, before, after);
			bad = bad ? bad : die(t, at, i, k, true, before, after);
		}
	}
	return bad;
}

static void forget_events(struct test *t)
{
	struct record *rec = record_of(t->file);

	for (unsigned i = 0; i < rec->n; i++)
		free(rec->e[i].data);
	rec->n = 0;
}

/* The file and the header before a step; everything is on disk. */
static const char *one_step(struct test *t)
{
	struct start at;
	struct says before, after;
	const char *bad;

	if (blk_flush(t->n))
		return "a flush failed";
	forget_events(t);
	at.len = t->file->i.size;
	at.data = malloc(at.len);
	memcpy(at.data, record_data(t->file), at.len);
	ask(t->n, &before);
	t->flags = false;
	bad = step(t);
	ask(t->n, &after);
	t->now = after;
	bad = bad ? bad : die_everywhere(t, &at, &before, &after);
	free(at.data);
	return bad;
}

static const char *begin(struct test *t, char *text, size_t room)
{
	struct qcow2_create_opts o;
	struct err e;

	script_options(&t->r, &o, 64u << 10, text, room);
	o.cluster_size = (uint32_t)least(o.cluster_size, 65536);
	if (o.version == 2 && o.cluster_size == 512)
		o.cluster_size = 1024;
	if (record_open(loop, MAX_FILE, &t->file) || qcow2_create(t->file, &o, &e))
		return "the image cannot be made";
	if (rng_one_in(&t->r, 2))
		put_unknown(t);
	record_of(t->file)->on = true;
	if (qcow2_open(t->file, &io, 0, &t->n, &e)) {
		t->n = NULL;
		return "the image cannot be opened";
	}
	ask(t->n, &t->now);
	return NULL;
}

static const char *alone(struct test *t, char *text, size_t room)
{
	const char *bad = begin(t, text, room);

	for (unsigned i = 0; i < 20 && !bad; i++)
		bad = one_step(t);
	bad = bad ? bad : reopen_step(t);
	bad = bad ? bad : script_check(t->n);
	blk_close(t->n ? t->n : t->file);
	return bad;
}

/* ---- with the peer ---- */

#define run_command(...) shell_in(dir, verbose, __VA_ARGS__)

static bool to_file(struct test *t, const char *path)
{
	FILE *f = fopen(path, "w");
	bool ok = f && fwrite(record_data(t->file), 1, t->file->i.size, f) == t->file->i.size;

	return f && !fclose(f) && ok;
}

static bool from_file(struct test *t, const char *path)
{
	FILE *f = fopen(path, "r");
	size_t len = f ? fread(record_data(t->file), 1, MAX_FILE, f) : 0;

	if (f)
		fclose(f);
	t->file->i.size = len;
	return len != 0;
}

/* qemu-img names a backing file, having understood what we wrote. */
static const char *peer_turn(struct test *t)
{
	char path[64], name[100];

	snprintf(path, sizeof(path), "%s/image", dir);
	blk_drain(t->n);
	if (qcow2_close_inner(t->n) || !to_file(t, path))
		return "the image cannot be closed";
	t->n = NULL;
	if (!run_command("qemu-img check 'json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"image\"},\"backing\":null}' || "
			 "test $? = 3"))
		return "qemu-img check is not content";
	if (!run_command("qemu-img info -f qcow2 --output=json image > info && if [ -n '%s' ]; then grep -q '\"backing-filename\": \"%s\"' info && "
			 "if [ -n '%s' ]; then grep -q '\"backing-filename-format\": \"%s\"' info; fi; else ! grep -q backing-filename info; fi",
			 t->now.backing, t->now.backing, t->now.format, t->now.format))
		return "qemu-img reads other names";
	draw_name(&t->r, name, sizeof(name));
	/* Its own header may be too full for that, with the table of names of features that it adds. */
	if (rng_one_in(&t->r, 2) && run_command("qemu-img rebase -f qcow2 -u -F qcow2 -b %s image", name)) {
		strcpy(t->now.backing, name);
		strcpy(t->now.format, "qcow2");
	}
	if (!from_file(t, path))
		return "the file cannot be read";
	return NULL;
}

static const char *with_peer(struct test *t, char *text, size_t room)
{
	const char *bad = begin(t, text, room);
	struct says s;
	struct err e;

	record_of(t->file)->on = false;
	for (unsigned i = 0; i < 12 && !bad; i++) {
		bad = rng_one_in(&t->r, 5) ? bitmap_step(t) : names_step(t);
		ask(t->n, &t->now);
		bad = bad ? bad : peer_turn(t);
		if (!bad && qcow2_open(t->file, &io, 0, &t->n, &e))
			bad = "the image does not open again";
		if (bad)
			break;
		ask(t->n, &s);
		if (strcmp(s.backing, t->now.backing) != 0 || strcmp(s.format, t->now.format) != 0)
			bad = "the peer's names are not read";
		if (t->unknown && !has_unknown(record_data(t->file)))
			bad = "the unknown extension is lost";
	}
	blk_close(t->n ? t->n : t->file);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 20, failed = 0, refused = 0, names = 0;
	bool peer = false;
	char cmd[64];

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--peer"))
			peer = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: header [--seed S] [--count N] [--peer] [--verbose]\n"), 2;
	}
	setenv("LODGE_LOG", "error", 0);
	if (loop_new(&loop) || !mkdtemp(dir))
		return 2;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (peer && !run_command("qemu-img --version")) {
		printf("1..0 # SKIP qemu-img is not installed (package qemu-utils)\n");
		return system(cmd) != 0;
	}
	for (uint64_t i = seed; i < seed + count; i++) {
		static struct test t;
		char text[200] = "";
		const char *bad;

		t = (struct test){ .r = { i * 0x2545f4914f6cdd1dull } };
		bad = peer ? with_peer(&t, text, sizeof(text)) : alone(&t, text, sizeof(text));
		if (bad)
			printf("# seed %llu: %s (%s)\n", (unsigned long long)i, bad, text);
		failed += bad != NULL;
		refused += t.refused;
		names += t.done;
	}
	printf("%sok 1 - headers of %llu images%s, %llu names, %llu of them refused, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "",
	       (unsigned long long)count, peer ? " in turn with qemu-img" : ", dead at every moment", (unsigned long long)names,
	       (unsigned long long)refused, (unsigned long long)seed, (unsigned long long)failed);
	loop_free(loop);
	return system(cmd) || failed;
}
