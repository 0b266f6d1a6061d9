/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where things lie in the binary part of a header of LUKS version 2; all numbers are big-endian. */
#ifndef LODGE_BLOCK_LUKS_LUKS2_H
#define LODGE_BLOCK_LUKS_LUKS2_H

#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS2_MAGIC_SECOND "SKUL\xba\xbe"

enum {
	H2_VERSION = 6, H2_SIZE = 8, H2_SEQID = 16, H2_LABEL = 24, H2_ALG = 72, H2_ALG_LEN = 32, H2_SALT = 104,
	H2_SALT_LEN = 64, H2_UUID = 168, H2_SUBSYSTEM = 208, H2_OFFSET = 256, H2_CSUM = 448, H2_CSUM_LEN = 64,
};

#endif
