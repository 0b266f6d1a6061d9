/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that is read from a web server, through libcurl: http:// and https://.
 *
 * Requests run on threads, each with a connection of its own that is kept.  Data is
 * fetched by ranges of whole blocks and kept in a small cache; who reads in order has
 * the next blocks fetched along.  The server must know ranges (a disk cannot be
 * fetched from its beginning each time) and must not change the file meanwhile, as
 * far as its ETag or date tells: then reads fail, rather than mix two disks.
 */
#include "block/protocol.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/file.h"

#define HTTP_THREADS 4
#define BLOCK (256u << 10)
#define CACHED 32			/* blocks: 8 MiB */
#define RUN 8				/* blocks fetched at once, at most */
#define AHEAD 4				/* blocks more, for who reads in order */
#define MAX_REDIRECTS 5
#define CONNECT_S 30
#define STALL_S 30
#define TRIES 3
#define MARK_LEN 256

struct http_block {
	uint64_t index, used;		/* used: the clock when it was last; 0: empty */
	uint8_t *data;			/* BLOCK */
};

struct http {
	struct blk_node n;
	struct pool *pool;
	char *url;
	uint64_t size;			/* bytes, as the server says */
	char mark[MARK_LEN];		/* ETag or Last-Modified of the first answer */

	pthread_mutex_t lock;		/* of what follows */
	CURL *idle[HTTP_THREADS];
	unsigned n_idle;
	struct http_block cache[CACHED];
	uint64_t clock, next;		/* next: block after the last one that was read */
	bool complained;
};

/* One GET of a range. */
struct fetch {
	uint64_t from, len;
	uint8_t *buf;
	size_t got;
	unsigned status;		/* of the last answer */
	bool range_seen, wrong;		/* a Content-Range; one that is not ours, or more data than asked for */
	uint64_t total;			/* of the file, from Content-Range */
	char mark[MARK_LEN];
	bool etag;
	char why[CURL_ERROR_SIZE];
};

/* ---- one transfer ---- */

static size_t http_body(char *data, size_t one, size_t n, void *opaque)
{
	struct fetch *f = opaque;

	/* Nothing is taken that did not say what it is: a server without ranges would send all of the file. */
	if (!f->range_seen || f->wrong || n > f->len - f->got) {
		f->wrong = f->wrong || f->range_seen;
		return 0;
	}
	memcpy(f->buf + f->got, data, n);
	f->got += n;
	return n;
}

static void take_range(struct fetch *f, const char *v)
{
	unsigned long long from, to, total;

	if (sscanf(v, " bytes %llu-%llu/%llu", &from, &to, &total) != 3 || from != f->from || to < from || to - from >= f->len ||
	    to >= total)
		f->wrong = true;
	f->range_seen = true;
	f->total = f->wrong ? 0 : total;
}

static void take_mark(struct fetch *f, const char *v, size_t n, bool etag)
{
	if (f->etag && !etag)
		return;
	while (n && strchr(" \t\r\n", v[n - 1]))
		n--;
	snprintf(f->mark, sizeof(f->mark), "%.*s", (int)MIN(n, (size_t)MARK_LEN - 1), v);
	f->etag = etag;
}

static size_t http_header(char *data, size_t one, size_t n, void *opaque)
{
	struct fetch *f = opaque;
	char line[512];

	if (n >= sizeof(line))
		return n;
	memcpy(line, data, n);
	line[n] = '\0';
	/* Each answer on the way of redirects begins anew. */
	if (!strncasecmp(line, "HTTP/", 5)) {
		f->range_seen = f->wrong = f->etag = false;
		f->mark[0] = '\0';
		if (sscanf(line, "%*s %u", &f->status) != 1)
			f->status = 0;
	}
	if (!strncasecmp(line, "Content-Range:", 14))
		take_range(f, line + 14);
	else if (!strncasecmp(line, "ETag:", 5))
		take_mark(f, line + 5, n - 5, true);
	else if (!strncasecmp(line, "Last-Modified:", 14))
		take_mark(f, line + 14, n - 14, false);
	return n;
}

static CURL *take_handle(struct http *h)
{
	CURL *c = NULL;

	pthread_mutex_lock(&h->lock);
	if (h->n_idle)
		c = h->idle[--h->n_idle];
	pthread_mutex_unlock(&h->lock);
	return c ? c : curl_easy_init();
}

static void give_handle(struct http *h, CURL *c)
{
	pthread_mutex_lock(&h->lock);
	if (h->n_idle < HTTP_THREADS) {
		h->idle[h->n_idle++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	if (c)
		curl_easy_cleanup(c);
}

static bool set_up(CURL *c, const struct http *h, struct fetch *f)
{
	bool tls = !strncasecmp(h->url, "https:", 6);
	char range[64];

	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)f->from, (unsigned long long)(f->from + f->len - 1));
	curl_easy_reset(c);
	return !curl_easy_setopt(c, CURLOPT_URL, h->url) && !curl_easy_setopt(c, CURLOPT_RANGE, range) &&
		!curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") &&
		/* Who asked for TLS is not sent elsewhere without it. */
		!curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https") &&
		!curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L) &&
		!curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS) && !curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L) &&
		!curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) && !curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S) &&
		!curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) && !curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S) &&
		!curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->why) && !curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, http_body) &&
		!curl_easy_setopt(c, CURLOPT_WRITEDATA, f) && !curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, http_header) &&
		!curl_easy_setopt(c, CURLOPT_HEADERDATA, f);
}

static bool worth_another_try(CURLcode code)
{
	return code == CURLE_COULDNT_CONNECT || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE ||
		code == CURLE_GOT_NOTHING;
}

/* Why a transfer that came to an end is not what was wanted. */
static int judge(const struct http *h, struct fetch *f, CURLcode code)
{
	const char *why = NULL;
	int ret = -EIO;

	if (f->wrong)
		why = "the server sends something else than it was asked for";
	else if (!f->range_seen && f->status >= 200 && f->status < 300) {
		why = "the server does not know ranges (it would send the whole file each time): download the file";
		ret = -ENOTSUP;
	} else if (code == CURLE_OK && h->size && (f->total != h->size || strcmp(f->mark, h->mark) != 0))
		why = "the file has changed on the server";
	else if (code == CURLE_OK && f->got != MIN(f->len, f->total - f->from))
		why = "the server sends less than it says";
	else if (code == CURLE_OK)
		return 0;
	if (code == CURLE_OUT_OF_MEMORY)
		ret = -ENOMEM;
	if (code == CURLE_OPERATION_TIMEDOUT)
		ret = -ETIMEDOUT;
	if (why)
		snprintf(f->why, sizeof(f->why), "%s", why);
	else if (!f->why[0])
		snprintf(f->why, sizeof(f->why), "%s", curl_easy_strerror(code));
	return ret;
}

/* On a worker, or while opening. */
static int http_get(struct http *h, struct fetch *f)
{
	CURL *c = take_handle(h);
	CURLcode code = CURLE_OUT_OF_MEMORY;

	for (unsigned i = 0; c && i < TRIES; i++) {
		f->got = 0;
		f->range_seen = f->wrong = false;
		f->status = 0;
		f->why[0] = '\0';
		if (!set_up(c, h, f))
			break;
		code = curl_easy_perform(c);
		if (!worth_another_try(code) || (f->status && !f->range_seen))
			break;
	}
	if (c)
		give_handle(h, c);
	return judge(h, f, code);
}

/* ---- the cache ---- [lock] */

static struct http_block *cached(struct http *h, uint64_t index)
{
	for (unsigned i = 0; i < CACHED; i++)
		if (h->cache[i].used && h->cache[i].index == index)
			return &h->cache[i];
	return NULL;
}

/* Not having room is no error. */
static void keep_block(struct http *h, uint64_t index, const uint8_t *data, size_t len)
{
	struct http_block *b = cached(h, index);

	for (unsigned i = 0; i < CACHED && !b; i++)
		if (!h->cache[i].used)
			b = &h->cache[i];
	if (!b) {
		b = &h->cache[0];
		for (unsigned i = 1; i < CACHED; i++)
			if (h->cache[i].used < b->used)
				b = &h->cache[i];
	}
	if (!b->data)
		b->data = malloc(BLOCK);
	b->used = b->data ? ++h->clock : 0;
	if (!b->data)
		return;
	b->index = index;
	memcpy(b->data, data, len);
	memset(b->data + len, 0, BLOCK - len);
}

/* How many blocks from `first` on are to be fetched for a read that ends in block `last`. */
static unsigned run_length(struct http *h, uint64_t first, uint64_t last, bool in_order)
{
	uint64_t end = (h->size - 1) / BLOCK, want = MIN(in_order ? last + AHEAD : last, end);
	unsigned n = 1;

	while (n < RUN && first + n <= want && !cached(h, first + n))
		n++;
	return n;
}

/* ---- requests ---- */

static int fetch_blocks(struct http *h, uint64_t first, unsigned n)
{
	struct fetch f = { .from = first * BLOCK };
	int ret;

	f.len = MIN((uint64_t)n * BLOCK, h->size - f.from);
	f.buf = malloc(f.len);
	ret = f.buf ? http_get(h, &f) : -ENOMEM;
	pthread_mutex_lock(&h->lock);
	for (uint64_t at = 0; !ret && at < f.len; at += BLOCK)
		keep_block(h, first + at / BLOCK, f.buf + at, MIN((uint64_t)BLOCK, f.len - at));
	if (ret && !h->complained && f.buf) {
		log_error("disk '%s': %s", h->n.path, f.why);
		h->complained = true;
	}
	pthread_mutex_unlock(&h->lock);
	free(f.buf);
	return ret;
}

/* Copies what of a block is there. False: it must be fetched; *run: with how many that follow. */
static bool copy_cached(struct http *h, const struct blk_req *r, uint64_t at, size_t len, unsigned *run)
{
	uint64_t index = (r->offset + at) / BLOCK, last = (r->offset + r->len - 1) / BLOCK;
	struct http_block *b;
	bool in_order;

	pthread_mutex_lock(&h->lock);
	b = cached(h, index);
	in_order = index == h->next || index + 1 == h->next;
	if (b) {
		iov_from_buf(r->iov, r->niov, at, b->data + (r->offset + at) % BLOCK, len);
		b->used = ++h->clock;
		h->next = index + 1;
	} else {
		*run = run_length(h, index, last, in_order);
	}
	pthread_mutex_unlock(&h->lock);
	return b != NULL;
}

static int http_read(struct http *h, struct blk_req *r)
{
	uint64_t have = r->offset < h->size ? MIN(r->len, h->size - r->offset) : 0;
	unsigned run, tries = 0;
	size_t len;
	int ret = 0;

	for (uint64_t at = 0; at < have && !ret;) {
		len = MIN(have - at, BLOCK - (r->offset + at) % BLOCK);
		if (copy_cached(h, r, at, len, &run)) {
			at += len;
			tries = 0;
		} else if (++tries > CACHED) {
			/* No memory for the cache, or others push out what we fetch. */
			ret = -ENOMEM;
		} else {
			ret = fetch_blocks(h, (r->offset + at) / BLOCK, run);
		}
	}
	if (!ret)
		iov_memset(r->iov, r->niov, have, 0, r->len - have);
	return ret == -ENOTSUP || ret == -ETIMEDOUT ? -EIO : ret;
}

static void http_run(void *opaque, struct blk_req *r)
{
	blk_finish(r, http_read(opaque, r));
}

static void http_submit(struct blk_node *n, struct blk_req *r)
{
	struct http *h = container_of(n, struct http, n);

	if (r->op == BLK_READ) {
		pool_submit(h->pool, r);
		return;
	}
	if (r->op == BLK_STATUS) {
		r->ext->allocated = r->ext->has_offset = true;
		r->ext->offset = r->offset;
		r->ext->data = r->offset < h->size;
		r->ext->zero = !r->ext->data;
		r->ext->len = r->ext->data ? MIN(r->len, align_up(h->size, BLK_SECTOR) - r->offset) : r->len;
	}
	/* A flush has nothing to do; what changes data never comes to a read-only node. */
	blk_finish(r, 0);
}

static void http_wait(struct blk_node *n)
{
	pool_wait(container_of(n, struct http, n)->pool);
}

static void http_close(struct blk_node *n)
{
	struct http *h = container_of(n, struct http, n);

	pool_free(h->pool);
	for (unsigned i = 0; i < h->n_idle; i++)
		curl_easy_cleanup(h->idle[i]);
	for (unsigned i = 0; i < CACHED; i++)
		free(h->cache[i].data);
	pthread_mutex_destroy(&h->lock);
	blk_node_fini(n);
	free(h->url);
	free(h);
}

static const struct blk_driver http_driver = {
	.name = "http",
	.submit = http_submit,
	.wait = http_wait,
	.close = http_close,
};

/* ---- opening ---- */

/* The name in messages: without user and password. malloc'ed */
static char *without_secrets(const char *url)
{
	const char *host = strstr(url, "://") + 3, *at = memchr(host, '@', strcspn(host, "/?#"));
	char *out;

	if (!at)
		return strdup(url);
	/* A password may have an @ in it. */
	for (const char *p = at; p < host + strcspn(host, "/?#"); p++)
		at = *p == '@' ? p : at;
	if (asprintf(&out, "%.*s%s", (int)(host - url), url, at + 1) < 0)
		return NULL;
	return out;
}

/* On the caller's thread; TLS libraries write without MSG_NOSIGNAL. (Workers have all signals blocked.) */
static int get_first(struct http *h, struct fetch *f)
{
	const struct timespec now = { 0 };
	sigset_t pipe, old;
	int ret;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	ret = http_get(h, f);
	if (!sigismember(&old, SIGPIPE))
		while (sigtimedwait(&pipe, NULL, &now) > 0)
			;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

/* One byte tells size, whether ranges are known, and what the file is. */
static int look_at_file(struct http *h, struct err *e)
{
	uint8_t byte;
	struct fetch f = { .len = 1, .buf = &byte };
	int ret = get_first(h, &f);

	if (ret)
		return err_set(e, ret, "disk '%s' cannot be opened: %s", h->n.path, f.why);
	if (!f.total || f.total > INT64_MAX - BLK_SECTOR)
		return err_set(e, -EINVAL, "disk '%s' has no usable size", h->n.path);
	h->size = f.total;
	memcpy(h->mark, f.mark, sizeof(h->mark));
	h->n.i = (struct blk_info){
		.size = align_up(h->size, BLK_SECTOR), .request_align = BLK_SECTOR, .physical_block = 4096,
		.read_only = true, .is_device = true,
	};
	return 0;
}

static void curl_once(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
		   struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	pthread_once(&once, curl_once);
	pthread_mutex_init(&h->lock, NULL);
	blk_node_init(&h->n, l, &http_driver);
	h->n.open_ended = o->open_ended;
	h->n.path = without_secrets(uri);
	h->url = strdup(uri);
	ret = h->n.path && h->url ? pool_new(HTTP_THREADS, CONFINE_NET, http_run, h, &h->pool) : -ENOMEM;
	if (ret)
		err_set(e, ret, "out of memory");
	else if (!o->read_only)
		ret = err_set(e, -EROFS, "disk '%s': a web server's file can only be read: open it read-only", h->n.path);
	else
		ret = look_at_file(h, e);
	if (ret)
		http_close(&h->n);
	else
		*out = &h->n;
	return ret;
}
