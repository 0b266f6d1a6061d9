// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img info: what an image says about itself.
 *
 * All is put into a JSON object with qemu-img's names; the text for people is
 * printed from it.  Only the layer asked for is opened; --backing-chain opens one
 * after the other, as far as it may.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bits.h"
#include "base/text.h"
#include "block/protocol.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"
#include "img/img.h"
#include "img/info.h"
#include "img/luks.h"
#include "img/verbs.h"

#define MAX_CHAIN 200

static int set_text(json_t *j, const char *key, const char *text)
{
	/* Names in images are bytes; JSON is UTF-8. */
	json_t *s = json_string(text);

	if (!s) {
		char *plain = strdup(text);

		for (char *p = plain; p && *p; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		s = plain ? json_string(plain) : NULL;
		free(plain);
	}
	return json_object_set_new(j, key, s);
}

static int set_number(json_t *j, const char *key, uint64_t n)
{
	return json_object_set_new(j, key, json_integer((json_int_t)n));
}

static int set_bool(json_t *j, const char *key, bool b)
{
	return json_object_set_new(j, key, json_boolean(b));
}

/* Bytes the file occupies on the host; nothing where there is no such file, as behind a URI. */
static int set_occupied(json_t *j, const char *path)
{
	struct stat st;

	if (!path || blk_is_uri(path) || stat(path, &st))
		return 0;
	return set_number(j, "actual-size", (uint64_t)st.st_blocks * 512);
}

static json_t *bitmap_json(const struct qcow2_bitmap *b)
{
	json_t *o = json_object(), *flags = json_array();
	int bad = json_object_set_new(o, "flags", flags);

	if (b->in_use)
		bad |= json_array_append_new(flags, json_string("in-use"));
	if (b->recording)
		bad |= json_array_append_new(flags, json_string("auto"));
	bad |= set_text(o, "name", b->name);
	bad |= set_number(o, "granularity", b->granularity);
	if (!bad)
		return o;
	json_decref(o);
	return NULL;
}

static int describe_bitmaps(struct img *m, json_t *data, struct blk_node *n)
{
	struct qcow2_bitmap *b;
	unsigned count;
	json_t *list;
	int ret = qcow2_bitmap_list(n, &b, &count, &m->e), bad = 0;

	if (ret)
		return ret;
	list = json_array();
	for (unsigned i = 0; i < count; i++)
		bad |= json_array_append_new(list, bitmap_json(&b[i]));
	qcow2_bitmaps_free(b, count);
	return json_object_set_new(data, "bitmaps", list) || bad ? err_set(&m->e, -ENOMEM, "out of memory") : 0;
}

static int describe_qcow2(json_t *j, const struct qcow2_info *i)
{
	json_t *data = json_object();
	int bad = set_text(data, "compat", i->version == 2 ? "0.10" : "1.1");

	bad |= set_text(data, "compression-type", i->compression == QCOW2_ZSTD ? "zstd" : "zlib");
	if (i->version > 2) {
		bad |= set_bool(data, "lazy-refcounts", i->lazy_refcounts);
		bad |= set_number(data, "refcount-bits", i->refcount_bits);
		if (i->data_file) {
			bad |= set_text(data, "data-file", i->data_file);
			bad |= set_bool(data, "data-file-raw", i->data_file_raw);
		}
		bad |= set_bool(data, "corrupt", i->corrupt);
		bad |= set_bool(data, "extended-l2", i->extended_l2);
	} else {
		bad |= set_number(data, "refcount-bits", i->refcount_bits);
	}
	if (i->encryption) {
		json_t *luks = img_luks_json(i->encryption);

		bad |= json_object_set_new(data, "encrypt", luks);
		bad |= luks && set_text(luks, "format", "luks");
	}
	bad |= json_object_set_new(j, "format-specific", json_pack("{s:s, s:o}", "type", "qcow2", "data", data));
	return bad;
}

json_t *img_snapshots_json(const struct qcow2_snapshot *s, unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		json_t *o = json_object();
		int bad = set_text(o, "id", s[i].id);

		bad |= set_text(o, "name", s[i].name);
		bad |= set_number(o, "vm-state-size", s[i].vm_state_size);
		bad |= set_number(o, "date-sec", s[i].date_sec);
		bad |= set_number(o, "date-nsec", s[i].date_nsec);
		bad |= set_number(o, "vm-clock-sec", s[i].vm_clock_ns / 1000000000);
		bad |= set_number(o, "vm-clock-nsec", s[i].vm_clock_ns % 1000000000);
		if (json_array_append_new(list, o) || bad) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static int describe_names(struct img *m, json_t *j, struct blk_node *n, const struct qcow2_info *i)
{
	char *full;
	int bad;

	if (!i->backing)
		return 0;
	full = blk_relative_path(n->path, i->backing);
	bad = !full || set_text(j, "full-backing-filename", full);
	free(full);
	bad |= set_text(j, "backing-filename", i->backing);
	if (i->backing_format)
		bad |= set_text(j, "backing-filename-format", i->backing_format);
	return bad;
}

static int describe_snapshots(struct img *m, json_t *j, struct blk_node *n)
{
	struct qcow2_snapshot *s;
	unsigned count;
	json_t *list;
	int ret = qcow2_snapshot_list(n, &s, &count, &m->e);

	if (ret)
		return ret;
	list = img_snapshots_json(s, count);
	qcow2_snapshots_free(s, count);
	return json_object_set_new(j, "snapshots", list) ? -ENOMEM : 0;
}

int img_describe(struct img *m, struct blk_node *n, json_t **out)
{
	struct qcow2_info q = { 0 };
	json_t *j = json_object();
	int bad = set_text(j, "filename", n->path), ret = 0;

	bad |= set_text(j, "format", n->format ? n->format : n->drv->name);
	bad |= set_number(j, "virtual-size", n->i.size);
	if (n->format && !strcmp(n->format, "qcow2")) {
		qcow2_get_info(n, &q);
		bad |= set_number(j, "cluster-size", q.cluster_size);
		bad |= describe_names(m, j, n, &q);
		bad |= describe_qcow2(j, &q);
		if (q.n_snapshots)
			ret = describe_snapshots(m, j, n);
		if (q.n_bitmaps && !ret)
			ret = describe_bitmaps(m, json_object_get(json_object_get(j, "format-specific"), "data"), n);
	} else if (n->i.cluster && n->format && strcmp(n->format, "raw") != 0)
		bad |= set_number(j, "cluster-size", n->i.cluster);
	if (n->format && !strcmp(n->format, "luks"))
		bad |= json_object_set_new(j, "format-specific", json_pack("{s:s, s:o}", "type", "luks", "data",
									   img_luks_json(luks_get_info(n))));
	if (n->i.encrypted)
		bad |= set_bool(j, "encrypted", true);
	bad |= set_occupied(j, n->path);
	bad |= set_bool(j, "dirty-flag", q.dirty);
	if (!ret && !bad) {
		*out = j;
		return 0;
	}
	json_decref(j);
	return ret ? ret : err_set(&m->e, -ENOMEM, "out of memory");
}

/* ---- for people ---- */

static const char *text_of(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static uint64_t number_of(const json_t *j, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(j, key));
}

static int plain_string(json_t *j)
{
	char *s = strdup(json_string_value(j));
	int ret = s ? json_string_set(j, text_plain(s, "")) : -1;

	free(s);
	return ret ? -ENOMEM : 0;
}

/* The tree is one of ours: what is foreign are the strings. */
int img_plain(json_t *j)
{
	const char *key;
	json_t *v;
	size_t i;
	int ret = json_is_string(j) ? plain_string(j) : 0;

	json_object_foreach(j, key, v)
		ret = ret ? ret : img_plain(v);
	json_array_foreach(j, i, v)
		ret = ret ? ret : img_plain(v);
	return ret;
}

void img_snapshots_print(const json_t *list)
{
	char size[32], date[32] = "?", clock[32];
	const json_t *s;
	struct tm tm;
	size_t i;

	printf("%-10s%-17s%8s%20s%13s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK");
	json_array_foreach(list, i, s) {
		time_t sec = (time_t)number_of(s, "date-sec");
		uint64_t vm = number_of(s, "vm-clock-sec");

		if (localtime_r(&sec, &tm))
			strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		snprintf(clock, sizeof(clock), "%02llu:%02u:%02u.%03u", (unsigned long long)(vm / 3600), (unsigned)(vm / 60 % 60),
			 (unsigned)(vm % 60), (unsigned)(number_of(s, "vm-clock-nsec") / 1000000));
		printf("%-9s %-16s %8s%20s%13s\n", text_of(s, "id"), text_of(s, "name"),
		       img_size_text(number_of(s, "vm-state-size"), size, sizeof(size)), date, clock);
	}
}

static void print_value(const json_t *v, int indent);

static void print_object(const json_t *data, int indent)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)data, key, v) {
		printf("%*s", indent, "");
		for (const char *p = key; *p; p++)
			putchar(*p == '-' ? ' ' : *p);
		print_value(v, indent);
	}
}

/* What follows a name, with the end of its line. */
static void print_value(const json_t *v, int indent)
{
	const json_t *element;
	size_t i;

	if (json_is_object(v)) {
		printf(":\n");
		print_object(v, indent + 4);
	} else if (json_is_array(v)) {
		printf(":\n");
		json_array_foreach(v, i, element) {
			printf("%*s[%zu]", indent + 4, "", i);
			print_value(element, indent + 4);
		}
	} else if (json_is_string(v)) {
		printf(": %s\n", json_string_value(v));
	} else if (json_is_boolean(v)) {
		printf(": %s\n", json_is_true(v) ? "true" : "false");
	} else {
		printf(": %lld\n", (long long)json_integer_value(v));
	}
}

static void print_specific(const json_t *data)
{
	printf("Format specific information:\n");
	print_object(data, 4);
}

static void print_backing(const json_t *j)
{
	const char *name = text_of(j, "backing-filename"), *full = text_of(j, "full-backing-filename");

	if (!name)
		return;
	printf("backing file: %s", name);
	if (full && strcmp(full, name) != 0)
		printf(" (actual path: %s)", full);
	putchar('\n');
	if (text_of(j, "backing-filename-format"))
		printf("backing file format: %s\n", text_of(j, "backing-filename-format"));
}

static void print_info(const json_t *j)
{
	const json_t *specific = json_object_get(j, "format-specific"), *snaps = json_object_get(j, "snapshots");
	char a[32], b[32];

	printf("image: %s\nfile format: %s\n", text_of(j, "filename"), text_of(j, "format"));
	printf("virtual size: %s (%llu bytes)\n", img_size_text(number_of(j, "virtual-size"), a, sizeof(a)),
	       (unsigned long long)number_of(j, "virtual-size"));
	printf("disk size: %s\n", json_object_get(j, "actual-size") ? img_size_text(number_of(j, "actual-size"), b, sizeof(b)) : "unavailable");
	if (json_is_true(json_object_get(j, "encrypted")))
		printf("encrypted: yes\n");
	if (number_of(j, "cluster-size"))
		printf("cluster_size: %llu\n", (unsigned long long)number_of(j, "cluster-size"));
	if (json_is_true(json_object_get(j, "dirty-flag")))
		printf("cleanly shut down: no\n");
	print_backing(j);
	if (snaps) {
		printf("Snapshot list:\n");
		img_snapshots_print(snaps);
	}
	if (specific)
		print_specific(json_object_get(specific, "data"));
}

/* ---- the chain ---- */

struct chain {
	json_t *list;
	struct {
		dev_t dev;
		ino_t ino;
	} seen[MAX_CHAIN];
	unsigned n;
};

static int add_once(struct img *m, struct chain *ch, const char *path)
{
	struct stat st;

	if (ch->n == MAX_CHAIN)
		return err_set(&m->e, -ELOOP, "'%s': more than %d backing files", path, MAX_CHAIN);
	if (stat(path, &st))
		return 0;	/* opening it says more */
	for (unsigned i = 0; i < ch->n; i++)
		if (ch->seen[i].dev == st.st_dev && ch->seen[i].ino == st.st_ino)
			return err_set(&m->e, -ELOOP, "backing file '%s' is above itself in the chain: an endless loop", path);
	ch->seen[ch->n].dev = st.st_dev;
	ch->seen[ch->n++].ino = st.st_ino;
	return 0;
}

/* One layer; what it names becomes w, if *more is wanted and there is any. */
static int chain_layer(struct img *m, struct chain *ch, struct img_where *w, bool *more)
{
	struct qcow2_info q = { 0 };
	struct blk_node *n;
	json_t *j;
	bool probed = !w->format;
	char *path = NULL, *format = NULL;
	int ret = add_once(m, ch, w->path);

	ret = ret ? ret : img_open_where(m, w, &n);
	if (ret)
		return ret;
	ret = img_describe(m, n, &j);
	if (!ret && json_array_append_new(ch->list, j))
		ret = err_set(&m->e, -ENOMEM, "out of memory");
	if (!ret && n->format && !strcmp(n->format, "qcow2"))
		qcow2_get_info(n, &q);
	*more = !ret && *more && q.backing;
	/* As when the whole is opened: a backing file that had to be probed names nothing by itself. */
	if (*more && probed && ch->n > 1 && w->o.trust == BLK_TRUST_FOLDER)
		w->o.trust = BLK_TRUST_NONE;
	if (*more)
		ret = blk_named_path(n->path, q.backing, w->o.trust, &path, &m->e);
	if (!ret && *more && q.backing_format && *q.backing_format && !(format = strdup(q.backing_format)))
		ret = err_set(&m->e, -ENOMEM, "out of memory");
	blk_close(n);
	img_where_free(w);
	w->path = path;
	w->format = format;
	return ret;
}

static int print_all(struct img *m, const struct chain *ch, bool chain)
{
	size_t i;
	json_t *j;

	if (m->json && chain)
		return img_json_print(m, json_incref(ch->list));
	json_array_foreach(ch->list, i, j) {
		if (m->json)
			return img_json_print(m, json_incref(j));
		if (i)
			putchar('\n');
		if (img_plain(j))
			return err_set(&m->e, -ENOMEM, "out of memory");
		print_info(j);
	}
	return 0;
}

static const struct img_opt info_opts[] = {
	{ 'c', 0, "backing-chain", NULL, "the backing files too, one after the other", NULL },
	{ 0 },
};

static int run_info(struct img *m)
{
	struct chain ch = { .list = json_array() };
	struct img_where w = { 0 };
	bool chain = false, more;
	const char *val;
	int id, ret;

	while ((id = img_next(m, &val)) > 0)
		chain = true;
	ret = id ? id : img_operands(m, 1, 1);
	ret = ret ? ret : img_where(m, m->operand[0], m->format, IMG_NO_BACKING | IMG_NO_KEY, &w);
	for (more = chain; !ret;) {
		ret = chain_layer(m, &ch, &w, &more);
		if (!more)
			break;
	}
	img_where_free(&w);
	ret = ret ? ret : print_all(m, &ch, chain);
	json_decref(ch.list);
	return ret;
}

const struct img_verb img_verb_info = {
	.name = "info",
	.summary = "Tells what an image is.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_OPEN | IMG_OPT_CACHE,
	.opts = info_opts,
	.run = run_info,
};
