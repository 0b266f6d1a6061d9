/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SCSI target's commands that move or change blocks, and how a command ends.
 *
 * Lengths come from the command block and are checked against the medium and the
 * guest's memory before anything moves; a command with less memory than it asks
 * for is an error, not a partial transfer.
 */
#include "storage/scsi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

#define MAX_UNMAP 64u
#define MAX_SAME (1ull << 30)		/* bytes of one WRITE SAME */

uint64_t scsi_blocks(const struct scsi_lun *l)
{
	return l->disk.node->i.size / l->disk.o.block_size;
}

/* ---- the end ---- */

void scsi_end(struct scsi_req *r, uint32_t sense)
{
	r->status = sense ? SCSI_CHECK : SCSI_GOOD;
	memset(r->sense, 0, sizeof(r->sense));
	if (sense) {
		r->sense[0] = 0x70;
		r->sense[2] = (uint8_t)(sense >> 16);
		r->sense[7] = SCSI_SENSE_LEN - 8;
		r->sense[12] = (uint8_t)(sense >> 8);
		r->sense[13] = (uint8_t)sense;
		r->moved = 0;
	}
	r->l->sense = sense;
	if (sense >> 16 == SENSE_ILLEGAL)
		r->l->disk.stats.invalid++;
	r->done(r);
}

void scsi_reply(struct scsi_req *r, const void *buf, uint64_t len, uint64_t alloc)
{
	uint64_t left;

	r->moved = MIN(MIN(len, alloc), r->len_in);
	left = iov_from_buf(r->in, r->n_in, 0, buf, r->moved);
	r->moved = left;
	for (unsigned i = 0; left && i < r->n_in; i++) {
		size_t n = MIN(left, r->in[i].iov_len);

		mem_written_host(r->l->disk.m->mem, r->in[i].iov_base, n);
		left -= n;
	}
	scsi_end(r, 0);
}

void scsi_req_clean(struct scsi_req *r)
{
	free(r->range);
	free(r->iov);
	r->range = NULL;
	r->iov = NULL;
}

static uint32_t sense_of(const struct scsi_req *r, int ret)
{
	switch (ret) {
	case 0: return 0;
	case -EROFS: return SCSI_SENSE(SENSE_PROTECT, 0x27, 0);
	case -ENOSPC: return SCSI_SENSE(SENSE_PROTECT, 0x27, 7);
	case -ENOMEM: return SCSI_SENSE(SENSE_HARDWARE, 0x44, 0);
	default: return r->q.r.op == BLK_READ ? SCSI_SENSE(SENSE_MEDIUM, 0x11, 0) : SCSI_SENSE(SENSE_MEDIUM, 0x0c, 0);
	}
}

static void answered(struct disk_req *q, int ret)
{
	struct scsi_req *r = scsi_req_of(q);

	if (!ret && q->r.op == BLK_READ)
		for (unsigned i = 0; i < q->r.niov; i++)
			mem_written_host(r->l->disk.m->mem, q->r.iov[i].iov_base, q->r.iov[i].iov_len);
	scsi_end(r, sense_of(r, ret));
}

static void go(struct scsi_req *r, enum blk_op op)
{
	r->q.d = &r->l->disk;
	r->q.answer = answered;
	r->q.r.op = op;
	disk_start(&r->q);
}

/* ---- blocks ---- */

struct extent { uint64_t lba, n; };

static bool extent_of(const uint8_t *c, struct extent *x)
{
	switch (c[0] >> 5) {
	case 0:
		*x = (struct extent){ scsi_ld32(c) & 0x1fffff, c[4] ? c[4] : 256 };
		return true;
	case 1:
	case 2: *x = (struct extent){ scsi_ld32(c + 2), scsi_ld16(c + 7) }; return true;
	case 4: *x = (struct extent){ scsi_ld64(c + 2), scsi_ld32(c + 10) }; return true;
	case 5: *x = (struct extent){ scsi_ld32(c + 2), scsi_ld32(c + 6) }; return true;
	default: return false;
	}
}

static uint32_t check_extent(const struct scsi_lun *l, const struct extent *x)
{
	return range_inside(x->lba, x->n, scsi_blocks(l)) ? 0 : SCSI_SENSE(SENSE_ILLEGAL, 0x21, 0);
}

static void read_write(struct scsi_req *r, bool write)
{
	struct scsi_lun *l = r->l;
	struct extent x;
	uint64_t len;
	uint32_t sense;
	int n;

	extent_of(r->cdb, &x);
	sense = check_extent(l, &x);
	len = x.n * l->disk.o.block_size;
	if (!sense && write && (l->cd || l->disk.node->i.read_only))
		sense = SCSI_SENSE(SENSE_PROTECT, 0x27, 0);
	if (!sense && len > (write ? r->len_out : r->len_in))
		sense = SCSI_BAD_FIELD;
	if (sense || !len) {
		scsi_end(r, sense);
		return;
	}
	n = (int)(write ? r->n_out : r->n_in);
	r->q.r.iov = write ? r->out : r->in;
	if (len < (write ? r->len_out : r->len_in)) {
		r->iov = malloc((size_t)n * sizeof(*r->iov));
		n = r->iov ? iov_slice(r->q.r.iov, (size_t)n, 0, len, r->iov, (size_t)n) : -ENOMEM;
		r->q.r.iov = r->iov;
	}
	if (n < 0) {
		scsi_end(r, SCSI_SENSE(SENSE_HARDWARE, 0x44, 0));
		return;
	}
	r->q.r.niov = (unsigned)n;
	r->q.r.offset = x.lba * l->disk.o.block_size;
	r->q.r.len = r->moved = len;
	r->q.r.fua = write && r->cdb[0] >= 0x20 && r->cdb[1] & 8;
	go(r, write ? BLK_WRITE : BLK_READ);
}

/* SBC-3, 5.28: all descriptors are checked before one is done. */
static void unmap(struct scsi_req *r)
{
	uint8_t buf[8 + 16 * MAX_UNMAP];
	uint64_t len = MIN(MIN((uint64_t)scsi_ld16(r->cdb + 7), r->len_out), sizeof(buf));
	const struct scsi_lun *l = r->l;
	unsigned n, k = 0;

	if (!disk_can_discard(&l->disk)) {
		scsi_end(r, SCSI_BAD_OPCODE);
		return;
	}
	if (len < 8) {
		scsi_end(r, scsi_ld16(r->cdb + 7) ? SCSI_SENSE(SENSE_ILLEGAL, 0x1a, 0) : 0);
		return;
	}
	iov_to_buf(r->out, r->n_out, 0, buf, len);
	n = scsi_ld16(buf + 2) / 16u;
	if (8 + 16ull * n > len) {
		scsi_end(r, SCSI_SENSE(SENSE_ILLEGAL, 0x26, 0));
		return;
	}
	r->range = calloc(n + 1, sizeof(*r->range));
	for (unsigned i = 0; i < n && r->range; i++) {
		struct extent x = { scsi_ld64(buf + 8 + 16 * i), scsi_ld32(buf + 16 + 16 * i) };

		if (check_extent(l, &x)) {
			scsi_end(r, SCSI_SENSE(SENSE_ILLEGAL, 0x21, 0));
			return;
		}
		if (x.n)
			r->range[k++] = (struct disk_range){ .offset = x.lba * l->disk.o.block_size, .len = x.n * l->disk.o.block_size };
	}
	if (!k) {
		scsi_end(r, r->range ? 0 : SCSI_SENSE(SENSE_HARDWARE, 0x44, 0));
		return;
	}
	r->moved = len;
	r->q.range = r->range;
	r->q.n_ranges = k;
	go(r, BLK_DISCARD);
}

/* SBC-3, 5.44: of zeros only, which is what VPD page B0h allows drivers to expect. */
static void write_same(struct scsi_req *r)
{
	struct scsi_lun *l = r->l;
	uint32_t block = l->disk.o.block_size, sense;
	uint8_t buf[4096];
	struct extent x;

	extent_of(r->cdb, &x);
	sense = check_extent(l, &x);
	if (!sense && !x.n)			/* WSNZ, as page B0h says */
		sense = SCSI_BAD_FIELD;
	if (!sense && l->disk.node->i.read_only)
		sense = SCSI_SENSE(SENSE_PROTECT, 0x27, 0);
	if (!sense && (x.n > MAX_SAME / block || r->cdb[1] & 0xe6))
		sense = SCSI_BAD_FIELD;
	if (!sense && !(r->cdb[1] & 1)) {	/* NDOB */
		memset(buf, 1, block);
		iov_to_buf(r->out, r->n_out, 0, buf, block);
		for (uint32_t i = 0; i < block && !sense; i++)
			sense = buf[i] ? SCSI_SENSE(SENSE_ILLEGAL, 0x26, 0) : 0;
	}
	if (sense) {
		scsi_end(r, sense);
		return;
	}
	r->q.r.offset = x.lba * block;
	r->q.r.len = x.n * block;
	r->q.r.unmap = r->cdb[1] & 8 && disk_can_discard(&l->disk);
	go(r, BLK_WRITE_ZEROES);
}

static void verify(struct scsi_req *r)
{
	struct extent x;

	extent_of(r->cdb, &x);
	scsi_end(r, r->cdb[1] & 6 ? SCSI_BAD_FIELD : check_extent(r->l, &x));
}

static bool transfer(struct scsi_req *r)
{
	bool cd = r->l->cd;

	switch (r->cdb[0]) {
	case 0x08: case 0x28: case 0x88: case 0xa8: read_write(r, false); return true;
	case 0x0a: case 0x2a: case 0x8a: case 0xaa: read_write(r, true); return true;
	case 0x2f: case 0x8f: case 0xaf: verify(r); return true;
	case 0x35: case 0x91: go(r, BLK_FLUSH); return true;
	case 0x42:
		if (cd)
			return false;
		unmap(r);
		return true;
	case 0x41: case 0x93:
		if (cd || !r->l->disk.node->i.can_zero)
			return false;
		/* Bit 3 of the second byte is UNMAP, bits 5 to 7 and 1, 2 what is not done. */
		write_same(r);
		return true;
	default: return false;
	}
}

/* ---- any command ---- */

/* SPC-4, 5.14: these are done although an attention is due. */
static bool passes_attention(uint8_t op)
{
	return op == 0x12 || op == 0x03 || op == 0xa0 || op == 0x4a || op == 0x46;
}

static bool needs_medium(uint8_t op)
{
	switch (op) {
	case 0x00: case 0x25: case 0x9e: case 0x43: case 0x51: case 0x28: case 0x08: case 0xa8: case 0x88: case 0x2f: case 0xad: case 0x35: return true;
	default: return false;
	}
}

void scsi_submit(struct scsi_req *r)
{
	struct scsi_lun *l = r->l;
	uint16_t attention = l->attention;

	r->moved = 0;
	if (attention && !passes_attention(r->cdb[0])) {
		l->attention = 0;
		scsi_end(r, SCSI_SENSE(SENSE_ATTENTION, attention >> 8, attention & 0xff));
		return;
	}
	if (!scsi_ready(l) && needs_medium(r->cdb[0])) {
		scsi_end(r, SCSI_SENSE(SENSE_NOT_READY, 0x3a, l->tray_open ? 2 : 1));
		return;
	}
	if (!scsi_info(r) && !(l->cd && scsi_cd(r)) && !transfer(r))
		scsi_end(r, SCSI_BAD_OPCODE);
}

/* ---- the lun ---- */

int scsi_lun_init(struct scsi_lun *l, struct machine *m, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o,
		  struct err *e)
{
	struct disk_opts own = *o;

	if (cd)
		own.block_size = 2048;
	*l = (struct scsi_lun){ .cd = cd, .no_medium = cd && !node->i.size };
	if (disk_init(&l->disk, m, id, node, &own, e))
		return -EINVAL;
	if (cd)
		l->disk.media = &scsi_media_ops;
	return 0;
}

void scsi_lun_reset(struct scsi_lun *l)
{
	l->tray_open = l->locked = l->changed = l->eject_asked = false;
	l->sense = 0;
	l->attention = 0x2900;
}

struct scsi_lun_state scsi_lun_get(const struct scsi_lun *l)
{
	return (struct scsi_lun_state){ l->tray_open, l->locked, l->changed, l->eject_asked, l->no_medium, l->attention, l->sense };
}

int scsi_lun_set(struct scsi_lun *l, const struct scsi_lun_state *s)
{
	if (!s->no_medium != !l->no_medium)
		return -EINVAL;
	l->tray_open = s->tray_open & 1;
	l->locked = s->locked & 1;
	l->changed = s->changed & 1;
	l->eject_asked = s->eject_asked & 1;
	l->attention = s->attention;
	l->sense = s->sense & 0xffffff;
	return 0;
}
