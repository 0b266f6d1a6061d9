/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Core of the chardevs: two bounded buffers between a front end and a back end.
 *
 * Input is delivered from a posted callback on the loop's thread, never from
 * inside a front end's call, so a front end that asks for more while it handles
 * a register access is not entered again.
 */
#include "chardev/impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/* Rings. */

static size_t ring_room(const struct ring *r)
{
	return CHARDEV_BUF - r->n;
}

static size_t ring_put(struct ring *r, const uint8_t *buf, size_t len)
{
	size_t n = MIN(len, ring_room(r)), at = (r->head + r->n) % CHARDEV_BUF;
	size_t first = MIN(n, CHARDEV_BUF - at);

	memcpy(r->p + at, buf, first);
	memcpy(r->p, buf + first, n - first);
	r->n += n;
	return n;
}

/* The oldest bytes that lie in one piece. */
static size_t ring_peek(const struct ring *r, const uint8_t **p)
{
	*p = r->p + r->head;
	return MIN(r->n, CHARDEV_BUF - r->head);
}

static void ring_drop(struct ring *r, size_t n)
{
	r->head = (r->head + n) % CHARDEV_BUF;
	r->n -= n;
}

/* Input. */

static void resume_input(struct chardev *c)
{
	if (!c->in_stopped || ring_room(&c->in) < CHARDEV_BUF / 2 || c->eof)
		return;
	c->in_stopped = false;
	if (c->ops->want_input)
		c->ops->want_input(c, true);
}

bool chardev_answer_due(const struct chardev *c)
{
	return c->f.answers && (c->in.n || !c->f.can_read(c->f.opaque));
}

static void deliver(void *opaque)
{
	struct chardev *c = opaque;
	const uint8_t *p;
	size_t n;

	if (c->tell_open) {
		c->tell_open = false;
		if (c->f.opened)
			c->f.opened(c->f.opaque);
	}
	while (c->f.can_read && c->f.read && c->in.n) {
		n = MIN(ring_peek(&c->in, &p), c->f.can_read(c->f.opaque));
		if (!n)
			break;
		/* A copy: the front end may make room, and input may come, meanwhile. */
		uint8_t piece[512];

		n = MIN(n, sizeof(piece));
		memcpy(piece, p, n);
		ring_drop(&c->in, n);
		c->f.read(c->f.opaque, piece, n);
	}
	resume_input(c);
	if (c->ops->answered && !chardev_answer_due(c))
		c->ops->answered(c);
	if (c->eof && !c->in.n && !c->hung_up && c->f.hangup) {
		c->hung_up = true;
		c->f.hangup(c->f.opaque);
	}
}

size_t chardev_unread(const struct chardev *c, uint8_t *buf, size_t max)
{
	size_t n, first;

	c = c->now ? c->now : c;
	n = MIN(max, c->in.n);
	first = MIN(n, CHARDEV_BUF - c->in.head);
	memcpy(buf, c->in.p + c->in.head, first);
	memcpy(buf + first, c->in.p, n - first);
	return n;
}

void chardev_drop_unread(struct chardev *c)
{
	c = chardev_now(c);
	ring_drop(&c->in, c->in.n);
	if (c->in_stopped)
		loop_bh_post(&c->deliver);	/* there is room again */
}

size_t chardev_input_room(const struct chardev *c)
{
	return ring_room(&c->in);
}

size_t chardev_input(struct chardev *c, const uint8_t *buf, size_t len)
{
	size_t n = ring_put(&c->in, buf, len);

	if (!ring_room(&c->in) && !c->in_stopped) {
		c->in_stopped = true;
		if (c->ops->want_input)
			c->ops->want_input(c, false);
	}
	loop_bh_post(&c->deliver);
	return n;
}

void chardev_opened(struct chardev *c)
{
	c->eof = c->hung_up = c->closed = false;
	c->tell_open = true;
	loop_bh_post(&c->deliver);
}

void chardev_break(struct chardev *c)
{
	c = chardev_now(c);
	if (c->ops->brk)
		c->ops->brk(c);
	else if (c->f.brk)
		c->f.brk(c->f.opaque);
}

bool chardev_is_open(const struct chardev *c) { return !(c->now ? c->now : c)->closed; }
bool chardev_in_use(const struct chardev *c) { return (c->now ? c->now : c)->attached; }
const char *chardev_name(const struct chardev *c) { return (c->now ? c->now : c)->label; }

void chardev_input_eof(struct chardev *c)
{
	c->eof = c->closed = true;
	loop_bh_post(&c->deliver);
}

void chardev_guest_open(struct chardev *c, bool open)
{
	c = chardev_now(c);
	if (c->ops->guest_open)
		c->ops->guest_open(c, open);
}

void chardev_kick(struct chardev *c)
{
	c = chardev_now(c);
	if (c->in.n || c->in_stopped || c->eof || c->f.answers)
		loop_bh_post(&c->deliver);
}

/* Output. */

/* True when everything buffered is out. */
static bool flush(struct chardev *c)
{
	const uint8_t *p;
	size_t n, sent;

	while (c->out.n) {
		n = ring_peek(&c->out, &p);
		sent = c->ops->send(c, p, n);
		ring_drop(&c->out, sent);
		if (sent < n)
			return false;
	}
	return true;
}

void chardev_output_ready(struct chardev *c)
{
	flush(c);
	if (c->front_waits && ring_room(&c->out) >= CHARDEV_BUF / 2) {
		c->front_waits = false;
		if (c->f.writable)
			c->f.writable(c->f.opaque);
	}
}

static void drain(void *opaque)
{
	chardev_output_ready(opaque);
}

void chardev_flush(struct chardev *c) { chardev_output_ready(chardev_now(c)); }

size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len)
{
	size_t done = 0;

	c = chardev_now(c);
	/* A serial port writes byte by byte: what comes before the loop's thread
	 * gets to it leaves together, and no vCPU waits for the reader's wake-up. */
	if (len == 1 && !c->out.n)
		loop_bh_post(&c->drain);
	else if (!c->out.n)
		done = c->ops->send(c, buf, len);
	if (done == len)
		return len;
	if (c->keep_newest && ring_room(&c->out) < len - done) {
		if (len - done > CHARDEV_BUF)
			done = len - CHARDEV_BUF;
		ring_drop(&c->out, len - done - ring_room(&c->out));
	}
	done += ring_put(&c->out, buf + done, len - done);
	if (done < len)
		c->front_waits = true;
	return done;
}

/* Life. */

void chardev_attach(struct chardev *c, const struct chardev_front *f)
{
	c = chardev_now(c);
	c->f = *f;
	c->attached = f->read != NULL;
	c->hung_up = false;
	loop_bh_post(&c->deliver);
}

void chardev_size(struct chardev *c, unsigned *cols, unsigned *rows)
{
	c = chardev_now(c);
	*cols = *rows = 0;
	if (c->ops->size)
		c->ops->size(c, cols, rows);
}

int chardev_init(struct chardev *c, struct loop *l, const struct chardev_ops *ops)
{
	c->ops = ops;
	c->l = l;
	c->in.p = malloc(CHARDEV_BUF);
	c->out.p = malloc(CHARDEV_BUF);
	if (!c->in.p || !c->out.p) {
		free(c->in.p);
		free(c->out.p);
		return -ENOMEM;
	}
	loop_bh_init(l, &c->deliver, deliver, c);
	loop_bh_init(l, &c->drain, drain, c);
	return 0;
}

/* All but the struct. */
static void strip(struct chardev *c)
{
	loop_bh_cancel(&c->deliver);
	loop_bh_cancel(&c->drain);
	free(c->in.p);
	free(c->out.p);
}

void chardev_discard(struct chardev *c)
{
	strip(c);
	free(c);
}

void chardev_replace(struct chardev *c, struct chardev *by)
{
	struct chardev *old = chardev_now(c);
	struct chardev_front f = old->f;
	bool waits = old->front_waits;
	const uint8_t *p;
	size_t n;

	while ((n = ring_peek(&old->in, &p)) && ring_room(&by->in))
		ring_drop(&old->in, chardev_input(by, p, n));
	if (old == c) {
		flush(c);
		if (c->ops->free)
			c->ops->free(c);
		strip(c);
	} else {
		chardev_free(old);
	}
	c->now = by;
	chardev_attach(by, &f);
	by->tell_open = !by->closed;
	if (waits && f.writable)
		f.writable(f.opaque);
}

void chardev_free(struct chardev *c)
{
	if (!c)
		return;
	if (c->now) {
		chardev_free(c->now);
		free(c);
		return;
	}
	flush(c);			/* what it takes at once; waiting is not for us */
	if (c->ops->free)
		c->ops->free(c);
	chardev_discard(c);
}
