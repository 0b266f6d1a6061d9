// SPDX-License-Identifier: GPL-2.0-or-later
/* Cursors over messages: see wire.h. */
#include "p9/wire.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

const uint8_t *p9_get_bytes(struct p9_in *c, size_t n)
{
	const uint8_t *p = c->p;

	if ((size_t)(c->end - c->p) < n) {
		c->err = c->err ? c->err : -EPROTO;
		c->p = c->end;
		return NULL;
	}
	c->p += n;
	return p;
}

static uint64_t get(struct p9_in *c, unsigned len)
{
	const uint8_t *p = p9_get_bytes(c, len);

	return p ? ld_le(p, len) : 0;
}

uint8_t p9_get8(struct p9_in *c) { return (uint8_t)get(c, 1); }
uint16_t p9_get16(struct p9_in *c) { return (uint16_t)get(c, 2); }
uint32_t p9_get32(struct p9_in *c) { return (uint32_t)get(c, 4); }
uint64_t p9_get64(struct p9_in *c) { return get(c, 8); }

static void fail(struct p9_in *c, int err)
{
	c->err = c->err ? c->err : err;
}

void p9_get_text(struct p9_in *c, char *buf, size_t size)
{
	size_t len = p9_get16(c);
	const uint8_t *p = p9_get_bytes(c, len);

	buf[0] = '\0';
	if (!p)
		return;
	if (len >= size) {
		fail(c, -ENAMETOOLONG);
		return;
	}
	if (memchr(p, '\0', len)) {
		fail(c, -EINVAL);
		return;
	}
	memcpy(buf, p, len);
	buf[len] = '\0';
}

void p9_get_step(struct p9_in *c, char *buf)
{
	p9_get_text(c, buf, P9_NAME);
	if (!c->err && !*buf)
		fail(c, -ENOENT);
	if (strchr(buf, '/'))
		fail(c, -EINVAL);
}

void p9_get_name(struct p9_in *c, char *buf)
{
	p9_get_step(c, buf);
	if (!strcmp(buf, ".") || !strcmp(buf, ".."))
		fail(c, -EINVAL);
}

size_t p9_room(const struct p9_out *c)
{
	return (size_t)(c->end - c->p);
}

static void put(struct p9_out *c, unsigned len, uint64_t v)
{
	if (p9_room(c) < len) {
		c->full = true;
		return;
	}
	st_le(c->p, len, v);
	c->p += len;
}

void p9_put8(struct p9_out *c, uint8_t v) { put(c, 1, v); }
void p9_put16(struct p9_out *c, uint16_t v) { put(c, 2, v); }
void p9_put32(struct p9_out *c, uint32_t v) { put(c, 4, v); }
void p9_put64(struct p9_out *c, uint64_t v) { put(c, 8, v); }

void p9_put_qid(struct p9_out *c, const struct p9_qid *q)
{
	p9_put8(c, q->type);
	p9_put32(c, q->version);
	p9_put64(c, q->path);
}

void p9_put_text(struct p9_out *c, const char *text, size_t len)
{
	if (len > UINT16_MAX || p9_room(c) < len + 2) {
		c->full = true;
		return;
	}
	p9_put16(c, (uint16_t)len);
	memcpy(c->p, text, len);
	c->p += len;
}
