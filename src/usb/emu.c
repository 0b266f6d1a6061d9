/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard requests of emulated devices.
 *
 * The setup packet is the guest's; each request is matched by type and number at
 * once (bmRequestType in the high byte), so that one with an odd recipient or
 * direction is refused by a stall, as 9.4 wants.
 */
#include "usb/emu.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#define RQ(type, request) ((uint16_t)((type) << 8 | (request)))
#define REMOTE_WAKEUP 1			/* feature selectors, 9.4 */
#define ENDPOINT_HALT 0
#define FUNCTION_SUSPEND 0
#define U1_ENABLE 48
#define LTM_ENABLE 50
#define LANG_US 0x0409

/* ---- descriptors ---- */

/* The n-th descriptor of a type in the configuration (interfaces, endpoints) for which `address`, its third byte, fits. */
static bool has(const struct usb_emu *u, uint8_t type, uint8_t address)
{
	const uint8_t *c = u->desc->config;

	for (unsigned at = 0; at + 2 < u->desc->config_len && c[at]; at += c[at])
		if (c[at + 1] == type && c[at + 2] == address)
			return true;
	return false;
}

static void string(struct usb_emu *u, struct usb_packet *p, unsigned n)
{
	uint8_t b[2 + 2 * USB_EMU_STRING_LEN] = { 0, USB_DT_STRING };
	unsigned len = 2;

	if (!n) {
		st_le16(b + 2, LANG_US);
		len = 4;
	}
	for (const char *s = n < USB_EMU_STRINGS ? u->string[n] : ""; *s; s++, len += 2)
		st_le16(b + len, (uint8_t)*s);
	if (len == 2) {
		usb_complete(p, USB_STALL, 0);
		return;
	}
	b[0] = (uint8_t)len;
	usb_answer_control(p, b, len);
}

/* 9.6.2: the other speed, which has no configuration. */
static void qualifier(struct usb_emu *u, struct usb_packet *p)
{
	uint8_t b[10] = { 10, USB_DT_QUALIFIER };

	memcpy(b + 2, u->desc->device + 2, 6);
	usb_answer_control(p, b, sizeof(b));
}

static void descriptor(struct usb_emu *u, struct usb_packet *p)
{
	const struct usb_emu_desc *d = u->desc;
	uint8_t type = p->setup[3], n = p->setup[2];

	if (type == USB_DT_DEVICE && !n)
		usb_answer_control(p, d->device, 18);
	else if (type == USB_DT_CONFIG && !n)
		usb_answer_control(p, d->config, d->config_len);
	else if (type == USB_DT_STRING)
		string(u, p, n);
	else if (type == USB_DT_QUALIFIER && !n && u->usb.speed == USB_HIGH)
		qualifier(u, p);
	else if (type == USB_DT_BOS && !n && d->bos)
		usb_answer_control(p, d->bos, d->bos_len);
	else
		usb_complete(p, USB_STALL, 0);
}

/* ---- endpoints ---- */

static uint16_t *halted(struct usb_emu *u, uint8_t address) { return address & 0x80 ? &u->halted_in : &u->halted_out; }
static uint16_t bit(uint8_t address) { return (uint16_t)BIT(address & 15); }
static uint8_t address_of(const struct usb_packet *p) { return (uint8_t)(p->ep | (p->in ? 0x80 : 0)); }

void usb_emu_halt(struct usb_emu *u, uint8_t address)
{
	*halted(u, address) |= bit(address);
}

void usb_emu_stall(struct usb_emu *u, struct usb_packet *p)
{
	usb_emu_halt(u, address_of(p));
	usb_complete(p, USB_STALL, 0);
}

bool usb_emu_refused(struct usb_emu *u, struct usb_packet *p)
{
	uint8_t a = address_of(p);

	if (!u->config || !p->ep || p->ep > 15 || !has(u, USB_DT_ENDPOINT, a))
		usb_complete(p, USB_ERROR, 0);
	else if (*halted(u, a) & bit(a))
		usb_complete(p, USB_STALL, 0);
	else
		return false;
	return true;
}

/* ---- requests ---- */

static void status(struct usb_emu *u, struct usb_packet *p, uint16_t v)
{
	uint8_t b[2];

	st_le16(b, v);
	usb_answer_control(p, b, sizeof(b));
}

static bool device_feature(struct usb_emu *u, uint16_t feature, bool on)
{
	if (feature == REMOTE_WAKEUP && u->desc->config[7] & 0x20) {
		u->remote_wakeup = on;
		return true;
	}
	/* Link power states come and go unseen here. */
	return u->usb.speed == USB_SUPER && feature >= U1_ENABLE && feature <= LTM_ENABLE;
}

static bool endpoint_feature(struct usb_emu *u, uint16_t feature, uint8_t address, bool on)
{
	if (feature != ENDPOINT_HALT || (address & 0x0f && !has(u, USB_DT_ENDPOINT, address)))
		return false;
	if (!(address & 0x0f))
		return true;
	if (on) {
		usb_emu_halt(u, address);
		return true;
	}
	*halted(u, address) &= (uint16_t)~bit(address);
	if (u->desc->unhalted)
		u->desc->unhalted(u, address);
	return true;
}

static bool set_config(struct usb_emu *u, uint16_t n)
{
	if (n > 1)
		return false;
	u->config = (uint8_t)n;
	u->halted_in = u->halted_out = 0;
	if (u->desc->configured)
		u->desc->configured(u);
	return true;
}

/* Those without a data stage to the guest. True: done, false: refused. */
static bool plain(struct usb_emu *u, uint16_t rq, uint16_t value, uint16_t index)
{
	uint8_t low = (uint8_t)index;

	switch (rq) {
	case RQ(0x00, USB_SET_ADDRESS): u->address = value & 0x7f; return true;
	case RQ(0x00, USB_SET_CONFIGURATION): return set_config(u, value & 0xff);
	case RQ(0x00, USB_CLEAR_FEATURE): return device_feature(u, value, false);
	case RQ(0x00, USB_SET_FEATURE): return device_feature(u, value, true);
	case RQ(0x01, USB_CLEAR_FEATURE):
	case RQ(0x01, USB_SET_FEATURE): return u->usb.speed == USB_SUPER && value == FUNCTION_SUSPEND && u->config;
	case RQ(0x02, USB_CLEAR_FEATURE): return endpoint_feature(u, value, low, false);
	case RQ(0x02, USB_SET_FEATURE): return endpoint_feature(u, value, low, true);
	case RQ(0x01, USB_SET_INTERFACE): return u->config && !value && has(u, USB_DT_INTERFACE, low);
	case RQ(0x00, USB_SET_SEL):
	case RQ(0x00, USB_SET_ISOCH_DELAY): return u->usb.speed == USB_SUPER;
	default: return false;
	}
}

void usb_emu_control(struct usb_device *d, struct usb_packet *p)
{
	struct usb_emu *u = usb_emu_of(d);
	uint16_t rq = RQ(p->setup[0], p->setup[1]), index = ld_le16(p->setup + 4);
	uint8_t low = (uint8_t)index;

	switch (rq) {
	case RQ(0x80, USB_GET_DESCRIPTOR): descriptor(u, p); return;
	case RQ(0x80, USB_GET_CONFIGURATION): usb_answer_control(p, &u->config, 1); return;
	case RQ(0x80, USB_GET_STATUS): status(u, p, (uint16_t)((u->desc->config[7] >> 6 & 1) | u->remote_wakeup << 1)); return;
	case RQ(0x81, USB_GET_STATUS): status(u, p, 0); return;
	case RQ(0x82, USB_GET_STATUS):
		if (low & 0x0f && !has(u, USB_DT_ENDPOINT, low))
			break;
		status(u, p, (*halted(u, low) & bit(low)) != 0);
		return;
	case RQ(0x81, USB_GET_INTERFACE):
		if (!u->config || !has(u, USB_DT_INTERFACE, low))
			break;
		usb_answer_control(p, &(uint8_t){ 0 }, 1);
		return;
	default:
		if (plain(u, rq, ld_le16(p->setup + 2), index)) {
			usb_complete(p, USB_OK, p->in ? 0 : p->len);
			return;
		}
		if (u->desc->request && u->desc->request(u, p))
			return;
	}
	usb_complete(p, USB_STALL, 0);
}

/* ---- life cycle ---- */

void usb_emu_reset(struct usb_device *d)
{
	struct usb_emu *u = usb_emu_of(d);

	u->address = 0;
	u->remote_wakeup = false;
	set_config(u, 0);
}

void usb_emu_init(struct usb_emu *u, struct machine *m, const struct usb_ops *ops, const struct usb_emu_desc *desc, enum usb_speed speed,
		  const char *id, const char *product, const char *serial)
{
	u->usb.ops = ops;
	u->usb.speed = speed;
	u->desc = desc;
	snprintf(u->string[1], sizeof(u->string[1]), "Lodge");
	snprintf(u->string[2], sizeof(u->string[2]), "%s", product);
	snprintf(u->string[3], sizeof(u->string[3]), "%s", serial);
	for (unsigned i = 1; i < USB_EMU_STRINGS; i++)
		for (char *s = u->string[i]; *s; s++)
			if (!isprint((unsigned char)*s))
				*s = '?';
	dev_add(m, &u->usb.dev, &ops->dev, id);
}

static const struct snap_field fields[] = {
	SNAP_FIELD(struct usb_emu, address), SNAP_FIELD(struct usb_emu, config), SNAP_FIELD(struct usb_emu, remote_wakeup),
	SNAP_FIELD(struct usb_emu, halted_in), SNAP_FIELD(struct usb_emu, halted_out),
	{ "suspended", offsetof(struct usb_emu, usb.suspended), 1, 1, 0, 1 }, SNAP_END,
};
static const struct snap_table table = { "usb-device", 1, fields };

int usb_emu_save(struct usb_emu *u, struct snap_out *o)
{
	return snap_put(o, u->usb.dev.id, &table, u);
}

int usb_emu_load(struct usb_emu *u, struct snap_in *in, struct err *e)
{
	int ret = snap_get(in, u->usb.dev.id, &table, u, e);

	u->address &= 0x7f;
	u->config &= 1;
	return ret;
}
