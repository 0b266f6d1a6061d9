// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Option ROMs: which file a card gets, read and put behind its ROM BAR.
 *
 * A guest whose kernel is started directly gets none, and nothing is read, unless the
 * user names a file.  With SeaBIOS the VGA has its BIOS and network cards have iPXE; OVMF has
 * drivers of its own for both and gets none either (it would start iPXE at every boot).
 */
#include "vm/rom.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"
#include "pci/pci.h"
#include "vm/firmware.h"

#define SIGNATURE 0xaa55u
#define DATA_POINTER 0x18u
#define DATA_LEN 0x18u
#define BLOCK 512u
#define CHECKSUM 6u		/* a byte of no meaning in iPXE's header, as in QEMU's and others' */
#define CODE_X86 0u

static const char *const rom_folders[] = {
	"/usr/share/seabios", "/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", "/usr/share/qemu", "/usr/share/qemu-kvm",
	"/usr/share/vgabios", NULL,
};

bool vm_rom_set_device(uint8_t *rom, size_t len, uint16_t vendor, uint16_t device)
{
	uint8_t *data, before, after;
	size_t at, size;

	if (len < DATA_POINTER + 2 || ld_le16(rom) != SIGNATURE)
		return false;
	at = ld_le16(rom + DATA_POINTER);
	size = rom[2] * BLOCK;
	if (!range_inside(at, DATA_LEN, MIN(size, len)) || memcmp(rom + at, "PCIR", 4) || ld_le16(rom + at + 4) != vendor)
		return false;
	data = rom + at;
	before = (uint8_t)(data[6] + data[7]);
	st_le16(data + 6, device);
	after = (uint8_t)(data[6] + data[7]);
	if (data[0x14] == CODE_X86)
		rom[CHECKSUM] = (uint8_t)(rom[CHECKSUM] + before - after);
	return true;
}

/* The file as a whole, to be freed. */
static uint8_t *read_file(const char *path, size_t *len, struct err *e)
{
	FILE *f = fopen(path, "re");
	uint8_t *data = NULL;
	struct stat st;

	if (!f) {
		err_set(e, -errno, "option ROM %s: %s", path, strerror(errno));
		return NULL;
	}
	if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > PCI_ROM_MAX)
		err_set(e, -EINVAL, "option ROM %s: it must be a file of 1 byte to %u MiB", path, PCI_ROM_MAX >> 20);
	else if (!(data = malloc((size_t)st.st_size)))
		err_set(e, -ENOMEM, "out of memory");
	else if (fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		err_set(e, -EIO, "option ROM %s: it cannot be read", path);
		free(data);
		data = NULL;
	}
	*len = data ? (size_t)st.st_size : 0;
	fclose(f);
	return data;
}

/* iPXE has one file for the old and the new virtio card; firmware compares ids. */
static int add(struct pci_dev *d, const char *path, struct err *e)
{
	size_t len;
	uint8_t *data = read_file(path, &len, e);
	int ret;

	if (!data)
		return -EINVAL;
	if (!vm_rom_set_device(data, len, ld_le16(d->config + PCI_VENDOR_ID), ld_le16(d->config + PCI_DEVICE_ID)) &&
	    (len < 2 || ld_le16(data) != SIGNATURE))
		log_warn("option ROM %s: it does not begin with 55 AA; firmware will leave it alone", path);
	ret = pci_dev_add_rom(d, data, len, e);
	free(data);
	return ret;
}

/* The installed file of that name, or false. */
static bool installed(const char *name, char *path, size_t len)
{
	for (const char *const *f = rom_folders; *f; f++)
		if (snprintf(path, len, "%s/%s", *f, name) < (int)len && !access(path, R_OK))
			return true;
	return false;
}

static int add_vga(struct vm *vm, enum vm_rom_reader reader, struct err *e)
{
	const struct vm_rom *o = &vm->cfg->vga_rom;
	struct pci_dev *d = platform_vga(vm->platform);
	const char *name = vm->cfg->vga == VM_VGA_VIRTIO ? "vgabios-virtio.bin" : "vgabios-stdvga.bin";
	char path[128];

	if (!d || o->no_bar || (o->file && !*o->file))
		return 0;
	if (o->file)
		return add(d, o->file, e);
	if (reader != VM_ROM_BIOS && reader != VM_ROM_ANY)
		return 0;
	if (installed(name, path, sizeof(path)))
		return add(d, path, e);
	log_warn("--vga: the VGA BIOS is not installed (/usr/share/seabios/%s): the screen stays dark until the guest's own driver takes it; "
		 "install the package seabios", name);
	return 0;
}

/* Is the network what the user wants to boot from, or all there is? */
static bool boots_from_net(const struct vm *vm)
{
	return vm->cfg->boot_order[0] == VM_BOOT_NET || !vm->cfg->n_disks;
}

static int add_net(struct vm *vm, unsigned i, enum vm_rom_reader reader, struct err *e)
{
	const struct vm_rom *o = &vm->cfg->net[i].rom;
	struct pci_dev *d = vm->net_card[i];
	char path[128], name[32];

	if (!d || o->no_bar || (o->file && !*o->file))
		return 0;
	if (o->file)
		return add(d, o->file, e);
	if (reader != VM_ROM_BIOS && reader != VM_ROM_ANY)
		return 0;
	snprintf(name, sizeof(name), "%s-%s.rom", reader == VM_ROM_BIOS ? "pxe" : "efi", vm->net_rom[i]);
	if (installed(name, path, sizeof(path)))
		return add(d, path, e);
	if (boots_from_net(vm))
		log_warn("--net: the option ROM to boot from it is not installed (/usr/lib/ipxe/qemu/%s); install the package ipxe-qemu", name);
	return 0;
}

int vm_add_roms(struct vm *vm, enum vm_rom_reader reader, struct err *e)
{
	int ret = add_vga(vm, reader, e);

	if (ret)
		return err_prefix(e, ret, "--vga");
	for (unsigned i = 0; i < vm->cfg->n_nets && !ret; i++)
		ret = add_net(vm, i, reader, e);
	return ret ? err_prefix(e, ret, "--net") : 0;
}
