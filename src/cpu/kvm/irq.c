// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Interrupts: in-kernel chips, routes, irqfds.
 *
 * GSI n, 0..23, is an I/O APIC input (0 goes to pin 2, as the MADT says) and
 * below 16 an 8259 input too.  GSIs from 24 on are messages bound to eventfds.
 * Split: GSIs 0..23 are the messages the user-space I/O APIC sends; the kernel
 * learns from them which vectors' EOIs to report.
 *
 * The in-kernel chips appear to the machine as one device, so that its reset
 * and (with them) saved state include them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "cpu/kvm/priv.h"

#define CHIP_IOAPIC 2

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

static struct kvm_engine *of_chips(struct dev *d)
{
	return container_of(d, struct kvm_engine, chips);
}

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

static void chips_reset(struct dev *d)
{
	struct kvm_engine *e = of_chips(d);

	if (!e->split)
		reset_chips(e);
	e->extint = false;
	for (unsigned i = 0; i < e->n_vcpus; i++)
		if (d->m->vcpus[i])
			reset_lapic(kvm_vcpu_of(d->m->vcpus[i]));
}

static int chips_save(struct dev *d, struct snap_out *o)
{
	struct kvm_engine *e = of_chips(d);
	struct kvm_lapic_state lapic;
	struct kvm_irqchip chip;
	int r = 0;

	for (unsigned i = 0; i < 3 && !e->split && r == 0; i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = i;
		r = ioctl(e->vm, KVM_GET_IRQCHIP, &chip) < 0 ? -errno : 0;
		if (r == 0)
			r = snap_put_blob(o, "kvm.irqchip", &chip, sizeof(chip));
	}
	for (unsigned i = 0; i < e->n_vcpus && r == 0; i++) {
		if (!d->m->vcpus[i])
			continue;
		r = ioctl(kvm_vcpu_of(d->m->vcpus[i])->fd, KVM_GET_LAPIC, &lapic) < 0 ? -errno : 0;
		if (r == 0)
			r = snap_put_blob(o, "kvm.lapic", &lapic, sizeof(lapic));
	}
	return r;
}

static int load_blob(struct snap_in *in, const char *id, void *p, uint32_t size, struct err *err)
{
	uint32_t len;
	int r = snap_get_blob(in, id, p, size, &len, err);

	if (r == 0 && len != size)
		return err_set(err, -EPROTO, "saved state: %s has %u bytes instead of %u", id, len, size);
	return r;
}

static int chips_load(struct dev *d, struct snap_in *in, struct err *err)
{
	struct kvm_engine *e = of_chips(d);
	struct kvm_lapic_state lapic;
	struct kvm_irqchip chip;
	int r = 0;

	for (unsigned i = 0; i < 3 && !e->split && r == 0; i++) {
		r = load_blob(in, "kvm.irqchip", &chip, sizeof(chip), err);
		chip.chip_id = i;
		if (r == 0 && ioctl(e->vm, KVM_SET_IRQCHIP, &chip) < 0)
			r = err_set(err, -errno, "saved state: KVM refused interrupt chip %u", i);
	}
	for (unsigned i = 0; i < e->n_vcpus && r == 0; i++) {
		if (!d->m->vcpus[i])
			continue;
		r = load_blob(in, "kvm.lapic", &lapic, sizeof(lapic), err);
		if (r == 0 && ioctl(kvm_vcpu_of(d->m->vcpus[i])->fd, KVM_SET_LAPIC, &lapic) < 0)
			r = err_set(err, -errno, "saved state: KVM refused the local APIC of vCPU %u", i);
	}
	return r;
}

/* The engine owns the struct: nothing to free with the machine's devices. */
static void chips_free(struct dev *d)
{
	of_chips(d)->chips_added = false;
	dev_del(d);
}

static const struct dev_ops chips_ops = {
	.name = "kvm-irqchip",
	.reset = chips_reset,
	.save = chips_save,
	.load = chips_load,
	.free = chips_free,
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
	dev_add(e->base.m, &e->chips, &chips_ops, "kvm.irqchip");
	e->chips_added = true;
	return 0;
}
