/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 9P client for tests: a scratch folder, a server on it, and calls that send one
 * message and wait for its answer.
 *
 *	struct cl c;
 *	cl_open(&c, P9_NONE, 0);	// folder c.dir, no threads, attached as fid 0
 *	cl_walk(&c, 0, 1, "d/f");	// 0 or -errno, as every call
 *	cl_close(&c);			// and the folder is gone
 */
#ifndef LODGE_TESTS_P9_CLIENT_H
#define LODGE_TESTS_P9_CLIENT_H

#include "unit.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "p9/p9.h"
#include "p9/wire.h"

#define CL_MAX (64u << 10)

struct cl {
	struct p9 *s;
	char dir[64];
	uint8_t in[CL_MAX], out[CL_MAX];
	uint8_t *p;			/* end of the message being made */
	uint32_t out_len;
	struct p9_in ans;		/* the answer, behind its header */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool ended;
	uint16_t tag;
};

static inline void cl_done(struct p9_req *r)
{
	struct cl *c = r->opaque;

	pthread_mutex_lock(&c->lock);
	c->ended = true;
	c->out_len = r->out_len;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static inline void cl_begin(struct cl *c, uint8_t type)
{
	c->in[4] = type;
	st_le16(c->in + 5, c->tag);
	c->p = c->in + P9_HEADER;
}

static inline void cl_n(struct cl *c, unsigned len, uint64_t v)
{
	st_le(c->p, len, v);
	c->p += len;
}

static inline void cl_s(struct cl *c, const char *text)
{
	size_t len = strlen(text);

	cl_n(c, 2, len);
	memcpy(c->p, text, len);
	c->p += len;
}

/* Sends what was made: 0 or -errno, with the answer in c->ans. */
static inline int cl_send(struct cl *c)
{
	struct p9_req r = { .in = c->in, .in_len = (uint32_t)(c->p - c->in), .out = c->out, .out_room = CL_MAX, .done = cl_done, .opaque = c };
	uint8_t type = c->in[4];

	st_le32(c->in, r.in_len);
	c->ended = false;
	p9_submit(c->s, &r);
	pthread_mutex_lock(&c->lock);
	while (!c->ended)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
	assert_true(c->out_len >= P9_HEADER);
	assert_int_equal(ld_le32(c->out), c->out_len);
	assert_int_equal(ld_le16(c->out + 5), c->tag);
	c->ans = (struct p9_in){ c->out + P9_HEADER, c->out + c->out_len, 0 };
	if (c->out[4] == RLERROR) {
		assert_int_equal(c->out_len, P9_ERROR_SIZE);
		return -(int)p9_get32(&c->ans);
	}
	assert_int_equal(c->out[4], type + 1);
	return 0;
}

static inline int cl_version(struct cl *c, uint32_t msize, const char *version)
{
	cl_begin(c, TVERSION);
	cl_n(c, 4, msize);
	cl_s(c, version);
	return cl_send(c);
}

static inline int cl_attach(struct cl *c, uint32_t fid)
{
	cl_begin(c, TATTACH);
	cl_n(c, 4, fid);
	cl_n(c, 4, P9_NOFID);
	cl_s(c, "root");
	cl_s(c, "");
	cl_n(c, 4, geteuid());
	return cl_send(c);
}

/* "a/b/c" is three names, "" none. */
static inline int cl_walk(struct cl *c, uint32_t fid, uint32_t newfid, const char *path)
{
	uint8_t *count;
	unsigned n = 0;
	int ret;

	cl_begin(c, TWALK);
	cl_n(c, 4, fid);
	cl_n(c, 4, newfid);
	count = c->p;
	cl_n(c, 2, 0);
	while (*path) {
		size_t len = strcspn(path, "/");

		cl_n(c, 2, len);
		memcpy(c->p, path, len);
		c->p += len;
		path += len + (path[len] == '/');
		n++;
	}
	st_le16(count, (uint16_t)n);
	ret = cl_send(c);
	/* Not all the way is an error here. */
	return ret ? ret : p9_get16(&c->ans) == n ? 0 : -ENOENT;
}

static inline int cl_fid(struct cl *c, uint8_t type, uint32_t fid)
{
	cl_begin(c, type);
	cl_n(c, 4, fid);
	return cl_send(c);
}

static inline int cl_clunk(struct cl *c, uint32_t fid) { return cl_fid(c, TCLUNK, fid); }
static inline int cl_remove(struct cl *c, uint32_t fid) { return cl_fid(c, TREMOVE, fid); }

static inline int cl_lopen(struct cl *c, uint32_t fid, uint32_t flags)
{
	cl_begin(c, TLOPEN);
	cl_n(c, 4, fid);
	cl_n(c, 4, flags);
	return cl_send(c);
}

static inline int cl_lcreate(struct cl *c, uint32_t fid, const char *name, uint32_t flags, uint32_t mode)
{
	cl_begin(c, TLCREATE);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_n(c, 4, flags | O_CREAT);
	cl_n(c, 4, mode);
	cl_n(c, 4, getegid());
	return cl_send(c);
}

static inline int cl_mkdir(struct cl *c, uint32_t fid, const char *name, uint32_t mode)
{
	cl_begin(c, TMKDIR);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_n(c, 4, mode);
	cl_n(c, 4, getegid());
	return cl_send(c);
}

static inline int cl_symlink(struct cl *c, uint32_t fid, const char *name, const char *target)
{
	cl_begin(c, TSYMLINK);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_s(c, target);
	cl_n(c, 4, getegid());
	return cl_send(c);
}

static inline int cl_mknod(struct cl *c, uint32_t fid, const char *name, uint32_t mode, uint32_t major, uint32_t minor)
{
	cl_begin(c, TMKNOD);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_n(c, 4, mode);
	cl_n(c, 4, major);
	cl_n(c, 4, minor);
	cl_n(c, 4, getegid());
	return cl_send(c);
}

static inline int cl_link(struct cl *c, uint32_t dir, uint32_t fid, const char *name)
{
	cl_begin(c, TLINK);
	cl_n(c, 4, dir);
	cl_n(c, 4, fid);
	cl_s(c, name);
	return cl_send(c);
}

static inline int cl_renameat(struct cl *c, uint32_t from, const char *old, uint32_t to, const char *new)
{
	cl_begin(c, TRENAMEAT);
	cl_n(c, 4, from);
	cl_s(c, old);
	cl_n(c, 4, to);
	cl_s(c, new);
	return cl_send(c);
}

static inline int cl_unlinkat(struct cl *c, uint32_t fid, const char *name, uint32_t flags)
{
	cl_begin(c, TUNLINKAT);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_n(c, 4, flags);
	return cl_send(c);
}

/* Bytes, or -errno. */
static inline int cl_read(struct cl *c, uint32_t fid, uint64_t off, void *buf, uint32_t len)
{
	uint32_t n;
	int ret;

	cl_begin(c, TREAD);
	cl_n(c, 4, fid);
	cl_n(c, 8, off);
	cl_n(c, 4, len);
	ret = cl_send(c);
	if (ret)
		return ret;
	n = p9_get32(&c->ans);
	assert_true(n <= len);
	memcpy(buf, p9_get_bytes(&c->ans, n), n);
	return (int)n;
}

static inline int cl_write(struct cl *c, uint32_t fid, uint64_t off, const void *buf, uint32_t len)
{
	int ret;

	cl_begin(c, TWRITE);
	cl_n(c, 4, fid);
	cl_n(c, 8, off);
	cl_n(c, 4, len);
	memcpy(c->p, buf, len);
	c->p += len;
	ret = cl_send(c);
	return ret ? ret : (int)p9_get32(&c->ans);
}

struct cl_attr {
	uint8_t qtype;
	uint64_t path, valid, nlink, rdev, size, blksize, blocks, mtime;
	uint32_t mode, uid, gid;
};

static inline int cl_getattr(struct cl *c, uint32_t fid, struct cl_attr *a)
{
	int ret;

	cl_begin(c, TGETATTR);
	cl_n(c, 4, fid);
	cl_n(c, 8, P9_STATS_BASIC);
	ret = cl_send(c);
	if (ret)
		return ret;
	a->valid = p9_get64(&c->ans);
	a->qtype = p9_get8(&c->ans);
	p9_get32(&c->ans);
	a->path = p9_get64(&c->ans);
	a->mode = p9_get32(&c->ans);
	a->uid = p9_get32(&c->ans);
	a->gid = p9_get32(&c->ans);
	a->nlink = p9_get64(&c->ans);
	a->rdev = p9_get64(&c->ans);
	a->size = p9_get64(&c->ans);
	a->blksize = p9_get64(&c->ans);
	a->blocks = p9_get64(&c->ans);
	p9_get64(&c->ans);
	p9_get64(&c->ans);
	a->mtime = p9_get64(&c->ans);
	assert_int_equal(c->ans.err, 0);
	return 0;
}

static inline int cl_setattr(struct cl *c, uint32_t fid, uint32_t valid, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t size)
{
	cl_begin(c, TSETATTR);
	cl_n(c, 4, fid);
	cl_n(c, 4, valid);
	cl_n(c, 4, mode);
	cl_n(c, 4, uid);
	cl_n(c, 4, gid);
	cl_n(c, 8, size);
	for (unsigned i = 0; i < 2; i++) {
		cl_n(c, 8, 1000000 + i);
		cl_n(c, 8, 5);
	}
	return cl_send(c);
}

static inline int cl_readdir(struct cl *c, uint32_t fid, uint64_t off, uint32_t count)
{
	int ret;

	cl_begin(c, TREADDIR);
	cl_n(c, 4, fid);
	cl_n(c, 8, off);
	cl_n(c, 4, count);
	ret = cl_send(c);
	return ret ? ret : (int)p9_get32(&c->ans);
}

/* The text of a link, or -errno. */
static inline int cl_readlink(struct cl *c, uint32_t fid, char *buf, size_t size)
{
	int ret = cl_fid(c, TREADLINK, fid);

	if (!ret)
		p9_get_text(&c->ans, buf, size);
	return ret;
}

/* Of the host: a file in the folder with a text in it. */
static inline void cl_put(struct cl *c, const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline const char *cl_path(struct cl *c, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	return path;
}

static inline void cl_open_with(struct cl *c, struct p9_opts o)
{
	const char *tmp = getenv("TMPDIR");
	struct err e = { "" };

	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->cond, NULL);
	c->tag = 7;
	snprintf(c->dir, sizeof(c->dir), "%s/lodge-p9-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(c->dir));
	o.path = c->dir;
	o.name = "test";
	if (p9_new(&o, &c->s, &e)) {
		rmdir(c->dir);
		print_message("%s\n", e.msg);
		skip();
	}
	assert_int_equal(cl_version(c, CL_MAX, "9P2000.L"), 0);
	assert_int_equal(cl_attach(c, 0), 0);
}

static inline void cl_open(struct cl *c, enum p9_model model, unsigned threads)
{
	cl_open_with(c, (struct p9_opts){ .model = model, .max_threads = threads });
}

static inline int cl_rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static inline void cl_close(struct cl *c)
{
	p9_drain(c->s);
	p9_free(c->s);
	nftw(c->dir, cl_rm, 16, FTW_DEPTH | FTW_PHYS);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->cond);
}

#endif
