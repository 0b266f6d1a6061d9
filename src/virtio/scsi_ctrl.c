/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-scsi's control queue (virtio 1.2, 5.6.6.2) and events (5.6.6.3).
 *
 * What the host is at work on cannot be called back, so a function that ends
 * commands waits for those that began before it, unit by unit, and is answered
 * when they are: SAM allows a command to end well although it is to be aborted.
 * Commands that failed on the host and are kept to be repeated end at once.
 */
#include "virtio/scsi_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"

enum { CTRL_TMF = 0, CTRL_AN_QUERY = 1, CTRL_AN_SUBSCRIBE = 2 };
enum {
	TMF_ABORT_TASK = 0, TMF_ABORT_TASK_SET = 1, TMF_CLEAR_ACA = 2, TMF_CLEAR_TASK_SET = 3, TMF_NEXUS_RESET = 4, TMF_UNIT_RESET = 5,
	TMF_QUERY_TASK = 6, TMF_QUERY_TASK_SET = 7,
};

/* struct virtio_scsi_ctrl_tmf and _an: sizes of what is read and written */
#define TMF_LEN 24u
#define AN_LEN 16u
#define AN_RESP 5u

/* What a function is about. */
struct about {
	unsigned target, lun;
	uint64_t id;
	bool one;			/* the command `id` alone */
};

/* ---- answers ---- */

/* The response of a function is one byte. */
static uint8_t *response_byte(const struct vq_chain *c)
{
	for (unsigned i = c->n_read; i < (unsigned)c->n_read + c->n_write; i++)
		if (c->iov[i].iov_len)
			return c->iov[i].iov_base;
	return NULL;
}

static void respond(struct virtio_scsi *v, uint16_t head, uint8_t *at, uint8_t response)
{
	*(volatile uint8_t *)at = response;
	mem_written_host(v->d.m->mem, at, 1);
	vq_put_head(&v->d.vq[Q_CONTROL], head, 1);
	v->flush_queues |= BIT64(Q_CONTROL);
}

/* ---- functions that wait ---- */

/* SPC-4: BUS DEVICE RESET FUNCTION OCCURRED */
static void unit_reset(struct vscsi_unit *u)
{
	scsi_lun_reset(&u->lun);
	u->lun.attention = 0x2903;
}

static void tmf_done(struct virtio_scsi *v, struct vscsi_tmf *t)
{
	list_del(&t->node);
	respond(v, t->head, t->resp, S_OK);
	free(t);
}

void vscsi_settled(struct vscsi_unit *u)
{
	while (!list_empty(&u->waits)) {
		struct vscsi_wait *w = list_entry(u->waits.next, struct vscsi_wait, node);

		if (!list_empty(&u->reqs) && list_entry(u->reqs.next, struct vscsi_req, node)->seq < w->before)
			return;
		list_del(&w->node);
		if (w->t->reset)
			unit_reset(u);
		if (!--w->t->left)
			tmf_done(u->v, w->t);
	}
}

void vscsi_forget_tmfs(struct virtio_scsi *v)
{
	list_for_each_safe(n, &v->tmfs) {
		struct vscsi_tmf *t = list_entry(n, struct vscsi_tmf, node);

		for (unsigned i = 0; i < t->n; i++)
			list_del(&t->wait[i].node);
		list_del(&t->node);
		free(t);
	}
}

/* Keeps the function until each unit has come to its number of commands. */
static struct vscsi_tmf *tmf_new(struct virtio_scsi *v, const struct vq_chain *c, uint8_t *resp, unsigned n)
{
	struct vscsi_tmf *t = calloc(1, sizeof(*t) + n * sizeof(t->wait[0]));

	if (!t)
		return NULL;
	t->head = c->head;
	t->resp = resp;
	list_add_tail(&v->tmfs, &t->node);
	return t;
}

static void tmf_wait(struct vscsi_tmf *t, struct vscsi_unit *u, uint64_t before)
{
	struct vscsi_wait *w = &t->wait[t->n++];

	t->left++;
	*w = (struct vscsi_wait){ .t = t, .before = before };
	list_add_tail(&u->waits, &w->node);
}

static void drop_aborted(struct disk_req *q) { vscsi_abort(vscsi_req_of(q), S_ABORTED); }
static void drop_reset(struct disk_req *q) { vscsi_abort(vscsi_req_of(q), S_RESET); }

static bool is_one(const struct disk_req *q, void *opaque)
{
	return container_of(q, struct vscsi_req, s.q)->id == ((const struct about *)opaque)->id;
}

static struct vscsi_req *find_task(const struct vscsi_unit *u, uint64_t id)
{
	list_for_each(n, &u->reqs) {
		struct vscsi_req *r = list_entry(n, struct vscsi_req, node);

		if (r->id == id)
			return r;
	}
	return NULL;
}

/* ABORT TASK and its kind, of one unit. */
static void end_tasks(struct virtio_scsi *v, const struct vq_chain *c, uint8_t *resp, struct vscsi_unit *u, struct about *a, bool reset)
{
	struct vscsi_req *r = a->one ? find_task(u, a->id) : NULL;
	struct vscsi_tmf *t;

	if (a->one && !r) {
		respond(v, c->head, resp, S_OK);
		return;
	}
	t = tmf_new(v, c, resp, 1);
	if (!t) {
		respond(v, c->head, resp, S_FAILURE);
		return;
	}
	t->reset = reset;
	tmf_wait(t, u, r ? r->seq + 1 : v->seq);
	disk_forget(&u->lun.disk, a->one ? is_one : NULL, a, reset ? drop_reset : drop_aborted);
	vscsi_settled(u);
}

static void reset_target(struct virtio_scsi *v, const struct vq_chain *c, uint8_t *resp, unsigned target)
{
	struct vscsi_tmf *t = tmf_new(v, c, resp, v->n_units);

	if (!t) {
		respond(v, c->head, resp, S_FAILURE);
		return;
	}
	t->reset = true;
	/* First all of them, so that none is done before the last is counted. */
	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == target)
			tmf_wait(t, v->unit[i], v->seq);
	for (unsigned i = 0; i < v->n_units; i++) {
		if (v->unit[i]->target != target)
			continue;
		disk_forget(&v->unit[i]->lun.disk, NULL, NULL, drop_reset);
		vscsi_settled(v->unit[i]);
	}
}

/* ---- the queue ---- */

static bool is_target(const struct virtio_scsi *v, unsigned target)
{
	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == target)
			return true;
	return false;
}

static void tmf_unit(struct virtio_scsi *v, const struct vq_chain *c, uint8_t *resp, uint32_t what, struct about *a)
{
	struct vscsi_unit *u = vscsi_find(v, a->target, a->lun);

	if (!u) {
		respond(v, c->head, resp, S_INCORRECT_LUN);
		return;
	}
	switch (what) {
	case TMF_ABORT_TASK:
		a->one = true;
		end_tasks(v, c, resp, u, a, false);
		break;
	case TMF_ABORT_TASK_SET:
	case TMF_CLEAR_TASK_SET: end_tasks(v, c, resp, u, a, false); break;
	case TMF_UNIT_RESET: end_tasks(v, c, resp, u, a, true); break;
	case TMF_QUERY_TASK: respond(v, c->head, resp, find_task(u, a->id) ? S_FUNCTION_SUCCEEDED : S_OK); break;
	case TMF_QUERY_TASK_SET: respond(v, c->head, resp, list_empty(&u->reqs) ? S_OK : S_FUNCTION_SUCCEEDED); break;
	default: respond(v, c->head, resp, S_FUNCTION_REJECTED);	/* there is no ACA to clear */
	}
}

static int tmf(struct virtio_scsi *v, const struct vq_chain *c)
{
	uint8_t h[TMF_LEN], *resp = response_byte(c);
	struct about a = { 0 };

	if (c->len_read < TMF_LEN || !resp)
		return -EPROTO;
	iov_to_buf(c->iov, c->n_read, 0, h, sizeof(h));
	a.id = ld_le64(h + 16);
	if (!vscsi_parse_lun(h + 8, &a.target, &a.lun) || !is_target(v, a.target))
		respond(v, c->head, resp, S_BAD_TARGET);
	else if (ld_le32(h + 4) == TMF_NEXUS_RESET)
		reset_target(v, c, resp, a.target);
	else
		tmf_unit(v, c, resp, ld_le32(h + 4), &a);
	return 0;
}

/* 5.6.6.2: which events a unit can tell of, or is to. Only drives have any. */
static int notification(struct virtio_scsi *v, const struct vq_chain *c, bool subscribe)
{
	uint8_t h[AN_LEN], resp[AN_RESP] = { 0 };
	struct vscsi_unit *u = NULL;
	unsigned target, lun;
	uint32_t events = 0;

	if (c->len_read < AN_LEN || c->len_write < AN_RESP)
		return -EPROTO;
	iov_to_buf(c->iov, c->n_read, 0, h, sizeof(h));
	resp[4] = S_BAD_TARGET;
	if (vscsi_parse_lun(h + 4, &target, &lun) && is_target(v, target)) {
		u = vscsi_find(v, target, lun);
		resp[4] = u ? S_OK : S_INCORRECT_LUN;
	}
	if (u && u->lun.cd)
		events = ld_le32(h + 12) & EVT_MEDIA_CHANGE;
	if (u && subscribe)
		u->subscribed = events;
	st_le32(resp, events);
	vscsi_put(v, c->iov + c->n_read, c->n_write, resp, sizeof(resp));
	vq_put_head(&v->d.vq[Q_CONTROL], c->head, sizeof(resp));
	v->flush_queues |= BIT64(Q_CONTROL);
	return 0;
}

int vscsi_control(struct virtio_scsi *v, const struct vq_chain *c)
{
	uint8_t type[4], *resp = response_byte(c);

	if (c->len_read < sizeof(type) || !resp)
		return -EPROTO;
	iov_to_buf(c->iov, c->n_read, 0, type, sizeof(type));
	switch (ld_le32(type)) {
	case CTRL_TMF: return tmf(v, c);
	case CTRL_AN_QUERY: return notification(v, c, false);
	case CTRL_AN_SUBSCRIBE: return notification(v, c, true);
	default: return -EPROTO;
	}
}

/* ---- events ---- */

/* One buffer of the driver's, filled. False: there is none. */
static bool send(struct virtio_scsi *v, const struct vscsi_unit *u, uint32_t event, uint32_t reason)
{
	struct virtio_dev *d = &v->d;
	uint8_t p[16] = { 0 };
	int ret;

	if (!d->started || d->paused || !d->vq[Q_EVENT].ready || d->vq[Q_EVENT].broken)
		return false;
	ret = vq_get(&d->vq[Q_EVENT], &v->chain);
	if (ret < 0 || (ret && v->chain.len_write < sizeof(p))) {
		virtio_dev_broken(d, "a buffer for events that is none");
		return false;
	}
	if (!ret)
		return false;
	st_le32(p, event | (v->events_missed ? T_EVENTS_MISSED : 0));
	if (u) {
		p[4] = 1;
		p[5] = u->target;
		scsi_st16(p + 6, u->number < 256 ? u->number : 0x4000u | u->number);
	}
	st_le32(p + 12, reason);
	v->events_missed = false;
	vscsi_put(v, v->chain.iov + v->chain.n_read, v->chain.n_write, p, sizeof(p));
	vq_put_head(&d->vq[Q_EVENT], v->chain.head, sizeof(p));
	v->flush_queues |= BIT64(Q_EVENT);
	return true;
}

void vscsi_event(struct virtio_scsi *v, const struct vscsi_unit *u, uint32_t event, uint32_t reason)
{
	if (v->d.started && !send(v, u, event, reason))
		v->events_missed = true;
}

void vscsi_event_kick(struct virtio_scsi *v)
{
	if (v->events_missed)
		send(v, NULL, T_NO_EVENT, 0);
	vscsi_flush(v);
}
