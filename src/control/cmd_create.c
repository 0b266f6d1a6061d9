// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * blockdev-create: images made in nodes, and files for them.
 *
 * It is a job to its clients, but done at once: what an empty image has to write is
 * little.  Whoever wants all of it written first uses lodge img.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blockdev.h"
#include "block/luks/luks.h"
#include "block/qcow2/qcow2.h"
#include "block/secret.h"
#include "control/job.h"

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static int check_size(const json_t *o, struct err *e)
{
	return json_integer_value(json_object_get(o, "size")) < 0 ? err_set(e, -EINVAL, "the size is negative") : 0;
}

static int check_prealloc(const char *word, bool metadata, struct err *e)
{
	if (word && !strcmp(word, "full"))
		return err_set(e, -ENOTSUP, "preallocation=full would hold the guest up while all of it is written: make the image with lodge img create");
	if (word && !metadata && !strcmp(word, "metadata"))
		return err_set(e, -EINVAL, "Parameter 'preallocation' does not accept value 'metadata'");
	return 0;
}

/* As QEMU does, over what is there. */
static int create_file(struct control *ctl, const json_t *o, struct err *e)
{
	const struct blk_open_opts fo = { .open_ended = true };
	const char *path = text(o, "filename"), *prealloc = text(o, "preallocation");
	uint64_t size = number(o, "size");
	struct blk_node *n;
	int ret = check_prealloc(prealloc, false, e);

	ret = ret ? ret : check_size(o, e);
	if (!ret && json_is_true(json_object_get(o, "nocow")))
		ret = err_set(e, -ENOTSUP, "nocow=true is not supported");
	ret = ret ? ret : blk_create_file(path, true, e);
	ret = ret ? ret : blk_open_file(ctl->m->loop, path, &fo, &n, e);
	if (ret)
		return ret;
	if (size && truncate(path, (off_t)size))
		ret = err_set(e, -errno, "the size of '%s' cannot be %llu: %s", path, (unsigned long long)size, strerror(errno));
	if (!ret && prealloc && !strcmp(prealloc, "falloc")) {
		n->i.size = size;
		ret = blk_file_reserve(n, e);
	}
	blk_close(n);
	return ret;
}

/* The file of an image: a node that nothing else uses, or one that is described here and goes again.  With the lock of *io. */
static int open_below(struct control *ctl, const json_t *ref, struct blk_node **out, struct iothread **io, struct err *e)
{
	const char *name = json_string_value(ref);
	struct vm_node x;
	int ret;

	*io = NULL;
	if (!name)
		return vm_node_open(ctl->vm, ref, NULL, out, e);
	if (!vm_node_find(ctl->vm, name, &x))
		return err_set(e, -ENOENT, "Cannot find device='%.60s' nor node-name='%.60s'", name, name);
	iothread_lock(x.io);
	ret = x.n->refs > (x.added ? 1u : 0u) ? err_set(e, -EBUSY, "Node '%s' is busy: it is in use already", name) : 0;
	if (ret) {
		iothread_unlock(x.io);
		return ret;
	}
	*io = x.io;
	*out = blk_ref(x.n);
	return 0;
}

static int writable(struct blk_node *n, struct err *e)
{
	const struct blk_reopen how = { .read_only = false };
	int ret = n->i.read_only && n->auto_read_only ? blk_reopen(n, &how, e) : 0;

	if (!ret && n->i.read_only)
		ret = err_set(e, -EROFS, "Block node is read-only");
	n->open_ended = !n->file;
	return ret;
}

static int qcow2_options(const json_t *o, struct qcow2_create_opts *q, struct err *e)
{
	const char *version = text(o, "version"), *prealloc = text(o, "preallocation"), *compression = text(o, "compression-type");
	int ret = check_prealloc(prealloc, true, e);

	*q = (struct qcow2_create_opts){
		.size = number(o, "size"), .version = version && !strcmp(version, "v2") ? 2 : 0, .backing = text(o, "backing-file"),
		.backing_format = text(o, "backing-fmt"), .lazy_refcounts = json_is_true(json_object_get(o, "lazy-refcounts")),
		.extended_l2 = json_is_true(json_object_get(o, "extended-l2")),
		.compression = compression && !strcmp(compression, "zstd") ? QCOW2_ZSTD : QCOW2_ZLIB,
		.prealloc = prealloc && !strcmp(prealloc, "falloc") ? QCOW2_PREALLOC_FALLOC
			    : prealloc && !strcmp(prealloc, "metadata") ? QCOW2_PREALLOC_METADATA : QCOW2_PREALLOC_OFF,
	};
	if (number(o, "cluster-size") > UINT32_MAX || number(o, "refcount-bits") > 64)
		return err_set(e, -EINVAL, "cluster-size or refcount-bits is too large");
	q->cluster_size = (uint32_t)number(o, "cluster-size");
	q->refcount_bits = (unsigned)number(o, "refcount-bits");
	if (!ret && json_object_get(o, "data-file"))
		ret = err_set(e, -ENOTSUP, "an image with a data file is made with lodge img create");
	return ret ? ret : qcow2_create_check(q, e);
}

static int create_luks(struct control *ctl, struct blk_node *n, const json_t *o, struct err *e)
{
	const struct luks_create_opts lo = { .size = number(o, "size"), .iter_ms = (unsigned)MIN(number(o, "iter-time"), 10000u) };
	const char *key = text(o, "key-secret");
	const uint8_t *pass;
	size_t len;
	int ret = key ? blk_secrets_get(vm_secrets(ctl->vm), key, &pass, &len, e) :
		err_set(e, -EINVAL, "Parameter 'key-secret' is required for cipher");

	return ret ? ret : luks_create(n, &lo, pass, len, e);
}

static int create(struct control *ctl, const json_t *o, struct err *e)
{
	const char *driver = text(o, "driver");
	struct qcow2_create_opts q;
	struct iothread *io;
	struct blk_node *n;
	int ret = check_size(o, e);

	if (ret)
		return ret;
	if (!strcmp(driver, "file"))
		return create_file(ctl, o, e);
	if (strcmp(driver, "qcow2") && strcmp(driver, "luks"))
		return err_set(e, -ENOTSUP, "Driver '%s' does not support blockdev-create", driver);
	if (!strcmp(driver, "qcow2"))
		ret = qcow2_options(o, &q, e);
	ret = ret ? ret : open_below(ctl, json_object_get(o, "file"), &n, &io, e);
	if (ret)
		return ret;
	ret = writable(n, e);
	if (!ret)
		ret = strcmp(driver, "qcow2") ? create_luks(ctl, n, o, e) : qcow2_create(n, &q, e);
	blk_close(n);
	iothread_unlock(io);
	return ret;
}

void ctl_cmd_blockdev_create(struct ctl_call *c, const struct ctl_args_blockdev_create *a)
{
	const struct ctl_job_opts o = { .id = a->job_id, .keep = true };
	const char *driver = text(a->options, "driver");
	struct ctl_root none = { 0 };
	struct err e = { .msg = "" };
	struct ctl_job *j;

	if (strcmp(driver, "file") && strcmp(driver, "qcow2") && strcmp(driver, "luks")) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Driver '%s' does not support blockdev-create", driver);
		return;
	}
	j = ctl_job_new(c, &none, &o);
	if (!j)
		return;
	j->kind = "create";
	ctl_job_done(j, create(c->ctl, a->options, &e), &e);
}
