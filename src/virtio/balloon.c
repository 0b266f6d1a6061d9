/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory balloon (virtio 1.2, 5.5).
 *
 * Pages the guest puts into the balloon or reports as free are cut out of the
 * memfd behind RAM, which frees them for the host at once; the guest finds zero
 * pages when it touches them again, so deflating needs no work here.  Engines
 * and the dirty log are told, since the bytes changed.
 *
 * Page numbers are copied from the guest, sorted and joined, so that a run costs
 * one system call.  A number that is not RAM is ignored.
 *
 * Queues: the specification gives them fixed numbers, drivers (Linux) leave no
 * gaps for features not negotiated.  Both are served, see features_ok.
 */
#include "virtio/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

#define F_STATS_VQ (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_PAGE_POISON (1ull << 4)
#define F_REPORTING (1ull << 5)

#define QUEUE_SIZE 128
#define N_QUEUES 5
#define BATCH 8			/* chains a turn of the loop */
#define MAX_PFNS 256
#define MAX_CHAIN_PFNS 4096		/* drivers send 256 (Linux) or 1024 */

enum role { ROLE_NONE, ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORT };

/* struct virtio_balloon_config, 5.5.4 */
#define CFG_NUM_PAGES 0
#define CFG_ACTUAL 4
#define CFG_POISON 12
#define CONFIG_LEN 16

#define STAT_LEN 10			/* le16 tag, le64 value, packed */

struct balloon {
	struct virtio_dev dev;		/* first */
	uint32_t num_pages, actual, poison;
	uint64_t released;
	uint8_t role[N_QUEUES];
	/* The buffer with statistics stays with us until we want new ones. */
	bool stats_held;
	uint16_t stats_head;
	uint64_t stat[VIRTIO_BALLOON_S_NR];
	uint32_t stat_valid;
	int64_t stat_time_ns;
	int64_t period_ns;
	struct vtimer timer;
	struct vq_chain chain;
};

static struct balloon *of(struct virtio_dev *d)
{
	return container_of(d, struct balloon, dev);
}

/* ---- giving memory back ---- */

/* Cuts whole pages out of the backing of RAM; host addresses. */
static void release_host(struct balloon *b, const uint8_t *p, size_t len)
{
	struct mem *mem = b->dev.m->mem;
	uint64_t first, last, off = (uint64_t)(p - mem_ram_host(mem));

	first = align_up(off, PAGE_4K);
	last = align_down(off + len, PAGE_4K);
	if (last <= first)
		return;
	/* A file system or huge pages that cannot do it: the guest lost a page
	 * it does not use, the host gains nothing. */
	if (mem_ram_release(mem, first, last - first))
		return;
	b->released += last - first;
	mem_written_host(mem, mem_ram_host(mem) + first, last - first);
}

static void release_pages(struct balloon *b, uint64_t pfn, uint64_t n)
{
	struct iovec iov[8];
	size_t pieces = 0;

	/* ROM and holes are refused as a whole run; then page by page. */
	if (!mem_map_iov(b->dev.m->mem, pfn << PAGE_SHIFT_4K, n << PAGE_SHIFT_4K, true, iov, ARRAY_LEN(iov),
			 &pieces)) {
		for (size_t i = 0; i < pieces; i++)
			release_host(b, iov[i].iov_base, iov[i].iov_len);
		return;
	}
	for (uint64_t i = 0; n > 1 && i < n; i++)
		release_pages(b, pfn + i, 1);
}

static int cmp_pfn(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void inflate_batch(struct balloon *b, uint32_t *pfn, size_t n)
{
	size_t first = 0;

	qsort(pfn, n, sizeof(*pfn), cmp_pfn);
	for (size_t i = 1; i <= n; i++) {
		if (i < n && pfn[i] - pfn[i - 1] <= 1)
			continue;
		release_pages(b, pfn[first], (uint64_t)pfn[i - 1] - pfn[first] + 1);
		first = i;
	}
}

static void inflate(struct balloon *b, const struct vq_chain *c)
{
	uint32_t pfn[MAX_PFNS];
	/* More is an attempt to keep us busy; what is left out is merely kept. */
	uint64_t limit = MIN(c->len_read, 4ull * MAX_CHAIN_PFNS);
	size_t n;

	for (uint64_t off = 0; off + 4 <= limit; off += n) {
		n = iov_to_buf(c->iov, c->n_read, off, pfn, MIN(sizeof(pfn), limit - off)) & ~(size_t)3;
		if (!n)
			return;
		inflate_batch(b, pfn, n / 4);
	}
}

/* 5.5.6.7: with a poison value the page must not come back as zeroes. */
static void report(struct balloon *b, const struct vq_chain *c)
{
	if (virtio_has(&b->dev, F_PAGE_POISON) && b->poison)
		return;
	for (unsigned i = c->n_read; i < (unsigned)c->n_read + c->n_write; i++)
		release_host(b, c->iov[i].iov_base, c->iov[i].iov_len);
}

/* ---- statistics ---- */

static void take_stats(struct balloon *b, const struct vq_chain *c)
{
	uint8_t raw[STAT_LEN * 2 * VIRTIO_BALLOON_S_NR];
	size_t len = iov_to_buf(c->iov, c->n_read, 0, raw, sizeof(raw));

	b->stat_valid = 0;
	for (size_t i = 0; i + STAT_LEN <= len; i += STAT_LEN) {
		unsigned tag = ld_le16(raw + i);

		if (tag >= VIRTIO_BALLOON_S_NR)
			continue;
		b->stat[tag] = ld_le64(raw + i + 2);
		b->stat_valid |= BIT(tag);
	}
	b->stat_time_ns = clock_now(b->dev.m->clock);
}

/* Returning the buffer is the request for new numbers. */
static void ask_for_stats(struct balloon *b)
{
	for (unsigned q = 0; q < N_QUEUES; q++) {
		if (b->role[q] != ROLE_STATS || !b->stats_held || !b->dev.started || b->dev.paused)
			continue;
		b->stats_held = false;
		vq_put_head(&b->dev.vq[q], b->stats_head, 0);
		vq_flush(&b->dev.vq[q]);
	}
}

static void stats_timer(void *opaque)
{
	struct balloon *b = opaque;

	ask_for_stats(b);
	vtimer_arm(&b->timer, clock_now(b->dev.m->clock) + b->period_ns);
}

/* ---- queues ---- */

/* True: the chain is kept. */
static bool serve(struct balloon *b, enum role role, const struct vq_chain *c)
{
	switch (role) {
	case ROLE_INFLATE:
		inflate(b, c);
		return false;
	case ROLE_STATS:
		take_stats(b, c);
		if (b->stats_held)
			return false;
		b->stats_held = true;
		b->stats_head = c->head;
		return true;
	case ROLE_REPORT:
		report(b, c);
		return false;
	case ROLE_DEFLATE:
	case ROLE_NONE:
	default:
		return false;
	}
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct balloon *b = of(d);
	struct vq *vq = &d->vq[q];
	unsigned batch = BATCH;
	int ret = 0;

	vq_kick_enable(vq, false);
	while (batch-- && (ret = vq_get(vq, &b->chain)) > 0)
		if (!serve(b, b->role[q], &b->chain))
			vq_put(vq, &b->chain, 0);
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(d, "balloon queue");
	else if (vq_kick_enable(vq, true))
		virtio_dev_ring(d, q);
}

/* Without gaps, as drivers do it; number 4, where the specification has the
 * reporting queue, is that too unless taken. */
static void features_ok(struct virtio_dev *d)
{
	struct balloon *b = of(d);
	unsigned q = 0;

	memset(b->role, ROLE_NONE, sizeof(b->role));
	b->role[q++] = ROLE_INFLATE;
	b->role[q++] = ROLE_DEFLATE;
	if (virtio_has(d, F_STATS_VQ))
		b->role[q++] = ROLE_STATS;
	if (virtio_has(d, F_REPORTING)) {
		b->role[q] = ROLE_REPORT;
		b->role[N_QUEUES - 1] = ROLE_REPORT;
	}
}

/* ---- device ---- */

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	struct balloon *b = of(d);
	uint8_t config[CONFIG_LEN] = { 0 };

	st_le32(config + CFG_NUM_PAGES, b->num_pages);
	st_le32(config + CFG_ACTUAL, b->actual);
	st_le32(config + CFG_POISON, b->poison);
	memcpy(buf, config + off, len);
}

static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	struct balloon *b = of(d);
	uint8_t config[CONFIG_LEN];
	uint32_t old = b->actual;

	config_read(d, 0, config, sizeof(config));
	memcpy(config + off, buf, len);
	b->actual = ld_le32(config + CFG_ACTUAL);
	b->poison = ld_le32(config + CFG_POISON);
	if (b->actual != old)
		machine_tell(d->m, MACHINE_EV_BALLOON_CHANGE, b->actual);
}

static void reset(struct virtio_dev *d)
{
	struct balloon *b = of(d);

	b->actual = b->poison = 0;
	b->stats_held = false;
	b->stat_valid = 0;
	b->stat_time_ns = 0;
	memset(b->role, ROLE_NONE, sizeof(b->role));
}

static void queue_reset(struct virtio_dev *d, unsigned q)
{
	struct balloon *b = of(d);

	if (b->role[q] == ROLE_STATS)
		b->stats_held = false;
}

static const struct snap_field fields[] = {
	SNAP_FIELD(struct balloon, num_pages),
	SNAP_FIELD(struct balloon, actual),
	SNAP_FIELD(struct balloon, poison),
	SNAP_FIELD(struct balloon, stats_head),
	SNAP_FIELD(struct balloon, stats_held),
	SNAP_END,
};
static const struct snap_table table = { "virtio-balloon", 1, fields };

static int save(struct virtio_dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, of(d));
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	return snap_get(in, d->id, &table, of(d), e);
}

static void release(struct virtio_dev *d)
{
	struct balloon *b = of(d);

	vtimer_cancel(&b->timer);
	virtio_dev_fini(d);
	free(b);
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-balloon",
	.device_id = 5,
	.pci_class = 0x00ff00,
	.config_read = config_read,
	.config_write = config_write,
	.features_ok = features_ok,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.save = save,
	.load = load,
	.free = release,
};

int virtio_balloon_new(struct machine *m, const char *id, struct virtio_dev **out, struct err *e)
{
	static const uint16_t sizes[N_QUEUES] = { QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE };
	struct balloon *b = calloc(1, sizeof(*b));
	int ret;

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	vtimer_init(m->clock, &b->timer, stats_timer, b);
	ret = virtio_dev_init(&b->dev, m, &ops, id, F_STATS_VQ | F_DEFLATE_ON_OOM | F_PAGE_POISON | F_REPORTING,
			      CONFIG_LEN, N_QUEUES, sizes);
	if (ret) {
		free(b);
		return err_set(e, ret, "cannot create balloon %s: no file descriptors left", id);
	}
	*out = &b->dev;
	return 0;
}

void virtio_balloon_set_target(struct virtio_dev *d, uint64_t bytes)
{
	struct balloon *b = of(d);
	uint32_t pages = MIN(MIN(bytes, mem_ram_size(d->m->mem)) / PAGE_4K, (uint64_t)UINT32_MAX);

	if (pages == b->num_pages)
		return;
	b->num_pages = pages;
	virtio_dev_config_changed(d);
}

void virtio_balloon_get(struct virtio_dev *d, struct virtio_balloon_info *out)
{
	struct balloon *b = of(d);

	out->target = b->num_pages * PAGE_4K;
	out->actual = b->actual * PAGE_4K;
	out->released = b->released;
	memcpy(out->stat, b->stat, sizeof(b->stat));
	out->stat_valid = b->stat_valid;
	out->stat_time_ns = b->stat_time_ns;
}

void virtio_balloon_poll_stats(struct virtio_dev *d, uint32_t period_ms)
{
	struct balloon *b = of(d);

	b->period_ns = (int64_t)period_ms * 1000000;
	vtimer_cancel(&b->timer);
	if (period_ms)
		stats_timer(b);
}
