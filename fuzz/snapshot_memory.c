// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory of a snapshot: its index and file, alone or as a difference of another.
 *
 * The input is an index, whose checksum is made right, and behind it the file (first byte even), or else what is changed in the files of a good one: a
 * choice of packed or raw, then a file, a place, 2 bytes, and a value, each time.  Whatever is taken is the same mapped, if it can be, and read in, if
 * its checksums are right, and an index is the same once more when it is written and parsed.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/crc32c.h"
#include "machine/mem_image.h"
#include "machine/mem_save.h"

#define RAM (9u * MEM_BLOCK + 3 * PAGE_4K)
#define RAM_MAX (64u * MEM_BLOCK)

struct bytes {
	uint8_t *p;
	size_t len;
};

static int file_of(const void *p, size_t len)
{
	int fd = memfd_create("f", MFD_CLOEXEC);

	if (fd < 0 || (len && write(fd, p, len) != (ssize_t)len))
		abort();
	return fd;
}

static void fix(struct bytes *ix)
{
	if (ix->len < 12)
		return;
	st_le32(ix->p + ix->len - 12, crc32c(0, ix->p, ix->len - 12));
	memcpy(ix->p + ix->len - 8, "LODGEEND", 8);
}

static void same_again(const struct mem_index *ix, const struct bytes *was)
{
	struct bytes again;

	if (mem_index_bytes(ix, &again.p, &again.len) || again.len != was->len || memcmp(again.p, was->p, was->len) != 0)
		abort();
	free(again.p);
}

/* False: it is not taken. */
static bool push(struct mem_image *img, const struct bytes *index, const struct bytes *file)
{
	struct mem_index ix;
	struct err e;

	if (mem_index_parse(index->p, index->len, mem_image_size(img), &ix, &e))
		return false;
	same_again(&ix, index);
	return !mem_image_push(img, file_of(file->p, file->len), &ix, &e);
}

static void use(const struct mem_image *img)
{
	uint64_t size = mem_image_size(img), bitmap[RAM_MAX / PAGE_4K / 64 + 1] = { 0 };
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *q = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct err e;
	int ret;

	if (p == MAP_FAILED || q == MAP_FAILED)
		abort();
	mem_image_pages(img, bitmap);
	ret = mem_image_read(img, p, &e);
	if (mem_image_check(img, &e) != ret)
		abort();
	if (mem_image_mappable(img)) {
		if (mem_image_map(img, q))
			abort();
		for (uint64_t i = 0; i < size / PAGE_4K && !ret; i++) {
			/* What lies in holes of an index is nobody's. */
			if (bitmap[i / 64] >> i % 64 & 1 && memcmp(p + i * PAGE_4K, q + i * PAGE_4K, PAGE_4K) != 0)
				abort();
		}
	}
	munmap(p, size);
	munmap(q, size);
}

static void bare(const uint8_t *data, size_t size)
{
	struct bytes index = { .len = MIN(size, 64u + 24 * (size > 1 ? data[0] % 32u : 0) + 12) }, file;
	uint64_t ram = 0;
	struct mem_image *img;

	index.p = malloc(index.len + 1);
	if (!index.p)
		return;
	memcpy(index.p, data, index.len);
	fix(&index);
	file = (struct bytes){ (uint8_t *)data + index.len, size - index.len };
	if (index.len >= 24)
		ram = align_down(ld_le64(index.p + 16), PAGE_4K) % RAM_MAX;
	if (ram && !mem_image_new(ram, &img)) {
		if (push(img, &index, &file))
			use(img);
		mem_image_free(img);
	}
	free(index.p);
}

/* A machine's memory, and what it was before, packed or not. */
static void make_good(struct bytes index[2], struct bytes file[2], bool pack)
{
	struct mem_image *below = NULL;
	struct mem *m;
	struct err e;

	if (mem_new(&m) || mem_create_ram(m, RAM, MEM_HUGE_NONE, &e) || mem_image_new(RAM, &below))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		int raw = file_of("", 0), fd = pack ? file_of("", 0) : raw;
		uint64_t n, len = RAM;
		struct mem_index ix;

		for (unsigned k = 0; k < RAM / PAGE_4K; k += 1 + (k + i) % 5)
			memset(mem_ram_host(m) + k * PAGE_4K, k % 3 ? (int)(k + i) : 0, PAGE_4K);
		if (mem_ram_save(m, raw, i ? below : NULL, &ix, &n, &e) || (i && !(ix.below = strdup("/b"))) || (pack && mem_save_pack(raw, fd, &ix, &len, &e)) ||
		    mem_index_bytes(&ix, &index[i].p, &index[i].len))
			abort();
		file[i] = (struct bytes){ malloc(len), len };
		if (!file[i].p || pread(fd, file[i].p, len, 0) != (ssize_t)len || mem_image_push(below, dup(fd), &ix, &e))
			abort();
		if (fd != raw)
			close(raw);
		close(fd);
	}
	mem_image_free(below);
	mem_free(m);
}

static void changed(const uint8_t *data, size_t size)
{
	static struct bytes good[2][4];
	struct bytes b[4];
	struct mem_image *img;
	bool pack = *data & 1;

	if (!good[pack][0].p)
		make_good(good[pack], good[pack] + 2, pack);
	for (unsigned i = 0; i < 4; i++) {
		b[i] = (struct bytes){ malloc(good[pack][i].len), good[pack][i].len };
		if (!b[i].p)
			abort();
		memcpy(b[i].p, good[pack][i].p, b[i].len);
	}
	for (data++, size--; size >= 4; data += 4, size -= 4) {
		struct bytes *to = &b[data[0] % 4];
		size_t at = ((size_t)ld_le16(data + 1) * (data[0] & 4 ? 16 : 1)) % to->len;

		to->p[at] = data[3];
	}
	fix(&b[0]);
	fix(&b[1]);
	if (!mem_image_new(RAM, &img)) {
		if (push(img, &b[0], &b[2]) && push(img, &b[1], &b[3]))
			use(img);
		mem_image_free(img);
	}
	for (unsigned i = 0; i < 4; i++)
		free(b[i].p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (*data & 1)
		changed(data + 1, size - 1);
	else
		bare(data + 1, size - 1);
	return 0;
}
