/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any request of a raw file, done synchronously on a worker thread.
 *
 * Transfers continue after short results and interruptions; what lies past the
 * end of the file reads as zeros (the last sector of a file whose size is not a
 * multiple of 512, or a file that somebody shortened).  Direct I/O that is not
 * aligned goes through a bounce buffer, its edges by read-modify-write.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/iov.h"
#include "block/file.h"

#define BATCH_IOV 256			/* pieces per system call: 4 KiB of stack */
#define BOUNCE_MAX (1u << 20)
#define ZERO_CHUNK (256u << 10)

static bool misaligned(const struct iovec *iov, unsigned n, uint32_t align)
{
	for (unsigned i = 0; i < n; i++)
		if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (align - 1))
			return true;
	return false;
}

bool file_needs_bounce(const struct blk_file *f, const struct blk_req *r)
{
	if (!f->direct)
		return false;
	return ((r->offset | r->len | r->drv[DRV_DONE]) & (f->n.i.request_align - 1)) ||
	       misaligned(r->iov, r->niov, f->mem_align);
}

static int write_flags(const struct blk_req *r)
{
	return r->op == BLK_WRITE && r->fua ? RWF_DSYNC : 0;
}

/* pread/pwrite of len bytes at off, all of it.  Returns bytes (fewer: end of file) or -errno. */
static ssize_t whole(struct blk_file *f, bool write, uint8_t *buf, size_t len, uint64_t off, int flags)
{
	size_t done = 0;

	while (done < len) {
		struct iovec v = { buf + done, len - done };
		ssize_t n = write ? pwritev2(f->fd, &v, 1, (off_t)(off + done), flags)
				  : preadv2(f->fd, &v, 1, (off_t)(off + done), 0);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
		/* With direct I/O only the end of the file stops inside a block. */
		if (f->direct && (done & (f->n.i.request_align - 1)))
			break;
	}
	return (ssize_t)done;
}

/* One aligned chunk [off, off+len) whose part [off+head, ..+part) is the request's. */
static int bounce_read(struct blk_file *f, struct blk_req *r, uint8_t *buf, uint64_t off, size_t len,
		       size_t head, size_t part)
{
	ssize_t n = whole(f, false, buf, len, off, 0);

	if (n < 0)
		return (int)n;
	memset(buf + n, 0, len - (size_t)n);
	iov_from_buf(r->iov, r->niov, r->drv[DRV_DONE], buf + head, part);
	return 0;
}

static int bounce_write(struct blk_file *f, struct blk_req *r, uint8_t *buf, uint64_t off, size_t len,
			size_t head, size_t part)
{
	ssize_t n;

	if (head || part != len) {
		n = whole(f, false, buf, len, off, 0);
		if (n < 0)
			return (int)n;
		memset(buf + n, 0, len - (size_t)n);
	}
	iov_to_buf(r->iov, r->niov, r->drv[DRV_DONE], buf + head, part);
	n = whole(f, true, buf, len, off, write_flags(r));
	if (n < 0)
		return (int)n;
	if ((size_t)n != len)
		return -EIO;
	/* The disk must not grow because its last block is incomplete. */
	if (off + len > f->n.i.size && !f->n.i.is_device && ftruncate(f->fd, (off_t)f->n.i.size))
		return -errno;
	return 0;
}

static int run_bounced(struct blk_file *f, struct blk_req *r)
{
	uint64_t align = f->n.i.request_align;
	size_t room = MIN(align_up(r->len, align) + align, BOUNCE_MAX);
	uint8_t *buf = aligned_alloc(MAX(f->mem_align, 4096), align_up(room, MAX(f->mem_align, 4096)));
	int ret = 0;

	if (!buf)
		return -ENOMEM;
	while (r->drv[DRV_DONE] < r->len && !ret) {
		uint64_t pos = r->offset + r->drv[DRV_DONE];
		uint64_t off = align_down(pos, align), end = align_up(r->offset + r->len, align);
		size_t len = MIN(end - off, align_down(room, align)), head = pos - off;
		size_t part = MIN(len - head, r->len - r->drv[DRV_DONE]);

		ret = r->op == BLK_READ ? bounce_read(f, r, buf, off, len, head, part)
					: bounce_write(f, r, buf, off, len, head, part);
		r->drv[DRV_DONE] += part;
	}
	free(buf);
	return ret;
}

/* Describes up to BATCH_IOV pieces from byte `skip` of the request. */
static unsigned next_batch(const struct blk_req *r, uint64_t skip, struct iovec *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->niov && n < BATCH_IOV; i++) {
		if (skip >= r->iov[i].iov_len) {
			skip -= r->iov[i].iov_len;
			continue;
		}
		out[n].iov_base = (uint8_t *)r->iov[i].iov_base + skip;
		out[n++].iov_len = r->iov[i].iov_len - skip;
		skip = 0;
	}
	return n;
}

static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY || err == -ENODEV;
}

bool file_read_cached(struct blk_file *f, struct blk_req *r)
{
	struct iovec v[BATCH_IOV];
	unsigned n = next_batch(r, r->drv[DRV_DONE], v);
	ssize_t got = preadv2(f->fd, v, (int)n, (off_t)(r->offset + r->drv[DRV_DONE]), RWF_NOWAIT);

	if (got > 0)
		r->drv[DRV_DONE] += (uint64_t)got;
	return r->drv[DRV_DONE] == r->len;
}

static int run_rw(struct blk_file *f, struct blk_req *r)
{
	struct iovec v[BATCH_IOV];

	while (r->drv[DRV_DONE] < r->len) {
		off_t off = (off_t)(r->offset + r->drv[DRV_DONE]);
		unsigned n;
		ssize_t got;

		if (file_needs_bounce(f, r))
			return run_bounced(f, r);
		n = next_batch(r, r->drv[DRV_DONE], v);
		got = r->op == BLK_READ ? preadv2(f->fd, v, (int)n, off, 0)
					: pwritev2(f->fd, v, (int)n, off, write_flags(r));
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return -errno;
		if (got == 0 && r->op == BLK_WRITE)
			return -EIO;
		if (got == 0) {
			iov_memset(r->iov, r->niov, r->drv[DRV_DONE], 0, r->len - r->drv[DRV_DONE]);
			return 0;
		}
		r->drv[DRV_DONE] += (uint64_t)got;
	}
	return 0;
}


struct range {
	uint64_t off, len;
};

static int range_op(struct blk_file *f, struct range range, unsigned long dev_ioctl, int mode)
{
	uint64_t arg[2] = { range.off, range.len };
	int ret;

	do {
		ret = f->n.i.is_device ? ioctl(f->fd, dev_ioctl, arg)
				       : fallocate(f->fd, mode, (off_t)range.off, (off_t)range.len);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* What of the request consists of whole blocks of the host: a device refuses the rest. */
static struct range whole_blocks(const struct blk_file *f, const struct blk_req *r)
{
	uint64_t align = f->n.i.is_device ? f->n.i.request_align : 1;
	uint64_t from = align_up(r->offset, align), to = align_down(r->offset + r->len, align);

	return (struct range){ from, to > from ? to - from : 0 };
}

/* A discard is a hint: a host that cannot has nothing to report. */
static int run_discard(struct blk_file *f, struct blk_req *r)
{
	struct range blocks = whole_blocks(f, r);
	int ret;

	if (f->no_punch || !blocks.len)
		return 0;
	ret = range_op(f, blocks, BLKDISCARD, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	if (!unsupported(ret))
		return ret;
	f->no_punch = true;
	return 0;
}

static int write_zeros_out(struct blk_file *f, struct blk_req *r, struct range range)
{
	size_t room = MIN(range.len, ZERO_CHUNK);
	uint8_t *zeros;
	struct blk_req w = { .op = BLK_WRITE, .node = r->node };
	int ret = 0;

	if (!range.len)
		return 0;
	zeros = calloc(1, room);
	if (!zeros)
		return -ENOMEM;
	for (uint64_t done = 0; done < range.len && !ret; done += w.len) {
		struct iovec v = { zeros, MIN(room, range.len - done) };

		w.offset = range.off + done;
		w.len = v.iov_len;
		w.iov = &v;
		w.niov = 1;
		w.drv[DRV_DONE] = 0;
		ret = run_rw(f, &w);
	}
	free(zeros);
	return ret;
}

/* On a device BLKZEROOUT may deallocate or not as it likes; a file follows `unmap`. */
static int zero_blocks(struct blk_file *f, struct blk_req *r, struct range blocks)
{
	int ret = -EOPNOTSUPP;

	if (r->unmap && !f->n.i.is_device && !f->no_punch) {
		ret = range_op(f, blocks, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
		f->no_punch = f->no_punch || unsupported(ret);
	}
	if (unsupported(ret) && !f->no_zero) {
		ret = range_op(f, blocks, BLKZEROOUT, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
		f->no_zero = unsupported(ret);
	}
	return unsupported(ret) ? write_zeros_out(f, r, blocks) : ret;
}

static int run_zeroes(struct blk_file *f, struct blk_req *r)
{
	struct range blocks = whole_blocks(f, r);
	uint64_t end = r->offset + r->len, after = blocks.off + blocks.len;
	int ret;

	if (!blocks.len) {
		ret = write_zeros_out(f, r, (struct range){ r->offset, r->len });
	} else {
		ret = write_zeros_out(f, r, (struct range){ r->offset, blocks.off - r->offset });
		if (!ret)
			ret = zero_blocks(f, r, blocks);
		if (!ret)
			ret = write_zeros_out(f, r, (struct range){ after, end - after });
	}
	if (!ret && (r->fua || f->cache == BLK_CACHE_WRITETHROUGH))
		ret = file_flush_result(f, fdatasync(f->fd) ? -errno : 0);
	return ret;
}

int file_flush_result(struct blk_file *f, int ret)
{
	int none = 0;

	if (!ret)
		return f->flush_error;
	/* The page cache drops what it could not write and forgets the error. */
	if (!f->direct)
		atomic_compare_exchange_strong(&f->flush_error, &none, ret);
	return ret;
}

/* Where the file has holes, as its file system tells; one that cannot tell shows data. */
static int run_status(struct blk_file *f, struct blk_req *r)
{
	off_t data, hole, off = (off_t)r->offset;
	struct blk_extent *x = r->ext;

	x->allocated = x->data = x->has_offset = true;
	x->offset = r->offset;
	x->len = r->len;
	if (f->n.i.is_device)
		return 0;
	data = lseek(f->fd, off, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return 0;
	if (data < 0 || data > off) {
		x->data = false;
		x->zero = true;
		if (data > off)
			x->len = MIN(x->len, align_down((uint64_t)(data - off), BLK_SECTOR));
		if (x->len)
			return 0;
		/* Data begins inside this sector. */
		x->data = true;
		x->zero = false;
		x->len = BLK_SECTOR;
		return 0;
	}
	hole = lseek(f->fd, off, SEEK_HOLE);
	if (hole > off)
		x->len = MIN(x->len, align_up((uint64_t)(hole - off), BLK_SECTOR));
	return 0;
}

int file_run(struct blk_file *f, struct blk_req *r)
{
	switch (r->op) {
	case BLK_READ:
	case BLK_WRITE:
		return run_rw(f, r);
	case BLK_FLUSH:
		return file_flush_result(f, fdatasync(f->fd) ? -errno : 0);
	case BLK_DISCARD:
		return run_discard(f, r);
	case BLK_WRITE_ZEROES:
		return run_zeroes(f, r);
	case BLK_STATUS:
		return run_status(f, r);
	}
	return -EINVAL;
}
