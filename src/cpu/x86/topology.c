// SPDX-License-Identifier: GPL-2.0-or-later
/* CPUID's topology: see topology.h.  Where the counts are powers of two, as x86_topology_fits wants, numbers have no gaps. */
#include "cpu/x86/topology.h"

#include "base/bits.h"

enum { LEVEL_SMT = 1, LEVEL_CORE = 2, LEVEL_DIE = 5 };

static unsigned width(unsigned n)
{
	return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

bool x86_topology_fits(const struct x86_topology *t)
{
	return (is_pow2(t->threads) || t->cores * t->dies * t->sockets == 1) && (is_pow2(t->cores) || t->dies * t->sockets == 1) &&
	       (is_pow2(t->dies) || t->sockets == 1);
}

unsigned x86_core_shift(const struct x86_topology *t) { return width(t->threads); }
unsigned x86_die_shift(const struct x86_topology *t) { return x86_core_shift(t) + width(t->cores); }
unsigned x86_socket_shift(const struct x86_topology *t) { return x86_die_shift(t) + width(t->dies); }
unsigned x86_per_socket(const struct x86_topology *t) { return t->dies * t->cores * t->threads; }

struct x86_place x86_place_of(const struct x86_topology *t, unsigned id)
{
	return (struct x86_place){
		.thread = id % t->threads, .core = id / t->threads % t->cores, .die = id / (t->threads * t->cores) % t->dies,
		.socket = id / x86_per_socket(t),
	};
}

unsigned x86_place_id(const struct x86_topology *t, const struct x86_place *p)
{
	return ((p->socket * t->dies + p->die) * t->cores + p->core) * t->threads + p->thread;
}

static void level(uint32_t r[4], unsigned type, unsigned shift, unsigned n)
{
	r[0] = shift;
	r[1] = n;
	r[2] |= type << 8;
}

void x86_topology_leaf(const struct x86_topology *t, bool dies, unsigned id, uint32_t sub, uint32_t r[4])
{
	bool die_level = dies && t->dies > 1;

	r[0] = r[1] = 0;
	r[2] = sub & 0xff;
	r[3] = id;
	if (sub == 0)
		level(r, LEVEL_SMT, x86_core_shift(t), t->threads);
	else if (sub == 1 && die_level)
		level(r, LEVEL_CORE, x86_die_shift(t), t->cores * t->threads);
	else if (sub == 1)
		level(r, LEVEL_CORE, x86_socket_shift(t), x86_per_socket(t));
	else if (sub == 2 && die_level)
		level(r, LEVEL_DIE, x86_socket_shift(t), x86_per_socket(t));
}

/* The third level is a die's, the others are a core's. */
uint32_t x86_topology_cache(const struct x86_topology *t, unsigned level, bool leaf4)
{
	unsigned share = (1u << (level >= 3 ? x86_die_shift(t) : x86_core_shift(t))) - 1;
	unsigned cores = (1u << (x86_socket_shift(t) - x86_core_shift(t))) - 1;

	return share << 14 | (leaf4 ? cores << 26 : 0);
}

uint32_t x86_topology_amd_size(const struct x86_topology *t)
{
	return x86_socket_shift(t) << 12 | (x86_per_socket(t) - 1);
}

/* A die is what AMD calls a node. */
void x86_topology_amd(const struct x86_topology *t, unsigned id, uint32_t r[4])
{
	struct x86_place p = x86_place_of(t, id);

	r[0] = id;
	r[1] = (t->threads - 1) << 8 | ((p.die << width(t->cores) | p.core) & 0xff);
	r[2] = (t->dies - 1) << 8 | ((p.socket << width(t->dies) | p.die) & 0xff);
	r[3] = 0;
}
