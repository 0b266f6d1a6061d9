// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of what may be plugged in while the guest runs: root ports, vCPUs; and of what devices are told apart by. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "pci/root_port.h"
#include "vm/config_int.h"

/* Names of the ports that nobody named. */
static const char *const free_ports[] = { "hotplug1", "hotplug2", "hotplug3", "hotplug4", "hotplug5", "hotplug6", "hotplug7", "hotplug8" };
_Static_assert(ARRAY_LEN(free_ports) == VM_MAX_FREE_PORTS, "each has a name");

int config_id(const char *val, const char **out, struct err *e)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", more[] = "0123456789-._";
	size_t n = strlen(val);

	*out = val;
	if (n && n < VM_ID_MAX && strchr(letters, *val) && strspn(val, letters) + strspn(val + strspn(val, letters), more) <= n) {
		for (const char *p = val; *p; p++)
			if (!strchr(letters, *p) && !strchr(more, *p))
				return err_set(e, -EINVAL, "id '%.60s': letters, digits, '-', '.' and '_' make an identifier, and a letter begins it", val);
		return 0;
	}
	return err_set(e, -EINVAL, "id '%.60s': letters, digits, '-', '.' and '_' make an identifier, of at most %d, and a letter begins it", val,
		       VM_ID_MAX - 1);
}

int config_root_port(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_root_port *p;

	if (n >= VM_MAX_ROOT_PORTS)
		return err_set(e, -E2BIG, "a guest has at most %d root ports", VM_MAX_ROOT_PORTS);
	p = &v->root_port[n];
	v->n_root_ports = MAX(v->n_root_ports, n + 1);
	if (!strcmp(field, "id"))
		return config_id(val, &p->id, e);
	if (strcmp(field, "slot"))
		return -ENOENT;
	p->slot_given = true;
	return config_uint(val, 0, PCI_ROOT_PORT_SLOTS - 1, &p->slot, e);
}

int config_slot(const char *val, unsigned *slot, struct err *e) { return config_uint(val, 1, VM_LAST_SLOT, slot, e); }

int config_kept_slots(struct vm_config *v, const char *val, struct err *e)
{
	char one[8];
	unsigned n = 0;
	int ret = 0;

	v->kept_slots = 0;
	for (const char *p = val; !ret && *p; p += *p == ',') {
		size_t len = strcspn(p, ",");

		snprintf(one, sizeof(one), "%.*s", (int)MIN(len, sizeof(one) - 1), p);
		ret = config_slot(one, &n, e);
		v->kept_slots |= ret ? 0 : BIT(n);
		p += len;
	}
	return ret;
}

int config_vcpu(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	bool there;
	int ret;

	if (n >= MACHINE_MAX_VCPUS)
		return err_set(e, -E2BIG, "a guest has at most %d CPUs", MACHINE_MAX_VCPUS);
	if (!strcmp(field, "id"))
		return config_id(val, &v->cpu_id[n], e);
	if (strcmp(field, "present") != 0)
		return -ENOENT;
	ret = config_bool(val, &there, e);
	v->cpu_given[n] = there ? 1 : -1;
	return ret;
}

unsigned vm_config_n_cpus(const struct vm_config *v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < v->max_cpus; i++)
		n += vm_config_has_cpu(v, i);
	return n;
}

int config_check_cpus(struct vm_config *v, struct err *e)
{
	if (!v->max_cpus)
		v->max_cpus = v->cpus;
	if (v->max_cpus < v->cpus)
		return err_set(e, -EINVAL, "--max-cpus: %u, which is less than the %u of --cpus", v->max_cpus, v->cpus);
	if (v->cpu_given[0] < 0)
		return err_set(e, -EINVAL, "--vcpu: CPU 0 is the one that boots, and always there");
	for (unsigned i = 0; i < MACHINE_MAX_VCPUS; i++) {
		if ((v->cpu_given[i] || v->cpu_id[i]) && i >= v->max_cpus)
			return err_set(e, -EINVAL, "--vcpu: there is no CPU %u: --max-cpus is %u, and the first is 0", i, v->max_cpus);
		if (v->cpu_given[i] && v->max_cpus == v->cpus)
			return err_set(e, -EINVAL, "--vcpu: CPUs come and go where --max-cpus is more than --cpus");
		for (unsigned k = 0; k < i && v->cpu_id[i]; k++)
			if (v->cpu_id[k] && !strcmp(v->cpu_id[k], v->cpu_id[i]))
				return err_set(e, -EINVAL, "--vcpu: there are two with id=%s", v->cpu_id[i]);
	}
	return 0;
}

static bool slot_taken(const struct vm_config *v, unsigned slot)
{
	for (unsigned i = 0; i < v->n_root_ports; i++)
		if (v->root_port[i].slot_given && v->root_port[i].slot == slot)
			return true;
	return false;
}

/* Numbers for slots that were given none: from 1 on. */
static void number_slots(struct vm_config *v)
{
	unsigned next = 1;

	for (unsigned i = 0; i < v->n_root_ports; i++) {
		if (v->root_port[i].slot_given)
			continue;
		while (slot_taken(v, next))
			next++;
		v->root_port[i].slot = next;
		v->root_port[i].slot_given = true;
	}
}

int config_check_root_ports(struct vm_config *v, struct err *e)
{
	if (v->machine == VM_MACHINE_MICRO && (v->n_root_ports || (v->free_ports && v->free_ports_given)))
		return err_set(e, -EINVAL, "--root-port, --hotplug: these are of PCI Express, which --machine micro has not; use --machine pc");
	if (v->machine == VM_MACHINE_MICRO && (v->pci_hotplug || v->kept_slots))
		return err_set(e, -EINVAL, "--pci-hotplug, --kept-slots: these are of PCI, which --machine micro has not; use --machine pc");
	for (unsigned i = 0; i < v->n_root_ports; i++) {
		if (!v->root_port[i].id)
			return err_set(e, -EINVAL, "--root-port: root-port.%u.id is missing", i);
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(v->root_port[k].id, v->root_port[i].id))
				return err_set(e, -EINVAL, "--root-port: there are two with id=%s", v->root_port[i].id);
	}
	if (v->free_ports + v->n_root_ports > VM_MAX_ROOT_PORTS)
		return err_set(e, -E2BIG, "--hotplug: a guest has at most %d root ports, %u of which have names here", VM_MAX_ROOT_PORTS,
			       v->n_root_ports);
	for (unsigned i = 0; v->machine == VM_MACHINE_PC && i < v->free_ports; i++)
		v->root_port[v->n_root_ports++].id = free_ports[i];
	number_slots(v);
	return 0;
}

struct ids {
	const char *id[VM_MAX_DISKS + VM_MAX_NETS + VM_MAX_USB + VM_MAX_PORTS + VM_MAX_ROOT_PORTS + PLATFORM_MAX_MEMORY];
	unsigned n;
};

/* NULL is no device's. */
static int take_id(struct ids *ids, const char *option, const char *id, struct err *e)
{
	if (!id)
		return 0;
	for (unsigned i = 0; i < ids->n; i++)
		if (!strcmp(ids->id[i], id))
			return err_set(e, -EINVAL, "%s: id=%s is another device's already", option, id);
	ids->id[ids->n++] = id;
	return 0;
}

static int check_bus(const struct vm_config *v, const char *option, const char *bus, unsigned slot, struct err *e)
{
	/* The root bus, by QEMU's names. */
	if (!bus || !strcmp(bus, "pcie.0") || !strcmp(bus, "pci.0"))
		return 0;
	if (slot)
		return err_set(e, -EINVAL, "%s: slot= is for the root bus, and a root port has one place", option);
	for (unsigned i = 0; i < v->n_root_ports; i++)
		if (!strcmp(v->root_port[i].id, bus))
			return 0;
	return err_set(e, -EINVAL, "%s: bus=%.60s: there is no --root-port of that name", option, bus);
}

static int take_slot(uint32_t *taken, const char *option, unsigned slot, struct err *e)
{
	if (slot && *taken >> slot & 1)
		return err_set(e, -EINVAL, "%s: slot=%u is another card's already", option, slot);
	*taken |= slot ? BIT(slot) : 0;
	return 0;
}

int config_check_places(const struct vm_config *v, struct err *e)
{
	struct ids ids = { .n = 0 };
	uint32_t slots = 0;
	int ret = 0;

	for (unsigned i = 0; i < v->n_root_ports && !ret; i++)
		ret = take_id(&ids, "--root-port", v->root_port[i].id, e);
	for (unsigned i = 0; i < v->n_disks && !ret; i++) {
		ret = take_id(&ids, vm_disk_option(&v->disk[i]), v->disk[i].id, e);
		ret = ret ? ret : check_bus(v, vm_disk_option(&v->disk[i]), v->disk[i].bus, v->disk[i].slot, e);
		ret = ret ? ret : take_slot(&slots, vm_disk_option(&v->disk[i]), v->disk[i].slot, e);
	}
	for (unsigned i = 0; i < v->n_nets && !ret; i++) {
		ret = take_id(&ids, "--net", v->net[i].id, e);
		ret = ret ? ret : check_bus(v, "--net", v->net[i].bus, v->net[i].slot, e);
		ret = ret ? ret : take_slot(&slots, "--net", v->net[i].slot, e);
	}
	for (unsigned i = 0; i < v->n_memory_devices && !ret; i++)
		ret = take_id(&ids, "--memory-device", v->memory_device[i].id, e);
	for (unsigned i = 0; i < v->n_usb && !ret; i++)
		ret = take_id(&ids, "--usb", v->usb_id[i], e);
	for (unsigned i = 0; i < v->n_ports && !ret; i++)
		ret = take_id(&ids, "--port", v->port[i].id, e);
	return ret;
}
