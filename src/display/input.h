/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From who types and points to the guest's keyboards and pointers.
 *
 * Keys are Linux evdev codes (KEY_A is 30), as linux/input-event-codes.h numbers
 * them; devices map them to what their wire carries.  The last device that came
 * and is not asleep gets the events of its kind: a tablet takes absolute positions,
 * and where there is none they become motions of a mouse.  A key comes up where it
 * went down.
 *
 * The machine lock protects all of it; the functions for viewers take it.  Keys
 * that a device has no room for wait here, a thousand at most; more are dropped,
 * except that a key which is down always comes up again.
 */
#ifndef LODGE_DISPLAY_INPUT_H
#define LODGE_DISPLAY_INPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define INPUT_MAX_KEY 256u	/* codes are below */
#define INPUT_ABS_MAX 32767	/* positions: 0 is left or top, this right or bottom */
enum { INPUT_LEFT = 1, INPUT_RIGHT = 2, INPUT_MIDDLE = 4, INPUT_SIDE = 8, INPUT_EXTRA = 16 };

struct input;

/* A device of the guest; machine lock held.  Functions it has no use for are NULL. */
struct input_device {
	/* False: no room now, input_ready will be called. */
	bool (*key)(void *opaque, unsigned code, bool down);
	/* Motion to the right and down, wheel away from the user. */
	void (*rel)(void *opaque, int dx, int dy, int wheel, unsigned buttons);
	void (*abs)(void *opaque, unsigned x, unsigned y, int wheel, unsigned buttons);
	void *opaque;
	const char *name;	/* for people; NULL: what it does */
	bool asleep;		/* nobody in the guest listens to it (yet); it may change that at any time */
	struct list node;
};

int input_new(pthread_mutex_t *machine_lock, struct input **out);
void input_free(struct input *in);

/* Machine lock held. */
void input_add(struct input *in, struct input_device *dev);
void input_del(struct input *in, struct input_device *dev);
/* A keyboard has room again. */
void input_ready(struct input *in);
/* input_key and what it would say; is there no room for another key? */
bool input_key_locked(struct input *in, unsigned code, bool down);
bool input_full(const struct input *in);
void input_rel_locked(struct input *in, int dx, int dy, int wheel, unsigned buttons);
/* x, y: 0 to INPUT_ABS_MAX; false: nobody takes positions. */
bool input_abs_locked(struct input *in, unsigned x, unsigned y, int wheel, unsigned buttons);
/* Calls fn for each pointer, those that get events first. */
void input_pointers(struct input *in, void (*fn)(void *opaque, const char *name, bool abs, bool current), void *opaque);
/* Nothing is down, nothing waits: the machine was reset. */
void input_reset(struct input *in);

/* Any thread, machine lock not held.  False: dropped, no room or no such code. */
bool input_key(struct input *in, unsigned code, bool down);
void input_rel(struct input *in, int dx, int dy, int wheel, unsigned buttons);
/* Position x, y of a screen of width w and height h, in pixels. */
void input_abs(struct input *in, unsigned x, unsigned y, unsigned w, unsigned h, int wheel, unsigned buttons);
/* Does somebody take positions? */
bool input_has_abs(struct input *in);

#endif
