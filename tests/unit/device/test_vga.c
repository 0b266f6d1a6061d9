/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VGA as a program sees it: registers, the planes behind the window, dispi, and the picture of each kind of mode. */
#include "../chipset/chip.h"

#include "base/bits.h"
#include "device/vga.h"
#include "display/display.h"
#include "display/edid.h"
#include "pci/pci.h"

#define RAM (1u << 20)
#define VRAM (4u << 20)
#define LFB 0xc0000000u
#define MMIO 0xc1000000u
#define WINDOW 0xa0000u

static struct machine *m;
static struct pci_bus *root;
static struct pci_dev *card;
static struct display *d;
static struct display_viewer viewer;
static unsigned syncs;

static void sync_cb(void *opaque) { syncs++; }

static int setup(void **state)
{
	const struct pci_root_config rc = { .cf8 = true };
	struct vga_config cfg = { .vram_offset = RAM, .vram_size = VRAM, .window = WINDOW,
				  .ports = 0x3b0, .dispi = 0x1ce };

	m = machine_make();
	assert_int_equal(mem_create_ram(m->mem, RAM + VRAM, MEM_HUGE_NONE, NULL), 0);
	assert_int_equal(mem_add_ram(m->mem, "ram", 0, 0, 0xa0000, NULL), 0);
	assert_int_equal(pci_root_new(m, &rc, &root, NULL), 0);
	assert_int_equal(display_new(&m->lock, &d), 0);
	m->watch_sync = sync_cb;
	cfg.display = d;
	assert_int_equal(vga_new(m, root, PCI_ANY_DEVFN, &cfg, NULL), 0);
	card = pci_find(root, 0, PCI_DEVFN(1, 0));
	machine_lock(m);
	machine_reset_devs(m);
	pci_config_write(card, PCI_BAR(0), 4, LFB);
	pci_config_write(card, PCI_BAR(2), 4, MMIO);
	pci_config_write(card, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	machine_unlock(m);
	memset(&viewer, 0, sizeof(viewer));
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	display_free(d);
	return 0;
}

static void wr(unsigned port, unsigned index, uint8_t v) { outw_(m, (uint16_t)port, (uint16_t)(v << 8 | index)); }
static void seq(unsigned i, uint8_t v) { wr(0x3c4, i, v); }
static void gr(unsigned i, uint8_t v) { wr(0x3ce, i, v); }
static void cr(unsigned i, uint8_t v) { wr(0x3d4, i, v); }
static void ar(unsigned i, uint8_t v)
{
	inb_(m, 0x3da);
	outb_(m, 0x3c0, (uint8_t)i);
	outb_(m, 0x3c0, v);
}
static void dispi(unsigned i, uint16_t v)
{
	outw_(m, 0x1ce, (uint16_t)i);
	outw_(m, 0x1cf, v);
}
static uint16_t dispi_get(unsigned i)
{
	outw_(m, 0x1ce, (uint16_t)i);
	return inw_(m, 0x1cf);
}
static void wb(uint32_t off, uint8_t v) { bus_access(m->mmio, WINDOW + off, &v, 1, true); }
static uint8_t rb(uint32_t off)
{
	uint8_t v = 0;

	bus_access(m->mmio, WINDOW + off, &v, 1, false);
	return v;
}
static uint8_t *vram(void) { return mem_ram_host(m->mem) + RAM; }

static uint32_t pixel(unsigned x, unsigned y)
{
	const struct surface *s;
	uint32_t p = UINT32_MAX;		/* outside */

	display_refresh(d);
	display_lock(d);
	s = display_surface(d);
	if (x < s->width && y < s->height)
		p = s->pixels[y * s->width + x] & 0xffffff;
	display_unlock(d);
	return p;
}

static void expect_size(unsigned w, unsigned h)
{
	unsigned width, height;

	display_refresh(d);
	display_lock(d);
	width = display_surface(d)->width;
	height = display_surface(d)->height;
	display_unlock(d);
	assert_int_equal(width, w);
	assert_int_equal(height, h);
}

/* A palette in which colour n is r=n, g=n/2, b=63-n (6 bits each). */
static void palette(void)
{
	outb_(m, 0x3c8, 0);
	for (unsigned i = 0; i < 256; i++) {
		outb_(m, 0x3c9, i & 63);
		outb_(m, 0x3c9, (i & 63) / 2);
		outb_(m, 0x3c9, 63 - (i & 63));
	}
}

static uint32_t wide(unsigned v) { return v << 2 | v >> 4; }
static uint32_t colour(unsigned i)
{
	i &= 63;
	return wide(i) << 16 | wide(i / 2) << 8 | wide(63 - i);
}

/* What a mode table says: registers in order. */
static void mode(uint8_t misc, const uint8_t s[5], const uint8_t g[9], uint8_t ar_mode, unsigned cols, unsigned height,
		 uint8_t max_scan, uint8_t offset, uint8_t cr_mode)
{
	unsigned h = height - 1;

	outb_(m, 0x3c2, misc);
	for (unsigned i = 0; i < 5; i++)
		seq(i, s[i]);
	cr(0x11, 0);
	cr(1, (uint8_t)(cols - 1));
	cr(7, (uint8_t)((h >> 7 & 2) | (h >> 3 & 0x40) | 0x10));
	cr(9, max_scan | 0x40);
	cr(0x0a, 0x20);
	cr(0x12, (uint8_t)h);
	cr(0x13, offset);
	cr(0x17, cr_mode);
	cr(0x18, 0xff);
	for (unsigned i = 0; i < 9; i++)
		gr(i, g[i]);
	for (unsigned i = 0; i < 16; i++)
		ar(i, (uint8_t)i);
	ar(0x10, ar_mode);
	ar(0x12, 0x0f);
	ar(0x14, 0);
	inb_(m, 0x3da);
	outb_(m, 0x3c0, 0x20);
	palette();
}

static void mode_text(void)
{
	mode(0x67, (uint8_t[]){ 3, 0, 3, 0, 2 }, (uint8_t[]){ 0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff }, 0x0c, 80, 400, 15, 40, 0xa3);
}
static void mode_12h(void)
{
	mode(0xe3, (uint8_t[]){ 3, 1, 15, 0, 6 }, (uint8_t[]){ 0, 0, 0, 0, 0, 0, 5, 15, 0xff }, 1, 80, 480, 0, 40, 0xe3);
}
static void mode_13h(void)
{
	mode(0x63, (uint8_t[]){ 3, 1, 15, 0, 14 }, (uint8_t[]){ 0, 0, 0, 0, 0, 0x40, 5, 15, 0xff }, 0x41, 80, 400, 1, 40, 0xa3);
}
static void mode_4h(void)
{
	mode(0x63, (uint8_t[]){ 3, 9, 3, 0, 2 }, (uint8_t[]){ 0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff }, 1, 40, 400, 1 | 0x80, 20, 0xa2);
}

/* ---- registers ---- */

static void test_ids(void **state)
{
	machine_lock(m);
	assert_int_equal(pci_config_read(card, 0, 4), 0x11111234);
	assert_int_equal(pci_config_read(card, 8, 4), 0x03000002);
	assert_int_equal(pci_config_read(card, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	machine_unlock(m);
	assert_int_equal(dispi_get(0), 0xb0c5);
	assert_int_equal(dispi_get(10), VRAM >> 16);
	dispi(0, 0xb0c2);
	assert_int_equal(dispi_get(0), 0xb0c2);
	dispi(0, 0x1234);
	assert_int_equal(dispi_get(0), 0xb0c2);
	dispi(4, 2);			/* capabilities */
	assert_true(dispi_get(1) == 16000 && dispi_get(2) == 12000 && dispi_get(3) == 32);
	assert_int_equal(dispi_get(77), 0);
}

static void test_registers(void **state)
{
	outb_(m, 0x3c2, 0x67);
	assert_int_equal(inb_(m, 0x3cc), 0x67);
	seq(2, 0xff);
	assert_int_equal(inb_(m, 0x3c5), 0x0f);
	gr(8, 0x5a);
	assert_int_equal(inb_(m, 0x3cf), 0x5a);
	cr(0x0e, 0x12);
	assert_int_equal(inb_(m, 0x3d5), 0x12);
	assert_int_equal(inb_(m, 0x3b5), 0xff);		/* the other address */
	outb_(m, 0x3c2, 0x66);
	assert_int_equal(inb_(m, 0x3b5), 0x12);
	assert_int_equal(inb_(m, 0x3d5), 0xff);
	outb_(m, 0x3c2, 0x67);
	cr(0x11, 0x80);			/* registers 0 to 7 are protected, but for a bit */
	cr(1, 0x77);
	cr(7, 0xff);
	outb_(m, 0x3d4, 1);
	assert_int_equal(inb_(m, 0x3d5), 0);
	outb_(m, 0x3d4, 7);
	assert_int_equal(inb_(m, 0x3d5), 0x10);
	ar(3, 0x15);
	inb_(m, 0x3da);
	outb_(m, 0x3c0, 3);
	assert_int_equal(inb_(m, 0x3c1), 0x15);
	outb_(m, 0x3c0, 0x16);		/* data of the same index */
	assert_int_equal(inb_(m, 0x3c1), 0x16);
	palette();
	outb_(m, 0x3c7, 5);
	assert_int_equal(inb_(m, 0x3c7), 3);
	assert_true(inb_(m, 0x3c9) == 5 && inb_(m, 0x3c9) == 2 && inb_(m, 0x3c9) == 58 && inb_(m, 0x3c9) == 6);
	/* Indices without a register. */
	outb_(m, 0x3c4, 7);
	outb_(m, 0x3c5, 0xff);
	assert_int_equal(inb_(m, 0x3c5), 0);
	outb_(m, 0x3d4, 0xff);
	outb_(m, 0x3d5, 0xff);
	assert_int_equal(inb_(m, 0x3d5), 0);
}

/* The retrace comes and goes with virtual time. */
static void test_retrace(void **state)
{
	unsigned on = 0, off = 0, changes = 0;
	uint8_t last = 0;

	for (unsigned i = 0; i < 2000; i++) {
		uint8_t now = inb_(m, 0x3da) & 8;

		now ? on++ : off++;
		changes += now != last;
		last = now;
		step(m, 17 * US);
	}
	assert_in_range(changes, 3, 5);		/* two frames in 34 ms */
	assert_true(on > 4 && off > 1900);
}

static void test_planes(void **state)
{
	mode_12h();
	gr(8, 0xff);
	seq(2, 0x05);				/* mode 0: planes 0 and 2 */
	wb(100, 0xa5);
	assert_memory_equal(vram() + 400, "\xa5\0\xa5\0", 4);
	seq(2, 0x0f);
	gr(0, 0x02);				/* set/reset for planes 1 and 3 */
	gr(1, 0x0a);
	gr(3, 0x01);				/* rotated by one */
	wb(101, 0x81);
	assert_memory_equal(vram() + 404, "\xc0\xff\xc0\0", 4);
	gr(1, 0);
	gr(3, 0x18);				/* exclusive or, some bits only */
	gr(8, 0x0f);
	assert_int_equal(rb(101), 0xc0);	/* fills the latches */
	wb(101, 0xff);
	assert_memory_equal(vram() + 404, "\xcf\xf0\xcf\x0f", 4);
	gr(8, 0xff);
	gr(3, 0);
	gr(5, 1);				/* mode 1: latches */
	rb(101);
	wb(102, 0);
	assert_memory_equal(vram() + 408, "\xcf\xf0\xcf\x0f", 4);
	gr(5, 2);				/* mode 2: a colour */
	gr(8, 0xf0);
	rb(103);
	wb(103, 0x09);
	assert_memory_equal(vram() + 412, "\xf0\0\0\xf0", 4);
	gr(5, 3);				/* mode 3: the data is the mask */
	gr(0, 0x06);
	gr(8, 0x3c);
	rb(104);
	wb(104, 0x0f);
	assert_memory_equal(vram() + 416, "\0\x0c\x0c\0", 4);
	gr(5, 8);				/* read mode 1: compares colours */
	gr(2, 0x09);
	gr(7, 0x0f);
	assert_int_equal(rb(103), 0xf0);
	gr(7, 0);
	assert_int_equal(rb(103), 0xff);
	gr(5, 0);
	gr(4, 1);				/* read mode 0: a plane */
	assert_int_equal(rb(101), 0xf0);
}

static void test_windows(void **state)
{
	mode_text();
	wb(0x18000, 'A');			/* b8000: odd and even */
	wb(0x18001, 0x1e);
	assert_memory_equal(vram(), "A\x1e\0\0", 4);
	assert_true(rb(0x18000) == 'A' && rb(0x18001) == 0x1e);
	assert_int_equal(rb(0), 0xff);		/* a0000 is not shown */
	wb(0, 1);
	mode_13h();
	wb(5, 77);				/* chained: memory as it is */
	assert_int_equal(vram()[5], 77);
	assert_int_equal(rb(5), 77);
	assert_int_equal(rb(0x18000), 0xff);
	outb_(m, 0x3c2, 0x61);			/* memory off */
	wb(5, 78);
	assert_int_equal(vram()[5], 77);
	/* Banks of dispi. */
	outb_(m, 0x3c2, 0x63);
	dispi(1, 640);
	dispi(2, 480);
	dispi(3, 8);
	dispi(4, 0x81);
	dispi(5, 2);
	wb(7, 99);
	assert_int_equal(vram()[0x20007], 99);
	dispi(5, VRAM >> 16);			/* there is none */
	assert_int_equal(dispi_get(5), 2);
}

/* Wide accesses are bytes in a row, however the planes are set up: `wide` in one access or byte by byte. */
static void write_window(uint32_t off, uint64_t val, unsigned len, bool wide)
{
	if (wide)
		bus_access(m->mmio, WINDOW + off, &val, len, true);
	for (unsigned i = 0; !wide && i < len; i++)
		wb(off + i, (uint8_t)(val >> (8 * i)));
}

static void test_wide(void **state)
{
	static uint8_t before[1 << 18], bytes[1 << 18];
	static void (*const modes[])(void) = { mode_text, mode_12h, mode_13h };
	uint32_t r = 1;

	for (unsigned n = 0; n < 600; n++) {
		unsigned len = 2 + n % 7;
		uint32_t off = (n % 3 ? 0 : 0x18000) + (r >> 20);
		uint64_t val = r * 0x9e3779b97f4a7c15ull, got = 0;

		modes[n % 3]();
		r = r * 1664525 + 1013904223;
		seq(2, (r >> 8) & 15);
		gr(5, (n % 3 ? 0 : 0x10) | (r >> 12 & 3));
		gr(3, r >> 16 & 0x1f);
		gr(8, (uint8_t)(r >> 24));
		memcpy(before, vram(), sizeof(before));
		rb(off);				/* the latches */
		write_window(off, val, len, false);
		memcpy(bytes, vram(), sizeof(bytes));
		memcpy(vram(), before, sizeof(before));
		rb(off);
		write_window(off, val, len, true);
		assert_memory_equal(vram(), bytes, sizeof(bytes));
		bus_access(m->mmio, WINDOW + off, &got, len, false);
		for (unsigned i = 0; i < len; i++)
			assert_int_equal((uint8_t)(got >> (8 * i)), rb(off + i));
	}
	/* What is written so is seen. */
	mode_text();
	display_watch(d, &viewer);
	assert_int_equal(pixel(639, 399), colour(0));
	display_refresh(d);
	display_refresh(d);
	write_window(0x18000 + 2 * 40, 0x1720172017201720, 8, true);
	assert_int_equal(pixel(9 * 43, 0), colour(1));
	display_unwatch(d, &viewer);
}

/* ---- pictures ---- */

static void test_text(void **state)
{
	mode_text();
	display_watch(d, &viewer);
	expect_size(720, 400);
	vram()[4 * (32 * 'A' + 3) + 2] = 0x81;		/* font: row 3 of the A */
	vram()[4 * (32 * 0xc4 + 3) + 2] = 0x01;		/* a line is drawn on into the ninth column */
	wb(0x18000 + 2 * 81, 'A');			/* row 1, column 1 */
	wb(0x18000 + 2 * 81 + 1, 0x1e);
	wb(0x18000 + 2 * 82, 0xc4);
	wb(0x18000 + 2 * 82 + 1, 0x1e);
	assert_int_equal(pixel(9, 19), colour(14));
	assert_int_equal(pixel(10, 19), colour(1));
	assert_int_equal(pixel(16, 19), colour(14));
	assert_int_equal(pixel(17, 19), colour(1));	/* ninth column of a letter */
	assert_int_equal(pixel(25, 19), colour(14));
	assert_int_equal(pixel(26, 19), colour(14));
	assert_int_equal(pixel(9, 20), colour(1));
	/* Blinking, and the same bit as bright background. */
	wb(0x18000 + 2 * 81 + 1, 0x9e);
	assert_int_equal(pixel(9, 19), colour(14));
	step(m, 270 * MS);
	assert_int_equal(pixel(9, 19), colour(1));
	ar(0x10, 0x04);
	inb_(m, 0x3da);
	outb_(m, 0x3c0, 0x20);
	assert_int_equal(pixel(10, 19), colour(9));
	assert_int_equal(pixel(9, 19), colour(14));
	/* Cursor at row 2, lines 14 and 15, in its other phase gone. */
	cr(0x0e, 0);
	cr(0x0f, 160);
	cr(0x0a, 14);
	cr(0x0b, 15);
	wb(0x18000 + 2 * 160 + 1, 0x07);
	assert_int_equal(pixel(0, 46), colour(0));
	step(m, 270 * MS);
	assert_int_equal(pixel(0, 46), colour(7));
	assert_int_equal(pixel(0, 45), colour(0));
	/* The start address scrolls. */
	cr(0x0d, 80);
	assert_int_equal(pixel(9, 3), colour(14));
	/* The other font, by bit 3 of the attribute; eight columns. */
	seq(3, 0x04);
	vram()[4 * (32 * 'A' + 3) + 2 + 8192 * 4 * 2] = 0x40;
	seq(1, 1);
	expect_size(640, 400);
	/* Screen off. */
	inb_(m, 0x3da);
	outb_(m, 0x3c0, 0);
	assert_int_equal(pixel(8, 3), 0);
	display_unwatch(d, &viewer);
}

/* Somebody looks when the card goes: the picture stays, and the pages are no more watched for it. */
static void test_taken_away(void **state)
{
	uint64_t seen[VRAM >> 12 >> 6] = { 0 };

	mode_text();
	display_watch(d, &viewer);
	expect_size(720, 400);
	machine_lock(m);
	machine_free_devs(m);
	mem_stored(m->mem, RAM, 1);
	mem_watch_fetch(m->mem, RAM >> 12, VRAM >> 12, seen);
	assert_int_equal(seen[0], 0);
	machine_unlock(m);
	expect_size(720, 400);
	display_unwatch(d, &viewer);
}

static void test_planar(void **state)
{
	mode_12h();
	display_watch(d, &viewer);
	expect_size(640, 480);
	memcpy(vram() + (80 * 10 + 3) * 4, "\x80\x80\0\x81", 4);
	mem_written_host(m->mem, vram(), 65536);
	assert_int_equal(pixel(24, 10), colour(11));
	assert_int_equal(pixel(31, 10), colour(8));
	assert_int_equal(pixel(25, 10), colour(0));
	ar(0x12, 0x03);				/* planes switched off */
	inb_(m, 0x3da);
	outb_(m, 0x3c0, 0x20);
	assert_int_equal(pixel(31, 10), colour(0));
	cr(0x07, 0);				/* split: below line 20 from offset 0 */
	cr(0x18, 20);
	cr(0x09, 0);
	cr(0x12, 0xff);
	assert_int_equal(pixel(24, 31), colour(3));
	display_unwatch(d, &viewer);
}

static void test_256(void **state)
{
	mode_13h();
	display_watch(d, &viewer);
	expect_size(640, 400);
	wb(320 * 7 + 100, 33);
	assert_int_equal(pixel(200, 14), colour(33));
	assert_int_equal(pixel(201, 15), colour(33));
	assert_int_equal(pixel(202, 14), colour(0));
	outb_(m, 0x3c6, 0x01);			/* the mask picks other colours */
	assert_int_equal(pixel(200, 14), colour(1));
	display_unwatch(d, &viewer);
}

static void test_cga(void **state)
{
	mode_4h();
	display_watch(d, &viewer);
	expect_size(640, 400);
	wb(0x18000 + 80 * 5 + 1, 0x1b);		/* line 10: pixels 4 to 7 are 0, 1, 2, 3 */
	wb(0x18000 + 0x2000 + 80 * 5, 0xc0);	/* line 11, in the other bank */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pixel(8 + 2 * i, 20), colour(i));
	assert_int_equal(pixel(0, 22), colour(3));
	assert_int_equal(pixel(1, 23), colour(3));
	assert_int_equal(pixel(0, 20), colour(0));
	display_unwatch(d, &viewer);
}

static void set_mode(unsigned w, unsigned h, unsigned bpp)
{
	dispi(4, 0);
	dispi(1, (uint16_t)w);
	dispi(2, (uint16_t)h);
	dispi(3, (uint16_t)bpp);
	dispi(4, 0x41);
}

static void lfb(uint32_t off, unsigned len, uint32_t v)
{
	assert_int_equal(mem_write(m->mem, LFB + off, &v, len), 0);
}

static void test_linear(void **state)
{
	display_watch(d, &viewer);
	set_mode(800, 600, 32);
	expect_size(800, 600);
	lfb((800 * 5 + 7) * 4, 4, 0xff123456);
	assert_int_equal(pixel(7, 5), 0x123456);
	assert_int_equal(dispi_get(7), VRAM / 3200);
	dispi(9, 4);				/* shows from row 4 on */
	assert_int_equal(pixel(7, 1), 0x123456);
	dispi(6, 1024);				/* rows are longer: the pixel is elsewhere */
	dispi(9, 0);
	assert_int_equal(dispi_get(6), 1024);
	lfb((1024 * 3 + 700) * 4, 4, 0x654321);
	assert_int_equal(pixel(700, 3), 0x654321);
	set_mode(800, 600, 16);			/* clears */
	assert_int_equal(pixel(7, 5), 0);
	lfb(2, 2, 0xf81f);
	assert_int_equal(pixel(1, 0), 0xff00ff);
	lfb(2, 2, 0x07e0);
	assert_int_equal(pixel(1, 0), 0x00ff00);
	set_mode(800, 600, 15);
	lfb(2, 2, 0x7c01);
	assert_int_equal(pixel(1, 0), 0xff0008);
	set_mode(800, 600, 24);
	lfb(3, 3, 0xabcdef);
	assert_int_equal(pixel(1, 0), 0xabcdef);
	set_mode(640, 400, 8);
	palette();
	lfb(641, 1, 9);
	assert_int_equal(pixel(1, 1), colour(9));
	dispi(4, 0x41 | 0x20);			/* 8 bits a colour */
	outb_(m, 0x3c8, 9);
	outb_(m, 0x3c9, 1);
	outb_(m, 0x3c9, 2);
	outb_(m, 0x3c9, 3);
	assert_int_equal(pixel(1, 1), 0x010203);
	set_mode(640, 480, 4);
	memcpy(vram() + 80 * 4, "\x80\0\x80\0", 4);
	for (unsigned i = 0; i < 16; i++)
		ar(i, (uint8_t)i);
	ar(0x12, 15);
	palette();
	assert_int_equal(pixel(0, 1), colour(5) & 0xffffff);
	display_unwatch(d, &viewer);
}

/* Nonsense is made to fit. */
static void test_dispi_limits(void **state)
{
	display_watch(d, &viewer);
	set_mode(16000, 12000, 32);		/* far more than there is memory */
	assert_true(dispi_get(1) == 16000 && dispi_get(2) == VRAM / 64000);
	expect_size(16000, VRAM / 64000);
	dispi(8, 0xffff);
	dispi(9, 0xffff);
	assert_true(dispi_get(8) == 0 && dispi_get(9) == 0);
	dispi(6, 0xffff);
	expect_size(16000, dispi_get(2));
	set_mode(640, 480, 32);
	dispi(1, 643);				/* not a multiple of 8 */
	dispi(3, 7);
	assert_true(dispi_get(1) == 640 && dispi_get(3) == 32);
	dispi(8, 5000);
	assert_int_equal(dispi_get(8), dispi_get(6) - 640);
	expect_size(640, 480);
	display_unwatch(d, &viewer);
}

static void test_mmio(void **state)
{
	uint8_t edid[128], sum = 0;

	for (unsigned i = 0; i < 128; i++)
		bus_access(m->mmio, MMIO + i, edid + i, 1, false);
	for (unsigned i = 0; i < 128; i++)
		sum = (uint8_t)(sum + edid[i]);
	assert_int_equal(sum, 0);
	assert_memory_equal(edid, "\0\xff\xff\xff\xff\xff\xff\0", 8);
	assert_int_equal(edid[54 + 2] | (edid[54 + 4] >> 4) << 8, EDID_WIDTH);
	assert_int_equal(edid[54 + 5] | (edid[54 + 7] >> 4) << 8, EDID_HEIGHT);
	assert_int_equal(readl_(m, MMIO + 0x600), 8);
	assert_int_equal(readl_(m, MMIO + 0x604), 0x1e1e1e1e);
	bus_access(m->mmio, MMIO + 0x500 + 2, &(uint16_t){ 720 }, 2, true);
	assert_int_equal(dispi_get(1), 720);
	bus_access(m->mmio, MMIO + 0x402, &(uint8_t){ 0x67 }, 1, true);
	assert_int_equal(inb_(m, 0x3cc), 0x67);
	assert_int_equal(readl_(m, MMIO + 0x40c) & 0xff, 0x67);
	assert_int_equal(readl_(m, MMIO + 0x800), UINT32_MAX);
}

/* Only rows of written pages are drawn, and nothing is watched for nobody. */
static void test_watch(void **state)
{
	struct mem_range r;

	assert_true(mem_find(m->mem, LFB, &r));
	assert_false(mem_watched(&r));
	set_mode(1024, 768, 32);
	display_watch(d, &viewer);
	assert_true(mem_watched(&r));
	assert_int_equal(pixel(0, 0), 0);
	display_refresh(d);
	vram()[4 * 1024 * 300] = 0x55;			/* behind everybody's back: not seen */
	assert_int_equal(pixel(0, 300), 0);
	mem_written(m->mem, LFB + 4 * 1024 * 300, 1);	/* as an engine says it */
	assert_int_equal(pixel(0, 300), 0x55);
	vram()[4 * 1024 * 300] = 0x66;			/* late, after the log was read: seen the next time */
	assert_int_equal(pixel(0, 300), 0x66);
	vram()[4 * 1024 * 300] = 0x77;
	assert_int_equal(pixel(0, 300), 0x66);
	assert_true(syncs > 0);
	display_unwatch(d, &viewer);
	assert_false(mem_watched(&r));
}

/* The frame buffer moves with BAR 0, and RAM wins. */
static void test_bar(void **state)
{
	uint32_t v = 0;

	lfb(0, 4, 0x11223344);
	machine_lock(m);
	pci_config_write(card, PCI_BAR(0), 4, 0xd0000000);
	machine_unlock(m);
	assert_int_equal(mem_read(m->mem, LFB, &v, 4), -EFAULT);
	assert_int_equal(mem_read(m->mem, 0xd0000000, &v, 4), 0);
	assert_int_equal(v, 0x11223344);
	machine_lock(m);
	assert_int_equal(mem_add_ram(m->mem, "x", 0xd0400000, 0xa0000, 0x1000, NULL), 0);
	pci_config_write(card, PCI_BAR(0), 4, 0xd0400000);
	machine_unlock(m);
	assert_int_equal(mem_read(m->mem, 0xd0000000, &v, 4), -EFAULT);
	assert_int_equal(readl_(m, 0xd0400000 + 0x2000), 0);
	writel_(m, 0xd0400000 + 0x2000, 5);
	assert_int_equal(vram()[0x2000], 5);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(readl_(m, 0xd0400000 + 0x2000), UINT32_MAX);
}

static void test_saved(void **state)
{
	display_watch(d, &viewer);
	mode_text();
	wb(0x18000, 'Z');
	outb_(m, 0x3c8, 7);
	outb_(m, 0x3c9, 1);			/* in the middle of a colour */
	outb_(m, 0x3c4, 2);
	round_trip(m);
	assert_int_equal(inb_(m, 0x3c5), 3);
	outb_(m, 0x3c9, 2);
	outb_(m, 0x3c9, 3);
	outb_(m, 0x3c7, 7);
	assert_true(inb_(m, 0x3c9) == 1 && inb_(m, 0x3c9) == 2 && inb_(m, 0x3c9) == 3);
	expect_size(720, 400);
	assert_int_equal(rb(0x18000), 'Z');
	set_mode(1024, 600, 16);
	dispi(6, 1200);
	dispi(9, 12);
	round_trip(m);
	assert_true(dispi_get(1) == 1024 && dispi_get(6) == 1200 && dispi_get(9) == 12);
	expect_size(1024, 600);
	display_unwatch(d, &viewer);
}

/* Registers that no write leaves behind are refused. */
static void test_damaged(void **state)
{
	static const uint8_t g[9] = { 0x0b, 0x0d, 0x07, 0x1e, 0x02, 0x43, 0x0e, 0x0c, 0xa5 };
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	uint8_t *copy, *at;
	const void *p;
	size_t len;
	int r;

	for (unsigned i = 0; i < sizeof(g); i++)
		gr(i, g[i]);
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(m);
	machine_pause_devs(m);
	clock_pause(m->clock);
	assert_int_equal(machine_save_devs(m, o, NULL), 0);
	p = snap_out_data(o, &len);
	copy = malloc(len);
	memcpy(copy, p, len);
	at = memmem(copy, len, g, sizeof(g));
	assert_non_null(at);
	at[4] = 200;				/* plane 200 of four */
	assert_int_equal(snap_in_new(&in, copy, len), 0);
	r = machine_load_devs(m, in, &e);
	snap_in_free(in);
	clock_resume(m->clock);
	machine_resume_devs(m);
	machine_unlock(m);
	snap_out_free(o);
	free(copy);
	assert_int_equal(r, -EINVAL);
	assert_non_null(strstr(e.msg, "make no sense"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_ids), T(test_registers), T(test_retrace), T(test_planes), T(test_windows), T(test_wide), T(test_text), T(test_taken_away), T(test_planar),
		T(test_256), T(test_cga), T(test_linear), T(test_dispi_limits), T(test_mmio), T(test_watch), T(test_bar),
		T(test_saved), T(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
