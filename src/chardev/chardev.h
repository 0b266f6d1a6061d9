/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A byte stream to the outside: terminal, pty, file, nothing.
 *
 * The front end (serial port, virtio console) writes bytes and takes bytes
 * when it has room.  Loop thread, lock held.  Output never blocks the guest for
 * long: what the other side does not take is buffered up to a bound, then
 * write returns less than asked and `writable` is called later.
 */
#ifndef LODGE_CHARDEV_CHARDEV_H
#define LODGE_CHARDEV_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/tls.h"

struct chardev;

struct chardev_front {
	/* How many bytes the front end can take now. */
	size_t (*can_read)(void *opaque);
	void (*read)(void *opaque, const uint8_t *buf, size_t len);
	void (*writable)(void *opaque);			/* may be NULL */
	void (*resized)(void *opaque, unsigned cols, unsigned rows);	/* may be NULL */
	void (*hangup)(void *opaque);			/* other side gone; may be NULL */
	void (*opened)(void *opaque);			/* somebody is there (again); may be NULL */
	void (*brk)(void *opaque);			/* a break condition; may be NULL */
	/* One of several on a mux: what is typed goes here from now on, or no longer.  May be NULL. */
	void (*focus)(void *opaque, bool here);
	/* It answers, and is ready to read (can_read) only when it has: who sends a line and no more hears the answer before the end. */
	bool answers;
	void *opaque;
};

/* Called when the user types the escape sequence's quit key (stdio). */
struct chardev_stdio_opts {
	uint8_t escape;			/* control character, e.g. 0x1d = Ctrl-] ; 0: none */
	bool then_x;			/* quits only with an x behind it; twice is the character itself (QEMU's Ctrl-a x) */
	void (*quit)(void *opaque);
	void *opaque;
};

/* Raw mode if stdin is a terminal (restored on every exit path, including
 * signals: chardev_stdio_restore is async-signal-safe). Pipes and no tty work. */
int chardev_stdio_new(struct loop *l, const struct chardev_stdio_opts *o, struct chardev **out, struct err *e);
void chardev_stdio_restore(void);
/* name_out: path of the slave, e.g. /dev/pts/5. */
int chardev_pty_new(struct loop *l, char *name_out, size_t name_len, struct chardev **out, struct err *e);
/* append: what is there stays. */
int chardev_file_new(struct loop *l, const char *path, bool append, struct chardev **out, struct err *e);
int chardev_null_new(struct loop *l, struct chardev **out);
/* In-process pipe for tests and --exec: bytes the guest writes go to sink. */
int chardev_pipe_new(struct loop *l, void (*sink)(void *, const uint8_t *, size_t), void *opaque, struct chardev **out);
/* Who is behind a pipe hears when there is room again after chardev_feed took less than it was given, and when the guest opens and
 * closes the port (machine reset closes it, too).  Either may be NULL. */
void chardev_pipe_watch(struct chardev *c, void (*room)(void *opaque), void (*guest)(void *opaque, bool open));
/* What came from the outside and the front end has not taken yet, up to max bytes; how many. */
size_t chardev_unread(const struct chardev *c, uint8_t *buf, size_t max);
/* It is for somebody who is gone. */
void chardev_drop_unread(struct chardev *c);
/* Feed bytes as if the outside typed them (pipe only). Returns bytes taken (buffered up to 64 KiB). */
size_t chardev_feed(struct chardev *c, const uint8_t *buf, size_t len);
/* The outside typed its last byte (pipe only): once the front end has taken what
 * was fed, its hangup is called. */
void chardev_feed_eof(struct chardev *c);

struct chardev_socket_opts {
	const char *path;		/* unix socket; NULL: TCP */
	const char *host, *port;	/* host NULL: the loopback; port: a number */
	int fd;				/* > 2: connected, or listening if server; it is taken over, on error too */
	bool server;
	bool live;			/* the guest stands still meanwhile: addresses are numeric, and a peer answers within a second */
	bool telnet;			/* the other side is a telnet program */
	unsigned reconnect_s;		/* client: try again after so many seconds; 0: once, at the start */
	const char *id;			/* for messages about the other side; NULL: the label */
	/* Referred to for as long as the chardev is there; NULL: none.  Its side (tls_creds_server) must be the chardev's. */
	struct tls_creds *tls;
	const struct tls_guard *guard;	/* who may connect; NULL: everybody; copied */
	bool websocket;			/* a server's clients speak through one */
};
/*
 * One connection at a time; a server's next client waits until the last has gone.  What is written while nobody is
 * connected is lost, and while TLS or a WebSocket is begun nobody is; that may take ten seconds.  Names are resolved now.  Errors name
 * the place.
 */
int chardev_socket_new(struct loop *l, const struct chardev_socket_opts *o, struct chardev **out, struct err *e);
/* Waits for a server's first client. EINTR: a signal that is to end the guest came first.  Before the loop runs; no lock held. */
int chardev_socket_wait(struct chardev *c, struct err *e);
/* The newest `size` bytes (a power of two up to 16 MiB) of what the guest writes, for who asks. */
int chardev_ringbuf_new(struct loop *l, size_t size, struct chardev **out, struct err *e);
/* Takes the oldest bytes, up to max; how many.  -EINVAL: no ring buffer. */
ssize_t chardev_ringbuf_read(struct chardev *c, uint8_t *buf, size_t max);
/* Puts bytes behind those that are there. */
int chardev_ringbuf_write(struct chardev *c, const uint8_t *buf, size_t len);

struct chardev_mux_opts {
	uint8_t escape;			/* control character; the key behind it is for the mux.  0: none, so the focus stays */
	void (*quit)(void *opaque);	/* its x */
	/* Its s: writes back what temporary files hold; a text to show. */
	const char *(*save)(void *opaque);
	void *opaque;
};
/*
 * Several front ends on one back end, as QEMU's mux=on: what they write comes together, what is typed (breaks, too) goes to one of them,
 * and the escape character followed by c to the next, h lists the others.  Takes `base` over, on success only.
 */
int chardev_mux_new(struct loop *l, struct chardev *base, const struct chardev_mux_opts *o, struct chardev **out);
#define CHARDEV_MUX_PARTS 4
/* A place for a front end, which belongs to the mux; what is typed goes there unless `behind`.  E2BIG: there are CHARDEV_MUX_PARTS;
 * EINVAL: c is no mux. */
int chardev_mux_part(struct chardev *c, bool behind, struct chardev **out);
/* Takes a front end's place away and frees it; others keep theirs. */
void chardev_mux_drop(struct chardev *part);
/* Is it a place on a mux that has not got what is typed? */
bool chardev_mux_away(const struct chardev *part);
/* A break condition for the front end, as a terminal's line would have it. */
void chardev_break(struct chardev *c);

/* Is somebody at the other side? */
bool chardev_is_open(const struct chardev *c);
/* What is behind it, as QEMU describes it: "unix:/path,server=on". */
const char *chardev_name(const struct chardev *c);
/* Has a front end been attached? */
bool chardev_in_use(const struct chardev *c);

/* An f without callbacks detaches. */
void chardev_attach(struct chardev *c, const struct chardev_front *f);
size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len);
/* What was written byte by byte and waits for the loop's next turn goes out now. */
void chardev_flush(struct chardev *c);
/* The front end's user, a program in the guest, has opened or closed its side. */
void chardev_guest_open(struct chardev *c, bool open);
/* The front end has room again. */
void chardev_kick(struct chardev *c);
void chardev_size(struct chardev *c, unsigned *cols, unsigned *rows);	/* 0,0 unknown */
/* `by` takes the place of what is behind c, with its front end and what it has not read yet; c goes on to be its name, and frees it.
 * Neither is a mux, nor a place on one.  Not from inside of one of c's callbacks. */
void chardev_replace(struct chardev *c, struct chardev *by);
void chardev_free(struct chardev *c);

#endif
