// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk whose image stays as it is: what the guest writes goes to a qcow2 image over it, in a file that has
 * no name any more when the guest runs, and is gone with the process.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/disk.h"
#include "block/qcow2/qcow2.h"
#include "vm/internal.h"

/* Size and format of what is below. */
static int look(struct loop *l, const char *path, const struct blk_image_opts *io, struct qcow2_create_opts *o, char format[16], struct err *e)
{
	struct blk_image_opts read_only = *io;
	struct blk_node *n;
	int ret;

	read_only.file.read_only = true;
	ret = blk_open_image(l, path, &read_only, &n, e);
	if (ret)
		return ret;
	snprintf(format, 16, "%s", io->format ? io->format : n->format);
	o->size = n->i.size;
	o->backing_format = format;
	blk_close(n);
	return 0;
}

static int make(struct loop *l, const char *file, const struct qcow2_create_opts *o, struct err *e)
{
	const struct blk_open_opts open = { .open_ended = true, .cache = BLK_CACHE_UNSAFE };
	struct blk_node *n;
	int ret = blk_open_file(l, file, &open, &n, e);

	if (ret)
		return ret;
	ret = qcow2_create(n, o, e);
	blk_close(n);
	return ret;
}

/* Keys are for what is below, so there is none for the file over it. */
static int open_over(struct loop *l, const char *file, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		     struct blk_node **out, struct err *e)
{
	const char *keys[VM_MAX_KEYS + 1] = { NULL };
	struct blk_image_opts over = *io;

	over.format = "qcow2";
	over.trust = BLK_TRUST_ALL;
	over.file.cache = BLK_CACHE_UNSAFE;
	memcpy(keys + 1, io->keys, io->n_keys * sizeof(*keys));
	over.keys = keys;
	over.n_keys = io->n_keys ? io->n_keys + 1 : 0;
	return blk_open_disk(l, file, &over, o, out, e);
}

int vm_open_snapshot(struct loop *l, const char *path, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		     struct blk_node **out, struct err *e)
{
	const char *dir = getenv("TMPDIR");
	struct qcow2_create_opts create = { 0 };
	char file[PATH_MAX], full[PATH_MAX], format[16];
	int fd, ret = look(l, path, io, &create, format, e);

	if (ret)
		return ret;
	create.backing = realpath(path, full) ? full : path;	/* a URI has no other form */
	if (snprintf(file, sizeof(file), "%s/lodge-snapshot-XXXXXX", dir && *dir ? dir : "/var/tmp") >= (int)sizeof(file))
		return err_set(e, -ENAMETOOLONG, "TMPDIR is too long");
	fd = mkstemp(file);
	if (fd < 0)
		return err_set(e, -errno, "snapshot=on: %s: %s; TMPDIR says where temporary files go", file, strerror(errno));
	close(fd);
	ret = make(l, file, &create, e);
	if (!ret)
		ret = open_over(l, file, io, o, out, e);
	unlink(file);
	return ret;
}
