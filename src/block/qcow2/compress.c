/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: raw deflate with a window of 4 KiB, or one zstd frame.
 *
 * The work is done by a few threads (a node of its own, whose requests are jobs),
 * since neither the loop nor the guest may wait for it.  Compressed data is packed
 * byte after byte into host clusters, each of which counts how many guest clusters
 * it serves; the sector that two of them share is kept, so that the second can be
 * written without reading.  So they are written one at a time, in the order of the
 * requests; they are compressed side by side.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/iov.h"
#include "block/file.h"
#include "block/qcow2/internal.h"

#define MIN_CREW 4
#define MAX_CREW 16
#define WINDOW_BITS 12
#define WINDOW (1u << WINDOW_BITS)
#define N_PROBES 16

/* What the libraries need to work, which costs more to make than some clusters take. Parts are made when needed. */
struct tools {
	z_stream pack, unpack;
	bool can_pack, can_unpack;
	ZSTD_CCtx *zpack;
	ZSTD_DCtx *zunpack;
	struct tools *next;
};

struct crew {
	struct blk_node n;
	struct pool *pool;
	pthread_mutex_t lock;
	struct tools *idle;
};

struct job {
	enum qcow2_compression how;
	bool pack;
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t room, out_len;
};

static void point_at(z_stream *z, const struct job *j)
{
	z->next_in = (uint8_t *)(uintptr_t)j->in;
	z->avail_in = (uInt)j->in_len;
	z->next_out = j->out;
	z->avail_out = (uInt)j->room;
}

static int pack_zstd(struct tools *t, struct job *j)
{
	size_t n;

	if (!t->zpack)
		t->zpack = ZSTD_createCCtx();
	if (!t->zpack)
		return -ENOMEM;
	n = ZSTD_compressCCtx(t->zpack, j->out, j->room, j->in, j->in_len, ZSTD_CLEVEL_DEFAULT);
	j->out_len = ZSTD_isError(n) ? 0 : n;
	return 0;
}

/* Is what deflate's window could repeat at p, in the bytes before it? */
static bool repeats(const uint8_t *p)
{
	return memmem(p - WINDOW, WINDOW, p, 8) != NULL;
}

/*
 * Is this data that deflate would spend a millisecond on for nothing: compressed already, or encrypted?  Its bytes are as
 * frequent as in noise, to within what is worth half a percent, and none of some that are looked for has been there before.
 * A cluster taken for such by mistake is stored as it is, no more.
 */
static bool is_noise(const uint8_t *p, size_t n)
{
	uint32_t count[4][256] = { { 0 } };
	uint64_t sum = 0;

	if (n < 4 * WINDOW)
		return false;
	for (size_t i = 0; i + 4 <= n; i += 4)
		for (unsigned k = 0; k < 4; k++)
			count[k][p[i + k]]++;
	for (unsigned v = 0; v < 256; v++) {
		uint64_t c = (uint64_t)count[0][v] + count[1][v] + count[2][v] + count[3][v];

		sum += c * c;
	}
	if (sum > (uint64_t)n * n / 256 / 20 * 21 + n)
		return false;
	for (unsigned i = 0; i < N_PROBES; i++)
		if (repeats(p + WINDOW + (n - WINDOW - 8) / N_PROBES * i))
			return false;
	return true;
}

/* out_len 0: did not fit. */
static int pack(struct tools *t, struct job *j)
{
	z_stream *z = &t->pack;

	j->out_len = 0;
	if (j->how == QCOW2_ZSTD)
		return pack_zstd(t, j);		/* sees noise by itself */
	if (is_noise(j->in, j->in_len))
		return 0;
	if (!t->can_pack)
		t->can_pack = deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) == Z_OK;
	else if (deflateReset(z) != Z_OK)
		return -EIO;
	if (!t->can_pack)
		return -ENOMEM;
	point_at(z, j);
	if (deflate(z, Z_FINISH) == Z_STREAM_END)
		j->out_len = j->room - z->avail_out;
	return 0;
}

static int unpack_zstd(struct tools *t, struct job *j)
{
	ZSTD_outBuffer out = { j->out, j->room, 0 };
	ZSTD_inBuffer in = { j->in, j->in_len, 0 };
	size_t left = 1;
	int ret = 0;

	if (!t->zunpack)
		t->zunpack = ZSTD_createDCtx();
	if (!t->zunpack)
		return -ENOMEM;
	ZSTD_DCtx_reset(t->zunpack, ZSTD_reset_session_only);
	/* What follows in the last sector is not ours. */
	while (!ret && out.pos < out.size) {
		size_t before = out.pos + in.pos;

		left = ZSTD_decompressStream(t->zunpack, &out, &in);
		if (ZSTD_isError(left) || (left == 0 && out.pos < out.size) || out.pos + in.pos == before)
			ret = out.pos == out.size ? 0 : -EIO;
	}
	return ret;
}

static int unpack(struct tools *t, struct job *j)
{
	z_stream *z = &t->unpack;
	int ret;

	if (j->how == QCOW2_ZSTD)
		return unpack_zstd(t, j);
	if (!t->can_unpack)
		t->can_unpack = inflateInit2(z, -WINDOW_BITS) == Z_OK;
	else if (inflateReset(z) != Z_OK)
		return -EIO;
	if (!t->can_unpack)
		return -ENOMEM;
	point_at(z, j);
	ret = inflate(z, Z_FINISH);
	return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z->avail_out == 0 ? 0 : -EIO;
}

static struct tools *tools_get(struct crew *w)
{
	struct tools *t;

	pthread_mutex_lock(&w->lock);
	t = w->idle;
	if (t)
		w->idle = t->next;
	pthread_mutex_unlock(&w->lock);
	return t ? t : calloc(1, sizeof(*t));
}

static void tools_put(struct crew *w, struct tools *t)
{
	pthread_mutex_lock(&w->lock);
	t->next = w->idle;
	w->idle = t;
	pthread_mutex_unlock(&w->lock);
}

static void tools_free(struct tools *t)
{
	if (t->can_pack)
		deflateEnd(&t->pack);
	if (t->can_unpack)
		inflateEnd(&t->unpack);
	ZSTD_freeCCtx(t->zpack);
	ZSTD_freeDCtx(t->zunpack);
	free(t);
}

static void crew_run(void *opaque, struct blk_req *r)
{
	struct job *j = (struct job *)(uintptr_t)r->drv[0];
	struct tools *t = tools_get(opaque);
	int ret = -ENOMEM;

	if (t) {
		ret = j->pack ? pack(t, j) : unpack(t, j);
		tools_put(opaque, t);
	}
	blk_finish(r, ret);
}

static void crew_submit(struct blk_node *n, struct blk_req *r)
{
	r->drv[0] = r->offset;
	pool_submit(container_of(n, struct crew, n)->pool, r);
}

static void crew_wait(struct blk_node *n)
{
	pool_wait(container_of(n, struct crew, n)->pool);
}

static const struct blk_driver crew_driver = { .name = "crew", .submit = crew_submit, .wait = crew_wait };

/* As many as there are CPUs for us: threads come into being only when there is work for them. */
static unsigned crew_size(void)
{
	cpu_set_t cpus;
	int n = sched_getaffinity(0, sizeof(cpus), &cpus) ? 0 : CPU_COUNT(&cpus);

	return (unsigned)MIN(MAX(n, MIN_CREW), MAX_CREW);
}

static int crew_open(struct qcow2 *q)
{
	struct crew *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (pool_new(crew_size(), CONFINE_IO, crew_run, w, &w->pool)) {
		free(w);
		return -ENOMEM;
	}
	pthread_mutex_init(&w->lock, NULL);
	blk_node_init(&w->n, q->n.loop, &crew_driver);
	q->crew = &w->n;
	return 0;
}

void crew_close(struct qcow2 *q)
{
	struct crew *w;

	if (!q->crew)
		return;
	w = container_of(q->crew, struct crew, n);
	blk_drain(&w->n);
	pool_free(w->pool);
	while (w->idle) {
		struct tools *t = w->idle;

		w->idle = t->next;
		tools_free(t);
	}
	pthread_mutex_destroy(&w->lock);
	blk_node_fini(&w->n);
	free(w);
	q->crew = NULL;
}

/* A job travels as a flush, which no node looks into, at an "offset" that is its address. */
static int work(struct qcow2 *q, struct co *c, struct job *j)
{
	int ret = q->crew ? 0 : crew_open(q);

	return ret ? ret : q_op(q, c, q->crew, BLK_FLUSH, (uint64_t)(uintptr_t)j, 0, false);
}

int read_compressed(struct qcow2 *q, struct co *c, uint64_t e, uint8_t *cluster)
{
	uint64_t off, len, from;
	uint8_t *buf;
	int ret;

	compressed_range(q, e, &off, &len);
	if (off > MAX_HOST)
		return q_broken(q, "the place of a compressed cluster", off);
	from = align_down(off, 512);
	buf = q_buf(off + len - from);
	ret = buf ? q_rw(q, c, q->n.file, BLK_READ, from, buf, off + len - from) : -ENOMEM;
	if (!ret) {
		struct job j = { .how = q->compression, .in = buf + (off - from), .in_len = len, .out = cluster,
				 .room = q->cluster };

		ret = work(q, c, &j);
	}
	free(buf);
	return ret;
}

/* A place for `len` bytes, less than a cluster: behind the last ones if it can be. Counts in every
 * cluster touched. [lock] */
static int place(struct qcow2 *q, struct co *c, uint64_t len, uint64_t *off)
{
	uint64_t at = q->compress_at, end = align_up(at, q->cluster), limit = BIT64(62 - (q->cluster_bits - 8)), fresh;
	bool open = at < end, zero;
	int ret;

	if (open && len <= end - at) {
		ret = rc_add(q, c, at >> q->cluster_bits, 1, NULL);
		*off = at;
		/* As many as can be counted are in there: begin another. */
		if (ret != -ERANGE)
			return ret;
		open = false;
	}
	ret = alloc_clusters(q, c, 1, &fresh, &zero);
	if (!ret && fresh > limit - q->cluster) {
		free_now(q, c, fresh, 1);
		ret = -EFBIG;
	}
	if (ret)
		return ret;
	*off = open && fresh == end && !rc_add(q, c, at >> q->cluster_bits, 1, NULL) ? at : fresh;
	return 0;
}

static int link_compressed(struct qcow2 *q, struct co *c, uint64_t guest, uint64_t off, uint64_t len)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t sectors = ((off + len - 1) >> 9) - (off >> 9);
	struct slice *s;
	int ret = l2_get_for_write(q, c, guest, &s);

	if (ret)
		return ret;
	ret = free_entry_later(q, entry_get(q, s, guest), false);
	if (!ret)
		entry_set(q, s, guest, (struct entry){ .e = OFLAG_COMPRESSED | sectors << shift | off });
	return ret;
}

/* Writes packed bytes at their place: whole sectors, the first of them begun by the one before. */
static int write_packed(struct qcow2 *q, struct co *c, uint64_t guest, const uint8_t *data, size_t len)
{
	uint64_t off = 0, from, end;
	uint8_t *buf;
	int ret;

	co_lock(c, &q->lock);
	ret = place(q, c, len, &off);
	co_unlock(&q->lock);
	if (ret)
		return ret;
	from = align_down(off, 512);
	end = align_up(off + len, 512);
	buf = q_buf(end - from);
	if (!buf)
		return -ENOMEM;
	memset(buf, 0, end - from);
	if (off == q->compress_at)
		memcpy(buf, q->compress_tail, off - from);
	memcpy(buf + (off - from), data, len);
	ret = q_rw(q, c, q->n.file, BLK_WRITE, from, buf, end - from);
	if (!ret) {
		co_lock(c, &q->lock);
		ret = link_compressed(q, c, guest, off, len);
		memcpy(q->compress_tail, buf + (align_down(off + len, 512) - from), (off + len) & 511);
		q->compress_at = off + len;
		co_unlock(&q->lock);
	}
	free(buf);
	return ret;
}

/* ---- one after the other, in the order they were submitted, however long each is worked on ---- */

/* One request, from its submission on. */
struct turn {
	uint64_t ticket;
	struct co *c;
	struct turn *next;		/* in q->pack_waiting */
	uint8_t *in, *out;		/* a cluster each */
};

static void wait_turn(struct qcow2 *q, struct turn *t)
{
	if (q->pack_turn == t->ticket)
		return;
	t->next = q->pack_waiting;
	q->pack_waiting = t;
	while (q->pack_turn != t->ticket)
		co_wait(t->c);
}

static void end_turn(struct qcow2 *q)
{
	struct turn **p = &q->pack_waiting, *t;

	q->pack_turn++;
	while (*p && (*p)->ticket != q->pack_turn)
		p = &(*p)->next;
	t = *p;
	if (!t)
		return;
	*p = t->next;
	co_resume(t->c);
}

static int write_one(struct qcow2 *q, struct turn *t, uint64_t off, uint64_t len)
{
	struct iovec v = { t->in, len };
	struct job j = { .how = q->compression, .pack = true, .in = t->in, .in_len = q->cluster, .out = t->out,
			 .room = q->cluster - 1 };
	int ret;

	memset(t->in + len, 0, q->cluster - len);
	ret = work(q, t->c, &j);
	if (ret)
		return ret;
	wait_turn(q, t);
	return j.out_len ? write_packed(q, t->c, off, t->out, j.out_len) : do_write(q, t->c, off, len, &v, 1);
}

static int write_clusters(struct qcow2 *q, struct turn *t, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov)
{
	int ret = 0;

	if (q->ext_data || q->crypt_method)
		return -ENOTSUP;
	if ((off & (q->cluster - 1)) || ((len & (q->cluster - 1)) && off + len != q->n.i.size))
		return -EINVAL;
	t->in = q_buf(q->cluster);
	t->out = q_buf(q->cluster);
	if (!t->in || !t->out)
		return -ENOMEM;
	for (uint64_t at = 0; at < len && !ret; at += q->cluster) {
		uint64_t part = MIN(len - at, (uint64_t)q->cluster);

		iov_to_buf(iov, niov, at, t->in, part);
		ret = write_one(q, t, off + at, part);
	}
	return ret;
}

int do_write_compressed(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov,
			unsigned niov)
{
	struct turn *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->c = c;
	t->ticket = q->pack_tickets++;
	ret = write_clusters(q, t, off, len, iov, niov);
	/* Those behind it wait for it, whatever became of it. */
	wait_turn(q, t);
	end_turn(q);
	free(t->in);
	free(t->out);
	free(t);
	return ret;
}
