/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts of the 82574L (7.4): causes in ICR, masked by IMS; one message or the
 * pin for all, or with MSI-X a vector of IVAR for each ring and for the rest.
 *
 * A message is sent for a cause that comes up, not again while it is up; between
 * two of a vector lies at least what ITR or EITR says, in virtual time.
 */
#include "device/e1000e_int.h"

/* LSC, RXO, MDAC, SRPD, ACK, MNG: what ICR.OTHER stands for */
#define OTHER_CAUSES (ICR_LSC | BIT(6) | ICR_MDAC | BIT(16) | BIT(17) | BIT(18))
#define TICK_NS 256

/* The cause of each field of IVAR, in its order. */
static const uint32_t cause_of[E_VECTORS] = { ICR_RXQ0, ICR_RXQ0 << 1, ICR_TXQ0, ICR_TXQ0 << 1, ICR_OTHER };

/* May vector i send now?  If not, it will be looked at again when it may. */
static bool may_send(struct e1000e *d, unsigned i, uint32_t interval)
{
	int64_t now = clock_now(d->m->clock);

	if (now < d->next_ns[i]) {
		if (!vtimer_armed(&d->throttle) || d->throttle.deadline_ns > d->next_ns[i])
			vtimer_arm(&d->throttle, d->next_ns[i]);
		return false;
	}
	d->next_ns[i] = now + (int64_t)(interval & 0xffff) * TICK_NS;
	return true;
}

static void update_msix(struct e1000e *d, uint32_t active)
{
	uint32_t ivar = e1000e_get(d, R_IVAR);

	for (unsigned i = 0; i < E_VECTORS; i++) {
		uint32_t cause = cause_of[i], field = ivar >> (4 * i), vector = field & 7;

		if (!(active & cause & ~d->told) || !(field & 8) || vector >= E_VECTORS ||
		    !may_send(d, vector, e1000e_get(d, R_EITR + 4 * vector)))
			continue;
		pci_msix_fire(&d->pci, vector);
		d->told |= cause;
		/* 7.4.3: cleared, and masked, by itself */
		if (e1000e_get(d, R_EIAC) & cause) {
			*e1000e_reg(d, R_ICR) &= ~cause;
			d->told &= ~cause;
		}
		if (e1000e_get(d, R_CTRL_EXT) & CTRL_EXT_EIAME)
			*e1000e_reg(d, R_IMS) &= ~(e1000e_get(d, R_IAM) & cause);
	}
}

void e1000e_irq_update(struct e1000e *d)
{
	uint32_t active;

	active = e1000e_get(d, R_ICR) & e1000e_get(d, R_IMS);
	d->told &= active;
	if (pci_msix_enabled(&d->pci)) {
		pci_intx_set(&d->pci, false);
		update_msix(d, active);
		return;
	}
	if (pci_msi_enabled(&d->pci)) {
		pci_intx_set(&d->pci, false);
		if (active & ~d->told && may_send(d, E_VECTORS, e1000e_get(d, R_ITR))) {
			d->told = active;
			pci_msi_fire(&d->pci, 0);
		}
		return;
	}
	if (!active)
		pci_intx_set(&d->pci, false);
	else if (d->told || may_send(d, E_VECTORS, e1000e_get(d, R_ITR))) {
		d->told = active;
		pci_intx_set(&d->pci, true);
	}
}

void e1000e_raise(struct e1000e *d, uint32_t causes)
{
	/* When one comes up, not while it is up: what was cleared by itself does not come back. */
	*e1000e_reg(d, R_ICR) |= causes | (causes & OTHER_CAUSES ? ICR_OTHER : 0);
	e1000e_irq_update(d);
}

/* 10.2.4.1: reading clears, but not (with MSI-X) where all causes are masked one by one. */
uint32_t e1000e_icr_read(struct e1000e *d)
{
	uint32_t icr = e1000e_get(d, R_ICR), ims = e1000e_get(d, R_IMS);
	bool asserted = icr & ims;

	if (asserted && e1000e_get(d, R_CTRL_EXT) & CTRL_EXT_IAME)
		*e1000e_reg(d, R_IMS) &= ~e1000e_get(d, R_IAM);
	if (!pci_msix_enabled(&d->pci) || !ims || asserted)
		*e1000e_reg(d, R_ICR) = 0;
	e1000e_irq_update(d);
	return icr | (asserted ? ICR_ASSERTED : 0);
}

static void on_throttle(void *opaque)
{
	struct e1000e *d = opaque;

	if (!d->paused)
		e1000e_irq_update(d);
}

void e1000e_irq_init(struct e1000e *d)
{
	vtimer_init(d->m->clock, &d->throttle, on_throttle, d);
}

void e1000e_irq_reset(struct e1000e *d)
{
	vtimer_cancel(&d->throttle);
	d->told = 0;
	for (unsigned i = 0; i <= E_VECTORS; i++)
		d->next_ns[i] = 0;
	pci_intx_set(&d->pci, false);
}
