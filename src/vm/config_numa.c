// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Configuration of what a guest is told of where its CPUs and memory are: sockets, dies, cores
 * and threads; nodes of memory with their CPUs, and how far from each other those are.
 *
 * A CPU's number is its APIC ID, whose bits are the thread, core, die and socket, each in as many as
 * its counts need.  So a count that is not a power of two can only be that of the outermost part.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "vm/config_int.h"

#define MIB (1ull << 20)

int config_set_of(const char *text, unsigned max, uint64_t *set, struct err *e)
{
	const char *p = text;

	*set = 0;
	while (*p) {
		unsigned long lo, hi;
		char *end;

		if (!isdigit((unsigned char)*p))
			goto bad;
		lo = hi = strtoul(p, &end, 10);
		if (*end == '-' && !isdigit((unsigned char)end[1]))
			goto bad;
		if (*end == '-')
			hi = strtoul(end + 1, &end, 10);
		if (hi < lo || hi > max || (*end && (*end != ',' || !end[1])))
			goto bad;
		for (; lo <= hi; lo++)
			*set |= 1ull << lo;
		p = *end ? end + 1 : end;
	}
	if (*set)
		return 0;
bad:
	return err_set(e, -EINVAL, "'%.40s' is not a list of numbers from 0 to %u such as 0,2-3", text, max);
}

/* ---- sockets, dies, cores, threads ---- */

int config_topology(struct vm_config *v, const char *field, const char *val, struct err *e)
{
	unsigned *n = !strcmp(field, "sockets") ? &v->topology.sockets : !strcmp(field, "dies") ? &v->topology.dies :
		      !strcmp(field, "cores") ? &v->topology.cores : !strcmp(field, "threads") ? &v->topology.threads : NULL;

	return n ? config_uint(val, 1, MACHINE_MAX_VCPUS, n, e) : -ENOENT;
}

/* What was not said: cores as many as are needed, of the others one. */
static int check_topology(struct vm_config *v, struct err *e)
{
	struct x86_topology *t = &v->topology;
	unsigned others;

	t->sockets = t->sockets ? t->sockets : 1;
	t->dies = t->dies ? t->dies : 1;
	t->threads = t->threads ? t->threads : 1;
	others = t->sockets * t->dies * t->threads;
	if (!t->cores)
		t->cores = MAX(v->max_cpus / others, 1u);
	if (others * t->cores != v->max_cpus)
		return err_set(e, -EINVAL, "--topology: %u sockets of %u dies with %u cores of %u threads make %u CPUs, not %u", t->sockets, t->dies,
			       t->cores, t->threads, others * t->cores, v->max_cpus);
	if (!x86_topology_fits(t))
		return err_set(e, -EINVAL, "--topology: the number of threads, and that of cores and dies where more than one of what they are in follows, "
			       "is a power of two here");
	return 0;
}

/* ---- nodes ---- */

int config_numa(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_numa_node *node;
	unsigned to, distance = 0;
	uint64_t cpus;
	int ret;

	if (n >= NUMA_MAX_NODES)
		return err_set(e, -E2BIG, "a guest has at most %d nodes", NUMA_MAX_NODES);
	node = &v->node[n];
	v->n_nodes = MAX(v->n_nodes, n + 1);
	if (!strcmp(field, "node"))
		return config_bool(val, &node->there, e);
	if (!strcmp(field, "cpus")) {
		ret = config_set_of(val, MACHINE_MAX_VCPUS - 1, &cpus, e);
		node->cpus = cpus;
		return ret;
	}
	if (!strcmp(field, "memory")) {
		node->memory_given = true;
		ret = vm_parse_size(val, &node->memory, e);
		return !ret && node->memory % MIB ? err_set(e, -EINVAL, "'%.40s' is not a whole number of MiB", val) : ret;
	}
	if (!strcmp(field, "host-nodes") || !strcmp(field, "policy"))
		return config_placement(&node->placement, field, val, e);
	if (strncmp(field, "distance.", 9) || config_uint(field + 9, 0, NUMA_MAX_NODES - 1, &to, NULL))
		return -ENOENT;
	ret = config_uint(val, NUMA_HERE, 255, &distance, e);
	node->distance[to] = (uint8_t)distance;
	return ret;
}

static int check_memory(struct vm_config *v, struct err *e)
{
	uint64_t sum = 0, given = 0;
	unsigned n = v->n_nodes;

	for (unsigned i = 0; i < n; i++) {
		given += v->node[i].memory_given;
		if (add_overflows(sum, v->node[i].memory, &sum))
			return err_set(e, -ERANGE, "--numa: the nodes have too much memory");
	}
	/* Nobody said: in equal parts, and what is left over is the last one's. */
	for (unsigned i = 0; i < n && !given; i++) {
		v->node[i].memory = i + 1 < n ? v->memory / n / MIB * MIB : v->memory - sum;
		sum += v->node[i].memory;
	}
	if (given && !v->memory_given && sum)
		v->memory = sum;
	if (sum != v->memory)
		return err_set(e, -EINVAL, "--numa: the nodes have %llu MiB of memory, the guest has %llu MiB", (unsigned long long)sum >> 20,
			       (unsigned long long)v->memory >> 20);
	if (v->memory < MIB || v->memory > VM_MEMORY_MAX)
		return err_set(e, -EINVAL, "--numa: a guest's memory is between 1M and 4096G");
	return 0;
}

static int check_cpus(struct vm_config *v, struct err *e)
{
	unsigned in_socket = v->topology.dies * v->topology.cores * v->topology.threads;
	uint64_t all = 0;

	for (unsigned i = 0; i < v->n_nodes; i++) {
		if (v->node[i].cpus & all)
			return err_set(e, -EINVAL, "--numa: CPU %d is in two nodes", __builtin_ctzll(v->node[i].cpus & all));
		all |= v->node[i].cpus;
	}
	if (all && v->max_cpus < 64 && all >> v->max_cpus)
		return err_set(e, -EINVAL, "--numa: there is no CPU %d: the guest has at most %u, and the first is 0", 63 - __builtin_clzll(all),
			       v->max_cpus);
	/* Nobody said: socket by socket. */
	for (unsigned i = 0; i < v->max_cpus; i++) {
		v->cpu_node[i] = all ? 0 : (uint8_t)(i / in_socket % v->n_nodes);
		for (unsigned k = 0; k < v->n_nodes; k++)
			if (v->node[k].cpus >> i & 1)
				v->cpu_node[i] = (uint8_t)k;
	}
	return 0;
}

/* One way said is both ways said. */
static int check_distances(struct vm_config *v, struct err *e)
{
	for (unsigned i = 0; i < v->n_nodes; i++) {
		if (v->node[i].distance[i] && v->node[i].distance[i] != NUMA_HERE)
			return err_set(e, -EINVAL, "--numa: the distance of node %u from itself is %d", i, NUMA_HERE);
		v->node[i].distance[i] = NUMA_HERE;
		for (unsigned k = v->n_nodes; k < NUMA_MAX_NODES; k++)
			if (v->node[i].distance[k])
				return err_set(e, -EINVAL, "--numa: there is no node %u to be away from node %u", k, i);
		for (unsigned k = 0; k < v->n_nodes; k++)
			if (k != i && v->node[i].distance[k] == NUMA_HERE)
				return err_set(e, -EINVAL, "--numa: the distance from node %u to node %u is more than %d", i, k, NUMA_HERE);
	}
	for (unsigned i = 0; i < v->n_nodes; i++)
		for (unsigned k = 0; k < v->n_nodes; k++)
			if (!v->node[i].distance[k])
				v->node[i].distance[k] = v->node[k].distance[i] ? v->node[k].distance[i] : NUMA_AWAY;
	return 0;
}

int config_check_numa(struct vm_config *v, struct err *e)
{
	int ret = check_topology(v, e);

	if (ret || !v->n_nodes)
		return ret;
	for (unsigned i = 0; i < v->n_nodes; i++)
		if (!v->node[i].there)
			return err_set(e, -EINVAL, "--numa: there is no node %u; they are counted from 0", i);
	ret = check_memory(v, e);
	ret = ret ? ret : check_cpus(v, e);
	return ret ? ret : check_distances(v, e);
}

void vm_numa(const struct vm_config *v, struct platform_numa *n)
{
	n->n_nodes = v->n_nodes;
	n->memory = v->memory;
	memcpy(n->cpu_node, v->cpu_node, sizeof(n->cpu_node));
	for (unsigned i = 0; i < v->n_nodes; i++) {
		n->node_memory[i] = v->node[i].memory;
		memcpy(n->distance[i], v->node[i].distance, sizeof(n->distance[i]));
	}
}
