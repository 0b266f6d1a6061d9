// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Objects that others refer to, under QEMU's names: secrets and throttle groups; those of TLS are in tls.c.
 *
 * A secret that comes as text is kept like one from a file, which may be read by
 * nobody else: it goes through a file in memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/secret.h"
#include "vm/internal.h"
#include "vm/nodes_int.h"

struct blk_secrets *vm_secrets(struct vm *vm)
{
	struct vm_nodes *s = vm_nodes_of(vm);

	return s ? s->secrets : NULL;
}

/* ---- throttle groups ---- */

static struct secret_object *find_secret(struct vm_nodes *s, const char *id);

static struct group *find_group(struct vm_nodes *s, const char *id)
{
	if (s)
		list_for_each(p, &s->groups)
			if (!strcmp(list_entry(p, struct group, in)->id, id))
				return list_entry(p, struct group, in);
	return NULL;
}

/* Opaque begins with the VM: nodes.c's struct making. */
struct blk_throttle_group *vm_group(void *opaque, const char *id)
{
	struct vm *vm = *(struct vm **)opaque;
	struct group *g = find_group(vm->nodes, id);

	return g ? g->g : NULL;
}

const char *vm_group_name(struct vm *vm, const struct blk_throttle_group *of)
{
	if (vm->nodes)
		list_for_each(p, &vm->nodes->groups)
			if (list_entry(p, struct group, in)->g == of)
				return list_entry(p, struct group, in)->id;
	return NULL;
}

static int make_group(struct vm_nodes *s, const char *id, const struct blk_throttle_opts *limits, bool named, struct err *e)
{
	struct group *g = calloc(1, sizeof(*g));
	int ret = -ENOMEM;

	if (g)
		g->id = strdup(id);
	if (!g || !g->id)
		err_set(e, ret, "out of memory");
	else
		ret = blk_throttle_group_new(limits, &g->g, e);
	if (ret) {
		free(g ? g->id : NULL);
		free(g);
		return ret;
	}
	g->named = named;
	list_add_tail(&s->groups, &g->in);
	return 0;
}

static int add_group(struct vm_nodes *s, const char *id, const json_t *o, struct err *e)
{
	struct blk_throttle_opts limits = { 0 };
	const char *key;
	json_t *v;
	int ret;

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
		if (strcmp(key, "qom-type") && strcmp(key, "id") && strcmp(key, "limits") && strncmp(key, "x-", 2))
			return err_set(e, -EINVAL, "Parameter '%.60s' is unexpected", key);
	ret = blockdev_limits(o, &limits, e);
	return ret ? ret : make_group(s, id, &limits, false, e);
}

static void free_group(struct group *g)
{
	list_del(&g->in);
	blk_throttle_group_unref(g->g);
	free(g->id);
	free(g);
}

int vm_group_get(struct vm *vm, const char *name, const struct blk_throttle_opts *limits, struct blk_throttle_group **out, struct err *e)
{
	struct vm_nodes *s = vm_nodes_of(vm);
	struct group *g = find_group(s, name);
	int ret = 0;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (!g) {
		ret = find_secret(s, name) || vm_tls_find(s, name) ? err_set(e, -EINVAL, "'%.60s' is no throttle group", name) : make_group(s, name, limits, true, e);
		g = find_group(s, name);
	} else if (blk_throttle_wanted(limits)) {
		ret = blk_throttle_group_set(g->g, limits, e);
	}
	if (!ret)
		*out = blk_throttle_group_ref(g->g);
	return ret;
}

int vm_object_set(struct vm *vm, const char *id, const char *property, const json_t *value, struct err *e)
{
	struct group *g = find_group(vm->nodes, id);
	struct blk_throttle_opts limits;
	json_t *o;
	int ret;

	if (!g || g->named)
		return err_set(e, -ENOENT, "Device '%.60s' not found", id);
	if (strcmp(property, "limits") && strncmp(property, "x-", 2))
		return err_set(e, -EINVAL, "Property 'throttle-group.%.60s' not found", property);
	blk_throttle_group_get(g->g, &limits);
	o = json_pack("{s:O}", property, value);
	ret = o ? blockdev_limits(o, &limits, e) : err_set(e, -ENOMEM, "out of memory");
	json_decref(o);
	return ret ? ret : blk_throttle_group_set(g->g, &limits, e);
}

static json_t *limits_json(const struct blk_throttle_opts *o)
{
	static const char *const of[] = { "total", "read", "write" };
	json_t *j = json_object();
	char key[40];

	for (unsigned i = 0; i < 6; i++) {
		const struct blk_rate *r = i < 3 ? &o->bytes[i] : &o->ops[i - 3];
		const char *kind = i < 3 ? "bps" : "iops";

		snprintf(key, sizeof(key), "%s-%s", kind, of[i % 3]);
		json_object_set_new(j, key, json_integer((json_int_t)r->avg));
		snprintf(key, sizeof(key), "%s-%s-max", kind, of[i % 3]);
		json_object_set_new(j, key, json_integer((json_int_t)r->max));
		snprintf(key, sizeof(key), "%s-%s-max-length", kind, of[i % 3]);
		json_object_set_new(j, key, json_integer(r->length ? r->length : 1));
	}
	json_object_set_new(j, "iops-size", json_integer((json_int_t)o->op_size));
	return j;
}

int vm_object_get(struct vm *vm, const char *id, const char *property, json_t **out, struct err *e)
{
	struct group *g = find_group(vm->nodes, id);
	struct blk_throttle_opts limits;
	json_t *all, *v = NULL;

	if (!g || g->named)
		return err_set(e, -ENOENT, "Device '%.60s' not found", id);
	if (!strcmp(property, "type")) {
		*out = json_string("throttle-group");
		return 0;
	}
	blk_throttle_group_get(g->g, &limits);
	all = limits_json(&limits);
	if (!strcmp(property, "limits"))
		v = json_incref(all);
	else if (!strncmp(property, "x-", 2))
		v = json_incref(json_object_get(all, property + 2));
	json_decref(all);
	*out = v;
	return v ? 0 : err_set(e, -EINVAL, "Property 'throttle-group.%.60s' not found", property);
}

/* ---- secrets ---- */

static struct secret_object *find_secret(struct vm_nodes *s, const char *id)
{
	list_for_each(p, &s->secret_ids)
		if (!strcmp(list_entry(p, struct secret_object, in)->id, id))
			return list_entry(p, struct secret_object, in);
	return NULL;
}

/* A descriptor with the text, read from its beginning. */
static int in_memory(const char *text, int *fd)
{
	size_t len = strlen(text), at = 0;
	ssize_t n = 1;

	*fd = memfd_create("secret", MFD_CLOEXEC);
	while (*fd >= 0 && at < len && n > 0) {
		n = write(*fd, text + at, len - at);
		at += n > 0 ? (size_t)n : 0;
	}
	if (*fd >= 0 && at == len && !lseek(*fd, 0, SEEK_SET))
		return 0;
	if (*fd >= 0)
		close(*fd);
	return -EIO;
}

static int take_source(const json_t *o, struct blk_secret_source *from, struct err *e)
{
	const char *file = json_string_value(json_object_get(o, "file")), *data = json_string_value(json_object_get(o, "data"));
	const char *format = json_string_value(json_object_get(o, "format")), *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		if (!strcmp(key, "keyid") || !strcmp(key, "iv"))
			return err_set(e, -ENOTSUP, "secrets that are encrypted with others are not supported");
		if (strcmp(key, "qom-type") && strcmp(key, "id") && strcmp(key, "file") && strcmp(key, "data") && strcmp(key, "format"))
			return err_set(e, -EINVAL, "Parameter '%.60s' is unexpected", key);
	}
	if (file && data)
		return err_set(e, -EINVAL, "'file' and 'data' are mutually exclusive");
	if (!file && !data)
		return err_set(e, -EINVAL, "Must provide 'file' or 'data'");
	if (format && strcmp(format, "raw") && strcmp(format, "base64"))
		return err_set(e, -EINVAL, "Parameter 'format' does not accept value '%.40s'", format);
	*from = (struct blk_secret_source){ .file = file, .fd = -1, .base64 = format && !strcmp(format, "base64") };
	return data && in_memory(data, &from->fd) ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int add_secret(struct vm_nodes *s, const char *id, const json_t *o, struct err *e)
{
	struct secret_object *x = calloc(1, sizeof(*x));
	struct blk_secret_source from = { .fd = -1 };
	const uint8_t *bytes;
	size_t len;
	int ret;

	if (x)
		x->id = strdup(id);
	ret = x && x->id ? take_source(o, &from, e) : err_set(e, -ENOMEM, "out of memory");
	if (!ret) {
		ret = blk_secrets_add(s->secrets, id, &from, e);
		if (ret && from.fd >= 0)
			close(from.fd);
	}
	/* What cannot be read is told now, and not when it is needed. */
	if (!ret) {
		ret = blk_secrets_get(s->secrets, id, &bytes, &len, e);
		if (ret)
			blk_secrets_remove(s->secrets, id);
	}
	if (ret) {
		free(x ? x->id : NULL);
		free(x);
		return ret;
	}
	list_add_tail(&s->secret_ids, &x->in);
	return 0;
}

/* ---- both ---- */

int vm_object_add(struct vm *vm, const json_t *object, struct err *e)
{
	const char *type = json_string_value(json_object_get(object, "qom-type")), *id = json_string_value(json_object_get(object, "id"));
	struct vm_nodes *s = vm_nodes_of(vm);

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (!type || !id || !*id)
		return err_set(e, -EINVAL, "Parameter '%s' is missing", type ? "id" : "qom-type");
	if (find_group(s, id) || find_secret(s, id) || vm_tls_find(s, id))
		return err_set(e, -EEXIST, "attempt to add duplicate property '%.60s' to object (type 'container')", id);
	if (!strcmp(type, "secret"))
		return add_secret(s, id, object, e);
	if (!strcmp(type, "throttle-group"))
		return add_group(s, id, object, e);
	if (!strncmp(type, "tls-creds-", 10) || !strcmp(type, "authz-simple"))
		return vm_tls_add(s, type, id, object, e);
	return err_set(e, -ENOTSUP, "invalid object type: %.60s", type);
}

int vm_object_del(struct vm *vm, const char *id, struct err *e)
{
	struct group *g = find_group(vm->nodes, id);
	struct secret_object *x = vm->nodes ? find_secret(vm->nodes, id) : NULL;
	struct tls_object *t = vm_tls_find(vm->nodes, id);

	if (g && (g->named || blk_throttle_group_used(g->g)))
		return err_set(e, -EBUSY, "object '%.60s' is in use, can not be deleted", id);
	if (g) {
		free_group(g);
	} else if (x) {
		blk_secrets_remove(vm->nodes->secrets, id);
		list_del(&x->in);
		free(x->id);
		free(x);
	} else if (t) {
		vm_tls_del(t);
	} else {
		return err_set(e, -ENOENT, "object '%.60s' not found", id);
	}
	return 0;
}

void vm_free_objects(struct vm_nodes *s)
{
	list_for_each_safe(p, &s->groups)
		free_group(list_entry(p, struct group, in));
	list_for_each_safe(p, &s->secret_ids) {
		struct secret_object *x = list_entry(p, struct secret_object, in);

		free(x->id);
		free(x);
	}
	vm_tls_free(s);
	blk_secrets_free(s->secrets);
}
