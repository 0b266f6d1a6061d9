// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the guest's CPUID says: what KVM supports here, cut down to the model's
 * features, with this machine's topology.  Vendor, family and model are the
 * host's: an OS chooses errata and MSRs by them, and they are the host's own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "cpu/kvm/priv.h"

#define F1_ECX_X2APIC BIT(21)
#define F1_ECX_TSC_DEADLINE BIT(24)
#define F1_ECX_OSXSAVE BIT(27)
#define F1_ECX_HYPERVISOR BIT(31)
#define F1_EDX_HTT BIT(28)
#define F7_ECX_PKU BIT(3)
#define F7_EDX_AMX_TILE BIT(24)
#define F81_ECX_CMP_LEGACY BIT(1)
#define F81_ECX_TOPOEXT BIT(22)

static bool is_amd(const struct kvm_cpuid2 *l)
{
	for (unsigned i = 0; i < l->nent; i++)
		if (l->entries[i].function == 0)
			return l->entries[i].ebx == 0x68747541 || l->entries[i].ebx == 0x6f677948;	/* Auth, Hygo */
	return false;
}

/* Without a model: one socket of cores. */
static struct x86_topology topology_of(const struct kvm_engine *e)
{
	return e->has_model ? e->model.topology : (struct x86_topology){ .sockets = 1, .dies = 1, .cores = e->n_vcpus, .threads = 1 };
}

static void leaf1(struct kvm_vcpu *k, struct kvm_cpuid_entry2 *c)
{
	struct kvm_engine *e = k->e;
	struct x86_topology t = topology_of(e);

	c->ebx = (c->ebx & 0xff00) | k->v.id << 24 | 1u << x86_socket_shift(&t) << 16;
	c->ecx |= F1_ECX_X2APIC;
	if (ioctl(e->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		c->ecx |= F1_ECX_TSC_DEADLINE;
	if (e->has_model) {
		c->ecx &= e->model.feat[X86_F_1_ECX] | F1_ECX_X2APIC | F1_ECX_TSC_DEADLINE;
		c->edx &= e->model.feat[X86_F_1_EDX];
	}
	c->ecx = (c->ecx | F1_ECX_HYPERVISOR) & ~F1_ECX_OSXSAVE;
	c->edx &= ~F1_EDX_HTT;
	if (x86_per_socket(&t) > 1)
		c->edx |= F1_EDX_HTT;
}

static void mask_leaf7(const struct kvm_engine *e, struct kvm_cpuid_entry2 *c)
{
	if (!e->has_model)
		return;
	if (c->index == 0) {
		c->ebx &= e->model.feat[X86_F_7_EBX];
		c->ecx &= e->model.feat[X86_F_7_ECX];
		c->edx &= e->model.feat[X86_F_7_EDX];
	} else if (c->index == 1) {
		c->eax &= e->model.feat[X86_F_7_1_EAX];
	}
}

/* Components the model does not offer disappear; XCR0 may have those of leaf 0xD.0 only. */
static void mask_xstate(const struct kvm_engine *e, struct kvm_cpuid_entry2 *c)
{
	uint64_t offered = e->model.xcr0_mask | 3;

	if (e->model.feat[X86_F_7_ECX] & F7_ECX_PKU)
		offered |= BIT64(9);
	if (e->model.feat[X86_F_7_EDX] & F7_EDX_AMX_TILE)
		offered |= BIT64(17) | BIT64(18);
	if (c->index == 0) {
		c->eax &= (uint32_t)offered;
		c->edx &= (uint32_t)(offered >> 32);
	} else if (c->index == 1) {
		c->eax &= e->model.feat[X86_F_D_1_EAX];
	} else if (c->index < 63 && !(offered >> c->index & 1) && !(c->ecx & 1)) {
		c->eax = c->ebx = c->ecx = c->edx = 0;
	}
}

static void ext_features(const struct kvm_engine *e, struct kvm_cpuid_entry2 *c, bool amd)
{
	struct x86_topology t = topology_of(e);

	if (e->has_model) {
		c->ecx &= e->model.feat[X86_F_81_ECX];
		c->edx &= e->model.feat[X86_F_81_EDX];
	}
	c->ecx &= ~(F81_ECX_CMP_LEGACY | F81_ECX_TOPOEXT);
	if (amd && x86_per_socket(&t) > 1)
		c->ecx |= F81_ECX_CMP_LEGACY;
}

/* Registers in the order of x86_topology_leaf and the like. */
static void put(struct kvm_cpuid_entry2 *c, const uint32_t r[4])
{
	c->eax = r[0];
	c->ebx = r[1];
	c->ecx = r[2];
	c->edx = r[3];
}

static void topology(struct kvm_vcpu *k, struct kvm_cpuid_entry2 *c)
{
	struct x86_topology t = topology_of(k->e);
	uint32_t r[4];

	c->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	x86_topology_leaf(&t, c->function == 0x1f, k->v.id, c->index, r);
	put(c, r);
}

static void adjust(struct kvm_vcpu *k, struct kvm_cpuid_entry2 *c, bool amd)
{
	struct kvm_engine *e = k->e;
	struct x86_topology t = topology_of(e);
	uint32_t r[4];

	switch (c->function) {
	case 1:
		leaf1(k, c);
		break;
	case 4:
	case 0x8000001d:
		if (c->eax & 0x1f)
			c->eax = (c->eax & 0x3fff) | x86_topology_cache(&t, c->eax >> 5 & 7, c->function == 4);
		break;
	case 7:
		mask_leaf7(e, c);
		break;
	case 0xb:
	case 0x1f:
		topology(k, c);
		break;
	case 0xd:
		if (e->has_model)
			mask_xstate(e, c);
		break;
	case 0x80000001:
		ext_features(e, c, amd);
		break;
	case 0x80000008:
		if (e->has_model)
			c->ebx &= e->model.feat[X86_F_88_EBX];
		c->ecx = amd ? x86_topology_amd_size(&t) : 0;
		break;
	case 0x8000001e:
		x86_topology_amd(&t, k->v.id, r);
		put(c, r);
		break;
	}
}

/* Kernels before 6.x list leaf 0xB once or not at all: the levels are ours.  Only 0x1F knows dies. */
static void add_topology(struct kvm_cpuid2 *l, bool dies)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->nent; i++)
		if (l->entries[i].function != 0xb && l->entries[i].function != 0x1f)
			l->entries[n++] = l->entries[i];
	l->nent = n;
	for (unsigned sub = 0; sub < 2 && l->nent < KVM_MAX_CPUID; sub++)
		l->entries[l->nent++] = (struct kvm_cpuid_entry2){ .function = 0xb, .index = sub };
	for (unsigned sub = 0; dies && sub < 3 && l->nent < KVM_MAX_CPUID; sub++)
		l->entries[l->nent++] = (struct kvm_cpuid_entry2){ .function = 0x1f, .index = sub };
}

static uint32_t last_leaf(const struct kvm_cpuid2 *l)
{
	for (unsigned i = 0; i < l->nent; i++)
		if (l->entries[i].function == 0)
			return l->entries[i].eax;
	return 0;
}

int kvm_set_cpuid(struct kvm_vcpu *k, struct err *err)
{
	struct kvm_cpuid2 *l = calloc(1, sizeof(*l) + KVM_MAX_CPUID * sizeof(l->entries[0]));
	bool amd;
	int r = 0;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->nent = KVM_MAX_CPUID;
	if (ioctl(k->e->kvm, KVM_GET_SUPPORTED_CPUID, l) < 0) {
		r = err_set(err, -errno, "KVM: KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
		goto out;
	}
	if (last_leaf(l) >= 0xb)
		add_topology(l, last_leaf(l) >= 0x1f && topology_of(k->e).dies > 1);
	amd = is_amd(l);
	for (unsigned i = 0; i < l->nent; i++)
		adjust(k, &l->entries[i], amd);
	if (ioctl(k->fd, KVM_SET_CPUID2, l) < 0)
		r = err_set(err, -errno, "KVM: the CPU model was refused: %s", strerror(errno));
out:
	free(l);
	return r;
}
