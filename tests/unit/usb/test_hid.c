/* SPDX-License-Identifier: GPL-2.0-or-later */
/* USB devices without a controller: standard requests (USB 2.0, 9.4), HID's own (HID 1.11, 7.2), reports, the router of input. */
#include "../chipset/chip.h"

#include <linux/input-event-codes.h>

#include "base/iov.h"
#include "chipset/i8042.h"
#include "display/input.h"
#include "usb/hid.h"

struct fix {
	struct machine *m;
	struct input *in;
	struct usb_device *dev;
	struct usb_port port;
	struct usb_packet p;		/* of the interrupt endpoint */
	struct iovec v;
	uint8_t buf[64], mem[512];
	unsigned done, woken;
};

static void changed(struct usb_port *p) { }
static void wakeup(struct usb_port *p) { ((struct fix *)p->opaque)->woken++; }
static void on_done(struct usb_packet *p) { (*(unsigned *)p->opaque)++; }

static struct fix *make(enum usb_hid_kind kind)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	f->m = machine_make();
	f->port = (struct usb_port){ .changed = changed, .wakeup = wakeup, .opaque = f };
	assert_int_equal(input_new(&f->m->lock, &f->in), 0);
	machine_lock(f->m);
	assert_int_equal(usb_hid_new(f->m, f->in, kind, "hid0", &f->dev, &e), 0);
	usb_plug(&f->port, f->dev);
	machine_unlock(f->m);
	return f;
}

static void drop(struct fix *f)
{
	machine_free(f->m);
	input_free(f->in);
	free(f);
}

/* A control transfer; the answer is in f->mem. */
static int control(struct fix *f, uint8_t type, uint8_t request, uint16_t value, uint16_t index, uint16_t len)
{
	struct iovec v = { f->mem, len };
	unsigned done = 0;
	struct usb_packet p = { .in = type & 0x80, .kind = USB_CONTROL, .setup = { type, request }, .iov = &v, .niov = 1, .len = len,
				.done = on_done, .opaque = &done };

	st_le16(p.setup + 2, value);
	st_le16(p.setup + 4, index);
	st_le16(p.setup + 6, len);
	machine_lock(f->m);
	usb_submit(f->dev, &p);
	machine_unlock(f->m);
	assert_int_equal(done, 1);
	return p.status == USB_OK ? (int)p.actual : -(int)p.status;
}

static void ask(struct fix *f)
{
	f->v = (struct iovec){ f->buf, sizeof(f->buf) };
	f->p = (struct usb_packet){ .ep = 1, .in = true, .kind = USB_INTERRUPT, .iov = &f->v, .niov = 1, .len = sizeof(f->buf), .done = on_done,
				    .opaque = &f->done };
	memset(f->buf, 0xee, sizeof(f->buf));
	machine_lock(f->m);
	usb_submit(f->dev, &f->p);
	machine_unlock(f->m);
}

static void expect(struct fix *f, const char *bytes, unsigned n)
{
	assert_int_equal(f->p.status, USB_OK);
	assert_int_equal(f->p.actual, n);
	assert_memory_equal(f->buf, bytes, n);
}

static void configure(struct fix *f)
{
	assert_int_equal(control(f, 0x00, 9, 1, 0, 0), 0);
}

static void test_standard(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);

	assert_int_equal(control(f, 0x80, 6, 0x100, 0, 64), 18);
	assert_memory_equal(f->mem, "\x12\x01\x00\x02", 4);
	assert_int_equal(control(f, 0x80, 6, 0x100, 0, 8), 8);
	assert_int_equal(control(f, 0x80, 6, 0x200, 0, 255), 34);
	assert_int_equal(ld_le16(f->mem + 2), 34);
	assert_int_equal(control(f, 0x80, 6, 0x300, 0, 255), 4);
	assert_int_equal(ld_le16(f->mem + 2), 0x409);
	assert_int_equal(control(f, 0x80, 6, 0x302, 0x409, 255), 2 + 2 * 12);
	assert_int_equal(f->mem[2], 'U');
	assert_int_equal(control(f, 0x80, 6, 0x600, 0, 10), 10);
	assert_int_equal(control(f, 0x80, 6, 0xf00, 0, 5), -USB_STALL);
	assert_int_equal(control(f, 0x80, 6, 0x309, 0, 5), -USB_STALL);
	/* Not configured: no interface, no endpoint. */
	assert_int_equal(control(f, 0x81, 10, 0, 0, 1), -USB_STALL);
	ask(f);
	assert_int_equal(f->p.status, USB_ERROR);
	configure(f);
	assert_int_equal(control(f, 0x80, 8, 0, 0, 1), 1);
	assert_int_equal(f->mem[0], 1);
	assert_int_equal(control(f, 0x00, 9, 2, 0, 0), -USB_STALL);
	assert_int_equal(control(f, 0x01, 11, 0, 0, 0), 0);
	assert_int_equal(control(f, 0x01, 11, 1, 0, 0), -USB_STALL);
	/* Remote wakeup, and self powered is not. */
	assert_int_equal(control(f, 0x00, 3, 1, 0, 0), 0);
	assert_int_equal(control(f, 0x80, 0, 0, 0, 2), 2);
	assert_int_equal(ld_le16(f->mem), 2);
	/* A halted endpoint refuses until that is cleared. */
	assert_int_equal(control(f, 0x02, 3, 0, 0x81, 0), 0);
	assert_int_equal(control(f, 0x82, 0, 0, 0x81, 2), 2);
	assert_int_equal(ld_le16(f->mem), 1);
	ask(f);
	assert_int_equal(f->p.status, USB_STALL);
	assert_int_equal(control(f, 0x02, 1, 0, 0x81, 0), 0);
	ask(f);
	assert_int_equal(f->p.status, USB_PENDING);
	assert_int_equal(control(f, 0x02, 3, 0, 0x02, 0), -USB_STALL);
	assert_int_equal(control(f, 0xc0, 0x55, 0, 0, 2), -USB_STALL);
	drop(f);
}

static void test_keyboard(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);

	configure(f);
	assert_false(input_key(f->in, KEY_A, true));		/* nobody has asked for a report */
	ask(f);
	assert_int_equal(f->p.status, USB_PENDING);
	input_key(f->in, KEY_LEFTSHIFT, true);
	expect(f, "\x02\0\0\0\0\0\0\0", 8);
	/* Without a packet events wait, and each comes in a report of its own. */
	input_key(f->in, KEY_A, true);
	input_key(f->in, KEY_A, false);
	assert_int_equal(f->done, 1);
	ask(f);
	expect(f, "\x02\0\x04\0\0\0\0\0", 8);
	ask(f);
	expect(f, "\x02\0\0\0\0\0\0\0", 8);
	ask(f);
	assert_int_equal(f->p.status, USB_PENDING);
	/* More than six are an error that says so. */
	for (unsigned i = 0; i < 7; i++) {
		input_key(f->in, KEY_1 + i, true);
		ask(f);
	}
	assert_int_equal(f->p.status, USB_PENDING);
	input_key(f->in, KEY_B, true);
	expect(f, "\x02\0\1\1\1\1\1\1", 8);
	/* LEDs. */
	f->mem[0] = 2;
	assert_int_equal(control(f, 0x21, 9, 0x200, 0, 1), 1);
	assert_int_equal(usb_hid_leds(f->dev), 2);
	assert_int_equal(control(f, 0xa1, 1, 0x100, 0, 8), 8);
	assert_int_equal(f->mem[0], 2);
	assert_int_equal(control(f, 0x81, 6, 0x2200, 0, 255), 65);
	assert_int_equal(control(f, 0x81, 6, 0x2100, 0, 255), 9);
	assert_int_equal(ld_le16(f->mem + 7), 65);
	assert_int_equal(control(f, 0xa1, 1, 0x300, 0, 8), -USB_STALL);
	drop(f);
}

/* Full queues: what has no room stays in the router, in order, and nothing is lost. */
static void test_many_keys(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);

	configure(f);
	ask(f);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(input_key(f->in, KEY_A, true));
		assert_true(input_key(f->in, KEY_A, false));
	}
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(f->p.status, USB_OK);
		assert_int_equal(f->buf[2], i % 2 ? 0 : 4);
		ask(f);
	}
	assert_int_equal(f->p.status, USB_PENDING);
	drop(f);
}

static void test_idle(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);

	configure(f);
	assert_int_equal(control(f, 0x21, 10, 25 << 8, 0, 0), 0);	/* 100 ms */
	assert_int_equal(control(f, 0xa1, 2, 0, 0, 1), 1);
	assert_int_equal(f->mem[0], 25);
	ask(f);
	input_key(f->in, KEY_B, true);
	expect(f, "\0\0\5\0\0\0\0\0", 8);
	ask(f);
	machine_lock(f->m);
	clock_step(f->m->clock, 99000000);
	assert_int_equal(f->p.status, USB_PENDING);
	clock_step(f->m->clock, 1000000);
	machine_unlock(f->m);
	expect(f, "\0\0\5\0\0\0\0\0", 8);
	/* Zero: for ever. */
	assert_int_equal(control(f, 0x21, 10, 0, 0, 0), 0);
	ask(f);
	machine_lock(f->m);
	clock_step(f->m->clock, 100000000000);
	machine_unlock(f->m);
	assert_int_equal(f->p.status, USB_PENDING);
	drop(f);
}

static void test_mouse(void **state)
{
	struct fix *f = make(USB_HID_MOUSE);

	configure(f);
	ask(f);
	input_rel(f->in, 5, -3, 1, INPUT_LEFT);
	expect(f, "\1\5\xfd\1", 4);
	/* Motions join, a click between them does not get lost, long ones are told in steps. */
	input_rel(f->in, 100, 0, 0, INPUT_LEFT);
	input_rel(f->in, 100, 2, 0, INPUT_LEFT);
	input_rel(f->in, 0, 0, 0, 0);
	ask(f);
	expect(f, "\1\x7f\2\0", 4);
	ask(f);
	expect(f, "\1\x49\0\0", 4);
	ask(f);
	expect(f, "\0\0\0\0", 4);
	assert_int_equal(control(f, 0x21, 11, 0, 0, 0), 0);		/* boot protocol */
	assert_int_equal(control(f, 0xa1, 3, 0, 0, 1), 1);
	assert_int_equal(f->mem[0], 0);
	ask(f);
	input_rel(f->in, 1, 1, 5, INPUT_EXTRA);
	expect(f, "\0\1\1", 3);
	drop(f);
}

static void test_tablet(void **state)
{
	struct fix *f = make(USB_HID_TABLET);

	configure(f);
	assert_false(input_has_abs(f->in));
	ask(f);
	assert_true(input_has_abs(f->in));
	input_abs(f->in, 799, 0, 800, 600, -1, INPUT_RIGHT);
	expect(f, "\2\xff\x7f\0\0\xff", 6);
	ask(f);
	input_abs(f->in, 0, 599, 800, 600, 0, 0);
	expect(f, "\0\0\0\xff\x7f\0", 6);
	/* The packet is taken back: nobody listens any more. */
	ask(f);
	machine_lock(f->m);
	usb_cancel(&f->p);
	machine_unlock(f->m);
	assert_false(input_has_abs(f->in));
	drop(f);
}

/* Two keyboards: the USB one has the keys from its first report on, and a key comes up where it went down. */
static void test_router(void **state)
{
	const struct i8042_config cfg = { .data = 0x60, .command = 0x64 };
	struct fix *f = calloc(1, sizeof(*f));
	struct i8042 *kbc;

	f->m = machine_make();
	f->port = (struct usb_port){ .changed = changed, .wakeup = wakeup, .opaque = f };
	assert_int_equal(input_new(&f->m->lock, &f->in), 0);
	assert_int_equal(i8042_new(f->m, &cfg, &kbc), 0);
	i8042_attach(kbc, f->in);
	machine_lock(f->m);
	assert_int_equal(usb_hid_new(f->m, f->in, USB_HID_KEYBOARD, "hid0", &f->dev, NULL), 0);
	usb_plug(&f->port, f->dev);
	machine_unlock(f->m);
	configure(f);
	outb_(f->m, 0x64, 0xae);
	outb_(f->m, 0x60, 0xf4);
	assert_int_equal(inb_(f->m, 0x60), 0xfa);
	assert_true(input_key(f->in, KEY_A, true));
	assert_int_equal(inb_(f->m, 0x60), 0x1e);
	ask(f);
	assert_true(input_key(f->in, KEY_B, true));
	expect(f, "\0\0\5\0\0\0\0\0", 8);
	assert_true(input_key(f->in, KEY_A, false));
	assert_int_equal(inb_(f->m, 0x60), 0x9e);
	drop(f);
}

static void test_wakeup(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);

	configure(f);
	ask(f);
	machine_lock(f->m);
	usb_suspend(f->dev, true);
	machine_unlock(f->m);
	input_key(f->in, KEY_A, true);
	assert_int_equal(f->woken, 0);
	assert_int_equal(f->p.status, USB_PENDING);
	assert_int_equal(control(f, 0x00, 3, 1, 0, 0), 0);
	input_key(f->in, KEY_A, false);
	assert_int_equal(f->woken, 1);
	machine_lock(f->m);
	usb_suspend(f->dev, false);
	machine_unlock(f->m);
	expect(f, "\0\0\4\0\0\0\0\0", 8);
	/* As Linux does it: first the transfer is taken back. */
	ask(f);
	ask(f);
	machine_lock(f->m);
	usb_cancel(&f->p);
	usb_suspend(f->dev, true);
	machine_unlock(f->m);
	assert_true(input_key(f->in, KEY_B, true));
	assert_int_equal(f->woken, 2);
	machine_lock(f->m);
	usb_suspend(f->dev, false);
	machine_unlock(f->m);
	ask(f);
	expect(f, "\0\0\5\0\0\0\0\0", 8);
	drop(f);
}

/* With keys down and events that wait; then the state of a hostile file. */
static void test_snap(void **state)
{
	struct fix *f = make(USB_HID_KEYBOARD);
	struct snap_out *o;
	struct snap_in *in;
	struct err e;
	const void *p;
	size_t len;

	configure(f);
	ask(f);
	input_key(f->in, KEY_A, true);
	input_key(f->in, KEY_B, true);
	input_key(f->in, KEY_A, false);
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->m);
	assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
	machine_reset_devs(f->m);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(f->m, in, &e), 0);
	snap_in_free(in);
	machine_unlock(f->m);
	ask(f);
	expect(f, "\0\0\4\5\0\0\0\0", 8);
	ask(f);
	expect(f, "\0\0\5\0\0\0\0\0", 8);
	/* Damaged anywhere, it is refused or harmless. */
	for (size_t i = 0; i < len; i += 7) {
		uint8_t *copy = malloc(len);

		memcpy(copy, p, len);
		copy[i] ^= 0xff;
		machine_lock(f->m);
		if (!snap_in_new(&in, copy, len)) {
			if (machine_load_devs(f->m, in, &e))
				machine_reset_devs(f->m);
			snap_in_free(in);
		}
		machine_unlock(f->m);
		configure(f);
		for (unsigned n = 0; n < 20; n++)
			ask(f);
		machine_lock(f->m);
		usb_cancel(&f->p);
		machine_unlock(f->m);
		free(copy);
	}
	snap_out_free(o);
	drop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_standard), cmocka_unit_test(test_keyboard), cmocka_unit_test(test_many_keys), cmocka_unit_test(test_idle),
		cmocka_unit_test(test_mouse), cmocka_unit_test(test_tablet), cmocka_unit_test(test_router), cmocka_unit_test(test_wakeup),
		cmocka_unit_test(test_snap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
