// SPDX-License-Identifier: GPL-2.0-or-later
/* See mem_copy.h. */
#include "machine/mem_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/zero.h"
#include "machine/mem_int.h"

#define GIVE_BACK (64u << 10)	/* holes below this cost more to make than to fill */

static void set_bits(uint64_t *bitmap, uint64_t first, uint64_t end)
{
	for (; first < end && first % 64; first++)
		bitmap[first / 64] |= BIT64(first % 64);
	for (; end - first >= 64 && first < end; first += 64)
		bitmap[first / 64] = ~0ull;
	for (; first < end; first++)
		bitmap[first / 64] |= BIT64(first % 64);
}

/* A memfd's holes read as zeros.  So do those of a file that is mapped privately, but for pages of one's own. */
void mem_ram_used(struct mem *m, uint64_t *bitmap)
{
	const struct backing *b = &m->ram;
	uint64_t pages = b->size >> PAGE_SHIFT_4K;
	off_t at = 0, end;

	while (!b->private && (uint64_t)at < b->size) {
		at = lseek(b->fd, at, SEEK_DATA);
		if (at < 0 && errno == ENXIO)
			return;
		end = at < 0 ? -1 : lseek(b->fd, at, SEEK_HOLE);
		if (end < 0)
			break;
		set_bits(bitmap, (uint64_t)at >> PAGE_SHIFT_4K, MIN(align_up((uint64_t)end, PAGE_4K) >> PAGE_SHIFT_4K, pages));
		at = end;
	}
	if (b->private || (uint64_t)at < b->size)
		set_bits(bitmap, 0, pages);
}

void mem_ram_zero(struct mem *m, uint64_t off, uint64_t len)
{
	uint8_t *p = m->ram.host + off;

	if (len >= GIVE_BACK && !m->ram.private && !mem_ram_release(m, off, len) && mem_is_zero(p, PAGE_4K))
		return;
	for (; len; p += PAGE_4K, len -= PAGE_4K)
		if (!mem_is_zero(p, PAGE_4K))
			memset(p, 0, PAGE_4K);
}
