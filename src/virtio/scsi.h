/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-scsi (virtio 1.2, 5.6): a host bus adapter with disks and CD drives at
 * addresses of target and LUN.
 */
#ifndef LODGE_VIRTIO_SCSI_H
#define LODGE_VIRTIO_SCSI_H

#include "storage/scsi.h"
#include "virtio/device.h"

#define VIRTIO_SCSI_TARGETS 256
#define VIRTIO_SCSI_LUNS 16384			/* of one target */
#define VIRTIO_SCSI_MAX_QUEUES (VIRTIO_MAX_QUEUES - 2)
#define VIRTIO_SCSI_MAX_UNITS 256		/* of one adapter */

struct virtio_scsi_opts {
	struct iothread *io;			/* whose loop the disks' nodes are on; NULL: the machine's */
	unsigned queues;			/* of requests, 0: one */
	uint16_t queue_size;			/* power of two, 8 to 1024; 0: 256 */
};

/* An adapter without disks.  Machine lock held, and that of o->io not. EINVAL, ENOMEM, with a message */
int virtio_scsi_new(struct machine *m, const char *id, const struct virtio_scsi_opts *o, struct virtio_dev **out, struct err *e);

/* All below: machine lock held, the I/O thread's not. */

/* Puts a disk or a CD drive at an address; a driver that runs is told (5.6.6.3).  The I/O thread of `o` is not looked at: it
 * is the adapter's.  On success the node is the adapter's, and closed with it.  EEXIST: the address is taken. EINVAL, ENOSPC, ENOMEM */
int virtio_scsi_add(struct virtio_dev *d, unsigned target, unsigned lun, const char *id, struct blk_node *node, bool cd,
		    const struct disk_opts *o, struct err *e);
/* Takes a disk away and frees it; what is under way is answered before, and a driver that runs is told. */
void virtio_scsi_remove(struct virtio_dev *d, struct disk *disk);
/* The address of a disk; false: it is none of this adapter's. */
bool virtio_scsi_place(struct virtio_dev *d, const struct disk *disk, unsigned *target, unsigned *lun);
/* NULL: there is nothing. */
struct scsi_lun *virtio_scsi_unit(struct virtio_dev *d, unsigned target, unsigned lun);

#endif
