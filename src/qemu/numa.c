// SPDX-License-Identifier: GPL-2.0-or-later
/* Where CPUs and memory are: -smp with its sockets, dies, cores and threads, and the nodes of -numa. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "qemu/qemu.h"

#define MAX_CPUS 64u

/* ---- -smp ---- */

/* What was not said: the cores if nothing else is left open, as QEMU prefers them. 0: not said. */
static void fill(unsigned n, struct x86_topology *t)
{
	bool no_cores = !t->cores, no_sockets = !t->sockets, no_threads = !t->threads;

	t->dies = t->dies ? t->dies : 1;
	t->cores = t->cores ? t->cores : 1;
	t->sockets = t->sockets ? t->sockets : 1;
	t->threads = t->threads ? t->threads : 1;
	if (!n)
		return;
	if (no_cores)
		t->cores = MAX(n / (t->sockets * t->dies * t->threads), 1u);
	else if (no_sockets)
		t->sockets = MAX(n / (t->cores * t->dies * t->threads), 1u);
	else if (no_threads)
		t->threads = MAX(n / (t->cores * t->dies * t->sockets), 1u);
}

static int smp_parts(struct props *p, struct x86_topology *t, struct err *e)
{
	static const char *const names[] = { "sockets", "dies", "cores", "threads", "clusters" };
	unsigned *part[] = { &t->sockets, &t->dies, &t->cores, &t->threads };
	uint64_t x;
	int ret = 0;

	for (unsigned i = 0; !ret && i < ARRAY_LEN(names); i++) {
		x = 0;
		ret = props_number(p, names[i], 0, 1024, &x, NULL, e);
		if (!ret && i < ARRAY_LEN(part))
			*part[i] = (unsigned)x;
		else if (!ret && x > 1)
			ret = err_set(e, -EINVAL, "clusters > 1 not supported by this machine's CPU topology");
	}
	return ret;
}

int opt_smp(struct qemu *q, const char *val, struct err *e)
{
	struct x86_topology t = { 0 };
	uint64_t n = 0, max = 0, product;
	struct props p;
	int ret = props_parse(val, "cpus", &p, e);

	if (!ret)
		ret = props_number(&p, "cpus", 1, 1024, &n, NULL, e);
	if (!ret)
		ret = props_number(&p, "maxcpus", 1, 1024, &max, NULL, e);
	ret = ret ? ret : smp_parts(&p, &t, e);
	ret = ret ? ret : props_done(&p, e);
	props_free(&p);
	if (ret)
		return ret;
	fill((unsigned)(max ? max : n), &t);
	product = (uint64_t)t.sockets * t.dies * t.cores * t.threads;
	max = max ? max : n ? n : product;
	n = n ? n : max;
	if (max < n)
		return err_set(e, -EINVAL, "maxcpus must be equal to or greater than smp");
	if (product != max)
		return err_set(e, -EINVAL, "Invalid CPU topology: product of the hierarchy must match maxcpus: %llu != %llu", (unsigned long long)product,
			       (unsigned long long)max);
	if (n > MAX_CPUS)
		return err_set(e, -EINVAL, "a guest has 1 to %u CPUs", MAX_CPUS);
	if (max > MAX_CPUS)
		warn("-smp: a guest has at most %u CPUs, not maxcpus=%llu", MAX_CPUS, (unsigned long long)max);
	q->cpus = (unsigned)n;
	q->max_cpus = (unsigned)MIN(max, MAX_CPUS);
	if (max > MAX_CPUS || !x86_topology_fits(&t)) {
		if (t.sockets > 1 || t.dies > 1 || t.threads > 1)
			warn("-smp: the guest's CPUs are cores of one socket: a number of threads, cores or dies that others follow is a power of two here");
		t = (struct x86_topology){ .sockets = 1, .dies = 1, .cores = q->max_cpus, .threads = 1 };
	}
	q->topology = t;
	return 0;
}

void emit_topology(struct qemu *q)
{
	const struct x86_topology *t = &q->topology;

	if (t->sockets > 1 || t->dies > 1 || t->threads > 1)
		emitf(q, "--topology", "sockets=%u,dies=%u,cores=%u,threads=%u", t->sockets, t->dies, t->cores, t->threads);
}

/* socket-id, die-id, core-id and thread-id.  All but the ones there is only one of have to be there if `all`; *given: a bit for each that is. */
int place_take(struct qemu *q, struct props *p, bool all, struct x86_place *at, unsigned *given, struct err *e)
{
	static const char *const names[] = { "socket-id", "die-id", "core-id", "thread-id" };
	const struct x86_topology *t = &q->topology;
	const unsigned most[] = { t->sockets, t->dies, t->cores, t->threads };
	unsigned *const part[] = { &at->socket, &at->die, &at->core, &at->thread };
	uint64_t n;
	bool found;
	int ret = 0;

	*given = 0;
	*at = (struct x86_place){ 0 };
	for (unsigned i = 0; i < ARRAY_LEN(names) && !ret; i++) {
		n = 0;
		ret = props_number(p, names[i], 0, most[i] - 1, &n, &found, e);
		*part[i] = (unsigned)n;
		*given |= (unsigned)found << i;
		if (!ret && !found && all && (most[i] > 1 || i == 2))
			ret = err_set(e, -EINVAL, "CPU %s is not set", names[i]);
	}
	return ret ? ret : props_number(p, "module-id", 0, 0, &n, NULL, e);
}

/* ---- -numa ---- */

int opt_numa(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	const char *type;
	int ret = item_add(q, &q->numas, "-numa", "type", val, e);

	if (ret)
		return ret;
	it = list_entry(q->numas.prev, struct qemu_item, node);
	type = props_take(&it->p, "type");
	for (unsigned i = 0; i < 3; i++) {
		static const char *const types[] = { "node", "dist", "cpu" };

		if (type && !strcmp(type, types[i]))
			return it->type = types[i], 0;
	}
	return err_set(e, -ENOTSUP, "type '%.40s' is not supported; node, dist and cpu are", type ? type : "");
}

/* Where the host keeps memory: of a memory backend. */
struct placement {
	const char *nodes[16], *policy;
	unsigned n;
};

struct nodes {
	unsigned n;
	struct node {
		bool there, has_memory;
		uint64_t memory, cpus;
		struct placement at;
		unsigned distance[NUMA_MAX_NODES];	/* 0: not said */
	} of[NUMA_MAX_NODES];
};

/* "2", "0-3" */
static int range(const char *text, uint64_t *set, struct err *e)
{
	char *end;
	unsigned long lo = strtoul(text, &end, 10), hi = lo;

	if (end != text && *end == '-' && end[1])
		hi = strtoul(end + 1, &end, 10);
	if (end == text || *end || hi < lo || hi >= MAX_CPUS)
		return err_set(e, -EINVAL, "cpus=%.40s is not a CPU or a range of them, below %u", text, MAX_CPUS);
	for (; lo <= hi; lo++)
		*set |= 1ull << lo;
	return 0;
}

/* What a backend says of the host's side; what is for all of the memory there is noted in q. */
static int take_backend(struct qemu *q, struct qemu_item *it, struct placement *at, struct err *e)
{
	const char *v;
	bool merge = q->mem_merge, prealloc = q->prealloc;
	int ret = 0;

	while ((v = props_take_one(&it->p, "host-nodes"))) {
		if (at->n == ARRAY_LEN(at->nodes))
			return err_set(e, -E2BIG, "-object %s: there are too many host-nodes", it->id);
		at->nodes[at->n++] = keep(q, v);
	}
	v = props_take(&it->p, "policy");
	at->policy = v ? keep(q, v) : "default";
	if (at->n && !strcmp(at->policy, "default"))
		return err_set(e, -EINVAL, "-object %s: host-nodes must be empty for policy default, or you should explicitly specify a policy other than default", it->id);
	if (!at->n && strcmp(at->policy, "default"))
		return err_set(e, -EINVAL, "-object %s: host-nodes must be set for policy %.20s", it->id, at->policy);
	ret = props_bool(&it->p, "merge", &merge, e);
	ret = ret ? ret : props_bool(&it->p, "prealloc", &prealloc, e);
	q->mem_merge |= merge;
	q->prealloc |= prealloc;
	return ret ? err_prefix(e, ret, "-object %s", it->id) : 0;
}

static void emit_placement(struct qemu *q, const struct placement *at)
{
	for (unsigned i = 0; i < at->n; i++)
		emit_part(q, "host-nodes", at->nodes[i]);
	if (at->n)
		emit_part(q, "policy", at->policy);
}

/* All of the memory: -machine memory-backend, -overcommit, -mem-prealloc. */
static int emit_backing(struct qemu *q, struct err *e)
{
	struct qemu_item *it = q->memory_backend ? item_find(&q->objects, q->memory_backend) : NULL;
	struct placement at = { 0 };
	int ret = it && !strncmp(it->type, "memory", 6) ? take_backend(q, it, &at, e) : 0;

	if (ret || (!at.n && !q->prealloc && !q->mem_lock && !q->mem_merge))
		return ret;
	emit_begin(q, "--memory-backing");
	emit_raw(q, q->prealloc ? "prealloc=on" : "prealloc=off");
	emit_placement(q, &at);
	if (q->mem_lock)
		emit_part(q, "lock", "on");
	if (q->mem_merge)
		emit_part(q, "merge", "on");
	emit_end(q);
	return 0;
}

int opt_overcommit(struct qemu *q, const char *val, struct err *e)
{
	bool pm = false;
	struct props p;
	int ret = props_parse(val, NULL, &p, e);

	ret = ret ? ret : props_bool(&p, "mem-lock", &q->mem_lock, e);
	ret = ret ? ret : props_bool(&p, "cpu-pm", &pm, e);
	ret = ret ? ret : props_done(&p, e);
	props_free(&p);
	if (!ret && pm)
		warn("-overcommit: cpu-pm=on has no effect: a CPU that has nothing to do gives up the host's");
	return ret;
}

static int node_memory(struct qemu *q, struct qemu_item *it, struct node *node, struct err *e)
{
	const char *mem = props_take(&it->p, "mem"), *dev = props_take(&it->p, "memdev"), *size;
	struct qemu_item *back = dev ? item_find(&q->objects, dev) : NULL;

	node->has_memory = mem || dev;
	if (mem && dev)
		return err_set(e, -EINVAL, "cannot specify both mem= and memdev=");
	if (mem)
		return props_size(mem, 1 << 20, &node->memory, e);
	if (!dev)
		return 0;
	if (!back || strncmp(back->type, "memory", 6))
		return err_set(e, -ENOENT, "memdev=%.60s is ambiguous or does not exist", dev);
	back->used = true;
	if (take_backend(q, back, &node->at, e))
		return -EINVAL;
	size = props_peek(&back->p, "size");
	return size ? props_size(size, 1, &node->memory, e) : err_set(e, -EINVAL, "-object %.60s: size is missing", dev);
}

static int take_node(struct qemu *q, struct qemu_item *it, struct nodes *all, struct err *e)
{
	static const char *const same[] = { "initiator", NULL };
	uint64_t id = all->n;
	struct node *node;
	const char *cpus;
	int ret = props_number(&it->p, "nodeid", 0, NUMA_MAX_NODES - 1, &id, NULL, e);

	if (ret)
		return ret;
	if (id >= NUMA_MAX_NODES)
		return err_set(e, -E2BIG, "a guest has at most %d nodes", NUMA_MAX_NODES);
	node = &all->of[id];
	if (node->there)
		return err_set(e, -EEXIST, "Duplicate NUMA nodeid: %u", (unsigned)id);
	node->there = true;
	all->n++;
	while (!ret && (cpus = props_take_one(&it->p, "cpus")))
		ret = range(cpus, &node->cpus, e);
	ret = ret ? ret : node_memory(q, it, node, e);
	props_ignore(&it->p, same);
	return ret;
}

static int take_dist(struct qemu_item *it, struct nodes *all, struct err *e)
{
	uint64_t src = 0, dst = 0, val = 0;
	bool has[3] = { false };
	int ret = props_number(&it->p, "src", 0, NUMA_MAX_NODES - 1, &src, &has[0], e);

	ret = ret ? ret : props_number(&it->p, "dst", 0, NUMA_MAX_NODES - 1, &dst, &has[1], e);
	ret = ret ? ret : props_number(&it->p, "val", NUMA_HERE, 255, &val, &has[2], e);
	if (ret)
		return ret;
	if (!has[0] || !has[1] || !has[2])
		return err_set(e, -EINVAL, "src, dst and val are needed");
	if (!all->of[src].there || !all->of[dst].there)
		return err_set(e, -ENOENT, "there is no node %u", (unsigned)(all->of[src].there ? dst : src));
	all->of[src].distance[dst] = (unsigned)val;
	return 0;
}

/* All CPUs at that place: what is not said is any. */
static int take_cpu(struct qemu *q, struct qemu_item *it, struct nodes *all, struct err *e)
{
	struct x86_place at;
	unsigned given;
	uint64_t node = 0;
	bool has = false;
	int ret = props_number(&it->p, "node-id", 0, NUMA_MAX_NODES - 1, &node, &has, e);

	ret = ret ? ret : place_take(q, &it->p, false, &at, &given, e);
	if (ret)
		return ret;
	if (!has || !all->of[node].there)
		return err_set(e, -EINVAL, has ? "there is no node %u" : "node-id is missing", (unsigned)node);
	for (unsigned i = 0; i < q->max_cpus; i++) {
		struct x86_place p = x86_place_of(&q->topology, i);

		if ((given & 1 && p.socket != at.socket) || (given & 2 && p.die != at.die) || (given & 4 && p.core != at.core) ||
		    (given & 8 && p.thread != at.thread))
			continue;
		for (unsigned k = 0; k < NUMA_MAX_NODES; k++)
			if (k != node && all->of[k].cpus >> i & 1)
				return err_set(e, -EINVAL, "CPU %u is node %u's already", i, k);
		all->of[node].cpus |= 1ull << i;
	}
	return 0;
}

static int take(struct qemu *q, const char *type, struct nodes *all, struct err *e)
{
	int ret = 0;

	list_for_each(n, &q->numas) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (strcmp(it->type, type))
			continue;
		ret = !strcmp(type, "node") ? take_node(q, it, all, e) : !strcmp(type, "dist") ? take_dist(it, all, e) : take_cpu(q, it, all, e);
		ret = ret ? ret : props_done(&it->p, e);
		if (ret)
			return err_prefix(e, ret, "-numa %s", type);
	}
	return 0;
}

static int check(struct qemu *q, const struct nodes *all, struct err *e)
{
	uint64_t sum = 0, cpus = 0;
	unsigned with = 0;

	for (unsigned i = 0; i < all->n; i++) {
		if (!all->of[i].there)
			return err_set(e, -EINVAL, "-numa: Node ID missing: %u", i);
		sum += MIN(all->of[i].memory, UINT64_MAX / NUMA_MAX_NODES);
		with += all->of[i].has_memory;
		cpus |= all->of[i].cpus;
	}
	if (with && sum != q->memory)
		return err_set(e, -EINVAL, "-numa: total memory for NUMA nodes (0x%llx) should equal RAM size (0x%llx)", (unsigned long long)sum,
			       (unsigned long long)q->memory);
	if (cpus && q->max_cpus < 64 && ~cpus & (BIT64(q->max_cpus) - 1))
		warn("-numa: CPUs that no node has are node 0's");
	return 0;
}

static void emit_node(struct qemu *q, const struct node *node, unsigned n)
{
	emit_begin(q, "--numa");
	emit_raw(q, "node");
	for (unsigned i = 0; i < 64;) {
		unsigned from = i;

		while (i < 64 && node->cpus >> i & 1)
			i++;
		if (i > from)
			emit_part(q, "cpus", i - from > 1 ? keepf(q, "%u-%u", from, i - 1) : keepf(q, "%u", from));
		else
			i++;
	}
	if (node->has_memory)
		emit_part(q, "memory", node->memory % (1 << 20) ? keepf(q, "%lluK", (unsigned long long)node->memory >> 10) :
			  keepf(q, "%lluM", (unsigned long long)node->memory >> 20));
	emit_placement(q, &node->at);
	for (unsigned k = 0; k < n; k++)
		if (node->distance[k])
			emit_part(q, "distance", keepf(q, "%u:%u", k, node->distance[k]));
	emit_end(q);
}

int emit_numa(struct qemu *q, struct err *e)
{
	struct nodes all = { 0 };
	int ret = take(q, "node", &all, e);

	ret = ret ? ret : take(q, "dist", &all, e);
	ret = ret ? ret : take(q, "cpu", &all, e);
	ret = ret ? ret : check(q, &all, e);
	for (unsigned i = 0; i < all.n && !ret; i++)
		emit_node(q, &all.of[i], all.n);
	return ret ? ret : emit_backing(q, e);
}
