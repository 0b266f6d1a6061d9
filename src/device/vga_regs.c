// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registers: sequencer, graphics controller, attribute controller, CRT
 * controller, DAC, and dispi.
 *
 * What a write changes about the picture is not worked out: it marks the picture
 * as stale, and the next refresh draws all of it.
 */
#include "device/vga_int.h"

#include <string.h>

/* 60 frames a second of 525 lines. */
#define FRAME_NS 16683333
#define LINE_NS (FRAME_NS / 525)
#define VISIBLE_LINES 480
#define RETRACE_LINE 490

static const uint8_t seq_mask[SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t gr_mask[GR_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };

/* Bit 3: vertical retrace; bit 0: no picture is being drawn. By virtual time, as programs that wait for it expect. */
static uint8_t input_status(struct vga *v)
{
	uint64_t at = (uint64_t)clock_now(v->m->clock) % FRAME_NS, line = at / LINE_NS, in = at % LINE_NS;
	bool retrace = line >= RETRACE_LINE && line < RETRACE_LINE + 2;

	v->ar_flip = 0;
	return (retrace ? 0x08 : 0) | (line >= VISIBLE_LINES || in > LINE_NS * 4 / 5 ? 0x01 : 0);
}

static bool is_colour(const struct vga *v) { return v->misc & 1; }

static uint8_t dac_read(struct vga *v)
{
	uint8_t val = v->dac[v->dac_read * 3 + v->dac_sub];

	if (++v->dac_sub == 3) {
		v->dac_sub = 0;
		v->dac_read++;
	}
	return val;
}

static void dac_write(struct vga *v, uint8_t val)
{
	v->dac_new[v->dac_sub] = val;
	if (++v->dac_sub < 3)
		return;
	memcpy(v->dac + v->dac_write * 3, v->dac_new, 3);
	v->dac_sub = 0;
	v->dac_write++;
	v->stale = true;
}

uint8_t vga_port_read(struct vga *v, unsigned off)
{
	switch (off) {
	case 0x10: return v->ar_flip ? 0 : v->ar_index;			/* 3c0 */
	case 0x11: return (v->ar_index & 0x1f) < AR_COUNT ? v->ar[v->ar_index & 0x1f] : 0;
	case 0x12: return 0;						/* no switches, no interrupt */
	case 0x14: return v->seq_index;
	case 0x15: return v->seq_index < SEQ_COUNT ? v->seq[v->seq_index] : 0;
	case 0x16: return v->dac_mask;
	case 0x17: return v->dac_reading ? 3 : 0;
	case 0x18: return v->dac_write;
	case 0x19: return dac_read(v);
	case 0x1a: return v->feature;
	case 0x1c: return v->misc;
	case 0x1e: return v->gr_index;
	case 0x1f: return v->gr_index < GR_COUNT ? v->gr[v->gr_index] : 0;
	case 0x04: case 0x24: return is_colour(v) == (off == 0x24) ? v->cr_index : 0xff;
	case 0x05: case 0x25:
		if (is_colour(v) != (off == 0x25))
			return 0xff;
		return v->cr_index < CR_COUNT ? v->cr[v->cr_index] : 0;
	case 0x0a: case 0x2a: return is_colour(v) == (off == 0x2a) ? input_status(v) : 0xff;
	default: return 0xff;
	}
}

static void ar_write(struct vga *v, uint8_t val)
{
	uint8_t n = v->ar_index & 0x1f;

	v->ar_flip ^= 1;
	if (v->ar_flip) {
		v->ar_index = val & 0x3f;
		v->stale = true;	/* bit 5 switches the picture on */
		return;
	}
	if (n >= AR_COUNT)
		return;
	v->ar[n] = n < AR_MODE ? val & 0x3f : n == AR_MODE ? val & 0xef : n == AR_OVERSCAN ? val : val & 0x0f;
	v->stale = true;
}

/* Bit 7 of register 0x11 protects registers 0 to 7, except the line compare bit. */
static void cr_write(struct vga *v, uint8_t val)
{
	uint8_t n = v->cr_index;

	if (n >= CR_COUNT)
		return;
	if (n <= CR_OVERFLOW && v->cr[CR_V_RETRACE_END] & 0x80) {
		if (n == CR_OVERFLOW)
			v->cr[n] = (v->cr[n] & ~0x10) | (val & 0x10);
	} else {
		v->cr[n] = val;
	}
	v->stale = true;
}

void vga_port_write(struct vga *v, unsigned off, uint8_t val)
{
	switch (off) {
	case 0x10: ar_write(v, val); return;
	case 0x12: v->misc = val & 0xef; v->stale = true; return;
	case 0x14: v->seq_index = val & 7; return;
	case 0x15:
		if (v->seq_index < SEQ_COUNT)
			v->seq[v->seq_index] = val & seq_mask[v->seq_index];
		v->stale = true;
		return;
	case 0x16: v->dac_mask = val; v->stale = true; return;
	case 0x17: v->dac_read = val; v->dac_sub = 0; v->dac_reading = 1; return;
	case 0x18: v->dac_write = val; v->dac_sub = 0; v->dac_reading = 0; return;
	case 0x19: dac_write(v, val); return;
	case 0x1e: v->gr_index = val & 0x0f; return;
	case 0x1f:
		if (v->gr_index < GR_COUNT)
			v->gr[v->gr_index] = val & gr_mask[v->gr_index];
		v->stale |= v->gr_index == GR_MODE || v->gr_index == GR_MISC;
		return;
	case 0x04: case 0x24:
		if (is_colour(v) == (off == 0x24))
			v->cr_index = val;
		return;
	case 0x05: case 0x25:
		if (is_colour(v) == (off == 0x25))
			cr_write(v, val);
		return;
	case 0x0a: case 0x2a:
		if (is_colour(v) == (off == 0x2a))
			v->feature = val & 0x10;
		return;
	}
}

/* ---- dispi ---- */

unsigned vga_dispi_pitch(const struct vga *v, unsigned width)
{
	unsigned bpp = v->reg[DISPI_BPP];

	return bpp == 4 ? width / 2 : width * ((bpp + 7) / 8);
}

static bool bpp_ok(unsigned bpp) { return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32; }

uint16_t vga_dispi_read(struct vga *v, unsigned index)
{
	if (index == DISPI_MEMORY_64K)
		return (uint16_t)(v->vram_size >> 16);
	if (index >= DISPI_COUNT)
		return 0;
	if (v->reg[DISPI_ENABLE] & DISPI_GETCAPS) {
		switch (index) {
		case DISPI_XRES: return DISPI_MAX_XRES;
		case DISPI_YRES: return DISPI_MAX_YRES;
		case DISPI_BPP: return DISPI_MAX_BPP;
		}
	}
	return v->reg[index];
}

/* Brings sizes and offsets to what the memory holds, from whatever was written. */
static void dispi_fit(struct vga *v)
{
	uint16_t *r = v->reg;
	unsigned pitch, rows;

	if (!dispi_on(v))
		return;
	if (!bpp_ok(r[DISPI_BPP]))
		r[DISPI_BPP] = 8;
	r[DISPI_XRES] = (uint16_t)(MIN(MAX(r[DISPI_XRES], 8u), DISPI_MAX_XRES) & ~7u);
	r[DISPI_YRES] = (uint16_t)MIN(MAX(r[DISPI_YRES], 1u), DISPI_MAX_YRES);
	r[DISPI_VIRT_WIDTH] = (uint16_t)(MIN(MAX(r[DISPI_VIRT_WIDTH], r[DISPI_XRES]), 0xfff8u) & ~7u);
	_Static_assert(0xfff8 * DISPI_MAX_BPP / 8 <= VGA_VRAM_MIN, "the widest row fits into the least memory");
	pitch = vga_dispi_pitch(v, r[DISPI_VIRT_WIDTH]);
	rows = (unsigned)MIN(v->vram_size / pitch, 0xffffu);
	r[DISPI_YRES] = (uint16_t)MIN(r[DISPI_YRES], rows);
	r[DISPI_VIRT_HEIGHT] = (uint16_t)rows;
	if (r[DISPI_X_OFFSET] > r[DISPI_VIRT_WIDTH] - r[DISPI_XRES])
		r[DISPI_X_OFFSET] = (uint16_t)(r[DISPI_VIRT_WIDTH] - r[DISPI_XRES]);
	if (r[DISPI_Y_OFFSET] > rows - r[DISPI_YRES])
		r[DISPI_Y_OFFSET] = (uint16_t)(rows - r[DISPI_YRES]);
}

/* The VGA's registers follow, for programs that read them: 256 colours or 16, chained and linear. */
static void dispi_to_vga(struct vga *v)
{
	unsigned h = v->reg[DISPI_YRES] - 1u;
	bool planar = v->reg[DISPI_BPP] == 4;

	v->gr[GR_MISC] = (v->gr[GR_MISC] & ~0x0c) | 0x05;
	v->cr[CR_MODE] |= 3;
	v->cr[CR_OFFSET] = (uint8_t)(vga_dispi_pitch(v, v->reg[DISPI_VIRT_WIDTH]) >> 3);
	v->cr[CR_H_END] = (uint8_t)((v->reg[DISPI_XRES] >> 3) - 1);
	v->cr[CR_V_END] = (uint8_t)h;
	v->cr[CR_OVERFLOW] = (uint8_t)((v->cr[CR_OVERFLOW] & ~0x42) | (h >> 7 & 0x02) | (h >> 3 & 0x40) | 0x10);
	v->cr[CR_LINE_COMPARE] = 0xff;
	v->cr[CR_MAX_SCAN] = (v->cr[CR_MAX_SCAN] & ~0x9f) | 0x40;
	if (!planar) {
		v->seq[SEQ_MEMORY_MODE] |= 0x08;
		v->seq[SEQ_MAP_MASK] = 0x0f;
	} else {
		v->seq[SEQ_MEMORY_MODE] &= (uint8_t)~0x08;
	}
	v->gr[GR_MODE] = (v->gr[GR_MODE] & ~0x60) | (planar ? 0 : 0x40);
}

static void dispi_enable(struct vga *v, uint16_t val)
{
	bool was = dispi_on(v);

	if ((v->reg[DISPI_ENABLE] ^ val) & DISPI_8BIT_DAC && !(val & DISPI_8BIT_DAC))
		for (unsigned i = 0; i < sizeof(v->dac); i++)
			v->dac[i] >>= 2;
	else if ((v->reg[DISPI_ENABLE] ^ val) & DISPI_8BIT_DAC)
		for (unsigned i = 0; i < sizeof(v->dac); i++)
			v->dac[i] = (uint8_t)(v->dac[i] << 2 | (v->dac[i] >> 4 & 3));
	v->reg[DISPI_ENABLE] = val & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BIT_DAC | DISPI_LFB | DISPI_NOCLEAR);
	v->reg[DISPI_BANK] = 0;
	if (!dispi_on(v) || was)
		return;
	v->reg[DISPI_VIRT_WIDTH] = v->reg[DISPI_XRES];
	v->reg[DISPI_X_OFFSET] = v->reg[DISPI_Y_OFFSET] = 0;
	dispi_fit(v);
	dispi_to_vga(v);
	if (!(val & DISPI_NOCLEAR)) {
		uint64_t n = (uint64_t)v->reg[DISPI_YRES] * vga_dispi_pitch(v, v->reg[DISPI_VIRT_WIDTH]);

		memset(v->vram, 0, MIN(n, v->vram_size));
		mem_stored(v->m->mem, v->vram_offset, MIN(n, v->vram_size));
	}
}

void vga_dispi_write(struct vga *v, unsigned index, uint16_t val)
{
	switch (index) {
	case DISPI_ID:
		if (val >= DISPI_ID0 && val <= DISPI_ID5)
			v->reg[DISPI_ID] = val;
		return;
	/* Taken as they are, and made to fit when the mode is set. */
	case DISPI_XRES:
		if (val && val <= DISPI_MAX_XRES && !(val & 7))
			v->reg[index] = val;
		break;
	case DISPI_YRES:
		if (val && val <= DISPI_MAX_YRES)
			v->reg[index] = val;
		break;
	case DISPI_BPP:
		val = val ? val : 8;
		if (bpp_ok(val))
			v->reg[index] = val;
		break;
	case DISPI_ENABLE: dispi_enable(v, val); break;
	case DISPI_BANK:
		if ((uint64_t)val << 16 < v->vram_size)
			v->reg[index] = val;
		return;
	case DISPI_VIRT_WIDTH:
	case DISPI_X_OFFSET:
	case DISPI_Y_OFFSET:
		v->reg[index] = val;
		break;
	default:
		return;
	}
	dispi_fit(v);
	v->stale = true;
}

/* ---- life ---- */

void vga_regs_reset(struct vga *v)
{
	v->misc = 1;			/* firmware sets the rest; colour so that it is found */
	v->feature = v->seq_index = v->gr_index = v->ar_index = v->ar_flip = v->cr_index = 0;
	v->dac_reading = v->dac_read = v->dac_write = v->dac_sub = 0;
	v->dac_mask = 0xff;
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gr, 0, sizeof(v->gr));
	memset(v->ar, 0, sizeof(v->ar));
	memset(v->cr, 0, sizeof(v->cr));
	memset(v->latch, 0, sizeof(v->latch));
	memset(v->dac, 0, sizeof(v->dac));
	memset(v->dac_new, 0, sizeof(v->dac_new));
	memset(v->reg, 0, sizeof(v->reg));
	v->reg[DISPI_ID] = DISPI_ID5;
	v->reg[DISPI_BPP] = 8;
	v->dispi_index = 0;
	v->stale = true;
}

/* Nothing outside the bits that writes keep. */
static bool masked(const uint8_t *reg, const uint8_t *mask, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (reg[i] & ~mask[i])
			return false;
	return true;
}

bool vga_regs_sane(const struct vga *v)
{
	struct vga fit = { .vram_size = v->vram_size };

	if (v->dac_sub > 2 || v->ar_flip > 1 || (uint64_t)v->reg[DISPI_BANK] << 16 >= v->vram_size ||
	    !masked(v->seq, seq_mask, SEQ_COUNT) || !masked(v->gr, gr_mask, GR_COUNT))
		return false;
	memcpy(fit.reg, v->reg, sizeof(fit.reg));
	dispi_fit(&fit);
	return !memcmp(fit.reg, v->reg, sizeof(fit.reg));
}
