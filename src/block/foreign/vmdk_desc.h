/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text that describes a VMware disk: what it is made of and what it stands on. */
#ifndef LODGE_BLOCK_FOREIGN_VMDK_DESC_H
#define LODGE_BLOCK_FOREIGN_VMDK_DESC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMDK_MAX_DESC (1u << 20)	/* bytes */
#define VMDK_MAX_EXTENTS 4096u
#define VMDK_NO_PARENT 0xffffffffu

enum vmdk_kind { VMDK_SPARSE, VMDK_FLAT, VMDK_ZEROS };

struct vmdk_extent_desc {
	enum vmdk_kind kind;
	uint64_t sectors, offset;	/* of 512 bytes; offset: FLAT, in its file */
	char *file;			/* NULL: ZEROS */
};

struct vmdk_desc {
	char type[32];			/* createType, "" if it says nothing */
	uint32_t cid, parent_cid;
	char *parent_hint;		/* NULL: none */
	struct vmdk_extent_desc *extent;
	unsigned n;
	char bad[128];			/* what is wrong with it, when parsing fails */
};

/* Changes the text. 0; -EINVAL or -ENOTSUP with out->bad set, or -ENOMEM. What is in out is to be freed in any case. */
int vmdk_desc_parse(char *text, size_t len, struct vmdk_desc *out);
void vmdk_desc_fini(struct vmdk_desc *d);

#endif
