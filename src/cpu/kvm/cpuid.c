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
#include <unistd.h>

#include "base/bits.h"
#include "cpu/kvm/priv.h"

#define F1_ECX_X2APIC BIT(21)
#define F1_ECX_TSC_DEADLINE BIT(24)
#define F1_ECX_OSXSAVE BIT(27)
#define F1_ECX_HYPERVISOR BIT(31)
#define F1_EDX_HTT BIT(28)
#define F7_ECX_PKU BIT(3)
/* State that saved guests have no place for: MPX, shadow stacks and branch tracking, AMX. */
#define F7_EBX_NOT BIT(14)
#define F7_ECX_NOT BIT(7)
#define F7_EDX_NOT (BIT(20) | BIT(22) | BIT(24) | BIT(25))
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
	if (c->index == 0) {
		c->eax &= (uint32_t)offered;
		c->edx &= (uint32_t)(offered >> 32);
	} else if (c->index == 1) {
		c->eax &= e->model.feat[X86_F_D_1_EAX];
		c->ecx = c->edx = 0;	/* supervisor state: that of what is not offered */
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
	c->ecx &= ~F81_ECX_CMP_LEGACY;
	if (e->has_model && amd)
		c->ecx |= e->model.feat[X86_F_81_ECX] & F81_ECX_TOPOEXT;
	else
		c->ecx &= ~F81_ECX_TOPOEXT;
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

	switch (c->function) {
	case 1:
		leaf1(k, c);
		break;
	case 4:
		if (c->eax & 0x1f)
			c->eax = (c->eax & 0x3fff) | x86_topology_cache(&t, c->eax >> 5 & 7, true);
		break;
	case 6:
		if (e->has_model)
			c->eax &= e->model.feat[X86_F_6_EAX];
		break;
	case 7:
		mask_leaf7(e, c);
		break;
	case 0xa:	/* performance counters: not for guests that are to move between engines */
		if (e->has_model && strcmp(e->model.name, "max") != 0)
			c->eax = c->ebx = c->ecx = c->edx = 0;
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
	case 0x40000001:
		if (e->has_model)
			c->eax &= e->model.feat[X86_F_KVM];
		break;
	case 0x80000007:
		if (e->has_model)
			c->edx &= e->model.feat[X86_F_87_EDX];
		break;
	case 0x80000021:
		if (e->has_model)
			c->eax &= e->model.feat[X86_F_821_EAX];
		break;
	case 0x80000008:
		if (e->has_model) {
			c->eax = e->model.phys_bits | (uint32_t)e->model.lin_bits << 8;
			c->ebx &= e->model.feat[X86_F_88_EBX];
		}
		c->ecx = amd ? x86_topology_amd_size(&t) : 0;
		break;
	}
}

/* AMD's caches and topology are the model's, with a leaf of its own each: KVM has none where the host's CPU does not list them. */
static void add_amd_topology(const struct kvm_vcpu *k, struct kvm_cpuid2 *l)
{
	const struct x86_cpu_model *m = &k->e->model;

	for (unsigned i = 0; i < 5 && l->nent < KVM_MAX_CPUID; i++) {
		uint32_t leaf = i < 4 ? 0x8000001d : 0x8000001e, sub = i < 4 ? i : 0, r[4];
		struct kvm_cpuid_entry2 *c = &l->entries[l->nent++];

		x86_model_cpuid(m, k->v.id, leaf, sub, 0, 0, 0, r);
		*c = (struct kvm_cpuid_entry2){ .function = leaf, .index = sub, .flags = i < 4 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0 };
		put(c, r);
	}
}

static bool is_topology(uint32_t leaf)
{
	return leaf == 0xb || leaf == 0x1f || leaf == 0x8000001d || leaf == 0x8000001e;
}

/* Kernels before 6.x list leaf 0xB once or not at all: the levels are ours.  Only 0x1F knows dies. */
static void add_topology(struct kvm_cpuid2 *l, bool dies)
{
	for (unsigned sub = 0; sub < 2 && l->nent < KVM_MAX_CPUID; sub++)
		l->entries[l->nent++] = (struct kvm_cpuid_entry2){ .function = 0xb, .index = sub };
	for (unsigned sub = 0; dies && sub < 3 && l->nent < KVM_MAX_CPUID; sub++)
		l->entries[l->nent++] = (struct kvm_cpuid_entry2){ .function = 0x1f, .index = sub };
}

static void drop_topology(struct kvm_cpuid2 *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->nent; i++)
		if (!is_topology(l->entries[i].function))
			l->entries[n++] = l->entries[i];
	l->nent = n;
}

static uint32_t last_leaf(const struct kvm_cpuid2 *l)
{
	for (unsigned i = 0; i < l->nent; i++)
		if (l->entries[i].function == 0)
			return l->entries[i].eax;
	return 0;
}

/* ---- what can be had ---- */

static void words_of(const struct kvm_cpuid_entry2 *c, uint32_t f[X86_F_WORDS])
{
	switch (c->function) {
	case 1:
		f[X86_F_1_ECX] = c->ecx;
		f[X86_F_1_EDX] = c->edx | F1_EDX_HTT;
		break;
	case 6: f[X86_F_6_EAX] = c->eax; break;
	case 7:
		if (c->index == 0) {
			f[X86_F_7_EBX] = c->ebx & ~F7_EBX_NOT;
			f[X86_F_7_ECX] = c->ecx & ~F7_ECX_NOT;
			f[X86_F_7_EDX] = c->edx & ~F7_EDX_NOT;
		} else if (c->index == 1) {
			f[X86_F_7_1_EAX] = c->eax;
		}
		break;
	case 0xd:
		if (c->index == 1)
			f[X86_F_D_1_EAX] = c->eax & 0xf;
		break;
	case 0x40000001: f[X86_F_KVM] = c->eax; break;
	case 0x80000001:
		f[X86_F_81_ECX] = c->ecx & ~F81_ECX_CMP_LEGACY;
		f[X86_F_81_EDX] = c->edx;
		break;
	case 0x80000007: f[X86_F_87_EDX] = c->edx & BIT(8); break;
	case 0x80000008: f[X86_F_88_EBX] = c->ebx; break;
	case 0x80000021: f[X86_F_821_EAX] = c->eax; break;
	}
}

static void limits_of(struct cpu_limits *l, const struct kvm_cpuid2 *list, bool deadline)
{
	uint32_t max_ext = 0, offset, size;

	l->phys_bits = 36;
	for (unsigned i = 0; i < list->nent; i++) {
		const struct kvm_cpuid_entry2 *c = &list->entries[i];

		words_of(c, l->feat);
		if (c->function == 0x80000000)
			max_ext = c->eax;
		if (c->function == 0x80000008)
			l->phys_bits = (uint8_t)(c->eax >> 16 & 0xff ? MIN(c->eax >> 16 & 0xff, c->eax & 0xff) : c->eax & 0xff);
		if (c->function == 0xd && c->index > 2 && c->eax && x86_xsave_component(c->index, &offset, &size) && (c->ebx != offset || c->eax != size))
			l->xsave_own = true;
	}
	/* KVM makes these itself, and does not say so; the topology is ours. */
	l->feat[X86_F_1_ECX] |= F1_ECX_X2APIC | F1_ECX_HYPERVISOR | (deadline ? F1_ECX_TSC_DEADLINE : 0);
	l->feat[X86_F_1_ECX] &= ~F1_ECX_OSXSAVE;
	if (is_amd(list) && max_ext >= 0x8000001e)
		l->feat[X86_F_81_ECX] |= F81_ECX_TOPOEXT;
	else
		l->feat[X86_F_81_ECX] &= ~F81_ECX_TOPOEXT;
}

int kvm_limits(struct cpu_limits *l, struct err *err)
{
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + KVM_MAX_CPUID * sizeof(list->entries[0]));
	char why[256], cure[256];
	int r = 0, fd = -1;

	memset(l, 0, sizeof(*l));
	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	fd = kvm_open(why, sizeof(why), cure, sizeof(cure));
	list->nent = KVM_MAX_CPUID;
	if (fd < 0)
		r = err_set(err, fd, "KVM: %s%s%s", why, *cure ? "; " : "", cure);
	else if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, list) < 0)
		r = err_set(err, -errno, "KVM: KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	else
		limits_of(l, list, ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
	if (fd >= 0)
		close(fd);
	free(list);
	return r;
}

int kvm_set_cpuid(struct kvm_vcpu *k, struct err *err)
{
	struct kvm_cpuid2 *l = calloc(1, sizeof(*l) + KVM_MAX_CPUID * sizeof(l->entries[0]));
	uint32_t last;
	bool amd;
	int r = 0;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->nent = KVM_MAX_CPUID;
	if (ioctl(k->e->kvm, KVM_GET_SUPPORTED_CPUID, l) < 0) {
		r = err_set(err, -errno, "KVM: KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
		goto out;
	}
	last = last_leaf(l);
	drop_topology(l);
	if (last >= 0xb)
		add_topology(l, last >= 0x1f && topology_of(k->e).dies > 1);
	amd = is_amd(l);
	if (amd && k->e->has_model && x86_has(&k->e->model, X86_F_81_ECX, F81_ECX_TOPOEXT))
		add_amd_topology(k, l);
	for (unsigned i = 0; i < l->nent; i++)
		adjust(k, &l->entries[i], amd);
	if (ioctl(k->fd, KVM_SET_CPUID2, l) < 0)
		r = err_set(err, -errno, "KVM: the CPU model was refused: %s", strerror(errno));
out:
	free(l);
	return r;
}
