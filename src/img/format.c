// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Formats that can be made, with the options of -o.  A format's create() gets a
 * path whose file exists, empty and its own; what goes wrong removes it again.
 */
#include "img/img.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/qcow2/qcow2.h"
#include "img/luks.h"

static int disk_size(const struct img_keys *k, uint64_t *size, struct err *e)
{
	int ret = img_keys_size(k, "size", size, e);

	if (ret)
		return ret;
	if (*size > (uint64_t)INT64_MAX - 511)
		return err_set(e, -ERANGE, "size: a disk of %llu bytes is too large", (unsigned long long)*size);
	*size = align_up(*size, BLK_SECTOR);
	return 0;
}

/* ---- raw ---- */

#define FILL (1u << 20)

static const struct img_key raw_keys[] = {
	{ "size", "size", "size of the disk" },
	{ "preallocation", "off|falloc|full", "full: zeros are written; falloc: the file system reserves the room" },
	{ NULL },
};

/* Zeros all over, so that the room is there whatever the file system thinks of it. */
static int fill_with_zeros(struct img *m, struct blk_node *n)
{
	uint8_t *zeros = aligned_alloc(4096, FILL);
	int ret = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, FILL);
	for (uint64_t at = 0; at < n->i.size && !ret; at += FILL) {
		img_progress(m, at, n->i.size);
		if (img_interrupted(m)) {
			free(zeros);
			return -EINTR;
		}
		ret = blk_pwrite(n, at, zeros, MIN(FILL, n->i.size - at));
	}
	free(zeros);
	ret = ret ? ret : blk_flush(n);
	return ret ? err_set(&m->e, ret, "'%s' cannot be filled: %s", n->path, strerror(-ret)) : 0;
}

static int raw_create(struct img *m, const char *path, const struct img_keys *k)
{
	static const char *const modes[] = { "off", "falloc", "full", NULL };
	struct blk_open_opts o = { .open_ended = true };
	struct blk_node *n;
	unsigned mode = 0;
	uint64_t size = 0;
	int ret = disk_size(k, &size, &m->e);

	ret = ret ? ret : img_keys_word(k, "preallocation", modes, &mode, &m->e);
	ret = ret || !m->cache ? ret : img_cache_mode(m->cache, &o, &m->e);
	ret = ret ? ret : blk_open_file(m->loop, path, &o, &n, &m->e);
	if (ret)
		return ret;
	if (n->i.is_device && n->i.size < size)
		ret = err_set(&m->e, -ENOSPC, "device '%s' has %llu bytes, too few for a disk of %llu", path,
			      (unsigned long long)n->i.size, (unsigned long long)size);
	else if (!n->i.is_device && size)
		ret = blk_resize(n, size, &m->e);
	if (!ret && mode == 1)
		ret = blk_file_reserve(n, &m->e);
	if (!ret && mode == 2)
		ret = fill_with_zeros(m, n);
	blk_close(n);
	return ret;
}

static const struct img_format format_raw = { .name = "raw", .keys = raw_keys, .create = raw_create };

/* ---- qcow2 ---- */

static const struct img_key qcow2_keys[] = {
	{ "size", "size", "size of the disk" },
	{ "backing_file", "FILE", "what shows through where the image has nothing" },
	{ "backing_fmt", "raw|qcow2", "its format" },
	{ "cluster_size", "size", "unit of allocation: 512 to 2M, default 64K" },
	{ "compat", "0.10|v2|1.1|v3", "version of the format, default 1.1" },
	{ "compression_type", "zlib|zstd", "of compressed clusters, default zlib" },
	{ "encrypt.format", "luks", "the contents are encrypted" },
	{ "encrypt.key-secret", "ID", "with this passphrase: --object secret,id=ID,file=FILE" },
	{ "encrypt.cipher-alg", "aes-128|aes-192|aes-256", "default aes-256" },
	{ "encrypt.cipher-mode", "xts|cbc", "default xts" },
	{ "encrypt.ivgen-alg", "plain64|essiv|plain", "default plain64" },
	{ "encrypt.ivgen-hash-alg", "sha256", "with essiv" },
	{ "encrypt.hash-alg", "sha1|sha256|sha512", "default sha256" },
	{ "encrypt.iter-time", "ms", "time to open the image on a machine like this, default 2000" },
	{ "encrypt.pbkdf-force-iterations", "number", "instead of measuring" },
	{ "data_file", "FILE", "the disk's contents lie in this file, which is made too" },
	{ "data_file_raw", "on|off", "that file alone is the disk, as a raw image" },
	{ "extended_l2", "on|off", "32 subclusters in each cluster" },
	{ "lazy_refcounts", "on|off", "refcounts may be late" },
	{ "preallocation", "off|metadata|falloc|full", "what is there from the beginning" },
	{ "refcount_bits", "number", "width of a refcount: 1, 2, 4 ... 64, default 16" },
	{ NULL },
};

int img_qcow2_options(const struct img_keys *k, struct qcow2_create_opts *o, struct err *e)
{
	static const char *const compats[] = { "0.10", "v2", "1.1", "v3", NULL };
	static const char *const types[] = { "zlib", "zstd", NULL };
	static const char *const preallocs[] = { "off", "metadata", "falloc", "full", NULL };
	unsigned compat = 3, type = QCOW2_ZLIB, prealloc = QCOW2_PREALLOC_OFF;
	const char *bits = img_keys_get(k, "refcount_bits");
	uint64_t cluster = 0, rc = 0;
	int ret = disk_size(k, &o->size, e);

	ret = ret ? ret : img_keys_size(k, "cluster_size", &cluster, e);
	ret = ret ? ret : img_keys_word(k, "compat", compats, &compat, e);
	ret = ret ? ret : img_keys_word(k, "compression_type", types, &type, e);
	ret = ret ? ret : img_keys_word(k, "preallocation", preallocs, &prealloc, e);
	ret = ret ? ret : img_keys_bool(k, "extended_l2", &o->extended_l2, e);
	ret = ret ? ret : img_keys_bool(k, "lazy_refcounts", &o->lazy_refcounts, e);
	ret = ret ? ret : img_keys_bool(k, "data_file_raw", &o->data_file_raw, e);
	ret = ret || !bits ? ret : img_number(bits, "refcount_bits", 64, &rc, e);
	if (ret)
		return ret;
	/* Zero would mean the default to those who make it. */
	if (img_keys_get(k, "cluster_size") && (cluster < 512 || cluster > 2u << 20))
		return err_set(e, -EINVAL, "cluster_size: it is a power of two from 512 to 2M");
	if (bits && !rc)
		return err_set(e, -EINVAL, "refcount_bits: it is one of 1, 2, 4, 8, 16, 32, 64");
	o->version = compat < 2 ? 2 : 3;
	o->cluster_size = (uint32_t)cluster;
	o->refcount_bits = (unsigned)rc;
	o->compression = type;
	o->prealloc = prealloc;
	o->backing = img_keys_get(k, "backing_file");
	o->backing_format = img_keys_get(k, "backing_fmt");
	o->data_file = img_keys_get(k, "data_file");
	return 0;
}

/* With encrypt.format=luks; else nothing about encryption may be said. */
static int qcow2_encryption(struct img *m, const struct img_keys *k, struct img_luks *l, struct qcow2_create_opts *o)
{
	const char *format = img_keys_get(k, "encrypt.format");

	for (unsigned i = 0; i < k->n && !format; i++)
		if (!strncmp(k->kv[i].key, "encrypt.", 8))
			return err_set(&m->e, -EINVAL, "-o %.40s: say encrypt.format=luks too", k->kv[i].key);
	if (!format)
		return 0;
	if (strcmp(format, "luks") != 0)
		return err_set(&m->e, -ENOTSUP, "-o encrypt.format=%.40s: only luks is made here", format);
	o->luks = &l->o;
	o->secrets = m->secrets;
	return img_luks_options(k, "encrypt.", l, &m->e);
}

/* The external data file: made anew, unless there is one that would be lost. */
static int make_data_file(struct img *m, const char *path, const char *name, bool *made)
{
	char *data = blk_relative_path(path, name);
	bool existed;
	int ret;

	if (!data)
		return err_set(&m->e, -ENOMEM, "out of memory");
	existed = access(data, F_OK) == 0;
	ret = m->force ? 0 : img_check_free(data, &m->e);
	ret = ret ? ret : blk_create_file(data, existed, &m->e);
	*made = !ret && !existed;
	free(data);
	return ret;
}

static void remove_data_file(const char *path, const char *name)
{
	char *data = blk_relative_path(path, name);

	if (data)
		unlink(data);
	free(data);
}

static int qcow2_make(struct img *m, const char *path, const struct img_keys *k)
{
	struct blk_open_opts fo = { .open_ended = true };
	struct qcow2_create_opts o = { 0 };
	struct img_luks l;
	struct blk_node *file;
	bool made = false;
	int ret = img_qcow2_options(k, &o, &m->e);

	ret = ret ? ret : qcow2_encryption(m, k, &l, &o);
	if (!ret && o.luks)
		o.key = l.key;

	ret = ret || !m->cache ? ret : img_cache_mode(m->cache, &fo, &m->e);
	if (!ret && o.data_file)
		ret = make_data_file(m, path, o.data_file, &made);
	ret = ret ? ret : blk_open_file(m->loop, path, &fo, &file, &m->e);
	if (ret)
		return ret;
	ret = qcow2_create(file, &o, &m->e);
	blk_close(file);
	if (ret && made)
		remove_data_file(path, o.data_file);
	return ret;
}

static const struct img_format format_qcow2 = { .name = "qcow2", .keys = qcow2_keys, .create = qcow2_make };

/* ---- all ---- */

const struct img_format *const img_formats[] = { &format_raw, &format_qcow2, &img_format_luks, NULL };

const struct img_format *img_format_find(const char *name, struct err *e)
{
	const char *names[16] = { NULL };

	for (unsigned i = 0; img_formats[i] && i < 15; i++) {
		if (!strcmp(img_formats[i]->name, name))
			return img_formats[i];
		names[i] = img_formats[i]->name;
	}
	err_set(e, -EINVAL, "images of format '%.40s' cannot be made here%s", name, img_suggest(name, names));
	return NULL;
}

int img_format_check(const struct img_format *f, const struct img_keys *k, struct err *e)
{
	const char *names[64] = { NULL };
	unsigned n = 0;

	for (; f->keys[n].name && n < 63; n++)
		names[n] = f->keys[n].name;
	for (unsigned i = 0; i < k->n; i++) {
		bool known = false;

		for (unsigned j = 0; j < n; j++)
			known = known || !strcmp(k->kv[i].key, names[j]);
		if (!known)
			return err_set(e, -EINVAL, "-o %.40s: a %s image has no such option%s (see -o help)", k->kv[i].key, f->name,
				       img_suggest(k->kv[i].key, names));
	}
	return 0;
}

bool img_format_help(const struct img_format *f, const struct img_keys *k)
{
	if (!img_keys_get(k, "help") && !img_keys_get(k, "?"))
		return false;
	printf("Options of %s images (-o NAME=VALUE,...):\n", f->name);
	for (const struct img_key *key = f->keys; key->name; key++) {
		char left[64];

		snprintf(left, sizeof(left), "%s=%s", key->name, key->type);
		printf("  %-40s %s\n", left, key->help);
	}
	return true;
}

int img_format_create(struct img *m, const struct img_format *f, const char *path, const struct img_keys *k)
{
	bool existed = access(path, F_OK) == 0;
	int ret = img_format_check(f, k, &m->e);

	ret = ret || m->force ? ret : img_check_free(path, &m->e);
	if (ret)
		return ret;
	img_hold_signals();
	ret = blk_create_file(path, existed, &m->e);
	if (ret)
		return ret;
	ret = f->create(m, path, k);
	if (ret && !existed)
		unlink(path);
	return ret;
}
