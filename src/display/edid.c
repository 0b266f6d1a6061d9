// SPDX-License-Identifier: GPL-2.0-or-later
/* The block: header, ids, established and standard timings, one detailed timing, name and range. */
#include "display/edid.h"

#include <string.h>

#include "base/bits.h"

/* "LDG" in five bits a letter (3.4.1). */
#define MANUFACTURER (('L' - '@') << 10 | ('D' - '@') << 5 | ('G' - '@'))
#define DPI 96u

/* A standard timing at 60 Hz (3.9): aspect 16:10 0, 4:3 1, 5:4 2, 16:9 3. */
static void standard(uint8_t *out, unsigned width, unsigned aspect)
{
	out[0] = (uint8_t)(width / 8 - 31);
	out[1] = (uint8_t)(aspect << 6);
}

/* The detailed timing (3.10.2) with the blanking of reduced CVT: 160 pixels, and lines enough for 460 us. */
static void detailed(uint8_t *d, unsigned w, unsigned h)
{
	unsigned hblank = 160, vblank = h / 32 + 8, clock = (w + hblank) * (h + vblank) * 6 / 1000;	/* 60 Hz in 10 kHz */
	unsigned mm_w = w * 254 / DPI / 10, mm_h = h * 254 / DPI / 10;

	st_le16(d, (uint16_t)MIN(clock, 0xffffu));
	d[2] = (uint8_t)w;
	d[3] = (uint8_t)hblank;
	d[4] = (uint8_t)((w >> 8) << 4 | hblank >> 8);
	d[5] = (uint8_t)h;
	d[6] = (uint8_t)vblank;
	d[7] = (uint8_t)((h >> 8) << 4 | vblank >> 8);
	d[8] = 48;			/* front porch and sync */
	d[9] = 32;
	d[10] = 3 << 4 | 6;
	d[12] = (uint8_t)mm_w;
	d[13] = (uint8_t)mm_h;
	d[14] = (uint8_t)((mm_w >> 8) << 4 | mm_h >> 8);
	d[17] = 0x18;			/* digital separate sync */
}

static void text(uint8_t *d, uint8_t tag, const char *s)
{
	size_t n = MIN(strlen(s), 13u);

	d[3] = tag;
	memset(d + 5, ' ', 13);
	memcpy(d + 5, s, n);
	if (n < 13)
		d[5 + n] = '\n';
}

void edid_make(unsigned width, unsigned height, uint8_t out[EDID_SIZE])
{
	static const uint8_t header[8] = { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0 };
	uint8_t sum = 0;

	width = MAX(MIN(width, 4095u), 64u);
	height = MAX(MIN(height, 4095u), 64u);
	memset(out, 0, EDID_SIZE);
	memcpy(out, header, sizeof(header));
	out[8] = MANUFACTURER >> 8;
	out[9] = MANUFACTURER & 0xff;
	st_le16(out + 10, 1);
	out[16] = 1;			/* week and year of manufacture */
	out[17] = 2024 - 1990;
	out[18] = 1;
	out[19] = 4;
	out[20] = 0xa5;			/* digital, 8 bits a colour, DisplayPort */
	out[21] = (uint8_t)MAX(width * 254 / DPI / 100, 1u);
	out[22] = (uint8_t)MAX(height * 254 / DPI / 100, 1u);
	out[23] = 120;			/* gamma 2.2 */
	out[24] = 0x06;			/* sRGB; the first detailed timing is preferred */
	/* Chromaticity of sRGB (3.7). */
	memcpy(out + 25, (const uint8_t[]){ 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54 }, 10);
	out[35] = 0x21;			/* 640x480, 800x600 */
	out[36] = 0x08;			/* 1024x768 */
	standard(out + 38, 1280, 0);
	standard(out + 40, 1280, 2);
	standard(out + 42, 1440, 0);
	standard(out + 44, 1680, 0);
	standard(out + 46, 1920, 3);
	standard(out + 48, 1280, 3);
	standard(out + 50, 1600, 3);
	standard(out + 52, 2048, 3);
	detailed(out + 54, width, height);
	text(out + 72, 0xfc, "Lodge Monitor");
	/* Range limits (3.10.3.3.1): 50 to 125 Hz, 30 to 160 kHz, up to 2550 MHz. */
	memcpy(out + 90, (const uint8_t[]){ 0, 0, 0, 0xfd, 0, 50, 125, 30, 160, 255, 0, '\n', ' ', ' ', ' ', ' ', ' ', ' ' }, 18);
	out[111] = 0x10;		/* a dummy descriptor */
	for (unsigned i = 0; i < EDID_SIZE - 1; i++)
		sum += out[i];
	out[127] = (uint8_t)-sum;
}
