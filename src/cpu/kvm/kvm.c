// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The KVM engine: guest instructions run on the host's virtualization hardware
 * (Documentation/virt/kvm/api.rst).
 *
 * Interrupt chips are the kernel's: all of them, or with split_irqchip only the
 * local APICs.  Doorbells become ioeventfds, so a guest's kick does not stop its
 * vCPU; messages bound to eventfds become irqfds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "cpu/kvm/priv.h"

#define MSR_TSC 0x10
#define MSR_TSC_ADJUST 0x3b

/* Where Intel CPUs without unrestricted guest mode keep three TSS pages and an
 * identity map: below the 64 KiB under 4 GiB that belong to firmware. */
#define IDENTITY_MAP 0xfeffc000ull
#define TSS_PAGES 0xfeffd000ull

static void doorbell(struct kvm_engine *e, const struct bus_doorbell *d, bool add, uint32_t flags)
{
	struct kvm_ioeventfd io = {
		.addr = d->addr,
		.len = d->len,
		.fd = d->fd,
		.datamatch = d->value,
		.flags = flags | (d->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	/* If the kernel has no room, the write arrives as an exit and the bus
	 * rings the bell: slower, not wrong. */
	if (ioctl(e->vm, KVM_IOEVENTFD, &io) < 0 && add)
		log_debug("kvm: ioeventfd at 0x%llx: %s", (unsigned long long)d->addr, strerror(errno));
}

static void mmio_doorbell(void *opaque, const struct bus_doorbell *d, bool add)
{
	doorbell(opaque, d, add, 0);
}

static void pio_doorbell(void *opaque, const struct bus_doorbell *d, bool add)
{
	doorbell(opaque, d, add, KVM_IOEVENTFD_FLAG_PIO);
}

static void listen(struct kvm_engine *e)
{
	const struct bus_doorbell_listener mmio = { mmio_doorbell, e }, pio = { pio_doorbell, e };

	kvm_mem_init(e);
	bus_doorbell_listen(e->base.m->mmio, &mmio);
	bus_doorbell_listen(e->base.m->pio, &pio);
}

static int need(struct kvm_engine *e, int cap, const char *name, struct err *err)
{
	if (ioctl(e->kvm, KVM_CHECK_EXTENSION, cap) > 0)
		return 0;
	return err_set(err, -ENOTSUP, "KVM: this kernel lacks %s", name);
}

static int check_caps(struct kvm_engine *e, struct err *err)
{
	int max = ioctl(e->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), n, r;

	r = need(e, KVM_CAP_USER_MEMORY, "user memory slots", err);
	if (r == 0)
		r = need(e, KVM_CAP_IRQCHIP, "in-kernel interrupt chips", err);
	if (r == 0)
		r = need(e, KVM_CAP_SIGNAL_MSI, "message-signalled interrupts", err);
	if (r == 0)
		r = need(e, KVM_CAP_IMMEDIATE_EXIT, "immediate_exit (Linux 4.12)", err);
	if (r == 0 && e->split)
		r = need(e, KVM_CAP_SPLIT_IRQCHIP, "the split interrupt chip", err);
	if (r == 0 && (int)e->n_vcpus > max && max > 0)
		r = err_set(err, -EINVAL, "KVM: %u vCPUs asked for, this kernel runs %d at most", e->n_vcpus, max);
	e->xsave_size = sizeof(struct kvm_xsave);
	n = ioctl(e->kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	if (n > (int)e->xsave_size) {
		e->xsave_size = (unsigned)n;
		e->has_xsave2 = true;
	}
	return r;
}

static int create_vm(struct kvm_engine *e, struct err *err)
{
	uint64_t identity = IDENTITY_MAP;
	int size;

	do
		e->vm = ioctl(e->kvm, KVM_CREATE_VM, 0);
	while (e->vm < 0 && errno == EINTR);
	if (e->vm < 0)
		return err_set(err, -errno, "KVM: no VM could be created: %s%s", strerror(errno),
			       errno == EBUSY ? " (another hypervisor uses VT-x or AMD-V)" : "");
	size = ioctl(e->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return err_set(err, -EIO, "KVM: the kernel reports a vCPU area of %d bytes", size);
	e->run_size = (unsigned)size;
	ioctl(e->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (ioctl(e->vm, KVM_SET_TSS_ADDR, TSS_PAGES) < 0)
		return err_set(err, -errno, "KVM: KVM_SET_TSS_ADDR: %s", strerror(errno));
	return 0;
}

static void kvm_free(struct cpu_engine *base)
{
	struct kvm_engine *e = kvm_of(base);
	struct machine *m = base->m;

	kvm_mem_fini(e);
	bus_doorbell_unlisten(m->mmio, e);
	bus_doorbell_unlisten(m->pio, e);
	dev_del(&e->lapics);
	dev_del(&e->pic);
	dev_del(&e->ioapic);
	for (unsigned i = 0; i < MACHINE_MAX_VCPUS; i++) {
		if (m->vcpus[i] && kvm_vcpu_of(m->vcpus[i])->e == e) {
			kvm_vcpu_free(kvm_vcpu_of(m->vcpus[i]));
			m->vcpus[i] = NULL;
		}
	}
	if (e->vm >= 0)
		close(e->vm);
	if (e->kvm >= 0)
		close(e->kvm);
	pthread_mutex_destroy(&e->lock);
	free(e->msr_list);
	free(e);
}

static int open_dev(struct kvm_engine *e, struct err *err)
{
	char why[256], cure[256];

	e->kvm = kvm_open(why, sizeof(why), cure, sizeof(cure));
	if (e->kvm < 0)
		return err_set(err, e->kvm, "KVM: %s%s%s", why, *cure ? "; " : "", cure);
	return 0;
}

static int kvm_init(struct machine *m, const struct cpu_engine_config *cfg, struct cpu_engine **out,
		    struct err *err)
{
	struct kvm_engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	e->base.ops = &cpu_engine_kvm;
	e->base.m = m;
	e->kvm = e->vm = -1;
	e->split = cfg->split_irqchip;
	e->n_vcpus = cfg->n_vcpus;
	e->has_pic = !cfg->no_pic;
	if (cfg->model) {
		e->model = *cfg->model;
		e->has_model = true;
	}
	pthread_mutex_init(&e->lock, NULL);
	list_init(&e->mem.node);
	r = open_dev(e, err);
	if (r == 0)
		r = check_caps(e, err);
	if (r == 0)
		r = create_vm(e, err);
	if (r == 0)
		r = kvm_irq_init(e, err);
	if (r == 0)
		r = kvm_state_init(e);
	if (r == 0)
		r = kvm_kick_signal_install();
	if (r < 0) {
		kvm_free(&e->base);
		return r;
	}
	listen(e);
	*out = &e->base;
	return 0;
}

static bool has_irqchip(struct cpu_engine *e)
{
	return !kvm_of(e)->split;
}

static bool has_lapic(struct cpu_engine *e)
{
	return true;
}

/* The TSC of each vCPU goes by its own offset, which is what the guest added by itself. */
static int tsc_msr(struct cpu_engine *e, unsigned i, uint32_t index, uint64_t *v, bool set)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = { .head.nmsrs = 1, .entry = { .index = index, .data = *v } };

	if (ioctl(kvm_vcpu_of(e->m->vcpus[i])->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &m) != 1)
		return -EIO;
	*v = m.entry.data;
	return 0;
}

static int clock_get(struct cpu_engine *e, struct engine_clock *t)
{
	struct kvm_clock_data c = { 0 };
	uint64_t adjust = 0;
	int r;

	if (ioctl(kvm_of(e)->vm, KVM_GET_CLOCK, &c) < 0)
		return -errno;
	t->ns = c.clock;
	t->tsc = 0;
	r = tsc_msr(e, 0, MSR_TSC, &t->tsc, false);
	if (!r && !tsc_msr(e, 0, MSR_TSC_ADJUST, &adjust, false))
		t->tsc -= adjust;
	return r;
}

/* Also tells guests that look for it that they were stopped (no soft lockup report). */
static int clock_restore(struct cpu_engine *e, const struct engine_clock *t)
{
	struct kvm_clock_data c = { .clock = t->ns };

	for (unsigned i = 0; i < kvm_of(e)->n_vcpus; i++) {
		uint64_t adjust = 0, tsc;

		if (!e->m->vcpus[i])
			continue;
		tsc_msr(e, i, MSR_TSC_ADJUST, &adjust, false);
		tsc = t->tsc + adjust;
		if (tsc_msr(e, i, MSR_TSC, &tsc, true))
			return -EIO;
		kvm_lapic_deadline(e->m->vcpus[i]);
	}
	if (ioctl(kvm_of(e)->vm, KVM_SET_CLOCK, &c) < 0)
		return -errno;
	for (unsigned i = 0; i < kvm_of(e)->n_vcpus; i++)
		if (e->m->vcpus[i])
			ioctl(kvm_vcpu_of(e->m->vcpus[i])->fd, KVM_KVMCLOCK_CTRL, 0);
	return 0;
}

static void stats(struct cpu_engine *e, engine_stat_fn fn, void *opaque)
{
	struct kvm_engine *k = kvm_of(e);

	fn(opaque, "kvm.exits", k->n_exits);
	fn(opaque, "kvm.port_io", k->n_io);
	fn(opaque, "kvm.mmio", k->n_mmio);
	fn(opaque, "kvm.interrupted", k->n_kicks);
}

const struct cpu_engine_ops cpu_engine_kvm = {
	.name = "kvm",
	.probe = kvm_probe,
	.limits = kvm_limits,
	.init = kvm_init,
	.free = kvm_free,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_thread_init = kvm_vcpu_thread_init,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_power_on = kvm_vcpu_power_on,
	.state_get = kvm_state_get,
	.state_set = kvm_state_set,
	.debug = kvm_debug,
	.debug_stop = kvm_debug_stop,
	.has_irqchip = has_irqchip,
	.has_lapic = has_lapic,
	.irq_line = kvm_irq_line,
	.msi = kvm_msi,
	.msi_fd = kvm_msi_fd,
	.extint = kvm_extint,
	.ioapic_route = kvm_ioapic_route,
	.clock_get = clock_get,
	.clock_set = clock_restore,
	.stats = stats,
	.report = kvm_vcpu_report,
};
