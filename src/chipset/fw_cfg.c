/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg.  Items are read-only to the guest: writes through the data port are
 * ignored and DMA writes answer with the error bit.  Reads past the end of an
 * item give zeroes, as the specification wants.
 *
 * DMA (big-endian control, length, address at the address written): a transfer
 * happens at once, on the writing vCPU; the guest's memory is reached only
 * through bounds-checked copies, and a length larger than the item costs no more
 * than clearing that much of the guest's own memory in page-sized steps.
 */
#include "chipset/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/machine.h"

#define DMA_ERROR 1u
#define DMA_READ 2u
#define DMA_SKIP 4u
#define DMA_SELECT 8u
#define DMA_WRITE 16u
#define FILE_NAME_LEN 56

struct item {
	uint8_t *data;
	uint32_t len;
	void (*selected)(void *opaque);	/* contents that are made when asked for; or NULL */
	void *opaque;
};

/* A directory entry as the guest reads it: big-endian size and selector. */
struct file_entry {
	uint32_t size;
	uint16_t select;
	uint16_t reserved;
	char name[FILE_NAME_LEN];
};
_Static_assert(sizeof(struct file_entry) == 64, "directory entry");

struct fw_cfg {
	struct dev dev;
	struct bus_region ports, dma;
	struct item item[FW_CFG_N_ITEMS];
	struct file_entry file[FW_CFG_N_ITEMS - FW_CFG_FILE_FIRST];
	uint32_t n_files;
	/* guest-visible state */
	uint16_t select;
	uint32_t offset;
	uint64_t dma_addr;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct fw_cfg, select), SNAP_FIELD(struct fw_cfg, offset), SNAP_FIELD(struct fw_cfg, dma_addr), SNAP_END
};
static const struct snap_table table = { "fw_cfg", 1, fields };

static const struct item *selected(const struct fw_cfg *f)
{
	static const struct item none;
	uint16_t key = f->select & 0x3fff;	/* bits 14, 15: write and architecture-specific */

	return key < FW_CFG_N_ITEMS && !(f->select & 0x8000) ? &f->item[key] : &none;
}

static void select_item(struct fw_cfg *f, uint16_t key)
{
	const struct item *i;

	f->select = key;
	f->offset = 0;
	i = selected(f);
	if (i->selected)
		i->selected(i->opaque);
}

static uint8_t next_byte(struct fw_cfg *f)
{
	const struct item *i = selected(f);

	return f->offset < i->len ? i->data[f->offset++] : 0;
}

static uint64_t ports_read(void *opaque, uint64_t off, unsigned len)
{
	struct fw_cfg *f = opaque;

	return off == 1 ? next_byte(f) : 0;
}

static void ports_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct fw_cfg *f = opaque;

	if (off == 0 && len == 2)
		select_item(f, (uint16_t)val);
}

static const struct bus_ops ports_ops = { .read = ports_read, .write = ports_write, .min_len = 1, .max_len = 2, .unaligned = true };

/* Copies `len` bytes of the item to the guest, zeroes after its end. */
static int dma_read(struct fw_cfg *f, uint64_t addr, uint32_t len)
{
	static const uint8_t zero[4096];
	const struct item *i = selected(f);
	struct mem *mem = f->dev.m->mem;

	while (len) {
		uint32_t left = f->offset < i->len ? i->len - f->offset : 0;
		uint32_t n = MIN(left ? left : (uint32_t)sizeof(zero), len);

		if (mem_write(mem, addr, left ? i->data + f->offset : zero, n) < 0)
			return -EFAULT;
		f->offset += left ? n : 0;
		addr += n;
		len -= n;
	}
	return 0;
}

static void dma_skip(struct fw_cfg *f, uint32_t len)
{
	uint32_t left = selected(f)->len - MIN(f->offset, selected(f)->len);

	f->offset += MIN(len, left);
}

static void dma_run(struct fw_cfg *f)
{
	struct mem *mem = f->dev.m->mem;
	uint64_t at = f->dma_addr, addr;
	uint32_t control, len, status = 0;
	uint8_t d[16];

	f->dma_addr = 0;
	if (mem_read(mem, at, d, sizeof(d)) < 0)
		return;
	control = __builtin_bswap32(ld_le32(d));
	len = __builtin_bswap32(ld_le32(d + 4));
	addr = __builtin_bswap64(ld_le64(d + 8));
	if (control & DMA_SELECT)
		select_item(f, (uint16_t)(control >> 16));
	if (control & DMA_READ)
		status = dma_read(f, addr, len) < 0 ? DMA_ERROR : 0;
	else if (control & DMA_WRITE)
		status = DMA_ERROR;
	else if (control & DMA_SKIP)
		dma_skip(f, len);
	status = __builtin_bswap32(status);
	mem_write(mem, at, &status, 4);
}

static uint64_t dma_reg_read(void *opaque, uint64_t off, unsigned len)
{
	/* "QEMU CFG", big-endian: the interface's signature. */
	return len != 4 ? 0 : __builtin_bswap32(off ? 0x20434647u : 0x51454d55u);
}

static void dma_reg_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct fw_cfg *f = opaque;
	uint32_t v = __builtin_bswap32((uint32_t)val);

	if (len != 4)
		return;
	if (off == 0) {
		f->dma_addr = (uint64_t)v << 32;
	} else {
		f->dma_addr |= v;
		dma_run(f);
	}
}

static const struct bus_ops dma_ops = { .read = dma_reg_read, .write = dma_reg_write, .min_len = 4, .max_len = 4 };

static void reset(struct dev *d)
{
	struct fw_cfg *f = (struct fw_cfg *)d;

	f->select = 0;
	f->offset = 0;
	f->dma_addr = 0;
}

/* What was made when the guest asked for it is part of the state: it may be half read. */
static int save(struct dev *d, struct snap_out *o)
{
	struct fw_cfg *f = (struct fw_cfg *)d;
	int r = snap_put(o, d->id, &table, d);

	for (uint32_t i = 0; i < f->n_files && r == 0; i++) {
		const struct item *it = &f->item[FW_CFG_FILE_FIRST + i];

		if (it->selected)
			r = snap_put_blob(o, f->file[i].name, it->data, it->len);
	}
	return r;
}

static int load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct fw_cfg *f = (struct fw_cfg *)d;
	int r = snap_get(in, d->id, &table, d, e);

	for (uint32_t i = 0; i < f->n_files && r == 0; i++) {
		struct item *it = &f->item[FW_CFG_FILE_FIRST + i];
		uint32_t len = 0;

		if (!it->selected)
			continue;
		r = snap_get_blob(in, f->file[i].name, it->data, it->len, &len, e);
		if (r == 0 && len != it->len)
			r = err_set(e, -EINVAL, "saved fw_cfg file %s has another length", f->file[i].name);
	}
	return r;
}

static void fw_cfg_free(struct dev *d)
{
	struct fw_cfg *f = (struct fw_cfg *)d;

	bus_del(&f->ports);
	bus_del(&f->dma);
	for (unsigned i = 0; i < FW_CFG_N_ITEMS; i++)
		free(f->item[i].data);
	free(f);
}

static const struct dev_ops ops = { .name = "fw_cfg", .reset = reset, .save = save, .load = load, .free = fw_cfg_free };

int fw_cfg_set_owned(struct fw_cfg *f, uint16_t key, void *data, uint32_t len)
{
	if (key >= FW_CFG_N_ITEMS) {
		free(data);
		return -EINVAL;
	}
	free(f->item[key].data);
	f->item[key] = (struct item){ .data = data, .len = len };
	return 0;
}

int fw_cfg_set(struct fw_cfg *f, uint16_t key, const void *data, uint32_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, data, len);
	return fw_cfg_set_owned(f, key, copy, len);
}

int fw_cfg_set_int(struct fw_cfg *f, uint16_t key, uint64_t v, unsigned bytes)
{
	return bytes > 8 ? -EINVAL : fw_cfg_set(f, key, &v, bytes);
}

/* The directory is made anew after every file: count, then the entries. */
static int publish_directory(struct fw_cfg *f)
{
	uint8_t dir[4 + sizeof(f->file)];

	st_le32(dir, __builtin_bswap32(f->n_files));
	memcpy(dir + 4, f->file, f->n_files * sizeof(f->file[0]));
	return fw_cfg_set(f, FW_CFG_FILE_DIR, dir, (uint32_t)(4 + f->n_files * sizeof(f->file[0])));
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t len)
{
	struct file_entry *e = &f->file[f->n_files];
	uint16_t key = (uint16_t)(FW_CFG_FILE_FIRST + f->n_files);
	int r;

	if (!*name || strlen(name) >= FILE_NAME_LEN)
		return -EINVAL;
	for (uint32_t i = 0; i < f->n_files; i++)
		if (!strcmp(f->file[i].name, name))
			return -EEXIST;
	if (f->n_files >= ARRAY_LEN(f->file))
		return -ENOSPC;
	r = fw_cfg_set(f, key, data, len);
	if (r < 0)
		return r;
	memset(e, 0, sizeof(*e));
	e->size = __builtin_bswap32(len);
	e->select = __builtin_bswap16(key);
	memcpy(e->name, name, strlen(name));
	f->n_files++;
	return publish_directory(f);
}

/* The item of a file, or NULL. */
static struct item *file_item(struct fw_cfg *f, const char *name)
{
	for (uint32_t i = 0; i < f->n_files; i++)
		if (!strcmp(f->file[i].name, name))
			return &f->item[FW_CFG_FILE_FIRST + i];
	return NULL;
}

int fw_cfg_on_select(struct fw_cfg *f, const char *name, void (*fn)(void *opaque), void *opaque)
{
	struct item *i = file_item(f, name);

	if (!i)
		return -ENOENT;
	i->selected = fn;
	i->opaque = opaque;
	return 0;
}

int fw_cfg_replace(struct fw_cfg *f, const char *name, const void *data, uint32_t len)
{
	struct item *i = file_item(f, name);

	if (!i)
		return -ENOENT;
	if (len > i->len)
		return -E2BIG;
	if (len)
		memcpy(i->data, data, len);
	memset(i->data + len, 0, i->len - len);
	return 0;
}

int fw_cfg_new(struct machine *m, uint16_t port, struct fw_cfg **out)
{
	struct fw_cfg *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->ports = (struct bus_region){ .name = "fw_cfg", .ops = &ports_ops, .opaque = f, .base = port, .size = 2, .priority = 1 };
	f->dma = (struct bus_region){ .name = "fw_cfg-dma", .ops = &dma_ops, .opaque = f, .base = port + 4u, .size = 8, .priority = 1 };
	dev_add(m, &f->dev, &ops, "fw_cfg");
	r = bus_add(m->pio, &f->ports);
	if (r == 0)
		r = bus_add(m->pio, &f->dma);
	if (r == 0)
		r = fw_cfg_set(f, FW_CFG_SIGNATURE, "QEMU", 4);
	if (r == 0)
		r = fw_cfg_set_int(f, FW_CFG_ID, 3, 4);		/* traditional and DMA */
	if (r == 0)
		r = publish_directory(f);
	if (r == 0 && out)
		*out = f;
	return r;	/* on an error too the machine frees it */
}
