// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * swtpm's control channel: a number, its arguments, an answer; and the bytes of
 * the data channel.  What is read is bounded here.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "tpm/impl.h"

enum {
	CMD_GET_CAPABILITY = 1, CMD_INIT = 2, CMD_SHUTDOWN = 3, CMD_GET_TPMESTABLISHED = 4, CMD_SET_LOCALITY = 5,
	CMD_CANCEL_TPM_CMD = 9, CMD_RESET_TPMESTABLISHED = 11, CMD_GET_STATEBLOB = 12, CMD_SET_STATEBLOB = 13,
	CMD_STOP = 14, CMD_SET_DATAFD = 16, CMD_SET_BUFFERSIZE = 17,
};

/* Bits of the answer to CMD_GET_CAPABILITY. */
enum {
	CAP_INIT = BIT(0), CAP_SHUTDOWN = BIT(1), CAP_GET_ESTABLISHED = BIT(2), CAP_SET_LOCALITY = BIT(3), CAP_CANCEL = BIT(5),
	CAP_RESET_ESTABLISHED = BIT(7), CAP_GET_STATE = BIT(8), CAP_SET_STATE = BIT(9), CAP_STOP = BIT(10), CAP_SET_DATAFD = BIT(12),
	CAP_SET_BUFFERSIZE = BIT(13),
};
#define CAPS_NEEDED (CAP_INIT | CAP_SHUTDOWN | CAP_STOP | CAP_SET_DATAFD | CAP_SET_BUFFERSIZE | CAP_SET_LOCALITY)

#define PATIENCE_NS 10000000000ll
#define REQ_MAX 16

static void put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}

static uint32_t get32(const uint8_t *p)
{
	return __builtin_bswap32(ld_le32(p));
}

/* Until fd is ready for it.  -EINTR: wake is. */
static int wait_for(struct tpm_wire *w, int fd, short events, int wake, int64_t deadline)
{
	struct pollfd p[3] = { { .fd = fd, .events = events }, { .fd = w->quit, .events = POLLIN }, { .fd = wake, .events = POLLIN } };

	for (;;) {
		int64_t left = deadline - loop_now_ns();
		int n;

		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(p, 3, (int)(left / 1000000 + 1));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		if (p[1].revents)
			return -ECANCELED;
		if (p[0].revents)
			return 0;
		if (p[2].revents)
			return -EINTR;
	}
}

static int send_all(struct tpm_wire *w, int fd, const uint8_t *p, size_t len, int64_t deadline)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		int ret;

		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		ret = wait_for(w, fd, POLLOUT, -1, deadline);
		if (ret)
			return ret;
	}
	return 0;
}

/* Until *got bytes are len; what has come stays on -EINTR. */
static int receive(struct tpm_wire *w, int fd, uint8_t *p, size_t len, size_t *got, int wake, int64_t deadline)
{
	while (*got < len) {
		int ret = wait_for(w, fd, POLLIN, wake, deadline);
		ssize_t n;

		if (ret)
			return ret;
		n = recv(fd, p + *got, len - *got, MSG_DONTWAIT);
		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			*got += (size_t)n;
	}
	return 0;
}

static int read_answer(struct tpm_wire *w, uint8_t *p, size_t len, int64_t deadline)
{
	size_t got = 0;

	return receive(w, w->ctrl, p, len, &got, -1, deadline);
}

/* The answer's first word is the TPM's result, 0 for success. */
static int command(struct tpm_wire *w, uint32_t cmd, const void *req, size_t req_len, uint8_t *resp, size_t resp_len, int64_t deadline)
{
	uint8_t msg[4 + REQ_MAX];
	int ret;

	put32(msg, cmd);
	memcpy(msg + 4, req, req_len);
	ret = send_all(w, w->ctrl, msg, 4 + req_len, deadline);
	if (!ret)
		ret = read_answer(w, resp, resp_len, deadline);
	return ret;
}

static int simple_until(struct tpm_wire *w, uint32_t cmd, const void *req, size_t req_len, int64_t deadline)
{
	uint8_t resp[4];
	int ret = command(w, cmd, req, req_len, resp, sizeof(resp), deadline);

	return ret ? ret : get32(resp) ? -EIO : 0;
}

static int simple(struct tpm_wire *w, uint32_t cmd, const void *req, size_t req_len)
{
	return simple_until(w, cmd, req, req_len, loop_now_ns() + PATIENCE_NS);
}

/* ---- the data channel ---- */

static int send_with_fd(struct tpm_wire *w, uint32_t cmd, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .buf = { 0 } };
	uint8_t msg[4];
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(msg) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	put32(msg, cmd);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(w->ctrl, &h, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(msg) ? 0 : errno ? -errno : -EIO;
}

static int open_data(struct tpm_wire *w)
{
	uint8_t resp[4];
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = send_with_fd(w, CMD_SET_DATAFD, pair[1]);
	close(pair[1]);
	if (!ret)
		ret = read_answer(w, resp, sizeof(resp), loop_now_ns() + PATIENCE_NS);
	if (!ret && get32(resp))
		ret = -EIO;
	if (ret)
		close(pair[0]);
	else
		w->data = pair[0];
	return ret;
}

static int set_buffer_size(struct tpm_wire *w)
{
	uint8_t req[4], resp[16];
	int ret;

	put32(req, TPM_BUFFER);
	ret = command(w, CMD_SET_BUFFERSIZE, req, sizeof(req), resp, sizeof(resp), loop_now_ns() + PATIENCE_NS);
	if (ret)
		return ret;
	return get32(resp) ? -EIO : get32(resp + 4) > TPM_BUFFER ? -EPROTO : 0;
}

int tpm_wire_open(struct tpm_wire *w)
{
	uint8_t caps[8];
	int ret = command(w, CMD_GET_CAPABILITY, "", 0, caps, sizeof(caps), loop_now_ns() + PATIENCE_NS);

	if (ret)
		return ret;
	w->caps = (uint64_t)get32(caps) << 32 | get32(caps + 4);
	if ((w->caps & CAPS_NEEDED) != CAPS_NEEDED)
		return -ENOTSUP;
	ret = open_data(w);
	/* Its buffer cannot be changed while it is on. */
	if (!ret)
		ret = tpm_wire_stop(w);
	return ret ? ret : set_buffer_size(w);
}

int tpm_wire_send(struct tpm_wire *w, const uint8_t *cmd, size_t len)
{
	struct pollfd p = { .fd = w->data, .events = POLLIN };

	/* Something nobody asked for would be taken for the answer. */
	if (poll(&p, 1, 0) > 0)
		return -EPROTO;
	return send_all(w, w->data, cmd, len, loop_now_ns() + PATIENCE_NS);
}

int tpm_wire_receive(struct tpm_wire *w, uint8_t *out, size_t *got, int wake, int64_t deadline)
{
	uint32_t len;
	int ret = 0;

	if (*got < TPM_HEADER)
		ret = receive(w, w->data, out, TPM_HEADER, got, wake, deadline);
	if (ret)
		return ret;
	len = get32(out + 2);
	if (len < TPM_HEADER || len > TPM_BUFFER)
		return -EPROTO;
	return receive(w, w->data, out, len, got, wake, deadline);
}

/* ---- control ---- */

int tpm_wire_stop(struct tpm_wire *w)
{
	return simple(w, CMD_STOP, "", 0);
}

int tpm_wire_shutdown(struct tpm_wire *w, int64_t deadline)
{
	return simple_until(w, CMD_SHUTDOWN, "", 0, deadline);
}

int tpm_wire_init(struct tpm_wire *w, uint32_t flags)
{
	uint8_t req[4];
	int ret = tpm_wire_stop(w);

	put32(req, flags);
	return ret ? ret : simple(w, CMD_INIT, req, sizeof(req));
}

int tpm_wire_locality(struct tpm_wire *w, uint8_t locality)
{
	return simple(w, CMD_SET_LOCALITY, (const uint8_t[4]){ locality }, 4);
}

int tpm_wire_established(struct tpm_wire *w, bool *out)
{
	uint8_t resp[8];
	int ret;

	*out = false;
	if (!(w->caps & CAP_GET_ESTABLISHED))
		return 0;
	ret = command(w, CMD_GET_TPMESTABLISHED, "", 0, resp, sizeof(resp), loop_now_ns() + PATIENCE_NS);
	if (!ret && !get32(resp))
		*out = resp[4] != 0;
	return ret;
}

int tpm_wire_reset_established(struct tpm_wire *w, uint8_t locality)
{
	int ret = w->caps & CAP_RESET_ESTABLISHED ? simple(w, CMD_RESET_TPMESTABLISHED, (const uint8_t[4]){ locality }, 4) : 0;

	return ret == -EIO ? 0 : ret;		/* a locality that may not */
}

int tpm_wire_cancel(struct tpm_wire *w)
{
	int ret = w->caps & CAP_CANCEL ? simple(w, CMD_CANCEL_TPM_CMD, "", 0) : 0;

	return ret == -EIO ? 0 : ret;		/* nothing to cancel any more */
}

int tpm_wire_get_blob(struct tpm_wire *w, unsigned i, uint8_t **blob, uint32_t *len, uint32_t *flags)
{
	int64_t deadline = loop_now_ns() + PATIENCE_NS;
	uint8_t req[12] = { 0 }, resp[16];
	size_t got = 0;
	int ret;

	if (!(w->caps & CAP_GET_STATE))
		return -ENOTSUP;
	put32(req, 1);				/* decrypted */
	put32(req + 4, i + 1);
	ret = command(w, CMD_GET_STATEBLOB, req, sizeof(req), resp, sizeof(resp), deadline);
	if (ret)
		return ret;
	if (get32(resp))
		return -EIO;
	*flags = get32(resp + 4);
	*len = get32(resp + 12);
	if (*len > TPM_BLOB_MAX || get32(resp + 8) != *len)
		return -EPROTO;
	*blob = malloc(*len + 1);
	return *blob ? receive(w, w->ctrl, *blob, *len, &got, -1, deadline) : -ENOMEM;
}

int tpm_wire_set_blob(struct tpm_wire *w, unsigned i, const uint8_t *blob, uint32_t len, uint32_t flags)
{
	int64_t deadline = loop_now_ns() + PATIENCE_NS;
	uint8_t msg[16], resp[4];
	int ret;

	if (!(w->caps & CAP_SET_STATE))
		return -ENOTSUP;
	put32(msg, CMD_SET_STATEBLOB);
	put32(msg + 4, flags);
	put32(msg + 8, i + 1);
	put32(msg + 12, len);
	ret = send_all(w, w->ctrl, msg, sizeof(msg), deadline);
	if (!ret)
		ret = send_all(w, w->ctrl, blob, len, deadline);
	if (!ret)
		ret = read_answer(w, resp, sizeof(resp), deadline);
	return ret ? ret : get32(resp) ? -EIO : 0;
}
