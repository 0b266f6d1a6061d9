/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * USB between host controllers and devices (USB 2.0, 5 and 9; USB 3.2, 9).
 *
 * A controller gives a device packets: one whole control transfer, or the data of
 * one transfer of another endpoint, in memory that stays until it is done.  The
 * device completes each exactly once, at once or whenever it has something, unless
 * the controller cancels it.  So a device without data says nothing (where a wire
 * would carry NAKs for as long), nobody polls, and a device may as well be a real
 * one of the host's, or at the other end of a socket.
 *
 * At most one packet per endpoint and direction is under way.  The machine lock
 * protects all of it.  Packets are submitted on the machine's loop only; the other
 * methods of devices, and the ends of packets, come on any thread that has the lock.
 *
 * usb.c is the part all devices share, emu.c what emulated ones have in common:
 * descriptors, standard requests (9.4), halted endpoints.
 */
#ifndef LODGE_USB_USB_H
#define LODGE_USB_USB_H

#include <sys/uio.h>

#include "machine/machine.h"

#define USB_SETUP_LEN 8

enum usb_speed { USB_FULL = 1, USB_LOW, USB_HIGH, USB_SUPER };	/* numbers as xHCI 1.1, 7.2.2.1.1 has them */
enum usb_kind { USB_CONTROL, USB_ISOCH, USB_BULK, USB_INTERRUPT };	/* as bmAttributes of an endpoint */

enum usb_status {
	USB_OK,			/* `actual` bytes, fewer than asked for: a short packet */
	USB_STALL,		/* refused; the endpoint is halted unless it is a control endpoint */
	USB_BABBLE,		/* the device had more than there was room for */
	USB_ERROR,		/* no answer: no such endpoint, or the device is gone */
	USB_PENDING,
};

/* bRequest, 9.4 */
enum {
	USB_GET_STATUS = 0, USB_CLEAR_FEATURE = 1, USB_SET_FEATURE = 3, USB_SET_ADDRESS = 5, USB_GET_DESCRIPTOR = 6,
	USB_GET_CONFIGURATION = 8, USB_SET_CONFIGURATION = 9, USB_GET_INTERFACE = 10, USB_SET_INTERFACE = 11,
	USB_SET_SEL = 48, USB_SET_ISOCH_DELAY = 49,
};
enum { USB_DT_DEVICE = 1, USB_DT_CONFIG, USB_DT_STRING, USB_DT_INTERFACE, USB_DT_ENDPOINT, USB_DT_QUALIFIER, USB_DT_BOS = 15 };

struct usb_device;

/* A controller fills what is above the line, all else zero. */
struct usb_packet {
	uint8_t ep;			/* number, without direction */
	bool in;			/* to the guest; a control transfer: as bit 7 of its setup packet */
	enum usb_kind kind;
	uint8_t setup[USB_SETUP_LEN];	/* control transfers */
	const struct iovec *iov;	/* the guest's memory, or copies of it */
	unsigned niov;
	size_t len;
	void (*done)(struct usb_packet *p);
	void *opaque;
	/* the answer */
	enum usb_status status;
	size_t actual;
	/* private */
	struct usb_device *dev;		/* while it is under way */
};

struct usb_ops {
	struct dev_ops dev;
	/* A reset of the port, or power on.  Nothing is under way. */
	void (*reset)(struct usb_device *d);
	/* Each ends in usb_complete, in the call or later. */
	void (*control)(struct usb_device *d, struct usb_packet *p);
	void (*data)(struct usb_device *d, struct usb_packet *p);
	/* Forgets a packet that is under way; its memory is not touched any more. */
	void (*cancel)(struct usb_device *d, struct usb_packet *p);
	/* The port is suspended, or goes on.  May be NULL. */
	void (*suspend)(struct usb_device *d, bool on);
};

struct usb_port;

struct usb_device {
	struct dev dev;			/* first */
	const struct usb_ops *ops;
	enum usb_speed speed;
	struct usb_port *port;		/* NULL: not plugged in */
	bool suspended;
};

/* A socket: of a root hub or another. The hub fills it. */
struct usb_port {
	struct usb_device *dev;		/* NULL: empty */
	void (*changed)(struct usb_port *p);	/* a device has come or gone */
	void (*wakeup)(struct usb_port *p);	/* the suspended device wants to be resumed (7.1.7.7) */
	void *opaque;
};

void usb_plug(struct usb_port *port, struct usb_device *d);
/* Nothing is under way, or is cancelled by the hub in changed().  No-op if it is not plugged in. */
void usb_unplug(struct usb_device *d);
void usb_reset(struct usb_device *d);
void usb_suspend(struct usb_device *d, bool on);
/* For a device that is suspended. */
void usb_wakeup(struct usb_device *d);

/* p->status is USB_PENDING, and done() comes later, or something else, and done() has been called. */
void usb_submit(struct usb_device *d, struct usb_packet *p);
/* Under way: it is forgotten, done() is not called. Else a no-op. */
void usb_cancel(struct usb_packet *p);

/* For devices: the end of a packet that was submitted. */
void usb_complete(struct usb_packet *p, enum usb_status status, size_t actual);
/* Data for the guest, which is told memory has changed: bytes from `off` on, as many as there is room for. */
size_t usb_put(struct usb_packet *p, size_t off, const void *buf, size_t len);
size_t usb_fill(struct usb_packet *p, size_t off, uint8_t byte, size_t len);
size_t usb_get(const struct usb_packet *p, size_t off, void *buf, size_t len);
/* One packet of the device's to the guest: USB_BABBLE if there is no room for all of it. */
void usb_answer(struct usb_packet *p, const void *buf, size_t len);
/* The data stage of a control transfer, cut to what was asked for. */
void usb_answer_control(struct usb_packet *p, const void *buf, size_t len);

#endif
