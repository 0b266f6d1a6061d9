// SPDX-License-Identifier: GPL-2.0-or-later
/* Addresses of monitors: read from options, listened to, connected to. */
#include "control/address.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"

#define BACKLOG 8

static int parse_number(const char *text, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(text, &end, 10);
	return !isdigit((unsigned char)*text) || *end || errno || *out > max ? -EINVAL : 0;
}

static int parse_host(const char *text, struct ctl_address *a, struct err *e)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	long port;

	if (!colon || parse_number(colon + 1, 65535, &port))
		return err_set(e, -EINVAL, "'%.60s' is not HOST:PORT", text);
	if (len && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= sizeof(a->host))
		return err_set(e, -EINVAL, "'%.60s...' is too long for a host", text);
	memcpy(a->host, text, len);
	a->host[len] = '\0';
	a->port = (uint16_t)port;
	return 0;
}

static int parse_place(const char *text, struct ctl_address *a, struct err *e)
{
	long n;

	if (!strcmp(text, "stdio")) {
		a->where = CTL_AT_STDIO;
		a->server = a->wait = false;
		return 0;
	}
	if (!strncmp(text, "unix:", 5)) {
		a->where = CTL_AT_UNIX;
		if (!text[5] || strlen(text + 5) >= sizeof(a->path))
			return err_set(e, -EINVAL, "a socket's path has 1 to %zu characters", sizeof(a->path) - 1);
		snprintf(a->path, sizeof(a->path), "%s", text + 5);
		return 0;
	}
	if (!strncmp(text, "tcp:", 4)) {
		a->where = CTL_AT_TCP;
		return parse_host(text + 4, a, e);
	}
	if (!strncmp(text, "fd:", 3) && !parse_number(text + 3, 1 << 20, &n) && n > 2) {
		a->where = CTL_AT_FD;
		a->fd = (int)n;
		a->server = a->wait = false;
		return 0;
	}
	return err_set(e, -EINVAL, "'%.60s' is not unix:PATH, tcp:HOST:PORT, fd:NUMBER or stdio", text);
}

/* "tls-creds=ID" and its kind. */
static int parse_tls(const char *part, struct ctl_address *a, struct err *e)
{
	struct {
		const char *name;
		char *to;
		size_t room;
	} of[] = {
		{ "tls-creds=", a->tls_creds, sizeof(a->tls_creds) }, { "tls-authz=", a->tls_authz, sizeof(a->tls_authz) },
		{ "tls-cert=", a->tls_cert, sizeof(a->tls_cert) }, { "tls-key=", a->tls_key, sizeof(a->tls_key) },
		{ "tls-ca=", a->tls_ca, sizeof(a->tls_ca) },
	};

	if (a->where != CTL_AT_TCP)
		return err_set(e, -EINVAL, "TLS belongs to tcp:");
	for (unsigned i = 0; i < sizeof(of) / sizeof(*of); i++) {
		size_t n = strlen(of[i].name);

		if (strncmp(part, of[i].name, n))
			continue;
		if (!part[n] || strlen(part + n) >= of[i].room)
			return err_set(e, -EINVAL, "%s has 1 to %zu characters", of[i].name, of[i].room - 1);
		memcpy(of[i].to, part + n, strlen(part + n) + 1);
		return 0;
	}
	return err_set(e, -EINVAL, "'%.40s' is not one of tls-creds=ID, tls-authz=ID, tls-cert=FILE, tls-key=FILE, tls-ca=FILE", part);
}

static int parse_switch(char *part, struct ctl_address *a, struct err *e)
{
	static const char *const on[] = { "on", "yes", "true", NULL }, *const off[] = { "off", "no", "false", NULL };
	char *eq = strchr(part, '=');
	bool *to, value = true, known = !eq;

	if (!strncmp(part, "id=", 3) && strlen(part + 3) < sizeof(a->id))
		return snprintf(a->id, sizeof(a->id), "%s", part + 3), 0;
	if (!strncmp(part, "tls-", 4))
		return parse_tls(part, a, e);
	if (eq)
		*eq++ = '\0';
	if (!strncmp(part, "no", 2) && !eq) {
		value = false;
		part += 2;
	}
	for (int i = 0; eq && on[i]; i++) {
		known |= !strcmp(eq, on[i]) || !strcmp(eq, off[i]);
		value &= strcmp(eq, off[i]) != 0;
	}
	to = !strcmp(part, "server") ? &a->server : !strcmp(part, "wait") ? &a->wait : !strcmp(part, "pretty") ? &a->pretty :
	     !strcmp(part, "websocket") ? &a->websocket : NULL;
	if (!to || !known)
		return err_set(e, -EINVAL, "'%.40s' is not one of server=on|off, wait=on|off, pretty=on|off, websocket=on|off, tls-...=", part);
	if (to != &a->pretty && a->where != CTL_AT_UNIX && a->where != CTL_AT_TCP)
		return err_set(e, -EINVAL, "%s= belongs to unix: and tcp:", part);
	if (to == &a->websocket && value && a->where != CTL_AT_TCP)
		return err_set(e, -EINVAL, "websocket= belongs to tcp:");
	*to = value;
	return 0;
}

int ctl_address_parse(const char *text, struct ctl_address *a, struct err *e)
{
	char *copy = strdup(text), *save = NULL, *part;
	int ret;

	*a = (struct ctl_address){ .fd = -1, .server = true, .wait = true };
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	part = strtok_r(copy, ",", &save);
	ret = parse_place(part ? part : "", a, e);
	while (!ret && (part = strtok_r(NULL, ",", &save)))
		ret = parse_switch(part, a, e);
	free(copy);
	if (!a->server)
		a->wait = false;
	if (!ret && a->websocket && !a->server)
		ret = err_set(e, -EINVAL, "websocket=on belongs to server=on");
	return ret;
}

static int open_one(const struct addrinfo *x, bool server, int *out)
{
	int fd = socket(x->ai_family, x->ai_socktype | SOCK_CLOEXEC | (server ? SOCK_NONBLOCK : 0), x->ai_protocol), one = 1;

	if (fd < 0)
		return -errno;
	if (server)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (server ? bind(fd, x->ai_addr, x->ai_addrlen) || listen(fd, BACKLOG) : connect(fd, x->ai_addr, x->ai_addrlen)) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	*out = fd;
	return 0;
}

static int open_tcp(const struct ctl_address *a, bool server, int *out, struct err *e)
{
	const struct addrinfo hint = { .ai_socktype = SOCK_STREAM,
				       .ai_flags = (server ? AI_PASSIVE : 0) | (a->numeric ? AI_NUMERICHOST : 0) };
	struct addrinfo *list = NULL;
	int ret = -EADDRNOTAVAIL, r;
	char port[8];

	snprintf(port, sizeof(port), "%u", a->port);
	r = getaddrinfo(a->host[0] ? a->host : NULL, port, &hint, &list);
	if (r)
		return err_set(e, -EINVAL, "tcp:%s:%s: %s", a->host, port, gai_strerror(r));
	for (const struct addrinfo *x = list; x && ret; x = x->ai_next)
		ret = open_one(x, server, out);
	freeaddrinfo(list);
	return ret ? err_set(e, ret, "tcp:%s:%s: %s", a->host, port, strerror(-ret)) : 0;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char port[8] = "0";

	if (getsockname(fd, (struct sockaddr *)&ss, &len) ||
	    getnameinfo((struct sockaddr *)&ss, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV))
		return 0;
	return (uint16_t)atoi(port);
}

int ctl_address_listen(const struct ctl_address *a, int *fd, uint16_t *port, struct err *e)
{
	int ret = a->where == CTL_AT_UNIX ? unix_socket_listen(a->path, BACKLOG, fd, e) : open_tcp(a, true, fd, e);

	if (!ret && port)
		*port = a->where == CTL_AT_TCP ? bound_port(*fd) : 0;
	return ret;
}

int ctl_address_connect(const struct ctl_address *a, int *fd, struct err *e)
{
	return a->where == CTL_AT_UNIX ? unix_socket_connect(a->path, 0, fd, e) : open_tcp(a, false, fd, e);
}

void ctl_address_name(const struct ctl_address *a, char *out, size_t len)
{
	if (!a)
		snprintf(out, len, "control protocol");
	else if (a->id[0])
		snprintf(out, len, "chardev %s", a->id);
	else if (a->where == CTL_AT_UNIX)
		snprintf(out, len, "--qmp unix:%s", a->path);
	else
		snprintf(out, len, "--qmp tcp:%.80s:%u", a->host, a->port);
}

bool ctl_address_layered(const struct ctl_address *a)
{
	return a->websocket || a->tls_creds[0] || a->tls_authz[0] || a->tls_cert[0] || a->tls_key[0] || a->tls_ca[0];
}
