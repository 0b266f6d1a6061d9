// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A pc that starts with firmware: the image below 4 GiB (and its last 128 KiB
 * below 1 MiB, until the guest shows RAM there), and what SeaBIOS and OVMF look
 * for in fw_cfg.  File names and layouts are QEMU's, by which both know a virtual
 * machine (docs/specs/fw_cfg of QEMU, SeaBIOS docs/Runtime_config).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/fw_cfg.h"
#include "chipset/mc146818.h"
#include "chipset/pflash_cfi01.h"
#include "device/q35_mch.h"
#include "pci/root_port.h"
#include "platform/x86/boot.h"
#include "platform/x86/priv.h"
#include "platform/x86/smbios.h"

#define FLASH_BLOCK 4096u	/* what OVMF's driver expects */

/* ---- the image ---- */

static int check_size(const struct boot_file *f, struct err *e)
{
	if (f->size % PAGE_4K == 0 && f->size <= LAYOUT_FIRMWARE_MAX)
		return 0;
	return err_set(e, -EINVAL, "firmware %s: %llu bytes; an image is a multiple of 4 KiB and at most %llu MiB long",
		       f->path, (unsigned long long)f->size, (unsigned long long)(LAYOUT_FIRMWARE_MAX / LAYOUT_MIB));
}

/* The vCPU begins 16 bytes below 4 GiB: where there is nothing, this is a file of variables, or of something else. */
static int check_start(const struct boot_file *f, struct err *e)
{
	uint8_t start[16];
	int r = boot_file_read(f, f->size - sizeof(start), start, sizeof(start), e);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < sizeof(start); i++)
		if (start[i] != start[0] || (start[0] && start[0] != 0xff))
			return 0;
	return err_set(e, -ENOEXEC, "firmware %s: no image of firmware: nothing is in its last 16 bytes, where a CPU begins", f->path);
}

/* The variables' chip ends where the image begins. */
static int add_vars(struct platform *p, const struct platform_firmware *fw, uint64_t end, struct err *e)
{
	struct pflash_cfi01_config c = {
		.id = "pc.pflash", .base = end - fw->vars_len, .block = FLASH_BLOCK, .store = fw->store_vars,
		.opaque = fw->vars_opaque,
	};
	int r;

	if (fw->vars_len > LAYOUT_FIRMWARE_MAX)
		return err_set(e, -EINVAL, "firmware variables of %zu bytes: more than a flash chip has", fw->vars_len);
	r = mem_rom_new(p->m->mem, "firmware.vars", fw->vars_len, &c.array, e);
	if (r < 0)
		return r;
	memcpy(mem_rom_bytes(c.array), fw->vars, fw->vars_len);
	return pflash_cfi01_new(p->m, &c, e);
}

static int load_rom(struct platform *p, const struct platform_firmware *fw, const struct boot_file *f, struct err *e)
{
	struct mem_rom *rom;
	int r = check_size(f, e);

	if (r == 0)
		r = check_start(f, e);
	if (r == 0)
		r = mem_rom_new(p->m->mem, "firmware", f->size, &rom, e);
	if (r == 0)
		r = boot_file_read(f, 0, mem_rom_bytes(rom), f->size, e);
	if (r == 0)
		r = mem_show_rom(p->m->mem, rom, LAYOUT_4G - f->size, 0, f->size, e);
	if (r == 0)
		q35_mch_set_bios(p->mch, rom);
	return r == 0 && fw->vars ? add_vars(p, fw, LAYOUT_4G - f->size, e) : r;
}

static int add_image(struct platform *p, const struct platform_firmware *fw, struct err *e)
{
	struct boot_file f;
	int r = boot_file_open(&f, fw->file, "firmware", e);

	if (r < 0)
		return r;
	r = load_rom(p, fw, &f, e);
	boot_file_close(&f);
	return r;
}

/* ---- fw_cfg ---- */

int platform_add_fw_cfg_file(struct platform *p, const char *name, const void *data, uint32_t len, struct err *e)
{
	int r = p->fw_cfg ? fw_cfg_add_file(p->fw_cfg, name, data, len) : -ENODEV;

	switch (r) {
	case 0: return 0;
	case -ENODEV: return err_set(e, r, "this machine has no fw_cfg; use --machine pc");
	case -EINVAL: return err_set(e, r, "fw_cfg file '%.80s': a name has 1 to 55 characters", name);
	case -EEXIST: return err_set(e, r, "fw_cfg file %s is there already", name);
	case -ENOSPC: return err_set(e, r, "fw_cfg file %s: there are too many files", name);
	default: return err_set(e, r, "fw_cfg file %s: %s", name, strerror(-r));
	}
}

static int add_number(struct platform *p, const char *name, uint64_t v, unsigned bytes, struct err *e)
{
	uint8_t b[8];

	st_le64(b, v);
	return platform_add_fw_cfg_file(p, name, b, bytes, e);
}

/* RAM alone: what firmware reserves is its own to add. */
static int add_e820(struct platform *p, struct err *e)
{
	uint64_t low = e820_low_size(p->cfg.mem_size), high = e820_high_size(p->cfg.mem_size);
	uint8_t t[40];

	st_le64(t, 0);
	st_le64(t + 8, low);
	st_le32(t + 16, E820_RAM);
	st_le64(t + 20, LAYOUT_4G);
	st_le64(t + 28, high);
	st_le32(t + 36, E820_RAM);
	return platform_add_fw_cfg_file(p, "etc/e820", t, high ? 40 : 20, e);
}

/* Where BARs above 4 GiB may begin, where that is not the end of RAM. */
static int add_memory_end(struct platform *p, struct err *e)
{
	return p->cfg.n_memory ? add_number(p, "etc/reserved-memory-end", memory_top(p), 8, e) : 0;
}

/* One byte for each of S0 to S5: bit 7, it is there; below, its number in SLP_TYP. */
static int add_sleep_states(struct platform *p, struct err *e)
{
	static const uint8_t states[6] = { 0x80, 0, 0, 1, 2, 0x80 };

	return platform_add_fw_cfg_file(p, "etc/system-states", states, sizeof(states), e);
}

static int add_smbios(struct platform *p, struct err *e)
{
	struct aml a;
	int r = tables_smbios(p, 0, true, &a);

	if (r < 0)
		return err_set(e, r, "out of memory for the SMBIOS tables");
	r = platform_add_fw_cfg_file(p, "etc/smbios/smbios-anchor", a.buf + SMBIOS_ENTRY2, SMBIOS_ENTRY2_LEN, e);
	if (r == 0)
		r = platform_add_fw_cfg_file(p, "etc/smbios/smbios-tables", a.buf + SMBIOS_TABLE,
					     (uint32_t)(a.len - SMBIOS_TABLE), e);
	aml_free(&a);
	return r;
}

static int add_boot(struct platform *p, const struct platform_firmware *fw, struct err *e)
{
	int r = fw_cfg_set_int(p->fw_cfg, FW_CFG_BOOT_MENU, fw->menu, 2);

	if (r == 0 && fw->menu && fw->menu_wait_ms)
		r = add_number(p, "etc/boot-menu-wait", fw->menu_wait_ms, 2, e);
	/* What is plugged in here shows itself at once: SeaBIOS need not give each port a tenth of a second for that. */
	if (r == 0)
		r = add_number(p, "etc/usb-time-sigatt", 0, 4, e);
	if (r == 0)
		r = add_number(p, "etc/boot-fail-wait", (uint64_t)(int64_t)fw->fail_wait_ms, 4, e);
	if (r == 0 && fw->boot_order && *fw->boot_order)
		r = platform_add_fw_cfg_file(p, "bootorder", fw->boot_order, (uint32_t)strlen(fw->boot_order) + 1, e);
	return r;
}

/* SeaBIOS's own console, in the place of a screen that is not there. */
static int add_console(struct platform *p, struct err *e)
{
	if (!p->cfg.serial[0] || p->cfg.serial_output_only)
		return 0;
	return add_number(p, "etc/sercon-port", LAYOUT_PORT_COM1, 2, e);
}

/* Numbers SeaBIOS and older firmware expect in CMOS: CPUs beside the first, and disk, CD, network in
 * this order for what the boot order does not name; a floppy without a boot sector is passed over. */
static void set_cmos(struct platform *p)
{
	mc146818_set(p->rtc, 0x5f, (uint8_t)(cpus_count(p) - 1));
	mc146818_set(p->rtc, 0x3d, 0x32);
	mc146818_set(p->rtc, 0x38, 0x40);
}

int platform_add_firmware(struct platform *p, const struct platform_firmware *fw, struct err *e)
{
	int r;

	if (!p->fw_cfg)
		return err_set(e, -EINVAL, "machine %s has no firmware: use --machine pc", p->kind->name);
	r = add_image(p, fw, e);
	if (r == 0)
		r = add_e820(p, e);
	if (r == 0)
		r = add_memory_end(p, e);
	if (r == 0)
		r = add_sleep_states(p, e);
	if (r == 0)
		r = add_smbios(p, e);
	if (r == 0)
		r = firmware_add_tables(p, e);
	if (r == 0)
		r = add_boot(p, fw, e);
	if (r == 0)
		r = add_console(p, e);
	if (r == 0 && p->cfg.kernel)
		r = firmware_add_kernel(p, fw, e);
	if (r < 0)
		return e->msg[0] ? r : err_set(e, r, "out of memory for the firmware's files");
	set_cmos(p);
	p->firmware = true;
	p->boot_kind = "firmware";
	return 0;
}

void platform_card_path(const struct pci_dev *card, const char *kind, char *path, size_t len)
{
	struct pci_root_port *port = pci_root_port_of(card->bus);
	char bridge[24] = "";
	unsigned at;

	if (port) {
		at = pci_root_port_function(port)->devfn;
		snprintf(bridge, sizeof(bridge), at & 7 ? "pci-bridge@%x,%x/" : "pci-bridge@%x/", at >> 3, at & 7);
	}
	snprintf(path, len, "/pci@i0cf8/%s%s@%x", bridge, kind, card->devfn >> 3);
}

void platform_device_path(struct platform *p, char *path, size_t len)
{
	*path = '\0';
	if (p->last_kind && p->last_card)
		platform_card_path(p->last_card, p->last_kind, path, len);
}

void platform_boot_path(struct platform *p, char *path, size_t len)
{
	char device[64];

	platform_device_path(p, device, sizeof(device));
	*path = '\0';
	if (*device)
		snprintf(path, len, "%s/%s", device, !strcmp(p->last_kind, "scsi") ? "disk@0,0" : "ethernet-phy@0");
}
