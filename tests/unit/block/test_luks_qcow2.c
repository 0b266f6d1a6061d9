/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS inside qcow2: keys, chains of images with different keys, what is refused,
 * damaged headers.  (Contents: tests/block/crypt.c.)
 */
#include "luks_test.h"

#include "block/qcow2/qcow2.h"

#define SIZE (1u << 20)

static const struct luks_create_opts quick = { .force_iterations = 1000 };

static void make_image(const char *name, const char *key, const char *backing, unsigned version)
{
	const struct qcow2_create_opts o = { .size = SIZE, .version = version, .cluster_size = 4096, .backing = backing,
					     .backing_format = backing ? "qcow2" : NULL, .luks = key ? &quick : NULL,
					     .secrets = secrets, .key = key };
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e = { 0 };

	assert_int_equal(blk_create_file(in_dir(name), true, &e), 0);
	assert_int_equal(blk_open_file(loop, in_dir(name), &fo, &file, &e), 0);
	if (qcow2_create(file, &o, &e))
		fail_msg("%s", e.msg);
	blk_close(file);
}

static int open_named(const char *name, const struct blk_image_opts *o, struct blk_node **n, struct err *e)
{
	e->msg[0] = '\0';
	return blk_open_image(loop, in_dir(name), o, n, e);
}

static void keys_of_images(void **state)
{
	struct blk_image_opts o = with_key(key_good);
	struct qcow2_info i;
	struct blk_extent x;
	struct blk_node *n;
	struct err e;
	uint8_t buf[4096] = { 1, 2, 3 };

	for (unsigned version = 2; version <= 3; version++) {
		make_image("image", "good", NULL, version);
		o = with_key(key_good);
		assert_int_equal(open_named("image", &o, &n, &e), 0);
		assert_true(n->i.encrypted && !n->i.can_compress);
		assert_int_equal(blk_pwrite(n, 4096, buf, 4096), 0);
		assert_int_equal(blk_pwrite_compressed(n, 0, buf, 4096), -ENOTSUP);
		/* Where it lies says nothing about what is there. */
		assert_int_equal(blk_block_status(n, 4096, 4096, false, &x), 0);
		assert_true(x.data && !x.has_offset);
		blk_close(n);
		o = with_key(key_wrong);
		assert_int_equal(open_named("image", &o, &n, &e), -EACCES);
		assert_non_null(strstr(e.msg, "passphrase"));
		o = with_key(NULL);
		assert_int_equal(open_named("image", &o, &n, &e), -EACCES);
		assert_non_null(strstr(e.msg, "no key is given"));
		o.no_key = true;
		assert_int_equal(open_named("image", &o, &n, &e), 0);
		qcow2_get_info(n, &i);
		assert_non_null(i.encryption);
		assert_string_equal(i.encryption->cipher, "aes-xts-plain64");
		assert_int_equal(blk_pread(n, 4096, buf, 4096), -EACCES);
		assert_int_equal(blk_pread(n, 8192, buf, 4096), 0);
		blk_close(n);
		assert_int_equal(buf[0], 0);
		buf[0] = 1;
	}
}

static void chains_of_keys(void **state)
{
	static const char *const both[] = { "wrong", "good" }, *const swapped[] = { "good", "wrong" };
	static const char *const below[] = { NULL, "good" };
	struct blk_image_opts o = { .secrets = secrets, .keys = both, .n_keys = 2 };
	struct blk_node *n;
	struct err e;
	uint8_t a[4096], b[4096];

	memset(a, 7, sizeof(a));
	make_image("base", "good", NULL, 3);
	o.keys = key_good;
	o.n_keys = 1;
	assert_int_equal(open_named("base", &o, &n, &e), 0);
	assert_int_equal(blk_pwrite(n, 0, a, 4096), 0);
	blk_close(n);
	/* "wrong" is the right key of the overlay. */
	make_image("over", "wrong", "base", 3);
	o.keys = both;
	o.n_keys = 2;
	assert_int_equal(open_named("over", &o, &n, &e), 0);
	assert_int_equal(blk_pread(n, 0, b, 4096), 0);
	assert_memory_equal(a, b, 4096);
	assert_int_equal(blk_pwrite(n, 512, b + 512, 512), 0);
	blk_close(n);
	o.keys = swapped;
	assert_int_equal(open_named("over", &o, &n, &e), -EACCES);
	/* An overlay in clear over an encrypted base: the one key is for whoever needs it. */
	make_image("clear", NULL, "base", 3);
	o.keys = key_good;
	o.n_keys = 1;
	assert_int_equal(open_named("clear", &o, &n, &e), 0);
	assert_int_equal(blk_pread(n, 0, b, 4096), 0);
	assert_memory_equal(a, b, 4096);
	assert_false(n->i.encrypted);
	assert_int_equal(qcow2_set_backing(n, NULL, NULL, &e), 0);
	blk_close(n);
	o.keys = below;
	o.n_keys = 2;
	make_image("clear", NULL, "base", 3);
	assert_int_equal(open_named("clear", &o, &n, &e), 0);
	blk_close(n);
	/* Naming another backing file keeps the key. */
	o.keys = both;
	assert_int_equal(open_named("over", &o, &n, &e), 0);
	assert_int_equal(qcow2_set_backing(n, "base", "qcow2", &e), 0);
	blk_close(n);
	assert_int_equal(open_named("over", &o, &n, &e), 0);
	assert_int_equal(blk_pread(n, 0, b, 4096), 0);
	assert_memory_equal(a, b, 4096);
	blk_close(n);
}

static void patch(const char *name, long at, uint64_t v, unsigned len)
{
	FILE *f = fopen(in_dir(name), "r+");

	assert_non_null(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	for (unsigned i = 0; i < len; i++)
		assert_true(fputc((int)(v >> (len - 1 - i) * 8) & 0xff, f) != EOF);
	assert_int_equal(fclose(f), 0);
}

static void damaged_images(void **state)
{
	static const struct {
		long at;
		uint64_t v;
		unsigned len;
		int ret;
	} t[] = {
		{ 32, 1, 4, -ENOTSUP }, { 32, 3, 4, -ENOTSUP }, { 104, 0x12345678, 4, -EINVAL }, { 108, 8, 4, -EINVAL },
		{ 112, 4097, 8, -EINVAL }, { 112, 0, 8, -EINVAL }, { 112, 1ull << 62, 8, -EINVAL }, { 120, 0, 8, -EINVAL },
		{ 120, 1ull << 40, 8, -EINVAL }, { 120, 100, 8, -EINVAL }, { 120, 4096 * 3, 8, -EINVAL },
	};
	const struct blk_image_opts o = with_key(key_good);
	struct blk_node *n;
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		make_image("image", "good", NULL, 3);
		patch("image", t[i].at, t[i].v, t[i].len);
		if (open_named("image", &o, &n, &e) != t[i].ret)
			fail_msg("%ld: %s", t[i].at, e.msg);
		assert_non_null(strstr(e.msg, "image"));
	}
	/* A key for an image whose mark of encryption was taken away. */
	make_image("image", "good", NULL, 3);
	patch("image", 32, 0, 4);
	assert_int_equal(open_named("image", &o, &n, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "nothing in it is encrypted"));
}

static void refused(void **state)
{
	const struct luks_create_opts two = { .version = 2 };
	struct qcow2_create_opts o = { .size = SIZE, .luks = &quick, .secrets = secrets, .key = "nobody" };
	struct blk_node *file;
	struct err e;

	assert_int_equal(blk_open_mem_file(loop, 8 << 20, &file), 0);
	assert_int_equal(qcow2_create(file, &o, &e), -ENOENT);
	o.key = "good";
	o.luks = &two;
	assert_int_equal(qcow2_create(file, &o, &e), -EINVAL);
	o.luks = &quick;
	o.version = 2;
	o.prealloc = QCOW2_PREALLOC_METADATA;
	assert_int_equal(qcow2_create(file, &o, &e), -EINVAL);
	blk_close(file);
}

static void places_are_found(void **state)
{
	const struct qcow2_create_opts o = { .size = SIZE, .prealloc = QCOW2_PREALLOC_METADATA, .luks = &quick, .secrets = secrets,
					     .key = "good" };
	const struct blk_image_opts io = with_key(key_good);
	uint8_t *buf = malloc(SIZE);
	struct blk_node *file, *n;
	struct qcow2_check res = { 0 };
	struct err e;

	/* Preallocated clusters read as zeros, not as what zeros are when decrypted. */
	assert_non_null(buf);
	assert_int_equal(blk_open_mem_file(loop, 8 << 20, &file), 0);
	assert_int_equal(qcow2_create(file, &o, &e), 0);
	assert_int_equal(qcow2_open(file, &io, 0, &n, &e), 0);
	assert_int_equal(blk_pwrite(n, 65536 + 512, "x", 0), 0);
	memset(buf, 5, 512);
	assert_int_equal(blk_pwrite(n, 65536 + 512, buf, 512), 0);
	assert_int_equal(blk_pread(n, 0, buf, SIZE), 0);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(buf[i], i / 512 == 129 ? 5 : 0);
	assert_int_equal(qcow2_check(n, 0, &res, &e), 0);
	assert_true(!res.corruptions && !res.leaks);
	blk_close(n);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_of_images), cmocka_unit_test(chains_of_keys), cmocka_unit_test(damaged_images),
		cmocka_unit_test(refused),	  cmocka_unit_test(places_are_found),
	};

	return cmocka_run_group_tests(tests, luks_setup, luks_teardown);
}
