// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Block nodes by name: see nodes.h.
 *
 * What is made is made with the lock of one loop, that of the nodes which are
 * referred to and in use, or the machine's.  Two I/O threads' locks are taken
 * together by holders of the machine lock only, so that they cannot be taken in two
 * orders at the same time.
 */
#include "vm/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "block/graph.h"
#include "block/secret.h"
#include "storage/disk.h"
#include "vm/internal.h"
#include "vm/nodes_int.h"

#define MAX_ADDED 1024

struct vm_nodes *vm_nodes_of(struct vm *vm)
{
	struct vm_nodes *s = vm->nodes;

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	list_init(&s->added);
	list_init(&s->groups);
	list_init(&s->secret_ids);
	list_init(&s->tls);
	if (blk_secrets_new(&s->secrets)) {
		free(s);
		return NULL;
	}
	return vm->nodes = s;
}

/* ---- looking ---- */

static struct added *find_added(const struct vm *vm, const struct blk_node *n)
{
	if (vm->nodes)
		list_for_each(p, &vm->nodes->added)
			if (list_entry(p, struct added, in)->n == n)
				return list_entry(p, struct added, in);
	return NULL;
}

struct looking {
	struct vm *vm;
	struct iothread *held;		/* whose lock is held already; NULL: none */
	struct vm_node at;
	const char *name;
	const struct blk_node *child, *parent;
	unsigned mark;
	void (*fn)(void *opaque, const struct vm_node *x);
	void *opaque;
};

static void lock(const struct looking *l, struct iothread *io)
{
	if (io != l->held)
		iothread_lock(io);
}

static void unlock(const struct looking *l, struct iothread *io)
{
	if (io != l->held)
		iothread_unlock(io);
}

/* Every graph, with its lock: those of disks, then what was added and may be under none. */
static bool each_graph(struct looking *l, bool (*fn)(void *opaque, struct blk_node *n))
{
	struct vm *vm = l->vm;
	bool found = false;

	for (unsigned i = 0; i < VM_MAX_DISKS && !found; i++) {
		struct disk *d = vm->disk[i];

		if (!d)
			continue;
		l->at = (struct vm_node){ .io = d->o.io, .d = d };
		lock(l, l->at.io);
		found = blockdev_each(d->node, fn, l);
		unlock(l, l->at.io);
	}
	if (!vm->nodes)
		return found;
	list_for_each(p, &vm->nodes->added) {
		struct blk_node *n = list_entry(p, struct added, in)->n;

		if (found)
			break;
		l->at = (struct vm_node){ .io = vm_iothread_of(vm, n->loop) };
		lock(l, l->at.io);
		found = blockdev_each(n, fn, l);
		unlock(l, l->at.io);
	}
	return found;
}

static bool has_name(void *opaque, struct blk_node *n)
{
	struct looking *l = opaque;

	if (strcmp(n->name, l->name))
		return false;
	l->at.n = n;
	return true;
}

static bool find(struct vm *vm, const char *name, struct iothread *held, struct vm_node *out)
{
	struct looking l = { .vm = vm, .name = name, .held = held };

	if (!*name || !each_graph(&l, has_name))
		return false;
	*out = l.at;
	out->added = find_added(vm, out->n) != NULL;
	return true;
}

static bool is_parent(void *opaque, struct blk_node *n)
{
	struct looking *l = opaque;

	if (!n->name[0] || (n->file != l->child && n->backing != l->child))
		return false;
	l->parent = n;
	return true;
}

const char *vm_node_parent(struct vm *vm, const struct blk_node *n, bool *backing)
{
	struct looking l = { .vm = vm, .child = n };

	if (!each_graph(&l, is_parent))
		return NULL;
	*backing = l.parent->backing == n;
	return l.parent->name;
}

bool vm_node_find(struct vm *vm, const char *name, struct vm_node *out)
{
	return find(vm, name, NULL, out);
}

const char *vm_node_name(struct vm *vm, struct blk_node *n)
{
	struct vm_nodes *s = vm_nodes_of(vm);

	if (!n->name[0] && s)
		snprintf(n->name, sizeof(n->name), "#block%03u", ++s->n_made);
	return n->name;
}

/* Slots, jobs' filters and limits of disks are nobody's to name. */
static bool is_inner(const struct blk_node *n)
{
	return n->drv->filter && !n->name[0];
}

static bool visit(void *opaque, struct blk_node *n)
{
	struct looking *l = opaque;

	if (n->mark == l->mark || is_inner(n))
		return false;
	n->mark = l->mark;
	vm_node_name(l->vm, n);
	l->at.n = n;
	l->at.added = find_added(l->vm, n) != NULL;
	l->fn(l->opaque, &l->at);
	return false;
}

void vm_nodes_each(struct vm *vm, void (*fn)(void *opaque, const struct vm_node *x), void *opaque)
{
	struct vm_nodes *s = vm_nodes_of(vm);
	struct looking l = { .vm = vm, .fn = fn, .opaque = opaque };

	if (!s)
		return;
	l.mark = ++s->mark ? s->mark : ++s->mark;
	each_graph(&l, visit);
}

const json_t *vm_node_description(struct vm *vm, const char *name)
{
	if (vm->nodes)
		list_for_each(p, &vm->nodes->added)
			if (!strcmp(list_entry(p, struct added, in)->n->name, name))
				return list_entry(p, struct added, in)->description;
	return NULL;
}

/* ---- making ---- */

struct making {
	struct vm *vm;
	struct iothread *io;		/* whose loop it is made on, and whose lock is held */
};

static bool name_taken(void *opaque, const char *name)
{
	struct making *k = opaque;
	struct vm_node x;

	return find(k->vm, name, k->io, &x);
}

/* Does anything but the user's list own it? */
static bool in_use(const struct vm_node *x)
{
	return x->n->refs > (x->added ? 1u : 0u);
}

struct top {
	const struct vm *vm;
	const struct blk_node *n;
};

static bool is_shared(void *opaque, struct blk_node *n)
{
	const struct top *t = opaque;

	return n != t->n && n->refs > (find_added(t->vm, n) ? 2u : 1u);
}

/* What is below must be free to go, too: nothing else may stand on it.  Jobs of that may be at their end. */
static bool may_leave(const struct vm *vm, const struct vm_node *x)
{
	struct top t = { vm, x->n };
	bool may;

	iothread_lock(x->io);
	may = !in_use(x) && !blockdev_each(x->n, is_shared, &t);
	iothread_unlock(x->io);
	return may;
}

/* Onto the loop, if nobody uses it where it is. The lock of `to` is held. */
static int bring(struct vm *vm, const struct vm_node *x, struct iothread *to, struct err *e)
{
	int ret;

	if (x->io == to)
		return 0;
	if (!may_leave(vm, x))
		return err_set(e, -EBUSY, "Node '%s' is in use by a disk of another I/O thread", x->n->name);
	iothread_lock(x->io);
	ret = blk_move(x->n, to ? iothread_loop(to) : vm->m->loop);
	iothread_unlock(x->io);
	return ret ? err_set(e, ret, "node '%s' cannot go to another I/O thread: %s", x->n->name, strerror(-ret)) : 0;
}

static struct blk_node *child(void *opaque, const char *name, bool writes, bool *used, struct err *e)
{
	struct making *k = opaque;
	struct vm_node x;

	if (!find(k->vm, name, k->io, &x)) {
		err_set(e, -ENOENT, "Cannot find device='%.60s' nor node-name='%.60s'", name, name);
		return NULL;
	}
	*used = in_use(&x);
	if (writes && *used) {
		err_set(e, -EBUSY, "Node '%s' is busy: it is in use already", x.n->name);
		return NULL;
	}
	return bring(k->vm, &x, k->io, e) ? NULL : blk_ref(x.n);
}

/* The I/O thread of a node in use that the description refers to, so that what is made can stand on it. */
static struct iothread *thread_for(struct vm *vm, const json_t *d, unsigned depth)
{
	static const char *const keys[] = { "file", "backing", "data-file", "image" };
	struct iothread *io = NULL;
	struct vm_node x;

	if (json_is_string(d) && find(vm, json_string_value(d), NULL, &x) && in_use(&x))
		return x.io;
	for (unsigned i = 0; i < ARRAY_LEN(keys) && json_is_object(d) && depth < BLOCKDEV_DEPTH && !io; i++)
		io = thread_for(vm, json_object_get(d, keys[i]), depth + 1);
	return io;
}

static int add_to_list(struct vm_nodes *s, struct blk_node *n, const json_t *description)
{
	struct added *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->n = n;
	a->description = json_deep_copy(description);
	list_add_tail(&s->added, &a->in);
	return 0;
}

int vm_node_open(struct vm *vm, const json_t *description, struct iothread *io, struct blk_node **out, struct err *e)
{
	struct making k = { vm, io };
	const struct blockdev_context c = {
		.loop = io ? iothread_loop(io) : vm->m->loop, .trust = vm->cfg->like_qemu ? BLK_TRUST_ALL : BLK_TRUST_FOLDER,
		.secrets = vm_secrets(vm), .child = child, .name_taken = name_taken, .group = vm_group, .opaque = &k,
	};

	return blockdev_open(&c, description, out, e);
}

int vm_node_add(struct vm *vm, const json_t *description, struct err *e)
{
	struct vm_nodes *s = vm_nodes_of(vm);
	struct iothread *io = thread_for(vm, description, 0);
	struct blk_node *n;
	unsigned count = 0;
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (!json_string_value(json_object_get(description, "node-name")))
		return err_set(e, -EINVAL, "'node-name' must be specified for the root node");
	list_for_each(p, &s->added)
		count++;
	if (count >= MAX_ADDED)
		return err_set(e, -E2BIG, "no more than %d nodes can be added", MAX_ADDED);
	iothread_lock(io);
	ret = vm_node_open(vm, description, io, &n, e);
	if (!ret && add_to_list(s, n, description)) {
		ret = err_set(e, -ENOMEM, "out of memory");
		blk_close(n);
	}
	iothread_unlock(io);
	return ret;
}

static void drop(struct vm *vm, struct added *a)
{
	struct iothread *io = vm_iothread_of(vm, a->n->loop);

	list_del(&a->in);
	iothread_lock(io);
	blk_close(a->n);
	iothread_unlock(io);
	json_decref(a->description);
	free(a);
}

int vm_node_del(struct vm *vm, const char *name, struct err *e)
{
	struct vm_node x;
	const char *over;
	bool backing;

	if (!vm_node_find(vm, name, &x))
		return err_set(e, -ENOENT, "Failed to find node with node-name='%.60s'", name);
	if (x.d && blk_is_slot(x.d->node) && x.n == x.d->node->file)
		return err_set(e, -EBUSY, "Node %s is in use", name);
	if (!x.added)
		return err_set(e, -EPERM, "Node %s is not owned by the monitor", name);
	/* By another node, or by a device or job. */
	over = in_use(&x) ? vm_node_parent(vm, x.n, &backing) : NULL;
	if (over && backing)
		return err_set(e, -EBUSY, "Node '%s' is busy: node is used as backing hd of '%s'", name, over);
	if (in_use(&x))
		return err_set(e, -EBUSY, over ? "Block device %s is in use" : "Node %s is in use", name);
	drop(vm, find_added(vm, x.n));
	return 0;
}

/* ---- using ---- */

/* What is below and somebody else writes to: a disk that stands there, or a job. What n shows would change under its user. */
static struct blk_node *written_below(const struct vm *vm, struct blk_node *n)
{
	struct blk_node *below;

	for (bool others = false; (below = n->backing ? n->backing : n->file); n = below) {
		others |= n->backing || below->refs > (find_added(vm, below) ? 2u : 1u);
		if (others && !below->i.read_only)
			return below;
	}
	return NULL;
}

/* Free, ready to be a disk, and where it is wanted; the lock of `io` is held. */
static int settle(struct vm *vm, const char *name, struct iothread *io, bool writes, struct vm_node *x, struct err *e)
{
	struct blk_node *below;
	int ret;

	if (!find(vm, name, io, x))
		return err_set(e, -ENOENT, "Cannot find device='' nor node-name='%.60s'", name);
	if (in_use(x))
		return err_set(e, -EBUSY, "Node '%s' is busy: it is in use already", name);
	ret = bring(vm, x, io, e);
	if (ret)
		return ret;
	below = written_below(vm, x->n);
	if (below)
		return err_set(e, -EBUSY, "Node '%s' is busy: it stands on '%s', which is written to", name, vm_node_name(vm, below));
	return blockdev_as_image(x->n, writes, e);
}

int vm_node_take(struct vm *vm, const char *name, struct iothread *io, bool writes, struct blk_node **out, struct err *e)
{
	struct vm_node x;
	int ret;

	iothread_lock(io);
	ret = settle(vm, name, io, writes, &x, e);
	if (!ret && writes && x.n->i.read_only)
		ret = err_set(e, -EROFS, "Block node is read-only");
	if (!ret)
		*out = blk_ref(x.n);
	iothread_unlock(io);
	return ret;
}

int vm_node_use(struct vm *vm, const char *name, struct iothread *io, bool writes, const struct blk_disk_opts *o, struct blk_node **slot,
		struct err *e)
{
	const struct blk_reopen read_only = { .read_only = true };
	struct vm_node x;
	int ret;

	iothread_lock(io);
	ret = settle(vm, name, io, writes, &x, e);
	if (!ret && !writes && !x.n->i.read_only)
		ret = blk_reopen(x.n, &read_only, e);
	if (!ret) {
		ret = blk_disk_on(blk_ref(x.n), o, slot, e);
		if (ret)
			blk_close(x.n);
	}
	iothread_unlock(io);
	return ret;
}

unsigned vm_idle_owners(const struct vm *vm, const struct blk_node *n)
{
	unsigned count = 0;

	if (vm->nodes)
		list_for_each(p, &vm->nodes->added) {
			const struct blk_node *o = list_entry(p, struct added, in)->n;

			count += o == n || (o->loop == n->loop && o->refs == 1 && (o->backing == n || o->file == n));
		}
	return count;
}

/* ---- as the configuration has it ---- */

static int add_text(struct vm *vm, const char *text, int (*fn)(struct vm *vm, const json_t *j, struct err *e), const char *option, struct err *e)
{
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	int ret = j ? fn(vm, j, e) : err_set(e, -EINVAL, "that is no JSON object");

	json_decref(j);
	return ret ? err_prefix(e, ret, "%s", option) : 0;
}

int vm_add_objects(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	int ret = 0;

	for (unsigned i = 0; i < cfg->n_objects && !ret; i++)
		ret = add_text(vm, cfg->object[i], vm_object_add, "--object", e);
	return ret;
}

int vm_add_nodes(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	int ret = 0;

	for (unsigned i = 0; i < cfg->n_blockdevs && !ret; i++)
		ret = add_text(vm, cfg->blockdev[i], vm_node_add, "--blockdev", e);
	return ret;
}

/* Whatever stands on others was added after them. */
void vm_free_nodes(struct vm *vm)
{
	struct vm_nodes *s = vm->nodes;

	if (!s)
		return;
	machine_lock(vm->m);
	while (!list_empty(&s->added))
		drop(vm, list_entry(s->added.prev, struct added, in));
	machine_unlock(vm->m);
	vm_free_objects(s);
	free(s);
	vm->nodes = NULL;
}
