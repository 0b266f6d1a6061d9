// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From registers and memory to the surface.
 *
 * Linear modes (dispi from 8 bits a pixel on) draw the rows whose pages were
 * written; text and planar modes are small and draw everything if anything was.
 * Memory is the guest's: indices are computed from checked registers or reduced
 * to the size of the memory at each access.
 */
#include "device/vga_int.h"

#include <string.h>

#include "base/checked.h"

#define BLINK_NS 266666667ll		/* the cursor: 16 frames on, 16 off */
#define FONT_STEP (8192u * 4)		/* from one font of plane 2 to the next */
#define MAX_COLUMNS 256u		/* of text: a register of 8 bits, plus 1 */

/* A byte of plane p of the four at plane offset off, which wraps. */
static uint8_t plane(const struct vga *v, uint64_t off, unsigned p)
{
	return v->vram[(off * 4 + p) & (v->vram_size - 1)];
}

/* ---- colours ---- */

static uint32_t dac_colour(const struct vga *v, unsigned n)
{
	const uint8_t *c = v->dac + (n & v->dac_mask) * 3;
	uint32_t r = c[0], g = c[1], b = c[2];

	if (!(v->reg[DISPI_ENABLE] & DISPI_8BIT_DAC)) {
		r = (r & 63) << 2 | (r & 63) >> 4;
		g = (g & 63) << 2 | (g & 63) >> 4;
		b = (b & 63) << 2 | (b & 63) >> 4;
	}
	return r << 16 | g << 8 | b;
}

static void pens_256(struct vga *v)
{
	for (unsigned i = 0; i < 256; i++)
		v->pens[i] = dac_colour(v, i);
}

/* The attribute controller's 16 colours. */
static void pens_16(struct vga *v)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned n = v->ar[i];

		if (v->ar[AR_MODE] & 0x80)
			n = (v->ar[AR_COLOR_SELECT] & 0x0f) << 4 | (n & 0x0f);
		else
			n = (v->ar[AR_COLOR_SELECT] & 0x0c) << 4 | (n & 0x3f);
		v->pens[i] = dac_colour(v, n);
	}
}

/* ---- linear modes ---- */

static void convert_8(const struct vga *v, const uint8_t *p, unsigned n, uint32_t *out)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = v->pens[p[i]];
}

static void convert_16(const uint8_t *p, unsigned n, unsigned green, uint32_t *out)
{
	unsigned gmax = (1u << green) - 1;

	for (unsigned i = 0; i < n; i++) {
		uint32_t c = ld_le16(p + 2 * i), b = c & 31, g = c >> 5 & gmax, r = c >> (5 + green) & 31;

		g = green == 6 ? g << 2 | g >> 4 : g << 3 | g >> 2;
		out[i] = (r << 3 | r >> 2) << 16 | g << 8 | (b << 3 | b >> 2);
	}
}

static void convert_24(const uint8_t *p, unsigned n, uint32_t *out)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = (uint32_t)p[3 * i + 2] << 16 | (uint32_t)p[3 * i + 1] << 8 | p[3 * i];
}

/* n pixels at p: as the surface has them, either there or in v->line. */
static const uint32_t *convert(struct vga *v, const uint8_t *p, unsigned n)
{
	switch (v->reg[DISPI_BPP]) {
	case 8: convert_8(v, p, n, v->line); break;
	case 15: convert_16(p, n, 5, v->line); break;
	case 16: convert_16(p, n, 6, v->line); break;
	case 24: convert_24(p, n, v->line); break;
	default:
		if (!((uintptr_t)p & 3))
			return (const uint32_t *)(const void *)p;
		memcpy(v->line, p, (size_t)n * 4);
		break;
	}
	return v->line;
}

/* Was any page of [from, from + len) written, now or last time? */
static bool was_seen(const struct vga *v, uint64_t from, uint64_t len)
{
	for (uint64_t p = from >> PAGE_SHIFT_4K; p <= (from + len - 1) >> PAGE_SHIFT_4K; p++)
		if ((v->seen[p / 64] | v->seen_before[p / 64]) & BIT64(p % 64))
			return true;
	return false;
}

static void draw_linear(struct vga *v, struct display *d)
{
	unsigned w = v->reg[DISPI_XRES], h = v->reg[DISPI_YRES];
	uint64_t pitch = vga_dispi_pitch(v, v->reg[DISPI_VIRT_WIDTH]), bytes = vga_dispi_pitch(v, w);
	uint64_t from = v->reg[DISPI_Y_OFFSET] * pitch + vga_dispi_pitch(v, v->reg[DISPI_X_OFFSET]);

	display_resize(d, w, h);
	if (v->reg[DISPI_BPP] == 8)
		pens_256(v);
	for (unsigned y = 0; y < h; y++, from += pitch)
		if (range_inside(from, bytes, v->vram_size) && (v->stale || was_seen(v, from, bytes)))
			display_put(d, 0, y, w, convert(v, v->vram + from, w));
}

/* ---- planar and packed modes of the VGA ---- */

struct shape {
	unsigned w, h;
	uint64_t start;			/* plane offset of the first pixel */
	unsigned pitch;			/* plane offsets from row to row */
	unsigned split;			/* the row from which offset 0 is shown */
	unsigned repeat;		/* each row so many times */
};

/* 16 colours, or fewer: the planes' bits side by side. */
static void row_planar(struct vga *v, uint64_t off, unsigned w, bool twice)
{
	unsigned enabled = v->ar[AR_PLANES] & 15;

	for (unsigned x = 0; x < w; off++) {
		for (unsigned bit = 0; bit < 8 && x < w; bit++) {
			unsigned n = 0;

			for (unsigned p = 0; p < 4; p++)
				n |= (plane(v, off, p) >> (7 - bit) & 1u) << p;
			v->line[x++] = v->pens[n & enabled];
			if (twice && x < w) {
				v->line[x] = v->line[x - 1];
				x++;
			}
		}
	}
}

/* Four colours of the CGA: two bits a pixel, planes 0 and 1 in turn. */
static void row_cga(struct vga *v, uint64_t off, unsigned w, bool twice)
{
	for (unsigned x = 0, i = 0; x < w; i++) {
		uint8_t b = plane(v, off + i / 2, i & 1);

		for (int shift = 6; shift >= 0 && x < w; shift -= 2) {
			v->line[x++] = v->pens[b >> shift & 3 & v->ar[AR_PLANES]];
			if (twice && x < w) {
				v->line[x] = v->line[x - 1];
				x++;
			}
		}
	}
}

/* 256 colours: all planes in turn, each pixel twice as wide. */
static void row_256(struct vga *v, uint64_t off, unsigned w)
{
	for (unsigned x = 0; x < w; x++)
		v->line[x] = v->pens[plane(v, off + x / 8, x / 2 & 3)];
}

static unsigned vertical_end(const struct vga *v)
{
	return 1 + (v->cr[CR_V_END] | (v->cr[CR_OVERFLOW] & 0x02) << 7 | (v->cr[CR_OVERFLOW] & 0x40) << 3);
}

static struct shape shape_of(const struct vga *v)
{
	struct shape s = {
		.w = (v->cr[CR_H_END] + 1u) * 8,
		.h = vertical_end(v),
		.start = (uint64_t)v->cr[CR_START_HIGH] << 8 | v->cr[CR_START_LOW],
		.pitch = v->cr[CR_OFFSET] * 2u,
		.split = v->cr[CR_LINE_COMPARE] | (v->cr[CR_OVERFLOW] & 0x10u) << 4 | (v->cr[CR_MAX_SCAN] & 0x40u) << 3,
		.repeat = ((v->cr[CR_MAX_SCAN] & 0x1f) + 1u) << (v->cr[CR_MAX_SCAN] >> 7),
	};

	if (dispi_on(v)) {
		s.w = v->reg[DISPI_XRES];
		s.h = v->reg[DISPI_YRES];
		s.pitch = v->reg[DISPI_VIRT_WIDTH] / 8;
		s.start = v->reg[DISPI_Y_OFFSET] * (uint64_t)s.pitch + v->reg[DISPI_X_OFFSET] / 8;
		s.split = UINT32_MAX;
		s.repeat = 1;
	}
	return s;
}

/* Compatibility with the CGA and Hercules: the row within a character picks the bank. */
static uint64_t banked(const struct vga *v, uint64_t off, unsigned scan)
{
	unsigned bit = v->cr[CR_MODE] & 0x40 ? 13 : 12;

	if (dispi_on(v))
		return off;
	if (!(v->cr[CR_MODE] & 1))
		off = (off & ~BIT64(bit)) | (uint64_t)(scan & 1) << bit;
	if (!(v->cr[CR_MODE] & 2))
		off = (off & ~BIT64(bit + 1)) | (uint64_t)(scan >> 1 & 1) << (bit + 1);
	return off;
}

static void draw_row(struct vga *v, uint64_t off, unsigned w)
{
	bool twice = !dispi_on(v) && v->seq[SEQ_CLOCKING] & 0x08;

	switch (dispi_on(v) ? 0 : v->gr[GR_MODE] >> 5 & 3) {
	case 0: row_planar(v, off, w, twice); break;
	case 1: row_cga(v, off, w, twice); break;
	default: row_256(v, off, w); break;
	}
}

static void draw_planar(struct vga *v, struct display *d)
{
	struct shape s = shape_of(v);
	bool packed = !dispi_on(v) && v->gr[GR_MODE] & 0x40;
	unsigned row = 0, scan = 0, banks = v->cr[CR_MODE] & 1 ? 1 : v->cr[CR_MODE] & 2 ? 2 : 4;

	if (!dispi_on(v) && !packed && v->seq[SEQ_CLOCKING] & 0x08)
		s.w *= 2;
	s.w = MIN(s.w, DISPLAY_MAX_WIDTH);
	if (packed)
		pens_256(v);
	else
		pens_16(v);
	display_resize(d, s.w, s.h);
	for (unsigned y = 0; y < s.h; y++) {
		/* Banks share an offset: with them a "row" of the CRTC is as many lines. */
		draw_row(v, banked(v, s.start + (uint64_t)row * s.pitch, scan), s.w);
		display_put(d, 0, y, s.w, v->line);
		if (y == s.split) {
			s.start = 0;
			row = 0;
			scan = 0;
			continue;
		}
		if ((y + 1) % (banks > 1 ? MAX(s.repeat / banks, 1u) : s.repeat) == 0 && ++scan % banks == 0)
			row++;
	}
}

/* ---- text ---- */

struct text {
	struct shape s;
	unsigned columns, rows, cell_w, cell_h;
	uint64_t cursor;		/* plane offset */
	bool cursor_on;
	uint32_t font[2];		/* by bit 3 of the attribute: offset in memory */
};

static struct text text_of(const struct vga *v)
{
	struct text t = { .s = shape_of(v) };
	uint8_t map = v->seq[SEQ_CHAR_MAP];
	unsigned a = (map >> 4 & 1) | (map << 1 & 6), b = (map >> 5 & 1) | (map >> 1 & 6);

	t.cell_w = v->seq[SEQ_CLOCKING] & 1 ? 8 : 9;
	t.cell_h = (v->cr[CR_MAX_SCAN] & 0x1f) + 1u;
	t.columns = v->cr[CR_H_END] + 1u;
	/* Rows drawn twice (200 lines on a 400 line screen) are as high as they are shown. */
	t.rows = t.s.h / (t.cell_h << (v->cr[CR_MAX_SCAN] >> 7));
	t.cursor = (uint64_t)v->cr[CR_CURSOR_HIGH] << 8 | v->cr[CR_CURSOR_LOW];
	t.cursor_on = v->blink_on && !(v->cr[CR_CURSOR_START] & 0x20);
	t.font[0] = a * FONT_STEP;
	t.font[1] = b * FONT_STEP;
	return t;
}

/* A character cell: what is the same in all its rows. */
struct cell {
	uint32_t glyph;			/* offset in memory */
	uint32_t fg, bg, cursor_fg;
	uint8_t ninth;			/* of a row's bits: what decides about the ninth column */
	bool cursor;
};

static struct cell cell_at(struct vga *v, const struct text *t, uint64_t off)
{
	uint8_t ch = plane(v, off, 0), attr = plane(v, off, 1);
	struct cell c = { .glyph = t->font[attr >> 3 & 1] + ch * 32u * 4 + 2, .fg = v->pens[attr & 15], .bg = v->pens[attr >> 4] };

	c.cursor_fg = c.fg;		/* which does not blink with the character */
	if (v->ar[AR_MODE] & 8) {
		c.bg = v->pens[attr >> 4 & 7];
		if (attr & 0x80) {
			v->blinks = true;
			if (!v->blink_on)
				c.fg = c.bg;
		}
	}
	c.ninth = (v->ar[AR_MODE] & 4) && ch >= 0xc0 && ch <= 0xdf;
	c.cursor = t->cursor_on && off == t->cursor;
	return c;
}

/* Four pixels by four bits, the leftmost in the highest. */
static void four(uint32_t *out, unsigned bits, uint32_t bg, uint32_t differ)
{
	static const uint32_t on[16][4] = {
		{ 0, 0, 0, 0 }, { 0, 0, 0, ~0u }, { 0, 0, ~0u, 0 }, { 0, 0, ~0u, ~0u },
		{ 0, ~0u, 0, 0 }, { 0, ~0u, 0, ~0u }, { 0, ~0u, ~0u, 0 }, { 0, ~0u, ~0u, ~0u },
		{ ~0u, 0, 0, 0 }, { ~0u, 0, 0, ~0u }, { ~0u, 0, ~0u, 0 }, { ~0u, 0, ~0u, ~0u },
		{ ~0u, ~0u, 0, 0 }, { ~0u, ~0u, 0, ~0u }, { ~0u, ~0u, ~0u, 0 }, { ~0u, ~0u, ~0u, ~0u },
	};

	for (unsigned i = 0; i < 4; i++)
		out[i] = bg ^ (on[bits][i] & differ);
}

/* Row `line` of the cell, to out. */
static void draw_cell(const struct vga *v, const struct text *t, const struct cell *c, unsigned line, uint32_t *out)
{
	uint8_t bits = v->vram[(c->glyph + line * 4) & (v->vram_size - 1)], ninth = c->ninth;
	uint32_t fg = c->fg;

	if (c->cursor && line >= (v->cr[CR_CURSOR_START] & 31u) && line <= (v->cr[CR_CURSOR_END] & 31u)) {
		bits = 0xff;
		ninth = 1;
		fg = c->cursor_fg;
	}
	four(out, bits >> 4, c->bg, fg ^ c->bg);
	four(out + 4, bits & 15, c->bg, fg ^ c->bg);
	if (t->cell_w == 9)
		out[8] = bits & ninth ? fg : c->bg;
}

/* A row of characters, which begins at row y of the screen. */
static void draw_text_row(struct vga *v, struct display *d, const struct text *t, uint64_t off, unsigned y)
{
	struct cell cells[MAX_COLUMNS];

	for (unsigned c = 0; c < t->columns; c++)
		cells[c] = cell_at(v, t, off + c);
	for (unsigned line = 0; line < t->cell_h; line++) {
		for (unsigned c = 0; c < t->columns; c++)
			draw_cell(v, t, &cells[c], line, v->line + c * t->cell_w);
		display_put(d, 0, y + line, t->columns * t->cell_w, v->line);
	}
}

static void draw_text(struct vga *v, struct display *d)
{
	struct text t = text_of(v);

	pens_16(v);
	v->blinks = !(v->cr[CR_CURSOR_START] & 0x20);
	display_resize(d, t.columns * t.cell_w, t.rows * t.cell_h);
	for (unsigned row = 0; row < t.rows; row++)
		draw_text_row(v, d, &t, t.s.start + (uint64_t)row * t.s.pitch, row * t.cell_h);
}

static void draw_blank(struct vga *v, struct display *d)
{
	struct shape s = shape_of(v);

	s.w = s.w > 8 ? MIN(s.w, DISPLAY_MAX_WIDTH) : 640;
	s.h = s.h > 8 ? s.h : 480;
	memset(v->line, 0, s.w * sizeof(*v->line));
	display_resize(d, s.w, s.h);
	for (unsigned y = 0; y < s.h; y++)
		display_put(d, 0, y, s.w, v->line);
}

/* ---- the display's calls ---- */

static uint64_t words(const struct vga *v) { return ((v->vram_size >> PAGE_SHIFT_4K) + 63) / 64; }

static bool any_seen(const struct vga *v)
{
	for (uint64_t i = 0; i < words(v); i++)
		if (v->seen[i] | v->seen_before[i])
			return true;
	return false;
}

/* What the phase of blinking characters and the cursor is; a change counts if something blinks. */
static void blink(struct vga *v)
{
	bool on = clock_now(v->m->clock) / BLINK_NS % 2 == 0;

	if (on != v->blink_on && v->blinks)
		v->stale = true;
	v->blink_on = on;
}

static void refresh(void *opaque, struct display *d)
{
	struct vga *v = opaque;
	struct machine *m = v->m;
	bool on = dispi_on(v) || v->ar_index & 0x20;
	uint64_t *old = v->seen_before;

	if (m->watch_sync)
		m->watch_sync(m->watch_opaque);
	v->seen_before = v->seen;
	v->seen = old;
	memset(v->seen, 0, words(v) * sizeof(*v->seen));
	mem_watch_fetch(m->mem, v->vram_offset >> PAGE_SHIFT_4K, v->vram_size >> PAGE_SHIFT_4K, v->seen);
	blink(v);
	if (!v->stale && !any_seen(v))
		return;
	if (!on)
		draw_blank(v, d);
	else if (dispi_on(v) && v->reg[DISPI_BPP] != 4)
		draw_linear(v, d);
	else if (dispi_on(v) || v->gr[GR_MISC] & 1)
		draw_planar(v, d);
	else
		draw_text(v, d);
	v->stale = false;
}

static void watched(void *opaque, bool on)
{
	struct vga *v = opaque;
	struct machine *m = v->m;

	v->watched = v->stale = on;
	mem_watch(m->mem, v->vram_offset >> PAGE_SHIFT_4K, v->vram_size >> PAGE_SHIFT_4K, on);
	if (m->watch_sync)
		m->watch_sync(m->watch_opaque);
}

const struct display_ops vga_display_ops = { .refresh = refresh, .watched = watched };
