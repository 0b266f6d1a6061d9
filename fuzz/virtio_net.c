/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net against a hostile driver.  The back end completes the checksums of
 * what it is sent, as the user network does, answers at times before send has
 * returned, and is busy at others.
 */
#include "virtio_fuzz.h"

#include "base/iov.h"
#include "net/vhdr.h"
#include "virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct backend {
	struct net_backend b;
	bool busy, answers, wanted;
	uint8_t frame[NET_MAX_FRAME];
};

static int be_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct backend *be = container_of(b, struct backend, b);
	size_t len = iov_size(iov, n);
	struct net_vhdr h;

	if (be->busy)
		return -EAGAIN;
	/* What the card promises about headers. */
	if (len < 14 || len > NET_MAX_FRAME)
		abort();
	memcpy(&h, vhdr, sizeof(h));
	if (h.flags & NET_VHDR_NEEDS_CSUM && (size_t)h.csum_start + h.csum_offset + 2 > len)
		abort();
	iov_to_buf(iov, n, 0, be->frame, len);
	net_finish_csum(be->frame, len, &h);
	if (be->answers) {
		struct iovec v = { be->frame, len };

		b->card.recv(b->card.opaque, q, NULL, &v, 1);
	}
	return 0;
}

static void be_rx_ready(struct net_backend *b, unsigned q)
{
	struct backend *be = container_of(b, struct backend, b);
	struct iovec v = { be->frame, 100 };

	if (be->wanted)
		be->wanted = !b->card.recv(b->card.opaque, q, NULL, &v, 1);
}

static void be_offloads(struct net_backend *b, uint32_t o) {}
static void be_queues(struct net_backend *b, unsigned pairs) {}
static void be_close(struct net_backend *b) {}

static const struct net_backend_ops be_ops = {
	.name = "fuzz", .send = be_send, .rx_ready = be_rx_ready, .set_offloads = be_offloads,
	.set_queues = be_queues, .close = be_close,
};

static void receive(struct fuzz *f, struct backend *be)
{
	size_t len = fuzz_take(f, 2), cut;
	struct iovec v[2];

	len = 14 + len % (NET_MAX_FRAME - 14);
	cut = len / 3;
	v[0] = (struct iovec){ be->frame, cut };
	v[1] = (struct iovec){ be->frame + cut, len - cut };
	be->wanted = !be->b.card.recv(be->b.card.opaque, (unsigned)fuzz_take(f, 1) & 3, NULL, v, 2);
}

/* A command as drivers send them. */
static void command(struct fuzz *f)
{
	unsigned q = f->d->driver_features & BIT64(22) ? f->d->n_queues - 1 : 2;
	uint8_t *desc = f->ram + fuzz_ring(q), *cmd = f->ram + 0x80000;
	size_t len = input_bytes(&f->in, cmd, 32);

	cmd[0] %= 6;
	cmd[1] %= 6;
	st_le64(desc, 0x80000);
	st_le32(desc + 8, (uint32_t)len);
	st_le16(desc + 12, 1);
	st_le16(desc + 14, 1);
	st_le64(desc + 16, 0x81000);
	st_le32(desc + 24, 1);
	st_le16(desc + 28, 2);
	st_le16(f->ram + fuzz_ring(q) + 0x404 + 2 * (f->avail[q] % FUZZ_QSIZE), 0);
	st_le16(f->ram + fuzz_ring(q) + 0x402, ++f->avail[q]);
	fuzz_reg32(f, 0x50, q);
	loop_turn(f->m->loop, 0);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct backend *be = f->opaque;

	if (what > 8) {
		command(f);
		return;
	}
	machine_lock(f->m);
	switch (what) {
	case 0: be->busy = true; break;
	case 1:
		be->busy = false;
		be->b.card.tx_ready(be->b.card.opaque, (unsigned)fuzz_take(f, 1));
		break;
	case 2: be->answers = !be->answers; break;
	case 3: be->b.card.link(be->b.card.opaque, fuzz_take(f, 1) & 1); break;
	case 4: virtio_net_announce(f->d); break;
	default: receive(f, be); break;
	}
	machine_unlock(f->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	struct backend *be = calloc(1, sizeof(*be));
	struct virtio_dev *d;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	be->b = (struct net_backend){ .ops = &be_ops, .loop = f.m->loop, .max_pairs = 2,
				      .offloads = 0x1ff & ~NET_OFF_USO };
	if (virtio_net_new(f.m, "net0", &be->b, mac, &d, &e))
		abort();
	f.action = action;
	f.opaque = be;
	fuzz_play(&f, d);
	free(be);
	return 0;
}
