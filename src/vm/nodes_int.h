/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between nodes.c (nodes by name), objects.c (secrets and throttle groups) and tls.c (credentials). */
#ifndef LODGE_VM_NODES_INT_H
#define LODGE_VM_NODES_INT_H

#include "base/list.h"
#include "base/tls.h"
#include "vm/nodes.h"

/* A node that the user added, until it is deleted. */
struct added {
	struct list in;
	struct blk_node *n;
	json_t *description;
};

struct group {
	struct list in;
	char *id;
	struct blk_throttle_group *g;
	bool named;			/* by a disk alone: it is no object that could be deleted */
};

/* A secret, by name: its bytes are with the others'. */
struct secret_object {
	struct list in;
	char *id;
};

/* Credentials, or the name of who may come: one of the two. */
struct tls_object {
	struct list in;
	char *id;			/* "": deleted, and perhaps somebody has its identity */
	struct tls_creds *creds;
	bool verify;
	char *identity;
};

struct vm_nodes {
	struct list added, groups, secret_ids, tls;
	struct blk_secrets *secrets;
	unsigned n_made;		/* names that we made up */
	unsigned mark;			/* of the last walk */
};

/* NULL: no memory */
struct vm_nodes *vm_nodes_of(struct vm *vm);
struct blk_throttle_group *vm_group(void *opaque, const char *id);
void vm_free_objects(struct vm_nodes *s);
/* tls.c; the type is tls-creds-x509 or authz-simple, the id is not taken. */
int vm_tls_add(struct vm_nodes *s, const char *type, const char *id, const json_t *o, struct err *e);
struct tls_object *vm_tls_find(struct vm_nodes *s, const char *id);
void vm_tls_del(struct tls_object *x);
void vm_tls_free(struct vm_nodes *s);

#endif
