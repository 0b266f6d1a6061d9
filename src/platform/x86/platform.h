/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine builder: from a const configuration to a wired machine.
 *
 * It alone knows addresses and IRQ numbers (layout.h).  Two machines:
 *   pc     PCI Express with ECAM, ACPI, the legacy parts an OS expects;
 *   micro  virtio-mmio, ACPI with reduced hardware, no legacy parts.
 *
 * Order of calls: machine_new; engine init; engine vcpu_create for each vCPU
 * (m->vcpus[0..n_vcpus) filled); platform_new; platform_add_virtio for each
 * device; platform_boot; run.  After a reset: vCPUs stopped, then
 * platform_boot again (it resets the devices, loads images and tables anew and
 * gives every vCPU its start state).  At the end: machine_free, then
 * platform_free (devices hold wires that live in the platform).
 *
 * All functions: machine lock held, or before any vCPU or loop runs; vCPUs not
 * in vcpu_run during platform_boot.
 */
#ifndef LODGE_PLATFORM_X86_PLATFORM_H
#define LODGE_PLATFORM_X86_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "chardev/chardev.h"
#include "cpu/engine.h"
#include "cpu/x86/topology.h"
#include "machine/machine.h"
#include "platform/x86/numa.h"
#include "virtio/device.h"

struct blk_node;
struct disk;
struct disk_opts;
struct display;
struct tpm;
struct input;
struct pci_bus;
struct pci_dev;
struct platform;
struct smbios_user;
struct virtio_gpu_config;

enum platform_kind { PLATFORM_PC, PLATFORM_MICRO };

/* How a TPM shows itself. */
enum platform_tpm { PLATFORM_TPM_TIS, PLATFORM_TPM_CRB };

#define PLATFORM_MAX_SERIAL 4
#define PLATFORM_MAX_MEMORY 8

/* Memory that comes and goes: a region of addresses behind RAM and a part of the RAM backing for a device such as virtio/mem.h. */
struct platform_memory {
	uint64_t size;		/* bytes, a multiple of 1 MiB */
	unsigned node;		/* proximity domain that it will belong to */
};

/* Firmware to be run, read during platform_add_firmware. */
struct platform_firmware {
	const char *file;	/* image: a multiple of 4 KiB, at most 16 MiB; it ends at 4 GiB */
	/* Flash beside it: the image is write-protected, and below it lies a chip whose contents vars has (vars_len bytes,
	 * copied), kept by store_vars (machine lock held; see chipset/pflash_cfi01.h).  NULL: the image is plain ROM. */
	const uint8_t *vars;
	size_t vars_len;
	int (*store_vars)(void *opaque, uint64_t off, const void *data, size_t len);
	void *vars_opaque;
	/* bootorder: Open Firmware device paths, each ended by a newline; NULL: none */
	const char *boot_order;
	bool menu;		/* offer the boot menu */
	unsigned menu_wait_ms;	/* how long */
	int fail_wait_ms;	/* with nothing to boot: start again after this; negative: never */
	const char *kernel_rom;	/* option ROM that starts the kernel; NULL: firmware does it itself */
};

/* RAM's contents, a VGA's memory included: see mem_create_ram_from, which takes the image over. */
struct platform_ram {
	struct mem_image **image;
	bool copy;
};

/* Read during platform_new and platform_boot; pointers must stay valid until
 * platform_free.  Chardevs stay the caller's. */
struct platform_config {
	enum platform_kind kind;
	uint64_t mem_size;		/* bytes, a multiple of 4 KiB, 1 MiB at least */
	struct platform_memory memory[PLATFORM_MAX_MEMORY];
	unsigned n_memory;
	int mem_huge;			/* MEM_HUGE_* */
	const struct platform_ram *ram;	/* what is in RAM at first; NULL: zeros */
	unsigned n_vcpus;		/* 1..MACHINE_MAX_VCPUS that there may be */
	/* CPUs may come and go; those of vcpus_absent, a bit for each, are not there at first.  What the guest ejects is told with the
	 * machine lock held, on any thread: it is not addressed any more, and platform_cpu_gone is due when it has stopped.  Saved state
	 * may have others there: cpus_loaded. */
	bool cpu_hotplug;
	uint64_t vcpus_absent;
	void (*cpu_ejected)(void *opaque, unsigned id);
	void (*cpus_loaded)(void *opaque);
	void *cpu_opaque;
	/* pc: cards of the root bus may come and go (platform_slots).  What the guest ejects is told with the machine lock held, on any
	 * thread; it has been reset, the guest does not find it any more, and it is not to be freed in the call.  Numbers below 32 that
	 * root ports' slots show, a bit for each, are no slot's of the root bus. */
	bool pci_hotplug;
	uint32_t root_port_numbers;
	void (*slot_ejected)(void *opaque, unsigned slot);
	void *slot_opaque;
	struct platform_numa numa;
	struct x86_topology topology;	/* of all; all zero: one socket of cores */
	unsigned phys_bits;		/* guest-physical address bits; 0: 40 */

	const char *kernel;		/* path; NULL: nothing is loaded, platform_boot leaves vCPUs at the reset vector.
					 * Firmware, if there is some, loads it. */
	const char *const *initrds;	/* Linux: concatenated; PVH and Multiboot: modules */
	unsigned n_initrds;
	const char *cmdline;		/* NULL: "" */

	struct chardev *serial[PLATFORM_MAX_SERIAL];	/* COM1..COM4; NULL: not there */
	bool serial_output_only;	/* their input belongs to somebody else */
	struct chardev *debugcon;	/* port 0xe9; NULL: not there */
	bool debug_exit;		/* isa-debug-exit at port 0xf4 (pc) */

	uint64_t vram_size;		/* pc: memory of the VGA, a power of two from 1 to 256 MiB; 0: no VGA */
	const struct virtio_gpu_config *gpu;	/* the VGA is one with virtio-gpu, with these displays; NULL: a plain one */
	struct display *display;	/* what the VGA shows; outlives the devices */
	struct input *input;		/* for keyboard and mouse; outlives the devices; may be NULL */

	struct tpm *tpm;		/* pc; outlives the devices; NULL: none */
	enum platform_tpm tpm_kind;
	bool vmgenid;			/* there is a VM generation ID: platform_set_vmgenid */

	const char *name;		/* VM name for SMBIOS; may be NULL */
	int64_t rtc_offset;		/* seconds of the real-time clock ahead of UTC */
	const struct smbios_user *smbios;	/* what the user wants there; NULL: nothing */
	uint8_t uuid[16];		/* SMBIOS system UUID in RFC 4122 order; all zero: none */
};

/*
 * Creates RAM, chips, buses and roots on m.  Errors (-ENOMEM, -EINVAL) name what
 * the host or the configuration cannot do.  *out is set on an error too (NULL
 * or not): devices built by then hold wires into it, so the end is the same as
 * after success, machine_free and then platform_free (which takes NULL).
 */
int platform_new(struct machine *m, struct cpu_engine *engine, const struct platform_config *cfg,
		 struct platform **out, struct err *e);
void platform_free(struct platform *p);

/*
 * Attaches a virtio device: PCI on pc, MMIO on micro.  The device is owned by
 * the machine afterwards (on an error too: it is freed).  -ENOSPC: no slot left.
 * Only before the first platform_boot, but for cards in slots of root ports and in those that platform_slots has.
 */
int platform_add_virtio(struct platform *p, struct virtio_dev *d, struct err *e);

/* The same on a PCI bus, which on micro is NULL, at devfn or PCI_ANY_DEVFN. */
int platform_add_virtio_on(struct platform *p, struct virtio_dev *d, struct pci_bus *bus, int devfn, struct err *e);

/* The PCI function of the device that platform_add_virtio added last; NULL on micro. */
struct pci_dev *platform_last_card(struct platform *p);
/* The display adapter's, or NULL. */
struct pci_dev *platform_vga(struct platform *p);

/* Where memory i lies for the guest (a multiple of 1 GiB), and in the RAM backing (of 2 MiB).  Nothing is shown there yet. */
void platform_memory_place(const struct platform_config *cfg, unsigned i, uint64_t *gpa, uint64_t *offset);
/* Bytes of the RAM backing: RAM, the VGA's memory, and what comes and goes. */
uint64_t platform_backing_size(const struct platform_config *cfg);

/* The PCI root bus, for devices that are not virtio; NULL on micro. */
struct pci_bus *platform_pci_bus(struct platform *p);

/*
 * Floppy drive n, 0 or 1, with the controllers it needs, by the rules of i82078_add (device/i82078.h); *path: what firmware's boot order
 * calls it.  pc only, before platform_add_firmware.
 */
int platform_add_floppy(struct platform *p, unsigned n, const char *id, struct blk_node *node, const struct disk_opts *o, struct disk **out,
			char *path, size_t path_len, struct err *e);

/*
 * Firmware, instead of what platform_boot does itself: it finds devices, tables and a kernel by fw_cfg
 * and starts at the reset vector.  pc only, once, when all devices are there.  Errors name the file.
 */
int platform_add_firmware(struct platform *p, const struct platform_firmware *fw, struct err *e);
/* A file of fw_cfg ("opt/..." for the guest's use).  The bytes are copied. */
int platform_add_fw_cfg_file(struct platform *p, const char *name, const void *data, uint32_t len, struct err *e);
/* The Open Firmware path of the device that platform_add_virtio added last, as firmware's boot order names
 * it: "/pci@i0cf8/scsi@3/disk@0,0".  Empty on micro. */
void platform_boot_path(struct platform *p, char *path, size_t len);
/* The path of a card of this kind ("scsi", "ethernet"), also behind a root port. */
void platform_card_path(const struct pci_dev *card, const char *kind, char *path, size_t len);
/* The same without what is behind the device itself: "/pci@i0cf8/scsi@3". */
void platform_device_path(struct platform *p, char *path, size_t len);

/*
 * (Re)starts the machine: resets all devices, loads kernel, initrds and firmware
 * tables from their files, sets every vCPU's state.  Errors name the file and
 * what is wrong with it.
 */
int platform_boot(struct platform *p, struct err *e);

/* The user pressed the power button: ACPI tells the guest's OS. */
void platform_power_button(struct platform *p);

/*
 * CPUs that come and go (platform_config.cpu_hotplug; -ENOTSUP without).  platform_cpus: a bit for each that is there, platform_cpus_asked:
 * for each that the guest was asked to give up and neither has nor refused.  EEXIST: it is there; EINVAL: it is not, or it is the first one,
 * which stays.
 */
uint64_t platform_cpus(const struct platform *p);
uint64_t platform_cpus_asked(const struct platform *p);
/* The vCPU, which does not run, is as after power-on and waits for INIT and SIPI; the guest is told of it. */
int platform_cpu_plug(struct platform *p, unsigned id, struct err *e);
/* Asks the guest to eject it. */
int platform_cpu_ask(struct platform *p, unsigned id);
/* As if the guest had ejected it: only before a reset. */
int platform_cpu_remove(struct platform *p, unsigned id);
/* An ejected one's thread has left the engine. */
void platform_cpu_gone(struct platform *p, unsigned id);
/* The guest has not run since platform_boot: its tables are made anew, with those that are there now. */
int platform_cpus_tell(struct platform *p, struct err *e);
/* What the guest's system said of it last. False: there is no such CPU. */
bool platform_cpu_ost(const struct platform *p, unsigned id, uint32_t *event, uint32_t *status);

/*
 * Slots of the root bus whose cards come and go (platform_config.pci_hotplug), a bit for each, with or without a card: those that are empty,
 * and those that the bus keeps (pci_bus_keep) for cards put there by number; 0 without.
 */
uint32_t platform_slots(const struct platform *p);
/* The first of them that is empty; -ENOSPC. */
int platform_slot_free(const struct platform *p);
/* What is in a slot of the root bus, whether or not the guest finds it; NULL: nothing, or there is no such bus. */
struct pci_dev *platform_slot_card(const struct platform *p, unsigned slot);
/* Of a slot that platform_slots has: a card was put in, and the guest is told; the guest is asked to eject it; it is taken away from the
 * guest, as if that had ejected it, but nobody is told; it was freed. */
void platform_slot_plugged(struct platform *p, unsigned slot);
void platform_slot_ask(struct platform *p, unsigned slot);
void platform_slot_withdraw(struct platform *p, unsigned slot);
void platform_slot_emptied(struct platform *p, unsigned slot);

/*
 * The VM generation ID as RFC 4122 orders its bytes; all zero at first.  One that changes while the guest runs is
 * told it: it then knows to be a copy.  False: there is none.
 */
bool platform_set_vmgenid(struct platform *p, const uint8_t uuid[16]);
bool platform_vmgenid(const struct platform *p, uint8_t uuid[16]);

/* What kind of image the last platform_boot found: "bzImage", "PVH ELF", "Multiboot"; for messages. */
const char *platform_boot_kind(const struct platform *p);

#endif
