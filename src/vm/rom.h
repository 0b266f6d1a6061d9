/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Option ROMs of cards: what firmware runs of a VGA or a network card. */
#ifndef LODGE_VM_ROM_H
#define LODGE_VM_ROM_H

#include "vm/internal.h"

struct pci_dev;

/* Who will look for ROMs: nobody (a kernel is started directly), SeaBIOS, OVMF, or an image that is not known. */
enum vm_rom_reader { VM_ROM_NOBODY, VM_ROM_BIOS, VM_ROM_UEFI, VM_ROM_ANY };

/* Gives the VGA and the network cards their ROMs: the user's files, else for who reads them those that are installed.
 * All devices are there, and vm->net_card with them.  Machine lock held. */
int vm_add_roms(struct vm *vm, enum vm_rom_reader reader, struct err *e);
/* Changes the device id of an option ROM's first image (PCI firmware 3.0, 5.1: header and PCI data structure) and keeps its
 * checksum.  A file of any content; false: it is no such image, or for another vendor's cards, and nothing was changed. */
bool vm_rom_set_device(uint8_t *rom, size_t len, uint16_t vendor, uint16_t device);

#endif
