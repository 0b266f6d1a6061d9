/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved state of virtio-scsi, and commands that wait to be repeated.
 *
 * What is under way when the device is paused has either ended, or failed on the
 * host and is kept.  Saved state holds the heads of the latter's chains (and of
 * functions that wait for them); a machine made from it looks at them anew when it
 * goes on, since the guest may have changed what they say.
 */
#include "virtio/scsi_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define PAIR 4				/* bytes of queue and head of a chain in saved state */

/* ---- what is kept ---- */

static bool of_queue(const struct disk_req *q, void *opaque)
{
	return container_of(q, struct vscsi_req, s.q)->queue == *(const int *)opaque;
}

void vscsi_forget(struct virtio_scsi *v, int q)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < v->n_again; i++)
		if (q >= 0 && ld_le16(v->again + i * PAIR) != q)
			memmove(v->again + left++ * PAIR, v->again + i * PAIR, PAIR);
	v->n_again = left;
	if (!left) {
		free(v->again);
		v->again = NULL;
	}
	for (unsigned i = 0; i < v->n_units; i++)
		disk_forget(&v->unit[i]->lun.disk, q >= 0 ? of_queue : NULL, &q, vscsi_drop);
}

/* Chains of an earlier life: looked at as if they had just come. */
static void retry_loaded(struct virtio_scsi *v)
{
	uint8_t *p = v->again;
	uint32_t n = v->n_again;
	int ret = 0;

	v->again = NULL;
	v->n_again = 0;
	for (uint32_t i = 0; i < n && !ret; i++) {
		unsigned q = ld_le16(p + i * PAIR);

		ret = q < v->d.n_queues && q != Q_EVENT ? vq_get_again(&v->d.vq[q], ld_le16(p + i * PAIR + 2), &v->chain) : -EPROTO;
		if (!ret)
			ret = vscsi_handle(v, q, &v->chain);
	}
	free(p);
	if (ret)
		virtio_dev_broken(&v->d, "a request that was to be repeated is damaged");
}

void vscsi_retry(struct virtio_scsi *v)
{
	for (unsigned i = 0; i < v->n_units; i++)
		disk_retry(&v->unit[i]->lun.disk);
	if (v->d.started)
		retry_loaded(v);
}

/* ---- state ---- */

struct state {
	uint32_t sense_size, cdb_size, n_units, n_again;
	uint8_t events_missed;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, sense_size),
	SNAP_FIELD(struct state, cdb_size),
	SNAP_FIELD(struct state, n_units),
	SNAP_FIELD(struct state, n_again),
	SNAP_FIELD(struct state, events_missed),
	SNAP_END,
};
static const struct snap_table table = { "virtio-scsi", 1, fields };

struct unit_state {
	uint64_t size;
	uint32_t subscribed, sense;
	uint16_t number, attention;
	uint8_t target, cd, tray_open, locked, changed, eject_asked, no_medium;
};

static const struct snap_field unit_fields[] = {
	SNAP_FIELD(struct unit_state, size),
	SNAP_FIELD(struct unit_state, subscribed),
	SNAP_FIELD(struct unit_state, sense),
	SNAP_FIELD(struct unit_state, number),
	SNAP_FIELD(struct unit_state, attention),
	SNAP_FIELD(struct unit_state, target),
	SNAP_FIELD(struct unit_state, cd),
	SNAP_FIELD(struct unit_state, tray_open),
	SNAP_FIELD(struct unit_state, locked),
	SNAP_FIELD(struct unit_state, changed),
	SNAP_FIELD(struct unit_state, eject_asked),
	SNAP_FIELD(struct unit_state, no_medium),
	SNAP_END,
};
static const struct snap_table unit_table = { "virtio-scsi-unit", 1, unit_fields };

static void name_of(const struct virtio_scsi *v, const char *what, unsigned i, char *id, size_t len)
{
	snprintf(id, len, "%s.%s%u", v->d.id, what, i);
}

static int save_unit(const struct virtio_scsi *v, unsigned i, struct snap_out *o)
{
	const struct vscsi_unit *u = v->unit[i];
	struct scsi_lun_state l = scsi_lun_get(&u->lun);
	const struct unit_state s = {
		.size = u->lun.disk.node->i.size, .subscribed = u->subscribed, .sense = l.sense, .number = u->number, .attention = l.attention,
		.target = u->target, .cd = u->lun.cd, .tray_open = l.tray_open, .locked = l.locked, .changed = l.changed,
		.eject_asked = l.eject_asked, .no_medium = l.no_medium,
	};
	char id[48];

	name_of(v, "unit", i, id, sizeof(id));
	return snap_put(o, id, &unit_table, &s);
}

static int load_unit(struct virtio_scsi *v, unsigned i, struct snap_in *in, struct err *e)
{
	struct unit_state s = { 0 };
	struct vscsi_unit *u;
	struct scsi_lun_state l;
	char id[48];
	int ret;

	name_of(v, "unit", i, id, sizeof(id));
	ret = snap_get(in, id, &unit_table, &s, e);
	if (ret)
		return ret;
	l = (struct scsi_lun_state){ s.tray_open, s.locked, s.changed, s.eject_asked, s.no_medium, s.attention, s.sense };
	/* By address: disks may have come in another order than they were made in here. */
	u = vscsi_find(v, s.target, s.number);
	if (!u)
		return err_set(e, -EINVAL, "saved state of adapter %s has a disk at %u:%u, where there is none", v->d.id, s.target, s.number);
	if (s.cd != u->lun.cd || s.size != u->lun.disk.node->i.size)
		return err_set(e, -EINVAL, "saved state of adapter %s has another disk at %u:%u", v->d.id, u->target, u->number);
	u->subscribed = u->lun.cd ? s.subscribed & EVT_MEDIA_CHANGE : 0;
	return scsi_lun_set(&u->lun, &l) ? err_set(e, -EINVAL, "saved state of adapter %s: the drive at %u:%u has %s medium here", v->d.id,
						   u->target, u->number, s.no_medium ? "a" : "no") : 0;
}

static uint32_t count_again(const struct virtio_scsi *v)
{
	uint32_t n = v->n_again;

	for (unsigned i = 0; i < v->n_units; i++)
		n += disk_kept(&v->unit[i]->lun.disk);
	list_for_each(p, &v->tmfs)
		n++;
	return n;
}

static void add_pair(uint8_t *p, uint32_t *i, uint16_t queue, uint16_t head)
{
	st_le16(p + *i * PAIR, queue);
	st_le16(p + *i * PAIR + 2, head);
	++*i;
}

static int save_again(struct virtio_scsi *v, uint32_t n, struct snap_out *o)
{
	uint8_t *p = malloc(n * PAIR);
	uint32_t i = v->n_again;
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	if (i)
		memcpy(p, v->again, i * PAIR);
	for (unsigned u = 0; u < v->n_units; u++)
		for (struct disk_req *q = v->unit[u]->lun.disk.kept; q; q = q->next)
			add_pair(p, &i, vscsi_req_of(q)->queue, vscsi_req_of(q)->head);
	list_for_each(t, &v->tmfs)
		add_pair(p, &i, Q_CONTROL, list_entry(t, struct vscsi_tmf, node)->head);
	name_of(v, "retry", 0, id, sizeof(id));
	ret = snap_put_blob(o, id, p, n * PAIR);
	free(p);
	return ret;
}

int vscsi_save(struct virtio_dev *d, struct snap_out *o)
{
	struct virtio_scsi *v = to_scsi(d);
	const struct state s = { v->cfg.sense_size, v->cfg.cdb_size, v->n_units, count_again(v), v->events_missed };
	int ret = snap_put(o, d->id, &table, &s);

	for (unsigned i = 0; i < v->n_units && !ret; i++)
		ret = save_unit(v, i, o);
	return ret || !s.n_again ? ret : save_again(v, s.n_again, o);
}

static int load_again(struct virtio_scsi *v, uint32_t n, struct snap_in *in, struct err *e)
{
	char id[48];
	int ret;

	if (!n)
		return 0;
	if (n > v->d.n_queues * VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "saved state of adapter %s is damaged: %u requests are to be repeated", v->d.id, n);
	v->again = malloc(n * PAIR);
	if (!v->again)
		return err_set(e, -ENOMEM, "out of memory");
	name_of(v, "retry", 0, id, sizeof(id));
	ret = snap_get_blob(in, id, v->again, n * PAIR, &v->n_again, e);
	v->n_again = ret ? 0 : v->n_again / PAIR;
	return ret;
}

/* The device was reset before. */
int vscsi_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct virtio_scsi *v = to_scsi(d);
	struct state s = { 0 };
	int ret = snap_get(in, d->id, &table, &s, e);

	if (ret)
		return ret;
	if (s.n_units != v->n_units || s.sense_size > SENSE_MAX || !s.cdb_size || s.cdb_size > CDB_MAX)
		return err_set(e, -EINVAL, "saved state of adapter %s is damaged, or of other disks", d->id);
	v->cfg.sense_size = s.sense_size;
	v->cfg.cdb_size = s.cdb_size;
	v->events_missed = s.events_missed & 1;
	for (unsigned i = 0; i < v->n_units && !ret; i++)
		ret = load_unit(v, i, in, e);
	return ret ? ret : load_again(v, s.n_again, in, e);
}
