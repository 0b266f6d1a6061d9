/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encryption of images: options and descriptions. */
#ifndef LODGE_IMG_LUKS_H
#define LODGE_IMG_LUKS_H

#include "block/luks/luks.h"
#include "img/img.h"

struct img_luks {
	struct luks_create_opts o;	/* o.cipher is the next member */
	char cipher[64];
	const char *key;		/* the secret's id; k's */
};
/* Of the options that begin with the prefix. Not to be copied: it points into itself. */
int img_luks_options(const struct img_keys *k, const char *prefix, struct img_luks *l, struct err *e);
/* Bytes of the header; no key is needed. */
int img_luks_measure(const struct img_keys *k, const char *prefix, uint64_t *bytes, struct err *e);
/* An object with qemu-img's names; NULL: no memory. */
json_t *img_luks_json(const struct luks_info *i);
extern const struct img_format img_format_luks;

#endif
