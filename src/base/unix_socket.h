/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stream sockets that have a path. */
#ifndef LODGE_BASE_UNIX_SOCKET_H
#define LODGE_BASE_UNIX_SOCKET_H

#include "base/err.h"

/*
 * A non-blocking socket that listens there, for its owner alone (mode 0600).  A socket that nobody listens to any
 * more is replaced; anything else is left alone: EADDRINUSE.  Also ENAMETOOLONG and what bind says. Errors name the path.
 */
int unix_socket_listen(const char *path, int backlog, int *out, struct err *e);
/* A blocking one, connected.  timeout_ms: how long this, and then each send and receive, may take (EAGAIN); 0: for ever.
 * Errors name the path. */
int unix_socket_connect(const char *path, unsigned timeout_ms, int *out, struct err *e);

#endif
