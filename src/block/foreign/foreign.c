/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all foreign formats share: opening, and requests made of what the format's
 * map says, each in a coroutine.
 */
#include "block/foreign/foreign.h"

#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"
#include "base/log.h"
#include "block/foreign/work.h"

#define DEFAULT_TABLES (1u << 20)
#define MAX_STEPS 1024
#define SUB_IOV 8

static const struct {
	const char *name;
	int (*open)(const struct foreign_opening *op, struct foreign **out);
} formats[] = {
	{ "vdi", vdi_open }, { "vhdx", vhdx_open }, { "vmdk", vmdk_open }, { "vpc", vpc_open },
	/* Known by their looks, and refused by name. */
	{ "qcow", NULL }, { "qed", NULL }, { "parallels", NULL }, { "dmg", NULL },
};

bool foreign_format(const char *format)
{
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
		if (!strcmp(formats[i].name, format))
			return true;
	return false;
}

/* ---- life cycle ---- */

static const struct blk_driver foreign_driver;

int foreign_init(struct foreign *f, const struct foreign_opening *op, const struct foreign_ops *ops)
{
	uint64_t bytes = op->o->cache_bytes ? op->o->cache_bytes : DEFAULT_TABLES;

	blk_node_init(&f->n, op->file->loop, &foreign_driver);
	f->ops = ops;
	f->n.file = op->file;
	f->n.format = ops->name;
	f->n.path = strdup(op->path);
	f->n.i = (struct blk_info){ .request_align = BLK_SECTOR, .read_only = true,
				    .physical_block = MAX(op->file->i.physical_block, 4096u) };
	if (!f->n.path || tables_init(&f->tables, bytes))
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	return 0;
}

static void foreign_free(struct foreign *f)
{
	for (unsigned i = f->n_extra; i > 0; i--)
		blk_close(f->extra[i - 1]);
	free(f->extra);
	work_close(f->crew);
	blk_close(f->n.backing);
	tables_fini(&f->tables);
	co_pool_fini(&f->cos);
	blk_node_fini(&f->n);
	f->ops->free(f);
}

int foreign_drop(struct foreign *f, int ret)
{
	foreign_free(f);
	return ret;
}

static void foreign_close(struct blk_node *n)
{
	struct blk_node *file = n->file;

	foreign_free(container_of(n, struct foreign, n));
	blk_close(file);
}

struct foreign *foreign_of(struct blk_node *n)
{
	return n->drv == &foreign_driver ? container_of(n, struct foreign, n) : NULL;
}

int foreign_add_node(struct foreign *f, struct blk_node *n)
{
	struct blk_node **more = realloc(f->extra, (f->n_extra + 1) * sizeof(struct blk_node *));

	if (!more)
		return -ENOMEM;
	f->extra = more;
	f->extra[f->n_extra++] = n;
	return 0;
}

int foreign_bad(const struct foreign_opening *op, const char *what)
{
	return err_set(op->e, -EINVAL, "image '%s' is no good: %s", op->path, what);
}

int foreign_damaged(struct foreign *f, const char *what, uint64_t where)
{
	if (!f->said)
		log_warn("image '%s' is damaged: %s at byte %llu of the disk", f->n.path, what, (unsigned long long)where);
	f->said = true;
	return -EIO;
}

int foreign_parent(struct foreign *f, const struct foreign_opening *op, const char *path, const char *format)
{
	struct blk_image_opts o = *op->o;
	int ret;

	o.format = format;
	o.file.read_only = true;
	o.backing_writable = false;
	ret = image_open(f->n.loop, path, &o, op->depth + 1, &f->n.backing, op->e);
	if (!ret)
		f->backing_size = f->n.backing->i.size;
	return ret;
}

int foreign_head(const struct foreign_opening *op, uint64_t off, void *buf, size_t len)
{
	int ret = blk_pread(op->file, off, buf, len);

	return ret ? err_set(op->e, ret, "image '%s' cannot be read: %s", op->path, strerror(-ret)) : 0;
}

int foreign_open(const char *format, struct blk_node *file, const struct blk_image_opts *o, unsigned depth,
		 struct blk_node **out, struct err *e)
{
	struct foreign_opening op = { .file = file, .o = o, .depth = depth, .path = file->path ? file->path : "", .e = e };
	/* Nobody said that it is one: perhaps it is not. */
	const char *or = o->format ? "" : "; format=raw uses its bytes as they are";
	struct foreign *f;
	unsigned i = 0;
	int ret;

	while (i < ARRAY_LEN(formats) - 1 && strcmp(formats[i].name, format) != 0)
		i++;
	if (!formats[i].open)
		return err_set(e, -ENOTSUP, "image '%s' is a %s image, which cannot be opened here: convert it first with "
			       "\"qemu-img convert -f %s -O qcow2 %s NEW.qcow2\"%s", op.path, format, format, op.path, or);
	if (!o->file.read_only)
		return err_set(e, -EROFS, "image '%s' is a %s image, which can only be read: open it read-only, or convert it with "
			       "\"lodge img convert -f %s -O qcow2 %s NEW.qcow2\"%s", op.path, format, format, op.path, or);
	ret = formats[i].open(&op, &f);
	if (!ret)
		*out = &f->n;
	return ret;
}

/* ---- waiting in a coroutine ---- */

struct batch {
	struct co *c;
	unsigned pending;
	bool waiting;
	int ret;			/* first error */
};

struct part {
	struct blk_req r;
	struct batch *b;
	struct iovec *big, iov[SUB_IOV];
};

static void part_free(struct part *p)
{
	free(p->big);
	free(p);
}

static void part_done(struct blk_req *r, int ret)
{
	struct part *p = container_of(r, struct part, r);
	struct batch *b = p->b;

	part_free(p);
	if (ret && !b->ret)
		b->ret = ret;
	if (!--b->pending && b->waiting)
		co_resume(b->c);
}

static void part_submit(struct batch *b, struct part *p, struct blk_node *n)
{
	p->b = b;
	p->r.done = part_done;
	b->pending++;
	blk_submit(n, &p->r);
}

static struct part *part_new(struct batch *b, const struct blk_req *r)
{
	struct part *p = malloc(sizeof(*p));

	if (!p) {
		b->ret = b->ret ? b->ret : -ENOMEM;
		return NULL;
	}
	p->r = *r;
	p->big = NULL;
	return p;
}

static int batch_wait(struct batch *b)
{
	b->waiting = true;
	while (b->pending)
		co_wait(b->c);
	return b->ret;
}

/* Reads [off, off+len) of n into the vector from byte `at` on. */
static void batch_read(struct batch *b, struct blk_node *n, uint64_t off, uint64_t len, const struct blk_req *up, uint64_t at)
{
	struct part *p = part_new(b, &(struct blk_req){ .op = BLK_READ, .offset = off, .len = len });
	int k;

	if (!p)
		return;
	p->r.iov = p->iov;
	k = iov_slice(up->iov, up->niov, at, len, p->iov, SUB_IOV);
	if (k < 0) {
		p->r.iov = p->big = calloc(up->niov, sizeof(*p->big));
		k = p->big ? iov_slice(up->iov, up->niov, at, len, p->big, up->niov) : -1;
	}
	if (k < 0) {
		b->ret = b->ret ? b->ret : -ENOMEM;
		part_free(p);
		return;
	}
	p->r.niov = (unsigned)k;
	part_submit(b, p, n);
}

static int request(struct co *c, struct blk_node *n, const struct blk_req *r)
{
	struct batch b = { .c = c };
	struct part *p = part_new(&b, r);

	if (p)
		part_submit(&b, p, n);
	return batch_wait(&b);
}

int foreign_read(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off, void *buf, size_t len)
{
	struct iovec v = { buf, len };

	if (!c)
		return blk_pread(n, off, buf, len);
	return request(c, n, &(struct blk_req){ .op = BLK_READ, .offset = off, .len = len, .iov = &v, .niov = 1 });
}

int foreign_work(struct foreign *f, struct co *c, int (*fn)(void *arg), void *arg)
{
	struct blk_req r;
	int ret = f->crew ? 0 : work_open(f->n.loop, &f->crew);

	if (ret)
		return ret;
	work_request(&r, fn, arg);
	return request(c, f->crew, &r);
}

/* ---- requests ---- */

static bool continues(const struct piece *a, const struct piece *b)
{
	if (a->kind != b->kind || a->kind == PIECE_PACKED)
		return false;
	return a->kind != PIECE_DATA || (a->node == b->node && a->host + a->len == b->host);
}

/* As far as it is alike, up to max bytes and MAX_STEPS of the format's answers. */
static int map_on(struct foreign *f, struct co *c, uint64_t off, uint64_t max, struct piece *out)
{
	struct piece next;
	int ret = f->ops->map(f, c, off, max, out);

	for (unsigned i = 0; i < MAX_STEPS && !ret && out->len < max; i++) {
		/* What cannot be mapped further on is not an error of the first piece. */
		if (f->ops->map(f, c, off + out->len, max - out->len, &next) || !continues(out, &next))
			break;
		out->len += next.len;
	}
	return ret;
}

static int read_packed(struct foreign *f, struct co *c, const struct piece *p, const struct blk_req *r, uint64_t at)
{
	uint8_t *unit = malloc(f->unit);
	int ret = unit ? f->ops->unpack(f, c, p, unit) : -ENOMEM;

	if (!ret)
		iov_from_buf(r->iov, r->niov, at, unit + p->skip, p->len);
	free(unit);
	return ret;
}

static uint64_t parent_part(const struct foreign *f, uint64_t off, uint64_t len)
{
	return off < f->backing_size ? MIN(len, f->backing_size - off) : 0;
}

static int do_read(struct foreign *f, struct co *c, const struct blk_req *r)
{
	struct batch b = { .c = c };
	struct piece p;
	uint64_t part;
	int ret = 0;

	for (uint64_t at = 0; at < r->len && !ret && !b.ret; at += p.len) {
		ret = map_on(f, c, r->offset + at, r->len - at, &p);
		if (ret)
			break;
		switch (p.kind) {
		case PIECE_DATA:
			batch_read(&b, p.node, p.host, p.len, r, at);
			break;
		case PIECE_PACKED:
			ret = read_packed(f, c, &p, r, at);
			break;
		case PIECE_NOTHING:
			part = parent_part(f, r->offset + at, p.len);
			if (part)
				batch_read(&b, f->n.backing, r->offset + at, part, r, at);
			iov_memset(r->iov, r->niov, at + part, 0, p.len - part);
			break;
		case PIECE_ZERO:
			iov_memset(r->iov, r->niov, at, 0, p.len);
			break;
		}
	}
	return batch_wait(&b) ? b.ret : ret;
}

/* What the format calls data may be a hole in its file. One that cannot tell shows data. */
static void look_for_hole(struct co *c, const struct piece *p, struct blk_extent *x)
{
	struct blk_extent below = { 0 };

	if (request(c, p->node, &(struct blk_req){ .op = BLK_STATUS, .offset = p->host, .len = p->len, .ext = &below }) || !below.len)
		return;
	x->len = MIN(x->len, below.len);
	x->zero = below.zero;
	x->data = !below.zero;
}

static int do_status(struct foreign *f, struct co *c, const struct blk_req *r)
{
	struct blk_extent *x = r->ext;
	struct piece p;
	uint64_t part;
	int ret = map_on(f, c, r->offset, r->len, &p);

	if (ret)
		return ret;
	*x = (struct blk_extent){ .len = p.len, .allocated = p.kind != PIECE_NOTHING, .file = f->n.path };
	x->data = p.kind == PIECE_DATA || p.kind == PIECE_PACKED;
	x->zero = !x->data;
	x->compressed = p.kind == PIECE_PACKED;
	x->has_offset = p.kind == PIECE_DATA && p.node->path;
	x->offset = x->has_offset ? p.host : 0;
	if (x->has_offset)
		x->file = p.node->path;
	if (p.kind == PIECE_DATA)
		look_for_hole(c, &p, x);
	part = p.kind == PIECE_NOTHING && !r->shallow ? parent_part(f, r->offset, p.len) : 0;
	if (!part)
		return 0;
	ret = request(c, f->n.backing, &(struct blk_req){ .op = BLK_STATUS, .offset = r->offset, .len = part, .ext = x });
	x->depth++;
	return ret;
}

static void request_main(struct co *c, void *arg)
{
	struct blk_req *r = arg;
	struct foreign *f = container_of(r->node, struct foreign, n);

	blk_finish(r, r->op == BLK_READ ? do_read(f, c, r) : do_status(f, c, r));
}

static void foreign_submit(struct blk_node *n, struct blk_req *r)
{
	struct foreign *f = container_of(n, struct foreign, n);

	if (r->op == BLK_FLUSH)
		blk_finish(r, 0);
	else if (co_start(&f->cos, request_main, r))
		blk_finish(r, -ENOMEM);
}

static void foreign_wait(struct blk_node *n)
{
	struct foreign *f = container_of(n, struct foreign, n);
	struct blk_node *child[] = { n->file, n->backing, f->crew };

	for (unsigned i = 0; i < ARRAY_LEN(child) + f->n_extra; i++) {
		struct blk_node *k = i < ARRAY_LEN(child) ? child[i] : f->extra[i - ARRAY_LEN(child)];

		if (k && k->in_flight) {
			blk_progress(k);
			return;
		}
	}
}

static int foreign_move(struct blk_node *n, struct loop *l)
{
	struct foreign *f = container_of(n, struct foreign, n);
	struct loop *old = n->loop;
	int ret = f->crew ? blk_move(f->crew, l) : 0;

	for (unsigned i = 0; i < f->n_extra && !ret; i++)
		ret = blk_move(f->extra[i], l);
	for (unsigned i = 0; i < f->n_extra && ret; i++)
		blk_move(f->extra[i], old);
	if (ret && f->crew)
		blk_move(f->crew, old);
	return ret;
}

static const struct blk_driver foreign_driver = {
	.name = "foreign",
	.submit = foreign_submit,
	.wait = foreign_wait,
	.move = foreign_move,
	.close = foreign_close,
};
