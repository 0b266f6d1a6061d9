/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing a VMware descriptor: lines of "key = value" and, for the extents,
 * ACCESS SECTORS KIND "FILE" [OFFSET].  Keys that say nothing about where the data
 * lies (geometry, adapter, change tracking) are passed over.
 */
#include "block/foreign/vmdk_desc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"

static int desc_bad(struct vmdk_desc *d, int code, const char *what, const char *arg)
{
	snprintf(d->bad, sizeof(d->bad), "%s '%.60s'", what, arg);
	return code;
}

/* The next word of a line, or what is between quotes; NULL at its end. Moves *at on. */
static char *next_word(char **at)
{
	char *p = *at, *word;
	bool quoted;

	while (*p == ' ' || *p == '\t')
		p++;
	if (!*p)
		return NULL;
	quoted = *p == '"';
	word = p += quoted;
	p += strcspn(p, quoted ? "\"" : " \t");
	*at = *p ? p + 1 : p;
	*p = '\0';
	return word;
}

/* Decimal, below 2^54, so that bytes do not overflow. */
static bool sectors_of(const char *word, uint64_t *out)
{
	char *end;

	if (!word || !isdigit((unsigned char)*word))
		return false;
	errno = 0;
	*out = strtoull(word, &end, 10);
	return !errno && !*end && *out < BIT64(54);
}

static const struct {
	const char *word;
	enum vmdk_kind kind;
} kinds[] = {
	{ "SPARSE", VMDK_SPARSE }, { "VMFSSPARSE", VMDK_SPARSE }, { "FLAT", VMDK_FLAT }, { "VMFS", VMDK_FLAT }, { "ZERO", VMDK_ZEROS },
};

static int extent_kind(struct vmdk_desc *d, const char *word, enum vmdk_kind *out)
{
	for (unsigned i = 0; word && i < ARRAY_LEN(kinds); i++)
		if (!strcmp(kinds[i].word, word)) {
			*out = kinds[i].kind;
			return 0;
		}
	return desc_bad(d, -ENOTSUP, "it has an extent of a kind that is not known here:", word ? word : "");
}

static int parse_extent(struct vmdk_desc *d, char *line)
{
	char *at = line, *access = next_word(&at), *sectors = next_word(&at), *kind = next_word(&at), *file, *offset;
	struct vmdk_extent_desc e = { 0 }, *more;
	int ret = extent_kind(d, kind, &e.kind);

	if (ret)
		return ret;
	if (!strcmp(access, "NOACCESS"))
		return desc_bad(d, -ENOTSUP, "it has an extent that must not be read:", kind);
	if (!sectors_of(sectors, &e.sectors) || !e.sectors)
		return desc_bad(d, -EINVAL, "an extent's size", sectors ? sectors : "");
	file = next_word(&at);
	offset = next_word(&at);
	if (e.kind != VMDK_ZEROS && (!file || !*file))
		return desc_bad(d, -EINVAL, "an extent without a file:", kind);
	if (e.kind == VMDK_FLAT && offset && !sectors_of(offset, &e.offset))
		return desc_bad(d, -EINVAL, "an extent's offset", offset);
	if (d->n == VMDK_MAX_EXTENTS)
		return desc_bad(d, -EFBIG, "more extents than are read here:", "4096");
	if (!(d->n & (d->n - 1))) {
		more = realloc(d->extent, MAX(d->n * 2, 1u) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		d->extent = more;
	}
	if (e.kind != VMDK_ZEROS) {
		e.file = strdup(file);
		if (!e.file)
			return -ENOMEM;
	}
	d->extent[d->n++] = e;
	return 0;
}

static int parse_value(struct vmdk_desc *d, const char *key, const char *value)
{
	if (!strcasecmp(key, "version")) {
		if (strcmp(value, "1") != 0 && strcmp(value, "2") != 0 && strcmp(value, "3") != 0 && strcmp(value, "4") != 0)
			return desc_bad(d, -ENOTSUP, "its descriptor has a version that is not known here:", value);
	} else if (!strcasecmp(key, "CID")) {
		d->cid = (uint32_t)strtoul(value, NULL, 16);
	} else if (!strcasecmp(key, "parentCID")) {
		d->parent_cid = (uint32_t)strtoul(value, NULL, 16);
	} else if (!strcasecmp(key, "createType")) {
		snprintf(d->type, sizeof(d->type), "%s", value);
	} else if (!strcasecmp(key, "parentFileNameHint")) {
		free(d->parent_hint);
		d->parent_hint = strdup(value);
		if (!d->parent_hint)
			return -ENOMEM;
	}
	return 0;
}

static int parse_line(struct vmdk_desc *d, char *line)
{
	static const char *const access[] = { "RW ", "RDONLY ", "NOACCESS " };
	char *key, *value;

	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(access); i++)
		if (!strncmp(line, access[i], strlen(access[i])))
			return parse_extent(d, line);
	value = strchr(line, '=');
	if (!value)
		return 0;
	*value++ = '\0';
	key = next_word(&line);
	value = next_word(&value);
	return key && value ? parse_value(d, key, value) : 0;
}

int vmdk_desc_parse(char *text, size_t len, struct vmdk_desc *d)
{
	char *end = memchr(text, '\0', len), *line = text, *next;
	int ret = 0;

	*d = (struct vmdk_desc){ .parent_cid = VMDK_NO_PARENT };
	/* Padded with zeros where it is part of a file; always ends with one here. */
	if (!end)
		return desc_bad(d, -EINVAL, "its descriptor", "does not end");
	for (; line < end && !ret; line = next) {
		size_t n = strcspn(line, "\r\n");

		next = line + n + (line + n < end);
		line[n] = '\0';
		ret = parse_line(d, line);
	}
	return ret;
}

void vmdk_desc_fini(struct vmdk_desc *d)
{
	for (unsigned i = 0; i < d->n; i++)
		free(d->extent[i].file);
	free(d->extent);
	free(d->parent_hint);
	*d = (struct vmdk_desc){ 0 };
}
