// SPDX-License-Identifier: GPL-2.0-or-later
/* The one part of the layout that needs computing: micro's virtio-mmio slots. */
#include "platform/x86/layout.h"

#define SLOT_SIZE 0x200u
#define SLOT_GSIS 17

/* Slots take the GSIs nothing else uses, then share them. */
unsigned micro_slot_gsi(unsigned slot)
{
	static const uint8_t gsi[SLOT_GSIS] = { 16, 17, 18, 19, 20, 21, 22, 23, 10, 11, 12, 13, 14, 15, 5, 6, 7 };

	return gsi[slot % SLOT_GSIS];
}

uint64_t micro_slot_base(unsigned slot)
{
	return LAYOUT_VIRTIO_MMIO + slot * SLOT_SIZE;
}
