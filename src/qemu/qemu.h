/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lodge-qemu: QEMU's command line, said in the words of `lodge run`.
 *
 * Options are read in the order they are given and kept (qemu_parse); then what belongs
 * together (drives and devices, networks and cards, chardevs and what uses them) is
 * brought together and becomes arguments of `lodge run` (qemu_emit), which is all that
 * happens: what cannot be said to `lodge run` cannot be had.  What Lodge has not is an
 * error that names it; where it makes no difference to the guest it passes, see
 * lodge-qemu(1); warnings are printed at once.
 */
#ifndef LODGE_QEMU_QEMU_H
#define LODGE_QEMU_QEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/list.h"
#include "cpu/x86/topology.h"
#include "platform/x86/numa.h"
#include "qemu/props.h"

#define QEMU_MAX_ARGS 512
#define QEMU_MAX_SERIALS 4

/* What is asked for instead of a guest. */
enum qemu_ask { QEMU_RUN, QEMU_VERSION, QEMU_HELP, QEMU_LIST };

/* Where characters go. */
struct qemu_place {
	const char *text;		/* as char.c says; NULL: not looked at yet */
	bool mux;			/* several share it */
	bool monitor;			/* one of them is a monitor that nobody asked for by itself */
	bool no_signal;			/* stdio whose Ctrl-c is the guest's */
	bool append;			/* to the file */
	bool telnet;
	bool server;			/* of a descriptor */
};

/* One -drive, -blockdev, -device, -netdev, -chardev, -object ...: its properties, and its use. */
struct qemu_item {
	struct list node;
	struct props p;
	const char *id;			/* NULL: none */
	const char *option;		/* "-drive", for messages */
	const char *type;		/* of an object */
	bool used;
	struct qemu_place place;	/* of a chardev */
	bool emitted;
	bool in_device;			/* a block node that a device stands on */
	bool root_port;			/* of a -device */
	uint64_t bytes;			/* of an object that is a memory backend */
};

struct qemu {
	enum qemu_ask ask;
	const char *list;		/* QEMU_LIST: of what: "machine", "cpu", ... */
	const char *list_arg;		/* the device whose properties are asked for; may be NULL */
	bool print_lodge;

	/* Arguments of `lodge run`, NULL-terminated; each is ours. */
	char *argv[QEMU_MAX_ARGS + 1];
	unsigned argc;
	int failed;			/* an errno that emitting met */
	FILE *part;			/* between emit_begin and emit_end: its text */
	char *part_text;
	size_t part_len;
	char *kept[QEMU_MAX_ARGS];	/* texts that live as long as this */
	unsigned n_kept;

	struct list drives, blockdevs, devices, netdevs, nics, chardevs, objects, monitors, fdsets, tpmdevs, fsdevs, virtfs, numas;
	/* Floppy drives: what is in them by -drive or -blockdev, and the -device; each may be NULL. */
	struct {
		bool there;
		struct qemu_item *drive, *node, *dev;
	} floppy[2];
	const char *serial[QEMU_MAX_SERIALS];
	unsigned n_serial, n_nets, n_ports, n_monitors;

	/* Scalars. */
	const char *name, *cpu, *machine, *accel, *kernel, *initrd, *append, *bios, *vga, *display, *vnc, *data_dir;
	uint64_t memory;		/* bytes */
	struct x86_topology topology;	/* of max_cpus */
	uint64_t memory_max;		/* -m maxmem=; 0: not said */
	uint64_t slots;
	unsigned n_memories;		/* -device virtio-mem */
	unsigned cpus, max_cpus, echr, n_scsi, code_cache;	/* code_cache: MiB; 0: not said */
	bool vga_device, nodefaults, nographic, snapshot, no_reboot, paused, daemonize, no_net, micro, fixed_cards, fixed_root;
	bool stdio_used;		/* by one who does not share it */
	bool monitor_given;		/* even if it is none: no other is made */
	bool none;			/* -machine none: for questions only */
	const char *usb;		/* what asks for a USB controller, which comes with what is on it; NULL: nothing */
	bool usb_device;		/* there is something on it */
	bool usb_controller, serial_bus;	/* these are there even with nothing on them */
	const char *memory_backend;
	bool prealloc, mem_lock, mem_merge;
	const char *pflash_node[2];
	const char *pidfile, *watchdog_action, *sandbox;
	const char *pflash[2], *debugcon;
};

void qemu_init(struct qemu *q);
void qemu_free(struct qemu *q);
/* argv[1..argc).  EINVAL and others, with a message that names the option. */
int qemu_parse(struct qemu *q, int argc, char **argv, struct err *e);
int qemu_emit(struct qemu *q, struct err *e);
/* Answers what was asked for; the exit status. */
int qemu_answer(const struct qemu *q, FILE *f);

/* ---- inside ---- */

/* An argument of `lodge run`: an option, or its value. */
void emit(struct qemu *q, const char *arg);
void emitf(struct qemu *q, const char *opt, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A list of parts being put together: begin, part..., end. */
void emit_begin(struct qemu *q, const char *opt);
/* ",name=value", or the value alone with name NULL, commas doubled; value NULL: nothing. */
void emit_part(struct qemu *q, const char *name, const char *value);
/* Text that has its commas and names already. */
void emit_raw(struct qemu *q, const char *text);
void emit_end(struct qemu *q);

/* A copy that lives as long as q; "" when there is no room. */
const char *keep(struct qemu *q, const char *text);
const char *keepf(struct qemu *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What the guest could tell, and cannot be had otherwise here: the value that holds anyway, NULL if it is none of the user's. */
struct qemu_fixed {
	const char *name, *is;
};
/* A warning for each of them that is asked to be different.  Nothing is taken; the list ends with name NULL. */
void warn_fixed(const struct props *p, const char *option, const struct qemu_fixed *list);
/* The same of one value: on, yes, true and 1 are the same, "auto" is what holds. */
bool fixed_holds(const char *value, const char *is);

int item_add(struct qemu *q, struct list *l, const char *option, const char *implied, const char *text, struct err *e);
struct qemu_item *item_find(struct list *l, const char *id);

struct qemu_option {
	const char *name;		/* without "-" */
	const char *arg;		/* for -help; NULL: takes none */
	const char *help;
	int (*parse)(struct qemu *q, const char *val, struct err *e);
};
extern const struct qemu_option qemu_options[];	/* ends with name NULL */

/* A list's name when the value asks for help ("help", "?", "X,help"); then EAGAIN is returned by parsers. */
bool wants_help(struct qemu *q, const char *list, const char *val);

/* machine.c */
int opt_machine(struct qemu *q, const char *val, struct err *e);
int opt_accel(struct qemu *q, const char *val, struct err *e);
int opt_cpu(struct qemu *q, const char *val, struct err *e);
int opt_memory(struct qemu *q, const char *val, struct err *e);
int opt_boot(struct qemu *q, const char *val, struct err *e);
int opt_rtc(struct qemu *q, const char *val, struct err *e);
int opt_smbios(struct qemu *q, const char *val, struct err *e);
int opt_fw_cfg(struct qemu *q, const char *val, struct err *e);
int opt_global(struct qemu *q, const char *val, struct err *e);
int emit_machine(struct qemu *q, struct err *e);

/* numa.c */
int opt_smp(struct qemu *q, const char *val, struct err *e);
int opt_numa(struct qemu *q, const char *val, struct err *e);
int opt_overcommit(struct qemu *q, const char *val, struct err *e);
void emit_topology(struct qemu *q);
int emit_numa(struct qemu *q, struct err *e);
/* A CPU's place of a -device or -numa cpu.  `all`: parts there are several of, and the core, have to be given; *given: a bit for each that is. */
int place_take(struct qemu *q, struct props *p, bool all, struct x86_place *at, unsigned *given, struct err *e);

/* block.c */
int opt_drive(struct qemu *q, const char *val, struct err *e);
int opt_blockdev(struct qemu *q, const char *val, struct err *e);
int opt_fda(struct qemu *q, const char *val, struct err *e);
int opt_fdb(struct qemu *q, const char *val, struct err *e);
int opt_hda(struct qemu *q, const char *val, struct err *e);
int opt_hdb(struct qemu *q, const char *val, struct err *e);
int opt_hdc(struct qemu *q, const char *val, struct err *e);
int opt_hdd(struct qemu *q, const char *val, struct err *e);
int opt_cdrom(struct qemu *q, const char *val, struct err *e);
int opt_pflash(struct qemu *q, const char *val, struct err *e);
int opt_add_fd(struct qemu *q, const char *val, struct err *e);
/* A firmware's file by the name that -bios has for it: "bios", or a path. */
const char *firmware_find(struct qemu *q, const char *name);
/* The build beside it that does without system management mode, with a warning, where this one needs that; else itself. */
const char *firmware_without_smm(struct qemu *q, const char *file);
/* What is flash: before emit_machine, whose firmware it is. */
int emit_flash(struct qemu *q, struct err *e);
int emit_drives(struct qemu *q, struct err *e);
/* nodes.c: what -blockdev makes, but for flash. */
int emit_nodes(struct qemu *q, struct err *e);
/* A secret or throttle group. */
int emit_node_object(struct qemu *q, struct qemu_item *it, struct err *e);
/* What a file name of a drive stands for: "/dev/fdset/N" is a descriptor. */
const char *drive_path(struct qemu *q, const char *file);
/* A device that is a disk; adapter: the kind. */
/* A -device floppy is kept, and with those of -drive emitted at the end: their order is that of their numbers. */
int floppy_device(struct qemu *q, struct qemu_item *dev, struct err *e);
int emit_floppies(struct qemu *q, struct err *e);
int emit_disk_device(struct qemu *q, struct qemu_item *dev, const char *interface, bool cd, struct err *e);

/* net.c */
int opt_netdev(struct qemu *q, const char *val, struct err *e);
int opt_nic(struct qemu *q, const char *val, struct err *e);
int opt_net(struct qemu *q, const char *val, struct err *e);
int emit_card(struct qemu *q, struct qemu_item *dev, const char *model, struct err *e);
int emit_nets(struct qemu *q, struct err *e);

/* char.c */
int opt_chardev(struct qemu *q, const char *val, struct err *e);
int opt_serial(struct qemu *q, const char *val, struct err *e);
int opt_parallel(struct qemu *q, const char *val, struct err *e);
int opt_monitor(struct qemu *q, const char *val, struct err *e);
int opt_mon(struct qemu *q, const char *val, struct err *e);
int opt_qmp(struct qemu *q, const char *val, struct err *e);
int opt_qmp_pretty(struct qemu *q, const char *val, struct err *e);
int opt_echr(struct qemu *q, const char *val, struct err *e);
int opt_debugcon(struct qemu *q, const char *val, struct err *e);
/* The path of a chardev that is a client of a unix socket. */
int char_unix_path(struct qemu *q, const char *id, const char **path, struct err *e);
/* Path, side and seconds (text; NULL: none) of one that is a unix socket of either side. */
int char_socket_parts(struct qemu *q, const char *id, const char **path, bool *server, const char **reconnect, struct err *e);
/* A virtserialport or virtconsole. */
int emit_port(struct qemu *q, struct qemu_item *it, bool console, struct err *e);
int emit_chars(struct qemu *q, struct err *e);

/* device.c */
int opt_device(struct qemu *q, const char *val, struct err *e);
int opt_object(struct qemu *q, const char *val, struct err *e);
int emit_objects(struct qemu *q, struct err *e);
int emit_devices(struct qemu *q, struct err *e);
/* The bus if it is a root port's, else NULL: other buses are the root bus here. */
const char *slot_of(struct qemu *q, const char *bus);
/* The slot of the root bus that addr= (may be NULL) names; NULL: none, or none that a card may choose here. */
const char *root_slot(struct qemu *q, const char *addr, const char *bus);
void device_list(FILE *f);
int device_properties(const char *name, FILE *f);

/* share.c */
int opt_fsdev(struct qemu *q, const char *val, struct err *e);
int opt_virtfs(struct qemu *q, const char *val, struct err *e);
/* A virtio-9p card. */
int emit_fsdev(struct qemu *q, struct qemu_item *dev, struct err *e);
int emit_virtfs(struct qemu *q, struct err *e);

/* vhost.c: a vhost-user-blk or vhost-user-fs card. */
int emit_vhost_disk(struct qemu *q, struct qemu_item *dev, struct err *e);
int emit_vhost_fs(struct qemu *q, struct qemu_item *dev, struct err *e);

/* display.c */
int opt_vga(struct qemu *q, const char *val, struct err *e);
int opt_display(struct qemu *q, const char *val, struct err *e);
int opt_vnc(struct qemu *q, const char *val, struct err *e);
int emit_display(struct qemu *q, struct err *e);

#endif
