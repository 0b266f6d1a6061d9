/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TPM 2.0's FIFO interface with five localities (TCG PC Client Platform TPM
 * Profile 1.05, 6.5.2; "TIS"), on a TPM that lives elsewhere (tpm/tpm.h).
 *
 * Machine lock held.
 */
#ifndef LODGE_CHIPSET_TPM_TIS_H
#define LODGE_CHIPSET_TPM_TIS_H

#include "machine/irq.h"
#include "tpm/tpm.h"

#define TPM_TIS_LOCALITIES 5
#define TPM_TIS_SIZE 0x5000u

struct machine;

struct tpm_tis_config {
	uint64_t base;		/* MMIO, TPM_TIS_SIZE bytes: 0xfed40000 on a PC */
	struct irq irq;		/* level, active high */
	uint8_t vector;		/* what its interrupt vector register says the wire is */
	struct tpm *tpm;	/* the caller's, outlives the device */
};

int tpm_tis_new(struct machine *m, const struct tpm_tis_config *cfg);

#endif
