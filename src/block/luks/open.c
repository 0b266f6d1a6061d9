/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a header and a passphrase to a key, and to a node.
 *
 * Every slot that may be tried is: its key is derived, its area decrypted and
 * merged, and the result compared with the header's digest.  The work one header
 * can cause is bounded in all, since a hostile one has many slots.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/text.h"
#include "block/luks/internal.h"
#include "block/luks/luks1.h"
#include "block/luks/luks2.h"
#include "block/secret.h"

#define DEFAULT_PBKDF2 (1ull << 26)
#define DEFAULT_KIB (1ull << 20)
#define DEFAULT_WORK (64ull << 20)
#define MAX_LANES 16u
/* Slots whose cost is at the limit that are tried, at most. */
#define FULL_SLOTS 3
#define CREW_LANES 5

void luks_text(const void *from, size_t room, char *out)
{
	memcpy(out, from, room);
	out[room] = '\0';
	text_plain(out, "");
}

int luks_bad(const struct luks_place *at, struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "image '%s' is no good: its LUKS header is damaged (%s)", at->name, what);
}

static struct luks_limits effective(const struct luks_limits *l)
{
	struct luks_limits out = l ? *l : (struct luks_limits){ 0 };

	out.pbkdf2 = out.pbkdf2 ? out.pbkdf2 : DEFAULT_PBKDF2;
	out.argon2_kib = out.argon2_kib ? out.argon2_kib : DEFAULT_KIB;
	out.argon2_work = out.argon2_work ? out.argon2_work : DEFAULT_WORK;
	return out;
}

int luks_check_kdf(const struct luks_place *at, const struct luks_kdf *k, struct err *e)
{
	const struct luks_limits *l = &at->limits;

	if (!k->iterations)
		return luks_bad(at, e, "a key's number of rounds is 0");
	if (k->kind == LUKS_PBKDF2)
		return k->iterations <= l->pbkdf2 ? 0 :
			err_set(e, -EPERM, "image '%s' wants %u rounds to derive a key, more than the %" PRIu64 " that are allowed: "
				"'cryptsetup luksConvertKey' can lower it", at->name, k->iterations, l->pbkdf2);
	if (!k->lanes || k->lanes > MAX_LANES || k->memory < 8 * k->lanes)
		return luks_bad(at, e, "a key's memory and threads");
	if (k->memory > l->argon2_kib)
		return err_set(e, -EPERM, "image '%s' wants %u MiB of memory to derive a key, more than the %" PRIu64 " MiB that "
			       "are allowed: 'cryptsetup luksConvertKey --pbkdf-memory' can lower it", at->name,
			       k->memory >> 10, l->argon2_kib >> 10);
	if ((uint64_t)k->memory * k->iterations > l->argon2_work)
		return err_set(e, -EPERM, "image '%s' wants %u passes over %u MiB to derive a key, more than is allowed: "
			       "'cryptsetup luksConvertKey' can lower it", at->name, k->iterations, k->memory >> 10);
	return 0;
}

int luks_read(const struct luks_place *at, struct luks_head *h, struct err *e)
{
	uint8_t *first = aligned_alloc(4096, 4096);
	int ret = first ? blk_pread(at->file, at->off, first, 1024) : -ENOMEM;

	*h = (struct luks_head){ 0 };
	if (ret)
		err_set(e, ret, "the header of image '%s' cannot be read: %s", at->name, strerror(-ret));
	else if (!memcmp(first, LUKS_MAGIC, 6) && luks_be16(first + H1_VERSION) == 1)
		ret = at->len < LUKS1_LEN ? luks_bad(at, e, "it is cut off") : luks1_read(at, first, h, e);
	else if (!memcmp(first, LUKS_MAGIC, 6) && luks_be16(first + H1_VERSION) > 2)
		ret = err_set(e, -ENOTSUP, "image '%s' is of LUKS version %u; 1 and 2 are known here", at->name,
			      luks_be16(first + H1_VERSION));
	else
		/* Perhaps only its second header is there. */
		ret = luks2_read(at, h, e);
	free(first);
	return ret;
}

/* ---- keys ---- */

static uint64_t cost(const struct luks_limits *l, const struct luks_kdf *k)
{
	/* In thousandths of what is allowed to one. */
	return k->kind == LUKS_PBKDF2 ? k->iterations * 1000ull / l->pbkdf2 :
					(uint64_t)k->memory * k->iterations * 1000 / l->argon2_work;
}

static int digest_fits(const struct luks_head *h, const uint8_t *key)
{
	uint8_t sum[LUKS_MAX_DIGEST];
	int ret = luks_derive(&h->digest_kdf, key, h->i.key_bits / 8, sum, h->digest_len);

	if (!ret && CRYPTO_memcmp(sum, h->digest, h->digest_len))
		ret = -EACCES;
	return ret;
}

static int try_slot(const struct luks_place *at, const struct luks_head *h, const struct luks_slot *s, const uint8_t *pass,
		    size_t len, uint8_t *key)
{
	uint8_t *derived = secret_alloc(LUKS_MAX_KEY), *area = secret_alloc(s->size);
	int ret = derived && area ? 0 : -ENOMEM;

	ret = ret ? ret : luks_derive(&s->kdf, pass, len, derived, s->area_key);
	ret = ret ? ret : blk_pread(at->file, at->off + s->offset, area, s->size);
	ret = ret ? ret : luks_area_crypt(s, derived, false, area, s->size);
	ret = ret ? ret : luks_af_merge(area, h->i.key_bits / 8, LUKS_STRIPES, s->af_hash, key);
	ret = ret ? ret : digest_fits(h, key);
	secret_free(derived, LUKS_MAX_KEY);
	secret_free(area, s->size);
	return ret;
}

/* The slot to try next: those of high priority first. */
static struct luks_slot *next_slot(struct luks_head *h)
{
	struct luks_slot *best = NULL;

	for (unsigned i = 0; i < h->n_slots; i++) {
		struct luks_slot *s = &h->slot[i];

		if (s->active && !s->tried && s->priority && (!best || s->priority > best->priority))
			best = s;
	}
	return best;
}

int luks_unlock(const struct luks_place *at, struct luks_head *h, const uint8_t *pass, size_t len, uint8_t *key,
		struct err *e)
{
	uint64_t spent = 0;
	struct luks_slot *s;
	int ret = -EACCES;
	unsigned n = 0;

	while (ret == -EACCES && (s = next_slot(h))) {
		spent += cost(&at->limits, &s->kdf) + cost(&at->limits, &h->digest_kdf);
		if (spent > FULL_SLOTS * 2000)
			return err_set(e, -EPERM, "image '%s' has so many keys that are so hard to derive that not all can be tried",
				       at->name);
		s->tried = true;
		n++;
		ret = try_slot(at, h, s, pass, len, key);
		/* A key that its cipher refuses is not the one. */
		if (ret == -EINVAL)
			ret = -EACCES;
	}
	if (ret == -EACCES)
		return n ? err_set(e, ret, "image '%s': the key given does not open it (wrong passphrase; %u key slot%s tried; a "
				   "newline at the end of a key file is part of the passphrase)", at->name, n, n > 1 ? "s were" : " was")
			 : err_set(e, ret, "image '%s' has no key slot that can be used: nothing opens it", at->name);
	return ret ? err_set(e, ret, "the key of image '%s' cannot be had: %s", at->name, strerror(-ret)) : 0;
}

/* The secret for the layer at this depth. */
static int secret_for(const struct blk_image_opts *o, unsigned depth, const char *name, const uint8_t **pass, size_t *len,
		      struct err *e)
{
	const char *id = blk_image_key(o, depth);

	if (!id)
		return err_set(e, -EACCES, "image '%s' is encrypted, and no key is given for it (key-file= with a disk, key-secret= "
			       "with lodge img; format raw takes a LUKS volume as it is)", name);
	return blk_secrets_get(o->secrets, id, pass, len, e);
}

/* The cipher, with a key that lives no longer than this function. */
static int open_cipher(const struct luks_place *at, struct luks_head *h, const struct blk_image_opts *o, unsigned depth,
		       struct luks_cipher **out, struct err *e)
{
	const uint8_t *pass = NULL;
	uint8_t *key;
	size_t len = 0;
	int ret = secret_for(o, depth, at->name, &pass, &len, e);

	if (ret)
		return ret;
	key = secret_alloc(LUKS_MAX_KEY);
	if (!key)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", at->name);
	ret = luks_unlock(at, h, pass, len, key, e);
	if (!ret) {
		ret = luks_cipher_new(&h->spec, key, h->i.key_bits / 8, h->i.sector_size, CREW_LANES, out);
		if (ret)
			err_set(e, ret, ret == -ENOMEM ? "out of memory while opening image '%s'" :
				"the key of image '%s' is refused by its cipher", at->name);
	}
	secret_free(key, LUKS_MAX_KEY);
	return ret;
}

/* ---- volumes ---- */

static int volume_size(const struct luks_place *at, const struct luks_info *i, uint64_t *size, struct err *e)
{
	uint64_t end = at->file->i.size;

	if (!i->payload)
		return err_set(e, -ENOTSUP, "image '%s' is a LUKS header without its volume (detached), which is not supported",
			       at->name);
	*size = i->size ? i->size : i->payload < end ? align_down(end - i->payload, i->sector_size) : 0;
	if (!*size || !range_inside(i->payload, *size, end))
		return err_set(e, -EINVAL, "image '%s' is too short for the volume that its LUKS header describes: part of the file is "
			       "missing", at->name);
	return 0;
}

int luks_open_limited(struct blk_node *file, const struct blk_image_opts *o, unsigned depth,
		      const struct luks_limits *limits, struct blk_node **out, struct err *e)
{
	struct luks_place at = { .file = file, .len = file->i.size, .name = file->path ? file->path : "",
				 .limits = effective(limits), .loose = o->no_key };
	struct luks_head *h = malloc(sizeof(*h));
	struct luks_cipher *c = NULL;
	struct luks_node_opts no;
	uint64_t size = 0;
	int ret;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", at.name);
	ret = luks_read(&at, h, e);
	ret = ret ? ret : volume_size(&at, &h->i, &size, e);
	if (!ret && !o->no_key)
		ret = open_cipher(&at, h, o, depth, &c, e);
	if (!ret) {
		no = (struct luks_node_opts){ .payload = h->i.payload, .size = size, .iv_tweak = h->iv_tweak,
					      .sector = h->i.sector_size, .can_discard = o->discard || h->i.allow_discards,
					      .info = &h->i };
		ret = luks_node_new(file, c, &no, out);
		if (ret) {
			luks_cipher_free(c);
			err_set(e, ret, "out of memory while opening image '%s'", at.name);
		}
	}
	free(h);
	return ret;
}

int luks_open(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, struct blk_node **out, struct err *e)
{
	return luks_open_limited(file, o, depth, NULL, out, e);
}

/* ---- inside other formats ---- */

static int read_inner(const struct luks_place *at, struct luks_head *h, struct err *e)
{
	int ret = luks_read(at, h, e);

	if (!ret && h->i.version != 1)
		ret = err_set(e, -ENOTSUP, "image '%s' has a header of LUKS version %u inside; there it is version 1", at->name,
			      h->i.version);
	return ret;
}

int luks_inspect(struct blk_node *head, uint64_t off, uint64_t len, const char *name, struct luks_info *out, struct err *e)
{
	const struct luks_place at = { .file = head, .off = off, .len = len, .name = name, .loose = true,
				       .limits = effective(NULL) };
	struct luks_head *h = malloc(sizeof(*h));
	int ret;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", name);
	ret = read_inner(&at, h, e);
	if (!ret)
		*out = h->i;
	free(h);
	return ret;
}

int luks_inner_open(struct blk_node *head, uint64_t off, uint64_t len, struct blk_node *data, const char *name,
		    const struct blk_image_opts *o, unsigned depth, struct blk_node **out, struct err *e)
{
	const struct luks_place at = { .file = head, .off = off, .len = len, .name = name, .loose = o->no_key,
				       .limits = effective(NULL) };
	struct luks_node_opts no = { .sector = LUKS_SECTOR, .can_discard = true, .borrowed = true };
	struct luks_head *h = malloc(sizeof(*h));
	struct luks_cipher *c = NULL;
	int ret;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", name);
	ret = read_inner(&at, h, e);
	if (!ret && !o->no_key)
		ret = open_cipher(&at, h, o, depth, &c, e);
	if (!ret) {
		no.info = &h->i;
		ret = luks_node_new(data, c, &no, out);
		if (ret) {
			luks_cipher_free(c);
			err_set(e, ret, "out of memory while opening image '%s'", name);
		}
	}
	free(h);
	return ret;
}
