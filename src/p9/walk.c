// SPDX-License-Identifier: GPL-2.0-or-later
/* From names to fids, and their end: Tattach, Twalk, Tlopen, Tclunk, Tremove. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "p9/internal.h"

/* What Tlopen and Tlcreate may ask for of open(2)'s flags; all else is the client's own business. */
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC)

int p9_open_flags(uint32_t asked)
{
	return (int)(asked & OPEN_FLAGS);
}

bool p9_open_changes(uint32_t asked)
{
	return (asked & O_ACCMODE) != O_RDONLY || asked & O_TRUNC;
}

int p9_op_attach(struct p9_call *c)
{
	uint32_t num = p9_get32(&c->in), uid;
	char text[256];
	struct p9_stat st;
	struct p9_qid q;
	int ret;

	p9_get32(&c->in);		/* afid: there is no authentication */
	p9_get_text(&c->in, text, sizeof(text));
	p9_get_text(&c->in, text, sizeof(text));
	uid = p9_get32(&c->in);
	ret = c->in.err ? c->in.err : p9_stat_node(c->s, c->s->root, &st);
	if (!ret)
		ret = p9_qid(c->s, &st, &q);
	if (ret)
		return ret;
	p9_node_ref(c->s, c->s->root);
	ret = p9_fid_new(c, num, uid, c->s->root, NULL);
	if (ret) {
		p9_node_unref(c->s, c->s->root);
		return ret;
	}
	p9_put_qid(&c->out, &q);
	return 0;
}

/* The kind is what the qid needs of the client's view. */
static int view(struct p9 *s, struct p9_node *n, struct p9_stat *st)
{
	int fd, ret;

	if (!p9_mapped(s) || n->type != S_IFREG)
		return 0;
	fd = p9_hold(s, n);
	if (fd < 0)
		return fd;
	ret = p9_cred_read(s, n, fd, st);
	p9_release(s, n);
	return ret;
}

/* One name further: *n is replaced by what is there. */
static int step(struct p9_call *c, struct p9_node **n, const char *name, struct p9_qid *q)
{
	struct p9 *s = c->s;
	struct p9_node *next;
	struct p9_stat st;
	int ret = 0;

	if (p9_hidden_name(s, name))
		return -ENOENT;
	if (!strcmp(name, ".") || !strcmp(name, "..")) {
		next = *name && name[1] && (*n)->parent ? (*n)->parent : *n;
		if ((*n)->type != S_IFDIR)
			return -ENOTDIR;
		if (next != *n && p9_node_is_gone(s, *n))
			return -ENOENT;
		p9_node_ref(s, next);
		ret = p9_stat_node(s, next, &st);
	} else {
		ret = p9_node_walk(s, *n, name, &next, &st);
		if (ret)
			return ret;
		ret = view(s, next, &st);
	}
	if (!ret)
		ret = p9_qid(s, &st, q);
	if (ret) {
		p9_node_unref(s, next);
		return ret;
	}
	p9_node_unref(s, *n);
	*n = next;
	return 0;
}

/* walk(5): how far it goes is what the client is told; the new fid is only there if it goes all the way. */
static int walk(struct p9_call *c, struct p9_fid *f, uint32_t newfid, unsigned names)
{
	struct p9_node *n = f->node;
	struct p9_qid q[P9_MAX_WALK];
	char name[P9_NAME];
	unsigned done;
	int ret = 0;

	p9_node_ref(c->s, n);
	for (done = 0; done < names && !ret; done++) {
		p9_get_step(&c->in, name);
		ret = c->in.err ? c->in.err : step(c, &n, name, &q[done]);
		if (ret)
			break;
	}
	if (done == names)
		ret = newfid == f->num ? p9_fid_replace(c, f, n, NULL) : p9_fid_new(c, newfid, f->uid, n, NULL);
	if (ret)
		p9_node_unref(c->s, n);
	if (ret && (!done || done == names))
		return ret;
	p9_put16(&c->out, (uint16_t)done);
	for (unsigned i = 0; i < done; i++)
		p9_put_qid(&c->out, &q[i]);
	return 0;
}

int p9_op_walk(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint32_t newfid = p9_get32(&c->in);
	unsigned names = p9_get16(&c->in);
	int ret;

	ret = !f ? -EBADF : c->in.err ? c->in.err : names > P9_MAX_WALK ? -EINVAL : f->xattr ? -EINVAL : walk(c, f, newfid, names);
	p9_fid_put(c->s, f);
	return ret;
}

/* ---- opening ---- */

/* What the client takes for something else than a file or folder is not opened, whatever it is here. */
static int open_node(struct p9 *s, struct p9_node *n, uint32_t asked, struct p9_open **out, struct p9_qid *q)
{
	int flags = p9_open_flags(asked), nfd, fd, ret;
	struct p9_stat st;

	if (p9_open_changes(asked) && s->o.readonly)
		return -EROFS;
	nfd = p9_hold(s, n);
	if (nfd < 0)
		return nfd;
	ret = p9_stat_host(nfd, NULL, &st);
	if (!ret)
		ret = p9_cred_read(s, n, nfd, &st);
	if (!ret)
		ret = p9_qid(s, &st, q);
	if (!ret && (st.mode & S_IFMT) != n->type)
		ret = -ENXIO;
	if (!ret && asked & O_DIRECTORY && n->type != S_IFDIR)
		ret = -ENOTDIR;
	if (!ret && n->type == S_IFDIR && p9_open_changes(asked))
		ret = -EISDIR;
	fd = ret ? ret : p9_reopen(s, nfd, n->type, n->type == S_IFDIR ? O_RDONLY | O_DIRECTORY : flags);
	p9_release(s, n);
	if (fd < 0)
		return fd;
	*out = p9_open_new(s, fd, n->type == S_IFDIR ? O_RDONLY | O_DIRECTORY : flags, n->type == S_IFDIR);
	return *out ? 0 : -ENOMEM;
}

int p9_op_lopen(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint32_t flags = p9_get32(&c->in);
	struct p9_open *o = NULL;
	struct p9_qid q;
	int ret = !f ? -EBADF : c->in.err ? c->in.err : p9_fid_claim(c, f);

	if (!ret) {
		ret = open_node(c->s, f->node, flags, &o, &q);
		p9_fid_opened(c, f, ret ? NULL : o, NULL);
	}
	p9_fid_put(c->s, f);
	if (ret)
		return ret;
	p9_put_qid(&c->out, &q);
	p9_put32(&c->out, p9_iounit(c->ses));
	return 0;
}

/* ---- the end ---- */

int p9_op_clunk(struct p9_call *c)
{
	uint32_t num = p9_get32(&c->in);
	struct p9_fid *f = c->in.err ? NULL : p9_fid_take(c, num);
	int ret = 0;

	if (!f)
		return -EBADF;
	if (f->xattr && f->xattr->write)
		ret = p9_xattr_commit(c->s, f);
	p9_fid_put(c->s, f);
	return ret;
}

/* remove(5): the fid is gone even if the file is not. */
int p9_op_remove(struct p9_call *c)
{
	uint32_t num = p9_get32(&c->in);
	struct p9_fid *f = c->in.err ? NULL : p9_fid_take(c, num);
	struct p9_node *n;
	int ret;

	if (!f)
		return -EBADF;
	n = f->node;
	ret = c->s->o.readonly ? -EROFS : !n->parent ? -EBUSY : p9_node_check(c->s, n);
	if (!ret)
		ret = p9_unlink_in(c->s, n->parent, n->name, n->type == S_IFDIR);
	p9_fid_put(c->s, f);
	return ret;
}
