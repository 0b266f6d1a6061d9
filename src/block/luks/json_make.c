/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON metadata of a new LUKS2 volume: one key slot, one segment, the digest
 * that ties them together.  64-bit numbers are strings of decimal digits.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/luks/create.h"

static json_t *json_u64(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	return json_string(text);
}

static json_t *json_base64(const uint8_t *data, size_t len)
{
	uint8_t text[(LUKS_MAX_SALT + 2) / 3 * 4 + 1];

	EVP_EncodeBlock(text, data, (int)len);
	return json_string((const char *)text);
}

static json_t *make_kdf(const struct luks_kdf *k)
{
	if (k->kind == LUKS_PBKDF2)
		return json_pack("{s:s, s:s, s:I, s:o}", "type", "pbkdf2", "hash", luks_hash_name(k->hash), "iterations",
				 (json_int_t)k->iterations, "salt", json_base64(k->salt, k->salt_len));
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "type", k->kind == LUKS_ARGON2ID ? "argon2id" : "argon2i", "time",
			 (json_int_t)k->iterations, "memory", (json_int_t)k->memory, "cpus", (json_int_t)k->lanes, "salt",
			 json_base64(k->salt, k->salt_len));
}

static json_t *make_slot(const struct luks_new *n)
{
	return json_pack("{s:s, s:I, s:{s:s, s:I, s:s}, s:{s:s, s:o, s:o, s:s, s:I}, s:o}", "type", "luks2", "key_size",
			 (json_int_t)n->key_len, "af", "type", "luks1", "stripes", (json_int_t)LUKS_STRIPES, "hash",
			 luks_hash_name(n->slot.af_hash), "area", "type", "raw", "offset", json_u64(n->slot.offset), "size",
			 json_u64(n->slot.size), "encryption", n->slot.area_spec.text, "key_size",
			 (json_int_t)n->slot.area_key, "kdf", make_kdf(&n->slot.kdf));
}

static json_t *make_digest(const struct luks_new *n)
{
	json_t *d = make_kdf(&n->digest_kdf);

	if (d && (json_object_set_new(d, "keyslots", json_pack("[s]", "0")) ||
		  json_object_set_new(d, "segments", json_pack("[s]", "0")) ||
		  json_object_set_new(d, "digest", json_base64(n->digest, n->digest_len)))) {
		json_decref(d);
		return NULL;
	}
	return d;
}

int luks2_make_json(const struct luks_new *n, char *out, size_t room)
{
	json_t *root = json_pack("{s:{s:o}, s:{}, s:{s:{s:s, s:o, s:s, s:s, s:s, s:I}}, s:{s:o}, s:{s:o, s:o}}",
				 "keyslots", "0", make_slot(n), "tokens", "segments", "0", "type", "crypt", "offset",
				 json_u64(n->payload), "size", "dynamic", "iv_tweak", "0", "encryption", n->spec.text,
				 "sector_size", (json_int_t)n->sector, "digests", "0", make_digest(n), "config", "json_size",
				 json_u64(LUKS2_HDR - LUKS2_BIN), "keyslots_size", json_u64(n->payload - 2 * LUKS2_HDR));
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	int ret = text ? 0 : -ENOMEM;

	if (!ret && strlen(text) >= room)
		ret = -ENOSPC;
	if (!ret)
		memcpy(out, text, strlen(text) + 1);
	free(text);
	json_decref(root);
	return ret;
}
