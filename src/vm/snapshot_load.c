// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Going on from a saved VM (snapshot.h), in two steps: before the machine is
 * built its files are opened and the CPU model is taken from them, since the
 * guest has seen it; when all devices are there they, the vCPUs and the times are
 * loaded in the place of a boot.
 *
 * The lock on the file `state`, shared, tells `lodge snapshot rm` that it is in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"
#include "cpu/x86/snap.h"
#include "vm/internal.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"
#include "vm/snapshot_memory.h"

#define CLOCK_MAX_NS (INT64_MAX / 4)

static const struct snap_field machine_fields[] = {
	SNAP_FIELD(struct snapshot_machine, mem_size), SNAP_FIELD(struct snapshot_machine, n_vcpus),
	SNAP_FIELD(struct snapshot_machine, watchdog_action), SNAP_FIELD(struct snapshot_machine, clock_ns),
	SNAP_FIELD(struct snapshot_machine, engine_ns), SNAP_FIELD(struct snapshot_machine, tsc),
	SNAP_FIELD(struct snapshot_machine, kernel_chips), SNAP_FIELD(struct snapshot_machine, kernel_lapic),
	SNAP_ARRAY(struct snapshot_machine, engine), SNAP_END
};
const struct snap_table snapshot_machine_table = { "machine", 1, machine_fields };

struct vm_restore {
	int state_fd;
	struct snapshot_held held;
	uint8_t *state;
	struct snapshot_section sect[SNAPSHOT_SECTIONS];
	struct snapshot_machine machine;
};

static int open_file(const char *dir, const char *name, int *fd, struct err *e)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? err_set(e, -errno, "%s: %s", path, strerror(errno)) : 0;
}

static int read_state(struct vm_restore *r, struct err *e)
{
	size_t len;
	int ret = vm_snapshot_slurp(r->state_fd, "state", SNAPSHOT_STATE_MAX, &r->state, &len, e);

	return ret ? ret : snapshot_file_parse(r->state, len, r->sect, e);
}

/* The machine's size is known. */
static int open_memory(struct vm *vm, struct vm_restore *r, struct err *e)
{
	struct snapshot_section *s = &r->sect[SNAPSHOT_MEMORY];
	struct snapshot_memory about;
	int ret = s->data ? vm_snapshot_record(s, "memory", &snapshot_memory_table, &about, e) : 0;

	return ret ? ret : vm_snapshot_memory(vm->cfg->from_snapshot, s->data ? &about : NULL, r->machine.mem_size, &r->held, e);
}

static int begin(const struct vm_restore *r, unsigned section, struct snap_in **in, struct err *e)
{
	return snap_in_new(in, r->sect[section].data, r->sect[section].len) ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int read_machine(struct vm *vm, struct vm_restore *r, struct err *e)
{
	struct snapshot_machine *m = &r->machine;
	int ret = vm_snapshot_record(&r->sect[SNAPSHOT_MACHINE], "machine", &snapshot_machine_table, m, e);

	if (ret)
		return ret;
	m->engine[sizeof(m->engine) - 1] = '\0';
	if (m->clock_ns < 0 || m->clock_ns > CLOCK_MAX_NS || m->engine_ns > CLOCK_MAX_NS || m->watchdog_action > VM_WATCHDOG_NMI)
		return err_set(e, -EINVAL, "the saved state of the machine makes no sense");
	if (m->n_vcpus != vm->cfg->max_cpus || m->mem_size != vm_backing_size(vm->cfg))
		return err_set(e, -EINVAL, "the saved state and configuration do not belong together: %u vCPUs, %llu bytes of memory against %u and %llu",
			       m->n_vcpus, (unsigned long long)m->mem_size, vm->cfg->max_cpus,
			       (unsigned long long)vm_backing_size(vm->cfg));
	return 0;
}

int vm_restore_open(struct vm *vm, struct err *e)
{
	const char *dir = vm->cfg->from_snapshot;
	struct vm_restore *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->state_fd = -1;
	vm->restore = r;
	ret = vm_snapshot_check(dir, e);
	ret = ret ? ret : open_file(dir, "state", &r->state_fd, e);
	if (!ret && flock(r->state_fd, LOCK_SH | LOCK_NB))
		ret = err_set(e, -errno, "it is being removed");
	ret = ret ? ret : read_state(r, e);
	ret = ret ? ret : read_machine(vm, r, e);
	ret = ret ? ret : open_memory(vm, r, e);
	return ret ? err_prefix(e, ret, "snapshot '%s'", dir) : 0;
}

int vm_restore_model(struct vm *vm, struct err *e)
{
	struct x86_cpu_model *m = &vm->model;
	uint32_t khz = m->tsc_khz ? m->tsc_khz : x86_tsc_khz();
	struct x86_cpu_model here = *m;
	struct snap_in *in;
	int ret = begin(vm->restore, SNAPSHOT_CPU, &in, e);

	if (ret)
		return ret;
	ret = x86_model_load(in, m, e);
	snap_in_free(in);
	m->n_vcpus = vm->cfg->max_cpus;
	/* What a guest is shown by itself is what the host has, but software can have more. */
	if (!vm->engine_ops->limits)
		here.phys_bits = X86_PHYS_BITS_MAX;
	ret = ret ? ret : x86_model_goes(m, &here, e);
	if (ret)
		return err_prefix(e, ret, "snapshot '%s'", vm->cfg->from_snapshot);
	if (m->tsc_khz / 1000 > khz / 1000 + khz / 100000 + 1 || khz / 1000 > m->tsc_khz / 1000 + khz / 100000 + 1)
		log_warn("the guest's time stamp counter was saved at %u MHz and goes at %u MHz here: its clocks will be wrong by as much",
			 m->tsc_khz / 1000, khz / 1000);
	return 0;
}

struct mem_image **vm_restore_memory(const struct vm *vm) { return &vm->restore->held.image; }

static int load_vcpu(struct vm *vm, struct snap_in *in, unsigned i, struct x86_state *s, struct err *e)
{
	struct vcpu *v = vm->m->vcpus[i];
	struct x86_pending p;
	int ret = x86_state_load(in, i, &vm->model, s, &p, e);

	/* Of a state that was loaded before, by a migration that failed then, nothing is left. */
	atomic_fetch_and(&v->events, ~X86_PENDING);
	if (!ret && vm->engine_ops->state_set(v, s))
		ret = err_set(e, -EINVAL, "the engine %s does not take the saved state of vCPU %u", vm->engine_ops->name, i);
	if (ret)
		return ret;
	atomic_store(&v->sipi_vector, p.sipi_vector);
	atomic_store(&v->nmis, p.nmis);
	atomic_fetch_or(&v->events, p.events);
	return 0;
}

static int load_vcpus(struct vm *vm, struct err *e)
{
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
	struct snap_in *in = NULL;
	int ret = s ? begin(vm->restore, SNAPSHOT_VCPUS, &in, e) : err_set(e, -ENOMEM, "out of memory");

	for (unsigned i = 0; i < vm->m->n_vcpus && !ret; i++)
		ret = load_vcpu(vm, in, i, s, e);
	snap_in_free(in);
	free(s);
	return ret;
}

static int load_devices(struct vm *vm, struct err *e)
{
	struct snap_in *in;
	int ret = begin(vm->restore, SNAPSHOT_DEVICES, &in, e);

	if (ret)
		return ret;
	ret = machine_load_devs(vm->m, in, e);
	if (!ret && snap_in_left(in))
		ret = err_set(e, -EINVAL, "the saved machine has devices more than this one");
	snap_in_free(in);
	return ret;
}

/* But for the times of the engine. */
static int load_parts(struct vm *vm, struct err *e)
{
	int ret;

	machine_reset_devs(vm->m);
	clock_pause(vm->m->clock);
	machine_pause_devs(vm->m);
	clock_set(vm->m->clock, vm->restore->machine.clock_ns);
	/* vCPUs before chips: the mode of a local APIC is its vCPU's in KVM. */
	ret = load_vcpus(vm, e);
	return ret ? ret : load_devices(vm, e);
}

static int load_all(struct vm *vm, struct err *e)
{
	const struct snapshot_machine *m = &vm->restore->machine;
	const struct engine_clock t = { .ns = m->engine_ns, .tsc = m->tsc };
	int ret = load_parts(vm, e);

	if (!ret && vm->engine_ops->clock_set(vm->engine, &t))
		ret = err_set(e, -EINVAL, "the engine %s does not take the saved time", vm->engine_ops->name);
	return ret;
}

/* The model cannot be another one any more: is it the same? */
static int check_model(struct vm *vm, struct err *e)
{
	struct x86_cpu_model m = vm->model;
	struct snap_in *in;
	int ret = begin(vm->restore, SNAPSHOT_CPU, &in, e);

	if (ret)
		return ret;
	ret = x86_model_load(in, &m, e);
	snap_in_free(in);
	ret = ret ? ret : x86_model_goes(&m, &vm->model, e);
	return ret ? ret : x86_model_fits(&vm->model, m.feat, e);
}

/* Sections of a state that this machine could have; in vm->restore. */
static int look_at(struct vm *vm, struct vm_restore *r, const uint8_t *bytes, size_t len, struct err *e)
{
	int ret = snapshot_file_parse(bytes, len, r->sect, e);

	vm->restore = r;
	ret = ret ? ret : read_machine(vm, r, e);
	return ret ? ret : check_model(vm, e);
}

int vm_state_try(struct vm *vm, const uint8_t *bytes, size_t len, struct err *e)
{
	struct vm_restore r = { 0 };
	int ret = look_at(vm, &r, bytes, len, e);

	ret = ret ? ret : load_parts(vm, e);
	vm->restore = NULL;
	return ret;
}

int vm_state_load(struct vm *vm, uint8_t *bytes, size_t len, const uint8_t *vmgenid, struct err *e)
{
	struct vm_restore r = { .state = bytes };
	int ret = look_at(vm, &r, bytes, len, e);

	if (!ret && vmgenid)
		platform_set_vmgenid(vm->platform, vmgenid);
	ret = ret ? ret : load_all(vm, e);
	vm->restore = NULL;
	free(bytes);
	return ret;
}

int vm_restore_load(struct vm *vm, struct err *e)
{
	int ret = load_all(vm, e);

	free(vm->restore->state);
	vm->restore->state = NULL;
	if (ret)
		return err_prefix(e, ret, "snapshot '%s'", vm->cfg->from_snapshot);
	vm->paused = true;
	vm->stop_wanted = vm->cfg->paused;
	return 0;
}

void vm_restore_free(struct vm *vm)
{
	struct vm_restore *r = vm->restore;

	if (!r)
		return;
	if (r->state_fd >= 0)
		close(r->state_fd);
	vm_snapshot_held_free(&r->held);
	free(r->state);
	free(r);
	vm->restore = NULL;
}
