// SPDX-License-Identifier: GPL-2.0-or-later
/* Cutting a stream into JSON texts: see split.h. */
#include "control/split.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define KEPT 65536u		/* a buffer up to this size is kept for the next text */

static void put(struct ctl_split *s, char c)
{
	if (s->why)
		return;
	if (s->len == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 512;
		char *p = s->cap < CTL_MAX_MESSAGE ? realloc(s->buf, cap) : NULL;

		if (!p) {
			s->why = s->cap < CTL_MAX_MESSAGE ? "out of memory" : "JSON token size limit exceeded";
			return;
		}
		s->buf = p;
		s->cap = cap;
	}
	s->buf[s->len++] = c;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* Inside a string.  True: the text ends here, it is none. */
static bool string_byte(struct ctl_split *s, char c)
{
	if ((unsigned char)c < 0x20) {
		s->why = s->why ? s->why : "JSON parse error, invalid character in a string";
		return c == '\n' || c == '\r';
	}
	if (s->escape) {
		s->escape = false;
		if (c != '\'')
			put(s, '\\');
		put(s, c);
	} else if (c == '\\') {
		s->escape = true;
	} else if (c == s->quote) {
		s->quote = 0;
		put(s, '"');
	} else {
		if (c == '"')
			put(s, '\\');
		put(s, c);
	}
	return false;
}

/* Outside of strings.  True: the text ends with this byte. */
static bool plain_byte(struct ctl_split *s, char c)
{
	if (c == '"' || c == '\'') {
		s->quote = c;
		put(s, '"');
		return false;
	}
	put(s, c);
	/* No value comes without one of these before it. */
	if ((c == '{' || c == '[' || c == ',') && ++s->values > CTL_MAX_VALUES && !s->why)
		s->why = "JSON token count limit exceeded";
	if (c == '{' || c == '[') {
		if (++s->depth > CTL_MAX_DEPTH && !s->why)
			s->why = "JSON nesting depth limit exceeded";
	} else if ((c == '}' || c == ']') && s->depth) {
		return --s->depth == 0 && !s->scalar;
	}
	return false;
}

/* One byte; true: the text is complete. */
static bool byte(struct ctl_split *s, char c)
{
	if (!s->begun) {
		if (is_space(c))
			return false;
		s->begun = true;
		s->scalar = c != '{' && c != '[';
	}
	if (s->quote)
		return string_byte(s, c);
	/* What is no object or array ends at the first space. */
	if (s->scalar && is_space(c))
		return true;
	return plain_byte(s, c);
}

enum ctl_split_result ctl_split_feed(struct ctl_split *s, const char *p, size_t n, size_t *used)
{
	for (size_t i = 0; i < n; i++) {
		if (!byte(s, p[i]))
			continue;
		*used = i + 1;
		return s->why ? CTL_SPLIT_BAD : CTL_SPLIT_TEXT;
	}
	*used = n;
	return CTL_SPLIT_MORE;
}

void ctl_split_next(struct ctl_split *s)
{
	char *buf = s->buf;
	size_t cap = s->cap;

	if (cap > KEPT) {
		free(buf);
		buf = NULL;
		cap = 0;
	}
	*s = (struct ctl_split){ .buf = buf, .cap = cap };
}

void ctl_split_fini(struct ctl_split *s)
{
	free(s->buf);
	*s = (struct ctl_split){ 0 };
}
