// SPDX-License-Identifier: GPL-2.0-or-later
/* Where a TPM comes from: a socket somebody serves, or a swtpm of our own. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "tpm/impl.h"

#define CHILD_FD 3
#define CONNECT_MS 10000
#define END_MS 2000

extern char **environ;

int tpm_new(struct loop *l, int ctrl, const char *name, struct tpm **out, struct err *e)
{
	return tpm_new_child(l, ctrl, name, 0, out, e);
}

int tpm_connect(struct loop *l, const char *path, struct tpm **out, struct err *e)
{
	int fd, ret = unix_socket_connect(path, CONNECT_MS, &fd, e);

	return ret ? ret : tpm_new(l, fd, path, out, e);
}

/* The user's own, and nobody else may look into it: it has the guest's keys. */
static int make_folder(const char *folder, struct err *e)
{
	struct stat st;

	if (mkdir(folder, 0700) && errno != EEXIST)
		return err_set(e, -errno, "%s: %s", folder, strerror(errno));
	if (stat(folder, &st))
		return err_set(e, -errno, "%s: %s", folder, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, -ENOTDIR, "%s is not a folder", folder);
	if (st.st_uid != geteuid() || st.st_mode & 077)
		return err_set(e, -EPERM, "%s: a TPM's state needs a folder that is its user's alone (chmod 700)", folder);
	return 0;
}

static int spawn(const char *folder, int fd, pid_t *pid)
{
	char *state;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, pipe;
	int ret;

	if (asprintf(&state, "dir=%s,mode=0600", folder) < 0)
		return -ENOMEM;
	const char *const args[] = { "swtpm", "socket", "--tpm2", "--tpmstate", state, "--ctrl", "type=unixio,clientfd=3", "--terminate", NULL };

	sigemptyset(&none);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	/* dup2 onto itself clears close-on-exec. */
	posix_spawn_file_actions_adddup2(&actions, fd, CHILD_FD);
	posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_FD + 1);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	/* A group of its own: what is typed to end the guest is not for it. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe);
	posix_spawnattr_setpgroup(&attr, 0);
	ret = -posix_spawnp(pid, args[0], &actions, &attr, (char *const *)args, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	free(state);
	return ret;
}

void tpm_child_end(pid_t pid)
{
	const struct timespec step = { .tv_nsec = 10000000 };

	for (int ms = 0; pid && ms < END_MS; ms += 10) {
		if (waitpid(pid, NULL, WNOHANG))
			return;
		nanosleep(&step, NULL);
	}
	if (!pid)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int tpm_start(struct loop *l, const char *folder, struct tpm **out, struct err *e)
{
	int pair[2], ret = make_folder(folder, e);
	pid_t pid = 0;

	if (!ret && strchr(folder, ','))
		ret = err_set(e, -EINVAL, "%s: a comma in the folder's name is not possible, swtpm would split it there", folder);
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_set(e, -errno, "socketpair: %s", strerror(errno));
	ret = spawn(folder, pair[1], &pid);
	close(pair[1]);
	if (ret) {
		close(pair[0]);
		if (ret == -ENOENT)
			return err_set(e, ret, "the program swtpm, which is the TPM, is not installed (Debian: package swtpm)");
		return err_set(e, ret, "swtpm cannot be started: %s", strerror(-ret));
	}
	ret = tpm_new_child(l, pair[0], folder, pid, out, e);
	return ret ? err_prefix(e, ret, "swtpm for %s", folder) : 0;
}
