// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The floppy disk controller's commands (82078 data sheet, 5 and 6).  Seeks take no time, so a drive is never found seeking; what
 * came of them is there to be asked for by SENSE INTERRUPT STATUS.
 */
#include <string.h>

#include "base/bits.h"
#include "device/i82078_int.h"

#define VERSION 0x90		/* enhanced: with CONFIGURE and what came after it */
#define PART_82078 0x01

void fdc_answer(struct i82078 *f, const uint8_t *result, unsigned n, bool interrupt)
{
	if (n)
		memcpy(f->result, result, n);
	f->n_result = (uint8_t)n;
	f->result_at = 0;
	f->phase = n ? FDC_RESULT : FDC_IDLE;
	if (interrupt) {
		f->interrupt = true;
		f->sense_reset = 0;	/* who has gone on does not ask any more */
	}
	fdc_update(f);
}

static void answer_byte(struct i82078 *f, uint8_t v)
{
	fdc_answer(f, &v, 1, false);
}

static void nothing(struct i82078 *f)
{
	fdc_answer(f, NULL, 0, false);
}

/* ---- the head ---- */

/* A step with a medium in the drive ends the signal that there is another one. */
void fdc_seek(struct i82078 *f, unsigned n, uint8_t to)
{
	struct fdc_drive *d = n < I82078_DRIVES ? &f->drive[n] : NULL;

	if (!d || !d->disk.node)
		return;
	if (d->cylinder != to && d->medium)
		d->changed = false;
	d->cylinder = to;
}

static void seek_end(struct i82078 *f, unsigned n, uint8_t st0)
{
	f->sought |= (uint8_t)(1 << n);
	f->sought_st0[n] = (uint8_t)(st0 | ST0_SEEK_END | n);
	fdc_answer(f, NULL, 0, true);
}

/* Without a drive there is no track 0. */
static void cmd_recalibrate(struct i82078 *f)
{
	unsigned n = f->command[1] & 3;
	bool there = n < I82078_DRIVES && f->drive[n].disk.node;

	fdc_seek(f, n, 0);
	seek_end(f, n, there ? 0 : ST0_ABNORMAL | ST0_EQUIPMENT);
}

static void cmd_seek(struct i82078 *f)
{
	unsigned n = f->command[1] & 3;

	fdc_seek(f, n, f->command[2]);
	seek_end(f, n, f->command[1] & 4);
}

static uint8_t cylinder(const struct i82078 *f, unsigned n)
{
	return n < I82078_DRIVES ? f->drive[n].cylinder : 0;
}

static void cmd_relative_seek(struct i82078 *f)
{
	unsigned n = f->command[1] & 3, at = cylinder(f, n), by = f->command[2];
	bool inward = f->command[0] & 0x40;

	fdc_seek(f, n, (uint8_t)(inward ? MIN(at + by, 255) : at - MIN(at, by)));
	seek_end(f, n, f->command[1] & 4);
}

/* 6.2.2: after a reset all four drives are reported, then seeks; else it is no command. */
static void cmd_sense_interrupt(struct i82078 *f)
{
	uint8_t r[2] = { ST0_INVALID, 0 };
	unsigned n;

	f->interrupt = false;
	if (f->sense_reset) {
		n = 4u - f->sense_reset--;
		r[0] = (uint8_t)(ST0_CHANGED | n);
	} else if (f->sought) {
		for (n = 0; !(f->sought >> n & 1); n++)
			;
		f->sought &= (uint8_t)~(1 << n);
		r[0] = f->sought_st0[n];
		f->interrupt = f->sought != 0;
	} else {
		answer_byte(f, ST0_INVALID);
		return;
	}
	r[1] = cylinder(f, n);
	fdc_answer(f, r, 2, false);
}

static void cmd_sense_drive(struct i82078 *f)
{
	unsigned n = f->command[1] & 3;
	const struct fdc_drive *d = n < I82078_DRIVES ? &f->drive[n] : NULL;
	uint8_t st3 = 0x28 | (f->command[1] & 7);

	if (d && d->disk.node && !d->cylinder)
		st3 |= 0x10;
	if (d && d->disk.node && d->medium && d->disk.node->i.read_only)
		st3 |= 0x40;
	answer_byte(f, st3);
}

/* ---- data ---- */

static void cmd_read(struct i82078 *f) { fdc_begin(f, FDC_READ); }
static void cmd_write(struct i82078 *f) { fdc_begin(f, FDC_WRITE); }
static void cmd_verify(struct i82078 *f) { fdc_begin(f, FDC_VERIFY); }
static void cmd_scan_equal(struct i82078 *f) { fdc_begin(f, FDC_SCAN_EQUAL); }
static void cmd_scan_low(struct i82078 *f) { fdc_begin(f, FDC_SCAN_LOW); }
static void cmd_scan_high(struct i82078 *f) { fdc_begin(f, FDC_SCAN_HIGH); }
static void cmd_format(struct i82078 *f) { fdc_begin(f, FDC_FORMAT); }

/* The next sector that comes by. */
static void cmd_read_id(struct i82078 *f)
{
	unsigned n = f->command[1] & 3, head = f->command[1] >> 2 & 1;
	const struct fdc_format *m = fdc_medium(f, n);
	uint8_t r[7] = { (uint8_t)(f->command[1] & 7) };
	struct fdc_drive *d;

	if (!m || !(m->rates >> f->rate & 1) || head >= m->heads || !(f->command[0] & 0x40) || f->drive[n].cylinder >= m->cylinders) {
		r[0] |= ST0_ABNORMAL;
		r[1] = ST1_MISSING_ADDRESS;
		fdc_answer(f, r, sizeof(r), true);
		return;
	}
	d = &f->drive[n];
	d->passing = (uint8_t)(d->passing % m->sectors);
	r[3] = d->cylinder;
	r[4] = (uint8_t)head;
	r[5] = (uint8_t)(d->passing++ + 1);
	r[6] = 2;
	fdc_answer(f, r, sizeof(r), true);
}

/* ---- settings ---- */

static void cmd_specify(struct i82078 *f)
{
	memcpy(f->specify, f->command + 1, 2);
	nothing(f);
}

static void cmd_configure(struct i82078 *f)
{
	f->config = f->command[2] & 0x7f;
	f->precomp = f->command[3];
	nothing(f);
}

static void cmd_perpendicular(struct i82078 *f)
{
	/* With OW clear the drives' bits stay. */
	f->perpendicular = f->command[1] & 0x80 ? f->command[1] & 0x3f : (f->perpendicular & 0x3c) | (f->command[1] & 3);
	nothing(f);
}

static void cmd_lock(struct i82078 *f)
{
	f->lock = f->command[0] >> 7;
	answer_byte(f, (uint8_t)(f->lock << 4));
}

static void cmd_dumpreg(struct i82078 *f)
{
	const uint8_t r[10] = {
		cylinder(f, 0), cylinder(f, 1), 0, 0, f->specify[0], f->specify[1], f->last_sectors,
		(uint8_t)(f->lock << 7 | f->perpendicular), f->config, f->precomp,
	};

	fdc_answer(f, r, sizeof(r), false);
}

static void cmd_version(struct i82078 *f) { answer_byte(f, VERSION); }
static void cmd_part_id(struct i82078 *f) { answer_byte(f, PART_82078); }
/* Nothing is powered down. */
static void cmd_powerdown(struct i82078 *f) { answer_byte(f, f->command[1]); }
static void cmd_nothing(struct i82078 *f) { nothing(f); }
static void cmd_invalid(struct i82078 *f) { answer_byte(f, ST0_INVALID); }

/* Kinds of drives, which are known here; answered with what they are told to be unless NRP says not to. */
static void cmd_drive_specification(struct i82078 *f)
{
	static const uint8_t r[4] = { 0 };

	if (f->command[f->n_command - 1] & 0x40)
		nothing(f);
	else
		fdc_answer(f, r, sizeof(r), false);
}

/* The whole state for a driver that powers the chip down; here it is kept anyway. */
static void cmd_save(struct i82078 *f)
{
	const uint8_t r[16] = {
		0, 0, cylinder(f, 0), cylinder(f, 1), 0, 0, f->specify[0], f->specify[1], f->last_sectors,
		(uint8_t)(f->lock << 7 | f->perpendicular), f->config, f->precomp,
	};

	fdc_answer(f, r, sizeof(r), false);
}

static void cmd_restore(struct i82078 *f)
{
	const uint8_t *c = f->command + 1;

	memcpy(f->specify, c + 6, 2);
	f->last_sectors = c[8];
	f->lock = c[9] >> 7;
	f->perpendicular = c[9] & 0x3f;
	f->config = c[10] & 0x7f;
	f->precomp = c[11];
	nothing(f);
}

static const struct command {
	uint8_t mask, value;
	uint8_t len;
	void (*run)(struct i82078 *f);
} commands[] = {
	{ 0x1f, 0x06, 9, cmd_read },		/* READ DATA */
	{ 0x1f, 0x0c, 9, cmd_read },		/* READ DELETED DATA */
	{ 0x9f, 0x02, 9, cmd_read },		/* READ TRACK */
	{ 0x3f, 0x05, 9, cmd_write },		/* WRITE DATA */
	{ 0x3f, 0x09, 9, cmd_write },		/* WRITE DELETED DATA: the mark is lost */
	{ 0x1f, 0x16, 9, cmd_verify },
	{ 0x1f, 0x11, 9, cmd_scan_equal },
	{ 0x1f, 0x19, 9, cmd_scan_low },
	{ 0x1f, 0x1d, 9, cmd_scan_high },
	{ 0xbf, 0x0d, 6, cmd_format },
	{ 0xbf, 0x0a, 2, cmd_read_id },
	{ 0xff, 0x07, 2, cmd_recalibrate },
	{ 0xff, 0x0f, 3, cmd_seek },
	{ 0xbf, 0x8f, 3, cmd_relative_seek },
	{ 0xff, 0x08, 1, cmd_sense_interrupt },
	{ 0xff, 0x04, 2, cmd_sense_drive },
	{ 0xff, 0x03, 3, cmd_specify },
	{ 0xff, 0x13, 4, cmd_configure },
	{ 0xff, 0x12, 2, cmd_perpendicular },
	{ 0x7f, 0x14, 1, cmd_lock },
	{ 0xff, 0x0e, 1, cmd_dumpreg },
	{ 0xff, 0x10, 1, cmd_version },
	{ 0xff, 0x18, 1, cmd_part_id },
	{ 0xff, 0x17, 2, cmd_powerdown },
	{ 0xff, 0x33, 2, cmd_nothing },		/* OPTION */
	{ 0xff, 0x8e, 0, cmd_drive_specification },
	{ 0xff, 0x2e, 1, cmd_save },
	{ 0xff, 0x4e, 17, cmd_restore },
	{ 0x00, 0x00, 1, cmd_invalid },
};

static const struct command *find(uint8_t first)
{
	const struct command *c = commands;

	while ((first & c->mask) != c->value)
		c++;
	return c;
}

/* DRIVE SPECIFICATION has up to five more bytes, the last of which says so. */
unsigned fdc_command_len(const struct i82078 *f)
{
	const struct command *c = find(f->command[0]);
	unsigned n = f->n_command;

	if (c->len)
		return c->len;
	return n > 1 && (f->command[n - 1] & 0x80 || n == 6) ? n : n + 1;
}

void fdc_execute(struct i82078 *f)
{
	find(f->command[0])->run(f);
}

void fdc_defaults(struct i82078 *f)
{
	/* 5.2: unless locked. */
	if (!f->lock) {
		f->config = 0x20;		/* no FIFO, no implied seeks, polling */
		f->precomp = 0;
	}
	f->perpendicular &= 0x3c;
}
