// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory devices: how much of them the guest should have, and has. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "virtio/mem.h"
#include "vm/internal.h"

#define MIB (1ull << 20)

void vm_memory_config(const struct vm_config *cfg, struct platform_config *p)
{
	p->n_memory = cfg->n_memory_devices;
	for (unsigned i = 0; i < p->n_memory; i++)
		p->memory[i] = (struct platform_memory){ .size = cfg->memory_device[i].size, .node = cfg->memory_device[i].node };
}

uint64_t vm_backing_size(const struct vm_config *cfg)
{
	struct platform_config p = { .mem_size = cfg->memory, .vram_size = cfg->vga_memory };

	vm_memory_config(cfg, &p);
	return platform_backing_size(&p);
}

uint64_t vm_memory_span(const struct vm_config *cfg)
{
	struct platform_config p = { .mem_size = cfg->memory };
	uint64_t gpa, offset;

	vm_memory_config(cfg, &p);
	platform_memory_place(&p, p.n_memory, &gpa, &offset);
	return p.n_memory ? gpa : cfg->memory;
}

/* Would the host have it, as far as that can be said? */
static int check_host(const struct vm *vm, uint64_t all, struct err *e)
{
	uint64_t limit = mem_host_limit(vm->m->mem);

	return all <= limit ? 0 : err_set(e, -ENOMEM, "%llu MiB of guest memory are more than this host has, or this process may use (%llu MiB)",
					  (unsigned long long)all / MIB, (unsigned long long)limit / MIB);
}

static uint64_t requested(const struct vm *vm, unsigned but)
{
	struct virtio_mem_info info;
	uint64_t sum = 0;

	for (unsigned i = 0; i < vm->cfg->n_memory_devices; i++) {
		if (i == but || !vm->memory[i])
			continue;
		virtio_mem_get(vm->memory[i], &info);
		sum += info.requested;
	}
	return sum;
}

static int add_one(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_memory *c = &vm->cfg->memory_device[i];
	struct virtio_mem_opts o = { .name = c->id, .size = c->size, .block_size = c->block_size, .node = (int)c->node, .number = i };
	struct virtio_dev *dev;
	int ret;

	platform_memory_place(&vm->pcfg, i, &o.gpa, &o.offset);
	ret = virtio_mem_new(vm->m, c->id, &o, &dev, e);
	ret = ret ? ret : platform_add_virtio(vm->platform, dev, e);
	if (ret)
		return err_prefix(e, ret, "--memory-device %s", c->id);
	vm->memory[i] = dev;
	return vm_memory_request(vm, i, c->requested, e);
}

int vm_add_memory(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_memory_devices && !ret; i++)
		ret = add_one(vm, i, e);
	return ret;
}

void vm_memory_reset(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg->n_memory_devices; i++)
		virtio_mem_machine_reset(vm->memory[i]);
}

int vm_memory_request(struct vm *vm, unsigned i, uint64_t bytes, struct err *e)
{
	int ret = virtio_mem_check(vm->cfg->memory_device[i].size, vm->cfg->memory_device[i].block_size, bytes, e);

	ret = ret ? ret : check_host(vm, vm->cfg->memory + requested(vm, i) + bytes, e);
	return ret ? ret : virtio_mem_request(vm->memory[i], bytes, e);
}

bool vm_memory_info(const struct vm *vm, unsigned i, struct virtio_mem_info *out)
{
	if (i >= vm->cfg->n_memory_devices || !vm->memory[i])
		return false;
	virtio_mem_get(vm->memory[i], out);
	return true;
}

int vm_memory_find(const struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->cfg->n_memory_devices; i++)
		if (!strcmp(vm->cfg->memory_device[i].id, id))
			return (int)i;
	return -ENOENT;
}

int vm_memory_set(struct vm *vm, uint64_t total, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	uint64_t most = cfg->memory, left, share[PLATFORM_MAX_MEMORY];
	int ret;

	for (unsigned i = 0; i < cfg->n_memory_devices; i++)
		most += cfg->memory_device[i].size;
	if (!cfg->n_memory_devices)
		return err_set(e, -ENOTSUP, "the guest has no memory device: start it with --memory SIZE,max=SIZE");
	if (total < cfg->memory || total > most)
		return err_set(e, -ERANGE, "%llu MiB: the guest may have from %llu to %llu MiB", (unsigned long long)total / MIB,
			       (unsigned long long)cfg->memory / MIB, (unsigned long long)most / MIB);
	left = total - cfg->memory;
	for (unsigned i = 0; i < cfg->n_memory_devices; i++) {
		share[i] = align_down(MIN(left, cfg->memory_device[i].size), cfg->memory_device[i].block_size);
		left -= share[i];
	}
	if (left)
		return err_set(e, -EINVAL, "%llu KiB: memory comes in blocks of %llu KiB", (unsigned long long)total >> 10,
			       (unsigned long long)cfg->memory_device[cfg->n_memory_devices - 1].block_size >> 10);
	ret = check_host(vm, total, e);
	for (unsigned i = 0; i < cfg->n_memory_devices && !ret; i++)
		ret = virtio_mem_request(vm->memory[i], share[i], e);
	return ret;
}
