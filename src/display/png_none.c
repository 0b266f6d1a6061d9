// SPDX-License-Identifier: GPL-2.0-or-later
/* Built without libpng. */
#include "display/png.h"

#include <errno.h>

bool png_available(void) { return false; }

int png_encode(const uint32_t *pixels, unsigned width, unsigned height, size_t stride, int level, uint8_t **out,
	       size_t *len)
{
	return -ENOTSUP;
}
