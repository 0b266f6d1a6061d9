/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli), as in iSCSI. */
#ifndef LODGE_BASE_CRC32C_H
#define LODGE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of more bytes: crc is what the bytes before gave, 0 at first. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
