/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CD and DVD drives (MMC-6): what is on the disc, what the drive can do, and
 * events of its tray.  There is one data track; a disc of more than what fits a CD
 * is shown as a DVD.
 */
#include <string.h>

#include "base/bits.h"
#include "storage/scsi.h"

#define CD_MAX_BLOCKS (80u * 60 * 75)
#define PROFILE_CD 0x0008
#define PROFILE_DVD 0x0010

static void address(uint8_t *p, bool msf, uint64_t lba)
{
	if (!msf) {
		scsi_st32(p, lba);
		return;
	}
	lba += 150;
	p[0] = 0;
	p[1] = (uint8_t)(lba / (75 * 60));
	p[2] = (uint8_t)(lba / 75 % 60);
	p[3] = (uint8_t)(lba % 75);
}

/* 6.25 */
static void read_toc(struct scsi_req *r)
{
	bool msf = r->cdb[1] & 2;
	uint8_t p[48] = { 0 }, format = r->cdb[2] & 15, start = r->cdb[6];
	unsigned len = 4;

	if (!format)
		format = r->cdb[9] >> 6;
	p[2] = p[3] = 1;
	if (format == 0) {
		if (start > 1 && start != 0xaa) {
			scsi_end(r, SCSI_BAD_FIELD);
			return;
		}
		if (start <= 1) {
			p[len + 1] = 0x14;		/* data */
			p[len + 2] = 1;
			address(p + len + 4, msf, 0);
			len += 8;
		}
		p[len + 1] = 0x16;
		p[len + 2] = 0xaa;
		address(p + len + 4, msf, scsi_blocks(r->l));
		len += 8;
	} else if (format == 1) {			/* sessions: the first begins at 0 */
		p[5] = 0x14;
		p[6] = 1;
		address(p + 8, msf, 0);
		len = 12;
	} else {
		scsi_end(r, SCSI_BAD_FIELD);
		return;
	}
	scsi_st16(p, len - 2);
	scsi_reply(r, p, len, scsi_ld16(r->cdb + 7));
}

static unsigned feature(uint8_t *p, uint16_t code, bool current, const uint8_t *data, unsigned len)
{
	scsi_st16(p, code);
	p[2] = 2 | (current ? 1 : 0);			/* persistent */
	p[3] = (uint8_t)len;
	memcpy(p + 4, data, len);
	return 4 + len;
}

/* 6.6: profiles, core, removable medium, random reads, CD and DVD reading. */
static void get_configuration(struct scsi_req *r)
{
	uint64_t blocks = scsi_ready(r->l) ? scsi_blocks(r->l) : 0;
	bool cd = blocks && blocks <= CD_MAX_BLOCKS, dvd = blocks > CD_MAX_BLOCKS;
	uint16_t first = scsi_ld16(r->cdb + 2);
	uint8_t p[96] = { 0 };
	struct { uint16_t code; bool current; uint8_t len, data[8]; } f[] = {
		{ 0x0000, true, 8, { PROFILE_DVD >> 8, PROFILE_DVD, dvd, 0, PROFILE_CD >> 8, PROFILE_CD, cd, 0 } },
		{ 0x0001, true, 8, { 0, 0, 0, 2, 1, 0, 0, 0 } },	/* physical interface: ATAPI */
		{ 0x0003, true, 4, { 0x29, 0, 0, 0 } },		/* tray, eject, lock */
		{ 0x0010, cd || dvd, 8, { 0, 0, 8, 0, 0, 0x10, 1, 0 } },
		{ 0x001e, cd, 4, { 0, 0, 0, 0 } },
		{ 0x001f, dvd, 4, { 1, 0, 0, 0 } },
	};
	unsigned len = 8;

	scsi_st16(p + 6, dvd ? PROFILE_DVD : cd ? PROFILE_CD : 0);
	for (unsigned i = 0; i < ARRAY_LEN(f); i++) {
		unsigned kind = r->cdb[1] & 3;

		if (kind == 2 ? f[i].code == first : f[i].code >= first && (kind != 1 || f[i].current))
			len += feature(p + len, f[i].code, f[i].current, f[i].data, f[i].len);
	}
	scsi_st32(p, len - 4);
	scsi_reply(r, p, len, scsi_ld16(r->cdb + 7));
}

/* 6.7: polled, the class of media. */
static void get_event(struct scsi_req *r)
{
	struct scsi_lun *l = r->l;
	uint8_t p[8] = { 0, 2, 0x80, 1 << 4 };

	if (!(r->cdb[1] & 1)) {				/* asynchronous */
		scsi_end(r, SCSI_BAD_FIELD);
		return;
	}
	if (r->cdb[4] & 1 << 4) {
		p[1] = 6;
		p[2] = 4;
		if (l->eject_asked)
			p[4] = 1;
		else if (l->changed)
			p[4] = scsi_ready(l) ? 2 : 3;	/* new media, removal */
		p[5] = l->tray_open ? 1 : l->no_medium ? 0 : 2;	/* tray, medium */
		l->eject_asked = l->changed = false;
	}
	scsi_reply(r, p, p[1] + 2u, scsi_ld16(r->cdb + 7));
}

/* 6.22: one finished session. */
static void disc_info(struct scsi_req *r)
{
	uint8_t p[34] = { 0, 32, 0x0e, 1, 1, 1, 1, 0x20 };

	scsi_reply(r, p, sizeof(p), scsi_ld16(r->cdb + 7));
}

static void mechanism(struct scsi_req *r)
{
	uint8_t p[8] = { 0, r->l->tray_open ? 0x10 : 0, 0, 0, 0, 1 };

	scsi_reply(r, p, sizeof(p), scsi_ld16(r->cdb + 8));
}

bool scsi_cd(struct scsi_req *r)
{
	switch (r->cdb[0]) {
	case 0x43: read_toc(r); break;
	case 0x46: get_configuration(r); break;
	case 0x4a: get_event(r); break;
	case 0x51: disc_info(r); break;
	case 0xbd: mechanism(r); break;
	default: return false;
	}
	return true;
}
