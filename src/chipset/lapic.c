/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APICs: life cycle, IA32_APIC_BASE, and the table of functions by which
 * an engine uses its vCPU's chip.  lapic_impl.h tells how the rest is divided.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chipset/lapic_impl.h"

static const struct snap_field lapic_fields[] = {
	SNAP_FIELD(struct lapic, base),
	SNAP_ARRAY(struct lapic, irr),
	SNAP_ARRAY(struct lapic, isr),
	SNAP_ARRAY(struct lapic, tmr),
	SNAP_FIELD(struct lapic, xid),
	SNAP_FIELD(struct lapic, tpr),
	SNAP_FIELD(struct lapic, ldr),
	SNAP_FIELD(struct lapic, dfr),
	SNAP_FIELD(struct lapic, svr),
	SNAP_ARRAY(struct lapic, lvt),
	SNAP_FIELD(struct lapic, esr_pending),
	SNAP_FIELD(struct lapic, extint_msg),
	SNAP_FIELD(struct lapic, esr),
	SNAP_FIELD(struct lapic, icr),
	SNAP_FIELD(struct lapic, icr_hi),
	SNAP_FIELD(struct lapic, tmict),
	SNAP_FIELD(struct lapic, tdcr),
	SNAP_FIELD(struct lapic, running),
	SNAP_FIELD(struct lapic, start_ns),
	SNAP_FIELD(struct lapic, tsc_deadline),
	SNAP_FIELD(struct lapic, due_ns),
	SNAP_END
};
static const struct snap_table lapic_table = { "lapic", 1, lapic_fields };

static const struct snap_field lines_fields[] = {
	SNAP_FIELD(struct lapics, intr),
	SNAP_FIELD(struct lapics, nmi),
	SNAP_END
};
static const struct snap_table lines_table = { "lapics", 1, lines_fields };

/* x2APIC logical ID (11.12.10.2): cluster and bit follow from the ID. */
static uint32_t x2apic_ldr(uint32_t id)
{
	return (id >> 4) << 16 | BIT(id & 0xf);
}

/* Registers after INIT or power-up (11.4.7.1); base MSR and ID are not touched. */
static void reset_regs(struct lapic *l)
{
	for (int i = 0; i < 8; i++) {
		atomic_store(&l->irr[i], 0);
		atomic_store(&l->isr[i], 0);
		atomic_store(&l->tmr[i], 0);
	}
	for (int i = 0; i < LVT_COUNT; i++)
		atomic_store(&l->lvt[i], LVT_MASKED);
	atomic_store(&l->tpr, 0);
	atomic_store(&l->ldr, lapic_x2apic(l) ? x2apic_ldr(l->id) : 0);
	atomic_store(&l->dfr, 0xffffffff);
	atomic_store(&l->svr, 0xff);
	atomic_store(&l->esr_pending, 0);
	atomic_store(&l->extint_msg, 0);
	l->esr = l->icr = l->icr_hi = 0;
	lapic_timer_stop(l);
	l->tmict = l->tdcr = 0;
	l->start_ns = l->due_ns = 0;
}

static void power_up(struct lapic *l)
{
	atomic_store(&l->base, LAPIC_DEFAULT_BASE | APIC_BASE_EN | (l->id == 0 ? APIC_BASE_BSP : 0));
	atomic_store(&l->xid, l->id);
	if (l->v)
		atomic_store(&l->v->nmis, 0);
	reset_regs(l);
	if (l->id == 0 && l->set->cfg.virtual_wire) {
		atomic_store(&l->svr, 0x1ff);
		atomic_store(&l->lvt[LVT_LINT0], DM_EXTINT << 8);
		atomic_store(&l->lvt[LVT_LINT1], DM_NMI << 8);
	}
}

void lapics_power_up(struct lapics *s, unsigned id)
{
	if (id < s->n)
		power_up(&s->chip[id]);
}

static void lapics_reset(struct dev *d)
{
	struct lapics *s = container_of(d, struct lapics, dev);

	for (unsigned i = 0; i < s->n; i++)
		power_up(&s->chip[i]);
}

static void lapics_resume(struct dev *d)
{
	struct lapics *s = container_of(d, struct lapics, dev);

	for (unsigned i = 0; i < s->n; i++) {
		lapic_timer_rearm(&s->chip[i]);
		lapic_recheck(&s->chip[i]);
	}
}

static int lapics_save(struct dev *d, struct snap_out *o)
{
	struct lapics *s = container_of(d, struct lapics, dev);
	int ret = snap_put(o, d->id, &lines_table, s);
	char id[32];

	for (unsigned i = 0; !ret && i < s->n; i++) {
		snprintf(id, sizeof(id), "lapic.%u", i);
		ret = snap_put(o, id, &lapic_table, &s->chip[i]);
	}
	return ret;
}

/* The stream is foreign: force what the rest of the code relies on. */
static int sanitize(struct lapic *l, struct err *e)
{
	uint64_t base = atomic_load(&l->base);

	if (base & APIC_BASE_EXTD && !(base & APIC_BASE_EN))
		return err_set(e, -EINVAL, "saved local APIC %u: base 0x%llx is no valid mode", l->id,
			       (unsigned long long)base);
	if (l->running) {
		unsigned mode = LVT_TIMER_MODE(atomic_load(&l->lvt[LVT_TIMER]));

		if ((mode == TIMER_DEADLINE ? !l->tsc_deadline : !l->tmict) ||
		    l->start_ns < -INT64_MAX / 4 || l->start_ns > INT64_MAX / 4 || l->due_ns < 0)
			return err_set(e, -EINVAL, "saved local APIC %u: timer state makes no sense", l->id);
		l->running = 1;
	}
	atomic_store(&l->irr[0], atomic_load(&l->irr[0]) & 0xffff0000);
	atomic_store(&l->isr[0], atomic_load(&l->isr[0]) & 0xffff0000);
	l->tdcr &= 0xb;
	atomic_store(&l->xid, atomic_load(&l->xid) & 0xff);
	return 0;
}

static int lapics_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct lapics *s = container_of(d, struct lapics, dev);
	int ret = snap_get(in, d->id, &lines_table, s, e);
	char id[32];

	for (unsigned i = 0; !ret && i < s->n; i++) {
		lapic_timer_stop(&s->chip[i]);
		snprintf(id, sizeof(id), "lapic.%u", i);
		ret = snap_get(in, id, &lapic_table, &s->chip[i], e);
		if (!ret)
			ret = sanitize(&s->chip[i], e);
	}
	return ret;
}

static void lapics_free(struct dev *d)
{
	struct lapics *s = container_of(d, struct lapics, dev);

	for (unsigned i = 0; i < s->n; i++)
		lapic_timer_fini(&s->chip[i]);		/* the vCPUs are gone already */
	dev_del(d);
	free(s);
}

static const struct dev_ops lapics_dev_ops = {
	.name = "lapic",
	.reset = lapics_reset,
	.resume = lapics_resume,
	.save = lapics_save,
	.load = lapics_load,
	.free = lapics_free,
};

int lapics_new(struct machine *m, const struct lapics_config *cfg, struct lapics **out)
{
	struct lapics *s;

	if (!cfg->n || cfg->n > MACHINE_MAX_VCPUS)
		return -EINVAL;
	s = calloc(1, sizeof(*s) + cfg->n * sizeof(s->chip[0]));
	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	if (!s->cfg.phys_bits || s->cfg.phys_bits > 52)
		s->cfg.phys_bits = 52;
	s->n = cfg->n;
	dev_add(m, &s->dev, &lapics_dev_ops, "pc.lapic");
	for (unsigned i = 0; i < s->n; i++) {
		s->chip[i].set = s;
		s->chip[i].id = i;
		lapic_timer_init(&s->chip[i]);
		power_up(&s->chip[i]);
	}
	*out = s;
	return 0;
}

bool lapics_enabled(const struct lapics *s, unsigned id)
{
	return id < s->n && lapic_hw_enabled(&s->chip[id]);
}

static uint8_t get_tpr(void *opaque)
{
	const struct lapic *l = opaque;

	return (uint8_t)(atomic_load_explicit(&l->tpr, memory_order_relaxed) >> 4);
}

static void set_tpr(void *opaque, uint8_t cr8)
{
	struct lapic *l = opaque;
	uint32_t old = atomic_load_explicit(&l->tpr, memory_order_relaxed);
	uint32_t tpr = (uint32_t)(cr8 & 0xf) << 4;

	atomic_store_explicit(&l->tpr, tpr, memory_order_relaxed);
	if (tpr < old)
		lapic_recheck(l);
}

static uint64_t get_base(void *opaque)
{
	const struct lapic *l = opaque;

	return atomic_load_explicit(&l->base, memory_order_relaxed);
}

/* The modes and the ways between them: 11.12.5, figure 11-27. */
static bool transition_allowed(uint64_t from, uint64_t to)
{
	bool en = to & APIC_BASE_EN, x2 = to & APIC_BASE_EXTD;

	if (x2 && !en)
		return false;
	if (x2 && !(from & APIC_BASE_EN))
		return false;			/* disabled -> x2APIC */
	if (en && !x2 && from & APIC_BASE_EXTD)
		return false;			/* x2APIC -> xAPIC */
	return true;
}

static int set_base(void *opaque, uint64_t val)
{
	struct lapic *l = opaque;
	uint64_t old = atomic_load(&l->base);
	uint64_t allowed = (BIT64(l->set->cfg.phys_bits) - 1) & ~0xfffull;
	uint32_t tpr;

	allowed |= APIC_BASE_BSP | APIC_BASE_EN | (l->set->cfg.no_x2apic ? 0 : APIC_BASE_EXTD);
	if (val & ~allowed || !transition_allowed(old, val))
		return -EINVAL;
	atomic_store(&l->base, val);
	if (old & APIC_BASE_EN && !(val & APIC_BASE_EN)) {
		/* The state may be lost (11.4.3); CR8 lives on in the CPU. */
		tpr = atomic_load(&l->tpr);
		reset_regs(l);
		atomic_store(&l->tpr, tpr);
		atomic_store(&l->xid, l->id);
	} else if (val & APIC_BASE_EXTD && !(old & APIC_BASE_EXTD)) {
		l->icr_hi = 0;
		atomic_store(&l->xid, l->id);
		atomic_store(&l->ldr, x2apic_ldr(l->id));
	}
	lapic_recheck(l);
	return 0;
}

static void intc_init(void *opaque)
{
	reset_regs(opaque);
}

static const struct vcpu_intc_ops lapic_intc_ops = {
	.pending = lapic_pending,
	.ack = lapic_ack,
	.get_tpr = get_tpr,
	.set_tpr = set_tpr,
	.get_base = get_base,
	.set_base = set_base,
	.msr_read = lapic_msr_read,
	.msr_write = lapic_msr_write,
	.mmio_read = lapic_mmio_read,
	.mmio_write = lapic_mmio_write,
	.init = intc_init,
};

void lapics_attach(struct lapics *s, struct vcpu *v)
{
	if (v->id >= s->n)
		return;
	s->chip[v->id].v = v;
	v->intc = &lapic_intc_ops;
	v->intc_opaque = &s->chip[v->id];
}
