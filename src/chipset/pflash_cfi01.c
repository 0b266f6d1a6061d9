// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CFI flash, Intel/Sharp command set (Intel StrataFlash J3 datasheet, 4 and 9;
 * JESD68.01 for the query table).
 *
 * The write state machine has three cycles: command, its argument, and for
 * buffered programming the data.  Programs and erasures are done at once: the
 * status register is ready whenever it is read.  Programming clears bits and sets
 * none.  One thing is as firmware for virtual machines expects it, not as silicon
 * has it: after "clear status" the register is 0, ready bit included.
 */
#include "chipset/pflash_cfi01.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/machine.h"

enum {
	CMD_READ_ARRAY = 0xff, CMD_PROGRAM = 0x40, CMD_PROGRAM_ALT = 0x10, CMD_ERASE = 0x20, CMD_CONFIRM = 0xd0,
	CMD_READ_STATUS = 0x70, CMD_CLEAR_STATUS = 0x50, CMD_READ_ID = 0x90, CMD_QUERY = 0x98, CMD_BUFFER = 0xe8,
	CMD_LOCK = 0x60,
};
enum { ST_READY = 0x80, ST_ERASE_ERROR = 0x20, ST_PROGRAM_ERROR = 0x10, ST_SEQUENCE_ERROR = 0x30 };
enum { MANUFACTURER = 0x89, DEVICE = 0x18 };

#define BUFFER_SHIFT 6
#define BUFFER (1u << BUFFER_SHIFT)
#define QUERY_LEN 0x31

struct pflash {
	struct dev dev;
	struct pflash_cfi01_config cfg;
	struct bus_region region;
	uint64_t size;
	uint8_t query[QUERY_LEN];
	bool shown;		/* array mode: the memory map has it */
	bool store_failed;	/* said once */

	uint8_t cmd;		/* what reads show; and what the next cycles belong to */
	uint8_t cycle;		/* 0: a command is next */
	uint8_t status;
	uint16_t left;		/* bytes to come for the buffer */
	uint8_t n_buffer;
	uint32_t at[BUFFER];	/* as written by the guest, checked against size */
	uint8_t buffer[BUFFER];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct pflash, cmd), SNAP_FIELD(struct pflash, cycle), SNAP_FIELD(struct pflash, status),
	SNAP_FIELD(struct pflash, left), SNAP_FIELD(struct pflash, n_buffer), SNAP_ARRAY(struct pflash, at),
	SNAP_ARRAY(struct pflash, buffer), SNAP_END
};
static const struct snap_table table = { "pflash_cfi01", 1, fields };

static uint8_t *bytes(struct pflash *f)
{
	return mem_rom_bytes(f->cfg.array);
}

/* The memory map follows the mode. */
static void show(struct pflash *f, bool array)
{
	struct mem *mem = f->dev.m->mem;
	struct err e = { 0 };

	if (array == f->shown)
		return;
	f->shown = array;
	if (!array)
		mem_del(mem, f->cfg.base);
	else if (mem_show_rom(mem, f->cfg.array, f->cfg.base, 0, f->size, &e))
		log_error("flash %s: %s", f->cfg.id, e.msg);
}

static void read_array(struct pflash *f)
{
	f->cmd = CMD_READ_ARRAY;
	f->cycle = 0;
	show(f, true);
}

static void store(struct pflash *f, uint64_t off, size_t len, uint8_t error)
{
	int r;

	f->status |= ST_READY;
	r = f->cfg.store ? f->cfg.store(f->cfg.opaque, off, bytes(f) + off, len) : 0;
	if (r >= 0)
		return;
	f->status |= error;
	if (!f->store_failed)
		log_warn("flash %s: its contents cannot be kept (%s); the guest is told", f->cfg.id, strerror(-r));
	f->store_failed = true;
}

static void program(struct pflash *f, uint64_t off, uint8_t v)
{
	bytes(f)[off] &= v;
}

static void erase(struct pflash *f, uint64_t off)
{
	off = align_down(off, f->cfg.block);
	memset(bytes(f) + off, 0xff, f->cfg.block);
	store(f, off, f->cfg.block, ST_ERASE_ERROR);
}

/* ---- buffered programming ---- */

static void program_buffer(struct pflash *f)
{
	for (unsigned i = 0; i < f->n_buffer; i++) {
		program(f, f->at[i], f->buffer[i]);
		store(f, f->at[i], 1, ST_PROGRAM_ERROR);
	}
}

static void buffer_cycle(struct pflash *f, uint64_t off, uint8_t v)
{
	if (f->cycle == 1) {
		/* The number of bytes less one. */
		f->left = v + 1u;
		f->n_buffer = 0;
		f->cycle = 2;
		if (f->left <= BUFFER)
			return;
		f->left = 0;
		f->status |= ST_READY | ST_SEQUENCE_ERROR;
		f->cycle = 0;
		f->cmd = CMD_READ_STATUS;
	} else if (f->left) {
		f->at[f->n_buffer] = (uint32_t)off;
		f->buffer[f->n_buffer++] = v;
		f->left--;
	} else {
		if (v == CMD_CONFIRM)
			program_buffer(f);
		else
			f->status |= ST_READY | ST_SEQUENCE_ERROR;
		f->cycle = 0;
		f->cmd = CMD_READ_STATUS;
	}
}

/* ---- commands ---- */

static void first_cycle(struct pflash *f, uint8_t v)
{
	switch (v) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
	case CMD_ERASE:
	case CMD_LOCK:
	case CMD_BUFFER:
		if (v == CMD_BUFFER)
			f->status |= ST_READY;
		f->cmd = v;
		f->cycle = 1;
		break;
	case CMD_READ_STATUS:
	case CMD_READ_ID:
	case CMD_QUERY:
		f->cmd = v;
		break;
	case CMD_CLEAR_STATUS:
		f->status = 0;
		read_array(f);
		return;
	default:
		read_array(f);
		return;
	}
	show(f, false);
}

/* The argument of a command. */
static void second_cycle(struct pflash *f, uint64_t off, uint8_t v)
{
	switch (f->cmd) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
		program(f, off, v);
		store(f, off, 1, ST_PROGRAM_ERROR);
		break;
	case CMD_ERASE:
		if (v == CMD_CONFIRM)
			erase(f, off);
		else
			f->status |= ST_READY | ST_SEQUENCE_ERROR;
		break;
	case CMD_LOCK:			/* no block is ever locked */
		f->status |= ST_READY;
		break;
	}
	f->cycle = 0;
	f->cmd = CMD_READ_STATUS;
}

static void write_byte(struct pflash *f, uint64_t off, uint8_t v)
{
	if (f->cycle == 0)
		first_cycle(f, v);
	else if (f->cmd == CMD_BUFFER)
		buffer_cycle(f, off, v);
	else
		second_cycle(f, off, v);
}

static uint8_t read_byte(struct pflash *f, uint64_t off)
{
	switch (f->cmd) {
	case CMD_READ_ID:
		switch (off & 0xff) {
		case 0: return MANUFACTURER;
		case 1: return DEVICE;
		default: return 0;	/* not locked */
		}
	case CMD_QUERY:
		return (off & 0xff) < QUERY_LEN ? f->query[off & 0xff] : 0;
	case CMD_READ_ARRAY:
		return bytes(f)[off];
	default:
		return f->status;
	}
}

/* An access of several bytes: the chip is 8 bits wide, so the lowest is the command. */
static void flash_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct pflash *f = opaque;

	for (unsigned i = 0; i < len; i++)
		if (i == 0 || f->cycle != 0)
			write_byte(f, off + i, (uint8_t)(val >> 8 * i));
}

static uint64_t flash_read(void *opaque, uint64_t off, unsigned len)
{
	struct pflash *f = opaque;
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)read_byte(f, off + i) << 8 * i;
	return v;
}

static const struct bus_ops flash_ops = { .read = flash_read, .write = flash_write, .max_len = 8, .unaligned = true };

/* ---- life cycle ---- */

static void flash_reset(struct dev *d)
{
	struct pflash *f = container_of(d, struct pflash, dev);

	f->status = ST_READY;
	f->left = 0;
	f->n_buffer = 0;
	read_array(f);
}

static int flash_save(struct dev *d, struct snap_out *o)
{
	struct pflash *f = container_of(d, struct pflash, dev);
	int r = snap_put(o, d->id, &table, f);

	return r ? r : snap_put_blob(o, "array", bytes(f), (uint32_t)f->size);
}

static int check_loaded(struct pflash *f, struct err *e)
{
	bool bad = f->cycle > 2 || f->n_buffer > BUFFER || f->left > BUFFER || f->left + f->n_buffer > BUFFER ||
		   (f->cycle == 2 && f->cmd != CMD_BUFFER);

	for (unsigned i = 0; i < f->n_buffer && !bad; i++)
		bad = f->at[i] >= f->size;
	if (!bad)
		return 0;
	flash_reset(&f->dev);
	return err_set(e, -EINVAL, "saved state of flash %s makes no sense", f->cfg.id);
}

static int flash_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct pflash *f = container_of(d, struct pflash, dev);
	uint32_t len = 0;
	int r = snap_get(in, d->id, &table, f, e);

	if (r == 0)
		r = snap_get_blob(in, "array", bytes(f), (uint32_t)f->size, &len, e);
	if (r == 0 && len != f->size)
		r = err_set(e, -EINVAL, "saved flash %s has another size", f->cfg.id);
	if (r == 0)
		r = check_loaded(f, e);
	if (r)
		return r;
	show(f, f->cmd == CMD_READ_ARRAY);
	if (f->shown)
		mem_written(f->dev.m->mem, f->cfg.base, f->size);
	store(f, 0, f->size, 0);
	return 0;
}

static void flash_free(struct dev *d)
{
	struct pflash *f = container_of(d, struct pflash, dev);

	bus_del(&f->region);
	dev_del(d);
	free(f);
}

static const struct dev_ops flash_dev_ops = {
	.name = "pflash_cfi01", .reset = flash_reset, .save = flash_save, .load = flash_load, .free = flash_free,
};

/* JESD68.01: identification, voltages and times, geometry: one region of equal blocks. */
static void make_query(struct pflash *f)
{
	uint32_t blocks = (uint32_t)(f->size / f->cfg.block);
	uint8_t *q = f->query;

	memcpy(q + 0x10, "QRY", 3);
	st_le16(q + 0x13, 0x0001);		/* Intel/Sharp extended */
	st_le16(q + 0x15, 0);			/* no extended table */
	q[0x1b] = 0x45;
	q[0x1c] = 0x55;
	q[0x1f] = 7;				/* 2^n us a byte, 2^n us a buffer, 2^n ms an erasure; twice that at most */
	q[0x20] = 7;
	q[0x21] = 10;
	q[0x23] = q[0x24] = q[0x25] = 1;
	q[0x27] = (uint8_t)(63 - __builtin_clzll(f->size));
	st_le16(q + 0x28, 0);			/* x8 */
	st_le16(q + 0x2a, BUFFER_SHIFT);
	q[0x2c] = 1;
	st_le16(q + 0x2d, (uint16_t)(blocks - 1));
	st_le16(q + 0x2f, (uint16_t)(f->cfg.block >> 8));
}

static int check_config(const struct pflash_cfi01_config *c, struct err *e)
{
	uint64_t size = mem_rom_size(c->array);

	if (is_pow2(c->block) && c->block >= PAGE_4K && c->block < BIT(24) && size % c->block == 0 && size <= BIT(30) &&
	    size / c->block <= 65536 && c->base % PAGE_4K == 0)
		return 0;
	return err_set(e, -EINVAL, "flash %s: %llu bytes are no whole number of blocks of %u", c->id,
		       (unsigned long long)size, c->block);
}

int pflash_cfi01_new(struct machine *m, const struct pflash_cfi01_config *cfg, struct err *e)
{
	struct pflash *f;
	int r = check_config(cfg, e);

	if (r)
		return r;
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	f->cfg = *cfg;
	f->size = mem_rom_size(cfg->array);
	make_query(f);
	f->region = (struct bus_region){ .name = "pflash", .ops = &flash_ops, .opaque = f, .base = cfg->base,
					 .size = f->size, .priority = 1 };
	r = bus_add(m->mmio, &f->region);
	if (r) {
		free(f);
		return err_set(e, r, "flash %s: its place is taken", cfg->id);
	}
	dev_add(m, &f->dev, &flash_dev_ops, cfg->id);
	flash_reset(&f->dev);
	return 0;
}
