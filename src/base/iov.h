/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scatter-gather helpers.  Lengths are bytes; short results mean the vector ended. */
#ifndef LODGE_BASE_IOV_H
#define LODGE_BASE_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

size_t iov_size(const struct iovec *iov, size_t n);
/* Copies up to len bytes from offset `off` of the vector; returns bytes copied. */
size_t iov_to_buf(const struct iovec *iov, size_t n, size_t off, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, size_t n, size_t off, const void *buf, size_t len);
size_t iov_memset(const struct iovec *iov, size_t n, size_t off, int c, size_t len);
/* Makes out[] (room for max) describe `len` bytes from offset `off`; returns
 * the number of elements, or -1 when the vector is too short or out too small. */
int iov_slice(const struct iovec *iov, size_t n, size_t off, size_t len,
	      struct iovec *out, size_t max);

#endif
