/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: raw deflate with a window of 4 KiB, or one zstd frame.
 *
 * The work is done by a few threads (a node of its own, whose requests are jobs),
 * since neither the loop nor the guest may wait for it.  Compressed data is packed
 * byte after byte into host clusters, each of which counts how many guest clusters
 * it serves; the sector that two of them share is kept, so that the second can be
 * written without reading.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/iov.h"
#include "block/file.h"
#include "block/qcow2/internal.h"

#define CREW_THREADS 4
#define WINDOW_BITS 12

struct crew {
	struct blk_node n;
	struct pool *pool;
};

struct job {
	enum qcow2_compression how;
	bool pack;
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t room, out_len;
};

/* out_len 0: did not fit. */
static int pack(struct job *j)
{
	z_stream z = { .next_in = (uint8_t *)(uintptr_t)j->in, .avail_in = (uInt)j->in_len, .next_out = j->out,
		       .avail_out = (uInt)j->room };
	size_t n;

	j->out_len = 0;
	if (j->how == QCOW2_ZSTD) {
		n = ZSTD_compress(j->out, j->room, j->in, j->in_len, ZSTD_CLEVEL_DEFAULT);
		j->out_len = ZSTD_isError(n) ? 0 : n;
		return 0;
	}
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	if (deflate(&z, Z_FINISH) == Z_STREAM_END)
		j->out_len = j->room - z.avail_out;
	deflateEnd(&z);
	return 0;
}

static int unpack_zstd(struct job *j)
{
	ZSTD_outBuffer out = { j->out, j->room, 0 };
	ZSTD_inBuffer in = { j->in, j->in_len, 0 };
	ZSTD_DCtx *d = ZSTD_createDCtx();
	size_t left = 1;
	int ret = d ? 0 : -ENOMEM;

	/* What follows in the last sector is not ours. */
	while (!ret && out.pos < out.size) {
		size_t before = out.pos + in.pos;

		left = ZSTD_decompressStream(d, &out, &in);
		if (ZSTD_isError(left) || (left == 0 && out.pos < out.size) || out.pos + in.pos == before)
			ret = out.pos == out.size ? 0 : -EIO;
	}
	ZSTD_freeDCtx(d);
	return ret;
}

static int unpack(struct job *j)
{
	z_stream z = { .next_in = (uint8_t *)(uintptr_t)j->in, .avail_in = (uInt)j->in_len, .next_out = j->out,
		       .avail_out = (uInt)j->room };
	int ret;

	if (j->how == QCOW2_ZSTD)
		return unpack_zstd(j);
	if (inflateInit2(&z, -WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	ret = inflate(&z, Z_FINISH);
	ret = (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
	inflateEnd(&z);
	return ret;
}

static void crew_run(void *opaque, struct blk_req *r)
{
	struct job *j = (struct job *)(uintptr_t)r->drv[0];

	blk_finish(r, j->pack ? pack(j) : unpack(j));
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

static int crew_open(struct qcow2 *q)
{
	struct crew *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	if (pool_new(CREW_THREADS, crew_run, NULL, &w->pool)) {
		free(w);
		return -ENOMEM;
	}
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

static int write_one(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, uint8_t *in, uint8_t *out)
{
	struct iovec v = { in, len };
	struct job j = { .how = q->compression, .pack = true, .in = in, .in_len = q->cluster, .out = out,
			 .room = q->cluster - 1 };
	int ret;

	memset(in + len, 0, q->cluster - len);
	ret = work(q, c, &j);
	if (ret)
		return ret;
	if (!j.out_len)
		return do_write(q, c, off, len, &v, 1);
	co_lock(c, &q->compress_lock);
	ret = write_packed(q, c, off, out, j.out_len);
	co_unlock(&q->compress_lock);
	return ret;
}

int do_write_compressed(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov,
			unsigned niov)
{
	uint8_t *in = q_buf(q->cluster), *out = q_buf(q->cluster);
	int ret = in && out ? 0 : -ENOMEM;

	if (q->ext_data || q->crypt_method)
		ret = -ENOTSUP;
	else if ((off & (q->cluster - 1)) || ((len & (q->cluster - 1)) && off + len != q->n.i.size))
		ret = -EINVAL;
	for (uint64_t at = 0; at < len && !ret; at += q->cluster) {
		uint64_t part = MIN(len - at, (uint64_t)q->cluster);

		iov_to_buf(iov, niov, at, in, part);
		ret = write_one(q, c, off + at, part, in, out);
	}
	free(in);
	free(out);
	return ret;
}
