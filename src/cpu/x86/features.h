/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The feature table behind cpuid.h: names, bits, dependencies. */
#ifndef LODGE_CPU_X86_FEATURES_H
#define LODGE_CPU_X86_FEATURES_H

#include "cpu/x86/cpuid.h"

/* False: no such name. */
bool x86_feature_find(const char *name, int *word, uint32_t *bit);
/* Clears features whose prerequisites are not there. */
void x86_features_close(uint32_t feat[X86_F_WORDS]);
/* A prerequisite of `name` that feat lacks, or NULL. */
const char *x86_feature_missing(const uint32_t feat[X86_F_WORDS], const char *name);

#endif
