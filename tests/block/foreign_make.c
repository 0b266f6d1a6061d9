/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making images by hand: see foreign_make.h. */
#include "foreign_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/crc32c.h"

static void be16(uint8_t *p, uint16_t v) { st_le16(p, __builtin_bswap16(v)); }
static void be32(uint8_t *p, uint32_t v) { st_le32(p, __builtin_bswap32(v)); }
static void be64(uint8_t *p, uint64_t v) { st_le64(p, __builtin_bswap64(v)); }

void made_init(struct made *m)
{
	*m = (struct made){ .file = calloc(1, MADE_MAX), .disk = calloc(1, MADE_MAX) };
	if (!m->file || !m->disk)
		abort();
}

void made_fini(struct made *m)
{
	free(m->file);
	free(m->disk);
}

/* Something that differs from sector to sector, on the disk and at its place in the file. */
static void put_data(struct made *m, uint64_t disk, uint64_t file, uint64_t len, uint8_t salt)
{
	for (uint64_t i = 0; i < len; i++)
		m->disk[disk + i] = (uint8_t)((disk + i) / 512 * 7 + i % 61 + salt);
	if (file)
		memcpy(m->file + file, m->disk + disk, len);
	m->len = MAX(m->len, file + len);
}

/* ---- vdi ---- */

void make_vdi(struct made *m)
{
	const uint32_t block = 4096, n = 13, data = 4096;
	uint32_t used = 0;
	uint8_t *h = m->file;

	memcpy(h, "<<< Oracle VM VirtualBox Disk Image >>>\n", 40);
	st_le32(h + 0x40, 0xbeda107f);
	st_le32(h + 0x44, 0x10001);
	st_le32(h + 0x48, 0x190);
	st_le32(h + 0x4c, 1);
	st_le32(h + 0x154, 512);
	st_le32(h + 0x158, data);
	st_le32(h + 0x168, 512);
	m->size = (uint64_t)n * block - 1024;
	st_le64(h + 0x170, m->size);
	st_le32(h + 0x178, block);
	st_le32(h + 0x180, n);
	for (uint32_t i = 0; i < n; i++) {
		st_le32(h + 512 + i * 4, i % 4 == 1 ? 0xffffffff : i % 4 == 2 ? 0xfffffffe : used);
		if (i % 4 == 0 || i % 4 == 3)
			put_data(m, (uint64_t)i * block, data + (uint64_t)used++ * block, block, 1);
	}
	memset(m->disk + m->size, 0, 1024);
	st_le32(h + 0x184, used);
}

/* ---- vpc ---- */

void vpc_sum(uint8_t *p, unsigned len, unsigned at)
{
	uint32_t sum = 0;

	be32(p + at, 0);
	for (unsigned i = 0; i < len; i++)
		sum += p[i];
	be32(p + at, ~sum);
}

void make_vpc(struct made *m, bool fixed)
{
	const uint32_t block = 4096, n = 9, table = 1536, first = 2048;
	uint8_t foot[512] = "conectix", *h = m->file + 512;
	uint32_t used = 0;

	m->size = (uint64_t)n * block;
	be32(foot + 8, 2);
	be32(foot + 12, 0x10000);
	be64(foot + 16, fixed ? UINT64_MAX : 512);
	memcpy(foot + 28, "win ", 4);
	be64(foot + 40, m->size);
	be64(foot + 48, m->size);
	be16(foot + 56, 1);
	foot[58] = 1;
	foot[59] = 1;
	be32(foot + 60, fixed ? 2 : 3);
	vpc_sum(foot, sizeof(foot), 64);
	for (uint32_t i = 0; i < n && !fixed; i++) {
		uint64_t at = first + (uint64_t)used * (block + 512);

		be32(m->file + table + i * 4, i % 3 == 1 ? 0xffffffff : (uint32_t)(at / 512));
		if (i % 3 == 1)
			continue;
		memset(m->file + at, 0xff, 1);
		put_data(m, (uint64_t)i * block, at + 512, block, 2);
		used++;
	}
	if (fixed) {
		put_data(m, 0, 0, m->size, 3);
		memcpy(m->file, m->disk, m->size);
	} else {
		memcpy(m->file, foot, sizeof(foot));
		memcpy(h, "cxsparse", 8);
		be64(h + 8, UINT64_MAX);
		be64(h + 16, table);
		be32(h + 24, 0x10000);
		be32(h + 28, n);
		be32(h + 32, block);
		vpc_sum(h, 1024, 36);
	}
	memcpy(m->file + m->len, foot, sizeof(foot));
	m->len += sizeof(foot);
}

/* ---- vmdk ---- */

#define GRAIN 4096u
#define GRAINS 600u			/* a table and a bit */
#define PER_TABLE 512u

static void vmdk_descriptor(uint8_t *p, const char *type, uint32_t cid, uint32_t parent_cid, const char *parent)
{
	int n = sprintf((char *)p, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", cid, parent_cid,
			type);

	if (parent)
		n += sprintf((char *)p + n, "parentFileNameHint=\"%s\"\n", parent);
	sprintf((char *)p + n, "\n# Extent description\nRW %u SPARSE \"self.vmdk\"\n", GRAINS * GRAIN / 512);
}

static void vmdk_header(uint8_t *h, unsigned how, uint64_t dir, uint64_t dir2)
{
	uint32_t flags = 1 | (how & VMDK_MAKE_SECOND ? 2 : 0) | (how & VMDK_MAKE_ZEROED ? 4 : 0) |
			 (how & VMDK_MAKE_PACKED ? 3u << 16 : 0);

	memcpy(h, "KDMV", 4);
	st_le32(h + 4, how & VMDK_MAKE_V3 ? 3 : how & VMDK_MAKE_ZEROED ? 2 : 1);
	st_le32(h + 8, flags);
	st_le64(h + 12, GRAINS * GRAIN / 512);
	st_le64(h + 20, GRAIN / 512);
	st_le64(h + 28, how & VMDK_MAKE_BARE ? 0 : 1);
	st_le64(h + 36, how & VMDK_MAKE_BARE ? 0 : 4);
	st_le32(h + 44, PER_TABLE);
	st_le64(h + 48, dir2 / 512);
	st_le64(h + 56, dir / 512);
	st_le64(h + 64, 128);
	memcpy(h + 73, "\n \r\n", 4);
	st_le16(h + 77, how & VMDK_MAKE_PACKED ? 1 : 0);
}

/* A grain at the end of the file; returns its sector. */
static uint32_t put_grain(struct made *m, unsigned how, uint64_t disk)
{
	uint64_t at = m->len;
	uLongf n;

	put_data(m, disk, how & VMDK_MAKE_PACKED ? 0 : at, GRAIN, 4);
	if (how & VMDK_MAKE_PACKED) {
		n = GRAIN * 2;
		if (compress(m->file + at + 12, &n, m->disk + disk, GRAIN) != Z_OK)
			abort();
		st_le64(m->file + at, disk / 512);
		st_le32(m->file + at + 8, (uint32_t)n);
		m->len = align_up(at + 12 + n, 512);
	}
	return (uint32_t)(at / 512);
}

void make_vmdk(struct made *m, unsigned how, uint32_t cid, uint32_t parent_cid, const char *parent)
{
	const uint64_t dir = 4096, tables = 8192, dir2 = 16384, tables2 = 20480;

	vmdk_header(m->file, how, how & VMDK_MAKE_FOOTER ? UINT64_MAX / 512 * 512 : dir, how & VMDK_MAKE_SECOND ? dir2 : 0);
	if (how & VMDK_MAKE_FOOTER)
		st_le64(m->file + 56, UINT64_MAX);
	if (!(how & VMDK_MAKE_BARE))
		vmdk_descriptor(m->file + 512, how & VMDK_MAKE_PACKED ? "streamOptimized" : "monolithicSparse", cid, parent_cid, parent);
	m->size = (uint64_t)GRAINS * GRAIN;
	m->len = 32768;
	for (unsigned t = 0; t < 2; t++) {
		st_le32(m->file + dir + t * 4, (uint32_t)((tables + t * 2048) / 512));
		st_le32(m->file + dir2 + t * 4, (uint32_t)((tables2 + t * 2048) / 512));
	}
	for (unsigned i = 0; i < GRAINS; i += 1 + i % 5) {
		uint32_t at = i % 7 == 3 && (how & VMDK_MAKE_ZEROED) ? 1 : put_grain(m, how, (uint64_t)i * GRAIN);

		st_le32(m->file + tables + i * 4, at);
		st_le32(m->file + tables2 + i * 4, at);
	}
	if (how & VMDK_MAKE_SECOND) {
		st_le32(m->file + dir + 4, 0x7fffffff);
		st_le32(m->file + tables + 40, 0x7ffffff0);
	}
	if (how & VMDK_MAKE_FOOTER) {
		st_le64(m->file + m->len, 1);
		st_le32(m->file + m->len + 12, 3);
		vmdk_header(m->file + m->len + 512, how, dir, 0);
		m->len += 3 * 512;
	}
}

void make_cowd(struct made *m)
{
	uint8_t *h = m->file;

	memcpy(h, "COWD", 4);
	st_le32(h + 4, 1);
	st_le32(h + 8, 3);
	st_le32(h + 12, GRAINS * GRAIN / 512);
	st_le32(h + 16, GRAIN / 512);
	st_le32(h + 20, 4);
	st_le32(h + 24, 1);
	m->size = (uint64_t)GRAINS * GRAIN;
	st_le32(h + 2048, 8);
	m->len = 4096 + 4096 * 4;
	for (unsigned i = 0; i < GRAINS; i += 1 + i % 5)
		st_le32(m->file + 4096 + i * 4, put_grain(m, 0, (uint64_t)i * GRAIN));
}

/* ---- vhdx ---- */

#define VHDX_META 0x200000u
#define VHDX_BAT 0x300000u
#define VHDX_DATA 0x400000u
#define VHDX_BLOCK 0x100000u
#define VHDX_FILLED 0x10000u		/* of a block: the rest is zeros */
#define UNIT 4096u

static void put_guid(uint8_t *p, const char *text)
{
	unsigned a, b, c, d[8];

	if (sscanf(text, "%8x-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x", &a, &b, &c, &d[0], &d[1], &d[2], &d[3], &d[4], &d[5], &d[6], &d[7]) != 11)
		abort();
	st_le32(p, a);
	st_le16(p + 4, (uint16_t)b);
	st_le16(p + 6, (uint16_t)c);
	for (unsigned i = 0; i < 8; i++)
		p[8 + i] = (uint8_t)d[i];
}

#define DATA_GUID "11223344-5566-7788-99aa-bbccddeeff00"
#define LOG_GUID "01020304-0506-0708-090a-0b0c0d0e0f10"

static void vhdx_header(struct made *m, unsigned i, uint64_t sequence, bool dirty)
{
	uint8_t *h = m->file + 65536ull * (i + 1);

	memcpy(h, "head", 4);
	st_le64(h + 8, sequence);
	put_guid(h + 16, "a0000000-0000-0000-0000-000000000001");
	put_guid(h + 32, DATA_GUID);
	if (dirty)
		put_guid(h + 48, LOG_GUID);
	st_le16(h + 66, 1);
	st_le32(h + 68, VHDX_LOG_LEN);
	st_le64(h + 72, VHDX_LOG_AT);
}

static void vhdx_region(struct made *m, unsigned i)
{
	uint8_t *r = m->file + 65536ull * (i + 3);

	memcpy(r, "regi", 4);
	st_le32(r + 8, 2);
	put_guid(r + 16, "2dc27766-f623-4200-9d64-115e9bfd4a08");
	st_le64(r + 32, VHDX_BAT);
	st_le32(r + 40, 0x100000);
	st_le32(r + 44, 1);
	put_guid(r + 48, "8b7ca206-4790-4b9a-b8fe-575f050f886e");
	st_le64(r + 64, VHDX_META);
	st_le32(r + 72, 0x100000);
	st_le32(r + 76, 1);
}

static uint8_t *vhdx_item(struct made *m, const char *guid, uint32_t len)
{
	uint8_t *t = m->file + VHDX_META, *e = t + 32 + ld_le16(t + 10) * 32u;
	uint32_t off = 65536u + ld_le16(t + 10) * 1024u;

	put_guid(e, guid);
	st_le32(e + 16, off);
	st_le32(e + 20, len);
	st_le32(e + 24, 4);
	st_le16(t + 10, (uint16_t)(ld_le16(t + 10) + 1));
	return t + off;
}

static uint32_t put_utf16(uint8_t *p, const char *text)
{
	uint32_t n = 0;

	for (; *text; text++, n += 2)
		st_le16(p + n, (uint8_t)*text);
	return n;
}

static void vhdx_locator(struct made *m)
{
	static const char *const pair[][2] = {
		{ "parent_linkage", "{" DATA_GUID "}" }, { "relative_path", ".\\parent.vhdx" },
		{ "absolute_win32_path", "\\\\?\\C:\\elsewhere\\parent.vhdx" },
	};
	uint8_t *p = vhdx_item(m, "a8d35f2d-b30b-454d-abf7-d3d84834ab0c", 1000);
	uint32_t at = 20 + 3 * 12;

	put_guid(p, "b04aefb7-d19e-4a81-b789-25b8e9445913");
	st_le16(p + 18, 3);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t *e = p + 20 + i * 12;

		st_le32(e, at);
		st_le16(e + 8, (uint16_t)put_utf16(p + at, pair[i][0]));
		at += ld_le16(e + 8);
		st_le32(e + 4, at);
		st_le16(e + 10, (uint16_t)put_utf16(p + at, pair[i][1]));
		at += ld_le16(e + 10);
	}
}

static void vhdx_metadata(struct made *m, bool child)
{
	uint8_t *p;

	memcpy(m->file + VHDX_META, "metadata", 8);
	p = vhdx_item(m, "caa16737-fa36-4d43-b3b6-33f0aa44e76b", 8);
	st_le32(p, VHDX_BLOCK);
	st_le32(p + 4, child ? 2 : 0);
	st_le64(vhdx_item(m, "2fa54224-cd1b-4876-b211-5dbed83bf4b8", 8), m->size);
	put_guid(vhdx_item(m, "beca12ab-b2e6-4523-93ef-c309e000c746", 16), "00000000-0000-0000-0000-000000000077");
	st_le32(vhdx_item(m, "8141bf1d-a96f-4709-ba47-f233a8faab5f", 4), 512);
	st_le32(vhdx_item(m, "cda348c7-445d-4471-9cc9-e9885251c556", 4), 4096);
	if (child)
		vhdx_locator(m);
}

void vhdx_sums(uint8_t *file, uint64_t len)
{
	static const struct {
		uint32_t off, len;
	} parts[] = { { 65536, 4096 }, { 131072, 4096 }, { 196608, 65536 }, { 262144, 65536 } };
	uint8_t *log = file + VHDX_LOG_AT;

	for (unsigned i = 0; i < ARRAY_LEN(parts) && parts[i].off + parts[i].len <= len; i++) {
		st_le32(file + parts[i].off + 4, 0);
		st_le32(file + parts[i].off + 4, crc32c(0, file + parts[i].off, parts[i].len));
	}
	for (uint32_t at = 0; at < VHDX_LOG_LEN && VHDX_LOG_AT + VHDX_LOG_LEN <= len; at += UNIT) {
		uint32_t n = ld_le32(log + at + 8), crc = 0;

		if (memcmp(log + at, "loge", 4) != 0 || !n || n % UNIT || n > VHDX_LOG_LEN)
			continue;
		st_le32(log + at + 4, 0);
		for (uint32_t i = 0; i < n; i += UNIT)
			crc = crc32c(crc, log + (at + i) % VHDX_LOG_LEN, UNIT);
		st_le32(log + at + 4, crc);
	}
}

/* An entry of `n` changes, each of one unit of the file: data, or zeros (NULL). */
static void log_entry(struct made *m, uint32_t at, uint32_t tail, uint64_t sequence, unsigned n, const uint64_t *off, uint8_t *const *data)
{
	uint8_t *log = m->file + VHDX_LOG_AT, *h = log + at;
	uint32_t units = 1;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *d = h + 64 + i * 32, *s;

		memcpy(d, data[i] ? "desc" : "zero", 4);
		st_le64(d + 16, off[i]);
		st_le64(d + 24, sequence);
		if (!data[i]) {
			st_le64(d + 8, UNIT);
			continue;
		}
		s = log + (at + units++ * UNIT) % VHDX_LOG_LEN;
		memcpy(s, data[i], UNIT);
		memcpy(d + 8, s, 8);
		memcpy(d + 4, s + UNIT - 4, 4);
		memcpy(s, "data", 4);
		st_le32(s + 4, (uint32_t)(sequence >> 32));
		st_le32(s + UNIT - 4, (uint32_t)sequence);
	}
	memcpy(h, "loge", 4);
	st_le32(h + 8, units * UNIT);
	st_le32(h + 12, tail);
	st_le64(h + 16, sequence);
	st_le32(h + 24, n);
	put_guid(h + 32, LOG_GUID);
	st_le64(h + 48, m->len);
	st_le64(h + 56, m->len);
}

/*
 * The allocation table is in the log only, in an entry that goes over the ring's end.  Of the same run is one that has another
 * table, which comes before it, and one that zeroes the first unit of a block; an older run has a third table.  With `wrapped`
 * the last entries lie at the ring's beginning, where one who looks for runs from there finds a part of the run first.
 */
static void vhdx_log(struct made *m, bool wrapped)
{
	const uint32_t end = VHDX_LOG_LEN, old = 40 * UNIT, tail = end - 4 * UNIT;
	uint8_t *right = malloc(UNIT), *wrong = calloc(1, UNIT);
	const uint64_t bat[] = { VHDX_BAT }, block[] = { VHDX_DATA };

	memcpy(right, m->file + VHDX_BAT, UNIT);
	memset(m->file + VHDX_BAT, 0, UNIT);
	st_le64(wrong, VHDX_DATA | 6);
	log_entry(m, old, old, 5, 1, bat, (uint8_t *[]){ wrong });
	log_entry(m, tail, tail, 0x100000007ull, 1, bat, (uint8_t *[]){ wrong });
	log_entry(m, end - 2 * UNIT, tail, 0x100000008ull, 1, block, (uint8_t *[]){ NULL });
	log_entry(m, end - UNIT, tail, 0x100000009ull, 1, bat, (uint8_t *[]){ wrapped ? wrong : right });
	if (wrapped)
		log_entry(m, UNIT, tail, 0x10000000aull, 1, bat, (uint8_t *[]){ right });
	free(right);
	free(wrong);
}

void make_vhdx(struct made *m, enum vhdx_make how)
{
	bool child = how == VHDX_MAKE_CHILD;
	uint8_t *bat = m->file + VHDX_BAT;

	m->size = 3 * VHDX_BLOCK;
	memcpy(m->file, "vhdxfile", 8);
	vhdx_header(m, 0, 4, how == VHDX_MAKE_DIRTY || how == VHDX_MAKE_WRAPPED);
	vhdx_header(m, 1, 3, false);
	vhdx_region(m, 0);
	vhdx_region(m, 1);
	vhdx_metadata(m, child);
	if (child) {
		/* Of block 0 every third sector, block 1 is the parent's, block 2 is zeros whatever the parent has. */
		put_data(m, 2 * VHDX_BLOCK, 0, VHDX_FILLED, 5);
		put_data(m, 0, 0, VHDX_FILLED, 5);
		for (unsigned s = 0; s < 2 * VHDX_FILLED / 512; s++)
			if (s % 3 == 1) {
				m->file[VHDX_DATA + VHDX_BLOCK + s / 8] |= (uint8_t)(1 << s % 8);
				put_data(m, s * 512ull, VHDX_DATA + s * 512ull, 512, 77);
			}
		memset(m->disk + 2 * VHDX_BLOCK, 0, VHDX_BLOCK);
		st_le64(bat, VHDX_DATA | 7);
		st_le64(bat + 16, 2);
		st_le64(bat + 4096 * 8, (VHDX_DATA + VHDX_BLOCK) | 6);
	} else {
		/* The last block comes first in the file, the middle one is not there. */
		put_data(m, 2 * VHDX_BLOCK, VHDX_DATA, VHDX_FILLED, 5);
		put_data(m, 0, VHDX_DATA + VHDX_BLOCK, VHDX_FILLED, 5);
		st_le64(bat, (VHDX_DATA + VHDX_BLOCK) | 6);
		st_le64(bat + 16, VHDX_DATA | 6);
	}
	m->len = VHDX_DATA + 2 * VHDX_BLOCK;
	if (how == VHDX_MAKE_DIRTY || how == VHDX_MAKE_WRAPPED) {
		vhdx_log(m, how == VHDX_MAKE_WRAPPED);
		memset(m->disk + 2 * VHDX_BLOCK, 0, UNIT);
	}
	vhdx_sums(m->file, m->len);
}
