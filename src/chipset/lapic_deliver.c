/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APIC: accepting, prioritising and sending interrupts (SDM vol. 3,
 * 11.6 to 11.8 and 11.11).
 *
 * A sender sets TMR, then IRR, then raises VCPU_EV_INTR; the vCPU's thread
 * clears the event before it looks at IRR, so nothing is lost and no lock is
 * needed.  ISR belongs to the vCPU's thread alone.
 */
#include <errno.h>

#include "base/log.h"
#include "chipset/lapic_impl.h"

static uint32_t rd(const _Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

/* Highest vector set in a 256-bit register, or -1. */
static int highest(const _Atomic uint32_t *r)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t w = atomic_load_explicit(&r[i], memory_order_acquire);

		if (w)
			return i * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

/* Processor priority: the higher of TPR and the class in service. */
uint8_t lapic_ppr(const struct lapic *l)
{
	uint8_t tpr = (uint8_t)rd(&l->tpr);
	int isrv = highest(l->isr);

	if (isrv >= 0 && (isrv >> 4) > (tpr >> 4))
		return (uint8_t)(isrv & 0xf0);
	return tpr;
}

/* Does the 8259's request reach this processor?  By LINT0 programmed as
 * ExtINT, or past a disabled chip on the boot processor. */
static bool extint_wanted(const struct lapic *l)
{
	uint32_t lint0;

	if (atomic_load_explicit(&l->extint_msg, memory_order_acquire))
		return true;
	if (!atomic_load_explicit(&l->set->intr, memory_order_acquire))
		return false;
	if (!lapic_hw_enabled(l))
		return l->id == 0;
	lint0 = rd(&l->lvt[LVT_LINT0]);
	return !(lint0 & LVT_MASKED) && ((lint0 >> 8) & 7) == DM_EXTINT;
}

static int deliverable(const struct lapic *l)
{
	int v;

	if (!lapic_hw_enabled(l))
		return -1;
	v = highest(l->irr);
	return v >= 0 && (v >> 4) > (lapic_ppr(l) >> 4) ? v : -1;
}

bool lapic_pending(void *opaque)
{
	const struct lapic *l = opaque;

	return deliverable(l) >= 0 || extint_wanted(l);
}

void lapic_recheck(struct lapic *l)
{
	if (l->v && lapic_pending(l))
		vcpu_raise(l->v, VCPU_EV_INTR);
}

/* The INTA cycles of the 8259: another processor may have been faster. */
static int ack_extint(struct lapic *l)
{
	struct lapics *s = l->set;
	int vec = -1;

	if (!s->cfg.extint_ack)
		return -1;
	machine_lock(s->dev.m);
	atomic_store(&l->extint_msg, 0);
	if (atomic_load(&s->intr))
		vec = s->cfg.extint_ack(s->cfg.extint_opaque);
	machine_unlock(s->dev.m);
	return vec;
}

int lapic_ack(void *opaque)
{
	struct lapic *l = opaque;
	uint32_t bit;
	int v;

	if (extint_wanted(l)) {
		v = ack_extint(l);
		if (v >= 0)
			return v;
	}
	v = deliverable(l);
	if (v < 0)
		return -1;
	bit = BIT(v & 31);
	atomic_fetch_or(&l->isr[v >> 5], bit);
	atomic_fetch_and(&l->irr[v >> 5], ~bit);
	return v;
}

/* A fixed interrupt arrives; false if the chip does not take it. */
bool lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
	uint32_t bit = BIT(vector & 31);
	unsigned w = vector >> 5;

	if (vector < 16) {
		lapic_error(l, ESR_RECV_ILLEGAL);
		return true;
	}
	if (!l->v || !lapic_hw_enabled(l) || !lapic_sw_enabled(l))
		return false;
	if (level)
		atomic_fetch_or(&l->tmr[w], bit);
	else if (rd(&l->tmr[w]) & bit)
		atomic_fetch_and(&l->tmr[w], ~bit);
	/* Pairs with the acquire in highest(): TMR is right before IRR shows. */
	if (!(atomic_fetch_or(&l->irr[w], bit) & bit))
		vcpu_raise(l->v, VCPU_EV_INTR);
	return true;
}

/* Bits since the last write of ESR interrupt once. */
void lapic_error(struct lapic *l, uint32_t bit)
{
	if (!atomic_fetch_or(&l->esr_pending, bit))
		lapic_deliver_lvt(l, LVT_ERROR);
}

/* A message or pin event has arrived at this chip; false if it is not taken. */
static bool deliver(struct lapic *l, unsigned mode, uint8_t vector, bool level)
{
	switch (mode) {
	case DM_FIXED:
	case DM_LOWEST:
		return lapic_accept(l, vector, level);
	case DM_SMI:
		vcpu_raise(l->v, VCPU_EV_SMI);
		break;
	case DM_NMI:
		vcpu_raise_nmi(l->v);
		break;
	case DM_INIT:
		vcpu_raise(l->v, VCPU_EV_INIT);
		break;
	case DM_STARTUP:
		atomic_store(&l->v->sipi_vector, vector);
		vcpu_raise(l->v, VCPU_EV_SIPI);
		break;
	case DM_EXTINT:
		atomic_store(&l->extint_msg, 1);
		vcpu_raise(l->v, VCPU_EV_INTR);
		break;
	}
	return true;
}

void lapic_deliver_lvt(struct lapic *l, int entry)
{
	uint32_t lvt = rd(&l->lvt[entry]);
	unsigned mode = (lvt >> 8) & 7;

	if (lvt & LVT_MASKED || !l->v || !lapic_hw_enabled(l))
		return;
	/* Timer and error have no delivery mode. */
	if (entry == LVT_TIMER || entry == LVT_ERROR)
		mode = DM_FIXED;
	switch (mode) {
	case DM_FIXED:
		if (entry == LVT_LINT0 && lvt & LVT_LEVEL) {
			atomic_fetch_or(&l->lvt[entry], LVT_REMOTE_IRR);
			lapic_accept(l, (uint8_t)lvt, true);
		} else {
			lapic_accept(l, (uint8_t)lvt, false);
		}
		break;
	case DM_SMI:
	case DM_NMI:
	case DM_INIT:
		deliver(l, mode, (uint8_t)lvt, false);
		break;
	case DM_EXTINT:		/* the pin's level is looked at, nothing is latched */
		vcpu_raise(l->v, VCPU_EV_INTR);
		break;
	default:
		break;
	}
}

/* Level interrupts that came in by LINT0 come again while the pin is high. */
static void eoi_lint0(struct lapic *l, uint8_t vector)
{
	uint32_t lvt = rd(&l->lvt[LVT_LINT0]);

	if (!(lvt & LVT_REMOTE_IRR) || (uint8_t)lvt != vector)
		return;
	atomic_fetch_and(&l->lvt[LVT_LINT0], ~LVT_REMOTE_IRR);
	if (atomic_load(&l->set->intr))
		lapic_deliver_lvt(l, LVT_LINT0);
}

void lapic_eoi(struct lapic *l)
{
	struct lapics *s = l->set;
	int v = highest(l->isr);

	if (v < 0)
		return;
	atomic_fetch_and(&l->isr[v >> 5], ~BIT(v & 31));
	if (rd(&l->tmr[v >> 5]) & BIT(v & 31)) {
		eoi_lint0(l, (uint8_t)v);
		if (s->cfg.eoi && !(rd(&l->svr) & SVR_NO_EOI_BROADCAST)) {
			machine_lock(s->dev.m);
			s->cfg.eoi(s->cfg.eoi_opaque, (uint8_t)v);
			machine_unlock(s->dev.m);
		}
	}
	lapic_recheck(l);
}

/* Is this chip addressed?  11.6.2; x2APIC logical IDs are 11.12.10.2. */
static bool addressed(const struct lapic *l, const struct apic_msg *m)
{
	uint32_t ldr;

	if (!lapic_there(l) || !lapic_hw_enabled(l))
		return false;
	if (m->broadcast)
		return true;
	if (!m->logical)
		return m->dest == (lapic_x2apic(l) ? l->id : rd(&l->xid));
	ldr = rd(&l->ldr);
	if (lapic_x2apic(l))
		return m->dest >> 16 == ldr >> 16 && m->dest & ldr & 0xffff;
	if (m->dest > 0xff)
		return false;
	ldr >>= 24;
	if (rd(&l->dfr) >> 28 == 0xf)			/* flat */
		return (ldr & m->dest) != 0;
	return ldr >> 4 == m->dest >> 4 && ldr & m->dest & 0xf;
}

/* Lowest priority: the addressed chip with the lowest priority class; among
 * equals the turn goes round. */
static struct lapic *arbitrate(struct lapics *s, const struct apic_msg *m)
{
	unsigned first = atomic_fetch_add_explicit(&s->rotate, 1, memory_order_relaxed);
	struct lapic *best = NULL;
	unsigned best_prio = 0;

	for (unsigned i = 0; i < s->n; i++) {
		struct lapic *l = &s->chip[(first + i) % s->n];
		unsigned prio;

		if (!addressed(l, m) || !lapic_sw_enabled(l))
			continue;
		prio = lapic_ppr(l) >> 4;
		if (!best || prio < best_prio) {
			best = l;
			best_prio = prio;
		}
	}
	return best;
}

unsigned lapics_send(struct lapics *s, const struct apic_msg *m)
{
	unsigned taken = 0;

	if (m->mode == DM_RESERVED)
		return 0;
	if (m->mode == DM_LOWEST) {
		struct lapic *l = arbitrate(s, m);

		if (!l)
			return 0;
		return deliver(l, DM_FIXED, m->vector, m->level);
	}
	for (unsigned i = 0; i < s->n; i++) {
		struct lapic *l = &s->chip[i];

		if (addressed(l, m))
			taken += deliver(l, m->mode, m->vector, m->level);
	}
	return taken;
}

static void send_others(struct lapic *from, const struct apic_msg *m, bool self)
{
	struct lapics *s = from->set;

	for (unsigned i = 0; i < s->n; i++) {
		struct lapic *l = &s->chip[i];

		if (l == from ? self : lapic_there(l) && lapic_hw_enabled(l))
			deliver(l, m->mode, m->vector, m->level);
	}
}

void lapic_self_ipi(struct lapic *l, uint8_t vector)
{
	lapic_accept(l, vector, false);
}

/* Modes the ICR may send (11.6.1): reserved and ExtINT are not. */
static bool icr_valid(struct lapic *l, unsigned mode, uint8_t vector)
{
	if (mode == DM_RESERVED || mode == DM_EXTINT)
		return false;
	if ((mode == DM_FIXED || mode == DM_LOWEST) && vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL);
		return false;
	}
	return true;
}

/* Sends an IPI.  dest is 8 bits in xAPIC mode, 32 in x2APIC mode. */
void lapic_write_icr(struct lapic *l, uint32_t low, uint32_t dest)
{
	struct apic_msg m = {
		.dest = dest,
		.broadcast = dest == (lapic_x2apic(l) ? 0xffffffffu : 0xffu),
		.logical = (low >> 11) & 1,
		.mode = (low >> 8) & 7,
		.vector = (uint8_t)low,
	};
	bool assert_ = (low >> 14) & 1, level = (low >> 15) & 1;

	if (!icr_valid(l, m.mode, m.vector))
		return;
	/* INIT level de-assert only synchronised arbitration IDs. */
	if (m.mode == DM_INIT && level && !assert_)
		return;
	switch ((low >> 18) & 3) {
	case 0:
		lapics_send(l->set, &m);
		break;
	case 1:		/* self: fixed only */
		if (m.mode == DM_FIXED || m.mode == DM_LOWEST)
			lapic_accept(l, m.vector, false);
		else if (m.mode == DM_NMI)
			deliver(l, DM_NMI, m.vector, false);
		break;
	case 2:
	case 3:
		if (m.mode == DM_LOWEST)
			m.mode = DM_FIXED;
		send_others(l, &m, ((low >> 18) & 3) == 2);
		break;
	}
}

/* Message layout: 11.11.  RH (address bit 3) asks for the lowest priority among
 * the addressed; with physical destinations it changes nothing.  Address bits
 * 11:5 extend the destination ID to 15 bits. */
int lapics_msi(void *opaque, const struct msi *msg)
{
	struct lapics *s = opaque;
	uint32_t dest = ((msg->addr >> 12) & 0xff) | (((msg->addr >> 5) & 0x7f) << 8);
	struct apic_msg m = {
		.dest = dest,
		.broadcast = dest == 0xff,
		.logical = (msg->addr >> 2) & 1,
		.mode = (msg->data >> 8) & 7,
		.vector = (uint8_t)msg->data,
		.level = (msg->data >> 15) & 1,
	};

	if (msg->addr >> 20 != 0xfee) {
		log_guest("message interrupt to 0x%llx, which is no local APIC's address",
			  (unsigned long long)msg->addr);
		return -EINVAL;
	}
	if (m.mode == DM_STARTUP)	/* reserved in messages */
		return -ENXIO;
	if (m.mode == DM_FIXED && msg->addr & 8 && m.logical)
		m.mode = DM_LOWEST;
	return lapics_send(s, &m) ? 0 : -ENXIO;
}

static void set_intr(void *opaque, int n, bool level)
{
	struct lapics *s = opaque;
	bool was = atomic_exchange(&s->intr, level);

	(void)n;
	if (was == level)
		return;
	for (unsigned i = 0; i < s->n; i++) {
		struct lapic *l = &s->chip[i];
		uint32_t lint0 = rd(&l->lvt[LVT_LINT0]);

		if (!lapic_there(l) || !level)
			continue;
		if (!lapic_hw_enabled(l) || ((lint0 >> 8) & 7) == DM_EXTINT)
			lapic_recheck(l);
		else
			lapic_deliver_lvt(l, LVT_LINT0);
	}
}

struct irq lapics_extint(struct lapics *s)
{
	return (struct irq){ .set = set_intr, .opaque = s };
}

static void set_nmi(void *opaque, int n, bool level)
{
	struct lapics *s = opaque;
	bool rise = level && !s->nmi;

	(void)n;
	s->nmi = level;
	for (unsigned i = 0; rise && i < s->n; i++) {
		struct lapic *l = &s->chip[i];

		if (l->v && !lapic_there(l))
			continue;
		if (l->v && !lapic_hw_enabled(l)) {
			if (l->id == 0)
				vcpu_raise_nmi(l->v);
		} else {
			lapic_deliver_lvt(l, LVT_LINT1);
		}
	}
}

struct irq lapics_nmi(struct lapics *s)
{
	return (struct irq){ .set = set_nmi, .opaque = s };
}
