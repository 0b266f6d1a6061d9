/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ATA commands of a disk (ACS-3) on an AHCI port, and packets of a CD drive on
 * their way to the SCSI target.
 *
 * What is not listed is aborted, as the standard wants it.
 */
#include "device/ahci_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

#define TRIM_BLOCKS 8u			/* word 105 of IDENTIFY */
#define MULTIPLE_MAX 16

enum {
	A_NOP = 0x00, A_DSM = 0x06, A_DEVICE_RESET = 0x08, A_READ = 0x20, A_READ_EXT = 0x24, A_READ_DMA_EXT = 0x25, A_READ_MULTIPLE_EXT = 0x29,
	A_READ_LOG = 0x2f, A_WRITE = 0x30, A_WRITE_EXT = 0x34, A_WRITE_DMA_EXT = 0x35, A_WRITE_MULTIPLE_EXT = 0x39, A_WRITE_FUA = 0x3d,
	A_VERIFY = 0x40, A_VERIFY_EXT = 0x42, A_READ_LOG_DMA = 0x47, A_READ_NCQ = 0x60, A_WRITE_NCQ = 0x61, A_DIAGNOSE = 0x90, A_PARAMETERS = 0x91,
	A_IDENTIFY_PACKET = 0xa1, A_SMART = 0xb0, A_READ_MULTIPLE = 0xc4, A_WRITE_MULTIPLE = 0xc5, A_SET_MULTIPLE = 0xc6, A_READ_DMA = 0xc8,
	A_WRITE_DMA = 0xca, A_STANDBY_NOW = 0xe0, A_IDLE_NOW = 0xe1, A_STANDBY = 0xe2, A_IDLE = 0xe3, A_CHECK_POWER = 0xe5, A_SLEEP = 0xe6,
	A_FLUSH = 0xe7, A_FLUSH_EXT = 0xea, A_IDENTIFY = 0xec, A_SET_FEATURES = 0xef,
};

static void ok(struct ahci_req *r)
{
	ahci_done(r, ST_DRDY, 0);
}

static void refuse(struct ahci_req *r)
{
	r->p->lun.disk.stats.invalid++;
	ahci_done(r, ST_DRDY | ST_ERR, ER_ABRT);
}

/* ---- data ---- */

static void reply(struct ahci_req *r, const void *buf, size_t len)
{
	uint64_t n;

	if (r->unmapped) {
		ahci_bad_data(r);
		return;
	}
	n = iov_from_buf(r->iov, r->niov, 0, buf, MIN(len, r->len));
	r->prdbc = (uint32_t)n;
	for (unsigned i = 0; i < r->niov && n; i++) {
		size_t k = MIN(n, r->iov[i].iov_len);

		mem_written_host(r->p->a->m->mem, r->iov[i].iov_base, k);
		n -= k;
	}
	ok(r);
}

static void answered(struct disk_req *q, int ret)
{
	struct ahci_req *r = ahci_req_of(q);
	bool in = q->r.op == BLK_READ;

	if (ret) {
		ahci_done(r, ST_DRDY | ST_ERR, in ? ER_UNC : ER_ABRT);
		return;
	}
	for (unsigned i = 0; in && i < r->niov; i++)
		mem_written_host(r->p->a->m->mem, r->iov[i].iov_base, r->iov[i].iov_len);
	r->prdbc = in || q->r.op == BLK_WRITE ? (uint32_t)q->r.len : 0;
	ok(r);
}

static void go(struct ahci_req *r, enum blk_op op)
{
	r->s.q.d = &r->p->lun.disk;
	r->s.q.answer = answered;
	r->s.q.r.op = op;
	if (op != BLK_READ && op != BLK_FLUSH && r->p->no_cache)
		r->s.q.r.fua = true;
	disk_start(&r->s.q);
}

/* The list may be longer than the transfer; what is beyond is not touched. */
static void trim_pieces(struct ahci_req *r, uint64_t len)
{
	unsigned k = 0;

	for (; len; k++) {
		r->iov[k].iov_len = MIN(r->iov[k].iov_len, len);
		len -= r->iov[k].iov_len;
	}
	r->niov = k;
}

static void transfer(struct ahci_req *r, bool write, uint64_t lba, uint64_t n, bool fua)
{
	const struct disk *d = &r->p->lun.disk;
	uint64_t len = n * d->o.block_size;

	if (!range_inside(lba, n, scsi_blocks(&r->p->lun))) {
		r->p->lun.disk.stats.invalid++;
		ahci_done(r, ST_DRDY | ST_ERR, ER_IDNF | ER_ABRT);
		return;
	}
	if (r->unmapped) {
		ahci_bad_data(r);
		return;
	}
	if (len > r->len || (write && d->node->i.read_only)) {
		refuse(r);
		return;
	}
	trim_pieces(r, len);
	r->s.q.r.offset = lba * d->o.block_size;
	r->s.q.r.len = len;
	r->s.q.r.iov = r->iov;
	r->s.q.r.niov = r->niov;
	r->s.q.r.fua = fua && write;		/* of a read: nothing is held back */
	go(r, write ? BLK_WRITE : BLK_READ);
}

static uint64_t lba28(const uint8_t *f)
{
	return f[4] | f[5] << 8 | (uint32_t)f[6] << 16 | (uint32_t)(f[7] & 15) << 24;
}

static uint64_t lba48(const uint8_t *f)
{
	return f[4] | f[5] << 8 | (uint32_t)f[6] << 16 | (uint64_t)f[8] << 24 | (uint64_t)f[9] << 32 | (uint64_t)f[10] << 40;
}

static uint64_t count28(const uint8_t *f) { return f[12] ? f[12] : 256; }
static uint64_t count48(const uint8_t *f) { return f[12] | f[13] ? f[12] | (uint64_t)f[13] << 8 : 65536; }

static void rw28(struct ahci_req *r, bool write, bool pio)
{
	r->pio = pio && !write;
	transfer(r, write, lba28(r->fis), count28(r->fis), false);
}

static void rw48(struct ahci_req *r, bool write, bool pio, bool fua)
{
	r->pio = pio && !write;
	transfer(r, write, lba48(r->fis), count48(r->fis), fua);
}

/* SATA 3.0, 13.6: accepted at once, answered by a Set Device Bits FIS. */
static void queued(struct ahci_req *r, bool write)
{
	const uint8_t *f = r->fis;
	uint64_t n = f[3] | (uint64_t)f[11] << 8;

	if (f[12] >> 3 != r->slot || !(r->p->sact & BIT(r->slot))) {
		refuse(r);
		return;
	}
	r->ncq = true;
	r->p->ci &= ~BIT(r->slot);
	transfer(r, write, lba48(f), n ? n : 65536, f[7] & 0x80);
}

static void verify(struct ahci_req *r, uint64_t lba, uint64_t n)
{
	if (range_inside(lba, n, scsi_blocks(&r->p->lun)))
		ok(r);
	else
		ahci_done(r, ST_DRDY | ST_ERR, ER_IDNF);
}

/* ACS-3, 7.7 */
static void dsm(struct ahci_req *r)
{
	struct disk *d = &r->p->lun.disk;
	uint64_t blocks = count48(r->fis), len = blocks * 512;
	uint8_t *buf;
	unsigned k = 0;

	if (r->unmapped) {
		ahci_bad_data(r);
		return;
	}
	if (!(r->fis[3] & 1) || !disk_can_discard(d) || blocks > TRIM_BLOCKS || len > r->len) {
		refuse(r);
		return;
	}
	buf = malloc(len);
	r->s.range = calloc(len / 8, sizeof(*r->s.range));
	if (!buf || !r->s.range) {
		free(buf);
		refuse(r);
		return;
	}
	iov_to_buf(r->iov, r->niov, 0, buf, len);
	for (uint64_t i = 0; i < len / 8; i++) {
		uint64_t e = ld_le64(buf + 8 * i), lba = e & (BIT64(48) - 1), n = e >> 48;

		if (!n)
			continue;
		if (!range_inside(lba, n, scsi_blocks(&r->p->lun))) {
			free(buf);
			ahci_done(r, ST_DRDY | ST_ERR, ER_IDNF | ER_ABRT);
			return;
		}
		r->s.range[k++] = (struct disk_range){ .offset = lba * d->o.block_size, .len = n * d->o.block_size };
	}
	free(buf);
	if (!k) {
		ok(r);
		return;
	}
	r->s.q.range = r->s.range;
	r->s.q.n_ranges = k;
	go(r, BLK_DISCARD);
}

/* ---- what it says about itself ---- */

/* Two characters in a word, the first in its high byte. */
static void words(uint16_t *w, unsigned n, const char *s)
{
	size_t len = strlen(s);

	for (unsigned i = 0; i < n; i++)
		w[i] = (uint16_t)((2 * i < len ? (uint8_t)s[2 * i] : ' ') << 8 | (2 * i + 1 < len ? (uint8_t)s[2 * i + 1] : ' '));
}

static void checksum(uint8_t *p)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 511; i++)
		sum = (uint8_t)(sum + p[i]);
	p[511] = (uint8_t)-sum;
}

static void identify_common(const struct ahci_port *p, uint16_t *w)
{
	const struct disk *d = &p->lun.disk;

	words(w + 10, 10, d->o.serial[0] ? d->o.serial : d->id);
	words(w + 23, 4, LODGE_VERSION);
	w[49] = 0x0f00;
	w[50] = 0x4000;
	w[53] = 7;
	w[63] = 7;
	w[64] = 3;
	w[65] = w[66] = w[67] = w[68] = 120;
	w[80] = 0x03f0;
	w[83] = w[84] = w[87] = 0x4000;
	w[88] = 0x203f;
	w[76] = 0x0002;
}

static void identify_packet(struct ahci_req *r)
{
	uint16_t w[256] = { 0 };

	identify_common(r->p, w);
	w[0] = 0x8580;				/* ATAPI, CD, removable, 12 bytes */
	words(w + 27, 20, "LODGE DVD-ROM");
	w[82] = w[85] = 0x4210;
	r->pio = true;
	reply(r, w, sizeof(w));
}

static void identify_size(const struct ahci_port *p, uint16_t *w)
{
	const struct disk *d = &p->lun.disk;
	uint64_t n = scsi_blocks(&p->lun), n28 = MIN(n, BIT64(28) - 1);
	unsigned more = (unsigned)(__builtin_ctz(disk_physical_block(d)) - __builtin_ctz(d->o.block_size));

	w[1] = (uint16_t)MIN(n / (16 * 63), 16383u);
	w[3] = 16;
	w[6] = 63;
	w[60] = (uint16_t)n28;
	w[61] = (uint16_t)(n28 >> 16);
	for (unsigned i = 0; i < 4; i++)
		w[100 + i] = (uint16_t)(n >> 16 * i);
	w[106] = (uint16_t)(0x4000 | (more ? 0x2000 | MIN(more, 15u) : 0) | (d->o.block_size > 512 ? 0x1000 : 0));
	if (d->o.block_size > 512)
		w[117] = (uint16_t)(d->o.block_size / 2);
}

static void identify(struct ahci_req *r)
{
	const struct ahci_port *p = r->p;
	uint16_t w[256] = { 0 };

	identify_common(p, w);
	identify_size(p, w);
	w[0] = 0x0040;
	words(w + 27, 20, "LODGE HARDDISK");
	w[47] = 0x8000 | MULTIPLE_MAX;
	w[59] = p->multiple ? 0x100 | p->multiple : 0;
	w[75] = AHCI_SLOTS - 1;
	w[76] |= 0x100;				/* NCQ */
	w[82] = 0x4021;				/* NOP, write cache, SMART */
	w[83] |= 0x3400;			/* both flushes, 48 bits */
	w[84] |= 0x0060;			/* FUA, logs */
	w[85] = (uint16_t)(0x4000 | (p->no_cache ? 0 : 0x20) | (p->smart_off ? 0 : 1));
	w[86] = 0x3400;
	w[87] |= 0x0060;
	if (disk_can_discard(&p->lun.disk)) {
		w[105] = TRIM_BLOCKS;
		w[169] = 1;
	}
	w[217] = 1;				/* does not rotate */
	w[222] = 0x1020;
	w[255] = 0xa5;
	checksum((uint8_t *)w);
	r->pio = true;
	reply(r, w, sizeof(w));
}

/* ---- logs, SMART, features ---- */

static void read_log(struct ahci_req *r)
{
	uint8_t p[512] = { 0 }, log = r->fis[4];

	if (r->fis[5] || r->fis[9] || count48(r->fis) != 1 || (log != 0 && log != 0x10)) {
		refuse(r);
		return;
	}
	if (log == 0) {
		st_le16(p, 1);
		st_le16(p + 0x20, 1);
	} else {
		memcpy(p, r->p->ncq_err, sizeof(r->p->ncq_err));
		if (!r->p->ncq_err[3])
			p[0] = 0x80;		/* no queued command failed */
		checksum(p);
	}
	r->pio = r->fis[2] == A_READ_LOG;
	reply(r, p, sizeof(p));
}

/* ACS-3, 7.50: a drive in good health without attributes. */
static void smart(struct ahci_req *r)
{
	struct ahci_port *port = r->p;
	uint8_t p[512] = { 0 };
	uint8_t what = r->fis[3];

	if (r->fis[5] != 0x4f || r->fis[6] != 0xc2 || (port->smart_off && what != 0xd8)) {
		refuse(r);
		return;
	}
	switch (what) {
	case 0xd0: case 0xd1:
		p[0] = 1;
		if (what == 0xd0)
			st_le16(p + 368, 3);	/* saves by itself */
		checksum(p);
		r->pio = true;
		reply(r, p, sizeof(p));
		break;
	case 0xd5:
		if (r->fis[4] > 1) {
			refuse(r);
			break;
		}
		p[0] = 1;
		checksum(p);
		r->pio = true;
		reply(r, p, sizeof(p));
		break;
	case 0xd8: case 0xd9:
		port->smart_off = what == 0xd9;
		ok(r);
		break;
	case 0xd2: case 0xd4: case 0xda: ok(r); break;	/* DAh: 4Fh and C2h stay: not failing */
	default: refuse(r);
	}
}

static void set_features(struct ahci_req *r)
{
	switch (r->fis[3]) {
	case 0x02: case 0x82:
		r->p->no_cache = r->fis[3] == 0x82;
		ok(r);
		break;
	case 0x03: case 0x55: case 0xaa: case 0x66: case 0xcc: ok(r); break;
	default: refuse(r);
	}
}

static void set_multiple(struct ahci_req *r)
{
	if (r->fis[12] > MULTIPLE_MAX || (r->fis[12] && !is_pow2(r->fis[12]))) {
		refuse(r);
		return;
	}
	r->p->multiple = r->fis[12];
	ok(r);
}

/* ---- dispatch ---- */

/* ACS-3, 9.1: a drive that takes packets answers with its signature. */
static void refuse_packet_device(struct ahci_req *r)
{
	r->fis[12] = 1;
	r->fis[4] = 1;
	r->fis[5] = 0x14;
	r->fis[6] = 0xeb;
	refuse(r);
}

static void cd(struct ahci_req *r)
{
	switch (r->fis[2]) {
	case A_IDENTIFY_PACKET: identify_packet(r); break;
	case A_SET_FEATURES: set_features(r); break;
	case A_DEVICE_RESET: case A_IDLE_NOW: case A_STANDBY_NOW: ok(r); break;
	case A_IDENTIFY: refuse_packet_device(r); break;
	default: refuse(r);
	}
}

static void others(struct ahci_req *r)
{
	switch (r->fis[2]) {
	case A_FLUSH: case A_FLUSH_EXT: go(r, BLK_FLUSH); break;
	case A_VERIFY: verify(r, lba28(r->fis), count28(r->fis)); break;
	case A_VERIFY_EXT: verify(r, lba48(r->fis), count48(r->fis)); break;
	case A_DSM: dsm(r); break;
	case A_READ_LOG: case A_READ_LOG_DMA: read_log(r); break;
	case A_SMART: smart(r); break;
	case A_SET_FEATURES: set_features(r); break;
	case A_SET_MULTIPLE: set_multiple(r); break;
	case A_IDENTIFY: identify(r); break;
	case A_CHECK_POWER:
		r->fis[12] = 0xff;
		ok(r);
		break;
	case A_DIAGNOSE: case A_PARAMETERS: case A_STANDBY_NOW: case A_IDLE_NOW: case A_STANDBY: case A_IDLE: case A_SLEEP: ok(r); break;
	default: refuse(r);
	}
}

void ahci_ata(struct ahci_req *r)
{
	if (r->p->kind == AHCI_CD) {
		cd(r);
		return;
	}
	switch (r->fis[2]) {
	case A_READ: rw28(r, false, true); break;
	case A_WRITE: rw28(r, true, true); break;
	case A_READ_DMA: rw28(r, false, false); break;
	case A_WRITE_DMA: rw28(r, true, false); break;
	case A_READ_EXT: rw48(r, false, true, false); break;
	case A_WRITE_EXT: rw48(r, true, true, false); break;
	case A_READ_DMA_EXT: rw48(r, false, false, false); break;
	case A_WRITE_DMA_EXT: rw48(r, true, false, false); break;
	case A_WRITE_FUA: rw48(r, true, false, true); break;
	case A_READ_MULTIPLE: r->p->multiple ? rw28(r, false, true) : refuse(r); break;
	case A_WRITE_MULTIPLE: r->p->multiple ? rw28(r, true, true) : refuse(r); break;
	case A_READ_MULTIPLE_EXT: r->p->multiple ? rw48(r, false, true, false) : refuse(r); break;
	case A_WRITE_MULTIPLE_EXT: r->p->multiple ? rw48(r, true, true, false) : refuse(r); break;
	case A_READ_NCQ: queued(r, false); break;
	case A_WRITE_NCQ: queued(r, true); break;
	default: others(r);
	}
}

static void packet_done(struct scsi_req *s)
{
	struct ahci_req *r = container_of(s, struct ahci_req, s);

	r->prdbc = (uint32_t)s->moved;
	r->fis[12] = 3;				/* interrupt reason: all done */
	if (s->status == SCSI_GOOD)
		ok(r);
	else
		ahci_done(r, ST_DRDY | ST_ERR, (uint8_t)((s->sense[2] & 15) << 4 | ER_ABRT));
}

/* SPC-4, SBC-3: commands by which nothing moves. */
static bool moves_data(uint8_t op)
{
	switch (op) {
	case 0x00: case 0x1b: case 0x1e: case 0x2b: case 0x2f: case 0x35: case 0x91: return false;
	default: return true;
	}
}

void ahci_packet(struct ahci_req *r, const uint8_t *cdb)
{
	struct scsi_req *s = &r->s;

	if (r->unmapped && moves_data(cdb[0])) {
		ahci_bad_data(r);
		return;
	}
	s->l = &r->p->lun;
	memcpy(s->cdb, cdb, 12);
	s->in = s->out = r->iov;
	s->n_in = s->n_out = r->niov;
	s->len_in = s->len_out = r->len;
	s->done = packet_done;
	scsi_submit(s);
}
