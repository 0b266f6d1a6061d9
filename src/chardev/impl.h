/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the chardevs, shared by src/chardev only.
 *
 * The core (chardev.c) holds both buffers and talks to the front end; a back end
 * embeds struct chardev first, hands in what the outside sent with
 * chardev_input, and takes output through its send method.
 */
#ifndef LODGE_CHARDEV_IMPL_H
#define LODGE_CHARDEV_IMPL_H

#include "chardev/chardev.h"

#define CHARDEV_BUF 65536u

struct chardev_ops {
	/* Gives bytes to the outside: how many it took; less than len means that
	 * chardev_output_ready will be called.  Bytes for nobody count as taken. */
	size_t (*send)(struct chardev *c, const uint8_t *buf, size_t len);
	/* There is (or is no longer) room for input.  May be NULL. */
	void (*want_input)(struct chardev *c, bool yes);
	void (*size)(struct chardev *c, unsigned *cols, unsigned *rows);	/* may be NULL */
	void (*answered)(struct chardev *c);	/* chardev_answer_due was true and is no longer.  May be NULL */
	void (*brk)(struct chardev *c);		/* a break for whoever it is for; NULL: the front end */
	/* A program in the guest has opened or closed the port.  May be NULL. */
	void (*guest_open)(struct chardev *c, bool open);
	/* Unregisters, closes; the core frees. */
	void (*free)(struct chardev *c);
};

struct ring {
	uint8_t *p;			/* CHARDEV_BUF bytes */
	size_t head, n;
};

struct chardev {
	const struct chardev_ops *ops;
	struct loop *l;
	struct chardev_front f;
	struct ring in, out;
	struct loop_bh deliver;		/* to the front end, on the loop's thread */
	struct loop_bh drain;		/* single bytes waiting in out, to the outside */
	bool front_waits;		/* a write was cut short: call writable */
	bool in_stopped;		/* want_input(false) was called */
	bool eof, hung_up;
	bool closed;			/* nobody at the other side */
	bool tell_open;			/* f.opened is to be called */
	bool attached;
	char label[160];		/* chardev_name */
	struct chardev *now;		/* chardev_replace: this one is only a name for that one */
	bool keep_newest;		/* output nobody takes: drop the oldest, not the guest's time */
};

/* What c stands for: functions that users call begin with it. */
static inline struct chardev *chardev_now(struct chardev *c) { return c->now ? c->now : c; }

/* c is zeroed memory of the back end; on error nothing is to be undone. */
int chardev_init(struct chardev *c, struct loop *l, const struct chardev_ops *ops);
/* Undoes chardev_init and frees c itself. */
void chardev_discard(struct chardev *c);

/* For back ends, lock held. */
size_t chardev_input_room(const struct chardev *c);
size_t chardev_input(struct chardev *c, const uint8_t *buf, size_t len);
/* Has what came so far still to be answered? */
bool chardev_answer_due(const struct chardev *c);
void chardev_input_eof(struct chardev *c);	/* the front end hears of it after the last byte */
void chardev_opened(struct chardev *c);		/* somebody came; before their first byte */
void chardev_output_ready(struct chardev *c);	/* send may take more now */

/* A generic back end on two descriptors (fd.c). */
struct chardev_fd {
	struct chardev c;
	struct loop_fd in, out;		/* fd -1: none */
	bool close_in, close_out;
	bool in_is_file;		/* epoll refuses it: read from a posted callback */
	bool out_is_socket;
	size_t max_write;		/* one write that does not block after POLLOUT; 0: non-blocking fd */
	struct loop_bh in_bh;
	/* Looks at bytes read before they are queued; returns how many stay in buf. May be NULL. */
	size_t (*filter)(struct chardev_fd *d, uint8_t *buf, size_t len);
	bool always_read;		/* even without room: the filter waits for a key */
	bool out_failed;
	char name[64];			/* for messages */
};

/* Sets up what fd, close_*, filter and name describe.  d->c was initialised. */
int chardev_fd_start(struct chardev_fd *d);
void chardev_fd_stop(struct chardev_fd *d);
size_t chardev_fd_send(struct chardev *c, const uint8_t *buf, size_t len);
void chardev_fd_want_input(struct chardev *c, bool yes);

#endif
