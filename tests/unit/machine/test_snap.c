/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of saved state: what was put comes back; newer programs read older
 * streams; anything else is refused in words; no byte sequence does harm.
 */
#include "../unit.h"

#include <stdbool.h>

#include "machine/snap.h"

struct thing {
	uint8_t a;
	uint32_t b[3];
	uint64_t c;
	bool flag;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct thing, a),
	SNAP_ARRAY(struct thing, b),
	SNAP_FIELD(struct thing, c),
	SNAP_FIELD(struct thing, flag),
	SNAP_END
};
static const struct snap_table table = { "thing", 1, fields };

static const struct snap_field old_fields[] = {
	SNAP_FIELD(struct thing, a),
	SNAP_END
};
static const struct snap_table old_table = { "thing", 0, old_fields };

static const struct snap_field grown_fields[] = {
	SNAP_FIELD(struct thing, a),
	{ "c", offsetof(struct thing, c), 8, 1, 1, 0 },
	SNAP_END
};
static const struct snap_table grown_table = { "thing", 1, grown_fields };

static struct snap_in *again(struct snap_out *o)
{
	struct snap_in *in;
	size_t len;
	const void *p = snap_out_data(o, &len);

	assert_int_equal(snap_in_new(&in, p, len), 0);
	return in;
}

static void what_was_put_comes_back(void **state)
{
	struct thing t = { 1, { 2, 3, 4 }, 5, true }, u = { 0 };
	struct snap_out *o;
	struct snap_in *in;
	char blob[8];
	uint32_t len;
	struct err e;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(snap_put(o, "pc.thing", &table, &t), 0);
	assert_int_equal(snap_put_blob(o, "pc.thing", "queue", 5), 0);
	in = again(o);
	assert_int_equal(snap_get(in, "pc.thing", &table, &u, &e), 0);
	assert_int_equal(u.a, 1);
	assert_int_equal(u.b[2], 4);
	assert_int_equal(u.c, 5);
	assert_true(u.flag);
	assert_int_equal(snap_get_blob(in, "pc.thing", blob, 8, &len, &e), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(blob, "queue", 5);
	assert_int_equal(snap_get(in, "pc.thing", &table, &u, &e), -EBADMSG);	/* the end */
	snap_in_free(in);
	in = again(o);
	assert_int_equal(snap_get(in, "pc.other", &table, &u, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "pc.thing"));
	snap_in_free(in);
	in = again(o);
	assert_int_equal(snap_get_blob(in, "pc.thing", blob, 8, &len, &e), -EINVAL);
	snap_in_free(in);
	snap_out_free(o);
}

static void tables_may_grow_but_not_shrink(void **state)
{
	struct thing t = { .a = 9, .c = 1 }, u = { .c = 77 };
	struct snap_out *o;
	struct snap_in *in;
	struct err e;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(snap_put(o, "x", &old_table, &t), 0);
	in = again(o);
	assert_int_equal(snap_get(in, "x", &grown_table, &u, &e), 0);
	assert_int_equal(u.a, 9);
	assert_int_equal(u.c, 77);		/* kept: the stream is older */
	snap_in_free(in);
	in = again(o);
	assert_int_equal(snap_get(in, "x", &table, &u, &e), -EINVAL);	/* b was always there */
	assert_non_null(strstr(e.msg, "lacks"));
	snap_in_free(in);
	snap_out_free(o);

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(snap_put(o, "x", &grown_table, &t), 0);
	in = again(o);
	assert_int_equal(snap_get(in, "x", &old_table, &u, &e), -EINVAL);
	snap_in_free(in);
	snap_out_free(o);
}

/* Cuts and flips every byte: an error or success, never harm (run it under the
 * sanitizers); a bool is 0 or 1 whatever the stream says. */
static void damage_does_no_harm(void **state)
{
	struct thing t = { 1, { 2, 3, 4 }, 5, true }, u;
	struct snap_out *o;
	struct snap_in *in;
	const uint8_t *p;
	uint8_t copy[256], raw;
	size_t len;
	struct err e;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(snap_put(o, "pc.thing", &table, &t), 0);
	p = snap_out_data(o, &len);
	assert_true(len < sizeof(copy));
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(snap_in_new(&in, p, i), 0);
		assert_int_equal(snap_get(in, "pc.thing", &table, &u, &e), -EBADMSG);
		snap_in_free(in);
		for (int flip = 1; flip < 256; flip++) {
			memcpy(copy, p, len);
			copy[i] ^= (uint8_t)flip;
			assert_int_equal(snap_in_new(&in, copy, len), 0);
			memset(&u, 0, sizeof(u));
			snap_get(in, "pc.thing", &table, &u, &e);
			memcpy(&raw, &u.flag, 1);
			assert_true(raw <= 1);
			snap_in_free(in);
		}
	}
	snap_out_free(o);
}

static void blobs_do_not_overrun(void **state)
{
	struct snap_out *o;
	struct snap_in *in;
	char b[4];
	uint32_t len;
	struct err e;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(snap_put_blob(o, "q", "12345", 5), 0);
	in = again(o);
	assert_int_equal(snap_get_blob(in, "q", b, 4, &len, &e), -EINVAL);
	snap_in_free(in);
	snap_out_free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_comes_back),
		cmocka_unit_test(tables_may_grow_but_not_shrink),
		cmocka_unit_test(damage_does_no_harm),
		cmocka_unit_test(blobs_do_not_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
