// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SPICE's agent protocol over a port: chunks (port, size) that carry messages (protocol, type, opaque, size), all little
 * endian.
 *
 * The guest is hostile.  What it sends is read as it comes; a message is kept only
 * if it means something just now, and then up to IN_MAX bytes.  To the guest there
 * is at most one text under way; whatever else there is to say is a bit each,
 * until the guest has taken what came before.  A guest that does not speak the
 * protocol is not listened to until it opens the port anew.
 *
 * Of X's selections the one called CLIPBOARD is shared.  When both sides take it at
 * once, serial numbers decide: a grab of the guest that did not know of ours is
 * passed over, and the guest then takes ours.
 */
#include "agent/vdagent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "chardev/chardev.h"
#include "display/clipboard.h"
#include "machine/machine.h"

#define PROTOCOL 1
#define CLIENT_PORT 1			/* of the two in a chunk's head; the other is the SPICE server's */
#define CHUNK_HEAD 8
#define CHUNK_MAX 2048			/* to the guest; from it they may be as long as they like */
#define MESSAGE_HEAD 20
enum { CLIPBOARD = 4, CAPABILITIES = 6, GRAB, REQUEST, RELEASE, MAX_CLIPBOARD = 14 };
enum { TYPE_NONE, TYPE_UTF8 };
#define SELECTION_CLIPBOARD 0
enum { CAP_CLIPBOARD_BY_DEMAND = 5, CAP_SELECTION = 6, CAP_CRLF = 9, CAP_MAX_CLIPBOARD = 10, CAP_NO_RELEASE_ON_REGRAB = 16, CAP_GRAB_SERIAL = 17 };

#define SMALL_MAX 4096u			/* of messages that are no text */
#define IN_MAX (CLIPBOARD_RAW_MAX + 8)
#define OUT_MAX (CLIPBOARD_RAW_MAX + CLIPBOARD_RAW_MAX / 128 + (192u << 10))
#define UNREAD_MAX (64u << 10)		/* of a chardev */
#define MAX_WANTED 32			/* requests that are answered; more at a time are not */

struct vdagent {
	struct dev dev;			/* first */
	struct chardev *chr;
	struct clipboard_peer clip;

	bool open;			/* a program in the guest has the port open */
	bool broken;			/* and it does not speak the protocol */
	bool warned;			/* of that, once for all */
	bool ready;			/* it has said what it can */
	uint32_t caps;

	/* from the guest */
	uint8_t chunk[CHUNK_HEAD], message[MESSAGE_HEAD];	/* heads, as far as they have come */
	uint8_t chunk_have, message_have;
	uint32_t chunk_left;		/* bytes of the chunk's body to come */
	uint32_t body_left;		/* of the message's */
	bool keep;			/* it is kept in body */
	uint8_t *body;
	uint32_t body_len;

	/* the clipboard */
	bool guest_has;			/* when it was saved */
	bool asked;			/* the guest, for its text */
	uint8_t wanted, refused;	/* requests of the guest to be answered: for text, for what we never have */
	bool told;			/* the guest knows that we have one */
	uint64_t told_serial;
	uint32_t grab_serial;		/* that the next grab carries, whoever makes it */

	/* to the guest */
	bool say_caps, ask_caps, say_max;
	uint8_t *out;
	uint32_t out_at, out_len, out_room;
};

static bool has(const struct vdagent *a, unsigned cap) { return a->caps >> cap & 1; }
static uint32_t prefix(const struct vdagent *a) { return has(a, CAP_SELECTION) ? 4 : 0; }

/* ---- to the guest ---- */

/* Room behind what is there; NULL: no memory, and the port is of no more use. */
static uint8_t *room(struct vdagent *a, uint32_t n)
{
	uint32_t need = a->out_len + n;
	uint8_t *p;

	if (need > OUT_MAX - UNREAD_MAX)	/* with what the chardev has it can be saved and loaded */
		return NULL;
	if (need > a->out_room) {
		p = realloc(a->out, need + 1024);
		if (!p)
			return NULL;
		a->out = p;
		a->out_room = need + 1024;
	}
	a->out_len = need;
	return a->out + need - n;
}

/* A message whose body is two pieces, cut into chunks. */
static void put_message(struct vdagent *a, unsigned type, const void *head, uint32_t head_len, const void *body, uint32_t body_len)
{
	uint8_t start[MESSAGE_HEAD + 16] = { 0 };
	uint32_t start_len = MESSAGE_HEAD + head_len, total = start_len + body_len;

	st_le32(start, PROTOCOL);
	st_le32(start + 4, type);
	st_le32(start + 16, head_len + body_len);
	memcpy(start + MESSAGE_HEAD, head, head_len);
	for (uint32_t at = 0, n; at < total; at += n) {
		uint32_t s = at < start_len ? start_len - at : 0, b;
		uint8_t *to;

		n = MIN(total - at, (uint32_t)CHUNK_MAX);
		s = MIN(s, n);
		b = n - s;
		to = room(a, CHUNK_HEAD + n);
		if (!to) {
			a->broken = true;
			return;
		}
		st_le32(to, CLIENT_PORT);
		st_le32(to + 4, n);
		memcpy(to + CHUNK_HEAD, start + MIN(at, start_len), s);
		if (b)
			memcpy(to + CHUNK_HEAD + s, (const uint8_t *)body + (at + s - start_len), b);
	}
}

static void put_caps(struct vdagent *a)
{
	uint8_t b[8];

	st_le32(b, a->ask_caps);
	st_le32(b + 4, 1u << CAP_CLIPBOARD_BY_DEMAND | 1u << CAP_SELECTION | 1u << CAP_NO_RELEASE_ON_REGRAB | 1u << CAP_GRAB_SERIAL);
	put_message(a, CAPABILITIES, b, sizeof(b), NULL, 0);
	a->say_caps = a->ask_caps = false;
}

static void put_max(struct vdagent *a)
{
	uint8_t b[4];

	a->say_max = false;
	st_le32(b, CLIPBOARD_MAX);
	if (has(a, CAP_MAX_CLIPBOARD))
		put_message(a, MAX_CLIPBOARD, b, sizeof(b), NULL, 0);
}

/* A message about the selection, with up to two words. */
static void put_words(struct vdagent *a, unsigned type, unsigned n, uint32_t one, uint32_t two)
{
	uint8_t b[12] = { SELECTION_CLIPBOARD };
	uint32_t at = prefix(a);

	st_le32(b + at, one);
	if (n > 1)
		st_le32(b + at + 4, two);
	put_message(a, type, b, at + 4 * n, NULL, 0);
}

static void put_grab(struct vdagent *a)
{
	bool serial = has(a, CAP_GRAB_SERIAL);

	put_words(a, GRAB, serial ? 2 : 1, serial ? a->grab_serial : TYPE_UTF8, TYPE_UTF8);
	a->grab_serial++;
}

/* With CRLF, as Windows has it.  NULL: no memory. */
static char *with_crlf(const char *text, size_t len, size_t *out_len)
{
	char *to = malloc(2 * len + 1);
	size_t n = 0;

	for (size_t i = 0; to && i < len; i++) {
		if (text[i] == '\n')
			to[n++] = '\r';
		to[n++] = text[i];
	}
	*out_len = n;
	return to;
}

static void put_text(struct vdagent *a, char *text, size_t len)
{
	uint8_t b[8] = { SELECTION_CLIPBOARD };
	char *other = NULL;

	if (text && has(a, CAP_CRLF)) {
		other = with_crlf(text, len, &len);
		free(text);
		text = other;
	}
	st_le32(b + prefix(a), text ? TYPE_UTF8 : TYPE_NONE);
	put_message(a, CLIPBOARD, b, prefix(a) + 4, text, text ? (uint32_t)len : 0);
	free(text);
}

/* Hands over what waits; true: all of it is gone. */
static bool feed(struct vdagent *a)
{
	if (a->out_at < a->out_len)
		a->out_at += (uint32_t)chardev_feed(a->chr, a->out + a->out_at, a->out_len - a->out_at);
	if (a->out_at < a->out_len)
		return false;
	a->out_at = a->out_len = 0;
	if (a->out_room > SMALL_MAX) {
		free(a->out);
		a->out = NULL;
		a->out_room = 0;
	}
	return true;
}

/* Who has the clipboard, if the guest does not know; false: it does. */
static bool say_owner(struct vdagent *a, const struct clipboard_state *s)
{
	bool news = !s->mine && s->serial != a->told_serial && (s->held || a->told);

	if (news && s->held)
		put_grab(a);
	else if (news)
		put_words(a, RELEASE, 0, 0, 0);
	if (!s->mine) {
		a->told = s->held;
		a->told_serial = s->serial;
	}
	return news;
}

/* What the guest asked for; false: nothing, or its owner has still to hand it over. */
static bool say_text(struct vdagent *a)
{
	char *text = NULL;
	size_t len = 0;
	int ret;

	if (a->refused) {
		a->refused--;
		put_text(a, NULL, 0);
		return true;
	}
	ret = a->wanted ? clipboard_get(&a->clip, &text, &len) : -EAGAIN;
	if (ret == -EAGAIN)
		return false;
	a->wanted--;
	put_text(a, ret ? NULL : text, len);
	return true;
}

/* Puts a message; false: there is nothing to say. */
static bool say_next(struct vdagent *a)
{
	struct clipboard_state s;

	if (a->say_caps) {
		put_caps(a);
		return true;
	}
	if (!a->ready)
		return false;
	if (a->say_max) {
		put_max(a);
		return true;
	}
	clipboard_look(&a->clip, &s);
	if (say_owner(a, &s))
		return true;
	if (s.asked && !a->asked) {
		a->asked = true;
		put_words(a, REQUEST, 1, TYPE_UTF8, 0);
		return true;
	}
	return say_text(a);
}

/* Says what is to be said, as far as the guest has taken what came before. */
static void pump(struct vdagent *a)
{
	while (a->open && !a->broken && feed(a) && say_next(a))
		;
}

/* ---- from the guest ---- */

static void on_caps(struct vdagent *a, const uint8_t *p, uint32_t n)
{
	if (n < 8)
		return;
	a->caps = ld_le32(p + 4);
	a->ready = has(a, CAP_CLIPBOARD_BY_DEMAND);
	a->say_max = true;
	if (!ld_le32(p))
		return;
	/* It has begun anew: what it was told counts no more. */
	a->say_caps = true;
	a->told = a->asked = false;
	a->wanted = a->refused = 0;
	a->told_serial = UINT64_MAX;
	a->grab_serial = 0;
}

static void on_grab(struct vdagent *a, const uint8_t *p, uint32_t n)
{
	bool text = false;

	if (has(a, CAP_GRAB_SERIAL)) {
		if (n < 4 || ld_le32(p) != a->grab_serial)
			return;			/* it did not know of ours, which wins */
		a->grab_serial++;
		p += 4;
		n -= 4;
	}
	for (; n >= 4; p += 4, n -= 4)
		text |= ld_le32(p) == TYPE_UTF8;
	a->told = a->asked = false;
	clipboard_take(&a->clip);
	if (!text)
		clipboard_drop(&a->clip);	/* a picture, say: nothing for us, and what was there is gone */
}

/* What was asked for; NULL: there is no text, or too much. */
static void got_text(struct vdagent *a, const uint8_t *text, uint32_t n)
{
	if (!a->asked)
		return;
	a->asked = false;
	clipboard_put(&a->clip, text, n);
}

static void take_message(struct vdagent *a)
{
	unsigned type = ld_le32(a->message + 4);
	const uint8_t *p = a->body ? a->body : a->message;
	uint32_t n = a->body_len;

	if (type == CAPABILITIES) {
		on_caps(a, p, n);
		return;
	}
	if (!a->ready || n < prefix(a) || (prefix(a) && p[0] != SELECTION_CLIPBOARD))
		return;
	p += prefix(a);
	n -= prefix(a);
	switch (type) {
	case GRAB:
		on_grab(a, p, n);
		break;
	case RELEASE:
		clipboard_drop(&a->clip);
		break;
	case REQUEST:
		if (n >= 4 && ld_le32(p) == TYPE_UTF8)
			a->wanted += a->wanted < MAX_WANTED;
		else
			a->refused += a->refused < MAX_WANTED;
		break;
	case CLIPBOARD:
		got_text(a, n >= 4 && ld_le32(p) == TYPE_UTF8 ? p + 4 : NULL, n >= 4 ? n - 4 : 0);
		break;
	default:
		break;
	}
}

static void drop_body(struct vdagent *a)
{
	free(a->body);
	a->body = NULL;
	a->body_len = a->body_left = 0;
	a->keep = false;
	a->message_have = 0;
}

/* Messages that mean something are kept; a text only when it was asked for. */
static void begin_message(struct vdagent *a)
{
	unsigned type = ld_le32(a->message + 4);
	uint32_t size = ld_le32(a->message + 16);
	bool small = type >= CAPABILITIES && type <= RELEASE;

	if (ld_le32(a->message) != PROTOCOL) {
		a->broken = true;
		if (!a->warned)
			log_warn("the guest's SPICE agent does not speak its protocol; it is not listened to until it begins anew");
		a->warned = true;
		return;
	}
	a->body_left = size;
	a->body_len = 0;
	a->keep = small ? size <= SMALL_MAX : type == CLIPBOARD && a->asked && size <= IN_MAX;
	if (a->keep && size) {
		a->body = malloc(size);
		a->keep = a->body != NULL;
	}
	if (type == CLIPBOARD && !a->keep)
		got_text(a, NULL, 0);
}

static uint32_t gather(uint8_t *to, uint8_t *have, uint32_t want, const uint8_t *p, uint32_t n)
{
	uint32_t take = MIN(n, want - *have);

	memcpy(to + *have, p, take);
	*have = (uint8_t)(*have + take);
	return take;
}

/* Of n bytes of a chunk's body those that belong to one message, or its head. */
static uint32_t take_bytes(struct vdagent *a, const uint8_t *p, uint32_t n)
{
	uint32_t used;

	if (a->message_have < MESSAGE_HEAD) {
		used = gather(a->message, &a->message_have, MESSAGE_HEAD, p, n);
		if (a->message_have < MESSAGE_HEAD)
			return used;
		begin_message(a);
	} else {
		used = MIN(n, a->body_left);
		if (a->keep) {
			memcpy(a->body + a->body_len, p, used);
			a->body_len += used;
		}
		a->body_left -= used;
	}
	if (a->broken || a->body_left)
		return used;
	if (a->keep)
		take_message(a);
	drop_body(a);
	return used;
}

static void on_bytes(void *opaque, const uint8_t *p, size_t len)
{
	struct vdagent *a = opaque;

	while (len && a->open && !a->broken) {
		uint32_t n = (uint32_t)MIN(len, (size_t)UINT32_MAX), used;

		if (!a->chunk_left) {
			used = gather(a->chunk, &a->chunk_have, CHUNK_HEAD, p, n);
			if (a->chunk_have == CHUNK_HEAD) {
				a->chunk_left = ld_le32(a->chunk + 4);
				a->chunk_have = 0;
			}
		} else {
			used = MIN(n, a->chunk_left);
			if (ld_le32(a->chunk) == CLIENT_PORT)
				used = take_bytes(a, p, used);
			a->chunk_left -= used;
		}
		p += used;
		len -= used;
	}
	pump(a);
}

/* ---- life ---- */

static void forget(struct vdagent *a)
{
	drop_body(a);
	chardev_drop_unread(a->chr);
	a->broken = a->ready = a->asked = a->told = false;
	a->wanted = a->refused = 0;
	a->caps = a->chunk_left = a->grab_serial = 0;
	a->chunk_have = 0;
	a->told_serial = UINT64_MAX;
	a->say_caps = a->ask_caps = a->say_max = false;
	a->out_at = a->out_len = 0;
}

static void on_guest(void *opaque, bool open)
{
	struct vdagent *a = opaque;

	clipboard_drop(&a->clip);
	forget(a);
	a->open = a->say_caps = a->ask_caps = open;
	pump(a);
}

static void on_room(void *opaque) { pump(opaque); }
static void on_clipboard(void *opaque) { pump(opaque); }

static void reset(struct dev *d) { on_guest(container_of(d, struct vdagent, dev), false); }

static const struct snap_field fields[] = {
	SNAP_FIELD(struct vdagent, open), SNAP_FIELD(struct vdagent, broken), SNAP_FIELD(struct vdagent, ready), SNAP_FIELD(struct vdagent, caps),
	SNAP_ARRAY(struct vdagent, chunk), SNAP_ARRAY(struct vdagent, message), SNAP_FIELD(struct vdagent, chunk_have),
	SNAP_FIELD(struct vdagent, message_have), SNAP_FIELD(struct vdagent, chunk_left), SNAP_FIELD(struct vdagent, body_left),
	SNAP_FIELD(struct vdagent, keep), SNAP_FIELD(struct vdagent, guest_has), SNAP_FIELD(struct vdagent, wanted), SNAP_FIELD(struct vdagent, refused),
	SNAP_FIELD(struct vdagent, told),
	SNAP_FIELD(struct vdagent, grab_serial), SNAP_FIELD(struct vdagent, say_caps), SNAP_FIELD(struct vdagent, ask_caps),
	SNAP_FIELD(struct vdagent, say_max),
	SNAP_END,
};
static const struct snap_table table = { "vdagent", 1, fields };

/* What is on its way to the guest goes along: it may have taken half of a message. */
static int save(struct dev *d, struct snap_out *o)
{
	struct vdagent *a = container_of(d, struct vdagent, dev);
	struct clipboard_state s;
	uint8_t *way;
	uint32_t n;
	int ret;

	chardev_flush(a->chr);
	clipboard_look(&a->clip, &s);
	a->guest_has = s.mine;
	way = malloc(UNREAD_MAX + a->out_len - a->out_at);
	if (!way)
		return -ENOMEM;
	n = (uint32_t)chardev_unread(a->chr, way, UNREAD_MAX);
	if (a->out_len > a->out_at)
		memcpy(way + n, a->out + a->out_at, a->out_len - a->out_at);
	n += a->out_len - a->out_at;
	ret = snap_put(o, d->id, &table, a);
	if (!ret)
		ret = snap_put_blob(o, d->id, a->keep ? a->body : NULL, a->keep ? a->body_len : 0);
	if (!ret)
		ret = snap_put_blob(o, d->id, way, n);
	free(way);
	return ret;
}

/* A message that is being kept: its two parts fit together, and into what one may have. */
static int load_body(struct vdagent *a, struct snap_in *in, struct err *e)
{
	uint8_t *body = malloc(IN_MAX);
	int ret = body ? snap_get_blob(in, a->dev.id, body, IN_MAX, &a->body_len, e) : err_set(e, -ENOMEM, "out of memory");

	if (!ret && (a->body_len > (a->keep ? IN_MAX : 0) || (a->keep && a->body_left > IN_MAX - a->body_len) ||
		     (a->message_have < MESSAGE_HEAD && (a->keep || a->body_left)) || (a->message_have == MESSAGE_HEAD && !a->body_left)))
		ret = err_set(e, -EINVAL, "the saved state of %s has a message that cannot be", a->dev.id);
	if (ret || !a->keep) {
		a->keep = false;
		a->body_len = 0;
		free(body);
		return ret;
	}
	a->body = body;			/* as long as any may be */
	return 0;
}

static int load_way(struct vdagent *a, struct snap_in *in, struct err *e)
{
	a->out = malloc(OUT_MAX);
	if (!a->out)
		return err_set(e, -ENOMEM, "out of memory");
	a->out_room = OUT_MAX;
	return snap_get_blob(in, a->dev.id, a->out, OUT_MAX, &a->out_len, e);
}

/* Viewers are others than they were: what one of them had is released, what the guest has is offered anew. */
static int load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct vdagent *a = container_of(d, struct vdagent, dev);
	int ret;

	on_guest(a, false);
	free(a->out);
	a->out = NULL;
	a->out_room = 0;
	ret = snap_get(in, d->id, &table, a, e);
	if (!ret && (a->chunk_have >= CHUNK_HEAD || a->message_have > MESSAGE_HEAD || (a->chunk_left && a->chunk_have)))
		ret = err_set(e, -EINVAL, "the saved state of %s has more of a head than there is", d->id);
	if (!ret)
		ret = load_body(a, in, e);
	if (!ret)
		ret = load_way(a, in, e);
	if (ret) {
		forget(a);
		a->open = false;
		return ret;
	}
	if (a->guest_has)
		clipboard_take(&a->clip);
	pump(a);
	return 0;
}

static const struct dev_ops dev_ops = { .name = "vdagent", .reset = reset, .save = save, .load = load };

int vdagent_new(struct machine *m, const char *id, struct clipboard *c, struct vdagent **out, struct err *e)
{
	struct vdagent *a = calloc(1, sizeof(*a));

	if (!a || chardev_pipe_new(m->loop, on_bytes, a, &a->chr)) {
		free(a);
		return err_set(e, -ENOMEM, "out of memory");
	}
	chardev_pipe_watch(a->chr, on_room, on_guest);
	clipboard_join(c, &a->clip, m->loop, on_clipboard, a);
	forget(a);
	dev_add(m, &a->dev, &dev_ops, id);
	*out = a;
	return 0;
}

struct chardev *vdagent_chardev(struct vdagent *a) { return a->chr; }

void vdagent_free(struct vdagent *a)
{
	if (!a)
		return;
	a->open = false;		/* what the chardev still hands over is for nobody */
	chardev_free(a->chr);
	clipboard_leave(&a->clip);
	drop_body(a);
	free(a->out);
	free(a);
}
