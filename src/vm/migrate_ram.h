/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory in a migration's records: pages of the RAM backing by their numbers.
 *
 *	MIG_PAGES  u32 how many (1 to MIG_BATCH)  u32 0 or MIG_ZSTD  a u64 number for each  their bytes, maybe compressed together
 *	MIG_ZEROS  for each run: u64 first page  u64 how many, 1 or more
 */
#ifndef LODGE_VM_MIGRATE_RAM_H
#define LODGE_VM_MIGRATE_RAM_H

#include "machine/mem.h"
#include "vm/migrate_wire.h"

#define MIG_BATCH 64u		/* pages in one record */
#define MIG_ZSTD 1u
#define MIG_RUNS_MAX 1024u	/* runs of zeros in one record */

struct mig_tx;
struct mig_rx;

struct mig_tx_stats {
	uint64_t normal, zero;		/* pages */
	uint64_t compressed_in, compressed_out;	/* bytes */
};

/* level: zstd's, 0: not compressed. ENOMEM */
int mig_tx_new(struct mem *m, struct mig_chan *c, int level, struct mig_tx **out);
void mig_tx_free(struct mig_tx *t);
/* One page, which the guest may change meanwhile: what is sent is some state of it.  zero: it is known to be. */
int mig_tx_page(struct mig_tx *t, uint64_t page, bool zero, struct err *e);
/* What has been collected. */
int mig_tx_flush(struct mig_tx *t, struct err *e);
void mig_tx_stats(const struct mig_tx *t, struct mig_tx_stats *out);

/* ENOMEM */
int mig_rx_new(struct mem *m, struct mig_rx **out);
/* For another thread; they tell together what is missing. */
int mig_rx_another(struct mig_rx *r, struct mig_rx **out);
void mig_rx_free(struct mig_rx *r);
/* What comes goes there in the place of memory; data NULL: zeros. */
void mig_rx_put_by(struct mig_rx *r, int (*put)(void *opaque, uint64_t page, const uint8_t *data, struct err *e), void *opaque);
/* A payload of MIG_PAGES or MIG_ZEROS, foreign data, goes to memory. EPROTO */
int mig_rx_pages(struct mig_rx *r, const uint8_t *p, size_t len, struct err *e);
int mig_rx_zeros(struct mig_rx *r, const uint8_t *p, size_t len, struct err *e);
/* Pages that have not come yet. */
uint64_t mig_rx_missing(const struct mig_rx *r);
/* Those that are not in this map, which is for all pages. */
uint64_t mig_rx_missing_but(const struct mig_rx *r, const uint64_t *map);

#endif
