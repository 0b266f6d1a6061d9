/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of a disk and errors of the host under it: told to the guest,
 * ignored, or kept from it by pausing the machine and repeating the request when
 * it goes on.
 */
#include "storage/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define MAX_ERRORS_LOGGED 5
#define PHYSICAL_MAX (1u << 20)

/* ---- requests ---- */

static void submit(struct disk_req *q)
{
	if (q->n_ranges) {
		const struct disk_range *s = &q->range[q->at];

		q->r.offset = s->offset;
		q->r.len = s->len;
		q->r.unmap = s->unmap;
	}
	blk_submit(q->d->node, &q->r);
}

static void finish(struct disk_req *q, int ret)
{
	disk_count_end(q, !ret, loop_now_ns());
	q->answer(q, ret);
}

/* What the host's condition may still change, as opposed to a request that can never succeed. */
static bool may_pass(int ret)
{
	return ret != -EINVAL && ret != -ERANGE && ret != -EROFS && ret != -ENOTSUP && ret != -EPERM;
}

/* A quota is a user's way to run out of room.  A limit on the length of a file (EFBIG) is not: it stays. */
static bool no_room(int ret)
{
	return ret == -ENOSPC || ret == -EDQUOT;
}

static enum disk_on_error action_for(const struct disk_req *q, int ret)
{
	enum disk_on_error a = q->r.op == BLK_READ ? q->d->o.on_read_error : q->d->o.on_write_error;

	if (a == DISK_ENOSPC)
		a = no_room(ret) ? DISK_STOP : DISK_REPORT;
	return a == DISK_STOP && !may_pass(ret) ? DISK_REPORT : a;
}

static void say(const struct disk_req *q, int ret, const char *then)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "write zeroes" };
	struct disk *d = q->d;

	if (d->errors_logged++ >= MAX_ERRORS_LOGGED)
		return;
	log_warn("%s: %s at byte %llu failed on the host: %s%s%s", d->id, names[q->r.op],
		 (unsigned long long)q->r.offset, strerror(-ret), then,
		 d->errors_logged == MAX_ERRORS_LOGGED ? " (further errors are counted only)" : "");
}

static void stop_machine(void *opaque)
{
	struct disk *d = opaque;

	machine_ask(d->m, MACHINE_REQ_PAUSE, 0);
}

static void keep(struct disk_req *q)
{
	struct disk *d = q->d;

	q->next = NULL;
	*d->kept_end = q;
	d->kept_end = &q->next;
	if (d->stop_asked)
		return;
	d->stop_asked = true;
	iothread_defer(d->o.io, &d->stop_work);
}

static void failed(struct disk_req *q, int ret)
{
	enum disk_on_error action = action_for(q, ret);
	struct disk *d = q->d;

	d->stats.errors++;
	if (d->watch.error)
		d->watch.error(d->watch.opaque, d, q->r.op == BLK_READ, action, ret);
	switch (action) {
	case DISK_STOP:
		say(q, ret, "; the guest is paused, and the request will be repeated when it goes on");
		keep(q);
		break;
	case DISK_IGNORE:
		say(q, ret, "; the guest is not told");
		d->stats.ignored++;
		finish(q, 0);
		break;
	case DISK_REPORT:
	case DISK_ENOSPC:
	default:
		say(q, ret, "");
		finish(q, ret);
	}
}

static void req_done(struct blk_req *r, int ret)
{
	struct disk_req *q = r->opaque;
	struct disk *d = q->d;

	if (!ret && q->n_ranges && ++q->at < q->n_ranges)
		submit(q);
	else if (ret)
		failed(q, ret);
	else
		finish(q, 0);
	if (d->batch_done && !blk_more_finished(d->node))
		d->batch_done(d);
}

void disk_start(struct disk_req *q)
{
	q->r.done = req_done;
	q->r.opaque = q;
	q->at = 0;
	disk_count_start(q, loop_now_ns());
	submit(q);
}

/* ---- what is kept ---- */

void disk_retry(struct disk *d)
{
	struct disk_req *q = d->kept, *next;

	d->kept = NULL;
	d->kept_end = &d->kept;
	d->stop_asked = false;
	for (; q; q = next) {
		next = q->next;
		d->stats.retried++;
		submit(q);
	}
}

void disk_forget(struct disk *d, bool (*which)(const struct disk_req *q, void *opaque), void *opaque,
		 void (*drop)(struct disk_req *q))
{
	struct disk_req **p = &d->kept, *q;

	while ((q = *p)) {
		if (which && !which(q, opaque)) {
			p = &q->next;
			continue;
		}
		*p = q->next;
		d->stats.in_flight--;
		drop(q);
	}
	d->kept_end = p;
	if (d->kept)
		return;
	d->stop_asked = false;
	iothread_cancel(d->o.io, &d->stop_work);
}

unsigned disk_kept(const struct disk *d)
{
	unsigned n = 0;

	for (const struct disk_req *q = d->kept; q; q = q->next)
		n++;
	return n;
}

/* ---- construction ---- */

static int check(const char *id, const struct disk_opts *o, uint64_t size, struct err *e)
{
	uint32_t block = o->block_size;

	if (!is_pow2(block) || block < BLK_SECTOR || block > 4096)
		return err_set(e, -EINVAL, "disk %s: block size %u is not 512, 1024, 2048 or 4096", id, block);
	if (o->physical_block && (!is_pow2(o->physical_block) || o->physical_block < block || o->physical_block > PHYSICAL_MAX))
		return err_set(e, -EINVAL, "disk %s: physical block size %u is not a power of two from %u (its block size) to %u",
			       id, o->physical_block, block, PHYSICAL_MAX);
	if (o->min_io % block || o->opt_io % block || o->min_io / block > UINT16_MAX)
		return err_set(e, -EINVAL, "disk %s: least and best size of requests (%u and %u) must be multiples of its block size, "
			       "%u, and the least one not above %u", id, o->min_io, o->opt_io, block, UINT16_MAX * block);
	if (o->discard_unit && (!is_pow2(o->discard_unit) || o->discard_unit < block))
		return err_set(e, -EINVAL, "disk %s: discard granularity %u is not a power of two from %u (its block size) on", id,
			       o->discard_unit, block);
	if (size % block)
		return err_set(e, -EINVAL, "disk %s: its size is no multiple of its block size, %u bytes", id, block);
	return 0;
}

int disk_init(struct disk *d, struct machine *m, const char *id, struct blk_node *node, const struct disk_opts *o,
	      struct err *e)
{
	*d = (struct disk){ .m = m, .node = node, .o = *o };
	if (!d->o.block_size)
		d->o.block_size = BLK_SECTOR;
	if (check(id, &d->o, node->i.size, e))
		return -EINVAL;
	snprintf(d->id, sizeof(d->id), "%s", id);
	d->kept_end = &d->kept;
	d->stop_work = (struct iothread_work){ .cb = stop_machine, .opaque = d };
	return 0;
}

void disk_fini(struct disk *d, unsigned more, void (*drop)(struct disk_req *q))
{
	blk_close(d->node);
	d->node = NULL;
	if (disk_kept(d) + more)
		log_warn("%s: %u request(s) that failed on the host were never repeated: what they were to write is lost", d->id,
			 disk_kept(d) + more);
	disk_forget(d, NULL, NULL, drop);
}

int disk_resize(struct disk *d, uint64_t size, struct err *e)
{
	if (size % d->o.block_size)
		return err_set(e, -EINVAL, "disk %s: its size must be a multiple of its block size, %u bytes", d->id,
			       d->o.block_size);
	return blk_resize(d->node, size, e);
}

uint32_t disk_physical_block(const struct disk *d)
{
	return d->o.physical_block ? d->o.physical_block : MAX(d->node->i.physical_block, d->o.block_size);
}

uint32_t disk_discard_unit(const struct disk *d)
{
	const struct blk_info *i = &d->node->i;

	return d->o.discard_unit ? d->o.discard_unit : MAX(MAX(i->discard_unit, i->cluster), disk_physical_block(d));
}
