// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Interrupts: in-kernel chips, routes, irqfds.
 *
 * GSI n, 0..23, is an I/O APIC input (0 goes to pin 2, as the MADT says) and
 * below 16 an 8259 input too.  GSIs from 24 on are messages bound to eventfds.
 * Split: GSIs 0..23 are the messages the user-space I/O APIC sends; the kernel
 * learns from them which vectors' EOIs to report.
 *
 * The in-kernel chips appear to the machine as devices with the names and the
 * saved state of chipset/'s (chips.h), so that a guest goes on with either.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "cpu/kvm/chips.h"
#include "cpu/kvm/priv.h"

#define CHIP_IOAPIC 2
#define MSR_TSC_DEADLINE 0x6e0

_Static_assert(KVM_IRQ_LINE == 0x4008ae61 && KVM_SIGNAL_MSI == 0x4020aea5 && KVM_GET_DIRTY_LOG == 0x4010ae42 &&
		       KVM_SET_USER_MEMORY_REGION == 0x4020ae46, "what base/confine_list.c allows to all threads");

#define TABLE_SIZE (KVM_MAX_ROUTES + 16)	/* the 8259 pair has entries of its own */

static void add_chip(struct kvm_irq_routing *t, unsigned gsi, unsigned chip, unsigned pin)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static void add_msi(struct kvm_irq_routing *t, unsigned gsi, const struct msi *msg)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = (uint32_t)msg->addr,
			   .address_hi = (uint32_t)(msg->addr >> 32),
			   .data = msg->data },
	};
}

static void add_pins(const struct kvm_engine *e, struct kvm_irq_routing *t)
{
	for (unsigned gsi = 0; gsi < KVM_GSI_PINS; gsi++) {
		if (e->split) {
			if (e->pin[gsi].on)
				add_msi(t, gsi, &e->pin[gsi].msg);
			continue;
		}
		if (gsi < 16 && gsi != 2)
			add_chip(t, gsi, gsi / 8, gsi % 8);
		if (gsi != 2)
			add_chip(t, gsi, CHIP_IOAPIC, gsi ? gsi : 2);
	}
}

/* Gives the kernel the whole table anew.  e->lock held. */
static int set_routes(struct kvm_engine *e)
{
	struct kvm_irq_routing *t = calloc(1, sizeof(*t) + TABLE_SIZE * sizeof(t->entries[0]));
	int r;

	if (!t)
		return -ENOMEM;
	add_pins(e, t);
	for (unsigned i = 0; i < ARRAY_LEN(e->route); i++)
		if (e->route[i].used)
			add_msi(t, KVM_GSI_PINS + i, &e->route[i].msg);
	r = ioctl(e->vm, KVM_SET_GSI_ROUTING, t) < 0 ? -errno : 0;
	free(t);
	return r;
}

int kvm_irq_line(struct cpu_engine *base, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	if (kvm_of(base)->split)
		return -ENOTSUP;
	return ioctl(kvm_of(base)->vm, KVM_IRQ_LINE, &l) < 0 ? -errno : 0;
}

int kvm_msi(struct cpu_engine *base, const struct msi *msg)
{
	struct kvm_msi m = {
		.address_lo = (uint32_t)msg->addr,
		.address_hi = (uint32_t)(msg->addr >> 32),
		.data = msg->data,
	};

	return ioctl(kvm_of(base)->vm, KVM_SIGNAL_MSI, &m) < 0 ? -errno : 0;
}

static int irqfd(struct kvm_engine *e, int fd, unsigned gsi, bool add)
{
	struct kvm_irqfd f = { .fd = (uint32_t)fd, .gsi = gsi, .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return ioctl(e->vm, KVM_IRQFD, &f) < 0 ? -errno : 0;
}

static int add_route(struct kvm_engine *e, int fd, const struct msi *msg)
{
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(e->route); i++) {
		if (e->route[i].used)
			continue;
		e->route[i] = (struct kvm_msi_route){ .used = true, .fd = fd, .msg = *msg };
		r = set_routes(e);
		if (r == 0)
			r = irqfd(e, fd, KVM_GSI_PINS + i, true);
		e->route[i].used = r == 0;
		return r;
	}
	return -ENOSPC;
}

static int del_route(struct kvm_engine *e, int fd)
{
	for (unsigned i = 0; i < ARRAY_LEN(e->route); i++) {
		if (!e->route[i].used || e->route[i].fd != fd)
			continue;
		e->route[i].used = false;
		return irqfd(e, fd, KVM_GSI_PINS + i, false);
	}
	return -ENOENT;
}

int kvm_msi_fd(struct cpu_engine *base, int fd, const struct msi *msg, bool add)
{
	struct kvm_engine *e = kvm_of(base);
	int r;

	pthread_mutex_lock(&e->lock);
	r = add ? add_route(e, fd, msg) : del_route(e, fd);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int kvm_extint(struct cpu_engine *base, bool level)
{
	struct kvm_engine *e = kvm_of(base);

	if (!e->split)
		return -ENOTSUP;
	e->extint = level;
	if (level && base->m->vcpus[0])
		vcpu_raise(base->m->vcpus[0], VCPU_EV_INTR);
	return 0;
}

/* A masked pin keeps its route: a level interrupt may still be in service. */
int kvm_ioapic_route(struct cpu_engine *base, unsigned pin, const struct msi *msg, bool masked)
{
	struct kvm_engine *e = kvm_of(base);
	int r = 0;

	if (!e->split || pin >= KVM_GSI_PINS)
		return -ENOTSUP;
	pthread_mutex_lock(&e->lock);
	if (!masked && (!e->pin[pin].on || e->pin[pin].msg.addr != msg->addr ||
			e->pin[pin].msg.data != msg->data)) {
		e->pin[pin].on = true;
		e->pin[pin].msg.addr = msg->addr;
		e->pin[pin].msg.data = msg->data;
		r = set_routes(e);
	}
	pthread_mutex_unlock(&e->lock);
	return r;
}

/* --- the chips as a device --- */

/* Power-on: 8259s uninitialised, every I/O APIC input masked. */
static void reset_chips(struct kvm_engine *e)
{
	struct kvm_irqchip chip;

	for (unsigned i = 0; i < 3; i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = i;
		chip.chip.pic.elcr_mask = i == 0 ? 0xf8 : 0xde;
		if (i == CHIP_IOAPIC) {
			memset(&chip.chip, 0, sizeof(chip.chip));
			chip.chip.ioapic.base_address = 0xfec00000;
			for (unsigned p = 0; p < KVM_IOAPIC_NUM_PINS; p++)
				chip.chip.ioapic.redirtbl[p].fields.mask = 1;
		}
		ioctl(e->vm, KVM_SET_IRQCHIP, &chip);
	}
}

/* SDM vol. 3, 11.4.7.1.  The boot processor's LINT0 is ExtINT, as a BIOS leaves
 * it, so that an OS without I/O APIC support hears the 8259. */
static void reset_lapic(struct kvm_vcpu *k)
{
	struct kvm_lapic_state s = { 0 };
	const unsigned lvt[] = { 0x320, 0x330, 0x340, 0x350, 0x360, 0x370 };

	st_le32(s.regs + 0x20, k->v.id << 24);
	st_le32(s.regs + 0x30, 0x00050014);
	st_le32(s.regs + 0xe0, 0xffffffff);
	st_le32(s.regs + 0xf0, 0xff);
	for (unsigned i = 0; i < ARRAY_LEN(lvt); i++)
		st_le32(s.regs + lvt[i], 0x10000);
	if (k->v.id == 0)
		st_le32(s.regs + 0x350, 0x700);
	ioctl(k->fd, KVM_SET_LAPIC, &s);
}

/* Besides its registers: INIT and SIPI that came while nobody was there. */
void kvm_vcpu_power_on(struct vcpu *v)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);
	struct kvm_vcpu_events ev;

	reset_lapic(k);
	if (ioctl(k->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
		return;
	ev.smi.latched_init = ev.smi.pending = ev.nmi.pending = ev.exception.injected = ev.interrupt.injected = 0;
	ev.flags |= KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_NMI_PENDING;
	ioctl(k->fd, KVM_SET_VCPU_EVENTS, &ev);
}

static struct kvm_engine *of_lapics(struct dev *d) { return container_of(d, struct kvm_engine, lapics); }
static struct kvm_engine *of_pic(struct dev *d) { return container_of(d, struct kvm_engine, pic); }
static struct kvm_engine *of_ioapic(struct dev *d) { return container_of(d, struct kvm_engine, ioapic); }

static void lapics_reset(struct dev *d)
{
	struct kvm_engine *e = of_lapics(d);

	e->extint = false;
	for (unsigned i = 0; i < e->n_vcpus; i++)
		if (d->m->vcpus[i])
			reset_lapic(kvm_vcpu_of(d->m->vcpus[i]));
}

static void ioapic_reset(struct dev *d)
{
	reset_chips(of_ioapic(d));
}

static int deadline_msr(struct kvm_vcpu *k, uint64_t *v, bool set)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = MSR_TSC_DEADLINE, .data = *v } };

	if (ioctl(k->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &m) != 1)
		return -EIO;
	*v = m.entry.data;
	return 0;
}

void kvm_lapic_deadline(struct vcpu *v)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);

	if (k->deadline_loaded)
		deadline_msr(k, &k->deadline, true);
	k->deadline_loaded = false;
}

static int save_lapic(struct dev *d, struct kvm_vcpu *k, struct snap_out *o)
{
	struct kvm_lapic_state regs;
	struct kvm_saved_lapic s;
	struct kvm_sregs sregs;
	uint64_t deadline = 0;
	char id[32];

	if (ioctl(k->fd, KVM_GET_LAPIC, &regs) < 0 || ioctl(k->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	deadline_msr(k, &deadline, false);
	kvm_lapic_to_saved(&regs, sregs.apic_base, deadline, clock_now(d->m->clock), &s);
	snprintf(id, sizeof(id), "lapic.%u", k->v.id);
	return snap_put(o, id, &kvm_lapic_table, &s);
}

static int lapics_save(struct dev *d, struct snap_out *o)
{
	const struct kvm_saved_lines lines = { .intr = 0 };
	int r = snap_put(o, d->id, &kvm_lines_table, &lines);

	for (unsigned i = 0; i < of_lapics(d)->n_vcpus && r == 0; i++)
		r = d->m->vcpus[i] ? save_lapic(d, kvm_vcpu_of(d->m->vcpus[i]), o) : -ENODEV;
	return r;
}

static int load_lapic(struct dev *d, struct kvm_vcpu *k, struct snap_in *in, struct err *err)
{
	struct kvm_lapic_state regs;
	struct kvm_saved_lapic s = { .base = 0 };
	char id[32];
	int r;

	snprintf(id, sizeof(id), "lapic.%u", k->v.id);
	r = snap_get(in, id, &kvm_lapic_table, &s, err);
	if (r)
		return r;
	if (ioctl(k->fd, KVM_GET_LAPIC, &regs) < 0)
		return err_set(err, -errno, "KVM_GET_LAPIC: %s", strerror(errno));
	r = kvm_lapic_of_saved(&regs, &s, k->v.id, clock_now(d->m->clock), !k->e->split, err);
	if (r == 0 && ioctl(k->fd, KVM_SET_LAPIC, &regs) < 0)
		r = err_set(err, -errno, "saved state: KVM refused the local APIC of vCPU %u", k->v.id);
	k->deadline = s.tsc_deadline;
	k->deadline_loaded = true;
	return r;
}

static int lapics_load(struct dev *d, struct snap_in *in, struct err *err)
{
	struct kvm_saved_lines lines;
	int r = snap_get(in, d->id, &kvm_lines_table, &lines, err);

	for (unsigned i = 0; i < of_lapics(d)->n_vcpus && r == 0; i++)
		r = d->m->vcpus[i] ? load_lapic(d, kvm_vcpu_of(d->m->vcpus[i]), in, err) : -ENODEV;
	return r;
}

static const char *const pic_ids[] = { "pc.i8259.master", "pc.i8259.slave" };

static int pic_save(struct dev *d, struct snap_out *o)
{
	struct kvm_irqchip chip;
	struct kvm_saved_pic s;
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = i;
		if (ioctl(of_pic(d)->vm, KVM_GET_IRQCHIP, &chip) < 0)
			return -errno;
		kvm_pic_to_saved(&chip.chip.pic, &s);
		r = snap_put(o, pic_ids[i], &kvm_pic_table, &s);
	}
	return r;
}

static int pic_load(struct dev *d, struct snap_in *in, struct err *err)
{
	struct kvm_irqchip chip;
	struct kvm_saved_pic s;
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		memset(&s, 0, sizeof(s));
		memset(&chip, 0, sizeof(chip));
		r = snap_get(in, pic_ids[i], &kvm_pic_table, &s, err);
		chip.chip_id = i;
		kvm_pic_of_saved(&chip.chip.pic, &s, i == 0);
		if (r == 0 && ioctl(of_pic(d)->vm, KVM_SET_IRQCHIP, &chip) < 0)
			r = err_set(err, -errno, "saved state: KVM refused an 8259");
	}
	return r;
}

static int ioapic_save(struct dev *d, struct snap_out *o)
{
	struct kvm_irqchip chip = { .chip_id = CHIP_IOAPIC };
	struct kvm_saved_ioapic s;

	if (ioctl(of_ioapic(d)->vm, KVM_GET_IRQCHIP, &chip) < 0)
		return -errno;
	kvm_ioapic_to_saved(&chip.chip.ioapic, &s);
	return snap_put(o, d->id, &kvm_ioapic_table, &s);
}

static int ioapic_load(struct dev *d, struct snap_in *in, struct err *err)
{
	struct kvm_irqchip chip = { .chip_id = CHIP_IOAPIC };
	struct kvm_saved_ioapic s = { .lines = 0 };
	int r = snap_get(in, d->id, &kvm_ioapic_table, &s, err);

	kvm_ioapic_of_saved(&chip.chip.ioapic, &s);
	if (r == 0 && ioctl(of_ioapic(d)->vm, KVM_SET_IRQCHIP, &chip) < 0)
		r = err_set(err, -errno, "saved state: KVM refused the I/O APIC");
	return r;
}

/* The engine owns the structs: nothing to free with the machine's devices. */
static void chip_free(struct dev *d)
{
	dev_del(d);
}

static const struct dev_ops lapics_ops = {
	.name = "kvm-lapic", .reset = lapics_reset, .save = lapics_save, .load = lapics_load, .free = chip_free,
};
static const struct dev_ops pic_ops = { .name = "kvm-i8259", .save = pic_save, .load = pic_load, .free = chip_free };
static const struct dev_ops ioapic_ops = {
	.name = "kvm-ioapic", .reset = ioapic_reset, .save = ioapic_save, .load = ioapic_load, .free = chip_free,
};

static int create_chips(struct kvm_engine *e)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { KVM_GSI_PINS } };

	if (e->split)
		return ioctl(e->vm, KVM_ENABLE_CAP, &cap) < 0 ? -errno : 0;
	return ioctl(e->vm, KVM_CREATE_IRQCHIP, 0) < 0 ? -errno : 0;
}

int kvm_irq_init(struct kvm_engine *e, struct err *err)
{
	int r = create_chips(e);

	if (r == 0)
		r = set_routes(e);
	if (r < 0)
		return err_set(err, r, "KVM: the interrupt chips could not be created: %s", strerror(-r));
	/* As and where the platform would add its own. */
	dev_add(e->base.m, &e->lapics, &lapics_ops, "pc.lapic");
	if (!e->split && e->has_pic)
		dev_add(e->base.m, &e->pic, &pic_ops, "pc.i8259");
	if (!e->split)
		dev_add(e->base.m, &e->ioapic, &ioapic_ops, "pc.i82093aa");
	return 0;
}
