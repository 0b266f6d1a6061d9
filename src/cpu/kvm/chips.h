/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state of the kernel's interrupt chips, in the form in which the chips of
 * chipset/ save theirs (tables "lapic", "i8259" and "i82093aa"), so that a guest
 * goes on with either.  These are pure conversions; irq.c has the system calls.
 */
#ifndef LODGE_CPU_KVM_CHIPS_H
#define LODGE_CPU_KVM_CHIPS_H

#include <linux/kvm.h>
#include <stdbool.h>

#include "machine/snap.h"

#define KVM_LVTS 6

/* A local APIC; the names and sizes of the fields are the saved ones. */
struct kvm_saved_lapic {
	uint64_t base, tsc_deadline;
	int64_t start_ns, due_ns;	/* of the timer, on the machine's clock */
	uint32_t irr[8], isr[8], tmr[8];
	uint32_t xid, tpr, ldr, dfr, svr, lvt[KVM_LVTS], esr_pending, esr, icr, icr_hi, tmict, tdcr;
	uint8_t extint_msg, running;
};

struct kvm_saved_pic {
	uint8_t lines, irr, isr, imr, elcr, ltim, base, lowest, init, single, need_icw4, aeoi, rotate_aeoi, sfnm, smm, read_isr, poll;
};

struct kvm_saved_ioapic {
	uint64_t rte[KVM_IOAPIC_NUM_PINS];
	uint32_t lines;
	uint8_t select, id, arb;
};

struct kvm_saved_lines {
	uint8_t intr, nmi;		/* the chips' common inputs: both come again with what drives them */
};

extern const struct snap_table kvm_lapic_table, kvm_pic_table, kvm_ioapic_table, kvm_lines_table;

/* now: of the machine's clock, ns; deadline: MSR 0x6e0. */
void kvm_lapic_to_saved(const struct kvm_lapic_state *k, uint64_t apic_base, uint64_t deadline, int64_t now, struct kvm_saved_lapic *s);
/* Changes in *k what is saved.  EINVAL: no local APIC is like that.  ENOTSUP: it needs what KVM's chips have not (in_kernel: the I/O APIC, too, is KVM's). */
int kvm_lapic_of_saved(struct kvm_lapic_state *k, const struct kvm_saved_lapic *s, unsigned id, int64_t now, bool in_kernel, struct err *e);
void kvm_pic_to_saved(const struct kvm_pic_state *k, struct kvm_saved_pic *s);
void kvm_pic_of_saved(struct kvm_pic_state *k, const struct kvm_saved_pic *s, bool master);
void kvm_ioapic_to_saved(const struct kvm_ioapic_state *k, struct kvm_saved_ioapic *s);
void kvm_ioapic_of_saved(struct kvm_ioapic_state *k, const struct kvm_saved_ioapic *s);

#endif
