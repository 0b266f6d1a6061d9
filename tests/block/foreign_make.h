/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small images of other programs' formats, made by hand: what qemu-img cannot
 * make, and starting points for the fuzzers.  Each comes with the contents it shows.
 */
#ifndef LODGE_TESTS_FOREIGN_MAKE_H
#define LODGE_TESTS_FOREIGN_MAKE_H

#include <stdbool.h>
#include <stdint.h>

#define MADE_MAX (8u << 20)

struct made {
	uint8_t *file, *disk;		/* of MADE_MAX bytes each */
	uint64_t len, size;		/* bytes of the file, of the disk */
};
void made_init(struct made *m);
void made_fini(struct made *m);

void make_vdi(struct made *m);
void make_vpc(struct made *m, bool fixed);
/* Sets the sum of a footer (512 bytes) or header (1024). */
void vpc_sum(uint8_t *p, unsigned len, unsigned at);

enum {
	VMDK_MAKE_SECOND = 1,		/* a second copy of directory and tables, and the first one damaged */
	VMDK_MAKE_ZEROED = 2,
	VMDK_MAKE_PACKED = 4,
	VMDK_MAKE_FOOTER = 8,		/* the header that counts is at the end */
	VMDK_MAKE_BARE = 16,		/* no descriptor inside */
	VMDK_MAKE_V3 = 32,
};
/* parent: NULL, or what the descriptor says of it. */
void make_vmdk(struct made *m, unsigned how, uint32_t cid, uint32_t parent_cid, const char *parent);
void make_cowd(struct made *m);

enum vhdx_make { VHDX_MAKE_CLEAN, VHDX_MAKE_DIRTY, VHDX_MAKE_WRAPPED, VHDX_MAKE_CHILD };
/* Of 3 MiB, with blocks of 1 MiB.  CHILD: its parent is said to be "parent.vhdx", made CLEAN; disk is then what shows through it
 * if the parent is that.  Headers, tables and log entries have right sums. */
void make_vhdx(struct made *m, enum vhdx_make how);
#define VHDX_LOG_AT 0x100000u
#define VHDX_LOG_LEN 0x100000u
/* Sets the sums of headers, region tables and log entries, as far as there are such. */
void vhdx_sums(uint8_t *file, uint64_t len);

#endif
