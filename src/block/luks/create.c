/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New LUKS volumes: version 1 laid out as qemu-img does it, version 2 as
 * cryptsetup does.
 *
 * The volume key is random; it is split, encrypted with what is derived from the
 * passphrase, and written to the area of slot 0.  The header comes last: half a
 * volume is none.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/checked.h"
#include "block/luks/create.h"
#include "block/luks/luks1.h"
#include "block/luks/luks2.h"
#include "block/secret.h"

#define DEFAULT_MS 2000u
#define MAX_MS 60000u
#define MAX_KIB (1u << 20)
#define MAX_LANES 4u
/* The digest only proves a key of full strength: it need not be slow. */
#define DIGEST_MS 125u
#define MIN_DIGEST_ROUNDS 1000u

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "a LUKS volume cannot be made: %s", what);
}

static int choose_kdf(const struct luks_create_opts *o, struct luks_new *n, struct err *e)
{
	const char *name = o->kdf ? o->kdf : n->version == 1 ? "pbkdf2" : "argon2id";
	struct luks_kdf *k = &n->slot.kdf;
	long pages = sysconf(_SC_PHYS_PAGES), cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t half = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2048 : MAX_KIB;

	k->hash = n->hash;
	k->salt_len = LUKS1_SALT;
	if (!strcmp(name, "pbkdf2"))
		k->kind = LUKS_PBKDF2;
	else if (!strcmp(name, "argon2id") || !strcmp(name, "argon2i"))
		k->kind = name[7] ? LUKS_ARGON2ID : LUKS_ARGON2I;
	else
		return bad(e, "keys are derived with pbkdf2, argon2i or argon2id");
	if (k->kind != LUKS_PBKDF2 && n->version == 1)
		return bad(e, "version 1 derives keys with pbkdf2 only");
	if (o->iter_ms > MAX_MS)
		return bad(e, "deriving a key may take 60 seconds at most");
	if (k->kind == LUKS_PBKDF2)
		return 0;
	k->memory = o->memory ? o->memory : (uint32_t)MIN(half, (uint64_t)MAX_KIB);
	k->lanes = o->lanes ? o->lanes : (uint32_t)MAX(MIN(cpus, (long)MAX_LANES), 1);
	return k->memory > MAX_KIB || k->lanes > MAX_LANES || k->memory < 8 * k->lanes ?
		       bad(e, "memory for deriving a key is 32 KiB to 1 GiB, with 1 to 4 threads") : 0;
}

static int choose(const struct luks_create_opts *o, struct luks_new *n, struct err *e)
{
	const char *cipher = o->cipher ? o->cipher : "aes-xts-plain64", *hash = o->hash ? o->hash : "sha256";

	*n = (struct luks_new){ .version = o->version ? o->version : 1, .sector = o->sector_size ? o->sector_size : LUKS_SECTOR,
				.label = o->label ? o->label : "" };
	if (n->version != 1 && n->version != 2)
		return bad(e, "the version is 1 or 2");
	if (luks_spec_parse(cipher, NULL, &n->spec))
		return bad(e, "the cipher is aes-xts-plain64, aes-cbc-essiv:sha256 or aes-cbc-plain64");
	n->key_len = o->key_bits ? o->key_bits / 8 : n->spec.mode == LUKS_XTS ? 64 : 32;
	if (o->key_bits % 8 || !luks_key_size_ok(&n->spec, n->key_len))
		return bad(e, "a key has 256 or 512 bits with xts (two of half of that), 128, 192 or 256 with cbc");
	n->hash = luks_hash(hash);
	if (!n->hash)
		return bad(e, "the hash is sha1, sha224, sha256, sha384 or sha512");
	if (!is_pow2(n->sector) || n->sector < 512 || n->sector > 4096)
		return bad(e, "a sector has 512, 1024, 2048 or 4096 bytes");
	if (n->version == 1 && (n->sector != LUKS_SECTOR || o->label))
		return bad(e, "version 1 has neither sectors of other than 512 bytes nor a label");
	if (strlen(n->label) > 47)
		return bad(e, "a label has at most 47 bytes");
	n->slot.area_spec = n->spec;
	n->slot.area_key = (uint32_t)n->key_len;
	n->slot.af_hash = n->hash;
	n->slot.size = align_up(n->key_len * LUKS_STRIPES, 4096);
	n->slot.offset = n->version == 1 ? LUKS1_KEYS : 2 * LUKS2_HDR;
	n->payload = n->version == 1 ? LUKS1_KEYS + LUKS1_SLOTS * n->slot.size : LUKS2_PAYLOAD;
	return choose_kdf(o, n, e);
}

int luks_create_check(const struct luks_create_opts *o, struct err *e)
{
	struct luks_new n;

	return choose(o, &n, e);
}

uint64_t luks_header_size(const struct luks_create_opts *o)
{
	struct luks_new n;

	return choose(o, &n, NULL) ? 0 : n.payload;
}

/* How hard it is to be. */
static int measure_work(const struct luks_create_opts *o, struct luks_new *n, struct err *e)
{
	unsigned ms = o->iter_ms ? o->iter_ms : DEFAULT_MS;
	int ret = 0;

	n->digest_kdf = (struct luks_kdf){ .kind = LUKS_PBKDF2, .hash = n->hash, .salt_len = LUKS1_SALT };
	if (o->force_iterations) {
		n->slot.kdf.iterations = o->force_iterations;
		n->digest_kdf.iterations = MIN_DIGEST_ROUNDS;
	} else {
		ret = luks_bench(&n->slot.kdf, ms, n->key_len);
		ret = ret ? ret : luks_bench(&n->digest_kdf, MIN(ms / 8, DIGEST_MS), LUKS1_DIGEST);
	}
	return ret ? err_set(e, ret, "how long it takes to derive a key cannot be measured: %s", strerror(-ret)) : 0;
}

/* Random numbers, the digest, and the key material as it is written. */
static int make_key(struct luks_new *n, const uint8_t *pass, size_t len, uint8_t *area)
{
	uint8_t *key = secret_alloc(LUKS_MAX_KEY), *derived = secret_alloc(LUKS_MAX_KEY);
	size_t whole = align_up(n->key_len * LUKS_STRIPES, LUKS_SECTOR);
	int ret = key && derived ? 0 : -ENOMEM;

	n->digest_len = n->version == 1 ? LUKS1_DIGEST : (uint32_t)EVP_MD_get_size(n->hash);
	ret = ret ? ret : luks_random(key, n->key_len);
	ret = ret ? ret : luks_random(n->slot.kdf.salt, LUKS1_SALT);
	ret = ret ? ret : luks_random(n->digest_kdf.salt, LUKS1_SALT);
	ret = ret ? ret : luks_uuid(n->uuid);
	ret = ret ? ret : luks_derive(&n->digest_kdf, key, n->key_len, n->digest, n->digest_len);
	ret = ret ? ret : luks_derive(&n->slot.kdf, pass, len, derived, n->key_len);
	ret = ret ? ret : luks_af_split(key, n->key_len, LUKS_STRIPES, n->hash, area);
	ret = ret ? ret : luks_area_crypt(&n->slot, derived, true, area, whole);
	secret_free(key, LUKS_MAX_KEY);
	secret_free(derived, LUKS_MAX_KEY);
	return ret;
}

static void put_text(uint8_t *p, size_t room, const char *text)
{
	memcpy(p, text, MIN(strlen(text), room - 1));
}

static int put_luks1(const struct luks_new *n, uint8_t *h)
{
	char cipher[64];
	char *mode;

	memcpy(cipher, n->spec.text, sizeof(cipher));
	mode = strchr(cipher, '-');
	*mode++ = '\0';
	memcpy(h, LUKS_MAGIC, 6);
	luks_put16(h + H1_VERSION, 1);
	put_text(h + H1_CIPHER, 32, cipher);
	put_text(h + H1_MODE, 32, mode);
	put_text(h + H1_HASH, 32, luks_hash_name(n->hash));
	luks_put32(h + H1_PAYLOAD, (uint32_t)(n->payload / LUKS_SECTOR));
	luks_put32(h + H1_KEY_BYTES, (uint32_t)n->key_len);
	memcpy(h + H1_DIGEST, n->digest, LUKS1_DIGEST);
	memcpy(h + H1_DIGEST_SALT, n->digest_kdf.salt, LUKS1_SALT);
	luks_put32(h + H1_DIGEST_ITERATIONS, n->digest_kdf.iterations);
	put_text(h + H1_UUID, 40, n->uuid);
	for (unsigned i = 0; i < LUKS1_SLOTS; i++) {
		uint8_t *s = h + H1_SLOTS + i * LUKS1_SLOT_LEN;

		luks_put32(s, i ? LUKS1_KEY_DISABLED : LUKS1_KEY_ENABLED);
		luks_put32(s + K_OFFSET, (uint32_t)((n->slot.offset + i * n->slot.size) / LUKS_SECTOR));
		luks_put32(s + K_STRIPES, LUKS_STRIPES);
		if (!i) {
			luks_put32(s + K_ITERATIONS, n->slot.kdf.iterations);
			memcpy(s + K_SALT, n->slot.kdf.salt, LUKS1_SALT);
		}
	}
	return 0;
}

static int put_luks2(const struct luks_new *n, uint8_t *h, uint64_t at)
{
	int ret;

	memcpy(h, at ? LUKS2_MAGIC_SECOND : LUKS_MAGIC, 6);
	luks_put16(h + H2_VERSION, 2);
	luks_put64(h + H2_SIZE, LUKS2_HDR);
	luks_put64(h + H2_SEQID, 1);
	put_text(h + H2_LABEL, 48, n->label);
	put_text(h + H2_ALG, H2_ALG_LEN, "sha256");
	ret = luks_random(h + H2_SALT, H2_SALT_LEN);
	put_text(h + H2_UUID, 40, n->uuid);
	luks_put64(h + H2_OFFSET, at);
	ret = ret ? ret : luks2_make_json(n, (char *)h + LUKS2_BIN, LUKS2_HDR - LUKS2_BIN);
	return ret ? ret : luks2_checksum(h, LUKS2_HDR);
}

/* Key material, then headers, the first of them last. */
static int write_all(struct blk_node *file, uint64_t off, const struct luks_new *n, const uint8_t *area)
{
	size_t len = n->version == 1 ? LUKS1_KEYS : LUKS2_HDR;
	uint8_t *h = aligned_alloc(4096, len);
	int ret = h ? 0 : -ENOMEM;

	/* Whatever was there before, other headers and keys above all. */
	ret = ret ? ret : blk_pwrite_zeroes(file, off, n->payload, true);
	ret = ret ? ret : blk_extend(file, off + n->payload);
	ret = ret ? ret : blk_pwrite(file, off + n->slot.offset, area, n->slot.size);
	if (!ret && n->version == 2) {
		memset(h, 0, len);
		ret = put_luks2(n, h, LUKS2_HDR);
		ret = ret ? ret : blk_pwrite(file, off + LUKS2_HDR, h, len);
	}
	ret = ret ? ret : blk_flush(file);
	if (!ret) {
		memset(h, 0, len);
		ret = n->version == 1 ? put_luks1(n, h) : put_luks2(n, h, 0);
	}
	ret = ret ? ret : blk_pwrite(file, off, h, len);
	ret = ret ? ret : blk_flush(file);
	free(h);
	return ret;
}

static int create_header(struct blk_node *file, uint64_t off, const struct luks_create_opts *o, struct luks_new *n,
			 const uint8_t *pass, size_t len, struct err *e)
{
	uint8_t *area;
	int ret = measure_work(o, n, e);

	if (ret)
		return ret;
	area = secret_alloc(n->slot.size);
	ret = area ? make_key(n, pass, len, area) : -ENOMEM;
	ret = ret ? ret : write_all(file, off, n, area);
	secret_free(area, n->slot.size);
	return ret ? err_set(e, ret, "the LUKS header of the new image cannot be made: %s", strerror(-ret)) : 0;
}

int luks_create(struct blk_node *file, const struct luks_create_opts *o, const uint8_t *pass, size_t len, struct err *e)
{
	struct luks_new n;
	uint64_t size, end;
	int ret = choose(o, &n, e);

	if (ret)
		return ret;
	if (!o->size)
		return bad(e, "its size is 0");
	size = align_up(MIN(o->size, (uint64_t)INT64_MAX), n.sector);
	if (add_overflows(size, n.payload, &end) || end > INT64_MAX)
		return bad(e, "it is too large");
	ret = create_header(file, 0, o, &n, pass, len, e);
	if (ret)
		return ret;
	/* blk_extend never makes a file shorter, which an emptied one need not be. */
	ret = blk_extend(file, end);
	return ret ? err_set(e, ret, "the new image cannot be given its size: %s", strerror(-ret)) : 0;
}

int luks_inner_create(struct blk_node *head, uint64_t off, const struct luks_create_opts *o, const uint8_t *pass, size_t len,
		      struct err *e)
{
	struct luks_new n;
	int ret = choose(o, &n, e);

	if (!ret && n.version != 1)
		ret = bad(e, "inside another format it is version 1");
	return ret ? ret : create_header(head, off, o, &n, pass, len, e);
}
