/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast path of a raw file: reads, writes and flushes through io_uring.
 *
 * Requests of one turn of the loop go to the kernel in one system call, always
 * from the loop's thread (the kernel cancels what an exiting thread submitted),
 * or from whoever drains.  The file is registered once.  What comes back short,
 * interrupted or cancelled is finished by the pool, which knows how.
 */
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/file.h"

#define RING_ENTRIES 64
/*
 * Short requests go to the kernel one by one: a device that waits for the turn's end, or for three more, is idle for as long as it
 * takes for one (SPEC, Disks).  Of long ones some go together.
 */
#define SHORT (64u << 10)
#define BATCH_MAX 4u

struct file_ring {
	struct io_uring u;
	struct blk_file *f;
	bool fixed_file;
	unsigned in_flight;		/* in the ring: submitted or about to be */
	struct loop_fd fd;		/* readable while completions wait */
	struct loop_bh submit_bh;
};

static bool must_continue(const struct blk_req *r, int res)
{
	if (res == -EAGAIN || res == -EINTR || res == -ECANCELED)
		return true;
	return (r->op == BLK_READ || r->op == BLK_WRITE) && res >= 0 && (uint64_t)res < r->len;
}

static void complete(struct file_ring *fr, struct blk_req *r, int res)
{
	fr->in_flight--;
	if (must_continue(r, res)) {
		r->drv[DRV_DONE] = res > 0 ? (uint64_t)res : 0;
		pool_submit(fr->f->pool, r);
		return;
	}
	if (r->op == BLK_FLUSH)
		res = file_flush_result(fr->f, res);
	blk_finish(r, res < 0 ? res : 0);
}

static void reap(struct file_ring *fr)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&fr->u, &cqe) == 0) {
		struct blk_req *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&fr->u, cqe);
		complete(fr, r, res);
	}
}

static void ring_event(void *opaque, uint32_t events)
{
	reap(opaque);
}

/* A kernel short of memory or with a full completion queue is asked again later. */
static void submit_batch(void *opaque)
{
	struct file_ring *fr = opaque;
	int ret;

	while (io_uring_sq_ready(&fr->u)) {
		ret = io_uring_submit(&fr->u);
		if (ret >= 0 || ret == -EINTR)
			continue;
		reap(fr);
		loop_bh_post(&fr->submit_bh);
		return;
	}
}

static struct io_uring_sqe *get_sqe(struct file_ring *fr)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&fr->u);

	if (sqe)
		return sqe;
	submit_batch(fr);
	return io_uring_get_sqe(&fr->u);
}

bool file_ring_submit(struct file_ring *fr, struct blk_req *r)
{
	bool rw = r->op == BLK_READ || r->op == BLK_WRITE;
	int fd = fr->fixed_file ? 0 : fr->f->fd;
	struct io_uring_sqe *sqe;

	if ((!rw && r->op != BLK_FLUSH) || (rw && (r->niov > IOV_MAX || r->len > INT_MAX)))
		return false;
	sqe = get_sqe(fr);
	if (!sqe)
		return false;
	if (r->op == BLK_READ)
		io_uring_prep_readv(sqe, fd, r->iov, r->niov, r->offset);
	else if (r->op == BLK_WRITE)
		io_uring_prep_writev2(sqe, fd, r->iov, r->niov, r->offset, r->fua ? RWF_DSYNC : 0);
	else
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	if (fr->fixed_file)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, r);
	fr->in_flight++;
	if (r->len <= SHORT || io_uring_sq_ready(&fr->u) >= BATCH_MAX)
		io_uring_submit(&fr->u);
	if (io_uring_sq_ready(&fr->u))
		loop_bh_post(&fr->submit_bh);
	return true;
}

unsigned file_ring_in_flight(const struct file_ring *fr)
{
	return fr->in_flight;
}

void file_ring_wait(struct file_ring *fr)
{
	struct io_uring_cqe *cqe;

	submit_batch(fr);
	/* Unless the kernel would not take them all: then there may be nothing to wait for. */
	if (fr->in_flight > io_uring_sq_ready(&fr->u))
		io_uring_wait_cqe(&fr->u, &cqe);
	reap(fr);
}

/* What a ring does is not seen by filters of system calls, so it can do what get_sqe's callers ask for and no more: nothing is
 * opened by it.  Kernels before 5.10 cannot restrict one: a confined VMM's disks then have threads. */
static int restrict_ring(struct file_ring *fr)
{
	struct io_uring_restriction r[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE },
	};

	/* By the kernel's interface: liburing 2.3 declares these two and does not export them. */
	if (syscall(SYS_io_uring_register, fr->u.ring_fd, IORING_REGISTER_RESTRICTIONS, r, ARRAY_LEN(r)) < 0 ||
	    syscall(SYS_io_uring_register, fr->u.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

static int queue_init(struct file_ring *fr, struct blk_file *f)
{
	int ret = io_uring_queue_init(RING_ENTRIES, &fr->u, IORING_SETUP_R_DISABLED);

	if (ret == -EINVAL && !confine_wanted())
		ret = io_uring_queue_init(RING_ENTRIES, &fr->u, 0);
	if (ret)
		return ret;
	fr->fixed_file = io_uring_register_files(&fr->u, &f->fd, 1) == 0;
	ret = fr->u.flags & IORING_SETUP_R_DISABLED ? restrict_ring(fr) : 0;
	if (ret)
		io_uring_queue_exit(&fr->u);
	return ret;
}

int file_ring_new(struct blk_file *f, struct file_ring **out)
{
	struct file_ring *fr = calloc(1, sizeof(*fr));
	int ret;

	if (!fr)
		return -ENOMEM;
	ret = queue_init(fr, f);
	if (ret)
		goto out_free;
	fr->f = f;
	fr->fd = (struct loop_fd){ .fd = fr->u.ring_fd, .events = EPOLLIN, .cb = ring_event, .opaque = fr };
	loop_bh_init(f->n.loop, &fr->submit_bh, submit_batch, fr);
	ret = loop_fd_add(f->n.loop, &fr->fd);
	if (ret)
		goto out_ring;
	*out = fr;
	return 0;

out_ring:
	io_uring_queue_exit(&fr->u);
out_free:
	free(fr);
	return ret;
}

int file_ring_new_fd(struct file_ring *fr)
{
	int ret = fr->fixed_file ? io_uring_register_files_update(&fr->u, 0, &fr->f->fd, 1) : 1;

	return ret < 0 ? ret : 0;
}

int file_ring_move(struct file_ring *fr, struct loop *l)
{
	struct loop *old = fr->fd.loop;
	int ret;

	loop_fd_del(&fr->fd);
	ret = loop_fd_add(l, &fr->fd);
	if (ret) {
		loop_fd_add(old, &fr->fd);
		return ret;
	}
	loop_bh_cancel(&fr->submit_bh);
	loop_bh_init(l, &fr->submit_bh, submit_batch, fr);
	return 0;
}

void file_ring_free(struct file_ring *fr)
{
	if (!fr)
		return;
	loop_fd_del(&fr->fd);
	loop_bh_cancel(&fr->submit_bh);
	io_uring_queue_exit(&fr->u);
	free(fr);
}
