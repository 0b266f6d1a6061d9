/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe from the driver's side (NVM Express Base 1.4): registers, admin and I/O
 * commands, and what becomes of those no honest driver makes.
 */
#include "nvme_driver.h"

enum { OP_FLUSH, OP_WRITE, OP_READ, OP_COMPARE = 5, OP_ZEROES = 8, OP_DSM = 9 };

static int setup(void **state)
{
	*state = nv_new(false, NULL);
	nv_start(*state);
	return 0;
}

static int setup_io(void **state)
{
	*state = nv_new(true, NULL);
	nv_start(*state);
	return 0;
}

static int teardown(void **state)
{
	nv_free(*state);
	return 0;
}

/* 3.1, 7.6.1 */
static void registers(void **state)
{
	struct nv *v = nv_new(false, NULL);

	assert_int_equal(nv_rd(v, 0, 8), 2047 | 1 << 16 | 30u << 24 | 1ull << 37 | 4ull << 52);
	assert_int_equal(nv_rd(v, 4, 4), 1 << 5 | 4 << 20);
	assert_int_equal(nv_rd(v, 8, 4), 0x10400);
	assert_int_equal(nv_rd(v, 0x1c, 4), 0);
	nv_wr(v, 0xc, 4, 6);
	nv_wr(v, 0x10, 4, 2);
	assert_int_equal(nv_rd(v, 0xc, 4), 4);
	/* Admin queues outside memory, or of one entry: fatal, until disabled. */
	nv_wr(v, 0x24, 4, 0xf000f);
	nv_wr(v, 0x28, 8, RAM);
	nv_wr(v, 0x30, 8, CQ(0));
	nv_wr(v, 0x14, 4, 1);
	assert_int_equal(nv_rd(v, 0x1c, 4), 2);
	nv_wr(v, 0x14, 4, 0);
	assert_int_equal(nv_rd(v, 0x1c, 4), 0);
	nv_wr(v, 0x28, 8, QUEUE(0));
	nv_wr(v, 0x24, 4, 0xf0000);
	nv_wr(v, 0x14, 4, 1);
	assert_int_equal(nv_rd(v, 0x1c, 4), 2);
	nv_wr(v, 0x14, 4, 0);
	/* A page size that is not offered, another command set. */
	nv_wr(v, 0x24, 4, 0xf000f);
	nv_wr(v, 0x14, 4, 1 | 5 << 7);
	assert_int_equal(nv_rd(v, 0x1c, 4), 2);
	nv_wr(v, 0x14, 4, 0);
	nv_wr(v, 0x14, 4, 1 | 1 << 4);
	assert_int_equal(nv_rd(v, 0x1c, 4), 2);
	nv_wr(v, 0x14, 4, 0);
	nv_enable(v);
	/* Frozen while enabled. */
	nv_wr(v, 0x24, 4, 0);
	nv_wr(v, 0x28, 8, 0);
	assert_int_equal(nv_rd(v, 0x24, 4), 0xf000f);
	assert_int_equal(nv_rd(v, 0x28, 8), QUEUE(0));
	nv_free(v);
}

/* 5.15 */
static void identify(void **state)
{
	struct nv *v = *state;
	uint8_t *d = v->ram + DATA;

	assert_int_equal(nv_admin(v, 6, 0, DATA, 1, 0, NULL), 0);
	assert_int_equal(ld_le16(d), 0x1b36);
	assert_memory_equal(d + 4, "LODGE1              ", 20);
	assert_int_equal(d[111], 1);
	assert_int_equal(ld_le32(d + 516), 2);
	assert_int_equal(ld_le16(d + 520), 1 | 4 | 8);
	assert_memory_equal(d + 768, "nqn.2014-08.org.nvmexpress:uuid:", 32);
	assert_int_equal(nv_admin(v, 6, 1, DATA, 0, 0, NULL), 0);
	assert_int_equal(ld_le64(d), NS_SIZE / 512);
	assert_int_equal(ld_le32(d + 128), 9 << 16);
	assert_int_equal(nv_admin(v, 6, 2, DATA, 0, 0, NULL), 0);
	assert_int_equal(ld_le64(d), NS_SIZE / 4096);
	assert_int_equal(ld_le32(d + 128), 12 << 16);
	assert_int_equal(nv_admin(v, 6, 0, DATA, 2, 0, NULL), 0);
	assert_int_equal(ld_le64(d), 1 | 2ull << 32);
	assert_int_equal(ld_le32(d + 8), 0);
	assert_int_equal(nv_admin(v, 6, 1, DATA, 2, 0, NULL), 0);
	assert_int_equal(ld_le64(d), 2);
	assert_int_equal(nv_admin(v, 6, 1, DATA, 3, 0, NULL), 0);
	assert_int_equal(ld_le16(d), 0x1002);
	assert_int_equal(ld_le16(d + 20), 0x1003);
	assert_int_equal(ld_le16(d + 40), 0);
	assert_int_equal(nv_admin(v, 6, 3, DATA, 0, 0, NULL), DNR | 0x0b);
	assert_int_equal(nv_admin(v, 6, 0xffffffff, DATA, 2, 0, NULL), DNR | 0x0b);
	assert_int_equal(nv_admin(v, 6, 0, DATA, 0x77, 0, NULL), DNR | 0x02);
	assert_int_equal(nv_admin(v, 6, 0, RAM, 1, 0, NULL), 0x04);
	assert_int_equal(nv_admin(v, 0x66, 0, DATA, 1, 0, NULL), DNR | 0x01);
	/* SGLs are not for admin commands, fused ones for none. */
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 6, .flags = 0x40, .cdw10 = 1, .prp1 = DATA }, NULL), DNR | 0x02);
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 6, .flags = 1, .cdw10 = 1, .prp1 = DATA }, NULL), DNR | 0x02);
}

/* 5.21 */
static void features(void **state)
{
	struct nv *v = *state;
	uint32_t r = 0;

	assert_int_equal(nv_admin(v, 0xa, 0, 0, 7, 0, &r), 0);
	assert_int_equal(r, 3 | 3 << 16);
	/* There are I/O queues already. */
	assert_int_equal(nv_admin(v, 9, 0, 0, 7, 1 | 1 << 16, NULL), DNR | 0x0c);
	assert_int_equal(nv_admin(v, 9, 0, 0, 6, 0, NULL), 0);
	assert_int_equal(nv_admin(v, 0xa, 0, 0, 6, 0, &r), 0);
	assert_int_equal(r, 0);
	assert_int_equal(nv_admin(v, 9, 0, 0, 6 | 1u << 31, 1, NULL), DNR | 0x10d);
	assert_int_equal(nv_admin(v, 9, 0, 0, 2, 1, NULL), DNR | 0x02);
	assert_int_equal(nv_admin(v, 9, 0, 0, 9, 5, NULL), DNR | 0x02);
	assert_int_equal(nv_admin(v, 0xa, 0, 0, 9, 4, &r), 0);
	assert_int_equal(r, 4 | 1 << 16);
	assert_int_equal(nv_admin(v, 9, 0, 0, 0x55, 0, NULL), DNR | 0x02);
	nv_wr(v, 0x14, 4, 0);
	nv_enable(v);
	assert_int_equal(nv_admin(v, 9, 0, 0, 7, 0xffff, NULL), DNR | 0x02);
	assert_int_equal(nv_admin(v, 9, 0, 0, 7, 1 | 200 << 16, &r), 0);
	assert_int_equal(r, 1 | 3 << 16);
	assert_int_equal(nv_create(v, 2, 4), 0);
	assert_int_equal(nv_admin(v, 5, 0, CQ(3), 3 | 3 << 16, 1, NULL), 0);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(3), 3 | 3 << 16, 1 | 3 << 16, NULL), DNR | 0x101);
}

/* 5.3 to 5.6 */
static void queues(void **state)
{
	struct nv *v = *state;

	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 0 | 3 << 16, 1, NULL), DNR | 0x101);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 1 | 3 << 16, 1, NULL), DNR | 0x101);	/* is there */
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 5 | 3 << 16, 1, NULL), DNR | 0x101);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 2, 1, NULL), DNR | 0x102);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 2 | 2048u << 16, 1, NULL), DNR | 0x102);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 2 | 3 << 16, 3 | 5 << 16, NULL), DNR | 0x108);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 2 | 3 << 16, 2, NULL), DNR | 0x02);	/* not contiguous */
	assert_int_equal(nv_admin(v, 5, 0, CQ(2) + 16, 2 | 3 << 16, 1, NULL), DNR | 0x13);
	assert_int_equal(nv_admin(v, 5, 0, RAM - 4096, 2 | 1023 << 16, 1, NULL), DNR | 0x02);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2), 2 | 3 << 16, 1 | 2 << 16, NULL), DNR | 0x100);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2), 2 | 3 << 16, 1 | 999 << 16, NULL), DNR | 0x100);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2), 2 | 3 << 16, 1, NULL), DNR | 0x100);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2) + 64, 2 | 3 << 16, 1 | 1 << 16, NULL), DNR | 0x13);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2), 2 | 3 << 16, 1 | 1 << 16, NULL), 0);	/* two share a completion queue */
	assert_int_equal(nv_admin(v, 4, 0, 0, 1, 0, NULL), DNR | 0x10c);
	assert_int_equal(nv_admin(v, 0, 0, 0, 2, 0, NULL), 0);
	assert_int_equal(nv_admin(v, 0, 0, 0, 2, 0, NULL), DNR | 0x101);
	assert_int_equal(nv_admin(v, 0, 0, 0, 0, 0, NULL), DNR | 0x101);
	assert_int_equal(nv_admin(v, 0, 0, 0, 1, 0, NULL), 0);
	assert_int_equal(nv_admin(v, 4, 0, 0, 1, 0, NULL), 0);
	assert_int_equal(nv_admin(v, 4, 0, 0, 1, 0, NULL), DNR | 0x101);
	assert_int_equal(nv_create(v, 1, 8), 0);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
}

/* 4.3: an offset in the first page, a second page, and a list that crosses a page. */
static void prps(void **state)
{
	struct nv *v = *state;
	uint64_t list = LIST + 4096 - 16;

	memset(v->ram + DATA, 0x11, 0x100000);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, 8, 8, DATA, 0), NULL), 0);
	assert_int_equal(blk_mem_data(v->node[0])[4096], 0x11);
	assert_int_equal(blk_mem_data(v->node[0])[8192], 0);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, 16, 8, DATA + 0x800, DATA + 0x5000), NULL), 0);
	/* Three pages and a half: 5 entries, of which the first page of the list holds two, the second leads on. */
	for (unsigned i = 0; i < 4; i++)
		memset(v->ram + DATA + 0x10000 + 0x2000 * i, 0x21 + (int)i, 4096);
	st_le64(v->ram + list, DATA + 0x12000);
	st_le64(v->ram + list + 8, LIST + 0x8000);
	st_le64(v->ram + LIST + 0x8000, DATA + 0x14000);
	st_le64(v->ram + LIST + 0x8008, DATA + 0x16000);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 2, 4, 4, DATA + 0x10000, list), NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(blk_mem_data(v->node[1])[(4 + i) * 4096 + 4095], 0x21 + i);
	st_le64(v->ram + LIST + 0x9000, DATA + 0x50800);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 2, 4, 3, DATA + 0x3f800, LIST + 0x9000), NULL), DNR | 0x13);
	st_le64(v->ram + LIST + 0x9000, DATA + 0x50000);
	st_le64(v->ram + LIST + 0x9008, DATA + 0x60000);
	st_le64(v->ram + LIST + 0x9010, DATA + 0x70000);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 2, 4, 3, DATA + 0x3f800, LIST + 0x9000), NULL), 0);
	assert_int_equal(v->ram[DATA + 0x3f800], 0x21);
	assert_int_equal(v->ram[DATA + 0x50000 + 0x7ff], 0x21);
	assert_int_equal(v->ram[DATA + 0x50000 + 0x800], 0x22);
	assert_int_equal(v->ram[DATA + 0x70000 + 0x7ff], 0x23);
	assert_int_equal(v->ram[DATA + 0x70000 + 0x800], 0x11);
	/* What cannot be. */
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA + 2, 0), NULL), DNR | 0x13);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 16, DATA, DATA + 0x1800), NULL), DNR | 0x13);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 32, DATA, LIST + 4), NULL), DNR | 0x13);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 32, DATA, RAM), NULL), 0x04);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, RAM - 2048, RAM), NULL), 0x04);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 1, ~0xfffull, 0), NULL), 0x04);
	/* The last entry of a page leads to that page's beginning. */
	st_le64(v->ram + LIST + 0xfff8, LIST + 0xf000);
	for (unsigned i = 0; i < 7; i++)
		st_le64(v->ram + LIST + 0xf000 + 8 * i, DATA + 0x20000 + 4096 * i);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 64, DATA, LIST + 0xfff8), NULL), 0);
}

static void put_sgl(struct nv *v, uint64_t at, uint64_t addr, uint32_t len, uint8_t type)
{
	st_le64(v->ram + at, addr);
	st_le32(v->ram + at + 8, len);
	st_le32(v->ram + at + 12, (uint32_t)type << 24);
}

static struct sqe sgl_rw(uint8_t opcode, uint32_t blocks, uint64_t addr, uint32_t len, uint8_t type)
{
	struct sqe s = nv_rw(opcode, 1, 0, blocks, addr, len | (uint64_t)type << 56);

	s.flags = 0x40;
	return s;
}

/* 4.4 */
static void sgls(void **state)
{
	struct nv *v = *state;

	memset(v->ram + DATA, 0x33, 8192);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_WRITE, 2, DATA + 1, 1024, 0x00), NULL), 0);
	assert_int_equal(blk_mem_data(v->node[0])[1023], 0x33);
	put_sgl(v, LIST, DATA + 0x10000, 100, 0x00);
	put_sgl(v, LIST + 16, LIST + 0x100, 32, 0x30);
	put_sgl(v, LIST + 0x100, DATA + 0x20000, 0, 0x00);
	put_sgl(v, LIST + 0x110, DATA + 0x20000, 5000, 0x00);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, LIST, 32, 0x20), NULL), 0);
	assert_int_equal(v->ram[DATA + 0x10000 + 99], 0x33);
	assert_int_equal(v->ram[DATA + 0x10000 + 100], 0);
	assert_int_equal(v->ram[DATA + 0x20000 + 923], 0x33);
	assert_int_equal(v->ram[DATA + 0x20000 + 924], 0);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, DATA, 1023, 0x00), NULL), DNR | 0x0f);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, DATA, 1024, 0x50), NULL), DNR | 0x11);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, LIST, 20, 0x20), NULL), DNR | 0x0d);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, LIST, 0, 0x30), NULL), DNR | 0x0f);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, LIST, 32, 0x30), NULL), DNR | 0x0d);	/* the last one leads on */
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, RAM, 1024, 0x00), NULL), 0x04);
	/* A segment that leads to itself ends too. */
	put_sgl(v, LIST + 0x200, LIST + 0x200, 16, 0x20);
	assert_int_equal(nv_do(v, 1, sgl_rw(OP_READ, 2, LIST + 0x200, 16, 0x20), NULL), DNR | 0x0e);
}

/* 6 */
static void commands(void **state)
{
	struct nv *v = *state;
	uint8_t *disk = blk_mem_data(v->node[0]);
	struct sqe s;

	memset(v->ram + DATA, 0x42, 4096);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, NS_SIZE / 512 - 8, 8, DATA, 0), NULL), 0);
	assert_int_equal(disk[NS_SIZE - 1], 0x42);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, NS_SIZE / 512 - 7, 8, DATA, 0), NULL), DNR | 0x80);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, UINT64_MAX, 2, DATA, 0), NULL), DNR | 0x80);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 3, 0, 1, DATA, 0), NULL), DNR | 0x0b);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 0, 0, 1, DATA, 0), NULL), DNR | 0x0b);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 2049, DATA, LIST), NULL), DNR | 0x02);	/* MDTS */
	assert_int_equal(nv_do(v, 1, (struct sqe){ .opcode = 0x7f, .nsid = 1 }, NULL), DNR | 0x01);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_COMPARE, 1, NS_SIZE / 512 - 8, 8, DATA, 0), NULL), 0);
	v->ram[DATA + 4000] = 0;
	assert_int_equal(nv_do(v, 1, nv_rw(OP_COMPARE, 1, NS_SIZE / 512 - 8, 8, DATA, 0), NULL), 0x285);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_ZEROES, 1, NS_SIZE / 512 - 2, 2, 0, 0), NULL), 0);
	assert_int_equal(disk[NS_SIZE - 1024], 0);
	assert_int_equal(disk[NS_SIZE - 1025], 0x42);
	assert_int_equal(nv_do(v, 1, (struct sqe){ .opcode = OP_FLUSH, .nsid = 1 }, NULL), 0);
	assert_int_equal(nv_do(v, 1, (struct sqe){ .opcode = OP_FLUSH, .nsid = 0xffffffff }, NULL), 0);
	assert_int_equal(nv_do(v, 1, (struct sqe){ .opcode = OP_FLUSH, .nsid = 9 }, NULL), DNR | 0x0b);
	/* Two ranges; the second is outside, so neither is touched. */
	memset(disk, 0x55, 8192);
	st_le64(v->ram + DATA, 4ull << 32);
	st_le64(v->ram + DATA + 8, 0);
	st_le64(v->ram + DATA + 16, 4ull << 32);
	st_le64(v->ram + DATA + 24, NS_SIZE / 512 - 3);
	s = (struct sqe){ .opcode = OP_DSM, .nsid = 1, .prp1 = DATA, .cdw10 = 1, .cdw11 = 4 };
	assert_int_equal(nv_do(v, 1, s, NULL), DNR | 0x80);
	assert_int_equal(disk[0], 0x55);
	s.cdw10 = 0;
	assert_int_equal(nv_do(v, 1, s, NULL), 0);
	assert_int_equal(disk[0], 0);
	assert_int_equal(disk[2048], 0x55);
	s.cdw11 = 1;				/* a hint only */
	st_le64(v->ram + DATA + 8, 4);
	assert_int_equal(nv_do(v, 1, s, NULL), 0);
	assert_int_equal(disk[2048], 0x55);
	v->node[0]->i.read_only = true;
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, 0, 1, DATA, 0), NULL), DNR | 0x20);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_ZEROES, 1, 0, 1, 0, 0), NULL), DNR | 0x20);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA, 0), NULL), 0);
}

static uint32_t take_event(struct nv *v)
{
	uint32_t dw0 = 0;

	assert_int_equal(nv_wait(v, 0, NULL, &dw0), 0);
	return dw0;
}

/* 5.2, 5.14.1.1, 3.1.24 */
static void bad_doorbells(void **state)
{
	struct nv *v = *state;
	uint16_t cid;
	int status;

	for (unsigned i = 0; i < 4; i++)
		nv_send(v, 0, (struct sqe){ .opcode = 0xc });
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 0xc }, NULL), DNR | 0x105);
	nv_bell(v, 1, false, ENTRIES);				/* beyond the queue */
	assert_int_equal(take_event(v), 0 | 1 << 8 | 1 << 16);
	nv_bell(v, 3, false, 0);				/* no such queue; told when the log was read */
	nv_settle(v);
	assert_false(nv_next(v, 0, &cid, &status, NULL));
	assert_int_equal(nv_admin(v, 2, 0, DATA, 1 | 1u << 15 | 255 << 16, 0, NULL), 0);	/* not this time: RAE */
	nv_settle(v);
	assert_false(nv_next(v, 0, &cid, &status, NULL));
	nv_send(v, 0, (struct sqe){ .opcode = 2, .prp1 = DATA, .cdw10 = 1 | 255 << 16 });
	assert_int_equal(take_event(v), 0 | 0 << 8 | 1 << 16);
	assert_int_equal(nv_wait(v, 0, NULL, NULL), 0);
	assert_true(ld_le64(v->ram + DATA) > 0);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 1 | 255 << 16, 0, NULL), 0);
	nv_bell(v, 1, true, 5);					/* a head that overtakes the tail: seen with the next command */
	nv_send(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0));
	assert_int_equal(take_event(v) & 0xffff, 1 << 8);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 1 | 255 << 16, 0, NULL), 0);
	assert_int_equal(nv_wait(v, 1, NULL, NULL), 0);
	nv_wr(v, 0x1ff8, 4, 0);					/* no register of a queue at all */
	assert_int_equal(take_event(v) & 0xffff, 0);
	/* Nothing of this has done harm. */
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
	assert_int_equal(nv_rd(v, 0x1c, 4), 1);
}

/* 5.14 */
static void logs(void **state)
{
	struct nv *v = *state;
	uint8_t *d = v->ram + DATA;
	struct sqe s = { .opcode = 2, .prp1 = DATA };

	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
	assert_int_equal(nv_admin(v, 2, 0xffffffff, DATA, 2 | 127 << 16, 0, NULL), 0);
	assert_int_equal(d[0], 0);
	assert_int_equal(ld_le16(d + 1), 313);
	assert_int_equal(ld_le64(d + 64), 1);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 3 | 127 << 16, 0, NULL), 0);
	assert_int_equal(d[0], 1);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 5 | 1023 << 16, 0, NULL), 0);
	assert_int_equal(ld_le32(d + 4 * 6), 1);
	assert_int_equal(ld_le32(d + 1024 + 4), 3);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 0x42, 0, NULL), DNR | 0x109);
	/* From an offset on, and not beyond the end. */
	memset(d, 0xaa, 1024);
	s.cdw10 = 2 | 127 << 16;
	s.cdw12 = 64;
	assert_int_equal(nv_do(v, 0, s, NULL), 0);
	assert_int_equal(ld_le64(d), 1);
	assert_int_equal(d[448], 0xaa);
	s.cdw12 = 512;
	assert_int_equal(nv_do(v, 0, s, NULL), DNR | 0x02);
	s.cdw12 = 2;
	assert_int_equal(nv_do(v, 0, s, NULL), DNR | 0x02);
	s.cdw12 = 0;
	s.cdw11 = 0xffff;
	assert_int_equal(nv_do(v, 0, s, NULL), DNR | 0x02);
}

/* 5.21.1.4: the temperature is above what the driver says, if it wants to know. */
static void temperature(void **state)
{
	struct nv *v = *state;

	assert_int_equal(nv_admin(v, 9, 0, 0, 0xb, 2 | 1 << 8, NULL), 0);
	nv_send(v, 0, (struct sqe){ .opcode = 0xc });
	nv_send(v, 0, (struct sqe){ .opcode = 9, .cdw10 = 4, .cdw11 = 300 });
	assert_int_equal(take_event(v), 1 | 1 << 8 | 2 << 16);
	assert_int_equal(nv_wait(v, 0, NULL, NULL), 0);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 2 | 127 << 16, 0, NULL), 0);
	assert_int_equal(v->ram[DATA], 2);
	assert_int_equal(nv_admin(v, 9, 0, 0, 4, 5 << 16, NULL), DNR | 0x02);	/* no such sensor */
}

static void resized(void **state)
{
	struct nv *v = *state;
	struct err e = { 0 };

	assert_int_equal(nv_admin(v, 9, 0, 0, 0xb, 1 << 8, NULL), 0);
	nv_send(v, 0, (struct sqe){ .opcode = 0xc });
	nv_settle(v);
	machine_lock(v->m);
	assert_int_equal(nvme_resize(v->n, 2, 12345, &e), -EINVAL);
	assert_int_equal(nvme_resize(v->n, 3, 4096, &e), -ENOENT);
	assert_int_equal(nvme_resize(v->n, 2, NS_SIZE / 2, &e), 0);
	machine_unlock(v->m);
	assert_int_equal(take_event(v), 2 | 0 << 8 | 4 << 16);
	/* Not read until it has come over. */
	assert_int_equal(nv_admin(v, 2, 0, RAM, 4 | 1023 << 16, 0, NULL), 0x04);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 4 | 1023 << 16, 0, NULL), 0);
	assert_int_equal(ld_le64(v->ram + DATA), 2);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 4 | 1023 << 16, 0, NULL), 0);
	assert_int_equal(ld_le64(v->ram + DATA), 0);
	assert_int_equal(nv_admin(v, 6, 2, DATA, 0, 0, NULL), 0);
	assert_int_equal(ld_le64(v->ram + DATA), NS_SIZE / 2 / 4096);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 2, NS_SIZE / 2 / 4096, 1, DATA, 0), NULL), DNR | 0x80);
}

/* 5.1: an event request can be taken back. */
static void aborts(void **state)
{
	struct nv *v = *state;
	uint16_t aer = nv_send(v, 0, (struct sqe){ .opcode = 0xc }), cid;
	uint32_t dw0;

	assert_int_equal(nv_admin(v, 8, 0, 0, 0 | 0x7777u << 16, 0, &dw0), 0);
	assert_int_equal(dw0, 1);
	nv_send(v, 0, (struct sqe){ .opcode = 8, .cdw10 = (uint32_t)aer << 16 });
	assert_int_equal(nv_wait(v, 0, &cid, NULL), 0x07);
	assert_int_equal(cid, aer);
	assert_int_equal(nv_wait(v, 0, NULL, &dw0), 0);
	assert_int_equal(dw0, 0);
}

/* 4.1: a driver that leaves completions there gets no more than fit, and none is lost. */
static void full_completion_queue(void **state)
{
	struct nv *v = *state;
	uint16_t cid;
	int status;

	nv_queue_fresh(v, 2, 4);
	assert_int_equal(nv_admin(v, 5, 0, CQ(2), 2 | 3 << 16, 3 | 2 << 16, NULL), 0);
	v->q[2].size = 32;
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(2), 2 | 31 << 16, 1 | 2 << 16, NULL), 0);
	for (unsigned i = 0; i < 20; i++)
		nv_put(v, 2, nv_rw(OP_READ, 1, i, 1, DATA, 0));
	nv_bell(v, 2, false, v->q[2].tail);
	nv_settle(v);
	v->q[2].size = 4;
	for (unsigned i = 0; i < 3; i++)
		assert_true(v->ram[CQ(2) + 16 * i + 14] & 1);
	assert_false(v->ram[CQ(2) + 16 * 3 + 14] & 1);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(nv_wait(v, 2, &cid, NULL), 0);
	nv_settle(v);
	assert_false(nv_next(v, 2, &cid, &status, NULL));
}

/* 5.7: the registers are written only where the controller asks for it. */
static void shadow_doorbells(void **state)
{
	struct nv *v = *state;
	uint8_t *db = v->ram + 0x600000, *ei = v->ram + 0x601000;
	uint16_t cid;

	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 0x7c, .prp1 = 0x600000, .prp2 = 0x601800 }, NULL), DNR | 0x02);
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 0x7c, .prp1 = RAM, .prp2 = 0x601000 }, NULL), DNR | 0x02);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA, 0), NULL), 0);
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 0x7c, .prp1 = 0x600000, .prp2 = 0x601000 }, NULL), 0);
	assert_int_equal(ld_le32(db + 8), 1);
	for (unsigned i = 0; i < 40; i++) {
		nv_put(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA, 0));
		st_le32(db + 8, v->q[1].tail);
		if (!(i & 1))
			continue;
		nv_settle(v);
		/* It asked to be told when the tail passes what it has seen. */
		assert_int_equal(ld_le32(ei + 8), (v->q[1].tail + ENTRIES - 2) % ENTRIES);
		nv_wr(v, 0x1008, 4, v->q[1].tail);
		assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
		assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
		st_le32(db + 12, v->q[1].head);
	}
	/* Nonsense there does no harm. */
	st_le32(db + 8, 77777);
	nv_wr(v, 0x1008, 4, 3);
	nv_settle(v);
	assert_int_equal(nv_rd(v, 0x1c, 4), 1);
}

static struct nv *without_msix(void)
{
	struct nv *v = nv_new(false, NULL);

	machine_lock(v->m);
	pci_config_write((struct pci_dev *)v->n, ((struct pci_dev *)v->n)->msix_cap + 2u, 2, 0);
	machine_unlock(v->m);
	return v;
}

static void pin(void **state)
{
	struct nv *v = without_msix();
	uint16_t cid;

	nv_enable(v);
	nv_send(v, 0, (struct sqe){ .opcode = 6, .prp1 = DATA, .cdw10 = 1 });
	nv_settle(v);
	assert_true(v->pin);
	nv_wr(v, 0xc, 4, 1);
	assert_false(v->pin);
	nv_wr(v, 0x10, 4, 1);
	assert_true(v->pin);
	assert_int_equal(nv_wait(v, 0, &cid, NULL), 0);
	nv_settle(v);
	assert_false(v->pin);
	nv_free(v);
}

/* The pin falls when the driver has looked, although it moves the head in a doorbell buffer and rings only when asked to. */
static void pin_with_shadow(void **state)
{
	struct nv *v = without_msix();
	uint8_t *db = v->ram + 0x600000, *ei = v->ram + 0x601000, *e;

	nv_enable(v);
	nv_queue_fresh(v, 1, ENTRIES);
	assert_int_equal(nv_admin(v, 5, 0, CQ(1), 1 | (ENTRIES - 1) << 16, 3, NULL), 0);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(1), 1 | (ENTRIES - 1) << 16, 1 | 1 << 16, NULL), 0);
	assert_int_equal(nv_do(v, 0, (struct sqe){ .opcode = 0x7c, .prp1 = 0x600000, .prp2 = 0x601000 }, NULL), 0);
	for (uint32_t i = 0; i < 5; i++) {
		nv_settle(v);
		assert_false(v->pin);
		e = v->ram + CQ(1) + 16 * i;
		nv_put(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA, 0));
		st_le32(db + 8, v->q[1].tail);
		nv_bell(v, 1, false, v->q[1].tail);
		nv_settle(v);
		assert_true(e[14] & 1);
		assert_true(v->pin);
		/* "Ring when you pass i." */
		assert_int_equal(ld_le32(ei + 12), i);
		st_le32(db + 12, i + 1);
		nv_bell(v, 1, true, i + 1);
	}
	nv_free(v);
}

/* 7.6.2; and a reset with requests in flight. */
static void shutdown_and_reset(void **state)
{
	struct nv *v = *state;

	memset(v->ram + DATA, 0x61, 4096);
	if (!v->io)
		blk_mem_hold(v->node[0], true);
	nv_send(v, 1, nv_rw(OP_WRITE, 1, 0, 8, DATA, 0));
	nv_settle(v);
	nv_wr(v, 0x14, 4, 0x460000);
	assert_int_equal(nv_rd(v, 0x1c, 4), 0);
	assert_int_equal(blk_mem_data(v->node[0])[0], 0x61);
	if (!v->io)
		blk_mem_hold(v->node[0], false);
	nv_start(v);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
	nv_wr(v, 0x14, 4, 0x464001);
	for (unsigned i = 0; i < 1000 && (nv_rd(v, 0x1c, 4) & 0xc) != 8; i++)
		loop_turn(v->m->loop, 1);
	assert_int_equal(nv_rd(v, 0x1c, 4), 9);
	nv_wr(v, 0x14, 4, 0);
	assert_int_equal(nv_rd(v, 0x1c, 4), 0);
	machine_lock(v->m);
	machine_reset_devs(v->m);
	machine_unlock(v->m);
	nv_place(v, true);
	nv_start(v);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
}

/* One disk that fails does not keep the others from being flushed. */
static void shutdown_with_error(void **state)
{
	struct nv *v = *state;

	machine_lock(v->m);
	blk_mem_fail_with(v->node[0], 1, -EIO, true);
	machine_unlock(v->m);
	nv_wr(v, 0x14, 4, 0x464001);
	for (unsigned i = 0; i < 1000 && (nv_rd(v, 0x1c, 4) & 0xc) != 8; i++)
		loop_turn(v->m->loop, 1);
	assert_int_equal(nv_rd(v, 0x1c, 4), 9);
	assert_int_equal(nvme_disk(v->n, 1)->stats.op[DISK_FLUSHES].failed, 1);
	assert_int_equal(nvme_disk(v->n, 2)->stats.op[DISK_FLUSHES].count, 1);
}

/* A submission queue goes: what it has in flight ends before. */
static void delete_in_flight(void **state)
{
	struct nv *v = *state;
	uint16_t cid, first = nv_put(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0));

	blk_mem_hold(v->node[0], true);
	nv_bell(v, 1, false, v->q[1].tail);
	nv_settle(v);
	assert_int_equal(nv_admin(v, 0, 0, 0, 1, 0, NULL), 0);
	assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
	assert_int_equal(cid, first);
}

/* ---- the host's errors, saved state ---- */

static void host_errors(void **state)
{
	struct nv *v = *state;

	blk_mem_fail_with(v->node[0], 1, -EIO, false);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 5, 1, DATA, 0), NULL), 0x281);
	blk_mem_fail_with(v->node[0], 1, -EIO, false);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_WRITE, 1, 5, 1, DATA, 0), NULL), 0x280);
	blk_mem_fail_with(v->node[1], 1, -EIO, false);
	assert_int_equal(nv_do(v, 1, (struct sqe){ .opcode = OP_FLUSH, .nsid = 0xffffffff }, NULL), 0x06);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 2 | 127 << 16, 0, NULL), 0);
	assert_int_equal(ld_le64(v->ram + DATA + 160), 3);
	assert_int_equal(nv_admin(v, 2, 0, DATA, 1 | 255 << 16, 0, NULL), 0);
	assert_int_equal(ld_le16(v->ram + DATA + 12), 0x06 << 1);
	assert_int_equal(ld_le64(v->ram + DATA + 64 + 16), 5);
}

static void pause_devs(struct nv *v, bool on)
{
	machine_lock(v->m);
	if (on)
		machine_pause_devs(v->m);
	else
		machine_resume_devs(v->m);
	machine_unlock(v->m);
}

/* Saved, and loaded into a machine that was reset. */
static void save_and_load(struct nv *v)
{
	struct err e = { 0 };
	struct snap_out *o;
	struct snap_in *in;
	const void *p;
	size_t len;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(v->m);
	assert_int_equal(machine_save_devs(v->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_reset_devs(v->m);
	assert_int_equal(machine_load_devs(v->m, in, &e), 0);
	machine_unlock(v->m);
	snap_in_free(in);
	snap_out_free(o);
}

/* A queue that is polled, with a vector that is not there. */
static void saved_polled(void **state)
{
	struct nv *v = nv_new(false, NULL);

	nv_enable(v);
	nv_queue_fresh(v, 1, ENTRIES);
	assert_int_equal(nv_admin(v, 5, 0, CQ(1), 1 | (ENTRIES - 1) << 16, 1 | 999u << 16, NULL), 0);
	assert_int_equal(nv_admin(v, 1, 0, QUEUE(1), 1 | (ENTRIES - 1) << 16, 1 | 1 << 16, NULL), 0);
	pause_devs(v, true);
	save_and_load(v);
	pause_devs(v, false);
	assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 1, DATA, 0), NULL), 0);
	nv_free(v);
}

/* In mid-operation: requests that failed wait, commands not yet fetched, an event request, a wrapped queue. */
static void saved(void **state)
{
	struct disk_opts o = { .on_read_error = DISK_STOP, .on_write_error = DISK_STOP };
	struct nv *v = nv_new(false, &o);
	uint16_t a, b, c, cid;

	nv_start(v);
	for (unsigned i = 0; i < 2 * ENTRIES + 3; i++)
		assert_int_equal(nv_do(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0), NULL), 0);
	nv_send(v, 0, (struct sqe){ .opcode = 0xc });
	nv_settle(v);
	memset(v->ram + DATA, 0x77, 4096);
	blk_mem_fail_with(v->node[0], 1, -ENOSPC, true);
	a = nv_send(v, 1, nv_rw(OP_WRITE, 1, 0, 8, DATA, 0));
	nv_settle(v);
	assert_int_equal(v->pauses, 1);
	pause_devs(v, true);
	b = nv_send(v, 1, nv_rw(OP_WRITE, 1, 8, 8, DATA, 0));
	nv_settle(v);
	machine_lock(v->m);
	assert_int_equal(nvme_waiting(v->n), 1);
	machine_unlock(v->m);
	save_and_load(v);
	blk_mem_fail_with(v->node[0], 0, 0, false);
	machine_lock(v->m);
	assert_int_equal(nvme_waiting(v->n), 1);
	machine_unlock(v->m);
	assert_int_equal(blk_mem_data(v->node[0])[0], 0);
	pause_devs(v, false);
	assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
	assert_int_equal(cid, a);
	assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
	assert_int_equal(cid, b);
	assert_int_equal(blk_mem_data(v->node[0])[8191], 0x77);
	nv_bell(v, 1, false, 999);
	assert_int_equal(take_event(v), 0 | 1 << 8 | 1 << 16);
	c = nv_send(v, 1, nv_rw(OP_READ, 2, 1, 1, DATA, 0));
	assert_int_equal(nv_wait(v, 1, &cid, NULL), 0);
	assert_int_equal(cid, c);
	nv_free(v);
}

/* A queue that is deleted while its request waits to be repeated. */
static void aborted_kept(void **state)
{
	struct disk_opts o = { .on_read_error = DISK_STOP };
	struct nv *v = nv_new(false, &o);
	uint16_t cid, first;

	nv_start(v);
	blk_mem_fail_with(v->node[0], 1, -EIO, false);
	first = nv_send(v, 1, nv_rw(OP_READ, 1, 0, 8, DATA, 0));
	nv_settle(v);
	assert_int_equal(v->pauses, 1);
	assert_int_equal(nv_admin(v, 0, 0, 0, 1, 0, NULL), 0);
	assert_int_equal(nv_wait(v, 1, &cid, NULL), 0x08);
	assert_int_equal(cid, first);
	nv_free(v);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers), T(identify), T(features), T(queues), T(prps), T(sgls), T(commands), T(bad_doorbells),
		T(logs), T(temperature), T(resized), T(aborts), T(full_completion_queue), T(shadow_doorbells),
		cmocka_unit_test(pin), cmocka_unit_test(pin_with_shadow), T(shutdown_and_reset), T(shutdown_with_error),
		T(delete_in_flight), T(host_errors), cmocka_unit_test(saved),
		cmocka_unit_test(aborted_kept), cmocka_unit_test(saved_polled),
		cmocka_unit_test_setup_teardown(prps, setup_io, teardown), cmocka_unit_test_setup_teardown(commands, setup_io, teardown),
		cmocka_unit_test_setup_teardown(queues, setup_io, teardown),
		cmocka_unit_test_setup_teardown(bad_doorbells, setup_io, teardown),
		cmocka_unit_test_setup_teardown(full_completion_queue, setup_io, teardown),
		cmocka_unit_test_setup_teardown(shutdown_and_reset, setup_io, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
