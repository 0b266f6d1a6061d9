/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A list of secrets.  What was read is moved into memory of its own length; the
 * buffer it was read into, and everything else that held it, is wiped.
 */
#include "block/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"

#define FIRST_ROOM 4096u

struct secret {
	char *id, *file;
	int fd;
	bool base64;
	uint8_t *data;			/* NULL: not read yet */
	size_t len, room;
	struct secret *next;
};

struct blk_secrets {
	struct secret *first;
};

static size_t secret_room(size_t len)
{
	return align_up(MAX(len, (size_t)1), (size_t)sysconf(_SC_PAGESIZE));
}

void *secret_alloc(size_t len)
{
	size_t room = secret_room(len);
	void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, room, MADV_DONTDUMP);
	/* The limit of locked memory is small; without it the host's swap is as trusted as the host. */
	mlock(p, room);
	return p;
}

void secret_free(void *p, size_t len)
{
	if (!p)
		return;
	OPENSSL_cleanse(p, len);
	munmap(p, secret_room(len));
}

int blk_secrets_new(struct blk_secrets **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

static void secret_drop(struct secret *x)
{
	if (!x->file && x->fd >= 0)
		close(x->fd);
	secret_free(x->data, x->room);
	free(x->id);
	free(x->file);
	free(x);
}

void blk_secrets_free(struct blk_secrets *s)
{
	while (s && s->first) {
		struct secret *x = s->first;

		s->first = x->next;
		secret_drop(x);
	}
	free(s);
}

static struct secret *secret_find(struct blk_secrets *s, const char *id)
{
	for (struct secret *x = s->first; x; x = x->next)
		if (!strcmp(x->id, id))
			return x;
	return NULL;
}

int blk_secrets_remove(struct blk_secrets *s, const char *id)
{
	for (struct secret **p = &s->first; *p; p = &(*p)->next) {
		struct secret *x = *p;

		if (strcmp(x->id, id))
			continue;
		*p = x->next;
		secret_drop(x);
		return 0;
	}
	return -ENOENT;
}

int blk_secrets_add(struct blk_secrets *s, const char *id, const struct blk_secret_source *from, struct err *e)
{
	struct secret *x;

	if (secret_find(s, id))
		return err_set(e, -EEXIST, "there are two secrets named '%s'", id);
	if (!from->file && from->fd < 0)
		return err_set(e, -EINVAL, "secret '%s' names neither a file nor a descriptor", id);
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, -ENOMEM, "out of memory for secret '%s'", id);
	/* Not its owner before nothing can go wrong. */
	x->fd = -1;
	x->base64 = from->base64;
	x->id = strdup(id);
	x->file = from->file ? strdup(from->file) : NULL;
	if (!x->id || (from->file && !x->file)) {
		secret_drop(x);
		return err_set(e, -ENOMEM, "out of memory for secret '%s'", id);
	}
	if (!from->file)
		x->fd = from->fd;
	x->next = s->first;
	s->first = x;
	return 0;
}

/* Doubles the room. */
static int secret_grow(struct secret *x)
{
	size_t room = x->room ? x->room * 2 : FIRST_ROOM;
	uint8_t *p;

	/* One byte more than the limit tells that there is more. */
	if (x->room > SECRET_MAX)
		return -E2BIG;
	p = secret_alloc(room);
	if (!p)
		return -ENOMEM;
	if (x->data)
		memcpy(p, x->data, x->len);
	secret_free(x->data, x->room);
	x->data = p;
	x->room = room;
	return 0;
}

static int secret_read(struct secret *x, int fd)
{
	for (;;) {
		ssize_t n;
		int ret = x->len == x->room ? secret_grow(x) : 0;

		if (ret)
			return ret;
		n = read(fd, x->data + x->len, x->room - x->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : x->len > SECRET_MAX ? -E2BIG : 0;
		x->len += (size_t)n;
	}
}

static int secret_decode(struct secret *x)
{
	uint8_t *out;
	int n, pad = 0;

	if (!x->data)
		return -EINVAL;
	while (x->len && (x->data[x->len - 1] == '\n' || x->data[x->len - 1] == '\r'))
		x->len--;
	if (!x->len || x->len % 4)
		return -EINVAL;
	out = secret_alloc(x->room);
	if (!out)
		return -ENOMEM;
	n = EVP_DecodeBlock(out, x->data, (int)x->len);
	for (size_t i = x->len; i > x->len - 2 && x->data[i - 1] == '='; i--)
		pad++;
	secret_free(x->data, x->room);
	x->data = out;
	x->len = n > pad ? (size_t)(n - pad) : 0;
	return n > pad ? 0 : -EINVAL;
}

static int secret_load(struct secret *x)
{
	int fd = x->file ? open(x->file, O_RDONLY | O_CLOEXEC | O_NOCTTY) : x->fd, ret;

	if (fd < 0)
		return x->file ? -errno : -EBADF;
	ret = secret_read(x, fd);
	close(fd);
	x->fd = -1;
	if (!ret && !x->len)
		ret = -ENODATA;
	if (!ret && x->base64)
		ret = secret_decode(x);
	if (ret) {
		secret_free(x->data, x->room);
		x->data = NULL;
		x->len = x->room = 0;
	}
	return ret;
}

int blk_secrets_get(struct blk_secrets *s, const char *id, const uint8_t **data, size_t *len, struct err *e)
{
	struct secret *x = s ? secret_find(s, id) : NULL;
	int ret;

	if (!x)
		return err_set(e, -ENOENT, "there is no secret named '%s'", id);
	ret = x->data ? 0 : secret_load(x);
	*data = x->data;
	*len = x->len;
	if (!ret)
		return 0;
	if (x->file)
		return err_set(e, ret, "key file '%s': %s", x->file,
			       ret == -ENODATA ? "it is empty" : ret == -E2BIG ? "it is longer than 8 MiB" :
			       ret == -EINVAL && x->base64 ? "it is not base64" : strerror(-ret));
	return err_set(e, ret, "secret '%s' cannot be read from its descriptor: %s", id,
		       ret == -ENODATA ? "nothing comes" : ret == -E2BIG ? "more than 8 MiB come" :
		       ret == -EINVAL && x->base64 ? "what comes is not base64" : strerror(-ret));
}
