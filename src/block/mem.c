/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk in memory, for tests: it answers at once, fails or waits on command,
 * and forgets everything when closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "block/blk.h"

struct blk_mem {
	struct blk_node n;
	uint8_t *data;			/* mapping: untouched pages cost nothing */
	uint64_t max;			/* its length */
	unsigned fail_after;
	int fail_error;
	bool fail_all;
	bool hold;
	struct blk_req *held, **held_end;
};

static int run(struct blk_mem *m, struct blk_req *r)
{
	/* Only an open-ended node lets this through. */
	if (r->op != BLK_FLUSH && !range_inside(r->offset, r->len, m->max))
		return -ENOSPC;
	switch (r->op) {
	case BLK_READ:
		iov_from_buf(r->iov, r->niov, 0, m->data + r->offset, r->len);
		break;
	case BLK_WRITE:
		iov_to_buf(r->iov, r->niov, 0, m->data + r->offset, r->len);
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		memset(m->data + r->offset, 0, r->len);
		break;
	case BLK_FLUSH:
		break;
	case BLK_STATUS:
		r->ext->len = r->len;
		r->ext->allocated = r->ext->data = r->ext->has_offset = true;
		r->ext->offset = r->offset;
		break;
	}
	return 0;
}

static void mem_answer(struct blk_mem *m, struct blk_req *r)
{
	if (m->fail_after && --m->fail_after == 0) {
		m->fail_after = m->fail_all;
		blk_finish(r, m->fail_error);
		return;
	}
	blk_finish(r, run(m, r));
}

static void mem_submit(struct blk_node *n, struct blk_req *r)
{
	struct blk_mem *m = container_of(n, struct blk_mem, n);

	if (!m->hold) {
		mem_answer(m, r);
		return;
	}
	*m->held_end = r;
	m->held_end = &r->next;
}

static void release(struct blk_mem *m)
{
	struct blk_req *r = m->held, *next;

	m->held = NULL;
	m->held_end = &m->held;
	for (; r; r = next) {
		next = r->next;
		mem_answer(m, r);
	}
}

static void mem_wait(struct blk_node *n)
{
	release(container_of(n, struct blk_mem, n));
}

static void mem_close(struct blk_node *n)
{
	struct blk_mem *m = container_of(n, struct blk_mem, n);

	blk_node_fini(n);
	munmap(m->data, m->max);
	free(m);
}

static int mem_extend(struct blk_node *n, uint64_t size)
{
	if (size > container_of(n, struct blk_mem, n)->max)
		return -ENOSPC;
	n->i.size = MAX(n->i.size, size);
	return 0;
}

static int mem_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct blk_mem *m = container_of(n, struct blk_mem, n);

	if (size > m->max)
		return err_set(e, -ENOSPC, "the memory of this disk ends at %llu bytes", (unsigned long long)m->max);
	memset(m->data + MIN(size, n->i.size), 0, n->i.size > size ? n->i.size - size : 0);
	n->i.size = size;
	return 0;
}

static int mem_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	n->i.read_only = how->read_only;
	return 0;
}

static const struct blk_driver mem_driver = {
	.name = "mem",
	.submit = mem_submit,
	.wait = mem_wait,
	.resize = mem_resize,
	.extend = mem_extend,
	.reopen = mem_reopen,
	.close = mem_close,
};

int blk_open_mem(struct loop *l, uint64_t size, struct blk_node **out)
{
	struct blk_mem *m;

	if (!size || size % BLK_SECTOR)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->data == MAP_FAILED) {
		free(m);
		return -ENOMEM;
	}
	m->max = size;
	m->held_end = &m->held;
	blk_node_init(&m->n, l, &mem_driver);
	m->n.i = (struct blk_info){
		.size = size,
		.request_align = BLK_SECTOR,
		.physical_block = BLK_SECTOR,
		.can_discard = true,
		.can_zero = true,
	};
	*out = &m->n;
	return 0;
}

int blk_open_mem_file(struct loop *l, uint64_t max, struct blk_node **out)
{
	int ret = blk_open_mem(l, max, out);

	if (ret)
		return ret;
	(*out)->i.size = 0;
	(*out)->open_ended = true;
	return 0;
}

void blk_mem_fail_with(struct blk_node *n, unsigned nth, int error, bool all)
{
	struct blk_mem *m = container_of(n, struct blk_mem, n);

	m->fail_after = nth;
	m->fail_error = error;
	m->fail_all = all;
}

void blk_mem_fail_after(struct blk_node *n, unsigned nth)
{
	blk_mem_fail_with(n, nth, -EIO, false);
}

void blk_mem_hold(struct blk_node *n, bool on)
{
	struct blk_mem *m = container_of(n, struct blk_mem, n);

	m->hold = on;
	if (!on)
		release(m);
}

uint8_t *blk_mem_data(struct blk_node *n)
{
	return container_of(n, struct blk_mem, n)->data;
}
