// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUs that come and go: the registers by which the guest hears of it, the vCPU's state
 * and local APIC, and the numbers that firmware asks for.
 *
 * Who is there is known in three places: the registers (saved), `absent` of each vCPU
 * (what messages reach) and whoever owns the threads.  This file keeps the first two the
 * same and tells the third.
 */
#include <errno.h>

#include "base/bits.h"
#include "base/log.h"
#include "chipset/acpi_cpuhp.h"
#include "chipset/acpi_ged.h"
#include "chipset/acpi_pm.h"
#include "chipset/fw_cfg.h"
#include "chipset/lapic.h"
#include "chipset/mc146818.h"
#include "platform/x86/priv.h"

static uint64_t all(const struct platform *p)
{
	return p->cfg.n_vcpus >= 64 ? UINT64_MAX : BIT64(p->cfg.n_vcpus) - 1;
}

uint64_t platform_cpus(const struct platform *p)
{
	if (p->cpuhp)
		return acpi_cpuhp_present(p->cpuhp);
	return p->cfg.cpu_hotplug ? all(p) & ~p->cfg.vcpus_absent : all(p);
}

unsigned cpus_count(const struct platform *p)
{
	return (unsigned)__builtin_popcountll(platform_cpus(p));
}

/* The vCPUs and firmware's numbers, by the registers. */
static void follow(struct platform *p)
{
	for (unsigned i = 0; i < p->cfg.n_vcpus; i++)
		if (p->m->vcpus[i])
			atomic_store(&p->m->vcpus[i]->absent, !(platform_cpus(p) >> i & 1));
	/* Without memory firmware waits for as many as there were. */
	if (p->fw_cfg && fw_cfg_set_int(p->fw_cfg, FW_CFG_NB_CPUS, cpus_count(p), 2))
		log_warn("no memory to tell firmware how many CPUs there are");
	if (p->firmware)
		mc146818_set(p->rtc, 0x5f, (uint8_t)(cpus_count(p) - 1));
}

static void on_ejected(void *opaque, unsigned id)
{
	struct platform *p = opaque;

	follow(p);
	p->cfg.cpu_ejected(p->cfg.cpu_opaque, id);
}

static void on_loaded(void *opaque)
{
	struct platform *p = opaque;

	follow(p);
	p->cfg.cpus_loaded(p->cfg.cpu_opaque);
}

static void ged_raise(void *opaque, int n, bool level)
{
	if (level)
		acpi_ged_raise(opaque, (uint32_t)n);
}

int cpus_build(struct platform *p, struct err *e)
{
	struct acpi_cpuhp_config c = {
		.port = LAYOUT_PORT_CPUHP, .n = p->cfg.n_vcpus, .present = platform_cpus(p), .ejected = on_ejected, .loaded = on_loaded, .opaque = p,
		.event = { .set = ged_raise, .opaque = p->ged, .n = ACPI_GED_EV_CPU },
	};
	int r;

	if (!p->cfg.cpu_hotplug)
		return 0;
	if (p->pm)
		c.event = acpi_pm_gpe(p->pm, LAYOUT_GPE_CPUHP);
	r = acpi_cpuhp_new(p->m, &c, &p->cpuhp);
	if (r < 0)
		return err_set(e, r, r == -ENOMEM ? "out of memory for CPU hot-plug" : "the first CPU has to be there");
	follow(p);
	return 0;
}

/* ---- one of them ---- */

static int power_on(struct platform *p, unsigned id, struct err *e)
{
	struct vcpu *v = p->m->vcpus[id];

	/* What engines are told, of memory and of themselves, stays. */
	atomic_fetch_and(&v->events, VCPU_EV_FLUSH | VCPU_EV_WATCH | VCPU_EV_ENGINE);
	atomic_store(&v->nmis, 0);
	if (p->lapics)
		lapics_power_up(p->lapics, id);
	if (p->engine->ops->vcpu_power_on)
		p->engine->ops->vcpu_power_on(v);
	return platform_set_vcpu(p, id, NULL, e);
}

int platform_cpu_plug(struct platform *p, unsigned id, struct err *e)
{
	int r;

	if (!p->cpuhp)
		return -ENOTSUP;
	if (id >= p->cfg.n_vcpus || !p->m->vcpus[id])
		return -EINVAL;
	if (platform_cpus(p) >> id & 1)
		return -EEXIST;
	atomic_store(&p->m->vcpus[id]->absent, false);
	r = power_on(p, id, e);
	if (r == 0)
		r = acpi_cpuhp_insert(p->cpuhp, id);
	follow(p);
	return r;
}

uint64_t platform_cpus_asked(const struct platform *p) { return p->cpuhp ? acpi_cpuhp_asked(p->cpuhp) : 0; }
int platform_cpu_ask(struct platform *p, unsigned id) { return p->cpuhp ? acpi_cpuhp_ask(p->cpuhp, id) : -ENOTSUP; }
int platform_cpu_remove(struct platform *p, unsigned id) { return p->cpuhp ? acpi_cpuhp_remove(p->cpuhp, id) : -ENOTSUP; }

void platform_cpu_gone(struct platform *p, unsigned id)
{
	struct err e;

	/* So that nothing of it is saved, and no timer of its runs. */
	if (power_on(p, id, &e))
		log_warn("vCPU %u, which was unplugged, keeps its state: %s", id, e.msg);
}

/* Firmware asks for its tables itself. */
int platform_cpus_tell(struct platform *p, struct err *e)
{
	uint64_t rsdp;

	return p->firmware ? 0 : tables_write(p, &rsdp, e);
}

bool platform_cpu_ost(const struct platform *p, unsigned id, uint32_t *event, uint32_t *status)
{
	struct acpi_cpuhp_ost o;

	if (!p->cpuhp || id >= p->cfg.n_vcpus)
		return false;
	o = acpi_cpuhp_ost(p->cpuhp, id);
	*event = o.event;
	*status = o.status;
	return true;
}
