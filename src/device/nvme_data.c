/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a command's data pointer to guest memory: PRP entries and lists (NVM
 * Express Base 1.4, 4.3) and SGLs (4.4).
 *
 * Lists are read piece by piece into host memory and looked at there.  Their
 * length is bounded by that of the data (PRP), or by a count of descriptors.
 */
#include "device/nvme_int.h"

#include <errno.h>

#include "base/bits.h"
#include "base/iov.h"

#define PRP_BATCH 512u			/* entries read at once */
#define SGL_DESC 16u
#define SGL_BATCH 256u
#define SGL_MAX 2048u			/* descriptors of one command */

enum { SGL_DATA = 0, SGL_BIT_BUCKET = 1, SGL_SEGMENT = 2, SGL_LAST = 3 };

static int add_piece(struct nvme *n, uint64_t gpa, uint64_t len, bool to_guest, size_t *k)
{
	int ret = mem_map_iov(n->m->mem, gpa, len, to_guest, n->scratch, NVME_MAX_IOV, k);

	return !ret ? NVME_OK : ret == -E2BIG ? NVME_SGL_NUMBER : NVME_DATA_TRANSFER;
}

/* ---- PRP ---- */

/* Entries that fit between here and the end of the list's page; the last of them
 * leads to the next page if there are more. */
static int map_list(struct nvme *n, uint64_t list, uint64_t left, bool to_guest, size_t *k)
{
	uint64_t prp[PRP_BATCH];

	while (left) {
		uint32_t entries = (uint32_t)((left + n->page - 1) / n->page), i = 0;
		uint32_t here = (n->page - (uint32_t)(list & (n->page - 1))) / 8, data;

		if (list & 7)
			return NVME_PRP_OFFSET;
		here = MIN(MIN(here, entries), PRP_BATCH);
		/* Does the page end with these, and not the list? */
		data = here < entries && !((list + 8ull * here) & (n->page - 1)) ? here - 1 : here;
		if (mem_read(n->m->mem, list, prp, 8ull * here))
			return NVME_DATA_TRANSFER;
		for (; i < data; i++) {
			uint64_t len = MIN(left, n->page);
			int ret;

			if (prp[i] & (n->page - 1))
				return NVME_PRP_OFFSET;
			ret = add_piece(n, prp[i], len, to_guest, k);
			if (ret)
				return ret;
			left -= len;
		}
		/* The next page is a whole one, so every turn but the first brings data. */
		if (data < here) {
			if (prp[i] & (n->page - 1))
				return NVME_PRP_OFFSET;
			list = prp[i];
		} else {
			list += 8ull * here;
		}
	}
	return NVME_OK;
}

static int map_prp(struct nvme *n, const struct nvme_cmd *c, uint64_t len, bool to_guest, size_t *k)
{
	uint64_t first = MIN(len, n->page - (c->prp1 & (n->page - 1)));
	int ret;

	if (c->prp1 & 3)
		return NVME_PRP_OFFSET;
	ret = add_piece(n, c->prp1, first, to_guest, k);
	len -= first;
	if (ret || !len)
		return ret;
	if (len > n->page)
		return map_list(n, c->prp2, len, to_guest, k);
	if (c->prp2 & (n->page - 1))
		return NVME_PRP_OFFSET;
	return add_piece(n, c->prp2, len, to_guest, k);
}

/* ---- SGL ---- */

struct sgl {
	uint64_t addr;
	uint32_t len;
	uint8_t type;			/* with subtype */
};

static struct sgl sgl_of(const uint8_t *p)
{
	return (struct sgl){ .addr = ld_le64(p), .len = ld_le32(p + 8), .type = p[15] };
}

/* One descriptor that is no segment. *left: bytes of data still to be found a place for. */
static int map_desc(struct nvme *n, const struct sgl *d, uint64_t *left, bool to_guest, size_t *k)
{
	int ret;

	/* 4.4: the buffer may be longer than the data. */
	uint64_t len = MIN(*left, d->len);

	if (d->type != SGL_DATA << 4)
		return NVME_SGL_TYPE;
	if (!len)
		return NVME_OK;
	ret = add_piece(n, d->addr, len, to_guest, k);
	*left -= len;
	return ret;
}

static bool is_segment(const struct sgl *d)
{
	return d->type == SGL_SEGMENT << 4 || d->type == SGL_LAST << 4;
}

/* All descriptors of a segment but a last one that leads on, which becomes *seg; else seg->len 0. */
static int map_segment(struct nvme *n, struct sgl *seg, uint64_t *left, bool to_guest, size_t *k)
{
	uint8_t buf[SGL_BATCH * SGL_DESC];
	uint64_t at = seg->addr;
	uint32_t count = seg->len / SGL_DESC;
	bool last = seg->type == SGL_LAST << 4;

	if (!count || seg->len % SGL_DESC || seg->len / SGL_DESC > SGL_MAX)
		return NVME_SGL_SEGMENT;
	while (count) {
		uint32_t batch = MIN(count, SGL_BATCH);

		if (mem_read(n->m->mem, at, buf, (uint64_t)batch * SGL_DESC))
			return NVME_DATA_TRANSFER;
		for (uint32_t i = 0; i < batch; i++) {
			struct sgl d = sgl_of(buf + (size_t)i * SGL_DESC);
			int ret;

			if (is_segment(&d)) {
				*seg = d;
				return !last && count == i + 1 ? NVME_OK : NVME_SGL_SEGMENT;
			}
			ret = map_desc(n, &d, left, to_guest, k);
			if (ret)
				return ret;
		}
		at += (uint64_t)batch * SGL_DESC;
		count -= batch;
	}
	seg->len = 0;
	return last ? NVME_OK : NVME_SGL_SEGMENT;
}

static int map_sgl(struct nvme *n, const struct nvme_cmd *c, uint64_t len, bool to_guest, size_t *k)
{
	struct sgl d = sgl_of((const uint8_t *)&c->prp1);
	unsigned segments = 0;
	int ret = NVME_OK;

	if (!is_segment(&d))
		ret = map_desc(n, &d, &len, to_guest, k);
	else
		while (!ret && d.len)
			ret = segments++ < 16 ? map_segment(n, &d, &len, to_guest, k) : NVME_SGL_NUMBER;
	return !ret && len ? NVME_SGL_LENGTH : ret;
}

int nvme_map(struct nvme *n, const struct nvme_cmd *c, uint64_t len, bool to_guest, unsigned *niov)
{
	unsigned psdt = c->flags >> 6;
	size_t k = 0;
	int ret;

	if (!len || len > NVME_MAX_DATA)
		return NVME_INVALID_FIELD;
	if (psdt == 3)
		return NVME_INVALID_FIELD;
	ret = psdt ? map_sgl(n, c, len, to_guest, &k) : map_prp(n, c, len, to_guest, &k);
	*niov = (unsigned)k;
	return ret;
}

int nvme_to_guest(struct nvme *n, const struct nvme_cmd *c, const void *buf, uint64_t len)
{
	unsigned niov;
	int ret = nvme_map(n, c, len, true, &niov);

	if (ret)
		return ret;
	iov_from_buf(n->scratch, niov, 0, buf, len);
	for (unsigned i = 0; i < niov; i++)
		mem_written_host(n->m->mem, n->scratch[i].iov_base, n->scratch[i].iov_len);
	return NVME_OK;
}

int nvme_from_guest(struct nvme *n, const struct nvme_cmd *c, void *buf, uint64_t len)
{
	unsigned niov;
	int ret = nvme_map(n, c, len, false, &niov);

	if (ret)
		return ret;
	iov_to_buf(n->scratch, niov, 0, buf, len);
	return NVME_OK;
}
