/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net (virtio 1.2, 5.1).
 *
 * Queues are receive 0, transmit 0, receive 1 ... and the control queue last.
 * Nothing is in flight between callbacks: a frame from the guest is handed to
 * the back end and answered at once (or put back until the back end can take
 * it), a frame to the guest is copied into its buffers at once (or refused,
 * and the back end waits for rx_ready).  So reset and pause have nothing to
 * wait for.
 *
 * Every frame is preceded by the 12-byte header.  The guest's headers are read
 * once and checked (net_vhdr_check) before the host sees them.
 */
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "net/vhdr.h"
#include "virtio/net_ctrl.h"

#define F_CSUM 0
#define F_GUEST_CSUM 1
#define F_CTRL_GUEST_OFFLOADS 2
#define F_MTU 3
#define F_MAC 5
#define F_GUEST_TSO4 7
#define F_GUEST_TSO6 8
#define F_GUEST_ECN 9
#define F_HOST_TSO4 11
#define F_HOST_TSO6 12
#define F_HOST_ECN 13
#define F_MRG_RXBUF 15
#define F_STATUS 16
#define F_CTRL_VQ 17
#define F_CTRL_RX 18
#define F_CTRL_VLAN 19
#define F_CTRL_RX_EXTRA 20
#define F_GUEST_ANNOUNCE 21
#define F_MQ 22
#define F_CTRL_MAC_ADDR 23

#define STATUS_LINK_UP 1
#define STATUS_ANNOUNCE 2

#define MAX_PAIRS ((VIRTIO_MAX_QUEUES - 1) / 2)
#define QUEUE_SIZE 256
#define KICK_BUDGET 256			/* frames before others get their turn */
#define MIN_FRAME 14
#define DEFAULT_MTU 1500

/* 5.1.4 */
struct net_config {
	uint8_t mac[6];
	uint16_t status, max_pairs, mtu;
};
_Static_assert(sizeof(struct net_config) == 12, "virtio 1.2, 5.1.4");

struct virtio_net {
	struct virtio_dev d;
	struct net_backend *b;
	struct net_config cfg;
	struct net_filter filter;
	unsigned max_pairs, pairs;	/* offered, in use */
	uint32_t offloads;		/* NET_OFF_GUEST_* in force */
	uint32_t tx_offloads;		/* NET_OFF_* the driver may use */
	bool announce_on_resume;
	uint64_t flush_queues;
	struct loop_bh flush_bh;
	struct virtio_net_stats stats;
	struct vq_chain chain;		/* of transmit and control */
	/* Apart, because the back end may answer a frame while it is being sent. */
	struct vq_chain rx_chain;
	/* A frame spread over several buffers: what to put when it is complete. */
	struct { uint16_t head; uint32_t len; } merged[QUEUE_SIZE];
};

static const struct { unsigned feature; uint32_t offload; } offload_map[] = {
	{ F_CSUM, NET_OFF_CSUM },
	{ F_GUEST_CSUM, NET_OFF_GUEST_CSUM },
	{ F_GUEST_TSO4, NET_OFF_GUEST_TSO4 },
	{ F_GUEST_TSO6, NET_OFF_GUEST_TSO6 },
	{ F_GUEST_ECN, NET_OFF_GUEST_ECN },
	{ F_HOST_TSO4, NET_OFF_TSO4 },
	{ F_HOST_TSO6, NET_OFF_TSO6 },
	{ F_HOST_ECN, NET_OFF_ECN },
};
#define GUEST_OFFLOADS (NET_OFF_GUEST_CSUM | NET_OFF_GUEST_TSO4 | NET_OFF_GUEST_TSO6 | NET_OFF_GUEST_ECN)

static struct virtio_net *to_net(struct virtio_dev *d)
{
	return container_of(d, struct virtio_net, d);
}

static uint32_t features_to_offloads(uint64_t features)
{
	uint32_t o = 0;

	for (size_t i = 0; i < ARRAY_LEN(offload_map); i++)
		if (features & BIT64(offload_map[i].feature))
			o |= offload_map[i].offload;
	return o;
}

static uint64_t offloads_to_features(uint32_t offloads)
{
	uint64_t f = 0;

	for (size_t i = 0; i < ARRAY_LEN(offload_map); i++)
		if (offloads & offload_map[i].offload)
			f |= BIT64(offload_map[i].feature);
	return f;
}

static bool has(const struct virtio_net *n, unsigned feature)
{
	return virtio_has(&n->d, BIT64(feature));
}

/* 5.1.2: without multi-queue the control queue is the third. */
static unsigned ctrl_queue(const struct virtio_net *n)
{
	return has(n, F_MQ) ? 2 * n->max_pairs : 2;
}

/* ---- interrupts: one for all frames of a turn of the loop ---- */

static void flush_now(void *opaque)
{
	struct virtio_net *n = opaque;
	uint64_t mask = n->flush_queues;

	n->flush_queues = 0;
	for (; mask; mask &= mask - 1)
		vq_flush(&n->d.vq[__builtin_ctzll(mask)]);
}

static void flush_soon(struct virtio_net *n, unsigned q)
{
	n->flush_queues |= BIT64(q);
	loop_bh_post(&n->flush_bh);
}

/* ---- receive: back end to guest ---- */

/* A chain for the frame, telling apart "none yet" (0) and a broken queue. */
static int rx_get(struct virtio_net *n, struct vq *vq)
{
	int ret = vq_get(vq, &n->rx_chain);

	/* Now a kick is wanted, and one may have been missed. */
	if (ret == 0 && vq_kick_enable(vq, true))
		ret = vq_get(vq, &n->rx_chain);
	if (ret == 1 && n->rx_chain.len_write < NET_VHDR_LEN)
		ret = -EPROTO;
	return ret;
}

static void rx_unget(struct vq *vq, unsigned chains)
{
	while (chains--)
		vq_unget(vq);
}

/* Copies header and frame bytes from `done` on into the chain; returns bytes. */
static size_t rx_fill(struct virtio_net *n, const uint8_t *hdr, const struct iovec *iov, unsigned niov,
		      size_t done, size_t total)
{
	const struct iovec *in = n->rx_chain.iov + n->rx_chain.n_read;
	size_t at = 0, want = MIN(n->rx_chain.len_write, (uint64_t)(total - done));

	if (!done)
		at = iov_from_buf(in, n->rx_chain.n_write, 0, hdr, NET_VHDR_LEN);
	for (size_t skip = done ? done - NET_VHDR_LEN : 0; niov && at < want; iov++, niov--) {
		size_t l;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		l = MIN(iov->iov_len - skip, want - at);
		iov_from_buf(in, n->rx_chain.n_write, at, (uint8_t *)iov->iov_base + skip, l);
		at += l;
		skip = 0;
	}
	return at;
}

/* Written bytes are reported here, since only the heads are remembered for the put. */
static void rx_mark_written(struct virtio_net *n, size_t len)
{
	const struct iovec *in = n->rx_chain.iov + n->rx_chain.n_read;

	for (; len; in++) {
		size_t l = MIN(len, in->iov_len);

		mem_written_host(n->d.m->mem, in->iov_base, l);
		len -= l;
	}
}

/* num_buffers of the first chain, which may be anywhere in its pieces. */
struct num_buffers {
	uint8_t *byte[2];
};

static void find_num_buffers(const struct virtio_net *n, struct num_buffers *nb)
{
	struct iovec v[2];
	int k = iov_slice(n->rx_chain.iov + n->rx_chain.n_read, n->rx_chain.n_write, NET_VHDR_LEN - 2, 2, v, 2);

	nb->byte[0] = v[0].iov_base;
	nb->byte[1] = k == 2 ? v[1].iov_base : nb->byte[0] + 1;
}

static int rx_frame(struct virtio_net *n, unsigned q, const uint8_t *hdr, const struct iovec *iov, unsigned niov,
		    size_t total)
{
	struct vq *vq = &n->d.vq[q];
	unsigned max = has(n, F_MRG_RXBUF) ? vq->size : 1, used = 0;
	struct num_buffers nb;
	size_t done = 0;
	int ret;

	while (done < total) {
		ret = used < MIN(max, QUEUE_SIZE) ? rx_get(n, vq) : -EMSGSIZE;
		if (ret != 1) {
			rx_unget(vq, used);
			return ret;
		}
		if (!used)
			find_num_buffers(n, &nb);
		n->merged[used].head = n->rx_chain.head;
		n->merged[used].len = (uint32_t)rx_fill(n, hdr, iov, niov, done, total);
		rx_mark_written(n, n->merged[used].len);
		done += n->merged[used++].len;
	}
	*(volatile uint8_t *)nb.byte[0] = (uint8_t)used;
	*(volatile uint8_t *)nb.byte[1] = (uint8_t)(used >> 8);
	for (unsigned i = 0; i < used; i++)
		vq_put_head(vq, n->merged[i].head, n->merged[i].len);
	flush_soon(n, q);
	return 1;
}

static bool receiving(const struct virtio_net *n, unsigned q)
{
	return n->d.started && (n->cfg.status & STATUS_LINK_UP) && q < n->d.n_queues && n->d.vq[q].ready;
}

/* struct net_card.recv */
static int net_recv(void *opaque, unsigned pair, const void *vhdr, const struct iovec *iov, unsigned niov)
{
	struct virtio_net *n = opaque;
	unsigned q = pair < n->pairs ? 2 * pair : 0;
	size_t len = iov_size(iov, niov);
	uint8_t hdr[NET_VHDR_LEN] = { 0 };
	int ret;

	if (n->d.paused)
		return 0;
	if (!receiving(n, q) || len < MIN_FRAME || len > NET_MAX_FRAME || !net_filter_passes(&n->filter, iov, niov)) {
		n->stats.rx_dropped++;
		return 1;
	}
	if (vhdr)
		memcpy(hdr, vhdr, NET_VHDR_LEN);
	ret = rx_frame(n, q, hdr, iov, niov, NET_VHDR_LEN + len);
	if (ret == 1) {
		n->stats.rx_packets++;
		n->stats.rx_bytes += len;
	} else if (ret) {
		n->stats.rx_dropped++;
	}
	if (ret == -EPROTO)
		virtio_dev_broken(&n->d, "a receive buffer without room for the header, or a damaged ring");
	/* -EMSGSIZE: no honest buffers hold it; the frame is lost, the card goes on. */
	return ret != 0;
}

/* ---- transmit: guest to back end ---- */

/* 0: answered (sent or dropped), -EAGAIN: put it back. */
static int tx_frame(struct virtio_net *n, unsigned pair, struct vq_chain *c)
{
	struct net_vhdr h;
	size_t len = c->len_read - MIN(c->len_read, (uint64_t)NET_VHDR_LEN);
	unsigned first = 0, skip = NET_VHDR_LEN;
	int ret;

	if (len < MIN_FRAME || len > NET_MAX_FRAME ||
	    iov_to_buf(c->iov, c->n_read, 0, &h, sizeof(h)) != sizeof(h) || !net_vhdr_check(&h, len, n->tx_offloads)) {
		n->stats.tx_bad++;
		return 0;
	}
	if (!(n->cfg.status & STATUS_LINK_UP)) {
		n->stats.tx_dropped++;
		return 0;
	}
	/* The frame begins behind the header, wherever that is. */
	while (skip >= c->iov[first].iov_len)
		skip -= (unsigned)c->iov[first++].iov_len;
	c->iov[first].iov_base = (uint8_t *)c->iov[first].iov_base + skip;
	c->iov[first].iov_len -= skip;
	ret = n->b->ops->send(n->b, pair, n->b->offloads ? &h : NULL, c->iov + first, c->n_read - first);
	if (ret == -EAGAIN)
		return ret;
	if (ret) {
		n->stats.tx_dropped++;
	} else {
		n->stats.tx_packets++;
		n->stats.tx_bytes += len;
	}
	return 0;
}

/* More budget: true. Ends with an empty queue (kicks wanted again), a back end
 * that will call tx_ready, or a broken ring. */
static bool tx_batch(struct virtio_net *n, unsigned q, unsigned *budget)
{
	struct vq *vq = &n->d.vq[q];
	int ret;

	while (*budget && (ret = vq_get(vq, &n->chain)) == 1) {
		--*budget;
		if (tx_frame(n, q / 2, &n->chain) == -EAGAIN) {
			vq_unget(vq);
			return false;
		}
		vq_put_head(vq, n->chain.head, 0);
	}
	if (*budget && ret < 0)
		virtio_dev_broken(&n->d, "a damaged transmit ring");
	return *budget && ret == 0;
}

static void tx_kick(struct virtio_net *n, unsigned q)
{
	struct vq *vq = &n->d.vq[q];
	unsigned budget = KICK_BUDGET;

	vq_kick_enable(vq, false);
	while (tx_batch(n, q, &budget) && vq_kick_enable(vq, true))
		vq_kick_enable(vq, false);
	vq_flush(vq);
	if (!budget)
		virtio_dev_ring(&n->d, q);
}

/* struct net_card.tx_ready */
static void net_tx_ready(void *opaque, unsigned pair)
{
	struct virtio_net *n = opaque;

	if (n->d.started && !n->d.paused && pair < n->max_pairs && n->d.vq[2 * pair + 1].ready)
		tx_kick(n, 2 * pair + 1);
}

/* ---- control queue (5.1.6.5) ---- */

static void use_offloads(struct virtio_net *n, uint32_t offloads)
{
	n->offloads = offloads & GUEST_OFFLOADS;
	n->b->ops->set_offloads(n->b, n->offloads);
}

static void use_pairs(struct virtio_net *n, unsigned pairs)
{
	n->pairs = pairs;
	n->b->ops->set_queues(n->b, pairs);
}

static int ctrl_mq(struct virtio_net *n, uint8_t cmd, const uint8_t *p, size_t len)
{
	uint16_t pairs;

	if (!has(n, F_MQ) || cmd != NET_CTRL_MQ_PAIRS_SET || len < 2)
		return -EINVAL;
	pairs = ld_le16(p);
	if (!pairs || pairs > n->max_pairs)
		return -ERANGE;
	for (unsigned q = 0; q < 2u * pairs; q++)
		if (!n->d.vq[q].ready)
			return -EINVAL;
	use_pairs(n, pairs);
	return 0;
}

static int ctrl_offloads(struct virtio_net *n, uint8_t cmd, const uint8_t *p, size_t len)
{
	uint64_t set;

	if (!has(n, F_CTRL_GUEST_OFFLOADS) || cmd != NET_CTRL_OFFLOADS_SET || len < 8)
		return -EINVAL;
	set = ld_le64(p);
	/* 5.1.6.5.6: only what was negotiated, and nothing that is no guest offload. */
	if (set & ~(offloads_to_features(GUEST_OFFLOADS) & n->d.driver_features))
		return -EINVAL;
	use_offloads(n, features_to_offloads(set));
	return 0;
}

static int ctrl_announce(struct virtio_net *n, uint8_t cmd)
{
	if (!has(n, F_GUEST_ANNOUNCE) || cmd != NET_CTRL_ANNOUNCE_ACK)
		return -EINVAL;
	n->cfg.status &= (uint16_t)~STATUS_ANNOUNCE;
	return 0;
}

static int ctrl_command(struct virtio_net *n, uint8_t class, uint8_t cmd, const uint8_t *p, size_t len)
{
	int ret;

	switch (class) {
	case NET_CTRL_RX:
		return has(n, F_CTRL_RX) ? net_filter_rx(&n->filter, cmd, p, len) : -EINVAL;
	case NET_CTRL_MAC:
		if (cmd == NET_CTRL_MAC_ADDR_SET && !has(n, F_CTRL_MAC_ADDR))
			return -EINVAL;
		ret = net_filter_mac(&n->filter, cmd, p, len);
		memcpy(n->cfg.mac, n->filter.mac, 6);
		return ret;
	case NET_CTRL_VLAN:
		return has(n, F_CTRL_VLAN) ? net_filter_vlan(&n->filter, cmd, p, len) : -EINVAL;
	case NET_CTRL_ANNOUNCE:
		return ctrl_announce(n, cmd);
	case NET_CTRL_MQ:
		return ctrl_mq(n, cmd, p, len);
	case NET_CTRL_OFFLOADS:
		return ctrl_offloads(n, cmd, p, len);
	default:
		return -EINVAL;
	}
}

static int ctrl_chain(struct virtio_net *n, struct vq *vq)
{
	struct vq_chain *c = &n->chain;
	uint8_t buf[2 + NET_CTRL_MAX_DATA], ack = NET_CTRL_ERR;
	size_t len = iov_to_buf(c->iov, c->n_read, 0, buf, sizeof(buf));

	if (len < 2 || !c->len_write)
		return -EPROTO;
	/* What is longer than any command we know is refused, not cut. */
	if (len == c->len_read && ctrl_command(n, buf[0], buf[1], buf + 2, len - 2) == 0)
		ack = NET_CTRL_OK;
	iov_from_buf(c->iov + c->n_read, c->n_write, 0, &ack, 1);
	vq_put(vq, c, 1);
	return 0;
}

static void ctrl_kick(struct virtio_net *n, unsigned q)
{
	struct vq *vq = &n->d.vq[q];
	unsigned budget = KICK_BUDGET;
	int ret;

	/* Kicks are asked for after the last command was got: with EVENT_IDX the
	 * index we ask at is where we are. */
	do {
		ret = 0;
		while (!ret && budget && (ret = vq_get(vq, &n->chain)) == 1) {
			budget--;
			ret = ctrl_chain(n, vq);
		}
	} while (!ret && budget && vq_kick_enable(vq, true));
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(&n->d, "a control command without its parts, or a damaged ring");
	else if (!budget)
		virtio_dev_ring(&n->d, q);
}

/* ---- life cycle ---- */

static void net_kick(struct virtio_dev *d, unsigned q)
{
	struct virtio_net *n = to_net(d);

	if (q == ctrl_queue(n)) {
		if (has(n, F_CTRL_VQ))
			ctrl_kick(n, q);
	} else if (q >= 2 * n->max_pairs) {
		return;
	} else if (q & 1) {
		tx_kick(n, q);
	} else {
		/* Buffers are there: no more kicks until they run out. */
		vq_kick_enable(&d->vq[q], false);
		n->b->ops->rx_ready(n->b, q / 2);
	}
}

static void net_config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, (const uint8_t *)&to_net(d)->cfg + off, len);
}

static void net_features_ok(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	n->tx_offloads = features_to_offloads(d->driver_features) & ~GUEST_OFFLOADS;
	n->filter.vlan_filter = has(n, F_CTRL_VLAN);
	/* A driver that cannot ask for more gets what a plain card gives: everything. */
	n->filter.promisc = !has(n, F_CTRL_RX);
	use_offloads(n, features_to_offloads(d->driver_features));
}

static void net_reset(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	loop_bh_cancel(&n->flush_bh);
	n->flush_queues = 0;
	net_filter_reset(&n->filter);
	memcpy(n->cfg.mac, n->filter.mac, 6);
	n->cfg.status &= (uint16_t)~STATUS_ANNOUNCE;
	n->announce_on_resume = false;
	n->tx_offloads = 0;
	use_offloads(n, 0);
	use_pairs(n, 1);
	/* Frames the back end kept for the driver's earlier life are dropped by net_recv. */
	for (unsigned p = 0; p < n->max_pairs; p++)
		n->b->ops->rx_ready(n->b, p);
}

static void net_queue_reset(struct virtio_dev *d, unsigned q)
{
	to_net(d)->flush_queues &= ~BIT64(q);
}

static void net_pause(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	loop_bh_cancel(&n->flush_bh);
	flush_now(n);
}

static void net_resume(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	if (n->announce_on_resume)
		virtio_net_announce(d);
	n->announce_on_resume = false;
}

static const struct snap_field state_fields[] = {
	SNAP_ARRAY(struct virtio_net, cfg.mac),
	SNAP_FIELD(struct virtio_net, cfg.status),
	SNAP_FIELD(struct virtio_net, pairs),
	SNAP_FIELD(struct virtio_net, offloads),
	SNAP_END,
};
static const struct snap_table state_table = { "virtio-net", 1, state_fields };

static int net_save(struct virtio_dev *d, struct snap_out *o)
{
	struct virtio_net *n = to_net(d);
	int ret = snap_put(o, d->id, &state_table, n);

	return ret ? ret : net_filter_save(&n->filter, d->id, o);
}

static int net_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct virtio_net *n = to_net(d);
	uint16_t link = n->cfg.status & STATUS_LINK_UP;
	int ret = snap_get(in, d->id, &state_table, n, e);

	if (!ret)
		ret = net_filter_load(&n->filter, d->id, in, e);
	/* The numbers come from a file: nothing is used unchecked. */
	if (!n->pairs || n->pairs > n->max_pairs || n->offloads & ~(GUEST_OFFLOADS & n->b->offloads)) {
		n->pairs = 1;
		n->offloads = 0;
		ret = ret ? ret : err_set(e, -EINVAL, "saved state of network card %s does not fit its back end here", d->id);
	}
	n->cfg.status = (uint16_t)((n->cfg.status & STATUS_ANNOUNCE) | link);
	n->tx_offloads = features_to_offloads(d->driver_features) & ~GUEST_OFFLOADS;
	use_offloads(n, n->offloads);
	use_pairs(n, n->pairs);
	n->announce_on_resume = has(n, F_GUEST_ANNOUNCE);
	return ret;
}

static void net_free(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	net_close(n->b);
	loop_bh_cancel(&n->flush_bh);
	virtio_dev_fini(d);
	free(n);
}

static const struct virtio_dev_ops net_ops = {
	.name = "virtio-net",
	.device_id = 1,
	.pci_class = 0x020000,
	.config_read = net_config_read,
	.features_ok = net_features_ok,
	.kick = net_kick,
	.reset = net_reset,
	.queue_reset = net_queue_reset,
	.pause = net_pause,
	.resume = net_resume,
	.save = net_save,
	.load = net_load,
	.free = net_free,
};

/* ---- the outside ---- */

void virtio_net_set_link(struct virtio_dev *d, bool up)
{
	struct virtio_net *n = to_net(d);
	uint16_t status = (uint16_t)((n->cfg.status & ~STATUS_LINK_UP) | (up ? STATUS_LINK_UP : 0));

	if (status == n->cfg.status)
		return;
	n->cfg.status = status;
	virtio_dev_config_changed(d);
}

void virtio_net_announce(struct virtio_dev *d)
{
	struct virtio_net *n = to_net(d);

	if (!has(n, F_GUEST_ANNOUNCE) || !d->started)
		return;
	n->cfg.status |= STATUS_ANNOUNCE;
	virtio_dev_config_changed(d);
}

void virtio_net_get_stats(const struct virtio_dev *d, struct virtio_net_stats *out)
{
	*out = container_of((struct virtio_dev *)(uintptr_t)d, struct virtio_net, d)->stats;
}

static void net_link(void *opaque, bool up)
{
	virtio_net_set_link(&((struct virtio_net *)opaque)->d, up);
}

static uint64_t offered(const struct virtio_net *n)
{
	uint64_t f = BIT64(F_MAC) | BIT64(F_STATUS) | BIT64(F_MTU) | BIT64(F_MRG_RXBUF) | BIT64(F_CTRL_VQ) |
		     BIT64(F_CTRL_RX) | BIT64(F_CTRL_RX_EXTRA) | BIT64(F_CTRL_VLAN) | BIT64(F_CTRL_MAC_ADDR) |
		     BIT64(F_GUEST_ANNOUNCE);

	f |= offloads_to_features(n->b->offloads);
	if (n->b->offloads & GUEST_OFFLOADS)
		f |= BIT64(F_CTRL_GUEST_OFFLOADS);
	return n->max_pairs > 1 ? f | BIT64(F_MQ) : f;
}

int virtio_net_new(struct machine *m, const char *id, struct net_backend *b, const uint8_t mac[6],
		   struct virtio_dev **out, struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES];
	struct virtio_net *n;
	struct net_card card = { .recv = net_recv, .tx_ready = net_tx_ready, .link = net_link };
	int ret;

	if (mac[0] & 1)
		return err_set(e, -EINVAL, "network card %s: %02x:%02x:%02x:%02x:%02x:%02x is a group address, not one card's",
			       id, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(e, -ENOMEM, "out of memory for network card %s", id);
	n->b = b;
	n->max_pairs = MAX(1u, MIN(b->max_pairs, (unsigned)MAX_PAIRS));
	n->pairs = 1;
	n->cfg = (struct net_config){ .status = STATUS_LINK_UP, .max_pairs = (uint16_t)n->max_pairs,
				      .mtu = b->mtu ? b->mtu : DEFAULT_MTU };
	net_filter_init(&n->filter, mac);
	memcpy(n->cfg.mac, mac, 6);
	loop_bh_init(m->loop, &n->flush_bh, flush_now, n);
	for (unsigned q = 0; q <= 2 * n->max_pairs; q++)
		sizes[q] = QUEUE_SIZE;
	ret = virtio_dev_init(&n->d, m, &net_ops, id, offered(n), sizeof(n->cfg), 2 * n->max_pairs + 1, sizes);
	if (ret) {
		free(n);
		return err_set(e, ret, "network card %s cannot be set up: %s", id, strerror(-ret));
	}
	card.opaque = n;
	net_attach(b, &card);
	*out = &n->d;
	return 0;
}
