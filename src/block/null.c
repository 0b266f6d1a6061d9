/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that is not there, for benchmarks: it reads as zeros and forgets what is
 * written, at once.  null-co://SIZE, with K, M, G or T; 1 GiB without a size.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "block/disk.h"
#include "block/protocol.h"

#define NULL_DEFAULT_SIZE BIT64(30)

static void null_submit(struct blk_node *n, struct blk_req *r)
{
	if (r->op == BLK_READ)
		iov_memset(r->iov, r->niov, 0, 0, r->len);
	if (r->op == BLK_STATUS) {
		r->ext->len = r->len;
		r->ext->allocated = r->ext->zero = true;
	}
	blk_finish(r, 0);
}

/* Every request is finished before submit returns. */
static void null_wait(struct blk_node *n)
{
}

static int null_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	n->i.size = size;
	return 0;
}

static void null_close(struct blk_node *n)
{
	blk_node_fini(n);
	free(n);
}

static const struct blk_driver null_driver = {
	.name = "null-co",
	.submit = null_submit,
	.wait = null_wait,
	.resize = null_resize,
	.close = null_close,
};

int blk_open_empty(struct loop *l, struct blk_node **out)
{
	struct blk_node *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	blk_node_init(n, l, &null_driver);
	n->i = (struct blk_info){ .request_align = BLK_SECTOR, .physical_block = BLK_SECTOR, .read_only = true };
	*out = n;
	return 0;
}

static bool null_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	if (!*text) {
		*size = NULL_DEFAULT_SIZE;
		return true;
	}
	errno = 0;
	*size = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return false;
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		if (mul_overflows(*size, BIT64(10 * (unit - units + 1)), size))
			return false;
		end++;
	}
	return !*end && *size && *size % BLK_SECTOR == 0 && *size <= INT64_MAX;
}

int null_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
	      struct err *e)
{
	struct blk_node *n;
	uint64_t size;

	if (!null_size(strstr(uri, "://") + 3, &size))
		return err_set(e, -EINVAL, "disk '%s': write null-co://SIZE, a multiple of 512 bytes, for instance null-co://8G",
			       uri);
	n = calloc(1, sizeof(*n));
	if (n) {
		blk_node_init(n, l, &null_driver);
		n->path = strdup(uri);
	}
	if (!n || !n->path) {
		if (n)
			null_close(n);
		return err_set(e, -ENOMEM, "out of memory while opening disk '%s'", uri);
	}
	n->i = (struct blk_info){
		.size = size, .request_align = BLK_SECTOR, .physical_block = BLK_SECTOR,
		.read_only = o->read_only, .can_discard = true, .can_zero = true,
	};
	n->open_ended = o->open_ended;
	*out = n;
	return 0;
}
