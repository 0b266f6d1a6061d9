/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors of the host under a virtio disk: told to the guest, ignored, or kept
 * from it by pausing the machine and repeating the request when it goes on.
 *
 * A request that is kept stays in flight as far as the ring is concerned.  Saved
 * state holds the heads of their chains, and a machine made from it looks at
 * these chains anew when it goes on; what a chain says may have changed by then
 * (the guest can write there), so it is checked like a new one.
 */
#include "virtio/blk_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define MAX_ERRORS_LOGGED 5
#define PAIR 4				/* bytes of queue and head of a chain in saved state */

/* What the host's condition may still change, as opposed to a request that can never succeed. */
static bool may_pass(int ret)
{
	return ret != -EINVAL && ret != -ERANGE && ret != -EROFS && ret != -ENOTSUP && ret != -EPERM;
}

/* A quota is a user's way to run out of room.  A limit on the length of a file (EFBIG) is not: it stays. */
static bool no_room(int ret)
{
	return ret == -ENOSPC || ret == -EDQUOT;
}

static enum virtio_blk_on_error action_for(const struct virtio_blk *b, const struct vreq *v, int ret)
{
	enum virtio_blk_on_error a = v->r.op == BLK_READ ? b->on_read_error : b->on_write_error;

	if (a == VIRTIO_BLK_ENOSPC)
		a = no_room(ret) ? VIRTIO_BLK_STOP : VIRTIO_BLK_REPORT;
	return a == VIRTIO_BLK_STOP && !may_pass(ret) ? VIRTIO_BLK_REPORT : a;
}

static void say(struct virtio_blk *b, const struct vreq *v, int ret, const char *then)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "write zeroes" };

	if (b->errors_logged++ >= MAX_ERRORS_LOGGED)
		return;
	log_warn("%s: %s at byte %llu failed on the host: %s%s%s", b->d.id, names[v->r.op],
		 (unsigned long long)v->r.offset, strerror(-ret), then,
		 b->errors_logged == MAX_ERRORS_LOGGED ? " (further errors are counted only)" : "");
}

void vblk_stop_machine(void *opaque)
{
	struct virtio_blk *b = opaque;

	machine_ask(b->d.m, MACHINE_REQ_PAUSE, 0);
}

static void keep(struct virtio_blk *b, struct vreq *v)
{
	v->next = NULL;
	*b->retry_end = v;
	b->retry_end = &v->next;
	if (b->stop_asked)
		return;
	b->stop_asked = true;
	virtio_dev_defer(&b->d, &b->stop_work);
}

void vblk_failed(struct vreq *v, int ret)
{
	struct virtio_blk *b = v->b;

	b->stats.errors++;
	switch (action_for(b, v, ret)) {
	case VIRTIO_BLK_STOP:
		say(b, v, ret, "; the guest is paused, and the request will be repeated when it goes on");
		keep(b, v);
		break;
	case VIRTIO_BLK_IGNORE:
		say(b, v, ret, "; the guest is not told");
		b->stats.ignored++;
		vblk_answer(v, true);
		break;
	default:
		say(b, v, ret, "");
		vblk_answer(v, false);
	}
}

void vblk_retry_forget(struct virtio_blk *b, int q)
{
	struct vreq **p = &b->retry, *v;
	uint32_t left = 0;

	for (uint32_t i = 0; i < b->n_again; i++)
		if (q >= 0 && ld_le16(b->again + i * PAIR) != q)
			memmove(b->again + left++ * PAIR, b->again + i * PAIR, PAIR);
	b->n_again = left;
	if (!left) {
		free(b->again);
		b->again = NULL;
	}
	while ((v = *p)) {
		if (q >= 0 && v->q != q) {
			p = &v->next;
			continue;
		}
		*p = v->next;
		b->stats.in_flight--;
		free(v);
	}
	b->retry_end = p;
	if (b->retry)
		return;
	b->stop_asked = false;
	virtio_dev_cancel(&b->d, &b->stop_work);
}

uint32_t vblk_retry_count(const struct virtio_blk *b)
{
	uint32_t n = b->n_again;

	for (const struct vreq *v = b->retry; v; v = v->next)
		n++;
	return n;
}

unsigned virtio_blk_waiting(struct virtio_dev *d)
{
	unsigned n;

	virtio_dev_lock(d);
	n = vblk_retry_count(to_blk(d));
	virtio_dev_unlock(d);
	return n;
}

/* ---- saved state ---- */

static void retry_id(const struct virtio_blk *b, char *id, size_t len)
{
	snprintf(id, len, "%s.retry", b->d.id);
}

int vblk_retry_save(struct virtio_blk *b, struct snap_out *o)
{
	uint32_t n = vblk_retry_count(b), i = b->n_again;
	uint8_t *p = malloc(n * PAIR + 1);
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	if (i)
		memcpy(p, b->again, i * PAIR);
	for (const struct vreq *v = b->retry; v; v = v->next, i++) {
		st_le16(p + i * PAIR, v->q);
		st_le16(p + i * PAIR + 2, v->head);
	}
	retry_id(b, id, sizeof(id));
	ret = snap_put_blob(o, id, p, n * PAIR);
	free(p);
	return ret;
}

int vblk_retry_load(struct virtio_blk *b, uint32_t n, struct snap_in *in, struct err *e)
{
	char id[48];
	int ret;

	if (!n)
		return 0;
	if (n > b->d.n_queues * VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "saved state of disk %s is damaged: %u requests are to be repeated", b->d.id, n);
	b->again = malloc(n * PAIR);
	if (!b->again)
		return err_set(e, -ENOMEM, "out of memory");
	retry_id(b, id, sizeof(id));
	ret = snap_get_blob(in, id, b->again, n * PAIR, &b->n_again, e);
	b->n_again = ret ? 0 : b->n_again / PAIR;
	return ret;
}

/* Chains of an earlier life: looked at as if they had just come. */
static void retry_loaded(struct virtio_blk *b)
{
	uint8_t *p = b->again;
	uint32_t n = b->n_again;
	int ret = 0;

	b->again = NULL;
	b->n_again = 0;
	for (uint32_t i = 0; i < n && !ret; i++) {
		unsigned q = ld_le16(p + i * PAIR);

		ret = q < b->d.n_queues ? vq_get_again(&b->d.vq[q], ld_le16(p + i * PAIR + 2), &b->chain) : -EPROTO;
		if (!ret)
			ret = vblk_handle(b, q, &b->chain);
	}
	free(p);
	if (ret)
		virtio_dev_broken(&b->d, "a request that was to be repeated is damaged");
}

void vblk_retry(struct virtio_blk *b)
{
	struct vreq *v = b->retry, *next;

	b->retry = NULL;
	b->retry_end = &b->retry;
	b->stop_asked = false;
	for (; v; v = next) {
		next = v->next;
		b->stats.retried++;
		vblk_submit(v);
	}
	retry_loaded(b);
}
