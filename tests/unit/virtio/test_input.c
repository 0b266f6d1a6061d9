/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-input: what each device says it has, that keys and buttons arrive whole and in
 * order, wait while the driver has no buffers and get lost in none of it, and that
 * saved state keeps those that wait.
 */
#include "driver.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/input.h"

#define BUF 0x8000ull

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	struct input *in;
	unsigned n_bufs;
};

static struct fix *fix_new(enum virtio_input_kind kind)
{
	struct fix *f = calloc(1, sizeof(*f));

	drv_machine(&f->d);
	assert_int_equal(input_new(&f->d.m->lock, &f->in), 0);
	machine_lock(f->d.m);
	assert_int_equal(virtio_input_new(f->d.m, "in0", kind, f->in, &f->dev, NULL), 0);
	machine_unlock(f->d.m);
	drv_plug(&f->d, f->dev, true);
	drv_start(&f->d, ~0ull, 64);
	return f;
}

static void fix_free(struct fix *f)
{
	drv_free(&f->d);
	input_free(f->in);
	free(f);
}

static void buffers(struct fix *f, unsigned n)
{
	while (n--) {
		struct ring_buf b = { BUF + 8 * (f->n_bufs++ % 64), 8, true };

		ring_push(&f->d.ring[0], &b, 1);
	}
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
}

/* The next event, as "type code value"; empty: none. */
static const char *event(struct fix *f)
{
	static char text[40];
	uint32_t id, len;
	uint8_t b[8];

	if (!ring_used(&f->d.ring[0], &id, &len))
		return "";
	assert_int_equal(len, 8);
	mem_read(f->d.m->mem, ld_le64(mem_ram_host(f->d.m->mem) + f->d.ring[0].desc + 16 * id), b, 8);
	snprintf(text, sizeof(text), "%d %d %d", ld_le16(b), ld_le16(b + 2), (int)ld_le32(b + 4));
	return text;
}

static void expect(struct fix *f, const char *const *events)
{
	for (; *events; events++)
		assert_string_equal(event(f), *events);
	assert_string_equal(event(f), "");
}

#define EXPECT(f, ...) expect(f, (const char *const[]){ __VA_ARGS__, NULL })

static unsigned ask(struct fix *f, uint8_t select, uint8_t subsel, uint8_t *out)
{
	unsigned n;

	drv_config_write(&f->d, 0, 1, select);
	drv_config_write(&f->d, 1, 1, subsel);
	n = (unsigned)drv_config(&f->d, 2, 1);
	for (unsigned i = 0; i < 128; i++)
		out[i] = (uint8_t)drv_config(&f->d, 8 + i, 1);
	return n;
}

static void what_it_says(void **state)
{
	struct fix *k = fix_new(VIRTIO_INPUT_KEYBOARD), *m = fix_new(VIRTIO_INPUT_MOUSE), *t = fix_new(VIRTIO_INPUT_TABLET);
	uint8_t b[128];

	assert_int_equal(k->dev->ops->device_id, 18);
	assert_int_equal(ask(k, 1, 0, b), strlen("Lodge Virtio Keyboard"));
	assert_memory_equal(b, "Lodge Virtio Keyboard", 21);
	assert_int_equal(ask(k, 3, 0, b), 8);
	assert_int_equal(ld_le16(b + 2), 0x0627);
	assert_true(ask(k, 0x11, EV_KEY, b) > KEY_DELETE / 8);
	assert_true(b[KEY_A / 8] >> KEY_A % 8 & 1);
	assert_int_equal(ask(k, 0x11, EV_REL, b), 0);
	assert_int_equal(ask(k, 0x11, EV_REP, b), 1);
	assert_int_equal(ask(k, 0, 0, b), 0);
	assert_int_equal(ask(k, 0x55, 0, b), 0);
	assert_int_equal(ask(m, 0x11, EV_REL, b), 2);
	assert_int_equal(b[0], 3);
	assert_int_equal(b[1], 1);
	assert_int_equal(ask(m, 0x11, EV_ABS, b), 0);
	assert_int_equal(ask(m, 0x12, ABS_X, b), 0);
	assert_int_equal(ask(m, 0x11, EV_KEY, b), BTN_EXTRA / 8 + 1);
	assert_int_equal(ask(t, 0x11, EV_ABS, b), 1);
	assert_int_equal(b[0], 3);
	assert_int_equal(ask(t, 0x12, ABS_Y, b), 20);
	assert_int_equal(ld_le32(b), 0);
	assert_int_equal(ld_le32(b + 4), INPUT_ABS_MAX);
	assert_int_equal(ask(t, 0x12, ABS_RX, b), 0);
	fix_free(k);
	fix_free(m);
	fix_free(t);
}

static void keys(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_KEYBOARD);

	buffers(f, 10);
	assert_true(input_key(f->in, KEY_A, true));
	assert_true(input_key(f->in, KEY_A, false));
	EXPECT(f, "1 30 1", "0 0 0", "1 30 0", "0 0 0");
	/* A hundred without buffers: they wait, some here and the rest at the router. */
	for (unsigned i = 0; i < 100; i++)
		assert_true(input_key(f->in, KEY_B, !(i & 1)));
	for (unsigned i = 0; i < 100; i++) {
		const char *e = event(f);

		if (!*e) {
			buffers(f, 30);
			e = event(f);
		}
		assert_string_equal(e, i & 1 ? "1 48 0" : "1 48 1");
		e = event(f);
		if (!*e) {
			buffers(f, 31);
			e = event(f);
		}
		assert_string_equal(e, "0 0 0");
	}
	EXPECT(f, "");
	fix_free(f);
}

static void mouse(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_MOUSE);

	buffers(f, 20);
	input_rel(f->in, 3, -4, 1, INPUT_LEFT);
	EXPECT(f, "1 272 1", "2 0 3", "2 1 -4", "2 8 1", "0 0 0");
	input_rel(f->in, 0, 0, 0, INPUT_LEFT);
	EXPECT(f, "");
	input_rel(f->in, 0, 0, 0, INPUT_RIGHT | INPUT_EXTRA);
	EXPECT(f, "1 272 0", "1 273 1", "1 276 1", "0 0 0");
	fix_free(f);
}

/* Motions add up, and a button that came up does, whatever the driver missed. */
static void mouse_unheard(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_MOUSE);
	int x = 0, buttons = 0;

	for (int i = 0; i < 1000; i++)
		input_rel(f->in, 1, 0, 0, i < 999 && i & 4 ? INPUT_MIDDLE : 0);
	for (int i = 0; i < 200; i++) {
		const char *e;
		int type, code, value;

		buffers(f, 1);
		e = event(f);
		if (!*e)
			continue;
		assert_int_equal(sscanf(e, "%d %d %d", &type, &code, &value), 3);
		if (type == EV_REL)
			x += value;
		if (type == EV_KEY)
			buttons = value;
	}
	assert_int_equal(x, 1000);
	assert_int_equal(buttons, 0);
	fix_free(f);
}

static void tablet(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_TABLET);

	buffers(f, 20);
	assert_true(input_has_abs(f->in));
	input_abs(f->in, 639, 0, 640, 480, 0, 0);
	EXPECT(f, "3 0 32767", "0 0 0");
	input_abs(f->in, 639, 479, 640, 480, -1, INPUT_LEFT);
	EXPECT(f, "1 272 1", "2 8 -1", "3 1 32767", "0 0 0");
	/* Without its driver nobody listens. */
	drv_set_status(&f->d, 0);
	assert_false(input_has_abs(f->in));
	fix_free(f);
}

static void saved(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_KEYBOARD);
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	const void *p;
	size_t len;

	assert_true(input_key(f->in, KEY_X, true));
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_reset_devs(f->d.m);
	assert_false(input_key_locked(f->in, KEY_Y, true));	/* nobody there */
	if (machine_load_devs(f->d.m, in, &e))
		fail_msg("%s", e.msg);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	snap_in_free(in);
	snap_out_free(o);
	assert_true(input_key(f->in, KEY_Z, true));
	buffers(f, 10);
	EXPECT(f, "1 45 1", "0 0 0", "1 44 1", "0 0 0");
	fix_free(f);
}

/* A motion that no report has, though its amount is no number. */
static void damaged(void **state)
{
	struct fix *f = fix_new(VIRTIO_INPUT_MOUSE);
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	uint8_t *copy, *at;
	const void *p;
	size_t len;

	input_rel(f->in, 0x1234, 0, 0, 0);	/* no buffers: it is in the queue */
	for (unsigned i = 0; i < 40; i++)
		input_rel(f->in, 0, 0, 0, i % 2 ? INPUT_LEFT : 0);	/* until that is full */
	input_rel(f->in, 0x2345, 0, 0, 0);
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	assert_int_equal(machine_save_devs(f->d.m, o, NULL), 0);
	p = snap_out_data(o, &len);
	copy = malloc(len);
	memcpy(copy, p, len);
	at = memmem(copy, len, "\x45\x23\0\0", 4);
	assert_non_null(at);
	st_le32(at, 0x80000000);
	assert_int_equal(snap_in_new(&in, copy, len), 0);
	machine_reset_devs(f->d.m);
	assert_int_equal(machine_load_devs(f->d.m, in, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "makes no sense"));
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	snap_in_free(in);
	snap_out_free(o);
	free(copy);
	fix_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says), cmocka_unit_test(keys), cmocka_unit_test(mouse), cmocka_unit_test(mouse_unheard),
		cmocka_unit_test(tablet), cmocka_unit_test(saved), cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
