/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that come and go while the guest runs.
 *
 * They are elements of the configuration's lists, made by the same code as those that
 * are there from the start: adding one puts keys into the VM's tree, has them checked
 * and builds that element; removing it takes the keys away again.  So a VM that is
 * saved later is built with what it then had.
 *
 * Cards lie in the slots of root ports, or on the root bus if its cards come and go (pci-hotplug), and the
 * guest has to give them up first; what
 * is on a SCSI adapter, a USB controller or the serial device goes at once.
 *
 * All functions: loop thread, machine lock held, unless they say otherwise.
 */
#ifndef LODGE_VM_HOTPLUG_H
#define LODGE_VM_HOTPLUG_H

#include "vm/conf.h"
#include "vm/internal.h"

struct pci_root_port;

/* May the machine become another one?  EBUSY: what is written of it elsewhere just now is to be what it is. */
int vm_change_possible(const struct vm *vm, struct err *e);
/* Where in the configuration.  False: there is no such device. */
bool vm_device_find(const struct vm *vm, const char *id, struct vm_device *out);
/* The id of a device, or NULL. */
const char *vm_device_id(const struct vm *vm, const struct vm_device *d);
/*
 * Adds a device whose fields are those of an element of the list, without the prefix ("file", "if"; what a USB device is has the name
 * "device").  EINVAL, EEXIST (the id), ENOSPC, ENOENT (the bus) and what the device's back end says, with a message.
 */
int vm_device_add(struct vm *vm, enum vm_device_list list, const struct conf *fields, struct vm_device *out, struct err *e);
/*
 * Takes it away, or asks the guest to let it go; VM_DEVICE_DELETED tells when it is gone, which may be in this call.
 * ENOENT; EINPROGRESS: that has been asked a moment ago; EBUSY: something on the host works with it; ENOTSUP
 */
int vm_device_del(struct vm *vm, const char *id, struct err *e);

/* The same for a CPU by its number, as one without an id needs it. */
int vm_cpu_del(struct vm *vm, unsigned i, struct err *e);

/* Saved state has a CPU there, or not, that the configuration knows otherwise: so it does not any more. */
void vm_device_note(struct vm *vm, const struct vm_device *d, bool there);

/* Takes away one that goes at once, whether or not it has an id. */
void vm_device_remove(struct vm *vm, const struct vm_device *d);

/*
 * A network without a card, with the fields of an element of "net"; it is opened at once.  EEXIST, EINVAL, ENOSPC and what
 * the host says.  And away with it: EBUSY: a card has it; ENOENT.
 */
int vm_netdev_add(struct vm *vm, const char *id, const struct conf *fields, struct err *e);
int vm_netdev_del(struct vm *vm, const char *id, struct err *e);
/* Adds its fields to those of a card that is to have it. ENOENT, EBUSY */
int vm_netdev_fields(struct vm *vm, const char *id, struct conf *to, struct err *e);
/* For cards that are made, and that go: the network itself (NULL: it is to be opened), and its description back. */
struct net_backend *vm_netdev_take(struct vm *vm, const char *id);
void vm_netdev_leave(struct vm *vm, unsigned i);
void vm_netdevs_free(struct vm *vm);

/* For the root ports: any thread. */
void vm_slot_ejected(void *vm, struct pci_root_port *p);
/* For the platform: any thread. */
void vm_root_slot_ejected(void *vm, unsigned slot);
/* The machine is about to be reset: what the guest was asked to give up is gone. */
void vm_hotplug_reset(struct vm *vm);
/* Is something on its way out that the guest has given up already? */
bool vm_hotplug_busy(const struct vm *vm);
/* The loop exists, and is about to go. */
void vm_hotplug_init(struct vm *vm);
void vm_hotplug_fini(struct vm *vm);

#endif
