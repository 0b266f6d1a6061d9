/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HID devices: from the router of input to reports (HID 1.11; usages: HUT 1.12).
 *
 * Events wait in a queue of 16 and leave it one in a report, so that a key or a
 * button that goes down and up at once is seen.  A report is sent when the guest's
 * packet is there and something has changed, or the idle time is over.  Motions
 * join while they wait; keys that have no room stay in the router.
 *
 * The router passes a device over until the guest has asked for its first report,
 * so that a USB keyboard takes nothing from a guest that drives the PS/2 one only.
 */
#include "usb/hid.h"

#include <errno.h>
#include <stdlib.h>

#include "display/input.h"
#include "display/keys.h"
#include "usb/emu.h"
#include "usb/hid_desc.h"

#define QUEUE 16u			/* power of two */
#define KEYS 16u			/* held down at once, modifiers not counted */
#define DOWN 0x100u
#define MODIFIERS 0xe0			/* first of eight usages */
#define ROLLOVER 1			/* more than six keys, HUT 10 */
#define REPORT_MAX 8u

struct event {
	uint16_t key;			/* usage, DOWN */
	uint8_t buttons;
	int16_t x, y;			/* absolute, or a motion */
	int16_t wheel;
};

struct hid {
	struct usb_emu emu;		/* first */
	enum usb_hid_kind kind;
	struct input *input;
	struct input_device from;
	struct usb_packet *waiting;
	struct vtimer idle_timer;
	int64_t sent_ns;		/* the last report */
	uint8_t idle;			/* units of 4 ms, 0: for ever */
	uint8_t protocol;		/* 0 boot, 1 report */
	uint8_t leds;
	struct event queue[QUEUE];
	uint8_t head, len;
	/* as the guest knows it */
	uint8_t modifiers, keys[KEYS], n_keys;
	struct event at;		/* pointers: the position, and buttons */
};

static struct hid *hid_of(struct usb_emu *u) { return container_of(u, struct hid, emu); }
static struct hid *of_usb(struct usb_device *d) { return hid_of(usb_emu_of(d)); }

uint8_t usb_hid_leds(const struct usb_device *d)
{
	return container_of(d, struct hid, emu.usb)->leds;
}

/* ---- reports ---- */

static int clip(int v, int limit) { return v > limit ? limit : v < -limit ? -limit : v; }

static void take_key(struct hid *h, uint16_t key)
{
	uint8_t usage = (uint8_t)key;
	unsigned i = 0;

	if (usage >= MODIFIERS && usage < MODIFIERS + 8) {
		uint8_t bit = (uint8_t)BIT(usage - MODIFIERS);

		h->modifiers = key & DOWN ? h->modifiers | bit : h->modifiers & (uint8_t)~bit;
		return;
	}
	while (i < h->n_keys && h->keys[i] != usage)
		i++;
	if (key & DOWN && i == h->n_keys && i < KEYS) {
		h->keys[h->n_keys++] = usage;
	} else if (!(key & DOWN) && i < h->n_keys) {
		memmove(h->keys + i, h->keys + i + 1, h->n_keys - i - 1u);
		h->n_keys--;
	}
}

static unsigned keyboard_report(const struct hid *h, uint8_t *b)
{
	b[0] = h->modifiers;
	if (h->n_keys > 6)
		memset(b + 2, ROLLOVER, 6);
	else
		memcpy(b + 2, h->keys, h->n_keys);
	return 8;
}

static unsigned mouse_report(const struct hid *h, uint8_t *b)
{
	bool boot = !h->protocol;

	b[0] = boot ? h->at.buttons & 7 : h->at.buttons;
	b[1] = (uint8_t)h->at.x;
	b[2] = (uint8_t)h->at.y;
	b[3] = (uint8_t)h->at.wheel;
	return boot ? 3 : 4;
}

static unsigned tablet_report(const struct hid *h, uint8_t *b)
{
	b[0] = h->at.buttons;
	st_le16(b + 1, (uint16_t)h->at.x);
	st_le16(b + 3, (uint16_t)h->at.y);
	b[5] = (uint8_t)h->at.wheel;
	return 6;
}

static unsigned report(const struct hid *h, uint8_t b[REPORT_MAX])
{
	memset(b, 0, REPORT_MAX);
	switch (h->kind) {
	case USB_HID_KEYBOARD: return keyboard_report(h, b);
	case USB_HID_MOUSE: return mouse_report(h, b);
	case USB_HID_TABLET:
	default: return tablet_report(h, b);
	}
}

/* A motion longer than a report can say stays in the queue in part. */
static void next_event(struct hid *h)
{
	struct event *e = &h->queue[h->head % QUEUE], now = *e;

	if (h->kind == USB_HID_MOUSE) {
		now.x = (int16_t)clip(e->x, 127);
		now.y = (int16_t)clip(e->y, 127);
	}
	now.wheel = (int16_t)clip(e->wheel, 127);
	if (h->kind == USB_HID_KEYBOARD)
		take_key(h, e->key);
	else
		h->at = now;
	if (h->kind == USB_HID_MOUSE && (now.x != e->x || now.y != e->y)) {
		e->x = (int16_t)(e->x - now.x);
		e->y = (int16_t)(e->y - now.y);
		e->wheel = 0;
		return;
	}
	h->head = (uint8_t)((h->head + 1) % QUEUE);
	h->len--;
}

static void send(struct hid *h)
{
	struct usb_packet *p = h->waiting;
	uint8_t b[REPORT_MAX];
	unsigned n = report(h, b);

	h->waiting = NULL;
	h->sent_ns = clock_now(h->emu.usb.dev.m->clock);
	vtimer_cancel(&h->idle_timer);
	usb_answer(p, b, n);
	/* A motion is over once it was told. */
	h->at.wheel = 0;
	if (h->kind == USB_HID_MOUSE)
		h->at.x = h->at.y = 0;
}

static void kick(struct hid *h)
{
	if (!h->waiting || h->emu.usb.suspended)
		return;
	if (h->len) {
		next_event(h);
		send(h);
		if (h->input && h->kind == USB_HID_KEYBOARD)
			input_ready(h->input);
	} else if (h->idle && !vtimer_armed(&h->idle_timer)) {
		vtimer_arm(&h->idle_timer, MAX(h->sent_ns + h->idle * 4000000ll, clock_now(h->emu.usb.dev.m->clock) + 1000000));
	}
}

static void on_idle(void *opaque)
{
	struct hid *h = opaque;

	if (h->waiting && h->idle && !h->emu.usb.suspended)
		send(h);
}

/* ---- events ---- */

static void put(struct hid *h, const struct event *e)
{
	h->queue[(h->head + h->len++) % QUEUE] = *e;
	if (h->emu.usb.suspended && h->emu.remote_wakeup)
		usb_wakeup(&h->emu.usb);
	kick(h);
}

static bool on_key(void *opaque, unsigned code, bool down)
{
	const struct key_info *key = key_by_evdev(code);
	struct hid *h = opaque;
	struct event e = { 0 };

	if (!key || !key->hid)
		return true;
	if (h->len == QUEUE)
		return false;
	e.key = (uint16_t)(key->hid | (down ? DOWN : 0));
	put(h, &e);
	return true;
}

/* Joins what waits if the buttons are the same, or there is no room. */
static bool join(struct hid *h, const struct event *e)
{
	struct event *last = h->len ? &h->queue[(h->head + h->len - 1u) % QUEUE] : NULL;
	bool full = h->len == QUEUE;

	if (!last || (last->buttons != e->buttons && !full))
		return false;
	last->buttons = e->buttons;
	last->wheel = (int16_t)clip(last->wheel + e->wheel, 1000);
	last->x = h->kind == USB_HID_MOUSE ? (int16_t)clip(last->x + e->x, 4000) : e->x;
	last->y = h->kind == USB_HID_MOUSE ? (int16_t)clip(last->y + e->y, 4000) : e->y;
	return true;
}

static void on_rel(void *opaque, int dx, int dy, int wheel, unsigned buttons)
{
	struct event e = { .x = (int16_t)clip(dx, 4000), .y = (int16_t)clip(dy, 4000), .wheel = (int16_t)clip(wheel, 127), .buttons = buttons & 31 };

	if (!join(opaque, &e))
		put(opaque, &e);
}

static void on_abs(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	struct event e = { .x = (int16_t)MIN(x, INPUT_ABS_MAX), .y = (int16_t)MIN(y, INPUT_ABS_MAX), .wheel = (int16_t)clip(wheel, 127),
			   .buttons = buttons & 31 };

	if (!join(opaque, &e))
		put(opaque, &e);
}

/* ---- the guest ---- */

static void forget_input(struct hid *h)
{
	h->from.asleep = true;
	h->head = h->len = 0;
	h->modifiers = h->n_keys = 0;
	h->at = (struct event){ 0 };
	vtimer_cancel(&h->idle_timer);
	/* What the router had for it goes to another. */
	if (h->input && h->kind == USB_HID_KEYBOARD)
		input_ready(h->input);
}

static void hid_data(struct usb_device *d, struct usb_packet *p)
{
	struct hid *h = of_usb(d);

	if (usb_emu_refused(&h->emu, p))
		return;
	h->waiting = p;
	if (h->from.asleep) {
		h->from.asleep = false;
		if (h->input && h->kind == USB_HID_KEYBOARD)
			input_ready(h->input);
	}
	kick(h);
}

static void hid_cancel(struct usb_device *d, struct usb_packet *p)
{
	struct hid *h = of_usb(d);

	if (h->waiting != p)
		return;
	h->waiting = NULL;
	forget_input(h);
}

static void hid_suspend(struct usb_device *d, bool on)
{
	struct hid *h = of_usb(d);

	/* Drivers take their transfer back before; what comes now is to wake them. */
	if (on && h->emu.remote_wakeup)
		h->from.asleep = false;
	if (!on)
		kick(h);
}

/* 7.2: requests of the class, and descriptors of the interface. */
static bool class_request(struct usb_emu *u, struct usb_packet *p)
{
	struct hid *h = hid_of(u);
	uint8_t b[REPORT_MAX] = { 0 }, type = p->setup[3];
	const struct hid_desc *desc = &hid_desc[h->kind];

	switch (p->setup[0] << 8 | p->setup[1]) {
	case 0x8106:
		if (type == 0x22)
			usb_answer_control(p, desc->report, desc->report_len);
		else if (type == 0x21)
			usb_answer_control(p, desc->config + HID_DESC_AT, 9);
		else
			return false;
		return true;
	case 0xa101:
		if (type == 2 && h->kind == USB_HID_KEYBOARD)
			usb_answer_control(p, &h->leds, 1);
		else if (type == 1)
			usb_answer_control(p, b, report(h, b));
		else
			return false;
		return true;
	case 0xa102: usb_answer_control(p, &h->idle, 1); return true;
	case 0xa103: usb_answer_control(p, &h->protocol, 1); return true;
	case 0x2109:
		if (type != 2 || h->kind != USB_HID_KEYBOARD || usb_get(p, 0, b, 1) != 1)
			return false;
		h->leds = b[0] & 31;
		break;
	case 0x210a:
		h->idle = type;
		vtimer_cancel(&h->idle_timer);
		kick(h);
		break;
	case 0x210b:
		if (p->setup[2] > 1 || h->kind == USB_HID_TABLET)
			return false;
		h->protocol = p->setup[2];
		break;
	default: return false;
	}
	usb_complete(p, USB_OK, p->len);
	return true;
}

static void configured(struct usb_emu *u)
{
	struct hid *h = hid_of(u);

	h->protocol = 1;
	h->idle = h->leds = 0;
	forget_input(h);
}

/* ---- life cycle ---- */

static const struct snap_field event_fields[] = {
	SNAP_FIELD(struct event, key), SNAP_FIELD(struct event, buttons), SNAP_FIELD(struct event, x), SNAP_FIELD(struct event, y),
	SNAP_FIELD(struct event, wheel), SNAP_END,
};
static const struct snap_table event_table = { "usb-hid-event", 1, event_fields };

static const struct snap_field fields[] = {
	SNAP_FIELD(struct hid, sent_ns), SNAP_FIELD(struct hid, idle), SNAP_FIELD(struct hid, protocol), SNAP_FIELD(struct hid, leds),
	SNAP_FIELD(struct hid, len), SNAP_FIELD(struct hid, modifiers), SNAP_ARRAY(struct hid, keys), SNAP_FIELD(struct hid, n_keys),
	{ "asleep", offsetof(struct hid, from.asleep), 1, 1, 0, 1 }, SNAP_END,
};
static const struct snap_table table = { "usb-hid", 1, fields };

static int hid_save(struct dev *d, struct snap_out *o)
{
	struct hid *h = of_usb(container_of(d, struct usb_device, dev));
	int ret = usb_emu_save(&h->emu, o);

	if (!ret)
		ret = snap_put(o, d->id, &table, h);
	if (!ret)
		ret = snap_put(o, d->id, &event_table, &h->at);
	for (unsigned i = 0; i < h->len && !ret; i++)
		ret = snap_put(o, d->id, &event_table, &h->queue[(h->head + i) % QUEUE]);
	return ret;
}

static int hid_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct hid *h = of_usb(container_of(d, struct usb_device, dev));
	int ret = usb_emu_load(&h->emu, in, e);

	h->head = 0;
	if (!ret)
		ret = snap_get(in, d->id, &table, h, e);
	if (!ret)
		ret = snap_get(in, d->id, &event_table, &h->at, e);
	if (!ret && (h->len > QUEUE || h->n_keys > KEYS))
		ret = err_set(e, -EINVAL, "saved state of %s has %u events and %u keys held down, %u and %u can be", d->id, h->len, h->n_keys,
			      QUEUE, KEYS);
	for (unsigned i = 0; !ret && i < h->len; i++)
		ret = snap_get(in, d->id, &event_table, &h->queue[i], e);
	h->protocol &= 1;
	h->sent_ns = MAX(0, MIN(h->sent_ns, INT64_MAX / 2));
	if (ret)
		h->len = h->n_keys = 0;
	return ret;
}

static void hid_reset(struct dev *d)
{
	usb_emu_reset(container_of(d, struct usb_device, dev));
}

static void hid_free(struct dev *d)
{
	struct hid *h = of_usb(container_of(d, struct usb_device, dev));

	usb_unplug(&h->emu.usb);
	vtimer_cancel(&h->idle_timer);
	if (h->input)
		input_del(h->input, &h->from);
	dev_del(d);
	free(h);
}

static const struct usb_ops ops = {
	.dev = { .name = "usb-hid", .reset = hid_reset, .save = hid_save, .load = hid_load, .free = hid_free },
	.reset = usb_emu_reset,
	.control = usb_emu_control,
	.data = hid_data,
	.cancel = hid_cancel,
	.suspend = hid_suspend,
};

#define DESC(kind, name) \
	[kind] = { .device = name##_device, .config = name##_config, .config_len = sizeof(name##_config), .request = class_request, .configured = configured }

int usb_hid_new(struct machine *m, struct input *in, enum usb_hid_kind kind, const char *id, struct usb_device **out, struct err *e)
{
	static const struct usb_emu_desc descs[] = {
		DESC(USB_HID_KEYBOARD, keyboard), DESC(USB_HID_MOUSE, mouse), DESC(USB_HID_TABLET, tablet),
	};
	static const char *const names[] = { "USB Keyboard", "USB Mouse", "USB Tablet" };
	struct hid *h = calloc(1, sizeof(*h));

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	h->kind = kind;
	h->from = (struct input_device){ .opaque = h, .asleep = true };
	if (kind == USB_HID_KEYBOARD)
		h->from.key = on_key;
	else if (kind == USB_HID_MOUSE)
		h->from.rel = on_rel;
	else
		h->from.abs = on_abs;
	vtimer_init(m->clock, &h->idle_timer, on_idle, h);
	usb_emu_init(&h->emu, m, &ops, &descs[kind], USB_HIGH, id, names[kind], id);
	usb_emu_reset(&h->emu.usb);
	if (in) {
		input_add(in, &h->from);
		h->input = in;
	}
	*out = &h->emu.usb;
	return 0;
}
