/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the 9P server.
 *
 * A *fid* is the client's handle of a file.  It refers to a *node*: a file by its
 * place, which is its folder's node and a name, shared by all fids of that place,
 * so that a rename moves all of them and those below at once.  A node has an O_PATH
 * descriptor, which is closed when there are too many and opened anew by its place;
 * what is then there has to be the same file.  A node whose file has gone from its
 * place keeps the descriptor, of which half of all may be such: what would make more is
 * refused, or, when it is the host that takes files away, the node is stale.
 *
 * How nobody gets out of the folder: the root's descriptor is opened once.  From
 * there every descriptor of a node is opened by one single component, below the
 * descriptor of its folder, without following a link (p9_beneath).  ".." is the
 * node's parent in our own tree.  Whatever is done with a file is done to that
 * descriptor, or to a single name below that of a folder; a file is opened for
 * reading and writing through its descriptor's entry in /proc/self/fd, after
 * looking at what kind it is: regular files and folders alone.  Between looking and
 * opening nothing can be put in the file's place.
 *
 * Locks, in this order: `tree` (places of nodes: held for reading by whatever uses
 * them, for writing by what changes them), `locks`, `meta` (metadata files: held for
 * writing while one is changed), `lock` (tables, reference counts and descriptors:
 * never held across a system call that may wait), `queue` (requests).
 */
#ifndef LODGE_P9_INTERNAL_H
#define LODGE_P9_INTERNAL_H

#include <pthread.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/bits.h"
#include "p9/p9.h"
#include "p9/table.h"
#include "p9/wire.h"

#define P9_PINNED_MIN 64	/* descriptors of files without a place that there may be in any case */
#define P9_MAX_DEPTH 4096	/* folders that are opened anew at a time, one below the other */
#define P9_PROC_NAME 16		/* a descriptor's name in /proc/self/fd */
#define P9_PROC_PATH 32		/* and with the folder */
#define P9_META_DIR ".virtfs_metadata"
#define P9_META_ROOT ".virtfs_metadata_root"

/* A descriptor that may be closed while nobody uses it.  `lock`. */
struct p9_desc {
	int fd;			/* -1: closed */
	unsigned busy;		/* users just now */
	bool pinned;		/* could not be opened again */
	struct list lru;	/* in p9.lru if it is open, idle and not pinned */
};

/* What a file is, to the client. */
struct p9_stat {
	uint64_t dev, ino, rdev, size, blocks;
	uint32_t mode, uid, gid, nlink;
	struct timespec atime, mtime, ctime, btime;
	bool has_btime;
	uint32_t host_mode;	/* what it is on the host */
};

struct p9_node {
	struct p9_link link;	/* first; in p9.nodes unless gone */
	struct p9_node *parent;	/* NULL: the root.  A reference */
	char *name;
	unsigned refs;		/* `lock` */
	uint64_t dev, ino;
	mode_t type;		/* S_IFMT on the host */
	bool gone;		/* its place is not its any more; `lock` */
	struct p9_desc d;
};

/* An open file or folder. */
struct p9_open {
	struct p9_desc d;
	int flags;
	bool dir;
	pthread_mutex_t lock;	/* of a folder's position */
};

/* The value of an extended attribute, or the list of them, that is read or written by Tread and Twrite. */
struct p9_xattr {
	bool write;
	uint8_t *value;
	uint32_t size, written;
	int flags;
	char name[256];
};

struct p9_fid {
	struct p9_link link;	/* first; in p9_session.fids */
	uint32_t num, uid;
	unsigned refs;		/* `lock` */
	struct p9_node *node;
	_Atomic(struct p9_open *) open;	/* at most one of the two; once set they stay */
	_Atomic(struct p9_xattr *) xattr;
	bool claimed;		/* somebody is about to set one of them */
};

/* What one client has between Tversion and the next, or a reset. */
struct p9_session {
	unsigned refs;		/* `queue`: of requests, and the server's */
	uint32_t msize;		/* 0: Tversion has not come yet */
	struct p9_table fids;	/* `lock` */
	bool ended;		/* `lock`: takes no fids any more */
	struct p9_session *next_dead;
};

struct p9_flock {
	struct list node;
	struct p9_session *ses;
	uint64_t dev, ino, start, end;	/* end: the last byte */
	uint32_t pid;
	bool write;
	char client[65];	/* Linux: its host name, of up to 64 characters */
};

struct p9 {
	struct p9_opts o;
	char *name;
	int root_fd, proc_fd;
	bool openat2;
	uid_t euid;

	pthread_rwlock_t tree;
	pthread_rwlock_t meta;
	pthread_mutex_t locks;
	struct list flocks;	/* struct p9_flock; `locks` */
	unsigned n_flocks;

	pthread_mutex_t lock;
	struct p9_table nodes;
	struct p9_node *root;
	struct list lru;	/* struct p9_desc, the longest idle one first */
	unsigned n_fds, n_pinned, max_fds;	/* n_pinned: of them, of nodes that have lost their place */
	unsigned n_nodes, max_nodes;
	unsigned n_fids;
	uint64_t xattr_bytes;
	struct p9_table prefixes;	/* of inode numbers, see qid.c */
	bool told_devs;

	pthread_mutex_t queue;
	pthread_cond_t work, idle_cond;
	struct p9_session *ses;
	struct list queued, parked;	/* struct p9_req */
	struct list running;		/* struct p9_run */
	unsigned pending;	/* requests whose done has not returned */
	unsigned n_queued, n_idle, n_threads;
	struct p9_session *dead;	/* to be taken apart, one after the other */
	bool quit;
	bool draining;		/* nothing is to wait for a lock */
	pthread_t thread[P9_MAX_THREADS];
};

/* A request that has begun, until whoever sent it has its answer: the request itself is gone by then. */
struct p9_run {
	struct list node;	/* in p9.running */
	struct list flushes;	/* Tflush requests that wait for it; `queue` */
	struct p9_session *ses;
	uint16_t tag;
};

/* A request while it is worked on. */
struct p9_call {
	struct p9 *s;
	struct p9_session *ses;
	struct p9_req *r;
	struct p9_run *run;
	struct p9_in in;
	struct p9_out out;	/* behind the header */
};

/* A positive result of an operation: the request waits, and is no business of the caller any more. */
#define P9_WAITS 1

#define P9_SHOWN 64		/* bytes of a client's text in a message, with the NUL */

/* ---- server.c ---- */
/* As much of a client's text as fits, for a message: what moves a cursor or begins a line is '?'. */
const char *p9_shown(const char *text, char buf[P9_SHOWN]);
/* `queue` not held: what waits for a lock is tried again. */
void p9_retry_parked(struct p9 *s);
/* Puts the request that runs on the list of those that wait; false: somebody has flushed it, its session is over, or
 * there are P9_MAX_PARKED. `locks` held. */
bool p9_park(struct p9_call *c);
/* Has another session taken its place? */
bool p9_session_over(struct p9 *s, const struct p9_session *ses);
/* A new session takes the place of the old one, whose locks are gone then and whose fids are closed by and by.  of: the session
 * that asks for it, -ESTALE if it is over itself; NULL: none. -ENOMEM */
int p9_new_session(struct p9 *s, const struct p9_session *of, uint32_t msize);

/* ---- node.c ---- */
/* A single component below a folder's descriptor, links not followed; flags: O_PATH and others. fd or -errno */
int p9_beneath(const struct p9 *s, int dirfd, const char *name, int flags, mode_t mode);
/* /proc/self/fd's name of it, for p9.proc_fd, and the whole path, for calls that take no folder */
const char *p9_proc_name(int fd, char buf[P9_PROC_NAME]);
const char *p9_proc_path(int fd, char buf[P9_PROC_PATH]);
/* Opens what an O_PATH descriptor refers to, a regular file or a folder by `type`; ENXIO: it is something else. */
int p9_reopen(const struct p9 *s, int fd, mode_t type, int flags);
int p9_nodes_init(struct p9 *s, struct err *e);
void p9_nodes_fini(struct p9 *s);

void p9_node_ref(struct p9 *s, struct p9_node *n);
void p9_node_unref(struct p9 *s, struct p9_node *n);
/* The node's descriptor, open until p9_release.  `tree` held. fd, -ESTALE or another error */
int p9_hold(struct p9 *s, struct p9_node *n);
void p9_release(struct p9 *s, struct p9_node *n);
/* The node at a name, if there is one already: a reference, or NULL. */
struct p9_node *p9_node_find(struct p9 *s, struct p9_node *dir, const char *name);
/* The file at a name of a folder: a reference, and what it is on the host.  `tree` held. */
int p9_node_walk(struct p9 *s, struct p9_node *dir, const char *name, struct p9_node **out, struct p9_stat *st);
/* A node without a place or a file: a reference, or NULL. */
struct p9_node *p9_node_stale(struct p9 *s, mode_t type);
bool p9_node_is_gone(struct p9 *s, const struct p9_node *n);
/* Is what is at its place still it? 0 or -ESTALE; `tree` held. */
int p9_node_check(struct p9 *s, struct p9_node *n);
/* Is there room for one more node that keeps its descriptor without a place? 0 or -ENFILE */
int p9_nodes_may_go(struct p9 *s);
/* The file has gone from its place; `tree` held for writing. */
void p9_node_gone(struct p9 *s, struct p9_node *n);
/* The file is at another place now; `tree` held for writing. */
void p9_node_move(struct p9 *s, struct p9_node *n, struct p9_node *dir, const char *name);

/* Of open files: fd or -errno.  `tree` may be held for reading. */
int p9_open_hold(struct p9 *s, struct p9_fid *f);
void p9_open_release(struct p9 *s, struct p9_fid *f);
/* A new one takes over fd. */
struct p9_open *p9_open_new(struct p9 *s, int fd, int flags, bool dir);
void p9_open_free(struct p9 *s, struct p9_open *o);

/* ---- fid.c ---- */
/* A reference to the fid, or NULL. */
struct p9_fid *p9_fid_get(struct p9_call *c, uint32_t num);
void p9_fid_put(struct p9 *s, struct p9_fid *f);
/* A new one in the table, with a reference to the node, and x or NULL, taken over on success. EINVAL: the number is taken; ENFILE, ENOMEM */
int p9_fid_new(struct p9_call *c, uint32_t num, uint32_t uid, struct p9_node *n, struct p9_xattr *x);
/* With room for so many bytes, or with a malloc'ed value that it takes over.  NULL: *ret is -ENOSPC or -ENOMEM */
struct p9_xattr *p9_xattr_new(struct p9 *s, uint32_t size, uint8_t *value, int *ret);
void p9_xattr_free(struct p9 *s, struct p9_xattr *x);
/* Takes it out of the table; the table's reference is the caller's. NULL: there is none */
struct p9_fid *p9_fid_take(struct p9_call *c, uint32_t num);
/* A fid of another node in the place of one that is not open, or that the caller has claimed and which is open now.  Requests
 * that work with the old one go on with it.  The reference, and o, are taken over on success. */
int p9_fid_replace(struct p9_call *c, struct p9_fid *f, struct p9_node *n, struct p9_open *o);
/* The right to open it, once. EINVAL: it is open, or about to be */
int p9_fid_claim(struct p9_call *c, struct p9_fid *f);
void p9_fid_unclaim(struct p9_call *c, struct p9_fid *f);
/* What it is now, by who claimed it. */
void p9_fid_opened(struct p9_call *c, struct p9_fid *f, struct p9_open *o, struct p9_xattr *x);
/* Closes all of a session. */
void p9_fids_clear(struct p9 *s, struct p9_session *ses);

/* ---- attr.c, cred.c, qid.c ---- */
/* Of an open descriptor, or a name below it, as it is on the host. */
int p9_stat_host(int fd, const char *name, struct p9_stat *st);
/* Of a node as the client sees it. `tree` held. */
int p9_stat_node(struct p9 *s, struct p9_node *n, struct p9_stat *st);
/* The qid of it.  ENODEV, ENFILE: see qid.c */
int p9_qid(struct p9 *s, const struct p9_stat *st, struct p9_qid *q);
int p9_qid_path(struct p9 *s, uint64_t dev, uint64_t ino, uint64_t *path);
int p9_qids_init(struct p9 *s, const struct p9_stat *root);
void p9_qids_fini(struct p9 *s);
/* `lock` held: the prefixes, by add(opaque, bytes, number). */
struct buf;
void p9_qids_save(const struct p9 *s, void (*add)(struct buf *b, unsigned len, uint64_t v), struct buf *b);
/* Takes them over if the folder is still on the same file system. 0 or -EINVAL */
int p9_qids_load(struct p9 *s, struct p9_in *in);

/* What is to change of owner, mode, device number: those that are given. */
struct p9_cred {
	bool has_uid, has_gid, has_mode, has_rdev;
	uint32_t uid, gid, mode;
	uint64_t rdev;
};
static inline bool p9_mapped(const struct p9 *s)
{
	return s->o.model == P9_MAPPED_XATTR || s->o.model == P9_MAPPED_FILE;
}
/* Changes *st from the host's to the client's view. */
int p9_cred_read(struct p9 *s, struct p9_node *n, int fd, struct p9_stat *st);
/* What was given changes, in any model.  The node is held as fd. `tree` held. */
int p9_cred_write(struct p9 *s, struct p9_node *n, int fd, const struct p9_cred *cr);
/* Metadata of a file that has been taken away; or the folder of metadata inside of one that is to be (ENOTEMPTY: there is some). */
int p9_cred_unlink(struct p9 *s, int dirfd, const char *name, bool inside);
/* Of one that has moved. */
int p9_cred_rename(struct p9 *s, int from, const char *old, int to, const char *new);
/* Whether a name is the server's own and is not shown to clients. */
bool p9_hidden_name(const struct p9 *s, const char *name);
int p9_cred_check(struct p9 *s, struct err *e);

/* ---- lock.c ---- */
/* All locks of a session, which takes no more: it is over, or nobody works for it. */
void p9_locks_drop(struct p9 *s, struct p9_session *ses);
/* One of a saved session's. 0, -EAGAIN: another is in its way, -ENOLCK */
int p9_lock_load(struct p9 *s, const struct p9_flock *k);

/* ---- io.c ---- */
/* From the beginning of the file on; 0 or -errno. */
int p9_write_all(int fd, const char *p, size_t len);

/* ---- walk.c, dir.c ---- */
/* Of what a client asked to open: the flags for open(2), and whether something may change. */
int p9_open_flags(uint32_t asked);
bool p9_open_changes(uint32_t asked);
/* Takes a name away. `tree` held for writing. */
int p9_unlink_in(struct p9 *s, struct p9_node *dir, const char *name, bool is_dir);

/* ---- the operations: 0, -errno, or P9_WAITS ---- */
int p9_op_attach(struct p9_call *c);
int p9_op_walk(struct p9_call *c);
int p9_op_clunk(struct p9_call *c);
int p9_op_remove(struct p9_call *c);
int p9_op_lopen(struct p9_call *c);
int p9_op_lcreate(struct p9_call *c);
int p9_op_mkdir(struct p9_call *c);
int p9_op_mknod(struct p9_call *c);
int p9_op_symlink(struct p9_call *c);
int p9_op_link(struct p9_call *c);
int p9_op_rename(struct p9_call *c);
int p9_op_renameat(struct p9_call *c);
int p9_op_unlinkat(struct p9_call *c);
int p9_op_read(struct p9_call *c);
int p9_op_write(struct p9_call *c);
int p9_op_readdir(struct p9_call *c);
int p9_op_fsync(struct p9_call *c);
int p9_op_statfs(struct p9_call *c);
int p9_op_readlink(struct p9_call *c);
int p9_op_getattr(struct p9_call *c);
int p9_op_setattr(struct p9_call *c);
int p9_op_xattrwalk(struct p9_call *c);
int p9_op_xattrcreate(struct p9_call *c);
int p9_op_lock(struct p9_call *c);
int p9_op_getlock(struct p9_call *c);
/* Sets the attribute that a fid has collected. */
int p9_xattr_commit(struct p9 *s, struct p9_fid *f);
/* What iounit, and a file's block size, are. */
uint32_t p9_iounit(const struct p9_session *ses);

#endif
