/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A saved VM: a directory.
 *
 *   config         the configuration it goes on with: paths absolute, disks at their internal snapshots, without what belongs to one
 *                  run (name, sockets, forwarded ports)
 *   state          clock, vCPUs and devices: see snapshot_file.c
 *   memory         the RAM backing: raw, with holes for zeros, or packed; or what differs from another snapshot's
 *   index          which pages `memory` has, and their checksums (machine/mem_index.h)
 *   differences    directories that need this one, a line for each; not always there
 *   snapshot.json  what `lodge snapshot list` shows; put there last, so without it the directory is no snapshot
 *
 * All of it belongs to the user alone (0700, 0600) and is foreign data when it is read.
 */
#ifndef LODGE_VM_SNAPSHOT_H
#define LODGE_VM_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/snap.h"
#include "vm/conf.h"

/* 1: `memory` is raw and whole, and there is no index.  2: the state has a section about it. */
#define SNAPSHOT_VERSION 2
#define SNAPSHOT_INDEX "index"
#define SNAPSHOT_JSON "snapshot.json"
#define SNAPSHOT_STATE_MAX (1u << 30)	/* bytes of `state` */

/* ---- any program ---- */

/* Names of its files, of which the first says that the others are whole. */
#define SNAPSHOT_FILES 4
extern const char *const vm_snapshot_files[SNAPSHOT_FILES];
#define SNAPSHOT_MORE_FILES 2
extern const char *const vm_snapshot_more_files[SNAPSHOT_MORE_FILES];	/* that it may have */
/* Is there a whole snapshot in the directory?  ENOENT and others, with a message. */
int vm_snapshot_check(const char *dir, struct err *e);
/* The configuration to run from it: its own, with the keys of `given` that one run decides about put in their places; others are
 * refused by name.  `given` has from-snapshot, made absolute in *out, which is the caller's. */
int vm_snapshot_conf(const struct conf *given, struct conf **out, struct err *e);
/* Takes away the keys of `c` that do not go into a snapshot, and has paths begin at /. */
int vm_snapshot_own(const struct conf *c, struct conf **out, struct err *e);

/* ---- the state file ---- */

/* The last is for snapshots in directories alone. */
enum { SNAPSHOT_MACHINE, SNAPSHOT_CPU, SNAPSHOT_VCPUS, SNAPSHOT_DEVICES, SNAPSHOT_MEMORY, SNAPSHOT_SECTIONS };

struct snapshot_section {
	const void *data;	/* NULL: there is none */
	size_t len;
};

/* Writes it to an empty file: as version 1 if there is nothing about memory. */
int snapshot_file_write(int fd, const struct snapshot_section s[SNAPSHOT_SECTIONS], struct err *e);
/* Finds the sections in the bytes of a file. EINVAL: not such a file, a later version, or damaged */
int snapshot_file_parse(const void *p, size_t len, struct snapshot_section s[SNAPSHOT_SECTIONS], struct err *e);

#endif
