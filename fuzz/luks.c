// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Damaged LUKS headers: opened with the right passphrase, and used if that works.
 *
 * The first byte chooses one of some good volumes made at the start, or the rest
 * of the input as a volume.  A good one is then damaged as the input says: numbers
 * of 1 to 8 bytes anywhere in header and keys, or texts put into the JSON metadata.
 * LUKS2's checksums are put right afterwards, half the time.  Nothing may crash,
 * hang, or take memory or work beyond the limits.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/luks/internal.h"
#include "block/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FILE (24u << 20)
#define N_SHAPES 5
#define HEAD (512u << 10)		/* what of a volume is not zero: headers and the first key */
#define CONTENTS (64u << 10)

struct shape {
	uint8_t *head;
	uint64_t len;
	bool luks2;
};

struct input {
	const uint8_t *p;
	size_t left;
};

static struct loop *loop;
static struct blk_secrets *secrets;

static uint64_t take(struct input *in, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n && in->left; i++, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

static void require(int ret)
{
	if (ret)
		abort();
}

static struct blk_node *memory(const uint8_t *data, size_t n, uint64_t len)
{
	struct blk_node *file;

	require(blk_open_mem_file(loop, MAX_FILE, &file));
	memcpy(blk_mem_data(file), data, n);
	file->i.size = len;
	return file;
}

static void make_shape(unsigned i, struct shape *out)
{
	const struct luks_create_opts o[N_SHAPES] = {
		{ .size = CONTENTS, .version = 1, .force_iterations = 10 },
		{ .size = CONTENTS, .version = 1, .force_iterations = 10, .cipher = "aes-cbc-essiv:sha256", .hash = "sha1", .key_bits = 128 },
		{ .size = CONTENTS, .version = 2, .force_iterations = 1, .memory = 64, .lanes = 1 },
		{ .size = CONTENTS, .version = 2, .force_iterations = 10, .kdf = "pbkdf2", .sector_size = 4096 },
		{ .size = CONTENTS, .version = 2, .force_iterations = 1, .kdf = "argon2i", .memory = 64, .lanes = 2, .label = "x" },
	};
	struct blk_node *file = memory((const uint8_t *)"", 0, 0);
	struct err e;

	require(luks_create(file, &o[i], (const uint8_t *)"secret", 6, &e));
	out->luks2 = o[i].version == 2;
	out->len = file->i.size;
	out->head = malloc(HEAD);
	if (!out->head)
		abort();
	memcpy(out->head, blk_mem_data(file), HEAD);
	blk_close(file);
}

/* A piece of JSON's text replaced, with what follows it moved. */
static void damage_text(char *json, size_t room, struct input *in)
{
	static const char *const word[] = { "\"0\"", "\"1\"", "{}", "[]", "null", "-1", "0", "4294967295", "18446744073709551616", "\"\"",
					    "\"dynamic\"", "\"crypt\"", "\"luks2\"", "\"argon2id\"", "\"pbkdf2\"", "\"aes-cbc-essiv:sha256\"",
					    "\"integrity\":{},", "\"flags\":[\"allow-discards\"],", "\"priority\":2,", "\"16777216\"", "," };
	size_t len = strnlen(json, room), at = len ? take(in, 2) % len : 0, cut = take(in, 1) & 31;
	const char *w = word[take(in, 1) % ARRAY_LEN(word)];

	if (len + strlen(w) + 1 > room)
		return;
	cut = MIN(cut, len - at);
	/* Mostly whole values. */
	if (take(in, 1) & 3) {
		while (at < len && !strchr(":,[{", json[at]))
			at++;
		at = MIN(at + 1, len);
		cut = strcspn(json + at, ",}]");
	}
	memmove(json + at + strlen(w), json + at + cut, len - at - cut + 1);
	memcpy(json + at, w, strlen(w));
}

static void damage(uint8_t *h, bool luks2, struct input *in)
{
	unsigned n = (unsigned)take(in, 1), repair = n & 0x80;

	for (n &= 15; n; n--) {
		uint64_t where = take(in, 3), width = (take(in, 1) & 7) + 1;

		if (luks2 && (where & 0x400000)) {
			damage_text((char *)h + (where & 1 ? 16384 : 0) + LUKS2_BIN, 16384 - LUKS2_BIN, in);
			continue;
		}
		where = where & 0x800000 ? where % (HEAD - 8) : where % 1024;
		for (unsigned i = 0; i < width; i++)
			h[where + i] = (uint8_t)take(in, 1);
	}
	for (unsigned i = 0; luks2 && repair && i < 2; i++)
		luks2_checksum(h + i * 16384, 16384);
}

static void use(struct blk_node *n, struct input *in, uint8_t *buf)
{
	for (unsigned i = 0; i < 8 && in->left; i++) {
		uint64_t sectors = n->i.size / 512, off = take(in, 2) % sectors, len = take(in, 1) + 1;
		struct blk_extent x;

		len = MIN(len, sectors - off);

		switch (take(in, 1) % 5) {
		case 0:
			blk_pread(n, off * 512, buf, len * 512);
			break;
		case 1:
			blk_pwrite(n, off * 512, buf, len * 512);
			break;
		case 2:
			blk_pwrite_zeroes(n, off * 512, len * 512, true);
			break;
		case 3:
			blk_pdiscard(n, off * 512, len * 512);
			break;
		case 4:
			blk_block_status(n, off * 512, len * 512, false, &x);
			break;
		}
	}
}

static void setup(struct shape *shapes)
{
	int fd[2];
	struct err e;

	require(loop_new(&loop));
	require(blk_secrets_new(&secrets));
	require(pipe(fd));
	require(write(fd[1], "secret", 6) != 6);
	close(fd[1]);
	require(blk_secrets_add(secrets, "key", &(struct blk_secret_source){ .fd = fd[0] }, &e));
	for (unsigned i = 0; i < N_SHAPES; i++)
		make_shape(i, &shapes[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = { "key" };
	static const struct luks_limits limits = { .pbkdf2 = 1000, .argon2_kib = 1024, .argon2_work = 4096 };
	static struct shape shapes[N_SHAPES];
	static uint8_t *buf;
	struct blk_image_opts o = { .secrets = secrets, .keys = keys, .n_keys = 1 };
	struct input in = { data, size };
	struct blk_node *file, *n;
	struct err e;
	unsigned which;

	if (!buf) {
		buf = calloc(1, 256 * 512);
		setup(shapes);
		o.secrets = secrets;
	}
	if (size < 2 || !buf)
		return 0;
	which = (unsigned)take(&in, 1);
	o.no_key = which & 0x80;
	which = (which & 0x7f) % (N_SHAPES + 1);
	if (which == N_SHAPES) {
		size_t more = (size_t)take(&in, 3) & 0xffffff;

		file = memory(in.p, in.left, MAX(in.left, more));
	} else {
		file = memory(shapes[which].head, HEAD, shapes[which].len);
		damage(blk_mem_data(file), shapes[which].luks2, &in);
	}
	if (luks_open_limited(file, &o, 0, &limits, &n, &e)) {
		blk_close(file);
		return 0;
	}
	use(n, &in, buf);
	blk_close(n);
	return 0;
}
