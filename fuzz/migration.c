// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a migration's peer sends.
 *
 * First byte 0: bytes as they come over a connection (heads are parsed, checksums looked at); 1: maps of pages; else records (odd: as after the guest), each
 * 3 bytes (type, length) and a payload, which go to memory as those of a destination do, past checksums that no
 * mutation would find.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/bits.h"
#include "machine/mem.h"
#include "vm/migrate_late.h"
#include "vm/migrate_ram.h"
#include "vm/migrate_wire.h"

#define RAM (1u << 20)

static void look_at_stream(const uint8_t *p, size_t len)
{
	struct mig_record r;
	uint32_t seq = 0;
	struct err e;

	while (len >= MIG_HEAD && !mig_head_get(p, seq++, &r, &e) && r.len <= len - MIG_HEAD) {
		uint8_t head[MIG_HEAD];
		const struct iovec iov = { (void *)(uintptr_t)(p + MIG_HEAD), r.len };

		mig_check(p, &r, p + MIG_HEAD, &e);
		/* What was made here passes. */
		mig_head_put(head, r.type, r.seq, &iov, 1);
		if (mig_head_get(head, r.seq, &r, &e) || mig_check(head, &r, p + MIG_HEAD, &e))
			abort();
		p += MIG_HEAD + r.len;
		len -= MIG_HEAD + r.len;
	}
}

/* Compressed pages, which mutations hardly ever make: the payload's bytes become some. */
static size_t compressed(const uint8_t *p, size_t len, uint8_t *out, size_t room)
{
	size_t n = len ? p[0] % (MIG_BATCH + 2u) : 0, z;
	static uint8_t pages[(MIG_BATCH + 2u) * PAGE_4K];

	for (size_t i = 0; i < sizeof(pages) && len; i++)
		pages[i] = p[i % len];
	st_le32(out, (uint32_t)n);
	st_le32(out + 4, MIG_ZSTD);
	for (size_t i = 0; i < n; i++)
		st_le64(out + 8 + i * 8, len > i ? p[i] % (RAM / PAGE_4K + 1) : i);
	z = ZSTD_compress(out + 8 + n * 8, room - 8 - n * 8, pages, (n + (len > 1 ? p[1] & 1u : 0)) * PAGE_4K, 1);
	if (ZSTD_isError(z))
		abort();
	if (len > 3 && z)	/* and damaged */
		out[8 + n * 8 + p[2] % z] ^= p[3];
	return 8 + n * 8 + z;
}

static int put(void *opaque, uint64_t page, const uint8_t *data, struct err *e);

static void take_records(const uint8_t *p, size_t len, bool late)
{
	unsigned n_put = 0;
	static uint8_t made[1 << 20];
	struct mem *m;
	struct mig_rx *rx;
	struct err e;

	if (mem_new(&m) || mem_create_ram(m, RAM, MEM_HUGE_NONE, &e) || mig_rx_new(m, &rx))
		abort();
	if (late)
		mig_rx_put_by(rx, put, &n_put);
	while (len >= 3) {
		size_t n = MIN((size_t)ld_le16(p + 1), len - 3);
		int ret = -1;

		if (p[0] % 3 == 0)
			ret = mig_rx_pages(rx, p + 3, n, &e);
		else if (p[0] % 3 == 1)
			ret = mig_rx_zeros(rx, p + 3, n, &e);
		else
			ret = mig_rx_pages(rx, made, compressed(p + 3, n, made, sizeof(made)), &e);
		if (!ret && !late && mig_rx_missing(rx) >= RAM / PAGE_4K)
			abort();
		p += 3 + n;
		len -= 3 + n;
	}
	mig_rx_free(rx);
	mem_free(m);
}

/* Maps of pages, piece by piece, of a memory whose size is no multiple of a word. */
static void take_map(const uint8_t *p, size_t len)
{
	uint64_t pages = len ? p[0] + 1u : 1, at = 0, *map = calloc((pages + 63) / 64, 8);
	struct err e;

	for (p += len != 0, len -= len != 0; len >= 1 && map;) {
		size_t n = MIN((size_t)p[0], len - 1);
		uint64_t before = at;
		int ret = mig_map_take(map, pages, &at, p + 1, n, &e);

		if (at > pages || (ret && at != before) || (!ret && at == before) || mig_map_count(map, pages) > (at == pages ? pages : (pages + 63) / 64 * 64))
			abort();
		p += 1 + n;
		len -= 1 + n;
	}
	free(map);
}

/* As pages that come after their guest are taken: by somebody else than memory. */
static int put(void *opaque, uint64_t page, const uint8_t *data, struct err *e)
{
	volatile uint8_t sum = 0;

	if (page >= RAM / PAGE_4K)
		abort();
	for (unsigned i = 0; data && i < PAGE_4K; i += 64)
		sum = (uint8_t)(sum + data[i]);
	return (*(unsigned *)opaque)++ > 1000 ? -EIO : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (!*data)
		look_at_stream(data + 1, size - 1);
	else if (*data == 1)
		take_map(data + 1, size - 1);
	else
		take_records(data + 1, size - 1, *data & 1);
	return 0;
}
