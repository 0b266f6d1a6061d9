/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the floppy disk controller: what its files share. */
#ifndef LODGE_DEVICE_I82078_INT_H
#define LODGE_DEVICE_I82078_INT_H

#include "device/i82078.h"

#define FDC_SECTOR 512u
#define FDC_COMMAND_MAX 17
#define FDC_RESULT_MAX 16

#define DOR_DRIVE 0x03
#define DOR_RUN 0x04		/* not in reset */
#define DOR_GATE 0x08		/* interrupts and DMA requests go out */

/* Status registers 0 to 3. */
#define ST0_ABNORMAL 0x40
#define ST0_INVALID 0x80
#define ST0_CHANGED 0xc0	/* the ready line did; after a reset */
#define ST0_SEEK_END 0x20
#define ST0_EQUIPMENT 0x10
#define ST1_MISSING_ADDRESS 0x01
#define ST1_NOT_WRITABLE 0x02
#define ST1_NO_DATA 0x04
#define ST1_DATA_ERROR 0x20
#define ST1_END_OF_CYLINDER 0x80
#define ST2_SCAN_FAILED 0x04
#define ST2_SCAN_EQUAL 0x08
#define ST2_WRONG_CYLINDER 0x10
#define ST2_DATA_ERROR 0x20
#define ST2_CONTROL_MARK 0x40

#define CONFIG_IMPLIED_SEEK 0x40
#define CONFIG_NO_POLLING 0x10

enum fdc_phase { FDC_IDLE, FDC_COMMAND, FDC_EXECUTION, FDC_RESULT };
/* What execution does next with the sector in the buffer; FDC_STEPS: it is done with. */
enum fdc_step { FDC_READ_DISK, FDC_TO_HOST, FDC_FROM_HOST, FDC_WRITE_DISK, FDC_COMPARE, FDC_TAKE_ID, FDC_STEPS };
enum fdc_transfer { FDC_READ, FDC_WRITE, FDC_VERIFY, FDC_SCAN_EQUAL, FDC_SCAN_LOW, FDC_SCAN_HIGH, FDC_FORMAT, FDC_TRANSFERS };

/* A format, by the size of its image. */
struct fdc_format {
	uint8_t cylinders, heads, sectors;
	uint8_t rates;			/* bit n: found at data rate n (500, 300, 250, 1000 kbit/s) */
	bool five;			/* inches */
};

struct fdc_drive {
	struct disk disk;		/* node NULL: no such drive */
	struct i82078 *fdc;		/* whose it is */
	enum i82078_kind kind;
	const struct fdc_format *medium;	/* NULL: none in it */
	bool changed;			/* until the head has been moved with a medium in */
	uint8_t cylinder;		/* where the head is */
	uint8_t passing;		/* the sector whose ID READ ID finds next, from 0 on */
};

/* A command that moves data, from its first byte to its result.  All of it is saved. */
struct fdc_run {
	uint8_t transfer, step;
	uint8_t drive, many;		/* both sides */
	uint8_t skip, deleted;		/* as the command says; reads only: there are no deleted sectors */
	uint8_t head, c, h, r, n, eot;
	uint8_t left;			/* sectors to go: FORMAT, VERIFY with a count */
	uint8_t counted;		/* VERIFY has a count */
	uint8_t stride;			/* SCAN's */
	uint8_t fill;			/* FORMAT's */
	uint8_t over;			/* the DMA controller's count has ended */
	uint8_t below, above;		/* SCAN: where the disk's sector first differed from the host's */
	uint16_t at;			/* bytes of the sector that have passed */
};

struct i82078 {
	struct dev dev;
	struct i82078_config cfg;
	struct bus_region low, high;
	struct fdc_drive drive[I82078_DRIVES];

	uint8_t dor, dsr, rate, tape;
	uint8_t phase;
	uint8_t interrupt;		/* asked for; the line is DOR's to let out */
	uint8_t n_command, n_wanted, n_result, result_at;
	uint8_t command[FDC_COMMAND_MAX], result[FDC_RESULT_MAX];
	uint8_t sense_reset;		/* drives whose state after the reset was not asked for yet, from the last one back */
	uint8_t sought, sought_st0[4];	/* bit n: a seek of drive n has ended, and nobody has asked how */
	uint8_t specify[2], config, precomp, perpendicular, lock;
	uint8_t last_sectors;		/* for DUMPREG */
	struct fdc_run run;
	uint8_t sector[FDC_SECTOR];

	/* Not saved: a request begins anew. */
	bool paused, running, busy, dropped;
	struct disk_req req;
	struct iovec iov;
};

/* i82078.c */
static inline bool fdc_no_dma(const struct i82078 *f) { return f->specify[1] & 1; }
/* Sets line and DMA request to what they must be now. */
void fdc_update(struct i82078 *f);
/* NULL: there is none, or no medium in it. */
const struct fdc_format *fdc_medium(const struct i82078 *f, unsigned n);
/* What a node of that many bytes is; NULL: no floppy disk. */
const struct fdc_format *fdc_format_of(uint64_t size);

/* i82078_cmd.c: the whole command is there. */
void fdc_execute(struct i82078 *f);
/* How many bytes a command has, its first one included, given what has come of it. */
unsigned fdc_command_len(const struct i82078 *f);
/* Ends with n bytes of result. */
void fdc_answer(struct i82078 *f, const uint8_t *result, unsigned n, bool interrupt);
/* The head goes to a cylinder. */
void fdc_seek(struct i82078 *f, unsigned n, uint8_t to);
/* Software reset (DOR, DSR). */
void fdc_defaults(struct i82078 *f);

/* i82078_data.c */
void fdc_begin(struct i82078 *f, enum fdc_transfer t);
/* Goes on as far as it can: the host's turn has come, or the disk has answered. */
void fdc_go_on(struct i82078 *f);
/* Without DMA: a byte to or from the guest. */
bool fdc_wants_byte(const struct i82078 *f, bool *to_guest);
uint8_t fdc_byte_out(struct i82078 *f);
void fdc_byte_in(struct i82078 *f, uint8_t v);
/* What the disk has under way ends unheard. */
void fdc_abort(struct i82078 *f);
/* For disk_fini. */
void fdc_drop(struct disk_req *q);

#endif
