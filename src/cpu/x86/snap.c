/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of what is saved of a vCPU.
 *
 * struct x86_state is flat, so its numbers are fields as they are; segments and
 * descriptor tables, which are structs, pass through arrays of their own.  What is
 * loaded is foreign: engines rely on modes that go together and on values that the
 * host takes into its own registers (MXCSR), and those are checked here.
 */
#include "cpu/x86/snap.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"

#define AR_ALL (X86_AR_TYPE | X86_AR_S | X86_AR_DPL | X86_AR_P | X86_AR_AVL | X86_AR_L | X86_AR_DB | X86_AR_G | X86_AR_UNUSABLE)
#define MXCSR_ALL 0xffffu
#define EFER_ALL (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | BIT(21))	/* automatic IBRS */
#define FX_X87 24u		/* bytes of the image that count: to here, and from FX_REGS to FX_END */
#define FX_REGS 32u
#define FX_END 160u

static const struct snap_field state_fields[] = {
	SNAP_ARRAY(struct x86_state, gpr),
	SNAP_ARRAY(struct x86_state, dr),
	SNAP_ARRAY(struct x86_state, mtrr_fixed),
	SNAP_ARRAY(struct x86_state, pae_pdpte),
	SNAP_FIELD(struct x86_state, rip),
	SNAP_FIELD(struct x86_state, rflags),
	SNAP_FIELD(struct x86_state, cr0),
	SNAP_FIELD(struct x86_state, cr2),
	SNAP_FIELD(struct x86_state, cr3),
	SNAP_FIELD(struct x86_state, cr4),
	SNAP_FIELD(struct x86_state, xcr0),
	SNAP_FIELD(struct x86_state, efer),
	SNAP_FIELD(struct x86_state, dr6),
	SNAP_FIELD(struct x86_state, dr7),
	SNAP_FIELD(struct x86_state, star),
	SNAP_FIELD(struct x86_state, lstar),
	SNAP_FIELD(struct x86_state, cstar),
	SNAP_FIELD(struct x86_state, fmask),
	SNAP_FIELD(struct x86_state, kernel_gs_base),
	SNAP_FIELD(struct x86_state, sysenter_cs),
	SNAP_FIELD(struct x86_state, sysenter_esp),
	SNAP_FIELD(struct x86_state, sysenter_eip),
	SNAP_FIELD(struct x86_state, pat),
	SNAP_FIELD(struct x86_state, misc_enable),
	SNAP_FIELD(struct x86_state, spec_ctrl),
	SNAP_FIELD(struct x86_state, tsc_adjust),
	SNAP_FIELD(struct x86_state, debugctl),
	SNAP_FIELD(struct x86_state, xss),
	SNAP_FIELD(struct x86_state, tsc_aux),
	SNAP_FIELD(struct x86_state, tsc_offset),
	SNAP_FIELD(struct x86_state, mtrr_def_type),
	SNAP_FIELD(struct x86_state, mcg_status),
	SNAP_FIELD(struct x86_state, kvm_system_time),
	SNAP_FIELD(struct x86_state, kvm_wall_clock),
	SNAP_FIELD(struct x86_state, kvm_steal_time),
	SNAP_FIELD(struct x86_state, kvm_poll),
	SNAP_FIELD(struct x86_state, kvm_async_pf),
	SNAP_FIELD(struct x86_state, kvm_eoi),
	SNAP_FIELD(struct x86_state, apic_base),
	SNAP_FIELD(struct x86_state, activity),
	SNAP_FIELD(struct x86_state, shadow),
	SNAP_FIELD(struct x86_state, nmi_blocked),
	SNAP_FIELD(struct x86_state, smm),
	{ "event", offsetof(struct x86_state, event), 1, 1, 2, 0 },
	{ "event_vector", offsetof(struct x86_state, event_vector), 1, 1, 2, 0 },
	{ "mtrr_var", offsetof(struct x86_state, mtrr_var), 8, X86_MTRR_VAR * 2, 0, 0 },
	{ "zmm", offsetof(struct x86_state, fpu.zmm), 8, 32 * 8, 0, 0 },
	SNAP_ARRAY(struct x86_state, fpu.fx),
	SNAP_ARRAY(struct x86_state, fpu.k),
	SNAP_FIELD(struct x86_state, fpu.mxcsr),
	SNAP_FIELD(struct x86_state, fpu.pkru),
	SNAP_END
};
static const struct snap_table state_table = { "x86", 2, state_fields };

/* The rest of a vCPU. */
struct rest {
	uint64_t base[X86_NSEG_ALL], table_base[2];	/* GDT, IDT */
	uint32_t limit[X86_NSEG_ALL], attr[X86_NSEG_ALL];
	uint16_t sel[X86_NSEG_ALL], table_limit[2];
	uint32_t events;
	uint8_t sipi_vector, nmis;
};

static const struct snap_field rest_fields[] = {
	SNAP_ARRAY(struct rest, base), SNAP_ARRAY(struct rest, limit), SNAP_ARRAY(struct rest, attr), SNAP_ARRAY(struct rest, sel),
	SNAP_ARRAY(struct rest, table_base), SNAP_ARRAY(struct rest, table_limit), SNAP_FIELD(struct rest, events),
	SNAP_FIELD(struct rest, sipi_vector), SNAP_FIELD(struct rest, nmis), SNAP_END
};
static const struct snap_table rest_table = { "x86-segments", 1, rest_fields };

static const struct snap_field model_fields[] = {
	SNAP_ARRAY(struct x86_cpu_model, name), SNAP_ARRAY(struct x86_cpu_model, vendor), SNAP_ARRAY(struct x86_cpu_model, brand),
	SNAP_FIELD(struct x86_cpu_model, family), SNAP_FIELD(struct x86_cpu_model, model), SNAP_FIELD(struct x86_cpu_model, stepping),
	{ "feat", offsetof(struct x86_cpu_model, feat), 4, X86_F_821_EAX, 0, 0 }, SNAP_FIELD(struct x86_cpu_model, xcr0_mask),
	SNAP_FIELD(struct x86_cpu_model, phys_bits), SNAP_FIELD(struct x86_cpu_model, lin_bits),
	SNAP_FIELD(struct x86_cpu_model, tsc_khz), SNAP_FIELD(struct x86_cpu_model, hypervisor),
	{ "xsave_own", offsetof(struct x86_cpu_model, xsave_own), 1, 1, 2, 1 },
	{ "feat_821_eax", offsetof(struct x86_cpu_model, feat[X86_F_821_EAX]), 4, 1, 3, 0 }, SNAP_END
};
static const struct snap_table model_table = { "x86-model", 3, model_fields };
_Static_assert(X86_F_821_EAX == 13 && X86_F_WORDS == 14, "saved models have the first 13 words as one field");
/* What AMD's guests were shown before it was saved. */
#define OLD_821_EAX (BIT(2) | BIT(6) | BIT(8) | BIT(29))

static void name_of(unsigned id, char *out, size_t len)
{
	snprintf(out, len, "vcpu.%u", id);
}

int x86_state_save(struct snap_out *o, unsigned id, const struct x86_state *s, const struct x86_pending *p)
{
	struct rest r = {
		.table_base = { s->gdtr.base, s->idtr.base }, .table_limit = { s->gdtr.limit, s->idtr.limit },
		.events = p->events & X86_PENDING, .sipi_vector = p->sipi_vector, .nmis = p->nmis,
	};
	char name[16];
	int ret;

	for (unsigned i = 0; i < X86_NSEG_ALL; i++) {
		r.base[i] = s->seg[i].base;
		r.limit[i] = s->seg[i].limit;
		r.attr[i] = s->seg[i].attr;
		r.sel[i] = s->seg[i].sel;
	}
	name_of(id, name, sizeof(name));
	ret = snap_put(o, name, &state_table, s);
	return ret ? ret : snap_put(o, name, &rest_table, &r);
}

/* What is wrong with it, or NULL. */
static const char *odd(const struct x86_state *s, const struct x86_cpu_model *m)
{
	bool pe = s->cr0 & X86_CR0_PE, pg = s->cr0 & X86_CR0_PG, lma = s->efer & X86_EFER_LMA;

	if (s->cr0 >> 32 || (pg && !pe) || (s->cr0 & X86_CR0_NW && !(s->cr0 & X86_CR0_CD)))
		return "CR0";
	if (s->efer & ~(uint64_t)EFER_ALL || lma != (pg && s->efer & X86_EFER_LME))
		return "EFER";
	if (s->cr4 >> 25 || (lma && !(s->cr4 & X86_CR4_PAE)) || (s->cr4 & X86_CR4_PCIDE && !lma) || (s->cr4 & X86_CR4_LA57 && m->lin_bits != 57))
		return "CR4";
	if (!(s->xcr0 & 1) || s->xcr0 & ~(m->xcr0_mask | 1 | (x86_has(m, X86_F_7_ECX, BIT(3)) ? BIT64(9) : 0)) || (s->xcr0 & 4 && !(s->xcr0 & 2)) ||
	    (s->xcr0 & 0xe0 && (s->xcr0 & 0xe4) != 0xe4))
		return "XCR0";
	if (s->rflags >> 22 || (lma && s->rflags & X86_FL_VM) || (s->rflags & X86_FL_VM && !pe))
		return "RFLAGS";
	if (s->fpu.mxcsr & ~MXCSR_ALL)
		return "MXCSR";
	if (s->dr6 >> 32 || s->dr7 >> 32)
		return "DR6 or DR7";
	if (s->activity > X86_WAIT_SIPI || s->shadow > X86_SHADOW_MOVSS || s->nmi_blocked > 1 || s->smm)
		return "its activity";
	if (s->event > X86_WAY_TRAP || (s->event == X86_WAY_TRAP && s->event_vector != X86_EX_DB))
		return "the event it is to take";
	for (unsigned i = 0; i < X86_NSEG_ALL; i++)
		if (s->seg[i].attr & ~AR_ALL)
			return "a segment";
	if (s->seg[X86_CS].attr & X86_AR_L && (!lma || s->seg[X86_CS].attr & X86_AR_DB))
		return "CS";
	return NULL;
}

/* Long mode's addresses are canonical, bases elsewhere have 32 bits. */
static bool canonical(const struct x86_state *s, const struct x86_cpu_model *m)
{
	unsigned shift = 64 - m->lin_bits;
	const uint64_t all[] = {
		s->seg[X86_FS].base, s->seg[X86_GS].base, s->seg[X86_LDTR].base, s->seg[X86_TR].base, s->gdtr.base, s->idtr.base,
		s->kernel_gs_base, s->lstar, s->cstar, s->sysenter_eip, s->sysenter_esp, s->seg[X86_CS].attr & X86_AR_L ? s->rip : 0,
	};

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		if ((uint64_t)((int64_t)(all[i] << shift) >> shift) != all[i])
			return false;
	return s->seg[X86_CS].attr & X86_AR_L || !(s->rip >> 32);
}

static int check(unsigned id, const struct x86_state *s, const struct x86_cpu_model *m, struct err *e)
{
	const char *what = odd(s, m);

	if (!what && !canonical(s, m))
		what = "an address";
	return what ? err_set(e, -EINVAL, "the saved state of vCPU %u makes no sense: %s", id, what) : 0;
}

int x86_state_load(struct snap_in *in, unsigned id, const struct x86_cpu_model *m, struct x86_state *s, struct x86_pending *p,
		   struct err *e)
{
	struct rest r = { .events = 0 };
	char name[16];
	int ret;

	name_of(id, name, sizeof(name));
	memset(s, 0, sizeof(*s));
	ret = snap_get(in, name, &state_table, s, e);
	if (!ret)
		ret = snap_get(in, name, &rest_table, &r, e);
	if (ret)
		return ret;
	for (unsigned i = 0; i < X86_NSEG_ALL; i++)
		s->seg[i] = (struct x86_seg){ .base = r.base[i], .limit = r.limit[i], .attr = r.attr[i], .sel = r.sel[i] };
	s->gdtr = (struct x86_dtable){ .base = r.table_base[0], .limit = r.table_limit[0] };
	s->idtr = (struct x86_dtable){ .base = r.table_base[1], .limit = r.table_limit[1] };
	s->rflags |= X86_FL_FIXED;
	memset(s->fpu.fx + FX_X87, 0, FX_REGS - FX_X87);
	memset(s->fpu.fx + FX_END, 0, sizeof(s->fpu.fx) - FX_END);
	*p = (struct x86_pending){ .events = r.events & X86_PENDING, .sipi_vector = r.sipi_vector, .nmis = MIN(r.nmis, 2) };
	return check(id, s, m, e);
}

int x86_model_save(struct snap_out *o, const struct x86_cpu_model *m)
{
	return snap_put(o, "cpu", &model_table, m);
}

static bool text_ok(char *text, size_t len)
{
	for (size_t i = 0; i < len && text[i]; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	return !text[len - 1];
}

int x86_model_load(struct snap_in *in, struct x86_cpu_model *m, struct err *e)
{
	int ret;

	memset(m, 0, sizeof(*m));
	m->feat[X86_F_821_EAX] = OLD_821_EAX;
	ret = snap_get(in, "cpu", &model_table, m, e);
	if (ret)
		return ret;
	if (strcmp(m->vendor, "AuthenticAMD") && strcmp(m->vendor, "HygonGenuine"))
		m->feat[X86_F_821_EAX] = 0;
	if (!text_ok(m->name, sizeof(m->name)) || !text_ok(m->vendor, sizeof(m->vendor)) || !text_ok(m->brand, sizeof(m->brand)) ||
	    m->xcr0_mask != x86_model_xcr0(m->feat) || m->phys_bits < 32 || m->phys_bits > 52 || (m->lin_bits != 48 && m->lin_bits != 57) || m->tsc_khz < 1000 ||
	    m->tsc_khz > 100000000)
		return err_set(e, -EINVAL, "the saved CPU model makes no sense");
	return 0;
}

struct naming {
	const uint32_t *lack;
	char text[400];
	size_t len;
};

static void add_name(void *opaque, const char *name, int word, uint32_t bit)
{
	struct naming *n = opaque;

	if (n->lack[word] & bit && n->len < sizeof(n->text))
		n->len += (size_t)snprintf(n->text + n->len, sizeof(n->text) - n->len, "%s%s", n->len ? ", " : "", name);
}

int x86_model_fits(const struct x86_cpu_model *m, const uint32_t avail[X86_F_WORDS], struct err *e)
{
	uint32_t lack[X86_F_WORDS], any = 0;
	struct naming n = { .lack = lack };

	for (unsigned i = 0; i < X86_F_WORDS; i++)
		any |= lack[i] = m->feat[i] & ~avail[i];
	if (!any)
		return 0;
	x86_feature_names_all(add_name, &n);
	return err_set(e, -ENOTSUP, "the guest has seen CPU features that this engine lacks on this host: %s; "
		       "a guest that is to move is started with --cpu x86-64-v2 or the like", n.text);
}

int x86_model_goes(const struct x86_cpu_model *m, const struct x86_cpu_model *here, struct err *e)
{
	int ret = x86_model_fits(m, here->feat, e);

	if (ret)
		return ret;
	if (m->phys_bits > here->phys_bits)
		return err_set(e, -ENOTSUP, "the guest has physical addresses of %u bits, and here are %u", m->phys_bits, here->phys_bits);
	if (m->xcr0_mask & 0xe0 && m->xsave_own != here->xsave_own)
		return err_set(e, -ENOTSUP, "the guest's processes have AVX-512 state laid out as another engine or vendor does; "
			       "a guest that is to move is started with --cpu x86-64-v3 or the like");
	if (strcmp(m->vendor, here->vendor) != 0)
		return err_set(e, -ENOTSUP, "the guest has seen a CPU of %.12s, and here is one of %.12s", m->vendor, here->vendor);
	return 0;
}
