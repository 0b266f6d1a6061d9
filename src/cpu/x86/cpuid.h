/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU models: which CPUID leaves a guest sees, and which features that enables.
 *
 * `max` is everything the engine implements and the host can execute; the named
 * levels follow the x86-64 psABI (v2, v3, v4).  Feature names are QEMU's.
 */
#ifndef LODGE_CPU_X86_CPUID_H
#define LODGE_CPU_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/x86/topology.h"

enum x86_feature_word {
	X86_F_1_EDX, X86_F_1_ECX, X86_F_7_EBX, X86_F_7_ECX, X86_F_7_EDX, X86_F_7_1_EAX,
	X86_F_81_EDX, X86_F_81_ECX, X86_F_D_1_EAX, X86_F_87_EDX, X86_F_88_EBX, X86_F_KVM, X86_F_6_EAX,
	X86_F_821_EAX,
	X86_F_WORDS,
};

#define X86_PHYS_BITS_MAX 52

struct x86_cpu_model {
	char name[32];
	char vendor[13];
	char brand[49];
	uint32_t family, model, stepping;
	uint32_t feat[X86_F_WORDS];
	uint64_t xcr0_mask;		/* state components offered */
	uint8_t phys_bits, lin_bits;
	uint32_t tsc_khz;
	unsigned n_vcpus;
	struct x86_topology topology;	/* of all of them; one socket of cores unless somebody changes it */
	bool hypervisor;		/* leaf 0x40000000 "KVMKVMKVM" */
	bool xsave_own;			/* AVX-512's state components lie elsewhere than x86_xsave_component says */
};

/* What the running host's CPU has of the words (through cpuid on this thread). */
void x86_host_features(uint32_t feat[X86_F_WORDS]);
/* What the software engines implement; host-dependent parts (vector extensions,
 * run through host instructions) masked with the host's. */
void x86_soft_features(uint32_t feat[X86_F_WORDS]);

/* Parses "max", "max,+avx2,-aes", "x86-64-v3" ... limited to `avail`
 * (asking for what is not there is an error naming the feature). */
int x86_cpu_model_parse(const char *spec, const uint32_t avail[X86_F_WORDS], unsigned n_vcpus,
			struct x86_cpu_model *out, struct err *e);
/* One leaf for vCPU `id`.  cr4, xcr0, xss feed the dynamic bits (OSXSAVE, leaf 0xD sizes). */
void x86_model_cpuid(const struct x86_cpu_model *m, unsigned id, uint32_t leaf, uint32_t sub,
		     uint64_t cr4, uint64_t xcr0, uint64_t xss, uint32_t out[4]);
static inline bool x86_has(const struct x86_cpu_model *m, enum x86_feature_word w, uint32_t bit)
{
	return m->feat[w] & bit;
}
/* State components that go with these features: XCR0's bits, 0 without XSAVE. */
uint64_t x86_model_xcr0(const uint32_t feat[X86_F_WORDS]);
/* Names for --help: calls fn(name, word, bit). */
void x86_feature_names(void (*fn)(void *opaque, const char *name, int word, uint32_t bit), void *opaque);
/* Of all features, also those without a name or that the software engines never have. */
void x86_feature_names_all(void (*fn)(void *opaque, const char *name, int word, uint32_t bit), void *opaque);
/* Where state component n (2..63) lies in the standard XSAVE format, as leaf 0xD
 * tells the guest: the same on every host.  False: no such component. */
bool x86_xsave_component(unsigned n, uint32_t *offset, uint32_t *size);
/* Of the host: from CPUID, or measured, which takes 1 ms or more; kept by the caller. */
uint32_t x86_tsc_khz(void);

#endif
