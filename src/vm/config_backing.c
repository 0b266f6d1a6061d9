// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of what the host does for a guest: where its memory is kept, and how much of the CPUs it gets. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/cgroup.h"
#include "vm/config_int.h"

static const char *const policy_words[] = { "default", "preferred", "bind", "interleave", NULL };	/* in the order of enum mem_policy */

const char *vm_policy_word(enum mem_policy policy) { return policy_words[policy]; }

int config_placement(struct vm_placement *p, const char *field, const char *val, struct err *e)
{
	int w = 0, ret;

	if (!strcmp(field, "host-nodes")) {
		uint64_t nodes = 0;

		ret = config_set_of(val, 63, &nodes, e);
		p->nodes = nodes;
		return ret;
	}
	if (strcmp(field, "policy"))
		return -ENOENT;
	p->policy_given = true;
	ret = config_word(val, policy_words, &w, e);
	p->policy = (enum mem_policy)w;
	return ret;
}

int config_backing(struct vm_config *v, const char *field, const char *val, struct err *e)
{
	if (!strcmp(field, "prealloc"))
		return config_bool(val, &v->prealloc, e);
	if (!strcmp(field, "lock"))
		return config_bool(val, &v->mem_lock, e);
	if (!strcmp(field, "merge"))
		return config_bool(val, &v->mem_merge, e);
	return config_placement(&v->placement, field, val, e);
}

int config_limit(struct vm_config *v, const char *key, const char *val, struct err *e)
{
	if (!strcmp(key, "cpu-weight"))
		return config_uint(val, 1, CGROUP_WEIGHT_MAX, &v->cpu_weight, e);
	if (!strcmp(key, "cpu-quota"))
		return config_uint(val, 1, CGROUP_QUOTA_MAX, &v->cpu_quota, e);
	return -ENOENT;
}

/* Nodes that are named, and no policy, are those it has to be on. */
static int check_placement(struct vm_placement *p, const char *option, struct err *e)
{
	if (p->nodes && !p->policy_given)
		p->policy = MEM_POLICY_BIND;
	if (p->nodes && p->policy == MEM_POLICY_DEFAULT)
		return err_set(e, -EINVAL, "%s: host-nodes= and policy=default exclude each other", option);
	if (!p->nodes && p->policy != MEM_POLICY_DEFAULT)
		return err_set(e, -EINVAL, "%s: policy=%s needs host-nodes=", option, policy_words[p->policy]);
	return 0;
}

int config_check_backing(struct vm_config *v, struct err *e)
{
	bool nodes = false;
	int ret = check_placement(&v->placement, "--memory-backing", e);

	for (unsigned i = 0; i < v->n_nodes && !ret; i++) {
		ret = check_placement(&v->node[i].placement, "--numa", e);
		nodes |= v->node[i].placement.nodes != 0;
	}
	if (ret)
		return ret;
	if (nodes && v->placement.nodes)
		return err_set(e, -EINVAL, "--memory-backing: host-nodes= is for all of the memory; --numa has it for single nodes");
	if (v->mem_merge && v->mem_lock)
		return err_set(e, -EINVAL, "--memory-backing: merge=on and lock=on exclude each other: what is locked is not merged");
	if (v->mem_merge && v->huge == MEM_HUGE_2M)
		return err_set(e, -EINVAL, "--memory-backing: merge=on and --huge-pages 2m exclude each other: such pages are not merged");
	if (v->mem_merge && v->direct == CPU_DIRECT_ALWAYS)
		return err_set(e, -EINVAL, "--memory-backing: merge=on and --direct always exclude each other: memory that other processes map is not merged");
	if (v->mem_merge && v->from_snapshot)
		return err_set(e, -EINVAL, "--memory-backing: merge=on is not for --from-snapshot, whose memory is the snapshot's file");
	return 0;
}
