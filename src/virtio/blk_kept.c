/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of a virtio disk that failed on the host and wait to be repeated.
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

#define PAIR 4				/* bytes of queue and head of a chain in saved state */

static bool of_queue(const struct disk_req *q, void *opaque)
{
	return container_of(q, struct vreq, q)->queue == *(const int *)opaque;
}

void vblk_forget(struct virtio_blk *b, int q)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < b->n_again; i++)
		if (q >= 0 && ld_le16(b->again + i * PAIR) != q)
			memmove(b->again + left++ * PAIR, b->again + i * PAIR, PAIR);
	b->n_again = left;
	if (!left) {
		free(b->again);
		b->again = NULL;
	}
	disk_forget(&b->disk, q >= 0 ? of_queue : NULL, &q, vblk_drop);
}

uint32_t vblk_kept(const struct virtio_blk *b)
{
	return b->n_again + disk_kept(&b->disk);
}

unsigned virtio_blk_waiting(struct virtio_dev *d)
{
	unsigned n;

	virtio_dev_lock(d);
	n = vblk_kept(to_blk(d));
	virtio_dev_unlock(d);
	return n;
}

/* ---- saved state ---- */

static void retry_id(const struct virtio_blk *b, char *id, size_t len)
{
	snprintf(id, len, "%s.retry", b->d.id);
}

int vblk_kept_save(struct virtio_blk *b, struct snap_out *o)
{
	uint32_t n = vblk_kept(b), i = b->n_again;
	uint8_t *p = malloc(n * PAIR + 1);
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	if (i)
		memcpy(p, b->again, i * PAIR);
	for (struct disk_req *q = b->disk.kept; q; q = q->next, i++) {
		const struct vreq *v = to_vreq(q);

		st_le16(p + i * PAIR, v->queue);
		st_le16(p + i * PAIR + 2, v->head);
	}
	retry_id(b, id, sizeof(id));
	ret = snap_put_blob(o, id, p, n * PAIR);
	free(p);
	return ret;
}

int vblk_kept_load(struct virtio_blk *b, uint32_t n, struct snap_in *in, struct err *e)
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
	disk_retry(&b->disk);
	retry_loaded(b);
}
