/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where RAM comes from: memory of the process itself (merge), a memfd, or the files of a snapshot, which are mapped private, so that many guests share the pages that
 * none of them has written.  mem_save.c goes the other way.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bits.h"
#include "machine/ahead.h"
#include "machine/mem_image.h"
#include "machine/mem_int.h"

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
static int check_host_has(struct mem *m, uint64_t size, struct err *e)
{
	struct sysinfo si;
	uint64_t have, group = cgroup_limit();

	m->host_limit = group;
	if (size > group)
		return err_set(e, -ENOMEM, "%llu MiB of guest memory are more than this process may use "
			       "(%llu MiB: the memory limit of its control group); ask for less",
			       (unsigned long long)(size >> 20), (unsigned long long)(group >> 20));
	if (sysinfo(&si))
		return 0;
	have = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
	m->host_limit = MIN(group, have);
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

void mem_reserve(struct mem *m, uint64_t bytes) { m->reserved = bytes; }

uint64_t mem_host_limit(const struct mem *m) { return m->host_limit; }

static int check_size(struct mem *m, uint64_t size, int huge, struct err *e)
{
	uint64_t unit = huge == MEM_HUGE_2M ? HUGE_2M : PAGE_4K;

	if (m->ram.host)
		return err_set(e, -EEXIST, "guest memory exists already");
	if (size <= m->reserved || size % unit || size > GPA_LIMIT)
		return err_set(e, -EINVAL, "guest memory of %llu bytes is not a multiple of %llu KiB",
			       (unsigned long long)size, (unsigned long long)(unit >> 10));
	/* Large pages are set aside for all of it at once. */
	return check_host_has(m, huge == MEM_HUGE_2M ? size : size - m->reserved, e);
}

void mem_want_merge(struct mem *m) { m->want_merge = true; }

int mem_create_ram(struct mem *m, uint64_t size, int huge, struct err *e)
{
	bool own = m->want_merge && huge != MEM_HUGE_2M;
	struct backing b = { .fd = -1, .size = size, .private = own, .merge = own };
	int r = check_size(m, size, huge, e);

	if (r)
		return r;
	if (!own) {
		b.fd = open_memfd(size, huge, e);
		if (b.fd < 0)
			return b.fd;
	}
	b.host = map_aligned(b.fd, size, own ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED);
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
		b.ahead = mem_ahead_new(b.host, size - m->reserved, huge == MEM_HUGE_THP);
	m->ram = b;
	if (m->make_ahead)
		mem_make_ahead(m);
	return 0;

fail:
	mem_backing_fini(&b);
	return r;
}

static int map_private(struct mem *m, uint64_t size, struct mem_image *img, struct err *e)
{
	struct backing b = { .fd = -1, .size = size, .private = true };
	int r = 0;

	b.host = map_aligned(-1, size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	if (!b.host)
		r = -errno;
	r = r ? r : mem_image_map(img, b.host);
	r = r ? r : mem_backing_books(&b);
	if (r) {
		mem_backing_fini(&b);
		return err_set(e, r, "the saved memory cannot be mapped: %s", strerror(-r));
	}
	madvise(b.host, size, MADV_DONTDUMP);
	b.image = img;
	m->ram = b;
	return 0;
}

int mem_create_ram_from(struct mem *m, uint64_t size, int huge, struct mem_image **image, bool copy, struct err *e)
{
	struct mem_image *img = *image;
	int r;

	if (mem_image_size(img) != size)
		return err_set(e, -EINVAL, "the saved memory has another size than the machine's");
	if (!copy && huge == MEM_HUGE_NONE && mem_image_mappable(img)) {
		r = check_size(m, size, huge, e);
		r = r ? r : map_private(m, size, img, e);
		if (!r)
			*image = NULL;
		return r;
	}
	r = mem_create_ram(m, size, huge, e);
	r = r ? r : mem_image_read(img, m->ram.host, e);
	if (r)
		return r;
	mem_image_free(img);
	*image = NULL;
	return 0;
}

int mem_ram_release(struct mem *m, uint64_t off, uint64_t len)
{
	if (m->ram.private)
		return madvise(m->ram.host + off, len, MADV_DONTNEED) ? -errno : 0;
	return fallocate(m->ram.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) ? -errno : 0;
}
