// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a disk into an image: the second half of convert and dd.
 *
 * A target that was not there before and could not be completed is removed: half a
 * disk looks like a whole one.  What is written into an existing file stays as far
 * as it got, and the message says that it is not complete.
 *
 * By default nothing is flushed, as with qemu-img (-t unsafe): a host that crashes
 * soon after takes the new image with it, the source is still there.  With --verify,
 * or any other cache mode, the image is on stable storage when the program ends.
 */
#include "img/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/qcow2/qcow2.h"
#include "img/bitmap.h"

int transfer_open_source(struct img *m, const char *arg, const char *format, struct blk_node **out)
{
	struct img_where w;
	int ret = img_where(m, arg, format, IMG_SOURCE, &w);

	if (ret)
		return ret;
	w.o.file.aio = BLK_AIO_THREADS;
	ret = img_open_where(m, &w, out);
	img_where_free(&w);
	return ret;
}

/* Is `path` one of the files that the source is read from? Then making the target would destroy it. */
static int check_not_source(struct transfer *t)
{
	struct stat a, b;

	if (stat(t->dst, &a))
		return 0;
	for (const struct blk_node *n = t->o.src; n; n = n->backing)
		if (n->path && !stat(n->path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return err_set(&t->m->e, -EBUSY, "'%s' is what is read from: not even --force writes over it", t->dst);
	return 0;
}

static int choose_target_size(struct transfer *t)
{
	uint64_t size = t->o.len;
	char text[32];
	int ret = img_keys_size(&t->keys, "size", &size, &t->m->e);

	if (!ret && size < t->o.len)
		ret = err_set(&t->m->e, -EINVAL, "-o size: %" PRIu64 " bytes are fewer than the source's %" PRIu64, size, t->o.len);
	snprintf(text, sizeof(text), "%" PRIu64, size);
	return ret ? ret : img_keys_set(&t->keys, "size", text, &t->m->e);
}

static bool target_exists(const struct transfer *t)
{
	return access(t->dst, F_OK) == 0;
}

static int make_target(struct transfer *t)
{
	struct img *m = t->m;
	int ret = choose_target_size(t);

	t->made = !target_exists(t);
	ret = ret ? ret : check_not_source(t);
	return ret ? ret : img_format_create(m, t->format, t->dst, &t->keys);
}

/* What the image was made with is what it is opened with. */
static const char *target_key(const struct transfer *t)
{
	const char *key = img_keys_get(&t->keys, "key-secret");

	return key ? key : img_keys_get(&t->keys, "encrypt.key-secret");
}

static int open_target(struct transfer *t)
{
	struct img *m = t->m;
	struct img_where w;
	bool share = m->share;
	int ret;

	/* -U is meant for the source. */
	m->share = false;
	ret = img_where(m, t->dst, t->format_name, IMG_WRITE | (t->existing ? 0 : IMG_NAMED), &w);
	m->share = share;
	if (ret)
		return ret;
	w.o.file.aio = BLK_AIO_THREADS;
	w.o.file.reserve = !t->existing;
	if (target_key(t))
		ret = img_where_key(m, &w, 0, target_key(t));
	ret = ret ? ret : img_open_where(m, &w, &t->target);
	img_where_free(&w);
	return ret;
}

/* A new file reads as zeros, but a device has what it had, and an overlay what shows through. */
static bool reads_zero(const struct transfer *t)
{
	const struct blk_node *n = t->target;

	if (t->existing)
		return t->target_is_zero;
	/* What is not written to a LUKS volume reads as noise. */
	if (n->backing || n->i.is_device || (n->format && !strcmp(n->format, "luks")))
		return false;
	return !img_keys_get(&t->keys, "data_file") || t->made;
}

static bool transfer_progress(void *opaque, const struct blk_copy_stats *s)
{
	struct transfer *t = opaque;

	img_progress(t->m, s->handled, s->total);
	return !img_interrupted(t->m);
}

static bool verify_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct transfer *t = opaque;

	img_progress(t->m, done, total);
	return !img_interrupted(t->m);
}

static void say_unreadable(void *opaque, uint64_t off, uint64_t len, int ret)
{
	struct transfer *t = opaque;

	if (!t->m->quiet)
		fprintf(stderr, "lodge img: %s: %" PRIu64 " bytes at %" PRIu64 " cannot be read (%s) and become zeros\n", t->m->v->name,
			len, off, strerror(-ret));
}

static bool holds_bitmaps(struct blk_node *n)
{
	struct qcow2_info i;

	if (!n->format || strcmp(n->format, "qcow2") != 0)
		return false;
	qcow2_get_info(n, &i);
	return i.version > 2;
}

static int check_fits(struct transfer *t)
{
	struct err *e = &t->m->e;
	const struct blk_node *n = t->target;

	if (n->i.size < t->o.dst_off + t->o.len)
		return err_set(e, -ENOSPC, "'%s' has %" PRIu64 " bytes, too few for the source's %" PRIu64 ": enlarge it first "
			       "(lodge img resize)", t->dst, n->i.size, t->o.len);
	if (t->o.compress && !n->i.can_compress)
		return err_set(e, -ENOTSUP, "-c: an image like '%s' cannot hold compressed data: qcow2 images without data file or encryption can",
			       t->dst);
	if (t->bitmaps && !holds_bitmaps(t->target))
		return err_set(e, -ENOTSUP, "--bitmaps: '%s' cannot hold bitmaps: qcow2 images of version 3 can", t->dst);
	return 0;
}

static int copy_into_target(struct transfer *t)
{
	struct img *m = t->m;
	int ret = check_fits(t);

	if (ret)
		return ret;
	t->o.dst = t->target;
	t->o.target_zero = reads_zero(t);
	t->o.progress = transfer_progress;
	t->o.unreadable = say_unreadable;
	t->o.opaque = t;
	ret = blk_copy_run(&t->o, &t->stats, &m->e);
	if (ret == -ECANCELED)
		return img_interrupted(m);
	if (!ret && t->bitmaps && (ret = img_bitmaps_copy(m, t->o.src, t->target)))
		return ret;
	if (!ret && (ret = blk_flush(t->target)))
		err_set(&m->e, ret, "'%s' cannot be completed: %s", t->dst, strerror(-ret));
	return ret;
}

/* What is on the disk, not what this host's memory has of it, if the file system lets us read past that. */
static int verify_target(struct transfer *t)
{
	struct img *m = t->m;
	struct blk_compare_opts o = { .a = t->o.src, .a_off = t->o.src_off, .b_off = t->o.dst_off, .len = t->o.len,
				      .progress = verify_progress, .opaque = t };
	const char *const key = target_key(t);
	struct blk_image_opts io = { .format = t->target_format, .trust = m->trust,
				     .file = { .read_only = true, .cache = BLK_CACHE_NONE }, .secrets = m->secrets, .keys = &key,
				     .n_keys = key ? 1 : 0 };
	enum blk_difference found;
	uint64_t at;
	int ret;

	if (blk_open_image(m->loop, t->dst, &io, &t->target, &m->e)) {
		io.file.cache = BLK_CACHE_WRITEBACK;
		ret = blk_open_image(m->loop, t->dst, &io, &t->target, &m->e);
		if (ret)
			return err_prefix(&m->e, ret, "reading again");
	}
	o.b = t->target;
	ret = blk_compare(&o, &found, &at, &m->e);
	if (ret == -ECANCELED)
		return img_interrupted(m);
	if (!ret && found != BLK_SAME)
		ret = err_set(&m->e, -EIO, "'%s' is not what was written to it, first at byte %" PRIu64 ": do not trust this storage",
			      t->dst, at);
	return ret;
}

static int print_result(struct transfer *t)
{
	struct img *m = t->m;
	json_t *j;

	if (t->stats.unreadable && !m->json && !m->quiet)
		fprintf(stderr, "lodge img: %s: %" PRIu64 " bytes could not be read and are zeros in '%s'\n", m->v->name,
			t->stats.unreadable, t->dst);
	if (!m->json)
		return 0;
	j = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "filename", t->dst, "format", t->target_format, "copied",
		      (json_int_t)t->o.len, "data", (json_int_t)t->stats.data, "zeroes", (json_int_t)t->stats.zeroes,
		      "unreadable", (json_int_t)t->stats.unreadable, "verified", t->verify);
	return img_json_print(m, j);
}

static int make_or_open(struct transfer *t)
{
	int ret;

	if (t->existing && !target_exists(t))
		return err_set(&t->m->e, -ENOENT, "'%s' does not exist: without -n it is made", t->dst);
	ret = t->existing ? check_not_source(t) : make_target(t);
	if (ret) {
		t->made = false;
		return ret;
	}
	ret = open_target(t);
	if (!ret)
		t->target_format = strdup(t->target->format ? t->target->format : "raw");
	return !ret && !t->target_format ? err_set(&t->m->e, -ENOMEM, "out of memory") : ret;
}

/* What an unfinished run leaves: nothing that was not there before. */
static void undo(struct transfer *t, int ret)
{
	const char *data = img_keys_get(&t->keys, "data_file");
	char *path = data && t->made ? blk_relative_path(t->dst, data) : NULL;

	if (t->made)
		unlink(t->dst);
	else
		err_prefix(&t->m->e, ret, "'%s' is not complete", t->dst);
	if (path)
		unlink(path);
	free(path);
}

int transfer_run(struct transfer *t)
{
	struct img *m = t->m;
	bool started = false;
	int ret;

	if (!m->cache)
		m->cache = t->verify ? "writeback" : "unsafe";
	ret = make_or_open(t);
	/* Nobody would tell bar from result. */
	m->progress = m->progress && !m->json;
	if (!ret) {
		started = true;
		ret = copy_into_target(t);
	}
	blk_close(t->target);
	t->target = NULL;
	img_progress_end(m, !ret);
	if (!ret && t->verify)
		ret = verify_target(t);
	blk_close(t->target);
	t->target = NULL;
	if (ret && (started || t->made))
		undo(t, ret);
	return ret ? ret : print_result(t);
}

void transfer_free(struct transfer *t)
{
	img_keys_free(&t->keys);
	free(t->target_format);
}
