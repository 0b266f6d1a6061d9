// SPDX-License-Identifier: GPL-2.0-or-later
/* Damaged VHD images: see image_fuzz.h. */
#include <errno.h>

#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(struct made *m, unsigned shape)
{
	make_vpc(m, shape == 1);
}

static void sums(uint8_t *file, uint64_t len)
{
	if (len < 2048)
		return;
	vpc_sum(file, 512, 64);
	vpc_sum(file + 512, 1024, 36);
	vpc_sum(file + align_down(len, 512) - 512, 512, 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image_fuzz f = { .format = "vpc", .n_shapes = 2, .make = make, .sums = sums, .hot = { 0, 512, 1536, 29696 } };

	image_fuzz_one(&f, data, size);
	return 0;
}
