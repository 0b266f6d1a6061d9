/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other people's programs as peers of a test: started, waited for, killed. */
#ifndef LODGE_TESTS_BLOCK_PEER_H
#define LODGE_TESTS_BLOCK_PEER_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "block_test.h"

static inline bool peer_exists(const char *program)
{
	const char *path = getenv("PATH");
	char *copy = strdup(path ? path : "/usr/bin"), *save = NULL, file[512];
	bool found = false;

	for (char *dir = strtok_r(copy, ":", &save); dir && !found; dir = strtok_r(NULL, ":", &save)) {
		snprintf(file, sizeof(file), "%s/%s", dir, program);
		found = access(file, X_OK) == 0;
	}
	free(copy);
	return found;
}

/* Skips the test, saying why, if the program is not here. */
#define need_peer(program) \
	do { \
		if (!peer_exists(program)) { \
			print_message("skipped: there is no %s here\n", program); \
			skip(); \
		} \
	} while (0)

/* argv ends with NULL. The peer ends with us. */
static inline pid_t peer_start(const char *const argv[])
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* It does not change them; its type is older than const. */
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

/* Does somebody listen on the socket?  Its file is there a moment before.  Asked of the kernel, as a connection would be one to the peer. */
static inline bool peer_listens(const char *path)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512], flags[16];
	bool found = false;

	assert_non_null(f);
	/* Num RefCount Protocol Flags Type St Inode Path; flag 0x10000: it listens */
	while (!found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		found = strlen(line) > strlen(path) && !strcmp(line + strlen(line) - strlen(path), path) &&
			sscanf(line, "%*s %*s %*s %15s", flags) == 1 && !strcmp(flags, "00010000");
	}
	fclose(f);
	return found;
}

static inline void peer_wait_for_socket(const char *path)
{
	for (unsigned i = 0; !peer_listens(path) && i < 1000; i++)
		usleep(10000);
	assert_true(peer_listens(path));
}

static inline void peer_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Runs it to its end, turning the loop meanwhile if there is one: its exit status. */
static inline int peer_run(struct loop *l, const char *const argv[])
{
	pid_t pid = peer_start(argv);
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (l)
			loop_turn(l, 10);
		else
			usleep(5000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

#endif
