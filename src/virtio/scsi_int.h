/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the virtio-scsi device share: scsi.c is the device and its
 * units, scsi_req.c takes and answers commands, scsi_ctrl.c has the control queue
 * (task management, subscriptions) and events, scsi_snap.c saved state.
 *
 * All is protected by the device's lock (virtio/device.h).  Numbers are sections
 * of virtio 1.2.
 */
#ifndef LODGE_VIRTIO_SCSI_INT_H
#define LODGE_VIRTIO_SCSI_INT_H

#include "base/list.h"
#include "virtio/scsi.h"

#define F_HOTPLUG (1ull << 1)
#define F_CHANGE (1ull << 2)

enum { Q_CONTROL, Q_EVENT, Q_REQUEST };

/* 5.6.4 */
struct vscsi_config {
	uint32_t num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size, cdb_size;
	uint16_t max_channel, max_target;
	uint32_t max_lun;
};
_Static_assert(sizeof(struct vscsi_config) == 36, "virtio 1.2, 5.6.4");

#define SENSE_DEFAULT 96u
#define SENSE_MAX 65535u
#define CDB_DEFAULT 32u
#define CDB_MAX 255u

/* 5.6.6.1 and 5.6.6.2: responses */
enum {
	S_OK = 0, S_ABORTED = 2, S_BAD_TARGET = 3, S_RESET = 4, S_BUSY = 5, S_FAILURE = 9, S_FUNCTION_SUCCEEDED = 10, S_FUNCTION_REJECTED = 11,
	S_INCORRECT_LUN = 12,
};

/* 5.6.6.3 */
enum { T_NO_EVENT = 0, T_TRANSPORT_RESET = 1, T_ASYNC_NOTIFY = 2, T_PARAM_CHANGE = 3 };
#define T_EVENTS_MISSED BIT(31)
enum { RESET_HARD = 0, RESET_RESCAN = 1, RESET_REMOVED = 2 };
#define EVT_MEDIA_CHANGE 2u

struct vscsi_unit {
	struct scsi_lun lun;
	struct virtio_scsi *v;
	uint8_t target;
	uint16_t number;
	uint32_t subscribed;		/* EVT_*: asked for by the driver */
	struct list reqs;		/* struct vscsi_req, oldest first */
	struct list waits;		/* struct vscsi_wait, oldest first */
};

/* A command; the pieces of the guest's memory follow: data to the device, data from it, the response. */
struct vscsi_req {
	struct scsi_req s;
	struct virtio_scsi *v;
	struct vscsi_unit *u;		/* that the command is for, or one of its target */
	struct list node;
	uint64_t id, seq;		/* the driver's name for it; ours */
	uint16_t queue, head;
	unsigned n_resp;
	struct iovec *resp;
	struct iovec iov[];
};

/* A task management function that waits for what is under way. */
struct vscsi_wait {
	struct vscsi_tmf *t;
	struct list node;
	uint64_t before;		/* commands with lower numbers */
};

struct vscsi_tmf {
	struct list node;
	uint16_t head;
	uint8_t *resp;
	bool reset;			/* units are reset when it is done */
	unsigned left, n;
	struct vscsi_wait wait[];
};

struct virtio_scsi {
	struct virtio_dev d;
	struct vscsi_config cfg;
	unsigned n_units;
	struct vscsi_unit *unit[VIRTIO_SCSI_MAX_UNITS];
	struct list tmfs;		/* struct vscsi_tmf that wait */
	uint64_t seq;
	uint64_t flush_queues;		/* bit q: used ring grew, interrupt not yet considered */
	bool events_missed;
	uint8_t *again;			/* what saved state says is to be repeated: pairs of queue and head */
	uint32_t n_again;
	struct vq_chain chain;		/* scratch of kick, resume and events: a command has its own copy before it is begun */
};

static inline struct virtio_scsi *to_scsi(struct virtio_dev *d)
{
	return container_of(d, struct virtio_scsi, d);
}

/* scsi.c */
struct vscsi_unit *vscsi_find(struct virtio_scsi *v, unsigned target, unsigned lun);
/* 5.6.6.1: what the 8 bytes of an address say; false: they are of no form that is taken here. */
bool vscsi_parse_lun(const uint8_t *p, unsigned *target, unsigned *lun);
/* Copies to guest memory. */
void vscsi_put(struct virtio_scsi *v, const struct iovec *iov, unsigned n, const void *buf, size_t len);
void vscsi_flush(struct virtio_scsi *v);
/* Looks at a chain as if it had just been got from queue q. 0 or -EPROTO */
int vscsi_handle(struct virtio_scsi *v, unsigned q, const struct vq_chain *c);

/* scsi_req.c */
int vscsi_request(struct virtio_scsi *v, unsigned q, const struct vq_chain *c);
/* Answers without a status of the target; frees the request. */
void vscsi_abort(struct vscsi_req *r, uint8_t response);
/* Frees a request that nobody answers any more. */
void vscsi_drop(struct disk_req *q);
static inline struct vscsi_req *vscsi_req_of(struct disk_req *q)
{
	return container_of(q, struct vscsi_req, s.q);
}

/* scsi_ctrl.c */
int vscsi_control(struct virtio_scsi *v, const struct vq_chain *c);
/* A command of the unit has ended: who waited for it? */
void vscsi_settled(struct vscsi_unit *u);
/* Forgets functions that wait. */
void vscsi_forget_tmfs(struct virtio_scsi *v);
void vscsi_event(struct virtio_scsi *v, const struct vscsi_unit *u, uint32_t event, uint32_t reason);
/* The driver has given new buffers for events. */
void vscsi_event_kick(struct virtio_scsi *v);

/* scsi_snap.c */
int vscsi_save(struct virtio_dev *d, struct snap_out *o);
int vscsi_load(struct virtio_dev *d, struct snap_in *in, struct err *e);
/* Submits what was kept. */
void vscsi_retry(struct virtio_scsi *v);
/* Forgets what was kept of queue q, or of all (-1). */
void vscsi_forget(struct virtio_scsi *v, int q);

#endif
