// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images that are made when a machine starts: --disk FILE,size=N where there is no such file.
 *
 * One that is there is used as it is, whatever its size, so that the same command goes on with a disk that something has been
 * installed on.  Made in full before the guest runs, and taken away again when that fails, or when something else keeps it from running.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "block/qcow2/qcow2.h"
#include "vm/internal.h"

static bool ends_in(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && !strcmp(name + n - m, end);
}

/* Said by the user, or by the name. */
static const char *format_of(const struct vm_disk *d)
{
	return d->open.format ? d->open.format : ends_in(d->path, ".qcow2") ? "qcow2" : "raw";
}

static int fill(struct loop *l, const struct vm_disk *d, const char *format, struct err *e)
{
	const struct blk_open_opts o = { .open_ended = true };
	const struct qcow2_create_opts q = { .size = d->size };
	struct blk_node *n;
	int ret = blk_open_file(l, d->path, &o, &n, e);

	if (ret)
		return ret;
	ret = strcmp(format, "raw") ? qcow2_create(n, &q, e) : blk_resize(n, d->size, e);
	blk_close(n);
	return ret;
}

void vm_made_file(struct vm *vm, const char *path)
{
	if (vm->built)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(vm->made); i++)
		if (!vm->made[i]) {
			vm->made[i] = strdup(path);
			return;
		}
}

void vm_free_made(struct vm *vm)
{
	for (unsigned i = 0; i < ARRAY_LEN(vm->made); i++) {
		if (vm->made[i] && !vm->ran)
			unlink(vm->made[i]);
		free(vm->made[i]);
		vm->made[i] = NULL;
	}
}

int vm_make_disk(struct vm *vm, struct loop *l, const struct vm_disk *d, struct err *e)
{
	const char *format;
	int ret;

	if (!d->size || !d->path || !access(d->path, F_OK))
		return 0;
	format = format_of(d);
	if (strcmp(format, "raw") && strcmp(format, "qcow2"))
		return err_set(e, -EINVAL, "a new disk is raw or qcow2; lodge img create makes %s images", format);
	ret = blk_create_file(d->path, false, e);
	if (ret)
		return ret;
	ret = fill(l, d, format, e);
	if (ret) {
		unlink(d->path);
		return ret;
	}
	vm_made_file(vm, d->path);
	log_info("disk: %s is new (%s, %llu MiB)", d->path, format, (unsigned long long)(d->size >> 20));
	return 0;
}
