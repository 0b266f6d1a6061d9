// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See tls.h.  Files are read when an object is made; who uses it keeps what it had then, also when the object is deleted.
 * Values of a command line are all text, those of the control protocol have types.
 */
#include "vm/tls.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm/internal.h"
#include "vm/nodes_int.h"

struct tls_object *vm_tls_find(struct vm_nodes *s, const char *id)
{
	if (s && *id)
		list_for_each(p, &s->tls)
			if (!strcmp(list_entry(p, struct tls_object, in)->id, id))
				return list_entry(p, struct tls_object, in);
	return NULL;
}

static const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

static int bool_of(const json_t *o, const char *key, bool *v, struct err *e)
{
	static const char *const yes[] = { "on", "yes", "true", "y" }, *const no[] = { "off", "no", "false", "n" };
	const json_t *j = json_object_get(o, key);
	const char *text = json_string_value(j);

	if (json_is_boolean(j))
		*v = json_is_true(j);
	for (unsigned i = 0; text && i < ARRAY_LEN(yes); i++) {
		if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
			*v = !strcmp(text, yes[i]);
			return 0;
		}
	}
	return text ? err_set(e, -EINVAL, "Parameter '%s' expects 'on' or 'off'", key) : 0;
}

static int only(const json_t *o, const char *const *known, struct err *e)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		bool found = !strcmp(key, "qom-type") || !strcmp(key, "id");

		for (unsigned i = 0; known[i] && !found; i++)
			found = !strcmp(key, known[i]);
		if (!found)
			return err_set(e, -EINVAL, "Parameter '%.60s' is unexpected", key);
	}
	return 0;
}

/* Files that may be there or not. */
static const char *if_any(const char *path) { return access(path, F_OK) ? NULL : path; }

static int load(const char *dir, bool server, bool verify, struct tls_creds **out, struct err *e)
{
	static const char *const names[] = { "ca-cert.pem", "ca-crl.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem" };
	char path[ARRAY_LEN(names)][PATH_MAX];
	struct tls_files f = { .server = server, .verify = verify, .ca = path[0], .cert = path[2], .key = path[3] };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (snprintf(path[i], PATH_MAX, "%s/%s", dir, names[i]) >= PATH_MAX)
			return err_set(e, -ENAMETOOLONG, "%.100s: the name is too long", dir);
	f.crl = if_any(path[1]);
	if (!server) {
		f.cert = if_any(path[4]);
		f.key = path[5];
	}
	return tls_creds_new(&f, out, e);
}

int vm_tls_dir(const char *dir, bool server, struct tls_creds **out, struct err *e) { return load(dir, server, true, out, e); }

static int make_creds(struct tls_object *x, const json_t *o, struct err *e)
{
	static const char *const known[] = { "dir", "endpoint", "verify-peer", "passwordid", "sanity-check", NULL };
	const char *dir = text_of(o, "dir"), *endpoint = text_of(o, "endpoint");
	bool verify = true, sane;
	int ret = only(o, known, e);

	ret = ret ? ret : bool_of(o, "verify-peer", &verify, e);
	ret = ret ? ret : bool_of(o, "sanity-check", &sane, e);
	if (!ret && !dir)
		ret = err_set(e, -EINVAL, "Parameter 'dir' is missing");
	if (!ret && endpoint && strcmp(endpoint, "client") && strcmp(endpoint, "server"))
		ret = err_set(e, -EINVAL, "Parameter 'endpoint' does not accept value '%.40s'", endpoint);
	if (!ret && text_of(o, "passwordid"))
		ret = err_set(e, -ENOTSUP, "keys with a password are not supported");
	x->verify = verify;
	return ret ? ret : load(dir, endpoint && !strcmp(endpoint, "server"), verify, &x->creds, e);
}

static int make_psk(struct tls_object *x, const json_t *o, struct err *e)
{
	static const char *const known[] = { "dir", "endpoint", "verify-peer", "username", NULL };
	const char *dir = text_of(o, "dir"), *endpoint = text_of(o, "endpoint");
	struct tls_files f = { .server = endpoint && !strcmp(endpoint, "server"), .psk_name = text_of(o, "username") };
	char path[PATH_MAX];
	bool verify;
	int ret = only(o, known, e);

	ret = ret ? ret : bool_of(o, "verify-peer", &verify, e);
	if (!ret && !dir)
		ret = err_set(e, -EINVAL, "Parameter 'dir' is missing");
	if (!ret && endpoint && strcmp(endpoint, "client") && strcmp(endpoint, "server"))
		ret = err_set(e, -EINVAL, "Parameter 'endpoint' does not accept value '%.40s'", endpoint);
	if (!ret && snprintf(path, sizeof(path), "%s/keys.psk", dir) >= (int)sizeof(path))
		ret = err_set(e, -ENAMETOOLONG, "%.100s: the name is too long", dir);
	f.psk = path;
	x->verify = true;
	return ret ? ret : tls_creds_new(&f, &x->creds, e);
}

/* ---- names ---- */

#define NAME_LEN 1024
#define PARTS 32

/* Cut at the commas that are not escaped, in place; 0: too many. */
static unsigned parts_of(char *name, char *part[PARTS])
{
	unsigned n = 0;

	for (char *p = name; n < PARTS;) {
		part[n++] = p += strspn(p, " ");
		while (*p && *p != ',')
			p += *p == '\\' && p[1] ? 2 : 1;
		if (!*p)
			return n;
		*p++ = '\0';
	}
	return 0;
}

/* QEMU's (GnuTLS's) names begin with the certificate's last part or with its first one, as versions go. */
bool vm_tls_allows(void *identity, const char *name)
{
	char x[NAME_LEN], y[NAME_LEN], *p[PARTS], *q[PARTS];
	bool ahead = true, back = true;
	unsigned n;

	if (snprintf(x, sizeof(x), "%s", (const char *)identity) >= (int)sizeof(x) || snprintf(y, sizeof(y), "%s", name) >= (int)sizeof(y))
		return false;
	n = parts_of(x, p);
	if (!n || parts_of(y, q) != n)
		return false;
	for (unsigned i = 0; i < n; i++) {
		ahead &= !strcmp(p[i], q[i]);
		back &= !strcmp(p[i], q[n - 1 - i]);
	}
	return ahead || back;
}

static int make_authz(struct tls_object *x, const json_t *o, struct err *e)
{
	static const char *const known[] = { "identity", NULL };
	const char *identity = text_of(o, "identity");
	int ret = only(o, known, e);

	if (ret)
		return ret;
	if (!identity || !*identity)
		return err_set(e, -EINVAL, "Parameter 'identity' is missing");
	x->identity = strdup(identity);
	return x->identity ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static void free_one(struct tls_object *x)
{
	tls_creds_unref(x->creds);
	free(x->identity);
	free(x->id);
	free(x);
}

int vm_tls_add(struct vm_nodes *s, const char *type, const char *id, const json_t *o, struct err *e)
{
	struct tls_object *x = calloc(1, sizeof(*x));
	int ret;

	if (x)
		x->id = strdup(id);
	if (!x || !x->id)
		ret = err_set(e, -ENOMEM, "out of memory");
	else
		ret = !strcmp(type, "authz-simple") ? make_authz(x, o, e) : !strcmp(type, "tls-creds-psk") ? make_psk(x, o, e) : make_creds(x, o, e);
	if (!ret)
		list_add_tail(&s->tls, &x->in);
	else if (x)
		free_one(x);
	return ret;
}

/* Who has an identity's guard may look at it for as long as the VM is there. */
void vm_tls_del(struct tls_object *x)
{
	if (x->identity) {
		*x->id = '\0';
		return;
	}
	list_del(&x->in);
	free_one(x);
}

void vm_tls_free(struct vm_nodes *s)
{
	list_for_each_safe(p, &s->tls)
		free_one(list_entry(p, struct tls_object, in));
}

/* ---- for those who use them ---- */

int vm_tls_creds(struct vm *vm, const char *id, bool server, struct tls_creds **out, struct err *e)
{
	struct tls_object *x = vm_tls_find(vm->nodes, id);

	if (!x || !x->creds)
		return err_set(e, -ENOENT, x ? "Object with id '%.60s' is not TLS credentials" : "No TLS credentials with id '%.60s'", id);
	if (tls_creds_server(x->creds) != server)
		return err_set(e, -EINVAL, "TLS credentials '%.60s' have endpoint=%s, and endpoint=%s is needed here", id, server ? "client" : "server",
			       server ? "server" : "client");
	*out = tls_creds_ref(x->creds);
	return 0;
}

bool vm_tls_verifies(struct vm *vm, const char *id)
{
	struct tls_object *x = vm_tls_find(vm->nodes, id);

	return x && x->verify;
}

int vm_tls_authz(struct vm *vm, const char *id, const char **out, struct err *e)
{
	struct tls_object *x = vm_tls_find(vm->nodes, id);

	if (!x || !x->identity)
		return err_set(e, -ENOENT, "there is no object '%.60s' of type authz-simple", id);
	*out = x->identity;
	return 0;
}

int vm_tls_get(struct vm *vm, const struct vm_tls *t, bool server, struct tls_creds **creds, struct tls_guard *guard, struct err *e)
{
	const struct tls_files f = { .server = server, .verify = !server || t->ca, .cert = t->cert, .key = t->key, .ca = t->ca };
	const char *identity;
	int ret = 0;

	*creds = NULL;
	*guard = (struct tls_guard){ 0 };
	if (t->authz && !t->creds)
		return err_set(e, -EINVAL, "'tls_authz' option requires 'tls_creds' option");
	if (t->authz && !server)
		return err_set(e, -EINVAL, "'tls_authz' option is incompatible with socket in client connect mode");
	if (f.cert || f.key || f.ca)
		return t->creds ? err_set(e, -EINVAL, "tls-creds= does not go with tls-cert=, tls-key= and tls-ca=") : tls_creds_new(&f, creds, e);
	if (t->authz)
		ret = vm_tls_authz(vm, t->authz, &identity, e);
	if (!ret && t->creds)
		ret = vm_tls_creds(vm, t->creds, server, creds, e);
	if (!ret && t->authz)
		*guard = (struct tls_guard){ .allows = vm_tls_allows, .opaque = (void *)(uintptr_t)identity };
	return ret;
}
