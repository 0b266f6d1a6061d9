/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What saving and going on share. */
#ifndef LODGE_VM_SNAPSHOT_INT_H
#define LODGE_VM_SNAPSHOT_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/snap.h"
#include "vm/snapshot.h"

struct conf;
struct err;
struct vm;

/* The section "machine". */
struct snapshot_machine {
	uint64_t mem_size;		/* bytes of the RAM backing, a VGA's memory included */
	uint32_t n_vcpus;
	uint32_t watchdog_action;	/* told, not taken: the configuration has it, where it may be given anew */
	int64_t clock_ns;		/* machine/clock.h */
	uint64_t engine_ns, tsc;	/* struct engine_clock */
	bool kernel_chips, kernel_lapic;/* interrupt chips were the engine's */
	char engine[16];
};
extern const struct snap_table snapshot_machine_table;

/* Can the guest's state be taken at all? EBUSY, ENOTSUP, ESHUTDOWN. Machine lock held. */
int vm_state_possible(const struct vm *vm, struct err *e);
/* The sections of the file `state`, taken and written in two steps: what it has of memory is known only when that is written. */
struct vm_state {
	struct snap_out *o[SNAPSHOT_SECTIONS];
};
/* The guest stands still; machine lock held.  A state is empty at first, and freed also if it fails. */
int vm_state_take(struct vm *vm, struct vm_state *s, struct err *e);
/* Any thread. */
int vm_state_put(struct vm_state *s, int fd, struct err *e);
void vm_state_free(struct vm_state *s);
/* Both. */
int vm_state_write(struct vm *vm, int fd, struct err *e);
/* The one record of a section. */
int vm_snapshot_record(const struct snapshot_section *s, const char *id, const struct snap_table *t, void *out, struct err *e);
/* A whole file, malloc'ed, of `max` bytes at most.  what: its name, for messages. */
int vm_snapshot_slurp(int fd, const char *what, uint64_t max, uint8_t **out, size_t *len, struct err *e);
/* Puts what was left to defaults into what vm_snapshot_own made of the configuration. */
int vm_snapshot_defaults(struct vm *vm, struct conf *c, struct err *e);
/* Loads the bytes of such a file, which are taken over, into a machine as it was built, whose memory is there.  vmgenid: 16 bytes that are
 * to stay, NULL: another.  It stands still then.  EINVAL, ENOTSUP.  Machine lock held. */
int vm_state_load(struct vm *vm, uint8_t *bytes, size_t len, const uint8_t *vmgenid, struct err *e);

/* Could it be loaded?  vCPUs and devices then have it, but for the times; whatever it says, another state is to be loaded next. */
int vm_state_try(struct vm *vm, const uint8_t *bytes, size_t len, struct err *e);

/* The guest stands still. Machine lock held. */
void vm_save_parked(struct vm *vm);
/* Is its memory being read?  Then it neither goes on nor is reset: what is wanted is told by the other two.  Machine lock held. */
bool vm_save_holds(const struct vm *vm);
void vm_save_go_on(struct vm *vm, bool go_on);
void vm_save_reset(struct vm *vm);
/* The loop will not run any more. Machine lock held. */
void vm_save_cancel(struct vm *vm);

#endif
