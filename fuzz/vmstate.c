// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's state inside an image (vm/vmstate.h), read into a machine's memory.
 *
 * First byte odd: the rest is what lies there, as it is.  Even: a good one, with changes of 3 bytes each (place, value), whose checksums are made right
 * again, so that mutations reach what is behind them.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "machine/mem.h"
#include "vm/snapshot.h"
#include "vm/vmstate.h"

#define RAM (256u << 10)
#define ROOM (512u << 10)

static struct mem *mem;
static uint8_t good[ROOM], file[ROOM];
static uint64_t good_len, file_len;

static int do_write(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	for (unsigned i = 0; i < niov; i++) {
		if (off + iov[i].iov_len > ROOM)
			abort();
		memcpy(good + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	good_len = off;
	return 0;
}

/* As of a file that is read behind its end: zeros. */
static int do_read(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	for (unsigned i = 0; i < niov; i++) {
		uint64_t n = off < file_len ? MIN(iov[i].iov_len, file_len - off) : 0;

		memcpy(iov[i].iov_base, file + MIN(off, (uint64_t)ROOM), n);
		memset((uint8_t *)iov[i].iov_base + n, 0, iov[i].iov_len - n);
		off += iov[i].iov_len;
	}
	return 0;
}

static const struct vmstate_io io = { .read = do_read, .write = do_write };

static void make_good(void)
{
	static const uint8_t state[5000] = { 'L' };
	struct vmstate_out *o;
	struct err e;

	if (mem_new(&mem) || mem_create_ram(mem, RAM, MEM_HUGE_NONE, &e))
		abort();
	for (unsigned i = 0; i < RAM / 4096; i += 1 + i % 3)
		mem_ram_host(mem)[i * 4096] = 1;
	if (vmstate_plan(mem, state, sizeof(state), &o, &e) || vmstate_put(o, &io, &e))
		abort();
	vmstate_plan_free(o);
}

static uint32_t crc(uint64_t from, uint64_t len)
{
	return from < file_len && len <= file_len - from ? (uint32_t)crc32_z(crc32_z(0, NULL, 0), file + from, len) : 0;
}

/* Where the parts lie by what the head says. */
static void mend(void)
{
	uint64_t state = ld_le64(file + 24), bitmap = align_up(4096 + (state & 0xfffff), 4096), data = align_up(bitmap + RAM / 4096 / 8, 4096);
	uint64_t tail = data + (ld_le64(file + 32) & 0xfff) * 4096;

	st_le32(file + 48, crc(4096, state));
	st_le32(file + 52, crc(bitmap, RAM / 4096 / 8));
	st_le32(file + 56, crc(0, 56));
	if (tail + 12 <= ROOM)
		st_le32(file + tail, crc(data, tail - data));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmstate_in *v;
	struct err e;

	if (!mem)
		make_good();
	if (!size)
		return 0;
	if (*data & 1) {
		file_len = MIN(size - 1, (size_t)ROOM);
		memcpy(file, data + 1, file_len);
	} else {
		file_len = good_len;
		memcpy(file, good, good_len);
		for (data++, size--; size >= 3; data += 3, size -= 3)
			/* Head, state and bitmap mostly. */
			file[ld_le16(data) % 13000] = data[2];
		mend();
	}
	if (!vmstate_open(&io, file_len, RAM, &v, &e)) {
		struct snapshot_section s[SNAPSHOT_SECTIONS];
		const void *state;
		size_t len;

		state = vmstate_state(v, &len);
		snapshot_file_parse(state, len, s, &e);
		if (vmstate_load_ram(v, mem, &e))
			abort();
		vmstate_close(v);
	}
	return 0;
}
