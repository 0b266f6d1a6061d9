/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The puppet engine: vCPUs that wait, and accesses made on their behalf.
 *
 * A vCPU's thread sleeps in poll on an eventfd that kick writes to; vCPU 0's may
 * serve a socket meanwhile.  State is stored and given back unexamined.
 */
#include "cpu/puppet/puppet.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/puppet/impl.h"

static struct puppet_engine *of(struct cpu_engine *e)
{
	return container_of(e, struct puppet_engine, e);
}

/* Accesses. */

int puppet_pio(struct cpu_engine *e, uint16_t port, void *buf, unsigned len, bool write)
{
	return bus_access(e->m->pio, port, buf, len, write);
}

/* The local APIC's page, if vCPU 0 has one and the access is inside it. */
static bool lapic_access(struct vcpu *v, uint64_t gpa, void *buf, unsigned len, bool write)
{
	uint64_t base;
	uint32_t word;

	if (!v || !v->intc || !v->intc->get_base)
		return false;
	base = v->intc->get_base(v->intc_opaque);
	/* Global enable is bit 11, x2APIC mode bit 10 (SDM vol. 3, 11.4.3). */
	if (!(base & BIT64(11)) || base & BIT64(10))
		return false;
	base = align_down(base, PAGE_4K);
	if (gpa < base || gpa - base >= PAGE_4K || (gpa & 3) + len > 4)
		return false;
	if (write) {
		if (len == 4)
			v->intc->mmio_write(v->intc_opaque, (uint32_t)(gpa - base), ld_le32(buf));
		return true;
	}
	word = v->intc->mmio_read(v->intc_opaque, (uint32_t)(gpa - base) & ~3u);
	memcpy(buf, (uint8_t *)&word + (gpa & 3), len);
	return true;
}

int puppet_access(struct cpu_engine *e, uint64_t gpa, void *buf, unsigned len, bool write)
{
	int r = -EFAULT;

	if (lapic_access(e->m->vcpus[0], gpa, buf, len, write))
		return 0;
	r = write ? mem_write(e->m->mem, gpa, buf, len) : mem_read(e->m->mem, gpa, buf, len);
	return r ? bus_access(e->m->mmio, gpa, buf, len, write) : 0;
}

int puppet_irq(struct cpu_engine *e)
{
	struct vcpu *v = e->m->vcpus[0];

	if (!v)
		return -1;
	atomic_fetch_and(&v->events, ~(uint32_t)VCPU_EV_INTR);
	if (!v->intc || !v->intc->pending(v->intc_opaque))
		return -1;
	return v->intc->ack(v->intc_opaque);
}

/* Interrupts that end in the engine. */

void puppet_set_irqchip(struct cpu_engine *e, bool on)
{
	of(e)->irqchip = on;
}

static bool has_irqchip(struct cpu_engine *e)
{
	return of(e)->irqchip;
}

static int irq_line(struct cpu_engine *e, unsigned gsi, bool level)
{
	struct puppet_engine *p = of(e);

	if (!p->irqchip)
		return -ENOTSUP;
	if (gsi >= PUPPET_WIRES)
		return -EINVAL;
	if (level)
		atomic_fetch_or(&p->wires, BIT64(gsi));
	else
		atomic_fetch_and(&p->wires, ~BIT64(gsi));
	return 0;
}

bool puppet_wire_level(struct cpu_engine *e, unsigned gsi)
{
	return gsi < PUPPET_WIRES && atomic_load(&of(e)->wires) & BIT64(gsi);
}

static int take_msi(struct cpu_engine *e, const struct msi *msg)
{
	struct puppet_engine *p = of(e);

	if (!p->irqchip)
		return -ENOTSUP;
	pthread_mutex_lock(&p->mu);
	p->msi[p->msi_put++ % PUPPET_MSIS] = *msg;
	if (p->msi_put - p->msi_got > PUPPET_MSIS)
		p->msi_got = p->msi_put - PUPPET_MSIS;
	pthread_mutex_unlock(&p->mu);
	return 0;
}

bool puppet_msi_pop(struct cpu_engine *e, struct msi *out)
{
	struct puppet_engine *p = of(e);
	bool any;

	pthread_mutex_lock(&p->mu);
	any = p->msi_got != p->msi_put;
	if (any)
		*out = p->msi[p->msi_got++ % PUPPET_MSIS];
	pthread_mutex_unlock(&p->mu);
	return any;
}

static int msi_fd(struct cpu_engine *e, int fd, const struct msi *msg, bool add)
{
	return -ENOTSUP;
}

static int extint(struct cpu_engine *e, bool level)
{
	return -ENOTSUP;
}

/* vCPUs. */

static struct puppet_vcpu *vof(struct vcpu *v)
{
	return container_of(v, struct puppet_vcpu, v);
}

static void kick(struct vcpu *v)
{
	uint64_t one = 1;
	ssize_t r = write(vof(v)->wakefd, &one, sizeof(one));

	(void)r;			/* EAGAIN: awake already */
}

/* No TSC of its own: 1 GHz, so that a tick is a nanosecond of virtual time. */
static uint64_t tsc_read(struct vcpu *v)
{
	return (uint64_t)clock_now(v->m->clock);
}

static int64_t tsc_to_ns(struct vcpu *v, uint64_t tsc)
{
	return tsc > INT64_MAX ? INT64_MAX : (int64_t)tsc;
}

static int vcpu_create(struct cpu_engine *e, unsigned id, struct err *err)
{
	struct puppet_vcpu *v;

	if (id >= MACHINE_MAX_VCPUS || e->m->vcpus[id])
		return err_set(err, -EINVAL, "vCPU %u cannot be made", id);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "no memory for vCPU %u", id);
	v->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wakefd < 0) {
		int r = -errno;

		free(v);
		return err_set(err, r, "vCPU %u: %s", id, strerror(-r));
	}
	v->engine = of(e);
	v->v = (struct vcpu){ .m = e->m, .id = id, .kick = kick, .tsc_read = tsc_read,
			      .tsc_to_ns = tsc_to_ns };
	e->m->vcpus[id] = &v->v;
	return 0;
}

static int vcpu_thread_init(struct vcpu *v)
{
	return 0;
}

static enum vcpu_stop vcpu_run(struct vcpu *v)
{
	struct puppet_vcpu *pv = vof(v);
	struct pollfd p = { .fd = pv->wakefd, .events = POLLIN };
	uint64_t n;

	while (!(atomic_load(&v->events) & VCPU_EV_STOP)) {
		if (v->id == 0 && pv->engine->socket >= 0) {
			if (puppet_serve(&pv->engine->e, pv->engine->socket) != -EINTR) {
				close(pv->engine->socket);
				pv->engine->socket = -1;
			}
			continue;
		}
		if (poll(&p, 1, -1) > 0 && read(pv->wakefd, &n, sizeof(n)) < 0)
			continue;
	}
	atomic_fetch_and(&v->events, ~(uint32_t)VCPU_EV_STOP);
	return VCPU_STOP_KICK;
}

int puppet_wake_fd(struct cpu_engine *e)
{
	return e->m->vcpus[0] ? vof(e->m->vcpus[0])->wakefd : -1;
}

void puppet_listen_fd(struct cpu_engine *e, int fd)
{
	of(e)->socket = fd;
}

static int state_get(struct vcpu *v, struct x86_state *s)
{
	*s = vof(v)->state;
	return 0;
}

static int state_set(struct vcpu *v, const struct x86_state *s)
{
	vof(v)->state = *s;
	return 0;
}

/* The engine. */

static int probe(struct probe_report *r)
{
	*r = (struct probe_report){ .usable = true, .good = false };
	snprintf(r->why, sizeof(r->why), "puppet executes nothing; it is for tests of devices");
	return 0;
}

static int init(struct machine *m, const struct cpu_engine_config *cfg, struct cpu_engine **out,
		struct err *e)
{
	struct puppet_engine *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(e, -ENOMEM, "no memory for the engine");
	p->e.ops = &cpu_engine_puppet;
	p->e.m = m;
	p->socket = -1;
	pthread_mutex_init(&p->mu, NULL);
	*out = &p->e;
	return 0;
}

static void engine_free(struct cpu_engine *e)
{
	struct puppet_engine *p = of(e);

	for (unsigned i = 0; i < MACHINE_MAX_VCPUS; i++) {
		if (!e->m->vcpus[i])
			continue;
		close(vof(e->m->vcpus[i])->wakefd);
		free(vof(e->m->vcpus[i]));
		e->m->vcpus[i] = NULL;
	}
	if (p->socket >= 0)
		close(p->socket);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

static int clock_get(struct cpu_engine *e, struct engine_clock *t)
{
	t->ns = t->tsc = (uint64_t)clock_now(e->m->clock);
	return 0;
}

static int clock_put(struct cpu_engine *e, const struct engine_clock *t)
{
	return 0;
}

static void stats(struct cpu_engine *e, engine_stat_fn fn, void *opaque)
{
}

static void report(struct vcpu *v, char *buf, size_t len)
{
	snprintf(buf, len, "puppet vCPU %u", v->id);
}

const struct cpu_engine_ops cpu_engine_puppet = {
	.name = "puppet",
	.probe = probe,
	.init = init,
	.free = engine_free,
	.vcpu_create = vcpu_create,
	.vcpu_thread_init = vcpu_thread_init,
	.vcpu_run = vcpu_run,
	.state_get = state_get,
	.state_set = state_set,
	.has_irqchip = has_irqchip,
	.has_lapic = has_irqchip,
	.irq_line = irq_line,
	.msi = take_msi,
	.msi_fd = msi_fd,
	.extint = extint,
	.clock_get = clock_get,
	.clock_set = clock_put,
	.stats = stats,
	.report = report,
};
