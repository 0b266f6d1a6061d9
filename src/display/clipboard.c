// SPDX-License-Identifier: GPL-2.0-or-later
/* One text, who has it, and those who are told (see clipboard.h). */
#include "display/clipboard.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct clipboard {
	pthread_mutex_t lock;
	struct list peers;
	struct clipboard_peer *owner;	/* NULL: nobody has it */
	uint64_t serial;
	char *text;			/* NULL: still with its owner */
	size_t len;
	bool asked;
};

int clipboard_new(struct clipboard **out)
{
	struct clipboard *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->peers);
	*out = c;
	return 0;
}

/* What was on somebody's clipboard is nobody else's business. */
static void forget_text(struct clipboard *c)
{
	if (c->text)
		explicit_bzero(c->text, c->len);
	free(c->text);
	c->text = NULL;
	c->len = 0;
}

void clipboard_free(struct clipboard *c)
{
	if (!c)
		return;
	forget_text(c);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void tell(struct clipboard *c)
{
	list_for_each(n, &c->peers)
		loop_bh_post(&list_entry(n, struct clipboard_peer, node)->changed);
}

static void change_owner(struct clipboard *c, struct clipboard_peer *p)
{
	c->owner = p;
	c->serial++;
	c->asked = false;
	forget_text(c);
	tell(c);
}

void clipboard_join(struct clipboard *c, struct clipboard_peer *p, struct loop *l, void (*cb)(void *opaque), void *opaque)
{
	loop_bh_init(l, &p->changed, cb, opaque);
	p->c = c;
	pthread_mutex_lock(&c->lock);
	list_add_tail(&c->peers, &p->node);
	if (c->owner)
		loop_bh_post(&p->changed);
	pthread_mutex_unlock(&c->lock);
}

void clipboard_leave(struct clipboard_peer *p)
{
	struct clipboard *c = p->c;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	list_del(&p->node);
	if (c->owner == p)
		change_owner(c, NULL);
	pthread_mutex_unlock(&c->lock);
	loop_bh_cancel(&p->changed);
	p->c = NULL;
}

void clipboard_look(struct clipboard_peer *p, struct clipboard_state *out)
{
	struct clipboard *c = p->c;

	pthread_mutex_lock(&c->lock);
	*out = (struct clipboard_state){ c->serial, c->owner != NULL, c->owner == p, c->owner == p && c->asked && !c->text };
	pthread_mutex_unlock(&c->lock);
}

void clipboard_take(struct clipboard_peer *p)
{
	pthread_mutex_lock(&p->c->lock);
	change_owner(p->c, p);
	pthread_mutex_unlock(&p->c->lock);
}

void clipboard_drop(struct clipboard_peer *p)
{
	pthread_mutex_lock(&p->c->lock);
	if (p->c->owner == p)
		change_owner(p->c, NULL);
	pthread_mutex_unlock(&p->c->lock);
}

/* Bytes of the well-formed UTF-8 sequence at s (RFC 3629: no surrogates, nothing longer than it must be); 0: none. */
static size_t sequence(const uint8_t *s, size_t left)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	if (!n || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* The text as it is kept, never longer than it was. */
static char *clean(const uint8_t *s, size_t len, size_t *out_len)
{
	char *to = malloc(len + 1);
	size_t n = 0;

	for (size_t i = 0, step; to && i < len && s[i]; i += step) {
		step = sequence(s + i, len - i);
		if (s[i] == '\r' && i + 1 < len && s[i + 1] == '\n') {
			continue;
		} else if (!step) {
			to[n++] = '?';
			step = 1;
		} else {
			memcpy(to + n, s + i, step);
			n += step;
		}
	}
	if (to)
		to[n] = '\0';
	*out_len = n;
	return to;
}

void clipboard_put(struct clipboard_peer *p, const void *text, size_t len)
{
	struct clipboard *c = p->c;
	size_t n = 0;
	char *mine = text && len <= CLIPBOARD_RAW_MAX ? clean(text, len, &n) : NULL;

	if (n > CLIPBOARD_MAX) {
		free(mine);
		mine = NULL;
	}
	pthread_mutex_lock(&c->lock);
	if (c->owner != p) {
		free(mine);
	} else if (!mine) {
		change_owner(c, NULL);
	} else {
		forget_text(c);
		c->text = mine;
		c->len = n;
		c->asked = false;
		tell(c);
	}
	pthread_mutex_unlock(&c->lock);
}

int clipboard_get(struct clipboard_peer *p, char **out, size_t *len)
{
	struct clipboard *c = p->c;
	int ret = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->owner || c->owner == p) {
		ret = -ENOENT;
	} else if (!c->text) {
		ret = -EAGAIN;
		if (!c->asked)
			loop_bh_post(&c->owner->changed);
		c->asked = true;
	} else {
		*out = malloc(c->len + 1);
		ret = *out ? 0 : -ENOMEM;
	}
	if (!ret) {
		memcpy(*out, c->text, c->len + 1);
		*len = c->len;
	}
	pthread_mutex_unlock(&c->lock);
	return ret;
}
