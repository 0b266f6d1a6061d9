/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that does nothing but read one port until its answer changes: boot
 * loaders wait so for the timer (GRUB 55 ms, at each start).  Where the chip
 * knows when there will be something new, the thread sleeps until shortly
 * before that instead of asking four million times a second.
 *
 * Nothing but one port is read if IN is come to by POLLS times in a row with
 * the same registers, without those the last IN has changed.  A loop that
 * counts its rounds, or looks at the time itself, as kernels do that measure
 * the TSC and would take a long round for the firmware's interference, is
 * another thing and left alone.  What the guest sees is a CPU that was not
 * scheduled for a while, so a wrong guess costs it time, at most until the chip
 * has news.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/interp/interp.h"
#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/machine.h"

#define POLLS 512			/* in a row, some 60 us, before it is taken for one */
#define EARLY_NS 100000			/* the host may wake a thread that much late */
#define LONGEST_NS 10000000

/* Of the registers before IN, but for what it writes. */
static uint64_t digest(const struct x86_cpu *c, unsigned osz)
{
	uint64_t h = c->s.gpr[X86_RAX] >> (osz == 4 ? 32 : 8 * osz);

	for (unsigned n = X86_RAX + 1; n < ARRAY_LEN(c->s.gpr); n++)
		h = (h ^ c->s.gpr[n]) * 0x9e3779b97f4a7c15ull;
	return h;
}

static void sleep_for(struct interp_cpu *ic, int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	ic->n_polls_slept++;
	atomic_store(&ic->sleeping, 1);
	/* An event that is raised from here on changes the word, and wakes us. */
	syscall(SYS_futex, &ic->c.vcpu.events, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &t, NULL, 0);
	atomic_store(&ic->sleeping, 0);
}

void interp_poll(struct interp_cpu *ic, uint16_t port, unsigned osz)
{
	struct interp_poll *p = &ic->poll;
	struct x86_cpu *c = &ic->c;
	uint64_t regs;
	int64_t until, now;

	if (p->rip != c->s.rip || p->port != port) {
		*p = (struct interp_poll){ .rip = c->s.rip, .port = port };
		return;
	}
	regs = digest(c, osz);
	p->n = p->regs == regs ? p->n + 1 : 0;
	p->regs = regs;
	if (likely(p->n < POLLS))
		return;
	p->n = POLLS / 2;		/* the chip is asked again after as many */
	until = bus_quiet_until(c->vcpu.m->pio, port);
	now = clock_now(c->vcpu.m->clock);
	if (until > now && until - now > EARLY_NS)	/* of a saved state it may be any number */
		sleep_for(ic, MIN(until - now - EARLY_NS, LONGEST_NS));
}
