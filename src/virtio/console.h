/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console device (virtio 1.2, 5.3): one console, or several named ports. */
#ifndef LODGE_VIRTIO_CONSOLE_H
#define LODGE_VIRTIO_CONSOLE_H

#include "chardev/chardev.h"
#include "virtio/device.h"

#define VIRTIO_CONSOLE_MAX_PORTS 31

struct virtio_console_port {
	struct chardev *chr;		/* stays the caller's, must outlive the device; NULL: nothing connected */
	const char *name;		/* /dev/virtio-ports/NAME in Linux; copied; NULL: none */
	bool console;			/* an hvc console, not just a byte channel */
	bool absent;			/* only a place for one that may come */
};

/* Port 0 is the console of drivers that know no ports.  multiport is implied by
 * n > 1.  Machine lock held. */
int virtio_console_new(struct machine *m, const char *id, const struct virtio_console_port *ports, unsigned n,
		       bool multiport, struct virtio_dev **out, struct err *e);
/* A port for a place that has none, and away with it, while the guest runs.  The chardev stays the caller's.
 * -EINVAL: no such place; -EEXIST, -ENOENT; -ENOTSUP: not multiport.  Machine lock held. */
int virtio_console_add_port(struct virtio_dev *d, unsigned port, const struct virtio_console_port *cfg);
int virtio_console_remove_port(struct virtio_dev *d, unsigned port);
/* The machine's watcher is told when the guest opens and closes ports: MACHINE_EV_PORT_CHANGE. */
void virtio_console_tells(struct virtio_dev *d);
/* Size of a port's terminal in characters, when its back end does not tell. */
void virtio_console_resize(struct virtio_dev *d, unsigned port, uint16_t cols, uint16_t rows);
/* Has the guest opened the port (a console: is it in use)? */
bool virtio_console_port_open(struct virtio_dev *d, unsigned port);

#endif
