/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS 1.2 and 1.3 (RFC 5246, 8446) on a connected socket that does not block, by OpenSSL.
 *
 * Credentials are read once, from files, and do not change: any number of connections, on any threads, may have them.  A connection is
 * one thread's.  SIGPIPE is ignored by the program.  Texts (tls_why) are the library's or the verification's, for one line of a message.
 */
#ifndef LODGE_BASE_TLS_H
#define LODGE_BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct tls_creds;
struct tls;

/* Who the other side may be, by the name in its certificate: whoever calls decides.  On the connection's thread. */
struct tls_guard {
	bool (*allows)(void *opaque, const char *name);
	void *opaque;
};

/* Text is the caller's, used during tls_creds_new only.  All files are PEM. */
struct tls_files {
	bool server;
	bool verify;			/* the other side must have a certificate of `ca`'s, that is valid now, and a client's peer that name */
	const char *cert, *key;		/* a chain and its key; a client may have none */
	const char *ca, *crl;		/* whom to trust, and whose certificates not any more; NULL: verify needs a ca, and there is no list */
	const char *psk;		/* instead of certificates: lines of NAME:HEX */
	const char *psk_name;		/* a client's line of it; NULL: "qemu", as QEMU has it */
	bool anonymous;			/* a server without certificates, TLS 1.2 */
};

/* The caller has the first reference.  Errors name the file: EINVAL, ENOENT and others of files, ENOMEM. */
int tls_creds_new(const struct tls_files *f, struct tls_creds **out, struct err *e);
struct tls_creds *tls_creds_ref(struct tls_creds *c);	/* NULL is as good */
void tls_creds_unref(struct tls_creds *c);
bool tls_creds_server(const struct tls_creds *c);

/*
 * A connection on fd, which stays the caller's and outlives it.  host: whom a client that verifies means, a name or a numeric address; NULL:
 * anybody whom the ca vouches for.  guard: NULL, or copied.
 */
int tls_new(struct tls_creds *c, int fd, const char *host, const struct tls_guard *guard, struct tls **out);
/* 0: done; -EAGAIN: tls_wants_write says what for; -EPROTO: it failed, tls_why says how; -EACCES: the guard's no. */
int tls_handshake(struct tls *t);
bool tls_wants_write(const struct tls *t);
/* Was it for room to write that the last tls_read could not go on? */
bool tls_read_wants_write(const struct tls *t);
/* As recv and send, with -errno.  0 of read: the other side has said that it ends.  What write was given must come again after -EAGAIN. */
ssize_t tls_read(struct tls *t, void *p, size_t n);
ssize_t tls_write(struct tls *t, const void *p, size_t n);
/* Is there something to read that no poll tells of? */
bool tls_pending(const struct tls *t);
/* Why the last call failed. */
const char *tls_why(const struct tls *t);
/* Says that it ends, if that goes without waiting.  NULL is as good. */
void tls_free(struct tls *t);

#endif
