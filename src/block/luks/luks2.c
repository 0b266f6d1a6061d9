/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers of LUKS version 2 (LUKS2 On-Disk Format Specification 1.1.1): two
 * copies, each of a binary part and JSON text behind it, with a checksum over
 * both and a number that grows with every change.
 *
 * The copy that is whole and newer is taken.  If the first is damaged its size is
 * not to be believed, so the second is looked for at every place it may have.
 * Nothing is repaired here: cryptsetup does that on its next change.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "block/luks/internal.h"
#include "block/luks/luks2.h"

#define MIN_HDR (16u << 10)
#define MAX_HDR (4u << 20)

struct copy {
	uint8_t *data;			/* binary part and JSON; NULL: no good */
	uint64_t size, seqid;
};

static int checksum(const uint8_t *head, size_t len, uint8_t *out, unsigned *out_len)
{
	static const uint8_t zeros[H2_CSUM_LEN];
	char name[H2_ALG_LEN + 1];
	EVP_MD_CTX *ctx;
	const EVP_MD *md;
	bool ok;

	luks_text(head + H2_ALG, H2_ALG_LEN, name);
	md = luks_hash(name);
	ctx = md ? EVP_MD_CTX_new() : NULL;
	if (!ctx)
		return md ? -ENOMEM : -ENOTSUP;
	/* The checksum itself counts as zeros. */
	ok = EVP_DigestInit_ex(ctx, md, NULL) && EVP_DigestUpdate(ctx, head, H2_CSUM) &&
	     EVP_DigestUpdate(ctx, zeros, H2_CSUM_LEN) &&
	     EVP_DigestUpdate(ctx, head + H2_CSUM + H2_CSUM_LEN, len - H2_CSUM - H2_CSUM_LEN) &&
	     EVP_DigestFinal_ex(ctx, out, out_len);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -EIO;
}

int luks2_checksum(uint8_t *head, size_t len)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned n;
	int ret = checksum(head, len, sum, &n);

	if (ret)
		return ret;
	memset(head + H2_CSUM, 0, H2_CSUM_LEN);
	memcpy(head + H2_CSUM, sum, n);
	return 0;
}

static bool size_ok(uint64_t size)
{
	return is_pow2(size) && size >= MIN_HDR && size <= MAX_HDR;
}

/* The copy at `off`, if it is whole. 0 (out->data says), or what reading gave. */
static int read_copy(const struct luks_place *at, uint64_t off, struct copy *out)
{
	uint8_t *head = aligned_alloc(4096, LUKS2_BIN), sum[EVP_MAX_MD_SIZE], *all;
	unsigned n;
	int ret = head ? 0 : -ENOMEM;

	*out = (struct copy){ 0 };
	if (!ret && range_inside(off, MIN_HDR, at->len))
		ret = blk_pread(at->file, at->off + off, head, LUKS2_BIN);
	else if (!ret)
		memset(head, 0, LUKS2_BIN);
	if (!ret && !memcmp(head, off ? LUKS2_MAGIC_SECOND : LUKS_MAGIC, 6) && luks_be16(head + H2_VERSION) == 2 &&
	    luks_be64(head + H2_OFFSET) == off && size_ok(luks_be64(head + H2_SIZE)) &&
	    range_inside(off, luks_be64(head + H2_SIZE), at->len)) {
		out->size = luks_be64(head + H2_SIZE);
		out->seqid = luks_be64(head + H2_SEQID);
		all = aligned_alloc(4096, out->size);
		ret = all ? blk_pread(at->file, at->off + off, all, out->size) : -ENOMEM;
		if (!ret && !checksum(all, out->size, sum, &n) && !CRYPTO_memcmp(sum, all + H2_CSUM, n))
			out->data = all;
		else
			free(all);
	}
	free(head);
	return ret;
}

static int read_second(const struct luks_place *at, const struct copy *first, struct copy *out)
{
	int ret = 0;

	*out = (struct copy){ 0 };
	if (first->data)
		return read_copy(at, first->size, out);
	for (uint64_t off = MIN_HDR; off <= MAX_HDR && !ret && !out->data; off *= 2) {
		ret = read_copy(at, off, out);
		/* Each is as long as its offset says. */
		if (out->data && out->size != off) {
			free(out->data);
			out->data = NULL;
		}
	}
	return ret;
}

static int parse_copy(const struct luks_place *at, const struct copy *c, struct luks_head *h, struct err *e)
{
	const uint8_t *p = c->data;

	h->i.version = 2;
	h->i.seqid = c->seqid;
	luks_text(p + H2_UUID, 40, h->i.uuid);
	luks_text(p + H2_LABEL, 48, h->i.label);
	luks_text(p + H2_SUBSYSTEM, 48, h->i.subsystem);
	if (c->size * 2 > at->len)
		return luks_bad(at, e, "it ends inside its header");
	return luks2_parse_json(at, (const char *)p + LUKS2_BIN, c->size - LUKS2_BIN, c->size, h, e);
}

int luks2_read(const struct luks_place *at, struct luks_head *h, struct err *e)
{
	struct copy first, second = { 0 };
	int ret = read_copy(at, 0, &first);

	ret = ret ? ret : read_second(at, &first, &second);
	if (ret) {
		err_set(e, ret, "the header of image '%s' cannot be read: %s", at->name, strerror(-ret));
	} else if (!first.data && !second.data) {
		ret = err_set(e, -EINVAL, "image '%s' is no good: both copies of its LUKS2 header are damaged: restore a "
			      "backup (cryptsetup luksHeaderRestore)", at->name);
	} else {
		h->i.second_header = !first.data || (second.data && second.seqid > first.seqid);
		if (!first.data || !second.data)
			log_warn("image '%s': the %s copy of its LUKS2 header is damaged, the other is used: let "
				 "'cryptsetup repair' see to it", at->name, first.data ? "second" : "first");
		ret = parse_copy(at, h->i.second_header ? &second : &first, h, e);
	}
	free(first.data);
	free(second.data);
	return ret;
}
