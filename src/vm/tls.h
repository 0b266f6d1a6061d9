/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects of TLS under QEMU's names, for whatever of the VM has connections: tls-creds-x509 and tls-creds-psk (base/tls.h), and authz-simple, the one
 * client that a server lets in.  Machine lock held.
 */
#ifndef LODGE_VM_TLS_H
#define LODGE_VM_TLS_H

#include "base/err.h"
#include "base/tls.h"

struct vm;

/* The credentials that an object has, with one owner more.  ENOENT: there is none; EINVAL: it is for the other end. */
int vm_tls_creds(struct vm *vm, const char *id, bool server, struct tls_creds **out, struct err *e);
/* Of such an object: does it look at the other side's certificate? */
bool vm_tls_verifies(struct vm *vm, const char *id);
/* The identity of an authz-simple, for as long as there is that object.  ENOENT */
int vm_tls_authz(struct vm *vm, const char *id, const char **out, struct err *e);

/* What somebody wants of TLS; all NULL: nothing. */
struct vm_tls {
	const char *creds, *authz;	/* objects' ids */
	const char *cert, *key, *ca;	/* or files, in PEM.  A server with a ca wants certificates of its clients, a client must have one */
};

/* *creds (one owner more; NULL: no TLS) and *guard (no callback: everybody may), which is good as long as the VM.  Errors as above. */
int vm_tls_get(struct vm *vm, const struct vm_tls *t, bool server, struct tls_creds **creds, struct tls_guard *guard, struct err *e);

/* Is the other side's distinguished name, like CN=a,O=b, the one that `identity` says, from either end?  As a tls_guard has it; any thread. */
bool vm_tls_allows(void *identity, const char *name);
/* Those of a directory, with QEMU's names of files; the other side is verified. ENOENT, EINVAL and others, with the file's name. */
int vm_tls_dir(const char *dir, bool server, struct tls_creds **out, struct err *e);

#endif
