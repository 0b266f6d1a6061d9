// SPDX-License-Identifier: GPL-2.0-or-later
/* Damaged VDI images: see image_fuzz.h. */
#include <errno.h>

#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(struct made *m, unsigned shape)
{
	make_vdi(m);
	if (shape == 1)
		st_le32(m->file + 0x4c, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image_fuzz f = { .format = "vdi", .n_shapes = 2, .make = make, .hot = { 0, 0, 512, 0x154 } };

	image_fuzz_one(&f, data, size);
	return 0;
}
