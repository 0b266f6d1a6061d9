/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file server for one folder of the host: 9P2000.L, the protocol of Linux's v9fs.
 * It takes messages as bytes and gives answers as bytes; whoever carries them
 * (virtio/p9.c, a test) is the transport.
 *
 * The client is hostile.  Nothing it can send reaches a file outside the folder:
 * names are single components that are opened one by one below a descriptor, links
 * are never followed, and only regular files and folders are ever opened (internal.h
 * has the rules).  Memory, descriptors and threads are bounded by the limits below.
 *
 * Requests run on threads of the server's, several at a time, so a file system that
 * does not answer does not hold up who reads and writes open files of another.  What
 * is renamed or taken away waits for whatever works with names, and that for it.
 */
#ifndef LODGE_P9_P9_H
#define LODGE_P9_P9_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"

#define P9_MSIZE_MAX 524288u		/* bytes of a message or an answer */
#define P9_MSIZE_MIN 4096u
#define P9_HEADER 7u			/* size (4), type (1), tag (2) */
#define P9_ERROR_SIZE 11u		/* of an answer that says why not: there must be room for it */
#define P9_MAX_FIDS (1u << 19)
#define P9_MAX_NODES (1u << 20)		/* files of fids, and the folders above them */
#define P9_FDS 256u
#define P9_MAX_THREADS 16
#define P9_XATTR_BYTES (16u << 20)	/* of all values that are being written and read */
#define P9_MAX_LOCKS 16384u		/* each is compared with all others, also when a session is loaded */
#define P9_MAX_PARKED 64u		/* requests that wait for a lock; a transport takes more, so that there is a way to give it back */
#define P9_STATE_MAX (256u << 20)

/* How owner, mode and kind of the guest's files are kept (QEMU's security models). */
enum p9_model {
	P9_NONE,		/* as they are; changing the owner may fail in silence */
	P9_PASSTHROUGH,		/* as they are; needs the rights to do that */
	P9_MAPPED_XATTR,	/* in extended attributes user.virtfs.* */
	P9_MAPPED_FILE,		/* in files of the folders .virtfs_metadata */
};

/* What becomes of inode numbers when there are several file systems in the folder. */
enum p9_multidevs { P9_DEVS_REMAP, P9_DEVS_WARN, P9_DEVS_FORBID };

struct p9_opts {
	const char *path;	/* of the folder; followed once, when the server is made */
	const char *name;	/* for messages */
	enum p9_model model;
	enum p9_multidevs multidevs;
	bool readonly;
	bool writeout;		/* written data goes to the disk at once */
	mode_t fmode, dmode;	/* of new files and folders on the host, mapped models; 0: 0600 and 0700 */
	unsigned max_fds;	/* descriptors it may keep open; 0: P9_FDS */
	unsigned max_nodes;	/* files it may know at a time; 0: P9_MAX_NODES */
	unsigned max_threads;	/* 0: none, p9_submit does the work itself */
	bool plain_open;	/* as on a kernel without openat2 */
};

struct p9;
struct p9_session;

/* One message and its answer.  The caller sets what is above the line and keeps all until done is called, once. */
struct p9_req {
	const uint8_t *in;
	uint32_t in_len;	/* at least P9_HEADER */
	uint8_t *out;
	uint32_t out_room;	/* at least P9_ERROR_SIZE */
	/* Any thread, also within p9_submit; no lock of the server's is held.  It may free the request. */
	void (*done)(struct p9_req *r);
	void *opaque;
	/* ---- */
	uint32_t out_len;	/* of the answer; 0: there is none, since it was flushed */
	struct list node;
	struct p9_session *ses;
	uint16_t tag;
	uint8_t type;
};

/* Opens the folder. ENOENT, ENOTDIR, ENOTSUP (no extended attributes) and others, with a message. */
int p9_new(const struct p9_opts *o, struct p9 **out, struct err *e);
/* Every request has ended.  Waits for threads.  NULL is allowed. */
void p9_free(struct p9 *s);

/* Any thread. */
void p9_submit(struct p9 *s, struct p9_req *r);
/* Waits until all requests have ended; those that wait for a lock are told that it is taken.  No p9_submit meanwhile. */
void p9_drain(struct p9 *s);
/* The client's session, malloc'ed, at most P9_STATE_MAX bytes; all requests have ended (p9_drain).  EBUSY: it has a file open that has
 * no name any more; ENAMETOOLONG: a handle of one that is too deep; the log says which.  E2BIG, ENOMEM */
int p9_save(struct p9 *s, uint8_t **out, uint32_t *len);
/* Goes on with one.  No p9_submit meanwhile.  EINVAL, ENOENT (what is open is not in the folder) and others, with a message: the
 * session is a new one then. */
int p9_load(struct p9 *s, const uint8_t *p, uint32_t len, struct err *e);
/* As if the client were new: its fids and locks are gone.  Does not wait: requests under way end by and by, those that have
 * not begun end without an answer. */
void p9_reset(struct p9 *s);

#endif
