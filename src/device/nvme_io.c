/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O commands of an NVMe controller (NVM Express Base 1.4, 6), and the flush
 * of a shutdown.
 *
 * A command becomes one struct nvme_req with its own copy of the pieces and is
 * completed by answer().  Host errors are decided about in storage/disk.c; what is
 * kept there is saved as the command itself and looked at anew when the machine
 * goes on from saved state.
 */
#include "device/nvme_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

enum {
	C_FLUSH = 0x00, C_WRITE = 0x01, C_READ = 0x02, C_COMPARE = 0x05, C_WRITE_ZEROES = 0x08, C_DSM = 0x09,
};
#define RW_FUA BIT(30)
#define ZEROES_DEAC BIT(25)
#define DSM_AD BIT(2)

/* ---- the end of a command ---- */

void nvme_drop(struct disk_req *q)
{
	struct nvme_req *r = nvme_req_of(q);

	free(r->bounce);
	free(r);
}

void nvme_abort(struct disk_req *q)
{
	struct nvme_req *r = nvme_req_of(q);

	if (r->sqid != NVME_SHUTDOWN)
		nvme_complete(r->n, r->sqid, r->cmd.cid, NVME_ABORT_SQ_DELETION, 0);
	nvme_drop(q);
}

static int status_of(const struct nvme_req *r, int ret)
{
	if (!ret)
		return NVME_OK;
	switch (r->q.r.op) {
	case BLK_READ: return NVME_UNRECOVERED_READ;
	case BLK_WRITE:
	case BLK_WRITE_ZEROES: return NVME_WRITE_FAULT;
	default: return NVME_INTERNAL;
	}
}

/* Guest memory is looked at once, here. */
static int compare(const struct nvme_req *r)
{
	const uint8_t *p = r->bounce;

	for (unsigned i = 0; i < r->niov; i++) {
		if (memcmp(p, r->iov[i].iov_base, r->iov[i].iov_len) != 0)
			return NVME_COMPARE_FAILURE;
		p += r->iov[i].iov_len;
	}
	return NVME_OK;
}

static bool next_ns(struct nvme_req *r)
{
	struct nvme_ns *ns = r->all_ns ? nvme_ns_of(r->n, r->ns->nsid + 1) : NULL;

	if (!ns)
		return false;
	r->ns = ns;
	r->q.d = &ns->disk;
	disk_start(&r->q);
	return true;
}

static void answer(struct disk_req *q, int ret)
{
	struct nvme_req *r = nvme_req_of(q);
	struct nvme *n = r->n;
	int status = status_of(r, ret);

	/* A shutdown does what it can. */
	if ((!ret || r->sqid == NVME_SHUTDOWN) && next_ns(r))
		return;
	if (r->sqid == NVME_SHUTDOWN) {
		n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHST_DONE;
		nvme_drop(q);
		return;
	}
	if (q->r.op == BLK_READ && !r->bounce)
		for (unsigned i = 0; i < r->niov; i++)
			mem_written_host(n->m->mem, r->iov[i].iov_base, r->iov[i].iov_len);
	if (!status && r->bounce)
		status = compare(r);
	if (ret) {
		n->media_errors++;
		nvme_log_error(n, r->sqid, &r->cmd, status);
	}
	nvme_complete(n, r->sqid, r->cmd.cid, status, 0);
	nvme_drop(q);
}

static void batch_done(struct disk *d)
{
	nvme_tell(container_of(d, struct nvme_ns, disk)->n);
}

/* ---- commands ---- */

static struct nvme_req *new_req(struct nvme_ns *ns, unsigned sqid, const struct nvme_cmd *c, enum blk_op op, unsigned niov,
				unsigned ranges)
{
	struct nvme_req *r = malloc(sizeof(*r) + niov * sizeof(r->iov[0]) + ranges * sizeof(struct disk_range));

	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->q.d = &ns->disk;
	r->q.answer = answer;
	r->q.r.op = op;
	r->q.n_ranges = ranges;
	r->q.range = ranges ? (struct disk_range *)(void *)&r->iov[niov] : NULL;
	r->n = ns->n;
	r->ns = ns;
	r->cmd = *c;
	r->sqid = (uint16_t)sqid;
	r->niov = niov;
	memcpy(r->iov, ns->n->scratch, niov * sizeof(r->iov[0]));
	ns->disk.batch_done = batch_done;
	return r;
}

static int start(struct nvme_req *r)
{
	/* 5.21.1.6: without a volatile cache every write is on stable storage before it completes. */
	if ((r->q.r.op == BLK_WRITE || r->q.r.op == BLK_WRITE_ZEROES || r->q.r.op == BLK_DISCARD) && !r->n->feat.write_cache)
		r->q.r.fua = true;
	disk_start(&r->q);
	return NVME_PENDING;
}

static int check_range(const struct nvme_ns *ns, const struct nvme_cmd *c, uint64_t *slba, uint64_t *nlb)
{
	*slba = c->cdw10 | (uint64_t)c->cdw11 << 32;
	*nlb = (c->cdw12 & 0xffff) + 1ull;
	return range_inside(*slba, *nlb, ns->blocks) ? NVME_OK : NVME_LBA_RANGE;
}

/* 6.9, 6.15, 6.6 */
static int do_rw(struct nvme_ns *ns, unsigned sqid, const struct nvme_cmd *c)
{
	bool write = c->opcode == C_WRITE;
	uint64_t slba, nlb, len;
	struct nvme_req *r;
	unsigned niov;
	int status = check_range(ns, c, &slba, &nlb);

	len = nlb << ns->shift;
	if (len > NVME_MAX_DATA)
		return NVME_INVALID_FIELD;
	if (!status)
		status = nvme_map(ns->n, c, len, c->opcode == C_READ, &niov);
	if (status)
		return status;
	r = new_req(ns, sqid, c, write ? BLK_WRITE : BLK_READ, niov, 0);
	if (!r)
		return NVME_INTERNAL;
	r->q.r.offset = slba << ns->shift;
	r->q.r.len = len;
	r->q.r.iov = r->iov;
	r->q.r.niov = niov;
	r->q.r.fua = write && c->cdw12 & RW_FUA;
	if (c->opcode == C_COMPARE) {
		r->bounce = malloc(len);
		if (!r->bounce) {
			nvme_drop(&r->q);
			return NVME_INTERNAL;
		}
		r->bounce_iov = (struct iovec){ r->bounce, len };
		r->q.r.iov = &r->bounce_iov;
		r->q.r.niov = 1;
	}
	return start(r);
}

/* 6.16 */
static int do_zeroes(struct nvme_ns *ns, unsigned sqid, const struct nvme_cmd *c)
{
	uint64_t slba, nlb;
	struct nvme_req *r;
	int status = check_range(ns, c, &slba, &nlb);

	if (status)
		return status;
	r = new_req(ns, sqid, c, BLK_WRITE_ZEROES, 0, 0);
	if (!r)
		return NVME_INTERNAL;
	r->q.r.offset = slba << ns->shift;
	r->q.r.len = nlb << ns->shift;
	r->q.r.unmap = c->cdw12 & ZEROES_DEAC && disk_can_discard(&ns->disk);
	r->q.r.fua = c->cdw12 & RW_FUA;
	return start(r);
}

/* 6.7: all ranges are checked before one is touched. */
static int do_dsm(struct nvme_ns *ns, unsigned sqid, const struct nvme_cmd *c)
{
	struct { uint32_t attr, nlb; uint64_t slba; } range[NVME_DSM_RANGES];
	unsigned count = (c->cdw10 & 0xff) + 1, k = 0;
	struct nvme_req *r;
	int status = nvme_from_guest(ns->n, c, range, count * sizeof(range[0]));

	if (status)
		return status;
	for (unsigned i = 0; i < count; i++)
		if (!range_inside(range[i].slba, range[i].nlb, ns->blocks))
			return NVME_LBA_RANGE;
	/* Other attributes are hints, and so is this one where the host cannot. */
	if (!(c->cdw11 & DSM_AD) || !disk_can_discard(&ns->disk))
		return NVME_OK;
	r = new_req(ns, sqid, c, BLK_DISCARD, 0, count);
	if (!r)
		return NVME_INTERNAL;
	for (unsigned i = 0; i < count; i++)
		if (range[i].nlb)
			r->q.range[k++] = (struct disk_range){ .offset = range[i].slba << ns->shift, .len = (uint64_t)range[i].nlb << ns->shift };
	r->q.n_ranges = k;
	if (k)
		return start(r);
	nvme_drop(&r->q);
	return NVME_OK;
}

/* 6.8 */
static int do_flush(struct nvme *n, unsigned sqid, const struct nvme_cmd *c)
{
	bool all = c->nsid == NVME_ALL_NS;
	struct nvme_ns *ns = nvme_ns_of(n, all ? 1 : c->nsid);
	struct nvme_req *r;

	if (!ns)
		return all ? NVME_OK : NVME_INVALID_NS;
	r = new_req(ns, sqid, c, BLK_FLUSH, 0, 0);
	if (!r)
		return NVME_INTERNAL;
	r->all_ns = all;
	return start(r);
}

static int dispatch(struct nvme *n, unsigned sqid, const struct nvme_cmd *c)
{
	struct nvme_ns *ns = nvme_ns_of(n, c->nsid);
	bool changes = c->opcode == C_WRITE || c->opcode == C_WRITE_ZEROES || c->opcode == C_DSM;

	if (c->opcode == C_FLUSH)
		return do_flush(n, sqid, c);
	if (c->opcode != C_READ && c->opcode != C_COMPARE && !changes)
		return NVME_INVALID_OPCODE;
	if (!ns)
		return NVME_INVALID_NS;
	if (changes && ns->disk.node->i.read_only)
		return NVME_PROTECTED;
	switch (c->opcode) {
	case C_WRITE_ZEROES: return ns->disk.node->i.can_zero ? do_zeroes(ns, sqid, c) : NVME_INVALID_OPCODE;
	case C_DSM: return do_dsm(ns, sqid, c);
	default: return do_rw(ns, sqid, c);
	}
}

int nvme_io(struct nvme *n, unsigned sqid, const struct nvme_cmd *c)
{
	int status = dispatch(n, sqid, c);

	if (status > 0) {
		struct nvme_ns *ns = nvme_ns_of(n, c->nsid);

		if (ns)
			ns->disk.stats.invalid++;
	}
	return status;
}

void nvme_shutdown(struct nvme *n)
{
	static const struct nvme_cmd none;
	struct nvme_req *r = n->n_ns ? new_req(n->ns[0], NVME_SHUTDOWN, &none, BLK_FLUSH, 0, 0) : NULL;

	if (!r) {
		n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHST_DONE;
		return;
	}
	n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHST_BUSY;
	r->all_ns = true;
	disk_start(&r->q);
}

/* ---- what is repeated ---- */

unsigned nvme_kept(const struct nvme *n)
{
	unsigned k = n->n_again;

	for (unsigned i = 0; i < n->n_ns; i++)
		k += disk_kept(&n->ns[i]->disk);
	return k;
}

void nvme_retry(struct nvme *n)
{
	uint8_t *p = n->again;
	uint32_t k = n->n_again;

	n->again = NULL;
	n->n_again = 0;
	for (unsigned i = 0; i < n->n_ns; i++)
		disk_retry(&n->ns[i]->disk);
	for (uint32_t i = 0; i < k; i++) {
		const uint8_t *e = p + (size_t)i * (2 + NVME_SQE);
		struct nvme_cmd c;

		memcpy(&c, e + 2, sizeof(c));
		if (ld_le16(e) == NVME_SHUTDOWN)
			nvme_shutdown(n);
		else
			nvme_execute(n, ld_le16(e), &c);
	}
	free(p);
	nvme_tell(n);
}
