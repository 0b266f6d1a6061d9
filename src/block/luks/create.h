/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between create.c and json_make.c: what a new volume will be. */
#ifndef LODGE_BLOCK_LUKS_CREATE_H
#define LODGE_BLOCK_LUKS_CREATE_H

#include "block/luks/internal.h"

#define LUKS1_KEYS 4096u		/* where the key material of slot 0 begins */
#define LUKS2_HDR (16u << 10)
#define LUKS2_PAYLOAD (16u << 20)

struct luks_new {
	unsigned version;
	struct luks_spec spec;
	size_t key_len;
	unsigned sector;
	const char *label;
	const EVP_MD *hash;
	struct luks_slot slot;		/* slot 0 */
	uint64_t payload;
	struct luks_kdf digest_kdf;
	uint8_t digest[LUKS_MAX_DIGEST];
	uint32_t digest_len;
	char uuid[37];
};

/* The JSON metadata, at most room - 1 bytes of it. */
int luks2_make_json(const struct luks_new *n, char *out, size_t room);

#endif
