// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VNC authentication (RFC 6143, 7.2.2), on OpenSSL.
 *
 * The cipher is DES with the password's bytes turned around as key.  OpenSSL's
 * default provider has triple DES only, which with three equal keys is the same.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "display/vnc/vnc_int.h"

bool vnc_challenge(uint8_t out[VNC_CHALLENGE]) { return RAND_bytes(out, VNC_CHALLENGE) == 1; }

static uint8_t mirrored(uint8_t b)
{
	uint8_t r = 0;

	for (unsigned i = 0; i < 8; i++)
		r |= (uint8_t)((b >> i & 1) << (7 - i));
	return r;
}

bool vnc_answer_right(const char *password, const uint8_t challenge[VNC_CHALLENGE], const uint8_t answer[VNC_CHALLENGE])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t key[24] = { 0 }, right[VNC_CHALLENGE + 8];
	int n = 0;
	bool ok;

	for (unsigned i = 0; i < 8 && password[i]; i++)
		key[i] = key[i + 8] = key[i + 16] = mirrored((uint8_t)password[i]);
	ok = ctx && EVP_EncryptInit_ex(ctx, EVP_des_ede3_ecb(), NULL, key, NULL) == 1 && EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
	     EVP_EncryptUpdate(ctx, right, &n, challenge, VNC_CHALLENGE) == 1 && n == VNC_CHALLENGE;
	EVP_CIPHER_CTX_free(ctx);
	OPENSSL_cleanse(key, sizeof(key));
	return ok && !CRYPTO_memcmp(right, answer, VNC_CHALLENGE);
}

void vnc_auth_prepare(void)
{
	uint8_t challenge[VNC_CHALLENGE] = { 0 }, sum[EVP_MAX_MD_SIZE];
	unsigned n;

	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL);
	vnc_challenge(challenge);
	vnc_answer_right("", challenge, challenge);
	EVP_Digest("", 0, sum, &n, EVP_sha1(), NULL);
}
