/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saved state of a vCPU and of its model, the same for every engine (machine/snap.h). */
#ifndef LODGE_CPU_X86_SNAP_H
#define LODGE_CPU_X86_SNAP_H

#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "machine/snap.h"
#include "machine/vcpu.h"

/* What waits for a vCPU besides its registers. */
#define X86_PENDING (VCPU_EV_INTR | VCPU_EV_NMI | VCPU_EV_INIT | VCPU_EV_SIPI | VCPU_EV_SMI)
struct x86_pending {
	uint32_t events;	/* of X86_PENDING */
	uint8_t sipi_vector, nmis;
};

int x86_state_save(struct snap_out *o, unsigned id, const struct x86_state *s, const struct x86_pending *p);
/* Refuses (EINVAL) what no CPU of the model can be in, as far as that could hurt: the bytes are foreign. */
int x86_state_load(struct snap_in *in, unsigned id, const struct x86_cpu_model *m, struct x86_state *s, struct x86_pending *p,
		   struct err *e);
int x86_model_save(struct snap_out *o, const struct x86_cpu_model *m);
/* n_vcpus is the caller's to set. EINVAL */
int x86_model_load(struct snap_in *in, struct x86_cpu_model *m, struct err *e);
/* The following, and of what else would break a guest that has begun with `m` where `here` is what can be had. */
int x86_model_goes(const struct x86_cpu_model *m, const struct x86_cpu_model *here, struct err *e);
/* ENOTSUP with the names of features that `m` has and `avail` lacks. */
int x86_model_fits(const struct x86_cpu_model *m, const uint32_t avail[X86_F_WORDS], struct err *e);

#endif
