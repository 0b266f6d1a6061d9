// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices that another process serves (vhost-user): -device with a -chardev that is its socket. */
#include <errno.h>
#include <string.h>

#include "qemu/qemu.h"

/* Begins the argument, with what is the same for all. */
static int begin(struct qemu *q, struct qemu_item *dev, const char *option, const char *what, const char *queues, struct err *e)
{
	const char *id = props_take(&dev->p, "chardev"), *path, *again;
	bool server;
	int ret;

	if (!id)
		return err_set(e, -EINVAL, "chardev is missing");
	ret = char_socket_parts(q, id, &path, &server, &again, e);
	if (ret)
		return ret;
	emit_begin(q, option);
	emit_part(q, NULL, keepf(q, "%s=%s", what, path));
	emit_part(q, "server", server ? "on" : NULL);
	emit_part(q, "reconnect", again);
	emit_part(q, "num-queues", props_take(&dev->p, queues));
	emit_part(q, "queue-size", props_take(&dev->p, "queue-size"));
	return 0;
}

int emit_vhost_disk(struct qemu *q, struct qemu_item *dev, struct err *e)
{
	int ret = begin(q, dev, "--disk", "vhost-user", "num-queues", e);

	if (ret)
		return ret;
	emit_part(q, "bootindex", props_take(&dev->p, "bootindex"));
	emit_part(q, "bus", slot_of(q, props_take(&dev->p, "bus")));
	emit_end(q);
	warn_fixed(&dev->p, "-device vhost-user-blk-pci", (const struct qemu_fixed[]){ { "config-wce", "off" }, { NULL, NULL } });
	props_ignore(&dev->p, (const char *const[]){ "config-wce", NULL });
	return 0;
}

int emit_vhost_fs(struct qemu *q, struct qemu_item *dev, struct err *e)
{
	const char *tag = props_take(&dev->p, "tag");
	int ret = tag ? begin(q, dev, "--share", "virtiofs", "num-request-queues", e) : err_set(e, -EINVAL, "tag is missing");

	if (ret)
		return ret;
	emit_part(q, "tag", tag);
	emit_end(q);
	return 0;
}
