// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine itself: kind, accelerator, CPU, memory, clock, firmware and what it boots. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/x86/cpuid.h"
#include "qemu/qemu.h"

/* ---- kind and accelerator ---- */

static int set_machine(struct qemu *q, const char *type, struct err *e)
{
	q->none = !strcmp(type, "none");
	q->micro = !strcmp(type, "microvm");
	/* As with QEMU's: cards of a PC's root bus come and go, those of a Q35's stay. */
	q->fixed_cards = q->none || q->micro || strstr(type, "q35");
	if (q->none || q->micro || !strcmp(type, "pc") || !strcmp(type, "q35") || !strncmp(type, "pc-i440fx-", 10) ||
	    !strncmp(type, "pc-q35-", 7))
		return 0;
	return err_set(e, -EINVAL, "unsupported machine type '%.40s'; use -machine help to list supported machines", type);
}

/* "kvm:tcg": the first that can be had. */
static int set_accel(struct qemu *q, const char *list, struct err *e)
{
	static const struct {
		const char *theirs, *ours;
	} words[] = {
		{ "kvm", "kvm" }, { "tcg", "translate" }, { "kvm:tcg", "auto" }, { "tcg:kvm", "translate" }, { "auto", "auto" },
		{ "translate", "translate" }, { "interp", "interp" }, { "check", "check" }, { "kvm:hvf:tcg", "auto" },
		{ "kvm:xen:hvf:hax:tcg", "auto" }, { "kvm:xen:tcg", "auto" }, { "qtest", "interp" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		if (!strcmp(list, words[i].theirs))
			return q->accel = words[i].ours, 0;
	return err_set(e, -EINVAL, "invalid accelerator '%.40s'; there are kvm and tcg", list);
}

/* What a PC has in any case, what its guests do not notice, or QEMU's own affairs. */
static const char *const machine_same[] = {
	"kernel_irqchip", "kernel-irqchip", "vmport", "dump-guest-core", "graphics", "hpet", "smm", "suppress-vmdesc",
	"phandle_start", "smbus", "sata", "pit", "pic", "rtc", "acpi", "nvdimm", "hmat", "default_bus_bypass_iommu",
	"default-bus-bypass-iommu", "firmware", "i8042", "fd-bootchk", "isa-serial", "auto-kernel-cmdline", "x-option-roms", "option-roms",
	"pcie", "ioapic2", "max-ram-below-4g", "max-fw-size", "smbios-entry-point-type", "igd-passthru", NULL,
};

static const struct qemu_fixed pc_fixed[] = {
	{ "hpet", "on" }, { "acpi", "on" }, { "i8042", "on" }, { "pic", "on" }, { "pit", "on" }, { "smbus", "on" }, { "sata", "on" },
	{ "smm", "off" }, { "vmport", "off" }, { "nvdimm", "off" }, { "hmat", "off" }, { "max-ram-below-4g", NULL }, { NULL, NULL },
};
static const struct qemu_fixed micro_fixed[] = {
	{ "acpi", "on" }, { "rtc", "on" }, { "pic", "off" }, { "pit", "off" }, { "pcie", "off" }, { NULL, NULL },
};

int opt_machine(struct qemu *q, const char *val, struct err *e)
{
	bool usb = false;
	struct props p;
	const char *v;
	int ret;

	if (wants_help(q, "machine", val))
		return -EAGAIN;
	ret = props_parse(val, "type", &p, e);
	if (!ret && (v = props_take(&p, "type")))
		ret = set_machine(q, v, e);
	if (!ret && (v = props_take(&p, "accel")))
		ret = set_accel(q, v, e);
	if (!ret)
		ret = props_bool(&p, "usb", &usb, e);
	if (!ret)	/* QEMU's default is on where memory can be merged; here it is what costs, and has to be asked for */
		ret = props_bool(&p, "mem-merge", &q->mem_merge, e);
	if (usb)
		q->usb = "-machine usb=on";
	if (!ret && (v = props_take(&p, "memory-backend")))
		q->memory_backend = keep(q, v);
	for (unsigned i = 0; !ret && i < 2; i++)
		if ((v = props_take(&p, i ? "pflash1" : "pflash0")))
			q->pflash_node[i] = keep(q, v);
	if (!ret) {
		warn_fixed(&p, "-machine", q->micro ? micro_fixed : pc_fixed);
		props_ignore(&p, machine_same);
		ret = props_done(&p, e);
	}
	props_free(&p);
	return ret;
}

int opt_accel(struct qemu *q, const char *val, struct err *e)
{
	static const char *const same[] = { "thread", "kernel-irqchip", "split-wx", "one-insn-per-tb", "dirty-ring-size", "igd-passthru",
					    "kvm-shadow-mem", "notify-vmexit", NULL };
	uint64_t mib = 0;
	struct props p;
	const char *v;
	int ret;

	if (wants_help(q, "accel", val))
		return -EAGAIN;
	ret = props_parse(val, "accel", &p, e);
	v = ret ? NULL : props_take(&p, "accel");
	/* Repeated: the first that can be had. */
	if (v && q->accel && !strcmp(q->accel, "kvm") && !strcmp(v, "tcg"))
		v = "auto";
	if (v)
		ret = set_accel(q, v, e);
	if (!ret)
		ret = props_number(&p, "tb-size", 0, 1 << 20, &mib, NULL, e);
	if (mib)
		q->code_cache = (unsigned)(mib > 1024 ? 1024 : mib);
	if (!ret) {
		props_ignore(&p, same);
		ret = props_done(&p, e);
	}
	props_free(&p);
	return ret;
}

/* ---- CPU ---- */

/* The level of the psABI that has what a named model has; what else it has or lacks is not imitated. */
static const struct {
	const char *name, *level;
} models[] = {
	{ "max", "max" }, { "host", "max" }, { "base", "x86-64-v2" }, { "qemu64", "x86-64-v2" }, { "kvm64", "x86-64-v2" },
	{ "qemu32", "x86-64-v2" }, { "kvm32", "x86-64-v2" }, { "core2duo", "x86-64-v2" }, { "phenom", "x86-64-v2" }, { "Conroe", "x86-64-v2" },
	{ "Penryn", "x86-64-v2" }, { "Nehalem", "x86-64-v2" }, { "Westmere", "x86-64-v2" }, { "SandyBridge", "x86-64-v2" },
	{ "IvyBridge", "x86-64-v2" }, { "Opteron_G3", "x86-64-v2" }, { "Opteron_G4", "x86-64-v2" }, { "Opteron_G5", "x86-64-v2" },
	{ "Denverton", "x86-64-v2" }, { "Haswell", "x86-64-v3" }, { "Broadwell", "x86-64-v3" }, { "Skylake-Client", "x86-64-v3" },
	{ "EPYC", "x86-64-v3" }, { "EPYC-Rome", "x86-64-v3" }, { "EPYC-Milan", "x86-64-v3" }, { "EPYC-Genoa", "x86-64-v4" },
	{ "Skylake-Server", "x86-64-v4" }, { "Cascadelake-Server", "x86-64-v4" }, { "Cooperlake", "x86-64-v4" },
	{ "Icelake-Server", "x86-64-v4" }, { "SapphireRapids", "x86-64-v4" }, { "x86-64-v2", "x86-64-v2" }, { "x86-64-v3", "x86-64-v3" },
	{ "x86-64-v4", "x86-64-v4" },
};

static const char *cpu_level(const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
		size_t n = strlen(models[i].name);

		/* "-noTSX", "-IBRS", "-v2", "-v2-cpu"... make no difference to the level. */
		if (n <= len && !strncmp(models[i].name, name, n) && (!name[n] || !strncmp(name + n, "-v", 2) || !strncmp(name + n, "-no", 3) ||
								      !strncmp(name + n, "-IB", 3) || !strncmp(name + n, "_v", 2)))
			return models[i].level;
	}
	return NULL;
}

static const struct qemu_fixed cpu_fixed[] = {
	{ "enforce", "off" }, { "kvm", "on" }, { "vendor", NULL }, { "model-id", NULL }, { "level", NULL }, { "xlevel", NULL },
	{ "phys-bits", NULL }, { "tsc-freq", NULL }, { NULL, NULL },
};

static bool is_hyperv(const char *name)
{
	return !strncmp(name, "hv-", 3) || !strncmp(name, "hv_", 3);
}

/* Properties that are no features. */
static bool cpu_same(const char *name)
{
	static const char *const same[] = { "check", "enforce", "migratable", "host-phys-bits", "host-phys-bits-limit", "phys-bits", "pmu", "l3-cache", "host-cache-info",
					    "kvm", "vmware-cpuid-freq", "cpuid-0xb", "full-cpuid-auto-level", "legacy-cache", "level", "xlevel", "model-id",
					    "kvmclock", "kvm_pv_unhalt", "kvm-pv-unhalt", "kvm_pv_eoi", "kvm-pv-eoi", "tsc-freq", "vendor" };

	for (unsigned i = 0; i < ARRAY_LEN(same); i++)
		if (!strcmp(name, same[i]))
			return true;
	return is_hyperv(name);
}

/* A feature nobody here has is left out with a warning, as TCG does. */
static void add_feature(struct qemu *q, char *spec, size_t len, const char *name, bool on)
{
	static const char *const spellings[][2] = { { "lahf_lm", "lahf-lm" }, { "sse4_1", "sse4.1" }, { "sse4_2", "sse4.2" }, { "tsc_adjust", "tsc-adjust" },
						    { "tsc_deadline", "tsc-deadline" }, { "xsave", "xsave" }, { "arch_capabilities", "arch-capabilities" },
						    { "cmp_legacy", "cmp-legacy" }, { "fxsr_opt", "fxsr-opt" }, { "spec_ctrl", "spec-ctrl" } };
	uint32_t all[X86_F_WORDS];
	struct x86_cpu_model m;
	char one[96];

	for (unsigned i = 0; i < ARRAY_LEN(spellings); i++)
		if (!strcmp(name, spellings[i][0]))
			name = spellings[i][1];
	x86_soft_features(all);
	snprintf(one, sizeof(one), "max,%c%s", on ? '+' : '-', name);
	if (x86_cpu_model_parse(one, all, 1, &m, NULL)) {
		if (on)
			warn("-cpu: the feature '%s' is not supported, the guest will not have it", name);
		return;
	}
	snprintf(spec + strlen(spec), len - strlen(spec), "%s", one + 3);
}

static int cpu_features(struct qemu *q, struct props *p, char *spec, size_t len, struct err *e)
{
	for (unsigned i = 0; i < p->n; i++) {
		const char *name = p->of[i].name;
		bool on = true;

		if (p->of[i].taken)
			continue;
		if (strlen(spec) + strlen(name) + 8 > len)
			return err_set(e, -E2BIG, "too many features");
		if (*name == '+' || *name == '-')
			add_feature(q, spec, len, name + 1, *name == '+');
		else if (cpu_same(name) && !is_hyperv(name))
			continue;
		else if (is_hyperv(name) && !fixed_holds(p->of[i].value, "off"))
			warn("-cpu: %s=%s has no effect: there are no enlightenments of Hyper-V", name, p->of[i].value);
		else if (is_hyperv(name))
			continue;
		else if (props_switch(p->of[i].value, &on, e))
			return err_prefix(e, -EINVAL, "%.40s", name);
		else
			add_feature(q, spec, len, name, on);
	}
	return 0;
}

int opt_cpu(struct qemu *q, const char *val, struct err *e)
{
	char spec[1024];
	const char *level, *name;
	struct props p;
	int ret;

	if (wants_help(q, "cpu", val))
		return -EAGAIN;
	ret = props_parse(val, "model", &p, e);
	name = ret ? NULL : props_take(&p, "model");
	name = name ? name : "";
	level = cpu_level(name);
	if (!ret && !level)
		ret = err_set(e, -EINVAL, "unable to find CPU model '%.40s'; -cpu help lists those there are", name);
	if (!ret) {
		snprintf(spec, sizeof(spec), "%s", level);
		if (strcmp(level, "max") && strcmp(level, name))
			warn("-cpu %s: the guest's CPU is %s", name, level);
		warn_fixed(&p, "-cpu", cpu_fixed);
		ret = cpu_features(q, &p, spec, sizeof(spec), e);
	}
	if (!ret)
		q->cpu = keep(q, spec);
	props_free(&p);
	return ret;
}

int opt_memory(struct qemu *q, const char *val, struct err *e)
{
	const uint64_t mib = 1 << 20;
	struct props p;
	const char *v;
	int ret = props_parse(val, "size", &p, e);

	if (!ret && (v = props_take(&p, "size")))
		ret = props_size(v, mib, &q->memory, e);
	if (!ret)
		ret = props_number(&p, "slots", 0, 256, &q->slots, NULL, e);
	if (!ret && (v = props_take(&p, "maxmem")))
		ret = props_size(v, mib, &q->memory_max, e);
	if (!ret && q->memory_max && q->memory_max < q->memory)
		ret = err_set(e, -EINVAL, "invalid value of maxmem: maximum memory size (%#llx) must be at least the initial memory size (%#llx)",
			      (unsigned long long)q->memory_max, (unsigned long long)q->memory);
	if (!ret)
		ret = props_done(&p, e);
	q->memory = (q->memory + mib - 1) & ~(mib - 1);
	props_free(&p);
	return ret;
}

/* ---- clock, tables, firmware's files ---- */

int opt_boot(struct qemu *q, const char *val, struct err *e)
{
	static const char *const same[] = { "strict", "splash", "splash-time", "reboot-timeout", NULL };
	char order[8] = "", menu[16] = "";
	bool on = false;
	struct props p;
	const char *v;
	int ret = props_parse(val, "order", &p, e);

	v = ret ? NULL : props_take(&p, "order");
	for (; v && *v && !ret; v++) {
		if (!strchr("abcdnop", *v))
			ret = err_set(e, -EINVAL, "Invalid boot device '%c'", *v);
		else if (!strchr("acdn", *v))
			warn("-boot: '%c' has no effect: a is the floppies, c the disks, d the CDs, n the network cards", *v);
		else if (!strchr(order, *v))
			order[strlen(order)] = *v;
	}
	if (!ret && (v = props_take(&p, "once"))) {
		warn("-boot: once=%s holds for every boot", v);
		order[0] = '\0';
		for (; *v; v++)
			if (strchr("acdn", *v) && strlen(order) < 4 && !strchr(order, *v))
				order[strlen(order) + 1] = '\0', order[strlen(order)] = *v;
	}
	if (!ret && props_peek(&p, "menu")) {
		ret = props_bool(&p, "menu", &on, e);
		snprintf(menu, sizeof(menu), "%smenu=%s", *order ? "," : "", on ? "on" : "off");
	}
	if (!ret) {
		props_ignore(&p, same);
		ret = props_done(&p, e);
	}
	if (!ret && (*order || *menu))
		emitf(q, "--boot", "%s%s%s", *order ? "order=" : "", order, menu);
	props_free(&p);
	return ret;
}

int opt_rtc(struct qemu *q, const char *val, struct err *e)
{
	static const char *const same[] = { "driftfix", NULL };
	struct props p;
	const char *v;
	int ret = props_parse(val, NULL, &p, e);

	if (!ret && (v = props_take(&p, "base")) && strcmp(v, "utc"))
		emitf(q, "--rtc", "base=%s", v);
	if (!ret && (v = props_take(&p, "clock")) && strcmp(v, "host"))
		warn("-rtc clock=%s: the clock follows the host's", v);
	if (!ret) {
		props_ignore(&p, same);
		ret = props_done(&p, e);
	}
	props_free(&p);
	return ret;
}

/* The same words as lodge run's. */
int opt_smbios(struct qemu *q, const char *val, struct err *e)
{
	emitf(q, "--smbios", "%s", val);
	return 0;
}

int opt_fw_cfg(struct qemu *q, const char *val, struct err *e)
{
	struct props p;
	int ret = props_parse(val, "name", &p, e);
	const char *name = ret ? NULL : props_take(&p, "name"), *file = ret ? NULL : props_take(&p, "file"),
		   *text = ret ? NULL : props_take(&p, "string");

	if (!ret && (!name || !file == !text))
		ret = err_set(e, -EINVAL, "name and either file or string are needed");
	if (!ret)
		ret = props_done(&p, e);
	if (!ret) {
		emit_begin(q, "--fw-cfg");
		emit_part(q, NULL, name);
		emit_part(q, file ? "file" : "string", file ? file : text);
		emit_end(q);
	}
	props_free(&p);
	return ret;
}

/* "driver=D,property=P,value=V" is the same as "D.P=V". */
static int split_global(struct qemu *q, const char *val, const char **name, const char **value, struct err *e)
{
	const char *eq = strchr(val, '='), *driver, *property, *text;
	struct props p;
	int ret;

	if (eq && memchr(val, '.', (size_t)(eq - val))) {
		*name = keepf(q, "%.*s", (int)(eq - val), val);
		*value = eq + 1;
		return 0;
	}
	ret = props_parse(val, NULL, &p, e);
	driver = ret ? NULL : props_take(&p, "driver");
	property = ret ? NULL : props_take(&p, "property");
	text = ret ? NULL : props_take(&p, "value");
	if (!ret && (!driver || !property || !text))
		ret = err_set(e, -EINVAL, "it is driver.property=value");
	if (!ret)
		ret = props_done(&p, e);
	if (!ret) {
		*name = keepf(q, "%s.%s", driver, property);
		*value = keep(q, text);
	}
	props_free(&p);
	return ret;
}

/* Defaults of properties: none is changed, which is worth a word where it makes a difference. */
int opt_global(struct qemu *q, const char *val, struct err *e)
{
	static const char *const same[] = {
		"virtio-blk-pci.scsi", "kvm-pit.lost_tick_policy", "mc146818rtc.lost_tick_policy", "ICH9-LPC.noreboot", "kvm-apic.vapic",
		"apic-common.vapic", "migration.send-configuration", "hpet.msi", "i440FX-pcihost.pci-hole64-size", "q35-pcihost.pci-hole64-size",
	};
	static const struct qemu_fixed fixed[] = {
		{ "PIIX4_PM.disable_s3", "1" }, { "PIIX4_PM.disable_s4", "1" }, { "ICH9-LPC.disable_s3", "1" }, { "ICH9-LPC.disable_s4", "1" },
		{ "cfi.pflash01.secure", "off" }, { "isa-debugcon.iobase", "0xe9" }, { "virtio-pci.disable-modern", "off" },
		{ "virtio-pci.disable-legacy", "on" },
	};
	const char *name, *value;
	int ret = split_global(q, val, &name, &value, e);

	if (ret)
		return ret;
	for (unsigned i = 0; i < ARRAY_LEN(same); i++)
		if (!strcmp(same[i], name))
			return 0;
	if (!strcmp(name, "PIIX4_PM.acpi-root-pci-hotplug")) {
		q->fixed_root = fixed_holds(value, "off");
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
		if (!strcmp(fixed[i].name, name) && fixed_holds(value, fixed[i].is))
			return 0;
	warn("-global %s=%s has no effect", name, value);
	return 0;
}

/* ---- what becomes of it ---- */

static void emit_boot(struct qemu *q)
{
	if (q->bios)
		emitf(q, "--firmware", "%s", firmware_without_smm(q, firmware_find(q, q->bios)));
	else if (q->pflash[0])
		emitf(q, "--firmware", "%s", firmware_without_smm(q, q->pflash[0]));
	else if (!q->kernel && !q->micro)
		emitf(q, "--firmware", "bios");
	if (q->pflash[1])
		emitf(q, "--firmware-vars", "%s", q->pflash[1]);
	if (q->kernel)
		emitf(q, "--kernel", "%s", q->kernel);
	if (q->initrd)
		emitf(q, "--initrd", "%s", q->initrd);
	if (q->append && *q->append)
		emitf(q, "--append", "%s", q->append);
}

int emit_machine(struct qemu *q, struct err *e)
{
	int ret;

	if (q->micro)
		emitf(q, "--machine", "micro");
	emitf(q, "--accel", "%s", q->accel ? q->accel : "auto");
	if (q->code_cache)
		emitf(q, "--code-cache", "%uM", q->code_cache);
	if (q->cpu && strcmp(q->cpu, "max"))
		emitf(q, "--cpu", "%s", q->cpu);
	if (q->cpus > 1)
		emitf(q, "--cpus", "%u", q->cpus);
	if (q->max_cpus > q->cpus)
		emitf(q, "--max-cpus", "%u", q->max_cpus);
	emit_topology(q);
	if (q->n_memories && q->memory_max <= q->memory)
		return err_set(e, -EINVAL, "-device virtio-mem-pci: memory devices need room: -m SIZE,maxmem=SIZE");
	if (!q->n_memories && (q->slots || q->memory_max > q->memory))
		warn("-m: memory comes later by -device virtio-mem-pci only, which is there from the start; without one slots and maxmem have no effect");
	if (q->n_memories)
		emitf(q, "--memory", "%lluM,max=%lluM", (unsigned long long)q->memory >> 20, (unsigned long long)q->memory_max >> 20);
	else
		emitf(q, "--memory", "%lluM", (unsigned long long)q->memory >> 20);
	ret = emit_numa(q, e);
	if (ret)
		return ret;
	emit_boot(q);
	emitf(q, "--defaults", "qemu");
	if (!q->fixed_cards && !q->fixed_root)
		emitf(q, "--pci-hotplug", "on");
	if (q->no_reboot)
		emit(q, "--no-reboot");
	if (q->paused || q->none)
		emit(q, "--paused");
	if (q->daemonize)
		emit(q, "--daemonize");
	if (q->sandbox)
		emitf(q, "--sandbox", "%s", q->sandbox);
	if (q->pidfile)
		emitf(q, "--pidfile", "%s", q->pidfile);
	return 0;
}
