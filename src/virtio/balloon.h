/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory balloon (virtio 1.2, 5.5) with free page reporting. */
#ifndef LODGE_VIRTIO_BALLOON_H
#define LODGE_VIRTIO_BALLOON_H

#include "virtio/device.h"

/* VIRTIO_BALLOON_S_*, 5.5.6.4; bytes and counts as the guest says. */
enum virtio_balloon_stat {
	VIRTIO_BALLOON_S_SWAP_IN,
	VIRTIO_BALLOON_S_SWAP_OUT,
	VIRTIO_BALLOON_S_MAJFLT,
	VIRTIO_BALLOON_S_MINFLT,
	VIRTIO_BALLOON_S_MEMFREE,
	VIRTIO_BALLOON_S_MEMTOT,
	VIRTIO_BALLOON_S_AVAIL,
	VIRTIO_BALLOON_S_CACHES,
	VIRTIO_BALLOON_S_HTLB_PGALLOC,
	VIRTIO_BALLOON_S_HTLB_PGFAIL,
	VIRTIO_BALLOON_S_NR,
};

struct virtio_balloon_info {
	uint64_t target, actual;		/* bytes the balloon should hold, and does */
	uint64_t released;			/* bytes given back to the host since the start, all ways */
	uint64_t stat[VIRTIO_BALLOON_S_NR];
	uint32_t stat_valid;			/* bit per enum virtio_balloon_stat */
	int64_t stat_time_ns;			/* clock_now when they came; 0: never */
};

/* Machine lock held, as for all below. */
int virtio_balloon_new(struct machine *m, const char *id, struct virtio_dev **out, struct err *e);
/* The balloon shall hold `bytes` (rounded to 4 KiB, at most all RAM). */
void virtio_balloon_set_target(struct virtio_dev *d, uint64_t bytes);
void virtio_balloon_get(struct virtio_dev *d, struct virtio_balloon_info *out);
/* Asks the guest for statistics every period_ms; 0: not at all (the default). */
void virtio_balloon_poll_stats(struct virtio_dev *d, uint32_t period_ms);

#endif
