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
#include "vm/rom.h"

#define MAX_FW_CFG_FILE (1 << 20)

struct vm_boot_device {
	char kind;
	int bootindex;			/* -1: none */
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

/* Code, and the template of its variables. */
static const struct uefi { const char *code, *vars; } uefi_places[] = {
	{ "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },
	{ "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd" },
	{ "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd" },
	{ "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" },
};

static int find_uefi(struct vm *vm, struct platform_firmware *fw, struct err *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(uefi_places); i++) {
		if (access(uefi_places[i].code, R_OK) || access(uefi_places[i].vars, R_OK))
			continue;
		fw->file = uefi_places[i].code;
		return vm_vars_open(vm, uefi_places[i].vars, fw, e);
	}
	return err_set(e, -ENOENT, "--firmware uefi: OVMF is not installed (%s); install the package ovmf", uefi_places[0].code);
}

/* Builds for Secure Boot keep their variables safe by system management mode, and stop early without. */
bool vm_firmware_needs_smm(const char *file)
{
	char *real = realpath(file, NULL);
	const char *base = real ? strrchr(real, '/') : NULL;
	bool smm = base && (strstr(base, "secboot") || strstr(base, ".ms.") || strstr(base, "snakeoil"));

	free(real);
	return smm;
}

static int refuse_smm(const char *file, struct err *e)
{
	if (!vm_firmware_needs_smm(file))
		return 0;
	return err_set(e, -ENOTSUP, "--firmware %s: this build needs system management mode, which this machine does not "
		       "have; use --firmware uefi, for Secure Boot with --firmware-vars of a copy of OVMF_VARS_4M.ms.fd", file);
}

/* "OVMF_CODE_4M.fd" has its template beside it as "OVMF_VARS_4M.fd".  NULL: there is none. */
static char *template_of(const char *file)
{
	char *path = strdup(file), *base = path ? strrchr(path, '/') : NULL, *code;

	code = path ? strstr(base ? base : path, "CODE") : NULL;
	if (code)
		memcpy(code, "VARS", 4);
	if (code && !access(path, R_OK))
		return path;
	free(path);
	return NULL;
}

static int use_file(struct vm *vm, const char *file, struct platform_firmware *fw, struct err *e)
{
	int ret = refuse_smm(file, e);
	char *template;

	fw->file = file;
	if (ret)
		return ret;
	if (access(file, R_OK))
		return err_set(e, -errno, "--firmware %s: %s; it is bios, uefi or the file of an image", file, strerror(errno));
	template = template_of(file);
	if (template)
		ret = vm_vars_open(vm, template, fw, e);
	else if (vm->cfg->firmware_vars)
		ret = vm_vars_open(vm, vm->cfg->firmware_vars, fw, e);
	free(template);
	return ret;
}

static int find_firmware(struct vm *vm, struct platform_firmware *fw, struct err *e)
{
	const char *want = vm->cfg->firmware ? vm->cfg->firmware : vm->uefi_disk ? "uefi" : "bios";

	if (!strcmp(want, "bios") && vm->cfg->firmware_vars)
		return err_set(e, -EINVAL, "--firmware-vars %s: this guest starts with a BIOS, which has no variables; use --firmware uefi",
			       vm->cfg->firmware_vars);
	if (!strcmp(want, "bios"))
		return find_bios(fw, e);
	if (!strcmp(want, "uefi"))
		return find_uefi(vm, fw, e);
	return use_file(vm, want, fw, e);
}

/* ---- which one a disk wants ---- */

/* UEFI 2.10, 5.3: header in sector 1, entries in the sectors after it. */
bool vm_disk_is_uefi(const uint8_t head[VM_DISK_HEAD])
{
	static const uint8_t esp[16] = { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b };
	static const uint8_t bios_boot[16] = { 0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49 };
	const uint8_t *gpt = head + 512;
	uint64_t at = ld_le64(gpt + 72);
	uint32_t n = ld_le32(gpt + 80), size = ld_le32(gpt + 84);
	bool found = false;

	if (memcmp(gpt, "EFI PART", 8) || at >= VM_DISK_HEAD / 512 || size < 128 || size > 4096)
		return false;
	for (unsigned i = 0; i < 440; i++)
		if (head[i])
			return false;
	for (uint64_t off = at * 512; n && off + size <= VM_DISK_HEAD; n--, off += size) {
		if (!memcmp(head + off, bios_boot, 16))
			return false;
		found |= !memcmp(head + off, esp, 16);
	}
	return found;
}

void vm_look_at_disk(struct vm *vm, struct blk_node *node)
{
	uint8_t head[VM_DISK_HEAD];

	if (vm->cfg->kernel || vm->cfg->firmware || node->i.size < sizeof(head))
		return;
	/* A disk that cannot be read says nothing; the guest will hear of that. */
	vm->uefi_disk = !blk_pread(node, 0, head, sizeof(head)) && vm_disk_is_uefi(head);
}

/* ---- what it boots from ---- */

int vm_bootable(struct vm *vm, char kind, const char *path, int bootindex, struct err *e)
{
	struct vm_boot_device **end = &vm->boot, *d;

	/* Firmware has its list by then. */
	if (!*path || vm->built)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->kind = kind;
	d->bootindex = bootindex;
	snprintf(d->path, sizeof(d->path), "%s", path);
	while (*end)
		end = &(*end)->next;
	*end = d;
	return 0;
}

int vm_bootable_virtio(struct vm *vm, char kind, int bootindex, struct err *e)
{
	char path[64];

	platform_boot_path(vm->platform, path, sizeof(path));
	return vm_bootable(vm, kind, path, bootindex, e);
}

void vm_free_firmware(struct vm *vm)
{
	while (vm->boot) {
		struct vm_boot_device *d = vm->boot;

		vm->boot = d->next;
		free(d);
	}
	vm_vars_free(vm);
}

/* The devices that have a bootindex, in its order. */
static void print_indexed(const struct vm *vm, FILE *f)
{
	for (int last = -1, next;; last = next) {
		next = INT_MAX;
		for (const struct vm_boot_device *d = vm->boot; d; d = d->next)
			if (d->bootindex > last)
				next = MIN(next, d->bootindex);
		if (next == INT_MAX)
			return;
		for (const struct vm_boot_device *d = vm->boot; d; d = d->next)
			if (d->bootindex == next)
				fprintf(f, "%s\n", d->path);
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
	print_indexed(vm, f);
	for (const char *k = vm->cfg->boot_order; *k; k++)
		for (const struct vm_boot_device *d = vm->boot; d; d = d->next)
			if (d->kind == *k && d->bootindex < 0)
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
	errno = 0;
	n = data ? fread(data, 1, MAX_FW_CFG_FILE + 1, f) : 0;
	if (!data)
		ret = err_set(e, -ENOMEM, "out of memory");
	else if (ferror(f))
		ret = err_set(e, -EIO, "%s: it cannot be read: %s", c->file, strerror(errno));
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
		return vm_add_roms(vm, VM_ROM_NOBODY, e);
	ret = find_firmware(vm, &fw, e);
	if (!ret && cfg->kernel && !fw.vars)
		ret = need_kernel_rom(&fw, e);
	if (!ret)
		ret = vm_add_roms(vm, fw.vars ? VM_ROM_UEFI : fw.file == first_there(bios_places) ? VM_ROM_BIOS : VM_ROM_ANY, e);
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
