// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which engine runs the guest.  `auto` takes KVM where its probe, which runs
 * code, says that an unmodified kernel will run well, else the interpreter.
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

int vm_accel_choose(enum vm_accel want, bool quiet, const struct cpu_engine_ops **out, struct err *e)
{
	struct probe_report kvm, interp;

	if (want == VM_ACCEL_TRANSLATE) {
		probe(&cpu_engine_translate, &interp);
		*out = &cpu_engine_translate;
		return interp.usable ? 0 : refuse("translate", &interp, e);
	}
	if (want == VM_ACCEL_INTERP) {
		probe(&cpu_engine_interp, &interp);
		*out = &cpu_engine_interp;
		return interp.usable ? 0 : refuse("interp", &interp, e);
	}
	probe(&cpu_engine_kvm, &kvm);
	if (want == VM_ACCEL_KVM) {
		*out = &cpu_engine_kvm;
		if (kvm.usable && !kvm.good)
			log_warn("--accel kvm will be slow: %s%s%s", kvm.why, kvm.cure[0] ? "; " : "", kvm.cure);
		return kvm.usable ? 0 : refuse("kvm", &kvm, e);
	}
	*out = kvm.good ? &cpu_engine_kvm : &cpu_engine_interp;
	if (!kvm.good) {
		probe(&cpu_engine_interp, &interp);
		if (!interp.usable)
			return refuse("interp", &interp, e);
	}
	if (!quiet)
		fprintf(stderr, "lodge: CPU engine %s: %s%s%s\n", (*out)->name, kvm.why,
			kvm.cure[0] ? "; " : "", kvm.cure);
	return 0;
}
