// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A client's value against a type of the schema.
 *
 * The words are those of QEMU 7.2, which clients match.  Recursion is bounded by
 * the nesting that the splitter lets through.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/schema.h"

#define PATH_MAX_LEN 160

static int wrong_type(const char *name, const char *expected, struct err *e)
{
	return err_set(e, -EINVAL, "Invalid parameter type for '%s', expected: %s", name, expected);
}

int ctl_enum(const struct ctl_type *t, const char *value)
{
	for (int i = 0; value && t->values[i]; i++)
		if (!strcmp(t->values[i], value))
			return i;
	return -1;
}

static int check_int(const struct ctl_type *t, json_t *v, const char *name, struct err *e)
{
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v))
		return wrong_type(name, "integer", e);
	if (n < t->min || n > t->max)
		return err_set(e, -EINVAL, "Parameter '%s' expects %s_t", name, t->name);
	return 0;
}

/* QEMU calls values by the last part of their path, and elements of lists "null". */
static const char *last_part(const char *name)
{
	const char *dot = strrchr(name, '.');

	if (*name && name[strlen(name) - 1] == ']')
		return "null";
	return dot ? dot + 1 : name;
}

static int check_enum(const struct ctl_type *t, json_t *v, const char *name, struct err *e)
{
	if (!json_is_string(v))
		return wrong_type(name, "string", e);
	if (ctl_enum(t, json_string_value(v)) < 0)
		return err_set(e, -EINVAL, "Parameter '%s' does not accept value '%.60s'", last_part(name), json_string_value(v));
	return 0;
}

static int check_list(const struct ctl_type *t, json_t *v, const char *name, struct err *e)
{
	char path[PATH_MAX_LEN];
	int ret = 0;

	if (!json_is_array(v))
		return wrong_type(name, "array", e);
	for (size_t i = 0; i < json_array_size(v) && !ret; i++) {
		snprintf(path, sizeof(path), "%s[%zu]", name, i);
		ret = ctl_check(t->element, json_array_get(v, i), path, e);
	}
	return ret;
}

static void member_path(char path[PATH_MAX_LEN], const char *name, const char *member)
{
	snprintf(path, PATH_MAX_LEN, "%s%s%s", name, *name ? "." : "", member);
}

/* The members of one struct that are there; `seen` counts them. */
static int check_members(const struct ctl_type *t, json_t *v, const char *name, size_t *seen, struct err *e)
{
	char path[PATH_MAX_LEN];
	int ret = 0;

	for (const struct ctl_member *m = t->members; m->name && !ret; m++) {
		json_t *x = json_object_get(v, m->name);

		member_path(path, name, m->name);
		if (x) {
			(*seen)++;
			ret = ctl_check(m->type, x, path, e);
		} else if (!m->optional) {
			ret = err_set(e, -EINVAL, "Parameter '%s' is missing", path);
		}
	}
	return ret;
}

static bool has_member(const struct ctl_type *t, const char *name)
{
	for (const struct ctl_member *m = t->members; m->name; m++)
		if (!strcmp(m->name, name))
			return true;
	return false;
}

static const struct ctl_type *variant_of(const struct ctl_type *t, json_t *v)
{
	const char *value = json_string_value(json_object_get(v, t->tag));

	for (const struct ctl_variant *x = t->variants; value && x->value; x++)
		if (!strcmp(x->value, value))
			return x->type;
	return NULL;
}

static int check_struct(const struct ctl_type *t, json_t *v, const char *name, struct err *e)
{
	const struct ctl_type *more = NULL;
	char path[PATH_MAX_LEN];
	const char *key;
	size_t seen = 0;
	json_t *x;
	int ret;

	if (!json_is_object(v))
		return wrong_type(name, "object", e);
	ret = check_members(t, v, name, &seen, e);
	if (!ret && t->tag)
		more = variant_of(t, v);
	if (more)
		ret = check_members(more, v, name, &seen, e);
	if (ret || t->open || seen == json_object_size(v))
		return ret;
	json_object_foreach(v, key, x) {
		if (has_member(t, key) || (more && has_member(more, key)))
			continue;
		member_path(path, name, key);
		return err_set(e, -EINVAL, "Parameter '%s' is unexpected", path);
	}
	return 0;
}

/* Do the JSON types agree?  That is what tells an alternate's branches apart. */
static bool same_json(const struct ctl_type *t, json_t *v)
{
	switch (t->kind) {
	case CTL_STR:
	case CTL_ENUM: return json_is_string(v);
	case CTL_INT: return json_is_integer(v);
	case CTL_BOOL: return json_is_boolean(v);
	case CTL_NUMBER: return json_is_number(v);
	case CTL_NULL: return json_is_null(v);
	case CTL_LIST: return json_is_array(v);
	case CTL_STRUCT: return json_is_object(v);
	default: return true;
	}
}

int ctl_check(const struct ctl_type *t, json_t *v, const char *name, struct err *e)
{
	switch (t->kind) {
	case CTL_STR: return json_is_string(v) ? 0 : wrong_type(name, "string", e);
	case CTL_BOOL: return json_is_boolean(v) ? 0 : wrong_type(name, "boolean", e);
	case CTL_NUMBER: return json_is_number(v) ? 0 : wrong_type(name, "number", e);
	case CTL_NULL: return json_is_null(v) ? 0 : wrong_type(name, "null", e);
	case CTL_INT: return check_int(t, v, name, e);
	case CTL_ENUM: return check_enum(t, v, name, e);
	case CTL_LIST: return check_list(t, v, name, e);
	case CTL_STRUCT: return check_struct(t, v, name, e);
	case CTL_ALTERNATE:
		for (const struct ctl_member *m = t->members; m->name; m++)
			if (same_json(m->type, v))
				return ctl_check(m->type, v, name, e);
		return wrong_type(name, t->name, e);
	case CTL_ANY:
		break;
	}
	return 0;
}

const struct ctl_command *ctl_find_command(const char *name)
{
	size_t low = 0, high = ctl_n_commands;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int c = strcmp(name, ctl_commands[mid].name);

		if (!c)
			return &ctl_commands[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}
