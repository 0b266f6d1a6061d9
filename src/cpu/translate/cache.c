/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What translated code is found by: the block table, the per-vCPU jump cache and
 * TLB copies; and how it goes away.
 *
 * A block dies by patching its entry from the jump cache with a jump to code that
 * leaves, and by taking back the direct branches to it.  The entry begins with
 * one instruction of at least five bytes on an 8-byte boundary, so one aligned
 * store does it whatever other vCPUs execute meanwhile.  Its memory stays until
 * its region is filled anew (region.c).
 */
#include <sys/mman.h>

#include "cpu/translate/direct.h"

static uint32_t vector_key(const struct x86_cpu *c)
{
	const struct x86_state *s = &c->s;
	uint32_t k = 0;

	if ((s->cr0 & (X86_CR0_EM | X86_CR0_TS)))
		return 0;
	k |= XL_KEY_X87;
	if (s->cr4 & X86_CR4_OSFXSR)
		k |= XL_KEY_SSE;
	if (s->cr4 & X86_CR4_OSXSAVE) {
		if ((s->xcr0 & 6) == 6)
			k |= XL_KEY_AVX;
		if ((s->xcr0 & 0xe6) == 0xe6)
			k |= XL_KEY_AVX512;
	}
	return k;
}

uint32_t xl_key(const struct x86_cpu *c)
{
	return c->mode | (c->mode != X86_MODE_LONG64 && !c->flat ? XL_KEY_OTHER : 0) | (uint32_t)c->cpl << 4 | (uint32_t)c->acc << 8 | vector_key(c);
}

/* What runs together lies together: the blocks of a page have 256 entries in a row. */
static unsigned hash_block(uint64_t gpa, uint32_t key)
{
	uint64_t page = (gpa >> 12 ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull >> (64 - XL_HASH_BITS);

	return (unsigned)(page + (gpa >> 4 & 0xff)) & ((1u << XL_HASH_BITS) - 1);
}

static unsigned hash_page(const _Atomic uint32_t *verp)
{
	return (unsigned)((uintptr_t)verp * 0x9e3779b97f4a7c15ull >> (64 - XL_HASH_BITS));
}

struct xl_block *xl_lookup(struct xl_engine *xe, uint64_t gpa, uint32_t key, const _Atomic uint32_t *verp)
{
	struct xl_block *b = atomic_load_explicit(&xe->hash[hash_block(gpa, key)], memory_order_acquire);

	while (b && (b->gpa != gpa || b->key != key || b->verp != verp || atomic_load_explicit(&b->dead, memory_order_acquire)))
		b = atomic_load_explicit(&b->hash_next, memory_order_acquire);
	return b;
}

bool xl_publish(struct xl_engine *xe, struct xl_block *b)
{
	_Atomic(struct xl_block *) *h = &xe->hash[hash_block(b->gpa, b->key)];
	struct xl_block **p = &xe->pages[hash_page(b->verp)];
	bool current;

	pthread_mutex_lock(&xe->page_lock);
	current = b->version == atomic_load(b->verp);
	if (!current)
		goto out;
	b->listed = true;
	atomic_store_explicit(&b->hash_next, atomic_load_explicit(h, memory_order_relaxed), memory_order_relaxed);
	b->page_next = *p;
	*p = b;
	xl_order_made(xe);
	atomic_store_explicit(h, b, memory_order_release);
	xe->n_blocks++;
	xe->n_insns += b->n_insns;
out:
	pthread_mutex_unlock(&xe->page_lock);
	return current;
}

static uint8_t *writable(const struct xl_engine *xe, const uint8_t *run) { return xe->rw + (run - xe->rx); }

/* Puts a jump to `to` at the 8-byte aligned `at`. */
static void patch_entry(struct xl_engine *xe, uint8_t *at, const uint8_t *to)
{
	uint64_t *w = (uint64_t *)writable(xe, at);
	uint64_t v = __atomic_load_n(w, __ATOMIC_RELAXED);
	uint32_t rel = (uint32_t)(to - (at + 5));

	v = (v & 0xffffff0000000000ull) | 0xe9 | (uint64_t)rel << 8;
	__atomic_store_n(w, v, __ATOMIC_SEQ_CST);
}

/* Page lock held, off the page's list.  Who is just looking at it in the table goes on from it. */
static void block_kill(struct xl_engine *xe, struct xl_block *b)
{
	_Atomic(struct xl_block *) *h = &xe->hash[hash_block(b->gpa, b->key)];

	while (atomic_load_explicit(h, memory_order_relaxed) != b)
		h = &atomic_load_explicit(h, memory_order_relaxed)->hash_next;
	atomic_store(h, atomic_load_explicit(&b->hash_next, memory_order_relaxed));
	atomic_store(&b->dead, true);
	patch_entry(xe, b->ientry, (uint8_t *)xe->t.exit_rip_m);
	xl_unlink_all(xe, b);
}

void xl_unpublish(struct xl_engine *xe, struct xl_block *b)
{
	struct xl_block **p = &xe->pages[hash_page(b->verp)];

	if (!b->listed)
		return;
	pthread_mutex_lock(&xe->page_lock);
	if (!atomic_load(&b->dead)) {
		while (*p != b)
			p = &(*p)->page_next;
		*p = b->page_next;
		block_kill(xe, b);
	}
	pthread_mutex_unlock(&xe->page_lock);
}

void xl_block_drop(struct xl_engine *xe, struct xl_block *b)
{
	struct xl_block **link;

	pthread_mutex_lock(&xe->page_lock);
	for (link = &xe->pages[hash_page(b->verp)]; *link && *link != b; link = &(*link)->page_next)
		;
	if (*link) {
		*link = b->page_next;
		block_kill(xe, b);
		xe->n_invalidated++;
	}
	pthread_mutex_unlock(&xe->page_lock);
}

void xl_page_changed(struct xl_engine *xe, _Atomic uint32_t *verp)
{
	struct xl_block **link;
	struct xl_block *b;

	pthread_mutex_lock(&xe->page_lock);
	link = &xe->pages[hash_page(verp)];
	while ((b = *link) != NULL) {
		if (b->verp != verp || b->version == atomic_load(verp)) {
			link = &b->page_next;
			continue;
		}
		*link = b->page_next;
		block_kill(xe, b);
		xe->n_invalidated++;
	}
	pthread_mutex_unlock(&xe->page_lock);
}

void xl_place_is(struct xl_engine *xe, uint64_t gpa, const _Atomic uint32_t *verp, unsigned what)
{
	struct xl_block **link;
	struct xl_block *b;

	pthread_mutex_lock(&xe->page_lock);
	/* Memory is used for other code in time: what was known of it must not pile up. */
	if (++xe->n_places > ARRAY_LEN(xe->places) / 8) {
		memset(xe->places, 0, sizeof(xe->places));
		xe->n_places = 1;
	}
	*xl_place(xe, gpa) |= (uint8_t)what;
	link = &xe->pages[hash_page(verp)];
	while ((b = *link) != NULL) {
		if (b->verp != verp) {
			link = &b->page_next;
			continue;
		}
		*link = b->page_next;
		block_kill(xe, b);
	}
	pthread_mutex_unlock(&xe->page_lock);
}

/* --- per vCPU --- */

/* An empty entry holds what no address that is looked up there can be: the index
 * comes from the address itself, so 0 will do everywhere but in entry 0. */
static uint64_t tlb_empty(unsigned i) { return i ? 0 : PAGE_4K; }
static uint64_t jc_empty(unsigned i) { return i ? 0 : 1ull << XL_JC_SHIFT; }

static void tlb_clear_one(struct xl_tlb *t, unsigned how, unsigned i) { t->tag[how][i] = tlb_empty(i); }

/* Global entries are only counted: the frequent flush leaves them. */
static void note_used(uint16_t *used, unsigned max, unsigned *n, unsigned *n_global, unsigned i, bool global)
{
	if (global) {
		++*n_global;
		return;
	}
	if (*n < max)
		used[*n] = (uint16_t)i;
	if (*n <= max)
		++*n;
}

static void tlb_clear(struct xl_tlb *t, bool global)
{
	if (t->n_used > XL_USED_MAX || (global && t->n_global)) {
		memset(t->tag, 0, sizeof(t->tag));
		tlb_clear_one(t, 0, 0);
		tlb_clear_one(t, 1, 0);
		t->n_global = 0;
	} else {
		for (unsigned k = 0; k < t->n_used; k++)
			tlb_clear_one(t, t->used[k] >> XL_TLB_BITS, t->used[k] & (XL_TLB_SIZE - 1));
	}
	t->n_used = 0;
}

static void jc_clear(struct xl_jc *j, bool global)
{
	if (j->n_used > XL_JC_USED_MAX || (global && j->n_global)) {
		memset(j->rip, 0, sizeof(j->rip));
		j->rip[0] = jc_empty(0);
		j->n_global = 0;
		memset(j->pages, 0, sizeof(j->pages));
	} else {
		for (unsigned k = 0; k < j->n_used; k++)
			j->rip[j->used[k]] = jc_empty(j->used[k]);
	}
	j->n_used = 0;
}

_Static_assert(XL_JC_BITS + XL_JC_SHIFT >= 12, "jc_clear_page: what is on one page lies in a row");

static uint64_t *jc_page(struct xl_jc *j, uint64_t rip, uint64_t *bit)
{
	uint64_t h = (rip >> 12) * 0x9e3779b97f4a7c15ull >> 54;

	*bit = 1ull << (h & 63);
	return &j->pages[h >> 6];
}

/* Entries for code on one page. */
static void jc_clear_page(struct xl_jc *j, uint64_t page)
{
	uint64_t bit, *w = jc_page(j, page, &bit);

	if (!(*w & bit))
		return;
	for (unsigned i = xl_jc_index(page), n = 0; n < PAGE_4K >> XL_JC_SHIFT; i++, n++)
		if ((j->rip[i] ^ page) < PAGE_4K)
			j->rip[i] = jc_empty(i);
}

void xl_jc_clear(struct xl_cpu *x, unsigned acc)
{
	jc_clear(&x->jc[acc], true);
}

void xl_cpu_fresh(struct xl_cpu *x)
{
	for (unsigned k = 0; k < XL_N_ACC; k++) {
		tlb_clear_one(&x->tlb[k], X86_READ, 0);
		tlb_clear_one(&x->tlb[k], X86_WRITE, 0);
		x->tlb[k].flags[XL_TLB_SIZE] = &x->bounce_flags;
		x->jc[k].rip[0] = jc_empty(0);
	}
}

void xl_cpu_drop(struct xl_cpu *x)
{
	char *from = (char *)x->tlb, *to = (char *)(x + 1);
	char *first = (char *)align_up((uintptr_t)from, PAGE_4K), *last = (char *)align_down((uintptr_t)to, PAGE_4K);

	_Static_assert(offsetof(struct xl_cpu, tlb) < offsetof(struct xl_cpu, jc) && offsetof(struct xl_cpu, jc) < offsetof(struct xl_cpu, known),
		       "what is cached comes last");
	memset(from, 0, (size_t)(first - from));
	memset(last, 0, (size_t)(to - last));
	if (madvise(first, (size_t)(last - first), MADV_DONTNEED))
		memset(first, 0, (size_t)(last - first));
	xl_cpu_fresh(x);
}

void xl_tlb_put(struct xl_cpu *x, const struct x86_tlb_entry *e, uint64_t lin, unsigned how)
{
	struct xl_tlb *t = &x->tlb[x->ic.c.acc];
	uint64_t page = lin & ~0xfffull;
	unsigned i = lin >> 12 & (XL_TLB_SIZE - 1);

	if (unlikely(xl_guarded(x, e, how)))
		return;
	note_used(t->used, XL_USED_MAX, &t->n_used, &t->n_global, i | how << XL_TLB_BITS, e->global);
	t->global[how][i] = e->global;
	t->host[how][i] = page + e->addend;
	if (how == X86_WRITE)
		t->flags[i] = e->flags;
	t->tag[how][i] = page;
}

static void jc_put(struct xl_jc *j, uint64_t rip, uint8_t *ientry, bool global)
{
	unsigned i = xl_jc_index(rip);
	uint64_t bit, *w;

	if (j->rip[i] != rip)
		note_used(j->used, XL_JC_USED_MAX, &j->n_used, &j->n_global, i, global);
	w = jc_page(j, rip, &bit);
	*w |= bit;
	j->code[i] = ientry;
	j->rip[i] = rip;
}

static uint64_t known_at(const _Atomic uint32_t *verp, uint64_t off) { return (uint64_t)(uintptr_t)verp << 10 | (off & 0xfff); }

/* Two entries side by side for each. */
static struct xl_known *known(struct xl_cpu *x, uint64_t at)
{
	uint64_t page = (at >> 12) * 0x9e3779b97f4a7c15ull >> (64 - XL_KNOWN_BITS);

	return &x->known[(page + (at >> 3 & 0x1fe)) & ((1u << XL_KNOWN_BITS) - 2)];
}

/*
 * A block is put in when it has been found in the table and goes the way everything goes that the jump
 * cache has: its ientry leads out when it is dead, and who comes out looks into the table.
 */
uint8_t *xl_known(struct xl_cpu *x, const struct x86_tlb_entry *e, uint64_t rip, uint32_t key)
{
	uint64_t at = known_at(e->version, rip);
	const struct xl_known *k = known(x, at);

	for (unsigned n = 0; n < 2; n++) {
		if (k[n].at == at && k[n].key == key) {
			jc_put(&x->jc[XL_KEY_ACC(key)], rip, x->xe->rx + k[n].code, e->global);
			return x->xe->rx + k[n].code;
		}
	}
	return NULL;
}

void xl_page_has_code(struct xl_engine *xe, const _Atomic uint8_t *flags)
{
	if (!xl_guards(xe))
		return;
	for (unsigned acc = 0; acc < XL_N_ACC; acc++) {
		struct xl_tlb *t = &xe->cpus[0]->tlb[acc];

		for (unsigned i = 0; i < XL_TLB_SIZE; i++)
			if (t->flags[i] == flags)
				tlb_clear_one(t, X86_WRITE, i);
	}
}

void xl_jc_put(struct xl_cpu *x, uint64_t rip, const struct xl_block *b, bool global)
{
	uint64_t at = known_at(b->verp, b->gpa);
	struct xl_known *k = known(x, at);

	if (k->at && (k->at != at || k->key != b->key))
		k[1] = k[0];
	*k = (struct xl_known){ .at = at, .code = (uint32_t)(b->ientry - x->xe->rx), .key = b->key };
	jc_put(&x->jc[XL_KEY_ACC(b->key)], rip, b->ientry, global);
}

void xl_forget_code(struct xl_cpu *x)
{
	memset(x->known, 0, sizeof(x->known));
	for (unsigned k = 0; k < XL_N_ACC; k++)
		jc_clear(&x->jc[k], true);
}

void xl_flushed(struct x86_cpu *c, uint64_t page)
{
	bool all = page == X86_FLUSH_ALL, one = !all && page != X86_FLUSH_NONGLOBAL;
	unsigned i = page >> 12 & (XL_TLB_SIZE - 1);
	struct xl_cpu *x = xl_of(c);

	if (x->direct && !(page == X86_FLUSH_NONGLOBAL && c->flush_keeps))
		xl_direct_flushed(x->direct, page);
	for (unsigned k = 0; k < XL_N_ACC; k++) {
		if (!one) {
			jc_clear(&x->jc[k], all);
			tlb_clear(&x->tlb[k], all);
			continue;
		}
		jc_clear_page(&x->jc[k], page);
		tlb_clear_one(&x->tlb[k], X86_READ, i);
		tlb_clear_one(&x->tlb[k], X86_WRITE, i);
	}
}
