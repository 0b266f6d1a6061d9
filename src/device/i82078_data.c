// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The floppy disk controller's execution phase, a sector at a time: from the disk to the buffer to the host, or
 * the other way round.  Where it stands is in struct fdc_run and nowhere else, so that saved state has it; a
 * request that the disk has not answered by then is made again.
 *
 * A medium may be taken out at any time: it is looked for with each sector.
 */
#include <string.h>

#include "base/bits.h"
#include "device/i82078_int.h"

/* ---- the end ---- */

/* 82078, 6.1 (table of C, H, R): what a driver that goes on would say next. */
static void next_id(const struct i82078 *f, uint8_t id[4])
{
	const struct fdc_run *x = &f->run;
	bool last = x->r == x->eot, turn = last && x->many;

	id[0] = (uint8_t)(last && !(turn && !x->head) ? x->c + 1 : x->c);
	id[1] = (uint8_t)(turn ? x->h ^ 1 : x->h);
	id[2] = (uint8_t)(last ? 1 : x->r + 1);
	id[3] = 2;
}

static void end(struct i82078 *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
	const struct fdc_run *x = &f->run;
	uint8_t r[7] = { (uint8_t)(st0 | x->head << 2 | x->drive), st1, st2, x->c, x->h, x->r, 2 };

	if (!st0)
		next_id(f, r + 3);
	fdc_answer(f, r, sizeof(r), true);
}

static void failed(struct i82078 *f, uint8_t st1, uint8_t st2)
{
	end(f, ST0_ABNORMAL, st1, st2);
}

/* ---- where things are ---- */

/* The sector's place on the medium under the head; false: it is not to be found, and the command has ended. */
static bool find(struct i82078 *f, uint64_t *offset)
{
	const struct fdc_run *x = &f->run;
	const struct fdc_format *m = fdc_medium(f, x->drive);
	uint8_t at = x->drive < I82078_DRIVES ? f->drive[x->drive].cylinder : 0;

	/* Nothing that is recorded so: no address mark comes by (and a real drive without a medium would let one wait for ever). */
	if (!m || !(m->rates >> f->rate & 1) || x->head >= m->heads || !(f->command[0] & 0x40)) {
		failed(f, ST1_MISSING_ADDRESS, 0);
		return false;
	}
	/* A drive of 80 cylinders goes two steps for one of 40; whether the driver knows is its business. */
	if (x->c >= m->cylinders || (at != x->c && !(m->cylinders == 40 && at == 2 * x->c))) {
		failed(f, ST1_NO_DATA, ST2_WRONG_CYLINDER);
		return false;
	}
	if (x->h != x->head || x->n != 2 || !x->r || x->r > m->sectors) {
		failed(f, ST1_NO_DATA, 0);
		return false;
	}
	*offset = ((uint64_t)x->c * m->heads + x->head) * m->sectors + x->r - 1;
	*offset *= FDC_SECTOR;
	return true;
}

/* ---- the disk ---- */

/* The medium, which there is. */
static bool read_only(const struct i82078 *f) { return f->drive[f->run.drive].disk.node->i.read_only; }

static void answered(struct disk_req *q, int ret)
{
	struct i82078 *f = container_of(q, struct i82078, req);
	bool write = f->run.step == FDC_WRITE_DISK;

	f->running = false;
	if (f->dropped)
		return;
	if (ret) {
		failed(f, ST1_DATA_ERROR, write ? 0 : ST2_DATA_ERROR);
		return;
	}
	f->run.at = 0;
	switch (f->run.transfer) {
	case FDC_READ: f->run.step = FDC_TO_HOST; break;
	case FDC_WRITE:
	case FDC_VERIFY:
	case FDC_FORMAT: f->run.step = FDC_STEPS; break;	/* done with the sector */
	default:
		f->run.step = FDC_COMPARE;
		f->run.below = f->run.above = false;
	}
	fdc_go_on(f);
}

static void start(struct i82078 *f, bool write)
{
	struct disk_req *q = &f->req;
	uint64_t offset;

	if (!find(f, &offset))
		return;
	/* Another medium than when the command began. */
	if (write && read_only(f)) {
		failed(f, ST1_NOT_WRITABLE, 0);
		return;
	}
	*q = (struct disk_req){ .d = &f->drive[f->run.drive].disk, .answer = answered };
	f->iov = (struct iovec){ f->sector, FDC_SECTOR };
	q->r.op = write ? BLK_WRITE : BLK_READ;
	q->r.offset = offset;
	q->r.len = FDC_SECTOR;
	q->r.iov = &f->iov;
	q->r.niov = 1;
	f->running = true;
	disk_start(q);
}

void fdc_drop(struct disk_req *q)
{
	container_of(q, struct i82078, req)->running = false;
}

void fdc_abort(struct i82078 *f)
{
	struct disk *d = f->running ? f->req.d : NULL;

	if (!d)
		return;
	f->dropped = true;
	blk_drain(d->node);
	disk_forget(d, NULL, NULL, fdc_drop);
	f->dropped = f->running = false;
}

/* ---- from sector to sector ---- */

static bool writes(const struct fdc_run *x) { return x->transfer == FDC_WRITE || x->transfer == FDC_FORMAT; }
static bool scans(const struct fdc_run *x) { return x->transfer >= FDC_SCAN_EQUAL && x->transfer <= FDC_SCAN_HIGH; }

static uint8_t first_step(const struct fdc_run *x)
{
	return x->transfer == FDC_FORMAT ? FDC_TAKE_ID : x->transfer == FDC_WRITE ? FDC_FROM_HOST : FDC_READ_DISK;
}

/* A sector of a scan was compared; true: that ends it. */
static bool scanned(struct i82078 *f)
{
	const struct fdc_run *x = &f->run;
	bool equal = !x->below && !x->above;
	bool found = equal || (x->transfer == FDC_SCAN_LOW && x->below) || (x->transfer == FDC_SCAN_HIGH && x->above);

	if (found)
		end(f, 0, 0, equal ? ST2_SCAN_EQUAL : 0);
	else if (x->over || x->r + x->stride > x->eot)
		end(f, 0, 0, ST2_SCAN_FAILED);
	else
		return false;
	return true;
}

/* The sector is done with: another one, or the result. */
static void advance(struct i82078 *f)
{
	struct fdc_run *x = &f->run;

	x->at = 0;
	x->step = first_step(x);
	if (x->transfer == FDC_FORMAT) {
		if (!--x->left || x->over)
			end(f, 0, 0, 0);
		return;
	}
	if (scans(x)) {
		if (!scanned(f))
			x->r = (uint8_t)(x->r + x->stride);
		return;
	}
	if (x->over || (x->counted && !--x->left)) {
		end(f, 0, 0, 0);
	} else if (x->transfer == FDC_READ && x->deleted && !x->skip) {
		end(f, 0, 0, ST2_CONTROL_MARK);		/* not of the kind that was wanted: the first one ends it */
	} else if (x->r != x->eot) {
		x->r++;
	} else if (x->many && !x->head) {
		x->head = x->h = 1;
		x->r = 1;
	} else if (x->transfer == FDC_VERIFY && !x->counted) {
		end(f, 0, 0, 0);
	} else {
		failed(f, ST1_END_OF_CYLINDER, 0);
	}
}

/* ---- the host ---- */

/* As much as it gives or takes; false: it has to do something first. */
static bool by_dma(struct i82078 *f, size_t want)
{
	struct fdc_run *x = &f->run;
	uint8_t other[FDC_SECTOR];
	bool over = false;
	size_t n;

	if (fdc_no_dma(f) || !(f->dor & DOR_GATE))
		return false;
	if (x->step == FDC_TO_HOST)
		n = i8237_to_memory(f->cfg.dma, f->cfg.channel, f->sector + x->at, want - x->at, &over);
	else
		n = i8237_from_memory(f->cfg.dma, f->cfg.channel, x->step == FDC_COMPARE ? other : f->sector + x->at, want - x->at, &over);
	for (size_t i = 0; x->step == FDC_COMPARE && i < n && !x->below && !x->above; i++) {
		uint8_t disk = f->sector[x->at + i];

		x->below = disk < other[i] && other[i] != 0xff;
		x->above = disk > other[i] && disk != 0xff;
	}
	x->at = (uint16_t)(x->at + n);
	x->over |= over;
	return n;
}

/* The host's part of a sector is over. */
static void moved(struct i82078 *f, size_t want)
{
	struct fdc_run *x = &f->run;

	if (x->step == FDC_FROM_HOST) {
		/* The rest of the last sector is zeros. */
		memset(f->sector + x->at, 0, want - x->at);
		x->step = FDC_WRITE_DISK;
	} else if (x->step == FDC_TAKE_ID) {
		x->c = f->sector[0];
		x->h = f->sector[1];
		x->r = f->sector[2];
		x->n = x->at == want ? f->sector[3] : 0;
		memset(f->sector, x->fill, FDC_SECTOR);
		x->step = FDC_WRITE_DISK;
	} else {
		x->step = FDC_STEPS;
	}
}

static size_t wanted(const struct fdc_run *x)
{
	return x->step == FDC_TAKE_ID ? 4 : FDC_SECTOR;
}

/* One step; false: somebody else's turn. */
static bool step(struct i82078 *f)
{
	struct fdc_run *x = &f->run;
	size_t want = wanted(x);

	switch (x->step) {
	case FDC_READ_DISK:
		/* With SK, sectors of the other kind are passed over; there are no others. */
		if (x->transfer == FDC_READ && x->deleted && x->skip)
			advance(f);
		else
			start(f, false);
		return true;
	case FDC_WRITE_DISK:
		start(f, true);
		return true;
	case FDC_TO_HOST:
	case FDC_FROM_HOST:
	case FDC_COMPARE:
	case FDC_TAKE_ID:
		if (x->at < want && !x->over && !by_dma(f, want))
			return false;
		if (x->at == want || x->over)
			moved(f, want);
		return true;
	default:
		advance(f);
		return true;
	}
}

/* Bounded: each turn moves data, starts a request or ends the command, but for skipped sectors, of which there are 512 at most. */
void fdc_go_on(struct i82078 *f)
{
	if (f->busy)
		return;
	f->busy = true;
	while (f->phase == FDC_EXECUTION && !f->running && !f->paused && step(f))
		;
	fdc_update(f);		/* which may come back here */
	f->busy = false;
}

bool fdc_wants_byte(const struct i82078 *f, bool *to_guest)
{
	const struct fdc_run *x = &f->run;

	*to_guest = x->step == FDC_TO_HOST;
	return f->phase == FDC_EXECUTION && fdc_no_dma(f) && !f->running && !f->paused &&
		(x->step == FDC_TO_HOST || x->step == FDC_FROM_HOST || x->step == FDC_COMPARE || x->step == FDC_TAKE_ID);
}

uint8_t fdc_byte_out(struct i82078 *f)
{
	uint8_t v = f->sector[f->run.at++];

	if (f->run.at == FDC_SECTOR)
		fdc_go_on(f);
	return v;
}

void fdc_byte_in(struct i82078 *f, uint8_t v)
{
	struct fdc_run *x = &f->run;

	if (x->step == FDC_COMPARE && !x->below && !x->above) {
		uint8_t disk = f->sector[x->at];

		x->below = disk < v && v != 0xff;
		x->above = disk > v && disk != 0xff;
	} else if (x->step != FDC_COMPARE) {
		f->sector[x->at] = v;
	}
	if (++x->at == wanted(x))
		fdc_go_on(f);
}

/* ---- the beginning ---- */

/* READ TRACK: from the first sector on, whatever R says. */
static void take_parameters(struct fdc_run *x, const uint8_t *c, bool track)
{
	x->c = c[2];
	x->h = c[3];
	x->r = track ? 1 : c[4];
	x->n = c[5];
	x->eot = c[6];
	x->many = !track && c[0] >> 7;
	x->skip = c[0] >> 5 & 1;
	x->stride = (uint8_t)(c[8] == 2 ? 2 : 1);
}

void fdc_begin(struct i82078 *f, enum fdc_transfer t)
{
	const uint8_t *c = f->command;
	struct fdc_run *x = &f->run;
	uint8_t op = c[0] & 0x1f;

	*x = (struct fdc_run){ .transfer = (uint8_t)t, .drive = c[1] & 3, .head = c[1] >> 2 & 1 };
	f->phase = FDC_EXECUTION;
	if (t == FDC_FORMAT) {
		x->left = c[3];
		x->fill = c[5];
		f->last_sectors = c[3];
	} else {
		take_parameters(x, c, op == 0x02);
		x->deleted = op == 0x0c;
		x->counted = t == FDC_VERIFY && c[1] >> 7;
		x->left = c[8];
		f->last_sectors = c[6];
	}
	x->step = first_step(x);
	if (t != FDC_FORMAT && f->config & CONFIG_IMPLIED_SEEK)
		fdc_seek(f, x->drive, x->c);
	if (!fdc_medium(f, x->drive))
		failed(f, ST1_MISSING_ADDRESS, 0);
	else if (writes(x) && read_only(f))
		failed(f, ST1_NOT_WRITABLE, 0);
	else if ((t == FDC_FORMAT || x->counted) && !x->left)
		failed(f, ST1_NO_DATA, 0);
	else
		fdc_go_on(f);
	fdc_update(f);
}
