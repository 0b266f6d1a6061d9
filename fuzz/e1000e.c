/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L against a hostile driver: registers, rings and contexts made of the
 * input's bytes; frames that come meanwhile, a back end that is busy at times and
 * can do more or less by itself, time that passes, and saved state that is damaged.
 * Whatever goes out must be what the back end said it takes.
 */
#include "card_fuzz.h"
#include "device/e1000e.h"
#include "net/vhdr.h"

#define TX(q) (0x10000u + (q) * 0x1000u)
#define RX 0x20000u
#define N 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	struct card c;
	struct e1000e *d;
	struct net_backend b;
	bool busy;
	uint32_t tail[2];
	unsigned sum;
};

static uint64_t take(struct fz *f, unsigned len) { return card_take(&f->c, len); }
static void wr(struct fz *f, uint32_t off, uint32_t v) { card_wr(&f->c, off, 4, v); }

static int b_send(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct fz *f = container_of(b, struct fz, b);
	size_t len = 0;

	if (f->busy)
		return -EAGAIN;
	for (unsigned i = 0; i < n; i++) {
		len += iov[i].iov_len;
		for (size_t k = 0; k < iov[i].iov_len; k++)
			f->sum += ((const uint8_t *)iov[i].iov_base)[k];
	}
	if (vhdr) {
		struct net_vhdr h;

		memcpy(&h, vhdr, sizeof(h));
		if (!net_vhdr_check(&h, len, b->offloads))
			abort();
	}
	return len & 64 ? -EIO : 0;
}

static void b_rx_ready(struct net_backend *b, unsigned q) {}
static void b_set_offloads(struct net_backend *b, uint32_t o) {}
static void b_close(struct net_backend *b) {}
static const struct net_backend_ops b_ops = { .name = "fuzz", .send = b_send, .rx_ready = b_rx_ready, .set_offloads = b_set_offloads, .close = b_close };

static void place(struct fz *f)
{
	struct pci_dev *p = e1000e_pci(f->d);

	machine_lock(f->c.m);
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)CARD_BAR);
	pci_config_write(p, PCI_BAR(3), 4, (uint32_t)CARD_BAR + 0x40000);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	machine_unlock(f->c.m);
}

static void init(struct fz *f)
{
	for (unsigned q = 0; q < 2; q++) {
		wr(f, 0x3800 + 0x100 * q, TX(q));
		wr(f, 0x3808 + 0x100 * q, N * 16);
		wr(f, 0x3810 + 0x100 * q, 0);
		wr(f, 0x3818 + 0x100 * q, 0);
		f->tail[q] = 0;
	}
	wr(f, 0x2800, RX);
	wr(f, 0x2808, N * 32);
	wr(f, 0x2810, 0);
	wr(f, 0x2818, N - 1);
	wr(f, 0x100, 0x801e);
	wr(f, 0x400, 2);
	wr(f, 0xd0, 0xffffffff);
}

/* A descriptor of a ring, mostly of the kinds there are. */
static void tx(struct fz *f)
{
	unsigned q = (unsigned)take(f, 1) & 1;
	uint8_t how = (uint8_t)take(f, 1), *d = f->c.ram + TX(q) + 16 * (f->tail[q] % N);

	for (unsigned i = 0; i < 16; i++)
		d[i] = how & 1 || i == 8 || i == 9 || i == 11 ? (uint8_t)take(f, 1) : 0;
	if (how & 2) {				/* a context as drivers make them, for TCP on IPv4 or 6 */
		uint8_t l4 = how & 4 ? 34 : 54;
		const uint8_t ctx[16] = { 14, 24, 33, 0, l4, (uint8_t)(l4 + 16), 0, 0, 0, 0, 0, (uint8_t)(0x20 | (how & 4 ? 3 : 1) | (how & 8)), 0,
					  (uint8_t)(l4 + 20), (uint8_t)take(f, 1), (uint8_t)(how >> 6) };

		memcpy(d, ctx, sizeof(ctx));
	} else if (how & 4) {			/* data */
		st_le64(d, 0x80000 + take(f, 2));
		d[10] = 0x10;
		d[11] |= 0x20;
		d[13] = how >> 4 & 3;
	}
	f->tail[q] = (f->tail[q] + 1) % N;
	wr(f, 0x3818 + 0x100 * q, f->tail[q]);
	if (how & 0x80)
		loop_turn(f->c.m->loop, 0);
}

static void frame(struct fz *f)
{
	static uint8_t buf[NET_MAX_FRAME];
	struct iovec v[2] = { { buf, (size_t)take(f, 1) + 14 }, { buf + 300, (size_t)take(f, 2) } };
	unsigned at = (unsigned)take(f, 1) & 15;

	memset(buf, 0xff, 6);
	memcpy(buf + at, f->c.in.p, MIN(f->c.in.left, (size_t)64));
	v[1].iov_len = MIN(v[1].iov_len, sizeof(buf) - 300);
	machine_lock(f->c.m);
	f->b.card.recv(f->b.card.opaque, 0, NULL, v, 2);
	machine_unlock(f->c.m);
}

static void host(struct fz *f, uint8_t what)
{
	machine_lock(f->c.m);
	switch (what & 7) {
	case 0: machine_pause_devs(f->c.m); break;
	case 1: machine_resume_devs(f->c.m); break;
	case 2: e1000e_set_link(f->d, what & 8); break;
	case 3:
		f->busy = what & 8;
		if (!f->busy)
			f->b.card.tx_ready(f->b.card.opaque, 0);
		break;
	case 4: pci_config_write(e1000e_pci(f->d), e1000e_pci(f->d)->msix_cap + 2u, 2, what & 8 ? 0x8000 : 0); break;
	case 5: pci_config_write(e1000e_pci(f->d), e1000e_pci(f->d)->msi_cap + 2u, 2, what >> 3 & 1); break;
	default: clock_step(f->c.m->clock, what * 1000);
	}
	machine_unlock(f->c.m);
}

static void step(struct fz *f)
{
	static const uint16_t regs[] = { 0x00, 0x10, 0x14, 0x18, 0x20, 0x38, 0xc0, 0xc4, 0xc8, 0xd0, 0xd8, 0xdc, 0xe0, 0xe4, 0xe8, 0x100, 0x400, 0x2170, 0x2800, 0x2804,
					 0x2808, 0x2810, 0x2818, 0x3808, 0x3810, 0x3818, 0x5000, 0x5008, 0x5400, 0x5404, 0x5b50, 0xb608 };
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: case 2: case 3: case 4: tx(f); break;
	case 5: case 6: frame(f); break;
	case 7: card_memory(&f->c, take(f, 3)); break;
	case 8: wr(f, regs[take(f, 1) % ARRAY_LEN(regs)], (uint32_t)take(f, 4)); break;
	case 9: wr(f, (uint32_t)take(f, 2) & 0x1fffc, (uint32_t)take(f, 4)); break;
	case 10: {
		uint8_t b[4];

		bus_access(f->c.m->mmio, CARD_BAR + (take(f, 2) & 0xfffc), b, 4, false);
		break;
	}
	case 11: loop_turn(f->c.m->loop, 0); break;
	case 12: card_save_load(&f->c); break;
	case 13: place(f); break;
	default: host(f, (uint8_t)take(f, 1));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
	struct fz f = { .b = { .ops = &b_ops, .offloads = size & 1 ? NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6 : 0 } };
	struct err e;

	card_up(&f.c, data, size);
	blk_close(f.c.node[0]);
	blk_close(f.c.node[1]);
	if (e1000e_new(f.c.m, f.c.root, PCI_ANY_DEVFN, "net0", &f.b, mac, &f.d, &e))
		abort();
	machine_unlock(f.c.m);
	place(&f);
	init(&f);
	for (unsigned i = 0; f.c.in.left && i < CARD_STEPS; i++)
		step(&f);
	machine_free(f.c.m);
	return 0;
}
