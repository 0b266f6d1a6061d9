/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A wire shared by several sources; the output changes only when the OR does. */
#include "machine/irq.h"

#include "base/bits.h"

void irq_or_set(void *opaque, int source, bool level)
{
	struct irq_or *o = opaque;
	uint64_t old = o->levels;

	if (source < 0 || source > 63)
		return;
	if (level)
		o->levels |= BIT64(source);
	else
		o->levels &= ~BIT64(source);
	if (!old != !o->levels)
		irq_set(&o->out, o->levels != 0);
}
