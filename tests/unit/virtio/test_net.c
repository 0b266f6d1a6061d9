/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-net from the driver's side (virtio 1.2, 5.1), on a back end that
 * records what it is given and can refuse.
 */
#include "guest_ring.h"

#include "net/vhdr.h"
#include "virtio/net.h"
#include "virtio/net_ctrl.h"

#define B(n) (1ull << (n))
#define F_CSUM B(0)
#define F_GUEST_CSUM B(1)
#define F_GUEST_OFFLOADS B(2)
#define F_GUEST_TSO4 B(7)
#define F_TSO4 B(11)
#define F_MRG B(15)
#define F_STATUS B(16)
#define F_CTRL B(17)
#define F_CTRL_RX B(18)
#define F_CTRL_VLAN B(19)
#define F_ANNOUNCE B(21)
#define F_MQ B(22)
#define F_CTRL_MAC B(23)

#define TX 0x100000
#define RX 0x200000
#define CMD 0x300000
#define ACK 0x301000

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

struct backend {
	struct net_backend b;
	bool busy, answers;
	unsigned sent, rx_readies, pairs, closed;
	uint32_t offloads;
	size_t len;
	struct net_vhdr h;
	uint8_t frame[65536 + 64];
};

struct fixture {
	struct guest g;
	struct backend be;
	struct virtio_dev *d;
};

static int be_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct backend *be = container_of(b, struct backend, b);

	if (be->busy)
		return -EAGAIN;
	be->sent++;
	be->len = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(be->frame + be->len, iov[i].iov_base, iov[i].iov_len);
		be->len += iov[i].iov_len;
	}
	if (vhdr)
		memcpy(&be->h, vhdr, sizeof(be->h));
	if (be->answers)
		b->card.recv(b->card.opaque, 0, NULL, iov, n);
	return 0;
}

static void be_rx_ready(struct net_backend *b, unsigned q)
{
	container_of(b, struct backend, b)->rx_readies++;
}

static void be_offloads(struct net_backend *b, uint32_t o)
{
	container_of(b, struct backend, b)->offloads = o;
}

static void be_queues(struct net_backend *b, unsigned pairs)
{
	container_of(b, struct backend, b)->pairs = pairs;
}

static void be_close(struct net_backend *b)
{
	container_of(b, struct backend, b)->closed++;
}

static const struct net_backend_ops be_ops = {
	.name = "test", .send = be_send, .rx_ready = be_rx_ready, .set_offloads = be_offloads,
	.set_queues = be_queues, .close = be_close,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	guest_init(&f->g);
	f->be.b = (struct net_backend){ .ops = &be_ops, .loop = f->g.m->loop, .max_pairs = 2, .mtu = 9000,
					.offloads = NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_GUEST_CSUM |
						    NET_OFF_GUEST_TSO4 };
	assert_int_equal(virtio_net_new(f->g.m, "net0", &f->be.b, mac, &f->d, &e), 0);
	f->g.d = f->d;
	*state = f;
	return 0;
}

/* The same once more with a driver that kicks only where it was asked to. */
static int setup_event_idx(void **state)
{
	int ret = setup(state);

	((struct fixture *)*state)->g.always = VIRTIO_F_EVENT_IDX;
	return ret;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_fini(&f->g);
	assert_int_equal(f->be.closed, 1);
	free(f);
	return 0;
}

static void start(struct fixture *f, uint64_t features)
{
	assert_true(guest_start(&f->g, f->d, features));
}

/* Header and frame in one buffer; answered means the buffer came back. */
static void transmit(struct fixture *f, const struct net_vhdr *h, uint32_t len)
{
	struct piece p = { TX, NET_VHDR_LEN + len, false };

	memset(f->g.ram + TX, 0, NET_VHDR_LEN);
	if (h)
		memcpy(f->g.ram + TX, h, NET_VHDR_LEN);
	guest_add(&f->g, 1, &p, 1);
	guest_kick(&f->g, 1);
}

static int receive(struct fixture *f, const struct net_vhdr *h, size_t len)
{
	static uint8_t frame[70000];
	struct iovec v[2] = { { frame, 20 }, { frame + 20, len - 20 } };
	int ret;

	for (size_t i = 14; i < len; i++)
		frame[i] = (uint8_t)(i * 31);
	memcpy(frame, mac, 6);
	machine_lock(f->g.m);
	ret = f->be.b.card.recv(f->be.b.card.opaque, 0, h, v, 2);
	machine_unlock(f->g.m);
	return ret;
}

static void frames_go_out(void **state)
{
	struct fixture *f = *state;
	struct piece p[3] = { { TX, 5, false }, { TX + 5, 7 + 20, false }, { TX + 32, 40, false } };

	start(f, 0);
	memset(f->g.ram + TX, 0, 100);
	memset(f->g.ram + TX + 12, 0x77, 60);
	guest_add(&f->g, 1, p, 3);
	guest_kick(&f->g, 1);
	guest_wait(&f->g, 1, NULL);
	assert_int_equal(f->be.sent, 1);
	assert_int_equal(f->be.len, 60);
	assert_int_equal(f->be.frame[0], 0x77);
	assert_int_equal(f->be.frame[59], 0x77);
}

static void bad_frames_are_dropped(void **state)
{
	struct fixture *f = *state;
	struct net_vhdr unasked = { .flags = 1, .csum_start = 34, .csum_offset = 6 };
	struct net_vhdr outside = { .flags = 1, .csum_start = 34, .csum_offset = 0xfff0 };
	struct net_vhdr gso = { .gso_type = NET_GSO_TCPV4, .gso_size = 1000 };
	struct virtio_net_stats s;

	start(f, 0);
	transmit(f, &unasked, 60);
	guest_wait(&f->g, 1, NULL);
	start(f, F_CSUM | F_TSO4);
	transmit(f, &outside, 60);
	guest_wait(&f->g, 1, NULL);
	transmit(f, &gso, 60);
	guest_wait(&f->g, 1, NULL);
	transmit(f, NULL, 13);
	guest_wait(&f->g, 1, NULL);
	transmit(f, NULL, NET_MAX_FRAME + 1);
	guest_wait(&f->g, 1, NULL);
	assert_int_equal(f->be.sent, 0);
	transmit(f, &unasked, 60);
	guest_wait(&f->g, 1, NULL);
	assert_int_equal(f->be.sent, 1);
	assert_int_equal(f->be.h.csum_start, 34);
	virtio_net_get_stats(f->d, &s);
	assert_int_equal(s.tx_bad, 5);
	assert_int_equal(s.tx_packets, 1);
}

/* A back end that is busy keeps the frame in the ring until it is ready. */
static void busy_back_end(void **state)
{
	struct fixture *f = *state;

	start(f, 0);
	f->be.busy = true;
	transmit(f, NULL, 60);
	guest_settle(&f->g);
	assert_false(guest_used(&f->g, 1, NULL, NULL));
	f->be.busy = false;
	machine_lock(f->g.m);
	f->be.b.card.tx_ready(f->be.b.card.opaque, 0);
	machine_unlock(f->g.m);
	assert_true(guest_used(&f->g, 1, NULL, NULL));
	assert_int_equal(f->be.sent, 1);
}

/* libslirp answers ARP before send returns: both rings keep their own buffers. */
static void answer_inside_send(void **state)
{
	struct piece in[3] = { { RX, 12, true }, { RX + 12, 1000, true }, { RX + 0x1000, 100, true } };
	struct fixture *f = *state;
	uint32_t head;
	uint16_t want;

	start(f, 0);
	f->be.answers = true;
	guest_add(&f->g, 1, (struct piece[]){ { TX, 100, false } }, 1);
	guest_kick(&f->g, 1);
	guest_wait(&f->g, 1, NULL);
	want = guest_add(&f->g, 0, in, 3);
	transmit(f, NULL, 60);
	guest_wait(&f->g, 1, &head);
	assert_int_equal(head, 1);
	guest_wait(&f->g, 0, &head);
	assert_int_equal(head, want);
	assert_int_equal(f->d->vq[0].in_flight | f->d->vq[1].in_flight, 0);
}

static void frames_come_in(void **state)
{
	struct fixture *f = *state;
	struct piece p[2] = { { RX, 4, true }, { RX + 4, 2000, true } };
	struct net_vhdr h = { .flags = NET_VHDR_DATA_VALID };
	uint32_t len;

	start(f, F_GUEST_CSUM);
	/* No buffer: refused; the driver's next kick tells the back end. */
	assert_int_equal(receive(f, &h, 100), 0);
	f->be.rx_readies = 0;
	guest_add(&f->g, 0, p, 2);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_int_equal(f->be.rx_readies, 1);
	assert_int_equal(receive(f, &h, 100), 1);
	guest_settle(&f->g);
	assert_int_equal(f->g.irqs[0], 1);
	len = guest_wait(&f->g, 0, NULL);
	assert_int_equal(len, 112);
	assert_memory_equal(f->g.ram + RX + 12, mac, 6);
	assert_int_equal(f->g.ram[RX], NET_VHDR_DATA_VALID);
	assert_int_equal(ld_le16(f->g.ram + RX + 10), 1);
	assert_int_equal(f->g.ram[RX + 12 + 99], (uint8_t)(99 * 31));
}

/* 5.1.6.4: one frame over several buffers; too few of them are not half used. */
static void merged_buffers(void **state)
{
	struct fixture *f = *state;
	struct piece p = { RX, 500, true };
	uint32_t sum = 0, len = 0;

	start(f, F_MRG);
	for (unsigned i = 0; i < 6; i++) {
		if (i == 2) {
			assert_int_equal(receive(f, NULL, 2500), 0);
			assert_false(guest_used(&f->g, 0, NULL, NULL));
		}
		p.gpa = RX + i * 0x1000;
		guest_add(&f->g, 0, &p, 1);
	}
	assert_int_equal(receive(f, NULL, 2500), 1);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(guest_used(&f->g, 0, NULL, &len));
		sum += len;
	}
	assert_int_equal(sum, 2512);
	assert_int_equal(ld_le16(f->g.ram + RX + 10), 6);
	assert_int_equal(f->g.ram[RX + 0x1000], (uint8_t)(488 * 31));
	assert_int_equal(f->g.ram[RX + 0x5000 + 11], (uint8_t)(2499 * 31));
	/* More than all buffers there can be: dropped, not waited for. */
	for (unsigned i = 0; i < 64; i++)
		guest_add(&f->g, 0, &p, 1);
	assert_int_equal(receive(f, NULL, 65000), 1);
	assert_false(guest_used(&f->g, 0, NULL, NULL));
	assert_int_equal(receive(f, NULL, 100), 1);
	assert_true(guest_used(&f->g, 0, NULL, NULL));
}

static void small_buffers(void **state)
{
	struct fixture *f = *state;
	struct piece small = { RX, 100, true }, tiny = { RX, 11, true };

	start(f, 0);
	guest_add(&f->g, 0, &small, 1);
	assert_int_equal(receive(f, NULL, 100), 1);
	assert_false(guest_used(&f->g, 0, NULL, NULL));
	assert_int_equal(receive(f, NULL, 60), 1);
	assert_true(guest_used(&f->g, 0, NULL, NULL));
	guest_add(&f->g, 0, &tiny, 1);
	assert_int_equal(receive(f, NULL, 60), 1);
	assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
}

static int command(struct fixture *f, unsigned q, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	struct piece p[3] = { { CMD, 2, false }, { CMD + 2, len, false }, { ACK, 1, true } };

	f->g.ram[CMD] = class;
	f->g.ram[CMD + 1] = cmd;
	f->g.ram[ACK] = 0xaa;
	if (data)
		memcpy(f->g.ram + CMD + 2, data, len);
	guest_add(&f->g, q, p, 3);
	guest_kick(&f->g, q);
	guest_wait(&f->g, q, NULL);
	return f->g.ram[ACK];
}

/* Does the card let in a frame to this address (with this VLAN, if not 0)? */
static bool lets_in(struct fixture *f, const uint8_t *to, uint16_t vlan)
{
	struct piece p = { RX, 2000, true };
	uint8_t frame[64] = { 0 };
	struct iovec v = { frame, sizeof(frame) };

	memcpy(frame, to, 6);
	if (vlan) {
		frame[12] = 0x81;
		frame[14] = (uint8_t)(vlan >> 8);
		frame[15] = (uint8_t)vlan;
	}
	guest_add(&f->g, 0, &p, 1);
	machine_lock(f->g.m);
	assert_int_equal(f->be.b.card.recv(f->be.b.card.opaque, 0, NULL, &v, 1), 1);
	machine_unlock(f->g.m);
	if (guest_used(&f->g, 0, NULL, NULL))
		return true;
	return false;
}

static void filter(void **state)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 }, multi[6] = { 1, 0, 0x5e, 0, 0, 1 };
	static const uint8_t other[6] = { 0x52, 0x54, 0, 9, 9, 9 }, on = 1, off = 0;
	uint8_t table[4 + 6 + 4 + 6] = { 1 };
	uint16_t vid = 7;
	struct fixture *f = *state;

	start(f, F_CTRL | F_CTRL_RX | F_CTRL_VLAN | F_CTRL_MAC | F_MQ);
	assert_true(lets_in(f, mac, 0));
	assert_true(lets_in(f, all, 0));
	assert_false(lets_in(f, multi, 0));
	assert_false(lets_in(f, other, 0));
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_PROMISC, &on, 1), NET_CTRL_OK);
	assert_true(lets_in(f, other, 0));
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_PROMISC, &off, 1), NET_CTRL_OK);
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_ALLMULTI, &on, 1), NET_CTRL_OK);
	assert_true(lets_in(f, multi, 0));
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_ALLMULTI, &off, 1), NET_CTRL_OK);
	memcpy(table + 4, other, 6);
	table[10] = 1;
	memcpy(table + 14, multi, 6);
	assert_int_equal(command(f, 4, NET_CTRL_MAC, NET_CTRL_MAC_TABLE_SET, table, sizeof(table)), NET_CTRL_OK);
	assert_true(lets_in(f, multi, 0));
	assert_true(lets_in(f, other, 0));
	assert_false(lets_in(f, mac, 7));
	assert_int_equal(command(f, 4, NET_CTRL_VLAN, NET_CTRL_VLAN_ADD, &vid, 2), NET_CTRL_OK);
	assert_true(lets_in(f, mac, 7));
	assert_int_equal(command(f, 4, NET_CTRL_VLAN, NET_CTRL_VLAN_DEL, &vid, 2), NET_CTRL_OK);
	assert_false(lets_in(f, mac, 7));
	assert_int_equal(command(f, 4, NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, "\x52\x54\x00\x09\x09\x01", 6), NET_CTRL_OK);
	assert_false(lets_in(f, mac, 0));
	start(f, 0);
	assert_true(lets_in(f, other, 0));
}

static void bad_commands(void **state)
{
	static const uint8_t lies[4] = { 0xff, 0xff, 0xff, 0x7f };
	uint16_t vid = 4096, pairs = 3;
	uint64_t tso6 = B(8);
	struct fixture *f = *state;

	start(f, F_CTRL | F_CTRL_RX | F_CTRL_VLAN | F_MQ | F_GUEST_OFFLOADS | F_GUEST_CSUM);
	assert_int_equal(command(f, 4, NET_CTRL_MAC, NET_CTRL_MAC_TABLE_SET, lies, 4), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_MAC, NET_CTRL_MAC_ADDR_SET, mac, 6), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_RX, 9, lies, 1), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_PROMISC, NULL, 0), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_VLAN, NET_CTRL_VLAN_ADD, &vid, 2), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_MQ, NET_CTRL_MQ_PAIRS_SET, &pairs, 2), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_OFFLOADS, NET_CTRL_OFFLOADS_SET, &tso6, 8), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, 77, 0, lies, 4), NET_CTRL_ERR);
	assert_int_equal(command(f, 4, NET_CTRL_MAC, NET_CTRL_MAC_TABLE_SET, NULL, 60000), NET_CTRL_ERR);
	assert_false(f->d->status & VIRTIO_S_NEEDS_RESET);
}

static void queues_and_offloads(void **state)
{
	uint16_t pairs = 2;
	uint64_t set = B(1);
	struct fixture *f = *state;

	start(f, F_CTRL | F_MQ | F_GUEST_OFFLOADS | F_GUEST_CSUM | F_GUEST_TSO4);
	assert_int_equal(f->be.offloads, NET_OFF_GUEST_CSUM | NET_OFF_GUEST_TSO4);
	assert_int_equal(command(f, 4, NET_CTRL_MQ, NET_CTRL_MQ_PAIRS_SET, &pairs, 2), NET_CTRL_OK);
	assert_int_equal(f->be.pairs, 2);
	assert_int_equal(command(f, 4, NET_CTRL_OFFLOADS, NET_CTRL_OFFLOADS_SET, &set, 8), NET_CTRL_OK);
	assert_int_equal(f->be.offloads, NET_OFF_GUEST_CSUM);
	/* Without multi-queue the control queue is the third one. */
	start(f, F_CTRL | F_GUEST_OFFLOADS | F_GUEST_CSUM);
	assert_int_equal(f->be.pairs, 1);
	set = 0;
	assert_int_equal(command(f, 2, NET_CTRL_OFFLOADS, NET_CTRL_OFFLOADS_SET, &set, 8), NET_CTRL_OK);
	assert_int_equal(f->be.offloads, 0);
}

static uint16_t status(struct fixture *f)
{
	uint8_t b[2];

	virtio_dev_config_access(f->d, 6, b, 2, false);
	return ld_le16(b);
}

/* The guest learns the back end's MTU. */
static void mtu(void **state)
{
	struct fixture *f = *state;
	uint8_t b[2];

	virtio_dev_config_access(f->d, 10, b, 2, false);
	assert_int_equal(ld_le16(b), 9000);
}

static void link_and_announce(void **state)
{
	struct fixture *f = *state;

	start(f, F_CTRL | F_STATUS | F_ANNOUNCE);
	assert_int_equal(status(f), 1);
	machine_lock(f->g.m);
	f->be.b.card.link(f->be.b.card.opaque, false);
	machine_unlock(f->g.m);
	assert_int_equal(status(f), 0);
	assert_int_equal(f->g.config_irqs, 1);
	transmit(f, NULL, 60);
	guest_wait(&f->g, 1, NULL);
	assert_int_equal(f->be.sent, 0);
	machine_lock(f->g.m);
	virtio_net_set_link(f->d, true);
	virtio_net_announce(f->d);
	machine_unlock(f->g.m);
	assert_int_equal(status(f), 3);
	assert_int_equal(command(f, 2, NET_CTRL_ANNOUNCE, NET_CTRL_ANNOUNCE_ACK, NULL, 0), NET_CTRL_OK);
	assert_int_equal(status(f), 1);
}

/* Nothing is received by a device that is stopped; a paused one makes the back end wait. */
static void stopped_and_paused(void **state)
{
	struct piece p = { RX, 2000, true };
	struct fixture *f = *state;

	assert_int_equal(receive(f, NULL, 60), 1);
	start(f, 0);
	guest_add(&f->g, 0, &p, 1);
	machine_lock(f->g.m);
	virtio_dev_pause(f->d);
	machine_unlock(f->g.m);
	assert_int_equal(receive(f, NULL, 60), 0);
	machine_lock(f->g.m);
	f->be.rx_readies = 0;
	virtio_dev_resume(f->d);
	machine_unlock(f->g.m);
	assert_int_equal(f->be.rx_readies, 1);
	assert_int_equal(receive(f, NULL, 60), 1);
	assert_true(guest_used(&f->g, 0, NULL, NULL));
	machine_lock(f->g.m);
	virtio_dev_set_status(f->d, 0);
	machine_unlock(f->g.m);
	memset(f->g.ram, 0xee, GUEST_RAM);
	assert_int_equal(receive(f, NULL, 60), 1);
	for (unsigned i = 0; i < GUEST_RAM; i++)
		assert_int_equal(f->g.ram[i], 0xee);
}

static void saved_state(void **state)
{
	struct fixture *f = *state;
	uint8_t on = 1;
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;
	int ret;
	static const uint8_t other[6] = { 0x52, 0x54, 0, 9, 9, 9 };

	start(f, F_CTRL | F_CTRL_RX | F_MQ | F_GUEST_CSUM);
	assert_int_equal(command(f, 4, NET_CTRL_RX, NET_CTRL_RX_ALLUNI, &on, 1), NET_CTRL_OK);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(virtio_dev_save(f->d, o), 0);
	p = snap_out_data(o, &len);
	machine_lock(f->g.m);
	virtio_dev_reset(f->d);
	machine_unlock(f->g.m);
	assert_int_equal(f->be.offloads, 0);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_lock(f->g.m);
	ret = virtio_dev_load(f->d, in, &e);
	machine_unlock(f->g.m);
	assert_int_equal(ret, 0);
	snap_in_free(in);
	assert_int_equal(f->be.offloads, NET_OFF_GUEST_CSUM);
	assert_true(lets_in(f, other, 0));
	snap_out_free(o);
}

static void group_address_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t multi[6] = { 1, 2, 3, 4, 5, 6 };
	struct virtio_dev *d = NULL;
	struct err e = { 0 };

	assert_int_equal(virtio_net_new(f->g.m, "net1", &f->be.b, multi, &d, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "01:02:03:04:05:06"));
}

int main(void)
{
#define EVENT_IDX(t) { #t " (EVENT_IDX)", t, setup_event_idx, teardown, NULL }
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(frames_go_out, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_frames_are_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(busy_back_end, setup, teardown),
		cmocka_unit_test_setup_teardown(answer_inside_send, setup, teardown),
		cmocka_unit_test_setup_teardown(frames_come_in, setup, teardown),
		cmocka_unit_test_setup_teardown(merged_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(small_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(filter, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_commands, setup, teardown),
		cmocka_unit_test_setup_teardown(queues_and_offloads, setup, teardown),
		cmocka_unit_test_setup_teardown(mtu, setup, teardown),
		cmocka_unit_test_setup_teardown(link_and_announce, setup, teardown),
		cmocka_unit_test_setup_teardown(stopped_and_paused, setup, teardown),
		cmocka_unit_test_setup_teardown(saved_state, setup, teardown),
		cmocka_unit_test_setup_teardown(group_address_refused, setup, teardown),
		EVENT_IDX(frames_go_out),
		EVENT_IDX(bad_frames_are_dropped),
		EVENT_IDX(busy_back_end),
		EVENT_IDX(answer_inside_send),
		EVENT_IDX(frames_come_in),
		EVENT_IDX(merged_buffers),
		EVENT_IDX(small_buffers),
		EVENT_IDX(filter),
		EVENT_IDX(bad_commands),
		EVENT_IDX(queues_and_offloads),
		EVENT_IDX(link_and_announce),
		EVENT_IDX(stopped_and_paused),
		EVENT_IDX(saved_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
