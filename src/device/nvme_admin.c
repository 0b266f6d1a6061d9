/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Admin commands of an NVMe controller (NVM Express Base 1.4, 5): queues,
 * features, abort, doorbell buffers.  All of them end at once, but for
 * asynchronous event requests.
 */
#include "device/nvme_int.h"

#include "base/bits.h"

enum {
	A_DELETE_SQ = 0x00, A_CREATE_SQ = 0x01, A_GET_LOG = 0x02, A_DELETE_CQ = 0x04, A_CREATE_CQ = 0x05, A_IDENTIFY = 0x06,
	A_ABORT = 0x08, A_SET_FEATURES = 0x09, A_GET_FEATURES = 0x0a, A_EVENT = 0x0c, A_DOORBELLS = 0x7c,
};

/* 5.21.1 */
enum {
	F_ARBITRATION = 0x01, F_POWER = 0x02, F_TEMPERATURE = 0x04, F_ERROR_RECOVERY = 0x05, F_WRITE_CACHE = 0x06, F_QUEUES = 0x07,
	F_COALESCING = 0x08, F_VECTOR = 0x09, F_ATOMICITY = 0x0a, F_EVENTS = 0x0b,
};

#define IOSQES_64 6u
#define IOCQES_16 4u

void nvme_feat_reset(struct nvme *n)
{
	n->feat = (struct nvme_feat){
		.write_cache = 1, .temp_over = UINT16_MAX, .n_sq = (uint16_t)n->o.queues, .n_cq = (uint16_t)n->o.queues,
	};
}

/* ---- queues ---- */

/* 5.3 */
static int create_cq(struct nvme *n, const struct nvme_cmd *c)
{
	unsigned id = c->cdw10 & 0xffff, vector = c->cdw11 >> 16;
	uint32_t size = (c->cdw10 >> 16) + 1;

	if (!id || id > n->feat.n_cq || n->cq[id].live)
		return NVME_QID_INVALID;
	if (size < 2 || size > NVME_MAX_ENTRIES || (n->cc >> 20 & 15) != IOCQES_16)
		return NVME_QSIZE_INVALID;
	if (!(c->cdw11 & 2))
		vector = 0;			/* no interrupts: whatever it says means nothing */
	if (vector > n->o.queues)
		return NVME_VECTOR_INVALID;
	/* CAP.CQR: contiguous. */
	if (!(c->cdw11 & 1))
		return NVME_INVALID_FIELD;
	return nvme_cq_open(n, id, c->prp1, size, c->cdw11 & 2, vector);
}

/* 5.4 */
static int create_sq(struct nvme *n, const struct nvme_cmd *c)
{
	unsigned id = c->cdw10 & 0xffff, cqid = c->cdw11 >> 16;
	uint32_t size = (c->cdw10 >> 16) + 1;

	if (!id || id > n->feat.n_sq || n->sq[id].live)
		return NVME_QID_INVALID;
	if (!cqid || cqid >= NVME_QUEUES || !n->cq[cqid].live)
		return NVME_CQ_INVALID;
	if (size < 2 || size > NVME_MAX_ENTRIES || (n->cc >> 16 & 15) != IOSQES_64)
		return NVME_QSIZE_INVALID;
	if (!(c->cdw11 & 1))
		return NVME_INVALID_FIELD;
	return nvme_sq_open(n, id, c->prp1, size, cqid);
}

static bool of_sq(const struct disk_req *q, void *opaque)
{
	return container_of(q, struct nvme_req, q)->sqid == *(const unsigned *)opaque;
}

/* 5.6: its commands end before it does. */
static int delete_sq(struct nvme *n, const struct nvme_cmd *c)
{
	unsigned id = c->cdw10 & 0xffff;

	if (!id || id >= NVME_QUEUES || !n->sq[id].live)
		return NVME_QID_INVALID;
	nvme_drain(n);
	for (unsigned i = 0; i < n->n_ns; i++)
		disk_forget(&n->ns[i]->disk, of_sq, &id, nvme_abort);
	nvme_sq_close(n, id);
	return NVME_OK;
}

/* 5.5 */
static int delete_cq(struct nvme *n, const struct nvme_cmd *c)
{
	unsigned id = c->cdw10 & 0xffff;

	if (!id || id >= NVME_QUEUES || !n->cq[id].live)
		return NVME_QID_INVALID;
	for (unsigned i = 1; i < NVME_QUEUES; i++)
		if (n->sq[i].live && n->sq[i].cqid == id)
			return NVME_QUEUE_DELETION;
	nvme_cq_close(n, id);
	return NVME_OK;
}

/* ---- features ---- */

static bool has_io_queues(const struct nvme *n)
{
	for (unsigned i = 1; i < NVME_QUEUES; i++)
		if (n->sq[i].live || n->cq[i].live)
			return true;
	return false;
}

/* 5.21.1.7: zero based, at most what there is. */
static int set_queues(struct nvme *n, uint32_t v, uint32_t *dw0)
{
	uint32_t sq = v & 0xffff, cq = v >> 16;

	if (has_io_queues(n))
		return NVME_SEQUENCE;
	if (sq == 0xffff || cq == 0xffff)
		return NVME_INVALID_FIELD;
	n->feat.n_sq = (uint16_t)MIN(sq + 1, n->o.queues);
	n->feat.n_cq = (uint16_t)MIN(cq + 1, n->o.queues);
	*dw0 = (n->feat.n_sq - 1u) | (n->feat.n_cq - 1u) << 16;
	return NVME_OK;
}

/* 5.21.1.4: of the composite temperature alone. */
static uint16_t *threshold(struct nvme *n, uint32_t v)
{
	unsigned sensor = v >> 16 & 15, type = v >> 20 & 3;

	return sensor || type > 1 ? NULL : type ? &n->feat.temp_under : &n->feat.temp_over;
}

static int set_temperature(struct nvme *n, uint32_t v)
{
	uint16_t *t = threshold(n, v);

	if (!t)
		return NVME_INVALID_FIELD;
	*t = (uint16_t)v;
	nvme_check_temperature(n);
	return NVME_OK;
}

static int set_features(struct nvme *n, const struct nvme_cmd *c, uint32_t *dw0)
{
	struct nvme_feat *f = &n->feat;
	uint32_t v = c->cdw11;

	if (c->cdw10 & BIT(31))
		return NVME_NOT_SAVEABLE;
	switch (c->cdw10 & 0xff) {
	case F_ARBITRATION: f->arbitration = v; break;
	case F_POWER:
		if (v & 0x1f)
			return NVME_INVALID_FIELD;	/* one power state */
		f->power = v & 0xe0;
		break;
	case F_TEMPERATURE: return set_temperature(n, v);
	case F_ERROR_RECOVERY: f->error_recovery = v & 0xffff; break;
	case F_WRITE_CACHE: f->write_cache = v & 1; break;
	case F_QUEUES: return set_queues(n, v, dw0);
	case F_COALESCING: f->coalescing = v & 0xffff; break;
	case F_VECTOR: return (v & 0xffff) > n->o.queues ? NVME_INVALID_FIELD : NVME_OK;
	case F_ATOMICITY: f->atomicity = v & 1; break;
	case F_EVENTS:
		f->async = v & (BIT(8) | 0x1f);
		nvme_check_temperature(n);
		break;
	default: return NVME_INVALID_FIELD;
	}
	return NVME_OK;
}

/* Without Save and Select (ONCS bit 4) there are current values only. */
static int get_features(struct nvme *n, const struct nvme_cmd *c, uint32_t *dw0)
{
	const struct nvme_feat *f = &n->feat;
	const uint16_t *t;

	switch (c->cdw10 & 0xff) {
	case F_ARBITRATION: *dw0 = f->arbitration; break;
	case F_POWER: *dw0 = f->power; break;
	case F_TEMPERATURE:
		t = threshold(n, c->cdw11);
		if (!t)
			return NVME_INVALID_FIELD;
		*dw0 = *t;
		break;
	case F_ERROR_RECOVERY: *dw0 = f->error_recovery; break;
	case F_WRITE_CACHE: *dw0 = f->write_cache; break;
	case F_QUEUES: *dw0 = (f->n_sq - 1u) | (f->n_cq - 1u) << 16; break;
	case F_COALESCING: *dw0 = f->coalescing; break;
	case F_VECTOR:
		if ((c->cdw11 & 0xffff) > n->o.queues)
			return NVME_INVALID_FIELD;
		/* Coalescing never happens, and certainly not on the admin queue's vector. */
		*dw0 = (c->cdw11 & 0xffff) | BIT(16);
		break;
	case F_ATOMICITY: *dw0 = f->atomicity; break;
	case F_EVENTS: *dw0 = f->async; break;
	default: return NVME_INVALID_FIELD;
	}
	return NVME_OK;
}

/* ---- others ---- */

/* 5.2: waits until there is something to tell; no completion entry is set aside for it. */
static int event_request(struct nvme *n, const struct nvme_cmd *c)
{
	if (n->n_aers == NVME_AERS)
		return NVME_AER_LIMIT;
	n->aer[n->n_aers++] = c->cid;
	n->cq[0].outstanding--;
	return NVME_PENDING;
}

/* 5.1: commands that have begun are beyond recall (bit 0: not aborted); event requests are not. */
static int do_abort(struct nvme *n, const struct nvme_cmd *c, uint32_t *dw0)
{
	uint16_t cid = (uint16_t)(c->cdw10 >> 16);

	*dw0 = 1;
	for (unsigned i = 0; !(c->cdw10 & 0xffff) && i < n->n_aers; i++) {
		if (n->aer[i] != cid)
			continue;
		if (!nvme_post_extra(n, 0, cid, NVME_ABORT_REQUESTED, 0))
			return NVME_OK;
		n->n_aers--;
		memmove(&n->aer[i], &n->aer[i + 1], (n->n_aers - i) * sizeof(n->aer[0]));
		*dw0 = 0;
		break;
	}
	return NVME_OK;
}

/* 5.7 */
static int doorbells(struct nvme *n, const struct nvme_cmd *c)
{
	if (!c->prp1 || !c->prp2 || (c->prp1 | c->prp2) & (n->page - 1))
		return NVME_INVALID_FIELD;
	return nvme_shadow_set(n, c->prp1, c->prp2) ? NVME_OK : NVME_INVALID_FIELD;
}

int nvme_admin(struct nvme *n, const struct nvme_cmd *c, uint32_t *dw0)
{
	/* 4.2: admin commands use PRPs on PCIe. */
	if (c->flags >> 6)
		return NVME_INVALID_FIELD;
	switch (c->opcode) {
	case A_DELETE_SQ: return delete_sq(n, c);
	case A_CREATE_SQ: return create_sq(n, c);
	case A_GET_LOG: return nvme_get_log(n, c);
	case A_DELETE_CQ: return delete_cq(n, c);
	case A_CREATE_CQ: return create_cq(n, c);
	case A_IDENTIFY: return nvme_identify(n, c);
	case A_ABORT: return do_abort(n, c, dw0);
	case A_SET_FEATURES: return set_features(n, c, dw0);
	case A_GET_FEATURES: return get_features(n, c, dw0);
	case A_EVENT: return event_request(n, c);
	case A_DOORBELLS: return doorbells(n, c);
	default: return NVME_INVALID_OPCODE;
	}
}
