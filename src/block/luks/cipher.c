/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encryption of sectors: each by itself, under one key, with an IV made of its
 * number.
 *
 * OpenSSL's contexts hold the expanded key and a state, so each thread that works
 * needs its own: there are as many "lanes" as threads, made at once, and a request
 * for work never has to make one.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>

#include "block/luks/internal.h"

#define IV_LEN 16

struct lane {
	EVP_CIPHER_CTX *dec, *enc, *essiv;
	struct lane *next;
};

struct luks_cipher {
	enum luks_iv iv;
	unsigned sector, n_lanes;
	pthread_mutex_t lock;
	pthread_cond_t back;
	struct lane *idle;
	struct lane lane[];
};

static const EVP_CIPHER *choose_cipher(enum luks_mode mode, size_t key_len)
{
	if (mode == LUKS_XTS)
		return key_len == 64 ? EVP_aes_256_xts() : EVP_aes_128_xts();
	return key_len == 32 ? EVP_aes_256_cbc() : key_len == 24 ? EVP_aes_192_cbc() : EVP_aes_128_cbc();
}

static EVP_CIPHER_CTX *make_ctx(const EVP_CIPHER *type, const uint8_t *key, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx && EVP_CipherInit_ex(ctx, type, NULL, key, NULL, encrypt) && EVP_CIPHER_CTX_set_padding(ctx, 0))
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

/* ESSIV: the IV is the sector's number, encrypted with the hash of the key. */
static EVP_CIPHER_CTX *make_essiv(const EVP_MD *md, const uint8_t *key, size_t key_len)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_CIPHER_CTX *ctx = NULL;
	unsigned len = 0;

	if (EVP_Digest(key, key_len, digest, &len, md, NULL))
		ctx = make_ctx(len == 32 ? EVP_aes_256_ecb() : len == 24 ? EVP_aes_192_ecb() : EVP_aes_128_ecb(), digest, 1);
	OPENSSL_cleanse(digest, sizeof(digest));
	return ctx;
}

static int lane_init(struct lane *l, const struct luks_spec *s, const uint8_t *key, size_t key_len)
{
	const EVP_CIPHER *type = choose_cipher(s->mode, key_len);

	l->dec = make_ctx(type, key, 0);
	l->enc = make_ctx(type, key, 1);
	if (s->iv == LUKS_ESSIV)
		l->essiv = make_essiv(s->essiv_hash, key, key_len);
	/* Halves of an XTS key that are alike are no key. */
	return l->dec && l->enc && (l->essiv || s->iv != LUKS_ESSIV) ? 0 : -EINVAL;
}

int luks_cipher_new(const struct luks_spec *s, const uint8_t *key, size_t key_len, unsigned sector, unsigned lanes,
		    struct luks_cipher **out)
{
	struct luks_cipher *c = calloc(1, sizeof(*c) + lanes * sizeof(c->lane[0]));
	int ret = 0;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->back, NULL);
	c->iv = s->iv;
	c->sector = sector;
	for (unsigned i = 0; i < lanes && !ret; i++) {
		struct lane *l = &c->lane[c->n_lanes++];

		ret = lane_init(l, s, key, key_len);
		l->next = c->idle;
		c->idle = l;
	}
	if (ret) {
		luks_cipher_free(c);
		return ret;
	}
	*out = c;
	return 0;
}

void luks_cipher_free(struct luks_cipher *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->n_lanes; i++) {
		EVP_CIPHER_CTX_free(c->lane[i].dec);
		EVP_CIPHER_CTX_free(c->lane[i].enc);
		EVP_CIPHER_CTX_free(c->lane[i].essiv);
	}
	pthread_cond_destroy(&c->back);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct lane *take_lane(struct luks_cipher *c)
{
	struct lane *l;

	pthread_mutex_lock(&c->lock);
	while (!c->idle)
		pthread_cond_wait(&c->back, &c->lock);
	l = c->idle;
	c->idle = l->next;
	pthread_mutex_unlock(&c->lock);
	return l;
}

static void give_lane(struct luks_cipher *c, struct lane *l)
{
	pthread_mutex_lock(&c->lock);
	l->next = c->idle;
	c->idle = l;
	pthread_cond_signal(&c->back);
	pthread_mutex_unlock(&c->lock);
}

static bool make_iv(const struct luks_cipher *c, struct lane *l, uint64_t n, uint8_t *iv)
{
	int len;

	memset(iv, 0, IV_LEN);
	st_le64(iv, c->iv == LUKS_PLAIN ? (uint32_t)n : n);
	return c->iv != LUKS_ESSIV || EVP_CipherUpdate(l->essiv, iv, &len, iv, IV_LEN);
}

int luks_cipher_run(struct luks_cipher *c, bool encrypt, uint64_t iv, uint8_t *buf, size_t len)
{
	struct lane *l = take_lane(c);
	EVP_CIPHER_CTX *ctx = encrypt ? l->enc : l->dec;
	uint8_t block[IV_LEN];
	bool ok = true;
	int n;

	for (size_t at = 0; at < len && ok; at += c->sector, iv += c->sector / LUKS_SECTOR)
		ok = make_iv(c, l, iv, block) && EVP_CipherInit_ex(ctx, NULL, NULL, NULL, block, -1) &&
		     EVP_CipherUpdate(ctx, buf + at, &n, buf + at, (int)c->sector) && n == (int)c->sector;
	give_lane(c, l);
	return ok ? 0 : -EIO;
}
