/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk or CD drive on USB (Mass Storage Class, Bulk-Only Transport 1.0), which
 * speaks SCSI (storage/scsi.h); SuperSpeed.
 */
#ifndef LODGE_DEVICE_USB_STORAGE_H
#define LODGE_DEVICE_USB_STORAGE_H

#include "storage/disk.h"
#include "usb/usb.h"

/* Not plugged in yet; the machine owns it, and on success the node is the device's.  o->io must be NULL: the node is on
 * the machine's loop.  Machine lock held. EINVAL (options), ENOMEM */
int usb_storage_new(struct machine *m, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o, struct usb_device **out,
		    struct err *e);
struct disk *usb_storage_disk(struct usb_device *d);

#endif
