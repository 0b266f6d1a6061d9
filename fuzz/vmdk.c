// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Damaged VMDK images: see image_fuzz.h.  One shape is a descriptor whose text the
 * input may change; extents in other files are not opened here.
 */
#include <errno.h>

#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make(struct made *m, unsigned shape)
{
	static const unsigned how[] = {
		0, VMDK_MAKE_SECOND, VMDK_MAKE_ZEROED, VMDK_MAKE_PACKED, VMDK_MAKE_PACKED | VMDK_MAKE_FOOTER,
		VMDK_MAKE_PACKED | VMDK_MAKE_V3 | VMDK_MAKE_ZEROED,
	};
	static const char text[] = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"custom\"\n"
				   "parentFileNameHint=\"x.vmdk\"\nRW 100 ZERO\nRW 3 ZERO\nRDONLY 70000 ZERO\nddb.x = \"1\"\n";

	if (shape < ARRAY_LEN(how)) {
		make_vmdk(m, how[shape], 1, 0xffffffff, NULL);
		return;
	}
	memcpy(m->file, text, sizeof(text) - 1);
	m->len = sizeof(text) - 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct image_fuzz f = { .format = "vmdk", .n_shapes = 7, .make = make, .hot = { 0, 4096, 8192, 32768 } };

	image_fuzz_one(&f, data, size);
	return 0;
}
