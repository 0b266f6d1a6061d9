// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which engine runs the guest.  `auto` takes KVM where its probe, which runs
 * code, says that an unmodified kernel will run well, else the translator, and
 * where that may not make executable memory, the interpreter.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vm/internal.h"

static void probe(const struct cpu_engine_ops *ops, struct probe_report *r)
{
	int ret;

	memset(r, 0, sizeof(*r));
	ret = ops->probe(r);
	if (ret) {
		r->usable = r->good = false;
		if (!r->why[0])
			snprintf(r->why, sizeof(r->why), "its probe failed: %s", strerror(-ret));
	}
}

static int refuse(const char *name, const struct probe_report *r, struct err *e)
{
	return err_set(e, -ENODEV, "--accel %s cannot run here: %s%s%s", name, r->why,
		       r->cure[0] ? "; " : "", r->cure);
}

/* An engine the user named; 0 or -ENODEV with the reason. */
static int named(const struct cpu_engine_ops *ops, struct err *e)
{
	struct probe_report r;

	probe(ops, &r);
	if (!r.usable)
		return refuse(ops->name, &r, e);
	if (!r.good)
		log_warn("--accel %s will be slow: %s%s%s", ops->name, r.why, r.cure[0] ? "; " : "", r.cure);
	return 0;
}

int vm_accel_choose(enum vm_accel want, bool quiet, const struct cpu_engine_ops **out, struct err *e)
{
	static const struct cpu_engine_ops *const by_name[] = {
		[VM_ACCEL_KVM] = &cpu_engine_kvm,
		[VM_ACCEL_INTERP] = &cpu_engine_interp,
		[VM_ACCEL_TRANSLATE] = &cpu_engine_translate,
		[VM_ACCEL_CHECK] = &cpu_engine_check,
	};
	struct probe_report kvm, soft;

	if (want != VM_ACCEL_AUTO) {
		*out = by_name[want];
		return named(*out, e);
	}
	probe(&cpu_engine_kvm, &kvm);
	*out = &cpu_engine_kvm;
	soft.why[0] = '\0';
	if (!kvm.good) {
		probe(&cpu_engine_translate, &soft);
		*out = soft.usable ? &cpu_engine_translate : &cpu_engine_interp;
		if (soft.usable)
			soft.why[0] = '\0';
	}
	if (!quiet)
		fprintf(stderr, "lodge: CPU engine %s: %s%s%s%s%s\n", (*out)->name, kvm.why, kvm.cure[0] ? "; " : "", kvm.cure,
			soft.why[0] ? "; " : "", soft.why);
	return 0;
}
