/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where things lie in a header of LUKS version 1; all numbers are big-endian. */
#ifndef LODGE_BLOCK_LUKS_LUKS1_H
#define LODGE_BLOCK_LUKS_LUKS1_H

enum {
	H1_VERSION = 6, H1_CIPHER = 8, H1_MODE = 40, H1_HASH = 72, H1_PAYLOAD = 104, H1_KEY_BYTES = 108, H1_DIGEST = 112,
	H1_DIGEST_SALT = 132, H1_DIGEST_ITERATIONS = 164, H1_UUID = 168, H1_SLOTS = 208, LUKS1_LEN = 592,
	/* of a key slot */
	K_ITERATIONS = 4, K_SALT = 8, K_OFFSET = 40, K_STRIPES = 44, LUKS1_SLOT_LEN = 48,
	LUKS1_SALT = 32, LUKS1_DIGEST = 20,
};
#define LUKS1_KEY_ENABLED 0x00ac71f3u
#define LUKS1_KEY_DISABLED 0x0000deadu

#endif
