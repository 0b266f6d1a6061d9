/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers of LUKS version 1 (LUKS On-Disk Format Specification 1.2.3): one
 * structure of big-endian numbers, with eight key slots of the same shape.
 */
#include <errno.h>
#include <stdio.h>

#include "base/checked.h"
#include "block/luks/internal.h"
#include "block/luks/luks1.h"

static int read_slot(const struct luks_place *at, const uint8_t *p, const EVP_MD *md, struct luks_head *h, unsigned i,
		     struct err *e)
{
	struct luks_slot *s = &h->slot[i];
	struct luks_slot_info *si = &h->i.slot[i];
	uint64_t area = align_up((uint64_t)(h->i.key_bits / 8) * LUKS_STRIPES, LUKS_SECTOR);

	s->active = luks_be32(p) == LUKS1_KEY_ENABLED;
	if (!s->active && luks_be32(p) != LUKS1_KEY_DISABLED)
		return luks_bad(at, e, "a key slot's state");
	s->offset = (uint64_t)luks_be32(p + K_OFFSET) * LUKS_SECTOR;
	s->size = area;
	*si = (struct luks_slot_info){ .active = s->active, .kdf = "pbkdf2", .offset = s->offset,
				       .iterations = s->active ? luks_be32(p + K_ITERATIONS) : 0,
				       .stripes = luks_be32(p + K_STRIPES) };
	if (!s->active)
		return 0;
	s->priority = 1;
	s->kdf = (struct luks_kdf){ .kind = LUKS_PBKDF2, .hash = md, .iterations = si->iterations, .salt_len = LUKS1_SALT };
	memcpy(s->kdf.salt, p + K_SALT, LUKS1_SALT);
	s->area_spec = h->spec;
	s->area_key = h->i.key_bits / 8;
	s->af_hash = md;
	if (si->stripes != LUKS_STRIPES)
		return luks_bad(at, e, "a key slot's number of stripes");
	if (s->offset < LUKS1_LEN || !range_inside(s->offset, area, h->i.payload ? MIN(h->i.payload, at->len) : at->len))
		return luks_bad(at, e, "the place of a key");
	return at->loose ? 0 : luks_check_kdf(at, &s->kdf, e);
}

int luks1_read(const struct luks_place *at, const uint8_t *first, struct luks_head *h, struct err *e)
{
	struct luks_info *i = &h->i;
	char name[33], mode[33], hash[33];
	const EVP_MD *md;
	int ret = 0;

	i->version = 1;
	i->sector_size = LUKS_SECTOR;
	luks_text(first + H1_CIPHER, 32, name);
	luks_text(first + H1_MODE, 32, mode);
	luks_text(first + H1_HASH, 32, hash);
	luks_text(first + H1_UUID, 40, i->uuid);
	md = luks_hash(hash);
	if (luks_be32(first + H1_KEY_BYTES) > LUKS_MAX_KEY)
		return luks_bad(at, e, "the size of its key");
	i->key_bits = luks_be32(first + H1_KEY_BYTES) * 8;
	i->payload = (uint64_t)luks_be32(first + H1_PAYLOAD) * LUKS_SECTOR;
	if (luks_spec_parse(name, mode, &h->spec))
		return err_set(e, -ENOTSUP, "image '%s' is encrypted with %s-%s, which is not supported: aes with xts-plain64, "
			       "cbc-essiv:sha256 or cbc-plain64 is", at->name, name, mode);
	if (!md)
		return err_set(e, -ENOTSUP, "image '%s' uses the hash %s, which is not supported: sha1, sha256 and sha512 are",
			       at->name, hash);
	memcpy(i->cipher, h->spec.text, sizeof(i->cipher));
	snprintf(i->hash, sizeof(i->hash), "%s", luks_hash_name(md));
	if (!luks_key_size_ok(&h->spec, i->key_bits / 8))
		return luks_bad(at, e, "the size of its key");
	h->digest_kdf = (struct luks_kdf){ .kind = LUKS_PBKDF2, .hash = md, .salt_len = LUKS1_SALT,
					   .iterations = luks_be32(first + H1_DIGEST_ITERATIONS) };
	memcpy(h->digest_kdf.salt, first + H1_DIGEST_SALT, LUKS1_SALT);
	memcpy(h->digest, first + H1_DIGEST, LUKS1_DIGEST);
	h->digest_len = LUKS1_DIGEST;
	i->digest_iterations = h->digest_kdf.iterations;
	if (!at->loose)
		ret = luks_check_kdf(at, &h->digest_kdf, e);
	i->n_slots = h->n_slots = LUKS1_SLOTS;
	for (unsigned k = 0; k < LUKS1_SLOTS && !ret; k++)
		ret = read_slot(at, first + H1_SLOTS + k * LUKS1_SLOT_LEN, md, h, k, e);
	return ret;
}
