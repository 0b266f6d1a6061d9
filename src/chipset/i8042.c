/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8042 keyboard controller, an MF2 keyboard and a PS/2 wheel mouse.
 *
 * Three queues wait for the one output buffer: the controller's own answers go
 * first, then the keyboard's bytes, then the mouse's.  A byte enters the buffer
 * when the guest has read the one before; its interrupt line is high while it
 * lies there.  The keyboard speaks scan set 2 (or 1 on request); the controller
 * translates to set 1 if told so, as PC firmware leaves it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/i8042.h"
#include "display/input.h"
#include "display/keys.h"
#include "machine/machine.h"

enum { ST_OBF = 0x01, ST_SYS = 0x04, ST_CMD = 0x08, ST_UNLOCKED = 0x10, ST_AUX = 0x20 };
enum { CFG_KBD_INT = 0x01, CFG_AUX_INT = 0x02, CFG_SYS = 0x04, CFG_KBD_OFF = 0x10, CFG_AUX_OFF = 0x20,
       CFG_XLATE = 0x40 };
enum { OUT_RESET = 0x01, OUT_A20 = 0x02 };
enum { FROM_CTL, FROM_KBD, FROM_AUX };	/* FROM_CTL answers count as the keyboard's */
enum { ACK = 0xfa, NAK = 0xfe, BAT_OK = 0xaa };

#define QUEUE_LEN 32			/* power of two */

struct queue {
	uint8_t data[QUEUE_LEN];
	uint8_t head, len;
};

struct i8042 {
	struct dev dev;
	struct i8042_config cfg;
	struct bus_region data, command;
	struct input *input;		/* NULL: nobody types */
	struct input_device keyboard, mouse;
	uint8_t cfg_byte, ram[32];
	uint8_t status;			/* SYS, CMD; the others are computed */
	uint8_t pending;		/* controller command that waits for its argument, 0: none */
	uint8_t out, out_full, out_from;
	uint8_t outport;
	struct queue ctl, kbd, aux;

	uint8_t kbd_cmd;		/* keyboard command that waits for its argument */
	uint8_t kbd_enabled, kbd_set, kbd_leds, kbd_rate;
	uint8_t kbd_break;		/* translation has seen F0 */
	uint8_t kbd_last;		/* for resend */

	uint8_t aux_cmd;
	uint8_t aux_enabled, aux_remote, aux_wrap, aux_scale21;
	uint8_t aux_res, aux_rate, aux_id;
	uint8_t aux_knock[3];		/* the last sample rates: the magic of wheels */
	uint8_t aux_buttons, aux_last;
	int32_t aux_dx, aux_dy, aux_dz;
};

#define QUEUE_FIELDS(q) \
	{ #q, offsetof(struct i8042, q.data), 1, QUEUE_LEN, 0 }, \
	{ #q "_head", offsetof(struct i8042, q.head), 1, 1, 0 }, \
	{ #q "_len", offsetof(struct i8042, q.len), 1, 1, 0 }

static const struct snap_field fields[] = {
	SNAP_FIELD(struct i8042, cfg_byte),
	SNAP_ARRAY(struct i8042, ram),
	SNAP_FIELD(struct i8042, status),
	SNAP_FIELD(struct i8042, pending),
	SNAP_FIELD(struct i8042, out),
	SNAP_FIELD(struct i8042, out_full),
	SNAP_FIELD(struct i8042, out_from),
	SNAP_FIELD(struct i8042, outport),
	QUEUE_FIELDS(ctl),
	QUEUE_FIELDS(kbd),
	QUEUE_FIELDS(aux),
	SNAP_FIELD(struct i8042, kbd_cmd),
	SNAP_FIELD(struct i8042, kbd_enabled),
	SNAP_FIELD(struct i8042, kbd_set),
	SNAP_FIELD(struct i8042, kbd_leds),
	SNAP_FIELD(struct i8042, kbd_rate),
	SNAP_FIELD(struct i8042, kbd_break),
	SNAP_FIELD(struct i8042, kbd_last),
	SNAP_FIELD(struct i8042, aux_cmd),
	SNAP_FIELD(struct i8042, aux_enabled),
	SNAP_FIELD(struct i8042, aux_remote),
	SNAP_FIELD(struct i8042, aux_wrap),
	SNAP_FIELD(struct i8042, aux_scale21),
	SNAP_FIELD(struct i8042, aux_res),
	SNAP_FIELD(struct i8042, aux_rate),
	SNAP_FIELD(struct i8042, aux_id),
	SNAP_ARRAY(struct i8042, aux_knock),
	SNAP_FIELD(struct i8042, aux_buttons),
	SNAP_FIELD(struct i8042, aux_last),
	SNAP_FIELD(struct i8042, aux_dx),
	SNAP_FIELD(struct i8042, aux_dy),
	SNAP_FIELD(struct i8042, aux_dz),
	SNAP_END
};
static const struct snap_table table = { "i8042", 1, fields };

/* Scan set 2 to set 1, what the 8042's ROM holds; codes from 0x80 on pass
 * unchanged except 0x83 and 0x84. */
static const uint8_t set1_of[0x80] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
	0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
	0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
	0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
	0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
	0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
	0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
	0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

static uint8_t translate(uint8_t b)
{
	if (b < 0x80)
		return set1_of[b];
	return b == 0x83 ? 0x41 : b == 0x84 ? 0x54 : b;
}

static bool put(struct queue *q, uint8_t b)
{
	if (q->len == QUEUE_LEN)
		return false;
	q->data[(q->head + q->len++) % QUEUE_LEN] = b;
	return true;
}

static uint8_t get(struct queue *q)
{
	uint8_t b = q->data[q->head];

	q->head = (q->head + 1) % QUEUE_LEN;
	q->len--;
	return b;
}

static void clear(struct queue *q)
{
	q->head = q->len = 0;
}

static void update_irq(struct i8042 *k)
{
	bool aux = k->out_full && k->out_from == FROM_AUX;
	bool kbd = k->out_full && !aux;

	irq_set(&k->cfg.kbd, kbd && k->cfg_byte & CFG_KBD_INT);
	irq_set(&k->cfg.aux, aux && k->cfg_byte & CFG_AUX_INT);
}

/* Takes the next keyboard byte through translation; false if it was swallowed. */
static bool next_kbd(struct i8042 *k, uint8_t *out)
{
	uint8_t b = get(&k->kbd);

	if (!(k->cfg_byte & CFG_XLATE)) {
		*out = b;
		return true;
	}
	if (b == 0xf0) {
		k->kbd_break = 0x80;
		return false;
	}
	*out = translate(b) | k->kbd_break;
	k->kbd_break = 0;
	return true;
}

/* Fills the output buffer if it is free. */
static void pump(struct i8042 *k)
{
	while (!k->out_full) {
		if (k->ctl.len) {
			k->out = get(&k->ctl);
			k->out_from = FROM_CTL;
		} else if (k->kbd.len && !(k->cfg_byte & CFG_KBD_OFF)) {
			if (!next_kbd(k, &k->out))
				continue;
			k->out_from = FROM_KBD;
		} else if (k->aux.len && !(k->cfg_byte & CFG_AUX_OFF)) {
			k->out = get(&k->aux);
			k->out_from = FROM_AUX;
		} else {
			break;
		}
		k->out_full = 1;
	}
	update_irq(k);
}

static void put_kbd(struct i8042 *k, uint8_t b)
{
	k->kbd_last = b;
	put(&k->kbd, b);
}

static void put_aux(struct i8042 *k, uint8_t b)
{
	k->aux_last = b;
	put(&k->aux, b);
}

/* ---- keyboard ---- */

static void kbd_defaults(struct i8042 *k)
{
	k->kbd_set = 2;
	k->kbd_rate = 0x2b;
	k->kbd_cmd = 0;
}

static void kbd_argument(struct i8042 *k, uint8_t val)
{
	uint8_t cmd = k->kbd_cmd;

	k->kbd_cmd = 0;
	switch (cmd) {
	case 0xed: k->kbd_leds = val; break;
	case 0xf3: k->kbd_rate = val; break;
	case 0xf0:
		if (val > 2) {
			put_kbd(k, NAK);
			return;
		}
		put_kbd(k, ACK);
		if (val)
			k->kbd_set = val;
		else
			put_kbd(k, k->kbd_set);
		return;
	}
	put_kbd(k, ACK);
}

static void kbd_write(struct i8042 *k, uint8_t val)
{
	/* A command instead of the argument is taken as a command. */
	if (k->kbd_cmd && val < 0xed) {
		kbd_argument(k, val);
		return;
	}
	k->kbd_cmd = 0;
	clear(&k->kbd);
	switch (val) {
	case 0xee:
		put_kbd(k, 0xee);
		return;
	case 0xed: case 0xf0: case 0xf3:
		k->kbd_cmd = val;
		break;
	case 0xf2:
		put_kbd(k, ACK);
		put_kbd(k, 0xab);
		put_kbd(k, 0x83);
		return;
	case 0xf4: k->kbd_enabled = 1; break;
	case 0xf5:
		kbd_defaults(k);
		k->kbd_enabled = 0;
		break;
	case 0xf6:
		kbd_defaults(k);
		k->kbd_enabled = 1;
		break;
	case 0xf7 ... 0xfa:		/* set 3 key types: nothing to do in sets 1 and 2 */
		break;
	case 0xfe:
		put_kbd(k, k->kbd_last);
		return;
	case 0xff:
		kbd_defaults(k);
		k->kbd_leds = 0;
		k->kbd_enabled = 1;
		put_kbd(k, ACK);
		put_kbd(k, BAT_OK);
		return;
	default:
		put_kbd(k, NAK);
		return;
	}
	put_kbd(k, ACK);
}

/* All at once: the key has no break code. */
static void put_pause(struct i8042 *k)
{
	static const uint8_t set1[] = { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 };
	static const uint8_t set2[] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
	bool one = k->kbd_set == 1;

	for (unsigned i = 0; i < (one ? sizeof(set1) : sizeof(set2)); i++)
		put_kbd(k, one ? set1[i] : set2[i]);
}

bool i8042_key(struct i8042 *k, uint8_t set2, bool e0, bool down)
{
	bool pause = e0 && set2 == 0x77;

	if (!k->kbd_enabled || (pause && !down))
		return true;
	/* Whole sequences only: half of one would confuse the guest for long. */
	if (k->kbd.len + (pause ? 8 : 3) > QUEUE_LEN)
		return false;
	if (pause) {
		put_pause(k);
		pump(k);
		return true;
	}
	if (e0)
		put_kbd(k, 0xe0);
	if (k->kbd_set == 1) {
		put_kbd(k, translate(set2) | (down ? 0 : 0x80));
	} else {
		if (!down)
			put_kbd(k, 0xf0);
		put_kbd(k, set2);
	}
	pump(k);
	return true;
}

/* ---- mouse ---- */

static void aux_defaults(struct i8042 *k)
{
	k->aux_rate = 100;
	k->aux_res = 2;
	k->aux_enabled = k->aux_remote = k->aux_scale21 = 0;
	k->aux_cmd = 0;
}

static uint8_t clip(int32_t *rest, int limit, uint8_t *overflow, uint8_t bit)
{
	int v = *rest;

	if (v > limit || v < -limit - 1) {
		v = v > 0 ? limit : -limit - 1;
		if (overflow)
			*overflow |= bit;
	}
	*rest = 0;
	return (uint8_t)v;
}

static void aux_packet(struct i8042 *k)
{
	uint8_t flags = 0x08 | (k->aux_buttons & 7), dx, dy;

	flags |= (k->aux_dx < 0 ? 0x10 : 0) | (k->aux_dy < 0 ? 0x20 : 0);
	dx = clip(&k->aux_dx, 255, &flags, 0x40);
	dy = clip(&k->aux_dy, 255, &flags, 0x80);
	put(&k->aux, flags);
	put(&k->aux, dx);
	put(&k->aux, dy);
	if (k->aux_id)
		put(&k->aux, clip(&k->aux_dz, 7, NULL, 0));
	k->aux_dz = 0;
}

void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned buttons)
{
	bool changed = k->aux_buttons != (buttons & 7) || dx || dy || dz;

	if (k->cfg.no_aux || !(k->aux_enabled || k->aux_remote))
		return;
	k->aux_dx = MAX(-1000, MIN(1000, k->aux_dx + MAX(-1000, MIN(1000, dx))));
	k->aux_dy = MAX(-1000, MIN(1000, k->aux_dy + MAX(-1000, MIN(1000, dy))));
	k->aux_dz = MAX(-7, MIN(7, k->aux_dz + MAX(-7, MIN(7, dz))));
	k->aux_buttons = buttons & 7;
	if (changed && k->aux_enabled && !k->aux_remote && k->aux.len + 4 <= QUEUE_LEN) {
		aux_packet(k);
		pump(k);
	}
}

/* ---- who types and points ---- */

static bool on_key(void *opaque, unsigned code, bool down)
{
	const struct key_info *key = key_by_evdev(code);

	return !key || i8042_key(opaque, key->set2, key->set1 & 0x80, down);
}

/* In steps that packets have room for; the mouse counts upwards, and the wheel towards the user. */
static void on_motion(void *opaque, int dx, int dy, int wheel, unsigned buttons)
{
	for (unsigned i = 0; i < 8; i++) {
		int x = MAX(-255, MIN(255, dx)), y = MAX(-255, MIN(255, dy));

		i8042_mouse(opaque, x, -y, i ? 0 : -wheel, buttons);
		dx -= x;
		dy -= y;
		if (!dx && !dy)
			break;
	}
}

void i8042_attach(struct i8042 *k, struct input *in)
{
	k->input = in;
	k->keyboard = (struct input_device){ .key = on_key, .opaque = k };
	k->mouse = (struct input_device){ .rel = on_motion, .opaque = k };
	input_add(in, &k->keyboard);
	if (!k->cfg.no_aux)
		input_add(in, &k->mouse);
}

static void detach(struct i8042 *k)
{
	if (!k->input)
		return;
	input_del(k->input, &k->keyboard);
	if (!k->cfg.no_aux)
		input_del(k->input, &k->mouse);
}

/* IntelliMouse: rates 200, 100, 80 make a wheel appear. */
static void aux_knock(struct i8042 *k, uint8_t rate)
{
	k->aux_rate = rate;
	k->aux_knock[0] = k->aux_knock[1];
	k->aux_knock[1] = k->aux_knock[2];
	k->aux_knock[2] = rate;
	if (k->aux_knock[0] == 200 && k->aux_knock[1] == 100 && k->aux_knock[2] == 80)
		k->aux_id = 3;
}

static void aux_status(struct i8042 *k)
{
	put_aux(k, (uint8_t)(k->aux_remote << 6 | k->aux_enabled << 5 | k->aux_scale21 << 4 |
			     (k->aux_buttons & 1) << 2 | (k->aux_buttons & 4) >> 1 | (k->aux_buttons & 2) >> 1));
	put_aux(k, k->aux_res);
	put_aux(k, k->aux_rate);
}

static void aux_reset(struct i8042 *k)
{
	aux_defaults(k);
	k->aux_id = 0;
	k->aux_wrap = 0;
	memset(k->aux_knock, 0, sizeof(k->aux_knock));
	k->aux_dx = k->aux_dy = k->aux_dz = 0;
}

/* Commands without argument; false: unknown. */
static bool aux_command(struct i8042 *k, uint8_t val)
{
	switch (val) {
	case 0xe6: k->aux_scale21 = 0; break;
	case 0xe7: k->aux_scale21 = 1; break;
	case 0xea: k->aux_remote = 0; break;
	case 0xec: k->aux_wrap = 0; break;
	case 0xee: k->aux_wrap = 1; break;
	case 0xf0: k->aux_remote = 1; break;
	case 0xf4: k->aux_enabled = 1; break;
	case 0xf5: k->aux_enabled = 0; break;
	case 0xf6: aux_defaults(k); break;
	case 0xe8: case 0xf3: k->aux_cmd = val; break;
	case 0xe9: case 0xeb: case 0xf2: case 0xff: break;
	default: return false;
	}
	return true;
}

static void aux_write(struct i8042 *k, uint8_t val)
{
	uint8_t cmd = k->aux_cmd;

	if (k->aux_wrap && val != 0xec && val != 0xff) {
		put_aux(k, val);
		return;
	}
	if (cmd) {
		k->aux_cmd = 0;
		put_aux(k, ACK);
		if (cmd == 0xf3)
			aux_knock(k, val);
		else
			k->aux_res = val & 3;
		return;
	}
	clear(&k->aux);
	if (val == 0xfe) {
		put_aux(k, k->aux_last);
		return;
	}
	if (!aux_command(k, val)) {
		put_aux(k, NAK);
		return;
	}
	put_aux(k, ACK);
	switch (val) {
	case 0xe9: aux_status(k); break;
	case 0xeb: aux_packet(k); break;
	case 0xf2: put_aux(k, k->aux_id); break;
	case 0xff:
		aux_reset(k);
		put_aux(k, BAT_OK);
		put_aux(k, 0);
		break;
	}
}

/* ---- controller ---- */

static void write_outport(struct i8042 *k, uint8_t val)
{
	k->outport = val;
	irq_set(&k->cfg.a20, (val & OUT_A20) != 0);
	if (!(val & OUT_RESET))
		machine_ask(k->dev.m, MACHINE_REQ_RESET, 0);
}

static void write_cfg(struct i8042 *k, uint8_t val)
{
	k->cfg_byte = k->cfg.no_aux ? (val & (uint8_t)~CFG_AUX_INT) | CFG_AUX_OFF : val;
	k->status = (k->status & (uint8_t)~ST_SYS) | (val & CFG_SYS ? ST_SYS : 0);
}

static uint8_t outport_now(const struct i8042 *k)
{
	bool aux = k->out_full && k->out_from == FROM_AUX;

	return (k->outport & 0xcf) | (k->out_full && !aux ? 0x10 : 0) | (aux ? 0x20 : 0);
}

static void self_test(struct i8042 *k)
{
	clear(&k->ctl);
	k->out_full = 0;
	k->status |= ST_SYS;
	k->cfg_byte |= CFG_SYS;
	put(&k->ctl, 0x55);
}

static void aux_port_command(struct i8042 *k, uint8_t val)
{
	if (k->cfg.no_aux)
		return;
	switch (val) {
	case 0xa7: k->cfg_byte |= CFG_AUX_OFF; break;
	case 0xa8: k->cfg_byte &= (uint8_t)~CFG_AUX_OFF; break;
	case 0xa9: put(&k->ctl, 0); break;
	case 0xd3: case 0xd4: k->pending = val; break;
	}
}

static void ctl_command(struct i8042 *k, uint8_t val)
{
	k->pending = 0;
	switch (val) {
	case 0x20: put(&k->ctl, k->cfg_byte); break;
	case 0x21 ... 0x3f: put(&k->ctl, k->ram[val & 0x1f]); break;
	case 0x60 ... 0x7f: k->pending = val; break;
	case 0xa7: case 0xa8: case 0xa9: case 0xd3: case 0xd4: aux_port_command(k, val); break;
	case 0xaa: self_test(k); break;
	case 0xab: put(&k->ctl, 0); break;
	case 0xad: k->cfg_byte |= CFG_KBD_OFF; break;
	case 0xae: k->cfg_byte &= (uint8_t)~CFG_KBD_OFF; break;
	case 0xc0: put(&k->ctl, 0x80); break;		/* keyboard not locked */
	case 0xd0: put(&k->ctl, outport_now(k)); break;
	case 0xd1: case 0xd2: k->pending = val; break;
	case 0xdd: write_outport(k, k->outport & (uint8_t)~OUT_A20); break;
	case 0xdf: write_outport(k, k->outport | OUT_A20); break;
	case 0xf0 ... 0xff:				/* pulses the bits that are 0 */
		if (!(val & OUT_RESET))
			machine_ask(k->dev.m, MACHINE_REQ_RESET, 0);
		break;
	}
}

/* The byte appears in the output buffer as if from the mouse, even while its
 * port is disabled: Linux looks for the port by this, before it enables it. */
static void loop_aux(struct i8042 *k, uint8_t val)
{
	if (k->out_full) {
		put(&k->aux, val);
		return;
	}
	k->out = val;
	k->out_from = FROM_AUX;
	k->out_full = 1;
	update_irq(k);
}

static void ctl_argument(struct i8042 *k, uint8_t cmd, uint8_t val)
{
	switch (cmd) {
	case 0x60: write_cfg(k, val); break;
	case 0x61 ... 0x7f: k->ram[cmd & 0x1f] = val; break;
	case 0xd1: write_outport(k, val); break;
	case 0xd2: put(&k->ctl, val); break;
	case 0xd3: loop_aux(k, val); break;
	case 0xd4:
		k->cfg_byte &= (uint8_t)~CFG_AUX_OFF;
		aux_write(k, val);
		break;
	}
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned len)
{
	struct i8042 *k = opaque;
	uint8_t b = k->out;

	k->out_full = 0;
	update_irq(k);		/* the line drops between two bytes */
	pump(k);
	if (k->input && !k->kbd.len)
		input_ready(k->input);
	return b;
}

static void data_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct i8042 *k = opaque;
	uint8_t cmd = k->pending, val = (uint8_t)v;

	k->status &= (uint8_t)~ST_CMD;
	k->pending = 0;
	if (cmd) {
		ctl_argument(k, cmd, val);
	} else {
		/* Writing to the keyboard enables its clock. */
		k->cfg_byte &= (uint8_t)~CFG_KBD_OFF;
		kbd_write(k, val);
	}
	pump(k);
}

static uint64_t status_read(void *opaque, uint64_t off, unsigned len)
{
	struct i8042 *k = opaque;

	return k->status | ST_UNLOCKED | (k->out_full ? ST_OBF : 0) |
	       (k->out_full && k->out_from == FROM_AUX ? ST_AUX : 0);
}

static void command_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct i8042 *k = opaque;

	k->status |= ST_CMD;
	ctl_command(k, (uint8_t)val);
	pump(k);
}

static const struct bus_ops data_ops = { .read = data_read, .write = data_write, .max_len = 1 };
static const struct bus_ops command_ops = { .read = status_read, .write = command_write, .max_len = 1 };

/* As a PC's firmware leaves it: keyboard enabled with translation, mouse off. */
static void kbc_reset(struct dev *d)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	k->status = 0;
	write_cfg(k, CFG_KBD_INT | CFG_SYS | CFG_AUX_OFF | CFG_XLATE);
	memset(k->ram, 0, sizeof(k->ram));
	k->pending = k->out = k->out_full = k->out_from = 0;
	k->outport = 0xc0 | OUT_RESET | OUT_A20;
	irq_set(&k->cfg.a20, true);
	clear(&k->ctl);
	clear(&k->kbd);
	clear(&k->aux);
	kbd_defaults(k);
	k->kbd_enabled = 1;
	k->kbd_leds = k->kbd_break = k->kbd_last = 0;
	aux_reset(k);
	k->aux_buttons = k->aux_last = 0;
	if (k->input)
		input_reset(k->input);
	update_irq(k);
}

static int kbc_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct i8042, dev));
}

static bool queue_sane(const struct queue *q)
{
	return q->head < QUEUE_LEN && q->len <= QUEUE_LEN;
}

static int kbc_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct i8042 *k = container_of(d, struct i8042, dev);
	int ret = snap_get(in, d->id, &table, k, e);

	if (ret)
		return ret;
	if (!queue_sane(&k->ctl) || !queue_sane(&k->kbd) || !queue_sane(&k->aux) || k->out_from > FROM_AUX)
		return err_set(e, -EINVAL, "saved i8042 queues make no sense");
	irq_set(&k->cfg.a20, (k->outport & OUT_A20) != 0);
	update_irq(k);
	return 0;
}

static void kbc_free(struct dev *d)
{
	struct i8042 *k = container_of(d, struct i8042, dev);

	detach(k);
	bus_del(&k->data);
	bus_del(&k->command);
	dev_del(d);
	free(k);
}

static const struct dev_ops kbc_dev_ops = {
	.name = "i8042",
	.reset = kbc_reset,
	.save = kbc_save,
	.load = kbc_load,
	.free = kbc_free,
};

int i8042_new(struct machine *m, const struct i8042_config *cfg, struct i8042 **out)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	int ret;

	if (!k)
		return -ENOMEM;
	k->cfg = *cfg;
	k->data = (struct bus_region){ .name = "i8042-data", .ops = &data_ops, .opaque = k,
				       .base = cfg->data, .size = 1, .priority = 1 };
	k->command = (struct bus_region){ .name = "i8042-command", .ops = &command_ops, .opaque = k,
					  .base = cfg->command, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &k->data);
	if (!ret)
		ret = bus_add(m->pio, &k->command);
	if (ret) {
		bus_del(&k->data);
		free(k);
		return ret;
	}
	dev_add(m, &k->dev, &kbc_dev_ops, "pc.i8042");
	kbc_reset(&k->dev);
	*out = k;
	return 0;
}
