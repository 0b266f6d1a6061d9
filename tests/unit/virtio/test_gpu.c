/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-gpu against the text of virtio 1.2, 5.7: commands and their errors, what is shown, cursor, size, saved state. */
#include "driver.h"

#include <stdlib.h>

#include "display/display.h"
#include "display/edid.h"
#include "virtio/gpu.h"

enum { INFO = 0x100, CREATE, UNREF, SCANOUT, FLUSH, TRANSFER, ATTACH, DETACH, CAPSET_INFO, CAPSET, EDID, UPDATE = 0x300, MOVE };
enum { OK = 0x1100, OK_INFO, OK_EDID = 0x1104, UNSPEC = 0x1200, NO_MEMORY, BAD_SCANOUT, BAD_RESOURCE, BAD_CONTEXT, BAD_PARAMETER };
enum { BGRA = 1, BGRX = 2, XRGB = 4, RGBA = 67 };

#define REQ 0x300000ull
#define RESP 0x301000ull
#define PIXELS 0x400000ull

static struct drv d;
static struct virtio_dev *dev;
static struct display *screen[2];
static struct display_viewer viewer;
static uint8_t resp[2048];
static uint32_t resp_len;

static int setup_with(bool shared)
{
	struct virtio_gpu_config cfg = { .outputs = 2, .shared = shared };

	drv_machine(&d);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(display_new(&d.m->lock, &screen[i]), 0);
		cfg.display[i] = screen[i];
	}
	assert_int_equal(virtio_gpu_new(d.m, "gpu0", &cfg, &dev, NULL), 0);
	drv_plug(&d, dev, true);
	drv_start(&d, ~0ull, 16);
	memset(&viewer, 0, sizeof(viewer));
	return 0;
}

static int setup(void **state) { return setup_with(false); }
static int setup_shared(void **state) { return setup_with(true); }

static int teardown(void **state)
{
	drv_free(&d);
	display_free(screen[0]);
	display_free(screen[1]);
	return 0;
}

/* Sends words behind a header of this type; the answer's type. */
static uint32_t send_to(unsigned q, uint32_t type, uint32_t flags, const uint32_t *w, unsigned n)
{
	uint8_t req[24 + 4 * 64] = { 0 };
	struct ring_buf b[] = { { REQ, 24 + 4 * n, false }, { RESP, sizeof(resp), true } };
	uint32_t id;

	st_le32(req, type);
	st_le32(req + 4, flags);
	st_le64(req + 8, 0x1122334455667788ull);
	for (unsigned i = 0; i < n; i++)
		st_le32(req + 24 + 4 * i, w[i]);
	mem_write(d.m->mem, REQ, req, sizeof(req));
	ring_push(&d.ring[q], b, 2);
	drv_kick(&d, q);
	drv_poll(&d);
	assert_true(ring_used(&d.ring[q], &id, &resp_len));
	memset(resp, 0, sizeof(resp));
	mem_read(d.m->mem, RESP, resp, resp_len);
	return ld_le32(resp);
}

#define SEND(type, ...) \
	send_to((type) >= UPDATE, type, 0, (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4)

/* A resource of w x h whose backing is at PIXELS in one piece. */
static void make(uint32_t id, uint32_t format, unsigned w, unsigned h)
{
	assert_int_equal(SEND(CREATE, id, format, w, h), OK);
	assert_int_equal(SEND(ATTACH, id, 1, PIXELS, 0, w * h * 4, 0), OK);
}

static void paint(unsigned w, unsigned x, unsigned y, uint32_t p) { mem_write(d.m->mem, PIXELS + (y * w + x) * 4ull, &p, 4); }

static uint32_t pixel_of(unsigned n, unsigned x, unsigned y)
{
	const struct surface *s;
	uint32_t p = UINT32_MAX;

	display_refresh(screen[n]);
	display_lock(screen[n]);
	s = display_surface(screen[n]);
	if (x < s->width && y < s->height)
		p = s->pixels[y * s->width + x] & 0xffffff;
	display_unlock(screen[n]);
	return p;
}

static uint32_t pixel(unsigned x, unsigned y) { return pixel_of(0, x, y); }

static unsigned width(unsigned n)
{
	unsigned w;

	display_refresh(screen[n]);
	display_lock(screen[n]);
	w = display_surface(screen[n])->width;
	display_unlock(screen[n]);
	return w;
}

/* ---- what it says of itself ---- */

static void info(void **state)
{
	assert_int_equal(drv_rd(&d, DRV_CFG(2), 2), 0x1050);
	assert_int_equal(drv_rd(&d, DRV_CFG(9), 1) | drv_rd(&d, DRV_CFG(10), 2) << 8, 0x038000);
	assert_true(drv_features(&d) & 2);		/* EDID */
	assert_false(drv_features(&d) & 1);		/* no 3D */
	assert_int_equal(drv_config(&d, 0, 4), 0);
	assert_int_equal(drv_config(&d, 8, 4), 2);
	assert_int_equal(drv_config(&d, 12, 4), 0);
	assert_int_equal(SEND(INFO), OK_INFO);
	assert_int_equal(resp_len, 24 + 16 * 24);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(ld_le32(resp + 24 + 24 * i + 8), i < 2 ? EDID_WIDTH : 0);
		assert_int_equal(ld_le32(resp + 24 + 24 * i + 12), i < 2 ? EDID_HEIGHT : 0);
		assert_int_equal(ld_le32(resp + 24 + 24 * i + 16), i < 2);
	}
}

static void edid(void **state)
{
	uint8_t want[EDID_SIZE];

	assert_int_equal(SEND(EDID, 1, 0), OK_EDID);
	assert_int_equal(resp_len, 24 + 8 + 1024);
	assert_int_equal(ld_le32(resp + 24), EDID_SIZE);
	edid_make(EDID_WIDTH, EDID_HEIGHT, want);
	assert_memory_equal(resp + 32, want, EDID_SIZE);
	assert_int_equal(SEND(EDID, 2, 0), BAD_SCANOUT);
	drv_start(&d, 0, 16);				/* without the feature there is no such command */
	assert_int_equal(SEND(EDID, 0, 0), UNSPEC);
}

static void fence(void **state)
{
	assert_int_equal(send_to(0, INFO, 1, NULL, 0), OK_INFO);
	assert_int_equal(ld_le32(resp + 4), 1);
	assert_int_equal(ld_le64(resp + 8), 0x1122334455667788ull);
	assert_int_equal(send_to(0, UNREF, 1, (const uint32_t[]){ 9, 0 }, 2), BAD_RESOURCE);
	assert_int_equal(ld_le64(resp + 8), 0x1122334455667788ull);
	assert_int_equal(send_to(0, INFO, 0, NULL, 0), OK_INFO);
	assert_int_equal(ld_le32(resp + 4), 0);
}

/* ---- a picture ---- */

static void shows(void **state)
{
	display_watch(screen[0], &viewer);
	make(1, BGRX, 200, 100);
	paint(200, 0, 0, 0xff112233);
	paint(200, 199, 99, 0x00445566);
	assert_int_equal(SEND(TRANSFER, 0, 0, 200, 100, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 200, 100, 0, 1), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 200, 100, 1, 0), OK);
	assert_int_equal(width(0), 200);
	assert_int_equal(pixel(0, 0), 0x112233);
	assert_int_equal(pixel(199, 99), 0x445566);
	/* What is not transferred is not seen, what is not flushed neither. */
	paint(200, 5, 5, 0xabcdef);
	assert_int_equal(SEND(FLUSH, 0, 0, 200, 100, 1, 0), OK);
	assert_int_equal(pixel(5, 5), 0);
	assert_int_equal(SEND(TRANSFER, 5, 5, 1, 1, (5 * 200 + 5) * 4, 0, 1, 0), OK);
	assert_int_equal(pixel(5, 5), 0);
	assert_int_equal(SEND(FLUSH, 5, 5, 1, 1, 1, 0), OK);
	assert_int_equal(pixel(5, 5), 0xabcdef);
	/* Nothing shown is black. */
	assert_int_equal(SEND(SCANOUT, 0, 0, 0, 0, 0, 0), OK);
	assert_int_equal(pixel(5, 5), 0);
	assert_int_equal(width(0), 200);
	display_unwatch(screen[0], &viewer);
}

static void other_offset(void **state)
{
	display_watch(screen[0], &viewer);
	make(1, BGRX, 64, 64);
	paint(64, 3, 7, 0x00aa00);
	/* Row 7 of the backing to row 0 of the resource. */
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 1, 7 * 64 * 4, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 64, 64, 0, 1), OK);
	assert_int_equal(pixel(3, 0), 0x00aa00);
	assert_int_equal(pixel(3, 7), 0);
	/* The later of two copies holds, though the first was only noted. */
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 64, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 1, 7 * 64 * 4, 0, 1, 0), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 64, 64, 1, 0), OK);
	assert_int_equal(pixel(3, 0), 0x00aa00);
	assert_int_equal(pixel(3, 7), 0x00aa00);
	display_unwatch(screen[0], &viewer);
}

static void part_of_resource(void **state)
{
	display_watch(screen[0], &viewer);
	make(1, BGRX, 100, 100);
	paint(100, 30, 40, 0x123456);
	assert_int_equal(SEND(TRANSFER, 0, 0, 100, 100, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 20, 30, 50, 60, 0, 1), OK);
	assert_int_equal(width(0), 50);
	assert_int_equal(pixel(10, 10), 0x123456);
	paint(100, 19, 30, 0x1);
	paint(100, 21, 30, 0x777777);
	assert_int_equal(SEND(TRANSFER, 0, 0, 100, 100, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 22, 31, 1, 0), OK);
	assert_int_equal(pixel(1, 0), 0x777777);
	display_unwatch(screen[0], &viewer);
}

static void formats(void **state)
{
	static const struct { uint32_t format, word; } f[] = {
		{ 1, 0x00112233 }, { 2, 0x00112233 }, { 3, 0x33221100 }, { 4, 0x33221100 },
		{ 67, 0x00332211 }, { 68, 0x11223300 }, { 121, 0x11223300 }, { 134, 0x00332211 },
	};

	display_watch(screen[0], &viewer);
	for (unsigned i = 0; i < sizeof(f) / sizeof(f[0]); i++) {
		make(1, f[i].format, 8, 8);
		paint(8, 2, 2, f[i].word);
		assert_int_equal(SEND(TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), OK);
		assert_int_equal(SEND(SCANOUT, 0, 0, 8, 8, 0, 1), OK);
		assert_int_equal(pixel(2, 2), 0x112233);
		assert_int_equal(SEND(UNREF, 1, 0), OK);
		assert_int_equal(pixel(2, 2), 0);
	}
	assert_int_equal(SEND(CREATE, 1, 5, 8, 8), BAD_PARAMETER);
	display_unwatch(screen[0], &viewer);
}

/* Pieces of odd sizes in odd order; pixel 1 of row 50, byte 20004 of the backing, lies half in one and half in the next. */
static void scattered(void **state)
{
	uint32_t p = 0xcafe01;

	display_watch(screen[0], &viewer);
	assert_int_equal(SEND(CREATE, 1, BGRX, 100, 100), OK);
	assert_int_equal(SEND(ATTACH, 1, 4, PIXELS + 0x20000, 0, 6, 0, PIXELS, 0, 0, 0, PIXELS + 0x10000, 0, 20000, 0,
			      PIXELS + 0x30002, 0, 19994, 0), OK);
	mem_write(d.m->mem, PIXELS + 0x10000 + (20004 - 6), &p, 2);
	mem_write(d.m->mem, PIXELS + 0x30002, (uint8_t *)&p + 2, 2);
	assert_int_equal(SEND(TRANSFER, 0, 50, 50, 50, 50 * 400, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 100, 100, 0, 1), OK);
	assert_int_equal(pixel(1, 50), 0xcafe01);
	assert_int_equal(pixel(0, 50), 0);
	/* The whole in one piece, and a part row by row. */
	assert_int_equal(SEND(TRANSFER, 0, 0, 100, 100, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 100, 100, 1, 0), OK);
	assert_int_equal(pixel(1, 50), 0xcafe01);
	display_unwatch(screen[0], &viewer);
}

/* Nobody looks: nothing is copied until somebody does. */
static void unwatched(void **state)
{
	make(1, BGRX, 200, 100);
	assert_int_equal(SEND(SCANOUT, 0, 0, 200, 100, 0, 1), OK);
	paint(200, 7, 8, 0x010203);
	assert_int_equal(SEND(TRANSFER, 0, 0, 200, 100, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 200, 100, 1, 0), OK);
	display_watch(screen[0], &viewer);
	assert_int_equal(pixel(7, 8), 0x010203);
	display_unwatch(screen[0], &viewer);
	/* Before the pages go, what was to be copied is. */
	paint(200, 7, 8, 0x040506);
	assert_int_equal(SEND(TRANSFER, 7, 8, 1, 1, (8 * 200 + 7) * 4, 0, 1, 0), OK);
	assert_int_equal(SEND(DETACH, 1, 0), OK);
	paint(200, 7, 8, 0);
	display_watch(screen[0], &viewer);
	assert_int_equal(pixel(7, 8), 0x040506);
	display_unwatch(screen[0], &viewer);
}

static void two_outputs(void **state)
{
	static struct display_viewer second;

	display_watch(screen[0], &viewer);
	display_watch(screen[1], &second);
	make(1, BGRX, 64, 32);
	paint(64, 0, 0, 0x0000aa);
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 32, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 32, 32, 0, 1), OK);
	assert_int_equal(SEND(SCANOUT, 32, 0, 32, 32, 1, 1), OK);
	assert_int_equal(pixel_of(0, 0, 0), 0x0000aa);
	assert_int_equal(pixel_of(1, 0, 0), 0);
	paint(64, 33, 1, 0x0000bb);
	assert_int_equal(SEND(TRANSFER, 32, 0, 32, 32, 32 * 4, 0, 1, 0), OK);
	assert_int_equal(SEND(FLUSH, 0, 0, 64, 32, 1, 0), OK);
	assert_int_equal(pixel_of(1, 1, 1), 0x0000bb);
	display_unwatch(screen[1], &second);
	display_unwatch(screen[0], &viewer);
}

/* ---- what is refused ---- */

static void errors(void **state)
{
	assert_int_equal(SEND(0x1ff), UNSPEC);
	assert_int_equal(SEND(CAPSET_INFO, 0, 0), UNSPEC);
	assert_int_equal(SEND(CREATE, 0, BGRX, 8, 8), BAD_RESOURCE);
	assert_int_equal(SEND(CREATE, 1, BGRX, 0, 8), BAD_PARAMETER);
	assert_int_equal(SEND(CREATE, 1, BGRX, 8, 0xffffffff), BAD_PARAMETER);
	assert_int_equal(SEND(CREATE, 1, BGRX), BAD_PARAMETER);		/* cut short */
	assert_int_equal(SEND(CREATE, 1, BGRX, 8, 8), OK);
	assert_int_equal(SEND(CREATE, 1, BGRX, 8, 8), BAD_RESOURCE);
	assert_int_equal(SEND(TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), BAD_RESOURCE);	/* no backing */
	assert_int_equal(SEND(DETACH, 1, 0), BAD_RESOURCE);
	assert_int_equal(SEND(ATTACH, 1, 2, PIXELS, 0, 4096, 0), BAD_PARAMETER);	/* a second entry that is not there */
	assert_int_equal(SEND(ATTACH, 1, 0xffffffff, PIXELS, 0, 4096, 0), UNSPEC);
	assert_int_equal(SEND(ATTACH, 1, 1, 0xfffff000, 0xffffffff, 4096, 0), BAD_PARAMETER);	/* no memory */
	assert_int_equal(SEND(ATTACH, 2, 1, PIXELS, 0, 4096, 0), BAD_RESOURCE);
	assert_int_equal(SEND(ATTACH, 1, 1, PIXELS, 0, 255, 0), OK);		/* a byte too few */
	assert_int_equal(SEND(ATTACH, 1, 1, PIXELS, 0, 4096, 0), UNSPEC);	/* twice */
	assert_int_equal(SEND(TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), BAD_PARAMETER);
	assert_int_equal(SEND(TRANSFER, 0, 0, 8, 7, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(TRANSFER, 0, 0, 8, 1, 0, 0xffffffff, 1, 0), BAD_PARAMETER);
	assert_int_equal(SEND(TRANSFER, 1, 0, 8, 1, 0, 0, 1, 0), BAD_PARAMETER);
	assert_int_equal(SEND(TRANSFER, 0xffffffff, 0, 2, 1, 0, 0, 1, 0), BAD_PARAMETER);
	assert_int_equal(SEND(FLUSH, 0, 8, 1, 1, 1, 0), BAD_PARAMETER);
	assert_int_equal(SEND(FLUSH, 0, 0, 1, 1, 3, 0), BAD_RESOURCE);
	assert_int_equal(SEND(SCANOUT, 0, 0, 9, 8, 0, 1), BAD_PARAMETER);
	assert_int_equal(SEND(SCANOUT, 0, 0, 0, 0, 0, 1), BAD_PARAMETER);
	assert_int_equal(SEND(SCANOUT, 0, 0, 8, 8, 2, 1), BAD_SCANOUT);
	assert_int_equal(SEND(SCANOUT, 0, 0, 8, 8, 0, 7), BAD_RESOURCE);
	assert_int_equal(SEND(UNREF, 7, 0), BAD_RESOURCE);
	assert_int_equal(SEND(UPDATE, 2, 0, 0, 0, 0, 0, 0, 0), BAD_SCANOUT);
	assert_int_equal(SEND(UPDATE, 0, 0, 0, 0, 9, 0, 0, 0), BAD_RESOURCE);
	assert_int_equal(SEND(UPDATE, 0, 0, 0, 0, 1, 0, 0, 0), BAD_PARAMETER);	/* not 64 x 64 */
	assert_false(drv_status(&d) & VIRTIO_S_NEEDS_RESET);
}

/* Resources end at 256 MiB, and a reset gives all back. */
static void bounded(void **state)
{
	for (unsigned round = 0; round < 2; round++) {
		unsigned n = 0;

		while (SEND(CREATE, n + 1, BGRX, 4096, 1024) == OK)
			n++;
		assert_int_equal(n, 16);
		assert_int_equal(ld_le32(resp), NO_MEMORY);
		assert_int_equal(SEND(UNREF, 1, 0), OK);
		assert_int_equal(SEND(CREATE, 100, BGRX, 4096, 1024), OK);
		drv_start(&d, ~0ull, 16);
	}
	for (unsigned i = 0; i < 16384; i++)
		if (SEND(CREATE, i + 1, BGRX, 1, 1) != OK)
			fail();
	assert_int_equal(SEND(CREATE, 20000, BGRX, 1, 1), NO_MEMORY);
}

static void no_room_for_answers(void **state)
{
	uint8_t req[24] = { 0 };
	struct ring_buf b[] = { { REQ, 24, false }, { RESP, 10, true } };
	uint32_t id, len;

	st_le32(req, INFO);
	mem_write(d.m->mem, REQ, req, sizeof(req));
	ring_push(&d.ring[0], b, 2);
	ring_push(&d.ring[0], b, 1);
	b[0].len = 3;
	ring_push(&d.ring[0], b, 2);
	drv_kick(&d, 0);
	drv_poll(&d);
	assert_true(ring_used(&d.ring[0], &id, &len));
	assert_int_equal(len, 10);
	assert_true(ring_used(&d.ring[0], &id, &len));
	assert_int_equal(len, 0);
	assert_true(ring_used(&d.ring[0], &id, &len));
	mem_read(d.m->mem, RESP, resp, 4);
	assert_int_equal(ld_le32(resp), BAD_PARAMETER);
}

/* ---- cursor ---- */

static void cursor(void **state)
{
	const struct display_cursor *c;

	display_watch(screen[0], &viewer);
	make(5, BGRX, 64, 64);		/* as Linux calls it */
	paint(64, 1, 0, 0x80400010);		/* half there, of a colour multiplied by that */
	paint(64, 2, 0, 0xff123456);
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 64, 0, 0, 5, 0), OK);
	assert_int_equal(SEND(UPDATE, 0, 100, 50, 0, 5, 3, 4, 0), OK);
	display_refresh(screen[0]);
	display_lock(screen[0]);
	c = display_cursor(screen[0]);
	assert_int_equal(c->width, 64);
	assert_int_equal(c->hot_x, 3);
	assert_int_equal(c->hot_y, 4);
	assert_int_equal(c->x, 100);
	assert_int_equal(c->y, 50);
	assert_true(c->visible);
	assert_int_equal(c->pixels[0], 0);
	assert_int_equal(c->pixels[1], 0x80800020);
	assert_int_equal(c->pixels[2], 0xff123456);
	display_unlock(screen[0]);
	assert_true(viewer.new_cursor);
	viewer.new_cursor = viewer.moved_cursor = false;
	assert_int_equal(SEND(MOVE, 0, 101, 51, 0), OK);
	display_refresh(screen[0]);
	assert_false(viewer.new_cursor);
	assert_true(viewer.moved_cursor);
	assert_int_equal(SEND(UPDATE, 0, 0, 0, 0, 0, 0, 0, 0), OK);
	display_refresh(screen[0]);
	assert_false(display_cursor(screen[0])->visible);
	assert_true(viewer.new_cursor);
	display_unwatch(screen[0], &viewer);
}

/* ---- the viewer's window ---- */

static void wish(void **state)
{
	unsigned before = d.n_msi;

	assert_true(display_wish(screen[1], 1000, 700));
	assert_int_equal(d.n_msi, before + 1);
	assert_int_equal(d.msi_data, 0x40);		/* the configuration's vector */
	assert_int_equal(drv_config(&d, 0, 4), 1);
	assert_int_equal(SEND(INFO), OK_INFO);
	assert_int_equal(ld_le32(resp + 24 + 24 + 8), 1000);
	assert_int_equal(ld_le32(resp + 24 + 24 + 12), 700);
	assert_int_equal(SEND(EDID, 1, 0), OK_EDID);
	assert_int_equal(resp[32 + 54 + 2] | (resp[32 + 54 + 4] & 0xf0) << 4, 1000);
	drv_config_write(&d, 0, 4, 0);			/* events_read is ours */
	assert_int_equal(drv_config(&d, 0, 4), 1);
	drv_config_write(&d, 4, 4, 1);
	assert_int_equal(drv_config(&d, 0, 4), 0);
	before = d.n_msi;
	assert_true(display_wish(screen[1], 1000, 700));	/* nothing new */
	assert_int_equal(d.n_msi, before);
	assert_true(display_wish(screen[1], 16384, 16384));
	assert_int_equal(SEND(INFO), OK_INFO);
	assert_int_equal(ld_le32(resp + 24 + 24 + 8), 4095);
}

/* ---- beside a VGA ---- */

static unsigned vga_refreshed, vga_watched;
static void vga_refresh(void *opaque, struct display *disp) { vga_refreshed++; }
static void vga_watch(void *opaque, bool on) { vga_watched += on ? 1 : 100; }
static const struct display_ops vga = { .refresh = vga_refresh, .watched = vga_watch };

static void takes_turns(void **state)
{
	machine_lock(d.m);
	display_attach(screen[0], &vga, NULL);
	machine_unlock(d.m);
	display_watch(screen[0], &viewer);
	assert_int_equal(vga_watched, 1);
	make(1, BGRX, 40, 20);
	paint(40, 0, 0, 0xfe);
	assert_int_equal(SEND(TRANSFER, 0, 0, 40, 20, 0, 0, 1, 0), OK);
	display_refresh(screen[0]);
	assert_int_equal(vga_refreshed, 1);		/* still the VGA's */
	assert_int_equal(SEND(SCANOUT, 0, 0, 40, 20, 0, 1), OK);
	assert_int_equal(vga_watched, 101);
	assert_int_equal(pixel(0, 0), 0xfe);
	assert_int_equal(vga_refreshed, 1);
	assert_int_equal(SEND(SCANOUT, 0, 0, 0, 0, 0, 0), OK);	/* off is not the VGA's picture */
	assert_int_equal(pixel(0, 0), 0);
	assert_int_equal(vga_refreshed, 1);
	drv_set_status(&d, 0);
	assert_int_equal(vga_watched, 102);
	display_refresh(screen[0]);
	assert_int_equal(vga_refreshed, 2);
	display_unwatch(screen[0], &viewer);
}

/* ---- saved state ---- */

static struct snap_out *save(void)
{
	struct snap_out *o;

	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(d.m);
	virtio_dev_pause(dev);
	assert_int_equal(machine_save_devs(d.m, o, NULL), 0);
	machine_unlock(d.m);
	return o;
}

static int load(const uint8_t *p, size_t len)
{
	struct snap_in *in;
	struct err e;
	int ret;

	assert_int_equal(snap_in_new(&in, p, len), 0);
	machine_lock(d.m);
	machine_reset_devs(d.m);
	ret = machine_load_devs(d.m, in, &e);
	virtio_dev_resume(dev);
	machine_unlock(d.m);
	snap_in_free(in);
	return ret;
}

/* In mid-operation: a copy that is only noted, a cursor, an event that the driver has not seen, a command in the queue. */
static void round_trip(void **state)
{
	uint8_t req[24] = { 0 };
	struct ring_buf b[] = { { REQ, 24, false }, { RESP, sizeof(resp), true } };
	struct snap_out *o;
	const void *p;
	uint32_t id, n;
	size_t len;

	make(7, BGRX, 200, 100);
	make(5, BGRA, 64, 64);
	assert_int_equal(SEND(CREATE, 263, BGRX, 3, 3), OK);		/* the bucket of 7 */
	paint(64, 2, 0, 0xff123456);
	assert_int_equal(SEND(TRANSFER, 0, 0, 64, 64, 0, 0, 5, 0), OK);
	assert_int_equal(SEND(UPDATE, 0, 10, 11, 0, 5, 1, 2, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 200, 100, 0, 7), OK);
	paint(200, 9, 9, 0x313233);
	assert_int_equal(SEND(TRANSFER, 0, 0, 200, 100, 0, 0, 7, 0), OK);
	assert_true(display_wish(screen[0], 800, 600));
	machine_lock(d.m);
	virtio_dev_pause(dev);
	machine_unlock(d.m);
	st_le32(req, INFO);
	mem_write(d.m->mem, REQ, req, sizeof(req));
	ring_push(&d.ring[0], b, 2);
	o = save();
	p = snap_out_data(o, &len);
	assert_int_equal(load(p, len), 0);
	drv_poll(&d);
	assert_true(ring_used(&d.ring[0], &id, &n));
	assert_int_equal(n, 24 + 16 * 24);
	assert_int_equal(drv_config(&d, 0, 4), 1);
	display_watch(screen[0], &viewer);
	assert_int_equal(pixel(9, 9), 0x313233);
	assert_int_equal(width(0), 200);
	assert_int_equal(display_cursor(screen[0])->pixels[2], 0xff123456);
	assert_int_equal(display_cursor(screen[0])->hot_y, 2);
	display_unwatch(screen[0], &viewer);
	assert_int_equal(SEND(CREATE, 263, BGRX, 3, 3), BAD_RESOURCE);
	assert_int_equal(SEND(DETACH, 7, 0), OK);
	assert_int_equal(SEND(INFO), OK_INFO);
	assert_int_equal(ld_le32(resp + 24 + 8), 800);
	snap_out_free(o);
}

/* A state in which nothing is shown is black, whatever was seen before. */
static void nothing_shown(void **state)
{
	struct snap_out *o;
	const void *p;
	size_t len;

	o = save();
	p = snap_out_data(o, &len);
	machine_lock(d.m);
	virtio_dev_resume(dev);
	machine_unlock(d.m);
	display_watch(screen[0], &viewer);
	make(1, BGRX, 16, 16);
	paint(16, 4, 4, 0x515253);
	assert_int_equal(SEND(TRANSFER, 0, 0, 16, 16, 0, 0, 1, 0), OK);
	assert_int_equal(SEND(SCANOUT, 0, 0, 16, 16, 0, 1), OK);
	assert_int_equal(pixel(4, 4), 0x515253);
	assert_int_equal(load(p, len), 0);
	assert_int_equal(pixel(4, 4), 0);
	display_unwatch(screen[0], &viewer);
	snap_out_free(o);
}

/* Any byte of it may be wrong, and it may end anywhere. */
static void damaged(void **state)
{
	struct snap_out *o;
	uint8_t *copy;
	const void *p;
	size_t len;

	make(7, BGRX, 16, 16);
	assert_int_equal(SEND(SCANOUT, 0, 0, 16, 16, 0, 7), OK);
	assert_int_equal(SEND(TRANSFER, 0, 0, 16, 16, 0, 0, 7, 0), OK);
	o = save();
	p = snap_out_data(o, &len);
	copy = malloc(len);
	for (size_t i = 0; i < len; i += 1 + i / 64) {
		memcpy(copy, p, len);
		copy[i] ^= (uint8_t)(1 + i);
		load(copy, len);
		load(copy, i);
	}
	assert_int_equal(load(p, len), 0);
	assert_int_equal(SEND(FLUSH, 0, 0, 16, 16, 7, 0), OK);
	free(copy);
	snap_out_free(o);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(info), T(edid), T(fence), T(shows), T(other_offset), T(part_of_resource), T(formats), T(scattered), T(unwatched),
		T(two_outputs), T(errors), T(bounded), T(no_room_for_answers), T(cursor), T(wish),
		cmocka_unit_test_setup_teardown(takes_turns, setup_shared, teardown), T(round_trip), T(nothing_shown),
		T(damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
