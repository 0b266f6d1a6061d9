/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a virtual machine consists of, checked: made from a configuration tree
 * (vm/conf.h), then const for the life of the VM.
 *
 * Keys (defaults in brackets):
 *   name [guest]  machine pc|micro [pc]  accel auto|kvm|translate|interp|check [auto]
 *   accel-split on|off [off]  cpu MODEL[,+f,-f] [max]  cpus N [1]  max-cpus N [cpus]  memory SIZE [512M]
 *   memory-max SIZE: --memory and all memory that may come [no more than the memory devices have]; without such a device it makes one, vm0
 *   memory-device.N.id ID  memory-device.N.size SIZE  memory-device.N.block-size SIZE [2M]  memory-device.N.requested-size SIZE [0]
 *   memory-device.N.node N [0]  memory-device.N.memdev ID: what QEMU calls its backend [its id]
 *   vcpu.N.present on|off [on below cpus], vcpu.N.id ID: of CPUs that came or went (max-cpus)
 *   topology.sockets N [1]  topology.dies N [1]  topology.cores N [all that are left]  topology.threads N [1]
 *   numa.N.node on  numa.N.cpus LIST [by sockets, if no node has any; else what is left is node 0's]  numa.N.memory SIZE [equal parts, if none has any]
 *   numa.N.distance.M DISTANCE [that of the other way, else 20]
 *   numa.N.host-nodes LIST, numa.N.policy default|preferred|bind|interleave [bind with host-nodes]: where the host keeps its memory; backing.* for all of it:
 *   backing.host-nodes LIST  backing.policy POLICY  backing.prealloc on|off [off]  backing.lock on|off [off]  backing.merge on|off [off]
 *   cpu-weight N [of the group it was started in]  cpu-quota PERCENT [none]
 *   huge-pages off|thp|2m [off]  pin LIST
 *   kernel FILE  initrd.N FILE  append TEXT
 *   firmware bios|uefi|FILE [none with a kernel, else by what is on the first disk]  firmware-vars FILE
 *   boot-order LETTERS: c disk, a floppy, d CD, n network [cadn]  boot-menu on|off|MILLISECONDS [off]
 *   fw-cfg.N.name NAME  fw-cfg.N.string TEXT  fw-cfg.N.file FILE
 *   disk.N.file F [none: an empty drive, with cdrom or if floppy]  disk.N.ro on|off  disk.N.serial S  disk.N.cache writeback|none|writethrough|unsafe
 *   disk.N.aio auto|uring|threads  disk.N.format raw|qcow2|vmdk|vdi|vhdx|vpc [by looking]  disk.N.backing folder|on|off [folder]
 *   disk.N.if virtio|scsi|nvme|ahci|usb|floppy [virtio]  disk.N.cdrom on|off [off]
 *   disk.N.controller NAME   NVMe: namespaces of one controller; SCSI: disks of one adapter [one for all]
 *   disk.N.scsi-id N [the first that is free]  disk.N.lun N [0, or with scsi-id the first that is free]
 *   disk.N.rerror report|stop|ignore [report]  disk.N.werror report|stop|ignore|enospc [enospc]
 *   disk.N.iothread on|off|NAME [on]  disk.N.num-queues N [one for each vCPU, at most 8]
 *   disk.N.snapshot on|off [off]: writes go to a temporary file  disk.N.discard unmap|ignore [unmap]  disk.N.logical-block-size N  disk.N.physical-block-size N
 *   disk.N.min-io-size N  disk.N.opt-io-size N  disk.N.discard-granularity N  disk.N.bootindex N [by boot-order]
 *   disk.N.key.M file:PATH | fd:NUMBER   key of the image (M = 0), its backing file (1) ...; the last is for all below
 *   net.N.kind user|tap|none  net.N.model virtio|e1000e [virtio]  net.N.fwd.N SPEC  net.N.mac M  net.N.if NAME  net.N.queues N  net.N.restrict on|off
 *   net.N.tftp FOLDER  net.N.bootfile NAME  net.N.tftp-server-name NAME  net.N.hostname NAME  net.N.domainname NAME  net.N.dnssearch NAME
 *   net.N.net NETWORK/BITS [10.0.2.0/24]  net.N.host ADDRESS  net.N.dns ADDRESS  net.N.dhcpstart ADDRESS
 *   net.N.romfile FILE [iPXE's, with firmware bios; empty: none]  net.N.rombar on|off [on]  net.N.bootindex N [by boot-order]
 *   disk.N.id, net.N.id, usb.N.id, port.N.id ID   the device's name for those who take it out again [none]
 *   disk.N.drive ID of a drive_add [none]
 *   disk.N.absent on|off [off]: only its controller is made, for disks that come later
 *   disk.N.hotplugged on|off [off]: it came while the guest ran, and is made behind everything else: controllers are where they were without it
 *   usb.N absent: likewise  disk.N.usb-port N, usb.N.port N, port.N.nr N [the next that is free]  net.N.netdev ID of the network [none]
 *   port-places N [ports and 8 more]: of the serial device, which is there even without a port  agent-port N, clipboard-port N [the next]
 *   disk.N.bus, net.N.bus ID of a root port [the root bus]  disk.N.slot, net.N.slot N: its slot on the root bus [the next free one]
 *   pci-hotplug on|off [off; lodge run: on]: cards of the root bus come and go  kept-slots N,... [none]: only cards that name them are put there
 *   root-port.N.id ID  root-port.N.slot N [the next number]  hotplug N [0]: free root ports, called hotplug1 ...
 *   console stdio|pty|none|FILE [stdio]  debugcon stdio|none|FILE [none]
 *   escape N[,x]   control character that leaves the console, x: with an x behind it [29, Ctrl-]]
 *   serial.N ID of a chardev|none   the port COM(N+1); serial.0 instead of the console [none]
 *   debug-exit on|off [off]  test-device on|off [off]  balloon on|off [on]  rng on|off [on]
 *   vga none|std|virtio|virtio-gpu [std with a display, else none]  vga-memory SIZE [16M]  vga-outputs N [1]
 *   vga-romfile FILE [the VGA BIOS, with firmware bios; empty: none]  vga-rombar on|off [on]
 *   display none|vnc|auto [none; lodge run: auto, where firmware starts the guest]  auto: vnc if it can be had  vnc.listen [HOST]:N|unix:PATH  vnc.websocket PORT  vnc.read-only on|off  vnc.tls anon
 *   vnc.password, vnc.view-password file:PATH|fd:NUMBER, the first also later  vnc.tls-cert FILE  vnc.tls-key FILE
 *   watchdog none|i6300esb [none]  watchdog-action reset|shutdown|poweroff|pause|debug|none|inject-nmi [reset]
 *   tpm none|tis|crb [none]  tpm-socket PATH  tpm-end on|off [off]  tpm-state FOLDER [FIRST-DISK.tpm]  vmgenid GUID|auto|none [none]
 *   input.N virtio-keyboard|virtio-mouse|virtio-tablet
 *   usb.N usb-kbd|usb-mouse|usb-tablet|none   [a tablet with a display]  none: not even that
 *   chardev.N.kind null|file|pty|socket|ringbuf|stdio|vdagent  chardev.N.mux on|off  chardev.N.escape N [1]  chardev.N.signal on|off [on]
 *   chardev.N.id ID  chardev.N.path PATH  chardev.N.append on|off
 *   chardev.N.host H  chardev.N.port P  chardev.N.server on|off  chardev.N.wait on|off  chardev.N.reconnect SECONDS  chardev.N.telnet on|off  chardev.N.fd N  chardev.N.size SIZE
 *   user-data FILE  meta-data FILE  network-config FILE  ssh-key.N FILE  hostname NAME: cloud-init's disk (seed.h)
 *   port.N.name NAME  port.N.chardev ID  port.N.console on|off  guest-agent PATH  clipboard on|off [off]
 *   share.N.path FOLDER  share.N.tag TAG [shareN]  share.N.security-model none|passthrough|mapped-xattr|mapped-file [none]
 *   share.N.readonly on|off [off]  share.N.multidevs remap|warn|forbid [remap]  share.N.writeout none|immediate [none]
 *   share.N.fmode, share.N.dmode OCTAL [0600, 0700]   of files and folders on the host, with the mapped models
 *   share.N.virtiofs SOCKET, in place of path  share.N.server, reconnect, num-queues, queue-size: as a vhost-disk's
 *   vhost-disk.N.path SOCKET  vhost-disk.N.server on|off [off]  vhost-disk.N.reconnect SECONDS [1]  vhost-disk.N.num-queues N [by vCPUs and peer]
 *   vhost-disk.N.queue-size N [128]  vhost-disk.N.bootindex N  vhost-disk.N.bus ID of a root port
 *   vsock.cid N [3]  vsock.path PATH   [none]  the path makes the device
 *   exec COMMAND  exec-timeout SECONDS [300]
 *   code-cache SIZE  direct auto|off|always [auto]  perf-map on|off [off]  dump-block ADDRESS[,FILE]
 *   object.N JSON, blockdev.N JSON: secrets, throttle groups, TLS' objects and block nodes, as QEMU describes them (vm/nodes.h)  disk.N.node NAME
 *   gdb PORT|ADDRESS  sandbox auto|on|off [auto]
 *   monitor.N ID of a chardev: a monitor for people
 *   qmp.N ADDRESS (control/address.h)  control on|off [on]  paused on|off [off]
 *   uuid UUID [none]  smbios.N TEXT, as QEMU's -smbios has it  rtc utc|localtime|DATE[THH:MM:SS] [utc]
 *   defaults lodge|qemu [lodge]: qemu adds no words to the kernel's command line and no devices, ends at once and with status 0,
 *     and resets after a triple fault
 *   pidfile FILE  daemonize on|off [off]  ready-fd N: a byte is written there when the guest is about to run
 *   stats on|off  no-reboot on|off  shutdown-timeout SECONDS [30]
 *   from-snapshot DIR  in-place on|off [off]  disk.N.inside NAME  disk.N.was BYTES NS (vm/snapshot.h)
 *   loadvm TAG    the guest goes on from a snapshot inside its disks (vm/savevm.h)
 *   incoming tcp:HOST:PORT|unix:PATH|exec:COMMAND|fd:N|defer   the guest comes by migration (vm/migrate.h)  incoming-tls DIR
 *   start-ns N    CLOCK_MONOTONIC at which the user's command began, for --stats
 */
#ifndef LODGE_VM_CONFIG_H
#define LODGE_VM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/disk.h"
#include "cpu/engine.h"
#include "cpu/x86/topology.h"
#include "machine/machine.h"
#include "machine/mem.h"
#include "net/port.h"
#include "p9/p9.h"
#include "platform/x86/platform.h"
#include "platform/x86/smbios.h"
#include "storage/disk.h"
#include "virtio/device.h"
#include "vm/conf.h"
#include "vm/tls.h"
#include "vm/tls.h"

#define VM_MAX_DISKS 16
#define VM_MAX_FLOPPIES 2
#define VM_MAX_KEYS 8
#define VM_MAX_BLOCKDEVS 64
#define VM_MAX_OBJECTS 32
#define VM_MAX_NETS 8
#define VM_MAX_INITRDS 32
#define VM_MAX_FWDS 32
#define VM_MAX_FW_CFGS 16
#define VM_MAX_QMPS 8
#define VM_MAX_USB 8
#define VM_MAX_SHARES 8
#define VM_MAX_VHOST_DISKS 8
#define VM_MAX_ROOT_PORTS 16
#define VM_LAST_SLOT 22		/* of the root bus, that a card may name; the first is 1 */
#define VM_MAX_FREE_PORTS 8
#define VM_ID_MAX 64			/* with the NUL */
#define VM_MEMORY_MAX (4096ull << 30)

enum vm_machine { VM_MACHINE_PC, VM_MACHINE_MICRO };
enum vm_accel { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_INTERP, VM_ACCEL_TRANSLATE, VM_ACCEL_CHECK };
enum vm_disk_if { VM_DISK_VIRTIO, VM_DISK_NVME, VM_DISK_AHCI, VM_DISK_SCSI, VM_DISK_USB, VM_DISK_FLOPPY };
enum vm_usb { VM_USB_KEYBOARD, VM_USB_MOUSE, VM_USB_TABLET, VM_USB_NONE, VM_USB_ABSENT };	/* as enum usb_hid_kind */
enum vm_nic { VM_NIC_VIRTIO, VM_NIC_E1000E };
enum vm_net_kind { VM_NET_USER, VM_NET_TAP, VM_NET_NONE };
#define VM_MAX_INPUTS 8
#define VM_MAX_CHARDEVS 32
#define VM_MAX_PORTS 16
#define VM_MAX_MONITORS 8
enum vm_chardev_kind { VM_CHARDEV_NULL, VM_CHARDEV_FILE, VM_CHARDEV_PTY, VM_CHARDEV_SOCKET, VM_CHARDEV_RINGBUF, VM_CHARDEV_STDIO, VM_CHARDEV_VDAGENT };

struct vm_chardev {
	enum vm_chardev_kind kind;
	const char *id, *path, *host, *port;
	bool server, wait, append;
	bool telnet;			/* a socket's other side speaks telnet */
	bool websocket;			/* a server's clients speak through one */
	struct vm_tls tls;		/* a socket's */
	bool mux;			/* several may use it */
	bool signal;			/* stdio: Ctrl-C ends the guest */
	unsigned escape;		/* control character of the mux; 0: none */
	unsigned fd;			/* > 2: a socket that was handed down */
	unsigned reconnect;		/* seconds */
	uint64_t size;			/* bytes of a ring buffer */
};

/* A port of the virtio serial device. */
struct vm_port {
	const char *name, *chardev;	/* NULL: it is not there (any more) */
	const char *id;			/* NULL: none */
	unsigned nr;			/* 0: the next place */
	bool console;
};

/* A vhost-user peer. */
struct vm_peer {
	const char *path;		/* of the socket; NULL: there is none */
	bool server;			/* it is he who connects */
	unsigned reconnect;		/* seconds; 0: the default */
	unsigned queues, queue_size;	/* 0: the device's default */
};

/* A disk that is a vhost-user peer's. */
struct vm_vhost_disk {
	struct vm_peer peer;
	const char *bus;		/* id of a root port; NULL: the root bus */
	int bootindex;			/* -1: none */
};

/* A folder that the guest may mount by its tag. */
struct vm_share {
	const char *path, *tag;
	struct vm_peer peer;		/* with a socket: virtiofs, and no path */
	struct p9_opts opts;		/* path and name, descriptors and threads apart */
};

enum vm_input { VM_INPUT_NONE, VM_INPUT_VIRTIO_KEYBOARD, VM_INPUT_VIRTIO_MOUSE, VM_INPUT_VIRTIO_TABLET };
enum vm_tpm { VM_TPM_NONE, VM_TPM_TIS, VM_TPM_CRB };
enum vm_watchdog { VM_WATCHDOG_OFF, VM_WATCHDOG_I6300ESB };
/* In the order of QEMU's WatchdogAction. */
enum vm_sandbox { VM_SANDBOX_AUTO, VM_SANDBOX_ON, VM_SANDBOX_OFF };	/* AUTO: on where the kernel and this build can */
enum vm_watchdog_action {
	VM_WATCHDOG_RESET, VM_WATCHDOG_SHUTDOWN, VM_WATCHDOG_POWEROFF, VM_WATCHDOG_PAUSE, VM_WATCHDOG_DEBUG, VM_WATCHDOG_NONE,
	VM_WATCHDOG_NMI,
};
extern const char *const vm_usb_words[];	/* in the order of enum vm_usb; NULL behind them */
extern const char *const vm_watchdog_action_words[];	/* QEMU's; NULL behind them */
enum vm_vga { VM_VGA_NONE, VM_VGA_STD, VM_VGA_VIRTIO, VM_VGA_GPU };	/* VIRTIO: a VGA and virtio-gpu in one; GPU: no VGA */
enum vm_console { VM_CONSOLE_STDIO, VM_CONSOLE_PTY, VM_CONSOLE_NONE, VM_CONSOLE_FILE };

/* What cloud-init in the guest is told: files, NULL: none (seed.h). */
#define VM_MAX_SSH_KEYS 16
struct vm_seed {
	const char *user_data, *meta_data, *network_config, *hostname;
	const char *key[VM_MAX_SSH_KEYS];	/* files of public keys */
	unsigned n_keys;
};

struct vm_disk {
	bool seed;			/* made of struct vm_config's seed; no path then */
	const char *path;		/* NULL: a drive that is empty, unless there is a node */
	const char *node;		/* the block node it stands on; NULL: one that is opened for it */
	uint64_t size;			/* bytes, of an image to be made if there is none; 0: it has to be there */
	enum vm_disk_if interface;
	bool there;			/* there is such a disk; else only its controller if it is absent, or nothing */
	bool absent;
	bool hotplugged;		/* it has come since the start */
	const char *id, *drive;		/* of the device, and of what drive_add said of it; NULL: none */
	bool cdrom;			/* a CD/DVD drive with the image in it */
	/* NVMe: disks of one name are namespaces of one controller, NULL: its own.  SCSI: disks of one adapter, NULL: the one of all those */
	const char *controller;
	int scsi_id, lun;		/* -1: the builder's choice */
	unsigned usb_port;		/* 0: the builder's choice */
	const char *serial;		/* NULL: none */
	const char *bus;		/* id of a root port; NULL: the root bus */
	unsigned slot;			/* on the root bus; 0: the builder's choice */
	struct blk_image_opts open;
	const char *key[VM_MAX_KEYS];	/* "file:PATH" or "fd:N", which also is the secret's id */
	unsigned n_keys;
	struct blk_disk_opts more;	/* filters, temporary layer */
	const char *was;		/* "BYTES MTIME-NS" of the file when the VM was saved; NULL: not to be checked */
	enum disk_on_error on_read_error, on_write_error;
	const char *iothread;		/* disks of one name share a thread; NULL: one of its own */
	bool no_iothread, no_discard, snapshot;
	unsigned queues;		/* 0: the builder's choice */
	unsigned block_size, physical_block, min_io, opt_io, discard_unit;	/* bytes; 0: as the image is */
	int bootindex;			/* -1: by its kind */
};

/* A card's option ROM. */
struct vm_rom {
	const char *file;		/* NULL: the one that is installed; "": none */
	bool no_bar;			/* none, and no place for one */
};

struct vm_net {
	enum vm_net_kind kind;
	enum vm_nic model;
	const char *ifname;		/* tap; NULL: the kernel picks */
	uint8_t mac[6];
	bool mac_given;
	unsigned queues;		/* tap: queue pairs */
	bool restrict_;
	struct net_fwd fwd[VM_MAX_FWDS];
	unsigned n_fwd;
	const char *tftp, *bootfile, *tftp_server_name, *hostname, *domainname, *dnssearch;	/* user; NULL: none */
	const char *net, *host, *dns, *dhcpstart;	/* user; NULL: the usual addresses */
	struct vm_rom rom;
	const char *id, *netdev;	/* of the card, and of the network; NULL: none */
	const char *bus;		/* id of a root port; NULL: the root bus */
	unsigned slot;			/* on the root bus; 0: the builder's choice */
	int bootindex;			/* -1: by its kind */
};

/* A PCI Express root port, with a slot for a card. */
struct vm_root_port {
	const char *id;
	unsigned slot;			/* its physical number */
	bool slot_given;
};

/* A file for the guest's firmware or system to find. */
struct vm_fw_cfg {
	const char *name, *text, *file;	/* one of the last two */
};

/* The VNC server; text as vnc.h has it. */
struct vm_vnc {
	bool on, read_only, tls_anonymous;
	bool maybe;			/* nobody asked for it: without it the guest runs all the same */
	const char *listen;		/* "[HOST]:N" or "unix:PATH"; NULL: the first free display of the loopback */
	unsigned websocket;
	const char *password, *view_password;	/* "file:PATH" or "fd:N" */
	bool password_later;		/* nobody may before the control protocol says what it is */
	const char *tls_cert, *tls_key;
};

/* On which nodes of the host memory is. */
struct vm_placement {
	uint64_t nodes;			/* 0: any */
	enum mem_policy policy;
	bool policy_given;
};

/* A node of the guest's memory, with its CPUs. */
struct vm_numa_node {
	bool there, memory_given;
	uint64_t cpus;			/* those it was given */
	uint64_t memory;		/* bytes */
	struct vm_placement placement;
	uint8_t distance[NUMA_MAX_NODES];	/* to the others */
};

/* Memory that comes and goes (virtio/mem.h). */
struct vm_memory {
	const char *id, *memdev;
	uint64_t size, block_size, requested;	/* bytes; what is requested at the start */
	unsigned node;
};

/* Text pointers belong to the tree, which must outlive the struct. */
struct vm_config {
	const char *name;
	bool name_given;
	enum vm_machine machine;
	enum vm_accel accel;
	bool accel_split;
	const char *cpu;
	unsigned cpus;			/* that are there from the start */
	unsigned max_cpus;		/* that there may be: as many, or more */
	signed char cpu_given[MACHINE_MAX_VCPUS];	/* 1: it is there all the same, -1: it is not; 0: as `cpus` says */
	const char *cpu_id[MACHINE_MAX_VCPUS];	/* NULL: none */
	struct x86_topology topology;	/* of all there may be */
	struct vm_numa_node node[NUMA_MAX_NODES];
	unsigned n_nodes;		/* 0: the guest is told of none */
	uint8_t cpu_node[MACHINE_MAX_VCPUS];	/* of each CPU, with nodes */
	uint64_t memory;		/* bytes, multiple of 1 MiB */
	bool memory_given;
	struct vm_placement placement;	/* of all of it */
	bool prealloc, mem_lock, mem_merge;
	unsigned cpu_weight, cpu_quota;	/* of a control group; 0: not said */
	uint64_t memory_max;		/* 0: not given */
	struct vm_memory memory_device[PLATFORM_MAX_MEMORY];
	unsigned n_memory_devices;
	int huge;			/* MEM_HUGE_* */
	bool pin;
	int pin_cpu[MACHINE_MAX_VCPUS];	/* host CPU of each vCPU, used round robin up to n_pin */
	unsigned n_pin;
	const char *kernel;
	const char *initrd[VM_MAX_INITRDS];
	unsigned n_initrds;
	const char *append;		/* "" if not given */
	const char *firmware;		/* "bios", "uefi" or a file; NULL: none with a kernel, else what suits the disk */
	const char *firmware_vars;	/* NULL: the default place */
	const char *boot_order;		/* letters */
	bool boot_menu;
	unsigned boot_menu_ms;
	struct vm_fw_cfg fw_cfg[VM_MAX_FW_CFGS];
	unsigned n_fw_cfgs;
	const char *object[VM_MAX_OBJECTS];	/* JSON: secrets, throttle groups, TLS' objects (vm/nodes.h) */
	unsigned n_objects;
	const char *blockdev[VM_MAX_BLOCKDEVS];	/* JSON: block nodes, in order */
	unsigned n_blockdevs;
	struct vm_disk disk[VM_MAX_DISKS];
	unsigned n_disks;
	struct vm_seed seed;
	struct vm_net net[VM_MAX_NETS];
	unsigned n_nets;
	struct vm_root_port root_port[VM_MAX_ROOT_PORTS];	/* the free ones come last */
	unsigned n_root_ports, free_ports;
	bool pci_hotplug;
	uint32_t kept_slots;		/* of the root bus, a bit for each: for cards that name them */
	bool free_ports_given;
	enum vm_console console;
	const char *console_file;
	enum vm_console debugcon;	/* NONE: absent */
	const char *debugcon_file;
	enum vm_vga vga;
	bool vga_given;
	struct vm_rom vga_rom;
	uint64_t vga_memory;		/* bytes of the VGA's; 0: it is none */
	unsigned outputs;		/* of virtio-gpu, or 1 */
	struct vm_vnc vnc;
	struct vm_chardev chardev[VM_MAX_CHARDEVS];
	unsigned n_chardevs;
	struct vm_port port[VM_MAX_PORTS];
	unsigned n_ports;
	unsigned port_places;		/* of the virtio serial device, port 0 counted; 0: some more than ports */
	unsigned agent_nr, clipboard_nr;	/* the agent's port and the clipboard's; 0: the next place */
	const char *guest_agent;	/* socket of its port; NULL: no port for it */
	bool clipboard;			/* SPICE's agent and its port */
	enum vm_input input[VM_MAX_INPUTS];
	enum vm_usb usb[VM_MAX_USB];
	const char *usb_id[VM_MAX_USB];	/* NULL: none */
	unsigned usb_port[VM_MAX_USB];	/* 0: the builder's choice */
	unsigned n_usb;
	struct vm_share share[VM_MAX_SHARES];
	unsigned n_shares;
	struct vm_vhost_disk vhost_disk[VM_MAX_VHOST_DISKS];
	unsigned n_vhost_disks;
	unsigned vsock_cid;		/* 0: the first there is */
	const char *vsock_path;		/* NULL: no vsock */
	enum vm_tpm tpm;
	const char *tpm_socket, *tpm_state;	/* the one excludes the other; NULL: the default place */
	bool tpm_end;			/* the one at tpm_socket is ended along with the guest */
	bool vmgenid, vmgenid_auto;
	uint8_t vmgenid_uuid[16];	/* unless it is made up */
	enum vm_watchdog watchdog;
	enum vm_watchdog_action watchdog_action;
	bool like_qemu;			/* defaults and ends as QEMU has them */
	uint8_t uuid[16];		/* RFC 4122 order; zero: none */
	struct smbios_user smbios;
	const char *serial[PLATFORM_MAX_SERIAL];	/* chardevs' ids; NULL: none */
	unsigned escape;		/* control character */
	bool escape_x;
	int64_t rtc_offset;		/* seconds of the guest's clock ahead of UTC */
	const char *pidfile;		/* NULL: none */
	bool daemonize;
	int ready_fd;			/* -1: nobody waits */
	bool debug_exit, test_device, balloon, rng, stats, no_reboot;
	uint64_t code_cache;		/* bytes; 0: the engine's choice */
	enum cpu_direct direct;
	enum vm_sandbox sandbox;
	bool perf_map, dump_block;
	uint64_t dump_address;
	const char *dump_file;		/* NULL: standard error */
	const char *gdb;		/* where gdb may connect; NULL: nowhere */
	const char *qmp[VM_MAX_QMPS];	/* addresses of monitors; NULL: the number was left out */
	const char *monitor[VM_MAX_MONITORS];	/* chardevs of monitors for people; NULL: left out */
	bool control;			/* a control socket in the user's runtime directory */
	bool in_place;			/* of from_snapshot: its disks themselves are brought back */
	const char *from_snapshot;	/* directory whose saved state it goes on from; NULL: it boots */
	const char *loadvm;		/* snapshot inside its disks that it goes on from (savevm.h); NULL: it boots */
	const char *incoming_tls;	/* a directory with a server's certificate, key and CA (base/tls.h); NULL: plain */
	const char *incoming;		/* where the guest comes from in the place of a boot: migrate.h; "defer": is told later; NULL: it boots */
	const struct conf *tree;
	bool paused;			/* until the host says go on */
	const char *exec;		/* NULL: none */
	unsigned exec_timeout, shutdown_timeout;	/* seconds */
	int64_t start_ns;		/* 0: unknown */
};

/* Checks every key of the tree and fills *out.  -EINVAL (and others) with a
 * message that names the option as the user wrote it. */
int vm_config_from(const struct conf *c, struct vm_config *out, struct err *e);

/* Is this CPU there?  And how many are. */
static inline bool vm_config_has_cpu(const struct vm_config *v, unsigned i)
{
	return i < MACHINE_MAX_VCPUS && i < v->max_cpus && (v->cpu_given[i] ? v->cpu_given[i] > 0 : i < v->cpus);
}
unsigned vm_config_n_cpus(const struct vm_config *v);
/* QEMU's name of it. */
const char *vm_policy_word(enum mem_policy policy);
/* What the platform is told of nodes; *n is zero. */
void vm_numa(const struct vm_config *v, struct platform_numa *n);

/* The disk of the configuration that is first among those a guest is installed on; NULL: there is none. */
const struct vm_disk *vm_config_first_disk(const struct vm_config *cfg);
/* The option that asks for such a disk, for messages. */
const char *vm_disk_option(const struct vm_disk *d);

/*
 * Adds element n of a list ("disk", "net", "usb", "port", "vcpu"), whose keys the tree has by now, to a configuration that is in use; on an error
 * it stays as it was.  And takes an element away again, down to what the tree still has of it.  The texts are the tree's.
 */
int vm_config_more(struct vm_config *v, const struct conf *tree, const char *list, unsigned n, struct err *e);
/* A card's and network's fields, without the prefix. */
int vm_config_net(const struct vm_config *v, const struct conf *fields, struct vm_net *out, struct err *e);
int vm_config_id(const char *text, struct err *e);
void vm_config_forget(struct vm_config *v, const char *list, unsigned n, const struct conf *tree);

/* "512M", "2G", "1048576K"; a plain number is MiB, as QEMU and kvmtool read it. */
int vm_parse_size(const char *text, uint64_t *bytes, struct err *e);
/* "tcp:[ADDR:]HOSTPORT:[ADDR:]GUESTPORT" (or udp:). */
int vm_parse_fwd(const char *text, struct net_fwd *out, struct err *e);
/* QEMU's form of it, "tcp:[HOSTADDR]:PORT-[GUESTADDR]:PORT", in the one above. */
int vm_fwd_of_qemu(const char *rule, char *out, size_t len, struct err *e);
/* "01234567-89ab-cdef-0123-456789abcdef", in the order of RFC 4122. */
int vm_parse_uuid(const char *text, uint8_t uuid[16], struct err *e);
int vm_parse_mac(const char *text, uint8_t mac[6], struct err *e);

#endif
