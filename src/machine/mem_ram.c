/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where RAM comes from and goes to: a memfd, or the file of a snapshot.
 *
 * A snapshot's file is mapped private, so that many guests share the pages that
 * none of them has written.  It is written with holes for pages of zeros; a
 * page that was never touched is not looked at: a memfd tells by its holes, and
 * of a private mapping the kernel's page map says which pages are its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/zero.h"
#include "machine/ahead.h"
#include "machine/mem_int.h"

#define COPY_CHUNK (1ull << 30)
#define PAGEMAP_CHUNK 4096u	/* pages looked at together */
#define PM_SWAPPED (1ull << 62)
#define PM_PRESENT (1ull << 63)
#define PM_FILE (1ull << 61)

/* The smallest memory limit of the control groups we are in (cgroup v2), or
 * UINT64_MAX.  Inside a container the path is the container's own view. */
static uint64_t cgroup_limit(void)
{
	char path[512] = "", file[600], *end;
	uint64_t limit = UINT64_MAX;
	unsigned long long v;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return limit;
	while (fgets(file, sizeof(file), f))
		if (!strncmp(file, "0::/", 4))
			snprintf(path, sizeof(path), "%.*s", (int)strcspn(file + 3, "\n"), file + 3);
	fclose(f);
	for (;;) {
		snprintf(file, sizeof(file), "/sys/fs/cgroup%s/memory.max", path);
		f = fopen(file, "re");
		if (f) {
			if (fscanf(f, "%llu", &v) == 1 && v < limit)	/* "max": no number */
				limit = v;
			fclose(f);
		}
		end = strrchr(path, '/');
		if (!end)
			return limit;
		*end = '\0';
	}
}

/* A memfd of any size can be made; what the host cannot give would show as a
 * fatal signal in the middle of the guest's work, so refuse the impossible. */
static int check_host_has(uint64_t size, struct err *e)
{
	struct sysinfo si;
	uint64_t have, group = cgroup_limit();

	if (size > group)
		return err_set(e, -ENOMEM, "%llu MiB of guest memory are more than this process may use "
			       "(%llu MiB: the memory limit of its control group); ask for less",
			       (unsigned long long)(size >> 20), (unsigned long long)(group >> 20));
	if (sysinfo(&si))
		return 0;
	have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	if (size <= have)
		return 0;
	return err_set(e, -ENOMEM, "%llu MiB of guest memory are more than this host has (%llu MiB); "
		       "ask for less", (unsigned long long)(size >> 20),
		       (unsigned long long)(have >> 20));
}

static int open_memfd(uint64_t size, int huge, struct err *e)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd, r;

	if (huge == MEM_HUGE_2M)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("guest-ram", flags);
	if (fd < 0) {
		r = -errno;
		if (huge == MEM_HUGE_2M)
			return err_set(e, r, "this host offers no 2 MiB pages (%s); run without huge pages",
				       strerror(-r));
		return err_set(e, r, "cannot create guest memory: %s", strerror(-r));
	}
	if (ftruncate(fd, (off_t)size)) {
		r = -errno;
		close(fd);
		return err_set(e, r, "cannot get %llu MiB of guest memory: %s",
			       (unsigned long long)(size >> 20), strerror(-r));
	}
	/* A process it is shared with must not be able to make us fault. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

/* `size` bytes, whole pages, of the file at a multiple of 2 MiB; NULL: errno says why. */
static uint8_t *map_aligned(int fd, uint64_t size, int flags)
{
	uint8_t *all, *p;
	uint64_t head;

	if (size > SIZE_MAX - HUGE_2M) {
		errno = ENOMEM;
		return NULL;
	}
	all = mmap(NULL, size + HUGE_2M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	head = -(uintptr_t)all & (HUGE_2M - 1);
	p = mmap(all + head, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		int r = errno;

		munmap(all, size + HUGE_2M);
		errno = r;
		return NULL;
	}
	if (head)
		munmap(all, head);
	munmap(p + size, HUGE_2M - head);
	return p;
}

static int check_size(const struct mem *m, uint64_t size, int huge, struct err *e)
{
	uint64_t unit = huge == MEM_HUGE_2M ? HUGE_2M : PAGE_4K;

	if (m->ram.host)
		return err_set(e, -EEXIST, "guest memory exists already");
	if (!size || size % unit || size > GPA_LIMIT)
		return err_set(e, -EINVAL, "guest memory of %llu bytes is not a multiple of %llu KiB",
			       (unsigned long long)size, (unsigned long long)(unit >> 10));
	return check_host_has(size, e);
}

int mem_create_ram(struct mem *m, uint64_t size, int huge, struct err *e)
{
	struct backing b = { .fd = -1, .size = size };
	int r = check_size(m, size, huge, e);

	if (r)
		return r;
	b.fd = open_memfd(size, huge, e);
	if (b.fd < 0)
		return b.fd;
	b.host = map_aligned(b.fd, size, MAP_SHARED);
	if (!b.host) {
		r = -errno;
		if (huge == MEM_HUGE_2M)
			err_set(e, r, "cannot get %llu pages of 2 MiB: %s; reserve them (sysctl "
				"vm.nr_hugepages) or run without huge pages",
				(unsigned long long)(size / HUGE_2M), strerror(-r));
		else
			err_set(e, r, "cannot map %llu MiB of guest memory: %s",
				(unsigned long long)(size >> 20), strerror(-r));
		goto fail;
	}
	r = mem_backing_books(&b);
	if (r) {
		err_set(e, r, "cannot get memory for the page tables of the guest's memory");
		goto fail;
	}
	madvise(b.host, size, MADV_DONTDUMP);
	if (huge == MEM_HUGE_THP)
		madvise(b.host, size, MADV_HUGEPAGE);	/* a wish, not a promise */
	if (huge != MEM_HUGE_2M)
		b.ahead = mem_ahead_new(b.host, size, huge == MEM_HUGE_THP);
	m->ram = b;
	if (m->make_ahead)
		mem_make_ahead(m);
	return 0;

fail:
	mem_backing_fini(&b);
	return r;
}

/* The file's data into the memfd, holes left as they are. */
static int read_in(int to, int from, uint64_t size)
{
	off_t at = 0, end;

	while ((at = lseek(from, at, SEEK_DATA)) >= 0 && (uint64_t)at < size) {
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0 || lseek(to, at, SEEK_SET) < 0)
			return -errno;
		while (at < end) {
			ssize_t n = sendfile(to, from, &at, MIN((uint64_t)(end - at), COPY_CHUNK));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n ? -errno : -EIO;
		}
	}
	return at < 0 && errno != ENXIO ? -errno : 0;
}

static int map_private(struct mem *m, uint64_t size, int fd, struct err *e)
{
	struct backing b = { .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .size = size, .private = true };
	int r = b.fd < 0 ? -errno : 0;

	if (!r && !(b.host = map_aligned(b.fd, size, MAP_PRIVATE | MAP_NORESERVE)))
		r = -errno;
	if (!r)
		r = mem_backing_books(&b);
	if (r) {
		mem_backing_fini(&b);
		return err_set(e, r, "the saved memory cannot be mapped: %s", strerror(-r));
	}
	madvise(b.host, size, MADV_DONTDUMP);
	m->ram = b;
	return 0;
}

int mem_create_ram_from(struct mem *m, uint64_t size, int huge, int fd, bool copy, struct err *e)
{
	struct stat st;
	int r;

	if (fstat(fd, &st))
		return err_set(e, -errno, "the saved memory: %s", strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return err_set(e, -EINVAL, "the saved memory is damaged: it has %lld bytes, not %llu", (long long)st.st_size,
			       (unsigned long long)size);
	if (!copy && huge == MEM_HUGE_NONE) {
		r = check_size(m, size, huge, e);
		return r ? r : map_private(m, size, fd, e);
	}
	r = mem_create_ram(m, size, huge, e);
	if (r)
		return r;
	r = huge == MEM_HUGE_2M ? -EINVAL : read_in(m->ram.fd, fd, size);
	/* Large pages take no writes to their file. */
	for (uint64_t at = 0; huge == MEM_HUGE_2M && at < size; at += (uint64_t)r) {
		r = (int)pread(fd, m->ram.host + at, MIN(size - at, HUGE_2M), (off_t)at);
		if (r <= 0) {
			r = r ? -errno : -EIO;
			break;
		}
	}
	return r < 0 ? err_set(e, r, "the saved memory cannot be read: %s", strerror(-r)) : 0;
}

int mem_ram_release(struct mem *m, uint64_t off, uint64_t len)
{
	if (m->ram.private)
		return madvise(m->ram.host + off, len, MADV_DONTNEED) ? -errno : 0;
	return fallocate(m->ram.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) ? -errno : 0;
}

/* ---- saving ---- */

struct saving {
	const struct mem *m;
	int fd;
	uint64_t written;
};

static int write_all(int fd, const uint8_t *p, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, p, MIN(len, COPY_CHUNK), (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		p += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Runs of pages that are not zero, in [off, end). */
static int save_pages(struct saving *s, uint64_t off, uint64_t end)
{
	const uint8_t *host = s->m->ram.host;
	int r = 0;

	while (off < end && !r) {
		uint64_t first;

		while (off < end && mem_is_zero(host + off, PAGE_4K))
			off += PAGE_4K;
		for (first = off; off < end && !mem_is_zero(host + off, PAGE_4K);)
			off += PAGE_4K;
		r = write_all(s->fd, host + first, off - first, first);
		s->written += off - first;
	}
	return r;
}

/* What a file has data for; a file system that does not tell has it everywhere. */
static int save_by_file(struct saving *s, uint64_t off, uint64_t limit)
{
	const struct backing *b = &s->m->ram;
	int r = 0;

	while (off < limit && !r) {
		off_t at = lseek(b->fd, (off_t)off, SEEK_DATA), end;

		if (at < 0 && errno == ENXIO)
			break;
		end = at < 0 ? (off_t)limit : lseek(b->fd, at, SEEK_HOLE);
		at = at < 0 ? (off_t)off : at;
		if ((uint64_t)at >= limit)
			break;
		end = end < 0 || (uint64_t)end > limit ? (off_t)limit : end;
		off = align_up((uint64_t)end, PAGE_4K);
		r = save_pages(s, align_down((uint64_t)at, PAGE_4K), MIN(off, limit));
	}
	return r;
}

/* A private mapping: pages of its own, between them what its file has. */
static int save_by_pagemap(struct saving *s)
{
	const struct backing *b = &s->m->ram;
	uint64_t entry[PAGEMAP_CHUNK], first = (uintptr_t)b->host >> PAGE_SHIFT_4K, n = b->size >> PAGE_SHIFT_4K;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : 0;

	for (uint64_t i = 0; i < n && !r; i += PAGEMAP_CHUNK) {
		uint64_t some = MIN(n - i, (uint64_t)PAGEMAP_CHUNK), k = 0;

		if (pread(fd, entry, some * 8, (off_t)((first + i) * 8)) != (ssize_t)(some * 8))
			r = errno ? -errno : -EIO;
		while (k < some && !r) {
			uint64_t from = k;
			bool own = entry[k] & (PM_PRESENT | PM_SWAPPED) && !(entry[k] & PM_FILE);

			while (k < some && own == (entry[k] & (PM_PRESENT | PM_SWAPPED) && !(entry[k] & PM_FILE)))
				k++;
			r = (own ? save_pages : save_by_file)(s, (i + from) << PAGE_SHIFT_4K, (i + k) << PAGE_SHIFT_4K);
		}
	}
	if (fd >= 0)
		close(fd);
	return r;
}

int mem_ram_save(struct mem *m, int fd, uint64_t *written, struct err *e)
{
	struct saving s = { .m = m, .fd = fd };
	int r = ftruncate(fd, (off_t)m->ram.size) ? -errno : 0;

	if (!r)
		r = m->ram.private ? save_by_pagemap(&s) : save_by_file(&s, 0, m->ram.size);
	*written = s.written;
	return r ? err_set(e, r, "the guest's memory cannot be written: %s", strerror(-r)) : 0;
}
