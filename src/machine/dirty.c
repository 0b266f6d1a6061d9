// SPDX-License-Identifier: GPL-2.0-or-later
/* The log of written pages: flags of mem.c, and what engines add to them. */
#include "machine/dirty.h"

static int sync_engine(struct machine *m)
{
	return m->dirty_sync ? m->dirty_sync(m->watch_opaque) : 0;
}

static void begin_round(struct machine *m)
{
	if (m->dirty_again)
		m->dirty_again(m->watch_opaque);
}

int machine_dirty_start(struct machine *m)
{
	int ret = mem_dirty_start(m->mem);

	if (ret)
		return ret;
	ret = sync_engine(m);
	if (ret)
		machine_dirty_stop(m);
	else
		begin_round(m);
	return ret;
}

void machine_dirty_stop(struct machine *m)
{
	mem_dirty_stop(m->mem);
	sync_engine(m);
}

int machine_dirty_fetch(struct machine *m, uint64_t first, uint64_t n, uint64_t *bitmap)
{
	int ret = sync_engine(m);

	mem_dirty_fetch(m->mem, first, n, bitmap);
	begin_round(m);
	return ret;
}

bool machine_dirty_settled(const struct machine *m)
{
	for (unsigned i = 0; i < m->n_vcpus; i++)
		/* One that is parked writes nothing, and has been told when it is plugged in. */
		if (atomic_load(&m->vcpus[i]->events) & VCPU_EV_WATCH && !atomic_load(&m->vcpus[i]->parked))
			return false;
	return true;
}
