// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio-input (virtio 1.2, 5.8): events of Linux's evdev, eight bytes each.
 *
 * Events wait in a small queue of the device's until the driver offers buffers.  Keys
 * go there only whole, with the report's end, else the router keeps them.  Of a pointer
 * the sum of the motions is kept and what its buttons should be, so that nothing gets
 * lost in a guest that does not listen for a while.
 */
#include "virtio/input.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"
#include "display/keys.h"

#define QUEUE_SIZE 64
#define Q_EVENT 0
#define Q_STATUS 1
#define BATCH 64

/* struct virtio_input_config: select, subsel, size, 5 reserved, 128 bytes */
#define CONFIG_DATA 8
#define CONFIG_LEN 136
enum { CFG_NAME = 0x01, CFG_SERIAL = 0x02, CFG_DEVIDS = 0x03, CFG_PROP_BITS = 0x10, CFG_EV_BITS = 0x11, CFG_ABS_INFO = 0x12 };

#define EVENT_LEN 8
#define FIFO 64u			/* power of two */
#define FIFO_ROOM 12u			/* what one report of a pointer takes at most */
#define MOTION_MAX 32767
#define VENDOR 0x0627
#define BUS_VIRTUAL_ 0x06

struct event {
	uint16_t type, code;
	uint32_t value;
};

static const uint16_t button_code[] = { BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA };	/* as INPUT_LEFT ... */
#define BUTTONS ((1u << ARRAY_LEN(button_code)) - 1)

struct vinput {
	struct virtio_dev dev;		/* first */
	enum virtio_input_kind kind;
	struct input *in;
	struct input_device from;
	struct vq_chain chain;		/* scratch */
	uint8_t select, subsel;
	/* The queue: codes of the oldest first from head. */
	struct event fifo[FIFO];
	uint32_t head, n;
	/* A pointer: what it should be, and was last reported to be. */
	int32_t dx, dy, wheel;
	uint32_t x, y, old_x, old_y;
	uint32_t buttons, old_buttons;
};

static struct vinput *of(struct virtio_dev *d)
{
	return container_of(d, struct vinput, dev);
}

/* ---- events to the guest ---- */

static void add(struct vinput *v, uint16_t type, uint16_t code, int32_t value)
{
	v->fifo[(v->head + v->n++) % FIFO] = (struct event){ type, code, (uint32_t)value };
}

static bool room(const struct vinput *v, unsigned n) { return v->n + n <= FIFO; }

/* What has changed since the last report. */
static void report(struct vinput *v)
{
	unsigned before = v->n;

	if (!room(v, FIFO_ROOM))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(button_code); i++)
		if ((v->buttons ^ v->old_buttons) >> i & 1)
			add(v, EV_KEY, button_code[i], v->buttons >> i & 1);
	v->old_buttons = v->buttons;
	if (v->dx)
		add(v, EV_REL, REL_X, v->dx);
	if (v->dy)
		add(v, EV_REL, REL_Y, v->dy);
	if (v->wheel)
		add(v, EV_REL, REL_WHEEL, v->wheel);
	v->dx = v->dy = v->wheel = 0;
	if (v->x != v->old_x)
		add(v, EV_ABS, ABS_X, (int32_t)v->x);
	if (v->y != v->old_y)
		add(v, EV_ABS, ABS_Y, (int32_t)v->y);
	v->old_x = v->x;
	v->old_y = v->y;
	if (v->n != before)
		add(v, EV_SYN, SYN_REPORT, 0);
}

static uint64_t put_event(const struct vinput *v, const struct vq_chain *c)
{
	const struct event *ev = &v->fifo[v->head % FIFO];
	uint8_t b[EVENT_LEN];

	st_le16(b, ev->type);
	st_le16(b + 2, ev->code);
	st_le32(b + 4, ev->value);
	return iov_from_buf(c->iov + c->n_read, c->n_write, 0, b, sizeof(b));
}

static void flush(struct vinput *v)
{
	struct vq *vq = &v->dev.vq[Q_EVENT];
	int ret = 0;

	if (!v->dev.started || v->dev.paused || !vq->ready)
		return;
	while (v->n) {
		ret = vq_get(vq, &v->chain);
		if (!ret && vq_kick_enable(vq, true))
			ret = vq_get(vq, &v->chain);
		if (ret <= 0)
			break;
		vq_put(vq, &v->chain, put_event(v, &v->chain));
		v->head++;
		v->n--;
	}
	if (!v->n)
		vq_kick_enable(vq, false);
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(&v->dev, "event queue");
}

/* From the router; machine lock held. */
static bool on_key(void *opaque, unsigned code, bool down)
{
	struct vinput *v = opaque;

	if (!room(v, 2))
		return false;
	add(v, EV_KEY, (uint16_t)code, down);
	add(v, EV_SYN, SYN_REPORT, 0);
	flush(v);
	return true;
}

static int32_t sum(int32_t a, int b)
{
	return MAX(-MOTION_MAX, MIN(MOTION_MAX, a + MAX(-MOTION_MAX, MIN(MOTION_MAX, b))));
}

static void on_rel(void *opaque, int dx, int dy, int wheel, unsigned buttons)
{
	struct vinput *v = opaque;

	v->dx = sum(v->dx, dx);
	v->dy = sum(v->dy, dy);
	v->wheel = sum(v->wheel, wheel);
	v->buttons = buttons & BUTTONS;
	report(v);
	flush(v);
}

static void on_abs(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	struct vinput *v = opaque;

	v->x = MIN(x, INPUT_ABS_MAX);
	v->y = MIN(y, INPUT_ABS_MAX);
	v->wheel = sum(v->wheel, wheel);
	v->buttons = buttons & BUTTONS;
	report(v);
	flush(v);
}

/* ---- the driver's side ---- */

/* Lamps: there are none to light. */
static void take_status(struct vinput *v)
{
	struct vq *vq = &v->dev.vq[Q_STATUS];
	unsigned batch = BATCH;
	int ret = 0;

	vq_kick_enable(vq, false);
	while (batch-- && (ret = vq_get(vq, &v->chain)) > 0)
		vq_put(vq, &v->chain, 0);
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(&v->dev, "status queue");
	else if (vq_kick_enable(vq, true))
		virtio_dev_ring(&v->dev, Q_STATUS);
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct vinput *v = of(d);

	if (q == Q_STATUS) {
		take_status(v);
		return;
	}
	flush(v);
	report(v);
	flush(v);
	if (v->kind == VIRTIO_INPUT_KEYBOARD)
		input_ready(v->in);
}

static void set_bit(uint8_t *bits, unsigned n) { bits[n / 8] |= (uint8_t)BIT(n % 8); }

static void key_bits(const struct vinput *v, uint8_t *out)
{
	if (v->kind == VIRTIO_INPUT_KEYBOARD) {
		for (unsigned k = 1; k < INPUT_MAX_KEY; k++)
			if (key_by_evdev(k))
				set_bit(out, k);
	} else {
		for (unsigned i = 0; i < ARRAY_LEN(button_code); i++)
			set_bit(out, button_code[i]);
	}
}

/* 5.8.4: a type that is not there has no bits. */
static void ev_bits(const struct vinput *v, unsigned type, uint8_t *out)
{
	switch (type) {
	case EV_KEY:
		key_bits(v, out);
		break;
	case EV_REL:
		if (v->kind == VIRTIO_INPUT_MOUSE) {
			set_bit(out, REL_X);
			set_bit(out, REL_Y);
		}
		if (v->kind != VIRTIO_INPUT_KEYBOARD)
			set_bit(out, REL_WHEEL);
		break;
	case EV_ABS:
		if (v->kind == VIRTIO_INPUT_TABLET) {
			set_bit(out, ABS_X);
			set_bit(out, ABS_Y);
		}
		break;
	case EV_LED:
		if (v->kind == VIRTIO_INPUT_KEYBOARD) {
			set_bit(out, LED_NUML);
			set_bit(out, LED_CAPSL);
			set_bit(out, LED_SCROLLL);
		}
		break;
	case EV_REP:
		/* Keys repeat in the guest. */
		if (v->kind == VIRTIO_INPUT_KEYBOARD)
			out[0] = BIT(REP_DELAY) | BIT(REP_PERIOD);
		break;
	}
}

/* The answer to select and subsel; its length. */
static uint8_t answer(const struct vinput *v, uint8_t *out)
{
	static const char *const names[] = { "Lodge Virtio Keyboard", "Lodge Virtio Mouse", "Lodge Virtio Tablet" };
	uint8_t n = 128;

	switch (v->select) {
	case CFG_NAME:
		n = (uint8_t)strlen(names[v->kind]);
		memcpy(out, names[v->kind], n);
		return v->subsel ? 0 : n;
	case CFG_DEVIDS:
		st_le16(out, BUS_VIRTUAL_);
		st_le16(out + 2, VENDOR);
		st_le16(out + 4, (uint16_t)(v->kind + 1));
		st_le16(out + 6, 1);
		return v->subsel ? 0 : 8;
	case CFG_EV_BITS:
		ev_bits(v, v->subsel, out);
		break;
	case CFG_ABS_INFO:
		if (v->kind != VIRTIO_INPUT_TABLET || (v->subsel != ABS_X && v->subsel != ABS_Y))
			return 0;
		st_le32(out + 4, INPUT_ABS_MAX);
		return 20;
	default:
		return 0;
	}
	while (n && !out[n - 1])
		n--;
	return n;
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	struct vinput *v = of(d);
	uint8_t c[CONFIG_LEN] = { v->select, v->subsel };

	c[2] = answer(v, c + CONFIG_DATA);
	if (!c[2])
		memset(c + CONFIG_DATA, 0, CONFIG_LEN - CONFIG_DATA);
	memcpy(buf, c + off, len);
}

static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	const uint8_t *b = buf;

	for (unsigned i = 0; i < len; i++) {
		if (off + i == 0)
			of(d)->select = b[i];
		else if (off + i == 1)
			of(d)->subsel = b[i];
	}
}

/* ---- life ---- */

static void start(struct virtio_dev *d)
{
	of(d)->from.asleep = false;
}

static void reset(struct virtio_dev *d)
{
	struct vinput *v = of(d);

	v->from.asleep = true;
	v->select = v->subsel = 0;
	v->head = v->n = 0;
	v->dx = v->dy = v->wheel = 0;
	v->x = v->y = v->old_x = v->old_y = 0;
	v->buttons = v->old_buttons = 0;
}

static const struct snap_field fields[] = {
	SNAP_FIELD(struct vinput, select),
	SNAP_FIELD(struct vinput, subsel),
	SNAP_FIELD(struct vinput, head),
	SNAP_FIELD(struct vinput, n),
	SNAP_FIELD(struct vinput, dx),
	SNAP_FIELD(struct vinput, dy),
	SNAP_FIELD(struct vinput, wheel),
	SNAP_FIELD(struct vinput, x),
	SNAP_FIELD(struct vinput, y),
	SNAP_FIELD(struct vinput, old_x),
	SNAP_FIELD(struct vinput, old_y),
	SNAP_FIELD(struct vinput, buttons),
	SNAP_FIELD(struct vinput, old_buttons),
	SNAP_END,
};
static const struct snap_table table = { "virtio-input", 1, fields };

static int save(struct virtio_dev *d, struct snap_out *o)
{
	struct vinput *v = of(d);
	uint8_t events[FIFO * EVENT_LEN];

	for (unsigned i = 0; i < FIFO; i++) {
		st_le16(events + i * EVENT_LEN, v->fifo[i].type);
		st_le16(events + i * EVENT_LEN + 2, v->fifo[i].code);
		st_le32(events + i * EVENT_LEN + 4, v->fifo[i].value);
	}
	int ret = snap_put(o, d->id, &table, v);

	return ret ? ret : snap_put_blob(o, "events", events, sizeof(events));
}

static bool motion_sane(int32_t v) { return v >= -MOTION_MAX && v <= MOTION_MAX; }

static bool sane(const struct vinput *v)
{
	return v->n <= FIFO && motion_sane(v->dx) && motion_sane(v->dy) && motion_sane(v->wheel) &&
	       v->x <= INPUT_ABS_MAX && v->y <= INPUT_ABS_MAX && v->old_x <= INPUT_ABS_MAX && v->old_y <= INPUT_ABS_MAX &&
	       !((v->buttons | v->old_buttons) & ~BUTTONS);
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct vinput *v = of(d);
	uint8_t events[FIFO * EVENT_LEN];
	uint32_t len;
	int ret = snap_get(in, d->id, &table, v, e);

	if (!ret)
		ret = snap_get_blob(in, "events", events, sizeof(events), &len, e);
	if (!ret && (len != sizeof(events) || !sane(v)))
		ret = err_set(e, -EINVAL, "saved state of %s makes no sense", d->id);
	if (ret) {
		reset(d);
		return ret;
	}
	for (unsigned i = 0; i < FIFO; i++)
		v->fifo[i] = (struct event){ ld_le16(events + i * EVENT_LEN), ld_le16(events + i * EVENT_LEN + 2),
					     ld_le32(events + i * EVENT_LEN + 4) };
	v->from.asleep = !d->started;
	return 0;
}

static void release(struct virtio_dev *d)
{
	struct vinput *v = of(d);

	input_del(v->in, &v->from);
	virtio_dev_fini(d);
	free(v);
}

#define INPUT_OPS(name_, class_) \
	{ .name = name_, .device_id = 18, .pci_class = class_, .config_read = config_read, .config_write = config_write, \
	  .start = start, .kick = kick, .reset = reset, .save = save, .load = load, .free = release }

static const struct virtio_dev_ops ops[] = {
	[VIRTIO_INPUT_KEYBOARD] = INPUT_OPS("virtio-keyboard", 0x090000),
	[VIRTIO_INPUT_MOUSE] = INPUT_OPS("virtio-mouse", 0x090200),
	[VIRTIO_INPUT_TABLET] = INPUT_OPS("virtio-tablet", 0x098000),
};

int virtio_input_new(struct machine *m, const char *id, enum virtio_input_kind kind, struct input *in, struct virtio_dev **out,
		     struct err *e)
{
	static const uint16_t sizes[2] = { QUEUE_SIZE, QUEUE_SIZE };
	struct vinput *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->kind = kind;
	v->in = in;
	ret = virtio_dev_init(&v->dev, m, &ops[kind], id, 0, CONFIG_LEN, ARRAY_LEN(sizes), sizes);
	if (ret) {
		free(v);
		return err_set(e, ret, "cannot create %s: no file descriptors left", id);
	}
	v->from = (struct input_device){
		.key = kind == VIRTIO_INPUT_KEYBOARD ? on_key : NULL, .rel = kind == VIRTIO_INPUT_MOUSE ? on_rel : NULL,
		.abs = kind == VIRTIO_INPUT_TABLET ? on_abs : NULL, .opaque = v, .name = ops[kind].name, .asleep = true,
	};
	input_add(in, &v->from);
	*out = &v->dev;
	return 0;
}
