/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of vm/ share. */
#ifndef LODGE_VM_INTERNAL_H
#define LODGE_VM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "block/blk.h"
#include "chardev/chardev.h"
#include "cpu/engine.h"
#include "cpu/x86/cpuid.h"
#include "machine/machine.h"
#include "platform/x86/platform.h"
#include "virtio/gpu.h"
#include "vm/config.h"
#include "vm/live.h"
#include "vm/migrate.h"
#include "vm/vm.h"

struct cgroup;
struct clipboard;
struct disk;
struct blk_secrets;
struct input;
struct iothread;
struct keyseq_player;
struct ahci;
struct e1000e;
struct virtio_net_stats;
struct net_backend;
struct nvme;
struct usb_device;
struct xhci;
struct pci_bus;
struct pci_dev;
struct pci_root_port;
struct tpm;
struct vm_chardevs;
struct vm_exec;
struct vm_boot_device;
struct vm_iothreads;
struct vm_scsis;
struct vm_save;
struct vm_inside;
struct mig;
struct vm_restore;
struct vm_vars;

/* Ranks of devices (machine.h): those that may come and go have one for each place in the configuration. */
enum { VM_RANK_CHIPS, VM_RANK_PORTS, VM_RANK_CONSOLE, VM_RANK_DISKS = 0x100, VM_RANK_NETS = 0x200, VM_RANK_REST = 0x300, VM_RANK_USB = 0x400, VM_RANK_FIRMWARE = 0x500 };

/* The threads' side of a vCPU. */
struct vm_vcpu {
	struct vm *vm;
	unsigned id;
	pthread_t thread;
	bool started;			/* the thread exists */
	bool ready;			/* vcpu_thread_init succeeded */
	enum vcpu_stop last_stop;
	_Atomic long tid;		/* the host's id of the thread, 0: not yet */
	bool inside;			/* counted in n_running; run_lock */
	bool leaving;			/* the guest has ejected it, and it is not finished; machine lock */
	int64_t asked_ns;		/* when the guest was asked to give it up; machine lock */
};

/* The slot of a root port.  Machine lock. */
struct vm_slot {
	int64_t asked_ns;		/* when the guest was asked to give the card up; 0: it was not */
	bool ejected;			/* it has */
};

struct vm {
	const struct vm_config *cfg;	/* &live */
	struct vm_config live;		/* changes when devices come and go: loop thread, machine lock */
	struct conf *tree;		/* likewise */
	struct cgroup *cgroup;		/* NULL: it is where it was started */
	unsigned cpu_weight, cpu_quota;	/* of that; 0: not said, no limit */
	struct machine *m;
	const struct cpu_engine_ops *engine_ops;
	struct cpu_engine *engine;
	struct x86_cpu_model model;
	struct platform *platform;
	struct platform_config pcfg;
	char *cmdline;
	struct chardev *console, *debugcon;
	struct display *screen[VIRTIO_GPU_MAX_OUTPUTS];	/* one for each output; the first is what VNC shows.  NULL: none */
	struct virtio_gpu_config gpu;
	struct vnc *vnc;
	char *screen_note;		/* where it is, to be told; NULL: nothing is */
	struct clipboard *clipboard;	/* NULL: the guest has no agent for it */
	struct input *input;		/* NULL: nothing to type on */
	struct keyseq_player *typist;	/* keys pressed by programs; as input */
	struct tpm *tpm;		/* NULL: none */
	char *tpm_folder;		/* of its state, to be removed at the end; NULL: stays */
	struct vm_chardevs *chardevs;
	struct vm_exec *exec;
	struct disk *disk[VM_MAX_DISKS];	/* the machine's, for --stats */
	struct ahci *ahci;		/* NULL: none */
	struct xhci *xhci;		/* NULL: none */
	struct usb_device *usb[VM_MAX_USB], *usb_disk[VM_MAX_DISKS];
	struct nvme *nvme[VM_MAX_DISKS];	/* their controllers, if they are NVMe's */
	struct vm_scsis *scsi;		/* adapters; NULL: none */
	struct virtio_dev *net[VM_MAX_NETS];	/* cards, of one model or the other */
	struct e1000e *e1000e[VM_MAX_NETS];
	struct pci_dev *net_card[VM_MAX_NETS];	/* NULL: not on PCI */
	const char *net_rom[VM_MAX_NETS];	/* what iPXE calls a driver for it: "virtio" */
	struct virtio_dev *balloon;
	struct virtio_dev *vsock;	/* NULL: none */
	struct virtio_dev *memory[PLATFORM_MAX_MEMORY];
	struct pci_root_port *root_port[VM_MAX_ROOT_PORTS];
	struct vm_slot slot[VM_MAX_ROOT_PORTS];
	struct vm_slot root_slot[VM_LAST_SLOT + 1];	/* of the root bus, by number */
	struct list netdevs;		/* struct vm_netdev */
	struct loop_bh plug_bh;
	struct loop_timer plug_timer;
	bool built;			/* all that is there from the start is */
	bool ran;			/* it has begun, or waits for a guest from elsewhere */
	char *made[VM_MAX_DISKS + 1];	/* paths of disks and a file of variables that are new; NULL behind them */
	struct vm_iothreads *io;
	struct iothread *peer_io[VM_MAX_VHOST_DISKS + VM_MAX_SHARES];	/* of devices with vhost-user peers */
	unsigned n_peer_io;
	struct vm_nodes *nodes;		/* named ones (nodes.h); NULL: none */
	struct vm_vars *vars;		/* UEFI's */
	bool uefi_disk;			/* the first disk boots by UEFI only */
	struct vm_boot_device *boot;	/* what firmware may boot from, in order */

	/* Run control: run_lock may be taken with the machine lock held, never
	 * the other way round. */
	pthread_mutex_t run_lock;
	pthread_cond_t run_cond;
	bool run;			/* vCPUs should execute */
	bool quit;			/* vCPU threads should end */
	unsigned only;			/* 1 + the one that should execute; 0: all */
	unsigned n_running;		/* threads inside vcpu_run (or about to be) */
	enum machine_request req;	/* the first request since the vCPUs last ran */
	int req_code;
	bool pause_asked;		/* besides req, which may be something that ends the wish */
	bool paused;			/* clock and devices stand still; machine lock */
	bool stop_wanted;		/* by vm_stop, until vm_resume; machine lock */
	bool prelaunch;			/* paused, and has not run since the start or a reset; machine lock */
	bool debug_stop;		/* stop_wanted by vCPU debug_vcpu, for the debugger; machine lock */
	unsigned debug_vcpu;
	const struct cpu_debug *debug;	/* the debugger's points; NULL: there is none */
	bool watchdog_stop;		/* stop_wanted by the watchdog's action; machine lock */
	enum vm_watchdog_action watchdog_action;	/* machine lock */
	enum vm_cause cause;		/* of the request under way, as far as the host made it; machine lock */
	enum vm_status end;		/* VM_PRELAUNCH until it has ended */
	struct vm_watch watch;
	struct vm_save *save;		/* under way, or NULL; machine lock */
	struct vm_inside *inside;	/* likewise: savevm.h */
	struct vm_restore *restore;	/* what it goes on from; NULL: it boots */
	struct mig *mig_out, *mig_in;	/* the last migration away from here, and the one it came or comes by; NULL: none; machine lock */
	struct vm_migrate_params mig_params;
	bool disk_claimed[VM_MAX_DISKS], disk_opened[VM_MAX_DISKS];	/* migrate_disks.c's */
	_Atomic unsigned throttle;	/* percent of the time that vCPUs do not run; 0: all */
	struct loop_timer throttle_timer;
	struct platform_ram ram;
	struct loop_bh parked_bh;	/* posted when the last vCPU has stopped for a request */
	struct vm_vcpu vcpu[MACHINE_MAX_VCPUS];

	struct loop_fd signal_fd;
	struct loop_timer deadline;	/* of a shutdown asked for from outside */
	bool shutting_down;
	bool debug_exit;		/* the guest has chosen the exit status */

	int exit_status;
	struct err *err;		/* of vm_run's caller */
	int64_t first_insn_ns;		/* CLOCK_MONOTONIC when the first vCPU entered the engine */
	int64_t run_start_ns;
	_Atomic bool first_insn_seen;
};

/* accel.c */
/* Chooses the engine; prints one line with the reason for `auto`. */
int vm_accel_choose(enum vm_accel want, bool quiet, const struct cpu_engine_ops **out, struct err *e);

/* backing.c */
/* The RAM is there, and nobody has touched it. */
int vm_place_memory(struct vm *vm, struct err *e);
/* Before other threads begin. */
int vm_limit_cpus(struct vm *vm, struct err *e);
int vm_check_pins(const struct vm_config *cfg, struct err *e);

/* build.c */
int vm_build(struct vm *vm, struct err *e);
void vm_unbuild(struct vm *vm);
/* The kernel command line: what the machine needs, then what the user gave. */
char *vm_make_cmdline(const struct vm_config *cfg);

/* disk.c */
int vm_add_disks(struct vm *vm, struct err *e);
/* Behind all other devices: those of a saved VM that came while it ran. */
int vm_add_hotplugged_disks(struct vm *vm, struct err *e);
/* The keys that a disk's configuration names. */
int vm_disk_secrets(const struct vm_disk *d, struct blk_secrets *s, struct err *e);
/* The i-th alone, and away with it while the guest runs: it does not know of it any more. */
int vm_add_disk(struct vm *vm, unsigned i, struct err *e);
void vm_remove_disk(struct vm *vm, unsigned i);
/* Its SCSI address. False: it has none. */
bool vm_scsi_place(const struct vm *vm, unsigned i, unsigned *target, unsigned *lun);
/* Makes the image of a disk that has a size and no file yet; otherwise does nothing. */
int vm_make_disk(struct vm *vm, struct loop *l, const struct vm_disk *d, struct err *e);
/* A file that this start has made: it is removed if the guest does not come to run after all.  No lock needed before the machine is built. */
void vm_made_file(struct vm *vm, const char *path);
void vm_free_made(struct vm *vm);
/* What disk.c keeps. The devices are gone. No lock held. */
void vm_free_disks(struct vm *vm);

/* ports.c */
int vm_add_root_ports(struct vm *vm, struct err *e);
/* Its place in the configuration; -ENOENT. */
int vm_find_root_port(const struct vm *vm, const char *id);
/* The bus that a card with bus=NAME is on; NULL on micro. ENOENT */
int vm_card_bus(const struct vm *vm, const char *name, struct pci_bus **out, struct err *e);
/* platform_add_virtio on that bus, in that slot of the root bus (0: any). */
int vm_add_card(struct vm *vm, struct virtio_dev *d, const char *bus, unsigned slot, struct err *e);
/* What is in the slot of this root port, or in this slot of the root bus; NULL. */
struct pci_dev *vm_card_in(const struct vm *vm, const char *bus, unsigned slot);
void vm_free_card(struct vm *vm, const char *bus, unsigned slot);
/* The root bus, by one of QEMU's names for it. */
bool vm_is_root_bus(const char *name);
/* What the platform is to know of slots. */
void vm_slots_config(struct vm *vm, struct platform_config *p);

/* usb.c */
/* The USB controller, which is made for the first who asks. */
int vm_usb_controller(struct vm *vm, struct err *e);
int vm_add_usb(struct vm *vm, struct err *e);
int vm_add_usb_device(struct vm *vm, unsigned i, struct err *e);
void vm_remove_usb_device(struct vm *vm, unsigned i);

/* snapshot.c: blk_open_disk with what is written going to a temporary file. */
int vm_open_snapshot(struct loop *l, const char *path, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		     struct blk_node **out, struct err *e);

/* display.c */
int vm_display_new(struct vm *vm, struct err *e);
/* Begins and ends showing it.  Machine lock not held. */
int vm_display_show(struct vm *vm, struct err *e);
/* Says where the screen is, or why it is not shown, once nothing can keep the guest from running. */
void vm_display_tell(struct vm *vm);
void vm_display_hide(struct vm *vm);
/* The devices are gone. */
void vm_display_free(struct vm *vm);

/* chardevs.c: the named ones, before the devices; ports to them; their end, after the devices.  Machine lock held. */
int vm_chardevs_new(struct vm *vm, struct err *e);
int vm_add_ports(struct vm *vm, struct err *e);
int vm_add_port(struct vm *vm, unsigned i, struct err *e);
void vm_remove_port(struct vm *vm, unsigned i);
void vm_chardevs_free(struct vm *vm);

/* parts.c: small devices that the configuration asks for. */
int vm_add_parts(struct vm *vm, struct err *e);
/* shares.c */
int vm_add_shares(struct vm *vm, struct err *e);
/* vhost.c: devices with vhost-user peers, who are waited for; a file system's, whose peer is at p->path; their threads, when the devices are gone and no
 * lock is held; whether there are such, which need memory that can be shared. */
int vm_add_vhost_disks(struct vm *vm, struct err *e);
int vm_add_virtiofs(struct vm *vm, const char *id, const struct vm_peer *p, const char *tag, struct err *e);
void vm_free_peer_threads(struct vm *vm);
bool vm_has_peers(const struct vm_config *cfg);
/* vsock.c */
int vm_add_vsock(struct vm *vm, struct err *e);
/* memory.c: memory devices.  The platform's part of it; bytes of the RAM backing; the first address behind all memory, where there are such
 * devices.  Then, with the machine lock held: the devices; the machine is about to be reset, and no vCPU runs. */
void vm_memory_config(const struct vm_config *cfg, struct platform_config *p);
uint64_t vm_backing_size(const struct vm_config *cfg);
uint64_t vm_memory_span(const struct vm_config *cfg);
int vm_add_memory(struct vm *vm, struct err *e);
void vm_memory_reset(struct vm *vm);
/* tpm.c: the TPM itself, before the platform and after the devices. No lock needed. */
int vm_tpm_new(struct vm *vm, struct err *e);
void vm_tpm_free(struct vm *vm);

/* vcpu.c */
int vm_vcpus_start(struct vm *vm, struct err *e);
void vm_vcpus_resume(struct vm *vm);
/* The request was dealt with, and they stay parked. Loop thread, machine lock held. */
void vm_vcpus_stay(struct vm *vm);
void vm_vcpus_join(struct vm *vm);
/* So many percent of the time, 0 to 99, they do not run. Loop thread, machine lock held. */
void vm_vcpus_throttle(struct vm *vm, unsigned percent);
void vm_vcpus_throttle_init(struct vm *vm);
/* Machine lock held, any thread: remembers the request and stops the vCPUs. */
void vm_request(void *vm, enum machine_request req, int code);

/* Of one that has just become absent (vcpu.h): its thread comes out of the engine, and then plug_bh is posted. Machine lock held. */
void vm_vcpu_park(struct vm *vm, unsigned id);
/* One that is not absent any more goes on. */
void vm_vcpu_unpark(struct vm *vm, unsigned id);
/* While no vCPU runs: those that are absent are parked, the others are not. */
void vm_vcpus_parked(struct vm *vm);

/* cpus.c: vCPUs that come and go.  All but vm_cpus_config: loop thread, machine lock held. */
void vm_cpus_config(struct vm *vm, struct platform_config *p);
int vm_cpu_may_come(const struct vm *vm, unsigned i, struct err *e);
int vm_add_cpu(struct vm *vm, unsigned i, struct err *e);
int vm_ask_cpu(struct vm *vm, unsigned i, struct err *e);
void vm_remove_cpu(struct vm *vm, unsigned i);
/* Ends with those that have come out of the engine. */
void vm_cpus_work(struct vm *vm);
/* The machine is about to be reset, and no vCPU runs. */
void vm_cpus_reset(struct vm *vm);
/* Is one on its way out? */
bool vm_cpus_leave(const struct vm *vm);

/* net.c */
int vm_add_nets(struct vm *vm, struct err *e);
int vm_net_open(struct vm *vm, const struct vm_net *n, struct net_backend **b, struct err *e);
int vm_add_net(struct vm *vm, unsigned i, struct err *e);
void vm_remove_net(struct vm *vm, unsigned i);
/* False: there is no such card. */
bool vm_net_stats(const struct vm *vm, unsigned i, struct virtio_net_stats *out);

/* live.c */
void vm_tell(struct vm *vm, enum vm_event ev, enum vm_cause cause);

/* snapshot_load.c: a VM that goes on from a snapshot.  Before it is built; then the CPU model, where the best there is stands in vm->model, and
 * whether its interrupt chips are those of the snapshot; at last, instead of platform_boot, all the rest. Machine lock held. */
int vm_restore_open(struct vm *vm, struct err *e);
int vm_restore_model(struct vm *vm, struct err *e);
struct mem_image **vm_restore_memory(const struct vm *vm);	/* whoever takes it puts NULL there */
int vm_restore_load(struct vm *vm, struct err *e);
void vm_restore_free(struct vm *vm);

/* vm.c */
void vm_init(struct vm *vm, const struct vm_config *cfg, struct err *e);
/* vm->m exists: hooks requests, timers and callbacks to its loop. */
void vm_init_loop(struct vm *vm);
/* Ends vm_run with this status.  Loop thread, vCPUs parked or about to be joined. */
void vm_finish(struct vm *vm, int status);
/* Presses the power button and starts the deadline; a second time quits. */
void vm_shutdown(struct vm *vm, const char *why);

/* exec.c */
int vm_exec_new(struct vm *vm, struct err *e);
/* The guest is down: the status of the whole run. `status` is what it would be without --exec. */
int vm_exec_result(struct vm_exec *x, int status);
void vm_exec_start(struct vm_exec *x);
void vm_exec_free(struct vm_exec *x);

/* report.c */
void vm_report(struct vm *vm, const char *what);
void vm_print_stats(struct vm *vm);

#endif
