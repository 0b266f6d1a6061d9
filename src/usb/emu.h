/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What emulated USB devices have in common: descriptors in tables, the standard
 * requests (USB 2.0, 9.4; USB 3.2, 9.4), halted endpoints, their saved state.
 *
 * A device embeds struct usb_emu, gives usb_emu_reset, usb_emu_control as its
 * methods, and begins its data method with usb_emu_refused.  One configuration,
 * number 1; interfaces have no alternate settings.
 */
#ifndef LODGE_USB_EMU_H
#define LODGE_USB_EMU_H

#include "usb/usb.h"

#define USB_EMU_STRINGS 4		/* 1 manufacturer, 2 product, 3 serial number */
#define USB_EMU_STRING_LEN 40

struct usb_emu;

struct usb_emu_desc {
	const uint8_t *device;		/* 18 bytes */
	const uint8_t *config;		/* with everything below it */
	uint16_t config_len;
	const uint8_t *bos;		/* NULL: none, the device is not SuperSpeed */
	uint16_t bos_len;
	/* A request that is none of the standard ones; false: refused.  May be NULL. */
	bool (*request)(struct usb_emu *u, struct usb_packet *p);
	/* Configured or not, from now on; also after a reset.  May be NULL. */
	void (*configured)(struct usb_emu *u);
	/* CLEAR_FEATURE(ENDPOINT_HALT) for this address.  May be NULL. */
	void (*unhalted)(struct usb_emu *u, uint8_t address);
};

struct usb_emu {
	struct usb_device usb;		/* first */
	const struct usb_emu_desc *desc;
	char string[USB_EMU_STRINGS][USB_EMU_STRING_LEN + 1];	/* ASCII; the first is not used */
	uint8_t address, config;
	bool remote_wakeup;
	uint16_t halted_in, halted_out;	/* by endpoint number */
};

static inline struct usb_emu *usb_emu_of(struct usb_device *d) { return container_of(d, struct usb_emu, usb); }

/* Registers it with the machine, not plugged in.  product, serial: ASCII, cut to 40 characters. */
void usb_emu_init(struct usb_emu *u, struct machine *m, const struct usb_ops *ops, const struct usb_emu_desc *desc, enum usb_speed speed,
		  const char *id, const char *product, const char *serial);
void usb_emu_reset(struct usb_device *d);
void usb_emu_control(struct usb_device *d, struct usb_packet *p);
/* Not configured, no such endpoint, or halted: the packet has ended, and true is returned. */
bool usb_emu_refused(struct usb_emu *u, struct usb_packet *p);
/* Halts the packet's endpoint, or one by its address, which is then refused whatever comes. */
void usb_emu_stall(struct usb_emu *u, struct usb_packet *p);
void usb_emu_halt(struct usb_emu *u, uint8_t address);
int usb_emu_save(struct usb_emu *u, struct snap_out *o);
int usb_emu_load(struct usb_emu *u, struct snap_in *in, struct err *e);

#endif
