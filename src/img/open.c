// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From an argument to a block node.
 *
 * An argument is the name of a file or block device.  With --image-opts it is a
 * list: driver= (or format=) the format, file.filename= (or filename=, file=) the
 * file, cache.direct= and cache.no-flush=, backing=folder|on|off, key-secret= (or
 * encrypt.key-secret=) the key; with "backing." in front, once for each file down,
 * that of a backing file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "img/img.h"

int img_cache_mode(const char *name, struct blk_open_opts *o, struct err *e)
{
	static const struct {
		const char *name;
		enum blk_cache cache;
	} modes[] = {
		{ "writeback", BLK_CACHE_WRITEBACK }, { "none", BLK_CACHE_NONE }, { "off", BLK_CACHE_NONE },
		{ "writethrough", BLK_CACHE_WRITETHROUGH }, { "unsafe", BLK_CACHE_UNSAFE },
		/* Direct I/O; nothing of a tool's run is complete before its last flush anyway. */
		{ "directsync", BLK_CACHE_NONE },
	};

	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		if (!strcmp(name, modes[i].name)) {
			o->cache = modes[i].cache;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "cache mode '%.40s' is not one of writeback, none, writethrough, directsync, unsafe", name);
}

/* What --image-opts knows. */
static const char *const where_keys[] = {
	"driver", "format", "file.driver", "file.filename", "filename", "file", "cache.direct", "cache.no-flush", "backing",
	"read-only", "force-share", "key-secret", "encrypt.key-secret", NULL,
};

static const char *first_of(const struct img_keys *k, const char *a, const char *b, const char *c)
{
	const char *v = img_keys_get(k, a);

	v = v || !b ? v : img_keys_get(k, b);
	return v || !c ? v : img_keys_get(k, c);
}

static int where_flags(const struct img_keys *k, struct img_where *w, struct err *e)
{
	static const char *const trusts[] = { "folder", "off", "on", NULL };
	bool direct = false, no_flush = false, share = w->o.file.no_lock;
	unsigned trust = w->o.trust;
	int ret = img_keys_bool(k, "cache.direct", &direct, e);

	ret = ret ? ret : img_keys_bool(k, "cache.no-flush", &no_flush, e);
	ret = ret ? ret : img_keys_bool(k, "force-share", &share, e);
	ret = ret ? ret : img_keys_word(k, "backing", trusts, &trust, e);
	if (ret)
		return ret;
	if (share && !w->o.file.read_only)
		return err_set(e, -EINVAL, "force-share=on is for reading: this verb writes");
	w->o.file.no_lock = share;
	w->o.trust = trust;
	if (direct)
		w->o.file.cache = BLK_CACHE_NONE;
	else if (no_flush)
		w->o.file.cache = BLK_CACHE_UNSAFE;
	return 0;
}

int img_where_key(struct img *m, struct img_where *w, unsigned depth, const char *id)
{
	if (depth >= IMG_MAX_KEYS)
		return err_set(&m->e, -E2BIG, "keys can be given for %d files of a chain", IMG_MAX_KEYS);
	free(w->key[depth]);
	w->key[depth] = strdup(id);
	w->n_keys = MAX(w->n_keys, depth + 1);
	return w->key[depth] ? 0 : err_set(&m->e, -ENOMEM, "out of memory");
}

/* "backing.backing.encrypt.key-secret" and the like: 1 if the key is one of these. */
static int where_secret(struct img *m, const struct img_key_value *kv, struct img_where *w)
{
	const char *key = kv->key;
	unsigned depth = 0;
	int ret;

	for (; !strncmp(key, "backing.", 8); key += 8)
		depth++;
	if (!strcmp(key, "encrypt.format"))
		return !strcmp(kv->val, "luks") ? 1 : err_set(&m->e, -ENOTSUP, "--image-opts: encrypt.format=%.40s: only luks is known "
							      "here", kv->val);
	if (strcmp(key, "key-secret") != 0 && strcmp(key, "encrypt.key-secret") != 0)
		return 0;
	ret = img_where_key(m, w, depth, kv->val);
	return ret ? ret : 1;
}

static int where_from_keys(struct img *m, const char *arg, struct img_where *w, struct err *e)
{
	struct img_keys k = { 0 };
	const char *driver, *path, *file_driver;
	int ret = img_keys_add(&k, arg, e);

	for (unsigned i = 0; i < k.n && !ret; i++) {
		int known = where_secret(m, &k.kv[i], w);

		if (known < 0)
			ret = known;
		for (unsigned j = 0; where_keys[j]; j++)
			known = known || !strcmp(k.kv[i].key, where_keys[j]);
		if (!known)
			ret = err_set(e, -EINVAL, "--image-opts: '%.40s' is not known here%s", k.kv[i].key,
				      img_suggest(k.kv[i].key, where_keys));
	}
	driver = first_of(&k, "driver", "format", NULL);
	path = first_of(&k, "file.filename", "filename", "file");
	file_driver = img_keys_get(&k, "file.driver");
	if (!ret && !path)
		ret = err_set(e, -EINVAL, "--image-opts: file.filename=FILE is missing in '%.80s'", arg);
	if (!ret && file_driver && strcmp(file_driver, "file") != 0 && strcmp(file_driver, "host_device") != 0)
		ret = err_set(e, -ENOTSUP, "--image-opts: file.driver=%.40s is not known here: file and host_device are", file_driver);
	/* driver=file is the file as it is. */
	if (driver && (!strcmp(driver, "file") || !strcmp(driver, "host_device")))
		driver = "raw";
	ret = ret ? ret : where_flags(&k, w, e);
	if (!ret && path) {
		w->path = strdup(path);
		w->format = driver ? strdup(driver) : NULL;
		if (!w->path || (driver && !w->format))
			ret = err_set(e, -ENOMEM, "out of memory");
	}
	img_keys_free(&k);
	return ret;
}

int img_where(struct img *m, const char *arg, const char *format, unsigned how, struct img_where *w)
{
	const char *cache = how & IMG_SOURCE ? m->src_cache : m->cache;
	int ret = 0;

	*w = (struct img_where){ .o = { .trust = m->trust, .no_backing = how & IMG_NO_BACKING, .no_key = how & IMG_NO_KEY,
					.luks_by_looks = true,
					.backing_writable = how & IMG_BACKING_WRITE ? 1 : 0 } };
	w->o.file.read_only = !(how & IMG_WRITE);
	w->o.file.no_lock = (m->share && w->o.file.read_only) || (how & IMG_NO_LOCK);
	if (m->share && (how & IMG_WRITE))
		return err_set(&m->e, -EINVAL, "-U is for reading: two writers would destroy image '%.200s'", arg);
	if (cache)
		ret = img_cache_mode(cache, &w->o.file, &m->e);
	if (!ret && m->image_opts && !(how & IMG_NAMED)) {
		if (format)
			return err_set(&m->e, -EINVAL, "--image-opts says the format with driver=, not with -f");
		ret = where_from_keys(m, arg, w, &m->e);
	} else if (!ret) {
		if (!strncmp(arg, "file:", 5) && access(arg, F_OK))
			arg += 5;
		w->path = strdup(arg);
		w->format = format ? strdup(format) : NULL;
		if (!w->path || (format && !w->format))
			ret = err_set(&m->e, -ENOMEM, "out of memory");
	}
	if (ret)
		img_where_free(w);
	return ret;
}

void img_where_free(struct img_where *w)
{
	free(w->path);
	free(w->format);
	for (unsigned i = 0; i < IMG_MAX_KEYS; i++)
		free(w->key[i]);
	memset(w->key, 0, sizeof(w->key));
	w->n_keys = 0;
	w->path = w->format = NULL;
}

int img_open_where(struct img *m, const struct img_where *w, struct blk_node **out)
{
	struct blk_image_opts o = w->o;
	const char *keys[IMG_MAX_KEYS];

	for (unsigned i = 0; i < IMG_MAX_KEYS; i++)
		keys[i] = w->key[i];
	if (!o.file.read_only)
		img_hold_signals();
	o.format = w->format;
	o.secrets = m->secrets;
	o.keys = keys;
	o.n_keys = w->n_keys;
	o.no_key = o.no_key && !w->n_keys;
	return blk_open_image(m->loop, w->path, &o, out, &m->e);
}

int img_open(struct img *m, const char *arg, const char *format, unsigned how, struct blk_node **out)
{
	struct img_where w;
	int ret = img_where(m, arg, format, how, &w);

	if (ret)
		return ret;
	ret = img_open_where(m, &w, out);
	img_where_free(&w);
	return ret;
}

/* A device holds data if it begins with anything. */
static bool device_holds_data(const char *path)
{
	static uint8_t first[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, first, sizeof(first), 0);

	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < n; i++)
		if (first[i])
			return true;
	/* What cannot be read is not known to be empty. */
	return n < 0;
}

int img_check_free(const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	if (S_ISREG(st.st_mode) && st.st_size)
		return err_set(e, -EEXIST, "'%s' exists and holds %llu bytes, which would be lost: choose another name, or say --force",
			       path, (unsigned long long)st.st_size);
	if (S_ISBLK(st.st_mode) && device_holds_data(path))
		return err_set(e, -EEXIST, "device '%s' is not empty, and what it holds would be lost: choose another, or say --force",
			       path);
	return 0;
}
