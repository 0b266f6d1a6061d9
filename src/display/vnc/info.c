// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What other threads may ask and change of a VNC server: who is connected, and the
 * password.  Its thread publishes the one and looks up the other; the mutex is
 * held for a moment only, with nothing taken inside it, so that who holds the
 * machine lock may come here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "display/vnc/vnc_int.h"

void vnc_peer_of(int fd, bool own, bool ws, struct vnc_peer *out)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} a = { 0 };
	socklen_t len = sizeof(a);
	int ret = own ? getsockname(fd, &a.any, &len) : getpeername(fd, &a.any, &len);

	*out = (struct vnc_peer){ .family = "unknown", .websocket = ws };
	if (ret)
		return;
	if (a.any.sa_family == AF_INET) {
		out->family = "ipv4";
		inet_ntop(AF_INET, &a.in.sin_addr, out->host, sizeof(out->host));
		snprintf(out->service, sizeof(out->service), "%u", ntohs(a.in.sin_port));
	} else if (a.any.sa_family == AF_INET6) {
		out->family = "ipv6";
		inet_ntop(AF_INET6, &a.in6.sin6_addr, out->host, sizeof(out->host));
		snprintf(out->service, sizeof(out->service), "%u", ntohs(a.in6.sin6_port));
	} else if (a.any.sa_family == AF_UNIX) {
		out->family = "unix";
		if (len > offsetof(struct sockaddr_un, sun_path))
			snprintf(out->service, sizeof(out->service), "%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path)),
				 a.un.sun_path);
	}
}

void vnc_publish(struct vnc *v)
{
	unsigned n = 0;

	pthread_mutex_lock(&v->shared);
	list_for_each(l, &v->clients)
		if (n < VNC_MAX_CLIENTS)
			v->info.client[n++] = list_entry(l, struct vnc_client, node)->peer;
	v->info.n_clients = n;
	pthread_mutex_unlock(&v->shared);
}

/* Under the lock. */
static bool has_password(const struct vnc *v) { return v->password || v->view_password || v->password_later; }

static const char *auth_name(const struct vnc *v)
{
	bool password = has_password(v);

	if (!v->tls)
		return password ? "vnc" : "none";
	if (v->tls_x509)
		return password ? "vencrypt+x509+vnc" : "vencrypt+x509+none";
	return password ? "vencrypt+tls+vnc" : "vencrypt+tls+none";
}

void vnc_query(struct vnc *v, struct vnc_state_info *out)
{
	pthread_mutex_lock(&v->shared);
	*out = v->info;
	out->auth = auth_name(v);
	pthread_mutex_unlock(&v->shared);
}

/* ---- passwords ---- */

static void forget(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

int vnc_set_password(struct vnc *v, const char *password)
{
	char *copy, *old;

	if (!*password)
		return -EINVAL;
	copy = strdup(password);
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&v->shared);
	old = v->password;
	v->password = copy;
	pthread_mutex_unlock(&v->shared);
	forget(old);
	return 0;
}

bool vnc_has_password(struct vnc *v)
{
	bool has;

	pthread_mutex_lock(&v->shared);
	has = has_password(v);
	pthread_mutex_unlock(&v->shared);
	return has;
}

bool vnc_password_right(struct vnc *v, const uint8_t challenge[VNC_CHALLENGE], const uint8_t answer[VNC_CHALLENGE], bool *full)
{
	bool look;

	pthread_mutex_lock(&v->shared);
	*full = v->password && vnc_answer_right(v->password, challenge, answer);
	look = v->view_password && vnc_answer_right(v->view_password, challenge, answer);
	pthread_mutex_unlock(&v->shared);
	return *full || look;
}
