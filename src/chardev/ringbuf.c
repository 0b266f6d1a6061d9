// SPDX-License-Identifier: GPL-2.0-or-later
/* A chardev that keeps the newest of what is written, until somebody asks for it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "chardev/impl.h"

#define MAX_SIZE (16u << 20)

struct chardev_ringbuf {
	struct chardev c;
	uint8_t *p;
	size_t size, head, n;		/* head: the oldest of n */
};

static void put(struct chardev_ringbuf *r, const uint8_t *buf, size_t len)
{
	if (len > r->size) {
		buf += len - r->size;
		len = r->size;
	}
	for (size_t i = 0; i < len; i++)
		r->p[(r->head + r->n + i) & (r->size - 1)] = buf[i];
	r->n += len;
	if (r->n > r->size) {
		r->head = (r->head + r->n - r->size) & (r->size - 1);
		r->n = r->size;
	}
}

static size_t ringbuf_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	put(container_of(c, struct chardev_ringbuf, c), buf, len);
	return len;
}

static void ringbuf_free(struct chardev *c)
{
	free(container_of(c, struct chardev_ringbuf, c)->p);
}

static const struct chardev_ops ops = { .send = ringbuf_send, .free = ringbuf_free };

ssize_t chardev_ringbuf_read(struct chardev *c, uint8_t *buf, size_t max)
{
	struct chardev_ringbuf *r;
	size_t n;

	c = chardev_now(c);
	r = container_of(c, struct chardev_ringbuf, c);
	if (c->ops != &ops)
		return -EINVAL;
	/* Bytes on their way through the chardev's own buffer first. */
	chardev_output_ready(c);
	n = MIN(max, r->n);
	for (size_t i = 0; i < n; i++)
		buf[i] = r->p[(r->head + i) & (r->size - 1)];
	r->head = (r->head + n) & (r->size - 1);
	r->n -= n;
	return (ssize_t)n;
}

int chardev_ringbuf_write(struct chardev *c, const uint8_t *buf, size_t len)
{
	c = chardev_now(c);
	if (c->ops != &ops)
		return -EINVAL;
	put(container_of(c, struct chardev_ringbuf, c), buf, len);
	return 0;
}

int chardev_ringbuf_new(struct loop *l, size_t size, struct chardev **out, struct err *e)
{
	struct chardev_ringbuf *r;

	if (!is_pow2(size) || size > MAX_SIZE)
		return err_set(e, -EINVAL, "a ring buffer of %zu bytes: the size is a power of two, up to %u", size, MAX_SIZE);
	r = calloc(1, sizeof(*r));
	if (!r || chardev_init(&r->c, l, &ops)) {
		free(r);
		return err_set(e, -ENOMEM, "no memory for the ring buffer");
	}
	r->p = malloc(size);
	if (!r->p) {
		chardev_discard(&r->c);
		return err_set(e, -ENOMEM, "no memory for the ring buffer");
	}
	r->size = size;
	snprintf(r->c.label, sizeof(r->c.label), "ringbuf");
	*out = &r->c;
	return 0;
}
