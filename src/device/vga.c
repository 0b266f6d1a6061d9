// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VGA as a PCI function: BAR 0 the frame buffer, BAR 2 the registers as memory
 * (EDID at 0, ports 0x3c0 to 0x3df at 0x400, dispi at 0x500, byte order at 0x600),
 * the legacy ports and the window beside it; life cycle and saved state.
 *
 * Where BAR 0 is decoded the frame buffer becomes memory.  A place that is taken by
 * RAM shows nothing of it, as on a PC, where RAM wins.
 */
#include "device/vga_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "display/edid.h"

#define MMIO_PORTS 0x400u
#define MMIO_DISPI 0x500u
#define MMIO_EXT 0x600u
#define EXT_SIZE 8u
#define EXT_LITTLE 0x1e1e1e1eu

static const struct snap_field fields[] = {
	SNAP_FIELD(struct vga, misc),
	SNAP_FIELD(struct vga, feature),
	SNAP_FIELD(struct vga, seq_index),
	SNAP_ARRAY(struct vga, seq),
	SNAP_FIELD(struct vga, gr_index),
	SNAP_ARRAY(struct vga, gr),
	SNAP_FIELD(struct vga, ar_index),
	SNAP_FIELD(struct vga, ar_flip),
	SNAP_ARRAY(struct vga, ar),
	SNAP_FIELD(struct vga, cr_index),
	SNAP_ARRAY(struct vga, cr),
	SNAP_ARRAY(struct vga, latch),
	SNAP_FIELD(struct vga, dac_mask),
	SNAP_FIELD(struct vga, dac_reading),
	SNAP_FIELD(struct vga, dac_read),
	SNAP_FIELD(struct vga, dac_write),
	SNAP_FIELD(struct vga, dac_sub),
	SNAP_ARRAY(struct vga, dac_new),
	SNAP_ARRAY(struct vga, dac),
	SNAP_FIELD(struct vga, dispi_index),
	SNAP_ARRAY(struct vga, reg),
	SNAP_END
};
static const struct snap_table table = { "vga", 1, fields };

/* ---- the frame buffer ---- */

/* What is decoded, but no memory: the range is taken by RAM.  Reads and writes still work. */
static uint64_t vram_read(void *opaque, uint64_t off, unsigned len)
{
	struct vga *v = opaque;

	return ld_le(v->vram + off, len);
}

static void vram_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct vga *v = opaque;

	st_le(v->vram + off, len, val);
	mem_stored(v->m->mem, v->vram_offset + off, len);
}

static const struct bus_ops vram_ops = { .read = vram_read, .write = vram_write };

static void part_bars_changed(void *opaque)
{
	struct vga *v = opaque;
	struct mem *mem = v->m->mem;
	uint64_t at = pci_bar_addr(v->pci, 0);
	struct err e = { "" };

	if (at == v->mapped_at)
		return;
	if (v->mapped_at != UINT64_MAX)
		mem_del(mem, v->mapped_at);
	v->mapped_at = UINT64_MAX;
	if (at == UINT64_MAX)
		return;
	if (mem_add_ram(mem, "vga.vram", at, v->vram_offset, v->vram_size, &e))
		log_guest("vga: %s", e.msg);
	else
		v->mapped_at = at;
}

/* ---- registers ---- */

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	struct vga *v = opaque;
	uint8_t edid[EDID_SIZE];

	if (off < EDID_SIZE) {
		edid_make(EDID_WIDTH, EDID_HEIGHT, edid);
		return len == 1 ? edid[off] : ld_le16(edid + off);
	}
	if (off >= MMIO_PORTS && off < MMIO_PORTS + 0x20) {
		unsigned port = (unsigned)(off - MMIO_PORTS) + 0x10;
		uint64_t lo = vga_port_read(v, port);

		return len == 1 ? lo : lo | (uint64_t)vga_port_read(v, port + 1) << 8;
	}
	if (off >= MMIO_DISPI && off < MMIO_DISPI + 2 * (DISPI_MEMORY_64K + 1))
		return len == 2 ? vga_dispi_read(v, (unsigned)(off - MMIO_DISPI) / 2)
				: vga_dispi_read(v, (unsigned)(off - MMIO_DISPI) / 2) >> (off & 1) * 8 & 0xff;
	if (off >= MMIO_EXT && off < MMIO_EXT + EXT_SIZE) {
		uint8_t ext[EXT_SIZE];

		st_le32(ext, EXT_SIZE);
		st_le32(ext + 4, EXT_LITTLE);
		return ld_le(ext + (off - MMIO_EXT), len);
	}
	return UINT64_MAX;
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct vga *v = opaque;

	if (off >= MMIO_PORTS && off < MMIO_PORTS + 0x20) {
		unsigned port = (unsigned)(off - MMIO_PORTS) + 0x10;

		vga_port_write(v, port, (uint8_t)val);
		if (len == 2)
			vga_port_write(v, port + 1, (uint8_t)(val >> 8));
	} else if (off >= MMIO_DISPI && off < MMIO_DISPI + 2 * DISPI_COUNT && len == 2) {
		vga_dispi_write(v, (unsigned)(off - MMIO_DISPI) / 2, (uint16_t)val);
	}
	/* Byte order: this machine's is the only one. */
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .min_len = 1, .max_len = 2 };

static uint64_t ports_read(void *opaque, uint64_t off, unsigned len) { return vga_port_read(opaque, (unsigned)off); }
static void ports_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	vga_port_write(opaque, (unsigned)off, (uint8_t)val);
}
static const struct bus_ops ports_ops = { .read = ports_read, .write = ports_write, .max_len = 1 };

/* Index at 0, data at 1 (and at 2, where programs for other buses look). */
static uint64_t dispi_read(void *opaque, uint64_t off, unsigned len)
{
	struct vga *v = opaque;

	return off ? vga_dispi_read(v, v->dispi_index) : v->dispi_index;
}

static void dispi_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct vga *v = opaque;

	if (len != 2)
		return;
	if (off)
		vga_dispi_write(v, v->dispi_index, (uint16_t)val);
	else
		v->dispi_index = (uint16_t)val;
}

static const struct bus_ops dispi_ops = { .read = dispi_read, .write = dispi_write, .min_len = 2, .max_len = 2,
					  .unaligned = true };

/* ---- the part ---- */

static int add_region(struct bus *b, struct bus_region *r, const char *name, const struct bus_ops *ops, struct vga *v,
		      uint64_t base, uint64_t size)
{
	*r = (struct bus_region){ .name = name, .ops = ops, .opaque = v, .base = base, .size = size, .priority = 1 };
	return bus_add(b, r);
}

static int part_attach(void *opaque, struct pci_dev *p, struct err *e)
{
	struct vga *v = opaque;
	struct machine *m = v->m;
	int r;

	v->pci = p;
	r = pci_dev_add_bar(p, 0, PCI_BAR_MEM32, true, v->vram_size, &vram_ops, v);
	if (!r)
		r = add_region(m->mmio, &v->window, "vga-window", &vga_window_ops, v, v->cfg.window, 0x20000);
	if (!r)
		r = add_region(m->pio, &v->ports, "vga-ports", &ports_ops, v, v->cfg.ports, 0x30);
	if (!r)
		r = add_region(m->pio, &v->dispi, "vga-dispi", &dispi_ops, v, v->cfg.dispi, 4);
	if (r)
		return err_set(e, r, "the VGA cannot be built: %s", strerror(-r));
	vga_regs_reset(v);
	display_attach(v->cfg.display, &vga_display_ops, v);
	return 0;
}

/* The frame buffer keeps what it shows, as memory does. */
static void part_reset(void *opaque) { vga_regs_reset(opaque); }

static int part_save(void *opaque, struct snap_out *o)
{
	struct vga *v = opaque;

	return snap_put(o, v->pci->dev.id, &table, v);
}

static int part_load(void *opaque, struct snap_in *in, struct err *e)
{
	struct vga *v = opaque;
	const char *id = v->pci->dev.id;
	int r = snap_get(in, id, &table, v, e);

	v->stale = true;
	if (!r && !vga_regs_sane(v)) {
		vga_regs_reset(v);
		r = err_set(e, -EINVAL, "saved state of %s: its registers make no sense", id);
	} else if (r) {
		vga_regs_reset(v);
	}
	return r;
}

static void part_free(void *opaque)
{
	struct vga *v = opaque;

	if (v->pci) {
		display_attach(v->cfg.display, NULL, NULL);
		bus_del(&v->window);
		bus_del(&v->ports);
		bus_del(&v->dispi);
	}
	free(v->seen);
	free(v->seen_before);
	free(v->line);
	free(v);
}

static const struct pci_part_ops part_ops = {
	.attach = part_attach, .bars_changed = part_bars_changed, .reset = part_reset, .save = part_save, .load = part_load,
	.free = part_free, .mmio = &mmio_ops,
};

static bool buffers(struct vga *v)
{
	size_t words = (size_t)((v->vram_size >> PAGE_SHIFT_4K) + 63) / 64;

	v->seen = calloc(words, sizeof(*v->seen));
	v->seen_before = calloc(words, sizeof(*v->seen));
	v->line = calloc(DISPLAY_MAX_WIDTH + 16, sizeof(*v->line));
	return v->seen && v->seen_before && v->line;
}

int vga_part_new(struct machine *m, const struct vga_config *cfg, struct pci_part *out, struct err *e)
{
	struct vga *v;

	if (!is_pow2(cfg->vram_size) || cfg->vram_size < VGA_VRAM_MIN || cfg->vram_size > VGA_VRAM_MAX)
		return err_set(e, -EINVAL, "a VGA's memory is a power of two from 1 MiB to 256 MiB");
	if (cfg->vram_offset > mem_ram_size(m->mem) || cfg->vram_size > mem_ram_size(m->mem) - cfg->vram_offset)
		return err_set(e, -EINVAL, "the VGA's memory is not there");
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->m = m;
	v->cfg = *cfg;
	v->vram_size = cfg->vram_size;
	v->vram_offset = cfg->vram_offset;
	v->vram = mem_ram_host(m->mem) + cfg->vram_offset;
	v->mapped_at = UINT64_MAX;
	if (!buffers(v)) {
		part_free(v);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*out = (struct pci_part){ &part_ops, v };
	return 0;
}

/* ---- the card ---- */

struct card {
	struct pci_dev pci;		/* first */
	struct pci_part vga;
};

static struct card *card_of(struct dev *d) { return container_of(d, struct card, pci.dev); }

static void card_bars_changed(struct pci_dev *p)
{
	struct card *c = container_of(p, struct card, pci);

	part_bars_changed(c->vga.opaque);
}

static void card_reset(struct dev *d)
{
	pci_dev_reset(&card_of(d)->pci);
	part_reset(card_of(d)->vga.opaque);
}

static int card_save(struct dev *d, struct snap_out *o)
{
	int r = pci_dev_save(&card_of(d)->pci, o);

	return r ? r : part_save(card_of(d)->vga.opaque, o);
}

static int card_load(struct dev *d, struct snap_in *in, struct err *e)
{
	int r = pci_dev_load(&card_of(d)->pci, in, e);

	return r ? r : part_load(card_of(d)->vga.opaque, in, e);
}

static void card_free(struct dev *d)
{
	struct card *c = card_of(d);

	pci_dev_fini(&c->pci);		/* takes the frame buffer off the map */
	part_free(c->vga.opaque);
	free(c);
}

static const struct pci_dev_ops card_ops = {
	.dev = { .name = "vga", .reset = card_reset, .save = card_save, .load = card_load, .free = card_free },
	.bars_changed = card_bars_changed,
};

static const struct pci_ids ids = {
	.vendor = 0x1234, .device = 0x1111, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x030000, .revision = 2,
};

int vga_new(struct machine *m, struct pci_bus *bus, int devfn, const struct vga_config *cfg, struct err *e)
{
	struct card *c = calloc(1, sizeof(*c));
	int r = c ? vga_part_new(m, cfg, &c->vga, e) : err_set(e, -ENOMEM, "out of memory");

	if (!r) {
		r = pci_dev_init(&c->pci, m, bus, devfn, &card_ops, &ids, e);
		if (r)
			part_free(c->vga.opaque);
	}
	if (r) {
		free(c);
		return r;
	}
	r = part_attach(c->vga.opaque, &c->pci, e);
	if (!r && pci_dev_add_bar(&c->pci, 2, PCI_BAR_MEM32, false, PCI_PART_MMIO_SIZE, &mmio_ops, c->vga.opaque))
		r = err_set(e, -ENOMEM, "the VGA cannot be built: no room for its registers");
	if (r) {
		card_free(&c->pci.dev);
		return r;
	}
	pci_dev_ready(&c->pci);
	return 0;
}
