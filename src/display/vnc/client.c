// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One client: handshake, authentication, its messages.
 *
 * Bytes gather until a message is whole (messages that may be long are skipped as
 * they come), are handled, and the answers gather in the connection's buffer.
 * What makes no sense ends the connection; nothing a client says reaches another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "display/keys.h"
#include "display/png.h"
#include "display/vnc/vnc_int.h"

#define HANDSHAKE_NS 30000000000ll
#define MAX_ENCODINGS 1024u

enum { SEC_NONE = 1, SEC_VNC = 2, SEC_VENCRYPT = 19 };
enum { VENCRYPT_TLS_NONE = 257, VENCRYPT_TLS_VNC, VENCRYPT_X509_NONE = 260, VENCRYPT_X509_VNC };
enum { MSG_FORMAT = 0, MSG_ENCODINGS = 2, MSG_REQUEST, MSG_KEY, MSG_POINTER, MSG_CUT, MSG_CONTINUOUS = 150, MSG_FENCE = 248,
       MSG_SET_SIZE = 251, MSG_QEMU = 255 };
#define FENCE_REQUEST 0x80000000u
#define FENCE_KNOWN 0x00000007u

/* A handler: bytes used; 0: not all is there yet; below 0: the connection ends. */
typedef int (*handler)(struct vnc_client *c, const uint8_t *p, size_t have);

/* ---- security ---- */

static void put_text(struct vnc_buf *b, const char *text)
{
	vnc_put32(b, (uint32_t)strlen(text));
	vnc_put(b, text, strlen(text));
}

/* 7.1.3: the reason is version 3.8's. */
static int refuse(struct vnc_client *c, const char *why)
{
	vnc_put32(&c->c.out, 1);
	if (c->minor >= 8)
		put_text(&c->c.out, why);
	c->state = VNC_ENDING;
	return 0;
}

static int accepted(struct vnc_client *c, bool say)
{
	if (say)
		vnc_put32(&c->c.out, 0);
	c->look_only |= c->v->read_only;
	c->state = VNC_INIT;
	return 0;
}

static int ask_password(struct vnc_client *c)
{
	if (!vnc_challenge(c->challenge))
		return -EIO;
	vnc_put(&c->c.out, c->challenge, sizeof(c->challenge));
	c->state = VNC_AUTH;
	return 0;
}

/* What is offered: with TLS only VeNCrypt, unless TLS is there already (wss). */
static unsigned security(const struct vnc_client *c)
{
	if (c->v->tls && !c->local_tls)
		return SEC_VENCRYPT;
	return vnc_has_password(c->v) ? SEC_VNC : SEC_NONE;
}

static int begin_security(struct vnc_client *c, unsigned type)
{
	switch (type) {
	case SEC_NONE: return accepted(c, c->minor >= 8);
	case SEC_VNC: return ask_password(c);
	default:
		vnc_put16(&c->c.out, 2);	/* VeNCrypt 0.2 */
		c->state = VNC_VENCRYPT_VERSION;
		return 0;
	}
}

static int on_version(struct vnc_client *c, const uint8_t *p, size_t have)
{
	unsigned type = security(c);

	if (have < 12)
		return 0;
	if (memcmp(p, "RFB 003.", 8) || p[11] != '\n')
		return -EPROTO;
	c->minor = p[10] >= '8' ? 8 : p[10] == '7' ? 7 : 3;
	if (c->minor == 3) {
		if (type == SEC_VENCRYPT)
			return -EPROTO;		/* the server decides there, and the old version knows no TLS */
		vnc_put32(&c->c.out, type);
		return begin_security(c, type) ? -EIO : 12;
	}
	vnc_put8(&c->c.out, 1);
	vnc_put8(&c->c.out, type);
	c->state = VNC_SECURITY;
	return 12;
}

static int on_security(struct vnc_client *c, const uint8_t *p, size_t have)
{
	int r;

	if (p[0] != security(c))
		return -EPROTO;
	r = begin_security(c, p[0]);
	return r ? r : 1;
}

static int on_vencrypt_version(struct vnc_client *c, const uint8_t *p, size_t have)
{
	bool ok;

	if (have < 2)
		return 0;
	ok = p[0] == 0 && p[1] == 2;
	vnc_put8(&c->c.out, !ok);
	if (!ok) {
		c->state = VNC_ENDING;
		return 2;
	}
	c->vencrypt = c->v->tls_x509 ? VENCRYPT_X509_NONE : VENCRYPT_TLS_NONE;
	c->vencrypt += vnc_has_password(c->v);
	vnc_put8(&c->c.out, 1);
	vnc_put32(&c->c.out, c->vencrypt);
	c->state = VNC_VENCRYPT_TYPE;
	return 2;
}

static int on_vencrypt_type(struct vnc_client *c, const uint8_t *p, size_t have)
{
	if (have < 4)
		return 0;
	if (be32(p) != c->vencrypt || have > 4)	/* nothing may come before TLS has begun */
		return -EPROTO;
	vnc_put8(&c->c.out, 1);
	c->state = VNC_TLS;
	return 4;
}

/* TLS is there: what its type says comes next. */
static int after_tls(struct vnc_client *c)
{
	return vnc_has_password(c->v) ? ask_password(c) : accepted(c, true);
}

static int on_auth(struct vnc_client *c, const uint8_t *p, size_t have)
{
	bool full, ok;

	if (have < VNC_CHALLENGE)
		return 0;
	ok = vnc_password_right(c->v, c->challenge, p, &full);
	memset(c->challenge, 0, sizeof(c->challenge));
	if (ok) {
		c->look_only = !full;
		accepted(c, true);
	} else {
		refuse(c, "the password is wrong");
	}
	return VNC_CHALLENGE;
}

/* ClientInit and ServerInit (7.3); everybody shares the screen. */
static int on_init(struct vnc_client *c, const uint8_t *p, size_t have)
{
	static const char name[] = "Lodge";
	const struct surface *s;

	loop_timer_cancel(&c->late);
	display_watch(c->v->d, &c->viewer);
	c->watching = true;
	display_refresh(c->v->d);
	display_lock(c->v->d);
	s = display_surface(c->v->d);
	c->width = s->width ? s->width : 640;
	c->height = s->width ? s->height : 480;
	display_unlock(c->v->d);
	vnc_format_init(&c->format);
	vnc_put16(&c->c.out, c->width);
	vnc_put16(&c->c.out, c->height);
	vnc_format_put(&c->format, &c->c.out);
	put_text(&c->c.out, name);
	vnc_cut_join(c);
	c->state = VNC_RUN;
	return 1;
}

/* ---- messages ---- */

static int on_format(struct vnc_client *c, const uint8_t *p, size_t have)
{
	if (have < 20)
		return 0;
	return vnc_format_set(&c->format, p + 4) ? 20 : -EPROTO;
}

static void forget_encodings(struct vnc_client *c)
{
	c->enc.kind = ENC_RAW;
	c->enc.level = 2;
	c->enc.quality = 0;
	c->has_size = c->has_ext_size = c->has_cursor = c->has_alpha = c->rel_pointer = c->has_pointer_type = false;
}

/* Pseudo-encodings, and what follows from their first appearance. */
static void take_pseudo(struct vnc_client *c, int32_t e)
{
	static const uint8_t quality[10] = { 15, 29, 41, 42, 62, 77, 79, 86, 92, 100 };

	switch (e) {
	case PSEUDO_SIZE: c->has_size = true; break;
	case PSEUDO_EXT_SIZE: c->has_ext_size = c->tell_size = true; break;
	case PSEUDO_CURSOR: c->has_cursor = c->tell_cursor = true; break;
	case PSEUDO_CURSOR_ALPHA: c->has_alpha = c->tell_cursor = true; break;
	case PSEUDO_QEMU_KEYS: c->tell_keys = true; break;
	case PSEUDO_CLIPBOARD: vnc_cut_extended(c); break;
	case PSEUDO_POINTER_TYPE:
		c->tell_pointer = c->has_pointer_type = true;
		c->rel_pointer = !input_has_abs(c->v->in);
		break;
	case PSEUDO_FENCE:
		if (!c->has_fence) {
			vnc_put8(&c->c.out, MSG_FENCE);
			vnc_put(&c->c.out, "\0\0\0", 3);
			vnc_put32(&c->c.out, FENCE_REQUEST);
			vnc_put8(&c->c.out, 0);
		}
		c->has_fence = true;
		break;
	case PSEUDO_CONTINUOUS:
		if (!c->has_continuous)
			vnc_put8(&c->c.out, MSG_CONTINUOUS);
		c->has_continuous = true;
		break;
	default:
		if (e >= -256 && e <= -247)
			c->enc.level = MIN(e + 256, 6);	/* more costs much and gives little */
		if (e >= -32 && e <= -23)
			c->enc.quality = quality[e + 32];
		break;
	}
}

static bool usable(int32_t e)
{
	return e == ENC_RAW || e == ENC_HEXTILE || e == ENC_ZRLE || e == ENC_TIGHT || (e == ENC_TIGHT_PNG && png_available());
}

static int on_encodings(struct vnc_client *c, const uint8_t *p, size_t have)
{
	bool chosen = false;
	unsigned n;

	if (have < 4)
		return 0;
	n = be16(p + 2);
	if (n > MAX_ENCODINGS)
		return -EPROTO;
	if (have < 4 + 4 * (size_t)n)
		return 0;
	forget_encodings(c);
	for (unsigned i = 0; i < n; i++) {
		int32_t e = (int32_t)be32(p + 4 + 4 * (size_t)i);

		if (usable(e) && !chosen) {		/* in order of what the client likes */
			c->enc.kind = e;
			chosen = true;
		} else {
			take_pseudo(c, e);
		}
	}
	if (!c->enc.level)
		c->enc.level = 1;
	c->clip_ready = true;
	return (int)(4 + 4 * n);
}

static struct display_rect rect(const uint8_t *p)
{
	return (struct display_rect){ be16(p), be16(p + 2), be16(p + 4), be16(p + 6) };
}

/* Asked anew before it was answered: both count. */
static int on_request(struct vnc_client *c, const uint8_t *p, size_t have)
{
	struct display_rect r;

	if (have < 10)
		return 0;
	r = rect(p + 2);
	if (!p[1]) {
		display_lock(c->v->d);
		display_mark(c->v->d, &c->viewer, &r);
		display_unlock(c->v->d);
	}
	if (c->wanted) {
		unsigned x2 = MAX(r.x + r.w, c->want.x + c->want.w), y2 = MAX(r.y + r.h, c->want.y + c->want.h);

		r.x = MIN(r.x, c->want.x);
		r.y = MIN(r.y, c->want.y);
		r.w = x2 - r.x;
		r.h = y2 - r.y;
	}
	c->want = r;
	c->wanted = true;
	c->clip_ready = true;		/* it will not say any more that it knows the extended one */
	vnc_wake(c->v, !p[1]);
	return 10;
}

static void press(struct vnc_client *c, const struct key_info *k, bool down)
{
	if (!k || c->look_only)
		return;
	if (input_key(c->v->in, k->evdev, down) && down)
		c->down[k->evdev / 64] |= BIT64(k->evdev % 64);
	else if (!down)
		c->down[k->evdev / 64] &= ~BIT64(k->evdev % 64);
	vnc_wake(c->v, false);
}

static int on_key(struct vnc_client *c, const uint8_t *p, size_t have)
{
	if (have < 8)
		return 0;
	press(c, key_by_keysym(be32(p + 4), NULL), p[1]);
	return 8;
}

/* QEMU's: a key by its number, which a layout does not change. */
static int on_qemu(struct vnc_client *c, const uint8_t *p, size_t have)
{
	const struct key_info *k;

	if (have < 12)
		return have < 2 || !p[1] ? 0 : -EPROTO;
	if (p[1])
		return -EPROTO;
	k = key_by_set1(be32(p + 8));
	press(c, k ? k : key_by_keysym(be32(p + 4), NULL), be16(p + 2));
	return 12;
}

static void point(struct vnc_client *c, int wheel)
{
	unsigned buttons = (c->buttons & 1 ? INPUT_LEFT : 0) | (c->buttons & 2 ? INPUT_MIDDLE : 0) | (c->buttons & 4 ? INPUT_RIGHT : 0);

	if (c->rel_pointer)
		input_rel(c->v->in, (int)c->x - 0x7fff, (int)c->y - 0x7fff, wheel, buttons);
	else
		input_abs(c->v->in, c->x, c->y, c->width, c->height, wheel, buttons);
}

static int on_pointer(struct vnc_client *c, const uint8_t *p, size_t have)
{
	unsigned pressed;

	if (have < 6)
		return 0;
	if (c->look_only)
		return 6;
	pressed = p[1] & ~c->buttons;
	c->buttons = p[1];
	c->x = be16(p + 2);
	c->y = be16(p + 4);
	point(c, !!(pressed & 8) - !!(pressed & 16));
	vnc_wake(c->v, false);
	return 6;
}

/* A negative length is the extended clipboard's. */
static int on_cut(struct vnc_client *c, const uint8_t *p, size_t have)
{
	int r;

	if (have < 8)
		return 0;
	r = vnc_cut_begin(c, (int32_t)be32(p + 4));
	return r ? r : 8;
}

static int on_continuous(struct vnc_client *c, const uint8_t *p, size_t have)
{
	if (have < 10)
		return 0;
	c->stream = rect(p + 2);
	if (c->continuous && !p[1])
		vnc_put8(&c->c.out, MSG_CONTINUOUS);	/* the end of them */
	c->continuous = p[1];
	vnc_wake(c->v, true);
	return 10;
}

/* Messages are handled and answered in order, which is all that a fence asks for. */
static int on_fence(struct vnc_client *c, const uint8_t *p, size_t have)
{
	uint32_t flags;

	if (have < 9 || have < 9u + p[8])
		return have >= 9 && p[8] > 64 ? -EPROTO : 0;
	if (p[8] > 64)
		return -EPROTO;
	flags = be32(p + 4);
	if (flags & FENCE_REQUEST) {
		vnc_put8(&c->c.out, MSG_FENCE);
		vnc_put(&c->c.out, "\0\0\0", 3);
		vnc_put32(&c->c.out, flags & FENCE_KNOWN);
		vnc_put8(&c->c.out, p[8]);
		vnc_put(&c->c.out, p + 9, p[8]);
	}
	return 9 + p[8];
}

/* Status 1: it is forbidden.  Where the adapter can, it comes as a change of size. */
static int on_set_size(struct vnc_client *c, const uint8_t *p, size_t have)
{
	size_t n;

	if (have < 8)
		return 0;
	n = 8 + 16 * (size_t)p[6];
	if (have < n)
		return 0;
	c->size_reason = 1;
	c->size_status = c->look_only || !display_wish(c->v->d, be16(p + 2), be16(p + 4));
	c->tell_size = true;
	vnc_wake(c->v, true);
	return (int)n;
}

static handler message(uint8_t type)
{
	switch (type) {
	case MSG_FORMAT: return on_format;
	case MSG_ENCODINGS: return on_encodings;
	case MSG_REQUEST: return on_request;
	case MSG_KEY: return on_key;
	case MSG_POINTER: return on_pointer;
	case MSG_CUT: return on_cut;
	case MSG_CONTINUOUS: return on_continuous;
	case MSG_FENCE: return on_fence;
	case MSG_SET_SIZE: return on_set_size;
	case MSG_QEMU: return on_qemu;
	default: return NULL;
	}
}

/* ---- the connection's events ---- */

static handler next_handler(const struct vnc_client *c, uint8_t first)
{
	switch (c->state) {
	case VNC_VERSION: return on_version;
	case VNC_SECURITY: return on_security;
	case VNC_VENCRYPT_VERSION: return on_vencrypt_version;
	case VNC_VENCRYPT_TYPE: return on_vencrypt_type;
	case VNC_AUTH: return on_auth;
	case VNC_INIT: return on_init;
	case VNC_RUN: return message(first);
	default: return NULL;
	}
}

/* Handles whole messages; 0, or an error that ends the connection. */
static int understand(struct vnc_client *c)
{
	struct vnc_buf *in = &c->c.in;

	while (vnc_left(in) && c->state != VNC_TLS && c->state != VNC_ENDING && !vnc_conn_full(&c->c)) {
		size_t skip = MIN(c->skip, vnc_left(in)), cut = MIN(c->cut_left, vnc_left(in));
		handler h;
		int n;

		if (skip) {
			vnc_drop(in, skip);
			c->skip -= skip;
			continue;
		}
		if (cut) {
			vnc_cut_add(c, in->data + in->at, cut);
			vnc_drop(in, cut);
			continue;
		}
		h = next_handler(c, in->data[in->at]);
		n = h ? h(c, in->data + in->at, vnc_left(in)) : -EPROTO;
		if (n < 0)
			return n;
		if (!n)
			return vnc_left(in) >= VNC_IN_MAX ? -EPROTO : 0;
		vnc_drop(in, (size_t)n);
	}
	return vnc_conn_full(&c->c) ? -ENOBUFS : 0;
}

/* VeNCrypt's handshake, or that of wss before anything else. */
static int do_tls(struct vnc_client *c)
{
	int r;

	if (vnc_conn_pending(&c->c))
		return -EAGAIN;		/* the answer to the type goes first, and plain */
	if (!c->c.tls) {
		r = tls_new(c->v->tls, c->c.fd, NULL, NULL, &c->c.tls);
		if (r)
			return r;
	}
	r = tls_handshake(c->c.tls);
	if (r)
		return r;
	c->c.tls_started = true;
	if (!c->local_tls)
		return after_tls(c);
	vnc_put(&c->c.out, "RFB 003.008\n", 12);
	c->state = VNC_VERSION;
	return 0;
}

/* At most so many times, so that one client that never stops does not keep the others waiting. */
static int take(struct vnc_client *c)
{
	int r = 0;

	for (unsigned i = 0; i < 16 && !r; i++) {
		if (c->state == VNC_TLS)
			r = do_tls(c);
		if (!r && c->state != VNC_TLS)
			r = vnc_conn_read(&c->c);
		if (!r)
			r = understand(c);
		if (c->state == VNC_ENDING)
			break;
		if (!r && c->c.tls_started && !tls_pending(c->c.tls) && i)
			break;
	}
	return r == -EAGAIN ? 0 : r;
}

void vnc_client_flush(struct vnc_client *c)
{
	int r = vnc_conn_write(&c->c);
	bool done = c->c.ws_closed || (r == 0 && c->state == VNC_ENDING);	/* who has closed reads no more */

	if ((r && r != -EAGAIN) || done) {
		vnc_client_end(c);
		return;
	}
	loop_fd_mod(&c->watch, EPOLLIN | (r == -EAGAIN ? EPOLLOUT : 0));
}

static void on_event(void *opaque, uint32_t events)
{
	struct vnc_client *c = opaque;
	bool was_busy = vnc_conn_pending(&c->c) > VNC_OUT_BUSY;
	int r = vnc_conn_write(&c->c);

	if (r == -EAGAIN)
		r = 0;
	if (!r && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = take(c);
	if (!r && c->state == VNC_TLS)	/* its first half may have been written only now */
		r = take(c);
	if (r) {
		vnc_client_end(c);
		return;
	}
	if (was_busy && vnc_conn_pending(&c->c) <= VNC_OUT_BUSY)
		vnc_wake(c->v, false);
	vnc_cut_pump(c);
	vnc_client_flush(c);
}

static void on_late(void *opaque) { vnc_client_end(opaque); }

void vnc_client_new(struct vnc *v, int fd, bool ws)
{
	struct vnc_client *c = calloc(1, sizeof(*c));

	if (!c) {
		vnc_conn_close(&(struct vnc_conn){ .fd = fd });
		return;
	}
	c->v = v;
	c->c.fd = fd;
	c->c.ws = ws;
	c->local_tls = ws && v->tls;
	c->watch = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_event, .opaque = c };
	loop_timer_init(v->loop, &c->late, on_late, c);
	loop_timer_arm(&c->late, loop_now_ns() + HANDSHAKE_NS);
	list_add_tail(&v->clients, &c->node);
	v->n_clients++;
	vnc_peer_of(fd, false, ws, &c->peer);
	vnc_publish(v);
	forget_encodings(c);
	if (loop_fd_add(v->loop, &c->watch)) {
		vnc_client_end(c);
		return;
	}
	if (c->local_tls)
		c->state = VNC_TLS;
	else
		vnc_put(&c->c.out, "RFB 003.008\n", 12);
	vnc_client_flush(c);
}

/* Keys and buttons it held come up. */
static void let_go(struct vnc_client *c)
{
	for (unsigned k = 0; k < INPUT_MAX_KEY; k++)
		if (c->down[k / 64] & BIT64(k % 64))
			input_key(c->v->in, k, false);
	if (!(c->buttons & 7))
		return;
	c->buttons = 0;
	if (c->rel_pointer)
		c->x = c->y = 0x7fff;		/* no motion */
	point(c, 0);
}

void vnc_client_end(struct vnc_client *c)
{
	let_go(c);
	vnc_cut_leave(c);
	loop_fd_del(&c->watch);
	loop_timer_cancel(&c->late);
	if (c->watching)
		display_unwatch(c->v->d, &c->viewer);
	list_del(&c->node);
	c->v->n_clients--;
	vnc_publish(c->v);
	vnc_encoder_free(&c->enc);
	vnc_conn_close(&c->c);
	free(c);
}
