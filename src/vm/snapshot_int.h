/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What saving and going on share. */
#ifndef LODGE_VM_SNAPSHOT_INT_H
#define LODGE_VM_SNAPSHOT_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/snap.h"

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

/* The guest stands still. Machine lock held. */
void vm_save_parked(struct vm *vm);
/* The loop will not run any more. Machine lock held. */
void vm_save_cancel(struct vm *vm);

#endif
