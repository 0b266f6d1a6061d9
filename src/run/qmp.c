// SPDX-License-Identifier: GPL-2.0-or-later
/* A client of the control protocol: see qmp.h. */
#include "run/qmp.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/tls.h"
#include "base/unix_socket.h"
#include "control/address.h"
#include "control/place.h"

#define LINE_MAX_LEN (64u << 20)

struct qmp {
	int fd;
	struct tls *tls;		/* NULL: none */
	char *buf;
	size_t len, cap;
};

/* As recv and send are, waiting. */
static ssize_t get(struct qmp *q, void *p, size_t n)
{
	ssize_t r = q->tls ? tls_read(q->tls, p, n) : recv(q->fd, p, n, 0);

	if (q->tls && r < 0)
		errno = (int)-r;
	return q->tls && r < 0 ? -1 : r;
}

static ssize_t put(struct qmp *q, const void *p, size_t n)
{
	ssize_t r = q->tls ? tls_write(q->tls, p, n) : send(q->fd, p, n, MSG_NOSIGNAL);

	if (q->tls && r < 0)
		errno = (int)-r;
	return q->tls && r < 0 ? -1 : r;
}

/* One line, without its end, as JSON. */
static int read_json(struct qmp *q, json_t **out, struct err *e)
{
	json_error_t je;
	char *end;

	while (!(end = q->len ? memchr(q->buf, '\n', q->len) : NULL)) {
		ssize_t n;

		if (q->len == q->cap) {
			size_t cap = q->cap ? q->cap * 2 : 65536;
			char *p = cap <= LINE_MAX_LEN ? realloc(q->buf, cap) : NULL;

			if (!p)
				return err_set(e, -ENOMEM, "the answer is too long");
			q->buf = p;
			q->cap = cap;
		}
		n = get(q, q->buf + q->len, q->cap - q->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return err_set(e, -ETIMEDOUT, "the guest does not answer");
		if (n < 0 && q->tls)
			return err_set(e, -EPIPE, "TLS: %s", tls_why(q->tls));
		if (n <= 0)
			return err_set(e, -EPIPE, "the guest has ended, or its process closed the connection");
		q->len += (size_t)n;
	}
	*out = json_loadb(q->buf, (size_t)(end - q->buf), 0, &je);
	q->len -= (size_t)(end + 1 - q->buf);
	memmove(q->buf, end + 1, q->len);
	return *out ? 0 : err_set(e, -EPROTO, "the answer is not JSON: %s", je.text);
}

static int send_json(struct qmp *q, json_t *j, struct err *e)
{
	char *text = json_dumps(j, JSON_COMPACT), *p = text;
	size_t left = text ? strlen(text) : 0;
	int ret = text ? 0 : -ENOMEM;

	while (left && !ret) {
		ssize_t n = put(q, p, left);

		if (n < 0 && errno != EINTR)
			ret = -errno;
		p += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	free(text);
	return ret ? err_set(e, ret, "the command cannot be sent: %s", strerror(-ret)) : 0;
}

int qmp_call(struct qmp *q, const char *command, json_t *args, json_t **ret, struct err *e)
{
	json_t *req = json_pack("{s:s,s:o*}", "execute", command, "arguments", args), *j = NULL;
	json_t *error;
	int r;

	r = req ? send_json(q, req, e) : err_set(e, -EINVAL, "'%s' is no command's name", command);
	json_decref(req);
	while (!r && !(r = read_json(q, &j, e)) && json_object_get(j, "event"))
		json_decref(j);
	if (r)
		return r;
	error = json_object_get(j, "error");
	if (error)
		r = err_set(e, -EREMOTEIO, "%s: %s", command, json_string_value(json_object_get(error, "desc")));
	else
		*ret = json_incref(json_object_get(j, "return"));
	json_decref(j);
	return r;
}

int qmp_event(struct qmp *q, json_t **event, struct err *e)
{
	int r;

	while (!(r = read_json(q, event, e)) && !json_object_get(*event, "event"))
		json_decref(*event);
	return r;
}

/* "tcp:HOST:PORT,...", with TLS if it says so: the descriptor waits, so a handshake does. */
static int open_tcp(struct qmp *q, const char *text, unsigned timeout_ms, struct err *e)
{
	const struct timeval limit = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	struct tls_creds *creds = NULL;
	struct ctl_address a;
	int ret = ctl_address_parse(text, &a, e);
	const struct tls_files f = { .verify = true, .ca = a.tls_ca, .cert = a.tls_cert[0] ? a.tls_cert : NULL, .key = a.tls_key[0] ? a.tls_key : NULL };

	if (!ret && (a.tls_creds[0] || a.tls_authz[0] || a.websocket))
		return err_set(e, -EINVAL, "'%.60s': of TLS tls-ca=, tls-cert= and tls-key= are known here", text);
	if (!ret && (f.cert || f.key || a.tls_ca[0]))
		ret = tls_creds_new(&f, &creds, e);
	if (!ret)
		ret = ctl_address_connect(&a, &q->fd, e);
	if (!ret && timeout_ms && (setsockopt(q->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) || setsockopt(q->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit))))
		ret = err_set(e, -errno, "%.60s: %s", text, strerror(errno));
	if (!ret && creds) {
		signal(SIGPIPE, SIG_IGN);	/* TLS writes as to a file */
		ret = tls_new(creds, q->fd, a.host[0] ? a.host : "127.0.0.1", NULL, &q->tls) ? err_set(e, -ENOMEM, "out of memory for TLS") : 0;
		if (!ret && (ret = tls_handshake(q->tls)))
			err_set(e, ret, ret == -EAGAIN ? "TLS: %s does not answer" : "TLS: %s", ret == -EAGAIN ? text : tls_why(q->tls));
	}
	tls_creds_unref(creds);
	return ret;
}

int qmp_open(const char *name, unsigned timeout_ms, struct qmp **out, struct err *e)
{
	struct qmp *q = calloc(1, sizeof(*q));
	char path[512];
	json_t *j = NULL;
	pid_t pid;
	int ret = 0;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	q->fd = -1;
	snprintf(path, sizeof(path), "%s", name);
	if (!strncmp(name, "tcp:", 4))
		ret = open_tcp(q, name, timeout_ms, e);
	else if (!strchr(name, '/'))
		ret = ctl_place_find(name, path, sizeof(path), &pid, e);
	if (!ret && q->fd < 0)
		ret = unix_socket_connect(path, timeout_ms, &q->fd, e);
	if (ret == -EAGAIN)
		ret = err_set(e, -ETIMEDOUT, "the guest does not answer");
	if (ret == -ECONNREFUSED && !strchr(name, '/') && strncmp(name, "tcp:", 4))
		ret = err_set(e, -ENOENT, "the guest '%s' is not running any more", name);
	if (!ret)
		ret = read_json(q, &j, e);	/* the greeting */
	json_decref(j);
	j = NULL;
	if (!ret)
		ret = qmp_call(q, "qmp_capabilities", NULL, &j, e);
	json_decref(j);
	if (ret) {
		qmp_close(q);
		return ret;
	}
	*out = q;
	return 0;
}

void qmp_close(struct qmp *q)
{
	if (!q)
		return;
	tls_free(q->tls);
	if (q->fd >= 0)
		close(q->fd);
	free(q->buf);
	free(q);
}

int whole_path(const char *file, char *out, size_t len, struct err *e)
{
	char here[PATH_MAX] = "";
	int n;

	if (file[0] != '/' && !getcwd(here, sizeof(here)))
		return err_set(e, -errno, "the current folder: %s", strerror(errno));
	n = snprintf(out, len, "%s%s%s", here, file[0] == '/' ? "" : "/", file);
	return n < (int)len ? 0 : err_set(e, -ENAMETOOLONG, "'%.60s...' is too long a path", file);
}
