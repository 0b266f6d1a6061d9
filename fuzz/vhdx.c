// SPDX-License-Identifier: GPL-2.0-or-later
/* Damaged VHDX images, with and without a log: see image_fuzz.h. */
#include <errno.h>

#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(struct made *m, unsigned shape)
{
	static const enum vhdx_make how[] = { VHDX_MAKE_CLEAN, VHDX_MAKE_DIRTY, VHDX_MAKE_WRAPPED, VHDX_MAKE_CHILD };

	make_vhdx(m, how[shape]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The header, the region table, the last entries of the log, the metadata. */
	static struct image_fuzz f = { .format = "vhdx", .n_shapes = 4, .make = make, .sums = vhdx_sums,
				       .hot = { 65536, 196608, VHDX_LOG_AT + VHDX_LOG_LEN - 16384, 0x200000 } };

	image_fuzz_one(&f, data, size);
	return 0;
}
