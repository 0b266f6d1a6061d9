// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kernel images of any kind.  The first two bytes choose the guest's memory
 * size and whether part of the input is an initrd too; the rest is the image.
 * Nothing may crash, and an accepted image must start inside 4 GiB.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/bits.h"
#include "platform/x86/boot.h"
#include "platform/x86/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Memory that stays over all inputs: making it anew each time is slow. */
static struct mem *make_mem(uint64_t size)
{
	struct mem *mem;

	if (mem_new(&mem) < 0 || mem_create_ram(mem, size, MEM_HUGE_NONE, NULL) < 0 ||
	    mem_add_ram(mem, "base", 0, 0, LAYOUT_LOW_END, NULL) < 0 ||
	    mem_add_ram(mem, "low", LAYOUT_SHADOW, LAYOUT_SHADOW, size - LAYOUT_SHADOW, NULL) < 0)
		abort();
	return mem;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[2] = { 2 << 20, 32 << 20 };
	static struct mem *mem[2];
	struct boot_file kernel, initrd;
	struct e820 map;
	struct err e;
	unsigned which;
	uint8_t *copy;

	if (size < 3)
		return 0;
	which = data[0] & 1;
	if (!mem[which])
		mem[which] = make_mem(sizes[which]);
	copy = malloc(size - 2);
	if (!copy)
		return 0;
	memcpy(copy, data + 2, size - 2);
	e820_build(&map, sizes[which], 0);
	boot_file_of_memory(&kernel, "kernel", "kernel", copy, size - 2);
	boot_file_of_memory(&initrd, "initrd", "initrd", copy, size - 2);
	struct boot_ctx b = {
		.mem = mem[which], .e820 = &map, .mem_size = sizes[which], .cmdline = "root=/dev/vda",
		.kernel = &kernel, .initrds = &initrd, .n_initrds = data[1] & 1,
	};
	if (boot_load(&b, &e) == 0 && b.start.rip >> 32)
		abort();
	free(copy);
	return 0;
}
