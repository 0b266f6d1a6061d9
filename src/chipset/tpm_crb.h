/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TPM 2.0's command response buffer interface, locality 0 (TCG PC Client Platform
 * TPM Profile 1.05, 6.5.3; "CRB"), on a TPM that lives elsewhere (tpm/tpm.h).
 *
 * Machine lock held.
 */
#ifndef LODGE_CHIPSET_TPM_CRB_H
#define LODGE_CHIPSET_TPM_CRB_H

#include "tpm/tpm.h"

#define TPM_CRB_SIZE 0x1000u
#define TPM_CRB_CONTROL 0x40u	/* offset of the control area, for the ACPI table */

struct machine;

/* base: MMIO, TPM_CRB_SIZE bytes: 0xfed40000 on a PC.  tpm: the caller's, outlives the device. */
int tpm_crb_new(struct machine *m, uint64_t base, struct tpm *tpm);

#endif
