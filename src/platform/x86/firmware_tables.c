// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ACPI tables for firmware: two files (the RSDP, which belongs below 1 MiB, and
 * the tables) and a script of what is to be done with them, which the firmware
 * carries out (QEMU's "table loader": hw/acpi/bios-linker-loader).
 *
 * Tables say where BARs and the configuration window are, which is the firmware's
 * choice; so they are made anew whenever one of the files is asked for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/fw_cfg.h"
#include "device/ich9_lpc.h"
#include "device/q35_mch.h"
#include "pci/pci.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/priv.h"

#define RSDP_FILE "etc/acpi/rsdp"
#define TABLES_FILE "etc/acpi/tables"
#define LOADER_FILE "etc/table-loader"
#define LOG_FILE "etc/tpm/log"

/* Room for what may grow when the tables are made again: another window, longer numbers. */
#define SLACK 4096
#define PCI64_LEAST (32 * LAYOUT_GIB)

/* ---- the script: commands of 128 bytes ---- */

enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };
#define COMMAND_LEN 128
#define NAME_LEN 56

static void name(struct aml *s, const char *file)
{
	char buf[NAME_LEN] = "";

	memcpy(buf, file, strlen(file));
	aml_bytes(s, buf, sizeof(buf));
}

static void command(struct aml *s, uint32_t what)
{
	aml_zero(s, align_up(s->len, COMMAND_LEN) - s->len);
	aml_num(s, what, 4);
}

static void allocate(struct aml *s, const char *file, uint32_t align, uint8_t zone)
{
	command(s, ALLOCATE);
	name(s, file);
	aml_num(s, align, 4);
	aml_num(s, zone, 1);
}

/* Which file a byte of the block is in, and where. */
static const char *file_of(uint32_t *off)
{
	if (*off < ACPI_TABLES)
		return RSDP_FILE;
	*off -= ACPI_TABLES;
	return TABLES_FILE;
}

static void script(struct aml *s, const struct acpi_fixups *f)
{
	allocate(s, RSDP_FILE, 16, ZONE_FSEG);
	allocate(s, TABLES_FILE, 64, ZONE_HIGH);
	for (unsigned i = 0; i < f->n_pointers; i++)
		if (f->pointer[i].to_log)
			allocate(s, LOG_FILE, 1, ZONE_HIGH);
	for (unsigned i = 0; i < f->n_pointers; i++) {
		uint32_t off = f->pointer[i].off;

		command(s, ADD_POINTER);
		name(s, file_of(&off));
		name(s, f->pointer[i].to_log ? LOG_FILE : TABLES_FILE);
		aml_num(s, off, 4);
		aml_num(s, f->pointer[i].size, 1);
	}
	for (unsigned i = 0; i < f->n_sums; i++) {
		uint32_t at = f->sum[i].at, start = f->sum[i].start;

		command(s, ADD_CHECKSUM);
		name(s, file_of(&at));
		file_of(&start);
		aml_num(s, at, 4);
		aml_num(s, start, 4);
		aml_num(s, f->sum[i].len, 4);
	}
	aml_zero(s, align_up(s->len, COMMAND_LEN) - s->len);
}

/* ---- the machine as firmware has left it ---- */

struct span {
	uint64_t first, last;	/* of the BARs above 4 GiB; first > last: none */
};

static void note_bars(void *opaque, struct pci_dev *d)
{
	struct span *s = opaque;

	for (unsigned n = 0; n < PCI_NUM_BARS; n++) {
		uint64_t at = pci_bar_addr(d, n);

		if (d->bar[n].kind != PCI_BAR_MEM64 || at == UINT64_MAX || at < LAYOUT_4G)
			continue;
		s->first = MIN(s->first, at);
		s->last = MAX(s->last, at + d->bar[n].size - 1);
	}
}

/* Whole GiB around the BARs, and 32 GiB at least, as far as there are addresses and no RAM. */
static void find_pci64(struct platform *p, struct acpi_config *c)
{
	uint64_t ram_end = memory_top(p), end;
	struct span s = { UINT64_MAX, 0 };

	pci_for_each(p->pci, note_bars, &s);
	if (s.first > s.last || s.last >= BIT64(p->phys_bits))
		return;
	c->pci64_base = MAX(align_down(s.first, LAYOUT_GIB), align_up(ram_end, LAYOUT_MIB));
	end = align_up(s.last + 1, LAYOUT_GIB);
	end = MIN(MAX(end, c->pci64_base + PCI64_LEAST), BIT64(p->phys_bits));
	c->pci64_size = end - c->pci64_base;
}

/* From the end of RAM, but 2 GiB at least, to the I/O APIC, without the configuration window. */
static void find_pci32(struct platform *p, struct acpi_config *c)
{
	uint64_t first = MAX(e820_low_size(p->cfg.mem_size), LAYOUT_PCI32_FIRST), end = LAYOUT_PCI32_END;
	uint64_t ecam = c->ecam_base, ecam_end = ecam + ((uint64_t)c->ecam_buses << 20);
	unsigned n = 0;

	memset(c->pci32, 0, sizeof(c->pci32));
	if (!ecam || ecam >= end || ecam_end <= first) {
		c->pci32[0].base = (uint32_t)first;
		c->pci32[0].size = (uint32_t)(end - first);
		return;
	}
	if (ecam > first) {
		c->pci32[n].base = (uint32_t)first;
		c->pci32[n++].size = (uint32_t)(ecam - first);
	}
	if (ecam_end < end) {
		c->pci32[n].base = (uint32_t)ecam_end;
		c->pci32[n].size = (uint32_t)(end - ecam_end);
	}
}

static void look(struct platform *p, struct acpi_config *c)
{
	tables_acpi_config(p, c);
	c->ecam_base = q35_mch_ecam(p->mch, &c->ecam_buses);
	find_pci32(p, c);
	find_pci64(p, c);
	for (unsigned i = 0; i < 4; i++) {
		int irq = ich9_lpc_route(p->lpc, i);

		if (irq >= 0)
			c->pic_irq[i] = (uint8_t)irq;
	}
}

/* ---- the files ---- */

static int make(struct platform *p, struct aml *block, struct aml *loader)
{
	struct acpi_fixups fix;
	struct acpi_config c;
	int r;

	look(p, &c);
	r = acpi_build_relocatable(&c, block, &fix);
	if (r < 0)
		return r;
	*loader = (struct aml){ 0 };
	script(loader, &fix);
	if (!loader->failed)
		return 0;
	aml_free(block);
	aml_free(loader);
	return -ENOMEM;
}

/* The guest asks.  If there is no memory it gets what it got before. */
static void refresh(void *opaque)
{
	struct platform *p = opaque;
	struct aml block, loader;

	if (make(p, &block, &loader) < 0)
		return;
	fw_cfg_replace(p->fw_cfg, RSDP_FILE, block.buf, ACPI_RSDP_LEN);
	fw_cfg_replace(p->fw_cfg, TABLES_FILE, block.buf + ACPI_TABLES, (uint32_t)(block.len - ACPI_TABLES));
	fw_cfg_replace(p->fw_cfg, LOADER_FILE, loader.buf, (uint32_t)loader.len);
	aml_free(&block);
	aml_free(&loader);
}

/* Where SeaBIOS notes what it measures: zeros at first. */
static int add_log(struct platform *p, struct err *e)
{
	void *zeros = calloc(1, ACPI_TPM_LOG);
	int r = zeros ? platform_add_fw_cfg_file(p, LOG_FILE, zeros, ACPI_TPM_LOG, e) : err_set(e, -ENOMEM, "out of memory for the TPM's log");

	free(zeros);
	return r;
}

static int publish(struct platform *p, struct aml *block, struct aml *loader, struct err *e)
{
	static const char *const files[] = { RSDP_FILE, TABLES_FILE, LOADER_FILE };
	int r;

	aml_zero(block, SLACK);
	/* One more table may come in when the configuration window is on. */
	aml_zero(loader, 4 * COMMAND_LEN);
	if (block->failed || loader->failed)
		return err_set(e, -ENOMEM, "out of memory for the ACPI tables");
	r = platform_add_fw_cfg_file(p, RSDP_FILE, block->buf, ACPI_RSDP_LEN, e);
	if (r == 0)
		r = platform_add_fw_cfg_file(p, TABLES_FILE, block->buf + ACPI_TABLES,
					     (uint32_t)(block->len - ACPI_TABLES), e);
	if (r == 0 && p->cfg.tpm)
		r = add_log(p, e);
	if (r == 0)
		r = platform_add_fw_cfg_file(p, LOADER_FILE, loader->buf, (uint32_t)loader->len, e);
	for (unsigned i = 0; i < ARRAY_LEN(files) && r == 0; i++)
		r = fw_cfg_on_select(p->fw_cfg, files[i], refresh, p);
	return r;
}

int firmware_add_tables(struct platform *p, struct err *e)
{
	struct aml block, loader;
	int r = make(p, &block, &loader);

	if (r < 0)
		return err_set(e, r, "out of memory for the ACPI tables");
	r = publish(p, &block, &loader, e);
	aml_free(&block);
	aml_free(&loader);
	return r;
}
