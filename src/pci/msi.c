/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Message-signalled interrupts of a function: MSI (PCI 3.0, 6.8.1) and MSI-X
 * (6.8.2).
 *
 * A message that may not be sent now (vector masked, function masked, bus
 * mastering off) leaves its pending bit; every change that could lift the
 * obstacle looks at the pending bits again.
 */
#include "pci/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

#define MSI_CTRL 2
#define MSI_ADDR 4
#define MSI_DATA 12
#define MSI_MASK 16
#define MSI_PENDING 20
#define MSI_CTRL_ENABLE 0x0001
#define MSI_CTRL_64 0x0080
#define MSI_CTRL_MASKABLE 0x0100

#define MSIX_CTRL 2
#define MSIX_CTRL_ENABLE 0x8000
#define MSIX_CTRL_MASK 0x4000
#define MSIX_ENTRY 16
#define MSIX_VCTRL 12
#define MSIX_VCTRL_MASK 1
#define MSIX_MAX 2048

struct pci_msix {
	unsigned vectors, bar;
	uint32_t table_off, pba_off;
	uint32_t table_len, pba_len;	/* bytes */
	uint64_t pba[MSIX_MAX / 64];
	uint8_t table[];		/* as the guest reads it */
};

static bool master(const struct pci_dev *d)
{
	return ld_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* ---- MSI ---- */

int pci_dev_add_msi(struct pci_dev *d, unsigned vectors)
{
	uint8_t body[22] = { 0 };
	unsigned mmc = 0;
	int off;

	if (!is_pow2(vectors) || vectors > 32)
		return -EINVAL;
	while (1u << mmc < vectors)
		mmc++;
	st_le16(body, MSI_CTRL_64 | MSI_CTRL_MASKABLE | mmc << 1);
	off = pci_dev_add_cap(d, PCI_CAP_ID_MSI, body, sizeof(body));
	if (off < 0)
		return off;
	st_le16(d->wmask + off + MSI_CTRL, MSI_CTRL_ENABLE | 0x70);
	st_le32(d->wmask + off + MSI_ADDR, ~3u);
	st_le32(d->wmask + off + MSI_ADDR + 4, ~0u);
	st_le16(d->wmask + off + MSI_DATA, 0xffff);
	st_le32(d->wmask + off + MSI_MASK, vectors == 32 ? ~0u : BIT(vectors) - 1);
	d->msi_cap = off;
	return 0;
}

bool pci_msi_enabled(const struct pci_dev *d)
{
	return d->msi_cap && d->config[d->msi_cap + MSI_CTRL] & MSI_CTRL_ENABLE;
}

/* Vectors the guest granted, at most those it was offered. */
static unsigned msi_granted(const struct pci_dev *d)
{
	uint16_t ctrl = ld_le16(d->config + d->msi_cap + MSI_CTRL);
	unsigned offered = ctrl >> 1 & 7, granted = ctrl >> 4 & 7;

	return 1u << MIN(offered, granted);
}

static void msi_send(struct pci_dev *d, unsigned vector)
{
	const uint8_t *cap = d->config + d->msi_cap;
	unsigned low = msi_granted(d) - 1;
	struct msi msg = { .addr = ld_le64(cap + MSI_ADDR),
			   .data = (ld_le16(cap + MSI_DATA) & ~low) | (vector & low) };

	machine_msi(d->bus->m, &msg);
}

void pci_msi_fire(struct pci_dev *d, unsigned vector)
{
	uint8_t *cap = d->config + d->msi_cap;

	if (!pci_msi_enabled(d))
		return;
	vector &= msi_granted(d) - 1;	/* fewer granted than wanted: they share */
	if (!master(d) || ld_le32(cap + MSI_MASK) & BIT(vector))
		st_le32(cap + MSI_PENDING, ld_le32(cap + MSI_PENDING) | BIT(vector));
	else
		msi_send(d, vector);
}

void pci_msi_update(struct pci_dev *d)
{
	uint8_t *cap = d->config + d->msi_cap;
	uint32_t go;

	if (!pci_msi_enabled(d) || !master(d))
		return;
	go = ld_le32(cap + MSI_PENDING) & ~ld_le32(cap + MSI_MASK);
	st_le32(cap + MSI_PENDING, ld_le32(cap + MSI_PENDING) & ~go);
	for (; go; go &= go - 1)
		msi_send(d, (unsigned)__builtin_ctz(go));
}

/* ---- MSI-X ---- */

int pci_dev_add_msix(struct pci_dev *d, unsigned vectors, unsigned bar, uint32_t table_off, uint32_t pba_off)
{
	uint32_t table_len = vectors * MSIX_ENTRY, pba_len = align_up(vectors, 64) / 8;
	struct pci_msix *x;
	uint8_t body[10];
	int off;

	if (!vectors || vectors > MSIX_MAX || bar >= PCI_NUM_BARS || (table_off | pba_off) & 7 ||
	    !range_inside(table_off, table_len, d->bar[bar].size) ||
	    !range_inside(pba_off, pba_len, d->bar[bar].size))
		return -EINVAL;
	x = calloc(1, sizeof(*x) + table_len);
	if (!x)
		return -ENOMEM;
	st_le16(body, vectors - 1);
	st_le32(body + 2, table_off | bar);
	st_le32(body + 6, pba_off | bar);
	off = pci_dev_add_cap(d, PCI_CAP_ID_MSIX, body, sizeof(body));
	if (off < 0) {
		free(x);
		return off;
	}
	st_le16(d->wmask + off + MSIX_CTRL, MSIX_CTRL_ENABLE | MSIX_CTRL_MASK);
	x->vectors = vectors;
	x->bar = bar;
	x->table_off = table_off;
	x->pba_off = pba_off;
	x->table_len = table_len;
	x->pba_len = pba_len;
	d->msix = x;
	d->msix_cap = off;
	pci_msix_reset(d);
	return 0;
}

void pci_msix_reset(struct pci_dev *d)
{
	struct pci_msix *x = d->msix;

	if (!x)
		return;
	memset(x->table, 0, x->table_len);
	memset(x->pba, 0, sizeof(x->pba));
	for (unsigned v = 0; v < x->vectors; v++)
		x->table[v * MSIX_ENTRY + MSIX_VCTRL] = MSIX_VCTRL_MASK;
}

void pci_msix_free(struct pci_dev *d)
{
	free(d->msix);
	d->msix = NULL;
	d->msix_cap = 0;
}

static uint16_t msix_ctrl(const struct pci_dev *d)
{
	return ld_le16(d->config + d->msix_cap + MSIX_CTRL);
}

bool pci_msix_enabled(const struct pci_dev *d)
{
	return d->msix && msix_ctrl(d) & MSIX_CTRL_ENABLE;
}

static bool msix_open(const struct pci_dev *d)
{
	return pci_msix_enabled(d) && !(msix_ctrl(d) & MSIX_CTRL_MASK) && master(d);
}

static bool msix_vector_masked(const struct pci_msix *x, unsigned v)
{
	return x->table[v * MSIX_ENTRY + MSIX_VCTRL] & MSIX_VCTRL_MASK;
}

static void msix_send(struct pci_dev *d, unsigned v)
{
	const uint8_t *entry = d->msix->table + (size_t)v * MSIX_ENTRY;
	struct msi msg = { .addr = ld_le64(entry), .data = ld_le32(entry + 8) };

	machine_msi(d->bus->m, &msg);
}

void pci_msix_fire(struct pci_dev *d, unsigned v)
{
	struct pci_msix *x = d->msix;

	if (!pci_msix_enabled(d) || v >= x->vectors)
		return;
	if (!msix_open(d) || msix_vector_masked(x, v))
		x->pba[v / 64] |= BIT64(v % 64);
	else
		msix_send(d, v);
}

static void msix_vector_update(struct pci_dev *d, unsigned v)
{
	struct pci_msix *x = d->msix;

	if (!(x->pba[v / 64] & BIT64(v % 64)) || msix_vector_masked(x, v) || !msix_open(d))
		return;
	x->pba[v / 64] &= ~BIT64(v % 64);
	msix_send(d, v);
}

void pci_msix_update(struct pci_dev *d)
{
	if (!msix_open(d))
		return;
	for (unsigned v = 0; v < d->msix->vectors; v++)
		msix_vector_update(d, v);
}

bool pci_msix_covers(struct pci_dev *d, uint64_t off)
{
	const struct pci_msix *x = d->msix;

	return x && (off - x->table_off < x->table_len || off - x->pba_off < x->pba_len);
}

uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned len)
{
	const struct pci_msix *x = d->msix;

	if (!x || len > 8)
		return UINT64_MAX;
	if (off >= x->table_off && range_inside(off - x->table_off, len, x->table_len))
		return ld_le(x->table + (off - x->table_off), len);
	if (off >= x->pba_off && range_inside(off - x->pba_off, len, x->pba_len))
		return ld_le((const uint8_t *)x->pba + (off - x->pba_off), len);
	return 0;
}

/* Any size and place inside the table is taken; the specification only defines
 * whole dwords and qwords.  The PBA is read-only. */
void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_msix *x = d->msix;
	uint64_t first;

	if (!x || !len || len > 8 || off < x->table_off || !range_inside(off - x->table_off, len, x->table_len))
		return;
	off -= x->table_off;
	st_le(x->table + off, len, val);
	first = off / MSIX_ENTRY;
	for (uint64_t v = first; v <= (off + len - 1) / MSIX_ENTRY; v++) {
		/* Reserved bits of the vector control stay zero. */
		st_le32(x->table + v * MSIX_ENTRY + MSIX_VCTRL,
			x->table[v * MSIX_ENTRY + MSIX_VCTRL] & MSIX_VCTRL_MASK);
		msix_vector_update(d, v);
	}
}

int pci_msix_save(struct pci_dev *d, struct snap_out *o)
{
	int ret;

	if (!d->msix)
		return 0;
	ret = snap_put_blob(o, "msix-table", d->msix->table, d->msix->table_len);
	return ret ? ret : snap_put_blob(o, "msix-pba", d->msix->pba, d->msix->pba_len);
}

int pci_msix_load(struct pci_dev *d, struct snap_in *in, struct err *e)
{
	struct pci_msix *x = d->msix;
	uint32_t table, pba;
	int ret;

	if (!x)
		return 0;
	ret = snap_get_blob(in, "msix-table", x->table, x->table_len, &table, e);
	if (!ret)
		ret = snap_get_blob(in, "msix-pba", x->pba, x->pba_len, &pba, e);
	if (ret)
		return ret;
	if (table != x->table_len || pba != x->pba_len)
		return err_set(e, -EINVAL, "saved state of %s has another number of interrupt vectors", d->dev.id);
	for (unsigned v = 0; v < x->vectors; v++)
		st_le32(x->table + (size_t)v * MSIX_ENTRY + MSIX_VCTRL,
			x->table[v * MSIX_ENTRY + MSIX_VCTRL] & MSIX_VCTRL_MASK);
	if (x->vectors % 64)
		x->pba[x->vectors / 64] &= BIT64(x->vectors % 64) - 1;
	return 0;
}
