/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and debug registers, XCR0, INVLPG/INVPCID, flag writes, breakpoint
 * matching and the I/O permission check (SDM vol. 3, 2.5, 18.2; vol. 1, 19.5).
 *
 * The caller has checked what depends on the instruction alone (CPL, encodings);
 * here are the checks on values.  Bits of features the CPU model lacks are
 * reserved.
 */
#include "cpu/x86/cpuid.h"
#include "cpu/x86/sys.h"
#include "cpu/x86/trial.h"

#define CR0_VALID                                                                                                      \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM |       \
	 X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

static bool feat(const struct x86_cpu *c, enum x86_feature_word w, unsigned bit)
{
	return x86_has(c->model, w, 1u << bit);
}

/* --- control registers --- */

uint64_t x86_get_cr(struct x86_cpu *c, unsigned n)
{
	if (n == 8)
		x86_trial_refuse(c);
	switch (n) {
	case 0: return c->s.cr0;
	case 2: return c->s.cr2;
	case 3: return c->s.cr3;
	case 4: return c->s.cr4;
	case 8: return c->vcpu.intc ? c->vcpu.intc->get_tpr(c->vcpu.intc_opaque) : 0;
	default: x86_ud(c);
	}
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LMA);
}

/* Entering IA-32e mode: 64-bit TSS or none, CS not already 64-bit, PAE on. */
static void check_enter_long(struct x86_cpu *c)
{
	unsigned tr_type = c->s.seg[X86_TR].attr & X86_AR_TYPE;

	if (!(c->s.cr4 & X86_CR4_PAE) || (c->s.seg[X86_CS].attr & X86_AR_L))
		x86_gp(c, 0);
	if (tr_type == X86_ST_TSS16 || tr_type == X86_ST_TSS16_BUSY)
		if (c->s.seg[X86_TR].sel & 0xfffc)
			x86_gp(c, 0);
}

static void check_cr0(struct x86_cpu *c, uint64_t v)
{
	if (v >> 32 || ((v & X86_CR0_PG) && !(v & X86_CR0_PE)) || ((v & X86_CR0_NW) && !(v & X86_CR0_CD)))
		x86_gp(c, 0);
	if (!(v & X86_CR0_PG) && c->paging) {
		if (c->mode == X86_MODE_LONG64 || (c->s.cr4 & X86_CR4_PCIDE))
			x86_gp(c, 0);
	}
}

static void set_cr0(struct x86_cpu *c, uint64_t v)
{
	uint64_t efer = c->s.efer, flush = X86_CR0_PG | X86_CR0_WP | X86_CR0_PE;

	check_cr0(c, v);
	v = (v & CR0_VALID) | X86_CR0_ET;
	if ((v & X86_CR0_PG) && !c->paging && (efer & X86_EFER_LME)) {
		check_enter_long(c);
		efer |= X86_EFER_LMA;
	} else if (!(v & X86_CR0_PG)) {
		efer &= ~(uint64_t)X86_EFER_LMA;
	}
	if (pae_paging(v, c->s.cr4, efer) && ((v ^ c->s.cr0) & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)))
		if (!x86_load_pdpte(c, c->s.cr3))
			x86_gp(c, 0);
	if ((c->s.cr0 ^ v) & flush)
		x86_tlb_flush(c);
	if (!(c->s.cr0 & X86_CR0_PE) && (v & X86_CR0_PE)) {
		/* CPL is 0 right after the switch whatever the low bits of CS say. */
		c->s.seg[X86_SS].attr &= ~X86_AR_DPL;
	}
	c->s.cr0 = v;
	c->s.efer = efer;
	x86_mode_update(c);
}

static uint64_t cr4_valid(const struct x86_cpu *c)
{
	uint64_t m = X86_CR4_TSD | X86_CR4_PCE;

	m |= feat(c, X86_F_1_EDX, 1) ? X86_CR4_VME | X86_CR4_PVI : 0;
	m |= feat(c, X86_F_1_EDX, 2) ? X86_CR4_DE : 0;
	m |= feat(c, X86_F_1_EDX, 3) ? X86_CR4_PSE : 0;
	m |= feat(c, X86_F_1_EDX, 6) ? X86_CR4_PAE : 0;
	m |= feat(c, X86_F_1_EDX, 7) ? X86_CR4_MCE : 0;
	m |= feat(c, X86_F_1_EDX, 13) ? X86_CR4_PGE : 0;
	m |= feat(c, X86_F_1_EDX, 24) ? X86_CR4_OSFXSR : 0;
	m |= feat(c, X86_F_1_EDX, 25) ? X86_CR4_OSXMMEXCPT : 0;
	m |= feat(c, X86_F_1_ECX, 17) ? X86_CR4_PCIDE : 0;
	m |= feat(c, X86_F_1_ECX, 26) ? X86_CR4_OSXSAVE : 0;
	m |= feat(c, X86_F_7_EBX, 0) ? X86_CR4_FSGSBASE : 0;
	m |= feat(c, X86_F_7_EBX, 7) ? X86_CR4_SMEP : 0;
	m |= feat(c, X86_F_7_EBX, 20) ? X86_CR4_SMAP : 0;
	m |= feat(c, X86_F_7_ECX, 2) ? X86_CR4_UMIP : 0;
	m |= feat(c, X86_F_7_ECX, 3) ? X86_CR4_PKE : 0;
	m |= feat(c, X86_F_7_ECX, 16) ? X86_CR4_LA57 : 0;
	return m;
}

static void check_cr4(struct x86_cpu *c, uint64_t v, uint64_t diff)
{
	if (v & ~cr4_valid(c))
		x86_gp(c, 0);
	if (c->long_mode && (diff & (X86_CR4_PAE | X86_CR4_LA57)))
		x86_gp(c, 0);
	if ((diff & v & X86_CR4_PCIDE) && (!c->long_mode || (c->s.cr3 & 0xfff)))
		x86_gp(c, 0);
}

static void set_cr4(struct x86_cpu *c, uint64_t v)
{
	uint64_t diff = v ^ c->s.cr4;
	uint64_t flush = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PCIDE |
			 X86_CR4_LA57 | X86_CR4_PKE;

	check_cr4(c, v, diff);
	if (pae_paging(c->s.cr0, v, c->s.efer) &&
	    (diff & (X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP)))
		if (!x86_load_pdpte(c, c->s.cr3))
			x86_gp(c, 0);
	c->s.cr4 = v;
	if (diff & flush)
		x86_tlb_flush(c);
	x86_mode_update(c);
}

static void set_cr3(struct x86_cpu *c, uint64_t v)
{
	bool keep = (c->s.cr4 & X86_CR4_PCIDE) && (v & X86_CR3_NOFLUSH);

	if (keep)
		v &= ~X86_CR3_NOFLUSH;
	if (c->mode == X86_MODE_LONG64) {
		if (v >> c->phys_bits)
			x86_gp(c, 0);
	} else {
		v &= 0xffffffffu;
	}
	if (pae_paging(c->s.cr0, c->s.cr4, c->s.efer) && !x86_load_pdpte(c, v))
		x86_gp(c, 0);
	x86_load_cr3(c, v, keep);
}

void x86_set_cr(struct x86_cpu *c, unsigned n, uint64_t v)
{
	switch (n) {
	case 0: set_cr0(c, v); break;
	case 2: c->s.cr2 = v; break;
	case 3: set_cr3(c, v); break;
	case 4: set_cr4(c, v); break;
	case 8:
		if (v >> 4)
			x86_gp(c, 0);
		x86_trial_refuse(c);
		if (c->vcpu.intc)
			c->vcpu.intc->set_tpr(c->vcpu.intc_opaque, (uint8_t)v);
		break;
	default: x86_ud(c);
	}
}

void x86_lmsw(struct x86_cpu *c, uint16_t v)
{
	/* May set PE, not clear it. */
	set_cr0(c, (c->s.cr0 & ~0xeull) | (v & 0xf));
}

void x86_clts(struct x86_cpu *c)
{
	c->s.cr0 &= ~(uint64_t)X86_CR0_TS;
	x86_mode_update(c);
}

/* --- XCR0 --- */

void x86_xsetbv(struct x86_cpu *c, uint32_t idx, uint64_t v)
{
	if (!(c->s.cr4 & X86_CR4_OSXSAVE))
		x86_ud(c);
	if (idx != 0 || !(v & 1) || (v & ~c->model->xcr0_mask))
		x86_gp(c, 0);
	if ((v & 4) && !(v & 2))
		x86_gp(c, 0);
	if ((v & 0xe0) && ((v & 0xe0) != 0xe0 || !(v & 4)))
		x86_gp(c, 0);
	if ((v & 0x18) && (v & 0x18) != 0x18)
		x86_gp(c, 0);
	c->s.xcr0 = v;
	x86_mode_update(c);
}

/* XGETBV with ECX = 1 (XINUSE): components not in their initial state.  Reporting
 * all enabled ones is allowed only for those that may be in use; the vector
 * state is looked at. */
static uint64_t xinuse(const struct x86_cpu *c)
{
	const struct x86_fpu *f = &c->s.fpu;
	uint64_t in_use = 1 | 2;
	uint8_t ymm = 0, zmm_hi = 0, hi16 = 0, k = 0;

	for (unsigned r = 0; r < 32; r++) {
		for (unsigned b = 0; b < 64; b++) {
			if (r >= 16)
				hi16 |= f->zmm[r][b];
			else if (b >= 32)
				zmm_hi |= f->zmm[r][b];
			else if (b >= 16)
				ymm |= f->zmm[r][b];
		}
	}
	for (unsigned r = 0; r < 8; r++)
		k |= f->k[r] != 0;
	in_use |= (ymm ? 4 : 0) | (k ? 0x20 : 0) | (zmm_hi ? 0x40 : 0) | (hi16 ? 0x80 : 0);
	if (f->pkru)
		in_use |= 0x200;
	return in_use;
}

uint64_t x86_xgetbv(struct x86_cpu *c, uint32_t idx)
{
	if (!(c->s.cr4 & X86_CR4_OSXSAVE))
		x86_ud(c);
	if (idx == 0)
		return c->s.xcr0;
	if (idx == 1 && feat(c, X86_F_D_1_EAX, 2))
		return c->s.xcr0 & xinuse(c);
	x86_gp(c, 0);
}

/* --- TLB instructions --- */

void x86_invlpg(struct x86_cpu *c, uint64_t lin)
{
	x86_tlb_flush_page(c, lin);
}

void x86_invpcid(struct x86_cpu *c, uint64_t type, uint64_t pcid, uint64_t lin)
{
	bool pcide = c->s.cr4 & X86_CR4_PCIDE;

	if (type > 3)
		x86_gp(c, 0);
	if (type <= 1 && ((pcid >> 12) || (!pcide && pcid)))
		x86_gp(c, 0);
	if (type >= 2 && pcid >> 12)
		x86_gp(c, 0);
	if (type == 0) {
		if (!x86_canonical_base(c, lin))
			x86_gp(c, 0);
		x86_tlb_flush_page(c, lin);
	} else {
		x86_tlb_flush(c);
	}
}

/* --- debug registers --- */

static unsigned dr_index(struct x86_cpu *c, unsigned n)
{
	if (n == 4 || n == 5) {
		if (c->s.cr4 & X86_CR4_DE)
			x86_ud(c);
		n += 2;
	}
	if (n > 7)
		x86_ud(c);
	return n;
}

static void general_detect(struct x86_cpu *c)
{
	if (!(c->s.dr7 & 1u << 13))
		return;
	c->pending = (struct x86_event){ .vector = X86_EX_DB, .kind = X86_EV_FAULT, .dr6 = 1u << 13 };
	longjmp(*c->fault_jmp, 1);
}

uint64_t x86_get_dr(struct x86_cpu *c, unsigned n)
{
	n = dr_index(c, n);
	general_detect(c);
	return n == 6 ? c->s.dr6 : n == 7 ? c->s.dr7 : c->s.dr[n];
}

void x86_set_dr(struct x86_cpu *c, unsigned n, uint64_t v)
{
	n = dr_index(c, n);
	general_detect(c);
	if (c->mode != X86_MODE_LONG64)
		v &= 0xffffffffu;
	if (n >= 6 && v >> 32)
		x86_gp(c, 0);
	if (n < 4)
		c->s.dr[n] = v;
	else if (n == 6)
		c->s.dr6 = (v & 0xe00f) | 0xffff0ff0u;
	else
		c->s.dr7 = (v & 0xffff2bffu) | 0x400;
	/* A watched page must leave the TLB when the address moves. */
	if (n < 4 && c->watch)
		x86_tlb_flush(c);
	x86_mode_update(c);
	if (n == 7 && c->watch)
		x86_tlb_flush(c);
}

/* --- breakpoints --- */

static unsigned bp_type(const struct x86_cpu *c, unsigned n) { return c->s.dr7 >> (16 + 4 * n) & 3; }

static unsigned bp_len(const struct x86_cpu *c, unsigned n)
{
	static const uint8_t len[4] = { 1, 2, 8, 4 };

	return len[c->s.dr7 >> (18 + 4 * n) & 3];
}

static bool bp_on(const struct x86_cpu *c, unsigned n) { return c->s.dr7 >> (2 * n) & 3; }

uint32_t x86_bp_exec(struct x86_cpu *c, uint64_t lin)
{
	uint32_t hit = 0, all = 0;

	if (!(c->s.dr7 & 0xff))
		return 0;
	for (unsigned n = 0; n < 4; n++) {
		if (bp_type(c, n) == 0 && c->s.dr[n] == lin) {
			all |= 1u << n;
			if (bp_on(c, n))
				hit |= 1u << n;
		}
	}
	return hit ? all : 0;
}

static uint32_t bp_range(struct x86_cpu *c, uint64_t at, unsigned len, unsigned type_mask)
{
	uint32_t hit = 0, all = 0;

	if (!(c->s.dr7 & 0xff))
		return 0;
	for (unsigned n = 0; n < 4; n++) {
		unsigned size = bp_len(c, n);
		uint64_t first = c->s.dr[n] & ~(uint64_t)(size - 1);

		if (!(type_mask >> bp_type(c, n) & 1) || at + len - 1 < first || at > first + size - 1)
			continue;
		all |= 1u << n;
		if (bp_on(c, n))
			hit |= 1u << n;
	}
	/* Once one fires, DR6 also shows the matching ones that are not enabled. */
	return hit ? all : 0;
}

uint32_t x86_bp_data(struct x86_cpu *c, uint64_t lin, unsigned len, bool write)
{
	return bp_range(c, lin, len, write ? 1u << 1 | 1u << 3 : 1u << 3);
}

uint32_t x86_bp_io(struct x86_cpu *c, uint16_t port, unsigned len)
{
	return c->s.cr4 & X86_CR4_DE ? bp_range(c, port, len, 1u << 2) : 0;
}

/* --- I/O permission --- */

void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned len)
{
	const struct x86_seg *tr = &c->s.seg[X86_TR];
	unsigned iopl = (c->s.rflags & X86_FL_IOPL) >> 12, type = tr->attr & X86_AR_TYPE;
	uint64_t map, at, bits;

	x86_trial_refuse(c);	/* a port access follows */
	if (c->mode == X86_MODE_REAL || (c->mode != X86_MODE_VM86 && c->cpl <= iopl))
		return;
	if (!(tr->attr & X86_AR_P) || (type != X86_ST_TSS32_BUSY && type != X86_ST_TSS32) || tr->limit < 103)
		x86_gp(c, 0);
	map = x86_ld(c, tr->base + 102, 2, X86_ACC_SUP);
	at = map + port / 8;
	/* Two bytes are read whatever the size, so both must exist. */
	if (at + 1 > tr->limit)
		x86_gp(c, 0);
	bits = x86_ld(c, tr->base + at, 2, X86_ACC_SUP) >> (port & 7);
	if (bits & ((1u << len) - 1))
		x86_gp(c, 0);
}

/* --- flags --- */

static void write_flags(struct x86_cpu *c, uint64_t v, uint64_t mask)
{
	c->s.rflags = (c->s.rflags & ~mask) | (v & mask) | X86_FL_FIXED;
	c->s.rflags &= ~(uint64_t)X86_FL_RF;
	x86_mode_update(c);
}

/* POPF where IF stands for VIF: virtual-8086 mode with VME, 16-bit operands. */
static void popf_vme(struct x86_cpu *c, uint64_t v, uint64_t mask)
{
	if ((v & X86_FL_TF) || ((v & X86_FL_IF) && (c->s.rflags & X86_FL_VIP)))
		x86_gp(c, 0);
	v = (v & 0xffff & ~(uint64_t)X86_FL_VIF) | (v & X86_FL_IF ? X86_FL_VIF : 0);
	write_flags(c, v, (mask & ~(uint64_t)(X86_FL_IF | X86_FL_IOPL)) | X86_FL_VIF);
}

void x86_set_flags(struct x86_cpu *c, uint64_t v, unsigned osz)
{
	unsigned iopl = (c->s.rflags & X86_FL_IOPL) >> 12;
	uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT;

	if (osz > 2)
		mask |= X86_FL_AC | X86_FL_ID;
	if (c->mode == X86_MODE_VM86) {
		if (iopl == 3) {
			write_flags(c, v, mask | X86_FL_IF);
			return;
		}
		if (osz != 2 || !(c->s.cr4 & X86_CR4_VME))
			x86_gp(c, 0);
		popf_vme(c, v, mask);
		return;
	}
	if (c->cpl == 0)
		mask |= X86_FL_IOPL | X86_FL_IF;
	else if (c->cpl <= iopl)
		mask |= X86_FL_IF;
	write_flags(c, v, mask);
}
