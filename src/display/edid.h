/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a monitor says of itself (VESA E-EDID 1.4, one block of 128 bytes). */
#ifndef LODGE_DISPLAY_EDID_H
#define LODGE_DISPLAY_EDID_H

#include <stdint.h>

#define EDID_SIZE 128
#define EDID_WIDTH 1280u	/* what is preferred by default */
#define EDID_HEIGHT 800u

/* A digital monitor that prefers width x height (64 to 4095 each) at 60 Hz and knows the usual
 * smaller modes. */
void edid_make(unsigned width, unsigned height, uint8_t out[EDID_SIZE]);

#endif
