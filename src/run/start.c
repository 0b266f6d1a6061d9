// SPDX-License-Identifier: GPL-2.0-or-later
/* Checks a configuration and starts lodge-vmm with it, in the foreground or as a daemon. */
#include "run/start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

/* The child: a session of its own, and a pipe on which lodge-vmm says that it is ready. */
static int become_daemon(struct conf *c, int ready, struct err *e)
{
	char text[16];
	int ret;

	setsid();
	snprintf(text, sizeof(text), "%d", ready);
	ret = conf_set(c, "ready-fd", text, e);
	return ret ? ret : become_vmm(c, e);
}

/* A byte means ready; an end without one that the child has failed, and said why. */
static int wait_ready(int fd, pid_t child, struct err *e)
{
	char byte;
	ssize_t n;
	int status;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, -errno, "waitpid: %s", strerror(errno));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int start_daemon(struct conf *c, struct err *e)
{
	int pipefd[2], ret;
	pid_t child;

	if (pipe(pipefd))
		return err_set(e, -errno, "pipe: %s", strerror(errno));
	child = fork();
	if (!child) {
		close(pipefd[0]);
		ret = become_daemon(c, pipefd[1], e);
		close(pipefd[1]);
		return ret;
	}
	close(pipefd[1]);
	ret = child < 0 ? err_set(e, -errno, "fork: %s", strerror(errno)) : wait_ready(pipefd[0], child, e);
	close(pipefd[0]);
	return ret;
}

int start_place_vsock(struct conf *c, struct err *e)
{
	const char *cid = conf_get(c, "vsock.cid"), *path = conf_get(c, "vsock.path"), *name = conf_get(c, "name");
	const char *like = conf_get(c, "defaults");
	char root[128], whole[256];
	int ret = 0;

	if (!cid && !path)
		return 0;
	if (!cid)
		ret = conf_set(c, "vsock.cid", cid = "3", e);
	if (ret || (path && *path))
		return ret;
	name = name ? name : "guest";
	if (strchr(name, '/') || *name == '.')
		return err_set(e, -EINVAL, "--vsock: '%.60s' cannot be a file's name; give the socket's path=", name);
	ret = ctl_place_root(root, sizeof(root), true, e);
	if (ret)
		return err_prefix(e, ret, "--vsock");
	if (like && !strcmp(like, "qemu"))
		snprintf(whole, sizeof(whole), "%s/vsock-%.10s", root, cid);
	else
		snprintf(whole, sizeof(whole), "%s/%.64s.vsock", root, name);
	return conf_set(c, "vsock.path", whole, e);
}

int start_check(const struct conf *c, struct err *e)
{
	struct vm_config *cfg = malloc(sizeof(*cfg));
	int ret;

	if (!cfg)
		return err_set(e, -ENOMEM, "out of memory");
	ret = vm_config_from(c, cfg, e);
	if (!ret)
		ret = control_check(cfg, e);
	free(cfg);
	return ret;
}

int start_vmm(struct conf *c, struct err *e)
{
	const char *daemonize = conf_get(c, "daemonize");
	int ret = set_start(c, e);

	if (ret)
		return ret;
	return daemonize && !strcmp(daemonize, "on") ? start_daemon(c, e) : become_vmm(c, e);
}
