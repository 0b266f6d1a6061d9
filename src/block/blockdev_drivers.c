/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each driver makes of a description: protocols, formats, filters.  A function
 * here opens its children first, which are its own until they stand below the node
 * that it makes.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/blockdev_int.h"
#include "block/foreign/foreign.h"
#include "block/luks/luks.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

#define KEYS(...) { __VA_ARGS__, NULL }

/* ---- protocols ---- */

static int take_aio(struct opening *o)
{
	const char *aio = NULL;
	int ret = opening_text(o, "aio", &aio);

	if (ret)
		return ret;
	if (aio && !strcmp(aio, "threads"))
		o->file.aio = BLK_AIO_THREADS;
	else if (aio && !strcmp(aio, "io_uring"))
		o->file.aio = BLK_AIO_URING;
	else if (aio && strcmp(aio, "native"))
		return err_set(o->e, -EINVAL, "Parameter 'aio' does not accept value '%.40s'", aio);
	return 0;
}

static int take_locking(struct opening *o)
{
	const char *locking = NULL;
	int ret = opening_text(o, "locking", &locking);

	if (ret)
		return ret;
	if (locking && !strcmp(locking, "off"))
		o->file.no_lock = true;
	else if (locking && strcmp(locking, "on") && strcmp(locking, "auto"))
		return err_set(o->e, -EINVAL, "Parameter 'locking' does not accept value '%.40s'", locking);
	return 0;
}

/* One that may be opened for reading only is, until somebody wants to write. */
static int open_file(struct opening *o, struct blk_node **out)
{
	const char *name;
	int ret = opening_need(o, "filename", &name);

	ret = ret ? ret : take_aio(o);
	ret = ret ? ret : take_locking(o);
	if (ret)
		return ret;
	o->file.open_ended = true;
	o->file.read_only |= o->auto_read_only;
	if (!strncmp(name, "file:", 5))
		name += 5;
	ret = blk_open_file(o->c->loop, name, &o->file, out, o->e);
	if (!ret)
		(*out)->auto_read_only = o->auto_read_only;
	return ret;
}

/* What cannot be in a URI as it is, as %XX. */
static void put_escaped(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~/", *text))
			fputc(*text, f);
		else
			fprintf(f, "%%%02X", (unsigned)(unsigned char)*text);
	}
}

/* The members of a socket's address, inside of `server` or beside it. */
static int nbd_uri(struct opening *o, FILE *f)
{
	const json_t *s = json_object_get(o->d, "server"), *from = s ? s : o->d;
	const char *type = json_string_value(json_object_get(s, "type")), *path = json_string_value(json_object_get(from, "path"));
	const char *host = json_string_value(json_object_get(from, "host")), *port = json_string_value(json_object_get(from, "port"));
	const char *export = NULL;
	int ret = opening_text(o, "export", &export);

	if (ret)
		return ret;
	if (s && !json_is_object(s))
		return err_set(o->e, -EINVAL, "Invalid parameter type for 'server', expected: object");
	if (s && !type)
		return err_set(o->e, -EINVAL, "Parameter 'server.type' is missing");
	if (type && strcmp(type, "unix") && strcmp(type, "inet"))
		return err_set(o->e, -ENOTSUP, "Parameter 'server.type' does not accept value '%.40s'", type);
	if ((type && !strcmp(type, "unix")) || (!type && path)) {
		if (!path)
			return err_set(o->e, -EINVAL, "Parameter 'server.path' is missing");
		fputs("nbd+unix:///", f);
		put_escaped(f, export ? export : "");
		fputs("?socket=", f);
		put_escaped(f, path);
		return 0;
	}
	if (!host)
		return err_set(o->e, -EINVAL, "Parameter 'server.host' is missing");
	if (!port && json_object_get(from, "port"))
		return err_set(o->e, -EINVAL, "Invalid parameter type for 'server.port', expected: string");
	if (strpbrk(host, "/?#@%") || (port && port[strspn(port, "0123456789")]))
		return err_set(o->e, -EINVAL, "'%.60s:%.20s' is no host and port number", host, port ? port : "");
	fprintf(f, strchr(host, ':') ? "nbd://[%s]:%s/" : "nbd://%s:%s/", host, port ? port : "10809");
	put_escaped(f, export ? export : "");
	return 0;
}

static int open_uri(struct opening *o, const char *uri, struct blk_node **out)
{
	o->file.open_ended = true;
	return blk_open_protocol(o->c->loop, uri, &o->file, false, out, o->e);
}

static int open_nbd(struct opening *o, struct blk_node **out)
{
	char *uri = NULL;
	size_t len;
	FILE *f = open_memstream(&uri, &len);
	int ret = f ? nbd_uri(o, f) : -ENOMEM;

	if (f && fclose(f) && !ret)
		ret = err_set(o->e, -ENOMEM, "out of memory");
	ret = ret ? ret : open_uri(o, uri, out);
	/* A server that lets nobody write. */
	if (ret == -EROFS && o->auto_read_only) {
		o->file.read_only = true;
		ret = open_uri(o, uri, out);
	}
	free(uri);
	return ret;
}

static int open_http(struct opening *o, struct blk_node **out)
{
	const char *url;
	int ret = opening_need(o, "url", &url);

	if (!ret && (strncasecmp(url, o->drv->name, strlen(o->drv->name)) || strncmp(url + strlen(o->drv->name), "://", 3)))
		ret = err_set(o->e, -EINVAL, "https or http: the driver '%s' takes URLs that begin with it", o->drv->name);
	o->file.read_only |= o->auto_read_only;
	return ret ? ret : open_uri(o, url, out);
}

static int open_null(struct opening *o, struct blk_node **out)
{
	uint64_t size = BIT64(30);
	bool zeroes = true;
	char uri[64];
	int ret = opening_number(o, "size", INT64_MAX & ~(BLK_SECTOR - 1ull), &size);

	ret = ret ? ret : opening_bool(o, "read-zeroes", &zeroes);
	snprintf(uri, sizeof(uri), "null-co://%llu", (unsigned long long)align_down(size, BLK_SECTOR));
	return ret ? ret : open_uri(o, uri, out);
}

/* ---- formats ---- */

/* The file below a format, opened as the format is to be. */
static int child_file(struct opening *o, struct blk_node **out)
{
	return opening_child(o, "file", true, !o->file.read_only, out);
}

/* The format stands on its file, or was not opened. */
static int opened(struct blk_node *file, int ret)
{
	if (ret)
		blk_close(file);
	return ret;
}

static int open_raw(struct opening *o, struct blk_node **out)
{
	uint64_t offset = 0, size = 0;
	struct blk_node *file;
	int ret = opening_number(o, "offset", INT64_MAX, &offset);

	ret = ret ? ret : opening_number(o, "size", INT64_MAX, &size);
	ret = ret ? ret : opening_child(o, "file", o->inside, !o->file.read_only, &file);
	if (ret)
		return ret;
	ret = opened(file, blk_window_new(file, offset, size, out, o->e));
	if (!ret)
		(*out)->open_ended = o->inside;
	return ret;
}

static int take_key(struct opening *o, const json_t *from, const char *shown, const char **key)
{
	*key = json_string_value(json_object_get(from, "key-secret"));
	return *key ? 0 : err_set(o->e, -EINVAL, "Parameter '%s' is required for cipher", shown);
}

static int open_luks(struct opening *o, struct blk_node **out)
{
	struct blk_image_opts io = { .file = o->file, .secrets = o->c->secrets, .n_keys = 1, .trust = BLK_TRUST_NONE };
	struct blk_node *file;
	const char *key;
	int ret = take_key(o, o->d, "key-secret", &key);

	ret = ret ? ret : child_file(o, &file);
	if (ret)
		return ret;
	io.keys = &key;
	return opened(file, luks_open(file, &io, 0, out, o->e));
}

static int take_qcow2_key(struct opening *o, struct blk_image_opts *io, const char **keys)
{
	const json_t *encrypt = json_object_get(o->d, "encrypt");
	const char *format = json_string_value(json_object_get(encrypt, "format"));
	int ret;

	if (!encrypt)
		return 0;
	if (!json_is_object(encrypt) || !format)
		return err_set(o->e, -EINVAL, "Parameter 'encrypt.format' is missing");
	if (strcmp(format, "luks"))
		return err_set(o->e, -ENOTSUP, "Parameter 'encrypt.format' does not accept value '%.40s'", format);
	ret = take_key(o, encrypt, "encrypt.key-secret", &keys[0]);
	/* Layers below have theirs, or none. */
	io->keys = keys;
	io->n_keys = 2;
	return ret;
}

/* Bounds of caches: the larger number counts, rows of it being of one kind or another. */
static int take_cache_size(struct opening *o, uint64_t *bytes)
{
	uint64_t all = 0, l2 = 0, refcounts = 0, other = 0;
	bool flag = false;
	int ret = opening_number(o, "cache-size", BIT64(40), &all);

	ret = ret ? ret : opening_number(o, "l2-cache-size", BIT64(40), &l2);
	ret = ret ? ret : opening_number(o, "refcount-cache-size", BIT64(40), &refcounts);
	ret = ret ? ret : opening_number(o, "cache-clean-interval", INT64_MAX, &other);
	ret = ret ? ret : opening_number(o, "l2-cache-entry-size", INT64_MAX, &other);
	ret = ret ? ret : opening_bool(o, "lazy-refcounts", &flag);
	ret = ret ? ret : opening_bool(o, "pass-discard-request", &flag);
	ret = ret ? ret : opening_bool(o, "pass-discard-snapshot", &flag);
	ret = ret ? ret : opening_bool(o, "pass-discard-other", &flag);
	*bytes = MAX(all, l2 + refcounts);
	return ret;
}

static bool is_none(const json_t *v)
{
	return json_is_null(v) || (json_is_string(v) && !*json_string_value(v));
}

/* The backing image that the description has instead of the one that the image names. */
static int plug_backing(struct opening *o, struct blk_node *n)
{
	struct blk_node *backing;
	int ret = opening_child(o, "backing", false, false, &backing);

	return ret ? ret : opened(backing, qcow2_plug_backing(n, backing, NULL));
}

static int open_qcow2(struct opening *o, struct blk_node **out)
{
	const json_t *backing = json_object_get(o->d, "backing");
	struct blk_image_opts io = { .file = o->file, .secrets = o->c->secrets, .trust = o->c->trust, .no_backing = backing != NULL };
	const char *keys[2] = { NULL, NULL };
	struct blk_node *file = NULL;
	int ret = take_qcow2_key(o, &io, keys);

	ret = ret ? ret : take_cache_size(o, &io.cache_bytes);
	ret = ret ? ret : child_file(o, &file);
	if (!ret && json_object_get(o->d, "data-file"))
		ret = opening_child(o, "data-file", true, !file->i.read_only, &io.data_file);
	io.file.open_ended = false;
	io.file.read_only = file ? file->i.read_only : true;
	ret = ret ? ret : qcow2_open(file, &io, 0, out, o->e);
	if (ret) {
		blk_close(io.data_file);
		blk_close(file);
		return ret;
	}
	if (backing && !is_none(backing))
		ret = plug_backing(o, *out);
	if (ret)
		blk_close(*out);
	return ret;
}

static int open_foreign(struct opening *o, struct blk_node **out)
{
	struct blk_image_opts io = { .file = o->file, .trust = o->c->trust };
	struct blk_node *file;
	int ret;

	io.file.read_only = o->file.read_only |= o->auto_read_only;
	ret = child_file(o, &file);
	return ret ? ret : opened(file, foreign_open(o->drv->name, file, &io, 0, out, o->e));
}

/* ---- filters ---- */

static int child_filtered(struct opening *o, const char *key, struct blk_node **out)
{
	return opening_child(o, key, o->inside, !o->file.read_only, out);
}

static int open_throttle(struct opening *o, struct blk_node **out)
{
	struct blk_throttle_group *group;
	struct blk_node *file;
	const char *id;
	int ret = opening_need(o, "throttle-group", &id);

	if (ret)
		return ret;
	group = o->c->group(o->c->opaque, id);
	if (!group)
		return err_set(o->e, -ENOENT, "Throttle group '%.60s' does not exist", id);
	ret = child_filtered(o, "file", &file);
	return ret ? ret : opened(file, blk_throttle_new_in(file, group, out, o->e));
}

static int open_copy_on_read(struct opening *o, struct blk_node **out)
{
	struct blk_node *file;
	int ret = child_filtered(o, "file", &file);

	return ret ? ret : opened(file, blk_copy_on_read_new(file, out, o->e));
}

static int error_ops(struct opening *o, const json_t *rule, unsigned *ops)
{
	static const struct {
		const char *event, *type;
		unsigned ops;
	} words[] = {
		{ "read_aio", "read", BIT(BLK_READ) }, { "write_aio", "write", BIT(BLK_WRITE) },
		{ "none", "write-zeroes", BIT(BLK_WRITE_ZEROES) }, { "none", "discard", BIT(BLK_DISCARD) },
		{ "flush_to_disk", "flush", BIT(BLK_FLUSH) }, { "flush_to_os", "flush", BIT(BLK_FLUSH) }, { "none", "block-status", BIT(BLK_STATUS) },
	};
	const char *event = json_string_value(json_object_get(rule, "event")), *type = json_string_value(json_object_get(rule, "iotype"));
	bool known = false;

	*ops = 0;
	if (!event)
		return err_set(o->e, -EINVAL, "Parameter 'inject-error[].event' is missing");
	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		if (type ? !strcmp(type, words[i].type) : !strcmp(event, words[i].event) && strcmp(event, "none"))
			*ops |= words[i].ops;
		known |= !strcmp(event, words[i].event);
	}
	if (!known)
		return err_set(o->e, -ENOTSUP, "inject-error: the event '%.40s' is not known here: read_aio, write_aio, flush_to_disk, flush_to_os and "
			       "none are", event);
	return type && !*ops ? err_set(o->e, -EINVAL, "Parameter 'iotype' does not accept value '%.40s'", type) : 0;
}

static int add_error(struct opening *o, struct blk_node *n, const json_t *rule)
{
	struct blk_fault f = { .error = EIO };
	uint64_t no = EIO, sector = UINT64_MAX;
	const json_t *v;
	int ret = error_ops(o, rule, &f.ops);

	if (!ret && (v = json_object_get(rule, "errno")))
		ret = blockdev_number(v, "errno", 4095, &no, o->e);
	if (!ret && (v = json_object_get(rule, "sector")) && json_integer_value(v) != -1)
		ret = blockdev_number(v, "sector", INT64_MAX / BLK_SECTOR - 1, &sector, o->e);
	if (!ret && (v = json_object_get(rule, "once")))
		ret = blockdev_bool(v, "once", &f.once, o->e);
	if (!ret && json_object_get(rule, "state"))
		ret = err_set(o->e, -ENOTSUP, "inject-error: states are not supported");
	if (ret)
		return ret;
	f.error = (int)no;
	if (sector != UINT64_MAX) {
		f.from = sector * BLK_SECTOR;
		f.to = f.from + BLK_SECTOR;
	}
	return blk_fault_add(n, &f) ? err_set(o->e, -ENOMEM, "out of memory") : 0;
}

static int open_blkdebug(struct opening *o, struct blk_node **out)
{
	const json_t *rules = json_object_get(o->d, "inject-error");
	struct blk_node *file;
	json_t *rule;
	size_t i;
	int ret;

	if (rules && !json_is_array(rules))
		return err_set(o->e, -EINVAL, "Invalid parameter type for 'inject-error', expected: array");
	ret = child_filtered(o, "image", &file);
	ret = ret ? ret : opened(file, blk_fault_new(file, out));
	if (ret)
		return ret;
	json_array_foreach((json_t *)(uintptr_t)rules, i, rule)
		ret = ret ? ret : add_error(o, *out, rule);
	if (ret)
		blk_close(*out);
	return ret;
}

/* ---- all of them ---- */

const char *const blockdev_drivers[] = { "file", "host_device", "host_cdrom", "nbd", "http", "https", "null-co", "null-aio", "raw", "qcow2", "luks",
					 "vmdk", "vdi", "vhdx", "vpc", "throttle", "copy-on-read", "blkdebug", NULL };

#define FILE_KEYS KEYS("filename", "aio", "locking")

const struct blockdev_driver *blockdev_find_driver(const char *name)
{
	static const struct blockdev_driver all[] = {
		{ "file", FILE_KEYS, open_file },
		{ "host_device", FILE_KEYS, open_file },
		{ "host_cdrom", FILE_KEYS, open_file },
		{ "nbd", KEYS("server", "export", "path", "host", "port"), open_nbd },
		{ "http", KEYS("url"), open_http },
		{ "https", KEYS("url"), open_http },
		{ "null-co", KEYS("size", "read-zeroes"), open_null },
		{ "null-aio", KEYS("size", "read-zeroes"), open_null },
		{ "raw", KEYS("file", "offset", "size"), open_raw },
		{ "qcow2", KEYS("file", "backing", "data-file", "encrypt", "cache-size", "l2-cache-size", "refcount-cache-size", "cache-clean-interval",
				"l2-cache-entry-size", "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other"), open_qcow2 },
		{ "luks", KEYS("file", "key-secret"), open_luks },
		{ "vmdk", KEYS("file"), open_foreign },
		{ "vdi", KEYS("file"), open_foreign },
		{ "vhdx", KEYS("file"), open_foreign },
		{ "vpc", KEYS("file"), open_foreign },
		{ "throttle", KEYS("file", "throttle-group"), open_throttle },
		{ "copy-on-read", KEYS("file"), open_copy_on_read },
		{ "blkdebug", KEYS("image", "inject-error"), open_blkdebug },
	};

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		if (!strcmp(all[i].name, name))
			return &all[i];
	return NULL;
}
