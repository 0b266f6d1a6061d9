// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Block nodes, and the objects they need: what -blockdev and -object say, as the JSON
 * texts that `lodge run --blockdev` and `--object` take.
 *
 * Properties come as "file.cache.direct=on", from either way of writing them, and are put
 * into objects in each other again; all values are text, which is as good there.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"

/* An object whose names are 0, 1 ... is an array. Takes j over. */
static json_t *as_array(json_t *j)
{
	size_t n = json_object_size(j), i = 0;
	json_t *list, *v;
	char index[24];

	if (!json_is_object(j) || !n || !json_object_get(j, "0"))
		return j;
	list = json_array();
	for (; i < n; i++) {
		snprintf(index, sizeof(index), "%zu", i);
		v = json_object_get(j, index);
		if (!v || json_array_append(list, v))
			break;
	}
	json_decref(i < n ? list : j);
	return i < n ? j : list;
}

static void fold_arrays(json_t *j)
{
	const char *key;
	json_t *v;
	void *next;

	json_object_foreach_safe(j, next, key, v) {
		fold_arrays(v);
		json_object_set_new(j, key, as_array(json_incref(v)));
	}
}

/* The object in which the last part of the name is, made as far as it is missing. */
static json_t *place_for(json_t *j, char *name, char **last)
{
	char *dot;

	for (; (dot = strchr(name, '.')); name = dot + 1) {
		json_t *in;

		*dot = '\0';
		in = json_object_get(j, name);
		if (!in) {
			in = json_object();
			if (json_object_set_new(j, name, in))
				return NULL;
		}
		if (!json_is_object(in))
			return NULL;
		j = in;
	}
	*last = name;
	return j;
}

static int put(struct qemu *q, json_t *all, const char *name, const char *value, struct err *e)
{
	bool file = !strcmp(name, "filename") || (strlen(name) > 9 && !strcmp(name + strlen(name) - 9, ".filename"));
	char *copy = strdup(name), *last = NULL;
	json_t *in = copy ? place_for(all, copy, &last) : NULL, *text = json_string(file ? drive_path(q, value) : value);
	int ret = 0;

	if (!text)
		ret = err_set(e, -EINVAL, "%.60s: the text is no UTF-8", name);
	else if (!in || json_object_set(in, last, text))
		ret = err_set(e, -EINVAL, "%.60s does not go with what was said before", name);
	json_decref(text);
	free(copy);
	return ret;
}

static int emit_json(struct qemu *q, const char *option, json_t *all, struct props *p, struct err *e)
{
	char *text;
	int ret = 0;

	for (unsigned i = 0; i < p->n && !ret; i++) {
		if (!p->of[i].taken)
			ret = put(q, all, p->of[i].name, p->of[i].value, e);
		p->of[i].taken = true;
	}
	if (ret)
		return ret;
	fold_arrays(all);
	text = json_dumps(all, JSON_COMPACT);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	emit(q, option);
	emit(q, text);
	free(text);
	return 0;
}

int emit_node_object(struct qemu *q, struct qemu_item *it, struct err *e)
{
	json_t *all = json_pack("{s:s,s:s}", "qom-type", it->type, "id", it->id);
	int ret = all ? emit_json(q, "--object", all, &it->p, e) : err_set(e, -ENOMEM, "out of memory");

	json_decref(all);
	return ret;
}

/* Those of flash are the firmware's. */
int emit_nodes(struct qemu *q, struct err *e)
{
	int ret = 0;

	list_for_each(n, &q->blockdevs) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		json_t *all;

		if (it->used || ret)
			continue;
		it->used = true;
		all = json_pack("{s:s}", "node-name", it->id);
		ret = all ? emit_json(q, "--blockdev", all, &it->p, e) : err_set(e, -ENOMEM, "out of memory");
		json_decref(all);
		if (ret)
			err_prefix(e, ret, "-blockdev %s", it->id);
	}
	return ret;
}
