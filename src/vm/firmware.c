// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which firmware a guest gets, from where, and what it is to boot from.
 *
 * "bios" and "uefi" are looked for where distributions install SeaBIOS and OVMF; a
 * file's name is taken as it is.  A guest without a kernel gets firmware by itself.
 */
#include "vm/firmware.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

#define MENU_WAIT_MS 5000
#define MAX_FW_CFG_FILE (1 << 20)

struct vm_boot_device {
	char kind;
	char path[120];
	struct vm_boot_device *next;
};

/* ---- where firmware is ---- */

static const char *const bios_places[] = {
	"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin", "/usr/share/qemu-kvm/bios-256k.bin", NULL,
};

/* Runs a kernel under a BIOS. */
static const char *const kernel_rom_places[] = {
	"/usr/share/qemu/linuxboot_dma.bin", "/usr/share/seabios/linuxboot_dma.bin", "/usr/share/qemu-kvm/linuxboot_dma.bin", NULL,
};

static const char *first_there(const char *const *places)
{
	for (; *places; places++)
		if (!access(*places, R_OK))
			return *places;
	return NULL;
}

static int find_bios(struct platform_firmware *fw, struct err *e)
{
	fw->file = first_there(bios_places);
	if (!fw->file)
		return err_set(e, -ENOENT, "--firmware bios: SeaBIOS is not installed (%s); install the package seabios",
			       bios_places[0]);
	return 0;
}

static int find_firmware(const struct vm_config *cfg, struct platform_firmware *fw, struct err *e)
{
	const char *want = cfg->firmware ? cfg->firmware : "bios";

	if (!strcmp(want, "bios"))
		return find_bios(fw, e);
	fw->file = want;
	return 0;
}

/* ---- what it boots from ---- */

int vm_bootable(struct vm *vm, char kind, const char *path, struct err *e)
{
	struct vm_boot_device **end = &vm->boot, *d;

	if (!*path)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->kind = kind;
	snprintf(d->path, sizeof(d->path), "%s", path);
	while (*end)
		end = &(*end)->next;
	*end = d;
	return 0;
}

int vm_bootable_virtio(struct vm *vm, char kind, struct err *e)
{
	char path[64];

	platform_boot_path(vm->platform, path, sizeof(path));
	return vm_bootable(vm, kind, path, e);
}

void vm_free_firmware(struct vm *vm)
{
	while (vm->boot) {
		struct vm_boot_device *d = vm->boot;

		vm->boot = d->next;
		free(d);
	}
}

/* One path a line.  With a ROM that starts a kernel, it comes first. */
static char *make_boot_order(const struct vm *vm, const char *kernel_rom)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	if (kernel_rom)
		fputs("/rom@genroms/linuxboot_dma.bin\n", f);
	for (const char *k = vm->cfg->boot_order; *k; k++)
		for (const struct vm_boot_device *d = vm->boot; d; d = d->next)
			if (d->kind == *k)
				fprintf(f, "%s\n", d->path);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static int need_kernel_rom(struct platform_firmware *fw, struct err *e)
{
	fw->kernel_rom = first_there(kernel_rom_places);
	if (!fw->kernel_rom)
		return err_set(e, -ENOENT, "--kernel with --firmware bios: the option ROM that starts kernels is not installed (%s); "
			       "install the package qemu-system-data, or leave --firmware out", kernel_rom_places[0]);
	return 0;
}

/* ---- files of the user's ---- */

static int add_fw_cfg_file(struct vm *vm, const struct vm_fw_cfg *c, struct err *e)
{
	char *data;
	size_t n;
	FILE *f;
	int ret;

	if (c->text)
		return platform_add_fw_cfg_file(vm->platform, c->name, c->text, (uint32_t)strlen(c->text), e);
	f = fopen(c->file, "re");
	if (!f)
		return err_set(e, -errno, "%s: %s", c->file, strerror(errno));
	data = malloc(MAX_FW_CFG_FILE + 1);
	n = data ? fread(data, 1, MAX_FW_CFG_FILE + 1, f) : 0;
	if (!data)
		ret = err_set(e, -ENOMEM, "out of memory");
	else if (ferror(f))
		ret = err_set(e, -EIO, "%s: it cannot be read", c->file);
	else if (n > MAX_FW_CFG_FILE)
		ret = err_set(e, -EFBIG, "%s: more than %d KiB", c->file, MAX_FW_CFG_FILE >> 10);
	else
		ret = platform_add_fw_cfg_file(vm->platform, c->name, data, (uint32_t)n, e);
	free(data);
	fclose(f);
	return ret;
}

int vm_add_firmware(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	struct platform_firmware fw = { .menu = cfg->boot_menu, .menu_wait_ms = cfg->boot_menu_ms, .fail_wait_ms = -1 };
	char *order;
	int ret = 0;

	for (unsigned i = 0; i < cfg->n_fw_cfgs && !ret; i++)
		ret = add_fw_cfg_file(vm, &cfg->fw_cfg[i], e);
	if (ret)
		return err_prefix(e, ret, "--fw-cfg");
	if (!cfg->firmware && cfg->kernel)
		return 0;
	ret = find_firmware(cfg, &fw, e);
	if (!ret && cfg->kernel)
		ret = need_kernel_rom(&fw, e);
	if (ret)
		return ret;
	order = make_boot_order(vm, fw.kernel_rom);
	if (!order)
		return err_set(e, -ENOMEM, "out of memory");
	fw.boot_order = order;
	ret = platform_add_firmware(vm->platform, &fw, e);
	free(order);
	return ret;
}
