/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost peer at a unix socket (vhost-user).
 *
 * A thread of its own has the connection: it connects or listens, talks, waits for the peer's requests and for his end, and begins anew.
 * So a peer that hangs or lies costs that thread's time, and the caller's only where `stop` has to wait, some seconds.
 */
#ifndef LODGE_VHOST_USER_H
#define LODGE_VHOST_USER_H

#include "base/err.h"
#include "base/loop.h"
#include "vhost/vhost.h"

struct vhost_user_opts {
	const char *path;		/* of the socket; copied, made absolute */
	const char *name;		/* what messages call the device; copied */
	bool server;			/* he connects to us */
	unsigned reconnect_ms;		/* between attempts to reach him again; 0: 1000 */
	unsigned answer_ms;		/* he has for what he is asked, all in all; 0: 10000, and half of that for short questions */
	uint32_t config_len;		/* bytes of configuration space he is asked for; 0: none */
};

/*
 * Returns when the peer is there for the first time (then `look` tells what he is): a client tries once to reach him, and waits 10 s for his
 * answers; a server waits for as long as it takes somebody to come.  `changed` will be called on l.  Any lock may be held but l's, which
 * runs nowhere else yet or is some I/O thread's.  Errors name the path.
 */
int vhost_user_new(struct loop *l, const struct vhost_user_opts *o, struct vhost **out, struct err *e);

#endif
