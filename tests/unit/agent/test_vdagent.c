/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's side of SPICE's agent, from the guest's: capabilities, both directions of a clipboard, nonsense, saved state. */
#include "../unit.h"

#include "agent/vdagent.h"
#include "base/bits.h"
#include "chardev/chardev.h"
#include "display/clipboard.h"
#include "machine/machine.h"

enum { CLIPBOARD = 4, CAPABILITIES = 6, GRAB, REQUEST, RELEASE, MAX_CLIPBOARD = 14 };
#define OURS (1u << 5 | 1u << 6 | 1u << 16 | 1u << 17)
#define DEBIAN (OURS | 1u << 8 | 1u << 10)		/* what matters here of what Debian's announces: LF, a limit */
#define ROOM (3u << 20)

struct fix {
	struct machine *m;
	struct clipboard *c;
	struct vdagent *a;
	struct chardev *chr;
	struct clipboard_peer viewer;
	unsigned told;
	size_t can_read;		/* that the guest takes */
	uint8_t *in;			/* what it got and has not looked at */
	size_t n_in;
	/* the last message */
	unsigned type;
	uint8_t *body;
	uint32_t len;
};

static size_t can_read(void *opaque) { return ((struct fix *)opaque)->can_read; }
static void do_read(void *opaque, const uint8_t *p, size_t n)
{
	struct fix *f = opaque;

	assert_true(f->n_in + n <= ROOM && n <= f->can_read);
	memcpy(f->in + f->n_in, p, n);
	f->n_in += n;
	f->can_read -= n;
}

static void on_viewer(void *opaque) { ((struct fix *)opaque)->told++; }

static void attach(struct fix *f)
{
	const struct chardev_front front = { .can_read = can_read, .read = do_read, .opaque = f };

	f->chr = vdagent_chardev(f->a);
	chardev_attach(f->chr, &front);
	f->can_read = ROOM;
	f->n_in = 0;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	f->in = malloc(ROOM);
	f->body = malloc(ROOM);
	assert_int_equal(machine_new(&f->m, false), 0);
	assert_int_equal(clipboard_new(&f->c), 0);
	assert_int_equal(vdagent_new(f->m, "vdagent0", f->c, &f->a, &e), 0);
	clipboard_join(f->c, &f->viewer, f->m->loop, on_viewer, f);
	attach(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_free_devs(f->m);
	vdagent_free(f->a);
	clipboard_leave(&f->viewer);
	clipboard_free(f->c);
	machine_free(f->m);
	free(f->in);
	free(f->body);
	free(f);
	return 0;
}

static void turns(struct fix *f)
{
	for (unsigned i = 0; i < 80; i++)
		loop_turn(f->m->loop, 0);
}

/* ---- the guest ---- */

static void say_raw(struct fix *f, const void *p, size_t n)
{
	for (size_t done = 0; done < n; loop_turn(f->m->loop, 0))
		done += chardev_write(f->chr, (const uint8_t *)p + done, n - done);
}

static void head(uint8_t out[28], unsigned port, unsigned type, uint32_t size)
{
	memset(out, 0, 28);
	st_le32(out, port);
	st_le32(out + 4, 20 + size);
	st_le32(out + 8, 1);
	st_le32(out + 12, type);
	st_le32(out + 24, size);
}

static void say(struct fix *f, unsigned type, const void *body, uint32_t size)
{
	uint8_t h[28];

	head(h, 1, type, size);
	say_raw(f, h, sizeof(h));
	if (size)
		say_raw(f, body, size);
	turns(f);
}

static void say_words(struct fix *f, unsigned type, unsigned n, uint32_t one, uint32_t two)
{
	uint32_t w[3] = { 0, one, two };

	say(f, type, w, 4 + 4 * n);
}

static void say_text(struct fix *f, const char *text, size_t n)
{
	uint8_t *b = malloc(8 + n);

	memset(b, 0, 8);
	st_le32(b + 4, 1);
	memcpy(b + 8, text, n);
	say(f, CLIPBOARD, b, (uint32_t)(8 + n));
	free(b);
}

/* The next message, put together from its chunks; false: none has come. */
static bool next(struct fix *f)
{
	uint32_t have = 0, want = 20;
	uint8_t *all;
	size_t at = 0;

	if (!f->n_in)
		return false;
	all = malloc(f->n_in);
	while (have < want) {
		uint32_t n = ld_le32(f->in + at + 4);

		assert_true(f->n_in - at >= 8 && ld_le32(f->in + at) == 1 && n && n <= 2048 && f->n_in - at - 8 >= n);
		memcpy(all + have, f->in + at + 8, n);
		at += 8 + n;
		have += n;
		if (have >= 20)
			want = 20 + ld_le32(all + 16);
	}
	assert_int_equal(have, want);
	assert_int_equal(ld_le32(all), 1);
	f->type = ld_le32(all + 4);
	f->len = want - 20;
	memcpy(f->body, all + 20, f->len);
	free(all);
	f->n_in -= at;
	memmove(f->in, f->in + at, f->n_in);
	return true;
}

static void expect(struct fix *f, unsigned type, unsigned n, ...)
{
	va_list ap;

	if (!next(f))
		fail_msg("message %u did not come", type);
	assert_int_equal(f->type, type);
	assert_int_equal(f->len, 4 * n);
	va_start(ap, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(ld_le32(f->body + 4 * i), va_arg(ap, unsigned));
	va_end(ap);
}

/* The agent starts: both say what they can. */
static void greet(struct fix *f, uint32_t caps)
{
	uint32_t w[2] = { 1, caps };

	chardev_guest_open(f->chr, true);
	turns(f);
	expect(f, CAPABILITIES, 2, 1, OURS);
	say(f, CAPABILITIES, w, 8);
	expect(f, CAPABILITIES, 2, 0, OURS);
	if (caps & 1u << 10)
		expect(f, MAX_CLIPBOARD, 1, CLIPBOARD_MAX);
}

/* ---- tests ---- */

static void test_guest_copies(void **state)
{
	struct fix *f = *state;
	struct clipboard_state s;
	char *text;
	size_t len;

	greet(f, DEBIAN);
	say_text(f, "nobody asked", 12);
	say_words(f, GRAB, 2, 0, 1);		/* serial, type */
	clipboard_look(&f->viewer, &s);
	assert_true(s.held && !s.mine);
	assert_false(next(f));			/* until somebody pastes */
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	f->told = 0;
	say_text(f, "caf\xc3\xa9\r\nline\xff\n", 13);
	assert_int_equal(f->told, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), 0);
	assert_string_equal(text, "caf\xc3\xa9\nline?\n");
	assert_int_equal(len, strlen(text));
	free(text);
	turns(f);
	assert_false(next(f));			/* it is kept: not asked again */
	say_words(f, RELEASE, 0, 0, 0);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -ENOENT);
	/* A picture: what was there is gone. */
	say_words(f, GRAB, 2, 1, 1);
	say_words(f, GRAB, 2, 2, 2);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	/* The other selections are the guest's own. */
	say(f, GRAB, (uint32_t[]){ 1, 3, 1 }, 12);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
}

static void test_viewer_copies(void **state)
{
	struct fix *f = *state;

	clipboard_take(&f->viewer);		/* before there was an agent */
	greet(f, DEBIAN);
	expect(f, GRAB, 3, 0, 0, 1);
	say_words(f, REQUEST, 1, 2, 0);		/* a picture: no */
	expect(f, CLIPBOARD, 2, 0, 0);
	say_words(f, REQUEST, 1, 1, 0);
	say_words(f, REQUEST, 1, 1, 0);
	assert_false(next(f));
	clipboard_put(&f->viewer, "two\nlines", 9);
	turns(f);
	for (unsigned i = 0; i < 2; i++) {	/* each request has its answer */
		assert_true(next(f));
		assert_int_equal(f->type, CLIPBOARD);
		assert_int_equal(f->len, 8 + 9);
		assert_memory_equal(f->body, "\0\0\0\0\1\0\0\0two\nlines", 17);
	}
	clipboard_take(&f->viewer);
	turns(f);
	expect(f, GRAB, 3, 0, 1, 1);
	say_words(f, REQUEST, 1, 1, 0);
	clipboard_drop(&f->viewer);
	turns(f);
	expect(f, RELEASE, 1, 0);
	expect(f, CLIPBOARD, 2, 0, 0);		/* nothing, after all */
	assert_false(next(f));
}

/* Both at once: ours wins, on both sides. */
static void test_serials(void **state)
{
	struct fix *f = *state;
	struct clipboard_state s;

	greet(f, DEBIAN);
	clipboard_take(&f->viewer);
	turns(f);
	say_words(f, GRAB, 2, 0, 1);		/* sent before it knew */
	clipboard_look(&f->viewer, &s);
	assert_true(s.mine);
	expect(f, GRAB, 3, 0, 0, 1);
	say_words(f, GRAB, 2, 1, 1);
	clipboard_look(&f->viewer, &s);
	assert_false(s.mine);
	clipboard_take(&f->viewer);
	turns(f);
	expect(f, GRAB, 3, 0, 2, 1);
	/* The agent begins anew, and so do serials. */
	say(f, CAPABILITIES, (uint32_t[]){ 1, DEBIAN }, 8);
	expect(f, CAPABILITIES, 2, 0, OURS);
	expect(f, MAX_CLIPBOARD, 1, CLIPBOARD_MAX);
	expect(f, GRAB, 3, 0, 0, 1);
}

/* An agent of another kind: no selections, no serials, CRLF. */
static void test_old_agent(void **state)
{
	struct fix *f = *state;
	char *text;
	size_t len;

	greet(f, 1u << 5 | 1u << 9);
	clipboard_take(&f->viewer);
	clipboard_put(&f->viewer, "a\nb", 3);
	turns(f);
	expect(f, GRAB, 1, 1);
	say(f, REQUEST, (uint32_t[]){ 1 }, 4);
	assert_true(next(f));
	assert_int_equal(f->len, 4 + 4);
	assert_memory_equal(f->body, "\1\0\0\0a\r\nb", 8);
	say(f, GRAB, (uint32_t[]){ 1 }, 4);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 1, 1);
	say(f, CLIPBOARD, "\1\0\0\0x\r\ny", 8);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), 0);
	assert_string_equal(text, "x\ny");
	free(text);
	say(f, CLIPBOARD, "\1\0\0\0unasked", 11);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), 0);
	assert_string_equal(text, "x\ny");
	free(text);
	/* One that cannot be asked is no use. */
	chardev_guest_open(f->chr, false);
	chardev_guest_open(f->chr, true);
	turns(f);
	expect(f, CAPABILITIES, 2, 1, OURS);
	say(f, CAPABILITIES, (uint32_t[]){ 0, 1u << 3 }, 8);
	say(f, GRAB, (uint32_t[]){ 1 }, 4);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -ENOENT);
}

/* More than there may be is nothing; a megabyte goes through, byte by byte and at once. */
static void test_sizes(void **state)
{
	struct fix *f = *state;
	char *big = malloc(CLIPBOARD_RAW_MAX + 9), *text;
	struct clipboard_state s;
	size_t len;
	uint8_t h[28];

	memset(big, 'x', CLIPBOARD_RAW_MAX + 9);
	greet(f, DEBIAN);
	say_words(f, GRAB, 2, 0, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	head(h, 1, CLIPBOARD, 8 + CLIPBOARD_MAX);
	for (unsigned i = 0; i < sizeof(h); i++)
		say_raw(f, h + i, 1);
	say_raw(f, "\0\0\0\0\1\0\0", 7);
	say_raw(f, "\0", 1);
	for (unsigned i = 0; i < CLIPBOARD_MAX; i += 1u << 14)
		say_raw(f, big, 1u << 14);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), 0);
	assert_int_equal(len, CLIPBOARD_MAX);
	free(text);
	say_words(f, GRAB, 2, 1, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	say_text(f, big, CLIPBOARD_MAX + 1);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	say_words(f, GRAB, 2, 2, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	say_text(f, big, CLIPBOARD_RAW_MAX + 9);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	say_words(f, GRAB, 2, 3, 1);		/* and it goes on */
	clipboard_look(&f->viewer, &s);
	assert_true(s.held);
	/* The same way out, to a guest that takes it bit by bit. */
	clipboard_take(&f->viewer);
	clipboard_put(&f->viewer, big, CLIPBOARD_MAX);
	turns(f);
	expect(f, GRAB, 3, 0, 4, 1);
	f->can_read = 0;
	say_words(f, REQUEST, 1, 1, 0);
	for (unsigned i = 0; i < 400 && f->n_in < 1064000; i++) {
		f->can_read = 1 + i * 40;
		chardev_kick(f->chr);
		turns(f);
	}
	assert_true(next(f));
	assert_int_equal(f->type, CLIPBOARD);
	assert_int_equal(f->len, 8 + CLIPBOARD_MAX);
	free(big);
}

/* Messages in pieces, of other ports, of no meaning, and what is no protocol at all. */
static void test_nonsense(void **state)
{
	struct fix *f = *state;
	struct clipboard_state s;
	uint8_t h[28];

	say_words(f, GRAB, 2, 0, 1);		/* nobody has opened the port */
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	greet(f, DEBIAN);
	head(h, 2, GRAB, 12);			/* the SPICE server's, and one nobody has */
	say_raw(f, h, sizeof(h));
	say_raw(f, (uint32_t[]){ 0, 0, 1 }, 12);
	head(h, 77, GRAB, 12);
	say_raw(f, h, sizeof(h));
	say_raw(f, (uint32_t[]){ 0, 0, 1 }, 12);
	say(f, 99, (uint32_t[]){ 0, 0, 1 }, 12);
	say(f, GRAB, NULL, 0);
	say(f, CAPABILITIES, NULL, 0);
	say(f, REQUEST, NULL, 0);
	say(f, RELEASE, "\0", 1);
	say_words(f, GRAB, 0, 0, 0);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	/* One message in three chunks, the second of them empty. */
	head(h, 1, GRAB, 12);
	st_le32(h + 4, 6);
	say_raw(f, h, 14);
	say_raw(f, (uint32_t[]){ 1, 0, 1, 26 }, 16);
	say_raw(f, h + 14, 14);
	say_raw(f, (uint32_t[]){ 0, 0, 1 }, 12);
	clipboard_look(&f->viewer, &s);
	assert_true(s.held);
	for (unsigned i = 0; i < 100; i++)	/* more than are answered */
		say_words(f, REQUEST, 1, 5, 0);
	turns(f);
	while (next(f))
		;
	head(h, 1, RELEASE, 4);
	st_le32(h + 8, 2);			/* protocol 2 */
	say_raw(f, h, sizeof(h));
	say_words(f, RELEASE, 0, 0, 0);
	clipboard_look(&f->viewer, &s);
	assert_true(s.held);			/* it is not listened to */
	chardev_guest_open(f->chr, false);
	clipboard_look(&f->viewer, &s);
	assert_false(s.held);
	greet(f, DEBIAN);			/* until it begins anew */
}

/* What the last one has not read the next one does not get. */
static void test_reopened(void **state)
{
	struct fix *f = *state;

	greet(f, DEBIAN);
	f->can_read = 0;
	clipboard_take(&f->viewer);
	clipboard_put(&f->viewer, "secret", 6);
	turns(f);
	say_words(f, REQUEST, 1, 1, 0);
	chardev_guest_open(f->chr, false);
	clipboard_drop(&f->viewer);
	f->can_read = ROOM;
	chardev_kick(f->chr);
	turns(f);
	assert_int_equal(f->n_in, 0);
	greet(f, DEBIAN);
	assert_false(next(f));
}

static void save_and_load(struct fix *f)
{
	struct snap_out *o;
	struct snap_in *in;
	const void *data;
	struct err e = { "" };
	size_t len;

	assert_int_equal(snap_out_new(&o), 0);
	list_for_each(n, &f->m->devs)
		assert_int_equal(list_entry(n, struct dev, node)->ops->save(list_entry(n, struct dev, node), o), 0);
	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	machine_free_devs(f->m);
	vdagent_free(f->a);
	clipboard_drop(&f->viewer);
	assert_int_equal(vdagent_new(f->m, "vdagent0", f->c, &f->a, &e), 0);
	f->chr = vdagent_chardev(f->a);
	list_for_each(n, &f->m->devs)
		assert_int_equal(list_entry(n, struct dev, node)->ops->load(list_entry(n, struct dev, node), in, &e), 0);
	snap_in_free(in);
	snap_out_free(o);
}

/* Saved and loaded in the middle of messages both ways; the viewers are others then. */
static void test_saved(void **state)
{
	struct fix *f = *state;
	struct clipboard_state s;
	char big[5000], *text;
	size_t len;
	uint8_t h[28];

	greet(f, DEBIAN);
	say_words(f, GRAB, 2, 0, 1);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	head(h, 1, CLIPBOARD, 8 + 4);
	say_raw(f, h, sizeof(h));
	say_raw(f, "\0\0\0\0\1\0\0\0te", 10);	/* the text is cut in two */
	save_and_load(f);
	attach(f);
	clipboard_look(&f->viewer, &s);
	assert_true(s.held && !s.mine);		/* the guest has it still */
	say_raw(f, "xt", 2);			/* nobody of now has asked for that */
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), -EAGAIN);
	turns(f);
	expect(f, REQUEST, 2, 0, 1);
	say_text(f, "anew", 4);
	assert_int_equal(clipboard_get(&f->viewer, &text, &len), 0);
	assert_string_equal(text, "anew");
	free(text);
	/* The viewer's, half of it read by the guest. */
	memset(big, 'y', sizeof(big));
	clipboard_take(&f->viewer);
	clipboard_put(&f->viewer, big, sizeof(big));
	turns(f);
	expect(f, GRAB, 3, 0, 1, 1);
	f->can_read = 2500;
	say_words(f, REQUEST, 1, 1, 0);
	assert_int_equal(f->n_in, 2500);
	save_and_load(f);
	len = f->n_in;
	attach(f);
	f->n_in = len;				/* that it has read */
	turns(f);
	assert_true(next(f));
	assert_int_equal(f->type, CLIPBOARD);
	assert_int_equal(f->len, 8 + sizeof(big));
	assert_memory_equal(f->body + 8, big, sizeof(big));
	expect(f, RELEASE, 1, 0);		/* who had it is gone */
	/* One byte of a head, of both kinds. */
	head(h, 1, GRAB, 12);
	say_raw(f, h, 5);
	save_and_load(f);
	attach(f);
	say_raw(f, h + 5, 10);
	save_and_load(f);
	attach(f);
	say_raw(f, h + 15, 13);
	say_raw(f, (uint32_t[]){ 0, 2, 1 }, 12);
	clipboard_look(&f->viewer, &s);
	assert_true(s.held);
}

/* A saved state that cannot be is refused, and the agent is as after a reset. */
static void test_bad_state(void **state)
{
	struct fix *f = *state;
	struct dev *d = list_entry(f->m->devs.next, struct dev, node);
	struct snap_out *o;
	struct snap_in *in;
	uint8_t *bad, h[28];
	struct err e = { "" };
	const void *data;
	size_t len, refused = 0;

	greet(f, DEBIAN);
	head(h, 1, GRAB, 12);
	say_raw(f, h, sizeof(h));
	say_raw(f, (uint32_t[]){ 0, 0 }, 8);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(d->ops->save(d, o), 0);
	data = snap_out_data(o, &len);
	bad = malloc(len);
	for (size_t i = 0; i < len; i++) {
		memcpy(bad, data, len);
		bad[i] ^= 0xff;
		assert_int_equal(snap_in_new(&in, bad, len), 0);
		refused += d->ops->load(d, in, &e) != 0;
		snap_in_free(in);
		say_raw(f, (uint32_t[]){ 1, 0, 1, 26 }, 16);	/* whatever it is now, nothing is written where it may not be */
		turns(f);
		f->n_in = 0;
		f->can_read = ROOM;
	}
	assert_true(refused > len / 2);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(snap_in_new(&in, data, i), 0);
		assert_true(d->ops->load(d, in, &e) < 0);
		snap_in_free(in);
	}
	free(bad);
	snap_out_free(o);
	chardev_guest_open(f->chr, false);
	turns(f);
	f->n_in = 0;
	greet(f, DEBIAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_guest_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_viewer_copies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_serials, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_agent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reopened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_state, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
