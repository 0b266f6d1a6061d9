/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APIC: the register file as the guest sees it, through the xAPIC page
 * and through the x2APIC MSRs (SDM vol. 3, tables 11-1 and 11-6).
 *
 * Both ways lead to reg_read and reg_write.  They differ in what nonsense does:
 * a bad page access sets "illegal register address" in ESR, a bad MSR access is
 * #GP, and so is any reserved bit set in an MSR write.
 */
#include <errno.h>

#include "chipset/lapic_impl.h"

#define MSR_X2APIC 0x800u
#define MSR_TSC_DEADLINE 0x6e0u

/* Version 0x14, six LVT entries, EOI broadcast suppression. */
#define VERSION_VALUE (0x14u | (LVT_COUNT - 1) << 16 | BIT(24))

/* Bits a guest may write in each LVT entry (figures 11-8, 11-9). */
static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = 0x000700ff,
	[LVT_THERMAL] = 0x000107ff,
	[LVT_PERF] = 0x000107ff,
	[LVT_LINT0] = 0x0001a7ff,
	[LVT_LINT1] = 0x0001a7ff,
	[LVT_ERROR] = 0x000100ff,
};

/* Read-only status bits: they may be written, to no effect. */
#define LVT_STATUS (BIT(12) | LVT_REMOTE_IRR)

static uint32_t ld(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void st(_Atomic uint32_t *p, uint32_t v)
{
	atomic_store_explicit(p, v, memory_order_relaxed);
}

static uint32_t lvt_mask(const struct lapic *l, unsigned i)
{
	if (i == LVT_TIMER && l->set->cfg.no_tsc_deadline)
		return lvt_writable[i] & ~BIT(18);
	return lvt_writable[i];
}

/* -EINVAL: there is no such register to read. */
static int reg_read(struct lapic *l, unsigned reg, uint32_t *val)
{
	bool x2 = lapic_x2apic(l);

	switch (reg) {
	case REG_ID: *val = x2 ? l->id : ld(&l->xid) << 24; return 0;
	case REG_VERSION: *val = VERSION_VALUE; return 0;
	case REG_TPR: *val = ld(&l->tpr); return 0;
	case REG_PPR: *val = lapic_ppr(l); return 0;
	case REG_LDR: *val = ld(&l->ldr); return 0;
	case REG_SVR: *val = ld(&l->svr); return 0;
	case REG_ISR ... REG_ISR + 7: *val = ld(&l->isr[reg - REG_ISR]); return 0;
	case REG_TMR ... REG_TMR + 7: *val = ld(&l->tmr[reg - REG_TMR]); return 0;
	case REG_IRR ... REG_IRR + 7: *val = ld(&l->irr[reg - REG_IRR]); return 0;
	case REG_ESR: *val = l->esr; return 0;
	case REG_ICR: *val = l->icr; return 0;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1: *val = ld(&l->lvt[reg - REG_LVT]); return 0;
	case REG_TMICT: *val = l->tmict; return 0;
	case REG_TMCCT: *val = lapic_timer_count(l); return 0;
	case REG_TDCR: *val = l->tdcr; return 0;
	/* xAPIC only */
	case REG_APR: *val = lapic_ppr(l); return x2 ? -EINVAL : 0;
	case REG_EOI:
	case REG_RRD: *val = 0; return x2 ? -EINVAL : 0;
	case REG_DFR: *val = ld(&l->dfr); return x2 ? -EINVAL : 0;
	case REG_ICR_HI: *val = l->icr_hi; return x2 ? -EINVAL : 0;
	default: return -EINVAL;
	}
}

static void write_lvt(struct lapic *l, unsigned i, uint32_t val)
{
	uint32_t old = ld(&l->lvt[i]);

	val &= lvt_mask(l, i);
	if (!lapic_sw_enabled(l))
		val |= LVT_MASKED;
	/* Remote IRR follows the trigger mode and is the chip's own. */
	if (val & LVT_LEVEL)
		val |= old & LVT_REMOTE_IRR;
	st(&l->lvt[i], val);
	if (i == LVT_TIMER)
		lapic_timer_mode_changed(l, old, val);
	else if (i == LVT_LINT0)
		lapic_recheck(l);
}

/* Software disable masks all local interrupts (11.4.7.2). */
static void write_svr(struct lapic *l, uint32_t val)
{
	st(&l->svr, val & (0x1ff | SVR_NO_EOI_BROADCAST));
	if (!(val & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			atomic_fetch_or(&l->lvt[i], LVT_MASKED);
}

static void write_tpr(struct lapic *l, uint32_t val)
{
	uint32_t old = ld(&l->tpr);

	st(&l->tpr, val & 0xff);
	if ((val & 0xff) < old)
		lapic_recheck(l);
}

/* -EINVAL: there is no such register to write. */
static int reg_write(struct lapic *l, unsigned reg, uint32_t val)
{
	bool x2 = lapic_x2apic(l);

	switch (reg) {
	case REG_TPR: write_tpr(l, val); return 0;
	case REG_EOI: lapic_eoi(l); return 0;
	case REG_SVR: write_svr(l, val); return 0;
	case REG_ESR: l->esr = atomic_exchange(&l->esr_pending, 0); return 0;
	case REG_LVT ... REG_LVT + LVT_COUNT - 1: write_lvt(l, reg - REG_LVT, val); return 0;
	case REG_TMICT: lapic_timer_set_count(l, val); return 0;
	case REG_TDCR: lapic_timer_set_divider(l, val & 0xb); return 0;
	case REG_ICR:
		l->icr = val & 0x000ccfff;
		lapic_write_icr(l, l->icr, x2 ? l->icr_hi : l->icr_hi >> 24);
		return 0;
	case REG_SELF_IPI:
		if (!x2)
			return -EINVAL;
		lapic_self_ipi(l, (uint8_t)val);
		return 0;
	}
	if (x2)
		return -EINVAL;
	switch (reg) {
	case REG_LDR: st(&l->ldr, val & 0xff000000); return 0;
	case REG_DFR: st(&l->dfr, val | 0x0fffffff); return 0;
	case REG_ICR_HI: l->icr_hi = val & 0xff000000; return 0;
	case REG_ID: st(&l->xid, val >> 24); return 0;
	/* Exist, but are not written. */
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR ... REG_IRR + 7:
	case REG_TMCCT: return 0;
	default: return -EINVAL;
	}
}

/* Registers are 16 bytes apart and 32 bits wide; the bytes between read as 0. */
uint32_t lapic_mmio_read(void *opaque, uint32_t off)
{
	struct lapic *l = opaque;
	uint32_t val = 0;

	off &= 0xfff;
	if (off & 0xf)
		return 0;
	if (off >> 4 > REG_SELF_IPI || reg_read(l, off >> 4, &val)) {
		lapic_error(l, ESR_ILLEGAL_REG);
		return 0;
	}
	return val;
}

void lapic_mmio_write(void *opaque, uint32_t off, uint32_t val)
{
	struct lapic *l = opaque;

	off &= 0xfff;
	if (off & 0xf)
		return;
	if (off >> 4 > REG_SELF_IPI || reg_write(l, off >> 4, val))
		lapic_error(l, ESR_ILLEGAL_REG);
}

int lapic_msr_read(void *opaque, uint32_t msr, uint64_t *val)
{
	struct lapic *l = opaque;
	uint32_t low;
	int ret;

	if (msr == MSR_TSC_DEADLINE) {
		if (l->set->cfg.no_tsc_deadline)
			return -EINVAL;
		*val = lapic_timer_deadline(l);
		return 0;
	}
	if (!lapic_x2apic(l) || msr < MSR_X2APIC || msr > MSR_X2APIC + REG_SELF_IPI)
		return -EINVAL;
	ret = reg_read(l, msr - MSR_X2APIC, &low);
	if (ret)
		return ret;
	*val = low;
	if (msr - MSR_X2APIC == REG_ICR)
		*val |= (uint64_t)l->icr_hi << 32;
	return 0;
}

/* Is v free of reserved bits in this register's x2APIC form? */
static bool x2apic_valid(const struct lapic *l, unsigned reg, uint64_t v)
{
	switch (reg) {
	case REG_TPR:
	case REG_SELF_IPI: return !(v & ~0xffull);
	case REG_EOI:
	case REG_ESR: return v == 0;
	case REG_SVR: return !(v & ~(0x3ffull | SVR_NO_EOI_BROADCAST));
	case REG_ICR: return !(v & 0xfff32000ull);
	case REG_TDCR: return !(v & ~0xbull);
	case REG_LVT ... REG_LVT + LVT_COUNT - 1:
		return !(v & ~(uint64_t)(lvt_mask(l, reg - REG_LVT) | LVT_STATUS));
	default: return !(v >> 32);
	}
}

int lapic_msr_write(void *opaque, uint32_t msr, uint64_t val)
{
	struct lapic *l = opaque;
	unsigned reg = msr - MSR_X2APIC;

	if (msr == MSR_TSC_DEADLINE) {
		if (l->set->cfg.no_tsc_deadline)
			return -EINVAL;
		lapic_timer_set_deadline(l, val);
		return 0;
	}
	if (!lapic_x2apic(l) || msr < MSR_X2APIC || reg > REG_SELF_IPI || !x2apic_valid(l, reg, val))
		return -EINVAL;
	if (reg == REG_ICR)
		l->icr_hi = (uint32_t)(val >> 32);
	return reg_write(l, reg, (uint32_t)val);
}
