/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may be asked of a virtual machine that runs, and what it tells whoever
 * watches it: the control protocol's side of a VM.
 *
 * All functions: machine lock held, any thread, unless they say otherwise.
 */
#ifndef LODGE_VM_LIVE_H
#define LODGE_VM_LIVE_H

#include "cpu/debug.h"
#include "cpu/x86/state.h"
#include "machine/machine.h"
#include "vm/vm.h"

struct disk;
struct display;
struct input;
struct keyseq_player;
struct pci_bus;
struct pci_dev;
struct vnc;
struct virtio_dev;
struct virtio_mem_info;
struct vm_config;

/* Who or what brought about a change; the order is that of vm_cause_name's words, QEMU's ShutdownCause. */
enum vm_cause {
	VM_CAUSE_NONE, VM_CAUSE_HOST_ERROR, VM_CAUSE_QMP_QUIT, VM_CAUSE_QMP_RESET, VM_CAUSE_SIGNAL, VM_CAUSE_UI,
	VM_CAUSE_GUEST_SHUTDOWN, VM_CAUSE_GUEST_RESET, VM_CAUSE_GUEST_PANIC,
};
const char *vm_cause_name(enum vm_cause c);
bool vm_cause_is_guest(enum vm_cause c);

enum vm_event {
	VM_EVENT_STOP,		/* it stands still */
	VM_EVENT_STAY,		/* it was asked to, but somebody wanted it to go on before it did */
	VM_EVENT_RESUME,	/* it goes on */
	VM_EVENT_RESET,		/* was reset */
	VM_EVENT_POWERDOWN,	/* the power button was pressed */
	VM_EVENT_SUSPEND_DENIED,
	VM_EVENT_WATCHDOG,	/* has run out; what vm_watchdog_action says is done next */
	VM_EVENT_PANIC,		/* the guest's kernel says that it has panicked; VM_EVENT_SHUTDOWN follows */
	VM_EVENT_SHUTDOWN,	/* vm_run will return */
	VM_EVENT_MIGRATION,	/* a migration's status is another (migrate.h) */
};

/* A device by its place in one of the configuration's lists. */
enum vm_device_list { VM_DEVICE_DISK, VM_DEVICE_NET, VM_DEVICE_USB, VM_DEVICE_PORT, VM_DEVICE_CPU, VM_DEVICE_LISTS };
struct vm_device {
	enum vm_device_list list;
	unsigned index;
};

enum vm_device_event {
	VM_DEVICE_ADDED,
	VM_DEVICE_LEAVES,	/* it is about to be freed */
	VM_DEVICE_DELETED,	/* it is not there any more */
};

/* Loop thread, machine lock held. */
struct vm_watch {
	void (*event)(void *opaque, enum vm_event ev, enum vm_cause cause);
	/* id: NULL if it has none.  May be NULL. */
	void (*device)(void *opaque, enum vm_device_event ev, const struct vm_device *d, const char *id);
	/* Does somebody else work with this disk, so that it cannot go?  May be NULL. */
	bool (*busy)(void *opaque, unsigned disk);
	void *opaque;
};
/* One watcher; NULL: nobody. */
void vm_set_watch(struct vm *vm, const struct vm_watch *w);

enum vm_status { VM_PRELAUNCH, VM_RUNNING, VM_PAUSED, VM_IO_ERROR, VM_WATCHDOG, VM_DEBUG, VM_SHUT_DOWN, VM_PANICKED, VM_INTERNAL_ERROR,
		 VM_INMIGRATE /* waits for its guest */, VM_FINISH_MIGRATE /* hands it over */, VM_POSTMIGRATE /* has done so */ };
enum vm_status vm_status(const struct vm *vm);

/* Stands still until vm_resume (vm.h), however often it is reset meanwhile; VM_EVENT_STOP or VM_EVENT_STAY tells when it does. */
void vm_stop(struct vm *vm);
void vm_reset(struct vm *vm);
/* Ends the VM with exit status 0. */
void vm_quit(struct vm *vm);
/* The power button, once; nothing is done about a guest that ignores it. */
void vm_power_button(struct vm *vm);
/* What comes of a watchdog that runs out. */
enum vm_watchdog_action vm_watchdog_action(const struct vm *vm);
void vm_set_watchdog_action(struct vm *vm, enum vm_watchdog_action action);
/* The VM generation ID, as RFC 4122 orders its bytes.  False: it has none. */
bool vm_generation_id(const struct vm *vm, uint8_t uuid[16]);
/* Each CPU gets an NMI. */
void vm_nmi(struct vm *vm);

/*
 * Saves the VM into a directory that is not there yet (vm/snapshot.h), which takes a pause; then it goes on, or not.  ENOTSUP,
 * EBUSY, EEXIST and others at once; what fails later is told to `done`, which else gets what was done, on the loop's
 * thread with the machine lock held; a VM that is to end does so after it.
 */
enum vm_save_then { VM_SAVE_GO_ON, VM_SAVE_STOP, VM_SAVE_QUIT };
struct vm_save_opts {
	const char *dir;		/* absolute, and of what it is a difference of, too */
	const char *diff_of;		/* a snapshot's directory: only memory that differs from it is saved.  NULL */
	bool compress;			/* the memory */
	enum vm_save_then then;
};
struct vm_save_result {
	uint64_t memory_bytes;		/* that are saved, holes not counted */
	uint64_t stored_bytes;		/* in the file */
	int64_t pause_ns;		/* how long it stood still (at least) */
	unsigned disks;			/* that have an internal snapshot now */
};
typedef void (*vm_save_done)(void *opaque, int ret, const struct vm_save_result *r, const struct err *e);
int vm_save(struct vm *vm, const struct vm_save_opts *o, vm_save_done done, void *opaque, struct err *e);

/* What it is made of. NULL: there is none. */
const struct vm_config *vm_config_of(const struct vm *vm);
struct machine *vm_machine(const struct vm *vm);
const char *vm_engine_name(const struct vm *vm);
struct disk *vm_disk_of(const struct vm *vm, unsigned i);
/* A network card's cable is plugged in or pulled out. False: there is no such card. */
bool vm_net_set_link(struct vm *vm, unsigned i, bool up);
struct pci_bus *vm_pci_root(const struct vm *vm);	/* NULL: no PCI */
/* The id of a root port or card; NULL: it has none. */
const char *vm_pci_id(const struct vm *vm, const struct pci_dev *d);
bool vm_has_usb(const struct vm *vm);	/* a controller for it */
struct virtio_dev *vm_balloon_of(const struct vm *vm);
struct display *vm_screen(const struct vm *vm, unsigned output);
struct input *vm_input(const struct vm *vm);
struct keyseq_player *vm_typist(const struct vm *vm);	/* plays keys on vm_input */
struct vnc *vm_vnc(const struct vm *vm);
/*
 * Memory devices, by their place in the configuration.  info: false: there is none.  How many bytes the guest should have of one, and, over all of them
 * and what it has anyway, all in all (the first devices first): EINVAL, ERANGE; ENOMEM: the host has not that much; ENOTSUP: there are none
 */
int vm_memory_find(const struct vm *vm, const char *id);	/* ENOENT */
bool vm_memory_info(const struct vm *vm, unsigned i, struct virtio_mem_info *out);
int vm_memory_request(struct vm *vm, unsigned i, uint64_t bytes, struct err *e);
int vm_memory_set(struct vm *vm, uint64_t total, struct err *e);
/* vCPUs that come and go (max_cpus).  Is it there; and what the guest's system said of it last (ACPI's _OST): false: there is no such. */
bool vm_has_cpu(const struct vm *vm, unsigned id);
bool vm_cpu_ost(const struct vm *vm, unsigned id, uint32_t *event, uint32_t *status);
/* The host's id of the thread, 0 before it runs. */
long vm_vcpu_tid(const struct vm *vm, unsigned id);
/* Host CPUs that its thread may run on: EINVAL, ENODEV.  And those it may: how many were put into cpus, at most max. */
int vm_vcpu_pin(struct vm *vm, unsigned id, const unsigned *cpus, unsigned n, struct err *e);
unsigned vm_vcpu_pinned(const struct vm *vm, unsigned id, unsigned *cpus, unsigned max);
/* Share of CPU time and most of it in percent of one CPU, 0: no limit (base/cgroup.h); ENOTSUP: the VM was started without a group of its own.  And what was
 * set last, 0: nothing, and the group's folder, NULL: none. */
int vm_set_cpu_limits(struct vm *vm, const unsigned *weight, const unsigned *quota, struct err *e);
const char *vm_cpu_limits(const struct vm *vm, unsigned *weight, unsigned *quota);
/* Only while the VM stands still: EBUSY. ENODEV: it is not there */
int vm_vcpu_state(const struct vm *vm, unsigned id, struct x86_state *out);
/* The other way round. */
int vm_vcpu_set_state(struct vm *vm, unsigned id, const struct x86_state *s);

/*
 * Debuggers.  Points count from now on and stay the caller's, unchanged until the next call; NULL: no debugger.  While the VM stands
 * still: EBUSY. ENOTSUP: not with this engine.
 */
int vm_debug_points(struct vm *vm, const struct cpu_debug *d);
/* Goes on as vm_resume does; step: only this vCPU, for one instruction; -1: all.  VM_EVENT_STOP follows. */
int vm_debug_go(struct vm *vm, int step);
/* The vCPU for which the VM stands still, and why; -1: it does so, or not, for another reason. */
int vm_debug_stopped(const struct vm *vm, const struct cpu_debug_stop **why);

/* Milliseconds since vm_run began; 0 before. */
uint64_t vm_run_ms(const struct vm *vm);
/* What --stats prints, one by one. */
void vm_stats(struct vm *vm, void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque);

#endif
