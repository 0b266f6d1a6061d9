// SPDX-License-Identifier: GPL-2.0-or-later
/* Records, and the connection they go over: see migrate_wire.h.  The peer is not trusted. */
#include "vm/migrate_wire.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bits.h"
#include "vm/tls.h"

#define MAGIC 0x4d47444cu	/* "LDGM" */
#define MAX_PIECES 16
#define PACK (16u << 10)	/* bytes of a TLS record */
#define CHILD_TURNS 50		/* of 10 ms, in which a command may end by itself */

const char *mig_type_name(enum mig_type t)
{
	static const char *const names[MIG_TYPES] = {
		[MIG_HELLO] = "hello", [MIG_ABOUT] = "about", [MIG_BEGIN] = "begin", [MIG_REFUSE] = "refuse", [MIG_PAGES] = "pages",
		[MIG_ZEROS] = "zeros", [MIG_ROUND] = "round", [MIG_STATE] = "state", [MIG_COMPLETE] = "complete", [MIG_LOADED] = "loaded",
		[MIG_TAKE] = "take", [MIG_TAKEN] = "taken", [MIG_GO] = "go", [MIG_RUNNING] = "running", [MIG_DONE] = "done", [MIG_FAILED] = "failed",
		[MIG_CANCEL] = "cancel", [MIG_ANSWER] = "answer", [MIG_JOIN] = "join", [MIG_JOINED] = "joined", [MIG_LATE] = "late", [MIG_WANT] = "want", [MIG_ALL] = "all", [MIG_MISSING] = "missing",
	};

	return t < MIG_TYPES && names[t] ? names[t] : "unknown";
}

/* ---- records ---- */

static uint32_t crc_of(const uint8_t head[MIG_HEAD], const struct iovec *iov, unsigned n)
{
	static const uint8_t none[4];
	uint32_t crc = (uint32_t)crc32_z(crc32_z(crc32_z(0, NULL, 0), head, MIG_HEAD - 4), none, 4);

	for (unsigned i = 0; i < n; i++)
		if (iov[i].iov_len)	/* zlib takes no bytes at NULL for a beginning */
			crc = (uint32_t)crc32_z(crc, iov[i].iov_base, iov[i].iov_len);
	return crc;
}

void mig_head_put(uint8_t head[MIG_HEAD], enum mig_type type, uint32_t seq, const struct iovec *iov, unsigned n)
{
	uint32_t len = 0;

	for (unsigned i = 0; i < n; i++)
		len += (uint32_t)iov[i].iov_len;
	st_le32(head, MAGIC);
	st_le16(head + 4, (uint16_t)type);
	st_le16(head + 6, 0);
	st_le32(head + 8, seq);
	st_le32(head + 12, len);
	st_le32(head + 16, crc_of(head, iov, n));
}

int mig_head_get(const uint8_t head[MIG_HEAD], uint32_t seq, struct mig_record *r, struct err *e)
{
	uint16_t type = ld_le16(head + 4);

	*r = (struct mig_record){ .type = type, .seq = ld_le32(head + 8), .len = ld_le32(head + 12), .crc = ld_le32(head + 16) };
	if (ld_le32(head) != MAGIC)
		return err_set(e, -EPROTO, "the other side does not speak Lodge's migration protocol");
	if (!type || type >= MIG_TYPES || ld_le16(head + 6) || r->len > MIG_MAX)
		return err_set(e, -EPROTO, "the stream has a record of an unknown kind (%u, %u bytes)", type, r->len);
	if (r->seq != seq)
		return err_set(e, -EPROTO, "record %u of the stream came as number %u", seq, r->seq);
	return 0;
}

int mig_check(const uint8_t head[MIG_HEAD], const struct mig_record *r, const void *payload, struct err *e)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)payload, .iov_len = r->len };

	return crc_of(head, &iov, 1) == r->crc ? 0 : err_set(e, -EPROTO, "record %u of the stream, %s, was damaged on its way", r->seq,
							     mig_type_name(r->type));
}

/* ---- the connection ---- */

int mig_chan_init(struct mig_chan *c, int in, int out, int stop_fd, struct err *e)
{
	*c = (struct mig_chan){ .in = in, .out = out, .stop_fd = stop_fd, .alarm_fd = -1, .timeout_ms = -1, .buf = malloc(MIG_MAX) };
	if (c->buf)
		return 0;
	mig_chan_fini(c);
	return err_set(e, -ENOMEM, "out of memory");
}

void mig_chan_fini(struct mig_chan *c)
{
	tls_free(c->tls);
	c->tls = NULL;
	if (c->out >= 0 && c->out != c->in)
		close(c->out);
	if (c->in >= 0)
		close(c->in);
	c->in = c->out = -1;
	free(c->buf);
	free(c->pack);
	c->buf = c->pack = NULL;
	/* Its input has ended; what does not end then is made to, the shell's children included. */
	for (unsigned i = 0; c->child; i++) {
		if (waitpid(c->child, NULL, WNOHANG)) {
			c->child = 0;
			break;
		}
		if (i >= CHILD_TURNS)
			kill(-c->child, i < CHILD_TURNS + 10 ? SIGTERM : SIGKILL);
		usleep(10000);
	}
}

static int wait_for(struct mig_chan *c, int fd, short events, struct err *e)
{
	struct pollfd p[3] = { { .fd = fd, .events = events }, { .fd = c->stop_fd, .events = POLLIN }, { .fd = events & POLLIN ? c->alarm_fd : -1, .events = POLLIN } };
	int n;

	do
		n = poll(p, 3, c->timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(e, -errno, "poll: %s", strerror(errno));
	if (p[1].revents)
		return err_set(e, -ECANCELED, "it was cancelled");
	if (p[2].revents)
		return err_set(e, -ENOLINK, "another connection has failed");
	return n ? 0 : err_set(e, -ETIMEDOUT, "the other side has said nothing for %d seconds", c->timeout_ms / 1000);
}

static int broken(int ret, struct err *e)
{
	return err_set(e, -EPIPE, "the connection was %s%s", ret ? "lost: " : "closed by the other side", ret ? strerror(ret) : "");
}

/* ---- TLS ---- */

static int wait_tls(struct mig_chan *c, struct err *e)
{
	return tls_wants_write(c->tls) ? wait_for(c, c->out, POLLOUT, e) : wait_for(c, c->in, POLLIN, e);
}

static int broken_tls(struct mig_chan *c, struct err *e)
{
	return err_set(e, -EPIPE, "the connection was lost: TLS: %s", tls_why(c->tls));
}

int mig_secure(struct mig_chan *c, const struct mig_tls *t, struct err *e)
{
	const struct tls_guard guard = { vm_tls_allows, t->authz };
	int ret;

	if (!t->creds)
		return 0;
	c->pack = malloc(PACK);
	if (!c->pack || tls_new(t->creds, c->in, t->host, t->authz ? &guard : NULL, &c->tls))
		return err_set(e, -ENOMEM, "out of memory for TLS");
	while ((ret = tls_handshake(c->tls)) == -EAGAIN) {
		ret = wait_tls(c, e);
		if (ret)
			break;
	}
	if (ret == -EPROTO || ret == -EACCES)
		err_set(e, ret, "TLS: %s", tls_why(c->tls));
	/* What comes after a handshake that failed is nobody's. */
	if (ret) {
		tls_free(c->tls);
		c->tls = NULL;
	}
	return ret;
}

void mig_tls_free(struct mig_tls *t)
{
	tls_creds_unref(t->creds);
	free(t->host);
	free(t->authz);
	*t = (struct mig_tls){ NULL };
}

static int write_tls(struct mig_chan *c, const uint8_t *p, size_t len, struct err *e)
{
	while (len) {
		ssize_t n = tls_write(c->tls, p, len);
		int ret;

		if (n < 0 && n != -EAGAIN)
			return broken_tls(c, e);
		if (n < 0) {
			ret = wait_tls(c, e);
			if (ret)
				return ret;
			continue;
		}
		c->sent_bytes += (uint64_t)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* By records of TLS that are full, but for the last one. */
static int write_packed(struct mig_chan *c, const struct iovec *iov, unsigned n, struct err *e)
{
	size_t have = 0;
	int ret = 0;

	for (unsigned i = 0; i < n && !ret; i++) {
		const uint8_t *p = iov[i].iov_base;
		size_t len = iov[i].iov_len;

		while (len && !ret) {
			size_t some = MIN(len, PACK - have);

			memcpy(c->pack + have, p, some);
			have += some;
			p += some;
			len -= some;
			if (have < PACK)
				continue;
			ret = write_tls(c, c->pack, have, e);
			have = 0;
		}
	}
	return ret ? ret : write_tls(c, c->pack, have, e);
}

static int write_all(struct mig_chan *c, struct iovec *iov, unsigned n, struct err *e)
{
	while (n) {
		ssize_t some = writev(c->out, iov, (int)n);
		int ret;

		if (some < 0 && errno == EINTR)
			continue;
		if (some < 0 && errno != EAGAIN)
			return broken(errno, e);
		if (some < 0) {
			ret = wait_for(c, c->out, POLLOUT, e);
			if (ret)
				return ret;
			continue;
		}
		c->sent_bytes += (uint64_t)some;
		while (n && (size_t)some >= iov->iov_len) {
			some -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (uint8_t *)iov->iov_base + some;
			iov->iov_len -= (size_t)some;
		}
	}
	return 0;
}

int mig_send(struct mig_chan *c, enum mig_type type, const struct iovec *iov, unsigned n, struct err *e)
{
	struct iovec all[MAX_PIECES + 1];
	uint8_t head[MIG_HEAD];

	if (n > MAX_PIECES)
		return err_set(e, -EINVAL, "a record in too many pieces");
	mig_head_put(head, type, c->sent_n++, iov, n);
	all[0] = (struct iovec){ head, MIG_HEAD };
	if (n)
		memcpy(all + 1, iov, n * sizeof(*iov));
	return c->tls ? write_packed(c, all, n + 1, e) : write_all(c, all, n + 1, e);
}

int mig_send_bytes(struct mig_chan *c, enum mig_type type, const void *p, size_t len, struct err *e)
{
	const struct iovec iov = { (void *)(uintptr_t)p, len };

	return mig_send(c, type, &iov, 1, e);
}

int mig_send_u32(struct mig_chan *c, enum mig_type type, uint32_t v, struct err *e)
{
	uint8_t le[4];

	st_le32(le, v);
	return mig_send_bytes(c, type, le, sizeof(le), e);
}

int mig_send_text(struct mig_chan *c, enum mig_type type, const char *text, struct err *e)
{
	return mig_send_bytes(c, type, text, strnlen(text, 1000), e);
}

/* As read(2) is: EAGAIN is waited for by the caller. */
static ssize_t read_some(struct mig_chan *c, uint8_t *p, size_t len)
{
	ssize_t n = c->tls ? tls_read(c->tls, p, len) : read(c->in, p, len);

	if (c->tls && n < 0) {
		errno = (int)-n;
		n = -1;
	}
	return n;
}

static int read_all(struct mig_chan *c, uint8_t *p, size_t len, struct err *e)
{
	while (len) {
		ssize_t n = read_some(c, p, len);
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (!n || (n < 0 && errno != EAGAIN))
			return n && c->tls ? broken_tls(c, e) : broken(n ? errno : 0, e);
		if (n < 0) {
			ret = c->tls ? wait_tls(c, e) : wait_for(c, c->in, POLLIN, e);
			if (ret)
				return ret;
			continue;
		}
		c->got_bytes += (uint64_t)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int mig_recv(struct mig_chan *c, struct mig_record *r, struct err *e)
{
	uint8_t head[MIG_HEAD];
	int ret = read_all(c, head, MIG_HEAD, e);

	ret = ret ? ret : mig_head_get(head, c->got_n, r, e);
	ret = ret ? ret : read_all(c, c->buf, r->len, e);
	ret = ret ? ret : mig_check(head, r, c->buf, e);
	c->got_n++;
	return ret;
}

bool mig_pending(const struct mig_chan *c) { return c->tls && tls_pending(c->tls); }

int mig_await(struct mig_chan *c, struct err *e)
{
	return mig_pending(c) ? 0 : wait_for(c, c->in, POLLIN, e);
}

uint32_t mig_u32(const struct mig_chan *c, const struct mig_record *r)
{
	return r->len >= 4 ? ld_le32(c->buf) : 0;
}

void mig_text(const struct mig_chan *c, const struct mig_record *r, char *out, size_t size)
{
	size_t n = MIN((size_t)r->len, size - 1);

	for (size_t i = 0; i < n; i++)
		out[i] = isprint(c->buf[i]) ? (char)c->buf[i] : '?';
	out[n] = '\0';
}
