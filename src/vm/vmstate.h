/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM's state as it lies in an image (savevm.h): little endian, in units of 4 KiB.
 *
 *   head     4 KiB: "LODGEVMS"  u32 version  u32 bytes of a page  u64 bytes of RAM  u64 length of the state  u64 pages of data
 *            u64 length of all  u32 CRC-32 of the state  u32 of the bitmap  u32 of the head up to here; zeros
 *   state    the file `state` of a saved guest (snapshot.h), from byte 4096
 *   bitmap   a bit for each page of the RAM backing: it has data.  All others are zeros
 *   data     of those pages, in order
 *   tail     4 KiB: u32 CRC-32 of the data  "LODGEEND"; zeros
 *
 * Where it is read from is foreign: all of it is checked before anything of it is used.  Memory needed: the state and the bitmap.
 */
#ifndef LODGE_VM_VMSTATE_H
#define LODGE_VM_VMSTATE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct mem;

#define VMSTATE_VERSION 1
#define VMSTATE_CHUNK (2u << 20)	/* what is written in one go begins at a multiple of this */

/* 0 or -errno.  len: what the vector has, VMSTATE_CHUNK at most, multiples of 4 KiB; offsets likewise. */
struct vmstate_io {
	int (*read)(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len);
	int (*write)(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len);
	void *opaque;
};

/* ---- out: the guest stands still from plan to put ---- */

struct vmstate_out;
/* Looks which pages have something; the state is copied. ENOMEM */
int vmstate_plan(struct mem *m, const void *state, size_t len, struct vmstate_out **out, struct err *e);
uint64_t vmstate_total(const struct vmstate_out *o);		/* bytes that put writes */
uint64_t vmstate_pages(const struct vmstate_out *o);		/* of memory among them, those that are not zero */
int vmstate_put(struct vmstate_out *o, const struct vmstate_io *io, struct err *e);
void vmstate_plan_free(struct vmstate_out *o);

/* ---- in ---- */

struct vmstate_in;
/* Reads and checks all there is, `total` bytes, for a machine with so much RAM; nothing else happens.  EINVAL: it is none, another version, of
 * another machine, or damaged. */
int vmstate_open(const struct vmstate_io *io, uint64_t total, uint64_t ram, struct vmstate_in **out, struct err *e);
const void *vmstate_state(const struct vmstate_in *v, size_t *len);
/* The memory becomes what was saved, and whoever watches it is told.  After an error it is neither the one nor the other. */
int vmstate_load_ram(struct vmstate_in *v, struct mem *m, struct err *e);
void vmstate_close(struct vmstate_in *v);

#endif
