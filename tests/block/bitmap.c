/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty bitmaps: random writes and random changes of bitmaps, against a model.
 *
 *   bitmap [--seed S] [--count N] [--steps N] [--crash | --fault | --peer] [--points N] [--verbose]
 *
 * Without more all is in memory: every bitmap must say exactly what the model does,
 * also after closing and opening the image, and its check must find nothing.
 *
 * --crash records the file's changes and makes it again as it would be after sudden
 * death at any of them: each bitmap that records is marked as in use or covers
 * whatever differs from the disk as it was when the bitmap was made or cleared.
 *
 * --fault has requests of the file fail, and looks at what is left in the same way.
 *
 * --peer takes turns with qemu-img and qemu-io on a file, and reads bitmaps with
 * qemu-nbd and nbdinfo.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/internal.h"
#include "record.h"
#include "script.h"
#include "shell.h"

#define MAX_FILE (256u << 20)
#define MAX_DISK (2u << 20)
#define MAX_MAPS 6
#define SECTORS (MAX_DISK / 512)

static struct loop *loop;
static char dir[] = "/tmp/lodge-bitmap-XXXXXX";
static bool verbose;

enum { CLEAN, DIRTY, MAYBE };

/* A bitmap as it should be; what it says of each granule. */
struct map {
	char name[16];
	unsigned bits;			/* log2 of the granularity */
	bool recording;
	uint8_t is[SECTORS];
	uint8_t *ref;			/* the disk when it was clean; crash only */
};

struct test {
	struct rng r;
	struct blk_node *file, *n;	/* file: NULL with the peer */
	struct blk_image_opts io;
	uint64_t size;
	struct map map[MAX_MAPS];
	unsigned n_maps, named;
	uint8_t *disk;
	bool crash;
};

static uint64_t granules(const struct test *t, const struct map *m)
{
	return (t->size + BIT64(m->bits) - 1) >> m->bits;
}

/* Says why not. */
static bool done(int ret, const struct err *e)
{
	if (ret && verbose)
		fprintf(stderr, "%s\n", e->msg);
	return !ret;
}

static void touch(struct test *t, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < t->n_maps; i++)
		for (uint64_t g = off >> t->map[i].bits; t->map[i].recording && len && g <= (off + len - 1) >> t->map[i].bits; g++)
			t->map[i].is[g] = DIRTY;
}

static const char *compare_map(struct test *t, const struct map *m)
{
	static uint8_t seen[SECTORS];
	uint64_t off = 0, at, len;
	struct err e;

	memset(seen, 0, sizeof(seen));
	do {
		if (qcow2_bitmap_next(t->n, m->name, off, &at, &len, &e)) {
			fprintf(stderr, "%s\n", e.msg);
			return "a bitmap cannot be read";
		}
		for (uint64_t g = at >> m->bits; len && g <= (at + len - 1) >> m->bits; g++)
			seen[g] = 1;
		off = at + len;
	} while (len);
	for (uint64_t g = 0; g < granules(t, m); g++)
		if (m->is[g] != MAYBE && seen[g] != m->is[g]) {
			if (verbose)
				fprintf(stderr, "%s: granule %llu of %llu (%u) is %d, not %d\n", m->name, (unsigned long long)g,
					(unsigned long long)granules(t, m), 1u << m->bits, seen[g], m->is[g]);
			return seen[g] ? "a bitmap says too much" : "a bitmap says too little";
		}
	return NULL;
}

static const char *compare_all(struct test *t)
{
	struct qcow2_bitmap *b;
	const char *bad = NULL;
	unsigned count;
	struct err e;

	if (qcow2_bitmap_list(t->n, &b, &count, &e))
		return "the bitmaps cannot be listed";
	if (count != t->n_maps)
		bad = "another number of bitmaps";
	for (unsigned i = 0; i < count && !bad; i++)
		if (strcmp(b[i].name, t->map[i].name) != 0 || b[i].granularity != BIT64(t->map[i].bits) ||
		    b[i].recording != t->map[i].recording || b[i].inconsistent)
			bad = "a bitmap is listed wrongly";
	qcow2_bitmaps_free(b, count);
	for (unsigned i = 0; i < t->n_maps && !bad; i++)
		bad = compare_map(t, &t->map[i]);
	return bad ? bad : script_check(t->n);
}

/* ---- steps ---- */

static bool write_step(struct test *t)
{
	static uint8_t buf[MAX_DISK];
	uint64_t off = rng_below(&t->r, t->size / 512) * 512, len = least(t->size - off, (1 + rng_below(&t->r, 100)) * 512);
	int ret;

	switch (rng_below(&t->r, 5)) {
	case 0:
		ret = blk_pdiscard(t->n, off, len);
		break;
	case 1:
		ret = blk_pwrite_zeroes(t->n, off, len, rng_one_in(&t->r, 2));
		break;
	default:
		rng_fill(&t->r, buf, len);
		ret = blk_pwrite(t->n, off, buf, len);
		break;
	}
	touch(t, off, len);
	return !ret;
}

static void new_ref(struct test *t, struct map *m)
{
	if (!t->crash)
		return;
	m->ref = m->ref ? m->ref : malloc(MAX_DISK);
	if (m->ref && !blk_pread(t->n, 0, m->ref, t->size))
		return;
	/* Not what is to fail. */
	record_fail(t->file, 0, 0, false);
	if (!m->ref || blk_pread(t->n, 0, m->ref, t->size))
		abort();
}

static bool add_step(struct test *t)
{
	struct map *m = &t->map[t->n_maps];
	struct err e;

	if (t->n_maps == MAX_MAPS)
		return true;
	*m = (struct map){ .bits = 9 + (unsigned)rng_below(&t->r, 9), .recording = t->crash || !rng_one_in(&t->r, 3) };
	snprintf(m->name, sizeof(m->name), "map%u", t->named++);
	t->n_maps++;
	new_ref(t, m);
	return done(qcow2_bitmap_add(t->n, m->name, BIT64(m->bits), m->recording, &e), &e);
}

static bool remove_step(struct test *t, unsigned i)
{
	char name[16];
	struct err e;

	strcpy(name, t->map[i].name);
	free(t->map[i].ref);
	t->n_maps--;
	memmove(&t->map[i], &t->map[i + 1], (t->n_maps - i) * sizeof(t->map[0]));
	return done(qcow2_bitmap_remove(t->n, name, &e), &e);
}

static bool merge_step(struct test *t, unsigned i)
{
	struct map *to = &t->map[i], *from = &t->map[rng_below(&t->r, t->n_maps)];
	struct err e;

	for (uint64_t g = 0; g < granules(t, from); g++) {
		uint64_t end = least(((g + 1) << from->bits), t->size) - 1;

		for (uint64_t k = g << from->bits >> to->bits; from->is[g] && k <= end >> to->bits; k++)
			to->is[k] = to->is[k] == DIRTY ? DIRTY : from->is[g];
	}
	return done(qcow2_bitmap_merge(t->n, to->name, t->n, from->name, &e), &e);
}

static bool reset_step(struct test *t, struct map *m)
{
	uint64_t from = rng_below(&t->r, granules(t, m)), n = 1 + rng_below(&t->r, 20);
	struct err e;

	n = least(n, granules(t, m) - from);
	memset(m->is + from, CLEAN, n);
	return done(qcow2_bitmap_reset(t->n, m->name, from << m->bits, n << m->bits, &e), &e);
}

static bool map_step(struct test *t)
{
	unsigned i = (unsigned)rng_below(&t->r, most(t->n_maps, 1u));
	struct map *m = &t->map[i];
	struct err e;

	if (!t->n_maps)
		return add_step(t);
	switch (rng_below(&t->r, t->crash ? 4 : 8)) {
	case 0:
		return add_step(t);
	case 1:
		return remove_step(t, i);
	case 2:
		new_ref(t, m);
		memset(m->is, CLEAN, sizeof(m->is));
		return done(qcow2_bitmap_clear(t->n, m->name, &e), &e);
	case 3:
		return merge_step(t, i);
	case 4:
		return reset_step(t, m);
	default:
		m->recording = !m->recording;
		return done(qcow2_bitmap_record(t->n, m->name, m->recording, &e), &e);
	}
}

static bool resize_step(struct test *t)
{
	uint64_t size = (1 + rng_below(&t->r, SECTORS)) * 512, old = t->size;
	struct err e;

	/* What is zeroed behind the new end may share a granule with what is before it. */
	for (unsigned i = 0; i < t->n_maps && size < old; i++) {
		struct map *m = &t->map[i];
		uint64_t g = size >> m->bits;

		if (size % BIT64(m->bits) && m->recording && m->is[g] == CLEAN)
			m->is[g] = MAYBE;
		g += size % BIT64(m->bits) != 0;
		memset(m->is + g, CLEAN, SECTORS - g);
	}
	t->size = size;
	if (size > old)
		touch(t, old, size - old);
	return done(blk_resize(t->n, size, &e), &e);
}

static bool reopen_step(struct test *t)
{
	struct err e;

	blk_drain(t->n);
	if (qcow2_close_inner(t->n) || qcow2_open(t->file, &t->io, 0, &t->n, &e)) {
		t->n = NULL;
		return false;
	}
	return true;
}

static const char *step(struct test *t)
{
	unsigned what = (unsigned)rng_below(&t->r, 16);
	struct err e;

	if (what < 9)
		return write_step(t) ? NULL : "a write failed";
	if (what < 12)
		return map_step(t) ? NULL : "a bitmap cannot be changed";
	if (what == 12 && !t->crash)
		return resize_step(t) ? NULL : "the disk cannot change its size";
	if (what == 13 && t->file)
		return reopen_step(t) ? NULL : "the image cannot be opened again";
	if (what == 14 && t->file)
		return qcow2_set_backing(t->n, rng_one_in(&t->r, 2) ? "a-name-of-some-length" : NULL, "raw", &e) ? "no backing name" : NULL;
	return blk_flush(t->n) ? "a flush failed" : NULL;
}

static bool begin(struct test *t, char *text, size_t room)
{
	struct qcow2_create_opts o;
	struct err e;

	do
		script_options(&t->r, &o, t->crash ? 128u << 10 : MAX_DISK, text, room);
	while (o.version == 2);
	t->io = (struct blk_image_opts){ .trust = BLK_TRUST_ALL, .no_backing = true, .cache_bytes = rng_one_in(&t->r, 2) ? 1 : 0 };
	if (record_open(loop, MAX_FILE, &t->file))
		return false;
	if (qcow2_create(t->file, &o, &e) || qcow2_open(t->file, &t->io, 0, &t->n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return false;
	}
	t->size = t->n->i.size;
	return true;
}

static void end(struct test *t)
{
	for (unsigned i = 0; i < t->n_maps; i++)
		free(t->map[i].ref);
	if (t->n)
		blk_close(t->n);
}

static const char *in_memory(struct test *t, unsigned steps, char *text, size_t room)
{
	const char *bad = begin(t, text, room) ? NULL : "the image cannot be made";

	for (unsigned i = 0; i < steps && !bad; i++) {
		bad = step(t);
		if (!bad && rng_one_in(&t->r, 8))
			bad = compare_all(t);
	}
	bad = bad ? bad : compare_all(t);
	bad = bad || reopen_step(t) ? bad : "the image cannot be opened again";
	bad = bad ? bad : compare_all(t);
	end(t);
	return bad;
}

/* ---- sudden death ---- */

/* What each step left: references by name. */
struct moment {
	unsigned n;
	struct {
		char name[16];
		unsigned bits;
		uint8_t *ref;
	} map[MAX_MAPS];
};

static void remember(const struct test *t, struct moment *at)
{
	at->n = t->n_maps;
	for (unsigned i = 0; i < t->n_maps; i++) {
		strcpy(at->map[i].name, t->map[i].name);
		at->map[i].bits = t->map[i].bits;
		at->map[i].ref = malloc(t->size);
		if (!at->map[i].ref)
			abort();
		memcpy(at->map[i].ref, t->map[i].ref, t->size);
	}
}

static struct blk_node *dead(struct test *t, const struct record *rec, const uint8_t *start, uint64_t len, unsigned upto)
{
	struct blk_node *file;
	unsigned flushed = 0;

	if (record_open(loop, MAX_FILE, &file))
		abort();
	record_load(file, start, len);
	for (unsigned i = 0; i < upto; i++)
		if (rec->e[i].kind == EVENT_FLUSH)
			flushed = i;
	for (unsigned i = 0; i < upto; i++) {
		struct event e = rec->e[i];

		if (i >= flushed && rng_one_in(&t->r, 3))
			continue;
		if (i >= flushed && e.kind == EVENT_WRITE && rng_one_in(&t->r, 2))
			e.len = align_down(rng_below(&t->r, e.len + 1), 512);
		record_apply(file, &e);
	}
	return file;
}

/* Does the bitmap cover what differs from ref? */
static bool covers(struct blk_node *n, const char *name, const uint8_t *disk, const uint8_t *ref)
{
	uint64_t off = 0, at, len;
	struct err e;

	do {
		if (qcow2_bitmap_next(n, name, off, &at, &len, &e))
			return false;
		if (memcmp(disk + off, ref + off, (len ? at : n->i.size) - off) != 0)
			return false;
		off = at + len;
	} while (len);
	return true;
}

static const char not_known[] = "a bitmap that there should not be";

static const char *right(struct blk_node *n, const struct qcow2_bitmap *b, const uint8_t *disk, const struct moment *at)
{
	for (unsigned i = 0; i < at->n; i++)
		if (!strcmp(at->map[i].name, b->name))
			return covers(n, b->name, disk, at->map[i].ref) ? NULL : "a bitmap that is not in use says too little";
	return not_known;
}

static void say_line(void *opaque, const char *line)
{
	if (verbose)
		fprintf(stderr, "%s\n", line);
}

static const char *look(struct blk_node *file, const struct moment *before, const struct moment *after)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .no_backing = true, .file.read_only = true };
	struct qcow2_check res = { .say = say_line };
	struct qcow2_bitmap *b = NULL;
	unsigned count = 0;
	const char *bad = NULL;
	uint8_t *disk;
	struct blk_node *n;
	struct err e;

	file->i.read_only = true;
	if (!done(qcow2_open(file, &io, 0, &n, &e), &e)) {
		blk_close(file);
		return "the image does not open";
	}
	if (qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors)
		bad = "the check finds corruption";
	if (!bad && qcow2_bitmap_list(n, &b, &count, &e))
		bad = "the bitmaps cannot be listed";
	if (!bad && before && count != before->n && count != after->n) {
		bad = "another number of bitmaps";
		if (verbose)
			fprintf(stderr, "%u, not %u or %u\n", count, before->n, after->n);
	}
	disk = malloc(n->i.size);
	if (!disk || blk_pread(n, 0, disk, n->i.size))
		bad = bad ? bad : "the disk cannot be read";
	for (unsigned i = 0; i < count && !bad; i++) {
		if (b[i].in_use)
			continue;
		bad = right(n, &b[i], disk, after);
		if (bad && before)
			bad = right(n, &b[i], disk, before);
		/* One that could not be removed is there still. */
		else if (bad == not_known)
			bad = NULL;
	}
	free(disk);
	qcow2_bitmaps_free(b, count);
	blk_close(n);
	return bad;
}

static const char *crash(struct test *t, unsigned steps, unsigned points, char *text, size_t room)
{
	const struct record *rec;
	struct moment *at = calloc(steps + 1, sizeof(*at));
	uint8_t *start;
	uint64_t len;
	const char *bad;

	t->crash = true;
	if (!at || !begin(t, text, room))
		return "the image cannot be made";
	len = t->file->i.size;
	start = malloc(len);
	memcpy(start, record_data(t->file), len);
	record_of(t->file)->on = true;
	if (rng_one_in(&t->r, 2))
		record_shuffle(t->file, rng_next(&t->r) | 1);
	bad = add_step(t) ? NULL : "no bitmap can be made";
	record_mark(t->file, 0);
	remember(t, &at[0]);
	for (unsigned i = 1; i <= steps && !bad; i++) {
		bad = step(t);
		remember(t, &at[i]);
		record_mark(t->file, i);
	}
	rec = record_of(t->file);
	for (unsigned i = 0; i < points && !bad; i++) {
		unsigned upto = (unsigned)rng_below(&t->r, rec->n + 1), next = upto;
		static const struct moment none;

		while (next < rec->n && rec->e[next].kind != EVENT_MARK)
			next++;
		next = next < rec->n ? rec->e[next].mark : steps;
		bad = look(dead(t, rec, start, len, upto), next ? &at[next - 1] : &none, &at[next]);
	}
	for (unsigned i = 0; i <= steps; i++)
		for (unsigned k = 0; k < at[i].n; k++)
			free(at[i].map[k].ref);
	free(at);
	free(start);
	end(t);
	return bad;
}

/* ---- a file that fails ---- */

/* Everything may fail from some request on; then the file is whole again. What is there must be right or marked. */
static const char *fault(struct test *t, unsigned steps, char *text, size_t room)
{
	struct moment at = { 0 };
	struct blk_node *copy;
	const char *bad;

	t->crash = true;
	if (!begin(t, text, room))
		return "the image cannot be made";
	for (unsigned i = 0; i < steps && t->n; i++) {
		if (rng_one_in(&t->r, 3))
			record_fail(t->file, 1 + rng_below(&t->r, 12), rng_one_in(&t->r, 2) ? -EIO : -ENOSPC, rng_one_in(&t->r, 4));
		step(t);
		record_fail(t->file, 0, 0, false);
	}
	if (t->n && qcow2_close_inner(t->n) && verbose)
		fprintf(stderr, "closing failed\n");
	t->n = NULL;
	remember(t, &at);
	if (record_open(loop, MAX_FILE, &copy))
		abort();
	record_load(copy, record_data(t->file), t->file->i.size);
	blk_close(t->file);
	bad = look(copy, NULL, &at);
	for (unsigned k = 0; k < at.n; k++)
		free(at.map[k].ref);
	end(t);
	return bad;
}

/* ---- with the peer ---- */

#define run_command(...) shell_in(dir, verbose, __VA_ARGS__)

/* The bitmap as qemu-nbd tells it. It must not record: nobody could write meanwhile. */
static const char *peer_reads(struct test *t, const struct map *m)
{
	static uint8_t seen[SECTORS];
	unsigned long long off, len;
	char path[64], line[128];
	unsigned dirty;
	FILE *f;

	if (!run_command("qemu-nbd -r -t -f qcow2 -k %s/sock -B %s --fork --pid-file=pid image", dir, m->name))
		return "qemu-nbd does not take the bitmap";
	if (!run_command("nbdinfo --map=qemu:dirty-bitmap:%s 'nbd+unix:///?socket=%s/sock' > map; r=$?; p=$(cat pid); kill $p; "
			 "tail --pid=$p -s 0.01 -f /dev/null; exit $r", m->name, dir))
		return "nbdinfo does not tell the bitmap";
	memset(seen, 0, sizeof(seen));
	snprintf(path, sizeof(path), "%s/map", dir);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llu %llu %u", &off, &len, &dirty) == 3 && dirty && len)
			memset(seen + (off >> m->bits), 1, (size_t)(((off + len - 1) >> m->bits) - (off >> m->bits) + 1));
	if (f)
		fclose(f);
	for (uint64_t g = 0; g < granules(t, m); g++)
		if (m->is[g] != MAYBE && seen[g] != m->is[g])
			return "the peer reads another bitmap";
	return NULL;
}

static bool session(struct test *t, unsigned steps, const char **bad)
{
	const struct blk_image_opts io = { .format = "qcow2", .no_backing = true };
	char path[64];
	struct err e;

	snprintf(path, sizeof(path), "%s/image", dir);
	if (blk_open_image(loop, path, &io, &t->n, &e)) {
		fprintf(stderr, "%s\n", e.msg);
		return false;
	}
	*bad = compare_all(t);
	for (unsigned i = 0; i < steps && !*bad; i++)
		*bad = step(t);
	*bad = *bad ? *bad : compare_all(t);
	blk_close(t->n);
	t->n = NULL;
	return true;
}

static bool peer_changes(struct test *t)
{
	static const char *const what[] = { "clear", "enable", "disable" };

	for (unsigned i = 0; i < 3; i++) {
		uint64_t off = rng_below(&t->r, t->size / 512) * 512, len = least(t->size - off, (1 + rng_below(&t->r, 60)) * 512);

		touch(t, off, len);
		if (!run_command("qemu-io -t unsafe -f qcow2 -c 'write -P 7 %llu %llu' image", (unsigned long long)off, (unsigned long long)len))
			return false;
	}
	if (t->n_maps) {
		struct map *m = &t->map[rng_below(&t->r, t->n_maps)];
		unsigned w = (unsigned)rng_below(&t->r, 3);

		if (w == 0)
			memset(m->is, CLEAN, sizeof(m->is));
		else
			m->recording = w == 1;
		if (!run_command("qemu-img bitmap --%s image %s", what[w], m->name))
			return false;
	}
	if (t->n_maps < MAX_MAPS) {
		struct map *m = &t->map[t->n_maps++];

		*m = (struct map){ .bits = 16, .recording = true };
		snprintf(m->name, sizeof(m->name), "map%u", t->named++);
		return run_command("qemu-img bitmap --add -g 65536 image %s", m->name);
	}
	return true;
}

static const char *with_peer(struct test *t, unsigned steps, char *text, size_t room)
{
	static const unsigned clusters[] = { 512, 4096, 65536, 2097152 };
	unsigned cluster = clusters[rng_below(&t->r, ARRAY_LEN(clusters))];
	bool ext = cluster == 65536 && rng_one_in(&t->r, 2);
	const char *bad = NULL;

	t->size = (1 + rng_below(&t->r, SECTORS)) * 512;
	snprintf(text, room, "cluster %u%s, size %llu", cluster, ext ? ", extended" : "", (unsigned long long)t->size);
	if (!run_command("qemu-img create -f qcow2 -o cluster_size=%u,extended_l2=%s image %llu", cluster, ext ? "on" : "off",
			 (unsigned long long)t->size))
		return "qemu-img cannot make the image";
	for (unsigned round = 0; round < 3 && !bad; round++) {
		if (!peer_changes(t))
			return "the peer cannot change the image";
		if (!session(t, steps, &bad))
			return "the image cannot be opened";
		if (!bad && !run_command("qemu-img check -f qcow2 image"))
			bad = "qemu-img check is not content";
		for (unsigned i = 0; i < t->n_maps && !bad; i++)
			if (!t->map[i].recording)
				bad = peer_reads(t, &t->map[i]);
	}
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
	uint64_t seed = 1, count = 50, failed = 0;
	unsigned steps = 60, points = 60;
	bool with_crash = false, with_fault = false, peer = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--crash"))
			with_crash = true;
		else if (!strcmp(argv[i], "--fault"))
			with_fault = true;
		else if (!strcmp(argv[i], "--peer"))
			peer = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
			steps = (unsigned)strtoul(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--points") && i + 1 < argc)
			points = (unsigned)strtoul(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: bitmap [--seed S] [--count N] [--steps N] [--crash | --fault | --peer] [--points N] [--verbose]\n"),
			       2;
	}
	if (loop_new(&loop) || !mkdtemp(dir))
		return 2;
	if (peer && !(run_command("qemu-img --version") && run_command("qemu-nbd --version") && run_command("nbdinfo --version"))) {
		printf("1..0 # SKIP qemu-img, qemu-nbd and nbdinfo are not all installed (packages qemu-utils, libnbd-bin)\n");
		clean_up();
		return 0;
	}
	for (uint64_t i = seed; i < seed + count; i++) {
		static struct test t;
		char text[200] = "";
		const char *bad;

		t = (struct test){ .r = { i * 0x2545f4914f6cdd1dull } };
		bad = peer	   ? with_peer(&t, steps, text, sizeof(text))
		      : with_crash ? crash(&t, steps, points, text, sizeof(text))
		      : with_fault ? fault(&t, steps, text, sizeof(text))
				   : in_memory(&t, steps, text, sizeof(text));
		if (bad)
			printf("# seed %llu: %s (%s)\n", (unsigned long long)i, bad, text);
		failed += bad != NULL;
	}
	printf("%sok 1 - bitmaps of %llu images%s, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "", (unsigned long long)count,
	       peer ? " with the peer" : with_crash ? ", dead at many moments" : with_fault ? " in failing files" : "", (unsigned long long)seed, (unsigned long long)failed);
	clean_up();
	loop_free(loop);
	return failed != 0;
}
