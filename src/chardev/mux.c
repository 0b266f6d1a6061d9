// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Several front ends on one back end.
 *
 * Each front end has a chardev of its own, a part, whose output goes straight to the back end and whose input is
 * what was typed while it had the focus.  The escape character and the key behind it are taken out; the rest is
 * buffered by the part, so that one whose front end does not take anything leaves the escape working for another
 * 64 KiB.  Parts live as long as the mux.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chardev/impl.h"

struct mux_part {
	struct chardev c;
	struct chardev_mux *mux;
	bool waits;			/* its output was cut short */
};

struct chardev_mux {
	struct chardev c;		/* only a name; nothing is attached to it */
	struct chardev *base;
	struct chardev_mux_opts o;
	struct mux_part *part[CHARDEV_MUX_PARTS];
	unsigned n, focus;
	bool escaped;			/* the escape character came last */
	struct loop_bh quit;
};

static struct chardev_mux *of(struct chardev *c)
{
	return container_of(c, struct chardev_mux, c);
}

static struct mux_part *part_of(struct chardev *c)
{
	return container_of(c, struct mux_part, c);
}

static struct chardev *focused(struct chardev_mux *x)
{
	return x->n ? &x->part[x->focus]->c : NULL;
}

static void set_focus(struct chardev_mux *x, unsigned to)
{
	struct chardev *old = focused(x), *now = &x->part[to]->c;

	if (old != now && old->f.focus)
		old->f.focus(old->f.opaque, false);
	x->focus = to;
	if (now->f.focus)
		now->f.focus(now->f.opaque, true);
	chardev_kick(x->base);
}

/* ---- the escape character's keys ---- */

static void say(struct chardev_mux *x, const char *text)
{
	chardev_write(x->base, (const uint8_t *)text, strlen(text));
}

static void help(struct chardev_mux *x)
{
	static const struct { char key; const char *what; } keys[] = {
		{ 'h', "print this help" }, { 'x', "exit emulator" }, { 's', "save disk data back to file (if -snapshot)" },
		{ 'b', "send break (magic sysrq)" }, { 'c', "switch between console and monitor" },
	};
	char name[16], line[96];

	snprintf(name, sizeof(name), "C-%c", x->o.escape | (x->o.escape < 27 ? 0x60 : 0x40));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (keys[i].key == 's' && !x->o.save)
			continue;
		snprintf(line, sizeof(line), "%s%s %c    %s\r\n", i ? "" : "\r\n", name, keys[i].key, keys[i].what);
		say(x, line);
	}
	snprintf(line, sizeof(line), "%s %s  sends %s\r\n", name, name, name);
	say(x, line);
}

static void quit_cb(void *opaque)
{
	struct chardev_mux *x = opaque;

	x->o.quit(x->o.opaque);
}

static void command(struct chardev_mux *x, uint8_t key)
{
	const char *text;

	switch (key) {
	case 'h':
	case '?':
		help(x);
		break;
	case 'x':
		if (x->o.quit)
			loop_bh_post(&x->quit);
		break;
	case 's':
		text = x->o.save ? x->o.save(x->o.opaque) : NULL;
		if (text)
			say(x, text);
		break;
	case 'b':
		chardev_break(&x->c);
		break;
	case 'c':
		if (x->n)
			set_focus(x, (x->focus + 1) % x->n);
		break;
	}
}

/* ---- the back end's front ---- */

static size_t can_read(void *opaque)
{
	struct chardev *c = focused(opaque);

	return c ? chardev_input_room(c) : 0;
}

static void on_read(void *opaque, const uint8_t *buf, size_t len)
{
	struct chardev_mux *x = opaque;

	for (size_t i = 0; i < len && focused(x); i++) {
		bool escape = x->o.escape && buf[i] == x->o.escape;

		if (escape && !x->escaped) {
			x->escaped = true;
			continue;
		}
		/* One that was switched to may be full; it loses what a typist would type in vain. */
		if (!x->escaped || escape)
			chardev_input(focused(x), buf + i, 1);
		else
			command(x, buf[i]);
		x->escaped = false;
	}
}

static void on_writable(void *opaque)
{
	struct chardev_mux *x = opaque;

	for (unsigned i = 0; i < x->n; i++) {
		if (!x->part[i]->waits)
			continue;
		x->part[i]->waits = false;
		chardev_output_ready(&x->part[i]->c);
	}
}

static void on_resized(void *opaque, unsigned cols, unsigned rows)
{
	struct chardev_mux *x = opaque;

	for (unsigned i = 0; i < x->n; i++)
		if (x->part[i]->c.f.resized)
			x->part[i]->c.f.resized(x->part[i]->c.f.opaque, cols, rows);
}

static void on_hangup(void *opaque)
{
	struct chardev_mux *x = opaque;

	x->c.closed = true;
	x->escaped = false;
	for (unsigned i = 0; i < x->n; i++)
		chardev_input_eof(&x->part[i]->c);
}

static void on_opened(void *opaque)
{
	struct chardev_mux *x = opaque;

	x->c.closed = false;
	for (unsigned i = 0; i < x->n; i++)
		chardev_opened(&x->part[i]->c);
}

/* One that came down the line is typed, too. */
static void on_break(void *opaque)
{
	struct chardev_mux *x = opaque;

	chardev_break(&x->c);
}

/* ---- parts ---- */

static size_t part_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct mux_part *p = part_of(c);
	size_t n = chardev_write(p->mux->base, buf, len);

	p->waits |= n < len;
	return n;
}

static void part_want_input(struct chardev *c, bool yes)
{
	if (yes)
		chardev_kick(part_of(c)->mux->base);
}

static void part_size(struct chardev *c, unsigned *cols, unsigned *rows)
{
	chardev_size(part_of(c)->mux->base, cols, rows);
}

static const struct chardev_ops part_ops = {
	.send = part_send,
	.want_input = part_want_input,
	.size = part_size,
};

static const struct chardev_ops ops;

int chardev_mux_part(struct chardev *c, bool behind, struct chardev **out)
{
	struct chardev_mux *x;
	struct mux_part *p;

	c = chardev_now(c);
	if (c->ops != &ops)
		return -EINVAL;
	x = of(c);
	if (x->n == ARRAY_LEN(x->part))
		return -E2BIG;
	p = calloc(1, sizeof(*p));
	if (!p || chardev_init(&p->c, c->l, &part_ops)) {
		free(p);
		return -ENOMEM;
	}
	p->mux = x;
	p->c.closed = c->closed;
	snprintf(p->c.label, sizeof(p->c.label), "%s", c->label);
	x->part[x->n++] = p;
	c->attached = true;
	if (x->n == 1 || !behind)
		set_focus(x, x->n - 1);
	*out = &p->c;
	return 0;
}

void chardev_mux_drop(struct chardev *c)
{
	struct chardev_mux *x = part_of(c)->mux;
	unsigned i = 0;

	while (&x->part[i]->c != c)
		i++;
	if (i == x->focus && x->n > 1)
		set_focus(x, i ? 0 : 1);
	memmove(x->part + i, x->part + i + 1, (x->n - i - 1) * sizeof(*x->part));
	x->n--;
	x->focus -= x->focus > i;
	x->c.attached = x->n != 0;
	chardev_free(c);
}

bool chardev_mux_away(const struct chardev *c)
{
	const struct mux_part *p = container_of(c, struct mux_part, c);

	return c->ops == &part_ops && &p->mux->part[p->mux->focus]->c != c;
}

/* ---- the whole ---- */

static size_t mux_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	return chardev_write(of(c)->base, buf, len);
}

static void mux_size(struct chardev *c, unsigned *cols, unsigned *rows)
{
	chardev_size(of(c)->base, cols, rows);
}

static void mux_break(struct chardev *c)
{
	struct chardev *to = focused(of(c));

	if (to && to->f.brk)
		to->f.brk(to->f.opaque);
}

static void mux_free(struct chardev *c)
{
	struct chardev_mux *x = of(c);

	loop_bh_cancel(&x->quit);
	for (unsigned i = 0; i < x->n; i++)
		chardev_free(&x->part[i]->c);
	chardev_free(x->base);
}

static const struct chardev_ops ops = {
	.send = mux_send,
	.size = mux_size,
	.brk = mux_break,
	.free = mux_free,
};

int chardev_mux_new(struct loop *l, struct chardev *base, const struct chardev_mux_opts *o, struct chardev **out)
{
	struct chardev_mux *x = calloc(1, sizeof(*x));

	if (!x || chardev_init(&x->c, l, &ops)) {
		free(x);
		return -ENOMEM;
	}
	x->base = base;
	x->o = *o;
	x->c.closed = !chardev_is_open(base);
	snprintf(x->c.label, sizeof(x->c.label), "mux:%.150s", chardev_name(base));
	loop_bh_init(l, &x->quit, quit_cb, x);
	chardev_attach(base, &(struct chardev_front){
		.can_read = can_read, .read = on_read, .writable = on_writable, .resized = on_resized,
		.hangup = on_hangup, .opened = on_opened, .brk = on_break, .opaque = x,
	});
	*out = &x->c;
	return 0;
}
