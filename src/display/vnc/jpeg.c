// SPDX-License-Identifier: GPL-2.0-or-later
/* JPEG by libjpeg-turbo. */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "display/vnc/vnc_int.h"

struct failure {
	struct jpeg_error_mgr mgr;	/* first */
	jmp_buf env;
};

static void leave(j_common_ptr c) { longjmp(((struct failure *)c->err)->env, 1); }
static void silent(j_common_ptr c) { }
static void no_message(j_common_ptr c, int level) { }

/* *data is the library's until the end; what changes after setjmp lies behind pointers. */
static int encode(struct jpeg_compress_struct *c, struct failure *f, const uint32_t *pixels, unsigned w, unsigned h, int quality,
		    unsigned char **data, unsigned long *len)
{
	if (setjmp(f->env))
		return -ENOMEM;
	jpeg_create_compress(c);
	jpeg_mem_dest(c, data, len);
	c->image_width = w;
	c->image_height = h;
	c->input_components = 4;
	c->in_color_space = JCS_EXT_BGRX;
	jpeg_set_defaults(c);
	jpeg_set_quality(c, quality, TRUE);
	jpeg_start_compress(c, TRUE);
	while (c->next_scanline < h) {
		JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)c->next_scanline * w);

		jpeg_write_scanlines(c, &row, 1);
	}
	jpeg_finish_compress(c);
	return 0;
}

int vnc_jpeg(const uint32_t *pixels, unsigned w, unsigned h, int quality, struct vnc_buf *out)
{
	struct jpeg_compress_struct c = { 0 };
	struct failure f;
	unsigned char *data = NULL;
	unsigned long len = 0;
	int r;

	c.err = jpeg_std_error(&f.mgr);
	f.mgr.error_exit = leave;
	f.mgr.output_message = silent;
	f.mgr.emit_message = no_message;
	r = encode(&c, &f, pixels, w, h, quality, &data, &len);
	if (!r)
		vnc_put(out, data, len);
	jpeg_destroy_compress(&c);
	free(data);
	return r ? r : out->failed ? -ENOMEM : 0;
}
