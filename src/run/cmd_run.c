// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge run`: fills the configuration tree from the options, checks it, and
 * becomes lodge-vmm (exec), which gets the tree through an inherited memfd.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"
#include "control/place.h"
#include "run/opts.h"
#include "vm/config.h"

#ifndef LODGE_VMM_PATH
#define LODGE_VMM_PATH "/usr/local/libexec/lodge-vmm"
#endif

int find_vmm(char *path, size_t len, struct err *e)
{
	const char *env = getenv("LODGE_VMM");
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (env && *env) {
		snprintf(path, len, "%s", env);
		return access(path, X_OK) ? err_set(e, -errno, "LODGE_VMM=%s: %s", env, strerror(errno)) : 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		snprintf(path, len, "%.*s/lodge-vmm", (int)(slash - self), self);
		if (!access(path, X_OK))
			return 0;
	}
	snprintf(path, len, "%s", LODGE_VMM_PATH);
	if (!access(path, X_OK))
		return 0;
	return err_set(e, -ENOENT, "the program lodge-vmm is neither next to lodge nor at %s; set LODGE_VMM to its place",
		       LODGE_VMM_PATH);
}

/* The tree as a memfd positioned at its start, kept across exec. */
static int conf_to_fd(const struct conf *c, struct err *e)
{
	int fd = memfd_create("lodge-config", 0), dupfd;
	FILE *f;
	int ret;

	if (fd < 0)
		return err_set(e, -errno, "memfd_create: %s", strerror(errno));
	dupfd = dup(fd);
	f = dupfd < 0 ? NULL : fdopen(dupfd, "w");
	ret = f ? conf_dump(c, f) : -errno;
	if (f)
		fclose(f);
	if (ret || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return err_set(e, ret ? ret : -EIO, "the configuration cannot be handed over");
	}
	return fd;
}

static int become_vmm(const struct conf *c, struct err *e)
{
	char path[PATH_MAX], fd_text[16];
	int fd, ret;

	ret = find_vmm(path, sizeof(path), e);
	if (ret)
		return ret;
	fd = conf_to_fd(c, e);
	if (fd < 0)
		return fd;
	snprintf(fd_text, sizeof(fd_text), "%d", fd);
	execl(path, "lodge-vmm", "--config-fd", fd_text, (char *)NULL);
	ret = -errno;
	close(fd);
	return err_set(e, ret, "%s: %s", path, strerror(-ret));
}

static int set_start(struct conf *c, struct err *e)
{
	struct timespec ts;
	char text[32];

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "%lld", (long long)ts.tv_sec * 1000000000 + ts.tv_nsec);
	return conf_set(c, "start-ns", text, e);
}

/* --guest-agent on: beside the control sockets' folders. */
static int place_agent(struct conf *c, struct err *e)
{
	const char *where = conf_get(c, "guest-agent"), *name = conf_get(c, "name");
	char root[128], path[256];
	int ret;

	if (!where || strcmp(where, "on"))
		return 0;
	name = name ? name : "guest";
	if (strchr(name, '/') || *name == '.')
		return err_set(e, -EINVAL, "--guest-agent: '%.60s' cannot be a file's name; give the socket's path", name);
	ret = ctl_place_root(root, sizeof(root), true, e);
	if (ret)
		return err_prefix(e, ret, "--guest-agent");
	snprintf(path, sizeof(path), "%s/%.64s.agent", root, name);
	return conf_set(c, "guest-agent", path, e);
}

/* Without --net there is one user network. */
static int set_defaults(struct conf *c, struct opt_state *st, struct err *e)
{
	int ret = st->n_nets ? 0 : conf_set(c, "net.0.kind", "user", e);

	return ret ? ret : place_agent(c, e);
}

static int prepare(const struct verb *v, int argc, char **argv, struct conf *c, struct opt_state *st, struct err *e)
{
	struct vm_config *cfg;
	int ret;

	ret = opts_parse(v, argc, argv, c, st, e);
	if (ret || st->help)
		return ret;
	ret = set_defaults(c, st, e);
	if (ret)
		return ret;
	cfg = malloc(sizeof(*cfg));
	if (!cfg)
		return err_set(e, -ENOMEM, "out of memory");
	ret = vm_config_from(c, cfg, e);
	if (!ret)
		ret = control_check(cfg, e);
	free(cfg);
	return ret;
}

int run_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct err e = { 0 };
	struct conf *c;
	bool exec;
	int ret;

	if (conf_new(&c)) {
		fprintf(stderr, "lodge: out of memory\n");
		return 1;
	}
	ret = prepare(v, argc, argv, c, &st, &e);
	exec = conf_get(c, "exec");
	if (!ret && st.help)
		opts_help(v, stdout);
	else if (!ret && st.dry_run)
		ret = conf_dump(c, stdout);
	else if (!ret && !(ret = set_start(c, &e)))
		ret = become_vmm(c, &e);
	conf_free(c);
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg[0] ? e.msg : strerror(-ret));
	return ret ? (exec ? 125 : 1) : 0;
}
