/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a monitor is: "unix:PATH,server=on,wait=off", "tcp:HOST:PORT,...,tls-creds=ID,websocket=on", "fd:N", "stdio". */
#ifndef LODGE_CONTROL_ADDRESS_H
#define LODGE_CONTROL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum ctl_where { CTL_AT_UNIX, CTL_AT_TCP, CTL_AT_FD, CTL_AT_STDIO };

struct ctl_address {
	enum ctl_where where;
	char path[108];			/* UNIX; fits struct sockaddr_un */
	char host[256];			/* TCP; "" all addresses */
	uint16_t port;			/* 0: any */
	int fd;
	bool server, wait, pretty;
	/* TCP: TLS as vm_tls has it, by ids of objects or by files; "": none */
	char tls_creds[64], tls_authz[64], tls_cert[256], tls_key[256], tls_ca[256];
	bool websocket;			/* TCP, server: clients open one */
	char id[64];			/* what messages call it; "": the address */
	bool numeric;			/* TCP: a host that is a name is an error, not looked up */
};

/* EINVAL, with a message. server and wait are on unless the text says otherwise, as QEMU has it. */
int ctl_address_parse(const char *text, struct ctl_address *a, struct err *e);

/* A listening socket, non-blocking; on unix sockets one that nobody listens to is replaced, and the mode is 0600. */
int ctl_address_listen(const struct ctl_address *a, int *fd, uint16_t *port, struct err *e);
/* What messages call it, a being NULL: nothing is known of it. */
void ctl_address_name(const struct ctl_address *a, char *out, size_t len);
/* Is there more than the socket? */
bool ctl_address_layered(const struct ctl_address *a);
/* A connected socket. */
int ctl_address_connect(const struct ctl_address *a, int *fd, struct err *e);

#endif
