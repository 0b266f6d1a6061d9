/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TPM that says what a test wants: the other end of a control socket, on a thread.
 * It knows the commands that tpm/wire.c sends.  A response is the command's header
 * with code 0 and a body of zeros, so long as `answer_len` says.
 */
#ifndef LODGE_TESTS_FAKE_TPM_H
#define LODGE_TESTS_FAKE_TPM_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"

enum fake_mood { FAKE_GOOD, FAKE_HUNG, FAKE_SHORT_SIZE, FAKE_HUGE_SIZE, FAKE_TALKS_ON, FAKE_CLOSES, FAKE_CONTROL_HUNG };

struct fake_tpm {
	pthread_t thread;
	int ctrl, data;
	_Atomic int mood;
	_Atomic unsigned answer_len;		/* bytes of a response */
	_Atomic unsigned inits, cancels, commands, locality, shutdowns;
	_Atomic bool waiting;			/* a command came, and is not answered */
	uint8_t blob[3][64];			/* "state" */
	uint32_t blob_len[3];
};

static inline void fake_put32(uint8_t *p, uint32_t v)
{
	st_le32(p, __builtin_bswap32(v));
}

static inline uint32_t fake_get32(const uint8_t *p)
{
	return __builtin_bswap32(ld_le32(p));
}

static inline bool fake_read(int fd, void *p, size_t len)
{
	return recv(fd, p, len, MSG_WAITALL) == (ssize_t)len;
}

static inline void fake_say(int fd, const void *p, size_t len)
{
	if (send(fd, p, len, MSG_NOSIGNAL) < 0)
		return;
}

static inline void fake_result(struct fake_tpm *f, uint32_t code)
{
	uint8_t b[4];

	fake_put32(b, code);
	fake_say(f->ctrl, b, 4);
}

static inline int fake_take_fd(struct fake_tpm *f, uint8_t cmd[4])
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = { .iov_base = cmd, .iov_len = 4 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c;

	if (recvmsg(f->ctrl, &h, MSG_CMSG_CLOEXEC) != 4)
		return -1;
	c = CMSG_FIRSTHDR(&h);
	if (c)
		memcpy(&f->data, CMSG_DATA(c), sizeof(int));
	return 0;
}

static inline void fake_get_blob(struct fake_tpm *f)
{
	uint8_t req[12], resp[16];
	uint32_t i;

	if (!fake_read(f->ctrl, req, 12))
		return;
	i = fake_get32(req + 4) - 1;
	fake_put32(resp, i > 2);
	fake_put32(resp + 4, 7);
	fake_put32(resp + 8, i > 2 ? 0 : f->blob_len[i]);
	fake_put32(resp + 12, i > 2 ? 0 : f->blob_len[i]);
	fake_say(f->ctrl, resp, 16);
	if (i <= 2)
		fake_say(f->ctrl, f->blob[i], f->blob_len[i]);
}

static inline void fake_set_blob(struct fake_tpm *f)
{
	uint8_t req[12];
	uint32_t i, len;

	if (!fake_read(f->ctrl, req, 12))
		return;
	i = fake_get32(req + 4) - 1;
	len = fake_get32(req + 8);
	if (i > 2 || len > sizeof(f->blob[0]) || !fake_read(f->ctrl, f->blob[i], len)) {
		fake_result(f, 1);
		return;
	}
	f->blob_len[i] = len;
	fake_result(f, fake_get32(req) != 7);
}

static inline bool fake_control(struct fake_tpm *f)
{
	uint8_t b[16] = { 0 };

	if (fake_take_fd(f, b))
		return false;
	if (f->mood == FAKE_CONTROL_HUNG)
		return true;
	switch (fake_get32(b)) {
	case 1: fake_put32(b, 0); fake_put32(b + 4, 0x7fff); fake_say(f->ctrl, b, 8); break;
	case 2: f->inits += fake_read(f->ctrl, b, 4); fake_result(f, 0); break;
	case 3: f->shutdowns++; fake_result(f, 0); break;
	case 4: memset(b, 0, 8); fake_say(f->ctrl, b, 8); break;
	case 5: f->locality = fake_read(f->ctrl, b, 4) ? b[0] : 0; fake_result(f, 0); break;
	case 9:
		f->cancels++;
		fake_result(f, 0);
		/* What was cancelled is answered: TPM_RC_CANCELED. */
		if (f->waiting && f->mood == FAKE_HUNG) {
			f->waiting = false;
			fake_say(f->data, "\x80\x01\0\0\0\x0a\0\0\x09\x09", 10);
		}
		break;
	case 11: fake_read(f->ctrl, b, 4); fake_result(f, 0); break;
	case 12: fake_get_blob(f); break;
	case 13: fake_set_blob(f); break;
	case 17: memset(b, 0, 16); fake_put32(b + 4, 4096); fake_read(f->ctrl, b + 8, 4); fake_say(f->ctrl, b, 16); break;
	default: fake_result(f, 0); break;
	}
	return true;
}

static inline bool fake_command(struct fake_tpm *f)
{
	uint8_t b[4096] = { 0 };
	unsigned len = f->answer_len;

	if (!fake_read(f->data, b, 10))
		return false;
	if (fake_get32(b + 2) > 10 && !fake_read(f->data, b + 10, MIN(fake_get32(b + 2), 4096u) - 10))
		return false;
	f->commands++;
	f->waiting = f->mood == FAKE_HUNG;
	if (f->waiting)
		return true;
	if (f->mood == FAKE_CLOSES)
		return false;
	memset(b + 10, 0, sizeof(b) - 10);
	fake_put32(b + 2, f->mood == FAKE_SHORT_SIZE ? 9 : f->mood == FAKE_HUGE_SIZE ? 0x80000000 : len);
	fake_put32(b + 6, 0);
	fake_say(f->data, b, len);
	if (f->mood == FAKE_TALKS_ON)
		fake_say(f->data, b, len);
	return true;
}

static inline void *fake_run(void *opaque)
{
	struct fake_tpm *f = opaque;

	for (;;) {
		struct pollfd p[2] = { { .fd = f->ctrl, .events = POLLIN }, { .fd = f->data, .events = POLLIN } };

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents && !fake_control(f))
			break;
		if (p[1].revents && !fake_command(f)) {
			close(f->data);
			f->data = -1;
		}
	}
	if (f->data >= 0)
		close(f->data);
	close(f->ctrl);
	return NULL;
}

/* The end for tpm_new; -1: none. */
static inline int fake_start(struct fake_tpm *f)
{
	int pair[2];

	*f = (struct fake_tpm){ .data = -1, .answer_len = 20 };
	for (int i = 0; i < 3; i++) {
		memset(f->blob[i], 'a' + i, sizeof(f->blob[i]));
		f->blob_len[i] = 10 * (uint32_t)i + 5;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	f->ctrl = pair[1];
	if (!pthread_create(&f->thread, NULL, fake_run, f))
		return pair[0];
	close(pair[0]);
	close(pair[1]);
	return -1;
}

/* After tpm_free. */
static inline void fake_end(struct fake_tpm *f)
{
	pthread_join(f->thread, NULL);
}

#endif
