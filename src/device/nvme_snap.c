/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state of an NVMe controller.
 *
 * Nothing is in flight then but what failed on the host and is to be repeated:
 * of that the commands themselves are saved.  All of it is foreign data when it is
 * loaded: queues are looked up again and bounds checked as if a driver had said it.
 */
#include "device/nvme_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define AGAIN (2 + NVME_SQE)

struct state {
	uint32_t intms, cc, csts, aqa;
	uint64_t asq, acq, shadow, eventidx, n_errors, media_errors;
	uint32_t arbitration, power, error_recovery, write_cache, coalescing, atomicity, async;
	uint16_t temp_over, temp_under, n_sq, n_cq;
	uint16_t aer[NVME_AERS];
	uint32_t n_aers, n_events, n_again, n_ns;
	uint8_t ev_type[NVME_EVENTS], ev_info[NVME_EVENTS], ev_page[NVME_EVENTS], ev_masked;
	uint64_t blocks[NVME_MAX_NS];
	uint8_t changed[NVME_MAX_NS];
	uint64_t err_count[NVME_ERRORS], err_lba[NVME_ERRORS];
	uint32_t err_nsid[NVME_ERRORS];
	uint16_t err_sqid[NVME_ERRORS], err_cid[NVME_ERRORS], err_status[NVME_ERRORS];
	/* queues */
	uint64_t sq_base[NVME_QUEUES], cq_base[NVME_QUEUES];
	uint32_t sq_size[NVME_QUEUES], cq_size[NVME_QUEUES];	/* 0: not there */
	uint16_t sq_cqid[NVME_QUEUES], sq_head[NVME_QUEUES], sq_tail[NVME_QUEUES];
	uint16_t cq_head[NVME_QUEUES], cq_tail[NVME_QUEUES], cq_vector[NVME_QUEUES];
	uint8_t cq_ien[NVME_QUEUES], cq_phase[NVME_QUEUES];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, intms), SNAP_FIELD(struct state, cc), SNAP_FIELD(struct state, csts), SNAP_FIELD(struct state, aqa),
	SNAP_FIELD(struct state, asq), SNAP_FIELD(struct state, acq), SNAP_FIELD(struct state, shadow), SNAP_FIELD(struct state, eventidx),
	SNAP_FIELD(struct state, n_errors), SNAP_FIELD(struct state, media_errors),
	SNAP_FIELD(struct state, arbitration), SNAP_FIELD(struct state, power), SNAP_FIELD(struct state, error_recovery),
	SNAP_FIELD(struct state, write_cache), SNAP_FIELD(struct state, coalescing), SNAP_FIELD(struct state, atomicity),
	SNAP_FIELD(struct state, async), SNAP_FIELD(struct state, temp_over), SNAP_FIELD(struct state, temp_under),
	SNAP_FIELD(struct state, n_sq), SNAP_FIELD(struct state, n_cq), SNAP_ARRAY(struct state, aer), SNAP_FIELD(struct state, n_aers),
	SNAP_FIELD(struct state, n_events), SNAP_FIELD(struct state, n_again), SNAP_FIELD(struct state, n_ns),
	SNAP_ARRAY(struct state, ev_type), SNAP_ARRAY(struct state, ev_info), SNAP_ARRAY(struct state, ev_page),
	SNAP_FIELD(struct state, ev_masked), SNAP_ARRAY(struct state, blocks), SNAP_ARRAY(struct state, changed),
	SNAP_ARRAY(struct state, err_count), SNAP_ARRAY(struct state, err_lba), SNAP_ARRAY(struct state, err_nsid),
	SNAP_ARRAY(struct state, err_sqid), SNAP_ARRAY(struct state, err_cid), SNAP_ARRAY(struct state, err_status),
	SNAP_ARRAY(struct state, sq_base), SNAP_ARRAY(struct state, cq_base), SNAP_ARRAY(struct state, sq_size),
	SNAP_ARRAY(struct state, cq_size), SNAP_ARRAY(struct state, sq_cqid), SNAP_ARRAY(struct state, sq_head),
	SNAP_ARRAY(struct state, sq_tail), SNAP_ARRAY(struct state, cq_head), SNAP_ARRAY(struct state, cq_tail),
	SNAP_ARRAY(struct state, cq_vector), SNAP_ARRAY(struct state, cq_ien), SNAP_ARRAY(struct state, cq_phase),
	SNAP_END,
};
static const struct snap_table table = { "nvme", 1, fields };

/* ---- saving ---- */

static void save_queues(const struct nvme *n, struct state *s)
{
	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		const struct nvme_sq *sq = &n->sq[i];
		const struct nvme_cq *cq = &n->cq[i];

		s->sq_base[i] = sq->base;
		s->sq_size[i] = sq->live ? sq->size : 0;
		s->sq_cqid[i] = sq->cqid;
		s->sq_head[i] = sq->head;
		s->sq_tail[i] = sq->tail;
		s->cq_base[i] = cq->base;
		s->cq_size[i] = cq->live ? cq->size : 0;
		s->cq_head[i] = cq->head;
		s->cq_tail[i] = cq->tail;
		s->cq_vector[i] = cq->vector;
		s->cq_ien[i] = cq->ien;
		s->cq_phase[i] = cq->phase;
	}
}

static void save_logs(const struct nvme *n, struct state *s)
{
	for (unsigned i = 0; i < n->n_events; i++) {
		s->ev_type[i] = n->event[i].type;
		s->ev_info[i] = n->event[i].info;
		s->ev_page[i] = n->event[i].page;
	}
	for (unsigned i = 0; i < NVME_ERRORS; i++) {
		const struct nvme_error *x = &n->error[i];

		s->err_count[i] = x->count;
		s->err_lba[i] = x->lba;
		s->err_nsid[i] = x->nsid;
		s->err_sqid[i] = x->sqid;
		s->err_cid[i] = x->cid;
		s->err_status[i] = x->status;
	}
	for (unsigned i = 0; i < n->n_ns; i++) {
		s->blocks[i] = n->ns[i]->blocks;
		s->changed[i] = n->ns[i]->changed;
	}
}

static void again_id(const struct nvme *n, char *id, size_t len)
{
	snprintf(id, len, "%s.retry", n->id);
}

static int save_again(struct nvme *n, struct snap_out *o)
{
	uint32_t k = nvme_kept(n), at = n->n_again;
	uint8_t *p = malloc((size_t)k * AGAIN + 1);
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	if (at)
		memcpy(p, n->again, (size_t)at * AGAIN);
	for (unsigned i = 0; i < n->n_ns; i++)
		for (struct disk_req *q = n->ns[i]->disk.kept; q; q = q->next, at++) {
			st_le16(p + (size_t)at * AGAIN, nvme_req_of(q)->sqid);
			memcpy(p + (size_t)at * AGAIN + 2, &nvme_req_of(q)->cmd, NVME_SQE);
		}
	again_id(n, id, sizeof(id));
	ret = snap_put_blob(o, id, p, k * AGAIN);
	free(p);
	return ret;
}

int nvme_save(struct nvme *n, struct snap_out *o)
{
	struct state *s = calloc(1, sizeof(*s));
	const struct nvme_feat *f = &n->feat;
	int ret;

	if (!s)
		return -ENOMEM;
	*s = (struct state){
		.intms = n->intms, .cc = n->cc, .csts = n->csts, .aqa = n->aqa, .asq = n->asq, .acq = n->acq, .shadow = n->shadow_gpa,
		.eventidx = n->eventidx_gpa, .n_errors = n->n_errors, .media_errors = n->media_errors, .arbitration = f->arbitration,
		.power = f->power, .error_recovery = f->error_recovery, .write_cache = f->write_cache, .coalescing = f->coalescing,
		.atomicity = f->atomicity, .async = f->async, .temp_over = f->temp_over, .temp_under = f->temp_under, .n_sq = f->n_sq,
		.n_cq = f->n_cq, .n_aers = n->n_aers, .n_events = n->n_events, .n_again = nvme_kept(n), .n_ns = n->n_ns,
		.ev_masked = n->ev_masked,
	};
	memcpy(s->aer, n->aer, sizeof(s->aer));
	save_queues(n, s);
	save_logs(n, s);
	ret = snap_put(o, n->id, &table, s);
	if (!ret && s->n_again)
		ret = save_again(n, o);
	free(s);
	return ret;
}

/* ---- loading ---- */

static int damaged(const struct nvme *n, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "saved state of controller %s is damaged: %s", n->id, what);
}

static int load_queues(struct nvme *n, const struct state *s, struct err *e)
{
	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		uint32_t size = s->cq_size[i];

		if (!size)
			continue;
		if (size < 2 || size > 4096 || s->cq_head[i] >= size || s->cq_tail[i] >= size || i > n->o.queues ||
		    s->cq_vector[i] > n->o.queues || nvme_cq_open(n, i, s->cq_base[i], size, s->cq_ien[i] & 1, s->cq_vector[i]))
			return damaged(n, "a completion queue", e);
		n->cq[i].head = s->cq_head[i];
		n->cq[i].tail = s->cq_tail[i];
		n->cq[i].phase = s->cq_phase[i] & 1;
	}
	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		uint32_t size = s->sq_size[i];

		if (!size)
			continue;
		if (size < 2 || size > 4096 || s->sq_head[i] >= size || s->sq_tail[i] >= size || i > n->o.queues ||
		    s->sq_cqid[i] >= NVME_QUEUES || !n->cq[s->sq_cqid[i]].live ||
		    nvme_sq_open(n, i, s->sq_base[i], size, s->sq_cqid[i]))
			return damaged(n, "a submission queue", e);
		n->sq[i].head = s->sq_head[i];
		n->sq[i].tail = s->sq_tail[i];
		n->sq_bell[i] = s->sq_tail[i];
	}
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		n->cq_bell[i] = s->cq_head[i];
	return 0;
}

static void load_logs(struct nvme *n, const struct state *s)
{
	for (unsigned i = 0; i < n->n_events; i++)
		n->event[i] = (struct nvme_event){ s->ev_type[i] % NVME_EV_TYPES, s->ev_info[i], s->ev_page[i] };
	for (unsigned i = 0; i < NVME_ERRORS; i++)
		n->error[i] = (struct nvme_error){ .count = s->err_count[i], .lba = s->err_lba[i], .nsid = s->err_nsid[i],
						   .sqid = s->err_sqid[i], .cid = s->err_cid[i], .status = s->err_status[i] };
	for (unsigned i = 0; i < n->n_ns; i++)
		n->ns[i]->changed = s->changed[i] & 1;
}

/* The entries that commands to be repeated had set aside must be there. */
static int load_again(struct nvme *n, uint32_t k, struct snap_in *in, struct err *e)
{
	uint32_t len;
	char id[48];
	int ret;

	if (!k)
		return 0;
	if (k > NVME_QUEUES * NVME_MAX_ENTRIES)
		return damaged(n, "too many requests to be repeated", e);
	n->again = malloc((size_t)k * AGAIN);
	if (!n->again)
		return err_set(e, -ENOMEM, "out of memory");
	again_id(n, id, sizeof(id));
	ret = snap_get_blob(in, id, n->again, k * AGAIN, &len, e);
	if (ret)
		return ret;
	if (len != k * AGAIN)
		return damaged(n, "requests to be repeated", e);
	for (uint32_t i = 0; i < k; i++) {
		unsigned q = ld_le16(n->again + (size_t)i * AGAIN);
		struct nvme_cq *c;

		if (q == NVME_SHUTDOWN)
			continue;
		if (!q || q >= NVME_QUEUES || !n->sq[q].live)
			return damaged(n, "a request of no queue", e);
		c = &n->cq[n->sq[q].cqid];
		if (++c->outstanding > nvme_cq_free(c))
			return damaged(n, "more requests than a queue has room to answer", e);
	}
	n->n_again = k;
	return 0;
}

static int take(struct nvme *n, const struct state *s, struct err *e)
{
	unsigned mps = s->cc >> 7 & 15;

	if (s->n_ns != n->n_ns)
		return err_set(e, -EINVAL, "saved state of controller %s has %u namespaces, this machine's has %u", n->id, s->n_ns, n->n_ns);
	for (unsigned i = 0; i < n->n_ns; i++)
		if (s->blocks[i] != n->ns[i]->blocks)
			return err_set(e, -EINVAL, "saved state of disk %s is of %llu blocks, the disk here has %llu", n->ns[i]->disk.id,
				       (unsigned long long)s->blocks[i], (unsigned long long)n->ns[i]->blocks);
	if ((s->csts & CSTS_RDY && !(s->cc & CC_EN)) || mps > NVME_MPS_MAX || s->n_aers > NVME_AERS || s->n_events > NVME_EVENTS || !s->n_sq || !s->n_cq || s->n_sq > n->o.queues ||
	    s->n_cq > n->o.queues)
		return damaged(n, "its registers", e);
	n->page = 4096u << mps;
	n->intms = s->intms;
	n->cc = s->cc & 0x00fffff1u;
	n->csts = s->csts & (CSTS_RDY | CSTS_CFS | CSTS_SHST);
	n->aqa = s->aqa & 0x0fff0fff;
	n->asq = s->asq & ~0xfffull;
	n->acq = s->acq & ~0xfffull;
	n->n_errors = s->n_errors;
	n->media_errors = s->media_errors;
	n->feat = (struct nvme_feat){
		.arbitration = s->arbitration, .power = s->power & 0xe0, .error_recovery = s->error_recovery, .write_cache = s->write_cache & 1,
		.coalescing = s->coalescing, .atomicity = s->atomicity & 1, .async = s->async, .temp_over = s->temp_over,
		.temp_under = s->temp_under, .n_sq = s->n_sq, .n_cq = s->n_cq,
	};
	memcpy(n->aer, s->aer, sizeof(n->aer));
	n->n_aers = s->n_aers;
	n->n_events = s->n_events;
	n->ev_masked = s->ev_masked;
	load_logs(n, s);
	return 0;
}

int nvme_load(struct nvme *n, struct snap_in *in, struct err *e)
{
	struct state *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	ret = snap_get(in, n->id, &table, s, e);
	if (!ret)
		ret = take(n, s, e);
	if (!ret)
		ret = load_queues(n, s, e);
	if (!ret && nvme_ready(n) && (!n->sq[0].live || !n->cq[0].live))
		ret = damaged(n, "a controller that is ready has no admin queue", e);
	if (!ret)
		ret = load_again(n, s->n_again, in, e);
	if (!ret && ((s->shadow | s->eventidx) & (n->page - 1) || !nvme_shadow_set(n, s->shadow, s->eventidx)))
		ret = damaged(n, "doorbell buffers that are no pages of memory", e);
	free(s);
	return ret;
}
