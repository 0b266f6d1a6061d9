/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layers that a connection may have over its socket, which does not block: TLS, and WebSocket frames over that or over none.
 *
 * Nothing here waits.  Whoever has a stream watches its descriptor for stream_watch's events, and calls.  Memory is
 * bounded (some 40 KiB).  One thread.
 */
#ifndef LODGE_BASE_STREAM_H
#define LODGE_BASE_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/tls.h"

struct stream;

struct stream_opts {
	int fd;				/* the caller's */
	struct tls_creds *tls;		/* NULL: none */
	const char *host;		/* TLS's client: whom it means, see tls_new */
	const struct tls_guard *guard;	/* NULL: everybody */
	bool websocket;			/* a client is expected to open one */
};

int stream_new(const struct stream_opts *o, struct stream **out);
/* What comes before the first byte.  0: done; -EAGAIN: again when stream_watch's events come; other errors end it, with a reason in e. */
int stream_begin(struct stream *s, struct err *e);
/* The events to watch for: what it needs itself, and for who wants to read and has more to send.  On EPOLLOUT who wants to read tries that,
 * too: TLS may have had to write before it could. */
uint32_t stream_watch(const struct stream *s, bool in, bool out);
/* As recv and send, with -errno: -EAGAIN, 0 for an end.  The bytes that send says it took are its own from then on, and go with the
 * next call (of send, with 0 bytes if there are no more, or flush) when there is room. */
ssize_t stream_recv(struct stream *s, void *buf, size_t len);
ssize_t stream_send(struct stream *s, const void *buf, size_t len);
/* 0: all is out; -EAGAIN; other errors. */
int stream_flush(struct stream *s);
/* There may be bytes that no poll tells of. */
bool stream_pending(const struct stream *s);
/* The reason of the last error of recv and send, "" if there is none to tell. */
const char *stream_why(const struct stream *s);
void stream_free(struct stream *s);	/* not the descriptor */

#endif
