// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The window at 0xa0000: how the four planes are read and written.
 *
 * The planes lie interleaved in memory: byte p of each group of four is plane p.
 * Chained modes use the memory as it is, so what they draw is what BAR 0 shows.
 *
 * Wider accesses are bytes in ascending order, as on the bus of a VGA; that they come
 * together only saves the way to here and the notes about what was written.
 */
#include "device/vga_int.h"

/* Where the window begins in the region, its size, and what it shows; false: not there. */
static bool windowed(const struct vga *v, uint64_t *off)
{
	static const struct { uint32_t base, size; } map[4] = {
		{ 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 },
	};
	unsigned n = v->gr[GR_MISC] >> 2 & 3;

	if (*off < map[n].base || *off - map[n].base >= map[n].size || !(v->misc & 2))
		return false;
	*off -= map[n].base;
	if (n < 2)
		*off += (uint64_t)v->reg[DISPI_BANK] << 16;
	return true;
}

static bool chained(const struct vga *v) { return v->seq[SEQ_MEMORY_MODE] & 0x08; }

/* Even addresses are planes 0 and 2, odd ones 1 and 3. */
static bool odd_even_write(const struct vga *v) { return !(v->seq[SEQ_MEMORY_MODE] & 0x04); }
static bool odd_even_read(const struct vga *v) { return v->gr[GR_MODE] & 0x10; }

static uint8_t compare_planes(const struct vga *v)
{
	uint8_t differ = 0;

	for (unsigned p = 0; p < 4; p++)
		if (v->gr[GR_DONT_CARE] >> p & 1)
			differ |= v->latch[p] ^ (v->gr[GR_COMPARE] >> p & 1 ? 0xff : 0);
	return (uint8_t)~differ;
}

static uint8_t read_byte(struct vga *v, uint64_t off)
{
	unsigned plane = v->gr[GR_READ_MAP];

	if (!windowed(v, &off))
		return 0xff;
	if (chained(v))
		return off < v->vram_size ? v->vram[off] : 0xff;
	if (odd_even_read(v)) {
		plane = (plane & 2) | (off & 1);
		off >>= 1;
	}
	if (off * 4 + 4 > v->vram_size)
		return 0xff;
	for (unsigned p = 0; p < 4; p++)
		v->latch[p] = v->vram[off * 4 + p];
	return v->gr[GR_MODE] & 0x08 ? compare_planes(v) : v->latch[plane];
}

static uint64_t window_read(void *opaque, uint64_t off, unsigned len)
{
	uint64_t val = 0;

	for (unsigned i = 0; i < len; i++)
		val |= (uint64_t)read_byte(opaque, off + i) << (8 * i);
	return val;
}

static uint8_t rotate(uint8_t b, unsigned n) { return (uint8_t)(b >> n | b << (8 - n)); }

static uint8_t combine(unsigned function, uint8_t b, uint8_t latch)
{
	switch (function >> 3 & 3) {
	case 1: return b & latch;
	case 2: return b | latch;
	case 3: return b ^ latch;
	default: return b;
	}
}

/* The byte plane p gets, by write mode. */
static uint8_t plane_byte(const struct vga *v, unsigned p, uint8_t b)
{
	uint8_t mask = v->gr[GR_BIT_MASK], set = v->gr[GR_SET_RESET] >> p & 1 ? 0xff : 0, out;
	uint8_t turned = rotate(b, v->gr[GR_FUNCTION] & 7);

	switch (v->gr[GR_MODE] & 3) {
	case 0:
		out = v->gr[GR_ENABLE] >> p & 1 ? set : turned;
		break;
	case 1:
		return v->latch[p];
	case 2:
		out = b >> p & 1 ? 0xff : 0;
		break;
	default:
		mask &= turned;
		out = set;
		break;
	}
	out = combine(v->gr[GR_FUNCTION], out, v->latch[p]);
	return (uint8_t)((out & mask) | (v->latch[p] & ~mask));
}

/* What an access has written: bytes [from, to) of the memory. */
struct written {
	uint64_t from, to;
};

static void note(struct written *w, uint64_t from, uint64_t len)
{
	w->from = MIN(w->from, from);
	w->to = MAX(w->to, from + len);
}

static void write_planes(struct vga *v, uint64_t off, uint8_t b, unsigned planes, struct written *w)
{
	if (off * 4 + 4 > v->vram_size)
		return;
	for (unsigned p = 0; p < 4; p++)
		if (planes >> p & 1)
			v->vram[off * 4 + p] = plane_byte(v, p, b);
	note(w, off * 4, 4);
}

static void write_byte(struct vga *v, uint64_t off, uint8_t b, struct written *w)
{
	unsigned planes = v->seq[SEQ_MAP_MASK];

	if (!windowed(v, &off))
		return;
	if (chained(v)) {
		if (off >= v->vram_size || !(planes >> (off & 3) & 1))
			return;
		v->vram[off] = b;
		note(w, off, 1);
		return;
	}
	if (odd_even_write(v)) {
		planes &= off & 1 ? 0x0a : 0x05;
		off >>= 1;
	}
	write_planes(v, off, b, planes, w);
}

static void window_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct vga *v = opaque;
	struct written w = { .from = UINT64_MAX };

	for (unsigned i = 0; i < len; i++)
		write_byte(v, off + i, (uint8_t)(val >> (8 * i)), &w);
	if (w.to)
		mem_stored(v->m->mem, v->vram_offset + w.from, w.to - w.from);
}

const struct bus_ops vga_window_ops = { .read = window_read, .write = window_write, .max_len = 8, .unaligned = true };
