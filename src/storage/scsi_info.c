/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a SCSI unit says about itself (SPC-4, SBC-3): INQUIRY and its pages,
 * capacity, mode pages, sense.
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "storage/scsi.h"

#define MAX_LUNS 256u

static void text(uint8_t *to, unsigned len, const char *s)
{
	memset(to, ' ', len);
	memcpy(to, s, MIN(strlen(s), len));
}

/* ---- INQUIRY ---- */

static const char *serial(const struct scsi_lun *l)
{
	return l->disk.o.serial[0] ? l->disk.o.serial : l->disk.id;
}

static unsigned limits(const struct scsi_lun *l, uint8_t *p)
{
	uint32_t block = l->disk.o.block_size;
	bool discard = disk_can_discard(&l->disk);

	p[4] = 1;						/* WSNZ: a length of zero is not "all" */
	scsi_st16(p + 6, l->disk.o.min_io / block ? l->disk.o.min_io / block : disk_physical_block(&l->disk) / block);
	scsi_st32(p + 12, (l->disk.o.opt_io ? l->disk.o.opt_io : l->disk.node->i.opt_io) / block);
	scsi_st32(p + 20, discard ? (1u << 30) / block : 0);		/* UNMAP: blocks, descriptors */
	scsi_st32(p + 24, discard ? 64 : 0);
	scsi_st32(p + 28, disk_discard_unit(&l->disk) / block);
	scsi_st64(p + 36, l->disk.node->i.can_zero ? (1u << 30) / block : 0);	/* WRITE SAME */
	return 64;
}

/* Bytes after p, whose first four are the page's head. 0: no such page. */
static unsigned vpd(const struct scsi_lun *l, uint8_t page, uint8_t *p)
{
	bool discard = disk_can_discard(&l->disk);

	switch (page) {
	case 0x00:
		memcpy(p + 4, (const uint8_t[]){ 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2 }, 6);
		return l->cd ? 7 : 10;
	case 0x80:
		text(p + 4, 20, serial(l));
		return 24;
	case 0x83:						/* T10 vendor id: ASCII */
		p[4] = 2;
		p[5] = 1;
		p[7] = 8 + 32;
		text(p + 8, 8, "LODGE");
		text(p + 16, 32, serial(l));
		return 48;
	case 0xb0: return l->cd ? 0 : limits(l, p);
	case 0xb1:
		scsi_st16(p + 4, 1);					/* does not rotate */
		return l->cd ? 0 : 64;
	case 0xb2:
		p[5] = discard ? 0x80 | (l->disk.node->i.can_zero ? 0x60 : 0) : 0;	/* UNMAP, WRITE SAME */
		p[6] = discard ? 2 : 0;				/* thin */
		return l->cd ? 0 : 8;
	default: return 0;
	}
}

static void inquiry(struct scsi_req *r)
{
	const struct scsi_lun *l = r->l;
	uint8_t p[96] = { 0 };
	unsigned len = 36;

	p[0] = l->cd ? 5 : 0;
	if (r->cdb[1] & 1) {
		p[1] = r->cdb[2];
		len = vpd(l, r->cdb[2], p);
		if (len)
			scsi_st16(p + 2, len - 4);
	} else if (r->cdb[2]) {
		len = 0;
	} else {
		p[1] = l->cd ? 0x80 : 0;
		p[2] = 6;					/* SPC-4 */
		p[3] = 2;
		p[4] = 36 - 5;
		p[7] = 2;					/* CMDQUE */
		text(p + 8, 8, "LODGE");
		text(p + 16, 16, l->cd ? "DVD-ROM" : "DISK");
		text(p + 32, 4, LODGE_VERSION);
	}
	if (len)
		scsi_reply(r, p, len, scsi_ld16(r->cdb + 3));
	else
		scsi_end(r, SCSI_BAD_FIELD);
}

/* ---- capacity ---- */

static void capacity10(struct scsi_req *r)
{
	uint64_t last = scsi_blocks(r->l);
	uint8_t p[8];

	last -= last > 0;
	scsi_st32(p, MIN(last, (uint64_t)UINT32_MAX));
	scsi_st32(p + 4, r->l->disk.o.block_size);
	scsi_reply(r, p, 8, 8);
}

static void capacity16(struct scsi_req *r)
{
	const struct scsi_lun *l = r->l;
	uint64_t last = scsi_blocks(l);
	uint8_t p[32] = { 0 };

	if ((r->cdb[1] & 0x1f) != 0x10) {
		scsi_end(r, SCSI_BAD_FIELD);
		return;
	}
	scsi_st64(p, last - (last > 0));
	scsi_st32(p + 8, l->disk.o.block_size);
	p[13] = (uint8_t)(__builtin_ctz(disk_physical_block(&l->disk)) - __builtin_ctz(l->disk.o.block_size));
	p[14] = disk_can_discard(&l->disk) ? 0x80 : 0;		/* LBPME */
	scsi_reply(r, p, 32, scsi_ld32(r->cdb + 10));
}

/* ---- mode pages ---- */

static unsigned mode_page(const struct scsi_lun *l, uint8_t page, uint8_t *p)
{
	switch (page) {
	case 0x01:						/* error recovery */
		p[0] = 1;
		p[1] = 10;
		return 12;
	case 0x08:						/* caching: WCE */
		p[0] = 8;
		p[1] = 18;
		p[2] = l->cd ? 0 : 4;
		return 20;
	case 0x2a:						/* MMC: capabilities */
		if (!l->cd)
			return 0;
		p[0] = 0x2a;
		p[1] = 20;
		p[2] = 0x3b;
		p[4] = 0x71;
		p[6] = 0x29 | (l->locked ? 2 : 0);		/* tray, eject, lock */
		scsi_st16(p + 8, 50 * 176);
		scsi_st16(p + 10, 2);
		scsi_st16(p + 12, 2048);
		scsi_st16(p + 14, 16 * 176);
		return 22;
	default: return 0;
	}
}

static void mode_sense(struct scsi_req *r)
{
	static const uint8_t all[] = { 0x01, 0x08, 0x2a };
	bool ten = r->cdb[0] == 0x5a;
	uint8_t p[128] = { 0 }, page = r->cdb[2] & 0x3f, changeable = (r->cdb[2] >> 6) == 1;
	unsigned head = ten ? 8 : 4, len = head;

	for (unsigned i = 0; i < sizeof(all); i++) {
		unsigned n = page == 0x3f || page == all[i] ? mode_page(r->l, all[i], p + len) : 0;

		if (n && changeable)				/* nothing can be changed */
			memset(p + len + 2, 0, n - 2);
		len += n;
	}
	if (len == head && page != 0x3f) {
		scsi_end(r, SCSI_BAD_FIELD);
		return;
	}
	if ((r->cdb[2] >> 6) == 3) {
		scsi_end(r, SCSI_SENSE(SENSE_ILLEGAL, 0x39, 0));
		return;
	}
	/* DPOFUA, and write protection; no block descriptor. */
	p[ten ? 3 : 2] = r->l->cd ? 0 : 0x10 | (r->l->disk.node->i.read_only ? 0x80 : 0);
	if (ten)
		scsi_st16(p, len - 2);
	else
		p[0] = (uint8_t)(len - 1);
	scsi_reply(r, p, len, ten ? scsi_ld16(r->cdb + 7) : r->cdb[4]);
}

/* ---- others ---- */

static void request_sense(struct scsi_req *r)
{
	uint8_t p[SCSI_SENSE_LEN] = { 0x70 };
	uint32_t s = r->l->sense;

	if (r->l->attention) {
		s = SCSI_SENSE(SENSE_ATTENTION, r->l->attention >> 8, r->l->attention & 0xff);
		r->l->attention = 0;
	}
	p[2] = (uint8_t)(s >> 16);
	p[7] = SCSI_SENSE_LEN - 8;
	p[12] = (uint8_t)(s >> 8);
	p[13] = (uint8_t)s;
	scsi_reply(r, p, sizeof(p), r->cdb[4]);
}

static void start_stop(struct scsi_req *r)
{
	struct scsi_lun *l = r->l;
	bool start = r->cdb[4] & 1, load = r->cdb[4] & 2;

	if (!l->cd || !load || r->cdb[4] & 0xf0) {
		scsi_end(r, 0);
		return;
	}
	if (!start && l->locked) {
		scsi_end(r, SCSI_SENSE(SENSE_ILLEGAL, 0x53, 2));
		return;
	}
	scsi_move_tray(l, !start);
	scsi_end(r, 0);
}

/* SPC-4, 6.33; numbers as front ends take them (SAM-5, 4.7.7). */
void scsi_report_luns(struct scsi_req *r, const uint16_t *lun, unsigned n)
{
	uint8_t p[8 + 8 * MAX_LUNS] = { 0 };

	n = MIN(n, MAX_LUNS);
	scsi_st32(p, 8 * n);
	for (unsigned i = 0; i < n; i++)
		scsi_st16(p + 8 + 8 * i, lun[i] < 256 ? lun[i] : 0x4000u | lun[i]);
	scsi_reply(r, p, 8 + 8 * n, scsi_ld32(r->cdb + 6));
}

/* SPC-4, 6.4 and 6.37: INQUIRY says that there is no unit, REQUEST SENSE why. */
void scsi_no_lun(struct scsi_req *r, unsigned lun)
{
	uint8_t p[36] = { lun ? 0x7f : 0x3f, 0, 6, 2, sizeof(p) - 5 };
	const uint8_t sense[SCSI_SENSE_LEN] = { 0x70, 0, SENSE_ILLEGAL, [7] = SCSI_SENSE_LEN - 8, [12] = 0x25 };

	if (r->cdb[0] == 0x12 && !(r->cdb[1] & 1) && !r->cdb[2])
		scsi_reply(r, p, sizeof(p), scsi_ld16(r->cdb + 3));
	else if (r->cdb[0] == 0x03)
		scsi_reply(r, sense, sizeof(sense), r->cdb[4]);
	else
		scsi_end(r, SCSI_SENSE(SENSE_ILLEGAL, 0x25, 0));
}

bool scsi_info(struct scsi_req *r)
{
	switch (r->cdb[0]) {
	case 0x00: scsi_end(r, 0); break;
	case 0x03: request_sense(r); break;
	case 0x12: inquiry(r); break;
	case 0x1a: case 0x5a: mode_sense(r); break;
	case 0x1b: start_stop(r); break;
	case 0x1e:
		r->l->locked = r->l->cd && r->cdb[4] & 1;
		scsi_end(r, 0);
		break;
	case 0x25: capacity10(r); break;
	case 0x9e: capacity16(r); break;
	case 0xa0: scsi_report_luns(r, &(const uint16_t){ 0 }, 1); break;
	default: return false;
	}
	return true;
}
