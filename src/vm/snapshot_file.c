// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file `state`: a header, sections, a trailer, little endian.
 *
 *   header   "LODGESNP"  u32 version  u32 number of sections
 *   section  16 bytes of name, padded with zeros  u64 length  the bytes
 *   trailer  u32 CRC-32 of everything before it  "LODGEEND"
 *
 * Sections hold records of machine/snap.h.  They come in one order, each once, so
 * that nothing needs to be looked for; version 2 has one more, about memory, at the end.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bits.h"
#include "vm/snapshot.h"

#define MAGIC "LODGESNP"
#define END "LODGEEND"
#define HEAD_LEN 16u
#define NAME_LEN 16u
#define SECTION_LEN (NAME_LEN + 8u)
#define TRAILER_LEN 12u

static const char names[SNAPSHOT_SECTIONS][NAME_LEN] = {
	[SNAPSHOT_MACHINE] = "machine", [SNAPSHOT_CPU] = "cpu", [SNAPSHOT_VCPUS] = "vcpus", [SNAPSHOT_DEVICES] = "devices", [SNAPSHOT_MEMORY] = "memory",
};

static unsigned sections_of(uint32_t version) { return version == 1 ? SNAPSHOT_MEMORY : SNAPSHOT_SECTIONS; }

static int put(int fd, uint32_t *crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	*crc = (uint32_t)crc32_z(*crc, p, len);
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int put_section(int fd, uint32_t *crc, unsigned i, const struct snapshot_section *s)
{
	uint8_t head[SECTION_LEN];
	int ret;

	memcpy(head, names[i], NAME_LEN);
	st_le64(head + NAME_LEN, s->len);
	ret = put(fd, crc, head, sizeof(head));
	return ret ? ret : put(fd, crc, s->data, s->len);
}

int snapshot_file_write(int fd, const struct snapshot_section s[SNAPSHOT_SECTIONS], struct err *e)
{
	uint8_t head[HEAD_LEN] = MAGIC, end[TRAILER_LEN];
	uint32_t crc = (uint32_t)crc32_z(0, NULL, 0), none = 0, version = s[SNAPSHOT_MEMORY].data ? SNAPSHOT_VERSION : 1;
	int ret;

	st_le32(head + 8, version);
	st_le32(head + 12, sections_of(version));
	ret = put(fd, &crc, head, sizeof(head));
	for (unsigned i = 0; i < sections_of(version) && !ret; i++)
		ret = put_section(fd, &crc, i, &s[i]);
	st_le32(end, crc);
	memcpy(end + 4, END, 8);
	if (!ret)
		ret = put(fd, &none, end, sizeof(end));
	return ret ? err_set(e, ret, "the saved state cannot be written: %s", strerror(-ret)) : 0;
}

static int damaged(const char *how, struct err *e)
{
	return err_set(e, -EINVAL, "the saved state is damaged: %s", how);
}

int snapshot_file_parse(const void *data, size_t len, struct snapshot_section s[SNAPSHOT_SECTIONS], struct err *e)
{
	const uint8_t *p = data, *end = p + len - TRAILER_LEN;
	uint32_t version;

	if (len < HEAD_LEN || memcmp(p, MAGIC, 8) != 0)
		return err_set(e, -EINVAL, "the file 'state' is none that Lodge wrote");
	version = ld_le32(p + 8);
	if (!version || version > SNAPSHOT_VERSION)
		return err_set(e, -EINVAL, "the saved state has version %u, and this program reads versions 1 to %u", version, SNAPSHOT_VERSION);
	if (len < HEAD_LEN + TRAILER_LEN || memcmp(end + 4, END, 8) != 0)
		return damaged("its end is missing", e);
	if (crc32_z(crc32_z(0, NULL, 0), p, (size_t)(end - p)) != ld_le32(end))
		return damaged("its checksum is wrong", e);
	if (ld_le32(p + 12) != sections_of(version))
		return damaged("it has another number of sections", e);
	p += HEAD_LEN;
	s[SNAPSHOT_MEMORY] = (struct snapshot_section){ 0 };
	for (unsigned i = 0; i < sections_of(version); i++) {
		uint64_t n;

		if ((size_t)(end - p) < SECTION_LEN || memcmp(p, names[i], NAME_LEN) != 0)
			return damaged("a section is missing", e);
		n = ld_le64(p + NAME_LEN);
		p += SECTION_LEN;
		if (n > (size_t)(end - p))
			return damaged("a section is cut short", e);
		s[i] = (struct snapshot_section){ p, (size_t)n };
		p += n;
	}
	return p == end ? 0 : damaged("there is something between its sections and its end", e);
}
