/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the KVM engine.  The only folder that includes <linux/kvm.h>. */
#ifndef LODGE_CPU_KVM_PRIV_H
#define LODGE_CPU_KVM_PRIV_H

#include <linux/kvm.h>
#include <pthread.h>

#include "cpu/engine.h"
#include "cpu/x86/cpuid.h"

#define KVM_MAX_SLOTS 448	/* as many as the memory map has ranges; kernels have 509 at least */
#define KVM_MAX_CPUID 256
#define KVM_GSI_PINS 24		/* I/O APIC inputs; message routes get numbers from here on */
#define KVM_MAX_ROUTES 1024

struct kvm_slot {
	bool used;
	struct mem_range r;
	bool watched;			/* logged for a display, whatever the machine's log */
};

/* A message bound to an eventfd: GSI = KVM_GSI_PINS + index. */
struct kvm_msi_route {
	bool used;
	int fd;
	struct msi msg;
};

struct kvm_engine {
	struct cpu_engine base;		/* first */
	int kvm, vm;
	bool split;
	bool has_xsave2;
	unsigned run_size, xsave_size;
	struct x86_cpu_model model;
	bool has_model;
	unsigned n_vcpus;

	pthread_mutex_t lock;		/* slots, routes, logs */
	struct mem_listener mem;
	struct kvm_slot slot[KVM_MAX_SLOTS];
	bool logging;
	_Atomic bool reshaping;		/* slots that are in use change: no vCPU may be in KVM_RUN; lock */

	struct kvm_msi_route route[KVM_MAX_ROUTES - KVM_GSI_PINS];
	struct {
		bool on;
		struct msi msg;
	} pin[KVM_GSI_PINS];		/* split: what the user-space I/O APIC will send */
	_Atomic bool extint;		/* split: INTR of the user-space 8259 */

	bool has_pic;			/* the machine has 8259s, not only KVM */
	struct dev lapics, pic, ioapic;	/* in-kernel interrupt chips as devices: reset, save, load */

	_Atomic uint64_t n_exits, n_io, n_mmio, n_kicks;
	struct kvm_msrs *msr_list;	/* indices this kernel knows, of those in state.c's table */
};

struct kvm_vcpu {
	struct vcpu v;			/* first */
	struct kvm_engine *e;
	int fd;
	struct kvm_run *run;
	uint64_t deadline;		/* loaded, for the time when the guest's counter is right again */
	bool deadline_loaded;
	_Atomic bool in_run;		/* pairs with reshaping */
	const struct cpu_debug *debug;	/* NULL: no debugger */
	struct cpu_debug_stop debug_stop;
	char error[256];
};

static inline struct kvm_engine *kvm_of(struct cpu_engine *e) { return (struct kvm_engine *)e; }
static inline struct kvm_vcpu *kvm_vcpu_of(struct vcpu *v) { return (struct kvm_vcpu *)v; }

/* The signal that takes a vCPU thread out of KVM_RUN. */
int kvm_kick_signal(void);
int kvm_kick_signal_install(void);

/* vcpu.c */
int kvm_vcpu_create(struct cpu_engine *e, unsigned id, struct err *err);
void kvm_vcpu_free(struct kvm_vcpu *k);
int kvm_vcpu_thread_init(struct vcpu *v);
enum vcpu_stop kvm_vcpu_run(struct vcpu *v);
void kvm_vcpu_report(struct vcpu *v, char *buf, size_t len);

/* debug.c */
int kvm_debug(struct vcpu *v, const struct cpu_debug *d, bool step);
const struct cpu_debug_stop *kvm_debug_stop(struct vcpu *v);
/* KVM_EXIT_DEBUG: -1: go on; else enum vcpu_stop. */
int kvm_debug_exit(struct kvm_vcpu *k);

/* cpuid.c */
int kvm_limits(struct cpu_limits *l, struct err *err);
int kvm_set_cpuid(struct kvm_vcpu *k, struct err *err);

/* state.c */
int kvm_state_init(struct kvm_engine *e);
int kvm_state_get(struct vcpu *v, struct x86_state *s);
int kvm_state_set(struct vcpu *v, const struct x86_state *s);

/* irq.c */
int kvm_irq_init(struct kvm_engine *e, struct err *err);
void kvm_vcpu_power_on(struct vcpu *v);
/* Begins a deadline timer that was loaded; the TSC is the guest's. */
void kvm_lapic_deadline(struct vcpu *v);
int kvm_irq_line(struct cpu_engine *e, unsigned gsi, bool level);
int kvm_msi(struct cpu_engine *e, const struct msi *msg);
int kvm_msi_fd(struct cpu_engine *e, int fd, const struct msi *msg, bool add);
int kvm_extint(struct cpu_engine *e, bool level);
int kvm_ioapic_route(struct cpu_engine *e, unsigned pin, const struct msi *msg, bool masked);

/* mem.c */
void kvm_mem_init(struct kvm_engine *e);
void kvm_mem_fini(struct kvm_engine *e);

/* probe.c */
int kvm_probe(struct probe_report *r);
/* Opens /dev/kvm, or says why it cannot and what to do. */
int kvm_open(char *why, size_t why_len, char *cure, size_t cure_len);

#endif
