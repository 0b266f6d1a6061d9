/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What LUKS is made of, against known answers: hashes and ciphers by name, key
 * derivation, the anti-forensic split, sectors.  The answers come from RFC 6070,
 * from the vectors of Argon2's reference implementation, and (split, sectors) from
 * another implementation of AES and SHA over patterns anybody can make.
 */
#include "block_test.h"

#include "block/luks/internal.h"
#include "block/secret.h"

static void unhex(const char *hex, uint8_t *out)
{
	for (size_t i = 0; hex[i * 2]; i++) {
		unsigned v;

		assert_int_equal(sscanf(hex + i * 2, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
}

static void check_hex(const uint8_t *got, const char *hex)
{
	uint8_t want[128];

	unhex(hex, want);
	assert_memory_equal(got, want, strlen(hex) / 2);
}

static void names_of_ciphers(void **state)
{
	static const char *const no[] = { "serpent-xts-plain64", "aes-ecb", "aes-xts-benbi", "aes-cbc-essiv:md5", "aes",
					  "aes-cbc-essiv:sha1", "aes-xts-plain64-and-a-very-long-tail-that-does-not-fit-into-it" };
	struct luks_spec s;

	assert_int_equal(luks_spec_parse("aes", "xts-plain64", &s), 0);
	assert_string_equal(s.text, "aes-xts-plain64");
	assert_true(luks_key_size_ok(&s, 32) && luks_key_size_ok(&s, 64));
	assert_false(luks_key_size_ok(&s, 48) || luks_key_size_ok(&s, 16) || luks_key_size_ok(&s, 0));
	assert_int_equal(luks_spec_parse("aes-cbc-essiv:sha256", NULL, &s), 0);
	assert_true(luks_key_size_ok(&s, 16) && !luks_key_size_ok(&s, 64));
	for (unsigned i = 0; i < ARRAY_LEN(no); i++)
		assert_int_equal(luks_spec_parse(no[i], NULL, &s), -ENOTSUP);
	assert_null(luks_hash("whirlpool"));
	assert_string_equal(luks_hash_name(luks_hash("sha512")), "sha512");
}

static void keys_are_derived(void **state)
{
	struct luks_kdf k = { .kind = LUKS_PBKDF2, .hash = luks_hash("sha1"), .iterations = 4096, .salt = "salt", .salt_len = 4 };
	uint8_t out[64];

	assert_int_equal(luks_derive(&k, (const uint8_t *)"password", 8, out, 20), 0);
	check_hex(out, "4b007901b765489abead49d926f721d065a429c1");
	k = (struct luks_kdf){ .kind = LUKS_ARGON2ID, .iterations = 2, .memory = 65536, .lanes = 1, .salt = "somesalt", .salt_len = 8 };
	assert_int_equal(luks_derive(&k, (const uint8_t *)"password", 8, out, 32), 0);
	check_hex(out, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
	k.kind = LUKS_ARGON2I;
	assert_int_equal(luks_derive(&k, (const uint8_t *)"password", 8, out, 32), 0);
	check_hex(out, "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0");
}

static void keys_are_split(void **state)
{
	static const struct {
		unsigned len;
		const char *hash, *key;
	} t[] = {
		{ 32, "sha1", "c5e002d3acef0c92f713f5df445a8c096fee7672419379a89694d6a706115ad6" },
		{ 64, "sha256", "a922b611ecd9b5611f0fab294cefbe7c472edfd415d7f32bbcfa5643f7d87df54cf6d096e7b422a3565fa8b15afa9b0c"
				"d8a9e63eebccf6eea4d2f0bf47bb3f09" },
		{ 20, "sha512", "6cbf8fa406aa6937cc59a9b904dd133b65f54ba0" },
		{ 64, "sha1", "1a6de75fe65d869c2b82d13802cd1be930abc5ca0a876e24e693b3859c0a1a00ed5f72f400de89edef1232adff2a3f94"
			      "2b3813ddf542f9e7c7d9bc47ed1503e7" },
	};
	uint8_t *area = malloc(64 * LUKS_STRIPES), key[64], back[64];

	assert_non_null(area);
	for (unsigned k = 0; k < ARRAY_LEN(t); k++) {
		for (size_t i = 0; i < t[k].len * LUKS_STRIPES; i++)
			area[i] = (uint8_t)(i * i + 3 * i + (i >> 8));
		assert_int_equal(luks_af_merge(area, t[k].len, LUKS_STRIPES, luks_hash(t[k].hash), key), 0);
		check_hex(key, t[k].key);
		/* There and back; and one bit lost is all lost. */
		assert_int_equal(luks_af_split(key, t[k].len, LUKS_STRIPES, luks_hash(t[k].hash), area), 0);
		assert_int_equal(luks_af_merge(area, t[k].len, LUKS_STRIPES, luks_hash(t[k].hash), back), 0);
		assert_memory_equal(key, back, t[k].len);
		area[t[k].len * 17] ^= 1;
		assert_int_equal(luks_af_merge(area, t[k].len, LUKS_STRIPES, luks_hash(t[k].hash), back), 0);
		assert_memory_not_equal(key, back, t[k].len);
	}
	free(area);
}

static void sectors_are_encrypted(void **state)
{
	static const struct {
		const char *spec;
		unsigned key, sector;
		const char *sum;	/* SHA-256 of 8 KiB from sector 0x123456789 on */
	} t[] = {
		{ "aes-xts-plain64", 32, 512, "e9090b4d2d6f520ab6b55d9cf191d3acce702c1e867b1b0cffc6ead2109a36b0" },
		{ "aes-xts-plain64", 64, 512, "e823f8cd3612d30f87a82769253d914fdf3b83dd6a1c36e06906bb201a9c71d9" },
		{ "aes-xts-plain64", 64, 4096, "b94421292d129da99136205e875b33a7d43474ed97c6c6e6c959f1477bf3747c" },
		{ "aes-cbc-plain64", 16, 512, "ca7678aecba87725f964c117c10b065ad037e6f724933a4e3a4b57b7a7c267d3" },
		{ "aes-cbc-plain", 32, 512, "af8f71c7839560124fdcf1ba2ff5d36e2cc4ec58af37f043758288584242eaf9" },
		{ "aes-cbc-essiv:sha256", 32, 512, "691440b8719e39de5bb85bd32e292683441519651d31473c95bef49a4ef37a6d" },
		{ "aes-cbc-essiv:sha256", 24, 512, "7eb4c7aeefda257e6b6da809d0feb297eb85b224716e36b06134003a42ec6923" },
	};
	uint8_t key[64], plain[8192], buf[8192], sum[EVP_MAX_MD_SIZE];
	struct luks_cipher *c;
	struct luks_spec s;

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(7 * i + 1);
	for (unsigned i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 5 + (i >> 8));
	for (unsigned k = 0; k < ARRAY_LEN(t); k++) {
		assert_int_equal(luks_spec_parse(t[k].spec, NULL, &s), 0);
		assert_int_equal(luks_cipher_new(&s, key, t[k].key, t[k].sector, 2, &c), 0);
		memcpy(buf, plain, sizeof(buf));
		assert_int_equal(luks_cipher_run(c, true, 0x123456789, buf, sizeof(buf)), 0);
		assert_true(EVP_Digest(buf, sizeof(buf), sum, NULL, EVP_sha256(), NULL));
		check_hex(sum, t[k].sum);
		/* Any sector by itself. */
		assert_int_equal(luks_cipher_run(c, false, 0x123456789 + 8, buf + 4096, 4096), 0);
		assert_memory_equal(buf + 4096, plain + 4096, 4096);
		luks_cipher_free(c);
	}
	/* Two equal halves are no key for XTS. */
	memset(key, 1, sizeof(key));
	assert_int_equal(luks_spec_parse("aes-xts-plain64", NULL, &s), 0);
	assert_int_equal(luks_cipher_new(&s, key, 64, 512, 1, &c), -EINVAL);
}

static void work_is_measured(void **state)
{
	struct luks_kdf k = { .kind = LUKS_PBKDF2, .hash = luks_hash("sha256"), .salt_len = 32 };
	uint32_t more;

	assert_int_equal(luks_bench(&k, 1, 64), 0);
	assert_true(k.iterations >= 1000);
	assert_int_equal(luks_bench(&k, 60000, 64), 0);
	more = k.iterations;
	assert_true(more > 1000000 && more <= 1u << 26);
	k = (struct luks_kdf){ .kind = LUKS_ARGON2ID, .memory = 65536, .lanes = 2, .salt_len = 32 };
	assert_int_equal(luks_bench(&k, 1, 64), 0);
	assert_true(k.memory >= 1024 && k.memory <= 65536 && k.iterations >= 4);
	k.memory = 65536;
	assert_int_equal(luks_bench(&k, 60000, 64), 0);
	assert_true(k.memory == 65536 && k.iterations >= 4 && k.iterations <= 64);
}

static int write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");
	bool ok = f && fwrite(data, 1, len, f) == len;

	return f && !fclose(f) && ok ? 0 : -1;
}

static void secrets_come_from_files(void **state)
{
	static uint8_t big[SECRET_MAX + 1];
	struct blk_secrets *s;
	struct err e = { 0 };
	const uint8_t *data;
	char path[64];
	size_t len;
	int fd[2];

	temp_path(path, sizeof(path));
	assert_int_equal(blk_secrets_new(&s), 0);
	assert_int_equal(write_file(path, "a\0b\n", 4), 0);
	assert_int_equal(blk_secrets_add(s, "file", &(struct blk_secret_source){ .file = path, .fd = -1 }, &e), 0);
	assert_int_equal(blk_secrets_add(s, "file", &(struct blk_secret_source){ .file = path, .fd = -1 }, &e), -EEXIST);
	assert_int_equal(blk_secrets_get(s, "file", &data, &len, &e), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(data, "a\0b\n", 4);
	/* A descriptor is read once; what was read stays. */
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(write(fd[1], "piped", 5), 5);
	close(fd[1]);
	assert_int_equal(blk_secrets_add(s, "fd", &(struct blk_secret_source){ .fd = fd[0] }, &e), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(blk_secrets_get(s, "fd", &data, &len, &e), 0);
		assert_int_equal(len, 5);
		assert_memory_equal(data, "piped", 5);
	}
	assert_int_equal(fcntl(fd[0], F_GETFD), -1);
	assert_int_equal(write_file(path, "c2VjcmV0Cg==\n", 13), 0);
	assert_int_equal(blk_secrets_add(s, "b64", &(struct blk_secret_source){ .file = path, .fd = -1, .base64 = true }, &e), 0);
	assert_int_equal(blk_secrets_get(s, "b64", &data, &len, &e), 0);
	assert_int_equal(len, 7);
	assert_memory_equal(data, "secret\n", 7);
	assert_int_equal(blk_secrets_get(s, "nobody", &data, &len, &e), -ENOENT);
	assert_int_equal(write_file(path, "", 0), 0);
	assert_int_equal(blk_secrets_add(s, "empty", &(struct blk_secret_source){ .file = path, .fd = -1 }, &e), 0);
	assert_int_equal(blk_secrets_get(s, "empty", &data, &len, &e), -ENODATA);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(write_file(path, big, sizeof(big)), 0);
	assert_int_equal(blk_secrets_get(s, "empty", &data, &len, &e), -E2BIG);
	assert_int_equal(write_file(path, "not*base", 8), 0);
	assert_int_equal(blk_secrets_add(s, "bad", &(struct blk_secret_source){ .file = path, .fd = -1, .base64 = true }, &e), 0);
	assert_int_equal(blk_secrets_get(s, "bad", &data, &len, &e), -EINVAL);
	blk_secrets_free(s);
	blk_secrets_free(NULL);
	unlink(path);
}

/* Is the mapping at p one that core dumps leave out? */
static bool not_dumped(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false, found = false;
	char line[256];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (unsigned long)p >= from && (unsigned long)p < to;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, " dd") != NULL;
	}
	fclose(f);
	return found;
}

static void secrets_are_not_dumped(void **state)
{
	uint8_t *p = secret_alloc(100);

	assert_non_null(p);
	assert_int_equal(p[0] | p[99], 0);
	p[0] = 1;
	assert_true(not_dumped(p));
	assert_false(not_dumped(&p));
	secret_free(p, 100);
	secret_free(NULL, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_ciphers),	 cmocka_unit_test(keys_are_derived),
		cmocka_unit_test(keys_are_split),	 cmocka_unit_test(sectors_are_encrypted),
		cmocka_unit_test(work_is_measured),	 cmocka_unit_test(secrets_come_from_files),
		cmocka_unit_test(secrets_are_not_dumped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
