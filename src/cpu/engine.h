/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an engine that executes guest instructions offers, and what it is given.
 *
 * Engines: kvm, interp, translate, check, puppet.  The caller (vm/) owns the
 * vCPU threads: each calls vcpu_run in a loop.
 */
#ifndef LODGE_CPU_ENGINE_H
#define LODGE_CPU_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/debug.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "machine/machine.h"

struct cpu_engine;

enum vcpu_stop {
	VCPU_STOP_KICK,		/* VCPU_EV_STOP was raised (the engine clears it) */
	VCPU_STOP_SHUTDOWN,	/* triple fault */
	VCPU_STOP_ERROR,	/* the engine cannot go on; text in engine's report */
	VCPU_STOP_DEBUG,	/* the debugger's: debug_stop tells why */
};

struct probe_report {
	bool usable;		/* can run a kernel at all, however slowly */
	bool good;		/* runs an unmodified kernel well: what `auto` needs */
	char why[256];		/* one clause: "KVM runs real-mode, long-mode and user code at full speed" */
	char cure[256];		/* what the user can do, or "" */
};

/* What an engine can show a guest on this host. */
struct cpu_limits {
	uint32_t feat[X86_F_WORDS];
	uint8_t phys_bits;
	bool xsave_own;			/* AVX-512's state components lie elsewhere than x86_xsave_component says */
};

#define CODE_CACHE_MIN (1ull << 20)
#define CODE_CACHE_MAX (1ull << 30)

/* translate: user code natively, in processes of its own: when that pays, never, or whenever it can be. */
enum cpu_direct { CPU_DIRECT_AUTO, CPU_DIRECT_OFF, CPU_DIRECT_ALWAYS };

struct cpu_engine_config {
	const struct x86_cpu_model *model;	/* NULL: max */
	unsigned n_vcpus;
	bool split_irqchip;			/* kvm: IOAPIC and PIC in user space */
	bool no_pic;				/* kvm: the machine has no 8259s */
	unsigned heat;				/* translate: runs before a block is translated; 0: its own choice */
	uint64_t code_cache;			/* translate: bytes for code and its records, at least CODE_CACHE_MIN; 0: its own choice */
	enum cpu_direct direct;
	bool perf_map;				/* translate: /tmp/perf-PID.map */
	bool dump_block;			/* translate: blocks that cover dump_address, to dump_file (NULL: standard error) */
	uint64_t dump_address;			/* a RIP or guest-physical */
	const char *dump_file;
	unsigned spoil;				/* check, in tests: the n-th instruction translated comes out wrong */
	uint32_t features;			/* reserved, 0 */
};

/* The engine's counters for --stats: name/value pairs printed as they come.  May be asked for while vCPUs run: then what it
 * reads are aligned words, each counted up by one thread or under a lock, and places that do not move; so a figure may be a moment
 * old, and figures need not agree with each other, but none is torn. */
typedef void (*engine_stat_fn)(void *opaque, const char *name, uint64_t value);

/* Times that go on together. */
struct engine_clock {
	uint64_t ns;		/* kvmclock's system time */
	uint64_t tsc;		/* time stamp counter, without a vCPU's tsc_offset */
};

struct cpu_engine_ops {
	const char *name;
	int (*probe)(struct probe_report *r);
	/* NULL: x86_soft_features, and what x86_cpu_model_parse sets. */
	int (*limits)(struct cpu_limits *l, struct err *e);
	/* Creates the engine on a machine whose memory map may still grow (the
	 * engine listens to it). */
	int (*init)(struct machine *m, const struct cpu_engine_config *cfg,
		    struct cpu_engine **out, struct err *e);
	void (*free)(struct cpu_engine *e);
	/* Fills m->vcpus[id]. State is that after power-on. */
	int (*vcpu_create)(struct cpu_engine *e, unsigned id, struct err *err);
	/* Called once on the vCPU's own thread before the first vcpu_run. */
	int (*vcpu_thread_init)(struct vcpu *v);
	/* Runs until a life-cycle event.  Machine lock not held. */
	enum vcpu_stop (*vcpu_run)(struct vcpu *v);
	/* Puts what the engine has of the vCPU beside its state (a local APIC, events) into the state after power-on. Machine lock
	 * held, the vCPU is not in vcpu_run; state_set follows.  NULL: nothing to do. */
	void (*vcpu_power_on)(struct vcpu *v);
	/* While the vCPU is not in vcpu_run. */
	int (*state_get)(struct vcpu *v, struct x86_state *s);
	int (*state_set)(struct vcpu *v, const struct x86_state *s);
	/*
	 * A debugger watches this vCPU with these points, which stay as they are until the next call; NULL: none
	 * does.  step: vcpu_run returns behind one instruction (or the delivery of what it raised), without
	 * interrupts meanwhile.  While the vCPU is not in vcpu_run.  -ENOTSUP, and NULL: not with this engine.
	 */
	int (*debug)(struct vcpu *v, const struct cpu_debug *d, bool step);
	const struct cpu_debug_stop *(*debug_stop)(struct vcpu *v);
	/* In-kernel interrupt chips: -ENOTSUP means the platform must build the
	 * user-space ones (has_irqchip tells beforehand). */
	bool (*has_irqchip)(struct cpu_engine *e);	/* 8259, I/O APIC and local APICs all in the engine */
	bool (*has_lapic)(struct cpu_engine *e);	/* local APICs in the engine (also when split) */
	int (*irq_line)(struct cpu_engine *e, unsigned gsi, bool level);
	int (*msi)(struct cpu_engine *e, const struct msi *msg);
	/* An eventfd whose signal raises `msg` with no thread of ours involved, for
	 * back ends in the kernel and in other processes: our own threads use msi,
	 * which costs them the same one system call.  -ENOTSUP: the caller polls the
	 * fd. */
	int (*msi_fd)(struct cpu_engine *e, int fd, const struct msi *msg, bool add);
	/* External 8259 interrupt request line for the boot vCPU (split irqchip). */
	int (*extint)(struct cpu_engine *e, bool level);
	/* Split irqchip: the message input `pin` of the user-space I/O APIC sends
	 * from now on, so that the engine reports the EOIs of its vector (through
	 * machine->ioapic_eoi).  NULL where has_lapic is always false. */
	int (*ioapic_route)(struct cpu_engine *e, unsigned pin, const struct msi *msg, bool masked);
	/* The guest's time, while no vCPU runs; set: it goes on from there.  After state_set of all vCPUs. */
	int (*clock_get)(struct cpu_engine *e, struct engine_clock *t);
	int (*clock_set)(struct cpu_engine *e, const struct engine_clock *t);
	void (*stats)(struct cpu_engine *e, engine_stat_fn fn, void *opaque);
	/* Text for the panic/triple fault report: why the last vcpu_run stopped. */
	void (*report)(struct vcpu *v, char *buf, size_t len);
};

struct cpu_engine {
	const struct cpu_engine_ops *ops;
	struct machine *m;
};

extern const struct cpu_engine_ops cpu_engine_kvm;
extern const struct cpu_engine_ops cpu_engine_interp;
extern const struct cpu_engine_ops cpu_engine_translate;
extern const struct cpu_engine_ops cpu_engine_check;	/* translate, compared with interp block by block */
extern const struct cpu_engine_ops cpu_engine_puppet;

#endif
