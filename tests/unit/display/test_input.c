/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys by all their names, chords and texts, and the way of both to the PS/2 controller. */
#include "../chipset/chip.h"

#include <linux/input-event-codes.h>

#include "chipset/i8042.h"
#include "display/input.h"
#include "display/keys.h"
#include "display/keyseq.h"

static struct machine *m;
static struct input *in;
static struct i8042 *kbc;
static struct probe irq[3];

static int setup(void **state)
{
	const struct i8042_config cfg = { .data = 0x60, .command = 0x64, .kbd = probe_irq(irq, 0), .aux = probe_irq(irq, 1),
					  .a20 = probe_irq(irq, 2) };

	m = machine_make();
	assert_int_equal(input_new(&m->lock, &in), 0);
	assert_int_equal(i8042_new(m, &cfg, &kbc), 0);
	i8042_attach(kbc, in);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	input_free(in);
	return 0;
}

/* Everything the keyboard has to say. */
static unsigned drain(uint8_t *out, unsigned max)
{
	unsigned n = 0;

	while (n < max && inb_(m, 0x64) & 1)
		out[n++] = inb_(m, 0x60);
	return n;
}

static void expect(const char *bytes, unsigned n)
{
	uint8_t got[64];

	assert_int_equal(drain(got, sizeof(got)), n);
	assert_memory_equal(got, bytes, n);
}

static void key(unsigned code, bool down) { assert_true(input_key(in, code, down)); }

static void test_table(void **state)
{
	static const struct { unsigned evdev, set1, set2; const char *name; } t[] = {
		{ KEY_ESC, 0x01, 0x76, "esc" }, { KEY_A, 0x1e, 0x1c, "a" }, { KEY_F7, 0x41, 0x83, "f7" },
		{ KEY_DELETE, 0xd3, 0x71, "delete" }, { KEY_RIGHTALT, 0xb8, 0x11, "alt_r" }, { KEY_102ND, 0x56, 0x61, "less" },
		{ KEY_KPENTER, 0x9c, 0x5a, "kp_enter" }, { KEY_SYSRQ, 0xb7, 0x7c, "print" }, { KEY_LEFTMETA, 0xdb, 0x1f, "meta_l" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		const struct key_info *k = key_by_evdev(t[i].evdev);

		assert_non_null(k);
		assert_true(k->set1 == t[i].set1 && k->set2 == t[i].set2 && !strcmp(k->name, t[i].name));
		assert_ptr_equal(key_by_set1(t[i].set1), k);
		assert_ptr_equal(key_by_name(t[i].name, strlen(t[i].name)), k);
	}
	/* Up to F12 evdev's numbers are those of set 1, and no key is there twice. */
	for (unsigned c = 1; c < 256; c++) {
		const struct key_info *k = key_by_evdev(c);

		if (k && c <= KEY_F12)
			assert_int_equal(k->set1, c);
		if (k)
			assert_ptr_equal(key_by_set1(k->set1), k);
	}
	assert_null(key_by_evdev(0));
	assert_null(key_by_name("nokey", 5));
	assert_null(key_by_name("", 0));
	assert_ptr_equal(key_by_name("0x1c", 4), key_by_evdev(KEY_ENTER));
	assert_null(key_by_name("0x1cg", 5));
}

static void test_keysyms(void **state)
{
	static const struct { uint32_t sym; unsigned code; bool shift; } t[] = {
		{ 'a', KEY_A, false }, { 'A', KEY_A, true }, { '!', KEY_1, true }, { '~', KEY_GRAVE, true }, { '\\', KEY_BACKSLASH, false },
		{ '?', KEY_SLASH, true }, { '0', KEY_0, false }, { '\'', KEY_APOSTROPHE, false }, { '{', KEY_LEFTBRACE, true },
		{ 0xff0d, KEY_ENTER, false }, { 0xffbe, KEY_F1, false }, { 0xffc9, KEY_F12, false }, { 0xffff, KEY_DELETE, false },
		{ 0xffe3, KEY_LEFTCTRL, false }, { 0x01000041, KEY_A, true }, { ' ', KEY_SPACE, false }, { 'z', KEY_Z, false },
	};
	bool shift;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		const struct key_info *k = key_by_keysym(t[i].sym, &shift);

		assert_non_null(k);
		assert_int_equal(k->evdev, t[i].code);
		assert_int_equal(shift, t[i].shift);
	}
	for (uint32_t c = ' '; c < 0x7f; c++)
		assert_non_null(key_by_char(c, &shift));
	assert_null(key_by_keysym(0xe4, NULL));
	assert_null(key_by_keysym(7, NULL));
	assert_null(key_by_keysym(UINT32_MAX, NULL));
}

/* After power-on the controller translates to set 1. */
static void test_i8042(void **state)
{
	key(KEY_A, true);
	key(KEY_A, false);
	key(KEY_RIGHT, true);
	key(KEY_RIGHT, false);
	expect("\x1e\x9e\xe0\x4d\xe0\xcd", 6);
	key(KEY_PAUSE, true);
	key(KEY_PAUSE, false);
	expect("\xe1\x1d\x45\xe1\x9d\xc5", 6);
	assert_false(input_key(in, KEY_B, false));	/* was not down */
	assert_false(input_key(in, 0, true));
	assert_false(input_key(in, 300, true));
	key(KEY_F7, true);
	key(KEY_F7, false);
	expect("\x41\xc1", 2);
}

/* More than the keyboard has room for waits, and nothing is lost or stuck. */
static void test_burst(void **state)
{
	uint8_t got[8];
	unsigned sent = 0;

	for (unsigned i = 0; i < 300; i++) {
		key(KEY_X, true);
		key(KEY_X, false);
	}
	for (; drain(got, 2) == 2; sent++)
		assert_memory_equal(got, "\x2d\xad", 2);
	assert_int_equal(sent, 300);
	/* Nobody reads: at some point keys are dropped, but never the end of one that is down. */
	for (unsigned i = 0; i < 5000; i++)
		if (input_key(in, KEY_X, true))
			assert_true(input_key(in, KEY_X, false));
	assert_true(input_full(in));
	for (sent = 0; drain(got, 2) == 2; sent++)
		assert_memory_equal(got, "\x2d\xad", 2);
	assert_in_range(sent, 500, 530);
}

static void test_mouse(void **state)
{
	uint8_t got[32];

	outb_(m, 0x64, 0xd4);
	outb_(m, 0x60, 0xf4);			/* reporting on */
	drain(got, sizeof(got));
	input_rel(in, 5, 3, 0, INPUT_LEFT);
	expect("\x29\x05\xfd", 3);		/* y counts upwards */
	input_abs(in, 10, 10, 640, 480, 0, 0);	/* the first position is no motion */
	expect("\x08\x00\x00", 3);
	input_abs(in, 20, 5, 640, 480, 0, 0);
	expect("\x08\x0a\x05", 3);
	input_abs(in, 5000, 5, 640, 480, 0, 0);	/* beyond the edge; 619 to the right in three steps */
	expect("\x08\xff\x00\x08\xff\x00\x08\x6d\x00", 9);
	assert_false(input_has_abs(in));
}

struct tablet { unsigned x, y, buttons; int wheel; };
static void on_abs(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	*(struct tablet *)opaque = (struct tablet){ x, y, buttons, wheel };
}

static void test_tablet(void **state)
{
	struct tablet t = { 0 };
	struct input_device dev = { .abs = on_abs, .opaque = &t };

	input_add(in, &dev);
	assert_true(input_has_abs(in));
	input_abs(in, 639, 0, 640, 480, -1, INPUT_RIGHT);
	assert_true(t.x == INPUT_ABS_MAX && t.y == 0 && t.wheel == -1 && t.buttons == INPUT_RIGHT);
	input_abs(in, 1, 9999, 1, 480, 0, 0);
	assert_true(t.x == 0 && t.y == INPUT_ABS_MAX);
	input_abs(in, 1, 1, 0, 0, 0, 0);
	assert_true(t.x == 0 && t.y == 0);
	key(KEY_A, true);			/* keys still go to the keyboard */
	expect("\x1e", 1);
	input_del(in, &dev);
	assert_false(input_has_abs(in));
}

static void test_reset(void **state)
{
	uint8_t got[8];

	for (unsigned i = 0; i < 100; i++)
		input_key(in, KEY_A, true);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(drain(got, 8), 0);
	assert_false(input_key(in, KEY_A, false));
}

static void test_chord(void **state)
{
	struct keyseq s;
	struct err e;

	assert_int_equal(keyseq_chord("ctrl-alt-delete", 100, &s, &e), 0);
	assert_int_equal(s.n, 6);
	assert_true(s.step[0].code == KEY_LEFTCTRL && s.step[2].code == KEY_DELETE && s.step[2].down && s.step[2].wait_ms == 100);
	assert_true(s.step[3].code == KEY_DELETE && !s.step[3].down && s.step[5].code == KEY_LEFTCTRL);
	keyseq_free(&s);
	assert_int_equal(keyseq_chord("0x1c", 0, &s, &e), 0);
	assert_int_equal(s.n, 2);
	keyseq_free(&s);
	assert_int_equal(keyseq_chord("ctrl-frob", 0, &s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "frob"));
	assert_int_equal(keyseq_chord("", 0, &s, &e), -EINVAL);
	assert_int_equal(keyseq_chord("a-", 0, &s, &e), -EINVAL);
	assert_int_equal(keyseq_chord("a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a", 0, &s, &e), -E2BIG);
	assert_int_equal(keyseq_chord("a", 60001, &s, &e), -EINVAL);
}

static void test_text(void **state)
{
	struct keyseq s;
	struct err e;

	assert_int_equal(keyseq_text("aB\n", &s, &e), 0);
	assert_int_equal(s.n, 2 + 4 + 2);
	assert_true(s.step[2].code == KEY_LEFTSHIFT && s.step[2].down && s.step[3].code == KEY_B);
	assert_true(s.step[5].code == KEY_LEFTSHIFT && !s.step[5].down && s.step[6].code == KEY_ENTER);
	keyseq_free(&s);
	assert_int_equal(keyseq_text("x\xc3\xa4y", &s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "'\xc3\xa4'"));
	assert_int_equal(keyseq_text("\xff", &s, &e), -EINVAL);
	assert_int_equal(keyseq_text("\xe2\x82", &s, &e), -EINVAL);
}

static unsigned ended;
static void on_end(void *opaque) { ended++; }

static void test_play(void **state)
{
	struct keyseq_player *p;
	struct keyseq s;
	uint8_t got[64];
	unsigned n = 0;

	ended = 0;
	machine_lock(m);
	assert_int_equal(keyseq_player_new(m->loop, in, &p), 0);
	assert_int_equal(keyseq_text("a!", &s, NULL), 0);
	assert_int_equal(keyseq_play(p, &s, on_end, NULL), 0);
	assert_int_equal(keyseq_chord("ctrl-c", 20, &s, NULL), 0);
	assert_int_equal(keyseq_play(p, &s, on_end, NULL), 0);
	machine_unlock(m);
	for (unsigned i = 0; i < 1000 && ended < 2; i++) {
		loop_turn(m->loop, 20);
		n += drain(got + n, sizeof(got) - n);
	}
	assert_int_equal(ended, 2);
	assert_int_equal(n, 10);
	assert_memory_equal(got, "\x1e\x9e\x2a\x02\x82\xaa\x1d\x2e\xae\x9d", 10);
	/* Ended in the middle: what is down comes up. */
	machine_lock(m);
	assert_int_equal(keyseq_chord("ctrl-c", 60000, &s, NULL), 0);
	assert_int_equal(keyseq_play(p, &s, on_end, NULL), 0);
	machine_unlock(m);
	loop_turn(m->loop, 20);
	machine_lock(m);
	keyseq_player_free(p);
	machine_unlock(m);
	assert_int_equal(drain(got, 64), 4);
	assert_memory_equal(got, "\x1d\x2e\x9d\xae", 4);
	assert_int_equal(ended, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_keysyms),
		cmocka_unit_test_setup_teardown(test_i8042, setup, teardown),
		cmocka_unit_test_setup_teardown(test_burst, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mouse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tablet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
		cmocka_unit_test(test_chord),
		cmocka_unit_test(test_text),
		cmocka_unit_test_setup_teardown(test_play, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
