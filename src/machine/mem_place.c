// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the host keeps the guest's RAM: on which of its nodes, from the start or as it is touched, swapped out or not.
 *
 * A node's policy counts for pages that are not there yet, so it comes before anything is written.  With a memfd it is
 * the file's, and so counts for every process that maps it.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "machine/mem_int.h"

#define PIECE (256ull << 20)

/* "0-1,3" of a file of the host's as bits; 0: it has no such. */
static uint64_t nodes_in(const char *path)
{
	FILE *f = fopen(path, "re");
	uint64_t set = 0;
	unsigned lo, hi;
	int c = ',';

	while (f && c == ',' && fscanf(f, "%u", &lo) == 1) {
		hi = lo;
		c = fgetc(f);
		if (c == '-' && fscanf(f, "%u", &hi) == 1)
			c = fgetc(f);
		for (; lo <= hi && lo < 64; lo++)
			set |= 1ull << lo;
	}
	if (f)
		fclose(f);
	return set;
}

int mem_bind(struct mem *m, uint64_t off, uint64_t len, enum mem_policy policy, uint64_t nodes, struct err *e)
{
	static const int modes[] = { [MEM_POLICY_BIND] = MPOL_BIND, [MEM_POLICY_PREFERRED] = MPOL_PREFERRED, [MEM_POLICY_INTERLEAVE] = MPOL_INTERLEAVE };
	uint64_t there = nodes_in("/sys/devices/system/node/has_memory");
	unsigned long mask = nodes;

	if (policy == MEM_POLICY_DEFAULT || !len)
		return 0;
	if (!range_inside(off, len, m->ram.size))
		return err_set(e, -EINVAL, "there is no such part of the guest's memory");
	if (there && nodes & ~there)
		return err_set(e, -ENODEV, "this host has no memory on node %d", __builtin_ctzll(nodes & ~there));
	if (!syscall(SYS_mbind, m->ram.host + off, len, modes[policy], &mask, sizeof(mask) * 8 + 1, 0))
		return 0;
	return err_set(e, -errno, "the guest's memory cannot be bound to nodes of this host: %s%s", strerror(errno),
		       errno == EINVAL ? " (may this process use them? see Mems_allowed in /proc/self/status)" : "");
}

/* A kernel before 5.14 has pages made by being written to, with what they have. */
static void touch(uint8_t *p, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += PAGE_4K) {
		volatile uint8_t *byte = p + i;

		*byte = *byte;
	}
}

int mem_populate(struct mem *m, struct err *e)
{
	uint64_t size = m->ram.size - m->reserved;

	for (uint64_t at = 0; at < size; at += PIECE) {
		uint64_t len = MIN(PIECE, size - at);

		if (!madvise(m->ram.host + at, len, MADV_POPULATE_WRITE))
			continue;
		if (errno != EINVAL)
			return err_set(e, -errno, "only %llu MiB of the guest's memory can be had: %s", (unsigned long long)at >> 20,
				       errno == EFAULT ? "the host has no more there" : strerror(errno));
		touch(m->ram.host + at, len);
	}
	return 0;
}

int mem_lock_ram(struct mem *m, struct err *e)
{
	uint64_t size = m->ram.size - m->reserved;
	struct rlimit limit = { 0 };

	if (!mlock(m->ram.host, size))
		return 0;
	if ((errno == ENOMEM || errno == EPERM || errno == EAGAIN) && !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur < size)
		return err_set(e, -EPERM, "%llu MiB of the guest's memory are more than may be locked (ulimit -l: %llu KiB)", (unsigned long long)size >> 20,
			       (unsigned long long)limit.rlim_cur >> 10);
	return err_set(e, -errno, "the guest's memory cannot be locked: %s", strerror(errno));
}

int mem_merge(struct mem *m, struct err *e)
{
	if (!m->ram.merge)
		return err_set(e, -EINVAL, "the guest's memory is not the process's own");
	if (!madvise(m->ram.host, m->ram.size, MADV_MERGEABLE))
		return 0;
	return err_set(e, -errno, errno == EINVAL ? "this host's kernel merges no pages (KSM)" : "pages cannot be merged: %s", strerror(errno));
}
