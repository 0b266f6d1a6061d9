/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Internal snapshots: an L1 table of its own whose clusters count one reference
 * more.  The list of them is one area in the file that is replaced as a whole.
 *
 * Order, so that a crash leaves leaks at worst: references are counted before
 * anything refers, and given back after nothing does; the header is what switches.
 * "Copied" flags are cleared before a second reference appears and set after it
 * is gone from the disk.  Meanwhile they say less than the refcounts would allow, which
 * loses nothing but is an error to a check; so the dirty bit is set (version 3), and who opens the
 * image after a crash repairs it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block/qcow2/internal.h"

#define FIXED 40u
#define KNOWN_EXTRA 16u
#define MAX_EXTRA 1024u

void snaps_free(struct snap *s, unsigned n)
{
	for (unsigned i = 0; s && i < n; i++) {
		free(s[i].s.id);
		free(s[i].s.name);
		free(s[i].extra);
	}
	free(s);
}

uint64_t snaps_len(const struct snap *s, unsigned n)
{
	uint64_t len = 0;

	for (unsigned i = 0; i < n; i++)
		len += align_up(FIXED + KNOWN_EXTRA + s[i].extra_len + strlen(s[i].s.id) + strlen(s[i].s.name), 8);
	return len;
}

/* One entry of at most `room` bytes. Returns its length, 0: nonsense or no memory (*ret). */
static uint64_t parse(struct qcow2 *q, const uint8_t *p, uint64_t room, struct snap *s, int *ret)
{
	uint32_t id_len, name_len, extra;
	uint64_t len;

	*ret = -EINVAL;
	if (room < FIXED)
		return 0;
	id_len = ld_be16(p + 12);
	name_len = ld_be16(p + 14);
	extra = ld_be32(p + 36);
	if (extra > MAX_EXTRA)
		return 0;
	len = FIXED + extra + id_len + name_len;
	s->l1_off = ld_be64(p);
	s->l1_size = ld_be32(p + 8);
	if (len > room || s->l1_size > MAX_L1_BYTES / 8 || (s->l1_off & (q->cluster - 1)) || s->l1_off > MAX_HOST)
		return 0;
	s->s.date_sec = ld_be32(p + 16);
	s->s.date_nsec = ld_be32(p + 20);
	s->s.vm_clock_ns = ld_be64(p + 24);
	s->s.vm_state_size = extra >= 8 ? ld_be64(p + 40) : ld_be32(p + 32);
	s->s.disk_size = extra >= 16 ? ld_be64(p + 48) : q->n.i.size;
	s->s.icount = extra >= 24 ? ld_be64(p + 56) : UINT64_MAX;
	if (s->s.disk_size > (uint64_t)INT64_MAX - 511 || l1_needed(q, s->s.disk_size) > s->l1_size)
		return 0;
	s->s.id = strndup((const char *)p + FIXED + extra, id_len);
	s->s.name = strndup((const char *)p + FIXED + extra + id_len, name_len);
	s->extra_len = extra > KNOWN_EXTRA ? extra - KNOWN_EXTRA : 0;
	s->extra = malloc(s->extra_len + 1);
	*ret = -ENOMEM;
	if (!s->s.id || !s->s.name || !s->extra)
		return 0;
	memcpy(s->extra, p + FIXED + KNOWN_EXTRA, s->extra_len);
	*ret = 0;
	return align_up(len, 8);
}

int snaps_load(struct qcow2 *q, struct co *c, struct snap **out)
{
	uint64_t at = 0, used = 0, len, room = SLICE * 16;
	struct snap *s = calloc(q->n_snaps + 1ull, sizeof(*s));
	uint8_t *buf = q_buf(room);
	int ret = s && buf ? 0 : -ENOMEM;

	for (unsigned i = 0; i < q->n_snaps && !ret; i++) {
		/* A window onto the table that holds the largest entry there can be. */
		if (!i || used > room / 2) {
			at += used;
			used = 0;
			ret = at > MAX_SNAPSHOT_TABLE ? -EINVAL : 0;
			/* Entries are aligned to 8 bytes, requests to 512. */
			ret = ret ? ret : q_rw(q, c, q->n.file, BLK_READ, q->snaps_off + align_down(at, 512), buf, room);
			used = at & 511;
			at = align_down(at, 512);
			if (ret)
				break;
		}
		len = parse(q, buf + used, room - used, &s[i], &ret);
		used += len;
	}
	free(buf);
	if (ret) {
		snaps_free(s, s ? q->n_snaps : 0);
		return ret;
	}
	*out = s;
	return 0;
}

static uint64_t put(uint8_t *p, const struct snap *s)
{
	uint32_t id_len = (uint32_t)strlen(s->s.id), name_len = (uint32_t)strlen(s->s.name);
	uint32_t extra = KNOWN_EXTRA + s->extra_len;

	st_be64(p, s->l1_off);
	st_be32(p + 8, s->l1_size);
	st_be16(p + 12, (uint16_t)id_len);
	st_be16(p + 14, (uint16_t)name_len);
	st_be32(p + 16, s->s.date_sec);
	st_be32(p + 20, s->s.date_nsec);
	st_be64(p + 24, s->s.vm_clock_ns);
	st_be32(p + 32, (uint32_t)MIN(s->s.vm_state_size, (uint64_t)UINT32_MAX));
	st_be32(p + 36, extra);
	st_be64(p + 40, s->s.vm_state_size);
	st_be64(p + 48, s->s.disk_size);
	memcpy(p + FIXED + KNOWN_EXTRA, s->extra, s->extra_len);
	memcpy(p + FIXED + extra, s->s.id, id_len);
	memcpy(p + FIXED + extra + id_len, s->s.name, name_len);
	return align_up(FIXED + extra + id_len + name_len, 8);
}

static uint64_t clusters_of(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes + q->cluster - 1) >> q->cluster_bits;
}

/* Replaces the list on disk; old_len: bytes of the present one. */
static int snaps_store(struct qcow2 *q, struct co *c, const struct snap *s, unsigned n, uint64_t old_len)
{
	uint64_t len = snaps_len(s, n), at = 0, off = 0, old_off = q->snaps_off;
	uint32_t old_n = q->n_snaps;
	uint8_t *buf = NULL;
	bool zero;
	int ret = 0;

	if (len > MAX_SNAPSHOT_TABLE)
		return -EFBIG;
	if (n) {
		uint64_t room = clusters_of(q, len) << q->cluster_bits;

		buf = q_buf(room);
		if (!buf)
			return -ENOMEM;
		memset(buf, 0, room);
		for (unsigned i = 0; i < n; i++)
			at += put(buf + at, &s[i]);
		ret = alloc_clusters(q, c, clusters_of(q, len), &off, &zero);
		ret = ret ? ret : q_rw(q, c, q->n.file, BLK_WRITE, off, buf, room);
		free(buf);
	}
	/* Refcounts and all that the list refers to. */
	ret = ret ? ret : q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		return ret;
	q->snaps_off = off;
	q->n_snaps = n;
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret) {
		q->snaps_off = old_off;
		q->n_snaps = old_n;
		return q_stuck(q, "its header could not be written");
	}
	return old_len ? free_later(q, old_off, clusters_of(q, old_len), true) : 0;
}

/* ---- trees ---- */

struct tree_walk {
	int delta;			/* +1: counts at once; -1: gives back later */
	uint64_t limit, done;		/* references */
};

static int touch(struct qcow2 *q, struct co *c, struct tree_walk *w, uint64_t off, unsigned n)
{
	int ret = 0;

	for (unsigned i = 0; i < n && !ret && w->done < w->limit; i++) {
		uint64_t at = off + ((uint64_t)i << q->cluster_bits);

		ret = w->delta > 0 ? rc_add(q, c, at >> q->cluster_bits, 1, NULL) : free_later(q, at, 1, true);
		w->done += !ret;
	}
	return ret;
}

static int touch_table(struct qcow2 *q, struct co *c, struct tree_walk *w, uint64_t table)
{
	int ret = 0;

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !ret; i++) {
		uint64_t pos = i << q->cluster_bits, off, len, host;
		struct slice *s;
		struct entry e;

		ret = cache_get(q, c, &q->l2c, slice_off(q, table, pos), &s);
		if (ret)
			break;
		e = entry_get(q, s, pos);
		host = e.e & OFFSET_MASK;
		if (e.e & OFLAG_COMPRESSED) {
			unsigned n = compressed_range(q, e.e, &off, &len);

			ret = touch(q, c, w, align_down(off, q->cluster), n);
		} else if (host) {
			ret = host_ok(q, host) ? touch(q, c, w, host, 1) : q_broken(q, "an entry of an L2 table", table);
		}
	}
	return ret;
}

static int touch_tree(struct qcow2 *q, struct co *c, struct tree_walk *w, const uint64_t *l1, uint32_t n)
{
	int ret = 0;

	for (uint32_t i = 0; i < n && !ret && w->done < w->limit; i++) {
		uint64_t table = l1[i] & OFFSET_MASK;

		if (!table)
			continue;
		ret = host_ok(q, table) ? touch_table(q, c, w, table) : q_broken(q, "an entry of an L1 table", i);
		ret = ret ? ret : touch(q, c, w, table, 1);
	}
	return ret;
}

/* Everything the table refers to counts one reference more, or nothing does. */
static int count_tree(struct qcow2 *q, struct co *c, const uint64_t *l1, uint32_t n)
{
	struct tree_walk w = { .delta = 1, .limit = UINT64_MAX };
	int ret = touch_tree(q, c, &w, l1, n);

	if (ret) {
		struct tree_walk back = { .delta = -1, .limit = w.done };

		if (touch_tree(q, c, &back, l1, n) || q_commit(q, c))
			q_stuck(q, "refcounts could not be taken back");
	}
	return ret;
}

int drop_tree(struct qcow2 *q, struct co *c, const uint64_t *l1, uint32_t n)
{
	struct tree_walk w = { .delta = -1, .limit = UINT64_MAX };
	int ret = touch_tree(q, c, &w, l1, n);

	return ret ? ret : q_commit(q, c);
}

static int flag_of(struct qcow2 *q, struct co *c, uint64_t *e)
{
	uint64_t rc;
	int ret = rc_get(q, c, (*e & OFFSET_MASK) >> q->cluster_bits, &rc);

	if (!ret)
		*e = (*e & ~OFLAG_COPIED) | (rc == 1 ? OFLAG_COPIED : 0);
	return ret;
}

static int flag_table(struct qcow2 *q, struct co *c, uint64_t table)
{
	int ret = 0;

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !ret; i++) {
		uint64_t pos = i << q->cluster_bits;
		struct slice *s;
		struct entry e, old;

		ret = cache_get(q, c, &q->l2c, slice_off(q, table, pos), &s);
		if (ret)
			break;
		e = old = entry_get(q, s, pos);
		if ((e.e & OFLAG_COMPRESSED) || !(e.e & OFFSET_MASK))
			continue;
		ret = flag_of(q, c, &e.e);
		if (ret || e.e == old.e)
			continue;
		ret = cache_get(q, c, &q->l2c, slice_off(q, table, pos), &s);
		if (!ret)
			entry_set(q, s, pos, e);
	}
	return ret;
}

/* Makes the "copied" flags of a tree tell the truth. set: of the active table, to be written. */
static int flag_tree(struct qcow2 *q, struct co *c, uint64_t *l1, uint32_t n)
{
	int ret = 0;

	for (uint32_t i = 0; i < n && !ret; i++) {
		uint64_t v = l1[i];

		if (!(v & OFFSET_MASK))
			continue;
		ret = flag_of(q, c, &v);
		if (!ret && v != l1[i]) {
			if (l1 == q->l1)
				l1_set(q, i, v);
			else
				l1[i] = v;
		}
		ret = ret ? ret : flag_table(q, c, v & OFFSET_MASK);
	}
	return ret;
}

void q_settle_flags(struct qcow2 *q, struct co *c)
{
	int ret;

	if (!q->flags_due || q->broken || q->n.i.read_only)
		return;
	/* Lower refcounts are on disk before a flag relies on them. */
	ret = q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	ret = ret ? ret : flag_tree(q, c, q->l1, q->l1_size);
	q->flags_due = ret != 0;
}

/* ---- create, apply, delete ---- */

struct snap_op {
	const char *name;
	bool by_id;			/* the name is an id */
	const struct qcow2_vm *vm;	/* NULL: a snapshot of the disk alone */
	char *id;			/* of what was made; NULL: who cares */
	struct err *e;
	struct qcow2_snapshot **list;
};

static const char *path_of(const struct qcow2 *q)
{
	return q->n.path ? q->n.path : "";
}

static int find(const struct snap *s, unsigned n, const char *name, bool by_id)
{
	for (unsigned i = 0; i < n && !by_id; i++)
		if (!strcmp(s[i].s.name, name))
			return (int)i;
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(s[i].s.id, name))
			return (int)i;
	return -1;
}

static int load(struct qcow2 *q, struct co *c, struct snap_op *op, struct snap **s)
{
	int ret = snaps_load(q, c, s);

	return ret ? err_set(op->e, ret, "the snapshots of image '%s' cannot be read: %s", path_of(q),
			     ret == -EINVAL ? "their list is damaged" : strerror(-ret)) : 0;
}

static int fill_snap(struct qcow2 *q, struct snap *s, unsigned n, const struct snap_op *op)
{
	unsigned long id = 0;
	struct timespec now;
	char text[24];

	for (unsigned i = 0; i < n; i++)
		id = MAX(id, strtoul(s[i].s.id, NULL, 10));
	snprintf(text, sizeof(text), "%lu", id + 1);
	clock_gettime(CLOCK_REALTIME, &now);
	s[n].s.id = strdup(text);
	s[n].s.name = strdup(op->name);
	s[n].extra = malloc(1);
	s[n].s.disk_size = q->n.i.size;
	s[n].s.date_sec = (uint32_t)now.tv_sec;
	s[n].s.date_nsec = (uint32_t)now.tv_nsec;
	s[n].l1_size = q->l1_size;
	if (op->vm) {
		s[n].s.date_sec = op->vm->date_sec;
		s[n].s.date_nsec = op->vm->date_nsec;
		s[n].s.vm_clock_ns = op->vm->clock_ns;
		s[n].s.vm_state_size = op->vm->state_size;
	}
	if (op->id)
		snprintf(op->id, QCOW2_ID_LEN, "%s", text);
	return s[n].s.id && s[n].s.name && s[n].extra ? 0 : -ENOMEM;
}

void snaps_forget(struct qcow2 *q)
{
	qcow2_snapshots_free(q->known, q->n_known);
	q->known = NULL;
	q->n_known = 0;
}

/* Sets or clears the dirty bit, with what was written before on disk. */
static int mark(struct qcow2 *q, struct co *c, bool dirty)
{
	int ret;

	if (q->version < 3 || dirty == !!(q->incompat & INCOMPAT_DIRTY))
		return 0;
	ret = q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		return ret;
	q->incompat ^= INCOMPAT_DIRTY;
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		q->incompat ^= INCOMPAT_DIRTY;
	return ret;
}

/* After a change of snapshots: one that failed leaves the bit, for who opens the image next. */
static int changed(struct qcow2 *q, struct co *c, int ret)
{
	snaps_forget(q);
	q->snaps_failed = q->snaps_failed || ret;
	return ret || q->snaps_failed ? ret : mark(q, c, false);
}

static int create(struct qcow2 *q, struct co *c, struct snap *s)
{
	uint64_t clusters = MAX(clusters_of(q, q->l1_size * 8ull), 1u), old_len = snaps_len(s, q->n_snaps);
	bool zero;
	int ret = q_commit(q, c);

	ret = ret ? ret : alloc_clusters(q, c, clusters, &s[q->n_snaps].l1_off, &zero);
	if (ret)
		return ret;
	ret = count_tree(q, c, q->l1, q->l1_size);
	if (ret) {
		free_now(q, c, s[q->n_snaps].l1_off, clusters);
		return ret;
	}
	q->flags_due = true;
	ret = flag_tree(q, c, q->l1, q->l1_size);
	q->flags_due = ret != 0;
	ret = ret ? ret : q_commit(q, c);
	ret = ret ? ret : write_table(q, c, s[q->n_snaps].l1_off, q->l1, q->l1_size, clusters << q->cluster_bits);
	ret = ret ? ret : snaps_store(q, c, s, q->n_snaps + 1, old_len);
	return ret ? ret : q_commit(q, c);
}

static int create_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct snap_op *op = arg;
	struct snap *s;
	int ret = load(q, c, op, &s);

	if (ret)
		return ret;
	for (unsigned i = 0; i < q->n_snaps && !op->vm; i++)
		if (!strcmp(s[i].s.name, op->name))
			ret = err_set(op->e, -EEXIST, "image '%s' has a snapshot '%s' already", path_of(q), op->name);
	if (!ret) {
		unsigned n = q->n_snaps;

		/* What an interrupted save has left is nobody's state. */
		ret = op->vm && op->vm->state_size ? 0 : vmstate_drop(q, c);
		ret = ret ? ret : fill_snap(q, s, n, op);
		ret = ret ? ret : mark(q, c, true);
		/* The state is the snapshot's then; the disk would make the next one hold it, too. */
		if (!ret) {
			ret = create(q, c, s);
			ret = changed(q, c, ret ? ret : vmstate_drop(q, c));
		}
		if (ret == -ERANGE)
			err_set(op->e, ret, "image '%s': its refcounts of %u bits cannot count one more snapshot", path_of(q),
				1u << q->rc_order);
		else if (ret)
			err_set(op->e, ret, "the snapshot of image '%s' failed: %s", path_of(q), strerror(-ret));
		snaps_free(s, n + 1);
		return ret;
	}
	snaps_free(s, q->n_snaps);
	return ret;
}

static int apply(struct qcow2 *q, struct co *c, const struct snap *s)
{
	uint64_t clusters = MAX(clusters_of(q, s->l1_size * 8ull), 1u), off, *l1, *dirty, *old = q->l1;
	uint64_t old_off = q->l1_off, old_size = q->n.i.size;
	uint32_t old_n = q->l1_size;
	bool zero;
	int ret = q_commit(q, c);

	ret = ret ? ret : l1_load(q, c, s->l1_off, s->l1_size, &l1);
	if (ret)
		return ret;
	/* A VM's state stays the snapshot's alone. */
	for (uint64_t i = l1_needed(q, s->s.disk_size); i < s->l1_size; i++)
		l1[i] = 0;
	dirty = calloc(s->l1_size / 64 + 1, 8);
	ret = dirty ? alloc_clusters(q, c, clusters, &off, &zero) : -ENOMEM;
	if (ret)
		goto out;
	ret = count_tree(q, c, l1, s->l1_size);
	if (ret) {
		free_now(q, c, off, clusters);
		goto out;
	}
	ret = flag_tree(q, c, l1, s->l1_size);
	ret = ret ? ret : write_table(q, c, off, l1, s->l1_size, clusters << q->cluster_bits);
	ret = ret ? ret : q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		goto out;
	q->l1_off = off;
	q->l1_size = s->l1_size;
	q->n.i.size = align_up(s->s.disk_size, BLK_SECTOR);
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret) {
		q->l1_off = old_off;
		q->l1_size = old_n;
		q->n.i.size = old_size;
		ret = q_stuck(q, "its header could not be written");
		goto out;
	}
	q->l1 = l1;
	free(q->l1_dirty);
	q->l1_dirty = dirty;
	q->n_l1_dirty = 0;
	ret = free_later(q, old_off, MAX(clusters_of(q, old_n * 8ull), 1u), true);
	q->flags_due = true;
	ret = ret ? ret : drop_tree(q, c, old, old_n);
	free(old);
	ret = ret ? ret : flag_tree(q, c, q->l1, q->l1_size);
	q->flags_due = ret != 0;
	return ret ? ret : q_commit(q, c);
out:
	free(l1);
	free(dirty);
	return ret;
}

static int delete(struct qcow2 *q, struct co *c, struct snap *s, unsigned i)
{
	uint64_t old_len = snaps_len(s, q->n_snaps), *l1;
	struct snap gone = s[i];
	int ret = l1_load(q, c, gone.l1_off, gone.l1_size, &l1);

	if (ret)
		return ret;
	memmove(&s[i], &s[i + 1], (q->n_snaps - i - 1) * sizeof(*s));
	s[q->n_snaps - 1] = gone;
	ret = snaps_store(q, c, s, q->n_snaps - 1, old_len);
	q->flags_due = q->flags_due || !ret;
	ret = ret ? ret : free_later(q, gone.l1_off, MAX(clusters_of(q, gone.l1_size * 8ull), 1u), true);
	ret = ret ? ret : drop_tree(q, c, l1, gone.l1_size);
	/* The lower refcounts are on disk before a flag relies on them. */
	ret = ret ? ret : q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	ret = ret ? ret : flag_tree(q, c, q->l1, q->l1_size);
	if (!ret)
		q->flags_due = false;
	ret = ret ? ret : q_commit(q, c);
	free(l1);
	return ret;
}

static int find_main(struct qcow2 *q, struct co *c, struct snap_op *op, struct snap **s, int *i)
{
	int ret = load(q, c, op, s);

	if (ret)
		return ret;
	*i = find(*s, q->n_snaps, op->name, op->by_id);
	if (*i >= 0)
		return 0;
	snaps_free(*s, q->n_snaps);
	return err_set(op->e, -ENOENT, "image '%s' has no snapshot '%s'", path_of(q), op->name);
}

static int apply_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct snap_op *op = arg;
	struct snap *s;
	int i, ret = find_main(q, c, op, &s, &i);

	if (ret)
		return ret;
	if (q->n_bitmaps && align_up(s[i].s.disk_size, BLK_SECTOR) != q->n.i.size) {
		ret = err_set(op->e, -ENOTSUP, "image '%s' has bitmaps, and snapshot '%s' is of another size: remove them first", path_of(q),
			      op->name);
		snaps_free(s, q->n_snaps);
		return ret;
	}
	if (q->n_recording)
		bitmaps_mark(q, 0, q->n.i.size);
	ret = mark(q, c, true);
	ret = ret ? ret : changed(q, c, apply(q, c, &s[i]));
	if (ret)
		err_set(op->e, ret, "snapshot '%s' of image '%s' could not be applied: %s", op->name, path_of(q), strerror(-ret));
	snaps_free(s, q->n_snaps);
	return ret;
}

/* The snapshot's table in place of the disk's, in memory. */
static int view_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct snap_op *op = arg;
	uint64_t *l1 = NULL, *dirty;
	struct snap *s;
	int i, ret = find_main(q, c, op, &s, &i);

	if (ret)
		return ret;
	dirty = calloc(s[i].l1_size / 64 + 1, 8);
	ret = dirty ? l1_load(q, c, s[i].l1_off, s[i].l1_size, &l1) : -ENOMEM;
	if (ret) {
		free(dirty);
		err_set(op->e, ret, "snapshot '%s' of image '%s' cannot be read: %s", op->name, path_of(q), strerror(-ret));
	} else {
		free(q->l1);
		free(q->l1_dirty);
		q->l1 = l1;
		q->l1_dirty = dirty;
		q->l1_size = s[i].l1_size;
		q->l1_off = s[i].l1_off;
		q->n.i.size = align_up(s[i].s.disk_size, BLK_SECTOR);
	}
	snaps_free(s, q->n_snaps);
	return ret;
}

static int delete_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct snap_op *op = arg;
	unsigned n = q->n_snaps;
	struct snap *s;
	int i, ret = find_main(q, c, op, &s, &i);

	if (ret)
		return ret;
	ret = mark(q, c, true);
	ret = ret ? ret : changed(q, c, delete(q, c, s, (unsigned)i));
	if (ret)
		err_set(op->e, ret, "snapshot '%s' of image '%s' could not be deleted: %s", op->name, path_of(q), strerror(-ret));
	snaps_free(s, n);
	return ret;
}

static int list_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct snap_op *op = arg;
	struct snap *s;
	int ret = load(q, c, op, &s);

	if (ret)
		return ret;
	*op->list = calloc(q->n_snaps + 1ull, sizeof(**op->list));
	for (unsigned i = 0; *op->list && i < q->n_snaps; i++) {
		(*op->list)[i] = s[i].s;
		s[i].s.id = s[i].s.name = NULL;
	}
	snaps_free(s, q->n_snaps);
	return *op->list ? 0 : err_set(op->e, -ENOMEM, "out of memory");
}

int snaps_may_change(struct blk_node *n, struct err *e)
{
	struct qcow2 *q = to_q(n);

	if (n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only", path_of(q));
	if (q->ext_data)
		return err_set(e, -ENOTSUP, "image '%s' has an external data file: it can have no snapshots inside", path_of(q));
	return 0;
}

static int create_op(struct blk_node *n, struct snap_op *op)
{
	int ret = snaps_may_change(n, op->e);

	if (ret)
		return ret;
	if (!*op->name || strlen(op->name) > 255)
		return err_set(op->e, -EINVAL, "a snapshot's name has 1 to 255 bytes");
	if (to_q(n)->n_snaps >= MAX_SNAPSHOTS)
		return err_set(op->e, -E2BIG, "image '%s' has as many snapshots as it can", path_of(to_q(n)));
	return q_alone(to_q(n), create_main, op);
}

int qcow2_snapshot_create(struct blk_node *n, const char *name, struct err *e)
{
	return create_op(n, &(struct snap_op){ .name = name, .e = e });
}

int qcow2_snapshot_create_vm(struct blk_node *n, const char *name, const struct qcow2_vm *vm, char id[QCOW2_ID_LEN], struct err *e)
{
	return create_op(n, &(struct snap_op){ .name = name, .vm = vm, .id = id, .e = e });
}

static int change_op(struct blk_node *n, int (*fn)(struct qcow2 *q, struct co *c, void *arg), const char *name, bool by_id, struct err *e)
{
	struct snap_op op = { .name = name, .by_id = by_id, .e = e };
	int ret = snaps_may_change(n, e);

	return ret ? ret : q_alone(to_q(n), fn, &op);
}

int qcow2_snapshot_apply(struct blk_node *n, const char *name_or_id, struct err *e) { return change_op(n, apply_main, name_or_id, false, e); }
int qcow2_snapshot_apply_id(struct blk_node *n, const char *id, struct err *e) { return change_op(n, apply_main, id, true, e); }
int qcow2_snapshot_delete(struct blk_node *n, const char *name_or_id, struct err *e) { return change_op(n, delete_main, name_or_id, false, e); }
int qcow2_snapshot_delete_id(struct blk_node *n, const char *id, struct err *e) { return change_op(n, delete_main, id, true, e); }

int qcow2_snapshot_view(struct blk_node *n, const char *name_or_id, struct err *e)
{
	struct snap_op op = { .name = name_or_id, .e = e };

	if (!n->i.read_only)
		return err_set(e, -EINVAL, "image '%s' is open for writing", path_of(to_q(n)));
	return q_alone(to_q(n), view_main, &op);
}

int qcow2_snapshot_list(struct blk_node *n, struct qcow2_snapshot **out, unsigned *count, struct err *e)
{
	struct snap_op op = { .e = e, .list = out };
	int ret = q_alone(to_q(n), list_main, &op);

	*count = ret ? 0 : to_q(n)->n_snaps;
	return ret;
}

int qcow2_snapshot_known(struct blk_node *n, const struct qcow2_snapshot **out, unsigned *count)
{
	struct qcow2 *q = to_q(n);
	struct err e;
	int ret = 0;

	if (!q->known && q->n_snaps)
		ret = qcow2_snapshot_list(n, &q->known, &q->n_known, &e);
	*out = q->known;
	*count = ret ? 0 : q->n_known;
	return ret;
}

void qcow2_snapshots_free(struct qcow2_snapshot *s, unsigned count)
{
	for (unsigned i = 0; s && i < count; i++) {
		free(s[i].id);
		free(s[i].name);
	}
	free(s);
}
