/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking an image: what refers to each host cluster is counted by walking all
 * tables, and compared with the refcounts.
 *
 * Too high a refcount is a leak, too low a corruption, as are entries that point
 * to where nothing can be and flags that say "exactly one" wrongly.  Repair sets
 * refcounts and flags to what was counted, empties entries that make no sense,
 * and writes all refcounts anew if their own tables are damaged.
 *
 * Counters are in pages that exist only where something refers to, so memory
 * follows what the image really holds; no table is walked twice from one L1 table.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/qcow2/internal.h"

#define PAGE_BITS 12
#define PAGE_N (1u << PAGE_BITS)
#define MAX_DIRECTORY (8u << 20)	/* pages */
#define MAX_SAID 100

struct page {
	uint32_t refs[PAGE_N];
	uint64_t walked[PAGE_N / 64];	/* an L2 table of the L1 table being walked */
};

struct check {
	struct qcow2 *q;
	struct co *c;
	struct qcow2_check *res;
	unsigned fix;
	uint64_t n;			/* clusters of the file */
	uint64_t n_pages;
	struct page **page;
	bool rebuild;			/* the refcount structure itself is damaged */
	bool rewalk;			/* entries were repaired: count again */
	uint64_t next_expected;
	unsigned said;
};

static void say(struct check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct check *k, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (!k->res->say || k->said++ > MAX_SAID)
		return;
	if (k->said > MAX_SAID) {
		k->res->say(k->res->opaque, "... and more of this kind");
		return;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	k->res->say(k->res->opaque, line);
}

static struct page *page_of(struct check *k, uint64_t cluster)
{
	uint64_t i = cluster >> PAGE_BITS;

	if (i >= k->n_pages)
		return NULL;
	if (!k->page[i])
		k->page[i] = calloc(1, sizeof(struct page));
	return k->page[i];
}

static uint64_t refs(const struct check *k, uint64_t cluster)
{
	uint64_t i = cluster >> PAGE_BITS;

	return i < k->n_pages && k->page[i] ? k->page[i]->refs[cluster & (PAGE_N - 1)] : 0;
}

/* The first cluster behind this one that may be referred to, or limit, which is not looked beyond. */
static uint64_t next_counted(const struct check *k, uint64_t cluster, uint64_t limit)
{
	uint64_t i = cluster >> PAGE_BITS;

	if (i < k->n_pages && k->page[i])
		return MIN(cluster + 1, limit);
	for (i++; i < k->n_pages && i << PAGE_BITS < limit; i++)
		if (k->page[i])
			return i << PAGE_BITS;
	return limit;
}

/* Behind the last cluster that is referred to; 0: none is. */
static uint64_t counted_end(const struct check *k)
{
	for (uint64_t i = k->n_pages; i > 0; i--)
		for (uint64_t n = PAGE_N; k->page[i - 1] && n > 0; n--)
			if (k->page[i - 1]->refs[n - 1])
				return ((i - 1) << PAGE_BITS) + n;
	return 0;
}

/* Counts a reference to [off, off+len). -ENXIO: not in the file */
static int count(struct check *k, uint64_t off, uint64_t len)
{
	uint64_t first = off >> k->q->cluster_bits, last = (off + len - 1) >> k->q->cluster_bits;

	if (!len)
		return 0;
	if (off + len < off || last >= k->n)
		return -ENXIO;
	for (uint64_t i = first; i <= last; i++) {
		struct page *p = page_of(k, i);

		if (!p)
			return -ENOMEM;
		if (p->refs[i & (PAGE_N - 1)] < UINT32_MAX)
			p->refs[i & (PAGE_N - 1)]++;
	}
	return 0;
}

static int corrupt(struct check *k)
{
	k->res->corruptions++;
	return 0;
}

/* A table the header or a snapshot names. */
static int count_area(struct check *k, const char *what, uint64_t off, uint64_t len)
{
	int ret = count(k, off, len);

	if (ret != -ENXIO)
		return ret;
	say(k, "%s lies outside of the image", what);
	return corrupt(k);
}

static bool walked(struct check *k, uint64_t table)
{
	uint64_t i = table >> k->q->cluster_bits;
	struct page *p = page_of(k, i);
	uint64_t *w = p ? &p->walked[(i & (PAGE_N - 1)) / 64] : NULL;

	if (!w || (*w >> (i & 63) & 1))
		return true;
	*w |= BIT64(i & 63);
	return false;
}

static void forget_walk(struct check *k)
{
	for (uint64_t i = 0; i < k->n_pages; i++)
		if (k->page[i])
			memset(k->page[i]->walked, 0, sizeof(k->page[i]->walked));
}

static void count_stats(struct check *k, struct entry e)
{
	uint64_t host = e.e & OFFSET_MASK;

	if (e.e & OFLAG_COMPRESSED) {
		k->res->compressed_clusters++;
		k->res->allocated_clusters++;
		/* As QEMU has it: all of them count as fragmented. */
		k->res->fragmented_clusters++;
		return;
	}
	if (!host)
		return;
	k->res->allocated_clusters++;
	if (k->next_expected && host != k->next_expected)
		k->res->fragmented_clusters++;
	k->next_expected = host + k->q->cluster;
}

/* Counts what an entry of an L2 table refers to; false: the entry makes no sense. */
static bool count_entry(struct check *k, struct entry e, int *ret)
{
	struct qcow2 *q = k->q;
	uint64_t off, len, host = e.e & OFFSET_MASK;

	if (e.e & OFLAG_COMPRESSED) {
		compressed_range(q, e.e, &off, &len);
		/* The last sector may be cut off by the end of the file. */
		*ret = count(k, off, len);
		return *ret != -ENXIO && !q->ext_data;
	}
	if (q->ext_l2 && (((uint32_t)e.bitmap & (uint32_t)(e.bitmap >> 32)) ||
			  ((uint32_t)e.bitmap && !host && !(q->ext_data && (e.e & OFLAG_COPIED)))))
		return false;
	if (!host || q->ext_data)
		return true;
	if (!host_ok(q, host))
		return false;
	*ret = count(k, host, q->cluster);
	return *ret != -ENXIO;
}

static int bad_entry(struct check *k, struct slice *s, uint64_t off, struct entry e)
{
	say(k, "the entry %016" PRIx64 " for the disk's byte %" PRIu64 " makes no sense", e.e, off);
	corrupt(k);
	if (k->fix & QCOW2_FIX_ERRORS) {
		entry_set(k->q, s, off, (struct entry){ 0 });
		k->res->corruptions_fixed++;
	}
	return 0;
}

static int walk_table(struct check *k, uint64_t table, uint64_t first, bool active)
{
	struct qcow2 *q = k->q;
	int ret = 0;

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !ret; i++) {
		uint64_t off = first + (i << q->cluster_bits);
		struct slice *s;
		struct entry e;

		ret = cache_get(q, k->c, &q->l2c, slice_off(q, table, off), &s);
		if (ret)
			break;
		e = entry_get(q, s, off);
		if (!count_entry(k, e, &ret)) {
			ret = 0;
			bad_entry(k, s, off, e);
		} else if (active) {
			count_stats(k, e);
		}
	}
	return ret;
}

static int bad_l1(struct check *k, uint64_t *l1, uint32_t i, bool active)
{
	say(k, "entry %u of an L1 table, %016" PRIx64 ", makes no sense", i, l1[i]);
	corrupt(k);
	if (active && (k->fix & QCOW2_FIX_ERRORS)) {
		l1_set(k->q, i, 0);
		k->res->corruptions_fixed++;
	}
	return 0;
}

static int walk_l1(struct check *k, uint64_t *l1, uint32_t n, bool active)
{
	struct qcow2 *q = k->q;
	int ret = 0;

	forget_walk(k);
	for (uint32_t i = 0; i < n && !ret; i++) {
		uint64_t table = l1[i] & OFFSET_MASK;

		if (!table)
			continue;
		ret = host_ok(q, table) ? count(k, table, q->cluster) : -ENXIO;
		if (ret == -ENXIO || (!ret && walked(k, table)))
			ret = bad_l1(k, l1, i, active);
		else if (!ret)
			ret = walk_table(k, table, (uint64_t)i << (q->cluster_bits + q->l2_bits), active);
	}
	return ret;
}

static int walk_snapshots(struct check *k)
{
	struct qcow2 *q = k->q;
	struct snap *snaps = NULL;
	uint64_t *l1;
	int ret;

	if (!q->n_snaps)
		return 0;
	ret = snaps_load(q, k->c, &snaps);
	if (ret == -EINVAL) {
		say(k, "the snapshot table is damaged");
		return corrupt(k);
	}
	ret = ret ? ret : count_area(k, "the snapshot table", q->snaps_off, snaps_len(snaps, q->n_snaps));
	for (unsigned i = 0; i < q->n_snaps && !ret; i++) {
		ret = count_area(k, "the L1 table of a snapshot", snaps[i].l1_off, snaps[i].l1_size * 8ull);
		ret = ret ? ret : l1_load(q, k->c, snaps[i].l1_off, snaps[i].l1_size, &l1);
		if (ret)
			break;
		ret = walk_l1(k, l1, snaps[i].l1_size, false);
		free(l1);
	}
	snaps_free(snaps, q->n_snaps);
	return ret;
}

/* One bitmap's table and clusters. */
static int walk_bitmap(struct check *k, uint64_t off, uint32_t n)
{
	uint64_t *t;
	int ret;

	if ((off & (k->q->cluster - 1)) || n > MAX_L1_BYTES / 8) {
		say(k, "a bitmap's table makes no sense");
		return corrupt(k);
	}
	ret = count_area(k, "a bitmap's table", off, n * 8ull);
	ret = ret ? ret : l1_load(k->q, k->c, off, n, &t);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < n && !ret; i++)
		if (t[i] & OFFSET_MASK)
			ret = count_area(k, "a bitmap's cluster", t[i] & OFFSET_MASK, k->q->cluster);
	free(t);
	return ret;
}

static int walk_bitmaps(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t len = q->bitmap_dir_len, at = 0;
	uint8_t *dir;
	int ret;

	if (!q->n_bitmaps)
		return 0;
	if (len > MAX_SNAPSHOT_TABLE || (q->bitmap_dir_off & (q->cluster - 1)) || q->bitmap_dir_off > MAX_HOST) {
		say(k, "the bitmap directory makes no sense");
		return corrupt(k);
	}
	dir = q_buf(align_up(len, 512));
	ret = dir ? q_rw(q, k->c, q->n.file, BLK_READ, q->bitmap_dir_off, dir, align_up(len, 512)) : -ENOMEM;
	ret = ret ? ret : count_area(k, "the bitmap directory", q->bitmap_dir_off, len);
	for (unsigned i = 0; i < q->n_bitmaps && !ret && at + 24 <= len; i++) {
		ret = walk_bitmap(k, ld_be64(dir + at), ld_be32(dir + at + 8));
		at += align_up(24 + (uint64_t)ld_be16(dir + at + 18) + ld_be32(dir + at + 20), 8);
	}
	free(dir);
	return ret;
}

static int walk_refcounts(struct check *k)
{
	struct qcow2 *q = k->q;
	int ret = count_area(k, "the refcount table", q->rt_off, align_up(q->rt_size * 8ull, q->cluster));

	for (uint32_t i = 0; i < q->rt_size && !ret; i++) {
		uint64_t block = q->rt[i] & RT_OFFSET_MASK;

		if (!block)
			continue;
		ret = host_ok(q, block) ? count(k, block, q->cluster) : -ENXIO;
		if (!ret && refs(k, block >> q->cluster_bits) == 1)
			continue;
		if (ret && ret != -ENXIO)
			return ret;
		say(k, "the refcount block %u at %" PRIu64 " is not where one can be", i, block);
		k->rebuild = true;
		ret = corrupt(k);
	}
	return ret;
}

static int count_all(struct check *k)
{
	struct qcow2 *q = k->q;
	int ret = count(k, 0, q->cluster);

	ret = ret ? ret : count_area(k, "the L1 table", q->l1_off, q->l1_size * 8ull);
	if (!ret && q->crypt_len)
		ret = count_area(k, "the LUKS header", q->crypt_off, align_up(q->crypt_len, q->cluster));
	ret = ret ? ret : walk_l1(k, q->l1, q->l1_size, true);
	ret = ret ? ret : walk_snapshots(k);
	ret = ret ? ret : walk_bitmaps(k);
	/* Last: a block that something else refers to as well is found now. */
	return ret ? ret : walk_refcounts(k);
}

static int compare_one(struct check *k, uint64_t cluster, uint64_t have)
{
	uint64_t want = refs(k, cluster), *found, *fixed;
	bool leak = have > want;
	int ret;

	if (have == want)
		return 0;
	say(k, "%s: cluster %" PRIu64 " has refcount %" PRIu64 ", but %" PRIu64 " refer to it", leak ? "leak" : "error",
	    cluster, have, want);
	found = leak ? &k->res->leaks : &k->res->corruptions;
	fixed = leak ? &k->res->leaks_fixed : &k->res->corruptions_fixed;
	++*found;
	if (!(k->fix & (leak ? QCOW2_FIX_LEAKS : QCOW2_FIX_ERRORS)))
		return 0;
	if (want > rc_max(k->q)) {
		say(k, "cluster %" PRIu64 ": more references than a refcount of this width can tell", cluster);
		k->res->check_errors++;
		return 0;
	}
	++*fixed;
	if (k->rebuild)
		return 0;
	ret = rc_assign(k->q, k->c, cluster, want);
	/* A block that is missing may have no place: then all are written anew. */
	if (ret == -EIO && !leak)
		k->rebuild = true;
	return k->rebuild ? 0 : ret;
}

static int compare(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t per = BIT64(q->rb_bits), end = MAX(k->n, (uint64_t)q->rt_size << q->rb_bits);
	int ret = 0;

	for (uint64_t i = 0; i < end && !ret;) {
		uint64_t block = i >> q->rb_bits < q->rt_size ? q->rt[i >> q->rb_bits] & RT_OFFSET_MASK : 0, have = 0;
		bool readable = block && host_ok(q, block) && refs(k, block >> q->cluster_bits) == 1;

		/* A file may be long and nearly empty: not each of its clusters is looked at. */
		if (!readable && !refs(k, i)) {
			i = next_counted(k, i, i >> q->rb_bits < q->rt_size ? (i / per + 1) * per : end);
			continue;
		}
		if (readable)
			ret = rc_get(q, k->c, i, &have);
		ret = ret ? ret : compare_one(k, i, have);
		i++;
	}
	return ret;
}

/* A new refcount table and blocks behind everything, with what was counted. */
static int rebuild(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t base = counted_end(k), per = BIT64(q->rb_bits), n_blocks = 1, n_table = 1, total = 0, *rt;
	uint8_t *buf = q_buf(q->cluster);
	int ret = buf ? 0 : -ENOMEM;

	do {
		total = base + n_blocks + n_table;
		n_blocks = (total + per - 1) / per;
		n_table = (n_blocks * 8 + q->cluster - 1) >> q->cluster_bits;
	} while (total != base + n_blocks + n_table);
	if (n_table << q->cluster_bits > MAX_RT_BYTES)
		ret = -EFBIG;
	rt = calloc(n_table * q->cluster / 8, 8);
	ret = ret ? ret : rt ? 0 : -ENOMEM;
	cache_drop(&q->rbc, 0, MAX_HOST);
	for (uint64_t b = 0; b < n_blocks && !ret; b++) {
		rt[b] = (base + b) << q->cluster_bits;
		memset(buf, 0, q->cluster);
		for (uint64_t cl = b * per, end = MIN(cl + per, total); cl < end;
		     cl = cl + 1 < base ? next_counted(k, cl, MIN(end, base)) : cl + 1) {
			uint64_t want = cl >= base && cl < total ? 1 : refs(k, cl);

			rc_field_set(buf, cl - b * per, q->rc_order, MIN(want, rc_max(q)));
		}
		ret = q_rw(q, k->c, q->n.file, BLK_WRITE, rt[b], buf, q->cluster);
	}
	free(buf);
	ret = ret ? ret : write_table(q, k->c, (base + n_blocks) << q->cluster_bits, rt, n_blocks, n_table << q->cluster_bits);
	ret = ret ? ret : q_barrier(q, k->c);
	if (ret) {
		free(rt);
		return ret;
	}
	free(q->rt);
	q->rt = rt;
	q->rt_size = (uint32_t)(n_table * q->cluster / 8);
	q->rt_off = (base + n_blocks) << q->cluster_bits;
	q->rt_dirty = false;
	q->end = MAX(q->end, total);
	k->n = MAX(k->n, total);
	ret = write_header(q, k->c);
	return ret ? ret : q_barrier(q, k->c);
}

/* The refcounts of old tables and blocks, which nothing refers to any more, are counted anew by the caller. */
static void uncount_refcounts(struct check *k)
{
	struct qcow2 *q = k->q;

	for (uint64_t i = 0; i < q->rt_size; i++) {
		uint64_t block = q->rt[i] & RT_OFFSET_MASK, cl = block >> q->cluster_bits;

		if (block && host_ok(q, block) && refs(k, cl))
			page_of(k, cl)->refs[cl & (PAGE_N - 1)]--;
	}
	for (uint64_t i = 0; i < align_up(q->rt_size * 8ull, q->cluster) >> q->cluster_bits; i++) {
		uint64_t cl = (q->rt_off >> q->cluster_bits) + i;

		if (refs(k, cl))
			page_of(k, cl)->refs[cl & (PAGE_N - 1)]--;
	}
}

/* The flag of one reference; true if it is to be changed to *fixed. */
static int check_flag(struct check *k, uint64_t e, const char *what, uint64_t where, bool *change)
{
	uint64_t rc, cluster = (e & OFFSET_MASK) >> k->q->cluster_bits;
	int ret = rc_get(k->q, k->c, cluster, &rc);

	*change = false;
	if (ret || (rc == 1) == !!(e & OFLAG_COPIED))
		return ret;
	/* "Shared" was right until the leak was repaired. */
	*change = rc == 1 && refs(k, cluster) == 1 && k->res->leaks_fixed;
	if (*change)
		return 0;
	say(k, "error: the %s for %" PRIu64 " says %s, its refcount is %" PRIu64, what, where,
	    e & OFLAG_COPIED ? "copied" : "shared", rc);
	corrupt(k);
	*change = (k->fix & QCOW2_FIX_ERRORS) != 0;
	k->res->corruptions_fixed += *change;
	return 0;
}

static int check_table_flags(struct check *k, uint32_t l1i)
{
	struct qcow2 *q = k->q;
	int ret = 0;

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && !ret; i++) {
		uint64_t off = ((uint64_t)l1i << (q->cluster_bits + q->l2_bits)) + (i << q->cluster_bits);
		struct slice *s;
		struct entry e;
		bool change = false;

		ret = cache_get(q, k->c, &q->l2c, slice_off(q, q->l1[l1i] & OFFSET_MASK, off), &s);
		if (ret)
			break;
		e = entry_get(q, s, off);
		if ((e.e & OFLAG_COMPRESSED) || q->ext_data || !(e.e & OFFSET_MASK) || !host_ok(q, e.e & OFFSET_MASK))
			continue;
		ret = check_flag(k, e.e, "cluster", off, &change);
		if (ret || !change)
			continue;
		ret = cache_get(q, k->c, &q->l2c, slice_off(q, q->l1[l1i] & OFFSET_MASK, off), &s);
		e.e ^= OFLAG_COPIED;
		if (!ret)
			entry_set(q, s, off, e);
	}
	return ret;
}

static int check_flags(struct check *k)
{
	struct qcow2 *q = k->q;
	bool change;
	int ret = 0;

	forget_walk(k);
	for (uint32_t i = 0; i < q->l1_size && !ret; i++) {
		uint64_t table = q->l1[i] & OFFSET_MASK;

		if (!table || !host_ok(q, table) || walked(k, table))
			continue;
		ret = check_flag(k, q->l1[i], "L2 table", i, &change);
		if (!ret && change)
			l1_set(q, i, q->l1[i] ^ OFLAG_COPIED);
		ret = ret ? ret : check_table_flags(k, i);
	}
	return ret;
}

static int finish(struct check *k)
{
	struct qcow2 *q = k->q;
	int ret = 0;

	if (!k->res->image_end_offset)
		k->res->image_end_offset = counted_end(k) << q->cluster_bits;
	k->res->total_clusters = (q->n.i.size + q->cluster - 1) >> q->cluster_bits;
	if (!k->fix)
		return 0;
	q->hint = 0;
	q->compress_at = 0;
	ret = q_commit(q, k->c);
	ret = ret ? ret : q_barrier(q, k->c);
	if (ret || k->res->check_errors || k->res->corruptions != k->res->corruptions_fixed)
		return ret;
	q->broken = q->damaged = false;
	if (!(k->fix & QCOW2_FIX_ERRORS) || !(q->incompat & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT)))
		return 0;
	q->incompat &= ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
	q->snaps_failed = false;
	ret = write_header(q, k->c);
	return ret ? ret : q_barrier(q, k->c);
}

static int run(struct check *k)
{
	struct qcow2 *q = k->q;
	int ret = 0;

	q_settle_flags(q, k->c);
	/* Twice: what the first gives back. */
	for (unsigned i = 0; i < 2 && !ret && !q->n.i.read_only && !q->broken && !q_clean(q); i++)
		ret = q_commit(q, k->c);
	k->n = (q->n.file->i.size + q->cluster - 1) >> q->cluster_bits;
	k->n_pages = (k->n >> PAGE_BITS) + 1;
	if (k->n_pages > MAX_DIRECTORY)
		return -EFBIG;
	k->page = calloc(k->n_pages, sizeof(*k->page));
	if (!k->page)
		return -ENOMEM;
	ret = ret ? ret : count_all(k);
	ret = ret ? ret : compare(k);
	if (!ret && k->rebuild && (k->fix & QCOW2_FIX_ERRORS)) {
		uncount_refcounts(k);
		ret = rebuild(k);
		k->res->corruptions_fixed = k->res->corruptions;
		/* What refcounts would not be changed for is not there any more. */
		q->broken = q->broken && ret;
	}
	ret = ret ? ret : check_flags(k);
	return ret ? ret : finish(k);
}

static int check_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct check *k = arg;
	bool broken = q->broken;
	int ret;

	k->c = c;
	/* Repair is the one thing that may write to a damaged image. */
	q->broken = k->fix ? false : broken;
	ret = run(k);
	for (uint64_t i = 0; k->page && i < k->n_pages; i++)
		free(k->page[i]);
	free(k->page);
	return ret;
}

int qcow2_check(struct blk_node *n, unsigned fix, struct qcow2_check *res, struct err *e)
{
	struct check k = { .q = to_q(n), .res = res, .fix = fix };
	int ret;

	if (fix && n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only and cannot be repaired", n->path);
	ret = q_alone(k.q, check_main, &k);
	return ret ? err_set(e, ret, "image '%s' cannot be checked: %s", n->path, strerror(-ret)) : 0;
}
