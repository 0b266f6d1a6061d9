// SPDX-License-Identifier: GPL-2.0-or-later
/* Drives, block nodes, and the devices that they are put into. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"

/* ---- options ---- */

int opt_drive(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "drive", val))
		return -EAGAIN;
	return item_add(q, &q->drives, "-drive", NULL, val, e);
}

int opt_blockdev(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	const char *name;
	int ret;

	if (wants_help(q, "blockdev", val))
		return -EAGAIN;
	ret = item_add(q, &q->blockdevs, "-blockdev", "driver", val, e);
	if (ret)
		return ret;
	it = list_entry(q->blockdevs.prev, struct qemu_item, node);
	name = props_take(&it->p, "node-name");
	if (!name || item_find(&q->blockdevs, name))
		return err_set(e, -EINVAL, name ? "there are two with the node-name '%.60s'" : "node-name is missing", name);
	it->id = name;
	return 0;
}

static int image(struct qemu *q, const char *file, const char *rest, struct err *e)
{
	char *text = NULL, *to;
	size_t len = strlen(file) * 2 + strlen(rest) + 8;
	int ret;

	to = text = malloc(len);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	to += sprintf(to, "file=");
	for (; *file; file++) {
		if (*file == ',')
			*to++ = ',';
		*to++ = *file;
	}
	sprintf(to, "%s", rest);
	ret = opt_drive(q, text, e);
	free(text);
	return ret;
}

int opt_fda(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",if=floppy,index=0", e); }
int opt_fdb(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",if=floppy,index=1", e); }
int opt_hda(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",index=0,media=disk", e); }
int opt_hdb(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",index=1,media=disk", e); }
int opt_hdc(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",index=2,media=disk", e); }
int opt_hdd(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",index=3,media=disk", e); }
int opt_cdrom(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",index=2,media=cdrom", e); }
int opt_pflash(struct qemu *q, const char *val, struct err *e) { return image(q, val, ",if=pflash", e); }

int opt_add_fd(struct qemu *q, const char *val, struct err *e)
{
	uint64_t fd, set;
	bool has_fd = false, has_set = false;
	struct props *p;
	int ret = item_add(q, &q->fdsets, "-add-fd", NULL, val, e);

	if (ret)
		return ret;
	p = &list_entry(q->fdsets.prev, struct qemu_item, node)->p;
	ret = props_number(p, "fd", 0, INT_MAX, &fd, &has_fd, e);
	if (!ret)
		ret = props_number(p, "set", 0, INT_MAX, &set, &has_set, e);
	if (!ret && (!has_fd || !has_set))
		ret = err_set(e, -EINVAL, "fd= and set= are needed");
	props_take(p, "opaque");
	return ret ? ret : props_done(p, e);
}

/* "/dev/fdset/N": the first descriptor of that set, opened anew. */
const char *drive_path(struct qemu *q, const char *file)
{
	const char *prefix = "/dev/fdset/";

	if (!strncmp(file, "file:", 5))
		file += 5;
	if (strncmp(file, prefix, strlen(prefix)))
		return file;
	list_for_each(n, &q->fdsets) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		const char *set = props_peek(&it->p, "set"), *fd = props_peek(&it->p, "fd");

		if (set && fd && !strcmp(set, file + strlen(prefix)))
			return keepf(q, "/proc/self/fd/%s", fd);
	}
	return file;
}

/* ---- what a drive has for `lodge run --disk` ---- */

struct disk {
	const char *node;		/* in place of the file; NULL: none */
	const char *file, *format, *interface, *cache, *aio, *serial, *controller, *bootindex, *scsi_id, *lun, *bus, *slot, *id;
	bool cd, ro, snapshot;
	struct props *more[2];		/* of drive and device: the rest */
};

static const struct {
	const char *theirs, *ours;
} disk_words[] = {
	{ "discard", "discard" }, { "rerror", "rerror" }, { "werror", "werror" }, { "copy-on-read", "copy-on-read" },
	{ "num-queues", "num-queues" }, { "logical_block_size", "logical-block-size" }, { "physical_block_size", "physical-block-size" },
	{ "min_io_size", "min-io-size" }, { "opt_io_size", "opt-io-size" }, { "discard_granularity", "discard-granularity" },
	{ "bps", "bps" }, { "bps_rd", "bps-rd" }, { "bps_wr", "bps-wr" }, { "iops", "iops" }, { "iops_rd", "iops-rd" }, { "iops_wr", "iops-wr" },
	{ "bps_max", "bps-max" }, { "bps_rd_max", "bps-rd-max" }, { "bps_wr_max", "bps-wr-max" }, { "iops_max", "iops-max" },
	{ "iops_rd_max", "iops-rd-max" }, { "iops_wr_max", "iops-wr-max" }, { "iops_size", "iops-size" }, { "iothread", "iothread" },
	{ "throttling.bps-total", "bps" }, { "throttling.iops-total", "iops" }, { "throttling.group", "throttle-group" }, { "group", "throttle-group" },
	{ "throttling.bps-read", "bps-rd" }, { "throttling.bps-write", "bps-wr" }, { "throttling.iops-read", "iops-rd" }, { "throttling.iops-write", "iops-wr" },
	{ "throttling.bps-total-max", "bps-max" }, { "throttling.bps-read-max", "bps-rd-max" }, { "throttling.bps-write-max", "bps-wr-max" },
	{ "throttling.iops-total-max", "iops-max" }, { "throttling.iops-read-max", "iops-rd-max" }, { "throttling.iops-write-max", "iops-wr-max" },
	{ "throttling.bps-total-max-length", "bps-max-length" }, { "throttling.bps-read-max-length", "bps-rd-max-length" },
	{ "throttling.bps-write-max-length", "bps-wr-max-length" }, { "throttling.iops-total-max-length", "iops-max-length" },
	{ "throttling.iops-read-max-length", "iops-rd-max-length" }, { "throttling.iops-write-max-length", "iops-wr-max-length" },
	{ "throttling.iops-size", "iops-size" },
};

/* What makes no difference to the guest, or is so in any case. */
static const char *const disk_same[] = {
	"detect-zeroes", "write-cache", "scsi", "config-wce", "addr", "bus", "disable-legacy", "disable-modern", "packed", "ioeventfd", "event_idx",
	"indirect_desc", "iommu_platform", "ats", "queue-size", "use-intel-id", "share-rw", "auto-read-only", "force-share", "locking", "if",
	"index", "unit", "media", "product", "vendor", "ver", "removable", "rotation_rate", "channel", "device_id", "model", "wwn",
	"discard-zeroes", "account-invalid", "account-failed", "multifunction", "page-per-vq", "failover_pair_id", "romfile", "rombar", NULL,
};

static void take_words(struct qemu *q, struct props *p, bool device)
{
	for (unsigned i = 0; i < ARRAY_LEN(disk_words); i++) {
		const char *v = props_take(p, disk_words[i].theirs);

		if (device && !strcmp(disk_words[i].ours, "discard"))
			continue;
		if (v && !strcmp(disk_words[i].ours + 1, "error") && !strcmp(v, "auto"))
			continue;
		emit_part(q, v ? disk_words[i].ours : NULL, v);
	}
}

/* What a drive is asked for and does not do. */
static const struct qemu_fixed drive_fixed[] = { { "detect-zeroes", "off" }, { NULL, NULL } };

static const char *aio_word(const char *theirs)
{
	return !strcmp(theirs, "io_uring") ? "uring" : !strcmp(theirs, "native") ? "auto" : theirs;
}

/* QEMU's cache modes, or its switches. */
static int take_cache(struct props *p, struct disk *d, struct err *e)
{
	bool direct = false, no_flush = false, writeback = true;
	const char *v = props_take(p, "cache"), *device = props_take(p, "write-cache");
	int ret = props_bool(p, "cache.direct", &direct, e);

	if (!ret)
		ret = props_bool(p, "cache.no-flush", &no_flush, e);
	if (!ret)
		ret = props_bool(p, "cache.writeback", &writeback, e);
	if (!ret && device && strcmp(device, "auto"))
		ret = props_switch(device, &writeback, e);
	if (v && !strcmp(v, "directsync")) {
		warn("cache=directsync is cache=none: the guest has to flush what it writes");
		v = "none";
	}
	if (v)
		d->cache = v;
	else if (no_flush || direct)
		d->cache = no_flush ? "unsafe" : "none";
	/* What is written is there, without a flush; whether past the host's cache matters less. */
	if (!writeback && (!d->cache || strcmp(d->cache, "unsafe")))
		d->cache = "writethrough";
	v = props_take(p, "aio");
	if (v)
		d->aio = aio_word(v);
	return ret;
}

/* Of several that say it, one is enough. */
static int take_ro(struct props *p, const char *name, struct disk *d, struct err *e)
{
	bool on = false;
	int ret = props_bool(p, name, &on, e);

	d->ro |= on;
	return ret;
}

static int take_common(struct qemu *q, struct props *p, struct disk *d, struct err *e)
{
	const char *v;
	int ret = take_cache(p, d, e);

	if (!ret)
		ret = take_ro(p, "readonly", d, e);
	if (!ret)
		ret = take_ro(p, "read-only", d, e);
	if (!ret)
		ret = props_bool(p, "snapshot", &d->snapshot, e);
	if ((v = props_take(p, "serial")))
		d->serial = v;
	if ((v = props_take(p, "bootindex")))
		d->bootindex = v;
	return ret;
}

static void emit_disk(struct qemu *q, const struct disk *d)
{
	/* A device's switch: "on" is so anyway, unless the drive has something to say. */
	const char *discard = d->more[0] ? props_take(d->more[0], "discard") : NULL;
	bool on = true;

	emit_begin(q, "--disk");
	if (d->node)
		emit_raw(q, "node=");
	emit_part(q, NULL, d->node ? d->node : d->file ? d->file : "");
	emit_part(q, "if", d->interface);
	if (d->cd)
		emit_part(q, "cdrom", "on");
	else if (d->ro)
		emit_part(q, "ro", "on");
	emit_part(q, "format", d->format);
	if (d->snapshot && !d->cd && !d->ro)
		emit_part(q, "snapshot", "on");
	/* The user names the image, and may use any file as its backing file. */
	if (d->file)
		emit_part(q, "backing", "on");
	emit_part(q, "cache", d->cache);
	emit_part(q, "aio", d->aio);
	emit_part(q, "serial", d->serial);
	emit_part(q, "controller", d->controller);
	emit_part(q, "scsi-id", d->scsi_id);
	emit_part(q, "lun", d->lun);
	emit_part(q, "bootindex", d->bootindex);
	emit_part(q, "bus", d->bus);
	emit_part(q, "slot", d->slot);
	emit_part(q, "id", d->id);
	for (unsigned i = 0; i < 2; i++)
		if (d->more[i])
			take_words(q, d->more[i], !i);
	if (discard && !props_switch(discard, &on, NULL) && !on)
		emit_part(q, "discard", "ignore");
	emit_end(q);
}

static int left_over(struct props *p, struct err *e)
{
	props_ignore(p, disk_same);
	return props_done(p, e);
}

static int finish_disk(struct qemu *q, struct disk *d, struct err *e)
{
	int ret = 0;

	emit_disk(q, d);
	for (unsigned i = 0; i < 2 && !ret; i++) {
		if (!d->more[i])
			continue;
		warn_fixed(d->more[i], "a drive", drive_fixed);
		ret = left_over(d->more[i], e);
	}
	return ret;
}

/* ---- flash from -blockdev: a format node over a protocol node, or one that has it inside ---- */

static bool is_protocol(const char *driver)
{
	return !strcmp(driver, "file") || !strcmp(driver, "host_device") || !strcmp(driver, "host_cdrom");
}

static int protocol_file(struct qemu *q, struct props *p, const char *prefix, struct disk *d, struct err *e)
{
	bool direct = false, no_flush = false;
	char name[64];
	const char *v, *driver;
	int ret;

#define IN(x) (snprintf(name, sizeof(name), "%s%s", prefix, x), name)
	driver = props_take(p, IN("driver"));
	if (driver && !is_protocol(driver))
		return err_set(e, -ENOTSUP, "driver=%.40s is not supported; file and host_device are", driver);
	v = props_take(p, IN("filename"));
	if (!v)
		return err_set(e, -EINVAL, "%sfilename is missing", prefix);
	d->file = drive_path(q, v);
	if ((v = props_take(p, IN("aio"))))
		d->aio = aio_word(v);
	for (unsigned i = 0; i < 4; i++)
		props_take(p, IN(((const char *const[]){ "node-name", "locking", "auto-read-only", "discard" }[i])));
	ret = take_ro(p, IN("read-only"), d, e);
	if (!ret)
		ret = props_bool(p, IN("cache.direct"), &direct, e);
	if (!ret)
		ret = props_bool(p, IN("cache.no-flush"), &no_flush, e);
	if (no_flush || direct)
		d->cache = no_flush ? "unsafe" : "none";
#undef IN
	return ret;
}

/* "raw" over or under another format changes nothing. */
static int set_format(struct disk *d, const char *driver, struct err *e)
{
	if (d->format && strcmp(d->format, "raw") && strcmp(driver, "raw"))
		return err_set(e, -ENOTSUP, "%.20s in %.20s is not supported", d->format, driver);
	if (!d->format || !strcmp(d->format, "raw"))
		d->format = driver;
	return 0;
}

static int node_image(struct qemu *q, struct qemu_item *node, struct disk *d, unsigned depth, struct err *e);

/* A format node: what it is stored in is another node, or inside of it. */
static int format_image(struct qemu *q, struct qemu_item *node, struct disk *d, unsigned depth, struct err *e)
{
	const char *driver = props_take(&node->p, "driver"), *file = props_take(&node->p, "file"), *backing = props_take(&node->p, "backing");
	struct qemu_item *below = file ? item_find(&q->blockdevs, file) : NULL;
	int ret = set_format(d, driver, e);

	if (ret)
		return ret;
	if (backing)
		warn("-blockdev %s: backing=%s has no effect: the image says what its backing file is", node->id, backing);
	if (file && !below)
		return err_set(e, -ENOENT, "there is no node '%.40s'", file);
	return below ? node_image(q, below, d, depth + 1, e) : protocol_file(q, &node->p, "file.", d, e);
}

/* The properties of the topmost node are the disk's; the others' are checked here. */
static int node_image(struct qemu *q, struct qemu_item *node, struct disk *d, unsigned depth, struct err *e)
{
	const char *driver = props_peek(&node->p, "driver");
	bool top = !d->more[1];
	int ret;

	node->used = true;
	if (!driver || depth > 4)
		return err_set(e, -EINVAL, "-blockdev %s: %s", node->id, driver ? "too many nodes on each other" : "driver is missing");
	if (top)
		d->more[1] = &node->p;
	ret = take_common(q, &node->p, d, e);
	if (!ret && is_protocol(driver))
		ret = (d->format = d->format ? d->format : "raw", protocol_file(q, &node->p, "", d, e));
	else if (!ret)
		ret = format_image(q, node, d, depth, e);
	if (!ret && !top) {
		props_take(&node->p, "discard");
		ret = left_over(&node->p, e);
	}
	return ret ? err_prefix(e, ret, "-blockdev %s", node->id) : 0;
}

/* ---- from -drive ---- */

static int drive_image(struct qemu *q, struct qemu_item *it, struct disk *d, struct err *e)
{
	const char *v = props_take(&it->p, "file"), *driver = props_take(&it->p, "driver");
	int ret;

	it->used = true;
	d->more[1] = &it->p;
	if (!v)
		v = props_take(&it->p, "file.filename");
	d->format = props_take(&it->p, "format");
	d->format = d->format ? d->format : driver;
	/* The format and the file below it, as libguestfs names its overlays: file.driver=qcow2,file.file.filename=... */
	if (!v && (v = props_take(&it->p, "file.file.filename")) && !d->format)
		d->format = props_peek(&it->p, "file.driver");
	if (v && *v)
		d->file = drive_path(q, v);
	props_take(&it->p, "file.driver");
	props_take(&it->p, "file.file.driver");
	props_take(&it->p, "file.backing.file.locking");	/* as locking= */
	d->snapshot = q->snapshot;
	v = props_peek(&it->p, "media");
	if (v && !strcmp(v, "cdrom"))
		d->cd = true;
	else if (v && strcmp(v, "disk"))
		return err_set(e, -EINVAL, "-drive: '%.20s' invalid media", v);
	ret = take_common(q, &it->p, d, e);
	return ret ? err_prefix(e, ret, "-drive") : 0;
}

/* The first is the firmware, and is not written to; the second has its variables. */
static int set_flash(struct qemu *q, unsigned unit, const struct disk *d, struct err *e)
{
	if (q->pflash[unit])
		return err_set(e, -EBUSY, "there are two for flash %u: %.60s and %.60s", unit, q->pflash[unit], d->file);
	if (unit && d->ro)
		return err_set(e, -ENOTSUP, "flash 1: %.60s: variables are written to it; give the guest a copy without readonly=on", d->file);
	if (unit && d->snapshot)
		warn("-snapshot: %s, the firmware's variables, is written to all the same", d->file);
	q->pflash[unit] = d->file;
	return 0;
}

static int drive_pflash(struct qemu *q, struct qemu_item *it, struct err *e)
{
	uint64_t unit = q->pflash[0] ? 1 : 0;
	struct disk d = { 0 };
	int ret = drive_image(q, it, &d, e);

	if (!ret)
		ret = props_number(&it->p, "unit", 0, 1, &unit, NULL, e);
	if (!ret)
		ret = props_number(&it->p, "index", 0, 1, &unit, NULL, e);
	if (!ret && d.format && strcmp(d.format, "raw"))
		ret = err_set(e, -ENOTSUP, "-drive if=pflash: the image must be raw");
	if (!ret && !d.file)
		ret = err_set(e, -EINVAL, "-drive if=pflash: file is missing");
	if (!ret)
		ret = set_flash(q, (unsigned)unit, &d, e);
	if (ret)
		return ret;
	props_take(&it->p, "discard");
	ret = left_over(&it->p, e);
	return ret ? err_prefix(e, ret, "-drive if=pflash") : 0;
}

static const char *drive_if(const struct qemu_item *it)
{
	const char *v = props_peek(&it->p, "if");

	return v ? v : "ide";
}

/* Flash decides about the firmware, so it is looked at before everything else. */
int emit_flash(struct qemu *q, struct err *e)
{
	struct disk d;
	int ret = 0;

	list_for_each(n, &q->drives) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (!ret && !strcmp(drive_if(it), "pflash"))
			ret = drive_pflash(q, it, e);
	}
	for (unsigned i = 0; i < 2 && !ret; i++) {
		struct qemu_item *it = item_find(&q->blockdevs, q->pflash_node[i]);

		if (!q->pflash_node[i])
			continue;
		d = (struct disk){ .snapshot = q->snapshot };
		ret = it ? node_image(q, it, &d, 0, e) : err_set(e, -ENOENT, "-machine pflash%u: there is no node '%s'", i, q->pflash_node[i]);
		if (!ret)
			ret = set_flash(q, i, &d, e);
		if (!ret && (ret = left_over(d.more[1], e)))
			err_prefix(e, ret, "-blockdev %s", it->id);
	}
	return ret;
}

/* ---- floppy drives ---- */

/* Drive n, or with ANY_FLOPPY the first that is free. */
#define ANY_FLOPPY 2

static int keep_floppy(struct qemu *q, uint64_t n, struct qemu_item *drive, struct qemu_item *node, struct qemu_item *dev, struct err *e)
{
	if (n == ANY_FLOPPY)
		n = q->floppy[0].there;
	if (q->floppy[n].there)
		return err_set(e, -EBUSY, "floppy drive %u is there already", (unsigned)n);
	q->floppy[n].there = true;
	q->floppy[n].drive = drive;
	q->floppy[n].node = node;
	q->floppy[n].dev = dev;
	if (drive)
		drive->used = true;
	return 0;
}

static int drive_floppy(struct qemu *q, struct qemu_item *it, struct err *e)
{
	uint64_t n = ANY_FLOPPY;
	int ret = props_number(&it->p, "unit", 0, 1, &n, NULL, e);

	if (!ret)
		ret = props_number(&it->p, "index", 0, 1, &n, NULL, e);
	return ret ? ret : keep_floppy(q, n, it, NULL, NULL, e);
}

int floppy_device(struct qemu *q, struct qemu_item *dev, struct err *e)
{
	const char *name = props_take(&dev->p, "drive");
	struct qemu_item *drive = item_find(&q->drives, name), *node = item_find(&q->blockdevs, name);
	uint64_t n = ANY_FLOPPY;
	int ret = props_number(&dev->p, "unit", 0, 1, &n, NULL, e);

	if (ret)
		return ret;
	if (name && !drive && !node)
		return err_set(e, -ENOENT, "there is no drive '%.60s'", name);
	if (drive && drive->used)
		return err_set(e, -EBUSY, "drive '%.60s' is already in use", name);
	props_ignore(&dev->p, (const char *const[]){ "drive-type", "bus", NULL });
	return keep_floppy(q, n, drive, drive ? NULL : node, dev, e);
}

static int emit_floppy(struct qemu *q, unsigned n, struct err *e)
{
	struct qemu_item *drive = q->floppy[n].drive, *node = q->floppy[n].node, *dev = q->floppy[n].dev;
	struct disk d = { .interface = "floppy", .snapshot = q->snapshot, .more = { dev ? &dev->p : NULL } };
	int ret = drive ? drive_image(q, drive, &d, e) : node ? node_image(q, node, &d, 0, e) : 0;

	if (!ret && dev)
		ret = take_common(q, &dev->p, &d, e);
	return ret ? ret : finish_disk(q, &d, e);
}

int emit_floppies(struct qemu *q, struct err *e)
{
	int ret = 0;

	/* The second one is the second one, even if it is alone. */
	q->floppy[0].there |= q->floppy[1].there;
	for (unsigned n = 0; n < 2 && !ret; n++)
		if (q->floppy[n].there)
			ret = emit_floppy(q, n, e);
	return ret ? err_prefix(e, ret, "floppy drive") : 0;
}

/* Drives that are devices by themselves. */
int emit_drives(struct qemu *q, struct err *e)
{
	static const struct {
		const char *theirs, *ours;
	} words[] = { { "virtio", "virtio" }, { "ide", "ahci" }, { "scsi", "scsi" } };
	int ret = 0;

	list_for_each(n, &q->drives) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		const char *kind = drive_if(it);
		struct disk d = { 0 };

		if (it->used || !strcmp(kind, "none"))
			continue;
		if (!strcmp(kind, "floppy")) {
			if ((ret = drive_floppy(q, it, e)))
				return err_prefix(e, ret, "-drive if=floppy");
			continue;
		}
		for (unsigned i = 0; i < ARRAY_LEN(words); i++)
			if (!strcmp(kind, words[i].theirs))
				d.interface = words[i].ours;
		if (!d.interface)
			return err_set(e, -ENOTSUP, "-drive if=%.20s is not supported; virtio, ide, scsi, floppy, pflash and none are", kind);
		ret = drive_image(q, it, &d, e);
		if (!ret && !d.file && !d.cd)
			ret = err_set(e, -EINVAL, "-drive: file is missing");
		if (!ret && d.cd && !strcmp(d.interface, "virtio"))
			d.cd = false, d.ro = true;
		ret = ret ? ret : finish_disk(q, &d, e);
		if (ret)
			return err_prefix(e, ret, "-drive");
	}
	return 0;
}

int emit_disk_device(struct qemu *q, struct qemu_item *dev, const char *interface, bool cd, struct err *e)
{
	const char *name = props_take(&dev->p, "drive"), *bus = props_take(&dev->p, "bus");
	struct qemu_item *drive = item_find(&q->drives, name), *node = item_find(&q->blockdevs, name);
	struct disk d = { .interface = interface, .cd = cd, .more = { &dev->p } };
	int ret;

	if (name && !drive && !node)
		return err_set(e, -ENOENT, "there is no drive '%.60s'", name);
	if (!name && !cd)
		return err_set(e, -EINVAL, "drive= is missing");
	if (node && node->in_device)
		return err_set(e, -EBUSY, "node '%.60s' is already in use", name);
	if (node)
		node->in_device = true;
	if (drive && drive->used)
		return err_set(e, -EBUSY, "drive '%.60s' is already in use", name);
	d.snapshot = q->snapshot && !node;
	d.node = node ? name : NULL;
	d.id = dev->id;
	if (!strcmp(interface, "virtio"))
		d.bus = slot_of(q, bus), d.slot = root_slot(q, props_take(&dev->p, "addr"), bus);
	ret = drive ? drive_image(q, drive, &d, e) : 0;
	d.cd |= cd;
	if (!ret)
		ret = take_common(q, &dev->p, &d, e);
	if (!ret && !strcmp(interface, "scsi")) {
		const char *dot = bus ? strchr(bus, '.') : NULL;

		d.controller = dot && q->n_scsi > 1 ? keepf(q, "%.*s", (int)(dot - bus), bus) : NULL;
		d.scsi_id = props_take(&dev->p, "scsi-id");
		d.lun = props_take(&dev->p, "lun");
		if (d.lun && !d.scsi_id) {
			if (strcmp(d.lun, "0"))
				warn("-device %s: lun=%s has no effect without scsi-id=", props_peek(&dev->p, "driver"), d.lun);
			d.lun = NULL;
		}
	}
	return ret ? ret : finish_disk(q, &d, e);
}
