// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The clipboard of one client: ClientCutText and ServerCutText (RFC 6143, 7.5.6 and 7.6.4), and the extended clipboard
 * of rfbproto ("Extended Clipboard Pseudo-encoding"), of which text is known.
 *
 * An extended client is told that there is something and asks for it when it pastes, and the other way round; the server
 * takes a text only when it has asked for it, so nothing is inflated for nobody.  A plain client is sent each text as a
 * whole, in Latin-1.  Clients that only look take no part: what is on a clipboard is more than the screen shows.  What is
 * to be said waits while a client does not read, as one bit each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "display/vnc/vnc_int.h"

#define MSG_CUT 3				/* ServerCutText */
#define TEXT (1u << 0)
enum { CAPS = 1 << 24, REQUEST = 1 << 25, PEEK = 1 << 26, NOTIFY = 1 << 27, PROVIDE = 1 << 28 };
#define WIRE_MAX (CLIPBOARD_RAW_MAX + (64u << 10))	/* with what deflate adds to what cannot be compressed */

/* ---- to the client ---- */

static void put_head(struct vnc_buf *b, uint32_t length)
{
	vnc_put8(b, MSG_CUT);
	vnc_put(b, "\0\0\0", 3);
	vnc_put32(b, length);
}

/* A message without data but, of CAPS, the size of a text that nobody asked for. */
static void put_flags(struct vnc_client *c, uint32_t flags)
{
	put_head(&c->c.out, flags & CAPS ? -8u : -4u);
	vnc_put32(&c->c.out, flags);
	if (flags & CAPS)
		vnc_put32(&c->c.out, 0);
}

/* A character off UTF-8 that clipboard.c has checked. */
static uint32_t next_char(const uint8_t **p)
{
	const uint8_t *s = *p;
	unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	for (unsigned i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3f);
	*p = s + n;
	return c;
}

static void put_latin1(struct vnc_buf *b, const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + len;
	uint32_t n = 0;

	while (p < end) {
		next_char(&p);
		n++;
	}
	put_head(b, n);
	for (p = (const uint8_t *)text; p < end;) {
		uint32_t c = next_char(&p);

		vnc_put8(b, c < 256 ? c : '?');
	}
}

/* Size, text with CRLF, NUL: what PROVIDE carries, before it is compressed. */
static void put_provided(struct vnc_buf *b, const char *text, size_t len)
{
	vnc_put32(b, 0);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			vnc_put8(b, '\r');
		vnc_put8(b, (uint8_t)text[i]);
	}
	vnc_put8(b, 0);
	if (!b->failed) {
		uint32_t n = (uint32_t)b->len - 4;

		for (unsigned i = 0; i < 4; i++)
			b->data[i] = (uint8_t)(n >> (24 - 8 * i));
	}
}

static void put_extended(struct vnc_buf *b, const char *text, size_t len)
{
	struct vnc_buf plain = { 0 };
	uLongf packed;
	uint8_t *to;

	put_provided(&plain, text, len);
	packed = compressBound((uLong)plain.len);
	to = plain.failed ? NULL : malloc(packed);
	if (!to || compress2(to, &packed, plain.data, (uLong)plain.len, 1) != Z_OK) {
		b->failed = true;
	} else {
		put_head(b, -(uint32_t)(packed + 4));
		vnc_put32(b, PROVIDE | TEXT);
		vnc_put(b, to, packed);
	}
	free(to);
	vnc_buf_free(&plain);
}

/* False: the text is still to come. */
static bool give(struct vnc_client *c)
{
	size_t len;
	char *text;
	int ret = clipboard_get(&c->clip, &text, &len);

	if (ret)
		return ret != -EAGAIN;
	if (c->has_clip)
		put_extended(&c->c.out, text, len);
	else
		put_latin1(&c->c.out, text, len);
	free(text);
	c->c.update = vnc_conn_pending(&c->c);		/* not an answer that nobody reads */
	return true;
}

static void ask(struct vnc_client *c, uint64_t serial)
{
	if (!c->has_clip || !(c->clip_caps & REQUEST))
		clipboard_drop(&c->clip);
	else if (c->clip_asked != serial)
		put_flags(c, REQUEST | TEXT);
	c->clip_asked = serial;
}

static void tell(struct vnc_client *c, const struct clipboard_state *s)
{
	bool done = true;

	if (!c->has_clip)
		done = !s->held || give(c);
	else if (c->clip_caps & NOTIFY)
		put_flags(c, NOTIFY | (s->held ? TEXT : 0));
	else
		c->clip_wanted = s->held;
	if (done)
		c->clip_told = s->serial;
}

void vnc_cut_pump(struct vnc_client *c)
{
	struct clipboard_state s;

	if (!c->clip.c || !c->clip_ready || vnc_conn_pending(&c->c) > VNC_OUT_BUSY)
		return;
	clipboard_look(&c->clip, &s);
	if (s.asked)
		ask(c, s.serial);
	if (!s.mine && c->clip_told != s.serial)
		tell(c, &s);
	if (c->clip_wanted && give(c))
		c->clip_wanted = false;
}

static void on_changed(void *opaque)
{
	struct vnc_client *c = opaque;

	vnc_cut_pump(c);
	vnc_client_flush(c);
}

void vnc_cut_join(struct vnc_client *c)
{
	if (c->v->clip && !c->look_only)
		clipboard_join(c->v->clip, &c->clip, c->v->loop, on_changed, c);
}

void vnc_cut_leave(struct vnc_client *c)
{
	clipboard_leave(&c->clip);
	vnc_buf_free(&c->cut);
}

void vnc_cut_extended(struct vnc_client *c)
{
	if (!c->clip.c || c->has_clip)
		return;
	c->has_clip = true;
	c->clip_caps = REQUEST | NOTIFY | PROVIDE | TEXT;	/* what a client can that does not say */
	put_flags(c, CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | TEXT);
}

/* ---- from the client ---- */

/* A text of the client's: it has the clipboard. */
static void take_latin1(struct vnc_client *c)
{
	struct vnc_buf text = { 0 };

	for (size_t i = 0; i < c->cut.len; i++) {
		uint8_t b = c->cut.data[i];

		if (b & 0x80)
			vnc_put8(&text, 0xc0u | b >> 6);
		vnc_put8(&text, b & 0x80 ? 0x80u | (b & 0x3f) : b);
	}
	clipboard_take(&c->clip);
	clipboard_put(&c->clip, text.failed ? NULL : text.data, text.len);
	vnc_buf_free(&text);
}

/* Inflates n bytes; false: there are not so many. */
static bool inflate_some(z_stream *z, uint8_t *to, size_t n)
{
	z->next_out = to;
	z->avail_out = (uInt)n;
	while (z->avail_out) {
		int r = inflate(z, Z_SYNC_FLUSH);

		if (r != Z_OK)
			return r == Z_STREAM_END && !z->avail_out;
	}
	return true;
}

/* However much there is behind it, no more than the size says is inflated. */
static void take_provided(struct vnc_client *c, const uint8_t *p, size_t n)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)n };
	uint8_t size[4], *text = NULL;
	size_t len = 0;

	if (inflateInit(&z) == Z_OK) {
		if (inflate_some(&z, size, sizeof(size)))
			len = be32(size);
		if (len && len <= WIRE_MAX)
			text = malloc(len);
		if (text && !inflate_some(&z, text, len)) {
			free(text);
			text = NULL;
		}
		inflateEnd(&z);
	}
	clipboard_put(&c->clip, text, len);
	free(text);
}

static void take_extended(struct vnc_client *c)
{
	const uint8_t *p = c->cut.data;
	struct clipboard_state s;
	uint32_t flags;

	if (c->cut.len < 4)
		return;
	flags = be32(p);
	if (flags & CAPS) {
		c->clip_caps = flags;
		return;
	}
	clipboard_look(&c->clip, &s);
	switch (flags & (REQUEST | PEEK | NOTIFY | PROVIDE)) {
	case REQUEST:
		c->clip_wanted = flags & TEXT;
		break;
	case PEEK:
		put_flags(c, NOTIFY | (s.held && !s.mine ? TEXT : 0));
		break;
	case NOTIFY:
		if (flags & TEXT)
			clipboard_take(&c->clip);
		else
			clipboard_drop(&c->clip);
		break;
	case PROVIDE:
		if (s.asked && flags & TEXT)
			take_provided(c, p + 4, c->cut.len - 4);
		else if (s.asked)
			clipboard_drop(&c->clip);
		break;
	default:
		break;
	}
}

int vnc_cut_begin(struct vnc_client *c, int32_t length)
{
	uint32_t n = length < 0 ? -(uint32_t)length : (uint32_t)length;

	if (n > VNC_MAX_CUT_TEXT)
		return -EPROTO;
	c->cut_extended = length < 0;
	if (!c->clip.c || (c->cut_extended && !c->has_clip)) {
		c->skip = n;			/* no way into the guest, or not for this one */
	} else if (!n || n > WIRE_MAX) {
		clipboard_drop(&c->clip);
		c->skip = n;
	} else {
		c->cut_left = n;
	}
	return 0;
}

void vnc_cut_add(struct vnc_client *c, const uint8_t *p, size_t n)
{
	vnc_put(&c->cut, p, n);
	c->cut_left -= (uint32_t)n;
	if (c->cut_left)
		return;
	if (!c->cut.failed && c->cut_extended)
		take_extended(c);
	else if (!c->cut.failed)
		take_latin1(c);
	vnc_buf_free(&c->cut);
}
