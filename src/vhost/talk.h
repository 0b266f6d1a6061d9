/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is said to a vhost-user peer, in which order: to learn what he is, to start his rings, to stop them.
 *
 * Each conversation has one deadline.  An error means that the connection is of no use any more.  One thread at a time.
 */
#ifndef LODGE_VHOST_TALK_H
#define LODGE_VHOST_TALK_H

#include "vhost/wire.h"

struct vu_talk {
	int fd;				/* the connection */
	int64_t deadline;		/* of the conversation, CLOCK_MONOTONIC in ns */
	const char *doing;		/* what, for messages */
	uint64_t features, protocol;	/* his; protocol: what both know */
};

/*
 * The beginning.  config_len: bytes of configuration space to ask for, 0: none.  backend: a socket to give him for his own requests, used if he
 * can (then *gave).  n: filled but for state, life and serial.  EPROTO: he said nonsense; ENOTSUP: he has no configuration space, or is no
 * virtio 1.0 device; as vu_send and vu_receive.
 */
int vu_hello(struct vu_talk *t, uint32_t config_len, int backend, bool *gave, struct vhost_news *n);
/* His configuration space anew. */
int vu_get_config(struct vu_talk *t, uint32_t len, uint8_t *out);
/* err: an eventfd for the errors of all rings. */
int vu_start(struct vu_talk *t, const struct vhost_plan *plan, int err);
/* When it has returned 0 he touches neither rings nor buffers any more. */
int vu_stop(struct vu_talk *t, unsigned n_rings, bool reset);

#endif
