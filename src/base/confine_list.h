/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What confine.c makes its filters of: which calls, for whom, with which arguments. */
#ifndef LODGE_BASE_CONFINE_LIST_H
#define LODGE_BASE_CONFINE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets of threads. */
#define CONFINE_BIT(c) (1u << (c))
#define TO_ALL (CONFINE_BIT(CONFINE_CLASSES) - 1)
#define TO_MAIN CONFINE_BIT(CONFINE_MAIN)
#define TO_VCPU (CONFINE_BIT(CONFINE_VCPU) | TO_MAIN)		/* who may start another must have what that needs */
#define TO_NET (CONFINE_BIT(CONFINE_NET) | TO_MAIN)
#define TO_PEER (CONFINE_BIT(CONFINE_PEER) | TO_MAIN)
#define TO_SHARE (CONFINE_BIT(CONFINE_SHARE) | TO_MAIN)
#define TO_SCREEN (CONFINE_BIT(CONFINE_SCREEN) | TO_MAIN)
#define TO_DATA (TO_ALL & ~CONFINE_BIT(CONFINE_SCREEN))
#define ONLY_NATIVE 0x10000u	/* where native user code is on */

/* One call with at most two conditions, on different arguments: (argument & mask) == value. */
struct confine_rule {
	int nr;
	unsigned to;
	struct {
		unsigned arg;
		uint64_t mask, value;
	} when[2];
	unsigned n_when;
};

extern const struct confine_rule confine_rules[];
extern const size_t confine_n_rules;
/* Calls that are answered with ENOSYS, as by a kernel that does not know them: the C library then has another way. */
extern const int confine_unknown[];
extern const size_t confine_n_unknown;

#endif
