// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See chips.h.  KVM's forms are those of KVM_GET_LAPIC (a page of registers at
 * their xAPIC offsets) and KVM_GET_IRQCHIP (Documentation/virt/kvm/api.rst).
 *
 * Timers: KVM tells how many counts are left, ours when the count began and when
 * it is due.  One count is `divider` nanoseconds on both sides.
 *
 * What is not in KVM's form: an ExtINT message that waits, an 8259's "single" and
 * global level mode.  What is only there: nothing that lasts.
 */
#include "cpu/kvm/chips.h"

#include <errno.h>
#include <stddef.h>

#include "base/bits.h"
#include "base/err.h"

enum {
	REG_ID = 0x20, REG_TPR = 0x80, REG_LDR = 0xd0, REG_DFR = 0xe0, REG_SVR = 0xf0, REG_ISR = 0x100, REG_TMR = 0x180, REG_IRR = 0x200,
	REG_ESR = 0x280, REG_ICR = 0x300, REG_ICR_HI = 0x310, REG_LVT = 0x320, REG_TMICT = 0x380, REG_TMCCT = 0x390, REG_TDCR = 0x3e0,
};

#define BASE_EXTD BIT64(10)
#define BASE_EN BIT64(11)
#define SVR_NO_EOI_BROADCAST BIT(12)
#define TIMER_MODE(lvt) (((lvt) >> 17) & 3)
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define RTE_STATUS BIT64(12)
#define RTE_REMOTE_IRR BIT64(14)
#define RTE_LEVEL BIT64(15)
#define RTE_KEPT (0xff0000000001ffffull & ~RTE_STATUS)
#define CASCADE 2

#define L(field) SNAP_FIELD(struct kvm_saved_lapic, field)
static const struct snap_field lapic_fields[] = {
	L(base), SNAP_ARRAY(struct kvm_saved_lapic, irr), SNAP_ARRAY(struct kvm_saved_lapic, isr), SNAP_ARRAY(struct kvm_saved_lapic, tmr),
	L(xid), L(tpr), L(ldr), L(dfr), L(svr), SNAP_ARRAY(struct kvm_saved_lapic, lvt), L(esr_pending), L(extint_msg), L(esr), L(icr), L(icr_hi),
	L(tmict), L(tdcr), L(running), L(start_ns), L(tsc_deadline), L(due_ns), SNAP_END
};
#undef L
const struct snap_table kvm_lapic_table = { "lapic", 1, lapic_fields };

#define P(field) SNAP_FIELD(struct kvm_saved_pic, field)
static const struct snap_field pic_fields[] = {
	P(lines), P(irr), P(isr), P(imr), P(elcr), P(ltim), P(base), P(lowest), P(init), P(single), P(need_icw4), P(aeoi), P(rotate_aeoi),
	P(sfnm), P(smm), P(read_isr), P(poll), SNAP_END
};
#undef P
const struct snap_table kvm_pic_table = { "i8259", 1, pic_fields };

static const struct snap_field ioapic_fields[] = {
	SNAP_FIELD(struct kvm_saved_ioapic, select), SNAP_FIELD(struct kvm_saved_ioapic, id), SNAP_FIELD(struct kvm_saved_ioapic, arb),
	SNAP_FIELD(struct kvm_saved_ioapic, lines), SNAP_ARRAY(struct kvm_saved_ioapic, rte), SNAP_END
};
const struct snap_table kvm_ioapic_table = { "i82093aa", 1, ioapic_fields };

static const struct snap_field lines_fields[] = {
	SNAP_FIELD(struct kvm_saved_lines, intr), SNAP_FIELD(struct kvm_saved_lines, nmi), SNAP_END
};
const struct snap_table kvm_lines_table = { "lapics", 1, lines_fields };

/* ---- local APIC ---- */

static uint32_t get(const struct kvm_lapic_state *k, unsigned reg) { return ld_le32(k->regs + reg); }
static void put(struct kvm_lapic_state *k, unsigned reg, uint32_t v) { st_le32(k->regs + reg, v); }

/* TDCR bits 3, 1, 0: divide by 2, 4, ... 128, 1. */
static unsigned divider(uint32_t tdcr)
{
	unsigned code = (tdcr & 3) | ((tdcr >> 1) & 4);

	return code == 7 ? 1 : 2u << code;
}

/* A one-shot count that is over may be one whose interrupt KVM has yet to raise, so it is due now: an interrupt too many
 * rather than one too few. */
static void timer_to_saved(const struct kvm_lapic_state *k, uint64_t deadline, int64_t now, struct kvm_saved_lapic *s)
{
	unsigned mode = TIMER_MODE(s->lvt[0]), div = divider(s->tdcr);
	uint32_t left = MIN(get(k, REG_TMCCT), s->tmict);

	if (mode == TIMER_DEADLINE) {
		s->tsc_deadline = deadline;
		s->running = deadline != 0;
		s->start_ns = s->due_ns = now;
		return;
	}
	s->running = s->tmict != 0;
	s->due_ns = now + (int64_t)left * div;
	s->start_ns = s->due_ns - (int64_t)s->tmict * div;
}

void kvm_lapic_to_saved(const struct kvm_lapic_state *k, uint64_t apic_base, uint64_t deadline, int64_t now, struct kvm_saved_lapic *s)
{
	*s = (struct kvm_saved_lapic){
		.base = apic_base, .xid = get(k, REG_ID) >> 24, .tpr = get(k, REG_TPR), .ldr = get(k, REG_LDR), .dfr = get(k, REG_DFR),
		.svr = get(k, REG_SVR), .esr = get(k, REG_ESR), .icr = get(k, REG_ICR),
		.icr_hi = apic_base & BASE_EXTD ? 0 : get(k, REG_ICR_HI), .tmict = get(k, REG_TMICT), .tdcr = get(k, REG_TDCR) & 0xb,
	};
	for (unsigned i = 0; i < 8; i++) {
		s->irr[i] = get(k, REG_IRR + 16 * i);
		s->isr[i] = get(k, REG_ISR + 16 * i);
		s->tmr[i] = get(k, REG_TMR + 16 * i);
	}
	for (unsigned i = 0; i < KVM_LVTS; i++)
		s->lvt[i] = get(k, REG_LVT + 16 * i);
	timer_to_saved(k, deadline, now, s);
}

/* KVM begins a timer that has a count; one that has none left expires at once. */
static void timer_of_saved(struct kvm_lapic_state *k, const struct kvm_saved_lapic *s, int64_t now)
{
	bool counts = s->running && TIMER_MODE(s->lvt[0]) != TIMER_DEADLINE;
	uint64_t left = counts && s->due_ns > now ? (uint64_t)(s->due_ns - now) / divider(s->tdcr) : 0;

	put(k, REG_TDCR, s->tdcr & 0xb);
	put(k, REG_TMICT, counts ? s->tmict : 0);
	put(k, REG_TMCCT, (uint32_t)MIN(left, (uint64_t)s->tmict));
}

static int check_lapic(const struct kvm_saved_lapic *s, unsigned id, bool in_kernel, struct err *e)
{
	bool counts = TIMER_MODE(s->lvt[0]) != TIMER_DEADLINE;

	if ((s->base & BASE_EXTD && !(s->base & BASE_EN)) || (s->running && (counts ? !s->tmict : !s->tsc_deadline)) || s->due_ns < 0)
		return err_set(e, -EINVAL, "the saved state of local APIC %u makes no sense", id);
	if (in_kernel && s->svr & SVR_NO_EOI_BROADCAST)
		return err_set(e, -ENOTSUP, "the guest tells the I/O APIC of EOIs itself (local APIC %u), which KVM's does not know; go on with split=on", id);
	return 0;
}

int kvm_lapic_of_saved(struct kvm_lapic_state *k, const struct kvm_saved_lapic *s, unsigned id, int64_t now, bool in_kernel, struct err *e)
{
	const uint32_t reserved = 0xffff0000;	/* vectors below 16 are none */
	int r = check_lapic(s, id, in_kernel, e);

	if (r)
		return r;
	/* The form is that of xAPIC mode; KVM makes the logical ID of x2APIC mode by itself. */
	put(k, REG_ID, (s->base & BASE_EXTD ? id : s->xid & 0xff) << 24);
	put(k, REG_TPR, s->tpr & 0xff);
	put(k, REG_LDR, s->ldr);
	put(k, REG_DFR, s->dfr);
	put(k, REG_SVR, s->svr);
	put(k, REG_ESR, s->esr);
	put(k, REG_ICR, s->icr);
	put(k, REG_ICR_HI, s->icr_hi);
	for (unsigned i = 0; i < 8; i++) {
		put(k, REG_IRR + 16 * i, s->irr[i] & (i ? ~0u : reserved));
		put(k, REG_ISR + 16 * i, s->isr[i] & (i ? ~0u : reserved));
		put(k, REG_TMR + 16 * i, s->tmr[i]);
	}
	for (unsigned i = 0; i < KVM_LVTS; i++)
		put(k, REG_LVT + 16 * i, s->lvt[i]);
	timer_of_saved(k, s, now);
	return 0;
}

/* ---- 8259 ---- */

void kvm_pic_to_saved(const struct kvm_pic_state *k, struct kvm_saved_pic *s)
{
	*s = (struct kvm_saved_pic){
		.lines = k->last_irr, .irr = k->irr, .isr = k->isr, .imr = k->imr, .elcr = k->elcr, .base = k->irq_base & 0xf8,
		.lowest = (uint8_t)(k->priority_add - 1) & 7, .init = k->init_state & 3, .need_icw4 = k->init4 != 0, .aeoi = k->auto_eoi != 0,
		.rotate_aeoi = k->rotate_on_auto_eoi != 0, .sfnm = k->special_fully_nested_mode != 0, .smm = k->special_mask != 0,
		.read_isr = k->read_reg_select != 0, .poll = k->poll != 0,
	};
}

/* The cascade's request is made anew of the slave's. */
void kvm_pic_of_saved(struct kvm_pic_state *k, const struct kvm_saved_pic *s, bool master)
{
	uint8_t mask = master ? 0xf8 : 0xde, cascade = master ? (uint8_t)BIT(CASCADE) : 0;

	*k = (struct kvm_pic_state){
		.last_irr = s->lines & (uint8_t)~cascade, .irr = s->irr & (uint8_t)~cascade, .imr = s->imr, .isr = s->isr,
		.priority_add = (s->lowest + 1) & 7, .irq_base = s->base & 0xf8, .read_reg_select = s->read_isr != 0, .poll = s->poll != 0,
		.special_mask = s->smm != 0, .init_state = s->init & 3, .auto_eoi = s->aeoi != 0, .rotate_on_auto_eoi = s->rotate_aeoi != 0,
		.special_fully_nested_mode = s->sfnm != 0, .init4 = s->need_icw4 != 0, .elcr = s->ltim ? mask : s->elcr & mask, .elcr_mask = mask,
	};
}

/* ---- I/O APIC ---- */

void kvm_ioapic_to_saved(const struct kvm_ioapic_state *k, struct kvm_saved_ioapic *s)
{
	*s = (struct kvm_saved_ioapic){ .select = (uint8_t)k->ioregsel, .id = k->id & 0xf, .arb = k->id & 0xf,
					.lines = k->irr & (BIT(KVM_IOAPIC_NUM_PINS) - 1) };
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		s->rte[i] = k->redirtbl[i].bits & RTE_KEPT;
}

static bool is_level(uint64_t rte) { return rte & RTE_LEVEL && (rte >> 8 & 7) <= 1; }

/* KVM sends anew for every pin that is high: right for levels, but an edge that was has been sent. */
void kvm_ioapic_of_saved(struct kvm_ioapic_state *k, const struct kvm_saved_ioapic *s)
{
	*k = (struct kvm_ioapic_state){ .base_address = 0xfec00000, .ioregsel = s->select, .id = s->id & 0xf };
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		k->redirtbl[i].bits = s->rte[i] & RTE_KEPT & (is_level(s->rte[i]) ? ~0ull : ~RTE_REMOTE_IRR);
		if (is_level(s->rte[i]) && s->lines >> i & 1)
			k->irr |= BIT(i);
	}
}
