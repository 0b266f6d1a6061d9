// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices that come and go: see hotplug.h.
 *
 * A card on the root bus has its slot's number in the configuration, and that is kept for
 * such cards from then on: cards that were there from the start, which take the next free
 * slot, are so in the same places when the guest is built again.
 *
 * A card that the guest has given up is not freed by the vCPU's thread that did so
 * but by a callback of the loop, and, while a job or an export works with its disk,
 * when that has ended; until then the slot looks empty and its place is taken.
 */
#include "vm/hotplug.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "pci/root_port.h"
#include "vm/config_int.h"
#include "vm/migrate_int.h"

#define ASKED_NS 5000000000ll		/* for so long a guest is not asked again */
#define RETRY_NS 100000000ll

static const char *const list_names[] = { [VM_DEVICE_DISK] = "disk", [VM_DEVICE_NET] = "net", [VM_DEVICE_USB] = "usb", [VM_DEVICE_PORT] = "port", [VM_DEVICE_CPU] = "vcpu" };
static const unsigned list_max[] = { [VM_DEVICE_DISK] = VM_MAX_DISKS, [VM_DEVICE_NET] = VM_MAX_NETS, [VM_DEVICE_USB] = VM_MAX_USB,
				     [VM_DEVICE_PORT] = VM_MAX_PORTS, [VM_DEVICE_CPU] = MACHINE_MAX_VCPUS };

/* ---- which there are ---- */

static unsigned count(const struct vm_config *c, enum vm_device_list list)
{
	switch (list) {
	case VM_DEVICE_DISK: return c->n_disks;
	case VM_DEVICE_NET: return c->n_nets;
	case VM_DEVICE_USB: return c->n_usb;
	case VM_DEVICE_PORT: return c->n_ports;
	case VM_DEVICE_CPU: return c->max_cpus;
	case VM_DEVICE_LISTS: break;
	}
	return 0;
}

static bool is_there(const struct vm_config *c, const struct vm_device *d)
{
	switch (d->list) {
	case VM_DEVICE_DISK: return c->disk[d->index].there;
	case VM_DEVICE_NET: return c->net[d->index].kind != VM_NET_NONE;
	case VM_DEVICE_USB: return c->usb[d->index] < VM_USB_NONE;
	case VM_DEVICE_PORT: return c->port[d->index].name != NULL;
	case VM_DEVICE_CPU: return vm_config_has_cpu(c, d->index);
	case VM_DEVICE_LISTS: break;
	}
	return false;
}

const char *vm_device_id(const struct vm *vm, const struct vm_device *d)
{
	switch (d->list) {
	case VM_DEVICE_DISK: return vm->cfg->disk[d->index].id;
	case VM_DEVICE_NET: return vm->cfg->net[d->index].id;
	case VM_DEVICE_USB: return vm->cfg->usb_id[d->index];
	case VM_DEVICE_PORT: return vm->cfg->port[d->index].id;
	case VM_DEVICE_CPU: return vm->cfg->cpu_id[d->index];
	case VM_DEVICE_LISTS: break;
	}
	return NULL;
}

/* The slot it lies in; NULL: none. */
static const char *bus_of(const struct vm *vm, const struct vm_device *d)
{
	return d->list == VM_DEVICE_DISK ? vm->cfg->disk[d->index].bus : d->list == VM_DEVICE_NET ? vm->cfg->net[d->index].bus : NULL;
}

/* The slot of the root bus that is its by number; 0: none. */
static unsigned root_slot_of(const struct vm *vm, const struct vm_device *d)
{
	return d->list == VM_DEVICE_DISK ? vm->cfg->disk[d->index].slot : d->list == VM_DEVICE_NET ? vm->cfg->net[d->index].slot : 0;
}

/* Calls fn until it says true, for each device that is there. */
static bool each(const struct vm *vm, bool (*fn)(const struct vm *vm, const struct vm_device *d, const void *arg), const void *arg,
		 struct vm_device *out)
{
	for (unsigned l = 0; l < VM_DEVICE_LISTS; l++)
		for (unsigned i = 0; i < count(vm->cfg, (enum vm_device_list)l); i++) {
			*out = (struct vm_device){ (enum vm_device_list)l, i };
			if (is_there(vm->cfg, out) && fn(vm, out, arg))
				return true;
		}
	return false;
}

static bool has_id(const struct vm *vm, const struct vm_device *d, const void *id)
{
	const char *own = vm_device_id(vm, d);

	return own && !strcmp(own, id);
}

static bool has_bus(const struct vm *vm, const struct vm_device *d, const void *bus)
{
	const char *own = bus_of(vm, d);

	return own && !strcmp(own, bus);
}

static bool has_slot(const struct vm *vm, const struct vm_device *d, const void *slot)
{
	return root_slot_of(vm, d) == *(const unsigned *)slot;
}

bool vm_device_find(const struct vm *vm, const char *id, struct vm_device *out) { return each(vm, has_id, id, out); }

/* ---- adding ---- */

static bool free_index(const struct vm *vm, enum vm_device_list list, unsigned *out)
{
	for (*out = 0; *out < list_max[list]; ++*out) {
		const struct vm_device d = { list, *out };

		if (*out >= count(vm->cfg, list))
			return true;
		/* A disk that was there from the start leaves its place to the controller that was made for it. */
		if (!is_there(vm->cfg, &d) && !(list == VM_DEVICE_DISK && vm->cfg->disk[*out].absent))
			return true;
	}
	return false;
}

static void key_of(const struct vm_device *d, const char *field, char *key, size_t len)
{
	snprintf(key, len, "%s.%u%s%s", list_names[d->list], d->index, *field ? "." : "", field);
}

/* Takes the element out of the tree; what the lists' lengths and controllers need of it stays. */
static void forget(struct vm *vm, const struct vm_device *d, bool keep_controller)
{
	const struct vm_disk *disk = d->list == VM_DEVICE_DISK ? &vm->cfg->disk[d->index] : NULL;
	char key[80], controller[VM_ID_MAX] = "";
	struct err e = { "" };

	if (disk && disk->controller)
		snprintf(controller, sizeof(controller), "%s", disk->controller);
	keep_controller &= disk && !disk->hotplugged && (disk->interface == VM_DISK_SCSI || disk->interface == VM_DISK_USB);
	key_of(d, "", key, sizeof(key));
	conf_unset(vm->tree, key);
	if (keep_controller) {
		conf_setf(vm->tree, disk->interface == VM_DISK_SCSI ? "scsi" : "usb", &e, "%s.if", key);
		conf_setf(vm->tree, "on", &e, "%s.absent", key);
		if (*controller)
			conf_setf(vm->tree, controller, &e, "%s.controller", key);
	} else if (d->list == VM_DEVICE_NET) {
		conf_setf(vm->tree, "none", &e, "%s.kind", key);
	} else if (d->list == VM_DEVICE_USB) {
		conf_set(vm->tree, key, "absent", &e);
	} else if (d->list == VM_DEVICE_CPU && d->index < vm->cfg->cpus) {
		conf_setf(vm->tree, "off", &e, "%s.present", key);
	}
	vm_config_forget(&vm->live, list_names[d->list], d->index, vm->tree);
}

void vm_device_note(struct vm *vm, const struct vm_device *d, bool there)
{
	struct err e = { "" };
	char key[80];

	key_of(d, "", key, sizeof(key));
	forget(vm, d, false);
	if (!there)
		return;
	conf_setf(vm->tree, "on", &e, "%s.present", key);
	vm_config_forget(&vm->live, list_names[d->list], d->index, vm->tree);
}

static int put_keys(struct vm *vm, const struct vm_device *d, const struct conf *fields, struct err *e)
{
	const char *field, *val;
	char key[160];
	int ret = 0;

	for (size_t i = 0; !ret && conf_nth(fields, i, &field, &val); i++) {
		key_of(d, d->list == VM_DEVICE_USB && !strcmp(field, "device") ? "" : field, key, sizeof(key));
		ret = conf_set(vm->tree, key, val, e);
	}
	key_of(d, "hotplugged", key, sizeof(key));
	return ret || d->list != VM_DEVICE_DISK ? ret : conf_set(vm->tree, key, "on", e);
}

static int check_id(struct vm *vm, const char *id, struct err *e)
{
	struct vm_device other;
	const char *valid;
	int ret;

	if (!id)
		return 0;
	ret = config_id(id, &valid, e);
	if (!ret && (vm_device_find(vm, id, &other) || vm_find_root_port(vm, id) >= 0 || vm_memory_find(vm, id) >= 0))
		ret = err_set(e, -EEXIST, "Duplicate device ID '%.60s'", id);
	return ret;
}

/* From here on cards that were there from the start do without this slot, when the guest is built again, too. */
static int keep_slot(struct vm *vm, unsigned slot, struct err *e)
{
	char list[4 * VM_LAST_SLOT] = "";

	vm->live.kept_slots |= BIT(slot);
	pci_bus_keep(vm_pci_root(vm), BIT(slot));
	for (unsigned i = 1; i <= VM_LAST_SLOT; i++)
		if (vm->cfg->kept_slots >> i & 1)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%u", *list ? "," : "", i);
	return conf_set(vm->tree, "kept-slots", list, e);
}

/* On the root bus: the slot that is asked for, or the first that is free. */
static int choose_root_slot(struct vm *vm, const struct vm_device *d, const struct conf *fields, struct err *e)
{
	const char *asked = conf_get(fields, "slot");
	unsigned slot = 0;
	char key[80], text[16];
	int ret;

	if (asked && config_slot(asked, &slot, e))
		return -EINVAL;
	if (slot && (vm_card_in(vm, NULL, slot) || !(platform_slots(vm->platform) >> slot & 1)))
		return err_set(e, -EBUSY, "PCI: slot %u function 0 is not available: there is a card in it", slot);
	ret = slot ? (int)slot : platform_slot_free(vm->platform);
	if (ret < 0)
		return err_set(e, ret, "Bus 'pci.0' has no free slot");
	key_of(d, "slot", key, sizeof(key));
	snprintf(text, sizeof(text), "%d", ret);
	return conf_set(vm->tree, key, text, e) ? -ENOMEM : keep_slot(vm, (unsigned)ret, e);
}

/* A card that nobody gave a place: the first root port that is free, and nothing is on its way out of, else the root bus. */
static int choose_slot(struct vm *vm, const struct vm_device *d, const struct conf *fields, struct err *e)
{
	bool card = d->list == VM_DEVICE_NET || (d->list == VM_DEVICE_DISK && (!conf_get(fields, "if") || !strcmp(conf_get(fields, "if"), "virtio")));
	const char *bus = conf_get(fields, "bus");
	char key[80];

	if (!card || (bus && !vm_is_root_bus(bus)))
		return 0;
	key_of(d, "bus", key, sizeof(key));
	for (unsigned i = 0; !bus && !conf_get(fields, "slot") && i < vm->cfg->n_root_ports; i++)
		if (!pci_root_port_occupied(vm->root_port[i]))
			return conf_set(vm->tree, key, vm->cfg->root_port[i].id, e);
	if (vm->cfg->pci_hotplug)
		return choose_root_slot(vm, d, fields, e);
	return bus ? err_set(e, -ENOTSUP, "Bus '%.60s' does not support hotplugging", bus) :
		err_set(e, -ENOSPC, "Bus 'pcie.0' does not support hotplugging, and no root port is free: give bus=ID of one, and start the guest with "
			"more (--root-port ID, --hotplug N)");
}

static int build(struct vm *vm, const struct vm_device *d, struct err *e)
{
	switch (d->list) {
	case VM_DEVICE_DISK: return vm_add_disk(vm, d->index, e);
	case VM_DEVICE_NET: return vm_add_net(vm, d->index, e);
	case VM_DEVICE_USB: return vm_add_usb_device(vm, d->index, e);
	case VM_DEVICE_PORT: return vm_add_port(vm, d->index, e);
	case VM_DEVICE_CPU: return vm_add_cpu(vm, d->index, e);
	case VM_DEVICE_LISTS: break;
	}
	return -EINVAL;
}

/* What a device that is there from the start has behind it by now. */
static void start(struct vm *vm, const struct vm_device *d)
{
	unsigned slot = root_slot_of(vm, d);
	const char *bus = bus_of(vm, d);
	struct pci_dev *card = vm_card_in(vm, bus, slot);

	if (!card)
		return;
	card->dev.ops->reset(&card->dev);
	if (vm->paused && card->dev.ops->pause)
		card->dev.ops->pause(&card->dev);
	if (slot)
		platform_slot_plugged(vm->platform, slot);
	else
		pci_root_port_plugged(vm->root_port[vm_find_root_port(vm, bus)]);
}

static int add(struct vm *vm, const struct vm_device *d, const struct conf *fields, struct err *e)
{
	int ret = put_keys(vm, d, fields, e);

	ret = ret ? ret : choose_slot(vm, d, fields, e);
	ret = ret ? ret : vm_config_more(&vm->live, vm->tree, list_names[d->list], d->index, e);
	/* A bus that is no slot. */
	if (!ret && bus_of(vm, d) && !vm_is_root_bus(bus_of(vm, d)) && vm_find_root_port(vm, bus_of(vm, d)) < 0)
		ret = err_set(e, -ENOENT, "Bus '%.60s' not found", bus_of(vm, d));
	ret = ret ? ret : build(vm, d, e);
	if (ret)
		forget(vm, d, false);
	else
		start(vm, d);
	return ret;
}

int vm_change_possible(const struct vm *vm, struct err *e)
{
	if (vm->save)
		return err_set(e, -EBUSY, "the guest is being saved");
	return vm_migrate_busy(vm) ? err_set(e, -EBUSY, "the guest is migrating, or has migrated") : 0;
}

int vm_device_add(struct vm *vm, enum vm_device_list list, const struct conf *fields, struct vm_device *out, struct err *e)
{
	int ret = vm_change_possible(vm, e) ? -EBUSY : check_id(vm, conf_get(fields, "id"), e);

	out->list = list;
	if (ret)
		return ret;
	if (list == VM_DEVICE_CPU)
		ret = vm_cpu_may_come(vm, out->index, e);
	else if (!free_index(vm, list, &out->index))
		return err_set(e, -ENOSPC, "a guest has at most %u devices of this kind", list_max[list]);
	ret = ret ? ret : add(vm, out, fields, e);
	if (!ret && vm->watch.device)
		vm->watch.device(vm->watch.opaque, VM_DEVICE_ADDED, out, vm_device_id(vm, out));
	return ret;
}

/* ---- removing ---- */

static void take_down(struct vm *vm, const struct vm_device *d)
{
	switch (d->list) {
	case VM_DEVICE_DISK: vm_remove_disk(vm, d->index); break;
	case VM_DEVICE_NET: vm_remove_net(vm, d->index); break;
	case VM_DEVICE_USB: vm_remove_usb_device(vm, d->index); break;
	case VM_DEVICE_PORT: vm_remove_port(vm, d->index); break;
	case VM_DEVICE_CPU: vm_remove_cpu(vm, d->index); break;
	case VM_DEVICE_LISTS: break;
	}
}

/* The guest does not have it any more, and nobody else does. */
static void finish(struct vm *vm, const struct vm_device *d)
{
	const char *id = vm_device_id(vm, d);
	unsigned slot = root_slot_of(vm, d);
	char kept[VM_ID_MAX] = "";
	struct err e;

	if (slot && keep_slot(vm, slot, &e))
		log_warn("slot %u of the root bus, whose card has gone, is not remembered as free: %s", slot, e.msg);
	if (id)
		snprintf(kept, sizeof(kept), "%s", id);
	if (vm->watch.device)
		vm->watch.device(vm->watch.opaque, VM_DEVICE_LEAVES, d, id);
	take_down(vm, d);
	forget(vm, d, true);
	if (vm->watch.device)
		vm->watch.device(vm->watch.opaque, VM_DEVICE_DELETED, d, *kept ? kept : NULL);
}

void vm_device_remove(struct vm *vm, const struct vm_device *d) { finish(vm, d); }

static bool in_use(const struct vm *vm, const struct vm_device *d)
{
	return d->list == VM_DEVICE_DISK && vm->watch.busy && vm->watch.busy(vm->watch.opaque, d->index);
}

static void finish_slot(struct vm *vm, unsigned i)
{
	struct vm_device d;

	if (each(vm, has_bus, vm->cfg->root_port[i].id, &d)) {
		if (in_use(vm, &d)) {
			loop_timer_arm(&vm->plug_timer, loop_now_ns() + RETRY_NS);
			return;
		}
		finish(vm, &d);
	}
	vm->slot[i] = (struct vm_slot){ 0 };
	pci_root_port_emptied(vm->root_port[i]);
}

static void finish_root_slot(struct vm *vm, unsigned slot)
{
	struct vm_device d;

	if (each(vm, has_slot, &slot, &d)) {
		if (in_use(vm, &d)) {
			loop_timer_arm(&vm->plug_timer, loop_now_ns() + RETRY_NS);
			return;
		}
		finish(vm, &d);
	}
	vm->root_slot[slot] = (struct vm_slot){ 0 };
	platform_slot_emptied(vm->platform, slot);
}

static void work(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned i = 1; i <= VM_LAST_SLOT; i++)
		if (vm->root_slot[i].ejected)
			finish_root_slot(vm, i);

	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (vm->slot[i].ejected)
			finish_slot(vm, i);
	vm_cpus_work(vm);
}

void vm_slot_ejected(void *opaque, struct pci_root_port *p)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (vm->root_port[i] == p)
			vm->slot[i].ejected = true;
	loop_bh_post(&vm->plug_bh);
}

void vm_root_slot_ejected(void *opaque, unsigned slot)
{
	struct vm *vm = opaque;

	vm->root_slot[slot].ejected = true;
	loop_bh_post(&vm->plug_bh);
}

/* Not asked once more right after it was. */
static int check_asked(const struct vm_slot *s, int64_t now, const char *id, struct err *e)
{
	if (s->ejected || (s->asked_ns && now < s->asked_ns + ASKED_NS))
		return err_set(e, -EINPROGRESS, "Device %.60s is already in the process of unplug", id);
	return 0;
}

static int ask_root_slot(struct vm *vm, const char *id, unsigned slot, struct err *e)
{
	int64_t now = loop_now_ns();

	if (check_asked(&vm->root_slot[slot], now, id, e))
		return -EINPROGRESS;
	platform_slot_ask(vm->platform, slot);
	vm->root_slot[slot].asked_ns = now;
	return 0;
}

static int ask_slot(struct vm *vm, const char *id, const char *bus, struct err *e)
{
	int i = bus ? vm_find_root_port(vm, bus) : -ENOENT, ret;
	int64_t now = loop_now_ns();

	if (i < 0 && vm->cfg->pci_hotplug)
		return err_set(e, -ENOTSUP, "Device '%.60s' was there from the start without a slot of its own (slot=N), and stays", id);
	if (i < 0)
		return err_set(e, -ENOTSUP, "Bus '%.60s' does not support hotplugging", bus ? bus : "pcie.0");
	if (check_asked(&vm->slot[i], now, id, e))
		return -EINPROGRESS;
	ret = pci_root_port_ask(vm->root_port[i]);
	if (ret < 0)
		return err_set(e, ret, "Hot-unplug failed: guest is busy (power indicator blinking)");
	vm->slot[i].asked_ns = now;
	if (ret) {
		pci_root_port_withdraw(vm->root_port[i]);
		vm->slot[i].ejected = true;
		finish_slot(vm, (unsigned)i);
	}
	return 0;
}

int vm_cpu_del(struct vm *vm, unsigned i, struct err *e)
{
	if (!vm_config_has_cpu(vm->cfg, i))
		return err_set(e, -ENOENT, "CPU %u is not there", i);
	return vm_change_possible(vm, e) ? -EBUSY : vm_ask_cpu(vm, i, e);
}

int vm_device_del(struct vm *vm, const char *id, struct err *e)
{
	struct vm_device d;

	if (!vm_device_find(vm, id, &d))
		return err_set(e, -ENOENT, "Device '%.60s' not found", id);
	if (d.list == VM_DEVICE_CPU)
		return vm_cpu_del(vm, d.index, e);
	if (vm_change_possible(vm, e))
		return -EBUSY;
	if (in_use(vm, &d))
		return err_set(e, -EBUSY, "Device '%.60s' is in use: a job or an export works with it, which has to end first", id);
	if (d.list == VM_DEVICE_NET || (d.list == VM_DEVICE_DISK && vm->cfg->disk[d.index].interface == VM_DISK_VIRTIO))
		return vm->cfg->pci_hotplug && root_slot_of(vm, &d) ? ask_root_slot(vm, id, root_slot_of(vm, &d), e) : ask_slot(vm, id, bus_of(vm, &d), e);
	if (d.list == VM_DEVICE_DISK && vm->cfg->disk[d.index].interface != VM_DISK_SCSI && vm->cfg->disk[d.index].interface != VM_DISK_USB)
		return err_set(e, -ENOTSUP, "Device '%.60s' does not support hotplugging", id);
	finish(vm, &d);
	return 0;
}

/* ---- life ---- */

void vm_hotplug_reset(struct vm *vm)
{
	vm_cpus_reset(vm);
	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++) {
		if (!vm->slot[i].asked_ns && !vm->slot[i].ejected)
			continue;
		pci_root_port_withdraw(vm->root_port[i]);
		vm->slot[i].ejected = true;
		finish_slot(vm, i);
	}
	for (unsigned i = 1; i <= VM_LAST_SLOT; i++) {
		if (!vm->root_slot[i].asked_ns && !vm->root_slot[i].ejected)
			continue;
		platform_slot_withdraw(vm->platform, i);
		vm->root_slot[i].ejected = true;
		finish_root_slot(vm, i);
	}
}

bool vm_hotplug_busy(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (vm->slot[i].ejected)
			return true;
	for (unsigned i = 1; i <= VM_LAST_SLOT; i++)
		if (vm->root_slot[i].ejected)
			return true;
	return vm_cpus_leave(vm);
}

void vm_hotplug_init(struct vm *vm)
{
	loop_bh_init(vm->m->loop, &vm->plug_bh, work, vm);
	loop_timer_init(vm->m->loop, &vm->plug_timer, work, vm);
}

void vm_hotplug_fini(struct vm *vm)
{
	if (!vm->plug_bh.loop)
		return;
	loop_bh_cancel(&vm->plug_bh);
	loop_timer_cancel(&vm->plug_timer);
}
