/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of snapshots, along with those that they are differences of. */
#ifndef LODGE_VM_SNAPSHOT_MEMORY_H
#define LODGE_VM_SNAPSHOT_MEMORY_H

#include "machine/mem_image.h"
#include "machine/snap.h"

/* The section "memory" of the file `state`: what belongs to it. */
struct snapshot_memory {
	uint8_t id[MEM_ID_LEN];
	uint64_t index_len;
	uint32_t index_crc;	/* CRC-32C of the file `index` */
};
extern const struct snap_table snapshot_memory_table;

struct snapshot_held {
	struct mem_image *image;
	unsigned n;
	int lock[MEM_IMAGE_LEVELS];	/* their files `state`, locked, shared: they are not removed meanwhile */
};

/*
 * Opens the memory of the snapshot in a directory, of `size` bytes of RAM, and of those below.  about: what its state says of it, NULL: it is of version 1
 * and has no index.  ENOENT and others, with a message that names the file or directory; held is empty then.
 */
int vm_snapshot_memory(const char *dir, const struct snapshot_memory *about, uint64_t size, struct snapshot_held *held, struct err *e);
/* The same of one whose `state` has not been read yet; size: 0, whatever it says, else as above. */
int vm_snapshot_memory_of(const char *dir, uint64_t size, struct snapshot_held *held, struct err *e);
/* The image may have been taken: NULL. */
void vm_snapshot_held_free(struct snapshot_held *held);

/* Differences of a snapshot are noted in its directory, since it cannot go before them.  diff: an absolute path. */
int vm_snapshot_note_diff(const char *dir, const char *diff, struct err *e);
/* Those that are there and say that they need it: EBUSY with their names.  ENOTSUP and others. */
int vm_snapshot_unneeded(const char *dir, struct err *e);

#endif
