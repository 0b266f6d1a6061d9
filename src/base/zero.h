/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is memory all zeros?  For finding holes in data. */
#ifndef LODGE_BASE_ZERO_H
#define LODGE_BASE_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* Any length and alignment; 0 bytes are all zeros. */
bool mem_is_zero(const void *p, size_t len);

#endif
