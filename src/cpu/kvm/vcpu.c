// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A vCPU: its thread sits in KVM_RUN and comes out for accesses to devices and
 * for events.
 *
 * Leaving KVM_RUN without a race: whoever wants the thread sets immediate_exit
 * and sends a signal; the thread clears immediate_exit, then looks at the
 * events, then enters.  An event raised after the look finds immediate_exit
 * clear, sets it, and KVM_RUN returns at once (pairs: kick / run_once).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/kvm/priv.h"

int kvm_kick_signal(void)
{
	return SIGRTMIN + 3;
}

static void on_kick(int sig)
{
}

/* Process-wide, but a handler that does nothing may be installed repeatedly. */
int kvm_kick_signal_install(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigemptyset(&sa.sa_mask);
	return sigaction(kvm_kick_signal(), &sa, NULL) < 0 ? -errno : 0;
}

static void kick(struct vcpu *v)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);

	__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->has_thread && !pthread_equal(v->thread, pthread_self()))
		pthread_kill(v->thread, kvm_kick_signal());
}

int kvm_vcpu_create(struct cpu_engine *base, unsigned id, struct err *err)
{
	struct kvm_engine *e = kvm_of(base);
	struct kvm_vcpu *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	k->e = e;
	k->v.m = base->m;
	k->v.id = id;
	k->v.kick = kick;
	k->run = MAP_FAILED;
	k->fd = ioctl(e->vm, KVM_CREATE_VCPU, id);
	if (k->fd < 0) {
		r = err_set(err, -errno, "KVM: vCPU %u could not be created: %s", id, strerror(errno));
		goto fail;
	}
	k->run = mmap(NULL, e->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (k->run == MAP_FAILED) {
		r = err_set(err, -errno, "KVM: vCPU %u: mmap: %s", id, strerror(errno));
		goto fail;
	}
	r = kvm_set_cpuid(k, err);
	if (r < 0)
		goto fail;
	base->m->vcpus[id] = &k->v;
	return 0;
fail:
	kvm_vcpu_free(k);
	return r;
}

void kvm_vcpu_free(struct kvm_vcpu *k)
{
	if (k->run != MAP_FAILED)
		munmap(k->run, k->e->run_size);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

int kvm_vcpu_thread_init(struct vcpu *v)
{
	char name[16];
	sigset_t set;

	snprintf(name, sizeof(name), "vcpu%u/kvm", v->id & 0xfff);
	pthread_setname_np(pthread_self(), name);
	sigemptyset(&set);
	sigaddset(&set, kvm_kick_signal());
	return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void do_pio(struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;

	k->e->n_io++;
	for (unsigned i = 0; i < run->io.count; i++, p += run->io.size)
		bus_access(k->v.m->pio, run->io.port, p, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
}

static void do_mmio(struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;

	k->e->n_mmio++;
	bus_access(k->v.m->mmio, run->mmio.phys_addr, run->mmio.data, MIN(run->mmio.len, 8u), run->mmio.is_write);
}

static void do_eoi(struct kvm_vcpu *k)
{
	struct machine *m = k->v.m;

	machine_lock(m);
	if (m->ioapic_eoi)
		m->ioapic_eoi(m->ioapic_opaque, k->run->eoi.vector);
	machine_unlock(m);
}

/* Split irqchip: hands over a vector of the user-space 8259, or asks to come
 * back when the guest can take it. */
static void offer_extint(struct kvm_vcpu *k)
{
	struct machine *m = k->v.m;
	struct kvm_interrupt irq;

	k->run->request_interrupt_window = 0;
	if (!k->e->extint)
		return;
	if (!k->run->ready_for_interrupt_injection) {
		k->run->request_interrupt_window = 1;
		return;
	}
	machine_lock(m);
	irq.irq = k->e->extint && m->extint_ack ? m->extint_ack(m->ioapic_opaque) : UINT32_MAX;
	machine_unlock(m);
	if (irq.irq < 256)
		ioctl(k->fd, KVM_INTERRUPT, &irq);
}

/*
 * KVM_RUN, unless slots in use are just being changed, which is waited for.  Who changes them sets `reshaping`, then
 * kicks and waits for in_run; here in_run is set, then `reshaping` looked at, after immediate_exit was cleared.
 */
static int enter(struct kvm_vcpu *k)
{
	int r, err;

	for (;;) {
		atomic_store(&k->in_run, true);
		if (likely(!atomic_load(&k->e->reshaping)))
			break;
		atomic_store(&k->in_run, false);
		pthread_mutex_lock(&k->e->lock);	/* held meanwhile */
		pthread_mutex_unlock(&k->e->lock);
	}
	r = ioctl(k->fd, KVM_RUN, 0);
	err = errno;
	atomic_store_explicit(&k->in_run, false, memory_order_release);
	errno = err;
	return r;
}

/* Finishes a port or MMIO read whose data is still in the run area, so that the
 * state is one between two instructions. */
static void settle(struct kvm_vcpu *k)
{
	__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	enter(k);
}

static int internal_error(struct kvm_vcpu *k)
{
	const struct kvm_run *run = k->run;
	static const char *const what[] = { "", "an instruction KVM cannot emulate", "simultaneous exceptions",
					    "an exit while an event was delivered", "an unexpected exit" };
	unsigned sub = run->internal.suberror, n = 0;
	struct kvm_regs regs = { 0 };
	char bytes[64] = "";

	ioctl(k->fd, KVM_GET_REGS, &regs);
	if (sub == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata > 1 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
		for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15); i++)
			n += (unsigned)snprintf(bytes + n, sizeof(bytes) - n, " %02x", run->emulation_failure.insn_bytes[i]);
	snprintf(k->error, sizeof(k->error), "KVM internal error %u: %s at rip 0x%llx%s%s", sub,
		 sub < ARRAY_LEN(what) ? what[sub] : "unknown", (unsigned long long)regs.rip, *bytes ? ", bytes" : "",
		 bytes);
	return VCPU_STOP_ERROR;
}

/* -1: go on; else enum vcpu_stop. */
static int handle_exit(struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		do_pio(k);
		return -1;
	case KVM_EXIT_MMIO:
		do_mmio(k);
		return -1;
	case KVM_EXIT_IOAPIC_EOI:
		do_eoi(k);
		return -1;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return -1;
	case KVM_EXIT_DEBUG:
		return kvm_debug_exit(k);
	case KVM_EXIT_SHUTDOWN:
		snprintf(k->error, sizeof(k->error), "triple fault");
		return VCPU_STOP_SHUTDOWN;
	case KVM_EXIT_INTERNAL_ERROR:
		return internal_error(k);
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(k->error, sizeof(k->error), "KVM: the processor refused to enter the guest (reason 0x%llx)",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return VCPU_STOP_ERROR;
	default:
		snprintf(k->error, sizeof(k->error), "KVM: unknown exit %u", run->exit_reason);
		return VCPU_STOP_ERROR;
	}
}

/* INIT and SIPI go from chip to chip inside of KVM; these come with the state of a guest that ran on another engine. */
static void tell_lapic(struct kvm_vcpu *k, uint32_t data)
{
	const struct msi msg = { .addr = 0xfee00000 | k->v.id << 12, .data = data };

	kvm_msi(&k->e->base, &msg);
}

/* Events, before entering.  True: stop. */
static bool take_events(struct kvm_vcpu *k)
{
	uint32_t ev = atomic_exchange(&k->v.events, 0);

	if (ev & VCPU_EV_NMI)
		for (unsigned n = MAX(atomic_exchange(&k->v.nmis, 0), 1); n; n--)
			ioctl(k->fd, KVM_NMI, 0);
	if (ev & VCPU_EV_SMI)
		ioctl(k->fd, KVM_SMI, 0);
	if (ev & VCPU_EV_INIT)
		tell_lapic(k, 0x4500);
	if (ev & VCPU_EV_SIPI)
		tell_lapic(k, 0x4600 | atomic_load(&k->v.sipi_vector));
	return ev & VCPU_EV_STOP;
}

enum vcpu_stop kvm_vcpu_run(struct vcpu *v)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);
	int r;

	for (;;) {
		__atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (atomic_load(&v->events) && take_events(k)) {
			settle(k);
			return VCPU_STOP_KICK;
		}
		if (k->e->split && v->id == 0)
			offer_extint(k);
		r = enter(k);
		if (r < 0 && (errno == EINTR || errno == EAGAIN)) {
			k->e->n_kicks++;
			continue;
		}
		if (r < 0) {
			snprintf(k->error, sizeof(k->error), "KVM_RUN: %s", strerror(errno));
			return VCPU_STOP_ERROR;
		}
		k->e->n_exits++;
		r = handle_exit(k);
		if (r >= 0)
			return (enum vcpu_stop)r;
	}
}

void kvm_vcpu_report(struct vcpu *v, char *buf, size_t len)
{
	snprintf(buf, len, "%s", kvm_vcpu_of(v)->error);
}
