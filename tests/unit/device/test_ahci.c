/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI from the driver's side (AHCI 1.3.1, ACS-3, MMC-6): a disk on port 0 and a
 * CD on port 1.
 */
#include "card.h"

#include "device/ahci.h"

#define RAM (8u << 20)
#define ABAR 0xc0000000ull
#define SIZE (4u << 20)
#define LIST(p) (0x100000u + (p) * 0x10000u)
#define FIS(p) (LIST(p) + 0x400u)
#define TABLE(p, s) (LIST(p) + 0x1000u + (s) * 0x400u)
#define DATA 0x400000u

struct fix {
	struct machine *m;
	struct ahci *a;
	struct blk_node *node[2];
	struct iothread *io;
	uint8_t *ram;
	unsigned irqs, pauses;
};

static int on_msi(void *opaque, const struct msi *msg)
{
	((struct fix *)opaque)->irqs++;
	return 0;
}

static void on_request(void *opaque, enum machine_request req, int code)
{
	((struct fix *)opaque)->pauses += req == MACHINE_REQ_PAUSE;
}

static uint32_t rd(struct fix *f, uint32_t off)
{
	uint8_t b[4];

	bus_access(f->m->mmio, ABAR + off, b, 4, false);
	return ld_le32(b);
}

static void wr(struct fix *f, uint32_t off, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access(f->m->mmio, ABAR + off, b, 4, true);
}

static uint32_t prd(struct fix *f, unsigned p, uint32_t off) { return rd(f, 0x100 + 0x80 * p + off); }
static void pwr(struct fix *f, unsigned p, uint32_t off, uint32_t v) { wr(f, 0x100 + 0x80 * p + off, v); }

static void start(struct fix *f, unsigned p)
{
	pwr(f, p, 0x00, LIST(p));
	pwr(f, p, 0x08, FIS(p));
	pwr(f, p, 0x14, 0xffffffff);
	pwr(f, p, 0x18, 0x16);
	pwr(f, p, 0x18, 0x17);
}

static void place(struct fix *f)
{
	struct pci_dev *p = (struct pci_dev *)f->a;

	machine_lock(f->m);
	pci_config_write(p, PCI_BAR(5), 4, (uint32_t)ABAR);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	pci_config_write(p, p->msi_cap + 4u, 4, 0xfee00000);
	pci_config_write(p, p->msi_cap + 2u, 2, 1);
	machine_unlock(f->m);
	wr(f, 4, 2);
	start(f, 0);
	start(f, 1);
}

static struct fix *make(bool io, enum disk_on_error on)
{
	struct disk_opts o = { .on_read_error = on, .on_write_error = on, .serial = "SER1" };
	struct pci_root_config cfg = { .cf8 = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct pci_bus *root;
	struct err e = { 0 };
	unsigned port = 99;

	f->m = card_machine(RAM, on_msi, f);
	f->ram = mem_ram_host(f->m->mem);
	f->m->request = on_request;
	f->m->request_opaque = f;
	if (io)
		assert_int_equal(iothread_new(f->m, "io", &f->io), 0);
	machine_lock(f->m);
	assert_int_equal(pci_root_new(f->m, &cfg, &root, &e), 0);
	assert_int_equal(ahci_new(f->m, root, PCI_DEVFN(31, 2), "ahci0", f->io, &f->a, &e), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(blk_open_mem(io ? iothread_loop(f->io) : f->m->loop, SIZE, &f->node[i]), 0);
		f->node[i]->i.can_discard = f->node[i]->i.can_zero = true;
		assert_int_equal(ahci_add(f->a, i ? "disk1" : "disk0", f->node[i], i, &o, &port, &e), 0);
		assert_int_equal(port, i);
	}
	f->node[1]->i.read_only = true;
	machine_unlock(f->m);
	place(f);
	return f;
}

static int setup(void **state)
{
	*state = make(false, DISK_REPORT);
	return 0;
}

static int setup_io(void **state)
{
	*state = make(true, DISK_REPORT);
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_lock(f->m);
	machine_free_devs(f->m);
	machine_unlock(f->m);
	iothread_free(f->io);
	machine_free(f->m);
	free(f);
	return 0;
}

static void turn(struct fix *f)
{
	for (int i = 0; i < 10; i++)
		loop_turn(f->m->loop, f->io ? 1 : 0);
}

/* Header, FIS and one piece of memory. */
static uint8_t *prepare(struct fix *f, unsigned p, unsigned s, uint8_t op, uint64_t lba, uint16_t count, uint32_t len)
{
	uint8_t *h = f->ram + LIST(p) + 32 * s, *t = f->ram + TABLE(p, s);

	st_le32(h, 5 | (len ? 1u << 16 : 0));
	st_le32(h + 4, 0);
	st_le64(h + 8, TABLE(p, s));
	memset(t, 0, 0x100);
	t[0] = 0x27;
	t[1] = 0x80;
	t[2] = op;
	st_le16(t + 4, (uint16_t)lba);
	t[6] = (uint8_t)(lba >> 16);
	t[7] = 0x40;
	t[8] = (uint8_t)(lba >> 24);
	st_le16(t + 12, count);
	st_le64(t + 0x80, DATA);
	st_le32(t + 0x8c, len ? len - 1 : 0);
	return t;
}

static void wait_slot(struct fix *f, unsigned p, unsigned s)
{
	for (int i = 0; i < 3000; i++) {
		if (!((prd(f, p, 0x38) | prd(f, p, 0x34)) & BIT(s)) || prd(f, p, 0x10) & BIT(30))
			return;
		loop_turn(f->m->loop, 1);
	}
	fail_msg("slot %u is never done", s);
}

/* Status and error, as status | error << 8. */
static uint32_t run(struct fix *f, unsigned p, unsigned s)
{
	uint32_t tfd;

	pwr(f, p, 0x10, 0xffffffff);
	pwr(f, p, 0x38, BIT(s));
	wait_slot(f, p, s);
	tfd = prd(f, p, 0x20);
	if (prd(f, p, 0x10) & BIT(30)) {
		pwr(f, p, 0x18, 0x16);
		pwr(f, p, 0x18, 0x17);
	}
	return tfd;
}

static uint32_t ata(struct fix *f, uint8_t op, uint64_t lba, uint16_t count, uint32_t len)
{
	prepare(f, 0, 3, op, lba, count, len);
	return run(f, 0, 3);
}

static void registers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(rd(f, 0) & 0x1f, 5);
	assert_int_equal(rd(f, 0) >> 8 & 0x1f, 31);
	assert_true(rd(f, 0) & BIT(30));
	assert_int_equal(rd(f, 4), 0x80000002);
	assert_int_equal(rd(f, 0xc), 0x3f);
	assert_int_equal(rd(f, 0x10), 0x10301);
	assert_int_equal(prd(f, 0, 0x24), 0x101);
	assert_int_equal(prd(f, 1, 0x24), 0xeb140101);
	assert_int_equal(prd(f, 0, 0x28), 0x113);
	assert_int_equal(prd(f, 2, 0x28), 0);
	assert_int_equal(prd(f, 0, 0x18) & 0xc011, 0xc011);
	pwr(f, 0, 0x18, 0x6);
	assert_int_equal(prd(f, 0, 0x18) & 0xc011, 0);
	pwr(f, 0, 0x2c, 1);
	pwr(f, 0, 0x2c, 0);
	assert_true(prd(f, 0, 0x30) & BIT(26));
	pwr(f, 0, 0x30, 0xffffffff);
	assert_int_equal(prd(f, 0, 0x30), 0);
	wr(f, 4, 1);
	assert_int_equal(rd(f, 4), 0x80000000);
	assert_int_equal(prd(f, 0, 0x00), 0);
}

static void identify(void **state)
{
	struct fix *f = *state;
	const uint16_t *w = (const uint16_t *)(const void *)(f->ram + DATA);
	uint8_t sum = 0;

	assert_int_equal(ata(f, 0xec, 0, 0, 512), 0x50);
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + f->ram[DATA + i]);
	assert_int_equal(sum, 0);
	assert_int_equal(w[10], 'S' << 8 | 'E');
	assert_int_equal(w[60] | w[61] << 16, SIZE / 512);
	assert_int_equal(w[100], SIZE / 512);
	assert_int_equal(w[75], 31);
	assert_true(w[83] & 1 << 10);
	assert_int_equal(w[169], 1);
	assert_int_equal(f->ram[FIS(0) + 0x20], 0x5f);
	assert_int_equal(f->ram[FIS(0) + 0x40], 0x34);
	assert_int_equal(ld_le32(f->ram + LIST(0) + 32 * 3 + 4), 512);
	assert_true(f->irqs > 0);
	/* The CD says that it is one. */
	prepare(f, 1, 0, 0xec, 0, 0, 512);
	assert_int_equal(run(f, 1, 0), 0x51 | 4 << 8);
	assert_int_equal(f->ram[FIS(1) + 0x45], 0x14);
	prepare(f, 1, 0, 0xa1, 0, 0, 512);
	assert_int_equal(run(f, 1, 0), 0x50);
	assert_int_equal(w[0], 0x8580);
}

static void read_and_write(void **state)
{
	struct fix *f = *state;
	uint8_t *disk = blk_mem_data(f->node[0]);

	memset(f->ram + DATA, 0x5a, 8192);
	assert_int_equal(ata(f, 0x35, 8, 8, 4096), 0x50);
	assert_int_equal(disk[4096], 0x5a);
	assert_int_equal(disk[8192], 0);
	assert_int_equal(ata(f, 0xca, 16, 8, 4096) & 0xff, 0x50);
	disk[4097] = 7;
	assert_int_equal(ata(f, 0x25, 8, 2, 4096), 0x50);	/* the list is longer than the data */
	assert_int_equal(f->ram[DATA + 1], 7);
	assert_int_equal(ld_le32(f->ram + LIST(0) + 32 * 3 + 4), 1024);
	assert_int_equal(ata(f, 0x20, 8, 1, 512), 0x50);
	assert_int_equal(ata(f, 0x25, 8, 8, 2048), 0x51 | 4 << 8);	/* and shorter */
	assert_int_equal(ata(f, 0x25, SIZE / 512 - 1, 2, 4096), 0x51 | 0x14 << 8);
	assert_int_equal(ata(f, 0x25, SIZE / 512 - 1, 1, 4096), 0x50);
	assert_int_equal(ata(f, 0x25, 0, 0, 4096), 0x51 | 0x14 << 8);	/* 65536 sectors */
	assert_int_equal(ata(f, 0xea, 0, 0, 0), 0x50);
	assert_int_equal(ata(f, 0x42, SIZE / 512 - 1, 1, 0), 0x50);
	assert_int_equal(ata(f, 0x42, SIZE / 512, 1, 0), 0x51 | 0x10 << 8);
	assert_int_equal(ata(f, 0x77, 0, 0, 0), 0x51 | 4 << 8);
	assert_int_equal(ata(f, 0xc4, 0, 1, 512), 0x51 | 4 << 8);	/* multiple is not set */
	assert_int_equal(ata(f, 0xc6, 0, 16, 0), 0x50);
	assert_int_equal(ata(f, 0xc4, 0, 1, 512), 0x50);
	assert_int_equal(ata(f, 0xc6, 0, 17, 0), 0x51 | 4 << 8);
	f->node[0]->i.read_only = true;
	assert_int_equal(ata(f, 0x35, 8, 8, 4096), 0x51 | 4 << 8);
}

static void trim(void **state)
{
	struct fix *f = *state;
	uint8_t *disk = blk_mem_data(f->node[0]), *t;

	memset(disk, 0x11, 8192);
	memset(f->ram + DATA, 0, 512);
	st_le64(f->ram + DATA, 2 | 4ull << 48);
	t = prepare(f, 0, 0, 0x06, 0, 1, 512);
	t[3] = 1;
	assert_int_equal(run(f, 0, 0), 0x50);
	assert_int_equal(disk[1023], 0x11);
	assert_int_equal(disk[1024], 0);
	assert_int_equal(disk[3072], 0x11);
	st_le64(f->ram + DATA + 8, SIZE / 512 | 1ull << 48);
	assert_int_equal(run(f, 0, 0), 0x51 | 0x14 << 8);
	st_le16(t + 12, 9);
	assert_int_equal(run(f, 0, 0), 0x51 | 4 << 8);
}

static void ncq(struct fix *f, unsigned s, bool write, uint64_t lba, uint16_t n)
{
	uint8_t *t = prepare(f, 0, s, write ? 0x61 : 0x60, lba, (uint16_t)(s << 3), n * 512u);

	t[3] = (uint8_t)n;
	t[11] = (uint8_t)(n >> 8);
}

/* SATA 3.0, 13.6; ACS-3, 9.10 */
static void queued(void **state)
{
	struct fix *f = *state;

	memset(f->ram + DATA, 0x66, 4096);
	for (unsigned s = 0; s < 32; s++)
		ncq(f, s, true, 8 * s, 8);
	pwr(f, 0, 0x10, 0xffffffff);
	pwr(f, 0, 0x34, 0xffffffff);
	pwr(f, 0, 0x38, 0xffffffff);
	for (int i = 0; i < 2000 && prd(f, 0, 0x34); i++)
		loop_turn(f->m->loop, 1);
	assert_int_equal(prd(f, 0, 0x34), 0);
	assert_int_equal(prd(f, 0, 0x38), 0);
	assert_true(prd(f, 0, 0x10) & 8);
	assert_int_equal(blk_mem_data(f->node[0])[32 * 4096 - 1], 0x66);
	assert_int_equal(f->ram[FIS(0) + 0x58], 0xa1);
	/* One fails: the others' bits stay as they are, and the log says which it was. */
	ncq(f, 5, false, SIZE / 512, 8);
	pwr(f, 0, 0x10, 0xffffffff);
	pwr(f, 0, 0x34, BIT(5));
	pwr(f, 0, 0x38, BIT(5));
	wait_slot(f, 0, 5);
	assert_true(prd(f, 0, 0x10) & BIT(30));
	assert_int_equal(prd(f, 0, 0x34), BIT(5));
	assert_int_equal(prd(f, 0, 0x20), 0x51 | 0x14 << 8);
	ncq(f, 6, false, 0, 8);				/* nothing is taken now */
	pwr(f, 0, 0x34, BIT(6));
	pwr(f, 0, 0x38, BIT(6));
	turn(f);
	assert_true(prd(f, 0, 0x38) & BIT(6));
	pwr(f, 0, 0x18, 0x16);
	assert_int_equal(prd(f, 0, 0x34) | prd(f, 0, 0x38), 0);
	pwr(f, 0, 0x18, 0x17);
	assert_int_equal(ata(f, 0x2f, 0x10, 1, 512), 0x50);
	assert_int_equal(f->ram[DATA], 5);
	assert_int_equal(f->ram[DATA + 3], 0x14);
	assert_int_equal(ata(f, 0x2f, 0, 1, 512), 0x50);
	assert_int_equal(ld_le16(f->ram + DATA + 0x20), 1);
	assert_int_equal(ata(f, 0x2f, 0x55, 1, 512), 0x51 | 4 << 8);
	/* A tag that is not its slot's. */
	ncq(f, 7, false, 0, 8);
	f->ram[TABLE(0, 7) + 12] = 3 << 3;
	pwr(f, 0, 0x34, BIT(7));
	assert_int_equal(run(f, 0, 7), 0x51 | 4 << 8);
}

/* What ends well after one that failed does not hide it. */
static void first_error_stays(void **state)
{
	struct fix *f = *state;

	blk_mem_hold(f->node[0], true);
	ncq(f, 4, false, 0, 8);
	ncq(f, 5, false, SIZE / 512, 8);
	pwr(f, 0, 0x34, BIT(4) | BIT(5));
	pwr(f, 0, 0x38, BIT(4) | BIT(5));
	turn(f);
	assert_int_equal(prd(f, 0, 0x34), BIT(4) | BIT(5));
	assert_int_equal(prd(f, 0, 0x20), 0x51 | 0x14 << 8);
	blk_mem_hold(f->node[0], false);
	turn(f);
	assert_int_equal(prd(f, 0, 0x34), BIT(5));
	assert_int_equal(prd(f, 0, 0x20), 0x51 | 0x14 << 8);
}

/* 10.6.2: one message for what a handler takes in one go. */
static void messages(void **state)
{
	struct fix *f = *state;

	pwr(f, 0, 0x10, 0xffffffff);
	pwr(f, 1, 0x10, 0xffffffff);
	wr(f, 8, 0x3f);
	f->irqs = 0;
	prepare(f, 0, 3, 0x25, 0, 1, 512);
	pwr(f, 0, 0x38, BIT(3));
	wait_slot(f, 0, 3);
	assert_int_equal(f->irqs, 1);
	/* The handler's way: the port, then the controller. */
	pwr(f, 0, 0x10, prd(f, 0, 0x10));
	assert_int_equal(f->irqs, 1);
	wr(f, 8, 1);
	assert_int_equal(rd(f, 8), 0);
	assert_int_equal(f->irqs, 1);
	/* Another command ends in between: its bit is there again when the handler has cleared it. */
	pwr(f, 0, 0x38, BIT(3));
	wait_slot(f, 0, 3);
	assert_int_equal(f->irqs, 2);
	pwr(f, 0, 0x10, prd(f, 0, 0x10));
	pwr(f, 0, 0x38, BIT(3));
	wait_slot(f, 0, 3);
	assert_int_equal(f->irqs, 2);
	wr(f, 8, 1);
	assert_int_equal(rd(f, 8), 1);
	assert_int_equal(f->irqs, 3);
	pwr(f, 0, 0x10, prd(f, 0, 0x10));
	wr(f, 8, 1);
	assert_int_equal(f->irqs, 3);
	/* What came while they were off is told when they are on. */
	wr(f, 4, 0);
	pwr(f, 0, 0x38, BIT(3));
	wait_slot(f, 0, 3);
	assert_int_equal(f->irqs, 3);
	wr(f, 4, 2);
	assert_int_equal(f->irqs, 4);
}

static void smart_and_features(void **state)
{
	struct fix *f = *state;
	uint8_t *t = prepare(f, 0, 0, 0xb0, 0xc24f00, 1, 512);

	t[3] = 0xd0;
	assert_int_equal(run(f, 0, 0), 0x50);
	t[3] = 0xda;
	assert_int_equal(run(f, 0, 0), 0x50);
	assert_int_equal(f->ram[FIS(0) + 0x45], 0x4f);
	t[3] = 0xd9;
	assert_int_equal(run(f, 0, 0), 0x50);
	t[3] = 0xda;
	assert_int_equal(run(f, 0, 0), 0x51 | 4 << 8);
	t = prepare(f, 0, 0, 0xef, 0, 0, 0);
	t[3] = 0x82;
	assert_int_equal(run(f, 0, 0), 0x50);
	t[3] = 0x99;
	assert_int_equal(run(f, 0, 0), 0x51 | 4 << 8);
	assert_int_equal(ata(f, 0xec, 0, 0, 512), 0x50);
	assert_int_equal(ld_le16(f->ram + DATA + 170) & 0x21, 0);
}

/* Structures outside memory stop the port; it goes on afterwards. */
/* The list of a command that moves nothing is not looked at (SeaBIOS: 4 MiB at 0); one that does stops the port. */
static void list_without_use(void **state)
{
	static const struct { unsigned port; uint8_t op, cdb; bool data; } c[] = {
		{ 0, 0xef, 0, false }, { 0, 0xe7, 0, false }, { 0, 0x25, 0, true }, { 0, 0xec, 0, true },
		{ 1, 0xa0, 0x00, false }, { 1, 0xa0, 0x12, true }, { 1, 0xa1, 0, true },
	};
	struct fix *f = *state;

	prepare(f, 1, 0, 0xa0, 0, 0, 0);			/* TEST UNIT READY hears of the reset */
	run(f, 1, 0);
	for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
		unsigned p = c[i].port;
		uint8_t *t = prepare(f, p, 0, c[i].op, 0, 1, 512);

		if (c[i].op == 0xef)
			t[3] = 3;
		t[0x40] = c[i].cdb;
		t[0x44] = 36;
		st_le64(t + 0x80, RAM - 0x1000);
		st_le32(t + 0x8c, 0xffffffff);
		pwr(f, p, 0x10, 0xffffffff);
		pwr(f, p, 0x38, 1);
		for (int k = 0; k < 1000 && !(prd(f, p, 0x10) & BIT(28)) && prd(f, p, 0x38); k++)
			loop_turn(f->m->loop, 1);
		assert_int_equal(!!(prd(f, p, 0x10) & BIT(28)), c[i].data);
		assert_int_equal(prd(f, p, 0x38), c[i].data);
		pwr(f, p, 0x18, 0x16);
		pwr(f, p, 0x18, 0x17);
	}
}

static void nonsense(void **state)
{
	struct fix *f = *state;
	uint8_t *h = f->ram + LIST(0) + 32 * 3;

	prepare(f, 0, 3, 0x25, 0, 1, 512);
	st_le64(h + 8, RAM);
	pwr(f, 0, 0x38, BIT(3));
	turn(f);
	assert_true(prd(f, 0, 0x10) & BIT(29));
	prepare(f, 0, 3, 0x25, 0, 1, 512);
	st_le64(f->ram + TABLE(0, 3) + 0x80, RAM - 256);
	pwr(f, 0, 0x18, 0x16);
	pwr(f, 0, 0x18, 0x17);
	pwr(f, 0, 0x10, 0xffffffff);
	pwr(f, 0, 0x38, BIT(3));
	turn(f);
	turn(f);
	assert_true(prd(f, 0, 0x10) & BIT(28));
	pwr(f, 0, 0x18, 0x16);
	pwr(f, 0, 0x18, 0x17);
	f->ram[TABLE(0, 3)] = 0x99;			/* no FIS of a host */
	pwr(f, 0, 0x10, 0xffffffff);
	pwr(f, 0, 0x38, BIT(3));
	turn(f);
	turn(f);
	assert_true(prd(f, 0, 0x10) & BIT(29));
	pwr(f, 0, 0x18, 0x16);
	pwr(f, 0, 0x18, 0x17);
	assert_int_equal(ata(f, 0x25, 0, 1, 512), 0x50);
	/* SRST, set and cleared. */
	prepare(f, 0, 0, 0, 0, 0, 0)[1] = 0;
	f->ram[TABLE(0, 0) + 15] = 4;
	run(f, 0, 0);
	f->ram[TABLE(0, 0) + 15] = 0;
	assert_int_equal(run(f, 0, 0), 0x50 | 1 << 8);
}

/* ---- the CD ---- */

static uint32_t packet(struct fix *f, const uint8_t *cdb, uint32_t len)
{
	uint8_t *t = prepare(f, 1, 0, 0xa0, 0, 0, len);

	t[3] = 1;
	memcpy(t + 0x40, cdb, 12);
	return run(f, 1, 0);
}

#define P(len, ...) packet(f, (const uint8_t[12]){ __VA_ARGS__ }, len)

static uint32_t sense(struct fix *f)
{
	assert_int_equal(P(18, 0x03, 0, 0, 0, 18), 0x50);
	return (uint32_t)f->ram[DATA + 2] << 16 | f->ram[DATA + 12] << 8 | f->ram[DATA + 13];
}

static void cd(void **state)
{
	struct fix *f = *state;
	uint8_t *d = f->ram + DATA;

	assert_int_equal(P(36, 0x12, 0, 0, 0, 36), 0x50);
	assert_int_equal(d[0], 5);
	assert_int_equal(d[1], 0x80);
	assert_int_equal(P(0, 0x00), 0x51 | 0x64 << 8);		/* power on */
	assert_int_equal(sense(f), 0x062900);
	assert_int_equal(P(0, 0x00), 0x50);
	assert_int_equal(P(8, 0x25), 0x50);
	assert_int_equal(d[2] << 8 | d[3], SIZE / 2048 - 1);
	assert_int_equal(d[6], 8);
	blk_mem_data(f->node[1])[2048 * 5] = 0x99;
	assert_int_equal(P(4096, 0x28, 0, 0, 0, 0, 5, 0, 0, 2), 0x50);
	assert_int_equal(d[0], 0x99);
	assert_int_equal(P(2048, 0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 1), 0x50);
	assert_int_equal(P(4096, 0x28, 0, 0, 0, SIZE / 2048 >> 8, SIZE / 2048 & 0xff, 0, 0, 1), 0x51 | 0x54 << 8);
	assert_int_equal(sense(f), 0x052100);
	assert_int_equal(P(2048, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1), 0x51 | 0x74 << 8);
	assert_int_equal(P(2048, 0x28, 0, 0, 0, 0, 5, 0, 0, 2), 0x51 | 0x54 << 8);	/* too little memory */
	assert_int_equal(P(20, 0x43, 0, 0, 0, 0, 0, 0, 0, 20), 0x50);
	assert_int_equal(d[1], 18);
	assert_int_equal(d[14], 0xaa);
	assert_int_equal(d[18] << 8 | d[19], SIZE / 2048);
	assert_int_equal(P(20, 0x43, 2, 0, 0, 0, 0, 0, 0, 20), 0x50);
	assert_int_equal(d[10], 2);				/* 00:02:00 */
	assert_int_equal(P(12, 0x43, 0, 1, 0, 0, 0, 0, 0, 12), 0x50);
	assert_int_equal(P(200, 0x46, 0, 0, 0, 0, 0, 0, 0, 200), 0x50);
	assert_int_equal(d[7], 0x08);				/* CD-ROM */
	assert_int_equal(P(64, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64), 0x50);
	assert_int_equal(d[8], 0x2a);
	assert_int_equal(P(34, 0x51, 0, 0, 0, 0, 0, 0, 0, 34), 0x50);
	assert_int_equal(P(8, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), 0x50);
	assert_int_equal(P(8, 0xff), 0x51 | 0x54 << 8);
	assert_int_equal(sense(f), 0x052000);
}

static void tray(void **state)
{
	struct fix *f = *state;
	uint8_t *d = f->ram + DATA;

	P(0, 0x00);
	assert_int_equal(P(8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 0x50);
	assert_int_equal(d[4], 0);
	assert_int_equal(d[5], 2);
	assert_int_equal(P(0, 0x1e, 0, 0, 0, 1), 0x50);
	assert_int_equal(P(0, 0x1b, 0, 0, 0, 2), 0x51 | 0x54 << 8);	/* locked */
	assert_int_equal(P(0, 0x1e, 0, 0, 0, 0), 0x50);
	assert_int_equal(P(0, 0x1b, 0, 0, 0, 2), 0x50);
	assert_int_equal(P(8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 0x50);
	assert_int_equal(d[4], 3);
	assert_int_equal(d[5], 1);
	assert_int_equal(P(8, 0x25), 0x51 | 0x24 << 8);
	assert_int_equal(sense(f), 0x023a02);
	assert_int_equal(P(0, 0x1b, 0, 0, 0, 3), 0x50);
	assert_int_equal(P(0, 0x00), 0x51 | 0x64 << 8);
	assert_int_equal(sense(f), 0x062800);
	assert_int_equal(P(8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 0x50);
	assert_int_equal(d[4], 2);
	assert_int_equal(P(8, 0x25), 0x50);
	assert_int_equal(P(8, 0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8), 0x51 | 0x54 << 8);
}

/* ---- the host ---- */

static void host_errors(void **state)
{
	struct fix *f = *state;

	blk_mem_fail_with(f->node[0], 1, -EIO, false);
	assert_int_equal(ata(f, 0x25, 0, 1, 512), 0x51 | 0x40 << 8);
	assert_int_equal(ata(f, 0x25, 0, 1, 512), 0x50);
	P(0, 0x00);
	blk_mem_fail_with(f->node[1], 1, -EIO, false);
	assert_int_equal(P(2048, 0x28, 0, 0, 0, 0, 5, 0, 0, 1), 0x51 | 0x34 << 8);
	assert_int_equal(sense(f), 0x031100);
}

/* Requests that failed wait, queued and not, are saved, and done by the machine that is made of that. */
static void saved(void **state)
{
	for (unsigned q = 0; q < 2; q++) {
		struct fix *f = make(false, DISK_STOP);
		struct err e = { 0 };
		struct snap_out *o;
		struct snap_in *in;
		const void *p;
		size_t len;

		memset(f->ram + DATA, 0x3c, 4096);
		blk_mem_fail_with(f->node[0], 1, -ENOSPC, true);
		if (q) {
			ncq(f, 3, true, 8, 8);
			pwr(f, 0, 0x34, BIT(3));
		} else {
			prepare(f, 0, 3, 0x35, 8, 8, 4096);
		}
		pwr(f, 0, 0x38, BIT(3));
		turn(f);
		assert_int_equal(f->pauses, 1);
		assert_int_equal(snap_out_new(&o), 0);
		machine_lock(f->m);
		machine_pause_devs(f->m);
		assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
		p = snap_out_data(o, &len);
		assert_int_equal(snap_in_new(&in, p, len), 0);
		machine_reset_devs(f->m);
		assert_int_equal(machine_load_devs(f->m, in, &e), 0);
		blk_mem_fail_with(f->node[0], 0, 0, false);
		machine_resume_devs(f->m);
		machine_unlock(f->m);
		snap_in_free(in);
		snap_out_free(o);
		wait_slot(f, 0, 3);
		assert_int_equal(prd(f, 0, 0x20), 0x50);
		assert_int_equal(blk_mem_data(f->node[0])[8191], 0x3c);
		*state = f;
		teardown(state);
	}
}

static void stopped_in_flight(void **state)
{
	struct fix *f = *state;

	blk_mem_hold(f->node[0], true);
	prepare(f, 0, 3, 0x25, 8, 8, 4096);
	pwr(f, 0, 0x38, BIT(3));
	turn(f);
	assert_int_equal(prd(f, 0, 0x20) & 0x80, 0x80);
	pwr(f, 0, 0x18, 0x16);
	assert_int_equal(prd(f, 0, 0x38), 0);
	assert_int_equal(prd(f, 0, 0x18) & 0x8001, 0);
	blk_mem_hold(f->node[0], false);
	pwr(f, 0, 0x18, 0x17);
	assert_int_equal(ata(f, 0x25, 0, 1, 512), 0x50);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(registers), T(identify), T(read_and_write), T(trim), T(queued), T(first_error_stays), T(messages), T(smart_and_features), T(list_without_use), T(nonsense), T(cd), T(tray),
		T(host_errors), cmocka_unit_test(saved), T(stopped_in_flight),
		cmocka_unit_test_setup_teardown(read_and_write, setup_io, teardown),
		cmocka_unit_test_setup_teardown(queued, setup_io, teardown), cmocka_unit_test_setup_teardown(cd, setup_io, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
