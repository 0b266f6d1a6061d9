/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk from which cloud-init in the guest learns what to make of it (data source NoCloud): a CD image labelled cidata with
 * user-data, meta-data and maybe network-config.  It is made in memory, the same bytes for the same files.
 */
#ifndef LODGE_VM_SEED_H
#define LODGE_VM_SEED_H

#include "base/err.h"
#include "vm/config.h"

/* Whether the configuration asks for one; then it is the disk of which `seed` is set. */
bool vm_seed_wanted(const struct vm_seed *s);
/* What cannot be together. EINVAL, with a message that names the option. */
int vm_seed_check(const struct vm_seed *s, struct err *e);
/* A descriptor of the image, sealed, the caller's.  name: the guest's.  Errors name the option and the file. */
int vm_seed_make(const struct vm_seed *s, const char *name, int *fd, struct err *e);

#endif
