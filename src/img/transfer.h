/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What convert and dd have in common: an image made of (a part of) a disk. */
#ifndef LODGE_IMG_TRANSFER_H
#define LODGE_IMG_TRANSFER_H

#include "block/copy.h"
#include "img/img.h"

struct transfer {
	struct img *m;
	const char *dst;
	const struct img_format *format;	/* of what is made; NULL with `existing`: as it is found */
	const char *format_name;
	struct img_keys keys;			/* -o; freed by transfer_free */
	bool existing;				/* -n: write into what is there */
	bool target_is_zero, verify;
	bool bitmaps;				/* o.src's too: a qcow2 image that img_bitmaps_check lets pass */
	struct blk_copy_opts o;			/* src, src_off, len, and how. The source stays the verb's to close. */
	/* private */
	struct blk_node *target;
	char *target_format;
	bool made;				/* a file that was not there before */
	struct blk_copy_stats stats;
	const char *doing;
};

/* Opens a disk to read from, in the way that copies fastest. */
int transfer_open_source(struct img *m, const char *arg, const char *format, struct blk_node **out);
/* Makes or opens the target, copies, flushes, verifies if that is wanted, prints the result. */
int transfer_run(struct transfer *t);
void transfer_free(struct transfer *t);

#endif
