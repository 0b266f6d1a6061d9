// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The floppy disk controller's registers, drives and media, and its saved state.
 *
 * A drive takes the media of its size in inches, up to its own density; which it is, the first image decides.  What a
 * medium is shows in the length of its image alone.
 */
#include "device/i82078.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "device/i82078_int.h"
#include "machine/machine.h"
#include "storage/media.h"

#define R500 0x01
#define R300 0x02
#define R250 0x04
#define R1000 0x08

/* 5.25 inches in double density: 250 kbit/s in a drive of its own, 300 in one that turns faster. */
static const struct fdc_format formats[] = {
	{ 40, 1, 8, R250 | R300, true }, { 40, 1, 9, R250 | R300, true }, { 40, 2, 8, R250 | R300, true },
	{ 40, 2, 9, R250 | R300, true }, { 80, 2, 15, R500, true },
	{ 80, 2, 9, R250, false }, { 80, 2, 18, R500, false }, { 80, 2, 36, R1000, false },
};

static uint64_t size_of(const struct fdc_format *m)
{
	return (uint64_t)m->cylinders * m->heads * m->sectors * FDC_SECTOR;
}

const struct fdc_format *fdc_format_of(uint64_t size)
{
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
		if (size_of(&formats[i]) == size)
			return &formats[i];
	return NULL;
}

struct i82078_geometry i82078_geometry(enum i82078_kind kind)
{
	static const struct i82078_geometry g[] = {
		[I82078_360K] = { 40, 2, 9 }, [I82078_1200K] = { 80, 2, 15 }, [I82078_720K] = { 80, 2, 9 },
		[I82078_1440K] = { 80, 2, 18 }, [I82078_2880K] = { 80, 2, 36 },
	};

	return g[kind];
}

static enum i82078_kind kind_for(const struct fdc_format *m)
{
	if (!m)
		return I82078_2880K;
	return m->five ? I82078_1200K : m->sectors > 18 ? I82078_2880K : I82078_1440K;
}

static bool fits(enum i82078_kind kind, const struct fdc_format *m)
{
	return m->five == (kind == I82078_1200K) && m->sectors <= i82078_geometry(kind).sectors;
}

const struct fdc_format *fdc_medium(const struct i82078 *f, unsigned n)
{
	return n < I82078_DRIVES && f->drive[n].disk.node ? f->drive[n].medium : NULL;
}

/* ---- what goes out ---- */

static bool running(const struct i82078 *f)
{
	return f->dor & DOR_RUN;
}

void fdc_update(struct i82078 *f)
{
	const struct fdc_run *x = &f->run;
	bool gate = running(f) && f->dor & DOR_GATE, to_guest;
	bool byte = fdc_wants_byte(f, &to_guest);
	bool dma = f->phase == FDC_EXECUTION && !fdc_no_dma(f) && !f->running && !f->paused && x->step != FDC_READ_DISK &&
		x->step != FDC_WRITE_DISK;

	irq_set(&f->cfg.irq, gate && (f->interrupt || byte));
	i8237_request(f->cfg.dma, f->cfg.channel, gate && dma);
}

static void dma_ready(void *opaque)
{
	fdc_go_on(opaque);
}

/* ---- registers ---- */

static void enter_reset(struct i82078 *f)
{
	fdc_abort(f);
	f->phase = FDC_IDLE;
	f->n_command = f->n_result = 0;
	f->interrupt = f->sought = f->sense_reset = 0;
	fdc_defaults(f);
	fdc_update(f);
}

/* 5.2: with polling, all four drives are found to have changed. */
static void leave_reset(struct i82078 *f)
{
	if (f->config & CONFIG_NO_POLLING)
		return;
	f->sense_reset = 4;
	f->interrupt = true;
	fdc_update(f);
}

static void write_dor(struct i82078 *f, uint8_t v)
{
	bool was = running(f);

	f->dor = v;
	if (was && !running(f))
		enter_reset(f);
	else if (!was && running(f))
		leave_reset(f);
	fdc_go_on(f);		/* the gate may have been opened */
}

static void write_dsr(struct i82078 *f, uint8_t v)
{
	f->dsr = v & 0x7f;
	f->rate = v & 3;
	if (!(v & 0x80))
		return;
	enter_reset(f);
	if (running(f))
		leave_reset(f);
}

static uint8_t main_status(const struct i82078 *f)
{
	bool to_guest;

	if (!running(f))
		return 0;
	switch (f->phase) {
	case FDC_IDLE: return 0x80;
	case FDC_COMMAND: return 0x90;
	case FDC_RESULT: return 0xd0;
	default:
		if (!fdc_wants_byte(f, &to_guest))
			return (uint8_t)(fdc_no_dma(f) ? 0x30 : 0x10);
		return to_guest ? 0xf0 : 0xb0;
	}
}

static uint8_t read_data(struct i82078 *f)
{
	bool to_guest;
	uint8_t v;

	if (!running(f))
		return 0xff;
	if (fdc_wants_byte(f, &to_guest) && to_guest)
		return fdc_byte_out(f);
	if (f->phase != FDC_RESULT)
		return 0xff;
	/* The first byte takes the interrupt back, but for seeks that ended meanwhile. */
	if (!f->result_at)
		f->interrupt = f->sought || f->sense_reset ? f->interrupt : false;
	v = f->result[f->result_at++];
	if (f->result_at == f->n_result)
		f->phase = FDC_IDLE;
	fdc_update(f);
	return v;
}

static void write_data(struct i82078 *f, uint8_t v)
{
	bool to_guest;

	if (!running(f))
		return;
	if (fdc_wants_byte(f, &to_guest) && !to_guest) {
		fdc_byte_in(f, v);
		return;
	}
	if (f->phase == FDC_IDLE)
		f->n_command = 0;
	else if (f->phase != FDC_COMMAND)
		return;
	f->command[f->n_command++] = v;
	f->phase = FDC_COMMAND;
	if (f->n_command == fdc_command_len(f))
		fdc_execute(f);
}

/* The line comes from the drive that is selected. */
static uint8_t read_dir(const struct i82078 *f)
{
	unsigned n = f->dor & DOR_DRIVE;

	return n < I82078_DRIVES && f->drive[n].disk.node && f->drive[n].changed ? 0x80 : 0;
}

static uint64_t low_read(void *opaque, uint64_t off, unsigned len)
{
	struct i82078 *f = opaque;

	switch (off) {
	case 2: return f->dor;
	case 3: return f->tape;
	case 4: return main_status(f);
	case 5: return read_data(f);
	default: return 0xff;		/* status registers A and B are PS/2's */
	}
}

static void low_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct i82078 *f = opaque;

	switch (off) {
	case 2: write_dor(f, (uint8_t)v); break;
	case 3: f->tape = v & 3; break;
	case 4: write_dsr(f, (uint8_t)v); break;
	case 5: write_data(f, (uint8_t)v); break;
	default: break;
	}
}

static uint64_t high_read(void *opaque, uint64_t off, unsigned len) { return read_dir(opaque); }

/* Configuration control: the data rate. */
static void high_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct i82078 *f = opaque;

	f->rate = v & 3;
}

static const struct bus_ops low_ops = { .read = low_read, .write = low_write, .max_len = 1 };
static const struct bus_ops high_ops = { .read = high_read, .write = high_write, .max_len = 1 };

/* ---- media ---- */

static struct fdc_drive *drive_of(const struct disk *d)
{
	return container_of((struct disk *)(uintptr_t)d, struct fdc_drive, disk);
}

static void media_state(const struct disk *d, struct disk_media_state *out)
{
	*out = (struct disk_media_state){ .no_medium = !drive_of(d)->medium };
}

/* A command that is under way finds no medium for its next sector: also when the slot is emptied, which lets the last one end. */
static int media_remove(struct disk *d)
{
	struct fdc_drive *v = drive_of(d);
	const struct fdc_format *was = v->medium;
	int ret;

	v->medium = NULL;
	ret = disk_take_medium(d);
	if (ret) {
		v->medium = was;
		return ret;
	}
	v->changed = true;
	/* What was kept to be repeated lay on this medium, and is looked for anew. */
	disk_forget(d, NULL, NULL, fdc_drop);
	fdc_go_on(v->fdc);
	return 0;
}

static int media_check(const struct disk *d, const struct blk_node *image, struct err *e)
{
	const struct fdc_drive *v = drive_of(d);
	const struct fdc_format *m = fdc_format_of(image->i.size);

	if (!m || !fits(v->kind, m))
		return err_set(e, -EINVAL, "%s: an image of %llu bytes is no medium for a drive of %s; start the guest with such an image to have another drive",
			       d->id, (unsigned long long)image->i.size,
			       v->kind == I82078_1200K ? "5.25 inches, 1200K" : v->kind == I82078_1440K ? "3.5 inches, 1440K" : "3.5 inches, 2880K");
	return 0;
}

static int media_insert(struct disk *d, struct blk_node *image, struct err *e)
{
	struct fdc_drive *v = drive_of(d);
	int ret = media_check(d, image, e);

	if (!ret)
		ret = disk_put_medium(d, image, e);
	if (ret)
		return ret;
	v->medium = fdc_format_of(image->i.size);
	v->changed = true;
	return 0;
}

static const struct disk_media_ops media_ops = { .writable = true, .state = media_state, .check = media_check, .remove = media_remove, .insert = media_insert };

int i82078_add(struct i82078 *f, unsigned n, const char *id, struct blk_node *node, const struct disk_opts *o, struct err *e)
{
	struct fdc_drive *d = &f->drive[n];
	const struct fdc_format *m = fdc_format_of(node->i.size);

	if (d->disk.node)
		return err_set(e, -EEXIST, "floppy drive %u is there already", n);
	if (node->i.size && !m)
		return err_set(e, -EINVAL, "%s: %llu bytes are no floppy disk's size; an image is of 160K, 180K, 320K, 360K, 720K, 1200K, 1440K or 2880K "
			       "(truncate -s 1440K makes it longer)", id, (unsigned long long)node->i.size);
	if (disk_init(&d->disk, f->dev.m, id, node, o, e)) {
		d->disk.node = NULL;
		return -EINVAL;
	}
	d->disk.media = &media_ops;
	d->fdc = f;
	d->medium = m;
	d->kind = kind_for(m);
	d->changed = true;
	return 0;
}

struct disk *i82078_disk(struct i82078 *f, unsigned n)
{
	return n < I82078_DRIVES && f->drive[n].disk.node ? &f->drive[n].disk : NULL;
}

enum i82078_kind i82078_kind(const struct i82078 *f, unsigned n)
{
	return f->drive[n].disk.node ? f->drive[n].kind : I82078_NONE;
}

/* ---- life cycle ---- */

static struct i82078 *of_dev(struct dev *d) { return container_of(d, struct i82078, dev); }

static void fdc_reset(struct dev *dev)
{
	struct i82078 *f = of_dev(dev);

	fdc_abort(f);
	f->dor = f->dsr = f->tape = 0;
	f->rate = 2;
	f->lock = f->perpendicular = f->last_sectors = 0;
	memset(f->specify, 0, sizeof(f->specify));
	memset(&f->run, 0, sizeof(f->run));
	for (unsigned n = 0; n < I82078_DRIVES; n++) {
		f->drive[n].cylinder = f->drive[n].passing = 0;
		f->drive[n].changed = true;
	}
	enter_reset(f);
}

static void fdc_pause(struct dev *dev)
{
	struct i82078 *f = of_dev(dev);

	f->paused = true;
	for (unsigned n = 0; n < I82078_DRIVES; n++)
		if (f->drive[n].disk.node)
			blk_drain(f->drive[n].disk.node);
}

static void fdc_resume(struct dev *dev)
{
	struct i82078 *f = of_dev(dev);

	f->paused = false;
	for (unsigned n = 0; n < I82078_DRIVES; n++)
		if (f->drive[n].disk.node)
			disk_retry(&f->drive[n].disk);
	fdc_go_on(f);
}

static void fdc_free(struct dev *dev)
{
	struct i82078 *f = of_dev(dev);

	f->dropped = true;
	for (unsigned n = 0; n < I82078_DRIVES; n++)
		if (f->drive[n].disk.node)
			disk_fini(&f->drive[n].disk, 0, fdc_drop);
	bus_del(&f->low);
	bus_del(&f->high);
	dev_del(dev);
	free(f);
}

/* ---- saved state ---- */

static const struct snap_field fields[] = {
	SNAP_FIELD(struct i82078, dor), SNAP_FIELD(struct i82078, dsr), SNAP_FIELD(struct i82078, rate), SNAP_FIELD(struct i82078, tape),
	SNAP_FIELD(struct i82078, phase), SNAP_FIELD(struct i82078, interrupt), SNAP_FIELD(struct i82078, n_command),
	SNAP_FIELD(struct i82078, n_result), SNAP_FIELD(struct i82078, result_at), SNAP_ARRAY(struct i82078, command),
	SNAP_ARRAY(struct i82078, result), SNAP_FIELD(struct i82078, sense_reset), SNAP_FIELD(struct i82078, sought),
	SNAP_ARRAY(struct i82078, sought_st0), SNAP_ARRAY(struct i82078, specify), SNAP_FIELD(struct i82078, config),
	SNAP_FIELD(struct i82078, precomp), SNAP_FIELD(struct i82078, perpendicular), SNAP_FIELD(struct i82078, lock),
	SNAP_FIELD(struct i82078, last_sectors), SNAP_ARRAY(struct i82078, sector), SNAP_END,
};
static const struct snap_table table = { "i82078", 1, fields };

static const struct snap_field run_fields[] = {
	SNAP_FIELD(struct fdc_run, transfer), SNAP_FIELD(struct fdc_run, step), SNAP_FIELD(struct fdc_run, drive), SNAP_FIELD(struct fdc_run, many),
	SNAP_FIELD(struct fdc_run, skip), SNAP_FIELD(struct fdc_run, deleted), SNAP_FIELD(struct fdc_run, head), SNAP_FIELD(struct fdc_run, c),
	SNAP_FIELD(struct fdc_run, h), SNAP_FIELD(struct fdc_run, r), SNAP_FIELD(struct fdc_run, n), SNAP_FIELD(struct fdc_run, eot),
	SNAP_FIELD(struct fdc_run, left), SNAP_FIELD(struct fdc_run, counted), SNAP_FIELD(struct fdc_run, stride), SNAP_FIELD(struct fdc_run, fill),
	SNAP_FIELD(struct fdc_run, over), SNAP_FIELD(struct fdc_run, below), SNAP_FIELD(struct fdc_run, above), SNAP_FIELD(struct fdc_run, at), SNAP_END,
};
static const struct snap_table run_table = { "i82078.run", 1, run_fields };

/* Of each drive; size: bytes of its medium, 0: none. */
struct drive_state {
	uint32_t size;
	uint8_t kind, changed, cylinder, passing;
};

static const struct snap_field drive_fields[] = {
	SNAP_FIELD(struct drive_state, size), SNAP_FIELD(struct drive_state, kind), SNAP_FIELD(struct drive_state, changed),
	SNAP_FIELD(struct drive_state, cylinder), SNAP_FIELD(struct drive_state, passing), SNAP_END,
};
static const struct snap_table drive_table = { "i82078.drive", 1, drive_fields };

static struct drive_state drive_state(const struct fdc_drive *d)
{
	return (struct drive_state){
		.size = d->disk.node && d->medium ? (uint32_t)size_of(d->medium) : 0, .kind = d->disk.node ? (uint8_t)d->kind : I82078_NONE,
		.changed = d->changed, .cylinder = d->cylinder, .passing = d->passing,
	};
}

static int fdc_save(struct dev *dev, struct snap_out *o)
{
	struct i82078 *f = of_dev(dev);
	int ret = snap_put(o, dev->id, &table, f);

	if (!ret)
		ret = snap_put(o, dev->id, &run_table, &f->run);
	for (unsigned n = 0; n < I82078_DRIVES && !ret; n++) {
		struct drive_state s = drive_state(&f->drive[n]);

		ret = snap_put(o, dev->id, &drive_table, &s);
	}
	return ret;
}

static int load_drive(struct i82078 *f, unsigned n, struct snap_in *in, struct err *e)
{
	struct fdc_drive *d = &f->drive[n];
	struct drive_state is = drive_state(d), s = { 0 };
	int ret = snap_get(in, f->dev.id, &drive_table, &s, e);

	if (ret)
		return ret;
	if (s.size != is.size || !s.kind != !is.kind)
		return err_set(e, -EINVAL, "saved state of %s has another drive %u, or another medium in it", f->dev.id, n);
	/* The medium in it may have come later than what made the drive of its kind. */
	if (s.kind && ((s.kind != I82078_1200K && s.kind != I82078_1440K && s.kind != I82078_2880K) || (d->medium && !fits(s.kind, d->medium))))
		return err_set(e, -EINVAL, "saved state of %s: drive %u is of kind %u", f->dev.id, n, s.kind);
	d->kind = s.kind;
	d->changed = s.changed & 1;
	d->cylinder = s.cylinder;
	d->passing = s.passing;
	return 0;
}

/* What the code relies on to stay inside of its arrays, and to come to an end. */
static bool sane(const struct i82078 *f)
{
	const struct fdc_run *x = &f->run;

	if (f->phase > FDC_RESULT || f->n_command > FDC_COMMAND_MAX || f->n_result > FDC_RESULT_MAX || f->sense_reset > 4 || f->sought > 15)
		return false;
	if (f->phase == FDC_COMMAND && (!f->n_command || f->n_command >= fdc_command_len(f)))
		return false;
	if (f->phase == FDC_RESULT && f->result_at >= f->n_result)
		return false;
	if (f->phase != FDC_EXECUTION)
		return true;
	if (x->transfer >= FDC_TRANSFERS || x->step > FDC_STEPS || x->drive > 3 || x->head > 1 || x->at > FDC_SECTOR)
		return false;
	/* Not at its end: that is no state in which a command can be left. */
	if (x->step == FDC_TAKE_ID ? x->at >= 4 : x->at >= FDC_SECTOR && x->step != FDC_WRITE_DISK)
		return false;
	/* The steps that go with the transfer; a sum of bits for each.  FDC_STEPS: the disk answered when all stood still. */
	static const uint8_t steps[FDC_TRANSFERS] = {
		[FDC_READ] = 1 << FDC_READ_DISK | 1 << FDC_TO_HOST, [FDC_WRITE] = 1 << FDC_FROM_HOST | 1 << FDC_WRITE_DISK | 1 << FDC_STEPS,
		[FDC_VERIFY] = 1 << FDC_READ_DISK | 1 << FDC_STEPS, [FDC_SCAN_EQUAL] = 1 << FDC_READ_DISK | 1 << FDC_COMPARE,
		[FDC_SCAN_LOW] = 1 << FDC_READ_DISK | 1 << FDC_COMPARE, [FDC_SCAN_HIGH] = 1 << FDC_READ_DISK | 1 << FDC_COMPARE,
		[FDC_FORMAT] = 1 << FDC_TAKE_ID | 1 << FDC_WRITE_DISK | 1 << FDC_STEPS,
	};

	return steps[x->transfer] >> x->step & 1 && (x->transfer < FDC_SCAN_EQUAL || x->transfer > FDC_SCAN_HIGH || x->stride);
}

static int fdc_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct i82078 *f = of_dev(dev);
	int ret;

	fdc_abort(f);
	ret = snap_get(in, dev->id, &table, f, e);
	if (!ret)
		ret = snap_get(in, dev->id, &run_table, &f->run, e);
	for (unsigned n = 0; n < I82078_DRIVES && !ret; n++)
		ret = load_drive(f, n, in, e);
	if (!ret && !sane(f))
		ret = err_set(e, -EINVAL, "saved state of %s: no state that a controller can be in", dev->id);
	if (ret) {
		fdc_reset(dev);
		return ret;
	}
	f->rate &= 3;
	f->tape &= 3;
	f->lock &= 1;
	f->perpendicular &= 0x3f;
	f->interrupt &= 1;
	fdc_update(f);
	return 0;
}

static const struct dev_ops fdc_dev_ops = {
	.name = "i82078", .reset = fdc_reset, .pause = fdc_pause, .resume = fdc_resume, .save = fdc_save, .load = fdc_load, .free = fdc_free,
};

int i82078_new(struct machine *m, const struct i82078_config *c, struct i82078 **out)
{
	struct i82078 *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->cfg = *c;
	f->low = (struct bus_region){ .name = "i82078", .ops = &low_ops, .opaque = f, .base = c->base, .size = 6, .priority = 1 };
	f->high = (struct bus_region){ .name = "i82078", .ops = &high_ops, .opaque = f, .base = c->base + 7u, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &f->low);
	if (!ret)
		ret = bus_add(m->pio, &f->high);
	if (ret) {
		bus_del(&f->low);
		free(f);
		return ret;
	}
	dev_add(m, &f->dev, &fdc_dev_ops, "pc.i82078");
	i8237_attach(c->dma, c->channel, dma_ready, f);
	fdc_reset(&f->dev);
	*out = f;
	return 0;
}
