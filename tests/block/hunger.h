/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that runs out: in a program linked with hunger.c and the --wrap options
 * beside it in meson.build, each of its own allocations asks first.
 */
#ifndef TESTS_BLOCK_HUNGER_H
#define TESTS_BLOCK_HUNGER_H

#include <stdbool.h>

/* The program's: is this allocation to fail? [any thread] */
bool hunger_denies(void);

#endif
