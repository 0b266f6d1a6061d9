// SPDX-License-Identifier: GPL-2.0-or-later
/* See tls.h: connections.  Credentials are in tls_creds.c. */
#include "base/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/tls_int.h"

struct tls {
	SSL *s;
	struct tls_creds *creds;
	struct tls_guard guard;
	bool wants_write, read_wants_write, dead;
	char why[160];
};

/* What a client verifies the name against (RFC 6125; addresses are in the certificate as such). */
static int expect_host(SSL *s, const char *host)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(s);
	unsigned char bin[16];

	if (inet_pton(AF_INET, host, bin) == 1 || inet_pton(AF_INET6, host, bin) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1 ? 0 : -EINVAL;
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(p, host, 0) == 1 && SSL_set_tlsext_host_name(s, host) == 1 ? 0 : -EINVAL;
}

int tls_new(struct tls_creds *c, int fd, const char *host, const struct tls_guard *guard, struct tls **out)
{
	struct tls *t = calloc(1, sizeof(*t));
	int ret = -ENOMEM;

	if (t)
		t->s = SSL_new(c->ctx);
	if (t && t->s && SSL_set_fd(t->s, fd) == 1)
		ret = !c->server && c->verify && host ? expect_host(t->s, host) : 0;
	ERR_clear_error();
	if (ret) {
		SSL_free(t ? t->s : NULL);
		free(t);
		return ret;
	}
	t->creds = tls_creds_ref(c);
	if (guard)
		t->guard = *guard;
	if (c->server)
		SSL_set_accept_state(t->s);
	else
		SSL_set_connect_state(t->s);
	*out = t;
	return 0;
}

/* What people can do something about has words of its own. */
static void note_why(struct tls *t, int kind, int host_error)
{
	unsigned long code = ERR_peek_last_error();
	int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
	long verdict = SSL_get_verify_result(t->s);
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	if (t->why[0])
		return;
	if (verdict != X509_V_OK && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		snprintf(t->why, sizeof(t->why), "the other side's certificate: %s", X509_verify_cert_error_string(verdict));
	else if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_UNEXPECTED_MESSAGE ||
		 reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG)
		snprintf(t->why, sizeof(t->why), "the other side does not speak TLS");
	else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		snprintf(t->why, sizeof(t->why), "the other side has no certificate");
	else if (kind == SSL_ERROR_SYSCALL && host_error)
		snprintf(t->why, sizeof(t->why), "%s", strerror(host_error));
	else if (kind == SSL_ERROR_SYSCALL || kind == SSL_ERROR_ZERO_RETURN || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		snprintf(t->why, sizeof(t->why), "the other side has closed the connection");
	else
		snprintf(t->why, sizeof(t->why), "%s", text ? text : "unknown error");
}

/* -EAGAIN, 0 for an end, or an error that stays. */
static int result(struct tls *t, int r)
{
	int host_error = errno, kind = SSL_get_error(t->s, r);

	t->wants_write = kind == SSL_ERROR_WANT_WRITE;
	if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
		ERR_clear_error();
		return -EAGAIN;
	}
	if (kind == SSL_ERROR_SSL || kind == SSL_ERROR_SYSCALL)
		t->dead = true;		/* SSL_shutdown must not be called then */
	note_why(t, kind, host_error);
	ERR_clear_error();
	return kind == SSL_ERROR_ZERO_RETURN ? 0 : -EPROTO;
}

/* As people write it and QEMU's rules have it: CN=..., with what comes first in the certificate first. */
static bool name_of(SSL *s, char *out, size_t n)
{
	X509 *x = SSL_get1_peer_certificate(s);
	BIO *b = BIO_new(BIO_s_mem());
	char *text;
	long len = -1;

	if (x && b && X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253 & ~XN_FLAG_DN_REV) >= 0)
		len = BIO_get_mem_data(b, &text);
	if (len > 0 && (size_t)len < n) {
		memcpy(out, text, (size_t)len);
		out[len] = '\0';
	}
	BIO_free(b);
	X509_free(x);
	return len > 0 && (size_t)len < n;
}

int tls_handshake(struct tls *t)
{
	char name[1024];
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(t->s);
	if (r != 1) {
		r = result(t, r);
		return r ? r : -EPROTO;
	}
	t->wants_write = false;
	if (!t->guard.allows)
		return 0;
	if (name_of(t->s, name, sizeof(name)) && t->guard.allows(t->guard.opaque, name))
		return 0;
	snprintf(t->why, sizeof(t->why), "the other side's name is not among those allowed");
	return -EACCES;
}

bool tls_wants_write(const struct tls *t) { return t->wants_write; }
bool tls_read_wants_write(const struct tls *t) { return t->read_wants_write; }

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = SSL_read(t->s, p, (int)MIN(n, (size_t)INT_MAX));
	if (r <= 0)
		r = result(t, r);
	t->read_wants_write = r == -EAGAIN && t->wants_write;
	return r;
}

ssize_t tls_write(struct tls *t, const void *p, size_t n)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = SSL_write(t->s, p, (int)MIN(n, 1u << 20));
	if (r > 0) {
		t->wants_write = false;
		return r;
	}
	r = result(t, r);
	return r ? r : -ECONNRESET;
}

bool tls_pending(const struct tls *t) { return SSL_pending(t->s) > 0; }

const char *tls_why(const struct tls *t) { return t->why; }

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (!t->dead && SSL_is_init_finished(t->s))
		SSL_shutdown(t->s);
	ERR_clear_error();
	SSL_free(t->s);
	tls_creds_unref(t->creds);
	free(t);
}
