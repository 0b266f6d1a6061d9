// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A kernel for firmware to start: its parts as fw_cfg items.  OVMF loads a kernel
 * with an EFI stub by itself; under SeaBIOS an option ROM (QEMU's linuxboot_dma)
 * puts the parts where the addresses here say and enters the setup code.
 *
 * The setup header's fields a boot loader owns are filled in (Documentation/arch/
 * x86/boot.rst), with addresses that suit a machine whose firmware has the last
 * bytes of low memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "chipset/fw_cfg.h"
#include "platform/x86/boot.h"
#include "platform/x86/priv.h"

#define SETUP_AT 0x10000u
#define CMDLINE_AT 0x20000u
#define KERNEL_AT 0x100000u
#define HEAP_END 0xfe00u	/* from SETUP_AT, less 0x200 as the protocol wants */
#define RESERVED_TOP (1u << 20)	/* of low memory: firmware's tables */
#define MAX_ITEM (1u << 30)

#define H_SETUP_SECTS 0x1f1
#define H_MAGIC 0x202
#define H_VERSION 0x206
#define H_LOADER 0x210
#define H_LOADFLAGS 0x211
#define H_RAMDISK 0x218
#define H_RAMDISK_SIZE 0x21c
#define H_HEAP_END 0x224
#define H_CMDLINE 0x228
#define H_INITRD_MAX 0x22c
#define H_LEAST 0x268
#define LOADED_HIGH 0x01
#define CAN_USE_HEAP 0x80

static int too_large(const struct boot_file *f, struct err *e)
{
	return err_set(e, -EFBIG, "%s %s: too large for firmware to load", f->what, f->path);
}

/* [off, off+len) of the file as an item. */
static int add_part(struct platform *p, const struct boot_file *f, uint64_t off, uint64_t len, uint16_t key, struct err *e)
{
	void *data;
	int r;

	if (len > MAX_ITEM)
		return too_large(f, e);
	data = malloc(len ? len : 1);
	if (!data)
		return err_set(e, -ENOMEM, "%s %s: out of memory", f->what, f->path);
	r = boot_file_read(f, off, data, len, e);
	if (r < 0) {
		free(data);
		return r;
	}
	return fw_cfg_set_owned(p->fw_cfg, key, data, (uint32_t)len);
}

/* All initrds one after the other, each at a multiple of 4. */
static int add_initrds(struct platform *p, uint32_t *size, struct err *e)
{
	const struct platform_config *c = &p->cfg;
	uint8_t *all = NULL, *more;
	uint64_t len = 0;
	int r = 0;

	for (unsigned i = 0; i < c->n_initrds && r == 0; i++) {
		uint64_t at = align_up(len, 4);
		struct boot_file f;

		r = boot_file_open(&f, c->initrds[i], "initrd", e);
		if (r < 0)
			break;
		more = f.size <= MAX_ITEM - at ? realloc(all, at + f.size) : NULL;
		if (more) {
			all = more;
			memset(all + len, 0, at - len);
			r = boot_file_read(&f, 0, all + at, f.size, e);
			len = at + f.size;
		} else {
			r = too_large(&f, e);
		}
		boot_file_close(&f);
	}
	if (r < 0) {
		free(all);
		return r;
	}
	*size = (uint32_t)len;
	return all ? fw_cfg_set_owned(p->fw_cfg, FW_CFG_INITRD_DATA, all, *size) : 0;
}

static int add_cmdline(struct platform *p)
{
	const char *text = p->cfg.cmdline ? p->cfg.cmdline : "";
	uint32_t len = (uint32_t)strlen(text) + 1;
	int r = fw_cfg_set(p->fw_cfg, FW_CFG_CMDLINE_DATA, text, len);

	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_CMDLINE_SIZE, len, 4);
	return r == 0 ? fw_cfg_set_int(p->fw_cfg, FW_CFG_CMDLINE_ADDR, CMDLINE_AT, 4) : r;
}

/* Below what the kernel reaches and the end of low RAM. */
static uint32_t place_initrd(const struct platform *p, const uint8_t *hdr, uint32_t size)
{
	uint64_t top = MIN((uint64_t)ld_le32(hdr + H_INITRD_MAX) + 1, e820_low_size(p->cfg.mem_size) - RESERVED_TOP);

	return size < top ? (uint32_t)align_down(top - size, PAGE_4K) : 0;
}

static int add_setup(struct platform *p, const struct boot_file *k, uint64_t setup_len, uint32_t initrd_size, struct err *e)
{
	uint8_t *hdr = malloc(setup_len);
	uint32_t at;
	int r;

	if (!hdr)
		return err_set(e, -ENOMEM, "kernel %s: out of memory", k->path);
	r = boot_file_read(k, 0, hdr, setup_len, e);
	if (r < 0) {
		free(hdr);
		return r;
	}
	at = initrd_size ? place_initrd(p, hdr, initrd_size) : 0;
	hdr[H_LOADER] = 0xb0;		/* the loader these items are for */
	hdr[H_LOADFLAGS] |= CAN_USE_HEAP;
	st_le16(hdr + H_HEAP_END, HEAP_END - 0x200);
	st_le32(hdr + H_CMDLINE, CMDLINE_AT);
	st_le32(hdr + H_RAMDISK, at);
	st_le32(hdr + H_RAMDISK_SIZE, initrd_size);
	r = fw_cfg_set_owned(p->fw_cfg, FW_CFG_SETUP_DATA, hdr, (uint32_t)setup_len);
	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_INITRD_ADDR, at, 4);
	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_INITRD_SIZE, initrd_size, 4);
	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_SETUP_ADDR, SETUP_AT, 4);
	return r == 0 ? fw_cfg_set_int(p->fw_cfg, FW_CFG_SETUP_SIZE, setup_len, 4) : r;
}

/* The length of the setup part, or an error. */
static int64_t setup_length(const struct boot_file *k, struct err *e)
{
	uint8_t hdr[H_LEAST];
	uint64_t len;

	if (k->size <= sizeof(hdr) || boot_file_read(k, 0, hdr, sizeof(hdr), e) < 0 || memcmp(hdr + H_MAGIC, "HdrS", 4) ||
	    ld_le16(hdr + H_VERSION) < 0x206 || !(hdr[H_LOADFLAGS] & LOADED_HIGH))
		return err_set(e, -ENOEXEC, "kernel %s: firmware starts a Linux bzImage only (2.6.22 or later); "
			       "leave --firmware out for other kernels", k->path);
	len = ((hdr[H_SETUP_SECTS] ? hdr[H_SETUP_SECTS] : 4) + 1) * 512ull;
	if (len <= sizeof(hdr) || k->size <= len)
		return err_set(e, -ENOEXEC, "kernel %s: truncated bzImage", k->path);
	return (int64_t)len;
}

static int add_image(struct platform *p, const struct boot_file *k, struct err *e)
{
	int64_t setup = setup_length(k, e);
	uint32_t initrd_size = 0;
	int r;

	if (setup < 0)
		return (int)setup;
	r = add_initrds(p, &initrd_size, e);
	if (r == 0)
		r = add_setup(p, k, (uint64_t)setup, initrd_size, e);
	if (r == 0)
		r = add_part(p, k, (uint64_t)setup, k->size - (uint64_t)setup, FW_CFG_KERNEL_DATA, e);
	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_KERNEL_SIZE, k->size - (uint64_t)setup, 4);
	if (r == 0)
		r = fw_cfg_set_int(p->fw_cfg, FW_CFG_KERNEL_ADDR, KERNEL_AT, 4);
	return r == 0 ? add_cmdline(p) : r;
}

/* SeaBIOS runs every ROM it finds under this name. */
static int add_rom(struct platform *p, const char *path, struct err *e)
{
	struct boot_file f;
	void *data;
	int r = boot_file_open(&f, path, "option ROM", e);

	if (r < 0)
		return r;
	data = f.size <= RESERVED_TOP ? malloc(f.size) : NULL;
	r = data ? boot_file_read(&f, 0, data, f.size, e) : too_large(&f, e);
	if (r == 0)
		r = platform_add_fw_cfg_file(p, "genroms/linuxboot_dma.bin", data, (uint32_t)f.size, e);
	free(data);
	boot_file_close(&f);
	return r;
}

int firmware_add_kernel(struct platform *p, const struct platform_firmware *fw, struct err *e)
{
	struct boot_file k;
	int r = boot_file_open(&k, p->cfg.kernel, "kernel", e);

	if (r < 0)
		return r;
	r = add_image(p, &k, e);
	boot_file_close(&k);
	return r == 0 && fw->kernel_rom ? add_rom(p, fw->kernel_rom, e) : r;
}
