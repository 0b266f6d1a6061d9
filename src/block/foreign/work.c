/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions run on a few threads, as requests of a node: see work.h. */
#include "block/foreign/work.h"

#include <errno.h>
#include <stdlib.h>

#include "block/file.h"

#define WORK_THREADS 4

struct work {
	struct blk_node n;
	struct pool *pool;
};

static void work_run(void *opaque, struct blk_req *r)
{
	int (*fn)(void *arg);

	/* From the private words, as work_submit put them there. */
	memcpy(&fn, &r->drv[0], sizeof(fn));
	blk_finish(r, fn(r->opaque));
}

static void work_submit(struct blk_node *n, struct blk_req *r)
{
	pool_submit(container_of(n, struct work, n)->pool, r);
}

static void work_wait(struct blk_node *n)
{
	pool_wait(container_of(n, struct work, n)->pool);
}

static void work_end(struct blk_node *n)
{
	struct work *w = container_of(n, struct work, n);

	pool_free(w->pool);
	blk_node_fini(n);
	free(w);
}

static const struct blk_driver work_driver = {
	.name = "work",
	.submit = work_submit,
	.wait = work_wait,
	.close = work_end,
};

int work_open(struct loop *l, struct blk_node **out)
{
	struct work *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (pool_new(WORK_THREADS, CONFINE_IO, work_run, NULL, &w->pool)) {
		free(w);
		return -ENOMEM;
	}
	blk_node_init(&w->n, l, &work_driver);
	w->n.i.read_only = true;
	*out = &w->n;
	return 0;
}

/* A flush: no node looks into one. */
void work_request(struct blk_req *r, int (*fn)(void *arg), void *arg)
{
	*r = (struct blk_req){ .op = BLK_FLUSH, .opaque = arg };
	memcpy(&r->drv[0], &fn, sizeof(fn));
}

void work_close(struct blk_node *n)
{
	blk_close(n);
}
