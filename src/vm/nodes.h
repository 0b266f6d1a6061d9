/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block nodes that the user made and calls by name (block/blockdev.h), and objects
 * they need: secrets and throttle groups.
 *
 * A node lives on the loop of the disk that it is under or was last, or else on the machine's.
 * The VM owns each node that was added until it is deleted again; devices, jobs
 * and other nodes own it as well while they use it.
 *
 * All functions: machine lock held and no I/O thread's lock, unless they say otherwise.
 */
#ifndef LODGE_VM_NODES_H
#define LODGE_VM_NODES_H

#include <jansson.h>

#include "block/blockdev.h"
#include "block/disk.h"
#include "machine/iothread.h"

struct disk;
struct vm;

/* A node, and what protects it. */
struct vm_node {
	struct blk_node *n;
	struct iothread *io;		/* NULL: the machine lock */
	struct disk *d;			/* the disk that it is under; NULL: none */
	bool added;			/* by the user */
};

/* Adds what the description says; it must have a node-name. */
int vm_node_add(struct vm *vm, const json_t *description, struct err *e);
/* ENOENT, EBUSY, EPERM (it was not added) */
int vm_node_del(struct vm *vm, const char *name, struct err *e);
bool vm_node_find(struct vm *vm, const char *name, struct vm_node *out);
/* The name of a node that stands on n, as its backing image or not; NULL: none does, or it has no name. */
const char *vm_node_parent(struct vm *vm, const struct blk_node *n, bool *backing);
/* Calls fn for every node that is not just a filter of a job or a limit, with its lock held; each node once. All have names then.
 * The names of nodes last as long as these. */
void vm_nodes_each(struct vm *vm, void (*fn)(void *opaque, const struct vm_node *x), void *opaque);
/* The description that a node was added with; NULL: it was not. */
const json_t *vm_node_description(struct vm *vm, const char *name);
/* As the guest or the user knows it: gives it a name if it has none. Its lock held. */
const char *vm_node_name(struct vm *vm, struct blk_node *n);

/*
 * A disk that stands on a node, for a device whose I/O thread is `io` (NULL: none): a slot (block/graph.h), with the filters
 * of `o`.  A node that is read-only makes a disk that is, too.  The caller owns the slot and closes it, with its lock held.  EBUSY: something
 * else uses the node.
 */
int vm_node_use(struct vm *vm, const char *name, struct iothread *io, bool writes, const struct blk_disk_opts *o, struct blk_node **slot,
		struct err *e);
/* One owner more of a node that something is to be done with on the loop of `io`, where it is then. EBUSY */
int vm_node_take(struct vm *vm, const char *name, struct iothread *io, bool writes, struct blk_node **out, struct err *e);
/* Owners of a node, whose lock is held, that do nothing with it: the list of nodes, and nodes that nobody uses. */
unsigned vm_idle_owners(const struct vm *vm, const struct blk_node *n);
/* The thread whose loop it is; NULL: the machine's. */
struct iothread *vm_iothread_of(const struct vm *vm, const struct loop *l);
/* Secrets, for as long as the VM lives. */
struct blk_secrets *vm_secrets(struct vm *vm);

/* A node that nobody owns yet, made on the loop of `io`, whose lock is held. */
int vm_node_open(struct vm *vm, const json_t *description, struct iothread *io, struct blk_node **out, struct err *e);

/* {"qom-type": "secret", "throttle-group", "tls-creds-x509", "tls-creds-psk" or "authz-simple", "id": ...}. ENOTSUP: another type */
int vm_object_add(struct vm *vm, const json_t *object, struct err *e);
int vm_object_del(struct vm *vm, const char *id, struct err *e);
/* A property of an object while it is used: limits of a throttle group, or one of them ("x-iops-total"). ENOENT, EINVAL */
int vm_object_set(struct vm *vm, const char *id, const char *property, const json_t *value, struct err *e);
int vm_object_get(struct vm *vm, const char *id, const char *property, json_t **out, struct err *e);

/* The throttle group of this name, an object's or one that disks name; it is made, or its limits become these, if they limit anything.  One
 * owner more. */
int vm_group_get(struct vm *vm, const char *name, const struct blk_throttle_opts *limits, struct blk_throttle_group **out, struct err *e);
/* NULL: it has none. */
const char *vm_group_name(struct vm *vm, const struct blk_throttle_group *of);

/* What the configuration has of all that: objects before whatever refers to them, nodes before the disks are made. */
int vm_add_objects(struct vm *vm, struct err *e);
int vm_add_nodes(struct vm *vm, struct err *e);
/* The devices are gone, I/O threads run still. No lock held. */
void vm_free_nodes(struct vm *vm);

#endif
