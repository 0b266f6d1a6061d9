// SPDX-License-Identifier: GPL-2.0-or-later
/* See tls.h: certificates, keys and whom to trust, read from files once. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/tls_int.h"

#define MAX_KEYS 1024u

static const char *why(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *text = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return text ? text : "unknown error";
}

static int readable(const char *file, struct err *e)
{
	return access(file, R_OK) ? err_set(e, -errno, "%s: %s", file, strerror(errno)) : 0;
}

/* One whose time is over is told now, and not by each client. */
static int check_time(const SSL_CTX *ctx, const char *file, struct err *e)
{
	const X509 *x = SSL_CTX_get0_certificate(ctx);

	if (x && X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
		return err_set(e, -EINVAL, "%s: the certificate is not valid yet", file);
	if (x && X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
		return err_set(e, -EINVAL, "%s: the certificate has expired", file);
	return 0;
}

static int load_own(SSL_CTX *ctx, const struct tls_files *f, struct err *e)
{
	int ret = f->key ? readable(f->cert, e) : err_set(e, -EINVAL, "%s: its private key is missing", f->cert);

	if (!ret)
		ret = readable(f->key, e);
	if (ret)
		return ret;
	if (SSL_CTX_use_certificate_chain_file(ctx, f->cert) != 1)
		return err_set(e, -EINVAL, "%s: not a certificate in PEM (%s)", f->cert, why());
	if (SSL_CTX_use_PrivateKey_file(ctx, f->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return err_set(e, -EINVAL, "%s: not the private key of %s (%s)", f->key, f->cert, why());
	return check_time(ctx, f->cert, e);
}

static int load_trust(SSL_CTX *ctx, const struct tls_files *f, struct err *e)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	int ret = f->ca ? readable(f->ca, e) : err_set(e, -EINVAL, "to verify the other side a file of certificates to trust is needed");

	if (!ret && f->crl)
		ret = readable(f->crl, e);
	if (ret)
		return ret;
	if (SSL_CTX_load_verify_file(ctx, f->ca) != 1)
		return err_set(e, -EINVAL, "%s: no certificates in PEM (%s)", f->ca, why());
	/* Who is in the file is trusted, be it the root of all or not. */
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	if (f->crl && X509_STORE_load_file(store, f->crl) != 1)
		return err_set(e, -EINVAL, "%s: no revocation list in PEM (%s)", f->crl, why());
	if (f->crl)
		X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	if (f->server)
		SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(f->ca));	/* takes it; NULL: none are named */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (f->server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return 0;
}

/* ---- pre-shared keys ---- */

static int add_key(struct tls_creds *c, const char *line, size_t len, const char *file, struct err *e)
{
	const char *colon = memchr(line, ':', len);
	size_t hex = colon ? (size_t)(line + len - colon - 1) : 0;
	struct tls_key *k;

	if (!colon || colon == line || !hex || hex % 2 || hex / 2 > sizeof(k->key))
		return err_set(e, -EINVAL, "%s: a line is NAME:HEX, a key of up to %zu bytes", file, sizeof(k->key));
	if (c->n_keys == MAX_KEYS)
		return err_set(e, -E2BIG, "%s: more than %u keys", file, MAX_KEYS);
	k = reallocarray(c->keys, c->n_keys + 1, sizeof(*k));
	if (!k)
		return err_set(e, -ENOMEM, "out of memory for TLS");
	c->keys = k;
	k += c->n_keys;
	*k = (struct tls_key){ .name = strndup(line, (size_t)(colon - line)), .len = (unsigned)(hex / 2) };
	c->n_keys++;
	for (unsigned i = 0; i < k->len; i++) {
		char two[3] = { colon[1 + 2 * i], colon[2 + 2 * i], '\0' };

		if (strspn(two, "0123456789abcdefABCDEF") != 2)
			return err_set(e, -EINVAL, "%s: the key of %.40s is not hexadecimal", file, k->name ? k->name : "");
		k->key[i] = (unsigned char)strtoul(two, NULL, 16);
	}
	return k->name ? 0 : err_set(e, -ENOMEM, "out of memory for TLS");
}

/* A client keeps the line with its name only. */
static int read_keys(struct tls_creds *c, const struct tls_files *f, struct err *e)
{
	const char *mine = f->psk_name ? f->psk_name : "qemu";
	FILE *in = fopen(f->psk, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int ret = in ? 0 : err_set(e, -errno, "%s: %s", f->psk, strerror(errno));

	while (in && !ret && (n = getline(&line, &room, in)) > 0) {
		size_t len = strcspn(line, "\r\n"), name = strlen(mine);

		if (!len || line[0] == '#')
			continue;
		if (f->server || (len > name && !memcmp(line, mine, name) && line[name] == ':'))
			ret = add_key(c, line, len, f->psk, e);
	}
	if (line)
		explicit_bzero(line, room);
	free(line);
	if (in)
		fclose(in);
	if (!ret && !c->n_keys)
		ret = err_set(e, -ENOENT, f->server ? "%s: there is no key" : "%s: there is no key of %.60s", f->psk, mine);
	return ret;
}

/* OpenSSL gives no word of whose connection it is but the context's. */
static unsigned psk_server(SSL *s, const char *name, unsigned char *out, unsigned room)
{
	const struct tls_creds *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(s));

	for (unsigned i = 0; name && i < c->n_keys; i++) {
		if (strcmp(c->keys[i].name, name) || c->keys[i].len > room)
			continue;
		memcpy(out, c->keys[i].key, c->keys[i].len);
		return c->keys[i].len;
	}
	return 0;
}

static unsigned psk_client(SSL *s, const char *hint, char *name, unsigned name_room, unsigned char *out, unsigned room)
{
	const struct tls_creds *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(s));
	const struct tls_key *k = c->keys;

	if (strlen(k->name) >= name_room || k->len > room)
		return 0;
	memcpy(name, k->name, strlen(k->name) + 1);
	memcpy(out, k->key, k->len);
	return k->len;
}

static int load_psk(struct tls_creds *c, const struct tls_files *f, struct err *e)
{
	int ret = read_keys(c, f, e);

	if (ret)
		return ret;
	SSL_CTX_set_app_data(c->ctx, c);
	if (f->server)
		SSL_CTX_set_psk_server_callback(c->ctx, psk_server);
	else
		SSL_CTX_set_psk_client_callback(c->ctx, psk_client);
	/* In 1.2 the cipher says how keys are had. */
	if (SSL_CTX_set_cipher_list(c->ctx, "kECDHEPSK+AES:kDHEPSK+AES:kPSK+AES") != 1)
		return err_set(e, -ENOTSUP, "this OpenSSL has no pre-shared keys (%s)", why());
	/* In 1.3 a server without a certificate takes nobody who has no key; a client must not take one who has a certificate instead. */
	if (!f->server)
		SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
	return 0;
}

/* ---- life ---- */

/* Anonymous Diffie-Hellman has no place in TLS 1.3, nor above security level 0. */
static int load_anonymous(SSL_CTX *ctx, struct err *e)
{
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	if (SSL_CTX_set_cipher_list(ctx, "ADH+AES:AECDH+AES") != 1 || SSL_CTX_set_dh_auto(ctx, 1) != 1)
		return err_set(e, -ENOTSUP, "this OpenSSL does no anonymous TLS (%s); give a certificate and its key", why());
	return 0;
}

static int load(struct tls_creds *c, const struct tls_files *f, struct err *e)
{
	int ret = 0;

	SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Nobody resumes a session, and a viewer that finds tickets where it waits for RFB (TigerVNC 1.12) waits on. */
	SSL_CTX_set_num_tickets(c->ctx, 0);
	SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(c->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_COMPRESSION);
	if (f->anonymous)
		return load_anonymous(c->ctx, e);
	if (f->psk)
		return load_psk(c, f, e);
	if (f->cert)
		ret = load_own(c->ctx, f, e);
	else if (f->server)
		ret = err_set(e, -EINVAL, "a server needs a certificate and its private key");
	return ret || !f->verify ? ret : load_trust(c->ctx, f, e);
}

int tls_creds_new(const struct tls_files *f, struct tls_creds **out, struct err *e)
{
	struct tls_creds *c = calloc(1, sizeof(*c));
	int ret = -ENOMEM;

	if (c) {
		c->refs = 1;
		c->server = f->server;
		c->verify = f->verify && !f->psk && !f->anonymous;
		c->ctx = SSL_CTX_new(f->server ? TLS_server_method() : TLS_client_method());
	}
	if (!c || !c->ctx)
		err_set(e, ret, "out of memory for TLS");
	else
		ret = load(c, f, e);
	ERR_clear_error();
	if (ret) {
		tls_creds_unref(c);
		return ret;
	}
	*out = c;
	return 0;
}

struct tls_creds *tls_creds_ref(struct tls_creds *c)
{
	if (c)
		c->refs++;
	return c;
}

void tls_creds_unref(struct tls_creds *c)
{
	if (!c || --c->refs)
		return;
	SSL_CTX_free(c->ctx);
	for (unsigned i = 0; i < c->n_keys; i++) {
		explicit_bzero(c->keys[i].key, sizeof(c->keys[i].key));
		free(c->keys[i].name);
	}
	free(c->keys);
	free(c);
}

bool tls_creds_server(const struct tls_creds *c) { return c->server; }
