/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Native user code, see direct.h.
 *
 * What is not exact here, and why, is in docs/QUIRKS.md: above all, instructions
 * that do not fault in user mode and tell of the CPU (CPUID, RDPID, LSL).  Pages
 * of code that hold one are not made executable: translated code runs them.
 */
#include "cpu/translate/direct.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/x86/cpuid.h"
#include "cpu/x86/decode.h"
#include "cpu/x86/sys.h"

#define LARGE_PAGE 0x200000ull
#define SPACE_SIZE (DIRECT_MAP_SIZE * (sizeof(struct direct_map) + sizeof(uint32_t)))
#define AROUND 32		/* pages that are mapped with the one that is missing */
#define AROUND_CODE 8
#define FLAGS_NATIVE (X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT | X86_FL_AC | X86_FL_ID)
#define DR6_BS (1u << 14)
#define FLAGS_ODD (X86_FL_TF | X86_FL_IOPL | X86_FL_NT | X86_FL_RF | X86_FL_VM | X86_FL_AC | X86_FL_ID | 1u << 19 | 1u << 20)

/* Where the host's XSAVE area has what; bytes, 0: it has not. */
static struct {
	uint64_t xcr0;
	unsigned avx, opmask, zmm_hi256, hi16_zmm;
	bool umip, ok;
} host;

static void host_find(void)
{
	unsigned a, b, c, d, lo, hi;

	if (host.ok || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return;
	host.umip = c & 4;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & BIT(27)))
		return;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	host.xcr0 = (uint64_t)hi << 32 | lo;
	host.ok = (host.xcr0 & 7) == 7;
	for (unsigned n = 2; n < 8; n++) {
		if (!(host.xcr0 & BIT64(n)) || !__get_cpuid_count(0xd, n, &a, &b, &c, &d))
			continue;
		if (b + a > SANDBOX_XSTATE)
			host.ok = false;
		switch (n) {
		case 2: host.avx = b; break;
		case 5: host.opmask = b; break;
		case 6: host.zmm_hi256 = b; break;
		case 7: host.hi16_zmm = b; break;
		}
	}
}

/* --- registers --- */

/* The image of the guest's vector and x87 state. */
static void put_fpu(const struct x86_fpu *f, struct sandbox *sb)
{
	alignas(64) uint8_t img[SANDBOX_XSTATE];

	memcpy(img, sb->xstate, sb->xstate_len);
	memcpy(img, f->fx, 24);
	st_le32(img + 24, f->mxcsr);
	memcpy(img + 32, f->fx + 32, 128);
	for (unsigned n = 0; n < 16; n++)
		memcpy(img + 160 + 16 * n, f->zmm[n], 16);
	for (unsigned n = 0; n < 16; n++)
		memcpy(img + host.avx + 16 * n, f->zmm[n] + 16, 16);
	if (host.opmask)
		memcpy(img + host.opmask, f->k, sizeof(f->k));
	if (host.zmm_hi256)
		for (unsigned n = 0; n < 16; n++)
			memcpy(img + host.zmm_hi256 + 32 * n, f->zmm[n] + 32, 32);
	if (host.hi16_zmm)
		memcpy(img + host.hi16_zmm, f->zmm[16], sizeof(f->zmm[0]) * 16);
	if (!memcmp(img, sb->xstate, sb->xstate_len))
		return;
	st_le64(img + 512, host.xcr0);	/* what is in its initial state is said so in full */
	memcpy(sb->xstate, img, sb->xstate_len);
	sb->xstate_new = true;
}

static void get_fpu(struct x86_fpu *f, const struct sandbox *sb)
{
	const uint8_t *img = sb->xstate;

	memcpy(f->fx, img, 24);
	f->fx[5] = 0;
	f->mxcsr = ld_le32(img + 24);
	memcpy(f->fx + 32, img + 32, 128);
	for (unsigned n = 0; n < 16; n++) {
		memcpy(f->zmm[n], img + 160 + 16 * n, 16);
		memcpy(f->zmm[n] + 16, img + host.avx + 16 * n, 16);
		if (host.zmm_hi256)
			memcpy(f->zmm[n] + 32, img + host.zmm_hi256 + 32 * n, 32);
	}
	if (host.opmask)
		memcpy(f->k, img + host.opmask, sizeof(f->k));
	if (host.hi16_zmm)
		memcpy(f->zmm[16], img + host.hi16_zmm, sizeof(f->zmm[0]) * 16);
}

static void put_regs(struct x86_cpu *c, struct direct_space *s)
{
	const uint64_t *g = c->s.gpr;

	flags_out(c);
	s->sb.regs = (struct user_regs_struct){
		.rax = g[0], .rcx = g[1], .rdx = g[2], .rbx = g[3], .rsp = g[4], .rbp = g[5], .rsi = g[6], .rdi = g[7],
		.r8 = g[8], .r9 = g[9], .r10 = g[10], .r11 = g[11], .r12 = g[12], .r13 = g[13], .r14 = g[14], .r15 = g[15],
		.rip = c->s.rip, .eflags = c->s.rflags, .cs = 0x33, .ss = 0x2b,
		.fs_base = c->s.seg[X86_FS].base, .gs_base = c->s.seg[X86_GS].base };
	x86_x87_sync(c);
	put_fpu(&c->s.fpu, &s->sb);
}

static void get_regs(struct x86_cpu *c, const struct direct_space *s)
{
	const struct user_regs_struct *r = &s->sb.regs;
	const uint64_t g[16] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
				 r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };

	memcpy(c->s.gpr, g, sizeof(g));
	c->s.rip = r->rip;
	c->s.rflags = (c->s.rflags & ~(uint64_t)FLAGS_NATIVE) | (r->eflags & FLAGS_NATIVE);
	c->s.seg[X86_FS].base = r->fs_base;
	c->s.seg[X86_GS].base = r->gs_base;
	flags_in(c);
	get_fpu(&c->s.fpu, &s->sb);
}

/*
 * User code may load segment registers by itself: Linux on the host has the descriptors that a Linux guest has.
 * The vCPU gets those of its own tables; a fault, where they have none, is QUIRKS'.
 */
static void get_segments(struct x86_cpu *c, const struct user_regs_struct *r)
{
	const struct { uint8_t seg; unsigned long long sel, base; } data[] = { { X86_DS, r->ds, 0 }, { X86_ES, r->es, 0 },
		{ X86_FS, r->fs, r->fs_base }, { X86_GS, r->gs, r->gs_base } };
	struct x86_desc d;

	c->cur_uop = NULL;
	for (unsigned n = 0; n < ARRAY_LEN(data); n++) {
		if ((uint16_t)data[n].sel == c->s.seg[data[n].seg].sel)
			continue;
		x86_load_seg(c, data[n].seg, (uint16_t)data[n].sel);
		if (data[n].base)
			c->s.seg[data[n].seg].base = data[n].base;
	}
	if ((uint16_t)r->ss != c->s.seg[X86_SS].sel)
		x86_load_seg(c, X86_SS, (uint16_t)r->ss);
	if ((uint16_t)r->cs != c->s.seg[X86_CS].sel) {	/* a far jump into 32-bit code */
		x86_read_desc(c, (uint16_t)r->cs, &d, X86_EX_GP);
		if (!desc_code(&d) || desc_dpl(&d) != 3 || !desc_p(&d))
			x86_gp(c, (uint16_t)r->cs & 0xfffc);
		x86_commit_cs(c, (uint16_t)r->cs, &d, 3);
	}
	x86_mode_update(c);
}

static bool segments_moved(const struct x86_cpu *c, const struct user_regs_struct *r)
{
	const struct x86_seg *g = c->s.seg;

	return ((r->cs ^ g[X86_CS].sel) | (r->ss ^ g[X86_SS].sel) | (r->ds ^ g[X86_DS].sel) | (r->es ^ g[X86_ES].sel) |
		(r->fs ^ g[X86_FS].sel) | (r->gs ^ g[X86_GS].sel)) & 0xffff;
}

/* Is the vCPU in a state that a process of the host can be in? */
static bool fits(struct x86_cpu *c)
{
	const struct x86_seg *g = c->s.seg;

	return c->cpl == 3 && c->mode == X86_MODE_LONG64 && c->acc == X86_ACC_USER && g[X86_CS].sel == 0x33 && g[X86_SS].sel == 0x2b &&
	       !(g[X86_DS].sel | g[X86_ES].sel | g[X86_FS].sel | g[X86_GS].sel) && (c->s.rflags & X86_FL_IF) &&
	       !(c->s.rflags & FLAGS_ODD) && !c->step_mode && !c->watch && !c->s.shadow && !(c->s.dr7 & 0xff) &&
	       c->s.xcr0 == host.xcr0 && (c->s.cr4 & (X86_CR4_OSXSAVE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)) ==
	       (X86_CR4_OSXSAVE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT) && !(c->s.cr4 & X86_CR4_PKE) &&
	       !(c->s.cr0 & (X86_CR0_TS | X86_CR0_EM)) && (c->s.cr0 & X86_CR0_NE) && !(c->s.rip >> 47) &&
	       g[X86_FS].base < SANDBOX_TOP && g[X86_GS].base < SANDBOX_TOP && !mem_dirty_enabled(c->vcpu.m->mem);
}

/* --- which code must not run natively --- */

/* Does code that is read from a little before run into an instruction that begins at `at`? */
static bool begins_at(const uint8_t *page, unsigned at)
{
	for (unsigned back = 29; back <= 48; back += 9) {
		unsigned i = at > back ? at - back : 0;
		struct insn n;

		while (i < at) {
			int r = insn_decode(&n, page + i, (unsigned)PAGE_4K - i, 64);

			i += r < 0 || !n.len ? 1 : n.len;
		}
		if (i != at)
			return false;
	}
	return true;
}

/* An instruction that tells of the CPU and that user code may run unasked. */
static bool tells(const uint8_t *page, unsigned i)
{
	const uint8_t *p = page + i;

	switch (p[1]) {
	case 0xa2: return begins_at(page, i);	/* CPUID */
	case 0xc7: return i && p[2] >= 0xf8 && (p[-1] == 0xf3 || (i > 1 && p[-2] == 0xf3));	/* RDPID */
	case 0x02: case 0x03: return begins_at(page, i);	/* LAR, LSL */
	case 0x01:
		if (p[2] == 0xf9)		/* RDTSCP */
			return begins_at(page, i);
		/* fall through */
	case 0x00:				/* VERR, VERW; SLDT, STR, SGDT, SIDT, SMSW */
		if (!p[1] && (p[2] >> 3 & 6) == 4)
			return begins_at(page, i);
		return !host.umip && ((p[2] >> 3 & 7) < 2 || (p[1] && (p[2] >> 3 & 7) == 4)) && begins_at(page, i);
	default: return false;
	}
}

static bool code_is_plain(const uint8_t *page)
{
	const uint8_t *end = page + PAGE_4K - 3, *p = page;

	while (p < end && (p = memchr(p, 0x0f, (size_t)(end - p))) != NULL) {
		if (tells(page, (unsigned)(p - page)))
			return false;
		p++;
	}
	return true;
}

/* --- mappings --- */

static void forget_all(struct direct_space *s)
{
	memset(s->map, 0, DIRECT_MAP_SIZE * sizeof(*s->map));
	s->n = s->n_gone = s->n_list = 0;
	s->stale = false;
	s->n_dead = 0;
}

/* False: the process is gone. */
static bool clear(struct xl_direct *d, struct direct_space *s)
{
	pthread_mutex_lock(&d->lock);
	forget_all(s);
	pthread_mutex_unlock(&d->lock);
	d->n_cleared++;
	return sandbox_clear(&s->sb);
}

/* A search ends at an empty entry, so there has to be one; and the list has an end. */
static bool has_room(const struct direct_space *s)
{
	return s->n < DIRECT_MAP_MAX && s->n + s->n_gone < DIRECT_MAP_SIZE / 4 * 3 && s->n_list < DIRECT_MAP_SIZE;
}

/* There is room. */
static void note(struct direct_space *s, uint64_t key, uint64_t offset)
{
	uint64_t page = key & ~0xfffull, large = key & DM_LARGE;
	struct direct_map *m = NULL;

	for (unsigned i = xl_direct_hash(page | large);; i++) {
		struct direct_map *at = &s->map[i % DIRECT_MAP_SIZE];

		if (at->key && (at->key & DM_USED) && ((at->key ^ key) & (~0xfffull | DM_LARGE)) == 0) {
			*at = (struct direct_map){ key, offset };
			return;
		}
		if (!m && (!at->key || (at->key & DM_GONE)))
			m = at;
		if (!at->key)
			break;
	}
	s->n_gone -= (m->key & DM_GONE) != 0;
	s->n++;
	*m = (struct direct_map){ key, offset };
	s->list[s->n_list++] = (uint32_t)(m - s->map);
}

static bool unmap(struct xl_direct *d, struct direct_space *s, struct direct_map *m)
{
	uint64_t page = m->key & ~0xfffull, len = m->key & DM_LARGE ? LARGE_PAGE : PAGE_4K;

	m->key = DM_GONE;
	s->n--;
	s->n_gone++;
	d->n_unmapped++;
	return sandbox_unmap(&s->sb, page, len);
}

static uint64_t page_of(uint64_t lin, const struct x86_user_page *p) { return lin & ~(p->size - 1); }

/* Whether the tables still give what the mapping has. */
static bool still(struct x86_cpu *c, const struct direct_map *m)
{
	struct x86_user_page p;

	return x86_user_page(c, m->key & ~0xfffull, &p) && (p.size == LARGE_PAGE) == !!(m->key & DM_LARGE) && p.offset == m->offset &&
	       (p.write || !(m->key & DM_WRITE)) && (p.exec || !(m->key & DM_EXEC));
}

static bool check_one(struct xl_direct *d, struct direct_space *s, struct direct_map *m)
{
	d->n_checked += s->stale;
	return (m->key & DM_DEAD) || (s->stale && !still(&d->x->ic.c, m)) ? unmap(d, s, m) : true;
}

/* Dead mappings go, stale ones are compared. False: the process is gone. */
static bool freshen(struct xl_direct *d, struct direct_space *s)
{
	bool ok = true;

	pthread_mutex_lock(&d->lock);
	if (!s->stale && s->n_dead <= DIRECT_DEAD) {
		for (unsigned k = 0; k < s->n_dead && ok; k++)
			if ((s->map[s->dead[k]].key & (DM_USED | DM_DEAD)) == (DM_USED | DM_DEAD))
				ok = unmap(d, s, &s->map[s->dead[k]]);
	} else {
		unsigned kept = 0;

		for (unsigned k = 0; k < s->n_list && ok; k++) {
			struct direct_map *m = &s->map[s->list[k]];

			if (m->key & DM_USED)
				ok = check_one(d, s, m);
			if (m->key & DM_USED)
				s->list[kept++] = s->list[k];
		}
		s->n_list = kept;
	}
	s->stale = false;
	s->n_dead = 0;
	pthread_mutex_unlock(&d->lock);
	return ok;
}

/*
 * May it be written to behind the flags' back? From now on who marks the page ends that.
 * wanted: code that was made of it is given up for that. (Memory that held code is used
 * for other things in time, and marks stay until something is stored on them.)
 */
static bool writable(struct xl_direct *d, const struct x86_user_page *p, bool wanted)
{
	for (uint64_t n = 0; n < p->size / PAGE_4K; n++) {
		if (wanted && (atomic_load(&p->flags[n]) & MEM_PG_CODE))
			x86_codemap_hit_page(d->x->ic.c.codemap, &p->flags[n], 0, (unsigned)PAGE_4K);
		atomic_fetch_or(&p->flags[n], MEM_PG_DIRECT);
		if (atomic_load(&p->flags[n]) & MEM_PG_CODE)
			return false;
	}
	return true;
}

static bool plain(const struct x86_user_page *p)
{
	for (uint64_t n = 0; n < p->size / PAGE_4K; n++)
		if (!code_is_plain(p->host + n * PAGE_4K))
			return false;
	return true;
}

/* Maps the page lin lies in. code: it is to run, else it is to be written where that is allowed.
 * wanted: as writable has it. False: that cannot be, and nothing is mapped. */
static bool map(struct xl_direct *d, struct direct_space *s, uint64_t lin, struct x86_user_page *p, bool code, bool wanted)
{
	uint64_t page = page_of(lin, p), key;
	bool w, ok;

	if (p->size == LARGE_PAGE && (page < SANDBOX_LOW || page + p->size > SANDBOX_TOP ||
				      (page < SANDBOX_PAGE + SANDBOX_OWN && SANDBOX_PAGE < page + p->size) ||
				      (code ? !plain(p) : p->write && !writable(d, p, wanted)))) {
		/* A piece of it. */
		uint64_t in = (lin & ~0xfffull) - page;

		p->offset += in;
		p->host += in;
		p->flags += in / PAGE_4K;
		p->size = PAGE_4K;
		page += in;
	}
	if (page < SANDBOX_LOW || page >= SANDBOX_TOP || page - SANDBOX_PAGE < SANDBOX_OWN)
		return false;
	if (code && (!p->exec || !plain(p)))
		return false;
	if (!has_room(s) && !clear(d, s))
		return false;
	key = page | DM_USED | (p->size == LARGE_PAGE ? DM_LARGE : 0) | (code ? DM_EXEC : 0);
	pthread_mutex_lock(&d->lock);
	w = !code && p->write && writable(d, p, wanted);
	note(s, key | (w ? DM_WRITE : 0), p->offset);
	pthread_mutex_unlock(&d->lock);
	d->n_mapped++;
	ok = sandbox_map(&s->sb, page, p->offset, p->size, PROT_READ | (w ? PROT_WRITE : 0) | (code ? PROT_EXEC : 0));
	if (!ok)
		clear(d, s);
	return ok;
}

/*
 * What interp's access just now went through. The tables may have lost the accessed or
 * dirty bit that it needed, while its TLB remembered: then it is asked again.
 */
static bool accessed(struct x86_cpu *c, uint64_t lin, bool code, bool wrote, struct x86_user_page *p)
{
	const struct x86_tlb_entry *e;
	uint32_t err;

	if (x86_user_page(c, lin, p) && (p->write || !wrote))
		return true;
	x86_tlb_flush_page(c, lin);
	return x86_tlb_look(c, lin, code ? X86_EXEC : wrote ? X86_WRITE : X86_READ, X86_ACC_USER, &e, &err) == X86_LOOK_OK &&
	       x86_user_page(c, lin, p);
}

/* The page at lin, which an access needs, and those near it that the guest has in use. */
static bool map_around(struct xl_direct *d, struct direct_space *s, uint64_t lin, bool code)
{
	struct x86_cpu *c = &d->x->ic.c;
	uint64_t n = code ? AROUND_CODE : AROUND, from = lin & ~(n * PAGE_4K - 1);
	bool wrote = !code && x86_tlb_cached(c, lin, X86_WRITE, X86_ACC_USER) != NULL;
	struct x86_user_page p;

	if (!accessed(c, lin, code, wrote, &p) || !map(d, s, lin, &p, code, wrote))
		return false;
	for (uint64_t at = from; at < from + n * PAGE_4K; at += PAGE_4K) {
		const struct direct_map *m = xl_direct_find(s, at);

		/* What is mapped for the other use stays so. */
		if ((m && !(m->key & DM_DEAD)) || !x86_user_page(c, at, &p) || p.exec != code || p.size != PAGE_4K)
			continue;
		map(d, s, at, &p, code, false);
	}
	return true;
}

/* --- spaces --- */

static void space_free(struct xl_direct *d, struct direct_space *s)
{
	pthread_mutex_lock(&d->lock);	/* nobody kicks it any more, or looks into its map */
	s->cr3 = 0;
	pthread_mutex_unlock(&d->lock);
	sandbox_free(&s->sb);
	if (s->map)
		munmap(s->map, SPACE_SIZE);
	s->map = NULL;
}

/* It has the host's counter, if that is the guest's and user mode may read it. False: it is gone. */
static bool tsc_as_guest(const struct x86_cpu *c, struct direct_space *s)
{
	return sandbox_tsc(&s->sb, !(c->tsc_base_offset + c->s.tsc_offset) && !(c->s.cr4 & X86_CR4_TSD));
}

/* What going there and back costs: the least of a few times. */
static bool measure(struct xl_direct *d, struct direct_space *s)
{
	for (unsigned n = 0; n < 6; n++) {
		uint64_t begun = x86_host_tsc(), took;

		s->sb.regs = (struct user_regs_struct){ .rip = SANDBOX_PAGE + 0x102, .eflags = 0x202, .cs = 0x33, .ss = 0x2b };
		if (sandbox_run(&s->sb) == SANDBOX_GONE)
			return false;
		took = x86_host_tsc() - begun;
		if (!d->handoff || took < d->handoff)
			d->handoff = took;
	}
	return true;
}

static struct direct_space *space_new(struct xl_direct *d, uint64_t cr3)
{
	struct direct_space *s = &d->space[0];

	for (unsigned n = 0; n < DIRECT_SPACES; n++) {
		if (!d->space[n].cr3) {
			s = &d->space[n];
			break;
		}
		if (d->space[n].last < s->last)
			s = &d->space[n];
	}
	if (s->cr3)
		space_free(d, s);
	s->map = mmap(NULL, SPACE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		return NULL;
	}
	s->list = (uint32_t *)(s->map + DIRECT_MAP_SIZE);
	s->n = s->n_gone = s->n_list = 0;
	s->stale = false;
	s->n_dead = 0;
	s->wants = 0;
	if (sandbox_new(&s->sb, mem_ram_fd(d->x->ic.c.vcpu.m->mem), NULL) < 0 || !tsc_as_guest(&d->x->ic.c, s) ||
	    !sandbox_apply(&s->sb) || !measure(d, s)) {
		space_free(d, s);
		return NULL;
	}
	pthread_mutex_lock(&d->lock);
	s->cr3 = cr3;
	pthread_mutex_unlock(&d->lock);
	d->n_spaces++;
	return s;
}

static struct direct_space *space_of(struct xl_direct *d, uint64_t cr3)
{
	for (unsigned n = 0; n < DIRECT_SPACES; n++)
		if (d->space[n].cr3 == cr3)
			return &d->space[n];
	return space_new(d, cr3);
}

/* --- running --- */

/* While thread and process run in turn for short they share a CPU (see sandbox.c), which the host's scheduler
 * does not see: it would wake each of them on the one that is idle. */
static void bind_thread(struct xl_direct *d, bool bound)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	if (d->bound == bound || cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (bound && sched_getaffinity(0, sizeof(d->allowed), &d->allowed) < 0)
		return;
	if (sched_setaffinity(0, sizeof(set), bound ? &set : &d->allowed) == 0)
		d->bound = bound;
}

/* The process runs; false: it did not, since something else is to be done first. */
static bool go(struct xl_direct *d, struct direct_space *s, enum sandbox_stop *why)
{
	struct interp_cpu *ic = &d->x->ic;
	uint64_t begun, took, lost;
	bool events;

	pthread_mutex_lock(&d->lock);
	events = s->n_dead != 0;	/* by another vCPU */
	d->running = s->sb.pid;
	pthread_mutex_unlock(&d->lock);
	atomic_store(&ic->outside, true);
	events |= atomic_load(&ic->c.vcpu.events) != 0;
	begun = x86_host_tsc();
	if (!events)
		*why = sandbox_run(&s->sb);
	took = x86_host_tsc() - begun;
	atomic_store(&ic->outside, false);
	pthread_mutex_lock(&d->lock);
	d->running = 0;
	pthread_mutex_unlock(&d->lock);
	if (events)
		return false;
	s->last = begun + took;
	took = took > d->handoff ? took - d->handoff : 0;
	d->brief = took < d->stay_brief;
	lost = begun - d->since;	/* comparing and mapping */
	d->since = s->last;
	d->ticks += took;
	d->n_run++;
	xl_direct_stayed(d, xl_direct_record(d, s->cr3), took > lost ? took - lost : 0);
	return true;
}

/* The n bytes before lin, in its page. */
static bool bytes_before(struct x86_cpu *c, uint64_t lin, uint8_t *out, unsigned n)
{
	struct x86_user_page p;

	if ((lin & 0xfff) < n || !x86_user_page(c, lin, &p))
		return false;
	memcpy(out, p.host + (lin & (p.size - 1)) - n, n);
	return true;
}

/* It stopped at a system call: the guest makes it, in translated code. */
static void at_syscall(struct xl_direct *d, struct direct_space *s)
{
	struct x86_cpu *c = &d->x->ic.c;
	uint8_t b[2];

	d->n_syscall++;
	c->s.gpr[X86_RAX] = s->sb.regs.orig_rax;
	if (bytes_before(c, c->s.rip, b, 2) && ((b[0] == 0x0f && b[1] == 0x05) || (b[0] == 0xcd && b[1] == 0x80)))
		c->s.rip -= 2;
	else if ((c->s.rip & 0xfff) < 2)	/* astride two pages */
		c->s.rip -= 2;
}

/* By a signal: interp does the instruction, and what it needed is mapped. False: translated code goes on. */
static bool at_signal(struct xl_direct *d, struct direct_space *s)
{
	bool missing = s->sb.signo == SIGSEGV && (s->sb.code == SEGV_MAPERR || s->sb.code == SEGV_ACCERR);
	uint64_t at = s->sb.fault_addr, rip;
	struct x86_cpu *c = &d->x->ic.c;
	const struct direct_map *m;
	uint8_t b;

	if (s->sb.signo == SIGTRAP && s->sb.code == TRAP_TRACE) {	/* the program has set TF itself */
		c->db_trap.dr6 |= DR6_BS;
		c->leave_block = true;
		return true;
	}
	if (s->sb.signo == SIGTRAP && bytes_before(c, c->s.rip, &b, 1) && (b == 0xcc || b == 0xf1))
		c->s.rip--;
	rip = c->s.rip;
	d->n_fault += missing;
	d->n_signal += !missing;
	m = missing ? xl_direct_find(s, rip & ~0xfffull) : NULL;
	s->wants = missing ? at & ~0xfffull : 0;
	xl_interp_once(d->x);	/* raises what there is to raise */
	s->wants = 0;
	if (!missing || (at >> 47))
		return true;
	if ((at ^ rip) < PAGE_4K && (!m || !(m->key & DM_EXEC)))
		return map_around(d, s, rip, true);
	/* The end of an instruction astride two pages is code as well. */
	if (((rip + 15) ^ rip) >= PAGE_4K && at == ((rip + 15) & ~0xfffull) && c->s.rip > at && c->s.rip - at < 15)
		return map_around(d, s, at, true);
	map_around(d, s, at, false);
	return true;
}

static void give_up(struct xl_direct *d, struct direct_space *s)
{
	struct direct_record *r = xl_direct_record(d, s->cr3);

	space_free(d, s);
	r->on = d->always;
}

static void run(struct xl_cpu *x)
{
	struct xl_direct *d = x->direct;
	struct x86_cpu *c = &x->ic.c;
	uint64_t cr3 = c->s.cr3 & 0x000ffffffffff000ull;
	struct direct_record *r = xl_direct_record(d, cr3);
	struct direct_space *s = NULL;

	d->since = x86_host_tsc();
	x->exit = NULL;
	x->direct_on = false;	/* until user code is come to again */
	while (fits(c)) {
		enum sandbox_stop why = SANDBOX_GONE;

		if (!s && (s = space_of(d, cr3)) == NULL) {
			d->impossible = true;
			r->on = false;
			return;
		}
		if (s->wants) {		/* the guest's kernel has seen to it meanwhile */
			struct x86_user_page p;

			if (x86_user_page(c, s->wants, &p) && (!p.exec || p.write))
				map(d, s, s->wants, &p, false, true);
			s->wants = 0;
		}
		bind_thread(d, d->brief);
		s->sb.here = d->brief;
		if (!tsc_as_guest(c, s) || !freshen(d, s) || !sandbox_apply(&s->sb)) {
			give_up(d, s);
			return;
		}
		put_regs(c, s);
		if (!go(d, s, &why)) {
			x->direct_on = true;
			return;
		}
		if (why == SANDBOX_GONE) {	/* c has the state of before: nothing is known of what it did */
			give_up(d, s);
			return;
		}
		x->direct_ran = true;
		get_regs(c, s);
		if (unlikely(c->s.rflags & FLAGS_ODD))	/* POPF did */
			x86_mode_update(c);
		if (unlikely(segments_moved(c, &s->sb.regs)))
			get_segments(c, &s->sb.regs);
		if (why == SANDBOX_SYSCALL) {
			at_syscall(d, s);
			return;
		}
		if (why == SANDBOX_KICKED)
			d->n_kick++;
		else if (!at_signal(d, s))
			return;
		if (!r->on)	/* it did not stay long enough lately */
			return;
		if (c->leave_block || atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)) {
			x->direct_on = true;
			return;
		}
	}
}

void xl_direct_run(struct xl_cpu *x)
{
	run(x);
	xl_direct_unbind(x->direct);
}

void xl_direct_unbind(struct xl_direct *d)
{
	if (d->bound && (!d->brief || x86_host_tsc() - d->since > d->stay_most))
		bind_thread(d, false);
}

void xl_direct_kick(struct interp_cpu *ic)
{
	struct xl_direct *d = ((struct xl_cpu *)ic)->direct;

	pthread_mutex_lock(&d->lock);
	if (d->running)
		sandbox_kick(d->running);
	pthread_mutex_unlock(&d->lock);
}

/* --- pages that become code --- */

static void marked(struct xl_direct *d, uint64_t offset)
{
	for (unsigned n = 0; n < DIRECT_SPACES; n++) {
		struct direct_space *s = &d->space[n];

		for (unsigned k = 0; s->cr3 && k < s->n_list; k++) {
			struct direct_map *m = &s->map[s->list[k]];
			uint64_t len = m->key & DM_LARGE ? LARGE_PAGE : PAGE_4K;

			if ((m->key & DM_USED) && (m->key & DM_WRITE) && offset - m->offset < len)
				xl_direct_kill(s, m);
		}
	}
}

void xl_direct_marked(void *opaque, uint64_t page)
{
	struct xl_engine *xe = opaque;

	for (unsigned i = 0; i < xe->n_cpus; i++) {
		struct xl_direct *d = xe->cpus[i]->direct;
		unsigned tries = 0;
		bool done = !d;

		while (!done) {
			pthread_mutex_lock(&d->lock);
			done = !d->running;
			marked(d, page * PAGE_4K);	/* it looks at this before it runs on */
			if (!done)
				sandbox_kick(d->running);
			pthread_mutex_unlock(&d->lock);
			/* Its process may have to wait for a CPU. */
			if (!done && tries++ < 8)
				sched_yield();
			else if (!done)
				syscall(SYS_nanosleep, &(struct timespec){ .tv_nsec = 50000 }, NULL);
		}
	}
}

/* --- life --- */

bool xl_direct_possible(void)
{
	host_find();
	return host.ok;
}

int xl_direct_new(struct xl_cpu *x, enum cpu_direct what, struct xl_direct **out)
{
	struct xl_direct *d;
	uint64_t us = x86_tsc_khz() / 1000;

	if (what == CPU_DIRECT_OFF || !xl_direct_possible())
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->x = x;
	d->always = what == CPU_DIRECT_ALWAYS;
	/* Ten microseconds there and back are won again after some 3 of native code (less what is lost there already). */
	d->stay_on = 5 * us;
	d->stay_off = us;
	d->stay_brief = 100 * us;
	d->stay_most = 400 * us;	/* one stay until the timer ticks is enough to begin */
	d->total_least = 2000 * us;	/* a process takes a millisecond to make, and its pages to be mapped */
	pthread_mutex_init(&d->lock, NULL);
	*out = d;
	return 0;
}

void xl_direct_free(struct xl_direct *d)
{
	if (!d)
		return;
	for (unsigned n = 0; n < DIRECT_SPACES; n++)
		if (d->space[n].cr3)
			space_free(d, &d->space[n]);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void xl_direct_stats(const struct xl_engine *xe, engine_stat_fn fn, void *opaque)
{
	static const char *const names[] = { "native user code, stretches", "native user code, ended by a system call",
		"native user code, ended by a page that was missing", "native user code, ended by an event",
		"native user code, ended by another instruction", "native user code, pages mapped", "native user code, pages unmapped",
		"native user code, pages compared", "native user code, processes made", "native user code, processes emptied",
		"native user code, ms" };
	uint64_t t[ARRAY_LEN(names)] = { 0 };
	bool any = false;

	for (unsigned i = 0; i < xe->n_cpus; i++) {
		const struct xl_direct *d = xe->cpus[i]->direct;

		if (!d)
			continue;
		any = true;
		const uint64_t v[ARRAY_LEN(names)] = { d->n_run, d->n_syscall, d->n_fault, d->n_kick, d->n_signal, d->n_mapped,
						       d->n_unmapped, d->n_checked, d->n_spaces, d->n_cleared, d->ticks / x86_tsc_khz() };

		for (unsigned k = 0; k < ARRAY_LEN(t); k++)
			t[k] += v[k];
	}
	for (unsigned k = 0; any && k < ARRAY_LEN(t); k++)
		fn(opaque, names[k], t[k]);
}
