/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw disk images: regular files and block devices of the host.
 *
 * Opening finds size, alignment and who else uses the image, and explains every
 * refusal.  A request goes to the ring if there is one and it is a plain
 * transfer, else to the pool.  A regular file whose size is not a multiple of
 * 512 bytes is shown rounded up: its last sector reads as zeros past the end and
 * completes the file when written.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"

#define POOL_THREADS 4

static const struct blk_driver file_driver;
static int file_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e);

static bool op_modifies(const struct blk_req *r)
{
	return r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD;
}

static void dispatch(struct blk_file *f, struct blk_req *r)
{
	if (f->ring && !file_needs_bounce(f, r) && file_ring_submit(f->ring, r))
		return;
	if (!f->ring && !f->direct && r->op == BLK_READ && file_read_cached(f, r)) {
		blk_finish(r, 0);
		return;
	}
	pool_submit(f->pool, r);
}

/* Read-modify-write of a block may not overlap any other change; see struct blk_file. */
static bool may_start(const struct blk_file *f, const struct blk_req *r)
{
	if (f->rmw_active)
		return false;
	return !r->drv[DRV_RMW] || !f->writes_active;
}

static void start_ordered(struct blk_file *f, struct blk_req *r)
{
	f->writes_active++;
	f->rmw_active = r->drv[DRV_RMW];
	dispatch(f, r);
}

static void file_submit(struct blk_node *n, struct blk_req *r)
{
	struct blk_file *f = container_of(n, struct blk_file, n);
	int ret;

	r->drv[DRV_DONE] = r->drv[DRV_ORDERED] = r->drv[DRV_RMW] = 0;
	if (f->ahead.on && op_modifies(r))
		file_ahead_write(f, r);
	ret = r->op == BLK_FLUSH ? file_ahead_settle(f) : 0;
	if (ret || (r->op == BLK_FLUSH && f->cache == BLK_CACHE_UNSAFE)) {
		blk_finish(r, ret);
		return;
	}
	if (!f->direct || n->i.request_align <= BLK_SECTOR || !op_modifies(r)) {
		dispatch(f, r);
		return;
	}
	r->drv[DRV_ORDERED] = true;
	r->drv[DRV_RMW] = ((r->offset | r->len) & (n->i.request_align - 1)) != 0;
	if (!f->waiting && may_start(f, r)) {
		start_ordered(f, r);
		return;
	}
	r->next = NULL;
	*f->waiting_end = r;
	f->waiting_end = &r->next;
}

static void file_finished(struct blk_node *n, struct blk_req *r)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	if (!r->drv[DRV_ORDERED])
		return;
	f->writes_active--;
	if (r->drv[DRV_RMW])
		f->rmw_active = false;
	while (f->waiting && may_start(f, f->waiting)) {
		struct blk_req *w = f->waiting;

		f->waiting = w->next;
		if (!f->waiting)
			f->waiting_end = &f->waiting;
		start_ordered(f, w);
	}
}

static void run_on_worker(void *opaque, struct blk_req *r)
{
	blk_finish(r, file_run(opaque, r));
}

static void file_wait(struct blk_node *n)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	if (f->ring && file_ring_in_flight(f->ring))
		file_ring_wait(f->ring);
	else
		pool_wait(f->pool);
}

static int file_move(struct blk_node *n, struct loop *l)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	return f->ring ? file_ring_move(f->ring, l) : 0;
}

static void file_close(struct blk_node *n)
{
	struct blk_file *f = container_of(n, struct blk_file, n);
	int ret;

	pool_free(f->pool);
	file_ring_free(f->ring);
	ret = file_ahead_settle(f);
	if (ret)
		log_warn("disk '%s' is not as long as it should be: %s", n->path, strerror(-ret));
	/* The kernel lets go of a ring's files some time later: do not wait for it. */
	file_unlock(f->fd);
	close(f->fd);
	blk_node_fini(n);
	free(f);
}

static int file_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	if (n->i.is_device)
		return err_set(e, -ENOTSUP, "disk '%s' is a block device: its size is changed where it was made", n->path);
	if (ftruncate(f->fd, (off_t)size))
		return err_set(e, -errno, "the size of disk '%s' cannot be changed: %s", n->path, strerror(errno));
	n->i.size = size;
	return 0;
}

/* Writes in flight end before `size`: that is what makes this safe beside them. */
static int file_extend(struct blk_node *n, uint64_t size)
{
	struct blk_file *f = container_of(n, struct blk_file, n);
	struct stat st;

	if (n->i.is_device)
		return size <= n->i.size ? 0 : -ENOSPC;
	if (fstat(f->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size < size && ftruncate(f->fd, (off_t)size))
		return -errno;
	n->i.size = MAX(n->i.size, size);
	return 0;
}

int blk_file_grow(struct blk_node *n, uint64_t size)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	if (n->drv != &file_driver || n->i.is_device || !n->open_ended)
		return -ENOTSUP;
	if (size <= n->i.size)
		return 0;
	if (fallocate(f->fd, 0, (off_t)n->i.size, (off_t)(size - n->i.size)))
		return -errno;
	n->i.size = size;
	f->ahead.reserved = MAX(f->ahead.reserved, size);
	return 0;
}

enum blk_cache blk_cache_of(const struct blk_node *n)
{
	while (n->file)
		n = n->file;
	return n->drv == &file_driver ? container_of(n, struct blk_file, n)->cache : BLK_CACHE_WRITEBACK;
}

bool blk_file_is_regular(const struct blk_node *n)
{
	return n->drv == &file_driver && !n->i.is_device;
}

int blk_file_reserve(struct blk_node *n, struct err *e)
{
	struct blk_file *f = container_of(n, struct blk_file, n);

	if (n->drv != &file_driver || n->i.is_device || !fallocate(f->fd, 0, 0, (off_t)n->i.size) || errno == EOPNOTSUPP)
		return 0;
	return err_set(e, -errno, "room for '%s' cannot be reserved: %s", n->path, strerror(errno));
}

static const struct blk_driver file_driver = {
	.name = "file",
	.submit = file_submit,
	.wait = file_wait,
	.finished = file_finished,
	.resize = file_resize,
	.extend = file_extend,
	.reopen = file_reopen,
	.move = file_move,
	.close = file_close,
};

static int say_cannot_open(const char *path, bool read_only, int code, struct err *e)
{
	switch (code) {
	case -ENOENT:
		return err_set(e, code, read_only ? "disk '%s' does not exist" :
			       "disk '%s' does not exist: create it, for instance with 'lodge img create FILE 8G'", path);
	case -EACCES:
	case -EPERM:
		if (!read_only && access(path, R_OK) == 0)
			return err_set(e, code,
				       "disk '%s' may not be written by this user: open it read-only, or change its permissions",
				       path);
		return err_set(e, code, "no permission to open disk '%s': change the permissions of the file and its folders",
			       path);
	case -EROFS:
		return err_set(e, code, "disk '%s' lies on a read-only file system: open it read-only", path);
	case -ENXIO:
	case -ENOMEDIUM:
		return err_set(e, code, "disk '%s' has no medium or no device behind it", path);
	default:
		return err_set(e, code, "disk '%s' cannot be opened: %s", path, strerror(-code));
	}
}

/* Before open: opening a FIFO blocks, and other devices act on being opened. */
static int check_kind(const char *path, bool read_only, struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return say_cannot_open(path, read_only, -errno, e);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "disk '%s' is a directory: give an image file or a block device", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "disk '%s' is neither a regular file nor a block device", path);
	return 0;
}

static int open_flags(bool read_only, enum blk_cache cache)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;

	if (cache == BLK_CACHE_NONE)
		flags |= O_DIRECT;
	if (cache == BLK_CACHE_WRITETHROUGH)
		flags |= O_DSYNC;
	return flags;
}

static int open_fd(const char *path, const struct blk_open_opts *o, struct blk_file *f, struct err *e)
{
	int flags = open_flags(o->read_only, o->cache);

	f->fd = open(path, flags);
	if (f->fd >= 0)
		return 0;
	if (errno == EINVAL && (flags & O_DIRECT))
		return err_set(e, -EINVAL,
			       "disk '%s': its file system has no direct I/O, which cache=none needs: use cache=writeback",
			       path);
	return say_cannot_open(path, o->read_only, -errno, e);
}

/* Only for speed, so what cannot be had is left at 0. */
static void device_hints(struct blk_file *f)
{
	struct blk_info *i = &f->n.i;
	unsigned int n = 0;
	char path[96];
	struct stat st;
	int offset = 0;
	FILE *unit;

	if (ioctl(f->fd, BLKIOMIN, &n) == 0)
		i->min_io = n;
	if (ioctl(f->fd, BLKIOOPT, &n) == 0)
		i->opt_io = n;
	if (ioctl(f->fd, BLKALIGNOFF, &offset) == 0 && offset > 0)
		i->align_offset = (uint32_t)offset;
	/* Once: a thread that opens the disk anew opens no other file. */
	if (f->asked_unit || fstat(f->fd, &st))
		return;
	f->asked_unit = true;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/discard_granularity", major(st.st_rdev), minor(st.st_rdev));
	unit = fopen(path, "re");
	if (unit && fscanf(unit, "%u", &n) == 1 && is_pow2(n))
		i->discard_unit = n;
	if (unit)
		fclose(unit);
}

static int device_geometry(const char *path, struct blk_file *f, struct err *e)
{
	struct blk_info *i = &f->n.i;
	unsigned int physical = 0;
	int logical = 0, ro = 0;

	if (ioctl(f->fd, BLKGETSIZE64, &i->size))
		return err_set(e, -errno, "the size of disk '%s' cannot be found: %s", path, strerror(errno));
	if (ioctl(f->fd, BLKROGET, &ro) == 0 && ro && !i->read_only)
		return err_set(e, -EROFS, "disk '%s' is a read-only device: open it read-only", path);
	if (ioctl(f->fd, BLKSSZGET, &logical) == 0 && logical > BLK_SECTOR && is_pow2((uint64_t)logical))
		i->request_align = (uint32_t)logical;
	if (ioctl(f->fd, BLKPBSZGET, &physical) == 0 && is_pow2(physical))
		i->physical_block = MAX(physical, i->request_align);
	i->size = align_down(i->size, BLK_SECTOR);
	device_hints(f);
	return 0;
}

static int geometry(const char *path, struct blk_file *f, struct err *e)
{
	struct blk_info *i = &f->n.i;
	struct stat st;
	int ret = 0;

	if (fstat(f->fd, &st))
		return err_set(e, -errno, "disk '%s': %s", path, strerror(errno));
	i->request_align = i->physical_block = BLK_SECTOR;
	i->is_device = S_ISBLK(st.st_mode);
	if (i->is_device)
		ret = device_geometry(path, f, e);
	else
		i->size = (uint64_t)st.st_size;
	if (ret)
		return ret;
	if (i->size < BLK_SECTOR && !f->n.open_ended)
		return err_set(e, -EINVAL, "disk '%s' is %llu bytes long: a disk has at least one sector of %d bytes", path,
			       (unsigned long long)i->size, BLK_SECTOR);
	if (i->size >= BLK_SECTOR)	/* else who asked for open_ended says what is wrong with it */
		i->size = align_up(i->size, BLK_SECTOR);
	i->can_discard = i->can_zero = !i->read_only;
	return 0;
}

#ifdef STATX_DIOALIGN
/* Linux 6.1 tells. */
static bool told_alignment(struct blk_file *f, uint32_t *offset, uint32_t *mem)
{
	struct statx sx;

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) || !(sx.stx_mask & STATX_DIOALIGN))
		return false;
	*offset = sx.stx_dio_offset_align;
	*mem = sx.stx_dio_mem_align;
	return *offset && *mem && is_pow2(*offset) && is_pow2(*mem);
}
#else
static bool told_alignment(struct blk_file *f, uint32_t *offset, uint32_t *mem)
{
	return false;
}
#endif

/* Elsewhere one read tells whether 512 will do; 4096 does everywhere. */
static int direct_alignment(const char *path, struct blk_file *f, struct err *e)
{
	uint32_t offset = 4096, mem = 4096;
	uint8_t *probe;

	if (!told_alignment(f, &offset, &mem)) {
		probe = aligned_alloc(4096, 8192);
		if (!probe)
			return err_set(e, -ENOMEM, "out of memory while opening disk '%s'", path);
		if (pread(f->fd, probe + BLK_SECTOR, BLK_SECTOR, 0) >= 0)
			offset = mem = BLK_SECTOR;
		free(probe);
	}
	f->direct = true;
	f->mem_align = MAX(mem, 4u);
	f->n.i.request_align = MAX(MAX(offset, f->n.i.request_align), BLK_SECTOR);
	f->n.i.physical_block = MAX(f->n.i.physical_block, f->n.i.request_align);
	if (f->n.i.request_align > 65536 || f->mem_align > 65536)
		return err_set(e, -EINVAL, "disk '%s' needs direct I/O in blocks above 64 KiB: use cache=writeback", path);
	return 0;
}

static int start_io(const char *path, struct blk_file *f, const struct blk_open_opts *o, struct err *e)
{
	/* Writes through the page cache wait for each other in the kernel: one thread does them faster than several. */
	unsigned threads = o->reserve && !f->direct && !f->n.i.is_device ? 1 : POOL_THREADS;
	enum blk_aio aio = o->aio;
	int ret = pool_new(threads, CONFINE_IO, run_on_worker, f, &f->pool);

	if (ret)
		return err_set(e, ret, "out of memory while opening disk '%s'", path);
	if (aio == BLK_AIO_THREADS)
		return 0;
	ret = file_ring_new(f, &f->ring);
	if (!ret)
		return 0;
	if (aio == BLK_AIO_URING)
		return err_set(e, ret,
			       "disk '%s': this host does not let us use io_uring (%s): allow it, or use threads", path,
			       strerror(-ret));
	log_debug("disk '%s': no io_uring (%s), using threads", path, strerror(-ret));
	return 0;
}

/*
 * The lock goes from one description to the other by way of a shared one that
 * both may hold: no writer can come in between.  A reader can, and then the new
 * one cannot become exclusive.
 */
static int move_lock(int from, int to, bool was_exclusive, bool exclusive, const char *path, struct err *e)
{
	int ret;

	if (was_exclusive)
		file_relock(from, false);
	ret = file_lock(to, path, false, e);
	if (!ret) {
		file_unlock(from);
		ret = exclusive ? file_relock(to, true) : 0;
		if (!ret)
			return 0;
		file_unlock(to);
		file_lock(from, path, false, NULL);
		err_set(e, -EBUSY, "disk '%s' is used by another process: it cannot be opened for writing", path);
	}
	if (was_exclusive && file_relock(from, true))
		log_warn("disk '%s': another process reads it now, and may see it change", path);
	return ret == -EAGAIN ? -EBUSY : ret;
}

/* Size and alignment as the new descriptor has them; the size is as it was. */
static int settle_reopened(struct blk_file *f, struct err *e)
{
	uint64_t size = f->n.i.size;
	int ret = geometry(f->n.path, f, e);

	f->n.i.size = size;
	f->direct = false;
	if (!ret && f->cache == BLK_CACHE_NONE)
		ret = direct_alignment(f->n.path, f, e);
	if (!ret && f->ring && file_ring_new_fd(f->ring))
		ret = err_set(e, -EIO, "disk '%s': io_uring does not take the descriptor", f->n.path);
	return ret;
}

static int file_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	struct blk_file *f = container_of(n, struct blk_file, n);
	enum blk_cache cache = how->set_cache ? how->cache : f->cache, old_cache = f->cache;
	struct blk_info old_info = n->i;
	int old = f->fd, fd, ret = 0;

	if (cache == f->cache && how->read_only == n->i.read_only)
		return 0;
	/* Not by its path, where another file may be by now. */
	fd = confine_reopen(old, open_flags(how->read_only, cache));
	if (fd < 0)
		return fd == -EINVAL && cache == BLK_CACHE_NONE ?
			err_set(e, -EINVAL, "disk '%s': its file system has no direct I/O", n->path) :
			say_cannot_open(n->path, how->read_only, fd, e);
	f->fd = fd;
	f->cache = cache;
	n->i.read_only = how->read_only;
	ret = settle_reopened(f, e);
	if (!ret && !f->no_lock)
		ret = move_lock(old, fd, !old_info.read_only, !how->read_only, n->path, e);
	if (!ret) {
		close(old);
		return 0;
	}
	f->fd = old;
	f->cache = old_cache;
	n->i = old_info;
	settle_reopened(f, NULL);
	n->i = old_info;
	close(fd);
	return ret;
}

int blk_create_file(const char *path, bool over, struct err *e)
{
	int fd, ret;

	ret = over && access(path, F_OK) == 0 ? check_kind(path, false, e) : 0;
	if (ret)
		return ret;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | (over ? 0 : O_EXCL), 0644);
	if (fd < 0 && errno == EEXIST)
		return err_set(e, -EEXIST, "'%s' exists already", path);
	if (fd < 0)
		return err_set(e, -errno, "'%s' cannot be made: %s", path, strerror(errno));
	ret = file_lock(fd, path, true, e);
	if (!ret && ftruncate(fd, 0) && errno != EINVAL)	/* EINVAL: a block device */
		ret = err_set(e, -errno, "'%s' cannot be emptied: %s", path, strerror(errno));
	file_unlock(fd);
	close(fd);
	return ret;
}

int blk_open_file(struct loop *l, const char *path, const struct blk_open_opts *o,
		  struct blk_node **out, struct err *e)
{
	struct blk_file *f;
	int ret = check_kind(path, o->read_only, e);

	if (ret)
		return ret;
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "out of memory while opening disk '%s'", path);
	f->cache = o->cache;
	f->no_lock = o->no_lock;
	f->waiting_end = &f->waiting;
	blk_node_init(&f->n, l, &file_driver);
	f->n.i.read_only = o->read_only;
	f->n.open_ended = o->open_ended;
	f->n.path = strdup(path);
	ret = f->n.path ? 0 : err_set(e, -ENOMEM, "out of memory while opening disk '%s'", path);
	if (!ret)
		ret = open_fd(path, o, f, e);
	if (ret)
		goto out_node;
	ret = geometry(path, f, e);
	if (!ret && !o->no_lock)
		ret = file_lock(f->fd, path, !o->read_only, e);
	if (!ret && o->cache == BLK_CACHE_NONE)
		ret = direct_alignment(path, f, e);
	if (!ret)
		ret = start_io(path, f, o, e);
	if (ret)
		goto out_fd;
	if (o->reserve)
		file_ahead_start(f);
	*out = &f->n;
	return 0;

out_fd:
	pool_free(f->pool);
	close(f->fd);
out_node:
	blk_node_fini(&f->n);
	free(f);
	return ret;
}
