// SPDX-License-Identifier: GPL-2.0-or-later
/* QEMU's lists of properties: parsing, and taking out what is known. */
#include "qemu/props.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add(struct props *p, char *name, char *value, struct err *e)
{
	if (p->n == PROPS_MAX)
		return err_set(e, -E2BIG, "an option has at most %d properties", PROPS_MAX);
	p->of[p->n++] = (struct prop){ .name = name, .value = value };
	return 0;
}

/* One part of the text, its commas made single, ended by NUL; returns what follows. */
static char *cut(char *at)
{
	char *to = at;

	for (; *at && (*at != ',' || at[1] == ','); at++) {
		if (*at == ',')
			at++;
		*to++ = *at;
	}
	if (*at)
		at++;
	*to = '\0';
	return at;
}

/* The name ends at the first "="; a comma before it, even a doubled one, ends the part. */
static int add_part(struct props *p, char *part, const char *implied, struct err *e)
{
	static char on[] = "on", off[] = "off";
	char *eq = strchr(part, '=');

	if (eq) {
		*eq = '\0';
		return *part ? add(p, part, eq + 1, e) : err_set(e, -EINVAL, "'=%.40s' has no name in front", eq + 1);
	}
	if (implied && !p->n)
		return add(p, (char *)(uintptr_t)implied, part, e);
	if (!*part)
		return 0;
	if (!strncmp(part, "no", 2) && part[2])
		return add(p, part + 2, off, e);
	return add(p, part, on, e);
}

static int flatten(FILE *f, const json_t *j, const char *prefix, unsigned depth, struct err *e);

static void put(FILE *f, const char *prefix, const char *key, const char *text)
{
	fprintf(f, "%s%s%s%c%s%c", prefix, *prefix ? "." : "", key, 0, text, 0);
}

static int flatten_value(FILE *f, const json_t *v, const char *prefix, const char *key, unsigned depth, struct err *e)
{
	char name[256], number[32];

	if (snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key) >= (int)sizeof(name))
		return err_set(e, -EINVAL, "'%.40s...' is too long a name", name);
	if (json_is_object(v) || json_is_array(v))
		return flatten(f, v, name, depth + 1, e);
	if (json_is_integer(v))
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		snprintf(number, sizeof(number), "%.17g", json_real_value(v));
	else
		snprintf(number, sizeof(number), "%s", json_is_true(v) ? "on" : json_is_false(v) ? "off" : "");
	put(f, prefix, key, json_is_string(v) ? json_string_value(v) : number);
	return 0;
}

static int flatten(FILE *f, const json_t *j, const char *prefix, unsigned depth, struct err *e)
{
	const char *key;
	char index[24];
	json_t *v;
	int ret = 0;

	if (depth > 8)
		return err_set(e, -EINVAL, "the JSON object is nested too deeply");
	json_object_foreach((json_t *)(uintptr_t)j, key, v)
		if (!ret)
			ret = flatten_value(f, v, prefix, key, depth, e);
	for (size_t i = 0; !ret && i < json_array_size(j); i++) {
		snprintf(index, sizeof(index), "%zu", i);
		ret = flatten_value(f, json_array_get(j, i), prefix, index, depth, e);
	}
	return ret;
}

/* Names and values one after the other, each with its NUL. */
static int split_pairs(struct props *p, size_t len, struct err *e)
{
	int ret = 0;

	for (size_t at = 0; at < len && !ret;) {
		char *name = p->text + at, *value = name + strlen(name) + 1;

		at = (size_t)(value + strlen(value) + 1 - p->text);
		ret = add(p, name, value, e);
	}
	return ret;
}

static int parse_json(const char *text, struct props *p, struct err *e)
{
	json_error_t je;
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	size_t len = 0;
	FILE *f;
	int ret;

	if (!j)
		return err_set(e, -EINVAL, "the JSON text is wrong at character %d: %s", je.position, je.text);
	f = open_memstream(&p->text, &len);
	ret = !f ? err_set(e, -ENOMEM, "out of memory") : !json_is_object(j) ? err_set(e, -EINVAL, "a JSON object is expected") :
		flatten(f, j, "", 0, e);
	json_decref(j);
	if (f && fclose(f) && !ret)
		ret = err_set(e, -ENOMEM, "out of memory");
	return ret ? ret : split_pairs(p, len, e);
}

int props_parse(const char *text, const char *implied, struct props *p, struct err *e)
{
	char *at, *next;
	int ret = 0;

	*p = (struct props){ 0 };
	if (*text == '{')
		return parse_json(text, p, e);
	p->text = strdup(text);
	if (!p->text)
		return err_set(e, -ENOMEM, "out of memory");
	for (at = p->text; *at && !ret; at = next) {
		next = cut(at);
		ret = add_part(p, at, implied, e);
	}
	return ret;
}

void props_free(struct props *p)
{
	free(p->text);
	*p = (struct props){ 0 };
}

const char *props_take(struct props *p, const char *name)
{
	const char *v = NULL;

	for (unsigned i = 0; i < p->n; i++)
		if (!strcmp(p->of[i].name, name)) {
			v = p->of[i].value;
			p->of[i].taken = true;
		}
	return v;
}

const char *props_peek(const struct props *p, const char *name)
{
	const char *v = NULL;

	for (unsigned i = 0; i < p->n; i++)
		if (!strcmp(p->of[i].name, name))
			v = p->of[i].value;
	return v;
}

const char *props_take_one(struct props *p, const char *name)
{
	for (unsigned i = 0; i < p->n; i++)
		if (!p->of[i].taken && !strcmp(p->of[i].name, name)) {
			p->of[i].taken = true;
			return p->of[i].value;
		}
	return NULL;
}

int props_switch(const char *text, bool *out, struct err *e)
{
	static const char *const yes[] = { "on", "yes", "true", "y" }, *const no[] = { "off", "no", "false", "n" };

	for (unsigned i = 0; i < 4; i++) {
		if (!strcmp(text, yes[i]))
			return *out = true, 0;
		if (!strcmp(text, no[i]))
			return *out = false, 0;
	}
	return err_set(e, -EINVAL, "'%.40s' is neither on nor off", text);
}

int props_bool(struct props *p, const char *name, bool *out, struct err *e)
{
	const char *v = props_take(p, name);
	int ret = v ? props_switch(v, out, e) : 0;

	return ret ? err_prefix(e, ret, "%s", name) : 0;
}

int props_number(struct props *p, const char *name, uint64_t min, uint64_t max, uint64_t *out, bool *found, struct err *e)
{
	const char *v = props_take(p, name);
	unsigned long long n;
	char *end;

	if (found)
		*found = v;
	if (!v)
		return 0;
	errno = 0;
	n = strtoull(v, &end, 0);
	if (!isdigit((unsigned char)*v) || *end || errno || n < min || n > max)
		return err_set(e, -EINVAL, "%s: '%.40s' is not a number from %llu to %llu", name, v, (unsigned long long)min,
			       (unsigned long long)max);
	*out = n;
	return 0;
}

void props_ignore(struct props *p, const char *const *names)
{
	for (; *names; names++)
		props_take(p, *names);
}

int props_done(const struct props *p, struct err *e)
{
	for (unsigned i = 0; i < p->n; i++)
		if (!p->of[i].taken)
			return err_set(e, -EINVAL, "the property '%.60s' is not supported", p->of[i].name);
	return 0;
}

static uint64_t unit_of(char c)
{
	const char *all = "BKMGTPE", *u = strchr(all, toupper((unsigned char)c));

	return c && u ? 1ull << (10 * (u - all)) : 0;
}

int props_size(const char *text, uint64_t unit, uint64_t *out, struct err *e)
{
	unsigned long long n;
	long double real;
	char *end;

	if (!isdigit((unsigned char)*text))
		return err_set(e, -EINVAL, "'%.40s' is not a size such as 512M or 2G", text);
	errno = 0;
	n = strtoull(text, &end, 0);
	real = (long double)n;
	if (*end == '.')		/* fractions, of decimal numbers */
		real = strtold(text, &end);
	if (*end) {
		unit = unit_of(*end);
		end++;
	}
	if (errno || !unit || *end || isnan(real))
		return err_set(e, -EINVAL, "'%.40s' is not a size such as 512M or 2G", text);
	if (real * (long double)unit >= 0x1p63L)
		return err_set(e, -ERANGE, "'%.40s' is too large a size", text);
	*out = (uint64_t)(real * (long double)unit);
	return 0;
}
