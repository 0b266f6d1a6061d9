/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hyper-V disks (VHDX), after [MS-VHDX] 5.0: fixed, dynamic and difference images.
 *
 * Two headers, of which the valid one with the higher number counts; if that names
 * a log the image was not closed, and is read as it is with the log carried out
 * (vhdx_log.c).  A region table says where metadata (sizes, flags, the parent) and
 * the block allocation table (BAT) lie.  The BAT has a 64-bit entry for each block
 * and, after those of every chunk (2^23 sectors), one for the chunk's sector bitmap,
 * which difference images use for blocks they have in part.
 */
#include "block/foreign/vhdx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/checked.h"
#include "base/crc32c.h"

#define HEADER_LEN 4096u
#define TABLE_LEN 65536u
#define MAX_ENTRIES 2047u
#define MAX_LOCATOR 65536u
#define MAX_SIZE (64ull << 40)
#define CHUNK_SECTORS BIT64(23)
#define LOOK 64u			/* bytes of a sector bitmap looked at in one go */

enum { BAT_NOT_PRESENT = 0, BAT_ZERO = 2, BAT_UNMAPPED = 3, BAT_PRESENT = 6, BAT_PARTIAL = 7 };
enum {
	H_CHECKSUM = 4, H_SEQUENCE = 8, H_DATA_GUID = 32, H_LOG_GUID = 48, H_LOG_VERSION = 64, H_VERSION = 66, H_LOG_LEN = 68,
	H_LOG_OFF = 72,
	R_CHECKSUM = 4, R_N = 8, R_ENTRIES = 16, R_OFF = 16, R_LEN = 24, R_REQUIRED = 28,
	M_N = 10, M_ENTRIES = 32, M_OFF = 16, M_LEN = 20, M_FLAGS = 24, M_REQUIRED = 4, ENTRY_LEN = 32,
	L_N = 18, L_ENTRIES = 20, L_ENTRY = 12,
};

/* The first three fields of a GUID are little-endian numbers. */
#define GUID(a, b, c, ...) { (a) & 255, (a) >> 8 & 255, (a) >> 16 & 255, (a) >> 24, (b) & 255, (b) >> 8, (c) & 255, (c) >> 8, __VA_ARGS__ }
static const uint8_t bat_guid[16] = GUID(0x2dc27766u, 0xf623, 0x4200, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
static const uint8_t meta_guid[16] = GUID(0x8b7ca206u, 0x4790, 0x4b9a, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);
static const uint8_t locator_type[16] = GUID(0xb04aefb7u, 0xd19e, 0x4a81, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13);

enum { ITEM_PARAMETERS, ITEM_SIZE, ITEM_LOGICAL, ITEM_PHYSICAL, ITEM_ID, ITEM_PARENT, N_ITEMS };
static const struct {
	uint8_t guid[16];
	uint32_t len;			/* 0: any up to MAX_LOCATOR */
} items[N_ITEMS] = {
	[ITEM_PARAMETERS] = { GUID(0xcaa16737u, 0xfa36, 0x4d43, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b), 8 },
	[ITEM_SIZE] = { GUID(0x2fa54224u, 0xcd1b, 0x4876, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8), 8 },
	[ITEM_LOGICAL] = { GUID(0x8141bf1du, 0xa96f, 0x4709, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f), 4 },
	[ITEM_PHYSICAL] = { GUID(0xcda348c7u, 0x445d, 0x4471, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56), 4 },
	[ITEM_ID] = { GUID(0xbeca12abu, 0xb2e6, 0x4523, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46), 16 },
	[ITEM_PARENT] = { GUID(0xa8d35f2du, 0xb30b, 0x454d, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c), 0 },
};

struct vhdx {
	struct foreign f;
	struct blk_node *store;		/* n.file, or that with the log's changes over it (in f.extra) */
	struct vhdx_header h;
	uint64_t bat, bat_len, meta, meta_len;	/* bytes in the store */
	uint64_t item[N_ITEMS];		/* where; 0: not there */
	uint32_t item_len[N_ITEMS];
	uint32_t block, sector;		/* bytes */
	uint64_t ratio;			/* blocks of a chunk */
	bool has_parent;
};

/* ---- looking things up ---- */

static int bat_entry(struct vhdx *v, struct co *c, uint64_t i, unsigned *state, uint64_t *host)
{
	uint8_t raw[8];
	int ret = foreign_table(&v->f, c, v->store, v->bat + i * 8, raw, 8);

	*state = ld_le64(raw) & 7;
	*host = ld_le64(raw) & ~(uint64_t)(VHDX_MIB - 1);
	return ret;
}

static bool host_ok(const struct vhdx *v, uint64_t host)
{
	return host >= VHDX_MIB && host < v->store->i.size;
}

/* How many bits from `bit` on are as it is, up to max; and which. */
static int bitmap_run(struct vhdx *v, struct co *c, uint64_t bitmap, uint64_t bit, uint64_t max, bool *set, uint64_t *run)
{
	uint8_t look[LOOK];
	uint64_t first = bit / 8, n = MIN((bit % 8 + max + 7) / 8, (uint64_t)LOOK);
	int ret = foreign_table(&v->f, c, v->store, bitmap + first, look, n);

	*set = look[0] >> bit % 8 & 1;
	for (*run = 0; !ret && *run < max; ++*run) {
		uint64_t at = bit % 8 + *run;

		if (at / 8 >= n || (look[at / 8] >> at % 8 & 1) != *set)
			break;
	}
	return ret;
}

/* A block of which some sectors are here and some are the parent's. */
static int map_partial(struct vhdx *v, struct co *c, uint64_t off, uint64_t host, uint64_t max, struct piece *out)
{
	uint64_t chunk = off / v->block / v->ratio, bit = off / v->sector % CHUNK_SECTORS, in = off % v->sector, bitmap, run;
	unsigned state;
	bool set;
	int ret = bat_entry(v, c, (chunk + 1) * v->ratio + chunk, &state, &bitmap);

	if (ret)
		return ret;
	if (state != BAT_PRESENT || !host_ok(v, bitmap))
		return foreign_damaged(&v->f, "a sector bitmap is missing", off);
	ret = bitmap_run(v, c, bitmap, bit, (in + max + v->sector - 1) / v->sector, &set, &run);
	if (ret)
		return ret;
	out->kind = set ? PIECE_DATA : PIECE_NOTHING;
	out->len = MIN(max, run * v->sector - in);
	out->host = host;
	return 0;
}

static int vhdx_map(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out)
{
	struct vhdx *v = container_of(f, struct vhdx, f);
	uint64_t block = off / v->block, in = off % v->block, host;
	unsigned state;
	int ret = bat_entry(v, c, block + block / v->ratio, &state, &host);

	if (ret)
		return ret;
	*out = (struct piece){ .len = MIN(max, v->block - in), .node = v->store, .host = host + in };
	switch (state) {
	case BAT_NOT_PRESENT:
		out->kind = PIECE_NOTHING;
		return 0;
	case 1:				/* undefined */
	case BAT_ZERO:
	case BAT_UNMAPPED:
		out->kind = PIECE_ZERO;
		return 0;
	case BAT_PRESENT:
	case BAT_PARTIAL:
		if (!host_ok(v, host))
			return foreign_damaged(f, "a block lies outside of the file", off);
		out->kind = PIECE_DATA;
		return state == BAT_PARTIAL && v->has_parent ? map_partial(v, c, off, host + in, out->len, out) : 0;
	default:
		return foreign_damaged(f, "a block has a state there is not", off);
	}
}

static void vhdx_free(struct foreign *f)
{
	free(container_of(f, struct vhdx, f));
}

static const struct foreign_ops vhdx_ops = { .name = "vhdx", .map = vhdx_map, .free = vhdx_free };

/* ---- opening ---- */

static bool sum_ok(uint8_t *p, size_t len)
{
	uint32_t sum = ld_le32(p + H_CHECKSUM), crc;

	st_le32(p + H_CHECKSUM, 0);
	crc = crc32c(0, p, len);
	st_le32(p + H_CHECKSUM, sum);
	return sum == crc;
}

static int store_read(struct vhdx *v, const struct foreign_opening *op, uint64_t off, void *buf, size_t len)
{
	int ret = blk_pread(v->store, off, buf, len);

	return ret ? err_set(op->e, ret, "image '%s' cannot be read: %s", op->path, strerror(-ret)) : 0;
}

/* 2.2.2.1 */
static int read_headers(struct vhdx *v, const struct foreign_opening *op, uint8_t *buf)
{
	bool found = false;
	int ret = 0;

	for (unsigned i = 0; i < 2 && !ret; i++) {
		uint8_t *h = buf;

		ret = foreign_head(op, (i + 1) * 65536ull, h, HEADER_LEN);
		if (ret || memcmp(h, "head", 4) != 0 || !sum_ok(h, HEADER_LEN) || ld_le16(h + H_VERSION) != 1 ||
		    (found && ld_le64(h + H_SEQUENCE) <= v->h.sequence))
			continue;
		found = true;
		v->h = (struct vhdx_header){ .sequence = ld_le64(h + H_SEQUENCE), .log_off = ld_le64(h + H_LOG_OFF),
					     .log_len = ld_le32(h + H_LOG_LEN) };
		memcpy(v->h.data_write_guid, h + H_DATA_GUID, 16);
		memcpy(v->h.log_guid, h + H_LOG_GUID, 16);
		if (ld_le16(h + H_LOG_VERSION))
			ret = err_set(op->e, -ENOTSUP, "image '%s' has a log of version %u; 0 is known here", op->path,
				      ld_le16(h + H_LOG_VERSION));
	}
	return ret ? ret : found ? 0 : foreign_bad(op, "neither of its two headers has a right checksum");
}

static int replay(struct vhdx *v, const struct foreign_opening *op)
{
	static const uint8_t none[16];
	struct blk_node *over;
	int ret;

	if (!memcmp(v->h.log_guid, none, 16))
		return 0;
	ret = vhdx_replay(op, &v->h, &over);
	if (ret || !over)
		return ret;
	ret = foreign_add_node(&v->f, over);
	if (ret) {
		blk_close(over);
		return err_set(op->e, ret, "out of memory while opening image '%s'", op->path);
	}
	v->store = over;
	return 0;
}

/* 2.2.3 */
static int use_region(struct vhdx *v, const struct foreign_opening *op, const uint8_t *e)
{
	uint64_t off = ld_le64(e + R_OFF), len = ld_le32(e + R_LEN);
	bool bat = !memcmp(e, bat_guid, 16), meta = !memcmp(e, meta_guid, 16);

	if (!bat && !meta)
		return ld_le32(e + R_REQUIRED) & 1
			       ? err_set(op->e, -ENOTSUP, "image '%s' has a region that must be known and is not here", op->path)
			       : 0;
	if (off % VHDX_MIB || off < VHDX_MIB || !len || !range_inside(off, len, v->store->i.size))
		return foreign_bad(op, "its region table");
	if (bat) {
		v->bat = off;
		v->bat_len = len;
	} else {
		v->meta = off;
		v->meta_len = len;
	}
	return 0;
}

static int read_regions(struct vhdx *v, const struct foreign_opening *op, uint8_t *buf)
{
	bool found = false;
	int ret = 0;

	for (unsigned i = 0; i < 2 && !found && !ret; i++) {
		ret = store_read(v, op, (i + 3) * 65536ull, buf, TABLE_LEN);
		found = !ret && !memcmp(buf, "regi", 4) && ld_le32(buf + R_N) <= MAX_ENTRIES && sum_ok(buf, TABLE_LEN);
	}
	if (!ret && !found)
		ret = foreign_bad(op, "neither of its two region tables has a right checksum");
	for (uint32_t i = 0; !ret && i < ld_le32(buf + R_N); i++)
		ret = use_region(v, op, buf + R_ENTRIES + i * ENTRY_LEN);
	if (!ret && (!v->bat || v->meta_len < TABLE_LEN))
		ret = foreign_bad(op, "its region table");
	return ret;
}

/* 2.6 */
static int use_item(struct vhdx *v, const struct foreign_opening *op, const uint8_t *e)
{
	uint64_t off = ld_le32(e + M_OFF), len = ld_le32(e + M_LEN);

	for (unsigned i = 0; i < N_ITEMS; i++) {
		if (memcmp(e, items[i].guid, 16) != 0)
			continue;
		if ((items[i].len ? len != items[i].len : len > MAX_LOCATOR) || off < TABLE_LEN ||
		    !range_inside(off, len, v->meta_len))
			return foreign_bad(op, "its metadata");
		v->item[i] = v->meta + off;
		v->item_len[i] = (uint32_t)len;
		return 0;
	}
	return ld_le32(e + M_FLAGS) & M_REQUIRED
		       ? err_set(op->e, -ENOTSUP, "image '%s' has metadata that must be known and is not here", op->path)
		       : 0;
}

static int item_value(struct vhdx *v, const struct foreign_opening *op, unsigned i, void *buf, size_t len)
{
	int ret;

	if (!v->item[i])
		return foreign_bad(op, "its metadata is not complete");
	ret = foreign_table(&v->f, NULL, v->store, v->item[i], buf, len);
	return ret ? err_set(op->e, ret, "image '%s' cannot be read: %s", op->path, strerror(-ret)) : 0;
}

static int read_metadata(struct vhdx *v, const struct foreign_opening *op, uint8_t *buf)
{
	int ret = store_read(v, op, v->meta, buf, TABLE_LEN);

	if (!ret && (memcmp(buf, "metadata", 8) != 0 || ld_le16(buf + M_N) > MAX_ENTRIES))
		ret = foreign_bad(op, "its metadata table");
	for (unsigned i = 0; !ret && i < ld_le16(buf + M_N); i++)
		ret = use_item(v, op, buf + M_ENTRIES + i * ENTRY_LEN);
	return ret;
}

static int read_shape(struct vhdx *v, const struct foreign_opening *op)
{
	uint8_t raw[8];
	uint64_t blocks, entries, size = 0;
	int ret = item_value(v, op, ITEM_PARAMETERS, raw, 8);

	v->block = ld_le32(raw);
	v->has_parent = ld_le32(raw + 4) & 2;
	ret = ret ? ret : item_value(v, op, ITEM_LOGICAL, raw, 4);
	v->sector = ld_le32(raw);
	ret = ret ? ret : item_value(v, op, ITEM_SIZE, raw, 8);
	size = ld_le64(raw);
	if (ret)
		return ret;
	if (!is_pow2(v->block) || v->block < VHDX_MIB || v->block > 256 * VHDX_MIB)
		return foreign_bad(op, "its block size");
	if ((v->sector != 512 && v->sector != 4096) || !size || size % v->sector || size > MAX_SIZE)
		return foreign_bad(op, "its size");
	v->ratio = CHUNK_SECTORS * v->sector / v->block;
	blocks = (size + v->block - 1) / v->block;
	entries = v->has_parent ? (blocks + v->ratio - 1) / v->ratio * (v->ratio + 1) : blocks + (blocks - 1) / v->ratio;
	if (entries * 8 > v->bat_len)
		return foreign_bad(op, "its block allocation table is too short");
	v->f.n.i.size = size;
	v->f.n.i.cluster = v->block;
	return 0;
}

/* ---- the parent (2.6.2.6) ---- */

/* UTF-16 of len bytes as UTF-8, with slashes the way they are here. NULL: no memory, or no text that a path can be */
static char *path_text(const uint8_t *p, unsigned len)
{
	char *out = malloc(len * 2u + 1), *to = out;

	for (unsigned i = 0; out && i + 1 < len; i += 2) {
		unsigned ch = ld_le16(p + i);

		if (ch == 0 || (ch >= 0xd800 && ch < 0xe000)) {
			free(out);
			return NULL;
		}
		if (ch < 0x80) {
			*to++ = ch == '\\' ? '/' : (char)ch;
		} else if (ch < 0x800) {
			*to++ = (char)(0xc0 | ch >> 6);
			*to++ = (char)(0x80 | (ch & 63));
		} else {
			*to++ = (char)(0xe0 | ch >> 12);
			*to++ = (char)(0x80 | (ch >> 6 & 63));
			*to++ = (char)(0x80 | (ch & 63));
		}
	}
	if (out)
		*to = '\0';
	return out;
}

/* The value of a key of the locator; NULL: none. */
static char *locator_value(const uint8_t *p, uint32_t len, const char *key)
{
	unsigned n = ld_le16(p + L_N);
	char *out = NULL;

	for (unsigned i = 0; i < n && L_ENTRIES + (i + 1) * L_ENTRY <= len && !out; i++) {
		const uint8_t *e = p + L_ENTRIES + i * L_ENTRY;
		uint32_t key_off = ld_le32(e), value_off = ld_le32(e + 4), key_len = ld_le16(e + 8), value_len = ld_le16(e + 10);
		char *name;

		if (!range_inside(key_off, key_len, len) || !range_inside(value_off, value_len, len))
			continue;
		name = path_text(p + key_off, key_len);
		if (name && !strcmp(name, key))
			out = path_text(p + value_off, value_len);
		free(name);
	}
	return out;
}

/* Where the parent may be: as seen from here, else by its name in the same folder. */
static char *parent_path(const uint8_t *p, uint32_t len)
{
	char *path = locator_value(p, len, "relative_path"), *slash;

	if (path)
		return path;
	path = locator_value(p, len, "absolute_win32_path");
	slash = path ? strrchr(path, '/') : NULL;
	if (slash)
		memmove(path, slash + 1, strlen(slash));
	return path;
}

static void guid_text(const uint8_t *g, char *out, size_t room)
{
	snprintf(out, room, "{%08" PRIx32 "-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x}", ld_le32(g), ld_le16(g + 4), ld_le16(g + 6),
		 g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

/* Is the parent as it was when this image was begun? */
static int check_linkage(struct vhdx *v, const struct foreign_opening *op, const uint8_t *p, uint32_t len)
{
	struct foreign *below = foreign_of(v->f.n.backing);
	const struct vhdx *parent = below ? container_of(below, struct vhdx, f) : NULL;
	char *want = locator_value(p, len, "parent_linkage"), *second = locator_value(p, len, "parent_linkage2"), have[64];
	int ret = 0;

	guid_text(parent ? parent->h.data_write_guid : v->h.log_guid, have, sizeof(have));
	if (!parent || (!(want && !strcasecmp(want, have)) && !(second && !strcasecmp(second, have))))
		ret = err_set(op->e, -EINVAL, "image '%s' is the difference to '%s', but that was changed since (its number is %s, not %s)",
			      op->path, v->f.n.backing->path, have, want ? want : "there");
	free(want);
	free(second);
	return ret;
}

static int open_parent(struct vhdx *v, const struct foreign_opening *op, uint8_t *buf)
{
	uint32_t len = v->item_len[ITEM_PARENT];
	char *name, *path = NULL;
	int ret;

	if (!v->has_parent || op->o->no_backing)
		return 0;
	ret = item_value(v, op, ITEM_PARENT, buf, len);
	if (ret)
		return ret;
	if (len < L_ENTRIES || memcmp(buf, locator_type, 16) != 0)
		return err_set(op->e, -ENOTSUP, "image '%s' names its parent in a way that is not known here", op->path);
	name = parent_path(buf, len);
	if (!name)
		return foreign_bad(op, "it has a parent and does not name it");
	ret = image_resolve(op->path, name, "parent", op->o->trust, &path, op->e);
	ret = ret ? ret : foreign_parent(&v->f, op, path, "vhdx");
	ret = ret ? ret : check_linkage(v, op, buf, len);
	free(name);
	free(path);
	return ret;
}

static int open_image(struct vhdx *v, const struct foreign_opening *op)
{
	uint8_t *buf = malloc(TABLE_LEN);
	int ret;

	if (!buf)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = foreign_head(op, 0, buf, BLK_SECTOR);
	if (!ret && memcmp(buf, "vhdxfile", 8) != 0)
		ret = foreign_bad(op, "this is not a vhdx image");
	ret = ret ? ret : read_headers(v, op, buf);
	ret = ret ? ret : replay(v, op);
	ret = ret ? ret : read_regions(v, op, buf);
	ret = ret ? ret : read_metadata(v, op, buf);
	ret = ret ? ret : read_shape(v, op);
	ret = ret ? ret : open_parent(v, op, buf);
	free(buf);
	return ret;
}

int vhdx_open(const struct foreign_opening *op, struct foreign **out)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = foreign_init(&v->f, op, &vhdx_ops);
	v->store = op->file;
	ret = ret ? ret : open_image(v, op);
	if (ret)
		return foreign_drop(&v->f, ret);
	*out = &v->f;
	return 0;
}
