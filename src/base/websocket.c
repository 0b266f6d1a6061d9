// SPDX-License-Identifier: GPL-2.0-or-later
/* See websocket.h. */
#include "base/websocket.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/bits.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* The value of a header in the request, its length; NULL: not there. */
static const char *header(const char *req, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *line = strstr(req, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
		const char *p = line + 2;

		if (strncasecmp(p, name, n) || p[n] != ':')
			continue;
		p += n + 1;
		p += strspn(p, " \t");
		*len = strcspn(p, "\r\n");
		return p;
	}
	return NULL;
}

/* Section 4.2.2, 5.4: 28 characters. */
static void accept_key(const char *key, size_t len, char out[29])
{
	uint8_t sum[EVP_MAX_MD_SIZE] = { 0 };
	char text[128];
	unsigned n = 0;

	snprintf(text, sizeof(text), "%.*s" GUID, (int)len, key);
	EVP_Digest(text, strlen(text), sum, &n, EVP_sha1(), NULL);
	EVP_EncodeBlock((unsigned char *)out, sum, 20);
}

int ws_open(const uint8_t *p, size_t n, char answer[WS_ANSWER_MAX], size_t *used)
{
	size_t have = MIN(n, (size_t)WS_REQUEST_MAX), len = 0, plen = 0;
	char req[WS_REQUEST_MAX + 1], accept[29];
	const char *end, *key, *proto;

	answer[0] = '\0';
	memcpy(req, p, have);
	req[have] = '\0';
	/* Who does not speak HTTP is not waited for. */
	if (strlen(req) != have)
		return -EPROTO;
	end = strstr(req, "\r\n\r\n");
	if (!end && !strncmp(req, "GET ", MIN(have, 4u)))
		return have < WS_REQUEST_MAX ? 0 : -EPROTO;
	key = end ? header(req, "Sec-WebSocket-Key", &len) : NULL;
	if (strncmp(req, "GET ", 4) || !key || len > 64 || !header(req, "Upgrade", &plen)) {
		snprintf(answer, WS_ANSWER_MAX, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
		return -EPROTO;
	}
	accept_key(key, len, accept);
	proto = header(req, "Sec-WebSocket-Protocol", &plen);
	snprintf(answer, WS_ANSWER_MAX, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: %s\r\n%s\r\n", accept,
		 proto && memmem(proto, plen, "binary", 6) ? "Sec-WebSocket-Protocol: binary\r\n" : "");
	*used = (size_t)(end - req) + 4;
	return 1;
}

static unsigned head_len(const struct ws_in *w)
{
	unsigned len = w->n_head < 2 ? 0 : w->head[1] & 0x7f;

	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

/* Section 5.2; clients mask (5.1), and control frames are short and whole (5.5). */
static int read_head(struct ws_in *w)
{
	unsigned len = w->head[1] & 0x7f, op = w->head[0] & 0x0f, at = 2, bytes = len == 126 ? 2 : len == 127 ? 8 : 0;

	w->left = bytes ? 0 : len;
	while (bytes--)
		w->left = w->left << 8 | w->head[at++];
	w->body = true;
	w->turn = w->n_control = 0;
	if (!(w->head[1] & 0x80) || w->head[0] & 0x70 || w->left >> 63)
		return -EPROTO;
	if (op >= WS_CLOSE)
		return op <= WS_PONG && w->left <= WS_CONTROL_MAX && w->head[0] & 0x80 ? 0 : -EPROTO;
	return op == WS_MORE || op == WS_BINARY ? 0 : -EPROTO;
}

long ws_take(struct ws_in *w, const uint8_t *p, size_t n, uint8_t *out, size_t *n_out, enum ws_op *event)
{
	size_t at = 0;

	*n_out = 0;
	*event = 0;
	while (at < n || w->body) {
		bool control;

		if (!w->body) {
			w->head[w->n_head++] = p[at++];
			if (w->n_head >= 2 && w->n_head == head_len(w) && read_head(w))
				return -EPROTO;
			continue;
		}
		control = (w->head[0] & 0x0f) >= WS_CLOSE;
		for (; w->left && at < n; w->left--) {
			uint8_t byte = p[at++] ^ w->head[w->n_head - 4 + (w->turn++ & 3)];

			if (control)
				w->control[w->n_control++] = byte;
			else
				out[(*n_out)++] = byte;
		}
		if (w->left)
			break;
		w->body = false;
		w->n_head = 0;
		if (control && (w->head[0] & 0x0f) != WS_PONG) {
			*event = w->head[0] & 0x0f;
			break;
		}
	}
	return (long)at;
}

size_t ws_head(uint8_t head[WS_HEAD_MAX], enum ws_op op, size_t n)
{
	unsigned bytes = n < 126 ? 0 : n < 65536 ? 2 : 8;

	head[0] = (uint8_t)(0x80 | op);
	head[1] = (uint8_t)(bytes == 0 ? n : bytes == 2 ? 126 : 127);
	for (unsigned i = 0; i < bytes; i++)
		head[2 + i] = (uint8_t)((uint64_t)n >> 8 * (bytes - 1 - i));
	return 2 + bytes;
}
