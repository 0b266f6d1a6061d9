/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VNC server (RFB 3.8, RFC 6143 and the community's rfbproto) for one display,
 * on TCP, a unix socket and WebSockets.
 *
 * It has a thread and a loop of its own.  The machine lock is taken by
 * display_refresh and by the functions of input.h only; encoding works on copies.
 */
#ifndef LODGE_DISPLAY_VNC_H
#define LODGE_DISPLAY_VNC_H

#include <stdbool.h>

#include "base/err.h"

#define VNC_MAX_CLIENTS 32
#define VNC_PORT 5900u

struct clipboard;
struct display;
struct input;
struct vnc;

/* Text is the caller's, used during vnc_new only. */
struct vnc_config {
	const char *host;		/* address to listen on; NULL: the loopback's */
	unsigned port;			/* TCP; 0: none */
	unsigned websocket;		/* TCP for WebSockets; 0: none */
	const char *unix_path;		/* NULL: none; a socket that nobody listens on is replaced */
	const char *password;		/* NULL: everybody may; 8 characters count */
	const char *view_password;	/* who gives this one looks only */
	bool password_later;		/* there is a password, but nobody knows it before vnc_set_password */
	bool read_only;			/* all look only */
	struct clipboard *clipboard;	/* shared with who may type; outlives the server; NULL: none */
	bool tls_anonymous;		/* TLS without certificates */
	const char *tls_cert, *tls_key;	/* PEM files: TLS with them */
};

/* Listens and starts the thread.  Errors name the address and the cure.  d and in outlive it. */
int vnc_new(struct display *d, struct input *in, const struct vnc_config *cfg, struct vnc **out, struct err *e);
struct vnc_peer {
	char host[64], service[128];	/* numeric; of a unix socket the path is the service */
	const char *family;		/* "ipv4", "ipv6", "unix", "unknown" */
	bool websocket;
};

struct vnc_state_info {
	struct vnc_peer server;
	const char *auth;		/* QEMU's names */
	unsigned n_clients;
	struct vnc_peer client[VNC_MAX_CLIENTS];
};

/* Any thread, any lock held but the VNC server's own. */
void vnc_query(struct vnc *v, struct vnc_state_info *out);
/* From now on the password is this, not empty; -EINVAL, -ENOMEM.  Who is connected stays. */
int vnc_set_password(struct vnc *v, const char *password);
/* Ends connections and thread.  Machine lock not held. */
void vnc_free(struct vnc *v);

#endif
