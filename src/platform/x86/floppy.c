// SPDX-License-Identifier: GPL-2.0-or-later
/* Floppy drives of pc, with a controller and the DMA controllers it needs: made for the first drive. */
#include <errno.h>
#include <stdio.h>

#include "chipset/i8237.h"
#include "chipset/mc146818.h"
#include "device/i82078.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/priv.h"

#define CMOS_FLOPPIES 0x10	/* kinds of the drives: the first one in the upper half */
#define CMOS_EQUIPMENT 0x14

static int make_controllers(struct platform *p, struct err *e)
{
	const struct i8237_config dma = { .low = LAYOUT_PORT_DMA_LOW, .high = LAYOUT_PORT_DMA_HIGH, .pages = LAYOUT_PORT_DMA_PAGES };
	struct i82078_config c = { .base = LAYOUT_PORT_FLOPPY, .channel = LAYOUT_DMA_FLOPPY };
	int r;

	if (p->floppy)
		return 0;
	if (!p->kind->legacy)
		return err_set(e, -EINVAL, "machine %s has no floppy drives; use --machine pc", p->kind->name);
	r = i8237_new(p->m, &dma, &p->dma);
	if (r == 0) {
		c.irq = gsi_wire(p, LAYOUT_GSI_FLOPPY);
		c.dma = p->dma;
		r = i82078_new(p->m, &c, &p->floppy);
	}
	return r < 0 ? err_set(e, r, "out of memory for the floppy disk controller") : 0;
}

/* What BIOS and drivers look at. */
static void set_cmos(struct platform *p)
{
	unsigned a = i82078_kind(p->floppy, 0), b = i82078_kind(p->floppy, 1);
	uint8_t rest = mc146818_get(p->rtc, CMOS_EQUIPMENT) & 0x3e;

	mc146818_set(p->rtc, CMOS_FLOPPIES, (uint8_t)(a << 4 | b));
	mc146818_set(p->rtc, CMOS_EQUIPMENT, (uint8_t)(rest | 1 | (b ? 1 << 6 : 0)));
}

int platform_add_floppy(struct platform *p, unsigned n, const char *id, struct blk_node *node, const struct disk_opts *o, struct disk **out,
			char *path, size_t path_len, struct err *e)
{
	int r = make_controllers(p, e);

	if (r == 0)
		r = i82078_add(p->floppy, n, id, node, o, e);
	if (r < 0)
		return r;
	*out = i82078_disk(p->floppy, n);
	set_cmos(p);
	snprintf(path, path_len, "/pci@i0cf8/isa@%x/fdc@%04x/floppy@%x", LAYOUT_PCI_LPC >> 3, LAYOUT_PORT_FLOPPY, n);
	return 0;
}

void floppy_acpi_config(const struct platform *p, struct acpi_config *c)
{
	for (unsigned n = 0; n < I82078_DRIVES && p->floppy; n++) {
		enum i82078_kind kind = i82078_kind(p->floppy, n);
		struct i82078_geometry g = i82078_geometry(kind);

		c->floppy[n] = (struct acpi_floppy){ (uint8_t)kind, g.cylinders, g.heads, g.sectors };
	}
}
