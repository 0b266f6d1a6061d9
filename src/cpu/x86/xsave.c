/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The XSAVE feature set in C, against the layout the guest sees in its CPUID
 * leaf 0xD.
 *
 * A component is in use when it differs from its initial state (found by
 * comparing).  The modified optimization is never applied, the init one always
 * where it is allowed.  Restores read everything before they change anything;
 * saves may leave a part of the area written when they fault, as silicon may.
 */
#include "cpu/x86/xsave.h"

#include <string.h>

#include "base/bits.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/sys.h"

#define MXCSR_MASK 0xffffu
#define MXCSR_INIT 0x1f80u

enum { XC_X87, XC_SSE, XC_AVX, XC_BNDREGS, XC_BNDCSR, XC_OPMASK, XC_ZMM_HI256, XC_HI16_ZMM, XC_PT, XC_PKRU };
#define XB(n) BIT64(XC_##n)

#define LEGACY_SIZE 512u
#define HEADER_SIZE 64u
#define AREA_MAX 4096u
#define COMPACT BIT64(63)

struct component {
	uint32_t off, size;
};

/* Where component n lies in the standard format, 0 size if there is none. */
static struct component look_up(const struct x86_cpu *c, unsigned n)
{
	static const struct component plain[] = {
		[XC_AVX] = { 576, 256 }, [XC_OPMASK] = { 1088, 64 }, [XC_ZMM_HI256] = { 1152, 512 },
		[XC_HI16_ZMM] = { 1664, 1024 }, [XC_PKRU] = { 2688, 8 },
	};
	uint32_t r[4];

	if (n >= ARRAY_LEN(plain) || !plain[n].size)
		return (struct component){ 0 };
	if (!c->model)
		return plain[n];
	x86_model_cpuid(c->model, c->vcpu.id, 0xd, n, c->s.cr4, c->s.xcr0, c->s.xss, r);
	if (r[0] != plain[n].size || r[1] < LEGACY_SIZE + HEADER_SIZE || r[1] > AREA_MAX - r[0])
		return (struct component){ 0 };
	return (struct component){ r[1], r[0] };
}

/* Asking CPUID takes longer than the rest of a save: its answers, which do not change, are kept. */
static struct component standard(struct x86_cpu *c, unsigned n)
{
	if (unlikely(!c->xsave_known)) {
		for (unsigned k = 0; k < ARRAY_LEN(c->xsave_at); k++) {
			struct component at = look_up(c, k);

			c->xsave_at[k].off = (uint16_t)at.off;
			c->xsave_at[k].size = (uint16_t)at.size;
		}
		c->xsave_known = true;
	}
	return (struct component){ c->xsave_at[n].off, c->xsave_at[n].size };
}

/* All components' places, by format (bv: XCOMP_BV, 0 for the standard format). */
static void layout(struct x86_cpu *c, uint64_t bv, struct component map[10])
{
	uint32_t at = LEGACY_SIZE + HEADER_SIZE;

	for (unsigned n = XC_AVX; n <= XC_PKRU; n++) {
		map[n] = standard(c, n);
		if (!(bv & COMPACT))
			continue;
		map[n].off = at;
		if (bv & BIT64(n))
			at += map[n].size;
	}
}

static unsigned n_regs(const struct x86_cpu *c) { return c->mode == X86_MODE_LONG64 ? 16 : 8; }

static bool zero(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint64_t v = 0;

	for (; n >= 8; n -= 8, b += 8)
		v |= ld_le64(b);
	while (n--)
		v |= *b++;
	return !v;
}

static bool x87_in_use(const struct x86_fpu *f)
{
	static const uint8_t initial[24] = { 0x7f, 0x03 };

	return memcmp(f->fx, initial, sizeof(initial)) || !zero(f->fx + 32, 128);
}

static bool upper_in_use(const struct x86_fpu *f, unsigned regs, unsigned from, unsigned len)
{
	for (unsigned n = 0; n < regs; n++)
		if (!zero(f->zmm[n] + from, len))
			return true;
	return false;
}

/* XINUSE (SDM vol. 1, 13.6). */
static uint64_t in_use(const struct x86_cpu *c, uint64_t of)
{
	const struct x86_fpu *f = &c->s.fpu;
	uint64_t r = 0;

	if ((of & XB(X87)) && x87_in_use(f))
		r |= XB(X87);
	if ((of & XB(SSE)) && upper_in_use(f, 16, 0, 16))
		r |= XB(SSE);
	if ((of & XB(AVX)) && upper_in_use(f, 16, 16, 16))
		r |= XB(AVX);
	if ((of & XB(OPMASK)) && !zero(f->k, sizeof(f->k)))
		r |= XB(OPMASK);
	if ((of & XB(ZMM_HI256)) && upper_in_use(f, 16, 32, 32))
		r |= XB(ZMM_HI256);
	if ((of & XB(HI16_ZMM)) && !zero(f->zmm[16], 16 * 64))
		r |= XB(HI16_ZMM);
	if ((of & XB(PKRU)) && f->pkru)
		r |= XB(PKRU);
	return r;
}

/* --- image to and from state --- */
/* Bytes 0..23 of the legacy area; without REX.W pointers are 32 bits wide and
 * selectors (not kept) zero. */
static void put_x87(const struct x86_fpu *f, uint8_t *img, bool rex_w)
{
	memcpy(img, f->fx, 24);
	img[5] = 0;
	if (!rex_w) {
		memset(img + 12, 0, 4);
		memset(img + 20, 0, 4);
	}
	for (unsigned n = 0; n < 8; n++) {
		memcpy(img + 32 + 16 * n, f->fx + 32 + 16 * n, 10);
		memset(img + 32 + 16 * n + 10, 0, 6);
	}
}

static void fix_x87(struct x86_fpu *f)
{
	uint16_t cw = (uint16_t)((ld_le16(f->fx) & 0x1f3f) | 0x40), sw = ld_le16(f->fx + 2) & 0x7f7f;

	if (sw & 0x3f & ~cw)
		sw |= 0x8080;
	st_le16(f->fx, cw);
	st_le16(f->fx + 2, sw);
	st_le16(f->fx + 6, ld_le16(f->fx + 6) & 0x7ff);
	f->fx[5] = 0;
}

static void get_x87(struct x86_fpu *f, const uint8_t *img, bool rex_w)
{
	memcpy(f->fx, img, 24);
	if (!rex_w) {
		memset(f->fx + 12, 0, 4);
		memset(f->fx + 20, 0, 4);
	}
	for (unsigned n = 0; n < 8; n++) {
		memcpy(f->fx + 32 + 16 * n, img + 32 + 16 * n, 10);
		memset(f->fx + 32 + 16 * n + 10, 0, 6);
	}
	fix_x87(f);
}

static void init_x87(struct x86_fpu *f)
{
	memset(f->fx, 0, 160);
	st_le16(f->fx, 0x37f);
}

/* Extended component n to img (its size known). */
static void put_component(const struct x86_cpu *c, unsigned n, uint8_t *img)
{
	const struct x86_fpu *f = &c->s.fpu;

	switch (n) {
	case XC_AVX:
		for (unsigned r = 0; r < n_regs(c); r++)
			memcpy(img + 16 * r, f->zmm[r] + 16, 16);
		break;
	case XC_OPMASK: memcpy(img, f->k, 64); break;
	case XC_ZMM_HI256:
		for (unsigned r = 0; r < n_regs(c); r++)
			memcpy(img + 32 * r, f->zmm[r] + 32, 32);
		break;
	case XC_HI16_ZMM: memcpy(img, f->zmm[16], 1024); break;
	case XC_PKRU:
		st_le32(img, f->pkru);
		st_le32(img + 4, 0);
		break;
	default: break;
	}
}

/* From img, or to the initial state if img is NULL. */
static void get_component(struct x86_cpu *c, unsigned n, const uint8_t *img)
{
	static const uint8_t zeros[1024];
	struct x86_fpu *f = &c->s.fpu;

	if (!img)
		img = zeros;
	switch (n) {
	case XC_AVX:
		for (unsigned r = 0; r < n_regs(c); r++)
			memcpy(f->zmm[r] + 16, img + 16 * r, 16);
		break;
	case XC_OPMASK: memcpy(f->k, img, 64); break;
	case XC_ZMM_HI256:
		for (unsigned r = 0; r < n_regs(c); r++)
			memcpy(f->zmm[r] + 32, img + 32 * r, 32);
		break;
	case XC_HI16_ZMM:
		if (n_regs(c) == 16)
			memcpy(f->zmm[16], img, 1024);
		break;
	case XC_PKRU: f->pkru = ld_le32(img); break;
	default: break;
	}
}

static unsigned component_bytes(const struct x86_cpu *c, unsigned n, unsigned size)
{
	if (n_regs(c) == 16)
		return size;
	if (n == XC_AVX || n == XC_ZMM_HI256)
		return size / 2;
	return n == XC_HI16_ZMM ? 0 : size;
}

static void check_aligned(struct x86_cpu *c, uint64_t lin, unsigned to)
{
	if (lin & (to - 1))
		x86_gp(c, 0);
}

/* Parts of the area: beyond 4 GiB they are at 0 outside 64-bit mode, in compatibility mode too. */
static uint64_t part(const struct x86_cpu *c, uint64_t lin, unsigned off)
{
	return c->mode == X86_MODE_LONG64 ? lin + off : (uint32_t)(lin + off);
}

static void rd(struct x86_cpu *c, uint64_t lin, unsigned off, void *p, unsigned len)
{
	uint64_t at = part(c, lin, off);
	unsigned first = c->mode == X86_MODE_LONG64 ? len : (unsigned)MIN((uint64_t)len, (1ull << 32) - at);

	x86_mem_read(c, at, p, first, c->acc);
	if (first < len)
		x86_mem_read(c, 0, (uint8_t *)p + first, len - first, c->acc);
}

static void wr(struct x86_cpu *c, uint64_t lin, unsigned off, const void *p, unsigned len)
{
	uint64_t at = part(c, lin, off);
	unsigned first = c->mode == X86_MODE_LONG64 ? len : (unsigned)MIN((uint64_t)len, (1ull << 32) - at);

	x86_mem_write(c, at, p, first, c->acc);
	if (first < len)
		x86_mem_write(c, 0, (const uint8_t *)p + first, len - first, c->acc);
}

/* One byte of the area, before anything else: which of its pages AMD's processors miss first. */
static void look(struct x86_cpu *c, uint64_t lin, unsigned off, enum x86_how how)
{
	uint64_t at = part(c, lin, off);

	if (!x86_canonical(c, at))
		x86_gp(c, 0);
	x86_mem_probe(c, at, 1, how, c->acc);
}

/* --- FXSAVE, FXRSTOR --- */
static void look_at_end(struct x86_cpu *c, uint64_t lin, enum x86_how how)
{
	if (c->model && x86_model_is_amd(c->model))
		look(c, lin, LEGACY_SIZE - 1, how);
}

void x86_fxsave(struct x86_cpu *c, uint64_t lin, bool rex_w)
{
	unsigned len = 160 + 16 * n_regs(c);
	uint8_t img[LEGACY_SIZE];

	check_aligned(c, lin, 16);
	look_at_end(c, lin, X86_WRITE);
	put_x87(&c->s.fpu, img, rex_w);
	st_le32(img + 24, c->s.fpu.mxcsr);
	st_le32(img + 28, MXCSR_MASK);
	for (unsigned n = 0; n < n_regs(c); n++)
		memcpy(img + 160 + 16 * n, c->s.fpu.zmm[n], 16);
	wr(c, lin, 0, img, len);
}

void x86_fxrstor(struct x86_cpu *c, uint64_t lin, bool rex_w)
{
	uint8_t img[LEGACY_SIZE];

	check_aligned(c, lin, 16);
	look_at_end(c, lin, X86_READ);
	rd(c, lin, 0, img, 160 + 16 * n_regs(c));
	if (ld_le32(img + 24) & ~MXCSR_MASK)
		x86_gp(c, 0);
	get_x87(&c->s.fpu, img, rex_w);
	c->s.fpu.mxcsr = ld_le32(img + 24);
	for (unsigned n = 0; n < n_regs(c); n++)
		memcpy(c->s.fpu.zmm[n], img + 160 + 16 * n, 16);
}

/* --- XSAVE --- */
static uint64_t requested(const struct x86_cpu *c, bool supervisor)
{
	uint64_t m = (c->s.gpr[X86_RDX] << 32) | (uint32_t)c->s.gpr[X86_RAX];

	return m & (c->s.xcr0 | (supervisor ? c->s.xss : 0));
}

static void save_legacy(struct x86_cpu *c, uint64_t lin, uint64_t what, bool mxcsr, bool rex_w)
{
	uint8_t img[LEGACY_SIZE];

	if (what & XB(X87)) {
		put_x87(&c->s.fpu, img, rex_w);
		wr(c, lin, 0, img, 24);
		wr(c, lin, 32, img + 32, 128);
	}
	if (mxcsr) {
		st_le32(img + 24, c->s.fpu.mxcsr);
		st_le32(img + 28, MXCSR_MASK);
		wr(c, lin, 24, img + 24, 8);
	}
	if (what & XB(SSE)) {
		for (unsigned n = 0; n < n_regs(c); n++)
			memcpy(img + 160 + 16 * n, c->s.fpu.zmm[n], 16);
		wr(c, lin, 160, img + 160, 16 * n_regs(c));
	}
}

/* Of what is asked for, whether it will be written or not. */
static unsigned area_size(const struct x86_cpu *c, uint64_t rfbm, const struct component map[10])
{
	unsigned size = LEGACY_SIZE + HEADER_SIZE;

	for (unsigned n = XC_AVX; n <= XC_PKRU; n++)
		if ((rfbm & BIT64(n)) && map[n].size)
			size = MAX(size, map[n].off + map[n].size);
	return size;
}

void x86_xsave(struct x86_cpu *c, uint64_t lin, enum x86_xsave_kind kind, bool rex_w)
{
	bool compact = kind >= X86_XSAVEC, mxcsr;
	uint64_t rfbm, used, write, hdr[2];
	struct component map[10];
	uint8_t img[1024];

	if (kind == X86_XSAVES && c->cpl)
		x86_gp(c, 0);
	check_aligned(c, lin, 64);
	rfbm = requested(c, kind == X86_XSAVES);
	used = in_use(c, rfbm);
	if (compact && (rfbm & XB(SSE)) && c->s.fpu.mxcsr != MXCSR_INIT)
		used |= XB(SSE);
	write = kind == X86_XSAVE ? rfbm : used;
	mxcsr = compact ? used & XB(SSE) : rfbm & (XB(SSE) | XB(AVX));
	layout(c, compact ? rfbm | COMPACT : 0, map);
	look(c, lin, 0, X86_WRITE);
	look(c, lin, area_size(c, rfbm, map) - 1, X86_WRITE);
	if (!compact)
		rd(c, lin, LEGACY_SIZE, hdr, 8);
	save_legacy(c, lin, write, mxcsr, rex_w);
	for (unsigned n = XC_AVX; n <= XC_PKRU; n++) {
		unsigned len = component_bytes(c, n, map[n].size);

		if (!(write & BIT64(n)) || !len)
			continue;
		put_component(c, n, img);
		wr(c, lin, map[n].off, img, len);
	}
	hdr[0] = compact ? used : (hdr[0] & ~rfbm) | used;
	hdr[1] = rfbm | COMPACT;
	wr(c, lin, LEGACY_SIZE, hdr, compact ? 16 : 8);
}

/* --- XRSTOR --- */
/* Header checks (SDM vol. 1, 13.8 and 13.12). */
static void check_header(struct x86_cpu *c, const uint64_t hdr[8], bool supervisor)
{
	uint64_t allowed = c->s.xcr0 | (supervisor ? c->s.xss : 0);
	bool bad;

	if (hdr[1] & COMPACT)
		bad = (hdr[1] & ~(allowed | COMPACT)) || (hdr[0] & ~hdr[1]) || !zero(hdr + 2, 48);
	else
		bad = supervisor || (hdr[0] & ~c->s.xcr0) || hdr[1] || hdr[2];
	if (bad)
		x86_gp(c, 0);
}

/* Reads what will be loaded into img, at the area's own offsets. */
static void fetch_area(struct x86_cpu *c, uint64_t lin, uint64_t load, bool mxcsr, const struct component *map,
		       uint8_t *img)
{
	if (load & XB(X87)) {
		rd(c, lin, 0, img, 24);
		rd(c, lin, 32, img + 32, 128);
	}
	if (mxcsr)
		rd(c, lin, 24, img + 24, 4);
	if (load & XB(SSE))
		rd(c, lin, 160, img + 160, 16 * n_regs(c));
	for (unsigned n = XC_AVX; n <= XC_PKRU; n++) {
		unsigned len = component_bytes(c, n, map[n].size);

		if ((load & BIT64(n)) && len)
			rd(c, lin, map[n].off, img + map[n].off, len);
	}
}

void x86_xrstor(struct x86_cpu *c, uint64_t lin, bool supervisor, bool rex_w)
{
	struct x86_fpu *f = &c->s.fpu;
	uint64_t rfbm, load, hdr[8];
	struct component map[10];
	uint8_t img[AREA_MAX];
	bool compact, mxcsr;

	if (supervisor && c->cpl)
		x86_gp(c, 0);
	check_aligned(c, lin, 64);
	rfbm = requested(c, supervisor);
	look(c, lin, 0, X86_READ);
	rd(c, lin, LEGACY_SIZE, hdr, sizeof(hdr));
	check_header(c, hdr, supervisor);
	compact = hdr[1] & COMPACT;
	layout(c, hdr[1], map);
	load = rfbm & hdr[0];
	mxcsr = compact ? load & XB(SSE) : rfbm & (XB(SSE) | XB(AVX));
	fetch_area(c, lin, load, mxcsr, map, img);
	if (mxcsr && (ld_le32(img + 24) & ~MXCSR_MASK))
		x86_gp(c, 0);

	if (load & XB(X87))
		get_x87(f, img, rex_w);
	else if (rfbm & XB(X87))
		init_x87(f);
	if (mxcsr)
		f->mxcsr = ld_le32(img + 24);
	else if (compact && (rfbm & XB(SSE)))
		f->mxcsr = MXCSR_INIT;
	for (unsigned n = 0; n < n_regs(c) && (rfbm & XB(SSE)); n++) {
		if (load & XB(SSE))
			memcpy(f->zmm[n], img + 160 + 16 * n, 16);
		else
			memset(f->zmm[n], 0, 16);
	}
	for (unsigned n = XC_AVX; n <= XC_PKRU; n++)
		if ((rfbm & BIT64(n)) && map[n].size)
			get_component(c, n, (load & BIT64(n)) ? img + map[n].off : NULL);
}
