/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A keyboard, a mouse and a tablet (HID 1.11): one interface with one interrupt
 * endpoint, boot and report protocol, idle rate, LEDs.
 */
#ifndef LODGE_USB_HID_H
#define LODGE_USB_HID_H

#include "usb/usb.h"

struct input;

enum usb_hid_kind { USB_HID_KEYBOARD, USB_HID_MOUSE, USB_HID_TABLET };

/* Not plugged in yet; the machine owns it.  in: who types and points; NULL: nobody.  Machine lock held. ENOMEM */
int usb_hid_new(struct machine *m, struct input *in, enum usb_hid_kind kind, const char *id, struct usb_device **out, struct err *e);
/* Bits of HID 1.11, B.1: Num Lock 1, Caps Lock 2, Scroll Lock 4. */
uint8_t usb_hid_leds(const struct usb_device *d);

#endif
