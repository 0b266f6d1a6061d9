// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vCPU state between struct x86_state and the kernel.
 *
 * MSRs go by a table; what the kernel does not list is skipped (older kernels,
 * other vendor).  Vector registers pass through the XSAVE image, whose layout
 * is the host CPU's (CPUID leaf 0xD).
 */
#include <cpuid.h>
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "base/log.h"
#include "cpu/kvm/priv.h"

#define XSAVE_HEADER 512
#define XCOMP_AVX 2
#define XCOMP_OPMASK 5
#define XCOMP_ZMM_HI 6
#define XCOMP_HI16 7
#define XCOMP_PKRU 9

static const struct {
	uint32_t index;
	size_t off;
} msrs[] = {
#define MSR(i, field) { i, offsetof(struct x86_state, field) }
	MSR(0x174, sysenter_cs), MSR(0x175, sysenter_esp), MSR(0x176, sysenter_eip),
	MSR(0xc0000081, star), MSR(0xc0000082, lstar), MSR(0xc0000083, cstar), MSR(0xc0000084, fmask),
	MSR(0xc0000102, kernel_gs_base), MSR(0xc0000103, tsc_aux),
	MSR(0x277, pat), MSR(0x1a0, misc_enable), MSR(0x48, spec_ctrl), MSR(0x3b, tsc_adjust),
	MSR(0x1d9, debugctl), MSR(0xda0, xss), MSR(0x17a, mcg_status),
	MSR(0x2ff, mtrr_def_type),
	MSR(0x250, mtrr_fixed[0]), MSR(0x258, mtrr_fixed[1]), MSR(0x259, mtrr_fixed[2]),
	MSR(0x268, mtrr_fixed[3]), MSR(0x269, mtrr_fixed[4]), MSR(0x26a, mtrr_fixed[5]),
	MSR(0x26b, mtrr_fixed[6]), MSR(0x26c, mtrr_fixed[7]), MSR(0x26d, mtrr_fixed[8]),
	MSR(0x26e, mtrr_fixed[9]), MSR(0x26f, mtrr_fixed[10]),
#define MTRR(n) MSR(0x200 + 2 * n, mtrr_var[n][0]), MSR(0x201 + 2 * n, mtrr_var[n][1])
	MTRR(0), MTRR(1), MTRR(2), MTRR(3), MTRR(4), MTRR(5), MTRR(6), MTRR(7),
#undef MTRR
	MSR(0x4b564d01, kvm_system_time), MSR(0x4b564d00, kvm_wall_clock), MSR(0x4b564d03, kvm_steal_time),
	MSR(0x4b564d05, kvm_poll), MSR(0x4b564d02, kvm_async_pf), MSR(0x4b564d04, kvm_eoi),
#undef MSR
};

static uint64_t *msr_field(struct x86_state *s, unsigned i)
{
	return (uint64_t *)((char *)s + msrs[i].off);
}

/* MTRRs and PAT are always there though the kernel's list omits them. */
static bool always(uint32_t index)
{
	return (index >= 0x200 && index < 0x300) || index == 0xc0000102;
}

/* Which of the table's MSRs this kernel has, as a ready-made request. */
int kvm_state_init(struct kvm_engine *e)
{
	struct kvm_msr_list probe = { 0 }, *list;
	unsigned n;

	ioctl(e->kvm, KVM_GET_MSR_INDEX_LIST, &probe);
	n = MIN(probe.nmsrs, 4096u);
	list = calloc(1, sizeof(*list) + n * sizeof(uint32_t));
	e->msr_list = calloc(1, sizeof(*e->msr_list) + ARRAY_LEN(msrs) * sizeof(struct kvm_msr_entry));
	if (!list || !e->msr_list) {
		free(list);
		return -ENOMEM;
	}
	list->nmsrs = n;
	if (ioctl(e->kvm, KVM_GET_MSR_INDEX_LIST, list) < 0)
		list->nmsrs = 0;
	for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
		bool have = always(msrs[i].index);

		for (unsigned j = 0; j < list->nmsrs && !have; j++)
			have = list->indices[j] == msrs[i].index;
		/* The reserved field carries the table's index. */
		if (have)
			e->msr_list->entries[e->msr_list->nmsrs++] =
				(struct kvm_msr_entry){ .index = msrs[i].index, .reserved = i };
	}
	free(list);
	return 0;
}

static int each_msr(struct kvm_vcpu *k, struct x86_state *s, bool set)
{
	const struct kvm_msrs *all = k->e->msr_list;
	alignas(struct kvm_msrs) uint8_t buf[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = { 0 };
	struct kvm_msrs *one = (struct kvm_msrs *)buf;
	struct kvm_msr_entry *m = one->entries;

	for (unsigned i = 0; i < all->nmsrs; i++) {
		uint64_t *field = msr_field(s, all->entries[i].reserved);

		one->nmsrs = 1;
		*m = (struct kvm_msr_entry){ .index = all->entries[i].index, .data = *field };
		if (ioctl(k->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, one) == 1) {
			if (!set)
				*field = m->data;
			continue;
		}
		/* Not for this guest's CPUID: fine while it has no value. */
		if (set && *field)
			log_debug("kvm: MSR 0x%x = 0x%llx was refused", m->index, (unsigned long long)*field);
	}
	return 0;
}

static struct kvm_segment to_kvm(const struct x86_seg *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->sel,
		.type = s->attr & X86_AR_TYPE,
		.s = !!(s->attr & X86_AR_S),
		.dpl = (s->attr & X86_AR_DPL) >> X86_AR_DPL_SHIFT,
		.present = !!(s->attr & X86_AR_P),
		.avl = !!(s->attr & X86_AR_AVL),
		.l = !!(s->attr & X86_AR_L),
		.db = !!(s->attr & X86_AR_DB),
		.g = !!(s->attr & X86_AR_G),
		.unusable = !!(s->attr & X86_AR_UNUSABLE),
	};
}

static struct x86_seg of_kvm(const struct kvm_segment *k)
{
	return (struct x86_seg){
		.base = k->base, .limit = k->limit, .sel = k->selector,
		.attr = k->type | (k->s ? X86_AR_S : 0) | (uint32_t)k->dpl << X86_AR_DPL_SHIFT |
			(k->present ? X86_AR_P : 0) | (k->avl ? X86_AR_AVL : 0) | (k->l ? X86_AR_L : 0) |
			(k->db ? X86_AR_DB : 0) | (k->g ? X86_AR_G : 0) | (k->unusable ? X86_AR_UNUSABLE : 0),
	};
}

/* Segment registers in x86_state's order inside kvm_sregs. */
static struct kvm_segment *segment(struct kvm_sregs *r, int i)
{
	struct kvm_segment *const order[X86_NSEG_ALL] = { &r->es, &r->cs, &r->ss, &r->ds,
							   &r->fs, &r->gs, &r->ldt, &r->tr };

	return order[i];
}

static int get_regs(struct kvm_vcpu *k, struct x86_state *s)
{
	struct kvm_regs r;

	if (ioctl(k->fd, KVM_GET_REGS, &r) < 0)
		return -errno;
	s->gpr[X86_RAX] = r.rax;
	s->gpr[X86_RCX] = r.rcx;
	s->gpr[X86_RDX] = r.rdx;
	s->gpr[X86_RBX] = r.rbx;
	s->gpr[X86_RSP] = r.rsp;
	s->gpr[X86_RBP] = r.rbp;
	s->gpr[X86_RSI] = r.rsi;
	s->gpr[X86_RDI] = r.rdi;
	memcpy(&s->gpr[8], &r.r8, 64);
	s->rip = r.rip;
	s->rflags = r.rflags;
	return 0;
}

static int set_regs(struct kvm_vcpu *k, const struct x86_state *s)
{
	struct kvm_regs r = {
		.rax = s->gpr[X86_RAX], .rcx = s->gpr[X86_RCX], .rdx = s->gpr[X86_RDX], .rbx = s->gpr[X86_RBX],
		.rsp = s->gpr[X86_RSP], .rbp = s->gpr[X86_RBP], .rsi = s->gpr[X86_RSI], .rdi = s->gpr[X86_RDI],
		.rip = s->rip, .rflags = s->rflags,
	};

	memcpy(&r.r8, &s->gpr[8], 64);
	return ioctl(k->fd, KVM_SET_REGS, &r) < 0 ? -errno : 0;
}

static int get_sregs(struct kvm_vcpu *k, struct x86_state *s)
{
	struct kvm_sregs r;

	if (ioctl(k->fd, KVM_GET_SREGS, &r) < 0)
		return -errno;
	for (int i = 0; i < X86_NSEG_ALL; i++)
		s->seg[i] = of_kvm(segment(&r, i));
	s->gdtr = (struct x86_dtable){ .base = r.gdt.base, .limit = r.gdt.limit };
	s->idtr = (struct x86_dtable){ .base = r.idt.base, .limit = r.idt.limit };
	s->cr0 = r.cr0;
	s->cr2 = r.cr2;
	s->cr3 = r.cr3;
	s->cr4 = r.cr4;
	s->efer = r.efer;
	s->apic_base = r.apic_base;
	return 0;
}

static int set_sregs(struct kvm_vcpu *k, const struct x86_state *s)
{
	struct kvm_sregs r = {
		.gdt = { .base = s->gdtr.base, .limit = s->gdtr.limit },
		.idt = { .base = s->idtr.base, .limit = s->idtr.limit },
		.cr0 = s->cr0, .cr2 = s->cr2, .cr3 = s->cr3, .cr4 = s->cr4,
		.efer = s->efer, .apic_base = s->apic_base,
	};

	for (int i = 0; i < X86_NSEG_ALL; i++)
		*segment(&r, i) = to_kvm(&s->seg[i]);
	return ioctl(k->fd, KVM_SET_SREGS, &r) < 0 ? -errno : 0;
}

/* Offset of a component in the standard XSAVE image, 0 if it is not there or beyond len. */
static unsigned component(unsigned n, unsigned len)
{
	unsigned size, off, c, d;

	if (!__get_cpuid_count(0xd, n, &size, &off, &c, &d) || !size || off + size > len)
		return 0;
	return off;
}

/* Copies registers [first, first+n) between the image and zmm[], bytes [at, at+len) of each. */
static void vectors(uint8_t *img, unsigned off, struct x86_fpu *f, unsigned first, unsigned n, unsigned at,
		    unsigned len, bool to_image)
{
	for (unsigned i = 0; off && i < n; i++) {
		if (to_image)
			memcpy(img + off + i * len, &f->zmm[first + i][at], len);
		else
			memcpy(&f->zmm[first + i][at], img + off + i * len, len);
	}
}

static void move_fpu(uint8_t *img, unsigned len, struct x86_fpu *f, bool to_image)
{
	unsigned opmask = component(XCOMP_OPMASK, len), pkru = component(XCOMP_PKRU, len);

	if (to_image) {
		memcpy(img, f->fx, 160);
		st_le32(img + 24, f->mxcsr);
		st_le32(img + 28, 0xffff);
	} else {
		memcpy(f->fx, img, 160);
		f->mxcsr = ld_le32(img + 24);
	}
	vectors(img, 160, f, 0, 16, 0, 16, to_image);
	vectors(img, component(XCOMP_AVX, len), f, 0, 16, 16, 16, to_image);
	vectors(img, component(XCOMP_ZMM_HI, len), f, 0, 16, 32, 32, to_image);
	vectors(img, component(XCOMP_HI16, len), f, 16, 16, 0, 64, to_image);
	if (opmask)
		memcpy(to_image ? img + opmask : (uint8_t *)f->k, to_image ? (uint8_t *)f->k : img + opmask, 64);
	if (pkru && to_image)
		st_le32(img + pkru, f->pkru);
	else if (pkru)
		f->pkru = ld_le32(img + pkru);
}

static int get_fpu(struct kvm_vcpu *k, struct x86_state *s)
{
	uint8_t *img = calloc(1, k->e->xsave_size);
	int r;

	if (!img)
		return -ENOMEM;
	r = ioctl(k->fd, k->e->has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, img) < 0 ? -errno : 0;
	if (r == 0)
		move_fpu(img, k->e->xsave_size, &s->fpu, false);
	free(img);
	return r;
}

static int set_fpu(struct kvm_vcpu *k, const struct x86_state *s)
{
	uint8_t *img = calloc(1, k->e->xsave_size);
	struct x86_fpu f = s->fpu;
	int r;

	if (!img)
		return -ENOMEM;
	move_fpu(img, k->e->xsave_size, &f, true);
	/* Components present: x87 and SSE, and what the guest has enabled. */
	st_le64(img + XSAVE_HEADER, s->xcr0 | 3);
	r = ioctl(k->fd, KVM_SET_XSAVE, img) < 0 ? -errno : 0;
	free(img);
	return r;
}

/* Kernels and CPUs without XSAVE have no XCR0. */
static void get_xcr0(struct kvm_vcpu *k, struct x86_state *s)
{
	struct kvm_xcrs x = { 0 };

	s->xcr0 = 1;
	if (ioctl(k->fd, KVM_GET_XCRS, &x) < 0)
		return;
	for (unsigned i = 0; i < MIN(x.nr_xcrs, (unsigned)KVM_MAX_XCRS); i++)
		if (x.xcrs[i].xcr == 0)
			s->xcr0 = x.xcrs[i].value;
}

static int set_xcr0(struct kvm_vcpu *k, const struct x86_state *s)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = s->xcr0 | 1 };

	if (ioctl(k->fd, KVM_SET_XCRS, &x) < 0 && s->xcr0 > 1)
		return -errno;
	return 0;
}

/* What KVM has taken (an interrupt is in the local APIC's ISR by then) and was to inject when we stopped it.  Soft ones and
 * faults are not told of or come again with their instruction. */
static void get_event(const struct kvm_vcpu_events *ev, struct x86_state *s)
{
	if (ev->interrupt.injected) {
		s->event = X86_WAY_INTR;
		s->event_vector = ev->interrupt.nr;
	} else if (ev->nmi.injected) {
		s->event = X86_WAY_NMI;
		s->event_vector = X86_EX_NMI;
	} else if (ev->exception.injected && ev->exception.nr == X86_EX_DB) {
		s->event = X86_WAY_TRAP;
		s->event_vector = X86_EX_DB;
	}
}

static void set_event(struct kvm_vcpu_events *ev, const struct x86_state *s)
{
	ev->interrupt.injected = s->event == X86_WAY_INTR;
	ev->interrupt.nr = s->event == X86_WAY_INTR ? s->event_vector : 0;
	ev->nmi.injected = s->event == X86_WAY_NMI;
	ev->exception.injected = s->event == X86_WAY_TRAP;
	ev->exception.nr = s->event == X86_WAY_TRAP ? X86_EX_DB : 0;
}

/* NMIs that wait in KVM wait with us instead, where every engine finds them. */
static void get_nmis(struct kvm_vcpu *k, struct kvm_vcpu_events *ev)
{
	unsigned n = ev->nmi.pending;

	if (!n)
		return;
	ev->nmi.pending = 0;
	ev->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	if (ioctl(k->fd, KVM_SET_VCPU_EVENTS, ev) == 0)
		for (; n; n--)
			vcpu_raise_nmi(&k->v);
}

static int get_rest(struct kvm_vcpu *k, struct x86_state *s)
{
	struct kvm_debugregs d;
	struct kvm_vcpu_events ev;
	struct kvm_mp_state mp;

	if (ioctl(k->fd, KVM_GET_DEBUGREGS, &d) < 0 || ioctl(k->fd, KVM_GET_VCPU_EVENTS, &ev) < 0 ||
	    ioctl(k->fd, KVM_GET_MP_STATE, &mp) < 0)
		return -errno;
	memcpy(s->dr, d.db, sizeof(s->dr));
	s->dr6 = d.dr6;
	s->dr7 = d.dr7;
	s->shadow = ev.interrupt.shadow == KVM_X86_SHADOW_INT_MOV_SS ? X86_SHADOW_MOVSS :
		    ev.interrupt.shadow ? X86_SHADOW_STI : 0;
	s->nmi_blocked = ev.nmi.masked;
	s->smm = ev.smi.smm;
	get_event(&ev, s);
	get_nmis(k, &ev);
	s->activity = mp.mp_state == KVM_MP_STATE_RUNNABLE ? X86_ACTIVE :
		      mp.mp_state == KVM_MP_STATE_HALTED ? X86_HALTED : X86_WAIT_SIPI;
	return 0;
}

static int set_rest(struct kvm_vcpu *k, const struct x86_state *s)
{
	struct kvm_debugregs d = { .dr6 = s->dr6, .dr7 = s->dr7 };
	struct kvm_vcpu_events ev = {
		.nmi.masked = s->nmi_blocked,
		.interrupt.shadow = s->shadow == X86_SHADOW_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS :
				    s->shadow ? KVM_X86_SHADOW_INT_STI : 0,
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};
	/* One that waits for a SIPI has to be told so: KVM's "uninitialized" waits for an INIT first. */
	struct kvm_mp_state mp = {
		.mp_state = s->activity == X86_ACTIVE ? KVM_MP_STATE_RUNNABLE :
			    s->activity == X86_HALTED ? KVM_MP_STATE_HALTED : KVM_MP_STATE_INIT_RECEIVED,
	};

	memcpy(d.db, s->dr, sizeof(d.db));
	set_event(&ev, s);
	if (ioctl(k->fd, KVM_SET_MP_STATE, &mp) < 0 || ioctl(k->fd, KVM_SET_DEBUGREGS, &d) < 0 ||
	    ioctl(k->fd, KVM_SET_VCPU_EVENTS, &ev) < 0)
		return -errno;
	return 0;
}

int kvm_state_get(struct vcpu *v, struct x86_state *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);
	int r;

	memset(s, 0, sizeof(*s));
	r = get_regs(k, s);
	if (r == 0)
		r = get_sregs(k, s);
	if (r == 0)
		get_xcr0(k, s);
	if (r == 0)
		r = get_fpu(k, s);
	if (r == 0)
		r = each_msr(k, s, false);
	s->tsc_offset = s->tsc_adjust;		/* all that a vCPU's counter is ahead of the others' by (kvm.c, clock_get) */
	return r < 0 ? r : get_rest(k, s);
}

/* The local APIC's base comes first (with sregs): x2APIC mode decides which of
 * its registers exist.  XCR0 before the XSAVE image it governs. */
int kvm_state_set(struct vcpu *v, const struct x86_state *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(v);
	struct x86_state copy = *s;
	int r = set_sregs(k, s);

	if (r == 0)
		r = set_regs(k, s);
	if (r == 0)
		r = set_xcr0(k, s);
	if (r == 0)
		r = set_fpu(k, s);
	if (r == 0)
		r = each_msr(k, &copy, true);
	return r < 0 ? r : set_rest(k, s);
}
