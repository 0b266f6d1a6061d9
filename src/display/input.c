// SPDX-License-Identifier: GPL-2.0-or-later
/* Routing of keys and pointers to the guest's devices. */
#include "display/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define QUEUE_LEN 1024u		/* power of two */
#define DOWN 0x8000u

struct input {
	pthread_mutex_t *lock;
	struct list devices;		/* the last one first */
	uint16_t queue[QUEUE_LEN];	/* code, DOWN */
	unsigned head, len;
	uint64_t down[INPUT_MAX_KEY / 64];	/* as they will be when the queue is empty */
	struct input_device *owner[INPUT_MAX_KEY];	/* who was told that a key is down */
	unsigned x, y;			/* last position, to make motions of */
	bool has_position;
	bool busy;			/* a device takes a key just now */
};

int input_new(pthread_mutex_t *machine_lock, struct input **out)
{
	struct input *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	in->lock = machine_lock;
	list_init(&in->devices);
	*out = in;
	return 0;
}

void input_free(struct input *in) { free(in); }

void input_add(struct input *in, struct input_device *dev)
{
	/* In front: after the head node's own next. */
	list_add_tail(in->devices.next, &dev->node);
}

void input_del(struct input *in, struct input_device *dev)
{
	list_del(&dev->node);
	for (unsigned i = 0; i < INPUT_MAX_KEY; i++)
		if (in->owner[i] == dev)
			in->owner[i] = NULL;
}

static struct input_device *keyboard(struct input *in)
{
	list_for_each(n, &in->devices) {
		struct input_device *d = list_entry(n, struct input_device, node);

		if (d->key && !d->asleep)
			return d;
	}
	return NULL;
}

static struct input_device *pointer(struct input *in, bool abs)
{
	list_for_each(n, &in->devices) {
		struct input_device *d = list_entry(n, struct input_device, node);

		if (!d->asleep && (abs ? d->abs != NULL : d->rel != NULL))
			return d;
	}
	return NULL;
}

/* Where a key goes: up where it went down. NULL: nowhere any more. */
static struct input_device *key_target(struct input *in, unsigned code, bool down)
{
	struct input_device *d = down ? keyboard(in) : in->owner[code];

	return d && d->asleep ? NULL : d;
}

void input_ready(struct input *in)
{
	while (!in->busy && in->len) {
		uint16_t ev = in->queue[in->head % QUEUE_LEN];
		unsigned code = ev & ~DOWN;
		struct input_device *d = key_target(in, code, ev & DOWN);
		bool taken;

		/* A device that takes one may say that it is ready for the next. */
		in->busy = true;
		taken = !d || d->key(d->opaque, code, ev & DOWN);
		in->busy = false;
		if (!taken)
			return;
		in->owner[code] = ev & DOWN ? d : NULL;
		in->head++;
		in->len--;
	}
}

void input_reset(struct input *in)
{
	in->len = 0;
	memset(in->down, 0, sizeof(in->down));
	memset(in->owner, 0, sizeof(in->owner));
	in->has_position = false;
}

/* A key goes down while there is room for all that are down to come up. */
static bool room(const struct input *in, bool down)
{
	unsigned n = in->len;

	for (unsigned i = 0; down && i < ARRAY_LEN(in->down); i++)
		n += (unsigned)__builtin_popcountll(in->down[i]);
	return n + (down ? 2 : 1) <= QUEUE_LEN;
}

bool input_key_locked(struct input *in, unsigned code, bool down)
{
	uint64_t bit = BIT64(code % 64), *word;

	if (!code || code >= INPUT_MAX_KEY || !keyboard(in))
		return false;
	word = &in->down[code / 64];
	if ((!down && !(*word & bit)) || !room(in, down))
		return false;
	*word = down ? *word | bit : *word & ~bit;
	in->queue[(in->head + in->len++) % QUEUE_LEN] = (uint16_t)(code | (down ? DOWN : 0));
	input_ready(in);
	return true;
}

bool input_full(const struct input *in) { return !room(in, true); }

bool input_key(struct input *in, unsigned code, bool down)
{
	bool ok;

	pthread_mutex_lock(in->lock);
	ok = input_key_locked(in, code, down);
	pthread_mutex_unlock(in->lock);
	return ok;
}

void input_rel_locked(struct input *in, int dx, int dy, int wheel, unsigned buttons)
{
	struct input_device *d = pointer(in, false);

	if (d)
		d->rel(d->opaque, dx, dy, wheel, buttons);
}

void input_rel(struct input *in, int dx, int dy, int wheel, unsigned buttons)
{
	pthread_mutex_lock(in->lock);
	input_rel_locked(in, dx, dy, wheel, buttons);
	pthread_mutex_unlock(in->lock);
}

bool input_abs_locked(struct input *in, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	struct input_device *d = pointer(in, true);

	if (d)
		d->abs(d->opaque, MIN(x, (unsigned)INPUT_ABS_MAX), MIN(y, (unsigned)INPUT_ABS_MAX), wheel, buttons);
	return d != NULL;
}

void input_pointers(struct input *in, void (*fn)(void *opaque, const char *name, bool abs, bool current), void *opaque)
{
	struct input_device *abs = pointer(in, true), *rel = pointer(in, false);

	list_for_each(n, &in->devices) {
		struct input_device *d = list_entry(n, struct input_device, node);

		if (d->abs || d->rel)
			fn(opaque, d->name ? d->name : d->abs ? "tablet" : "mouse", d->abs != NULL, d == (abs ? abs : rel));
	}
}

static unsigned scale(unsigned v, unsigned size)
{
	return size > 1 ? (unsigned)((uint64_t)MIN(v, size - 1) * INPUT_ABS_MAX / (size - 1)) : 0;
}

static void take_abs(struct input *in, unsigned x, unsigned y, unsigned w, unsigned h, int wheel, unsigned buttons)
{
	struct input_device *d = pointer(in, true);

	if (d) {
		d->abs(d->opaque, scale(x, w), scale(y, h), wheel, buttons);
		return;
	}
	d = pointer(in, false);
	x = w ? MIN(x, w - 1) : 0;
	y = h ? MIN(y, h - 1) : 0;
	if (d)
		d->rel(d->opaque, in->has_position ? (int)x - (int)in->x : 0, in->has_position ? (int)y - (int)in->y : 0,
		       wheel, buttons);
	in->x = x;
	in->y = y;
	in->has_position = true;
}

void input_abs(struct input *in, unsigned x, unsigned y, unsigned w, unsigned h, int wheel, unsigned buttons)
{
	pthread_mutex_lock(in->lock);
	take_abs(in, x, y, w, h, wheel, buttons);
	pthread_mutex_unlock(in->lock);
}

bool input_has_abs(struct input *in)
{
	bool has;

	pthread_mutex_lock(in->lock);
	has = pointer(in, true) != NULL;
	pthread_mutex_unlock(in->lock);
	return has;
}
