// SPDX-License-Identifier: GPL-2.0-or-later
/* Small parts that a machine may have: a TPM, and the VM generation ID. */
#include <errno.h>

#include "chipset/acpi_ged.h"
#include "chipset/acpi_pm.h"
#include "chipset/tpm_crb.h"
#include "chipset/tpm_tis.h"
#include "chipset/vmgenid.h"
#include "platform/x86/priv.h"

static int build_tpm(struct platform *p, struct err *e)
{
	const struct tpm_tis_config tis = {
		.base = LAYOUT_TPM, .irq = gsi_wire(p, LAYOUT_GSI_TPM), .vector = LAYOUT_GSI_TPM, .tpm = p->cfg.tpm,
	};
	int r;

	if (!p->cfg.tpm)
		return 0;
	if (!p->kind->legacy)
		return err_set(e, -EINVAL, "machine %s has no TPM; use --machine pc", p->kind->name);
	r = p->cfg.tpm_kind == PLATFORM_TPM_CRB ? tpm_crb_new(p->m, LAYOUT_TPM, p->cfg.tpm) : tpm_tis_new(p->m, &tis);
	return r < 0 ? err_set(e, r, "out of memory for the TPM") : 0;
}

static void ged_raise(void *opaque, int n, bool level)
{
	if (level)
		acpi_ged_raise(opaque, (uint32_t)n);
}

static int build_vmgenid(struct platform *p, struct err *e)
{
	struct irq notify = { .set = ged_raise, .opaque = p->ged, .n = ACPI_GED_EV_VMGENID };

	if (!p->cfg.vmgenid)
		return 0;
	if (p->pm)
		notify = acpi_pm_gpe(p->pm, LAYOUT_GPE_VMGENID);
	return vmgenid_new(p->m, LAYOUT_VMGENID, &notify, &p->vmgenid, e);
}

int parts_build(struct platform *p, struct err *e)
{
	int r = build_tpm(p, e);

	return r < 0 ? r : build_vmgenid(p, e);
}

bool platform_set_vmgenid(struct platform *p, const uint8_t uuid[16])
{
	if (p->vmgenid)
		vmgenid_set(p->vmgenid, uuid);
	return p->vmgenid != NULL;
}

bool platform_vmgenid(const struct platform *p, uint8_t uuid[16])
{
	if (p->vmgenid)
		vmgenid_get(p->vmgenid, uuid);
	return p->vmgenid != NULL;
}
