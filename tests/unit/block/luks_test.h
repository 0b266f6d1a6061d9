/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the tests of LUKS volumes: a folder, a key, volumes in memory and in files. */
#ifndef LODGE_LUKS_TEST_H
#define LODGE_LUKS_TEST_H

#include "block_test.h"

#include "block/luks/luks.h"
#include "block/secret.h"

static struct loop *loop;
static char dir[64];
static struct blk_secrets *secrets;
static const char *const key_good[] = { "good" }, *const key_wrong[] = { "wrong" };

static inline const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static inline void put_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static inline struct blk_image_opts with_key(const char *const *keys)
{
	return (struct blk_image_opts){ .secrets = secrets, .keys = keys, .n_keys = keys ? 1 : 0 };
}

static inline int luks_setup(void **state)
{
	struct err e;

	snprintf(dir, sizeof(dir), "./luks-test-XXXXXX");
	if (!mkdtemp(dir) || loop_new(&loop) || blk_secrets_new(&secrets))
		return -1;
	put_file(in_dir("good"), "secret", 6);
	put_file(in_dir("wrong"), "secret\n", 7);
	return blk_secrets_add(secrets, "good", &(struct blk_secret_source){ .file = in_dir("good"), .fd = -1 }, &e) ||
	       blk_secrets_add(secrets, "wrong", &(struct blk_secret_source){ .file = in_dir("wrong"), .fd = -1 }, &e);
}

static inline int luks_teardown(void **state)
{
	char cmd[128];

	blk_secrets_free(secrets);
	loop_free(loop);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

/* A volume that is quickly made and opened. */
static inline struct luks_create_opts cheap(unsigned version, uint64_t size)
{
	return (struct luks_create_opts){ .size = size, .version = version, .kdf = version == 1 ? "pbkdf2" : "argon2id",
					  .force_iterations = version == 1 ? 1000 : 4, .memory = version == 1 ? 0 : 1024, .lanes = version == 1 ? 0 : 2 };
}

static inline struct blk_node *volume_in_memory(const struct luks_create_opts *o)
{
	struct blk_node *file;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(loop, 64 << 20, &file), 0);
	if (luks_create(file, o, (const uint8_t *)"secret", 6, &e))
		fail_msg("%s", e.msg);
	return file;
}

static inline struct blk_node *open_volume(struct blk_node *file, const char *const *keys)
{
	const struct blk_image_opts o = with_key(keys);
	struct blk_node *n;
	struct err e = { 0 };

	if (luks_open(file, &o, 0, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

#endif
