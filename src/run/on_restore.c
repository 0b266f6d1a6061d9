// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See on_restore.h.
 *
 * The agent may have half of somebody's message from before the guest was saved: a byte 0xff ends that, and its answer to guest-sync-delimited, which
 * another 0xff precedes, is the first that is for us.  What it says is foreign: lines are bounded, and text is printed plain.
 */
#include "run/on_restore.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/unix_socket.h"

#define LIMIT_S 120
#define STEP_MS 1000u
#define LINE_MAX_LEN (256u << 10)
#define SYNC_ID 19780423

struct agent {
	int fd;
	time_t end;		/* CLOCK_MONOTONIC */
	size_t len;
	char line[LINE_MAX_LEN];
};

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static int late(struct err *e)
{
	return err_set(e, -ETIMEDOUT, "the guest's agent (qemu-guest-agent) does not answer within %u s", LIMIT_S);
}

static void short_rest(void) { nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL); }

static int reach(struct agent *a, const char *socket, long vmm, struct err *e)
{
	while (unix_socket_connect(socket, STEP_MS, &a->fd, e)) {
		if (vmm && kill((pid_t)vmm, 0) && errno == ESRCH)
			return -EPIPE;		/* it has said why it ended */
		if (!vmm || now() >= a->end)
			return err_prefix(e, -ENOENT, "the guest's agent");
		short_rest();
	}
	return 0;
}

static int say(struct agent *a, const char *text, size_t len, struct err *e)
{
	return send(a->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : err_set(e, -EPIPE, "the guest's agent cannot be told the command");
}

/* The next line that is JSON, without what an 0xff ends. */
static int hear(struct agent *a, json_t **out, struct err *e)
{
	for (;;) {
		char *end = memchr(a->line, '\n', a->len), *from = a->line, *cut;
		ssize_t n;

		if (end) {
			while ((cut = memchr(from, 0xff, (size_t)(end - from))))
				from = cut + 1;
			*out = json_loadb(from, (size_t)(end - from), 0, NULL);
			a->len -= (size_t)(end + 1 - a->line);
			memmove(a->line, end + 1, a->len);
			if (*out)
				return 0;
			continue;
		}
		if (a->len == sizeof(a->line))
			return err_set(e, -EPROTO, "the guest's agent says too much");
		if (now() >= a->end)
			return late(e);
		n = recv(a->fd, a->line + a->len, sizeof(a->line) - a->len, 0);
		if (!n)
			return err_set(e, -EPIPE, "the guest has ended before the command had");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_set(e, -errno, "the guest's agent: %s", strerror(errno));
		a->len += n > 0 ? (size_t)n : 0;
	}
}

static int synchronize(struct agent *a, struct err *e)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", SYNC_ID), ret = say(a, text, (size_t)n, e);
	bool there = false;
	json_t *j;

	while (!ret && !there) {
		ret = hear(a, &j, e);
		if (ret)
			break;
		there = json_integer_value(json_object_get(j, "return")) == SYNC_ID;
		json_decref(j);
	}
	return ret;
}

/* What it returned; taken over from the caller: the request. */
static int call(struct agent *a, json_t *request, json_t **out, struct err *e)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL, *line = NULL;
	int ret = text && asprintf(&line, "%s\n", text) > 0 ? 0 : err_set(e, -ENOMEM, "out of memory, or the command is no text");
	const char *why;
	json_t *j = NULL;

	ret = ret ? ret : say(a, line, strlen(line), e);
	ret = ret ? ret : hear(a, &j, e);
	*out = ret ? NULL : json_incref(json_object_get(j, "return"));
	if (!ret && !*out) {
		why = json_string_value(json_object_get(json_object_get(j, "error"), "desc"));
		ret = err_set(e, -EREMOTEIO, "the guest's agent refuses: %s", why ? why : "it does not say why");
	}
	json_decref(j);
	json_decref(request);
	free(text);
	free(line);
	return ret;
}

static int run(struct agent *a, const char *command, struct err *e)
{
	json_t *j;
	json_int_t pid, status;
	int ret = call(a, json_pack("{s:s,s:{s:s,s:[s,s]}}", "execute", "guest-exec", "arguments", "path", "/bin/sh", "arg", "-c", command), &j, e);

	if (ret)
		return ret;
	pid = json_integer_value(json_object_get(j, "pid"));
	json_decref(j);
	for (;;) {
		bool over;

		ret = call(a, json_pack("{s:s,s:{s:I}}", "execute", "guest-exec-status", "arguments", "pid", pid), &j, e);
		if (ret)
			return ret;
		over = json_is_true(json_object_get(j, "exited"));
		status = json_object_get(j, "exitcode") ? json_integer_value(json_object_get(j, "exitcode")) : 128 + json_integer_value(json_object_get(j, "signal"));
		json_decref(j);
		if (over)
			return status ? err_set(e, -EREMOTEIO, "the command ended with status %lld in the guest", (long long)status) : 0;
		if (now() >= a->end)
			return err_set(e, -ETIMEDOUT, "the command has not ended within %u s", LIMIT_S);
		short_rest();
	}
}

int on_restore(const char *socket, const char *command, long vmm, struct err *e)
{
	struct agent *a = calloc(1, sizeof(*a));
	int ret = a ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (ret)
		return ret;
	a->fd = -1;
	a->end = now() + LIMIT_S;
	ret = reach(a, socket, vmm, e);
	ret = ret ? ret : synchronize(a, e);
	ret = ret ? ret : run(a, command, e);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
	return ret ? err_prefix(e, ret, "--on-restore") : 0;
}

int on_restore_later(const char *socket, const char *command, struct err *e)
{
	long vmm = (long)getpid();
	pid_t child = fork();
	struct err mine = { "" };

	if (child < 0)
		return err_set(e, -errno, "--on-restore: fork: %s", strerror(errno));
	/* A grandchild does it, for whose end the VMM need not wait. */
	if (child) {
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
		return 0;
	}
	if (fork())
		_exit(0);
	/* The terminal is the guest's. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	prctl(PR_SET_NAME, "lodge-hook");
	if (on_restore(socket, command, vmm, &mine) && mine.msg[0] && !kill((pid_t)vmm, 0)) {
		text_plain(mine.msg, "");
		fprintf(stderr, "lodge: %s\n", mine.msg);
	}
	_exit(0);
}
