/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bulk-Only Transport behind xHCI: commands, data in one transfer and in pieces, nonsense, errors of the host, saved state. */
#include "xhci_driver.h"

#define IN 3u				/* DCIs */
#define OUT 4u

static unsigned slot;

static struct fix *up(enum disk_on_error on)
{
	struct fix *f = make(on);

	slot = address(f, 1);
	assert_int_equal(control(f, slot, 0, 9, 1, 0, 0), 1);
	input_slot(f, 1, 4);
	input_ep(f, slot, IN, 6, 1024, 0);
	input_ep(f, slot, OUT, 2, 1024, 0);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	return f;
}

static int setup(void **state)
{
	*state = up(DISK_REPORT);
	return 0;
}

static int setup_stop(void **state)
{
	*state = up(DISK_STOP);
	return 0;
}

static int teardown(void **state)
{
	drop_all(*state);
	return 0;
}

/* One transfer; its completion code. */
static struct event move(struct fix *f, unsigned dci, uint64_t at, uint32_t len)
{
	for (; len > 65536; at += 65536, len -= 65536)
		normal(f, slot, dci, at, 65536, CH);
	normal(f, slot, dci, at, len, IOC | ISP);
	ring_bell(f, slot, dci);
	return want(f, 32);
}

static void cbw(struct fix *f, const uint8_t *cdb, unsigned n, uint32_t len, bool in)
{
	uint8_t *b = f->ram + DATA - 0x1000;

	memset(b, 0, 31);
	st_le32(b, 0x43425355);
	st_le32(b + 4, 0x11223344);
	st_le32(b + 8, len);
	b[12] = in ? 0x80 : 0;
	b[14] = (uint8_t)n;
	memcpy(b + 15, cdb, n);
	assert_int_equal(move(f, OUT, DATA - 0x1000, 31).cc, 1);
}

static int csw(struct fix *f, uint32_t residue)
{
	const uint8_t *b = f->ram + DATA - 0x2000;

	assert_int_equal(move(f, IN, DATA - 0x2000, 13).cc, 1);
	assert_int_equal(ld_le32(b), 0x53425355);
	assert_int_equal(ld_le32(b + 4), 0x11223344);
	assert_int_equal(ld_le32(b + 8), residue);
	return b[12];
}

static void ready(struct fix *f)
{
	/* The first command hears of the reset. */
	cbw(f, (const uint8_t[6]){ 0 }, 6, 0, false);
	assert_int_equal(csw(f, 0), 1);
	cbw(f, (const uint8_t[6]){ 3, 0, 0, 0, 18 }, 6, 18, true);
	assert_int_equal(move(f, IN, DATA, 18).cc, 1);
	assert_int_equal(csw(f, 0), 0);
	assert_int_equal(f->ram[DATA + 2], 6);
	assert_int_equal(f->ram[DATA + 12], 0x29);
	cbw(f, (const uint8_t[6]){ 0 }, 6, 0, false);
	assert_int_equal(csw(f, 0), 0);
}

static void rw_cdb(uint8_t cdb[10], bool write, uint32_t lba, uint16_t n)
{
	memset(cdb, 0, 10);
	cdb[0] = write ? 0x2a : 0x28;
	cdb[4] = (uint8_t)(lba >> 8);
	cdb[5] = (uint8_t)lba;
	cdb[7] = (uint8_t)(n >> 8);
	cdb[8] = (uint8_t)n;
}

static void pattern(struct fix *f, uint64_t at, uint32_t len, unsigned seed)
{
	for (uint32_t i = 0; i < len; i++)
		f->ram[at + i] = (uint8_t)(i * 7 + i / 251 + seed);
}

static void write_whole(struct fix *f, uint32_t lba, uint16_t n, unsigned seed)
{
	uint8_t cdb[10];

	rw_cdb(cdb, true, lba, n);
	pattern(f, DATA, n * 512u, seed);
	cbw(f, cdb, 10, n * 512u, false);
	assert_int_equal(move(f, OUT, DATA, n * 512u).cc, 1);
	assert_int_equal(csw(f, 0), 0);
}

static void test_identity(void **state)
{
	struct fix *f = *state;
	struct event e;

	assert_int_equal(control(f, slot, 0xa1, 0xfe, 0, 0, 1), 1);
	assert_int_equal(f->ram[DATA], 0);
	assert_int_equal(control(f, slot, 0x80, 6, 0xf00, 0, 22), 1);
	assert_int_equal(f->ram[DATA + 4], 2);
	assert_int_equal(control(f, slot, 0x80, 6, 0x200, 0, 44), 1);
	assert_int_equal(ld_le16(f->ram + DATA + 2), 44);
	ready(f);
	/* Less than there was room for: filled up, and the residue tells. */
	memset(f->ram + DATA, 0xee, 300);
	cbw(f, (const uint8_t[6]){ 0x12, 0, 0, 0, 255 }, 6, 255, true);
	e = move(f, IN, DATA, 255);
	assert_int_equal(e.cc, 1);
	assert_int_equal(f->ram[DATA], 0);
	assert_memory_equal(f->ram + DATA + 8, "LODGE", 5);
	assert_int_equal(f->ram[DATA + 254], 0);
	assert_int_equal(f->ram[DATA + 255], 0xee);
	assert_int_equal(csw(f, 255 - 36), 0);
	/* A larger transfer than the command has data for ends short. */
	cbw(f, (const uint8_t[10]){ 0x25 }, 10, 8, true);
	e = move(f, IN, DATA, 64);
	assert_int_equal(e.cc, 13);
	assert_int_equal(e.len, 56);
	assert_int_equal(csw(f, 0), 0);
	assert_memory_equal(f->ram + DATA, "\0\0\x1f\xff\0\0\2\0", 8);
}

static void test_blocks(void **state)
{
	struct fix *f = *state;
	uint8_t cdb[10];

	ready(f);
	write_whole(f, 8, 256, 3);
	pattern(f, DATA + 0x100000, 256 * 512, 3);
	memset(f->ram + DATA, 0, 256 * 512);
	rw_cdb(cdb, false, 8, 256);
	cbw(f, cdb, 10, 256 * 512, true);
	assert_int_equal(move(f, IN, DATA, 256 * 512).cc, 1);
	assert_int_equal(csw(f, 0), 0);
	assert_memory_equal(f->ram + DATA, f->ram + DATA + 0x100000, 256 * 512);
	/* Beyond the end: failed, with all of it left over. */
	rw_cdb(cdb, false, 8192, 1);
	cbw(f, cdb, 10, 512, true);
	assert_int_equal(move(f, IN, DATA, 512).cc, 1);
	assert_int_equal(csw(f, 512), 1);
	/* Less memory than the command is about, and the wrong way. */
	rw_cdb(cdb, false, 0, 2);
	cbw(f, cdb, 10, 512, true);
	assert_int_equal(move(f, IN, DATA, 512).cc, 1);
	assert_int_equal(csw(f, 512), 1);
	rw_cdb(cdb, true, 0, 1);
	cbw(f, cdb, 10, 512, true);
	assert_int_equal(move(f, IN, DATA, 512).cc, 1);
	assert_int_equal(csw(f, 512), 1);
}

/* Data in transfers of their own, of any length. */
static void test_pieces(void **state)
{
	static const uint32_t piece[] = { 1, 1024, 511, 0, 2000, 560 };
	struct fix *f = *state;
	uint8_t cdb[10];
	uint32_t at = 0;

	ready(f);
	rw_cdb(cdb, true, 100, 8);
	pattern(f, DATA, 4096, 9);
	cbw(f, cdb, 10, 4096, false);
	for (unsigned i = 0; i < ARRAY_LEN(piece); at += piece[i++])
		assert_int_equal(move(f, OUT, DATA + at, piece[i]).cc, 1);
	assert_int_equal(at, 4096);
	assert_int_equal(csw(f, 0), 0);
	rw_cdb(cdb, false, 100, 8);
	cbw(f, cdb, 10, 4096, true);
	for (unsigned i = at = 0; i < ARRAY_LEN(piece); at += piece[i++])
		assert_int_equal(move(f, IN, DATA + 0x10000 + at, piece[i]).cc, 1);
	assert_int_equal(csw(f, 0), 0);
	assert_memory_equal(f->ram + DATA, f->ram + DATA + 0x10000, 4096);
	/* More than the buffer holds: told by a phase error, once all data has passed. */
	rw_cdb(cdb, false, 0, 4096);
	cbw(f, cdb, 10, 4096 * 512, true);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(move(f, IN, DATA, 512 * 1024).cc, 1);
	assert_int_equal(csw(f, 4096 * 512), 2);
	/* More than was announced. */
	rw_cdb(cdb, true, 0, 1);
	cbw(f, cdb, 10, 512, false);
	assert_int_equal(move(f, OUT, DATA, 1024).cc, 6);
	assert_int_equal(ep_state(f, slot, OUT), 2);
}

static void recover(struct fix *f, unsigned dci)
{
	assert_int_equal(command(f, T_RESET_EP, 0, slot << 24 | dci << 16), 1);
	assert_int_equal(command(f, T_SET_DEQ, next_at(&f->ep[slot][dci]) | f->ep[slot][dci].cycle, slot << 24 | dci << 16), 1);
	assert_int_equal(control(f, slot, 2, 1, 0, dci == IN ? 0x81 : 2, 0), 1);
}

static void test_nonsense(void **state)
{
	struct fix *f = *state;

	ready(f);
	memset(f->ram + DATA, 0, 31);
	assert_int_equal(move(f, OUT, DATA, 31).cc, 6);
	/* Clearing the halts does not help; the reset of the class and clearing them do (6.6.1, 5.3.4). */
	recover(f, OUT);
	assert_int_equal(move(f, OUT, DATA, 31).cc, 6);
	assert_int_equal(move(f, IN, DATA, 13).cc, 6);
	assert_int_equal(control(f, slot, 0x21, 0xff, 0, 0, 0), 1);
	recover(f, IN);
	recover(f, OUT);
	cbw(f, (const uint8_t[6]){ 0 }, 6, 0, false);
	assert_int_equal(csw(f, 0), 0);
	/* A status that is asked for too early waits for its time. */
	normal(f, slot, IN, DATA - 0x2000, 13, IOC);
	ring_bell(f, slot, IN);
	nothing(f);
	cbw(f, (const uint8_t[6]){ 0 }, 6, 0, false);
	assert_int_equal(want(f, 32).cc, 1);
}

/* The disk fails on the host: told, or the machine pauses and the command is repeated, also from saved state. */
static void test_host_error(void **state)
{
	struct fix *f = *state;
	uint8_t cdb[10];

	ready(f);
	blk_mem_fail_with(f->node, 1, -EIO, false);
	rw_cdb(cdb, false, 0, 1);
	cbw(f, cdb, 10, 512, true);
	assert_int_equal(move(f, IN, DATA, 512).cc, 1);
	assert_int_equal(csw(f, 512), 1);
	cbw(f, (const uint8_t[6]){ 3, 0, 0, 0, 18 }, 6, 18, true);
	move(f, IN, DATA, 18);
	csw(f, 0);
	assert_int_equal(f->ram[DATA + 2], 3);
}

static void save_load(struct fix *f)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->m);
	machine_pause_devs(f->m);
	assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
	machine_reset_devs(f->m);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(f->m, in, &e), 0);
	snap_in_free(in);
	machine_resume_devs(f->m);
	machine_unlock(f->m);
	snap_out_free(o);
	turn(f);
}

static void test_stop_and_load(void **state)
{
	struct fix *f = *state;
	uint8_t cdb[10];

	ready(f);
	write_whole(f, 50, 4, 1);
	memset(f->ram + DATA, 0, 2048);
	blk_mem_fail_with(f->node, 1, -EIO, false);
	rw_cdb(cdb, false, 50, 4);
	cbw(f, cdb, 10, 2048, true);
	normal(f, slot, IN, DATA, 2048, IOC);
	ring_bell(f, slot, IN);
	nothing(f);
	assert_int_equal(f->pauses, 1);
	save_load(f);
	assert_int_equal(want(f, 32).cc, 1);
	assert_int_equal(csw(f, 0), 0);
	pattern(f, DATA + 0x10000, 2048, 1);
	assert_memory_equal(f->ram + DATA, f->ram + DATA + 0x10000, 2048);
	/* In pieces: between two of them, both ways, and with a write that has failed. */
	rw_cdb(cdb, false, 50, 4);
	cbw(f, cdb, 10, 2048, true);
	memset(f->ram + DATA, 0, 2048);
	move(f, IN, DATA, 700);
	save_load(f);
	move(f, IN, DATA + 700, 1348);
	assert_int_equal(csw(f, 0), 0);
	assert_memory_equal(f->ram + DATA, f->ram + DATA + 0x10000, 2048);
	pattern(f, DATA, 2048, 77);
	rw_cdb(cdb, true, 50, 4);
	cbw(f, cdb, 10, 2048, false);
	move(f, OUT, DATA, 700);
	save_load(f);
	blk_mem_fail_with(f->node, 1, -EIO, false);
	move(f, OUT, DATA + 700, 1348);
	turn(f);
	assert_int_equal(f->pauses, 2);
	save_load(f);
	assert_int_equal(csw(f, 0), 0);
	assert_memory_equal((uint8_t *)blk_mem_data(f->node) + 50 * 512, f->ram + DATA, 2048);
}

/* The driver gives up: the transfer is taken back, the device reset, and all is well again. */
static void test_abort(void **state)
{
	struct fix *f = *state;
	uint8_t cdb[10];

	ready(f);
	machine_lock(f->m);
	blk_mem_hold(f->node, true);
	machine_unlock(f->m);
	rw_cdb(cdb, false, 0, 4);
	cbw(f, cdb, 10, 2048, true);
	normal(f, slot, IN, DATA, 2048, IOC);
	ring_bell(f, slot, IN);
	nothing(f);
	machine_lock(f->m);
	blk_mem_hold(f->node, false);
	machine_unlock(f->m);
	put_trb(f, &f->cmd, 0, 0, T(T_STOP_EP) | slot << 24 | IN << 16);
	wr(f, 0x2000, 0);
	turn(f);
	while (next_event(f, &(struct event){ 0 }))
		;
	events_read(f);
	assert_int_equal(control(f, slot, 0x21, 0xff, 0, 0, 0), 1);
	assert_int_equal(command(f, T_SET_DEQ, next_at(&f->ep[slot][IN]) | f->ep[slot][IN].cycle, slot << 24 | IN << 16), 1);
	write_whole(f, 0, 4, 5);
	/* A port's reset in the middle of a command, and then from the start. */
	cbw(f, cdb, 10, 2048, true);
	normal(f, slot, IN, DATA, 2048, IOC);
	machine_lock(f->m);
	blk_mem_hold(f->node, true);
	machine_unlock(f->m);
	ring_bell(f, slot, IN);
	nothing(f);
	machine_lock(f->m);
	blk_mem_hold(f->node, false);
	machine_unlock(f->m);
	host_start(f);
	slot = address(f, 1);
	assert_int_equal(control(f, slot, 0, 9, 1, 0, 0), 1);
	input_slot(f, 1, 4);
	input_ep(f, slot, IN, 6, 1024, 0);
	input_ep(f, slot, OUT, 2, 1024, 0);
	assert_int_equal(command(f, T_CONFIGURE, INPUT, slot << 24), 1);
	ready(f);
}

int main(void)
{
#define TEST(t, how) cmocka_unit_test_setup_teardown(t, how, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_identity, setup), TEST(test_blocks, setup), TEST(test_pieces, setup), TEST(test_nonsense, setup),
		TEST(test_host_error, setup), TEST(test_stop_and_load, setup_stop), TEST(test_abort, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
