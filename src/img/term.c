// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the person at the terminal sees and types: progress, Ctrl-C, JSON.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "img/img.h"

#define BAR 40
#define PROGRESS_NS 100000000ll

/* The one thing that a signal handler can reach. */
static volatile sig_atomic_t signalled;

static void on_signal(int sig)
{
	signalled = sig;
}

void img_hold_signals(void)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP };
	/* Once: the second one does what it does by default. */
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART }, old;

	for (unsigned i = 0; i < ARRAY_LEN(sigs); i++)
		/* nohup(1) */
		if (!sigaction(sigs[i], NULL, &old) && old.sa_handler == SIG_DFL)
			sigaction(sigs[i], &sa, NULL);
}

int img_interrupted(struct img *m)
{
	if (!signalled)
		return 0;
	return err_set(&m->e, -EINTR, "stopped by signal %d (%s); the image is consistent, what was asked for is not complete",
		       (int)signalled, strsignal((int)signalled));
}

void img_progress(struct img *m, uint64_t done, uint64_t total)
{
	double part = total ? (double)done / (double)total : 1;
	int64_t now;
	unsigned fill = (unsigned)(part * BAR);

	if (!m->progress)
		return;
	now = loop_now_ns();
	if (m->progress_shown && now - m->progress_ns < PROGRESS_NS && done < total)
		return;
	m->progress_ns = now;
	m->progress_shown = true;
	printf("    (%3.2f/100%%)", part * 100);
	if (isatty(STDOUT_FILENO))
		printf(" [%.*s%*s]", (int)fill, "########################################", (int)(BAR - fill), "");
	putchar('\r');
	fflush(stdout);
}

void img_progress_end(struct img *m, bool complete)
{
	if (!m->progress)
		return;
	if (complete)
		img_progress(m, 1, 1);
	if (m->progress_shown)
		putchar('\n');
	m->progress_shown = false;
}

int img_json_print(struct img *m, json_t *j)
{
	int ret = j ? json_dumpf(j, stdout, JSON_INDENT(4)) : 0;

	if (!j)
		return err_set(&m->e, -ENOMEM, "out of memory");
	putchar('\n');
	json_decref(j);
	return ret ? err_set(&m->e, -EIO, "the output cannot be written") : 0;
}

int img_flush_output(struct img *m)
{
	if (fflush(stdout) || ferror(stdout))
		return err_set(&m->e, -EIO, "the output cannot be written: %s", strerror(errno));
	return 0;
}
