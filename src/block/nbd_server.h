/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes as exports of an NBD server of our own, for clients on a local socket or
 * over TCP (the NBD project's doc/proto.md: fixed newstyle negotiation, structured
 * replies, base:allocation).
 *
 * Clients are not trusted: lengths are checked before memory is taken, a client
 * with NBD_SERVER_BYTES (of data) or NBD_SERVER_REQUESTS under way is not read from
 * until some have been answered and it has taken the answers, negotiation must end in time, and there are so many clients and no
 * more.  There is no TLS and there are no passwords: who can connect can read, and
 * write if the export is writable.  A local socket is its owner's alone (mode 0600);
 * TCP is for loopback, or for networks where everybody may.
 *
 * All functions: any thread that holds the loop's lock, not from inside a callback of
 * an exported node.
 */
#ifndef LODGE_BLOCK_NBD_SERVER_H
#define LODGE_BLOCK_NBD_SERVER_H

#include "block/blk.h"

#define NBD_SERVER_BYTES (32u << 20)
#define NBD_SERVER_REQUESTS 64

struct nbd_server;

struct nbd_export_opts {
	const char *name;		/* at most 4096 bytes; "": the default export */
	const char *description;	/* NULL: none */
	bool read_only;			/* else as the node is */
};

/* max_clients at once, 0: 8. ENOMEM */
int nbd_server_new(struct loop *l, unsigned max_clients, struct nbd_server **out);
/* Listens; several times if wanted.  The socket must not exist (one that nobody listens to is replaced). */
int nbd_server_listen_unix(struct nbd_server *s, const char *path, struct err *e);
/* A numeric address; port 0: any, given back in *bound if that is not NULL. */
int nbd_server_listen_tcp(struct nbd_server *s, const char *address, uint16_t port, uint16_t *bound, struct err *e);
/* Serves a connected stream socket, which it then owns. EBUSY: too many clients; ENOMEM */
int nbd_server_attach(struct nbd_server *s, int fd);

/* The node (a slot, most often) stays the caller's and must outlive the export. EEXIST, EINVAL, ENOMEM */
int nbd_server_add(struct nbd_server *s, struct blk_node *n, const struct nbd_export_opts *o, struct err *e);
/* Ends the clients of that export, requests under way first. ENOENT */
int nbd_server_remove(struct nbd_server *s, const char *name);
/* How many are connected: to the export of that name, or, NULL, at all. */
unsigned nbd_server_clients(const struct nbd_server *s, const char *name);
/* Ends all clients and stops listening. NULL is allowed. */
void nbd_server_free(struct nbd_server *s);

#endif
