/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's state behind the disk's end: qcow2.txt, "snapshots", vm_state_size.
 *
 * It is mapped by L1 entries after those of the disk, like guest data.  Writing is the disk's own; but nothing there
 * shows a backing file, however long that is, so only whole clusters are written, and reading has no
 * business with the disk's tables: it goes by the table of the snapshot that holds the state.
 *
 * Order on disk.  A longer L1 table is there before the header says so; clusters and tables come with commits, as guest data's
 * do; the snapshot's entry comes last, behind a barrier.  So a crash leaves state that belongs to nobody behind the disk's end, which is
 * counted and hence no error, until vmstate_drop forgets it; or the snapshot, whole.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/iov.h"
#include "block/qcow2/internal.h"

static uint64_t entry_bytes(const struct qcow2 *q) { return BIT64(q->cluster_bits + q->l2_bits); }

/* Of the disk as it is. */
static uint64_t start_of(const struct qcow2 *q) { return l1_needed(q, q->n.i.size) * entry_bytes(q); }

int vmstate_drop(struct qcow2 *q, struct co *c)
{
	uint64_t first = l1_needed(q, q->n.i.size), *gone;
	uint32_t n;
	bool any = false;
	int ret;

	for (uint64_t i = first; i < q->l1_size && !any; i++)
		any = q->l1[i] & OFFSET_MASK;
	if (!any)
		return 0;
	n = q->l1_size - (uint32_t)first;
	gone = malloc(n * sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	/* What is in memory of those tables is on disk before their clusters are free. */
	ret = q_commit(q, c);
	if (!ret) {
		memcpy(gone, q->l1 + first, n * sizeof(*gone));
		for (uint32_t i = 0; i < n; i++)
			if (gone[i])
				l1_set(q, (uint32_t)first + i, 0);
		ret = drop_tree(q, c, gone, n);
	}
	free(gone);
	return ret;
}

static int drop_main(struct qcow2 *q, struct co *c, void *arg) { return vmstate_drop(q, c); }

int qcow2_vmstate_drop(struct blk_node *n)
{
	return n->i.read_only || to_q(n)->broken ? -EROFS : q_alone(to_q(n), drop_main, NULL);
}

/* ---- writing ---- */

static int begin_main(struct qcow2 *q, struct co *c, void *arg)
{
	const uint64_t *need = arg;
	int ret = vmstate_drop(q, c);

	return ret ? ret : l1_grow(q, c, (uint32_t)*need);
}

int qcow2_vmstate_begin(struct blk_node *n, uint64_t bytes, struct err *e)
{
	struct qcow2 *q = to_q(n);
	uint64_t end, need;
	int ret = snaps_may_change(n, e);

	if (ret)
		return ret;
	if (add_overflows(start_of(q), bytes, &end) || (need = l1_needed(q, end)) * 8 > MAX_L1_BYTES)
		return err_set(e, -EFBIG, "image '%s': its clusters are too small for %llu bytes of state behind the disk: larger ones hold it "
			       "(lodge img convert -o cluster_size=64k)", n->path ? n->path : "", (unsigned long long)bytes);
	if (q->broken)
		return err_set(e, -EIO, "image '%s' is damaged: see to it with a check", n->path ? n->path : "");
	ret = q_alone(q, begin_main, &need);
	return ret ? err_set(e, ret, "image '%s' cannot be made ready for the guest's state: %s", n->path ? n->path : "", strerror(-ret)) : 0;
}

struct writing {
	uint64_t off, len;
	const struct iovec *iov;
	unsigned niov;
};

static int write_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct writing *w = arg;
	int ret;

	/* It takes the lock itself; nothing else is there to take it. */
	co_unlock(&q->lock);
	ret = do_write(q, c, start_of(q) + w->off, w->len, w->iov, w->niov);
	co_lock(c, &q->lock);
	return ret;
}

int qcow2_vmstate_write(struct blk_node *n, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	struct qcow2 *q = to_q(n);
	uint64_t whole = align_up(len, q->cluster), end;
	struct writing w = { off, whole, iov, niov };
	struct iovec *v = NULL;
	uint8_t *zeros = NULL;
	int ret = 0;

	if (!len || off % QCOW2_VMSTATE_UNIT || add_overflows(start_of(q) + off, whole, &end) || l1_needed(q, end) > q->l1_size || q->broken)
		return q->broken ? -EIO : -EINVAL;
	if (whole > len) {
		v = calloc(niov + 1, sizeof(*v));
		zeros = q_buf(whole - len);
		ret = v && zeros ? 0 : -ENOMEM;
	}
	if (!ret && whole > len) {
		memset(zeros, 0, whole - len);
		memcpy(v, iov, niov * sizeof(*v));
		v[niov] = (struct iovec){ zeros, whole - len };
		w.iov = v;
		w.niov = niov + 1;
	}
	ret = ret ? ret : q_alone(q, write_main, &w);
	free(zeros);
	free(v);
	return ret;
}

/* ---- reading ---- */

struct qcow2_vmstate {
	struct qcow2 *q;
	const char *id;			/* only while it is opened */
	uint64_t start, size;
	uint64_t *l1;
	uint32_t l1_size;
};

static int open_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct qcow2_vmstate *v = arg;
	struct snap *s;
	int ret = snaps_load(q, c, &s);

	if (ret)
		return ret;
	ret = -ENOENT;
	for (unsigned i = 0; i < q->n_snaps && ret == -ENOENT; i++) {
		if (strcmp(s[i].s.id, v->id))
			continue;
		v->start = l1_needed(q, s[i].s.disk_size) * entry_bytes(q);
		v->size = s[i].s.vm_state_size;
		v->l1_size = s[i].l1_size;
		ret = l1_load(q, c, s[i].l1_off, s[i].l1_size, &v->l1);
	}
	snaps_free(s, q->n_snaps);
	return ret;
}

int qcow2_vmstate_open(struct blk_node *n, const char *id, struct qcow2_vmstate **out, struct err *e)
{
	struct qcow2_vmstate *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->q = to_q(n);
	v->id = id;
	ret = q_alone(v->q, open_main, v);
	if (ret) {
		qcow2_vmstate_close(v);
		return err_set(e, ret, "the tables of snapshot %s of image '%s' cannot be read: %s", id, n->path ? n->path : "", strerror(-ret));
	}
	*out = v;
	return 0;
}

void qcow2_vmstate_close(struct qcow2_vmstate *v)
{
	if (!v)
		return;
	free(v->l1);
	free(v);
}

struct reading {
	struct qcow2_vmstate *v;
	uint64_t off, len;
	const struct iovec *iov;
	unsigned niov;
};

/* What is at pos, up to max bytes. */
static int look(struct qcow2 *q, struct co *c, const struct qcow2_vmstate *v, uint64_t pos, uint64_t max, struct run *run)
{
	uint64_t i = pos / entry_bytes(q), table = i < v->l1_size ? v->l1[i] & OFFSET_MASK : 0;
	struct slice *s = NULL;
	int ret = 0;

	if (table && !host_ok(q, table))
		return q_broken(q, "an entry of an L1 table", i);
	if (table)
		ret = cache_get(q, c, &q->l2c, slice_off(q, table, pos), &s);
	ret = ret ? ret : map_run(q, s, pos, max, run);
	/* Nobody writes it compressed. */
	return !ret && run->kind == KIND_COMPRESSED ? -EIO : ret;
}

static int read_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct reading *r = arg;
	struct group g;
	int ret = 0;

	group_init(&g, q, c);
	for (uint64_t at = 0; at < r->len && !ret && !g.ret;) {
		struct run run;

		ret = look(q, c, r->v, r->v->start + r->off + at, r->len - at, &run);
		if (ret)
			break;
		if (run.kind == KIND_NORMAL)
			group_iov(&g, q->data, BLK_READ, run.host, run.len, r->iov, r->niov, at);
		else
			iov_memset(r->iov, r->niov, at, 0, run.len);
		at += run.len;
	}
	return group_wait(&g) ? g.ret : ret;
}

int qcow2_vmstate_read(struct qcow2_vmstate *v, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	struct reading r = { v, off, len, iov, niov };
	uint64_t end;

	if (add_overflows(v->start, align_up(v->size, v->q->cluster), &end) || !range_inside(off, len, align_up(v->size, v->q->cluster)))
		return -EINVAL;
	return q_alone(v->q, read_main, &r);
}
