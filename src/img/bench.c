// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img bench: many requests of one kind as fast as they go, each `step` bytes
 * behind the one before, from the beginning again at the end of the disk.
 *
 * Writing destroys what is there: an image that holds data is written to only
 * with --force.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "img/img.h"
#include "img/verbs.h"

#define MAX_DEPTH 4096
#define MAX_REQUEST (64u << 20)
#define MAX_BUFFERS (1ull << 30)

enum { OPT_FLUSH = 1, OPT_NO_DRAIN, OPT_PATTERN };
static const struct img_opt bench_opts[] = {
	{ 'c', 'c', "count", "N", "number of requests (75000)", NULL },
	{ 'd', 'd', "depth", "N", "so many under way at a time (64)", NULL },
	{ 's', 's', "buffer-size", "SIZE", "size of a request (4k)", NULL },
	{ 'S', 'S', "step-size", "SIZE", "distance of one from the next (as large as a request)", NULL },
	{ 'o', 'o', "offset", "OFFSET", "where the first one goes (0)", NULL },
	{ 'w', 'w', NULL, NULL, "write; with --force also where data is", NULL },
	{ OPT_PATTERN, 0, "pattern", "BYTE", "what is written (0)", NULL },
	{ OPT_FLUSH, 0, "flush-interval", "N", "flush after every N writes", NULL },
	{ OPT_NO_DRAIN, 0, "no-drain", NULL, "do not wait for the requests before a flush", NULL },
	{ 'i', 'i', "aio", "KIND", "threads or io_uring", "threads io_uring native" },
	{ 'n', 'n', "native", NULL, "the same as -i io_uring", NULL },
	{ 0 },
};

struct slot {
	struct blk_req r;
	struct iovec v;
	struct bench *b;
	struct slot *next;
};

struct bench {
	uint64_t count, depth, size, step, start, pattern, flush_every;
	bool write, no_drain;
	enum blk_aio aio;
	/* running */
	struct blk_node *n;
	uint64_t left, at, since_flush;
	unsigned in_flight;
	bool flushing;
	struct slot *slots, *idle;
	struct blk_req flush;
	uint8_t *memory;
	int failed;
	int64_t ns;
};

static int bench_option(struct img *m, struct bench *b, int id, const char *val)
{
	switch (id) {
	case 'c':
		return img_number(val, "-c", INT32_MAX, &b->count, &m->e);
	case 'd':
		return img_number(val, "-d", MAX_DEPTH, &b->depth, &m->e);
	case 's':
		return img_size(val, "-s", &b->size, &m->e);
	case 'S':
		return img_size(val, "-S", &b->step, &m->e);
	case 'o':
		return img_size(val, "-o", &b->start, &m->e);
	case 'w':
		b->write = true;
		return 0;
	case 'n':
		b->aio = BLK_AIO_URING;
		return 0;
	case 'i':
		b->aio = !strcmp(val, "threads") ? BLK_AIO_THREADS : BLK_AIO_URING;
		if (strcmp(val, "threads") != 0 && strcmp(val, "io_uring") != 0 && strcmp(val, "native") != 0)
			return err_set(&m->e, -EINVAL, "-i: '%.40s' is neither threads nor io_uring", val);
		return 0;
	case OPT_PATTERN:
		return img_number(val, "--pattern", 255, &b->pattern, &m->e);
	case OPT_FLUSH:
		return img_number(val, "--flush-interval", INT32_MAX, &b->flush_every, &m->e);
	default:
		b->no_drain = true;
		return 0;
	}
}

static int bench_args(struct img *m, struct bench *b)
{
	const char *val;
	int id, ret = 0;

	*b = (struct bench){ .count = 75000, .depth = 64, .size = 4096 };
	while (!ret && (id = img_next(m, &val)) != 0)
		ret = id < 0 ? id : bench_option(m, b, id, val);
	ret = ret ? ret : img_operands(m, 1, 1);
	if (ret)
		return ret;
	b->step = b->step ? b->step : b->size;
	if (!b->count || !b->depth || !b->size)
		return err_set(&m->e, -EINVAL, "-c, -d and -s are not 0");
	if ((b->size | b->step | b->start) % BLK_SECTOR)
		return err_set(&m->e, -EINVAL, "-s, -S and -o are multiples of %d bytes", BLK_SECTOR);
	if (b->size > MAX_REQUEST || b->size * b->depth > MAX_BUFFERS)
		return err_set(&m->e, -EINVAL, "requests are at most 64M long, and all that are under way 1G");
	if (!b->write && (b->flush_every || b->no_drain))
		return err_set(&m->e, -EINVAL, "--flush-interval and --no-drain are for writing: say -w");
	if (b->no_drain && !b->flush_every)
		return err_set(&m->e, -EINVAL, "--no-drain says something about --flush-interval, which is not given");
	return 0;
}

static int bench_may_write(struct img *m, const struct bench *b)
{
	uint64_t at = 0;

	while (b->write && !m->force && at < b->n->i.size) {
		struct blk_extent x;
		int ret = blk_block_status(b->n, at, MIN(b->n->i.size - at, 1ull << 30), false, &x);

		if (ret || !x.len)
			return err_set(&m->e, ret ? ret : -EIO, "'%s' cannot be looked through", b->n->path);
		if (x.data && !x.zero)
			return err_set(&m->e, -EEXIST, "'%s' holds data, which -w would overwrite: take another image, or say --force",
				       b->n->path);
		at += x.len;
	}
	return 0;
}

static int bench_buffers(struct img *m, struct bench *b)
{
	size_t each = align_up(b->size, 4096);

	b->slots = calloc(b->depth, sizeof(*b->slots));
	b->memory = aligned_alloc(4096, each * b->depth);
	if (!b->slots || !b->memory)
		return err_set(&m->e, -ENOMEM, "out of memory");
	memset(b->memory, (int)b->pattern, each * b->depth);
	for (uint64_t i = 0; i < b->depth; i++) {
		b->slots[i] = (struct slot){ .b = b, .v = { b->memory + i * each, b->size }, .next = b->idle };
		b->idle = &b->slots[i];
	}
	return 0;
}

static void bench_done(struct blk_req *r, int ret)
{
	struct slot *s = container_of(r, struct slot, r);
	struct bench *b = s->b;

	b->in_flight--;
	b->failed = b->failed ? b->failed : ret;
	s->next = b->idle;
	b->idle = s;
}

static void bench_flushed(struct blk_req *r, int ret)
{
	struct bench *b = r->opaque;

	b->in_flight--;
	b->failed = b->failed ? b->failed : ret;
	b->flushing = false;
}

static void bench_submit(struct bench *b)
{
	struct slot *s = b->idle;

	b->idle = s->next;
	if (b->at >= b->n->i.size || b->size > b->n->i.size - b->at)
		b->at = 0;
	s->r = (struct blk_req){ .op = b->write ? BLK_WRITE : BLK_READ, .offset = b->at, .len = b->size, .iov = &s->v, .niov = 1,
				 .done = bench_done };
	b->at += b->step;
	b->left--;
	b->since_flush++;
	b->in_flight++;
	blk_submit(b->n, &s->r);
}

/* Sends what may be under way now. */
static void bench_feed(struct bench *b)
{
	bool due = b->flush_every && b->since_flush == b->flush_every;

	while (!due && b->left && b->idle && !(b->flushing && !b->no_drain)) {
		bench_submit(b);
		due = b->flush_every && b->since_flush == b->flush_every;
	}
	if (due && !b->flushing && (b->no_drain || !b->in_flight)) {
		b->flush = (struct blk_req){ .op = BLK_FLUSH, .done = bench_flushed, .opaque = b };
		b->flushing = true;
		b->since_flush = 0;
		b->in_flight++;
		blk_submit(b->n, &b->flush);
	}
}

static int bench_run(struct img *m, struct bench *b)
{
	b->left = b->count;
	b->at = b->start;
	b->ns = loop_now_ns();
	do {
		if (img_interrupted(m) || b->failed)
			b->left = 0;
		bench_feed(b);
		if (b->in_flight)
			blk_progress(b->n);
	} while (b->left || b->in_flight);
	if (!b->failed && b->write)
		b->failed = blk_flush(b->n);
	b->ns = MAX(loop_now_ns() - b->ns, 1);
	if (b->failed)
		return err_set(&m->e, b->failed, "a request to '%s' failed: %s", b->n->path, strerror(-b->failed));
	return img_interrupted(m);
}

static int bench_print(struct img *m, const struct bench *b)
{
	double seconds = (double)b->ns / 1e9, rate = (double)b->count / seconds;

	if (m->json)
		return img_json_print(m, json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "operation", b->write ? "write" : "read",
						   "requests", (json_int_t)b->count, "request-size", (json_int_t)b->size, "depth",
						   (json_int_t)b->depth, "seconds", seconds, "requests-per-second", rate,
						   "bytes-per-second", rate * (double)b->size));
	if (!m->quiet)
		printf("Run completed in %3.3f seconds.\n", seconds);
	return 0;
}

static int bench_node(struct img *m, struct bench *b)
{
	int ret = bench_may_write(m, b);

	if (!ret && b->size > b->n->i.size)
		ret = err_set(&m->e, -EINVAL, "'%s' is shorter than a request", b->n->path);
	ret = ret ? ret : bench_buffers(m, b);
	if (!ret && !m->quiet && !m->json)
		printf("Sending %llu %s requests, %llu bytes each, %llu in parallel (starting at offset %llu, step size %llu)\n",
		       (unsigned long long)b->count, b->write ? "write" : "read", (unsigned long long)b->size,
		       (unsigned long long)b->depth, (unsigned long long)b->start, (unsigned long long)b->step);
	if (!ret && b->flush_every && !m->quiet && !m->json)
		printf("Sending flush every %llu %srequests\n", (unsigned long long)b->flush_every, b->no_drain ? "" : "drained ");
	fflush(stdout);
	ret = ret ? ret : bench_run(m, b);
	ret = ret ? ret : bench_print(m, b);
	free(b->slots);
	free(b->memory);
	return ret;
}

static int run_bench(struct img *m)
{
	struct img_where w;
	struct bench b;
	int ret = bench_args(m, &b);

	ret = ret ? ret : img_where(m, m->operand[0], m->format, b.write ? IMG_WRITE : 0, &w);
	if (ret)
		return ret;
	w.o.file.aio = b.aio;
	ret = img_open_where(m, &w, &b.n);
	img_where_free(&w);
	if (ret)
		return ret;
	ret = bench_node(m, &b);
	blk_close(b.n);
	return ret;
}

const struct img_verb img_verb_bench = {
	.name = "bench",
	.summary = "Measures how fast an image is read or written.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_QUIET | IMG_OPT_FORCE | IMG_OPT_OPEN,
	.opts = bench_opts,
	.run = run_bench,
};
