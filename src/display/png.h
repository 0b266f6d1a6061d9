/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pictures in files: PPM, and PNG by libpng; without it that gives -ENOTSUP.
 */
#ifndef LODGE_DISPLAY_PNG_H
#define LODGE_DISPLAY_PNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "display/display.h"

/* Is it built in? */
bool png_available(void);
/* Pixels 0xXXRRGGBB, rows `stride` pixels apart, as an RGB picture; level: zlib's, 0 to 9.
 * *out: free it.  0, -ENOMEM, -ENOTSUP */
int png_encode(const uint32_t *pixels, unsigned width, unsigned height, size_t stride, int level, uint8_t **out,
	       size_t *len);
enum picture_format { PICTURE_PPM, PICTURE_PNG };	/* in the order of QEMU's ImageFormat */
/* How long there may be nobody who reads a pipe; another thread may end the waiting. */
struct picture_patience {
	int64_t ns;
	const _Atomic bool *stop;	/* NULL: nobody ends it */
};
/* To the file, which appears when it is whole (what is no regular file is written to).  No lock needed.  pa NULL: without waiting;
 * a pipe has then to have a reader, and room.  Errors name the file. */
int picture_write(const struct surface *s, enum picture_format format, const char *path, const struct picture_patience *pa, struct err *e);

#endif
