/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the mux: what is typed goes to one front end, the escape character's keys are nobody's, what front
 * ends write comes out whole, a front end that takes nothing leaves the escape working, and places come and go.
 */
#include "../unit.h"

#include "chardev/chardev.h"

struct end {
	struct chardev *c;
	char in[256];
	size_t n, room;
	unsigned brk, hangup, opened, writable;
	int focus;
};

struct ctx {
	struct loop *l;
	struct chardev *base, *mux;
	struct end end[CHARDEV_MUX_PARTS];
	char out[4096];
	size_t n_out;
	unsigned quit, save;
};

static size_t can_read(void *o) { return ((struct end *)o)->room; }
static void on_break(void *o) { ((struct end *)o)->brk++; }
static void on_hangup(void *o) { ((struct end *)o)->hangup++; }
static void on_focus(void *o, bool here) { ((struct end *)o)->focus = here; }
static void on_quit(void *o) { ((struct ctx *)o)->quit++; }

static void on_read(void *o, const uint8_t *buf, size_t len)
{
	struct end *e = o;

	assert_true(len <= e->room && e->n + len < sizeof(e->in));
	memcpy(e->in + e->n, buf, len);
	e->n += len;
}

static const char *on_save(void *o)
{
	((struct ctx *)o)->save++;
	return "saved\r\n";
}

static void sink(void *o, const uint8_t *buf, size_t len)
{
	struct ctx *c = o;

	assert_true(c->n_out + len < sizeof(c->out));
	memcpy(c->out + c->n_out, buf, len);
	c->n_out += len;
}

static void join(struct ctx *c, unsigned i, bool behind)
{
	struct end *e = &c->end[i];

	e->room = 100;
	assert_int_equal(chardev_mux_part(c->mux, behind, &e->c), 0);
	chardev_attach(e->c, &(struct chardev_front){ .can_read = can_read, .read = on_read, .brk = on_break, .hangup = on_hangup,
						       .focus = on_focus, .opaque = e });
}

static int setup(void **state)
{
	struct ctx *c = calloc(1, sizeof(*c));

	assert_int_equal(loop_new(&c->l), 0);
	assert_int_equal(chardev_pipe_new(c->l, sink, c, &c->base), 0);
	assert_int_equal(chardev_mux_new(c->l, c->base, &(struct chardev_mux_opts){ .escape = 1, .quit = on_quit, .save = on_save, .opaque = c },
					 &c->mux), 0);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *c = *state;

	chardev_free(c->mux);
	loop_free(c->l);
	free(c);
	return 0;
}

static void type(struct ctx *c, const char *text)
{
	assert_int_equal(chardev_feed(c->base, (const uint8_t *)text, strlen(text)), strlen(text));
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_turn(c->l, 0), 0);
}

static void got(struct end *e, const char *text)
{
	assert_int_equal(e->n, strlen(text));
	assert_memory_equal(e->in, text, e->n);
	e->n = 0;
}

static void focus_goes_round(void **state)
{
	struct ctx *c = *state;

	join(c, 0, true);
	join(c, 1, false);
	assert_true(chardev_mux_away(c->end[0].c));
	assert_false(chardev_mux_away(c->end[1].c));
	type(c, "ab\001cde");
	got(&c->end[1], "ab");
	got(&c->end[0], "de");
	assert_int_equal(c->end[0].focus, 1);
	assert_int_equal(c->end[1].focus, 0);
	/* The escape character itself, and keys that mean nothing. */
	type(c, "\001\001x\001qy\001");
	type(c, "cz");
	got(&c->end[0], "\001xy");
	got(&c->end[1], "z");
	join(c, 2, true);
	type(c, "1");
	got(&c->end[1], "1");
	type(c, "\001c2\001c3");
	got(&c->end[2], "2");
	got(&c->end[0], "3");
}

static void keys_of_the_escape(void **state)
{
	struct ctx *c = *state;

	join(c, 0, false);
	join(c, 1, false);
	type(c, "\001b");
	assert_int_equal(c->end[1].brk, 1);
	assert_int_equal(c->end[0].brk, 0);
	chardev_break(c->mux);
	assert_int_equal(c->end[1].brk, 2);
	/* From the other side, as telnet's. */
	chardev_break(c->base);
	assert_int_equal(c->end[1].brk, 3);
	assert_int_equal(c->end[0].brk, 0);
	type(c, "\001s\001x");
	assert_int_equal(c->save, 1);
	assert_int_equal(c->quit, 1);
	c->out[c->n_out] = '\0';
	assert_string_equal(c->out, "saved\r\n");
	type(c, "\001h");
	c->out[c->n_out] = '\0';
	assert_non_null(strstr(c->out, "C-a c    switch between console and monitor\r\n"));
	assert_non_null(strstr(c->out, "C-a C-a  sends C-a\r\n"));
	got(&c->end[1], "");
}

static void one_that_is_stuck(void **state)
{
	struct ctx *c = *state;

	join(c, 0, false);
	join(c, 1, false);
	c->end[1].room = 0;
	type(c, "lost in the buffer");
	type(c, "\001chere");
	got(&c->end[0], "here");
	c->end[1].room = 100;
	chardev_kick(c->end[1].c);
	type(c, "");
	got(&c->end[1], "lost in the buffer");
}

static void places_come_and_go(void **state)
{
	struct ctx *c = *state;
	struct chardev *one = NULL;

	assert_int_equal(chardev_mux_part(c->base, false, &one), -EINVAL);
	assert_false(chardev_in_use(c->mux));
	for (unsigned i = 0; i < CHARDEV_MUX_PARTS; i++)
		join(c, i, false);
	assert_true(chardev_in_use(c->mux));
	assert_int_equal(chardev_mux_part(c->mux, false, &one), -E2BIG);
	chardev_mux_drop(c->end[3].c);
	assert_int_equal(c->end[0].focus, 1);
	type(c, "a\001cb");
	got(&c->end[0], "a");
	got(&c->end[1], "b");
	chardev_mux_drop(c->end[0].c);
	type(c, "c");
	got(&c->end[1], "c");
	chardev_write(c->end[1].c, (const uint8_t *)"one ", 4);
	chardev_write(c->end[2].c, (const uint8_t *)"two", 3);
	type(c, "");
	assert_int_equal(c->n_out, 7);
	assert_memory_equal(c->out, "one two", 7);
	chardev_feed_eof(c->base);
	type(c, "");
	assert_int_equal(c->end[1].hangup + c->end[2].hangup, 2);
	assert_false(chardev_is_open(c->mux));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(focus_goes_round, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_of_the_escape, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_is_stuck, setup, teardown),
		cmocka_unit_test_setup_teardown(places_come_and_go, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
