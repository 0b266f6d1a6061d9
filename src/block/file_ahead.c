/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room ahead of the writes that fill a new file.
 *
 * A file system that finds room for each block when it is written takes twice as
 * long as one that was told before, in large pieces (ext4, 1 GiB through the page
 * cache: 0.16 s, with 1 MiB reserved at a time 0.12, with 16 MiB 0.09), and
 * scatters the file more.  So as long as writes follow each other, twice as much
 * is reserved each time.
 *
 * What was reserved beyond the end of the file is given back by setting its
 * length again: data never lies there, so nothing can be lost.  A disk image that
 * has its full length from the beginning is cut for the time, and made as long as
 * the disk again when it is flushed or closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"

#define RESERVE_MIN (64u << 10)		/* smaller writes do not gain */
#define STEP_MAX (16u << 20)

static bool is_hole(int fd, const struct stat *st)
{
	return !st->st_blocks && lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
}

void file_ahead_start(struct blk_file *f)
{
	struct file_ahead *a = &f->ahead;
	struct stat st;

	if (f->n.i.is_device || f->n.i.read_only || fstat(f->fd, &st))
		return;
	a->on = true;
	/* Direct I/O completes the last block by setting the length itself. */
	if (!f->direct && st.st_size && is_hole(f->fd, &st))
		a->cut = ftruncate(f->fd, 0) == 0;
	a->written = a->cut ? 0 : (uint64_t)st.st_size;
}

/* Writes in flight end before `written`, so none is cut off. */
static int give_back(struct blk_file *f)
{
	struct file_ahead *a = &f->ahead;
	struct stat st;
	uint64_t end;

	if (fstat(f->fd, &st))
		return -errno;
	end = MAX((uint64_t)st.st_size, a->written);
	if (a->reserved <= end)
		return 0;
	/* What makes a file longer leaves alone what is reserved behind; setting the length it has does not. */
	if (((uint64_t)st.st_size < end && ftruncate(f->fd, (off_t)end)) || ftruncate(f->fd, (off_t)end))
		return -errno;
	a->reserved = end;
	return 0;
}

/* Behind the end of the file as much as the next writes may want, elsewhere no more than this one does. */
static void reserve(struct blk_file *f, uint64_t off, uint64_t end)
{
	struct file_ahead *a = &f->ahead;
	struct stat st;
	uint64_t to = end;

	if (fstat(f->fd, &st))
		return;
	if (end >= (uint64_t)st.st_size && a->step)
		to = off + MAX(end - off, a->step);
	if (fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)(to - off))) {
		/* Unsupported, or too little room for this, which may be taken by now: the writes themselves tell. */
		a->reserved = to;
		give_back(f);
		a->on = false;
		return;
	}
	a->reserved = to;
	a->step = MIN(MAX(a->step, end - off) * 2, STEP_MAX);
}

void file_ahead_write(struct blk_file *f, const struct blk_req *r)
{
	struct file_ahead *a = &f->ahead;
	uint64_t off = r->offset, end = r->offset + r->len;

	/* What was written over, or behind: no file grows by it. */
	if (end <= a->written)
		return;
	if (off != a->written) {
		give_back(f);
		a->step = 0;
	}
	if (a->on && r->op == BLK_WRITE && r->len >= RESERVE_MIN && end > a->reserved)
		reserve(f, MAX(off, a->reserved), end);
	a->written = end;
}

int file_ahead_settle(struct blk_file *f)
{
	struct file_ahead *a = &f->ahead;
	int ret = a->on ? give_back(f) : 0;

	if (!ret && a->cut && ftruncate(f->fd, (off_t)f->n.i.size))
		ret = -errno;
	if (!ret)
		a->cut = false;
	return ret;
}
