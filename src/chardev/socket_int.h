/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between socket.c (a connection's life) and socket_new.c (where it comes from). */
#ifndef LODGE_CHARDEV_SOCKET_INT_H
#define LODGE_CHARDEV_SOCKET_INT_H

#include <sys/socket.h>

#include "base/stream.h"
#include "chardev/impl.h"
#include "chardev/telnet.h"

struct chardev_socket {
	struct chardev c;
	struct loop_fd listen, conn;	/* fd -1: none */
	struct loop_timer again;	/* to look for another; while a connection begins: the end of patience */
	bool server, connecting, want_in, want_out, said, is_telnet;
	bool half;			/* the other side says no more, and waits for an answer */
	struct telnet telnet;
	unsigned reconnect_s;
	struct sockaddr_storage at;	/* a client's peer */
	socklen_t at_len;
	char *path;			/* of the socket we made */

	/* Layers over the socket. */
	struct stream *stream;		/* NULL: the socket itself */
	bool beginning;			/* they are not there yet: nobody is connected */
	bool websocket;
	struct tls_creds *tls;		/* NULL: none */
	struct tls_guard guard;
	char *host;			/* whom a client of TLS means; NULL: not said */
	char *id;
	struct loop_bh more;		/* there is something to read that no poll tells of */
	int64_t said_ns;		/* complaints: so many since then */
	unsigned n_said;
};

extern const struct chardev_ops chardev_socket_ops;
void chardev_socket_init(struct chardev_socket *s);
/* A connection, whose descriptor is taken.  connecting: it is not through yet. */
void chardev_socket_take(struct chardev_socket *s, int fd, bool connecting);
/* A client begins, now and whenever its timer says. */
void chardev_socket_try(struct chardev_socket *s);

#endif
