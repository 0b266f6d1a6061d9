// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio-vsock (virtio 1.2, 5.10): queues, packets and the device's life.  See vsock_int.h for how it hangs together.
 *
 * Connections do not survive their device: saved state has none, and the driver of a guest that goes on elsewhere is told by the
 * event TRANSPORT_RESET (5.10.6.7), upon which its sockets end with ECONNRESET.
 */
#include "virtio/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/iov.h"
#include "virtio/vsock_int.h"

#define F_STREAM BIT64(0)
#define EVENT_TRANSPORT_RESET 0
#define EVENT_LEN 4

#define Q_RX 0			/* to the guest */
#define Q_TX 1
#define Q_EVENT 2
#define QUEUE_SIZE 128
#define EVENT_SIZE 16
#define BATCH 64		/* packets a turn of the loop */

static struct vsock *of(struct virtio_dev *d)
{
	return container_of(d, struct vsock, dev);
}

static void broken(struct vsock *v, const char *why)
{
	virtio_dev_broken(&v->dev, why);
}

/* ---- headers (5.10.6) ---- */

static void header_get(const uint8_t *p, struct vsock_hdr *h)
{
	*h = (struct vsock_hdr){
		.src_cid = ld_le64(p), .dst_cid = ld_le64(p + 8), .src_port = ld_le32(p + 16), .dst_port = ld_le32(p + 20),
		.len = ld_le32(p + 24), .type = ld_le16(p + 28), .op = ld_le16(p + 30), .flags = ld_le32(p + 32),
		.buf_alloc = ld_le32(p + 36), .fwd_cnt = ld_le32(p + 40),
	};
}

static void header_put(uint8_t *p, const struct vsock_hdr *h)
{
	st_le64(p, h->src_cid);
	st_le64(p + 8, h->dst_cid);
	st_le32(p + 16, h->src_port);
	st_le32(p + 20, h->dst_port);
	st_le32(p + 24, h->len);
	st_le16(p + 28, h->type);
	st_le16(p + 30, h->op);
	st_le32(p + 32, h->flags);
	st_le32(p + 36, h->buf_alloc);
	st_le32(p + 40, h->fwd_cnt);
}

/* ---- to the guest ---- */

void vsock_rst(struct vsock *v, uint64_t cid, uint32_t host_port, uint32_t guest_port, uint16_t type)
{
	if (v->n_rst == ARRAY_LEN(v->rst))
		return;
	v->rst[(v->rst_at + v->n_rst++) % ARRAY_LEN(v->rst)] =
		(struct vsock_rst){ .cid = cid, .host_port = host_port, .guest_port = guest_port, .type = type };
}

/* The next packet, RSTs first: connections of the same ports may follow.  False: there is none. */
static bool next_packet(struct vsock *v, struct vsock_hdr *h)
{
	*h = (struct vsock_hdr){ .src_cid = VSOCK_HOST_CID, .dst_cid = v->cid, .type = VSOCK_TYPE_STREAM };
	if (v->n_rst) {
		const struct vsock_rst *r = &v->rst[v->rst_at];

		h->src_cid = r->cid;
		h->src_port = r->host_port;
		h->dst_port = r->guest_port;
		h->type = r->type;
		h->op = VSOCK_OP_RST;
		v->rst_at = (v->rst_at + 1) % ARRAY_LEN(v->rst);
		v->n_rst--;
		return true;
	}
	while (!list_empty(&v->ready)) {
		struct vsock_conn *c = list_entry(v->ready.next, struct vsock_conn, ready);
		bool some = vsock_conn_next(c, h, &v->chain);

		/* Behind the others, if there is more. */
		list_del(&c->ready);
		vsock_conn_update(c);
		if (some)
			return true;
	}
	return false;
}

static bool has_packets(const struct vsock *v)
{
	return v->n_rst || !list_empty(&v->ready);
}

static int rx_get(struct vsock *v)
{
	struct vq *vq = &v->dev.vq[Q_RX];
	int ret = vq_get(vq, &v->chain);

	/* Now a kick is wanted, and one may have been missed. */
	if (!ret && vq_kick_enable(vq, true))
		ret = vq_get(vq, &v->chain);
	return ret == 1 && v->chain.len_write <= VSOCK_HDR_LEN ? -EPROTO : ret;
}

void vsock_pump(struct vsock *v)
{
	struct vq *vq = &v->dev.vq[Q_RX];
	uint8_t raw[VSOCK_HDR_LEN];
	bool waits = v->n_rst >= VSOCK_RSTS;
	unsigned batch = BATCH;
	struct vsock_hdr h;
	int ret = 1;

	if (!vsock_live(v) || !vq->ready)
		return;
	while (has_packets(v) && batch-- && (ret = rx_get(v)) > 0) {
		if (!next_packet(v, &h)) {
			vq_unget(vq);
			break;
		}
		header_put(raw, &h);
		iov_from_buf(v->chain.iov + v->chain.n_read, v->chain.n_write, 0, raw, sizeof(raw));
		vq_put(vq, &v->chain, VSOCK_HDR_LEN + h.len);
	}
	vq_flush(vq);
	if (ret < 0)
		broken(v, "a receive buffer without room for a header and data, or a damaged ring");
	else if (ret && has_packets(v))
		virtio_dev_ring(&v->dev, Q_RX);
	else if (ret)
		vq_kick_enable(vq, false);
	if (waits && v->n_rst < VSOCK_RSTS)
		virtio_dev_ring(&v->dev, Q_TX);
}

/* ---- from the guest ---- */

static void incoming(struct vsock *v, const struct vsock_hdr *h)
{
	int fd = vsock_host_connect(v, h->dst_port);
	struct vsock_conn *c = fd < 0 ? NULL : vsock_conn_new(v, VSOCK_OPEN, fd);

	if (!c) {
		if (fd >= 0)
			close(fd);
		v->stats.refused++;
		vsock_rst(v, VSOCK_HOST_CID, h->dst_port, h->src_port, VSOCK_TYPE_STREAM);
		return;
	}
	v->stats.from_guest++;
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->send = VSOCK_SEND_RESPONSE;
	vsock_conn_update(c);
}

static void packet(struct vsock *v, const struct vsock_hdr *h)
{
	struct vsock_conn *c;

	/* In another's name, or longer than it is. */
	if (h->src_cid != v->cid || h->len > v->chain.len_read - VSOCK_HDR_LEN) {
		v->stats.bad++;
		return;
	}
	/* 5.10.6.4.1: a type that is not known; and there is nobody but the host. */
	if (h->dst_cid != VSOCK_HOST_CID || h->type != VSOCK_TYPE_STREAM) {
		if (h->op != VSOCK_OP_RST)
			vsock_rst(v, h->dst_cid, h->dst_port, h->src_port, h->type);
		return;
	}
	c = vsock_conn_find(v, h->src_port, h->dst_port);
	if (c)
		vsock_conn_packet(c, h, &v->chain);
	else if (h->op == VSOCK_OP_REQUEST)
		incoming(v, h);
	else if (h->op != VSOCK_OP_RST)
		vsock_rst(v, VSOCK_HOST_CID, h->dst_port, h->src_port, VSOCK_TYPE_STREAM);
}

static void transmit(struct vsock *v)
{
	struct vq *vq = &v->dev.vq[Q_TX];
	uint8_t raw[VSOCK_HDR_LEN];
	unsigned batch = BATCH;
	struct vsock_hdr h;
	int ret = 0;

	vq_kick_enable(vq, false);
	while (batch && v->n_rst < VSOCK_RSTS && (ret = vq_get(vq, &v->chain)) > 0) {
		batch--;
		if (iov_to_buf(v->chain.iov, v->chain.n_read, 0, raw, sizeof(raw)) != sizeof(raw)) {
			ret = -EPROTO;
			break;
		}
		header_get(raw, &h);
		packet(v, &h);
		vq_put(vq, &v->chain, 0);
	}
	vq_flush(vq);
	if (ret < 0) {
		broken(v, "a packet without a header, or a damaged ring");
		return;
	}
	vsock_pump(v);
	/* A driver that does not take its RSTs waits until it does: vsock_pump rings. */
	if (v->n_rst < VSOCK_RSTS && (!batch || vq_kick_enable(vq, true)))
		virtio_dev_ring(&v->dev, Q_TX);
}

/* ---- events (5.10.6.7) ---- */

static void send_event(struct vsock *v)
{
	struct vq *vq = &v->dev.vq[Q_EVENT];
	uint8_t raw[EVENT_LEN];
	int ret;

	if (!v->event || !vsock_live(v) || !vq->ready)
		return;
	ret = vq_get(vq, &v->chain);
	if (!ret && vq_kick_enable(vq, true))
		ret = vq_get(vq, &v->chain);
	if (!ret)
		return;
	if (ret < 0 || v->chain.len_write < EVENT_LEN) {
		broken(v, "an event buffer without room for an event, or a damaged ring");
		return;
	}
	st_le32(raw, EVENT_TRANSPORT_RESET);
	vq_put(vq, &v->chain, iov_from_buf(v->chain.iov + v->chain.n_read, v->chain.n_write, 0, raw, sizeof(raw)));
	v->event = false;
	vq_flush(vq);
}

/* ---- life cycle ---- */

static void kick(struct virtio_dev *d, unsigned q)
{
	struct vsock *v = of(d);

	if (q == Q_RX)
		vsock_pump(v);
	else if (q == Q_TX)
		transmit(v);
	else
		send_event(v);
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	uint8_t config[8];

	st_le64(config, of(d)->cid);
	memcpy(buf, config + off, len);
}

/* The guest knows no connection any more; programs that have not said where they want to may wait, and what it sent goes out. */
static void forget(struct vsock *v)
{
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->state == VSOCK_CALLING || c->state == VSOCK_OPEN || c->state == VSOCK_CLOSED)
			vsock_conn_free(c);
	}
	v->n_rst = 0;
	v->event = false;
}

static void reset(struct virtio_dev *d)
{
	forget(of(d));
}

/* No chain is held between callbacks, and nothing refers to one. */
static void queue_reset(struct virtio_dev *d, unsigned q) { }

static void pause_device(struct virtio_dev *d)
{
	struct vsock *v = of(d);

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++)
		vsock_conn_unwatch(&v->conn[i]);
	loop_fd_del(&v->listen);
	loop_timer_cancel(&v->timer);
}

static void resume_device(struct virtio_dev *d)
{
	struct vsock *v = of(d);

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->state == VSOCK_FREE)
			continue;
		/* The time did not pass for the guest. */
		vsock_conn_deadline(c);
		vsock_conn_update(c);
	}
	vsock_host_accept(v);
	vsock_host_arm(v);
	send_event(v);
}

static const struct snap_field fields[] = {
	SNAP_FIELD(struct vsock, next_port),
	SNAP_FIELD(struct vsock, event),
	SNAP_END,
};
static const struct snap_table table = { "virtio-vsock", 1, fields };

static int save(struct virtio_dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, of(d));
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct vsock *v = of(d);
	int ret;

	forget(v);
	ret = snap_get(in, d->id, &table, v, e);
	v->next_port = VSOCK_HOST_PORT(v->next_port);
	v->event = true;
	return ret;
}

static void release(struct virtio_dev *d)
{
	struct vsock *v = of(d);

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++)
		vsock_conn_free(&v->conn[i]);
	vsock_host_close(v);
	virtio_dev_fini(d);
	free(v);
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-vsock",
	.device_id = 19,
	.pci_class = 0x078000,
	.config_read = config_read,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.pause = pause_device,
	.resume = resume_device,
	.save = save,
	.load = load,
	.free = release,
};

void virtio_vsock_get_stats(const struct virtio_dev *d, struct virtio_vsock_stats *out)
{
	*out = container_of((struct virtio_dev *)(uintptr_t)d, struct vsock, dev)->stats;
}

int virtio_vsock_new(struct machine *m, const char *id, uint64_t cid, const char *path, struct virtio_dev **out, struct err *e)
{
	static const uint16_t sizes[] = { [Q_RX] = QUEUE_SIZE, [Q_TX] = QUEUE_SIZE, [Q_EVENT] = EVENT_SIZE };
	struct vsock *v;
	int ret;

	if (cid < VIRTIO_VSOCK_CID_MIN || cid > VIRTIO_VSOCK_CID_MAX)
		return err_set(e, -EINVAL, "a guest's CID is %u to %u", VIRTIO_VSOCK_CID_MIN, VIRTIO_VSOCK_CID_MAX);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->cid = cid;
	v->next_port = VSOCK_HOST_PORT(0);
	list_init(&v->ready);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		v->conn[i].v = v;
		v->conn[i].fd.fd = -1;
		list_init(&v->conn[i].ready);
	}
	ret = virtio_dev_init(&v->dev, m, &ops, id, F_STREAM, 8, ARRAY_LEN(sizes), sizes);
	if (ret) {
		free(v);
		return err_set(e, ret, "vsock %s cannot be set up: %s", id, strerror(-ret));
	}
	loop_timer_init(m->loop, &v->timer, vsock_host_timer, v);
	ret = vsock_host_listen(v, path, e);
	if (ret) {
		virtio_dev_fini(&v->dev);
		free(v);
		return ret;
	}
	*out = &v->dev;
	return 0;
}
