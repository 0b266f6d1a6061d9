/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU features: names, what the host has, what the software engines offer, and
 * what depends on what.
 *
 * A feature that is spelled out in C is offered everywhere; one that runs through
 * the host's own instruction only where the host has it.
 */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/features.h"

enum kind {
	ANY,	/* implemented in C */
	HOST,	/* runs on the host's instruction */
	NEVER,	/* has a name, is not offered */
};

struct feature {
	const char *name;
	uint8_t word, bit, kind;
};

/* clang-format off */
static const struct feature features[] = {
	{ "fpu", X86_F_1_EDX, 0, ANY }, { "vme", X86_F_1_EDX, 1, ANY }, { "de", X86_F_1_EDX, 2, ANY },
	{ "pse", X86_F_1_EDX, 3, ANY }, { "tsc", X86_F_1_EDX, 4, ANY }, { "msr", X86_F_1_EDX, 5, ANY },
	{ "pae", X86_F_1_EDX, 6, ANY }, { "mce", X86_F_1_EDX, 7, ANY }, { "cx8", X86_F_1_EDX, 8, ANY },
	{ "apic", X86_F_1_EDX, 9, ANY }, { "sep", X86_F_1_EDX, 11, ANY }, { "mtrr", X86_F_1_EDX, 12, ANY },
	{ "pge", X86_F_1_EDX, 13, ANY }, { "mca", X86_F_1_EDX, 14, ANY }, { "cmov", X86_F_1_EDX, 15, ANY },
	{ "pat", X86_F_1_EDX, 16, ANY }, { "pse36", X86_F_1_EDX, 17, ANY }, { "clflush", X86_F_1_EDX, 19, ANY },
	{ "ds", X86_F_1_EDX, 21, NEVER }, { "acpi", X86_F_1_EDX, 22, NEVER }, { "mmx", X86_F_1_EDX, 23, ANY },
	{ "fxsr", X86_F_1_EDX, 24, ANY }, { "sse", X86_F_1_EDX, 25, ANY }, { "sse2", X86_F_1_EDX, 26, ANY },
	{ "ss", X86_F_1_EDX, 27, NEVER }, { "ht", X86_F_1_EDX, 28, ANY }, { "tm", X86_F_1_EDX, 29, NEVER },
	{ "pbe", X86_F_1_EDX, 31, NEVER },

	{ "pni", X86_F_1_ECX, 0, HOST }, { "pclmulqdq", X86_F_1_ECX, 1, HOST }, { "monitor", X86_F_1_ECX, 3, NEVER },
	{ "vmx", X86_F_1_ECX, 5, NEVER }, { "ssse3", X86_F_1_ECX, 9, HOST }, { "fma", X86_F_1_ECX, 12, HOST },
	{ "cx16", X86_F_1_ECX, 13, HOST }, { "pdcm", X86_F_1_ECX, 15, NEVER }, { "pcid", X86_F_1_ECX, 17, ANY },
	{ "sse4.1", X86_F_1_ECX, 19, HOST }, { "sse4.2", X86_F_1_ECX, 20, HOST }, { "x2apic", X86_F_1_ECX, 21, ANY },
	{ "movbe", X86_F_1_ECX, 22, HOST }, { "popcnt", X86_F_1_ECX, 23, HOST },
	{ "tsc-deadline", X86_F_1_ECX, 24, ANY }, { "aes", X86_F_1_ECX, 25, HOST }, { "xsave", X86_F_1_ECX, 26, ANY },
	{ "avx", X86_F_1_ECX, 28, HOST }, { "f16c", X86_F_1_ECX, 29, HOST }, { "rdrand", X86_F_1_ECX, 30, HOST },
	{ "hypervisor", X86_F_1_ECX, 31, ANY },

	{ "fsgsbase", X86_F_7_EBX, 0, ANY }, { "tsc-adjust", X86_F_7_EBX, 1, ANY }, { "sgx", X86_F_7_EBX, 2, NEVER },
	{ "bmi1", X86_F_7_EBX, 3, HOST }, { "hle", X86_F_7_EBX, 4, NEVER }, { "avx2", X86_F_7_EBX, 5, HOST },
	{ "fdp-excptn-only", X86_F_7_EBX, 6, HOST }, { "smep", X86_F_7_EBX, 7, ANY },
	{ "bmi2", X86_F_7_EBX, 8, HOST }, { "erms", X86_F_7_EBX, 9, ANY }, { "invpcid", X86_F_7_EBX, 10, ANY },
	{ "rtm", X86_F_7_EBX, 11, NEVER }, { "zero-fcs-fds", X86_F_7_EBX, 13, HOST }, { "mpx", X86_F_7_EBX, 14, NEVER },
	{ "avx512f", X86_F_7_EBX, 16, HOST }, { "avx512dq", X86_F_7_EBX, 17, HOST },
	{ "rdseed", X86_F_7_EBX, 18, HOST }, { "adx", X86_F_7_EBX, 19, HOST }, { "smap", X86_F_7_EBX, 20, ANY },
	{ "avx512ifma", X86_F_7_EBX, 21, HOST }, { "clflushopt", X86_F_7_EBX, 23, ANY },
	{ "clwb", X86_F_7_EBX, 24, ANY }, { "intel-pt", X86_F_7_EBX, 25, NEVER },
	{ "avx512cd", X86_F_7_EBX, 28, HOST }, { "sha-ni", X86_F_7_EBX, 29, HOST },
	{ "avx512bw", X86_F_7_EBX, 30, HOST }, { "avx512vl", X86_F_7_EBX, 31, HOST },

	{ "avx512vbmi", X86_F_7_ECX, 1, HOST }, { "umip", X86_F_7_ECX, 2, ANY }, { "pku", X86_F_7_ECX, 3, NEVER },
	{ "waitpkg", X86_F_7_ECX, 5, NEVER }, { "avx512vbmi2", X86_F_7_ECX, 6, HOST }, { "gfni", X86_F_7_ECX, 8, HOST },
	{ "vaes", X86_F_7_ECX, 9, HOST }, { "vpclmulqdq", X86_F_7_ECX, 10, HOST },
	{ "avx512vnni", X86_F_7_ECX, 11, HOST }, { "avx512bitalg", X86_F_7_ECX, 12, HOST },
	{ "avx512-vpopcntdq", X86_F_7_ECX, 14, HOST }, { "la57", X86_F_7_ECX, 16, ANY },
	{ "rdpid", X86_F_7_ECX, 22, ANY }, { "cldemote", X86_F_7_ECX, 25, NEVER },
	{ "movdiri", X86_F_7_ECX, 27, NEVER }, { "movdir64b", X86_F_7_ECX, 28, NEVER },

	{ "fsrm", X86_F_7_EDX, 4, ANY }, { "avx512-vp2intersect", X86_F_7_EDX, 8, HOST },
	{ "md-clear", X86_F_7_EDX, 10, NEVER }, { "serialize", X86_F_7_EDX, 14, NEVER },
	{ "avx512-fp16", X86_F_7_EDX, 23, HOST }, { "spec-ctrl", X86_F_7_EDX, 26, ANY },
	{ "stibp", X86_F_7_EDX, 27, NEVER }, { "flush-l1d", X86_F_7_EDX, 28, NEVER },
	{ "arch-capabilities", X86_F_7_EDX, 29, ANY }, { "ssbd", X86_F_7_EDX, 31, NEVER },

	{ "avx-vnni", X86_F_7_1_EAX, 4, HOST }, { "avx512-bf16", X86_F_7_1_EAX, 5, HOST },
	{ "avx-ifma", X86_F_7_1_EAX, 23, HOST },

	{ "syscall", X86_F_81_EDX, 11, ANY }, { "nx", X86_F_81_EDX, 20, ANY }, { "mmxext", X86_F_81_EDX, 22, HOST },
	{ "fxsr-opt", X86_F_81_EDX, 25, NEVER }, { "pdpe1gb", X86_F_81_EDX, 26, ANY },
	{ "rdtscp", X86_F_81_EDX, 27, ANY }, { "lm", X86_F_81_EDX, 29, ANY },

	{ "lahf-lm", X86_F_81_ECX, 0, ANY }, { "cmp-legacy", X86_F_81_ECX, 1, NEVER }, { "svm", X86_F_81_ECX, 2, NEVER },
	{ "cr8legacy", X86_F_81_ECX, 4, ANY }, { "abm", X86_F_81_ECX, 5, HOST }, { "sse4a", X86_F_81_ECX, 6, HOST },
	{ "misalignsse", X86_F_81_ECX, 7, NEVER }, { "3dnowprefetch", X86_F_81_ECX, 8, ANY },
	{ "osvw", X86_F_81_ECX, 9, NEVER }, { "xop", X86_F_81_ECX, 11, NEVER }, { "fma4", X86_F_81_ECX, 16, NEVER },
	{ "tbm", X86_F_81_ECX, 21, NEVER }, { "topoext", X86_F_81_ECX, 22, ANY },

	{ "xsaveopt", X86_F_D_1_EAX, 0, ANY }, { "xsavec", X86_F_D_1_EAX, 1, ANY },
	{ "xgetbv1", X86_F_D_1_EAX, 2, ANY }, { "xsaves", X86_F_D_1_EAX, 3, ANY },

	{ "invtsc", X86_F_87_EDX, 8, HOST },

	{ "clzero", X86_F_88_EBX, 0, HOST }, { "xsaveerptr", X86_F_88_EBX, 2, HOST },
	{ "ibpb", X86_F_88_EBX, 12, NEVER }, { "amd-ssbd", X86_F_88_EBX, 24, NEVER },
	{ "amd-no-ssb", X86_F_88_EBX, 26, ANY }, { "btc-no", X86_F_88_EBX, 29, ANY },

	{ "kvm-nopiodelay", X86_F_KVM, 1, ANY }, { "kvmclock", X86_F_KVM, 3, ANY },
	{ "kvmclock-stable-bit", X86_F_KVM, 24, HOST },
	/* KVM's own: they take hypercalls, or write to the guest's memory. */
	{ "kvm-mmu", X86_F_KVM, 2, NEVER }, { "kvm-asyncpf", X86_F_KVM, 4, NEVER }, { "kvm-steal-time", X86_F_KVM, 5, NEVER },
	{ "kvm-pv-eoi", X86_F_KVM, 6, NEVER }, { "kvm-pv-unhalt", X86_F_KVM, 7, NEVER }, { "kvm-pv-tlb-flush", X86_F_KVM, 9, NEVER },
	{ "kvm-asyncpf-vmexit", X86_F_KVM, 10, NEVER }, { "kvm-pv-ipi", X86_F_KVM, 11, NEVER }, { "kvm-poll-control", X86_F_KVM, 12, NEVER },
	{ "kvm-pv-sched-yield", X86_F_KVM, 13, NEVER }, { "kvm-asyncpf-int", X86_F_KVM, 14, NEVER },
	{ "kvm-msi-ext-dest-id", X86_F_KVM, 15, NEVER },

	{ "arat", X86_F_6_EAX, 2, ANY },

	{ "lfence-always-serializing", X86_F_821_EAX, 2, ANY }, { "null-sel-clr-base", X86_F_821_EAX, 6, ANY },
	{ "auto-ibrs", X86_F_821_EAX, 8, ANY }, { "srso-no", X86_F_821_EAX, 29, ANY },
};

/* Second spellings; and kvmclock's old registers, which go with the new ones. */
static const struct { const char *name, *is; } aliases[] = {
	{ "sse3", "pni" }, { "sse4-1", "sse4.1" }, { "sse4_1", "sse4.1" }, { "sse4-2", "sse4.2" },
	{ "sse4_2", "sse4.2" }, { "lzcnt", "abm" }, { "i64", "lm" }, { "xd", "nx" }, { "sha", "sha-ni" },
	{ "avx512vpopcntdq", "avx512-vpopcntdq" }, { "avx512bf16", "avx512-bf16" }, { "avx512fp16", "avx512-fp16" },
};

/* Without `on`, what is listed cannot be. */
static const struct { const char *on, *needs[3]; } depends[] = {
	{ "sse", { "fxsr" } }, { "sse2", { "sse" } }, { "pni", { "sse2" } }, { "ssse3", { "pni" } },
	{ "sse4.1", { "ssse3" } }, { "sse4.2", { "sse4.1" } }, { "aes", { "sse2" } }, { "pclmulqdq", { "sse2" } },
	{ "sha-ni", { "sse2" } }, { "gfni", { "sse2" } }, { "xsaveopt", { "xsave" } }, { "xsavec", { "xsave" } },
	{ "xgetbv1", { "xsave" } }, { "xsaves", { "xsavec" } }, { "avx", { "xsave", "sse4.2" } },
	{ "f16c", { "avx" } }, { "fma", { "avx" } }, { "avx2", { "avx" } }, { "vaes", { "avx", "aes" } },
	{ "vpclmulqdq", { "avx", "pclmulqdq" } }, { "avx-vnni", { "avx2" } }, { "avx-ifma", { "avx2" } },
	{ "avx512f", { "avx2", "fma", "f16c" } }, { "avx512dq", { "avx512f" } }, { "avx512cd", { "avx512f" } },
	{ "avx512bw", { "avx512f" } }, { "avx512vl", { "avx512f" } }, { "avx512ifma", { "avx512f" } },
	{ "avx512vbmi", { "avx512bw" } }, { "avx512vbmi2", { "avx512bw" } }, { "avx512vnni", { "avx512f" } },
	{ "avx512bitalg", { "avx512bw" } }, { "avx512-vpopcntdq", { "avx512f" } },
	{ "avx512-vp2intersect", { "avx512f" } }, { "avx512-bf16", { "avx512bw" } },
	{ "avx512-fp16", { "avx512bw", "avx512vl", "avx512dq" } }, { "lm", { "pae", "nx" } }, { "pdpe1gb", { "lm" } },
	{ "la57", { "lm" } }, { "pcid", { "lm" } }, { "cx16", { "cx8" } }, { "x2apic", { "apic" } },
	{ "tsc-deadline", { "apic" } }, { "kvmclock", { "hypervisor" } }, { "kvmclock-stable-bit", { "kvmclock" } },
	{ "kvm-nopiodelay", { "hypervisor" } },
};
/* clang-format on */

static const struct feature *find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
		if (!strcmp(aliases[i].name, name))
			name = aliases[i].is;
	for (unsigned i = 0; i < ARRAY_LEN(features); i++)
		if (!strcmp(features[i].name, name))
			return &features[i];
	return NULL;
}

static bool is_set(const uint32_t feat[X86_F_WORDS], const struct feature *f)
{
	return feat[f->word] >> f->bit & 1;
}

bool x86_feature_find(const char *name, int *word, uint32_t *bit)
{
	const struct feature *f = find(name);

	if (!f)
		return false;
	*word = f->word;
	*bit = 1u << f->bit;
	return true;
}

void x86_feature_names(void (*fn)(void *opaque, const char *name, int word, uint32_t bit), void *opaque)
{
	for (unsigned i = 0; i < ARRAY_LEN(features); i++)
		if (features[i].kind != NEVER)
			fn(opaque, features[i].name, features[i].word, 1u << features[i].bit);
}

static const char *const words[X86_F_WORDS] = {
	"1.EDX", "1.ECX", "7.EBX", "7.ECX", "7.EDX", "7.1.EAX", "80000001.EDX", "80000001.ECX", "D.1.EAX", "80000007.EDX", "80000008.EBX",
	"40000001.EAX", "6.EAX", "80000021.EAX",
};

void x86_feature_names_all(void (*fn)(void *opaque, const char *name, int word, uint32_t bit), void *opaque)
{
	uint32_t named[X86_F_WORDS] = { 0 };
	char name[32];

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		fn(opaque, features[i].name, features[i].word, 1u << features[i].bit);
		named[features[i].word] |= 1u << features[i].bit;
	}
	for (int w = 0; w < X86_F_WORDS; w++)
		for (unsigned bit = 0; bit < 32; bit++)
			if (!(named[w] >> bit & 1)) {
				snprintf(name, sizeof(name), "CPUID.%s:%u", words[w], bit);
				fn(opaque, name, w, 1u << bit);
			}
}

void x86_features_close(uint32_t feat[X86_F_WORDS])
{
	bool again = true;

	while (again) {
		again = false;
		for (unsigned i = 0; i < ARRAY_LEN(depends); i++) {
			const struct feature *f = find(depends[i].on);

			for (unsigned n = 0; n < 3 && depends[i].needs[n]; n++)
				if (is_set(feat, f) && !is_set(feat, find(depends[i].needs[n]))) {
					feat[f->word] &= ~(1u << f->bit);
					again = true;
				}
		}
	}
}

const char *x86_feature_missing(const uint32_t feat[X86_F_WORDS], const char *name)
{
	const struct feature *f = find(name);

	for (unsigned i = 0; f && i < ARRAY_LEN(depends); i++)
		for (unsigned n = 0; n < 3 && depends[i].needs[n]; n++)
			if (!strcmp(depends[i].on, f->name) && !is_set(feat, find(depends[i].needs[n])))
				return depends[i].needs[n];
	return NULL;
}

void x86_host_features(uint32_t feat[X86_F_WORDS])
{
	static const struct { uint32_t leaf, sub; int8_t word[4]; } from[] = {
		{ 1, 0, { -1, -1, X86_F_1_ECX, X86_F_1_EDX } },
		{ 6, 0, { X86_F_6_EAX, -1, -1, -1 } },
		{ 7, 0, { -1, X86_F_7_EBX, X86_F_7_ECX, X86_F_7_EDX } },
		{ 7, 1, { X86_F_7_1_EAX, -1, -1, -1 } },
		{ 0xd, 1, { X86_F_D_1_EAX, -1, -1, -1 } },
		{ 0x80000001u, 0, { -1, -1, X86_F_81_ECX, X86_F_81_EDX } },
		{ 0x80000007u, 0, { -1, -1, -1, X86_F_87_EDX } },
		{ 0x80000008u, 0, { -1, X86_F_88_EBX, -1, -1 } },
		{ 0x80000021u, 0, { X86_F_821_EAX, -1, -1, -1 } },
	};
	unsigned max_sub7 = 0, r[4];

	memset(feat, 0, sizeof(uint32_t) * X86_F_WORDS);
	if (__get_cpuid_count(7, 0, &r[0], &r[1], &r[2], &r[3]))
		max_sub7 = r[0];
	for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
		if (from[i].leaf == 7 && from[i].sub > max_sub7)
			continue;
		if (!__get_cpuid_count(from[i].leaf, from[i].sub, &r[0], &r[1], &r[2], &r[3]))
			continue;
		for (unsigned n = 0; n < 4; n++)
			if (from[i].word[n] >= 0)
				feat[from[i].word[n]] = r[n];
	}
	/* What the host's kernel did not enable cannot be executed. */
	if (!(feat[X86_F_1_ECX] & 1u << 27))
		feat[X86_F_1_ECX] &= ~(1u << 26 | 1u << 28);
}

/* Vector state the host's kernel enabled. */
static uint64_t host_xcr0(const uint32_t host[X86_F_WORDS])
{
	uint32_t lo, hi;

	if (!(host[X86_F_1_ECX] & 1u << 27))
		return 3;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

void x86_soft_features(uint32_t feat[X86_F_WORDS])
{
	uint32_t host[X86_F_WORDS];
	uint64_t xcr0;

	x86_host_features(host);
	xcr0 = host_xcr0(host);
	if ((xcr0 & 6) != 6)
		host[X86_F_1_ECX] &= ~(1u << 28);
	if ((xcr0 & 0xe6) != 0xe6)
		host[X86_F_7_EBX] &= ~(1u << 16);
	/* Intel spells mmxext as part of SSE. */
	if (host[X86_F_1_EDX] & 1u << 25)
		host[X86_F_81_EDX] |= 1u << 22;
	/* A stable clock page needs a TSC that neither stops nor changes speed. */
	host[X86_F_KVM] = host[X86_F_87_EDX] & 1u << 8 ? 1u << 24 : 0;
	memset(feat, 0, sizeof(uint32_t) * X86_F_WORDS);
	for (unsigned i = 0; i < ARRAY_LEN(features); i++)
		if (features[i].kind == ANY || (features[i].kind == HOST && is_set(host, &features[i])))
			feat[features[i].word] |= 1u << features[i].bit;
	x86_features_close(feat);
}
