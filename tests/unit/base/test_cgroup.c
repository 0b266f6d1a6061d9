// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promise: a process is put into a control group of its own if that may be done, with what was asked for set there, and leaves
 * nothing behind; else it stays where it was, and a message says why and what helps.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/cgroup.h"

static char root[] = "/tmp/lodge-cgroup-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	for (const char *p = name; (p = strchr(p, '/')); p++) {
		snprintf(path, sizeof(path), "%s/%.*s", root, (int)(p - name), name);
		mkdir(path, 0755);
	}
	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static bool there(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return !access(path, F_OK);
}

/* What it says, and that it has left nothing. */
static void refused(const char *text)
{
	struct cgroup *g = NULL;
	struct err e = { "" };
	char left[64];

	assert_true(cgroup_new(root, &g, &e) < 0);
	assert_null(g);
	if (!strstr(e.msg, text))
		fail_msg("it says '%s', not '%s'", e.msg, text);
	snprintf(left, sizeof(left), "cg/a/b/lodge.%ld", (long)getpid());
	assert_false(there(left));
}

/* Hosts made of files: what is looked for is found, or is not. */
static void found_or_not(void **state)
{
	char cmd[64];

	assert_non_null(mkdtemp(root));
	refused("no control groups");
	put("proc/self/cgroup", "0::/a/b\n");
	refused("no control groups");
	put("proc/self/mountinfo", "1 0 0:1 / /other rw - tmpfs none rw\n2 1 0:2 / /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
	refused("has no cpu controller; start it in one that is its own");
	put("cg/a/b/cgroup.controllers", "cpuset cpu_not memory\n");
	refused("/cg/a/b has no cpu controller");
	put("cg/a/b/cgroup.controllers", "cpuset cpu memory\n");
	refused("no group can be made below it");
	put("cg/a/b/cgroup.procs", "");
	put("cg/a/b/cgroup.subtree_control", "");
	/* A folder without the kernel's files in it. */
	refused("this process cannot be moved");
	/* v1's controller is the one there is, wherever v2 is, too; a container sees a part of the tree. */
	put("proc/self/cgroup", "4:memory:/x\n3:cpuacct,cpu:/slice/a/b\n0::/a/b\n");
	put("proc/self/mountinfo", "2 1 0:2 / /cg2 rw - cgroup2 cgroup2 rw\n3 1 0:3 /slice /cg rw - cgroup cgroup rw,cpuacct,cpu\n");
	refused("/cg/a/b: this process cannot be moved");
	put("proc/self/mountinfo", "3 1 0:3 /slices /cg rw - cgroup cgroup rw,cpuacct,cpu\n");
	refused("no control groups");
	put("proc/self/mountinfo", "nonsense - \n3 - cgroup\n - cgroup2\n");
	refused("no control groups");
	snprintf(cmd, sizeof(cmd), "rm -rf %s", root);
	assert_int_equal(system(cmd), 0);
}

static void has(const char *folder, const char *name, const char *want)
{
	char path[4200], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r");
	if (!f)		/* the other version's */
		return;
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	text[strcspn(text, "\n")] = '\0';
	assert_string_equal(text, want);
}

/* This host's kernel, as far as it lets us. */
static void really(void **state)
{
	struct cgroup *g;
	struct err e = { "" };
	char path[4096];

	if (cgroup_new(NULL, &g, &e)) {
		print_message("SKIP: %s\n", e.msg);
		skip();
	}
	snprintf(path, sizeof(path), "%s", cgroup_path(g));
	assert_int_equal(cgroup_set_weight(g, 50, &e), 0);
	has(path, "cpu.shares", "512");
	has(path, "cpu.weight", "50");
	assert_int_equal(cgroup_set_weight(g, 1, &e), 0);
	assert_int_equal(cgroup_set_weight(g, CGROUP_WEIGHT_MAX, &e), 0);
	has(path, "cpu.shares", "102400");
	has(path, "cpu.weight", "10000");
	assert_int_equal(cgroup_set_quota(g, 250, &e), 0);
	has(path, "cpu.cfs_quota_us", "250000");
	has(path, "cpu.max", "250000 100000");
	assert_int_equal(cgroup_set_quota(g, 1, &e), 0);
	assert_int_equal(cgroup_set_quota(g, 0, &e), 0);
	has(path, "cpu.cfs_quota_us", "-1");
	has(path, "cpu.max", "max 100000");
	assert_int_equal(access(path, F_OK), 0);
	cgroup_free(g);
	assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(found_or_not), cmocka_unit_test(really) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
