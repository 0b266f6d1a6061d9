/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asynchronous events and log pages of an NVMe controller (NVM Express Base
 * 1.4, 5.2 and 5.14).
 *
 * An event is told once; others of its type wait, and are dropped when there are
 * too many, until its log page has been read.
 */
#include "device/nvme_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define TEMPERATURE 313			/* kelvin: nothing here gets warm */
#define LOG_MAX 4096u

/* ---- events ---- */

void nvme_event(struct nvme *n, unsigned type, unsigned info, unsigned page)
{
	for (unsigned i = 0; i < n->n_events; i++)
		if (n->event[i].type == type && n->event[i].info == info)
			return;		/* told soon anyway */
	if (n->n_events == NVME_EVENTS)
		return;
	n->event[n->n_events++] = (struct nvme_event){ (uint8_t)type, (uint8_t)info, (uint8_t)page };
	nvme_events_run(n);
}

void nvme_events_run(struct nvme *n)
{
	for (unsigned i = 0; i < n->n_events && n->n_aers && nvme_ready(n) && !n->paused;) {
		struct nvme_event e = n->event[i];

		if (n->ev_masked & BIT(e.type)) {
			i++;
			continue;
		}
		if (!nvme_post_extra(n, 0, n->aer[0], NVME_OK, e.type | (uint32_t)e.info << 8 | (uint32_t)e.page << 16))
			return;
		n->n_aers--;
		memmove(&n->aer[0], &n->aer[1], n->n_aers * sizeof(n->aer[0]));
		n->n_events--;
		memmove(&n->event[i], &n->event[i + 1], (n->n_events - i) * sizeof(n->event[0]));
		n->ev_masked |= BIT(e.type);
	}
}

static uint8_t critical(const struct nvme *n)
{
	return TEMPERATURE >= n->feat.temp_over || TEMPERATURE <= n->feat.temp_under ? 2 : 0;
}

/* 5.21.1.4, 5.2: SMART event, temperature. */
void nvme_check_temperature(struct nvme *n)
{
	if (critical(n) & n->feat.async)
		nvme_event(n, NVME_EV_SMART, 1, NVME_LOG_SMART);
}

/* ---- log pages ---- */

void nvme_log_error(struct nvme *n, unsigned sqid, const struct nvme_cmd *c, int status)
{
	memmove(&n->error[1], &n->error[0], (NVME_ERRORS - 1) * sizeof(n->error[0]));
	n->error[0] = (struct nvme_error){
		.count = ++n->n_errors, .nsid = c->nsid, .sqid = (uint16_t)sqid, .cid = c->cid, .status = (uint16_t)(status << 1),
		.lba = sqid ? c->cdw10 | (uint64_t)c->cdw11 << 32 : 0,
	};
}

static size_t error_log(const struct nvme *n, uint8_t *p)
{
	for (unsigned i = 0; i < NVME_ERRORS; i++, p += 64) {
		const struct nvme_error *e = &n->error[i];

		st_le64(p, e->count);
		st_le16(p + 8, e->sqid);
		st_le16(p + 10, e->cid);
		st_le16(p + 12, e->status);
		st_le16(p + 14, 0xffff);		/* where in the command: not said */
		st_le64(p + 16, e->lba);
		st_le32(p + 24, e->nsid);
	}
	return (size_t)NVME_ERRORS * 64;
}

static size_t smart_log(const struct nvme *n, uint8_t *p)
{
	uint64_t rd = 0, wr = 0, reads = 0, writes = 0;

	for (unsigned i = 0; i < n->n_ns; i++) {
		const struct disk_op_stats *op = n->ns[i]->disk.stats.op;

		rd += op[DISK_READS].bytes;
		wr += op[DISK_WRITES].bytes;
		reads += op[DISK_READS].count;
		writes += op[DISK_WRITES].count;
	}
	p[0] = critical(n);
	st_le16(p + 1, TEMPERATURE);
	p[3] = 100;					/* spare, and its threshold */
	p[4] = 10;
	st_le64(p + 32, (rd + 511999) / 512000);	/* thousands of 512 bytes */
	st_le64(p + 48, (wr + 511999) / 512000);
	st_le64(p + 64, reads);
	st_le64(p + 80, writes);
	st_le64(p + 112, 1);				/* power cycles */
	st_le64(p + 160, n->media_errors);
	st_le64(p + 176, n->n_errors);
	return 512;
}

static size_t slot_log(uint8_t *p)
{
	p[0] = 1;
	memset(p + 8, ' ', 8);
	memcpy(p + 8, LODGE_VERSION, MIN(strlen(LODGE_VERSION), 8u));
	return 512;
}

static size_t ns_log(const struct nvme *n, uint8_t *p)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n->n_ns; i++)
		if (n->ns[i]->changed)
			st_le32(p + 4 * k++, i + 1);
	return 4096;
}

/* 5.14: the page has been read; events of its type are told again. */
static void was_read(struct nvme *n, unsigned type)
{
	for (unsigned i = 0; type == NVME_EV_NOTICE && i < n->n_ns; i++)
		n->ns[i]->changed = false;
	n->ev_masked &= (uint8_t)~BIT(type);
	nvme_events_run(n);
}

/* 5.14.1.5: supported; those that change data say so. */
static size_t effects_log(uint8_t *p)
{
	static const uint8_t admin[] = { 0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x7c };
	static const uint8_t io[] = { 0x00, 0x01, 0x02, 0x05, 0x08, 0x09 };

	for (unsigned i = 0; i < sizeof(admin); i++)
		st_le32(p + 4 * admin[i], 1);
	for (unsigned i = 0; i < sizeof(io); i++)
		st_le32(p + 1024 + 4 * io[i], io[i] == 1 || io[i] > 7 ? 3 : 1);
	return 4096;
}

int nvme_get_log(struct nvme *n, const struct nvme_cmd *c)
{
	uint64_t off = c->cdw12 | (uint64_t)c->cdw13 << 32, len = ((c->cdw10 >> 16) + ((uint64_t)(c->cdw11 & 0xffff) << 16) + 1) * 4;
	bool retain = c->cdw10 & BIT(15);
	uint8_t p[LOG_MAX] = { 0 };
	size_t size;
	int status, type = -1;

	switch (c->cdw10 & 0xff) {
	case NVME_LOG_ERROR: size = error_log(n, p); type = NVME_EV_ERROR; break;
	case NVME_LOG_SMART: size = smart_log(n, p); type = NVME_EV_SMART; break;
	case NVME_LOG_SLOT: size = slot_log(p); break;
	case NVME_LOG_NS: size = ns_log(n, p); type = NVME_EV_NOTICE; break;
	case NVME_LOG_EFFECTS: size = effects_log(p); break;
	default: return NVME_LOG_INVALID;
	}
	if (off & 3 || off >= size || len > NVME_MAX_DATA)
		return NVME_INVALID_FIELD;
	/* What is asked for beyond the page's end is left as it is. */
	status = nvme_to_guest(n, c, p + off, MIN(len, size - off));
	if (!status && type >= 0 && !retain)
		was_read(n, (unsigned)type);
	return status;
}
