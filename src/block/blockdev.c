/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptions of nodes: what all of them have, children by name or described in
 * place, and the walk over a graph.  See blockdev.h.
 */
#include "block/blockdev.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/blockdev_int.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"

static const char *const common_keys[] = {
	"driver", "node-name", "discard", "cache", "read-only", "auto-read-only", "force-share", "detect-zeroes", NULL,
};

/* ---- members ---- */

static int wrong(const char *key, const char *expected, struct err *e)
{
	return err_set(e, -EINVAL, "Invalid parameter type for '%s', expected: %s", key, expected);
}

int blockdev_bool(const json_t *v, const char *key, bool *out, struct err *e)
{
	const char *s = json_string_value(v);

	if (json_is_boolean(v))
		*out = json_is_true(v);
	else if (s && (!strcmp(s, "on") || !strcmp(s, "true") || !strcmp(s, "yes")))
		*out = true;
	else if (s && (!strcmp(s, "off") || !strcmp(s, "false") || !strcmp(s, "no")))
		*out = false;
	else
		return s ? err_set(e, -EINVAL, "Parameter '%s' expects 'on' or 'off'", key) : wrong(key, "boolean", e);
	return 0;
}

int blockdev_number(const json_t *v, const char *key, uint64_t max, uint64_t *out, struct err *e)
{
	static const char units[] = "bkmgtpe";
	const char *s = json_string_value(v), *u;
	json_int_t n = json_integer_value(v);
	char *end = NULL;

	if (s) {
		errno = 0;
		n = strtoll(s, &end, 0);
		u = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
		if (end == s || errno || (*end && (!u || end[1])))
			return err_set(e, -EINVAL, "Parameter '%s' expects a size", key);
		if (u && __builtin_mul_overflow(n, 1ll << (10 * (u - units)), &n))
			n = -1;
	} else if (!json_is_integer(v)) {
		return wrong(key, "integer", e);
	}
	if (n < 0 || (uint64_t)n > max)
		return err_set(e, -EINVAL, "Parameter '%s' expects a number from 0 to %llu", key, (unsigned long long)max);
	*out = (uint64_t)n;
	return 0;
}

int opening_text(const struct opening *o, const char *key, const char **out)
{
	const json_t *v = json_object_get(o->d, key);

	if (!v)
		return 0;
	*out = json_string_value(v);
	return *out ? 0 : wrong(key, "string", o->e);
}

int opening_need(const struct opening *o, const char *key, const char **out)
{
	*out = NULL;
	return json_object_get(o->d, key) ? opening_text(o, key, out) : err_set(o->e, -EINVAL, "Parameter '%s' is missing", key);
}

int opening_bool(const struct opening *o, const char *key, bool *out)
{
	const json_t *v = json_object_get(o->d, key);

	return v ? blockdev_bool(v, key, out, o->e) : 0;
}

int opening_number(const struct opening *o, const char *key, uint64_t max, uint64_t *out)
{
	const json_t *v = json_object_get(o->d, key);

	return v ? blockdev_number(v, key, max, out, o->e) : 0;
}

/* ---- names ---- */

int blockdev_check_name(const char *name, struct err *e)
{
	bool good = isalpha((unsigned char)*name);

	for (const char *p = name; *p && good; p++)
		good = isalnum((unsigned char)*p) || strchr("-._", *p);
	if (!good)
		return err_set(e, -EINVAL, "Invalid node-name: '%.60s'", name);
	return strlen(name) <= BLK_NAME_MAX ? 0 : err_set(e, -EINVAL, "Node name too long");
}

static int take_name(struct opening *o, const char **name)
{
	int ret = opening_text(o, "node-name", name);

	if (ret || !*name)
		return ret;
	ret = blockdev_check_name(*name, o->e);
	if (!ret && o->c->name_taken(o->c->opaque, *name))
		ret = err_set(o->e, -EEXIST, "Duplicate nodes with node-name='%s'", *name);
	return ret;
}

/* ---- what all have ---- */

static bool in_list(const char *const *list, const char *key)
{
	for (; *list; list++)
		if (!strcmp(*list, key))
			return true;
	return false;
}

static int check_keys(struct opening *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o->d, key, v)
		if (!in_list(common_keys, key) && !in_list(o->drv->keys, key))
			return err_set(o->e, -EINVAL, "Parameter '%.80s' is unexpected", key);
	return 0;
}

static int take_cache(struct opening *o)
{
	const json_t *in = json_object_get(o->d, "cache");
	bool direct = o->file.cache == BLK_CACHE_NONE, no_flush = o->file.cache == BLK_CACHE_UNSAFE;
	const json_t *v;
	int ret = 0;

	if (in && !json_is_object(in))
		return wrong("cache", "object", o->e);
	if ((v = json_object_get(in, "direct")))
		ret = blockdev_bool(v, "cache.direct", &direct, o->e);
	if (!ret && (v = json_object_get(in, "no-flush")))
		ret = blockdev_bool(v, "cache.no-flush", &no_flush, o->e);
	o->file.cache = no_flush ? BLK_CACHE_UNSAFE : direct ? BLK_CACHE_NONE : BLK_CACHE_WRITEBACK;
	return ret;
}

/* What a node may be asked to do with what is written, and cannot do here. */
static int check_writes(struct opening *o, bool *no_discard)
{
	const char *discard = NULL, *zeroes = NULL;
	int ret = opening_text(o, "discard", &discard);

	ret = ret ? ret : opening_text(o, "detect-zeroes", &zeroes);
	if (ret)
		return ret;
	*no_discard = discard && (!strcmp(discard, "ignore") || !strcmp(discard, "off"));
	if (discard && !*no_discard && strcmp(discard, "unmap") && strcmp(discard, "on"))
		return err_set(o->e, -EINVAL, "Parameter 'discard' does not accept value '%.40s'", discard);
	if (zeroes && strcmp(zeroes, "off"))
		return err_set(o->e, -ENOTSUP, "detect-zeroes=%.20s is not supported: off is", zeroes);
	return 0;
}

static int take_common(struct opening *o, bool *no_discard)
{
	bool share = false;
	int ret = check_keys(o);

	ret = ret ? ret : take_cache(o);
	ret = ret ? ret : opening_bool(o, "read-only", &o->file.read_only);
	ret = ret ? ret : opening_bool(o, "auto-read-only", &o->auto_read_only);
	ret = ret ? ret : opening_bool(o, "force-share", &share);
	if (!ret && share && !o->file.read_only)
		ret = err_set(o->e, -EINVAL, "force-share=on can only be used with read-only images");
	o->file.no_lock |= share;
	return ret ? ret : check_writes(o, no_discard);
}

static int open_description(struct opening *o, struct blk_node **out)
{
	const char *driver, *name = NULL;
	bool no_discard = false;
	int ret;

	if (!json_is_object(o->d))
		return err_set(o->e, -EINVAL, "a description of a node is an object");
	if (o->depth > BLOCKDEV_DEPTH)
		return err_set(o->e, -E2BIG, "more than %d descriptions in each other", BLOCKDEV_DEPTH);
	ret = opening_need(o, "driver", &driver);
	if (ret)
		return ret;
	o->drv = blockdev_find_driver(driver);
	if (!o->drv)
		return err_set(o->e, -ENOTSUP, "Unknown driver '%.40s'", driver);
	ret = take_name(o, &name);
	ret = ret ? ret : take_common(o, &no_discard);
	ret = ret ? ret : o->drv->open(o, out);
	if (ret)
		return ret;
	/* A child may have taken it meanwhile. */
	if (name && o->c->name_taken(o->c->opaque, name))
		ret = err_set(o->e, -EEXIST, "Duplicate nodes with node-name='%s'", name);
	if (ret) {
		blk_close(*out);
		return ret;
	}
	snprintf((*out)->name, sizeof((*out)->name), "%s", name ? name : "");
	if (no_discard)
		(*out)->i.can_discard = false;
	return 0;
}

int blockdev_open(const struct blockdev_context *c, const json_t *description, struct blk_node **out, struct err *e)
{
	struct opening o = { .c = c, .d = description, .e = e };

	return open_description(&o, out);
}

/* ---- children ---- */

/* As the inside of a format, or as contents of their own; through what only passes requests on. */
static void set_open_ended(struct blk_node *n, bool on)
{
	for (; n; n = n->file) {
		bool passes = n->drv->filter || blk_is_window(n);

		if (passes || !n->file)
			n->open_ended = on;
		if (!passes)
			return;
	}
}

/* It cannot be one thing for those who use it, and another for who comes; and what a format has in memory of it must hold. */
static int check_used(const struct blk_node *n, bool inside, struct err *e)
{
	bool either = n->drv->filter || blk_is_window(n) || !n->file;

	if (either && n->open_ended != inside)
		return err_set(e, -EBUSY, "Node '%s' is busy: it is in use as %s", n->name, inside ? "a disk" : "what a format is stored in");
	return inside && !n->i.read_only ? err_set(e, -EBUSY, "Node '%s' is busy: another format writes to it", n->name) : 0;
}

static bool may_be_inside(const struct blk_node *n)
{
	for (; n->file; n = n->file)
		if (!n->drv->filter && !blk_is_window(n) && strcmp(n->drv->name, "luks"))
			return false;
	return true;
}

static int open_for_writing(struct blk_node *n, struct err *e)
{
	const struct blk_reopen how = { .read_only = false };
	const struct blk_node *x = n;

	while (x->file && !x->auto_read_only)
		x = x->file;
	return n->i.read_only && x->auto_read_only ? blk_reopen(n, &how, e) : 0;
}

/* Of a child that has just been taken on.  One that is used stays as it is. */
static int fit(const struct opening *o, struct blk_node *n, bool inside, bool writes, bool used)
{
	const struct blk_reopen how = { .read_only = true };
	int ret = 0;

	if (inside && !may_be_inside(n) && writes)
		return err_set(o->e, -ENOTSUP, "%s cannot be stored in %s here, but for reading only", o->drv->name, blockdev_driver_of(n));
	if (used)
		return check_used(n, inside, o->e);
	if (writes)
		ret = open_for_writing(n, o->e);
	else if (!n->i.read_only)
		ret = blk_reopen(n, &how, o->e);
	if (!ret && writes && n->i.read_only && !o->auto_read_only)
		ret = err_set(o->e, -EROFS, "Block node is read-only");
	if (ret)
		return ret;
	if (!inside)
		return blockdev_as_image(n, writes, o->e);
	if (may_be_inside(n))
		set_open_ended(n, true);
	return 0;
}

int opening_child(const struct opening *o, const char *key, bool inside, bool writes, struct blk_node **out)
{
	const json_t *v = json_object_get(o->d, key);
	struct opening below = { .c = o->c, .d = v, .depth = o->depth + 1, .inside = inside, .file = o->file,
				 .auto_read_only = o->auto_read_only, .e = o->e };
	bool used = false;
	int ret = 0;

	*out = NULL;
	if (!v)
		return err_set(o->e, -EINVAL, "Parameter '%s' is missing", key);
	below.file.read_only = !writes;
	if (json_is_string(v)) {
		*out = o->c->child(o->c->opaque, json_string_value(v), writes, &used, o->e);
		if (!*out)
			return -EINVAL;
	} else {
		ret = open_description(&below, out);
	}
	ret = ret ? ret : fit(o, *out, inside, writes, used);
	if (ret) {
		blk_close(*out);
		*out = NULL;
	}
	return ret;
}

int blockdev_as_image(struct blk_node *n, bool writes, struct err *e)
{
	int ret = writes ? open_for_writing(n, e) : 0;

	if (ret)
		return ret;
	if (n->i.size < BLK_SECTOR)
		return err_set(e, -EINVAL, "'%s' is %llu bytes long: a disk has at least one sector of %d bytes", n->path ? n->path : n->name,
			       (unsigned long long)n->i.size, BLK_SECTOR);
	set_open_ended(n, false);
	return 0;
}

/* ---- looking at a graph ---- */

const char *blockdev_driver_of(const struct blk_node *n)
{
	const char *name = n->format ? n->format : n->drv->name;

	if (!strcmp(name, "file") && n->i.is_device)
		return "host_device";
	if (!strcmp(name, "fault"))
		return "blkdebug";
	return name;
}

bool blockdev_each(struct blk_node *n, bool (*fn)(void *opaque, struct blk_node *n), void *opaque)
{
	struct blk_node *data;

	/* Chains are long, what is beside them is not. */
	for (; n; n = n->backing) {
		data = n->format && !strcmp(n->format, "qcow2") ? qcow2_data_file(n) : NULL;
		if (fn(opaque, n) || (n->file && blockdev_each(n->file, fn, opaque)) || (data && blockdev_each(data, fn, opaque)))
			return true;
	}
	return false;
}

/* ---- limits ---- */

static int set_limit(struct blk_throttle_opts *o, const char *key, uint64_t v)
{
	bool ops = !strncmp(key, "iops-", 5);
	struct blk_rate *r = ops ? o->ops : o->bytes;
	const char *of = key + (ops ? 5 : 4), *rest;

	if (!strcmp(key, "iops-size"))
		return o->op_size = v, 0;
	if (!ops && strncmp(key, "bps-", 4))
		return -EINVAL;
	r += !strncmp(of, "read", 4) ? BLK_RATE_READ : !strncmp(of, "write", 5) ? BLK_RATE_WRITE : BLK_RATE_TOTAL;
	if (r == (ops ? o->ops : o->bytes) && strncmp(of, "total", 5))
		return -EINVAL;
	rest = of + strcspn(of, "-");
	if (!*rest)
		r->avg = v;
	else if (!strcmp(rest, "-max"))
		r->max = v;
	else if (!strcmp(rest, "-max-length"))
		r->length = (unsigned)MIN(v, 3600u);
	else
		return -EINVAL;
	return 0;
}

static int take_limits(const json_t *members, bool prefixed, struct blk_throttle_opts *out, struct err *e)
{
	const char *key;
	uint64_t n = 0;
	json_t *v;
	int ret;

	json_object_foreach((json_t *)(uintptr_t)members, key, v) {
		if (prefixed && strncmp(key, "x-", 2))
			continue;
		ret = blockdev_number(v, key, INT64_MAX, &n, e);
		if (!ret && set_limit(out, prefixed ? key + 2 : key, n))
			ret = err_set(e, -EINVAL, "Parameter '%.60s' is unexpected", key);
		if (ret)
			return ret;
	}
	return 0;
}

int blockdev_limits(const json_t *object, struct blk_throttle_opts *out, struct err *e)
{
	const json_t *limits = json_object_get(object, "limits");
	int ret = limits && !json_is_object(limits) ? wrong("limits", "object", e) : take_limits(limits, false, out, e);

	ret = ret ? ret : take_limits(object, true, out, e);
	/* A burst of a second is what none is. */
	for (unsigned i = 0; i < 3; i++) {
		out->bytes[i].length = out->bytes[i].length == 1 && !out->bytes[i].max ? 0 : out->bytes[i].length;
		out->ops[i].length = out->ops[i].length == 1 && !out->ops[i].max ? 0 : out->ops[i].length;
	}
	return ret ? ret : blk_throttle_check(out, e);
}
