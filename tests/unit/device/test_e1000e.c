/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L at register level: NVM and PHY, both kinds of descriptors each way,
 * checksums and segments made by the back end or by the card, filters, interrupts
 * and their throttling, a busy back end, saved state in the middle of a packet, and
 * rings that no driver makes.
 */
#include "card.h"

#include "base/iov.h"
#include "device/e1000e.h"
#include "net/vhdr.h"

#define RAM (4u << 20)
#define BAR0 0xc0000000ull
#define BAR3 0xc0100000ull
#define TX 0x10000u
#define RX 0x20000u
#define DATA 0x100000u
#define BUFS 0x200000u
#define N 16u

enum { CMD_EOP = 1, CMD_TSE = 4, CMD_RS = 8, CMD_DEXT = 0x20, CMD_VLE = 0x40 };

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct e1000e *d;
	struct net_backend b;
	uint8_t *ram;
	unsigned msis, vector, sent, rx_ready;
	bool busy, closed;
	uint32_t tx_tail;
	uint8_t frame[70000];
	size_t len;
	struct net_vhdr h;
	size_t lens[64];
};

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x11, 0x22, 0x33 };

static int on_msi(void *opaque, const struct msi *msg)
{
	struct fix *f = opaque;

	f->msis++;
	f->vector = msg->data;
	return 0;
}

static int b_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct fix *f = container_of(b, struct fix, b);

	if (f->busy)
		return -EAGAIN;
	f->len = iov_to_buf(iov, n, 0, f->frame, sizeof(f->frame));
	f->lens[f->sent % 64] = f->len;
	f->h = (struct net_vhdr){ 0 };
	if (vhdr)
		memcpy(&f->h, vhdr, sizeof(f->h));
	f->sent++;
	return 0;
}

static void b_rx_ready(struct net_backend *b, unsigned q) { container_of(b, struct fix, b)->rx_ready++; }
static void b_set_offloads(struct net_backend *b, uint32_t o) {}
static void b_close(struct net_backend *b) { container_of(b, struct fix, b)->closed = true; }
static const struct net_backend_ops b_ops = { .name = "test", .send = b_send, .rx_ready = b_rx_ready, .set_offloads = b_set_offloads, .close = b_close };

static uint32_t rd(struct fix *f, uint32_t off)
{
	uint8_t b[4];

	bus_access(f->m->mmio, BAR0 + off, b, 4, false);
	return ld_le32(b);
}

static void wr_at(struct fix *f, uint64_t at, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access(f->m->mmio, at, b, 4, true);
}

static void wr(struct fix *f, uint32_t off, uint32_t v) { wr_at(f, BAR0 + off, v); }

static void config(struct fix *f, unsigned off, unsigned len, uint32_t v)
{
	machine_lock(f->m);
	pci_config_write(e1000e_pci(f->d), off, len, v);
	machine_unlock(f->m);
}

static void turn(struct fix *f)
{
	for (unsigned i = 0; i < 5; i++)
		loop_turn(f->m->loop, 0);
}

static void start(struct fix *f)
{
	config(f, PCI_BAR(0), 4, (uint32_t)BAR0);
	config(f, PCI_BAR(3), 4, (uint32_t)BAR3);
	config(f, PCI_COMMAND, 2, 6);
	memset(f->ram + TX, 0, 0x20000);
	wr(f, 0x3800, TX);
	wr(f, 0x3808, N * 16);
	wr(f, 0x2800, RX);
	wr(f, 0x2808, N * 16);
	for (unsigned i = 0; i < N; i++)
		st_le64(f->ram + RX + 16 * i, BUFS + 0x1000 * i);
	wr(f, 0x2818, N - 1);
	wr(f, 0x100, 0x04008002);		/* on, broadcasts, CRC stripped, 2 KiB */
	wr(f, 0x400, 2);
	f->tx_tail = 0;
}

static struct fix *make(uint32_t offloads)
{
	struct pci_root_config cfg = { .cf8 = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct err e = { 0 };
	int ret;

	f->b = (struct net_backend){ .ops = &b_ops, .offloads = offloads };
	f->m = card_machine(RAM, on_msi, f);
	f->ram = mem_ram_host(f->m->mem);
	machine_lock(f->m);
	ret = pci_root_new(f->m, &cfg, &f->root, &e);
	if (!ret)
		ret = e1000e_new(f->m, f->root, PCI_ANY_DEVFN, "net0", &f->b, mac, &f->d, &e);
	machine_unlock(f->m);
	assert_int_equal(ret, 0);
	start(f);
	return f;
}

static int setup(void **state)
{
	*state = make(0);
	return 0;
}

static int setup_offloads(void **state)
{
	*state = make(NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6);
	return 0;
}

static void unmake(struct fix *f)
{
	machine_free(f->m);
	assert_true(f->closed);
	free(f);
}

static int teardown(void **state)
{
	unmake(*state);
	return 0;
}

/* ---- registers ---- */

static uint16_t nvm(struct fix *f, unsigned at)
{
	wr(f, 0x14, at << 2 | 1);
	assert_true(rd(f, 0x14) & 2);
	return (uint16_t)(rd(f, 0x14) >> 16);
}

static uint16_t phy(struct fix *f, unsigned reg)
{
	wr(f, 0x20, 2u << 26 | 1u << 21 | reg << 16);
	assert_int_equal(rd(f, 0x20) & (BIT(28) | BIT(30)), BIT(28));
	return (uint16_t)rd(f, 0x20);
}

static void phy_wr(struct fix *f, unsigned reg, uint16_t v) { wr(f, 0x20, 1u << 26 | 1u << 21 | reg << 16 | v); }

static void registers(void **state)
{
	struct fix *f = *state;
	uint16_t sum = 0;

	for (unsigned i = 0; i < 64; i++)
		sum = (uint16_t)(sum + nvm(f, i));
	assert_int_equal(sum, 0xbaba);
	assert_int_equal(nvm(f, 0), 0x5452);
	assert_int_equal(nvm(f, 64), 0xffff);
	assert_int_equal(rd(f, 0x5400), 0x11005452);
	assert_int_equal(rd(f, 0x5404), 0x80003322);
	assert_int_equal(rd(f, 0x08) & 0x83, 0x83);
	assert_int_equal(phy(f, 2), 0x0141);
	assert_int_equal(phy(f, 3), 0x0cb1);
	assert_int_equal(phy(f, 1) & 0x24, 0x24);
	wr(f, 0x20, 2u << 26 | 2u << 21);			/* nobody is at address 2 */
	assert_true(rd(f, 0x20) & BIT(30));
	phy_wr(f, 0, 0x1940);					/* powered down */
	assert_int_equal(rd(f, 0x08) & 2, 0);
	assert_int_equal(rd(f, 0xc0) & 4, 4);
	phy_wr(f, 0, 0x1140);
	assert_int_equal(rd(f, 0x08) & 2, 2);
	/* Master disable is answered; a reset undoes it and brings the address back. */
	wr(f, 0x00, rd(f, 0) | 4);
	assert_int_equal(rd(f, 0x08) & BIT(19), 0);
	wr(f, 0x5400, 0);
	wr(f, 0x00, rd(f, 0) | BIT(26));
	assert_int_equal(rd(f, 0x00) & (BIT(26) | 4), 0);
	assert_int_equal(rd(f, 0x5400), 0x11005452);
	assert_int_equal(rd(f, 0x5b50), 0);			/* the semaphore is taken by reading */
	assert_int_equal(rd(f, 0x5b50), 1);
	assert_int_equal(rd(f, 0xfffc), 0);
	wr(f, 0xb608, 1u << 24 | 25);				/* 25 in 40 ns */
	wr(f, 0xb600, 0);
	wr(f, 0xb604, 0);
	machine_lock(f->m);
	clock_step(f->m->clock, 4000);
	machine_unlock(f->m);
	assert_int_equal(rd(f, 0xb600), 2500);
}

/* ---- transmission ---- */

static void desc(struct fix *f, uint64_t addr, uint32_t low, uint32_t high)
{
	uint8_t *p = f->ram + TX + 16 * f->tx_tail;

	st_le64(p, addr);
	st_le32(p + 8, low);
	st_le32(p + 12, high);
	f->tx_tail = (f->tx_tail + 1) % N;
}

static void kick(struct fix *f)
{
	wr(f, 0x3818, f->tx_tail);
	turn(f);
}

/* Ethernet, IPv4 without options, TCP; lengths and checksums as drivers leave them for segmentation. */
static void tcp_header(uint8_t *p)
{
	uint32_t sum;

	memset(p, 0, 54);
	memset(p, 0xff, 6);
	p[12] = 8;
	p[14] = 0x45;
	p[22] = 64;
	p[23] = 6;
	memcpy(p + 26, (const uint8_t[]){ 10, 0, 2, 15, 10, 0, 2, 2 }, 8);
	p[46] = 0x50;
	p[47] = 0x19;					/* ACK, PSH, FIN */
	sum = net_csum_add(net_csum_add(0, p + 26, 8), (const uint8_t[]){ 0, 6 }, 2);
	p[50] = (uint8_t)((uint16_t)~net_csum_fold(sum) >> 8);
	p[51] = (uint8_t)~net_csum_fold(sum);
}

static void context(struct fix *f, bool tse, uint16_t mss)
{
	desc(f, 14 | 24 << 8 | 33 << 16 | 34ull << 32 | 50ull << 40, (tse ? CMD_TSE : 0u) << 24 | CMD_DEXT << 24 | 3u << 24, 54u << 8 | (uint32_t)mss << 16);
}

static void data(struct fix *f, uint64_t at, uint32_t len, unsigned cmd, unsigned popts)
{
	desc(f, at, len | 1u << 20 | (uint32_t)(CMD_DEXT | cmd) << 24, popts << 8);
}

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

/* Sums of a frame on its way: 0 if they are right. */
static unsigned sums(const uint8_t *p, size_t len)
{
	const uint8_t tail[4] = { 0, 6, (uint8_t)((len - 34) >> 8), (uint8_t)(len - 34) };

	assert_int_equal(be16(p + 16), len - 14);
	return net_csum_fold(net_csum_add(0, p + 14, 20)) |
	       net_csum_fold(net_csum_add(net_csum_add(net_csum_add(0, p + 26, 8), tail, 4), p + 34, len - 34));
}

static void legacy(void **state)
{
	struct fix *f = *state;

	memset(f->ram + DATA, 0x42, 4096);
	desc(f, DATA, 40 | 0u << 24, 0);
	desc(f, DATA + 1000, 60 | (uint32_t)(CMD_EOP | CMD_RS) << 24, 0);
	kick(f);
	assert_int_equal(f->sent, 1);
	assert_int_equal(f->len, 100);
	assert_int_equal(rd(f, 0x3810), 2);
	assert_int_equal(f->ram[TX + 12], 0);			/* no report asked for */
	assert_int_equal(f->ram[TX + 16 + 12], 1);
	assert_int_equal(rd(f, 0xc0) & 3, 3);			/* written back, and the ring is empty */
	assert_int_equal(rd(f, 0x40d4), 1);			/* counted, and cleared by reading */
	assert_int_equal(rd(f, 0x40d4), 0);
	/* Short ones are padded; a tag is put in. */
	wr(f, 0x00, rd(f, 0) | BIT(30));
	desc(f, DATA, 20 | (uint32_t)(CMD_EOP | CMD_VLE) << 24, 5u << 16);
	kick(f);
	assert_int_equal(f->len, 64);
	assert_int_equal(be16(f->frame + 12), 0x8100);
	assert_int_equal(be16(f->frame + 14), 5);
	assert_int_equal(f->frame[25], 0);
}

static void checksum_here(void **state)
{
	struct fix *f = *state;
	uint8_t *p = f->ram + DATA;

	tcp_header(p);
	memset(p + 54, 7, 46);
	p[17] = 86;
	p[51] = (uint8_t)(p[51] + 66);				/* without segmentation the driver knows the length */
	context(f, false, 0);
	data(f, DATA, 100, CMD_EOP | CMD_RS, 3);
	kick(f);
	assert_int_equal(f->sent, 1);
	assert_int_equal(f->h.flags, 0);
	assert_int_equal(sums(f->frame, 100), 0);
}

static void checksum_there(void **state)
{
	struct fix *f = *state;

	tcp_header(f->ram + DATA);
	context(f, false, 0);
	data(f, DATA, 100, CMD_EOP, 2);
	kick(f);
	assert_int_equal(f->h.flags, NET_VHDR_NEEDS_CSUM);
	assert_int_equal(f->h.csum_start, 34);
	assert_int_equal(f->h.csum_offset, 16);
}

static void segments_there(void **state)
{
	struct fix *f = *state;

	tcp_header(f->ram + DATA);
	context(f, true, 1460);
	data(f, DATA, 54, CMD_TSE, 3);
	data(f, DATA + 0x1000, 9000, CMD_TSE | CMD_EOP | CMD_RS, 3);
	kick(f);
	assert_int_equal(f->sent, 1);
	assert_int_equal(f->len, 9054);
	assert_int_equal(f->h.gso_type, NET_GSO_TCPV4);
	assert_int_equal(f->h.gso_size, 1460);
	assert_int_equal(f->h.hdr_len, 54);
	assert_int_equal(be16(f->frame + 16), 9040);
	net_finish_csum(f->frame, f->len, &(struct net_vhdr){ .flags = 1, .csum_start = 34, .csum_offset = 16 });
	assert_int_equal(sums(f->frame, f->len), 0);
}

/* The back end takes whole frames only, and is busy in the middle. */
static void segments_here(void **state)
{
	struct fix *f = *state;
	unsigned total = 0;

	tcp_header(f->ram + DATA);
	memset(f->ram + DATA + 0x1000, 9, 9000);
	context(f, true, 1460);
	data(f, DATA, 54, CMD_TSE, 3);
	data(f, DATA + 0x1000, 9000, CMD_TSE | CMD_EOP | CMD_RS, 3);
	f->busy = true;
	kick(f);
	assert_int_equal(f->sent, 0);
	assert_int_equal(rd(f, 0x3810), 2);			/* at the last one, which is not done */
	f->busy = false;
	machine_lock(f->m);
	f->b.card.tx_ready(f->b.card.opaque, 0);
	machine_unlock(f->m);
	turn(f);
	assert_int_equal(f->sent, 7);
	for (unsigned i = 0; i < 7; i++)
		total += (unsigned)f->lens[i] - 54;
	assert_int_equal(total, 9000);
	assert_int_equal(f->len, 54 + 9000 - 6 * 1460);
	assert_int_equal(sums(f->frame, f->len), 0);
	assert_int_equal(f->frame[47], 0x19);
	assert_int_equal(be16(f->frame + 18), 6);		/* identification */
	assert_int_equal(be16(f->frame + 40), 6 * 1460);
	assert_int_equal(rd(f, 0x3810), 3);
}

/* Made here, a packet of tiny segments is the work of many turns. */
static void segments_in_turns(void **state)
{
	struct fix *f = *state;

	tcp_header(f->ram + DATA);
	memset(f->ram + DATA + 0x1000, 9, 2000);
	context(f, true, 1);
	data(f, DATA, 54, CMD_TSE, 3);
	data(f, DATA + 0x1000, 2000, CMD_TSE | CMD_EOP | CMD_RS, 3);
	wr(f, 0x3818, f->tx_tail);
	loop_turn(f->m->loop, 0);
	assert_true(f->sent > 0);
	assert_true(f->sent <= 256);
	assert_int_equal(rd(f, 0x3810), 2);
	for (unsigned i = 0; i < 10; i++)
		loop_turn(f->m->loop, 0);
	assert_int_equal(f->sent, 2000);
	assert_int_equal(f->len, 55);
	assert_int_equal(sums(f->frame, f->len), 0);
	assert_int_equal(be16(f->frame + 40), 1999);
	assert_int_equal(rd(f, 0x3810), 3);
}

/* ---- reception ---- */

static int receive(struct fix *f, const uint8_t *p, size_t len)
{
	const struct iovec v = { (void *)(uintptr_t)p, len };
	int ret;

	machine_lock(f->m);
	ret = f->b.card.recv(f->b.card.opaque, 0, NULL, &v, 1);
	machine_unlock(f->m);
	return ret;
}

static void rx_legacy(void **state)
{
	struct fix *f = *state;
	uint8_t p[3000] = { 0 };

	memset(p, 0xff, 6);
	assert_int_equal(receive(f, p, 100), 1);
	assert_int_equal(ld_le16(f->ram + RX + 8), 100);
	assert_int_equal(f->ram[RX + 12], 7);			/* done, whole, no sum looked at */
	assert_int_equal(rd(f, 0x2810), 1);
	assert_int_equal(rd(f, 0xc0) & 0x80, 0x80);
	memcpy(p, mac, 6);
	assert_int_equal(receive(f, p, 20), 1);			/* padded */
	assert_int_equal(ld_le16(f->ram + RX + 16 + 8), 60);
	p[5] ^= 1;
	assert_int_equal(receive(f, p, 100), 1);		/* to somebody else */
	assert_int_equal(rd(f, 0x2810), 2);
	wr(f, 0x100, 0x0400800a);				/* promiscuous */
	receive(f, p, 100);
	assert_int_equal(rd(f, 0x2810), 3);
	p[0] = 1;
	receive(f, p, 100);					/* multicast: not so */
	assert_int_equal(rd(f, 0x2810), 3);
	wr(f, 0x5200 + 4 * ((((unsigned)(p[5] << 8 | p[4]) >> 4) & 0xfff) >> 5), BIT((((unsigned)(p[5] << 8 | p[4]) >> 4) & 0xfff) & 31));
	receive(f, p, 100);
	assert_int_equal(rd(f, 0x2810), 4);
	memset(p, 0xff, 6);
	receive(f, p, 2000);					/* long ones are not taken */
	assert_int_equal(rd(f, 0x2810), 4);
	wr(f, 0x100, 0x04008022);
	receive(f, p, 3000);					/* in two pieces */
	assert_int_equal(rd(f, 0x2810), 6);
	assert_int_equal(f->ram[RX + 16 * 4 + 12], 1);
	assert_int_equal(ld_le16(f->ram + RX + 16 * 5 + 8), 3000 - 2048);
	assert_int_equal(rd(f, 0x4074), 5);
	/* Few descriptors: the back end waits until there are more. */
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(receive(f, p, 100), 1);
	assert_int_equal(receive(f, p, 100), 0);
	assert_int_equal(f->rx_ready, 0);
	wr(f, 0x2818, 3);
	assert_int_equal(f->rx_ready, 0);			/* told on the loop, not by whoever writes */
	turn(f);
	assert_int_equal(f->rx_ready, 1);
	assert_int_equal(receive(f, p, 100), 1);
	/* What the whole ring cannot hold is lost. */
	assert_int_equal(receive(f, p, 3000), 1);
	wr(f, 0x2808, 128 * 1);
	wr(f, 0x2810, 0);
	wr(f, 0x2818, 7);
	{
		uint8_t *big = calloc(1, 60000);

		memset(big, 0xff, 6);
		assert_int_equal(receive(f, big, 60000), 1);
		free(big);
	}
	assert_int_equal(rd(f, 0x2810), 0);
	assert_int_equal(rd(f, 0x4010), 1);
}

static void rx_extended(void **state)
{
	struct fix *f = *state;
	uint8_t p[118];

	wr(f, 0x5008, BIT(15));
	wr(f, 0x5000, 0x300);
	wr(f, 0x00, rd(f, 0) | BIT(30));
	/* A tag, IPv4, TCP, with the right sums. */
	tcp_header(p + 4);
	memset(p + 58, 3, 60);
	p[4 + 17] = 100;
	memmove(p, p + 4, 12);
	memcpy(p + 12, (const uint8_t[]){ 0x81, 0, 0, 9 }, 4);
	p[4 + 24] = p[4 + 25] = 0;
	{
		uint16_t ip = net_csum_fold(net_csum_add(0, p + 18, 20));
		const uint8_t tail[4] = { 0, 6, 0, 80 };
		uint16_t tcp;

		p[28] = (uint8_t)(ip >> 8);
		p[29] = (uint8_t)ip;
		p[54] = p[55] = 0;
		tcp = net_csum_fold(net_csum_add(net_csum_add(net_csum_add(0, p + 30, 8), tail, 4), p + 38, 80));
		p[54] = (uint8_t)(tcp >> 8);
		p[55] = (uint8_t)tcp;
	}
	assert_int_equal(receive(f, p, sizeof(p)), 1);
	assert_int_equal(ld_le32(f->ram + RX + 8), 0x1 | 0x2 | 0x8 | 0x20 | 0x40);
	assert_int_equal(ld_le16(f->ram + RX + 12), 114);
	assert_int_equal(ld_le16(f->ram + RX + 14), 9);
	assert_int_equal(be16(f->ram + BUFS + 12), 0x0800);
	p[100] ^= 1;
	receive(f, p, sizeof(p));
	assert_int_equal(ld_le32(f->ram + RX + 16 + 8) >> 24, 0x20);
	p[30] ^= 4;
	receive(f, p, sizeof(p));
	assert_int_equal(ld_le32(f->ram + RX + 32 + 8) >> 24, 0x60);
	/* VLAN 9 is filtered out, then let in. */
	wr(f, 0x100, 0x04048002);
	receive(f, p, sizeof(p));
	assert_int_equal(rd(f, 0x2810), 3);
	wr(f, 0x5600, BIT(9));
	receive(f, p, sizeof(p));
	assert_int_equal(rd(f, 0x2810), 4);
}

static void rx_split(void **state)
{
	struct fix *f = *state;
	uint8_t p[1000];

	memset(p, 0xff, sizeof(p));
	wr(f, 0x5008, BIT(15));
	wr(f, 0x2170, 1 | 1 << 8 | 1 << 16);		/* 128, 1024, 1024 */
	wr(f, 0x100, 0x04008402);
	wr(f, 0x2808, N * 32);
	for (unsigned i = 0; i < 4; i++)
		st_le64(f->ram + RX + 8 * i, BUFS + 0x1000 * i);
	receive(f, p, sizeof(p));
	assert_int_equal(ld_le32(f->ram + RX + 8) & 3, 3);
	assert_int_equal(ld_le16(f->ram + RX + 12), 128);
	assert_int_equal(ld_le16(f->ram + RX + 18), 872);
	assert_int_equal(f->ram[BUFS + 127], 0xff);
	assert_int_equal(f->ram[BUFS + 128], 0);
	assert_int_equal(f->ram[BUFS + 0x1000 + 871], 0xff);
}

/* ---- interrupts ---- */

static void msi(void **state)
{
	struct fix *f = *state;
	unsigned cap = e1000e_pci(f->d)->msi_cap;

	config(f, cap + 4, 4, 0xfee00000);
	config(f, cap + 2, 2, 1);
	wr(f, 0xc8, 4);
	assert_int_equal(f->msis, 0);
	wr(f, 0xd0, 4);
	assert_int_equal(f->msis, 1);
	wr(f, 0xc8, 4);						/* is up: no other message */
	assert_int_equal(f->msis, 1);
	assert_int_equal(rd(f, 0xc0), 0x81000004);
	assert_int_equal(rd(f, 0xc0), 0);
	/* Not more often than ITR says, in units of 256 ns; none is lost. */
	wr(f, 0xc4, 100);
	wr(f, 0xc8, 4);
	assert_int_equal(f->msis, 2);
	rd(f, 0xc0);
	wr(f, 0xc8, 4);
	assert_int_equal(f->msis, 2);
	machine_lock(f->m);
	clock_step(f->m->clock, 25599);
	machine_unlock(f->m);
	assert_int_equal(f->msis, 2);
	machine_lock(f->m);
	clock_step(f->m->clock, 1);
	machine_unlock(f->m);
	assert_int_equal(f->msis, 3);
}

static void msix(void **state)
{
	struct fix *f = *state;

	for (unsigned v = 0; v < 5; v++) {
		wr_at(f, BAR3 + 16 * v, 0xfee00000);
		wr_at(f, BAR3 + 16 * v + 8, 0x40 + v);
		wr_at(f, BAR3 + 16 * v + 12, 0);
	}
	config(f, e1000e_pci(f->d)->msix_cap + 2u, 2, 0x8000);
	wr(f, 0xe4, 0x800a0908);				/* receive 0, transmit 1, the rest 2 */
	wr(f, 0xdc, 0x00500000);
	wr(f, 0xd0, 0x01500004);
	wr(f, 0xc8, 0x00100000);
	assert_int_equal(f->msis, 1);
	assert_int_equal(f->vector, 0x40);
	wr(f, 0xc8, 0x00100000);				/* cleared by itself: again */
	assert_int_equal(f->msis, 2);
	wr(f, 0xc8, 0x00400000);
	assert_int_equal(f->vector, 0x41);
	wr(f, 0xc8, 4);
	assert_int_equal(f->vector, 0x42);
	assert_int_equal(f->msis, 4);
	wr(f, 0xc8, 4);
	assert_int_equal(f->msis, 4);
	assert_int_equal(rd(f, 0xc0), 0x81000004);
	wr(f, 0xc8, 4);
	assert_int_equal(f->msis, 5);
	/* Masked by itself, too. */
	rd(f, 0xc0);
	wr(f, 0xe0, 0xffffffff);
	wr(f, 0x18, BIT(24));
	wr(f, 0xc8, 0x00100000);
	wr(f, 0xc8, 0x00100000);
	assert_int_equal(f->msis, 6);
	wr(f, 0xd0, 0x00100000);
	assert_int_equal(f->msis, 7);
}

static void cable(void **state)
{
	struct fix *f = *state;

	machine_lock(f->m);
	e1000e_set_link(f->d, false);
	machine_unlock(f->m);
	assert_int_equal(rd(f, 0x08) & 2, 0);
	assert_int_equal(phy(f, 1) & 0x24, 0);
	assert_int_equal(rd(f, 0xc0) & 4, 4);
	desc(f, DATA, 100 | (uint32_t)(CMD_EOP | CMD_RS) << 24, 0);
	kick(f);
	assert_int_equal(f->sent, 0);
	assert_int_equal(f->ram[TX + 12], 1);			/* done with all the same */
}

/* ---- nonsense ---- */

static void nonsense(void **state)
{
	struct fix *f = *state;
	struct e1000e_stats s;

	/* A tail, a head outside the ring; a ring outside memory. */
	wr(f, 0x3818, N);
	turn(f);
	assert_int_equal(rd(f, 0x3810), 0);
	wr(f, 0x3818, 1);
	wr(f, 0x3810, 0xffff);
	wr(f, 0x3818, 1);
	turn(f);
	wr(f, 0x3810, 0);
	wr(f, 0x3804, 0xffffffff);
	wr(f, 0x3818, 1);
	turn(f);
	assert_int_equal(f->sent, 0);
	start(f);
	wr(f, 0x3804, 0);
	wr(f, 0x3810, 0);
	/* Memory that is none; a packet of more than there can be; segments without a size, a header outside. */
	desc(f, 1ull << 40, 100 | (uint32_t)CMD_EOP << 24, 0);
	data(f, 0, 0xfffff, CMD_EOP, 0);
	context(f, true, 0);
	data(f, DATA, 1000, CMD_TSE | CMD_EOP, 3);
	context(f, true, 100);
	data(f, DATA, 40, CMD_TSE | CMD_EOP, 3);
	desc(f, 200 | 201 << 8 | 0ull << 16 | 250ull << 32 | 249ull << 40, (uint32_t)(CMD_DEXT) << 24, 0);
	data(f, DATA, 100, CMD_EOP, 3);				/* sums outside the packet are not made */
	kick(f);
	assert_int_equal(f->sent, 1);
	assert_int_equal(f->len, 100);
	e1000e_get_stats(f->d, &s);
	assert_int_equal(s.tx_bad, 4);
	/* The bus may not be used. */
	config(f, PCI_COMMAND, 2, 2);
	desc(f, DATA, 100 | (uint32_t)CMD_EOP << 24, 0);
	kick(f);
	assert_int_equal(f->sent, 1);
}

/* ---- saved state ---- */

static void *save(struct fix *f, size_t *len)
{
	struct snap_out *o;
	const void *p;
	void *copy;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->m);
	machine_pause_devs(f->m);
	machine_save_devs(f->m, o, NULL);
	machine_unlock(f->m);
	p = snap_out_data(o, len);
	copy = malloc(*len);
	memcpy(copy, p, *len);
	snap_out_free(o);
	return copy;
}

static int load(struct fix *f, const void *p, size_t len)
{
	struct err e = { 0 };
	struct snap_in *in;
	int ret;

	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_lock(f->m);
	machine_pause_devs(f->m);
	machine_reset_devs(f->m);
	ret = machine_load_devs(f->m, in, &e);
	machine_resume_devs(f->m);
	machine_unlock(f->m);
	snap_in_free(in);
	return ret;
}

/* Half of a packet was read, and another one waits for the back end. */
static void saved_in_mid_packet(void **state)
{
	struct fix *f = *state, *g = make(0);
	size_t len;
	void *p;

	tcp_header(f->ram + DATA);
	memset(f->ram + DATA + 0x1000, 9, 9000);
	context(f, true, 1460);
	data(f, DATA, 54, CMD_TSE, 3);
	kick(f);
	p = save(f, &len);
	memcpy(g->ram, f->ram, RAM);
	assert_int_equal(load(g, p, len), 0);
	free(p);
	g->tx_tail = f->tx_tail;
	data(g, DATA + 0x1000, 4000, CMD_TSE | CMD_EOP | CMD_RS, 3);
	g->busy = true;
	kick(g);
	assert_int_equal(g->sent, 0);
	p = save(g, &len);
	memcpy(f->ram, g->ram, RAM);
	assert_int_equal(load(f, p, len), 0);
	turn(f);
	assert_int_equal(f->sent, 3);
	assert_int_equal(f->len, 54 + 4000 - 2 * 1460);
	assert_int_equal(sums(f->frame, f->len), 0);
	assert_int_equal(rd(f, 0x3810), 3);
	free(p);
	unmake(g);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define O(fn) cmocka_unit_test_setup_teardown(fn, setup_offloads, teardown)
	const struct CMUnitTest tests[] = {
		T(registers), T(legacy), T(checksum_here), O(checksum_there), O(segments_there), T(segments_here), T(segments_in_turns), T(rx_legacy),
		T(rx_extended), T(rx_split), T(msi), T(msix), T(cable), T(nonsense), T(saved_in_mid_packet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
