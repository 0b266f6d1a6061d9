/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of hashes and ciphers in LUKS headers.
 *
 * Known are the hashes of OpenSSL's default provider that LUKS volumes are made
 * with, and AES.  Other ciphers that dm-crypt has (serpent, twofish, ...) are not
 * in OpenSSL, or not to be recommended (modes without a key's worth of IV).
 */
#include <errno.h>
#include <stdio.h>

#include "block/luks/internal.h"

static const struct {
	const char *name;
	const EVP_MD *(*md)(void);
} hashes[] = {
	{ "sha1", EVP_sha1 }, { "sha224", EVP_sha224 }, { "sha256", EVP_sha256 }, { "sha384", EVP_sha384 },
	{ "sha512", EVP_sha512 },
};

const EVP_MD *luks_hash(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(hashes); i++)
		if (!strcmp(name, hashes[i].name))
			return hashes[i].md();
	return NULL;
}

const char *luks_hash_name(const EVP_MD *md)
{
	for (unsigned i = 0; i < ARRAY_LEN(hashes); i++)
		if (md == hashes[i].md())
			return hashes[i].name;
	return "";
}

static int parse_iv(const char *iv, struct luks_spec *out)
{
	if (!strncmp(iv, "essiv:", 6)) {
		out->iv = LUKS_ESSIV;
		out->essiv_hash = luks_hash(iv + 6);
		/* The hash is an AES key. */
		return out->essiv_hash && luks_key_size_ok(&(struct luks_spec){ .mode = LUKS_CBC },
							   (size_t)EVP_MD_get_size(out->essiv_hash)) ? 0 : -ENOTSUP;
	}
	out->iv = !strcmp(iv, "plain") ? LUKS_PLAIN : LUKS_PLAIN64;
	return out->iv == LUKS_PLAIN || !strcmp(iv, "plain64") ? 0 : -ENOTSUP;
}

int luks_spec_parse(const char *cipher, const char *mode, struct luks_spec *out)
{
	const char *dash;
	int n;

	*out = (struct luks_spec){ 0 };
	n = mode ? snprintf(out->text, sizeof(out->text), "%s-%s", cipher, mode)
		 : snprintf(out->text, sizeof(out->text), "%s", cipher);
	if (n < 0 || (size_t)n >= sizeof(out->text) || strncmp(out->text, "aes-", 4))
		return -ENOTSUP;
	dash = strchr(out->text + 4, '-');
	if (!dash || (strncmp(out->text + 4, "xts-", 4) && strncmp(out->text + 4, "cbc-", 4)))
		return -ENOTSUP;
	out->mode = out->text[4] == 'x' ? LUKS_XTS : LUKS_CBC;
	return parse_iv(dash + 1, out);
}

bool luks_key_size_ok(const struct luks_spec *s, size_t key_len)
{
	if (s->mode == LUKS_XTS)
		return key_len == 32 || key_len == 64;
	return key_len == 16 || key_len == 24 || key_len == 32;
}
