// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From the checked configuration to a wired machine: the parts list, in order.
 *
 * Back ends (files, networks, the console) are opened before the machine gets
 * its devices, so that what the host refuses is said before anything starts.
 * vm_unbuild undoes any prefix of this.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/cgroup.h"
#include "base/log.h"
#include "machine/mem_image.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/rng.h"
#include "vm/chardevs.h"
#include "vm/exec.h"
#include "vm/firmware.h"
#include "vm/hotplug.h"
#include "vm/internal.h"
#include "vm/nodes.h"

#define MULTIBOOT_MAGIC 0x1badb002u
#define MULTIBOOT_SEARCH 8192

static int check_host(const struct vm_config *cfg, struct err *e)
{
	long host_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct sysinfo si;
	uint64_t have;

	if (!sysinfo(&si)) {
		have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
		if (cfg->memory > have)
			return err_set(e, -ENOMEM, "--memory: the guest would have %llu MiB, but this host has only %llu MiB",
				       (unsigned long long)cfg->memory >> 20, (unsigned long long)have >> 20);
	}
	if (host_cpus > 0 && cfg->cpus > (unsigned long)host_cpus * 4)
		log_warn("--cpus: %u vCPUs on %ld host CPUs will be slow", cfg->cpus, host_cpus);
	return vm_check_pins(cfg, e);
}

/* Test kernels parse their command line themselves; nothing is added for Multiboot. */
static bool is_multiboot(const char *path)
{
	uint32_t word[MULTIBOOT_SEARCH / 4];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, word, sizeof(word));

	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i + 3 <= n / 4; i++)
		if (word[i] == MULTIBOOT_MAGIC && word[i] + word[i + 1] + word[i + 2] == 0)
			return true;
	return false;
}

/* What the last console= of the command line names, as /dev/console is the last one;
 * NULL: there is none. */
static const char *named_console(const char *cmdline)
{
	const char *last = NULL;

	for (const char *p = cmdline; (p = strstr(p, "console=")); p++)
		if (p == cmdline || p[-1] == ' ')
			last = p + strlen("console=");
	return last;
}

/* The console is the first serial port, or a virtio console where the guest is told so. */
static bool console_is_virtio(const struct vm_config *cfg)
{
	const char *name = named_console(cfg->append);

	return name && !cfg->like_qemu && !strncmp(name, "hvc", 3);
}

char *vm_make_cmdline(const struct vm_config *cfg)
{
	const char *console = "";
	char *out;

	if (cfg->kernel && !cfg->like_qemu && !named_console(cfg->append) && !is_multiboot(cfg->kernel))
		console = "console=ttyS0";
	if (asprintf(&out, "%s%s%s", console, *console && *cfg->append ? " " : "", cfg->append) < 0)
		return NULL;
	return out;
}

static bool translates(const struct cpu_engine_ops *o) { return o == &cpu_engine_translate || o == &cpu_engine_check; }

/* OVMF makes page tables for all the addresses there can be, in pages of 2 MiB: 256 MiB for 46 bits. As
 * in QEMU there are 40 unless memory needs more. */
static void limit_phys_bits(struct vm *vm)
{
	const unsigned few = 40;
	bool firmware = vm->cfg->firmware || !vm->cfg->kernel;

	if (firmware && vm_memory_span(vm->cfg) < 1ull << (few - 1))
		vm->model.phys_bits = MIN(vm->model.phys_bits, few);
}

static int limits_of(const struct vm *vm, struct cpu_limits *l, struct err *e)
{
	if (vm->engine_ops->limits)
		return vm->engine_ops->limits(l, e);
	*l = (struct cpu_limits){ .phys_bits = X86_PHYS_BITS_MAX };
	x86_soft_features(l->feat);
	return 0;
}

static int build_engine(struct vm *vm, struct err *e)
{
	struct cpu_engine_config ec = {
		.n_vcpus = vm->cfg->max_cpus, .split_irqchip = vm->cfg->accel_split, .no_pic = vm->cfg->machine == VM_MACHINE_MICRO, .model = &vm->model,
		.code_cache = vm->cfg->code_cache, .direct = vm->cfg->direct, .perf_map = vm->cfg->perf_map, .dump_block = vm->cfg->dump_block, .dump_address = vm->cfg->dump_address,
		.dump_file = vm->cfg->dump_file,
	};
	struct cpu_limits limits;
	int ret;

	ret = vm_accel_choose(vm->cfg->accel, !log_enabled(LOG_WARN), &vm->engine_ops, e);
	if (ret)
		return ret;
	if ((ec.perf_map || ec.dump_block) && !translates(vm->engine_ops))
		return err_set(e, -EINVAL, "%s: the engine %s translates nothing; --accel translate does",
			       ec.perf_map ? "--perf-map" : "--dump-block", vm->engine_ops->name);
	ret = limits_of(vm, &limits, e);
	if (ret)
		return ret;
	if (vm->cfg->mem_merge && vm_has_peers(vm->cfg))
		return err_set(e, -EINVAL, "--memory-backing: merge=on is not for guests with vhost-user devices, whose processes map the memory");
	/* Native user code, and vhost-user peers, need memory that another process can map. */
	vm->ram.copy = ec.direct == CPU_DIRECT_ALWAYS || vm_has_peers(vm->cfg) || (vm->restore && !mem_image_mappable(*vm_restore_memory(vm)));
	if ((vm->restore && !vm->ram.copy) || vm->cfg->mem_merge)
		ec.direct = CPU_DIRECT_OFF;
	ret = x86_cpu_model_parse(vm->restore ? "max" : vm->cfg->cpu, limits.feat, vm->cfg->max_cpus, &vm->model, e);
	if (ret)
		return err_prefix(e, ret, "--cpu");
	vm->model.phys_bits = MIN(vm->model.phys_bits, limits.phys_bits);
	vm->model.xsave_own = limits.xsave_own;
	limit_phys_bits(vm);
	if (vm->restore)
		ret = vm_restore_model(vm, e);
	if (ret)
		return ret;
	vm->model.topology = vm->cfg->topology;
	ret = vm->engine_ops->init(vm->m, &ec, &vm->engine, e);
	for (unsigned i = 0; !ret && i < vm->cfg->max_cpus; i++) {
		ret = vm->engine_ops->vcpu_create(vm->engine, i, e);
		if (!ret)
			vm->m->n_vcpus = i + 1;
	}
	return ret;
}

static void on_escape(void *opaque)
{
	fprintf(stderr, "\r\nlodge: left by the escape key\r\n");
	vm_request(opaque, MACHINE_REQ_QUIT, VM_EXIT_ESCAPE);
}

static int open_stdio(struct vm *vm, struct chardev **out, struct err *e)
{
	const struct chardev_stdio_opts o = {
		.escape = (uint8_t)vm->cfg->escape, .then_x = vm->cfg->escape_x, .quit = on_escape, .opaque = vm,
	};

	if (isatty(STDIN_FILENO) && log_enabled(LOG_WARN))
		fprintf(stderr, "lodge: console of guest '%s'; Ctrl-%c%s ends it\n", vm->cfg->name, (o.escape ^ 0x40) | (o.escape < 27 ? 0x20 : 0),
			o.then_x ? " x" : "");
	return chardev_stdio_new(vm->m->loop, &o, out, e);
}

static int open_chardev(struct vm *vm, enum vm_console kind, const char *file, struct chardev **out, struct err *e)
{
	struct loop *l = vm->m->loop;
	char pty[64];
	int ret;

	switch (kind) {
	case VM_CONSOLE_STDIO:
		return open_stdio(vm, out, e);
	case VM_CONSOLE_FILE:
		return chardev_file_new(l, file, false, out, e);
	case VM_CONSOLE_PTY:
		ret = chardev_pty_new(l, pty, sizeof(pty), out, e);
		if (!ret)
			fprintf(stderr, "lodge: console of guest '%s' on %s\n", vm->cfg->name, pty);
		return ret;
	case VM_CONSOLE_NONE:
		break;
	}
	ret = chardev_null_new(l, out);
	return ret ? err_set(e, ret, "out of memory") : 0;
}

static int build_chardevs(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	int ret = open_chardev(vm, cfg->console, cfg->console_file, &vm->console, e);

	if (ret)
		return err_prefix(e, ret, "--console");
	if (cfg->debugcon != VM_CONSOLE_NONE) {
		ret = open_chardev(vm, cfg->debugcon, cfg->debugcon_file, &vm->debugcon, e);
		if (ret)
			return err_prefix(e, ret, "--debugcon");
	}
	return cfg->exec ? vm_exec_new(vm, e) : 0;
}

static int build_platform(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	int ret;

	vm->cmdline = vm_make_cmdline(cfg);
	if (!vm->cmdline)
		return err_set(e, -ENOMEM, "out of memory");
	if (vm->restore)
		vm->ram.image = vm_restore_memory(vm);
	vm->pcfg = (struct platform_config){
		.ram = vm->restore ? &vm->ram : NULL,
		.kind = cfg->machine == VM_MACHINE_PC ? PLATFORM_PC : PLATFORM_MICRO,
		.mem_size = cfg->memory, .mem_huge = cfg->huge, .n_vcpus = cfg->max_cpus, .topology = cfg->topology,
		.phys_bits = vm->model.phys_bits,
		.kernel = cfg->kernel, .initrds = cfg->initrd, .n_initrds = cfg->n_initrds, .cmdline = vm->cmdline,
		.serial = { vm->console }, .serial_output_only = console_is_virtio(cfg),
		.debugcon = vm->debugcon, .debug_exit = cfg->debug_exit || cfg->test_device, .name = cfg->name,
		.tpm = vm->tpm, .tpm_kind = cfg->tpm == VM_TPM_CRB ? PLATFORM_TPM_CRB : PLATFORM_TPM_TIS, .vmgenid = cfg->vmgenid,
		.vram_size = cfg->vga_memory, .gpu = cfg->vga == VM_VGA_VIRTIO ? &vm->gpu : NULL, .display = vm->screen[0],
		.input = vm->input, .smbios = &cfg->smbios, .rtc_offset = cfg->rtc_offset,
	};
	memcpy(vm->pcfg.uuid, cfg->uuid, sizeof(vm->pcfg.uuid));
	for (unsigned i = 0; i < PLATFORM_MAX_SERIAL; i++) {
		if (!cfg->serial[i])
			continue;
		ret = vm_chardev_take(vm, cfg->serial[i], false, &vm->pcfg.serial[i], e);
		if (ret)
			return err_prefix(e, ret, "--serial");
	}
	vm_numa(cfg, &vm->pcfg.numa);
	vm_cpus_config(vm, &vm->pcfg);
	if (cfg->mem_merge)
		mem_want_merge(vm->m->mem);
	vm_memory_config(cfg, &vm->pcfg);
	vm_slots_config(vm, &vm->pcfg);
	ret = platform_new(vm->m, vm->engine, &vm->pcfg, &vm->platform, e);
	if (!ret)
		ret = vm_place_memory(vm, e);
	if (!ret)
		vm_vcpus_parked(vm);
	return ret;
}

/* The console if it is a virtio one, and the ports of --exec. */
static int add_console(struct vm *vm, struct err *e)
{
	struct virtio_console_port port[1 + EXEC_PORTS] = { 0 };
	struct virtio_dev *dev;
	unsigned n = 0;
	int ret;

	if (console_is_virtio(vm->cfg))
		port[n++] = (struct virtio_console_port){ .chr = vm->console, .console = true };
	for (unsigned i = 0; vm->exec && i < EXEC_PORTS; i++)
		port[n++] = (struct virtio_console_port){ .chr = vm_exec_port(vm->exec, i), .name = vm_exec_port_name[i] };
	if (!n)
		return 0;
	ret = virtio_console_new(vm->m, "console0", port, n, vm->exec != NULL, &dev, e);
	return ret ? ret : platform_add_virtio(vm->platform, dev, e);
}

static int add_small(struct vm *vm, struct err *e)
{
	struct virtio_dev *dev;
	int ret = 0;

	if (vm->cfg->vga == VM_VGA_GPU) {
		ret = virtio_gpu_new(vm->m, "gpu0", &vm->gpu, &dev, e);
		if (!ret)
			ret = platform_add_virtio(vm->platform, dev, e);
	}
	if (!ret && vm->cfg->rng) {
		ret = virtio_rng_new(vm->m, "rng0", &dev, e);
		if (!ret)
			ret = platform_add_virtio(vm->platform, dev, e);
	}
	if (!ret && vm->cfg->balloon) {
		ret = virtio_balloon_new(vm->m, "balloon0", &dev, e);
		if (!ret)
			ret = platform_add_virtio(vm->platform, dev, e);
		if (!ret)
			vm->balloon = dev;
	}
	return ret;
}

static int add_rest(struct vm *vm, struct err *e)
{
	int ret;

	vm->m->rank = VM_RANK_REST;
	ret = add_small(vm, e);
	if (!ret)
		ret = vm_add_ports(vm, e);
	if (!ret)
		ret = vm_add_parts(vm, e);
	if (!ret)
		ret = vm_add_shares(vm, e);
	if (!ret)
		ret = vm_add_vsock(vm, e);
	return ret ? ret : vm_add_memory(vm, e);
}

/* Machine lock held. */
static int build_machine(struct vm *vm, struct err *e)
{
	int ret = build_engine(vm, e);

	if (!ret)
		ret = build_chardevs(vm, e);
	if (!ret)
		ret = vm_add_objects(vm, e);
	if (!ret)
		ret = vm_chardevs_new(vm, e);
	if (!ret)
		ret = vm_display_new(vm, e);
	if (!ret)
		ret = vm_tpm_new(vm, e);
	if (!ret)
		ret = build_platform(vm, e);
	vm->m->rank = VM_RANK_PORTS;
	if (!ret)
		ret = vm_add_root_ports(vm, e);
	vm->m->rank = VM_RANK_CONSOLE;
	/* The console first: the guest's first virtio device is where it prints. */
	if (!ret)
		ret = add_console(vm, e);
	if (!ret)
		ret = vm_add_nodes(vm, e);
	if (!ret)
		ret = vm_add_disks(vm, e);
	if (!ret)
		ret = vm_add_vhost_disks(vm, e);
	if (!ret)
		ret = vm_add_nets(vm, e);
	if (!ret)
		ret = add_rest(vm, e);
	/* Last: the others stay where they were before there was a display. */
	if (!ret)
		ret = vm_add_usb(vm, e);
	if (!ret)
		ret = vm_add_hotplugged_disks(vm, e);
	vm->m->rank = VM_RANK_FIRMWARE;
	if (!ret)
		ret = vm_add_firmware(vm, e);
	vm->built = !ret;
	return ret;
}

int vm_build(struct vm *vm, struct err *e)
{
	int ret = check_host(vm->cfg, e);

	if (ret)
		return ret;
	ret = vm_limit_cpus(vm, e);
	if (ret)
		return ret;
	ret = machine_new(&vm->m, false);
	if (ret)
		return err_set(e, ret, "the machine cannot be made: %s", strerror(-ret));
	vm_init_loop(vm);
	ret = vm->cfg->from_snapshot ? vm_restore_open(vm, e) : 0;
	if (ret)
		return ret;
	machine_lock(vm->m);
	ret = build_machine(vm, e);
	machine_unlock(vm->m);
	return ret ? ret : vm_display_show(vm, e);
}

/* vCPU threads are gone.  Devices go before the back ends and the engine they
 * use, and all of them before the loop and the memory map. */
void vm_unbuild(struct vm *vm)
{
	if (!vm->m) {
		cgroup_free(vm->cgroup);
		return;
	}
	vm_display_hide(vm);
	machine_lock(vm->m);
	machine_free_devs(vm->m);
	vm_netdevs_free(vm);
	vm_display_free(vm);
	vm_exec_free(vm->exec);
	vm_chardevs_free(vm);
	if (vm->debugcon)
		chardev_free(vm->debugcon);
	if (vm->console)
		chardev_free(vm->console);
	machine_unlock(vm->m);
	vm_tpm_free(vm);
	vm_free_disks(vm);
	vm_free_peer_threads(vm);
	vm_free_made(vm);
	if (vm->engine)
		vm->engine_ops->free(vm->engine);
	machine_free(vm->m);
	if (vm->platform)
		platform_free(vm->platform);
	vm_free_firmware(vm);
	vm_restore_free(vm);
	cgroup_free(vm->cgroup);	/* the engine's processes are gone */
	free(vm->cmdline);
}
