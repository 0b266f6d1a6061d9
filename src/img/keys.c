// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "key=value,key=value" (a comma of a value is written twice; a key alone is
 * "on"), and numbers with the suffixes of qemu-img.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "img/img.h"

int img_keys_set(struct img_keys *k, const char *key, const char *val, struct err *e)
{
	struct img_key_value *more, *kv = NULL;
	char *copy = strdup(val);

	for (unsigned i = 0; i < k->n; i++)
		if (!strcmp(k->kv[i].key, key))
			kv = &k->kv[i];
	if (copy && !kv && (more = realloc(k->kv, (k->n + 1) * sizeof(*more)))) {
		k->kv = more;
		more[k->n] = (struct img_key_value){ .key = strdup(key) };
		if (more[k->n].key)
			kv = &more[k->n++];
	}
	if (!copy || !kv) {
		free(copy);
		return err_set(e, -ENOMEM, "out of memory");
	}
	free(kv->val);
	kv->val = copy;
	return 0;
}

int img_keys_add(struct img_keys *k, const char *text, struct err *e)
{
	char *buf = malloc(strlen(text) + 1), *to, *eq;
	int ret = 0;

	if (!buf)
		return err_set(e, -ENOMEM, "out of memory");
	do {
		for (to = buf; *text && (*text != ',' || text[1] == ','); text++) {
			if (*text == ',')
				text++;
			*to++ = *text;
		}
		*to = '\0';
		eq = strchr(buf, '=');
		if (eq)
			*eq = '\0';
		if (*buf)
			ret = img_keys_set(k, buf, eq ? eq + 1 : "on", e);
		else if (eq)
			ret = err_set(e, -EINVAL, "'=%.40s' has no name in front of it", eq + 1);
	} while (!ret && *text++ == ',');
	free(buf);
	return ret;
}

void img_keys_free(struct img_keys *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		free(k->kv[i].key);
		free(k->kv[i].val);
	}
	free(k->kv);
	*k = (struct img_keys){ 0 };
}

const char *img_keys_get(const struct img_keys *k, const char *key)
{
	for (unsigned i = 0; i < k->n; i++)
		if (!strcmp(k->kv[i].key, key))
			return k->kv[i].val;
	return NULL;
}

int img_keys_size(const struct img_keys *k, const char *key, uint64_t *out, struct err *e)
{
	const char *val = img_keys_get(k, key);

	return val ? img_size(val, key, out, e) : 0;
}

int img_keys_bool(const struct img_keys *k, const char *key, bool *out, struct err *e)
{
	static const char *const yes[] = { "on", "yes", "true", "y" }, *const no[] = { "off", "no", "false", "n" };
	const char *val = img_keys_get(k, key);

	if (!val)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(yes); i++) {
		if (!strcmp(val, yes[i]) || !strcmp(val, no[i])) {
			*out = !strcmp(val, yes[i]);
			return 0;
		}
	}
	return err_set(e, -EINVAL, "%s=%.40s: it is on or off", key, val);
}

int img_keys_word(const struct img_keys *k, const char *key, const char *const *words, unsigned *out, struct err *e)
{
	const char *val = img_keys_get(k, key);
	char list[200] = "";

	if (!val)
		return 0;
	for (unsigned i = 0; words[i]; i++) {
		size_t at = strlen(list);

		if (!strcmp(val, words[i])) {
			*out = i;
			return 0;
		}
		snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", words[i]);
	}
	return err_set(e, -EINVAL, "%s=%.40s: it is one of %s", key, val, list);
}

static int bad_size(const char *text, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "%s: '%.40s' is not a size: a number, perhaps with one of the suffixes k, M, G, T, P, E", what,
		       text);
}

int img_size(const char *text, const char *what, uint64_t *out, struct err *e)
{
	static const char suffixes[] = "bkmgtpe";
	bool hex = text[0] == '0' && tolower((unsigned char)text[1]) == 'x';
	unsigned shift = 0;
	unsigned long long whole;
	double fraction = 0;
	uint64_t v;
	char *end;
	const char *s;

	if (!isdigit((unsigned char)*text))
		return bad_size(text, what, e);
	errno = 0;
	whole = strtoull(text, &end, hex ? 16 : 10);
	if (errno == ERANGE || whole > INT64_MAX)
		return err_set(e, -ERANGE, "%s: '%.40s' is too large", what, text);
	if (*end == '.' && !hex && isdigit((unsigned char)end[1])) {
		double unit = 0.1;

		for (end++; isdigit((unsigned char)*end); end++, unit /= 10)
			fraction += (*end - '0') * unit;
	}
	s = *end ? strchr(suffixes, tolower((unsigned char)*end)) : suffixes;
	if (!s || (*end && end[1]))
		return bad_size(text, what, e);
	shift = (unsigned)(s - suffixes) * 10;
	if (fraction > 0 && !shift)
		return bad_size(text, what, e);
	if (mul_overflows(whole, BIT64(shift), &v) || v > INT64_MAX)
		return err_set(e, -ERANGE, "%s: '%.40s' is too large", what, text);
	*out = v + (uint64_t)(fraction * (double)BIT64(shift));
	return 0;
}

int img_number(const char *text, const char *what, uint64_t max, uint64_t *out, struct err *e)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end)
		return err_set(e, -EINVAL, "%s: '%.40s' is not a number", what, text);
	if (errno || v > max)
		return err_set(e, -ERANGE, "%s: '%.40s' is more than %llu", what, text, (unsigned long long)max);
	*out = v;
	return 0;
}

const char *img_size_text(uint64_t bytes, char *buf, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned u = 0;

	/* Three digits that matter; what would print as 1e+03 goes to the next unit. */
	while (u < 6 && (double)bytes / (double)BIT64(10 * u) >= (u ? 999.5 : 1000.0))
		u++;
	snprintf(buf, len, "%0.3g %s", (double)bytes / (double)BIT64(10 * u), units[u]);
	return buf;
}
