// SPDX-License-Identifier: GPL-2.0-or-later
/* -device and -object: one table of what there is, by QEMU's names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"
#include "vm/config.h"

struct kind {
	const char *name, *bus, *group, *desc;
	/* Takes the properties it knows; what is left is an error. */
	int (*emit)(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e);
	const char *arg;		/* for emit */
	const char *props;		/* for DRIVER,help: separated by spaces */
};

/* A property of any PCI card, which lies where there is room. */
static const char *const card_same[] = {
	"addr", "bus", "multifunction", "disable-legacy", "disable-modern", "packed", "ioeventfd", "event_idx", "indirect_desc", "iommu_platform",
	"ats", "vectors", "rombar", "romfile", "acpi-index", "page-per-vq", "use-started", "x-pcie-lnksta-dllla", NULL,
};

#define CARD "addr=<int32> bus=<str> multifunction=<bool>"
#define DISK "drive=<str> serial=<str> bootindex=<int32> logical_block_size=<size> physical_block_size=<size> rerror=<str> werror=<str>"

static int done(struct qemu_item *it, struct err *e)
{
	props_ignore(&it->p, card_same);
	return props_done(&it->p, e);
}

static int dev_disk(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	bool cd = k->arg[strlen(k->arg) - 1] == 'C';

	return emit_disk_device(q, it, keepf(q, "%.*s", (int)strlen(k->arg) - cd, k->arg), cd, e);
}

static int dev_floppy(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	return floppy_device(q, it, e);
}

/* The controller comes with its drives. */
static int dev_fdc(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	props_ignore(&it->p, (const char *const[]){ "iobase", "irq", "dma", "check_media_rate", "fdtypeA", "fdtypeB", "fallback", NULL });
	return done(it, e);
}

static int dev_net(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	return emit_card(q, it, k->arg, e);
}

/* Controllers that come with what is on them. */
static int dev_bus(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	static const char *const same[] = { "num_queues", "max_sectors", "cmd_per_lun", "hotplug", "param_change", "iothread", "seg_max_adjust",
					    "virtqueue_size", "max_ports", "emergency-write", "chassis", "port", "slot", "p2", "p3", "chassis_nr", "shpc", "io-reserve", "mem-reserve", NULL };

	props_ignore(&it->p, same);
	if (!strcmp(k->group, "USB"))
		q->usb_controller = true;
	return done(it, e);
}

static bool has_bus(const struct qemu *q, const struct qemu_item *on, const char *id)
{
	const char *bus = props_peek(&on->p, "bus");

	return !bus || (id && !strncmp(bus, id, strlen(id)) && bus[strlen(id)] == '.');
}

/* One with nothing on it yet, for disks that come later. */
static int dev_scsi(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	bool used = false;

	list_for_each(n, &q->devices) {
		struct qemu_item *on = list_entry(n, struct qemu_item, node);
		const char *driver = props_peek(&on->p, "driver");

		/* Those that have been emitted have no driver any more, but then they came before their adapter, which QEMU does not take. */
		used |= driver && !strncmp(driver, "scsi-", 5) && has_bus(q, on, it->id);
	}
	list_for_each(n, &q->drives) {
		const char *kind = props_peek(&list_entry(n, struct qemu_item, node)->p, "if");

		used |= kind && !strcmp(kind, "scsi");
	}
	if (!used) {
		emit_begin(q, "--disk");
		emit_part(q, NULL, "");
		emit_part(q, "if", "scsi");
		emit_part(q, "absent", "on");
		emit_part(q, "controller", q->n_scsi > 1 ? it->id : NULL);
		emit_end(q);
	}
	return dev_bus(q, it, k, e);
}

/* The same, for ports. */
static int dev_serial_bus(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	q->serial_bus = true;
	return dev_bus(q, it, k, e);
}

/* A slot for a card, which comes with bus=ID or while the guest runs. */
static int dev_root_port(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	static const char *const same[] = { "chassis", "port", "io-reserve", "mem-reserve", "pref32-reserve", "pref64-reserve", "bus-reserve", "hotplug",
					    "x-speed", "x-width", "disable-acs", "power_controller_present", NULL };
	const char *slot = props_take(&it->p, "slot");

	if (!it->id)
		return err_set(e, -EINVAL, "id is missing, without which nothing can be put in");
	emit_begin(q, "--root-port");
	emit_part(q, NULL, it->id);
	/* QEMU's default is the same for all of them, and with several of them in one chassis an error. */
	emit_part(q, "slot", slot);
	emit_end(q);
	props_ignore(&it->p, same);
	return done(it, e);
}

/* One that is there though -smp does not count it.  Its node is what -numa says. */
static int dev_cpu(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	struct x86_place at;
	unsigned given;
	int ret = place_take(q, &it->p, true, &at, &given, e);

	if (ret)
		return ret;
	props_take(&it->p, "node-id");
	emit_begin(q, "--vcpu");
	emit_part(q, NULL, keepf(q, "%u", x86_place_id(&q->topology, &at)));
	emit_part(q, "id", it->id);
	emit_end(q);
	return done(it, e);
}

static int dev_rng(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	const char *rng = props_take(&it->p, "rng");

	if (rng && !item_find(&q->objects, rng))
		return err_set(e, -ENOENT, "there is no object '%.60s'", rng);
	props_ignore(&it->p, (const char *const[]){ "max-bytes", "period", NULL });
	emitf(q, "--rng", "on");
	return done(it, e);
}

static int dev_balloon(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	static const char *const same[] = { "free-page-reporting", "free-page-hint", "deflate-on-oom", "guest-stats-polling-interval", NULL };

	emitf(q, "--balloon", "on");
	props_ignore(&it->p, same);
	return done(it, e);
}

static int dev_debug_exit(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	uint64_t base = 0x501, size = 2;
	int ret = props_number(&it->p, "iobase", 0, 65535, &base, NULL, e);

	if (!ret)
		ret = props_number(&it->p, "iosize", 1, 8, &size, NULL, e);
	if (!ret && base != 0xf4)
		return err_set(e, -ENOTSUP, "the port is 0xf4: say iobase=0xf4,iosize=0x04");
	emit(q, "--debug-exit");
	return ret ? ret : done(it, e);
}

static int dev_testdev(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	emit(q, "--test-device");
	return done(it, e);
}

static int dev_watchdog(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	emitf(q, "--watchdog", "i6300esb%s%s", q->watchdog_action ? ",action=" : "", q->watchdog_action ? q->watchdog_action : "");
	return done(it, e);
}

static int dev_display(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	static const char *const same[] = { "edid", "xres", "yres", "hostmem", "blob", "xmax", "ymax", "refresh_rate", "max_hostmem", "qemu-extended-regs", NULL };
	const char *mb = props_take(&it->p, "vgamem_mb"), *outputs = props_take(&it->p, "max_outputs");

	if (q->vga_device)
		return err_set(e, -ENOTSUP, "there is one display adapter; max_outputs= of virtio-gpu gives it several screens");
	q->vga_device = true;
	emit_begin(q, "--vga");
	emit_part(q, NULL, k->arg);
	if (mb)
		emit_part(q, "vram", keepf(q, "%sM", mb));
	emit_part(q, "outputs", outputs);
	emit_part(q, "romfile", props_take(&it->p, "romfile"));
	emit_part(q, "rombar", props_take(&it->p, "rombar"));
	emit_end(q);
	props_ignore(&it->p, same);
	return done(it, e);
}

static int dev_pvpanic(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	props_take(&it->p, "ioport");
	props_take(&it->p, "events");
	return done(it, e);
}

/* Has been emitted with -serial's ports. */
static int dev_serial(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	return done(it, e);
}

static int dev_port(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	int ret = emit_port(q, it, k->arg != NULL, e);

	return ret ? ret : done(it, e);
}

static int dev_tpm(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	const char *id = props_take(&it->p, "tpmdev"), *chardev, *path;
	struct qemu_item *dev = item_find(&q->tpmdevs, id);
	int ret;

	if (!dev)
		return err_set(e, -ENOENT, "there is no tpmdev '%.60s'", id ? id : "");
	dev->used = true;
	chardev = props_take(&dev->p, "chardev");
	ret = chardev ? char_unix_path(q, chardev, &path, e) : err_set(e, -EINVAL, "-tpmdev: chardev is missing");
	if (!ret)
		ret = props_done(&dev->p, e);
	if (ret)
		return ret;
	emit_begin(q, "--tpm");
	emit_part(q, NULL, k->arg);
	emit_part(q, "socket", path);
	emit_part(q, "end", "on");	/* QEMU tells it so, too */
	emit_end(q);
	props_take(&it->p, "ppi");
	return done(it, e);
}

static int dev_share(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	int ret = emit_fsdev(q, it, e);

	return ret ? ret : done(it, e);
}

static int dev_vhost(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	int ret = *k->arg == 'b' ? emit_vhost_disk(q, it, e) : emit_vhost_fs(q, it, e);

	return ret ? ret : done(it, e);
}

/* QEMU's is the host kernel's, and its properties have no meaning here; the socket is where lodge-qemu(1) says. */
static int dev_vsock(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	const char *cid = props_take(&it->p, "guest-cid");

	if (!cid)
		return err_set(e, -EINVAL, "guest-cid is missing: a number from 3 on");
	props_ignore(&it->p, (const char *const[]){ "seqpacket", "vhostfd", NULL });
	emitf(q, "--vsock", "cid=%s", cid);
	return done(it, e);
}

/* Bytes, in a form that lodge run takes. */
static int memory_size(struct qemu *q, struct qemu_item *it, const char *name, const char *ours, struct err *e)
{
	const char *text = props_take(&it->p, name);
	uint64_t n = 0;
	int ret = text ? props_size(text, 1, &n, e) : 0;

	if (!ret && n & 1023)
		ret = err_set(e, -EINVAL, "%s=%.40s is not a number of blocks", name, text);
	if (!ret && text)
		emit_part(q, ours, keepf(q, "%lluK", (unsigned long long)n >> 10));
	return ret;
}

static int dev_memory(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	const char *memdev = props_take(&it->p, "memdev");
	struct qemu_item *o = item_find(&q->objects, memdev);
	int ret;

	if (!memdev)
		return err_set(e, -EINVAL, "'memdev' property is not set");
	if (!o || strncmp(o->type, "memory-backend", 14) != 0)
		return err_set(e, -EINVAL, "memdev=%.60s is no memory backend: -object memory-backend-ram,id=ID,size=SIZE makes one", memdev);
	if (o->used)
		return err_set(e, -EINVAL, "can't use already busy memdev: %.60s", memdev);
	o->used = true;
	emit_begin(q, "--memory-device");
	emit_part(q, NULL, it->id ? it->id : keepf(q, "memory%u", q->n_memories));
	emit_part(q, "memdev", memdev);
	emit_part(q, "size", keepf(q, "%lluK", (unsigned long long)o->bytes >> 10));
	emit_part(q, "node", props_take(&it->p, "node"));
	ret = memory_size(q, it, "block-size", "block-size", e);
	if (!ret)
		ret = memory_size(q, it, "requested-size", "requested-size", e);
	emit_end(q);
	props_ignore(&it->p, (const char *const[]){ "unplugged-inaccessible", "memaddr", "dynamic-memslots", "prealloc", "x-early-migration", NULL });
	return ret ? ret : done(it, e);
}

static int dev_input(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	props_ignore(&it->p, (const char *const[]){ "port", "usb_version", "serial", "display", "head", "wheel-axis", NULL });
	emit_begin(q, k->arg[0] == 'u' ? "--usb" : "--input");
	emit_part(q, NULL, k->arg);
	if (k->arg[0] == 'u')
		emit_part(q, "id", it->id);
	emit_end(q);
	return done(it, e);
}

static int dev_vmgenid(struct qemu *q, struct qemu_item *it, const struct kind *k, struct err *e)
{
	const char *guid = props_take(&it->p, "guid");

	emitf(q, "--vmgenid", "%s", guid ? guid : "auto");
	return done(it, e);
}

static const struct kind kinds[] = {
	{ "virtio-blk-pci", "PCI", "Storage", NULL, dev_disk, "virtio", DISK " num-queues=<uint16> " CARD },
	{ "virtio-blk", "PCI", "Storage", NULL, dev_disk, "virtio", DISK },
	{ "virtio-blk-device", "virtio-bus", "Storage", NULL, dev_disk, "virtio", DISK },
	{ "virtio-blk-pci-non-transitional", "PCI", "Storage", NULL, dev_disk, "virtio", DISK },
	{ "virtio-scsi-pci", "PCI", "Storage", NULL, dev_scsi, NULL, "num_queues=<uint32> " CARD },
	{ "virtio-scsi", "PCI", "Storage", NULL, dev_scsi, NULL, "" },
	{ "virtio-scsi-device", "virtio-bus", "Storage", NULL, dev_scsi, NULL, "" },
	{ "scsi-hd", "SCSI", "Storage", "virtual SCSI disk", dev_disk, "scsi", DISK " scsi-id=<uint32> lun=<uint32>" },
	{ "scsi-cd", "SCSI", "Storage", "virtual SCSI CD-ROM", dev_disk, "scsiC", DISK " scsi-id=<uint32> lun=<uint32>" },
	{ "ide-hd", "IDE", "Storage", "virtual IDE disk", dev_disk, "ahci", DISK },
	{ "ide-cd", "IDE", "Storage", "virtual IDE CD-ROM", dev_disk, "ahciC", DISK },
	{ "nvme", "PCI", "Storage", "Non-Volatile Memory Express", dev_disk, "nvme", DISK },
	{ "isa-fdc", "ISA", "Storage", "virtual floppy controller", dev_fdc, NULL, "" },
	{ "floppy", "floppy-bus", "Storage", "virtual floppy drive", dev_floppy, NULL, "unit=<uint32> drive=<str> bootindex=<int32>" },
	{ "ahci", "PCI", "Storage", NULL, dev_bus, NULL, CARD },
	{ "ich9-ahci", "PCI", "Storage", NULL, dev_bus, NULL, CARD },
	{ "virtio-9p-pci", "PCI", "Storage", NULL, dev_share, NULL, "fsdev=<str> mount_tag=<str> " CARD },
	{ "virtio-9p-device", "virtio-bus", "Storage", NULL, dev_share, NULL, "fsdev=<str> mount_tag=<str>" },
	{ "vhost-user-blk-pci", "PCI", "Storage", "a disk that another process serves", dev_vhost, "blk",
	  "chardev=<str> num-queues=<uint16> queue-size=<uint32> bootindex=<int32> " CARD },
	{ "vhost-user-blk", "virtio-bus", "Storage", "a disk that another process serves", dev_vhost, "blk", "chardev=<str> num-queues=<uint16> queue-size=<uint32>" },
	{ "vhost-user-fs-pci", "PCI", "Storage", "a file system that another process serves", dev_vhost, "fs",
	  "chardev=<str> tag=<str> num-request-queues=<uint16> queue-size=<uint16> " CARD },
	{ "vhost-user-fs-device", "virtio-bus", "Storage", "a file system that another process serves", dev_vhost, "fs",
	  "chardev=<str> tag=<str> num-request-queues=<uint16> queue-size=<uint16>" },
	{ "virtio-net-pci", "PCI", "Network", NULL, dev_net, "virtio", "netdev=<str> mac=<str> bootindex=<int32> romfile=<str> rombar=<uint32> " CARD },
	{ "virtio-net", "PCI", "Network", NULL, dev_net, "virtio", "netdev=<str> mac=<str>" },
	{ "virtio-net-device", "virtio-bus", "Network", NULL, dev_net, "virtio", "netdev=<str> mac=<str>" },
	{ "max-x86_64-cpu", NULL, "CPU", "Enables all features supported by the accelerator in the current host", dev_cpu, NULL,
	  "socket-id=<int32> die-id=<int32> core-id=<int32> thread-id=<int32> node-id=<int32>" },
	{ "virtio-rng-pci", "PCI", "Misc", NULL, dev_rng, NULL, "rng=<link<rng-backend>> " CARD },
	{ "virtio-rng", "PCI", "Misc", NULL, dev_rng, NULL, "rng=<link<rng-backend>>" },
	{ "virtio-rng-device", "virtio-bus", "Misc", NULL, dev_rng, NULL, "rng=<link<rng-backend>>" },
	{ "vhost-vsock-pci", "PCI", "Misc", "stream sockets, by unix sockets of the host", dev_vsock, NULL, "guest-cid=<uint64> " CARD },
	{ "vhost-vsock-device", "virtio-bus", "Misc", "stream sockets, by unix sockets of the host", dev_vsock, NULL, "guest-cid=<uint64>" },
	{ "virtio-balloon-pci", "PCI", "Misc", NULL, dev_balloon, NULL, CARD },
	{ "virtio-balloon", "PCI", "Misc", NULL, dev_balloon, NULL, "" },
	{ "virtio-mem-pci", "PCI", "Misc", NULL, dev_memory, NULL, "memdev=<link<memory-backend>> node=<uint32> block-size=<size> requested-size=<size> " CARD },
	{ "virtio-mem", "PCI", "Misc", NULL, dev_memory, NULL, "memdev=<link<memory-backend>> node=<uint32> block-size=<size> requested-size=<size>" },
	{ "virtio-serial-pci", "PCI", "Input", NULL, dev_serial_bus, NULL, "max_ports=<uint32> " CARD },
	{ "virtio-serial", "PCI", "Input", NULL, dev_serial_bus, NULL, "" },
	{ "virtio-serial-device", "virtio-bus", "Input", NULL, dev_serial_bus, NULL, "" },
	{ "virtserialport", "virtio-serial-bus", "Input", NULL, dev_port, NULL, "chardev=<str> name=<str> nr=<uint32>" },
	{ "virtconsole", "virtio-serial-bus", "Input", NULL, dev_port, "console", "chardev=<str> name=<str> nr=<uint32>" },
	{ "virtio-keyboard-pci", "PCI", "Input", NULL, dev_input, "virtio-keyboard", CARD },
	{ "virtio-mouse-pci", "PCI", "Input", NULL, dev_input, "virtio-mouse", CARD },
	{ "virtio-tablet-pci", "PCI", "Input", NULL, dev_input, "virtio-tablet", CARD },
	{ "qemu-xhci", "PCI", "USB", NULL, dev_bus, NULL, CARD },
	{ "nec-usb-xhci", "PCI", "USB", NULL, dev_bus, NULL, CARD },
	{ "usb-kbd", "usb-bus", "Input", NULL, dev_input, "usb-kbd", "port=<str>" },
	{ "usb-mouse", "usb-bus", "Input", NULL, dev_input, "usb-mouse", "port=<str>" },
	{ "usb-tablet", "usb-bus", "Input", NULL, dev_input, "usb-tablet", "port=<str>" },
	{ "usb-storage", "usb-bus", "Storage", NULL, dev_disk, "usb", DISK },
	{ "e1000e", "PCI", "Network", "Intel 82574L GbE Controller", dev_net, "e1000e", "netdev=<str> mac=<str> bootindex=<int32> " CARD },
	{ "e1000", "PCI", "Network", "Intel Gigabit Ethernet (an e1000e here)", dev_net, "e1000", "netdev=<str> mac=<str> bootindex=<int32> " CARD },
	{ "i6300esb", "PCI", "Watchdog", "Intel 6300ESB", dev_watchdog, NULL, CARD },
	{ "VGA", "PCI", "Display", NULL, dev_display, "std", "vgamem_mb=<uint32> " CARD },
	{ "virtio-vga", "PCI", "Display", NULL, dev_display, "virtio", "max_outputs=<uint32> " CARD },
	{ "virtio-gpu-pci", "PCI", "Display", NULL, dev_display, "virtio-gpu", "max_outputs=<uint32> " CARD },
	{ "virtio-gpu", "PCI", "Display", NULL, dev_display, "virtio-gpu", "max_outputs=<uint32>" },
	{ "isa-debug-exit", "ISA", "Misc", NULL, dev_debug_exit, NULL, "iobase=<uint32> iosize=<uint32>" },
	{ "pc-testdev", "ISA", "Misc", NULL, dev_testdev, NULL, "" },
	{ "pvpanic", "ISA", "Misc", NULL, dev_pvpanic, NULL, "ioport=<uint16>" },
	{ "isa-serial", "ISA", "Input", NULL, dev_serial, NULL, "chardev=<str> index=<uint32>" },
	{ "tpm-tis", "ISA", "Misc", NULL, dev_tpm, "tis", "tpmdev=<str>" },
	{ "tpm-crb", NULL, "Misc", NULL, dev_tpm, "crb", "tpmdev=<str>" },
	{ "vmgenid", NULL, "Misc", NULL, dev_vmgenid, NULL, "guid=<str>" },
	{ "pcie-root-port", "PCI", "Controller/Bridge/Hub", "PCI Express Root Port", dev_root_port, NULL, "chassis=<uint8> slot=<uint16> " CARD },
	{ "ioh3420", "PCI", "Controller/Bridge/Hub", "Intel IOH device id 3420 PCIE Root Port (a pcie-root-port here)", dev_root_port, NULL,
	  "chassis=<uint8> slot=<uint16> " CARD },
	{ "pci-bridge", "PCI", "Controller/Bridge/Hub", "Standard PCI Bridge (cards are on the root bus)", dev_bus, NULL, CARD },
};

static const struct kind *find_kind(const char *name)
{
	static const char cpu[] = "-x86_64-cpu";
	size_t n = name ? strlen(name) : 0;

	/* Of any model: the CPU's is -cpu's. */
	if (n > strlen(cpu) && !strcmp(name + n - strlen(cpu), cpu))
		name = "max-x86_64-cpu";
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (name && !strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

void device_list(FILE *f)
{
	static const char *const groups[] = { "Controller/Bridge/Hub", "USB", "Storage", "Network", "Input", "Display", "Misc", "Watchdog", "CPU" };

	for (unsigned g = 0; g < ARRAY_LEN(groups); g++) {
		bool any = false;

		for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
			if (strcmp(kinds[i].group, groups[g]))
				continue;
			if (!any)
				fprintf(f, "%s%s devices:\n", g ? "\n" : "", groups[g]);
			any = true;
			fprintf(f, "name \"%s\"", kinds[i].name);
			if (kinds[i].bus)
				fprintf(f, ", bus %s", kinds[i].bus);
			if (kinds[i].desc)
				fprintf(f, ", desc \"%s\"", kinds[i].desc);
			fputc('\n', f);
		}
	}
}

int device_properties(const char *name, FILE *f)
{
	const struct kind *k = find_kind(name);

	if (!k)
		return -ENOENT;
	fprintf(f, "%s options:\n", name);
	for (const char *p = k->props; *p; p += strspn(p, " ")) {
		fprintf(f, "  %.*s\n", (int)strcspn(p, " "), p);
		p += strcspn(p, " ");
	}
	return 0;
}

int opt_device(struct qemu *q, const char *val, struct err *e)
{
	struct qemu_item *it;
	const char *driver;
	int ret;

	if (wants_help(q, "device", val))
		return -EAGAIN;
	ret = item_add(q, &q->devices, "-device", "driver", val, e);
	if (ret)
		return ret;
	it = list_entry(q->devices.prev, struct qemu_item, node);
	driver = props_peek(&it->p, "driver");
	if (!driver)
		return err_set(e, -EINVAL, "driver is missing");
	if (!find_kind(driver))
		return err_set(e, -EINVAL, "'%.60s' is not a valid device model name; -device help lists those there are", driver);
	if (!strncmp(driver, "virtio-mem", 10))
		q->n_memories++;
	if (!strncmp(driver, "virtio-scsi", 11))
		q->n_scsi++;
	it->root_port = !strcmp(driver, "pcie-root-port") || !strcmp(driver, "ioh3420");
	return 0;
}

/* ---- objects: what they back is Lodge's own ---- */

/* Of a device that is memory. */
static bool is_memdev(struct qemu *q, const char *id)
{
	list_for_each(n, &q->devices) {
		const char *memdev = props_peek(&list_entry(n, struct qemu_item, node)->p, "memdev");

		if (memdev && !strcmp(memdev, id))
			return true;
	}
	return false;
}

static int object_memory(struct qemu *q, struct qemu_item *it, struct err *e)
{
	static const char *const same[] = { "share", "prealloc", "prealloc-threads", "merge", "dump", "mem-path", "hugetlb", "hugetlbsize", "seal",
					    "discard-data", "policy", "host-nodes", "align", "pmem", "reserve", NULL };
	const char *size = props_take(&it->p, "size");
	uint64_t bytes = q->memory;
	int ret = size ? props_size(size, 1, &bytes, e) : 0;

	it->bytes = bytes;
	if (!ret && bytes != q->memory && !it->used && !is_memdev(q, it->id))
		warn("-object %s: the guest's memory is what -m says", it->id);
	props_ignore(&it->p, same);
	return ret;
}

int opt_object(struct qemu *q, const char *val, struct err *e)
{
	static const char *const plain[] = { "rng-random", "rng-builtin", "iothread", "memory-backend-ram", "memory-backend-file", "memory-backend-memfd",
					     "secret", "throttle-group", "tls-creds-x509", "tls-creds-psk", "authz-simple" };
	struct qemu_item *it;
	const char *type;
	int ret;

	if (wants_help(q, "object", val))
		return -EAGAIN;
	ret = item_add(q, &q->objects, "-object", "qom-type", val, e);
	if (ret)
		return ret;
	it = list_entry(q->objects.prev, struct qemu_item, node);
	type = props_take(&it->p, "qom-type");
	if (!it->id)
		return err_set(e, -EINVAL, "id is missing");
	for (unsigned i = 0; i < ARRAY_LEN(plain); i++)
		if (type && !strcmp(type, plain[i]))
			return it->type = plain[i], 0;
	return err_set(e, -ENOTSUP, "type '%.60s' is not supported; rng-random, rng-builtin, iothread, memory-backend-*, secret, throttle-group, tls-creds-x509, tls-creds-psk and authz-simple are", type ? type : "");
}

static int emit_object(struct qemu *q, struct qemu_item *it, struct err *e)
{
	const char *v;
	int ret = 0;

	if (!strcmp(it->type, "secret") || !strcmp(it->type, "throttle-group") || !strncmp(it->type, "tls-creds-", 10) || !strcmp(it->type, "authz-simple"))
		return emit_node_object(q, it, e);
	if (!strcmp(it->type, "rng-random") && (v = props_take(&it->p, "filename")) && strcmp(v, "/dev/urandom") && strcmp(v, "/dev/random"))
		return err_set(e, -ENOTSUP, "filename=%.60s: random numbers come from the host's kernel (/dev/urandom)", v);
	if (!strncmp(it->type, "memory", 6))
		ret = object_memory(q, it, e);
	if (!strcmp(it->type, "iothread"))
		props_ignore(&it->p, (const char *const[]){ "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch", NULL });
	return ret ? ret : props_done(&it->p, e);
}

int emit_objects(struct qemu *q, struct err *e)
{
	int ret;

	list_for_each(n, &q->objects) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if ((ret = emit_object(q, it, e)))
			return err_prefix(e, ret, "-object %s", it->id);
	}
	return 0;
}

const char *slot_of(struct qemu *q, const char *bus)
{
	list_for_each(n, &q->devices) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (bus && it->id && !strcmp(it->id, bus) && it->root_port)
			return bus;
	}
	return NULL;
}

const char *root_slot(struct qemu *q, const char *addr, const char *bus)
{
	unsigned long slot, fn = 0;
	char *end;

	if (!addr || (bus && strcmp(bus, "pci.0") && strcmp(bus, "pcie.0")))
		return NULL;
	slot = strtoul(addr, &end, 16);
	if (*end == '.')
		fn = strtoul(end + 1, &end, 16);
	return *end || fn || slot < 1 || slot > VM_LAST_SLOT ? NULL : keepf(q, "%lu", slot);
}

int emit_devices(struct qemu *q, struct err *e)
{
	static const struct qemu_fixed fixed[] = {
		{ "disable-modern", "off" }, { "disable-legacy", "on" }, { "xres", NULL }, { "yres", NULL }, { "wwn", NULL }, { "vendor", NULL },
		{ "product", NULL }, { "ver", NULL }, { "rotation_rate", NULL }, { "host_mtu", NULL }, { "max-bytes", NULL }, { NULL, NULL },
	};
	int ret;

	list_for_each(n, &q->devices) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);
		const struct kind *k = find_kind(props_take(&it->p, "driver"));

		warn_fixed(&it->p, keepf(q, "-device %s", k->name), fixed);
		q->usb_device |= k->bus && !strcmp(k->bus, "usb-bus");
		if ((ret = k->emit(q, it, k, e)))
			return err_prefix(e, ret, "-device %s", k->name);
	}
	return 0;
}
