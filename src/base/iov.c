/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scatter-gather helpers.  The vectors were checked by whoever made them; the
 * offsets and lengths asked for may be anything, short results tell.
 */
#include "base/iov.h"

#include <string.h>

#include "base/bits.h"

size_t iov_size(const struct iovec *iov, size_t n)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++)
		if (__builtin_add_overflow(sum, iov[i].iov_len, &sum))
			return SIZE_MAX;
	return sum;
}

enum copy_op { TO_BUF, FROM_BUF, FILL };

static size_t walk(const struct iovec *iov, size_t n, size_t off, uint8_t *buf, size_t len,
		   enum copy_op op, int c)
{
	size_t done = 0;

	for (size_t i = 0; i < n && done < len; i++) {
		uint8_t *p = iov[i].iov_base;
		size_t l = iov[i].iov_len;

		if (off >= l) {
			off -= l;
			continue;
		}
		l = MIN(l - off, len - done);
		if (op == TO_BUF)
			memcpy(buf + done, p + off, l);
		else if (op == FROM_BUF)
			memcpy(p + off, buf + done, l);
		else
			memset(p + off, c, l);
		done += l;
		off = 0;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, size_t n, size_t off, void *buf, size_t len)
{
	return walk(iov, n, off, buf, len, TO_BUF, 0);
}

size_t iov_from_buf(const struct iovec *iov, size_t n, size_t off, const void *buf, size_t len)
{
	return walk(iov, n, off, (uint8_t *)(uintptr_t)buf, len, FROM_BUF, 0);
}

size_t iov_memset(const struct iovec *iov, size_t n, size_t off, int c, size_t len)
{
	return walk(iov, n, off, NULL, len, FILL, c);
}

int iov_slice(const struct iovec *iov, size_t n, size_t off, size_t len,
	      struct iovec *out, size_t max)
{
	size_t used = 0;

	for (size_t i = 0; i < n && len; i++) {
		size_t l = iov[i].iov_len;

		if (off >= l) {
			off -= l;
			continue;
		}
		if (used == max)
			return -1;
		l = MIN(l - off, len);
		out[used].iov_base = (uint8_t *)iov[i].iov_base + off;
		out[used].iov_len = l;
		used++;
		len -= l;
		off = 0;
	}
	return len ? -1 : (int)used;
}
