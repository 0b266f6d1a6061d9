/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands on virtio-scsi's request queues (virtio 1.2, 5.6.6.1).
 *
 * Every chain becomes one struct vscsi_req with its own copy of command block and
 * pieces of memory, goes to the SCSI target and is answered by answer().  The
 * header is read once.  A chain without room for header or response cannot be
 * answered: the device then waits for its reset.
 */
#include "virtio/scsi_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"

/* struct virtio_scsi_req_cmd: where its parts begin */
enum { H_LUN = 0, H_ID = 8, H_CDB = 19 };
#define RESP_HEAD 12u

#define OP_REPORT_LUNS 0xa0

/* ---- answers ---- */

/* The one place where a command is answered.  Frees it. */
static void answer(struct vscsi_req *r, uint8_t response)
{
	struct virtio_scsi *v = r->v;
	struct vscsi_unit *u = r->u;
	uint8_t buf[RESP_HEAD + SCSI_SENSE_LEN] = { 0 };
	bool check = response == S_OK && r->s.status == SCSI_CHECK;
	uint32_t sense = check ? MIN(v->cfg.sense_size, (uint32_t)SCSI_SENSE_LEN) : 0;
	uint64_t asked = r->s.len_in + r->s.len_out, moved = response == S_OK ? r->s.moved : 0, room = iov_size(r->resp, r->n_resp);

	st_le32(buf, sense);
	st_le32(buf + 4, (uint32_t)MIN(asked - moved, (uint64_t)UINT32_MAX));
	buf[10] = response == S_OK ? r->s.status : 0;
	buf[11] = response;
	memcpy(buf + RESP_HEAD, r->s.sense, sense);
	vscsi_put(v, r->resp, r->n_resp, buf, MIN(RESP_HEAD + sense, room));
	moved = r->s.len_in ? moved : 0;
	vq_put_head(&v->d.vq[r->queue], r->head, (uint32_t)MIN(room + moved, (uint64_t)UINT32_MAX));
	v->flush_queues |= BIT64(r->queue);
	/* Told to the driver with the status: not to be asked for once more. */
	if (check)
		r->s.l->sense = 0;
	list_del(&r->node);
	scsi_req_clean(&r->s);
	free(r);
	if (u)
		vscsi_settled(u);
}

static void done(struct scsi_req *s)
{
	answer(container_of(s, struct vscsi_req, s), S_OK);
}

void vscsi_abort(struct vscsi_req *r, uint8_t response)
{
	answer(r, response);
}

void vscsi_drop(struct disk_req *q)
{
	struct vscsi_req *r = vscsi_req_of(q);

	list_del(&r->node);
	scsi_req_clean(&r->s);
	free(r);
}

/* ---- commands ---- */

/* Cuts the chain up: header, data out; response, data in. */
static struct vscsi_req *new_req(struct virtio_scsi *v, unsigned q, const struct vq_chain *c)
{
	uint32_t head = H_CDB + v->cfg.cdb_size, resp = RESP_HEAD + v->cfg.sense_size;
	const struct iovec *w = c->iov + c->n_read;
	struct vscsi_req *r;
	int out, in, n;

	/* A piece may hold the end of one part and the beginning of the next. */
	r = malloc(sizeof(*r) + (c->n_read + c->n_write + 2u) * sizeof(r->iov[0]));
	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	out = iov_slice(c->iov, c->n_read, head, c->len_read - head, r->iov, c->n_read);
	in = iov_slice(w, c->n_write, resp, c->len_write - resp, r->iov + MAX(out, 0), c->n_write);
	r->resp = r->iov + MAX(out, 0) + MAX(in, 0);
	n = iov_slice(w, c->n_write, 0, resp, r->resp, c->n_write + 2u - (unsigned)MAX(in, 0));
	if (out < 0 || in < 0 || n < 0) {
		free(r);
		return NULL;
	}
	r->v = v;
	r->queue = (uint16_t)q;
	r->head = c->head;
	r->n_resp = (unsigned)n;
	r->s.out = r->iov;
	r->s.n_out = (unsigned)out;
	r->s.len_out = c->len_read - head;
	r->s.in = r->iov + out;
	r->s.n_in = (unsigned)in;
	r->s.len_in = c->len_write - resp;
	r->s.done = done;
	list_init(&r->node);
	return r;
}

/* What all units of a target answer alike. */
static void report_luns(struct vscsi_req *r, unsigned target)
{
	uint16_t lun[VIRTIO_SCSI_MAX_UNITS];
	struct virtio_scsi *v = r->v;
	unsigned n = 0;

	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == target)
			lun[n++] = v->unit[i]->number;
	scsi_report_luns(&r->s, lun, n);
}

static struct vscsi_unit *any_of(struct virtio_scsi *v, unsigned target)
{
	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == target)
			return v->unit[i];
	return NULL;
}

static void submit(struct vscsi_req *r, const uint8_t *address)
{
	struct virtio_scsi *v = r->v;
	unsigned target, lun;
	bool there;

	if (!vscsi_parse_lun(address, &target, &lun) || !any_of(v, target)) {
		answer(r, S_BAD_TARGET);
		return;
	}
	if (r->s.len_in && r->s.len_out) {	/* VIRTIO_SCSI_F_INOUT is not offered */
		answer(r, S_FAILURE);
		return;
	}
	r->u = vscsi_find(v, target, lun);
	there = r->u;
	if (!there)
		r->u = any_of(v, target);
	r->s.l = &r->u->lun;
	r->seq = v->seq++;
	list_add_tail(&r->u->reqs, &r->node);
	if (r->s.cdb[0] == OP_REPORT_LUNS)
		report_luns(r, target);
	else if (there)
		scsi_submit(&r->s);
	else
		scsi_no_lun(&r->s, lun);
}

/* There is no memory for it: the driver will try again. */
static void busy(struct virtio_scsi *v, unsigned q, const struct vq_chain *c)
{
	uint8_t buf[RESP_HEAD] = { [11] = S_BUSY };

	vscsi_put(v, c->iov + c->n_read, c->n_write, buf, sizeof(buf));
	vq_put_head(&v->d.vq[q], c->head, sizeof(buf));
	v->flush_queues |= BIT64(q);
}

int vscsi_request(struct virtio_scsi *v, unsigned q, const struct vq_chain *c)
{
	uint8_t head[H_CDB + SCSI_CDB_MAX] = { 0 };
	struct vscsi_req *r;

	if (c->len_read < H_CDB + v->cfg.cdb_size || c->len_write < RESP_HEAD + v->cfg.sense_size)
		return -EPROTO;
	r = new_req(v, q, c);
	if (!r) {
		busy(v, q, c);
		return 0;
	}
	iov_to_buf(c->iov, c->n_read, 0, head, H_CDB + MIN(v->cfg.cdb_size, (uint32_t)SCSI_CDB_MAX));
	memcpy(r->s.cdb, head + H_CDB, SCSI_CDB_MAX);
	r->id = ld_le64(head + H_ID);
	submit(r, head + H_LUN);
	return 0;
}
