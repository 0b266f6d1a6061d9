/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU models and the CPUID leaves made from them.
 *
 * The vendor is the host's, because vector instructions behave as the host's do
 * in what the manuals leave undefined; family and model are fixed per vendor, so
 * that a guest sees the same processor wherever it runs.  Every vCPU is one core
 * of one package, with its own L1 and L2 and a shared L3.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "cpu/x86/cpu.h"
#include "cpu/x86/features.h"
#include "cpu/x86/sys.h"

#define BRAND "Lodge Virtual CPU"
#define APIC_BUS_HZ 1000000000u		/* the local APIC's timer input */

bool x86_model_is_amd(const struct x86_cpu_model *m)
{
	return !strcmp(m->vendor, "AuthenticAMD") || !strcmp(m->vendor, "HygonGenuine");
}

/* --- parsing --- */

static const char *const level_v2[] = {
	"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge", "mca", "cmov", "pat",
	"pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "pni", "ssse3", "cx16", "sse4.1", "sse4.2", "x2apic", "popcnt",
	"tsc-deadline", "hypervisor", "tsc-adjust", "syscall", "nx", "mmxext", "rdtscp", "lm", "lahf-lm",
	"3dnowprefetch", "invtsc", "arat", "kvmclock", "kvmclock-stable-bit", "kvm-nopiodelay", "spec-ctrl",
	"arch-capabilities", "amd-no-ssb", "btc-no", "topoext", "lfence-always-serializing", "null-sel-clr-base", "auto-ibrs", "srso-no", NULL,
};
static const char *const level_v3[] = {
	"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave", "xsaveopt", "aes", "pclmulqdq", "rdrand",
	"fsgsbase", "smep", "smap", "erms", "invpcid", "pcid", "pdpe1gb", NULL,
};
static const char *const level_v4[] = {
	"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "xsavec", "xgetbv1", "umip", "rdpid", "clflushopt",
	"clwb", "adx", "rdseed", NULL,
};

/* What a level cannot be without (psABI); the rest of its list is taken if there. */
static const char *const must_v2[] = { "cx16", "lahf-lm", "popcnt", "pni", "sse4.1", "sse4.2", "ssse3", NULL };
static const char *const must_v3[] = { "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave", NULL };
static const char *const must_v4[] = { "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", NULL };

static const struct level {
	const char *name;
	const char *const *has, *const *must;
} levels[] = {
	{ "x86-64-v2", level_v2, must_v2 },
	{ "x86-64-v3", level_v3, must_v3 },
	{ "x86-64-v4", level_v4, must_v4 },
};

static bool available(const uint32_t avail[X86_F_WORDS], const char *name, int *word, uint32_t *bit)
{
	return x86_feature_find(name, word, bit) && (avail[*word] & *bit);
}

static int add_level(const struct level *l, const char *model, const uint32_t avail[X86_F_WORDS],
		     struct x86_cpu_model *m, struct err *e)
{
	uint32_t bit;
	int word;

	for (unsigned i = 0; l->must[i]; i++)
		if (!available(avail, l->must[i], &word, &bit))
			return err_set(e, -ENOTSUP, "CPU model %s needs %s, which is not available here; try --cpu max",
				       model, l->must[i]);
	for (unsigned i = 0; l->has[i]; i++)
		if (available(avail, l->has[i], &word, &bit))
			m->feat[word] |= bit;
	return 0;
}

static int add_base(const char *name, const uint32_t avail[X86_F_WORDS], struct x86_cpu_model *m, struct err *e)
{
	unsigned n = 0;
	int r = 0;

	snprintf(m->name, sizeof(m->name), "%.31s", name);
	if (!strcmp(name, "max")) {
		memcpy(m->feat, avail, sizeof(m->feat));
		return 0;
	}
	while (n < ARRAY_LEN(levels) && strcmp(levels[n].name, name))
		n++;
	if (n == ARRAY_LEN(levels))
		return err_set(e, -EINVAL, "unknown CPU model '%s' (known: max, x86-64-v2, x86-64-v3, x86-64-v4)", name);
	for (unsigned i = 0; i <= n && !r; i++)
		r = add_level(&levels[i], name, avail, m, e);
	return r;
}

static int apply_feature(const char *item, const uint32_t avail[X86_F_WORDS], struct x86_cpu_model *m, struct err *e)
{
	const char *need;
	uint32_t bit;
	int word;

	if (item[0] != '+' && item[0] != '-')
		return err_set(e, -EINVAL, "CPU feature '%s' must start with + or -", item);
	if (!x86_feature_find(item + 1, &word, &bit))
		return err_set(e, -EINVAL, "unknown CPU feature '%s'", item + 1);
	if (item[0] == '-') {
		m->feat[word] &= ~bit;
		return 0;
	}
	if (!(avail[word] & bit))
		return err_set(e, -ENOTSUP, "CPU feature '%s' is not available here", item + 1);
	m->feat[word] |= bit;
	need = x86_feature_missing(m->feat, item + 1);
	return need ? err_set(e, -EINVAL, "CPU feature '%s' needs '%s': add +%s", item + 1, need, need) : 0;
}

static int parse_items(const char *spec, const uint32_t avail[X86_F_WORDS], struct x86_cpu_model *m, struct err *e)
{
	char item[64];
	bool first = true;
	int r = 0;

	for (const char *p = spec; !r; first = false) {
		size_t n = strcspn(p, ",");

		if (n >= sizeof(item) || n >= sizeof(m->name))
			return err_set(e, -EINVAL, "'%.*s' is not a CPU model or feature", (int)MIN(n, 100u), p);
		memcpy(item, p, n);
		item[n] = 0;
		r = first ? add_base(item, avail, m, e) : apply_feature(item, avail, m, e);
		if (!p[n])
			break;
		p += n + 1;
	}
	return r;
}

static void identify(struct x86_cpu_model *m)
{
	unsigned a, b = 0, c = 0, d = 0;

	__get_cpuid(0, &a, &b, &c, &d);
	memcpy(m->vendor, &b, 4);
	memcpy(m->vendor + 4, &d, 4);
	memcpy(m->vendor + 8, &c, 4);
	snprintf(m->brand, sizeof(m->brand), BRAND);
	if (x86_model_is_amd(m)) {
		m->family = 0x19;	/* Zen 3 */
		m->model = 1;
		m->stepping = 1;
	} else {
		m->family = 6;		/* Ice Lake, server */
		m->model = 0x6a;
		m->stepping = 6;
	}
}

/* Bits that follow from others or from the vendor. */
uint64_t x86_model_xcr0(const uint32_t feat[X86_F_WORDS])
{
	if (!(feat[X86_F_1_ECX] & 1u << 26))
		return 0;
	return 3 | (feat[X86_F_1_ECX] & 1u << 28 ? 4 : 0) | (feat[X86_F_7_EBX] & 1u << 16 ? 0xe0 : 0);
}

static void settle(struct x86_cpu_model *m)
{
	uint32_t *f = m->feat;

	x86_features_close(f);
	if (x86_model_is_amd(m)) {
		/* Intel's registers for speculation control; AMD has others. */
		f[X86_F_7_EDX] &= ~(1u << 26 | 1u << 29);
	} else {
		f[X86_F_81_ECX] &= ~(1u << 22 | 1u << 4);
		f[X86_F_88_EBX] = f[X86_F_821_EAX] = 0;
		f[X86_F_81_EDX] &= ~(1u << 22);
	}
	if (f[X86_F_KVM] & 1u << 3)
		f[X86_F_KVM] |= 1;
	else
		f[X86_F_KVM] &= ~1u;
	if (m->n_vcpus < 2)
		f[X86_F_1_EDX] &= ~(1u << 28);
	m->hypervisor = f[X86_F_1_ECX] & 1u << 31;
	m->xcr0_mask = x86_model_xcr0(f);
}

/* Not more than the host has, so that a guest may go on under KVM. */
static uint8_t default_phys_bits(void)
{
	unsigned a, b, c, d, has = 36;

	if (__get_cpuid(0x80000008, &a, &b, &c, &d))
		has = a & 0xff;
	return (uint8_t)MIN(MAX(has, 36u), 46u);
}

int x86_cpu_model_parse(const char *spec, const uint32_t avail[X86_F_WORDS], unsigned n_vcpus,
			struct x86_cpu_model *out, struct err *e)
{
	struct x86_cpu_model m = { .n_vcpus = n_vcpus ? n_vcpus : 1, .phys_bits = default_phys_bits(), .lin_bits = 48 };
	int r;

	m.topology = (struct x86_topology){ .sockets = 1, .dies = 1, .cores = m.n_vcpus, .threads = 1 };
	identify(&m);
	r = parse_items(spec && *spec ? spec : "max", avail, &m, e);
	if (r)
		return r;
	settle(&m);
	if (m.feat[X86_F_7_ECX] & 1u << 16)
		m.lin_bits = 57;
	m.tsc_khz = x86_tsc_khz();
	*out = m;
	return 0;
}

/* --- TSC frequency --- */

static uint32_t khz_from_cpuid(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (uint32_t)((uint64_t)c * b / a / 1000);
	return 0;
}

static uint64_t raw_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct time_pair {
	uint64_t ns, tsc;
	uint64_t doubt;		/* in ticks */
};

/* From the least disturbed of several tries. */
static struct time_pair time_pair(void)
{
	struct time_pair best = { .doubt = ~0ull };

	for (unsigned i = 0; i < 16; i++) {
		uint64_t before = x86_host_tsc(), t = raw_ns(), after = x86_host_tsc();

		if (after - before < best.doubt)
			best = (struct time_pair){ t, before + (after - before) / 2, after - before };
	}
	return best;
}

/* In 1 ms, and more only while the doubt is above 50 ppm (clocks read by system calls).
 * Where the clock is made from the TSC in user space it is a few ppm at worst. */
static uint32_t khz_measured(void)
{
	struct time_pair from = time_pair(), to;

	do {
		to = time_pair();
	} while (to.ns - from.ns < 1000000 || (from.doubt + to.doubt) * 20000 > to.tsc - from.tsc);
	return (uint32_t)((to.tsc - from.tsc) * 1000000u / (to.ns - from.ns));
}

uint32_t x86_tsc_khz(void)
{
	uint32_t khz = khz_from_cpuid();

	return khz ? khz : khz_measured();
}

/* --- XSAVE --- */

/* Intel's layout; AMD's own differs, but software asks leaf 0xD. */
static const struct {
	uint16_t offset, size;
} xsave_comp[] = {
	[2] = { 576, 256 }, [5] = { 1088, 64 }, [6] = { 1152, 512 }, [7] = { 1664, 1024 },
};

bool x86_xsave_component(unsigned n, uint32_t *offset, uint32_t *size)
{
	if (n >= ARRAY_LEN(xsave_comp) || !xsave_comp[n].size)
		return false;
	*offset = xsave_comp[n].offset;
	*size = xsave_comp[n].size;
	return true;
}

static uint32_t xsave_size(uint64_t mask, bool compacted)
{
	uint32_t end = 576, off, size;

	for (unsigned i = 2; i < 63; i++) {
		if (!(mask >> i & 1) || !x86_xsave_component(i, &off, &size))
			continue;
		end = compacted ? end + size : off + size;
	}
	return end;
}

static void leaf_xsave(const struct x86_cpu_model *m, uint32_t sub, uint64_t xcr0, uint64_t xss, uint32_t r[4])
{
	uint32_t off, size;

	if (!m->xcr0_mask)
		return;
	if (sub == 0) {
		r[0] = (uint32_t)m->xcr0_mask;
		r[1] = xsave_size(xcr0, false);
		r[2] = xsave_size(m->xcr0_mask, false);
		r[3] = (uint32_t)(m->xcr0_mask >> 32);
	} else if (sub == 1) {
		r[0] = m->feat[X86_F_D_1_EAX];
		if (r[0] & 2)
			r[1] = xsave_size(xcr0 | xss, true);
	} else if (sub < 63 && (m->xcr0_mask >> sub & 1) && x86_xsave_component(sub, &off, &size)) {
		r[0] = size;
		r[1] = off;
	}
}

/* --- caches --- */

/* type: 1 data, 2 instruction, 3 unified; the layout of leaves 4 and 0x8000001D. */
static const struct cache {
	uint8_t type, level;
	uint16_t ways;
	uint32_t sets;
} caches[] = {
	{ 1, 1, 8, 64 }, { 2, 1, 8, 64 }, { 3, 2, 8, 2048 }, { 3, 3, 16, 16384 },
};

static void leaf_cache(const struct x86_cpu_model *m, uint32_t sub, bool intel, uint32_t r[4])
{
	const struct cache *k;

	if (sub >= ARRAY_LEN(caches))
		return;
	k = &caches[sub];
	r[0] = k->type | (uint32_t)k->level << 5 | 1u << 8 | x86_topology_cache(&m->topology, k->level, intel);
	r[1] = 63 | (k->ways - 1u) << 22;
	r[2] = k->sets - 1;
	r[3] = k->level == 3 && intel ? 4 : 0;	/* complex indexing */
}

/* --- leaves --- */

static void put_text(uint32_t r[4], const char *s)
{
	memcpy(r, s, 16);
}

static uint32_t signature(const struct x86_cpu_model *m)
{
	uint32_t fam = m->family, ext = 0;

	if (fam > 15) {
		ext = fam - 15;
		fam = 15;
	}
	return ext << 20 | (m->model >> 4) << 16 | fam << 8 | (m->model & 15) << 4 | m->stepping;
}

static void leaf_1(const struct x86_cpu_model *m, unsigned id, uint64_t cr4, uint32_t r[4])
{
	unsigned n = 1u << x86_socket_shift(&m->topology);

	r[0] = signature(m);
	r[1] = (id & 0xff) << 24 | (n > 255 ? 255 : n) << 16 | 8u << 8;
	r[2] = m->feat[X86_F_1_ECX] & ~(1u << 27);
	if (cr4 & X86_CR4_OSXSAVE)
		r[2] |= 1u << 27;
	r[3] = m->feat[X86_F_1_EDX];
	if (n < 2)
		r[3] &= ~(1u << 28);	/* nothing else is in the socket */
}

static void leaf_7(const struct x86_cpu_model *m, uint32_t sub, uint64_t cr4, uint32_t r[4])
{
	if (sub == 0) {
		r[0] = 1;
		r[1] = m->feat[X86_F_7_EBX];
		r[2] = m->feat[X86_F_7_ECX];
		if (cr4 & X86_CR4_PKE)
			r[2] |= 1u << 4;
		r[3] = m->feat[X86_F_7_EDX];
	} else if (sub == 1) {
		r[0] = m->feat[X86_F_7_1_EAX];
	}
}

static void basic_leaf(const struct x86_cpu_model *m, unsigned id, uint32_t leaf, uint32_t sub, uint64_t cr4,
		       uint64_t xcr0, uint64_t xss, uint32_t r[4])
{
	bool intel = !x86_model_is_amd(m);

	switch (leaf) {
	case 0:
		r[0] = intel ? 0x1f : 0x10;
		memcpy(&r[1], m->vendor, 4);
		memcpy(&r[3], m->vendor + 4, 4);
		memcpy(&r[2], m->vendor + 8, 4);
		break;
	case 1: leaf_1(m, id, cr4, r); break;
	case 2:
		r[0] = intel ? 0x00feff01 : 0;	/* caches in leaf 4, TLBs in leaf 0x18 */
		r[1] = intel ? 0xf0 : 0;
		break;
	case 4:
		if (intel)
			leaf_cache(m, sub, true, r);
		break;
	case 6: r[0] = m->feat[X86_F_6_EAX]; break;
	case 7: leaf_7(m, sub, cr4, r); break;
	case 0xb: x86_topology_leaf(&m->topology, false, id, sub, r); break;
	case 0xd: leaf_xsave(m, sub, xcr0, xss, r); break;
	case 0x15:
		if (intel) {
			r[0] = APIC_BUS_HZ / 1000;
			r[1] = m->tsc_khz;
			r[2] = APIC_BUS_HZ;
		}
		break;
	case 0x16:
		if (intel) {
			r[0] = r[1] = m->tsc_khz / 1000;
			r[2] = 100;
		}
		break;
	case 0x1f:
		if (intel)
			x86_topology_leaf(&m->topology, true, id, sub, r);
		break;
	default: break;
	}
}

static void kvm_leaf(const struct x86_cpu_model *m, uint32_t leaf, uint32_t r[4])
{
	if (leaf == 0x40000000u) {
		r[0] = 0x40000001u;
		memcpy(&r[1], "KVMKVMKVM\0\0\0", 12);
	} else if (leaf == 0x40000001u) {
		r[0] = m->feat[X86_F_KVM];
	}
}

static void amd_leaf(const struct x86_cpu_model *m, unsigned id, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	switch (leaf) {
	case 0x80000005u:	/* L1: KiB << 24, ways << 16, lines per tag << 8, line size */
		r[2] = r[3] = 32u << 24 | 8u << 16 | 1u << 8 | 64;
		break;
	case 0x80000006u:	/* L2 KiB << 16, 8 ways; L3 in 512 KiB units << 18, 16 ways */
		r[2] = 1024u << 16 | 6u << 12 | 1u << 8 | 64;
		r[3] = 32u << 18 | 8u << 12 | 1u << 8 | 64;
		break;
	case 0x8000001du: leaf_cache(m, sub, false, r); break;
	case 0x8000001eu:
		x86_topology_amd(&m->topology, id, r);
		break;
	case 0x80000021u:
		r[0] = m->feat[X86_F_821_EAX];
		/* No TSA. */
		r[2] = 1u << 1 | 1u << 2;
		break;
	default: break;
	}
}

static void ext_leaf(const struct x86_cpu_model *m, unsigned id, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	bool amd = x86_model_is_amd(m);
	uint32_t common = 0x0183f3ff;	/* bits AMD repeats from leaf 1 */

	switch (leaf) {
	case 0x80000000u:
		r[0] = amd ? 0x80000021u : 0x80000008u;
		if (amd) {
			memcpy(&r[1], m->vendor, 4);
			memcpy(&r[3], m->vendor + 4, 4);
			memcpy(&r[2], m->vendor + 8, 4);
		}
		break;
	case 0x80000001u:
		r[0] = amd ? signature(m) : 0;
		r[2] = m->feat[X86_F_81_ECX];
		r[3] = m->feat[X86_F_81_EDX] | (amd ? m->feat[X86_F_1_EDX] & common : 0);
		if (amd && x86_per_socket(&m->topology) > 1)
			r[2] |= 1u << 1;	/* CmpLegacy */
		break;
	case 0x80000002u: case 0x80000003u: case 0x80000004u:
		put_text(r, m->brand + (leaf - 0x80000002u) * 16);
		break;
	case 0x80000006u:
		if (!amd)
			r[2] = 1024u << 16 | 6u << 12 | 64;
		break;
	case 0x80000007u: r[3] = m->feat[X86_F_87_EDX]; break;
	case 0x80000008u:
		r[0] = m->phys_bits | (uint32_t)m->lin_bits << 8;
		r[1] = m->feat[X86_F_88_EBX];
		if (amd)
			r[2] = x86_topology_amd_size(&m->topology);
		break;
	default: break;
	}
	if (amd)
		amd_leaf(m, id, leaf, sub, r);
}

void x86_model_cpuid(const struct x86_cpu_model *m, unsigned id, uint32_t leaf, uint32_t sub, uint64_t cr4,
		     uint64_t xcr0, uint64_t xss, uint32_t out[4])
{
	uint32_t max_basic = x86_model_is_amd(m) ? 0x10 : 0x1f;

	memset(out, 0, 4 * sizeof(out[0]));
	if (leaf >= 0x80000000u) {
		ext_leaf(m, id, leaf, sub, out);
	} else if (m->hypervisor && leaf >= 0x40000000u && leaf < 0x40010000u) {
		kvm_leaf(m, leaf, out);
	} else {
		/* Beyond the last basic leaf Intel answers with the last one's data. */
		if (leaf > max_basic && !x86_model_is_amd(m))
			leaf = max_basic;
		basic_leaf(m, id, leaf, sub, cr4, xcr0, xss, out);
	}
}

void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	x86_model_cpuid(c->model, c->vcpu.id, leaf, sub, c->s.cr4, c->s.xcr0, c->s.xss, out);
	/* Leaf 1 tells whether the local APIC is globally enabled. */
	if (leaf == 1 && c->vcpu.intc && !(c->vcpu.intc->get_base(c->vcpu.intc_opaque) & 1u << 11))
		out[3] &= ~(1u << 9);
}
