/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xHCI 1.1 from the driver's side, with a disk on port 1 (USB 3) and a keyboard on the second USB 2 port. */
#include "xhci_driver.h"

#include <linux/input-event-codes.h>

#define KBD_PORT (USB2_PORT + 1)

static int setup(void **state)
{
	*state = make(DISK_REPORT);
	return 0;
}

static int teardown(void **state)
{
	drop_all(*state);
	return 0;
}

/* A keyboard that is configured, with its interrupt endpoint (DCI 3). */
static unsigned keyboard(struct fix *f)
{
	unsigned slot;

	set_portsc(f, KBD_PORT, 0x210);
	turn(f);
	set_portsc(f, KBD_PORT, 0x00220200);
	slot = address(f, KBD_PORT);
	assert_int_equal(control(f, slot, 0, 9, 1, 0, 0), 1);
	input_slot(f, KBD_PORT, 3);
	input_ep(f, slot, 3, 7, 8, 6);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	return slot;
}

static void test_registers(void **state)
{
	struct fix *f = *state;
	uint32_t xecp;

	assert_int_equal(rd(f, 0), 0x01100040);
	assert_int_equal(rd(f, 4) >> 24, 2 * XHCI_SOCKETS);
	assert_int_equal(rd(f, 0x14), 0x2000);
	assert_int_equal(rd(f, 0x18), 0x1000);
	assert_int_equal(rd(f, 0x48), 1);
	xecp = (rd(f, 0x10) >> 16) * 4;
	assert_int_equal(rd(f, xecp) & 0xff0000ff, 0x03000002);
	assert_int_equal(rd(f, xecp + 4), 0x20425355);
	assert_int_equal(rd(f, xecp + 8) & 0xffff, XHCI_SOCKETS << 8 | 1);
	xecp += 4 * (rd(f, xecp) >> 8 & 0xff);
	assert_int_equal(rd(f, xecp) & 0xffffffff, 0x02000002);
	assert_int_equal(rd(f, xecp + 8) & 0xffff, XHCI_SOCKETS << 8 | (XHCI_SOCKETS + 1));
	/* DNCTRL, CONFIG and DCBAAP keep what they can. */
	wr(f, 0x54, 0xffffffff);
	assert_int_equal(rd(f, 0x54), 0xffff);
	wr(f, 0x70, 0xffffffff);
	assert_int_equal(rd(f, 0x70), 0xffffffc0);
	/* Stop: halted; a reset takes it all back. */
	wr(f, 0x40, 0);
	turn(f);
	assert_int_equal(rd(f, 0x44) & 1, 1);
	wr(f, 0x40, 2);
	assert_int_equal(rd(f, 0x44) & 0x800, 0x800);
	turn(f);
	assert_int_equal(rd(f, 0x44), 1);
	assert_int_equal(rd(f, 0x54), 0);
	/* CRS without CSS before is an error, with it none. */
	wr(f, 0x40, 0x200);
	assert_int_equal(rd(f, 0x44) & 0x400, 0x400);
	wr(f, 0x44, 0x400);
	wr(f, 0x40, 0x100);
	wr(f, 0x40, 0x200);
	assert_int_equal(rd(f, 0x44) & 0x400, 0);
}

static void test_ports(void **state)
{
	struct fix *f = *state;
	struct event e;

	/* Connected before it ran: told when it starts.  USB 3 is enabled at once, USB 2 after a reset. */
	e = want(f, 34);
	assert_int_equal(e.param >> 24, 1);
	e = want(f, 34);
	assert_int_equal(e.param >> 24, KBD_PORT);
	assert_int_equal(portsc(f, 1), 0x00020000 | 4 << 10 | 0x203);
	assert_int_equal(portsc(f, KBD_PORT), 0x00020000 | 3 << 10 | 7 << 5 | 0x201);
	assert_int_equal(portsc(f, 2), 0x200 | 5 << 5);
	set_portsc(f, KBD_PORT, 0x00020200);
	assert_int_equal(portsc(f, KBD_PORT) & 0x20000, 0);
	set_portsc(f, KBD_PORT, 0x210);
	assert_int_equal(portsc(f, KBD_PORT) & 0x10, 0x10);
	e = want(f, 34);
	assert_int_equal(e.param >> 24, KBD_PORT);
	assert_int_equal(portsc(f, KBD_PORT), 0x00200000 | 3 << 10 | 0x203);
	set_portsc(f, KBD_PORT, 0x00200200);
	nothing(f);
	/* Suspended, resumed by the driver. */
	set_portsc(f, KBD_PORT, 0x10200 | 3 << 5);
	assert_int_equal(portsc(f, KBD_PORT) >> 5 & 15, 3);
	set_portsc(f, KBD_PORT, 0x10200 | 15 << 5);
	assert_int_equal(portsc(f, KBD_PORT) >> 5 & 15, 15);
	set_portsc(f, KBD_PORT, 0x10200);
	assert_int_equal(portsc(f, KBD_PORT) & 0x4001e0, 0x400000);
	want(f, 34);
	/* Disabled by software; warm reset of a USB 3 port. */
	set_portsc(f, KBD_PORT, 0x00400202);
	assert_int_equal(portsc(f, KBD_PORT) & 0x400003, 1);
	set_portsc(f, 1, 0x80020200);
	turn(f);
	assert_int_equal(portsc(f, 1), 0x00280000 | 4 << 10 | 0x203);
	want(f, 34);
	/* Power goes and comes. */
	set_portsc(f, 1, 0x00280000);
	assert_int_equal(portsc(f, 1) & 0x3e03, 0);
	set_portsc(f, 1, 0x200);
	assert_int_equal(portsc(f, 1), 0x00020000 | 4 << 10 | 0x203);
	want(f, 34);
	/* Unplugged. */
	machine_lock(f->m);
	usb_unplug(f->kbd);
	machine_unlock(f->m);
	want(f, 34);
	assert_int_equal(portsc(f, KBD_PORT) & 0x20003, 0x20000);
}

static void test_commands(void **state)
{
	struct fix *f = *state;
	unsigned slot, other;

	skip_port_events(f);
	assert_int_equal(command(f, 23, 0, 0), 1);
	assert_int_equal(command(f, 40, 0, 0), 5);
	assert_int_equal(command(f, T_ADDRESS, INPUT, 5u << 24), 11);
	slot = address(f, 1);
	assert_int_equal(slot, 1);
	/* Slot state 2 with the address, endpoint 0 runs. */
	assert_int_equal(ctx(f, slot, 0, 3), 2u << 27 | slot);
	assert_int_equal(ep_state(f, slot, 1), 1);
	assert_int_equal(ctx(f, slot, 0, 1) >> 16 & 0xff, 1);
	/* The same port again, no device, a port that is not enabled, nonsense. */
	assert_int_equal(command_for(f, T_ENABLE, 0, 0, &other), 1);
	assert_int_equal(other, 2);
	input_slot(f, 1, 1);
	input_ep(f, 2, 1, 4, 64, 0);
	assert_int_equal(command(f, T_ADDRESS, INPUT, 2u << 24), 5);
	st_le32(f->ram + INPUT + 36, 3u << 16);
	assert_int_equal(command(f, T_ADDRESS, INPUT, 2u << 24), 4);
	st_le32(f->ram + INPUT + 36, KBD_PORT << 16);
	assert_int_equal(command(f, T_ADDRESS, INPUT, 2u << 24), 4);
	st_le32(f->ram + INPUT + 36, 77u << 16);
	assert_int_equal(command(f, T_ADDRESS, INPUT, 2u << 24), 17);
	assert_int_equal(command(f, T_ADDRESS, RAM, 2u << 24), 5);
	assert_int_equal(command(f, T_DISABLE, 0, 2u << 24), 1);
	assert_int_equal(command(f, T_DISABLE, 0, 2u << 24), 11);
	/* Endpoints: the way must be that of the number, streams there are none. */
	input_slot(f, 1, 5);
	input_ep(f, slot, 3, 2, 1024, 0);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 17);
	input_ep(f, slot, 3, 6, 1024, 0);
	st_le32(f->ram + INPUT + 32 + 96, 1u << 10);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 17);
	assert_int_equal(ep_state(f, slot, 3), 0);
	input_ep(f, slot, 3, 6, 1024, 0);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	assert_int_equal(ctx(f, slot, 0, 3) >> 27, 3);
	assert_int_equal(ctx(f, slot, 0, 0) >> 27, 3);
	assert_int_equal(ep_state(f, slot, 3), 1);
	/* Endpoint states. */
	assert_int_equal(command(f, T_RESET_EP, 0, slot << 24 | 3u << 16), 19);
	assert_int_equal(command(f, T_SET_DEQ, RING(slot, 3), slot << 24 | 3u << 16), 19);
	assert_int_equal(command(f, T_STOP_EP, 0, slot << 24 | 3u << 16), 1);
	assert_int_equal(command(f, T_STOP_EP, 0, slot << 24 | 3u << 16), 19);
	assert_int_equal(ep_state(f, slot, 3), 3);
	assert_int_equal(command(f, T_SET_DEQ, RING(slot, 3) + 32, slot << 24 | 3u << 16), 1);
	assert_int_equal(ep_dequeue(f, slot, 3), RING(slot, 3) + 32);
	/* Deconfigured, reset. */
	assert_int_equal(command(f, T_CONFIGURE, 0, slot << 24 | 0x200), 1);
	assert_int_equal(ctx(f, slot, 0, 3) >> 27, 2);
	assert_int_equal(ep_state(f, slot, 3), 0);
	assert_int_equal(command(f, T_RESET_DEV, 0, slot << 24), 1);
	assert_int_equal(ctx(f, slot, 0, 3), 1u << 27);
	assert_int_equal(command(f, T_RESET_DEV, 0, slot << 24), 19);
	/* Slots end. */
	for (unsigned i = 0; i < 63; i++)
		assert_int_equal(command(f, T_ENABLE, 0, 0), 1);
	assert_int_equal(command(f, T_ENABLE, 0, 0), 9);
	assert_int_equal(command(f, 21, DATA, 4u << 16), 1);
	assert_int_equal(f->ram[DATA], 0);
	assert_int_equal(f->ram[DATA + 1], 90);
}

static void test_command_ring(void **state)
{
	struct fix *f = *state;
	struct event e;

	skip_port_events(f);
	assert_int_equal(command(f, 23, 0, 0), 1);
	assert_int_equal(rd(f, 0x58), 8);
	/* While it runs its pointer cannot be changed; stopping it tells where it is. */
	wr(f, 0x58, 0x7000 | 1);
	wr(f, 0x5c, 0);
	assert_int_equal(command(f, 23, 0, 0), 1);
	wr(f, 0x58, 4);
	wr(f, 0x5c, 0);
	e = want(f, 33);
	assert_int_equal(e.cc, 24);
	assert_int_equal(e.param, next_at(&f->cmd));
	assert_int_equal(rd(f, 0x58), 0);
	/* Goes on where it was. Then around the ring. */
	for (unsigned i = 0; i < 3 * RING_TRBS; i++)
		assert_int_equal(command(f, 23, 0, 0), 1);
	/* A ring of links only, and one that is nowhere, are errors of the host system. */
	wr(f, 0x58, 4);
	want(f, 33);
	wr(f, 0x58, 0x7000 | 1);
	wr(f, 0x5c, 0);
	st_le64(f->ram + 0x7000, 0x7000);
	st_le32(f->ram + 0x700c, T(T_LINK) | 1);
	wr(f, 0x2000, 0);
	turn(f);
	assert_int_equal(rd(f, 0x44) & 5, 5);
	assert_int_equal(rd(f, 0x40) & 1, 0);
	wr(f, 0x40, 5);
	assert_int_equal(rd(f, 0x44) & 1, 1);
	host_start(f);
	skip_port_events(f);
	assert_int_equal(command(f, 23, 0, 0), 1);
}

static void test_control(void **state)
{
	struct fix *f = *state;
	unsigned slot = address(f, 1);
	struct ring *r = &f->ep[slot][1];
	struct event e;

	assert_int_equal(control(f, slot, 0x80, 6, 0x100, 0, 18), 1);
	assert_memory_equal(f->ram + DATA, "\x12\x01\x00\x03", 4);
	/* A short answer: told at the data stage if it asks for that, and the rest is the length. */
	setup_trb(f, slot, 0x0040000001000680);
	put_trb(f, r, DATA, 64, T(T_DATA) | 0x10000 | ISP);
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	e = want(f, 32);
	assert_int_equal(e.cc, 13);
	assert_int_equal(e.len, 64 - 18);
	assert_int_equal(e.param, f->start + 16);
	e = want(f, 32);
	assert_int_equal(e.cc, 1);
	/* In pieces, with Event Data that counts. */
	setup_trb(f, slot, 0x0012000001000680);
	put_trb(f, r, DATA, 8, T(T_DATA) | 0x10000 | CH);
	put_trb(f, r, DATA + 0x100, 10, T(T_NORMAL) | CH);
	put_trb(f, r, 0x1234567890, 0, T(T_EVDATA) | IOC);
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	e = want(f, 32);
	assert_true(e.ed);
	assert_int_equal(e.param, 0x1234567890);
	assert_int_equal(e.len, 18);
	assert_int_equal(want(f, 32).cc, 1);
	assert_int_equal(f->ram[DATA + 0x100], 0xf4);
	/* Stalled: halted at the data stage, until it is reset and moved on. */
	setup_trb(f, slot, 0x0008000009000680);
	put_trb(f, r, DATA, 8, T(T_DATA) | 0x10000);
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	e = want(f, 32);
	assert_int_equal(e.cc, 6);
	assert_int_equal(e.param, f->start + 16);
	assert_int_equal(ep_state(f, slot, 1), 2);
	ring_bell(f, slot, 1);
	nothing(f);
	assert_int_equal(command(f, T_RESET_EP, 0, slot << 24 | 1u << 16), 1);
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 1u << 16), 1);
	assert_int_equal(control(f, slot, 0x80, 6, 0x100, 0, 8), 1);
	/* Stages in the wrong order, the wrong way, beyond memory: TRB errors. */
	put_trb(f, r, DATA, 8, T(T_DATA) | 0x10000);
	ring_bell(f, slot, 1);
	e = want(f, 32);
	assert_int_equal(e.cc, 5);
	assert_int_equal(ep_state(f, slot, 1), 4);
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 1u << 16), 1);
	setup_trb(f, slot, 0x0012000001000680);
	put_trb(f, r, DATA, 18, T(T_DATA));
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	assert_int_equal(want(f, 32).cc, 5);
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 1u << 16), 1);
	setup_trb(f, slot, 0x0012000001000680);
	put_trb(f, r, RAM - 4, 18, T(T_DATA) | 0x10000);
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	assert_int_equal(want(f, 32).cc, 5);
	/* Stages that come one by one are one transfer. */
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 1u << 16), 1);
	setup_trb(f, slot, 0x0012000001000680);
	ring_bell(f, slot, 1);
	nothing(f);
	put_trb(f, r, DATA, 18, T(T_DATA) | 0x10000 | IOC);
	put_trb(f, r, 0, 0, T(T_STATUS) | IOC);
	ring_bell(f, slot, 1);
	assert_int_equal(want(f, 32).cc, 1);
	assert_int_equal(want(f, 32).cc, 1);
}

static void test_keyboard(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f), irqs;
	struct ring *r = &f->ep[slot][3];
	struct event e;
	uint64_t at = next_at(r);

	normal(f, slot, 3, DATA, 8, IOC);
	ring_bell(f, slot, 3);
	nothing(f);
	irqs = f->irqs;
	input_key(f->in, KEY_A, true);
	e = want(f, 32);
	assert_int_equal(e.cc, 1);
	assert_int_equal(e.ep, 3);
	assert_int_equal(e.param, at);
	assert_int_equal(e.len, 0);
	assert_int_equal(f->irqs, irqs + 1);
	assert_memory_equal(f->ram + DATA, "\0\0\4\0\0\0\0\0", 8);
	/* Stopped: told at the TRB, and begun anew. */
	at = next_at(r);
	normal(f, slot, 3, DATA, 8, IOC);
	ring_bell(f, slot, 3);
	nothing(f);
	put_trb(f, &f->cmd, 0, 0, T(T_STOP_EP) | slot << 24 | 3u << 16);
	wr(f, 0x2000, 0);
	e = want(f, 32);
	assert_int_equal(e.cc, 26);
	assert_int_equal(e.param, at);
	assert_int_equal(e.len, 8);
	assert_int_equal(want(f, 33).cc, 1);
	assert_int_equal(ep_dequeue(f, slot, 3), at | 1);
	assert_false(input_key(f->in, KEY_B, true));
	ring_bell(f, slot, 3);
	turn(f);
	assert_int_equal(ep_state(f, slot, 3), 1);
	input_key(f->in, KEY_B, true);
	assert_int_equal(want(f, 32).cc, 1);
	/* No room for a report: babble. */
	normal(f, slot, 3, DATA, 4, IOC);
	ring_bell(f, slot, 3);
	input_key(f->in, KEY_B, false);
	assert_int_equal(want(f, 32).cc, 3);
	assert_int_equal(ep_state(f, slot, 3), 2);
	/* Unplugged with a transfer under way. */
	assert_int_equal(command(f, T_RESET_EP, 0, slot << 24 | 3u << 16), 1);
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 3u << 16), 1);
	normal(f, slot, 3, DATA, 8, IOC);
	ring_bell(f, slot, 3);
	nothing(f);
	machine_lock(f->m);
	usb_unplug(f->kbd);
	machine_unlock(f->m);
	e = want(f, 32);
	assert_int_equal(e.cc, 4);
	want(f, 34);
	assert_int_equal(command(f, T_RESET_EP, 0, slot << 24 | 3u << 16), 1);
	ring_bell(f, slot, 3);
	assert_int_equal(want(f, 32).cc, 4);
}

/* Suspended, it is not asked; a key wakes it. */
static void test_wakeup(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f);

	assert_int_equal(control(f, slot, 0, 3, 1, 0, 0), 1);
	normal(f, slot, 3, DATA, 8, IOC);
	ring_bell(f, slot, 3);
	turn(f);
	set_portsc(f, KBD_PORT, 0x00230200 | 3 << 5);
	nothing(f);
	input_key(f->in, KEY_A, true);
	want(f, 34);
	assert_int_equal(portsc(f, KBD_PORT) & 0x4001e0, 0x400000 | 15 << 5);
	set_portsc(f, KBD_PORT, 0x00410200);
	want(f, 32);
	assert_memory_equal(f->ram + DATA, "\0\0\4\0\0\0\0\0", 8);
	want(f, 34);
}

/* Isochronous: one in each interval; without any an overrun, once; errors do not halt. */
static void test_isoch(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f);
	struct event e;

	input_slot(f, KBD_PORT, 5);
	input_ep(f, slot, 5, 5, 64, 3);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	for (unsigned i = 0; i < 3; i++)
		put_trb(f, &f->ep[slot][5], DATA, 64, T(T_ISOCH) | IOC | BIT(31));
	ring_bell(f, slot, 5);
	nothing(f);
	machine_lock(f->m);
	clock_step(f->m->clock, 2000000);
	machine_unlock(f->m);
	/* The keyboard has no such endpoint. */
	assert_int_equal(want(f, 32).cc, 4);
	assert_int_equal(want(f, 32).cc, 4);
	assert_int_equal(ep_state(f, slot, 5), 1);
	nothing(f);
	machine_lock(f->m);
	clock_step(f->m->clock, 10000000);
	machine_unlock(f->m);
	assert_int_equal(want(f, 32).cc, 4);
	e = want(f, 32);
	assert_int_equal(e.cc, 15);
	assert_int_equal(e.ep, 5);
	machine_lock(f->m);
	clock_step(f->m->clock, 10000000);
	machine_unlock(f->m);
	nothing(f);
}

static void test_noop_and_limits(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f);
	struct ring *r = &f->ep[slot][3];
	uint64_t at;

	put_trb(f, r, 0, 0, T(T_NOOP) | IOC);
	put_trb(f, r, 77, 0, T(T_EVDATA) | IOC);
	ring_bell(f, slot, 3);
	assert_int_equal(want(f, 32).cc, 1);
	assert_int_equal(want(f, 32).param, 77);
	/* More than 64 KiB in a TRB, data to the guest inside a TRB, a type that is none. */
	for (unsigned i = 0; i < 3; i++) {
		at = next_at(r);
		put_trb(f, r, DATA, i ? 8 : 65537, T(i == 2 ? T_STATUS : T_NORMAL) | (i == 1 ? IDT : 0));
		ring_bell(f, slot, 3);
		assert_int_equal(want(f, 32).param, at);
		assert_int_equal(ep_state(f, slot, 3), 4);
		assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 3u << 16), 1);
	}
	/* A transfer without an end. */
	st_le64(f->ram + 0x7010, 0x7000);
	st_le32(f->ram + 0x701c, T(T_LINK) | 1);
	st_le32(f->ram + 0x700c, T(T_NORMAL) | CH | 1);
	assert_int_equal(command(f, T_SET_DEQ, 0x7001, slot << 24 | 3u << 16), 1);
	ring_bell(f, slot, 3);
	assert_int_equal(want(f, 32).cc, 5);
	/* Doorbells of nothing. */
	ring_bell(f, slot, 9);
	ring_bell(f, 60, 1);
	ring_bell(f, slot, 0);
	nothing(f);
}

/* Long transfers that end at once: others have their turn between them. */
static void test_turns(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f), n = 0;
	uint8_t *t = f->ram + 0x300000;
	struct event e;

	for (unsigned i = 0; i < 3 * 200; i++, t += 16)
		st_le32(t + 12, T(i % 200 ? T_EVDATA : T_NOOP) | (i % 200 == 199 ? IOC : CH) | 1);
	assert_int_equal(command(f, T_STOP_EP, 0, slot << 24 | 3u << 16), 1);
	assert_int_equal(command(f, T_SET_DEQ, 0x300001, slot << 24 | 3u << 16), 1);
	ring_bell(f, slot, 3);
	loop_turn(f->m->loop, 0);
	while (next_event(f, &e))
		n++;
	assert_int_equal(n, 2);
	events_read(f);
	assert_int_equal(want(f, 32).cc, 1);
	nothing(f);
}

/* Memory in more pieces than a transfer may have, and behind it data inside a TRB. */
static void test_scattered(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f);
	struct ring *r = &f->ep[slot][4];
	struct err err = { 0 };
	struct event e;
	uint64_t at;

	machine_lock(f->m);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(mem_add_ram(f->m->mem, "piece", 0x10000000 + 0x1000 * i, DATA + 0x1000 * (20 - i), 0x1000, &err), 0);
	machine_unlock(f->m);
	input_slot(f, KBD_PORT, 4);
	input_ep(f, slot, 4, 2, 64, 0);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	at = next_at(r);
	normal(f, slot, 4, 0x10000000, 10 * 0x1000, CH);
	normal(f, slot, 4, 0x1000a000, 10 * 0x1000, CH);
	normal(f, slot, 4, 0, 8, IDT | IOC);
	ring_bell(f, slot, 4);
	e = want(f, 32);
	assert_int_equal(e.cc, 5);
	assert_int_equal(e.param, at);
	assert_int_equal(ep_state(f, slot, 4), 4);
	/* With a piece less it is the device's, which has no such endpoint. */
	assert_int_equal(command(f, T_SET_DEQ, next_at(r) | r->cycle, slot << 24 | 4u << 16), 1);
	normal(f, slot, 4, 0x10000000, 10 * 0x1000, CH);
	normal(f, slot, 4, 0x1000b000, 9 * 0x1000, CH);
	normal(f, slot, 4, 0, 8, IDT | IOC);
	ring_bell(f, slot, 4);
	assert_int_equal(want(f, 32).cc, 4);
}

/* The driver reads no events: it is told so, nothing is lost, and nothing new begins. */
static void test_full(void **state)
{
	struct fix *f = *state;
	struct event e;
	unsigned n = 0, full = 0;

	skip_port_events(f);
	for (unsigned i = 0; i < 50; i++)
		put_trb(f, &f->cmd, 0, 0, T(23));
	wr(f, 0x2000, 0);
	for (unsigned round = 0; round < 10; round++) {
		turn(f);
		while (next_event(f, &e)) {
			full += e.type == 37 && e.cc == 21;
			n += e.type == 33;
		}
		events_read(f);
	}
	assert_int_equal(n, 50);
	assert_true(full > 0);
	/* Interrupts: one, until the driver says that it has read (EHB). */
	f->irqs = 0;
	put_trb(f, &f->cmd, 0, 0, T(23));
	wr(f, 0x2000, 0);
	turn(f);
	put_trb(f, &f->cmd, 0, 0, T(23));
	wr(f, 0x2000, 0);
	turn(f);
	assert_int_equal(f->irqs, 1);
	assert_int_equal(rd(f, 0x1038) & 8, 8);
	next_event(f, &e);
	events_read(f);			/* one is left */
	assert_int_equal(f->irqs, 2);
	next_event(f, &e);
	events_read(f);
	assert_int_equal(f->irqs, 2);
	/* A table that is nowhere. */
	wr(f, 0x1030, RAM);
	wr(f, 0x1034, 0);
	put_trb(f, &f->cmd, 0, 0, T(23));
	wr(f, 0x2000, 0);
	turn(f);
	assert_int_equal(rd(f, 0x44) & 5, 5);
}

/* Saved with keys that wait, a transfer under way and events unread; loaded; it goes on. */
static void test_snap(void **state)
{
	struct fix *f = *state;
	unsigned slot = keyboard(f);
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;

	normal(f, slot, 3, DATA, 8, IOC);
	ring_bell(f, slot, 3);
	nothing(f);
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->m);
	machine_pause_devs(f->m);
	assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	machine_reset_devs(f->m);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(f->m, in, &e), 0);
	snap_in_free(in);
	machine_resume_devs(f->m);
	machine_unlock(f->m);
	turn(f);
	assert_int_equal(portsc(f, KBD_PORT) & 3, 3);
	input_key(f->in, KEY_A, true);
	assert_int_equal(want(f, 32).cc, 1);
	assert_memory_equal(f->ram + DATA, "\0\0\4\0\0\0\0\0", 8);
	assert_int_equal(command(f, 23, 0, 0), 1);
	/* Damaged anywhere, it is refused or does no harm. */
	for (size_t i = 0; i < len; i += 61) {
		uint8_t *copy = malloc(len);

		memcpy(copy, p, len);
		copy[i] ^= 0xff;
		machine_lock(f->m);
		machine_pause_devs(f->m);
		assert_int_equal(snap_in_new(&in, copy, len), 0);
		if (machine_load_devs(f->m, in, &e))
			machine_reset_devs(f->m);
		snap_in_free(in);
		machine_resume_devs(f->m);
		machine_unlock(f->m);
		for (unsigned n = 0; n < 4; n++)
			ring_bell(f, n, n ? 3 : 0);
		turn(f);
		free(copy);
	}
	snap_out_free(o);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_registers), TEST(test_ports), TEST(test_commands), TEST(test_command_ring), TEST(test_control), TEST(test_keyboard),
		TEST(test_wakeup), TEST(test_isoch), TEST(test_noop_and_limits), TEST(test_turns),
		TEST(test_scattered), TEST(test_full), TEST(test_snap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
