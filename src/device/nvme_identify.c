/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Identify (NVM Express Base 1.4, 5.15): what the controller and its namespaces
 * say about themselves.  Byte offsets are those of the specification's figures.
 */
#include "device/nvme_int.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"

#define PAGE 4096

/* FNV-1a, twice with different seeds: enough for names that differ within one machine. */
static uint64_t hash(const char *a, const char *b, unsigned k, uint64_t h)
{
	for (const char *p = a; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
	h = (h ^ 0xff) * 0x100000001b3ull;
	for (const char *p = b; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
	return (h ^ k) * 0x100000001b3ull;
}

/* A UUID of version 8 (RFC 9562): the same on every start of this machine. */
static void make_uuid(const char *a, const char *b, unsigned k, uint8_t out[16])
{
	st_le64(out, hash(a, b, k, 0xcbf29ce484222325ull));
	st_le64(out + 8, hash(b, a, k, 0x84222325cbf29ce4ull));
	out[6] = (uint8_t)((out[6] & 0x0f) | 0x80);
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

void nvme_make_guid(struct nvme_ns *ns)
{
	make_uuid(ns->disk.id, ns->disk.o.serial, ns->nsid, ns->guid);
}

/* Padded with blanks, not ended with a zero (1.5). */
static void text(uint8_t *to, unsigned len, const char *s)
{
	size_t n = strnlen(s, len);

	memset(to, ' ', len);
	memcpy(to, s, n);
}

static void serial(const struct nvme *n, uint8_t *to)
{
	char s[48];

	snprintf(s, sizeof(s), "lodge-%s", n->id);
	text(to, 20, n->o.serial[0] ? n->o.serial : s);
}

static bool all(const struct nvme *n, bool (*can)(const struct nvme_ns *))
{
	for (unsigned i = 0; i < n->n_ns; i++)
		if (!can(n->ns[i]))
			return false;
	return true;
}

static bool can_zero(const struct nvme_ns *ns) { return ns->disk.node->i.can_zero || ns->disk.node->i.read_only; }

static void nqn(const struct nvme *n, uint8_t *to)
{
	uint8_t u[16];

	make_uuid(n->id, n->o.serial, 0, u);
	snprintf((char *)to, 256, "nqn.2014-08.org.nvmexpress:uuid:"
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
		 u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

/* Figure 247 */
static void controller(const struct nvme *n, uint8_t *p)
{
	st_le16(p, 0x1b36);
	st_le16(p + 2, 0x1af4);
	serial(n, p + 4);
	text(p + 24, 40, "Lodge NVMe disk");
	text(p + 64, 8, LODGE_VERSION);
	p[72] = 6;					/* RAB: 64 commands at a time */
	p[77] = NVME_MDTS;
	st_le16(p + 78, 0);				/* CNTLID */
	st_le32(p + 80, 0x00010400);
	st_le32(p + 92, BIT(8));			/* OAES: namespace attributes */
	p[111] = 1;					/* an I/O controller */
	st_le16(p + 256, BIT(8));			/* OACS: doorbell buffers */
	p[258] = NVME_ABORTS - 1;
	p[259] = NVME_AERS - 1;
	p[260] = 1 | 1 << 1;				/* FRMW: one slot, read-only */
	p[261] = 2 | 4;					/* LPA: effects log, offsets */
	p[262] = NVME_ERRORS - 1;
	st_le16(p + 266, 343);				/* WCTEMP, CCTEMP: kelvin */
	st_le16(p + 268, 373);
	p[512] = 0x66;					/* SQES, CQES */
	p[513] = 0x44;
	st_le32(p + 516, n->n_ns);
	st_le16(p + 520, BIT(0) | BIT(2) | (all(n, can_zero) ? BIT(3) : 0));
	p[525] = 1 | 3 << 1;				/* VWC: flush takes all namespaces too */
	st_le32(p + 536, 1);		/* SGLS: any alignment */
	nqn(n, p + 768);
	st_le16(p + 2048, 2500);			/* one power state: 25 W */
	st_le32(p + 2048 + 4, 16);
	st_le32(p + 2048 + 8, 4);
}

/* Zero based blocks that fit 16 bits. */
static uint16_t blocks16(uint64_t bytes, unsigned shift)
{
	uint64_t n = bytes >> shift;

	return (uint16_t)(n ? MIN(n - 1, 0xfffeull) : 0);
}

/* Figure 245 */
static void ns_data(const struct nvme_ns *ns, uint8_t *p)
{
	const struct blk_info *i = &ns->disk.node->i;
	bool discard = disk_can_discard(&ns->disk);

	st_le64(p, ns->blocks);
	st_le64(p + 8, ns->blocks);
	st_le64(p + 16, ns->blocks);
	p[24] = (discard ? 1 : 0) | 16;			/* NSFEAT: thin, preferred sizes below */
	p[33] = discard ? 8 : 0;			/* DLFEAT: zeros may deallocate */
	st_le16(p + 64, blocks16(disk_physical_block(&ns->disk), ns->shift));
	st_le16(p + 66, blocks16(disk_physical_block(&ns->disk), ns->shift));
	st_le16(p + 68, blocks16(disk_discard_unit(&ns->disk), ns->shift));
	st_le16(p + 70, blocks16(disk_discard_unit(&ns->disk), ns->shift));
	st_le16(p + 72, blocks16(ns->disk.o.opt_io ? ns->disk.o.opt_io : i->opt_io, ns->shift));
	p[99] = i->read_only;				/* NSATTR: write protected */
	memcpy(p + 104, ns->guid, 16);
	st_le32(p + 128, ns->shift << 16);		/* LBAF0: no metadata */
}

static int one_ns(struct nvme *n, uint32_t nsid, uint8_t *p)
{
	struct nvme_ns *ns = nvme_ns_of(n, nsid);

	/* What all namespaces have in common is asked for with management of them only. */
	if (!ns)
		return NVME_INVALID_NS;
	ns_data(ns, p);
	return NVME_OK;
}

/* 5.15.2.3: ids above the one given. */
static int ns_list(struct nvme *n, uint32_t above, uint8_t *p)
{
	if (above >= 0xfffffffe)
		return NVME_INVALID_NS;
	for (uint32_t id = above + 1, k = 0; id <= n->n_ns; id++, k++)
		st_le32(p + 4 * k, id);
	return NVME_OK;
}

/* 5.15.2.4 */
static int ns_descriptors(struct nvme *n, uint32_t nsid, uint8_t *p)
{
	struct nvme_ns *ns = nvme_ns_of(n, nsid);

	if (!ns)
		return NVME_INVALID_NS;
	p[0] = 2;					/* NGUID */
	p[1] = 16;
	memcpy(p + 4, ns->guid, 16);
	p[20] = 3;					/* UUID */
	p[21] = 16;
	memcpy(p + 24, ns->guid, 16);
	return NVME_OK;
}

int nvme_identify(struct nvme *n, const struct nvme_cmd *c)
{
	uint8_t p[PAGE] = { 0 };
	int status = NVME_OK;

	switch (c->cdw10 & 0xff) {
	case 0x00: status = one_ns(n, c->nsid, p); break;
	case 0x01: controller(n, p); break;
	case 0x02: status = ns_list(n, c->nsid, p); break;
	case 0x03: status = ns_descriptors(n, c->nsid, p); break;
	default: return NVME_INVALID_FIELD;
	}
	return status ? status : nvme_to_guest(n, c, p, PAGE);
}
