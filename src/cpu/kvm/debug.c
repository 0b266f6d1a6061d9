// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A debugger's wishes put to KVM (Documentation/virt/kvm/api.rst, KVM_SET_GUEST_DEBUG).
 *
 * Points go into the debug registers that KVM loads instead of the guest's.  It
 * has no points for reads alone: they count writes too.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "cpu/kvm/priv.h"

#ifndef KVM_GUESTDBG_BLOCKIRQ
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
#endif
#ifndef KVM_CAP_SET_GUEST_DEBUG2
#define KVM_CAP_SET_GUEST_DEBUG2 195
#endif

/* SDM vol. 3, 17.2.4: length and type of point n. */
static uint64_t dr7_of(const struct cpu_debug_point *p, unsigned n)
{
	uint64_t type = p->kind == CPU_DEBUG_EXEC ? 0 : p->kind == CPU_DEBUG_WRITE ? 1 : 3;
	uint64_t len = p->kind == CPU_DEBUG_EXEC ? 0 : p->len == 8 ? 2 : p->len - 1;

	return 2ull << (2 * n) | (type | len << 2) << (16 + 4 * n);
}

int kvm_debug(struct vcpu *v, const struct cpu_debug *d, bool step)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);
	struct kvm_guest_debug g = { 0 };
	int can = ioctl(k->e->vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);

	if (d) {
		g.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
		g.arch.debugreg[7] = 0x400;
		for (unsigned i = 0; i < d->n_points; i++) {
			g.control |= KVM_GUESTDBG_USE_HW_BP;
			g.arch.debugreg[i] = d->point[i].lin;
			g.arch.debugreg[7] |= dr7_of(&d->point[i], i);
		}
		if (step)
			g.control |= KVM_GUESTDBG_SINGLESTEP | (can > 0 ? (unsigned)can & KVM_GUESTDBG_BLOCKIRQ : 0);
	}
	if (ioctl(k->fd, KVM_SET_GUEST_DEBUG, &g) < 0)
		return errno == EINVAL || errno == ENOTTY ? -ENOTSUP : -errno;
	k->debug = d;
	return 0;
}

const struct cpu_debug_stop *kvm_debug_stop(struct vcpu *v) { return &kvm_vcpu_of(v)->debug_stop; }

/* An INT3 of the guest's own: it gets its #BP. */
static int give_back(struct kvm_vcpu *k)
{
	struct kvm_vcpu_events ev;

	if (ioctl(k->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
		return VCPU_STOP_ERROR;
	ev.exception.injected = 1;
	ev.exception.nr = X86_EX_BP;
	ev.exception.has_error_code = 0;
	return ioctl(k->fd, KVM_SET_VCPU_EVENTS, &ev) < 0 ? VCPU_STOP_ERROR : -1;
}

int kvm_debug_exit(struct kvm_vcpu *k)
{
	const struct kvm_debug_exit_arch *a = &k->run->debug.arch;
	struct cpu_debug_stop *s = &k->debug_stop;

	*s = (struct cpu_debug_stop){ .why = CPU_STOP_STEP };
	if (a->exception == X86_EX_BP) {
		if (!k->debug || !cpu_debug_has_int3(k->debug, a->pc))
			return give_back(k);
		s->why = CPU_STOP_INT3;
		s->lin = a->pc;
		return VCPU_STOP_DEBUG;
	}
	for (unsigned i = 0; k->debug && i < k->debug->n_points; i++) {
		if (!(a->dr6 >> i & 1))
			continue;
		s->why = k->debug->point[i].kind == CPU_DEBUG_EXEC ? CPU_STOP_EXEC : CPU_STOP_DATA;
		s->lin = k->debug->point[i].lin;
		s->kind = k->debug->point[i].kind;
	}
	return VCPU_STOP_DEBUG;
}
