/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between vhdx.c and vhdx_log.c.  Section numbers are those of [MS-VHDX] 5.0.
 */
#ifndef LODGE_BLOCK_FOREIGN_VHDX_H
#define LODGE_BLOCK_FOREIGN_VHDX_H

#include "block/foreign/foreign.h"

#define VHDX_MIB (1u << 20)

/* What a header (2.2.2) says. */
struct vhdx_header {
	uint64_t sequence, log_off;
	uint32_t log_len;
	uint8_t data_write_guid[16], log_guid[16];
};

/* The file as it is once the log's entries are carried out: a node over op->file that reads so; NULL: the log
 * says nothing. The file is not changed. */
int vhdx_replay(const struct foreign_opening *op, const struct vhdx_header *h, struct blk_node **out);

#endif
