/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Native user code: what light calls do of it. */
#include "cpu/translate/direct.h"

static struct direct_map *find(struct direct_space *s, uint64_t page, uint64_t large)
{
	for (unsigned i = xl_direct_hash(page | large);; i++) {
		struct direct_map *m = &s->map[i % DIRECT_MAP_SIZE];

		if (!m->key)
			return NULL;
		if ((m->key & (DM_USED | DM_LARGE)) == (DM_USED | large) && (m->key & ~0xfffull) == page)
			return m;
	}
}

struct direct_map *xl_direct_find(struct direct_space *s, uint64_t page)
{
	struct direct_map *m = find(s, page, 0);

	return m ? m : find(s, page & ~0x1fffffull, DM_LARGE);
}

void xl_direct_kill(struct direct_space *s, struct direct_map *m)
{
	m->key |= DM_DEAD;
	if (s->n_dead < DIRECT_DEAD)
		s->dead[s->n_dead] = (uint32_t)(m - s->map);
	s->n_dead += s->n_dead <= DIRECT_DEAD;
}

void xl_direct_flushed(struct xl_direct *d, uint64_t page)
{
	for (unsigned n = 0; n < DIRECT_SPACES; n++) {
		struct direct_space *s = &d->space[n];
		struct direct_map *m[2];

		if (!s->cr3)
			continue;
		if (page == X86_FLUSH_ALL || page == X86_FLUSH_NONGLOBAL) {
			s->stale = true;
			continue;
		}
		m[0] = find(s, page, 0);
		m[1] = find(s, page & ~0x1fffffull, DM_LARGE);
		pthread_mutex_lock(&d->lock);	/* another vCPU may kill some as well */
		for (unsigned k = 0; k < 2; k++)
			if (m[k])
				xl_direct_kill(s, m[k]);
		pthread_mutex_unlock(&d->lock);
	}
}

struct direct_record *xl_direct_record(struct xl_direct *d, uint64_t cr3)
{
	struct direct_record *r = &d->record[(cr3 >> 12) * 0x9e3779b97f4a7c15ull >> 58];

	_Static_assert(DIRECT_RECORDS == 1 << 6, "six bits of hash");
	if (r->cr3 != (cr3 & ~0xfffull)) {
		r->cr3 = cr3 & ~0xfffull;
		r->stay = r->total = 0;
		r->on = d->always && !d->impossible;
	}
	return r;
}

void xl_direct_stayed(struct xl_direct *d, struct direct_record *r, uint64_t ticks)
{
	r->total += ticks;
	ticks = MIN(ticks, d->stay_most);
	r->stay = r->stay - r->stay / 8 + ticks / 8;
	if (d->always || d->impossible)
		return;
	if (r->stay >= d->stay_on && r->total >= d->total_least)
		r->on = true;
	else if (r->stay < d->stay_off)
		r->on = false;
}

bool xl_direct_crossed(struct xl_cpu *x)
{
	struct direct_record *r = xl_direct_record(x->direct, x->ic.c.s.cr3);
	uint64_t now = x86_host_tsc();

	x->was_user = x->ic.c.cpl == 3;
	if (!x->was_user) {
		if (!x->direct_ran)
			xl_direct_stayed(x->direct, r, (now - x->user_since) / DIRECT_SPEEDUP);
		x->direct_on = false;
		return false;
	}
	x->user_since = now;
	x->direct_ran = false;
	x->direct_on = r->on;
	return r->on;
}
