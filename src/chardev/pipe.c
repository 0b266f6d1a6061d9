/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two chardevs without a descriptor: nothing, and a pipe inside the process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chardev/impl.h"

struct chardev_pipe {
	struct chardev c;
	void (*sink)(void *, const uint8_t *, size_t);
	void (*room)(void *);
	void (*guest)(void *, bool);
	void *opaque;
};

static size_t pipe_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct chardev_pipe *p = container_of(c, struct chardev_pipe, c);

	if (p->sink)
		p->sink(p->opaque, buf, len);
	return len;
}

static void pipe_want_input(struct chardev *c, bool yes)
{
	struct chardev_pipe *p = container_of(c, struct chardev_pipe, c);

	if (yes && p->room)
		p->room(p->opaque);
}

static void pipe_guest_open(struct chardev *c, bool open)
{
	struct chardev_pipe *p = container_of(c, struct chardev_pipe, c);

	if (p->guest)
		p->guest(p->opaque, open);
}

static const struct chardev_ops pipe_ops = { .send = pipe_send, .want_input = pipe_want_input, .guest_open = pipe_guest_open };

int chardev_pipe_new(struct loop *l, void (*sink)(void *, const uint8_t *, size_t), void *opaque,
		     struct chardev **out)
{
	struct chardev_pipe *p = calloc(1, sizeof(*p));

	if (!p || chardev_init(&p->c, l, &pipe_ops)) {
		free(p);
		return -ENOMEM;
	}
	snprintf(p->c.label, sizeof(p->c.label), "null");
	p->sink = sink;
	p->opaque = opaque;
	*out = &p->c;
	return 0;
}

void chardev_pipe_watch(struct chardev *c, void (*room)(void *opaque), void (*guest)(void *opaque, bool open))
{
	struct chardev_pipe *p = container_of(c, struct chardev_pipe, c);

	p->room = room;
	p->guest = guest;
}

int chardev_null_new(struct loop *l, struct chardev **out)
{
	return chardev_pipe_new(l, NULL, NULL, out);
}

size_t chardev_feed(struct chardev *c, const uint8_t *buf, size_t len)
{
	c = chardev_now(c);
	if (c->ops != &pipe_ops || c->eof)
		return 0;
	return chardev_input(c, buf, len);
}

void chardev_feed_eof(struct chardev *c)
{
	c = chardev_now(c);
	if (c->ops == &pipe_ops)
		chardev_input_eof(c);
}
