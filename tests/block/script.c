/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See script.h. */
#include "script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/luks/luks.h"
#include "block/secret.h"

#define MAX_BATCH 12

uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t n) { return rng_next(r) % n; }

void rng_fill(struct rng *r, uint8_t *p, size_t len)
{
	uint64_t v = 0;
	bool noise = rng_one_in(r, 2);

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0 && (noise || i % 512 == 0))
			v = rng_next(r) | 0x0101010101010101ull;
		p[i] = (uint8_t)(v >> (i % 8 * 8));
	}
}

void model_init(struct model *m, uint64_t size)
{
	*m = (struct model){ .size = size, .data = calloc(1, size + 1) };
	if (!m->data)
		abort();
}

void model_fini(struct model *m)
{
	for (unsigned i = 0; i < m->n_snaps; i++)
		free(m->snap[i].data);
	free(m->data);
}

static const struct luks_create_opts script_luks = { .force_iterations = 1 };
static const char *const script_keys[] = { "key" };
static struct blk_secrets *script_secrets;

void script_encrypt(void)
{
	struct err e;
	int fd[2];

	if (blk_secrets_new(&script_secrets) || pipe(fd) || write(fd[1], "secret", 6) != 6 || close(fd[1]) ||
	    blk_secrets_add(script_secrets, script_keys[0], &(struct blk_secret_source){ .fd = fd[0] }, &e)) {
		perror("secret");
		exit(2);
	}
}

struct blk_image_opts script_image_opts(void)
{
	return (struct blk_image_opts){ .trust = BLK_TRUST_ALL, .secrets = script_secrets, .keys = script_keys,
					.n_keys = script_secrets ? 1 : 0 };
}

void script_options(struct rng *r, struct qcow2_create_opts *o, uint64_t max_size, char *text, size_t room)
{
	static const unsigned bits[] = { 9, 9, 10, 12, 12, 13, 14, 16, 16, 18, 21 };
	unsigned cluster_bits = bits[rng_below(r, ARRAY_LEN(bits))];

	*o = (struct qcow2_create_opts){ .cluster_size = 1u << cluster_bits, .luks = script_secrets ? &script_luks : NULL,
					 .secrets = script_secrets, .key = script_keys[0] };
	o->version = rng_one_in(r, 4) ? 2 : 3;
	if (o->version == 3) {
		o->refcount_bits = 1u << rng_below(r, 7);
		o->lazy_refcounts = rng_one_in(r, 4);
		o->extended_l2 = cluster_bits >= 14 && rng_one_in(r, 2);
		o->compression = rng_one_in(r, 2) ? QCOW2_ZSTD : QCOW2_ZLIB;
	}
	/* Some ten tables' worth with the smallest clusters. */
	o->size = least(max_size, (uint64_t)o->cluster_size * (64 + rng_below(r, 512)));
	o->size = most(align_down(o->size - rng_below(r, o->size / 4), 512), 512u);
	snprintf(text, room, "version %u, cluster %u, refcount_bits %u, ext %d, compression %d, size %llu", o->version,
		 o->cluster_size, o->refcount_bits, o->extended_l2, o->compression, (unsigned long long)o->size);
}

/* A range of sectors, mostly small, sometimes large or aligned to clusters. */
static void range(struct rng *r, const struct blk_node *n, uint64_t *off, uint64_t *len)
{
	uint64_t sectors = n->i.size / 512, cluster = n->i.cluster ? n->i.cluster : 4096, max;

	*off = rng_below(r, sectors) * 512;
	max = rng_one_in(r, 4) ? cluster * 6 : rng_one_in(r, 2) ? cluster : 4096;
	*len = (1 + rng_below(r, most(max / 512, 1u))) * 512;
	if (rng_one_in(r, 3)) {
		*off = align_down(*off, cluster);
		*len = align_up(*len, cluster);
	}
	*len = least(*len, n->i.size - *off);
}

struct pending {
	struct blk_req r;
	struct iovec iov[3];
	uint8_t *buf;
	int ret;
	bool done;
};

static void pending_done(struct blk_req *r, int ret)
{
	struct pending *p = container_of(r, struct pending, r);

	p->ret = ret;
	p->done = true;
}

static bool clashes(const struct pending *p, unsigned n, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < n; i++)
		if (off < p[i].r.offset + p[i].r.len && p[i].r.offset < off + len)
			return true;
	return false;
}

static void split(struct rng *r, struct pending *p, uint64_t len)
{
	uint64_t a = rng_below(r, len + 1), b = rng_below(r, len - a + 1);

	p->iov[0] = (struct iovec){ p->buf, a };
	p->iov[1] = (struct iovec){ p->buf + a, b };
	p->iov[2] = (struct iovec){ p->buf + a + b, len - a - b };
}

/* Several requests at once, which do not overlap but share clusters. */
static const char *batch(struct rng *r, struct blk_node *n, struct model *m)
{
	unsigned count = 1 + (unsigned)rng_below(r, MAX_BATCH), used = 0;
	struct pending *p = calloc(count, sizeof(*p));
	uint64_t base = rng_below(r, n->i.size / 512) * 512;
	const char *bad = NULL;

	for (unsigned i = 0; i < count; i++) {
		struct pending *q = &p[used];
		uint64_t off, len;

		range(r, n, &off, &len);
		/* Close together, so that they meet in clusters. */
		if (rng_one_in(r, 2)) {
			off = least(base + rng_below(r, 32) * 512, n->i.size - 512);
			len = least((1 + rng_below(r, 8)) * 512, n->i.size - off);
		}
		if (clashes(p, used, off, len))
			continue;
		q->buf = malloc(len);
		q->r = (struct blk_req){ .op = rng_one_in(r, 3) ? BLK_READ : BLK_WRITE, .offset = off, .len = len,
					 .iov = q->iov, .niov = 3, .fua = rng_one_in(r, 10), .done = pending_done };
		if (rng_one_in(r, 10))
			q->r.op = BLK_WRITE_ZEROES, q->r.unmap = rng_one_in(r, 2);
		if (q->r.op == BLK_WRITE)
			rng_fill(r, q->buf, len);
		split(r, q, len);
		used++;
	}
	for (unsigned i = 0; i < used; i++)
		blk_submit(n, &p[i].r);
	blk_drain(n);
	for (unsigned i = 0; i < used; i++) {
		uint8_t *at = m->data + p[i].r.offset;

		if (getenv("SCRIPT_VERBOSE") && p[i].ret)
			fprintf(stderr, "size %llu request %d at %llu of %llu: %d\n", (unsigned long long)n->i.size, p[i].r.op, (unsigned long long)p[i].r.offset,
				(unsigned long long)p[i].r.len, p[i].ret);
		if (!p[i].done || p[i].ret)
			bad = bad ? bad : "a request of several at once failed";
		else if (p[i].r.op == BLK_READ && memcmp(p[i].buf, at, p[i].r.len) != 0)
			bad = bad ? bad : "a read of several at once is wrong";
		else if (p[i].r.op == BLK_WRITE)
			memcpy(at, p[i].buf, p[i].r.len);
		else if (p[i].r.op == BLK_WRITE_ZEROES)
			memset(at, 0, p[i].r.len);
		free(p[i].buf);
	}
	free(p);
	return bad;
}

static const char *write_one(struct rng *r, struct blk_node *n, struct model *m, bool compress)
{
	uint64_t off, len;
	int ret;

	range(r, n, &off, &len);
	if (compress) {
		off = align_down(off, n->i.cluster);
		len = least(align_up(len, n->i.cluster), n->i.size - off);
	}
	rng_fill(r, m->data + off, len);
	ret = compress ? blk_pwrite_compressed(n, off, m->data + off, len) : blk_pwrite(n, off, m->data + off, len);
	return ret ? "a write failed" : NULL;
}

static const char *read_one(struct rng *r, struct blk_node *n, struct model *m)
{
	uint64_t off, len;
	uint8_t *buf;
	const char *bad = NULL;

	range(r, n, &off, &len);
	buf = malloc(len);
	if (blk_pread(n, off, buf, len))
		bad = "a read failed";
	else if (memcmp(buf, m->data + off, len) != 0)
		bad = "a read is wrong";
	free(buf);
	return bad;
}

/* Each sector reads as before or as zeros afterwards. */
static const char *discard(struct rng *r, struct blk_node *n, struct model *m)
{
	static const uint8_t zeros[512];
	uint64_t off, len;
	uint8_t *buf;
	const char *bad = NULL;

	range(r, n, &off, &len);
	buf = malloc(len);
	if (blk_pdiscard(n, off, len) || blk_pread(n, off, buf, len))
		bad = "a discard failed";
	for (uint64_t i = 0; i < len && !bad; i += 512)
		if (memcmp(buf + i, zeros, 512) != 0 && memcmp(buf + i, m->data + off + i, 512) != 0)
			bad = "after a discard there is something else";
	memcpy(m->data + off, buf, len);
	free(buf);
	return bad;
}

static const char *zeroes(struct rng *r, struct blk_node *n, struct model *m)
{
	uint64_t off, len;

	range(r, n, &off, &len);
	memset(m->data + off, 0, len);
	return blk_pwrite_zeroes(n, off, len, rng_one_in(r, 2)) ? "write zeroes failed" : NULL;
}

/* Known zeros are zeros, extents are whole, data has a place. */
static const char *status(struct rng *r, struct blk_node *n, const struct model *m)
{
	uint64_t off, len;
	struct blk_extent x;

	range(r, n, &off, &len);
	if (blk_block_status(n, off, len, rng_one_in(r, 2), &x))
		return "a status request failed";
	if (!x.len || x.len > len)
		return "an extent of no proper length";
	for (uint64_t i = 0; x.zero && x.allocated && i < x.len; i++)
		if (m->data[off + i])
			return "an extent that should be zero is not";
	return NULL;
}

static const char *resize(struct rng *r, struct blk_node *n, struct model *m, uint64_t max)
{
	uint64_t size = most(512u, align_down(m->size / 2 + rng_below(r, m->size), 512));
	struct err e;
	uint8_t *data;

	size = least(size, max);
	if (blk_resize(n, size, &e)) {
		struct qcow2_info i;

		qcow2_get_info(n, &i);
		return m->n_snaps && i.version == 2 ? NULL : "a resize failed";
	}
	data = calloc(1, size + 1);
	memcpy(data, m->data, least(size, m->size));
	free(m->data);
	m->data = data;
	m->size = size;
	return n->i.size == size ? NULL : "a resize to another size";
}

/* The VM's state, all in one go. */
static uint8_t *make_state(uint64_t seed, uint64_t size)
{
	struct rng r = { seed };
	uint8_t *p = aligned_alloc(4096, align_up(size, 4096));

	rng_fill(&r, p, size);
	return p;
}

static int save_state(struct rng *r, struct blk_node *n, struct model *m, unsigned i)
{
	struct qcow2_info info;
	struct qcow2_vm vm = { .clock_ns = rng_next(r), .date_sec = 1, .date_nsec = i };
	uint64_t seed = rng_next(r), size = 1 + rng_below(r, 200000);
	char id[QCOW2_ID_LEN];
	struct iovec v;
	struct err e;
	int ret;

	qcow2_get_info(n, &info);
	size = info.cluster_size > 65536 ? 0 : size;
	vm.state_size = size;
	ret = size ? qcow2_vmstate_begin(n, size, &e) : 0;
	if (size && !ret) {
		v = (struct iovec){ make_state(seed, size), size };
		ret = qcow2_vmstate_write(n, 0, &v, 1, size);
		free(v.iov_base);
	}
	/* One that is interrupted leaves it, for whatever comes next to forget. */
	if (!ret && rng_one_in(r, 5))
		return -EINTR;
	ret = ret ? ret : qcow2_snapshot_create_vm(n, m->snap[i].name, &vm, id, &e);
	if (ret && qcow2_vmstate_drop(n))
		return -EIO;
	m->snap[i].state_seed = seed;
	m->snap[i].state_size = size;
	return ret;
}

static const char *compare_states(struct blk_node *n, const struct model *m)
{
	struct qcow2_snapshot *s;
	const char *bad = NULL;
	unsigned count;
	struct err e;

	if (!m->n_snaps)
		return NULL;
	if (qcow2_snapshot_list(n, &s, &count, &e))
		return "snapshots cannot be listed";
	for (unsigned i = 0; i < m->n_snaps && !bad; i++) {
		uint64_t size = m->snap[i].state_size;
		struct qcow2_vmstate *v;
		uint8_t *want, *got;
		unsigned k = 0;
		struct iovec iov;

		while (k < count && strcmp(s[k].name, m->snap[i].name))
			k++;
		if (k == count || s[k].vm_state_size != size)
			bad = "a snapshot's state has another size";
		else if (!size)
			continue;
		else if (qcow2_vmstate_open(n, s[k].id, &v, &e))
			bad = "a snapshot's state cannot be read";
		if (bad)
			break;
		want = make_state(m->snap[i].state_seed, size);
		got = aligned_alloc(4096, align_up(size, 4096));
		iov = (struct iovec){ got, align_up(size, 512) };
		if (qcow2_vmstate_read(v, 0, &iov, 1, align_up(size, 512)) || memcmp(want, got, size) != 0)
			bad = "a snapshot's state is another";
		qcow2_vmstate_close(v);
		free(want);
		free(got);
	}
	qcow2_snapshots_free(s, count);
	return bad;
}

static const char *snapshot(struct rng *r, struct blk_node *n, struct model *m)
{
	unsigned i = m->n_snaps ? (unsigned)rng_below(r, m->n_snaps) : 0;
	struct err e;
	int ret;

	switch (m->n_snaps ? rng_below(r, 4) : 0) {
	case 0:
	case 1:
		if (m->n_snaps == MAX_SNAPS)
			return NULL;
		i = m->n_snaps;
		snprintf(m->snap[i].name, sizeof(m->snap[i].name), "s%u", m->named++);
		m->snap[i].state_size = 0;
		ret = rng_one_in(r, 2) ? qcow2_snapshot_create(n, m->snap[i].name, &e) : save_state(r, n, m, i);
		if (ret == -EINTR)
			return NULL;
		/* Narrow refcounts hold few; compressed clusters share theirs as well. */
		if (ret == -ERANGE)
			return NULL;
		if (ret)
			return "a snapshot could not be made";
		m->snap[i].data = malloc(m->size);
		memcpy(m->snap[i].data, m->data, m->size);
		m->snap[i].size = m->size;
		m->n_snaps++;
		return NULL;
	case 2:
		ret = qcow2_snapshot_apply(n, m->snap[i].name, &e);
		if (ret == -ERANGE)
			return NULL;
		if (ret || n->i.size != m->snap[i].size)
			return "a snapshot could not be applied";
		free(m->data);
		m->data = malloc(m->snap[i].size + 1);
		m->size = m->snap[i].size;
		memcpy(m->data, m->snap[i].data, m->size);
		return NULL;
	default:
		if (qcow2_snapshot_delete(n, m->snap[i].name, &e))
			return "a snapshot could not be deleted";
		free(m->snap[i].data);
		m->snap[i] = m->snap[--m->n_snaps];
		return NULL;
	}
}

const char *script_step(struct rng *r, struct blk_node *n, struct model *m, unsigned also)
{
	switch (rng_below(r, also & SCRIPT_SNAPS ? 17 : 15)) {
	case 0:
	case 1:
		return write_one(r, n, m, false);
	case 2:
		return n->i.can_compress ? write_one(r, n, m, true) : NULL;
	case 3:
		return read_one(r, n, m);
	case 4:
		return discard(r, n, m);
	case 5:
		return zeroes(r, n, m);
	case 6:
		return status(r, n, m);
	case 7:
		return rng_one_in(r, 3) ? script_compare(n, m) : NULL;
	case 8:
		return blk_flush(n) ? "a flush failed" : NULL;
	case 9:
		return rng_one_in(r, 4) && (also & SCRIPT_RESIZE) ? resize(r, n, m, 8u << 20) : NULL;
	case 15:
	case 16:
		return snapshot(r, n, m);
	default:
		return batch(r, n, m);
	}
}

const char *script_compare(struct blk_node *n, const struct model *m)
{
	uint8_t *buf = malloc(m->size);
	const char *bad = NULL;

	if (n->i.size != m->size)
		bad = "the size is wrong";
	else if (blk_pread(n, 0, buf, m->size))
		bad = "the image cannot be read";
	else if (memcmp(buf, m->data, m->size) != 0)
		bad = "the contents are wrong";
	if (bad && getenv("SCRIPT_VERBOSE"))
		for (uint64_t i = 0; i < m->size; i++)
			if (buf[i] != m->data[i]) {
				fprintf(stderr, "first difference at %llu: %02x, want %02x\n", (unsigned long long)i, buf[i],
					m->data[i]);
				break;
			}
	free(buf);
	return bad ? bad : compare_states(n, m);
}

static void print(void *opaque, const char *line)
{
	if (getenv("SCRIPT_VERBOSE"))
		fprintf(stderr, "check: %s\n", line);
}

const char *script_check(struct blk_node *n)
{
	struct qcow2_check res = { .say = print };
	struct err e;

	if (qcow2_check(n, 0, &res, &e))
		return "the check could not be done";
	if (res.corruptions || res.check_errors)
		return "the check found corruption";
	return res.leaks ? "the check found leaks" : NULL;
}
