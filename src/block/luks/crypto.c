/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Key derivation and the anti-forensic split of LUKS.
 *
 * The split makes a key as many times as long: every byte of the result is needed
 * to get the key back, so that overwriting any part of it on disk destroys it.
 * Each stripe is the hash of all before it (in blocks of the hash's size, with
 * the block's number in front), XORed with the next random stripe.
 */
#include <argon2.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/luks/internal.h"
#include "block/secret.h"

int luks_random(void *out, size_t len)
{
	return RAND_bytes(out, (int)len) == 1 ? 0 : -EIO;
}

int luks_uuid(char *out)
{
	uint8_t b[16];
	int ret = luks_random(b, sizeof(b));

	if (ret)
		return ret;
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
		 b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
	return 0;
}

static int derive_argon2(const struct luks_kdf *k, const uint8_t *pass, size_t len, uint8_t *out, size_t out_len)
{
	int ret;

	if (k->kind == LUKS_ARGON2ID)
		ret = argon2id_hash_raw(k->iterations, k->memory, k->lanes, pass, len, k->salt, k->salt_len, out, out_len);
	else
		ret = argon2i_hash_raw(k->iterations, k->memory, k->lanes, pass, len, k->salt, k->salt_len, out, out_len);
	return ret == ARGON2_OK ? 0 : ret == ARGON2_MEMORY_ALLOCATION_ERROR ? -ENOMEM : -EINVAL;
}

int luks_derive(const struct luks_kdf *k, const uint8_t *pass, size_t len, uint8_t *out, size_t out_len)
{
	if (k->kind != LUKS_PBKDF2)
		return derive_argon2(k, pass, len, out, out_len);
	if (PKCS5_PBKDF2_HMAC((const char *)pass, (int)len, k->salt, (int)k->salt_len, (int)k->iterations, k->hash,
			      (int)out_len, out) != 1)
		return -EINVAL;
	return 0;
}

/* Hashes the key-sized block in pieces. ctx knows its hash: naming it each time would have OpenSSL look for it. */
static int diffuse(uint8_t *block, size_t len, EVP_MD_CTX *ctx)
{
	size_t size = (size_t)EVP_MD_CTX_get_size(ctx);
	uint8_t digest[EVP_MAX_MD_SIZE], number[4];
	bool ok = true;

	for (size_t at = 0, i = 0; at < len && ok; at += size, i++) {
		size_t part = MIN(size, len - at);

		luks_put32(number, (uint32_t)i);
		ok = EVP_DigestInit_ex(ctx, NULL, NULL) && EVP_DigestUpdate(ctx, number, 4) &&
		     EVP_DigestUpdate(ctx, block + at, part) && EVP_DigestFinal_ex(ctx, digest, NULL);
		memcpy(block + at, digest, part);
	}
	OPENSSL_cleanse(digest, sizeof(digest));
	return ok ? 0 : -EIO;
}

static void xor_into(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] ^= from[i];
}

/* All stripes but the last, run together into `block`. */
static int gather(const uint8_t *in, size_t key_len, unsigned stripes, const EVP_MD *md, uint8_t *block)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ret = !ctx ? -ENOMEM : EVP_DigestInit_ex(ctx, md, NULL) ? 0 : -EIO;

	memset(block, 0, key_len);
	for (unsigned i = 0; i + 1 < stripes && !ret; i++) {
		xor_into(block, in + i * key_len, key_len);
		ret = diffuse(block, key_len, ctx);
	}
	EVP_MD_CTX_free(ctx);
	return ret;
}

int luks_af_split(const uint8_t *key, size_t key_len, unsigned stripes, const EVP_MD *md, uint8_t *out)
{
	uint8_t block[LUKS_MAX_KEY];
	int ret = luks_random(out, key_len * (stripes - 1));

	ret = ret ? ret : gather(out, key_len, stripes, md, block);
	if (!ret) {
		xor_into(block, key, key_len);
		memcpy(out + key_len * (stripes - 1), block, key_len);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return ret;
}

int luks_af_merge(const uint8_t *in, size_t key_len, unsigned stripes, const EVP_MD *md, uint8_t *key)
{
	int ret = gather(in, key_len, stripes, md, key);

	if (!ret)
		xor_into(key, in + key_len * (stripes - 1), key_len);
	return ret;
}

int luks_area_crypt(const struct luks_slot *s, const uint8_t *key, bool encrypt, uint8_t *area, size_t len)
{
	struct luks_cipher *c;
	int ret = luks_cipher_new(&s->area_spec, key, s->area_key, LUKS_SECTOR, 1, &c);

	if (ret)
		return ret;
	ret = luks_cipher_run(c, encrypt, 0, area, len);
	luks_cipher_free(c);
	return ret;
}
