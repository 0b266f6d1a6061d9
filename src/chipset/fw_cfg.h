/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's firmware configuration device (docs/specs/fw_cfg of QEMU): selector port,
 * data port and the DMA interface.  Firmware and test kernels learn the number of
 * CPUs, memory size and named files from it.
 */
#ifndef LODGE_CHIPSET_FW_CFG_H
#define LODGE_CHIPSET_FW_CFG_H

#include <stddef.h>
#include <stdint.h>

struct machine;
struct fw_cfg;

enum {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NOGRAPHIC = 0x04,
	FW_CFG_NB_CPUS = 0x05, FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0a,
	FW_CFG_INITRD_SIZE = 0x0b, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f, FW_CFG_KERNEL_DATA = 0x11,
	FW_CFG_INITRD_DATA = 0x12, FW_CFG_CMDLINE_ADDR = 0x13, FW_CFG_CMDLINE_SIZE = 0x14, FW_CFG_CMDLINE_DATA = 0x15,
	FW_CFG_SETUP_ADDR = 0x16, FW_CFG_SETUP_SIZE = 0x17, FW_CFG_SETUP_DATA = 0x18,
	FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20, FW_CFG_N_ITEMS = 0x60,
};

/* port: selector at port, data at port + 1, DMA address at port + 4 (8 bytes). */
int fw_cfg_new(struct machine *m, uint16_t port, struct fw_cfg **out);
/* Sets a numbered item or adds a named file (at most 55 characters); the bytes are
 * copied. -ENOMEM, -ENOSPC, -EINVAL (bad key or name), -EEXIST. */
int fw_cfg_set(struct fw_cfg *f, uint16_t key, const void *data, uint32_t len);
int fw_cfg_set_int(struct fw_cfg *f, uint16_t key, uint64_t v, unsigned bytes);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t len);
/* The same with bytes from malloc, which are the chip's from then on, also on an error. */
int fw_cfg_set_owned(struct fw_cfg *f, uint16_t key, void *data, uint32_t len);
/* From now on fn is called (machine lock held) whenever the guest selects the file, before it reads: it may give
 * it other contents with fw_cfg_replace.  -ENOENT: there is no such file. */
int fw_cfg_on_select(struct fw_cfg *f, const char *name, void (*fn)(void *opaque), void *opaque);
/* Other contents for a file: its size stays, the rest is zero.  -ENOENT, -E2BIG. */
int fw_cfg_replace(struct fw_cfg *f, const char *name, const void *data, uint32_t len);

#endif
