/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst).
 *
 * System time is the unadjusted guest TSC turned into nanoseconds: the page says
 * "0 ns at TSC value tsc_zero + tsc_offset" on every vCPU, with one multiplier, so clocks of
 * all vCPUs agree to the nanosecond and the STABLE flag is true.
 */
#include "cpu/x86/pvclock.h"

#include "cpu/x86/cpuid.h"

#define FLAG_TSC_STABLE 1

struct pvclock_vcpu_time_info {
	uint32_t version;	/* odd: being updated */
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};

struct pvclock_wall_clock {
	uint32_t version, sec, nsec;
};

void x86_pvclock_scale(uint32_t tsc_khz, uint32_t *mul, int8_t *shift)
{
	uint64_t hz = tsc_khz * 1000ull;

	*shift = 0;
	/* Brought into (0.5e9, 1e9] so that mul has its top bit set. */
	while (hz > 2000000000ull) {
		hz >>= 1;
		(*shift)--;
	}
	while (hz <= 1000000000ull) {
		hz <<= 1;
		(*shift)++;
	}
	*mul = (uint32_t)((1000000000ull << 32) / hz);
}

static uint64_t ticks_to_ns(uint32_t khz, uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * 1000000u / khz);
}

void x86_pvclock_update(struct x86_cpu *c)
{
	struct mem *m = c->vcpu.m->mem;
	uint64_t gpa = c->s.kvm_system_time & ~1ull;
	struct pvclock_vcpu_time_info t = { .tsc_timestamp = c->tsc_zero + c->s.tsc_offset };
	uint32_t version = 0, odd;

	if (!(c->s.kvm_system_time & 1))
		return;
	if (x86_has(c->model, X86_F_KVM, 1u << 24))
		t.flags = FLAG_TSC_STABLE;
	x86_pvclock_scale(c->model->tsc_khz, &t.tsc_to_system_mul, &t.tsc_shift);
	/* The guest's own vCPU is in a write of an MSR now; others that look see an
	 * odd version while it changes. */
	if (mem_read(m, gpa, &version, 4))
		return;
	odd = (version & ~1u) + 1;
	t.version = odd;
	mem_write(m, gpa, &odd, 4);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	mem_write(m, gpa, &t, sizeof(t));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	odd++;
	mem_write(m, gpa, &odd, 4);
}

bool x86_pvclock_set_time(struct x86_cpu *c, uint64_t v)
{
	uint32_t probe;

	if ((v & 1) && mem_read(c->vcpu.m->mem, v & ~1ull, &probe, 4))
		return false;
	c->s.kvm_system_time = v;
	x86_pvclock_update(c);
	return true;
}

/* The wall clock at system time 0. */
bool x86_pvclock_set_wall(struct x86_cpu *c, uint64_t v)
{
	struct mem *m = c->vcpu.m->mem;
	uint64_t ticks = x86_rdtsc(c) - c->tsc_zero - c->s.tsc_offset;
	uint64_t boot = (uint64_t)clock_wall_ns(c->vcpu.m->clock) - ticks_to_ns(c->model->tsc_khz, ticks);
	struct pvclock_wall_clock w = { .sec = (uint32_t)(boot / 1000000000u), .nsec = (uint32_t)(boot % 1000000000u) };
	uint32_t version;

	if (mem_read(m, v, &version, 4))
		return false;
	w.version = (version & ~1u) + 2;
	version = w.version - 1;
	mem_write(m, v, &version, 4);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	mem_write(m, v + 4, &w.sec, 8);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	mem_write(m, v, &w.version, 4);
	c->s.kvm_wall_clock = v;
	return true;
}
