/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xHCI with a disk, a CD and HID devices against a hostile driver: registers,
 * commands, contexts and transfers made of the input's bytes, keys and motions
 * meanwhile; the host's side fails and stalls at times, and saved state is damaged.
 */
#include "card_fuzz.h"
#include "device/usb_storage.h"
#include "device/xhci.h"
#include "display/input.h"
#include "usb/hid.h"

#define DCBAA 0x1000u
#define COMMANDS 0x2000u
#define EVENTS 0x3000u
#define ERST 0x4000u
#define INPUT 0x5000u
#define DEVCTX(s) (0x8000u + 0x1000u * (s))
#define RING(s, e) (0x10000u + ((s) * 8u + (e)) * 0x400u)
#define RING_TRBS 60u
#define BUFFERS 0x80000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct ring { uint32_t base, at; bool cycle; };

struct fz {
	struct card c;
	struct xhci *x;
	struct input *in;
	struct usb_device *dev[5];
	struct ring cmd, ep[4][8];
};

static uint64_t take(struct fz *f, unsigned len) { return card_take(&f->c, len); }
static void wr(struct fz *f, uint32_t off, uint32_t v) { card_wr(&f->c, off, 4, v); }

static void put(struct fz *f, struct ring *r, uint64_t param, uint32_t status, uint32_t control)
{
	uint8_t *t = f->c.ram + r->base + 16 * r->at;

	st_le64(t, param);
	st_le32(t + 8, status);
	st_le32(t + 12, (control & ~1u) | r->cycle);
	if (++r->at < RING_TRBS)
		return;
	t += 16;
	st_le64(t, r->base);
	st_le32(t + 12, 6u << 10 | 2 | r->cycle);
	r->at = 0;
	r->cycle = !r->cycle;
}

static void place(struct fz *f)
{
	struct pci_dev *p = (struct pci_dev *)f->x;

	machine_lock(f->c.m);
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)CARD_BAR);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	machine_unlock(f->c.m);
}

static void turn(struct fz *f)
{
	loop_turn(f->c.m->loop, 0);
	loop_turn(f->c.m->loop, 0);
}

static void init(struct fz *f)
{
	wr(f, 0x40, 2);
	turn(f);
	f->cmd = (struct ring){ COMMANDS, 0, true };
	for (unsigned s = 0; s < 4; s++)
		for (unsigned e = 0; e < 8; e++)
			f->ep[s][e] = (struct ring){ RING(s, e), 0, true };
	memset(f->c.ram + COMMANDS, 0, 0x3000);
	memset(f->c.ram + RING(0, 0), 0, 32 * 0x400);
	st_le64(f->c.ram + ERST, EVENTS);
	st_le32(f->c.ram + ERST + 8, 16 + (uint32_t)take(f, 1) % 64);
	wr(f, 0x78, 64);
	wr(f, 0x70, DCBAA);
	wr(f, 0x58, COMMANDS | 1);
	wr(f, 0x1028, 1);
	wr(f, 0x1038, EVENTS);
	wr(f, 0x1030, ERST);
	wr(f, 0x1020, 2);
	wr(f, 0x40, 5);
	for (unsigned i = 0; i < XHCI_SOCKETS; i++)
		wr(f, 0x440 + 0x10 * (XHCI_SOCKETS + i), 0x210);
	turn(f);
}

static void command(struct fz *f, unsigned type, uint64_t param, uint32_t control)
{
	put(f, &f->cmd, param, 0, type << 10 | control);
	wr(f, 0x2000, 0);
	turn(f);
}

/* Input context for a device and its usual endpoints. */
static void input(struct fz *f, unsigned s, unsigned port, bool disk, uint32_t add)
{
	uint8_t *c = f->c.ram + INPUT;

	memset(c, 0, 33 * 32);
	st_le32(c + 4, add);
	st_le32(c + 32, 5u << 27);
	st_le32(c + 36, port << 16);
	for (unsigned e = 1; e < 8; e++) {
		unsigned type = e == 1 ? 4 : disk ? (e & 1 ? 6 : 2) : e == 5 ? 5 : e & 1 ? 7 : 3;

		st_le32(c + 32 + 32 * e, 3u << 16);
		st_le32(c + 36 + 32 * e, 64u << 16 | type << 3);
		st_le64(c + 40 + 32 * e, RING(s, e) | 1);
	}
}

static void setup(struct fz *f, unsigned s, uint64_t packet, uint32_t len)
{
	struct ring *r = &f->ep[s][1];
	uint32_t in = packet & 0x80 ? 0x10000 : 0;

	put(f, r, packet, 8, 2u << 10 | 0x40);
	if (len)
		put(f, r, BUFFERS, len, 3u << 10 | in | 4);
	put(f, r, 0, 0, 4u << 10 | 0x20);
	wr(f, 0x2000 + 4 * s, 1);
	turn(f);
}

/* Slot s gets the device on a port, as far as the controller lets it. */
static void enumerate(struct fz *f)
{
	unsigned s = (unsigned)take(f, 1) % 3 + 1, d = (unsigned)take(f, 1) % 5;
	bool disk = d < 2;
	unsigned port = disk ? d + 1 : XHCI_SOCKETS + d + 1;

	command(f, 9, 0, 0);
	st_le64(f->c.ram + DCBAA + 8 * s, DEVCTX(s));
	input(f, s, port, disk, 3);
	command(f, 11, INPUT, s << 24);
	setup(f, s, 0x10900, 0);
	input(f, s, port, disk, disk ? 0x18 | 1 : 0x28 | 1);
	command(f, 12, INPUT, s << 24);
	for (unsigned e = 1; e < 8; e++)
		if (e != 1)
			f->ep[s][e] = (struct ring){ RING(s, e), 0, true };
}

static void cbw(struct fz *f, unsigned s)
{
	static const uint8_t common[] = { 0x28, 0x2a, 0x12, 0x00, 0x25, 0x03, 0x1a, 0x42, 0x41, 0x43, 0x35, 0x88 };
	uint8_t *b = f->c.ram + BUFFERS + 0x8000, how = (uint8_t)take(f, 1);
	uint32_t len = how & 1 ? (uint32_t)take(f, 3) : (uint32_t)take(f, 1) * 512;

	memset(b, 0, 31);
	st_le32(b, 0x43425355);
	st_le32(b + 8, len);
	b[12] = how & 2 ? 0x80 : 0;
	b[14] = 16;
	b[15] = how & 4 ? (uint8_t)take(f, 1) : common[take(f, 1) % ARRAY_LEN(common)];
	b[20] = (uint8_t)take(f, 1);
	b[23] = how & 8 ? (uint8_t)take(f, 1) : (uint8_t)(len / 512);
	put(f, &f->ep[s][4], BUFFERS + 0x8000, 31, 1u << 10 | 0x20);
	wr(f, 0x2000 + 4 * s, 4);
	turn(f);
	if (!len || how & 16)
		return;
	for (unsigned i = 0; i < 1u + (how >> 6); i++)
		put(f, &f->ep[s][how & 2 ? 3 : 4], BUFFERS, how & 32 ? len & 0xffff : len / 2 & 0xffff, 1u << 10 | 0x24);
	wr(f, 0x2000 + 4 * s, how & 2 ? 3 : 4);
	turn(f);
	put(f, &f->ep[s][3], BUFFERS + 0x9000, 13, 1u << 10 | 0x20);
	wr(f, 0x2000 + 4 * s, 3);
	turn(f);
}

static void transfer(struct fz *f)
{
	unsigned s = (unsigned)take(f, 1) & 3, e = (unsigned)take(f, 1) & 7, n = 1 + (unsigned)take(f, 1) % 4;
	uint8_t how = (uint8_t)take(f, 1);

	for (unsigned i = 0; i < n; i++) {
		unsigned type = how & 1 ? (unsigned)take(f, 1) & 63 : how & 2 ? 5 : 1;

		put(f, &f->ep[s][e], how & 4 ? take(f, 4) : BUFFERS + (uint32_t)take(f, 2), (uint32_t)take(f, 2) | (how & 8 ? (uint32_t)take(f, 2) << 16 : 0),
		    type << 10 | (how & 16 ? (uint32_t)take(f, 2) & 0x3ff : 0x24) | (i + 1 < n ? 0x10 : 0));
	}
	wr(f, 0x2000 + 4 * s, e);
	turn(f);
}

static void any_command(struct fz *f)
{
	static const uint8_t usual[] = { 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 23, 15, 16, 14, 12, 12 };
	uint8_t how = (uint8_t)take(f, 1);
	unsigned type = how & 1 ? (unsigned)take(f, 1) & 63 : usual[how >> 4];
	unsigned s = (unsigned)take(f, 1) & 3, e = (unsigned)take(f, 1) & 7;
	uint64_t param = INPUT;

	if (type == 16)
		param = (RING(s, e) + 16 * f->ep[s][e].at) | f->ep[s][e].cycle;
	if (how & 2)
		param = take(f, 3);
	if (how & 4)
		input(f, s, (unsigned)take(f, 1) & 31, how & 8, (uint32_t)take(f, 2));
	command(f, type, param, s << 24 | e << 16 | (how & 8 ? 0x200 : 0));
}

static void people(struct fz *f)
{
	uint8_t how = (uint8_t)take(f, 1);

	switch (how & 3) {
	case 0: input_key(f->in, (unsigned)take(f, 1), how & 4); break;
	case 1: input_rel(f->in, (int8_t)take(f, 1) * 9, (int8_t)take(f, 1), (int8_t)(how >> 2), how >> 4); break;
	case 2: input_abs(f->in, (unsigned)take(f, 2), (unsigned)take(f, 2), 800, 600, 0, how >> 2); break;
	default:
		machine_lock(f->c.m);
		clock_step(f->c.m->clock, (int64_t)take(f, 2) * 10000);
		machine_unlock(f->c.m);
	}
}

static void host(struct fz *f, uint8_t what)
{
	machine_lock(f->c.m);
	switch (what >> 4 & 3) {
	case 0: case 1: card_hold_or_fail(&f->c, (uint8_t)take(f, 1)); break;
	case 2:
		machine_pause_devs(f->c.m);
		break;
	default: machine_resume_devs(f->c.m); break;
	}
	machine_unlock(f->c.m);
}

/* Everything is finished one way or another. */
static void unhold(struct fz *f)
{
	machine_lock(f->c.m);
	for (unsigned i = 0; i < 2; i++)
		blk_mem_hold(f->c.node[i], false);
	machine_unlock(f->c.m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: enumerate(f); break;
	case 2: case 3: transfer(f); break;
	case 4: case 5: any_command(f); break;
	case 6: cbw(f, what >> 4 & 3); break;
	case 7: setup(f, what >> 4 & 3, take(f, 8), (uint32_t)take(f, 1)); break;
	case 8: case 9: people(f); break;
	case 10: wr(f, (uint32_t)take(f, 2) & 0x3ffc, (uint32_t)take(f, 4)); break;
	case 11: wr(f, 0x440 + 0x10 * ((uint32_t)take(f, 1) % 16), (uint32_t)take(f, 4)); break;
	case 12: card_memory(&f->c, take(f, 3)); break;
	case 13: host(f, what); break;
	case 14:
		unhold(f);
		if (what & 16)
			card_save_load(&f->c);
		else
			wr(f, 0x1038, (EVENTS + 16 * (uint32_t)take(f, 1)) | 8);
		break;
	default: turn(f); break;
	}
}

static void build(struct fz *f, size_t size)
{
	struct disk_opts o = card_disk_opts(size);
	struct err e;
	unsigned port = 0;

	if (input_new(&f->c.m->lock, &f->in) || xhci_new(f->c.m, f->c.root, PCI_ANY_DEVFN, &f->x, &e))
		abort();
	for (unsigned i = 0; i < 5; i++) {
		int ret = i < 2 ? usb_storage_new(f->c.m, i ? "disk1" : "disk0", f->c.node[i], i, &o, &f->dev[i], &e) :
				  usb_hid_new(f->c.m, f->in, (enum usb_hid_kind)(i - 2), i == 2 ? "kbd" : i == 3 ? "mouse" : "tablet", &f->dev[i], &e);

		port = 0;
		if (ret || xhci_plug(f->x, f->dev[i], &port, &e))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = { 0 };

	card_up(&f.c, data, size);
	build(&f, size);
	machine_unlock(f.c.m);
	place(&f);
	init(&f);
	for (unsigned i = 0; f.c.in.left && i < CARD_STEPS; i++)
		step(&f);
	unhold(&f);
	machine_lock(f.c.m);
	machine_resume_devs(f.c.m);
	machine_unlock(f.c.m);
	turn(&f);
	machine_free(f.c.m);
	input_free(f.in);
	return 0;
}
