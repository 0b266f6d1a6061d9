// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's nodes of memory, in QEMU's words. */
#include <stdio.h>

#include "base/bits.h"
#include "control/hmp.h"
#include "control/internal.h"
#include "machine/mem.h"
#include "vm/config.h"

static json_t *memdev(const struct ctl_call *c, const char *id, uint64_t size, const struct vm_placement *p)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	json_t *nodes = json_array();

	for (unsigned i = 0; i < 64; i++)
		if (p->nodes >> i & 1)
			json_array_append_new(nodes, json_integer(i));
	return json_pack("{s:s,s:I,s:b,s:b,s:b,s:b,s:o,s:s}", "id", id, "size", (json_int_t)size, "merge", cfg->mem_merge, "dump", 0, "prealloc",
			 cfg->prealloc, "share", mem_ram_fd(c->ctl->m->mem) >= 0, "host-nodes", nodes, "policy", vm_policy_word(p->policy));
}

void ctl_cmd_query_memdev(struct ctl_call *c, const struct ctl_args_query_memdev *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	json_t *list = json_array();
	char id[16];

	if (!cfg->n_nodes)
		json_array_append_new(list, memdev(c, "ram", cfg->memory, &cfg->placement));
	for (unsigned i = 0; i < cfg->n_nodes; i++) {
		snprintf(id, sizeof(id), "ram-node%u", i);
		json_array_append_new(list, memdev(c, id, cfg->node[i].memory, cfg->placement.nodes ? &cfg->placement : &cfg->node[i].placement));
	}
	ctl_return(c, list);
}

void hmp_info_numa(struct hmp *h)
{
	const struct vm_config *cfg = vm_config_of(h->ctl->vm);

	fprintf(h->out, "%u nodes\r\n", cfg->n_nodes);
	for (unsigned n = 0; n < cfg->n_nodes; n++) {
		fprintf(h->out, "node %u cpus:", n);
		for (unsigned i = 0; i < cfg->max_cpus; i++)
			if (cfg->cpu_node[i] == n && vm_has_cpu(h->ctl->vm, i))
				fprintf(h->out, " %u", i);
		fprintf(h->out, "\r\nnode %u size: %llu MB\r\nnode %u plugged: 0 MB\r\n", n, (unsigned long long)cfg->node[n].memory >> 20, n);
	}
}

static const char *truth(const json_t *j, const char *key) { return json_is_true(json_object_get(j, key)) ? "true" : "false"; }

void hmp_info_memdev(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-memdev", NULL), *x;
	size_t i;

	json_array_foreach(all, i, x)
		fprintf(h->out, "memory backend: %s\r\n  size:  %lld\r\n  merge: %s\r\n  dump: %s\r\n  prealloc: %s\r\n  share: %s\r\n  policy: %s\r\n\r\n",
			hmp_text(x, "id"), hmp_number(x, "size"), truth(x, "merge"), truth(x, "dump"), truth(x, "prealloc"), truth(x, "share"),
			hmp_text(x, "policy"));
	json_decref(all);
}
