/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the VGA share. */
#ifndef LODGE_DEVICE_VGA_INT_H
#define LODGE_DEVICE_VGA_INT_H

#include "base/bits.h"
#include "device/vga.h"
#include "display/display.h"
#include "pci/pci.h"

/* Indices of the registers that are looked at by name (IBM VGA; chapter and verse are the same in
 * every data book). */
enum { SEQ_CLOCKING = 1, SEQ_MAP_MASK, SEQ_CHAR_MAP, SEQ_MEMORY_MODE, SEQ_COUNT };
enum { GR_SET_RESET, GR_ENABLE, GR_COMPARE, GR_FUNCTION, GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE, GR_BIT_MASK, GR_COUNT };
enum { AR_MODE = 16, AR_OVERSCAN, AR_PLANES, AR_PAN, AR_COLOR_SELECT, AR_COUNT };
enum { CR_H_END = 1, CR_OVERFLOW = 7, CR_ROW_SCAN = 8, CR_MAX_SCAN = 9, CR_CURSOR_START = 0x0a, CR_CURSOR_END, CR_START_HIGH,
       CR_START_LOW, CR_CURSOR_HIGH, CR_CURSOR_LOW, CR_V_RETRACE_END = 0x11, CR_V_END, CR_OFFSET, CR_MODE = 0x17,
       CR_LINE_COMPARE = 0x18, CR_COUNT };

/* The dispi interface. */
enum { DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH, DISPI_VIRT_HEIGHT,
       DISPI_X_OFFSET, DISPI_Y_OFFSET, DISPI_COUNT, DISPI_MEMORY_64K = DISPI_COUNT };
#define DISPI_ID0 0xb0c0
#define DISPI_ID5 0xb0c5
#define DISPI_ENABLED 0x01
#define DISPI_GETCAPS 0x02
#define DISPI_8BIT_DAC 0x20
#define DISPI_LFB 0x40
#define DISPI_NOCLEAR 0x80
#define DISPI_MAX_XRES 16000u
#define DISPI_MAX_YRES 12000u
#define DISPI_MAX_BPP 32u

struct vga {
	struct machine *m;
	struct pci_dev *pci;		/* the function it is (a part of); NULL: not yet; off its bus (and m) before the VGA goes */
	struct vga_config cfg;
	struct bus_region window, ports, dispi;
	uint64_t vram_offset, vram_size;
	uint8_t *vram;			/* shared with the guest's CPUs */
	uint64_t mapped_at;		/* where BAR 0 shows it as memory; UINT64_MAX: nowhere */

	uint8_t misc, feature;
	uint8_t seq_index, seq[SEQ_COUNT];
	uint8_t gr_index, gr[GR_COUNT];
	uint8_t ar_index, ar_flip, ar[AR_COUNT];	/* flip: the next write is data */
	uint8_t cr_index, cr[CR_COUNT];
	uint8_t latch[4];
	uint8_t dac_mask, dac_reading, dac_read, dac_write, dac_sub, dac_new[3], dac[768];
	uint16_t dispi_index, reg[DISPI_COUNT];

	/* Drawing; the machine lock, and in refresh the display's. */
	bool watched;
	bool stale;			/* everything is to be drawn anew */
	bool blink_on;			/* phase the text was drawn in */
	bool blinks;			/* what is shown depends on it */
	uint64_t *seen, *seen_before;	/* pages written, now and at the last refresh */
	uint32_t *line;			/* one row */
	uint32_t pens[256];		/* colours as they are shown */
};

static inline bool dispi_on(const struct vga *v) { return v->reg[DISPI_ENABLE] & DISPI_ENABLED; }

/* vga_regs.c: byte accesses to ports 0x3b0 + off, and the 16-bit registers of dispi. */
uint8_t vga_port_read(struct vga *v, unsigned off);
void vga_port_write(struct vga *v, unsigned off, uint8_t val);
uint16_t vga_dispi_read(struct vga *v, unsigned index);
void vga_dispi_write(struct vga *v, unsigned index, uint16_t val);
void vga_regs_reset(struct vga *v);
/* Registers come from a stream: is every one in its range? */
bool vga_regs_sane(const struct vga *v);
/* Bytes of a row of pixels in memory, and how many such rows there are. */
unsigned vga_dispi_pitch(const struct vga *v, unsigned width);

/* vga_mem.c: the window at 0xa0000. */
extern const struct bus_ops vga_window_ops;

/* vga_draw.c */
extern const struct display_ops vga_display_ops;

#endif
