// SPDX-License-Identifier: GPL-2.0-or-later
/* Shared folders: -fsdev with its -device virtio-9p-pci, and -virtfs, which is both in one. */
#include <errno.h>
#include <string.h>

#include "qemu/qemu.h"

static int check_driver(const struct qemu_item *it, struct err *e)
{
	const char *driver = props_peek(&it->p, "fsdriver");

	return driver && !strcmp(driver, "local") ? 0 :
		err_set(e, -ENOTSUP, "driver '%.40s' is not supported; local is", driver ? driver : "");
}

int opt_fsdev(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	int ret;

	if (wants_help(q, "fsdev", val))
		return -EAGAIN;
	ret = item_add(q, &q->fsdevs, "-fsdev", "fsdriver", val, e);
	if (ret)
		return ret;
	it = list_entry(q->fsdevs.prev, struct qemu_item, node);
	return it->id ? check_driver(it, e) : err_set(e, -EINVAL, "id is missing");
}

int opt_virtfs(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "virtfs", val))
		return -EAGAIN;
	return item_add(q, &q->virtfs, "-virtfs", "fsdriver", val, e) ? -EINVAL :
		check_driver(list_entry(q->virtfs.prev, struct qemu_item, node), e);
}

/* The folder's properties; tag is the device's. */
static int emit_share(struct qemu *q, struct qemu_item *it, const char *tag, struct err *e)
{
	const char *path = props_take(&it->p, "path"), *model = props_take(&it->p, "security_model"), *v;
	bool readonly = false;
	int ret = props_bool(&it->p, "readonly", &readonly, e);

	props_take(&it->p, "fsdriver");
	if (ret)
		return ret;
	if (!path || !tag)
		return err_set(e, -EINVAL, "%s is missing", path ? "mount_tag" : "path");
	if (!model)
		return err_set(e, -EINVAL, "security_model is missing: none, mapped-xattr, mapped-file or passthrough");
	emit_begin(q, "--share");
	emit_part(q, NULL, path);
	emit_part(q, "tag", tag);
	emit_part(q, "security-model", model);
	if (readonly)
		emit_part(q, "readonly", "on");
	for (unsigned i = 0; i < 4; i++) {
		static const char *const same[] = { "writeout", "multidevs", "fmode", "dmode" };

		v = props_take(&it->p, same[i]);
		emit_part(q, same[i], v);
	}
	emit_end(q);
	return props_done(&it->p, e);
}

int emit_fsdev(struct qemu *q, struct qemu_item *dev, struct err *e)
{
	const char *id = props_take(&dev->p, "fsdev"), *tag = props_take(&dev->p, "mount_tag");
	struct qemu_item *it = item_find(&q->fsdevs, id);
	int ret;

	if (!it)
		return err_set(e, -ENOENT, "there is no fsdev '%.60s'", id ? id : "");
	if (it->used)
		return err_set(e, -EBUSY, "fsdev '%.60s' is already in use", id);
	it->used = true;
	ret = emit_share(q, it, tag, e);
	return ret ? err_prefix(e, ret, "-fsdev %s", id) : 0;
}

int emit_virtfs(struct qemu *q, struct err *e)
{
	list_for_each(n, &q->virtfs) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		int ret = emit_share(q, it, props_take(&it->p, "mount_tag"), e);

		if (ret)
			return err_prefix(e, ret, "-virtfs");
	}
	return 0;
}
