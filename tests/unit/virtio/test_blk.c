/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk from the driver's side (virtio 1.2, 5.2): what each request does,
 * and what becomes of those no honest driver makes.
 */
#include "guest_ring.h"

#include "virtio/blk.h"

#define DISK (1u << 20)
#define HDR 0x100000
#define DATA 0x200000
#define STATUS 0x101000

#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)
#define F_CONFIG_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP, S_NONE = 0xaa };

struct fixture {
	struct guest g;
	struct blk_node *node;
	struct virtio_dev *d;
};

static void make(struct fixture *f, const struct virtio_blk_opts *o, bool read_only)
{
	struct err e = { 0 };

	guest_init(&f->g);
	assert_int_equal(blk_open_mem(f->g.m->loop, DISK, &f->node), 0);
	f->node->i.read_only = read_only;
	assert_int_equal(virtio_blk_new(f->g.m, "disk0", f->node, o, &f->d, &e), 0);
	f->g.d = f->d;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct virtio_blk_opts o = { .disk.serial = "LODGE-0001", .queues = 2 };

	make(f, &o, false);
	assert_true(guest_start(&f->g, f->d, F_FLUSH | F_DISCARD | F_WRITE_ZEROES | F_MQ | F_CONFIG_WCE));
	*state = f;
	return 0;
}

/* With a driver that kicks only where it was asked to. */
static int setup_event_idx(void **state)
{
	struct fixture *f;

	setup(state);
	f = *state;
	f->g.always = VIRTIO_F_EVENT_IDX;
	return !guest_start(&f->g, f->d, F_FLUSH | F_DISCARD | F_WRITE_ZEROES | F_MQ | F_CONFIG_WCE);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_fini(&f->g);
	free(f);
	return 0;
}

static void header(struct fixture *f, uint32_t type, uint64_t sector)
{
	uint8_t *h = f->g.ram + HDR;

	st_le32(h, type);
	st_le32(h + 4, 0);
	st_le64(h + 8, sector);
	f->g.ram[STATUS] = S_NONE;
}

/* Header, data, status as three descriptors; returns the status. */
static int request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	struct piece p[3] = { { HDR, 16, false }, { DATA, len, in }, { STATUS, 1, true } };

	header(f, type, sector);
	if (!len)
		p[1] = p[2];
	guest_add(&f->g, 0, p, len ? 3 : 2);
	guest_kick(&f->g, 0);
	guest_wait(&f->g, 0, NULL);
	return f->g.ram[STATUS];
}

static void read_and_write(void **state)
{
	struct fixture *f = *state;

	memset(f->g.ram + DATA, 0x42, 4096);
	assert_int_equal(request(f, T_OUT, 8, 4096, false), S_OK);
	assert_int_equal(blk_mem_data(f->node)[8 * 512], 0x42);
	assert_int_equal(blk_mem_data(f->node)[8 * 512 - 1], 0);
	memset(f->g.ram + DATA, 0, 4096);
	assert_int_equal(request(f, T_IN, 8, 4096, true), S_OK);
	assert_int_equal(f->g.ram[DATA + 4095], 0x42);
	assert_int_equal(request(f, T_FLUSH, 0, 0, false), S_OK);
	assert_true(f->g.irqs[0] >= 3);
}

/* 2.7.4.1: header, data and status may be cut anywhere. */
static void any_layout(void **state)
{
	struct fixture *f = *state;
	struct piece out[5] = { { HDR, 3, false }, { HDR + 3, 12, false }, { 0x300000, 1 + 100, false },
				{ DATA, 412, false }, { STATUS, 1, true } };
	struct piece in[4] = { { HDR, 16, false }, { DATA, 511, true }, { 0x310000, 1, true }, { 0x310001, 1, true } };

	header(f, T_OUT, 1);
	f->g.ram[0x300000] = f->g.ram[HDR + 15];
	memset(f->g.ram + 0x300001, 1, 100);
	memset(f->g.ram + DATA, 2, 412);
	guest_add(&f->g, 1, out, 5);
	guest_kick(&f->g, 1);
	guest_wait(&f->g, 1, NULL);
	assert_int_equal(f->g.ram[STATUS], S_OK);
	assert_int_equal(blk_mem_data(f->node)[512 + 99], 1);
	assert_int_equal(blk_mem_data(f->node)[512 + 100], 2);
	header(f, T_IN, 1);
	f->g.ram[0x310001] = S_NONE;
	guest_add(&f->g, 0, in, 4);
	guest_kick(&f->g, 0);
	assert_int_equal(guest_wait(&f->g, 0, NULL), 513);
	assert_int_equal(f->g.ram[0x310001], S_OK);
	assert_int_equal(f->g.ram[DATA], 1);
	assert_int_equal(f->g.ram[0x310000], 2);
}

static void serial(void **state)
{
	struct fixture *f = *state;
	static const char want[20] = "LODGE-0001";

	memset(f->g.ram + DATA, 0xff, 21);
	assert_int_equal(request(f, T_GET_ID, 0, 20, true), S_OK);
	assert_memory_equal(f->g.ram + DATA, want, 20);
	assert_int_equal(f->g.ram[DATA + 20], 0xff);
	memset(f->g.ram + DATA, 0xff, 21);
	assert_int_equal(request(f, T_GET_ID, 0, 5, true), S_OK);
	assert_memory_equal(f->g.ram + DATA, "LODGE\xff", 6);
}

static void out_of_range(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, T_IN, DISK / 512, 512, true), S_IOERR);
	assert_int_equal(request(f, T_IN, DISK / 512 - 1, 1024, true), S_IOERR);
	assert_int_equal(request(f, T_OUT, UINT64_MAX, 512, false), S_IOERR);
	assert_int_equal(request(f, T_OUT, UINT64_MAX / 512, 512, false), S_IOERR);
	assert_int_equal(request(f, T_OUT, 1ull << 55, 512, false), S_IOERR);
	assert_int_equal(request(f, T_OUT, 0, 511, false), S_IOERR);
	assert_int_equal(request(f, T_IN, DISK / 512 - 1, 512, true), S_OK);
}

static void unsupported(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, 2, 0, 512, false), S_UNSUPP);
	assert_int_equal(request(f, 14, 0, 16, false), S_UNSUPP);
	assert_int_equal(request(f, 0xffffffff, 0, 512, true), S_UNSUPP);
}

static void segment(struct fixture *f, unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	uint8_t *s = f->g.ram + DATA + 16 * i;

	st_le64(s, sector);
	st_le32(s + 8, n);
	st_le32(s + 12, flags);
}

static void ranges(void **state)
{
	struct fixture *f = *state;
	uint8_t *disk = blk_mem_data(f->node);

	memset(disk, 1, DISK);
	segment(f, 0, 2, 2, 0);
	segment(f, 1, 8, 1, 0);
	assert_int_equal(request(f, T_DISCARD, 0, 32, false), S_OK);
	assert_int_equal(disk[2 * 512], 0);
	assert_int_equal(disk[4 * 512], 1);
	assert_int_equal(disk[8 * 512], 0);
	segment(f, 0, 16, 1, 1);
	assert_int_equal(request(f, T_WRITE_ZEROES, 0, 16, false), S_OK);
	assert_int_equal(disk[16 * 512], 0);
	segment(f, 0, 17, 1, 1);
	assert_int_equal(request(f, T_DISCARD, 0, 16, false), S_UNSUPP);
	segment(f, 0, 17, 1, 2);
	assert_int_equal(request(f, T_WRITE_ZEROES, 0, 16, false), S_UNSUPP);
	segment(f, 0, 17, (1 << 21) + 1, 0);
	assert_int_equal(request(f, T_WRITE_ZEROES, 0, 16, false), S_IOERR);
	segment(f, 0, 17, 1, 0);
	segment(f, 1, UINT64_MAX, 1, 0);
	assert_int_equal(request(f, T_DISCARD, 0, 32, false), S_IOERR);
	assert_int_equal(request(f, T_DISCARD, 0, 17, false), S_IOERR);
	assert_int_equal(request(f, T_DISCARD, 0, 0, false), S_IOERR);
	assert_int_equal(request(f, T_DISCARD, 0, 33 * 16, false), S_IOERR);
	assert_int_equal(disk[17 * 512], 1);
}

/* An error of the host is the guest's to handle; the device goes on. */
static void host_errors(void **state)
{
	struct fixture *f = *state;
	struct disk_stats s;

	blk_mem_fail_after(f->node, 1);
	assert_int_equal(request(f, T_OUT, 0, 512, false), S_IOERR);
	assert_int_equal(request(f, T_OUT, 0, 512, false), S_OK);
	blk_mem_fail_after(f->node, 1);
	assert_int_equal(request(f, T_FLUSH, 0, 0, false), S_IOERR);
	segment(f, 0, 0, 1, 0);
	segment(f, 1, 1, 1, 0);
	blk_mem_fail_after(f->node, 2);
	assert_int_equal(request(f, T_DISCARD, 0, 32, false), S_IOERR);
	assert_false(f->d->status & VIRTIO_S_NEEDS_RESET);
	disk_get_stats(virtio_blk_disk(f->d), &s);
	assert_int_equal(s.errors, 3);
	assert_int_equal(s.op[DISK_WRITES].count, 1);
	assert_int_equal(s.op[DISK_WRITES].bytes, 512);
}

/* No place for the header or for the status: nothing can be answered. */
static void no_status_byte(void **state)
{
	struct fixture *f = *state;
	struct piece short_header[2] = { { HDR, 15, false }, { STATUS, 1, true } };
	struct piece no_status[2] = { { HDR, 16, false }, { DATA, 512, false } };
	struct piece empty[1] = { { HDR, 0, true } };

	header(f, T_IN, 0);
	guest_add(&f->g, 0, short_header, 2);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
	assert_int_equal(f->g.config_irqs, 1);
	assert_true(guest_start(&f->g, f->d, F_FLUSH));
	guest_add(&f->g, 0, no_status, 2);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
	/* A chain without a single byte (seen by the fuzzer). */
	assert_true(guest_start(&f->g, f->d, F_FLUSH));
	guest_add(&f->g, 0, empty, 1);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_true(f->d->status & VIRTIO_S_NEEDS_RESET);
	assert_true(guest_start(&f->g, f->d, F_FLUSH));
	assert_int_equal(request(f, T_IN, 0, 512, true), S_OK);
}

/* Nothing reaches guest memory after the reset has returned. */
static void reset_in_flight(void **state)
{
	struct fixture *f = *state;
	struct piece p[3] = { { HDR, 16, false }, { DATA, 512, true }, { STATUS, 1, true } };

	header(f, T_IN, 0);
	blk_mem_hold(f->node, true);
	for (int i = 0; i < 10; i++)
		guest_add(&f->g, 0, p, 3);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_int_equal(f->node->in_flight, 10);
	machine_lock(f->g.m);
	virtio_dev_set_status(f->d, 0);
	machine_unlock(f->g.m);
	assert_int_equal(f->node->in_flight, 0);
	memset(f->g.ram, 0xee, GUEST_RAM);
	blk_mem_hold(f->node, false);
	guest_settle(&f->g);
	for (unsigned i = 0; i < GUEST_RAM; i++)
		if (f->g.ram[i] != 0xee)
			fail_msg("byte %#x was written after the reset", i);
	assert_true(guest_start(&f->g, f->d, F_FLUSH));
	assert_int_equal(request(f, T_IN, 0, 512, true), S_OK);
}

/* Pause answers what is in flight and takes nothing new until resume. */
static void pause_drains(void **state)
{
	struct fixture *f = *state;
	struct piece p[3] = { { HDR, 16, false }, { DATA, 512, true }, { STATUS, 1, true } };

	header(f, T_IN, 0);
	blk_mem_hold(f->node, true);
	guest_add(&f->g, 0, p, 3);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	machine_lock(f->g.m);
	virtio_dev_pause(f->d);
	machine_unlock(f->g.m);
	blk_mem_hold(f->node, false);
	assert_true(guest_used(&f->g, 0, NULL, NULL));
	guest_add(&f->g, 0, p, 3);
	guest_kick(&f->g, 0);
	guest_settle(&f->g);
	assert_false(guest_used(&f->g, 0, NULL, NULL));
	machine_lock(f->g.m);
	virtio_dev_resume(f->d);
	machine_unlock(f->g.m);
	guest_wait(&f->g, 0, NULL);
}

static void read_only(void **state)
{
	struct fixture f = { 0 };
	struct virtio_blk_opts o = { 0 };

	make(&f, &o, true);
	assert_true(f.d->host_features & F_RO);
	assert_false(f.d->host_features & (F_DISCARD | F_WRITE_ZEROES));
	assert_false(guest_start(&f.g, f.d, F_DISCARD));
	assert_true(guest_start(&f.g, f.d, F_RO | F_FLUSH));
	assert_int_equal(request(&f, T_OUT, 0, 512, false), S_IOERR);
	assert_int_equal(request(&f, T_IN, 0, 512, true), S_OK);
	assert_int_equal(request(&f, T_FLUSH, 0, 0, false), S_OK);
	assert_int_equal(request(&f, T_DISCARD, 0, 16, false), S_UNSUPP);
	guest_fini(&f.g);
}

static uint64_t config(struct fixture *f, uint32_t off, unsigned len)
{
	uint8_t b[8] = { 0 };

	virtio_dev_config_access(f->d, off, b, len, false);
	return ld_le64(b);
}

static void configuration(void **state)
{
	struct fixture *f = *state;
	uint8_t zero = 0;

	assert_int_equal(config(f, 0, 8), DISK / 512);
	assert_int_equal(config(f, 12, 4), 254);
	assert_int_equal(config(f, 20, 4), 512);
	assert_int_equal(config(f, 34, 2), 2);
	assert_int_equal(config(f, 36, 4), 1 << 21);
	assert_int_equal(config(f, 32, 1), 1);
	virtio_dev_config_access(f->d, 32, &zero, 1, true);
	assert_int_equal(config(f, 32, 1), 0);
	machine_lock(f->g.m);
	virtio_dev_reset(f->d);
	machine_unlock(f->g.m);
	assert_int_equal(config(f, 32, 1), 1);
}

/* A machine restored from saved state has the disk's settings, and refuses another disk. */
static void saved_state(void **state)
{
	struct fixture *f = *state;
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	uint8_t zero = 0;
	const void *p;
	size_t len;

	virtio_dev_config_access(f->d, 32, &zero, 1, true);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(virtio_dev_save(f->d, o), 0);
	p = snap_out_data(o, &len);
	machine_lock(f->g.m);
	virtio_dev_reset(f->d);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(virtio_dev_load(f->d, in, &e), 0);
	snap_in_free(in);
	machine_unlock(f->g.m);
	assert_int_equal(config(f, 32, 1), 0);
	assert_int_equal(request(f, T_IN, 0, 512, true), S_OK);
	snap_out_free(o);
}

int main(void)
{
#define EVENT_IDX(t) { #t " (EVENT_IDX)", t, setup_event_idx, teardown, NULL }
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(read_and_write, setup, teardown),
		cmocka_unit_test_setup_teardown(any_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(serial, setup, teardown),
		cmocka_unit_test_setup_teardown(out_of_range, setup, teardown),
		cmocka_unit_test_setup_teardown(unsupported, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(host_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(no_status_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(reset_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(pause_drains, setup, teardown),
		cmocka_unit_test(read_only),
		cmocka_unit_test_setup_teardown(configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(saved_state, setup, teardown),
		EVENT_IDX(read_and_write),
		EVENT_IDX(any_layout),
		EVENT_IDX(serial),
		EVENT_IDX(out_of_range),
		EVENT_IDX(unsupported),
		EVENT_IDX(ranges),
		EVENT_IDX(host_errors),
		EVENT_IDX(no_status_byte),
		EVENT_IDX(reset_in_flight),
		EVENT_IDX(pause_drains),
		EVENT_IDX(configuration),
		EVENT_IDX(saved_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
