// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of memory that comes and goes while the guest runs. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "virtio/mem.h"
#include "vm/config_int.h"

#define MIB (1ull << 20)

int config_memory_device(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_memory *m;

	if (n >= PLATFORM_MAX_MEMORY)
		return err_set(e, -E2BIG, "a guest has at most %d memory devices", PLATFORM_MAX_MEMORY);
	m = &v->memory_device[n];
	v->n_memory_devices = MAX(v->n_memory_devices, n + 1);
	if (!strcmp(field, "id"))
		return config_id(val, &m->id, e);
	if (!strcmp(field, "memdev"))
		return config_text(val, &m->memdev, e);
	if (!strcmp(field, "size"))
		return vm_parse_size(val, &m->size, e);
	if (!strcmp(field, "block-size"))
		return vm_parse_size(val, &m->block_size, e);
	if (!strcmp(field, "requested-size"))
		return vm_parse_size(val, &m->requested, e);
	if (!strcmp(field, "node"))
		return config_uint(val, 0, 255, &m->node, e);
	return -ENOENT;
}

static int check_one(const struct vm_config *v, struct vm_memory *m, struct err *e)
{
	int ret;

	if (!m->id)
		return err_set(e, -EINVAL, "--memory-device: id is missing");
	if (!m->memdev)
		m->memdev = m->id;
	if (!m->block_size)
		m->block_size = VIRTIO_MEM_BLOCK_DEFAULT;
	ret = virtio_mem_check(m->size, m->block_size, m->requested, e);
	if (!ret && m->size > VM_MEMORY_MAX)
		ret = err_set(e, -EINVAL, "more than 4096G");
	if (!ret && v->huge == MEM_HUGE_2M && m->block_size < 2 * MIB)
		ret = err_set(e, -EINVAL, "with --huge-pages 2m a block has at least 2M");
	if (!ret && m->node >= MAX(v->n_nodes, 1u))
		ret = err_set(e, -EINVAL, "there is no node %u", m->node);
	return ret ? err_prefix(e, ret, "--memory-device %s", m->id) : 0;
}

int config_check_memory(struct vm_config *v, struct err *e)
{
	uint64_t all = v->memory;
	int ret;

	if (v->memory_max && v->memory_max < v->memory)
		return err_set(e, -EINVAL, "--memory: max= is %llu MiB, less than the %llu MiB at the start", (unsigned long long)v->memory_max / MIB,
			       (unsigned long long)v->memory / MIB);
	if (v->memory_max > v->memory && !v->n_memory_devices) {
		v->memory_device[0] = (struct vm_memory){ .id = "vm0", .memdev = "vm0", .size = v->memory_max - v->memory };
		v->n_memory_devices = 1;
	}
	for (unsigned i = 0; i < v->n_memory_devices; i++) {
		ret = check_one(v, &v->memory_device[i], e);
		if (ret)
			return ret;
		all += v->memory_device[i].size;
	}
	if (v->memory_max && all > v->memory_max)
		return err_set(e, -EINVAL, "--memory-device: with them there are %llu MiB, more than max= of --memory, %llu MiB",
			       (unsigned long long)all / MIB, (unsigned long long)v->memory_max / MIB);
	return 0;
}
