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

static inline void peer_wait_for_file(const char *path)
{
	for (unsigned i = 0; access(path, F_OK) && i < 1000; i++)
		usleep(10000);
	assert_int_equal(access(path, F_OK), 0);
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
