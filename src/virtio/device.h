/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device as the transports (virtio/pci.c, virtio/mmio.c) see it.
 *
 * The device file (blk.c, net.c ...) fills virtio_dev_ops and embeds struct
 * virtio_dev first.  The transport owns the registers; virtio/device.c holds
 * the status machine (virtio 1.2, 2.1 and 3.1), feature negotiation, queues and
 * doorbells.  Doorbells (queue notify) arrive as eventfds on the machine's
 * loop, so vCPUs do not wait for device work.  Machine lock held everywhere.
 *
 * A device may work on an I/O thread (machine/iothread.h) instead: its doorbells
 * are on that one's loop, and kick and completions run there with the I/O
 * thread's lock alone.  That lock protects the queues and what the device
 * documents; the functions for transports take it, inside the machine lock, and
 * call all of virtio_dev_ops with both.  Interrupts are then raised a moment
 * later, with both locks held.  "The device's lock" is the I/O thread's, or
 * without one the machine's.
 */
#ifndef LODGE_VIRTIO_DEVICE_H
#define LODGE_VIRTIO_DEVICE_H

#include "machine/iothread.h"
#include "machine/machine.h"
#include "virtio/queue.h"

#define VIRTIO_MAX_QUEUES 64

#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_RING_RESET (1ull << 40)

#define VIRTIO_S_ACKNOWLEDGE 1
#define VIRTIO_S_DRIVER 2
#define VIRTIO_S_DRIVER_OK 4
#define VIRTIO_S_FEATURES_OK 8
#define VIRTIO_S_NEEDS_RESET 64
#define VIRTIO_S_FAILED 128

struct virtio_dev;

struct virtio_dev_ops {
	const char *name;		/* "virtio-blk" */
	uint16_t device_id;		/* virtio 1.2, 5: net 1, blk 2, console 3, rng 4, balloon 5 */
	uint32_t pci_class;		/* 24 bits, for the PCI transport */
	/* Device configuration space. Offsets are inside config_len. */
	void (*config_read)(struct virtio_dev *, uint32_t off, void *buf, unsigned len);
	void (*config_write)(struct virtio_dev *, uint32_t off, const void *buf, unsigned len); /* may be NULL */
	/* FEATURES_OK was accepted: driver_features is valid. */
	void (*features_ok)(struct virtio_dev *);		/* may be NULL */
	/* DRIVER_OK: queues that are ready may be used. */
	void (*start)(struct virtio_dev *);			/* may be NULL */
	/* The driver kicked queue q (or it should be looked at after start and resume).
	 * A driver that refills as fast as the device empties must not hold the
	 * loop: do a bounded batch, then virtio_dev_ring(q) and return. */
	void (*kick)(struct virtio_dev *, unsigned q);
	/* Device reset: forget requests in flight.  Requests that the host side
	 * cannot cancel must not touch guest memory of a later life: drain them. */
	void (*reset)(struct virtio_dev *);
	/* Queue q alone is reset (VIRTIO_F_RING_RESET, offered if this is set): forget
	 * what is held of it.  Requests in flight were drained by pause before. */
	void (*queue_reset)(struct virtio_dev *, unsigned q);	/* may be NULL */
	void (*pause)(struct virtio_dev *);			/* may be NULL: drain */
	void (*resume)(struct virtio_dev *);			/* may be NULL */
	int (*save)(struct virtio_dev *, struct snap_out *);	/* may be NULL */
	int (*load)(struct virtio_dev *, struct snap_in *, struct err *); /* may be NULL */
	void (*free)(struct virtio_dev *);			/* frees the whole device */
};

/* How the transport raises interrupts. */
struct virtio_transport_ops {
	void (*queue_irq)(void *opaque, unsigned q);
	void (*config_irq)(void *opaque);
	/* Doorbells for exactly the queues that are ready (true), or none. */
	void (*doorbells)(void *opaque, bool on);
};

struct virtio_dev {
	const struct virtio_dev_ops *ops;
	struct machine *m;
	char id[32];
	uint64_t host_features;		/* offered; transports add nothing */
	uint64_t driver_features;
	uint32_t config_len;
	uint8_t status;
	uint8_t config_generation;
	bool started;			/* DRIVER_OK and not broken */
	bool paused;
	unsigned n_queues;
	struct vq vq[VIRTIO_MAX_QUEUES];
	struct loop_fd kick_fd[VIRTIO_MAX_QUEUES];
	struct iothread *io;		/* set before virtio_dev_init; NULL: works on the machine's loop */
	/* With an I/O thread: what is to be told to the guest, by irq_work. */
	uint64_t irq_queues;
	bool broken_untold;
	struct iothread_work irq_work;
	const struct virtio_transport_ops *transport;
	void *transport_opaque;
};

/* For device files. queue_sizes: max size of each queue, powers of two.  VERSION_1,
 * INDIRECT_DESC, EVENT_IDX (and RING_RESET with ops->queue_reset) are always offered. */
int virtio_dev_init(struct virtio_dev *d, struct machine *m, const struct virtio_dev_ops *ops,
		    const char *id, uint64_t features, uint32_t config_len,
		    unsigned n_queues, const uint16_t *queue_sizes);
/* The device's lock held. */
void virtio_dev_fini(struct virtio_dev *d);
/* The guest broke the protocol: sets NEEDS_RESET, stops the queues, tells the driver.  The device's lock held. */
void virtio_dev_broken(struct virtio_dev *d, const char *why);
/* The same where the driver is not to blame, and who is has been said. */
void virtio_dev_fail(struct virtio_dev *d);
/* Does w with the machine lock and the device's held: at once if there is no I/O thread, else soon.
 * The device's lock held; w is cancelled when the device is reset or gone. */
void virtio_dev_defer(struct virtio_dev *d, struct iothread_work *w);
void virtio_dev_cancel(struct virtio_dev *d, struct iothread_work *w);
/* The device's lock, for functions of device files that are called with the machine's. */
static inline void virtio_dev_lock(struct virtio_dev *d)
{
	iothread_lock(d->io);
}
static inline void virtio_dev_unlock(struct virtio_dev *d)
{
	iothread_unlock(d->io);
}
/* Configuration space changed: generation++, configuration interrupt.  Both locks held. */
void virtio_dev_config_changed(struct virtio_dev *d);
static inline bool virtio_has(const struct virtio_dev *d, uint64_t feature)
{
	return (d->driver_features & feature) == feature;
}

/* For transports. */
void virtio_dev_reset(struct virtio_dev *d);
void virtio_dev_set_status(struct virtio_dev *d, uint8_t status);
void virtio_dev_set_driver_features(struct virtio_dev *d, uint64_t f);
/* queue_enable: the transport filled vq.desc/avail/used/size. */
void virtio_dev_queue_enable(struct virtio_dev *d, unsigned q, bool on);
/* RING_RESET: drains, forgets and disables queue q. */
void virtio_dev_queue_reset(struct virtio_dev *d, unsigned q);
/* Rings queue q from a vCPU thread or the transport: what a doorbell does. */
void virtio_dev_ring(struct virtio_dev *d, unsigned q);
void virtio_dev_config_access(struct virtio_dev *d, uint32_t off, void *buf, unsigned len, bool write);
/* Kicks are held back in between; resume looks at every queue. */
void virtio_dev_pause(struct virtio_dev *d);
void virtio_dev_resume(struct virtio_dev *d);

/* Transports: the device is owned by the transport from here on. */
struct pci_bus;
struct pci_part;
int virtio_pci_new(struct machine *m, struct pci_bus *bus, int devfn, struct virtio_dev *d, struct err *e);
/* A VGA beside it in one card, as virtio-vga is: class 0x030000, the part's registers in front of virtio's, in BAR 2.  The part
 * is taken over (on an error it is freed). */
int virtio_pci_new_vga(struct machine *m, struct pci_bus *bus, int devfn, struct virtio_dev *d, const struct pci_part *part,
		       struct err *e);
int virtio_mmio_new(struct machine *m, uint64_t base, const struct irq *wire, struct virtio_dev *d, struct err *e);
#define VIRTIO_MMIO_SIZE 0x200

/* Snapshots of the common part, used by the transports. */
int virtio_dev_save(struct virtio_dev *d, struct snap_out *o);
int virtio_dev_load(struct virtio_dev *d, struct snap_in *in, struct err *e);

#endif
