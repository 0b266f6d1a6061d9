/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks of the SCSI target (SBC-3): commands that move, discard and zero blocks,
 * what a disk says of them, and what is refused.  CDs are tested through AHCI.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "storage/scsi.h"

#define RAM (1u << 20)
#define SIZE (4u << 20)
#define BLOCKS (SIZE / 512)

struct fix {
	struct machine *m;
	struct blk_node *node;
	struct scsi_lun lun;
	uint8_t *ram;
	bool done;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct disk_opts o = { .serial = "SER1" };
	struct err e = { 0 };

	assert_int_equal(machine_new(&f->m, true), 0);
	assert_int_equal(mem_create_ram(f->m->mem, RAM, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(f->m->mem, "ram", 0, 0, RAM, &e), 0);
	f->ram = mem_ram_host(f->m->mem);
	assert_int_equal(blk_open_mem(f->m->loop, SIZE, &f->node), 0);
	f->node->i.can_discard = f->node->i.can_zero = true;
	machine_lock(f->m);
	assert_int_equal(scsi_lun_init(&f->lun, f->m, "disk0", f->node, false, &o, &e), 0);
	machine_unlock(f->m);
	*state = f;
	return 0;
}

static void drop(struct disk_req *q)
{
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_lock(f->m);
	disk_fini(&f->lun.disk, 0, drop);
	machine_unlock(f->m);
	machine_free(f->m);
	free(f);
	return 0;
}

static struct fix *current;

static void done(struct scsi_req *r)
{
	scsi_req_clean(r);
	current->done = true;
}

/* The command's sense, 0 when it is good. Memory: `len` bytes from the start of RAM on, in two pieces. */
static uint32_t run(struct fix *f, const uint8_t *cdb, uint64_t len, uint64_t *moved)
{
	struct iovec v[2] = { { f->ram, len / 2 }, { f->ram + len / 2, len - len / 2 } };
	struct scsi_req r = { .l = &f->lun, .in = v, .out = v, .n_in = 2, .n_out = 2, .len_in = len, .len_out = len, .done = done };

	memcpy(r.cdb, cdb, sizeof(r.cdb));
	current = f;
	f->done = false;
	machine_lock(f->m);
	scsi_submit(&r);
	machine_unlock(f->m);
	for (unsigned i = 0; i < 1000 && !f->done; i++)
		assert_int_equal(loop_turn(f->m->loop, 1), 0);
	assert_true(f->done);
	if (moved)
		*moved = r.moved;
	assert_int_equal(r.status == SCSI_GOOD, !r.sense[2]);
	return (uint32_t)r.sense[2] << 16 | (uint32_t)r.sense[12] << 8 | r.sense[13];
}

#define C(len, ...) run(f, (const uint8_t[SCSI_CDB_MAX]){ __VA_ARGS__ }, len, NULL)

static void reads_and_writes(void **state)
{
	struct fix *f = *state;
	uint8_t *disk = blk_mem_data(f->node);
	uint64_t moved;

	memset(f->ram, 0x5a, 4096);
	assert_int_equal(C(4096, 0x2a, 0, 0, 0, 0, 8, 0, 0, 8), 0);
	assert_int_equal(disk[4095], 0);
	assert_int_equal(disk[4096], 0x5a);
	assert_int_equal(disk[8191], 0x5a);
	assert_int_equal(disk[8192], 0);
	/* 6, 10, 12 and 16 bytes. */
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t cdb[4][SCSI_CDB_MAX] = {
			{ 0x08, 0, 0, 8, 1 }, { 0x28, 0, 0, 0, 0, 8, 0, 0, 1 }, { 0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 1 },
			{ 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1 },
		};

		memset(f->ram, 0, 4096);
		assert_int_equal(run(f, cdb[i], 4096, &moved), 0);
		assert_int_equal(moved, 512);
		assert_int_equal(f->ram[511], 0x5a);
		assert_int_equal(f->ram[512], 0);
	}
	assert_int_equal(C(512, 0x28, 0, 0, 0, 0, 8, 0, 0, 2), 0x052400);	/* too little memory */
	assert_int_equal(C(0, 0x28, 0, 0, 0, 0, 8, 0, 0, 0), 0);
	assert_int_equal(C(512, 0x28, 0, 0, 0, BLOCKS >> 8, 0, 0, 0, 1), 0x052100);
	assert_int_equal(C(512, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1), 0x052100);
	assert_int_equal(C(0, 0x2f, 0, 0, 0, BLOCKS >> 8, 0, 0, 0, 1), 0x052100);
	assert_int_equal(C(0, 0x35), 0);
	f->node->i.read_only = true;
	assert_int_equal(C(512, 0x2a, 0, 0, 0, 0, 8, 0, 0, 1), 0x072700);
	f->node->i.read_only = false;
	blk_mem_fail_with(f->node, 1, -EIO, false);
	assert_int_equal(C(512, 0x2a, 0, 0, 0, 0, 8, 0, 0, 1), 0x030c00);
}

static void unmap(void **state)
{
	struct fix *f = *state;
	uint8_t *disk = blk_mem_data(f->node);

	memset(disk, 0x11, 8192);
	memset(f->ram, 0, 64);
	f->ram[1] = 38;
	f->ram[3] = 32;				/* two descriptors: blocks 2 and 3, and 8 */
	f->ram[15] = 2;
	f->ram[19] = 2;
	f->ram[31] = 8;
	f->ram[35] = 1;
	assert_int_equal(C(40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), 0);
	for (unsigned b = 0; b < 16; b++)
		assert_int_equal(disk[512 * b], b == 2 || b == 3 || b == 8 ? 0 : 0x11);
	memset(disk, 0x11, 8192);
	f->ram[30] = BLOCKS >> 8;		/* the second is outside, so neither is done */
	assert_int_equal(C(40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), 0x052100);
	assert_int_equal(disk[1024], 0x11);
	assert_int_equal(C(39, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), 0x052600);
	assert_int_equal(C(40, 0x42, 0, 0, 0, 0, 0, 0, 0, 7), 0x051a00);
	assert_int_equal(C(40, 0x42, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	f->ram[2] = 4;				/* more than page B0h allows */
	f->ram[3] = 16;
	assert_int_equal(C(2048, 0x42, 0, 0, 0, 0, 0, 0, 4, 24), 0x052600);
	f->node->i.can_discard = false;
	assert_int_equal(C(40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), 0x052000);
}

static void write_same(void **state)
{
	struct fix *f = *state;
	uint8_t *disk = blk_mem_data(f->node);

	memset(disk, 0x11, SIZE);
	memset(f->ram, 0, 512);
	assert_int_equal(C(512, 0x41, 0, 0, 0, 0, 2, 0, 0, 2), 0);
	assert_int_equal(disk[1023], 0x11);
	assert_int_equal(disk[1024], 0);
	assert_int_equal(disk[2047], 0);
	assert_int_equal(disk[2048], 0x11);
	assert_int_equal(C(0, 0x93, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1), 0);	/* no data sent at all */
	assert_int_equal(disk[4096], 0);
	assert_int_equal(disk[4608], 0x11);
	f->ram[511] = 1;
	assert_int_equal(C(512, 0x41, 0, 0, 0, 0, 2, 0, 0, 2), 0x052600);	/* of zeros only */
	f->ram[511] = 0;
	assert_int_equal(C(511, 0x41, 0, 0, 0, 0, 2, 0, 0, 2), 0x052600);
	/* No number of blocks is not "all the rest", and page B0h says so. */
	assert_int_equal(C(512, 0x41, 0, 0, 0, 0, 16, 0, 0, 0), 0x052400);
	assert_int_equal(disk[8192], 0x11);
	assert_int_equal(disk[SIZE - 1], 0x11);
	assert_int_equal(C(512, 0x41, 0, 0, 0, BLOCKS >> 8, 0, 0, 0, 1), 0x052100);
	f->ram[4] = 0;
	assert_int_equal(C(64, 0x12, 1, 0xb0, 0, 64), 0);
	assert_int_equal(f->ram[4], 1);
	f->node->i.can_zero = false;
	assert_int_equal(C(512, 0x41, 0, 0, 0, 0, 2, 0, 0, 2), 0x052000);
}

static void what_it_says(void **state)
{
	struct fix *f = *state;

	assert_int_equal(C(36, 0x12, 0, 0, 0, 36), 0);
	assert_int_equal(f->ram[0], 0);
	assert_memory_equal(f->ram + 8, "LODGE   DISK            ", 24);
	assert_int_equal(C(24, 0x12, 1, 0x80, 0, 24), 0);
	assert_memory_equal(f->ram + 4, "SER1", 4);
	assert_int_equal(C(64, 0x12, 1, 0xee, 0, 64), 0x052400);
	assert_int_equal(C(8, 0x25), 0);
	assert_int_equal(scsi_ld32(f->ram), BLOCKS - 1);
	assert_int_equal(scsi_ld32(f->ram + 4), 512);
	assert_int_equal(C(32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 0);
	assert_int_equal(scsi_ld64(f->ram), BLOCKS - 1);
	assert_int_equal(f->ram[14], 0x80);
	/* No more than is asked for, and than there is room. */
	memset(f->ram, 0xee, 64);
	assert_int_equal(C(64, 0x12, 0, 0, 0, 5), 0);
	assert_int_equal(f->ram[5], 0xee);
	assert_int_equal(C(6, 0x12, 0, 0, 0, 36), 0);
	assert_int_equal(f->ram[6], 0xee);
	/* A reset is told once. */
	scsi_lun_reset(&f->lun);
	assert_int_equal(C(0, 0x00), 0x062900);
	assert_int_equal(C(0, 0x00), 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = { T(reads_and_writes), T(unmap), T(write_same), T(what_it_says) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
