// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration tree, kept as a flat list of pairs: trees of a virtual
 * machine have dozens of keys, so a linear search is quick and order is kept
 * for the dump.
 */
#include "vm/conf.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct pair {
	char *key, *value;
};

struct conf {
	struct pair *pairs;
	size_t n, room;
};

int conf_new(struct conf **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++) {
		free(c->pairs[i].key);
		free(c->pairs[i].value);
	}
	free(c->pairs);
	free(c);
}

static bool key_valid(const char *key)
{
	bool part = false;

	for (const char *p = key; *p; p++) {
		if (*p == '.') {
			if (!part)
				return false;
			part = false;
		} else if (islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-') {
			part = true;
		} else {
			return false;
		}
	}
	return part;
}

static struct pair *find(const struct conf *c, const char *key)
{
	for (size_t i = 0; i < c->n; i++)
		if (!strcmp(c->pairs[i].key, key))
			return &c->pairs[i];
	return NULL;
}

static int grow(struct conf *c)
{
	size_t room = c->room ? c->room * 2 : 32;
	struct pair *p;

	if (c->n < c->room)
		return 0;
	p = realloc(c->pairs, room * sizeof(*p));
	if (!p)
		return -ENOMEM;
	c->pairs = p;
	c->room = room;
	return 0;
}

int conf_set(struct conf *c, const char *key, const char *value, struct err *e)
{
	struct pair *p = find(c, key);
	char *v, *k;

	if (!key_valid(key))
		return err_set(e, -EINVAL, "'%s' is not a configuration key", key);
	v = strdup(value);
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	if (p) {
		free(p->value);
		p->value = v;
		return 0;
	}
	if (c->n >= CONF_MAX_KEYS) {
		free(v);
		return err_set(e, -E2BIG, "the configuration has more than %d keys", CONF_MAX_KEYS);
	}
	k = strdup(key);
	if (!k || grow(c)) {
		free(v);
		free(k);
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->pairs[c->n++] = (struct pair){ k, v };
	return 0;
}

int conf_setf(struct conf *c, const char *value, struct err *e, const char *key_fmt, ...)
{
	char key[128];
	va_list ap;
	int n;

	va_start(ap, key_fmt);
	n = vsnprintf(key, sizeof(key), key_fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(key))
		return err_set(e, -EINVAL, "a configuration key is too long");
	return conf_set(c, key, value, e);
}

const char *conf_get(const struct conf *c, const char *key)
{
	struct pair *p = find(c, key);

	return p ? p->value : NULL;
}

void conf_unset(struct conf *c, const char *prefix)
{
	size_t len = strlen(prefix), n = 0;

	for (size_t i = 0; i < c->n; i++) {
		const char *k = c->pairs[i].key;

		if (strncmp(k, prefix, len) || (k[len] && k[len] != '.')) {
			c->pairs[n++] = c->pairs[i];
			continue;
		}
		free(c->pairs[i].key);
		free(c->pairs[i].value);
	}
	c->n = n;
}

unsigned conf_list_len(const struct conf *c, const char *prefix)
{
	size_t plen = strlen(prefix);
	unsigned len = 0;

	for (size_t i = 0; i < c->n; i++) {
		const char *k = c->pairs[i].key;
		unsigned long n;
		char *end;

		if (strncmp(k, prefix, plen) || k[plen] != '.' || !isdigit((unsigned char)k[plen + 1]))
			continue;
		n = strtoul(k + plen + 1, &end, 10);
		if ((*end && *end != '.') || n >= CONF_MAX_KEYS)
			continue;
		if (n + 1 > len)
			len = (unsigned)n + 1;
	}
	return len;
}

bool conf_nth(const struct conf *c, size_t i, const char **key, const char **value)
{
	if (i >= c->n)
		return false;
	*key = c->pairs[i].key;
	*value = c->pairs[i].value;
	return true;
}

int conf_dump(const struct conf *c, FILE *f)
{
	for (size_t i = 0; i < c->n; i++) {
		fprintf(f, "%s = ", c->pairs[i].key);
		for (const char *p = c->pairs[i].value; *p; p++) {
			if (*p == '\\')
				fputs("\\\\", f);
			else if (*p == '\n')
				fputs("\\n", f);
			else if (*p == '\r')
				fputs("\\r", f);
			else
				fputc(*p, f);
		}
		fputc('\n', f);
	}
	return fflush(f) || ferror(f) ? -EIO : 0;
}

/* Undoes the escapes in place; false on an unknown one. */
static bool unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (*s != '\\') {
			*to++ = *s;
			continue;
		}
		s++;
		if (*s == 'n')
			*to++ = '\n';
		else if (*s == 'r')
			*to++ = '\r';
		else if (*s == '\\')
			*to++ = '\\';
		else
			return false;
	}
	*to = '\0';
	return true;
}

static int read_line(struct conf *c, char *line, const char *where, unsigned no, struct err *e)
{
	char *eq, *key_end, *value;

	line[strcspn(line, "\n")] = '\0';
	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return 0;
	eq = strchr(line, '=');
	if (!eq)
		return err_set(e, -EINVAL, "%s, line %u: no '=' in '%.60s'", where, no, line);
	for (key_end = eq; key_end > line && isspace((unsigned char)key_end[-1]);)
		key_end--;
	*key_end = '\0';
	value = eq + 1;
	if (*value == ' ')
		value++;
	if (!unescape(value))
		return err_set(e, -EINVAL, "%s, line %u: unknown escape in the value of '%.60s'", where, no, line);
	return conf_set(c, line, value, e);
}

int conf_read(struct conf *c, FILE *f, const char *where, struct err *e)
{
	char *line = NULL;
	size_t room = 0;
	unsigned no = 0;
	int ret = 0;

	while (!ret && getline(&line, &room, f) >= 0)
		ret = read_line(c, line, where, ++no, e);
	if (!ret && ferror(f))
		ret = err_set(e, -EIO, "%s: cannot be read", where);
	free(line);
	return ret;
}
