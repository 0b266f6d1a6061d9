/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-scsi from the driver's side (virtio 1.2, 5.6): addresses, commands and
 * their answers, task management, events, failures of the host, saved state in
 * mid-request, and what no honest driver does.
 */
#include "guest_ring.h"

#include "virtio/scsi.h"

#define DISK (1u << 20)
#define CMD 0x100000
#define RESP 0x101000
#define DATA 0x200000
#define EVENTS 0x300000
#define SENSE 96
#define RESP_LEN (12 + SENSE)
#define CMD_LEN (19 + 32)

#define F_HOTPLUG (1ull << 1)
#define F_CHANGE (1ull << 2)

enum { CONTROL, EVENT, REQUEST, REQUEST2 };
enum { S_OK = 0, S_ABORTED = 2, S_BAD_TARGET = 3, S_RESET = 4, S_FAILURE = 9, S_SUCCEEDED = 10, S_REJECTED = 11, S_INCORRECT_LUN = 12, NONE = 0xaa };

struct fixture {
	struct guest g;
	struct blk_node *disk, *other, *cd;
	struct virtio_dev *d;
	uint64_t id;
};

static void add(struct fixture *f, unsigned target, unsigned lun, const char *id, bool cd, struct blk_node **node)
{
	struct disk_opts o = { .serial = "SN", .on_write_error = DISK_ENOSPC };
	struct err e = { 0 };
	int ret;

	assert_int_equal(blk_open_mem(f->g.m->loop, DISK, node), 0);
	(*node)->i.can_discard = (*node)->i.can_zero = true;
	(*node)->i.read_only = cd;
	machine_lock(f->g.m);
	ret = virtio_scsi_add(f->d, target, lun, id, *node, cd, &o, &e);
	machine_unlock(f->g.m);
	assert_int_equal(ret, 0);
}

/* A disk at 0:0, another at 2:5, a CD at 2:300. */
static void make(struct fixture *f)
{
	struct virtio_scsi_opts o = { .queues = 2 };
	struct err e = { 0 };

	guest_init(&f->g);
	assert_int_equal(virtio_scsi_new(f->g.m, "scsi0", &o, &f->d, &e), 0);
	f->g.d = f->d;
	add(f, 0, 0, "disk0", false, &f->disk);
	add(f, 2, 5, "disk1", false, &f->other);
	add(f, 2, 300, "disk2", true, &f->cd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	make(f);
	assert_true(guest_start(&f->g, f->d, F_HOTPLUG | F_CHANGE));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_fini(&f->g);
	free(f);
	return 0;
}

static void address(uint8_t *p, unsigned target, unsigned lun)
{
	memset(p, 0, 8);
	p[0] = 1;
	p[1] = (uint8_t)target;
	p[2] = (uint8_t)(lun >> 8 | (lun > 255 ? 0x40 : 0));
	p[3] = (uint8_t)lun;
}

/* A command in slot `slot` of guest memory; data goes to (write) or comes from DATA + slot MiB. */
static void submit(struct fixture *f, unsigned slot, unsigned q, unsigned target, unsigned lun, const uint8_t *cdb, uint32_t len, bool write)
{
	uint64_t cmd = CMD + slot * 0x200, resp = RESP + slot * 0x200, data = DATA + slot * 0x10000ull;
	struct piece p[3] = { { cmd, CMD_LEN, false } };
	uint8_t *c = f->g.ram + cmd;
	unsigned n = 1;

	memset(c, 0, CMD_LEN);
	address(c, target, lun);
	st_le64(c + 8, ++f->id);
	memcpy(c + 19, cdb, SCSI_CDB_MAX);
	memset(f->g.ram + resp, NONE, RESP_LEN);
	if (len && write)
		p[n++] = (struct piece){ data, len, false };
	p[n++] = (struct piece){ resp, RESP_LEN, true };
	if (len && !write)
		p[n++] = (struct piece){ data, len, true };
	guest_add(&f->g, q, p, n);
	guest_kick(&f->g, q);
}

static const uint8_t *response(struct fixture *f, unsigned slot)
{
	return f->g.ram + RESP + slot * 0x200;
}

/* Sense of a command that was answered, 0 if it was good. */
static uint32_t sense(struct fixture *f, unsigned slot)
{
	const uint8_t *r = response(f, slot);

	assert_int_equal(r[11], S_OK);
	assert_int_equal(ld_le32(r), r[10] == SCSI_CHECK ? SCSI_SENSE_LEN : 0);
	return r[10] == SCSI_CHECK ? (uint32_t)(r[14] << 16 | r[24] << 8 | r[25]) : 0;
}

static uint32_t run(struct fixture *f, unsigned target, unsigned lun, const uint8_t *cdb, uint32_t len, bool write)
{
	submit(f, 0, REQUEST, target, lun, cdb, len, write);
	guest_wait(&f->g, REQUEST, NULL);
	return sense(f, 0);
}

#define C(...) ((const uint8_t[SCSI_CDB_MAX]){ __VA_ARGS__ })

/* Power-on is told to each. */
static void ready(struct fixture *f)
{
	assert_int_equal(run(f, 0, 0, C(0), 0, false), 0x062900);
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0x062900);
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0x062900);
}

static void read_and_write(void **state)
{
	struct fixture *f = *state;
	uint32_t len;

	ready(f);
	memset(f->g.ram + DATA, 0x42, 4096);
	assert_int_equal(run(f, 0, 0, C(0x2a, 0, 0, 0, 0, 8, 0, 0, 8), 4096, true), 0);
	assert_int_equal(blk_mem_data(f->disk)[4096], 0x42);
	assert_int_equal(blk_mem_data(f->other)[4096], 0);
	memset(f->g.ram + DATA, 0, 4096);
	submit(f, 0, REQUEST2, 0, 0, C(0x28, 0, 0, 0, 0, 8, 0, 0, 8), 4096, false);
	len = guest_wait(&f->g, REQUEST2, NULL);
	assert_int_equal(len, RESP_LEN + 4096);
	assert_int_equal(f->g.ram[DATA + 4095], 0x42);
	/* More room than data: the rest is the residual. */
	submit(f, 0, REQUEST, 0, 0, C(0x28, 0, 0, 0, 0, 8, 0, 0, 1), 4096, false);
	assert_int_equal(guest_wait(&f->g, REQUEST, NULL), RESP_LEN + 512);
	assert_int_equal(ld_le32(response(f, 0) + 4), 4096 - 512);
	assert_int_equal(run(f, 0, 0, C(0x28, 0, 0, 0, DISK >> 17, 0, 0, 0, 1), 512, false), 0x052100);
	assert_int_equal(ld_le32(response(f, 0) + 4), 512);
	/* What was told with the status is not told again. */
	assert_int_equal(run(f, 0, 0, C(0x03, 0, 0, 0, 18), 18, false), 0);
	assert_int_equal(f->g.ram[DATA + 2], 0);
	assert_true(f->g.irqs[REQUEST] && f->g.irqs[REQUEST2]);
}

/* 2.7.4.1: header, data and response may be cut anywhere. */
static void any_layout(void **state)
{
	struct fixture *f = *state;
	const struct piece p[4] = { { CMD, 7, false }, { CMD + 7, CMD_LEN - 7, false }, { RESP, 5, true }, { RESP + 5, RESP_LEN - 5 + 512, true } };

	ready(f);
	blk_mem_data(f->disk)[511] = 0x33;
	memset(f->g.ram + CMD, 0, CMD_LEN);
	address(f->g.ram + CMD, 0, 0);
	memcpy(f->g.ram + CMD + 19, C(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 16);
	memset(f->g.ram + RESP, NONE, RESP_LEN + 513);
	guest_add(&f->g, REQUEST, p, 4);
	guest_kick(&f->g, REQUEST);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(sense(f, 0), 0);
	assert_int_equal(f->g.ram[RESP + RESP_LEN + 511], 0x33);
	assert_int_equal(f->g.ram[RESP + RESP_LEN + 512], NONE);
}

static void addresses(void **state)
{
	struct fixture *f = *state;
	const uint8_t inquiry[SCSI_CDB_MAX] = { 0x12, 0, 0, 0, 36 };

	/* A target without unit 0 says so, lists what it has, and is no target for other commands. */
	assert_int_equal(run(f, 2, 0, inquiry, 36, false), 0);
	assert_int_equal(f->g.ram[DATA], 0x3f);
	assert_int_equal(run(f, 2, 7, inquiry, 36, false), 0);
	assert_int_equal(f->g.ram[DATA], 0x7f);
	assert_int_equal(run(f, 2, 0, C(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), 64, false), 0);
	assert_int_equal(scsi_ld32(f->g.ram + DATA), 16);
	assert_int_equal(scsi_ld16(f->g.ram + DATA + 8), 5);
	assert_int_equal(scsi_ld16(f->g.ram + DATA + 16), 0x4000 | 300);
	assert_int_equal(run(f, 2, 0, C(0), 0, false), 0x052500);
	assert_int_equal(run(f, 2, 300, inquiry, 36, false), 0);
	assert_int_equal(f->g.ram[DATA], 5);
	submit(f, 0, REQUEST, 1, 0, inquiry, 36, false);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(response(f, 0)[11], S_BAD_TARGET);
	assert_int_equal(ld_le32(response(f, 0) + 4), 36);
	/* Forms of addresses that are not taken. */
	for (unsigned i = 0; i < 3; i++) {
		const struct piece p[2] = { { CMD, CMD_LEN, false }, { RESP, RESP_LEN, true } };

		address(f->g.ram + CMD, 0, 0);
		f->g.ram[CMD + (i == 0 ? 0 : i == 1 ? 2 : 5)] = i == 1 ? 0x80 : 2;
		guest_add(&f->g, REQUEST, p, 2);
		guest_kick(&f->g, REQUEST);
		guest_wait(&f->g, REQUEST, NULL);
		assert_int_equal(response(f, 0)[11], S_BAD_TARGET);
	}
}

/* Both ways at once is a feature that was not offered. */
static void bidirectional(void **state)
{
	struct fixture *f = *state;
	const struct piece p[4] = { { CMD, CMD_LEN, false }, { DATA, 512, false }, { RESP, RESP_LEN, true }, { DATA + 512, 512, true } };

	address(f->g.ram + CMD, 0, 0);
	guest_add(&f->g, REQUEST, p, 4);
	guest_kick(&f->g, REQUEST);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(response(f, 0)[11], S_FAILURE);
}

static void config(void **state)
{
	struct fixture *f = *state;
	uint32_t v;

	virtio_dev_config_access(f->d, 0, &v, 4, false);
	assert_int_equal(v, 2);
	/* Longer command blocks and shorter sense data, as the driver likes. */
	v = 12;
	virtio_dev_config_access(f->d, 20, &v, 4, true);
	v = 64;
	virtio_dev_config_access(f->d, 24, &v, 4, true);
	for (unsigned i = 0; i < 2; i++) {
		v = i ? 256 : 0;
		virtio_dev_config_access(f->d, 24, &v, 4, true);
		virtio_dev_config_access(f->d, 24, &v, 4, false);
		assert_int_equal(v, 64);
	}
	v = 1;
	virtio_dev_config_access(f->d, 0, &v, 4, true);
	virtio_dev_config_access(f->d, 0, &v, 4, false);
	assert_int_equal(v, 2);
	{
		const struct piece p[2] = { { CMD, 19 + 64, false }, { RESP, 12 + 12, true } };

		memset(f->g.ram + CMD, 0, 19 + 64);
		memset(f->g.ram + RESP, NONE, 64);
		address(f->g.ram + CMD, 0, 0);
		guest_add(&f->g, REQUEST, p, 2);
		guest_kick(&f->g, REQUEST);
		assert_int_equal(guest_wait(&f->g, REQUEST, NULL), 24);
		assert_int_equal(ld_le32(f->g.ram + RESP), 12);
		assert_int_equal(f->g.ram[RESP + 14], SENSE_ATTENTION);
		assert_int_equal(f->g.ram[RESP + 24], NONE);
	}
	/* A reset brings the sizes back. */
	assert_true(guest_start(&f->g, f->d, 0));
	virtio_dev_config_access(f->d, 20, &v, 4, false);
	assert_int_equal(v, 96);
}

/* ---- task management ---- */

static uint64_t put_tmf(struct fixture *f, unsigned slot, uint32_t what, unsigned target, unsigned lun, uint64_t id)
{
	uint64_t at = CMD + 0x8000 + slot * 0x100;
	const struct piece p[2] = { { at, 24, false }, { at + 24, 1, true } };
	uint8_t *c = f->g.ram + at;

	st_le32(c, 0);
	st_le32(c + 4, what);
	address(c + 8, target, lun);
	st_le64(c + 16, id);
	c[24] = NONE;
	guest_add(&f->g, CONTROL, p, 2);
	guest_kick(&f->g, CONTROL);
	return at + 24;
}

static uint8_t tmf(struct fixture *f, uint32_t what, unsigned target, unsigned lun, uint64_t id)
{
	uint64_t at = put_tmf(f, 0, what, target, lun, id);

	guest_wait(&f->g, CONTROL, NULL);
	return f->g.ram[at];
}

static void hold(struct fixture *f, struct blk_node *n, bool on)
{
	machine_lock(f->g.m);
	blk_mem_hold(n, on);
	machine_unlock(f->g.m);
}

static void task_management(void **state)
{
	struct fixture *f = *state;
	uint64_t at, first;

	ready(f);
	assert_int_equal(tmf(f, 7, 0, 0, 0), S_OK);
	hold(f, f->disk, true);
	submit(f, 1, REQUEST, 0, 0, C(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512, false);
	first = f->id;
	submit(f, 2, REQUEST, 0, 0, C(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 512, false);
	guest_settle(&f->g);
	assert_int_equal(tmf(f, 6, 0, 0, first), S_SUCCEEDED);
	assert_int_equal(tmf(f, 6, 0, 0, 9999), S_OK);
	assert_int_equal(tmf(f, 7, 0, 0, 0), S_SUCCEEDED);
	assert_int_equal(tmf(f, 0, 0, 0, 9999), S_OK);		/* not there: aborted already */
	assert_int_equal(tmf(f, 2, 0, 0, 0), S_REJECTED);
	assert_int_equal(tmf(f, 1, 2, 9, 0), S_INCORRECT_LUN);
	assert_int_equal(tmf(f, 1, 9, 0, 0), S_BAD_TARGET);
	assert_int_equal(tmf(f, 5, 2, 5, 0), S_OK);		/* of another unit: nothing is under way there */
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0x062903);
	/* The host cannot be called back: the function waits, and says so when it is over. */
	at = put_tmf(f, 1, 0, 0, 0, first);
	guest_settle(&f->g);
	assert_int_equal(f->g.ram[at], NONE);
	hold(f, f->disk, false);
	guest_wait(&f->g, CONTROL, NULL);
	assert_int_equal(f->g.ram[at], S_OK);
	guest_wait(&f->g, REQUEST, NULL);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(sense(f, 1), 0);
	assert_int_equal(sense(f, 2), 0);
}

static void target_reset(void **state)
{
	struct fixture *f = *state;
	uint64_t at;

	ready(f);
	hold(f, f->other, true);
	submit(f, 1, REQUEST, 2, 5, C(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512, false);
	guest_settle(&f->g);
	at = put_tmf(f, 1, 4, 2, 0, 0);
	guest_settle(&f->g);
	assert_int_equal(f->g.ram[at], NONE);
	/* What begins afterwards is not waited for. */
	submit(f, 2, REQUEST2, 2, 5, C(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512, false);
	guest_settle(&f->g);
	hold(f, f->other, false);
	guest_wait(&f->g, CONTROL, NULL);
	assert_int_equal(f->g.ram[at], S_OK);
	guest_wait(&f->g, REQUEST, NULL);
	guest_wait(&f->g, REQUEST2, NULL);
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0x062903);
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0x062903);
	assert_int_equal(run(f, 0, 0, C(0), 0, false), 0);
}

/* ---- events ---- */

static void give_event(struct fixture *f, unsigned i)
{
	const struct piece p = { EVENTS + 16 * i, 16, true };

	memset(f->g.ram + EVENTS + 16 * i, NONE, 16);
	guest_add(&f->g, EVENT, &p, 1);
	guest_kick(&f->g, EVENT);
	guest_settle(&f->g);
}

static void resize(struct fixture *f, struct disk *d, uint64_t size)
{
	struct err e = { 0 };
	int ret;

	machine_lock(f->g.m);
	ret = disk_resize(d, size, &e);
	d->resized(d);
	machine_unlock(f->g.m);
	assert_int_equal(ret, 0);
}

static void events(void **state)
{
	struct fixture *f = *state;
	const uint8_t *ev = f->g.ram + EVENTS;
	struct blk_node *more;
	struct disk *d;

	ready(f);
	give_event(f, 0);
	add(f, 2, 6, "disk3", false, &more);
	assert_int_equal(guest_wait(&f->g, EVENT, NULL), 16);
	assert_int_equal(ld_le32(ev), 1);
	assert_int_equal(ev[5], 2);
	assert_int_equal(ev[7], 6);
	assert_int_equal(ld_le32(ev + 12), 1);			/* rescan */
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0x063f0e);
	assert_int_equal(run(f, 0, 0, C(0), 0, false), 0);
	/* Without a buffer it is missed, and the next one says so. */
	d = &virtio_scsi_unit(f->d, 0, 0)->disk;
	resize(f, d, DISK / 2);
	give_event(f, 1);
	guest_wait(&f->g, EVENT, NULL);
	assert_int_equal(ld_le32(ev + 16), 0x80000000);
	assert_int_equal(run(f, 0, 0, C(0), 0, false), 0x062a09);
	give_event(f, 2);
	resize(f, d, DISK);
	guest_wait(&f->g, EVENT, NULL);
	assert_int_equal(ld_le32(ev + 32), 3);
	assert_int_equal(ld_le32(ev + 44), 0x092a);
}

static void notifications(void **state)
{
	struct fixture *f = *state;
	uint8_t *c = f->g.ram + CMD + 0x9000;
	const struct piece p[2] = { { CMD + 0x9000, 16, false }, { CMD + 0x9010, 5, true } };
	struct scsi_lun *cd = virtio_scsi_unit(f->d, 2, 300);

	ready(f);
	for (unsigned i = 1; i < 3; i++) {			/* query, then subscribe */
		st_le32(c, i);
		address(c + 4, 2, 300);
		st_le32(c + 12, 0xffffffff);
		guest_add(&f->g, CONTROL, p, 2);
		guest_kick(&f->g, CONTROL);
		guest_wait(&f->g, CONTROL, NULL);
		assert_int_equal(ld_le32(c + 16), 2);
		assert_int_equal(c[20], S_OK);
	}
	give_event(f, 0);
	machine_lock(f->g.m);
	scsi_open_tray(cd, false);
	machine_unlock(f->g.m);
	guest_wait(&f->g, EVENT, NULL);
	assert_int_equal(ld_le32(f->g.ram + EVENTS), 2);
	assert_int_equal(scsi_ld16(f->g.ram + EVENTS + 6), 0x4000 | 300);
	assert_int_equal(ld_le32(f->g.ram + EVENTS + 12), 2);
	address(c + 4, 0, 0);					/* a disk has none */
	guest_add(&f->g, CONTROL, p, 2);
	guest_kick(&f->g, CONTROL);
	guest_wait(&f->g, CONTROL, NULL);
	assert_int_equal(ld_le32(c + 16), 0);
}

static void on_tray(void *opaque, struct disk *d, bool open)
{
	*(int *)opaque = open;
}

/* The guest's ways with a tray, and the user's. */
static void tray(void **state)
{
	struct fixture *f = *state;
	struct scsi_lun *cd = virtio_scsi_unit(f->d, 2, 300);
	int told = -1, ret;

	ready(f);
	cd->disk.watch = (struct disk_watch){ .tray = on_tray, .opaque = &told };
	assert_non_null(cd->disk.media);
	assert_int_equal(run(f, 2, 300, C(0x1e, 0, 0, 0, 1), 0, false), 0);
	assert_int_equal(run(f, 2, 300, C(0x1b, 0, 0, 0, 2), 0, false), 0x055302);
	machine_lock(f->g.m);
	ret = scsi_open_tray(cd, false);
	machine_unlock(f->g.m);
	assert_int_equal(ret, -EINPROGRESS);
	assert_int_equal(told, -1);
	/* The guest is asked, lets go and opens it. */
	assert_int_equal(run(f, 2, 300, C(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 8, false), 0);
	assert_int_equal(f->g.ram[DATA + 4], 1);
	assert_int_equal(run(f, 2, 300, C(0x1e), 0, false), 0);
	assert_int_equal(run(f, 2, 300, C(0x1b, 0, 0, 0, 2), 0, false), 0);
	assert_int_equal(told, 1);
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0x023a02);
	assert_int_equal(run(f, 2, 300, C(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 8, false), 0);
	assert_int_equal(f->g.ram[DATA + 4], 3);
	assert_int_equal(f->g.ram[DATA + 5], 1);
	machine_lock(f->g.m);
	scsi_close_tray(cd);
	machine_unlock(f->g.m);
	assert_int_equal(told, 0);
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0x062800);
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0);
	assert_int_equal(run(f, 2, 300, C(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 8, false), 0);
	assert_int_equal(f->g.ram[DATA + 4], 2);
	assert_int_equal(f->g.ram[DATA + 5], 2);
	cd->disk.watch = (struct disk_watch){ 0 };
}

/* ---- failures of the host, saved state ---- */

/* A write that failed for want of room, and a function that waits for nothing else. */
static void fail_one(struct fixture *f)
{
	ready(f);
	memset(f->g.ram + DATA + 0x10000, 0x5a, 512);
	machine_lock(f->g.m);
	blk_mem_fail_with(f->disk, 1, -ENOSPC, false);
	machine_unlock(f->g.m);
	submit(f, 1, REQUEST2, 0, 0, C(0x2a, 0, 0, 0, 0, 3, 0, 0, 1), 512, true);
	guest_settle(&f->g);
	assert_int_equal(response(f, 1)[11], NONE);
	assert_int_equal(disk_kept(&virtio_scsi_unit(f->d, 0, 0)->disk), 1);
}

static void pause_resume(struct fixture *f)
{
	machine_lock(f->g.m);
	virtio_dev_pause(f->d);
	virtio_dev_resume(f->d);
	machine_unlock(f->g.m);
}

static void kept(void **state)
{
	struct fixture *f = *state;

	fail_one(f);
	pause_resume(f);
	guest_wait(&f->g, REQUEST2, NULL);
	assert_int_equal(sense(f, 1), 0);
	assert_int_equal(blk_mem_data(f->disk)[3 * 512], 0x5a);
}

/* What is kept can be aborted, and its function is answered at once. */
static void kept_aborted(void **state)
{
	struct fixture *f = *state;

	fail_one(f);
	assert_int_equal(tmf(f, 1, 0, 0, 0), S_OK);
	guest_wait(&f->g, REQUEST2, NULL);
	assert_int_equal(response(f, 1)[11], S_ABORTED);
	assert_int_equal(blk_mem_data(f->disk)[3 * 512], 0);
	f->g.ram[DATA] = 1;
	pause_resume(f);
	guest_settle(&f->g);
	assert_int_equal(blk_mem_data(f->disk)[3 * 512], 0);
}

static void take_out(struct fixture *f, struct blk_node *node)
{
	unsigned target = 99, lun = 99;
	struct disk *d = NULL;

	machine_lock(f->g.m);
	for (unsigned t = 0; t < 3 && !d; t++)
		for (unsigned l = 0; l < 400 && !d; l++)
			if (virtio_scsi_unit(f->d, t, l) && virtio_scsi_unit(f->d, t, l)->disk.node == node)
				d = &virtio_scsi_unit(f->d, t, l)->disk;
	assert_true(virtio_scsi_place(f->d, d, &target, &lun));
	virtio_scsi_remove(f->d, d);
	assert_null(virtio_scsi_unit(f->d, target, lun));
	machine_unlock(f->g.m);
}

/* A unit that goes answers what it had, and the driver and its neighbours hear of it. */
static void removed(void **state)
{
	struct fixture *f = *state;
	const uint8_t *ev = f->g.ram + EVENTS;

	ready(f);
	give_event(f, 0);
	take_out(f, f->other);
	assert_int_equal(guest_wait(&f->g, EVENT, NULL), 16);
	assert_int_equal(ld_le32(ev), 1);
	assert_int_equal(ev[5], 2);
	assert_int_equal(ev[7], 5);
	assert_int_equal(ld_le32(ev + 12), 2);			/* removed */
	assert_int_equal(run(f, 2, 300, C(0), 0, false), 0x063f0e);
	submit(f, 0, REQUEST, 2, 5, C(0), 0, false);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(response(f, 0)[10], SCSI_CHECK);	/* no such unit of the target */
	take_out(f, f->cd);
	submit(f, 0, REQUEST, 2, 300, C(0), 0, false);
	guest_wait(&f->g, REQUEST, NULL);
	assert_int_equal(response(f, 0)[11], S_BAD_TARGET);
	/* The place is free again. */
	add(f, 2, 5, "disk1", false, &f->other);
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0x062900);
}

static void removed_with_kept_requests(void **state)
{
	struct fixture *f = *state;

	fail_one(f);
	take_out(f, f->disk);
	guest_wait(&f->g, REQUEST2, NULL);
	assert_int_equal(response(f, 1)[11], S_BAD_TARGET);
	pause_resume(f);
	assert_int_equal(run(f, 2, 5, C(0), 0, false), 0);
}

static void *save(struct fixture *f, size_t *len)
{
	struct snap_out *o;
	const void *p;
	void *copy;

	machine_lock(f->g.m);
	virtio_dev_pause(f->d);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(virtio_dev_save(f->d, o), 0);
	p = snap_out_data(o, len);
	copy = malloc(*len);
	memcpy(copy, p, *len);
	snap_out_free(o);
	machine_unlock(f->g.m);
	return copy;
}

static int load(struct fixture *f, const void *p, size_t len)
{
	struct err e = { 0 };
	struct snap_in *in;
	int ret;

	machine_lock(f->g.m);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	ret = virtio_dev_load(f->d, in, &e);
	snap_in_free(in);
	machine_unlock(f->g.m);
	return ret;
}

/* Saved with a request that is to be repeated, and loaded into another machine with the same memory. */
static void saved_in_mid_request(void **state)
{
	struct fixture *f = *state, *g = calloc(1, sizeof(*g));
	struct scsi_lun_state was, is;
	size_t len;
	void *p;

	fail_one(f);
	assert_int_equal(run(f, 2, 300, C(0x1e, 0, 0, 0, 1), 0, false), 0);	/* locks the tray */
	p = save(f, &len);
	make(g);
	g->d->transport = &guest_transport;
	g->d->transport_opaque = &g->g;
	virtio_dev_pause(g->d);
	memcpy(g->g.ram, f->g.ram, GUEST_RAM);
	memcpy(g->g.used_seen, f->g.used_seen, sizeof(g->g.used_seen));
	assert_int_equal(load(g, p, len), 0);
	was = scsi_lun_get(virtio_scsi_unit(f->d, 2, 300));
	is = scsi_lun_get(virtio_scsi_unit(g->d, 2, 300));
	assert_int_equal(is.locked, 1);
	assert_int_equal(was.attention, is.attention);
	machine_lock(g->g.m);
	virtio_dev_resume(g->d);
	machine_unlock(g->g.m);
	guest_wait(&g->g, REQUEST2, NULL);
	assert_int_equal(sense(g, 1), 0);
	assert_int_equal(blk_mem_data(g->disk)[3 * 512], 0x5a);
	/* Every byte of it may be wrong: refused or taken, never worse. */
	for (size_t i = 0; i < len; i++) {
		machine_lock(g->g.m);
		virtio_dev_pause(g->d);
		machine_unlock(g->g.m);
		((uint8_t *)p)[i] ^= 0x81;
		if (load(g, p, len)) {
			machine_lock(g->g.m);
			virtio_dev_reset(g->d);
			machine_unlock(g->g.m);
		}
		((uint8_t *)p)[i] ^= 0x81;
		machine_lock(g->g.m);
		virtio_dev_resume(g->d);
		machine_unlock(g->g.m);
		guest_settle(&g->g);
	}
	free(p);
	guest_fini(&g->g);
	free(g);
}

/* ---- nonsense ---- */

static void no_room(void **state)
{
	struct fixture *f = *state;
	const struct { unsigned q; struct piece p[2]; } bad[] = {
		{ REQUEST, { { CMD, CMD_LEN - 1, false }, { RESP, RESP_LEN, true } } },
		{ REQUEST, { { CMD, CMD_LEN, false }, { RESP, RESP_LEN - 1, true } } },
		{ CONTROL, { { CMD, 23, false }, { RESP, 1, true } } },
		{ CONTROL, { { CMD, 24, false }, { RESP, 1, false } } },
		{ CONTROL, { { CMD + 0x100, 24, false }, { RESP, 1, true } } },	/* no type there is */
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(guest_start(&f->g, f->d, 0));
		memset(f->g.ram + CMD, 0, CMD_LEN);
		st_le32(f->g.ram + CMD + 0x100, 3);
		guest_add(&f->g, bad[i].q, bad[i].p, 2);
		guest_kick(&f->g, bad[i].q);
		guest_settle(&f->g);
		assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
	}
	/* A buffer for events that is too short. */
	assert_true(guest_start(&f->g, f->d, F_HOTPLUG));
	guest_add(&f->g, EVENT, &(const struct piece){ EVENTS, 15, true }, 1);
	add(f, 7, 0, "disk3", false, &f->other);
	guest_settle(&f->g);
	assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
	assert_true(guest_start(&f->g, f->d, 0));
	ready(f);
}

/* A reset with requests on the host: none of them reaches the memory of a later life. */
static void reset_under_way(void **state)
{
	struct fixture *f = *state;
	uint64_t at;

	ready(f);
	hold(f, f->disk, true);
	for (unsigned i = 0; i < 8; i++)
		submit(f, i, REQUEST + i % 2, 0, 0, C(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512, false);
	at = put_tmf(f, 1, 5, 0, 0, 0);
	guest_settle(&f->g);
	assert_true(guest_start(&f->g, f->d, 0));
	memset(f->g.ram + DATA, NONE, 512);
	f->g.ram[at] = NONE;
	hold(f, f->disk, false);
	guest_settle(&f->g);
	assert_int_equal(f->g.ram[DATA], NONE);
	assert_int_equal(f->g.ram[at], NONE);
	ready(f);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(read_and_write), T(any_layout), T(addresses), T(bidirectional), T(config), T(task_management), T(target_reset), T(events), T(removed), T(removed_with_kept_requests),
		T(notifications), T(tray), T(kept), T(kept_aborted), T(saved_in_mid_request), T(no_room), T(reset_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
