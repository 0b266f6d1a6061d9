/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From options to a disk: see disk.h. */
#include "block/disk.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"

#define MAX_NAME 40
#define MAX_BURST 3600

static int parse_number(const char *name, const char *text, uint64_t *out, struct err *e)
{
	static const char units[] = "kmgt";
	const char *unit;
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	unit = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
	if (!isdigit((unsigned char)*text) || errno || (*end && (!unit || end[1])) ||
	    (unit && mul_overflows(*out, BIT64(10 * (unit - units + 1)), out)) || *out > INT64_MAX)
		return err_set(e, -EINVAL, "%s=%.40s: that is not a number; K, M, G and T (1024) may follow one", name, text);
	return 0;
}

/* "-rd", "-wr" or nothing, then "-max", "-max-length" or nothing. */
static struct blk_rate *find_rate(struct blk_rate rates[3], const char *rest, const char **after)
{
	enum blk_rate_of of = BLK_RATE_TOTAL;

	if (!strncmp(rest, "-rd", 3) || !strncmp(rest, "-read", 5))
		of = BLK_RATE_READ;
	if (!strncmp(rest, "-wr", 3) || !strncmp(rest, "-write", 6))
		of = BLK_RATE_WRITE;
	if (of != BLK_RATE_TOTAL)
		rest += strcspn(rest + 1, "-") + 1;
	else if (!strncmp(rest, "-total", 6))
		rest += 6;
	*after = rest;
	return &rates[of];
}

static int set_rate(struct blk_rate rates[3], const char *name, const char *rest, const char *value, struct err *e)
{
	const char *after;
	struct blk_rate *r = find_rate(rates, rest, &after);
	uint64_t n;
	int ret;

	if (*after && strcmp(after, "-max") != 0 && strcmp(after, "-max-length") != 0)
		return -ENOENT;
	ret = parse_number(name, value, &n, e);
	if (ret)
		return ret;
	if (!*after)
		r->avg = n;
	else if (!strcmp(after, "-max"))
		r->max = n;
	else if (n < 1 || n > MAX_BURST)
		return err_set(e, -EINVAL, "%s=%.40s: a burst lasts 1 to %d seconds", name, value, MAX_BURST);
	else
		r->length = (unsigned)n;
	return 0;
}

int blk_disk_option(struct blk_disk_opts *o, const char *full, const char *value, struct err *e)
{
	const char *given = strncmp(full, "throttling.", 11) ? full : full + 11;
	char name[MAX_NAME];

	snprintf(name, sizeof(name), "%s", given);
	for (char *p = name; *p; p++)
		*p = *p == '_' ? '-' : *p;
	if (!strcmp(name, "copy-on-read")) {
		if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
			return err_set(e, -EINVAL, "copy-on-read=%.40s: write on or off", value);
		o->copy_on_read = !strcmp(value, "on");
		return 0;
	}
	if (!strcmp(name, "throttle-group") || (!strcmp(name, "group") && given != full)) {
		if (!*value)
			return err_set(e, -EINVAL, "%s=: a group has a name", full);
		o->group = value;
		return 0;
	}
	if (!strcmp(name, "iops-size"))
		return parse_number(full, value, &o->throttle.op_size, e);
	if (!strncmp(name, "iops", 4))
		return set_rate(o->throttle.ops, full, name + 4, value, e);
	if (!strncmp(name, "bps", 3))
		return set_rate(o->throttle.bytes, full, name + 3, value, e);
	return -ENOENT;
}

int blk_disk_check(const struct blk_disk_opts *o, const struct blk_image_opts *io, struct err *e)
{
	if (o->copy_on_read && io->file.read_only)
		return err_set(e, -EINVAL, "copy-on-read writes to the image: it does not go with a read-only disk");
	return blk_throttle_check(&o->throttle, e);
}

/* An empty qcow2 image of the size in a file without a name. */
static int open_unnamed(struct loop *l, uint64_t size, struct blk_node **out, struct err *e)
{
	const struct blk_open_opts fo = { .open_ended = true, .no_lock = true, .cache = BLK_CACHE_UNSAFE };
	const struct blk_image_opts io = { .format = "qcow2", .no_backing = true, .trust = BLK_TRUST_NONE, .file = fo };
	const struct qcow2_create_opts co = { .size = size };
	const char *dir = getenv("TMPDIR");
	struct blk_node *file = NULL;
	char path[PATH_MAX];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/lodge-disk-XXXXXX", dir && *dir ? dir : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "a temporary file for what is written to the disk, '%s': %s", path, strerror(errno));
	ret = blk_open_file(l, path, &fo, &file, e);
	unlink(path);
	close(fd);
	ret = ret ? ret : qcow2_create(file, &co, e);
	ret = ret ? ret : qcow2_open(file, &io, 0, out, e);
	if (ret)
		blk_close(file);
	return ret;
}

static int put_overlay(struct blk_node *image, struct blk_node **out, struct err *e)
{
	struct blk_node *layer;
	int ret = open_unnamed(image->loop, image->i.size, &layer, e);

	if (ret)
		return ret;
	ret = qcow2_plug_backing(layer, image, NULL);
	if (ret) {
		blk_close(layer);
		return err_set(e, ret, "a temporary layer over disk '%s': %s", image->path, strerror(-ret));
	}
	*out = layer;
	return 0;
}

static bool is_qcow2(const struct blk_node *n)
{
	return n->format && !strcmp(n->format, "qcow2");
}

/* The image, at a snapshot inside it and below a temporary layer if that is asked for. */
static int open_layers(struct loop *l, const char *path, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		       struct blk_node **out, struct err *e)
{
	struct blk_image_opts below = *io;
	struct blk_node *n;
	int ret;

	below.file.read_only |= o->temporary;
	below.file.no_lock |= o->temporary && o->inside;
	ret = blk_open_image(l, path, &below, &n, e);
	if (ret)
		return ret;
	if (o->temporary && n->i.encrypted)
		ret = err_set(e, -ENOTSUP, "disk '%s' is encrypted, and a temporary layer over it would not be", path);
	else if (o->inside && !is_qcow2(n))
		ret = err_set(e, -ENOTSUP, "disk '%s': only qcow2 images have snapshots inside", path);
	else if (o->inside)
		ret = (o->temporary ? qcow2_snapshot_view : qcow2_snapshot_apply)(n, o->inside, e);
	*out = n;
	if (!ret && o->temporary)
		ret = put_overlay(n, out, e);
	if (ret)
		blk_close(n);
	return ret;
}

int blk_disk_on(struct blk_node *n, const struct blk_disk_opts *o, struct blk_node **out, struct err *e)
{
	struct blk_node *top = n;
	int ret = o->copy_on_read ? blk_copy_on_read_new(top, &top, e) : 0;

	if (!ret && o->shared)
		ret = blk_throttle_new_in(top, o->shared, &top, e);
	else if (!ret && blk_throttle_wanted(&o->throttle))
		ret = blk_throttle_new(top, &o->throttle, &top, e);
	if (!ret && blk_slot_new(top, out))
		ret = err_set(e, -ENOMEM, "out of memory while opening disk '%s'", n->path ? n->path : "");
	/* The node stays the caller's. */
	while (ret && top != n) {
		struct blk_node *filter = top;

		top = filter->file;
		blk_ref(top);
		blk_close(filter);
	}
	return ret;
}

int blk_open_disk(struct loop *l, const char *path, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		  struct blk_node **out, struct err *e)
{
	struct blk_node *n;
	int ret = path ? open_layers(l, path, io, o, &n, e) : blk_open_empty(l, &n);

	if (ret)
		return path ? ret : err_set(e, ret, "out of memory for an empty drive");
	ret = blk_disk_on(n, o, out, e);
	if (ret)
		blk_close(n);
	return ret;
}
