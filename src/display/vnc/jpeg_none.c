// SPDX-License-Identifier: GPL-2.0-or-later
/* Built without libjpeg-turbo: pictures go by the lossless ways. */
#include <errno.h>

#include "display/vnc/vnc_int.h"

int vnc_jpeg(const uint32_t *pixels, unsigned w, unsigned h, int quality, struct vnc_buf *out) { return -ENOTSUP; }
