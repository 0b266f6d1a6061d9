/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Linear to physical, for who looks at a guest from outside. */
#ifndef LODGE_CPU_X86_WALK_H
#define LODGE_CPU_X86_WALK_H

#include "cpu/x86/state.h"
#include "machine/mem.h"

/*
 * Where the page tables of this state put lin (SDM vol. 3, 4.2 to 4.5), rights aside; nothing is marked as accessed. False: there
 * is no page, or its tables are not in memory.
 */
bool x86_walk(struct mem *m, const struct x86_state *s, uint64_t lin, uint64_t *gpa);

#endif
