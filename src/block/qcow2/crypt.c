/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Encrypted images: method 2, "LUKS".
 *
 * A LUKS header (version 1) lies in clusters of its own, which a header extension
 * names; it holds the key and how to get it.  Guest clusters are encrypted where
 * they lie: the sector number that makes the IV is that of the host file.  So all
 * guest data goes through a node over the data file that encrypts (block/luks),
 * and the rest of the driver knows two things only: a place that was never written
 * does not read as zeros, and nothing is compressed.  Tables are not encrypted.
 */
#include <errno.h>

#include "base/checked.h"
#include "block/luks/luks.h"
#include "block/qcow2/internal.h"
#include "block/secret.h"

#define MAX_CRYPT_HEADER (64u << 20)

int crypt_parse_extension(struct qcow2 *q, const uint8_t *p, uint32_t len)
{
	if (len != 16)
		return -EINVAL;
	q->crypt_off = ld_be64(p);
	q->crypt_len = ld_be64(p + 8);
	if (!q->crypt_off || q->crypt_off & (q->cluster - 1) || !q->crypt_len || q->crypt_len > MAX_CRYPT_HEADER ||
	    !range_inside(q->crypt_off, q->crypt_len, MAX_HOST))
		return -EINVAL;
	return 0;
}

int crypt_check(const struct qcow2 *q, const char *path, struct err *e)
{
	if (q->crypt_method == QCOW2_CRYPT_AES)
		return err_set(e, -ENOTSUP, "image '%s' is encrypted with AES as QEMU did it before 2017, which is not supported: convert "
			       "it with 'qemu-img convert'", path);
	if (q->crypt_method > QCOW2_CRYPT_LUKS)
		return err_set(e, -ENOTSUP, "image '%s' is encrypted by a method that is not known here (%u)", path, q->crypt_method);
	if (q->crypt_method == QCOW2_CRYPT_LUKS && !q->crypt_off)
		return err_set(e, -EINVAL, "image '%s' is no good: it is encrypted, but its LUKS header is missing", path);
	return 0;
}

int crypt_open(struct qcow2 *q, const struct blk_image_opts *o, unsigned depth, const char *path, struct err *e)
{
	struct blk_node *cipher;
	int ret;

	if (q->crypt_method != QCOW2_CRYPT_LUKS)
		return 0;
	ret = luks_inner_open(q->n.file, q->crypt_off, q->crypt_len, q->store, path, o, depth, &cipher, e);
	if (ret)
		return ret;
	q->data = cipher;
	q->n.i.encrypted = true;
	q->n.i.can_compress = false;
	return 0;
}

const struct luks_info *crypt_info(const struct qcow2 *q)
{
	return q->data != q->store ? luks_get_info(q->data) : NULL;
}

int crypt_create(struct blk_node *file, uint64_t off, const struct qcow2_create_opts *o, struct err *e)
{
	const uint8_t *pass;
	size_t len;
	int ret = blk_secrets_get(o->secrets, o->key, &pass, &len, e);

	return ret ? ret : luks_inner_create(file, off, o->luks, pass, len, e);
}
