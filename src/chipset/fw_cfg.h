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
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NB_CPUS = 0x05,
	FW_CFG_MAX_CPUS = 0x0f, FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20, FW_CFG_N_ITEMS = 0x60,
};

/* port: selector at port, data at port + 1, DMA address at port + 4 (8 bytes). */
int fw_cfg_new(struct machine *m, uint16_t port, struct fw_cfg **out);
/* Sets a numbered item or adds a named file (at most 55 characters); the bytes are
 * copied. -ENOMEM, -ENOSPC, -EINVAL (bad key or name), -EEXIST. */
int fw_cfg_set(struct fw_cfg *f, uint16_t key, const void *data, uint32_t len);
int fw_cfg_set_int(struct fw_cfg *f, uint16_t key, uint64_t v, unsigned bytes);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t len);

#endif
