/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON metadata of LUKS2: key slots, the segment, the digest that proves the
 * key, configuration.
 *
 * jansson parses the text; here every member is looked for by name and type, and
 * numbers (64-bit ones are strings of decimal digits) are checked.  Volumes whose
 * metadata demand what is not known here (integrity, several segments, a change
 * of keys under way) are refused, not guessed at.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/luks/internal.h"

struct meta {
	const struct luks_place *at;
	uint64_t hdr_size;
	struct luks_head *h;
	const char *segment;		/* its name */
	struct err *e;
};

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

static bool read_u64(const json_t *o, const char *name, uint64_t *out)
{
	const char *s = text_of(o, name);
	uint64_t v = 0;

	if (!*s)
		return false;
	for (; *s; s++)
		if (!isdigit((unsigned char)*s) || mul_overflows(v, 10, &v) || add_overflows(v, (uint64_t)(*s - '0'), &v))
			return false;
	*out = v;
	return true;
}

static bool read_u32(const json_t *o, const char *name, uint32_t *out)
{
	const json_t *v = json_object_get(o, name);

	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
		return false;
	*out = (uint32_t)json_integer_value(v);
	return true;
}

/* At most `room` bytes. */
static bool read_base64(const json_t *o, const char *name, uint8_t *out, size_t room, uint32_t *len)
{
	const char *s = text_of(o, name);
	size_t n = strlen(s);
	uint8_t buf[(LUKS_MAX_SALT + 2) / 3 * 3 + 3];
	int got;

	if (!n || n % 4 || n / 4 * 3 > sizeof(buf))
		return false;
	got = EVP_DecodeBlock(buf, (const uint8_t *)s, (int)n);
	if (got < 0)
		return false;
	got -= (s[n - 1] == '=') + (s[n - 2] == '=');
	if (got <= 0 || (size_t)got > room)
		return false;
	memcpy(out, buf, (size_t)got);
	*len = (uint32_t)got;
	return true;
}

static bool names(const json_t *array, const char *text)
{
	const json_t *v;
	size_t i;

	json_array_foreach(array, i, v)
		if (text && json_is_string(v) && !strcmp(json_string_value(v), text))
			return true;
	return false;
}

static int parse_config(struct meta *m, const json_t *config)
{
	const json_t *must = json_object_get(json_object_get(config, "requirements"), "mandatory");
	char what[41];

	if (!json_is_object(config))
		return luks_bad(m->at, m->e, "its configuration");
	if (json_array_size(must)) {
		const char *first = json_string_value(json_array_get(must, 0));

		luks_text(first ? first : "", strnlen(first ? first : "", 40), what);
		return err_set(m->e, -ENOTSUP, "image '%s' requires '%s', which is not supported: if its keys are being changed, "
			       "let cryptsetup complete that", m->at->name, what);
	}
	m->h->i.allow_discards = names(json_object_get(config, "flags"), "allow-discards");
	return 0;
}

static int parse_segment(struct meta *m, const json_t *segments)
{
	struct luks_info *i = &m->h->i;
	void *only = json_object_iter((json_t *)(uintptr_t)segments);
	const json_t *s;
	uint32_t sector;
	char shown[41];

	if (json_object_size(segments) != 1)
		return err_set(m->e, -ENOTSUP, "image '%s' has %zu segments; volumes of one are supported", m->at->name,
			       json_object_size(segments));
	m->segment = json_object_iter_key(only);
	s = json_object_iter_value(only);
	if (strcmp(text_of(s, "type"), "crypt") || json_object_get(s, "integrity") || json_array_size(json_object_get(s, "flags")))
		return err_set(m->e, -ENOTSUP, "image '%s' has integrity protection or a segment of another kind than "
			       "'crypt', which is not supported", m->at->name);
	luks_text(text_of(s, "encryption"), strnlen(text_of(s, "encryption"), 40), shown);
	if (luks_spec_parse(text_of(s, "encryption"), NULL, &m->h->spec))
		return err_set(m->e, -ENOTSUP, "image '%s' is encrypted with %s, which is not supported: aes-xts-plain64, "
			       "aes-cbc-essiv:sha256 and aes-cbc-plain64 are", m->at->name, shown);
	memcpy(i->cipher, m->h->spec.text, sizeof(i->cipher));
	if (!read_u32(s, "sector_size", &sector) || !is_pow2(sector) || sector < 512 || sector > 4096)
		return luks_bad(m->at, m->e, "the size of its sectors");
	i->sector_size = sector;
	if (!read_u64(s, "offset", &i->payload) || i->payload % 512 || i->payload < 2 * m->hdr_size || i->payload > INT64_MAX)
		return luks_bad(m->at, m->e, "the place of its segment");
	if (!strcmp(text_of(s, "size"), "dynamic"))
		i->size = 0;
	else if (!read_u64(s, "size", &i->size) || !i->size || i->size % sector || i->size > INT64_MAX)
		return luks_bad(m->at, m->e, "the size of its segment");
	if (!read_u64(s, "iv_tweak", &m->h->iv_tweak))
		return luks_bad(m->at, m->e, "its segment's first sector number");
	return 0;
}

static int parse_kdf(struct meta *m, const json_t *o, struct luks_kdf *k, char *name, size_t name_len)
{
	const char *type = text_of(o, "type");
	bool ok;

	k->kind = !strcmp(type, "argon2id") ? LUKS_ARGON2ID : !strcmp(type, "argon2i") ? LUKS_ARGON2I : LUKS_PBKDF2;
	if (k->kind == LUKS_PBKDF2) {
		k->hash = luks_hash(text_of(o, "hash"));
		ok = !strcmp(type, "pbkdf2") && k->hash && read_u32(o, "iterations", &k->iterations);
	} else {
		ok = read_u32(o, "time", &k->iterations) && read_u32(o, "memory", &k->memory) && read_u32(o, "cpus", &k->lanes);
	}
	if (!ok || !read_base64(o, "salt", k->salt, sizeof(k->salt), &k->salt_len) || (k->kind != LUKS_PBKDF2 && k->salt_len < 8))
		return luks_bad(m->at, m->e, "how a key is derived");
	snprintf(name, name_len, "%s", type);
	return m->at->loose ? 0 : luks_check_kdf(m->at, k, m->e);
}

static int parse_area(struct meta *m, const json_t *o, uint32_t key_len, struct luks_slot *s)
{
	const json_t *area = json_object_get(o, "area"), *af = json_object_get(o, "af");
	uint64_t need = align_up((uint64_t)key_len * LUKS_STRIPES, LUKS_SECTOR), from = 2 * m->hdr_size;
	uint32_t stripes = 0;

	s->af_hash = luks_hash(text_of(af, "hash"));
	if (strcmp(text_of(af, "type"), "luks1") || !s->af_hash || !read_u32(af, "stripes", &stripes) || stripes != LUKS_STRIPES)
		return luks_bad(m->at, m->e, "how a key is split");
	if (strcmp(text_of(area, "type"), "raw") || luks_spec_parse(text_of(area, "encryption"), NULL, &s->area_spec) ||
	    !read_u32(area, "key_size", &s->area_key) || !luks_key_size_ok(&s->area_spec, s->area_key))
		return luks_bad(m->at, m->e, "how a key is encrypted");
	if (!read_u64(area, "offset", &s->offset) || !read_u64(area, "size", &s->size) || s->offset < from || s->offset % 512 ||
	    s->size < need || !range_inside(s->offset, s->size, MIN(m->h->i.payload, m->at->len)))
		return luks_bad(m->at, m->e, "the place of a key");
	s->size = need;
	return 0;
}

static int parse_slot(struct meta *m, unsigned n, const json_t *o)
{
	struct luks_slot *s = &m->h->slot[n];
	struct luks_slot_info *si = &m->h->i.slot[n];
	uint32_t key_len, priority = 1;
	int ret;

	/* Other kinds (tokens of a change under way) open nothing. */
	if (strcmp(text_of(o, "type"), "luks2"))
		return 0;
	if (!read_u32(o, "key_size", &key_len) || !luks_key_size_ok(&m->h->spec, key_len) ||
	    (m->h->i.key_bits && m->h->i.key_bits != key_len * 8))
		return luks_bad(m->at, m->e, "the size of a key");
	m->h->i.key_bits = key_len * 8;
	if (json_object_get(o, "priority") && (!read_u32(o, "priority", &priority) || priority > 2))
		return luks_bad(m->at, m->e, "a key's priority");
	s->priority = (int)priority;
	ret = parse_kdf(m, json_object_get(o, "kdf"), &s->kdf, si->kdf, sizeof(si->kdf));
	ret = ret ? ret : parse_area(m, o, key_len, s);
	if (ret)
		return ret;
	s->active = si->active = true;
	si->iterations = s->kdf.iterations;
	si->memory = s->kdf.memory;
	si->lanes = s->kdf.lanes;
	si->offset = s->offset;
	si->stripes = LUKS_STRIPES;
	return 0;
}

/* The slots that the segment's digest knows. */
static int parse_slots(struct meta *m, const json_t *digest, const json_t *slots)
{
	const json_t *list = json_object_get(digest, "keyslots");
	char name[12];
	int ret = 0;

	m->h->n_slots = m->h->i.n_slots = LUKS2_SLOTS;
	for (unsigned n = 0; n < LUKS2_SLOTS && !ret; n++) {
		const json_t *o;

		snprintf(name, sizeof(name), "%u", n);
		o = names(list, name) ? json_object_get(slots, name) : NULL;
		if (o)
			ret = parse_slot(m, n, o);
	}
	return ret;
}

static const json_t *find_digest(struct meta *m, const json_t *digests)
{
	const char *name;
	const json_t *d;

	json_object_foreach((json_t *)(uintptr_t)digests, name, d)
		if (names(json_object_get(d, "segments"), m->segment))
			return d;
	return NULL;
}

static int parse_digest(struct meta *m, const json_t *d)
{
	struct luks_head *h = m->h;
	char kind[16];
	int ret;

	if (!d || strcmp(text_of(d, "type"), "pbkdf2"))
		return luks_bad(m->at, m->e, "its digest");
	if (!read_base64(d, "digest", h->digest, sizeof(h->digest), &h->digest_len) || h->digest_len < 16)
		return luks_bad(m->at, m->e, "its digest");
	ret = parse_kdf(m, d, &h->digest_kdf, kind, sizeof(kind));
	if (ret)
		return ret;
	h->i.digest_iterations = h->digest_kdf.iterations;
	snprintf(h->i.hash, sizeof(h->i.hash), "%s", luks_hash_name(h->digest_kdf.hash));
	return 0;
}

static int parse_root(struct meta *m, const json_t *root)
{
	const json_t *digest;
	int ret = parse_config(m, json_object_get(root, "config"));

	ret = ret ? ret : parse_segment(m, json_object_get(root, "segments"));
	if (ret)
		return ret;
	digest = find_digest(m, json_object_get(root, "digests"));
	ret = parse_digest(m, digest);
	return ret ? ret : parse_slots(m, digest, json_object_get(root, "keyslots"));
}

int luks2_parse_json(const struct luks_place *at, const char *text, size_t len, uint64_t hdr_size, struct luks_head *h,
		     struct err *e)
{
	struct meta m = { .at = at, .hdr_size = hdr_size, .h = h, .e = e };
	json_error_t je;
	json_t *root = json_loadb(text, strnlen(text, len), JSON_REJECT_DUPLICATES, &je);
	int ret;

	if (!root)
		return err_set(e, -EINVAL, "image '%s' is no good: its metadata are not JSON (line %d, column %d)", at->name,
			       je.line, je.column);
	ret = parse_root(&m, root);
	json_decref(root);
	return ret;
}
