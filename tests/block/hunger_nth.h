/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hunger.h for programs in which the n-th allocation fails, or it and all after it: everything but main's loop over n. */
#ifndef TESTS_BLOCK_HUNGER_NTH_H
#define TESTS_BLOCK_HUNGER_NTH_H

#include <stdint.h>

#include "hunger.h"

static struct {
	_Atomic bool armed;		/* inside a call to be tested */
	_Atomic uint64_t seen;
	uint64_t nth;			/* 0: none fails */
	bool on;			/* and all after it */
} hunger;

bool hunger_denies(void)
{
	uint64_t seen;

	if (!hunger.armed || !hunger.nth)
		return false;
	seen = ++hunger.seen;
	return seen == hunger.nth || (hunger.on && seen > hunger.nth);
}

#endif
