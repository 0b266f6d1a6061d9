// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of disks: images, what the guest sees of them, and what goes together. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bits.h"
#include "device/xhci.h"
#include "virtio/scsi.h"
#include "vm/config_int.h"

#define MIB (1ull << 20)
#define DISK_SIZE_MAX (64ull << 40)

static const char *const cache_words[] = { "writeback", "none", "writethrough", "unsafe", NULL };
static const char *const aio_words[] = { "auto", "uring", "threads", NULL };
static const char *const format_words[] = { "raw", "qcow2", "luks", "vmdk", "vdi", "vhdx", "vpc", NULL };
static const char *const backing_words[] = { "folder", "on", "off", NULL };
static const char *const error_words[] = { "report", "stop", "ignore", "enospc", NULL };	/* as enum disk_on_error */
static const char *const if_words[] = { "virtio", "nvme", "ahci", "scsi", "usb", "floppy", NULL };	/* as enum vm_disk_if */
static const char *const discard_words[] = { "unmap", "ignore", NULL };

static int set_on_error(const char *val, bool read, enum disk_on_error *out, struct err *e)
{
	int w = 0, ret = config_word(val, error_words, &w, e);

	if (!ret && read && w == DISK_ENOSPC)
		return err_set(e, -EINVAL, "enospc is for writes; rerror= is report, stop or ignore");
	*out = (enum disk_on_error)w;
	return ret;
}

static int set_iothread(const char *val, struct vm_disk *d, struct err *e)
{
	bool on = true;

	if (!*val)
		return err_set(e, -EINVAL, "iothread= is on, off or a name");
	d->iothread = config_bool(val, &on, NULL) ? val : NULL;
	d->no_iothread = !on;
	return 0;
}

/* Bytes, with K or M if one likes. */
static int set_bytes(const char *val, unsigned *out, struct err *e)
{
	uint64_t n;

	if (isdigit((unsigned char)val[0]) && isdigit((unsigned char)val[strlen(val) - 1]))
		return config_uint(val, 0, 1u << 30, out, e);
	if (vm_parse_size(val, &n, e))
		return -EINVAL;
	*out = (unsigned)n;
	return n <= 1u << 30 ? 0 : err_set(e, -EINVAL, "'%.40s' is more than 1 GiB", val);
}

/* A part of a SCSI address. */
static int set_address(const char *val, unsigned limit, int *out, struct err *e)
{
	unsigned n = 0;
	int ret = config_uint(val, 0, limit - 1, &n, e);

	*out = (int)n;
	return ret;
}

/* What the guest's driver is to know.  -ENOENT: none of these. */
static int set_disk_device(struct vm_disk *d, const char *field, const char *val, struct err *e)
{
	int w = 0, ret;

	if (!strcmp(field, "if")) {
		ret = config_word(val, if_words, &w, e);
		d->interface = (enum vm_disk_if)w;
		return ret;
	}
	if (!strcmp(field, "cdrom")) {
		ret = config_bool(val, &d->cdrom, e);
		d->open.file.read_only |= d->cdrom;
		return ret;
	}
	if (!strcmp(field, "controller"))
		return config_text(val, &d->controller, e);
	if (!strcmp(field, "scsi-id") || !strcmp(field, "lun"))
		return set_address(val, *field == 's' ? VIRTIO_SCSI_TARGETS : VIRTIO_SCSI_LUNS, *field == 's' ? &d->scsi_id : &d->lun, e);
	if (!strcmp(field, "rerror"))
		return set_on_error(val, true, &d->on_read_error, e);
	if (!strcmp(field, "werror"))
		return set_on_error(val, false, &d->on_write_error, e);
	if (!strcmp(field, "iothread"))
		return set_iothread(val, d, e);
	if (!strcmp(field, "num-queues"))
		return config_uint(val, 1, VIRTIO_MAX_QUEUES, &d->queues, e);
	if (!strcmp(field, "discard")) {
		ret = config_word(val, discard_words, &w, e);
		d->no_discard = w;
		/* Said aloud, it is also for encrypted disks, where it shows what is in use. */
		d->open.discard = !ret && !w;
		return ret;
	}
	if (!strcmp(field, "logical-block-size"))
		return set_bytes(val, &d->block_size, e);
	if (!strcmp(field, "physical-block-size"))
		return set_bytes(val, &d->physical_block, e);
	if (!strcmp(field, "min-io-size"))
		return set_bytes(val, &d->min_io, e);
	if (!strcmp(field, "opt-io-size"))
		return set_bytes(val, &d->opt_io, e);
	if (!strcmp(field, "discard-granularity"))
		return set_bytes(val, &d->discard_unit, e);
	if (!strcmp(field, "bootindex"))
		return config_bootindex(val, &d->bootindex, e);
	if (!strcmp(field, "bus"))
		return config_text(val, &d->bus, e);
	if (!strcmp(field, "slot"))
		return config_slot(val, &d->slot, e);
	if (!strcmp(field, "id"))
		return config_id(val, &d->id, e);
	if (!strcmp(field, "drive"))
		return config_text(val, &d->drive, e);
	if (!strcmp(field, "usb-port"))
		return config_uint(val, 1, XHCI_SOCKETS, &d->usb_port, e);
	return -ENOENT;
}

/* "file:PATH" or "fd:N". */
static int set_disk_key(struct vm_disk *d, const char *number, const char *val, struct err *e)
{
	unsigned n, fd;
	int ret = config_uint(number, 0, VM_MAX_KEYS - 1, &n, e);

	if (ret)
		return err_set(e, -E2BIG, "a disk has at most %d keys", VM_MAX_KEYS);
	d->key[n] = val;
	d->n_keys = MAX(d->n_keys, n + 1);
	if (!strncmp(val, "file:", 5) && val[5])
		return 0;
	if (strncmp(val, "fd:", 3))
		return err_set(e, -EINVAL, "'%.40s' is neither file:PATH nor fd:NUMBER", val);
	ret = config_uint(val + 3, 3, 65535, &fd, e);
	if (!ret && fcntl((int)fd, F_GETFD) < 0)
		ret = err_set(e, -EBADF, "key-fd=%u: no such descriptor is open (a shell opens one with %u<FILE)", fd, fd);
	return ret;
}

static int set_disk_size(const char *val, uint64_t *out, struct err *e)
{
	int ret = vm_parse_size(val, out, e);

	if (ret)
		return ret;
	return *out >= MIB && *out <= DISK_SIZE_MAX && !(*out % 512) ? 0 :
		err_set(e, -EINVAL, "size=%.40s: a new disk has 1 MiB to 64 TiB, and whole sectors of 512 bytes", val);
}

int config_disk(struct vm_disk *d, const char *field, const char *val, struct err *e)
{
	int w = 0, ret;

	d->there = !d->absent;
	if (!strcmp(field, "absent")) {
		ret = config_bool(val, &d->absent, e);
		d->there = !d->absent;
		return ret;
	}
	if (!strcmp(field, "hotplugged"))
		return config_bool(val, &d->hotplugged, e);
	if (!strcmp(field, "file"))
		return config_text(val, &d->path, e);
	if (!strcmp(field, "node"))
		return config_text(val, &d->node, e);
	if (!strcmp(field, "size"))
		return set_disk_size(val, &d->size, e);
	if (!strcmp(field, "ro"))
		return config_bool(val, &d->open.file.read_only, e);
	if (!strcmp(field, "snapshot"))
		return config_bool(val, &d->snapshot, e);
	if (!strcmp(field, "serial")) {
		d->serial = val;
		return strlen(val) <= 20 ? 0 : err_set(e, -EINVAL, "'%.40s': a serial has at most 20 characters", val);
	}
	if (!strcmp(field, "cache")) {
		ret = config_word(val, cache_words, &w, e);
		d->open.file.cache = (enum blk_cache)w;
		return ret;
	}
	if (!strcmp(field, "aio")) {
		ret = config_word(val, aio_words, &w, e);
		d->open.file.aio = (enum blk_aio)w;
		return ret;
	}
	if (!strcmp(field, "format")) {
		ret = config_word(val, format_words, &w, e);
		d->open.format = format_words[w];
		return ret;
	}
	if (!strcmp(field, "backing")) {
		ret = config_word(val, backing_words, &w, e);
		d->open.trust = w == 0 ? BLK_TRUST_FOLDER : w == 1 ? BLK_TRUST_ALL : BLK_TRUST_NONE;
		return ret;
	}
	if (!strcmp(field, "inside"))
		return d->more.temporary = true, config_text(val, &d->more.inside, e);
	if (!strcmp(field, "was"))
		return config_text(val, &d->was, e);
	if (!strncmp(field, "key.", 4))
		return set_disk_key(d, field + 4, val, e);
	ret = set_disk_device(d, field, val, e);
	return ret == -ENOENT ? blk_disk_option(&d->more, field, val, e) : ret;
}

static int check_floppy(const struct vm_config *v, unsigned i, struct err *e)
{
	const struct vm_disk *d = &v->disk[i];
	unsigned before = 0;

	if (v->machine == VM_MACHINE_MICRO)
		return err_set(e, -EINVAL, "--floppy: --machine micro has no floppy drives; use --machine pc");
	if (d->iothread || d->cdrom || (d->block_size && d->block_size != 512))
		return err_set(e, -EINVAL, "--floppy: floppy drives have no I/O thread, no CDs, and blocks of 512 bytes");
	for (unsigned k = 0; k < i; k++)
		before += v->disk[k].interface == VM_DISK_FLOPPY;
	return before < VM_MAX_FLOPPIES ? 0 : err_set(e, -E2BIG, "--floppy: a guest has at most %d floppy drives", VM_MAX_FLOPPIES);
}

const char *vm_disk_option(const struct vm_disk *d)
{
	return d->interface == VM_DISK_FLOPPY ? "--floppy" : d->cdrom && d->interface == VM_DISK_AHCI ? "--cdrom" : "--disk";
}

const struct vm_disk *vm_config_first_disk(const struct vm_config *cfg)
{
	for (unsigned i = 0; i < cfg->n_disks; i++)
		if (cfg->disk[i].there && cfg->disk[i].interface != VM_DISK_FLOPPY)
			return &cfg->disk[i];
	return NULL;
}

int config_check_disk(const struct vm_config *v, unsigned i, struct err *e)
{
	const struct vm_disk *d = &v->disk[i];
	const char *option = vm_disk_option(d);

	if (!d->there)
		return d->absent && d->interface != VM_DISK_SCSI && d->interface != VM_DISK_USB ?
			err_set(e, -EINVAL, "--disk: absent=on is for if=scsi and if=usb") : 0;
	if (d->node && (d->path || d->size || d->n_keys || d->snapshot || d->more.temporary || d->open.format))
		return err_set(e, -EINVAL, "--disk: node=%.40s is the image; what is said of a file does not go with it", d->node);
	if (!d->path && !d->seed && !d->cdrom && !d->node && d->interface != VM_DISK_FLOPPY)
		return err_set(e, -EINVAL, "--disk: disk %u names no file; only a CD drive (cdrom=on) or a floppy drive may be empty", i);
	if (d->interface == VM_DISK_FLOPPY && check_floppy(v, i, e))
		return -EINVAL;
	for (unsigned k = 0; k < d->n_keys; k++)
		if (!d->key[k])
			return err_set(e, -EINVAL, "--disk: disk.%u.key.%u is missing", i, k);
	if (d->interface != VM_DISK_VIRTIO && d->interface != VM_DISK_SCSI && v->machine == VM_MACHINE_MICRO)
		return err_set(e, -EINVAL, "%s: if=%s needs PCI, which --machine micro has not; use --machine pc", option, if_words[d->interface]);
	if (d->cdrom && d->interface != VM_DISK_AHCI && d->interface != VM_DISK_SCSI && d->interface != VM_DISK_USB)
		return err_set(e, -EINVAL, "--disk: cdrom=on needs if=ahci, if=scsi or if=usb");
	if (d->interface == VM_DISK_USB && d->iothread)
		return err_set(e, -EINVAL, "--disk: disks on USB have no I/O thread; leave iothread= out");
	if ((d->scsi_id >= 0 || d->lun >= 0) && d->interface != VM_DISK_SCSI)
		return err_set(e, -EINVAL, "--disk: scsi-id= and lun= are for if=scsi");
	if (d->size && d->open.file.read_only)
		return err_set(e, -EINVAL, "%s: size= makes a new disk, which %s would keep empty for ever", option, d->cdrom ? "a CD drive" : "ro");
	if (d->cdrom && !d->open.file.read_only)
		return err_set(e, -EINVAL, "%s: a CD is read only, so ro=off cannot be", option);
	if ((d->bus || d->slot) && (d->interface != VM_DISK_VIRTIO || v->machine == VM_MACHINE_MICRO))
		return err_set(e, -EINVAL, "--disk: bus= and slot= are for if=virtio on --machine pc");
	if (d->controller && d->interface != VM_DISK_NVME && d->interface != VM_DISK_SCSI)
		return err_set(e, -EINVAL, "--disk: controller= is for if=nvme and if=scsi, whose controllers take several disks");
	return blk_disk_check(&d->more, &d->open, e) ? err_prefix(e, -EINVAL, "%s", option) : 0;
}
