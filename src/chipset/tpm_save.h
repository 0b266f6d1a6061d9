/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both interfaces of a TPM do with its own state. */
#ifndef LODGE_CHIPSET_TPM_SAVE_H
#define LODGE_CHIPSET_TPM_SAVE_H

#include "machine/snap.h"
#include "tpm/tpm.h"

#define TPM_SAVE_MS 30000u

/* Into and out of a snapshot; both wait, up to TPM_SAVE_MS. */
int tpm_save_blobs(struct tpm *t, struct snap_out *o, const char *id);
int tpm_load_blobs(struct tpm *t, struct snap_in *in, const char *id, struct err *e);

#endif
