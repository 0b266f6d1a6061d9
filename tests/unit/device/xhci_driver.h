/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small xHCI driver for tests: rings in guest memory, commands, transfers, what the event ring says. */
#ifndef LODGE_TEST_XHCI_DRIVER_H
#define LODGE_TEST_XHCI_DRIVER_H

#include "card.h"

#include "device/usb_storage.h"
#include "device/xhci.h"
#include "display/input.h"
#include "usb/hid.h"

#define RAM (8u << 20)
#define BAR 0xc0000000ull
#define DCBAA 0x1000u
#define COMMANDS 0x2000u
#define EVENTS 0x3000u
#define N_EVENTS 32u
#define ERST 0x4000u
#define INPUT 0x5000u
#define DEVCTX(slot) (0x10000u + 0x1000u * (slot))
#define RING(slot, dci) (0x100000u + ((slot) * 32u + (dci)) * 0x1000u)
#define RING_TRBS 64u
#define DATA 0x400000u
#define DISK (4u << 20)
#define USB2_PORT (XHCI_SOCKETS + 1)

enum { T_NORMAL = 1, T_SETUP, T_DATA, T_STATUS, T_ISOCH, T_LINK, T_EVDATA, T_NOOP, T_ENABLE = 9, T_DISABLE, T_ADDRESS, T_CONFIGURE, T_EVALUATE,
       T_RESET_EP, T_STOP_EP, T_SET_DEQ, T_RESET_DEV };
#define T(type) ((uint32_t)(type) << 10)
#define IOC 0x20u
#define ISP 0x4u
#define CH 0x10u
#define IDT 0x40u

struct event {
	uint64_t param;
	unsigned type, cc, slot, ep;
	uint32_t len;
	bool ed;
};

struct ring {
	uint32_t base, at;
	bool cycle;
};

struct fix {
	struct machine *m;
	struct xhci *x;
	struct input *in;
	struct usb_device *disk, *kbd;
	struct blk_node *node;
	uint8_t *ram;
	unsigned irqs, pauses;
	struct ring cmd, ep[8][32];
	uint32_t ev_at;
	bool ev_cycle;
	uint64_t start;				/* of the last transfer's first TRB */
};

static inline uint32_t rd(struct fix *f, uint32_t off)
{
	uint8_t b[4];

	bus_access(f->m->mmio, BAR + off, b, 4, false);
	return ld_le32(b);
}

static inline void wr(struct fix *f, uint32_t off, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access(f->m->mmio, BAR + off, b, 4, true);
}

static inline void turn(struct fix *f)
{
	for (int i = 0; i < 4; i++)
		loop_turn(f->m->loop, 0);
}

static inline uint32_t portsc(struct fix *f, unsigned port) { return rd(f, 0x430 + 0x10 * port); }
static inline void set_portsc(struct fix *f, unsigned port, uint32_t v) { wr(f, 0x430 + 0x10 * port, v); }

static inline int on_msi(void *opaque, const struct msi *msg)
{
	((struct fix *)opaque)->irqs++;
	return 0;
}

static inline void on_request(void *opaque, enum machine_request req, int code)
{
	((struct fix *)opaque)->pauses += req == MACHINE_REQ_PAUSE;
}

static inline void put_trb(struct fix *f, struct ring *r, uint64_t param, uint32_t status, uint32_t control)
{
	uint8_t *t = f->ram + r->base + 16 * r->at;

	st_le64(t, param);
	st_le32(t + 8, status);
	st_le32(t + 12, control | r->cycle);
	if (++r->at < RING_TRBS - 1)
		return;
	t += 16;
	st_le64(t, r->base);
	st_le32(t + 12, T(T_LINK) | 2 | r->cycle);
	r->at = 0;
	r->cycle = !r->cycle;
}

static inline uint64_t next_at(const struct ring *r) { return r->base + 16ull * r->at; }

/* False: there is none. */
static inline bool next_event(struct fix *f, struct event *e)
{
	const uint8_t *t = f->ram + EVENTS + 16 * f->ev_at;
	uint32_t control = ld_le32(t + 12), status = ld_le32(t + 8);

	if ((control & 1) != f->ev_cycle)
		return false;
	*e = (struct event){ .param = ld_le64(t), .type = control >> 10 & 63, .cc = status >> 24, .slot = control >> 24, .ep = control >> 16 & 31,
			     .len = status & 0xffffff, .ed = control & 4 };
	if (++f->ev_at == N_EVENTS) {
		f->ev_at = 0;
		f->ev_cycle = !f->ev_cycle;
	}
	return true;
}

static inline void events_read(struct fix *f)
{
	wr(f, 0x1038, (EVENTS + 16 * f->ev_at) | 8);
	wr(f, 0x103c, 0);
}

/* The next event, which must be of this type. */
static inline struct event want(struct fix *f, unsigned type)
{
	struct event e = { 0 };

	turn(f);
	assert_true(next_event(f, &e));
	assert_int_equal(e.type, type);
	events_read(f);
	return e;
}

static inline void nothing(struct fix *f)
{
	struct event e;

	turn(f);
	assert_false(next_event(f, &e));
}

static inline unsigned command_for(struct fix *f, unsigned type, uint64_t param, uint32_t control, unsigned *slot)
{
	uint64_t at = next_at(&f->cmd);
	struct event e;

	put_trb(f, &f->cmd, param, 0, T(type) | control);
	wr(f, 0x2000, 0);
	e = want(f, 33);
	assert_int_equal(e.param, at);
	if (slot)
		*slot = e.slot;
	return e.cc;
}

static inline unsigned command(struct fix *f, unsigned type, uint64_t param, uint32_t control)
{
	return command_for(f, type, param, control, NULL);
}

static inline void host_start(struct fix *f)
{
	wr(f, 0x40, 2);
	turn(f);
	assert_int_equal(rd(f, 0x40) & 2, 0);
	assert_int_equal(rd(f, 0x44) & 0x801, 1);
	memset(f->ram + 0x1000, 0, 0x200000);
	memset(f->ep, 0, sizeof(f->ep));
	f->cmd = (struct ring){ COMMANDS, 0, true };
	f->ev_at = 0;
	f->ev_cycle = true;
	st_le64(f->ram + ERST, EVENTS);
	st_le32(f->ram + ERST + 8, N_EVENTS);
	wr(f, 0x78, 64);
	wr(f, 0x70, DCBAA);
	wr(f, 0x58, COMMANDS | 1);
	wr(f, 0x5c, 0);
	wr(f, 0x1028, 1);
	wr(f, 0x1038, EVENTS);
	wr(f, 0x1030, ERST);
	wr(f, 0x1034, 0);
	wr(f, 0x1020, 3);
	wr(f, 0x40, 5);
	assert_int_equal(rd(f, 0x44) & 1, 0);
	turn(f);
}

static inline struct fix *make(enum disk_on_error on)
{
	struct disk_opts o = { .on_read_error = on, .on_write_error = on, .serial = "SERIAL12" };
	struct pci_root_config cfg = { .cf8 = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct pci_bus *root;
	struct pci_dev *p;
	struct err e = { 0 };
	unsigned port = 0;

	f->m = card_machine(RAM, on_msi, f);
	f->ram = mem_ram_host(f->m->mem);
	f->m->request = on_request;
	f->m->request_opaque = f;
	assert_int_equal(input_new(&f->m->lock, &f->in), 0);
	machine_lock(f->m);
	assert_int_equal(pci_root_new(f->m, &cfg, &root, &e), 0);
	assert_int_equal(xhci_new(f->m, root, PCI_DEVFN(4, 0), &f->x, &e), 0);
	assert_int_equal(blk_open_mem(f->m->loop, DISK, &f->node), 0);
	assert_int_equal(usb_storage_new(f->m, "disk0", f->node, false, &o, &f->disk, &e), 0);
	assert_int_equal(xhci_plug(f->x, f->disk, &port, &e), 0);
	assert_int_equal(port, 1);
	assert_int_equal(usb_hid_new(f->m, f->in, USB_HID_KEYBOARD, "kbd0", &f->kbd, &e), 0);
	port = 0;
	assert_int_equal(xhci_plug(f->x, f->kbd, &port, &e), 0);
	assert_int_equal(port, 2);
	p = (struct pci_dev *)f->x;
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)BAR);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	pci_config_write(p, p->msix_cap + 2u, 2, 0x8000);
	machine_unlock(f->m);
	for (unsigned i = 0; i < 8; i++) {
		wr(f, 0x3000 + 16 * i, 0xfee00000);
		wr(f, 0x300c + 16 * i, 0);
	}
	host_start(f);
	return f;
}

static inline void drop_all(struct fix *f)
{
	machine_free(f->m);
	input_free(f->in);
	free(f);
}

/* Events of ports that were there, or are changed by what the test does. */
static inline void skip_port_events(struct fix *f)
{
	struct event e;

	turn(f);
	while (next_event(f, &e))
		assert_int_equal(e.type, 34);
	events_read(f);
}

static inline uint32_t ctx(struct fix *f, unsigned slot, unsigned n, unsigned word)
{
	return ld_le32(f->ram + DEVCTX(slot) + 32 * n + 4 * word);
}

static inline unsigned ep_state(struct fix *f, unsigned slot, unsigned dci) { return ctx(f, slot, dci, 0) & 7; }
static inline uint64_t ep_dequeue(struct fix *f, unsigned slot, unsigned dci)
{
	return ld_le64(f->ram + DEVCTX(slot) + 32 * dci + 8);
}

static inline void input_ep(struct fix *f, unsigned slot, unsigned dci, unsigned type, unsigned packet, unsigned interval)
{
	uint8_t *c = f->ram + INPUT + 32 + 32 * dci;

	f->ep[slot][dci] = (struct ring){ RING(slot, dci), 0, true };
	memset(f->ram + RING(slot, dci), 0, 16 * RING_TRBS);
	memset(c, 0, 32);
	st_le32(c, interval << 16);
	st_le32(c + 4, packet << 16 | type << 3 | 3 << 1);
	st_le64(c + 8, RING(slot, dci) | 1);
	st_le32(f->ram + INPUT + 4, ld_le32(f->ram + INPUT + 4) | BIT(dci));
}

static inline void input_slot(struct fix *f, unsigned port, unsigned entries)
{
	memset(f->ram + INPUT, 0, 33 * 32);
	st_le32(f->ram + INPUT + 4, 1);
	st_le32(f->ram + INPUT + 32, entries << 27);
	st_le32(f->ram + INPUT + 36, port << 16);
}

/* Enables a slot for the device on this port. */
static inline unsigned address(struct fix *f, unsigned port)
{
	unsigned slot;

	skip_port_events(f);
	assert_int_equal(command_for(f, T_ENABLE, 0, 0, &slot), 1);
	st_le64(f->ram + DCBAA + 8 * slot, DEVCTX(slot));
	input_slot(f, port, 1);
	input_ep(f, slot, 1, 4, 64, 0);
	assert_int_equal(command(f, T_ADDRESS, INPUT, slot << 24), 1);
	return slot;
}

static inline void ring_bell(struct fix *f, unsigned slot, unsigned dci) { wr(f, 0x2000 + 4 * slot, dci); }

static inline void setup_trb(struct fix *f, unsigned slot, uint64_t setup)
{
	f->start = next_at(&f->ep[slot][1]);
	put_trb(f, &f->ep[slot][1], setup, 8, T(T_SETUP) | IDT);
}

/* A control transfer to or from DATA; its completion code. */
static inline unsigned control(struct fix *f, unsigned slot, uint8_t type, uint8_t request, uint16_t value, uint16_t index, uint16_t len)
{
	struct ring *r = &f->ep[slot][1];
	bool in = type & 0x80;

	setup_trb(f, slot, type | request << 8 | (uint64_t)value << 16 | (uint64_t)index << 32 | (uint64_t)len << 48);
	if (len)
		put_trb(f, r, DATA, len, T(T_DATA) | (in ? 0x10000 : 0));
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC | (in ? 0 : 0x10000));
	ring_bell(f, slot, 1);
	return want(f, 32).cc;
}

static inline void normal(struct fix *f, unsigned slot, unsigned dci, uint64_t at, uint32_t len, uint32_t flags)
{
	put_trb(f, &f->ep[slot][dci], at, len, T(T_NORMAL) | flags);
}

#endif
