// SPDX-License-Identifier: GPL-2.0-or-later
/* See cgroup.h; the kernel's Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/ for scheduler/sched-bwc. */
#include "base/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"

#define PERIOD_US 100000u
#define REMOVE_TRIES 100u		/* 10 ms each */
#define CURE "start it in one that is its own, for instance: systemd-run --user --scope -p Delegate=yes lodge run ..."

struct cgroup {
	bool v1;
	bool enabled;			/* v2: the controller was turned on for it */
	char parent[PATH_MAX], path[PATH_MAX];
	int weight, quota, back, subtree;	/* descriptors: two settings, the parent's processes, its controllers (v2); -1: none */
	int folder;			/* of the parent */
};

/* ---- where this process is ---- */

/* Is the word in the list, which ends at a colon or its end? */
static bool lists(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (; *list && *list != ':'; list += strcspn(list, ",:"), list += *list == ',')
		if (!strncmp(list, word, n) && strchr(",:", list[n]))
			return true;
	return false;
}

/* A line of /proc/self/cgroup is "ID:CONTROLLERS:PATH"; v2's has no controllers. */
static bool find_own(const char *root, bool *v1, char path[PATH_MAX])
{
	char name[PATH_MAX], line[PATH_MAX + 64], *at;
	bool found = false;
	FILE *f;

	snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
	f = fopen(name, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		at = strchr(line, ':');
		if (!at || !strchr(at + 1, ':') || !(lists(at + 1, "cpu") || (!found && at[1] == ':')))
			continue;
		*v1 = at[1] != ':';
		found = true;
		snprintf(path, PATH_MAX, "%s", strchr(at + 1, ':') + 1);
	}
	if (f)
		fclose(f);
	return found;
}

/* Of a line of mountinfo (proc_pid_mountinfo(5)): what of the file system is mounted, where, and is it the one? */
static bool is_mount(char *line, bool v1, char **top, char **where)
{
	char *sep = strstr(line, " - "), *word[5], *save = NULL, *kind, *options;

	if (!sep)
		return false;
	*sep = '\0';
	for (unsigned i = 0; i < ARRAY_LEN(word); i++)
		if (!(word[i] = strtok_r(i ? NULL : line, " ", &save)))
			return false;
	kind = strtok_r(sep + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " \n", &save);
	*top = word[3];
	*where = word[4];
	return kind && (v1 ? !strcmp(kind, "cgroup") && options && lists(options, "cpu") : !strcmp(kind, "cgroup2"));
}

/* The folder of the group `path`. */
static bool find_folder(const char *root, bool v1, const char *path, char out[PATH_MAX])
{
	char name[PATH_MAX], line[2 * PATH_MAX], *top, *where;
	bool found = false;
	FILE *f;

	snprintf(name, sizeof(name), "%s/proc/self/mountinfo", root);
	f = fopen(name, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		size_t n;

		if (!is_mount(line, v1, &top, &where))
			continue;
		n = strcmp(top, "/") ? strlen(top) : 0;
		/* In a container a part of the tree may be all that is to be seen. */
		if (strncmp(path, top, n) || (path[n] && path[n] != '/'))
			continue;
		found = snprintf(out, PATH_MAX, "%s%s%s", root, where, strcmp(path + n, "/") ? path + n : "") < PATH_MAX;
	}
	if (f)
		fclose(f);
	return found;
}

/* ---- files of a group ---- */

static int open_in(const char *folder, const char *name, int flags)
{
	char path[PATH_MAX];
	int fd = snprintf(path, sizeof(path), "%s/%s", folder, name) < PATH_MAX ? open(path, flags | O_CLOEXEC) : (errno = ENAMETOOLONG, -1);

	return fd < 0 ? -errno : fd;
}

static int put(int fd, const char *text)
{
	ssize_t n = pwrite(fd, text, strlen(text), 0);

	return n < 0 ? -errno : n == (ssize_t)strlen(text) ? 0 : -EIO;
}

/* Is the word in the file, between spaces? */
static bool file_lists(const char *folder, const char *name, const char *word)
{
	char text[1024] = "", *save = NULL;
	int fd = open_in(folder, name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (!strcmp(w, word))
			return true;
	return false;
}

/* Groups of those who were killed: one with processes in it stays. */
static void remove_left(const char *parent)
{
	char pattern[PATH_MAX + 16];
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/lodge.*", parent);
	if (glob(pattern, GLOB_NOSORT, NULL, &g))
		return;
	for (size_t i = 0; i < g.gl_pathc; i++)
		rmdir(g.gl_pathv[i]);
	globfree(&g);
}

static void go_back(struct cgroup *g)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	/* v2: a group that passes controllers on has no processes. */
	if (g->enabled)
		put(g->subtree, "-cpu");
	put(g->back, pid);
	/* Processes that were told to end, and have not yet, are in it. */
	for (unsigned i = 0; i < REMOVE_TRIES && unlinkat(g->folder, strrchr(g->path, '/') + 1, AT_REMOVEDIR) && errno == EBUSY; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

static int open_all(struct cgroup *g)
{
	g->back = open_in(g->parent, "cgroup.procs", O_WRONLY);
	g->folder = open_in(g->parent, ".", O_RDONLY | O_DIRECTORY);
	if (!g->v1)
		g->subtree = open_in(g->parent, "cgroup.subtree_control", O_WRONLY);
	return g->back < 0 ? g->back : g->folder < 0 ? g->folder : !g->v1 && g->subtree < 0 ? g->subtree : 0;
}

/* Into the new group, with the controller turned on for it. */
static int enter(struct cgroup *g, const char **what)
{
	int fd = open_in(g->path, "cgroup.procs", O_WRONLY), ret;
	char pid[16];

	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	*what = "this process cannot be moved";
	ret = fd < 0 ? fd : put(fd, pid);
	if (fd >= 0)
		close(fd);
	if (!ret && !g->v1 && !file_lists(g->parent, "cgroup.subtree_control", "cpu")) {
		*what = "its cpu controller cannot be turned on";
		ret = put(g->subtree, "+cpu");
		g->enabled = !ret;
	}
	if (ret)
		return ret;
	*what = "its settings cannot be opened";
	g->weight = open_in(g->path, g->v1 ? "cpu.shares" : "cpu.weight", O_WRONLY);
	g->quota = open_in(g->path, g->v1 ? "cpu.cfs_quota_us" : "cpu.max", O_WRONLY);
	return g->weight < 0 ? g->weight : g->quota < 0 ? g->quota : 0;
}

static int make(struct cgroup *g, struct err *e)
{
	const char *what = "no group can be made below it";
	int ret;

	if (!g->v1 && !file_lists(g->parent, "cgroup.controllers", "cpu"))
		return err_set(e, -ENOTSUP, "the control group %s has no cpu controller; " CURE, g->parent);
	remove_left(g->parent);
	ret = open_all(g);
	if (!ret && mkdir(g->path, 0755))
		ret = -errno;
	else if (!ret && (ret = enter(g, &what)))
		go_back(g);
	if (!ret)
		return 0;
	return err_set(e, ret, "the control group %s: %s: %s; " CURE, g->parent, what,
		       ret == -EBUSY ? "there are other processes in it" : strerror(-ret));
}

int cgroup_new(const char *root, struct cgroup **out, struct err *e)
{
	struct cgroup *g = calloc(1, sizeof(*g));
	char path[PATH_MAX];
	int ret;

	*out = NULL;
	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->weight = g->quota = g->back = g->subtree = g->folder = -1;
	root = root ? root : "";
	if (!find_own(root, &g->v1, path) || !find_folder(root, g->v1, path, g->parent))
		ret = err_set(e, -ENOTSUP, "this host has no control groups for CPUs that can be seen from here");
	else if (snprintf(g->path, sizeof(g->path), "%s/lodge.%ld", g->parent, (long)getpid()) >= PATH_MAX)
		ret = err_set(e, -ENAMETOOLONG, "the control group's name is too long");
	else
		ret = make(g, e);
	if (!ret) {
		*out = g;
		return 0;
	}
	g->path[0] = '\0';		/* it is not there */
	cgroup_free(g);
	return ret;
}

void cgroup_free(struct cgroup *g)
{
	if (!g)
		return;
	if (g->path[0])
		go_back(g);
	for (unsigned i = 0; i < 5; i++) {
		int fd = ((const int[]){ g->weight, g->quota, g->back, g->subtree, g->folder })[i];

		if (fd >= 0)
			close(fd);
	}
	free(g);
}

const char *cgroup_path(const struct cgroup *g) { return g->path; }

/* v1's shares are 1024 where v2's weight is 100, and go from 2 to 262144. */
int cgroup_set_weight(struct cgroup *g, unsigned weight, struct err *e)
{
	char text[16];
	int ret;

	snprintf(text, sizeof(text), "%u", g->v1 ? MAX(weight * 1024 / 100, 2u) : weight);
	ret = put(g->weight, text);
	return ret ? err_set(e, ret, "the weight in %s cannot be set: %s", g->path, strerror(-ret)) : 0;
}

int cgroup_set_quota(struct cgroup *g, unsigned percent, struct err *e)
{
	unsigned long long us = (unsigned long long)percent * PERIOD_US / 100;
	char text[48];
	int ret;

	if (g->v1)
		snprintf(text, sizeof(text), "%lld", percent ? (long long)us : -1);
	else if (percent)
		snprintf(text, sizeof(text), "%llu %u", us, PERIOD_US);
	else
		snprintf(text, sizeof(text), "max %u", PERIOD_US);
	ret = put(g->quota, text);
	return ret ? err_set(e, ret, "the quota in %s cannot be set: %s", g->path, strerror(-ret)) : 0;
}
