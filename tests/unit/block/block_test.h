/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the block tests: a loop, temporary files, requests that are waited for. */
#ifndef LODGE_TESTS_BLOCK_TEST_H
#define LODGE_TESTS_BLOCK_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "block/blk.h"

struct waited {
	struct blk_req r;
	bool done;
	int ret;
};

static inline void waited_done(struct blk_req *r, int ret)
{
	struct waited *w = r->opaque;

	assert_false(w->done);
	w->done = true;
	w->ret = ret;
}

/* Submits and turns the loop until the answer is there. */
static inline int blk_do(struct loop *l, struct blk_node *n, enum blk_op op, uint64_t off, uint64_t len,
			 const struct iovec *iov, unsigned niov)
{
	struct waited w = { .r = { .op = op, .offset = off, .len = len, .iov = iov, .niov = niov,
				   .unmap = true, .done = waited_done } };

	w.r.opaque = &w;
	blk_submit(n, &w.r);
	assert_false(w.done);
	while (!w.done)
		assert_int_equal(loop_turn(l, 5000), 0);
	return w.ret;
}

static inline int blk_buf(struct loop *l, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec v = { buf, len };

	return blk_do(l, n, op, off, len, &v, 1);
}

static inline void temp_path(char *path, size_t len)
{
	int fd;

	snprintf(path, len, "./block-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
}

static inline void temp_file(char *path, size_t len, off_t size)
{
	temp_path(path, len);
	assert_int_equal(truncate(path, size), 0);
}

#endif
