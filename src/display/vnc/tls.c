// SPDX-License-Identifier: GPL-2.0-or-later
/* TLS of a connection, on OpenSSL: with a certificate, or anonymous as VeNCrypt's TLS types have it. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "display/vnc/vnc_int.h"

struct vnc_tls {
	SSL_CTX *ctx;
};

static const char *why(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return text ? text : "unknown error";
}

static int load(SSL_CTX *ctx, const struct vnc_config *cfg, struct err *e)
{
	const char *file;

	if (cfg->tls_anonymous) {
		/* Anonymous Diffie-Hellman has no place in TLS 1.3, nor above security level 0. */
		SSL_CTX_set_security_level(ctx, 0);
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
		if (SSL_CTX_set_cipher_list(ctx, "ADH+AES:AECDH+AES") != 1 || SSL_CTX_set_dh_auto(ctx, 1) != 1)
			return err_set(e, -ENOTSUP, "this OpenSSL does no anonymous TLS (%s); give tls-cert= and tls-key=", why());
		return 0;
	}
	if (access(file = cfg->tls_cert, R_OK) || access(file = cfg->tls_key, R_OK))
		return err_set(e, -errno, "%s: %s", file, strerror(errno));
	if (SSL_CTX_use_certificate_chain_file(ctx, cfg->tls_cert) != 1)
		return err_set(e, -EINVAL, "%s: not a certificate in PEM (%s)", cfg->tls_cert, why());
	if (SSL_CTX_use_PrivateKey_file(ctx, cfg->tls_key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return err_set(e, -EINVAL, "%s: not the private key of %s (%s)", cfg->tls_key, cfg->tls_cert, why());
	return 0;
}

int vnc_tls_new(const struct vnc_config *cfg, struct vnc_tls **out, struct err *e)
{
	struct vnc_tls *t = calloc(1, sizeof(*t));
	int r = -ENOMEM;

	if (t)
		t->ctx = SSL_CTX_new(TLS_server_method());
	if (!t || !t->ctx) {
		vnc_tls_free(t);
		return err_set(e, r, "out of memory for TLS");
	}
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Nobody resumes a session, and a viewer that finds tickets where it waits for RFB (TigerVNC 1.12) waits on. */
	SSL_CTX_set_num_tickets(t->ctx, 0);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	r = load(t->ctx, cfg, e);
	if (r) {
		vnc_tls_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void vnc_tls_free(struct vnc_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* An SSL is all there is; SIGPIPE is ignored by the program. */
static SSL *ssl_of(struct vnc_tls_conn *c) { return (SSL *)c; }

int vnc_tls_accept(struct vnc_tls *t, int fd, struct vnc_tls_conn **out)
{
	SSL *s = SSL_new(t->ctx);

	if (!s || SSL_set_fd(s, fd) != 1) {
		SSL_free(s);
		return -ENOMEM;
	}
	SSL_set_accept_state(s);
	*out = (struct vnc_tls_conn *)s;
	return 0;
}

static int result(SSL *s, int r)
{
	int kind = SSL_get_error(s, r);

	ERR_clear_error();
	if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	return kind == SSL_ERROR_ZERO_RETURN ? 0 : -EPROTO;
}

int vnc_tls_handshake(struct vnc_tls_conn *c)
{
	int r = SSL_do_handshake(ssl_of(c));

	if (r == 1)
		return 0;
	r = result(ssl_of(c), r);
	return r ? r : -ECONNRESET;
}

ssize_t vnc_tls_read(struct vnc_tls_conn *c, void *p, size_t n)
{
	int r = SSL_read(ssl_of(c), p, (int)n);

	return r > 0 ? r : result(ssl_of(c), r);
}

ssize_t vnc_tls_write(struct vnc_tls_conn *c, const void *p, size_t n)
{
	int r = SSL_write(ssl_of(c), p, (int)MIN(n, 1u << 20));

	if (r > 0)
		return r;
	r = result(ssl_of(c), r);
	return r ? r : -ECONNRESET;
}

bool vnc_tls_pending(const struct vnc_tls_conn *c) { return SSL_pending((const SSL *)c) > 0; }

void vnc_tls_close(struct vnc_tls_conn *c)
{
	SSL_free(ssl_of(c));
}
