/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much of the host's CPUs this process and those it starts get: a control group of its own below the one it was started
 * in, by the kernel's interface of either version (v2, or v1 where the cpu controller is there, as on hybrid hosts).
 *
 * It is made while files can still be opened; what may change later is kept open.  At the end the process goes back and the
 * group is removed; one whose process was killed is removed by the next who makes one beside it.
 */
#ifndef LODGE_BASE_CGROUP_H
#define LODGE_BASE_CGROUP_H

#include "base/err.h"

#define CGROUP_WEIGHT_MAX 10000u
#define CGROUP_WEIGHT_DEFAULT 100u
#define CGROUP_QUOTA_MAX 1000000u

struct cgroup;

/*
 * Puts this process into a new group.  root: NULL, or a folder that stands for the host's "/" (tests).  Before other threads begin.
 * EPERM, EBUSY, ENOTSUP ... with a message that says what is in the way and what helps.
 */
int cgroup_new(const char *root, struct cgroup **out, struct err *e);
/* NULL is nothing. */
void cgroup_free(struct cgroup *g);

/* Share of CPU time against others, 1 to CGROUP_WEIGHT_MAX; others have 100. */
int cgroup_set_weight(struct cgroup *g, unsigned weight, struct err *e);
/* Percent of one CPU at most, up to CGROUP_QUOTA_MAX; 0: no limit. */
int cgroup_set_quota(struct cgroup *g, unsigned percent, struct err *e);
/* Its folder. */
const char *cgroup_path(const struct cgroup *g);

#endif
