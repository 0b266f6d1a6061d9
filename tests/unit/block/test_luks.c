/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS volumes: made, opened, used; wrong keys; damaged and hostile headers.
 */
#include "luks_test.h"

#include "block/luks/internal.h"
#include "block/luks/luks1.h"
#include "block/luks/luks2.h"

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = (uint8_t)(seed >> 16);
	}
}

static void volumes_keep_what_is_written(void **state)
{
	static const struct luks_create_opts t[] = {
		{ .version = 1 }, { .version = 1, .cipher = "aes-cbc-essiv:sha256", .hash = "sha1" },
		{ .version = 1, .cipher = "aes-cbc-plain64", .key_bits = 128 }, { .version = 1, .key_bits = 256, .hash = "sha512" },
		{ .version = 2, .kdf = "argon2id" }, { .version = 2, .sector_size = 4096, .kdf = "argon2i" },
		{ .version = 2, .sector_size = 1024, .kdf = "pbkdf2", .hash = "sha512", .label = "a name" },
	};
	const size_t len = 1 << 20;
	uint8_t *a = malloc(len), *b = malloc(len);

	assert_true(a && b);
	fill(a, len, 1);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct luks_create_opts o = t[i];
		struct blk_node *file, *n;
		const struct luks_info *info;

		o.size = 2 << 20;
		o.force_iterations = o.kdf && o.kdf[0] == 'a' ? 4 : 1000;
		o.memory = 1024;
		file = volume_in_memory(&o);
		n = open_volume(file, key_good);
		info = luks_get_info(n);
		assert_int_equal(n->i.size, 2 << 20);
		assert_int_equal(info->version, o.version);
		assert_int_equal(info->sector_size, o.sector_size ? o.sector_size : 512);
		assert_string_equal(info->label, o.label ? o.label : "");
		assert_true(n->i.encrypted);
		/* Odd pieces, large and small. */
		assert_int_equal(blk_pwrite(n, 512, a, len - 1024), 0);
		assert_int_equal(blk_pwrite(n, 7 * 512, a + 100, 512), 0);
		assert_int_equal(blk_pread(n, 512, b, len - 1024), 0);
		memcpy(b + 6 * 512, a + 6 * 512, 512);
		assert_memory_equal(a, b, len - 1024);
		assert_int_equal(blk_pread(n, 7 * 512, b, 512), 0);
		assert_memory_equal(b, a + 100, 512);
		assert_int_equal(blk_pwrite_zeroes(n, 5 * 512, 300000 / 512 * 512, true), 0);
		assert_int_equal(blk_pread(n, 0, b, len), 0);
		for (unsigned k = 0; k < 300000 / 512 * 512; k++)
			assert_int_equal(b[5 * 512 + k], 0);
		assert_memory_equal(b + 512, a, 4 * 512);
		/* None of it is in the file. */
		assert_null(memmem(blk_mem_data(file), file->i.size, a, 16));
		blk_close(n);
	}
	free(a);
	free(b);
}

/* Requests of all sizes at once, over sectors larger than they are. */
static void requests_at_once(void **state)
{
	enum { N = 24 };
	struct luks_create_opts o = cheap(2, 24 << 20);
	struct waited w[N];
	struct iovec v[N];
	uint8_t *buf[N], *model = calloc(1, 24 << 20), *got = malloc(24 << 20);
	struct blk_node *file, *n;
	unsigned seed = 5;

	o.sector_size = 4096;
	file = volume_in_memory(&o);
	n = open_volume(file, key_good);
	assert_int_equal(blk_pwrite(n, 0, model, 24 << 20), 0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N; i++) {
			/* Neighbours that share sectors but no bytes; now and then a long one. */
			uint64_t at = (uint64_t)i * (1 << 20) + (i + round) % 5 * 512;
			uint64_t len = (i * 7 + round) % 3 ? (1 << 20) - (i + round) % 5 * 512 : 512 * (1 + round % 9);

			buf[i] = malloc(len);
			assert_non_null(buf[i]);
			fill(buf[i], len, seed += 77);
			memcpy(model + at, buf[i], len);
			v[i] = (struct iovec){ buf[i], len };
			w[i] = (struct waited){ .r = { .op = BLK_WRITE, .offset = at, .len = len, .iov = &v[i], .niov = 1,
						       .fua = i % 7 == 0, .done = waited_done } };
			w[i].r.opaque = &w[i];
			blk_submit(n, &w[i].r);
		}
		blk_drain(n);
		for (unsigned i = 0; i < N; i++) {
			assert_true(w[i].done && !w[i].ret);
			free(buf[i]);
		}
	}
	assert_int_equal(blk_buf(loop, n, BLK_READ, 0, got, 24 << 20), 0);
	assert_memory_equal(got, model, 24 << 20);
	blk_close(n);
	free(model);
	free(got);
}

static void small_writes_into_one_sector(void **state)
{
	struct luks_create_opts o = cheap(2, 1 << 20);
	struct waited w[16];
	struct iovec v[16];
	uint8_t data[16][512], got[8192];
	struct blk_node *n;

	o.sector_size = 4096;
	n = open_volume(volume_in_memory(&o), key_good);
	for (unsigned i = 0; i < 16; i++) {
		fill(data[i], 512, i);
		v[i] = (struct iovec){ data[i], 512 };
		w[i] = (struct waited){ .r = { .op = BLK_WRITE, .offset = i * 512, .len = 512, .iov = &v[i], .niov = 1,
					       .done = waited_done } };
		w[i].r.opaque = &w[i];
		blk_submit(n, &w[i].r);
	}
	blk_drain(n);
	assert_int_equal(blk_pread(n, 0, got, sizeof(got)), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_memory_equal(got + i * 512, data[i], 512);
	blk_close(n);
}

static void wrong_keys(void **state)
{
	for (unsigned version = 1; version <= 2; version++) {
		struct luks_create_opts o = cheap(version, 1 << 20);
		struct blk_image_opts io = with_key(key_wrong);
		struct blk_node *file = volume_in_memory(&o), *n;
		struct err e = { 0 };
		uint8_t buf[512];

		assert_int_equal(luks_open(file, &io, 0, &n, &e), -EACCES);
		assert_non_null(strstr(e.msg, "passphrase"));
		io = with_key(NULL);
		assert_int_equal(luks_open(file, &io, 0, &n, &e), -EACCES);
		assert_non_null(strstr(e.msg, "no key is given"));
		io.no_key = true;
		assert_int_equal(luks_open(file, &io, 0, &n, &e), 0);
		assert_int_equal(luks_get_info(n)->version, version);
		assert_true(luks_get_info(n)->slot[0].active && !luks_get_info(n)->slot[1].active);
		assert_int_equal(blk_pread(n, 0, buf, 512), -EACCES);
		assert_int_equal(blk_pwrite(n, 0, buf, 512), -EACCES);
		blk_close(n);
	}
}

static void discard_needs_consent(void **state)
{
	struct luks_create_opts o = cheap(1, 1 << 20);
	struct blk_image_opts io = with_key(key_good);
	struct blk_node *n = open_volume(volume_in_memory(&o), key_good);
	struct blk_extent x;
	struct err e;

	assert_false(n->i.can_discard);
	assert_int_equal(blk_pdiscard(n, 0, 65536), -ENOTSUP);
	/* Nothing is promised to be zero, holes of the file least of all. */
	assert_int_equal(blk_block_status(n, 0, 1 << 20, false, &x), 0);
	assert_true(x.len == 1 << 20 && x.data && !x.zero && x.allocated && !x.has_offset);
	blk_close(n);
	io.discard = true;
	assert_int_equal(luks_open(volume_in_memory(&o), &io, 0, &n, &e), 0);
	assert_true(n->i.can_discard);
	assert_int_equal(blk_pdiscard(n, 0, 65536), 0);
	blk_close(n);
}

static void volumes_change_their_size(void **state)
{
	struct luks_create_opts o = cheap(2, 1 << 20);
	struct blk_node *file, *n;
	uint8_t buf[4096];
	struct err e;

	o.sector_size = 4096;
	file = volume_in_memory(&o);
	n = open_volume(file, key_good);
	fill(buf, sizeof(buf), 3);
	assert_int_equal(blk_resize(n, 2 << 20, &e), 0);
	assert_int_equal(n->i.size, 2 << 20);
	assert_int_equal(file->i.size, (16 << 20) + (2 << 20));
	assert_int_equal(blk_pwrite(n, (2 << 20) - 4096, buf, 4096), 0);
	assert_int_equal(blk_resize(n, (1 << 20) + 512, &e), -EINVAL);
	assert_int_equal(blk_resize(n, 4096, &e), 0);
	assert_int_equal(blk_pwrite(n, 4096, buf, 512), -ERANGE);
	blk_close(n);
}

/* The n-th request to the file fails: the right error, and nothing else is lost. */
static void faults_below(void **state)
{
	struct luks_create_opts o = cheap(2, 4 << 20);
	const size_t len = 2 << 20;
	uint8_t *a = malloc(len), *b = malloc(len);
	struct blk_node *file, *n;
	unsigned nth, ok = 0;

	o.sector_size = 4096;
	assert_true(a && b);
	file = volume_in_memory(&o);
	n = open_volume(file, key_good);
	fill(a, len, 9);
	for (nth = 1; nth < 60 && !ok; nth++) {
		blk_mem_fail_after(file, nth);
		ok = !blk_pwrite(n, 512, a, len - 1024);
		blk_mem_fail_after(file, 0);
		assert_int_equal(blk_pwrite(n, 512, a, len - 1024), 0);
		blk_mem_fail_after(file, nth);
		ok &= !blk_pread(n, 512, b, len - 1024);
		blk_mem_fail_after(file, 0);
		assert_int_equal(blk_pread(n, 512, b, len - 1024), 0);
		assert_memory_equal(a, b, len - 1024);
	}
	assert_true(nth > 8 && ok);
	blk_close(n);
	free(a);
	free(b);
}

/* ---- headers ---- */

static int open_again(struct blk_node *file, struct err *e)
{
	const struct blk_image_opts o = with_key(key_good);
	struct blk_node *n;
	int ret;

	e->msg[0] = '\0';
	ret = luks_open(file, &o, 0, &n, e);
	if (!ret) {
		/* The file must survive: it is opened again. */
		n->file = NULL;
		fail_msg("it opens");
	}
	return ret;
}

static void damaged_luks1(void **state)
{
	static const struct {
		unsigned at;
		uint32_t v;
		int ret;
	} t[] = {
		{ H1_KEY_BYTES, 48, -EINVAL }, { H1_KEY_BYTES, 0xffffffff, -EINVAL }, { H1_DIGEST_ITERATIONS, 0, -EINVAL },
		{ H1_DIGEST_ITERATIONS, 0xffffffff, -EPERM }, { H1_SLOTS, 7, -EINVAL }, { H1_SLOTS + K_ITERATIONS, 0x7fffffff, -EPERM },
		{ H1_SLOTS + K_OFFSET, 0, -EINVAL }, { H1_SLOTS + K_OFFSET, 0xffffffff, -EINVAL }, { H1_SLOTS + K_STRIPES, 1, -EINVAL },
		{ H1_SLOTS + K_STRIPES, 0xffffffff, -EINVAL }, { H1_PAYLOAD, 0xffffffff, -EINVAL }, { H1_PAYLOAD, 0, -ENOTSUP },
		{ H1_CIPHER, 0x74776f66, -ENOTSUP }, { H1_HASH, 0x6d643500, -ENOTSUP }, { H1_SLOTS, LUKS1_KEY_DISABLED, -EACCES },
		{ H1_DIGEST, 0, -EACCES }, { H1_SLOTS + K_SALT, 0, -EACCES }, { 0, 0, -EINVAL }, { 4, 0xbabe0009, -ENOTSUP },
	};
	struct luks_create_opts o = cheap(1, 1 << 20);
	struct blk_node *file = volume_in_memory(&o);
	uint8_t *h = blk_mem_data(file);
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		uint32_t old = ld_le32(h + t[i].at);

		luks_put32(h + t[i].at, t[i].v);
		assert_int_equal(open_again(file, &e), t[i].ret);
		assert_true(e.msg[0]);
		st_le32(h + t[i].at, old);
	}
	/* A file that ends too early. */
	for (uint64_t len = 512; len < 2 << 20; len = len * 3 / 512 * 512) {
		file->i.size = len;
		assert_true(open_again(file, &e) == -EINVAL && e.msg[0]);
	}
	blk_close(file);
}

/* Both copies' JSON with one text replaced by another. */
static void change_json(uint8_t *h, const char *from, const char *to)
{
	for (unsigned copy = 0; copy < 2; copy++, h += 16384) {
		char *json = (char *)h + LUKS2_BIN, *p = strstr(json, from);

		assert_non_null(p);
		memmove(p + strlen(to), p + strlen(from), strlen(p + strlen(from)) + 1);
		memcpy(p, to, strlen(to));
		assert_int_equal(luks2_checksum(h, 16384), 0);
	}
}

static void damaged_luks2(void **state)
{
	static const struct {
		const char *from, *to;
		int ret;
	} t[] = {
		{ "{\"keyslots\"", "(\"keyslots\"", -EINVAL }, { "\"crypt\"", "\"crypt", -EINVAL }, { "\"type\":\"crypt\"", "\"type\":\"crypt\",\"integrity\":{}", -ENOTSUP },
		{ "\"tokens\":{}", "\"tokens\":{},\"tokens\":{}", -EINVAL }, { "\"dynamic\"", "\"4194304\"", -EINVAL },
		{ "\"keyslots_size\"", "\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},\"keyslots_size\"", -ENOTSUP }, { "\"crypt\"", "\"dunno\"", -ENOTSUP },
		{ "\"sector_size\":512", "\"sector_size\":513", -EINVAL }, { "\"stripes\":4000", "\"stripes\":4001", -EINVAL },
		{ "\"time\":4", "\"time\":0", -EINVAL }, { "\"memory\":1024", "\"memory\":9e99", -EINVAL },
		{ "\"memory\":1024,\"cpus\":2", "\"memory\":99999999999,\"cpus\":2", -EINVAL }, { "\"cpus\":2", "\"cpus\":0", -EINVAL },
		{ "\"offset\":\"32768\"", "\"offset\":\"16384\"", -EINVAL }, { "\"offset\":\"32768\"", "\"offset\":\"99999\"", -EINVAL },
		{ "\"size\":\"258048\"", "\"size\":\"255488\"", -EINVAL }, { "\"size\":\"258048\"", "\"size\":\"-25804\"", -EINVAL },
		{ "\"offset\":\"16777216\"", "\"offset\":\"00000512\"", -EINVAL }, { "\"type\":\"luks2\"", "\"type\":\"luks9\"", -EACCES },
		{ "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"x\"", -EINVAL }, { "\"segments\":[\"0\"]", "\"segments\":[\"1\"]", -EINVAL },
		{ "\"key_size\":64", "\"key_size\":65", -EINVAL }, { "\"hash\":\"sha256\"", "\"hash\":\"sha999\"", -EINVAL },
		{ "\"keyslots\":[\"0\"]", "\"keyslots\":[\"7\"]", -EACCES }, { "\"json_size\"", "\"json_sizf\"", 1 },
		{ "\"time\":4", "\"time\":5", -EACCES },
	};
	struct luks_create_opts o = cheap(2, 1 << 20);
	struct err e;

	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		struct blk_node *file = volume_in_memory(&o);

		change_json(blk_mem_data(file), t[i].from, t[i].to);
		if (t[i].ret == 1) {
			blk_close(open_volume(file, key_good));
			continue;
		}
		if (open_again(file, &e) != t[i].ret)
			fail_msg("%s -> %s: %s", t[i].from, t[i].to, e.msg);
		assert_true(e.msg[0]);
		blk_close(file);
	}
}

static void too_much_work(void **state)
{
	const struct luks_limits less = { .argon2_kib = 1000 }, least = { .pbkdf2 = 999 }, fewer = { .argon2_work = 4095 };
	const struct blk_image_opts io = with_key(key_good);
	struct luks_create_opts o = cheap(2, 1 << 20);
	struct blk_node *file = volume_in_memory(&o), *n;
	struct err e;

	assert_int_equal(luks_open_limited(file, &io, 0, &fewer, &n, &e), -EPERM);
	assert_int_equal(luks_open_limited(file, &io, 0, &less, &n, &e), -EPERM);
	assert_non_null(strstr(e.msg, "memory"));
	/* Without limits of one's own: a GiB, refused before it is taken. */
	change_json(blk_mem_data(file), "\"memory\":1024", "\"memory\":1048577");
	assert_int_equal(open_again(file, &e), -EPERM);
	assert_non_null(strstr(e.msg, "1024 MiB"));
	change_json(blk_mem_data(file), "\"time\":4,\"memory\":1048577", "\"time\":4000000000,\"memory\":1024");
	assert_int_equal(open_again(file, &e), -EPERM);
	blk_close(file);
	o = cheap(1, 1 << 20);
	file = volume_in_memory(&o);
	assert_int_equal(luks_open_limited(file, &io, 0, &least, &n, &e), -EPERM);
	assert_non_null(strstr(e.msg, "rounds"));
	blk_close(file);
}

static void second_header_is_used(void **state)
{
	struct luks_create_opts o = cheap(2, 1 << 20);
	const struct blk_image_opts io = with_key(key_good);
	struct blk_node *file = volume_in_memory(&o), *n;
	uint8_t *h = blk_mem_data(file), *good = malloc(32768);
	struct err e;

	assert_non_null(good);
	memcpy(good, h, 32768);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(h, good, 32768);
		if (i == 0)
			memset(h, 0, 16384);
		else if (i == 1)
			h[5000] ^= 1;
		else if (i == 2)
			h[16384 + 5000] ^= 1;
		else
			luks_put64(h + 16384 + H2_SEQID, 2);
		if (i == 3)
			assert_int_equal(luks2_checksum(h + 16384, 16384), 0);
		if (luks_open(file, &io, 0, &n, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(luks_get_info(n)->second_header, i != 2);
		assert_int_equal(luks_get_info(n)->seqid, i == 3 ? 2 : 1);
		blk_close(n);
		file = volume_in_memory(&o);
		h = blk_mem_data(file);
		memcpy(good, h, 32768);
	}
	h[5000] ^= 1;
	h[16384 + 100] ^= 1;
	assert_int_equal(open_again(file, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "both copies"));
	blk_close(file);
	free(good);
}

static void impossible_volumes(void **state)
{
	static const struct luks_create_opts t[] = {
		{ .size = 0 }, { .size = 512, .version = 3 }, { .size = 512, .cipher = "serpent-xts-plain64" },
		{ .size = 512, .key_bits = 384 }, { .size = 512, .key_bits = 100 }, { .size = 512, .hash = "md5" },
		{ .size = 512, .sector_size = 4096 }, { .size = 512, .kdf = "argon2id" }, { .size = 512, .label = "x" },
		{ .size = 512, .version = 2, .sector_size = 8192 }, { .size = 512, .version = 2, .kdf = "scrypt" },
		{ .size = 512, .version = 2, .memory = 2 << 20 }, { .size = 512, .version = 2, .lanes = 99 },
		{ .size = 512, .iter_ms = 1000000 }, { .size = UINT64_MAX - 100 },
		{ .size = 512, .version = 2, .label = "a label that has more than forty-seven characters" },
	};
	struct blk_node *file;
	struct err e;

	assert_int_equal(blk_open_mem_file(loop, 32 << 20, &file), 0);
	for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
		e.msg[0] = '\0';
		assert_int_equal(luks_create(file, &t[i], (const uint8_t *)"x", 1, &e), -EINVAL);
		assert_true(e.msg[0]);
		assert_int_equal(file->i.size, 0);
	}
	blk_close(file);
}

/* ---- by name ---- */

static void images_by_name(void **state)
{
	struct luks_create_opts o = cheap(1, 1 << 20);
	struct blk_open_opts fo = { .open_ended = true };
	struct blk_image_opts io = with_key(key_good);
	const char *path = in_dir("volume");
	struct blk_node *file, *n;
	struct err e;

	assert_int_equal(blk_create_file(path, true, &e), 0);
	assert_int_equal(blk_open_file(loop, path, &fo, &file, &e), 0);
	assert_int_equal(luks_create(file, &o, (const uint8_t *)"secret", 6, &e), 0);
	blk_close(file);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), 0);
	assert_string_equal(n->format, "luks");
	assert_int_equal(n->i.size, 1 << 20);
	blk_close(n);
	/* Without a key it is whatever the guest makes of it, unless named. */
	io = with_key(NULL);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), 0);
	assert_string_equal(n->format, "raw");
	blk_close(n);
	io.format = "luks";
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), -EACCES);
	assert_non_null(strstr(e.msg, path));
	io = with_key(key_wrong);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), -EACCES);
	assert_non_null(strstr(e.msg, path));
	/* A key for a disk that is not encrypted is no good sign. */
	path = in_dir("plain");
	put_file(path, (char[4096]){ 0 }, 4096);
	io = with_key(key_good);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "nothing in it is encrypted"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(volumes_keep_what_is_written), cmocka_unit_test(requests_at_once),
		cmocka_unit_test(small_writes_into_one_sector), cmocka_unit_test(wrong_keys),
		cmocka_unit_test(discard_needs_consent),	cmocka_unit_test(volumes_change_their_size),
		cmocka_unit_test(faults_below),			cmocka_unit_test(damaged_luks1),
		cmocka_unit_test(damaged_luks2),		cmocka_unit_test(too_much_work),
		cmocka_unit_test(second_header_is_used),	cmocka_unit_test(impossible_volumes),
		cmocka_unit_test(images_by_name),
	};

	return cmocka_run_group_tests(tests, luks_setup, luks_teardown);
}
