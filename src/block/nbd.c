/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk on an NBD server, through libnbd, which speaks the protocol and TLS.
 *
 * The connection's descriptor is watched by the loop; several requests are under
 * way at once.  A request becomes pieces as large as the server takes, and each
 * piece one command.  What a server cannot do is done otherwise: FUA by a flush
 * after the write, zeroes by writing them, a trim not at all.  An export whose
 * size is no multiple of 512 bytes is shown rounded up, as a file is; a server that takes
 * larger blocks only gets align.c on top.
 *
 * When the connection ends, libnbd ends every command, and all requests from then
 * on fail with EIO; there is no reconnecting.  libnbd holds the handle's lock
 * while it calls us back, so callbacks only keep books (piece_over) and what must
 * follow is issued after it has returned (issue_flushes).
 */
#include "block/filter.h"
#include "block/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"

#define CONNECT_MS 30000
#define GOODBYE_MS 2000
#define MAX_PAYLOAD (32u << 20)		/* what every server takes, if it names no other */
#define MAX_RANGE (1u << 30)		/* trim, zero: lengths have 32 bits */
#define MAX_MIN_BLOCK (64u << 10)	/* what a server may ask for */
#define ZERO_CHUNK (1u << 20)
/* The peer is given up when it leaves data unacknowledged, or does not answer probes, for about so long. */
#define DEAD_SECONDS 30

struct nbd {
	struct blk_node n;
	struct nbd_handle *h;
	struct loop_fd fd;		/* a copy: libnbd closes its own when the connection ends */
	uint64_t size;			/* of the export, in bytes */
	uint32_t max_payload, min_block;
	bool can_flush, can_fua, can_trim, can_zero, can_status;
	bool dead;
	uint8_t *zeros;			/* ZERO_CHUNK, for servers that cannot zero */
	struct op *to_flush;		/* written, and to be flushed before they are answered */
};

/* One request on its way. */
struct op {
	struct nbd *b;
	struct blk_req *r;
	struct op *next;		/* in to_flush */
	unsigned pieces;		/* commands under way; and 1 while they are issued */
	int err;			/* the first */
	bool flush_after, answered;
	uint8_t *bounce;
};

struct piece {
	struct op *op;
	int err;
};

static int from_errno(int err)
{
	return err == ENOTCONN || err == ESHUTDOWN || err == EPIPE ? -EIO : -err;
}

static void op_finish(struct op *op)
{
	struct blk_req *r = op->r;

	if (op->bounce && r->op == BLK_READ && !op->err)
		iov_from_buf(r->iov, r->niov, 0, op->bounce, r->len);
	free(op->bounce);
	blk_finish(r, op->err);
	free(op);
}

static void op_put(struct op *op)
{
	if (--op->pieces)
		return;
	if (op->flush_after && !op->err) {
		op->next = op->b->to_flush;
		op->b->to_flush = op;
		return;
	}
	op_finish(op);
}

/* The command's result, before piece_over. */
static int piece_done(void *opaque, int *error)
{
	struct piece *p = opaque;

	p->err = *error ? from_errno(*error) : 0;
	return 1;
}

/* Called once for each command, also for one that could not be issued. */
static void piece_over(void *opaque)
{
	struct piece *p = opaque;
	struct op *op = p->op;

	if (p->err && !op->err)
		op->err = p->err;
	free(p);
	op_put(op);
}

/* NULL: the error is noted. */
static struct piece *new_piece(struct op *op)
{
	struct piece *p = malloc(sizeof(*p));

	if (!p) {
		op->err = op->err ? op->err : -ENOMEM;
		return NULL;
	}
	p->op = op;
	p->err = -EIO;
	op->pieces++;
	return p;
}

static nbd_completion_callback completion(struct piece *p)
{
	return (nbd_completion_callback){ .callback = piece_done, .user_data = p, .free = piece_over };
}

static int on_extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
	struct op *op = opaque;
	struct blk_extent *x = op->r->ext;

	/* The first descriptor is all that is asked for; a server may send more, and more often. */
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || offset != op->r->offset || n < 2 || op->answered)
		return 0;
	op->answered = true;
	x->len = MIN((uint64_t)entries[0], x->len);
	x->zero = entries[1] & LIBNBD_STATE_ZERO;
	x->data = !(entries[1] & LIBNBD_STATE_HOLE) || !x->zero;
	return 0;
}

/* Requests are in sectors: what a server says about less is taken for data. */
static void settle_extent(struct op *op)
{
	struct blk_extent *x = op->r->ext;

	x->len = align_down(x->len, BLK_SECTOR);
	if (x->len)
		return;
	x->len = BLK_SECTOR;
	x->data = true;
	x->zero = false;
}

static void extent_over(void *opaque)
{
	struct op *op = opaque;

	settle_extent(op);
	op_put(op);
}

static void submit_status(struct op *op)
{
	struct nbd *b = op->b;
	struct blk_req *r = op->r;
	struct blk_extent *x = r->ext;
	struct piece *p;

	x->allocated = x->has_offset = x->data = true;
	x->offset = r->offset;
	x->len = MIN(r->len, (uint64_t)MAX_RANGE);
	if (r->offset >= b->size) {
		x->zero = true;
		x->data = false;
		return;
	}
	x->len = MIN(x->len, align_down(b->size - r->offset, BLK_SECTOR));
	if (!x->len)
		x->len = BLK_SECTOR;	/* what is left of a last sector */
	if (!b->can_status || r->offset + x->len > b->size)
		return;
	p = new_piece(op);
	if (!p)
		return;
	op->pieces++;
	nbd_aio_block_status(b->h, x->len, r->offset,
			     (nbd_extent_callback){ .callback = on_extent, .user_data = op, .free = extent_over },
			     completion(p), 0);
}

static void submit_read(struct op *op, uint8_t *buf)
{
	struct nbd *b = op->b;
	struct blk_req *r = op->r;
	uint64_t have = r->offset < b->size ? MIN(r->len, b->size - r->offset) : 0;
	size_t step;

	memset(buf + have, 0, r->len - have);
	for (uint64_t at = 0; at < have; at += step) {
		struct piece *p = new_piece(op);

		if (!p)
			return;
		step = MIN(have - at, (uint64_t)b->max_payload);
		nbd_aio_pread(b->h, buf + at, step, r->offset + at, completion(p), 0);
	}
}

/* What of the request lies inside the export; the rest of its last sector does not exist. */
static uint64_t writable_len(struct op *op)
{
	uint64_t size = op->b->size, end = op->r->offset + op->r->len;

	if (end > align_up(size, BLK_SECTOR)) {
		op->err = -ENOSPC;
		return 0;
	}
	return MIN(end, size) - op->r->offset;
}

static void submit_write(struct op *op, const uint8_t *buf)
{
	struct nbd *b = op->b;
	uint64_t have = writable_len(op);
	uint32_t flags = op->r->fua && b->can_fua ? LIBNBD_CMD_FLAG_FUA : 0;
	size_t step;

	for (uint64_t at = 0; at < have; at += step) {
		struct piece *p = new_piece(op);

		if (!p)
			return;
		step = MIN(have - at, (uint64_t)b->max_payload);
		nbd_aio_pwrite(b->h, buf + at, step, op->r->offset + at, completion(p), flags);
	}
}

static void submit_zeroes(struct op *op)
{
	struct nbd *b = op->b;
	struct blk_req *r = op->r;
	uint64_t have = writable_len(op);
	uint64_t max = b->can_zero ? MAX_RANGE : MIN(ZERO_CHUNK, b->max_payload);
	uint32_t fua = r->fua && b->can_fua ? LIBNBD_CMD_FLAG_FUA : 0;
	size_t step;

	if (!b->can_zero && !b->zeros)
		b->zeros = calloc(1, ZERO_CHUNK);
	if (!b->can_zero && !b->zeros) {
		op->err = -ENOMEM;
		return;
	}
	for (uint64_t at = 0; at < have; at += step) {
		struct piece *p = new_piece(op);

		if (!p)
			return;
		step = MIN(have - at, max);
		if (b->can_zero)
			nbd_aio_zero(b->h, step, r->offset + at, completion(p),
				     fua | (r->unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE));
		else
			nbd_aio_pwrite(b->h, b->zeros, step, r->offset + at, completion(p), fua);
	}
}

static void submit_trim(struct op *op)
{
	struct nbd *b = op->b;
	uint64_t have = b->can_trim ? writable_len(op) : 0;
	size_t step;

	for (uint64_t at = 0; at < have; at += step) {
		struct piece *p = new_piece(op);

		if (!p)
			return;
		step = MIN(have - at, (uint64_t)MAX_RANGE);
		nbd_aio_trim(b->h, step, op->r->offset + at, completion(p), 0);
	}
}

static void submit_flush(struct op *op)
{
	struct piece *p = op->b->can_flush ? new_piece(op) : NULL;

	if (p)
		nbd_aio_flush(op->b->h, completion(p), 0);
}

static void issue(struct op *op, uint8_t *buf)
{
	switch (op->r->op) {
	case BLK_READ:
		submit_read(op, buf);
		break;
	case BLK_WRITE:
		submit_write(op, buf);
		break;
	case BLK_WRITE_ZEROES:
		submit_zeroes(op);
		break;
	case BLK_DISCARD:
		submit_trim(op);
		break;
	case BLK_FLUSH:
		submit_flush(op);
		break;
	case BLK_STATUS:
		submit_status(op);
		break;
	}
}

/* FUA on a server that has none. */
static void issue_flushes(struct nbd *b)
{
	struct op *op;

	while ((op = b->to_flush)) {
		b->to_flush = op->next;
		op->flush_after = false;
		op->pieces = 1;
		submit_flush(op);
		op_put(op);
	}
}

static void stop_watching(struct nbd *b)
{
	loop_fd_del(&b->fd);
	if (b->fd.fd >= 0)
		close(b->fd.fd);
	b->fd.fd = -1;
}

/* After libnbd was called: what it waits for, and whether the connection still stands. */
static void settle(struct nbd *b)
{
	unsigned dir;

	issue_flushes(b);
	if (b->dead)
		return;
	if (nbd_aio_is_dead(b->h) == 1 || nbd_aio_is_closed(b->h) == 1) {
		b->dead = true;
		stop_watching(b);
		log_error("disk '%s': the NBD server closed the connection, or it broke: every request fails with an I/O error "
			  "from now on", b->n.path);
		return;
	}
	dir = nbd_aio_get_direction(b->h);
	dir = (dir & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) | (dir & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0);
	if (dir != b->fd.events)
		loop_fd_mod(&b->fd, dir);
}

static void nbdc_submit(struct blk_node *n, struct blk_req *r)
{
	struct nbd *b = container_of(n, struct nbd, n);
	bool data = r->op == BLK_READ || r->op == BLK_WRITE;
	struct op *op;
	uint8_t *buf = NULL;

	/* An open-ended node's size follows writes; this one's cannot. */
	n->i.size = align_up(b->size, BLK_SECTOR);
	if (b->dead) {
		blk_finish(r, -EIO);
		return;
	}
	op = calloc(1, sizeof(*op));
	if (!op) {
		blk_finish(r, -ENOMEM);
		return;
	}
	op->b = b;
	op->r = r;
	op->pieces = 1;
	op->flush_after = r->fua && !b->can_fua && b->can_flush && r->op != BLK_READ && r->op != BLK_FLUSH;
	if (data && r->niov == 1) {
		buf = r->iov[0].iov_base;
	} else if (data) {
		buf = op->bounce = malloc(r->len);
		if (!buf)
			op->err = -ENOMEM;
		else if (r->op == BLK_WRITE)
			iov_to_buf(r->iov, r->niov, 0, buf, r->len);
	}
	if (!op->err)
		issue(op, buf);
	op_put(op);
	settle(b);
}

static void nbdc_event(void *opaque, uint32_t events)
{
	struct nbd *b = opaque;
	unsigned dir = nbd_aio_get_direction(b->h);

	/* One at a time: the first may change the direction. */
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (dir & LIBNBD_AIO_DIRECTION_READ))
		nbd_aio_notify_read(b->h);
	else if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
		nbd_aio_notify_write(b->h);
	settle(b);
}

static void nbdc_wait(struct blk_node *n)
{
	struct nbd *b = container_of(n, struct nbd, n);

	if (!b->dead)
		nbd_poll(b->h, -1);
	settle(b);
}

/* A server that does not answer is not waited for. */
static void say_goodbye(struct nbd *b)
{
	int64_t end = loop_now_ns() + GOODBYE_MS * 1000000ll;

	if (b->dead || nbd_aio_is_ready(b->h) != 1 || nbd_aio_disconnect(b->h, 0) < 0)
		return;
	while (nbd_aio_is_closed(b->h) == 0 && nbd_aio_is_dead(b->h) == 0 && loop_now_ns() < end)
		if (nbd_poll(b->h, 100) < 0)
			break;
}

static void nbdc_free(struct nbd *b)
{
	stop_watching(b);
	if (b->h)
		nbd_close(b->h);
	blk_node_fini(&b->n);
	free(b->zeros);
	free(b);
}

static void nbdc_close(struct blk_node *n)
{
	struct nbd *b = container_of(n, struct nbd, n);

	say_goodbye(b);
	nbdc_free(b);
}

static int nbdc_extend(struct blk_node *n, uint64_t size)
{
	return size <= align_up(container_of(n, struct nbd, n)->size, BLK_SECTOR) ? 0 : -ENOSPC;
}

static int nbdc_move(struct blk_node *n, struct loop *l)
{
	struct nbd *b = container_of(n, struct nbd, n);
	struct loop *old = b->fd.loop;
	int ret;

	/* A connection that has ended is watched no more. */
	if (!old)
		return 0;
	loop_fd_del(&b->fd);
	ret = loop_fd_add(l, &b->fd);
	if (ret)
		loop_fd_add(old, &b->fd);
	return ret;
}

static const struct blk_driver nbdc_driver = {
	.name = "nbd",
	.submit = nbdc_submit,
	.wait = nbdc_wait,
	.extend = nbdc_extend,
	.move = nbdc_move,
	.close = nbdc_close,
};

static int say_failed(const char *uri, const char *what, struct err *e)
{
	int code = nbd_get_errno();
	const char *text = nbd_get_error();

	return err_set(e, code ? -code : -EIO, "disk '%s' %s: %s", uri, what, text ? text : "no reason given");
}

static int connect_to(struct nbd *b, const char *uri, bool by_image, struct err *e)
{
	int64_t end = loop_now_ns() + CONNECT_MS * 1000000ll;

	if (!strncasecmp(uri, "nbds", 4) && nbd_supports_tls(b->h) != 1)
		return err_set(e, -ENOTSUP, "disk '%s': the libnbd here has no TLS", uri);
	if (nbd_set_uri_allow_transports(b->h, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
	    nbd_set_uri_allow_local_file(b->h, !by_image) < 0 ||
	    nbd_add_meta_context(b->h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 || nbd_aio_connect_uri(b->h, uri) < 0)
		return say_failed(uri, "cannot be opened; is the server running?", e);
	while (nbd_aio_is_ready(b->h) != 1) {
		if (nbd_aio_is_dead(b->h) == 1 || nbd_aio_is_closed(b->h) == 1)
			return say_failed(uri, "cannot be opened; does the server have this export, and allow it?", e);
		if (loop_now_ns() > end)
			return err_set(e, -ETIMEDOUT, "disk '%s': the server did not answer for %d seconds", uri,
				       CONNECT_MS / 1000);
		if (nbd_poll(b->h, 200) < 0)
			return say_failed(uri, "cannot be opened; does the server have this export, and allow it?", e);
	}
	return 0;
}

static int look_at_export(struct nbd *b, const char *uri, bool read_only, struct err *e)
{
	int64_t size = nbd_get_size(b->h), min = nbd_get_block_size(b->h, LIBNBD_SIZE_MINIMUM);
	int64_t max = nbd_get_block_size(b->h, LIBNBD_SIZE_MAXIMUM), prefer;
	struct blk_info *i = &b->n.i;

	if (size < 0 || size > INT64_MAX - BLK_SECTOR)
		return say_failed(uri, "has no usable size", e);
	if (!read_only && nbd_is_read_only(b->h) != 0)
		return err_set(e, -EROFS, "disk '%s': the server lets nobody write this export: open it read-only", uri);
	b->min_block = min > BLK_SECTOR ? (uint32_t)MIN(min, UINT32_MAX) : BLK_SECTOR;
	if (b->min_block > MAX_MIN_BLOCK || !is_pow2(b->min_block) || (max > 0 && max < b->min_block) ||
	    (b->min_block > BLK_SECTOR && size % b->min_block))
		return err_set(e, -ENOTSUP, "disk '%s': the server takes whole blocks of %lld bytes only: have it take %d "
			       "(nbdkit: --filter=blocksize minblock=%d)", uri, (long long)min, BLK_SECTOR, BLK_SECTOR);
	b->size = (uint64_t)size;
	b->max_payload = max > 0 ? (uint32_t)align_down(MIN(max, MAX_PAYLOAD), b->min_block) : MAX_PAYLOAD;
	b->can_flush = nbd_can_flush(b->h) == 1;
	b->can_fua = nbd_can_fua(b->h) == 1;
	b->can_trim = nbd_can_trim(b->h) == 1;
	b->can_zero = nbd_can_zero(b->h) == 1;
	b->can_status = nbd_can_meta_context(b->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
	prefer = nbd_get_block_size(b->h, LIBNBD_SIZE_PREFERRED);
	i->size = align_up(b->size, BLK_SECTOR);
	i->request_align = BLK_SECTOR;
	i->physical_block = prefer >= BLK_SECTOR && prefer <= 65536 && is_pow2((uint64_t)prefer) ? (uint32_t)prefer : BLK_SECTOR;
	i->read_only = read_only;
	i->can_discard = b->can_trim && !read_only;
	i->can_zero = b->can_zero && !read_only;
	/* It cannot be made longer, and what is behind its end does not read as zeros. */
	i->is_device = true;
	return 0;
}

/* A connection that is cut without a word is noticed; failing to ask for that is no error (local sockets). */
static void watch_peer(int fd)
{
	const int on = 1, idle = DEAD_SECONDS / 3, probes = 3, ms = DEAD_SECONDS * 1000;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

int nbd_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
	     struct err *e)
{
	struct nbd *b = calloc(1, sizeof(*b));
	int ret;

	if (!b)
		return err_set(e, -ENOMEM, "out of memory while opening disk '%s'", uri);
	blk_node_init(&b->n, l, &nbdc_driver);
	b->n.open_ended = o->open_ended;
	b->fd = (struct loop_fd){ .fd = -1, .events = EPOLLIN, .cb = nbdc_event, .opaque = b };
	b->n.path = strdup(uri);
	b->h = b->n.path ? nbd_create() : NULL;
	ret = b->h ? connect_to(b, uri, by_image, e) : err_set(e, -ENOMEM, "out of memory while opening disk '%s'", uri);
	if (!ret)
		ret = look_at_export(b, uri, o->read_only, e);
	if (!ret) {
		b->fd.fd = fcntl(nbd_aio_get_fd(b->h), F_DUPFD_CLOEXEC, 3);
		watch_peer(b->fd.fd);
		ret = b->fd.fd < 0 ? -errno : loop_fd_add(l, &b->fd);
		if (ret)
			err_set(e, ret, "disk '%s' cannot be watched: %s", uri, strerror(-ret));
	}
	*out = &b->n;
	if (!ret && b->min_block > BLK_SECTOR) {
		ret = blk_align_new(&b->n, b->min_block, out);
		if (ret)
			err_set(e, ret, "out of memory while opening disk '%s'", uri);
	}
	if (ret) {
		nbdc_free(b);
		return ret;
	}
	return 0;
}
