// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Encryption: options of new images, and what a LUKS header says about itself.
 *
 * Option names are qemu-img's: "cipher-alg" and so on of LUKS volumes,
 * "encrypt.cipher-alg" of qcow2 images with LUKS inside.  Version 2, sector sizes
 * and Argon2 are ours.
 */
#include "img/luks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/luks/luks.h"
#include "block/secret.h"

static const char *crypt_key(const struct img_keys *k, const char *prefix, const char *name, char *buf, size_t len)
{
	snprintf(buf, len, "%s%s", prefix, name);
	return img_keys_get(k, buf);
}

/* "aes-256", "xts", "plain64" -> "aes-xts-plain64" and 512 bits. */
static int choose_cipher(const struct img_keys *k, const char *prefix, struct img_luks *l, struct err *e)
{
	char b[64];
	const char *alg = crypt_key(k, prefix, "cipher-alg", b, sizeof(b));
	const char *mode = crypt_key(k, prefix, "cipher-mode", b, sizeof(b));
	const char *iv = crypt_key(k, prefix, "ivgen-alg", b, sizeof(b));
	const char *iv_hash = crypt_key(k, prefix, "ivgen-hash-alg", b, sizeof(b));
	unsigned bits = 256;

	mode = mode ? mode : "xts";
	iv = iv ? iv : "plain64";
	if (alg && sscanf(alg, "aes-%u", &bits) != 1)
		return err_set(e, -EINVAL, "%scipher-alg=%.40s: it is aes-128, aes-192 or aes-256", prefix, alg);
	if (strcmp(iv, "essiv") != 0)
		iv_hash = NULL;
	else if (!iv_hash)
		iv_hash = "sha256";
	snprintf(l->cipher, sizeof(l->cipher), "aes-%.20s-%.20s%s%.10s", mode, iv, iv_hash ? ":" : "", iv_hash ? iv_hash : "");
	l->o.cipher = l->cipher;
	l->o.key_bits = !strcmp(mode, "xts") ? bits * 2 : bits;
	return 0;
}

static int luks_number(const struct img_keys *k, const char *prefix, const char *name, uint64_t max, uint64_t *out, struct err *e)
{
	char b[64];
	const char *val = crypt_key(k, prefix, name, b, sizeof(b));

	return val ? img_number(val, b, max, out, e) : 0;
}

static int luks_parse(const struct img_keys *k, const char *prefix, struct img_luks *l, struct err *e)
{
	uint64_t ms = 0, version = 0, sector = 0, memory = 0, lanes = 0, rounds = 0;
	char b[64];
	int ret;

	*l = (struct img_luks){ .key = crypt_key(k, prefix, "key-secret", b, sizeof(b)) };
	l->o.hash = crypt_key(k, prefix, "hash-alg", b, sizeof(b));
	l->o.kdf = crypt_key(k, prefix, "pbkdf", b, sizeof(b));
	l->o.label = crypt_key(k, prefix, "label", b, sizeof(b));
	ret = choose_cipher(k, prefix, l, e);
	ret = ret ? ret : luks_number(k, prefix, "iter-time", 60000, &ms, e);
	ret = ret ? ret : luks_number(k, prefix, "version", 2, &version, e);
	ret = ret ? ret : luks_number(k, prefix, "sector-size", 4096, &sector, e);
	ret = ret ? ret : luks_number(k, prefix, "pbkdf-memory", 1u << 20, &memory, e);
	ret = ret ? ret : luks_number(k, prefix, "pbkdf-parallel", 4, &lanes, e);
	ret = ret ? ret : luks_number(k, prefix, "pbkdf-force-iterations", UINT32_MAX, &rounds, e);
	l->o.iter_ms = (unsigned)ms;
	l->o.version = (unsigned)version;
	l->o.sector_size = (unsigned)sector;
	l->o.memory = (uint32_t)memory;
	l->o.lanes = (uint32_t)lanes;
	l->o.force_iterations = (uint32_t)rounds;
	return ret;
}

int img_luks_options(const struct img_keys *k, const char *prefix, struct img_luks *l, struct err *e)
{
	int ret = luks_parse(k, prefix, l, e);

	if (ret || l->key)
		return ret;
	return err_set(e, -EINVAL, "an encrypted image needs a passphrase: --object secret,id=ID,file=FILE -o %skey-secret=ID", prefix);
}

int img_luks_measure(const struct img_keys *k, const char *prefix, uint64_t *bytes, struct err *e)
{
	struct img_luks l;
	int ret = luks_parse(k, prefix, &l, e);

	ret = ret ? ret : luks_create_check(&l.o, e);
	*bytes = ret ? 0 : luks_header_size(&l.o);
	return ret;
}

static int make_volume(struct img *m, struct blk_node *n, struct img_luks *l)
{
	const uint8_t *pass;
	size_t len;
	int ret = blk_secrets_get(m->secrets, l->key, &pass, &len, &m->e);

	if (!ret && n->i.is_device && luks_header_size(&l->o) + l->o.size > n->i.size)
		ret = err_set(&m->e, -ENOSPC, "device '%s' is too small for a header of %llu bytes and that disk", n->path,
			      (unsigned long long)luks_header_size(&l->o));
	return ret ? ret : luks_create(n, &l->o, pass, len, &m->e);
}

static int luks_format_make(struct img *m, const char *path, const struct img_keys *k)
{
	struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *n;
	struct img_luks l;
	int ret = img_luks_options(k, "", &l, &m->e);

	ret = ret ? ret : img_keys_size(k, "size", &l.o.size, &m->e);
	ret = ret ? ret : blk_open_file(m->loop, path, &fo, &n, &m->e);
	if (ret)
		return ret;
	ret = make_volume(m, n, &l);
	blk_close(n);
	return ret;
}

static const struct img_key luks_keys[] = {
	{ "size", "size", "size of the disk" },
	{ "key-secret", "ID", "the passphrase: --object secret,id=ID,file=FILE" },
	{ "cipher-alg", "aes-128|aes-192|aes-256", "default aes-256" },
	{ "cipher-mode", "xts|cbc", "default xts" },
	{ "ivgen-alg", "plain64|essiv|plain", "default plain64" },
	{ "ivgen-hash-alg", "sha256", "with essiv" },
	{ "hash-alg", "sha1|sha256|sha512", "default sha256" },
	{ "iter-time", "ms", "time to open the volume on a machine like this, default 2000" },
	{ "version", "1|2", "of LUKS, default 1, which QEMU knows; 2 for cryptsetup and lodge" },
	{ "label", "TEXT", "version 2" },
	{ "pbkdf", "argon2id|argon2i|pbkdf2", "version 2: how the key is derived, default argon2id" },
	{ "pbkdf-force-iterations", "number", "instead of measuring" },
	{ "pbkdf-memory", "KiB", "argon2: at most so much, default 1 GiB or half of this machine's" },
	{ "pbkdf-parallel", "1 to 4", "argon2: threads" },
	{ "sector-size", "512 to 4096", "version 2: unit of encryption, default 512" },
	{ NULL },
};

const struct img_format img_format_luks = { .name = "luks", .keys = luks_keys, .create = luks_format_make };

/* ---- what a header says ---- */

/* "aes-xts-plain64" in qemu-img's three parts. */
static int describe_cipher(json_t *j, const struct luks_info *i)
{
	char mode[16] = "", iv[32] = "", alg[16];
	unsigned bits = i->key_bits;
	char *hash;

	sscanf(i->cipher, "aes-%15[^-]-%31s", mode, iv);
	if (!strcmp(mode, "xts"))
		bits /= 2;
	snprintf(alg, sizeof(alg), "aes-%u", bits);
	hash = strchr(iv, ':');
	if (hash)
		*hash++ = '\0';
	return json_object_set_new(j, "ivgen-alg", json_string(iv)) |
	       (hash ? json_object_set_new(j, "ivgen-hash-alg", json_string(hash)) : 0) |
	       json_object_set_new(j, "hash-alg", json_string(i->hash)) | json_object_set_new(j, "cipher-alg", json_string(alg)) |
	       json_object_set_new(j, "uuid", json_string(i->uuid)) | json_object_set_new(j, "cipher-mode", json_string(mode));
}

static json_t *describe_slot(const struct luks_info *i, const struct luks_slot_info *s)
{
	json_t *j = json_pack("{s:b}", "active", s->active);
	int bad = !j;

	if (s->active)
		bad = bad || json_object_set_new(j, "iters", json_integer(s->iterations));
	if (s->active || i->version == 1)
		bad = bad || json_object_set_new(j, "key-offset", json_integer((json_int_t)s->offset));
	if (s->active)
		bad = bad || json_object_set_new(j, "stripes", json_integer(s->stripes));
	if (i->version == 2 && s->active)
		bad = bad || json_object_set_new(j, "pbkdf", json_string(s->kdf));
	if (s->active && s->memory) {
		bad = bad || json_object_set_new(j, "memory", json_integer(s->memory));
		bad = bad || json_object_set_new(j, "parallel", json_integer(s->lanes));
	}
	if (!bad)
		return j;
	json_decref(j);
	return NULL;
}

json_t *img_luks_json(const struct luks_info *i)
{
	json_t *j = json_object(), *slots = json_array();
	int bad = !j || !slots || describe_cipher(j, i);

	for (unsigned k = 0; k < i->n_slots && !bad; k++)
		/* Of the 32 that LUKS2 may have only those that are there. */
		if (i->version == 1 || i->slot[k].active)
			bad = json_array_append_new(slots, describe_slot(i, &i->slot[k]));
	bad = bad || json_object_set_new(j, "slots", json_incref(slots));
	bad = bad || json_object_set_new(j, "payload-offset", json_integer((json_int_t)i->payload));
	bad = bad || json_object_set_new(j, "master-key-iters", json_integer(i->digest_iterations));
	if (i->version == 2) {
		bad = bad || json_object_set_new(j, "version", json_integer(2));
		bad = bad || json_object_set_new(j, "sector-size", json_integer(i->sector_size));
		bad = bad || (i->label[0] && json_object_set_new(j, "label", json_string(i->label)));
	}
	json_decref(slots);
	if (!bad)
		return j;
	json_decref(j);
	return NULL;
}
