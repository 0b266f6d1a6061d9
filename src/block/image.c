/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a name to a graph: the file is opened as the inside of a format, probed
 * if nobody said what it is, and the format's driver put on top.  Formats open
 * the files their image names through image_open_named, which asks `trust`.
 */
#include "block/image.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "block/foreign/foreign.h"
#include "block/image_int.h"
#include "block/luks/luks.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"
#include "block/secret.h"

#define MAX_DEPTH 200

/* LUKS is missing on purpose: a guest may encrypt its disk, and such a header names no file. It is looked for where the
 * user gives a key. */
static const struct {
	const char *name;
	size_t off, len;
	const char *magic;
} magics[] = {
	{ "qcow2", 0, 4, "QFI\xfb" },
	{ "qed", 0, 4, "QED\0" },
	{ "vmdk", 0, 4, "KDMV" },
	{ "vmdk", 0, 4, "COWD" },
	{ "vmdk", 0, 21, "# Disk DescriptorFile" },
	{ "vhdx", 0, 8, "vhdxfile" },
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
	{ "vpc", 0, 8, "conectix" },
	{ "parallels", 0, 16, "WithoutFreeSpace" },
	{ "parallels", 0, 16, "WithouFreSpacExt" },
};

const char *blk_probe(const uint8_t *first, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(magics); i++)
		if (len >= magics[i].off + magics[i].len &&
		    !memcmp(first + magics[i].off, magics[i].magic, magics[i].len))
			return magics[i].name;
	return "raw";
}

char *blk_relative_path(const char *base, const char *name)
{
	const char *slash = strrchr(base, '/');
	size_t dir = slash ? (size_t)(slash - base) + 1 : 0;
	char *out;

	if (*name == '/' || !dir)
		return strdup(name);
	out = malloc(dir + strlen(name) + 1);
	if (!out)
		return NULL;
	memcpy(out, base, dir);
	memcpy(out + dir, name, strlen(name) + 1);
	return out;
}

/* Is the real place of `path` in the real folder of `base`, or below? */
static bool same_folder(const char *base, const char *path)
{
	char *a = realpath(base, NULL), *b = realpath(path, NULL);
	bool same = false;

	if (a && b) {
		char *dir = dirname(a);
		size_t len = strlen(dir);

		same = !strncmp(dir, b, len) && (b[len] == '/' || (len == 1 && *dir == '/'));
	}
	free(a);
	free(b);
	return same;
}

/* "nbd:host" and the like: a word and a colon before any slash. */
static bool names_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

/* Only who trusts the image has us talk to servers it chose. */
static int resolve_uri(const char *base, const char *uri, const char *what, enum blk_trust trust, char **out,
		       struct err *e)
{
	if (trust != BLK_TRUST_ALL)
		return err_set(e, -EACCES, "image '%s' names '%s' as its %s, on a server: that is opened only if the user "
			       "says so (backing=on with a disk)", base, uri, what);
	*out = strdup(uri);
	return *out ? 0 : err_set(e, -ENOMEM, "out of memory while opening image '%s'", base);
}

/* A path; one that would be taken for a URI gets ./ in front. */
static char *named_file(const char *base, const char *name)
{
	char *path = blk_relative_path(base, name), *local;

	if (!path || (!blk_is_uri(path) && strncmp(path, "file:", 5) != 0))
		return path;
	if (asprintf(&local, "./%s", path) < 0)
		local = NULL;
	free(path);
	return local;
}

int image_resolve(const char *base, const char *name, const char *what, enum blk_trust trust, char **out, struct err *e)
{
	bool file = !strncmp(name, "file:", 5);
	char *path;
	int ret;

	if (file)
		name += 5;
	else if (blk_is_uri(name))
		return resolve_uri(base, name, what, trust, out, e);
	if (!*name || (!file && names_protocol(name)))
		return err_set(e, -ENOTSUP, "image '%s' names '%s' as its %s, which is not a file", base, name, what);
	path = named_file(base, name);
	if (!path)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", base);
	if (access(path, F_OK)) {
		ret = err_set(e, -errno, "image '%s' names '%s' as its %s: %s", base, path, what, strerror(errno));
	} else if (trust == BLK_TRUST_NONE || (trust == BLK_TRUST_FOLDER && !same_folder(base, path))) {
		ret = err_set(e, -EACCES, "image '%s' names '%s' as its %s, outside its own folder: that is opened only "
			      "if the user says so (backing=on with a disk, --backing on with lodge img)", base, path, what);
	} else {
		*out = path;
		return 0;
	}
	free(path);
	return ret;
}

int blk_named_path(const char *base, const char *name, enum blk_trust trust, char **out, struct err *e)
{
	return image_resolve(base, name, "backing file", trust, out, e);
}

static int raw_on_file(struct blk_node *file, bool probed, struct blk_node **out, struct err *e)
{
	if (file->i.size < BLK_SECTOR)
		return err_set(e, -EINVAL, "disk '%s' is %llu bytes long: a disk has at least one sector of %d bytes",
			       file->path, (unsigned long long)file->i.size, BLK_SECTOR);
	file->open_ended = false;
	file->format = "raw";
	if (!probed || file->i.read_only) {
		*out = file;
		return 0;
	}
	if (blk_raw_guarded(file, out))
		return err_set(e, -ENOMEM, "out of memory while opening disk '%s'", file->path);
	return 0;
}

const char *blk_image_key(const struct blk_image_opts *o, unsigned depth)
{
	return o->n_keys ? o->keys[MIN(depth, o->n_keys - 1)] : NULL;
}

static int probe_file(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, const char **format,
		      struct err *e)
{
	uint8_t first[BLK_SECTOR] = { 0 };
	int ret = blk_pread(file, 0, first, sizeof(first));

	*format = "raw";
	if (ret)
		return err_set(e, ret, "disk '%s' cannot be read: %s", file->path, strerror(-ret));
	*format = blk_probe(first, sizeof(first));
	if ((o->no_key || o->luks_by_looks || blk_image_key(o, depth)) && !memcmp(first, "LUKS\xba\xbe", 6))
		*format = "luks";
	return 0;
}

static int put_format(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
		      struct err *e)
{
	const char *format = o->format;
	struct blk_image_opts inner = *o;
	int ret = format ? 0 : probe_file(file, o, depth, &format, e);

	if (ret)
		return ret;
	if (!strcmp(format, "raw"))
		return raw_on_file(file, !o->format, out, e);
	if (!strcmp(format, "qcow2"))
		return qcow2_open(file, &inner, depth, out, e);
	if (!strcmp(format, "luks"))
		return luks_open(file, &inner, depth, out, e);
	if (foreign_format(format))
		return foreign_open(format, file, o, depth, out, e);
	return err_set(e, -ENOTSUP, "disk '%s': format '%s' is not known here: raw, qcow2, luks, vmdk, vdi, vhdx and vpc are", file->path,
		       format);
}

int image_open(struct loop *l, const char *path, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
	       struct err *e)
{
	struct blk_open_opts fo = o->file;
	struct blk_node *file;
	int ret;

	if (depth > MAX_DEPTH)
		return err_set(e, -ELOOP, "'%s': more than %d backing files, or a circle of them", path, MAX_DEPTH);
	fo.open_ended = true;
	ret = blk_open_protocol(l, path, &fo, depth > 0, &file, e);
	if (ret)
		return ret;
	ret = put_format(file, o, depth, out, e);
	if (ret)
		blk_close(file);
	return ret;
}

int blk_open_image(struct loop *l, const char *path, const struct blk_image_opts *o, struct blk_node **out,
		   struct err *e)
{
	bool encrypted = false;
	int ret = image_open(l, path, o, 0, out, e);

	if (ret || !o->n_keys || o->no_key)
		return ret;
	/* Who gives a key must not get a disk that takes everything in clear. */
	for (struct blk_node *n = *out; n && !encrypted; n = n->backing)
		encrypted = n->i.encrypted;
	if (encrypted)
		return 0;
	blk_close(*out);
	return err_set(e, -EINVAL, "a key is given for disk '%s', but nothing in it is encrypted: leave the key away if that is "
		       "as it should be", path);
}
